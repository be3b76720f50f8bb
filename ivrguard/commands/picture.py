"""
The graph of a flow as SVG: what can be asked for, the level that it needs, and the factors that a level is made of.

The laws of this file:

1. Whatever the flow says is there whole: long lines are broken, never cut, and nothing stands outside its box. Letters
   are of one width each, so that this can be worked out.
2. What is open to anyone is red, with a thick border, and leads to a red box of its own; nothing else is red.
3. Every name is escaped. The picture needs nothing from outside, and says in words what it shows
   (https://www.w3.org/TR/SVG2/struct.html#DescElement).
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import cycle
from typing import Literal, TypeVar
from unicodedata import east_asian_width

from ivrguard.commands import plain
from ivrguard.core.assurance import factors_of
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand

Name = TypeVar("Name")

FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
LETTER = 0.61
"""The width of a letter, in font sizes: no font above has wider ones."""

TITLE_PX, TEXT_PX, NOTE_PX = 20, 13, 11
LINE = 1.45
"""From line to line, in font sizes."""

MARGIN_PX, PAD_PX, GAP_PX, BETWEEN_PX = 28, 12, 12, 120
LEFT_PX, MIDDLE_PX, RIGHT_PX = 520, 290, 290
INK, FAINT, RED, PAPER, WASH = "#0f172a", "#475569", "#c81e1e", "#ffffff", "#fef2f2"
COLOURS = ("#1d4ed8", "#0f766e", "#7c3aed", "#b45309", "#334155", "#0e7490")
"""Those of levels, in their order; told apart by their names, too."""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One thing that can be asked for, and what it needs; with `Demand(None)` anyone gets it.

    `name`: where it stands in the flow file. `sort`: a request of the IVR, or a transfer.
    """

    name: str
    what: str
    demand: Demand
    sort: Literal["request", "transfer"]

    @property
    def open(self) -> bool:
        """Whether anyone may."""
        return self.demand.require is None


@dataclass(frozen=True, slots=True)
class _Box:
    """A box with words in it: `head` in bold, `note` below it."""

    x: int
    width: int
    head: str
    note: str
    colour: str
    open: bool = False
    y: int = 0

    @property
    def height(self) -> int:
        lines = len(self.heads) * TEXT_PX + len(self.notes) * NOTE_PX
        return round(lines * LINE) + 2 * PAD_PX

    @property
    def heads(self) -> list[str]:
        return _lines(self.head, self.width - 2 * PAD_PX, TEXT_PX)

    @property
    def notes(self) -> list[str]:
        return _lines(self.note, self.width - 2 * PAD_PX, NOTE_PX)

    @property
    def middle(self) -> int:
        return self.y + self.height // 2

    def drawn(self) -> str:
        """The box as markup."""
        border = f'stroke="{RED}" stroke-width="4"' if self.open else 'stroke="#cbd5e1" stroke-width="1"'
        parts = [
            f"<g><title>{escape(f'{self.head} ({self.note})')}</title>",
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="7"',
            f' fill="{WASH if self.open else PAPER}" {border}/>',
        ]
        if not self.open:
            parts.append(
                f'<rect x="{self.x}" y="{self.y}" width="5" height="{self.height}" rx="2" fill="{self.colour}"/>'
            )
        y = float(self.y + PAD_PX)
        for line in self.heads:
            y += TEXT_PX * LINE
            parts.append(_text(self.x + PAD_PX, y - 5, line, TEXT_PX, RED if self.open else INK, bold=True))
        for line in self.notes:
            y += NOTE_PX * LINE
            parts.append(_text(self.x + PAD_PX, y - 4, line, NOTE_PX, RED if self.open else FAINT))
        return "".join((*parts, "</g>"))


def svg(flow: Flow, asks: Sequence[Ask]) -> str:
    """The picture. The same flow gives the same bytes."""
    colours = dict(zip(flow.levels, cycle(COLOURS), strict=False))
    head, top = _head(flow)
    left, bottom = _left(asks, top, colours)
    middle = _middle(flow, left, top, colours)
    right = _right(flow, middle, top)
    boxes = [*(box for _, box in left), *middle.values(), *right.values()]
    bottom = max(bottom, *(box.y + box.height for box in boxes))
    width = 2 * MARGIN_PX + LEFT_PX + MIDDLE_PX + RIGHT_PX + 2 * BETWEEN_PX
    height = bottom + GAP_PX + round(NOTE_PX * LINE) + MARGIN_PX
    open_ones = ", ".join(ask.name for ask in asks if ask.open) or "nothing"
    said = f"{len(asks)} things can be asked for. Open to anyone: {open_ones}."
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    look = f'role="img" font-family="{escape(FONT)}" xml:space="preserve"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>',
            f"<title>{escape(f'{flow.name} {flow.version}')}</title><desc>{escape(said)}</desc>",
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
            *head,
            *_titles(left, top),
            *_edges(flow, left, middle, right, colours),
            *(box.drawn() for box in boxes),
            _text(MARGIN_PX, height - MARGIN_PX, _LEGEND, NOTE_PX, FAINT),
            "</svg>\n",
        )
    )


_LEGEND = "First match decides, from the top, among requests and among transfers. Dashed: proved anew, at the transfer."


def _head(flow: Flow) -> tuple[list[str], int]:
    """The flow's name, its numbers and its IVR, and where the boxes begin."""
    y = MARGIN_PX + TITLE_PX
    parts = [_text(MARGIN_PX, y, flow.name, TITLE_PX, INK, bold=True)]
    line = f"{', '.join(flow.numbers)} → {flow.upstream.url}, version {flow.version}"
    for piece in _lines(line, LEFT_PX + MIDDLE_PX + RIGHT_PX, NOTE_PX):
        y += round(NOTE_PX * LINE)
        parts.append(_text(MARGIN_PX, y, piece, NOTE_PX, FAINT))
    return parts, y + 2 * MARGIN_PX


def _left(asks: Sequence[Ask], top: int, colours: Mapping[str, str]) -> tuple[list[tuple[Ask, _Box]], int]:
    """A box for each thing that can be asked for: the requests, then the transfers."""
    found: list[tuple[Ask, _Box]] = []
    y = top
    for ask in asks:
        if found and found[-1][0].sort != ask.sort:
            y += 2 * MARGIN_PX
        note = f"{ask.name}: {plain.needs(ask.demand).replace(plain.OPEN, plain.OPEN.upper())}"
        colour = FAINT if ask.demand.require is None else colours[ask.demand.require]
        box = _Box(MARGIN_PX, LEFT_PX, ask.what, note, colour, ask.open, y)
        found.append((ask, box))
        y += box.height + GAP_PX
    return found, y


def _middle(
    flow: Flow, left: Sequence[tuple[Ask, _Box]], top: int, colours: Mapping[str, str]
) -> dict[str | None, _Box]:
    """A box for each level, and one for anyone (None), each near what leads to it."""
    x = MARGIN_PX + LEFT_PX + BETWEEN_PX
    boxes: dict[str | None, _Box] = {
        name: _Box(x, MIDDLE_PX, name, plain.made_of(level), colours[name])
        for name, level in flow.levels.items()
    }
    if any(ask.open for ask, _ in left):
        boxes[None] = _Box(x, MIDDLE_PX, "anyone", "nothing is proved", RED, open=True)
    from_: dict[str | None, list[int]] = {name: [] for name in boxes}
    for ask, box in left:
        from_[ask.demand.require].append(box.middle)
    return _placed(boxes, from_, top)


def _right(flow: Flow, middle: Mapping[str | None, _Box], top: int) -> dict[str, _Box]:
    x = MARGIN_PX + LEFT_PX + MIDDLE_PX + 2 * BETWEEN_PX
    boxes = {
        name: _Box(x, RIGHT_PX, name, plain.factor(factor), FAINT) for name, factor in flow.factors.items()
    }
    from_: dict[str, list[int]] = {name: [] for name in boxes}
    for level, expression in flow.levels.items():
        for name in factors_of(expression):
            from_[name].append(middle[level].middle)
    return _placed(boxes, from_, top)


def _placed(boxes: dict[Name, _Box], from_: Mapping[Name, Sequence[int]], top: int) -> dict[Name, _Box]:
    """Each box as near as can be to the middle of what leads to it, none over another."""
    wanted = {name: sum(from_[name]) // len(from_[name]) if from_[name] else top for name in boxes}
    found: dict[Name, _Box] = {}
    y = top
    for name in sorted(boxes, key=lambda name: wanted[name]):
        y = max(y, wanted[name] - boxes[name].height // 2)
        found[name] = replace(boxes[name], y=y)
        y += boxes[name].height + 2 * GAP_PX
    return found


def _titles(left: Sequence[tuple[Ask, _Box]], top: int) -> Iterator[str]:
    """What the columns are, and where the transfers begin."""
    x = MARGIN_PX
    for words, width in (("Requests", LEFT_PX), ("Levels", MIDDLE_PX), ("Factors", RIGHT_PX)):
        yield _text(x, top - GAP_PX, words, TEXT_PX, FAINT, bold=True)
        x += width + BETWEEN_PX
    first = next(
        box for ask, box in left if ask.sort == "transfer"
    )  # a rule decides the last one, or the default
    yield _text(MARGIN_PX, first.y - GAP_PX, "Transfers", TEXT_PX, FAINT, bold=True)


def _edges(
    flow: Flow,
    left: Sequence[tuple[Ask, _Box]],
    middle: Mapping[str | None, _Box],
    right: Mapping[str, _Box],
    colours: Mapping[str, str],
) -> Iterator[str]:
    """From what can be asked for to its level, and to the one that is proved anew; from levels to factors."""
    for ask, box in left:
        require, reverify = ask.demand.require, ask.demand.reverify
        yield _edge(box, middle[require], RED if require is None else colours[require])
        if reverify is not None:
            yield _edge(
                box, middle[reverify], colours[reverify], down=GAP_PX, dashes=' stroke-dasharray="5 4"'
            )
    for name, level in flow.levels.items():
        for factor in sorted(factors_of(level)):
            yield _edge(middle[name], right[factor], colours[name])


def _edge(begin: _Box, end: _Box, colour: str, *, down: int = 0, dashes: str = "") -> str:
    x, y, to_x, to_y = begin.x + begin.width, begin.middle + down, end.x, end.middle + down
    bend = BETWEEN_PX // 2
    path = f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
    width = 3 if colour == RED else 1.6
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="0.65"{dashes}/>'


def _text(x: int, y: float, words: str, size: int, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y:.0f}" font-size="{size}" fill="{colour}"{weight}>{escape(words)}</text>'


def _lines(words: str, width: int, size: int) -> list[str]:
    """Words in lines that are no wider than `width`; a word that is wider is broken."""
    most = int(width / (size * LETTER))
    if any(east_asian_width(sign) in "WF" for sign in words):
        most //= 2
    first, *rest = textwrap.wrap(
        words, most, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False
    )
    return [first, *(line.removeprefix(" ") for line in rest)]
