"""
A whole contact centre on loopback: the guard, an IVR behind it, and a pretend Twilio: calls, messages, Verify,
Lookup and recordings.

The demo, the telephone in the terminal and the tests all call through it. Everything in it is real but the
provider's network: real sockets, a real server, a real store, real hashes. Only the clock can be moved.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ssl import SSLContext

import aiohttp
from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.core.flow import Flow, Upstream
from ivrguard.guard import desk as desks
from ivrguard.guard import sessions
from ivrguard.guard.conference import SONG_URL
from ivrguard.guard.sessions import SECRET_BYTES
from ivrguard.keyring import KEY_BYTES, Keyring
from ivrguard.notify.conferences import TwilioConferences
from ivrguard.notify.lookup import TwilioLookup
from ivrguard.notify.recordings import TwilioRecordings
from ivrguard.notify.sms import SmsMessenger
from ivrguard.notify.verify import TwilioVerify
from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.exchange import Exchange, Line
from ivrguard.phone.lookup import Lookup
from ivrguard.phone.messages import Messages
from ivrguard.phone.recordings import Recordings
from ivrguard.phone.taskrouter import TaskRouter
from ivrguard.phone.verify import SERVICE_SID, TEMPLATE_SID, Verify
from ivrguard.ports import Account, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.web.app import Parts, Server, wall_clock_ms
from ivrguard.web.sessions import new_secret

PUBLIC_URL = "https://guard.example"
ACCOUNT_SID = "AC" + "5e" * 16
AUTH_TOKEN = "the-pretend-twilio-signs-with-this"  # noqa: S105 -- of a pretend account
SMS_FROM = "+18005550199"
ATTESTED = "TN-Validation-Passed-A"
ANY_NUMBER = "+18005550100"
"""What is dialled when a flow answers every number ("*")."""


class Clock:
    """Milliseconds since the epoch, from `now_ms` on or from the machine's clock; `advance` moves it."""

    def __init__(self, now_ms: int | None = None) -> None:
        self._fixed_ms = now_ms
        self._ahead_ms = 0

    def __call__(self) -> int:
        """Now."""
        return (wall_clock_ms() if self._fixed_ms is None else self._fixed_ms) + self._ahead_ms

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass (a negative number: the clock jumps back)."""
        self._ahead_ms += round(seconds * 1000)


def new_keyring() -> Keyring:
    """Fresh keys that last as long as the process."""

    def key() -> bytes:
        return secrets.token_bytes(KEY_BYTES)

    return Keyring(sealing={"k1": key()}, peppers={"p1": key()}, naming={"n1": key()}, signing={"s1": key()})


@dataclass(frozen=True, slots=True)
class Rig:
    """
    What is running. `guard_url`, `ops_url`, `ivr_url`: on loopback.

    `carrier`: every text message, those of Verify too. `verify`, `lookup`, `recordings`, `calls`, `conferences`, `tasks`:
    Twilio's other APIs, which the guard asks when a flow wants it to; those of live calls and of conferences are one.
    """

    server: Server
    exchange: Exchange
    carrier: Messages
    verify: Verify
    lookup: Lookup
    recordings: Recordings
    calls: Calls
    conferences: Conferences
    tasks: TaskRouter
    store: Store
    keyring: Keyring = field(repr=False)
    flow: Flow
    clock: Clock
    session: aiohttp.ClientSession
    guard_url: str
    ops_url: str
    ivr_url: str

    def call(self, from_: str = "+15551230001", *, attested: bool = False, to: str | None = None) -> Line:
        """A call that has not begun."""
        number = to or dialled(self.flow)[0]
        return self.exchange.call(from_, number, stir_verstat=ATTESTED if attested else None)

    def number(self, number: str, path: str = "/") -> None:
        """Point a number at a path of the guard's."""
        self.exchange.number(
            number,
            f"{PUBLIC_URL}{path}",
            fallback_url=f"{PUBLIC_URL}/.ivrguard/fallback",
            status_callback=f"{PUBLIC_URL}/.ivrguard/status",
        )

    async def enrol(self, account: Account, *, pin: str | None = None) -> Account:
        """Add an account, with this PIN hashed for real."""
        if pin is not None:
            credential = await self.server.pins.enrol(pin)
            account = replace(account, credentials=(credential, *account.credentials))
        added = await self.server.directory.add(account, now_ms=self.clock(), by="rig")
        assert added, "there is such an account already"
        return account

    async def desk(self, name: str, *queues: str) -> str:
        """Add an agent's desk; its key."""
        secret = secrets.token_urlsafe(32)
        await desks.add(self.store, name, queues, secret=secret, now_ms=self.clock())
        return secret

    async def session_of(self, agent: Agent) -> str:
        """Have an agent logged in; the secret that his browser has as its cookie (web/sessions.py)."""
        secret = new_secret(secrets.token_bytes(SECRET_BYTES))
        assert await sessions.begin(self.server.world, agent, secret, way="rig")
        return secret

    async def redeem(
        self, key: str, token: str, call_sid: str | None = None
    ) -> tuple[int, dict[str, object]]:
        """What the agents' API answers to a token: status and JSON."""
        body = {"token": token} if call_sid is None else {"token": token, "call_sid": call_sid}
        return await self.asked(key, "redemptions", body)

    async def asked(
        self, key: str, path: str, body: Mapping[str, object] | None = None
    ) -> tuple[int, dict[str, object]]:
        """What the agents' API answers to a desk: status and JSON. `path`: below its root. No `body`: a GET."""
        url = f"{self.guard_url}/.ivrguard/agent/v1/{path}"
        headers = {"Authorization": f"Bearer {key}"}
        method = "GET" if body is None else "POST"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            answered: dict[str, object] = await response.json()
            return response.status, answered


def dialled(flow: Flow) -> tuple[str, ...]:
    """The numbers that can be dialled to get to a flow."""
    return tuple(ANY_NUMBER if number == "*" else number for number in flow.numbers)


async def listen(app: web.Application, stack: AsyncExitStack, tls: SSLContext | None = None) -> str:
    """Serve an application on a free loopback port, over TLS if told how, until the stack unwinds; its origin."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    return f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"


@dataclass(frozen=True, slots=True)
class _Twilio:
    """The pretend REST APIs, and the guard's adapters to each."""

    carrier: Messages
    verify: Verify
    lookup: Lookup
    recordings: Recordings
    messenger: SmsMessenger
    verifications: TwilioVerify
    numbers: TwilioLookup
    paused: TwilioRecordings


async def _twilio(clock: Clock, stack: AsyncExitStack) -> _Twilio:
    """Start the APIs and make their adapters; all of it ends with the stack."""
    us = (ACCOUNT_SID, AUTH_TOKEN)
    carrier, lookup, recordings = Messages(*us), Lookup(*us), Recordings(*us)
    verify = Verify(*us, clock, carrier.sent)
    carrier_url, verify_url, lookup_url, recordings_url = [
        await listen(api.app(), stack) for api in (carrier, verify, lookup, recordings)
    ]
    verifications = TwilioVerify(
        *us, SERVICE_SID, chance=secrets.token_bytes, template_sid=TEMPLATE_SID, api_url=verify_url
    )
    messenger = SmsMessenger(*us, SMS_FROM, api_url=carrier_url)
    numbers = TwilioLookup(*us, clock=clock, api_url=lookup_url)
    paused = TwilioRecordings({ACCOUNT_SID: AUTH_TOKEN}, api_url=recordings_url)
    for adapter in (messenger, verifications, numbers, paused):
        stack.push_async_callback(adapter.close)
    return _Twilio(carrier, verify, lookup, recordings, messenger, verifications, numbers, paused)


@asynccontextmanager
async def rig(
    flow: Flow,
    ivr: Callable[[str], web.Application] | str,
    *,
    store: Store | None = None,
    clock: Clock | None = None,
    keyring: Keyring | None = None,
    path: str = "/voice",
    hash_threads: int | None = None,
    extra: Mapping[str, object] | None = None,
) -> AsyncIterator[Rig]:
    """
    Start everything, and stop it at the end.

    `ivr`: makes the IVR's application, given the account's auth token; or the URL of one that runs already.
    `path`: the IVR's first document. `store`: closed at the end. `extra`: further fields of `Parts`.
    """
    clock, keyring = clock or Clock(), keyring or new_keyring()
    store = store if store is not None else MemoryStore()
    async with AsyncExitStack() as stack:
        ivr_url = ivr if isinstance(ivr, str) else await listen(ivr(AUTH_TOKEN), stack)
        twilio = await _twilio(clock, stack)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        exchange = Exchange(session, ACCOUNT_SID, AUTH_TOKEN)
        calls = Calls(exchange)
        conferences = Conferences(calls)
        tasks = TaskRouter(calls, conferences)
        rooms = TwilioConferences(
            {ACCOUNT_SID: AUTH_TOKEN},
            api_url=await listen(conferences.app(), stack),
            tasks_url=await listen(tasks.app(), stack),
        )
        stack.push_async_callback(rooms.close)
        flow = replace(flow, upstream=Upstream(ivr_url + path, flow.upstream.also))
        parts = Parts(
            public_url=PUBLIC_URL,
            flows=(flow,),
            store=store,
            keyring=keyring,
            tokens={ACCOUNT_SID: (AUTH_TOKEN,)},
            messenger=twilio.messenger,
            verifications=twilio.verifications,
            numbers=twilio.numbers,
            recordings=twilio.paused,
            conferences=rooms,
            hash_threads=hash_threads,
            clock=clock,
        )
        server = Server(replace(parts, **extra) if extra else parts)  # type: ignore[arg-type]  # fields by name
        await server.start()
        stack.push_async_callback(server.stop)
        guard_url = f"http://127.0.0.1:{server.port}"
        music = SONG_URL.rpartition("/")[0]  # nothing that is played leaves this machine
        exchange.account.routes = {PUBLIC_URL: guard_url, music: guard_url}
        centre = Rig(
            server=server,
            exchange=exchange,
            carrier=twilio.carrier,
            verify=twilio.verify,
            lookup=twilio.lookup,
            recordings=twilio.recordings,
            calls=calls,
            conferences=conferences,
            tasks=tasks,
            store=store,
            keyring=keyring,
            flow=flow,
            clock=clock,
            session=session,
            guard_url=guard_url,
            ops_url=f"http://127.0.0.1:{server.ops_port}",
            ivr_url=ivr_url,
        )
        for number in dialled(flow):
            centre.number(number)
        yield centre
