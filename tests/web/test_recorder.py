"""The record while a server runs: signed in time, copied at once, archived when it is old; and what is refused."""

import asyncio
import json

import aiohttp
import pytest
import structlog

from ivrguard.core.audit import Entry
from ivrguard.core.errors import RecordFault, StoreFault
from ivrguard.exports import files
from ivrguard.exports.files import Copy
from ivrguard.exports.jsonl import entry_line
from ivrguard.guard.archive import Follower
from ivrguard.guard.record import Signer, latest
from ivrguard.guard.verification import FileSource, StoreSource, verify
from ivrguard.phone.heard import HungUp, Said
from ivrguard.phone.rig import new_keyring
from ivrguard.ports import Change
from ivrguard.stores.memory import MemoryStore
from ivrguard.web import recorder
from ivrguard.web.ops import Metrics
from ivrguard.web.recorder import DAY_MS, Recorder, Recording

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


class Clock:
    def __init__(self):
        self.now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


class Kept:
    """A record, and a server's recorder of it whose ticks the test makes."""

    def __init__(self, folder, how=None, *, store=None, keyring=None, copied=False, clock=None):
        self.store, self.clock = store or MemoryStore(), clock or Clock()
        self.keyring = keyring or new_keyring()
        self.signer = Signer(self.store, self.keyring, self.keyring.public, "https://guard.example")
        self.path, self.metrics = folder / "copy.jsonl", Metrics()
        follower = Follower(self.store, self.signer.public, Copy(self.path), entry_line) if copied else None
        how = how or Recording(every_ms=10 * MINUTE_MS, every_entries=100)
        self.recorder = Recorder(self.signer, follower, how, self.metrics, self.clock)

    async def decide(self, count=1, why="wrong"):
        entries = tuple(
            Entry(self.clock(), "authn_login_fail", reason=f"{why} {one}") for one in range(count)
        )
        await self.store.amend([], lambda _: Change(None, (), entries))

    async def later(self, minutes):
        self.clock.now_ms += minutes * MINUTE_MS
        await self.recorder.tick()

    async def signed(self):
        """The number of the last entry that was signed."""
        found = await latest(self.store, self.signer.public)
        return found.checkpoint.seq if found else 0

    def metric(self, name):
        return self.metrics.registry.get_sample_value(name)


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


def told(lines, event):
    return [line for line in lines if line["event"] == event]


async def test_a_store_that_does_not_answer_keeps_no_server_from_ending(tmp_path, logged, monkeypatch):
    """It gets a moment for the last checkpoint, and then the server ends without it, and says so."""

    class Stuck(MemoryStore):
        async def head(self):
            await asyncio.Event().wait()

    monkeypatch.setattr(recorder, "FINISH_S", 0.01)
    kept = Kept(tmp_path, store=Stuck())
    running = asyncio.create_task(kept.recorder.run())
    await asyncio.sleep(0)
    running.cancel()

    await kept.recorder.finish()

    (line,) = told(logged, "record_fault")
    assert line["reason"] == "slow"


# ── signed ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_record_is_signed_in_time(tmp_path, logged):
    """At the first look, and then every ten minutes if anything came; each is kept, and told to the log."""
    kept = Kept(tmp_path)
    await kept.recorder.tick()
    assert await kept.signed() == 0
    await kept.decide(3)
    await kept.later(9)
    assert await kept.signed() == 0
    await kept.later(1)
    assert await kept.signed() == 3
    await kept.later(10)
    await kept.decide()
    await kept.later(9)
    assert await kept.signed() == 3
    await kept.later(1)
    assert await kept.signed() == 4
    tokens = [line["checkpoint"] for line in told(logged, "checkpoint")]
    assert len(tokens) == 2
    (outcome,) = await verify([StoreSource(kept.store)], kept.signer.public, tokens)
    assert outcome.found.met == 2
    assert kept.metric("ivrguard_record_entries") == 4
    assert kept.metric("ivrguard_record_checkpoint_timestamp_seconds") == kept.clock() / 1000


async def test_many_entries_do_not_wait(tmp_path):
    """A hundred at once are signed at once."""
    kept = Kept(tmp_path)
    await kept.recorder.tick()
    await kept.decide(99)
    await kept.recorder.tick()
    assert await kept.signed() == 0
    await kept.decide()
    await kept.recorder.tick()
    assert await kept.signed() == 100


async def test_two_nodes_take_turns(tmp_path, logged):
    """One signs, the other sees that it was done; and each checks what came since it last signed itself."""
    first = Kept(tmp_path)
    second = Kept(tmp_path, store=first.store, keyring=first.keyring, clock=first.clock)
    await first.decide(5)
    await first.recorder.tick()
    await second.recorder.tick()
    assert len(told(logged, "checkpoint")) == 1
    await first.decide()
    await second.later(10)
    await first.recorder.tick()
    assert (len(told(logged, "checkpoint")), await first.signed()) == (2, 6)


async def test_the_last_checkpoint_is_made_when_the_server_ends(tmp_path):
    kept = Kept(tmp_path, copied=True)
    await kept.recorder.begin()
    await kept.decide(2)
    await kept.recorder.finish()
    assert await kept.signed() == 2
    (outcome,) = await verify([FileSource(kept.path)], kept.signer.public)
    assert (outcome.found.end.seq, outcome.found.met) == (2, 1)


async def made_anew(kept, count):
    """Somebody who can write the whole store replaces the record, and takes away what was signed."""
    fresh = MemoryStore()
    kept.store._entries, kept.store._head = fresh._entries, fresh._head
    kept.store._rows, kept.store._ids = fresh._rows, fresh._ids
    kept.store._ranks, kept.store._expiries = fresh._ranks, fresh._expiries
    await kept.decide(count, "forged")


async def test_what_is_changed_behind_its_back_is_found_and_not_signed(tmp_path, logged):
    """Told in the log, as a metric and in /readyz, each time it is looked at; calls go on."""
    kept = Kept(tmp_path)
    await kept.decide(5)
    await kept.recorder.tick()
    await made_anew(kept, 7)
    await kept.later(10)
    assert await kept.signed() == 0
    assert "broken at entry 6" in kept.recorder.note
    assert kept.recorder.refusal is None
    assert kept.metric("ivrguard_record_broken") == 1
    await kept.decide(500)
    await kept.recorder.tick()
    assert len(told(logged, "record_broken")) == 1
    await kept.later(10)
    assert len(told(logged, "record_broken")) == 2


async def test_a_store_that_is_down_is_asked_again(tmp_path, logged, monkeypatch):
    """Nothing is signed meanwhile, and nothing is called broken."""
    kept = Kept(tmp_path)
    await kept.decide(5)

    async def down():
        raise StoreFault("down")

    with monkeypatch.context() as patch:
        patch.setattr(kept.store, "head", down)
        await kept.recorder.tick()
        await kept.recorder.finish()
    assert [line["detail"] for line in told(logged, "record_fault")] == ["down", "down"]
    assert kept.metric("ivrguard_record_broken") == 0
    await kept.recorder.tick()
    assert await kept.signed() == 5


async def test_a_bug_does_not_end_the_watch(tmp_path, logged, monkeypatch):
    kept = Kept(tmp_path)

    async def bug():
        raise LookupError

    with monkeypatch.context() as patch:
        patch.setattr(kept.store, "head", bug)
        await kept.recorder.tick()
    (line,) = told(logged, "record_fault")
    assert isinstance(line["exc_info"], LookupError)


# ── copied ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_copy_follows_within_a_tick(tmp_path):
    """Entries, and the checkpoints over them."""
    kept = Kept(tmp_path, copied=True)
    await kept.decide(3)
    await kept.recorder.begin()
    await kept.decide(2)
    await kept.recorder.tick()
    events = [json.loads(line)["event"] for line in kept.path.read_bytes().splitlines()]
    assert events == ["authn_login_fail"] * 5 + ["record_checkpoint"]


def no_room(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("required", [False, True])
async def test_a_copy_that_cannot_be_written_is_told_once(tmp_path, logged, monkeypatch, required):
    """And refuses callers only where it is required; when there is room again, it catches up, and all is well."""
    kept = Kept(tmp_path, Recording(required=required), copied=True)
    await kept.recorder.begin()
    assert (kept.recorder.note, kept.recorder.refusal) == (None, None)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_room)
        for _ in range(3):
            await kept.decide()
            await kept.recorder.tick()
        assert "No space left on device" in kept.recorder.note
        assert kept.recorder.refusal == (kept.recorder.note if required else None)
        assert kept.metric("ivrguard_record_uncopied") == 1
    await kept.recorder.tick()
    assert (kept.recorder.note, kept.recorder.refusal) == (None, None)
    assert kept.metric("ivrguard_record_uncopied") == 0
    assert len(told(logged, "record_not_copied")) == 1
    (outcome,) = await verify([FileSource(kept.path)], kept.signer.public)
    assert outcome.found.end.seq == 3


async def test_a_server_whose_copy_is_required_does_not_begin_without_it(tmp_path):
    """Where it is not required, it begins, and says so."""
    (tmp_path / "copy.jsonl").mkdir()
    with pytest.raises(RecordFault, match="Is a directory"):
        await Kept(tmp_path, Recording(required=True), copied=True).recorder.begin()
    kept = Kept(tmp_path, copied=True)
    await kept.recorder.begin()
    assert "Is a directory" in kept.recorder.note


# ── archived ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_goes_unless_it_is_told(tmp_path):
    kept = Kept(tmp_path)
    await kept.decide(3)
    for _ in range(3):
        kept.clock.now_ms += 400 * DAY_MS
        await kept.recorder.tick()
    assert (await kept.store.entries())[0].seq == 1


async def test_what_is_old_is_archived_once_a_day(tmp_path, logged):
    """Twelve months, say; the archives and the store are the whole chain."""
    kept = Kept(tmp_path, Recording(keep_ms=365 * DAY_MS, archive=tmp_path))
    await kept.recorder.tick()
    for _ in range(3):
        await kept.decide(2)
        kept.clock.now_ms += 366 * DAY_MS
        await kept.recorder.tick()
        await kept.later(1)
    archives = sorted(tmp_path.glob("record-*.jsonl"))
    assert len(archives) == len(told(logged, "record_pruned")) == 3
    parts = [*map(FileSource, archives), StoreSource(kept.store)]
    outcomes = await verify(parts, kept.signer.public)
    assert [one.found.anchored for one in outcomes] == [True] * 4
    events = [(one.entry.event, dict(one.entry.detail).get("by")) for one in await kept.store.entries()]
    assert events[-1] == ("record_pruned", "ivrguard")


async def test_an_archive_that_cannot_be_made_loses_nothing(tmp_path, logged):
    """It is tried again the next day."""
    kept = Kept(tmp_path, Recording(keep_ms=365 * DAY_MS, archive=tmp_path / "nowhere"))
    await kept.decide(2)
    for _ in range(2):
        kept.clock.now_ms += 366 * DAY_MS
        await kept.recorder.tick()
        await kept.later(1)
    assert len(told(logged, "record_fault")) == 2
    assert len(await kept.store.entries()) == 2


# ── a whole server ───────────────────────────────────────────────────────────────────────────────────────


async def test_while_nothing_can_be_recorded_nobody_is_let_through(start, bank_flow, tmp_path, monkeypatch):
    """The caller hears an apology, a desk gets no receipt, no new call is wanted; afterwards all is as before."""
    copy = tmp_path / "copy.jsonl"
    extra = {"copy": copy, "recording": Recording(required=True)}
    async with start(bank_flow, extra=extra) as rig:
        key = await rig.desk("ann", "*")
        await rig.server.recorder.tick()
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", no_room)
            await rig.desk("bob", "*")
            await rig.server.recorder.tick()
            line = rig.call()
            await line.until_input()
            assert any(isinstance(event, HungUp) for event in line.heard)
            assert not any("account number" in event.text for event in line.heard if isinstance(event, Said))
            status, _ = await rig.redeem(key, "0" * 26)
            assert status == 503
            async with aiohttp.ClientSession() as session, session.get(f"{rig.ops_url}/readyz") as answer:
                assert answer.status == 503
                assert "No space left" in (await answer.json())["why"]
        await rig.server.recorder.tick()
        line = rig.call()
        assert await line.until_input() is not None
        async with aiohttp.ClientSession() as session, session.get(f"{rig.ops_url}/readyz") as answer:
            assert answer.status == 200


async def test_a_server_signs_copies_and_says_so(start, bank_flow, tmp_path):
    """From its start to its end; and a broken record is a note in /readyz, for calls go on."""
    copy = tmp_path / "copy.jsonl"
    async with start(bank_flow, extra={"copy": copy}) as rig:
        await rig.desk("ann", "*")
        rig.server.recorder._broken = "the record is broken at entry 7"
        async with aiohttp.ClientSession() as session, session.get(f"{rig.ops_url}/readyz") as answer:
            assert (answer.status, (await answer.json())["note"]) == (200, "the record is broken at entry 7")
        public = rig.keyring.public
    (outcome,) = await verify([FileSource(copy)], public)
    assert outcome.found.met >= 1
