"""`explain`: what a request or a transfer needs by a flow's rules, why, and what a caller would be asked."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ivrguard.commands.shell import fail, flow_of, out
from ivrguard.core.assurance import Proof
from ivrguard.core.call import Call, What
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.check import did_you_mean
from ivrguard.core.demands import asked_of, missing
from ivrguard.core.flow import Flow
from ivrguard.core.rules import (
    DAYS,
    OPEN_CONDITIONS,
    TARGET_KINDS,
    Demand,
    Match,
    Row,
    Target,
    Visit,
    explain,
)

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PROVED = re.compile("([A-Za-z][A-Za-z0-9_-]*)(?:@([0-9]{1,6})([smhd]))?")
_AT = re.compile(r"([a-z]{3}) ([01][0-9]|2[0-3]):([0-5][0-9])")
PIN_CHANGE = "pin_change"
STYLES = {Match.HIT: "green", Match.MAY: "yellow", Match.MISS: "dim"}
NOW_MS = 10**12
"""Some moment: only how long ago something was proved matters."""

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Case:
    """What is explained: the visit, what nobody told of it, and the call as it stands."""

    visit: Visit
    untold: frozenset[str]
    call: Call


@app.command(
    name="explain",
    epilog="Examples: ivrguard explain flows/bank.yaml --path /wire/new --proved pin@3m\n\n"
    "ivrguard explain flows/bank.yaml --transfer enqueue:support --proved pin@3m --proved code@2m",
)
def explain_(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.", show_default=False)],
    path: Annotated[str, typer.Option(help="The path that is asked for, such as /menu.")] = "",
    transfer: Annotated[str, typer.Option(help="Or a transfer, as kind:name, such as enqueue:support.")] = "",
    digits: Annotated[str | None, typer.Option(help="The keys pressed; '' for none. Not given: any.")] = None,
    method: Annotated[str | None, typer.Option(help="GET or POST. Not given: either.")] = None,
    dialled: Annotated[
        str | None, typer.Option(help="The number dialled. Not given: any of the flow's.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="When, such as 'mon 09:30'. Not given: any time.")] = None,
    proved: Annotated[
        list[str] | None, typer.Option(help="What is proved: pin, or pin@3m. Repeatable.")
    ] = None,
    enrolled: Annotated[
        str | None, typer.Option(help="What the account has: pin,code. Not given: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """
    Explain one decision: every rule with hit, miss or may, and why; then what would be asked.

    A rule `may` match when it states a condition that you did not tell of.
    """
    found = flow_of(flow)
    if bool(path) == bool(transfer):
        fail("give either --path or --transfer: what is explained is one request, or one transfer")
    case = Case(
        *_visit(found, path, transfer, digits=digits, method=method, dialled=dialled, at=at),
        _call(found, proved or [], enrolled),
    )
    rows = explain(found.rules, found.default, case.visit, case.untold)
    what, demand = asked_of(found, case.visit)
    if what is What.PIN_CHANGE:
        rows = (Row(None, Match.HIT, (PIN_CHANGE,), demand),)
    if as_json:
        print(json.dumps([_record(found, case, row) for row in rows], indent=2, ensure_ascii=False))
        return
    _print(found, case, rows)


def _print(flow: Flow, case: Case, rows: tuple[Row, ...]) -> None:
    """A line a rule, in columns as wide as they need; nothing is broken where there is no terminal."""
    lines = [("rule", "", "why", "needs", "would be asked")]
    for row in rows:
        asked = "" if row.match is Match.MISS else _asked(flow, case, row.demand)
        lines.append((_named(row), row.match.value, _why(flow, row, case.visit), needs(row.demand), asked))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    styles = ["bold", *(STYLES[row.match] for row in rows)]
    for line, style in zip(lines, styles, strict=True):
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        out.print(Text(padded.rstrip(), style=style), soft_wrap=True)


def _named(row: Row) -> str:
    if row.why == (PIN_CHANGE,):
        return PIN_CHANGE
    return "default" if row.position is None else f"rules[{row.position}]"


def needs(demand: Demand) -> str:
    """A demand in an admin's words: `two_factor within 300s, one_factor anew`."""
    if demand.require is None:
        return "nothing: open to anyone"
    within = f" within {demand.within_s}s" if demand.within_s is not None else ""
    anew = f", {demand.reverify} anew" if demand.reverify is not None else ""
    fresh = f" (or {demand.fresh_s}s young)" if anew and demand.fresh_s else ""
    intent = f", for {demand.intent}" if demand.intent else ""
    return f"{demand.require}{within}{anew}{fresh}{intent}"


def _why(flow: Flow, row: Row, visit: Visit) -> str:
    if row.match is Match.HIT:
        if row.position is None:
            return "no rule decided" if not row.why else "the guard answers this path itself"
        return "every condition holds"
    if row.match is Match.MAY:
        return f"not told: {', '.join(row.why)}"
    assert row.position is not None  # the default never misses
    of_transfers = flow.rules[row.position].transfer is not None
    if of_transfers != (visit.transfer is not None):
        return "speaks of transfers" if of_transfers else "speaks of requests"
    return f"other {', '.join(row.why)}".replace("transfer", "target")


def _asked(flow: Flow, case: Case, demand: Demand) -> str:
    steps = _steps(flow, case, demand)
    goes_on = "the call is connected" if case.visit.transfer else "the IVR is asked"
    if steps is None:
        return "refused: it cannot be reached with what is enrolled"
    return f"{', then '.join(steps)}; then {goes_on}" if steps else f"nothing: {goes_on}"


def _steps(flow: Flow, case: Case, demand: Demand) -> tuple[str, ...] | None:
    # What was proved before the transfer was asked for is not fresh for it: proofs are of turn 0, this is turn 1.
    return missing(flow, case.call, demand, 1, NOW_MS)


def _record(flow: Flow, case: Case, row: Row) -> dict[str, object]:
    steps = None if row.match is Match.MISS else _steps(flow, case, row.demand)
    return {
        "rule": row.position,
        "match": row.match.value,
        "conditions": list(row.why),
        "require": row.demand.require,
        "within_s": row.demand.within_s,
        "reverify": row.demand.reverify,
        "intent": row.demand.intent,
        "asks": None if steps is None else list(steps),
        "reachable": row.match is Match.MISS or steps is not None,
    }


def _visit(
    flow: Flow,
    path: str,
    transfer: str,
    *,
    digits: str | None,
    method: str | None,
    dialled: str | None,
    at: str | None,
) -> tuple[Visit, frozenset[str]]:
    """The visit, and what was left open of it."""
    if path and not path.startswith("/"):
        fail(f"--path {path!r}: a path begins with a slash, such as /menu")
    if method not in {None, "GET", "POST"}:
        fail(f"--method {method!r}: write GET or POST")
    target: Target | None = None
    if transfer:
        kind, colon, name = transfer.partition(":")
        if not colon or kind not in TARGET_KINDS:
            fail(f"--transfer {transfer!r}: write kind:name{did_you_mean(kind, TARGET_KINDS)}")
        target = Target(kind, name)
    weekday, minute = 0, 0
    if at is not None:
        moment = _AT.fullmatch(at.lower())
        if moment is None or moment[1] not in DAYS:
            fail(f"--at {at!r}: write a day and a time, such as 'mon 09:30'")
        weekday, minute = DAYS.index(moment[1]), int(moment[2]) * 60 + int(moment[3])
    number = dialled or (flow.numbers[0] if len(flow.numbers) == 1 and flow.numbers[0] != "*" else None)
    told = {"digits": digits, "method": method, "dialled": number, "hours": at}
    untold = frozenset(name for name in OPEN_CONDITIONS if told[name] is None)
    visit = Visit(path, method or "POST", number or "", weekday, minute, digits or None, target)
    return visit, untold


def _call(flow: Flow, proved: list[str], enrolled: str | None) -> Call:
    """A call whose account has so much, and that proved so much."""
    proofs = tuple(_proof(flow, text) for text in proved)
    names = tuple(flow.factors) if enrolled is None else tuple(filter(None, enrolled.split(",")))
    for name in names:
        _known(flow, "--enrolled", name)
    return Call(
        sid="",
        account_sid="",
        flow=flow.name,
        version=flow.version,
        caller=ANONYMOUS,
        dialled="",
        attested=False,
        began_ms=NOW_MS,
        account="0",
        enrolled=names,
        proofs=proofs,
    )


def _proof(flow: Flow, text: str) -> Proof:
    found = _PROVED.fullmatch(text)
    if found is None:
        fail(f"--proved {text!r}: write a factor, and how long ago: pin, or pin@3m")
    _known(flow, "--proved", found[1])
    age_s = int(found[2]) * _UNITS_S[found[3]] if found[2] else 0
    return Proof(found[1], flow.factors[found[1]].kind, NOW_MS - age_s * 1000, 0)


def _known(flow: Flow, option: str, factor: str) -> None:
    if factor not in flow.factors:
        fail(f"{option}: there is no factor '{factor}'{did_you_mean(factor, flow.factors)}")
