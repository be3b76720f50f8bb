"""What callers need while an alert stands: never less, and nothing where anyone may."""

from dataclasses import replace

import pytest

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import Factor, Flow, Identify, PinChange, Upstream
from ivrguard.core.raising import comparable, raised
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.core.sense import Sense

FLOW = Flow(
    name="bank",
    version="0123456789abcdef",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    levels={
        "one": AnyOf(("pin", "code", "app")),
        "pin_only": AnyOf(("pin",)),
        "app_only": AnyOf(("app",)),
        "two": AllOf(("pin", AnyOf(("code", "app")))),
        "all": AllOf(("pin", "code", "app")),
    },
    rules=(
        Rule(ANYONE, path="/hours"),
        Rule(Demand("all", 300, "wire"), path="/wire/**"),
        Rule(Demand("one", reverify="one"), transfer=Target("*", "*")),
    ),
    default=Demand("one", 600),
    pin_change=PinChange("/pin", Demand("two", 300), "/menu"),
    sense=Sense(raise_to="two"),
)


def test_lower_demands_are_raised_and_others_stay():
    """`/hours` is open as ever, a wire needs all three as ever; what needed one needs two. The rest of it is as it was."""
    lifted = raised(FLOW)
    assert lifted.rules[:2] == FLOW.rules[:2]
    assert lifted.rules[2].demand == Demand("two", reverify="one")
    assert lifted.default == Demand("two", 600)
    assert lifted.pin_change == FLOW.pin_change
    assert replace(lifted, rules=FLOW.rules, default=FLOW.default) == FLOW


def test_a_pin_change_is_raised_too():
    """Whoever has one secret must not take the other while PINs are being tried out."""
    change = replace(FLOW.pin_change, demand=Demand("pin_only"))
    assert raised(replace(FLOW, pin_change=change)).pin_change.demand == Demand("two")


@pytest.mark.parametrize(
    "flow", [replace(FLOW, sense=Sense()), replace(FLOW, sense=Sense(raise_to="nobody"))]
)
def test_without_a_level_nothing_is_raised(flow):
    """An alert is then only told. A name that dangles is for `check` to refuse."""
    assert raised(replace(flow, pin_change=None)) == replace(flow, pin_change=None)


@pytest.mark.parametrize(
    ("level", "expected"),
    [("one", True), ("two", True), ("all", True), ("pin_only", True), ("app_only", False), (None, True)],
)
def test_what_can_be_compared(level, expected):
    """An app alone is neither in `two` (PIN and a code will do) nor around it: raising would ask for less in part."""
    assert comparable(FLOW, level) is expected
    if not expected:
        assert raised(replace(FLOW, default=Demand(level))).default == Demand(level)
