"""Whether a code may go to a number: a table of what is asked, what is known, and what comes of it."""

import pytest

from ivrguard.core.lookup import Lookup, NumberFacts, Unknown, withheld

NOON = 1_700_000_000_000
DAY_S = 86_400
SWAP = Lookup(sim_swap_s=3 * DAY_S)
FORWARDING = Lookup(forwarding=True)
MOBILE = Lookup(line_types=("mobile", "personal"))
ALL = Lookup(3 * DAY_S, True, ("mobile",))
GOOD = NumberFacts(swapped=False, swapped_period_s=3 * DAY_S, forwarded=False, line_type="mobile")


def days_ago(days: float) -> NumberFacts:
    """A SIM that was swapped then."""
    return NumberFacts(swapped_ms=NOON - round(days * DAY_S * 1000))


@pytest.mark.parametrize(
    ("lookup", "facts", "expected"),
    [
        (Lookup(), NumberFacts(), ""),
        (SWAP, days_ago(2.9), "sim_swap"),
        (SWAP, days_ago(3), ""),
        (SWAP, NumberFacts(swapped=True), "sim_swap"),
        (SWAP, NumberFacts(swapped=True, swapped_period_s=60), "sim_swap"),
        (SWAP, NumberFacts(swapped=False, swapped_period_s=3 * DAY_S), ""),
        (SWAP, NumberFacts(swapped=False, swapped_period_s=2 * DAY_S), "unknown"),
        (SWAP, NumberFacts(swapped=False, swapped_ms=NOON - 1000), "sim_swap"),
        (SWAP, NumberFacts(), "unknown"),
        (FORWARDING, NumberFacts(forwarded=True), "forwarding"),
        (FORWARDING, NumberFacts(forwarded=False), ""),
        (FORWARDING, NumberFacts(swapped=False), "unknown"),
        (MOBILE, NumberFacts(line_type="personal"), ""),
        (MOBILE, NumberFacts(line_type="nonFixedVoip"), "line_type"),
        (MOBILE, NumberFacts(), "unknown"),
        (ALL, GOOD, ""),
        (ALL, NumberFacts(forwarded=True), "forwarding"),
        (ALL, NumberFacts(line_type="mobile"), "unknown"),
    ],
)
def test_what_is_withheld_and_why(lookup, facts, expected):
    """A bad fact is the reason, also where others are missing; what nobody could say is the last."""
    assert expected == withheld(lookup, facts, NOON)


@pytest.mark.parametrize(
    ("facts", "expected"), [(NumberFacts(), ""), (NumberFacts(forwarded=True), "forwarding")]
)
def test_an_admin_may_send_where_nobody_can_say(facts, expected):
    """`unknown: send`: missing facts are no reason any more; bad ones are."""
    assert expected == withheld(Lookup(3 * DAY_S, True, ("mobile",), Unknown.SEND), facts, NOON)


def test_only_what_is_weighed_is_asked_for():
    """Each package costs money."""
    asked = [one.wanted() for one in (Lookup(), SWAP, FORWARDING, MOBILE)]

    assert asked == [(), ("sim_swap",), ("call_forwarding",), ("line_type_intelligence",)]
    assert len(ALL.wanted()) == 3
