"""Copies of the store, and the way back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ivrguard.commands.shell import CONFIG, NO_KEYS, Config, fail, in_store, operator, out, settled
from ivrguard.core.audit import RESTORED, Entry
from ivrguard.core.errors import Fault
from ivrguard.ports import Change, Store
from ivrguard.settings import Settings
from ivrguard.stores import backup as copies
from ivrguard.web.app import wall_clock_ms

app = typer.Typer()


def _path(config: Path) -> Path:
    """The file of the store."""
    configured = settled(config, NO_KEYS)
    if configured.store == "postgres":
        fail(
            "store: postgres: its own tools copy it while servers write: pg_dump --format=custom, and pg_restore into an "
            "empty database; or pg_basebackup with its log kept. docs/postgres.md says what to mind"
        )
    if configured.store_path is None:
        fail("store: memory: there is no file to copy")
    return configured.store_path


@app.command(epilog="Example: ivrguard backup /backups/ivrguard-$(date +%F).db")
def backup(
    to: Annotated[
        Path, typer.Argument(help="The file to make; it must not be there yet.", show_default=False)
    ],
    config: Config = CONFIG,
) -> None:
    """
    Copy the SQLite store to a file, while servers go on writing.

    The copy is whole and looked through, or it is not there. The keys are not in it: back them up elsewhere.
    """
    path = _path(config)
    try:
        size = copies.copy(path, to)
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")
    out.print(f"{to}: {size:,} bytes, looked through")


@app.command(
    epilog="Example: ivrguard restore /backups/ivrguard-2026-11-01.db --by ann --reason 'disk lost' --force"
)
def restore(
    copied: Annotated[Path, typer.Argument(help="A copy that `ivrguard backup` made.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who does it, for the record.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    force: Annotated[bool, typer.Option("--force", help="There is a store: move it aside first.")] = False,
    config: Config = CONFIG,
) -> None:
    """
    Put a copy back in the place of the store, and say so in its record. Servers must be stopped.

    It goes back in time: wrong answers counted since the copy are forgotten,
    locks too; tokens and codes spent since may be good again until they expire;
    PINs and accounts are those of then. Where that matters, disable the
    accounts concerned before you start.
    """
    path = _path(config)
    begun = datetime.fromtimestamp(wall_clock_ms() / 1000, UTC)
    aside = path.with_name(f"{path.name}.replaced-{begun:%Y%m%d-%H%M%S}") if force else None
    try:
        copies.put_back(copied, path, aside)
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")
    detail = (("by", by.strip() or operator()), ("because", reason.strip()))

    async def recorded(store: Store, _: Settings) -> int:
        entry = Entry(wall_clock_ms(), RESTORED, reason="backup", detail=detail)
        await store.amend([], lambda _: Change(None, (), (entry,)))
        return (await store.head())[0]

    seq = in_store(config, recorded)
    out.print(
        f"{path}: put back; entry {seq} says so. `ivrguard audit verify --restored {seq}` takes it into account"
    )
    if aside is not None and aside.exists():
        out.print(f"the store before: {aside}")
