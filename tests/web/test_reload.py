"""Flows changed while calls are under way: files on a real disk, a real server, calls over real sockets."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from ivrguard import flowfile
from ivrguard.core.call import Call
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.errors import StoreFault
from ivrguard.flowfile import LoadedAll, load_all
from ivrguard.guard import publishing
from ivrguard.guard.books import CALL_KEPT_S, flow_key, published_key
from ivrguard.guard.publishing import KEPT_BYTES_MAX, KEPT_S
from ivrguard.phone.heard import Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Clock, Rig, listen, new_keyring, rig
from ivrguard.ports import Account, Change, Put
from ivrguard.stores import codec
from ivrguard.stores.memory import MemoryStore
from ivrguard.web import reload as reloading
from ivrguard.web.app import Parts, Server
from ivrguard.web.reload import FAULTS_LOGGED_MAX, Ending, Outcome, look

FLOWS = Path(__file__).parents[2] / "flows"
NUMBER, OTHER_NUMBER = "+18005550100", "+18005550155"
PIN, WRONG = "24681357", "11112222"
OPEN_HOURS = "  - {path: /hours, allow: anyone}"
CLOSED_HOURS = "  - {path: /hours, require: one_factor}"
OLD_PIN, NEW_PIN = "Please enter your {digits} digit PIN.", "Version two wants {digits} digits."
OLD_AGAIN, NEW_AGAIN = "That did not match. Let's try once more.", "Version two says no."
ASKED = "Please enter your account number"
MISTAKE = "  - {path: /hours, require: two_factr}"


@dataclass
class Disk:
    """A folder of flows, and an editor. The bank's first document and its fork are open to anyone."""

    folder: Path
    ivr_url: str = "http://127.0.0.1:1"

    def __post_init__(self) -> None:
        others = shutil.ignore_patterns("insurer.yaml", "clinic.yaml")
        shutil.copytree(FLOWS, self.folder, ignore=others)
        self.write("bank.yaml", self.bank())

    def bank(self, edits: Mapping[str, str] | None = None) -> str:
        """The bank's flow, with these pieces of it replaced."""
        text = (FLOWS / "bank.yaml").read_text()
        edits = {
            "https://ivr.bank.example": self.ivr_url,
            "\nrules:": "\nrules:\n  - {path: /voice, allow: anyone}\n  - {path: /fork, allow: anyone}\n#",
            **(edits or {}),
        }
        for old, new in edits.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def write(self, name: str, text: str) -> None:
        """Save a file as careful editors do: written beside it, then renamed over it."""
        beside = self.folder / f"{name}~"
        beside.write_text(text)
        beside.rename(self.folder / name)

    def edit(self, edits: Mapping[str, str]) -> None:
        self.write("bank.yaml", self.bank(edits))

    def words(self, old: str, new: str) -> None:
        path = self.folder / "prompts" / "en-US.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def load(self) -> LoadedAll:
        return load_all(self.folder)

    def parts(self, **more: object) -> Parts:
        """A server's parts on memory, with what is on disk now."""
        loaded = self.load()
        assert loaded.faults == ()
        fixed = {"public_url": PUBLIC_URL, "keyring": new_keyring(), "tokens": {ACCOUNT_SID: (AUTH_TOKEN,)}}
        usual = {"flows": loaded.flows, "store": MemoryStore(), "reload": self.load, "watched": self.folder}
        return Parts(**{**fixed, **usual, **more})


@pytest.fixture
def disk(tmp_path) -> Disk:
    return Disk(tmp_path / "flows")


@pytest.fixture(autouse=True)
def nobody_looks_but_the_test(monkeypatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 3_600.0)


@pytest.fixture
def reloader(disk):
    """Of a server that does not listen."""
    return Server(disk.parts()).reloader


async def fork(request: web.Request) -> web.Response:
    """Key 1: the hours. Every other one: the balance."""
    target = "/hours" if (await request.post())["Digits"] == "1" else "/balance"
    return web.Response(text=f"<Response><Redirect>{target}</Redirect></Response>", content_type="text/xml")


@dataclass
class Live:
    """A server with the flows on disk, and the telephone network before it."""

    disk: Disk
    rig: Rig

    @property
    def server(self) -> Server:
        return self.rig.server

    async def call(self, from_: str = "+15551230001"):
        line = self.rig.call(from_)
        await line.until_input()
        return line

    async def reload(self) -> Ending:
        return (await self.server.reloader.reload()).ending

    async def readyz(self) -> tuple[int, dict[str, str]]:
        async with self.rig.session.get(f"{self.rig.ops_url}/readyz") as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def live(tmp_path, ivr) -> AsyncIterator[Live]:
    ivr.documents |= {
        "/voice": '<Gather action="/fork" numDigits="1"><Say>Hello.</Say></Gather>',
        "/fork": fork,
        "/hours": "<Say>We open at nine.</Say>",
        "/balance": "<Say>You have ten dollars.</Say>",
    }
    async with AsyncExitStack() as stack:
        url = await listen(ivr.app(AUTH_TOKEN), stack)
        disk = Disk(tmp_path / "flows", url)
        flows = disk.load().flows
        extra = {"flows": flows, "reload": disk.load, "watched": disk.folder}
        running = await stack.enter_async_context(rig(flows[0], url, extra=extra))
        await running.enrol(Account("123456"), pin=PIN)
        yield Live(disk, running)


def heard(line) -> str:
    return [each.text for each in line.heard if isinstance(each, Said)][-1]


def versions(server: Server) -> dict[str, str]:
    return {one.flow.name: one.flow.version for one in server.world.flows.in_force()}


def sample(server: Server, name: str, **labels: str) -> float | None:
    return server.metrics.registry.get_sample_value(name, labels)


async def recorded(server: Server) -> list[tuple[str, ...]]:
    """Event, reason, flow, version, previous version of each entry about flows."""
    entries = [linked.entry for linked in await server.world.store.entries()]
    assert {dict(entry.detail)["node"] for entry in entries} <= {server.world.node}
    return [
        (
            entry.event,
            entry.reason,
            *(dict(entry.detail).get(name) for name in ("flow", "version", "previous")),
        )
        for entry in entries
    ]


# ── calls and versions ───────────────────────────────────────────────────────────────────────────────────


async def test_a_call_keeps_the_rules_and_words_it_began_with(live):
    """
    Two calls under way, one of them at a question. The rules get stricter and the words change: they go on as they
    began, to their ends; a call that comes now gets what is new.
    """
    at_the_fork, at_the_question = await live.call(), await live.call("+15551230002")
    await at_the_question.press("2")
    await at_the_question.press("123456#")
    assert heard(at_the_question) == "Please enter your 8 digit PIN."
    before = versions(live.server)

    live.disk.edit({OPEN_HOURS: CLOSED_HOURS})
    live.disk.words(OLD_PIN, NEW_PIN)
    live.disk.words(OLD_AGAIN, NEW_AGAIN)
    assert await live.reload() == Ending.LOADED
    assert versions(live.server) != before
    young = await live.call("+15551230003")

    await young.press("1")
    assert heard(young).startswith(ASKED)
    await young.press("123456#")
    assert heard(young) == "Version two wants 8 digits."
    await at_the_fork.press("1")
    assert heard(at_the_fork) == "We open at nine."
    await at_the_question.press(WRONG)
    await at_the_question.press(PIN)
    said = [each.text for each in at_the_question.heard if isinstance(each, Said)]
    assert (OLD_AGAIN in said, NEW_AGAIN in said, said[-1]) == (True, False, "You have ten dollars.")


async def test_a_flow_that_went_serves_its_calls_to_the_end(live):
    """Its number belongs to another flow now: that one answers new calls, and the old call is let through as it was."""
    line = await live.call()

    live.disk.write("shop.yaml", live.disk.bank({"flow: bank": "flow: shop", OPEN_HOURS: CLOSED_HOURS}))
    (live.disk.folder / "bank.yaml").unlink()
    assert await live.reload() == Ending.LOADED
    young = await live.call("+15551230002")

    assert list(versions(live.server)) == ["shop"]
    await young.press("1")
    await line.press("1")
    assert heard(young).startswith(ASKED)
    assert heard(line) == "We open at nine."


class Lasting(MemoryStore):
    """Memory that outlives the server which it is given to."""

    async def close(self) -> None:
        """Stay open."""


@pytest.fixture
async def restarting(tmp_path, ivr):
    """A server that is started, stopped and started again over one store, with what is on disk each time."""
    ivr.documents["/voice"] = '<Gather action="/balance" numDigits="1"><Say>Hello.</Say></Gather>'
    ivr.documents["/balance"] = "<Say>You have ten dollars.</Say>"
    async with AsyncExitStack() as stack:
        url = await listen(ivr.app(AUTH_TOKEN), stack)
        disk, store, ring, clock = Disk(tmp_path / "flows", url), Lasting(), new_keyring(), Clock()

        @asynccontextmanager
        async def serving() -> AsyncIterator[Live]:
            flows = disk.load().flows
            extra = {"flows": flows, "reload": disk.load, "watched": disk.folder}
            async with rig(flows[0], url, store=store, keyring=ring, clock=clock, extra=extra) as running:
                yield Live(disk, running)

        yield disk, serving


def carried_over(line, live: Live):
    """The provider reaches the server that listens now."""
    line.exchange.account.session = live.rig.session
    line.exchange.account.routes = {PUBLIC_URL: live.rig.guard_url}
    return line


async def test_a_call_keeps_its_version_through_a_restart(restarting):
    """A deployment with other words and other rules, in the middle of a question."""
    disk, serving = restarting
    async with serving() as live:
        await live.rig.enrol(Account("123456"), pin=PIN)
        line = await live.call()
        await line.press("2")
        await line.press("123456#")
        assert heard(line) == "Please enter your 8 digit PIN."
    disk.words(OLD_PIN, NEW_PIN)
    disk.words(OLD_AGAIN, NEW_AGAIN)

    async with serving() as live:
        await carried_over(line, live).press(WRONG)
        await line.press(PIN)
        young = await live.call("+15551230003")
        await young.press("2")
        await young.press("123456#")

    said = [each.text for each in line.heard if isinstance(each, Said)]
    assert (OLD_AGAIN in said, NEW_AGAIN in said, said[-1]) == (True, False, "You have ten dollars.")
    assert heard(young) == "Version two wants 8 digits."


@pytest.mark.parametrize(
    ("idle_s", "expected"),
    [(CALL_KEPT_S, "Version one"), (KEPT_S + 1, "Version two")],
    ids=["a day", "longer"],
)
async def test_a_version_stays_for_a_day_after_it_was_last_in_force(disk, idle_s, expected):
    """However long it served before: a process that runs says so again and again, and the sweeper takes the rest."""
    store, now_ms = Lasting(), [1_800_000_000_000]
    disk.words(OLD_PIN, "Version one.")
    first = Server(disk.parts(store=store, clock=lambda: now_ms[0]))
    await first.reloader.begin()
    version = versions(first)["bank"]
    for _ in range(80):
        now_ms[0] += 3_000_000
        await first.reloader.renew()
        await store.sweep(now_ms[0])

    disk.words("Version one.", "Version two.")
    now_ms[0] += idle_s * 1000
    await store.sweep(now_ms[0])
    second = Server(disk.parts(store=store, clock=lambda: now_ms[0]))
    call = Call("CA1", "AC1", "bank", version, ANONYMOUS, NUMBER, attested=False, began_ms=0)

    assert (await second.world.flow_of(call)).flow.prompts["pin"] == f"{expected}."


async def test_another_node_finds_a_version_that_it_has_never_read(disk):
    """Deployed there first: a call that began with it is answered here."""
    store = Lasting()
    here = Server(disk.parts(store=store))
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    there = Server(disk.parts(store=store))
    await there.reloader.begin()
    version = versions(there)["bank"]
    call = Call("CA1", "AC1", "bank", version, ANONYMOUS, NUMBER, attested=False, began_ms=0)

    found = await here.world.flow_of(call)

    assert found.flow == there.world.flows.in_force()[0].flow
    assert here.world.flows.named("bank").flow.version != version


async def test_it_is_said_once_an_hour_that_a_version_is_in_force(disk):
    """And after a reload; a clock that jumped back does not stop it."""
    store, now_ms = Counting(), [1_800_000_000_000]
    server = Server(disk.parts(store=store, clock=lambda: now_ms[0]))
    await server.reloader.begin()
    for later_ms, acts in ((0, 1), (3_599_999, 1), (1, 2), (1, 2), (-7_200_000, 3)):
        now_ms[0] += later_ms
        await server.reloader.renew()
        assert store.acts == acts, later_ms
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await server.reloader.reload()
    await server.reloader.renew()
    assert store.acts == 4


@dataclass
class Counting(MemoryStore):
    """A store that counts its acts."""

    acts: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    async def amend(self, keys, change):
        self.acts += 1
        return await super().amend(keys, change)


async def test_a_flow_too_large_for_the_store_serves_all_the_same(disk, monkeypatch, logged):
    """Its calls keep it for as long as the process lives; the log says so."""
    monkeypatch.setattr(publishing, "KEPT_BYTES_MAX", 5_000)
    server = Server(disk.parts())
    await server.reloader.begin()
    version = versions(server)["bank"]
    assert await server.world.store.read(flow_key("bank", version)) is None
    assert [(one["event"], one["flow"]) for one in logged] == [("flow_not_kept", "bank")]


def test_what_is_kept_is_what_a_store_takes():
    """At its bound, and in the worst spelling."""
    files = {"": "\u4e2d" * ((KEPT_BYTES_MAX - 9) // 3)}
    assert len(json.dumps(files, ensure_ascii=False).encode()) <= KEPT_BYTES_MAX
    codec.encode(flow_key("bank", "1"), files)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_with_a_fault_on_disk_everything_stays_and_it_is_told(live, logged, metric):
    """
    The flow before serves new calls; the log has the place, the metric falls to 0, `/readyz` stays 200 and says why.
    Mended, it is loaded, and all of that is over.
    """
    before = versions(live.server)
    live.disk.edit({OPEN_HOURS: MISTAKE})
    assert await live.reload() == Ending.REFUSED

    assert versions(live.server) == before
    line = await live.call()
    await line.press("1")
    assert heard(line) == "We open at nine."
    [fault], [refused] = (
        [one for one in logged if one["event"] == name] for name in ("flow_fault", "flows_refused")
    )
    written = (live.disk.folder / "bank.yaml").read_text().splitlines()
    number = next(number for number, text in enumerate(written, 1) if text.startswith(MISTAKE))
    column = MISTAKE.index("two_factr") + 1
    assert (fault["file"], fault["line"], fault["column"]) == (
        f"{live.disk.folder}/bank.yaml",
        number,
        column,
    )
    assert fault["detail"].startswith("there is no level 'two_factr'; did you mean 'two_factor'?")
    assert refused["count"] == 1
    assert await metric(live.rig, "ivrguard_flows_last_reload_success") == 0
    assert await metric(live.rig, 'ivrguard_flows_reloads_total{outcome="refused"}') == 1
    status, body = await live.readyz()
    assert (status, body["status"]) == (200, "ready")
    place = f"{live.disk.folder}/bank.yaml:{number}:{column}"
    assert body["note"].startswith(
        f"the flows on disk have a fault and were not loaded; the first: {place}: rules["
    )

    live.disk.edit({OPEN_HOURS: CLOSED_HOURS})
    assert await live.reload() == Ending.LOADED
    assert versions(live.server) != before
    assert await metric(live.rig, "ivrguard_flows_last_reload_success") == 1
    assert await live.readyz() == (200, {"status": "ready"})


async def test_what_is_put_back_is_no_fault_any_more(disk, reloader):
    """Nothing is loaded, since it is what runs; the note goes all the same."""
    disk.edit({OPEN_HOURS: MISTAKE})
    assert (await reloader.reload()).ending == Ending.REFUSED
    assert reloader.note is not None
    disk.edit({})
    assert (await reloader.reload(), reloader.note) == (Outcome(Ending.UNCHANGED), None)


async def test_one_fault_anywhere_and_nothing_is_loaded(disk):
    """A set is whole: the flow without fault, which changed as well, has to wait."""
    disk.write("shop.yaml", disk.bank({"flow: bank": "flow: shop", NUMBER: OTHER_NUMBER}))
    server = Server(disk.parts())
    before = versions(server)
    assert list(before) == ["bank", "shop"]

    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    disk.write("shop.yaml", disk.bank({"flow: bank": "flow: shop"}))  # claims the bank's number
    outcome = await server.reloader.reload()

    assert outcome.ending == Ending.REFUSED
    assert ["is claimed at" in fault.message for fault in outcome.faults] == [True]
    assert versions(server) == before
    assert server.world.flows.dialled(OTHER_NUMBER).flow.name == "shop"


async def test_a_flow_that_allows_too_many_guesses_is_refused_as_well(disk, reloader):
    """Its own `ceiling` says how many: a looser lockout does not slip in by an edit."""
    assert (await reloader.reload()).ending == Ending.UNCHANGED
    disk.edit({"\n  lifetime: 100": "\n  lifetime: 0"})
    outcome = await reloader.reload()

    assert outcome.ending == Ending.REFUSED
    assert [fault.path for fault in outcome.faults] == ["ceiling.guess_chance_per_year"]


async def test_what_does_not_go_with_the_settings_is_a_fault_too(disk, reloader):
    """Flow files alone cannot tell that a flow leads back to the guard itself."""
    disk.edit({"https://media.bank.example": "https://media.example"})
    disk.write("bank.yaml", disk.bank().replace(disk.ivr_url, PUBLIC_URL))
    outcome = await reloader.reload()
    assert [str(fault) for fault in outcome.faults] == [
        "flow bank:1:1: it does not go together with the settings: the guard's own public origin cannot be the IVR's"
    ]


async def test_a_reader_that_fails_stops_nothing(disk, logged):
    """A fault of our own: what runs stays, the log has it, and the next reading is one like any other."""

    def breaks() -> LoadedAll:
        if broken:
            raise PermissionError("secret of somebody")
        return disk.load()

    broken = [True]
    server = Server(disk.parts(reload=breaks))
    before = versions(server)
    disk.edit({OPEN_HOURS: CLOSED_HOURS})

    outcome = await server.reloader.reload()

    assert outcome.note == (
        f"the flows on disk have a fault and were not loaded; the first: {disk.folder}:1:1: cannot be read: "
        "PermissionError; the log says more"
    )
    assert versions(server) == before
    assert [line["event"] for line in logged] == ["reload_failed", "flow_fault", "flows_refused"]
    broken.clear()
    assert (await server.reloader.reload()).ending == Ending.LOADED


async def test_many_faults_do_not_flood_the_log(disk, reloader, logged):
    """The first ones and their number; `ivrguard check` has them all."""
    disk.edit(
        {OPEN_HOURS: "\n".join(MISTAKE.replace("/hours", f"/{n}") for n in range(FAULTS_LOGGED_MAX + 5))}
    )
    outcome = await reloader.reload()
    assert len(outcome.faults) == FAULTS_LOGGED_MAX + 5
    assert f"have {FAULTS_LOGGED_MAX + 5} faults and" in outcome.note
    assert [line["event"] for line in logged] == ["flow_fault"] * FAULTS_LOGGED_MAX + ["flows_refused"]
    assert logged[-1]["count"] == FAULTS_LOGGED_MAX + 5


# ── on record ────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_change_is_on_record_with_the_version_before(disk, logged):
    """One entry for each flow that began or ended; none for those that stayed, and none for a reading in vain."""
    disk.write("shop.yaml", disk.bank({"flow: bank": "flow: shop", NUMBER: OTHER_NUMBER}))
    server = Server(disk.parts())
    first = versions(server)
    await server.reloader.begin()
    assert await recorded(server) == [
        ("flow_activated", "started", "bank", first["bank"], ""),
        ("flow_activated", "started", "shop", first["shop"], ""),
    ]
    assert (await server.reloader.reload()).ending == Ending.UNCHANGED

    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    (disk.folder / "shop.yaml").unlink()
    disk.write("inn.yaml", disk.bank({"flow: bank": "flow: inn", NUMBER: OTHER_NUMBER}))
    assert (await server.reloader.reload()).ending == Ending.LOADED
    disk.edit({OPEN_HOURS: MISTAKE})
    assert (await server.reloader.reload()).ending == Ending.REFUSED

    second = versions(server)
    assert list(second) == ["bank", "inn"]
    assert (await recorded(server))[2:] == [
        ("flow_activated", "changed", "bank", second["bank"], first["bank"]),
        ("flow_activated", "added", "inn", second["inn"], ""),
        ("flow_withdrawn", "removed", "shop", first["shop"], None),
    ]
    told = [line for line in logged if line["event"] in {"flow_activated", "flow_withdrawn"}]
    assert [(line["flow"], line["reason"]) for line in told] == [
        ("bank", "changed"),
        ("inn", "added"),
        ("shop", "removed"),
    ]


@dataclass
class Full(MemoryStore):
    """A store that takes nothing while it is full."""

    full: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    async def amend(self, keys, change):
        if self.full:
            raise StoreFault("the disk is full: make room")
        return await super().amend(keys, change)


async def test_nothing_takes_effect_that_is_not_on_record(disk, logged):
    """A store that takes no entry: everything stays, and the next look tries again, though no file has changed."""
    store = Full()
    server = Server(disk.parts(store=store))
    before = versions(server)
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    store.full = True

    assert await server.reloader.tick() is None
    outcomes = [await server.reloader.tick(), await server.reloader.tick()]

    assert outcomes == [Outcome(Ending.UNRECORDED, why="store: the disk is full: make room")] * 2
    assert versions(server) == before
    assert server.note() == (
        "the flows on disk were not loaded, because nothing can be recorded: store: the disk is full: make room"
    )
    assert sample(server, "ivrguard_flows_last_reload_success") == 0
    assert [line["event"] for line in logged] == ["flows_not_recorded"] * 2
    store.full = False
    assert await server.reloader.tick() == Outcome(Ending.LOADED)
    assert versions(server) != before
    assert await server.reloader.tick() is None


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_change_is_read_when_two_looks_saw_the_same(disk, reloader):
    """Whoever is still writing gets to the end. What was read is not read again."""
    assert [await reloader.tick() for _ in range(3)] == [None, Outcome(Ending.UNCHANGED), None]
    path = disk.folder / "bank.yaml"
    half, whole = disk.bank()[:500], disk.bank({OPEN_HOURS: CLOSED_HOURS})

    path.write_text(half)
    assert await reloader.tick() is None
    path.write_text(whole)
    assert await reloader.tick() is None
    assert await reloader.tick() == Outcome(Ending.LOADED)
    assert await reloader.tick() is None


async def test_what_stays_half_written_is_refused_and_the_rest_of_it_is_read(disk, reloader):
    """A disk that stalls in the middle of a save puts nothing in force."""
    await reloader.tick()
    path = disk.folder / "bank.yaml"
    path.write_text(disk.bank()[:500])
    assert [await reloader.tick(), (await reloader.tick()).ending] == [None, Ending.REFUSED]
    assert await reloader.tick() is None
    path.write_text(disk.bank({OPEN_HOURS: CLOSED_HOURS}))
    assert [await reloader.tick(), await reloader.tick()] == [None, Outcome(Ending.LOADED)]


async def test_a_change_while_it_is_read_is_read_as_well(disk):
    """The look comes before the reading: no change falls between them."""

    def load() -> LoadedAll:
        loaded = disk.load()
        for edits in later:
            disk.edit(edits)
        later.clear()
        return loaded

    later = [{OPEN_HOURS: CLOSED_HOURS}]
    server = Server(disk.parts(reload=load))
    before = versions(server)
    assert [await server.reloader.tick() for _ in range(2)] == [None, Outcome(Ending.UNCHANGED)]
    assert versions(server) == before
    assert [await server.reloader.tick() for _ in range(2)] == [None, Outcome(Ending.LOADED)]
    assert versions(server) != before


def renamed_over(folder: Path) -> None:
    text = (folder / "bank.yaml").read_text()
    (folder / "new").write_text(text)
    shutil.copystat(folder / "bank.yaml", folder / "new")
    (folder / "new").rename(folder / "bank.yaml")


def in_place_with_the_old_time(folder: Path) -> None:
    path = folder / "bank.yaml"
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "written": lambda folder: (folder / "bank.yaml").write_text("flow: other\n"),
    "renamed over, as long and as old": renamed_over,
    "written, as long, and its time put back": in_place_with_the_old_time,
    "a prompt": lambda folder: (folder / "prompts" / "en-US.yaml").write_text("x: y\n"),
    "a new one": lambda folder: (folder / "shop.yaml").write_text("flow: shop\n"),
    "a new one with the wrong ending": lambda folder: (folder / "shop.yml").write_text("flow: shop\n"),
    "a new language": lambda folder: (folder / "prompts" / "es-US.yaml").write_text("x: y\n"),
    "gone": lambda folder: (folder / "bank.yaml").unlink(),
    "renamed": lambda folder: (folder / "bank.yaml").rename(folder / "shop.yaml"),
    "no longer readable": lambda folder: (folder / "bank.yaml").chmod(0),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_look_sees(disk, change):
    """Every way to change a flow."""
    before = look(disk.folder)
    assert look(disk.folder) == before
    change(disk.folder)
    assert look(disk.folder) != before


def test_a_look_is_not_distracted(disk):
    """What is no flow and no prompt is not looked at."""
    before = look(disk.folder)
    (disk.folder / "README.md").write_text("For admins.")
    (disk.folder / ".bank.yaml.swp").write_text("an editor's")
    assert look(disk.folder) == before


def test_a_look_follows_links(tmp_path):
    """As Kubernetes mounts a ConfigMap: files link into `..data`, which is swapped for another folder at once."""
    mounted, name = tmp_path / "flows", "bank.yaml"
    for version in ("..1", "..2"):
        (mounted / version).mkdir(parents=True)
        (mounted / version / name).write_text("flow: bank\n")
    (mounted / "..data").symlink_to("..1")
    (mounted / name).symlink_to(f"..data/{name}")
    before = look(mounted)

    (mounted / "..new").symlink_to("..2")
    (mounted / "..new").rename(mounted / "..data")

    assert look(mounted) != before


def test_a_look_at_one_file(disk):
    """Its prompts and itself, and no other flow of its folder."""
    path = disk.folder / "bank.yaml"
    before = look(path)
    (disk.folder / "shop.yaml").write_text("flow: shop\n")
    assert look(path) == before
    (disk.folder / "prompts" / "en-US.yaml").write_text("x: y\n")
    between = look(path)
    assert between != before
    path.write_text("flow: other\n")
    assert look(path) != between


def test_a_look_at_nothing(tmp_path):
    """Raises nothing, and sees what comes."""
    before = look(tmp_path / "flows")
    (tmp_path / "flows").mkdir()
    empty = look(tmp_path / "flows")
    (tmp_path / "flows" / "bank.yaml").write_text("flow: bank\n")
    assert len({before, empty, look(tmp_path / "flows")}) == 3


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Crowd:
    """Counts who reads at once: each reader waits a little for a second one."""

    disk: Disk
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=0.05))
    threads: list[int] = field(default_factory=list)
    met: int = 0

    def load(self) -> LoadedAll:
        self.threads.append(threading.get_ident())
        try:
            self.barrier.wait()
            self.met += 1
        except threading.BrokenBarrierError:
            self.barrier.reset()
        return self.disk.load()


async def test_one_reading_at_a_time_and_none_on_the_event_loop(disk):
    """Two who ask at once are served one after the other, on a thread that answers no webhooks."""
    crowd = Crowd(disk)
    server = Server(disk.parts(reload=crowd.load))
    disk.edit({OPEN_HOURS: CLOSED_HOURS})

    outcomes = await asyncio.gather(server.reloader.reload(), server.reloader.reload())

    assert [outcome.ending for outcome in outcomes] == [Ending.LOADED, Ending.UNCHANGED]
    assert crowd.met == 0
    assert len(crowd.threads) == 2
    assert threading.get_ident() not in crowd.threads


async def until(server: Server, name: str, **labels: str) -> None:
    """Until a sample is no longer 0."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(sample, server, name, **labels):
            pass


async def test_a_server_looks_by_itself(disk, monkeypatch):
    """From start to stop, nobody need ask."""
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.001)
    server = Server(disk.parts())
    before = versions(server)
    await server.start()
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await until(server, "ivrguard_flows_reloads_total", outcome="loaded")
    assert versions(server) != before
    await server.stop()


@pytest.mark.parametrize("watching", [True, False])
async def test_asked_for_it_is_read_at_once(disk, watching):
    """Whether or not anybody looks, and again when asked again."""
    more = {} if watching else {"watched": None}
    server = Server(disk.parts(**more))
    await server.start()
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    server.reloader.ask()
    server.reloader.ask()
    await until(server, "ivrguard_flows_reloads_total", outcome="loaded")
    server.reloader.ask()
    await until(server, "ivrguard_flows_reloads_total", outcome="unchanged")
    await server.stop()


async def test_asked_once_it_is_read_once(disk):
    """And not for ever: nobody asks any more."""
    server = Server(disk.parts(watched=None))
    running = asyncio.create_task(server.reloader.run())
    server.reloader.ask()
    await until(server, "ivrguard_flows_reloads_total", outcome="unchanged")
    for _ in range(100):
        await asyncio.to_thread(disk.load)
        if sample(server, "ivrguard_flows_reloads_total", outcome="unchanged") > 1:
            break
    assert sample(server, "ivrguard_flows_reloads_total", outcome="unchanged") == 1
    running.cancel()


async def test_without_anything_to_read_from_the_flows_stay(disk):
    """Such a server has no reloader, and nothing to note."""
    server = Server(disk.parts(reload=None, watched=None))
    assert (server.reloader, server.note()) == (None, None)
    assert sample(server, "ivrguard_flow_info", flow="bank", version=versions(server)["bank"]) == 1
    assert sample(server, "ivrguard_flows_last_reload_success") == 1


# ── what is counted ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_metrics_name_the_version_in_force_and_no_other(disk):
    """And when the disk was last looked through: by the server's own clock."""
    now_ms = [1_800_000_000_000]
    server = Server(disk.parts(clock=lambda: now_ms[0]))
    first = versions(server)["bank"]
    assert sample(server, "ivrguard_flows_last_reload_timestamp_seconds") == 1_800_000_000
    now_ms[0] += 90_500
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await server.reloader.reload()
    second = versions(server)["bank"]
    assert sample(server, "ivrguard_flows_last_reload_timestamp_seconds") == 1_800_000_090.5
    assert sample(server, "ivrguard_flow_info", flow="bank", version=first) is None
    assert sample(server, "ivrguard_flow_info", flow="bank", version=second) == 1


def test_a_note_is_for_what_an_operator_must_know():
    """Nothing to note is None: what is on disk is in force."""
    one, other = (flowfile.Fault("a.yaml", line, 2, "rules[0]", "wrong") for line in (1, 3))
    table = [
        (Outcome(Ending.LOADED), None),
        (Outcome(Ending.UNCHANGED), None),
        (
            Outcome(Ending.REFUSED, (one,)),
            "the flows on disk have a fault and were not loaded; the first: a.yaml:1:2: rules[0]: wrong",
        ),
        (
            Outcome(Ending.REFUSED, (one, other)),
            "the flows on disk have 2 faults and were not loaded; the first: a.yaml:1:2: rules[0]: wrong",
        ),
        (
            Outcome(Ending.UNRECORDED, why="store: down"),
            "the flows on disk were not loaded, because nothing can be recorded: store: down",
        ),
    ]
    assert [outcome.note for outcome, _ in table] == [expected for _, expected in table]


# ── many nodes ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Cluster:
    """Nodes over one store, each with files of its own."""

    folder: Path
    store: Lasting = field(default_factory=Lasting)

    async def node(self, name: str, edits: Mapping[str, str] | None = None) -> tuple[Disk, Server]:
        disk = Disk(self.folder / name)
        if edits:
            disk.edit(edits)
        return disk, await self.again(disk)

    async def again(self, disk: Disk) -> Server:
        """A node that begins with what is on its disk."""
        server = Server(disk.parts(store=self.store))
        await server.reloader.begin()
        return server

    async def published(self):
        return await self.store.read(published_key())


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def gauge(server: Server, name: str) -> float:
    return server.metrics.registry.get_sample_value(name)


async def test_what_one_node_publishes_every_node_has(cluster, logged):
    """By its next look, from the store's files; on record for each; and with nothing to say against it once its files follow."""
    (disk, one), (other_disk, two) = await cluster.node("one"), await cluster.node("two")
    first = versions(one)
    await two.reloader.follow()
    assert (await cluster.published()).number == 1
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    assert (await one.reloader.reload()).ending is Ending.LOADED
    assert versions(two) == first
    await two.reloader.follow()
    assert versions(two) == versions(one) != first
    entry = (await cluster.store.entries())[-1].entry
    assert (entry.event, entry.reason, dict(entry.detail)) == (
        "flow_activated",
        "published",
        {"flow": "bank", "version": versions(two)["bank"], "previous": first["bank"], "node": two.world.node},
    )
    assert [line["reason"] for line in logged if line["event"] == "flow_activated"] == [
        "changed",
        "published",
    ]
    assert "of an earlier set than the one published last" in two.reloader.note
    assert one.reloader.note is None

    other_disk.edit({OPEN_HOURS: CLOSED_HOURS})
    assert (await two.reloader.reload()).ending is Ending.UNCHANGED
    assert (two.reloader.note, (await cluster.published()).number) == (None, 2)


async def test_old_files_do_not_bring_themselves_back(cluster):
    """Not by being looked at, asked for or started: whoever has older files takes what was published last."""
    (disk, one), (old, two) = await cluster.node("one"), await cluster.node("two")
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.reload()
    await two.reloader.follow()
    for _ in range(2):
        assert (await two.reloader.reload()).ending is Ending.UNCHANGED
        await one.reloader.follow()
    three = await cluster.again(old)
    assert versions(one) == versions(two) == versions(three)
    assert (await cluster.published()).number == 2
    assert "of an earlier set" in three.reloader.note


async def test_a_set_that_is_new_is_published_by_starting_with_it(cluster):
    """A rolling deployment: the first node that has it brings it to all; a change while one runs may go back to an old one."""
    disk, one = await cluster.node("one")
    first = versions(one)
    _, two = await cluster.node("two", {OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.follow()
    assert versions(one) == versions(two) != first
    disk.edit({OPEN_HOURS: "  - {path: /hours, allow: anyone, digits: '1'}"})
    await one.reloader.reload()
    disk.edit({})
    await one.reloader.reload()
    await two.reloader.follow()
    assert versions(one) == versions(two) == first
    assert (await cluster.published()).number == 4


async def test_two_who_publish_at_once_end_with_the_same(cluster):
    """Whose act came last: both have that one after their next look."""
    (disk, one), (other, two) = await cluster.node("one"), await cluster.node("two")
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    other.edit({OPEN_HOURS: "  - {path: /hours, allow: anyone, digits: '1'}"})
    await asyncio.gather(one.reloader.reload(), two.reloader.reload())
    await asyncio.gather(one.reloader.follow(), two.reloader.follow())
    assert versions(one) == versions(two)
    assert dict((await cluster.published()).flows) == versions(one)


async def test_who_cannot_have_what_was_published_says_so_and_keeps_his_own(cluster, logged):
    """Once in the log, in a metric and in `/readyz`; and it is over as soon as he can."""
    (disk, one), (old, two) = await cluster.node("one"), await cluster.node("two")
    first = versions(two)
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.reload()
    key = flow_key("bank", versions(one)["bank"])
    files = await cluster.store.read(key)
    await cluster.store.amend([key], lambda _: Change(None, (Put(key, {"": "flow: of a newer release"}),)))
    for _ in range(2):
        await two.reloader.follow()
    late = await cluster.again(old)
    for server in (two, late):
        assert versions(server) == first
        assert "what another node published last is not in force here (bank" in server.note()
        assert gauge(server, "ivrguard_flows_behind") == 1
    assert [line["event"] for line in logged].count("flows_behind") == 2
    assert (await cluster.published()).number == 2

    await cluster.store.amend([key], lambda _: Change(None, (Put(key, files),)))
    await two.reloader.follow()
    assert (versions(two), gauge(two, "ivrguard_flows_behind")) == (versions(one), 0)


async def test_what_nobody_can_have_any_more_is_followed_by_nobody(cluster):
    """All nodes were down for days, and the files of what was published are gone: the first that starts publishes its own."""
    (disk, one), (old, _) = await cluster.node("one"), await cluster.node("two")
    first = versions(one)
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.reload()
    key = flow_key("bank", versions(one)["bank"])
    await cluster.store.amend([key], lambda _: Change(None, (Put(key, None),)))
    late = await cluster.again(old)
    assert (versions(late), late.reloader.note) == (first, None)
    assert (await cluster.published()).number == 3


async def test_a_store_that_does_not_answer_is_asked_again(cluster, logged):
    """A look that fails changes nothing."""
    (disk, one), (_, two) = await cluster.node("one"), await cluster.node("two")
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.reload()
    read, cluster.store.read = cluster.store.read, broken
    await two.reloader.follow()
    cluster.store.read = read
    assert logged[-1]["event"] == "flows_not_followed"
    await two.reloader.follow()
    assert versions(two) == versions(one)


async def broken(_key):
    raise StoreFault("it does not answer")


async def test_a_node_that_watches_no_files_follows_all_the_same(cluster, monkeypatch):
    """`IVRGUARD_WATCH_FLOWS=false` is about its own files."""
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.001)
    (disk, one), (other, _) = await cluster.node("one"), await cluster.node("two")
    followed = asyncio.Event()

    class Following(Lasting):
        async def amend(self, keys, change):
            result = await cluster.store.amend(keys, change)
            if any(key.kind == "published" for key in keys) and begun:
                followed.set()
            return result

        async def read(self, key):
            return await cluster.store.read(key)

    begun = False
    two = Server(other.parts(store=Following(), watched=None))
    await two.reloader.begin()
    begun = True
    disk.edit({OPEN_HOURS: CLOSED_HOURS})
    await one.reloader.reload()
    running = asyncio.create_task(two.reloader.run())
    async with asyncio.timeout(10):
        await followed.wait()
        await two.reloader.follow()
    running.cancel()
    assert versions(two) == versions(one)
