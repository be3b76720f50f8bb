"""Flows put in force by hand, on every node: the way back to a set that was in force before."""

from pathlib import Path
from typing import Annotated

import typer

from ivrguard.commands.shell import CONFIG, NO_KEYS, Config, flows_of, in_store, operator, out, settled
from ivrguard.core.audit import Entry
from ivrguard.guard.publishing import keep
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

app = typer.Typer()


@app.command(
    epilog="Examples: ivrguard flows publish\n\nivrguard flows publish flows/ --by ann --reason 'back to Monday'"
)
def publish(
    flows: Annotated[
        Path | None,
        typer.Argument(help="A folder of flow files. Default: IVRGUARD_FLOWS.", show_default=False),
    ] = None,
    by: Annotated[str, typer.Option(help="Who does it, for the record.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    config: Config = CONFIG,
) -> None:
    """
    Put the flows in a folder in force, within two seconds on every node that runs, and on every one that starts later.

    A server publishes files that change, and new ones that it starts with, by
    itself. It does not go back by itself: files that were in force before are
    put in force again by this.
    """
    read = flows_of(flows or settled(config, NO_KEYS).flows)
    detail = (("by", by.strip() or operator()), ("because", reason.strip()))

    async def published(store: Store, _: Settings) -> int:
        now = wall_clock_ms()
        named = [(("flow", one.name), ("version", one.version), ("previous", ""), *detail) for one in read]
        entries = tuple(Entry(now, "flow_activated", reason="published", detail=one) for one in named)
        done = await keep(store, read, entries, now, publish=True)
        assert done is not None, "what was published just now"
        return done.number

    number = in_store(config, published)
    for one in read:
        out.print(f"{one.name} {one.version}: published ({number})")
