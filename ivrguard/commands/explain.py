"""`explain`: what a request or a transfer needs by a flow's rules, why, and what a caller would be asked."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from ivrguard.commands import plain
from ivrguard.commands.shell import fail, flow_of, out
from ivrguard.core.assurance import Freshness, Kind, Proof
from ivrguard.core.call import Call, What
from ivrguard.core.caller import ANONYMOUS, address_of
from ivrguard.core.check import did_you_mean
from ivrguard.core.demands import asked_of, missing
from ivrguard.core.flow import Flow
from ivrguard.core.raising import raised
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
from ivrguard.flowfile.forms import DURATION, seconds, spoken
from ivrguard.telephony.links import MAC_KEY_BYTES_MIN, Links, Refused

_PROVED = re.compile(f"([A-Za-z][A-Za-z0-9_-]*)(?:@({DURATION.pattern}))?")
_AT = re.compile(r"([a-z]{3}) ([01][0-9]|2[0-3]):([0-5][0-9])")
PIN_CHANGE = "pin_change"
STYLES = {Match.HIT: "green", Match.MAY: "yellow", Match.MISS: "dim"}
OPTIONS = {"digits": "--digits", "method": "--method", "dialled": "--dialled", "hours": "--at"}
"""How each of `OPEN_CONDITIONS` is told."""
OTHERS = {
    "path": "path",
    "transfer": "transfer",
    "digits": "keys",
    "method": "method",
    "dialled": "number dialled",
    "hours": "time",
}
"""What missed, in words."""
NOW_MS = 10**12
"""Some moment: only how long ago something was proved matters."""

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Case:
    """What is explained: the visit, what nobody told of it, and the call as it stands. `usual`: the flow without an alert."""

    flow: Flow
    visit: Visit
    untold: frozenset[str]
    call: Call
    usual: Flow

    def raises(self, row: Row) -> bool:
        """Whether the demand of this row is more than it would be without an alert."""
        if row.why == (PIN_CHANGE,) and self.usual.pin_change is not None:
            return self.usual.pin_change.demand != row.demand
        usual = self.usual.default if row.position is None else self.usual.rules[row.position].demand
        return usual != row.demand

    def asks(self, demand: Demand) -> tuple[tuple[str, ...], bool]:
        """
        The factors that would be asked for, one after the other, and whether that gets the caller what he wants.

        What was proved before the transfer was asked for is not fresh for it: proofs are of turn 0, this is turn 1. Each
        answer is right, if the account has that factor; the first question is the same for all (core/demands.py).
        """
        call, asked = self.call, list[str]()
        while steps := missing(self.flow, call, demand, 1, NOW_MS):
            factor = steps[0]
            asked.append(factor)
            if factor not in call.enrolled:
                return tuple(asked), False
            kind = self.flow.factors[factor].kind
            proof = Proof(factor, kind, NOW_MS, 1, demand.intent if kind is Kind.SMS_CODE else "")
            call = replace(call, proofs=(*call.proofs, proof))
        return tuple(asked), steps is not None


@app.command(
    name="explain",
    epilog="Examples: ivrguard explain flows/bank.yaml --path /wire/new --proved pin@3m\n\n"
    "ivrguard explain flows/insurer.yaml --path /claims/7 --at 'sun 03:00'\n\n"
    "ivrguard explain flows/bank.yaml --transfer enqueue:support --proved pin@3m --proved code@2m\n\n"
    "ivrguard explain flows/bank.yaml --path /balance --alert",
)
def explain_(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.", show_default=False)],
    path: Annotated[
        str, typer.Option(help="The path that is asked for, such as /menu; / is the IVR's first document.")
    ] = "",
    transfer: Annotated[str, typer.Option(help="Or a transfer, as kind:name, such as enqueue:support.")] = "",
    digits: Annotated[str | None, typer.Option(help="The keys pressed; '' for none. Not given: any.")] = None,
    method: Annotated[str | None, typer.Option(help="GET or POST. Not given: either.")] = None,
    dialled: Annotated[
        str | None, typer.Option(help="The number dialled. Not given: any of the flow's.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="When, by the flow's clock: 'mon 09:30'. Not given: any time.")
    ] = None,
    proved: Annotated[
        list[str] | None, typer.Option(help="What is proved: pin, or pin@3m. Repeatable.")
    ] = None,
    enrolled: Annotated[
        str | None, typer.Option(help="What the account has: pin,code. Not given: all.")
    ] = None,
    alert: Annotated[
        bool, typer.Option("--alert", help="As it is while an alert of an attack stands.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """
    Explain one decision: every rule with hit, miss or may, and why; then what would be asked.

    A rule `may` match when it states a condition that you did not tell of.
    """
    found = flow_of(flow)
    if bool(path) == bool(transfer):
        fail("give either --path or --transfer: what is explained is one request, or one transfer")
    visit, untold = _visit(found, path, transfer, digits=digits, method=method, dialled=dialled, at=at)
    usual, found = found, raised(found) if alert else found
    case = Case(found, visit, untold, _call(found, proved or [], enrolled), usual)
    what, demand = asked_of(found, visit)
    rows = (
        (Row(None, Match.HIT, (PIN_CHANGE,), demand),)
        if what is What.PIN_CHANGE
        else explain(found.rules, found.default, visit, untold)
    )
    if as_json:
        print(json.dumps(_record(case, rows), indent=2, ensure_ascii=False))
        return
    for line, style in _told(case, rows):
        out.print(Text(line.rstrip(), style=style))


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────


def _told(case: Case, rows: tuple[Row, ...]) -> Iterator[tuple[str, str]]:
    """Each line with its style: what is asked, a line a rule and two more for each that matters, and what it comes to."""
    asked = f"transfer to {case.visit.transfer}" if case.visit.transfer else f"request for {case.visit.path}"
    yield f"{case.flow.name} {case.flow.version}: a {asked}", "bold"
    yield "", ""
    doubtful = any(row.match is Match.MAY for row in rows)
    cells = [(_named(row), row.match.value, _says(case.flow, row), _why(case, row, doubtful)) for row in rows]
    name, match, says, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
    for row, cell in zip(rows, cells, strict=True):
        style = STYLES[row.match]
        yield f"{cell[0]:<{name}}  {cell[1]:<{match}}  {cell[2]:<{says}}  {cell[3]}", style
        if row.match is not Match.MISS:
            indent = " " * (name + match + 4)
            more = " (raised because of an alert)" if case.raises(row) else ""
            yield (
                f"{indent}{'' if row.demand.require is None else 'needs: '}{plain.needs(row.demand)}{more}",
                style,
            )
            yield f"{indent}asked: {_asked(case, row)}", style
    if after := _after(case.flow, rows):
        yield f"{after}: not looked at, since the first rule that matches decides", "dim"
    notes = [*_proofs(case, rows[-1].demand), *_advice(rows)]
    if notes:
        yield "", ""
        yield from ((note, "") for note in notes)


def _named(row: Row) -> str:
    if row.why == (PIN_CHANGE,):
        return PIN_CHANGE
    return "default" if row.position is None else f"rules[{row.position}]"


def _says(flow: Flow, row: Row) -> str:
    if row.position is not None:
        return plain.conditions(flow.rules[row.position])
    return plain.EVERYTHING_ELSE if flow.pin_change is None or not row.why else flow.pin_change.path


def _why(case: Case, row: Row, doubtful: bool) -> str:
    match row.match:
        case Match.HIT if row.why:
            return "the guard answers this path itself"
        case Match.HIT if row.position is None:
            return "no rule is sure to match" if doubtful else "no rule matches"
        case Match.HIT:
            return "every condition holds"
        case Match.MAY:
            return f"not told: {', '.join(OPTIONS[name] for name in row.why)}"
        case _:
            assert row.position is not None  # the default never misses
            of_transfers = case.flow.rules[row.position].transfer is not None
            if of_transfers != (case.visit.transfer is not None):
                return "speaks of transfers" if of_transfers else "speaks of requests"
            return f"another {', '.join(OTHERS[name] for name in row.why)}"


def _asked(case: Case, row: Row) -> str:
    """What the caller would hear, and what comes of it."""
    change = case.flow.pin_change
    if row.why == (PIN_CHANGE,) and change is not None:
        goes_on = f"the guard asks for the new PIN, and the call goes on at {change.then}"
    else:
        goes_on = "the call is connected" if case.visit.transfer else "your IVR gets the request"
    steps, reached = case.asks(row.demand)
    if not reached:
        goes_on = "he is refused: the account has not enrolled what this takes"
    first = () if case.call.proofs or not steps else (f"{case.flow.identify.ask} (if he has not told it)",)
    return f"{', then '.join((*first, *steps))}; then {goes_on}" if steps else f"nothing: {goes_on}"


def _after(flow: Flow, rows: tuple[Row, ...]) -> str:
    """The rules behind the one that decides."""
    last = rows[-1]
    begin = 0 if last.why == (PIN_CHANGE,) else len(rows)
    left = [f"rules[{position}]" for position in range(begin, len(flow.rules))]
    if last.position is None and not last.why:
        return ""
    return " to ".join(dict.fromkeys((left[0], left[-1]))) + " and default" if left else "default"


def _proofs(case: Case, demand: Demand) -> Iterator[str]:
    """What each proof is worth to the demand that decides."""
    if demand.require is None:
        return
    for proof in case.call.proofs:
        age_s = (NOW_MS - proof.at_ms) // 1000
        age = f"{spoken(age_s)} ago" if age_s else "just now"
        if demand.within_s is not None and not Freshness(demand.within_s).counts(proof, NOW_MS):
            worth = f"too old: it counts for {spoken(demand.within_s)}"
        elif demand.own_code and proof.kind is Kind.SMS_CODE:
            worth = (
                f"taken for a code sent for something else: only one sent for `{demand.intent}` counts here"
            )
        elif demand.reverify is not None and not Freshness(None, 1, demand.fresh_s).counts(proof, NOW_MS):
            worth = f"counts, but not as `{demand.reverify}` anew: it is from before this transfer"
        else:
            worth = "counts"
        yield f"{proof.factor}, proved {age}: {worth}"


def _advice(rows: tuple[Row, ...]) -> Iterator[str]:
    untold = dict.fromkeys(OPTIONS[name] for row in rows if row.match is Match.MAY for name in row.why)
    if untold:
        yield f"Tell {' and '.join(untold)}, and there is one answer."


# ── for machines ─────────────────────────────────────────────────────────────────────────────────────────


def _record(case: Case, rows: tuple[Row, ...]) -> dict[str, object]:
    return {
        "flow": case.flow.name,
        "version": case.flow.version,
        "path": None if case.visit.transfer else case.visit.path,
        "transfer": str(case.visit.transfer) if case.visit.transfer else None,
        "certain": all(row.match is not Match.MAY for row in rows),
        "rules": [_row(case, row) for row in rows],
    }


def _row(case: Case, row: Row) -> dict[str, object]:
    steps, reached = ((), True) if row.match is Match.MISS else case.asks(row.demand)
    return {
        "rule": _named(row),
        "says": _says(case.flow, row),
        "match": row.match.value,
        "conditions": [] if row.why == (PIN_CHANGE,) else list(row.why),
        "require": row.demand.require,
        "within_s": row.demand.within_s,
        "reverify": row.demand.reverify,
        "fresh_s": row.demand.fresh_s,
        "intent": row.demand.intent,
        "own_code": row.demand.own_code,
        "asks": None if row.match is Match.MISS else list(steps),
        "reached": None if row.match is Match.MISS else reached,
    }


# ── what was told ────────────────────────────────────────────────────────────────────────────────────────


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
    if method not in {None, "GET", "POST"}:
        fail(f"--method {method!r}: write GET or POST")
    weekday, minute = 0, 0
    if at is not None:
        moment = _AT.fullmatch(at.lower())
        if moment is None or moment[1] not in DAYS:
            fail(f"--at {at!r}: write a day and a time, such as 'mon 09:30'")
        weekday, minute = DAYS.index(moment[1]), int(moment[2]) * 60 + int(moment[3])
    number = _dialled(flow, dialled)
    told = {"digits": digits, "method": method, "dialled": number, "hours": at}
    untold = frozenset(name for name in OPEN_CONDITIONS if told[name] is None)
    target = _target(transfer) if transfer else None
    asked = _path(flow, path) if path else ""
    return Visit(asked, method or "POST", number or "", weekday, minute, digits or None, target), untold


def _path(flow: Flow, path: str) -> str:
    """The one spelling of a path, as a request for it would be compared with the rules."""
    if not path.startswith("/"):
        fail(f"--path {path!r}: a path begins with a slash, such as /menu")
    if path.startswith("//"):  # one of another origin, as rules name it
        return path
    links = Links("https://guard.invalid", flow.upstream.url, flow.upstream.also, bytes(MAC_KEY_BYTES_MIN))
    try:
        return links.inward(quote(path, safe="/?%=&;:@!$'()*+,~")).path
    except Refused:
        fail(
            f"--path {path!r}: the guard refuses such a request whatever the rules say; write a path of your IVR's"
        )


def _target(transfer: str) -> Target:
    kind, colon, name = transfer.partition(":")
    if kind not in TARGET_KINDS:
        fail(f"--transfer {transfer!r}: write kind:name{did_you_mean(kind, TARGET_KINDS)}")
    if not colon or not name:
        fail(f"--transfer {transfer!r}: write kind:name, such as {kind}:support")
    return Target(kind, name)


def _dialled(flow: Flow, dialled: str | None) -> str | None:
    """The number dialled, in its one spelling; the flow's own, if it has no other; None: nobody told."""
    if dialled is None:
        return flow.numbers[0] if len(flow.numbers) == 1 and flow.numbers[0] != "*" else None
    number = address_of(dialled).value
    if number not in flow.numbers and "*" not in flow.numbers:
        fail(f"--dialled {dialled!r}: this flow does not answer it; it answers {', '.join(flow.numbers)}")
    return number


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
    age_s = (seconds(found[2]) if found[2] else None) or 0
    return Proof(found[1], flow.factors[found[1]].kind, NOW_MS - age_s * 1000, 0)


def _known(flow: Flow, option: str, factor: str) -> None:
    if factor not in flow.factors:
        fail(f"{option}: there is no factor '{factor}'{did_you_mean(factor, flow.factors)}")
