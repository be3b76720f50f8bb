"""What is counted against whom, when it is enough, and when it is over: tables over entries of the record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import insiders
from ivrguard.core.audit import Entry
from ivrguard.core.insiders import (
    ACTS_MAX,
    EVENTS,
    SAID,
    SERVED_MAX,
    SERVED_S,
    USUAL,
    Person,
    Sign,
    Watch,
    acts_of,
    ended,
    idle,
    mine,
    person_of,
    seen,
    usual,
    weighed,
)
from ivrguard.core.rules import Hours
from ivrguard.core.sense import Threshold

NOW = 1_790_000_000_000
DAY = 86_400_000
ANN = Person("ann")
WATCH = usual({Sign.NO_CALL: Threshold(4, 86_400)}, [("ann", Hours(frozenset(range(5)), 480, 1080))])
NOON = (0, 720)


def entry(event, reason="", *, at=NOW, call="", account="", **detail):
    return Entry(at, event, call, account, reason, tuple(detail.items()))


@pytest.mark.parametrize(
    ("detail", "who"),
    [
        ({"agent": "agent:ann"}, "ann"),
        ({"desk": "Ann "}, "ann"),
        ({"by": "ann", "factor": "pin"}, "ann"),
        ({"agent": "oidc:f00"}, "oidc:f00"),
        ({"factor": "pin"}, ""),
    ],
)
def test_who_did_it_has_one_spelling(detail, who):
    """However the record names him: at a desk, or as an operator."""
    assert person_of(entry("authn_login_unlock", **detail)) == who


SERVED = Person("ann", served=((NOW - 3_600_000, "acc_1"),))


@pytest.mark.parametrize(
    ("of", "signs"),
    [
        (entry("authn_token_refused", "forged"), {Sign.NO_CALL}),
        (entry("authn_token_reuse", "spent", call="CA1"), {Sign.NO_CALL}),
        (entry("authn_token_refused", "ended", call="CA1"), {Sign.NO_CALL}),
        (entry("authn_token_refused", "locked", call="CA1"), set()),
        (entry("authn_token_refused", "other_queue", call="CA1"), {Sign.OFF_QUEUE}),
        (entry("authn_token_redeemed", "right", call="CA1", account="acc_2"), set()),
        (entry("call_view_refused", "not_held"), {Sign.NOT_HELD}),
        (entry("call_viewed", "held", call="CA1"), {Sign.MANY_CALLS}),
        (entry("account_claimed", "known", account="acc_2"), {Sign.LOOK_UPS}),
        (entry("authn_login_unlock", "unlocked", account="acc_1"), {Sign.OWN_CUSTOMERS}),
        (entry("authn_login_unlock", "unlocked", account="acc_2"), set()),
        (entry("user_updated", "pin", account="acc_1"), {Sign.OWN_CUSTOMERS}),
        (entry("user_updated", "pin", account="acc_1", at=NOW + SERVED_S * 1000), set()),
        (entry("session_ended"), set()),
    ],
)
def test_what_counts(of, signs):
    assert {act.sign for act in acts_of(WATCH, SERVED, of, *NOON)} == signs


@pytest.mark.parametrize(
    ("event", "weekday", "minute", "counts"),
    [
        ("call_viewed", 0, 720, False),
        ("call_viewed", 0, 1080, True),
        ("call_viewed", 6, 720, True),
        ("user_updated", 6, 720, False),
    ],
)
def test_a_shift_is_for_work_at_a_desk(event, weekday, minute, counts):
    """What an operator does at night is no agent's shift; who has none is never outside it."""
    of = entry(event, call="CA1")
    found = {act.sign for act in acts_of(WATCH, ANN, of, weekday, minute)} - {Sign.MANY_CALLS}
    assert found == ({Sign.OFF_SHIFT} if counts else set())
    assert Sign.OFF_SHIFT not in {act.sign for act in acts_of(WATCH, Person("bob"), of, weekday, minute)}


def test_what_is_off_is_not_looked_for():
    watch = usual({Sign.OFF_QUEUE: None})
    assert acts_of(watch, ANN, entry("authn_token_refused", "other_queue"), *NOON) == ()
    assert set(watch.thresholds) == set(Sign) - {Sign.OFF_QUEUE}
    assert Watch({}).kept_ms(Sign.NO_CALL) == 0


def after(*entries, person=ANN, watch=WATCH):
    for one in entries:
        person = seen(watch, person, one, *NOON)
    return person


def test_different_things_are_counted():
    """One click too many, ten times over, is one."""
    person = after(*[entry("authn_token_reuse", "spent", call="CA1", at=NOW + nth) for nth in range(10)])
    assert len(person.acts) == 1
    assert weighed(WATCH, person, NOW)[2] == ()


def test_raised_once_goes_on_and_is_over():
    """One entry when there is enough; none while half of it is seen; one when that is gone."""
    person = after(*[entry("authn_token_refused", "ended", call=f"CA{nth}") for nth in range(4)])
    person, (raised,), (suspicion,) = weighed(WATCH, person, NOW)
    assert (raised.event, raised.reason) == ("insider_suspected", "no_call")
    assert dict(raised.detail) == {
        "person": "ann",
        "sign": "no_call",
        "count": "4",
        "need": "4",
        "within_s": "86400",
    }
    assert (suspicion.count, person.standing()) == (4, (suspicion,))
    again = after(entry("authn_token_refused", "ended", call="CA9"), person=person)
    person, entries, told = weighed(WATCH, again, NOW + 1)
    assert (entries, told, person.standing()[0].count) == ((), (), 5)
    person, (over,), (gone,) = weighed(WATCH, person, NOW + DAY + 1)
    assert (over.event, over.reason, gone.over_ms) == ("insider_over", "quiet", NOW + DAY + 1)
    assert person.standing() == ()


def test_ended_by_hand_it_wants_enough_anew():
    person = after(*[entry("authn_token_refused", "ended", call=f"CA{nth}") for nth in range(4)])
    person = weighed(WATCH, person, NOW)[0]
    person, (over,) = ended(person, Sign.NO_CALL, "rita", "a broken phone", NOW + 1)
    assert dict(over.detail)["because"] == "a broken phone"
    assert ended(person, Sign.NO_CALL, "rita", "again", NOW + 2) == (person, ())
    assert weighed(WATCH, person, NOW + 2)[2] == ()
    more = [entry("authn_token_refused", "ended", call=f"CB{nth}", at=NOW + 10) for nth in range(4)]
    assert len(weighed(WATCH, after(*more, person=person), NOW + 11)[2]) == 1


def test_what_is_no_longer_looked_for_is_over():
    person = after(*[entry("authn_token_refused", "ended", call=f"CA{nth}") for nth in range(4)])
    person = weighed(WATCH, person, NOW)[0]
    assert weighed(usual({Sign.NO_CALL: None}), person, NOW + 1)[1][0].event == "insider_over"


def test_nothing_is_kept_for_ever():
    """What is older than the longest window goes, and whom he served; somebody without anything is nobody."""
    person = after(
        entry("authn_token_redeemed", "right", account="acc_1"),
        entry("authn_token_refused", "ended", call="CA1"),
    )
    assert not idle(person)
    assert idle(weighed(WATCH, person, NOW + 8 * DAY)[0])


def test_bounded():
    person = ANN
    for nth in range(SERVED_MAX + 5):
        person = seen(WATCH, person, entry("authn_token_redeemed", "right", account=f"acc_{nth}"), *NOON)
    for nth in range(ACTS_MAX + 5):
        person = seen(WATCH, person, entry("account_claimed", "known", account=f"acc_{nth}"), *NOON)
    assert (len(person.served), len(person.acts)) == (SERVED_MAX, ACTS_MAX)
    assert person.served[-1][1] == f"acc_{SERVED_MAX + 4}"


def test_nobody_ends_a_suspicion_of_himself():
    assert mine("agent:Ann", ANN)
    assert not mine("rita", ANN)


def test_the_tables_are_whole():
    """Each sign has words and a threshold; what counts is an event that is looked at."""
    assert set(SAID) == set(USUAL) == set(Sign)
    assert {"authn_token_refused", "authn_login_unlock", "call_viewed"} <= EVENTS


ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(sorted(EVENTS)),
        st.sampled_from(["forged", "other_queue", "ended", "right"]),
        at=st.integers(NOW, NOW + 9 * DAY),
        call=st.sampled_from(["", "CA1", "CA2"]),
        account=st.sampled_from(["", "acc_1", "acc_2"]),
    ),
    max_size=40,
)


def check_raised_and_over_by_turns(entries):
    """Of one sign of one person, an entry that it is raised and one that it is over follow each other."""
    person, events = ANN, {}
    for one in sorted(entries, key=lambda each: each.at_ms):
        person = insiders.seen(WATCH, person, one, *NOON)
        person, made, _ = insiders.weighed(WATCH, person, one.at_ms)
        for each in made:
            events.setdefault(dict(each.detail)["sign"], []).append(each.event)
    for row in events.values():
        assert row == [("insider_suspected", "insider_over")[nth % 2] for nth in range(len(row))]


@given(ENTRIES)
def test_promise(entries):
    check_raised_and_over_by_turns(entries)


def test_a_suspicion_that_is_raised_again_and_again_is_found_out(monkeypatch):
    many = [entry("authn_token_refused", "ended", call=f"CA{nth}", at=NOW + nth) for nth in range(9)]
    check_raised_and_over_by_turns(many)
    forgetful = insiders.weighed

    def weakened(watch, person, now_ms):
        return forgetful(watch, Person(person.name, person.acts, person.served), now_ms)

    monkeypatch.setattr(insiders, "weighed", weakened)
    with pytest.raises(AssertionError):
        check_raised_and_over_by_turns(many)
