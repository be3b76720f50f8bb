"""
All attacks in turn. The examples come out clean: each attack is played against one of them here, and against all three in a long
run (`HYPOTHESIS_PROFILE=night`).
"""

import os
from dataclasses import replace

import pytest

from ivrguard.phone.exchange import LineError
from ivrguard.phone.redteam import raid
from ivrguard.phone.redteam.attack import Attack, Verdict

EXAMPLES = ("bank", "insurer", "clinic")
WHOLE = os.environ.get("HYPOTHESIS_PROFILE") == "night"
LONG = {"guess-for-a-year"}
"""Played in test_guessing.py, with fewer guesses."""

PAIRS = [
    (attack.name, name)
    for place, attack in enumerate(raid.ATTACKS)
    for nth, name in enumerate(EXAMPLES)
    if WHOLE or (place % 3 == nth and attack.name not in LONG)
]


FELT = {"guess", "lock-out-the-owner", "spoof-the-owner", "flood", "redeem-elsewhere"}
"""Where the owner calls as well: attacks of which he might feel something."""


@pytest.mark.parametrize(("attack", "name"), PAIRS)
async def test_the_examples_are_clean(request, played, flow_with, attack, name):
    """And the owner gets in all the while, from his own phone."""
    if not (WHOLE or attack in FELT):
        request.getfixturevalue("alone")
    outcome = await played(attack, flow_with(name))
    assert outcome.holes == ()
    if outcome.verdict is not Verdict.NOT_TRIED:
        assert outcome.felt[0].after.got_in
        assert dict(outcome.tried)


async def test_attacks_are_played_in_turn_and_told(flow_with):
    """Before each one and after it; the same seed plays the same."""
    told = []
    wanted = raid.chosen(["voice-and-questions", "try-every-door"])
    outcomes = await raid.raid(
        flow_with("bank"),
        wanted,
        seed=1,
        begins=lambda one: told.append(one.name),
        each=told.append,
    )
    assert told == ["try-every-door", outcomes[0], "voice-and-questions", outcomes[1]]
    again = await raid.raid(flow_with("bank"), wanted, seed=1)
    assert [one.tried for one in again] == [one.tried for one in outcomes]


async def test_a_call_that_breaks_off_is_let_through(flow_with):
    async def play(_):
        raise LineError("more than 50 documents")

    outcome = await raid.played(flow_with("bank"), Attack("x", "y", "z", play), 0)
    assert [hole.what for hole in outcome.holes] == ["a call broke off: more than 50 documents"]
    assert outcome.verdict is Verdict.LET_THROUGH


async def test_an_owner_who_could_not_get_in_before_is_not_kept_out(flow_with, monkeypatch):
    """What was broken before the attack is not the attack's doing."""

    async def play(_):
        pass

    flow = flow_with("bank")
    monkeypatch.setattr(raid.Ground, "right", lambda *_: _wrong())

    async def _wrong():
        return "00000000"

    outcome = await raid.played(flow, Attack("x", "y", "z", play), 0)
    assert (outcome.holes, outcome.felt[0].before.got_in) == ((), False)


def test_every_attack_has_a_name_of_its_own_and_a_source():
    names = [attack.name for attack in raid.ATTACKS]
    assert len(set(names)) == len(names) >= 30
    assert all(attack.source and attack.says for attack in raid.ATTACKS)


def test_attacks_are_chosen_by_name():
    assert raid.chosen([]) == raid.ATTACKS
    with pytest.raises(LookupError):
        raid.chosen(["gues"])


async def test_a_flow_that_protects_nothing_lets_its_owner_in(flow_with, played):
    """Nothing is asked, so nothing can be kept from him."""
    flow = flow_with("bank")
    outcome = await played("flood", replace(flow, rules=(), default=replace(flow.default, require=None)))
    assert outcome.verdict is Verdict.HELD
