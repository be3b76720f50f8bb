"""A caller passed on, and first contact, over a socket: two desks, a caller, and what each of them is told."""

from dataclasses import replace

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.passing import Why
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.phone.heard import Queued
from ivrguard.ports import Account, Credential
from ivrguard.web.agents import passing

PIN, CALLER, WORKFLOW, WIRES = "24681357", "+15551230001", "WW" + "a1" * 16, "WW" + "b2" * 16


@pytest.fixture
async def centre(start, bank_flow, ivr):
    """One factor for agents, one more for those who do wires; the fraud line is open to anyone."""
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"/>'
    ivr.documents["/help"] = "<Enqueue>fraud</Enqueue>"
    wires = Demand("one_factor", reverify="one_factor", intent="wire")
    flow = replace(
        bank_flow,
        rules=(
            Rule(ANYONE, path="/help"),
            Rule(ANYONE, transfer=Target("enqueue", "fraud")),
            Rule(wires, transfer=Target("workflow", WIRES)),
            Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),
        ),
    )
    async with start(flow) as guarded:
        await guarded.enrol(
            Account("123456", (CALLER,), (Credential(Kind.SMS_CODE, number=CALLER),)), pin=PIN
        )
        yield guarded


class Desk:
    """An agent's desk, and what it asks of the API."""

    def __init__(self, centre, key: str) -> None:
        self.centre, self.key = centre, key

    async def ask(self, sid: str, what: str = "", **body: str):
        url = f"{self.centre.guard_url}/.ivrguard/agent/v1/calls/{sid}" + (f"/{what}" if what else "")
        method = "POST" if what else "GET"
        headers = {"Authorization": f"Bearer {self.key}"}
        sent = {"json": body} if what else {}
        async with self.centre.session.request(method, url, headers=headers, **sent) as answer:
            return answer.status, await answer.json()

    async def redeem(self, token: str, sid: str | None = None):
        return await self.centre.redeem(self.key, token, sid)


async def desk_of(centre, name: str, *queues: str) -> Desk:
    return Desk(centre, await centre.desk(name, *queues))


async def in_hands(centre):
    """Ann's desk, which holds a verified caller, and he."""
    desk, line = await desk_of(centre, "ann", "*"), centre.call()
    await line.until_input()
    await line.press("123456#")
    await line.press(PIN)
    assert isinstance(line.waiting, Queued)
    assert (await desk.redeem(line.waiting.attributes["ivrguard_token"], line.call_sid))[0] == 201
    return desk, line


async def test_a_caller_goes_from_desk_to_desk(centre):
    """A new token; the old desk holds him until it is redeemed; then the new one, who is told what is needed."""
    ann, line = await in_hands(centre)
    bob = await desk_of(centre, "bob", f"workflow:{WIRES}")
    status, passed = await ann.ask(line.call_sid, "transfers", queue=f"workflow:{WIRES}")

    assert (status, passed["carrier"], passed["queue"], len(passed["token"])) == (
        201,
        "task",
        f"workflow:{WIRES}",
        26,
    )
    assert (await ann.ask(line.call_sid))[0] == 200
    assert await bob.ask(line.call_sid) == (404, {"error": "not_found"})
    assert (await bob.redeem(passed["token"], line.call_sid))[0] == 201
    assert (await bob.redeem(passed["token"], line.call_sid))[0] == 403
    assert await ann.ask(line.call_sid) == (404, {"error": "not_found"})
    assert await ann.ask(line.call_sid, "transfers", queue="client:carl") == (404, {"error": "not_found"})

    _, seen = await bob.ask(line.call_sid)
    assert (seen["status"], seen["intent"], seen["needs"]) == ("needs_factor", "wire", ["pin"])
    assert [leg["agent"] for leg in seen["legs"]] == ["ann", "bob"]
    await bob.ask(line.call_sid, "codes")
    status, told = await bob.ask(line.call_sid, "answers", digits=centre.carrier.code_for(CALLER))
    assert (told["right"], told["call"]["status"]) == (True, "verified")


async def test_what_cannot_be_passed_on_says_why(centre):
    """And what is not such JSON is refused: a queue has a kind that there is."""
    ann, line = await in_hands(centre)

    assert (await ann.ask(line.call_sid, "transfers", queue="client:b", intent="x"))[1][
        "error"
    ] == "unknown_intent"
    for queue in ("workflow", "workflow:", "desk:ann", "client: b", "client:" + "b" * 260, "client:b\n"):
        assert (await ann.ask(line.call_sid, "transfers", queue=queue))[0] == 400, queue
    await line.hang_up()
    assert (await ann.ask(line.call_sid, "transfers", queue="client:b"))[1]["error"] == "ended"


@pytest.mark.parametrize("account", ["123456", "654321"])
async def test_first_contact_leads_through_two_factors(centre, account):
    """Nobody was asked anything: the desk takes the call by its CallSid, names the account, and is told what is wanted."""
    centre.number("+18005550100", "/help")
    line = centre.call()
    await line.until_input()
    other, ann = (
        await desk_of(centre, "bob", "enqueue:support"),
        await desk_of(centre, "ann", "enqueue:fraud"),
    )
    assert (await other.redeem(line.call_sid))[0] == 403
    status, receipt = await ann.redeem(line.call_sid, line.call_sid)
    assert (status, receipt["acr"], receipt["account"]) == (201, "none", "")
    assert (await ann.redeem(line.call_sid))[0] == 403

    status, seen = await ann.ask(line.call_sid, "claims", account=account)
    assert (status, seen["status"], seen["needs"]) == (200, "not_verified", ["pin", "code"])
    assert "account" not in seen
    assert (await ann.ask(line.call_sid, "codes"))[0] == 202
    await centre.server.guard._background.drain()
    known = account == "123456"
    code = centre.carrier.code_for(CALLER) if known else "123456"
    _, told = await ann.ask(line.call_sid, "answers", digits=code)
    assert (told["right"], told["call"]["status"]) == (
        (True, "needs_factor") if known else (False, "not_verified")
    )
    assert told["call"]["needs"] == (["pin"] if known else ["pin", "code"])
    assert told["call"].get("account") == ("123456" if known else None)


async def test_an_account_is_named_by_who_holds_the_call(centre):
    """404 for the others, 400 for what is no number, 409 for one of no such length; none is quoted."""
    ann, line = await in_hands(centre)
    bob = await desk_of(centre, "bob", "*")

    assert await bob.ask(line.call_sid, "claims", account="654321") == (404, {"error": "not_found"})
    assert (await ann.ask(line.call_sid, "claims", account="abc"))[0] == 400
    assert (await ann.ask(line.call_sid, "claims", account="1"))[1]["error"] == "mistyped"
    status, seen = await ann.ask(line.call_sid, "claims", account="65-43 21")
    assert (status, seen["status"], seen["proofs"]) == (200, "not_verified", [])


def test_every_reason_has_its_words():
    """A word for programs, and what to do about it."""
    assert passing._REFUSALS.keys() == set(Why)
    for answer in passing._REFUSALS.values():
        assert answer.status in {409, 429}
        assert answer.body.mend


def test_no_token_is_shown():
    """Not in a repr."""
    told = passing.PassedOn(
        token="10Z0735QNQ", carrier="task", queue="workflow:W", expires="2026-11-28T00:00:00Z"
    )

    assert "10Z0735QNQ" not in repr(told)
