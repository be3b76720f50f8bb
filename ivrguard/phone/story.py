"""A call as a story: `.call` files, read, played on a pretend exchange, and written.

The format: one step a line. Blank lines and lines that begin with `#` are for people; a `#` further on is part
of its step, for keys have one too::

    # anybody may listen to the opening hours
    title: The balance for an honest caller
    call from +14155550123 to +18005550100 attested A
    hear "account number"
    press 123456#
    press {pin}#
    not hear "sorry"
    transferred to enqueue "fraud-line" with token
    hung up

=====================================  ==========================================================================
``call from X to Y [attested A]``      a call begins; X may be anonymous, sip:... or client:...; A, B or C
``hear "words"``                       part of what was said or played; in order, capitals do not matter
``not hear "words"``                   nothing of the kind was said or played
``press KEYS``                         0 to 9, `*`, `#`; `{name}` is a value of the world, `{code}` the last code
                                       that was texted to the caller
``say "words"``                        spoken by the caller, for a question that listens or a recording
``silence``                            the question or the recording times out
``hang up``                            the caller leaves
``wait 30m``                           time passes: s, m, h, d
``transferred to KIND "name"``         KIND: enqueue, workflow, number, client, sip, conference, queue; and
                                       ``with token``: something that looks like a token went along
``agent answers``                      the caller is taken out of the queue
``agent hangs up``                     the agent leaves the conversation
``hung up``                            the other side has ended the call
any other verb                         is the world's (`World.actions`), with the rest of the line
=====================================  ==========================================================================

Laws of this file
 1. A story is refused whole, every fault with its file and line, before anything is called.
 2. An expectation (`hear`, `not hear`, `transferred`, `hung up`) looks only at what happened since the caller
    last did something.
 3. What a `{value}` stands for is never in a transcript, a message or a repr.
 4. A story that is written and read again is the same story.
"""

import difflib
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from ivrguard.phone.exchange import Exchange, Line, LineError
from ivrguard.phone.heard import Dialled, Event, HungUp, Played, Queued, Said, describe

Kind: TypeAlias = Literal["enqueue", "workflow", "number", "client", "sip", "conference", "queue"]
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TOKEN = re.compile(r"[0-9A-Za-z_-]{16,}")
_WHISPERED = re.compile(r"(?:[0-9][ ,.]*){6,}")


class StoryFault(ValueError):
    """A story that cannot be read: every fault, one a line, as `name:line: what is wrong`."""


class StoryFailed(AssertionError):
    """A story that did not come true: where, why, and the talk so far, the failing step marked with `->`."""


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
    """A verb of the world's, with the rest of its line."""

    verb: str
    rest: str = ""


Does: TypeAlias = Call | Hear | NotHear | Press | Say | Plain | Wait | Transferred | Act


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and the line that it was read from (which does not make it another step)."""

    does: Does
    line: int = field(default=0, compare=False)


# ---------------------------------------------------------------------------------------------------------
# Reading and writing

_QUOTED = r'"((?:[^"\\]|\\.)+)"'
_KINDS = "enqueue|workflow|number|client|sip|conference|queue"


def _unquote(text: str) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", text).split())


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", " ".join(text.split())) + '"'


# First word -> what the line must look like, how it is told to somebody who got it wrong, and what it means.
_VERBS: dict[str, tuple[str, str, Callable[[re.Match[str]], Does]]] = {
    "call": (
        r"call from (\S+) to (\S+)(?: attested ([ABC]))?",
        "call from NUMBER to NUMBER [attested A|B|C]",
        lambda m: Call(m[1], m[2], m[3] or ""),
    ),
    "hear": (f"hear {_QUOTED}", 'hear "words"', lambda m: Hear(_unquote(m[1]))),
    "not": (f"not hear {_QUOTED}", 'not hear "words"', lambda m: NotHear(_unquote(m[1]))),
    "press": (
        r"press ((?:[0-9*#]|\{[a-z][a-z0-9_]*\})+)",
        "press KEYS, of 0 to 9, * # and {name}",
        lambda m: Press(m[1]),
    ),
    "say": (f"say {_QUOTED}", 'say "words"', lambda m: Say(_unquote(m[1]))),
    "silence": (r"(silence)", "silence", lambda m: Plain(m[1])),
    "hang": (r"(hang up)", "hang up", lambda m: Plain(m[1])),
    "hung": (r"(hung up)", "hung up", lambda m: Plain(m[1])),
    "agent": (r"(agent (?:answers|hangs up))", "agent answers, or agent hangs up", lambda m: Plain(m[1])),
    "wait": (
        r"wait ([0-9]{1,6})([smhd])",
        "wait NUMBER with s, m, h or d",
        lambda m: Wait(int(m[1]) * _SECONDS[m[2]]),
    ),
    "transferred": (
        f"transferred to ({_KINDS}) {_QUOTED}( with token)?",
        f'transferred to {_KINDS} "name" [with token]',
        lambda m: Transferred(cast(Kind, m[1]), _unquote(m[2]), bool(m[3])),
    ),
}
_WITHOUT_A_CALL = (Call, Wait, Act)


def _read(line: str, actions: Collection[str]) -> Does | str:
    """One step, or what is wrong with it."""
    verb, _, rest = line.partition(" ")
    if verb in _VERBS:
        pattern, usage, make = _VERBS[verb]
        found = re.fullmatch(pattern, line, re.ASCII)
        return make(found) if found else f"it should read: {usage}"
    if verb in actions:
        return Act(verb, rest.strip())
    near = difflib.get_close_matches(verb, [*_VERBS, *actions, "title:"], 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"there is no verb '{verb}'{hint}"


def _write(does: Does) -> str:
    match does:
        case Call(from_, to, attested):
            return f"call from {from_} to {to}" + (f" attested {attested}" if attested else "")
        case Hear(text):
            return f"hear {_quote(text)}"
        case NotHear(text):
            return f"not hear {_quote(text)}"
        case Press(keys):
            return f"press {keys}"
        case Say(text):
            return f"say {_quote(text)}"
        case Plain(words):
            return words
        case Wait(seconds):
            unit = next(unit for unit, size in _SECONDS.items() if seconds % size == 0)
            return f"wait {seconds // _SECONDS[unit]}{unit}"
        case Transferred(kind, name, with_token):
            return f"transferred to {kind} {_quote(name)}" + (" with token" if with_token else "")
        case _:
            return f"{does.verb} {does.rest}".strip()


@dataclass(frozen=True, slots=True)
class Story:
    """A story; `format(story)` is its text, and `parse` of that is the same story."""

    title: str
    steps: tuple[Step, ...]
    name: str = field(default="story", compare=False)

    @classmethod
    def parse(cls, text: str, name: str, *, actions: Collection[str] = ()) -> "Story":
        """Read a story. `name` is what faults are told with; `actions` are the world's verbs.

        Raises `StoryFault` with every fault.
        """
        title, steps, faults, called = "", [], [], False
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("title:"):
                title = line.removeprefix("title:").strip()
                continue
            does = _read(line, actions)
            if isinstance(does, str):
                faults.append(f"{name}:{number}: {does}")
                called = called or line.startswith("call")
                continue
            called = called or isinstance(does, Call)
            if not called and not isinstance(does, _WITHOUT_A_CALL):
                faults.append(f"{name}:{number}: nobody has called yet")
            steps.append(Step(does, number))
        if faults:
            raise StoryFault("\n".join(faults))
        return cls(title, tuple(steps), name)

    def __str__(self) -> str:
        head = [f"title: {self.title}", ""] if self.title else []
        return "\n".join([*head, *(_write(step.does) for step in self.steps)]) + "\n"


# ---------------------------------------------------------------------------------------------------------
# Playing


@dataclass(frozen=True, slots=True)
class World:
    """What a story needs besides the telephone.

    `values`: name -> what `{name}` stands for now. `code_for`: the last code texted to a number (raises
    `LookupError`). `advance`: seconds pass. `actions`: the world's own verbs.
    """

    values: Mapping[str, Callable[[], str]] = field(default_factory=dict, repr=False)
    code_for: Callable[[str], str] | None = None
    advance: Callable[[int], Awaitable[None] | None] | None = None
    actions: Mapping[str, "Action"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The talk as it went: `>>` the caller (and the world), `<<` what came back, `==` what was expected.

    `lines` are the calls, `tokens` what was handed over with transfers; both are out of sight in a repr.
    """

    story: Story = field(repr=False)
    text: tuple[str, ...]
    lines: tuple[Line, ...] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join(self.text)


class Scene:
    """A story while it is played; what an action of the world gets to work with.

    `line`: the call (the last one). `tokens`: what the transfers so far handed over. Actions use `tell` for
    a line of the transcript, and `fail` when what they wanted did not happen.
    """

    def __init__(self, story: Story, exchange: Exchange, world: World) -> None:
        self.story, self.exchange, self.world = story, exchange, world
        self.lines: list[Line] = []
        self.tokens: list[str] = []
        self._text: list[str] = []
        self._step = Step(Plain("nothing"))
        self._told = 0
        self._since = 0
        self._heard_to = 0

    @property
    def line(self) -> Line:
        """The call that the story is in; the last one, if it is over."""
        return self.lines[-1]

    def tell(self, words: str) -> None:
        """Add a line to the transcript. It must not hold a secret."""
        self._text.append(f"   {words}")

    def fail(self, why: str) -> StoryFailed:
        """The failure to raise: where, why, and the talk so far."""
        where = f"{self.story.name}:{self._step.line}: {why}"
        talk = [f"    {each}" for each in self._text]
        return StoryFailed("\n".join([where, *talk, f" -> {_write(self._step.does)}"]))

    async def play(self) -> Transcript:
        """Play the story to its end; the caller hangs up if the call is not over."""
        for step in self.story.steps:
            self._step = step
            try:
                await self._play(step.does)
            except LineError as fault:
                raise self.fail(str(fault)) from None
        if self.lines and not self.line.over:
            self._caller_does("hang up (the story ends here)")
            await self.line.hang_up()
            self._listen()
        return Transcript(self.story, tuple(self._text), tuple(self.lines), tuple(self.tokens))

    async def _play(self, does: Does) -> None:
        match does:
            case Hear(text):
                self._hear(text)
            case NotHear(text):
                if _folded(text) in self._spoken():
                    raise self.fail(f"somebody said {_quote(text)}")
            case Transferred():
                self._transferred(does)
            case Plain("hung up"):
                if not any(isinstance(each, HungUp) and each.by != "caller" for each in self._fresh()):
                    raise self.fail("the other side has not hung up")
            case Wait(seconds):
                await self._wait(seconds)
            case Act(verb, rest):
                await self._act(verb, rest)
            case _:
                await self._person_does(does)
                return
        if not isinstance(does, Wait | Act):
            self._text.append(f"== {_write(does)}")

    async def _person_does(self, does: Call | Press | Say | Plain) -> None:
        """Something that somebody does with a telephone; what follows is heard afresh."""
        self._caller_does(_write(does))
        match does:
            case Call():
                await self._call(does)
            case Press(keys):
                await self.line.press(self._keys(keys))
            case Say(text):
                await self.line.speak(text)
            case Plain("silence"):
                await self.line.silent()
            case Plain("hang up"):
                await self.line.hang_up()
            case Plain("agent answers"):
                await self.line.dequeued()
            case _:
                await self.line.agent_hangs_up()
        self._listen()

    def _caller_does(self, words: str) -> None:
        self._since = len(self.line.heard) if self.lines else 0
        self._heard_to = 0
        self._text.append(f">> {words}")

    def _listen(self) -> None:
        """Put what has been heard since into the transcript; keep the tokens handed over."""
        for event in self.line.heard[self._told :]:
            self._text.append(f"<< {describe(event)}")
            self.tokens += _tokens(event)
        self._told = len(self.line.heard)

    def _fresh(self) -> list[Event]:
        return self.line.heard[self._since :]

    def _spoken(self) -> str:
        """All that was said or played since the caller last did something, folded."""
        return _folded(
            " ".join(
                each.text if isinstance(each, Said) else each.url
                for each in self._fresh()
                if isinstance(each, Said | Played)
            )
        )

    def _hear(self, text: str) -> None:
        words, spoken = _folded(text), self._spoken()
        place = spoken.find(words, self._heard_to)
        if place < 0:
            late = "not after what was heard before it" if words in spoken else "nobody said it"
            raise self.fail(f"expected to hear {_quote(text)}: {late}")
        self._heard_to = place + len(words)

    def _transferred(self, wanted: Transferred) -> None:
        events = [each for each in self._fresh() if _went_to(each, wanted)]
        if not events:
            raise self.fail(f"the call has not gone to {wanted.kind} {_quote(wanted.name)}")
        if wanted.with_token and not any(token for each in events for token in _tokens(each)):
            raise self.fail("the call has gone there without a token")

    def _keys(self, template: str) -> str:
        return re.sub(r"\{([a-z0-9_]+)\}", lambda found: self._value(found[1]), template)

    def _value(self, name: str) -> str:
        if name in self.world.values:
            return self.world.values[name]()
        if name == "code" and self.world.code_for is not None:
            try:
                return self.world.code_for(self.line.from_)
            except LookupError as fault:
                raise self.fail(str(fault)) from None
        raise self.fail(f"the world has no value '{name}'")

    async def _call(self, call: Call) -> None:
        if self.lines and not self.line.over:
            raise self.fail("the call before is not over")
        verstat = f"TN-Validation-Passed-{call.attested}" if call.attested else None
        try:
            line = self.exchange.call(call.from_, call.to, stir_verstat=verstat)
        except LookupError as fault:
            raise self.fail(str(fault)) from None
        self.lines.append(line)
        self._told = self._since = 0
        await line.until_input()

    async def _wait(self, seconds: int) -> None:
        if self.world.advance is None:
            raise self.fail("in this world no time passes")
        self._text.append(f">> {_write(self._step.does)}")
        passing = self.world.advance(seconds)
        if passing is not None:
            await passing

    async def _act(self, verb: str, rest: str) -> None:
        if verb not in self.world.actions:
            raise self.fail(f"the world has no verb '{verb}'")
        self._text.append(f">> {_write(self._step.does)}")
        await self.world.actions[verb](self, rest)
        if self.lines:
            self._listen()


Action: TypeAlias = Callable[[Scene, str], Awaitable[None]]
"""A verb of the world: it gets the scene and the rest of the line."""


async def play(story: Story, exchange: Exchange, *, world: World) -> Transcript:
    """Play a story on an exchange. Raises `StoryFailed` at the first step that does not come true."""
    return await Scene(story, exchange, world).play()


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _went_to(event: Event, wanted: Transferred) -> bool:
    match event, wanted.kind:
        case Queued(name=name), "enqueue":
            return name == wanted.name
        case Queued(workflow=workflow), "workflow":
            return workflow == wanted.name
        case Dialled(targets), kind:
            return any((each.kind, each.name) == (kind, wanted.name) for each in targets)
    return False


def _tokens(event: Event) -> list[str]:
    """What looks like a token in a transfer.

    A value named like one in a task's attributes, a client's parameters or a SIP address' headers; a code of
    six digits or more in a whisper.
    """
    match event:
        case Queued(task=task):
            named: Iterator[tuple[str, str]] = _texts(_json(task))
        case Dialled(targets, whispered=whispered):
            named = (pair for each in targets for pair in each.parameters)
            codes = _WHISPERED.findall(" ".join(whispered))
            return [*_named_tokens(named), *(re.sub(r"[^0-9]", "", code) for code in codes)]
        case _:
            return []
    return _named_tokens(named)


def _json(text: str) -> object:
    """A task's attributes, or nothing when they are not JSON (which is for others to complain about)."""
    try:
        return cast(object, json.loads(text))
    except ValueError:
        return None


def _named_tokens(named: Iterator[tuple[str, str]]) -> list[str]:
    return [value for name, value in named if "token" in name.lower() and _TOKEN.fullmatch(value)]


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the name that it stands under."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, str(key))
    elif isinstance(value, str):
        yield name, value
