"""
Every bench, side by side in one run: `make bench`, or for some of them.

    PYTHONPATH=tests python -m bench [--rounds N] [--calls N] [--page FILE] [PART ...]

By their names only: `sense`, months of calls with attacks in them, for docs/alerts.md (five minutes); `insiders`, months of agents at work, for
docs/threats.md (two minutes).
Parts: serving, hashing, parts, store, postgres, full, existence. The whole takes some 25 minutes on two cores; with `--page` it writes
docs/performance.md. Ratios only: machines differ, and the same machine has moods. Peers are built in build/bench, from
PyPI and npm packages locked by hash. Linux, two cores.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import existence, full, hashing, insiders, parts, sense, serving, store, store_postgres
from bench.rows import Row, say, table

PAGE = """# Performance

Written by `make bench`. Each row was measured beside its peer in the same run, in turn, round after round: **read the
ratios**; the figures beside them are of this machine on this day. `ratio` is the median of the rounds' ratios.

{machine}

{table}

## Nobody learns who exists
{existence}

A classifier on times alone does no better than chance at an AUC of 0.5; promise 6 wants 0.5 ± 0.02.

## How it was measured
`tests/bench/`: the guard is `ivrguard serve` on SQLite with an fsync before each answer, as it is delivered; one server
process on one core, load and IVR on the other; 16 connections, each with one signed post of 18 parameters in flight.
Peers: a bare aiohttp handler and a bare aiohttp reverse proxy, FastAPI with uvicorn, Express with twilio's own
middleware; none of them keeps any state or record.
"""


def stored(rounds: int) -> Iterator[Row]:
    """The SQLite store beside a plain loop."""
    with tempfile.TemporaryDirectory() as place:
        ours, theirs = [], []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: store")
            theirs.append(store.plain(Path(place, "loop.db"), 0.5, bare=False))
            ours.append(asyncio.run(store.amendments(Path(place, "store.db"), 0.5)))
    yield Row.of(
        "amendments a second, 16 in flight, fsynced, SQLite",
        "raw sqlite3 loop, 16 per transaction",
        ours,
        theirs,
        0.6,
        0.8,
    )


SECTIONS = {
    "serving": serving.rows,
    "hashing": hashing.rows,
    "parts": parts.rows,
    "store": stored,
    "postgres": store_postgres.rows,
    "full": full.rows,
}


def main() -> None:
    """Measure, print, and write the page if it is wanted."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(SECTIONS)}, existence; all of them if none"
    )
    asked.add_argument("--rounds", type=int, default=7, help="rounds of each row (7)")
    asked.add_argument(
        "--calls", type=int, default=10_000, help="calls a side, all runs together, for `existence` (10000)"
    )
    asked.add_argument("--page", type=Path, help="write the page here; only with every part")
    given = asked.parse_args()
    if given.parts == ["sense"]:
        print("\n".join(sense.report([(1_000, 1), (1_000, 2), (1_000, 3), (5_000, 1)])))
        return
    if given.parts == ["insiders"]:
        print("\n".join(insiders.report([(60, 1), (60, 2), (60, 3), (300, 1)])))
        return
    unknown = set(given.parts) - {*SECTIONS, "existence"}
    if unknown:
        asked.error(f"there is no part {', '.join(sorted(unknown))}")
    chosen = given.parts or [*SECTIONS, "existence"]
    if given.page and given.parts:
        asked.error("--page is written from all parts: name none")
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        asked.error("two cores are needed: one for the server, one for the load")
    rows = []
    for name in chosen:
        if name in SECTIONS:
            for row in SECTIONS[name](given.rounds):
                say(row.line())
                rows.append(row)
            os.sched_setaffinity(0, every)
    measured = table(rows)
    found = existence.report(given.calls) if "existence" in chosen else ""
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; {given.rounds} rounds."
    print("\n\n".join(filter(None, (machine, measured if rows else "", found))))
    if given.page:
        given.page.write_text(PAGE.format(machine=machine, table=measured, existence=found))
    missed = [row.what for row in rows if row.met == "**missed**"]
    if missed:
        print(f"{len(missed)} of {len(rows)} goals missed", file=sys.stderr)


if __name__ == "__main__":
    main()
