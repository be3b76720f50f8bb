"""
Nodes: `ivrguard serve` processes on one store, and the road that webhooks take to them.

A node is killed, stopped and started anew by its pid. The road stands for the provider: it delivers a request to one
node, and where the connection breaks it delivers the very same bytes again, to another one or to the same.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
from yarl import URL

from ivrguard.keyring import Keyring

ROOT = Path(__file__).parents[2]
DEADLINE_S = 40.0
"""How long anything here is waited for: many times what it takes."""


async def until(true: Callable[[], object], what: str, deadline_s: float = 0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + (deadline_s or DEADLINE_S)
    while not true():
        assert time.monotonic() < end, f"it took too long: {what}"
        await asyncio.sleep(0.01)


class Nursery:
    """The process that starts all the others: launcher.py. Its children are reaped by it."""

    def __init__(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launcher.py"))],
            cwd=ROOT,
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()

    def _ask(self, asked: Mapping[str, object]) -> int:
        with self._lock:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def start(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        """Start `ivrguard` with these arguments; its pid."""
        return self._ask({"start": list(arguments), "env": dict(env), "log": str(log)})

    def ended(self, pid: int) -> int:
        """The exit code of a child that is dying; -9 if it was killed."""
        end = time.monotonic() + DEADLINE_S
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        return self._ask({"wait": pid})

    def run(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        """Run a command to its end; its exit code."""
        return self.ended(self.start(arguments, env, log))


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of a house, as settings and as a keyring."""

    sealing: bytes
    pepper: bytes
    naming: bytes
    signing: bytes

    @classmethod
    def new(cls) -> Self:
        return cls(*(secrets.token_bytes(32) for _ in range(4)))

    def env(self) -> dict[str, str]:
        def said(name: str, key: bytes) -> str:
            return f"{name}={b64encode(key).decode()}"

        return {
            "IVRGUARD_SEALING_KEYS": said("k1", self.sealing),
            "IVRGUARD_PEPPERS": said("p1", self.pepper),
            "IVRGUARD_NAMING_KEYS": said("n1", self.naming),
            "IVRGUARD_SIGNING_KEYS": said("s1", self.signing),
        }

    def ring(self) -> Keyring:
        return Keyring(
            sealing={"k1": self.sealing},
            peppers={"p1": self.pepper},
            naming={"n1": self.naming},
            signing={"s1": self.signing},
        )


@dataclass
class Node:
    """One server process: where it listens, what it is told, its log. `weak`: the planted fault that it runs with."""

    name: str
    nursery: Nursery
    env: Mapping[str, str]
    folder: Path
    weak: str = ""
    pid: int = 0
    port: int = 0
    ops_port: int = 0
    starts: int = 0
    plans: int = 0
    exits: list[int] = field(default_factory=list)

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.{self.starts}.log"

    @property
    def clock(self) -> Path:
        return self.folder / f"{self.name}.clock"

    @property
    def _plan(self) -> Path:
        return self.folder / f"{self.name}.plan"

    def said(self) -> list[dict[str, object]]:
        """The log of the process that runs now, or ran last."""
        found = []
        for line in self._log.read_text().splitlines() if self._log.exists() else ():
            with contextlib.suppress(
                ValueError
            ):  # a line that is being written, or was cut short by a full disk
                found.append(json.loads(line))
        return found

    def has_said(self, event: str) -> bool:
        return any(line.get("event") == event for line in self.said())

    async def start(self) -> None:
        """Start the process and wait until it serves."""
        self.starts += 1
        env = {
            **self.env,
            "FAULTS_PLAN": str(self._plan),
            "FAULTS_CLOCK": str(self.clock),
            **({"FAULTS_WEAK": self.weak} if self.weak else {}),
        }
        self.pid = self.nursery.start(["serve"], env, self._log)
        await until(lambda: self.has_said("serving") or not self.alive(), f"{self.name} serves: {self._log}")
        assert self.alive(), self._log.read_text()
        (serving,) = [line for line in self.said() if line["event"] == "serving"]
        self.port, self.ops_port = int(str(serving["port"])), int(str(serving["ops_port"]))

    def alive(self) -> bool:
        """Whether the process runs (one that is dead and not yet reaped does not)."""
        return self.state() not in {"", "Z"}

    def state(self) -> str:
        """As the kernel calls it: R, S, D, T (stopped), Z; "" if there is no such process."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    def dies_at(self, step: str, nth: int = 1, by: signal.Signals = signal.SIGKILL) -> None:
        """Have it killed (or stopped) when it comes to this step of a webhook for the n-th time from now on."""
        self.plans += 1
        self._planned({"id": f"{self.plans}", "step": step, "nth": nth, "signal": int(by)})

    def traces(self, file: Path) -> None:
        """Have it write down the steps that it comes to."""
        self._planned({"trace": str(file)})

    def logs_to(self, file: Path | None) -> None:
        """Have its standard error lead elsewhere, from the next step on, or to its log again."""
        self._planned({"stderr": str(file or self._log)})

    def _planned(self, plan: Mapping[str, object]) -> None:
        self._plan.with_suffix(".new").write_text(json.dumps(plan))
        self._plan.with_suffix(".new").rename(self._plan)

    def lives(self) -> None:
        """No step does anything to it any more."""
        self._plan.unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end, which must have been begun; its exit code."""
        self.exits.append(await asyncio.to_thread(self.nursery.ended, self.pid))
        self.pid = 0
        return self.exits[-1]

    async def stop(self) -> None:
        """End it, if it runs."""
        self.lives()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
            await self.ended()


class GaveUpError(Exception):
    """An answer that nobody waits for any more."""


async def _the_next(at: int) -> int:
    return at + 1


class Road:
    """
    What `Exchange` takes for its session: requests go to the nodes by `first`, and again to another one when the
    connection breaks without an answer, as often as `tries` says. `retried`: how many were. `give_up`: when it is set, the
    answer that is waited for then is waited for no longer.
    """

    def __init__(self, nodes: Sequence[Node], session: aiohttp.ClientSession) -> None:
        self.nodes = nodes
        self.first: Callable[[], int] = lambda: 0
        self.again: Callable[[int], Awaitable[int]] = _the_next
        self.tries = 2
        self.give_up: asyncio.Event | None = None
        self.retried = 0
        self._session = session
        self.cookie_jar = session.cookie_jar

    @contextlib.contextmanager
    def leading(
        self,
        first: Callable[[], int] | None = None,
        again: Callable[[int], Awaitable[int]] | None = None,
        *,
        tries: int = 0,
    ) -> Iterator[None]:
        """Lead otherwise for a while; afterwards, and whatever happens, it leads as before: the next fault finds nothing of this one."""
        before = self.first, self.again, self.tries
        self.first, self.again, self.tries = first or self.first, again or self.again, tries or self.tries
        try:
            yield
        finally:
            self.first, self.again, self.tries = before

    def by_turns(self) -> contextlib.AbstractContextManager[None]:
        """Lead to each node in turn for a while."""
        turns = itertools.count()
        return self.leading(lambda: next(turns))

    @contextlib.asynccontextmanager
    async def request(self, method: str, url: URL, **named: object) -> AsyncIterator[aiohttp.ClientResponse]:
        """See `aiohttp.ClientSession.request`."""
        at = self.first()
        for attempt in range(self.tries):
            node = self.nodes[at % len(self.nodes)]
            there = URL(f"http://127.0.0.1:{node.port}{url.raw_path_qs}", encoded=True)
            try:
                response = await self._impatiently(self._session.request(method, there, **named))  # type: ignore[arg-type]  # as they came
            except (aiohttp.ClientError, GaveUpError):
                if attempt + 1 == self.tries:
                    raise
                self.retried += 1
                at = await self.again(at)
                continue
            async with response:
                yield response
            return

    async def _impatiently(self, asked: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        if self.give_up is None:
            return await asked
        answer, enough = asyncio.ensure_future(asked), asyncio.ensure_future(self.give_up.wait())
        await asyncio.wait({answer, enough}, return_when=asyncio.FIRST_COMPLETED)
        enough.cancel()
        if answer.done():
            return answer.result()
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        self.give_up = None
        raise GaveUpError
