"""A call: how keys look, which ledgers and lanes it has, what is spoken, what of it matters elsewhere."""

from dataclasses import replace

import pytest

from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.call import About, Books, Call, Found, Keyed, Question
from ivrguard.core.caller import ANONYMOUS, Address, AddressKind
from ivrguard.core.flow import Catalogue, Factor, Flow, Identify, Locks, Upstream
from ivrguard.core.handoff import Holder
from ivrguard.core.lockout import Ledger
from ivrguard.core.rules import Demand

FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={
        "pin": Factor(Kind.PIN, 8),
        "code": Factor(Kind.SMS_CODE, 6),
        "app": Factor(Kind.TOTP, 6),
    },
    levels={"two_factor": AllOf(("pin", AnyOf(("code", "app"))))},
    rules=(),
    default=Demand("two_factor"),
    locks=Locks(
        account=lockout.Rule(failures=4, within_s=3600, lock_s=(1800, 7200), lifetime=9),
        caller_number=lockout.Rule(failures=8, within_s=3600, lock_s=(3600,)),
    ),
    languages=(Catalogue("es-US", {}, key="2"), Catalogue("fr-CA", {}, key="3"), Catalogue("de-DE", {})),
)
NOON = 1_700_000_000_000
PHONE = Address(AddressKind.PHONE, "+14155550123")
OWNER = "123456"
FOUND = {OWNER: Found(OWNER, known=True, ref="ref-owner", enrolled=("pin", "code", "app"))}


def a_call(flow: Flow = FLOW, caller: Address = PHONE, *, attested: bool = False) -> Call:
    """A call that has just begun."""
    return Call("CA1", "AC1", flow.name, flow.version, caller, "+18005550100", attested, NOON)


@pytest.mark.parametrize(
    ("digits", "factor", "expected"),
    [
        *[(None, "pin", "nothing"), ("", "pin", "nothing"), ("#", "pin", "nothing")],
        *[("*", "pin", "repeat"), ("**", "pin", "repeat"), ("*#", "pin", "repeat")],
        *[("11112222", "pin", "fitting"), ("11112222#", "pin", "fitting"), ("333444", "code", "fitting")],
        *[("1111222", "pin", "misfit"), ("111122223", "pin", "misfit"), ("333444", "pin", "misfit")],
        *[("1111222w", "pin", "misfit"), ("1111222*", "pin", "misfit"), ("1111#222", "pin", "misfit")],
        *[
            ("²²²²²²²²", "pin", "misfit"),
            ("１１１１２２２２", "pin", "misfit"),
            (" 1112222", "pin", "misfit"),
        ],
        *[("12345", "", "misfit"), ("123456", "", "fitting"), ("123456789012", "", "fitting")],
        *[("1234567890123", "", "misfit"), ("1", "", "misfit"), ("", "", "nothing")],
        *[("11112222", None, "nothing")],
    ],
)
def test_how_keys_look(digits, factor, expected):
    """All that a decision rests on: never which keys they are."""
    call = replace(a_call(), question=None if factor is None else Question("n", factor))

    assert expected == calls.keyed(FLOW, call, digits)


@pytest.mark.parametrize(
    ("digits", "caller", "expected"),
    [
        ("1", PHONE, "fitting"),
        ("2", PHONE, "language"),
        ("4", PHONE, "misfit"),
        ("123456", PHONE, "fitting"),
        ("1", ANONYMOUS, "misfit"),
    ],
)
def test_one_key_takes_the_account_of_the_caller_s_number(digits, caller, expected):
    """That key, where the flow offers it, to a caller with a number."""
    flow = replace(FLOW, identify=replace(FLOW.identify, offer_known_number=True))

    assert expected == calls.keyed(flow, replace(a_call(flow, caller), question=Question("n")), digits)


@pytest.mark.parametrize(
    ("flow", "caller", "expected"),
    [
        (FLOW, PHONE, ("123456/pin/pool", "number/+14155550123", "123456/sms_code/pool", "123456/totp/pool")),
        (FLOW, ANONYMOUS, ("123456/pin/pool", "123456/sms_code/pool", "123456/totp/pool")),
        (
            replace(FLOW, locks=replace(FLOW.locks, caller_number=None)),
            PHONE,
            ("123456/pin/pool", "123456/sms_code/pool", "123456/totp/pool"),
        ),
    ],
)
def test_which_ledgers_a_step_may_touch(flow, caller, expected):
    """One for each kind of factor, and the number's; none before an account is claimed."""
    call = a_call(flow, caller)

    assert calls.ledger_ids(flow, call) == ()
    assert set(expected) == set(calls.ledger_ids(flow, replace(call, account=OWNER)))


@pytest.mark.parametrize(
    ("trusted", "attested", "allowed", "caller", "expected"),
    [
        (True, True, True, PHONE, PHONE.value),
        (False, True, True, PHONE, "pool"),
        (True, False, True, PHONE, "pool"),
        (True, True, False, PHONE, "pool"),
        (True, True, True, ANONYMOUS, "pool"),
        (True, True, True, Address(AddressKind.SIP, "sip:a@b"), "pool"),
    ],
)
def test_who_gets_a_lane_of_his_own(trusted, attested, allowed, caller, expected):
    """This number verified before, and its carrier vouches for it: both, and only where the flow has lanes."""
    flow = replace(FLOW, locks=replace(FLOW.locks, trusted_lane=allowed))
    call = a_call(flow, caller, attested=attested)

    assert expected == calls.claim(flow, call, replace(FOUND[OWNER], trusted=trusted)).lane


@pytest.mark.parametrize(
    ("ledgers", "expected"),
    [
        ({}, False),
        ({"123456/pin/pool": Ledger()}, False),
        ({"123456/totp/pool": Ledger(run=9)}, True),
        ({"123456/totp/+14155550123": Ledger(run=9)}, False),
        ({"number/+14155550123": Ledger(run=9)}, False),
    ],
)
def test_whether_an_account_is_locked(ledgers, expected):
    """Any of its factors, in the call's lane: what a token's redemption looks at."""
    call = replace(a_call(), account=OWNER)

    assert expected == calls.locked(FLOW, call, Books(ledgers), NOON)


@pytest.mark.parametrize(("ended_ms", "ended"), [(None, False), (NOON, True)])
def test_what_of_a_call_matters_to_a_hand_over(ended_ms, ended):
    """Whose it is, what it proved, whether it lives, and its legs."""
    proofs = (Proof("pin", Kind.PIN, NOON, 1),)
    call = replace(
        a_call(), account=OWNER, ref="ref-owner", proofs=proofs, legs=("leg-1",), ended_ms=ended_ms
    )

    expected = Holder("CA1", OWNER, "ref-owner", call.proofs, ended=ended, legs=("leg-1",))
    assert expected == calls.holder(call)


@pytest.mark.parametrize(
    ("digits", "question", "expected"),
    [
        ("1", Question("n", "code"), Keyed.ANOTHER_CODE),
        ("1#", Question("n", "code"), Keyed.ANOTHER_CODE),
        ("1", Question("n", "pin"), Keyed.MISFIT),
        ("1", Question("n", "app"), Keyed.MISFIT),
        ("2", Question("n", "code"), Keyed.OTHER_FACTOR),
        ("2#", Question("n", "pin"), Keyed.OTHER_FACTOR),
        ("2", Question("n", "app"), Keyed.OTHER_FACTOR),
        ("3", Question("n", "app"), Keyed.MISFIT),
        ("2", Question("n"), Keyed.LANGUAGE),
        ("3#", Question("n"), Keyed.LANGUAGE),
        ("4", Question("n"), Keyed.MISFIT),
        ("12345678", Question("n", about=About.NEW_PIN), Keyed.FITTING),
        ("2", Question("n", about=About.NEW_PIN), Keyed.MISFIT),
        ("1", Question("n", about=About.NEW_PIN_AGAIN), Keyed.MISFIT),
    ],
)
def test_keys_that_are_no_answer(digits, question, expected):
    """Another code, another factor, a language: each where it is a way on, and nowhere else."""
    assert expected == calls.keyed(FLOW, replace(a_call(), question=question), digits)


@pytest.mark.parametrize(
    ("chosen", "owners", "proved", "expected"),
    [
        ("", "", False, "en-US"),
        ("es-US", "", False, "es-US"),
        ("", "es-US", False, "en-US"),
        ("", "es-US", True, "es-US"),
        ("", "es", True, "es-US"),
        ("", "es-MX", True, "es-US"),
        ("", "de-DE", True, "de-DE"),
        ("", "it-IT", True, "en-US"),
        ("fr-CA", "es-US", True, "fr-CA"),
    ],
)
def test_what_is_spoken(chosen, owners, proved, expected):
    """What the caller chose; else what his account wants, once it is his; else the flow's own."""
    proofs = (Proof("pin", Kind.PIN, NOON, 1),) if proved else ()
    call = replace(a_call(), language=chosen, owners_language=owners, proofs=proofs)

    assert calls.spoken(FLOW, call).language == expected


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [("", {"2": "es-US", "3": "fr-CA", "1": "", "": ""}), ("es-US", {"2": "", "3": "fr-CA"})],
)
def test_a_language_is_chosen_by_its_key(spoken, expected):
    """Those that have one, but not the one that is spoken already."""
    call = replace(a_call(), language=spoken)

    assert expected == {key: calls.chosen_language(FLOW, call, f"{key}#") for key in expected}


def test_codes_are_limited_by_account_number_and_country():
    """By lane, and by whether something is proved: a step may come to prove something, so it reads both."""
    call = replace(a_call(), account=OWNER, to="num", to_prefix="44")
    proved = replace(call, proofs=(Proof("pin", Kind.PIN, NOON, 1),))

    assert [name for name, _, _ in calls.send_limits(FLOW, call)] == [
        "123456/pool",
        "number/num/pool",
        "prefix/44/claimed",
    ]
    assert calls.send_limits(FLOW, proved)[-1] == ("prefix/44/proved", 300, 3600)
    assert set(calls.send_windows(FLOW, call)) == {
        *(name for name, _, _ in (*calls.send_limits(FLOW, call), *calls.send_limits(FLOW, proved)))
    }
    without = replace(FLOW, factors={"pin": FLOW.factors["pin"]})
    assert (calls.send_limits(without, call), calls.send_limits(FLOW, a_call())) == ((), ())
