"""Attacks at the hand-over: each thing that spoils a token is taken out once, and missed."""

from dataclasses import replace

import pytest

from ivrguard.core import call as calls
from ivrguard.core import handoff
from ivrguard.core.handoff import Spoiled
from ivrguard.phone.redteam.attack import Verdict
from ivrguard.web.agents.api import Answer, Api


def blind_to(*reasons):
    """The guard does not look at these."""

    def weaken(patch):
        spoiled = handoff._spoiled

        def lenient(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms):
            if leg is None or holder is None:
                return spoiled(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms)
            if Spoiled.SPENT in reasons:
                leg = replace(leg, redeemed_ms=None)
            if Spoiled.EXPIRED in reasons:
                leg = replace(leg, expires_ms=now_ms + 1)
            if Spoiled.ENDED in reasons:
                holder = replace(holder, ended=False)
            if Spoiled.SUPERSEDED in reasons:
                holder = replace(holder, legs=(leg.id,))
            if Spoiled.OTHER_QUEUE in reasons:
                desk = replace(desk, queues=("*",))
            call_sid = None if Spoiled.OTHER_CALL in reasons else call_sid
            locked = account_locked and Spoiled.LOCKED not in reasons
            return spoiled(leg, holder, desk, call_sid, locked, desk_locked, now_ms)

        patch.setattr(handoff, "_spoiled", lenient)

    return weaken


def with_patient_desks(patch):
    """A desk may try as often as it likes."""
    patch.setattr(handoff, "DESK_RULE", replace(handoff.DESK_RULE, failures=1000))


def with_any_token(patch):
    """Whoever asks gets a receipt."""

    async def generous(*_):
        return Answer(201)

    patch.setattr(Api, "_answer", generous)


SPOILED = (
    "the desk of another queue redeemed a token",
    "an agent who holds one caller redeemed the token of another one",
    "was redeemed after its caller had hung up",
    "was redeemed after it was over",
    "was redeemed after the caller had been handed on",
    "a token was redeemed while its account was locked",
)

GUARDS = [
    (blind_to(Spoiled.SPENT), "redeem-twice", ["was redeemed 9 times"]),
    (blind_to(*Spoiled), "redeem-elsewhere", list(SPOILED)),
    (with_patient_desks, "guess-tokens", ["a desk that tried 21 tokens was not stopped"]),
    (with_any_token, "guess-tokens", ["a desk guessed a token"]),
    (with_any_token, "ask-about-anybody", ["an agent got a receipt for a caller who was not handed over"]),
    (with_any_token, "redeem-elsewhere", ["a token was redeemed by nobody's desk"]),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS)
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    """Whatever it does not look at is told, each by itself."""
    weaken(monkeypatch)
    outcome = await catches(attack, says[0])
    found = [hole.what for hole in outcome.holes]
    assert [words for words in says if not any(words in what for what in found)] == []


async def test_locks_that_nobody_looks_at_are_caught(monkeypatch, catches):
    """The lock is looked at again when a token is redeemed (field.md H6)."""
    monkeypatch.setattr(calls, "locked", lambda *_: False)
    await catches("redeem-elsewhere", "a token was redeemed while its account was locked")


async def test_a_flow_without_protected_transfers_has_no_tokens(played, flow_with):
    flow = flow_with("bank")
    rules = tuple(rule for rule in flow.rules if rule.transfer is None)
    outcome = await played(
        "redeem-twice", replace(flow, rules=rules, default=replace(flow.default, require=None))
    )
    assert outcome.verdict is Verdict.NOT_TRIED
    assert outcome.why == "the flow protects no transfer, so there are no tokens"


async def test_a_hand_over_by_telephone_is_one_too(played, flow_with, alone):
    """Where the token is a code that is whispered."""
    flow = flow_with(
        "bank",
        ("{transfer: any, require: two_factor", '{transfer: {number: "+18005550142"}, require: two_factor'),
    )
    outcome = await played("redeem-elsewhere", flow)
    assert outcome.holes == ()
    assert dict(outcome.tried)["callers handed over"] >= 4


async def test_agents_ask_about_callers_of_a_flow_that_protects_transfers_alone(played, flow_with, alone):
    flow = flow_with("bank")
    rules = tuple(rule for rule in flow.rules if rule.transfer is not None)
    outcome = await played(
        "ask-about-anybody", replace(flow, rules=rules, default=replace(flow.default, require=None))
    )
    assert outcome.verdict is Verdict.HELD
