"""Callers passed on from agent to agent, taken from unguarded queues, spoken for: on a real store."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Sends
from ivrguard.core.passing import CLAIM_RULE, Why
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.core.standing import Status
from ivrguard.guard import books
from ivrguard.guard.held import HeldCall, held, seen
from ivrguard.guard.passing import PassedOn
from ivrguard.keyring import Keyring

Centre = Any
Line = Any

ISSUER = "https://guard.example"
ACCOUNT, PIN = "123456789", "24681357"
ANN, BOB, CARL = (Agent(name, queues=("*",)) for name in ("ann", "bob", "carl"))
WIRES = Target("workflow", "wires")


async def with_agent(centre: Centre, agent: Agent = ANN) -> Line:
    """A caller in the hands of an agent."""
    if not centre.nodes:
        wires = Demand("one_factor", reverify="one_factor", intent="wire")
        centre.having(
            rules=(
                Rule(wires, transfer=WIRES),
                Rule(ANYONE, transfer=Target("enqueue", "fraud")),
                Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),
            ),
            factors={**centre.flow.factors, "code": replace(centre.flow.factors["code"], sends=Sends(9, 9))},
        )
        centre.ivr.pages["/menu"] = "<Enqueue>support</Enqueue>"
    line = await centre.verified()
    await line.press("0")
    await line.go_on()
    assert await centre.node().redeem(agent.as_desk(), line.sid, None) is not None
    return line


async def pass_on(centre: Centre, line: Line, agent: Agent = ANN, to: Target = WIRES, **more: str):
    return await centre.node().pass_on(
        agent, line.sid, to=to, intent=more.get("intent", ""), request=more.get("request", "p-1")
    )


async def standing_of(centre: Centre, line: Line, agent: Agent):
    found = await held(centre.node().world, agent, line.sid)
    return await seen(centre.node().world, found) if found is not None else None


async def test_a_caller_is_passed_on_and_needs_one_factor_again(centre: Centre, keys: Keyring):
    """The first agent holds him until the next one redeems; then there is one holder, and one factor more is wanted."""
    line = await with_agent(centre)
    assert (await standing_of(centre, line, ANN)).status is Status.VERIFIED

    passed = await pass_on(centre, line)
    assert isinstance(passed, PassedOn)
    assert passed.token not in repr(passed)
    assert (passed.carrier, passed.queue) == ("task", "workflow:wires")
    assert (await standing_of(centre, line, ANN)).status is Status.VERIFIED
    assert await standing_of(centre, line, BOB) is None

    receipt = await centre.node().redeem(BOB.as_desk(), passed.token, line.sid)
    assert await standing_of(centre, line, ANN) is None
    standing = await standing_of(centre, line, BOB)
    assert (standing.status, standing.intent) == (Status.NEEDS_FACTOR, "wire")
    assert standing.needs == ("pin",)
    claims = keys.verify(
        receipt.jwt, typ="ivrguard-receipt+jwt", iss=ISSUER, aud="workflow:wires", now_ms=centre.clock()
    )
    assert claims["act"] == {"sub": "bob", "act": {"sub": "ann"}}

    await centre.node().ask_code(BOB, line.sid, request="r")
    told = await centre.node().answer_code(BOB, line.sid, request="a", digits=centre.texts.code())
    assert told.right
    assert (await standing_of(centre, line, BOB)).status is Status.VERIFIED


async def test_a_token_that_was_passed_on_works_once(centre: Centre):
    """Ten desks at once: one has the caller. Not for another queue, another call, nor after a later passing on."""
    line = await with_agent(centre)
    passed = await pass_on(centre, line)
    desks = [Agent(f"desk-{number}", queues=("workflow:*",)).as_desk() for number in range(10)]

    assert (
        await centre.node().redeem(replace(BOB.as_desk(), queues=("enqueue:*",)), passed.token, None) is None
    )
    assert await centre.node().redeem(BOB.as_desk(), passed.token, "CA" + "1" * 32) is None
    receipts = await asyncio.gather(*(centre.node().redeem(desk, passed.token, None) for desk in desks))
    assert sum(receipt is not None for receipt in receipts) == 1

    line = await with_agent(centre)
    first = await pass_on(centre, line, request="p-1")
    second = await pass_on(centre, line, request="p-2", to=Target("client", "carl"))
    assert await centre.node().redeem(BOB.as_desk(), first.token, None) is None
    assert await centre.node().redeem(CARL.as_desk(), second.token, None) is not None


async def test_the_same_request_is_the_same_token(centre: Centre):
    """And nothing changes; once there is a later one, it is told that it is good no longer; and who lost him, nothing."""
    line = await with_agent(centre)
    passed = await pass_on(centre, line)
    before, entries = await centre.stored(line), len(await centre.record())

    assert await pass_on(centre, line) == passed
    assert (await centre.stored(line), len(await centre.record())) == (before, entries)
    later = await pass_on(centre, line, request="p-2")
    assert later.token != passed.token
    assert await pass_on(centre, line) is Why.SUPERSEDED
    assert await pass_on(centre, line, intent="made up", request="p-3") is Why.UNKNOWN_INTENT
    assert await centre.node().redeem(BOB.as_desk(), later.token, None) is not None
    assert await pass_on(centre, line, request="p-2") is None


@pytest.mark.parametrize(
    ("to", "carrier", "looks"),
    [
        (Target("workflow", "wires"), "task", 26),
        (Target("client", "bob"), "parameter", 26),
        (Target("sip", "sip:bob@desk.example"), "sip", 26),
        (Target("number", "+18005550142"), "whisper", 8),
        (Target("conference", "room"), "call", 34),
    ],
)
async def test_what_the_next_agent_presents(centre: Centre, to: Target, carrier: str, looks: int):
    """A token where it can be carried, a short code to be told, the CallSid where there is nothing else."""
    line = await with_agent(centre)

    passed = await pass_on(centre, line, to=to)

    assert (passed.carrier, len(passed.token)) == (carrier, looks)
    assert await centre.node().redeem(BOB.as_desk(), passed.token, None) is not None


async def test_without_a_code_to_tell_nobody_is_passed_on(centre: Centre, monkeypatch):
    """Every code drawn is taken: a fault, and nothing changes."""
    line = await with_agent(centre)
    before = await centre.stored(line)
    monkeypatch.setattr(books, "free_code", lambda *_: None)

    with pytest.raises(Fault):
        await pass_on(centre, line, to=Target("number", "+18005550142"))
    assert await centre.stored(line) == before
    assert await pass_on(centre, line, BOB) is None


async def test_hops_stand_in_the_receipt_in_their_order(centre: Centre, keys: Keyring):
    """Five of them, and it is no longer than a thousand characters."""
    line = await with_agent(centre)
    agents = [ANN, *(Agent(f"agent:{'x' * 40}-{number}", queues=("*",)) for number in range(5))]
    for number, (giver, taker) in enumerate(pairwise(agents)):
        passed = await pass_on(centre, line, giver, request=f"p-{number}")
        receipt = await centre.node().redeem(taker.as_desk(), passed.token, None)

    claims = keys.verify(
        receipt.jwt, typ="ivrguard-receipt+jwt", iss=ISSUER, aud="workflow:wires", now_ms=centre.clock()
    )
    names, act = [], claims["act"]
    while act:
        names.append(act["sub"])
        act = act.get("act")
    assert len(receipt.jwt) <= 1_024
    assert len(set(names)) == 5
    assert all(name.startswith("agent:xxx") for name in names)


async def test_a_webhook_that_is_under_way_is_answered_all_the_same(centre: Centre):
    """Passing on is a turn of the call: what the IVR is asked just then is not asked again, and the caller hears its answer."""
    line = await with_agent(centre)
    centre.ivr.pages["/after"] = "<Say>After the agent.</Say>"
    centre.ivr.gate = asyncio.Event()
    answered = asyncio.create_task(line.post(f"{ISSUER}/after"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert "/after" in centre.ivr.paths()
    passed = await pass_on(centre, line)
    centre.ivr.gate.set()

    assert (await answered).outcome == "forwarded"
    assert line.said == "After the agent."
    assert centre.ivr.paths().count("/after") == 1
    assert await centre.node().redeem(BOB.as_desk(), passed.token, None) is not None
    assert (await line.again()).outcome == "repeated"


async def test_an_answer_that_is_judged_just_then_is_one_guess(centre: Centre, monkeypatch):
    """The caller keys his PIN while the agent passes him on: it is counted once, judged once, and on record once."""
    line = await with_agent(centre)
    centre.ivr.pages["/after"] = '<Enqueue workflowSid="wires"/>'
    await line.post(f"{ISSUER}/after")
    await line.go_on()
    judge = centre.pins.judge
    judged = 0

    async def slow(*answer: object) -> object:
        nonlocal judged
        judged += 1
        assert isinstance(await pass_on(centre, line), PassedOn)
        return await judge(*answer)

    monkeypatch.setattr(centre.pins, "judge", slow)
    before = await centre.events("authn_attempt")
    await line.press("00000000")
    assert judged == 1
    assert len(await centre.events("authn_attempt")) == len(before) + 1
    assert len((await centre.ledger()).attempts) == 1


async def test_an_answer_that_a_node_left_unjudged_is_one_guess(centre: Centre, monkeypatch):
    """The same where the node died behind the count, and the webhook comes again once the caller was passed on."""
    line = await with_agent(centre)
    centre.ivr.pages["/after"] = '<Enqueue workflowSid="wires"/>'
    await line.post(f"{ISSUER}/after")
    await line.go_on()
    judge = centre.pins.judge

    async def dies(*_: object) -> object:
        raise asyncio.CancelledError

    monkeypatch.setattr(centre.pins, "judge", dies)
    with pytest.raises(asyncio.CancelledError):
        await line.press("00000000")
    monkeypatch.setattr(centre.pins, "judge", judge)
    assert isinstance(await pass_on(centre, line), PassedOn)
    await line.again("b")
    assert len((await centre.ledger()).attempts) == 1


# ── first contact ────────────────────────────────────────────────────────────────────────────────────────


async def led_to(centre: Centre, inside: str = "<Enqueue>fraud</Enqueue>", *, verified: bool = False) -> Line:
    """A caller whom the IVR has put through with nothing asked."""
    hours = (Rule(ANYONE, path="/voice"), Rule(ANYONE, path="/help"))
    centre.having(rules=(*hours, Rule(ANYONE, transfer=Target("enqueue", "fraud")), *centre.flow.rules))
    centre.ivr.pages["/help"] = inside
    if verified:
        centre.having(rules=centre.flow.rules[1:])
        line = await centre.verified()
    else:
        line = centre.line()
        await line.dial()
    await line.post(f"{ISSUER}/help")
    assert line.outcome == "forwarded", line.outcome
    return line


async def test_a_call_that_nobody_asked_anything_is_taken_by_its_call_sid(centre: Centre, keys: Keyring):
    """By one agent of that queue, once; nothing is said to be proved, no account is named; two factors are wanted."""
    line = await led_to(centre)
    others = replace(BOB.as_desk(), queues=("enqueue:support",))
    assert await centre.node().redeem(others, line.sid, None) is None
    assert await centre.node().redeem(ANN.as_desk(), line.sid, "CA" + "1" * 32) is None

    desks = [Agent(f"desk-{number}", queues=("enqueue:*",)).as_desk() for number in range(5)]
    receipts = await asyncio.gather(*(centre.node().redeem(desk, line.sid, line.sid) for desk in desks))
    (receipt,) = [one for one in receipts if one is not None]

    assert (receipt.acr, receipt.account, receipt.amr, receipt.age_s) == ("none", "", (), 0)
    claims = keys.verify(
        receipt.jwt, typ="ivrguard-receipt+jwt", iss=ISSUER, aud="enqueue:fraud", now_ms=centre.clock()
    )
    assert "sub" not in claims
    assert await centre.events("call_taken") == ["unverified"]
    holder = next(Agent(desk.name, queues=("*",)) for desk, one in zip(desks, receipts, strict=True) if one)
    standing = await standing_of(centre, line, holder)
    assert (standing.status, standing.account, standing.acr) == (Status.NOT_VERIFIED, "", ())
    assert standing.needs == ("pin", "code")


async def test_what_was_proved_before_counts(centre: Centre):
    """One of the two factors at the IVR, the other one read to the agent."""
    line = await led_to(centre, verified=True)
    receipt = await centre.node().redeem(ANN.as_desk(), line.sid, None)

    assert (receipt.acr, receipt.account) == ("one_factor", ACCOUNT)
    assert (await standing_of(centre, line, ANN)).needs == ("code",)
    await centre.node().ask_code(ANN, line.sid, request="r")
    assert (await centre.node().answer_code(ANN, line.sid, request="a", digits=centre.texts.code())).right
    assert (await standing_of(centre, line, ANN)).status is Status.VERIFIED


@pytest.mark.parametrize("known", [True, False])
async def test_an_account_that_the_caller_names_is_told_to_nobody(centre: Centre, known: bool):
    """The same answer, the same standing, the same questions, whether there is such an account or not."""
    line = await led_to(centre)
    await centre.node().redeem(ANN.as_desk(), line.sid, None)
    asked = await centre.node().ask_code(ANN, line.sid, request="r-0")
    assert asked == "no_account"

    named = await centre.node().name_account(ANN, line.sid, ACCOUNT if known else "987654321")

    assert isinstance(named, HeldCall)
    standing = await standing_of(centre, line, ANN)
    assert (standing.status, standing.account, standing.needs, standing.able) == (
        Status.NOT_VERIFIED,
        "",
        ("pin", "code"),
        (),
    )
    assert (standing.attempts_left, standing.disabled) == (centre.flow.locks.account.failures, False)
    await centre.node().ask_code(ANN, line.sid, request="r-1")
    await centre.node()._background.drain()
    assert len(centre.texts.sent) == known
    told = await centre.node().answer_code(
        ANN, line.sid, request="a", digits=centre.texts.code() if known else "123456"
    )
    assert told.right is known
    standing = await standing_of(centre, line, ANN)
    assert (standing.account, standing.needs) == ((ACCOUNT, ("pin",)) if known else ("", ("pin", "code")))
    assert await centre.events("account_claimed") == ["known" if known else "unknown"]


async def test_an_agent_cannot_look_for_accounts(centre: Centre):
    """So many an hour, whatever he names; and none at all on a call that he does not hold."""
    line = await led_to(centre)
    await centre.node().redeem(ANN.as_desk(), line.sid, None)
    told = [
        await centre.node().name_account(ANN, line.sid, f"{number:06}")
        for number in range(CLAIM_RULE.failures + 1)
    ]

    assert told[-1] is Why.TOO_MANY_CLAIMS
    assert all(isinstance(one, HeldCall) for one in told[:-1])
    assert await centre.node().name_account(BOB, line.sid, ACCOUNT) is None
    assert [await centre.node().name_account(ANN, line.sid, digits) for digits in ("1", "1" * 13)] == [
        Why.MISTYPED
    ] * 2, "key 1, for the number on file, is the caller's own"
    again = (await centre.stored(line)).account
    assert isinstance(await centre.node().name_account(ANN, line.sid, again), HeldCall)


async def test_a_call_that_is_lost_while_its_account_is_looked_up(centre: Centre, monkeypatch):
    line = await led_to(centre)
    await centre.node().redeem(ANN.as_desk(), line.sid, None)
    directory = centre.node().world.directory
    real = directory.by_id

    async def slow(account):
        await line.post(f"{ISSUER}/hours", status="completed")
        call = await centre.stored(line)
        key = books.leg_key(call.legs[-1])
        leg = await centre.store.store.read(key)
        from ivrguard.ports import Change, Put

        await centre.store.store.amend([key], lambda _: Change(None, (Put(key, replace(leg, agent="bob")),)))
        return await real(account)

    monkeypatch.setattr(directory, "by_id", slow)
    assert await centre.node().name_account(ANN, line.sid, ACCOUNT) is None


@pytest.mark.parametrize(
    ("inside", "unguarded"),
    [
        ("<Enqueue>fraud</Enqueue>", ("enqueue:fraud",)),
        ("<Say>Hello.</Say>", ()),
        ("<Enqueue>fraud</Enqueue><Dial>+18005550142</Dial>", ("enqueue:fraud",)),
        ("<Dial>+18005550142</Dial><Enqueue>fraud</Enqueue>", ()),
    ],
)
async def test_where_a_document_leads_with_nothing_asked(
    centre: Centre, inside: str, unguarded: tuple[str, ...]
):
    """What stands before the first transfer that needs something; the next document's instead, when it comes."""
    line = await led_to(centre, inside)
    assert (await centre.stored(line)).unguarded == unguarded

    centre.ivr.pages["/help"] = "<Say>Bye.</Say>"
    await line.post(f"{ISSUER}/help?again=1")
    assert (await centre.stored(line)).unguarded == ()
