"""Attacks that use what the flow itself says: each weakened flow is caught, with its line."""

from dataclasses import replace

import pytest

from ivrguard.flowfile import Loaded
from ivrguard.phone.redteam import doors
from ivrguard.phone.redteam.attack import Verdict

SENSITIVE = ('sensitive: ["/wire/**"]', "")
CEILING = ("ceiling: {guess_chance_per_year: 0.01}", "")
WIRE = "require: two_factor, within: 5m, intent: wire, own_code: true"
EASY_WIRE = "require: one_factor, within: 5m, intent: wire"
AGENT = "require: two_factor, reverify: one_factor, how: before_connect, intent: agent"
MENU = f'{{path: /menu, digits: "3", {WIRE}}}'
WIRED = f'{{path: "/wire/**", {WIRE}}}'

WEAK = {
    # what was weakened: example, edits, the attack, what it says, the place
    "whatever no rule names is open": (
        "bank",
        [("default: {require: one_factor, within: 5m}", "default: {allow: anyone}")],
        "try-every-door",
        "/redteam-no-rule-names-this was reached with nothing proved: default opens",
        ("default",),
    ),
    "anyone may be connected to anybody": (
        "bank",
        [(f"{{transfer: any, {AGENT}}}", "{transfer: any, allow: anyone}")],
        "try-every-door",
        "a transfer to number:+19005550123 was reached with 'pin' alone: rules[5] opens",
        ("rules", 5),
    ),
    "anyone may be connected to any number": (
        "clinic",
        [('{transfer: {number: "+18005550151"}, allow: anyone}', '{transfer: {number: "*"}, allow: anyone}')],
        "try-every-door",
        "a transfer to number:+19005550123",
        ("rules", 10),
    ),
    "two factors are any of them": (
        "bank",
        [SENSITIVE, ("{all: [pin, {any: [code, app]}]}", "{any: [pin, code, app]}")],
        "steal-one-secret",
        "nothing in the flow wants two kinds of factor",
        ("rules", 2),
    ),
    "a wire for a PIN": (
        "bank",
        [SENSITIVE, (WIRE, EASY_WIRE)],
        "steal-one-secret",
        "/wire/redteam ('wire') fell to 'pin' alone, while any agent wants two kinds",
        ("rules", 3),
    ),
    "a wire by its path is easier than by the menu": (
        "bank",
        [SENSITIVE, (WIRED, WIRED.replace(WIRE, EASY_WIRE))],
        "steal-one-secret",
        "/wire/redteam fell to 'pin' alone, while other rules want two kinds for 'wire'",
        ("rules", 3),
    ),
    "a proof for the whole day": (
        "bank",
        [("require: two_factor, within: 5m, intent: wire", "require: two_factor, within: 24h, intent: wire")],
        "take-over-later",
        "/wire/redteam was reached by proofs that were 15 minutes old",
        ("rules", 3, "within"),
    ),
    "results for the whole call": (
        "clinic",
        [
            (
                "require: patient_for_records, within: 10m, intent: records",
                "require: patient_for_records, intent: records",
            )
        ],
        "take-over-later",
        "/results/redteam was reached by proofs that were 15 minutes old",
        ("rules", 8, "within"),
    ),
    "agents need nothing anew": (
        "bank",
        [(AGENT, "require: two_factor, intent: agent")],
        "be-handed-on",
        "a transfer to workflow:redteam was connected with nothing proved anew",
        ("rules", 5, "reverify"),
    ),
    "one desk needs nothing anew": (
        "insurer",
        [("within: 10m, reverify: holder, intent: payout", "within: 10m, intent: payout")],
        "be-handed-on",
        "a transfer to enqueue:payout-desk was connected",
        ("rules", 8, "reverify"),
    ),
}


@pytest.mark.parametrize("weak", WEAK)
async def test_a_weakened_flow_is_caught(catches, flow_with, weak):
    """By the attack that it concerns, with the line that lets it."""
    name, edits, attack, says, place = WEAK[weak]
    await catches(attack, says, flow_with(name, *edits), place)


async def test_what_a_flow_calls_sensitive_must_not_fall_to_one_secret(catches, flow_with):
    """`check` refuses such a file; a flow may come from elsewhere."""
    flow = flow_with("bank", SENSITIVE, (WIRE, EASY_WIRE))
    outcome = await catches(
        "steal-one-secret",
        "/wire/redteam, which the flow calls sensitive, fell to 'pin' alone",
        replace(flow, sensitive=("/wire/**",)),
        ("rules", 3),
    )
    assert "'pin' alone opens /redteam-no-rule-names-this, as default says" in outcome.notes


async def test_a_guard_that_takes_a_voice_for_a_factor_is_caught(catches, monkeypatch):
    flow = object()
    monkeypatch.setattr(doors, "read", lambda *_: Loaded(flow))
    await catches("voice-and-questions", "a flow with a factor of kind voice was taken")


async def test_a_flow_without_a_pin_has_no_place_for_a_voice(played, flow_with):
    flow = flow_with(
        "bank",
        ("  pin:  {kind: pin, digits: 8}\n", ""),
        ("{any: [pin, code, app]}", "{any: [code, app]}"),
        ("{all: [pin, {any: [code, app]}]}", "{all: [code, app]}"),
        SENSITIVE,
        CEILING,
    )
    outcome = await played("voice-and-questions", flow)
    assert outcome.verdict is Verdict.NOT_TRIED
    assert outcome.why == "the flow has no PIN to put another factor in the place of"


async def test_from_a_transfer_there_is_no_way_to_another_agent(played, flow_with, alone):
    """A flow that protects transfers alone."""
    flow = flow_with("bank")
    rules = tuple(rule for rule in flow.rules if rule.transfer is not None)
    outcome = await played(
        "be-handed-on", replace(flow, rules=rules, default=replace(flow.default, require=None))
    )
    assert outcome.verdict is Verdict.NOT_TRIED
    assert outcome.why == "there is no way from one place to an agent: the flow protects transfers alone"
