"""Twilio's REST API as the adapters ask it: once, by the deadline, and a failure is one fault that tells no secret."""

import asyncio
import logging
import re
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.notify import lookup, rest, sms, verify
from ivrguard.notify.rest import Meaning, Refused, Rest, e164

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
TO = "+18005550142"
TEXT = "123456 is your code ☎"
TAKEN = {"sid": "SM" + "0" * 32, "status": "queued"}
KNOWN = {21211: Meaning("invalid", "takes the number for none")}
DOCS = Path(__file__).parents[2] / "docs" / "messages.md"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def taken(request: web.Request) -> web.StreamResponse:
    return web.json_response(TAKEN, status=201)


@dataclass
class Carrier:
    """A server on the loopback that answers as a test wants, and what it was asked."""

    answer: Answer = taken
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport)
        return await self.answer(request)


@dataclass
class Asker:
    """The smallest adapter there can be."""

    rest: Rest
    url: str

    async def ask(self, deadline_s: float = 5) -> object:
        client = self.rest.client(ACCOUNT, TOKEN)
        client.api.base_url = self.url
        async with self.rest.asking(deadline_s):
            return (await client.messages.create_async(to=TO, body=TEXT)).status


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    one = Carrier()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.serve)
    async with TestServer(app) as server:
        one.url = str(server.make_url(""))
        yield one


@pytest.fixture
async def asker(carrier: Carrier) -> AsyncIterator[Asker]:
    one = Asker(Rest("message", KNOWN), carrier.url)
    yield one
    await one.rest.close()


def says(status: int, body: object) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


def refuses(status: int, code: int) -> Answer:
    """A refusal as Twilio words it, repeating the number."""
    return says(status, {"code": code, "message": f"The 'To' number {TO} is not valid", "status": status})


async def test_a_request_carries_the_accounts_credentials(carrier: Carrier, asker: Asker) -> None:
    """HTTP Basic, and nothing but what was asked."""
    assert await asker.ask() == "queued"
    assert carrier.asked == [{"To": TO, "Body": TEXT}]
    basic = b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert carrier.headers[0]["Authorization"] == f"Basic {basic}"


async def test_a_request_without_credentials_carries_none(carrier: Carrier) -> None:
    """The library may ask without; then no header is made up."""
    http = rest._Http()
    await http.request("POST", carrier.url)
    await http.close()
    assert "Authorization" not in carrier.headers[0]


async def test_the_environment_does_not_change_where_it_goes(
    carrier: Carrier, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that Twilio's library would read are not read: the configuration is in one place."""
    for name in ("ACCOUNT_SID", "AUTH_TOKEN", "REGION", "EDGE"):
        monkeypatch.setenv(f"TWILIO_{name}", "elsewhere")
    await asker.ask()
    assert len(carrier.asked) == 1


async def test_connections_are_kept(carrier: Carrier, asker: Asker) -> None:
    """Requests one after the other go over one connection."""
    for _ in range(3):
        await asker.ask()
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
    for _ in range(1 + rest.ANSWER_BYTES_MAX // 4_096):
        await response.write(b" " * 4_096)
    await response.write(b'{"sid": "SM1", "status": "queued"}')  # a good answer, if anybody read so far
    return response


NOT_THE_API = "the carrier's answer was not what its API answers"
ACCOUNT_REFUSED = "the carrier refused the account: check its SID, token and permissions"
PROBLEM = says(400, {"type": TO, "title": TO, "status": 400, "code": 21212})
CODE = "https://www.twilio.com/docs/api/errors"


@pytest.mark.parametrize(
    ("answer", "why", "said"),
    [
        pytest.param(answer, why, said, id=name)
        for name, answer, why, said in (
            (
                "known",
                refuses(400, 21211),
                "invalid",
                f"the carrier takes the number for none ({CODE}/21211)",
            ),
            (
                "other",
                refuses(400, 21212),
                "undeliverable",
                f"the carrier refused the message ({CODE}/21212)",
            ),
            ("account", refuses(401, 20003), "account", f"{ACCOUNT_REFUSED} ({CODE}/20003)"),
            ("permission", refuses(403, 20403), "account", f"{ACCOUNT_REFUSED} ({CODE}/20403)"),
            (
                "too many",
                refuses(429, 20429),
                "too_many_requests",
                f"the carrier asks for fewer messages at a time ({CODE}/20429)",
            ),
            ("overload", refuses(503, 20503), "outage", f"the carrier has a fault of its own ({CODE}/20503)"),
            ("fault, no code", says(500, "<html>"), "outage", "the carrier has a fault of its own"),
            ("refusal, a list", says(400, [TO]), "undeliverable", "the carrier refused the message"),
            ("odd code", says(400, {"code": TO}), "undeliverable", "the carrier refused the message"),
            ("no code of ours", says(400, {"code": 7}), "undeliverable", "the carrier refused the message"),
            ("RFC 9457", PROBLEM, "undeliverable", f"the carrier refused the message ({CODE}/21212)"),
            ("redirect", leads_elsewhere, "undeliverable", "the carrier refused the message"),
            ("a list", says(201, [1]), "garbled", NOT_THE_API),
            ("null", says(201, None), "garbled", NOT_THE_API),
            ("odd date", says(201, TAKEN | {"date_created": 5}), "garbled", NOT_THE_API),
            ("too long", never_ends, "garbled", NOT_THE_API),
            ("dropped", drops, "outage", "the carrier was not reached: ServerDisconnectedError"),
            (
                "in the middle",
                drops_in_the_middle,
                "outage",
                "the carrier was not reached: ClientPayloadError",
            ),
        )
    ],
)
async def test_what_goes_wrong_is_told_without_what_was_asked(
    carrier: Carrier, asker: Asker, caplog: pytest.LogCaptureFixture, answer: Answer, why: str, said: str
) -> None:
    """Refusals, faults, nonsense and lost lines: asked once, and the fault says no more than what to mend."""
    caplog.set_level(logging.DEBUG)
    carrier.answer = answer
    with pytest.raises(NotifyFault) as fault:
        await asker.ask()
    assert (fault.value.why, str(fault.value)) == (why, said)
    assert why in rest.WHYS
    assert len(carrier.asked) == 1
    assert [secret for secret in (TO, TEXT, TOKEN) if secret in printed(caplog, fault.value)] == []


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b'{"a": "\xff"}', b"[" * 5_000])
@pytest.mark.parametrize(("status", "why"), [(201, "garbled"), (400, "undeliverable")])
async def test_text_that_is_not_json_is_not_the_api(
    carrier: Carrier, asker: Asker, body: bytes, status: int, why: str
) -> None:
    """A page of some proxy, or bytes that are no text, are no success; a refusal is told by its status."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    carrier.answer = answer
    with pytest.raises(NotifyFault) as fault:
        await asker.ask()
    assert fault.value.why == why


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("GET", 2)])
async def test_what_changes_something_is_asked_once(carrier: Carrier, method: str, times: int) -> None:
    """A line that breaks: what only reads is asked once more, on a new one; what sends or counts never."""
    carrier.answer = drops
    http = rest._Http()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.request(method, carrier.url)
    await http.close()
    assert len(carrier.asked) == times


async def test_an_adapter_may_take_a_refusal_for_an_answer(carrier: Carrier, asker: Asker) -> None:
    """Inside of `asking` a refusal has the status and the code, and nothing of the carrier's words."""
    carrier.answer = refuses(404, rest.NOT_FOUND)
    client = asker.rest.client(ACCOUNT, TOKEN)
    client.api.base_url = carrier.url
    async with asker.rest.asking(5):
        with pytest.raises(Refused) as refused:
            await client.messages.create_async(to=TO, body=TEXT)
    assert (refused.value.status, refused.value.code) == (404, 20404)
    assert TO not in str(refused.value)


async def test_nobody_listening() -> None:
    """A carrier that cannot be reached is a fault at once."""
    asker = Asker(Rest("message", {}), "http://127.0.0.1:1")
    with pytest.raises(NotifyFault, match="the carrier was not reached: ClientConnectorError") as fault:
        await asker.ask()
    assert fault.value.why == "outage"
    await asker.rest.close()


async def test_the_deadline_holds(carrier: Carrier, asker: Asker) -> None:
    """A carrier that never answers is given up at the deadline; the next request is not held up by it."""
    released = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return await taken(request)

    carrier.answer = slow
    with pytest.raises(NotifyFault, match=r"did not answer within 0\.05 s") as fault:
        await asker.ask(0.05)
    assert fault.value.why == "timeout"
    carrier.answer = taken
    await asker.ask()
    released.set()


async def test_no_more_at_once_than_there_is_room_for(
    carrier: Carrier, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a request is refused at once and not made; afterwards there is room again."""
    monkeypatch.setattr(rest, "REQUESTS_AT_ONCE_MAX", 2)
    arrived, released = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        arrived.release()
        await released.wait()
        return await taken(request)

    carrier.answer = slow
    under_way = [asyncio.ensure_future(asker.ask()) for _ in range(2)]
    async with asyncio.timeout(5):
        for _ in under_way:
            await arrived.acquire()
    with pytest.raises(NotifyFault, match="2 requests are under way already") as fault:
        await asker.ask()
    assert fault.value.why == "busy"
    released.set()
    await asyncio.gather(*under_way)
    await asker.ask()
    assert len(carrier.asked) == 3


async def test_who_never_asked_can_be_closed() -> None:
    """Closing twice, or before any request, is no fault; no secret shows in a repr."""
    one = Rest("message", {})
    client = one.client(ACCOUNT, TOKEN)
    await one.close()
    await one.close()
    assert TOKEN not in repr(vars(one)) + repr(client)


@pytest.mark.parametrize(
    "number", ["", "8005550142", "+0800555", "+1800", "+1800555014212345", f"{TO}/../x", f"{TO}\n"]
)
def test_what_stands_in_a_url_is_a_number(number: str) -> None:
    """Nothing on an account can lead a request elsewhere; and the fault does not repeat it."""
    with pytest.raises(NotifyFault) as fault:
        e164(number)
    assert (fault.value.why, str(fault.value).count("800")) == ("invalid", 0)
    assert e164(TO) == TO


def test_every_word_is_explained_to_the_operator() -> None:
    """docs/messages.md has each `why` and each error code that is known by one."""
    text = DOCS.read_text()
    assert rest.WHYS - set(re.findall("`(\\w+)`", text)) == set()
    tables = [module._MEANINGS for module in (sms, verify, lookup)]
    assert {meaning.why for table in tables for meaning in table.values()} <= rest.WHYS
    codes = {code for table in tables for code in table} - {rest.NOT_FOUND}
    assert [code for code in sorted(codes) if str(code) not in text] == []


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
