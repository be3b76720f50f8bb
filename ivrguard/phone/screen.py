"""
What a call looks like in a terminal: for the demo, and for the telephone that a person plays.

1. What is heard is told in the words of `heard.describe`, a line each, in order; what makes no sound is left out.
2. Words are printed as they came, whoever's flow they are from: no markup, no names of emoji (`:100:` stands in
   the place of a fault, too), and no line is broken: a terminal wraps softly, a pipe gets it whole.
"""

from typing import IO

from rich.console import Console
from rich.text import Text

from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import describe, makes_a_sound
from ivrguard.phone.messages import Messages

_MARKS = {
    ">>": ("▸", "yellow"),
    "<<": ("◂", "cyan"),
    "==": ("✓", "green"),
    "  ": ("☎", "blue"),
}
"""How the lines of a story that is played look, by their mark (`stage.Listener`)."""


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A console that keeps law 2. `file`: instead of standard output or error."""
    return Console(stderr=stderr, file=file, highlight=False, emoji=False, markup=False, soft_wrap=True)


def show(out: Console, mark: str, text: str, style: str) -> None:
    """Print one line of a talk, behind a mark in that style."""
    out.print(Text.assemble("   ", (mark, style), " ", text))


def show_told(out: Console, mark: str, words: str) -> None:
    """Print a line of a story that is played: what `stage.Listener` hears."""
    sign, style = _MARKS[mark]
    show(out, sign, words, style)


class Screen:
    """Follows one line and the text messages of its carrier, and prints what is new on both."""

    def __init__(self, out: Console, line: Line, carrier: Messages) -> None:
        self.heard: list[str] = []
        self._out = out
        self._line = line
        self._carrier = carrier
        self._events = 0
        self._texts = len(carrier.sent)

    def show(self) -> str:
        """Print what came since the last time; what of it was heard on the line, as one text."""
        events = self._line.heard[self._events :]
        texts = self._carrier.sent[self._texts :]
        self._events += len(events)
        self._texts += len(texts)
        news = [describe(event) for event in events if makes_a_sound(event)]
        for heard in news:
            self.print("◂", heard, "cyan")
        for text in texts:
            self.print(f"✉ to {text.to}:", text.body, "magenta")
        self.heard += news
        return " ".join(news)

    def keyed(self, keys: str, why: str = "") -> None:
        """Print what the caller keyed, and why."""
        self.print("▸", f"{keys}  ({why})" if why else keys, "yellow")

    def print(self, mark: str, text: str, style: str) -> None:
        """One line behind a mark in that style."""
        show(self._out, mark, text, style)
