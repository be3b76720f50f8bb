"""
Faults over real processes and sockets: nothing free, nothing lost, nothing doubled.

Every fault of docs/reliability.md is run over two `ivrguard serve` processes on one store and counted (counts.py), and its row
of the page is held against the run. Then guards that are weaker than ours are run through the same counts, which must catch
each of them: what could not turn red would show nothing.

The whole takes a minute or two of a core and runs with `HYPOTHESIS_PROFILE=ci`; other runs have a part of it.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import Postgres
from tests.faults import killed, machine, together
from tests.faults.counts import KNOWN, Count
from tests.faults.every import FAULTS, At, Fault, on_postgres, on_sqlite
from tests.faults.killed import Cut
from tests.faults.nodes import ROOT, Nursery
from tests.faults.page import Row, read, written

SIZE = (
    "ci" if os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev") == "ci" else "plain"
)
PAGE = ROOT / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[At]:
    async with on_sqlite(tmp_path_factory.mktemp("faults"), nursery, SIZE) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at_postgres(
    nursery: Nursery, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[At]:
    async with on_postgres(tmp_path_factory.mktemp("faults"), nursery, SIZE, postgres) as one:
        yield one


def only_in(size: str, *, plain: bool) -> pytest.MarkDecorator:
    return pytest.mark.skipif(size != "ci" and not plain, reason="takes long: HYPOTHESIS_PROFILE=ci runs it")


def every(*, postgres: bool) -> pytest.MarkDecorator:
    chosen = [one for one in FAULTS if one.postgres is postgres]
    return pytest.mark.parametrize(
        "fault", [pytest.param(one, id=one.name, marks=only_in(SIZE, plain=one.plain)) for one in chosen]
    )


async def _checked(at: At, fault: Fault) -> None:
    """Clean, but for what the page says is lost, and why."""
    count = await fault.run(at)
    assert count.calls > 0
    assert (set(count.lost) - set(fault.known), count.doubled, count.through) == (set(), [], [])


@pytest.mark.asyncio(loop_scope="module")
@every(postgres=False)
async def test_nothing_is_lost_doubled_or_let_through(at: At, fault: Fault):
    await _checked(at, fault)


@pytest.mark.asyncio(loop_scope="module")
@every(postgres=True)
async def test_nor_where_nodes_share_a_database(at_postgres: At, fault: Fault):
    await _checked(at_postgres, fault)


# ── planted faults ───────────────────────────────────────────────────────────────────────────────────────


async def _full(at: At) -> Count:
    return await machine.disk_full(at.house, at.disk, calls=2)


async def _both(at: At) -> Count:
    return await together.both_at_once(at.house, webhooks=8)


async def _jumps(at: At) -> Count:
    return await machine.clock_jumps(at.house, jumps=2)


async def _tokens(at: At) -> Count:
    return await together.redeemed_at_once(at.house, tokens=1)


async def _guesses(at: At) -> Count:
    return await together.guess_at_once(at.house, calls=12)


async def _forsaken(at: At) -> Count:
    return await killed.forsaken(at.house, [Cut("wrong", "after the judge", 1)])


async def _between(at: At) -> Count:
    return await killed.killed(at.house, [Cut("wrong", "after the act", 3)])


WEAK = {
    "it counts after judging: fifty at once": ("count_after_judging", _guesses, "through", True),
    "it counts after judging: killed": (
        "count_after_judging",
        _forsaken,
        "through",
        False,
    ),
    "it records in an act of its own": ("record_apart", _between, "lost", False),
    "it forgets what it answered": ("forget_answers", _both, "lost", False),
    "it looks at a token before the act": ("token_looked_at_before", _tokens, "through", False),
    "it believes the clock": ("trusting_clock", _jumps, "through", False),
    "it lets callers through when the store is gone": ("let_through_on_a_fault", _full, "through", False),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("weak", "run", "as_what"),
    [pytest.param(*one[:3], id=name, marks=only_in(SIZE, plain=one[3])) for name, one in WEAK.items()],
)
async def test_a_weaker_guard_is_caught(
    nursery: Nursery, tmp_path: Path, weak: str, run: Callable[[At], Awaitable[Count]], as_what: str
):
    async with on_sqlite(tmp_path, nursery, "plain", weak=weak) as one:
        count = await run(one)
    assert getattr(count, as_what), count


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_has_every_fault_and_what_came_of_it():
    """In the words of every.py, and with nothing in it that a test here would refuse."""
    rows = read(PAGE.read_text())
    assert [(one.name, one.how) for one in FAULTS] == [(row.fault, row.how) for row in rows.values()]
    for fault in FAULTS:
        row = rows[fault.name]
        assert row.calls > 0
        assert (row.doubled, row.through) == (0, 0)
        assert row.what == ", ".join(KNOWN[one] for one in fault.known)
        assert bool(row.lost) == bool(row.what)


def test_the_page_is_written_around_what_others_wrote():
    """Whoever has a section of his own there keeps it."""
    rows = [Row("a fault", "so", 3, 0, 1, 2), Row("another", "thus", 3, 4, 0, 0, "receipts")]
    others = "# Reliability\n\n## Simulation\nA million calls.\n"
    first = written(others, rows)
    assert written(first, rows) == first
    assert others.strip() in first
    assert list(read(first).values()) == rows
    behind = written("", rows) + "\n## Simulation\nA million calls.\n"
    assert written(behind, rows) == behind
