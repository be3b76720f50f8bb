"""Flow files: what is wrong with them, what they mean for a guesser, and what standards say of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ivrguard.commands.shell import err, looked_through, out
from ivrguard.core import budget, profiles
from ivrguard.core.check import did_you_mean
from ivrguard.core.flow import Flow
from ivrguard.core.profiles import PROFILES, Line, Profile
from ivrguard.flowfile import Fault, Loaded, LoadedAll

ALL = "all"

app = typer.Typer()


def _profiles(names: list[str]) -> list[str]:
    for name in names:
        if name != ALL and name not in PROFILES:
            raise typer.BadParameter(f"there is no profile '{name}'{did_you_mean(name, (*PROFILES, ALL))}")
    return [*PROFILES] if ALL in names else list(dict.fromkeys(names))


@app.command(
    epilog="Examples: ivrguard check flows/bank.yaml;  ivrguard check --profile all;  "
    "ivrguard check --profile psd2-sca --clauses;  ivrguard check --json | jq .findings"
)
def check(
    path: Annotated[Path, typer.Argument(help="A folder of flow files, or one of them.")] = Path("flows"),
    *,
    profile: Annotated[
        list[str],
        typer.Option(
            callback=_profiles,
            help=f"Hold the flows against a standard, too: {', '.join(PROFILES)}, or {ALL}. May be given again.",
            metavar="NAME",
            default_factory=list,
            show_default=False,
        ),
    ],
    clauses: Annotated[
        bool, typer.Option("--clauses", help="Show each clause, held or not, and what no flow file can show.")
    ] = False,
    accounts: Annotated[
        int, typer.Option(min=1, help="How many accounts a guesser may try one after another.")
    ] = budget.ACCOUNTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """
    Look through flow files: every fault with file, line and column, and the guesses that a flow allows.

    Ends with 1 if there is a fault: nothing goes live with one. Warnings are
    for you to weigh, and change nothing. What falls short of a profile is a
    fault for this command alone: the server takes the flow.
    """
    loaded = looked_through(path)
    judged = [_judged(one, one.flow, profile) for one in loaded.files if one.flow is not None]
    findings = tuple(_findings(loaded, judged))
    if as_json:
        typer.echo(json.dumps(_document(judged, findings, accounts), indent=2, ensure_ascii=False))
    else:
        for one in judged:
            _print(one, accounts, whole=clauses)
        if profile and judged and not clauses:
            out.print("`--clauses` shows each clause, and what no flow file can show")
        for finding in findings:
            err.print(f"{'' if finding.error else 'warning: '}{finding.fault}")
    if any(finding.error for finding in findings):
        raise typer.Exit(1)


# ── what was found ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Finding:
    """A fault (`error`) or a doubt, and the clause that it falls short of, of these profiles."""

    fault: Fault
    error: bool
    clause: str | None = None
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Judged:
    """A flow without fault, its file, and a line for each clause of each profile asked for."""

    file: Loaded
    flow: Flow
    lines: tuple[tuple[Profile, tuple[Line, ...]], ...]


def _judged(file: Loaded, flow: Flow, names: Sequence[str]) -> _Judged:
    wanted = [PROFILES[name] for name in names]
    return _Judged(file, flow, tuple((each, profiles.judged(flow, each)) for each in wanted))


def _findings(loaded: LoadedAll, judged: Sequence[_Judged]) -> Iterator[_Finding]:
    """Doubts before faults, so that what must be mended is read last; each in the order of the files."""
    found = [_Finding(doubt, error=False) for doubt in loaded.doubts]
    found += [_Finding(fault, error=True) for fault in loaded.faults]
    of: dict[tuple[Fault, bool, str], list[str]] = {}
    for one in judged:
        assert one.file.told is not None
        for profile, lines in one.lines:
            for line in lines:
                for finding in line.findings:
                    fault = one.file.told(finding.place, finding.message)
                    of.setdefault((fault, finding.error, line.clause.id), []).append(profile.name)
    found += [_Finding(fault, error, clause, tuple(names)) for (fault, error, clause), names in of.items()]
    yield from sorted(found, key=lambda finding: (finding.error, finding.fault))


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────


def _print(one: _Judged, accounts: int, *, whole: bool) -> None:
    flow = one.flow
    out.print(f"{flow.name} {flow.version}: {len(flow.rules)} rules for {', '.join(flow.numbers)}: no fault")
    for line in budget.lines(budget.budget(flow, accounts)):
        out.print(f"  {line}")
    for profile, lines in one.lines:
        out.print(f"  {_summary(profile, lines)}")
        for told in _clauses(profile, lines) if whole else ():
            out.print(f"    {told}")
    out.print()


def _summary(profile: Profile, lines: Sequence[Line]) -> str:
    held = sum(line.holds for line in lines)
    doubtful = sum(line.holds and bool(line.findings) for line in lines)
    doubts = f", {doubtful} of them with a doubt" if doubtful else ""
    return f"{profile.name}: {held} of {len(lines)} clauses hold{doubts}"


def _clauses(profile: Profile, lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        mark = ("holds" if not line.findings else "doubt") if line.holds else "fails"
        yield f"{mark}  {line.clause.id}: {line.clause.asks}"
    for note in profile.kept:
        yield f"kept   {note.clause}: {note.says}"
    for note in profile.unjudged:
        yield f"open   {note.clause}: {note.says}"


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────


def _document(judged: Sequence[_Judged], findings: Sequence[_Finding], accounts: int) -> dict[str, Any]:
    """The document that flows/README.md describes."""
    return {
        "ok": not any(finding.error for finding in findings),
        "findings": [
            {
                **asdict(finding.fault),
                "severity": "error" if finding.error else "warning",
                "clause": finding.clause,
                "profiles": list(finding.profiles),
            }
            for finding in findings
        ],
        "flows": [_flow(one, accounts) for one in judged],
    }


def _flow(one: _Judged, accounts: int) -> dict[str, Any]:
    assert one.file.told is not None
    found = asdict(budget.budget(one.flow, accounts))
    return {
        "flow": found.pop("flow"),
        "file": one.file.told((), "").file,
        "version": one.flow.version,
        "numbers": list(one.flow.numbers),
        "rules": len(one.flow.rules),
        "budget": {"owner_successes_a_year": budget.OWNER_SUCCESSES_A_YEAR, **found},
        "profiles": [
            {
                "profile": profile.name,
                "title": profile.title,
                "holds": all(line.holds for line in lines),
                "clauses": [
                    {
                        "clause": line.clause.id,
                        "asks": line.clause.asks,
                        "holds": line.holds,
                        "findings": len(line.findings),
                    }
                    for line in lines
                ],
                "kept": [asdict(note) for note in profile.kept],
                "unjudged": [asdict(note) for note in profile.unjudged],
            }
            for profile, lines in one.lines
        ],
    }
