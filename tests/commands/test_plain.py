"""A flow's parts in plain words: as an admin would say them, and as he writes them."""

import pytest

from ivrguard.commands import plain
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import Factor, Via
from ivrguard.core.lookup import Lookup, Unknown
from ivrguard.core.rules import Demand, Hours, Rule, Target


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Demand(None), "open to anyone"),
        (Demand("two"), "two"),
        (Demand("two", 300, "wire"), "two within 5m, for wire"),
        (Demand("two", 90, "wire", "one"), "two within 90s, then one anew, for wire"),
        (Demand("two", None, "", "one", 30), "two, then one anew (30s old will do)"),
    ],
)
def test_what_a_demand_wants(demand, words):
    """Level, age, what is proved once more, and what it is for."""
    assert plain.needs(demand) == words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(Demand("two"), path="/wire/**"), "/wire/**"),
        (Rule(Demand("two"), path="/menu", digits="3", method="POST"), "/menu, keys 3, by POST"),
        (Rule(Demand("two"), dialled="+1800*"), "dialled +1800*"),
        (Rule(Demand("two"), transfer=Target("*", "*")), "any transfer"),
        (Rule(Demand("two"), transfer=Target("enqueue", "*"), path="/a"), "transfer to enqueue:*, /a"),
        (Rule(Demand("two"), transfer=Target("queue", " ")), "transfer to queue: "),
        (Rule(Demand("two"), hours=Hours(frozenset(range(5)), 480, 1080)), "on mon-fri 08:00-18:00"),
        (Rule(Demand("two"), hours=Hours(frozenset({0, 2, 5, 6}), 1320, 1440)), "on mon,wed,sat-sun 22:00-24:00"),
    ],
)  # fmt: skip
def test_what_a_rule_matches(rule, words):
    """Each condition that it states, and a name as it is, blanks and all."""
    assert plain.conditions(rule) == words


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("pin", "pin"),
        (AnyOf(("pin",)), "pin"),
        (AnyOf(("pin", "code")), "pin or code"),
        (AllOf(("pin", AnyOf(("code", "app")))), "pin and (code or app)"),
        (AllOf(("pin", AnyOf(("code",)))), "pin and code"),
        (AnyOf((AllOf(("pin", "code")), "app")), "(pin and code) or app"),
    ],
)
def test_what_a_level_is_made_of(level, words):
    """Brackets where they are needed, and nowhere else."""
    assert plain.made_of(level) == words


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (Factor(Kind.PIN, 8), "something known: a PIN of 8 digits"),
        (Factor(Kind.TOTP, 6), "something held: an app's code of 6 digits"),
        (Factor(Kind.SMS_CODE, 6, 300), "something held: a texted code of 6 digits, valid 5m"),
        (
            Factor(Kind.SMS_CODE, 7, via=Via.VERIFY, lookup=Lookup(259_200, True, ("mobile",), Unknown.SEND)),
            (
                "something held: a texted code of 7 digits, valid 10m, by Twilio Verify; to mobile only; "
                "not to a SIM swapped in the last 3d; not where calls are forwarded; sent where nobody can say"
            ),
        ),
        (
            Factor(Kind.SMS_CODE, 6, lookup=Lookup(line_types=("mobile", "fixedVoip"))),
            "something held: a texted code of 6 digits, valid 10m; to mobile or fixedVoip only",
        ),
    ],
)
def test_what_a_factor_is(factor, words):
    """Whether it is known or held, how long it is, and what keeps a code back."""
    assert plain.factor(factor) == words
