"""
The guess budget: the most guesses that a rule allows, worked out before a caller can make one.

The laws of this file:

1. It bounds the best play against `lockout.reserve`: nobody gets more guesses judged in one ledger, however he times
   them, and somebody who plays as below gets as many (tests/core/test_budget.py plays him through `reserve` itself).
2. The owner does not call in between. Each success of his in that lane gives the guesser back what was forgiven: at
   most `failures` until the next lock, and the run of `lifetime` from its beginning.
3. Chances are of secrets drawn at random. People choose worse: five guesses at PINs of four digits that people chose
   open one account in eight (https://flowingdata.com/2025/02/06/using-the-same-four-digit-pin-as-others/), which is
   what the list of weak PINs (factors/pin.py) is for.

The best play. Guesses come in batches at one moment. A batch of `failures - 1` costs a wait of `within_s` before the
next one; one guess more in it locks, and the wait is the lock instead. Spreading a batch gains nothing: whichever
guess is made later, the window that it stands in ends later. So with h locks on the way and g plain waits the guesses
before time T are (failures - 1)(1 + h + g) + h + 1, the last batch being free to lock, where the first h locks and g
windows fit into T. Which h is best depends on the rule: all of them are tried, up to `LOCKS_TRIED_MAX`; what is
beyond is bounded by the better of the two rates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Factor, Finding, Flow
from ivrguard.core.lockout import TRUSTED_NUMBERS_MAX, Rule

DAY_S = 86_400
YEAR_S = 365 * DAY_S
LOCKS_TRIED_MAX = 500
TOTP_STEPS_ACCEPTED = 3
"""factors/totp.py: the step of now, the one before and the one after."""

ACCOUNTS = 100_000
"""Accounts in a spray, unless somebody says how many there are."""


def most(rule: Rule, time_s: int) -> int:
    """The most guesses judged in one ledger of `rule` in `time_s` seconds (the end excluded), from a clean start."""
    locks = [*rule.lock_s, *[rule.lock_s[-1]] * LOCKS_TRIED_MAX]
    waited = [0, *accumulate(locks)]
    best = max(
        _guesses(rule.failures, hits, _waits(time_s - wait_s, rule.within_s))
        for hits, wait_s in enumerate(waited)
        if wait_s < time_s
    )
    if waited[-1] < time_s:  # there is time for more locks than were tried: what is left, at the better rate
        left_s, last_s = time_s - waited[-1], rule.lock_s[-1]
        rate = max(rule.failures / last_s, (rule.failures - 1) / rule.within_s)
        begun = _guesses(rule.failures, len(locks), 0)
        best = max(best, begun + int(left_s * rate) + rule.failures)
    return min(best, rule.lifetime) if rule.lifetime else best


def _guesses(failures: int, hits: int, waits: int) -> int:
    return (failures - 1) * (1 + hits + waits) + hits + 1


def _waits(time_s: int, within_s: int) -> int:
    """How many whole windows fit before the end of the time."""
    return (time_s - 1) // within_s


@dataclass(frozen=True, slots=True)
class Row:
    """
    One factor in one lane: `a_day`, `a_year`, `ever` (None: without end) guesses; the chance of one being right.

    `lanes`: how many ledgers are counted together.
    """

    factor: str
    lane: str
    lanes: int
    a_day: int
    a_year: int
    ever: int | None
    chance_a_year: float
    chance_ever: float


@dataclass(frozen=True, slots=True)
class Spray:
    """
    One guesser against many accounts, from outside: `broken_a_year` accounts expected, through the weakest factor.

    `a_number_a_day`: guesses from one number over all accounts (None: not bounded). `numbers`: how many a guesser
    needs to use his whole budget of a year (None: one will do).
    """

    accounts: int
    factor: str
    broken_a_year: float
    a_number_a_day: int | None
    numbers: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """Every row, and the spray; `flow` by name."""

    flow: str
    rows: tuple[Row, ...]
    spray: Spray | None


def budget(flow: Flow, accounts: int = ACCOUNTS) -> Budget:
    """What a best guesser gets against one account of this flow, and against `accounts` of them."""
    rows = tuple(_rows(flow))
    strangers = [row for row in rows if row.lane == "pool"]
    if not strangers:
        return Budget(flow.name, rows, None)
    weakest = max(strangers, key=lambda row: row.chance_a_year)
    by_number, numbers = None, None
    if flow.locks.caller_number is not None:
        by_number = most(flow.locks.caller_number, DAY_S)
        wanted = accounts * weakest.a_year
        numbers = -(-wanted // most(flow.locks.caller_number, YEAR_S))
    spray = Spray(accounts, weakest.factor, accounts * weakest.chance_a_year, by_number, numbers)
    return Budget(flow.name, rows, spray)


def _rows(flow: Flow) -> Iterator[Row]:
    rule = flow.locks.account
    day, year = most(rule, DAY_S), most(rule, YEAR_S)
    lanes = [("pool", 1)]
    if flow.locks.trusted_lane:
        lanes += [("a trusted number", 1), ("all lanes", 1 + TRUSTED_NUMBERS_MAX)]
    for name, factor in flow.factors.items():
        for lane, count in lanes:
            ever = rule.lifetime * count if rule.lifetime else None
            yield Row(
                factor=name,
                lane=lane,
                lanes=count,
                a_day=day * count,
                a_year=year * count,
                ever=ever,
                chance_a_year=chance(factor, year * count),
                chance_ever=1.0 if ever is None else chance(factor, ever),
            )


def chance(factor: Factor, guesses: int) -> float:
    """
    At most how likely one of so many guesses is right, 0 to 1, for a secret drawn at random.

    Each guess at a PIN rules one out; each guess at a code is one of 10^digits, whether the code is a fresh one or
    not; an app's code may be that of three steps.
    """
    right = TOTP_STEPS_ACCEPTED if factor.kind is Kind.TOTP else 1
    return min(1.0, guesses * right / float(10**factor.digits))


def over_ceiling(flow: Flow) -> tuple[Finding, ...]:
    """A fault for each factor that all lanes together may break in a year with more than the flow's `ceiling`."""
    if flow.ceiling is None:
        return ()
    worst: dict[str, Row] = {}
    for row in budget(flow).rows:
        if row.factor not in worst or row.chance_a_year > worst[row.factor].chance_a_year:
            worst[row.factor] = row
    return tuple(
        Finding(
            ("ceiling", "guess_chance_per_year"),
            f"'{row.factor}' may be guessed in a year with a chance of {row.chance_a_year:.2g} ({row.a_year:,} guesses "
            f"in {row.lanes} lane{'s' if row.lanes > 1 else ''}), more than {flow.ceiling:g}; ask for more digits, "
            "lower `lockout.lifetime` or lengthen `lockout.lock`",
        )
        for row in worst.values()
        if row.chance_a_year > flow.ceiling
    )


def lines(found: Budget) -> tuple[str, ...]:
    """The budget in plain text, in columns."""
    table: list[Sequence[str]] = [("factor", "lane", "a day", "a year", "ever", "chance a year", "ever")]
    for row in found.rows:
        ever = "no end" if row.ever is None else f"{row.ever:,}"
        counts = (f"{row.a_day:,}", f"{row.a_year:,}", ever)
        table.append((row.factor, row.lane, *counts, odds(row.chance_a_year), odds(row.chance_ever)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    told = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]
    return (
        f"{found.flow}: the most guesses of a best attacker, while the owner does not call",
        *told,
        *_sprayed(found),
    )


def _sprayed(found: Budget) -> Iterator[str]:
    spray = found.spray
    if spray is None:
        return
    if spray.numbers is None:
        each = "one number may make all of the guesses: set `lockout.caller_number`"
    else:
        each = f"{spray.a_number_a_day:,} guesses a day from one number: {spray.numbers:,} numbers make all of them"
    yield f"over {spray.accounts:,} accounts: {spray.broken_a_year:.2g} broken a year through '{spray.factor}'; {each}"


def odds(probability: float) -> str:
    """`1 in 1,000,000`; `certain` from one half on."""
    if probability >= 0.5:
        return "certain" if probability >= 1 else f"{probability:.0%}"
    return f"1 in {round(1 / probability):,}"
