"""The stub of an IVR, over real HTTP: it says the path, or what it is told, to whoever Twilio vouches for."""

from contextlib import AsyncExitStack

import aiohttp
import pytest
from twilio.request_validator import RequestValidator

from ivrguard.phone.rig import listen
from ivrguard.phone.stub import Stub

AUTH_TOKEN = "a-token-of-the-test"


@pytest.fixture
def stub():
    return Stub("/ivr/begin")


@pytest.fixture
async def asking(stub, session):
    """Ask the stub, signed as Twilio does: status and text."""
    async with AsyncExitStack() as stack:
        origin = await listen(stub.app(AUTH_TOKEN), stack)

        async def ask(path, digits=None, *, method="POST", token=AUTH_TOKEN):
            form = {"CallSid": "CA1"} | ({} if digits is None else {"Digits": digits})
            url = f"{origin}{path}"
            if method == "GET":
                url, form = f"{url}?{'&'.join(f'{name}={value}' for name, value in form.items())}", {}
            headers = {"X-Twilio-Signature": RequestValidator(token).compute_signature(url, form)}
            async with session.request(method, url, data=form or None, headers=headers) as response:
                return response.status, (await response.text()).removeprefix("<Response>").removesuffix(
                    "</Response>"
                )

        yield ask


async def test_it_says_its_path(asking):
    """The first document waits for keys; every other goes back to it."""
    assert await asking("/ivr/begin") == (200, '<Gather timeout="10"><Say>path /ivr/begin</Say></Gather>')
    assert await asking("/wire/new") == (
        200,
        "<Say>path /wire/new</Say><Redirect>/ivr/begin</Redirect>",
    )
    assert (await asking("/a%3Cb"))[1].startswith("<Say>path /a&lt;b</Say>")


async def test_it_says_what_it_is_told(asking, stub):
    """For a path, and first for a path and the keys that came to it; the last word counts."""
    stub.answers("/menu", "<Say>old</Say>")
    stub.answers("/menu", "<Say>menu</Say>")
    stub.answers("/menu", "<Say>three</Say>", "3")

    assert [(await asking("/menu", digits))[1] for digits in (None, "1", "3")] == [
        "<Say>menu</Say>",
        "<Say>menu</Say>",
        "<Say>three</Say>",
    ]


async def test_it_leads_anywhere(asking, stub):
    stub.leads("https://guard.example/menu?t=1", "/wire/new")
    assert (await asking("/menu", "0"))[1] == "<Redirect>/wire/new</Redirect>"


async def test_it_believes_nobody_but_twilio(asking, stub):
    """403, and the path is kept: a story in which it happens has not come true."""
    assert (await asking("/menu", "1234", token="another"))[0] == 403
    assert (stub.unsigned, stub.paths_seen(), stub.digits_seen()) == (["/menu"], [], set())


async def test_it_keeps_what_reaches_it(asking, stub):
    """By POST and by GET."""
    await asking("/menu", "12")
    await asking("/menu", "34", method="GET")
    await asking("/hours")
    assert (stub.paths_seen(), stub.digits_seen()) == (["/menu", "/menu", "/hours"], {"12", "34"})


async def test_a_document_with_a_declaration_is_whole(stub):
    """It stands as it is told, so that what a guard does with a DTD can be tried."""
    whole = '<!DOCTYPE Response [<!ENTITY x "y">]><Response><Say>&x;</Say></Response>'
    stub.answers("/declared", whole)
    assert stub._document("/declared", "") == whole
    async with AsyncExitStack() as stack:
        origin = await listen(stub.app(AUTH_TOKEN), stack)
        url = f"{origin}/declared"
        headers = {
            "X-Twilio-Signature": RequestValidator(AUTH_TOKEN).compute_signature(url, {"CallSid": "CA1"})
        }
        async with (
            aiohttp.ClientSession() as opened,
            opened.post(url, data={"CallSid": "CA1"}, headers=headers) as answer,
        ):
            assert await answer.text() == whole
