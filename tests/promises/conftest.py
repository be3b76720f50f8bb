"""
What the tests of the promises share: a whole contact centre on loopback, and an IVR that remembers everything.

How each of these files is made: a promise is one or more plain functions `check_…(house, …)` that talk to the
guard over real sockets and raise AssertionError when the promise is broken. The green tests run them on every
store (`house`). The red tests take out one piece of the code that keeps the promise and demand that the same
function fails (`broken`): a check that no fault can turn red would show nothing.
"""

import io
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
import pyotp
import pytest
import structlog
from aiohttp import web

from ivrguard import flowfile, log
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import Factor, Flow, Locks
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.factors.totp import TotpJudge, new_secret
from ivrguard.guard import Flows
from ivrguard.phone.exchange import Exchange, Line
from ivrguard.phone.heard import Asked, Connected, Dialled, Queued, Referred, Said
from ivrguard.phone.rig import PUBLIC_URL, Clock, Rig, listen, new_keyring, rig
from ivrguard.ports import Account, Credential, Store
from ivrguard.stores import codec
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.postgres import PostgresStore
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import mount

START_MS = 1_800_000_000_000
ACCOUNT = "123456"
OWNER = "+15551230001"
PIN = "24681357"
OPEN_QUEUE = "open-line"
OPEN_NUMBER = "+18005550142"
MANY = Lockout(failures=10_000, within_s=3600, lock_s=(1800,))
"""A rule that locks nobody: for promises that are not about locks."""


# ── the IVR ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Got:
    """One request as the IVR got it. `path`: as the most credulous server would read it; `order`: see `Ivr.order`."""

    order: int
    method: str
    target: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def digits(self) -> str | None:
        return self.params.get("Digits")

    @property
    def call(self) -> str:
        return self.params.get("CallSid", "")


def credulous(target: str) -> str:
    """A path as a server reads it that decodes all it can, resolves dots, and drops parameters and double slashes."""
    path = target.partition("?")[0]
    for _ in range(3):
        path = unquote(path)
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        name = segment.partition(";")[0]
        if name == "..":
            kept = kept[:-1]
        elif name not in {"", "."}:
            kept.append(name)
    return "/" + "/".join(kept)


Page = str | tuple[int, Mapping[str, str], str]


@dataclass
class Ivr:
    """
    An IVR that answers whatever it is asked, knows nothing of a guard, and remembers each request.

    `documents`: path -> what stands inside `<Response>`, or (status, headers, body). `{ivr}` and `{guard}` become
    origins. `order` numbers what happens, here and (`next(ivr.order)`) in the test.
    """

    documents: dict[str, Page] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=itertools.count)
    origin: str = ""
    otherwise: Page = "<Say>nothing here</Say>"

    def app(self, _: str) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        path = credulous(request.raw_path)
        params = dict(parse_qsl(urlsplit(request.raw_path).query, keep_blank_values=True))
        params |= dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        number = next(self.order)
        self.origin = f"http://{request.host}"
        got = Got(number, request.method, request.raw_path, path, params, dict(request.headers), body)
        self.got.append(got)
        page = self.documents.get(path, self.otherwise)
        if isinstance(page, str):
            page = (200, {"Content-Type": "text/xml"}, f"<Response>{page}</Response>")
        status, headers, text = page
        where = {name: self._filled(value) for name, value in headers.items()}
        return web.Response(status=status, headers=where, body=self._filled(text).encode())

    def _filled(self, text: str) -> str:
        return text.replace("{ivr}", self.origin).replace("{guard}", PUBLIC_URL)

    def paths(self) -> list[str]:
        return [got.path for got in self.got]


# ── the flow ─────────────────────────────────────────────────────────────────────────────────────────────

BANK = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]

RULES = (
    Rule(ANYONE, path="/open/**"),
    Rule(Demand("two_factor", within_s=300, intent="wire"), path="/menu", digits="3"),
    Rule(Demand("two_factor", within_s=300, intent="wire"), path="/wire/**"),
    Rule(ANYONE, transfer=Target("enqueue", OPEN_QUEUE)),
    Rule(ANYONE, transfer=Target("number", OPEN_NUMBER)),
    Rule(Demand("two_factor", reverify="one_factor", intent="agent"), transfer=Target("*", "*")),
)
"""Open paths, a protected key, protected paths, open transfers, and all other transfers protected."""

FAST = {"one_factor": AnyOf(("app", "code")), "two_factor": AllOf(("app", "code"))}
"""Levels without a PIN, where no hash is needed: for checks that make many calls."""

SLOW = {"one_factor": AnyOf(("pin", "code")), "two_factor": AllOf(("pin", "code"))}
"""Levels with a PIN."""


def a_flow(**changes: object) -> Flow:
    """The example flow with the rules above; `changes` are fields of `Flow`."""
    factors = dict(BANK.factors) | {"app": Factor(Kind.TOTP, 6)}
    flow = replace(
        BANK,
        rules=RULES,
        default=Demand("one_factor"),
        levels=SLOW,
        factors=factors,
        locks=Locks(account=MANY, caller_number=None),
    )
    return replace(flow, **changes)  # type: ignore[arg-type]  # fields by name


# ── the house ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class House:
    """A running centre with the owner's account in it. What the owner knows and holds: PIN, phone, app."""

    ACCOUNT, OWNER, PIN = ACCOUNT, OWNER, PIN
    OPEN_QUEUE, OPEN_NUMBER = OPEN_QUEUE, OPEN_NUMBER

    rig: Rig
    ivr: Ivr
    secret: str = field(repr=False)
    steps: set[int] = field(default_factory=set)

    @property
    def flow(self) -> Flow:
        mounted = self.rig.server.guard.world.flows.first()
        assert mounted is not None
        return mounted.flow

    @property
    def clock(self) -> Clock:
        return self.rig.clock

    def call(self, from_: str = OWNER, **how: object) -> Line:
        return self.rig.call(from_, **how)  # type: ignore[arg-type]  # as Rig.call has them

    def deploy(self, flow: Flow) -> None:
        """Put another flow in force, as a restart with changed files would."""
        flow = replace(flow, upstream=self.rig.flow.upstream, version=secrets.token_hex(8))
        guard = self.rig.server.guard
        guard.world = replace(guard.world, flows=Flows((mount(flow, self.rig.server._parts),)))

    def asks(self, line: Line) -> str | None:
        """What the guard asks on this line: identify, pin, sms_code, totp; None when it does not ask."""
        waiting = line.waiting
        if not isinstance(waiting, Asked) or "/.ivrguard/call/" not in waiting.action:
            return None
        every = [event.text for event in reversed(line.heard) if isinstance(event, Said)]
        names = ("identify_or_known", "identify", "pin", "sms_code", "totp")
        for said in every[:3]:  # the question, and what is offered after it
            for name in (*names, *(f"{name}.short" for name in names)):
                words = self.flow.prompts[name].format(
                    ask="account number", digits="8" if name.startswith("pin") else "6"
                )
                if " ".join(words.split()) == said:
                    return name.removesuffix(".short").removesuffix("_or_known")
        raise LookupError(every[0])

    async def right(self, line: Line) -> str:
        """The right answer to what the guard asks; the clock moves on when the app's code was used already."""
        match self.asks(line):
            case "identify":
                return f"{ACCOUNT}#"
            case "pin":
                return PIN
            case "sms_code":
                await self.rig.server.guard.drain()
                return self.rig.carrier.code_for(OWNER)
            case _:
                if self.clock() // 30_000 in self.steps:
                    self.clock.advance(30)
                self.steps.add(self.clock() // 30_000)
                return pyotp.TOTP(self.secret).generate_otp(self.clock() // 30_000)

    async def verify(self, line: Line) -> Line:
        """Begin the call, and answer right for as long as the guard asks."""
        await line.until_input()
        while self.asks(line) is not None:
            await line.press(await self.right(line))
        return line

    async def rows(self) -> dict[str, object]:
        """Every value that the store holds, by kind and id."""
        found: dict[str, object] = {}
        for kind in codec.TYPES:
            for one in await self.rig.store.list(kind, limit=10_000):
                found[f"{kind}:{one.id}"] = one.value
        return found

    async def events(self, after: int = 0) -> list[tuple[str, str]]:
        """Event and reason of each audit entry."""
        found = await self.rig.store.entries(after=after, limit=10_000)
        return [(one.entry.event, one.entry.reason) for one in found]

    @staticmethod
    def says(line: Line) -> list[str]:
        return [event.text for event in line.heard if isinstance(event, Said)]

    @staticmethod
    def transfers(line: Line) -> list[str]:
        """Where the caller was really taken: `kind:name` of each."""
        found: list[str] = []
        for event in line.heard:
            match event:
                case Queued(name, workflow):
                    found.append(f"workflow:{workflow}" if workflow else f"enqueue:{name}")
                case Dialled(targets):
                    found += [f"{target.kind}:{target.name}" for target in targets]
                case Referred(target):
                    found.append(f"refer:{target}")
                case Connected(noun):
                    found.append(f"connect:{noun}")
                case _:
                    pass
        return found


async def owner(rig_: Rig, *, account: str = ACCOUNT, number: str = OWNER, pin: str | None = PIN) -> str:
    """Enrol an owner with PIN, phone and app; the app's secret."""
    secret = new_secret(secrets.token_bytes)
    app = TotpJudge(rig_.keyring).enrol(secret)
    credentials = (Credential(Kind.SMS_CODE, number=number), app)
    await rig_.enrol(Account(account, (number,), credentials), pin=pin)
    return secret


class Unhurried(PostgresStore):
    """PostgreSQL, whose clock nobody looks at: here time is an argument, and the database's is not."""

    async def clock_ms(self) -> int | None:
        return None


Opener = Callable[[], Awaitable[Store]]


@dataclass
class Builder:
    """Builds houses over one kind of store. `store()` opens another handle to the same data."""

    FAST, SLOW, RULES = FAST, SLOW, RULES

    kind: str
    store: Opener
    stack: AsyncExitStack

    async def __call__(
        self,
        documents: Mapping[str, Page] | None = None,
        *,
        path: str = "/open/start",
        wrap: Callable[[Store], Store] | None = None,
        extra: Mapping[str, object] | None = None,
        **changes: object,
    ) -> House:
        """A house; `changes` are fields of its flow."""
        ivr = Ivr(dict(documents or {}))
        store = await self.store()
        built = rig(
            a_flow(**changes),
            ivr.app,
            store=wrap(store) if wrap else store,
            clock=Clock(START_MS),
            keyring=new_keyring(),
            path=path,
            hash_threads=2,
            extra=extra,
        )
        running = await self.stack.enter_async_context(built)
        ivr.origin = running.ivr_url
        return House(running, ivr, await owner(running))

    async def node(self, house: House, **extra: object) -> Rig:
        """A second node: another server over the same data, with the same keys, clock, IVR and carrier; `extra`: fields of `Parts`."""
        first = house.rig
        second = rig(
            first.flow,
            first.ivr_url,
            store=await self.store(),
            clock=first.clock,
            keyring=first.keyring,
            path=urlsplit(first.flow.upstream.url).path,
            hash_threads=2,
            extra={"messenger": first.server.world.messenger, **extra},
        )
        return await self.stack.enter_async_context(second)

    async def balanced(self, house: House, *nodes: Rig) -> Exchange:
        """
        An exchange whose requests go to the nodes in turn: of a request sent twice, each gets one.

        What the nodes answer is not touched; the signature is over the public URL, whoever answers.
        """
        urls = itertools.cycle([house.rig.guard_url, *(node.guard_url for node in nodes)])
        session = await self.stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        )

        async def pass_on(request: web.Request) -> web.Response:
            body = await request.read()
            kept = {name: value for name, value in request.headers.items() if name != "Content-Length"}
            url = aiohttp.client.URL(next(urls) + request.raw_path, encoded=True)
            async with session.request(
                request.method, url, headers=kept, data=body or None, allow_redirects=False
            ) as answer:
                type_ = answer.headers.get("Content-Type", "")
                return web.Response(
                    status=answer.status, body=await answer.read(), headers={"Content-Type": type_}
                )

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", pass_on)
        front = await listen(app, self.stack)
        account = house.rig.exchange.account
        exchange = Exchange(
            house.rig.session, account.account_sid, account.auth_token, routes={PUBLIC_URL: front}
        )
        for number in house.rig.flow.numbers:
            exchange.number(number, f"{PUBLIC_URL}/", status_callback=f"{PUBLIC_URL}/.ivrguard/status")
        return exchange


@asynccontextmanager
async def builder(kind: str, folder: Path, url: str = "") -> AsyncIterator[Builder]:
    shared = MemoryStore()

    async def memory() -> Store:
        return shared

    async def sqlite() -> Store:
        return await SqliteStore.open(folder / "guard.db", migrate=True)

    async def postgres() -> Store:
        return await Unhurried.open(url, chance=secrets.token_bytes)

    openers = {"memory": memory, "sqlite": sqlite, "postgres": postgres}
    async with AsyncExitStack() as stack:
        yield Builder(kind, openers[kind], stack)


@pytest.fixture(autouse=True)
def logged() -> Iterator[io.BytesIO]:
    """The log as the product writes it, into a buffer: every test of the promises runs with it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    buffer = io.BytesIO()
    log.configure("debug", buffer)
    yield buffer
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


OF_DOCUMENTS = {"test_no_document_leads_round_the_guard", "test_a_forged_or_stripped_link_opens_nothing"}
"""Long searches among documents and links, to which it is all the same where state is kept: not on every store."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a house on each kind of store."""
    if "house" in metafunc.fixturenames:
        few = metafunc.function.__name__ in OF_DOCUMENTS
        metafunc.parametrize(
            "house", ["memory", "sqlite"] if few else ["memory", "sqlite", "postgres"], indirect=True
        )


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Builder]:
    """A builder of houses over each store in turn."""
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    async with builder(request.param, tmp_path, url) as built:
        yield built


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Builder]:
    """A builder for the red tests: the planted fault is the same on every store, so one is enough."""
    async with builder("memory", tmp_path) as built:
        yield built
