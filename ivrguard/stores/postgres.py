"""
The store in PostgreSQL: many processes, many hosts, one record.

The laws of this file:

1. Every write compares and moves `turn` in the one row of `ivrguard_head`, in the same statement that keeps its values
   and puts its entries on record. Who was overtaken since he read has changed nothing, and begins again.
2. The writes of one process are one after the other: what has come in the meantime goes into one statement (many
   amendments, one round trip, one sync of the disk). Within it each amendment sees the ones before it.
3. Who was overtaken queues for the row (`SELECT … FOR UPDATE`) with his next try instead of racing again; whoever
   holds it and falls silent is cut off by the server after `IDLE_IN_TURN_MS`.
4. An answer that got lost is not an act undone: each write leaves its number in this process's row of
   `ivrguard_writer`, and whoever begins again looks there first. So an act takes effect once, or not at all.
5. Nobody waits for ever: everything has a deadline (stores/pool.py, 1), an amendment that has passed its own while it
   queued is refused, and when the writer ends, however it ends, everybody who waits is told.
6. A change that raises fails alone. What passes (a restart, a conflict: 40001) is tried again, with growing and jittered
   pauses, `TRIES_MAX` times at most and until the deadline; what does not is a `StoreFault` at once.

When the deadline passes while an answer is missing, nobody can say whether the act took: the fault says so. The guard
then lets nobody through; an attempt that it was about to count may be counted.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import asyncpg
from asyncpg import exceptions as pg

from ivrguard.core.audit import Linked
from ivrguard.core.errors import StoreFault
from ivrguard.ports import Change, Key, Listed
from ivrguard.stores import codec, schema
from ivrguard.stores.codec import Row
from ivrguard.stores.pool import (
    ANSWER_S,
    CLOSE_S,
    CONNECTIONS_MAX,
    Connection,
    Passing,
    Pool,
    address_of,
    fault_of,
)

T = TypeVar("T")
Result = TypeVar("Result")

AMENDMENTS_PER_STATEMENT_MAX = 64
"""So that the first in a statement does not wait long for the last."""

QUEUE_MAX = 1024
"""Amendments waiting or being written; beyond it the database cannot keep up, and callers had better hear so."""

TRIES_MAX = 12
"""How often one thing is tried."""

PAUSE_S = 0.01
PAUSE_MAX_S = 0.5
"""How long the first pause before another try is at most, and any; each is drawn anew."""

IDLE_IN_TURN_MS = 2000
"""How long a process may hold the head's row and say nothing, before the server takes it from it."""

WRITER_DAYS = 1
"""After how many days a process's last act is forgotten: long after anybody could ask for it."""

READ = "SELECT data FROM ivrguard_value WHERE kind = $1 AND id = $2"
# `LIMIT 1` keeps the planner from joining in any other way than by the primary key, row for row
READ_MANY = """
    SELECT h.turn, h.seq, h.hash, w.act, k.nr, v.data
    FROM ivrguard_head h
    LEFT JOIN ivrguard_writer w ON w.id = $1
    LEFT JOIN unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS k (kind, id, nr) ON true
    LEFT JOIN LATERAL (
        SELECT one.data FROM ivrguard_value one WHERE one.kind = k.kind AND one.id = k.id LIMIT 1
    ) v ON true
"""
BEGIN = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {IDLE_IN_TURN_MS}"
TURN = "SELECT turn FROM ivrguard_head FOR UPDATE"
_MOVE = """
    WITH moved AS (
        UPDATE ivrguard_head SET turn = turn + 1, seq = $2, hash = $3 WHERE turn = $1 RETURNING turn
    ), signed AS (
        INSERT INTO ivrguard_writer (id, act, at) SELECT $4::text, $5::bigint, now() FROM moved
        ON CONFLICT (id) DO UPDATE SET act = excluded.act, at = excluded.at
    ), kept AS (
        INSERT INTO ivrguard_value (kind, id, data, expires_ms, rank)
        SELECT k.* FROM moved, unnest($6::text[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bigint[]) AS k
        ON CONFLICT (kind, id) DO UPDATE
        SET data = excluded.data, expires_ms = excluded.expires_ms, rank = excluded.rank
    ), recorded AS (
        INSERT INTO ivrguard_audit (seq, data, hash)
        SELECT k.* FROM moved, unnest($11::bigint[], $12::bytea[], $13::text[]) AS k
    )
"""
_TAKE = """, gone AS (
        DELETE FROM ivrguard_value v USING moved, unnest($14::text[], $15::bytea[]) AS k (kind, id)
        WHERE v.kind = k.kind AND v.id = k.id
    ), pruned AS (
        DELETE FROM ivrguard_audit a USING moved WHERE a.seq <= $16
    )
"""
_TOOK = "SELECT count(*) FROM moved"
WRITE = _MOVE + _TOOK
WRITE_AND_DELETE = _MOVE + _TAKE + _TOOK
EXPIRED = """
    SELECT kind, id FROM ivrguard_value WHERE expires_ms < $1 ORDER BY expires_ms LIMIT $2
"""
OLD = "SELECT seq FROM ivrguard_audit WHERE seq <= $1 AND seq < $2 ORDER BY seq LIMIT $3"
LIST = """
    SELECT id, data, rank FROM ivrguard_value WHERE kind = $1 AND id >= $2 AND id <> $3 ORDER BY id LIMIT $4
"""
LIST_BY_RANK = """
    SELECT id, data, rank FROM ivrguard_value WHERE kind = $1 AND rank >= $2 ORDER BY rank, id LIMIT $3
"""
ENTRIES = "SELECT seq, data, hash FROM ivrguard_audit WHERE seq > $1 ORDER BY seq LIMIT $2"
HEAD = "SELECT seq, hash FROM ivrguard_head"
CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
FORGET = f"DELETE FROM ivrguard_writer WHERE at < now() - interval '{WRITER_DAYS} days'"  # noqa: S608 our own number


async def migrate(url: str) -> tuple[str, int, int]:
    """
    Bring the database to this program's version: where it is, which one it was of, and which it is of now.

    Harmless twice, and from two nodes at once. Raises `StoreFault` for one that is newer or cannot be had.
    """
    pool = await Pool.open(address_of(url), connections_max=1)
    try:
        before, after = await pool.run(schema.migrate, until=asyncio.get_running_loop().time() + ANSWER_S)
    finally:
        await pool.close()
    schema.check(pool.address.where, after)
    return pool.address.where, before, after


# ── one act ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Act:
    """What one statement takes together: rows to keep or delete, entries, and up to where the record is cut."""

    head: tuple[int, str]
    rows: dict[Key[object], Row | None] = field(default_factory=dict)
    links: list[Linked] = field(default_factory=list)
    prune_upto: int | None = None
    ends: list[tuple[Any, BaseException | None]] = field(default_factory=list)

    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.rows and not self.links and self.prune_upto is None


End = tuple[Any, BaseException | None]
"""How a job ended: its result, or the error that its change raised."""

Found = Mapping[Key[object], bytes | None]


@dataclass(eq=False, slots=True)
class _Job:
    """
    Something to do, who waits for it, and until when. `keys`: what it reads.

    `add`: decides on what was read, and puts it into an act. `alone`: no other job goes into that act.
    """

    keys: Sequence[Key[object]]
    add: Callable[[_Act, Found, Connection], Awaitable[End]]
    until: float
    future: asyncio.Future[None]
    alone: bool = False
    result: Any = None
    error: BaseException | None = None

    def end(self, result: object, error: BaseException | None) -> None:
        """Wake who waits; a cancelled one does not any more."""
        self.result, self.error = result, error
        if not self.future.done():
            self.future.set_result(None)


async def _amend(
    keys: Sequence[Key[object]],
    change: Callable[[Mapping[Key[object], object | None]], Change[Any]],
    act: _Act,
    found: Found,
    _: Connection,
) -> End:
    """See `ports.Store.amend`."""
    try:
        done = codec.amended(
            {key: _data(act.rows[key]) if key in act.rows else found[key] for key in keys}, change, act.head
        )
    except BaseException as error:  # noqa: BLE001 a change may raise anything: its caller's affair
        return None, error
    act.rows.update(done.rows)
    act.links.extend(done.links)
    if done.links:
        act.head = (done.links[-1].seq, done.links[-1].hash)
    return done.result, None


def _data(row: Row | None) -> bytes | None:
    return None if row is None else row.data


async def _sweep(now_ms: int, limit: int, act: _Act, _: Found, connection: Connection) -> End:
    """See `ports.Store.sweep`. What has expired is read at the turn that the act is compared with."""
    expired = await connection.fetch(EXPIRED, now_ms, limit)
    act.rows.update({Key(kind, id_.decode()): None for kind, id_ in expired})
    return len(expired), None


async def _prune(upto: int, limit: int, act: _Act, _: Found, connection: Connection) -> End:
    """See `ports.Store.prune`."""
    old = await connection.fetch(OLD, upto, act.head[0], limit)
    act.prune_upto = old[-1]["seq"] if old else None
    return len(old), None


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────


class PostgresStore:
    """A `ports.Store` in PostgreSQL, for the event loop that it was opened on. Made by `open`."""

    def __init__(self, pool: Pool, chance: Callable[[int], bytes]) -> None:
        self._pool = pool
        self._chance = chance
        self._where = pool.address.where
        self._id = chance(16).hex()
        self._act = 0
        self._sent: dict[int, _Act] = {}
        self._turn: int | None = None
        self._queueing = False
        self._jobs: deque[_Job] = deque()
        self._batch: Sequence[_Job] = ()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls, url: str, *, chance: Callable[[int], bytes], connections_max: int = CONNECTIONS_MAX
    ) -> Self:
        """
        Open the database at `url`. `chance`: so many random bytes, for pauses and for this process's name.

        Raises `StoreFault` when it cannot be had, or is not of this program's version.
        """
        pool = await Pool.open(address_of(url), connections_max=connections_max)
        store = cls(pool, chance)
        try:
            schema.check(store._where, await store._tried(schema.version_of))
            await store._tried(lambda connection: connection.execute(FORGET))
        except BaseException:
            await pool.close()
            raise
        return store

    async def read(self, key: Key[T]) -> T | None:
        """See `ports.Store.read`."""
        codec.check_name(key.kind, key.id)
        data = await self._tried(lambda connection: connection.fetchval(READ, key.kind, key.id.encode()))
        return None if data is None else codec.decode(key, data)

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """
        See `ports.Store.amend`. `change` runs on the event loop.

        An amendment whose caller is cancelled happens all the same.
        """
        keys = tuple(dict.fromkeys(keys))
        for key in keys:
            codec.check_name(key.kind, key.id)
        return await self._done(keys, partial(_amend, keys, change))  # type: ignore[no-any-return] # its change's

    async def list(
        self, kind: str, *, prefix: str = "", after: str = "", rank_from: int | None = None, limit: int = 100
    ) -> Sequence[Listed]:
        """See `ports.Store.list`."""
        codec.check_name(kind, prefix + after)
        codec.check_integers(rank_from)
        codec.check_limit(limit)
        if rank_from is not None:
            rows = await self._rows(LIST_BY_RANK, kind, rank_from, limit)
        else:
            rows = await self._rows(LIST, kind, max(prefix, after).encode(), after.encode(), limit)
        named = [(row["id"].decode(), row["data"], row["rank"]) for row in rows]
        return [
            Listed(id_, codec.decode(Key(kind, id_), data), rank)
            for id_, data, rank in named
            if rank_from is not None or id_.startswith(prefix)
        ]

    async def entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[Linked]:
        """See `ports.Store.entries`."""
        codec.check_integers(after)
        codec.check_limit(limit)
        rows = await self._rows(ENTRIES, after, limit)
        return [codec.decode_entry(*row) for row in rows]

    async def head(self) -> tuple[int, str]:
        """See `ports.Store.head`."""
        rows = await self._rows(HEAD)
        if not rows:
            raise self._headless()
        return (rows[0]["seq"], rows[0]["hash"])

    async def prune(self, upto: int, *, limit: int = 1000) -> int:
        """See `ports.Store.prune`."""
        codec.check_integers(upto)
        codec.check_limit(limit)
        return int(await self._done((), partial(_prune, upto, limit), alone=True))

    async def sweep(self, now_ms: int, *, limit: int = 1000) -> int:
        """See `ports.Store.sweep`. The longest expired go first."""
        codec.check_integers(now_ms)
        codec.check_limit(limit)
        return int(await self._done((), partial(_sweep, now_ms, limit), alone=True))

    async def clock_ms(self) -> int | None:
        """See `ports.Store.clock_ms`: the database's own, which all nodes share."""
        return int(await self._tried(lambda connection: connection.fetchval(CLOCK)))

    async def close(self) -> None:
        """See `ports.Store.close`: what was asked for before is finished, what comes later is refused. Within seconds."""
        self._closing = True
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=ANSWER_S + CLOSE_S)
            self._writer.cancel()
            await asyncio.wait({self._writer})
        await self._pool.close()

    # reading

    async def _rows(self, statement: str, *parameters: object) -> Sequence[asyncpg.Record]:
        return await self._tried(lambda connection: connection.fetch(statement, *parameters))

    async def _tried(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do what is harmless twice, again if need be."""
        self._refuse_if_closed()
        until = self._until()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._pool.run(work, until=until)
            except Passing as fault:
                await self._pause(tries, until, fault)

    async def _pause(self, tries: int, until: float, fault: Passing) -> None:
        """Wait a little before the next try; raises `fault` when there is to be none."""
        most = min(PAUSE_S * 2 ** (tries - 1), PAUSE_MAX_S)
        pause = most * int.from_bytes(self._chance(2)) / 0xFFFF
        if tries >= TRIES_MAX or self._loop.time() + pause >= until:
            raise fault
        await asyncio.sleep(pause)

    def _until(self) -> float:
        return self._loop.time() + ANSWER_S

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise StoreFault(f"{self._where}: the store is closed")

    def _headless(self) -> StoreFault:
        return StoreFault(
            f"{self._where}: the record has no head: it was changed from outside; restore a backup"
        )

    # writing

    async def _done(
        self,
        keys: Sequence[Key[object]],
        add: Callable[[_Act, Found, Connection], Awaitable[End]],
        *,
        alone: bool = False,
    ) -> Any:
        """Have the writer do it; the result, or the error, when the database has it."""
        self._refuse_if_closed()
        if len(self._jobs) + len(self._batch) >= QUEUE_MAX:
            raise StoreFault(f"{self._where}: busy: {QUEUE_MAX} amendments wait for the database")
        job = _Job(keys, add, self._until(), self._loop.create_future(), alone)
        self._jobs.append(job)
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write_all())
            # not in a `finally` of its own: a task that is cancelled before it begins has none
            self._writer.add_done_callback(self._ended)
        await job.future
        if job.error is not None:
            raise job.error
        return job.result

    async def _write_all(self) -> None:
        """Act by act, until nobody waits."""
        while self._jobs:
            self._batch = self._next()
            await self._write(self._batch)

    def _ended(self, writer: asyncio.Task[None]) -> None:
        """The writer has ended. Nobody waits, unless it was stopped or has a fault: then everybody is told."""
        left = [*self._batch]
        self._batch = ()
        if writer is self._writer:  # else there is another one already, which takes the queue
            left.extend(self._jobs)
            self._jobs.clear()
        error = None if writer.cancelled() else writer.exception()
        fault = StoreFault(f"{self._where}: the store was stopped")
        for job in left:
            if not job.future.done():
                job.end(None, fault if error is None else fault_of(self._pool.address, error))

    def _next(self) -> Sequence[_Job]:
        """The jobs that go into the next act."""
        batch = [self._jobs.popleft()]
        while (
            self._jobs
            and not batch[0].alone
            and not self._jobs[0].alone
            and len(batch) < AMENDMENTS_PER_STATEMENT_MAX
        ):
            batch.append(self._jobs.popleft())
        return batch

    async def _write(self, batch: Sequence[_Job]) -> None:
        """Have a batch take effect once, and tell those who wait how it ended; or what stood in the way."""
        until = min(job.until for job in batch)
        self._sent.clear()
        tries = 0
        try:
            while True:
                tries += 1
                try:
                    act = await self._pool.run(lambda connection: self._try(batch, connection), until=until)
                except Passing as fault:
                    await self._pause(tries, until, fault)
                    continue
                if act is not None:
                    break
                self._queueing = True
                overtaken = Passing(f"{self._where}: other nodes were faster {tries} times")
                await self._pause(tries, until, overtaken)
        except Passing as fault:
            unknown = "; whether it took cannot be told" if self._sent else ""
            for job in batch:
                job.end(None, StoreFault(f"{fault}{unknown}"))
        except StoreFault as fault:
            for job in batch:
                job.end(None, StoreFault(*fault.args))
        else:
            for job, (result, error) in zip(batch, act.ends, strict=True):
                job.end(result, error)

    async def _try(self, batch: Sequence[_Job], connection: Connection) -> _Act | None:
        """One try of an act. None: somebody was faster, and nothing has changed."""
        if not self._queueing:
            return await self._try_at(None, batch, connection)
        await connection.execute(BEGIN)
        try:
            turn = await connection.fetchval(TURN)
            act = await self._try_at(turn, batch, connection)
            await connection.execute("COMMIT")
        except pg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        return act

    async def _try_at(self, held: int | None, batch: Sequence[_Job], connection: Connection) -> _Act | None:
        """Read, decide, write. `held`: the turn that is ours alone until the transaction ends."""
        keys = tuple(dict.fromkeys(key for job in batch for key in job.keys))
        rows = await connection.fetch(
            READ_MANY, self._id, [key.kind for key in keys], [key.id.encode() for key in keys]
        )
        if not rows:
            raise self._headless()
        turn, seq, hash_, last = rows[0]["turn"], rows[0]["seq"], rows[0]["hash"], rows[0]["act"]
        if last in self._sent:
            return self._sent[last]
        if held is not None and turn == self._turn:
            self._queueing = False  # nobody else has written since we did
        found = {keys[row["nr"] - 1]: row["data"] for row in rows if row["nr"] is not None}
        act = _Act((seq, hash_))
        act.ends = [await job.add(act, found, connection) for job in batch]
        if act.empty():
            return act
        self._act += 1
        self._sent[self._act] = act
        try:
            took = await connection.fetchval(*_statement(turn, self._id, self._act, act))
        except (pg.SerializationError, pg.DeadlockDetectedError):
            del self._sent[self._act]  # it was rolled back
            raise
        if not took:
            del self._sent[self._act]
            return None
        self._turn = turn + 1
        return act


def _statement(turn: int, writer: str, number: int, act: _Act) -> tuple[Any, ...]:
    """The statement that writes an act, and its parameters."""
    kept = [row for row in act.rows.values() if row is not None]
    gone = [key for key, row in act.rows.items() if row is None]
    parameters: tuple[object, ...] = (
        turn,
        *act.head,
        writer,
        number,
        [row.key.kind for row in kept],
        [row.key.id.encode() for row in kept],
        [row.data for row in kept],
        [row.expires_ms for row in kept],
        [row.rank for row in kept],
        [linked.seq for linked in act.links],
        [codec.encode_entry(linked) for linked in act.links],
        [linked.hash for linked in act.links],
    )
    if not gone and act.prune_upto is None:
        return WRITE, *parameters
    taken = ([key.kind for key in gone], [key.id.encode() for key in gone], act.prune_upto or 0)
    return WRITE_AND_DELETE, *parameters, *taken
