"""
Rows measured over sockets: the guard beside its bare peers, one server process on one core, load on the other.

Every row's servers are up at once and take turns, round after round; a ratio is the median of the rounds' ratios.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.load import Counted, Next, Poster, call_sid, run, target_in
from bench.rows import Row, say

SECONDS = 1.5
CONNECTIONS = 16
READY = 256


class Calls:
    """Calls that are followed link by link, one a connection: account, PIN, then key 1 in every menu."""

    def __init__(self, post: Poster, count: int, fresh: Iterator[int]) -> None:
        self._post = post
        self._calls = [
            {"sid": call_sid(next(fresh)), "target": "/", "answers": 0, "last": b""} for _ in range(count)
        ]

    def verify(self, port: int) -> None:
        """Prove each caller, one after the other: guesses of one account at the same moment would lock it."""
        for number in range(len(self._calls)):
            while self._calls[number]["answers"] < 4:
                run(port, lambda _, answer, number=number: self.next(number, answer), 0.05, 1)

    def next(self, number: int, answer: bytes) -> bytes:
        """See `load.Next`."""
        call = self._calls[number]
        if answer:
            call["target"] = target_in(answer, servers.PUBLIC)
            call["answers"] += 1
        elif call["last"]:
            return call["last"]
        keyed = {0: None, 1: servers.ACCOUNT, 2: servers.PIN}.get(call["answers"], "1")
        extra = {"Digits": keyed, "msg": "Gather End"} if keyed else None
        call["last"] = self._post.request(call["target"], call["sid"], extra)
        return call["last"]


def cycling(requests: list[bytes]) -> Next:
    """The same requests again and again."""
    turn = itertools.cycle(requests)
    return lambda _number, _answer: next(turn)


def rows(rounds: int) -> Iterator[Row]:
    """Every row of this file."""
    os.sched_setaffinity(0, {int(servers.LOAD_CORE)})
    fresh = itertools.count(int.from_bytes(os.urandom(6)))
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        start = stack.enter_context
        ivr = start(servers.ivr(folder))
        ports = {
            "guard": start(servers.guard(folder, ivr.port)).port,
            "static": start(servers.peer("aiohttp_static.py")).port,
            "proxy": start(servers.peer("aiohttp_proxy.py", str(ivr.port))).port,
            "fastapi": start(servers.fastapi()).port,
            "ivr": ivr.port,
        }
        if servers.has_node():
            ports["express"] = start(servers.express()).port
        else:
            say("node or npm is missing: no row against Express")
        post = servers.poster(ports["guard"])
        usual = [post.request("/", call_sid(number)) for number in range(READY)]
        forged = [post.forged("/", call_sid(number)) for number in range(READY)]
        calls = Calls(post, CONNECTIONS, fresh)
        calls.verify(ports["guard"])

        def new_call(_number: int, _answer: bytes) -> bytes:
            return post.request("/", call_sid(next(fresh)))

        work: dict[str, Callable[[], Counted]] = {
            "answers itself": lambda: run(ports["guard"], new_call, SECONDS, CONNECTIONS),
            "static": lambda: run(ports["static"], cycling(usual), SECONDS, CONNECTIONS),
            "fastapi": lambda: run(ports["fastapi"], cycling(usual), SECONDS, CONNECTIONS),
            "forged": lambda: run(ports["guard"], cycling(forged), SECONDS, CONNECTIONS, b"403"),
            "passes through": lambda: run(ports["guard"], calls.next, SECONDS, CONNECTIONS),
            "proxy": lambda: run(ports["proxy"], cycling(usual), SECONDS, CONNECTIONS),
            "one: guard": lambda: run(ports["guard"], calls.next, SECONDS, 1),
            "one: proxy": lambda: run(ports["proxy"], cycling(usual), SECONDS, 1),
            "one: ivr": lambda: run(ports["ivr"], cycling(usual), SECONDS, 1),
        }
        if "express" in ports:
            work["express"] = lambda: run(ports["express"], cycling(usual), SECONDS, CONNECTIONS)
        found: dict[str, list[Counted]] = {name: [] for name in work}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name, measure in work.items():
                found[name].append(measure())

    def per_s(name: str) -> list[float]:
        return [one.per_s for one in found[name]]

    def p50_ms(name: str) -> list[float]:
        return [one.p50_ms for one in found[name]]

    itself = "guard answers itself: signature, state read, write and audit fsynced (SQLite), log; requests a second"
    if "express" in found:
        yield Row.of(
            itself,
            "Express + `twilio.webhook()`, static answer",
            per_s("answers itself"),
            per_s("express"),
            1.0,
            1.3,
        )
    yield Row.of(
        itself,
        "FastAPI + uvicorn + twilio's validator, static answer",
        per_s("answers itself"),
        per_s("fastapi"),
        1.3,
        1.6,
    )
    yield Row.of(
        itself, "bare aiohttp handler, static answer", per_s("answers itself"), per_s("static"), 0.24, 0.32
    )
    yield Row.of(
        "pass-through of a verified call: checked, re-signed, document rewritten; requests a second",
        "bare aiohttp `ClientSession` reverse proxy",
        per_s("passes through"),
        per_s("proxy"),
        0.55,
        0.85,
    )
    direct = p50_ms("one: ivr")
    added = [ours - least for ours, least in zip(p50_ms("one: guard"), direct, strict=True)]
    theirs = [proxy - least for proxy, least in zip(p50_ms("one: proxy"), direct, strict=True)]
    yield Row.of(
        "p50 added over the direct IVR, 1 connection; milliseconds",
        "the p50 that the bare proxy adds",
        added,
        theirs,
        1.6,
        1.2,
        most=True,
    )
    yield Row.of(
        "forged requests refused a second",
        "bare aiohttp handler, static answer",
        per_s("forged"),
        per_s("static"),
        0.5,
        0.6,
    )
