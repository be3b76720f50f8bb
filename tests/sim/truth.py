"""
What is true of a call, whatever the guard makes of it: what the oracle remembers.

Nothing here imports the guard. Times are ms since the epoch, as the record has them.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from tests.sim.model import Proof

STEPS_SHOWN = 14


@dataclass
class Leg:
    """
    A hand-over: its queue, when it was made, for which transfer (`cut`), its token once seen, and what became of it.

    `account`: whom the caller spoke for. `passed`: whether an agent made it. `agent`: who took it, "" while nobody has.
    """

    call: "CallTruth"
    queues: str
    issued_ms: int
    cut: str
    account: str
    passed: bool = False
    token: str = ""
    agent: str = ""

    @property
    def redeemed(self) -> bool:
        return self.agent != ""


@dataclass
class Read:
    """A code that an agent asked for: for whom, when; what it was, once it went out; what became of it."""

    agent: str
    asked_ms: int
    intent: str = ""
    code: str = ""
    misses: int = 0
    used: bool = False


@dataclass
class CallTruth:
    """What is true of a call. `texts`: the codes sent in it: code, intent, when; `steps`: what happened last."""

    sid: str
    caller: str
    attested: bool
    versions: set[str] = field(default_factory=set)
    account: str = ""
    lane: str = "pool"
    proofs: dict[tuple[str, str], Proof] = field(default_factory=dict)
    """By factor, and for a code that was read to an agent by what it was for: such a one stays beside the others."""
    texts: list[tuple[str, str, int]] = field(default_factory=list)
    cut: str = ""
    cut_act: int = 0
    """Which transfer was asked for last, and in which act: what was proved before counts as old."""
    legs: list[Leg] = field(default_factory=list)
    held_until: dict[str, int] = field(default_factory=dict)
    """Who held the call and does not any more, and which act ended that."""
    read: Read | None = None
    """The code that an agent may type an answer to: the last one."""
    passed: dict[tuple, Leg] = field(default_factory=dict)
    """Which hand-over an agent's request made."""
    told: dict[tuple, bool] = field(default_factory=dict)
    """Which request of an agent's was told what of its answer."""
    read_right: set[tuple] = field(default_factory=set)
    """Which of them are on record as right."""
    shown: set[str] = field(default_factory=set)
    """The accounts that something was proved for: no agent sees another one."""
    ended_ms: int | None = None
    answers: dict[tuple, bytes] = field(default_factory=dict)
    decisions: Counter = field(default_factory=Counter)
    struck: set[tuple] = field(default_factory=set)
    """Requests that met a fault in one of their deliveries: what they are answered may differ."""
    last: tuple = ()
    """Which request changed it last: what was answered to one before that is overtaken."""
    flying: int = 0
    disturbed: bool = False
    """Whether something happened in it that a caller who does as he is told does not meet."""
    script: tuple[str, ...] = ()
    kept: tuple = ()
    steps: deque = field(default_factory=lambda: deque(maxlen=STEPS_SHOWN))

    @property
    def ended(self) -> bool:
        return self.ended_ms is not None

    @property
    def holder(self) -> str:
        """Who has the caller: the last hand-over counts, and while nobody has taken what was passed on, the one before."""
        legs = self.legs
        while len(legs) > 1 and legs[-1].passed and not legs[-1].redeemed:
            legs = legs[:-1]
        return legs[-1].agent if legs else ""
