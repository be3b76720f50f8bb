"""The call that an agent holds, and no other one: for everybody else it never was."""

from dataclasses import replace
from typing import Any

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.call import Call, own_ledger_id
from ivrguard.core.caller import address_of
from ivrguard.core.errors import StoreFault
from ivrguard.core.handoff import Leg
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.standing import Status
from ivrguard.guard import books, held
from ivrguard.ports import Change, Put

Centre = Any

ANN, BOB = Agent("ann"), Agent("agent:bob")
SID = "CA" + "0a1b2c3d" * 4


async def put(store, key, value):
    await store.amend([key], lambda _: Change(None, (Put(key, value),)))


def a_leg(call, nth, agent=""):
    """The nth hand-over of a call, redeemed by this agent ("": by nobody yet)."""
    return Leg(
        id=f"{call}-{nth}",
        call=call,
        account="123456789",
        queues=("client:ada",),
        carriers=("parameter",),
        intent="agent",
        acr=("one_factor",),
        amr=("pin",),
        auth_ms=0,
        issued_ms=1,
        expires_ms=2**50,
        redeemed_ms=2 if agent else None,
        agent=agent,
    )


async def a_call(centre, *agents, sid=SID, **more):
    """A call in the store that was handed over to these, one after the other."""
    legs = [a_leg(sid, nth, agent) for nth, agent in enumerate(agents)]
    flow, now = centre.flow, centre.clock()
    caller = address_of("+15551230001")
    call = Call(sid, "AC1", flow.name, flow.version, caller, "+18005550100", attested=False, began_ms=now)
    usual = {
        "account": "123456789",
        "known": True,
        "enrolled": ("pin",),
        "legs": tuple(leg.id for leg in legs),
    }
    usual["proofs"] = (Proof("pin", Kind.PIN, now, 1),)
    call = replace(call, **{**usual, **more})
    for leg in legs:
        await put(centre.store, books.leg_key(leg.id), leg)
    await put(centre.store, books.call_key(sid), call)
    return call


async def test_who_redeemed_the_last_token_holds_the_call(centre: Centre):
    """With its flow and its hand-overs, in order."""
    call = await a_call(centre, "agent:bob", "ann")
    world = centre.node().world
    found = await held.held(world, ANN, SID)

    assert found is not None
    assert (found.call, found.mounted.flow) == (call, centre.flow)
    assert [leg.agent for leg in found.legs] == ["agent:bob", "ann"]
    assert await held.held(world, BOB, SID) is None


@pytest.mark.parametrize("agents", [(), ("",), ("ann", ""), ("ann", "agent:bob"), ("agent:bob",), ("ANN",)])
async def test_nobody_else_does(centre: Centre, agents):
    """Not before the token is redeemed, not once the caller is handed on, nor by another name."""
    await a_call(centre, *agents)
    assert await held.held(centre.node().world, ANN, SID) is None


@pytest.mark.parametrize(
    "sid", ["CA" + "f" * 32, "", "CA1", SID.upper(), SID + "0", SID + "\n", f"{SID}/..", "*"]
)
async def test_a_call_that_never_was_and_what_is_no_callsid(centre: Centre, sid):
    await a_call(centre, "ann")
    assert await held.held(centre.node().world, ANN, sid) is None


async def test_a_hand_over_that_is_kept_no_longer_is_left_out(centre: Centre):
    """An earlier one: the call is held all the same. The last one: nobody holds it."""
    await a_call(centre, "agent:bob", "ann")
    world = centre.node().world
    await put(centre.store, books.leg_key(f"{SID}-0"), None)
    found = await held.held(world, ANN, SID)
    assert found is not None
    assert [leg.agent for leg in found.legs] == ["ann"]
    await put(centre.store, books.leg_key(f"{SID}-1"), None)
    assert await held.held(world, ANN, SID) is None


async def test_a_call_whose_flow_is_gone_is_nobodys(centre: Centre):
    """There is nothing to judge it by."""
    await a_call(centre, "ann", flow="gone")
    assert await held.held(centre.node().world, ANN, SID) is None


async def test_it_is_seen_as_it_stands_now(centre: Centre):
    """With the account's own books: what others guessed at it elsewhere is seen as well."""
    call = await a_call(centre, "ann")
    world = centre.node().world
    found = await held.held(world, ANN, SID)
    assert found is not None
    before = await held.seen(world, found)
    centre.clock.advance(1)
    rule = centre.flow.locks.account
    attempts = tuple(Attempt(str(nth), centre.clock()) for nth in range(rule.failures))
    name = own_ledger_id(centre.flow, call, "pin")
    await put(centre.store, books.ledger_key(name), Ledger(attempts, run=len(attempts)))
    after = await held.seen(world, found)

    assert (before.account, before.attempts_left, before.now_ms) == (
        "123456789",
        rule.failures,
        call.began_ms,
    )
    assert (after.status, after.attempts_left, after.now_ms) == (Status.LOCKED, 0, centre.clock())


async def test_a_call_that_no_account_was_claimed_in_is_seen_too(centre: Centre):
    """It came to an agent as it is: not verified, and no account's books are read."""
    await a_call(centre, "ann", account="", known=False, enrolled=(), proofs=())
    world = centre.node().world
    found = await held.held(world, ANN, SID)
    assert found is not None
    seen = await held.seen(world, found)
    assert (seen.status, seen.account, seen.able, seen.attempts_left) == (Status.NOT_VERIFIED, "", (), None)


async def test_a_store_that_is_down_says_so(centre: Centre):
    """Nobody is taken for somebody who holds nothing: the panel must say that it does not know."""
    await a_call(centre, "ann")
    world = centre.node().world
    await centre.store.close()
    with pytest.raises(StoreFault):
        await held.held(world, ANN, SID)
