"""
YAML with places: bytes -> nodes that know where they stand, and nodes -> values, with every fault on the way.

The laws of this file:

1. Everything is a string until it is read as what the key wants: no `no` that becomes False, no `0800` that becomes
   a number. PyYAML is used up to its events and no further: its own constructor makes False of `no` and keeps the
   last of two equal keys without a word (https://pyyaml.org/wiki/PyYAMLDocumentation,
   https://yaml.org/type/bool.html).
2. Every fault carries file, line, column, the path of keys, what is wrong and how to mend it. All faults are
   collected, and reading goes on after each.
3. The file is data from outside: no tags, no anchors, one document, bounded size, depth and number of nodes. Nothing
   here raises, whatever the bytes are.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import yaml

from ivrguard.core.check import did_you_mean
from ivrguard.core.flow import Place
from ivrguard.flowfile.forms import (
    DEPTH_MAX,
    ENTRIES_MAX,
    NAME,
    NODES_MAX,
    PATTERN_CHARS_MAX,
    PATTERN_WILDCARDS_MAX,
    SIZE_BYTES_MAX,
    Duration,
    Glob,
    Number,
    Word,
    seconds,
    spoken,
)

TEXT_SHOWN_CHARS_MAX = 60


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something to mend, or to think about, and where: prints as `file:line:column: path: message`."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """One line, as compilers print it: editors jump to the place."""
        return f"{self.file}:{self.line}:{self.column}: {self.path + ': ' if self.path else ''}{self.message}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that only one flow of a folder may have: its own, or a number dialled. `what` it is, and where."""

    what: str
    file: str
    line: int
    column: int
    path: str


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────


class Spot(NamedTuple):
    """Where something stands: line and column from 1, and the keys and positions that lead there."""

    line: int
    column: int
    place: Place


@dataclass(frozen=True, slots=True)
class Text:
    """Words, or nothing (`""`)."""

    spot: Spot
    value: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    spot: Spot
    of: "list[Node]"


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping. `keys`: where each key stands; `of`: what stands under it."""

    spot: Spot
    keys: dict[str, Spot]
    of: "dict[str, Node]"


@dataclass(frozen=True, slots=True)
class Broken:
    """A node that has been reported already: nobody says more about it."""

    spot: Spot


Node = Text | Items | Fields | Broken

T = TypeVar("T")
Shape = TypeVar("Shape", Text, Items, Fields)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; `key` waits for its value."""

    node: Items | Fields
    key: Text | Broken | None = None


class _StopReading(Exception):
    """Nothing after this place can be read."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FORBIDDEN = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""Everything that no YAML file may hold, and line breaks that editors do not count as such."""

_TABBED = re.compile(r"^ *\t", re.MULTILINE)


class Reader:
    """
    Reads one file's nodes as what they ought to be, and collects what is wrong on the way.

    Each reading method takes a node, or None for a key that is not there, and returns its `default` then and
    when it had to report a fault: a fault spoils the flow anyway, and reading goes on to find the others.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.doubts: list[Fault] = []
        self.claims: list[Claim] = []
        self.tainted: set[Place] = set()
        self._spots: dict[Place, Spot] = {}
        self._nodes = 0
        self._lines: list[str] = []

    # ── faults and places ──

    def fault(self, spot: Spot, message: str) -> None:
        """Something that must be mended."""
        self.tainted.add(spot.place)
        self.faults.append(self._at(spot, message))

    def doubt(self, spot: Spot, message: str) -> None:
        """Something to be weighed by a person."""
        self.doubts.append(self._at(spot, message))

    def claim(self, spot: Spot, what: str) -> None:
        """A name that no other flow may have."""
        self.claims.append(Claim(what, self.file, spot.line, spot.column, _path(spot.place)))

    def told(self, place: Place, message: str) -> Fault:
        """What somebody else found at `place`, with its line and column. Nothing is collected."""
        return self._at(self.spot(place), message)

    def spot(self, place: Place) -> Spot:
        """Where `place` stands, or would stand: under the nearest key that there is."""
        known = place
        while known not in self._spots:
            known = known[:-1]
        return self._spots[known]._replace(place=place)

    def _at(self, spot: Spot, message: str) -> Fault:
        shown = "".join(sign if sign.isprintable() else "?" for sign in message)
        return Fault(self.file, spot.line, spot.column, _path(spot.place), shown)

    def _spot_of(self, mark: Any, place: Place = ()) -> Spot:
        """
        A mark of PyYAML's, counted from 1. Where it means the line behind the last one: the end of the file.

        `mark` is never None here: only events made by hand have none.
        """
        line, column = mark.line, mark.column
        if line >= len(self._lines):
            line, column = len(self._lines) - 1, len(self._lines[-1])
        return Spot(line + 1, column + 1, place)

    # ── bytes to nodes ──

    def tree(self, data: bytes) -> Fields | None:
        """The file's one document, a mapping; None: it cannot be read at all, and the faults say why."""
        text = self._text(data)
        if text is None:
            return None
        self._lines = text.split("\n")
        try:
            return self._as(self._document(text), Fields, "a mapping, with a key at the start of each line")
        except _StopReading:
            return None
        except yaml.MarkedYAMLError as error:
            problem = f"this is not YAML: {error.problem}; look at quotes, brackets, colons and indentation"
            self.fault(self._spot_of(error.problem_mark), problem)
            return None

    def _text(self, data: bytes) -> str | None:
        """The file as text, with line breaks as editors count them."""
        start = Spot(1, 1, ())
        if len(data) > SIZE_BYTES_MAX:
            self.fault(start, f"the file is larger than {SIZE_BYTES_MAX // 1024} kB; is it a flow?")
            return None
        data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            spot = _place_of(data[: error.start].decode(), error.start)
            self.fault(spot, "this is not UTF-8; save the file as UTF-8")
            return None
        if match := _FORBIDDEN.search(text):
            spot = _place_of(text, match.start())
            self.fault(spot, f"the character U+{ord(match[0]):04X} may not stand in a flow; take it out")
        if match := _TABBED.search(text):
            spot = _place_of(text, match.end() - 1)
            self.fault(spot, "a tab in the indentation; use blanks, here and everywhere")
        return None if self.faults else text

    def _document(self, text: str) -> Node | None:
        """Build the tree from PyYAML's events: no recursion, nothing resolved, every node with its place."""
        stack: list[_Open] = []
        root: Node | None = None
        for event in yaml.parse(text, Loader=_LOADER):
            spot = self._spot_of(event.start_mark, _next_place(stack))
            match event:
                case yaml.DocumentStartEvent() if root is not None:
                    self.fault(spot, "a second document begins here; one file, one document")
                    raise _StopReading
                case yaml.NodeEvent():
                    node = self._node(event, spot, len(stack))
                    if stack:
                        self._put(stack[-1], node)
                    else:
                        root = node
                    self._spots.setdefault(node.spot.place, node.spot)
                    if isinstance(node, Items | Fields):  # an anchored or tagged one too: its end will come
                        stack.append(_Open(node))
                case yaml.CollectionEndEvent():
                    stack.pop()
                case _:
                    pass
        if root is None:
            self.fault(Spot(1, 1, ()), "the file is empty")
        return root

    def _node(self, event: yaml.NodeEvent, spot: Spot, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            limit = f"{NODES_MAX} nodes" if self._nodes > NODES_MAX else f"{DEPTH_MAX} levels deep"
            self.fault(spot, f"the file has more than {limit}; is it a flow?")
            raise _StopReading
        if event.anchor is not None:
            self.fault(spot, "anchors (&) and aliases (*) are not read; write it out, or put it in quotes")
        if getattr(event, "tag", None) is not None:
            self.fault(spot, "tags (!) are not read; take it out, or put it in quotes")
        match event:
            case yaml.AliasEvent():
                return Broken(spot)
            case yaml.ScalarEvent(value=str(value)):
                if not value.isprintable() and not value.replace("\n", "").isprintable():
                    self.fault(spot, "there is an invisible character in this text; write it anew")
                    return Broken(spot)
                return Text(spot, value)
            case yaml.SequenceStartEvent():
                return Items(spot, [])
            case _:
                return Fields(spot, {}, {})

    def _put(self, parent: _Open, node: Node) -> None:
        """Put a node in its place: an item, a key, or what stands under the key that came before it."""
        if isinstance(parent.node, Items):
            parent.node.of.append(node)
        elif parent.key is None:
            if not isinstance(node, Text | Broken):
                self.fault(node.spot, "a key must be a word; put what has brackets in quotes")
                raise _StopReading
            parent.key = node
        else:
            key, parent.key = parent.key, None
            if isinstance(key, Broken):
                return
            key_spot = Spot(key.spot.line, key.spot.column, node.spot.place)
            if key.value in parent.node.of:
                before = parent.node.keys[key.value]
                self.fault(
                    key_spot, f"this key stands twice, first at {before.line}:{before.column}; take one out"
                )
                return
            parent.node.keys[key.value] = key_spot
            parent.node.of[key.value] = node

    # ── nodes to values ──

    def _as(self, node: Node | None, shape: type[Shape], wanted: str) -> Shape | None:
        """The node if it has this shape; a fault if it has another."""
        if isinstance(node, shape):
            return node
        match node:
            case Text(spot, value):
                self.fault(spot, f"here is {quoted(value) if value else 'nothing'}; what is wanted: {wanted}")
            case Items(spot) | Fields(spot):
                kind = "a list" if isinstance(node, Items) else "a mapping"
                self.fault(spot, f"here is {kind}; what is wanted: {wanted}")
            case _:
                pass
        return None

    def fields(
        self, node: Node | None, known: Collection[str], *, needed: Mapping[str, str] | None = None
    ) -> dict[str, Node]:
        """A mapping with no other keys than `known`, and all that are `needed` (key -> an example)."""
        found = self._as(node, Fields, f"a mapping with the keys {', '.join(known)}")
        if found is None:
            return {}
        for key in found.of:
            if key not in known:
                self.fault(found.keys[key], f"unknown key {quoted(key)}{did_you_mean(key, tuple(known))}")
        for key, example in (needed or {}).items():
            if key not in found.of:
                self.fault(self.spot((*found.spot.place, key)), f"this key is missing; add `{example}`")
        return found.of

    def named(self, node: Node | None, what: str) -> dict[str, Node]:
        """A mapping whose keys are names of the admin's choice."""
        found = self._as(node, Fields, f"a mapping of names to {what}")
        if found is None:
            return {}
        for key, spot in found.keys.items():
            if NAME.match(key) is None:
                self.fault(spot, f"{quoted(key)} is no name; {NAME.wanted}")
        self._bounded(found.spot, len(found.of), ENTRIES_MAX)
        return dict(islice(found.of.items(), ENTRIES_MAX))

    def items(self, node: Node | None, wanted: str, most: int = ENTRIES_MAX) -> list[Node]:
        """A list with at least one entry, and no more than `most`."""
        found = self._as(node, Items, f"a list of {wanted}")
        if found is None:
            return []
        if not found.of:
            self.fault(found.spot, f"the list is empty; what is wanted: {wanted}")
        self._bounded(found.spot, len(found.of), most)
        return found.of[:most]

    def _bounded(self, spot: Spot, count: int, most: int) -> None:
        if count > most:
            self.fault(spot, f"{count} entries; at most {most} are read")

    def text(self, node: Node | None, wanted: str, accept: Callable[[str], T | None], default: T) -> T:
        """A text that `accept` makes something of; where it returns None, the fault says what is `wanted`."""
        text = self._as(node, Text, wanted)
        if text is None:
            return default
        found = accept(text.value)
        if found is None:
            shown = quoted(text.value) if text.value else "nothing"
            self.fault(text.spot, f"here is {shown}; what is wanted: {wanted}")
            return default
        return found

    def choice(self, node: Node | None, options: Mapping[str, T], default: T) -> T:
        """One of a few words."""
        if isinstance(node, Text) and node.value and node.value not in options:
            mend = did_you_mean(node.value, options)
            self.fault(node.spot, f"{quoted(node.value)} is not known here{mend}")
            return default
        wanted = " or ".join(options)
        return self.text(node, wanted, options.get, default)

    def word(self, node: Node | None, form: Word, default: T) -> str | T:
        """A text of that form."""
        found = self.text(node, form.wanted, form.accept, None)
        return default if found is None else found

    def number(self, node: Node | None, form: Number) -> int:
        """A whole number in digits."""

        def accept(text: str) -> int | None:
            is_number = re.fullmatch("[0-9]{1,9}", text) is not None
            return int(text) if is_number and form.low <= int(text) <= form.high else None

        return self.text(node, f"a number from {form.low} to {form.high}", accept, form.default)

    def duration(self, node: Node | None, form: Duration) -> int:
        """A duration such as `90s`, `10m`, `24h`, `7d`; in seconds."""

        def accept(text: str) -> int | None:
            found = seconds(text)
            return found if found is not None and form.low_s <= found <= form.high_s else None

        wanted = f"a duration from {spoken(form.low_s)} to {spoken(form.high_s)}, such as 90s, 10m, 24h"
        return self.text(node, wanted, accept, form.default_s)

    def pattern(self, node: Node | None, form: Glob) -> str | None:
        """A glob of that form, which is of bounded cost."""
        limits = f"; at most {PATTERN_CHARS_MAX} characters and {PATTERN_WILDCARDS_MAX} wildcards"
        return self.text(node, form.wanted + limits, form.accept, None)


def _next_place(stack: list[_Open]) -> Place:
    """The path of the node that comes next; a key has its mapping's."""
    place: Place = ()
    if not stack:
        return place
    top = stack[-1]
    place = top.node.spot.place
    if isinstance(top.node, Items):
        return (*place, len(top.node.of))
    match top.key:
        case Text(value=key):
            return (*place, key)
        case Broken():
            return (*place, "")
        case _:
            return place


def _place_of(text: str, offset: int) -> Spot:
    """Line and column of an offset into `text`."""
    before = text[:offset]
    return Spot(before.count("\n") + 1, len(before) - before.rfind("\n"), ())


def _path(place: Place) -> str:
    """`rules[1].require`, as the admin would say it."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in place)
    shown = "".join(parts).removeprefix(".")
    return "".join(sign if sign.isprintable() else "?" for sign in shown)


def shortened(text: str) -> str:
    """Somebody's text, short enough for a line."""
    return text if len(text) <= TEXT_SHOWN_CHARS_MAX else text[:TEXT_SHOWN_CHARS_MAX] + "…"


def quoted(text: str) -> str:
    """Somebody's text as faults show it."""
    return f"'{shortened(text)}'"


def unreadable(error: OSError) -> str:
    """Why a file could not be read."""
    return f"cannot be read: {error.strerror or type(error).__name__}"
