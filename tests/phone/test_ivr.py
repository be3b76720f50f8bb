"""What the sample IVRs share, tried on the bank: signatures, sessions, and all that reaches it is kept."""

import pytest

from ivrguard.phone.bank import Bank
from ivrguard.phone.ivr import Ivr

AUTH_TOKEN = "a-token-of-the-test"
CALLER = "+14155550123"
NUMBER = "+18005550100"


@pytest.fixture
def example():
    return Bank()


@pytest.fixture
async def line(example, samples):
    return await samples.serve(example.app(AUTH_TOKEN))


async def test_all_that_reaches_the_bank_is_kept(line, example, samples):
    """A test can tell which digits it has ever seen, and where it was asked."""
    await samples.press(line, "3", "500#", "1")
    await line.hang_up()

    assert example.digits_seen() == {"3", "500", "1"}
    assert example.paths_seen() == [
        "/voice",
        "/menu",
        "/wire/amount",
        "/wire/amount",
        "/wire/confirm",
        "/voice",
        "/status",
    ]
    assert "500" not in repr(example.seen)


async def test_the_amount_lives_in_the_session(line, example, session, samples):
    """The cookie carries the session: without it, the bank has forgotten the amount."""
    await samples.press(line, "3", "500#")
    origin = line.requests[0].url.removesuffix("/voice")

    other = samples.call()
    answer = await other.send(f"{origin}/wire/confirm", {"Digits": "1"})

    assert "Nothing was wired." in answer.text
    assert example.wired == []


async def test_there_are_pages_that_the_bank_does_not_have(line, example):
    """404; that somebody asked is kept."""
    await line.until_input()
    answer = await line.send(line.requests[0].url.replace("/voice", "/admin"))

    assert answer.status == 404
    assert example.paths_seen() == ["/voice", "/admin"]


@pytest.mark.parametrize("sign_with", ["another-token", AUTH_TOKEN])
async def test_what_twilio_did_not_sign_is_refused(line, example, exchange, sign_with, samples):
    """403, and no document; the validator is twilio's own."""
    exchange.account.auth_token = sign_with

    await line.until_input()

    assert [sign_with == AUTH_TOKEN] * len(example.seen) == [seen.signed for seen in example.seen]
    assert (sign_with == AUTH_TOKEN) == ("Welcome" in samples.said(line))


async def test_the_bank_checks_its_own_url(exchange, samples):
    """Its configured name counts, not `Host`; a request signed for another name is refused."""
    example = Bank(public_url="https://ivr.bank.example")
    line = await samples.serve(example.app(AUTH_TOKEN))
    await line.until_input()
    exchange.account.routes = {"https://ivr.bank.example": samples.origin}
    exchange.number(NUMBER, "https://ivr.bank.example/voice", method="GET")
    named = samples.call()
    await named.until_input()

    assert [seen.signed for seen in example.seen] == [False, False, True]
    assert "Welcome" in samples.said(named)


async def test_an_ivr_without_a_page_has_none(exchange, samples):
    """404 for what Twilio signed; the samples name their own."""
    bare = Ivr()
    line = await samples.serve(bare.app(AUTH_TOKEN))
    await line.until_input()

    assert bare.pages() == {}
    assert (bare.seen[0].path, bare.seen[0].signed) == ("/voice", True)
