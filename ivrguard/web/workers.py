"""
Several processes behind one port: a parent that starts them, and starts anew what dies.

The laws of this file:

1. The parent listens, and hands the socket down: all workers take from one queue of connections, so that none is lost
   while one of them ends or begins. The parent itself serves nothing and opens no store.
2. A worker that dies is started again, after a pause that doubles. One that dies `DEATHS_MAX` times in a row, each time
   within `LIVED_S`, ends all of it with a fault: whoever runs the parent should hear of that.
3. SIGTERM and SIGINT are passed on as SIGTERM (drain), SIGHUP as it is (read the flows anew). The parent ends when its
   workers have, and kills who has not after `STOP_S`.
4. A parent that is killed takes its workers along: each holds the reading end of a pipe whose other end only the parent
   has, and drains when it closes.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from ivrguard import log
from ivrguard.core.errors import Fault

DEATHS_MAX = 5
LIVED_S = 30.0
PAUSE_S = 0.5
STOP_S = 40.0
"""More than a worker's drain may take; see web/app.py."""

BACKLOG = 1024
"""Connections that wait to be taken."""

logger = log.get()


class WorkersFault(Fault):
    """Workers do not stay alive, or cannot listen."""

    reason = "workers"


class Command(Protocol):
    """How worker number `nr` (from 0) is started: its arguments, and its environment."""

    def __call__(self, nr: int, listening: int, parent: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """`listening`, `parent`: numbers of the open files that it inherits, the socket and the pipe."""


def listen(host: str, port: int) -> socket.socket:
    """The socket that all workers take connections from. Raises `WorkersFault` when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise WorkersFault(
            f"cannot listen on {host}, port {port} ({error.strerror}): stop what has it, or set another one"
        ) from None


class Workers:
    """`count` processes on one socket, kept alive until a signal says otherwise."""

    def __init__(self, command: Command, count: int, listening: socket.socket) -> None:
        self._command = command
        self._count = count
        self._listening = listening
        self._pipe, self._held = os.pipe()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._over = asyncio.Event()
        self._fault: WorkersFault | None = None

    async def run(self) -> None:
        """Until every worker has ended. Raises `WorkersFault` when they do not stay alive."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._tell, signal.SIGHUP)
        logger.info("workers", count=self._count, port=self._listening.getsockname()[1])
        try:
            async with asyncio.TaskGroup() as group:
                for nr in range(self._count):
                    group.create_task(self._keep(nr))
        finally:
            self._listening.close()
            os.close(self._pipe)
            os.close(self._held)
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Drain: nothing new is taken, and everybody finishes what is under way."""
        if self._over.is_set():
            return
        logger.info("draining")
        self._over.set()
        self._listening.close()
        self._tell(signal.SIGTERM)
        asyncio.get_running_loop().call_later(STOP_S, self._tell, signal.SIGKILL)

    def _tell(self, what: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):  # it has ended just now: the others hear of it all the same
                process.send_signal(what)

    async def _keep(self, nr: int) -> None:
        """One worker, started again for as long as it is wanted."""
        loop, deaths = asyncio.get_running_loop(), 0
        while not self._over.is_set():
            began = loop.time()
            handed = (self._listening.fileno(), self._pipe)
            arguments, environ = self._command(nr, *handed)
            process = await asyncio.create_subprocess_exec(*arguments, env=environ, pass_fds=handed)
            self._running[nr] = process
            if self._over.is_set():  # while it was being started
                process.terminate()
            code = await process.wait()
            del self._running[nr]
            if self._over.is_set():
                return
            deaths = 1 if loop.time() - began > LIVED_S else deaths + 1
            logger.error("worker_died", worker=nr, exit_status=code, deaths=deaths)
            if deaths >= DEATHS_MAX:
                self._fault = WorkersFault(
                    f"worker {nr} died {deaths} times in a row, the last time with {code}: its words are in the log above"
                )
                self.stop()
                return
            try:
                async with asyncio.timeout(PAUSE_S * 2 ** (deaths - 1)):
                    await self._over.wait()
            except TimeoutError:
                pass
