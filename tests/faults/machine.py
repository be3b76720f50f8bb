"""What the guard stands on: a disk that is full, clocks that jump or differ, and being told to stop in the middle of calls."""

import asyncio
import signal
import socket
import time
from pathlib import Path

from ivrguard.phone.heard import Asked
from tests.faults.counts import APOLOGY, Count, count, said, settled
from tests.faults.disk import Disk
from tests.faults.house import FAILURES, LOCK_S, Caller, House
from tests.faults.killed import Story
from tests.faults.nodes import DEADLINE_S, Node, until

HOUR_S = 3600
SKEW_S = 600
"""A third of the lock: what nodes may differ by without a lock ending early is what their locks have left."""


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────


async def disk_full(house: House, disk: Disk, *, calls: int) -> Count:
    """
    The disk fills up while callers are asked for their PIN; they answer, others call; then there is room again.

    Nobody's answer may be judged that was not counted, nobody may get to the IVR, everybody hears the apology; and
    afterwards all goes on as if nothing had been.
    """
    asked = [await house.caller() for _ in range(calls)]
    lines = [await house.asked_for_pin(caller) for caller in asked]
    others = [await house.caller() for _ in range(calls)]
    disk.fill([node.pid for node in house.nodes])
    judged = len(house.judged())
    try:
        await _until_it_is_felt(house, others[0])
        await asyncio.gather(*(line.press(caller.right()) for caller, line in zip(asked, lines, strict=True)))
        ringing = [house.call(caller) for caller in others]
        await asyncio.gather(*(line.until_input() for line in ringing))
    finally:
        disk.make_room([node.pid for node in house.nodes])
    found = Count()
    found.through += ["a guess was judged that the disk did not take"] * (len(house.judged()) - judged)
    for line in (*lines, *ringing):
        if APOLOGY not in " ".join(said(line)):
            found.lost.append(f"{line.heard}: no apology")
    for caller in asked:
        story = Story(house, caller)
        for act in Story.ACTS:
            await story.act(act)
    found += await settled(house, [*asked, *others], gave_up=len(asked))
    return found


async def _until_it_is_felt(house: House, caller: Caller) -> None:
    """The write-ahead log has some room of its own: calls go on until that is used up."""
    end = time.monotonic() + DEADLINE_S
    while True:
        assert time.monotonic() < end, "the disk does not fill up"
        line = house.call(caller)
        await line.until_input()
        if line.over:
            return
        await line.hang_up()


async def log_full(house: House, *, calls: int) -> Count:
    """Nothing can be written to the log of either node: calls go on as ever."""
    for node in house.nodes:
        node.logs_to(Path("/dev/full"))
    with house.road.by_turns():
        stories = [Story(house, await house.caller()) for _ in range(calls)]
        for story in stories:
            for act in Story.ACTS:
                await story.act(act)
        for node in house.nodes:
            node.logs_to(None)
        for _ in house.nodes:  # the next step leads it back
            await Story(house, await house.caller()).act("begin")
    for node in house.nodes:
        node.lives()
    return await count(house, [story.caller for story in stories])


# ── the clock ────────────────────────────────────────────────────────────────────────────────────────────


async def clock_jumps(house: House, *, jumps: int) -> Count:
    """
    The clock of a node jumps two hours ahead and back again, over and over, while somebody guesses.

    A jump ahead ends what time ends, once: the lock of half an hour. The way back and any further jump to the same hour
    end nothing more, because the next lock counts from the latest time that was seen.
    """
    node = house.nodes[0]
    caller = await house.caller()
    for _ in range(jumps):
        for ahead_s in (0, 2 * HOUR_S):
            _set(node, ahead_s)
            await _guesses_until_refused(house, caller)
    _set(node, -HOUR_S)
    await _guesses_until_refused(house, caller)
    _set(node, 0)
    return await count(house, [caller], windows=2)


async def _guesses_until_refused(house: House, caller: Caller) -> None:
    """Two calls, of three answers each: more than a lock takes."""
    for _ in range(2):
        line = await house.asked_for_pin(caller, number=f"+1558{next(house.numbers):07}")
        while isinstance(line.waiting, Asked):
            await line.press(caller.wrong())


async def code_and_clock(house: House) -> Count:
    """The right code, after a jump of an hour ahead, and after one back: both times it is no good."""
    node, callers, lines = house.nodes[0], [], []
    for ahead_s in (HOUR_S, -HOUR_S):
        caller = await house.caller(texted="0")
        line = house.call(caller, path="/wire/amount")
        await line.until_input()
        await line.press(f"{caller.account}#")
        await line.press(caller.right())
        code = house.carrier.code_for(caller.texted)
        _set(node, ahead_s)
        await line.press(code)
        _set(node, 0)
        if not line.over:
            await line.hang_up()
        callers.append(caller)
        lines.append(line)
    found = await count(house, callers)
    calls = {line.call_sid for line in lines}
    found.through += [
        f"{one.path}" for one in house.ivr.got if one.call in calls and one.path.startswith("/wire")
    ]
    return found


async def token_and_clock(house: House) -> Count:
    """A token is presented after a jump of an hour ahead, and after one back: it is worth nothing."""
    node, callers, worth = house.nodes[0], [], []
    for ahead_s in (HOUR_S, -HOUR_S):
        story = Story(house, await house.caller())
        callers.append(story.caller)
        for act in Story.ACTS:
            if act == "redeem":
                _set(node, ahead_s)
            await story.act(act)
            _set(node, 0)
        if story.redeemed != 403:
            worth.append(f"a token {ahead_s} s away: {story.redeemed}")
    found = await count(house, callers)
    found.through += worth
    return found


async def clocks_differ(house: House) -> Count:
    """The second node is ten minutes ahead; guesses go to both by turns, before and while the account is locked."""
    caller = await house.caller()
    _set(house.nodes[1], SKEW_S)
    with house.road.by_turns():
        for _ in range(4):
            await _guesses_until_refused(house, caller)
    _set(house.nodes[1], 0)
    assert SKEW_S < LOCK_S
    found = await count(house, [caller])
    judged = {one["guess"] for one in house.judged() if one["account"] == caller.account and one["allowed"]}
    assert len(judged) <= FAILURES or not found.clean
    return found


def _set(node: Node, ahead_s: int) -> None:
    node.clock.write_text(str(ahead_s * 1000))


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


async def drained(house: House, *, calls: int) -> Count:
    """SIGTERM while so many webhooks are under way: all are answered, nobody new is taken, it ends with 0, and in time."""
    node = house.nodes[0]
    callers = [await house.caller() for _ in range(calls)]
    lines = [house.call(caller, path="/bad/held") for caller in callers]
    under_way = [asyncio.create_task(line.until_input()) for line in lines]
    await until(lambda: len(house.ivr.holding) == calls, "all webhooks are under way")
    node.signal(signal.SIGTERM)
    await until(lambda: _refuses(node), "new connections are refused")
    house.ivr.let_go.set()
    began = time.monotonic()
    await asyncio.gather(*under_way)
    code, took_s = await node.ended(), time.monotonic() - began
    await node.start()
    house.ivr.let_go.clear()
    for line in lines:
        await line.hang_up()
    found = await count(house, callers)
    found.lost += [f"{line.heard}" for line in lines if "Main menu." not in said(line)]
    if (code, took_s < DEADLINE_S) != (0, True):
        found.lost.append(f"it ended with {code} after {took_s:.1f} s")
    return found


def _refuses(node: Node) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", node.port)) != 0
