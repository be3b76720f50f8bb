"""
A flow as a picture: what can be asked for, in order, what each of it needs, and what levels and factors are made of.

The laws of this file:

1. Three forms of one thing: text for a terminal, Mermaid for documents, SVG (picture.py) for everything else. None of
   them holds anything that the flow does not say, or leaves out a rule; the same flow gives the same bytes.
2. What is open to anyone stands out in each of them: `OPEN`, and a thick red border. A human who takes the call of
   somebody who is locked is open to anyone, too.
3. Every name is escaped.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from ivrguard.commands import plain
from ivrguard.commands.picture import Ask, svg
from ivrguard.commands.shell import flow_of, out
from ivrguard.core.assurance import factors_of
from ivrguard.core.flow import Flow
from ivrguard.core.overlap import is_unconditional
from ivrguard.core.rules import ANYONE, Target

Form = Literal["text", "mermaid", "svg"]

app = typer.Typer()
flows = typer.Typer(name="flows", help="Flows as a whole.", no_args_is_help=True)
app.add_typer(flows)

OPEN = "OPEN"
"""What lines of text begin with that anyone may have."""


@flows.command(
    "graph",
    epilog="Examples: ivrguard flows graph flows/insurer.yaml\n\n"
    "ivrguard flows graph flows/bank.yaml --format svg > bank.svg",
)
def graph(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = Path(
        "flows/bank.yaml"
    ),
    form: Annotated[
        Form,
        typer.Option("--format", help="text; mermaid, for Markdown; svg, for a browser or a wall."),
    ] = "text",
) -> None:
    """Draw a flow: requests and transfers in order, levels, factors. What is open to anyone stands out."""
    found = flow_of(flow)
    if form != "text":
        print(mermaid(found) if form == "mermaid" else svg(found, tuple(asks(found))), end="")
        return
    for line in text(found).splitlines():
        out.print(Text(line, style="red bold" if line.startswith(OPEN) else ""))


def asks(flow: Flow) -> Iterator[Ask]:
    """Everything that can be asked for: the requests in the order in which they are decided, then the transfers."""
    change = flow.pin_change
    if change is not None:
        what = f"{change.path}: a new PIN, by the guard itself; then {change.then}"
        yield Ask("pin_change", what, change.demand, "request")
    rules = list(enumerate(flow.rules))
    for position, rule in rules:
        if rule.transfer is None:
            yield Ask(f"rules[{position}]", plain.conditions(rule), rule.demand, "request")
    yield Ask("default", plain.EVERYTHING_ELSE, flow.default, "request")
    if flow.locks.on_locked_dial is not None:
        what = f"transfer to {flow.locks.on_locked_dial}, of whoever is locked: nothing is verified"
        yield Ask("lockout.on_locked", what, ANYONE, "transfer")
    for position, rule in rules:
        if rule.transfer is not None:
            yield Ask(f"rules[{position}]", plain.conditions(rule), rule.demand, "transfer")
    every = Target("*", "*")
    if not any(
        rule.transfer == every and rule.path is None and is_unconditional(rule) for rule in flow.rules
    ):
        yield Ask("default", "every other transfer", flow.default, "transfer")


def text(flow: Flow) -> str:
    """For a terminal and for diffs: columns as wide as they need."""
    every = list(asks(flow))
    name, what = (max(len(getattr(ask, of)) for ask in every) for of in ("name", "what"))
    lines = [f"{flow.name} {flow.version}: {', '.join(flow.numbers)} -> {flow.upstream.url}"]
    for sort in ("request", "transfer"):
        lines += ["", f"{sort}s, the first match decides"]
        lines += [
            f"{OPEN if ask.open else '':<4}  {ask.name:<{name}}  {ask.what:<{what}}  {plain.needs(ask.demand)}"
            for ask in every
            if ask.sort == sort
        ]
    parts = {
        "levels": {level: plain.made_of(expression) for level, expression in flow.levels.items()},
        "factors": {factor: plain.factor(of) for factor, of in flow.factors.items()},
    }
    wide = max(map(len, (*flow.levels, *flow.factors)))
    for title, named in parts.items():
        lines += ["", title, *(f"      {one:<{wide}}  {words}" for one, words in named.items())]
    return "\n".join(lines) + "\n"


def mermaid(flow: Flow) -> str:
    """For Markdown (https://mermaid.js.org/syntax/flowchart.html): what needs which level, and levels of factors."""
    every = list(asks(flow))
    lines = ["flowchart LR"]
    for sort in ("request", "transfer"):
        lines.append(f'  subgraph {sort}s ["{sort.capitalize()}s, the first match decides"]')
        lines += [
            f'    a{number}["{_label(ask.what)}<br/>{_label(ask.name)}"]'
            for number, ask in enumerate(every)
            if ask.sort == sort
        ]
        lines.append("  end")
    lines.append('  subgraph levels ["Levels"]')
    level_ids = {level: f"l{position}" for position, level in enumerate(flow.levels)}
    for level, expression in flow.levels.items():
        lines.append(f'    {level_ids[level]}["{_label(level)}<br/>{_label(plain.made_of(expression))}"]')
    open_ones = [f"a{number}" for number, ask in enumerate(every) if ask.open]
    if open_ones:
        lines.append('    anyone(["OPEN: anyone"])')
    lines += ["  end", '  subgraph factors ["Factors"]']
    factor_ids = {factor: f"f{position}" for position, factor in enumerate(flow.factors)}
    for factor, of in flow.factors.items():
        lines.append(f'    {factor_ids[factor]}(["{_label(factor)}<br/>{_label(plain.factor(of))}"])')
    lines.append("  end")
    for number, ask in enumerate(every):
        lines += _arrows(f"a{number}", ask, level_ids)
    lines += [
        f"  {level_ids[level]} --> {factor_ids[factor]}"
        for level, expression in flow.levels.items()
        for factor in sorted(factors_of(expression))
    ]
    if open_ones:
        lines += [
            f"  class {','.join((*open_ones, 'anyone'))} open",
            "  classDef open fill:#fef2f2,stroke:#c81e1e,stroke-width:4px,color:#c81e1e",
        ]
    return "\n".join(lines) + "\n"


def _arrows(node: str, ask: Ask, level_ids: dict[str, str]) -> Iterator[str]:
    """To the level that is needed, and dotted to the one that is proved anew."""
    demand = ask.demand
    if demand.require is None:
        yield f"  {node} ==> anyone"
        return
    words = plain.needs(replace(demand, reverify=None)).removeprefix(demand.require).strip(" ,")
    yield f"  {node} -->" + (f'|"{_label(words)}"| ' if words else " ") + level_ids[demand.require]
    if demand.reverify is not None:
        fresh = plain.anew(demand).removeprefix(f", then {demand.reverify} ")
        yield f'  {node} -.->|"{_label(fresh)}"| {level_ids[demand.reverify]}'


def _label(words: str) -> str:
    """Text within quotes: Mermaid's entities are numbers behind `#`."""
    return "".join(sign if sign.isalnum() or sign in " .,:()/_-+@" else f"#{ord(sign)};" for sign in words)
