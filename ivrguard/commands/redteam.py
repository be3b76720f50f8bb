"""Attacks on a flow of one's own: `ivrguard redteam`."""

import json
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ivrguard import log
from ivrguard.commands.shell import err, looked_through, out, run
from ivrguard.core.check import did_you_mean
from ivrguard.core.flow import Place
from ivrguard.flowfile import Loaded
from ivrguard.phone.redteam import raid, report
from ivrguard.phone.redteam.attack import Attack, Outcome, Verdict

CANNOT_RUN = 2

app = typer.Typer()


def _cannot(*lines: str) -> NoReturn:
    for line in lines:
        err.print(line)
    raise typer.Exit(CANNOT_RUN)


def _only(names: list[str]) -> list[str]:
    known = tuple(attack.name for attack in raid.ATTACKS)
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"there is no attack '{name}'{did_you_mean(name, known)}; --list shows all"
            )
    return names


def _loaded(path: Path) -> Loaded:
    """The one flow of a file, or of a folder with one."""
    found = looked_through(path)
    if found.faults:
        _cannot(*map(str, found.faults))
    if len(found.files) > 1:
        _cannot(f"{path}: there are {len(found.files)} flows in it; name the file of one")
    return found.files[0]


def _list() -> None:
    for attack in raid.ATTACKS:
        out.print(attack.name, style="bold")
        out.print(f"  {attack.says}")
        out.print(f"  {attack.source}", style="dim")


@app.command(
    epilog="Examples:\n\n"
    "ivrguard redteam flows/bank.yaml\n\n"
    "ivrguard redteam flows/bank.yaml --only guess --only spray\n\n"
    "ivrguard redteam flows/bank.yaml --json > redteam.json\n\n"
    "ivrguard redteam --list\n\n"
    "What each column and verdict means: docs/redteam.md."
)
def redteam(
    flow: Annotated[
        Path, typer.Argument(help="A flow file, or a folder with one.", show_default=False)
    ] = Path("flows"),
    *,
    only: Annotated[
        list[str],
        typer.Option(
            callback=_only,
            help="Play this attack alone. May be given again.",
            metavar="NAME",
            default_factory=list,
            show_default=False,
        ),
    ],
    listed: Annotated[
        bool, typer.Option("--list", help="Show every attack, with its source, and play none.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed makes the same guesses.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """
    Attack a flow of yours, as callers, agents and strangers on the internet would, and see what gets through.

    Guard, store, provider and a stub of an IVR run on this machine for as long as
    it lasts, with made-up customers and a clock that is set forward; nothing of
    yours is touched. Each attack has a guard of its own. A minute or two in all.

    For each: what was tried and how often, what was let through with the line of
    the flow and the mend, and what the account's owner felt, who calls before and
    after: from his own phone, which the carrier attests, and from another one.

    Ends with 0 if nothing was let through, with 1 if something was, with 2 if it
    cannot be run.
    """
    if listed:
        _list()
        return
    loaded = _loaded(flow)
    attacked = loaded.flow
    told = loaded.told
    assert attacked is not None
    assert told is not None

    def where(place: Place) -> str:
        return str(told(place, "")).rstrip(": ")

    log.configure("critical")
    attacks = raid.chosen(only)
    began_s = time.perf_counter()
    if not as_json:
        out.print(report.HEAD, style="dim")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
        redirect_stdout=out.is_terminal,
    ) as progress:
        task = progress.add_task("attacks", total=len(attacks))

        def begins(attack: Attack) -> None:
            progress.update(task, description=attack.name)

        def each(outcome: Outcome) -> None:
            for line in report.lines(outcome, where) if not as_json else ():
                out.print(line.text, style=line.style)
            progress.advance(task)

        outcomes = run(raid.raid(attacked, attacks, seed=seed, each=each, begins=begins))
    if as_json:
        typer.echo(json.dumps(report.record(attacked, outcomes, seed, where), indent=2, ensure_ascii=False))
    else:
        last = report.summary(outcomes, time.perf_counter() - began_s)
        out.print(last.text, style=last.style)
    if any(one.verdict is Verdict.LET_THROUGH for one in outcomes):
        raise typer.Exit(1)
