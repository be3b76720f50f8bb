"""A tiny webhook server on a real loopback socket, whose documents are a table, and an exchange that calls it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from ivrguard.phone.exchange import Exchange, Line
from ivrguard.phone.heard import Said

ACCOUNT_SID = "AC" + "0" * 32
AUTH_TOKEN = "a-token-of-the-test"
NUMBER = "+18005550100"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Got:
    """One request, as the server saw it; `signed` is the word of twilio's own validator."""

    method: str
    path: str
    params: MultiDict[str]
    headers: dict[str, str]
    signed: bool


@dataclass
class Webhooks:
    """`documents`: path -> what stands inside `<Response>`, or a handler. `origin`: where it listens."""

    documents: dict[str, str | Handler] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    origin: str = ""
    public: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = MultiDict((name, str(value)) for name, value in (await request.post()).items())
        url = (self.public or self.origin) + request.raw_path
        signature = request.headers.get("X-Twilio-Signature", "")
        self.got.append(
            Got(
                request.method,
                request.path,
                form or MultiDict(request.query),
                dict(request.headers),
                RequestValidator(AUTH_TOKEN).validate(url, form, signature),
            )
        )
        document = self.documents.get(request.path)
        if document is None:
            return web.Response(status=404)
        if not isinstance(document, str):
            return await document(request)
        return web.Response(text=f"<Response>{document}</Response>", content_type="text/xml")

    def asked(self, path: str) -> list[MultiDict[str]]:
        """The parameters of each request to that path."""
        return [each.params for each in self.got if each.path == path]


@pytest.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    served = Webhooks()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", served.answer)
    server = TestServer(app)
    await server.start_server()
    served.origin = str(server.make_url("")).rstrip("/")
    yield served
    await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
async def exchange(webhooks: Webhooks, session: aiohttp.ClientSession) -> Exchange:
    made = Exchange(session, ACCOUNT_SID, AUTH_TOKEN)
    made.number(NUMBER, f"{webhooks.origin}/voice")
    return made


@dataclass
class Samples:
    """Sample IVRs, each served on a socket of its own, and called without any guard between."""

    exchange: Exchange
    origin: str = ""
    _servers: list[TestServer] = field(default_factory=list)

    async def serve(self, app: web.Application) -> Line:
        """Serve an IVR, point the number at it, and begin no call yet: the line."""
        server = TestServer(app)
        await server.start_server()
        self._servers.append(server)
        self.origin = str(server.make_url("")).rstrip("/")
        self.exchange.number(NUMBER, f"{self.origin}/voice", status_callback=f"{self.origin}/status")
        return self.call()

    def call(self) -> Line:
        return self.exchange.call("+14155550123", NUMBER)

    @staticmethod
    async def press(line: Line, *keys: str) -> None:
        """Press these keys in turn, each where it is asked for; "" is silence."""
        await line.until_input()
        for each in keys:
            await (line.press(each) if each else line.silent())

    @staticmethod
    def said(line: Line) -> str:
        """All that was said on the line."""
        return " ".join(each.text for each in line.heard if isinstance(each, Said))

    async def close(self) -> None:
        for server in self._servers:
            await server.close()


@pytest.fixture
async def samples(exchange: Exchange) -> AsyncIterator[Samples]:
    made = Samples(exchange)
    yield made
    await made.close()
