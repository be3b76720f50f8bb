"""The button over a socket: who may press it, what it begins, and what it says when it cannot."""

from dataclasses import replace

import pytest

from ivrguard.core.aside import Denied
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.phone.heard import Asked, Bridged
from ivrguard.phone.rig import PUBLIC_URL
from ivrguard.ports import Account
from ivrguard.web.agents.asides import MENDS

AGENT, PIN = "+18005550142", "24681357"


@pytest.fixture
async def centre(start, agents_flow, ivr):
    """A guard that bridges every transfer to a phone, and one caller's account."""
    ivr.documents["/voice"] = f"<Dial>{AGENT}</Dial>"
    bridged = Rule(Demand("one_factor", intent="agent", bridge=True), transfer=Target("number", "*"))
    async with start(replace(agents_flow, rules=(bridged,))) as guarded:
        guarded.exchange.number(AGENT, f"{PUBLIC_URL}/")
        yield guarded


@pytest.fixture
def joined(centre):
    """A caller who talks to an agent whose desk redeemed the whispered code."""

    async def talking(desk):
        await centre.enrol(Account("123456"), pin=PIN)
        line = centre.call()
        await line.until_input()
        await line.press("123456#")
        await line.press(PIN)
        await settle(centre)
        agent = list(centre.calls.lines.values())[-1]
        code = "".join(filter(str.isdigit, agent.heard[0].text))
        status, _ = await centre.redeem(desk.key, code, line.call_sid)
        assert status == 201
        return line

    return talking


async def settle(centre):
    guard = centre.server.guard
    while guard._background._running or centre.calls._moving:
        await guard._background.drain()
        await centre.calls.settled()


async def press(desk, sid, body):
    url = f"{desk.centre.guard_url}/.ivrguard/agent/v1/calls/{sid}/aside"
    async with desk.centre.session.post(
        url, json=body, headers={"Authorization": f"Bearer {desk.key}"}
    ) as answer:
        return answer.status, await answer.json()


async def test_the_button_leads_aside_and_the_call_says_how_it_went(centre, desk, joined):
    ann = await desk("ann")
    line = await joined(ann)
    seen = [(await ann.get(f"calls/{line.call_sid}"))[1]["aside"]]
    assert await press(ann, line.call_sid, {}) == (202, {"call_sid": line.call_sid, "factor": "pin"})
    await settle(centre)
    assert isinstance(line.waiting, Asked)
    status, refused = await press(ann, line.call_sid, {"factor": "pin"})
    assert (status, refused["error"]) == (409, "aside")
    seen.append((await ann.get(f"calls/{line.call_sid}"))[1]["aside"])
    await line.press(PIN)
    await settle(centre)
    assert isinstance(line.waiting, Bridged)
    seen.append((await ann.get(f"calls/{line.call_sid}"))[1]["aside"])
    assert seen == [
        {"ready": True, "apart": False},
        {"ready": False, "apart": True},
        {"ready": True, "apart": False, "last": "verified"},
    ]


async def test_who_does_not_hold_it_and_what_is_no_json(centre, desk, joined):
    ann, bob = await desk("ann"), await desk("bob")
    line = await joined(ann)
    assert await press(bob, line.call_sid, {}) == (404, {"error": "not_found"})
    assert (await press(ann, line.call_sid, {"factor": "a b"}))[0] == 400
    assert (await press(ann, line.call_sid, {"digits": "1234"}))[0] == 400
    assert (await press(ann, line.call_sid, {"factor": "code"})) == (
        409,
        {"error": "no_such_factor", "mend": MENDS[Denied.NO_SUCH_FACTOR]},
    )


async def test_a_look_at_a_call_has_done_what_was_left_undone(centre, desk, joined):
    """The node that was to lead him aside is gone: the panel's next look gives it up, and the button works again."""
    ann = await desk("ann")
    line = await joined(ann)
    centre.calls.fail_next(500, 0)
    world = centre.server.guard.bridges
    world._lead_aside, before = nothing, world._lead_aside
    await press(ann, line.call_sid, {})
    world._lead_aside = before
    centre.clock.advance(30)
    await ann.get(f"calls/{line.call_sid}")
    await settle(centre)
    assert (await ann.get(f"calls/{line.call_sid}"))[1]["aside"] == {
        "ready": True,
        "apart": False,
        "last": "not_reached",
    }


async def nothing(*_):
    """As if the process had ended."""


def test_every_reason_says_what_to_do():
    assert MENDS.keys() == set(Denied)
