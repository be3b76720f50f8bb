"""
Every fault over real processes, in one run.

    python -m tests.faults [--page docs/reliability.md] [FAULT ...]

FAULT: a part of its name. Without any, all of them run, in some ten minutes on two cores; with `--page` their rows of that page
are written. Linux. To mount a small disk it must be root; without, the kernel bounds files instead.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import Postgres
from tests.faults.every import FAULTS, At, Fault, on_postgres, on_sqlite
from tests.faults.nodes import Nursery
from tests.faults.page import Row, read, row, written


async def _run(faults: list[Fault], folder: Path) -> list[Row]:
    rows: list[Row] = []
    with Nursery() as nursery:
        of_sqlite = [one for one in faults if not one.postgres]
        of_postgres = [one for one in faults if one.postgres]
        if of_sqlite:
            async with on_sqlite(_made(folder / "sqlite"), nursery, "page") as at:
                rows += [await _row(fault, at) for fault in of_sqlite]
        if of_postgres:
            server = await asyncio.to_thread(Postgres)
            try:
                async with on_postgres(_made(folder / "postgres"), nursery, "page", server) as at:
                    rows += [await _row(fault, at) for fault in of_postgres]
            finally:
                await asyncio.to_thread(server.close)
    return rows


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _row(fault: Fault, at: At) -> Row:
    began = time.monotonic()
    print(f"{fault.name} …", file=sys.stderr, flush=True)
    count = await fault.run(at)
    print(f"   {time.monotonic() - began:.0f} s", file=sys.stderr)
    for what in (*count.lost, *count.doubled, *count.through):
        print(f"   {what}", file=sys.stderr)
    return row(fault, count)


def main() -> None:
    """Run them, print the rows, and write the page if it is wanted."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument(
        "faults", nargs="*", metavar="FAULT", help="a part of a fault's name; all of them if none"
    )
    asked.add_argument("--page", type=Path, help="write the rows of what was run here")
    given = asked.parse_args()
    chosen = [one for one in FAULTS if not given.faults or any(part in one.name for part in given.faults)]
    if not chosen:
        asked.error("no fault has that in its name")
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(_run(chosen, Path(folder)))
    print("\n".join(map(str, rows)))
    if given.page:
        text = given.page.read_text() if given.page.exists() else ""
        every = read(text) | {one.fault: one for one in rows}
        given.page.write_text(written(text, [every[one.name] for one in FAULTS if one.name in every]))


if __name__ == "__main__":
    main()
