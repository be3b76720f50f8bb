"""
What is the PostgreSQL store's own: nodes that race, answers that get lost, servers that fall silent, and that nobody hangs.

A wire between store and server (`Between`) loses, holds and cuts; the server is a real one.
"""

import asyncio
import faulthandler
import secrets
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ivrguard.core.audit import Entry, verify
from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import pool, postgres
from ivrguard.stores.postgres import AMENDMENTS_PER_STATEMENT_MAX, QUEUE_MAX, PostgresStore, migrate

A, B = Key("ledger", "acct-a"), Key("ledger", "acct-b")


@asynccontextmanager
async def opened(url, *, chance=secrets.token_bytes, **options):
    store = await PostgresStore.open(url, chance=chance, **options)
    try:
        yield store
    finally:
        await store.close()


def counting(key):
    def change(values):
        run = (values[key] or Ledger()).run + 1
        return Change(run, (Put(key, Ledger(run=run)),), (Entry(1, "authn_login_fail", reason=str(run)),))

    return change


async def counted(store, key=A):
    """How often `counting` took, by value, by record and by chain: they agree."""
    value, entries = await store.read(key), await store.entries(limit=10**6)
    assert verify(entries, head=await store.head()) == len(entries) == (value.run if value else 0)
    return len(entries)


class Between:
    """A wire to the database. `lose`: so many answers from now one is lost, and with it the connection; `drop`: a request."""

    def __init__(self, folder, port):
        self.socket = f"{folder}/.s.PGSQL.{port}"
        self.lose = self.drop = 0
        self.refuse = False
        self.open = asyncio.Event()
        self.open.set()
        self.writers = set()
        self.tasks = set()

    async def __call__(self, reader, writer):
        if self.refuse:
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_unix_connection(self.socket)
        self.writers |= {writer, to_writer}
        there = self.pump(reader, to_writer, "drop")
        back = self.pump(to_reader, writer, "lose")
        try:
            async with asyncio.TaskGroup() as group:
                self.tasks |= {group.create_task(there), group.create_task(back)}
        except* ConnectionError:
            pass
        finally:
            self.cut()

    async def pump(self, reader, writer, fault):
        while data := await reader.read(65536):
            await self.open.wait()
            if left := getattr(self, fault):
                setattr(self, fault, left - 1)
                if left == 1:
                    raise ConnectionResetError
            writer.write(data)
        raise ConnectionResetError

    def cut(self):
        """Every connection ends."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@pytest.fixture
async def wire(postgres, database):
    """A wire and the URL at its near end."""
    between = Between(postgres.data, postgres.port)
    server = await asyncio.start_server(between, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    between.url = (
        f"postgresql://postgres@127.0.0.1:{port}/postgres?{database.partition('&')[2].partition('&')[2]}"
    )
    yield between
    between.open.set()
    server.close()
    between.cut()
    await asyncio.gather(*between.tasks, return_exceptions=True)


@pytest.fixture
def before_writing(monkeypatch):
    """Has something happen once, when the next write is about to be sent."""

    def armed(happen):
        true = postgres._statement

        def statement(*arguments):
            monkeypatch.setattr(postgres, "_statement", true)
            happen()
            return true(*arguments)

        monkeypatch.setattr(postgres, "_statement", statement)

    return armed


@pytest.fixture(autouse=True)
def nobody_hangs():
    """Whatever hangs is a fault of the store's, and had better say where."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def hurried(monkeypatch):
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(postgres, "ANSWER_S", 0.4)
    monkeypatch.setattr(pool, "CLOSE_S", 0.2)
    monkeypatch.setattr(postgres, "CLOSE_S", 0.2)


# ── law 1 to 3: many nodes ───────────────────────────────────────────────────────────────────────────────


async def test_two_nodes_at_once_lose_nothing(database):
    """Three nodes, a hundred amendments of one value: a hundred counted, each once, in one chain."""
    async with opened(database) as one, opened(database) as two, opened(database) as three:
        nodes = [one, two, three, one] * 25
        runs = await asyncio.gather(*(node.amend([A], counting(A)) for node in nodes))
        assert sorted(runs) == list(range(1, 101))
        assert await counted(two) == 100


async def test_who_was_overtaken_decides_anew_and_queues_for_his_turn(database, before_writing):
    """What he had read is not what is there any more: nothing of the first decision is left."""
    async with opened(database) as one, opened(database) as two:
        assert await two.amend([A], counting(A)) == 1
        others = []
        before_writing(lambda: others.append(asyncio.ensure_future(two.amend([A], counting(A)))))
        true = one._try_at
        locked = []

        async def slow(held, batch, connection):
            locked.append(held is not None)
            act = await true(held, batch, connection)
            await asyncio.gather(*others)
            return act

        one._try_at = slow
        # the other's write goes out first: its statement is sent before ours is even begun
        await asyncio.gather(one.amend([A], counting(A)), one.amend([B], counting(B)))
        assert await one.read(A) == Ledger(run=3)
        assert (locked[0], await one.read(B)) == (False, Ledger(run=1))


async def test_a_node_that_raced_goes_on_without_the_lock_when_it_is_alone_again(database):
    async with opened(database) as store:
        await store.amend([A], counting(A))
        store._queueing = True
        await store.amend([A], counting(A))
        assert not store._queueing
        async with opened(database) as other:
            await other.amend([A], counting(A))
        store._queueing = True
        await store.amend([A], counting(A))
        assert store._queueing
        assert await counted(store) == 4


async def test_what_queued_up_is_one_statement(database, monkeypatch):
    """130 amendments at once are three statements, of 64 at most; one that only looks is none."""
    sizes = []
    true = postgres._statement
    monkeypatch.setattr(
        postgres, "_statement", lambda *given: (sizes.append(len(given[3].links)), true(*given))[1]
    )
    async with opened(database) as store:
        await asyncio.gather(*(store.amend([A], counting(A)) for _ in range(130)))
        assert sizes == [AMENDMENTS_PER_STATEMENT_MAX, AMENDMENTS_PER_STATEMENT_MAX, 2]
        assert await store.amend([A], lambda values: Change(values[A].run)) == 130
        assert len(sizes) == 3


async def test_a_node_that_falls_silent_with_the_turn_in_its_hand_is_cut_off(database, monkeypatch):
    """Law 3: a frozen process may not keep all others from writing."""
    monkeypatch.setattr(postgres, "BEGIN", postgres.BEGIN.replace("2000", "200"))
    async with opened(database) as frozen, opened(database) as other:

        async def held(connection):
            await connection.execute(postgres.BEGIN)
            await connection.fetchval(postgres.TURN)
            assert await other.amend([A], counting(A)) == 1
            await connection.fetchval(postgres.TURN)

        with pytest.raises(StoreFault):
            await frozen._pool.run(held, until=asyncio.get_running_loop().time() + 3)


async def test_a_conflict_that_the_database_finds_is_tried_again(database, monkeypatch):
    """40001, as CockroachDB has it at its ordinary level and PostgreSQL at `serializable`: nothing had changed."""
    conflicts = [asyncpg.SerializationError("restart transaction"), asyncpg.DeadlockDetectedError("deadlock")]
    true = PostgresStore._try_at

    async def conflicting(self, held, batch, connection):
        return await true(self, held, batch, _Conflicting(connection, conflicts))

    monkeypatch.setattr(PostgresStore, "_try_at", conflicting)
    async with opened(database) as store:
        assert await store.amend([A], counting(A)) == 1
        assert (conflicts, store._sent.keys()) == ([], {3})
        store._queueing, store._turn = True, None
        conflicts.append(asyncpg.SerializationError("restart transaction"))
        assert await store.amend([A], counting(A)) == 2
        assert await counted(store) == 2


class _Conflicting:
    """A connection whose writes meet with conflicts first."""

    def __init__(self, connection, conflicts):
        self._connection, self._conflicts = connection, conflicts

    async def fetchval(self, statement, *parameters):
        if statement.startswith(postgres._MOVE) and self._conflicts:
            raise self._conflicts.pop()
        return await self._connection.fetchval(statement, *parameters)

    def __getattr__(self, name):
        return getattr(self._connection, name)


# ── law 4: answers that get lost ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "nr", "queueing"),
    [("lose", 1, False), ("drop", 1, False), ("lose", 1, True), ("lose", 2, True), ("drop", 2, True)],
)
async def test_what_got_lost_takes_effect_once(wire, before_writing, fault, nr, queueing):
    """
    The answer lost: it took, and is not done again. The request lost: it did not, and is. The caller sees neither.

    In a transaction the second is COMMIT.
    """
    async with opened(wire.url) as store:
        assert await store.amend([A], counting(A)) == 1
        store._queueing = queueing
        before_writing(lambda: setattr(wire, fault, nr))
        assert await asyncio.gather(*(store.amend([A], counting(A)) for _ in range(3))) == [2, 3, 4]
        assert await counted(store) == 4


async def test_a_lost_answer_is_known_again_though_others_wrote_since(wire, database, before_writing):
    """The process's own row says so, however far the turn has moved on."""
    async with opened(wire.url) as store, opened(database) as other:
        others = []
        true = store._pause

        async def meanwhile(*arguments):
            others.append(await other.amend([A], counting(A)))
            await true(*arguments)

        assert await store.amend([A], counting(A)) == 1
        store._pause = meanwhile
        before_writing(lambda: setattr(wire, "lose", 1))
        assert (await store.amend([A], counting(A)), others) == (2, [3])
        assert await counted(store) == 3


async def test_when_no_answer_comes_at_all_the_fault_says_that_nobody_knows(wire, before_writing, hurried):
    """It may have taken; the caller is told in time, and the store goes on when the server does."""
    async with opened(wire.url) as store:
        before_writing(wire.open.clear)
        with pytest.raises(StoreFault, match=r"does not answer.*; whether it took cannot be told"):
            await store.amend([A], counting(A))
        wire.open.set()
        assert await store.amend([A], counting(A)) in {1, 2}


async def test_reading_is_tried_again_over_a_new_connection(wire):
    """A server that restarts between two webhooks is not noticed."""
    async with opened(wire.url) as store:
        await store.amend([A], counting(A))
        wire.lose = 1
        assert await store.read(A) == Ledger(run=1)
        wire.cut()
        assert (await store.head())[0] == 1


async def test_a_restart_is_waited_for(wire):
    """Connections refused for a moment are no fault yet."""
    async with opened(wire.url) as store:
        wire.refuse = True
        wire.cut()
        asking = asyncio.ensure_future(store.amend([A], counting(A)))
        await asyncio.sleep(0.05)
        wire.refuse = False
        assert await asking == 1


# ── law 5: nobody waits for ever ─────────────────────────────────────────────────────────────────────────


async def test_everybody_is_told_when_the_server_falls_silent(wire, hurried):
    """Those in the act under way and those in the queue behind it; reads and lists; and closing ends too."""
    async with opened(wire.url) as store:
        await store.amend([A], counting(A))
        wire.open.clear()
        calls = [
            *(store.amend([A], counting(A)) for _ in range(70)),
            store.sweep(1),
            store.read(A),
            store.list("ledger"),
        ]
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {StoreFault, pool.Passing}
        async with asyncio.timeout(5):
            await store.close()


async def test_who_goes_away_harms_nobody(database):
    """A cancelled amendment happens all the same, and so do those beside it."""
    async with opened(database) as store:
        tasks = [asyncio.ensure_future(store.amend([A], counting(A))) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes.pop(2), asyncio.CancelledError)
        assert outcomes == [1, 2, 4, 5]
        assert await counted(store) == 5


async def test_a_read_that_is_cancelled_gives_its_connection_back(wire):
    async with opened(wire.url, connections_max=1) as store:
        wire.open.clear()
        for _ in range(3):
            task = asyncio.ensure_future(store.read(A))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        wire.open.set()
        assert await store.read(A) is None


async def test_a_writer_that_ends_tells_those_who_wait(database, monkeypatch):
    """Stopped from outside, or by a fault of ours: and the next amendment has a new one."""
    async with opened(database) as store:
        for moments in (1, 2, 9):  # before it has begun; and while it waits for the server
            waiting = [asyncio.ensure_future(store.amend([A], counting(A))) for _ in range(70)]
            for _ in range(moments):
                await asyncio.sleep(0)
            store._writer.cancel()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert {str(outcome).rpartition(": ")[2] for outcome in outcomes} == {"the store was stopped"}

        async def broken(_batch):
            raise RuntimeError

        monkeypatch.setattr(store, "_write", broken)
        with pytest.raises(StoreFault, match=r"fault in ivrguard itself.*RuntimeError"):
            await store.amend([A], counting(A))
        monkeypatch.undo()
        before = await counted(store)
        assert await store.amend([A], counting(A)) == before + 1


def test_the_end_of_the_loop_ends_everything(database):
    """Whoever forgets to close leaves no task behind, and none that hangs."""

    async def forgotten():
        store = await PostgresStore.open(database, chance=secrets.token_bytes)
        task = asyncio.ensure_future(store.amend([A], counting(A)))
        await asyncio.sleep(0)
        task.cancel()
        await store.close()

    asyncio.run(forgotten())


async def test_a_queue_that_is_full_refuses(database):
    async with opened(database) as store:
        tasks = [asyncio.ensure_future(store.amend([A], counting(A))) for _ in range(QUEUE_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(StoreFault, match=f"busy: {QUEUE_MAX} amendments wait"):
            await store.amend([A], counting(A))
        assert len(await asyncio.gather(*tasks)) == QUEUE_MAX


async def test_tries_are_bounded(database, monkeypatch):
    """Whoever is overtaken again and again gives up with a fault that says so, and has changed nothing."""
    monkeypatch.setattr(postgres, "PAUSE_S", 0.0)

    async def overtaken(self, batch, connection):
        return None

    monkeypatch.setattr(PostgresStore, "_try", overtaken)
    async with opened(database) as store:
        with pytest.raises(StoreFault, match=r"other nodes were faster 12 times$"):
            await store.amend([A], counting(A))


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_record_without_a_head_is_refused(postgres, database):
    """Nothing is written behind a record that was changed from outside."""
    async with opened(database) as store:
        postgres.sql("DELETE FROM ivrguard_head")
        for call in (store.head(), store.amend([A], counting(A))):
            with pytest.raises(StoreFault, match="the record has no head"):
                await call
    postgres.sql("INSERT INTO ivrguard_head VALUES (1, 0, 0, '')")


async def test_what_lasts_is_a_fault_at_once(postgres, database):
    """A right that is missing is not tried again."""
    async with opened(database) as store:
        postgres.sql("ALTER TABLE ivrguard_value RENAME data TO other")
        with pytest.raises(StoreFault, match="not of this version: `ivrguard migrate`"):
            await store.amend([A], counting(A))
        postgres.sql("ALTER TABLE ivrguard_value RENAME other TO data")


async def test_the_clock_is_the_databases(database):
    """Milliseconds since 1970."""
    async with opened(database) as store:
        assert 1_700_000_000_000 < await store.clock_ms() < 4_000_000_000_000


async def test_old_writers_are_forgotten(postgres, database):
    """One row for each process that ever was would be a leak."""
    async with opened(database) as store:
        await store.amend([A], counting(A))
        postgres.sql("UPDATE ivrguard_writer SET at = at - interval '2 days'")
    async with opened(database) as store:
        assert (
            await store._tried(lambda connection: connection.fetchval("SELECT count(*) FROM ivrguard_writer"))
            == 0
        )


async def test_migrate_is_harmless_twice_and_from_two_nodes_at_once(postgres):
    """Both say what they found."""
    postgres.sql("CREATE SCHEMA fresh")
    url = postgres.at_schema("fresh")
    found = await asyncio.gather(*(migrate(url) for _ in range(3)))
    assert sorted(before for _, before, _ in found) == [0, 1, 1]
    assert {after for *_, after in found} == {1}
    postgres.sql("DROP SCHEMA fresh CASCADE")


async def test_a_database_of_another_version_is_refused_with_the_command_to_run(postgres, database):
    postgres.sql("CREATE SCHEMA bare")
    with pytest.raises(StoreFault, match="it is of version 0, and this ivrguard wants 1: `ivrguard migrate`"):
        await PostgresStore.open(postgres.at_schema("bare"), chance=secrets.token_bytes)
    postgres.sql(f"SET search_path = {database.rpartition('=')[2]}; INSERT INTO ivrguard_schema VALUES (99)")
    for newer in (PostgresStore.open(database, chance=secrets.token_bytes), migrate(database)):
        with pytest.raises(StoreFault, match="it is of version 99, and this ivrguard knows 1 at most"):
            await newer
    postgres.sql("DELETE FROM ivrguard_schema WHERE version = 99; DROP SCHEMA bare")
