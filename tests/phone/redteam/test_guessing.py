"""
Attacks that guess: each weakened flow is caught with its line, each weakened guard without one.

A guard is weakened by taking one piece of the lockout rule out of it.
"""

import asyncio
from dataclasses import replace

import pytest

from ivrguard.core import admission, demands, lockout
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.lockout import Ledger
from ivrguard.directory.local import LocalPins
from ivrguard.factors import pin
from ivrguard.guard import webhook
from ivrguard.phone.redteam import guessing
from ivrguard.phone.redteam.attack import Verdict
from ivrguard.stores.memory import MemoryStore

CEILING = ("ceiling: {guess_chance_per_year: 0.01}", "")
FOUR = ("pin:  {kind: pin, digits: 8}", "pin:  {kind: pin, digits: 4}")
PIN_ALONE = (
    ('  code: {kind: sms_code, digits: 6, valid: 10m, sends: {per_call: 2, per_account: "5 in 1h"}}\n', ""),
    ("{any: [pin, code, app]}", "{any: [pin]}"),
    ("{all: [pin, {any: [code, app]}]}", "{all: [pin, app]}"),
    ("intent: wire, own_code: true", "intent: wire"),
)
"""A flow without messages, which cost nothing here and time."""
SHORT = ("lifetime: 100", "lifetime: 9")


def plant(patch, name, fault):
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


WEAK = {
    # what was weakened: example, edits, the attack, what it says, the place
    "fifteen guesses before a lock": (
        [CEILING, ("failures: 5", "failures: 15")],
        "guess",
        "14 guesses at 'pin' in a row, and no lock",
        ("lockout", "failures"),
    ),
    "no lifetime": (
        [CEILING, ("lifetime: 100", "lifetime: 0"), *PIN_ALONE],
        "guess-for-a-year",
        "21 wrong answers in a row at 'pin' were judged in",
        ("lockout", "lifetime"),
    ),
    "a PIN of four digits": (
        [CEILING, FOUR, ("lifetime: 100", "lifetime: 10"), *PIN_ALONE],
        "guess-for-a-year",
        "10 guesses in a year find 'pin' once in 890 accounts",
        ("factors", "pin", "digits"),
    ),
    "four digits, for a spray": (
        [CEILING, FOUR],
        "spray",
        "one guess at each of 100,000 accounts opens /redteam-no-rule-names-this of 11 of them by pin",
        ("factors", "pin", "digits"),
    ),
    "one telephone as often as it likes": (
        [("caller_number: {failures: 20,", "caller_number: {failures: 1000,")],
        "guess-from-one-number",
        "one telephone guessed at 31 accounts within a minute, and was not stopped",
        ("lockout", "caller_number"),
    ),
}


@pytest.mark.parametrize("weak", WEAK)
async def test_a_weakened_flow_is_caught(monkeypatch, catches, flow_with, weak):
    """By the attack that it concerns, with the line that lets it. A year is shorter here, by a lower bar."""
    monkeypatch.setattr(guessing, "RUN_MAX", 20)
    monkeypatch.setattr(guessing, "CHANCE_MAX", 0.001)
    edits, attack, says, place = WEAK[weak]
    await catches(attack, says, flow_with("bank", *edits), place)


def with_reserve_that_always_allows(patch):
    """Every attempt may be judged."""
    reserve = lockout.reserve
    patch.setattr(lockout, "reserve", lambda *args: (reserve(*args)[0], True))


def with_reserve_that_counts_nothing(patch):
    """An attempt leaves no trace before the verdict."""
    patch.setattr(lockout, "reserve", lambda rule, ledger, *_: (ledger, True))


def with_right_answers_while_locked(patch):
    """A guess is judged while the account is locked, and taken."""
    reserve = steps.reserve
    patch.setattr(steps, "reserve", lambda *args: (reserve(*args)[0], True))


def with_torn_amendments(patch):
    """The store reads, lets others run, and then writes what it worked out."""
    amend = MemoryStore.amend

    async def torn(self, keys, change):
        values = {key: await self.read(key) for key in keys}
        await asyncio.sleep(0.002)
        return await amend(self, keys, lambda _: change(values))

    patch.setattr(MemoryStore, "amend", torn)


def with_every_delivery_fresh(patch):
    """A webhook that comes again is taken for a new one, and so is one to a question that is over."""
    plant(patch, "admit", lambda *_: admission.Admission.FRESH)
    first = webhook.Webhook._first_event

    async def any_question(self, *, again):
        if self._hook.nonce is not None and self._call.question is not None:
            self._hook = replace(self._hook, nonce=self._call.question.nonce)
        return await first(self, again=again)

    patch.setattr(webhook.Webhook, "_first_event", any_question)
    patch.setattr(lockout, "reserve", lambda rule, ledger, *_: (ledger, True))


def without_lifetime(patch):
    """Failures in a row are never too many."""
    standing = lockout.standing
    patch.setattr(
        lockout, "standing", lambda rule, ledger, now: standing(replace(rule, lifetime=0), ledger, now)
    )


def with_codes_that_clear_the_count(patch):
    """Sending a code forgives what was guessed before."""
    ask = steps._ask

    def forgiving(*args, **more):
        step = ask(*args, **more)
        if not isinstance(step.move, calls.Ask) or step.move.send is None:
            return step
        cleared = {name: Ledger() for name in step.books.ledgers}
        return replace(step, books=replace(step.books, ledgers=cleared))

    plant(patch, "_ask", forgiving)


def without_caller_numbers(patch):
    """A caller's number has no ledger."""
    plant(patch, "number_ledger_id", lambda _: None)


def with_any_pin(patch):
    """No PIN is too easy."""
    patch.setattr(pin, "weak", lambda _: None)


GUARDS = [
    (with_reserve_that_always_allows, "guess", "were judged before the lock; the rule allows 5"),
    (with_right_answers_while_locked, "guess", "was locked, and the right answer was taken"),
    (with_torn_amendments, "guess-at-once", "calls at once; the rule allows 5"),
    (with_every_delivery_fresh, "guess-again", "when one was sent four times; the rule allows 1"),
    (
        with_reserve_that_counts_nothing,
        "guess-and-hang-up",
        "in calls that were broken off; the rule allows 5",
    ),
    (with_codes_that_clear_the_count, "guess-with-new-codes", "with a new code for each; the rule allows 5"),
    (with_any_pin, "spray", "a customer may choose the PIN of 8 digits that everybody tries first"),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    """By the attack that it concerns; nothing in the flow is to blame."""
    weaken(monkeypatch)
    await catches(attack, says)


async def test_a_guard_that_forgets_the_lifetime_is_caught(monkeypatch, catches, flow_with):
    """With a lifetime that is short, so that the year is."""
    without_lifetime(monkeypatch)
    monkeypatch.setattr(guessing, "RUN_MAX", 20)
    flow = flow_with("bank", SHORT, *PIN_ALONE)
    outcome = await catches(
        "guess-for-a-year", "wrong answers in a row at 'pin' were judged", flow, ("lockout", "lifetime")
    )
    assert dict(outcome.tried)["guesses judged"] > 9


async def test_a_guard_that_overdraws_the_lifetime_is_caught(monkeypatch, catches, flow_with):
    """By a few: more than the flow says, and less than any standard forbids."""
    standing = lockout.standing
    patched = lambda rule, ledger, now: standing(replace(rule, lifetime=12), ledger, now)  # noqa: E731 -- one line beside its use
    monkeypatch.setattr(lockout, "standing", patched)
    await catches(
        "guess-for-a-year",
        "12 wrong answers in a row at 'pin'; the lifetime is 9",
        flow_with("bank", SHORT, *PIN_ALONE),
    )


async def test_a_flow_that_protects_nothing_has_nothing_to_guess(played, flow_with):
    flow = flow_with("bank")
    open_ = replace(flow, rules=(), default=replace(flow.default, require=None))
    outcome = await played("guess", open_)
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the flow protects nothing")


async def test_what_is_asked_for_nowhere_is_told(played, flow_with, alone):
    flow = flow_with(
        "bank",
        ("{any: [pin, code, app]}", "{any: [pin, code]}"),
        ("{any: [code, app]}", "{any: [code]}"),
        CEILING,
    )
    outcome = await played("guess", flow)
    assert "'app' was not asked for, so nobody guessed at it" in outcome.notes


async def test_a_flow_that_locks_at_once_is_guessed_at_once(played, flow_with, alone):
    """One failure is the lock: the same guess again, and others, are judged no more."""
    outcome = await played("guess-again", flow_with("bank", CEILING, ("failures: 5", "failures: 1")))
    assert outcome.verdict is Verdict.HELD


async def test_a_telephone_that_overdraws_its_rule_is_caught(monkeypatch, catches):
    """By a few, and by fewer than the bar."""
    reserve = lockout.reserve

    def generous(rule, ledger, attempt, now_ms):
        more = replace(rule, failures=25) if rule.failures == 20 else rule
        return reserve(more, ledger, attempt, now_ms)

    monkeypatch.setattr(lockout, "reserve", generous)
    await catches("guess-from-one-number", "one telephone made 25 guesses; its rule allows 20")


async def test_a_pin_that_was_only_said_to_be_taken_opens_nothing(monkeypatch, played, alone):
    async def taken(*_, **__):
        return True

    monkeypatch.setattr(LocalPins, "change", taken)
    assert (await played("spray")).holes == ()


async def test_a_guard_that_does_not_count_telephones_is_caught(monkeypatch, catches):
    """It looks like a flow without the rule, and stands where that would be."""
    without_caller_numbers(monkeypatch)
    place = ("lockout", "caller_number")
    await catches("guess-from-one-number", "one telephone guessed at 31 accounts", place=place)
