"""
An attack, and what came of it: values.

Laws of this file
 1. Whatever was not tried says why; nothing is left out without a word.
 2. What was let through names the place in the flow that lets it, and the mend; without a place it is the guard's own
    fault, and the mend is to report it.
 3. No secret is in an outcome: numbers, names of factors, paths and queues of the flow.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from ivrguard.core.flow import Flow
from ivrguard.phone.redteam.ground import Ground, Hole, Honest


class Verdict(StrEnum):
    """What came of an attack."""

    HELD = "held"
    LET_THROUGH = "let through"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Attack:
    """
    One attack. `name`: as it is called for; `says`: what it does, for people; `source`: who published it.

    `lacks`: why it cannot be played against a flow; "" if it can. `play`: plays it, and tells the ground what it tried
    and what got through.
    """

    name: str
    says: str
    source: str
    play: Callable[[Ground], Awaitable[None]]
    lacks: Callable[[Flow], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one attack. `tried`: what, and how often. `why`: it was not tried. `notes`: worth knowing, and no hole.

    `felt`: the owner's own calls, before and after.
    """

    attack: Attack
    verdict: Verdict
    tried: tuple[tuple[str, int], ...] = ()
    holes: tuple[Hole, ...] = ()
    notes: tuple[str, ...] = ()
    felt: tuple[Honest, ...] = ()
    why: str = ""
    seconds: float = 0.0
