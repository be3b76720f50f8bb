"""
A flow as a picture: its rules in order, what each of them needs, and what its levels are made of.

The laws of this file:

1. Three forms of one thing: text for a terminal, Mermaid for documents, SVG for everything else. None of them holds
   anything that the flow does not say, and the same flow gives the same bytes.
2. What is open to anyone stands out in each of them: `OPEN`, and a thick red border.
3. Every name is escaped. An SVG needs nothing from outside, and says in words what it shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Literal

import typer

from ivrguard.commands.explain import needs
from ivrguard.commands.shell import flow_of
from ivrguard.core.assurance import AllOf, AnyOf, Expression
from ivrguard.core.flow import Factor, Flow
from ivrguard.core.rules import DAYS, Demand, Hours, Rule

Form = Literal["text", "mermaid", "svg"]

app = typer.Typer()
flows = typer.Typer(name="flows", help="Flows as a whole.", no_args_is_help=True)
app.add_typer(flows)

ROW_PX, GAP_PX, MARGIN_PX, CHARACTER_PX = 34, 12, 16, 7
LEFT_PX, RIGHT_PX = 520, 430
LABEL_CHARS_MAX = 68
"""As much as a box of the picture holds; a longer one is cut, and whole in its title."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the picture: what is asked for, and what it needs."""

    name: str
    what: str
    demand: Demand

    @property
    def open(self) -> bool:
        """Whether anyone may."""
        return self.demand.require is None


@flows.command("graph", epilog="Example: ivrguard flows graph flows/bank.yaml --format svg > bank.svg")
def graph(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = Path(
        "flows/bank.yaml"
    ),
    form: Annotated[Form, typer.Option("--format", help="text, mermaid or svg.")] = "text",
) -> None:
    """Draw a flow: rules in order, levels, factors, transfers. What is open to anyone stands out."""
    print({"text": text, "mermaid": mermaid, "svg": svg}[form](flow_of(flow)), end="")


def steps(flow: Flow) -> Iterator[Step]:
    """Everything that can be asked for, in the order in which it is decided."""
    if flow.pin_change is not None:
        change = flow.pin_change
        yield Step("pin_change", f"{change.path} (the guard), then {change.then}", change.demand)
    for position, rule in enumerate(flow.rules):
        yield Step(f"rules[{position}]", conditions(rule), rule.demand)
    yield Step("default", "everything else", flow.default)


def conditions(rule: Rule) -> str:
    """What a rule matches, in a line."""
    told = (
        ("transfer to", f"{rule.transfer.kind}:{rule.transfer.value}" if rule.transfer else None),
        ("", rule.path),
        ("keys", rule.digits),
        ("by", rule.method),
        ("dialled", rule.dialled),
        ("on", _hours(rule.hours) if rule.hours else None),
    )
    return ", ".join(f"{name} {value}".strip() for name, value in told if value is not None)


def _hours(hours: Hours) -> str:
    days = ",".join(DAYS[day] for day in sorted(hours.days))
    begin, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (hours.from_minute, hours.to_minute))
    return f"{days} {begin}-{end}"


def made_of(expression: Expression) -> str:
    """A level in a line: `pin and (code or app)`."""
    match expression:
        case AnyOf(of):
            return "(" + " or ".join(map(made_of, of)) + ")" if len(of) > 1 else made_of(of[0])
        case AllOf(of):
            return " and ".join(map(made_of, of))
        case factor:
            return factor


def _factor(factor: Factor) -> str:
    return f"{factor.kind.value}, {factor.digits} digits"


def text(flow: Flow) -> str:
    """For a terminal and for diffs: columns as wide as they need."""
    every = list(steps(flow))
    wide = [max(len(getattr(step, name)) for step in every) for name in ("name", "what")]
    lines = [f"{flow.name} {flow.version}: {', '.join(flow.numbers)} -> {flow.upstream.url}", ""]
    for step in every:
        mark = "OPEN " if step.open else "     "
        lines.append(
            f"{mark}{step.name:<{wide[0]}}  {step.what:<{wide[1]}}  -> {needs(step.demand)}".rstrip()
        )
    lines += ["", *(f"level {name}: {made_of(level)}" for name, level in flow.levels.items())]
    lines += [f"factor {name}: {_factor(factor)}" for name, factor in flow.factors.items()]
    return "\n".join(lines) + "\n"


def mermaid(flow: Flow) -> str:
    """For Markdown (https://mermaid.js.org/syntax/flowchart.html): what needs which level, and levels of factors."""
    lines = ["flowchart LR"]
    anyone = False
    for number, step in enumerate(steps(flow)):
        lines.append(f'  s{number}["{_label(f"{step.name}: {step.what}")}"]')
        if step.open:
            anyone = True
            lines += [f"  s{number} --> anyone", f"  class s{number} open"]
            continue
        for level, edge in ((step.demand.require, needs(step.demand)), (step.demand.reverify, "anew")):
            if level is not None:
                lines.append(f'  s{number} -- "{_label(edge)}" --> {_level(flow, level)}')
    for name, expression in flow.levels.items():
        lines.append(f'  {_level(flow, name)}{{{{"{_label(f"{name}: {made_of(expression)}")}"}}}}')
    if anyone:
        lines += ['  anyone(["OPEN: anyone"])', "  class anyone open"]
    lines.append("  classDef open stroke:#c00,stroke-width:4px")
    return "\n".join(lines) + "\n"


def _level(flow: Flow, name: str) -> str:
    """A level's node: names of an admin's are no identifiers of Mermaid's."""
    return f"l{list(flow.levels).index(name)}"


def _label(words: str) -> str:
    """Text within quotes: Mermaid's entities are numbers behind `#`."""
    return "".join(sign if sign.isalnum() or sign in " .,:()/_-+@" else f"#{ord(sign)};" for sign in words)


def svg(flow: Flow) -> str:
    """For everything else: a box a rule on the left, what it needs on the right, and the levels below."""
    every = list(steps(flow))
    levels = [f"{name}: {made_of(level)}" for name, level in flow.levels.items()]
    height = MARGIN_PX * 2 + (len(every) + len(levels) + 1) * (ROW_PX + GAP_PX)
    width = MARGIN_PX * 3 + LEFT_PX + RIGHT_PX
    open_ones = [step.name for step in every if step.open]
    said = f"{len(every)} steps in order; open to anyone: {', '.join(open_ones) or 'none'}."
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="13">',
        f"<title>{escape(flow.name)} {escape(flow.version)}</title><desc>{escape(said)}</desc>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    top = MARGIN_PX
    right = MARGIN_PX * 2 + LEFT_PX
    for step in every:
        out.append(_box(MARGIN_PX, top, LEFT_PX, f"{step.name}: {step.what}", open_=step.open))
        middle = top + ROW_PX // 2
        out.append(f'<path d="M{MARGIN_PX + LEFT_PX} {middle}H{right}" stroke="#555"/>')
        words = "OPEN to anyone" if step.open else needs(step.demand)
        out.append(_box(right, top, RIGHT_PX, words, open_=step.open))
        top += ROW_PX + GAP_PX
    out.append(f'<text x="{MARGIN_PX}" y="{top + ROW_PX // 2}" font-weight="bold">Levels</text>')
    for level in levels:
        top += ROW_PX + GAP_PX
        out.append(_box(MARGIN_PX, top, LEFT_PX, level, open_=False))
    return "\n".join([*out, "</svg>"]) + "\n"


def _box(x: int, y: int, width: int, words: str, *, open_: bool) -> str:
    border = 'stroke="#c00" stroke-width="4"' if open_ else 'stroke="#555"'
    shown = words if len(words) <= LABEL_CHARS_MAX else words[: LABEL_CHARS_MAX - 1] + "…"
    fits = min(len(shown) * CHARACTER_PX, width - 2 * GAP_PX)
    return (
        f'<g><title>{escape(words)}</title><rect x="{x}" y="{y}" width="{width}" height="{ROW_PX}" rx="5"'
        f' fill="#fff" {border}/><text x="{x + GAP_PX}" y="{y + ROW_PX // 2 + 5}" textLength="{fits}"'
        f' lengthAdjust="spacingAndGlyphs">{escape(shown)}</text></g>'
    )
