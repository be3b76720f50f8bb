"""
Connections to PostgreSQL: who is at the other end, how long anybody waits for him, and what to mend.

The laws of this file:

1. Nothing waits for the network without a deadline. When one runs out, or when whoever asked goes away, the connection
   is cut, not cancelled politely: a server that does not answer would not answer that either.
2. A password is in no fault, log line or repr: a place is told as host, port and database, and what libraries say is
   looked through for it.
3. Over a network the other end is encrypted, unless the URL says `sslmode=disable`. `verify-full` checks who he is, by
   the system's authorities or by `sslrootcert`. Modes that fall back to plain text by themselves are refused
   (https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION).
4. What is committed is on disk: a session in which `synchronous_commit` is off has it turned on, and behind a pooler,
   where sessions are not ours, it is refused (https://www.postgresql.org/docs/current/wal-async-commit.html).
5. Behind a pooler in transaction mode (`pgbouncer=true` in the URL) nothing rests on a session: no named statements,
   no settings, and no lock that outlives its transaction (https://www.pgbouncer.org/features.html).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from ivrguard.core.errors import StoreFault

T = TypeVar("T")
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

CONNECTIONS_MAX = 8
"""Connections of one process, unless it is told otherwise: amendments share one, reads and lists take the others."""

CONNECT_S = 3.0
"""How long a new connection may take, TLS and password included."""

ANSWER_S = 4.0
"""How long anything may take: two of them and the IVR fit into the 15 s that a webhook has."""

CLOSE_S = 2.0
"""How long connections may take to say good-bye."""

IDLE_S = 300.0
"""After how long an unused connection is given back."""

MODES = ("disable", "require", "verify-ca", "verify-full")
LOCAL = frozenset({"localhost", "127.0.0.1", "::1", ""})

DURABLE = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
PLANS = "SET enable_seqscan = off; SET jit = off"
"""Everything here goes by an index; a plan that was made while the tables were empty must not think otherwise."""

_MENDS: Mapping[str, str] = {
    "08001": "no connection can be made: is it up, and is the way there open?",
    "08003": "the connection ended: is it up?",
    "08006": "the connection ended: is it up?",
    "08P01": "something between does not speak all of the protocol; is it a pooler? Add pgbouncer=true to DATABASE_URL",
    "25006": "it is a standby, which takes no writes: name the primary, or add target_session_attrs=read-write",
    "26000": "a pooler in transaction mode stands between: add pgbouncer=true to DATABASE_URL",
    "42P05": "a pooler in transaction mode stands between: add pgbouncer=true to DATABASE_URL",
    "28000": "it does not let this user in: look at DATABASE_URL and pg_hba.conf",
    "28P01": "it does not take this user's password: look at DATABASE_URL",
    "3D000": "it has no such database: create it, or look at DATABASE_URL",
    "42501": "this user may not do that: GRANT it, or let the tables' owner run `ivrguard migrate`",
    "42P01": "its tables are missing: `ivrguard migrate` makes them",
    "42703": "its tables are not of this version: `ivrguard migrate` brings them there",
    "42704": "it does not know a parameter that DATABASE_URL gives; take it out",
    "53100": "its disk is full: make room",
    "53200": "it has no memory left: look at its log",
    "53300": "it has no connection left: raise max_connections, or lower IVRGUARD_DATABASE_CONNECTIONS",
    "54000": "an id or value is beyond its limits",
    "57014": "it cancelled what was asked: is a statement_timeout set, or did somebody do it?",
}
"""What to mend, by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

PASSING = frozenset({"08", "40", "53", "57"})
"""Classes of SQLSTATE that may be over in a moment: connections, conflicts (40001), resources, an operator's restart."""

PASSING_STATES = frozenset({"25006", "25P03", "55P03"})
"""Others that may: a standby that is being made the primary, a turn held too long, a lock."""

ENDING = frozenset({"08", "57"})
"""Classes after which a connection is of no more use."""

LASTING_STATES = frozenset({"08P01", "53100", "57014"})
"""Those of the classes above that are not over by themselves."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    A database URL, read. `where`: host, port and database, for people. `url`: what the library is given.

    `pooled`: a pooler in transaction mode stands between. `tls`: how the other end is checked; False for plain text.
    """

    where: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    tls: ssl.SSLContext | bool
    pooled: bool


def address_of(url: str) -> Address:
    """
    Read a URL as hosts set it: postgres:// or postgresql://, percent-encoded, perhaps `?host=/a/socket's/folder`.

    Raises `StoreFault`, whose text holds nothing of what may be a password.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port = parts.port or given.get("port", 5432)
    except ValueError:
        raise StoreFault(
            "DATABASE_URL cannot be read: write signs such as @ : / ? # % in a user or password percent-encoded"
        ) from None
    if parts.scheme not in {"postgres", "postgresql"}:
        raise StoreFault("DATABASE_URL: this is no postgresql:// URL")
    secrets = {parts.password or "", given.get("password", "")}
    host = unquote(host) or given.get("host", "")
    pooled = given.pop("pgbouncer", "false") == "true"
    tls = _tls(given, local=host in LOCAL or host.startswith("/"))
    where = f"postgresql://{host}:{port}/{unquote(parts.path.removeprefix('/'))}"
    plain = urlunsplit(parts._replace(scheme="postgresql", query=urlencode(given, quote_via=quote)))
    spellings = {word for one in secrets if one for word in (one, unquote(one))}
    return Address(where, plain, tuple(sorted(spellings, key=len, reverse=True)), tls, pooled)


def _tls(given: dict[str, str], *, local: bool) -> ssl.SSLContext | bool:
    """How the other end is checked. What says so is taken out of `given`."""
    mode = given.pop("sslmode", "disable" if local else "require")
    authority, certificate, key = (given.pop(name, "") for name in ("sslrootcert", "sslcert", "sslkey"))
    if mode not in MODES:
        raise StoreFault(
            f"DATABASE_URL: sslmode is one of {', '.join(MODES)}; verify-full is the one to take"
        )
    if mode == "disable":
        return False
    try:
        context = ssl.create_default_context(cafile=None if authority in {"", "system"} else authority)
        context.check_hostname = mode == "verify-full"
        if mode == "require" and not authority:  # as libpq has it: with an authority it is verify-ca
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        raise StoreFault(
            f"DATABASE_URL: sslrootcert, sslcert or sslkey cannot be read: {error.strerror or error}"
        ) from None
    return context


class Passing(StoreFault):
    """What may be over in a moment. It may have been done all the same, and the answer be what is missing."""


def fault_of(address: Address, error: BaseException) -> StoreFault:
    """What went wrong, for the operator. Details of PostgreSQL's errors quote values, so they are left out."""
    if isinstance(error, StoreFault):
        return error
    text = str(error.args[0]) if error.args else ""
    for secret in address.secrets:
        text = text.replace(secret, "…")
    said = f"({type(error).__name__}: {text})"
    match error:
        case pg.PostgresError(sqlstate=str(state)):
            mend = _MENDS.get(state, "PostgreSQL refused it")
            passing = state in PASSING_STATES or (state[:2] in PASSING and state not in LASTING_STATES)
            return (Passing if passing else StoreFault)(f"{address.where}: {mend} {said}")
        case ssl.SSLCertVerificationError():
            return StoreFault(
                f"{address.where}: its certificate does not hold; is sslrootcert the right one? {said}"
            )
        case ssl.SSLError() | pg.ClientConfigurationError():
            return StoreFault(f"{address.where}: no connection can be agreed on: look at DATABASE_URL {said}")
        case ConnectionError() if "rejected SSL" in text:  # the library has no class of its own for it
            return StoreFault(
                f"{address.where}: it does not speak TLS: turn it on there, or add sslmode=disable to DATABASE_URL if the "
                "network is yours alone"
            )
        case TimeoutError():
            return Passing(f"{address.where}: it does not answer: is it up, and is the way there open?")
        case OSError() | pg.InterfaceError() | pg.InternalClientError():
            return Passing(f"{address.where}: the connection failed: is it up? {said}")
        case _:
            return StoreFault(f"{address.where}: a fault in ivrguard itself: please report it {said}")


def _cut(connection: Connection) -> None:
    """End a connection without a word; it may have ended by itself, and been given back."""
    with suppress(pg.InterfaceError):
        connection.terminate()


class Pool:
    """A bounded number of connections to one database, for one event loop. Made by `open`."""

    def __init__(self, address: Address, connections: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.address = address
        self._connections = connections
        self._closed = False

    @classmethod
    async def open(cls, address: Address, *, connections_max: int = CONNECTIONS_MAX) -> Self:
        """Make the pool; connections are opened as they are needed."""

        async def ready(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            if address.pooled:
                if (await connection.fetchval("SELECT current_setting('synchronous_commit')")) == "off":
                    raise StoreFault(
                        f"{address.where}: synchronous_commit is off, so that what is committed may be lost: "
                        "ALTER ROLE … SET synchronous_commit = on"
                    )
                return
            await connection.execute(DURABLE)
            with suppress(pg.PostgresError):  # CockroachDB does not know them, and needs them less
                await connection.execute(PLANS)

        async def kept(connection: object) -> None:
            """Nothing of ours is left in a session, so nothing is asked of the server to clean it."""

        made = asyncpg.create_pool(
            address.url,
            min_size=0,
            max_size=connections_max,
            max_inactive_connection_lifetime=IDLE_S,
            init=ready,
            reset=kept,
            ssl=address.tls,
            timeout=CONNECT_S,
            command_timeout=ANSWER_S,
            statement_cache_size=0 if address.pooled else 64,
        )
        return cls(address, await made)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, until: float) -> T:
        """
        Do `work` with a connection of one's own, by `until` on the loop's clock.

        Raises `Passing` for what may be over in a moment, another `StoreFault` for what is not.
        """
        loop = asyncio.get_running_loop()
        try:
            if self._closed:
                raise StoreFault(f"{self.address.where}: the store is closed")
            connection = await self._connections.acquire(timeout=max(until - loop.time(), 0.001))
        except TimeoutError:
            raise Passing(
                f"{self.address.where}: no connection within {ANSWER_S:g} s: is it up, and is the way there open? If it "
                "is, all connections are in use: raise IVRGUARD_DATABASE_CONNECTIONS"
            ) from None
        except Exception as error:  # noqa: BLE001 sockets, TLS and PostgreSQL each have their own
            raise fault_of(self.address, error) from None
        cut = loop.call_at(until, _cut, connection)
        try:
            return await work(connection)
        except Exception as error:  # noqa: BLE001 as above
            answered = isinstance(error, pg.PostgresError) and str(error.sqlstate)[:2] not in ENDING
            if not answered:
                _cut(connection)
                error = TimeoutError() if loop.time() >= until else error
            raise fault_of(self.address, error) from None
        except BaseException:
            _cut(connection)
            raise
        finally:
            cut.cancel()
            await self._connections.release(connection)

    async def close(self) -> None:
        """Give every connection back, those of a server that does not answer too."""
        self._closed = True
        with suppress(
            Exception
        ):  # a server that is gone cannot be told good-bye; the library has cut it then
            async with asyncio.timeout(CLOSE_S):
                await self._connections.close()
