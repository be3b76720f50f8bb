"""Text messages: handed over once, from one sender; what is refused says what to mend and nothing of the message."""

import logging
import traceback
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.notify.sms import SmsMessenger
from ivrguard.phone.messages import Message, Messages

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
FROM, TO = "+18005550100", "+18005550142"
TEXT = "Example Bank: 123456 is your code for: a wire. Nobody of ours will ask you for it. ☎"
CODE = "https://www.twilio.com/docs/api/errors"


@pytest.fixture
async def carrier() -> AsyncIterator[tuple[Messages, str]]:
    """The pretend Messages API, on the loopback, and where it is."""
    one = Messages(ACCOUNT, TOKEN)
    async with TestServer(one.app()) as server:
        yield one, str(server.make_url(""))


@pytest.fixture
async def messenger(carrier: tuple[Messages, str]) -> AsyncIterator[SmsMessenger]:
    one = SmsMessenger(ACCOUNT, TOKEN, FROM, api_url=carrier[1])
    yield one
    await one.close()


async def test_a_message_is_handed_over(carrier: tuple[Messages, str], messenger: SmsMessenger) -> None:
    """One request, of exactly the number and the text."""
    await messenger.send(TO, TEXT, deadline_s=5)
    assert carrier[0].sent == [Message(TO, TEXT, FROM)]
    assert carrier[0].asked == 1


async def test_a_messaging_service_may_choose_the_number(carrier: tuple[Messages, str]) -> None:
    """Then the request names the service and no number."""
    messenger = SmsMessenger(ACCOUNT, TOKEN, messaging_service_sid="MG1", api_url=carrier[1])
    await messenger.send(TO, TEXT, deadline_s=5)
    await messenger.close()
    assert carrier[0].sent == [Message(TO, TEXT, "MG1")]


@pytest.mark.parametrize(("from_", "service"), [("", ""), (FROM, "MG1")])
def test_a_message_has_one_sender(from_: str, service: str) -> None:
    """A number or a service: neither or both is a fault of the configuration."""
    with pytest.raises(ValueError, match="one of the two"):
        SmsMessenger(ACCOUNT, TOKEN, from_, messaging_service_sid=service)


@pytest.mark.parametrize(
    ("status", "code", "why", "said"),
    [
        (400, 21211, "invalid", "takes the number for none: look at it in the account"),
        (400, 21408, "country_not_allowed", "may not send to this country: see Messaging > Geo permissions"),
        (400, 21610, "opted_out", "may not send to this number: its owner has answered STOP"),
        (400, 21612, "undeliverable", "has no way from this sender to this number"),
        (400, 21614, "landline", "takes the number for one that gets no texts"),
        (401, 20003, "account", "refused the account: check its SID, token and permissions"),
        (429, 20429, "too_many_requests", "asks for fewer messages at a time"),
    ],
)
async def test_what_the_carrier_refuses_says_what_to_mend(
    carrier: tuple[Messages, str],
    messenger: SmsMessenger,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: int,
    why: str,
    said: str,
) -> None:
    """The number, the text and the token are in no error and no log."""
    caplog.set_level(logging.DEBUG)
    carrier[0].fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await messenger.send(TO, TEXT, deadline_s=5)
    assert (fault.value.why, str(fault.value)) == (why, f"the carrier {said} ({CODE}/{code})")
    assert (carrier[0].asked, carrier[0].sent) == (1, [])
    assert [secret for secret in (TO, TEXT, TOKEN) if secret in printed(caplog, fault.value)] == []


@pytest.mark.parametrize(
    ("answer", "why", "said"),
    [
        (
            {"sid": "SM1", "status": "failed", "error_code": 30007},
            "undeliverable",
            f"the carrier took the message and failed to send it ({CODE}/30007)",
        ),
        (
            {"sid": "SM1", "status": "undelivered", "error_code": None},
            "undeliverable",
            "the carrier took the message and failed to send it",
        ),
        ({"status": "queued"}, "garbled", "the carrier's answer was not what its API answers"),
    ],
)
async def test_taken_is_not_sent(answer: dict[str, object], why: str, said: str) -> None:
    """A message that has failed already, and an answer about no message, are faults."""

    async def answers(_: web.Request) -> web.Response:
        return web.json_response(answer, status=201)

    app = web.Application()
    app.router.add_post("/{path:.*}", answers)
    async with TestServer(app) as server:
        messenger = SmsMessenger(ACCOUNT, TOKEN, FROM, api_url=str(server.make_url("")))
        with pytest.raises(NotifyFault) as fault:
            await messenger.send(TO, TEXT, deadline_s=5)
        await messenger.close()
    assert (fault.value.why, str(fault.value)) == (why, said)


async def test_no_secret_shows_in_a_repr(messenger: SmsMessenger) -> None:
    """What is printed by accident gives nothing away."""
    assert TOKEN not in repr(messenger) + repr(vars(messenger))


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
