"""
Rows about much at once: a store that holds a busy year, and fifty calls that guess at one account.

The full store and the empty one are two servers on one core that take turns. What fills the store is written as the store
writes it, by its own statements: calls that live, and ledgers of a million accounts.
"""

import asyncio
import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from bench import servers
from bench.existence import WRONG, account_id, fill
from bench.load import NUMBER, Over, call_sid, caller, run, target_in
from bench.rows import Row, say

from ivrguard.core.call import Call, Last, Question
from ivrguard.core.caller import address_of
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Key
from ivrguard.stores import codec, sqlite

CALLS = 100_000
LEDGERS = 1_000_000
AT_ONCE = 50
SECONDS = 1.5
DAY_MS = 86_400_000
BATCH = 10_000


def crowd(path: Path) -> None:
    """Put `CALLS` calls and `LEDGERS` ledgers into the file."""
    now_ms = time.time_ns() // 1_000_000
    address = address_of("+14155550123")
    one = Call(call_sid(0), "AC" + "5e" * 16, "bench", "0" * 16, address, NUMBER, False, now_ms)
    call = codec.encode(
        Key("call", "x"),
        Call(
            **{
                **{name: getattr(one, name) for name in Call.__dataclass_fields__},
                "question": Question("a" * 32),
                "last": Last("f" * 16, now_ms, "b" * 16, "s" * 700),
            }
        ),
    )
    ledger = codec.encode(Key("ledger", "x"), Ledger((Attempt("a" * 32, now_ms),) * 2, run=2))
    rows = itertools.chain(
        (("call", call_sid(number), call, now_ms + DAY_MS, now_ms + number) for number in range(CALLS)),
        (("ledger", f"{number:09}/pin/pool", ledger, now_ms + DAY_MS, None) for number in range(LEDGERS)),
    )
    with closing(sqlite3.connect(path)) as connection:
        while batch := list(itertools.islice(rows, BATCH)):
            with connection:
                connection.executemany(sqlite.KEEP, batch)


def rows(rounds: int) -> Iterator[Row]:
    """Both rows."""
    os.sched_setaffinity(0, {int(servers.LOAD_CORE)})
    fresh = itertools.count(int.from_bytes(os.urandom(6)) + CALLS)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        ports, folders = {}, {}
        ivr = stack.enter_context(servers.ivr(Path(place)))
        for name in ("empty", "full"):
            folders[name] = Path(place, name)
            folders[name].mkdir()
            with servers.guard(folders[name], ivr.port):
                pass
        say(f"filling a store with {CALLS:,} calls and {LEDGERS:,} ledgers")
        crowd(folders["full"] / "guard.db")
        asyncio.run(fill(folders["empty"] / "guard.db", rounds * 2))
        for name, folder in folders.items():
            ports[name] = stack.enter_context(servers.guard(folder, ivr.port)).port
        took: dict[str, list[float]] = {name: [] for name in ports}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: full and empty")
            for name, port in ports.items():
                post = servers.poster(port)
                counted = run(
                    port, lambda _n, _a, post=post: post.request("/", call_sid(next(fresh))), SECONDS, 1
                )
                took[name].append(counted.p50_ms)
        yield Row.of(
            f"a webhook with {CALLS:,} live calls and {LEDGERS:,} ledgers in the store; milliseconds",
            "the same, store empty",
            took["full"],
            took["empty"],
            1.2,
            1.05,
            most=True,
        )
        at_once, in_turn = [], []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: {AT_ONCE} calls guess")
            for found, account, connections in ((at_once, 2 * number, AT_ONCE), (in_turn, 2 * number + 1, 1)):
                sids = guessed(ports["empty"], account_id("known", account), connections, fresh)
                found.append(float(judged(folders["empty"] / "guard.db", sids)))
        yield Row.of(
            f"guesses judged when {AT_ONCE} calls guess at one account at once",
            "the same calls, one after the other",
            at_once,
            in_turn,
            1.0,
            1.0,
            most=True,
        )


def guessed(port: int, account: str, connections: int, fresh: Iterator[int]) -> set[str]:
    """
    Have `AT_ONCE` calls key a wrong PIN each into the account, so many at a time; the calls.

    They come from one number, and each account's from another one: what locks is the account, never the number.
    """
    post, waiting = servers.poster(port), [call_sid(next(fresh)) for _ in range(AT_ONCE)]
    number = caller(next(fresh))
    sids, state = set(waiting), {}

    def next_(connection: int, answer: bytes) -> bytes:
        sid, answers = state.get(connection, ("", 2))
        if answers >= 2:
            if not waiting:
                raise Over
            state[connection] = (waiting.pop(), 0)
            return post.request("/", state[connection][0], number)
        state[connection] = (sid, answers + 1)
        keyed = {"Digits": account if answers == 0 else WRONG, "msg": "Gather End"}
        return post.request(target_in(answer, servers.PUBLIC), sid, keyed | number)

    run(port, next_, 36_000, connections)
    return sids


def judged(path: Path, sids: set[str]) -> int:
    """How many guesses of these calls were judged: what is on record as answered wrong."""
    with closing(sqlite3.connect(path)) as connection:
        entries = connection.execute("SELECT seq, data, hash FROM audit")
        every = (codec.decode_entry(*entry).entry for entry in entries)
        return sum(
            one.event == "authn_login_fail" and one.reason == "wrong" and one.call in sids for one in every
        )
