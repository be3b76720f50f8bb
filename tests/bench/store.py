"""
How fast the SQLite store is, against the least that the same work needs on the same disk.

    PYTHONPATH=. python tests/bench/store.py [ROUNDS [SECONDS [FOLDER]]]

One unit reads a ledger, counts one more attempt in it, keeps it and puts an entry on record.

- store: through `amend`, 16 in flight, each acknowledged after the disk has it.
- loop: the same unit in a plain loop over sqlite3, 16 to a transaction, `synchronous=FULL`: the same tables, codec
  and chain, but nobody waits for anything, nothing can fail, and nothing is kept apart. Goal: 0.6 of it or more.
- bare: that loop with ready-made bytes; nothing decoded, decided, encoded or hashed. For comparison only.

Rounds are short and the three take turns, because a disk has moods; ratios are medians of the rounds' ratios.
"""

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ivrguard.core.audit import Entry, canonical, link
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import codec, sqlite

IN_FLIGHT = 16
LEDGERS = 4096
NOW_MS = 1_795_000_000_000
ENTRY = Entry(NOW_MS, "authn_login_fail", call="CA" + "5" * 32, account="0" * 32, reason="wrong_pin")


def counted(ledger):
    """The ledger with one more attempt: five are kept, as with an ordinary rule."""
    attempts = (*ledger.attempts[-4:], Attempt("a" * 32, NOW_MS))
    return Ledger(attempts=attempts, steps=ledger.steps, run=ledger.run + 1)


def plain(path, seconds, *, bare):
    """Units a second of the plain loop."""
    sqlite.migrate(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    data = codec.encode(Key("ledger", "x"), Ledger(attempts=(Attempt("a" * 32, NOW_MS),) * 5, run=5))
    record = canonical(1, ENTRY)
    execute = connection.execute
    began, units = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        execute("BEGIN IMMEDIATE")
        seq, hash_ = execute(sqlite.HEAD).fetchone()
        for _ in range(IN_FLIGHT):
            seq += 1
            key = Key("ledger", f"account-{seq % LEDGERS}")
            found = execute(sqlite.READ, (key.kind, key.id)).fetchone()
            if not bare:
                data = codec.encode(key, counted(codec.decode(key, found[0]) if found else Ledger()))
                linked = link(seq, hash_, ENTRY)
                record, hash_ = codec.encode_entry(linked), linked.hash
            execute(sqlite.KEEP, (key.kind, key.id, data, NOW_MS, None))
            execute(sqlite.RECORD, (seq, record, hash_))
        execute(sqlite.SET_HEAD, (seq, hash_))
        execute("COMMIT")
        units += IN_FLIGHT
    took = time.perf_counter() - began
    connection.close()
    return units / took


async def amendments(path, seconds, in_flight=IN_FLIGHT):
    """Units a second through the store."""
    store = await sqlite.SqliteStore.open(path, migrate=True)
    began, done = time.perf_counter(), 0

    async def caller(turn):
        nonlocal done
        while time.perf_counter() - began < seconds:
            turn += in_flight
            key = Key("ledger", f"account-{turn % LEDGERS}")

            def change(values, key=key):
                return Change(None, (Put(key, counted(values[key] or Ledger()), NOW_MS),), (ENTRY,))

            await store.amend([key], change)
            done += 1

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    took = time.perf_counter() - began
    await store.close()
    return done / took


def main(rounds=15, seconds=0.4, folder=None):
    with tempfile.TemporaryDirectory(dir=folder) as place:
        stores, to_loop, to_bare = [], [], []
        for number in range(1, rounds + 1):
            loop = plain(Path(place, "loop.db"), seconds, bare=False)
            store = asyncio.run(amendments(Path(place, "store.db"), seconds))
            bare = plain(Path(place, "bare.db"), seconds, bare=True)
            stores.append(store)
            to_loop.append(store / loop)
            to_bare.append(store / bare)
            print(
                f"round {number:2}: store {store:6.0f}/s   loop {loop:6.0f}/s   bare {bare:6.0f}/s   store/loop {store / loop:.2f}"
            )
        alone = asyncio.run(amendments(Path(place, "store.db"), seconds, in_flight=1))
    for name, ratios in (("loop", sorted(to_loop)), ("bare", sorted(to_bare))):
        print(
            f"store/{name}: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )
    print(
        f"store: median {statistics.median(stores):.0f} amendments/s with {IN_FLIGHT} in flight, {alone:.0f}/s with 1"
    )


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float, str), sys.argv[1:], strict=False)))
