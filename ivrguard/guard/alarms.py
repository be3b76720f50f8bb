"""
The risk team told: every way to it, tried until it takes a notice.

The laws of this file:

1. Nobody waits for it. At most `NOTICES_MAX` are on their way at once; one more is dropped, and the log says so.
2. What is not taken is sent again after each of `RETRIES_S`, with the same id, so that a receiver knows it again. What no
   try delivered is in the log; what it was about is in the record in any case. A process that ends does not try again.
3. One way that fails holds up no other one.
4. What nobody acknowledges goes further: to the `next` contacts too, as many of them as whoever tells it says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ivrguard import log
from ivrguard.core.errors import NotifyFault
from ivrguard.ports import Alarm, Notice

NOTICES_MAX = 64
RETRIES_S = (2, 10, 60, 300, 1800)
DRAIN_S = 3.0
"""At the end of the process what is on its way has so long."""

logger = log.get()


class RiskTeam:
    """
    Tells every one of `ways`, and of `next_`, the contacts behind them, as many as are wanted.

    `wait`: how to wait between tries, in seconds.
    """

    def __init__(
        self,
        ways: Sequence[Alarm],
        next_: Sequence[Alarm] = (),
        *,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ways = tuple(ways)
        self._next = tuple(next_)
        self._wait = wait
        self._running: set[asyncio.Task[None]] = set()

    def tell(self, notice: Notice, further: int = 0) -> None:
        """Have it told, without waiting. `further`: how many of the next contacts are told too."""
        for way in (*self._ways, *self._next[:further]):
            if len(self._running) >= NOTICES_MAX:
                hint = f"{NOTICES_MAX} are on their way"
                logger.error("alert_dropped", alert=notice.id, to=way.name, hint=hint)
                continue
            task = asyncio.get_running_loop().create_task(self._deliver(way, notice))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _deliver(self, way: Alarm, notice: Notice) -> None:
        for wait_s in (*RETRIES_S, None):  # pragma: no branch -- the last try ends it
            try:
                await way.send(notice)
            except NotifyFault as fault:
                logger.warning(
                    "alert_not_taken", alert=notice.id, to=way.name, why=fault.why, detail=str(fault)
                )
                if wait_s is None or fault.why == "gone":
                    break
                await self._wait(wait_s)
            else:
                logger.info("alert_sent", alert=notice.id, to=way.name)
                return
        logger.error(
            "alert_lost", alert=notice.id, to=way.name, hint="nobody there was told; the record has it"
        )

    async def close(self) -> None:
        """Give what is on its way a moment; what still waits for another try is lost, and the log says so."""
        if self._running:
            await asyncio.wait(self._running, timeout=DRAIN_S)
        left = tuple(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            logger.error("alerts_lost", count=len(left), hint="the process ended before they were taken")
        for way in (*self._ways, *self._next):
            await way.close()
