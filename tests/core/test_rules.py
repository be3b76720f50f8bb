"""What needs which level: first match, every stated condition, and explanations that cannot disagree."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivrguard.core.rules import (
    ANYONE,
    OPEN_CONDITIONS,
    Demand,
    Hours,
    Match,
    Row,
    Rule,
    Target,
    Visit,
    decide,
    explain,
    glob,
    miss,
    name_glob,
)

HIGH, LOW, DEFAULT = Demand("high", within_s=300, intent="wire"), Demand("low"), Demand("default")
WORK = Hours(frozenset(range(5)), 8 * 60, 18 * 60)
NIGHT = Hours(frozenset({4}), 22 * 60, 6 * 60)
FRAUD, SUPPORT = Target("enqueue", "fraud-line"), Target("enqueue", "support")

MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6


def visit(path="/menu", **changes):
    asked = {"method": "POST", "dialled": "+18005550100", "weekday": MONDAY, "minute": 600} | changes
    return Visit(path, **asked)


# ── globs ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("/menu", ["/menu"], ["/Menu", "/menu/", "/menu/a", "/men", "x/menu", ""]),
        ("/*", ["/", "/menu"], ["/menu/a", ""]),
        ("/a/*/c", ["/a/b/c", "/a//c"], ["/a/b/b/c", "/a/c"]),
        ("/a?c", ["/abc"], ["/ac", "/a/c", "/abbc"]),
        ("/wire/**", ["/wire", "/wire/", "/wire/a", "/wire/a/b"], ["/wired", "/wir", "/a/wire"]),
        ("/a/**/c", ["/a/c", "/a/b/c", "/a/b/b/c"], ["/ac", "/a/bc", "/a/c/d"]),
        ("/a**", ["/a", "/ab", "/a/b"], ["/b"]),
        ("**", ["", "/", "/a/b", "a\nb"], []),
        ("/**", ["/", "/a/b", ""], ["a"]),
        ("+1800*", ["+18005550100", "+1800"], ["+1900"]),
        ("/a.b", ["/a.b"], ["/axb"]),
        ("/a(b)[c]", ["/a(b)[c]"], ["/ab"]),
    ],
)
def test_globs_of_paths(pattern, matched, not_matched):
    """`*` within a segment, `**` across, `?` one character; everything else is itself, and case matters."""
    assert [path for path in matched if not glob(pattern).fullmatch(path)] == []
    assert [path for path in not_matched if glob(pattern).fullmatch(path)] == []


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("*", ["", "a", "a/b", "a\nb"], []),
        ("team/*", ["team/", "team/a/b"], ["team", "teams/a"]),
        ("line-?", ["line-1", "line-/"], ["line-", "line-12"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_globs_of_names(pattern, matched, not_matched):
    """A name is not a path: a slash is a character like any other."""
    assert [name for name in matched if not name_glob(pattern).fullmatch(name)] == []
    assert [name for name in not_matched if name_glob(pattern).fullmatch(name)] == []


def slow_glob(pattern):
    """The glob as its documentation has it, one piece after another."""
    parts = {"/**/": "/(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(/\*\*$|/\*\*/|\*\*|\*|\?)", pattern)
    out = [parts.get(piece, "(?:/.*)?" if piece == "/**" else re.escape(piece)) for piece in pieces]
    return re.compile("".join(out), re.DOTALL)


def slow_name_glob(pattern):
    return re.compile(
        "".join({"*": ".*", "?": "."}.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL
    )


pieces_of_globs = st.lists(st.sampled_from(["/**", "/**/", "**", "*", "?", "/", "a", "b", "ab"]), max_size=8)


@settings(max_examples=300)
@given(
    pattern=pieces_of_globs.map("".join),
    texts=st.lists(st.text("ab/", max_size=12), min_size=12, max_size=12),
)
def test_globs_that_are_quick_take_what_they_should(pattern, texts):
    """What is matched once and never tried again is no text the less."""
    for quick, slow in ((glob(pattern), slow_glob(pattern)), (name_glob(pattern), slow_name_glob(pattern))):
        found = [
            text for text in texts if (quick.fullmatch(text) is None) is not (slow.fullmatch(text) is None)
        ]
        assert found == [], (quick.pattern, slow.pattern)


@pytest.mark.parametrize(
    "pattern", ["/**a**a**a**b", "/*a*a*a*b", "/**a*a*a*b", "/**a?**a?**b*", "/a*/**/a*/b"]
)
def test_what_a_match_costs_is_bounded(pattern):
    """A path is data from outside. With the slow expressions some of these would take days: wildcards multiply."""
    text = "/" + "a" * 4_000

    assert glob(pattern).fullmatch(text) is None
    assert name_glob(pattern).fullmatch(text) is None


# ── hours ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hours", "weekday", "minute", "expected"),
    [
        (WORK, MONDAY, 8 * 60, True),
        (WORK, MONDAY, 8 * 60 - 1, False),
        (WORK, FRIDAY, 18 * 60 - 1, True),
        (WORK, FRIDAY, 18 * 60, False),  # the end does not belong to it
        (WORK, SATURDAY, 600, False),
        (NIGHT, FRIDAY, 22 * 60, True),
        (NIGHT, SATURDAY, 5 * 60 + 59, True),  # Friday's night
        (NIGHT, SATURDAY, 6 * 60, False),
        (NIGHT, SATURDAY, 22 * 60, False),
        (NIGHT, FRIDAY, 60, False),  # Thursday's night
        (Hours(frozenset({SUNDAY}), 1380, 60), MONDAY, 59, True),  # over the end of the week
    ],
)
def test_hours(hours, weekday, minute, expected):
    """The end is excluded; a span over midnight belongs to the day that it began on."""
    assert expected is hours.holds(weekday, minute)


# ── matching ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "what", "expected"),
    [
        (Rule(HIGH), visit(), None),
        (Rule(HIGH, path="/menu"), visit(), None),
        (Rule(HIGH, path="/menu"), visit("/other"), "path"),
        (Rule(HIGH, path="/menu", digits="3"), visit(digits="3"), None),
        (Rule(HIGH, path="/menu", digits="3"), visit(digits="33"), "digits"),
        (Rule(HIGH, path="/menu", digits="*"), visit(digits=None), "digits"),
        (Rule(HIGH, method="GET"), visit(), "method"),
        (Rule(HIGH, method="POST"), visit(), None),
        (Rule(HIGH, dialled="+1800*"), visit(), None),
        (Rule(HIGH, dialled="+1900*"), visit(), "dialled"),
        (Rule(HIGH, hours=WORK), visit(), None),
        (Rule(HIGH, hours=WORK), visit(weekday=SATURDAY), "hours"),
        # a rule with a transfer speaks of transfers only, one without never does
        (Rule(HIGH, transfer=FRAUD), visit(), "transfer"),
        (Rule(HIGH, path="/menu"), visit(transfer=FRAUD), "transfer"),
        (Rule(HIGH, transfer=FRAUD), visit(transfer=FRAUD), None),
        (Rule(HIGH, transfer=FRAUD), visit(transfer=SUPPORT), "transfer"),
        (Rule(HIGH, transfer=Target("number", "*")), visit(transfer=FRAUD), "transfer"),
        (Rule(HIGH, transfer=Target("*", "*")), visit(transfer=Target("sip", "a/b@c")), None),
        (Rule(HIGH, transfer=FRAUD, path="/x"), visit(transfer=FRAUD), "path"),
    ],
)
def test_the_first_condition_that_does_not_hold(rule, what, expected):
    """A rule matches only if each condition that it states does; one that it does not state always does."""
    assert expected == miss(rule, what)


def test_the_first_match_decides_and_nothing_matched_is_the_default():
    """Order is the admin's."""
    rules = (Rule(ANYONE, path="/hours"), Rule(HIGH, path="/menu", digits="3"), Rule(LOW, path="/**"))

    assert decide(rules, DEFAULT, visit("/hours")) == (ANYONE, 0)
    assert decide(rules, DEFAULT, visit(digits="3")) == (HIGH, 1)
    assert decide(rules, DEFAULT, visit(digits="4")) == (LOW, 2)
    assert decide(rules, DEFAULT, visit(transfer=FRAUD)) == (DEFAULT, None)


def test_an_explanation_ends_with_what_decides():
    """A row a rule: hit or not, and the first condition that did not hold."""
    rules = (Rule(HIGH, path="/wire/**"), Rule(LOW, path="/menu"), Rule(ANYONE, path="/**"))

    assert (
        Row(0, Match.MISS, ("path",), HIGH),
        Row(1, Match.HIT, (), LOW),
    ) == explain(rules, DEFAULT, visit())
    assert Row(None, Match.HIT, (), DEFAULT) == explain(rules[:2], DEFAULT, visit("/x"))[-1]


def test_an_explanation_says_what_may_match():
    """A condition that nobody told of: the rule may apply, and the ones after it are explained as well."""
    rules = (
        Rule(HIGH, path="/menu", digits="3", hours=WORK),
        Rule(HIGH, path="/wire", digits="3"),
        Rule(LOW, path="/menu"),
        Rule(ANYONE, path="/**"),
    )

    rows = explain(rules, DEFAULT, visit(), {"digits", "hours"})

    assert [(row.position, row.match.value, row.why) for row in rows] == [
        (0, "may", ("digits", "hours")),
        (1, "miss", ("path",)),
        (2, "hit", ()),
    ]


paths = st.sampled_from(["/", "/menu", "/menu/a", "/wire", "/wire/a/b", "//other.example/menu"])
targets = st.builds(Target, st.sampled_from(["enqueue", "number"]), st.sampled_from(["support", "a/b", "+1"]))
visits = st.builds(
    Visit,
    path=paths,
    method=st.sampled_from(["GET", "POST"]),
    dialled=st.sampled_from(["+18005550100", "sip:a@b"]),
    weekday=st.integers(0, 6),
    minute=st.integers(0, 1439),
    digits=st.sampled_from([None, "", "3", "33", "*"]),
    transfer=st.none() | targets,
)
rules_ = st.builds(
    Rule,
    st.sampled_from([HIGH, LOW, ANYONE]),
    path=st.sampled_from([None, "/menu", "/**", "/wire/**", "/*", "**"]),
    digits=st.sampled_from([None, "3", "*", "?"]),
    method=st.sampled_from([None, "POST"]),
    dialled=st.sampled_from([None, "+1800*", "**"]),
    transfer=st.none() | targets | st.just(Target("*", "*")),
    hours=st.sampled_from([None, WORK, NIGHT]),
)


@given(rules=st.lists(rules_, max_size=6), what=visits)
def test_an_explanation_and_the_decision_never_disagree(rules, what):
    """The last row is the decision; no row before it is a hit."""
    rows = explain(rules, DEFAULT, what)

    assert decide(rules, DEFAULT, what) == (rows[-1].demand, rows[-1].position)
    assert [Match.MISS] * (len(rows) - 1) + [Match.HIT] == [row.match for row in rows]


@given(
    rules=st.lists(rules_, max_size=6),
    what=visits,
    untold=st.sets(st.sampled_from(OPEN_CONDITIONS)),
    others=visits,
)
def test_whatever_is_not_told_the_decision_is_among_those_that_may_be(rules, what, untold, others):
    """However what was left out turns out, a rule that decides is a hit or a may."""
    rows = explain(rules, DEFAULT, what, untold)
    found = {name: getattr(others, name) for name in ("digits", "method", "dialled") if name in untold}
    if "hours" in untold:
        found |= {"weekday": others.weekday, "minute": others.minute}

    _, position = decide(rules, DEFAULT, replace(what, **found))

    assert position in {row.position for row in rows if row.match is not Match.MISS}


def test_a_target_is_named_in_one_word():
    """As tokens, keys and records know it."""
    assert str(FRAUD) == "enqueue:fraud-line"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/**", "/wire", True),
        ("/**", "//media.bank.example/wire", False),
        ("//media.bank.example/**", "//media.bank.example/wire", True),
        ("//**", "/wire", False),
    ],
)
def test_a_path_on_another_origin_must_be_named_as_such(pattern, path, expected):
    """A rule for the IVR's own paths never opens one on another listed origin, however wide it is."""
    rule = Rule(Demand("two"), path=pattern)

    assert expected is (miss(rule, Visit(path, "POST", "+18005550100", 0, 0)) is None)
