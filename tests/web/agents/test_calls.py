"""The calls that an agent holds, over a socket: all that he sees, and one answer for everything else."""

from dataclasses import replace
from datetime import datetime

from ivrguard.core.agents import AFTER_CALL_S
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.standing import Held, Shown, Standing, Status
from ivrguard.guard import books
from ivrguard.ports import Account, Change, Credential, Put
from ivrguard.web.agents.calls import at, shown

PIN = "24681357"
NOT_FOUND = (404, {"error": "not_found"})
WORKFLOW = "WW" + "a1" * 16
BEGAN_MS = 1_800_000_000_250

NOTHING = Standing(
    status=Status.NOT_VERIFIED,
    call_sid="CA" + "0" * 32,
    reference="00000000",
    caller="anonymous",
    account="",
    intent="",
    acr=(),
    proofs=(),
    legs=(Held("", BEGAN_MS, None, ("client:ada",), ()),),
    may=(),
    needs=("pin",),
    able=(),
    risks=(),
    attempts_left=None,
    locked_until_ms=None,
    disabled=False,
    began_ms=BEGAN_MS,
    now_ms=BEGAN_MS,
)


async def looks(centre):
    found = [linked.entry for linked in await centre.store.entries()]
    return [(one.event, one.call, one.detail) for one in found if one.event.startswith("call_view")]


# ── how a standing is written ────────────────────────────────────────────────────────────────────────────


def test_what_is_not_known_is_absent():
    """Not null, not empty: a panel that shows what there is shows nothing (FCC 23-95)."""
    written = shown(NOTHING, BEGAN_MS).model_dump(mode="json", exclude_none=True)
    absent = {"account", "able", "attempts_left", "locked_until"}
    assert absent & written.keys() == set()
    assert written["legs"] == [{"issued": written["began"], "queues": ["client:ada"], "acr": []}]
    assert "null" not in shown(NOTHING, BEGAN_MS).model_dump_json(exclude_none=True)


def test_times_are_rfc_3339_in_utc():
    """To the millisecond, which is what the guard counts in; the count-down is worked out from `now`."""
    full = replace(
        NOTHING,
        account="123456",
        able=("pin",),
        proofs=(
            Shown("pin", Kind.PIN, BEGAN_MS, BEGAN_MS + 300_000),
            Shown("app", Kind.TOTP, BEGAN_MS, None),
        ),
        legs=(Held("ann", BEGAN_MS, BEGAN_MS + 1, ("client:ada",), ()),),
        locked_until_ms=BEGAN_MS + 1_000,
        attempts_left=0,
    )
    written = shown(full, BEGAN_MS + 2).model_dump(mode="json", exclude_none=True)
    assert written["proofs"] == [
        {
            "factor": "pin",
            "kind": "pin",
            "at": "2027-01-15T08:00:00.250000Z",
            "until": "2027-01-15T08:05:00.250000Z",
        },
        {"factor": "app", "kind": "totp", "at": "2027-01-15T08:00:00.250000Z"},
    ]
    assert written["locked_until"] == "2027-01-15T08:00:01.250000Z"
    assert (written["account"], written["able"], written["attempts_left"]) == ("123456", ["pin"], 0)
    assert at(0).isoformat() == "1970-01-01T00:00:00+00:00"


# ── over a socket ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_he_holds(centre, desk, in_hand):
    """From the moment that he redeemed its token; that he looks is on record, and he is told so."""
    ann = await desk("ann")
    line = await in_hand(ann)
    status, seen = await ann.get(f"calls/{line.call_sid}")

    assert status == 200
    times = {name: datetime.fromisoformat(seen.pop(name)) for name in ("began", "now", "recorded")}
    assert times["began"] <= times["recorded"] <= times["now"]
    (proof,), (leg,) = seen.pop("proofs"), seen.pop("legs")
    assert (proof["factor"], proof["kind"], "until" in proof) == ("pin", "pin", False)
    assert (leg["agent"], leg["queues"], leg["acr"]) == ("ann", [f"workflow:{WORKFLOW}"], ["one_factor"])
    assert seen == {
        "status": "verified",
        "call_sid": line.call_sid,
        "reference": line.call_sid[2:10].upper(),
        "caller": "+15551230001",
        "account": "123456",
        "intent": "agent",
        "acr": ["one_factor"],
        "may": [{"intent": "agent", "level": "one_factor", "held": True}],
        "needs": [],
        "ways": [],
        "able": ["pin"],
        "risks": [],
        "attempts_left": 5,
        "disabled": False,
    }
    assert await looks(centre) == [("call_viewed", line.call_sid, (("agent", "ann"),))]


async def test_a_panel_that_polls_is_no_flood(centre, desk, in_hand):
    """One entry a minute, of one and of the list together; each answer says when it was made."""
    ann = await desk("ann")
    line = await in_hand(ann)
    answers = [await ann.get(path) for path in [f"calls/{line.call_sid}", "calls"] * 3]
    assert len({(one[1]["calls"][0] if "calls" in one[1] else one[1])["recorded"] for one in answers}) == 1
    assert len(await looks(centre)) == 1
    centre.clock.advance(books.LOOKED_KEPT_S)
    await ann.get("calls")
    assert len(await looks(centre)) == 2


async def test_everything_else_is_not_found(centre, desk, in_hand):
    """Somebody else's, one that never was, what is no CallSid, one that was handed on, one that is long over: the very same."""
    ann, bob = await desk("ann"), await desk("bob")
    line = await in_hand(bob)
    for sid in (line.call_sid, "CA" + "f" * 32, "x", "CA1", line.call_sid.upper(), "%2e%2e", "*", "CA%00"):
        assert await ann.get(f"calls/{sid}") == NOT_FOUND, sid
    assert await ann.get("calls") == (200, {"calls": []})
    assert await looks(centre) == [("call_view_refused", line.call_sid, (("agent", "ann"),))]


async def test_a_call_that_is_over_is_his_for_ten_minutes(centre, desk, in_hand):
    ann = await desk("ann")
    line = await in_hand(ann)
    await line.hang_up()
    assert (await ann.get(f"calls/{line.call_sid}"))[1]["status"] == "ended"
    assert [one["call_sid"] for one in (await ann.get("calls"))[1]["calls"]] == [line.call_sid]
    centre.clock.advance(AFTER_CALL_S)
    assert await ann.get(f"calls/{line.call_sid}") == NOT_FOUND
    assert await ann.get("calls") == (200, {"calls": []})


async def test_all_that_he_holds_in_the_order_that_he_took_them(desk, in_hand):
    """And nobody else's."""
    ann, bob = await desk("ann"), await desk("bob")
    lines = [await in_hand(one) for one in (ann, bob, ann)]
    _, seen = await ann.get("calls")
    assert [one["call_sid"] for one in seen["calls"]] == [lines[0].call_sid, lines[2].call_sid]


async def test_there_is_no_search(centre, desk, in_hand):
    """What stands in a query finds nothing, and there is no other path."""
    ann, bob = await desk("ann"), await desk("bob")
    await in_hand(bob)
    for query in ("account=123456", "caller=%2B15551230001", "agent=bob", "all=true"):
        assert await ann.get(f"calls?{query}") == (200, {"calls": []})
    for path in ("calls/", "accounts", "accounts/123456", "customers", "search?q=123456", "agents", "desks"):
        assert await ann.get(path) == NOT_FOUND, path


async def test_a_locked_account_is_told_of_with_the_end_of_the_lock(centre, desk, in_hand):
    """Somebody else guessed at it meanwhile: the agent of this call sees it at his next look."""
    ann = await desk("ann")
    line = await in_hand(ann)
    for _ in range(5):
        guesser = centre.call("+15559990000")
        await guesser.until_input()
        await guesser.press("123456#")
        await guesser.press("11111111")
    _, seen = await ann.get(f"calls/{line.call_sid}")
    assert (seen["status"], seen["attempts_left"]) == ("locked", 0)
    assert datetime.fromisoformat(seen["locked_until"]) > datetime.fromisoformat(seen["now"])


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_secret_of_a_call_is_in_what_an_agent_sees(start, agents_flow, ivr, logged, desk_of):
    """
    A call with a wrong PIN, a right one, and a code that was sent: none of them, no token, no key and nothing sealed is in
    an answer, the record or the log.
    """
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"/>'
    flow = replace(agents_flow, levels={"one_factor": AnyOf(("code",))})
    async with start(flow) as centre:
        await centre.enrol(
            Account("123456", credentials=(Credential(Kind.SMS_CODE, number="+15551239999"),)), pin=PIN
        )
        line = centre.call()
        await line.until_input()
        await line.press("123456#")
        await line.press("135791")
        code = centre.carrier.sent[-1].body.split()[0]
        challenge = (await centre.store.read(books.call_key(line.call_sid))).sent[0].id
        await line.press(code)
        token = line.waiting.attributes["ivrguard_token"]
        ann = await desk_of(centre, "ann")
        assert (await centre.redeem(ann.key, token))[0] == 201
        call = await centre.store.read(books.call_key(line.call_sid))
        sealed = replace(call, cookies="sealed-cookies")
        await centre.store.amend(
            [books.call_key(call.sid)], lambda _: Change(None, (Put(books.call_key(call.sid), sealed),))
        )
        told = str([await ann.get(path) for path in (f"calls/{line.call_sid}", "calls", "calls/CA0")])
        record = str([linked.entry for linked in await centre.store.entries()])
    assert line.call_sid in told
    for secret in (
        PIN,
        "135791",
        code,
        token,
        ann.key,
        "sealed-cookies",
        "+15551239999",
        call.legs[0],
        challenge,
    ):
        assert secret not in told + record + str(logged), secret
