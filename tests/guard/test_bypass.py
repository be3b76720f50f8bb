"""
Legs of a call, held against the documents that the guard wrote: what went round it is told once, and nothing else is.

What the provider says of a call's legs is a table here; over real sockets: tests/web/test_side_door.py.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ivrguard.core.errors import NotifyFault
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.ports import Leg

Centre = Any
OPEN, CLOSED, OTHER = "+18005550142", "+18005550143", "+18005550144"
RULES = (
    Rule(ANYONE, transfer=Target("number", OPEN)),
    Rule(Demand("one_factor"), transfer=Target("*", "*")),
)


@dataclass
class Legs:
    """What the provider says, and the notices that came of it."""

    children_of: dict[str, dict[str, Leg]] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    fault: Exception | None = None

    async def children(self, account_sid: str, call_sid: str) -> dict[str, Leg]:
        assert account_sid == "AC" + "5e" * 16
        if self.fault is not None:
            raise self.fault
        return self.children_of.get(call_sid, {})


@pytest.fixture
def legs(centre: Centre) -> Legs:
    made = Legs()
    centre.having(rules=RULES)
    centre.node("a", watcher=made, tell=made.told.append)
    return made


async def a_call(centre: Centre):
    """A caller who went to an open and to a protected target."""
    centre.ivr.pages["/menu"] = f"<Dial>{OPEN}</Dial><Dial>{CLOSED}</Dial>"
    line = await centre.verified()
    await line.press("0")
    await line.go_on()
    assert line.outcome == "transfer"
    return line


def dialled(line: Any, *numbers: str) -> dict[str, Leg]:
    return {f"CA{nth:032}": Leg(line.from_, to, "outbound-dial", line.sid) for nth, to in enumerate(numbers)}


async def over(centre: Centre, line: Any) -> None:
    await centre.node().status(line.delivery(status="completed"))
    await centre.node()._background.drain()


async def test_the_guards_own_transfers_are_no_alarm(centre: Centre, legs: Legs):
    line = await a_call(centre)
    legs.children_of[line.sid] = dialled(line, OPEN, CLOSED, "client:+1", "8005550142")
    del legs.children_of[line.sid][f"CA{2:032}"]
    await over(centre, line)
    assert legs.told == []
    assert await centre.events("transfer_unseen") == []


async def test_a_transfer_that_went_round_is_told_once(centre: Centre, legs: Legs, logged: Any):
    """On record with the call, without a number; told to the risk team by the SIDs."""
    line = await a_call(centre)
    legs.children_of[line.sid] = dialled(line, OPEN, OTHER)
    await over(centre, line)
    await over(centre, line)
    [notice] = legs.told
    assert (notice.type, notice.data["call"], notice.data["leg"]) == (
        "transfer.unseen",
        line.sid,
        f"CA{1:032}",
    )
    [entry] = [one for one in await centre.record() if one.event == "transfer_unseen"]
    assert (entry.call, dict(entry.detail)) == (line.sid, {"leg": f"CA{1:032}"})
    for place in (str(notice), str(entry), str(logged)):
        assert OTHER not in place


async def test_a_leg_tells_of_itself(centre: Centre, legs: Legs):
    """Where its callbacks come to the guard, no provider is asked; again is not twice; a leg of no call of ours is nobody's."""
    line = await a_call(centre)
    for to, parent in ((OTHER, line.sid), (OTHER, line.sid), (OPEN, line.sid), (OTHER, "CA" + "9" * 32)):
        leg = centre.line(line.from_, to=to, direction="outbound-dial", sid="CA" + "7" * 32)
        await centre.node().status(leg.delivery(status="completed", ParentCallSid=parent))
        await centre.node()._background.drain()
    assert len(legs.told) == 1


async def test_a_provider_that_does_not_say_is_a_line_in_the_log(centre: Centre, legs: Legs, logged: Any):
    line = await a_call(centre)
    legs.fault = NotifyFault("no answer")
    await over(centre, line)
    assert (legs.told, [one["event"] for one in logged][-1]) == ([], "message_not_sent")


async def test_who_does_not_watch_is_not_told(centre: Centre):
    centre.having(rules=RULES)
    line = await a_call(centre)
    await over(centre, line)
    assert await centre.events("transfer_unseen") == []


async def test_a_call_that_was_swept_meanwhile(centre: Centre, legs: Legs):
    await centre.node()._bypasses.ended("CA" + "8" * 32, legs)
    assert legs.told == []
