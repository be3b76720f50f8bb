"""A call as a story: `.call` files, read and written.

The format: one step a line, behind a head of its own. Blank lines and lines that begin with `#` are for people; a `#`
further on is part of its step, for keys have one too::

    # anybody may listen to the opening hours
    title: The balance for an honest caller
    flow: bank
    call from +14155550123 to +18005550100 attested A
    hear "account number"
    press {account}#
    press {pin}#
    not hear "sorry"
    transferred to enqueue "fraud-line" with token
    hung up

=====================================  ==========================================================================
``title: words``                       what it is about
``flow: name``                         the flow that is called; where there is one flow only it may be left out
``ivr: bank``                          the sample bank stands behind the flow; `stub`, or nothing: see `phone/stub.py`
``begins: 2026-01-05 10:00``           when it begins, by the flow's clock; otherwise on that very Monday
``call from X to Y [attested A]``      a call begins; X may be anonymous, sip:... or client:...; A, B or C
``hear "words"``                       part of what was said or played; in order, capitals do not matter
``not hear "words"``                   nothing of the kind was said or played
``press KEYS``                         0 to 9, `*`, `#`; `{name}` is a value of the world, such as `{pin}`
``say "words"``                        spoken by the caller, for a question that listens or a recording
``silence``                            the question or the recording times out
``hang up``                            the caller leaves
``wait 30m``                           time passes: s, m, h, d
``transferred to KIND "name"``         KIND: enqueue, workflow, number, client, sip, conference, queue; and
                                       ``with token``: something that looks like a token went along
``agent answers``                      the caller is taken out of the queue
``agent hangs up``                     the agent leaves the conversation
``hung up``                            the other side has ended the call
any other verb                         is the world's (`phone/world.py`)
=====================================  ==========================================================================

Laws of this file
 1. A story is refused whole, every fault with its file and line, before anything is called.
 2. What a line may look like is written once, as people read it (`Form`): to read by, and to say what it should be.
 3. A story that is written and read again is the same story.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ivrguard.phone import twiml

Kind: TypeAlias = Literal["enqueue", "workflow", "number", "client", "sip", "conference", "queue"]
IVRS = ("stub", "bank")
STORY_BYTES_MAX = 64 * 1024
"""A file that is larger is no story, but something else under its name."""
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_BEGINS = "%Y-%m-%d %H:%M"
_HEAD = re.compile(r"(title|flow|ivr|begins):(.*)")


class StoryFault(ValueError):
    """A story that cannot be read: every fault, one a line, as `name:line: what is wrong`."""


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody calls; `attested` is the carrier's level (A, B, C, or nothing)."""

    from_: str
    to: str
    attested: str = ""


@dataclass(frozen=True, slots=True)
class Hear:
    """These words must have been said or played (one line, blanks collapsed)."""

    text: str


@dataclass(frozen=True, slots=True)
class NotHear:
    """These words must not have been said."""

    text: str


@dataclass(frozen=True, slots=True)
class Press:
    """Keys; `{name}` in them stands for a value of the world."""

    keys: str


@dataclass(frozen=True, slots=True)
class Say:
    """Words of the caller."""

    text: str


@dataclass(frozen=True, slots=True)
class Plain:
    """A step that is its words: `silence`, `hang up`, `hung up`, `agent answers`, `agent hangs up`."""

    words: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """The call must have gone there; `with_token`: with something that looks like a token."""

    kind: Kind
    name: str
    with_token: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """A verb of the world's: the line as it stands."""

    words: str


Does: TypeAlias = Call | Hear | NotHear | Press | Say | Plain | Wait | Transferred | Act


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and the line that it was read from (which does not make it another step)."""

    does: Does
    line: int = field(default=0, compare=False)


# ── what a line may look like ────────────────────────────────────────────────────────────────────────────


WORDS = '"WORDS"'
_SLOTS: Mapping[str, tuple[str, str]] = {
    WORDS: (r'"((?:[^"\\]|\\.)+)"', "words in quotation marks"),
    "ACCOUNT": (r"([0-9]{1,32})", "digits"),
    "DURATION": (r"([0-9]{1,6}[smhd])", "a number with s, m, h or d, such as 30m"),
    "FACTORS": (r"((?:pin|sms_code|totp)(?: (?:pin|sms_code|totp))*)", "pin, sms_code, totp, with blanks"),
    "KEYS": (r"((?:[0-9*#]|\{[a-z][a-z0-9_]*\})+)", "0 to 9, *, # and {name}"),
    "DIGITS": (r"([0-9*#]+)", "0 to 9, *, #"),
    "N": (r"([0-9]{1,6})", "a number"),
    "PATH": (r"(/[^\s<>?#]*)", "a path such as /menu"),
    "TWIML": (r"(<.+>)", "verbs such as <Say>Hello</Say>"),
}
"""What stands for more than a word in capitals, which is anything without a blank: its pattern, and what it is."""


class Form:
    """
    How a line may look, in the words that people read: `desk NAME serves QUEUE`.

    A word in capitals stands for something that the story fills in (see `_SLOTS`), `a|b` for one of both.
    """

    def __init__(self, usage: str) -> None:
        self.usage = usage
        self.verb = usage.partition(" ")[0]
        words = [word.removesuffix(":") for word in usage.split()]
        self._slots = [word for word in words if word == WORDS or word.isupper() or "|" in word]
        self._pattern = re.compile(" ".join(map(_pattern, usage.split())), re.ASCII)

    @property
    def told(self) -> str:
        """The usage, for somebody who got it wrong."""
        slots = [f"{slot.strip(chr(34))}: {_SLOTS[slot][1]}" for slot in self._slots if slot in _SLOTS]
        return f"{self.usage} ({'; '.join(dict.fromkeys(slots))})" if slots else self.usage

    def read(self, line: str) -> tuple[str, ...] | None:
        """What the line fills in, in order; None: it looks otherwise."""
        found = self._pattern.fullmatch(line)
        if found is None:
            return None
        pairs = zip(self._slots, found.groups(), strict=True)
        return tuple(_unquote(text) if slot == WORDS else text for slot, text in pairs)

    def fault(self, filled: tuple[str, ...]) -> str | None:
        """What is wrong with what was filled in, although it looks right."""
        if "TWIML" in self._slots and not twiml.readable(filled[-1]):
            return "this is no TwiML: close each tag, and write `&` as `&amp;`"
        return None


def _pattern(word: str) -> str:
    if "|" in word:
        return f"({word})"
    name, colon = word.removesuffix(":"), ":" * word.endswith(":")
    if name in _SLOTS:
        return _SLOTS[name][0] + colon
    return rf"(\S+?){colon}" if name.isupper() else re.escape(word)


def _unquote(text: str) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", text).split())


def quoted(text: str) -> str:
    """Words in quotation marks, on one line."""
    return '"' + re.sub(r'(["\\])', r"\\\1", " ".join(text.split())) + '"'


def seconds(duration: str) -> int:
    """A duration such as `30m` in seconds."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


KINDS: tuple[Kind, ...] = get_args(Kind)
_KINDS = "|".join(KINDS)
_FORMS: tuple[tuple[Form, Callable[..., Does]], ...] = tuple(
    (Form(usage), does)
    for usage, does in (
        ("call from NUMBER to NUMBER", Call),
        ("call from NUMBER to NUMBER attested A|B|C", Call),
        ('hear "WORDS"', Hear),
        ('not hear "WORDS"', NotHear),
        ("press KEYS", Press),
        ('say "WORDS"', Say),
        ("silence", lambda: Plain("silence")),
        ("hang up", lambda: Plain("hang up")),
        ("hung up", lambda: Plain("hung up")),
        ("agent answers", lambda: Plain("agent answers")),
        ("agent hangs up", lambda: Plain("agent hangs up")),
        ("wait DURATION", lambda duration: Wait(seconds(duration))),
        (f'transferred to {_KINDS} "WORDS"', Transferred),
        (
            f'transferred to {_KINDS} "WORDS" with token',
            lambda kind, name: Transferred(kind, name, with_token=True),
        ),
    )
)
_WITHOUT_A_CALL = (Call, Wait, Act)
VERBS = tuple(form.usage for form, _ in _FORMS)
"""How each line of the format looks, without the world's."""


# ── reading and writing ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Story:
    """
    A story; `format(story)` is its text, and `parse` of that is the same story.

    `flow` "": the only one that there is. `begins`: by the flow's clock; None: when it begins does not matter.
    """

    title: str
    steps: tuple[Step, ...]
    name: str = field(default="story", compare=False)
    flow: str = ""
    ivr: str = ""
    begins: datetime | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        name: str,
        *,
        verbs: Collection[str] = (),
        flows: Collection[str] | None = None,
        values: Collection[str] | None = None,
    ) -> "Story":
        """
        Read a story. `name` is what faults are told with; `verbs`: how lines of the world's look (see `Form`); `flows`,
        `values`: the names of those that there are (None: it does not matter).

        Raises `StoryFault` with every fault.
        """
        reading = _Reading([Form(usage) for usage in verbs], flows, values)
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.strip()
            if line and not line.startswith("#"):
                reading.take(line, number)
        reading.end()
        if reading.faults:
            raise StoryFault("\n".join(f"{name}:{number}: {fault}" for number, fault in reading.faults))
        head = reading.head
        begins = datetime.strptime(head["begins"], _BEGINS) if "begins" in head else None  # noqa: DTZ007 - the flow's own clock, wherever that is
        return cls(
            head.get("title", ""),
            tuple(reading.steps),
            name,
            flow=head.get("flow", ""),
            ivr=head.get("ivr", ""),
            begins=begins,
        )

    def __str__(self) -> str:
        begins = "" if self.begins is None else self.begins.strftime(_BEGINS)
        head = {"title": self.title, "flow": self.flow, "ivr": self.ivr, "begins": begins}
        lines = [f"{key}: {value}" for key, value in head.items() if value]
        return "\n".join([*lines, *([""] * bool(lines)), *(write(step.does) for step in self.steps)]) + "\n"


def load(path: Path) -> str:
    """The text of a story file. Raises `StoryFault`."""
    try:
        with path.open("rb") as file:
            data = file.read(STORY_BYTES_MAX + 1)
        if len(data) > STORY_BYTES_MAX:
            raise StoryFault(f"{path}:1: a story has {STORY_BYTES_MAX // 1024} kB at most")
        return data.decode()
    except OSError as error:
        raise StoryFault(f"{path}:1: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StoryFault(f"{path}:1: this is no text in UTF-8") from None


class _Reading:
    """A story while it is read: what was found so far."""

    def __init__(
        self, forms: list[Form], flows: Collection[str] | None, values: Collection[str] | None
    ) -> None:
        self.head: dict[str, str] = {}
        self.steps: list[Step] = []
        self.faults: list[tuple[int, str]] = []
        self._forms = forms
        self._flows = flows
        self._values = values
        self._called = False

    def take(self, line: str, number: int) -> None:
        """One line with something on it."""
        head = _HEAD.fullmatch(line)
        if head is not None:
            self._take_head(head[1], head[2].strip(), number)
            return
        read = self._read(line)
        if isinstance(read, str):
            self.faults.append((number, read))
            self._called = self._called or line.startswith("call")
            return
        self._called = self._called or isinstance(read, Call)
        if not self._called and not isinstance(read, _WITHOUT_A_CALL):
            self.faults.append((number, "nobody has called yet"))
        if isinstance(read, Press) and self._values is not None:
            named = re.findall(r"\{([a-z0-9_]+)\}", read.keys)
            for value in [one for one in named if one not in self._values]:
                near = _near(value, self._values) or _known(self._values)
                self.faults.append((number, f"there is no value '{value}'{near}"))
        self.steps.append(Step(read, number))

    def end(self) -> None:
        """There are no more lines."""
        if self._flows is not None and len(self._flows) != 1 and "flow" not in self.head:
            self.faults.append((1, f"which flow is called? Add `flow: NAME`{_known(self._flows)}"))

    def _take_head(self, key: str, value: str, number: int) -> None:
        fault = None
        if self.steps:
            fault = f"`{key}:` belongs to the head, before the first step"
        elif key in self.head:
            fault = f"there is a `{key}:` already"
        elif key == "flow" and self._flows is not None and value not in self._flows:
            fault = f"there is no flow '{value}'{_near(value, self._flows) or _known(self._flows)}"
        elif key == "ivr" and value not in IVRS:
            fault = f"it should read: ivr: {' or ivr: '.join(IVRS)}"
        elif key == "begins" and not _is_moment(value):
            fault = "it should read: begins: YEAR-MONTH-DAY HOUR:MINUTE, such as 2026-01-05 10:00"
        if fault is not None:
            self.faults.append((number, fault))
        self.head.setdefault(key, value)

    def _read(self, line: str) -> Does | str:
        """One step, or what is wrong with it."""
        verb = line.partition(" ")[0]
        alike = []
        for form, does in (*_FORMS, *((form, None) for form in self._forms)):
            if form.verb != verb:
                continue
            alike.append(form.told)
            filled = form.read(line)
            if filled is not None:
                return form.fault(filled) or (Act(line) if does is None else does(*filled))
        if alike:
            return f"it should read: {', or '.join(alike)}"
        every = {form.verb: form for form in (*(form for form, _ in _FORMS), *self._forms)}
        return f"there is no verb '{verb}'{_near(verb, [*every, 'title:', 'flow:', 'ivr:', 'begins:'])}"


def _near(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _known(known: Collection[str]) -> str:
    return f"; there is: {', '.join(sorted(known))}"


def _is_moment(text: str) -> bool:
    try:
        datetime.strptime(text, _BEGINS)  # noqa: DTZ007 - the flow's own clock, wherever that is
    except ValueError:
        return False
    return True


def write(does: Does) -> str:
    """A step as it stands in a story."""
    match does:
        case Call(from_, to, attested):
            return f"call from {from_} to {to}" + (f" attested {attested}" if attested else "")
        case Hear(text):
            return f"hear {quoted(text)}"
        case NotHear(text):
            return f"not hear {quoted(text)}"
        case Press(keys):
            return f"press {keys}"
        case Say(text):
            return f"say {quoted(text)}"
        case Plain(words):
            return words
        case Wait(span):
            unit = next(unit for unit, size in _SECONDS.items() if span % size == 0)
            return f"wait {span // _SECONDS[unit]}{unit}"
        case Transferred(kind, name, with_token):
            return f"transferred to {kind} {quoted(name)}" + (" with token" if with_token else "")
        case Act(words):  # pragma: no branch -- a step is one of these
            return words
