"""The pretend Messages API, driven by Twilio's own client and by raw HTTP."""

from base64 import b64encode

import pytest
from aiohttp.test_utils import TestServer
from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageInstance

from ivrguard.phone.messages import BODY_CHARACTERS_MAX, Message, Messages

ACCOUNT_SID = "AC" + "1" * 32
TOKEN = "a-token-of-the-test"
TO = "+14155550123"
GOOD = {"To": TO, "From": "+18005550100", "Body": "Your code is 123456"}


@pytest.fixture
def messages():
    return Messages(ACCOUNT_SID, TOKEN, api_keys={"SK1": "key-secret"})


@pytest.fixture
async def url(messages):
    server = TestServer(messages.app())
    await server.start_server()
    yield str(server.make_url(f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"))
    await server.close()


async def post(session, url, form, user=ACCOUNT_SID, password=TOKEN):
    authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    async with session.post(url, data=form, headers={"Authorization": authorization}) as response:
        return response.status, await response.json()


async def test_twilios_own_client_can_read_the_answer(messages, url, session):
    """201 and a message in the shape that the SDK knows."""
    status, body = await post(session, url, GOOD)
    message = MessageInstance(Client(ACCOUNT_SID, TOKEN).api.v2010, body, ACCOUNT_SID)

    assert status == 201
    assert (message.to, message.body, message.from_) == (GOOD["To"], GOOD["Body"], GOOD["From"])
    assert (message.status, message.direction, message.error_code) == ("queued", "outbound-api", None)
    assert message.sid.startswith("SM")
    assert message.date_created.utcoffset().total_seconds() == 0
    assert messages.sent == [Message(TO, GOOD["Body"], GOOD["From"])]


async def test_a_messaging_service_may_send(messages, url, session):
    """MessagingServiceSid stands in for From; an API key for the token."""
    form = {"To": TO, "MessagingServiceSid": "MG1", "Body": "Hello"}

    status, body = await post(session, url, form, "SK1", "key-secret")

    assert (status, body["from"], body["messaging_service_sid"]) == (201, None, "MG1")
    assert messages.sent == [Message(TO, "Hello", "MG1")]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"To": ""}, 400, 21604),
        ({"To": "555"}, 400, 21211),
        ({"From": ""}, 400, 21603),
        ({"Body": ""}, 400, 21602),
        ({"Body": "x" * (BODY_CHARACTERS_MAX + 1)}, 400, 21617),
    ],
)
async def test_a_bad_message_is_refused(messages, url, session, change, status, code):
    """Errors come with Twilio's code, and nothing is sent."""
    answered, body = await post(session, url, GOOD | change)

    assert (status, code) == (answered, body["code"])
    assert messages.sent == []


async def test_only_the_account_may_send(messages, url, session):
    """401 20003 for a wrong token, 404 20404 for another account."""
    wrong = await post(session, url, GOOD, password="wrong")
    other = await post(session, url.replace(ACCOUNT_SID, "AC2"), GOOD)

    assert [(status, body["code"]) for status, body in (wrong, other)] == [(401, 20003), (404, 20404)]
    assert messages.sent == []


async def test_what_meets_a_fault_is_not_sent(messages, url, session):
    """Faults are planted as in every API (tests/phone/test_rest.py)."""
    messages.fail_next(429, 20429)
    status, body = await post(session, url, GOOD)
    assert (status, body["code"], messages.sent) == (429, 20429, [])
    assert (await post(session, url, GOOD))[0] == 201


def test_the_code_is_in_the_last_message_that_has_one(messages):
    """The last run of four digits or more, of the last message to that number."""
    messages.sent = [
        Message(TO, "Your code to wire $50 is 111111"),
        Message(TO, "Your code is 222222."),
        Message("+14155550999", "Your code is 333333"),
        Message(TO, "Somebody tried to call as you"),
    ]

    assert messages.code_for(TO) == "222222"
    with pytest.raises(LookupError, match=r"\+1999"):
        messages.code_for("+1999")


def test_a_code_is_in_no_repr():
    """Nobody learns a secret from a repr."""
    assert "123456" not in repr(Message(TO, "Your code is 123456"))
