"""Callers passed on, taken, spoken for: told as tables."""

from dataclasses import replace

import pytest

from ivrguard.core import lockout, passing
from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.call import Books, Call, Found, Question, ReadBack
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.flow import Factor, Flow, Identify, Upstream
from ivrguard.core.handoff import Desk, Leg
from ivrguard.core.lockout import Ledger
from ivrguard.core.passing import CLAIM_RULE, Passing, Why
from ivrguard.core.rules import ANYONE, Demand, Hours, Rule, Target

NOON = 1_700_000_000_000
WIRES = Demand("two_factor", reverify="one_factor", intent="wire")
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("*",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6)},
    levels={"one_factor": AnyOf(("pin", "code")), "two_factor": AllOf(("pin", "code"))},
    rules=(
        Rule(Demand("one_factor", intent="balance"), path="/balance"),
        Rule(
            Demand("one_factor"),
            transfer=Target("workflow", "night"),
            hours=Hours(frozenset({0}), 1200, 1320),
        ),
        Rule(WIRES, transfer=Target("workflow", "wires")),
        Rule(ANYONE, transfer=Target("enqueue", "fraud")),
    ),
    default=Demand("one_factor"),
)
PIN = Proof("pin", Kind.PIN, NOON - 1_000, 2)
CALL = Call(
    "CA1",
    "AC1",
    "bank",
    "v1",
    Address(AddressKind.PHONE, "+14155550123"),
    "+18005550100",
    attested=False,
    began_ms=NOON,
    account="123456",
    known=True,
    ref="ref",
    proofs=(PIN,),
    legs=("leg-1",),
    turn=5,
)
HELD = Leg(
    "leg-1",
    "CA1",
    "123456",
    ("workflow:desk",),
    ("task",),
    "agent",
    ("one_factor",),
    ("pin",),
    NOON - 1_000,
    NOON,
    NOON + 600_000,
    redeemed_ms=NOON,
    agent="bob",
    actors=("ann",),
)
PASSING = Passing("leg-2", Target("workflow", "wires"), "", "task", 0, 720)
ANN = Desk("ann", ("enqueue:fraud",), 0)


def passed(call=CALL, made=None, **changes):
    return passing.pass_on(FLOW, call, Books(), HELD, made, replace(PASSING, **changes), NOON)


# ── passed on ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_caller_is_passed_on_with_what_the_queue_wants():
    """A new hand-over by the agent who holds him, behind his own; what is wanted anew counts from the next turn on."""
    act = passed()

    leg = act.outcome
    assert (leg.id, leg.queues, leg.carriers, leg.intent) == ("leg-2", ("workflow:wires",), ("task",), "wire")
    assert (leg.actors, leg.wants, leg.since_turn) == (("bob", "ann"), WIRES, 6)
    assert (leg.redeemed_ms, leg.agent, leg.acr) == (None, "", ("one_factor",))
    assert (act.call.legs, act.call.turn, act.books) == (("leg-1", "leg-2"), 6, Books())
    (entry,) = act.entries
    assert (entry.event, entry.reason, dict(entry.detail)) == (
        "authn_token_created",
        "passed_on",
        {"intent": "wire", "queues": "workflow:wires", "agent": "bob"},
    )


@pytest.mark.parametrize(
    ("to", "intent", "minute", "wants", "expected"),
    [
        (Target("workflow", "wires"), "balance", 720, WIRES, "balance"),
        (Target("workflow", "night"), "", 1210, Demand("one_factor"), "agent"),
        (Target("workflow", "other"), "", 720, FLOW.default, "agent"),
        (Target("enqueue", "fraud"), "", 720, ANYONE, "agent"),
    ],
)
def test_which_rule_is_the_queues(to, intent, minute, wants, expected):
    """As of a transfer by the IVR, at this time of day; what for: the agent's word, or the rule's, or as before."""
    leg = passed(to=to, intent=intent, minute=minute).outcome

    assert (leg.wants, leg.intent) == (wants, expected)


MADE = replace(HELD, id="leg-2", redeemed_ms=None, agent="", actors=("bob", "ann"))


@pytest.mark.parametrize(
    ("call", "made", "intent", "expected"),
    [
        (replace(CALL, ended_ms=NOON), None, "", Why.ENDED),
        (CALL, None, "wires", Why.UNKNOWN_INTENT),
        (replace(CALL, legs=tuple(map(str, range(passing.PASSED_ON_MAX + 1)))), None, "", Why.TOO_OFTEN),
        (replace(CALL, legs=("leg-1", "leg-2")), MADE, "", MADE),
        (replace(CALL, legs=("leg-1", "leg-2", "leg-3")), MADE, "", Why.SUPERSEDED),
    ],
    ids=["the call is over", "no such intent", "too often", "the same request again", "and later"],
)
def test_when_nobody_is_passed_on(call, made, intent, expected):
    """Nothing changes; the same request is the same hand-over, as long as there is no later one."""
    act = passed(call, made, intent=intent)

    assert (act.outcome, act.call, act.entries) == (expected, call, ())


# ── taken ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("proofs", "reason", "acr"), [((), "unverified", ()), ((PIN,), "proved", ("one_factor",))]
)
def test_a_call_that_was_led_to_a_queue_unasked_is_taken_once(proofs, reason, acr):
    """It proves nothing; what was proved before counts; two factors are wanted."""
    call = replace(CALL, proofs=proofs, legs=(), unguarded=("number:+18005550199", "enqueue:fraud"))

    act = passing.take(FLOW, call, ANN, "leg-9", NOON)

    leg = act.outcome
    assert (leg.queues, leg.carriers, leg.agent, leg.redeemed_ms) == (("enqueue:fraud",), (), "ann", NOON)
    assert (leg.acr, leg.wants) == (acr, Demand("two_factor"))
    assert (act.call.legs, act.call.unguarded, act.call.proofs) == (("leg-9",), (), proofs)
    (entry,) = act.entries
    assert (entry.event, entry.reason, dict(entry.detail)) == (
        "call_taken",
        reason,
        {"desk": "ann", "queues": "enqueue:fraud"},
    )
    assert passing.take(FLOW, act.call, ANN, "leg-10", NOON) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"unguarded": ()},
        {"unguarded": ("enqueue:support",)},
        {"unguarded": ("enqueue:fraud",), "ended_ms": NOON},
    ],
    ids=["it went nowhere", "it is another queue's", "it is over"],
)
def test_no_other_call_is_taken(changes):
    assert passing.take(FLOW, replace(CALL, **changes), ANN, "leg-9", NOON) is None


def test_what_is_wanted_at_first_contact():
    """The flow's strongest level; one factor where it has no other; nothing where it has none."""
    one = replace(FLOW, levels={"a": AnyOf(("pin",)), "b": AnyOf(("code",))})

    assert passing.first_contact(FLOW) == Demand("two_factor")
    assert passing.first_contact(one) == Demand("a")
    assert passing.first_contact(replace(FLOW, levels={})) == Demand(None)


# ── spoken for ───────────────────────────────────────────────────────────────────────────────────────────

OTHER = Found("654321", known=True, ref="ref-other", enrolled=("pin",), to="to", to_prefix="+1")
NOBODY = replace(OTHER, account="999999", known=False, ref="ref-nobody")


def named(found=OTHER, call=CALL, ledger=None):
    ledger = ledger or Ledger()
    return passing.name_account(FLOW, call, Books(), "ann", ledger, found, "attempt", NOON)


@pytest.mark.parametrize(("found", "reason"), [(OTHER, "known"), (NOBODY, "unknown")])
def test_a_call_speaks_for_the_account_that_its_caller_named(found, reason):
    """What was proved for another one is gone, and what an agent asked for it; it is counted against the agent."""
    act, ledger = named(found, replace(CALL, read_back=ReadBack("ann", ("r",), None)))

    assert act.outcome is None
    assert (act.call.account, act.call.proofs, act.call.read_back) == (found.account, (), None)
    (entry,) = act.entries
    assert (entry.event, entry.reason, entry.account) == ("account_claimed", reason, found.ref)
    assert dict(entry.detail) == {"lane": "pool", "agent": "ann"}
    assert len(ledger.attempts) == 1


FULL = Ledger(
    tuple(lockout.Attempt(str(n), NOON) for n in range(CLAIM_RULE.failures)), run=CLAIM_RULE.failures
)


@pytest.mark.parametrize(
    ("call", "found", "ledger", "expected", "recorded"),
    [
        (replace(CALL, ended_ms=NOON), OTHER, None, Why.ENDED, []),
        (replace(CALL, question=Question("n")), OTHER, None, Why.AT_THE_KEYPAD, []),
        (CALL, replace(OTHER, account="123456"), None, None, []),
        (CALL, OTHER, FULL, Why.TOO_MANY_CLAIMS, ["excess_rate_limit_exceeded"]),
    ],
    ids=["the call is over", "he is being asked", "it does already", "the agent has named too many"],
)
def test_when_a_call_speaks_for_nobody_else(call, found, ledger, expected, recorded):
    """Nothing changes, and nothing more is counted."""
    act, counted = named(found, call, ledger)

    assert (act.outcome, act.call, counted) == (expected, call, ledger or Ledger())
    assert [entry.event for entry in act.entries] == recorded


def test_an_agent_names_so_many_accounts_in_an_hour_and_no_more():
    ledger, named_ = Ledger(), 0
    for number in range(CLAIM_RULE.failures + 5):
        call = replace(CALL, account=f"{number}")
        act, ledger = passing.name_account(
            FLOW, call, Books(), "ann", ledger, OTHER, f"attempt-{number}", NOON + number
        )
        named_ += act.outcome is None

    assert named_ == CLAIM_RULE.failures
