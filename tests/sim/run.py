"""
One run: a seed, so many calls, and what came of them.

    from tests.sim import run
    print(run.play(seed=7, calls=200).digest)

Calls come in waves of a hundred or so at once, and between the waves time goes by: seconds, or a day. While a wave lasts,
nature does what it does: flows are reloaded, clocks jump, storms come, what is old is swept.
"""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from ivrguard import log
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import StoreFault
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import desk as desks
from ivrguard.ports import Account, Credential
from ivrguard.stores.memory import MemoryStore
from tests.sim import town
from tests.sim.actors import ACTORS, Actor
from tests.sim.loop import SimLoop
from tests.sim.nodes import Centre, Clock, Node, Weather, cheapest_pins
from tests.sim.oracle import Oracle
from tests.sim.phone import Habits, Provider
from tests.sim.stage import DESKS, Stage

NODES = 3
WAVE_CALLS = 160
SPREAD_S = 90.0
GAPS_S = (20.0, 300.0, 2_100.0, 7_300.0, 100_000.0)


@dataclass(frozen=True)
class Outcome:
    """What came of a run that kept every promise. `tally`: how often what happened."""

    digest: str
    tally: Counter
    simulated_s: float


@dataclass
class Plan:
    """What is played. `seed` decides everything."""

    seed: int
    calls: int
    nodes: int = NODES
    gaps_s: tuple[float, ...] = GAPS_S
    weather: dict[str, float] = field(default_factory=dict)
    habits: Habits = field(default_factory=Habits)
    actors: Mapping[Actor, float] = field(default_factory=lambda: ACTORS)
    people: int = 0
    """How many live in the town; 0: one for every dozen calls."""

    @property
    def replay(self) -> str:
        return f"python -m pytest tests/sim --sim-seed {self.seed} --sim-calls {self.calls}"


class _Lines:
    """Where the log goes: to the oracle, line by line."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def write(self, line: bytes) -> None:
        self._oracle.logged(line)

    def flush(self) -> None:
        pass


@contextmanager
def _log_to(oracle: Oracle) -> Iterator[None]:
    import logging

    handlers, level = logging.root.handlers[:], logging.root.level
    log.configure("info", _Lines(oracle))
    try:
        yield
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


async def enrolled(centre: Centre, store: MemoryStore, stage: Stage) -> None:
    """Everybody has his account, every queue its desk."""
    directory, apps = LocalDirectory(store, centre.keys), TotpJudge(centre.keys)
    older = cheapest_pins_of(centre)
    for person in stage.town.people:
        pepper = older if person.old_pepper else centre.pins
        hash_ = pepper._hasher.hash(pepper._keyed(pepper._current, person.pin))
        credentials = [Credential(Kind.PIN, secret=hash_, key_id=pepper._current)]
        if person.has_phone:
            credentials.append(Credential(Kind.SMS_CODE, number=person.number))
        if person.app is not None:
            credentials.append(apps.enrol(person.app_secret))
        account = Account(person.account, (person.number,), tuple(credentials))
        await directory.add(account, now_ms=town.BEGAN_MS, by="sim")
    for nth, queue in enumerate(DESKS):
        stage.desks[queue] = f"the key of desk {nth}"
        name = f"desk-{nth}"
        stage.oracle.names[name] = queue
        await desks.add(store, name, (queue,), secret=stage.desks[queue], now_ms=town.BEGAN_MS)


def cheapest_pins_of(centre: Centre) -> object:
    """A judge whose current pepper is the older one."""
    keys = town.keyring()
    keys.peppers = dict(reversed(list(keys.peppers.items())))
    return cheapest_pins(keys)


# ── nature ───────────────────────────────────────────────────────────────────────────────────────────────


class Nature:
    """What happens whether anybody calls or not."""

    def __init__(self, centre: Centre, oracle: Oracle, chance: random.Random) -> None:
        self._centre = centre
        self._oracle = oracle
        self._chance = chance

    async def wave(self) -> None:
        """While a wave of calls lasts. Before it each server has said, as it does every hour, what it has in force."""
        for node in [one for one in self._centre.nodes if one.alive]:
            with suppress(StoreFault, asyncio.CancelledError):
                await node.reloader.renew()
        deeds = [self._reload, self._spoil, self._reload, self._jump, self._storm, self._sweep]
        self._chance.shuffle(deeds)
        for deed in deeds:
            await asyncio.sleep(self._chance.uniform(0, SPREAD_S / 4))
            await deed()

    def _node(self) -> Node | None:
        living = [node for node in self._centre.nodes if node.alive]
        return self._chance.choice(living) if living else None

    async def _reload(self) -> None:
        """Other files lie on a node's disk."""
        await self._read(self._chance.choice(("one", "two", "two")))

    async def _spoil(self) -> None:
        """Files with a fault lie there."""
        await self._read("bad")

    async def _read(self, version: str) -> None:
        node = self._node()
        if node is None:
            return
        before = node.version
        with suppress(asyncio.CancelledError):
            ending = await node.reload(version)
            self._oracle.reloaded(node.name, version, before, node.version, str(ending))
        await asyncio.sleep(1)  # servers look once a second what is published
        for other in [one for one in self._centre.nodes if one.alive]:
            with suppress(asyncio.CancelledError):
                await other.reloader.follow()

    async def _jump(self) -> None:
        """A node's clock is put wrong, and after a while right again."""
        node = self._node()
        if node is None:
            return
        clock = node.clock
        usual, clock.off_ms = (
            clock.off_ms,
            self._chance.choice((-3_600_000, -60_000, -4_000, 5_000, 90_000, 3_600_000)),
        )
        await asyncio.sleep(self._chance.uniform(1, 25))
        clock.off_ms = usual

    async def _storm(self) -> None:
        """Everything fails a lot, for some seconds."""
        weather = self._centre.weather
        names = (
            "store_before",
            "store_after",
            "busy",
            "judge_down",
            "ivr_down",
            "ivr_slow",
            "ivr_garbage",
            "messenger",
        )
        chosen = self._chance.sample(names, 2)
        usual = {name: getattr(weather, name) for name in chosen}
        for name in chosen:
            setattr(weather, name, 0.4 if name != "store_before" else 0.15)
        await asyncio.sleep(self._chance.uniform(3, 12))
        for name, value in usual.items():
            setattr(weather, name, value)

    async def _sweep(self) -> None:
        node = self._node()
        if node is None:
            return
        now_ms = node.clock()
        with suppress(StoreFault):
            await self._centre.store.sweep(now_ms, limit=100_000)
            self._oracle.swept(now_ms)


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────


async def _waves(stage: Stage, nature: Nature, chance: random.Random, plan: Plan) -> None:
    """Everybody who calls, wave after wave, until no calls are left."""
    running: list[asyncio.Task] = []
    loop, born = asyncio.get_running_loop(), 0
    actors, weights = list(plan.actors), list(plan.actors.values())
    while stage.left > 0:
        running.append(loop.create_task(nature.wave()))
        until = max(0, stage.left - WAVE_CALLS)
        began_s = loop.time()
        while stage.left > until:
            born += 1
            actor: Actor = chance.choices(actors, weights)[0]
            running.append(
                loop.create_task(actor(stage, random.Random(f"{plan.seed}/{born}/{actor.__name__}")))
            )
            await asyncio.sleep(chance.expovariate(WAVE_CALLS / SPREAD_S / 2))
        await asyncio.sleep(max(0.0, began_s + SPREAD_S - loop.time()))
        await asyncio.sleep(chance.choice(plan.gaps_s))
    await asyncio.gather(*running)
    while stage.provider.errands:
        errands, stage.provider.errands[:] = stage.provider.errands[:], []
        await asyncio.gather(*errands)


async def _played(plan: Plan, oracle: Oracle, people: town.Town, store: MemoryStore) -> float:
    loop, seed = asyncio.get_running_loop(), str(plan.seed)
    oracle.begin(loop)
    bugs: list[dict] = []
    loop.set_exception_handler(lambda _, context: bugs.append(context))
    weather = Weather(random.Random(f"{seed}/weather"), **plan.weather)
    keys = town.keyring()
    centre = Centre(people, store, oracle, weather, seed, cheapest_pins(keys))
    oracle.nodes = lambda name: next((node.version for node in centre.nodes if node.name == name), "")
    provider = Provider(centre, random.Random(f"{seed}/provider"), plan.habits)
    stage = Stage(people, provider, oracle, plan.calls)
    await enrolled(centre, store, stage)
    for linked in await store.entries(limit=100_000):
        oracle.chain = (linked.seq, linked.hash)
    skew = random.Random(f"{seed}/clocks")
    for _ in range(plan.nodes):
        await centre.start("one", Clock(loop, skew.randint(-900, 900)))
    nature = Nature(centre, oracle, random.Random(f"{seed}/nature"))
    waves = loop.create_task(_waves(stage, nature, random.Random(f"{seed}/waves"), plan))
    await asyncio.wait({waves, oracle.failed}, return_when=asyncio.FIRST_COMPLETED)
    if oracle.failed.done():
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        oracle.failed.result()
    waves.result()
    for node in centre.nodes:
        await node.guard.drain()
    assert not bugs, bugs
    oracle.tally["calls"] = len(stage.lines)
    return loop.time()


def play(seed: int, calls: int, **more: object) -> Outcome:
    """Play it. Raises `Broken` for the first promise that is not kept."""
    plan = Plan(seed, calls, **more)
    people = town.Town.of(random.Random(f"{seed}/town"), plan.people or max(12, calls // 12))
    store = MemoryStore()
    oracle = Oracle(people, store, plan.replay)
    collects = gc.isenabled()
    gc.disable()  # hundreds of thousands of values that nobody drops: looking through them is a third of the time
    try:
        with _log_to(oracle), asyncio.Runner(loop_factory=SimLoop) as runner:
            simulated_s = runner.run(_played(plan, oracle, people, store))
    finally:
        if collects:
            gc.enable()
    return Outcome(oracle.digest.hexdigest(), oracle.tally, simulated_s)
