"""What the pretend REST APIs have in common, by raw HTTP: credentials, planted faults, shapes."""

import asyncio
import re
from base64 import b64encode

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.phone.rest import Api, error, instant, sid

ACCOUNT_SID = "AC" + "1" * 32
TOKEN = "a-token-of-the-test"
US = (ACCOUNT_SID, TOKEN)


class Counter(Api):
    """The smallest API: it counts what it took."""

    def __init__(self):
        super().__init__(ACCOUNT_SID, TOKEN, api_keys={"SK1": "key-secret"})
        self.took = []

    def app(self):
        served = web.Application()
        served.router.add_post("/{account}/things", self.serving(self.take))
        served.router.add_post("/things", self.serving(self.take))
        return served

    def take(self, request, form):
        self.took.append(form)
        return web.json_response({}, status=201)


@pytest.fixture
def api():
    return Counter()


@pytest.fixture
async def url(api):
    async with TestServer(api.app()) as server:
        yield str(server.make_url("/"))


async def post(session, url, auth=US, form=None):
    headers = {"Authorization": "Basic " + b64encode(":".join(auth).encode()).decode()} if auth else {}
    async with session.post(url, headers=headers, data=form or {"A": "1"}) as response:
        return response.status, (await response.json()).get("code")


@pytest.mark.parametrize(
    ("path", "auth", "expected"),
    [
        ("things", US, (201, None)),
        (f"{ACCOUNT_SID}/things", US, (201, None)),
        ("things", ("SK1", "key-secret"), (201, None)),
        ("things", (ACCOUNT_SID, "wrong"), (401, 20003)),
        ("things", ("SK1", TOKEN), (401, 20003)),
        ("things", None, (401, 20003)),
        ("AC2/things", US, (404, 20404)),
    ],
)
async def test_only_the_account_and_its_keys_may_ask(api, url, session, path, auth, expected):
    """HTTP Basic; and one account does not see another's."""
    assert await post(session, url + path, auth) == expected
    assert (len(api.took), api.asked) == (int(expected[0] == 201), 1)


async def test_a_handler_is_given_the_form(api, url, session):
    await post(session, f"{url}things", form={"To": "+1", "Code": "2"})
    assert api.took == [{"To": "+1", "Code": "2"}]


async def test_a_parameter_that_is_repeated_is_a_list(api, url, session):
    """As the client sends StatusCallbackEvent."""
    await post(session, f"{url}things", form=[("Event", "ringing"), ("Event", "answered")])
    assert api.took == [{"Event": "ringing answered"}]


async def test_faults_come_one_at_a_time_in_order(api, url, session):
    """A 429, then a broken connection, then all is well; what met a fault was not taken."""
    api.fail_next(429, 20429)
    api.drop_next()
    assert await post(session, f"{url}things") == (429, 20429)
    with pytest.raises(aiohttp.ClientError):
        await post(session, f"{url}things")
    assert api.took == []
    assert await post(session, f"{url}things") == (201, None)


async def test_a_slow_provider_answers_when_it_is_let_go(api, url, session):
    """`hold`: every request waits."""
    api.hold = asyncio.Event()
    waiting = asyncio.ensure_future(post(session, f"{url}things"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    assert (api.asked, api.took) == (1, [])
    api.hold.set()
    assert await waiting == (201, None)


def test_an_error_has_twilios_shape():
    assert error(400, 60200, "Invalid parameter").body == (
        b'{"code": 60200, "message": "Invalid parameter", '
        b'"more_info": "https://www.twilio.com/docs/errors/60200", "status": 400}'
    )


def test_a_sid_is_two_letters_and_32_hex_digits():
    assert re.fullmatch("VE[0-9a-f]{32}", sid("VE"))
    assert sid("VE") != sid("VE")


def test_an_instant_is_in_utc_and_whole_seconds():
    assert instant(1_700_000_000_999) == "2023-11-14T22:13:20Z"
