"""Two nodes at the same moment: one webhook at both, fifty guesses, one token; one that stalls while the other goes on."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.faults.counts import APOLOGY, Count, count, said, task
from tests.faults.house import FAILURES, House
from tests.faults.killed import Cut, Story
from tests.faults.nodes import until


async def both_at_once(house: House, *, webhooks: int) -> Count:
    """
    Each webhook of a call goes to both nodes at the same moment, until so many were sent.

    Both must get the same answer, or the one that came second none at all, and nothing may happen twice.
    """
    callers, found = [], Count()
    with house.road.by_turns():
        while sum(len(line.requests) for caller in callers for line in caller.lines) < webhooks:
            story = Story(house, await house.caller())
            story.line.send_twice = True
            callers.append(story.caller)
            for act in Story.ACTS:
                if story.line.over:
                    found.lost.append(f"a call broke off before {act!r}")
                    break
                await story.act(act)
            for request in story.line.requests:
                answers = {answer.body for answer in (request.answer, request.twin) if answer is not None}
                if request.purpose == "document" and len(answers) != 1:
                    found.doubled.append(f"two answers to {request.url}")
    found += await count(house, callers)
    return found


async def guess_at_once(house: House, *, calls: int) -> Count:
    """So many calls from as many numbers guess at one account at the same moment, by turns at each node."""
    caller = await house.caller()
    with house.road.by_turns():
        lines = [await house.asked_for_pin(caller, number=f"+1557{number:07}") for number in range(calls)]
        await asyncio.gather(*(line.press(caller.wrong()) for line in lines))
        await asyncio.gather(*(line.hang_up() for line in lines if not line.over))
    busy = sum(APOLOGY in " ".join(said(line)) for line in lines)  # no hash thread was free for them for long
    found = await count(house, [caller], gave_up=busy)
    looked_at = {
        one["guess"] for one in house.judged() if one["account"] == caller.account and one["allowed"]
    }
    if len(looked_at) < FAILURES:
        found.lost.append(f"{len(looked_at)} guesses were judged of {FAILURES}")
    return found


async def redeemed_at_once(house: House, *, tokens: int, desks: int = 10) -> Count:
    """Each token is presented ten times at the same moment, by turns at each node."""
    callers = []
    for _ in range(tokens):
        story = Story(house, await house.caller())
        callers.append(story.caller)
        for act in ("begin", "account", "wrong", "right", "agent"):
            await story.act(act)
        await house.another_desk()
        token = task(story.line)
        with house.road.by_turns():
            await asyncio.gather(*(house.redeem(story.caller, story.line, token) for _ in range(desks)))
        await story.act("hang up")
    found = await count(house, callers)
    found.lost += ["a token was worth nothing"] * sum(not caller.receipts for caller in callers)
    return found


async def stalled(house: House, cuts: Sequence[Cut]) -> Count:
    """
    A node stops (SIGSTOP) in a webhook; Twilio gives up on it and tries the other one; then the first goes on.

    What it does then must come to nothing: the other one has answered.
    """
    callers = []
    slow = house.nodes[0]
    for number, cut in enumerate(cuts):
        story = Story(house, await house.caller())
        callers.append(story.caller)
        for name in Story.ACTS:
            if name != cut.act:
                await story.act(name)
                continue
            house.road.give_up = impatience = asyncio.Event()
            slow.dies_at(cut.step, cut.nth, by=signal.SIGSTOP)
            acting = asyncio.create_task(story.act(name))
            await until(lambda: slow.state() == "T", f"{slow.name} stops: {cut}")
            goes_on = house.folder / f"goes_on.{number}"
            slow.traces(goes_on)
            with house.road.leading(lambda: 1):
                impatience.set()
                await acting
            slow.signal(signal.SIGCONT)
            if cut.step != "before the answer":  # nobody is there to take it: no step comes after that one
                await until(lambda goes_on=goes_on: _answers(goes_on), f"{slow.name} goes on: {cut}")
            slow.lives()
    return await count(house, callers)


def _answers(trace: Path) -> bool:
    return trace.exists() and "before the answer" in trace.read_text().splitlines()
