"""Every fault of a flow that can be known before a call, each at its place and with its mend."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import (
    PLACEHOLDERS,
    PLACEHOLDERS_NEEDED,
    PROMPTS,
    Factor,
    Flow,
    Identify,
    Locks,
    Upstream,
    check,
    did_you_mean,
    shadows,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import ANYONE, Demand, Hours, Rule, Target, Visit, miss

WORK = Hours(frozenset(range(5)), 8 * 60, 18 * 60)
ANY_TRANSFER = Rule(Demand("two", reverify="one"), transfer=Target("*", "*"))

GOOD = Flow(
    name="bank",
    version="0123456789abcdef",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    levels={"one": AnyOf(("pin", "code", "app")), "two": AllOf(("pin", AnyOf(("code", "app"))))},
    rules=(Rule(ANYONE, path="/hours"), ANY_TRANSFER),
    default=Demand("one"),
    prompts={**dict.fromkeys(PROMPTS, "words"), "intent.wire": "a wire"},
)


def faults(flow):
    """Place and first words of every fault; doubts begin with a question mark."""
    return [(finding.place, ("" if finding.error else "? ") + finding.message) for finding in check(flow)]


def only(flow):
    found = faults(flow)
    assert len(found) == 1, found
    return found[0]


def test_a_good_flow_has_neither_fault_nor_doubt():
    """The one that the others here are bent from."""
    assert faults(GOOD) == []


# ── identify and factors ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("identify", "place", "message"),
    [
        (Identify("account_number", 12, 6), ("identify", "digits"), "`min` is more than `max`"),
        (
            Identify("account_number", 1, 6, True),
            ("identify", "digits", "min"),
            "key 1 takes the number on file",
        ),
    ],
)
def test_an_account_number_can_be_keyed(identify, place, message):
    """A number of keys that exists, and that cannot be mistaken for the answer to an offer."""
    found = only(replace(GOOD, identify=identify))

    assert place == found[0]
    assert found[1].startswith(message)


def test_one_digit_accounts_are_fine_where_nothing_is_offered():
    """The key 1 means something only where the number on file is offered."""
    assert faults(replace(GOOD, identify=Identify("account_number", 1, 6))) == []


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"pin": Factor(Kind.PIN, 3)}, ("factors", "pin", "digits"), "a PIN of 3 digits: use 4 or more"),
        (
            {"pin": Factor(Kind.PIN, 6)},
            ("factors", "pin", "digits"),
            "? a PIN of 6 digits falls short of NIST",
        ),
        (
            {"code": Factor(Kind.SMS_CODE, 5)},
            ("factors", "code", "digits"),
            "a code of 5 digits: use 6 or more",
        ),
        (
            {"code": Factor(Kind.SMS_CODE, 6, 601)},
            ("factors", "code", "valid"),
            "a code may live 10m at most",
        ),
    ],
)
def test_factors_are_strong_enough(changes, place, message):
    """PINs and codes have the digits, and codes the life, that NIST SP 800-63B-4 asks for."""
    found = only(replace(GOOD, factors={**GOOD.factors, **changes}))

    assert place == found[0]
    assert found[1].startswith(message)


def test_two_factors_of_one_kind_are_one_secret():
    """An account has one credential of a kind: asked for twice it would count as two factors, and be guessed twice."""
    flow = replace(
        GOOD,
        factors={**GOOD.factors, "pin2": Factor(Kind.PIN, 8)},
        levels={**GOOD.levels, "two": AllOf(("pin", "pin2"))},
    )

    place, message = only(flow)

    assert place == ("factors", "pin2", "kind")
    assert message.startswith("'pin' is of this kind already")


def test_a_flow_without_factors_proves_nothing():
    """One fault, and those that follow from it."""
    found = faults(replace(GOOD, factors={}, levels={}, rules=(), default=ANYONE))

    assert (found[0][0], found[0][1][:18]) == (("factors",), "there is no factor")


def test_a_factor_that_no_level_names_is_doubted():
    """Enrolling it would be for nothing."""
    flow = replace(GOOD, levels={"one": "pin", "two": AllOf(("pin", "code"))})

    assert only(flow)[0] == ("factors", "app")
    assert only(flow)[1][:27] == "? no level uses this factor"


# ── levels ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_that_dangles_is_reported_where_it_stands():
    """With the nearest name there is."""
    flow = replace(GOOD, levels={**GOOD.levels, "two": AllOf(("pin", AnyOf(("code", "ap"))))})

    assert tuple(faults(flow)) == (
        (("levels", "two", "all", 1, "any", 1), "there is no factor 'ap'; did you mean 'app'?"),
    )


@pytest.mark.parametrize("empty", [AnyOf(()), AllOf(()), AllOf(("pin", AnyOf(())))])
def test_a_level_that_nobody_can_reach_is_a_fault(empty):
    """All of its callers would be refused."""
    found = only(replace(GOOD, levels={**GOOD.levels, "two": empty}))

    assert (found[0], found[1][:27]) == (("levels", "two"), "nobody can reach this level")


def test_two_factors_of_one_category_are_doubted():
    """Something known and something held are two factors; two things held are one, twice."""
    found = only(replace(GOOD, levels={**GOOD.levels, "two": AllOf(("code", "app"))}))

    assert found[0] == ("levels", "two")
    assert found[1].startswith("? two factors here can both be of one category")


def test_levels_that_nothing_asks_for_are_doubted_in_the_order_of_the_file():
    """`default` counts as a use, and so does `reverify`."""
    flow = replace(GOOD, levels={"b": "pin", **GOOD.levels, "a": "code"})

    assert [place for place, _ in faults(flow)] == [("levels", "b"), ("levels", "a")]


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("demand", "key", "message"),
    [
        (Demand("tow"), "require", "there is no level 'tow'; did you mean 'two'?"),
        (Demand("pin"), "require", "there is no level 'pin'; 'pin' is a factor: add a level made of it"),
        (Demand("two", reverify="three"), "reverify", "there is no level 'three'; known: one, two"),
        (Demand("two", within_s=29), "within", "29s is over before a caller has answered"),
        (Demand(None, reverify="one"), "reverify", "a transfer open to anyone asks for nothing"),
        (Demand("two", intent="loan"), "intent", "? prompts/en-US.yaml has no 'intent.loan'"),
    ],
)
def test_what_a_rule_demands_can_be_had(demand, key, message):
    """Names that are there, ages that leave time to answer, and no fresh proof of nothing."""
    rule = Rule(demand, transfer=Target("enqueue", "x"))
    found = only(replace(GOOD, rules=(rule, *GOOD.rules)))

    assert ("rules", 0, key) == found[0]
    assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("flow", "place"),
    [
        (replace(GOOD, rules=(Rule(Demand("two", reverify="one"), path="/x"), ANY_TRANSFER)), ("rules", 0)),
        (replace(GOOD, default=Demand("one", reverify="one")), ("default",)),
    ],
)
def test_only_a_transfer_can_want_a_fresh_proof(flow, place):
    """Anywhere else every single request would ask anew."""
    assert ((*place, "reverify"), "only a transfer can want a fresh proof") == (
        only(flow)[0],
        only(flow)[1][:38],
    )


def test_a_default_open_to_anyone_is_doubted():
    """It is allowed, and seldom meant."""
    assert (
        only(replace(GOOD, default=ANYONE))[0],
        only(replace(GOOD, default=ANYONE))[1][:42],
    ) == (("default",), "? whatever no rule names is open to anyone")


def test_transfers_that_no_rule_speaks_of_are_doubted():
    """A hand-over is where this product earns its keep."""
    flow = replace(GOOD, rules=GOOD.rules[:1], levels={"one": ONE_OF_ALL})

    assert (only(flow)[0], only(flow)[1][:29]) == (("rules",), "? no rule speaks of transfers")


ONE_OF_ALL = AnyOf(("pin", "code", "app"))


def test_a_rule_in_the_shadow_of_an_earlier_one_is_a_fault():
    """The one that hides it is named."""
    hidden = Rule(Demand("two"), path="/wire/confirm")
    flow = replace(
        GOOD, rules=(Rule(Demand("one"), path="/x"), Rule(ANYONE, path="/wire/**"), hidden, ANY_TRANSFER)
    )

    assert (only(flow)[0], only(flow)[1][:35]) == (("rules", 2), "this rule can never apply: rules[1]")


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
        ({"path": "/a/b*"}, {"path": "/a/bc*"}, False),  # it does, but that is more than is worked out
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
        ({"transfer": Target("enqueue", "a*")}, {"transfer": Target("enqueue", "ab*")}, False),
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


# ── lockout ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("locks", "place", "message"),
    [
        (Locks(account=Lockout(5, 3600, (1800,), 0)), ("lockout", "lifetime"), "? NIST SP 800-63B-4, 3.2.2"),
        (
            Locks(account=Lockout(5, 3600, (1800,), 101)),
            ("lockout", "lifetime"),
            "? NIST SP 800-63B-4, 3.2.2",
        ),
        (Locks(account=Lockout(5, 3600, (0, 60), 100)), ("lockout", "lock"), "a lock of no time is none"),
        (Locks(account=Lockout(5, 3600, (), 100)), ("lockout", "lock"), "a lock of no time is none"),
        (Locks(account=Lockout(5, 3600, (60, 30), 100)), ("lockout", "lock"), "? a further lock is shorter"),
        (
            Locks(caller_number=Lockout(5, 3600, (0,))),
            ("lockout", "caller_number", "lock"),
            "a lock of no time is none",
        ),
        (Locks(caller_number=None), ("lockout", "caller_number"), "? one number may guess at account after"),
    ],
)
def test_locks_lock(locks, place, message):
    """A lock lasts, grows, and has an end for each account."""
    found = only(replace(GOOD, locks=locks))

    assert place == found[0]
    assert found[1].startswith(message)


# ── prompts and names ────────────────────────────────────────────────────────────────────────────────────


def test_every_prompt_is_there():
    """A caller is never met with silence."""
    flow = replace(GOOD, prompts={key: "words" for key in PROMPTS if key != "again"})

    assert faults(flow) == [(("language",), "prompts/en-US.yaml has no 'again'; add it")]


def test_what_is_filled_in_is_filled_into_a_prompt_that_there_is():
    """The two tables speak of the same prompts."""
    assert PLACEHOLDERS.keys() <= set(PROMPTS)
    assert all(name in PLACEHOLDERS[key] for key, name in PLACEHOLDERS_NEEDED.items())


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("two_factr", ("one_factor", "two_factor"), "; did you mean 'two_factor'?"),
        ("xyz", ("pin", "code"), "; known: code, pin"),
        ("xyz", {}, ""),
    ],
)
def test_did_you_mean(name, known, expected):
    """The nearest name, or all there are."""
    assert expected == did_you_mean(name, known)
