"""
A threat's life, as tables and promises: who may do what, when it is escalated, and what is on record of it.

The promises are held against weakened copies of the rules (`test_a_weakened_rule_is_found_out`): each must turn them red.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import incidents
from ivrguard.core.agents import REAUTHENTICATED_S, Agent, Role
from ivrguard.core.checklist import Checklist, Voice
from ivrguard.core.incidents import (
    ACTS,
    AFTER_S,
    AFTER_S_MIN,
    CLOCKS_APART_MS,
    ESCALATIONS_SHOWN_MAX,
    HEARD_MAX,
    MOMENTS_MAX,
    REPORTS_MAX,
    TOLD_MAX,
    WORDS_CHARS_MAX,
    About,
    Changed,
    Decision,
    Incident,
    Rating,
    Refusal,
    Refused,
    Source,
    State,
    What,
    acknowledged,
    assessed,
    decided,
    detailed,
    due_ms,
    escalated,
    heard,
    is_due,
    reported,
    said,
    standing,
    words_of,
)

NOW = 1_790_000_000_000
MINUTE = 60_000
SID = "CA" + "1" * 32
ABOUT = About(SID, SID, "bank", "acc_aaaaaaaaaaaaaaaa")
AGENT = Agent("agent:ann", manager="agent:max")
TEAM = frozenset({Role.RISK})


def risk(name="agent:rita", manager="agent:boss", *, shown_ms=NOW, roles=TEAM, **more):
    return Agent(name, roles=roles, manager=manager, shown_ms=shown_ms, **more)


RITA = risk()
PAUL = risk("agent:paul")


def opened(now=NOW, agent=AGENT, about=ABOUT):
    done = reported(None, about, agent, Source.CALL, Checklist(), (), now)
    assert isinstance(done, Changed)
    return done.incident


def close(incident, agent=RITA, now=NOW, seen=None):
    seen = standing(incident).acts if seen is None else seen
    return decided(incident, agent, Decision.NO_ACTION, "a hoax", close=True, seen=seen, now_ms=now)


def events(done):
    return [entry.event for entry in done.entries]


def told(done):
    return [moment.what.value for moment in done.news]


# ── reported ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_wants_nothing_but_the_wish_to_report():
    """One step; every field of the checklist may come later, or never. The record names fields, and nothing in them."""
    done = reported(
        None, ABOUT, AGENT, Source.CALL, Checklist(exact_words="s3cr3t words"), ("exact_words",), NOW
    )
    (entry,) = done.entries
    assert (entry.event, entry.call, entry.account, entry.reason) == (
        "threat_reported",
        SID,
        ABOUT.ref,
        "call",
    )
    assert dict(entry.detail) == {
        "incident": SID,
        "flow": "bank",
        "agent": "agent:ann",
        "fields": "exact_words",
    }
    assert told(done) == ["reported"]
    assert standing(done.incident).state is State.OPEN
    assert "s3cr3t" not in repr(done)


def test_again_is_not_twice():
    """The button pressed twice is one report; what is new in the second is filled in; the same again is nothing."""
    first = opened()
    second = reported(first, ABOUT, AGENT, Source.CALL, Checklist(age=40), ("age",), NOW + 1)
    assert (len(second.incident.reports), events(second), told(second)) == (1, ["threat_detailed"], [])
    again = reported(second.incident, ABOUT, AGENT, Source.CALL, Checklist(age=40), ("age",), NOW + 2)
    assert again == Changed(second.incident)


def test_another_reporter_joins_and_the_team_is_told():
    """The call went on to somebody else, who reports it too: one incident, two checklists."""
    bob = Agent("agent:bob")
    done = reported(opened(), ABOUT, bob, Source.CALL, Checklist(), (), NOW + 1)
    assert [one.by for one in done.incident.reports] == ["agent:ann", "agent:bob"]
    assert told(done) == ["reported"]
    more = detailed(done.incident, bob, Checklist(kind="pipe"), ("kind",), NOW + 2)
    assert [one.checklist.kind for one in more.incident.reports] == ["", "pipe"]


def test_only_a_reporter_fills_in_and_only_his_own():
    assert detailed(opened(), RITA, Checklist(age=1), ("age",), NOW) == Refused(Refusal.NOT_YOURS)


def test_an_open_form_that_saves_itself_does_not_fill_the_time_line():
    """One moment for one after the other; the record has each."""
    incident = opened()
    for nth in range(5):
        done = detailed(incident, AGENT, Checklist(age=nth, kind="x"), ("age", "kind"), NOW + nth)
        incident = done.incident
        assert events(done) == ["threat_detailed"]
    assert [(one.what, one.word) for one in incident.moments[1:]] == [(What.DETAILED, "age,kind")]


def test_a_closed_one_that_is_reported_again_is_open_again():
    """And it is escalated anew."""
    closed = close(opened()).incident
    assert standing(closed).state is State.CLOSED
    again = reported(closed, ABOUT, AGENT, Source.CALL, Checklist(), (), NOW + MINUTE)
    assert standing(again.incident).state is State.OPEN
    assert (standing(again.incident).opened_ms, told(again)) == (NOW + MINUTE, ["reported"])
    assert due_ms(again.incident, AFTER_S) == NOW + MINUTE + 120_000


# ── heard ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_heard_opens_one():
    """What he said is in the incident alone; more of it opens nothing anew, the same again is nothing."""
    done = heard(None, ABOUT, "a bomb", "there is a b0mb\nin the lobby", NOW)
    assert done.incident.heard[0].words == "there is a b0mb in the lobby"
    assert (events(done), told(done)) == (["threat_heard"], ["heard"])
    assert "b0mb" not in repr(done)
    more = heard(done.incident, ABOUT, "a bomb", "I said a bomb", NOW + 1)
    assert (len(more.incident.heard), told(more)) == (2, [])
    assert heard(more.incident, ABOUT, "a bomb", "I said a bomb", NOW + 2) == Changed(more.incident)


def test_heard_after_it_was_closed():
    """Open again; and nothing that he says fills the store."""
    incident = close(opened()).incident
    done = heard(incident, ABOUT, "a bomb", "x" * 9_999, NOW + MINUTE)
    assert (standing(done.incident).state, told(done)) == (State.OPEN, ["heard"])
    assert len(done.incident.heard[0].words) == WORDS_CHARS_MAX


@pytest.mark.parametrize(
    ("speech", "found"),
    [
        ("There is a BOMB!", " a bomb "),
        ("there's, uh, a  bomb in it", " a bomb "),
        ("a bombshell", None),
        ("a bath bomb", None),
        ("I\u2019ll blow it up", " ill blow it up "),
        ("", None),
    ],
)
def test_a_phrase_is_whole_words_in_their_order(speech, found):
    """Case, signs and apostrophes aside."""
    phrases = (" a bomb ", " ill blow it up ")
    expected = None if found is None else (found.strip(), speech)
    assert said(phrases, (("CallSid", SID), ("SpeechResult", speech))) == expected


def test_where_speech_is_looked_for():
    """A Gather's result, its partial ones, a recording's text; and nowhere else."""
    for name, found in [("UnstableSpeechResult", True), ("TranscriptionText", True), ("Caller", False)]:
        assert bool(said((" a bomb ",), ((name, "a bomb"),))) is found


@given(st.text())
def test_words_are_words(text):
    """Whatever anybody says: words between single blanks, and the same again when they are looked at again."""
    words = words_of(text)
    assert words == f" {' '.join(words.split())} "
    assert words_of(words) == words


# ── escalated ────────────────────────────────────────────────────────────────────────────────────────────


def test_told_again_until_somebody_acknowledges():
    """After 2, 5 and 10 minutes, then every 5; each with its number."""
    incident, at = opened(), []
    for now in range(NOW, NOW + 31 * MINUTE, MINUTE // 4):
        done = escalated(incident, AFTER_S, now)
        at += [(now - NOW) // MINUTE] * len(done.news)
        incident = done.incident
    assert at == [2, 5, 10, 15, 20, 25, 30]
    assert [one.word for one in incident.moments if one.what is What.ESCALATED] == list("1234567")
    done = acknowledged(incident, RITA, NOW + 31 * MINUTE)
    assert due_ms(done.incident, AFTER_S) is None
    assert escalated(done.incident, AFTER_S, NOW + 99 * MINUTE) == Changed(done.incident)


@pytest.mark.parametrize(
    ("after_s", "gaps"),
    [((120, 300, 600), [120, 180, 300, 300]), ((90,), [90, 90]), ((120, 121), [120, 60, 60])],
)
def test_the_last_gap_repeats(after_s, gaps):
    assert [incidents.gap_s(after_s, nth) for nth in range(len(gaps))] == gaps


def test_the_time_line_does_not_fill_with_escalations():
    """A week without anybody: the record has all, the incident the first ones and the last."""
    incident = opened()
    for nth in range(1, 200):
        incident = escalated(incident, AFTER_S, NOW + nth * 10 * MINUTE).incident
    assert len(incident.moments) == 1 + ESCALATIONS_SHOWN_MAX
    assert standing(incident).escalations == 199


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from([0, 0, 0, 0, 0, -7200, 3600])),
        min_size=20,
        max_size=40,
    ),
    st.integers(-CLOCKS_APART_MS // 2000, CLOCKS_APART_MS // 2000),
)
def test_never_silent_and_never_doubled(steps, apart_s):
    """
    Two nodes whose clocks are apart look at it by turns, their clocks jump: between two jumps it is told once a gap, and a
    jump costs one more at most; and it is told as long as nobody acknowledges.
    """
    check_escalations(steps, apart_s)


def check_escalations(steps, apart_s):
    incident, true_s, jumped_s, jumps, told_s, numbers = opened(), 0, 0, 0, [], []
    for turn, (wait_s, jump_s) in enumerate(steps):
        true_s, jumped_s, jumps = true_s + wait_s, jumped_s + jump_s, jumps + bool(jump_s)
        now = NOW + (true_s + jumped_s + (apart_s if turn % 2 else 0)) * 1000
        done = incidents.escalated(incident, AFTER_S, now)
        incident = done.incident
        assert incidents.escalated(incident, AFTER_S, now).news == (), "doubled"
        told_s += [true_s] * len(done.news)
        numbers += [one.word for one in done.news]
        assert true_s - (told_s[-1] if told_s else 0) <= 300 + 300 + 2 * CLOCKS_APART_MS // 1000, "silent"
    assert numbers == [str(nth) for nth in range(1, len(told_s) + 1)]
    for count, at_s in enumerate(told_s):
        assert count <= (at_s - told_s[0]) // AFTER_S_MIN + jumps, "doubled"


def test_a_clock_that_was_put_back_makes_it_early_once():
    incident = opened(NOW + 60 * MINUTE)
    assert is_due(incident, AFTER_S, NOW)
    done = escalated(incident, AFTER_S, NOW)
    assert not is_due(done.incident, AFTER_S, NOW + MINUTE)
    assert is_due(done.incident, AFTER_S, NOW + 3 * MINUTE)


# ── the risk team ────────────────────────────────────────────────────────────────────────────────────────

BARRED = [
    (risk("agent:ann"), Refusal.NOT_APART, "the reporter"),
    (risk("agent:max"), Refusal.NOT_APART, "his manager"),
    (risk("agent:joe", manager="agent:ann"), Refusal.NOT_APART, "who reports to him"),
    (risk(roles=frozenset({Role.AGENT, Role.SUPERVISOR})), Refusal.NOT_TEAM, "who is not of the team"),
    (risk(desk=True), Refusal.NOT_TEAM, "a desk's program"),
]


@pytest.mark.parametrize(("agent", "why", "who"), BARRED, ids=[row[2] for row in BARRED])
def test_who_may_not_act(agent, why, who):
    """Neither acknowledge nor assess nor decide nor close; and that he tried is on record."""
    incident = opened()
    tried = [
        acknowledged(incident, agent, NOW),
        assessed(incident, agent, Rating.LOW, "", seen=0, now_ms=NOW),
        decided(incident, agent, Decision.WATCH, "why", close=False, seen=0, now_ms=NOW),
        close(incident, agent),
    ]
    assert [one.why for one in tried] == [why] * 4
    assert [dict(one.entries[0].detail)["act"] for one in tried] == [
        "acknowledge",
        "assess",
        "decide",
        "close",
    ]
    assert {(one.entries[0].event, one.entries[0].reason) for one in tried} == {("threat_refused", why)}


def test_the_whole_way():
    """Acknowledged, rated, decided, closed: a moment and an entry each; the team is told of the first and the last."""
    incident, done_by = opened(), []
    for act in (
        lambda found: acknowledged(found, RITA, NOW + 1),
        lambda found: assessed(found, PAUL, Rating.HIGH, "he knows the building", seen=1, now_ms=NOW + 2),
        lambda found: decided(
            found, PAUL, Decision.EVACUATE, "search first", close=False, seen=2, now_ms=NOW + 3
        ),
        lambda found: close(found, RITA, NOW + 4),
    ):
        done = act(incident)
        incident = done.incident
        done_by.append((events(done), told(done)))
    assert done_by == [
        (["threat_acknowledged"], ["acknowledged"]),
        (["threat_assessed"], []),
        (["threat_decided"], []),
        (["threat_decided", "threat_closed"], ["closed"]),
    ]
    stands = standing(incident)
    assert (stands.state, stands.rating, stands.acts, stands.holder) == (
        State.CLOSED,
        Rating.HIGH,
        5,
        "agent:rita",
    )


def test_the_first_one_has_it_and_the_other_is_told():
    """Two acknowledge at once; the same one again changes nothing."""
    mine = acknowledged(opened(), RITA, NOW)
    assert acknowledged(mine.incident, PAUL, NOW) == Refused(Refusal.FASTER, "agent:rita")
    assert acknowledged(mine.incident, RITA, NOW + 9) == Changed(mine.incident)


def test_who_has_not_seen_what_another_did_is_told():
    """Two rate it, two close it: the second one looks again first."""
    rated = assessed(opened(), RITA, Rating.LOW, "", seen=0, now_ms=NOW).incident
    assert assessed(rated, PAUL, Rating.HIGH, "", seen=0, now_ms=NOW) == Refused(Refusal.FASTER, "agent:rita")
    closed = close(rated, RITA).incident
    assert close(closed, PAUL, seen=2) == Refused(Refusal.CLOSED, "agent:rita")
    assert acknowledged(closed, PAUL, NOW) == Refused(Refusal.CLOSED, "agent:rita")


def test_whoever_rates_it_has_it_in_hand():
    done = assessed(opened(), RITA, Rating.LOW, "", seen=0, now_ms=NOW)
    assert (events(done), told(done)) == (["threat_acknowledged", "threat_assessed"], ["acknowledged"])


def test_a_decision_has_a_reason_and_closing_wants_who_showed_who_he_is():
    """A reason that holds nothing is none. A decision that leaves it open may be taken by a session of this morning."""
    stale = risk(shown_ms=NOW - (REAUTHENTICATED_S + 1) * 1000)
    assert close(opened(), stale) == Refused(Refusal.NOT_FRESH)
    nothing = decided(opened(), RITA, Decision.WATCH, " \n", close=False, seen=0, now_ms=NOW)
    assert nothing == Refused(Refusal.NO_REASON)
    assert isinstance(
        decided(opened(), stale, Decision.WATCH, "why", close=False, seen=0, now_ms=NOW), Changed
    )


def test_the_teams_words_are_not_on_record():
    """They may quote the caller."""
    done = decided(opened(), RITA, Decision.WATCH, "he said s3cr3t", close=False, seen=0, now_ms=NOW)
    assert "s3cr3t" not in repr(done)
    assert done.incident.moments[-1].note == "he said s3cr3t"


def test_a_full_one_takes_what_it_needs():
    """No more reporters, no more words; his form is kept all the same; and the team can always close it."""
    incident = opened()
    for nth in range(REPORTS_MAX - 1):
        incident = reported(
            incident, ABOUT, Agent(f"agent:{nth}"), Source.CALL, Checklist(), (), NOW
        ).incident
    done = reported(incident, ABOUT, Agent("agent:late"), Source.CALL, Checklist(), (), NOW)
    assert done == Refused(Refusal.FULL)
    for nth in range(HEARD_MAX + 5):
        incident = heard(incident, ABOUT, "a bomb", f"a bomb {nth}", NOW).incident
    assert len(incident.heard) == HEARD_MAX
    both = (AGENT, Agent("agent:0"))
    for nth in range(2 * TOLD_MAX):
        incident = detailed(incident, both[nth % 2], Checklist(kind=f"{nth}"), ("kind",), NOW).incident
    assert len(incident.moments) == TOLD_MAX
    assert {one.checklist.kind for one in incident.reports[-2:]} == {"198", "199"}
    for nth in range(MOMENTS_MAX):
        tried = assessed(incident, RITA, Rating.LOW, "", seen=standing(incident).acts, now_ms=NOW + nth)
        incident = tried.incident if isinstance(tried, Changed) else incident
    assert (len(incident.moments), tried) == (MOMENTS_MAX, Refused(Refusal.FULL))
    closed = close(incident).incident
    assert standing(closed).state is State.CLOSED
    anew = heard(closed, ABOUT, "a bomb", "a bomb again", NOW)
    assert standing(anew.incident).state is State.OPEN


def test_a_read_is_on_record():
    entry = incidents.read(opened(), RITA, "exported", NOW)
    assert (entry.event, entry.reason, dict(entry.detail)["agent"]) == (
        "threat_read",
        "exported",
        "agent:rita",
    )


# ── promises ─────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("a", "b", "c", "d")
AGENTS = st.builds(
    Agent,
    st.sampled_from(NAMES),
    roles=st.sampled_from([frozenset({Role.AGENT}), TEAM, frozenset({Role.AGENT, Role.RISK})]),
    manager=st.sampled_from(("", *NAMES)),
    shown_ms=st.sampled_from([NOW, NOW - 10 * MINUTE]),
    desk=st.booleans(),
)
DOING = st.tuples(
    st.sampled_from(["report", "hear", "detail", "escalate", "acknowledge", "assess", "decide", "close"]),
    AGENTS,
    st.integers(0, 6),
)


def lived(doing):
    """Whatever anybody does, in any order: after each step, the incident before it and what came of it."""
    incident = None
    for nth, (what, agent, seen) in enumerate(doing):
        now = NOW + nth * MINUTE
        if what == "report":
            done = incidents.reported(incident, ABOUT, agent, Source.CALL, Checklist(), (), now)
        elif what == "hear":
            done = incidents.heard(incident, ABOUT, "a bomb", f"a bomb {seen}", now)
        elif incident is None:
            continue
        elif what == "detail":
            done = incidents.detailed(incident, agent, Checklist(age=seen), ("age",), now)
        elif what == "escalate":
            done = incidents.escalated(incident, AFTER_S, now)
        elif what == "acknowledge":
            done = incidents.acknowledged(incident, agent, now)
        elif what == "assess":
            done = incidents.assessed(incident, agent, Rating.LOW, "", seen=seen, now_ms=now)
        else:
            done = incidents.decided(
                incident, agent, Decision.WATCH, "why", close=what == "close", seen=seen, now_ms=now
            )
        yield incident, what, agent, done, now
        if isinstance(done, Changed):
            incident = done.incident


def check_nobody_decides_in_his_own_affair(steps):
    """Whoever acted on it is of the team, a person, apart from every reporter there was then, and fresh if he closed it."""
    for before, _, agent, done, now in steps:
        if not isinstance(done, Changed) or standing(done.incident).acts == (
            standing(before).acts if before else 0
        ):
            continue
        assert Role.RISK in agent.roles
        assert not agent.desk
        for report in before.reports:
            assert agent.name not in {report.by, report.manager}
            assert agent.manager != report.by
        if standing(done.incident).state is State.CLOSED:
            assert now - agent.shown_ms <= REAUTHENTICATED_S * 1000


def check_every_change_is_on_record(steps):
    """And nothing else is: what changed has an entry, what did not change has none but of a refusal."""
    for before, _, _, done, _ in steps:
        if isinstance(done, Refused):
            assert {entry.event for entry in done.entries} <= {"threat_refused"}
        else:
            assert bool(done.entries) is (done.incident != before)


def check_only_an_act_of_the_team_silences_it(steps):
    """What is open stays due until somebody of the team acted."""
    for before, what, _, done, _ in steps:
        if before is None or not isinstance(done, Changed):
            continue
        was, stands = standing(before), standing(done.incident)
        if was.state is State.OPEN and stands.state is not State.OPEN:
            assert what in {"acknowledge", "assess", "decide", "close"}
            assert any(moment.what in ACTS for moment in done.incident.moments[len(before.moments) :])
        assert (due_ms(done.incident, AFTER_S) is not None) is (stands.state is State.OPEN)


CHECKS = (
    check_nobody_decides_in_his_own_affair,
    check_every_change_is_on_record,
    check_only_an_act_of_the_team_silences_it,
)


@given(st.lists(DOING, max_size=25))
def test_promises(doing):
    steps = list(lived(doing))
    for check in CHECKS:
        check(steps)


MANY = [
    [
        ("report", Agent("a", manager="b"), 0),
        ("close", risk(name, manager, shown_ms=NOW - 10 * MINUTE * old), 0),
    ]
    for name, manager, old in [("a", "", 0), ("b", "", 0), ("c", "a", 0), ("c", "", 1)]
] + [
    [("report", Agent("a"), 0), ("close", Agent("c", shown_ms=NOW), 0)],
    [("report", Agent("a"), 0), ("close", risk("c", desk=True), 0)],
    [("report", Agent("a"), 0), *[("escalate", RITA, 0)] * 9],
]


def everybody(incident, agent):
    return None


def only_the_last_reporter(incident, agent):
    return None if agent.name != incident.reports[-1].by else Refusal.NOT_APART


def without_entries(incident, after_s, now_ms):
    return replace(escalated(incident, after_s, now_ms), entries=())


def giving_up(incident, after_s, now_ms):
    """The second time, the guard takes it for acknowledged."""
    done = escalated(incident, after_s, now_ms)
    if standing(done.incident).escalations < 2:
        return done
    more = (*done.incident.moments, incidents.Moment(now_ms, What.ACKNOWLEDGED))
    return replace(done, incident=replace(done.incident, moments=more))


WEAKENED = [
    ("barred", everybody, check_nobody_decides_in_his_own_affair),
    ("barred", only_the_last_reporter, check_nobody_decides_in_his_own_affair),
    ("fresh", lambda agent, now_ms: True, check_nobody_decides_in_his_own_affair),
    ("escalated", without_entries, check_every_change_is_on_record),
    ("escalated", giving_up, check_only_an_act_of_the_team_silences_it),
]


def check_many(check):
    for doing in MANY:
        check(lived(doing))


@pytest.mark.parametrize(("name", "instead", "check"), WEAKENED)
def test_a_weakened_rule_is_found_out(monkeypatch, name, instead, check):
    """Each promise goes red for a weakened copy of the rule that keeps it."""
    check_many(check)
    monkeypatch.setattr(incidents, name, instead)
    with pytest.raises(AssertionError):
        check_many(check)


def test_escalations_that_are_doubled_or_stop_are_found_out(monkeypatch):
    steps = [(60, 0)] * 60
    check_escalations(steps, 0)
    with monkeypatch.context() as patch:
        patch.setattr(incidents, "is_due", lambda *_: True)
        with pytest.raises(AssertionError, match="doubled"):
            check_escalations(steps, 0)
    with monkeypatch.context() as patch:
        patch.setattr(incidents, "is_due", lambda incident, after_s, now_ms: now_ms < NOW + 6 * MINUTE)
        with pytest.raises(AssertionError, match="doubled"):
            check_escalations(steps, 0)
    with monkeypatch.context() as patch:
        patch.setattr(
            incidents,
            "is_due",
            lambda incident, after_s, now_ms: now_ms >= (due_ms(incident, after_s) or now_ms + 1),
        )
        with pytest.raises(AssertionError, match="silent"):
            check_escalations([*[(60, 0)] * 20, (60, -7200), *[(60, 0)] * 60], 0)


def test_what_a_checklist_has_in_it_is_kept():
    done = detailed(opened(), AGENT, Checklist(voice=(Voice.CALM,)), ("voice",), NOW)
    assert done.incident.reports[0].checklist == Checklist(voice=(Voice.CALM,))
    assert isinstance(done.incident, Incident)
