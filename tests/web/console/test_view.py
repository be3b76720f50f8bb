"""What the panel says of a standing, as tables: a state in, its regions out; and nothing that the standing does not hold."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.core.handoff import May
from ivrguard.core.standing import Held, Shown, Standing, Status
from ivrguard.web.console import words
from ivrguard.web.console.view import intent_words, lasting, listed, moment, named, view

NOON_MS = 1_767_614_400_000  # 2026-01-05 12:00:00 UTC
NEW_YORK = ZoneInfo("America/New_York")
ANN = Agent("agent:ann", "Ann")

VERIFIED = Standing(
    status=Status.VERIFIED,
    call_sid="CA" + "0a" * 16,
    reference="0A0A0A0A",
    caller="+15551230001",
    account="123456789",
    intent="wire",
    acr=("two_factor", "one_factor"),
    proofs=(
        Shown("pin", Kind.PIN, NOON_MS - 130_000, None),
        Shown("code", Kind.SMS_CODE, NOON_MS - 60_000, NOON_MS + 240_000),
    ),
    legs=(
        Held("agent:bob", NOON_MS - 120_000, NOON_MS - 100_000, ("enqueue:a",), ("one_factor",)),
        Held("agent:ann", NOON_MS - 50_000, NOON_MS - 40_000, ("enqueue:b",), ("two_factor", "one_factor")),
    ),
    may=(May("wire", "two_factor", held=True), May("close_account", "three", held=False)),
    needs=(),
    able=("pin", "code"),
    risks=(),
    attempts_left=5,
    locked_until_ms=None,
    disabled=False,
    began_ms=NOON_MS - 200_000,
    now_ms=NOON_MS,
)


@pytest.fixture
def shown(bank_flow):
    return lambda **changed: view(replace(VERIFIED, **changed), bank_flow, NEW_YORK, ANN, NOON_MS)


def test_a_verified_caller_whole(shown):
    """Every region at once: word, how and when, who at which leg, what is allowed, what is left, what is next."""
    seen = shown()
    assert (seen.word, seen.why) == (
        "Verified",
        "Everything needed for a wire transfer is proved.",
    )
    assert [(one.label, one.at.clock, one.age, one.left, one.counts) for one in seen.proofs] == [
        ("PIN", "06:57:50", "2 min 10 s", "", True),
        ("code by text message", "06:59:00", "1 min 0 s", "4 min 0 s", True),
    ]
    assert [(step.at.clock, step.who, step.what) for step in seen.way] == [
        ("06:56:40", "Caller", "called"),
        ("06:57:50", "IVR", "PIN proved"),
        ("06:58:00", "IVR", "handed over, one factor"),
        ("06:58:20", "bob", "took the call"),
        ("06:59:00", "bob", "code by text message proved"),
        ("06:59:10", "bob", "handed over, two factor"),
        ("06:59:20", "You", "took the call"),
    ]
    assert [(one.what, one.held, one.level) for one in seen.may] == [
        ("A wire transfer", True, "two factor"),
        ("Close account", False, "three"),
    ]
    assert (seen.account, seen.caller, seen.reference) == ("123456789", "+15551230001", "0A0A0A0A")
    assert (seen.attempts, seen.now.clock, seen.changes_ms) == (
        "5 left before this account locks.",
        "07:00:00",
        NOON_MS + 240_000,
    )


@pytest.mark.parametrize(
    ("changed", "word", "why"),
    [
        (
            {"status": Status.NEEDS_FACTOR, "needs": ("app",), "proofs": VERIFIED.proofs[:1]},
            "Needs one factor",
            "Proved: PIN. Still missing for a wire transfer: a code from their app.",
        ),
        (
            {"status": Status.NEEDS_FACTOR, "needs": ("pin", "code"), "proofs": VERIFIED.proofs[1:]},
            "Needs two factors",
            "Proved: code by text message. Still missing for a wire transfer: their PIN and a code by text message.",
        ),
        (
            {"status": Status.NEEDS_FACTOR},
            "Needs more",
            "Proved: PIN and code by text message. For a wire transfer that is not enough, and this account has nothing more to show on this call.",
        ),
        ({"status": Status.NOT_VERIFIED}, "Not verified", words.STATUS[Status.NOT_VERIFIED].why),
        ({"status": Status.EVALUATING}, "Evaluating", words.STATUS[Status.EVALUATING].why),
        ({"status": Status.LOCKED}, "Locked", words.STATUS[Status.LOCKED].why),
        ({"status": Status.ENDED}, "Call ended", words.STATUS[Status.ENDED].why),
        (
            {"intent": ""},
            "Verified",
            "Everything needed for this call is proved.",
        ),
    ],
)
def test_each_state_has_its_word_and_its_reason(shown, changed, word, why):
    seen = shown(**changed)
    assert (seen.word, seen.why) == (word, why)
    assert seen.todo
    assert "{" not in "".join((seen.word, seen.why, *seen.todo, seen.say))


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({"attempts_left": None}, ""),
        ({"attempts_left": 1}, words.LAST_ATTEMPT),
        ({"attempts_left": 3}, "3 left before this account locks."),
        (
            {"attempts_left": 0, "locked_until_ms": NOON_MS + 1_800_000},
            "None: no answer is looked at before 07:30:00 (in 30 min 0 s).",
        ),
        ({"attempts_left": 0, "disabled": True}, words.DISABLED),
    ],
)
def test_attempts_left_and_the_end_of_a_lock(shown, changed, left):
    """For the agent, in one sentence; never which answer was wrong: a standing does not hold it."""
    assert shown(**changed).attempts == left


def test_a_proof_that_counts_no_more_stands_as_such(shown):
    """It is history: shown, and not counted among what is proved."""
    old = Shown("code", Kind.SMS_CODE, NOON_MS - 400_000, NOON_MS - 1)
    seen = shown(status=Status.NEEDS_FACTOR, needs=("code",), proofs=(VERIFIED.proofs[0], old))
    assert [one.counts for one in seen.proofs] == [True, False]
    assert seen.why.startswith("Proved: PIN. ")
    assert seen.changes_ms is None


def test_time_alone_changes_a_lock_too(shown):
    """The soonest end of all counts, and none that is over."""
    locked = shown(status=Status.LOCKED, proofs=(), locked_until_ms=NOON_MS + 5_000)
    assert locked.changes_ms == NOON_MS + 5_000
    assert shown(locked_until_ms=NOON_MS + 5_000).changes_ms == NOON_MS + 5_000
    assert shown(locked_until_ms=NOON_MS - 5_000).changes_ms == NOON_MS + 240_000


def test_a_call_without_anything_proved(shown):
    """Protected fields are absent, and the way says that nothing was proved."""
    leg = Held("agent:ann", NOON_MS - 50_000, None, ("enqueue:b",), ())
    seen = shown(status=Status.NOT_VERIFIED, proofs=(), account="", able=(), may=(), legs=(leg,))
    assert (seen.account, seen.proofs, seen.may) == ("", (), ())
    assert [step.what for step in seen.way] == ["called", "handed over, nothing proved"]


@pytest.mark.parametrize("note", ["attestation_failed", "attestation_gateway", "diverted"])
def test_risk_is_told_apart(shown, note):
    """A risk changes no word of the verification, and has words of its own."""
    risky, plain = shown(risks=(note,)), shown()
    assert risky.risks == (words.RISKS[note],)
    assert replace(risky, risks=()) == plain


def test_a_risk_without_words_is_told_all_the_same(shown):
    """A table that forgot one must not hide it."""
    assert shown(risks=("sim_swapped",)).risks == (("Sim swapped", ""),)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min 0 s"),
        (3_599_999, "59 min 59 s"),
        (3_600_000, "1 h 0 min"),
        (90_000_000, "25 h 0 min"),
    ],
)
def test_lengths_of_time(ms, text):
    assert lasting(ms) == text


def test_small_words(bank_flow):
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [named("agent:ann"), named("oidc:4f2"), named("desk-7")] == ["ann", "4f2", "desk-7"]
    assert intent_words(bank_flow, "no_such_one") == "no such one"
    assert moment(NOON_MS, NEW_YORK).iso == "2026-01-05T12:00:00+00:00"
