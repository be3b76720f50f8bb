"""
How fast the PostgreSQL store is, against an asyncpg pool that does one read and one statement for each unit.

    PYTHONPATH=tests:. python tests/bench/store_postgres.py [ROUNDS [SECONDS]]

The unit is that of store.py: a ledger read, one more attempt counted in it, kept, and an entry on record. One PostgreSQL of
the wheel's, fsynced, on the same two cores; 16 units in flight.

- store: through `amend`, on two connections at most; each acknowledged after the disk has it.
- pool: 16 connections, each unit a SELECT and then one statement that keeps the value and inserts the entry. It compares nothing, so
  two at one ledger would lose one; and its entries are no chain. Goal: 1.0 of it or more; stretch 2.0.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator

import asyncpg
from bench.rows import Row, say
from bench.store import ENTRY, IN_FLIGHT, LEDGERS, NOW_MS, counted
from conftest import Postgres

from ivrguard.core.audit import GENESIS, link
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import codec
from ivrguard.stores.postgres import READ, PostgresStore

PEER = """
    WITH kept AS (
        INSERT INTO ivrguard_value (kind, id, data, expires_ms, rank) VALUES ($1, $2, $3, $4, NULL)
        ON CONFLICT (kind, id) DO UPDATE SET data = excluded.data, expires_ms = excluded.expires_ms
    )
    INSERT INTO bench_audit (data, hash) VALUES ($5, $6)
"""


async def in_flight(unit, seconds: float) -> float:
    """Units a second, 16 at once."""
    began, done = time.perf_counter(), 0

    async def caller(turn: int) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            turn += IN_FLIGHT
            await unit(Key("ledger", f"account-{turn % LEDGERS}"))
            done += 1

    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began)


async def ours(url: str, seconds: float) -> float:
    store = await PostgresStore.open(url, chance=secrets.token_bytes, connections_max=2)

    async def unit(key):
        def change(values):
            return Change(None, (Put(key, counted(values[key] or Ledger()), NOW_MS),), (ENTRY,))

        await store.amend([key], change)

    try:
        await unit(Key("ledger", "warm"))
        return await in_flight(unit, seconds)
    finally:
        await store.close()


async def theirs(url: str, seconds: float) -> float:
    async with asyncpg.create_pool(url, min_size=IN_FLIGHT, max_size=IN_FLIGHT) as pool:

        async def unit(key):
            async with pool.acquire() as connection:
                found = await connection.fetchval(READ, key.kind, key.id.encode())
                data = codec.encode(key, counted(codec.decode(key, found) if found else Ledger()))
                linked = link(1, GENESIS, ENTRY)
                entry = codec.encode_entry(linked)
                await connection.execute(PEER, key.kind, key.id.encode(), data, NOW_MS, entry, linked.hash)

        await asyncio.gather(*(unit(Key("ledger", f"warm{number}")) for number in range(IN_FLIGHT)))
        return await in_flight(unit, seconds)


def rows(rounds: int, seconds: float = 1.0) -> Iterator[Row]:
    """The PostgreSQL store beside the pool."""
    server = Postgres(fsync=True)
    try:
        url = server.url()
        schema = url.rpartition("=")[2]
        server.sql(f"CREATE TABLE {schema}.bench_audit (seq bigserial PRIMARY KEY, data bytea, hash text)")
        pooled, stored = [], []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: store on PostgreSQL")
            pooled.append(asyncio.run(theirs(url, seconds)))
            stored.append(asyncio.run(ours(url, seconds)))
    finally:
        server.close()
    yield Row.of(
        "amendments a second, 16 in flight, fsynced, PostgreSQL",
        "asyncpg pool, one read and one statement each",
        stored,
        pooled,
        1.0,
        2.0,
    )


def main(rounds: int = 7, seconds: float = 1.0) -> None:
    for row in rows(rounds, seconds):
        print(f"store {row.ours:.0f}/s, pool {row.theirs:.0f}/s: median {row.ratio:.2f}")
        print(f"from {row.ratios[0]:.2f} to {row.ratios[-1]:.2f}")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
