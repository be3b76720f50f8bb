"""What a raid found, told: a line each, the hole with its line and mend, and what the owner felt."""

import pytest

from ivrguard.phone.redteam import report
from ivrguard.phone.redteam.attack import Attack, Outcome, Verdict
from ivrguard.phone.redteam.ground import Hole, Honest, Talk

IN, OUT = Talk(True, 2, ("hello",)), Talk(False, 4, ("no",))
ATTACK = Attack("guess", "Guess", "field C", None)


def where(place):
    return f"flows/bank.yaml:1:1: {'.'.join(map(str, place))}"


@pytest.mark.parametrize(
    ("before", "after", "felt"),
    [
        (IN, IN, "as before"),
        (IN, OUT, "not let in"),
        (OUT, IN, "not in before"),
        (IN, Talk(True, 3, ("hello",)), "+1 question"),
        (IN, Talk(True, 5, ("hello",)), "+3 questions"),
        (IN, Talk(True, 2, ("good day",)), "other words"),
    ],
)
def test_what_the_owner_felt(before, after, felt):
    assert report.felt(Honest("his own phone", before, after)) == felt


def test_a_hole_stands_with_its_line_and_its_mend():
    outcome = Outcome(
        ATTACK,
        Verdict.LET_THROUGH,
        (("calls", 1_234), ("guesses", 5)),
        (Hole("it went on", ("lockout", "lifetime"), "write less"), Hole("a bug")),
        ("worth knowing",),
        (Honest("own", IN, IN), Honest("other", IN, OUT)),
    )
    assert [line.text for line in report.lines(outcome, where)] == [
        "✗ guess                       let through as before         not let in        calls: 1,234; guesses: 5",
        "    it went on",
        "    flows/bank.yaml:1:1: lockout.lifetime: write less",
        "    a bug",
        "    the guard should not have let it: please report it (SECURITY.md says how)",
        "    note: worth knowing",
    ]
    told = report.record(FLOW, [outcome], 3, where)
    assert told["let_through"] == 1
    (attack,) = told["attacks"]
    assert attack["let_through"] == [
        {"what": "it went on", "where": "flows/bank.yaml:1:1: lockout.lifetime", "mend": "write less"},
        {"what": "a bug", "where": None, "mend": report.Hole("").mend},
    ]
    assert attack["felt"][1] == {
        "phone": "other",
        "felt": "not let in",
        "got_in": [True, False],
        "questions": [2, 4],
        "same_words": False,
    }


def test_an_attack_that_was_not_tried_says_why():
    outcome = Outcome(ATTACK, Verdict.NOT_TRIED, why="the flow has no transfers")
    assert [line.text for line in report.lines(outcome, where)] == [
        "– guess                       not tried   the flow has no transfers"
    ]


def test_the_last_line_counts_them_all():
    felt = (Honest("own", IN, IN), Honest("other", IN, OUT))
    outcomes = [
        Outcome(ATTACK, Verdict.HELD, felt=felt),
        Outcome(ATTACK, Verdict.LET_THROUGH, felt=felt[::-1]),
        Outcome(ATTACK, Verdict.NOT_TRIED),
    ]
    last = report.summary(outcomes, 61.4)
    assert last.text == (
        "3 attacks: 1 held, 1 let through, 1 not tried; the owner got in from his own phone after 1 of 2 (61 s)"
    )
    assert last.style == "bold red"
    one = report.summary(outcomes[:1], 1)
    assert (one.style, one.text.partition(":")[0]) == ("green", "1 attack")


class FLOW:
    """As much of a flow as a report names."""

    name, version = "bank", "0" * 16
