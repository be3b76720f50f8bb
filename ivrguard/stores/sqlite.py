"""
The store in one SQLite file: the embedded default, for one host.

The laws of this file:

1. `amend` returns after the disk has it: write-ahead log, `synchronous=FULL`
   (https://www.sqlite.org/pragma.html#pragma_synchronous). It survives the process, and the power.
2. One thread writes. It takes what is queued into one transaction (group commit: many amendments, one sync of
   the disk), at once, and never waits for more to come. Within it each amendment sees the ones before it.
3. A change that raises fails alone. If the file fails, the whole transaction is rolled back and each
   amendment in it fails with a `StoreFault` that says what to mend: results that rest on what was rolled back
   are not told.
4. The last number and hash of the record are read inside each transaction, which excludes other writers
   (`BEGIN IMMEDIATE`): commands may amend the same file beside a server.
5. Reading does not wait for writing. A value is read on the event loop, through a read-only connection of its
   own: by primary key, from the system's cache, that is about 10 µs; to a thread and back are 70 to 160. With a
   write-ahead log neither readers nor writers block each other (https://www.sqlite.org/wal.html, 2.2), but for
   the recovery after another process's crash; a read waits `READ_BUSY_S` for that, and then fails. Lists are
   long, so they are read and decoded on another thread.
6. The file is private to its user, and it is one's own: nothing is written into a file that another program
   made, a newer ivrguard wrote, or that is no longer at its path.

The file belongs on a local disk: a write-ahead log needs shared memory, which network file systems lack.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from ivrguard.core.audit import Linked
from ivrguard.core.errors import StoreFault
from ivrguard.ports import Change, Key, Listed
from ivrguard.stores import codec
from ivrguard.stores.codec import Row

T = TypeVar("T")
Result = TypeVar("Result")

AMENDMENTS_PER_COMMIT_MAX = 64
"""So that the first in a transaction does not wait long for the last."""

QUEUE_MAX = 1024
"""Amendments waiting or being written; beyond it the disk cannot keep up, and callers had better hear so."""

BUSY_S = 5.0
"""How long the writer waits for another process's transaction: a third of the time that a webhook has."""

READ_BUSY_S = 0.05
"""How long a read on the event loop may wait."""

APPLICATION_ID = 0x49565247
"""'IVRG' in the file's header: whose file this is."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE value (
            kind TEXT NOT NULL,
            id TEXT NOT NULL,
            data BLOB NOT NULL,
            expires_ms INTEGER,
            rank INTEGER,
            PRIMARY KEY (kind, id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX value_rank ON value (kind, rank) WHERE rank IS NOT NULL",
        "CREATE INDEX value_expires ON value (expires_ms) WHERE expires_ms IS NOT NULL",
        "CREATE TABLE audit (seq INTEGER PRIMARY KEY, data BLOB NOT NULL, hash TEXT NOT NULL)",
        """
        CREATE TABLE head (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            seq INTEGER NOT NULL,
            hash TEXT NOT NULL
        )
        """,
        "INSERT INTO head VALUES (1, 0, printf('%064d', 0))",
    ),
)
"""Number n brings a file from version n-1 to n. Only ever appended to: files of every version are out there."""

WHOSE = """
    SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version
"""  # in one statement: between two, another process may migrate the file
READ = "SELECT data FROM value WHERE kind = ? AND id = ?"
KEEP = """
    INSERT INTO value (kind, id, data, expires_ms, rank) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (kind, id) DO UPDATE SET data = excluded.data, expires_ms = excluded.expires_ms, rank = excluded.rank
"""
DELETE = "DELETE FROM value WHERE kind = ? AND id = ?"
SWEEP = """
    DELETE FROM value WHERE (kind, id) IN (
        SELECT kind, id FROM value WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?
    )
"""
LIST = "SELECT id, data, rank FROM value WHERE kind = ? AND id >= ? AND id <> ? ORDER BY id LIMIT ?"
LIST_BY_RANK = "SELECT id, data, rank FROM value WHERE kind = ? AND rank >= ? ORDER BY rank, id LIMIT ?"
RECORD = "INSERT INTO audit (seq, data, hash) VALUES (?, ?, ?)"
ENTRIES = "SELECT seq, data, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
PRUNE = """
    DELETE FROM audit WHERE seq IN (
        SELECT seq FROM audit WHERE seq <= ? AND seq < (SELECT seq FROM head) ORDER BY seq LIMIT ?
    )
"""
HEAD = "SELECT seq, hash FROM head"
SET_HEAD = "UPDATE head SET seq = ?, hash = ?"

_PRIMARY_CODE = 0xFF  # an extended result code holds the primary one in its low byte
_MENDS: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full: make room",
    sqlite3.SQLITE_READONLY: "it cannot be written to: look at the rights of the file and of its directory",
    sqlite3.SQLITE_PERM: "it cannot be opened: look at the rights of the file and of its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: is its directory there, and may this user write to it?",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop every ivrguard and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, or damaged: restore it from a backup or name another file",
    sqlite3.SQLITE_BUSY: "another process keeps it locked: find and stop that one (`fuser` names it)",
    sqlite3.SQLITE_IOERR: "the disk fails: look at the system's log",
    sqlite3.SQLITE_CONSTRAINT: "the record does not fit its head: it was changed from outside; keep it and restore a backup",
}
"""What to mend, by SQLite's primary result code (https://www.sqlite.org/rescode.html)."""


def _fault(path: Path, error: Exception) -> StoreFault:
    """What went wrong with the file, for the operator. SQLite's texts name tables and columns, never values."""
    if isinstance(error, StoreFault):
        return StoreFault(*error.args)
    if not isinstance(error, sqlite3.Error):
        return StoreFault(f"{path}: a fault in ivrguard itself: please report it ({type(error).__name__})")
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    mend = _MENDS.get(code, "this is not foreseen: please report it")
    return StoreFault(f"{path}: {mend} ({type(error).__name__}: {error})")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into faults."""
    try:
        yield
    except sqlite3.Error as error:
        raise _fault(path, error) from error


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


def migrate(path: Path, *, busy_s: float = BUSY_S) -> int:
    """
    Make the file, private to its user, or bring it to this program's version; the version it then has.

    Harmless when there is nothing to do, and from two processes at once. Raises `StoreFault` for a file that
    is not ours, newer, damaged, locked for more than `busy_s`, or cannot be written.
    """
    _create(path)
    with _faults(path), closing(_connect(path, "rw", busy_s)) as connection:
        if _version(connection, path) < len(MIGRATIONS):
            _write_ahead(connection, busy_s)
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection, path)  # again: another process may have been faster
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
    return len(MIGRATIONS)


_migrate = migrate  # `SqliteStore.open` has an argument of that name


def _create(path: Path) -> None:
    """An empty file of mode 0600, if there is none; its name on disk before anything rests on it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        directory = os.open(path.parent, os.O_RDONLY)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreFault(
            f"{path}: it cannot be made: is its directory there, and may this user write to it? ({error.strerror})"
        ) from error
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path, mode: str, busy_s: float) -> sqlite3.Connection:
    """A connection without implicit transactions. `mode`: "rw" or "ro", which never make a file."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,  # each is used by one thread at a time; the writer's is opened by another
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's version, 0 for an empty file; `StoreFault` if it is another program's or a newer one's."""
    application, version, tables = connection.execute(WHOSE).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreFault(f"{path}: this database was made by another program: name another file")
    if version > len(MIGRATIONS):
        raise StoreFault(
            f"{path}: it is of version {version}, and this ivrguard knows {len(MIGRATIONS)} at most: install the "
            "newer ivrguard that wrote it, or restore a backup from before"
        )
    return int(version)


def _open(path: Path, busy_s: float) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The writer's connection and the reader's, to a file of this program's version."""
    _place(path)
    with _faults(path):
        writer = _connect(path, "rw", busy_s)
        try:
            version = _version(writer, path)
            if version < len(MIGRATIONS):
                raise StoreFault(
                    f"{path}: it is of version {version}, and this ivrguard wants {len(MIGRATIONS)}: "
                    "`ivrguard migrate` brings it there"
                )
            _write_ahead(writer, busy_s)
            return writer, _connect(path, "ro", READ_BUSY_S)
        except BaseException:
            writer.close()
            raise


def _place(path: Path) -> tuple[int, int]:
    """Which file is at the path: its device and inode."""
    try:
        status = path.stat()
    except OSError as error:
        raise StoreFault(
            f"{path}: there is no such file: put it back, or have `ivrguard migrate` make a new one"
        ) from error
    return (status.st_dev, status.st_ino)


def _write_ahead(connection: sqlite3.Connection, busy_s: float) -> None:
    """
    The settings that law 1 rests on. The log is a property of the file and asked for once; the rest are the
    connection's.

    Going over to the log wants the file for oneself, and SQLite does not wait for that by itself.
    """
    until_s = time.monotonic() + busy_s
    journal = ""
    while not journal:
        try:
            (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.01)
    if journal != "wal":
        raise StoreFault(
            f"the database cannot keep a write-ahead log (it says {journal!r}): put it on a local disk"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "PRAGMA fullfsync = ON"
    )  # macOS: through the disk's own cache; elsewhere without effect


# ── one transaction ──────────────────────────────────────────────────────────────────────────────────────


class _Transaction:
    """
    What one commit takes together. It keeps what the amendments before this one have decided in `rows` and
    `links`, and writes it in the end: so a change that raises leaves no trace.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows: dict[Key[object], Row | None] = {}
        self._links: list[Linked] = []
        head = connection.execute(HEAD).fetchone()
        if head is None:
            raise StoreFault("the record has no head: it was changed from outside; restore a backup")
        self._head: tuple[int, str] = head

    def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """See `ports.Store.amend`."""
        done = codec.amended({key: self._data(key) for key in keys}, change, self._head)
        self._rows.update(done.rows)
        self._links.extend(done.links)
        if done.links:
            self._head = (done.links[-1].seq, done.links[-1].hash)
        return done.result

    def sweep(self, now_ms: int, limit: int) -> int:
        """See `ports.Store.sweep`."""
        self.flush()
        return self._connection.execute(SWEEP, (now_ms, limit)).rowcount

    def prune(self, upto: int, limit: int) -> int:
        """See `ports.Store.prune`."""
        self.flush()
        return self._connection.execute(PRUNE, (upto, limit)).rowcount

    def flush(self) -> None:
        """Write what was decided so far."""
        kept = [row for row in self._rows.values() if row is not None]
        gone = [key for key, row in self._rows.items() if row is None]
        execute = self._connection.executemany
        execute(KEEP, [(row.key.kind, row.key.id, row.data, row.expires_ms, row.rank) for row in kept])
        execute(DELETE, [(key.kind, key.id) for key in gone])
        execute(RECORD, [(linked.seq, codec.encode_entry(linked), linked.hash) for linked in self._links])
        if self._links:
            self._connection.execute(SET_HEAD, self._head)
        self._rows.clear()
        self._links.clear()

    def _data(self, key: Key[object]) -> bytes | None:
        if key in self._rows:
            row = self._rows[key]
            return None if row is None else row.data
        found = self._connection.execute(READ, (key.kind, key.id)).fetchone()
        return None if found is None else found[0]


class _Job(Generic[Result]):
    """Something to do in a transaction, who waits for it, and how it ended: an error, or a result."""

    __slots__ = ("error", "future", "result", "run")

    def __init__(self, run: Callable[[_Transaction], Result], future: asyncio.Future[None]) -> None:
        self.run = run
        self.future = future
        self.error: BaseException | None = None
        self.result: Result | None = None


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────


class SqliteStore:
    """A `ports.Store` in one file, for the event loop that it was opened on. Made by `open`."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._path = path.absolute()
        self._place = _place(path)
        self._writer = writer
        self._reader = reader
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._unanswered = 0
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, name="ivrguard-sqlite", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path, *, migrate: bool = False, busy_s: float = BUSY_S) -> Self:
        """
        Open the file. `migrate`: make it, or bring it to this version, first; else a file that needs that is
        refused. Not for a loop that is serving already: it may wait `busy_s` for another process.

        Raises `StoreFault` for a file that is missing, not ours, older, newer, damaged or not to be written.
        """
        if migrate:
            _migrate(path, busy_s=busy_s)
        return cls(path, *_open(path, busy_s))

    async def read(self, key: Key[T]) -> T | None:
        """See `ports.Store.read`. On the event loop: law 5 says why."""
        codec.check_name(key.kind, key.id)
        found = self._first(READ, key.kind, key.id)
        return None if found is None else codec.decode(key, found[0])

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """
        See `ports.Store.amend`. `change` runs on the writer's thread.

        An amendment whose caller is cancelled happens all the same.
        """
        keys = tuple(keys)
        for key in keys:
            codec.check_name(key.kind, key.id)
        return await self._done(lambda transaction: transaction.amend(keys, change))

    async def list(
        self, kind: str, *, prefix: str = "", after: str = "", rank_from: int | None = None, limit: int = 100
    ) -> Sequence[Listed]:
        """See `ports.Store.list`."""
        codec.check_name(kind, prefix + after)
        codec.check_integers(rank_from)
        codec.check_limit(limit)
        self._refuse_if_closed()
        if rank_from is not None:
            return await asyncio.to_thread(self._list, LIST_BY_RANK, (kind, rank_from, limit), "")
        return await asyncio.to_thread(self._list, LIST, (kind, max(prefix, after), after, limit), prefix)

    async def entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[Linked]:
        """See `ports.Store.entries`."""
        codec.check_integers(after)
        codec.check_limit(limit)
        self._refuse_if_closed()
        return await asyncio.to_thread(self._entries, after, limit)

    async def head(self) -> tuple[int, str]:
        """See `ports.Store.head`."""
        found = self._first(HEAD)
        if found is None:
            raise StoreFault(
                f"{self._path}: the record has no head: it was changed from outside; restore a backup"
            )
        return (found[0], found[1])

    async def prune(self, upto: int, *, limit: int = 1000) -> int:
        """See `ports.Store.prune`."""
        codec.check_integers(upto)
        codec.check_limit(limit)
        return await self._done(lambda transaction: transaction.prune(upto, limit))

    async def sweep(self, now_ms: int, *, limit: int = 1000) -> int:
        """See `ports.Store.sweep`. The longest expired go first."""
        codec.check_integers(now_ms)
        codec.check_limit(limit)
        return await self._done(lambda transaction: transaction.sweep(now_ms, limit))

    async def clock_ms(self) -> int | None:
        """See `ports.Store.clock_ms`."""
        return None

    async def close(self) -> None:
        """See `ports.Store.close`: what was asked for before is finished, what comes later is refused."""
        if not self._closing:
            self._closing = True
            # Before the writer's: the last connection folds the log into the file, which a reader may not.
            self._reader.close()
            self._jobs.put(None)
        await asyncio.shield(self._stopped)
        self._thread.join()

    # on the event loop

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise StoreFault(f"{self._path}: the store is closed")

    def _first(self, statement: str, *parameters: str) -> Any:
        """The first row of a short statement, on the event loop."""
        self._refuse_if_closed()
        try:
            return self._reader.execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error

    async def _done(self, run: Callable[[_Transaction], Result]) -> Result:
        """Have the writer do it; the result, or the error, when the disk has it."""
        self._refuse_if_closed()
        if self._unanswered >= QUEUE_MAX:
            raise StoreFault(f"{self._path}: busy: {QUEUE_MAX} amendments wait for the disk")
        job = _Job(run, self._loop.create_future())
        self._unanswered += 1
        self._jobs.put(job)
        await job.future
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value] # a job without an error has its result

    def _answer(self, batch: Sequence[_Job[Any]]) -> None:
        """Wake those who wait; a cancelled one does not any more."""
        self._unanswered -= len(batch)
        for job in batch:
            if not job.future.done():
                job.future.set_result(None)

    # on the writer's thread

    def _work(self) -> None:
        """Commit batch by batch until `close`."""
        while batch := self._next():
            self._commit(batch)
            self._tell(self._answer, batch)
        self._writer.close()
        self._tell(self._stopped.set_result, None)

    def _next(self) -> Sequence[_Job[Any]]:
        """Wait for a job, and take along those that wait already. Empty when the store closes."""
        batch: list[_Job[Any]] = []
        while (job := self._jobs.get()) is not None:
            batch.append(job)
            if len(batch) >= AMENDMENTS_PER_COMMIT_MAX or self._jobs.empty():
                return batch
        if batch:
            self._jobs.put(None)  # found again the next time
        return batch

    def _tell(self, call: Callable[[T], object], argument: T) -> None:
        """Have the event loop do it. If that is closed, nobody is waiting any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, argument)

    def _commit(self, batch: Sequence[_Job[Any]]) -> None:
        """Do the batch in one transaction. Whatever happens: each job ends, and the thread goes on."""
        try:
            if _place(self._path) != self._place:
                raise StoreFault(
                    f"{self._path}: it is not the file that was opened any more: restart ivrguard"
                )
            self._writer.execute("BEGIN IMMEDIATE")
            transaction = _Transaction(self._writer)
            for job in batch:
                try:
                    job.result = job.run(transaction)
                except sqlite3.Error:
                    raise
                except BaseException as error:  # noqa: BLE001 a change may raise anything: its caller's affair
                    job.error = error
            transaction.flush()
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 nobody may be left waiting for ever
            if self._writer.in_transaction:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            for job in batch:
                job.error = _fault(self._path, error)

    # on other threads

    def _rows(self, statement: str, parameters: tuple[object, ...]) -> Sequence[Any]:
        """All rows of a statement, through a connection of its own."""
        with _faults(self._path), closing(_connect(self._path, "ro", BUSY_S)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def _list(self, statement: str, parameters: tuple[object, ...], prefix: str) -> Sequence[Listed]:
        rows = self._rows(statement, parameters)
        kind = str(parameters[0])
        return [
            Listed(id_, codec.decode(Key(kind, id_), data), rank)
            for id_, data, rank in rows
            if id_.startswith(prefix)
        ]

    def _entries(self, after: int, limit: int) -> Sequence[Linked]:
        return [codec.decode_entry(*row) for row in self._rows(ENTRIES, (after, limit))]
