"""What is the SQLite store's own: one disk sync for many amendments, the file's care, and every way it can fail."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from ivrguard.core.audit import GENESIS, Broken, Entry, verify
from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import codec, sqlite
from ivrguard.stores.sqlite import AMENDMENTS_PER_COMMIT_MAX, MIGRATIONS, QUEUE_MAX, SqliteStore, migrate

ROOT = Path(__file__).parents[2]
A, B = Key("ledger", "acct-a"), Key("ledger", "acct-b")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "guard.db"


@asynccontextmanager
async def opened(path, **options):
    store = await SqliteStore.open(path, **{"migrate": True, **options})
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def by_hand(path):
    """The file, as another program sees it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def counting(key, reason="counted"):
    def change(values):
        run = (values[key] or Ledger()).run + 1
        return Change(run, (Put(key, Ledger(run=run)),), (Entry(1, "authn_login_fail", reason=reason),))

    return change


def padding(size):
    """A change that keeps a value of about so many bytes under a key of its own."""
    key = Key("number", f"x{size}")
    return [key], lambda _values: Change(None, (Put(key, ("x" * size,)),))


class Gate:
    """An amendment that keeps the writer busy until the gate is opened, so that what comes after it has to queue."""

    def __init__(self):
        self.reached = threading.Event()
        self.opened = threading.Event()

    def change(self, _values):
        self.reached.set()
        assert self.opened.wait(30)
        return Change(None)

    async def close(self, store):
        """Have the writer stand at the gate."""
        self.waiting = asyncio.ensure_future(store.amend([], self.change))
        await asyncio.to_thread(self.reached.wait, 30)


async def queued(*calls):
    """Calls that were started, and wait."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)  # each runs up to where it waits
    return tasks


def watched(store):
    """The statements that the writer runs from now on."""
    statements = []
    store._writer.set_trace_callback(statements.append)
    return statements


async def record_holds(store):
    return verify(await store.entries(limit=10**6), head=await store.head())


# ── law 1 and 2: on disk, and many with one sync ─────────────────────────────────────────────────────────


async def test_the_settings_that_survive_a_power_cut(path):
    """Law 1: `synchronous` 2 is FULL: the log is synced after each transaction."""
    async with opened(path) as store:
        for pragma, expected in {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}.items():
            assert store._writer.execute(f"PRAGMA {pragma}").fetchone() == (expected,)


async def test_what_queued_up_is_committed_together(path):
    """Law 2: 130 amendments that wait are three commits, of 64 at most; one that does not wait is one."""
    gate = Gate()
    async with opened(path) as store:
        statements = watched(store)
        await gate.close(store)
        tasks = await queued(*(store.amend([A], counting(A)) for _ in range(130)))
        gate.opened.set()
        assert list(range(1, 131)) == await asyncio.gather(*tasks)
        assert 2 * AMENDMENTS_PER_COMMIT_MAX + 2 >= 130
        assert statements.count("COMMIT") == 1 + 3
        await store.amend([A], counting(A))
        assert statements.count("COMMIT") == 1 + 3 + 1


async def test_sixty_four_at_once_need_fewer_commits_than_amendments(path):
    """Law 2, without a gate: what comes while the disk works is taken together the next time."""
    async with opened(path) as store:
        statements = watched(store)
        await asyncio.gather(*(store.amend([A], counting(A)) for _ in range(64)))
        assert statements.count("COMMIT") < 64
        assert await record_holds(store) == 64


async def test_a_value_amended_often_in_a_transaction_is_written_once(path):
    """Law 2: what comes before in a transaction is seen without being written and read back."""
    gate = Gate()
    async with opened(path) as store:
        statements = watched(store)
        await gate.close(store)
        tasks = await queued(*(store.amend([A], counting(A)) for _ in range(40)))
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert [
            sum(word in statement for statement in statements)
            for word in ("SELECT data FROM value", "INSERT INTO value", "INSERT INTO audit")
        ] == [1, 1, 40]


async def test_in_a_transaction_each_sees_the_ones_before_it(path):
    """Law 2: values put, deleted and swept, whether they were in the file before or not."""
    gate = Gate()

    def look(values):
        return Change([None if value is None else value.run for value in values.values()])

    async with opened(path) as store:
        await store.amend([A], counting(A))
        await gate.close(store)
        tasks = await queued(
            store.amend([A, B], counting(B)),
            store.amend([A, B], look),
            store.amend([A], lambda _: Change(None, (Put(A, None),))),
            store.amend([A, B], look),
            store.amend([A], counting(A)),
            store.amend([B], lambda values: Change(None, (Put(B, values[B], expires_ms=1),))),
            store.sweep(2),
            store.amend([A, B], look),
        )
        gate.opened.set()
        assert await asyncio.gather(*tasks) == [1, [1, 1], None, [None, 1], 1, None, 1, [1, None]]
        assert [Ledger(run=1), None] == [await store.read(key) for key in (A, B)]


async def test_in_a_transaction_one_that_raises_fails_alone(path):
    """Law 3: the ones beside it are committed, and it has left no trace, in values or in the record."""
    gate = Gate()
    error = LookupError("no such flow")

    def refused(_values):
        raise error

    async with opened(path) as store:
        await gate.close(store)
        tasks = await queued(
            store.amend([A], counting(A, "first")),
            store.amend([A], refused),
            store.amend([A], lambda _: Change(None, (Put(A, ("no ledger",)),), (Entry(1, "lost"),))),
            store.amend([A], counting(A, "second")),
        )
        gate.opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [1, error, 2] == [outcomes[0], outcomes[1], outcomes[3]]
        assert isinstance(outcomes[2], StoreFault)
        assert [linked.entry.reason for linked in await store.entries()] == ["first", "second"]
        assert await record_holds(store) == 2


async def test_a_change_that_exits_does_not_take_the_writer_along(path):
    """Law 3: not even SystemExit; it comes out where it was asked for."""

    def leaving(_values):
        raise SystemExit(3)

    async def amend_leaving():
        with pytest.raises(SystemExit):
            await store.amend([A], leaving)

    async with opened(path) as store:
        await amend_leaving()
        assert await store.amend([A], counting(A)) == 1


async def test_a_file_that_fails_fails_the_whole_transaction(path):
    """Law 3: those that were worked out already, too: their results rest on what was rolled back."""
    gate = Gate()
    async with opened(path) as store:
        store._writer.execute("PRAGMA max_page_count = 1")  # not below what the file has now: it is full
        await gate.close(store)
        tasks = await queued(
            store.amend([A], counting(A)), store.amend(*padding(500_000)), store.amend([A], counting(A))
        )
        gate.opened.set()
        outcomes = await asyncio.gather(gate.waiting, *tasks, return_exceptions=True)
        assert outcomes[0] is None
        for outcome in outcomes[1:]:
            assert isinstance(outcome, StoreFault)
            assert f"{path}: the disk is full: make room (OperationalError: database or disk is full)" == str(
                outcome
            )
        assert await store.read(A) is None
        assert await store.head() == (0, GENESIS)
        assert await store.amend([A], counting(A)) == 1  # what has room is kept


async def test_a_bug_of_ours_in_the_writer_leaves_nobody_waiting(path, monkeypatch):
    """Whatever happens while a transaction is written: each caller hears of it, and the writer goes on."""

    def broken(_linked):
        raise RuntimeError("s3cr3t")

    async with opened(path) as store:
        with monkeypatch.context() as planted:
            planted.setattr(codec, "encode_entry", broken)
            with pytest.raises(
                StoreFault, match=r"a fault in ivrguard itself: please report it \(RuntimeError\)$"
            ):
                await store.amend([A], counting(A))
        assert await store.read(A) is None
        assert await store.amend([A], counting(A)) == 1


# ── who waits, who does not any more, and how many may ───────────────────────────────────────────────────


async def test_beyond_its_queue_it_is_busy(path):
    """QUEUE_MAX amendments wait for the disk; one more hears so at once, and nothing has changed for it."""
    gate = Gate()
    async with opened(path) as store:
        await gate.close(store)
        tasks = await queued(*(store.amend([A], counting(A)) for _ in range(QUEUE_MAX - 1)))
        with pytest.raises(StoreFault, match=r"busy: 1024 amendments wait for the disk$"):
            await store.amend([A], counting(A))
        assert await store.read(A) is None  # reading goes on meanwhile
        gate.opened.set()
        assert list(range(1, QUEUE_MAX)) == await asyncio.gather(*tasks)
        assert await store.amend([A], counting(A)) == QUEUE_MAX


async def test_a_caller_who_is_cancelled_is_amended_for_all_the_same(path):
    """What was asked for happens; those beside it get their answers."""
    gate = Gate()
    async with opened(path) as store:
        await gate.close(store)
        tasks = await queued(*(store.amend([A], counting(A)) for _ in range(3)))
        tasks[1].cancel()
        gate.opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [outcomes[0], outcomes[2]] == [1, 3]
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert await store.read(A) == Ledger(run=3)


async def test_the_keys_are_those_at_the_time_of_asking(path):
    """What the caller does with his list afterwards does not matter."""
    gate = Gate()
    keys = [A]
    async with opened(path) as store:
        await gate.close(store)
        tasks = await queued(store.amend(keys, counting(A)))
        keys.clear()
        gate.opened.set()
        assert await asyncio.gather(*tasks) == [1]


async def test_closing_finishes_what_was_asked_for(path):
    """What waits is committed and answered; what comes after `close` was called is refused."""
    gate = Gate()
    store = await SqliteStore.open(path, migrate=True)
    await gate.close(store)
    tasks = await queued(*(store.amend([A], counting(A)) for _ in range(100)))
    closings = await queued(store.close(), store.close())
    with pytest.raises(StoreFault, match=r"the store is closed$"):
        await store.amend([A], counting(A))
    gate.opened.set()
    assert list(range(1, 101)) == await asyncio.gather(*tasks)
    await asyncio.gather(*closings)
    assert not store._thread.is_alive()
    assert [path] == list(path.parent.iterdir())  # the log went into the file
    async with opened(path, migrate=False) as again:
        assert await again.read(A) == Ledger(run=100)


async def test_closing_leaves_one_file_even_after_reads(path):
    """A copy of the file alone, taken after the end, has everything: no log is left beside it."""
    async with opened(path) as store:
        await store.amend([A], counting(A))
        assert await store.read(A) == Ledger(run=1)
        await store.amend([A], counting(A))
    assert [path] == list(path.parent.iterdir())


async def test_closing_that_is_cancelled_can_be_done_again(path):
    """The writer goes on to its end all the same."""
    gate = Gate()
    store = await SqliteStore.open(path, migrate=True)
    await gate.close(store)
    (closing_,) = await queued(store.close())
    closing_.cancel()
    gate.opened.set()
    await store.close()
    assert await asyncio.gather(gate.waiting) == [None]


def test_an_event_loop_that_goes_away_does_not_stop_the_writer(path):
    """Who waited is gone; what was asked for is committed, and the thread ends when told."""
    gate = Gate()
    kept = []

    async def leave():
        store = await SqliteStore.open(path, migrate=True)
        await gate.close(store)
        await queued(store.amend([A], counting(A)))
        kept.append(store)

    asyncio.run(leave())
    gate.opened.set()
    (store,) = kept
    store._jobs.put(None)
    store._thread.join(30)
    store._reader.close()
    with by_hand(path) as connection:
        assert connection.execute("SELECT seq FROM head").fetchone() == (1,)


# ── law 4: other processes, and crashes ──────────────────────────────────────────────────────────────────

CHILD = """
import asyncio, sys
from pathlib import Path
from ivrguard.core.audit import Entry
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.sqlite import SqliteStore

KEY = Key("ledger", "acct-a")

async def main(path, name, times):
    store = await SqliteStore.open(Path(path), migrate=True)
    left = iter(range(times))
    print("ready", flush=True)
    sys.stdin.readline()

    async def caller():
        for number in left:
            def change(values):
                run = (values[KEY] or Ledger()).run + 1
                entry = Entry(1, "authn_login_fail", reason=f"{name} {number}")
                return Change(run, (Put(KEY, Ledger(run=run)),), (entry,))
            await store.amend([KEY], change)
            print(name, number, flush=True)

    await asyncio.gather(*(caller() for _ in range(8)))
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@contextmanager
def child(path, name, times=10**9):
    """Another process that amends the file from when it is told to, and says what was acknowledged to it."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), name, str(times)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def start(*processes):
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


async def test_killed_in_the_midst_it_has_all_that_it_acknowledged(path):
    """Law 1, twice over on one file: every acknowledged amendment is there, whole, and the chain holds."""
    told = []
    for name, lines in (("first", 150), ("second", 61)):
        with child(path, name) as process:
            start(process)
            told += [process.stdout.readline() for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            told += process.stdout.readlines()  # what it still had said
    whole = {line.strip() for line in told if line.endswith("\n")}
    assert len(whole) >= 211
    async with opened(path, migrate=False) as store:
        chain = await store.entries(limit=10**6)
        assert whole <= {linked.entry.reason for linked in chain}
        assert await record_holds(store) == len(chain)
        assert await store.read(A) == Ledger(run=len(chain))


async def test_two_processes_amend_one_file_at_once(path):
    """Law 4: no update is lost, and the two weave one chain."""
    with child(path, "one", 150) as one, child(path, "two", 150) as two:
        start(one, two)
        said = {line.strip() for process in (one, two) for line in process.stdout}
        assert [process.wait(30) for process in (one, two)] == [0, 0]
    async with opened(path, migrate=False) as store:
        assert said == {linked.entry.reason for linked in await store.entries()}
        assert await record_holds(store) == 300
        assert await store.read(A) == Ledger(run=300)


async def test_two_stores_see_each_other(path):
    """Law 4: what one has acknowledged, the other reads, amends on and puts on record behind."""
    async with opened(path) as here, opened(path) as there:
        for run in range(1, 9):
            store, other = (here, there) if run % 2 else (there, here)
            assert await store.amend([A], counting(A)) == run
            assert await other.read(A) == Ledger(run=run)
            assert await other.head() == await store.head()
        assert await record_holds(here) == 8


async def test_a_file_that_another_process_keeps_locked(path):
    """The writer waits `busy_s`, then says what to do; reads do not wait at all. Unlocked, it goes on."""
    async with opened(path, busy_s=0.05) as store:
        await store.amend([A], counting(A))
        with by_hand(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreFault, match="another process keeps it locked: find and stop that one"):
                await store.amend([A], counting(A))
            assert await store.read(A) == Ledger(run=1)
            assert [A.id] == [one.id for one in await store.list("ledger")]
            other.execute("ROLLBACK")
        assert await store.amend([A], counting(A)) == 2


# ── law 5: reading ───────────────────────────────────────────────────────────────────────────────────────

PLANS = {
    "READ": (sqlite.READ, ("k", "i"), ["PRIMARY KEY (kind=? AND id=?)"]),
    "DELETE": (sqlite.DELETE, ("k", "i"), ["PRIMARY KEY (kind=? AND id=?)"]),
    "LIST": (sqlite.LIST, ("k", "i", "", 9), ["PRIMARY KEY (kind=? AND id>?)"]),
    "LIST_BY_RANK": (sqlite.LIST_BY_RANK, ("k", 1, 9), ["INDEX value_rank (kind=? AND rank>?)"]),
    "ENTRIES": (sqlite.ENTRIES, (1, 9), ["INTEGER PRIMARY KEY (rowid>?)"]),
    "SWEEP": (
        sqlite.SWEEP,
        (1, 9),
        ["PRIMARY KEY (kind=? AND id=?)", "COVERING INDEX value_expires (expires_ms<?)"],
    ),
}


@pytest.mark.parametrize("statement", PLANS)
def test_no_statement_scans(path, statement):
    """Each goes down an index to what it is after, and none scans or sorts: SQLite's own plan says so."""
    text, parameters, expected = PLANS[statement]
    migrate(path)
    with by_hand(path) as connection:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
    searches = [step for step in plan if step.startswith("SEARCH")]
    assert expected == [step.partition(" USING ")[2] for step in searches]
    assert not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step]


async def test_the_reader_cannot_write(path):
    """Law 5: by the connection itself, not by good will."""
    async with opened(path) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store._reader.execute("DELETE FROM audit")


async def test_a_read_leaves_no_transaction_open(path):
    """Law 5: else the reader would go on seeing the file as it was, and the log could never be cleared."""
    async with opened(path) as store:
        await store.amend([A], counting(A))
        await store.read(A)
        await store.head()
        await store.read(B)
        busy, *_ = store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0


# ── law 6: the file ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_file_is_private_to_its_user(path):
    """Law 6: whatever the umask; the log beside it, too."""
    before = os.umask(0)
    try:
        async with opened(path) as store:
            await store.amend([A], counting(A))
            files = sorted(path.parent.iterdir())
            assert [file.name for file in files] == ["guard.db", "guard.db-shm", "guard.db-wal"]
            assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    finally:
        os.umask(before)


async def test_any_path_is_a_path(tmp_path, monkeypatch):
    """Characters that mean something in SQLite's URIs do not here; a relative path stays where it was."""
    monkeypatch.chdir(tmp_path)
    async with opened(Path("a?mode=memory#x%41 b.db")) as store:
        monkeypatch.chdir("/")
        await store.amend([A], counting(A))
        assert [A.id] == [one.id for one in await store.list("ledger")]
    assert [file.name for file in tmp_path.iterdir()] == ["a?mode=memory#x%41 b.db"]


def test_migrating_is_harmless_again(path):
    """The file has this program's version, and stays byte for byte what it is."""
    assert migrate(path) == len(MIGRATIONS)
    before = path.read_bytes()
    assert migrate(path) == len(MIGRATIONS)
    assert before == path.read_bytes()
    with by_hand(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x49565247,)
        assert connection.execute(sqlite.HEAD).fetchone() == (0, GENESIS)


def test_migrating_from_several_processes_at_once(path):
    """One makes the file, the others find it made, whoever is first."""
    script = "import sys; from pathlib import Path; from ivrguard.stores.sqlite import migrate; sys.stdin.readline(); print(migrate(Path(sys.argv[1])))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [(f"{len(MIGRATIONS)}\n", None)] * 3 == [process.communicate(timeout=30) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3


def test_migrating_from_many_threads_at_once(path):
    """The same with less between them, so that they do meet."""
    versions = []
    threads = [threading.Thread(target=lambda: versions.append(migrate(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(MIGRATIONS)] * 8 == versions


async def test_a_file_of_an_older_version_is_brought_up_and_keeps_what_it_has(path, monkeypatch):
    """Forward by the statements that it lacks, in one transaction; not opened as it is; all or nothing."""
    async with opened(path) as store:
        await store.amend([A], counting(A))
    monkeypatch.setattr(
        sqlite, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE next (id TEXT)", "CREATE nonsense"))
    )
    with pytest.raises(StoreFault, match="this ivrguard wants 2: `ivrguard migrate` brings it there"):
        await SqliteStore.open(path)
    with pytest.raises(StoreFault, match="not foreseen"):
        migrate(path)
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE next (id TEXT)",)))
    async with opened(path) as store:
        assert await store.read(A) == Ledger(run=1)
        assert store._writer.execute("SELECT count(*) FROM next").fetchone() == (0,)


async def test_an_empty_file_that_somebody_made_is_used(path):
    """An operator may make it with the rights that he wants."""
    path.touch(mode=0o640)
    async with opened(path) as store:
        await store.amend([A], counting(A))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_file_of_a_newer_version_is_refused(path):
    """It may mean by its rows what this program does not know; the fault says what to install."""
    migrate(path)
    with by_hand(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    for attempt in (True, False):
        with pytest.raises(
            StoreFault, match="it is of version 2, and this ivrguard knows 1 at most: install the newer"
        ):
            await SqliteStore.open(path, migrate=attempt)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE customers (id TEXT)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"]
)
async def test_another_programs_file_is_refused_and_left_alone(path, statement):
    """A slip in a path does not put our tables, or our log, into somebody's database."""
    with by_hand(path) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    for attempt in (True, False):
        with pytest.raises(StoreFault, match="this database was made by another program: name another file"):
            await SqliteStore.open(path, migrate=attempt)
    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


async def test_a_file_that_is_not_there(path):
    """Without `migrate` nothing is made, least of all an empty guard that knows no lock."""
    with pytest.raises(
        StoreFault, match="there is no such file: put it back, or have `ivrguard migrate` make"
    ):
        await SqliteStore.open(path)
    assert list(path.parent.iterdir()) == []


async def test_an_empty_file_is_not_opened_without_migration(path):
    """It is of version 0."""
    path.touch()
    with pytest.raises(
        StoreFault, match="it is of version 0, and this ivrguard wants 1: `ivrguard migrate` brings"
    ):
        await SqliteStore.open(path)


async def test_a_directory_that_is_not_there(path):
    """It is named, and not made: a slip in a path is to be seen."""
    with pytest.raises(
        StoreFault, match=r"cannot be made: is its directory there, .* \(No such file or directory\)$"
    ):
        await SqliteStore.open(path / "guard.db", migrate=True)


@pytest.mark.parametrize("data", [b"GIF89a" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database(path, data):
    """It is left as it is."""
    path.write_bytes(data)
    for attempt in (True, False):
        with pytest.raises(
            StoreFault, match="it is no SQLite database, or damaged: restore it from a backup"
        ):
            await SqliteStore.open(path, migrate=attempt)
    assert data == path.read_bytes()


@contextmanager
def folder_that_others_may_enter():
    """A directory outside pytest's own, which only its user may enter."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def nobody():
    """Without the rights of root, if the tests have them: root may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


async def test_a_file_that_may_not_be_written():
    """Rights that do not do are named; opening, which must be able to write, says so at once."""
    with folder_that_others_may_enter() as folder:
        path = folder / "guard.db"
        migrate(path)
        path.chmod(0o444)
        folder.chmod(0o555)
        with nobody():
            with pytest.raises(
                StoreFault, match="it cannot be written to: look at the rights of the file and of its"
            ):
                async with opened(path, migrate=False) as store:
                    await store.amend([A], counting(A))
            with pytest.raises(StoreFault, match=r"cannot be made: .* \(Permission denied\)$"):
                await SqliteStore.open(folder / "new.db", migrate=True)
        path.chmod(0o600)
        folder.chmod(0o755)
        with nobody(), pytest.raises(StoreFault, match="cannot be opened"):
            await SqliteStore.open(path)


async def test_a_file_that_becomes_read_only(path):
    """What SQLite then says of the file is told with what to look at; reading goes on."""
    async with opened(path) as store:
        await store.amend([A], counting(A))
        store._writer.execute("PRAGMA query_only = ON")
        with pytest.raises(
            StoreFault, match="it cannot be written to: look at the rights of the file and of its"
        ):
            await store.amend([A], counting(A))
        assert await store.read(A) == Ledger(run=1)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_went_away_while_it_was_open(tmp_path, replaced):
    """Law 6: SQLite would go on writing into a file that has no name any more, and nobody would ever see it."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "guard.db"
    async with opened(path) as store:
        await store.amend([A], counting(A))
        shutil.rmtree(folder)
        says = "there is no such file: put it back"
        if replaced:
            folder.mkdir()
            migrate(path)
            says = "it is not the file that was opened any more: restart ivrguard"
        with pytest.raises(StoreFault, match=says):
            await store.amend([A], counting(A))
        if not replaced:
            with pytest.raises(StoreFault, match="it cannot be opened: is its directory there"):
                await store.list("ledger")


async def test_a_file_that_is_damaged_while_it_is_open(path):
    """Reads and amendments say so alike."""
    async with opened(path) as store:
        for size in range(3000, 3100):
            await store.amend(*padding(size))
        store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page_size = 4096
        with path.open("r+b") as file:
            file.seek(page_size)
            file.write(b"\xff" * (path.stat().st_size - page_size))
        async with opened(path, migrate=False) as again:  # with nothing in its cache
            for call in (
                again.read(Key("number", "x3050")),
                again.amend(*padding(3050)),
                again.list("number"),
                again.entries(),
                again.head(),
            ):
                with pytest.raises(StoreFault, match="it is damaged: stop every ivrguard and restore it"):
                    await call


async def test_going_over_to_the_log_waits_for_its_turn(path):
    """Somebody who writes to a file that has no log yet is waited for, up to `busy_s`."""
    path.touch()
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFault, match="another process keeps it locked"):
            migrate(path, busy_s=0.05)


def test_going_over_to_the_log_when_its_turn_comes(path, monkeypatch):
    """It tries again until then."""
    path.touch()
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite.time, "sleep", lambda _s: other.execute("ROLLBACK"))
        assert migrate(path) == len(MIGRATIONS)


def test_a_file_system_without_shared_memory_is_refused():
    """SQLite then answers with another journal, silently; here a database in memory does."""
    says = r"cannot keep a write-ahead log \(it says 'memory'\): put it on a local disk$"
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(StoreFault, match=says):
        sqlite._write_ahead(connection, 0)


# ── a record that was changed from outside ───────────────────────────────────────────────────────────────

TAMPERED = {
    "an entry edited": (
        "UPDATE audit SET data = replace(data, 'two', 'six') WHERE seq = 2",
        "entry 2 was changed",
    ),
    "an entry dropped": ("DELETE FROM audit WHERE seq = 3", "entry 3 is missing; the next one found is 4"),
    "the last one dropped": (
        "DELETE FROM audit WHERE seq = 5",
        "the record ends at 4, but 5 entries were written",
    ),
    "all dropped": ("DELETE FROM audit", "the record ends at 0, but 5 entries were written"),
    "one made up": (
        "INSERT INTO audit SELECT 6, replace(data, '\"seq\":5', '\"seq\":6'), hash FROM audit WHERE seq = 5",
        "entry 6 was changed, or the one before it was",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_record_changed_in_the_file_does_not_verify(path, how):
    """Who can write to the file cannot change the record unseen."""
    statement, says = TAMPERED[how]
    async with opened(path) as store:
        for word in ("one", "two", "three", "four", "five"):
            await store.amend([A], counting(A, word))
        with by_hand(path) as other:
            other.execute(statement.replace("replace(data", "replace(CAST(data AS TEXT)"))
            other.execute("UPDATE audit SET data = CAST(data AS BLOB)")
        outcome = await record_holds(store)
        assert isinstance(outcome, Broken)
        assert outcome.why.startswith(says)


async def test_a_table_that_somebody_dropped(path):
    """Nobody foresaw that; it is a fault all the same, for each amendment in the transaction, and for readers."""
    record = [], lambda _: Change(None, (), (Entry(1, "authn_login_fail"),))
    gate = Gate()
    async with opened(path) as store:
        await store.amend(*record)
        with by_hand(path) as other:
            other.execute("DROP TABLE value")
        await gate.close(store)
        tasks = await queued(store.amend(*record), store.amend([A], counting(A)), store.amend(*record))
        gate.opened.set()
        for call in (*tasks, store.read(A), store.list("ledger", rank_from=1)):
            with pytest.raises(
                StoreFault, match=r"this is not foreseen: please report it .*no such table: value\)$"
            ):
                await call
        assert await record_holds(store) == 1


async def test_an_entry_that_was_put_where_the_next_one_goes(path):
    """The next amendment meets it, and nothing is overwritten."""
    async with opened(path) as store:
        with by_hand(path) as other:
            other.execute("INSERT INTO audit VALUES (1, x'7b7d', 'x')")
        with pytest.raises(StoreFault, match="the record does not fit its head: it was changed from outside"):
            await store.amend([A], counting(A))
        assert await store.read(A) is None
        with pytest.raises(StoreFault, match="audit entry 1 is not as it was written"):
            await store.entries()


async def test_a_record_without_its_head(path):
    """Nothing is put on a record that does not know where it ends."""
    async with opened(path) as store:
        with by_hand(path) as other:
            other.execute("DELETE FROM head")
        with pytest.raises(StoreFault, match="the record has no head: it was changed from outside"):
            await store.amend([A], counting(A))
        with pytest.raises(StoreFault, match="the record has no head: it was changed from outside"):
            await store.head()


async def test_a_value_that_was_changed_by_hand(path):
    """It is not understood, so nothing is decided on it; the amendments beside it go on."""
    gate = Gate()
    async with opened(path) as store:
        await store.amend([A], counting(A))
        with by_hand(path) as other:
            other.execute("UPDATE value SET data = x'7b22' WHERE id = 'acct-a'")
        await gate.close(store)
        tasks = await queued(store.amend([A], counting(A)), store.amend([B], counting(B)))
        gate.opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert "ledger 'acct-a' cannot be read" in str(outcomes[0])
        assert outcomes[1] == 1
        for call in (store.read(A), store.list("ledger")):
            with pytest.raises(StoreFault, match="ledger 'acct-a' cannot be read"):
                await call
