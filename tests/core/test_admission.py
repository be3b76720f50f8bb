"""Again is not twice: what each delivery is to its call, and that none is fresh a second time."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ivrguard.core import admission
from ivrguard.core.admission import ENTRIES_WITHOUT_TURN_MAX, SEEN_MAX, Admission
from ivrguard.core.call import Call
from ivrguard.core.caller import Address, AddressKind

NOON = 1_700_000_000_000


def a_call() -> Call:
    """A call that has just begun."""
    caller = Address(AddressKind.PHONE, "+14155550123")
    return Call("CA1", "AC1", "bank", "v1", caller, "+18005550100", attested=False, began_ms=NOON)


def taken(*deliveries: tuple[str, int | None], answer: str = "sealed") -> Call:
    """A call that took these deliveries, each answered."""
    call = a_call()
    for fingerprint, turn in deliveries:
        call = admission.remember(call, fingerprint, turn, "node", NOON)
        call = admission.answered(call, fingerprint, answer)
    return call


ENTRIES = [(f"entry {number}", None) for number in range(ENTRIES_WITHOUT_TURN_MAX)]
LONG = [(str(turn), turn) for turn in range(SEEN_MAX + 3)]


@pytest.mark.parametrize(
    ("call", "delivery", "expected"),
    [
        pytest.param(a_call(), ("a", None), "fresh", id="the first of all"),
        pytest.param(a_call(), ("a", 0), "fresh", id="the first with a turn"),
        pytest.param(taken(("a", None)), ("a", None), "repeated", id="the last one again"),
        pytest.param(taken(("a", 0)), ("a", 0), "repeated", id="the last one with a turn again"),
        pytest.param(taken(("a", 0), answer=""), ("a", 0), "unfinished", id="its answer was lost"),
        pytest.param(taken(("a", 0), ("b", 1)), ("a", 0), "stale", id="an older one again"),
        pytest.param(taken(("a", None), ("b", 1)), ("a", None), "stale", id="an older entry again"),
        pytest.param(taken(("a", None), ("b", 1)), ("c", 0), "fresh", id="late, from an earlier document"),
        pytest.param(taken(("a", 0)), ("c", 2), "stale", id="of a document that never was"),
        pytest.param(taken(("a", 0)), ("c", -SEEN_MAX), "stale", id="of a turn before the first"),
        pytest.param(taken(*LONG), ("c", 3), "stale", id="too late"),
        pytest.param(taken(*LONG), ("c", 4), "fresh", id="just not too late"),
        pytest.param(taken(*LONG), ("0", 0), "stale", id="forgotten, and too late"),
        pytest.param(taken(*ENTRIES[1:]), ("x", None), "fresh", id="one entry is left"),
        pytest.param(taken(*ENTRIES), ("x", None), "stale", id="no entries are left"),
        pytest.param(taken(*ENTRIES, *LONG), ENTRIES[0], "stale", id="an entry is remembered for ever"),
    ],
)
def test_admission(call, delivery, expected):
    """New, the last one again, its answer lost, or older than that."""
    assert Admission(expected) == admission.admit(call, *delivery)


def test_a_delivery_taken_is_a_turn():
    """The answer belongs to the delivery that it was made for, and to no other."""
    call = admission.remember(a_call(), "a", 0, "node", NOON)

    assert (
        call.turn,
        call.last.fingerprint,
        call.last.at_ms,
        call.last.node,
        call.last.answer,
    ) == (1, "a", NOON, "node", "")
    assert admission.answered(call, "a", "sealed").last.answer == "sealed"
    assert call == admission.answered(call, "b", "sealed")
    assert a_call() == admission.answered(a_call(), "a", "sealed")


@given(
    st.lists(
        st.tuples(st.sampled_from(("late", "late", "entry", "again")), st.integers(0, 40)),
        min_size=30,
        max_size=120,
    )
)
@example([*[("late", 0)] * 6, ("again", 5)])
def test_no_delivery_is_fresh_twice(script):
    """Whatever comes in whatever order: late ones, repeated ones, ones that were forgotten (promise 7)."""
    call, all_, fresh = a_call(), [], []
    for what, number in script:
        if what == "again" and all_:
            delivery = all_[-1 - number % len(all_)]
        else:
            turn = None if what == "entry" else call.turn - number
            delivery = (f"delivery {len(all_)}", turn)
            all_.append(delivery)
        if admission.admit(call, *delivery) is Admission.FRESH:
            fresh.append(delivery)
            call = admission.remember(call, *delivery, "node", NOON)

    assert len(fresh) == len(set(fresh))
    assert len(call.seen) <= SEEN_MAX
    assert len(call.seen_without_turn) <= ENTRIES_WITHOUT_TURN_MAX


def test_a_call_that_remembers_too_little_is_found_out(monkeypatch):
    """A planted fault: with four fingerprints kept, a delivery is fresh twice."""
    remember = admission.remember

    def four_remembered(*delivery):
        after = remember(*delivery)
        return replace(after, seen=after.seen[-4:])

    monkeypatch.setattr(admission, "remember", four_remembered)

    with pytest.raises(AssertionError):
        test_no_delivery_is_fresh_twice()
