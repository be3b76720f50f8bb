"""
Every fault, in the order of docs/reliability.md: what it is, how it is injected, and what is run.

Sizes: `page` is what the page shows; `ci` and `plain` are what the suite can afford, of the same.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Postgres
from tests.faults import around, database, killed, machine, together
from tests.faults.counts import NO_MESSAGE, NO_RECEIPT, Count
from tests.faults.database import Database
from tests.faults.disk import Disk, small_disk
from tests.faults.house import House, InPostgres, InSqlite, house
from tests.faults.killed import Cut
from tests.faults.nodes import Nursery
from tests.faults.others import Carrier, Ivr

STALLS = tuple(
    itertools.starmap(
        Cut,
        (
            ("agent", "after the act", 5),
            ("wrong", "after the judge", 1),
            ("right", "after the IVR", 1),
            ("agent", "before the answer", 3),
            ("wrong", "after the act", 1),
            ("right", "before the IVR", 1),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class At:
    """
    Where a fault is run, and at what size: "page", "ci" or "plain".

    `disk`: that of the SQLite store; `database`: the PostgreSQL, where the store is there.
    """

    house: House
    size: str
    disk: Disk
    database: Database | None = None

    def of(self, page: int, ci: int, plain: int) -> int:
        """As many as the size allows."""
        return {"page": page, "ci": ci, "plain": plain}[self.size]

    def some(self, cuts: Sequence[Cut], ci: int, plain: int) -> Sequence[Cut]:
        """All of them, or so many from one end to the other."""
        many = self.of(len(cuts), ci, plain)
        return [cuts[number * len(cuts) // many] for number in range(many)]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One row. `known`: what is lost, and cannot be otherwise: see the page. `plain`: whether every run has it.

    `postgres`: whether two nodes share a PostgreSQL, instead of a SQLite file.
    """

    name: str
    how: str
    run: Callable[[At], Awaitable[Count]]
    known: tuple[str, ...] = ()
    plain: bool = False
    postgres: bool = False


async def _killed(at: At) -> Count:
    acts = [act for act in killed.Story.ACTS if act != "redeem"]
    return await killed.killed(at.house, at.some(await killed.steps(at.house, acts), 20, 2))


async def _killed_at_some(at: At, page: int, ci: int) -> Count:
    cuts = await killed.steps(at.house)
    many = at.of(page, ci, 2)
    return await killed.killed(at.house, [cuts[number * len(cuts) // many] for number in range(many)])


async def _taken_away(at: At, take: str, give_back: str) -> Count:
    assert at.database is not None
    calls = at.of(10, 4, 2)
    return await database.taken_away(
        at.house, getattr(at.database, take), getattr(at.database, give_back), calls=calls
    )


async def _killed_redeeming(at: At) -> Count:
    return await killed.killed(at.house, at.some(await killed.steps(at.house, ["redeem"]), 2, 1))


async def _forsaken(at: At) -> Count:
    every = [
        cut
        for cut in await killed.steps(at.house, ["wrong"])
        if cut.step not in {"before the answer", "after the answer"}
    ]
    return await killed.forsaken(at.house, [cut for cut in every if cut != Cut("wrong", "after the act", 2)])


def _ways(bad: Sequence[tuple[str, str]]) -> str:
    return "; ".join(how for _, how in bad)


FAULTS = (
    Fault(
        "a process is killed in any step of a webhook",
        "SIGKILL at each step that a traced call comes to, one call each; the same webhook again, by turns at the other "
        "node and at the same one started anew",
        _killed,
        plain=True,
    ),
    Fault(
        "a process is killed while it judges a PIN, and the webhook never comes again",
        "SIGKILL at each step up to the verdict; the caller is left to the number's fallback URL",
        _forsaken,
    ),
    Fault(
        "a process is killed while a desk redeems a token",
        "the same, at each step of a redemption; the desk asks again at the other node",
        _killed_redeeming,
        known=(NO_RECEIPT,),
    ),
    Fault(
        "a process is killed while it sends a code",
        "SIGKILL before and behind the request to the carrier; the same webhook at the other node; the caller asks for "
        "another code",
        lambda at: killed.sending(at.house, ["before the message", "after the message"]),
        known=(NO_MESSAGE,),
    ),
    Fault(
        "a node stalls, Twilio tries the other one, the first goes on",
        "SIGSTOP in a webhook, the connection given up, the same webhook at the other node, SIGCONT",
        lambda at: together.stalled(at.house, STALLS[: at.of(6, 3, 1)]),
    ),
    Fault(
        "the same webhook at two nodes at once",
        "each webhook of a call is sent to both at the same moment, 100 of them",
        lambda at: together.both_at_once(at.house, webhooks=at.of(100, 100, 8)),
        plain=True,
    ),
    Fault(
        "fifty calls guess at one account at once",
        "fifty PINs keyed at the same moment, by turns at each node; the rule allows five",
        lambda at: together.guess_at_once(at.house, calls=at.of(50, 50, 12)),
        plain=True,
    ),
    Fault(
        "a token is presented ten times at once",
        "ten redemptions at the same moment, by turns at each node",
        lambda at: together.redeemed_at_once(at.house, tokens=at.of(10, 4, 1)),
        plain=True,
    ),
    Fault(
        "the IVR is slow, drops, lies",
        f"a server of raw sockets: {_ways(Ivr.BAD)}",
        lambda at: around.ivr_fails(at.house),
    ),
    Fault(
        "the carrier is slow, drops, lies",
        f"the same for text messages: {_ways(Carrier.BAD)}",
        lambda at: around.carrier_fails(at.house),
    ),
    Fault(
        "the disk is full",
        "the store's file system (a small one of its own; where none can be mounted, `RLIMIT_FSIZE`) is filled while "
        "callers are asked for their PIN, and emptied again",
        lambda at: machine.disk_full(at.house, at.disk, calls=at.of(10, 5, 3)),
    ),
    Fault(
        "the log cannot be written",
        "standard error of both nodes leads to `/dev/full` while they serve",
        lambda at: machine.log_full(at.house, calls=at.of(10, 3, 1)),
    ),
    Fault(
        "a clock jumps hours ahead and back",
        "the wall clock of one process, while somebody guesses",
        lambda at: machine.clock_jumps(at.house, jumps=at.of(5, 2, 1)),
    ),
    Fault(
        "a clock jumps while a code is on its way",
        "an hour ahead and an hour back, before the code is keyed",
        lambda at: machine.code_and_clock(at.house),
    ),
    Fault(
        "a clock jumps while a token is on its way",
        "an hour ahead and an hour back, before the token is presented",
        lambda at: machine.token_and_clock(at.house),
    ),
    Fault(
        "clocks of two nodes differ",
        f"one is {machine.SKEW_S // 60} minutes ahead; guesses by turns at both",
        lambda at: machine.clocks_differ(at.house),
    ),
    Fault(
        "a node is told to stop in the middle of calls",
        "SIGTERM while webhooks wait for the IVR",
        lambda at: machine.drained(at.house, calls=at.of(50, 20, 5)),
        plain=True,
    ),
)


FAULTS += (
    Fault(
        "PostgreSQL: a process is killed in any step of a webhook",
        "as above, on one database: every third step, those of a redemption included",
        lambda at: _killed_at_some(at, 36, 6),
        known=(NO_RECEIPT,),
        postgres=True,
    ),
    Fault(
        "PostgreSQL: the same webhook at two nodes at once",
        "as above, 100 of them",
        lambda at: together.both_at_once(at.house, webhooks=at.of(100, 60, 20)),
        postgres=True,
    ),
    Fault(
        "PostgreSQL: fifty calls guess at one account at once",
        "as above",
        lambda at: together.guess_at_once(at.house, calls=at.of(50, 30, 12)),
        postgres=True,
    ),
    Fault(
        "PostgreSQL: a token is presented ten times at once",
        "as above",
        lambda at: together.redeemed_at_once(at.house, tokens=at.of(10, 3, 1)),
        postgres=True,
    ),
    Fault(
        "PostgreSQL is restarted",
        "stopped as in a crash (SIGQUIT) while PINs are on their way; others answer and call; started again",
        lambda at: _taken_away(at, "crash", "start"),
        postgres=True,
    ),
    Fault(
        "PostgreSQL stalls",
        "SIGSTOP to all of its processes while PINs are on their way; others answer and call; SIGCONT",
        lambda at: _taken_away(at, "stall", "go_on"),
        postgres=True,
    ),
    Fault(
        "PostgreSQL has no connection left",
        "the user's `CONNECTION LIMIT` is 0 and his connections are ended while PINs are on their way; others answer and "
        "call; the limit is lifted",
        lambda at: _taken_away(at, "take_connections", "give_connections"),
        postgres=True,
    ),
)


@asynccontextmanager
async def on_sqlite(folder: Path, nursery: Nursery, size: str, *, weak: str = "") -> AsyncIterator[At]:
    """A house on SQLite, on a disk that can be filled."""
    with small_disk(folder / "disk") as disk:
        async with house(folder, nursery, kept=InSqlite(disk.folder), weak=weak) as built:
            yield At(built, size, disk)


@asynccontextmanager
async def on_postgres(folder: Path, nursery: Nursery, size: str, server: Postgres) -> AsyncIterator[At]:
    """A house on a database of this server."""
    of_ours = Database(server)
    try:
        async with house(folder, nursery, kept=InPostgres(of_ours.url)) as built:
            yield At(built, size, Disk(folder, mounted=False), of_ours)
    finally:
        of_ours.drop()
