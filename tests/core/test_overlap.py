"""What two rules have in common: held against every short text there is."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import overlap
from ivrguard.core.overlap import (
    covers_entry,
    covers_name,
    covers_path,
    covers_target,
    hidden,
    in_common,
    is_unconditional,
    prefix,
    shadows,
    shared_name,
    shared_path,
)
from ivrguard.core.rules import ANYONE, Demand, Hours, Rule, Target, Visit, glob, miss, name_glob

WORK = Hours(frozenset(range(5)), 8 * 60, 18 * 60)

# ── globs ────────────────────────────────────────────────────────────────────────────────────────────────

EVERY_TEXT = ["".join(signs) for count in range(8) for signs in itertools.product("ab/", repeat=count)]
"""`b` stands for all that no glob here names."""

PIECES = ["/**", "/**/", "**", "*", "?", "/", "a"]
EVERY_GLOB = sorted(
    {"".join(signs) for count in (1, 2, 3) for signs in itertools.product("a/*?", repeat=count)}
    | {"".join(pieces) for count in (1, 2) for pieces in itertools.product(PIECES, repeat=count)}
)


def taken(form):
    """Every one of the texts that a glob takes."""
    return frozenset(text for text in EVERY_TEXT if form.fullmatch(text))


@pytest.mark.parametrize(("covers", "form"), [(covers_path, glob), (covers_name, name_glob)])
def test_a_glob_covers_what_every_text_says(covers, form):
    """Each pair of short globs, both ways: no yes that a text refutes, and no no without such a text."""
    takes = {pattern: taken(form(pattern)) for pattern in EVERY_GLOB}
    wrong = [
        (wide, narrow)
        for wide, narrow in itertools.product(EVERY_GLOB, repeat=2)
        if covers(wide, narrow) is not (takes[narrow] <= takes[wide])
    ]

    assert wrong == []


def test_a_shared_name_is_there_if_any_text_says_so():
    """A name has at least one character."""
    takes = {pattern: taken(name_glob(pattern)) - {""} for pattern in EVERY_GLOB}
    wrong = [
        (one, other)
        for one, other in itertools.product(EVERY_GLOB, repeat=2)
        if (shared_name(one, other) is not None) is not bool(takes[one] & takes[other])
    ]

    assert wrong == []


def test_a_shared_path_is_there_if_any_text_says_so():
    """A path begins with a slash; with two, it is on another origin, and only globs that say so mean it."""
    patterns = [pattern for pattern in EVERY_GLOB if pattern.startswith("/")]
    takes = {
        pattern: {
            text
            for text in taken(glob(pattern))
            if text.startswith("/") and text.startswith("//") == pattern.startswith("//")
        }
        for pattern in patterns
    }
    wrong = [
        (one, other)
        for one, other in itertools.product(patterns, repeat=2)
        if (shared_path(one, other) is not None) is not bool(takes[one] & takes[other])
    ]

    assert wrong == []


long_globs = st.lists(st.sampled_from([*PIECES, "b", "/a", "/ab"]), min_size=1, max_size=6).map("".join)


@given(wide=long_globs, narrow=long_globs)
def test_a_yes_about_longer_globs_is_refuted_by_no_text(wide, narrow):
    """The same, one way: for some of them no text is short enough."""
    for covers, form in ((covers_path, glob), (covers_name, name_glob)):
        assert not covers(wide, narrow) or taken(form(narrow)) <= taken(form(wide))


@given(one=long_globs, other=long_globs)
def test_what_is_shared_is_taken_by_both(one, other):
    """Whatever the globs: the text is an example, and stands in messages."""
    for shared, form in ((shared_path, glob), (shared_name, name_glob)):
        found = shared(one, other)
        if found is None:
            assert shared is shared_path or taken(form(one)) & taken(form(other)) <= {""}
        else:
            assert found
            assert all(form(pattern).fullmatch(found) for pattern in (one, other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/wire/**", "/wire/confirm", "/wire/confirm"),
        ("/wire/**", "/wire", "/wire"),
        ("/wire/**", "/*/confirm", "/wire/confirm"),
        ("/wire/**", "/wires/*", None),
        ("/a*", "/*b", "/ab"),
        ("/a/?", "/a/", None),
        ("/**", "/**", "/"),
        ("/*/x", "/**/x", "/x/x"),  # and not //x, which is a path on another origin
        ("//media.bank.example/**", "//media.bank.example/x", "//media.bank.example/x"),
        ("//media.bank.example/**", "/**", None),
        ("/**", "//media.bank.example/**", None),
    ],
)
def test_shared_paths(one, other, expected):
    """The shortest that there is."""
    assert shared_path(one, other) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("/a/b", "/a/b"), ("/a/**", "/a"), ("/a/*", "/a"), ("/a/b*", "/a/b"), ("*", ""), ("/?", "")],
)
def test_what_every_text_begins_with(pattern, expected):
    """A slash before a wildcard may be missing."""
    assert prefix(pattern) == expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("/**/a", "/b/*/a", True),
        ("/?**", "/b**", True),
        ("/?**", "/**a", False),  # neither /a nor /x/a tells, but //a does
        ("/*/a*", "/b/a?", True),
        ("/*a", "/b*", False),
    ],
)
def test_path_globs_that_cover(wide, narrow, expected):
    """Also where no simple example tells."""
    assert covers_path(wide, narrow) is expected


def test_a_walk_that_is_too_long_is_a_no(monkeypatch):
    """A yes only where there is time for it."""
    wide, narrow = "/**/a*", "/**/x/a*"
    assert covers_path(wide, narrow) is True
    monkeypatch.setattr(overlap, "STATES_MAX", 2)
    assert covers_path(wide, narrow) is False


def test_the_longest_patterns_take_a_bounded_walk():
    """Two of the worst that a file can hold: one does cover the other, and nobody waits to be told."""
    one = "/**" + "ab" * 40 + "*" + "ab" * 40 + "**"
    other = "/**" + "ab" * 41 + "*" + "ab" * 41 + "**"

    assert covers_path(one, other) is False
    assert shared_path(one, other) is not None


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ({"path": "/a"}, {"path": "/a", "digits": "3"}, True),
        ({"path": "/a", "digits": "3"}, {"path": "/a"}, False),
        ({"path": "/a/*"}, {"path": "/a/b"}, True),
        ({"path": "/a/*"}, {"path": "/a/b/c"}, False),
        ({"path": "/a/**"}, {"path": "/a/*/c"}, True),
        ({"path": "/a/**"}, {"path": "/a/**"}, True),
        ({"path": "/a/**"}, {"path": "/ab/*"}, False),
        ({"path": "/a/b*"}, {"path": "/a/bc*"}, True),
        ({"path": "/a/bc*"}, {"path": "/a/b*"}, False),
        ({"path": "/a/**/c"}, {"path": "/a/*/*/c"}, True),
        ({"path": "/**/c"}, {"path": "/a/**"}, False),
        ({"path": "/**"}, {"digits": "3"}, False),  # a path may also be on another origin
        ({"path": "/**"}, {"path": "//media.bank.example/**"}, False),
        ({"path": "//media.bank.example/**"}, {"path": "//media.bank.example/x"}, True),
        ({"dialled": "**"}, {"path": "/a"}, True),  # and a number dialled
        ({"digits": "**"}, {"path": "/a"}, False),  # but few have digits
        ({"digits": "**"}, {"path": "/a", "digits": "?"}, True),
        ({"method": "POST"}, {"path": "/a"}, False),
        ({"hours": WORK}, {"path": "/a"}, False),
        ({"path": "/a"}, {"path": "/a", "method": "POST", "hours": WORK}, True),
        ({"path": "/a"}, {"transfer": Target("*", "*")}, False),
        ({"transfer": Target("*", "*")}, {"path": "/a"}, False),
        ({"transfer": Target("*", "**")}, {"transfer": Target("sip", "a/b")}, True),
        ({"transfer": Target("enqueue", "*")}, {"transfer": Target("sip", "a")}, False),
        ({"transfer": Target("enqueue", "team/*")}, {"transfer": Target("enqueue", "team/a/b")}, True),
        ({"transfer": Target("enqueue", "team/**")}, {"transfer": Target("enqueue", "team")}, False),
        ({"transfer": Target("enqueue", "a*")}, {"transfer": Target("enqueue", "ab*")}, True),
    ],
)
def test_shadows(earlier, later, expected):
    """Each condition of the earlier rule is at least as wide. It says no wherever it cannot tell."""
    assert expected is shadows(Rule(ANYONE, **earlier), Rule(ANYONE, **later))


segments = st.sampled_from(["a", "b", "ab"])
literal_paths = st.lists(segments, max_size=3).map(lambda parts: "/" + "/".join(parts))
path_globs = st.lists(segments | st.sampled_from(["*", "**", "a*", "?", "a?", "**b"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
) | st.just("**")
texts = st.text("ab/", max_size=3)
text_globs = st.text("ab/*?", min_size=1, max_size=3)
kinds = st.sampled_from(["sip", "enqueue"])
some_rules = st.builds(
    Rule,
    st.just(ANYONE),
    path=st.none() | path_globs,
    digits=st.none() | st.text("13*?", min_size=1, max_size=2),
    method=st.sampled_from([None, "GET", "POST"]),
    dialled=st.none() | st.sampled_from(["+1", "+*", "**", "+?"]),
    transfer=st.none() | st.builds(Target, kinds | st.just("*"), text_globs),
    hours=st.sampled_from([None, WORK]),
)
some_visits = st.builds(
    Visit,
    path=literal_paths,
    method=st.sampled_from(["GET", "POST"]),
    dialled=st.sampled_from(["+1", "+2"]),
    weekday=st.integers(0, 6),
    minute=st.integers(0, 1439),
    digits=st.none() | st.text("13", max_size=2),
    transfer=st.none() | st.builds(Target, kinds, texts),
)


@given(earlier=some_rules, later=some_rules, visits=st.lists(some_visits, min_size=5, max_size=20))
def test_a_shadowed_rule_never_could_apply(earlier, later, visits):
    """`check` never refuses a rule that has an effect: where one shadows another, it takes every visit of it."""
    if not shadows(earlier, later):
        return
    for what in visits:
        if miss(later, what) is None:
            assert miss(earlier, what) is None


@given(wide=some_rules, narrow=some_rules, what=some_visits)
def test_a_narrowed_rule_is_seen_in_the_shadow_of_its_wider_one(wide, narrow, what):
    """A condition more than the earlier rule has: nothing is left for the later one."""
    conditions = ("path", "digits", "method", "dialled", "transfer", "hours")
    both = {name: getattr(wide, name) or getattr(narrow, name) for name in conditions}
    if (wide.transfer is None) != (both["transfer"] is None):
        return

    assert shadows(wide, Rule(ANYONE, **both))


@given(rules=st.lists(some_rules, max_size=8))
def test_every_hidden_rule_is_found_with_the_first_that_hides_it(rules):
    """Only some of the earlier ones are looked at, and none is missed by that. Two will do, one for each method."""
    expected = []
    for position, rule in enumerate(rules):
        alone = [at for at in range(position) if shadows(rules[at], rule)]
        each = [
            next((at for at in range(position) if shadows(rules[at], replace(rule, method=method))), position)
            for method in ([rule.method] if rule.method else ["GET", "POST"])
        ]
        if max(each) < position:
            together = max(each)
            expected.append(
                (position, (alone[0],) if alone and alone[0] <= together else tuple(sorted(each)))
            )

    assert list(hidden(rules)) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(ANYONE, path="/a"), True),
        (Rule(ANYONE, transfer=Target("*", "*"), dialled="**"), True),
        (Rule(ANYONE, path="/a", digits="3"), False),
        (Rule(ANYONE, path="/a", method="POST"), False),
        (Rule(ANYONE, path="/a", hours=WORK), False),
        (Rule(ANYONE, path="/a", dialled="+1*"), False),
    ],
)
def test_unconditional_rules(rule, expected):
    """A path or a transfer, and nothing else."""
    assert is_unconditional(rule) is expected


DESK = Target("enqueue", "wire-desk")


@pytest.mark.parametrize(
    ("rule", "entry", "common", "covered"),
    [
        (Rule(Demand("two"), path="/wire/**"), "/wire/**", "/wire", True),
        (Rule(Demand("two"), path="/w*/**"), "/wire/**", "/wire", True),
        (Rule(Demand("two"), path="/wire/*"), "/wire/**", "/wire/", False),
        (Rule(Demand("two"), path="/wire/**", digits="3"), "/wire/**", "/wire", False),
        (Rule(Demand("two"), path="/hours"), "/wire/**", None, False),
        (Rule(Demand("two"), digits="3"), "/wire/*", "/wire/", False),
        (Rule(Demand("two"), dialled="**"), "/wire/*", "/wire/", True),
        (Rule(Demand("two"), path="/wire/**"), DESK, None, False),
        (Rule(Demand("two"), transfer=Target("*", "*")), "/wire/**", None, False),
        (Rule(Demand("two"), transfer=Target("*", "*")), DESK, "enqueue:wire-desk", True),
        (Rule(Demand("two"), transfer=Target("enqueue", "wire-*")), DESK, "enqueue:wire-desk", True),
        (Rule(Demand("two"), transfer=DESK), Target("enqueue", "*"), "enqueue:wire-desk", False),
        (Rule(Demand("two"), transfer=DESK, path="/menu"), DESK, "enqueue:wire-desk", False),
        (Rule(Demand("two"), transfer=Target("sip", "*")), DESK, None, False),
        (Rule(Demand("two"), transfer=Target("enqueue", "desk")), DESK, None, False),
    ],
)
def test_what_a_rule_has_to_do_with_what_is_sensitive(rule, entry, common, covered):
    """Something that both mean, and whether the rule decides all of it."""
    assert in_common(rule, entry) == common
    if common is not None:
        assert covers_entry(rule, entry) is covered


def test_a_target_covers_another_by_kind_and_name():
    """Both must be as wide."""
    assert covers_target(Target("*", "*"), DESK)
    assert not covers_target(Target("sip", "*"), DESK)
    assert not covers_target(Target("enqueue", "desk"), DESK)
