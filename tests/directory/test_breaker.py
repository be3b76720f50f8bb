"""A circuit breaker: opens after faults in a row, lets one through to see, and is never open for good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.directory import breaker
from ivrguard.directory.breaker import Breaker, State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

CIRCUITS = [
    ("two faults are not three", "ff", 0, CLOSED),
    ("three in a row open it", "fff", 0, OPEN),
    ("an answer in between counts anew", "ffaff", 0, CLOSED),
    ("it stays open", "fff", 9_999, OPEN),
    ("then one may try", "fff", 10_000, HALF_OPEN),
    ("an answer closes it", "fffa", 0, CLOSED),
    ("after which three are needed again", "fffaff", 0, CLOSED),
    ("faults of those under way do not keep it open", "fff+f", 9_999, HALF_OPEN),
    ("a clock that was set back does not", "fff", -1, HALF_OPEN),
]


@pytest.mark.parametrize(
    ("happened", "later_ms", "state"), [row[1:] for row in CIRCUITS], ids=[row[0] for row in CIRCUITS]
)
def test_a_circuit(happened: str, later_ms: int, state: State) -> None:
    """`f` is a fault, `a` an answer, `+` a millisecond."""
    made, now_ms = Breaker(faults_max=3, open_ms=10_000), 0
    for each in happened:
        match each:
            case "f":
                made.failed(now_ms)
            case "a":
                made.answered()
            case _:
                now_ms += 1
    assert made.state(now_ms + later_ms) is state


def test_what_turns_it_is_told_once() -> None:
    """The fault that opens it, and the answer that closes it: so that a log has one line for each."""
    made = Breaker(faults_max=2, open_ms=10)
    told = [made.answered(), made.failed(0), made.failed(0), made.failed(0), made.failed(20)]
    assert told == [False, False, True, False, False]
    assert [made.answered(), made.answered(), made.failed(30)] == [True, False, False]


def test_a_circuit_that_is_half_open_lets_one_through() -> None:
    """And another one after as long again, should nothing be heard of the first."""
    made = Breaker(faults_max=1, open_ms=10)
    assert made.admits(0)
    made.failed(0)
    assert [made.admits(now_ms) for now_ms in (0, 9, 10, 11, 19, 20, 21)] == [
        *(False, False, True, False, False, True, False)
    ]
    made.answered()
    assert [made.admits(now_ms) for now_ms in (22, 22)] == [True, True]


@given(st.lists(st.tuples(st.sampled_from("fa"), st.integers(0, 50)), max_size=30), st.integers(0, 50))
def test_a_circuit_is_never_open_for_good(happened: list[tuple[str, int]], late_ms: int) -> None:
    """Whatever happened, somebody is let through when `open_ms` have passed."""
    made, now_ms = Breaker(faults_max=2, open_ms=20), 0
    for each, after_ms in happened:
        now_ms += after_ms
        if made.admits(now_ms):
            made.failed(now_ms) if each == "f" else made.answered()
    assert made.admits(now_ms + 20 + late_ms)


def test_usually_it_is_five_and_ten_seconds() -> None:
    """As docs/directory.md says."""
    assert (breaker.FAULTS_MAX, breaker.OPEN_MS) == (5, 10_000)
