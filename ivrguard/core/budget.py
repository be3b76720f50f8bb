"""
The guess budget: the most guesses that a rule allows, worked out before a caller can make one.

The laws of this file:

1. It bounds the best play against `lockout.reserve`: nobody gets more guesses judged in one ledger, however he times
   them, and somebody who plays as below gets as many (tests/core/test_budget.py plays him through `reserve` itself).
2. The owner of an account calls, too, and each success of his forgives what was guessed before it: that is counted,
   at the moments that suit the guesser best. `OWNER_SUCCESSES_A_YEAR` is an assumption; the rest is worked out.
3. A new code is not new guesses: codes are counted in the same ledger (NIST SP 800-63B-4, 3.1.3), so how many are
   sent does not matter here. Nor does what a flow calls a factor, or which of an account's telephones is used:
   ledgers go by kind and lane, and an account has a bounded number of lanes (docs/decisions.md, 15 and 18).
4. Chances are of secrets drawn at random. People choose worse: five guesses at PINs of four digits that people chose
   open one account in eight (https://flowingdata.com/2025/02/06/using-the-same-four-digit-pin-as-others/), which is
   what the list of weak PINs (factors/pin.py) is for.
5. Flows over one directory share its ledgers. Whoever guesses takes the one with the largest budget.

The best play. Guesses come in batches at one moment. A batch of `failures - 1` costs a wait of `within_s` before the
next one; one guess more in it locks, and the wait is the lock instead; a success of the owner costs no wait, and the
lock after it is a step shorter. Spreading a batch gains nothing: whichever guess is made later, the window that it
stands in ends later. So with h locks on the way, g plain waits and s successes the guesses before time T are
(failures - 1)(1 + h + g + s) + h + 1, the last batch being free to lock, where the first h locks and g windows fit
into T. Which h is best depends on the rule: all of them are tried, up to `LOCKS_TRIED_MAX`; what is beyond is bounded
by the better of the two rates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import ceil, prod

from ivrguard.core.assurance import Kind, ways
from ivrguard.core.flow import Factor, Finding, Flow
from ivrguard.core.lockout import TRUST_KEPT_S, TRUSTED_NUMBERS_MAX, Rule

DAY_S = 86_400
YEAR_S = 365 * DAY_S
LOCKS_TRIED_MAX = 500
RULES_CACHED_MAX = 256

OWNER_SUCCESSES_A_YEAR = 12
"""How often the owner proves one factor in a year: once a month. Nobody publishes how often customers call."""

TOTP_STEPS_ACCEPTED = 3
"""factors/totp.py: the step of now, the one before and the one after."""

PINS_LEFT = 0.89
"""The least part of all PINs of a length that factors/pin.py takes: a guesser leaves out the others."""

LANES_MAX = 1 + 2 * TRUSTED_NUMBERS_MAX
"""
The lanes of an account in any year: the pool, and those of its trusted numbers.

A number lapses `TRUST_KEPT_S`, which is more than a year, after its last right answer, and another one may take its
place: two numbers at each place. To have one of his own there, a guesser must have proved another factor first.
"""
assert TRUST_KEPT_S > YEAR_S

ACCOUNTS = 100_000
"""Accounts in a spray, unless somebody says how many there are."""


# ── one ledger ───────────────────────────────────────────────────────────────────────────────────────────


def most(rule: Rule, time_s: int, successes: int = 0) -> int:
    """
    The most guesses judged in one ledger of `rule` in `time_s` seconds (the end excluded), from a clean start.

    `successes`: how often the owner answers right in that time.
    """
    return _mosts(rule, time_s, successes)[-1]


@lru_cache(maxsize=RULES_CACHED_MAX)
def _mosts(rule: Rule, time_s: int, successes: int) -> tuple[int, ...]:
    """The most guesses for each number of successes from none to so many."""
    best = [0] * (successes + 1)
    waited: list[int] = []
    for hits, waited in enumerate(_waited(rule, successes)):
        if waited[-1] >= time_s:
            break
        for count, wait_s in enumerate(waited):
            if wait_s < time_s:
                waits = (time_s - wait_s - 1) // rule.within_s
                best[count] = max(best[count], _guesses(rule.failures, hits, waits + count))
    else:  # there is time for more locks than were tried: what is left, at the better rate
        rate = max(rule.failures / rule.lock_s[-1], (rule.failures - 1) / rule.within_s)
        for count, wait_s in enumerate(waited):
            if wait_s < time_s:
                more = int((time_s - wait_s) * rate) + rule.failures
                best[count] = max(best[count], _guesses(rule.failures, hits, count) + more)
    if rule.lifetime:  # the owner's own attempt must be one that is still judged
        best = [min(found, rule.lifetime + (rule.lifetime - 1) * count) for count, found in enumerate(best)]
    return tuple(best)


def _waited(rule: Rule, successes: int) -> Iterator[list[int]]:
    """
    For each number of locks from none on: the least time that they take, for up to so many successes.

    A success takes back one step of the ladder, if there is one. Each order of locks and successes is looked at.
    """
    last = len(rule.lock_s) - 1
    costs: list[float] = [0, *[float("inf")] * successes]  # by how many steps were taken back
    for hits in range(last + LOCKS_TRIED_MAX + 1):
        yield [int(cost) for cost in accumulate(costs, min)]
        costs = [
            cost + rule.lock_s[min(hits - back, last)] if back <= hits else cost
            for back, cost in enumerate(costs)
        ]
        for back in range(min(hits + 1, successes)):
            costs[back + 1] = min(costs[back + 1], costs[back])


def _guesses(failures: int, hits: int, others: int) -> int:
    return (failures - 1) * (1 + hits + others) + hits + 1


def most_in_lanes(rule: Rule, time_s: int, successes: int, lanes: int) -> int:
    """The most in so many ledgers together, however the owner's successes spread over them."""
    mosts = _mosts(rule, time_s, successes)
    if lanes == 1:
        return mosts[-1]
    gain = max(((found - mosts[0]) / count for count, found in enumerate(mosts) if count), default=0)
    return lanes * mosts[0] + ceil(gain * successes)


# ── a flow ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Row:
    """
    One factor in one lane, or in all of them: `lanes` ledgers counted together.

    `a_day`, `a_year`, `ever` (None: without end): guesses while the owner does not call. `a_year_calling`: while he
    answers right `OWNER_SUCCESSES_A_YEAR` times; `chance_a_year`: that one of those is right. `chance_ever`: that one
    of `ever` is.
    """

    factor: str
    lane: str
    lanes: int
    a_day: int
    a_year: int
    ever: int | None
    a_year_calling: int
    chance_a_year: float
    chance_ever: float


@dataclass(frozen=True, slots=True)
class Reach:
    """That a stranger who knows no secret reaches a level of one account in a year, by guessing alone: at most so likely."""

    level: str
    chance_a_year: float


@dataclass(frozen=True, slots=True)
class Spray:
    """
    One guesser against many accounts: `broken_a_year` accounts expected, whose level `level` he reaches.

    `a_number_a_day`: guesses from one number over all accounts (None: not bounded). `numbers`: how many a guesser
    needs for all the guesses of a year (None: one will do). A withheld number has no such bound.
    """

    accounts: int
    level: str
    broken_a_year: float
    a_number_a_day: int | None
    numbers: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """Every row, what it means for each level that is asked for, and the spray; `flow` by name."""

    flow: str
    rows: tuple[Row, ...]
    levels: tuple[Reach, ...]
    spray: Spray | None


def budget(flow: Flow, accounts: int = ACCOUNTS) -> Budget:
    """What a best guesser gets against one account of this flow, which has no fault, and against `accounts` of them."""
    rows = tuple(_rows(flow))
    levels = tuple(_levels(flow, rows))
    weakest = max(levels, key=lambda reach: reach.chance_a_year, default=None)
    if weakest is None:
        return Budget(flow.name, rows, levels, None)
    a_number_a_day, numbers = None, None
    if flow.locks.caller_number is not None:
        a_number_a_day = most(flow.locks.caller_number, DAY_S)
        wanted = accounts * sum(row.a_year_calling for row in rows if row.lane == POOL)
        numbers = -(-wanted // most(flow.locks.caller_number, YEAR_S))
    broken = accounts * weakest.chance_a_year
    return Budget(flow.name, rows, levels, Spray(accounts, weakest.level, broken, a_number_a_day, numbers))


POOL, TRUSTED, ALL = "strangers", "a trusted number", "all lanes"
"""How the rows call the lanes."""


def _rows(flow: Flow) -> Iterator[Row]:
    rule = flow.locks.account
    a_day, a_year = most(rule, DAY_S), _mosts(rule, YEAR_S, OWNER_SUCCESSES_A_YEAR)[0]
    lanes = [(POOL, 1)]
    if flow.locks.trusted_lane:
        lanes += [(TRUSTED, 1), (ALL, LANES_MAX)]
    for name, factor in flow.factors.items():
        for lane, count in lanes:
            # Numbers lapse and others take their places for as long as the account lives.
            ever = rule.lifetime if rule.lifetime and lane != ALL else None
            calling = most_in_lanes(rule, YEAR_S, OWNER_SUCCESSES_A_YEAR, count)
            yield Row(
                factor=name,
                lane=lane,
                lanes=count,
                a_day=a_day * count,
                a_year=a_year * count,
                ever=ever,
                a_year_calling=calling,
                chance_a_year=chance(factor, calling),
                chance_ever=1.0 if ever is None else chance(factor, ever),
            )


def _levels(flow: Flow, rows: Sequence[Row]) -> Iterator[Reach]:
    """
    Secrets are independent, so all of a way are guessed with the product of their chances.

    Who has guessed the first may make numbers of his own trusted: for ways of several factors all lanes count.
    """
    alone = {row.factor: row.chance_a_year for row in rows if row.lane == POOL}
    together = alone | {row.factor: row.chance_a_year for row in rows if row.lane == ALL}
    demands = [rule.demand for rule in flow.rules] + [flow.default]
    if flow.pin_change is not None:
        demands.append(flow.pin_change.demand)
    used = {demand.require for demand in demands}
    for name, expression in flow.levels.items():
        if name not in used:
            continue
        chances = (
            prod((alone if len(way) == 1 else together)[factor] for factor in way) for way in ways(expression)
        )
        yield Reach(name, min(1.0, sum(chances)))


def chance(factor: Factor, guesses: int) -> float:
    """
    At most how likely one of so many guesses is right, 0 to 1, for a secret drawn at random.

    Each guess at a PIN rules one out; each guess at a code is one of 10^digits, whether the code is a fresh one or
    not; an app's code may be that of three steps.
    """
    secrets = float(10**factor.digits)
    match factor.kind:
        case Kind.PIN:
            secrets *= PINS_LEFT
        case Kind.TOTP:
            secrets /= TOTP_STEPS_ACCEPTED
        case _:
            pass
    return min(1.0, guesses / secrets)


def over_ceiling(flow: Flow) -> tuple[Finding, ...]:
    """A fault if a factor of an account may be guessed in a year, in all lanes together, likelier than the `ceiling`."""
    if flow.ceiling is None:
        return ()
    widest = LANES_MAX if flow.locks.trusted_lane else 1
    worst = [row for row in _rows(flow) if row.lanes == widest and row.lane != TRUSTED]
    in_all = sum(row.chance_a_year for row in worst)
    if in_all <= flow.ceiling:
        return ()
    each = ", ".join(f"'{row.factor}' {row.chance_a_year:.2g}" for row in worst)
    guesses = f"{worst[0].a_year_calling:,} guesses at each, in {widest} lane{'s' if widest > 1 else ''}"
    return (
        Finding(
            ("ceiling", "guess_chance_per_year"),
            f"a factor of an account may be guessed in a year with a chance of {in_all:.2g} ({each}; {guesses}), more "
            f"than {flow.ceiling:g}; ask for more digits, lower `lockout.lifetime` or lengthen `lockout.lock`",
        ),
    )


# ── in plain text ────────────────────────────────────────────────────────────────────────────────────────


def lines(found: Budget) -> tuple[str, ...]:
    """The budget in plain text, in columns."""
    head = ("guesses at", "by", "a day", "a year", "ever", "a year*", "chance a year*", "chance ever")
    table: list[Sequence[str]] = [head]
    for row in found.rows:
        ever = "no end" if row.ever is None else f"{row.ever:,}"
        counts = (f"{row.a_day:,}", f"{row.a_year:,}", ever, f"{row.a_year_calling:,}")
        table.append((row.factor, row.lane, *counts, odds(row.chance_a_year), odds(row.chance_ever)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    told = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]
    reached = ", ".join(f"'{reach.level}' {odds(reach.chance_a_year)}" for reach in found.levels)
    star = (
        f"* while the owner proves each factor {OWNER_SUCCESSES_A_YEAR} times a year at the worst moments; otherwise "
        "while he does not call"
    )
    by_guessing = (
        (f"levels that a stranger reaches by guessing alone, in a year*: {reached}",) if reached else ()
    )
    return (*told, star, *by_guessing, *_sprayed(found.spray))


def _sprayed(spray: Spray | None) -> Iterator[str]:
    if spray is None:
        return
    if spray.numbers is None:
        each = "one number may make all of the guesses: set `lockout.caller_number`"
    else:
        each = f"one number makes {spray.a_number_a_day:,} guesses a day at most; one that is withheld has no such bound"
    broken = f"{spray.broken_a_year:,.0f}" if spray.broken_a_year >= 10 else f"{spray.broken_a_year:.2g}"
    yield f"a spray over {spray.accounts:,} accounts reaches '{spray.level}' of {broken} in a year*; {each}"


def odds(probability: float) -> str:
    """`1 in 1,000,000`; `certain` for 1, a percentage from one half on."""
    if probability >= 0.5:
        return "certain" if probability >= 1 else f"{probability:.0%}"
    return f"1 in {round(1 / probability):,}"
