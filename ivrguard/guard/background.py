"""
Messages that nobody waits for: started at once, bounded in number, never lost sight of.

A message beyond the bound is dropped and logged: a flood of calls must not become a flood of memory.
"""

import asyncio
from collections.abc import Coroutine

from ivrguard import log
from ivrguard.core.errors import Fault

BACKGROUND_MAX = 256

logger = log.get()


class Background:
    """A bounded set of running tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` without waiting; a fault in it, or a bug, is logged."""
        if len(self._running) >= BACKGROUND_MAX:
            work.close()
            logger.error("message_dropped", reason="background_full")
            return
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Fault as fault:
            logger.error("message_not_sent", reason=fault.reason, detail=str(fault))
        except Exception:  # a bug of ours: nobody waits for this work, so here is the only place to see it
            logger.exception("bug")

    async def drain(self) -> None:
        """Wait for all that were started."""
        while self._running:
            await asyncio.wait(self._running)
