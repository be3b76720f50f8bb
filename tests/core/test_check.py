"""Every fault of a flow that can be known before a call, each at its place and with its mend."""

from dataclasses import replace

import pytest

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.check import ANSWER_S, TURN_S, WITHIN_S_MIN, check, did_you_mean
from ivrguard.core.flow import (
    PROMPTS,
    Catalogue,
    Factor,
    Flow,
    Identify,
    Locks,
    PinChange,
    Sends,
    Upstream,
    Via,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import ANYONE, Demand, Hours, Rule, Target
from ivrguard.core.sense import Sense

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
    prompts={**dict.fromkeys(PROMPTS, "words"), "ask.account_number": "a number", "intent.wire": "a wire"},
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
    hidden = Rule(Demand("two"), path="/news/today")
    flow = replace(
        GOOD, rules=(Rule(Demand("one"), path="/x"), Rule(ANYONE, path="/news/**"), hidden, ANY_TRANSFER)
    )

    assert (only(flow)[0], only(flow)[1][:35]) == (("rules", 2), "this rule can never apply: rules[1]")


def test_two_rules_may_hide_a_third_together():
    """One for each method: nothing is left. Both are named."""
    both = (Rule(Demand("one"), path="/x", method="POST"), Rule(Demand("two"), path="/**", method="GET"))
    flow = replace(GOOD, rules=(*both, Rule(Demand("one"), path="/x"), ANY_TRANSFER))

    found = only(flow)
    assert (found[0], found[1][:63]) == (
        ("rules", 2),
        "this rule can never apply: rules[0] and rules[1] together match",
    )


MEDIA = Upstream("https://ivr.bank.example/voice", ("https://media.bank.example", "https://x.example:8443"))


@pytest.mark.parametrize(
    ("changes", "rule", "place"),
    [
        ({}, {"dialled": "+18005550100"}, None),
        ({}, {"dialled": "+1800*"}, None),
        ({}, {"dialled": "+1900*"}, "dialled"),
        ({"numbers": ("*",)}, {"dialled": "+1900*"}, None),
        ({"numbers": ("+18005550100", "sip:help@bank.example")}, {"dialled": "sip:*"}, None),
        ({}, {"path": "//media.bank.example/**"}, "path"),
        ({"upstream": MEDIA}, {"path": "//media.bank.example/**"}, None),
        ({"upstream": MEDIA}, {"path": "//media.bank.example/greeting"}, None),
        ({"upstream": MEDIA}, {"path": "//*.bank.example/**"}, None),
        ({"upstream": MEDIA}, {"path": "//x.example:8443/a"}, None),
        ({"upstream": MEDIA}, {"path": "//x.example/a"}, "path"),
        ({"upstream": MEDIA}, {"path": "//ivr.bank.example/a"}, "path"),  # it mirrors that one: `/a`
    ],
)
def test_a_rule_about_what_never_comes_here_is_a_fault(changes, rule, place):
    """Numbers of another flow, and places where no document may point."""
    flow = replace(GOOD, rules=(Rule(Demand("one"), **rule), ANY_TRANSFER), **changes)
    if place is None:
        assert faults(flow) == []
        return

    assert only(flow)[0] == ("rules", 0, place)
    assert only(flow)[1].startswith("this rule can never apply: ")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/wire/**", "wire"),
        ("/my-account/Balance", "account"),
        ("/change_PIN", "pin"),
        ("/pay2", "pay"),
    ],
)
def test_a_path_that_sounds_worth_protecting_and_is_open_is_doubted(path, word):
    """By its words, not by letters in them."""
    flow = replace(GOOD, rules=(Rule(ANYONE, path=path), ANY_TRANSFER))

    assert only(flow)[0] == ("rules", 0, "allow")
    assert only(flow)[1].startswith(f"? '{word}' seldom leads to what is open to anyone")


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Demand("one"), path="/wire/**"),
        Rule(ANYONE, path="/hours"),
        Rule(ANYONE, path="/spinning/wired"),
        Rule(ANYONE, digits="0"),
        Rule(ANYONE, transfer=Target("enqueue", "lost-cards"), path="/card"),
    ],
)
def test_other_paths_are_not_doubted(rule):
    """Protected, harmless, another word, none, or a transfer: a lost card is no secret."""
    flow = replace(GOOD, rules=(rule, ANY_TRANSFER))

    assert faults(flow) == []


@pytest.mark.parametrize(
    ("rules", "places"),
    [
        ((Rule(Demand("two"), transfer=Target("enqueue", "a")),), [("rules",)]),
        ((Rule(Demand("two"), transfer=Target("enqueue", "a"), hours=WORK),), [("rules", 0, "transfer"), ("rules",)]),
        ((Rule(Demand("two"), transfer=Target("enqueue", "a"), hours=WORK), ANY_TRANSFER), []),
        ((Rule(Demand("two"), transfer=Target("*", "*"), digits="3"),), [("rules", 0, "transfer")]),
        ((Rule(Demand("two"), transfer=Target("*", "*"), path="/x"),), [("rules", 0, "transfer")]),
        (
            (
                Rule(Demand("two"), transfer=Target("enqueue", "a"), hours=WORK),
                Rule(Demand("two"), transfer=Target("enqueue", "*")),
            ),
            [("rules",)],
        ),
    ],
)  # fmt: skip
def test_transfers_that_only_the_default_decides_are_doubted(rules, places):
    """Now and then, or those that no rule names: they need no fresh proof."""
    found = faults(replace(GOOD, rules=rules))

    assert [place for place, _ in found] == places
    assert all(message.startswith("? ") for _, message in found)


# ── how long questions take ──────────────────────────────────────────────────────────────────────────────

PIN_S, CODE_S, APP_S = (ANSWER_S[kind] for kind in (Kind.PIN, Kind.SMS_CODE, Kind.TOTP))


@pytest.mark.parametrize(
    ("level", "reverify", "quickest", "slowest"),
    [
        ("pin", None, TURN_S, TURN_S),
        (AnyOf(("pin", "code", "app")), None, TURN_S, TURN_S),
        (AllOf(("pin", "code")), None, CODE_S + TURN_S, CODE_S + TURN_S),
        (AllOf(("code", "pin")), None, PIN_S + TURN_S, PIN_S + TURN_S),
        (AllOf(("pin", AnyOf(("code", "app")))), None, APP_S + TURN_S, CODE_S + TURN_S),
        (AllOf(("pin", "code", "app")), None, CODE_S + APP_S + TURN_S, CODE_S + APP_S + TURN_S),
        # what a transfer wants anew is asked afterwards, if it is not among the questions already
        (AllOf(("pin", "app")), "one", APP_S + TURN_S, APP_S + TURN_S),
        ("pin", "code", CODE_S + TURN_S, CODE_S + TURN_S),
    ],
)
def test_within_leaves_time_for_the_questions(level, reverify, quickest, slowest):
    """The first proof must outlive the later questions: too short for all ways is an error, for some a doubt."""
    levels = {"asked": level, "one": AnyOf(("pin", "code", "app")), "code": "code"}

    def found(within_s):
        demand = Demand("asked", within_s, reverify=reverify)
        flow = replace(GOOD, levels=levels, rules=(Rule(demand, transfer=Target("*", "*")),))
        return [(one.error, one.message) for one in check(flow) if one.place == ("rules", 0, "within")]

    for seconds in {WITHIN_S_MIN - 1, quickest - 1, quickest, slowest - 1, slowest, slowest + WITHIN_S_MIN}:
        is_error = seconds < max(WITHIN_S_MIN, quickest)
        is_doubt = not is_error and seconds < slowest
        assert [error for error, _ in found(seconds)] == [is_error] * (is_error or is_doubt), seconds
        assert all(f"use {max(WITHIN_S_MIN, slowest)}s or more" in message for _, message in found(seconds))


def test_what_two_rules_ask_for_alike_is_told_for_each():
    """Each at its own place."""
    demand = Demand("two", 29)
    flow = replace(GOOD, rules=(Rule(demand, path="/a"), Rule(demand, path="/b"), ANY_TRANSFER))

    assert [place for place, _ in faults(flow)] == [("rules", 0, "within"), ("rules", 1, "within")]


@pytest.mark.parametrize("level", [AllOf(("pin", "dangling")), AllOf(())])
def test_nothing_is_said_of_the_time_of_questions_that_cannot_be_asked(level):
    """What is wrong with the level has been told; the floor holds anyway."""
    flow = replace(GOOD, levels={**GOOD.levels, "two": level}, default=Demand("two", 30))

    assert ("default", "within") not in [place for place, _ in faults(flow)]
    assert ("default", "within") in [place for place, _ in faults(replace(flow, default=Demand("two", 29)))]


# ── codes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "place", "message"),
    [
        (Factor(Kind.SMS_CODE, 6, 600, Sends(5), Via.VERIFY), None, ""),
        (Factor(Kind.SMS_CODE, 6, 300, Sends(6), Via.MESSAGES), None, ""),
        (Factor(Kind.SMS_CODE, 6, 600, Sends(6), Via.VERIFY), ("sends", "per_call"), "Verify sends a code 5 times"),
        (Factor(Kind.SMS_CODE, 6, 300, Sends(5), Via.VERIFY), ("valid",), "Verify's codes live 10m"),
        (Factor(Kind.SMS_CODE, 6, 601, Sends(5), Via.VERIFY), ("valid",), "a code may live 10m at most"),
        (Factor(Kind.SMS_CODE, 4, 600, Sends(5), Via.VERIFY), ("digits",), "a code of 4 digits: use 6 or more"),
    ],
)  # fmt: skip
def test_codes_keep_to_verifys_limits(code, place, message):
    """Five sends and ten minutes, whatever a flow says."""
    flow = replace(GOOD, factors={**GOOD.factors, "code": code})
    if place is None:
        assert faults(flow) == []
        return

    assert only(flow)[0] == ("factors", "code", *place)
    assert only(flow)[1].startswith(message)


# ── languages ────────────────────────────────────────────────────────────────────────────────────────────

WORDS = GOOD.prompts
OFFERED = Identify("account_number", 6, 12, True)


@pytest.mark.parametrize(
    ("languages", "identify", "place", "message"),
    [
        ((Catalogue("en-US", WORDS),), GOOD.identify, (0, "language"), "'en-US' is the flow's own already"),
        (
            (Catalogue("es", WORDS), Catalogue("es", WORDS)),
            GOOD.identify,
            (1, "language"),
            "'es' is languages[0] already",
        ),
        (
            (Catalogue("es", WORDS, key="2"), Catalogue("fr", WORDS, key="2")),
            GOOD.identify,
            (1, "key"),
            "key 2 is taken by languages[0]",
        ),
        ((Catalogue("es", WORDS, key="1"),), OFFERED, (0, "key"), "key 1 is taken by the number on file"),
        (
            (Catalogue("es", WORDS, key="2"),),
            Identify("account_number", 1, 12),
            (0, "key"),
            "an account number may have one digit",
        ),
        (
            (Catalogue("es", {key: "words" for key in WORDS if key != "hold"}),),
            GOOD.identify,
            (0, "language"),
            "prompts/es.yaml has no 'hold'; add it",
        ),
    ],
)
def test_languages_can_be_told_apart(languages, identify, place, message):
    """Each once, each key once, no key that means something else, and every word there."""
    found = only(replace(GOOD, languages=languages, identify=identify))

    assert ("languages", *place) == found[0]
    assert found[1].startswith(message)


def test_languages_that_are_fine():
    """With a key or without; key 1 where nothing else is offered on it."""
    languages = (Catalogue("es", WORDS, key="1"), Catalogue("fr", WORDS, key="0"), Catalogue("de", WORDS))

    assert faults(replace(GOOD, languages=languages)) == []
    assert faults(replace(GOOD, languages=languages[1:], identify=OFFERED)) == []


def test_an_intent_that_a_language_cannot_say_is_doubted_once():
    """At the first rule that states it, for each language that lacks it."""
    wire = Demand("two", intent="wire")
    flow = replace(
        GOOD,
        rules=(Rule(wire, path="/a"), Rule(wire, path="/b"), ANY_TRANSFER),
        languages=(Catalogue("es", {key: words for key, words in WORDS.items() if key != "intent.wire"}),),
    )

    assert faults(flow) == [
        (
            ("rules", 0, "intent"),
            "? prompts/es.yaml has no 'intent.wire': a caller would hear the bare word; add it",
        )
    ]


# ── what is worth protecting ─────────────────────────────────────────────────────────────────────────────

DESK = Target("enqueue", "wire-desk")
TWO = Demand("two")


@pytest.mark.parametrize(
    ("rules", "entry", "messages"),
    [
        ((Rule(TWO, path="/wire/**"),), "/wire/**", []),
        ((Rule(TWO, path="/**"),), "/wire/*", []),
        ((Rule(ANYONE, path="/hours"), Rule(TWO, path="/w*/**")), "/wire/**", []),
        ((Rule(TWO, path="/wire", digits="3"), Rule(TWO, path="/wire/**")), "/wire/**", []),
        ((Rule(TWO, path="/wire/**"), Rule(ANYONE, path="/**")), "/wire/**", []),
        ((Rule(Demand("gone"), path="/wire/**"),), "/wire/**", []),  # told already, where it stands
        ((), "/wire/**", ["no rule decides all of this"]),
        ((Rule(TWO, path="/wire/*"),), "/wire/**", ["no rule decides all of this"]),
        ((Rule(TWO, path="/wire/**", method="POST"),), "/wire/**", ["no rule decides all of this"]),
        ((Rule(ANYONE, path="/wire/**"),), "/wire/**", ["rules[0] opens '/wire' to anyone"]),
        ((Rule(Demand("one"), path="/wire/**"),), "/wire/**", ["rules[0] gives '/wire' for 'one'"]),
        (
            (Rule(ANYONE, path="/*/help", hours=WORK), Rule(TWO, path="/wire/**")),
            "/wire/**",
            ["rules[0] opens '/wire/help' to anyone"],
        ),
        (
            (Rule(Demand("one"), digits="3"), Rule(ANYONE, path="/**/x"), Rule(TWO, path="/wire/**")),
            "/wire/**",
            ["rules[0] gives '/wire' for 'one'", "rules[1] opens '/wire/x' to anyone"],
        ),
        ((Rule(TWO, transfer=DESK),), DESK, []),
        ((Rule(TWO, transfer=Target("enqueue", "wire-*")),), DESK, []),
        ((Rule(ANYONE, transfer=Target("sip", "*")), Rule(TWO, transfer=DESK)), DESK, []),
        ((Rule(ANYONE, path="/**"),), DESK, ["no rule decides all of this"]),
        (
            (Rule(ANYONE, transfer=Target("enqueue", "*")),),
            DESK,
            ["rules[0] opens 'enqueue:wire-desk' to anyone"],
        ),
        (
            (Rule(Demand("one"), transfer=Target("*", "*"), hours=WORK), Rule(TWO, transfer=DESK)),
            Target("enqueue", "wire-*"),
            ["rules[0] gives 'enqueue:wire-' for 'one'", "no rule decides all of this"],
        ),
    ],
)
def test_what_is_sensitive_is_decided_by_a_rule_of_two_categories(rules, entry, messages):
    """Wherever it matches, by none that is open or weaker, and never by the default: with an example of what slips."""
    found = [
        one for one in check(replace(GOOD, rules=rules, sensitive=(entry,))) if one.place[0] == "sensitive"
    ]

    assert all(one.place == ("sensitive", 0) and one.error for one in found)
    assert [one.message[: len(start)] for one, start in zip(found, messages, strict=True)] == messages


def test_not_every_rule_that_lets_one_entry_slip_is_told():
    """Whoever has mended five looks again; forty thousand lines would help nobody."""
    rules = tuple(Rule(ANYONE, path=f"/wire/{number}") for number in range(9))
    found = [
        one
        for one in check(replace(GOOD, rules=rules, sensitive=("/wire/**",)))
        if one.place[0] == "sensitive"
    ]

    assert len(found) == 5


def test_two_held_things_are_one_category():
    """A level of a code and an app protects nothing that is sensitive."""
    flow = replace(
        GOOD,
        levels={**GOOD.levels, "held": AllOf(("code", "app"))},
        rules=(Rule(Demand("held"), path="/wire/**"), ANY_TRANSFER),
        sensitive=("/wire/**",),
    )

    assert [place for place, _ in faults(flow)] == [("levels", "held"), ("sensitive", 0)]


# ── changing a PIN ───────────────────────────────────────────────────────────────────────────────────────

CHANGE = PinChange("/change-pin", Demand("two", 300), "/menu")


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (replace(CHANGE, demand=Demand("one", 300)), ("require",), "with one kind of factor, or none"),
        (replace(CHANGE, demand=Demand(None, 300)), ("require",), "with one kind of factor, or none"),
        (replace(CHANGE, demand=Demand("gone", 300)), ("require",), "there is no level 'gone'"),
        (replace(CHANGE, demand=Demand("two", 29)), ("within",), "29s is over before a caller has answered"),
        (replace(CHANGE, demand=Demand("two")), (), "? without `within` an old proof will do"),
        (replace(CHANGE, then="/change-pin"), ("then",), "the call would be asked for a new PIN for ever"),
    ],
)
def test_a_pin_is_changed_with_two_fresh_factors(change, place, message):
    """ASVS 5.0, 7.5.1: whoever has one secret must not take the other."""
    found = only(replace(GOOD, pin_change=change))

    assert ("pin_change", *place) == found[0]
    assert found[1].startswith(message)


def test_a_change_of_pin_that_is_fine():
    """And its level counts as used."""
    flow = replace(GOOD, rules=(Rule(Demand("one"), transfer=Target("*", "*")),), pin_change=CHANGE)

    assert faults(flow) == []


def test_only_a_pin_that_there_is_can_be_changed():
    """Without one the level cannot be of two categories either."""
    flow = replace(
        GOOD,
        factors={"code": GOOD.factors["code"], "app": GOOD.factors["app"]},
        levels={"one": AnyOf(("code", "app"))},
        rules=(Rule(Demand("one"), transfer=Target("*", "*")),),
        pin_change=replace(CHANGE, demand=Demand("one", 300)),
    )

    assert faults(flow)[0] == (
        ("pin_change",),
        "there is no factor of kind `pin` to be changed; take this out",
    )


def test_a_rule_for_the_path_of_a_pin_change_is_doubted():
    """The guard answers it before any rule is looked at. A wider rule has other paths to decide."""
    named, wider = Rule(Demand("two"), path="/change-pin"), Rule(Demand("two"), path="/change-*")
    flow = replace(GOOD, rules=(named, wider, ANY_TRANSFER), pin_change=CHANGE)

    assert only(flow)[0] == ("rules", 0, "path")
    assert only(flow)[1].startswith("? this rule never applies here")


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


def test_a_flow_above_its_own_ceiling_is_refused():
    """What its factors allow a guesser in a year (core/budget.py). Locks of no time have been reported."""
    assert faults(replace(GOOD, ceiling=0.01)) == []
    assert only(replace(GOOD, ceiling=0.001))[0] == ("ceiling", "guess_chance_per_year")
    assert only(replace(GOOD, ceiling=0.001, locks=Locks(account=Lockout(5, 3600, (), 100))))[0] == (
        "lockout",
        "lock",
    )


# ── prompts and names ────────────────────────────────────────────────────────────────────────────────────


def test_every_prompt_is_there():
    """A caller is never met with silence."""
    flow = replace(GOOD, prompts={key: "words" for key in WORDS if key != "again"})

    assert faults(flow) == [(("language",), "prompts/en-US.yaml has no 'again'; add it")]


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────

RAISE = ("sense", "raise")


def test_a_level_that_only_an_alert_asks_for_is_used():
    """`strict` stands in no rule. What it raises is as good as before."""
    levels = {**GOOD.levels, "strict": AllOf(("pin", "code", "app"))}
    assert faults(replace(GOOD, levels=levels, sense=Sense(raise_to="strict"))) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"sense": Sense(raise_to="tow")}, "there is no level 'tow'; did you mean 'two'?"),
        ({"sense": Sense(None, None, None, None, None, "two")}, "everything that could raise it is off"),
        ({"sense": Sense(raise_to="one"), "default": Demand("two")}, "? callers need as much everywhere"),
        (
            {
                "sense": Sense(raise_to="two"),
                "levels": {**GOOD.levels, "app_only": AnyOf(("app",))},
                "default": Demand("app_only"),
            },
            "'two' is neither more nor less than 'app_only' (default): nobody could say which",
        ),
        (
            {"sense": Sense(raise_to="two"), "default": Demand("one", within_s=30)},
            "? one way through the questions of this level takes 50s",
        ),
    ],
)
def test_what_an_alert_raises_must_be_more(changed, expected):
    """Never less than the rules ask, in no part of it; and what is asked for must be there to be reached in time."""
    rules = GOOD.rules if "default" not in changed or changed["default"].require == "one" else GOOD.rules[:1]
    if changed["sense"].raise_to == "one":
        rules = (Rule(ANYONE, path="/hours"), Rule(Demand("one"), path="/one"))
    place, words = only_of(replace(GOOD, rules=rules, **changed), RAISE)
    assert place == RAISE
    assert words.startswith(expected)


def only_of(flow, place):
    """The one finding at this place."""
    (found,) = [one for one in faults(flow) if one[0] == place]
    return found


def test_levels_that_cannot_be_looked_at_are_not_compared():
    """What dangles has been reported."""
    flow = replace(GOOD, levels={**GOOD.levels, "odd": AnyOf(("nobody",))}, sense=Sense(raise_to="two"))
    assert [place for place, _ in faults(flow) if place == RAISE] == []


def test_every_language_says_which_number_is_asked_for():
    """The admin's own word is spoken in each of them, or the flow is refused."""
    other = Catalogue("es", {key: words for key, words in WORDS.items() if not key.startswith("ask.")})
    flow = replace(GOOD, identify=Identify("policy_number", 6, 12), languages=(other,))

    assert faults(flow) == [
        (
            ("identify", "ask"),
            f"prompts/{language}.yaml has no 'ask.policy_number': a caller would not hear what to enter; add it",
        )
        for language in ("en-US", "es")
    ]


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
