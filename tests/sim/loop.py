"""
Time that is made up, and an order that is always the same.

1. An event loop of asyncio's own make, with its selector taken out: where the real one would sleep, this one moves its
   clock to the next thing that is due. A night costs what happens in it.
2. Nothing runs beside it. What asks for a thread is done here and now, so there is no race that a seed does not decide;
   what would take time there takes it on the clock, where whoever makes the work says so.
3. Where nothing is due and nobody can go on, it says so at once: a hang is a failure, not a time-out.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

RESOLUTION_S = 1e-6


class Stuck(Exception):
    """Somebody waits for what can never come."""


class Inline(Executor):
    """A pool of threads that has none: work is done by whoever hands it in."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(work(*args, **named))
        except Exception as error:  # noqa: BLE001 -- whoever waits for the work gets it
            future.set_exception(error)
        return future


class _NoSelector:
    """What asyncio waits with."""

    def __init__(self, loop: "SimLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list:
        self._loop.pass_time(timeout)
        return []

    def close(self) -> None:
        pass


class SimLoop(asyncio.BaseEventLoop):
    """`now_s`: seconds since the run began."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector = _NoSelector(self)
        self._clock_resolution = RESOLUTION_S
        self._here = Inline()

    def time(self) -> float:
        return self.now_s

    def pass_time(self, timeout: float | None) -> None:
        if timeout is None:
            raise Stuck("nothing is due, and nobody can go on")
        if timeout > 0:
            self.now_s = max(self.now_s, self._scheduled[0]._when)

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future:
        return asyncio.wrap_future(self._here.submit(func, *args), loop=self)

    def _process_events(self, event_list: list) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
