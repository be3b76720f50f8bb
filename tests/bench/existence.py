"""
Nobody learns who exists (promise 6), measured: answers to callers of known, unknown and locked accounts.

Each caller keys an account and a wrong PIN. The documents must be the same to the byte, links and turns aside; a
classifier on the times of the answers alone should do no better than chance: AUC 0.5 (Mann and Whitney: how often a
time of one side is the longer one, ties counted half). Sides take turns, call by call, over one connection, and each call
comes from a number of its own: one number's wrong answers would lock the number, and everybody would be judged for show.
"""

import asyncio
import itertools
import os
import re
import statistics
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.load import Over, call_sid, caller, run, target_in
from bench.rows import say

from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Account, Change, Key, Put
from ivrguard.stores.sqlite import SqliteStore

SIDES = ("known", "unknown", "locked")
RUNS = 5
LINK = re.compile(rb'https?://[^"<]*')
WRONG = "10293847"
FAILURES = 5


def account_id(side: str, number: int) -> str:
    """An account of a side."""
    return f"{SIDES.index(side) + 1}{number:08}"


async def fill(path: Path, count: int) -> None:
    """Known and locked accounts, all with the hash of the one that is there; the locked ones' ledgers full."""
    store = await SqliteStore.open(path)
    key: Key[Account] = Key("account", servers.ACCOUNT)
    one = await store.read(key)
    assert one is not None
    now_ms = time.time_ns() // 1_000_000
    for begin in range(0, count, 500):
        puts = []
        for number in range(begin, min(begin + 500, count)):
            for side in ("known", "locked"):
                name = account_id(side, number)
                puts.append(Put(Key("account", name), Account(name, (), one.credentials)))
            name = f"{account_id('locked', number)}/pin/pool"
            puts.append(Put(Key("ledger", name), full(now_ms)))
        await store.amend([put.key for put in puts], lambda _, puts=puts: Change(None, tuple(puts)))
    await store.close()


def full(now_ms: int) -> Ledger:
    """A ledger that is locked for as long as the bench runs: the third lock, of a day."""
    return Ledger(
        tuple(Attempt(f"{number:032x}", now_ms) for number in range(FAILURES)), steps=2, run=FAILURES
    )


def auc(one: Sequence[float], other: Sequence[float]) -> float:
    """How often a time of `one` is longer than one of `other`."""
    ordered = sorted(other)
    wins = sum((bisect_left(ordered, time_s) + bisect_right(ordered, time_s)) / 2 for time_s in one)
    return wins / (len(one) * len(other))


def measured(
    port: int, calls: int, begin: int, fresh: Iterator[int]
) -> tuple[dict[str, list[float]], dict[str, Counter[bytes]]]:
    """The time of the answer to the PIN, and everything that was said and how often, by side."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    said: dict[str, Counter[bytes]] = {side: Counter() for side in SIDES}
    post = servers.poster(port)
    turn = [(side, number) for number in range(begin, begin + calls) for side in SIDES]
    place, answers, sid, asked_at = -1, 2, "", 0.0
    number: dict[str, str] = {}

    def next_(_number: int, answer: bytes) -> bytes:
        nonlocal place, answers, sid, asked_at, number
        if answer and place >= 0:
            side = turn[place][0]
            said[side][b"%d " % answers + LINK.sub(b"link", answer)] += 1
            if answers == 2:
                times[side].append(time.perf_counter() - asked_at)
            else:
                answers += 1
                keyed = account_id(*turn[place]) if answers == 1 else WRONG
                fields = {"Digits": keyed, "msg": "Gather End"} | number
                request = post.request(target_in(answer, servers.PUBLIC), sid, fields)
                asked_at = time.perf_counter()
                return request
        place, answers, one = place + 1, 0, next(fresh)
        sid, number = call_sid(one), caller(one)
        if place == len(turn):
            raise Over
        return post.request("/", sid, number)

    run(port, next_, 36_000, 1)
    return times, said


def report(calls: int) -> str:
    """What came out, in Markdown. `calls` a side, all runs together."""
    every, calls = calls, -(-calls // RUNS)
    os.sched_setaffinity(0, {int(servers.LOAD_CORE)})
    fresh = itertools.count(int.from_bytes(os.urandom(6)))
    found: dict[tuple[str, str], list[float]] = {pair: [] for pair in itertools.combinations(SIDES, 2)}
    words: dict[str, Counter[bytes]] = {side: Counter() for side in SIDES}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        ivr = stack.enter_context(servers.ivr(folder))
        with servers.guard(folder, ivr.port):
            pass
        say(f"filling the store with {2 * RUNS * calls} accounts")
        asyncio.run(fill(folder / "guard.db", RUNS * calls))
        guard = stack.enter_context(servers.guard(folder, ivr.port))
        for number in range(RUNS):
            say(f"run {number + 1} of {RUNS}: {calls} calls a side")
            times, said = measured(guard.port, calls, number * calls, fresh)
            for side in SIDES:
                words[side] += said[side]
            for (one, other), areas in found.items():
                areas.append(auc(times[one], times[other]))
    lines = ["| sides | AUC of the time of the answer to the PIN | runs |", "| --- | --- | --- |"]
    for (one, other), areas in found.items():
        runs = ", ".join(f"{area:.3f}" for area in areas)
        lines.append(f"| {one} / {other} | {statistics.median(areas):.3f} | {runs} |")
    return "\n".join(
        [*lines, "", f"{every:,} calls a side in {RUNS} runs. What was said: {_compared(words)}"]
    )


def _compared(words: dict[str, Counter[bytes]]) -> str:
    """Whether all sides heard the same, and equally often; otherwise each document that they did not, and how often it was heard."""
    apart = [one for one in set().union(*words.values()) if len({words[side][one] for side in SIDES}) > 1]
    if not apart:
        return "the same for all three, to the byte, links aside."
    counts = (
        f"- {', '.join(f'{side} {words[side][one]:,}' for side in SIDES)}: `{re.sub(r'<[^>]*>', ' ', one.decode())}`"
        for one in sorted(apart)
    )
    return "\n".join(["**not the same**:", "", *counts])
