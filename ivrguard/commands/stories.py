"""Trying a flow out: a telephone in the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from ivrguard import log
from ivrguard.commands.shell import flow_of, out, run
from ivrguard.phone import demo as demonstration
from ivrguard.phone import play as telephone

app = typer.Typer()


@app.command(epilog="Example: ivrguard play flows/bank.yaml --from +15559870002 --attested")
def play(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = demonstration.FLOW,
    caller: Annotated[str, typer.Option("--from", help="The number you call from.")] = telephone.OWN_NUMBER,
    attested: Annotated[bool, typer.Option(help="The carrier attests the number (STIR/SHAKEN A).")] = False,
) -> None:
    """A telephone in the terminal: call the flow, with a sample IVR behind it and a made-up account."""
    found = flow_of(flow)
    log.configure("critical")
    run(telephone.run(out, found, caller=caller, attested=attested))
