"""What the risk team's page says of an incident, for each reader: what he may not do is absent, and why stands in its place."""

from zoneinfo import ZoneInfo

import pytest

from ivrguard.core import incidents
from ivrguard.core.agents import Agent, Role
from ivrguard.core.checklist import Checklist
from ivrguard.core.incidents import About, Decision, Incident, Rating, Refusal, Source, State
from ivrguard.web.console import words
from ivrguard.web.console.threat_view import row, threat

UTC = ZoneInfo("UTC")
NOON_MS = 1_767_614_400_000
ANN = Agent("agent:ann", manager="agent:max")
RITA = Agent("agent:rita", roles=frozenset({Role.RISK}), shown_ms=NOON_MS)
ABOUT = About("CA" + "0a" * 16, "CA" + "0a" * 16, "bank", "acc_abc")


def done(outcome) -> Incident:
    assert isinstance(outcome, incidents.Changed), outcome
    return outcome.incident


@pytest.fixture
def reported():
    checklist = Checklist(where_now="the lobby")
    return done(incidents.reported(None, ABOUT, ANN, Source.CALL, checklist, ["where_now"], NOON_MS))


def seen(incident, reader=RITA, now_ms=NOON_MS + 65_000):
    return threat(incident, lambda _: UTC, reader, now_ms)


def test_a_report_that_nobody_has(reported):
    view = seen(reported)
    assert (view.row.word, view.row.age, view.row.by, view.row.came, view.row.reference) == (
        "Nobody has it",
        "1 min 5 s",
        "ann",
        "call",
        "CA0A0A0A0A",
    )
    assert (view.barred, view.may_acknowledge, view.may_close, view.seen) == (None, True, True, 0)
    assert [(one.by, one.what) for one in view.happened] == [("ann", "reported it (call)")]
    assert {one.name: one.value for one in view.told[0].answers if one.value} == {"where_now": "the lobby"}


def test_the_whole_of_a_life(reported):
    """Each act is a line with a name; what was given as the reason stands with it."""
    incident = done(incidents.heard(reported, ABOUT, "a b0mb", "there is a b0mb", NOON_MS + 1))
    incident = done(incidents.escalated(incident, incidents.AFTER_S, NOON_MS + 120_000))
    assert row(incident, UTC, NOON_MS + 121_000).escalations == 1
    incident = done(incidents.acknowledged(incident, RITA, NOON_MS + 130_000))
    incident = done(incidents.assessed(incident, RITA, Rating.LOW, "known", seen=1, now_ms=NOON_MS + 140_000))
    rita = Agent("agent:rita", roles=frozenset({Role.RISK}), shown_ms=NOON_MS + 140_000)
    incident = done(
        incidents.decided(
            incident, rita, Decision.NO_ACTION, "called before", close=True, seen=2, now_ms=NOON_MS + 150_000
        )
    )
    view = seen(incident, now_ms=NOON_MS + 160_000)
    assert [(one.by, one.what, one.note) for one in view.happened][1:] == [
        ("The guard", "heard a phrase in what the caller said", ""),
        ("The guard", "told the team again, escalation 1: nobody had acknowledged", ""),
        ("rita", "has it in hand", ""),
        ("rita", "assessed it: low", "known"),
        ("rita", "decided: no action", "called before"),
        ("rita", "closed it", ""),
    ]
    assert (view.row.state, view.row.rating, view.row.holder) == (State.CLOSED, "low", "rita")
    assert view.barred == words.THREAT_REFUSED[Refusal.CLOSED]
    assert view.heard[0][1:] == ("a b0mb", "there is a b0mb")


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Agent("agent:rita", roles=frozenset({Role.RISK})), None),
        (Agent("agent:sue", roles=frozenset({Role.SUPERVISOR})), Refusal.NOT_TEAM),
        (Agent("agent:ann", roles=frozenset({Role.RISK})), Refusal.NOT_APART),
        (Agent("agent:max", roles=frozenset({Role.RISK})), Refusal.NOT_APART),
        (Agent("agent:staff", roles=frozenset({Role.RISK}), manager="agent:ann"), Refusal.NOT_APART),
    ],
)
def test_who_may_not_act_is_told_why(reported, reader, why):
    view = seen(reported, reader)
    assert view.barred == (None if why is None else words.THREAT_REFUSED[why])
    assert view.may_acknowledge == (why is None)


def test_closing_wants_somebody_who_showed_anew_who_he_is(reported):
    assert not seen(reported, now_ms=NOON_MS + 301_000).may_close


def test_what_was_only_heard_has_the_guard_for_a_reporter():
    incident = done(incidents.heard(None, ABOUT, "a b0mb", "a b0mb", NOON_MS))
    assert (seen(incident).row.by, seen(incident).row.came) == ("The guard", "speech")


def test_there_are_words_for_everything():
    assert set(words.HAPPENED) == set(incidents.What)
    assert set(words.THREAT_REFUSED) == set(Refusal)
    assert set(words.THREAT_STATES) == set(State)
