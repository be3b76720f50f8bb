"""How a call stands: a table for each law of what an agent sees of the call that he holds."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import standing as standings
from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.call import Books, Call, Question, own_ledger_id
from ivrguard.core.caller import address_of
from ivrguard.core.conference import Beside, Bridge, Stage
from ivrguard.core.flow import Factor, Flow, Identify, Upstream
from ivrguard.core.handoff import Leg, May
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.core.standing import By, Held, Shown, Status, reference, standing_of, wanted

NOON = 1_700_000_000_000
SID = "CA" + "0a1b2c3d" * 4
WIRE = Demand("two_factor", within_s=300, intent="wire")
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("*",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    levels={
        "one_factor": AnyOf(("pin", "code", "app")),
        "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
    },
    rules=(Rule(WIRE, path="/wire"), Rule(Demand("two_factor", intent="agent"), transfer=Target("*", "*"))),
    default=Demand("one_factor", within_s=600),
)
RULE = FLOW.locks.account
PIN, CODE = Proof("pin", Kind.PIN, NOON - 90_000, 3), Proof("code", Kind.SMS_CODE, NOON - 5_000, 5)
LEG = Leg(
    *(
        "leg-1",
        SID,
        "123456",
        ("workflow:WW1",),
        ("task",),
        "agent",
        ("two_factor",),
        ("pin",),
        NOON - 90_000,
    ),
    issued_ms=NOON - 60_000,
    expires_ms=NOON + 540_000,
    redeemed_ms=NOON - 30_000,
    agent="ann",
)


def a_call(*proofs, **more):
    """A call of an account with a PIN and codes, which proved so much."""
    caller, began = address_of("+15551230001"), NOON - 120_000
    call = Call(SID, "AC1", "bank", "v1", caller, "+18005550100", attested=False, began_ms=began)
    usual = {"account": "123456", "known": True, "enrolled": ("pin", "code"), "proofs": proofs}
    return replace(call, **{**usual, **more})


def failed(times, factor="pin", **more):
    """The books of an account whose factor was answered wrong so often."""
    attempts = tuple(Attempt(str(nth), NOON - 1_000) for nth in range(times))
    ledger = Ledger(attempts, run=times)
    return Books({own_ledger_id(FLOW, a_call(), factor): replace(ledger, **more)})


def stands(call, books=None, legs=(LEG,), flow=FLOW, now_ms=NOON):
    return standing_of(flow, call, books or Books(), legs, now_ms)


def test_all_that_is_seen_of_a_verified_call():
    """The word, how and when, by whom it was taken, what may be done now; times in milliseconds."""
    seen = stands(a_call(PIN, CODE, notes=("diverted",)))

    assert seen == standings.Standing(
        status=Status.VERIFIED,
        call_sid=SID,
        reference="0A1B2C3D",
        caller="+15551230001",
        account="123456",
        intent="agent",
        acr=("two_factor", "one_factor"),
        proofs=(Shown("pin", Kind.PIN, PIN.at_ms, None), Shown("code", Kind.SMS_CODE, CODE.at_ms, None)),
        legs=(Held("ann", NOON - 60_000, NOON - 30_000, ("workflow:WW1",), ("two_factor",)),),
        may=(May("agent", "two_factor", held=True), May("wire", "two_factor", held=True)),
        needs=(),
        able=("pin", "code"),
        risks=("diverted",),
        attempts_left=RULE.failures,
        locked_until_ms=None,
        disabled=False,
        began_ms=NOON - 120_000,
        now_ms=NOON,
    )


@pytest.mark.parametrize(
    ("stage", "ways"),
    [
        (None, [("pin", ()), ("code", (By.READ_BACK,))]),
        (Stage.TALKING, [("pin", (By.BLIND,)), ("code", (By.READ_BACK, By.BLIND))]),
        (Stage.OVER, [("pin", ()), ("code", (By.READ_BACK,))]),
    ],
)
def test_how_each_factor_that_is_wanted_can_be_proved(stage, ways):
    """A PIN is never read to anybody: it is keyed aside, where the guard bridges the call, or not at all."""
    bridge = Bridge("leg", "nonce", "held", stage=stage) if stage is not None else None

    assert [(one.factor, one.by) for one in stands(a_call(bridge=bridge)).ways] == ways
    assert stands(a_call(PIN, CODE, bridge=bridge)).ways == ()


def test_whom_taskrouter_connected_can_be_led_aside_from_its_room():
    """Where the flow names the workspace; whether he is in the room shows at the press."""
    named = replace(FLOW, workspace="WS" + "0" * 32)
    assert [one.by for one in stands(a_call(), flow=named).ways] == [(By.BLIND,), (By.READ_BACK, By.BLIND)]
    assert stands(a_call(), flow=named).aside == Beside(ready=True, apart=False, last="")
    assert stands(a_call(ended_ms=NOON), flow=named).aside == Beside(ready=False, apart=False, last="")
    assert stands(a_call()).aside is None


QUESTION = Question("n", "pin")


@pytest.mark.parametrize(
    ("call", "books", "status", "needs"),
    [
        (a_call(PIN, CODE), None, Status.VERIFIED, ()),
        (a_call(PIN), None, Status.NEEDS_FACTOR, ("code",)),
        (a_call(), None, Status.NOT_VERIFIED, ("pin", "code")),
        (a_call(account="", known=False, enrolled=()), None, Status.NOT_VERIFIED, ("pin", "code")),
        (a_call(PIN, enrolled=("pin",)), None, Status.NEEDS_FACTOR, ()),
        (a_call(PIN, question=QUESTION), None, Status.EVALUATING, ("code",)),
        (a_call(PIN, CODE), failed(RULE.failures), Status.LOCKED, ()),
        (a_call(PIN, question=QUESTION), failed(RULE.failures), Status.LOCKED, ("code",)),
        (a_call(PIN, CODE, ended_ms=NOON), failed(RULE.failures), Status.ENDED, ()),
    ],
    ids=["all", "one", "none", "no account", "not to be had", "asked", "locked", "locked, asked", "ended"],
)
def test_the_one_word(call, books, status, needs):
    """The worst that is true; and which factors are still to be proved, none where the level cannot be had."""
    seen = stands(call, books)
    assert (seen.status, seen.needs) == (status, needs)


def test_risk_changes_nothing_of_the_status():
    """Law 3: a number that nobody vouches for leaves a proof a proof, and is told beside it."""
    calm, risky = stands(a_call(PIN, CODE)), stands(a_call(PIN, CODE, notes=("attestation_failed",)))
    assert replace(risky, risks=()) == calm
    assert risky.risks == ("attestation_failed",)


# ── what is protected ────────────────────────────────────────────────────────────────────────────────────

SHORT = replace(FLOW, rules=(), default=Demand("one_factor", within_s=60))
PROTECTED = ("account", "able")


@pytest.mark.parametrize(
    ("call", "flow", "shown"),
    [
        (a_call(), FLOW, False),
        (a_call(CODE), FLOW, True),
        (a_call(PIN), SHORT, False),
        (a_call(CODE), SHORT, True),
        (a_call(replace(CODE, at_ms=NOON + 60_000)), FLOW, False),
    ],
    ids=["nothing proved", "something", "proved too long ago", "lately", "in the future"],
)
def test_what_is_protected_is_absent_until_something_counts(call, flow, shown):
    """Law 1: what was proved once and counts no longer shows nothing (FCC 23-95)."""
    seen = stands(call, flow=flow)
    assert [bool(getattr(seen, name)) for name in PROTECTED] == [shown] * 2


def test_a_call_that_no_account_was_claimed_in_has_no_attempts_to_tell_of():
    seen = stands(a_call(account="", known=False, enrolled=()))
    assert (seen.account, seen.attempts_left, seen.locked_until_ms, seen.disabled) == ("", None, None, False)


def test_before_a_proof_every_account_looks_alike():
    """Promise 6, at the desk too: an unknown account, one with a PIN alone, one with everything."""
    unknown = a_call(known=False, enrolled=("pin", "code", "app"), account="999999")
    one, other = stands(unknown), stands(a_call(enrolled=("pin",)))
    assert one == other


@given(
    proofs=st.lists(st.sampled_from([PIN, CODE, replace(PIN, at_ms=NOON - 4_000_000)]), max_size=3),
    times=st.integers(0, RULE.failures),
    question=st.sampled_from([None, QUESTION, replace(QUESTION, held="sealed-digits", chosen="sealed-pin")]),
)
def test_no_value_of_a_secret_is_in_it(proofs, times, question):
    """Law 2: names and times. What a call keeps sealed, cookies and challenges have no field here to stand in."""
    call = a_call(*proofs, question=question, cookies="sealed-cookies")
    seen = stands(call, failed(times))
    assert "sealed" not in repr(seen)
    assert {one.name for one in fields(Shown)} == {"factor", "kind", "at_ms", "until_ms"}


# ── attempts and locks ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("books", "left", "until_ms", "disabled"),
    [
        (Books(), RULE.failures, None, False),
        (failed(2), RULE.failures - 2, None, False),
        (failed(RULE.failures), 0, NOON - 1_000 + RULE.lock_s[0] * 1000, False),
        (failed(1, run=RULE.lifetime), 0, None, True),
        (
            Books({**failed(RULE.failures).ledgers, **failed(RULE.failures, "code", steps=1).ledgers}),
            0,
            NOON - 1_000 + RULE.lock_s[1] * 1000,
            False,
        ),
        (
            Books({**failed(RULE.failures).ledgers, **failed(1, "app").ledgers}),
            0,
            NOON - 1_000 + RULE.lock_s[0] * 1000,
            False,
        ),
    ],
    ids=["none", "two wrong", "locked", "disabled", "two locks", "a lock and a miss"],
)
def test_attempts_left_and_the_end_of_the_lock(books, left, until_ms, disabled):
    """Of the factor that stands worst; of two locks, the end of the later one."""
    seen = stands(a_call(PIN), books)
    assert (seen.attempts_left, seen.locked_until_ms, seen.disabled) == (left, until_ms, disabled)


def test_it_does_not_say_which_factor_was_wrong():
    """PSD2 RTS, article 4: two accounts that failed with different factors are told of alike."""
    assert stands(a_call(), failed(2, "pin")) == stands(a_call(), failed(2, "code"))


# ── which demand ─────────────────────────────────────────────────────────────────────────────────────────

ONE, TWO = Demand("one_factor", intent="wire"), Demand("two_factor", intent="wire")


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        ((), FLOW.default),
        ((replace(TWO, intent="other"),), FLOW.default),
        ((replace(ANYONE, intent="wire"),), FLOW.default),
        ((ONE,), ONE),
        ((ONE, TWO), TWO),
        ((TWO, ONE), TWO),
        ((TWO, replace(TWO, within_s=60), replace(TWO, within_s=300)), replace(TWO, within_s=60)),
        ((replace(ONE, within_s=1), TWO), TWO),
        ((TWO, replace(TWO, reverify="one_factor")), TWO),
        ((replace(ANYONE, intent="wire"), ONE), ONE),
    ],
)
def test_what_a_hand_over_needs_is_the_strictest_of_its_purpose(demands, expected):
    """However the rules are ordered; where none is about it, the flow's default."""
    flow = replace(FLOW, rules=tuple(Rule(demand, path=f"/{nth}") for nth, demand in enumerate(demands)))
    assert expected == wanted(flow, replace(LEG, intent="wire"))


def test_a_hand_over_that_says_itself_what_it_needs_is_asked_for_that():
    """One that an agent passed on: what the rules wanted of it then."""
    assert wanted(FLOW, replace(LEG, intent="wire", wants=ONE)) == ONE


def test_a_hand_over_without_a_purpose_needs_the_default():
    """A rule without an intent is no rule about it."""
    flow = replace(FLOW, rules=(Rule(Demand("two_factor"), path="/x"),))
    assert wanted(flow, replace(LEG, intent="")) == FLOW.default


def test_a_proof_counts_for_a_time_that_is_shown():
    """For this hand-over's purpose; without a limit, for the whole call."""
    wire = replace(LEG, intent="wire")
    assert [one.until_ms for one in stands(a_call(PIN), legs=(wire,)).proofs] == [PIN.at_ms + 300_000]


def test_every_hand_over_is_told_of_in_order():
    """Who had the caller before, and the one that nobody took yet."""
    legs = (LEG, replace(LEG, id="leg-2", agent="", redeemed_ms=None, acr=()))
    seen = stands(a_call(PIN), legs=legs)
    assert [(one.agent, one.redeemed_ms is None, one.acr) for one in seen.legs] == [
        ("ann", False, ("two_factor",)),
        ("", True, ()),
    ]


@pytest.mark.parametrize(("sid", "expected"), [(SID, "0A1B2C3D"), ("CA1", "1"), ("", "")])
def test_a_reference_can_be_read_out(sid, expected):
    assert expected == reference(sid)


# ── planted faults ───────────────────────────────────────────────────────────────────────────────────────


def test_a_word_that_knows_of_risk_would_be_seen(monkeypatch):
    """The planted fault of law 3."""
    right = standings._status
    monkeypatch.setattr(
        standings, "_status", lambda call, **more: Status.NOT_VERIFIED if call.notes else right(call, **more)
    )
    with pytest.raises(AssertionError):
        test_risk_changes_nothing_of_the_status()


def test_a_proof_of_any_age_would_be_seen(monkeypatch):
    """The planted fault of law 1."""
    monkeypatch.setattr(standings, "proved", lambda proofs, *_: frozenset(one.factor for one in proofs))
    with pytest.raises(AssertionError):
        test_what_is_protected_is_absent_until_something_counts(a_call(PIN), SHORT, shown=False)
