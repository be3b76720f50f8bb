"""
PostgreSQL taken away from two nodes in the middle of calls: restarted as in a crash, stalled, out of connections.

While it is gone, callers answer, call and wait; each must hear the apology within Twilio's time, and nobody may be judged or let
through uncounted. Then it is back, and all goes on.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ivrguard.phone.exchange import Line
from tests.conftest import Postgres
from tests.faults.counts import APOLOGY, Count, said, settled
from tests.faults.house import Caller, House
from tests.faults.killed import Story
from tests.faults.nodes import DEADLINE_S


@dataclass
class Database:
    """
    A PostgreSQL, and an ordinary user of it who owns his tables and has only as many connections as he is given.

    `url`: where these tables are to be.
    """

    server: Postgres
    user: str = field(default_factory=lambda: f"guard_{secrets.token_hex(4)}")
    stopped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.sql(f"CREATE ROLE {self.user} LOGIN; CREATE SCHEMA {self.user} AUTHORIZATION {self.user}")
        where = f"postgresql://{self.user}@/postgres?host={self.server.data}&port={self.server.port}"
        self.url = f"{where}&search_path={self.user}"

    def drop(self) -> None:
        """Leave nothing."""
        self.server.sql(f"DROP SCHEMA {self.user} CASCADE; DROP ROLE {self.user}")

    def crash(self) -> None:
        """Stop it as a crash does: connections break, and what was not committed is gone."""
        self.server.stop(signal.SIGQUIT)

    def start(self) -> None:
        """Start it again: it recovers by itself."""
        self.server.start()

    def stall(self) -> None:
        """Stop every process of it: connections stay, and nothing comes over them."""
        assert self.server.process is not None
        every = [*_children(self.server.process.pid), self.server.process.pid]
        for pid in every:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self.stopped = every

    def go_on(self) -> None:
        """Let them run again."""
        for pid in reversed(self.stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped = []

    def take_connections(self) -> None:
        """The user may have no connection any more, and those that he has are ended."""
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.user}'"
        self.server.sql(f"ALTER ROLE {self.user} CONNECTION LIMIT 0; {ended}")

    def give_connections(self) -> None:
        """He may have as many as he likes again."""
        self.server.sql(f"ALTER ROLE {self.user} CONNECTION LIMIT -1")


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def taken_away(
    house: House, take: Callable[[], None], give_back: Callable[[], None], *, calls: int
) -> Count:
    """
    One third of the callers answer while it goes, one third while it is gone, one third call while it is gone.

    An answer that was counted when it went has no verdict, and stays counted: that is the safe side.
    """
    going, later, new = [[await house.caller() for _ in range(calls)] for _ in range(3)]
    lines = {caller.account: await house.asked_for_pin(caller) for caller in (*going, *later)}
    under_way = [asyncio.create_task(lines[caller.account].press(caller.wrong())) for caller in going]
    await asyncio.sleep(0)  # they are on their way
    await asyncio.to_thread(take)
    try:
        while_gone = [asyncio.create_task(lines[caller.account].press(caller.wrong())) for caller in later]
        ringing = [house.call(caller) for caller in new]
        await asyncio.gather(*under_way, *while_gone, *(line.until_input() for line in ringing))
    finally:
        await asyncio.to_thread(give_back)
    apologised = [caller for caller in (*going, *later) if _apologised(lines[caller.account])]
    found = Count()
    for line in ringing:
        if not _apologised(line) and not line.waiting:
            found.lost.append(f"{line.heard}: no apology")
    await _back(house)
    for caller in (*going, *later, *new):
        for line in caller.lines:
            if not line.over:
                await line.hang_up()
        await _once_more(house, caller)
    found += await settled(house, [*going, *later, *new], perhaps=len(apologised))
    return found


def _apologised(line: Line) -> bool:
    return APOLOGY in " ".join(said(line))


async def _back(house: House) -> None:
    """Wait until both nodes say that a caller would be let through."""
    end = time.monotonic() + DEADLINE_S
    while not all([await house.ready(node) for node in house.nodes]):
        assert time.monotonic() < end, "the nodes do not come back"
        await asyncio.sleep(0.1)


async def _once_more(house: House, caller: Caller) -> None:
    """A whole call of the same caller: it works as if nothing had been."""
    story = Story(house, caller)
    for act in Story.ACTS:
        await story.act(act)
