"""A story on the stage: played on a pretend exchange, step by step, until it has come true or has not.

Laws of this file
 1. An expectation (`hear`, `not hear`, `transferred`, `hung up`) looks only at what happened since the caller
    last did something.
 2. What a `{value}` stands for is never in a transcript, a message or a repr.
 3. Every line of the talk that makes a sound is told as it comes (`Listener`), so that a person can follow.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ivrguard.phone.exchange import Exchange, Line, LineError
from ivrguard.phone.heard import Dialled, Event, HungUp, Played, Queued, Said, describe, makes_a_sound
from ivrguard.phone.story import (
    Act,
    Call,
    Does,
    Form,
    Hear,
    NotHear,
    Plain,
    Press,
    Say,
    Step,
    Story,
    Transferred,
    Wait,
    quoted,
    write,
)

_TOKEN = re.compile(r"[0-9A-Za-z_-]{16,}")
_WHISPERED = re.compile(r"(?:[0-9][ ,.]*){6,}")


class StoryFailed(AssertionError):
    """
    A story that did not come true: `where` (file and line), `why`, the `talk` so far, and the `step` that failed.

    As text: all of it, a line each, the step marked with `->`.
    """

    def __init__(self, where: str, why: str, talk: tuple[str, ...], step: str) -> None:
        super().__init__(where, why)
        self.where, self.why, self.talk, self.step = where, why, talk, step

    def __str__(self) -> str:
        talk = [f"    {each}" for each in self.talk]
        return "\n".join([f"{self.where}: {self.why}", *talk, f" -> {self.step}"])


Listener: TypeAlias = Callable[[str, str], None]
"""Hears each line of the talk: its mark (`>>`, `<<`, `==`, or blanks for a remark of the world's), and the words."""


@dataclass(frozen=True, slots=True)
class World:
    """
    What a story needs besides the telephone.

    `values`: name -> what `{name}` stands for now (`LookupError`: for nothing, and why). `advance`: seconds pass.
    `actions`: how a line of the world's looks (see `story.Form`) -> what it does. `ends`: what must hold once the
    story is over.
    """

    values: Mapping[str, Callable[[], str]] = field(default_factory=dict, repr=False)
    advance: Callable[[int], Awaitable[None] | None] | None = None
    actions: Mapping[str, "Action"] = field(default_factory=dict)
    ends: Callable[["Scene"], Awaitable[None]] | None = None


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

    def __init__(self, story: Story, exchange: Exchange, world: World, listener: Listener) -> None:
        self.story, self.exchange, self.world, self._listener = story, exchange, world, listener
        self._actions = [(Form(usage), action) for usage, action in world.actions.items()]
        self.lines: list[Line] = []
        self.tokens: list[str] = []
        self._text: list[str] = []
        self._step = Step(Plain("nothing"))
        self._told = 0
        self._since = 0
        self._heard_to = 0

    @property
    def line(self) -> Line:
        """The call that the story is in; the last one, if it is over. Raises `StoryFailed` before there is one."""
        if not self.lines:
            raise self.fail("nobody has called yet")
        return self.lines[-1]

    def tell(self, words: str) -> None:
        """Add a line to the transcript. It must not hold a secret."""
        self._tell("  ", words)

    def _tell(self, mark: str, words: str) -> None:
        self._text.append(f"{mark} {words}")
        self._listener(mark, words)

    def fail(self, why: str) -> StoryFailed:
        """The failure to raise: where, why, and the talk so far."""
        where = f"{self.story.name}:{self._step.line}"
        return StoryFailed(where, why, tuple(self._text), write(self._step.does))

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
        if self.world.ends is not None:
            self._step = Step(Act("the end"), self._step.line)
            await self.world.ends(self)
        return Transcript(self.story, tuple(self._text), tuple(self.lines), tuple(self.tokens))

    async def _play(self, does: Does) -> None:
        match does:
            case Hear(text):
                self._hear(text)
            case NotHear(text):
                if _folded(text) in self._spoken():
                    raise self.fail(f"somebody said {quoted(text)}")
            case Transferred():
                self._transferred(does)
            case Plain("hung up"):
                if not any(isinstance(each, HungUp) and each.by != "caller" for each in self._fresh()):
                    raise self.fail("the other side has not hung up")
            case Wait(seconds):
                await self._wait(seconds)
            case Act(words):
                await self._act(words)
            case _:
                await self._person_does(does)
                return
        if not isinstance(does, Wait | Act):
            self._tell("==", write(does))

    async def _person_does(self, does: Call | Press | Say | Plain) -> None:
        """Something that somebody does with a telephone; what follows is heard afresh."""
        self._caller_does(write(does))
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

    def afresh(self) -> None:
        """The caller does something: what is expected from here on comes after it."""
        self._since = len(self.line.heard) if self.lines else 0
        self._heard_to = 0

    def _caller_does(self, words: str) -> None:
        self.afresh()
        self._tell(">>", words)

    def _listen(self) -> None:
        """Put what has been heard since into the transcript; keep the tokens handed over."""
        for event in self.line.heard[self._told :]:
            self._text.append(f"<< {describe(event)}")
            if makes_a_sound(event):
                self._listener("<<", describe(event))
            self.tokens += tokens_of(event)
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
            raise self.fail(f"expected to hear {quoted(text)}: {late}")
        self._heard_to = place + len(words)

    def _transferred(self, wanted: Transferred) -> None:
        events = [each for each in self._fresh() if _went_to(each, wanted)]
        if not events:
            raise self.fail(f"the call has not gone to {wanted.kind} {quoted(wanted.name)}")
        if wanted.with_token and not any(token for each in events for token in tokens_of(each)):
            raise self.fail("the call has gone there without a token")

    def _keys(self, template: str) -> str:
        return re.sub(r"\{([a-z0-9_]+)\}", lambda found: self._value(found[1]), template)

    def _value(self, name: str) -> str:
        if name not in self.world.values:
            raise self.fail(f"the world has no value '{name}'; there is: {', '.join(self.world.values)}")
        try:
            return self.world.values[name]()
        except LookupError as fault:
            raise self.fail(str(fault)) from None

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
        self._tell(">>", write(self._step.does))
        passing = self.world.advance(seconds)
        if passing is not None:
            await passing

    async def _act(self, words: str) -> None:
        for form, action in self._actions:
            filled = form.read(words)
            if filled is not None:
                self._tell(">>", words)
                await action(self, *filled)
                if self.lines:
                    self._listen()
                return
        raise self.fail("the world has no such verb")


Action: TypeAlias = Callable[..., Awaitable[None]]
"""What a line of the world's does: it gets the scene, and what the line fills in, in order."""


def _nobody(mark: str, words: str) -> None:
    """Nobody listens."""


async def play(story: Story, exchange: Exchange, *, world: World, listener: Listener = _nobody) -> Transcript:
    """Play a story on an exchange. Raises `StoryFailed` at the first step that does not come true."""
    return await Scene(story, exchange, world, listener).play()


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


def tokens_of(event: Event) -> list[str]:
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
