"""Each event has a row; levels, classes and activities are those of OWASP and OCSF."""

import ast
import re
from pathlib import Path

import pytest

from ivrguard.exports import events
from ivrguard.exports.events import (
    ACTIVITIES,
    CLASS_NAMES,
    ENTITY_MANAGEMENT,
    MEANINGS,
    OTHER,
    Level,
    meaning,
    table,
)

ROOT = Path(__file__).parents[2]

OWASP = {
    "authn_login_success": Level.INFO,
    "authn_login_fail": Level.WARN,
    "authn_login_lock": Level.WARN,
    "authn_password_change": Level.INFO,
    "authn_password_change_fail": Level.CRITICAL,
    "authn_token_created": Level.INFO,
    "authn_token_reuse": Level.CRITICAL,
    "authz_fail": Level.CRITICAL,
    "excess_rate_limit_exceeded": Level.WARN,
    "user_created": Level.WARN,
    "user_updated": Level.WARN,
    "user_archived": Level.WARN,
    "user_deleted": Level.WARN,
    "sensitive_read": Level.WARN,
}
"""The levels that the vocabulary gives, for the events of it that are used here."""


def events_of_the_code():
    """
    Every event that an entry is made with anywhere: what stands in its place among the arguments of `…Entry(…)`, and
    whatever is called as OWASP's vocabulary calls events.
    """
    found = {}
    for path in (ROOT / "ivrguard").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch("auth[nz]_[a-z_]+", str(node.value)):
                found.setdefault(node.value, path.relative_to(ROOT))
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in {"Entry", "_entry"}:
                continue
            place = 0 if (name, path.name) == ("_entry", "local.py") else 1
            for argument in node.args[place : place + 1]:
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found.setdefault(part.value, path.relative_to(ROOT))
    return {event: path for event, path in found.items() if re.fullmatch("[a-z]+(_[a-z]+)+", event)}


def test_every_event_of_the_code_has_a_row():
    """Whoever makes a new event adds its row to exports/events.py, and `python -m ivrguard audit events` to docs/record.md."""
    assert {event: path for event, path in events_of_the_code().items() if event not in MEANINGS} == {}
    assert len(events_of_the_code()) > 15


@pytest.mark.parametrize("event", OWASP)
def test_levels_are_owasps(event):
    assert MEANINGS[event].level is OWASP[event]


@pytest.mark.parametrize("event", MEANINGS)
def test_a_row_is_whole(event):
    """A sentence to read, an activity that its class has or a name of its own, and of a thing that is managed, what it is."""
    of = MEANINGS[event]
    assert of.words[0].isupper()
    assert of.class_uid in CLASS_NAMES
    if isinstance(of.activity, int):
        assert of.activity_name == ACTIVITIES[of.class_uid][of.activity]
    else:
        assert (of.activity_id, of.activity_name) == (99, of.activity)
        assert of.activity not in ACTIVITIES[of.class_uid].values()
    assert bool(of.entity) is (of.class_uid == ENTITY_MANAGEMENT)


def test_an_event_without_a_row_is_something_else():
    """It is not lost."""
    assert meaning("something_new") is OTHER
    assert (OTHER.class_uid, OTHER.activity_id) == (0, 99)


def test_the_table_has_a_row_for_each():
    rows = table().splitlines()
    assert len(rows) == 2 + len(MEANINGS)
    assert (
        "| `authn_login_fail` | A factor was answered wrong | WARN | 3002 Authentication | 1 Logon | 2 Failure |"
        in rows
    )
    assert events.table() in (ROOT / "docs" / "record.md").read_text()
