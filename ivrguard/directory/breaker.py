"""
Whether it makes sense to ask somebody who has just failed: a circuit breaker, one for each kind of request.

A caller waits 15 seconds at most. Somebody who does not answer is given time to recover, and callers their apology at
once (https://learn.microsoft.com/en-us/azure/architecture/patterns/circuit-breaker). It holds a state and no clock.
"""

from enum import Enum

FAULTS_MAX = 5
OPEN_MS = 10_000


class State(Enum):
    """Of a circuit: CLOSED lets all through, OPEN nothing, HALF_OPEN one, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """
    Opens after `faults_max` faults in a row; `open_ms` later lets one request through, whose answer closes it. If that
    one has no answer, or none is heard of it, the next may try `open_ms` after it.
    """

    def __init__(self, *, faults_max: int = FAULTS_MAX, open_ms: int = OPEN_MS) -> None:
        self._faults_max = faults_max
        self._open_ms = open_ms
        self._faults = 0
        self._opened_ms: int | None = None

    def state(self, now_ms: int) -> State:
        """What it is now."""
        if self._opened_ms is None:
            return State.CLOSED
        # A clock that was set back does not keep it open.
        return State.OPEN if 0 <= now_ms - self._opened_ms < self._open_ms else State.HALF_OPEN

    def admits(self, now_ms: int) -> bool:
        """Whether a request may go out now. Half-open, the one that asks first is the one."""
        state = self.state(now_ms)
        if state is State.HALF_OPEN:
            self._opened_ms = now_ms
        return state is not State.OPEN

    def answered(self) -> bool:
        """There was an answer: all is well. Whether that has closed it."""
        closed = self._opened_ms is not None
        self._faults, self._opened_ms = 0, None
        return closed

    def failed(self, now_ms: int) -> bool:
        """
        There was none. Whether that has opened it.

        Of requests that were under way when it opened, it does not stay open for longer.
        """
        self._faults += 1
        opened = self._opened_ms is None and self._faults >= self._faults_max
        if opened:
            self._opened_ms = now_ms
        return opened
