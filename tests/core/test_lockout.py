"""The lockout rule: a table for each of its laws, and a machine that checks it against the whole history."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ivrguard.core import lockout
from ivrguard.core.lockout import (
    UNLOCK_REQUEST_VALID_S,
    Attempt,
    Disabled,
    Ledger,
    Locked,
    Open,
    Rule,
    Trusted,
    Unlocked,
    UnlockRequest,
)

RULE = Rule(failures=3, within_s=60, lock_s=(100, 300), lifetime=7)
"""Three failures within a minute lock for 100 s, then for 300 s, and again; the seventh in a row is the last."""


def tried(*at_s: float, rule: Rule = RULE, ledger: Ledger | None = None) -> tuple[Ledger, list[bool]]:
    """Try at these seconds, and never be right: the ledger, and which were allowed. Ids: `try 1`, `try 2`, ..."""
    ledger = ledger or Ledger()
    allowed: list[bool] = []
    for at in at_s:
        ledger, may = lockout.reserve(rule, ledger, f"try {ledger.run + 1}", round(at * 1000))
        allowed.append(may)
    return ledger, allowed


# ── law 1: count, then judge, then forgive ───────────────────────────────────────────────────────────────


def test_an_attempt_counts_before_it_is_judged():
    """What is reserved is a failure already: a crash before the judgement leaves it counted."""
    ledger, allowed = lockout.reserve(RULE, Ledger(), "a", 1_000)

    assert allowed
    assert Ledger((Attempt("a", 1_000),), steps=0, run=1) == ledger
    assert Open(2) == lockout.standing(RULE, ledger, 1_000)


def test_fifty_at_once_get_no_more_than_the_rule():
    """All of them are reserved before one is judged: three are allowed."""
    ledger, allowed = tried(*(number / 1000 for number in range(50)))

    assert allowed == [True] * 3 + [False] * 47
    assert ledger.run == 3


@pytest.mark.parametrize(
    ("right", "left", "run"),
    [
        pytest.param("try 1", ["try 2", "try 3"], 2, id="first: the two after it stay"),
        pytest.param("try 2", ["try 3"], 1, id="second: forgives the one before it"),
        pytest.param("try 3", [], 0, id="last: forgives all"),
        pytest.param("never tried", ["try 1", "try 2", "try 3"], 3, id="unknown: forgives none"),
    ],
)
def test_a_right_answer_forgives_itself_and_what_came_before(right, left, run):
    """Attempts reserved after it are still to be judged: a guesser gains nothing by the owner's success."""
    ledger, _ = tried(0, 1, 2)

    after = lockout.absolve(ledger, right)

    assert left == [attempt.id for attempt in after.attempts]
    assert run == after.run


def test_a_right_answer_twice_is_a_right_answer_once():
    """The second judgement of the same attempt finds nothing to forgive: no lock steps down twice."""
    ledger = replace(tried(0)[0], steps=2)

    once = lockout.absolve(ledger, "try 1")

    assert once.steps == 1
    assert once == lockout.absolve(once, "try 1")


def test_what_was_not_looked_at_is_taken_back_alone():
    """A fault before the secret was looked at: the attempt goes, the failures around it and the steps stay."""
    ledger = replace(tried(0, 1)[0], steps=2)

    after = lockout.withdraw(ledger, "try 1")

    assert Ledger((Attempt("try 2", 1_000),), steps=2, run=1) == after
    assert after == lockout.withdraw(after, "try 1")


# ── law 3: the window, the lock, its steps ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("at_s", "now_s", "expected"),
    [
        pytest.param((), 0, Open(3), id="nothing tried"),
        pytest.param((0,), 0, Open(2), id="one"),
        pytest.param((0, 1), 1, Open(1), id="two"),
        pytest.param((0, 1, 2), 2, Locked(102_000), id="three: locked, from the last one on"),
        pytest.param((0, 0, 0), 0, Locked(100_000), id="three in one millisecond"),
        pytest.param((0, 1, 59.999), 59.999, Locked(159_999), id="the third just within the window"),
        pytest.param((0, 1, 60), 60, Open(1), id="the third when the first has left the window"),
        pytest.param((0, 1), 59.999, Open(1), id="time passes: both still count"),
        pytest.param((0, 1), 60, Open(2), id="time passes: the first has left"),
        pytest.param((0, 1), 61, Open(3), id="time passes: both have left"),
        pytest.param((0, 1, 2), 101.999, Locked(102_000), id="the lock's last millisecond"),
        pytest.param((0, 1, 2), 102, Open(3), id="the lock is over: all guesses again"),
        pytest.param((0, 1, 2), 70, Locked(102_000), id="locked though the window has passed"),
        pytest.param((0, 1, 2), -50, Locked(102_000), id="the clock jumps back: still locked"),
        pytest.param((0, 1), -50, Open(1), id="the clock jumps back: both still count"),
    ],
)
def test_failures_within_the_window_lock(at_s, now_s, expected):
    """`failures` attempts within `within_s` lock for `lock_s`, counted from the last of them."""
    ledger, allowed = tried(*at_s)

    assert all(allowed)
    assert expected == lockout.standing(RULE, ledger, round(now_s * 1000))


def test_each_further_lock_is_longer_and_the_last_one_repeats():
    """100 s, 300 s, 300 s; each is counted from the attempt that made it."""
    rule, ledger, now = replace(RULE, lifetime=0), Ledger(), 0.0
    lasted: list[float] = []
    for _ in range(4):
        ledger, allowed = tried(now, now + 1, now + 2, rule=rule, ledger=ledger)
        assert all(allowed)
        match lockout.standing(rule, ledger, round((now + 2) * 1000)):
            case Locked(until_ms):
                lasted.append(until_ms / 1000 - (now + 2))
                now = until_ms / 1000
            case other:
                pytest.fail(f"not locked: {other}")

    assert lasted == [100, 300, 300, 300]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(0, 0, id="no lock yet: no lock less"),
        pytest.param(1, 0, id="from one to none"),
        pytest.param(5, 4, id="one at a time"),
    ],
)
def test_a_success_steps_the_locks_down_by_one(steps, expected):
    """An owner who gets in does not pay for ever for a guesser; a guesser who gets in once is not forgiven all."""
    ledger = replace(tried(0)[0], steps=steps)

    assert expected == lockout.absolve(ledger, "try 1").steps


@pytest.mark.parametrize("now_s", [2, 50, 101.999, -1_000])
def test_tries_during_a_lock_neither_count_nor_extend_it(now_s):
    """The ledger stays as it is, to the last field."""
    ledger, _ = tried(0, 1, 2)

    assert (ledger, False) == lockout.reserve(RULE, ledger, "during", round(now_s * 1000))


def test_a_lock_served_leaves_all_guesses_and_a_longer_lock_to_come():
    """The failures that made the lock are paid for, but not forgotten."""
    ledger, allowed = tried(0, 1, 2, 102)

    assert all(allowed)
    assert Ledger((Attempt("try 4", 102_000),), steps=1, run=4) == ledger


def test_a_lock_shorter_than_the_window_leaves_all_guesses_too():
    """What was paid for with a lock does not count again, though it is still within the window."""
    rule = replace(RULE, lock_s=(10, 20))

    _, allowed = tried(0, 1, 2, 12, 13, 14, 15, rule=rule)

    assert allowed == [True] * 6 + [False]


def test_time_does_not_run_backwards():
    """An attempt of a clock that jumped back is filed no earlier than the one before it."""
    ledger, allowed = tried(50, 10, 55)

    assert all(allowed)
    assert [attempt.at_ms for attempt in ledger.attempts] == [50_000, 50_000, 55_000]
    assert Locked(155_000) == lockout.standing(RULE, ledger, 55_000)


# ── the same id, law 4, law 5, the horizon ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("now_s", [0, 30, 70, 500])
def test_the_same_id_counts_once(now_s):
    """A webhook repeated is the attempt that it was: allowed as before, also when that one has locked."""
    ledger, _ = tried(0, 1, 2)

    assert (ledger, True) == lockout.reserve(RULE, ledger, "try 2", round(now_s * 1000))


def test_a_lifetime_of_failures_disables_whatever_time_passes():
    """Seven in a row, a day apart: no window and no lock ever fills, and still there is an end."""
    days = [86_400 * day for day in range(9)]

    ledger, allowed = tried(*days)

    assert allowed == [True] * 7 + [False] * 2
    assert Disabled() == lockout.standing(RULE, ledger, 10**15)


def test_the_last_of_a_lifetime_may_be_right():
    """It is counted before it is judged, and forgiven with all the others."""
    ledger, _ = tried(*(86_400 * day for day in range(7)))

    after = lockout.absolve(ledger, "try 7")

    assert Ledger() == after


def test_without_a_lifetime_nothing_disables():
    """0 is no limit: what `check` warns of."""
    _, allowed = tried(*(86_400 * day for day in range(200)), rule=replace(RULE, lifetime=0))

    assert all(allowed)


def test_after_the_horizon_nothing_but_run_and_steps_matters():
    """A ledger without an attempt for that long stands as one that holds none."""
    ledger, _ = tried(0, 1, 2)
    now_ms = 2_000 + RULE.horizon_s() * 1000

    assert RULE.horizon_s() == 360
    assert lockout.standing(RULE, replace(ledger, attempts=()), now_ms) == lockout.standing(
        RULE, ledger, now_ms
    )


# ── unlocking ────────────────────────────────────────────────────────────────────────────────────────────

ANN, BOB = UnlockRequest("ann", "he called us", 500), UnlockRequest("bob", "I know him", 1_000)
LOCKED, DISABLED = tried(0, 1, 2)[0], Ledger((), steps=1, run=7)
LATE = replace(BOB, at_ms=ANN.at_ms + UNLOCK_REQUEST_VALID_S * 1000)


@pytest.mark.parametrize(
    ("ledger", "waiting", "asked", "expected"),
    [
        pytest.param(Ledger(), None, ANN, (Ledger(), None, Unlocked.NOT_LOCKED), id="open: idempotent"),
        pytest.param(Ledger(run=3), ANN, BOB, (Ledger(run=3), None, Unlocked.NOT_LOCKED), id="open again"),
        pytest.param(LOCKED, None, ANN, (Ledger(run=3), None, Unlocked.UNLOCKED), id="locked: one suffices"),
        pytest.param(DISABLED, None, ANN, (DISABLED, ANN, Unlocked.NEEDS_SECOND), id="disabled: one asks"),
        pytest.param(DISABLED, ANN, BOB, (Ledger(), None, Unlocked.UNLOCKED), id="disabled: two agree"),
        pytest.param(
            DISABLED,
            ANN,
            replace(ANN, at_ms=5),
            (DISABLED, replace(ANN, at_ms=5), Unlocked.NEEDS_SECOND),
            id="disabled: nobody is two people",
        ),
        pytest.param(
            DISABLED,
            ANN,
            replace(LATE, at_ms=LATE.at_ms - 1),
            (Ledger(), None, Unlocked.UNLOCKED),
            id="disabled: just in time",
        ),
        pytest.param(
            DISABLED, ANN, LATE, (DISABLED, LATE, Unlocked.NEEDS_SECOND), id="disabled: the first has lapsed"
        ),
    ],
)
def test_unlocking(ledger, waiting, asked, expected):
    """One person ends what time would end; what time never ends takes two different people."""
    assert expected == lockout.unlock(RULE, ledger, waiting, asked)


@pytest.mark.parametrize(
    ("ledger", "after", "stands"),
    [
        pytest.param(DISABLED, Ledger(steps=1), Open(3), id="disabled: open"),
        pytest.param(replace(LOCKED, run=7), Ledger(), Open(3), id="disabled with its last attempts: open"),
        pytest.param(Ledger(run=6), Ledger(), Open(3), id="one more would have disabled it: anew"),
        pytest.param(LOCKED, LOCKED, Locked(102_000), id="locked: as it was"),
        pytest.param(
            replace(LOCKED, steps=1, run=6), replace(LOCKED, steps=1), Locked(302_000), id="locked longer"
        ),
        pytest.param(tried(0, 1)[0], tried(0, 1)[0], Open(1), id="open: no guess more"),
    ],
)
def test_a_factor_enrolled_anew(ledger, after, stands):
    """What was counted in a row was at another secret; what time ends, time ends."""
    found = lockout.enrolled_anew(RULE, ledger, 2_000)
    assert (after, stands) == (found, lockout.standing(RULE, found, 2_000))
    assert found == lockout.enrolled_anew(RULE, found, 2_000)


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 400))
def test_enrolling_anew_gives_no_guess_more_within_the_window(gaps, later):
    """Whoever guesses at an account whose PIN is being changed has what he had, unless it was disabled."""
    ledger, now = Ledger(), 0
    for gap in gaps:
        now += gap
        ledger, _ = tried(now, ledger=ledger)
    now_ms = (now + later) * 1000
    before = lockout.standing(RULE, ledger, now_ms)
    if not isinstance(before, Disabled):
        assert before == lockout.standing(RULE, lockout.enrolled_anew(RULE, ledger, now_ms), now_ms)


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Happened:
    """One thing in the history: an attempt was `tried` (and allowed), or was found `right`, or was taken `back`."""

    what: str
    id: str
    clock_ms: int
    true_ms: int


@dataclass
class Row:
    """What a history comes to: the failures that stand, the locks served, and the failures in a row."""

    standing: list[Happened]
    served: int = 0
    failures: int = 0


def read(rule: Rule, history: list[Happened]) -> Row:
    """Walk the whole history from the start. Nothing is kept between two walks."""
    row = Row([])
    for event in history:
        ids = [one.id for one in row.standing]
        match event.what:
            case "tried":
                time = max(event.clock_ms, *(one.clock_ms for one in row.standing), 0)
                if locks(rule, row):  # it was allowed: so the lock was over
                    row.standing, row.served = [], row.served + 1
                row.standing = [one for one in row.standing if time - one.clock_ms < rule.within_s * 1000]
                row.standing.append(replace(event, clock_ms=time))
                row.failures += 1
            case "right" if event.id in ids:
                row.standing = row.standing[ids.index(event.id) + 1 :]
                row.served = max(0, row.served - 1)
                row.failures = len(row.standing)
            case "back" if event.id in ids:
                row.standing.pop(ids.index(event.id))
                row.failures -= 1
            case _:
                pass
    return row


def locks(rule: Rule, row: Row) -> bool:
    """Whether the last `failures` of those that stand fit into one window."""
    last = row.standing[-rule.failures :]
    return len(last) == rule.failures and last[-1].clock_ms - last[0].clock_ms < rule.within_s * 1000


def expected(rule: Rule, history: list[Happened], now_ms: int) -> lockout.Standing:
    """How a ledger with this history must stand at `now_ms`."""
    row = read(rule, history)
    if rule.lifetime and row.failures >= rule.lifetime:
        return Disabled()
    if locks(rule, row):
        length_s = [*rule.lock_s, *[rule.lock_s[-1]] * row.served][row.served]
        until_ms = row.standing[-1].clock_ms + length_s * 1000
        return Locked(until_ms) if now_ms < until_ms else Open(rule.failures)
    counted = [one for one in row.standing if now_ms - one.clock_ms < rule.within_s * 1000]
    return Open(rule.failures - len(counted))


RULES = (
    Rule(failures=1, within_s=10, lock_s=(20,)),
    Rule(failures=2, within_s=10, lock_s=(20, 50), lifetime=5),
    Rule(failures=3, within_s=10, lock_s=(4, 30, 60), lifetime=12),  # a lock shorter than the window
    Rule(failures=3, within_s=60, lock_s=(60, 61), lifetime=0),
)


PAUSES = ("0", "1", "window", "lock over", "first lock", "last lock")
"""The rule's own edges. `lock over`: the end of the lock that is on, else nothing."""


class Machine(RuleBasedStateMachine):
    """
    Tries, judgements in any order, repeats, pauses from the rule's own edges, and a clock that jumps back.

    The ledger is all that the rule under test keeps; the machine keeps everything that ever happened.
    """

    unsettled = Bundle("unsettled")

    @initialize(rule=st.sampled_from(RULES))
    def begin(self, rule):
        self.rule = rule
        self.ledger = Ledger()
        self.history: list[Happened] = []
        self.clock_ms = self.true_ms = 1_000_000
        self.names = 0

    def _happened(self, what: str, id_: str) -> None:
        self.history.append(Happened(what, id_, self.clock_ms, self.true_ms))

    def _edge_ms(self, pause: str) -> int:
        match pause, expected(self.rule, self.history, self.clock_ms):
            case "window", _:
                return self.rule.within_s * 1000
            case "first lock", _:
                return self.rule.lock_s[0] * 1000
            case "last lock", _:
                return self.rule.lock_s[-1] * 1000
            case "lock over", Locked(until_ms):
                return until_ms - self.clock_ms
            case "lock over", _:
                return 0
            case _:
                return int(pause)

    @rule(
        target=unsettled,
        pause=st.sampled_from(PAUSES),
        by_ms=st.sampled_from((0, 0, -1, 1)),
        times=st.sampled_from((1, 1, 2, 3)),
    )
    def attempts(self, pause, by_ms, times):
        """After a pause, an attempt or some: each allowed exactly when the history says so, else without a trace."""
        wait = max(0, self._edge_ms(pause) + by_ms)
        self.clock_ms += wait
        self.true_ms += wait
        names = [f"attempt {self.names + number}" for number in range(times)]
        self.names += times
        for name in names:
            before, stands = self.ledger, expected(self.rule, self.history, self.clock_ms)
            assert stands == lockout.standing(self.rule, before, self.clock_ms)
            self.ledger, allowed = lockout.reserve(self.rule, before, name, self.clock_ms)
            assert isinstance(stands, Open) == allowed, (stands, allowed)
            if allowed:
                self._happened("tried", name)
            else:
                assert before == self.ledger
        return multiple(*names)

    @rule(span=st.sampled_from(PAUSES))
    def clock_jumps_back(self, span):
        """True time does not: whatever the clock says, nobody may win by it."""
        self.clock_ms -= self._edge_ms(span)

    @rule(name=unsettled)
    def repeat(self, name):
        """The webhook of an attempt that stands comes again: allowed as before, and nothing changes."""
        if name in {one.id for one in read(self.rule, self.history).standing}:
            assert (self.ledger, True) == lockout.reserve(self.rule, self.ledger, name, self.clock_ms)

    @rule(name=consumes(unsettled))
    def right(self, name):
        self.ledger = lockout.absolve(self.ledger, name)
        self._happened("right", name)
        assert self.ledger == lockout.withdraw(lockout.absolve(self.ledger, name), name), "settled twice"

    @rule(name=consumes(unsettled))
    def not_looked_at(self, name):
        self.ledger = lockout.withdraw(self.ledger, name)
        self._happened("back", name)
        assert self.ledger == lockout.withdraw(lockout.absolve(self.ledger, name), name), "settled twice"

    @invariant()
    @precondition(lambda self: hasattr(self, "rule"))
    def stands_as_the_history_says(self):
        now, row = self.clock_ms, read(self.rule, self.history)
        assert expected(self.rule, self.history, now) == lockout.standing(self.rule, self.ledger, now)
        assert (row.failures, row.served) == (self.ledger.run, self.ledger.steps)
        assert len(self.ledger.attempts) <= self.rule.failures

    def teardown(self):
        """
        The promise in words: one guess more than `failures`, none of them forgiven, takes a window or a lock.

        Any `failures` + 1 guesses in succession span a window with all but the last of them, or there is the
        shortest lock's time between two. Nothing of the ledger is used, nor of `read`, nor the clock.
        """
        standing: list[Happened] = []
        for event in getattr(self, "history", []):
            ids = [one.id for one in standing]
            if event.what == "tried":
                standing.append(event)
                last = standing[-self.rule.failures - 1 :]
                assert len(last) <= self.rule.failures or paid(self.rule, last), last
            elif event.id in ids:
                at = ids.index(event.id)
                standing = (
                    standing[at + 1 :] if event.what == "right" else [*standing[:at], *standing[at + 1 :]]
                )


def paid(rule: Rule, guesses: list[Happened]) -> bool:
    """Whether these guesses were paid for with a window or a lock."""
    times = [one.true_ms for one in guesses]
    gaps = [after - before for before, after in pairwise(times)]
    return times[-2] - times[0] >= rule.within_s * 1000 or max(gaps) >= min(rule.lock_s) * 1000


Machine.TestCase.settings = settings(stateful_step_count=30)
test_against_the_whole_history = Machine.TestCase


# ── planted faults: the machine must turn red ────────────────────────────────────────────────────────────

RESERVE, ABSOLVE, WITHDRAW = lockout.reserve, lockout.absolve, lockout.withdraw
STANDING, WITHIN, FULL = lockout.standing, lockout._within, lockout._full


def judged_before_counted(rule, ledger, attempt_id, now_ms):
    """Checked, but counted by nobody yet: what everybody who is at it at once sees."""
    return ledger, RESERVE(rule, ledger, attempt_id, now_ms)[1]


def lock_extended(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    if allowed or not ledger.attempts:
        return after, allowed
    last = replace(ledger.attempts[-1], at_ms=max(now_ms, ledger.attempts[-1].at_ms))
    return replace(ledger, attempts=(*ledger.attempts[:-1], last)), False


def counted_during_a_lock(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    return (after, True) if allowed else (replace(ledger, run=ledger.run + 1), False)


def never_stepping_up(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    return replace(after, steps=ledger.steps), allowed


def run_cleared_by_time(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    return replace(after, run=len(after.attempts)), allowed


def same_id_counted_twice(rule, ledger, attempt_id, now_ms):
    if any(entry.id == attempt_id for entry in ledger.attempts):
        after, allowed = RESERVE(rule, ledger, f"{attempt_id} again", now_ms)
        return after, allowed
    return RESERVE(rule, ledger, attempt_id, now_ms)


def same_id_given_back(rule, ledger, attempt_id, now_ms):
    if any(entry.id == attempt_id for entry in ledger.attempts):
        return WITHDRAW(ledger, attempt_id), True
    return RESERVE(rule, ledger, attempt_id, now_ms)


def time_running_backwards(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    if not allowed or after == ledger:
        return after, allowed
    return replace(after, attempts=(*after.attempts[:-1], Attempt(attempt_id, now_ms))), True


def not_cleared_by_a_served_lock(rule, ledger, attempt_id, now_ms):
    after, allowed = RESERVE(rule, ledger, attempt_id, now_ms)
    if after.steps == ledger.steps:
        return after, allowed
    return replace(after, attempts=(*ledger.attempts[1:], *after.attempts)), allowed


def forgiving_all(ledger, attempt_id):
    if all(entry.id != attempt_id for entry in ledger.attempts):
        return ledger
    return Ledger(steps=max(0, ledger.steps - 1))


def forgiving_itself_only(ledger, attempt_id):
    after, alone = ABSOLVE(ledger, attempt_id), WITHDRAW(ledger, attempt_id)
    return replace(alone, steps=after.steps)


def never_stepping_down(ledger, attempt_id):
    return replace(ABSOLVE(ledger, attempt_id), steps=ledger.steps)


def stepping_all_the_way_down(ledger, attempt_id):
    after = ABSOLVE(ledger, attempt_id)
    return replace(after, steps=0) if after != ledger else after


def taking_back_all(ledger, attempt_id):
    gone = any(entry.id == attempt_id for entry in ledger.attempts)
    return replace(ledger, attempts=(), run=0) if gone else ledger


def taking_back_but_not_the_run(ledger, attempt_id):
    return replace(WITHDRAW(ledger, attempt_id), run=ledger.run)


def lock_from_now(rule, ledger, now_ms):
    found = STANDING(rule, ledger, now_ms)
    if isinstance(found, Locked):
        return Locked(now_ms + rule.lock_s[min(ledger.steps, len(rule.lock_s) - 1)] * 1000)
    return found


def lock_over_with_the_window(rule, ledger, now_ms):
    found = STANDING(rule, ledger, now_ms)
    gone = ledger.attempts and now_ms - ledger.attempts[0].at_ms >= rule.within_s * 1000
    return Open(rule.failures) if gone and isinstance(found, Locked) else found


def lock_a_millisecond_short(rule, ledger, now_ms):
    found = STANDING(rule, ledger, now_ms + 1)
    return found if isinstance(found, Open) and FULL(rule, ledger) else STANDING(rule, ledger, now_ms)


def last_lock_not_repeated(rule, ledger, now_ms):
    return STANDING(rule, replace(ledger, steps=ledger.steps % len(rule.lock_s)), now_ms)


def lifetime_one_too_many(rule, ledger, now_ms):
    longer = replace(rule, lifetime=rule.lifetime + 1) if rule.lifetime else rule
    return STANDING(longer, ledger, now_ms)


def window_one_too_long(rule, ledger, now_ms):
    return tuple(entry for entry in ledger.attempts if entry.at_ms >= now_ms - rule.within_s * 1000)


def window_one_too_short(rule, ledger, now_ms):
    return tuple(entry for entry in ledger.attempts if entry.at_ms > now_ms + 1 - rule.within_s * 1000)


def one_failure_more(rule, ledger):
    return FULL(replace(rule, failures=rule.failures + 1), ledger)


FAULTS: list[tuple[str, Callable[..., object]]] = [
    ("reserve", judged_before_counted),
    ("reserve", lock_extended),
    ("reserve", counted_during_a_lock),
    ("reserve", never_stepping_up),
    ("reserve", run_cleared_by_time),
    ("reserve", same_id_counted_twice),
    ("reserve", same_id_given_back),
    ("reserve", time_running_backwards),
    ("reserve", not_cleared_by_a_served_lock),
    ("absolve", forgiving_all),
    ("absolve", forgiving_itself_only),
    ("absolve", never_stepping_down),
    ("absolve", stepping_all_the_way_down),
    ("withdraw", taking_back_all),
    ("withdraw", taking_back_but_not_the_run),
    ("standing", lock_from_now),
    ("standing", lock_over_with_the_window),
    ("standing", lock_a_millisecond_short),
    ("standing", last_lock_not_repeated),
    ("standing", lifetime_one_too_many),
    ("_within", window_one_too_long),
    ("_within", window_one_too_short),
    ("_full", one_failure_more),
]

HUNT = settings(
    max_examples=400,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
"""Without shrinking: that something is found is all that is asked."""


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_the_machine_finds_each_planted_fault(monkeypatch, name, fault):
    """A machine that finds nothing may be weak: this one turns red for each rule taken out or bent."""
    monkeypatch.setattr(lockout, name, fault)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=HUNT)


# ── trusted numbers: how many lanes an account may have ──────────────────────────────────────────────────

KEPT_MS = lockout.TRUST_KEPT_S * 1000
PLACES_TAKEN = tuple(Trusted(f"+1{place}", place) for place in range(lockout.TRUSTED_NUMBERS_MAX))


def test_a_number_is_trusted_for_a_time_and_renewed():
    """It lasts from its last success; one that was silent for longer is a stranger's again."""
    once = lockout.trust((), "+1", 0)

    assert lockout.trusts(once, "+1", KEPT_MS - 1)
    assert not lockout.trusts(once, "+1", KEPT_MS)
    assert not lockout.trusts(once, "+2", 0)
    assert lockout.trust(once, "+1", 7) == (Trusted("+1", 7),)
    assert lockout.trust(once, "+2", KEPT_MS) == (Trusted("+2", KEPT_MS),)


def test_there_is_room_for_so_many_numbers():
    """When all places are taken, those who have one are renewed and nobody is put out for a newcomer."""
    assert lockout.trust(PLACES_TAKEN, "+9", 10) == PLACES_TAKEN
    assert lockout.trust(PLACES_TAKEN, "+10", 10) == (*PLACES_TAKEN[1:], Trusted("+10", 10))
    assert lockout.trust(PLACES_TAKEN[1:], "+9", 10) == (*PLACES_TAKEN[1:], Trusted("+9", 10))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, KEPT_MS // 3)), max_size=60))
def test_never_more_lanes_than_that(successes):
    """Whoever answers right, in whatever order and however often: the number of lanes is bounded."""
    numbers, now = (), 0
    for name, pause in successes:
        now += pause
        before = numbers
        numbers = lockout.trust(numbers, str(name), now)
        had = [one.number for one in before if now - one.at_ms < KEPT_MS]
        expected = str(name) in had or len(had) < lockout.TRUSTED_NUMBERS_MAX

        assert expected is lockout.trusts(numbers, str(name), now)
        assert len({one.number for one in numbers}) == len(numbers) <= lockout.TRUSTED_NUMBERS_MAX
        assert set(had) <= {one.number for one in numbers}
