"""An IVR whose answers are a table, the guard before it, and what a test sends by hand: all on loopback."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import pyotp
import pytest
import structlog
from aiohttp import web
from multidict import CIMultiDict, MultiDict
from twilio.request_validator import RequestValidator
from yarl import URL

from ivrguard import flowfile, log
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand
from ivrguard.factors import pin
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Rig, rig
from ivrguard.ports import Account, Credential
from ivrguard.telephony.links import Kind as LinkKind
from ivrguard.telephony.signature import sign
from ivrguard.web.identity import LOGIN_PATH
from ivrguard.web.sessions import COOKIE

PIN = "24681357"
CALLER = "+15551230001"
NUMBER = "+18005550100"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the IVR got it; `signed`: the word of twilio's own validator, over the IVR's own URL."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]
    signed: bool

    @property
    def params(self) -> dict[str, str]:
        text = self.body.decode() if self.method == "POST" else self.query
        return dict(parse_qsl(text, keep_blank_values=True))


Answers = str | web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Ivr:
    """`documents`: path -> what stands inside `<Response>`, a response, or a handler. `seen`: all requests."""

    documents: dict[str, Answers] = field(default_factory=lambda: {"/voice": "<Say>Hello.</Say>"})
    seen: list[Seen] = field(default_factory=list)
    token: str = AUTH_TOKEN

    def app(self, _: str) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        url = f"http://{request.host}{request.raw_path}"
        text = body.decode()
        form = request.content_type == FORM or not text
        to_check = MultiDict(parse_qsl(text, keep_blank_values=True)) if form else text
        signature = request.headers.get("X-Twilio-Signature", "")
        signed = bool(RequestValidator(self.token).validate(url, to_check, signature))
        path, _, query = request.raw_path.partition("?")
        self.seen.append(Seen(request.method, path, query, body, CIMultiDict(request.headers), signed))
        answer = self.documents.get(path)
        if answer is None:
            return web.Response(status=404)
        if isinstance(answer, str):
            return web.Response(text=f"<Response>{answer}</Response>", content_type="text/xml")
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        return await answer(request)

    def paths(self) -> list[str]:
        return [one.path for one in self.seen]


@dataclass(frozen=True, slots=True)
class Got:
    """What came back: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Provider:
    """Twilio by hand: requests of any shape, signed as it signs."""

    def __init__(self, guarded: Rig) -> None:
        self._rig = guarded
        self.sid = "CA" + uuid4().hex

    def params(self, **changed: str | None) -> tuple[tuple[str, str], ...]:
        """The parameters of an inbound call; None takes one out."""
        usual = {
            "CallSid": self.sid,
            "AccountSid": ACCOUNT_SID,
            "From": CALLER,
            "To": NUMBER,
            "CallStatus": "ringing",
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
        }
        return tuple((name, value) for name, value in {**usual, **changed}.items() if value is not None)

    async def send(
        self,
        target: str = "/",
        params: tuple[tuple[str, str], ...] | None = None,
        *,
        method: str = "POST",
        token: str | bytes = AUTH_TOKEN,
        algorithm: str = "HMAC_SHA1",
        public_url: str = PUBLIC_URL,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = FORM,
        signature: str | None = None,
    ) -> Got:
        """One request; `body`: bytes in place of the form. `signature`: in place of the right one."""
        params = self.params() if params is None else params
        if method == "GET":
            target += ("&" if "?" in target else "?") + urlencode(params)
            signed: tuple[tuple[str, str], ...] = ()
        else:
            signed = params if body is None else ()
            body = urlencode(params).encode() if body is None else body
        if signature is None:
            signature = sign(token, public_url + target, signed, algorithm)
        sent = {"X-Twilio-Signature": signature, **(headers or {})}
        if method != "GET":
            sent["Content-Type"] = content_type
        async with self._rig.session.request(
            method,
            URL(self._rig.guard_url + target, encoded=True),
            data=body,
            headers=sent,
            allow_redirects=False,
        ) as answer:
            return Got(answer.status, dict(answer.headers), await answer.read())


async def talk(url: str, request: bytes, *, head: bool = False, deadline_s: float = 5.0) -> bytes:
    """Send these bytes over a bare socket; what comes back until the other end closes, or the `head` of it."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(deadline_s):
            return await (reader.readuntil(b"\r\n\r\n") if head else reader.read())
    finally:
        writer.close()


async def counted(guarded: Rig, name: str) -> float:
    """The value of one sample of the metrics, by its whole name with labels; 0 if it was never counted."""
    async with guarded.session.get(f"{guarded.ops_url}/metrics") as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real argon2 with small parameters: what a hash costs is tests/factors/test_pin.py's business."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture(scope="session")
def bank_flow() -> Flow:
    return flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]


@pytest.fixture(scope="session")
def open_flow(bank_flow: Flow) -> Flow:
    """The bank's flow with everything open to anyone."""
    return replace(bank_flow, rules=(), default=Demand(None))


@pytest.fixture
def ivr() -> Ivr:
    return Ivr()


@pytest.fixture
def start(ivr: Ivr) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    """Starts a guard before the IVR, for the time of an `async with`."""

    def started(flow: Flow, **more: object) -> AbstractAsyncContextManager[Rig]:
        return rig(flow, ivr.app, **more)  # type: ignore[arg-type]  # passed through

    return started


@pytest.fixture
async def guarded(start, open_flow: Flow) -> AsyncIterator[Rig]:
    """A guard that lets everybody through, on memory."""
    async with start(open_flow) as running:
        yield running


@pytest.fixture
async def bank(start, bank_flow: Flow) -> AsyncIterator[Rig]:
    """The bank's guard, on memory, with one account: 123456, PIN, codes to the caller's own number."""
    async with start(bank_flow) as running:
        credential = Credential(Kind.SMS_CODE, number=CALLER)
        await running.enrol(Account("123456", (CALLER,), (credential,)), pin=PIN)
        yield running


@pytest.fixture
def provider(guarded: Rig) -> Provider:
    return Provider(guarded)


@pytest.fixture
def provider_of() -> type[Provider]:
    return Provider


@pytest.fixture
def metric():
    return counted


@pytest.fixture
def over_a_socket():
    return talk


@pytest.fixture
def logged():
    """Every log line written meanwhile, as fields."""
    with structlog.testing.capture_logs(processors=[log._with_context]) as lines:
        yield lines


def link(guarded: Rig, path: str, kind: LinkKind, *, method: str = "POST", turn: int = 0) -> str:
    """What the guard would write for the IVR's `path`: the target, without the guard's origin."""
    links = guarded.server.world.flows.all()[0].links
    written = links.outward(guarded.ivr_url + path, kind=kind, method=method, turn=turn)
    return written.removeprefix(PUBLIC_URL)


@pytest.fixture
def link_to():
    return link


# ── an agent's browser ───────────────────────────────────────────────────────────────────────────────────

PASSWORD = "four tall ships at noon"
APP_SECRET = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"


class Browser:
    """A browser as far as a log-in needs one: cookies, forms, its own origin; redirects are looked at, not followed."""

    def __init__(self, guarded, origin=PUBLIC_URL):
        self.guarded, self.origin, self.cookies, self.seen = guarded, origin, {}, []

    async def ask(self, path, method="GET", data=None, **headers):
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method == "POST" and self.origin:
            headers.setdefault("Origin", self.origin)
        async with self.guarded.session.request(
            method, self.guarded.guard_url + path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            set_cookies = answer.headers.getall("Set-Cookie", [])
            for line in set_cookies:
                name, _, rest = line.partition("=")
                value = rest.partition(";")[0]
                self.cookies.pop(name, None)
                if "Max-Age=0" not in line:
                    self.cookies[name] = value
            got = SimpleNamespace(
                status=answer.status, text=await answer.text(), headers=answer.headers, set=set_cookies
            )
        self.seen.append(got)
        return got

    async def open(self, query=""):
        """The page; its hidden fields."""
        got = await self.ask(LOGIN_PATH + query)
        return dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', got.text))

    async def enter(self, name="ann", password=PASSWORD, code=None, query="", **fields):
        """Fill in the form and send it; `code`: None for what the app shows now."""
        hidden = await self.open(query)
        shown = pyotp.TOTP(APP_SECRET).at(self.guarded.clock() // 1000)
        form = {
            **hidden,
            "name": name,
            "password": password,
            "code": shown if code is None else code,
            **fields,
        }
        return await self.ask(LOGIN_PATH, "POST", form)

    @property
    def session(self):
        return self.cookies.get(COOKIE)


@pytest.fixture
def browser_at():
    return Browser
