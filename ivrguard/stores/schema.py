"""
The tables in PostgreSQL, and how a database gets to this program's version of them.

The laws of this file:

1. Steps are numbered and only ever appended to: databases of every version are out there. There is no way back.
2. All steps that are missing are one transaction: a database is at a version, never between two.
3. Whoever migrates has the others wait, by a lock that ends with the transaction, so that a pooler may stand between.
4. Ids are bytes: PostgreSQL's text holds no NUL and is sorted by a language's rules; bytes are sorted by code points.

All names begin with `ivrguard_`, so that a database may be shared with other programs; they stand in the schema that
`search_path` names first.
"""

from asyncpg import exceptions as pg

from ivrguard.core.audit import GENESIS
from ivrguard.core.errors import StoreFault
from ivrguard.stores.pool import Connection

LOCK = 0x49565247
"""'IVRG': the number of the advisory lock that migrations wait for."""

VERSION = "SELECT max(version) FROM ivrguard_schema"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE ivrguard_value (
            kind text COLLATE "C" NOT NULL,
            id bytea NOT NULL,
            data bytea NOT NULL,
            expires_ms bigint,
            rank bigint,
            PRIMARY KEY (kind, id)
        )
        """,
        "CREATE INDEX ivrguard_value_rank ON ivrguard_value (kind, rank, id) WHERE rank IS NOT NULL",
        "CREATE INDEX ivrguard_value_expires ON ivrguard_value (expires_ms) WHERE expires_ms IS NOT NULL",
        "CREATE TABLE ivrguard_audit (seq bigint PRIMARY KEY, data bytea NOT NULL, hash text NOT NULL)",
        # every write moves `turn`: who read at one turn and writes at another was overtaken
        """
        CREATE TABLE ivrguard_head (
            only_one integer PRIMARY KEY CHECK (only_one = 1),
            turn bigint NOT NULL,
            seq bigint NOT NULL,
            hash text NOT NULL
        )
        """,
        f"INSERT INTO ivrguard_head VALUES (1, 0, 0, '{GENESIS}')",  # noqa: S608 sixty-four zeros of our own
        # the last act of each process, by which it knows whether one took whose answer was lost
        """
        CREATE TABLE ivrguard_writer (
            id text PRIMARY KEY,
            act bigint NOT NULL,
            at timestamptz NOT NULL
        )
        """,
    ),
)
"""Number n brings a database from version n-1 to n."""


async def version_of(connection: Connection) -> int:
    """The version of the database's tables; 0 when there are none."""
    try:
        return int(await connection.fetchval(VERSION) or 0)
    except pg.UndefinedTableError:
        return 0


async def migrate(connection: Connection) -> tuple[int, int]:
    """Bring the database to this program's version: the one it was of, and the one it is of. Harmless twice, and at once."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        await connection.execute("CREATE TABLE IF NOT EXISTS ivrguard_schema (version integer PRIMARY KEY)")
        before = await version_of(connection)
        for number, statements in enumerate(MIGRATIONS[before:], start=before + 1):
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("INSERT INTO ivrguard_schema VALUES ($1)", number)
    return before, max(before, len(MIGRATIONS))


def check(where: str, version: int) -> None:
    """Raise `StoreFault` for a database that is not of this program's version, with the command to run."""
    if version < len(MIGRATIONS):
        raise StoreFault(
            f"{where}: it is of version {version}, and this ivrguard wants {len(MIGRATIONS)}: "
            "`ivrguard migrate` brings it there"
        )
    if version > len(MIGRATIONS):
        raise StoreFault(
            f"{where}: it is of version {version}, and this ivrguard knows {len(MIGRATIONS)} at most: install the "
            "newer ivrguard that migrated it, or restore a backup from before"
        )
