"""
The guard, twice or more, on one store: everything real but the far ends of its ports, which fail as far ends do.

Real: web/voice.py and web/agents/ with the signature, the shape and the deadline; guard/; core/; the store's code
(stores/memory.py, stores/codec.py); the directory; the factors, argon2 with the least work it takes; the keys; reading
and rewriting of documents; the reloader. Made up: time, chance, the IVR, the carrier, and sockets, which there are none of.

Laws of this file
 1. Each port tells the oracle what went through it, and in which delivery (`TURN`). It asks the oracle nothing.
 2. A fault is drawn from the seed where it strikes, and the delivery that it struck knows of it (`Turn.faults`).
 3. A node that dies does nothing more, from that moment on: what it was about to do is not done.
"""

import asyncio
import base64
import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from unittest.mock import patch
from zoneinfo import ZoneInfo

from aiohttp import web

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Busy, DirectoryFault, NotifyFault, StoreFault, UpstreamFault
from ivrguard.core.flow import Flow
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors import pin
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import Flows, Guard, Mounted, World
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.keyring import Keyring
from ivrguard.ports import Change, Credential, Key, Reply, Request, Store
from ivrguard.telephony.links import Links
from ivrguard.telephony.signature import Verifier
from ivrguard.web.agents import Agents
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics
from ivrguard.web.reload import Ending, Reloader
from ivrguard.web.voice import Voice
from tests.sim import town
from tests.sim.loop import Inline


@dataclass
class Turn:
    """
    One delivery of one request to one node, as whoever watches from outside knows it.

    `name`: the call and the request, byte for byte: a repeat has the same. `own`: whether it answers a question of the
    guard's own. `entries`, `fetched`: what came of it so far. `faults`: what struck it.
    """

    number: int
    node: str
    call: str
    target: str
    digits: str | None
    name: tuple[str, str, bytes]
    began_s: float
    over: bool = False
    own: bool = False
    caller: str = ""
    attested: bool = False
    entries: list[Entry] = field(default_factory=list)
    acts: int = 0
    dies_after: int | None = None
    faults: list[str] = field(default_factory=list)
    memory: dict[str, object] = field(default_factory=dict)
    """What the oracle wants to remember of it."""


TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)


def struck(fault: str) -> None:
    """Note that the delivery under way met a fault."""
    turn = TURN.get()
    if turn is not None:
        turn.faults.append(fault)


@dataclass
class Weather:
    """How likely each fault is, and what the clock of each node says. A storm is weather for a while."""

    chance: random.Random
    store_before: float = 0.002
    store_after: float = 0.002
    busy: float = 0.01
    judge_down: float = 0.003
    ivr_down: float = 0.01
    ivr_slow: float = 0.005
    ivr_garbage: float = 0.01
    messenger: float = 0.03

    def strikes(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    def delay(self, least_ms: float, most_ms: float) -> float:
        """Seconds: mostly short, now and then long."""
        return (least_ms + (most_ms - least_ms) * self.chance.random() ** 3) / 1000


class Chance:
    """Bytes that nobody has seen before, and the same in every run."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def __call__(self, count: int) -> bytes:
        return self._random.randbytes(count)


# ── the ports ────────────────────────────────────────────────────────────────────────────────────────────


class Reach:
    """One node's way to the store. Everything real is behind it (`ports.Store`)."""

    def __init__(self, store: Store, node: "Node") -> None:
        self._store = store
        self._node = node
        self._weather = node.centre.weather
        self._watch = node.centre.watch

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def read(self, key: Key) -> object:
        self._node.goes_on()
        if self._weather.strikes(0.2):
            await asyncio.sleep(self._weather.delay(0.2, 30))
            self._node.goes_on()
        if self._weather.strikes(self._weather.store_before / 3):
            struck("store")
            raise StoreFault("the store is away")
        return await self._store.read(key)

    async def amend(self, keys: Sequence[Key], change: Callable[[Mapping], Change]) -> object:
        self._node.goes_on()
        await asyncio.sleep(self._weather.delay(0.5, 40))
        self._node.goes_on()
        turn = TURN.get()
        if self._weather.strikes(self._weather.store_before):
            struck("store")
            raise StoreFault("the store did not take it")
        decided: list[Change] = []

        def seen(values: Mapping) -> Change:
            decided[:] = [change(values)]
            return decided[0]

        result = await self._store.amend(keys, seen)
        self._watch.amended(turn, decided[0])
        if turn is not None:
            turn.acts += 1
            if turn.dies_after == turn.acts:
                self._node.die()
                self._node.goes_on()
        if self._weather.strikes(self._weather.store_after):
            struck("store after")
            raise StoreFault("the store took it and did not say so")
        return result


class Eyes:
    """One judge of a node (`ports.Judge`): busy at times, down at times, and watched."""

    def __init__(self, judge: object, node: "Node") -> None:
        self.kind = judge.kind
        self._judge = judge
        self._node = node

    async def judge(
        self, credential: Credential | None, digits: str, challenge: object, now_ms: int
    ) -> object:
        weather, turn = self._node.centre.weather, TURN.get()
        if self.kind is Kind.PIN and weather.strikes(weather.busy):
            struck("busy")
            raise Busy("no thread is free")
        if weather.strikes(weather.judge_down):
            struck("judge")
            raise DirectoryFault("nobody can judge just now")
        watch = self._node.centre.watch
        watch.compared(turn, self.kind, credential, digits, now_ms)
        await asyncio.sleep(weather.delay(30, 400) if self.kind is Kind.PIN else weather.delay(0.1, 1))
        self._node.goes_on()
        verdict = await self._judge.judge(credential, digits, challenge, now_ms)
        watch.judged(turn, self.kind, verdict)
        return verdict


class Carrier:
    """Messages out (`ports.Messenger`)."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        weather = self._node.centre.weather
        await asyncio.sleep(weather.delay(100, 1500))
        self._node.goes_on()
        if weather.strikes(weather.messenger):
            struck("messenger")
            if weather.strikes(0.3):
                await asyncio.sleep(deadline_s)
            raise NotifyFault("the carrier did not take it")
        self._node.centre.watch.texted(TURN.get(), to, text)
        person = self._node.centre.town.by_number.get(to)
        if person is not None and (code := re.search(r"(?<!\d)\d{6}(?!\d)", text)):
            person.inbox.append((asyncio.get_running_loop().time(), code[0]))


WORKFLOW = "WW" + "a1" * 16
TRANSFERS = {
    "0": f'<Enqueue workflowSid="{WORKFLOW}" action="/after" waitUrl="/wait"><Task>{{"type":"voice"}}</Task></Enqueue>',
    "4": '<Enqueue action="/after" waitUrl="/wait">support</Enqueue>',
    "5": '<Dial action="/after"><Number>+18005550142</Number></Dial>',
    "6": '<Dial action="/after"><Client>ada</Client></Dial>',
    "7": '<Dial action="/after"><Sip>sip:agents@pbx.example</Sip></Dial>',
}
"""How a call gets to an agent, by the key of the main menu."""

MENU = '<Gather action="menu" numDigits="1"><Say>Main menu.</Say></Gather><Redirect>/voice</Redirect>'
BACK = "<Redirect>/voice</Redirect>"
PAGES = {
    "/voice": MENU,
    "/balance": f"<Say>Your balance.</Say>{BACK}",
    "/hours": f"<Say>Nine to five.</Say>{BACK}",
    "/statement": f"<Say>Your statement.</Say>{BACK}",
    "/wire/amount": '<Gather action="confirm" numDigits="1"><Say>To wire it, press 1.</Say></Gather>',
    "/wire/confirm": f"<Say>It is on its way.</Say>{BACK}",
    "/fraud": '<Enqueue waitUrl="/wait">fraud-line</Enqueue>',
    "/wait": "<Say>Please hold.</Say><Pause length='10'/>",
    "/after": f"<Say>Nobody is free.</Say>{BACK}",
    **{f"/agent/{key}": f"<Say>One moment.</Say>{how}" for key, how in TRANSFERS.items()},
}
CHOICES = {"1": "balance", "2": "hours", "3": "wire/amount", "8": "statement", "9": "fraud"}
GARBAGE = (
    (200, "<Response><Say>cut sho"),
    (200, "<Response><Redirect>https://elsewhere.example/wire</Redirect></Response>"),
    (200, "<Response><Redirect>https://guard.example/.ivrguard/status</Redirect></Response>"),
    (200, '<!DOCTYPE r [<!ENTITY e "x">]><Response>&e;</Response>'),
    (200, "<html>It works!</html>"),
    (500, "<Response/>"),
    (404, ""),
)


class Ivr:
    """The IVR behind a node (`ports.Ivr`): believes everything, and at times says nothing, or nonsense."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def fetch(self, request: Request, *, assertion: str, cookies: str, deadline_s: float) -> Reply:
        weather, turn = self._node.centre.weather, TURN.get()
        self._node.centre.watch.fetched(turn, request, assertion)
        await asyncio.sleep(weather.delay(20, 600))
        self._node.goes_on()
        if weather.strikes(weather.ivr_down):
            struck("ivr")
            raise UpstreamFault("the IVR is down")
        if weather.strikes(weather.ivr_slow):
            struck("ivr")
            await asyncio.sleep(deadline_s)
            raise UpstreamFault("the IVR took too long")
        if weather.strikes(weather.ivr_garbage):
            struck("ivr")
            status, body = weather.chance.choice(GARBAGE)
            return Reply(status, request.url, "text/xml", body.encode(), cookies=cookies)
        return self._page(request, assertion, cookies)

    def _page(self, request: Request, assertion: str, cookies: str) -> Reply:
        path = request.url.removeprefix(town.IVR).partition("?")[0]
        digits = dict(request.params).get("Digits", "")
        if path == "/menu":
            to = CHOICES.get(digits) or (f"agent/{digits}" if digits in TRANSFERS else "voice")
            if digits == "8":  # an IVR that redirects by itself
                return Reply(302, request.url, None, b"", location="/statement", cookies=cookies)
            inside = f"<Redirect>{to}</Redirect>"
        elif path == "/statement" and '"two_factor"' not in town_claims(assertion):
            asks = 'Bearer error="insufficient_user_authentication", acr_values="two_factor", max_age="300"'
            return Reply(401, request.url, None, b"", challenge=asks, cookies=cookies)
        else:
            inside = PAGES.get(path, "<Say>There is nothing here.</Say>")
        body = f"<Response>{inside}</Response>".encode()
        return Reply(200, request.url, "text/xml", body, cookies=cookies or "session=1")


def town_claims(assertion: str) -> str:
    """What an assertion says, as an IVR reads it that trusts its network; "" without one."""
    if not assertion:
        return ""
    payload = assertion.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()


# ── a node ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Posted:
    """A request as web/ takes it from aiohttp: as much of it as is looked at there."""

    method: str
    raw_path: str
    body: bytes
    headers: dict[str, str]
    content_type: str
    match_info: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> "Posted":
        return self

    def is_eof(self) -> bool:
        return True

    async def read(self) -> bytes:
        return self.body


@dataclass
class Clock:
    """What one node takes for now: the true time, and how far it is off."""

    loop: asyncio.AbstractEventLoop
    off_ms: int = 0

    def __call__(self) -> int:
        return town.BEGAN_MS + round(self.loop.time() * 1000) + self.off_ms


class Node:
    """One process of the guard. `disk`: the version of the flow that lies there."""

    def __init__(self, centre: "Centre", name: str, version: str, clock: Clock) -> None:
        self.centre = centre
        self.name = name
        self.clock = clock
        self.alive = True
        self._tasks: dict[asyncio.Task, None] = {}
        reach = Reach(centre.store, self)
        directory = LocalDirectory(reach, centre.keys)
        codes = SmsCodeJudge(centre.keys)
        judges = (centre.pins, codes, TotpJudge(centre.keys))
        metrics = Metrics()
        self.guard = Guard(
            World(
                store=reach,
                directory=directory,
                judges={judge.kind: Eyes(judge, self) for judge in judges},
                codes=codes,
                messenger=Carrier(self),
                keys=centre.keys,
                ivr=Ivr(self),
                flows=Flows(tuple(map(centre.mount, town.loaded(version).flows))),
                issuer=town.ISSUER,
                node=centre.chance(8).hex(),
                clock=clock,
                chance=centre.chance,
                renewals=directory,
                mount=centre.mount,
                threats=ThreatDesk(reach, centre.keys.public, clock, centre.chance),
            )
        )
        verifier = Verifier(town.ISSUER, {town.ACCOUNT_SID: (town.AUTH_TOKEN,)})
        voice = Voice(self.guard, verifier, None, metrics, frozenset({town.ACCOUNT_SID}), centre.chance)
        routes = [*Agents(self.guard, Identity(self.guard), metrics).routes(), *voice.routes()]
        self._routes = [(route.method, _pattern(route.path), route.handler) for route in routes]
        self.disk = version
        self.reloader = Reloader(lambda: town.loaded(self.disk), centre.mount, self.guard.world, metrics)

    def goes_on(self) -> None:
        """Nothing, while it lives."""
        if not self.alive:
            raise asyncio.CancelledError

    def die(self) -> None:
        """The process ends here and now."""
        self.alive = False
        for task in (*self._tasks, *self.guard._background._running):
            task.cancel()

    @property
    def version(self) -> str:
        """The version that it has in force: that of its own files, or what another node published since."""
        return town.hashes().get(self.guard.world.flows.in_force()[0].flow.version, "")

    async def reload(self, version: str) -> Ending:
        """Put this version on the node's disk and have it read."""
        self.disk = version
        return (await self.reloader.reload()).ending

    def take(self, posted: Posted, turn: Turn) -> asyncio.Task[web.Response]:
        """Begin to answer a request."""
        path = posted.raw_path.partition("?")[0]
        handler, posted.match_info = next(
            (handler, found.groupdict())
            for method, pattern, handler in self._routes
            if method in {posted.method, "*"} and (found := pattern.fullmatch(path))
        )

        async def answer() -> web.Response:
            TURN.set(turn)
            return await handler(posted)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task


def _pattern(path: str) -> re.Pattern[str]:
    """A route of aiohttp's as an expression."""
    pieces = re.split(r"\{(\w+):((?:[^{}]|\{\d+\})+)\}", re.sub(r"\{([a-z]\w*)\}", r"{\1:[^/]+}", path))
    done = ""
    for nth in range(0, len(pieces) - 1, 3):
        done += f"{re.escape(pieces[nth])}(?P<{pieces[nth + 1]}>{pieces[nth + 2]})"
    return re.compile(done + re.escape(pieces[-1]))


class Centre:
    """Everything that stands: the nodes, and what they share. `watch`: who is told of everything."""

    def __init__(
        self, people: town.Town, store: Store, watch: object, weather: Weather, seed: str, pins: PinJudge
    ) -> None:
        self.town = people
        self.store = store
        self.watch = watch
        self.weather = weather
        self.keys = town.keyring()
        self.chance = Chance(f"{seed}/chance")
        self.pins = pins
        self.nodes: list[Node] = []
        self._links: dict[str, Mounted] = {}
        self._born = 0

    def mount(self, flow: Flow) -> Mounted:
        key = self.keys.derive("links", "mac")
        links = Links(town.ISSUER, flow.upstream.url, flow.upstream.also, key)
        return Mounted(flow, links, ZoneInfo(flow.timezone))

    async def start(self, version: str, clock: Clock) -> Node:
        """Another process, as a host starts it: ready when it is on record what it begins with."""
        self._born += 1
        node = Node(self, f"n{self._born}", version, clock)
        while True:
            try:
                await node.reloader.begin()
            except StoreFault:
                await asyncio.sleep(1)
            else:
                self.nodes.append(node)
                return node

    async def instead_of(self, dead: Node) -> Node:
        """What the host starts when a process has died."""
        self.nodes.remove(dead)
        return await self.start("one" if dead.disk == "bad" else dead.disk, dead.clock)


def cheapest_pins(keys: Keyring) -> PinJudge:
    """Real argon2, with the least work that it takes, done by whoever asks."""
    with patch.multiple(pin, MEMORY_KIB=8, PASSES=1):
        judge = PinJudge(keys.peppers, threads=1, queue_per_thread=10_000)
    judge._pool.shutdown()
    judge._pool = Inline()
    return judge
