"""
Flow files: YAML with places -> core.flow.

1. Everything is a string until this file reads it as what the key wants: no `no` that becomes False, no
   `0800` that becomes a number.
2. Every fault carries file, line, column, the path of keys, what is wrong and how to mend it; all faults are
   told at once, and none that only follows from another one. A flow with a fault does not exist (`flow` is
   None): what runs stays.
3. A key that has no effect is a fault: an admin who wrote it believes in it.
4. The file is data from outside: no tags, no anchors, one document, bounded size, depth and number of nodes.
   `read` raises nothing, whatever the bytes are.

The format is described for admins in flows/README.md. PyYAML is used up to its events and no further: its
own constructor makes False of `no` and keeps the last of two equal keys without a word
(https://pyyaml.org/wiki/PyYAMLDocumentation, https://yaml.org/type/bool.html).
"""

import hashlib
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import yaml

from ivrguard.core.assurance import AllOf, AnyOf, Expression, Kind
from ivrguard.core.caller import AddressKind, address_of
from ivrguard.core.flow import (
    PLACEHOLDERS,
    PLACEHOLDERS_NEEDED,
    PROMPTS,
    Factor,
    Flow,
    Identify,
    Locks,
    Place,
    Sends,
    Upstream,
    check,
    did_you_mean,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import DAYS, TARGET_KINDS, Demand, Hours, How, Rule, Target

SIZE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 12
NODES_MAX = 20_000
ENTRIES_MAX = 200
"""Rules in a flow, numbers, levels, factors: each list at most so long."""

TEXT_SHOWN_CHARS_MAX = 60
PROMPT_CHARS_MAX = 600
PATTERN_CHARS_MAX = 200
PATTERN_WILDCARDS_MAX = 4
"""Each one multiplies what a match may cost."""

IDENTIFY_DIGITS_MAX = 32
PIN_DIGITS_MAX = 16
CODE_DIGITS_MAX = 10
TOTP_DIGITS = 6
"""RFC 6238 allows more; the apps that people have show six."""

TRIES_MAX = 10
FAILURES_MAX = 1_000
SENDS_MAX = 100
DAY_S = 86_400
YEAR_S = 365 * DAY_S
VERSION_CHARS = 16


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """One flow file: the flow, or None and why not. `doubts` are for a person to weigh and block nothing."""

    flow: Flow | None
    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()
    claims: tuple[Claim, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class LoadedAll:
    """A folder of flow files: the flows without fault, and every fault and doubt of all of them."""

    flows: tuple[Flow, ...]
    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()


def load_all(folder: Path) -> LoadedAll:
    """
    Every `*.yaml` in `folder` itself, each with `prompts/<language>.yaml` beside it.

    Faults of the folder as a whole: no flow in it, a file that would be overlooked (`.yml`), a name or a
    number that two flows claim.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        return LoadedAll((), (Fault(str(folder), 1, 1, "", _unreadable(error)),))
    faults = [
        Fault(str(path), 1, 1, "", "would be overlooked: flow files end in .yaml; rename it")
        for path in entries
        if path.suffix == ".yml"
    ]
    loaded = [load(path) for path in entries if path.suffix == ".yaml"]
    if not loaded:
        faults.append(Fault(str(folder), 1, 1, "", "there is no flow (*.yaml) in this folder; add one"))
    faults.extend(fault for one in loaded for fault in one.faults)
    faults.extend(_claimed_twice(claim for one in loaded for claim in one.claims))
    doubts = dict.fromkeys(doubt for one in loaded for doubt in one.doubts)
    flows = tuple(one.flow for one in loaded if one.flow is not None)
    return LoadedAll(flows, tuple(dict.fromkeys(faults)), tuple(doubts))


def load(path: Path) -> Loaded:
    """One flow file, and the prompts it names. Raises nothing: what cannot be read is a fault."""
    try:
        data = _bytes(path)
    except OSError as error:
        return Loaded(None, (Fault(str(path), 1, 1, "", _unreadable(error)),))
    return read(str(path), data, lambda language: _bytes(path.parent / "prompts" / f"{language}.yaml"))


def read(file: str, data: bytes, prompts: Callable[[str], bytes]) -> Loaded:
    """
    The flow in `data`; `file` is what faults call it. `prompts` returns the file of a language, or raises
    `OSError`. The flow's version is a hash of both files' bytes.
    """
    reader = _Reader(file)
    root = reader.tree(data)
    if root is None:
        return Loaded(None, tuple(sorted(reader.faults)))
    flow, said = _flow(reader, root, prompts)
    if reader.faults:
        _add_findings(reader, flow, errors_only=True)
    else:
        digest = hashlib.sha256(data + b"\0" + said).hexdigest()
        flow = replace(flow, version=digest[:VERSION_CHARS])
        _add_findings(reader, flow, errors_only=False)
    faults, doubts = tuple(sorted(reader.faults)), tuple(sorted(reader.doubts))
    return Loaded(None if faults else flow, faults, doubts, tuple(reader.claims))


def _add_findings(reader: "_Reader", flow: Flow, *, errors_only: bool) -> None:
    """
    What core.flow.check finds, with places. Where the reading had faults already, what may only follow from
    them is left out: findings at, above or below such a place, and all doubts.
    """
    tainted = tuple(reader.tainted)
    if ("factors",) in tainted or ("levels",) in tainted:
        return
    for finding in check(flow):
        follows = any(
            finding.place[: len(place)] == place or place[: len(finding.place)] == finding.place
            for place in tainted
        )
        if follows or (errors_only and not finding.error):
            continue
        (reader.fault if finding.error else reader.doubt)(reader.spot(finding.place), finding.message)


def _claimed_twice(claims: Iterable[Claim]) -> Iterable[Fault]:
    first: dict[str, Claim] = {}
    for claim in claims:
        other = first.setdefault(claim.what, claim)
        if other.file != claim.file:
            message = (
                f"{claim.what} is claimed at {other.file}:{other.line}:{other.column} too; one flow only"
            )
            yield Fault(claim.file, claim.line, claim.column, claim.path, message)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIZE_BYTES_MAX + 1)


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────


class _Spot(NamedTuple):
    """Where something stands: line and column from 1, and the keys and positions that lead there."""

    line: int
    column: int
    place: Place


@dataclass(frozen=True, slots=True)
class _Text:
    spot: _Spot
    value: str


@dataclass(frozen=True, slots=True)
class _Items:
    spot: _Spot
    of: "list[_Node]"


@dataclass(frozen=True, slots=True)
class _Fields:
    """`keys`: where each key stands; `of`: what stands under it."""

    spot: _Spot
    keys: dict[str, _Spot]
    of: "dict[str, _Node]"


@dataclass(frozen=True, slots=True)
class _Broken:
    """A node that has been reported already: nobody says more about it."""

    spot: _Spot


_Node = _Text | _Items | _Fields | _Broken

T = TypeVar("T")
_Shape = TypeVar("_Shape", _Text, _Items, _Fields)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; `key` waits for its value."""

    node: _Items | _Fields
    key: _Text | _Broken | None = None


class _StopReading(Exception):
    """Nothing after this place can be read."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FORBIDDEN = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""Everything that no YAML file may hold, and line breaks that editors do not count as such."""

_TABBED = re.compile(r"^ *\t", re.MULTILINE)


class _Reader:
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
        self._spots: dict[Place, _Spot] = {}
        self._nodes = 0
        self._lines: list[str] = []

    # ── faults and places ──

    def fault(self, spot: _Spot, message: str) -> None:
        """Something that must be mended."""
        self.tainted.add(spot.place)
        self.faults.append(self._at(spot, message))

    def doubt(self, spot: _Spot, message: str) -> None:
        """Something to be weighed by a person."""
        self.doubts.append(self._at(spot, message))

    def claim(self, spot: _Spot, what: str) -> None:
        """A name that no other flow may have."""
        self.claims.append(Claim(what, self.file, spot.line, spot.column, _path(spot.place)))

    def spot(self, place: Place) -> _Spot:
        """Where `place` stands, or would stand: under the nearest key that there is."""
        known = place
        while known not in self._spots:
            known = known[:-1]
        return self._spots[known]._replace(place=place)

    def _at(self, spot: _Spot, message: str) -> Fault:
        shown = "".join(sign if sign.isprintable() else "?" for sign in message)
        return Fault(self.file, spot.line, spot.column, _path(spot.place), shown)

    def _spot_of(self, mark: Any, place: Place = ()) -> _Spot:
        """
        A mark of PyYAML's, counted from 1. Where it means the line behind the last one: the end of the file.

        `mark` is never None here: only events made by hand have none.
        """
        line, column = mark.line, mark.column
        if line >= len(self._lines):
            line, column = len(self._lines) - 1, len(self._lines[-1])
        return _Spot(line + 1, column + 1, place)

    # ── bytes to nodes ──

    def tree(self, data: bytes) -> _Fields | None:
        """The file's one document, a mapping; None: it cannot be read at all, and the faults say why."""
        text = self._text(data)
        if text is None:
            return None
        self._lines = text.split("\n")
        try:
            return self._as(self._document(text), _Fields, "a mapping, with a key at the start of each line")
        except _StopReading:
            return None
        except yaml.MarkedYAMLError as error:
            problem = f"this is not YAML: {error.problem}; look at quotes, brackets, colons and indentation"
            self.fault(self._spot_of(error.problem_mark), problem)
            return None

    def _text(self, data: bytes) -> str | None:
        """The file as text, with line breaks as editors count them."""
        start = _Spot(1, 1, ())
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

    def _document(self, text: str) -> _Node | None:
        """Build the tree from PyYAML's events: no recursion, nothing resolved, every node with its place."""
        stack: list[_Open] = []
        root: _Node | None = None
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
                    if isinstance(node, _Items | _Fields):  # an anchored or tagged one too: its end will come
                        stack.append(_Open(node))
                case yaml.CollectionEndEvent():
                    stack.pop()
                case _:
                    pass
        if root is None:
            self.fault(_Spot(1, 1, ()), "the file is empty")
        return root

    def _node(self, event: yaml.NodeEvent, spot: _Spot, depth: int) -> _Node:
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
                return _Broken(spot)
            case yaml.ScalarEvent(value=str(value)):
                if any(not sign.isprintable() and sign != "\n" for sign in value):
                    self.fault(spot, "there is an invisible character in this text; write it anew")
                    return _Broken(spot)
                return _Text(spot, value)
            case yaml.SequenceStartEvent():
                return _Items(spot, [])
            case _:
                return _Fields(spot, {}, {})

    def _put(self, parent: _Open, node: _Node) -> None:
        """Put a node in its place: an item, a key, or what stands under the key that came before it."""
        if isinstance(parent.node, _Items):
            parent.node.of.append(node)
        elif parent.key is None:
            if not isinstance(node, _Text | _Broken):
                self.fault(node.spot, "a key must be a word; put what has brackets in quotes")
                raise _StopReading
            parent.key = node
        else:
            key, parent.key = parent.key, None
            if isinstance(key, _Broken):
                return
            if key.value in parent.node.of:
                before = parent.node.keys[key.value]
                spot = key.spot._replace(place=node.spot.place)
                self.fault(
                    spot, f"this key stands twice, first at {before.line}:{before.column}; take one out"
                )
                return
            parent.node.keys[key.value] = key.spot._replace(place=node.spot.place)
            parent.node.of[key.value] = node

    # ── nodes to values ──

    def _as(self, node: _Node | None, shape: type[_Shape], wanted: str) -> _Shape | None:
        """The node if it has this shape; a fault if it has another."""
        if isinstance(node, shape):
            return node
        match node:
            case _Text(spot, value):
                self.fault(
                    spot, f"here is {_quoted(value) if value else 'nothing'}; what is wanted: {wanted}"
                )
            case _Items(spot) | _Fields(spot):
                kind = "a list" if isinstance(node, _Items) else "a mapping"
                self.fault(spot, f"here is {kind}; what is wanted: {wanted}")
            case _:
                pass
        return None

    def fields(
        self, node: _Node | None, known: tuple[str, ...], *, needed: Mapping[str, str] | None = None
    ) -> dict[str, _Node]:
        """A mapping with no other keys than `known`, and all that are `needed` (key -> an example)."""
        found = self._as(node, _Fields, f"a mapping with the keys {', '.join(known)}")
        if found is None:
            return {}
        for key in found.of:
            if key not in known:
                self.fault(found.keys[key], _unknown(key, known))
        for key, example in (needed or {}).items():
            if key not in found.of:
                self.fault(self.spot((*found.spot.place, key)), f"this key is missing; add `{example}`")
        return found.of

    def named(self, node: _Node | None, what: str) -> dict[str, _Node]:
        """A mapping whose keys are names of the admin's choice."""
        found = self._as(node, _Fields, f"a mapping of names to {what}")
        if found is None:
            return {}
        for key, spot in found.keys.items():
            if _NAME.fullmatch(key) is None:
                self.fault(spot, f"{_quoted(key)} is no name; {_NAME_WANTED}")
        self._bounded(found.spot, len(found.of))
        return dict(islice(found.of.items(), ENTRIES_MAX))

    def items(self, node: _Node | None, wanted: str) -> list[_Node]:
        """A list with at least one entry."""
        found = self._as(node, _Items, f"a list of {wanted}")
        if found is None:
            return []
        if not found.of:
            self.fault(found.spot, f"the list is empty; what is wanted: {wanted}")
        self._bounded(found.spot, len(found.of))
        return found.of[:ENTRIES_MAX]

    def _bounded(self, spot: _Spot, count: int) -> None:
        if count > ENTRIES_MAX:
            self.fault(spot, f"{count} entries; at most {ENTRIES_MAX} are read")

    def text(self, node: _Node | None, wanted: str, accept: Callable[[str], T | None], default: T) -> T:
        """A text that `accept` makes something of; where it returns None, the fault says what is `wanted`."""
        text = self._as(node, _Text, wanted)
        if text is None:
            return default
        found = accept(text.value)
        if found is None:
            shown = _quoted(text.value) if text.value else "nothing"
            self.fault(text.spot, f"here is {shown}; what is wanted: {wanted}")
            return default
        return found

    def choice(self, node: _Node | None, options: Mapping[str, T], default: T) -> T:
        """One of a few words."""
        if isinstance(node, _Text) and node.value and node.value not in options:
            mend = did_you_mean(node.value, options)
            self.fault(node.spot, f"{_quoted(node.value)} is not known here{mend}")
            return default
        wanted = " or ".join(options)
        return self.text(node, wanted, options.get, default)

    def number(self, node: _Node | None, low: int, high: int, default: int) -> int:
        """A whole number in digits."""

        def accept(text: str) -> int | None:
            is_number = re.fullmatch("[0-9]{1,9}", text) is not None
            return int(text) if is_number and low <= int(text) <= high else None

        return self.text(node, f"a number from {low} to {high}", accept, default)

    def duration(self, node: _Node | None, low_s: int, high_s: int, default_s: int) -> int:
        """A duration such as `90s`, `10m`, `24h`, `7d`; in seconds."""

        def accept(text: str) -> int | None:
            seconds = _seconds(text)
            return seconds if seconds is not None and low_s <= seconds <= high_s else None

        wanted = f"a duration from {_spoken(low_s)} to {_spoken(high_s)}, such as 90s, 10m, 24h"
        return self.text(node, wanted, accept, default_s)

    def pattern(self, node: _Node | None, wanted: str, form: re.Pattern[str]) -> str | None:
        """A glob of the right form and of bounded cost."""

        def accept(text: str) -> str | None:
            stars = len(re.findall(r"\*+|\?", text))
            fits = len(text) <= PATTERN_CHARS_MAX and stars <= PATTERN_WILDCARDS_MAX
            return text if fits and form.fullmatch(text) else None

        limits = f"; at most {PATTERN_CHARS_MAX} characters and {PATTERN_WILDCARDS_MAX} wildcards"
        return self.text(node, wanted + limits, accept, None)


def _next_place(stack: list[_Open]) -> Place:
    """The path of the node that comes next; a key has its mapping's."""
    place: Place = ()
    if not stack:
        return place
    top = stack[-1]
    place = top.node.spot.place
    if isinstance(top.node, _Items):
        return (*place, len(top.node.of))
    match top.key:
        case _Text(value=key):
            return (*place, key)
        case _Broken():
            return (*place, "")
        case _:
            return place


def _place_of(text: str, offset: int) -> _Spot:
    """Line and column of an offset into `text`."""
    before = text[:offset]
    return _Spot(before.count("\n") + 1, len(before) - before.rfind("\n"), ())


def _path(place: Place) -> str:
    """`rules[1].require`, as the admin would say it."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}" for part in place)
    shown = "".join(parts).removeprefix(".")
    return "".join(sign if sign.isprintable() else "?" for sign in shown)


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN_CHARS_MAX else text[:TEXT_SHOWN_CHARS_MAX] + "…"


def _quoted(text: str) -> str:
    return f"'{_shortened(text)}'"


def _unknown(key: str, known: tuple[str, ...]) -> str:
    if key == "ceiling":
        return "a ceiling on the guess budget is not supported in this version; take it out"
    return f"unknown key {_quoted(key)}{did_you_mean(key, known)}"


_UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}


def _seconds(text: str) -> int | None:
    match = re.fullmatch("([0-9]{1,6})([smhd])", text)
    return int(match[1]) * _UNITS_S[match[2]] if match else None


def _spoken(seconds: int) -> str:
    """The duration in the largest unit that fits: 600 is `10m`."""
    unit = next((unit for unit in "dhm" if seconds and seconds % _UNITS_S[unit] == 0), "s")
    return f"{seconds // _UNITS_S[unit]}{unit}"


# ── the parts of a flow ──────────────────────────────────────────────────────────────────────────────────

_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,39}")
_NAME_WANTED = "a name begins with a letter and has letters, digits, `_` and `-`, at most 40"
_NUMBER_WANTED = '"+18005550100", sip:name@domain, client:name or "*"'
_LANGUAGE = re.compile("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_VOICE = re.compile("[A-Za-z0-9.-]{1,60}")
_PATH = re.compile(r"(?!.*/\.{1,2}(?:/|$))(?!.*%[0-9A-Fa-f]{2})(?!.*\?.*=)(?!.+/$)/[^\s#\\]*")
"""Requests have one spelling of their path (telephony/links.py); a rule in another one would never match."""

_PATH_WANTED = "a path from the root, such as /menu or /wire/**, decoded, without query, dot segments and slash at the end"
_KEYS = re.compile("[0-9*#?]+")
_DIALLED = re.compile(r"[^\s]+")
_TARGET = re.compile(r"(?!any$).+")
_SENDS = re.compile("([0-9]{1,3}) in ([0-9]{1,6}[smhd])")
_HOURS = re.compile(r"([a-z,-]+) ([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_BOOL: Mapping[str, bool] = {"true": True, "false": False}

_FLOW_KEYS = (
    "flow", "numbers", "upstream", "language", "voice", "timezone", "tries", "token_valid",
    "identify", "factors", "levels", "rules", "default", "lockout",
)  # fmt: skip
_FLOW_NEEDED = {
    "flow": "flow: bank",
    "numbers": 'numbers: ["+18005550100"]',
    "upstream": "upstream: {url: https://ivr.example.com/voice}",
    "identify": "identify: {ask: account_number, digits: {min: 6, max: 12}}",
    "factors": "factors: {pin: {kind: pin, digits: 8}}",
    "levels": "levels: {one_factor: pin}",
    "rules": "rules: [{transfer: any, require: one_factor, reverify: one_factor}]",
    "default": "default: {require: one_factor}",
}
_DEMAND_KEYS = ("allow", "require", "within", "intent", "reverify", "fresh", "how")
_CONDITION_KEYS = ("path", "digits", "method", "dialled", "transfer", "hours")


def _name(text: str) -> str | None:
    return text if _NAME.fullmatch(text) else None


def _fits(form: re.Pattern[str]) -> Callable[[str], str | None]:
    return lambda text: text if form.fullmatch(text) else None


def _flow(reader: _Reader, root: _Node, prompts: Callable[[str], bytes]) -> tuple[Flow, bytes]:
    """The flow, as far as it can be read, and the bytes of its prompts."""
    of = reader.fields(root, _FLOW_KEYS, needed=_FLOW_NEEDED)
    name = reader.text(of.get("flow"), _NAME_WANTED, _name, "")
    if name:
        reader.claim(reader.spot(("flow",)), f"the name '{name}'")
    language = reader.text(of.get("language"), "a language tag such as en-US", _fits(_LANGUAGE), "en-US")
    words, said = _prompts(reader, language, prompts)
    flow = Flow(
        name=name,
        version="",
        numbers=_numbers(reader, of.get("numbers")),
        upstream=_upstream(reader, of.get("upstream")),
        identify=_identify(reader, of.get("identify")),
        factors=_factors(reader, of.get("factors")),
        levels={
            level: _expression(reader, node)
            for level, node in reader.named(of.get("levels"), "factors, such as {any: [pin, code]}").items()
        },
        rules=tuple(
            _rule(reader, node, position)
            for position, node in enumerate(
                reader.items(of.get("rules"), "rules, such as {path: /hours, allow: anyone}")
            )
        ),
        default=_default(reader, of.get("default")),
        locks=_locks(reader, of.get("lockout")),
        language=language,
        voice=reader.text(of.get("voice"), "a voice such as Polly.Joanna", _fits(_VOICE), ""),
        timezone=_timezone(reader, of.get("timezone")),
        prompts=words,
        tries=reader.number(of.get("tries"), 1, TRIES_MAX, 3),
        token_valid_s=reader.duration(of.get("token_valid"), 60, DAY_S, 600),
    )
    return flow, said


def _numbers(reader: _Reader, node: _Node | None) -> tuple[str, ...]:
    found: list[str] = []
    for item in reader.items(node, _NUMBER_WANTED):
        number = reader.text(item, f"a number dialled: {_NUMBER_WANTED}", _dialled, "")
        if number in found:
            reader.fault(item.spot, f"{_quoted(number)} stands twice; take one out")
        elif number:
            found.append(number)
            reader.claim(item.spot, f"the number {_quoted(number)}")
    return tuple(found)


def _dialled(text: str) -> str | None:
    """The one spelling of an address, as calls are looked up by it."""
    address = address_of(text)
    return "*" if text == "*" else None if address.kind is AddressKind.ANONYMOUS else address.value


def _person(text: str) -> str | None:
    """Where a human can be reached by a `<Dial>` of a number or a SIP address."""
    address = address_of(text)
    return address.value if address.kind in (AddressKind.PHONE, AddressKind.SIP) else None


def _upstream(reader: _Reader, node: _Node | None) -> Upstream:
    of = reader.fields(node, ("url", "also"), needed={"url": "url: https://ivr.example.com/voice"})
    url_wanted = (
        "an absolute http(s) URL without user, query and fragment, such as https://ivr.example.com/voice"
    )
    url = reader.text(of.get("url"), url_wanted, lambda text: text if _origin(text) else None, "")
    if _goes_in_clear(url):
        reader.doubt(
            reader.spot(("upstream", "url")), "what callers key and say would go unencrypted; use https"
        )
    also: list[str] = []
    for item in reader.items(of["also"], "origins") if "also" in of else ():
        wanted = "an origin without path, such as https://media.example.com"
        also.append(reader.text(item, wanted, _origin_alone, ""))
    return Upstream(url, tuple(also))


def _origin(text: str) -> str | None:
    """`scheme://host:port` in lower case; None if the URL is not one that the guard may follow."""
    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    host = parts.hostname or ""
    plain = re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", host) is not None
    if parts.scheme not in ("http", "https") or not plain or re.search(r"[\s?#@\\]", text):
        return None
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _origin_alone(text: str) -> str | None:
    origin = _origin(text)
    return origin if origin is not None and urlsplit(text).path in ("", "/") else None


def _goes_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def _timezone(reader: _Reader, node: _Node | None) -> str:
    known = zoneinfo.available_timezones()
    if isinstance(node, _Text) and node.value not in known:
        mend = did_you_mean(node.value, tuple(known)) if len(node.value) <= TEXT_SHOWN_CHARS_MAX else ""
        if not mend.startswith("; did"):  # the list of all of them would help nobody
            mend = "; write one such as Europe/Berlin or UTC"
        reader.fault(node.spot, f"there is no time zone {_quoted(node.value)}{mend}")
        return "UTC"
    return reader.text(node, "a time zone such as Europe/Berlin", str, "UTC")


def _identify(reader: _Reader, node: _Node | None) -> Identify:
    needed = {"ask": "ask: account_number", "digits": "digits: {min: 6, max: 12}"}
    of = reader.fields(node, ("ask", "digits", "known_number"), needed=needed)
    digits = reader.fields(of.get("digits"), ("min", "max"), needed={"min": "min: 6", "max": "max: 12"})
    return Identify(
        reader.choice(of.get("ask"), {"account_number": "account_number"}, ""),
        reader.number(digits.get("min"), 1, IDENTIFY_DIGITS_MAX, 1),
        reader.number(digits.get("max"), 1, IDENTIFY_DIGITS_MAX, IDENTIFY_DIGITS_MAX),
        reader.choice(of.get("known_number"), {"offer": True, "ignore": False}, default=False),
    )


def _factors(reader: _Reader, node: _Node | None) -> dict[str, Factor]:
    """The factors; one whose kind cannot be read gets a kind that no other one has, so that no fault follows."""
    found = {name: _factor(reader, entry) for name, entry in reader.named(node, "factors").items()}
    free = [kind for kind in Kind if kind not in {factor.kind for factor in found.values() if factor}]
    return {
        name: factor or Factor(free.pop() if free else Kind.PIN, PIN_DIGITS_MAX)
        for name, factor in found.items()
    }


def _factor(reader: _Reader, node: _Node) -> Factor | None:
    keys: Mapping[Kind | None, tuple[str, ...]] = {
        Kind.PIN: ("kind", "digits"),
        Kind.SMS_CODE: ("kind", "digits", "valid", "sends"),
        Kind.TOTP: ("kind",),
        None: ("kind", "digits", "valid", "sends"),
    }
    kind = None
    if isinstance(node, _Fields):
        kind = reader.choice(node.of.get("kind"), {kind.value: kind for kind in Kind}, None)
    needed = {"kind": "kind: pin", **({"digits": "digits: 8"} if kind is Kind.PIN else {})}
    of = reader.fields(node, keys[kind], needed=needed)
    match kind:
        case Kind.PIN:
            return Factor(kind, reader.number(of.get("digits"), 1, PIN_DIGITS_MAX, PIN_DIGITS_MAX))
        case Kind.SMS_CODE:
            digits = reader.number(of.get("digits"), 1, CODE_DIGITS_MAX, 6)
            valid_s = reader.duration(of.get("valid"), 30, DAY_S, 600)
            return Factor(kind, digits, valid_s, _sends(reader, of.get("sends")))
        case Kind.TOTP:
            return Factor(kind, TOTP_DIGITS)
        case _:
            return None


def _sends(reader: _Reader, node: _Node | None) -> Sends:
    def accept(text: str) -> tuple[int, int] | None:
        match = _SENDS.fullmatch(text)
        seconds = _seconds(match[2]) if match else None
        if match is None or not seconds or not 1 <= int(match[1]) <= SENDS_MAX or seconds > YEAR_S:
            return None
        return int(match[1]), seconds

    of = reader.fields(node, ("per_call", "per_account"))
    count, seconds = reader.text(
        of.get("per_account"), 'so many in a time, such as "5 in 1h"', accept, (5, 3600)
    )
    return Sends(reader.number(of.get("per_call"), 1, SENDS_MAX, 2), count, seconds)


def _expression(reader: _Reader, node: _Node) -> Expression:
    """A factor's name, or `{any: [...]}`, or `{all: [...]}`, nested."""
    wanted = "a factor's name, {any: [...]} or {all: [...]}"
    if isinstance(node, _Fields):
        of = reader.fields(node, ("any", "all"))
        if len(node.of) != 1:
            reader.fault(node.spot, f"here are {len(node.of)} keys; what is wanted: {wanted}")
        if "all" in of:
            return AllOf(tuple(_expression(reader, item) for item in reader.items(of["all"], wanted)))
        if "any" in of:
            return AnyOf(tuple(_expression(reader, item) for item in reader.items(of["any"], wanted)))
        return AnyOf(())
    return reader.text(node, wanted, _name, None) or AnyOf(())


def _rule(reader: _Reader, node: _Node, position: int) -> Rule:
    """
    A rule. One that cannot be read whole gets a path and a target that nothing has: it neither shadows nor is
    shadowed, and what it asks for is still looked at.
    """
    faults = len(reader.faults)
    of = reader.fields(node, (*_CONDITION_KEYS, *_DEMAND_KEYS))
    demand = _demand(reader, of, node) if isinstance(node, _Fields) else Demand(None)
    rule = Rule(
        demand,
        path=reader.pattern(of.get("path"), _PATH_WANTED, _PATH),
        digits=reader.pattern(of.get("digits"), 'keys, such as "3" or "*"', _KEYS),
        method=reader.choice(of.get("method"), {"GET": "GET", "POST": "POST"}, None),
        dialled=reader.pattern(of.get("dialled"), 'a number dialled, such as "+1800*"', _DIALLED),
        transfer=_transfer(reader, of.get("transfer")),
        hours=_hours(reader, of.get("hours")),
    )
    if len(reader.faults) == faults and not of.keys() & set(_CONDITION_KEYS):
        reader.fault(
            node.spot, f"a rule needs a condition ({', '.join(_CONDITION_KEYS)}); is this the `default`?"
        )
    if len(reader.faults) == faults:
        return rule
    nowhere = Target("\0", "\0") if {"transfer", "reverify"} & of.keys() else None
    return replace(rule, path=f"\0{position}", transfer=nowhere)


def _default(reader: _Reader, node: _Node | None) -> Demand:
    of = reader.fields(node, _DEMAND_KEYS)
    return _demand(reader, of, node) if isinstance(node, _Fields) else Demand(None)


def _demand(reader: _Reader, of: Mapping[str, _Node], node: _Node) -> Demand:
    open_to_all = reader.choice(of.get("allow"), {"anyone": True}, default=False)
    if ("allow" in of) == ("require" in of):
        reader.fault(node.spot, "write either `allow: anyone` or `require: <level>`")
    useless = ("within", "reverify", "fresh", "how") if open_to_all else ()
    if "reverify" not in of:
        useless = (*useless, "fresh", "how")
    for key in dict.fromkeys(useless):
        if key in of:
            why = "beside `allow: anyone`" if open_to_all else "without `reverify`"
            reader.fault(of[key].spot, f"this has no effect {why}; take it out")
    level_wanted = "the name of a level"
    return Demand(
        require=reader.text(of.get("require"), level_wanted, _name, None),
        within_s=reader.duration(of["within"], 1, DAY_S, DAY_S) if "within" in of else None,
        intent=reader.text(of.get("intent"), _NAME_WANTED, _name, ""),
        reverify=reader.text(of.get("reverify"), level_wanted, _name, None),
        fresh_s=reader.duration(of.get("fresh"), 0, DAY_S, 0),
        how=reader.choice(of.get("how"), {how.value: how for how in How}, How.BEFORE_CONNECT),
    )


def _transfer(reader: _Reader, node: _Node | None) -> Target | None:
    wanted = "`any`, or one kind with a name, such as {enqueue: support}"
    if isinstance(node, _Fields):
        of = reader.fields(node, TARGET_KINDS)
        if len(node.of) != 1:
            reader.fault(node.spot, f"here are {len(node.of)} keys; what is wanted: {wanted}")
        names = {
            kind: reader.pattern(entry, 'a name, or "*" for all of them', _TARGET)
            for kind, entry in of.items()
            if kind in TARGET_KINDS
        }
        return next((Target(kind, name) for kind, name in names.items() if name), None)
    return reader.text(node, wanted, {"any": Target("*", "*")}.get, None)


def _hours(reader: _Reader, node: _Node | None) -> Hours | None:
    def accept(text: str) -> Hours | None:
        match = _HOURS.fullmatch(text)
        days = _days(match[1]) if match else frozenset[int]()
        if match is None or not days:
            return None
        begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (2, 4))
        in_range = (
            begin < 1440 and 0 < end <= 1440 and begin != end and max(int(match[3]), int(match[5])) < 60
        )
        return Hours(days, begin, end) if in_range else None

    return reader.text(node, 'days and times, such as "mon-fri 08:00-18:00"', accept, None)


def _days(text: str) -> frozenset[int]:
    """`mon-fri,sun` as numbers, Monday 0; empty if there is anything else in it."""
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        last = last if "-" in part else first
        if first not in DAYS or last not in DAYS:
            return frozenset()
        begin, end = DAYS.index(first), DAYS.index(last)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def _locks(reader: _Reader, node: _Node | None) -> Locks:
    usual = Locks()
    keys = ("failures", "within", "lock", "lifetime", "trusted_lane", "caller_number", "on_locked")
    of = reader.fields(node, keys)
    account = _lockout(reader, of, usual.account)
    caller_number = usual.caller_number
    match of.get("caller_number"):
        case _Text(value="off"):
            caller_number = None
        case other:
            inner = reader.fields(other, ("failures", "within", "lock"))
            assert caller_number is not None
            caller_number = _lockout(reader, inner, caller_number)
    on_locked = of.get("on_locked")
    dial: str | None = None
    if isinstance(on_locked, _Fields):
        number = reader.fields(on_locked, ("dial",), needed={"dial": 'dial: "+18005550199"'})
        dial = reader.text(number.get("dial"), 'a number such as "+18005550199"', _person, None)
    else:
        reader.text(on_locked, 'refuse, or {dial: "+18005550199"}', {"refuse": True}.get, default=True)
    trusted_lane = reader.choice(of.get("trusted_lane"), _BOOL, default=usual.trusted_lane)
    return Locks(account, caller_number, trusted_lane, dial)


def _lockout(reader: _Reader, of: Mapping[str, _Node], usual: Lockout) -> Lockout:
    lock_s = usual.lock_s
    if "lock" in of:
        durations = reader.items(of["lock"], "durations, such as [30m, 2h, 24h]")
        lock_s = tuple(reader.duration(item, 1, YEAR_S, DAY_S) for item in durations)
    return Lockout(
        reader.number(of.get("failures"), 1, FAILURES_MAX, usual.failures),
        reader.duration(of.get("within"), 60, YEAR_S, usual.within_s),
        lock_s or usual.lock_s,
        reader.number(of.get("lifetime"), 0, FAILURES_MAX, usual.lifetime),
    )


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────


def _prompts(reader: _Reader, language: str, prompts: Callable[[str], bytes]) -> tuple[dict[str, str], bytes]:
    """The words of a language; a fault in them is reported in their own file, and spoils this flow too."""
    file = str(Path(reader.file).parent / "prompts" / f"{language}.yaml")
    try:
        data = prompts(language)
    except OSError as error:
        reader.fault(
            reader.spot(("language",)), f"{file} {_unreadable(error)}; add it, or name another language"
        )
        return {}, b""
    own = _Reader(file)
    root = own.tree(data)
    words = {key: _prompt(own, key, root.keys[key], node) for key, node in root.of.items()} if root else {}
    if own.faults:
        reader.faults.extend(own.faults)
        reader.tainted.add(("language",))
    return words, data


def _prompt(reader: _Reader, key: str, spot: _Spot, node: _Node) -> str:
    """One prompt, its blanks and line breaks made one each."""
    if key not in PROMPTS and not (key.startswith("intent.") and _name(key.removeprefix("intent."))):
        reader.fault(spot, f"unknown key {_quoted(key)}{did_you_mean(key, PROMPTS)}")
        return ""

    def accept(text: str) -> str | None:
        words = " ".join(text.split())
        return words if 0 < len(words) <= PROMPT_CHARS_MAX else None

    words = reader.text(node, f"words to be said, at most {PROMPT_CHARS_MAX} characters", accept, "")
    allowed = PLACEHOLDERS.get(key, ())
    shown = ", ".join(f"{{{name}}}" for name in allowed) or "none"
    for name in re.findall(r"\{([^{}]*)\}", words):
        if name not in allowed:
            reader.fault(node.spot, f"there is no {{{_shortened(name)}}} to fill in here; known: {shown}")
    if set("{}") & set(re.sub(r"\{[^{}]*\}", "", words)):
        reader.fault(
            node.spot, f"a brace stands alone; what is filled in looks like {{digits}}; known here: {shown}"
        )
    needed = PLACEHOLDERS_NEEDED.get(key)
    if words and needed is not None and f"{{{needed}}}" not in words:
        reader.fault(node.spot, f"without {{{needed}}} this says nothing; put it in")
    return words
