"""
The guess budget, held against the lockout rule itself: a best attacker plays through `reserve`, and never gets more.

The figures of the usual rules are those of public defaults; each is the first day's, with guesses that take no time.
"""

import random
import re
from dataclasses import replace
from functools import cache

import pyotp
import pytest

from ivrguard.core import budget as module
from ivrguard.core import lockout
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.budget import (
    ALL,
    DAY_S,
    LANES_MAX,
    POOL,
    TRUSTED,
    YEAR_S,
    budget,
    chance,
    lines,
    most,
    most_in_lanes,
    odds,
    over_ceiling,
)
from ivrguard.core.flow import Factor, Flow, Identify, Locks, PinChange, Upstream
from ivrguard.core.lockout import Ledger, Rule
from ivrguard.core.rules import Demand
from ivrguard.factors import pin, totp
from ivrguard.keyring import Keyring
from ivrguard.ports import Right

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

KEYS = Keyring(
    sealing={"k": b"k" * 32}, peppers={"p": b"p" * 32}, naming={"n": b"n" * 32}, signing={"s": b"s" * 32}
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


class Play:
    """A guesser at one ledger, and its owner: what `reserve` lets be judged, and nothing else, is counted."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.ledger, self.now_s, self.judged, self.tries = rule, Ledger(), 0, 0, 0

    def guess(self, count: int) -> bool:
        """So many wrong guesses at this moment; whether all of them were judged."""
        for _ in range(count):
            self.tries += 1
            self.ledger, allowed = lockout.reserve(self.rule, self.ledger, str(self.tries), self.now_s * 1000)
            self.judged += allowed
            if not allowed:
                return False
        return True

    def owner(self) -> None:
        """The owner answers right at this moment, if he may."""
        self.ledger, allowed = lockout.reserve(self.rule, self.ledger, "owner", self.now_s * 1000)
        if allowed:
            self.ledger = lockout.absolve(self.ledger, "owner")

    def lock_s(self) -> int:
        """How long the lock lasts that the guesses made."""
        standing = lockout.standing(self.rule, self.ledger, self.now_s * 1000)
        return standing.until_ms // 1000 - self.now_s if isinstance(standing, lockout.Locked) else 0


def played(rule: Rule, time_s: int, hits: int, successes: int = 0) -> tuple[int, int]:
    """
    Guesses judged when the first `hits` batches lock, the others stop one short and the last one locks; and batches.

    After each lock the owner comes to help, and once more for each time that is left over in the last batch.
    """
    play, few, batch = Play(rule), rule.failures - 1, 0
    while True:
        whole = play.guess(few)
        if whole and batch and successes:
            play.owner()
            successes -= 1
            whole = play.guess(few)
        wait_s = rule.within_s
        if batch < hits:
            whole = whole and play.guess(1)
            wait_s = play.lock_s()
        if not whole:
            return play.judged, batch
        if play.now_s + wait_s >= time_s or not wait_s:
            break
        play.now_s += wait_s
        batch += 1
    while successes and batch >= hits:
        play.owner()
        play.guess(few)
        successes -= 1
    play.guess(1)
    return play.judged, batch


def best_played(rule: Rule, time_s: int, successes: int = 0) -> int:
    """The best of all numbers of locks on the way; once time or guesses end before them, more make no difference."""
    best = hits = batch = 0
    while batch >= hits - 1:
        judged, batch = played(rule, time_s, hits, successes)
        best, hits = max(best, judged), hits + 1
    return best


def random_rules(seed: int, count: int):
    """Rules and times, small enough to be played to the end."""
    chosen = random.Random(seed)
    for _ in range(count):
        within_s = chosen.choice((60, 90, 300, 3600))
        locks = tuple(within_s * chosen.choice((1, 2, 3, 5, 7, 9)) // 3 for _ in range(chosen.randint(1, 3)))
        lifetime = chosen.choice((0, 0, 3, 7, 12))
        yield Rule(chosen.randint(1, 4), within_s, locks, lifetime), within_s * chosen.randint(1, 4)


def check_the_bound(rules) -> None:
    for rule, time_s in rules:
        got, bound = best_played(rule, time_s), most(rule, time_s)
        assert got <= bound, f"beaten: {rule} in {time_s} s: {got} > {bound}"
        assert got >= bound * 0.95, f"loose: {rule} in {time_s} s: {got} < {bound}"


def test_a_best_attacker_never_beats_the_bound_and_reaches_it():
    """10,000 random rules, played through `reserve`: never more, and within 5 %."""
    check_the_bound(random_rules(seed=3, count=10_000))


def test_an_owner_who_calls_gives_no_more_than_is_counted():
    """
    The same through `reserve` and `absolve`, where further locks are not shorter.

    Within 5 % where no lifetime cuts in: it cuts a part of what is forgiven, and the bound does not say which.
    """
    for rule, time_s in random_rules(seed=11, count=500):
        climbing = replace(rule, lock_s=tuple(sorted(rule.lock_s)))
        for successes in (1, 2, 5):
            got, bound = best_played(climbing, time_s, successes), most(climbing, time_s, successes)
            assert got <= bound, (climbing, time_s, successes)
            assert climbing.lifetime or got >= bound * 0.95, (climbing, time_s, successes)


def searched(rule: Rule, times: int, successes: int = 0) -> int:
    """
    The most of every way to spread guesses and the owner's successes over so many moments.

    The moments are a third of the window apart.
    """
    tick_ms = rule.within_s * 1000 // 3

    @cache
    def best(moment: int, ledger: Ledger, left: int) -> int:
        if moment == times:
            return 0
        found = best(moment + 1, ledger, left)
        now_ms = moment * tick_ms
        if left:
            helped, allowed = lockout.reserve(rule, ledger, "owner", now_ms)
            if allowed:
                found = max(found, best(moment, lockout.absolve(helped, "owner"), left - 1))
        tried = f"{moment}/{sum(attempt.at_ms == now_ms for attempt in ledger.attempts)}"
        ledger, allowed = lockout.reserve(rule, ledger, tried, now_ms)
        return max(found, 1 + best(moment, ledger, left)) if allowed else found

    return best(0, Ledger(), successes)


def test_no_way_to_spread_guesses_beats_the_bound():
    """Every choice at every moment is tried, for small rules: batches at one moment are the best that there is."""
    for rule, _ in random_rules(seed=7, count=150):
        small = replace(rule, failures=min(rule.failures, 3))
        for times in (1, 4, 7):
            time_s = (times - 1) * small.within_s // 3 + 1
            assert searched(small, times) == most(small, time_s), (small, times)


def test_no_way_for_an_owner_to_call_beats_the_bound():
    """The same with his successes, at every moment there is: the bound is exact unless a lifetime cuts in."""
    for rule, _ in random_rules(seed=13, count=60):
        small = replace(rule, failures=min(rule.failures, 3))
        for times, successes in ((1, 2), (5, 1), (5, 2)):
            time_s = (times - 1) * small.within_s // 3 + 1
            got, bound = searched(small, times, successes), most(small, time_s, successes)
            assert got <= bound, (small, times, successes)
            assert small.lifetime or got == bound, (small, times, successes)


@pytest.mark.parametrize(
    ("rule", "time_s"),
    [
        (Rule(3, 60, (1,)), 1_500),
        (Rule(2, 60, (61,)), 60_000),
        (Rule(5, 60, (100, 100)), 100_000),
        (Rule(1, 60, (90,)), 90_000),
    ],
)
def test_more_locks_than_are_tried_are_bounded(rule, time_s):
    """Many short locks: the bound is above what is played, and within 5 %."""
    hits = time_s // rule.lock_s[-1] + 2
    assert hits > module.LOCKS_TRIED_MAX

    for successes in (0, 3):
        bound = most(rule, time_s, successes)
        got = max(played(rule, time_s, each, successes)[0] for each in (0, hits))
        assert got <= bound <= got * 1.05, successes


def test_more_locks_than_are_tried_may_need_the_owners_help():
    """Without his successes the last of them would not fit."""
    rule, time_s = Rule(1, 60, (1, 1_000)), 499_000

    assert most(rule, time_s) == played(rule, time_s, 600)[0]
    assert played(rule, time_s, 600, 3)[0] <= most(rule, time_s, 3) <= played(rule, time_s, 600, 3)[0] * 1.05


def one_lock_too_few(rule, time_s, successes=0, real=most):
    return real(rule, time_s, successes) - 1


def lifetime_ignored(rule, time_s, successes=0, real=most):
    return real(replace(rule, lifetime=0), time_s, successes)


def lock_forgives_nothing(rule, time_s, successes=0, real=most):
    return real(replace(rule, lock_s=tuple(lock + rule.within_s for lock in rule.lock_s)), time_s, successes)


def no_free_hit(rule, time_s, successes=0, real=most):
    return max(1, real(rule, time_s + rule.within_s, successes))


@pytest.mark.parametrize("fault", [one_lock_too_few, lifetime_ignored, lock_forgives_nothing, no_free_hit])
def test_a_planted_fault_is_found(monkeypatch, fault):
    """A bound that is off by a lock, or forgets the lifetime, or what a served lock clears, is red."""
    monkeypatch.setitem(globals(), "most", fault)

    with pytest.raises(AssertionError, match=r"beaten|loose"):
        check_the_bound(random_rules(seed=3, count=2_000))


def owner_forgotten(rule, time_s, successes=0, real=most):
    return real(rule, time_s)


def owner_steps_nothing_back(rule, time_s, successes=0, real=most):
    return real(rule, time_s) + successes * (rule.failures - 1)


@pytest.mark.parametrize("fault", [owner_forgotten, owner_steps_nothing_back])
def test_a_bound_without_the_owner_is_found(monkeypatch, fault):
    """That he clears the count, and that he shortens the next lock."""
    monkeypatch.setitem(globals(), "most", fault)

    with pytest.raises(AssertionError):
        test_an_owner_who_calls_gives_no_more_than_is_counted()


def test_an_attacker_who_does_not_wait_for_locks_is_worse(monkeypatch):
    """The test can tell a good attacker from a bad one: hitting alone does not reach the bound."""
    monkeypatch.setitem(globals(), "best_played", lambda rule, time_s: played(rule, time_s, 99)[0])

    with pytest.raises(AssertionError, match="loose"):
        check_the_bound(random_rules(seed=3, count=2_000))


def test_successes_spread_over_lanes_give_no_more_than_is_counted():
    """Each way to give the owner's successes to three lanes, added up from each lane's own bound."""
    for rule, time_s in random_rules(seed=17, count=300):
        counted = most_in_lanes(rule, time_s, 4, 3)
        for one in range(5):
            for other in range(5 - one):
                lanes = (one, other, 4 - one - other)
                assert sum(most(rule, time_s, each) for each in lanes) <= counted, (rule, time_s, lanes)
        assert most_in_lanes(rule, time_s, 4, 1) == most(rule, time_s, 4)


# ── a flow's budget ──────────────────────────────────────────────────────────────────────────────────────


def test_a_row_for_each_factor_and_lane():
    """Strangers, one trusted number, and all lanes: in a year two numbers may stand at each of an account's places."""
    rows = {(row.factor, row.lane): row for row in budget(FLOW).rows}

    assert len(rows) == 9
    pool, all_ = rows["pin", POOL], rows["pin", ALL]
    assert (pool.a_day, pool.a_year, pool.ever) == (100, 100, 100)
    assert rows["pin", TRUSTED] == replace(pool, lane=TRUSTED)
    assert (all_.lanes, all_.a_day, all_.a_year, all_.ever) == (11, 1_100, 1_100, None)
    assert (pool.a_year_calling, all_.a_year_calling) == (100 + 12 * 99, 1_100 + 12 * 99)
    assert (pool.chance_ever, all_.chance_ever) == (pytest.approx(1e-6 / 0.89), 1.0)
    assert pool.chance_a_year == pytest.approx(1288e-8 / 0.89)


def test_a_year_is_too_short_for_a_third_number_at_one_place():
    """What the count of lanes rests on: in its worst year every old number lapses, and new ones wait each day."""
    trusted: tuple[lockout.Trusted, ...] = ()
    for number in range(10):
        trusted = lockout.trust(trusted, f"old {number}", 0)
    seen = {one.number for one in trusted}
    for day in range(399, 399 + 365):
        for number in range(6):
            trusted = lockout.trust(trusted, f"new {day}/{number}", day * DAY_S * 1000)
        seen |= {one.number for one in trusted if lockout.trusts(trusted, one.number, day * DAY_S * 1000)}

    assert len(seen) == LANES_MAX - 1


def test_without_a_lifetime_there_is_no_end():
    """And with time enough every secret is found."""
    locks = Locks(account=Rule(5, 3600, (86_400,)), caller_number=None, trusted_lane=False)
    found = budget(replace(FLOW, locks=locks))

    assert {(row.lane, row.ever, row.chance_ever) for row in found.rows} == {(POOL, None, 1.0)}
    assert found.rows[0].a_year == most(locks.account, YEAR_S)
    assert found.spray is not None
    assert (found.spray.numbers, "one number may make all" in lines(found)[-1]) == (None, True)


@pytest.mark.parametrize(
    ("factor", "guesses", "expected"),
    [
        (Factor(Kind.PIN, 4), 89, 0.01),
        (Factor(Kind.PIN, 4), 8_900, 1.0),
        (Factor(Kind.PIN, 4), 20_000, 1.0),
        (Factor(Kind.SMS_CODE, 6), 100, 1e-4),
        (Factor(Kind.TOTP, 6), 100, 3e-4),
    ],
)
def test_the_chance_of_a_break(factor, guesses, expected):
    """For the digits in use; an app's code is right in three steps."""
    assert chance(factor, guesses) == pytest.approx(expected)


@pytest.mark.parametrize("digits", [4, 5, 6, 8])
def test_no_more_pins_are_left_out_than_is_counted(digits):
    """A guesser does not try what nobody may have. Each of 4 and 5 digits is looked at, of longer ones some."""
    chosen = random.Random(digits)
    every = range(10**digits) if digits < 6 else (chosen.randrange(10**digits) for _ in range(15_000))
    verdicts = [pin.weak(f"{number:0{digits}}") is None for number in every]

    assert sum(verdicts) / len(verdicts) >= module.PINS_LEFT


@pytest.mark.parametrize("new_code_each", [1, 2, 4])
def test_a_new_code_is_not_a_better_chance(new_code_each):
    """At most one of 10^digits a guess, however many codes they are aimed at: worked out for each spread of guesses."""
    guesses, secrets = 8, 10**4
    codes = -(-guesses // new_code_each)
    missed = 1.0
    for code in range(codes):
        missed *= 1 - min(new_code_each, guesses - code * new_code_each) / secrets

    assert 1 - missed <= chance(Factor(Kind.SMS_CODE, 4), guesses)


async def test_as_many_steps_of_an_app_are_right_as_are_counted():
    """Of a clock's steps, through the judge itself."""
    secret, now_s = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", 1_800_000_000
    judge = totp.TotpJudge(KEYS)
    credential, app = judge.enrol(secret), pyotp.TOTP(secret)
    right = [
        isinstance(await judge.judge(credential, app.at(now_s + 30 * step), None, now_s * 1000), Right)
        for step in range(-5, 6)
    ]

    assert sum(right) == module.TOTP_STEPS_ACCEPTED


TWO = AllOf(("pin", AnyOf(("code", "app"))))
STRONG = replace(FLOW, levels={**FLOW.levels, "two": TWO}, default=Demand("two"))


def test_levels_are_reached_by_guessing_with_the_chances_of_their_ways():
    """One factor of several: their sum, in the pool. Several together: the product, in all lanes. Unused: not told."""
    pin_, code, app = (1288e-8 / 0.89, 1288e-6, 1288 * 3e-6)
    [reach] = budget(FLOW).levels
    assert (reach.level, reach.chance_a_year) == ("one_factor", pytest.approx(pin_ + code + app))

    [reach] = budget(STRONG).levels
    more = 2288 / 1288
    assert (reach.level, reach.chance_a_year) == ("two", pytest.approx(more**2 * pin_ * (code + app)))

    one_lane = replace(STRONG, locks=replace(STRONG.locks, trusted_lane=False))
    assert budget(one_lane).levels[0].chance_a_year == pytest.approx(pin_ * (code + app))

    twice = replace(STRONG, levels={"two": AllOf(("pin", AnyOf(("pin", "code"))))}, locks=one_lane.locks)
    assert budget(twice).levels[0].chance_a_year == pytest.approx(pin_), (
        "one secret, however often it is named"
    )

    change = PinChange("/pin", Demand("one_factor"), "/menu")
    assert [one.level for one in budget(replace(STRONG, pin_change=change)).levels] == ["one_factor", "two"]


def test_a_spray_reaches_the_weakest_level():
    """Over a million accounts: how many are reached, and how many numbers it takes."""
    spray = budget(FLOW, 1_000_000).spray

    assert spray is not None
    assert (spray.accounts, spray.level) == (1_000_000, "one_factor")
    assert spray.broken_a_year == pytest.approx(1_000_000 * budget(FLOW).levels[0].chance_a_year)
    assert spray.a_number_a_day == most(FLOW.locks.caller_number, DAY_S)
    assert spray.numbers == -(-1_000_000 * 3 * 1288 // most(FLOW.locks.caller_number, YEAR_S))
    open_to_all = budget(replace(FLOW, default=Demand(None)))
    assert (open_to_all.levels, open_to_all.spray) == ((), None)
    assert len(lines(open_to_all)) == 11


def test_the_ceiling_refuses_what_is_above_it():
    """Every factor, all lanes together, while the owner calls; the mend is in the words."""
    assert over_ceiling(FLOW) == ()
    assert over_ceiling(replace(FLOW, ceiling=0.0093)) == ()
    [found] = over_ceiling(replace(FLOW, ceiling=0.001))
    assert (found.place, found.error) == (("ceiling", "guess_chance_per_year"), True)
    assert found.message == (
        "a factor of an account may be guessed in a year with a chance of 0.0092 ('pin' 2.6e-05, 'code' 0.0023, "
        "'app' 0.0069; 2,288 guesses at each, in 11 lanes), more than 0.001; ask for more digits, lower "
        "`lockout.lifetime` or lengthen `lockout.lock`"
    )
    alone = replace(FLOW, ceiling=1e-9, locks=replace(FLOW.locks, trusted_lane=False))
    assert ["1,288 guesses at each, in 1 lane)" in one.message for one in over_ceiling(alone)] == [True]


def test_the_budget_in_plain_text():
    """Columns that line up; the odds as people say them."""
    told = lines(budget(FLOW))

    assert re.sub(" +", " ", told[1]) == "pin strangers 100 100 100 1,288 1 in 69,099 1 in 890,000"
    assert len({len(line) for line in told[:10]}) == 1
    assert told[-2] == "levels that a stranger reaches by guessing alone, in a year*: 'one_factor' 1 in 194"
    assert told[-1].startswith(
        "a spray over 100,000 accounts reaches 'one_factor' of 517 in a year*; one number makes"
    )
    assert " 0.024 in a year*" in lines(budget(STRONG))[-1]
    assert [odds(one) for one in (1.0, 0.75, 0.25, 1e-6)] == ["certain", "75%", "1 in 4", "1 in 1,000,000"]
