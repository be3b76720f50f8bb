"""A code that the caller reads to the agent, over a socket: what is asked, what is answered, what the caller hears meanwhile."""

import asyncio
from dataclasses import replace

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Sends
from ivrguard.core.readback import Why
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.phone.heard import Queued
from ivrguard.ports import Account, Credential
from ivrguard.web.agents import readback

PIN, CALLER, WORKFLOW = "24681357", "+15551230001", "WW" + "a1" * 16


@pytest.fixture
async def centre(start, bank_flow, ivr):
    """A guard in front of an IVR that puts every caller before a workflow: one factor is enough for that."""
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"/>'
    code = replace(bank_flow.factors["code"], sends=Sends(per_call=3, per_account=9))
    flow = replace(
        bank_flow,
        rules=(
            Rule(Demand("two_factor", intent="wire"), path="/wire"),
            Rule(Demand("one_factor", intent="wire"), transfer=Target("*", "*")),
        ),
        factors={**bank_flow.factors, "code": code},
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

    async def post(self, sid: str, what: str, **body: str):
        url = f"{self.centre.guard_url}/.ivrguard/agent/v1/calls/{sid}/{what}"
        headers = {"Authorization": f"Bearer {self.key}"}
        async with self.centre.session.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


async def in_hands(centre, name: str = "ann"):
    """A desk that holds a verified caller, and he."""
    key = await centre.desk(name, "*")
    line = centre.call()
    await line.until_input()
    await line.press("123456#")
    await line.press(PIN)
    assert isinstance(line.waiting, Queued)
    status, _ = await centre.redeem(key, line.waiting.attributes["ivrguard_token"], line.call_sid)
    assert status == 201
    return Desk(centre, key), line


async def test_a_code_is_read_while_the_caller_hears_music(centre):
    """202, the message, 200 and the new standing; the caller's leg is asked nothing, and posts nothing."""
    desk, line = await in_hands(centre)
    posted = len(line.requests)
    status, told = await desk.post(line.call_sid, "codes")
    await centre.server.guard._background.drain()

    assert (status, told) == (202, {"valid_s": 600})
    code = centre.carrier.code_for(CALLER)
    assert "Read it only to the agent" in centre.carrier.sent[-1].body
    assert "a wire transfer" in centre.carrier.sent[-1].body
    status, told = await desk.post(line.call_sid, "answers", digits=f" {code[:3]} {code[3:]}")
    assert (status, told["right"]) == (200, True)
    assert (told["call"]["status"], told["call"]["acr"][0], told["call"]["account"]) == (
        "verified",
        "two_factor",
        "123456",
    )
    assert len(line.requests) == posted


async def test_right_or_not_right_and_no_more(centre):
    """A wrong one, then the code is used up, then no more codes; every refusal says what to do."""
    desk, line = await in_hands(centre)
    seen = []
    for _ in range(3):
        seen.append((await desk.post(line.call_sid, "codes"))[0])
        for digits in ("000000", "000001", "000002", "000003"):
            status, told = await desk.post(line.call_sid, "answers", digits=digits)
            seen.append((status, told.get("right", told.get("error"))))
    seen.append((await desk.post(line.call_sid, "codes"))[1])

    wrong, used = [(200, False)] * 3, (409, "no_code")
    assert seen[:5] == [202, *wrong, used]
    assert seen[5:10] == [202, *wrong, used], "the fifth wrong one locks, and nothing says so here"
    assert seen[-1] == {"error": "no_more_codes", "mend": "use another factor, or wait"}
    status, told = await desk.post(line.call_sid, "answers", digits="00001")
    assert (status, told["error"]) == (409, "no_code")


@pytest.mark.parametrize("request_", ["8f14e45f-01", ""])
async def test_the_same_request_again_changes_nothing(centre, request_):
    """By the client's own name for it; without one, each is another."""
    desk, line = await in_hands(centre)
    named = {"request": request_} if request_ else {}
    for _ in range(2):
        assert (await desk.post(line.call_sid, "codes", **named))[0] == 202
    answers = await asyncio.gather(
        *(desk.post(line.call_sid, "answers", digits="000000", **named) for _ in range(2))
    )

    await centre.server.guard._background.drain()
    codes = [message for message in centre.carrier.sent if "is your code" in message.body]
    assert len(codes) == (1 if request_ else 2)
    entries = [one.entry.event for one in await centre.store.entries()]
    assert entries.count("authn_attempt") == (1 if request_ else 2) + 1, "and the PIN"
    assert all(status == 200 or told["error"] == "being_judged" for status, told in answers)


async def test_nobody_else_and_nothing_else(centre):
    """404 for who does not hold it; a PIN is not read out; what is not such JSON is not quoted."""
    desk, line = await in_hands(centre)
    other = Desk(centre, await centre.desk("bob", "*"))
    for what, body in (("codes", {}), ("answers", {"digits": "123456"})):
        assert await other.post(line.call_sid, what, **body) == (404, {"error": "not_found"})
        assert await desk.post("CA" + "0" * 32, what, **body) == (404, {"error": "not_found"})

    assert (await desk.post(line.call_sid, "codes", factor="pin"))[1]["error"] == "not_by_voice"
    for body in (
        {"digits": PIN[:3]},
        {"digits": PIN * 3},
        {"digits": "12x456"},
        {"digits": "1", "more": PIN},
    ):
        status, told = await desk.post(line.call_sid, "answers", **body)
        assert (status, told["error"]) == (400, "invalid_request")
        assert PIN[:3] not in str(told)
    assert centre.carrier.sent == []


async def test_the_call_is_handed_on_while_an_answer_is_judged(centre, monkeypatch):
    """Right, but not his any more: he is shown nothing of it."""
    desk, line = await in_hands(centre)
    await desk.post(line.call_sid, "codes")
    held = centre.server.guard.held

    async def lost(*_):
        return None

    monkeypatch.setattr(type(centre.server.guard), "held", lost)
    code = centre.carrier.code_for(CALLER)
    assert (await desk.post(line.call_sid, "answers", digits=code))[0] == 404
    assert held is not None


def test_every_reason_has_its_words():
    """A word for programs, and what to do about it."""
    assert readback._REFUSALS.keys() == set(Why)
    for answer in readback._REFUSALS.values():
        assert answer.status in {409, 429, 503}
        assert answer.body.mend


@pytest.mark.parametrize("secret", ["right", "wrong"])
async def test_no_digit_that_is_typed_is_seen_again(centre, logged, secret):
    """Canaries: in no answer, entry, log line or event, nor in a repr; whether right or wrong."""
    desk, line = await in_hands(centre)
    await desk.post(line.call_sid, "codes")
    await centre.server.guard._background.drain()
    code = centre.carrier.code_for(CALLER)
    digits = code if secret == "right" else f"{(int(code) + 1) % 10**6:06}"

    told = [await desk.post(line.call_sid, "answers", digits=digits) for _ in range(2)]

    entries = [one.entry for one in await centre.store.entries()]
    kept = b"".join(row.data + row.key.id.encode() for row in centre.store._rows.values())
    assert digits.encode() not in kept
    assert digits not in repr(entries) + repr(logged) + repr(told)
    assert digits not in repr(readback.CodeTyped(digits=digits))
