"""
Processes killed with SIGKILL, or stopped, in every step of a webhook; and the same webhook again.

The steps are found out, not listed: a call is traced through the whole of its way, and then made once for each step that
there was, with the process killed there. The webhook comes again, by turns to the other node and to the same one started anew.
"""

import asyncio
import itertools
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from ivrguard.core import call as calls
from ivrguard.phone.exchange import Line
from tests.faults.counts import Count, count
from tests.faults.house import Caller, House
from tests.faults.nodes import Node, until


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a process ends: in which act of a call, at which step, and which time within that act."""

    act: str
    step: str
    nth: int


class Story:
    """A call from its beginning to its end, act by act, so that something can happen in each."""

    ACTS = ("begin", "account", "wrong", "right", "agent", "redeem", "hang up")

    def __init__(self, house: House, caller: Caller) -> None:
        self.house, self.caller = house, caller
        self.line: Line = house.call(caller)
        self.redeemed = 0

    async def act(self, name: str) -> None:
        """One act."""
        match name:
            case "begin":
                await self.line.until_input()
            case "account":
                await self.line.press(f"{self.caller.account}#")
            case "wrong":
                await self.line.press(self.caller.wrong())
            case "right":
                await self.line.press(self.caller.right())
            case "agent":
                await self.line.press("0")
            case "redeem":
                self.redeemed = await redeemed(self.house, self.caller, self.line)
            case "hang up":
                await self.line.hang_up()


async def redeemed(house: House, caller: Caller, line: Line) -> int:
    """What the desk hears of the token; it tries once more when the connection breaks."""
    try:
        return await house.redeem(caller, line)
    except aiohttp.ClientError:
        with house.road.leading(lambda: 1):
            return await house.redeem(caller, line)


async def steps(house: House, acts: Sequence[str] = Story.ACTS) -> list[Cut]:
    """Every step of every act of a call, in order, as node 0 comes to them."""
    story, found = Story(house, await house.caller()), []
    for act in Story.ACTS:
        file = house.folder / f"trace.{act.replace(' ', '_')}.{story.caller.account}"
        house.nodes[0].traces(file)
        await story.act(act)
        await until(lambda file=file: _whole(file), f"the answers of {act!r} are out")
        came: dict[str, int] = {}
        for step in file.read_text().splitlines():
            came[step] = came.get(step, 0) + 1
            found.append(Cut(act, step, came[step]))
    house.nodes[0].lives()
    return [cut for cut in found if cut.act in acts]


def _whole(file: Path) -> bool:
    came = file.read_text().splitlines()
    return came.count("before the answer") == came.count("after the answer") > 0


async def killed(house: House, cuts: Sequence[Cut]) -> Count:
    """One call for each cut; node 0 is killed there, and started anew."""
    callers = []
    for number, cut in enumerate(cuts):
        story = Story(house, await house.caller())
        callers.append(story.caller)
        await _through(house, story, cut, elsewhere=number % 2 == 0)
    return await count(house, callers)


async def _through(house: House, story: Story, cut: Cut, *, elsewhere: bool) -> None:
    victim = house.nodes[0]
    anew: list[asyncio.Task[None]] = []

    async def again(at: int) -> int:
        if not anew:
            anew.append(asyncio.create_task(_anew(victim)))
        if not elsewhere:
            await anew[0]
        return at + 1 if elsewhere else at

    with house.road.leading(again=again):
        for act in Story.ACTS:
            if act != cut.act:
                await story.act(act)
                continue
            victim.dies_at(cut.step, cut.nth)
            await story.act(act)
            if not anew:  # the answer was out already, or it was the desk's
                anew.append(asyncio.create_task(_anew(victim)))
            await anew[0]
            last = story.line.requests[-1]
            if act not in {"redeem", "hang up"}:
                repeated = await story.line.repeat()
                assert repeated.body == (last.answer.body if last.answer else b""), cut


async def forsaken(house: House, cuts: Sequence[Cut]) -> Count:
    """
    The same while a wrong PIN is judged, and the webhook never comes again: the caller hears the fallback.

    The guess must be counted as the failure that it was.
    """
    callers = []
    victim = house.nodes[0]
    for cut in cuts:
        story = Story(house, await house.caller())
        callers.append(story.caller)
        for act in ("begin", "account"):
            await story.act(act)
        turns = itertools.count()
        # All that comes behind goes to the other one.
        with house.road.leading(lambda turns=turns: min(next(turns), 1), tries=1):
            victim.dies_at(cut.step, cut.nth)
            await story.act("wrong")
        await _anew(victim)
    return await count(house, callers, gave_up=len(callers))


async def sending(house: House, steps: Sequence[str]) -> Count:
    """
    The same while a code is sent. The webhook that comes again says once more that it was; the caller asks for another one.

    A message is never sent twice for one entry on record.
    """
    callers = []
    victim = house.nodes[0]
    anew: list[asyncio.Task[None]] = []

    async def again(at: int) -> int:
        anew.append(asyncio.create_task(_anew(victim)))
        return at + 1

    with house.road.leading(again=again):
        for step in steps:
            caller = await house.caller(texted="0")
            callers.append(caller)
            line = house.call(caller, path="/wire/amount")
            await line.until_input()
            await line.press(f"{caller.account}#")
            victim.dies_at(step)
            await line.press(caller.right())
            await anew.pop()
            await line.press(f"{calls.ANOTHER_CODE_KEY}#")
            await line.press(house.carrier.code_for(caller.texted))
            assert line.over, line.heard
    found = await count(house, callers)
    for caller in callers:
        (line,) = caller.lines
        if not any(one.path == "/wire/amount" and one.call == line.call_sid for one in house.ivr.got):
            found.lost.append(f"{line.heard}: no way to the IVR")
    return found


async def _anew(node: Node) -> None:
    await until(lambda: not node.alive(), f"{node.name} is killed")
    assert await node.ended() == -signal.SIGKILL
    node.lives()
    await node.start()
