"""The table of docs/reliability.md: written from a run, read by the test that holds it against one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.counts import KNOWN, Count
from tests.faults.every import Fault

HEADING = "## Faults over real processes"
HEAD = "| fault | how it is injected | calls run | lost | doubled | let through |\n| --- | --- | --: | --: | --: | --: |"
TITLE = "# Reliability\n"
WORDS = """
Written by `python -m tests.faults --page docs/reliability.md`. Each row was run over real `ivrguard serve` processes, two on one
store, with real sockets and signed webhooks, and the faults are real: signals, stopped connections, full disks. (One number is not: a node waits 1.6 s for another one that
died with a webhook, and not 8.)

What is counted stands in `tests/faults/counts.py`. Guesses are counted where the judge got them, requests where the IVR got
them, messages at the carrier, receipts at the desk, answers at the caller's ear; each is held against the record (whose
chain is verified after each fault) and the ledgers in the store. **Lost**: it happened and is not on record, or somebody got
no answer. **Doubled**: it is on record, counted, or sent more often than it happened. **Let through**: a guess that nobody
counted or beyond the rule, a request that the IVR got without a proof, a second receipt for a token.
"""
BEHIND = """
What is lost, and why:

- **A receipt**, if a process dies between spending a token and answering: a token works once, so the desk's second try is
  refused. The agent has the caller verify once more.
- **A text message** with a code, if a process dies after deciding to send it and before it is handed over: the webhook that
  comes again is answered as before, and sends nothing. The caller asks for another code with a key.

While the store can be written by nobody, callers hear the apology, and the ends of their calls wait in memory until it can;
an answer that was counted when it went and whose verdict could not be kept stays counted as a failure.

What a clock can do: one that jumps ahead ends what time ends (a lock, a code, a token, a proof), once; one that jumps back ends
nothing, makes nothing live longer, and proofs, codes and tokens from its future are worth nothing. Locks end early by no more
than the nodes' clocks differ. What is done anew because an answer was lost is on record with `again: yes`: it is the same
decision, and counts once.

The suite runs all of it with `HYPOTHESIS_PROFILE=ci`, most of it smaller, and a part in every run; weaker guards (one that
counts after judging, one that records in an act of its own, …) are run through the same counts and must be caught.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `what`: what is lost, if anything is."""

    fault: str
    how: str
    calls: int
    lost: int
    doubled: int
    through: int
    what: str = ""

    def __str__(self) -> str:
        lost = f"{self.lost} {self.what}".strip()
        return f"| {self.fault} | {self.how} | {self.calls} | {lost} | {self.doubled} | {self.through} |"


def row(fault: Fault, count: Count) -> Row:
    """What a run came to."""
    lost, doubled, through = len(count.lost), len(count.doubled), len(count.through)
    what = ", ".join(dict.fromkeys(KNOWN.get(one, "others") for one in count.lost))
    return Row(fault.name, fault.how, count.calls, lost, doubled, through, what)


def written(text: str, rows: Iterable[Row]) -> str:
    """The page with this table in its section, and everything else as it is."""
    section = "\n".join([HEADING, WORDS, HEAD, *map(str, rows), BEHIND])
    text = text or TITLE + "\n"
    before, found, rest = text.partition(HEADING)
    if not found:
        return text.rstrip("\n") + "\n\n" + section
    behind = re.search(r"^## ", rest, re.MULTILINE)
    return before + section + ("\n" + rest[behind.start() :] if behind else "")


def read(text: str) -> dict[str, Row]:
    """The rows of a page, by fault."""
    lines = text.partition(HEAD)[2].partition("\n\n")[0].strip().splitlines()
    return dict(map(_read, lines))


def _read(line: str) -> tuple[str, Row]:
    fault, how, calls, lost, doubled, through = (cell.strip() for cell in line.strip("|").split(" | "))
    many, _, what = lost.partition(" ")
    return fault, Row(fault, how, int(calls), int(many), int(doubled), int(through), what)
