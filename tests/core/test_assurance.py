"""What a call has proved, and which level that makes: derived each time, from proofs with their age."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import (
    AMR,
    CATEGORY,
    CLOCK_SKEW_MS,
    AllOf,
    AnyOf,
    Category,
    Freshness,
    Kind,
    Proof,
    amr,
    authenticated_ms,
    categories,
    factors_of,
    least,
    plan,
    proved,
    reached,
    said_for,
    satisfied,
    ways,
)

NOW_MS = 1_000_000_000
KINDS = {"pin": Kind.PIN, "code": Kind.SMS_CODE, "app": Kind.TOTP}
ONE = AnyOf(("pin", "code", "app"))
TWO = AllOf(("pin", AnyOf(("code", "app"))))

factors = st.sampled_from(["pin", "code", "app"])
some_factors = st.frozensets(factors)
expressions = st.recursive(
    factors,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3).map(lambda of: AnyOf(tuple(of))),
        st.lists(parts, max_size=3).map(lambda of: AllOf(tuple(of))),
    ),
    max_leaves=8,
)


def proof(factor="pin", *, age_ms=0, turn=5):
    return Proof(factor, KINDS[factor], NOW_MS - age_ms, turn)


def names(*factors_):
    return frozenset(factors_)


# ── which proofs count ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("freshness", "age_ms", "turn", "expected"),
    [
        # any age
        (Freshness(), 0, 5, True),
        (Freshness(), 10**9, 5, True),
        # `within`: so old and no older
        (Freshness(within_s=300), 300_000, 5, True),
        (Freshness(within_s=300), 300_001, 5, False),
        # the clocks of two nodes differ a little, and no more
        (Freshness(), -CLOCK_SKEW_MS, 5, True),
        (Freshness(), -CLOCK_SKEW_MS - 1, 5, False),
        # `reverify`: made since the transfer was asked for
        (Freshness(since_turn=5), 60_000, 5, True),
        (Freshness(since_turn=6), 60_000, 5, False),
        (Freshness(since_turn=6), 0, 5, False),  # in the very webhook that brought the transfer
        (Freshness(since_turn=6), -1_000, 5, False),  # the same, by a faster clock
        # `fresh`: or younger than so much
        (Freshness(since_turn=6, fresh_s=30), 29_999, 5, True),
        (Freshness(since_turn=6, fresh_s=30), 30_000, 5, False),
        (Freshness(since_turn=6, fresh_s=30), -1_000, 5, True),
        # both at once: the stricter one
        (Freshness(within_s=10, since_turn=5), 10_001, 5, False),
        (Freshness(within_s=10, since_turn=6, fresh_s=60), 10_001, 5, False),
    ],
)
def test_which_proofs_count(freshness, age_ms, turn, expected):
    """Older than `within`, from the future, or made before a transfer that wants a fresh one: does not count."""
    assert expected is freshness.counts(proof(age_ms=age_ms, turn=turn), NOW_MS)


@given(
    within_s=st.integers(0, 10**6),
    late_ms=st.integers(1, 10**10),
    turn=st.integers(0, 50),
    since_turn=st.integers(0, 50),
    fresh_s=st.integers(0, 10**6),
)
def test_a_proof_older_than_within_never_counts(within_s, late_ms, turn, since_turn, fresh_s):
    """No other condition brings back what is too old."""
    freshness = Freshness(within_s, since_turn, fresh_s)

    assert not freshness.counts(proof(age_ms=within_s * 1000 + late_ms, turn=turn), NOW_MS)


@given(age_ms=st.integers(-CLOCK_SKEW_MS, 10**9), turn=st.integers(0, 49))
def test_without_fresh_a_proof_made_before_the_transfer_never_counts(age_ms, turn):
    """`fresh` is 0 unless the admin says otherwise: no age is young enough then."""
    assert not Freshness(since_turn=turn + 1).counts(proof(age_ms=age_ms, turn=turn), NOW_MS)


def test_proved_are_the_factors_whose_proofs_count():
    """One proof that counts is enough for its factor."""
    proofs = (proof("pin", age_ms=400_000), proof("code", age_ms=10), proof("pin", age_ms=301_000))

    assert names("code") == proved(proofs, Freshness(300), NOW_MS)
    assert names("pin", "code") == proved(proofs, Freshness(), NOW_MS)


# ── levels ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "have", "expected"),
    [
        ("pin", names("pin"), True),
        ("pin", names("code", "app"), False),
        (ONE, names("app"), True),
        (ONE, names(), False),
        (TWO, names("pin"), False),
        (TWO, names("code", "app"), False),
        (TWO, names("pin", "app"), True),
        (AnyOf(()), names("pin", "code", "app"), False),
        (AllOf(()), names("pin", "code", "app"), False),  # left empty: held by nobody, not by everybody
    ],
)
def test_satisfied(expression, have, expected):
    """Any one, or all together; an empty part is fulfilled by nothing."""
    assert expected is satisfied(expression, have)


@pytest.mark.parametrize(
    ("expression", "have", "able", "expected"),
    [
        (ONE, names(), names("pin", "code", "app"), ("pin",)),
        (ONE, names(), names("app", "code"), ("code",)),
        (ONE, names("app"), names("pin"), ()),
        (TWO, names(), names("pin", "code", "app"), ("pin", "code")),
        (TWO, names(), names("pin", "app"), ("pin", "app")),
        (TWO, names("pin"), names("app"), ("app",)),
        (TWO, names("code"), names("pin"), ("pin",)),
        (TWO, names("pin"), names("pin"), None),
        ("pin", names(), names("code"), None),
        # one question that serves two parts is asked once, even if a part named another one first
        (AllOf((AnyOf(("pin", "code")), "code")), names(), names("pin", "code"), ("code",)),
        (AllOf(()), names(), names("pin"), None),
    ],
)
def test_plan(expression, have, able, expected):
    """The fewest questions that reach the level, in the order written; None: no questions can."""
    assert expected == plan(expression, have, able)


@given(expression=expressions, have=some_factors, able=some_factors)
def test_a_plan_is_sufficient_and_minimal(expression, have, able):
    """Once its questions are answered the level is held; no fewer questions do; None means that none do."""
    steps = plan(expression, have, able)

    if steps is None:
        assert not satisfied(expression, have | able)
        return
    assert satisfied(expression, have | frozenset(steps))
    assert frozenset(steps) <= able - have
    assert len(set(steps)) == len(steps)
    for count in range(len(steps)):
        assert not any(satisfied(expression, have | names(*fewer)) for fewer in combinations(able, count))


@given(expression=expressions, have=some_factors, more=some_factors)
def test_proving_more_never_loses_a_level(expression, have, more):
    """A level that is held stays held when another factor is proved."""
    if satisfied(expression, have):
        assert satisfied(expression, have | more)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((ONE,), [{"pin"}, {"code"}, {"app"}]),
        ((TWO,), [{"pin", "code"}, {"pin", "app"}]),
        ((AllOf(("pin", AnyOf(("pin", "code")))),), [{"pin"}]),
        ((AnyOf(("pin", AllOf(("pin", "code")))),), [{"pin"}]),
        ((TWO, "code"), [{"pin", "code"}]),
        ((AllOf(()),), []),
        ((), []),
    ],
)
def test_ways(levels, expected):
    """The least sets, the smallest first; of several levels those that reach them all."""
    assert [set(way) for way in ways(*levels)] == expected


@given(expression=expressions, have=some_factors)
def test_every_proof_of_a_level_holds_one_of_its_ways(expression, have):
    """And nothing else does: the ways are all there is to know of a level."""
    assert satisfied(expression, have) is any(way <= have for way in ways(expression))


def test_factors_of_names_every_factor_wherever_it_stands():
    """Nested ones too."""
    assert names("pin", "code", "app") == factors_of(TWO)


@pytest.mark.parametrize(
    ("expression", "expected"), [(ONE, 1), (TWO, 2), ("pin", 1), (AnyOf(()), 0), (AllOf(("pin", "pin")), 1)]
)
def test_least_is_the_fewest_factors_that_reach_the_level(expression, expected):
    """How strong a level is; 0 for one that nobody reaches."""
    assert expected == least(expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("pin", {names(Category.KNOWN)}),
        (ONE, {names(Category.KNOWN), names(Category.HELD)}),
        (TWO, {names(Category.KNOWN, Category.HELD)}),
        (AllOf(("code", "app")), {names(Category.HELD)}),  # two factors, one category
        ("nobody knows this one", set()),
        (AllOf(()), set()),
        (AnyOf(()), set()),
    ],
)
def test_categories_are_what_each_way_to_the_level_rests_on(expression, expected):
    """Two factors are two only if one is known and one is held."""
    assert expected == categories(expression, KINDS)


def test_every_kind_has_a_category_and_a_method_reference():
    """A kind without either could neither be weighed nor named to the IVR."""
    assert set(Kind) == CATEGORY.keys() == AMR.keys()


def test_reached_levels_come_strongest_first():
    """The strongest one is the first that an IVR sees; equals stay in the order of the flow."""
    levels = {"one": ONE, "known": "pin", "two": TWO, "held": AnyOf(("app",))}

    assert reached(levels, (proof("pin"), proof("code")), Freshness(), NOW_MS) == ("two", "one", "known")
    assert reached(levels, (proof("pin", age_ms=2_000),), Freshness(1), NOW_MS) == ()


@pytest.mark.parametrize(
    ("intent", "expected"),
    [("wire", {"pin", "app", "code"}), ("agent", {"pin", "app"}), ("", {"pin", "app"})],
)
def test_a_code_is_for_what_its_message_said(intent, expected):
    """What was not sent says nothing, and counts for everything."""
    proofs = (proof("pin"), proof("app"), replace(proof("code"), intent="wire"))
    assert {one.factor for one in said_for(proofs, intent)} == expected
    assert said_for((proof("code"),), "") == (proof("code"),)


@pytest.mark.parametrize(
    ("proofs", "age_ms"),
    [
        ((), None),
        ((proof("pin", age_ms=9),), 9),
        ((proof("pin", age_ms=9), proof("code", age_ms=2)), 9),  # two factors: the PIN is old
        ((proof("pin", age_ms=2), proof("code", age_ms=9)), 9),
        (
            (proof("pin", age_ms=5), proof("code", age_ms=9), proof("app", age_ms=2)),
            5,
        ),  # the code is not needed
        ((proof("code", age_ms=9), proof("app", age_ms=2)), 2),  # one factor: either does
        ((proof("pin", age_ms=-CLOCK_SKEW_MS - 1), proof("app", age_ms=7)), 7),  # from the future
    ],
)
def test_a_level_is_as_old_as_the_oldest_proof_it_cannot_do_without(proofs, age_ms):
    """A new code does not make an old PIN young, and a proof that is not needed does not make the level old."""
    levels = {"one": ONE, "two": TWO}
    expected = 0 if age_ms is None else NOW_MS - age_ms

    assert expected == authenticated_ms(levels, proofs, Freshness(), NOW_MS)


def test_without_a_level_it_is_the_last_proof_s_time():
    """Something was proved, though no level is made of it."""
    proofs = (proof("pin", age_ms=9), proof("code", age_ms=2))
    assert authenticated_ms({}, proofs, Freshness(), NOW_MS) == NOW_MS - 2


@given(st.lists(st.tuples(st.sampled_from(["pin", "code", "app"]), st.integers(0, 9)), max_size=3))
def test_whoever_asks_for_that_age_is_given_the_level_and_no_younger_one(made):
    """For any proofs: the level holds with `max_age` set to its age, and with a millisecond less it does not."""
    proofs = tuple(proof(factor, age_ms=age_ms) for factor, age_ms in dict(made).items())
    levels = {"two": TWO}
    age_ms = NOW_MS - authenticated_ms(levels, proofs, Freshness(), NOW_MS)
    within = [
        frozenset(one.factor for one in proofs if NOW_MS - one.at_ms <= age_ms - less) for less in (0, 1)
    ]
    if reached(levels, proofs, Freshness(), NOW_MS):
        assert [satisfied(TWO, have) for have in within] == [True, False]


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [
        ((), ()),
        ((proof("pin"),), ("pin",)),
        ((proof("code"), proof("app")), ("otp", "sms")),  # both are held: not several factors
        ((proof("pin"), proof("app")), ("pin", "otp", "mfa")),
        ((proof("pin"), proof("code", age_ms=301_000)), ("pin",)),
    ],
)
def test_amr_names_the_methods_that_count(proofs, expected):
    """RFC 8176 values, each once; `mfa` only for two categories."""
    assert expected == amr(proofs, Freshness(300), NOW_MS)
