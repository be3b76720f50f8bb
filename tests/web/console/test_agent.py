"""The panel over a socket, without a script: what an agent reads in each state, and what a form brings about."""

import re

import pytest

from ivrguard.core.agents import Agent
from ivrguard.phone.rig import Clock
from ivrguard.web.console import words

HOME = "/.ivrguard/console/agent"
NOON_MS = 1_795_003_200_000
NOT_YOURS = f"{HOME}/calls/CA{'0' * 32}"


async def test_without_a_call_the_panel_says_not_verified(ann):
    """And what to do: there is never nothing on it."""
    page = await ann.get()
    assert page.status == 200
    for words_ in (words.NO_CALL.word, words.NO_CALL.why, *words.NO_CALL.todo, words.NO_CALL.say, "Ann Ames"):
        assert words_ in page.said


async def test_a_token_is_spent_and_the_call_is_hers(taken):
    """What the page says of a verified caller; the token stands in no address, and loading the page anew spends nothing."""
    ann, line, path = taken
    assert path == f"{HOME}/calls/{line.call_sid}"
    page = await ann.get(path)
    assert page.status == 200
    reference = line.call_sid[2:10].upper()
    for part in (
        "Verified",
        "123456",
        "+15551230001",
        reference,
        "A wire transfer yes",
        "On record",
        words.NO_RISK,
    ):
        assert part in page.said, part
    assert f"Verified · {reference} · ivrguard" in page.text
    assert re.search(r"IVR PIN proved .* IVR code by text message proved .* You took the call", page.said)
    assert (await ann.get(path)).status == 200


async def test_proofs_run_out_one_after_the_other(opened, sit_down, hand_over):
    """Verified; then a wire needs more; then the PIN is too old; then all of it, and the account is absent again (FCC 23-95)."""
    async with opened() as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre, between_s=200)
        path = (await ann.redeem(token)).headers["Location"]
        told = []
        for seconds in (0, 101, 300, 200):
            centre.clock.advance(seconds)
            page = await ann.get(path)
            told.append((re.search('<h1 id="word">(.*?)</h1>', page.text)[1], "123456" in page.said))
            told.append("A wire transfer yes" in page.said)
    assert told == [
        *(("Verified", True), True),
        *(("Verified", True), False),
        *(("Needs one factor", True), False),
        *(("Not verified", False), False),
    ]


async def test_who_hangs_up_is_gone(taken):
    ann, line, path = taken
    await line.hang_up()
    assert words.STATUS["ended"].word in (await ann.get(path)).said


async def test_a_locked_account_is_told_to_the_agent_alone(taken):
    """Guesses from elsewhere lock it: the agent reads when that ends, and what to say, which says nothing of it."""
    ann, _, path = taken
    for guess in range(5):
        guesser = ann.centre.call("+15559990000")
        await guesser.until_input()
        await guesser.press("123456#")
        await guesser.press(f"1111111{guess}")
        if not guesser.over:
            await guesser.hang_up()
    page = await ann.get(path)
    assert "Locked" in page.said
    assert "no answer is looked at before" in page.said
    assert words.FOR_YOU in page.said


@pytest.mark.parametrize("token", ["0" * 26, "12345678", "x", "", "spent", "ä" * 500])
async def test_one_message_for_every_token_that_is_no_good(ann, hand_over, metric, token):
    """Whatever is wrong with it; and what was typed is nowhere in the answer."""
    if token == "spent":
        _, token = await hand_over(ann.centre)
        await ann.redeem(token)
    answer = await ann.redeem(token)
    assert (answer.status, answer.headers["Location"]) == (303, f"{HOME}?said=refused")
    page = await ann.get(answer.headers["Location"])
    assert " ".join(words.REFUSED) in page.said
    assert not token or len(token) < 2 or token not in page.text
    assert await metric(ann.centre, 'ivrguard_redemptions_total{outcome="refused"}') == 1


async def test_a_token_is_read_as_people_type_it(ann, hand_over):
    """A whispered code is typed in groups; blanks and small letters do no harm."""
    _, token = await hand_over(ann.centre)
    answer = await ann.redeem(f" {token[:4].lower()} {token[4:]} ")
    assert "/calls/" in answer.headers["Location"]


async def test_a_file_in_place_of_a_token_is_a_bad_token(ann):
    """A form can be sent with anything in it: multipart has no token of our page, and is nobody's."""
    answer = await ann.post(f"{HOME}/redemptions", {"token": "x" * 70_000})
    assert answer.status in {303, 413}


async def test_what_a_page_says_comes_from_a_table(ann):
    """An address cannot put words into a page."""
    assert "<script" not in (await ann.get(f"{HOME}?said=<script>")).text.partition("<body>")[2]


async def test_a_call_of_somebody_elses_is_one_that_never_was(taken, sit_down):
    """404, "not verified", the same page for both, the piece of it too."""
    ann, _, path = taken
    bob = await sit_down(ann.centre, Agent("agent:bob", "Bob", queues=("workflow:*",)))
    others, nobodys = await bob.get(path), await bob.get(NOT_YOURS)
    assert (others.status, nobodys.status) == (404, 404)
    assert others.text == nobodys.text
    assert "Not verified" in others.said
    assert " ".join(words.GONE) in others.said
    assert [(await bob.get(f"{each}/standing")).status for each in (path, NOT_YOURS)] == [404, 404]


async def test_the_piece_that_changes_is_what_stands_in_the_page(opened, sit_down, hand_over):
    """The script gets the same words, and no page around them: the clock stands, since both say times and ages to the second."""
    async with opened(clock=Clock(NOON_MS)) as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        path = (await ann.redeem(token)).headers["Location"]
        piece, page = await ann.get(f"{path}/standing"), await ann.get(path)
    assert piece.status == 200
    assert piece.text.lstrip().startswith('<div id="standing"')
    assert "<html" not in piece.text
    assert piece.said in page.said
    # Whoever has a button in hand by keyboard keeps it when the piece is put in place: the script finds it by its id.
    assert re.search("<button", piece.text)
    assert re.findall(r"<button (?![^>]*\bid=)[^>]*>", piece.text) == []


@pytest.mark.parametrize("path", ["/.ivrguard/console", "/.ivrguard/console/"])
async def test_the_console_begins_with_the_panel(ann, path):
    assert (await ann.get(path)).headers["Location"] == HOME


async def test_no_secret_is_in_any_page(taken, hand_over):
    """Canaries: the PIN, the code and the token went through the call; none of them stands in a page or an address."""
    ann, _, path = taken
    _, token = await hand_over(ann.centre)
    answer = await ann.redeem(token)
    secrets = {"24681357", ann.centre.carrier.code_for("+15551230001"), token, ann.secret}
    texts = [answer.headers["Location"]]
    for each in (HOME, path, answer.headers["Location"], f"{path}/standing", f"{HOME}?said=refused"):
        texts.append((await ann.get(each)).text)
    assert [secret for secret in secrets for text in texts if secret in text] == []
    assert all(len(secret) >= 6 for secret in secrets)
