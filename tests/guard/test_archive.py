"""What leaves the store: pieces without a gap, copies that grow, archives behind which a record begins; on each store."""

import json
from pathlib import Path

import pytest

from ivrguard.core.audit import Broken, Entry
from ivrguard.core.errors import RecordFault, StoreFault
from ivrguard.exports import files, jsonl, ocsf
from ivrguard.exports.files import Copy
from ivrguard.guard import archive, verification
from ivrguard.guard.archive import Follower, exported, prune, signed_of
from ivrguard.guard.record import BEGINS, Signer, begins
from ivrguard.guard.verification import Bound, FileSource, StoreSource, Verified, verify
from ivrguard.keyring import Keyring, PublicKeys
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

AT_MS = 1_795_000_000_000
NOW_MS = AT_MS + 10**9


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    opened = (
        MemoryStore()
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "guard.db", migrate=True)
    )
    yield opened
    await opened.close()


@pytest.fixture
def signer(store, keys: Keyring) -> Signer:
    return Signer(store, keys, keys.public, "https://guard.example")


async def decide(store, *seconds):
    """Decisions on record, so many seconds after the beginning."""
    entries = tuple(
        Entry(AT_MS + second * 1000, "authn_login_fail", reason=str(second)) for second in seconds
    )
    await store.amend([], lambda _: Change(None, (), entries))


async def lines_of(store, public=None, **how):
    """Each line that is exported, as JSON."""
    pieces = exported(store, public or PublicKeys({}), **how)
    return [json.loads(line) async for piece in pieces for line in piece.lines.splitlines()]


async def numbers(store, **how):
    return [line["entry"]["seq"] for line in await lines_of(store, **how)]


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, range(1, 11)),
        (Bound(seq=4), None, range(4, 11)),
        (Bound(seq=0), Bound(seq=3), range(1, 4)),
        (Bound(seq=4), Bound(seq=4), [4]),
        (Bound(seq=11), None, []),
        (Bound(seq=99), None, []),
        (None, Bound(seq=0), []),
        (Bound(at_ms=AT_MS + 3_000), None, range(4, 11)),
        (Bound(at_ms=AT_MS + 3_001), Bound(at_ms=AT_MS + 6_000), range(5, 7)),
        (Bound(at_ms=AT_MS - 1), Bound(at_ms=AT_MS + 500), [1]),
        (Bound(at_ms=AT_MS + 99_000), None, []),
        (Bound(seq=3), Bound(at_ms=AT_MS), []),
    ],
)
async def test_a_piece_is_from_somewhere_up_to_somewhere(store, monkeypatch, since, until, expected):
    """By number, both ends in it; by time, from its first entry on, up to before its first entry."""
    monkeypatch.setattr(verification, "ENTRIES_A_PAGE", 3)
    await decide(store, *range(10))
    assert await numbers(store, since=since, until=until) == [*expected]


async def test_clocks_that_differ_leave_no_gap(store):
    """An entry of an earlier time that was chained later stays in its place."""
    await decide(store, 0, 1, 2, 5, 3, 4, 6)
    assert await numbers(store, until=Bound(at_ms=AT_MS + 5_000)) == [1, 2, 3]
    assert await numbers(store, since=Bound(at_ms=AT_MS + 6_000)) == [7]
    assert await numbers(store, since=Bound(at_ms=AT_MS + 2_000)) == [3, 4, 5, 6, 7]


async def test_each_line_has_the_hash_before_it_and_checkpoints_stand_behind_their_entries(store, signer):
    await decide(store, 1, 2)
    await signer.checkpoint(NOW_MS)
    await decide(store, 3)
    first, second, checkpoint, third = await lines_of(store, signed=await signed_of(store, signer.public))
    assert [second["previous_hash"], third["previous_hash"]] == [first["hash"], second["hash"]]
    assert (checkpoint["event"], checkpoint["hash"]) == ("record_checkpoint", second["hash"])
    assert {one["chain"] for one in (first, second, checkpoint, third)} == {first["hash"][:16]}
    assert await signed_of(store, PublicKeys({})) == {}


async def test_an_empty_record_has_no_line(store):
    assert await lines_of(store, since=Bound(at_ms=0)) == []


async def test_the_other_format_has_the_same_entries(store):
    await decide(store, *range(5))
    events = await lines_of(store, render=ocsf.entry_line, since=Bound(seq=2))
    assert [one["metadata"]["sequence"] for one in events] == [2, 3, 4, 5]


# ── a copy that grows ────────────────────────────────────────────────────────────────────────────────────


def follower(store, keys, path, render=jsonl.entry_line):
    return Follower(store, keys.public, Copy(path), render)


async def test_a_copy_gets_everything_once(store, keys, signer, tmp_path):
    """What was there before, what came since, the checkpoints; over restarts. It is verified by itself."""
    path = tmp_path / "copy"
    one = follower(store, keys, path)
    assert await one.catch_up() == 0
    await decide(store, *range(5))
    assert [await one.catch_up(), await one.catch_up()] == [5, 0]
    await decide(store, 5)
    signed = await signer.checkpoint(NOW_MS)
    await one.catch_up()
    await one.add(signed)
    one.close()
    await decide(store, 6, 7)
    again = follower(store, keys, path)
    await again.add(signed)  # before it is open: a server that is only just starting
    assert await again.catch_up() == 2
    again.close()
    (outcome,) = await verify([FileSource(path)], keys.public)
    assert (outcome.found.end.seq, outcome.found.met) == (8, 1)


async def test_a_copy_in_the_other_format_goes_on_where_it_was(store, keys, tmp_path):
    await decide(store, 1, 2)
    for count in (2, 1):
        one = follower(store, keys, tmp_path / "copy", ocsf.entry_line)
        assert await one.catch_up() == count
        one.close()
        await decide(store, 3)
    assert len((tmp_path / "copy").read_bytes().splitlines()) == 3


async def test_what_is_no_file_gets_what_comes_from_now_on(store, keys, tmp_path, monkeypatch):
    """The platform's log: nobody can say how far it got before."""
    await decide(store, 1, 2)
    copy = Copy(Path("/dev/null"))
    one = Follower(store, keys.public, copy, jsonl.entry_line)
    written = []
    monkeypatch.setattr(copy, "append", written.append)
    assert await one.catch_up() == 0
    await decide(store, 3)
    assert await one.catch_up() == 1
    assert [json.loads(line)["entry"]["seq"] for line in written] == [3]
    one.close()


async def test_a_copy_that_failed_goes_on_where_it_got(store, keys, tmp_path, monkeypatch):
    """Nothing is missing and nothing is doubled, however much of it was written."""
    path = tmp_path / "copy"
    one = follower(store, keys, path)
    await decide(store, 1, 2)
    await one.catch_up()
    await decide(store, 3, 4)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_room)
        with pytest.raises(RecordFault, match="No space left"):
            await one.catch_up()
    await one.catch_up()
    one.close()
    (outcome,) = await verify([FileSource(path)], keys.public)
    assert outcome.found.end.seq == 4


def no_room(*_):
    raise OSError(28, "No space left on device")


async def test_a_copy_of_another_record_is_left_alone(store, keys, tmp_path):
    """A store that was lost and begun anew; a wrong name. Nothing is appended to it."""
    other = MemoryStore()
    await decide(other, 1, 2)
    one = follower(other, keys, tmp_path / "copy")
    await one.catch_up()
    one.close()
    before = (tmp_path / "copy").read_bytes()
    for _ in range(2):
        with pytest.raises(RecordFault, match="the copy of another record"):
            await follower(store, keys, tmp_path / "copy").catch_up()
        await decide(store, 7)
    assert (tmp_path / "copy").read_bytes() == before


# ── what may go ──────────────────────────────────────────────────────────────────────────────────────────


async def pruned(signer, path, before_s, **how):
    return await prune(signer, AT_MS + before_s * 1000, path, now_ms=NOW_MS, by="ann", **how)


async def test_old_entries_go_into_an_archive_and_out_of_the_store(store, signer, tmp_path):
    """What is left begins behind a signed checkpoint; who did it is on record; together they are the whole chain."""
    await decide(store, *range(6))
    await signer.checkpoint(AT_MS)
    await decide(store, *range(6, 10))
    told = []
    done = await pruned(signer, tmp_path / "old.jsonl", 8, tell=lambda seq, of: told.append((seq, of)))
    assert (done.upto, done.count, told) == (8, 8, [(8, 10)])
    assert [one.seq for one in await store.entries()] == [9, 10, 11]
    entry = (await store.entries())[-1].entry
    assert (entry.event, entry.reason, entry.at_ms) == ("record_pruned", "archived", NOW_MS)
    assert dict(entry.detail) == {"by": "ann", "upto": "8", "archive": "old.jsonl", "sha256": done.digest}
    assert [one.id for one in await store.list("checkpoint")] == ["begins"]
    await signer.checkpoint(NOW_MS)
    outcomes = await verify([FileSource(tmp_path / "old.jsonl"), StoreSource(store)], signer.public)
    assert [(one.found.start.seq, one.found.end.seq, one.found.anchored) for one in outcomes] == [
        (0, 8, True),
        (8, 11, True),
    ]
    assert outcomes[0].found.met == 2  # one from before, and the one behind which the record begins
    alone = (await verify([StoreSource(store)], signer.public))[0].found
    assert (alone.start.seq, alone.end.seq) == (8, 11)


async def test_pruning_goes_on_where_it_ended(store, signer, tmp_path):
    """Year after year; when nothing is old enough, nothing happens, and no file is left."""
    await decide(store, *range(10))
    assert (await pruned(signer, tmp_path / "1.jsonl", 3)).count == 3
    assert (await pruned(signer, tmp_path / "2.jsonl", 7)).count == 4
    assert await pruned(signer, tmp_path / "3.jsonl", 7) is None
    assert not (tmp_path / "3.jsonl").exists()
    parts = [FileSource(tmp_path / f"{number}.jsonl") for number in (1, 2)]
    outcomes = await verify([*parts, StoreSource(store)], signer.public)
    assert [(one.found.start.seq, one.found.end.seq) for one in outcomes] == [(0, 3), (3, 7), (7, 12)]
    assert (await begins(store, signer.public)).seq == 7


async def test_everything_may_be_old(store, signer, tmp_path):
    """Then the record begins with the entry of the pruning."""
    await decide(store, *range(3))
    assert (await pruned(signer, tmp_path / "all.jsonl", 10**6)).count == 3
    assert [one.entry.event for one in await store.entries()] == ["record_pruned"]
    assert await pruned(signer, tmp_path / "none.jsonl", 0) is None


async def test_a_front_that_was_cut_off_without_a_pruning_is_found(store, signer):
    """Though a checkpoint is kept for the very place."""
    await decide(store, *range(3))
    await signer.checkpoint(NOW_MS)
    await decide(store, *range(3))
    await store.prune(3)
    outcomes = await verify([StoreSource(store)], signer.public)
    assert outcomes[0].found == Broken(1, "entry 1 is missing; the next one found is 4")


async def edit(store, seq):
    """Change an entry so that its hash does not fit any more."""
    if isinstance(store, MemoryStore):
        data, _ = store._entries[seq - 1]
        store._entries[seq - 1] = data, "0" * 64
    else:
        store._writer.execute("UPDATE audit SET hash = printf('%064d', 0) WHERE seq = ?", (seq,))


async def test_a_record_that_is_broken_is_not_pruned(store, signer, tmp_path):
    """Nothing is taken out of what is evidence, and no archive of it is left."""
    await decide(store, *range(6))
    await edit(store, 2)
    with pytest.raises(RecordFault, match="broken at entry 2"):
        await pruned(signer, tmp_path / "old.jsonl", 4)
    assert len(await store.entries()) == 6
    assert [path.name for path in tmp_path.iterdir() if "jsonl" in path.name] == []


async def test_nothing_goes_when_the_archive_cannot_be_made(store, signer, tmp_path, monkeypatch):
    """A name that is taken; a disk that fills up; a disk that loses what it was given."""
    await decide(store, *range(6))
    (tmp_path / "taken").write_text("another's")
    with pytest.raises(RecordFault, match="there is such a file already"):
        await pruned(signer, tmp_path / "taken", 4)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_room)
        with pytest.raises(RecordFault, match="No space left"):
            await pruned(signer, tmp_path / "full", 4)
    write = files.Archive.write
    with monkeypatch.context() as patch:
        patch.setattr(files.Archive, "write", lambda self, data: write(self, data[: data.index(b"\n") + 1]))
        with pytest.raises(RecordFault, match="is not what was written: is the disk failing"):
            await pruned(signer, tmp_path / "lossy", 4)
    assert len(await store.entries()) == 6
    assert await store.read(BEGINS) is None


async def test_two_that_prune_at_once_are_one(store, signer, tmp_path, monkeypatch):
    """The second finds that the beginning has moved, and takes nothing out."""
    await decide(store, *range(6))
    finish = files.Archive.finish

    async def other():
        monkeypatch.setattr(files.Archive, "finish", finish)
        await pruned(signer, tmp_path / "other.jsonl", 5)

    amend = store.amend

    async def late(keys, change):
        if BEGINS in keys:
            monkeypatch.setattr(store, "amend", amend)
            await other()
        return await amend(keys, change)

    monkeypatch.setattr(store, "amend", late)
    with pytest.raises(RecordFault, match="another process pruned the record meanwhile"):
        await pruned(signer, tmp_path / "first.jsonl", 3)
    assert [one.seq for one in await store.entries()] == [6, 7]


async def test_what_a_crash_left_goes_the_next_time(store, signer, tmp_path, monkeypatch):
    """The beginning has moved, the entries before it are still there: they are no part of the record any more."""
    await decide(store, *range(6))
    await signer.checkpoint(AT_MS)
    await decide(store, *range(6, 9))

    class Crash(BaseException):
        pass

    async def crash(*_, **__):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(store, "prune", crash)
        with pytest.raises(Crash):
            await pruned(signer, tmp_path / "old.jsonl", 7)
    assert len(await store.entries()) == 10
    (outcome,) = await verify([StoreSource(store)], signer.public)
    assert (outcome.found.start.seq, outcome.found.end.seq) == (7, 10)
    assert await pruned(signer, tmp_path / "more.jsonl", 7) is None
    assert [one.seq for one in await store.entries()] == [8, 9, 10]
    assert [one.id for one in await store.list("checkpoint")] == ["begins"]


async def test_many_checkpoints_go_with_their_entries(store, signer, tmp_path, monkeypatch):
    """In pieces, and those of later entries stay."""
    for second in range(6):
        await decide(store, second)
        await signer.checkpoint(AT_MS + second * 1000)
    listed = store.list

    async def short(kind, **how):
        return await listed(kind, **{**how, "limit": 2})

    monkeypatch.setattr(store, "list", short)
    await pruned(signer, tmp_path / "old.jsonl", 4)
    monkeypatch.undo()
    assert [one.id for one in await store.list("checkpoint")] == [f"{5:020d}", f"{6:020d}", "begins"]
    found = (await verify([StoreSource(store)], signer.public))[0].found
    assert isinstance(found, Verified)
    assert found.met == 3


async def test_a_beginning_that_was_forged_is_not_pruned_upon(store, signer, tmp_path):
    """Nor is anything else done with it."""
    await decide(store, *range(6))
    token = (await signer.checkpoint(NOW_MS)).token
    forged = token[:-10] + "AAAAAAAAAA"
    await store.amend([BEGINS], lambda _: Change(None, (Put(BEGINS, forged),)))
    with pytest.raises(RecordFault, match="does not hold"):
        await pruned(signer, tmp_path / "old.jsonl", 4)
    assert len(await store.entries()) == 6


async def test_a_store_that_fails_loses_nothing(store, signer, tmp_path, monkeypatch):
    """The archive is there, and so is the record."""
    await decide(store, *range(6))

    async def down(*_):
        raise StoreFault("down")

    with monkeypatch.context() as patch:
        patch.setattr(store, "amend", down)
        with pytest.raises(StoreFault):
            await pruned(signer, tmp_path / "old.jsonl", 4)
    assert len(await store.entries()) == 6
    assert archive.FileSource(tmp_path / "old.jsonl").what.endswith("old.jsonl")


def test_the_key_of_the_beginning_is_no_checkpoints_number():
    """It is never taken for one that goes."""
    assert Key("checkpoint", "begins") == BEGINS
    assert not BEGINS.id.startswith("0")
