"""
A guard without its web: a real store, real keys, real judges. The IVR is a table of documents, messages go into a
list, and a caller is a `Line`: he posts what the provider would post, and reads the TwiML that comes back.
"""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import uuid4
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pyotp
import pytest
import structlog

from ivrguard import flowfile
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.flow import Flow, Upstream
from ivrguard.core.lockout import Ledger
from ivrguard.core.raising import raised
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import Answer, Flows, Guard, Hook, Mounted, World, books
from ivrguard.keyring import Keyring
from ivrguard.ports import Account, Credential, Reply, Request, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony import delivery
from ivrguard.telephony.links import Links

ISSUER = "https://guard.example"
IVR = "https://ivr.example"
NUMBER = "+18005550100"
OWNER = "+15551230001"
STRANGER = "+15559870002"
ACCOUNT_SID = "AC" + "5e" * 16
ACCOUNT = "123456789"
PIN = "24681357"
APP_ACCOUNT = "555000111"
APP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
BEGAN_MS = 1_790_000_000_000


@dataclass
class Clock:
    now_ms: int = BEGAN_MS

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


@dataclass
class Asked:
    """One request that the IVR got."""

    request: Request
    assertion: str
    cookies: str

    @property
    def path(self) -> str:
        return urlsplit(self.request.url).path


@dataclass
class Table:
    """An IVR: path -> what stands inside `<Response>`, or a reply, a fault, or a function of the request."""

    pages: dict[str, object] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """When there is one, nothing is answered before it is set."""

    async def fetch(self, request: Request, *, assertion: str, cookies: str, deadline_s: float) -> Reply:
        assert deadline_s > 0
        self.asked.append(Asked(request, assertion, cookies))
        if self.gate is not None:
            await self.gate.wait()
        page = self.pages.get(urlsplit(request.url).path, "<Say>not found</Say>")
        if callable(page):
            page = page(request)
        if isinstance(page, Exception):
            raise page
        if isinstance(page, str):
            page = reply(page)
        assert isinstance(page, Reply)
        return replace(page, url=page.url or request.url, cookies=page.cookies or cookies)

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]


def reply(inside: str = "", status: int = 200, **more: object) -> Reply:
    body = f"<Response>{inside}</Response>".encode()
    return Reply(status, "", "text/xml", body, **more)


@dataclass
class Texts:
    """The carrier for messages; `fault` is what the next one meets."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    fault: Exception | None = None

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        assert deadline_s > 0
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.sent.append((to, text))

    def code(self) -> str:
        """The code in the last message."""
        return self.sent[-1][1].split()[0]


class Chance:
    """Bytes that nobody has seen before, and the same ones in every run."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        self.drawn += 1
        return hashlib.shake_128(str(self.drawn).encode()).digest(count)


class Crash(Exception):
    """The process ends here, as far as this webhook is concerned."""


class Mortal:
    """A real store in a process that may die: `dies` is how many more acts it lives; `late`: after the last one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.acts = 0
        self.dies: int | None = None
        self.late = False
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def amend(self, keys: object, change: object) -> object:
        if self.fault is not None:
            raise self.fault
        self.acts += 1
        dying = self.dies is not None and self.acts > self.dies
        if dying and not self.late:
            raise Crash
        result = await self.store.amend(keys, change)
        if dying:
            raise Crash
        return result

    def live(self) -> None:
        self.acts, self.dies, self.late = 0, None, False


@dataclass
class Centre:
    """What is shared by all nodes; `node(name)` is one of them."""

    flow: Flow
    store: Mortal
    keys: Keyring
    pins: PinJudge
    ivr: Table = field(default_factory=Table)
    texts: Texts | None = field(default_factory=Texts)
    clock: Clock = field(default_factory=Clock)
    chance: Chance = field(default_factory=Chance)
    nodes: dict[str, Guard] = field(default_factory=dict)

    def having(self, **changes: object) -> "Centre":
        """The flow with other parts, before any node is made."""
        self.flow = replace(self.flow, **changes)
        return self

    def links(self, flow: Flow | None = None) -> Links:
        flow = flow or self.flow
        return Links(ISSUER, flow.upstream.url, flow.upstream.also, self.keys.derive("links", "mac"))

    def mounted(self, flow: Flow | None = None) -> Mounted:
        flow = flow or self.flow
        return Mounted(flow, self.links(flow), ZoneInfo(flow.timezone), raised(flow))

    def world(self, name: str = "a", flows: tuple[Flow, ...] | None = None, **more: object) -> World:
        codes = SmsCodeJudge(self.keys)
        parts: dict[str, object] = {
            "store": self.store,
            "directory": LocalDirectory(self.store, self.keys),
            "judges": {Kind.PIN: self.pins, Kind.SMS_CODE: codes, Kind.TOTP: TotpJudge(self.keys)},
            "codes": codes,
            "messenger": self.texts,
            "keys": self.keys,
            "ivr": self.ivr,
            "flows": Flows(tuple(map(self.mounted, (self.flow,) if flows is None else flows))),
            "issuer": ISSUER,
            "node": name,
            "clock": self.clock,
            "chance": self.chance,
        }
        return World(**{**parts, **more})

    def node(self, name: str = "a", **more: object) -> Guard:
        """The guard of that name, made at the first asking."""
        if name not in self.nodes:
            self.nodes[name] = Guard(self.world(name, **more))
        return self.nodes[name]

    def line(self, from_: str = OWNER, **more: object) -> "Line":
        return Line(self, from_=from_, **more)

    async def verified(self, line: "Line | None" = None) -> "Line":
        """A caller who has answered with his account and his PIN, and heard the IVR's first document."""
        line = line or self.line()
        for keys in (None, f"{ACCOUNT}#", PIN):
            await (line.dial() if keys is None else line.press(keys))
        assert line.outcome == "forwarded", line.outcome
        return line

    async def stored(self, line: "Line") -> Call:
        call = await self.store.store.read(books.call_key(line.sid))
        assert call is not None
        return call

    async def ledger(self, account: str = ACCOUNT, kind: str = "pin", lane: str = "pool") -> Ledger | None:
        return await self.store.store.read(books.ledger_key(f"{account}/{kind}/{lane}"))

    async def record(self) -> list[Entry]:
        return [linked.entry for linked in await self.store.store.entries()]

    async def events(self, event: str) -> list[str]:
        """The reasons of all entries of this event, in order."""
        return [entry.reason for entry in await self.record() if entry.event == event]

    def app_code(self, *, steps: int = 0) -> str:
        """What the authenticator app of `APP_ACCOUNT` shows now."""
        return pyotp.TOTP(APP_SECRET).at(self.clock() // 1000 + 30 * steps)


@dataclass
class Line:
    """
    One leg, as the provider sees it: what it posts, and the document that it got last.

    `hook` is the last webhook, so that it can come again, to this node or to another one.
    """

    centre: Centre
    from_: str = OWNER
    to: str = NUMBER
    direction: str = "inbound"
    extra: tuple[tuple[str, str], ...] = ()
    sid: str = field(default_factory=lambda: "CA" + uuid4().hex)
    account_sid: str = ACCOUNT_SID
    node: str = "a"
    hook: Hook | None = None
    body: bytes = b""
    outcome: str = ""

    def params(
        self, digits: str | None = None, status: str = "in-progress", **more: str
    ) -> list[tuple[str, str]]:
        pairs = [
            ("AccountSid", self.account_sid),
            ("CallSid", self.sid),
            ("From", self.from_),
            ("To", self.to),
            ("Direction", self.direction),
            ("CallStatus", status),
            *self.extra,
            *more.items(),
        ]
        return pairs if digits is None else [*pairs, ("Digits", digits)]

    def delivery(self, **more: str) -> delivery.Delivery:
        return delivery.read(self.params(**more))

    def hook_of(self, url: str, digits: str | None = None, *, method: str = "POST", **more: str) -> Hook:
        """The webhook that the provider makes of a URL."""
        target = url.removeprefix(ISSUER).partition("#")[0]
        form = urlencode(self.params(digits, **more))
        body = form.encode() if method == "POST" else b""
        if method == "GET":
            target += ("&" if "?" in target else "?") + form
        question = target.removeprefix("/.ivrguard/call/")
        led = question.removeprefix("led/")
        digest = hashlib.blake2b(target.encode() + b"\0" + body, digest_size=12).digest()
        return Hook(
            delivery=delivery.read(delivery.parse_form(form.encode())),
            method=method,
            target=target,
            body=body,
            headers=(("accept", "text/xml"),),
            fingerprint=urlsafe_b64encode(digest).decode(),
            nonce=question if question != target and led == question else None,
            led=led if led != question else None,
        )

    async def post(self, url: str, digits: str | None = None, **more: str) -> Answer:
        """The provider asks for a URL, with what the caller keyed."""
        return await self.send(self.hook_of(url, digits, **more))

    async def send(self, hook: Hook) -> Answer:
        self.hook = hook
        return self.take(await self.centre.node(self.node).voice(hook))

    async def again(self, node: str | None = None) -> Answer:
        """The last webhook once more, byte for byte; the node that gets it may be another one."""
        assert self.hook is not None
        return self.take(await self.centre.node(node or self.node).voice(self.hook))

    def take(self, answer: Answer) -> Answer:
        self.body, self.outcome = answer.body, answer.outcome
        return answer

    async def dial(self, **more: str) -> Answer:
        return await self.post("/", **more)

    async def press(self, keys: str) -> Answer:
        return await self.post(self.action, keys.removesuffix("#"))

    async def silent(self) -> Answer:
        return await self.post(self.action, "")

    async def go_on(self) -> Answer:
        """Follow the Redirect of the document."""
        return await self.post(self.redirect)

    # ---- the document ------------------------------------------------------------------------------------

    @property
    def document(self) -> ET.Element:
        return ET.fromstring(self.body)

    @property
    def verbs(self) -> list[str]:
        return [verb.tag for verb in self.document]

    @property
    def said(self) -> str:
        return " ".join("".join(say.itertext()) for say in self.document.iter("Say"))

    @property
    def action(self) -> str:
        """Where the keys go that the document asks for."""
        gather = self.document.find("Gather")
        assert gather is not None, self.body
        return gather.attrib["action"]

    @property
    def redirect(self) -> str:
        found = self.document.find("Redirect")
        assert found is not None, self.body
        assert found.text
        return found.text

    def links(self, tag: str, attribute: str) -> list[str]:
        return [element.attrib[attribute] for element in self.document.iter(tag)]


def zone(flow: Flow) -> object:
    from zoneinfo import ZoneInfo

    return ZoneInfo(flow.timezone)


@pytest.fixture(scope="session")
def flow() -> Flow:
    """The example flow, in front of the table."""
    loaded = flowfile.load_all(Path("flows"))
    assert not loaded.faults
    return replace(loaded.flows[0], upstream=Upstream(f"{IVR}/voice", ("https://media.example",)))


@pytest.fixture(scope="session")
def keys() -> Keyring:
    made = (bytes([number]) * 32 for number in range(1, 5))
    return Keyring(
        sealing={"k1": next(made)},
        peppers={"p1": next(made)},
        naming={"n1": next(made)},
        signing={"s1": next(made)},
    )


@pytest.fixture(scope="session")
def rotated(keys: Keyring) -> Keyring:
    """The same keys, with a new naming key before the one that calls began with."""
    return Keyring(
        sealing=keys._sealing,
        peppers=keys.peppers,
        naming={"n2": b"2" * 32, **keys._naming_keys},
        signing={"s1": b"\4" * 32},
    )


@pytest.fixture(scope="session")
def pins(keys: Keyring) -> Iterator[PinJudge]:
    """Real argon2, at its real price."""
    judge = PinJudge(keys.peppers, threads=2)
    yield judge
    judge._pool.shutdown()


@pytest.fixture(scope="session")
def pin(pins: PinJudge) -> Credential:
    """The PIN, hashed once for all tests."""
    hash_ = pins._hasher.hash(pins._keyed(pins._current, PIN))
    return Credential(Kind.PIN, secret=hash_, key_id=pins._current)


@pytest.fixture
async def centre(flow: Flow, keys: Keyring, pins: PinJudge, pin: Credential) -> AsyncIterator[Centre]:
    """The sample flow, two accounts, and an IVR whose first document is a menu."""
    made = Centre(flow, Mortal(MemoryStore()), keys, pins)
    made.ivr.pages["/voice"] = '<Gather action="menu" numDigits="1"><Say>Main menu.</Say></Gather>'
    directory = LocalDirectory(made.store.store, keys)
    code = Credential(Kind.SMS_CODE, number=OWNER)
    app = TotpJudge(keys).enrol(APP_SECRET)
    await directory.add(Account(ACCOUNT, (OWNER,), (pin, code)), now_ms=BEGAN_MS, by="test")
    await directory.add(Account(APP_ACCOUNT, ("+15550000003",), (pin, app)), now_ms=BEGAN_MS, by="test")
    yield made
    for node in made.nodes.values():
        await node.drain()


@pytest.fixture
def page() -> Callable[..., Reply]:
    """A reply of the IVR: what stands inside `<Response>`, the status, and the rest."""
    return reply


@pytest.fixture
def crash() -> type[Exception]:
    return Crash


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, object]]]:
    """What is logged meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines
