"""
What standards ask of a flow: every clause is broken once, at its place, and with its mend.

The figures are those of the texts (the profiles' docstring names them): the last one that passes and the first that
does not stand side by side.
"""

from dataclasses import replace

import pytest

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.check import check
from ivrguard.core.flow import (
    PROMPTS,
    Factor,
    Flow,
    Identify,
    Locks,
    PinChange,
    Recording,
    Upstream,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Lookup
from ivrguard.core.profiles import PROFILES, judged
from ivrguard.core.rules import Demand, Rule, Target

ACCOUNT = Lockout(5, 3600, (1800, 7200), 100)
CODE = Factor(Kind.SMS_CODE, 6, lookup=Lookup(sim_swap_s=72 * 3600))
APP = Factor(Kind.TOTP, 6)
BOTH = AllOf(("pin", AnyOf(("code", "app"))))

GOOD = Flow(
    name="bank",
    version="0123456789abcdef",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": CODE, "app": APP},
    levels={"both": BOTH, "one": AnyOf(("pin", "code", "app"))},
    rules=(
        Rule(Demand("both", 300), path="/wire/**"),
        Rule(Demand("both", reverify="one"), transfer=Target("*", "*")),
    ),
    default=Demand("both", 300),
    locks=Locks(account=ACCOUNT),
    prompts={**dict.fromkeys(PROMPTS, "words"), "ask.account_number": "your account number"},
    sensitive=("/wire/**",),
    recording=Recording.MUST_PAUSE,
)
"""Keeps to everything. What nobody can keep to, and is a doubt, stands in `WEIGHED`."""

WEIGHED = {
    "psd2-sca": ["PSD2 RTS, Art. 4(4)"],
    "asvs-5": ["OWASP ASVS 5.0, 6.5.5"],
    "strict": ["OWASP ASVS 5.0, 6.5.5"],
}


def found(flow, name):
    """Every finding of a profile: its clause, place, first words; doubts begin with a question mark."""
    lines = judged(flow, PROFILES[name])
    return [
        (
            line.clause.id,
            one.place,
            ("" if one.error else "? ") + one.message.removeprefix(f"{line.clause.id}: "),
        )
        for line in lines
        for one in line.findings
    ]


def with_factors(**factors):
    return replace(GOOD, factors={**GOOD.factors, **factors})


def with_locks(**changes):
    """Of the account; `caller_number` and `trusted_lane` beside it."""
    beside = {key: changes.pop(key) for key in ("caller_number", "trusted_lane") if key in changes}
    return replace(GOOD, locks=Locks(account=replace(ACCOUNT, **changes), **beside))


def test_a_flow_that_keeps_to_every_profile():
    """The one that the others here are bent from: no error, and only the doubts that every such flow has."""
    assert check(GOOD) == ()
    for name, profile in PROFILES.items():
        assert [clause for clause, _, _ in found(GOOD, name)] == WEIGHED.get(name, [])
        assert all(line.holds for line in judged(GOOD, profile))


NIST, PCI, PSD2, ASVS, STRICT = PROFILES
IDLE = replace(GOOD, default=Demand("both", 301))
IDLE_PCI = replace(GOOD, default=Demand("both", 901))
IDLE_NIST = replace(GOOD, default=Demand("both", 3601))
PIN_ENOUGH = replace(GOOD, default=Demand("one", 300))
TEXTS_ONLY = replace(GOOD, levels={**GOOD.levels, "both": AllOf(("pin", "code"))})
TWO_HELD = replace(GOOD, levels={**GOOD.levels, "both": AllOf(("code", "app"))}, sensitive=("/x",))
OLD_PROOF = replace(GOOD, rules=(Rule(Demand("both"), path="/w*/**"), GOOD.rules[1]))
CHANGE = PinChange("/pin", Demand("both"), "/menu")

BROKEN = [
    (NIST, "3.1.1.2", with_factors(pin=Factor(Kind.PIN, 7)), ("factors", "pin", "digits"), "a PIN of 7 digits; use 8 or more"),
    (NIST, "3.1.1.2", PIN_ENOUGH, ("levels", "one"), "'pin' alone reaches 'one', with 8 digits; require"),
    (NIST, "3.1.3.2", with_factors(code=replace(CODE, digits=5)), ("factors", "code", "digits"), "codes of 5 digits; use 6 or more"),
    (NIST, "3.1.3.2", with_factors(code=replace(CODE, valid_s=601)), ("factors", "code", "valid"), "codes live 601s; use 10m or less"),
    (NIST, "3.1.3.3", TEXTS_ONLY, ("levels", "both"), "who cannot or should not get text messages cannot reach 'both'; add"),
    (NIST, "3.1.3.3", with_factors(code=Factor(Kind.SMS_CODE, 6)), ("factors", "code", "lookup"), "? codes go to a number whose SIM"),
    (NIST, "3.2.2", with_locks(lifetime=101), ("lockout", "lifetime"), "a factor is disabled after 101; use 1 to 100"),
    (NIST, "3.2.2", with_locks(lifetime=0), ("lockout", "lifetime"), "no factor is ever disabled; use 1 to 100"),
    (NIST, "2.2.1", TWO_HELD, ("levels", "both"), "two factors of one kind can reach 'both'; write"),
    (NIST, "2.2.3", IDLE_NIST, ("default", "within"), "? proofs count for 3601s, even if the caller has been silent; write `within: 60m` or less"),
    (PCI, "8.3.4", with_locks(failures=11), ("lockout", "failures"), "11 wrong answers before a lock; use 10 or less"),
    (PCI, "8.3.4", with_locks(lock_s=(1800, 1799)), ("lockout", "lock", 1), "a lock of 1799s; use 30m or more"),
    (PCI, "8.3.4", with_locks(within_s=600), ("lockout", "within"), "? wrong answers are forgotten after 10m, sooner than a lock ends"),
    (PCI, "8.2.8", IDLE_PCI, ("default", "within"), "proofs count for 901s, even if the caller has been silent; write `within: 15m` or less"),
    (PCI, "8.5.1", TWO_HELD, ("levels", "both"), "two factors of one kind can reach 'both'; write"),
    (PCI, "3.3.1", replace(GOOD, recording=Recording.IGNORE), ("recording",), "? recordings are not paused while secrets are keyed"),
    (PCI, "3.3.1", replace(GOOD, recording=Recording.PAUSE), ("recording",), "? recordings that cannot be paused go on while"),
    (PSD2, "Art. 4(1)", replace(GOOD, sensitive=()), ("sensitive",), "nothing is named that must have two elements; list it"),
    (PSD2, "Art. 4(1)", TWO_HELD, ("levels", "both"), "two factors of one kind can reach 'both'; write"),
    (PSD2, "Art. 4(3)(b)", with_locks(failures=6), ("lockout", "failures"), "6 wrong answers before a lock; use 5 or less"),
    (PSD2, "Art. 4(3)(d)", IDLE, ("default", "within"), "proofs count for 301s, even if the caller has been silent; write `within: 5m` or less"),
    (PSD2, "Art. 4(4)", GOOD, ("lockout", "lifetime"), "? a factor is disabled for good in the end, and the guard writes to nobody"),
    (ASVS, "6.1.1", with_locks(trusted_lane=False), ("lockout", "trusted_lane"), "strangers' wrong answers lock out the owner"),
    (ASVS, "6.3.1", with_locks(caller_number=None), ("lockout", "caller_number"), "one number may try account after account; write"),
    (ASVS, "6.2.1", with_factors(pin=Factor(Kind.PIN, 7)), ("factors", "pin", "digits"), "a PIN of 7 digits; use 8 or more"),
    (ASVS, "6.3.3", PIN_ENOUGH, ("levels", "one"), "one kind of factor reaches 'one'; require a level of something known"),
    (ASVS, "6.5.4", with_factors(code=replace(CODE, digits=5)), ("factors", "code", "digits"), "codes of 5 digits; use 6 or more"),
    (ASVS, "6.5.5", with_factors(code=replace(CODE, valid_s=660)), ("factors", "code", "valid"), "codes live 11m; use 10m or less"),
    (ASVS, "6.5.5", GOOD, ("factors", "app"), "? a code's step is 30s, but the steps before and after it count, too"),
    (ASVS, "6.6.1", TEXTS_ONLY, ("levels", "both"), "who cannot or should not get text messages cannot reach 'both'; add"),
    (ASVS, "7.5.1", replace(GOOD, pin_change=CHANGE), ("pin_change",), "an old proof will do for a change of factors; add `within: 5m`"),
    (ASVS, "7.5.3", OLD_PROOF, ("rules", 0), "? a proof from the beginning of the call will do for something sensitive"),
    (ASVS, "7.5.3", replace(GOOD, sensitive=()), ("sensitive",), "? nothing is named that is highly sensitive"),
    (STRICT, "Art. 4(3)(b)", with_locks(failures=6), ("lockout", "failures"), "6 wrong answers before a lock; use 5 or less"),
    (STRICT, "8.3.4", with_locks(lock_s=(60,)), ("lockout", "lock", 0), "a lock of 1m; use 30m or more"),
    (STRICT, "3.2.2", with_locks(lifetime=0), ("lockout", "lifetime"), "no factor is ever disabled"),
    (STRICT, "Art. 4(3)(d)", IDLE, ("default", "within"), "proofs count for 301s"),
    (STRICT, "6.2.1", with_factors(pin=Factor(Kind.PIN, 7)), ("factors", "pin", "digits"), "a PIN of 7 digits; use 8 or more"),
    (STRICT, "3.1.3.2", with_factors(code=replace(CODE, digits=5)), ("factors", "code", "digits"), "codes of 5 digits"),
    (STRICT, "3.1.3.2", with_factors(code=replace(CODE, valid_s=601)), ("factors", "code", "valid"), "codes live 601s"),
    (STRICT, "6.5.5", GOOD, ("factors", "app"), "? a code's step is 30s"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "flow", "place", "words"), BROKEN)
def test_a_clause_that_is_not_kept_is_named_with_its_place_and_mend(name, number, flow, place, words):
    """The clause by its number, and elsewhere nothing that does not stand in every flow."""
    all_found = found(flow, name)
    told = [said for clause, where, said in all_found if clause.endswith(f", {number}") and where == place]

    assert [said for said in told if said.startswith(words)], all_found
    here = {clause for clause, where, _ in all_found if where == place}
    assert {clause for clause, _, _ in all_found} <= {*WEIGHED.get(name, []), *here}


def test_every_clause_is_broken_once():
    """A clause that no flow can break is none; those that hold anyway are `kept`."""
    broken = {
        (name, line.clause)
        for name, _, flow, _, _ in BROKEN
        for line in judged(flow, PROFILES[name])
        if line.findings
    }

    assert broken == {(name, clause) for name, profile in PROFILES.items() for clause in profile.clauses}


@pytest.mark.parametrize(
    ("name", "flow"),
    [
        (NIST, with_factors(pin=Factor(Kind.PIN, 15), code=replace(CODE, valid_s=600))),
        (NIST, replace(PIN_ENOUGH, factors={**GOOD.factors, "pin": Factor(Kind.PIN, 15)})),
        (NIST, replace(GOOD, levels={**GOOD.levels, "one": AnyOf(("code", "app"))}, default=Demand("one"))),
        (NIST, with_locks(lifetime=1)),
        (NIST, replace(GOOD, default=Demand("both", 3600))),
        (PCI, with_locks(failures=10)),
        (PCI, replace(GOOD, default=Demand("both", 900))),
        (PCI, replace(GOOD, default=Demand(None))),
        (PCI, with_locks(within_s=1800)),
        (ASVS, replace(GOOD, pin_change=replace(CHANGE, demand=Demand("both", 300)))),
        (ASVS, replace(GOOD, rules=(Rule(Demand(None), path="/hours"), *GOOD.rules))),
    ],
)
def test_the_last_figure_that_passes(name, flow):
    """Nothing but what every flow has: a limit is not one off."""
    assert [clause for clause, _, _ in found(flow, name)] == WEIGHED.get(name, [])


@pytest.mark.parametrize(
    ("fresh_s", "expected"),
    [(0, []), (300, []), (301, [("rules", 1, "within")])],
)
def test_a_fresh_proof_at_a_transfer_is_as_good_as_a_young_one(fresh_s, expected):
    """`reverify` asks anew; `fresh` lets older ones count, as `within` does."""
    rule = Rule(Demand("both", reverify="one", fresh_s=fresh_s), transfer=Target("*", "*"))
    flow = replace(GOOD, rules=(GOOD.rules[0], rule))

    assert [place for clause, place, _ in found(flow, PSD2) if "4(3)(d)" in clause] == expected


def test_a_block_that_time_ends_needs_no_warning_of_the_last():
    """Without a lifetime nothing is permanent: what PSD2 likes, NIST does not."""
    assert found(with_locks(lifetime=0), PSD2) == []


def test_a_level_that_nothing_requires_is_not_judged():
    """`one` is there for `reverify` alone: nobody gets in with it."""
    assert [place for _, place, _ in found(GOOD, NIST)] == []


def test_a_line_holds_unless_there_is_an_error():
    """A doubt is for a person to weigh."""
    lines = {line.clause.id: line for line in judged(with_locks(failures=6), PROFILES[PSD2])}

    assert not lines["PSD2 RTS, Art. 4(3)(b)"].holds
    assert lines["PSD2 RTS, Art. 4(4)"].holds
    assert lines["PSD2 RTS, Art. 4(4)"].findings


def test_each_profile_says_what_it_does_not_judge():
    """Passing is not conformance, and a phone call has no NIST AAL: it says so itself."""
    for profile in PROFILES.values():
        assert profile.kept
        assert profile.unjudged
    assert any("no flow can claim an AAL" in note.says for note in PROFILES[NIST].unjudged)
    assert any("your agents and admins first" in note.says for note in PROFILES[PCI].unjudged)
