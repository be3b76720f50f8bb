"""What a call still has to prove: a table for each law."""

from dataclasses import replace

import pytest

from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.call import Call, Pending, What
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.demands import able, asked_of, may_decline, missing
from ivrguard.core.flow import Factor, Flow, Identify, PinChange, Upstream
from ivrguard.core.rules import ANYONE, Demand, Rule, Visit

TWO = Demand("two_factor", within_s=300)
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    levels={
        "one_factor": AnyOf(("pin", "code", "app")),
        "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
    },
    rules=(Rule(ANYONE, path="/hours"),),
    default=Demand("one_factor"),
    pin_change=PinChange("/pin", TWO, "/menu"),
)
WIRE = Demand("two_factor", within_s=300, intent="wire", own_code=True)
NOON = 1_700_000_000_000
PIN = Proof("pin", Kind.PIN, NOON - 200_000, 1)
CODE = Proof("code", Kind.SMS_CODE, NOON - 100_000, 2)


def a_call(*proofs: Proof, **more: object) -> Call:
    """A call that proved so much; its account has a PIN and codes."""
    call = Call("CA1", "AC1", "bank", "v1", ANONYMOUS, "+18005550100", attested=False, began_ms=NOON)
    return replace(call, account="123456", enrolled=("pin", "code"), proofs=proofs, **more)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/hours", (What.REQUEST, ANYONE)),
        ("/menu", (What.REQUEST, Demand("one_factor"))),
        ("/pin", (What.PIN_CHANGE, TWO)),
    ],
)
def test_what_a_request_is(path, expected):
    """One path is the guard's own, if the flow has it."""
    visit = Visit(path, "POST", "+18005550100", 0, 720)

    assert expected == asked_of(FLOW, visit)
    assert asked_of(replace(FLOW, pin_change=None), visit)[0] is What.REQUEST


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (a_call(), {"pin", "code", "app"}),
        (a_call(PIN), {"pin", "code"}),
        (a_call(failed=("code",)), {"pin", "app"}),
        (a_call(PIN, failed=("code",)), {"pin"}),
    ],
)
def test_what_may_be_asked_for(call, expected):
    """All of the flow's before anything is proved, the account's afterwards, without what failed."""
    assert able(FLOW, call) == expected


@pytest.mark.parametrize(
    ("call", "demand", "since_turn", "expected"),
    [
        (a_call(), ANYONE, 0, ()),
        (a_call(), TWO, 0, ("pin", "code")),
        (a_call(PIN), TWO, 0, ("code",)),
        (a_call(PIN, CODE), TWO, 0, ()),
        (a_call(replace(PIN, at_ms=NOON - 300_001), CODE), TWO, 0, ("pin",)),
        (a_call(PIN, failed=("code",)), TWO, 0, None),
        (a_call(declined=("code",)), TWO, 0, ("pin", "app")),
        (a_call(PIN, declined=("code",)), TWO, 0, ("code",)),
        (a_call(declined=("pin",)), Demand("one_factor"), 0, ("code",)),
        (a_call(PIN, CODE), Demand("two_factor", reverify="one_factor"), 3, ("pin",)),
        (a_call(PIN, CODE, declined=("pin",)), Demand("two_factor", reverify="one_factor"), 3, ("code",)),
        (a_call(PIN, CODE), Demand("two_factor", reverify="one_factor"), 2, ()),
        (a_call(PIN, CODE), WIRE, 0, ("code",)),
        (a_call(PIN, replace(CODE, intent="agent")), WIRE, 0, ("code",)),
        (a_call(PIN, replace(CODE, intent="wire")), WIRE, 0, ()),
        (a_call(PIN, replace(CODE, intent="wire")), replace(WIRE, own_code=False, intent="agent"), 0, ()),
        (a_call(PIN, replace(CODE, factor="app", kind=Kind.TOTP)), WIRE, 0, ()),
        (a_call(PIN, replace(CODE, intent="agent")), replace(WIRE, reverify="one_factor"), 1, ("code",)),
        (a_call(PIN, replace(CODE, intent="agent"), failed=("code",)), WIRE, 0, None),
    ],
)
def test_what_is_missing(call, demand, since_turn, expected):
    """
    The fewest questions, in the order written; what is declined only when nothing else will do. Where a code of its own
    is wanted, one whose message said something else is none, neither for the level nor as proved anew.
    """
    assert expected == missing(FLOW, call, demand, since_turn, NOON)


@pytest.mark.parametrize(
    ("call", "demand", "factor", "expected"),
    [
        (a_call(), Demand("one_factor"), "pin", True),
        (a_call(), TWO, "pin", False),
        (a_call(), TWO, "code", True),
        (a_call(PIN), TWO, "code", False),
        (a_call(declined=("app",)), TWO, "code", False),
    ],
)
def test_what_may_be_declined(call, demand, factor, expected):
    """What is pending can be had without it; with nothing pending there is nothing to decline."""
    assert expected == may_decline(
        FLOW, replace(call, pending=Pending(What.REQUEST, (demand,))), factor, NOON
    )
    assert not may_decline(FLOW, call, factor, NOON)
