"""Alerts from the command line: listed, ended, on record."""

import json
import re

import pytest

from ivrguard.core.alerts import Alert
from ivrguard.core.sense import Attack
from ivrguard.guard.sense import alert_key
from ivrguard.web.app import wall_clock_ms

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def raised(store):
    """A spray that stands, and a flood of yesterday."""
    now = wall_clock_ms()
    spray = Alert("bank", Attack.SPRAY, now - 60_000, now, 44, 20, 21_600)
    flood = Alert(
        "bank",
        Attack.FLOOD,
        now - 90_000_000,
        now - 80_000_000,
        900,
        300,
        60,
        ("num_1", "num_2"),
        now - 70_000_000,
    )
    store.put(alert_key("bank", Attack.SPRAY), spray, rank=spray.raised_ms)
    store.put(alert_key("bank", Attack.FLOOD), flood)
    return store


def test_alerts_are_listed_and_ended(raised, asked, ends):
    """Whether it stands, since when, how much of what was counted; ended with a name and a reason, once."""
    listed = asked(raised.env, "alerts", "list")
    assert (listed.code, listed.err) == (0, "")
    spray, flood, about = listed.out.splitlines()
    assert re.fullmatch(
        f"bank spray: stands since {WHEN}, last seen {WHEN}; the same wrong answer on many accounts: "
        r"44 \(20 raise an alert\)",
        spray,
    )
    assert re.match(f"bank flood: raised {WHEN}, over {WHEN}; many more calls", flood)
    assert about == "  num_1, num_2"

    end = ("alerts", "end", "bank", "spray", "--by", "ann", "--reason", "our own test")
    ends(asked(raised.env, *end), 0, "bank spray: ended\n")
    ends(asked(raised.env, *end), 0, "bank spray: no such alert stands\n")
    assert ", ended by ann; " in asked(raised.env, "alerts", "list").out
    last = asked(raised.env, "audit", "show", "--limit", "1").out
    assert "attack_over by_hand" in last
    assert "by=ann because=our own test" in last


def test_for_machines(raised, asked):
    """A line for each: what the webhook has as its data."""
    found = [json.loads(line) for line in asked(raised.env, "alerts", "list", "--json").out.splitlines()]
    assert [(one["attack"], one["count"]) for one in found] == [("spray", 44), ("flood", 900)]


def test_nothing_was_raised(store, asked, ends):
    ends(asked(store.env, "alerts", "list"), 0, "no alert was ever raised\n")
    ends(asked(store.env, "alerts", "list", "--json"), 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("bank", "spary", "--by", "ann", "--reason", "why"),
            "there is no kind of alert 'spary'; did you mean 'spray'?",
        ),
        (("bank", "spray", "--by", " ", "--reason", "why"), "--by and --reason go on record"),
        (("bank", "spray", "--by", "ann", "--reason", "two\nlines"), "--by and --reason go on record"),
    ],
)
def test_an_end_needs_a_kind_a_person_and_a_reason(store, asked, arguments, said):
    result = asked(store.env, "alerts", "end", *arguments)
    assert (result.code, result.out) == (1, "")
    assert said in result.err
