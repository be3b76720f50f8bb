"""What a bench tells: a row, its goal, and the page that they make together."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Row:
    """
    `what` against a `peer` of the same run: `ours` and `theirs` (medians), and the ratios of the rounds, sorted.

    `goal`, `stretch`: the ratio to reach; `most`: it is to be at most that, and at least otherwise.
    """

    what: str
    peer: str
    ours: float
    theirs: float
    ratios: tuple[float, ...]
    goal: float
    stretch: float
    most: bool = False

    @classmethod
    def of(
        cls,
        what: str,
        peer: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        goal: float,
        stretch: float,
        *,
        most: bool = False,
    ) -> "Row":
        """A row of rounds, measured side by side."""
        ratios = tuple(sorted(a / b for a, b in zip(ours, theirs, strict=True)))
        return cls(
            what, peer, statistics.median(ours), statistics.median(theirs), ratios, goal, stretch, most
        )

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> str:
        """How it stands: `stretch`, `goal`, or `missed`."""
        good = (lambda bound: self.ratio <= bound) if self.most else (lambda bound: self.ratio >= bound)
        return "stretch" if good(self.stretch) else "goal" if good(self.goal) else "**missed**"

    def line(self) -> str:
        """A line of a Markdown table."""
        bound = f"{'≤' if self.most else '≥'} {self.goal:g} ({self.stretch:g})"
        spread = f"{self.ratios[0]:.2f} to {self.ratios[-1]:.2f}"
        figures = f"{self.ours:,.4g} / {self.theirs:,.4g}"
        return (
            f"| {self.what} | {self.peer} | {figures} | {self.ratio:.2f} | {spread} | {bound} | {self.met} |"
        )


HEAD = """| what | against | ours / theirs | ratio | rounds | at least (stretch) | |
| --- | --- | --- | --- | --- | --- | --- |"""


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    return "\n".join([HEAD, *(row.line() for row in rows)])
