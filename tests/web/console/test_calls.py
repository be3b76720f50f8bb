"""The buttons of a call's page over a socket: codes read back, the account that is named, passing on; and each sent twice."""

import re
from dataclasses import replace

import pytest

from ivrguard.core import lockout, passing
from ivrguard.core.agents import Agent
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.web.console import words

HOME = "/.ivrguard/console/agent"
CALLER = "+15551230001"


async def form_of(desk, path):
    """The hidden fields of the page's forms."""
    text = (await desk.get(path)).text
    return {"request": re.search('name="request" value="([^"]+)"', text)[1]}


async def said(desk, answer):
    """Where a form led to, and what that page says above all else."""
    assert answer.status == 303
    page = await desk.get(answer.headers["Location"])
    message = re.search(r'(?s)id="message"[^>]*>(.*?)</div>', page.text)
    return " ".join(re.sub("<[^>]+>", " ", message[1]).split()) if message else ""


def one_line(text):
    return " ".join(" ".join(text).split())


@pytest.fixture
async def stale(taken):
    """Ann's caller, whose proofs are all too old by now."""
    ann, line, path = taken
    ann.centre.clock.advance(601)
    assert "Not verified" in (await ann.get(path)).said
    return ann, line, path


async def test_a_code_is_sent_read_and_typed(stale):
    """Not verified, a code to the number on file, the caller reads it, and it counts; no digit stands on any page."""
    ann, _, path = stale
    before = len(ann.centre.carrier.sent)
    assert await said(ann, await ann.post(f"{path}/codes", await form_of(ann, path))) == ""
    assert len(ann.centre.carrier.sent) == before + 1
    page = await ann.get(path)
    assert "The 6 digits that the caller reads to you" in page.said
    code = ann.centre.carrier.code_for(CALLER)
    assert code not in page.text

    wrong = f"{(int(code) + 1) % 10**6:06d}"
    form = await form_of(ann, path)
    assert await said(ann, await ann.post(f"{path}/answers", {**form, "digits": wrong})) == one_line(
        words.CODE_WRONG
    )
    form = await form_of(ann, path)
    answer = await ann.post(f"{path}/answers", {**form, "digits": f"{code[:3]} {code[3:]}"})
    assert await said(ann, answer) == one_line(words.CODE_RIGHT)
    assert code not in answer.headers["Location"]
    page = await ann.get(path)
    assert "Needs one factor" in page.said
    assert re.search("You code by text message proved", page.said)
    assert code not in page.text


async def test_a_form_that_is_sent_twice_is_one_request(stale):
    """One code, one guess."""
    ann, _, path = stale
    before, form = len(ann.centre.carrier.sent), await form_of(ann, path)
    for _ in range(2):
        await ann.post(f"{path}/codes", form)
    assert len(ann.centre.carrier.sent) == before + 1
    form = {**await form_of(ann, path), "digits": ann.centre.carrier.code_for(CALLER)}
    assert [await said(ann, await ann.post(f"{path}/answers", form)) for _ in range(2)] == [
        one_line(words.CODE_RIGHT)
    ] * 2


@pytest.mark.parametrize("digits", ["12345", "abcdef", "", "①②③④⑤⑥"])
async def test_what_cannot_be_a_code_does_not_count(stale, digits):
    ann, _, path = stale
    await ann.post(f"{path}/codes", await form_of(ann, path))
    form = {**await form_of(ann, path), "digits": digits}
    assert await said(ann, await ann.post(f"{path}/answers", form)) == one_line(words.NO_CODE["mistyped"])
    assert "5 left before this account locks." in (await ann.get(path)).said


async def test_codes_run_out_and_say_so(stale):
    """As many as the flow allows on a call, by keypad and read back together."""
    ann, _, path = stale
    await ann.post(f"{path}/codes", await form_of(ann, path))
    answer = await ann.post(f"{path}/codes", {"request": "one more"})
    assert await said(ann, answer) == one_line(words.NO_CODE["no_more_codes"])


async def test_an_answer_to_no_code(stale):
    ann, _, path = stale
    form = {"request": "r1", "digits": "123456"}
    assert await said(ann, await ann.post(f"{path}/answers", form)) == one_line(words.NO_CODE["no_code"])


async def test_a_caller_is_passed_on(taken, sit_down):
    """The token stands in the answer to the form, which sent again shows the same; the next agent takes the call with it."""
    ann, _, path = taken
    form = {**await form_of(ann, path), "queue": "workflow:" + "WW" + "b2" * 16}
    answers = [await ann.post(f"{path}/transfers", form) for _ in range(2)]
    tokens = [re.search('token">([^<]+)<', answer.text)[1] for answer in answers]
    assert tokens[0] == tokens[1]
    assert [answer.status for answer in answers] == [200, 200]
    assert tokens[0] not in (await ann.get(path)).text
    bob = await sit_down(ann.centre, Agent("agent:bob", "Bob", queues=("workflow:*",)))
    assert (await bob.redeem(tokens[0])).headers["Location"] == path
    assert re.search("ann took the call .* ann handed over", (await bob.get(path)).said)
    assert (await ann.get(path)).status == 404


@pytest.fixture
async def unasked(opened, desk_flow, sit_down):
    """A caller whom the IVR led to Ann's queue without a question, and Ann, who took him by his CallSid."""
    flow = replace(desk_flow, rules=(*desk_flow.rules[:1], Rule(Demand(None), transfer=Target("*", "*"))))
    async with opened(flow) as centre:
        ann, line = await sit_down(centre), centre.call(CALLER)
        await line.until_input()
        answer = await ann.redeem(line.call_sid)
        yield ann, answer.headers["Location"]


async def test_first_contact_is_led_through_both_factors(unasked):
    """Nothing is proved; the account is named, which is answered alike for every number; then a code, and what is still missing."""
    ann, path = unasked
    page = await ann.get(path)
    assert "Not verified" in page.said
    assert "The account that the caller names" in page.said
    assert "Send a code" not in page.said
    for number in ("98 76 54", "123456"):
        assert await said(ann, await ann.post(f"{path}/claims", {"account": number})) == ""
        assert "Send a code" in (await ann.get(path)).said
    await ann.post(f"{path}/codes", await form_of(ann, path))
    await (
        ann.centre.server.guard._background.drain()
    )  # until something is proved nobody waits for the message
    form = {**await form_of(ann, path), "digits": ann.centre.carrier.code_for(CALLER)}
    assert await said(ann, await ann.post(f"{path}/answers", form)) == one_line(words.CODE_RIGHT)
    page = await ann.get(path)
    assert "Needs one factor" in page.said
    assert "their PIN" in page.said
    assert "The account that the caller names" not in page.said


@pytest.mark.parametrize("account", ["", "me", "1" * 400, "①"])
async def test_what_is_no_account_number(unasked, account):
    ann, path = unasked
    assert await said(ann, await ann.post(f"{path}/claims", {"account": account})) == one_line(
        words.NO_ACCOUNT
    )


async def test_accounts_cannot_be_looked_for_so(unasked, monkeypatch):
    """After so many in an hour none is taken down any more."""
    monkeypatch.setattr(passing, "CLAIM_RULE", lockout.Rule(failures=1, within_s=3600, lock_s=(900,)))
    ann, path = unasked
    await ann.post(f"{path}/claims", {"account": "111111"})
    answer = await ann.post(f"{path}/claims", {"account": "222222"})
    assert await said(ann, answer) == one_line(words.NOT_PASSED["too_many_claims"])


@pytest.mark.parametrize(
    "queue", ["", "support", "nowhere:support", "enqueue:", "enqueue:" + "x" * 400, "enqueue:a\x00b"]
)
async def test_there_is_no_such_place(taken, queue):
    ann, _, path = taken
    form = {**await form_of(ann, path), "queue": queue}
    assert await said(ann, await ann.post(f"{path}/transfers", form)) == one_line(words.NO_QUEUE)


async def test_nobody_is_passed_on_who_has_hung_up(taken):
    ann, line, path = taken
    form = {**await form_of(ann, path), "queue": "enqueue:support"}
    await line.hang_up()
    assert await said(ann, await ann.post(f"{path}/transfers", form)) == one_line(words.NOT_PASSED["ended"])


@pytest.mark.parametrize("act", ["codes", "answers", "aside", "claims", "transfers"])
async def test_a_call_of_somebody_elses_is_one_that_never_was(taken, sit_down, act):
    """Whatever he sends: he is led to the page that says so."""
    ann, _, path = taken
    bob = await sit_down(ann.centre, Agent("agent:bob", "Bob"))
    form = {"request": "r1", "digits": "123456", "account": "123456", "queue": "enqueue:support"}
    answer = await bob.post(f"{path}/{act}", form)
    assert (answer.status, answer.headers["Location"]) == (303, path)
    assert (await bob.get(path)).status == 404


async def test_the_caller_is_led_aside_and_comes_back(joined):
    """The button, the keypad, and the same agent: she sees that he is away, then yes; and never a digit."""
    async with joined() as room:
        ann, path = room.desk, room.path
        assert "Code by message" in (await ann.get(path)).said
        assert await said(ann, await ann.post(f"{path}/aside", {"factor": "pin"})) == ""
        await room.settle()
        page = await ann.get(path)
        assert "Evaluating" in page.said
        assert words.AWAY in page.said
        assert f'action="{path}/' not in page.text.replace(f"{path}/reports", "")
        await room.line.press("24681357")
        await room.settle()
        page = await ann.get(path)
        assert words.CAME_BACK["verified"] in page.said
        assert re.search("You PIN proved", page.said)
        assert "24681357" not in page.text


async def test_who_does_not_prove_it_aside_comes_back_all_the_same(joined):
    """No, and not how."""
    async with joined() as room:
        ann, path = room.desk, room.path
        await ann.post(f"{path}/aside", {"factor": "pin"})
        await room.settle()
        for _ in range(3):
            await room.line.press("11111111")
        await room.settle()
        page = await ann.get(path)
        assert words.CAME_BACK["not_verified"] in page.said
        assert "2 left before this account locks." in page.said


async def test_nobody_is_led_aside_who_is_not_in_a_room(taken):
    ann, _, path = taken
    answer = await ann.post(f"{path}/aside", {"factor": "pin"})
    assert await said(ann, answer) == one_line(words.NOT_ASIDE["not_bridged"])
