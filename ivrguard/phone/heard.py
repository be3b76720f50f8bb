"""What a person on a pretend call hears, and what he may do about it.

Laws of this file
 1. An event is a plain value in the past tense: what reached one ear, once. Together, in order, they are the
    call as that ear knows it.
 2. What may hold a secret (a task's attributes, parameters, a whisper) does not show in a repr; keys that
    were pressed are no event at all.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol, TypeAlias

SILENCES_MAX = 5
"""How often a scripted person who has run out of keys stays silent before hanging up."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in order, doubles kept."""


class HangsUp(Enum):
    """What a `Person` answers who puts the receiver down."""

    HANGS_UP = "hangs up"


HANGS_UP = HangsUp.HANGS_UP
Keys: TypeAlias = str | HangsUp | None
"""What a person does when asked: keys, `None` for silence, or `HANGS_UP`."""


@dataclass(frozen=True, slots=True)
class Said:
    """Words spoken by `<Say>` (marks of SSML dropped, blanks collapsed)."""

    text: str
    language: str = "en-US"


@dataclass(frozen=True, slots=True)
class Played:
    """A sound played; `status` is what its server answered (0: nothing)."""

    url: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class Paused:
    """Silence made by `<Pause>`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """`<Gather>` has spoken its prompts and waits for the caller."""

    action: str
    method: str = "POST"
    num_digits: int | None = None
    finish_on_key: str = "#"
    timeout_s: float = 5.0
    input: str = "dtmf"
    action_on_empty: bool = False

    def collect(self, keys: str) -> tuple[str, str, bool]:
        """Cut `keys` as Gather does: (digits sent, finish key or "", whether no timeout was needed).

        The finish key is not among the digits; what follows it, or follows the last of `numDigits`, is lost.
        """
        for place, key in enumerate(keys):
            if key == self.finish_on_key:
                return keys[:place], key, True
            if place + 1 == self.num_digits:
                return keys[: place + 1], "", True
        return keys, "", False


@dataclass(frozen=True, slots=True)
class Recording:
    """`<Record>` has beeped and listens."""

    action: str
    method: str = "POST"
    finish_on_key: str = "1234567890*#"
    timeout_s: float = 5.0
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording was made; `ended_by` is a key, `hangup`, or empty (silence)."""

    url: str
    seconds: int
    ended_by: str


@dataclass(frozen=True, slots=True)
class Target:
    """One party named inside `<Dial>`.

    `kind` is the noun in small letters; `name` its number, identity, SIP address, room or queue;
    `parameters` what it is given along: `<Parameter>` of a client, headers of a SIP address.
    `whisper_url`: TwiML for the callee alone before the two are connected; `wait_url`, and `attributes` as
    they stand there: for a conference.
    """

    kind: str
    name: str
    parameters: Pairs = field(default=(), repr=False)
    whisper_url: str | None = None
    whisper_method: str = "POST"
    wait_url: str | None = None
    wait_method: str = "POST"
    status_callback: str | None = None
    status_method: str = "POST"
    status_events: frozenset[str] = frozenset({"completed"})
    attributes: Pairs = field(default=(), repr=False, compare=False)

    @property
    def address(self) -> str:
        """How the party stands in `To`."""
        return f"client:{self.name}" if self.kind == "client" else self.name


@dataclass(frozen=True, slots=True)
class Dialled:
    """`<Dial>` rang its targets. `status` as in DialCallStatus (`answered` while they talk).

    `whispered` is what the party that picked up was told before being connected.
    """

    targets: tuple[Target, ...]
    status: str
    bridged: bool
    whispered: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Bridged:
    """Caller and somebody else can talk; the line rests here until one of them leaves."""

    agent: str


@dataclass(frozen=True, slots=True)
class Queued:
    """`<Enqueue>` has put the caller into a queue (`name`) or before a TaskRouter workflow."""

    name: str
    workflow: str = ""
    task: str = field(default="", repr=False)
    wait_url: str = ""

    @property
    def attributes(self) -> dict[str, object]:
        """The task's attributes: `<Task>` must hold a JSON object."""
        read: dict[str, object] = json.loads(self.task or "{}")
        return read


@dataclass(frozen=True, slots=True)
class Referred:
    """`<Refer>` has handed a SIP call to another address."""

    target: str


@dataclass(frozen=True, slots=True)
class Connected:
    """`<Connect>` has given the caller to a machine (`noun`), which the test plays with `relay_ends`."""

    noun: str
    url: str = ""
    parameters: Pairs = field(default=(), repr=False)
    action: str | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class HungUp:
    """The call is over: the caller left, the document ended it, or an error did."""

    by: Literal["caller", "document", "error"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A document could not be had or run: Twilio's error code, and the URL it was about."""

    code: int
    url: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something was ignored, and the call went on: the code, and what it was about."""

    code: int
    about: str


Event: TypeAlias = (
    Said
    | Played
    | Paused
    | Asked
    | Recording
    | Recorded
    | Dialled
    | Bridged
    | Queued
    | Referred
    | Connected
    | HungUp
    | Failed
    | Warned
)
Waiting: TypeAlias = Asked | Recording | Queued | Bridged | Connected


def describe(event: Event) -> str:
    """One line about an event, as a transcript shows it. Nothing that may be a secret is in it."""
    match event:
        case Said(text, _):
            return f'"{text}"'
        case Played(url, status):
            return f"plays {url}" if 200 <= status < 300 else f"cannot play {url}"
        case Paused(seconds):
            return f"pauses for {seconds:g} s"
        case Asked(input=kind):
            return "waits for keys" if kind == "dtmf" else "waits for keys or words"
        case Recording():
            return "beeps and records"
        case Recorded(_, seconds, _):
            return f"has recorded {seconds} s"
        case Dialled(targets, status, _):
            return f"dials {', '.join(f'{each.kind} {each.name}' for each in targets) or 'nobody'}: {status}"
        case Bridged(agent):
            return f"connects the caller with {agent}"
        case Queued(name, workflow):
            return f"puts the caller into {f'workflow {workflow}' if workflow else f'queue {name}'}"
        case Referred(target):
            return f"refers the caller to {target}"
        case Connected(noun, url):
            return f"connects the caller with a machine ({noun} {url})"
        case HungUp(by):
            return {"caller": "the caller has hung up", "document": "hangs up", "error": "breaks off"}[by]
        case Failed(code, url):
            return f"fails with error {code} at {url}"
        case _:
            return f"warns with {event.code} about {event.about}"


def makes_a_sound(event: Event) -> bool:
    """Whether the caller notices it: pauses, waiting and his own hanging up are silence."""
    return not isinstance(event, Asked | Paused) and event != HungUp("caller")


class Person(Protocol):
    """Somebody with a telephone in the hand; see `Line.converse`."""

    async def hears(self, event: Event) -> str:
        """Hear something; what is returned is keyed at once, over it ("": nothing).

        A key stops the rest of a Gather's prompts; outside a Gather it is lost.
        """

    async def keys(self, waiting: Asked | Recording) -> Keys:
        """Answer a Gather or end a recording."""


class Script:
    """A person who presses these keys in turn, then is silent a few times, then hangs up."""

    def __init__(self, *keys: Keys) -> None:
        self._left = deque([*keys, *[None] * SILENCES_MAX])

    async def hears(self, event: Event) -> str:
        """Hear without a word."""
        del event
        return ""

    async def keys(self, waiting: Asked | Recording) -> Keys:
        """The next of the script."""
        del waiting
        return self._left.popleft() if self._left else HANGS_UP


@dataclass(frozen=True, slots=True)
class AgentBehaviour:
    """What a dialled party does.

    `does`: `answer`, or the DialCallStatus of one who does not. `keys` are pressed in turn when a whisper
    asks; `person`, when given, stands in for them. `talk_s`: how long they talk before `leaves` hangs up;
    `None`: the line rests in `Bridged` until the test says so.
    """

    does: Literal["answer", "busy", "no-answer", "failed"] = "answer"
    keys: tuple[Keys, ...] = field(default=(), repr=False)
    person: Person | None = None
    talk_s: float | None = None
    leaves: Literal["agent", "caller"] = "agent"
