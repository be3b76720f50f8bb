"""Rows about PINs: what a call costs beside its hash, and what hashes do to everybody else."""

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from argon2 import PasswordHasher
from argon2.low_level import Type
from bench import servers
from bench.load import Over, call_sid, run, target_in
from bench.rows import Row, say
from bench.serving import Calls

SECONDS = 4.0
WEBHOOKS_A_CALL = 5
GUESSERS = 6


def hashes_per_s(seconds: float) -> float:
    """Verifications a second of one thread, on the core of the servers."""
    hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
    hash_ = hasher.hash(servers.PIN)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(servers.SERVER_CORE)})
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        hasher.verify(hash_, servers.PIN)
        done += 1
    took = time.perf_counter() - began
    os.sched_setaffinity(0, before)
    return done / took


def rows(rounds: int) -> Iterator[Row]:
    """Both rows."""
    os.sched_setaffinity(0, {int(servers.LOAD_CORE)})
    fresh = itertools.count(int.from_bytes(os.urandom(6)))
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        ivr = stack.enter_context(servers.ivr(folder))
        guard = stack.enter_context(servers.guard(folder, ivr.port, env={"IVRGUARD_HASH_THREADS": "1"}))
        post = servers.poster(guard.port)

        def whole_calls(seconds: float) -> float:
            """Calls a second of five webhooks and one hash each, one after the other, by the guard's own CPU time."""
            until, done, used = time.monotonic() + seconds, 0, guard.cpu_s()
            while time.monotonic() < until:
                calls = Calls(post, 1, fresh)
                answers = itertools.count()
                run(
                    guard.port,
                    lambda _, answer, calls=calls, answers=answers: _until(calls, answer, answers),
                    seconds,
                    1,
                )
                done += 1
            return done / (guard.cpu_s() - used)

        def _until(calls: Calls, answer: bytes, answers: Iterator[int]) -> bytes:
            if next(answers) >= WEBHOOKS_A_CALL:
                raise Over
            return calls.next(0, answer)

        calls_s, hashes_s = [], []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: whole calls")
            calls_s.append(whole_calls(SECONDS))
            hashes_s.append(hashes_per_s(SECONDS))
        yield Row.of(
            "verified calls (5 webhooks, 1 PIN) a second of the guard's own CPU time",
            "an argon2 verify loop on that core",
            calls_s,
            hashes_s,
            0.90,
            0.93,
        )

        busy, idle = [], []

        def new_call(_number: int, _answer: bytes) -> bytes:
            return post.request("/", call_sid(next(fresh)))

        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: hash pool")
            idle.append(run(guard.port, new_call, SECONDS, 2).quantile_ms(0.99))
            with _guessing(guard.port, fresh):
                busy.append(run(guard.port, new_call, SECONDS, 2).quantile_ms(0.99))
        yield Row.of(
            "p99 of webhooks without a hash, hash pool saturated; milliseconds",
            "the same, pool idle",
            busy,
            idle,
            1.5,
            1.2,
            most=True,
        )


class _guessing:  # noqa: N801 -- a context, named for what goes on inside
    """Callers who key PINs all the time, each into an account of his own that nobody has."""

    def __init__(self, port: int, fresh: Iterator[int]) -> None:
        self._port, self._fresh, self._over = port, fresh, threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        post = servers.poster(self._port)
        state: dict[int, tuple[str, int, str]] = {}

        def next_(number: int, answer: bytes) -> bytes:
            sid, answers, account = state.get(number, ("", 0, ""))
            if not answer or answers >= 2 or b'action="' not in answer:
                state[number] = (call_sid(next(self._fresh)), 0, f"{next(self._fresh) % 10**12:012}")
                return post.request("/", state[number][0])
            state[number] = (sid, answers + 1, account)
            keyed = account if answers == 0 else "10293847"
            return post.request(
                target_in(answer, servers.PUBLIC), sid, {"Digits": keyed, "msg": "Gather End"}
            )

        while not self._over.is_set():
            run(self._port, next_, 0.5, GUESSERS)
