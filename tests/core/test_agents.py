"""Agents: who holds a caller, who showed who he is lately, and who may decide about whom."""

from dataclasses import replace

import pytest

from ivrguard.core.agents import AFTER_CALL_S, REAUTHENTICATED_S, Agent, Role, apart, fresh, holds, over
from ivrguard.core.assurance import CLOCK_SKEW_MS
from ivrguard.core.handoff import Desk, Leg

NOON = 1_700_000_000_000
ANN = Agent("agent:ann", "Ann", queues=("workflow:*",), manager="agent:mia", shown_ms=NOON)
LEG = Leg("leg-1", "CA1", "123456", ("workflow:WW1",), ("task",), "agent", (), (), 0, NOON, NOON + 600_000)
HERS = replace(LEG, redeemed_ms=NOON, agent="agent:ann")


@pytest.mark.parametrize(
    ("leg", "expected"),
    [
        (None, False),
        (LEG, False),
        (HERS, True),
        (replace(HERS, agent="agent:bob"), False),
        (replace(HERS, agent="agent:ANN"), False),
        (replace(HERS, agent="ann"), False),
        (replace(HERS, redeemed_ms=None), False),
        (replace(HERS, redeemed_ms=0), True),
    ],
    ids=["no leg", "nobody's", "hers", "his", "another spelling", "a desk", "not redeemed", "at the epoch"],
)
def test_who_holds_a_call_is_whoever_redeemed_its_last_token(leg, expected):
    """By the name that the record has, to the letter: a desk of the same name is somebody else."""
    assert expected == holds(ANN, leg)


@pytest.mark.parametrize("roles", [frozenset(), *(frozenset((role,)) for role in Role), frozenset(Role)])
def test_no_role_holds_a_call(roles):
    """Law 2: what somebody is gives him nothing over a call."""
    assert not holds(replace(ANN, roles=roles), replace(HERS, agent="agent:bob"))
    assert holds(replace(ANN, roles=roles), HERS)


@pytest.mark.parametrize(
    ("ago_ms", "expected"),
    [
        (0, True),
        (REAUTHENTICATED_S * 1000, True),
        (REAUTHENTICATED_S * 1000 + 1, False),
        (-CLOCK_SKEW_MS, True),
        (-CLOCK_SKEW_MS - 1, False),
    ],
)
def test_who_showed_who_he_is_lately(ago_ms, expected):
    """For five minutes, by clocks that may differ a little; who comes from the future has shown nothing."""
    assert expected == fresh(ANN, NOON + ago_ms)


def test_whoever_never_showed_it_is_not_fresh():
    assert not fresh(Agent("agent:new"), NOON)


@pytest.mark.parametrize(
    ("other", "others_manager", "expected"),
    [
        ("agent:bob", "agent:max", True),
        ("agent:bob", "", True),
        ("agent:ann", "agent:mia", False),
        ("agent:bob", "agent:ann", False),
        ("agent:mia", "", False),
        ("agent:bob", "agent:mia", True),
    ],
    ids=["strangers", "nobody's", "herself", "her staff", "her manager", "a colleague"],
)
def test_nobody_decides_in_his_own_affair(other, others_manager, expected):
    """Law 3: nor over those above and below him; over a colleague of the same manager he may."""
    assert expected == apart(ANN, other, others_manager)


def test_an_agent_redeems_as_a_desk_of_his_own():
    """His name, his queues."""
    assert Desk("agent:ann", ("workflow:*",), NOON) == ANN.as_desk()


@pytest.mark.parametrize(
    ("ended_ms", "expected"),
    [
        (None, False),
        (NOON, False),
        (NOON - AFTER_CALL_S * 1000 + 1, False),
        (NOON - AFTER_CALL_S * 1000, True),
    ],
)
def test_when_a_call_is_nobodys_any_more(ended_ms, expected):
    """Ten minutes after its end; one that goes on is somebody's."""
    assert expected == over(ended_ms, NOON)
