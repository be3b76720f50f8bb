"""Where everybody is who calls, answers calls, or tries to get in."""

import asyncio
import random
import string
from collections.abc import Awaitable
from dataclasses import dataclass, field

from tests.sim import town
from tests.sim.nodes import WORKFLOW
from tests.sim.oracle import Oracle
from tests.sim.phone import Line, Provider

DESKS = {
    f"workflow:{WORKFLOW}": "Task",
    "enqueue:support": "CallSid",
    "number:+18005550142": "whisper",
    "client:ada": "Parameter",
    "sip:sip:agents@pbx.example": "header",
}
"""Each queue, and how its agents get the token."""


@dataclass
class Stage:
    """Where everybody is. `left`: how many calls may still begin. `desks`: the keys, by queue."""

    town: town.Town
    provider: Provider
    oracle: Oracle
    left: int
    desks: dict[str, str] = field(default_factory=dict, repr=False)
    lines: list[Line] = field(default_factory=list)
    overheard: list[tuple[town.Person, str]] = field(default_factory=list, repr=False)
    """Codes that were keyed within earshot, and whose they are."""
    read: list[str] = field(default_factory=list, repr=False)
    """What was read out to agents."""

    def line(self, chance: random.Random, number: str, *, attested: bool = False) -> Line:
        """A new call, from this number."""
        self.left -= 1
        stir = (
            town.ATTESTED
            if attested
            else chance.choice((None, "TN-Validation-Passed-B", "TN-Validation-Failed-C"))
        )
        line = Line(self.provider, f"CA{chance.getrandbits(128):032x}", number, stir)
        line.began_s = asyncio.get_running_loop().time()
        self.lines.append(line)
        return line

    def recent(self, count: int) -> list[Line]:
        """The last calls, none older than half a day: nobody repeats a request when its call is forgotten."""
        since_s = asyncio.get_running_loop().time() - 43_200
        return [line for line in self.lines[-count:] if line.posted and line.began_s > since_s]

    def number(self, chance: random.Random) -> str:
        """A number that is nobody's here; now and then it is withheld."""
        return "anonymous" if chance.random() < 0.1 else f"+1555{chance.randint(6_000_000, 9_999_999)}"


def pause(chance: random.Random, least_s: float = 2, most_s: float = 12) -> Awaitable[None]:
    """People take their time."""
    return asyncio.sleep(chance.uniform(least_s, most_s))


def wrong(chance: random.Random, digits: int = 8) -> str:
    """A guess."""
    return "".join(chance.choices(string.digits, k=digits))
