"""The pretend Verify, driven by Twilio's own client over a real socket."""

import re

import pytest
from aiohttp.test_utils import TestServer
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from ivrguard.phone.messages import Message
from ivrguard.phone.rig import Clock
from ivrguard.phone.verify import CHECKS_MAX, SENDS_MAX, SERVICE_SID, TEMPLATE_SID, VALID_S, Verify

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(twilio|aiohttp).*")
"""Twilio's own connection uses what aiohttp will take out."""

ACCOUNT_SID = "AC" + "1" * 32
TOKEN = "a-token-of-the-test"
TO = "+14155550123"
NOW_MS = 1_700_000_000_000


@pytest.fixture
def clock():
    return Clock(NOW_MS)


@pytest.fixture
def api(clock):
    return Verify(ACCOUNT_SID, TOKEN, clock)


@pytest.fixture
async def verify(api):
    """Twilio's client of Verify v2, pointed at the pretend one."""
    async with TestServer(api.app()) as server, AsyncTwilioHttpClient() as http:
        client = Client(ACCOUNT_SID, TOKEN, http_client=http)
        client.verify.base_url = str(server.make_url(""))
        yield client.verify.v2


@pytest.fixture
def service(verify):
    return verify.services(SERVICE_SID)


def code_in(message):
    return re.findall("[0-9]{4,}", message.body)[0]


async def refusal(asked):
    with pytest.raises(TwilioRestException) as refused:
        await asked
    return refused.value.status, refused.value.code


async def check(service, code, **about):
    return (await service.verification_checks.create_async(code=code, **about)).status


async def test_a_verification_is_begun_and_sends_a_code(api, service):
    """The shape that the SDK knows; the message is in `sent`."""
    begun = await service.verifications.create_async(to=TO, channel="sms")

    assert (begun.to, begun.status, begun.channel, begun.valid) == (TO, "pending", "sms", False)
    assert re.fullmatch("VE[0-9a-f]{32}", begun.sid)
    assert begun.date_created.timestamp() == NOW_MS / 1000
    assert (begun.service_sid, begun.account_sid) == (SERVICE_SID, ACCOUNT_SID)
    code = code_in(api.sent[0])
    assert api.sent == [Message(TO, f"Your Example Bank verification code is: {code}", SERVICE_SID)]
    assert len(code) == 6


async def test_messages_may_land_in_the_list_of_another_api(clock):
    """One mailbox for everything that is sent to a caller; an empty one too."""
    sent = []
    assert Verify(ACCOUNT_SID, TOKEN, clock, sent).sent is sent


@pytest.mark.parametrize("by", ["verification_sid", "to"])
async def test_a_wrong_code_is_pending_and_the_right_one_approved_once(api, service, by):
    """By id or by number; afterwards it is gone: 404, 20404."""
    begun = await service.verifications.create_async(to=TO, channel="sms")
    code = code_in(api.sent[0])
    about = {by: begun.sid if by == "verification_sid" else TO}
    wrong = "000000" if code != "000000" else "111111"

    assert await check(service, wrong, **about) == "pending"
    assert await check(service, code, **about) == "approved"
    assert await refusal(check(service, code, **about)) == (404, 20404)


async def test_the_same_code_again_and_no_more_than_five_times(api, service):
    """60203; it is another one after a cancellation."""
    sids = {(await service.verifications.create_async(to=TO, channel="sms")).sid for _ in range(SENDS_MAX)}
    assert len(sids) == 1
    assert len({message.body for message in api.sent}) == 1
    assert await refusal(service.verifications.create_async(to=TO, channel="sms")) == (429, 60203)
    assert len(api.sent) == SENDS_MAX

    canceled = await service.verifications(TO).update_async(status="canceled")
    assert (canceled.sid, canceled.status) == (*sids, "canceled")
    assert (await service.verifications.create_async(to=TO, channel="sms")).sid not in sids


async def test_no_more_than_five_checks(api, service):
    """60202, for the right code too."""
    begun = await service.verifications.create_async(to=TO, channel="sms")
    code = code_in(api.sent[0])
    wrong = "000000" if code != "000000" else "111111"
    for _ in range(CHECKS_MAX):
        assert await check(service, wrong, verification_sid=begun.sid) == "pending"
    assert await refusal(check(service, code, verification_sid=begun.sid)) == (429, 60202)


async def test_a_code_lives_for_ten_minutes(api, service, clock):
    """From its first send; then it is gone, and the next one is new."""
    begun = await service.verifications.create_async(to=TO, channel="sms")
    clock.advance(VALID_S - 0.001)
    assert (await service.verifications.create_async(to=TO, channel="sms")).sid == begun.sid
    clock.advance(0.001)
    assert await refusal(check(service, code_in(api.sent[0]), verification_sid=begun.sid)) == (404, 20404)
    assert await refusal(service.verifications(begun.sid).update_async(status="canceled")) == (404, 20404)
    assert (await service.verifications.create_async(to=TO, channel="sms")).sid != begun.sid


async def test_two_numbers_have_two_codes(api, service):
    first, second = [
        await service.verifications.create_async(to=to, channel="sms") for to in (TO, "+14155550199")
    ]
    assert first.sid != second.sid
    assert await check(service, code_in(api.sent[1]), to="+14155550199") == "approved"
    assert await check(service, code_in(api.sent[0]), to=TO) == "approved"


@pytest.mark.parametrize(
    ("locale", "substitutions", "expected"),
    [
        ("en", '{"intent": "a wire"}', "is your code for: a wire."),
        ("es", '{"intent": "un giro"}', "es su codigo para: un giro."),
        ("en", '{"intent": ""}', (400, 60224)),
        ("en", "{}", (400, 60224)),
        ("fr", '{"intent": "a wire"}', (404, 20404)),
    ],
)
async def test_a_template_says_what_is_put_in(api, service, locale, substitutions, expected):
    """What it needs and is not given is 60224; a language that it has not got 404."""
    asked = service.verifications.create_async(
        to=TO,
        channel="sms",
        locale=locale,
        template_sid=TEMPLATE_SID,
        template_custom_substitutions=substitutions,
    )
    if isinstance(expected, str):
        await asked
        assert expected in api.sent[0].body
    else:
        assert await refusal(asked) == expected
        assert api.sent == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"to": "555"}, (400, 60200)),
        ({"channel": "call"}, (400, 60200)),
        ({"template_sid": "HJ" + "0" * 32}, (404, 20404)),
        ({"locale": "tlh"}, (404, 20404)),
    ],
)
async def test_a_bad_parameter_is_refused(api, service, change, expected):
    """And nothing is sent."""
    assert (
        await refusal(service.verifications.create_async(**({"to": TO, "channel": "sms"} | change)))
        == expected
    )
    assert api.sent == []


async def test_a_code_has_four_to_ten_digits_and_a_status_is_one_of_two(service):
    begun = await service.verifications.create_async(to=TO, channel="sms")
    assert await refusal(check(service, "123", verification_sid=begun.sid)) == (400, 60200)
    assert await refusal(service.verifications(begun.sid).update_async(status="pending")) == (400, 60200)
    assert await refusal(check(service, "123456")) == (404, 20404)


async def test_the_service_says_how_long_its_codes_are(api, service, verify):
    """And another service is not there."""
    api.code_length = 8
    assert (await service.fetch_async()).code_length == 8
    await service.verifications.create_async(to=TO, channel="sms")
    assert len(code_in(api.sent[0])) == 8
    assert await refusal(verify.services("VA" + "0" * 32).fetch_async()) == (404, 20404)


async def test_a_code_is_in_no_repr(api, service):
    """Nobody learns a secret from a repr."""
    await service.verifications.create_async(to=TO, channel="sms")
    assert code_in(api.sent[0]) not in repr(vars(api))
