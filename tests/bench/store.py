"""
How fast the SQLite store is, against the least that the same disk and the same SQLite need.

    python tests/bench/store.py [ROUNDS [SECONDS]]

One unit reads a ledger, counts one more attempt in it, and puts an entry on record. The store does it through
`amend`, 16 in flight, each acknowledged after the disk has it. The reference is a plain loop over sqlite3: the
same tables, the same bytes, 16 units to a transaction, `synchronous=FULL`, nothing encoded, hashed or awaited.
Rounds alternate, because a machine has moods; the ratio is the median of the rounds' ratios.
"""

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ivrguard.core.audit import Entry, canonical
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import codec, sqlite

IN_FLIGHT = 16
LEDGERS = 4096
ENTRY = Entry(
    1_795_000_000_000, "authn_login_fail", call="CA" + "5" * 32, account="0" * 32, reason="wrong_pin"
)
NOW_MS = 1_795_000_000_000


def grown(ledger):
    return Ledger(
        attempts=(*ledger.attempts[-4:], Attempt("a" * 32, NOW_MS)), steps=ledger.steps, run=ledger.run + 1
    )


def raw(path, seconds):
    """Units a second of the plain loop."""
    sqlite.migrate(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    data = codec.encode(Key("ledger", "x"), Ledger(attempts=(Attempt("a" * 32, NOW_MS),) * 5, run=5))
    record = canonical(1, ENTRY)
    execute = connection.execute
    seq = connection.execute("SELECT max(seq) FROM audit").fetchone()[0] or 0
    began, first = time.perf_counter(), seq
    while time.perf_counter() - began < seconds:
        execute("BEGIN IMMEDIATE")
        execute(sqlite.HEAD).fetchone()
        for _ in range(IN_FLIGHT):
            seq += 1
            key = ("ledger", f"account-{seq % LEDGERS}")
            execute(sqlite.READ, key).fetchone()
            execute(sqlite.KEEP, (*key, data, NOW_MS, None))
            execute(sqlite.RECORD, (seq, record, "0" * 64))
        execute(sqlite.SET_HEAD, (seq, "0" * 64))
        execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return (seq - first) / took


async def ours(path, seconds, in_flight=IN_FLIGHT):
    """Units a second through the store."""
    store = await sqlite.SqliteStore.open(path, migrate=True)
    until = time.perf_counter() + seconds
    done = 0

    async def caller(number):
        nonlocal done
        turn = number
        while time.perf_counter() < until:
            turn += in_flight
            key = Key("ledger", f"account-{turn % LEDGERS}")

            def change(values, key=key):
                return Change(None, (Put(key, grown(values[key] or Ledger()), expires_ms=NOW_MS),), (ENTRY,))

            await store.amend([key], change)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    took = time.perf_counter() - began
    await store.close()
    return done / took


def main(rounds=9, seconds=1.0):
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for number in range(rounds):
            pair = (
                raw(Path(folder, "raw.db"), seconds),
                asyncio.run(ours(Path(folder, "ours.db"), seconds)),
            )
            pairs.append(pair)
            print(
                f"round {number + 1}: raw {pair[0]:7.0f}/s   store {pair[1]:7.0f}/s   ratio {pair[1] / pair[0]:.2f}"
            )
        alone = asyncio.run(ours(Path(folder, "ours.db"), seconds, in_flight=1))
    ratios = sorted(store / reference for reference, store in pairs)
    print(
        f"{IN_FLIGHT} in flight: median ratio {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f}),"
    )
    print(
        f"median {statistics.median(store for _, store in pairs):.0f} amendments/s; 1 in flight: {alone:.0f}/s"
    )


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
