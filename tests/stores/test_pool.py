"""
Connections to PostgreSQL: URLs as hosts set them, TLS, poolers, and faults that say what to mend and never the password.

TLS is an end of our own in front of a real server: the wheel's is built without. So is the pooler that goes to another session
for each transaction, in turn, which the real PgBouncer (behind it, at the end of this file) does only when it has to.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import time
from contextlib import asynccontextmanager

import pytest

from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import pool
from ivrguard.stores.pool import Passing, Pool, address_of
from ivrguard.stores.postgres import PostgresStore, migrate

CANARY = "canary/of:the@owner"
QUOTED = "canary%2Fof%3Athe%40owner"
A = Key("ledger", "acct-a")


def counting(values):
    run = (values[A] or Ledger()).run + 1
    return Change(run, (Put(A, Ledger(run=run)),))


async def asked(url, **options):
    """What a count of one makes of a database."""
    store = await PostgresStore.open(url, chance=secrets.token_bytes, **options)
    try:
        return await asyncio.gather(*(store.amend([A], counting) for _ in range(3))), await store.read(A)
    finally:
        await store.close()


def soon():
    return asyncio.get_running_loop().time() + 2


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "where", "tls"),
    [
        ("postgres://u:p@db.example/x", "postgresql://db.example:5432/x", "require"),
        ("postgresql://u:p@db.example:5433/x?sslmode=require", "postgresql://db.example:5433/x", "require"),
        ("postgresql://u@db.example/x?sslmode=verify-full", "postgresql://db.example:5432/x", "verify-full"),
        ("postgresql://u@db.example/x?sslmode=verify-full&sslrootcert=system", "postgresql://db.example:5432/x", "verify-full"),
        ("postgresql://u@db.example/x?sslmode=verify-ca", "postgresql://db.example:5432/x", "verify-ca"),
        ("postgresql://u@db.example/x?sslmode=disable", "postgresql://db.example:5432/x", None),
        ("postgresql://u@localhost/x", "postgresql://localhost:5432/x", None),
        ("postgresql://u@127.0.0.1/x?sslmode=require", "postgresql://127.0.0.1:5432/x", "require"),
        ("postgresql://u@%2Frun%2Fpostgresql/x", "postgresql:///run/postgresql:5432/x", None),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///run/postgresql:5432/x", None),
    ],
)  # fmt: skip
def test_urls_as_hosts_set_them(url, where, tls):
    """Over a network it is TLS unless the URL says no; who is at the other end is checked when the URL says so."""
    address = address_of(url)
    assert (address.where, address.pooled) == (where, False)
    assert "sslmode" not in address.url
    if tls is None:
        assert address.tls is False
    else:
        checks = (address.tls.verify_mode, address.tls.check_hostname)
        required = ssl.CERT_NONE if tls == "require" else ssl.CERT_REQUIRED
        assert checks == (required, tls == "verify-full")


def test_what_the_library_is_given_is_the_rest_of_the_url():
    address = address_of(f"postgres://u:{QUOTED}@db/x?pgbouncer=true&search_path=a%2Cb&sslmode=disable")
    assert address.url == f"postgresql://u:{QUOTED}@db/x?search_path=a%2Cb"
    assert address.pooled
    assert CANARY not in repr(address)
    assert QUOTED not in repr(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"mysql://u:{QUOTED}@db/x", "this is no postgresql:// URL"),
        (f"postgres://u:{CANARY}#@[db/x", "percent-encoded"),
        (f"postgres://u:{CANARY}@db:port/x", "percent-encoded"),
        (f"postgres://u:{QUOTED}@db/x?nothing", "percent-encoded"),
        (f"postgres://u:{QUOTED}@db/x?sslmode=prefer", "sslmode is one of disable, require, verify-ca, verify-full"),
        (f"postgres://u:{QUOTED}@db/x?sslmode=verify-full&sslrootcert=/nowhere.pem", "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_url(url, words):
    """And nothing of it is shown."""
    with pytest.raises(StoreFault) as caught:
        address_of(url)
    assert words in str(caught.value)
    assert "canary" not in str(caught.value)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_password_is_in_no_fault(postgres, caplog, monkeypatch):
    """A wrong one, a wrong user, no such database, nobody there, a parameter that is none: each says what to mend."""
    monkeypatch.setattr("ivrguard.stores.postgres.ANSWER_S", 0.5)
    right = postgres.at()
    for url, words in {
        postgres.at(password=CANARY): "does not take this user's password",
        postgres.at(user="nobody", password=CANARY): "does not take this user's password",
        right.replace("/postgres?", "/nowhere?"): "it has no such database",
        right + "hots=x": "does not know a parameter that DATABASE_URL gives",
        right.replace(f":{postgres.port}", ":1"): "is it up?",
        right + "sslmode=require": "it does not speak TLS",
    }.items():
        with pytest.raises(StoreFault) as caught:
            await PostgresStore.open(url, chance=secrets.token_bytes)
        told = f"{caught.value!r} {caught.value} {caught.value.__cause__} {caplog.text}"
        assert words in told
        assert not any(secret in told for secret in (CANARY, QUOTED, postgres.PASSWORD))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ssl.SSLCertVerificationError(1, "self-signed"), StoreFault, "its certificate does not hold"),
        (ssl.SSLError(1, "no protocols"), StoreFault, "no connection can be agreed on"),
        (ConnectionRefusedError(111, "refused"), Passing, "the connection failed: is it up?"),
        (TimeoutError(), Passing, "it does not answer"),
        (ValueError(f"what holds {CANARY}"), StoreFault, "please report it (ValueError: what holds …)"),
        (StoreFault("as it is"), StoreFault, "as it is"),
    ],
)
def test_what_libraries_say_becomes_a_fault(error, kind, words):
    """It passes, or it lasts; and the password is taken out of whatever they say."""
    fault = pool.fault_of(address_of(f"postgresql://u:{QUOTED}@localhost/x"), error)
    assert type(fault) is kind
    assert words in str(fault)


@pytest.mark.parametrize(
    ("state", "passes"),
    [
        *(("40001", True), ("40P01", True), ("57P01", True), ("53300", True), ("08006", True), ("25006", True)),
        *(("53100", False), ("57014", False), ("42501", False), ("26000", False), ("08P01", False), ("XX000", False)),
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(state, passes):
    """Restarts, conflicts and full rooms may be over in a moment; a full disk and a missing right are not."""
    error = pool.pg.PostgresError.new({"C": state, "M": "said", "D": CANARY})
    fault = pool.fault_of(address_of("postgresql://u@localhost/x"), error)
    assert isinstance(fault, Passing) is passes
    assert "said" in str(fault)
    assert CANARY not in str(fault), "details quote values"


async def test_connections_are_bounded_and_whoever_waits_too_long_is_told(database):
    """One that is taken by somebody slow: the other waits for its deadline and no longer."""
    one = await Pool.open(address_of(database), connections_max=1)
    taken = asyncio.Event()

    async def slow(connection):
        taken.set()
        await connection.execute("SELECT pg_sleep(30)")

    task = asyncio.ensure_future(one.run(slow, until=soon()))
    await taken.wait()
    with pytest.raises(Passing, match="raise IVRGUARD_DATABASE_CONNECTIONS"):
        await one.run(slow, until=asyncio.get_running_loop().time() + 0.05)
    with pytest.raises(Passing, match="it does not answer"):
        await task
    await one.close()
    with pytest.raises(StoreFault, match="the store is closed"):
        await one.run(slow, until=soon())


async def test_closing_ends_though_somebody_is_served(database, monkeypatch):
    """He is told; what is cut is cut."""
    monkeypatch.setattr(pool, "CLOSE_S", 0.05)
    one = await Pool.open(address_of(database))
    taken = asyncio.Event()

    async def slow(connection):
        taken.set()
        await connection.execute("SELECT pg_sleep(30)")

    task = asyncio.ensure_future(one.run(slow, until=soon() + 30))
    await taken.wait()
    await one.close()
    with pytest.raises(Passing):
        await task


async def test_a_database_that_forgets_what_it_committed_is_told_not_to(postgres, database):
    """Law 4: in our own session it is turned on; behind a pooler it is refused."""
    off = f"{database}&synchronous_commit=off"
    own = await Pool.open(address_of(off))
    setting = "SELECT current_setting('synchronous_commit')"
    assert await own.run(lambda connection: connection.fetchval(setting), until=soon()) == "on"
    await own.close()
    pooled = await Pool.open(address_of(f"{off}&pgbouncer=true"))
    with pytest.raises(StoreFault, match="synchronous_commit is off"):
        await pooled.run(lambda connection: connection.fetchval(setting), until=soon())
    await pooled.close()


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def listening(handler):
    """The port of a server that handles each connection so, and is gone afterwards."""
    tasks = set()

    async def handled(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pumped(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.transport.abort()


def with_tls(postgres, certificate):
    """What a server with TLS does first (https://www.postgresql.org/docs/current/protocol-flow.html)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def handler(reader, writer):
        assert await reader.readexactly(8) == struct.pack("!ii", 8, 80877103)
        writer.write(b"S")
        await writer.start_tls(context)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", postgres.port)
        try:
            await asyncio.gather(pumped(reader, to_writer), pumped(to_reader, writer))
        finally:
            to_writer.transport.abort()

    return handler


async def test_who_is_at_the_other_end_is_checked(postgres, database, authority):
    """verify-full wants the right authority and the right name; verify-ca the authority; require only encryption."""
    known, other = authority("known"), authority("other")
    words = database.partition("&")[2].partition("&")[2]
    for name, mode, ca, fits in (
        ("127.0.0.1", "verify-full", known, True),
        ("127.0.0.1", "verify-full", other, False),
        ("127.0.0.2", "verify-full", known, False),
        ("127.0.0.2", "verify-ca", known, True),
        ("127.0.0.2", "verify-ca", other, False),
    ):
        async with listening(with_tls(postgres, known.issue("server", name))) as port:
            url = postgres.at(f"{words}&sslmode={mode}&sslrootcert={ca.ca}").replace(
                f":{postgres.port}/", f":{port}/"
            )
            if fits:
                assert (await asked(url))[1].run % 3 == 0
            else:
                with pytest.raises(StoreFault, match="its certificate does not hold"):
                    await asked(url)


async def test_a_certificate_of_ones_own_is_shown(postgres, database, authority):
    """Where the server wants one (`clientcert=verify-full`)."""
    known = authority("known")
    mine, key = known.issue("guard")
    words = f"sslmode=verify-full&sslrootcert={known.ca}&sslcert={mine}&sslkey={key}"
    address = address_of(f"postgresql://u@db/x?{words}")
    assert "ssl" not in address.url


# ── behind a pooler ──────────────────────────────────────────────────────────────────────────────────────


class Pooler:
    """
    A pooler in transaction mode, as PgBouncer is one: whoever begins a transaction gets the next session, and gives it
    back when the server is ready for another. It refuses what it does not know of at the start, as PgBouncer does.
    """

    def __init__(self, postgres, schema):
        self.path = f"{postgres.data}/.s.PGSQL.{postgres.port}"
        self.schema = schema
        self.sessions = []
        self.turns = itertools.count()

    async def begin(self, count=2):
        for _ in range(count):
            reader, writer = await asyncio.open_unix_connection(self.path)
            words = f"user\0postgres\0database\0postgres\0search_path\0{self.schema}\0\0".encode()
            writer.write(struct.pack("!ii", len(words) + 8, 196608) + words)
            greeting = b""
            while not greeting.endswith(b"Z\0\0\0\5I"):
                said = await reader.read(65536)
                assert said, greeting
                greeting += said
            self.sessions.append((reader, writer, asyncio.Lock()))
            self.greeting = greeting

    def end(self):
        for _, writer, _ in self.sessions:
            writer.transport.abort()

    async def __call__(self, reader, writer):
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        if b"search_path" in await reader.readexactly(length - 4):
            text = b"SFATAL\0C08P01\0Munsupported startup parameter: search_path\0\0"
            writer.write(b"E" + struct.pack("!i", len(text) + 4) + text)
            return
        writer.write(self.greeting)
        while True:
            first = await self.message(reader)
            if first[:1] == b"X":  # good-bye, which is not for the session
                return
            from_server, to_server, lock = self.sessions[next(self.turns) % len(self.sessions)]
            async with lock:
                to_server.write(first)
                asking = asyncio.ensure_future(self.forward(reader, to_server))
                try:
                    while (said := await self.message(from_server)) != b"Z\0\0\0\5I":
                        writer.write(said)
                    writer.write(said)
                finally:
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)

    async def forward(self, reader, to_server):
        while True:
            to_server.write(await self.message(reader))

    @staticmethod
    async def message(reader):
        head = await reader.readexactly(5)
        return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def test_behind_a_pooler_that_hands_sessions_round(postgres, database):
    """With `pgbouncer=true` it goes, migration included; without, the fault says what to add."""
    pooler = Pooler(postgres, database.rpartition("=")[2])
    await pooler.begin()
    async with listening(pooler) as port, contextlib.AsyncExitStack() as stack:
        stack.callback(pooler.end)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        assert (await migrate(f"{url}?pgbouncer=true"))[1:] == (1, 1)
        for _ in range(2):
            runs, value = await asked(f"{url}?pgbouncer=true")
            assert runs[-1] == value.run
        for words in ("", "?search_path=x"):
            with pytest.raises(StoreFault, match=r"[Aa]dd pgbouncer=true"):
                await asked(url + words)


@contextlib.contextmanager
def pgbouncer(postgres, schema):
    """The real one, in transaction mode, with three sessions; its URL, for a role whose tables are in `schema`."""
    if shutil.which("pgbouncer") is None:
        assert "TESTS_SKIP_NOTHING" not in os.environ, "pgbouncer is missing"
        pytest.skip("PgBouncer is missing (Debian: apt-get install pgbouncer)")
    postgres.sql(f"CREATE ROLE {schema} LOGIN SUPERUSER; ALTER ROLE {schema} SET search_path = {schema}")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    users, words = postgres.data / f"{schema}.users", postgres.data / f"{schema}.ini"
    users.write_text(f'"{schema}" ""\n')
    words.write_text(
        f"[databases]\npostgres = host={postgres.data} port={postgres.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nserver_reset_query_always = 1\n"
    )
    with subprocess.Popen(["pgbouncer", "-q", words], **postgres.as_user) as process:
        try:
            until = time.monotonic() + 20
            while not answers(port):
                assert process.poll() is None, "PgBouncer has ended"
                assert time.monotonic() < until, "PgBouncer does not answer"
                time.sleep(0.02)
            yield f"postgresql://{schema}@127.0.0.1:{port}/postgres?pgbouncer=true"
        finally:
            process.terminate()
    postgres.sql(f"DROP OWNED BY {schema}; DROP ROLE {schema}")


def answers(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


async def test_behind_pgbouncer_two_nodes_lose_nothing(postgres, database):
    """The real one: each amendment sees the one before it, whichever node and whichever session it came by."""
    with pgbouncer(postgres, database.rpartition("=")[2]) as url:
        nodes = [await PostgresStore.open(url, chance=secrets.token_bytes) for _ in range(2)]
        runs = await asyncio.gather(*(nodes[number % 2].amend([A], counting) for number in range(50)))
        assert sorted(runs) == list(range(1, 51))
        assert [await node.read(A) for node in nodes] == [Ledger(run=50)] * 2
        assert [listed.id for listed in await nodes[0].list("ledger")] == [A.id]
        for node in nodes:
            await node.close()
