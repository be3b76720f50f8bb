"""Attacks by the IVR's documents: what the reader of documents does not do is what gets through."""

from dataclasses import replace

import pytest
from lxml import etree

from ivrguard.guard.webhook import Webhook
from ivrguard.phone.redteam import documents
from ivrguard.phone.redteam.attack import Verdict
from ivrguard.phone.redteam.ground import Stuck, ground
from ivrguard.telephony import document, links


def without_transfers(patch):
    """Nobody looks for transfers in a document."""
    patch.setattr(document, "_survey", lambda _: ())


def with_refer_unseen(patch):
    """One verb was forgotten."""
    patch.setattr(document, "_TRANSFERS", document._TRANSFERS - {"Refer"})


def with_workflows_unseen(patch):
    """A queue by a workflow's name is none."""
    targets = document._targets
    patch.setattr(document, "_targets", lambda verb: () if verb.get("workflowSid") else targets(verb))


def with_other_ears_ungated(patch):
    """Wait music passes whatever its path needs."""
    patch.setattr(Webhook, "holds", lambda *_: True)


def without_led_back_links(patch):
    """The IVR's links go out as they are."""
    plain = lambda self, reference, kind, method: links.resolve(self.base, reference)  # noqa: E731 -- one line beside its use
    patch.setattr(document._Rewriting, "_led_back", plain)


def with_any_socket(patch):
    """A media stream may go anywhere."""
    patch.setattr(links.Links, "allowed_socket", lambda *_: True)


def with_entities(patch):
    """A document may declare what it likes."""
    parser = etree.XMLParser(resolve_entities=True, no_network=True)
    patch.setattr(document, "_parsed", lambda body, _: etree.fromstring(body, parser))


GUARDS = [
    (without_transfers, "hide-transfers", "Enqueue connected the caller to enqueue:redteam"),
    (with_refer_unseen, "hide-transfers", "Refer connected the caller to refer:sip:redteam@pbx.example"),
    (
        with_workflows_unseen,
        "hide-transfers",
        "Enqueue into a workflow connected the caller to workflow:WWredteam",
    ),
    (with_other_ears_ungated, "lead-on", "a document led the caller to /wire/redteam"),
    (without_led_back_links, "lead-out", "Redirect led the caller's leg out of the guard"),
    (with_any_socket, "lead-out", "a media stream kept a link to a place that the flow does not list"),
    (with_entities, "declare-entities", "an entity was carried out"),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    weaken(monkeypatch)
    await catches(attack, says)


async def test_a_flow_without_protected_transfers_says_so(played, flow_with):
    flow = flow_with("bank")
    rules = tuple(rule for rule in flow.rules if rule.transfer is None)
    outcome = await played(
        "hide-transfers", replace(flow, rules=rules, default=replace(flow.default, require=None))
    )
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the flow protects no transfer")


QUEUE = (
    "  - {transfer: {enqueue: fraud-line}, allow: anyone}",
    "  - {transfer: {enqueue: redteam}, allow: anyone}",
)


async def test_a_transfer_that_is_open_is_none_too_many(played, flow_with, alone):
    """What the flow itself opens to anyone may connect."""
    outcome = await played("hide-transfers", flow_with("bank", QUEUE))
    assert outcome.holes == ()


async def test_whoever_may_go_there_anyway_need_not_be_led(played, flow_with, alone):
    """A flow of one level, which its first document wants already."""
    flow = flow_with("bank")
    one = replace(flow, rules=tuple(rule for rule in flow.rules if rule.transfer is not None))
    outcome = await played("lead-on", one)
    assert outcome.verdict is Verdict.NOT_TRIED
    assert outcome.why == "whoever hears the IVR at all may go to /redteam-no-rule-names-this"


async def test_an_ivr_that_asks_nothing_leads_nowhere(flow_with):
    async with ground(flow_with("bank"), 1) as at:
        at.ivr.answers(at.ivr.first, "<Hangup/>")
        with pytest.raises(Stuck, match="the IVR's first document asks nothing"):
            await documents._declare(at)
