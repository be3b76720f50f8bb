"""Attacks that deny: what is taken out of the guard, or of the flow, shows in the owner's own calls."""

import asyncio
from dataclasses import replace

import pytest

from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core import step as steps
from ivrguard.core.assurance import Kind, Proof
from ivrguard.guard import Guard, webhook
from ivrguard.phone.redteam import denying
from ivrguard.telephony.delivery import Delivery
from ivrguard.web import voice


def without_lanes(patch):
    """Nobody is trusted: strangers and owner share one count."""
    patch.setattr(lockout, "trusts", lambda *_: False)


def with_anybody_attested(patch):
    """What the carrier says of the number is not looked at."""
    patch.setattr(Delivery, "attested", property(lambda _: True))


def with_lanes_that_prove(patch):
    """Who is in the owner's lane is let in."""
    claim = calls.claim

    def trusting(flow, call, found):
        claimed = claim(flow, call, found)
        if claimed.lane == lockout.POOL:
            return claimed
        return replace(claimed, proofs=(Proof("pin", Kind.PIN, call.began_ms, call.turn),))

    for module in (steps, calls):
        patch.setattr(module, "claim", trusting)


def with_one_after_the_other(patch):
    """Calls wait for each other: a flood makes each of them late."""
    patch.setattr(voice, "DEADLINE_S", 0.3)
    answered, line = Guard.voice, asyncio.Lock()

    async def in_turn(self, hook):
        async with line:
            await asyncio.sleep(0.02)
            return await answered(self, hook)

    patch.setattr(Guard, "voice", in_turn)


def with_stars_that_break_it(patch):
    """Keys that nobody thought of are a bug, and the bug an error 500."""
    keyed = calls.keyed

    def broken(flow, call, digits):
        if digits and "*" in digits:
            raise ValueError
        return keyed(flow, call, digits)

    patch.setattr(calls, "keyed", broken)
    patch.setattr(voice.Voice, "_apology", lambda *_: 1 / 0)


def with_keys_passed_on(patch):
    """What is keyed at the guard's question goes to the IVR as well."""
    answered = webhook.Webhook._answered

    async def leaking(self, question, nonce):
        hook, url = self._hook, self._flow.upstream.url
        request = webhook.Request(
            "POST", url, hook.delivery.params, hook.body, hook.content_type, hook.headers
        )
        await self._world.ivr.fetch(request, assertion="", cookies="", deadline_s=5)
        return await answered(self, question, nonce)

    patch.setattr(webhook.Webhook, "_answered", leaking)


GUARDS = [
    (without_lanes, "lock-out-the-owner", "the owner got in with 0 of 5 calls from his own phone"),
    (with_anybody_attested, "spoof-the-owner", "the owner no longer got in, from his own phone"),
    (with_one_after_the_other, "flood", "the owner did not get in while"),
    (with_keys_passed_on, "key-nonsense", "what was keyed at the guard's question reached the IVR"),
    (with_stars_that_break_it, "key-nonsense", "nonsense was answered with [500]"),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    weaken(monkeypatch)
    await catches(attack, says, owner=True)


async def test_a_lane_that_proves_something_is_caught(monkeypatch, catches):
    with_lanes_that_prove(monkeypatch)
    await catches(
        "spoof-the-owner",
        "/redteam-no-rule-names-this was reached from the owner's number, with nothing proved",
        owner=True,
    )


async def test_a_flow_without_a_trusted_lane_is_caught(catches, flow_with):
    """With the line: the guard does as it is told."""
    flow = flow_with("bank", ("trusted_lane: true", "trusted_lane: false"))
    outcome = await catches(
        "lock-out-the-owner",
        "the owner got in with 0 of 5 calls",
        flow,
        ("lockout", "trusted_lane"),
        owner=True,
    )
    assert "the owner no longer got in, not even from his own phone" in [hole.what for hole in outcome.holes]


async def test_what_the_owner_felt_is_told(played):
    """
    From his own phone he gets in, with a question more: the bank's flow asks for more while it is attacked (`sense`). From
    another one he shares the lock with the strangers.
    """
    own, other = (await played("lock-out-the-owner")).felt
    assert own.after.got_in
    assert own.after.questions > own.before.questions
    assert (other.before.got_in, other.after.got_in) == (True, False)
    assert denying.OWNERS_CALLS == 5
