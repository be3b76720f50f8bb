"""
What a request of the IVR, or a transfer, needs.

The laws of this file:

1. First match wins; nothing matched: the flow's `default`. The default requires a level unless the admin
   wrote otherwise.
2. A rule matches only if each condition that it states matches. A condition it does not state matches
   everything. A rule with `transfer` speaks of transfers only, a rule without never does.
3. Paths are compared canonical (telephony/links.py: decoded once, no dot segments) and case matters:
   whatever an admin did not name falls to the default, which is the strict side.

`explain` is `decide` with its reasons: the two look at the same `_conditions`, so they cannot disagree.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

PATTERNS_CACHED_MAX = 4_096
TARGET_KINDS = (
    "number",
    "client",
    "sip",
    "conference",
    "queue",
    "whatsapp",
    "application",
    "sim",
    "enqueue",
    "workflow",
    "refer",
    "conversation",
    "room",
)
"""What a call can be handed to: the nouns of `<Dial>`, then `<Enqueue>`, `<Refer>` and `<Connect>`'s."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a transfer leads: `kind` is the noun's name in lower case, `value` what it names.

    `TARGET_KINDS` are all there are.
    """

    kind: str
    value: str

    def __str__(self) -> str:
        """As tokens, keys and records name it: `enqueue:support`."""
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Hours:
    """A time of day on some days of the week, in the flow's time zone; minutes since midnight, end excluded."""

    days: frozenset[int]
    from_minute: int
    to_minute: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether it is such a time: Monday is 0. A span over midnight belongs to the day it began on."""
        if self.from_minute <= self.to_minute:
            return weekday in self.days and self.from_minute <= minute < self.to_minute
        late = weekday in self.days and minute >= self.from_minute
        return late or ((weekday - 1) % 7 in self.days and minute < self.to_minute)


class How(StrEnum):
    """When a caller proves himself once more at a transfer."""

    BEFORE_CONNECT = "before_connect"


@dataclass(frozen=True, slots=True)
class Demand:
    """
    What must hold. `require` None: anyone may.

    `within_s`: proofs older do not count. `reverify`: a level to be proved anew at this transfer, by proofs
    made since it was asked for or at most `fresh_s` seconds old. `intent`: what the caller is about to do,
    in the admin's word. `own_code`: a code by message counts only if its message said this very intent. `bridge`: the guard
    joins caller and agent itself, in a conference (core/conference.py). `anew`: this very factor since it was asked for, whatever
    was proved before, and nothing else; no rule says so, but an agent who leads his caller aside.
    """

    require: str | None
    within_s: int | None = None
    intent: str = ""
    reverify: str | None = None
    fresh_s: int = 0
    how: How = How.BEFORE_CONNECT
    own_code: bool = False
    bridge: bool = False
    anew: str | None = None


ANYONE = Demand(None)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Conditions and the demand where they all hold.

    `path`, `digits`, `dialled` are globs of paths (see `glob`); `transfer` is a pair of globs of names
    (see `name_glob`) over kind and value.
    """

    demand: Demand
    path: str | None = None
    digits: str | None = None
    method: str | None = None
    dialled: str | None = None
    transfer: Target | None = None
    hours: Hours | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What is about to happen: a request to the IVR (`transfer` None) or a transfer of the call."""

    path: str
    method: str
    dialled: str
    weekday: int
    minute: int
    digits: str | None = None
    transfer: Target | None = None


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def glob(pattern: str) -> re.Pattern[str]:
    """
    The glob of a path as a regular expression: `*` within a segment, `**` across, `?` one character.

    `/**` at the end also matches the path itself, and `/**/` a single slash, as in every tool that knows
    `**`: an admin who protects `/wire/**/confirm` means `/wire/confirm` too.
    """
    return _compiled(_PATH_WILD.split(pattern), {"/**/": "(?:.*?/)??", "**": ".*?"}, "[^/]")


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def name_glob(pattern: str) -> re.Pattern[str]:
    """The glob of a name as a regular expression. A name is not a path: `*` matches slashes too."""
    return _compiled(_NAME_WILD.split(pattern), {"*": ".*?"}, ".")


_PATH_WILD = re.compile(r"(/\*\*$|/\*\*/|\*\*|\*|\?)")
_NAME_WILD = re.compile(r"(\*|\?)")


def _compiled(pieces: Sequence[str], across: Mapping[str, str], one: str) -> re.Pattern[str]:
    """
    Literals and wildcards in turn, as an expression of bounded cost: the square of the text's length at most.

    Whatever stands between two wildcards is taken where it is first found, and never looked for again (an atomic
    group): the wildcard behind it takes what lies between that place and any later one. What follows a `*` is taken
    so at once, what follows one that goes `across` slashes only together with all up to the next such one: the `*`
    between them cannot take a slash. `one`: a character that `*` and `?` take.
    """
    done: list[str] = []
    run = part = ""
    after_star = False
    for piece in pieces:
        if piece in across:
            slash = "/" if piece == "/**/" else ""
            done.append(f"(?>{run}{part}{slash})")
            run, part, after_star = "", across[piece], False
        elif piece == "*":
            run += f"(?>{part})" if after_star else part
            part, after_star = f"{one}*?", True
        elif piece == "/**":
            part += "(?:/.*)?"
        else:
            part += one if piece == "?" else re.escape(piece)
    return re.compile("".join((*done, run, part)), re.DOTALL)


def _matches(pattern: str | None, value: str | None) -> bool:
    return pattern is None or (value is not None and glob(pattern).fullmatch(value) is not None)


def _leads(pattern: str | None, path: str) -> bool:
    """Whether a rule's path speaks of `path`: those on other origins (`//host/…`) are named as such, or not meant."""
    return pattern is None or (_elsewhere(pattern) == _elsewhere(path) and _matches(pattern, path))


def _elsewhere(path: str) -> bool:
    return path.startswith("//")


def _conditions(rule: Rule, visit: Visit) -> Iterator[tuple[str, bool]]:
    """Each condition that the rule states, by name, and whether it holds; a rule of the other sort says `transfer`."""
    if (rule.transfer is None) != (visit.transfer is None):
        yield "transfer", False
        return
    if rule.transfer is not None and visit.transfer is not None:
        kind, value = name_glob(rule.transfer.kind), name_glob(rule.transfer.value)
        fits = kind.fullmatch(visit.transfer.kind) and value.fullmatch(visit.transfer.value)
        yield "transfer", fits is not None
    if rule.path is not None:
        yield "path", _leads(rule.path, visit.path)
    if rule.digits is not None:
        yield "digits", _matches(rule.digits, visit.digits)
    if rule.method is not None:
        yield "method", rule.method == visit.method
    if rule.dialled is not None:
        yield "dialled", _matches(rule.dialled, visit.dialled)
    if rule.hours is not None:
        yield "hours", rule.hours.holds(visit.weekday, visit.minute)


def miss(rule: Rule, visit: Visit) -> str | None:
    """The first condition of `rule` that does not hold for `visit`; None: the rule matches."""
    return next((name for name, holds in _conditions(rule, visit) if not holds), None)


def decide(rules: Sequence[Rule], default: Demand, visit: Visit) -> tuple[Demand, int | None]:
    """The demand for `visit`, and the position of the rule that made it (None: the default)."""
    for position, rule in enumerate(rules):
        if miss(rule, visit) is None:
            return rule.demand, position
    return default, None


class Match(StrEnum):
    """What a rule is to a visit of which not everything is known."""

    HIT = "hit"
    MISS = "miss"
    MAY = "may"


OPEN_CONDITIONS = ("digits", "method", "dialled", "hours")
"""What one may leave untold when asking for an explanation."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    One rule in an explanation: its position (None: the default), how it matches, and what it would ask.

    `why`: the conditions that missed, or those that nobody told; empty for a hit.
    """

    position: int | None
    match: Match
    why: tuple[str, ...]
    demand: Demand


def explain(
    rules: Sequence[Rule], default: Demand, visit: Visit, untold: AbstractSet[str] = frozenset()
) -> tuple[Row, ...]:
    """
    A row per rule up to the one that decides for certain, then the default if none does.

    `untold`: conditions (`OPEN_CONDITIONS`) of which `visit` says nothing: a rule that states one of them, and misses
    nothing else, may match. With nothing untold the last row is what `decide` says.
    """
    rows: list[Row] = []
    for position, rule in enumerate(rules):
        found = tuple(_conditions(rule, visit))
        missed = tuple(name for name, holds in found if not holds and name not in untold)
        open_ = tuple(name for name, _ in found if name in untold)
        match = Match.MISS if missed else (Match.MAY if open_ else Match.HIT)
        rows.append(Row(position, match, missed or open_, rule.demand))
        if match is Match.HIT:
            return tuple(rows)
    return (*rows, Row(None, Match.HIT, (), default))
