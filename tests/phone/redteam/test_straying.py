"""Attacks by legs that go where nobody sent them: without the gate, the MAC or the nonce they get there."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ivrguard.core import call as calls
from ivrguard.core import demands
from ivrguard.core import step as steps
from ivrguard.guard import webhook
from ivrguard.phone.redteam import straying
from ivrguard.phone.redteam.attack import Verdict
from ivrguard.telephony import links


def without_gate(patch):
    """Every demand holds."""
    for module in (steps, demands, calls, webhook):
        if hasattr(module, "missing"):
            patch.setattr(module, "missing", lambda *_: ())


def with_spellings(patch):
    """A path is matched as it is spelled."""
    patch.setattr(links, "_canonical", lambda path: path)


def without_mac(patch):
    """The MAC of a link is not looked at: a use that is not gated is one's own choice."""
    patch.setattr(links, "hmac", SimpleNamespace(compare_digest=lambda *_: True))
    patch.setattr(webhook.Webhook, "holds", lambda *_: True)


def without_nonces(patch):
    """Any question is one's own."""
    first = webhook.Webhook._first_event

    async def any_question(self, *, again):
        if self._hook.nonce is not None and self._call.question is not None:
            self._hook = replace(self._hook, nonce=self._call.question.nonce)
        return await first(self, again=again)

    patch.setattr(webhook.Webhook, "_first_event", any_question)


def with_answers_that_are_over(patch):
    """Whoever answers once more is right once more."""
    first = webhook.Webhook._first_event

    async def proved(self, *, again):
        if self._call.proofs:
            aged = tuple(replace(one, at_ms=one.at_ms + 1) for one in self._call.proofs)
            self._call = replace(self._call, proofs=aged)
            world = self._world
            key = webhook.books.call_key(self._call.sid)
            await world.store.amend([key], lambda _: webhook.Change(None, (webhook.Put(key, self._call),)))
        return await first(self, again=again)

    patch.setattr(webhook.Webhook, "_first_event", proved)


GUARDS = [
    (without_gate, "go-straight-there", "was reached with nothing proved"),
    (without_mac, "follow-others-links", "was reached by a link that was changed, or was another call's"),
    (without_nonces, "answer-others-questions", "a question of one call was answered by another one"),
    (with_answers_that_are_over, "answer-others-questions", "an answer to a question that is over was taken"),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    weaken(monkeypatch)
    await catches(attack, says)


async def test_a_guard_that_matches_paths_as_they_are_spelled_is_caught(monkeypatch, catches, flow_with):
    """Where the default opens, and a rule protects."""
    with_spellings(monkeypatch)
    flow = flow_with("bank", ("default: {require: one_factor, within: 5m}", "default: {allow: anyone}"))
    await catches("go-straight-there", "/wire/redteam was reached with nothing proved", flow)


async def test_a_flow_that_protects_transfers_alone_has_no_paths_to_stray_to(played, flow_with):
    flow = flow_with("bank")
    rules = tuple(rule for rule in flow.rules if rule.transfer is not None)
    outcome = await played(
        "go-straight-there", replace(flow, rules=rules, default=replace(flow.default, require=None))
    )
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the flow protects no path, transfers alone")


def test_every_spelling_is_another_one():
    every = straying.spellings("/wire/redteam")
    assert len(set(every)) == len(every) > 10
