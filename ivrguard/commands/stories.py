"""Trying a flow out: a telephone in the terminal, and stories that are played."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ivrguard import log
from ivrguard.commands.shell import CONFIG, NO_KEYS, Config, err, fail, flow_of, flows_of, out, run, settled
from ivrguard.flowfile import forms
from ivrguard.phone import demo as demonstration
from ivrguard.phone import play as telephone
from ivrguard.phone import recorder, rehearsal
from ivrguard.phone.rehearsal import FOLDER, SUFFIX, Outcome
from ivrguard.phone.story import IVRS, Story, StoryFault
from ivrguard.phone.world import OWN_NUMBER, Real

IVR_HELP = "a real one's URL: what is done in a call is done there. Signed with IVRGUARD_UPSTREAM_TOKEN."

REAL_REMARK = "A real IVR stood behind the flow: play this with --ivr."

app = typer.Typer()


def real_ivr(url: str, config: Path) -> Real:
    """The IVR that runs at `url`, with the token that it knows; or what to mend."""
    if forms.UPSTREAM_URL.accept(url) is None or forms.origin(url) is None:
        fail(f"--ivr {url}: it takes {forms.UPSTREAM_URL.wanted}")
    configured = settled(config, NO_KEYS)
    tokens = [token for tokens in configured.twilio_tokens.values() for token in tokens]
    token = configured.upstream_token or next(iter(tokens), None)
    if token is None:
        fail(
            "IVRGUARD_UPSTREAM_TOKEN: not set; your IVR checks signatures: give the auth token that it knows"
        )
    if forms.in_clear(url):
        err.print(f"warning: --ivr {url}: what is keyed and said goes unencrypted; use https")
    err.print(f"The IVR at {url} is a real one: what is done in a call is done there.")
    return Real(url, token)


def _ready_for(path: Path, *, force: bool) -> None:
    """Whether a story can be written there; before anybody has talked for nothing."""
    if path.suffix != SUFFIX:
        fail(f"{path}: a story's file ends in {SUFFIX}")
    if not path.parent.is_dir():
        fail(f"{path.parent}: there is no such folder; make it first")
    if path.exists() and not force:
        fail(f"{path}: there is such a file already; --force writes over it")


@app.command(
    epilog="Examples:\n\n"
    "ivrguard play flows/bank.yaml --from +15559870002 --attested\n\n"
    "ivrguard play flows/bank.yaml --record flows/stories/bank/balance.call\n\n"
    "ivrguard play flows/bank.yaml --script flows/stories/bank/balance.call\n\n"
    "IVRGUARD_UPSTREAM_TOKEN=… ivrguard play flows/bank.yaml --ivr https://ivr.example.com/voice\n\n"
    "How stories are written: flows/README.md."
)
def play(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = demonstration.FLOW,
    caller: Annotated[
        str | None, typer.Option("--from", help=f"The number you call from (default: {OWN_NUMBER}).")
    ] = None,
    attested: Annotated[
        bool | None, typer.Option("--attested", help="The carrier attests the number (STIR/SHAKEN A).")
    ] = None,
    ivr: Annotated[
        str | None,
        typer.Option(
            help="What stands behind the flow. bank: the sample bank. stub: it says the path that it is asked for. Or "
            + IVR_HELP
            + "  (default: what a story says; bank for a flow of that name; else stub)"
        ),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(help="Play this story, instead of asking you for keys.", metavar="FILE.call"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Write your call down as a story.", metavar="FILE.call")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Record over a file that exists.")] = False,
    config: Config = CONFIG,
) -> None:
    """
    A telephone in the terminal: call a flow, or have a story call it, before a caller does.

    Guard, store and provider run on this machine for as long as the call lasts,
    with one made-up customer; nothing of yours is touched. Behind them stands a
    pretend IVR.

    A story ends with 0 only if it came true; if not, with what was expected
    where, below the talk so far. A call that is recorded comes true when it is
    played: in place of PINs, codes and account numbers the story has their
    names.

    A real IVR gets requests signed for its own URL; it has 10 seconds and 64 kB
    for each answer. It cannot ask Twilio about the call, which is none, nor
    check X-Ivrguard-Assertion, whose keys are made for the moment.
    """
    if script is not None and (caller, attested, record) != (None, None, None):
        fail("--script: the story says who calls: leave out --from, --attested and --record")
    if record is not None:
        _ready_for(record, force=force)
    found = flow_of(flow)
    log.configure("critical")
    real = real_ivr(ivr, config) if ivr is not None and ivr not in IVRS else None
    pretend = ivr if real is None and ivr is not None else ""
    if script is not None:
        try:
            story = rehearsal.read(script, [found.name])
        except StoryFault as fault:
            fail(*str(fault).split("\n"))
        if not run(telephone.tell(out, found, story, ivr=pretend, real=real)):
            raise typer.Exit(1)
        return

    def keep(told: Story) -> None:
        assert record is not None
        try:
            recorder.keep(record, told, force=force, remark=REAL_REMARK if real is not None else "")
        except OSError as error:  # the talk is not lost: it is here
            fail(f"{record}: cannot be written: {error.strerror}. This would be in it:", str(told))
        err.print(f"{record}: {len(told.steps)} steps; ivrguard play {flow} --script {record} plays them")

    run(
        telephone.run(
            out,
            found,
            caller=caller or OWN_NUMBER,
            attested=bool(attested),
            ivr=pretend,
            real=real,
            keep=None if record is None else keep,
        )
    )


@app.command(
    name="test",
    epilog="Examples:\n\n"
    "ivrguard test flows/ --junit stories.xml\n\n"
    "ivrguard test flows/ flows/stories/bank/wire.call\n\n"
    "IVRGUARD_UPSTREAM_TOKEN=… ivrguard test flows/bank.yaml --ivr https://ivr.example.com/voice\n\n"
    "How stories are written: flows/README.md. `ivrguard play --record` writes one.",
)
def rehearse(
    flows: Annotated[Path, typer.Argument(help="A folder of flows, or one of them.")] = Path("flows"),
    stories: Annotated[
        list[Path] | None,
        typer.Argument(help="Stories, or folders of them (default: stories/ beside the flows)."),
    ] = None,
    ivr: Annotated[str | None, typer.Option(help="Instead of what the stories say, " + IVR_HELP)] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the outcome for a build server, too.", metavar="FILE.xml")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome for programs.")] = False,
    config: Config = CONFIG,
) -> None:
    """
    Play every story of your flows: a line each, and what went wrong with the talk so far.

    Ends with 0 if all of them came true. Each one has a guard, a store, a
    provider and customers of its own, on this machine. The IVR behind it is a
    stub that says the path that it was asked for, unless the story says
    otherwise. Time passes as a story says, so that an hour takes no time.
    """
    known = flows_of(flows)
    paths = _stories(flows, stories, known[0].name)
    real = real_ivr(ivr, config) if ivr is not None else None
    log.configure("critical")
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
        task = progress.add_task("stories", total=len(paths))

        def each(outcome: Outcome) -> None:
            if not as_json:
                _print(outcome)
            progress.advance(task)

        outcomes = run(rehearsal.rehearse(paths, known, real=real, each=each))
    if junit is not None:
        try:
            junit.write_text(rehearsal.junit(outcomes))
        except OSError as error:
            fail(f"{junit}: cannot be written: {error.strerror}")
    failed = sum(bool(one.faults) for one in outcomes)
    if as_json:
        print(json.dumps(rehearsal.record(outcomes), indent=2, ensure_ascii=False))
    else:
        took = f"{sum(one.seconds for one in outcomes):.1f} s"
        many = "1 story" if len(outcomes) == 1 else f"{len(outcomes)} stories"
        if failed:
            out.print(f"{many}: {len(outcomes) - failed} came true, {failed} did not ({took})", style="red")
        else:
            out.print(f"{many}: came true ({took})", style="green")
    if failed:
        raise typer.Exit(1)


def _stories(flows: Path, named: list[Path] | None, only: str) -> tuple[Path, ...]:
    """The files that are named, or those beside the flows; at least one."""
    beside = (flows if flows.is_dir() else flows.parent) / FOLDER
    places = named or [beside]
    paths: list[Path] = []
    for place in places:
        paths += (
            rehearsal.found(place, "" if flows.is_dir() else only)
            if place.is_dir() or place == beside
            else [place]
        )
    if not paths:
        where = ", ".join(map(str, places))
        fail(
            f"{where}: there is no story (*{SUFFIX}) here; `ivrguard play FLOW --record {beside}/NAME{SUFFIX}` writes one"
        )
    return tuple(dict.fromkeys(paths))


def _print(outcome: Outcome) -> None:
    """A line for a story; what went wrong, and the talk so far."""
    sign, style = ("✗", "red") if outcome.faults else ("✓", "green")
    out.print(f"{sign} {outcome.file}  {outcome.title}  ({outcome.seconds:.2f} s)", style=style)
    for fault in outcome.faults:
        out.print(f"  {fault}", style="bold")
    for line in outcome.talk if outcome.faults else ():
        out.print(f"    {line}", style="dim")
