"""When a session of an agent's ends, and how many there are: laws 1 to 3 of the code, as tables and a property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import sessions
from ivrguard.core.agents import Agent, Role
from ivrguard.core.lockout import Disabled, Ledger, Locked, Open, reserve, standing
from ivrguard.core.sessions import ABSOLUTE_S, IDLE_S, LOGIN_RULE, SESSIONS_MAX, begun, live, session_of

T = 1_795_000_000_000
ANN = Agent(
    "agent:ann", "Ann", frozenset({Role.RISK, Role.AGENT}), ("queue:*",), "agent:bob", shown_ms=T - 5_000
)


def test_a_session_is_its_agents():
    """All that is known of him is in it, and when he showed who he is: not when the session began."""
    session = session_of(ANN, T)
    assert session.agent == ANN
    assert (session.shown_ms, session.begun_ms, session.seen_ms) == (T - 5_000, T, T)


@pytest.mark.parametrize(
    ("seen_s", "now_s", "lives"),
    [
        (0, 0, True),
        (0, IDLE_S - 0.001, True),
        (0, IDLE_S, False),
        (IDLE_S - 1, IDLE_S + 1, True),
        (ABSOLUTE_S - 1, ABSOLUTE_S - 0.001, True),
        (ABSOLUTE_S - 1, ABSOLUTE_S, False),
        (ABSOLUTE_S + 600, ABSOLUTE_S + 601, False),
        (0, -2, True),  # two nodes' clocks
        (0, -2.001, False),
    ],
)
def test_when_it_ends(seen_s, now_s, lives):
    """Half an hour without use, half a day in any case; and none from the future."""
    session = sessions.Session("agent:ann", "", (), (), "", T, T, T + round(seen_s * 1000))
    assert live(session, T + round(now_s * 1000), IDLE_S) is lives


def test_a_shorter_idle_time_can_be_set():
    assert not live(session_of(ANN, T), T + 900_000, 900)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", *"abcdefgh"])), max_size=20))
def test_an_agent_has_so_many_sessions_at_most_and_always_the_newest(steps):
    """Whatever begins and takes another's place: the list is bounded, without doubles, and ends with the newest."""
    listed = ()
    for digest, ended in steps:
        before, listed = listed, begun(listed, digest, ended)
        assert len(listed) <= SESSIONS_MAX
        assert len(set(listed)) == len(listed)
        assert listed[-1] == digest
        assert ended == digest or ended not in listed
        assert set(listed) <= {*before, digest}
    if len({digest for digest, _ in steps}) > SESSIONS_MAX and not any(ended for _, ended in steps):
        assert len(listed) == SESSIONS_MAX


def test_guesses_at_a_log_in_are_few():
    """Five, then half an hour; a hundred in a row end it until two people say otherwise (PCI DSS 8.3.4, NIST 3.2.2)."""
    ledger, now, judged = Ledger(), T, 0
    for number in range(5):
        assert isinstance(standing(LOGIN_RULE, ledger, now), Open)
        ledger, _ = reserve(LOGIN_RULE, ledger, str(number), now)
    assert standing(LOGIN_RULE, ledger, now) == Locked(T + 1_800_000)
    judged = 5
    while not isinstance(found := standing(LOGIN_RULE, ledger, now), Disabled):
        now = found.until_ms if isinstance(found, Locked) else now
        ledger, allowed = reserve(LOGIN_RULE, ledger, f"{judged}", now)
        judged += allowed
    assert judged == 100
