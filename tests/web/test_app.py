"""The server as a whole: started, put together, swept, and drained."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from ivrguard import flowfile
from ivrguard.core.agents import Agent, Role
from ivrguard.core.assurance import Kind
from ivrguard.core.checklist import Checklist
from ivrguard.core.errors import StoreFault
from ivrguard.core.flow import Upstream
from ivrguard.core.incidents import Source
from ivrguard.core.sense import Sense, Threshold
from ivrguard.directory.bank import Access
from ivrguard.directory.http import HttpDirectory, HttpPinJudge, HttpPins
from ivrguard.directory.local import LocalDirectory, LocalPins
from ivrguard.directory.messages import SigningKey
from ivrguard.factors.pin import PinJudge
from ivrguard.flowfile import LoadedAll
from ivrguard.guard.sense import Sensor
from ivrguard.keyring import Keyring, new_material
from ivrguard.phone import bank
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Queued
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Rig, new_keyring, rig
from ivrguard.ports import Account, Change, Credential, Key, Put
from ivrguard.stores import sqlite
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.signature import sign
from ivrguard.web import app
from ivrguard.web.app import ListenFault, Parts, Server, mount, serve, wall_clock_ms
from ivrguard.web.reload import Reloader

NOW_MS = 1_800_000_000_000
OWNER, PIN = "+15551230001", "24681357"


@pytest.fixture
def parts(open_flow) -> Parts:
    """What a server is made of, on memory, without an IVR."""
    flow = replace(open_flow, upstream=Upstream("http://127.0.0.1:1/voice"))
    return Parts(
        public_url=PUBLIC_URL,
        flows=(flow,),
        store=MemoryStore(),
        keyring=new_keyring(),
        tokens={ACCOUNT_SID: (AUTH_TOKEN,)},
    )


def expired(id_: str) -> tuple[Key[int], Put]:
    key: Key[int] = Key("spent", id_)
    return key, Put(key, 1, expires_ms=1)


async def kept(store: MemoryStore, *puts: Put) -> None:
    await store.amend([put.key for put in puts], lambda _: Change(None, puts))


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clock_is_the_walls():
    """Milliseconds since the epoch: some time in this century."""
    assert 1_700_000_000_000 < wall_clock_ms() < 4_102_444_800_000


def test_a_flow_is_mounted_with_its_links_and_its_zone(parts):
    """Once, when the server is made; a zone or URL that cannot work is said at once."""
    flow = replace(parts.flows[0], timezone="Europe/Berlin")
    mounted = mount(flow, parts)
    assert (mounted.flow, mounted.zone.key) == (flow, "Europe/Berlin")
    assert mounted.links.inward("/").url == "http://127.0.0.1:1/voice"

    with pytest.raises(ValueError, match="upstream"):
        mount(replace(flow, upstream=Upstream("ftp://x/")), parts)
    with pytest.raises(KeyError, match="Mars"):
        mount(replace(flow, timezone="Mars/Olympus"), parts)


def test_there_is_a_token_to_sign_with(parts):
    """The IVR's own; else the first of the call's account; else the first there is. None at all: said at once."""
    sub_account, keyless = "AC" + "7b" * 16, "AC" + "7c" * 16
    tokens = {keyless: (), ACCOUNT_SID: (AUTH_TOKEN, "next"), sub_account: ("sub",)}
    table = [
        (None, ACCOUNT_SID, AUTH_TOKEN),
        (None, sub_account, "sub"),
        (None, keyless, AUTH_TOKEN),
        (None, None, AUTH_TOKEN),
        ("its own", sub_account, "its own"),
        ("its own", None, "its own"),
    ]
    for own, account, expected in table:
        server = Server(replace(parts, tokens=tokens, upstream_token=own))
        assert (own, account, server._token_for(account)) == (own, account, expected)
    for none in ({}, {keyless: ()}):
        with pytest.raises(ValueError, match="upstream_token"):
            Server(replace(parts, tokens=none))


def test_no_secret_shows(parts):
    """Neither token nor key is in a repr."""
    parts = replace(parts, upstream_token="the-ivr-knows-this-one")
    assert AUTH_TOKEN not in repr(parts)
    assert "the-ivr-knows-this-one" not in repr(parts)


def test_other_parts_take_the_place_of_ours(parts):
    """What is handed in is used; what is not is not set up."""
    names = ("verifications", "numbers", "recordings")
    ours = Server(parts)
    judge = ours.world.judges[Kind.PIN]
    assert (ours.world.directory.behind, judge.behind) == (ours.directory, ours.pins)
    assert isinstance(ours.world.pins.behind, LocalPins)
    assert [getattr(ours.world, name) for name in names] == [None] * 3

    given = {name: object() for name in names}
    theirs = Server(replace(parts, **given))
    assert [getattr(theirs.world, name).behind for name in names] == [given[name] for name in names]


class Team:
    """The risk team: what it was told, and whether the way to it was closed."""

    name = "team"

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.closed = False

    async def send(self, notice) -> None:
        self.told.append((notice.type, notice.id))

    async def close(self) -> None:
        self.closed = True


async def test_alerts_reach_metrics_and_the_risk_team(parts):
    """Raised and over, each told once; a gauge for those that stand, a counter for those that were raised."""
    now, team = [NOW_MS], Team()
    flow = replace(parts.flows[0], sense=Sense(flood=Threshold(10, 60)))
    server = Server(replace(parts, flows=(flow,), clock=lambda: now[0], alarms=(team,)))
    value, labels = server.metrics.registry.get_sample_value, {"flow": flow.name, "attack": "flood"}
    for _ in range(10):
        server.sensor.called(flow)
    await server.sensor.merge()
    assert value("ivrguard_alerts", labels) == value("ivrguard_alerts_raised_total", labels) == 1
    now[0] += 900_000
    await server.sensor.merge()
    assert value("ivrguard_alerts", labels) is None
    assert value("ivrguard_alerts_raised_total", labels) == 1
    await server.stop()
    name = f"{flow.name}/flood/{NOW_MS}"
    assert team.told == [("attack.suspected", f"{name}/raised"), ("attack.over", f"{name}/over")]
    assert team.closed


async def test_incidents_that_stand_are_in_metrics(parts):
    """By whether somebody has them in hand, and for how long the first one has waited for that."""
    now = [NOW_MS]
    server = Server(replace(parts, clock=lambda: now[0]))
    value = server.metrics.registry.get_sample_value

    async def shown():
        await server.threats.look()
        counts = [value("ivrguard_incidents", {"state": state}) for state in ("open", "acknowledged")]
        return *counts, value("ivrguard_incident_waiting_seconds")

    assert await shown() == (0, 0, 0)
    ann, rita = Agent("agent:ann"), Agent("agent:rita", roles=frozenset({Role.RISK}), shown_ms=NOW_MS)
    for _ in range(2):
        await server.threats.report(ann, None, Source.CHAT, Checklist(), ())
        now[0] += 20_000
    assert await shown() == (2, 0, 40)
    first = (await server.threats.open())[0]
    await server.threats.acknowledge(rita, first.about.id)
    assert await shown() == (1, 1, 20)
    await server.stop()


async def test_alerts_without_a_way_to_the_risk_team_are_in_log_and_metrics(parts):
    """Nothing else is needed. What the last second saw is merged before the store is closed, or the log says it is lost."""
    flow = replace(parts.flows[0], sense=Sense(flood=Threshold(10, 60)))
    server = Server(replace(parts, flows=(flow,)))
    for _ in range(10):
        server.sensor.called(flow)
    with capture_logs() as lines:
        await server.stop()
    assert [line["event"] for line in lines if line["event"].startswith("attack")] == ["attack_suspected"]

    server = Server(parts)
    server.sensor.called(flow)
    await parts.store.close()
    with capture_logs() as lines:
        await server.stop()
    assert "sense_failed" in [line["event"] for line in lines]


async def test_the_banks_own_system_takes_the_place_of_our_tables(parts):
    """Accounts, PINs and their changes all come from there; our own tables stay at hand for apps, commands and tests."""
    access = Access("http://127.0.0.1:1", SigningKey("k1", bytes(32)))
    server = Server(replace(parts, bank=access))
    world = server.world
    behind = [one.behind for one in (world.directory, world.judges[Kind.PIN], world.pins)]
    assert [type(one) for one in behind] == [HttpDirectory, HttpPinJudge, HttpPins]
    assert (type(server.directory), type(server.pins)) == (LocalDirectory, PinJudge)
    assert world.directory.behind._own is server.directory
    await server.stop()


# ── a naming key that rotates ────────────────────────────────────────────────────────────────────────────


async def wiring(centre: Rig) -> Line:
    """A caller who has given his PIN, asked for the wire, and has a code on his phone."""
    await centre.enrol(Account("123456789", (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN)
    line = centre.call(OWNER, attested=True)
    await line.until_input()
    for keys in ("123456789#", PIN, "3"):
        await line.press(keys)
    return line


@asynccontextmanager
async def rotated(naming: Mapping[str, bytes]) -> AsyncIterator[tuple[Rig, Rig, Line]]:
    """A call in the middle of a wire; its server, and the one with these keys that takes over."""
    keys = {"sealing": {"k1": b"k" * 32}, "peppers": {"p1": b"p" * 32}, "signing": {"s1": b"s" * 32}}
    store, flow = MemoryStore(), flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml").flow
    old = Keyring(**keys, naming={"n1": b"1" * 32})
    async with rig(flow, bank.app, store=store, keyring=old) as before:
        line = await wiring(before)
        extra = {"messenger": before.server.world.messenger}
        new = Keyring(**keys, naming=naming)
        async with rig(
            flow, before.ivr_url, store=store, clock=before.clock, keyring=new, extra=extra
        ) as after:
            before.exchange.account.routes[PUBLIC_URL] = after.guard_url
            yield before, after, line


async def test_a_call_goes_on_over_a_rotation_of_the_naming_key():
    """
    A webhook that comes again is answered as before; the code on the caller's phone is right; the IVR's links lead
    on; his agent's token is worth a receipt. The next call is of the new key.
    """
    async with rotated({"n2": b"2" * 32, "n1": b"1" * 32}) as (before, after, line):
        answered = line.requests[-1].answer
        again = await line.repeat()
        assert (again.status, again.body) == (answered.status, answered.body)
        for keys in (before.carrier.code_for(OWNER), "50#", "1", "0", PIN):
            await line.press(keys)
        assert isinstance(line.waiting, Queued)
        desk = await after.desk("ann", "*")
        token = str(line.waiting.attributes["ivrguard_token"])
        status, _ = await after.redeem(desk, token, line.call_sid)
        assert status == 201
        other = after.call(OWNER)
        await other.until_input()
        calls = {one.value.sid: one.value.naming for one in await after.store.list("call")}
        assert calls == {line.call_sid: "n1", other.call_sid: "n2"}


async def test_a_naming_key_that_is_taken_away_at_once_ends_the_codes_under_way():
    """So the test above would see it: with the new key alone the code is no good."""
    async with rotated({"n2": b"2" * 32}) as (before, after, line):
        await line.press(before.carrier.code_for(OWNER))
        events = [one.entry.event for one in await after.store.entries()]
        assert events.count("authn_login_success") == 1


# ── start and stop ───────────────────────────────────────────────────────────────────────────────────────


async def test_it_listens_on_two_ports_and_lets_go_of_both(parts):
    """Started, it answers on both; stopped, nobody does, and the store is closed."""
    server = Server(parts)
    await server.start()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{server.ops_port}/readyz") as answer:
            assert answer.status == 200
        async with session.get(f"http://127.0.0.1:{server.port}/.ivrguard/jwks.json") as answer:
            assert answer.headers["Cache-Control"] == "max-age=300"
            assert [sorted(key) for key in (await answer.json())["keys"]] == [
                ["alg", "crv", "kid", "kty", "use", "x"]
            ]
    await server.stop()

    for port in (server.port, server.ops_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(StoreFault):
        await parts.store.read(Key("call", "CA1"))


@pytest.mark.parametrize("which", ["port", "ops_port"])
async def test_a_port_that_is_taken_is_said_in_one_line(parts, which):
    """Which host and port, and what to do; nothing is left open behind it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(replace(parts, **{which: port}))
        with pytest.raises(ListenFault) as fault:
            await server.start()

    assert str(fault.value).startswith(f"cannot listen on 127.0.0.1, port {port} (")
    assert "set another one" in str(fault.value)
    with pytest.raises(StoreFault):
        await parts.store.read(Key("call", "CA1"))
    if which == "ops_port":
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_what_cannot_be_recorded_is_not_begun(parts):
    """A server that would reload its flows records those that it begins with; if it cannot, nothing is left open."""

    class Full(MemoryStore):
        async def amend(self, keys, change):
            raise StoreFault("the disk is full: make room")

    store = Full()
    server = Server(replace(parts, store=store, reload=lambda: LoadedAll(parts.flows)))
    with pytest.raises(StoreFault, match="make room"):
        await server.start()
    assert server.port == 0
    with pytest.raises(StoreFault, match="closed"):
        await store.read(Key("call", "CA1"))


async def test_a_server_that_never_started_can_be_stopped(parts):
    """Nothing was opened; everything is closed."""
    server = Server(parts)
    await server.stop()


async def test_what_dies_in_the_background_is_told_and_holds_up_no_end(parts, monkeypatch, logged):
    """A fault of ours there ends no call, but an operator must hear of it; and the server still closes all that it has."""

    async def dying(_self) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Sensor, "run", dying)
    server = Server(parts)
    await server.start()
    await asyncio.wait(server._tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)  # for the callback of the one that ended

    assert server.note() == "a fault of ours has ended sensor: restart this process, and report it"
    assert [line["task"] for line in logged if line["event"] == "task_died"] == ["sensor"]
    await server.stop()
    assert logged[-1]["event"] == "stopped"


async def test_why_it_is_not_ready(parts, monkeypatch):
    """None, or what to mend: the store is down, it hangs, no flow is loaded."""
    monkeypatch.setattr(app, "READY_DEADLINE_S", 0.01)

    class Stuck(MemoryStore):
        async def read(self, key):
            await asyncio.Event().wait()

    closed = MemoryStore()
    await closed.close()
    table = [
        (parts, None),
        (replace(parts, store=closed), "store: the memory store is closed"),
        (replace(parts, store=Stuck()), "store: no answer within 0.01 s"),
        (replace(parts, flows=()), "no flow is loaded"),
    ]
    for one, expected in table:
        assert await Server(one).ready() == expected


class Clocked(MemoryStore):
    """A store with a clock of its own, so many ms behind the tests', which answers when that has moved on a little."""

    def __init__(self, behind_ms, took_ms=0):
        super().__init__()
        self.behind_ms, self.took_ms, self.now = behind_ms, took_ms, NOW_MS

    def clock(self):
        return self.now

    async def clock_ms(self):
        self.now += self.took_ms
        return NOW_MS + self.took_ms // 2 - self.behind_ms


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (Clocked(0), None),
        (Clocked(2000), None),
        (Clocked(-2000), None),
        (Clocked(2500, took_ms=1000), None),  # it may be the question that took so long
        (Clocked(2001), "clock: this host's is 2.0 s ahead of the store's: set it by NTP (locks and codes are times)"),
        (Clocked(-61_000), "clock: this host's is 61.0 s behind the store's: set it by NTP (locks and codes are times)"),
    ],
)  # fmt: skip
async def test_a_node_whose_clock_is_off_is_not_ready(parts, store, expected):
    """More than two seconds off the clock that all nodes share, and it says so; a store of one machine has none."""
    server = Server(replace(parts, store=store, clock=store.clock))
    assert await server.ready() == expected
    offset = server.metrics.registry.get_sample_value("ivrguard_clock_ahead_seconds")
    assert offset == pytest.approx(store.behind_ms / 1000)


async def test_a_clock_that_is_off_is_in_the_log(parts, logged):
    """Though nobody asks whether it is ready."""
    store = Clocked(3000)
    server = Server(replace(parts, store=store, clock=store.clock))
    sweeping = asyncio.create_task(server._sweep())
    for _ in range(50):
        await asyncio.sleep(0)
    sweeping.cancel()
    assert [line["event"] for line in logged] == ["clock_apart"]


# ── sweeping ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_has_expired_is_swept_bit_by_bit(parts, monkeypatch):
    """A bounded number at a time, until nothing is left; what lives stays."""
    monkeypatch.setattr(app, "SWEEP_LIMIT", 2)
    done = asyncio.Event()

    class Watched(MemoryStore):
        async def sweep(self, now_ms, *, limit=1000):
            swept = await super().sweep(now_ms, limit=limit)
            done.set() if swept == 0 else rounds.append(swept)
            return swept

    store, rounds = Watched(), []
    await kept(store, *(expired(str(number))[1] for number in range(5)))
    await kept(store, Put(Key("spent", "lives"), 1, expires_ms=NOW_MS * 2), Put(Key("spent", "for ever"), 1))
    server = Server(replace(parts, store=store))
    await server.start()
    async with asyncio.timeout(5):
        await done.wait()
    assert rounds == [2, 2, 1]
    assert [one.id for one in await store.list("spent")] == ["for ever", "lives"]
    assert server.metrics.registry.get_sample_value("ivrguard_swept_total") == 5
    await server.stop()


async def test_the_sweeper_says_what_is_in_force(parts, monkeypatch):
    """Before it sweeps: the files of a version that serves are not what has expired."""
    said = asyncio.Event()

    class Sweeping(MemoryStore):
        async def sweep(self, now_ms, *, limit=1000):
            assert said.is_set()
            return await super().sweep(now_ms, limit=limit)

    async def renew(_):
        said.set()

    monkeypatch.setattr(Reloader, "renew", renew)
    server = Server(replace(parts, store=Sweeping(), reload=lambda: LoadedAll(parts.flows)))
    await server.start()
    async with asyncio.timeout(10):
        await said.wait()
    await server.stop()


async def test_the_sweeper_survives_the_store(parts, monkeypatch, logged):
    """A fault is one line; the next round sweeps again."""
    monkeypatch.setattr(app, "SWEEP_EVERY_S", 0.001)
    swept = asyncio.Event()

    class Flaky(MemoryStore):
        rounds = 0

        async def sweep(self, now_ms, *, limit=1000):
            self.rounds += 1
            if self.rounds < 3:
                raise StoreFault("the disk fails: look at the system's log")
            swept.set()
            return await super().sweep(now_ms, limit=limit)

    store = Flaky()
    await kept(store, expired("a")[1])
    server = Server(replace(parts, store=store))
    await server.start()
    async with asyncio.timeout(5):
        await swept.wait()
    await server.stop()

    assert store._rows == {}
    failed = [line for line in logged if line["event"] == "sweep_failed"]
    assert [line["reason"] for line in failed] == ["store", "store"]


# ── draining ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(start, open_flow, ivr, parts, name, logged):
    """
    Webhooks under way are finished, messages on their way are sent, new calls are sent elsewhere (`/readyz`);
    only then the store is closed.
    """
    asked, go_on, on_its_way = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await go_on.wait()
        return web.Response(text="<Response><Say>In time.</Say></Response>", content_type="text/xml")

    ivr.documents["/voice"] = slow
    async with start(open_flow) as other, aiohttp.ClientSession() as session:
        flow = replace(open_flow, upstream=Upstream(f"{other.ivr_url}/voice"))
        server = Server(replace(parts, flows=(flow,)))
        started = asyncio.Event()

        async def ready(_: Server) -> None:
            started.set()

        async def message() -> None:
            on_its_way.set()
            await go_on.wait()
            await server.world.store.head()  # still there

        serving = asyncio.ensure_future(serve(server, started=ready))
        await started.wait()
        server.guard._background.start(message())
        await on_its_way.wait()
        params = {
            "CallSid": "CA" + "1" * 32,
            "AccountSid": ACCOUNT_SID,
            "From": "+15551230001",
            "To": "+18005550100",
            "CallStatus": "ringing",
            "Direction": "inbound",
        }
        headers = {"X-Twilio-Signature": sign(AUTH_TOKEN, f"{PUBLIC_URL}/", tuple(params.items()))}
        url = f"http://127.0.0.1:{server.port}/"
        under_way = asyncio.ensure_future(session.post(url, data=params, headers=headers))
        await asked.wait()
        os.kill(os.getpid(), name)
        readyz, answered = f"http://127.0.0.1:{server.ops_port}/readyz", {"status": "ready"}
        async with asyncio.timeout(5):
            while answered["status"] == "ready":
                async with session.get(readyz) as answer:
                    answered = await answer.json()
        assert answered == {"status": "not ready", "why": "draining: no new calls are wanted here"}
        assert not serving.done()
        go_on.set()
        async with await under_way as answer:
            assert (answer.status, "In time." in await answer.text()) == (200, True)
        await serving
    events = [line["event"] for line in logged]
    assert events.index("draining") < events.index("stopped")
    assert "message_not_sent" not in events


async def test_sighup_reads_the_flows_anew_and_harms_no_drain(parts, logged):
    """As often as it comes; what comes while the server drains ends nothing and changes nothing."""
    on_disk = [parts.flows]
    readings = []

    def load() -> LoadedAll:
        readings.append(on_disk[-1])
        return LoadedAll(on_disk[-1])

    def hang_up(version: str) -> None:
        on_disk.append((replace(parts.flows[0], version=version),))
        os.kill(os.getpid(), signal.SIGHUP)

    async def hung_up_on(server: Server) -> None:
        async with asyncio.timeout(10):
            for version in "12":
                hang_up(version)
                while server.world.flows.first().flow.version != version:
                    await asyncio.to_thread(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)

    class LateHanging(MemoryStore):
        async def close(self) -> None:
            hang_up("3")
            for _ in range(5):
                await asyncio.to_thread(lambda: None)
            await super().close()

    server = Server(replace(parts, store=LateHanging(), reload=load))
    await serve(server, started=hung_up_on)

    assert readings == on_disk[1:3]
    assert server.world.flows.first().flow.version == "2"
    events = [line["event"] for line in logged if line["event"] != "checkpoint"]
    assert events == ["serving", "flow_activated", "flow_activated", "draining", "stopped"]


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of a real process."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("IVRGUARD_")}
    return {
        **environ,
        **new_material(os.urandom),
        "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
        "IVRGUARD_HOST": "127.0.0.1",
        "PORT": "0",
        "IVRGUARD_OPS_PORT": "0",
        "IVRGUARD_STORE": f"sqlite:{tmp_path / 'ivrguard.db'}",
        "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
        **more,
    }


async def test_a_real_process_says_what_has_its_port(tmp_path):
    """`ivrguard serve`: one line, no traceback, status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "ivrguard", "serve"],
            env=settings(tmp_path, PORT=port, IVRGUARD_STORE="memory"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert last.startswith(f"listen: cannot listen on 127.0.0.1, port {port} (")


async def test_a_real_process_drains(tmp_path):
    """`ivrguard serve` on SQLite: it says where it listens, answers, and ends with 0 at SIGTERM."""
    environ = settings(tmp_path, IVRGUARD_WATCH_FLOWS="false")
    await asyncio.to_thread(sqlite.migrate, tmp_path / "ivrguard.db")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ivrguard", "serve", env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        line = {}
        while line.get("event") != "serving":
            text = await process.stderr.readline()
            assert text, "it ended"
            line = json.loads(text) if text.startswith(b"{") else {}
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{line['ops_port']}/readyz") as answer:
                assert answer.status == 200
            async with session.post(f"http://127.0.0.1:{line['port']}/") as answer:
                assert answer.status == 403
        process.terminate()
        rest = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    events = [json.loads(each)["event"] for each in rest.splitlines()]
    signed = [
        one for one in events if one == "checkpoint"
    ]  # on a slow machine one of each hour is among them
    assert signed
    assert [one for one in events if one != "checkpoint"] == ["refused", "draining", "stopped"]


async def told(process: asyncio.subprocess.Process, event: str) -> dict[str, object]:
    """The next line of the log with this event."""
    assert process.stderr is not None
    line: dict[str, object] = {}
    while line.get("event") != event:
        text = await process.stderr.readline()
        assert text, f"it ended before {event}"
        line = json.loads(text) if text.startswith(b"{") else {}
    return line


@pytest.mark.parametrize("asked", [True, False], ids=["SIGHUP", "watching"])
async def test_a_real_process_takes_flows_that_change(tmp_path, asked):
    """
    `ivrguard serve`, asked by SIGHUP with nobody watching, or left alone: with a fault it goes on and says so, mended
    it has the new version, and both are on record; afterwards it drains as ever.
    """
    folder = tmp_path / "flows"
    others = shutil.ignore_patterns("insurer.yaml", "clinic.yaml")
    shutil.copytree(Path(__file__).parents[2] / "flows", folder, ignore=others)
    text = (folder / "bank.yaml").read_text()
    more = {"IVRGUARD_FLOWS": str(folder), **({"IVRGUARD_WATCH_FLOWS": "false"} if asked else {})}
    environ = settings(tmp_path, **more)
    await asyncio.to_thread(sqlite.migrate, tmp_path / "ivrguard.db")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ivrguard", "serve", env=environ, stderr=asyncio.subprocess.PIPE
    )

    def edit(old: str, new: str) -> None:
        assert old in text
        (folder / "bank.yaml").write_text(text.replace(old, new))
        if asked:
            process.send_signal(signal.SIGHUP)

    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        readyz = f"http://127.0.0.1:{(await told(process, 'serving'))['ops_port']}/readyz"
        edit("require: two_factor", "require: two_factr")
        fault = await told(process, "flow_fault")
        assert "two_factr" in (folder / "bank.yaml").read_text().splitlines()[int(str(fault["line"])) - 1]
        await told(process, "flows_refused")
        async with session.get(readyz) as answer:
            assert (answer.status, "were not loaded" in (await answer.json())["note"]) == (200, True)
        edit("per_call: 2", "per_call: 1")
        activated = await told(process, "flow_activated")
        async with session.get(readyz) as answer:
            assert await answer.json() == {"status": "ready"}
        process.terminate()
        await told(process, "stopped")
        assert await process.wait() == 0
    store = await sqlite.SqliteStore.open(tmp_path / "ivrguard.db")
    entries = [(linked.entry, dict(linked.entry.detail)) for linked in await store.entries()]
    await store.close()
    assert [(entry.event, entry.reason) for entry, _ in entries] == [
        ("flow_activated", "started"),
        ("flow_activated", "changed"),
    ]
    (_, first), (_, second) = entries
    assert (second["version"], second["previous"]) == (activated["version"], first["version"])
