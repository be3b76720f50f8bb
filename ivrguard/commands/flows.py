"""Flow files: what is wrong with them, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer

from ivrguard.commands.shell import (
    err,
    fail,
    looked_through,
    out,
)

app = typer.Typer()


@app.command(epilog="Example: ivrguard check flows/bank.yaml")
def check(
    path: Annotated[Path, typer.Argument(help="A folder of flow files, or one of them.")] = Path("flows"),
) -> None:
    """
    Look through flow files: every fault with file, line and column.

    Ends with 1 if there is one. Warnings are for you to weigh, and change nothing.
    """
    loaded = looked_through(path)
    for doubt in loaded.doubts:
        err.print(f"warning: {doubt}")
    if loaded.faults:
        fail(*map(str, loaded.faults))
    for flow in loaded.flows:
        numbers = ", ".join(flow.numbers)
        out.print(f"{flow.name} {flow.version}: {len(flow.rules)} rules for {numbers}: no fault")
