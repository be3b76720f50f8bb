"""
The pretend bank (phone/directory.py), which is written from docs/directory.md and shares no code with the guard; a bank
that breaks the rules (`Liar`); and the guard's way to either. Sockets, TLS and certificates are real.
"""

import json
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from ivrguard.core.errors import Busy, DirectoryFault, OutOfSight
from ivrguard.directory.bank import Access, Bank
from ivrguard.directory.breaker import Breaker
from ivrguard.directory.messages import SigningKey, answer_signature
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import Clock, listen

START_MS = 1_800_000_000_000
SECRET = bytes(range(32))
PIN, OWNER, OTHER = "24681357", "+15551230001", "+15551230002"
REFERENCE = "5f0c3e9a7b1d42688c2f6e0d9a4b7c15"


@pytest.fixture
def clock() -> Clock:
    return Clock(START_MS)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def system(clock: Clock) -> AccountSystem:
    """The pretend bank: one account with everything, one without a PIN, two that share a number."""
    made = AccountSystem({"k1": SECRET}, clock, hash_cost=2)
    made.add("123456", pin=PIN, numbers=(OWNER,), sms_number=OTHER, language="es-US")
    made.add("222222", numbers=("+15551230003",))
    made.add("333333", pin="97531864", numbers=("+15551230004",))
    made.add("444444", pin="97531864", numbers=("+15551230004",))
    return made


@dataclass
class Seen:
    """What a bank's watch is told, in order."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    circuits: list[tuple[str, bool]] = field(default_factory=list)
    certificates: list[tuple[int, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def asked(self, request: str, outcome: object, seconds: float) -> None:
        self.requests.append((request, outcome.value))
        self.seconds.append(seconds)

    def circuit(self, request: str, *, opened: bool) -> None:
        self.circuits.append((request, opened))

    def certificate(self, ends_ms: int, fault: str) -> None:
        self.certificates.append((ends_ms, fault))


@pytest.fixture
def seen() -> Seen:
    return Seen()


Connect = Callable[..., Bank]


@pytest.fixture
async def connect(clock: Clock, seen: Seen, stack: AsyncExitStack) -> Connect:
    """Makes the guard's way to a bank at a URL; `more` are fields of `Access`."""

    def made(url: str, breaker: Callable[[], Breaker] = Breaker, **more: object) -> Bank:
        access = replace(Access(url, SigningKey("k1", SECRET)), **more)
        bank = Bank(access, clock=clock, chance=secrets.token_bytes, watch=seen, breaker=breaker)
        stack.push_async_callback(bank.close)
        return bank

    return made


@pytest.fixture
async def url(system: AccountSystem, stack: AsyncExitStack) -> str:
    return await listen(system.app(), stack)


@pytest.fixture
async def bank(url: str, connect: Connect) -> Bank:
    return connect(url)


@dataclass
class Liar:
    """A bank that says `said` to whatever it is asked, signed as `signs` does; `answer` instead, if there is one."""

    said: object
    status: int = 200
    content_type: str = "application/json"
    signs: Callable[[int, str, bytes], str] = lambda *what: answer_signature(SECRET, *what)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    bodies: list[bytes] = field(default_factory=list)
    bank: Bank | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.serve)
        return app

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        if self.answer is not None:
            return await self.answer(request)
        body = self.said if isinstance(self.said, bytes) else json.dumps(self.said).encode()
        signature = self.signs(self.status, request.headers["Ivrguard-Nonce"], body)
        headers = {"Ivrguard-Signature": signature, "Location": "/elsewhere"}
        return web.Response(
            status=self.status, body=body, headers=headers, content_type=self.content_type or None
        )


@pytest.fixture
async def lies(connect: Connect, stack: AsyncExitStack) -> Callable[..., Awaitable[Liar]]:
    """Makes a liar, serves it, and connects the guard to it (`bank`)."""

    async def made(said: object = None, *, deadline_s: float = 2.5, **more: object) -> Liar:
        liar = Liar(said, **more)
        liar.bank = connect(await listen(liar.app(), stack), deadline_s=deadline_s)
        return liar

    return made


@pytest.fixture
def becomes() -> Callable[[Awaitable[object]], Awaitable[object]]:
    """What came of it; of a fault its kind and words, which hold nothing of what was asked."""

    async def became(asked: Awaitable[object]) -> object:
        try:
            return await asked
        except (DirectoryFault, OutOfSight, Busy) as fault:
            shown = "".join(traceback.format_exception(fault))
            for secret in (PIN, "123456", OWNER, REFERENCE, SECRET.hex(), "bank's own words"):
                assert secret not in shown
            kinds = (DirectoryFault, OutOfSight, Busy)
            return next(kind.__name__ for kind in kinds if isinstance(fault, kind)), str(fault)

    return became
