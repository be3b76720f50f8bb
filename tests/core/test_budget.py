"""
The guess budget, held against the lockout rule itself: a best attacker plays through `reserve`, and never gets more.

The figures of the usual rules are those of public defaults; each is the first day's, with guesses that take no time.
"""

import random
from dataclasses import replace
from functools import cache

import pytest

from ivrguard.core import budget as module
from ivrguard.core import lockout
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.budget import DAY_S, YEAR_S, budget, chance, lines, most, odds, over_ceiling
from ivrguard.core.flow import Factor, Flow, Identify, Locks, Upstream
from ivrguard.core.lockout import Ledger, Rule
from ivrguard.core.rules import Demand

FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    levels={"one_factor": AnyOf(("pin", "code", "app"))},
    rules=(),
    default=Demand("one_factor"),
)


@pytest.mark.parametrize(
    ("rule", "a_day"),
    [
        (Rule(3, 86_400, (86_400,)), 3),
        (Rule(10, 3600, (3600,)), 240),
        (Rule(10, 1800, (1800,)), 480),
        (Rule(5, 900, (900,)), 480),
        (Rule(5, 600, (600,)), 720),
        (Rule(3, 120, (300,)), 1441),
        (Rule(5, 3600, (1800, 7200, 86_400)), 102),
        (Rule(5, 3600, (1800, 7200, 86_400), lifetime=100), 100),
        (Rule(5, 3600, (1800, 7200, 86_400), lifetime=20), 20),
        (Rule(1, 60, (86_400,)), 1),
        (Rule(1, 60, (43_200,)), 2),
        (Rule(100, 31_536_000, (31_536_000,)), 100),
    ],
)
def test_the_most_guesses_of_a_day(rule, a_day):
    """Hit and wait, or stop one short, whichever is more; a lifetime caps it."""
    assert most(rule, DAY_S) == a_day


# ── a best attacker, through the rule itself ─────────────────────────────────────────────────────────────


def played(rule: Rule, time_s: int, hits: int) -> int:
    """Guesses judged by `reserve`: the first `hits` batches lock, the others stop one short, the last one locks."""
    ledger, now_s, judged, tries = Ledger(), 0, 0, 0
    while now_s < time_s:
        locks_now = tries < hits
        for number in range(rule.failures if locks_now else rule.failures - 1):
            ledger, allowed = lockout.reserve(rule, ledger, f"{tries}/{number}", now_s * 1000)
            judged += allowed
        if not allowed_again(rule, ledger, now_s):
            return judged
        wait_s = rule.lock_s[min(tries, len(rule.lock_s) - 1)] if locks_now else rule.within_s
        if now_s + wait_s >= time_s and not locks_now:
            _, allowed = lockout.reserve(rule, ledger, "last", now_s * 1000)
            return judged + allowed
        now_s, tries = now_s + wait_s, tries + 1
    return judged


def allowed_again(rule: Rule, ledger: Ledger, now_s: int) -> bool:
    """Whether time alone gives more guesses."""
    return not isinstance(lockout.standing(rule, ledger, now_s * 1000), lockout.Disabled)


def best_played(rule: Rule, time_s: int) -> int:
    """The best of all numbers of locks on the way."""
    batches = 2 + time_s // min(*rule.lock_s, rule.within_s)
    return max(played(rule, time_s, hits) for hits in range(batches + 1))


def random_rules(seed: int, count: int):
    """Rules and times, small enough to be played to the end."""
    chosen = random.Random(seed)
    for _ in range(count):
        within_s = chosen.choice((60, 90, 300, 3600))
        locks = tuple(within_s * chosen.choice((1, 2, 3, 5, 7, 9)) // 3 for _ in range(chosen.randint(1, 3)))
        lifetime = chosen.choice((0, 0, 3, 7, 12))
        yield Rule(chosen.randint(1, 4), within_s, locks, lifetime), within_s * chosen.randint(1, 6)


def check_the_bound(rules) -> None:
    for rule, time_s in rules:
        got, bound = best_played(rule, time_s), most(rule, time_s)
        assert got <= bound, f"beaten: {rule} in {time_s} s: {got} > {bound}"
        assert got >= bound * 0.95, f"loose: {rule} in {time_s} s: {got} < {bound}"


def test_a_best_attacker_never_beats_the_bound_and_reaches_it():
    """10,000 random rules, played through `reserve`: never more, and within 5 %."""
    check_the_bound(random_rules(seed=3, count=10_000))


def searched(rule: Rule, times: int) -> int:
    """The most of every way to spread guesses over so many moments, a third of the window apart."""
    tick_ms = rule.within_s * 1000 // 3

    @cache
    def best(moment: int, ledger: Ledger) -> int:
        if moment == times:
            return 0
        found = best(moment + 1, ledger)
        for count in range(1, rule.failures + 1):
            ledger, allowed = lockout.reserve(rule, ledger, f"{moment}/{count}", moment * tick_ms)
            if not allowed:
                break
            found = max(found, count + best(moment + 1, ledger))
        return found

    return best(0, Ledger())


def test_no_way_to_spread_guesses_beats_the_bound():
    """Every choice at every moment is tried, for small rules: batches at one moment are the best that there is."""
    for rule, _ in random_rules(seed=7, count=150):
        small = replace(rule, failures=min(rule.failures, 3))
        for times in (1, 4, 7):
            time_s = (times - 1) * small.within_s // 3 + 1
            assert searched(small, times) == most(small, time_s), (small, times)


@pytest.mark.parametrize(
    "rule", [Rule(3, 60, (1,)), Rule(2, 60, (61,)), Rule(5, 60, (100, 100)), Rule(1, 60, (90,))]
)
def test_more_locks_than_are_tried_are_bounded(rule):
    """A year of short locks: the bound is above what is played, and within 5 %."""
    time_s = 200_000
    bound = most(rule, time_s)
    hits = time_s // rule.lock_s[-1] + 2

    got = max(played(rule, time_s, 0), played(rule, time_s, hits))

    assert got <= bound <= got * 1.05


def one_lock_too_few(rule, time_s, real=most):
    return real(rule, time_s) - 1


def lifetime_ignored(rule, time_s, real=most):
    return real(replace(rule, lifetime=0), time_s)


def lock_forgives_nothing(rule, time_s, real=most):
    return real(replace(rule, lock_s=tuple(lock + rule.within_s for lock in rule.lock_s)), time_s)


def no_free_hit(rule, time_s, real=most):
    return max(1, real(rule, time_s + rule.within_s))


@pytest.mark.parametrize("fault", [one_lock_too_few, lifetime_ignored, lock_forgives_nothing, no_free_hit])
def test_a_planted_fault_is_found(monkeypatch, fault):
    """A bound that is off by a lock, or forgets the lifetime, or what a served lock clears, is red."""
    monkeypatch.setitem(globals(), "most", fault)

    with pytest.raises(AssertionError, match=r"beaten|loose"):
        check_the_bound(random_rules(seed=3, count=2_000))


# ── a flow's budget ──────────────────────────────────────────────────────────────────────────────────────


def test_a_row_for_each_factor_and_lane():
    """Strangers' pool, one trusted number, and all of them together: the account has at most five."""
    rows = {(row.factor, row.lane): row for row in budget(FLOW).rows}

    assert len(rows) == 9
    pool, all_ = rows["pin", "pool"], rows["pin", "all lanes"]
    assert (pool.a_day, pool.a_year, pool.ever) == (100, 100, 100)
    assert (all_.lanes, all_.a_year, all_.ever) == (6, 600, 600)
    assert (pool.chance_a_year, all_.chance_ever) == (1e-6, 6e-6)


def test_without_a_lifetime_there_is_no_end():
    """And with time enough every secret is found."""
    locks = Locks(account=Rule(5, 3600, (86_400,)), caller_number=None, trusted_lane=False)
    found = budget(replace(FLOW, locks=locks))

    assert {(row.lane, row.ever, row.chance_ever) for row in found.rows} == {("pool", None, 1.0)}
    assert found.rows[0].a_year == most(locks.account, YEAR_S)
    assert found.spray is not None
    assert (found.spray.numbers, "one number may make all" in lines(found)[-1]) == (None, True)


@pytest.mark.parametrize(
    ("factor", "guesses", "expected"),
    [
        (Factor(Kind.PIN, 4), 100, 0.01),
        (Factor(Kind.PIN, 4), 20_000, 1.0),
        (Factor(Kind.SMS_CODE, 6), 100, 1e-4),
        (Factor(Kind.TOTP, 6), 100, 3e-4),
    ],
)
def test_the_chance_of_a_break(factor, guesses, expected):
    """For the digits in use; an app's code is right in three steps."""
    assert chance(factor, guesses) == pytest.approx(expected)


def test_a_spray_goes_through_the_weakest_factor():
    """Over a million accounts: what is broken, and how many numbers it takes."""
    spray = budget(FLOW, 1_000_000).spray

    assert spray is not None
    assert (spray.factor, spray.broken_a_year) == ("app", pytest.approx(300))
    assert spray.a_number_a_day == most(FLOW.locks.caller_number, DAY_S)
    assert spray.numbers == -(-100_000_000 // most(FLOW.locks.caller_number, YEAR_S))
    assert budget(replace(FLOW, factors={})).spray is None
    assert len(lines(budget(replace(FLOW, factors={})))) == 2


def test_the_ceiling_refuses_what_is_above_it():
    """All lanes of a factor together; the mend is in the words."""
    assert over_ceiling(FLOW) == ()
    assert over_ceiling(replace(FLOW, ceiling=0.0018)) == ()
    [found] = over_ceiling(replace(FLOW, ceiling=0.001))
    assert (found.place, found.error) == (("ceiling", "guess_chance_per_year"), True)
    assert found.message == (
        "'app' may be guessed in a year with a chance of 0.0018 (600 guesses in 6 lanes), more than 0.001; ask for "
        "more digits, lower `lockout.lifetime` or lengthen `lockout.lock`"
    )
    alone = replace(FLOW, ceiling=1e-9, locks=replace(FLOW.locks, trusted_lane=False))
    assert ["in 1 lane)" in one.message for one in over_ceiling(alone)] == [True] * 3


def test_the_budget_in_plain_text():
    """Columns that line up; the odds as people say them."""
    told = lines(budget(FLOW))

    assert told[0] == "bank: the most guesses of a best attacker, while the owner does not call"
    assert told[2] == "pin     pool                100     100   100  1 in 1,000,000  1 in 1,000,000"
    assert len({len(line) for line in told[1:-1]}) == 1
    assert told[-1].startswith(
        "over 100,000 accounts: 30 broken a year through 'app'; 480 guesses a day from one number"
    )
    assert [odds(one) for one in (1.0, 0.75, 0.25, 1e-6)] == ["certain", "75%", "1 in 4", "1 in 1,000,000"]
    assert module.TOTP_STEPS_ACCEPTED == 3
