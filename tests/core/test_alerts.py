"""An alert's life, as a conversation: raised, going on, over; by itself, or by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.alerts import QUIET_S_MAX, QUIET_S_MIN, SUBJECTS_MAX, Alert, ended, quiet_s, watched
from ivrguard.core.sense import Attack, Finding, Threshold

T0 = 1_790_000_000_000
HOUR = Threshold(20, 3600)


def watch(alert, count, at_s=0, subject=""):
    """What becomes of the alert when so many are counted (None: nothing was)."""
    finding = None if count is None else Finding(count, 20, subject)
    return watched(alert, "bank", Attack.SPRAY, HOUR, finding, T0 + at_s * 1000)


def test_raised_goes_on_over():
    """One entry when it is raised and one when it is over; half of what raised it keeps it."""
    alert, entry = watch(None, 19)
    assert (alert, entry) == (None, None)
    alert, entry = watch(None, 20)
    assert entry.event == "attack_suspected"
    assert entry.reason == "spray"
    assert dict(entry.detail) == {
        "flow": "bank",
        "attack": "spray",
        "alert": f"bank/spray/{T0}",
        "count": "20",
        "need": "20",
        "within_s": "3600",
    }
    alert, entry = watch(alert, 45, 60)
    assert (alert.count, entry) == (45, None)
    alert, entry = watch(alert, 10, 3600)
    assert (alert.count, alert.seen_ms, entry) == (45, T0 + 3_600_000, None)
    alert, entry = watch(alert, 9, 7199)
    assert (alert.over_ms, entry) == (None, None)
    alert, entry = watch(alert, None, 7200)
    assert (alert.over_ms, alert.ended_by) == (T0 + 7_200_000, "")
    assert (entry.event, entry.reason) == ("attack_over", "quiet")
    again, entry = watch(alert, 20, 7300)
    assert again.raised_ms == T0 + 7_300_000
    assert entry.event == "attack_suspected"


def test_ended_by_hand():
    """With a name and a reason on record; the same raises none for as long as `within`, and then again."""
    alert, _ = watch(None, 30, subject="num_1")
    over, entry = ended(alert, T0 + 1000, by="ann", because="our own test")
    assert (entry.event, entry.reason) == ("attack_over", "by_hand")
    assert {"by": "ann", "because": "our own test", "subjects": "num_1"}.items() <= dict(entry.detail).items()
    assert ended(over, T0 + 2000, by="bob", because="late") == (over, None)
    assert watch(over, 500, 3600) == (over, None)
    again, _ = watch(over, 500, 3601)
    assert again.over_ms is None


def test_it_names_ten_and_no_more():
    """Law 5: a thousand accounts under attack are one alert with a few names."""
    alert, _ = watch(None, 30, subject="acc_0")
    for number in range(30):
        alert, entry = watch(alert, 30, subject=f"acc_{number}")
        assert entry is None
    assert alert.subjects == tuple(f"acc_{number}" for number in range(SUBJECTS_MAX))


@pytest.mark.parametrize(("within_s", "expected"), [(60, QUIET_S_MIN), (1800, 1800), (86_400, QUIET_S_MAX)])
def test_how_long_quiet(within_s, expected):
    """A flood's minute would flutter, and a day is long to need two factors for."""
    assert quiet_s(within_s) == expected


@given(st.lists(st.tuples(st.integers(0, 3000), st.none() | st.integers(0, 60)), max_size=40))
def test_raised_and_over_take_turns_on_record(steps):
    """Law 2, whatever is counted, in whatever rhythm: never two of the same entries in a row; an alert stands between."""
    alert, at_s, events = None, 0, []
    for wait_s, count in steps:
        at_s += wait_s
        alert, entry = watch(alert, count, at_s)
        if entry is not None:
            events.append(entry.event)
        assert (len(events) % 2 == 1) == (alert is not None and alert.over_ms is None)
    assert all(
        event == ("attack_over" if place % 2 else "attack_suspected") for place, event in enumerate(events)
    )


def test_an_alert_has_a_name_of_its_own():
    """Of this flow, this kind, this moment."""
    alert = Alert("bank", Attack.FLOOD, T0, T0, 1, 1, 60)
    assert alert.id != replace(alert, raised_ms=T0 + 1).id
