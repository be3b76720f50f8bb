"""The agent's desk: its keys, and a token for a receipt, once."""

import asyncio
from typing import Any

import pytest

from ivrguard.core.errors import StoreFault
from ivrguard.core.handoff import DESK_RULE, Desk
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import books, desk
from ivrguard.keyring import Keyring
from ivrguard.stores.memory import MemoryStore

Centre = Any
Line = Any

ISSUER = "https://guard.example"
ACCOUNT = "123456789"
STRANGER = "+15559870002"
PIN = "24681357"
WRONG = "11112229"
SECRET = "a-desk-key-of-the-test"

TRANSFERS = {
    "token": "<Dial><Client>ada</Client></Dial>",
    "code": "<Dial>+18005550142</Dial>",
    "call": "<Enqueue>support</Enqueue>",
}


async def with_agent(centre: Centre, how: str = "token", line: Line | None = None) -> Line:
    """A verified caller on his way to an agent; one factor is all that it needs."""
    centre.having(rules=(Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),))
    centre.ivr.pages["/menu"] = TRANSFERS[how]
    line = await centre.verified(line)
    await line.press("0")
    await line.go_on()
    assert line.outcome == "transfer", line.outcome
    return line


async def presented(centre: Centre, line: Line, how: str = "token") -> str:
    """What the agent's side has of this transfer."""
    leg = (await centre.stored(line)).legs[-1]
    made = {
        "token": books.token_of,
        "code": lambda keys, leg: books.code_of(keys, leg, 0),
        "call": lambda *_: line.sid,
    }
    return made[how](centre.keys, leg)


async def desk_at(centre: Centre, *queues: str, name: str = "ann", secret: str = SECRET) -> Desk:
    """A desk that serves these queues (all, if none is named)."""
    await desk.add(centre.store, name, queues or ("*",), secret=secret, now_ms=centre.clock())
    found = await centre.node().desk(secret)
    assert found is not None
    return found


async def refusals(centre: Centre) -> list[str]:
    """Why tokens were refused, as the record has it."""
    events = {"authn_token_refused", "authn_token_reuse"}
    return [entry.reason for entry in await centre.record() if entry.event in events]


# ── keys of desks ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_desk_is_known_by_its_key_until_it_is_revoked(centre: Centre):
    """All keys of the name end at once, each on record; the key itself is never kept; again is not twice."""
    guard = centre.node()
    for name, secret in (("ann", "key one"), ("ann", "key two"), ("bob", "key three")):
        await desk.add(centre.store, name, ("client:*",), secret=secret, now_ms=centre.clock())
    assert (await guard.desk("key one")).name == "ann"
    assert await guard.desk("key four") is None

    assert await desk.revoke(centre.store, "ann", now_ms=centre.clock() + 1) == 2
    assert await desk.revoke(centre.store, "ann", now_ms=centre.clock() + 2) == 0

    assert [await guard.desk(f"key {name}") is not None for name in ("one", "two", "three")] == [
        False,
        False,
        True,
    ]
    states = [(one.name, one.revoked_ms) for _, one in await desk.every(centre.store)]
    assert sorted(states, key=str) == [("ann", centre.clock() + 1)] * 2 + [("bob", None)]
    kept = b"".join(row.data + row.key.id.encode() for row in centre.store.store._rows.values())
    assert b"key one" not in kept
    assert [await centre.events(f"desk_{what}") for what in ("created", "revoked")] == [
        ["added"] * 3,
        ["revoked"] * 2,
    ]


async def test_a_revocation_misses_no_desk(monkeypatch: pytest.MonkeyPatch):
    """However many pages of desks there are."""
    monkeypatch.setattr(desk, "DESKS_A_PAGE", 2)
    store = MemoryStore()
    for number in range(7):
        await desk.add(store, "ann", ("*",), secret=str(number), now_ms=0)

    assert len(await desk.every(store)) == 7
    assert await desk.revoke(store, "ann", now_ms=1) == 7


# ── redemption ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", TRANSFERS)
async def test_a_token_gets_a_receipt_once(centre: Centre, keys: Keyring, how: str):
    """A token, a whispered code, or the CallSid where nothing can be carried; the second time it is worth nothing."""
    line = await with_agent(centre, how)
    ann, guard = await desk_at(centre), centre.node()
    centre.clock.advance(5)
    token = await presented(centre, line, how)

    receipt = await guard.redeem(ann, token, line.sid)
    again = await guard.redeem(ann, token, line.sid)

    assert again is None
    assert await refusals(centre) == ["spent"]
    assert (receipt.call_sid, receipt.account, receipt.acr, receipt.amr) == (
        line.sid,
        ACCOUNT,
        "one_factor",
        ("pin",),
    )
    assert (receipt.age_s, receipt.intent) == (5, "agent")
    assert [(one.intent, one.level, one.held) for one in receipt.may] == [("agent", "one_factor", True)]
    leg = await centre.store.read(books.leg_key((await centre.stored(line)).legs[-1]))
    claims = keys.verify(
        receipt.jwt, typ="ivrguard-receipt+jwt", iss=ISSUER, aud=leg.queues[0], now_ms=centre.clock()
    )
    assert (claims["sub"], claims["act"], claims["call_sid"]) == (ACCOUNT, {"sub": "ann"}, line.sid)
    assert (leg.agent, leg.redeemed_ms) == ("ann", centre.clock())
    assert receipt.jwt not in repr(receipt)


async def test_whose_token_is_redeemed_is_in_the_list_of_what_he_took(centre: Centre):
    """In the same act; a token that is no good puts nothing into it."""
    line = await with_agent(centre)
    ann, guard = await desk_at(centre), centre.node()
    key = books.holding_key("ann")
    assert await guard.redeem(ann, "0" * 26, line.sid) is None
    assert await centre.store.read(key) is None
    assert await guard.redeem(ann, await presented(centre, line), line.sid) is not None
    assert await centre.store.read(key) == ((line.sid, centre.clock()),)


@pytest.mark.parametrize("how", TRANSFERS)
async def test_what_an_agent_was_handed_outlives_a_rotation(centre: Centre, rotated: Keyring, how: str):
    """The caller waits in the queue while the naming key changes: what his agent holds is good, once."""
    line = await with_agent(centre, how)
    ann, token = await desk_at(centre), await presented(centre, line, how)
    guard = centre.node("rotated", keys=rotated)

    assert await guard.redeem(ann, token, line.sid) is not None
    assert await guard.redeem(ann, token, line.sid) is None


async def test_the_agent_sees_what_speaks_against_the_number(centre: Centre):
    """A call that was forwarded through a gateway: for his eyes, and for the record; nothing proved is taken away."""
    forwarded = ("StirVerstat", "TN-Validation-Passed-C-Diverted")
    line = await with_agent(centre, line=centre.line(extra=(forwarded,)))

    receipt = await centre.node().redeem(await desk_at(centre), await presented(centre, line), line.sid)

    assert (receipt.notes, receipt.acr) == (("attestation_gateway", "diverted"), "one_factor")
    claimed = [entry.detail for entry in await centre.record() if entry.event == "account_claimed"]
    assert claimed == [(("lane", "pool"), ("notes", "attestation_gateway,diverted"))]


async def test_a_token_may_be_keyed_in_either_case_and_without_the_call(centre: Centre):
    """A desk that does not know which call it holds says nothing of it."""
    line = await with_agent(centre)
    token = await presented(centre, line)
    assert await centre.node().redeem(await desk_at(centre), token.lower(), None) is not None


BAD = {
    "another call": "other_call",
    "another queue": "other_queue",
    "run out": "expired",
    "the caller left": "ended",
    "the account was locked": "locked",
    "a later transfer": "superseded",
}


@pytest.mark.parametrize("how", BAD)
async def test_what_was_true_at_the_transfer_is_looked_at_again(centre: Centre, how: str):
    """One answer for all that is bad, and one entry each that says why."""
    line = await with_agent(centre)
    token, guard = await presented(centre, line), centre.node()
    ann, call_sid = await desk_at(centre, "client:*" if how != "another queue" else "workflow:*"), line.sid
    match how:
        case "another call":
            call_sid = "CA" + "0" * 32
        case "run out":
            centre.clock.advance(centre.flow.token_valid_s)
        case "the caller left":
            await guard.status(line.delivery(status="completed"))
        case "the account was locked":
            for _ in range(2):
                other = centre.line(STRANGER)
                await other.dial()
                await other.press(f"{ACCOUNT}#")
                for _ in range(3):
                    await other.press(WRONG)
        case "a later transfer":
            await line.post("/menu")
            await line.go_on()

    assert await guard.redeem(ann, token, call_sid) is None
    assert await refusals(centre) == [BAD[how]]


@pytest.mark.parametrize("forged", ["", "nonsense", "0" * 26, "00000000", "CA" + "0" * 32])
async def test_a_forged_token_is_counted_against_the_desk(centre: Centre, forged: str):
    """Also one that could not be a token at all."""
    ann = await desk_at(centre)

    assert await centre.node().redeem(ann, forged, None) is None

    assert await refusals(centre) == ["forged"]
    ledger = await centre.store.read(books.ledger_key("desk/ann"))
    assert len(ledger.attempts) == 1


async def test_a_desk_that_guesses_is_locked(centre: Centre):
    """Twenty in an hour; then not even a good token is looked at, until the lock ends. Others work on."""
    line = await with_agent(centre)
    ann, bob = await desk_at(centre), await desk_at(centre, name="bob", secret="another")
    guard, token = centre.node(), await presented(centre, line)
    for guess in range(DESK_RULE.failures):
        await guard.redeem(ann, f"{guess:08}", None)

    assert await guard.redeem(ann, token, None) is None
    assert (await refusals(centre))[-2:] == ["forged", "desk_locked"]
    ledger = await centre.store.read(books.ledger_key("desk/ann"))
    assert len(ledger.attempts) == DESK_RULE.failures
    assert await guard.redeem(bob, token, None) is not None


async def test_a_receipt_costs_a_desk_nothing(centre: Centre):
    """What was counted before it was looked at is taken back when it was good; other mistakes stay."""
    line = await with_agent(centre)
    ann, guard = await desk_at(centre), centre.node()
    await guard.redeem(ann, "12345678", None)

    await guard.redeem(ann, await presented(centre, line), None)

    ledger = await centre.store.read(books.ledger_key("desk/ann"))
    assert (len(ledger.attempts), ledger.run) == (1, 1)


async def test_ten_desks_at_once_and_one_receipt(centre: Centre):
    """On two nodes, all at the same moment: one act decides."""
    line = await with_agent(centre)
    ann, token = await desk_at(centre), await presented(centre, line)
    nodes = [centre.node(name) for name in "ab" * 5]

    receipts = await asyncio.gather(*(node.redeem(ann, token, None) for node in nodes))

    assert sum(receipt is not None for receipt in receipts) == 1
    assert await refusals(centre) == ["spent"] * 9


async def test_a_call_of_a_flow_that_is_gone_has_no_tokens(centre: Centre):
    """Its file was taken away: nobody can say any more what the token was worth."""
    line = await with_agent(centre)
    ann, token = await desk_at(centre), await presented(centre, line)
    centre.nodes.clear()
    centre.having(name="another")

    assert await centre.node().redeem(ann, token, None) is None
    assert await refusals(centre) == ["forged"]


async def test_a_call_swept_meanwhile_has_no_tokens(centre: Centre):
    """Between the look-up and the act the call went: the token names nobody."""
    line = await with_agent(centre)
    ann, token = await desk_at(centre), await presented(centre, line)
    call, leg = (
        await centre.stored(line),
        await centre.store.read(books.leg_key((await centre.stored(line)).legs[-1])),
    )
    world = centre.world()
    mounted = world.flows.kept(call)
    await centre.store.sweep(centre.clock() + 3 * 24 * 3600 * 1000)

    outcome = await desk._amend(world, ann, leg, call, mounted, None)

    assert outcome.reason == "forged"
    assert token


async def test_a_store_that_is_down_is_said_to_be(centre: Centre):
    """Nobody is told that a token is bad because the store cannot look."""
    line = await with_agent(centre)
    ann, token = await desk_at(centre), await presented(centre, line)
    centre.store.fault = StoreFault("down")
    with pytest.raises(StoreFault):
        await centre.node().redeem(ann, token, None)
    centre.store.fault = None

    assert await centre.node().redeem(ann, token, None) is not None


async def test_the_record_names_the_desk_and_never_its_key(centre: Centre):
    """Who redeemed which transfer for what."""
    line = await with_agent(centre)
    await centre.node().redeem(await desk_at(centre), await presented(centre, line), None)

    [entry] = [entry for entry in await centre.record() if entry.event == "authn_token_redeemed"]
    assert dict(entry.detail) == {"desk": "ann", "queues": "client:ada", "intent": "agent"}
    assert SECRET not in str(await centre.record())
