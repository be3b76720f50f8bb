"""Text messages: handed over once, by the deadline, and a refusal says what to mend and nothing of the message."""

import asyncio
import logging
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.notify import sms
from ivrguard.notify.sms import SmsMessenger

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
FROM, TO = "+18005550100", "+18005550142"
TEXT = "Example Bank: 123456 is your code for: a wire. Nobody of ours will ask you for it. ☎"
TAKEN = {"sid": "SM" + "0" * 32, "status": "queued", "error_code": None}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Carrier:
    """A server on the loopback that answers as Twilio's Messages resource does, or as a test wants."""

    answer: Answer
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport)
        return await self.answer(request)


async def taken(request: web.Request) -> web.StreamResponse:
    return web.json_response(TAKEN, status=201)


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    one = Carrier(taken)
    app = web.Application()
    app.router.add_post(f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json", one.messages)
    async with TestServer(app) as server:
        one.url = str(server.make_url(""))
        yield one


@pytest.fixture
async def messenger(carrier: Carrier) -> AsyncIterator[SmsMessenger]:
    one = SmsMessenger(ACCOUNT, TOKEN, FROM, api_url=carrier.url)
    yield one
    await one.close()


def says(status: int, body: object) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


def refuses(status: int, code: int) -> Answer:
    """A refusal as Twilio words it, repeating the number."""
    return says(status, {"code": code, "message": f"The 'To' number {TO} is not valid", "status": status})


async def test_a_message_is_handed_over(carrier: Carrier, messenger: SmsMessenger) -> None:
    """One request, with the account's credentials, of exactly the number and the text."""
    await messenger.send(TO, TEXT, deadline_s=5)
    assert carrier.asked == [{"To": TO, "From": FROM, "Body": TEXT}]
    basic = b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert carrier.headers[0]["Authorization"] == f"Basic {basic}"


async def test_a_messaging_service_may_choose_the_number(carrier: Carrier) -> None:
    """Then the request names the service and no number."""
    messenger = SmsMessenger(ACCOUNT, TOKEN, messaging_service_sid="MG1", api_url=carrier.url)
    await messenger.send(TO, TEXT, deadline_s=5)
    await messenger.close()
    assert carrier.asked == [{"To": TO, "MessagingServiceSid": "MG1", "Body": TEXT}]


@pytest.mark.parametrize(("from_", "service"), [("", ""), (FROM, "MG1")])
def test_a_message_has_one_sender(from_: str, service: str) -> None:
    """A number or a service: neither or both is a fault of the configuration."""
    with pytest.raises(ValueError, match="one of the two"):
        SmsMessenger(ACCOUNT, TOKEN, from_, messaging_service_sid=service)


async def test_the_environment_does_not_change_where_it_goes(
    carrier: Carrier, messenger: SmsMessenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that Twilio's library would read are not read: the configuration is in one place."""
    for name in ("ACCOUNT_SID", "AUTH_TOKEN", "REGION", "EDGE"):
        monkeypatch.setenv(f"TWILIO_{name}", "elsewhere")
    other = SmsMessenger(ACCOUNT, TOKEN, FROM, api_url=carrier.url)
    await other.send(TO, TEXT, deadline_s=5)
    await other.close()
    assert len(carrier.asked) == 1


async def test_connections_are_kept(carrier: Carrier, messenger: SmsMessenger) -> None:
    """Messages one after the other go over one connection."""
    for _ in range(3):
        await messenger.send(TO, TEXT, deadline_s=5)
    assert (len(carrier.asked), len(carrier.connections)) == (3, 1)


async def drops(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drops_in_the_middle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=201, headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"sid": ')
    assert request.transport is not None
    request.transport.abort()
    return response


async def leads_elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/elsewhere")


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=201)
    await response.prepare(request)
    for _ in range(64):
        await response.write(b" " * 2_048)
    return response


NOT_THE_API = "the carrier's answer was not what its API answers"
ACCOUNT_REFUSED = "the carrier refused the account: check its SID, token and permissions"
PROBLEM = says(400, {"type": TO, "title": TO, "status": 400, "code": 21212})
FAILED = TAKEN | {"status": "failed", "error_code": 30007}
CODE = "https://www.twilio.com/docs/api/errors"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(answer, told, id=name)
        for name, answer, told in (
            ("number", refuses(400, 21211), f"the carrier refused the message ({CODE}/21211)"),
            ("account", refuses(401, 20003), f"{ACCOUNT_REFUSED} ({CODE}/20003)"),
            ("permission", refuses(403, 20403), f"{ACCOUNT_REFUSED} ({CODE}/20403)"),
            (
                "too many",
                refuses(429, 20429),
                f"the carrier asks for fewer messages at a time ({CODE}/20429)",
            ),
            ("overload", refuses(503, 20503), f"the carrier has a fault of its own ({CODE}/20503)"),
            ("fault, no code", says(500, "<html>"), "the carrier has a fault of its own"),
            ("refusal, a list", says(400, [TO]), "the carrier refused the message"),
            ("refusal, odd code", says(400, {"code": TO}), "the carrier refused the message"),
            ("refusal, RFC 9457", PROBLEM, f"the carrier refused the message ({CODE}/21212)"),
            (
                "taken and failed",
                says(201, FAILED),
                f"the carrier took the message and failed to send it ({CODE}/30007)",
            ),
            ("success, a list", says(201, [1]), NOT_THE_API),
            ("success, null", says(201, None), NOT_THE_API),
            ("too long", never_ends, NOT_THE_API),
            ("success, no message", says(201, {"status": "queued"}), NOT_THE_API),
            ("success, odd date", says(201, TAKEN | {"date_created": 5}), NOT_THE_API),
            ("redirect", leads_elsewhere, "the carrier refused the message"),
            ("dropped", drops, "the carrier was not reached: ServerDisconnectedError"),
            ("dropped in the middle", drops_in_the_middle, "the carrier was not reached: ClientPayloadError"),
        )
    ],
)
async def test_what_goes_wrong_is_told_without_the_message(
    carrier: Carrier, messenger: SmsMessenger, caplog: pytest.LogCaptureFixture, answer: Answer, told: str
) -> None:
    """Refusals, faults, nonsense and lost lines: asked once, and the error says no more than what to mend."""
    caplog.set_level(logging.DEBUG)
    carrier.answer = answer
    with pytest.raises(NotifyFault) as fault:
        await messenger.send(TO, TEXT, deadline_s=5)
    assert str(fault.value) == told
    assert len(carrier.asked) == 1
    logged = caplog.text + "".join(traceback.format_exception(fault.value))
    assert not any(secret in logged for secret in (TO, TEXT, TOKEN))


async def test_text_that_is_not_json_is_not_the_api(carrier: Carrier, messenger: SmsMessenger) -> None:
    """A page of some proxy, or bytes that are no text, with a status of success, are no success."""
    for body in (b"<html>", b"", b"\xff", b'{"a": "\xff"}', b"[" * 5_000):

        async def answer(request: web.Request, body: bytes = body) -> web.StreamResponse:
            return web.Response(body=body, status=201)

        carrier.answer = answer
        with pytest.raises(NotifyFault, match=NOT_THE_API):
            await messenger.send(TO, TEXT, deadline_s=5)


async def test_nobody_listening(carrier: Carrier) -> None:
    """A carrier that cannot be reached is a fault at once."""
    messenger = SmsMessenger(ACCOUNT, TOKEN, FROM, api_url="http://127.0.0.1:1")
    with pytest.raises(NotifyFault, match="the carrier was not reached: ClientConnectorError"):
        await messenger.send(TO, TEXT, deadline_s=5)
    await messenger.close()


async def test_the_deadline_holds(carrier: Carrier, messenger: SmsMessenger) -> None:
    """A carrier that never answers is given up at the deadline; the next message is not held up by it."""
    released = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return await taken(request)

    carrier.answer = slow
    with pytest.raises(NotifyFault, match=r"did not answer within 0\.05 s"):
        await messenger.send(TO, TEXT, deadline_s=0.05)
    carrier.answer = taken
    await messenger.send(TO, TEXT, deadline_s=5)
    released.set()


async def test_no_more_at_once_than_there_is_room_for(
    carrier: Carrier, messenger: SmsMessenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a message is refused at once and not sent; afterwards there is room again."""
    monkeypatch.setattr(sms, "SENDS_AT_ONCE_MAX", 2)
    arrived, released = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        arrived.release()
        await released.wait()
        return await taken(request)

    carrier.answer = slow
    sends = [asyncio.ensure_future(messenger.send(TO, TEXT, deadline_s=5)) for _ in range(2)]
    async with asyncio.timeout(5):
        for _ in sends:
            await arrived.acquire()
    with pytest.raises(NotifyFault, match="2 messages are under way already"):
        await messenger.send(TO, TEXT, deadline_s=5)
    released.set()
    await asyncio.gather(*sends)
    await messenger.send(TO, TEXT, deadline_s=5)
    assert len(carrier.asked) == 3


async def test_who_never_sent_can_be_closed() -> None:
    """Closing twice, or before any message, is no fault; no secret shows in a repr."""
    messenger = SmsMessenger(ACCOUNT, TOKEN, FROM)
    await messenger.close()
    await messenger.close()
    assert TOKEN not in repr(vars(messenger))
