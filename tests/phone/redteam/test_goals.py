"""What a flow protects, as places: what a rule that decides says, and nothing that another rule hides."""

import pytest

from ivrguard.core.rules import Target
from ivrguard.phone.redteam import goals
from ivrguard.phone.redteam.goals import Goal
from ivrguard.phone.world import begin_ms


def named(flow):
    return [(str(goal), goal.place) for goal in goals.goals(flow, begin_ms(flow, None))]


def test_every_rule_that_decides_is_a_goal(flow_with):
    assert named(flow_with("bank")) == [
        ("/hours", ("rules", 0)),
        ("/wait", ("rules", 1)),
        ("/menu with key 3", ("rules", 2)),
        ("/wire/redteam", ("rules", 3)),
        ("a transfer to enqueue:fraud-line", ("rules", 4)),
        ("a transfer to workflow:redteam", ("rules", 5)),
        ("/redteam-no-rule-names-this", ("default",)),
    ]


def test_what_is_not_at_this_time_or_number_is_none(flow_with):
    """The insurer's accident line is another number; at night another rule decides about claims."""
    every = dict(named(flow_with("insurer")))
    assert "/roadside/redteam" not in every
    assert every["/claims/redteam"] == ("rules", 6)
    flow = flow_with("insurer", ("mon-sat 07:00-21:00", "mon-sat 20:00-21:00"))
    assert dict(named(flow))["/claims/redteam"] == ("rules", 7)


def test_what_is_protected_comes_weakest_first(flow_with):
    flow = flow_with("bank")
    found = goals.protected(flow, begin_ms(flow, None))
    assert [str(goal) for goal in found] == [
        "/redteam-no-rule-names-this",
        "/menu with key 3",
        "/wire/redteam",
        "a transfer to workflow:redteam",
    ]


def test_what_no_rule_names_is_decided_by_the_default_or_by_a_rule_for_any(flow_with):
    flow = flow_with("bank")
    assert [place for _, place in goals.unnamed(flow, begin_ms(flow, None))] == [("default",), ("rules", 5)]


@pytest.mark.parametrize(
    ("goal", "document"),
    [
        (Goal(None, (), "/a&b"), "<Redirect>/a&amp;b</Redirect>"),
        (Goal(None, (), "/menu", "12"), '<Gather numDigits="2" action="/menu"/>'),
        (Goal(None, (), target=Target("enqueue", "a&b")), "<Enqueue>a&amp;b</Enqueue>"),
        (
            Goal(None, (), target=Target("workflow", "WW1")),
            '<Enqueue workflowSid="WW1"><Task>{}</Task></Enqueue>',
        ),
        (Goal(None, (), target=Target("sip", "sip:a@b.c")), "<Dial><Sip>sip:a@b.c</Sip></Dial>"),
    ],
)
def test_an_ivr_leads_there_with_a_document(goal, document):
    assert goal.document() == document


def test_rules_about_other_places_are_left_out(flow_with):
    """On another origin no path is asked for here; nobody dials an application."""
    flow = flow_with(
        "bank",
        (
            "  - {path: /hours, allow: anyone}",
            '  - {path: "//media.bank.example/x", allow: anyone}\n  - {path: /hours, allow: anyone}',
        ),
        (
            "  - {transfer: {enqueue: fraud-line}, allow: anyone}",
            "  - {transfer: {application: AP1}, require: two_factor}\n  - {transfer: {enqueue: fraud-line}, allow: anyone}",
        ),
    )
    assert not any("//media" in goal or "AP1" in goal for goal, _ in named(flow))
