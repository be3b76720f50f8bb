"""
The server: everything put together, started, and drained.

The one place that owns a clock and chance; the rest of the house takes them as arguments.

Order at the end (SIGTERM): no new connections; webhooks under way are finished (Twilio waits 15 s for each);
messages on their way are sent; the record is signed; then the store is closed, and only then the hash threads; last, spans that wait are sent. SIGHUP reads the flows
anew (web/reload.py); during the drain it changes nothing.
"""

import asyncio
import gc
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from aiohttp import web

from ivrguard import log
from ivrguard.core.alerts import Alert
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.core.incidents import AFTER_S
from ivrguard.core.insiders import Watch
from ivrguard.core.raising import raised
from ivrguard.core.sessions import IDLE_S
from ivrguard.directory.bank import Access, Bank
from ivrguard.directory.http import HttpDirectory, HttpPinJudge, HttpPins
from ivrguard.directory.local import LocalDirectory, LocalPins
from ivrguard.exports.files import Copy
from ivrguard.exports.jsonl import entry_line
from ivrguard.factors.password import PasswordJudge
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.flowfile import LoadedAll
from ivrguard.guard import Flows, Guard, Mounted, World
from ivrguard.guard import side_door as door
from ivrguard.guard.alarms import RiskTeam
from ivrguard.guard.archive import Follower, Render
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.guard.insiders import Insiders
from ivrguard.guard.logins import Logins
from ivrguard.guard.record import Signer
from ivrguard.guard.sense import Sensor, notice_of
from ivrguard.keyring import Keyring, PublicKeys
from ivrguard.ports import (
    Alarm,
    Conferences,
    Directory,
    Judge,
    Key,
    Messenger,
    NumberLookup,
    Pins,
    Recordings,
    Store,
    Verifications,
)
from ivrguard.telephony.links import Links
from ivrguard.telephony.signature import SharedKey, Verifier
from ivrguard.web.agents import Agents
from ivrguard.web.bank import BankWatch
from ivrguard.web.console import Console
from ivrguard.web.console.pages import Pages
from ivrguard.web.identity import Identity
from ivrguard.web.login import Login
from ivrguard.web.oidc import Client, OidcProvider
from ivrguard.web.ops import Metrics, ops_app
from ivrguard.web.provider import Provider
from ivrguard.web.recorder import Recorder, Recording
from ivrguard.web.reload import Reloader
from ivrguard.web.side_door import Credentials, SideDoor
from ivrguard.web.upstream import Upstream
from ivrguard.web.voice import Voice
from ivrguard.web.watched import TracedGuard, Tracer, WatchedStore, watched

BODY_BYTES_MAX = 64 * 1024
DRAIN_S = 15.0
SWEEP_EVERY_S = 60.0
SWEEP_LIMIT = 1_000
LINE_BYTES_MAX = 16_380
LOGIN_THREADS = 1
"""Threads that hash agents' passwords: their own, since anybody may knock at a log-in, and callers' PINs must not wait for that."""
READY_DEADLINE_S = 2.0
CLOCK_APART_MS = 2_000
"""How far a node's clock may be off the store's, beyond what the question itself took: nodes judge locks and codes by theirs."""
GARBAGE_THRESHOLD = 10_000
"""Objects made and kept before cycles are looked for: a webhook makes some hundreds and leaves no cycle."""

logger = log.get()


class ListenFault(Fault):
    """A port cannot be listened on."""

    reason = "listen"


def wall_clock_ms() -> int:
    """Now, in milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What a server is made of. `tokens`: AccountSid -> auth tokens in force; `upstream_token`: what the IVR checks
    signatures with (None: the call's own account's). Port 0 takes a free one.

    `side_door_keys`: what the IVR presents at the REST side door, by account and user name; without any there is none.
    `side_door_api_url`: where it leads. `watch_transfers`: whether it is asked there for the legs of calls that are over.

    `bank`: the way to the bank's own system, which knows the accounts, and judges and changes their PINs, instead of
    our own tables and hashes. `verifications`, `numbers`, `recordings`, `conferences`: see `World`; None: not set up. `alarms`: the ways to the risk team.

    `embedders`: the origins whose pages may show the agents' pages in a frame. `company`: the identity provider that agents log in by; None: they have accounts of ours. `agents_idle_s`: see `Identity`.

    `public_keys`: of signing keys that are gone, for checkpoints made with them. `recording`: how the record is kept;
    `copy`: the file that it is copied to, a line for each entry as `copy_render` writes it.

    `reload`: reads the flows anew, when asked to; `watched`: the folder or file that is looked at, so that nobody
    need ask. Without `reload`, `flows` stay in force.

    `listening`: a socket that listens already and that others share, instead of `host` and `port`.

    `tracer`: where spans go; None: nothing is traced. `traces_to_ivr`: whether the IVR gets a `traceparent`.
    """

    public_url: str
    flows: tuple[Flow, ...]
    store: Store
    keyring: Keyring = field(repr=False)
    tokens: Mapping[str, tuple[str, ...]] = field(repr=False)
    shared_keys: tuple[SharedKey, ...] = field(default=(), repr=False)
    upstream_token: str | None = field(default=None, repr=False)
    messenger: Messenger | None = None
    side_door_keys: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    side_door_api_url: str = "https://api.twilio.com"
    watch_transfers: bool = False
    bank: Access | None = None
    verifications: Verifications | None = None
    numbers: NumberLookup | None = None
    recordings: Recordings | None = None
    conferences: Conferences | None = None
    alarms: tuple[Alarm, ...] = ()
    next_alarms: tuple[Alarm, ...] = ()
    threats_after_s: tuple[int, ...] = AFTER_S
    company: Client | None = None
    agents_idle_s: int = IDLE_S
    insiders: Watch | None = None
    insiders_zone: str = "UTC"
    reload: Callable[[], LoadedAll] | None = None
    watched: Path | None = None
    hash_threads: int | None = None
    public_keys: Mapping[str, bytes] = field(default_factory=dict)
    recording: Recording = Recording()
    copy: Path | None = None
    copy_render: Render = entry_line
    embedders: tuple[str, ...] = ()
    tracer: Tracer | None = None
    traces_to_ivr: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    listening: socket.socket | None = None
    ops_host: str = "127.0.0.1"
    ops_port: int = 0
    clock: Callable[[], int] = wall_clock_ms
    chance: Callable[[int], bytes] = secrets.token_bytes
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep


def mount(flow: Flow, parts: Parts) -> Mounted:
    """A flow with its links and its zone. Raises `ValueError` for an unusable URL, `KeyError` for an unknown zone."""
    ring = parts.keyring
    key, *older = (ring.with_naming(key_id).derive("links", "mac") for key_id in ring.named)
    links = Links(parts.public_url, flow.upstream.url, flow.upstream.also, key, older)
    return Mounted(flow, links, ZoneInfo(flow.timezone), raised(flow))


class Server:
    """
    Both ports of one process.

    Raises `ValueError` for parts that cannot work: see `mount`; and without any token to sign with for the IVR.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        every = (token for tokens in parts.tokens.values() for token in tokens)
        self._usual_token = parts.upstream_token or next(every, "")
        if not self._usual_token:
            raise ValueError(
                "no account has an auth token: give `upstream_token`, which your IVR checks with"
            )
        self.metrics = Metrics()
        store = WatchedStore(parts.store, self.metrics, parts.tracer)
        self.pins = PinJudge(parts.keyring.peppers, threads=parts.hash_threads)
        self.passwords = PasswordJudge(self.pins.apart(LOGIN_THREADS))
        codes, apps = SmsCodeJudge(parts.keyring), TotpJudge(parts.keyring)
        self._upstream = Upstream(self._token_for)
        self._provider = Provider(parts.tokens, parts.side_door_api_url)
        self.directory = LocalDirectory(store, parts.keyring)
        mounting = partial(mount, parts=parts)
        flows = Flows(tuple(mount(flow, parts) for flow in parts.flows))
        self.risk_team = RiskTeam(parts.alarms, parts.next_alarms)
        public = PublicKeys({**parts.public_keys, **parts.keyring.public.keys})
        self.threats = ThreatDesk(
            store,
            public,
            parts.clock,
            parts.chance,
            tell=self.risk_team.tell,
            after_s=parts.threats_after_s,
            shown=self.metrics.incidents_stand,
        )
        self.insiders = self._watching(store)
        self.sensor = Sensor(
            store,
            parts.keyring,
            parts.clock,
            lambda name: mounted.flow if (mounted := flows.named(name)) is not None else None,
            told=self._alerted,
            shown=self.metrics.alerts_stand,
        )
        self.bank: Bank | None = None
        directory: Directory = self.directory
        pin_judge: Judge = self.pins
        pins: Pins = LocalPins(self.directory, self.pins.enrol)
        if parts.bank is not None:
            watch = BankWatch(self.metrics)
            self.bank = Bank(parts.bank, clock=parts.clock, chance=parts.chance, watch=watch)
            directory = HttpDirectory(self.bank, self.directory)
            pin_judge, pins = HttpPinJudge(self.bank), HttpPins(self.bank)
        world = World(
            store=store,
            directory=directory,
            judges={
                Kind.PIN: pin_judge,
                Kind.SMS_CODE: codes,
                Kind.TOTP: apps,
            },
            codes=codes,
            messenger=parts.messenger,
            keys=parts.keyring,
            ivr=self._upstream,
            flows=flows,
            issuer=parts.public_url.rstrip("/"),
            node=parts.chance(8).hex(),
            clock=parts.clock,
            chance=parts.chance,
            verifications=parts.verifications,
            numbers=parts.numbers,
            recordings=parts.recordings,
            conferences=parts.conferences,
            pins=pins,
            renewals=self.directory if self.bank is None else None,
            refusal=lambda: self.recorder.refusal,
            mount=mounting,
            sensor=self.sensor,
            threats=self.threats,
            wait=parts.wait,
            provider=self._provider if parts.side_door_keys else None,
            watcher=self._provider if parts.watch_transfers else None,
            tell=self.risk_team.tell,
        )
        self.world = watched(world, self.metrics, parts.tracer, told=parts.traces_to_ivr)
        self.metrics.hash_places.set(self.pins.places if self.bank is None else 0)
        self.guard = Guard(self.world) if parts.tracer is None else TracedGuard(self.world, parts.tracer)
        self.company = None
        if parts.company is not None:
            self.company = OidcProvider(
                parts.company,
                parts.keyring,
                public_url=parts.public_url,
                clock=parts.clock,
                chance=parts.chance,
            )
        self.identity = Identity(
            self.guard, tokens=self.company, idle_s=parts.agents_idle_s, embedded=bool(parts.embedders)
        )
        self.login = Login(
            self.world,
            self.identity,
            Logins(self.world, self.passwords, apps),
            self.metrics,
            Pages(parts.embedders),
            self.company,
        )
        self.metrics.flows_read(
            ((flow.name, flow.version) for flow in parts.flows), success=True, at_ms=parts.clock()
        )
        self.reloader = None
        if parts.reload is not None:
            self.reloader = Reloader(parts.reload, mounting, self.world, self.metrics, watched=parts.watched)
        signer = Signer(store, parts.keyring, public, self.world.issuer)
        follower = Follower(store, public, Copy(parts.copy), parts.copy_render) if parts.copy else None
        self.recorder = Recorder(signer, follower, parts.recording, self.metrics, parts.clock)
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._dead: list[str] = []
        self._draining = False
        self.port, self.ops_port = parts.port, parts.ops_port

    def _watching(self, store: Store) -> Insiders | None:
        """Who looks for insiders; None: nobody was asked to."""
        watch = self._parts.insiders
        if watch is None:
            return None
        zone = ZoneInfo(self._parts.insiders_zone)
        return Insiders(store, self._parts.clock, watch, zone=zone, tell=self.risk_team.tell)

    def _alerted(self, alert: Alert) -> None:
        """An alert was raised, or is over: count it, and tell the risk team."""
        if alert.over_ms is None:
            self.metrics.alerts_raised.labels(alert.flow, alert.attack.value).inc()
        self.risk_team.tell(notice_of(alert))

    def _token_for(self, account_sid: str | None) -> str:
        """The token to sign with for the IVR: its own, else the account's first, else the first there is."""
        own = () if self._parts.upstream_token else self._parts.tokens.get(account_sid or "", ())
        return own[0] if own else self._usual_token

    def app(self) -> web.Application:
        """The first port: webhooks, desks, public keys."""
        verifier = Verifier(self._parts.public_url, self._parts.tokens, self._parts.shared_keys)
        voice = Voice(
            self.guard,
            verifier,
            self._upstream,
            self.metrics,
            frozenset(self._parts.tokens),
            self._parts.chance,
        )
        jwks = self._parts.keyring.jwks()

        async def public_keys(_: web.Request) -> web.Response:
            headers = {"Content-Type": "application/jwk-set+json", "Cache-Control": "max-age=300"}
            return web.Response(body=jwks, headers=headers)

        agents = Agents(self.guard, self.identity, self.metrics)
        pages = Pages(self._parts.embedders)
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.on_shutdown.append(agents.drain)
        app.add_routes(
            [
                web.get("/.ivrguard/jwks.json", public_keys),
                *agents.routes(),
                *self.login.routes(),
                *Console(self.guard, self.identity, self.metrics, self.threats, pages).routes(),
                *self._side_door(),
                *voice.routes(),
            ]
        )
        return app

    def _side_door(self) -> list[web.RouteDef]:
        """The REST side door, if the settings open one."""
        if not self._parts.side_door_keys:
            return []
        return SideDoor(
            door.SideDoor(self.world, self._provider),
            self._provider,
            Credentials(self._parts.side_door_keys, self._parts.tokens),
            self.metrics,
            self._parts.public_url,
            self._parts.chance,
        ).routes()

    async def ready(self) -> str | None:
        """None when a caller would be let through, or why not."""
        if self._draining:
            return "draining: no new calls are wanted here"
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await self.world.store.read(Key("call", "readyz"))
                wrong_clock = await self._wrong_clock()
        except TimeoutError:
            return f"store: no answer within {READY_DEADLINE_S:g} s"
        except Fault as fault:
            return f"{fault.reason}: {fault}"
        if wrong_clock is not None:
            return f"clock: {wrong_clock}"
        if self.recorder.refusal is not None:
            return f"record: {self.recorder.refusal}"
        return None if self.world.flows.in_force() else "no flow is loaded"

    async def _wrong_clock(self) -> str | None:
        """Why this host's clock does not do for a store that others share; None: it does. Raises `StoreFault`."""
        before_ms = self._parts.clock()
        stores_ms = await self.world.store.clock_ms()
        after_ms = self._parts.clock()
        if stores_ms is None:
            return None
        ahead_ms = (before_ms + after_ms) / 2 - stores_ms
        self.metrics.clock_ahead.set(ahead_ms / 1000)
        if abs(ahead_ms) - (after_ms - before_ms) / 2 <= CLOCK_APART_MS:
            return None
        which = "ahead of" if ahead_ms > 0 else "behind"
        return f"this host's is {abs(ahead_ms) / 1000:.1f} s {which} the store's: set it by NTP (locks and codes are times)"

    def note(self) -> str | None:
        """What an operator should know, though callers are let through."""
        notes = [self.reloader.note if self.reloader is not None else None, self.recorder.note]
        if self.bank is not None and (left_alone := self.bank.left_alone()):
            notes.append(f"the bank's system does not answer, and is left alone: {', '.join(left_alone)}")
        if self._dead:
            notes.append(
                f"a fault of ours has ended {', '.join(self._dead)}: restart this process, and report it"
            )
        return "; ".join(filter(None, notes)) or None

    async def start(self) -> None:
        """
        Listen on both ports.

        Raises `ListenFault` when one cannot be had, `StoreFault` when it cannot be recorded which flows are in force, or
        `RecordFault` when a copy of the record is required and cannot be written; then everything is closed again.
        """
        await self._upstream.open()
        await self._provider.open()
        ops = ops_app(self.metrics, self.ready, self.note)
        try:
            await self.recorder.begin()
            await self.sensor.look()
            if self.reloader is not None:
                await self.reloader.begin()
            self.port = await self._listen(
                self.app(), self._parts.host, self._parts.port, self._parts.listening
            )
            self.ops_port = await self._listen(ops, self._parts.ops_host, self._parts.ops_port)
        except Fault:
            await self.stop()
            raise
        self._keep("sweep", self._sweep())
        self._keep("recorder", self.recorder.run())
        self._keep("sensor", self.sensor.run())
        self._keep("threats", self.threats.run())
        if self.insiders is not None:
            self._keep("insiders", self.insiders.run())
        if self.reloader is not None:
            self._keep("reloader", self.reloader.run())
        if self.bank is not None:
            self._keep("bank", self.bank.keep())
        if self.company is not None:
            self._keep("company", self.company.keep())
        logger.info("serving", host=self._parts.host, port=self.port, ops_port=self.ops_port)

    def _keep(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Have it done for as long as the server runs."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What should go on for ever has ended: by `stop`, or by a fault of ours, which nobody awaits."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._dead.append(task.get_name())
            logger.error("task_died", task=task.get_name(), exc_info=error, hint="restart this process")

    async def _listen(
        self, app: web.Application, host: str, port: int, shared: socket.socket | None = None
    ) -> int:
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=DRAIN_S,
            max_line_size=LINE_BYTES_MAX,
            auto_decompress=False,  # nobody who sends us anything compresses it, and bombs do
        )
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port) if shared is None else web.SockSite(runner, shared)
        try:
            await site.start()
        except OSError as error:
            raise ListenFault(
                f"cannot listen on {host}, port {port} ({error.strerror}): stop what has it, or set another one"
            ) from None
        return int(runner.addresses[0][1])

    async def _sweep(self) -> None:
        """Keep what is in force, record what waits, delete what has expired, a bounded number at a time, while the server runs."""
        while True:
            try:
                if self.reloader is not None:
                    await self.reloader.renew()
                await self.guard.catch_up()
                while (swept := await self.world.store.sweep(self._parts.clock(), limit=SWEEP_LIMIT)) > 0:
                    self.metrics.swept.inc(swept)
                if (wrong := await self._wrong_clock()) is not None:
                    logger.error("clock_apart", detail=wrong)
            except Fault as fault:
                logger.error("sweep_failed", reason=fault.reason, detail=str(fault))
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _last_merge(self) -> None:
        """What the last webhooks left with the sensor and at the threat desk."""
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await self.threats.look()
                await self.sensor.merge()
        except (TimeoutError, Fault):
            logger.error("sense_failed", detail="what was seen and heard in the last second is lost")

    async def stop(self) -> None:
        """Drain and close; see the module."""
        self._draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            *self._tasks, return_exceptions=True
        )  # `_ended` told of what was no cancellation
        for runner in self._runners:
            await runner.cleanup()
        await self.guard.drain()
        await self._last_merge()
        await self.risk_team.close()
        await self._upstream.close()
        await self._provider.close()
        await self.recorder.finish()
        if self.bank is not None:
            await self.bank.close()
        if self.company is not None:
            await self.company.close()
        await self._parts.store.close()
        await self.pins.close()
        await self.passwords.close()
        if self._parts.tracer is not None:
            await self._parts.tracer.close()
        logger.info("stopped")


async def serve(
    server: Server,
    *,
    started: Callable[[Server], Awaitable[None]] | None = None,
    parent: int | None = None,
) -> None:
    """
    Run until SIGTERM or SIGINT, then drain. SIGHUP: read the flows anew, where the server has been told how.

    `parent`: the reading end of a pipe; when its other end closes, whoever held it is gone, and this drains as well.
    """
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    if parent is not None:
        loop.add_reader(parent, over.set)
    if server.reloader is not None:
        loop.add_signal_handler(signal.SIGHUP, server.reloader.ask)
    await server.start()
    if started is not None:
        await started(server)
    # What is loaded by now stays: the collector need not walk all of it again and again between webhooks.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    await over.wait()
    if parent is not None:
        loop.remove_reader(parent)
    logger.info("draining")
    await server.stop()
