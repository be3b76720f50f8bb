"""Tokens: minted for what is proved, worth something once, and silent about why they are worth nothing."""

import json
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ivrguard.core import handoff
from ivrguard.core.assurance import CLOCK_SKEW_MS, AllOf, AnyOf, Kind, Proof
from ivrguard.core.audit import Entry
from ivrguard.core.flow import Factor, Flow, Identify, Upstream
from ivrguard.core.handoff import (
    ACTOR_CHARS_MAX,
    ACTORS_MAX,
    RECEIPT_VALID_S,
    Desk,
    Holder,
    Leg,
    May,
    Redeemed,
    Refused,
    Spoiled,
    in_hands,
    mint,
    receipt_claims,
    redeem,
    standing,
)
from ivrguard.core.rules import ANYONE, Demand, Rule, Target

NOON = 1_700_000_000_000
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("*",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6)},
    levels={"one_factor": AnyOf(("pin", "code")), "two_factor": AllOf(("pin", "code"))},
    rules=(
        Rule(ANYONE, path="/hours"),
        Rule(Demand("one_factor"), path="/menu"),
        Rule(Demand("two_factor", within_s=60, intent="wire"), path="/wire-now"),
        Rule(Demand("one_factor", intent="wire"), path="/wires"),
        Rule(Demand("two_factor", within_s=300, intent="wire"), path="/wire/**"),
        Rule(replace(ANYONE, intent="hours"), path="/open"),
        Rule(Demand("two_factor", reverify="one_factor", intent="agent"), transfer=Target("*", "*")),
    ),
    default=Demand("one_factor", intent="other"),
    token_valid_s=600,
)
PIN, CODE = Proof("pin", Kind.PIN, NOON - 90_000, 3), Proof("code", Kind.SMS_CODE, NOON - 5_000, 5)
HOLDER = Holder("CA1", "123456", "ref-1", (PIN, CODE), ended=False, legs=("leg-0", "leg-1"))
LEG = Leg(
    id="leg-1",
    call="CA1",
    account="123456",
    queues=("enqueue:support", "number:+18005550111"),
    carriers=("task",),
    intent="agent",
    acr=("two_factor", "one_factor"),
    amr=("pin", "otp", "sms", "mfa"),
    auth_ms=NOON - 90_000,
    issued_ms=NOON,
    expires_ms=NOON + 600_000,
)
DESK = Desk("desk-7", ("enqueue:support",), NOON)


@dataclass(frozen=True)
class Presented:
    """A token as a desk presents it."""

    leg: Leg | None = LEG
    holder: Holder | None = HOLDER
    desk: Desk = DESK
    call_sid: str | None = "CA1"
    account_locked: bool = False
    desk_locked: bool = False
    now_ms: int = NOON + 1_000

    def redeem(self) -> Redeemed | Refused:
        return redeem(
            self.leg,
            self.holder,
            self.desk,
            call_sid=self.call_sid,
            account_locked=self.account_locked,
            desk_locked=self.desk_locked,
            now_ms=self.now_ms,
        )


# ── minting ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_leg_says_what_is_proved_by_now():
    """Levels strongest first, methods, how fresh the strongest is; and how long an agent has."""
    leg = mint(
        FLOW,
        HOLDER,
        leg_id="leg-2",
        queues=("client:anna",),
        carriers=("parameter",),
        whispers=(("anna", "/w"),),
        intent="agent",
        now_ms=NOON,
    )

    assert leg == replace(
        LEG, id="leg-2", queues=("client:anna",), carriers=("parameter",), whispers=(("anna", "/w"),)
    )


def test_a_leg_of_nothing_proved_claims_nothing():
    """No level, no method, no time."""
    nobody = replace(HOLDER, proofs=())

    leg = mint(
        FLOW, nobody, leg_id="l", queues=(), carriers=(), whispers=(), intent="", now_ms=NOON
    )  # fmt: skip

    assert (leg.acr, leg.amr, leg.auth_ms) == ((), (), 0)


# ── redeeming ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_token_is_spent_by_who_redeems_it():
    """The leg afterwards names the desk; the record says for which queue and purpose."""
    detail = (("desk", "desk-7"), ("queues", "enqueue:support,number:+18005550111"), ("intent", "agent"))
    entry = Entry(NOON + 1_000, "authn_token_redeemed", "CA1", "ref-1", "right", detail)

    assert Redeemed(replace(LEG, redeemed_ms=NOON + 1_000, agent="desk-7"), entry) == Presented().redeem()


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(Presented(call_sid=None), id="the desk does not know the call"),
        pytest.param(Presented(now_ms=LEG.expires_ms - 1), id="in its last millisecond"),
        pytest.param(Presented(now_ms=LEG.issued_ms), id="at once"),
        pytest.param(Presented(desk=replace(DESK, queues=("x", "number:*"))), id="another of its queues"),
        pytest.param(Presented(desk=replace(DESK, queues=("**",))), id="a desk for everything"),
        pytest.param(Presented(desk=replace(DESK, queues=("enqueue:supp?rt",))), id="a glob"),
    ],
)
def test_a_token_is_good(good):
    """Up to the edges of what it is good for."""
    assert isinstance(good.redeem(), Redeemed)


SPOILT = {
    "no such token": ({"leg": None, "holder": None}, Spoiled.FORGED),
    "no such token, in a call": ({"leg": None}, Spoiled.FORGED),
    "the call is gone": ({"holder": None}, Spoiled.FORGED),
    "another queue": (
        {"desk": replace(DESK, queues=("enqueue:fraud", "enqueue:suppor"))},
        Spoiled.OTHER_QUEUE,
    ),
    "another call": ({"call_sid": "CA2"}, Spoiled.OTHER_CALL),
    "locked account": ({"account_locked": True}, Spoiled.LOCKED),
    "locked desk": ({"desk_locked": True}, Spoiled.DESK_LOCKED),
}
SPOILT_LEG = {
    "spent": ({"redeemed_ms": NOON}, Spoiled.SPENT),
    "expired": ({"expires_ms": NOON + 1_000}, Spoiled.EXPIRED),
    "from the future": ({"issued_ms": NOON + 1_000 + CLOCK_SKEW_MS + 1}, Spoiled.EXPIRED),
    "for no queue": ({"queues": ()}, Spoiled.OTHER_QUEUE),
}
SPOILT_HOLDER = {
    "the call has ended": ({"ended": True}, Spoiled.ENDED),
    "a newer leg": ({"legs": ("leg-1", "leg-2")}, Spoiled.SUPERSEDED),
    "a leg that the call never had": ({"legs": ()}, Spoiled.SUPERSEDED),
    "somebody else's call": ({"sid": "CA2"}, Spoiled.OTHER_CALL),
    "the call speaks for another account now": ({"account": "999999"}, Spoiled.OTHER_CALL),
}


def presented(*names: str) -> Presented:
    """A token spoilt in all these ways."""
    one = Presented()
    for name in names:
        if name in SPOILT_LEG and one.leg is not None:
            one = replace(one, leg=replace(one.leg, **SPOILT_LEG[name][0]))
        elif name in SPOILT_HOLDER and one.holder is not None:
            one = replace(one, holder=replace(one.holder, **SPOILT_HOLDER[name][0]))
        elif name in SPOILT:
            one = replace(one, **SPOILT[name][0])
    return one


def test_the_clocks_of_two_nodes_may_differ_a_little():
    """A token minted by a node that is ahead by no more than nodes may be is good at once."""
    leg = replace(LEG, issued_ms=NOON + 1_000 + CLOCK_SKEW_MS)

    assert isinstance(replace(Presented(), leg=leg).redeem(), Redeemed)


WAYS = {**SPOILT_LEG, **SPOILT_HOLDER, **SPOILT}


@pytest.mark.parametrize("way", WAYS)
def test_a_spoilt_token_is_refused_with_its_reason_on_record(way):
    """One answer for all: `Refused`, and nothing of the leg in it. The reason is in the record."""
    found, one = presented(way).redeem(), presented(way)
    why = WAYS[way][1]
    event = "authn_token_reuse" if why is Spoiled.SPENT else "authn_token_refused"
    sid, ref = one.leg.call if one.leg else "", one.holder.ref if one.holder else ""

    assert found == Refused(why, Entry(NOON + 1_000, event, sid, ref, why, (("desk", "desk-7"),)))


@pytest.mark.parametrize("ways", list(combinations(WAYS, 2)), ids=" and ".join)
def test_two_wrongs_make_no_right(ways):
    """No spoilt token becomes good by being spoilt in another way as well."""
    found = presented(*ways).redeem()

    assert isinstance(found, Refused)
    assert found.reason in {WAYS[way][1] for way in ways}


@pytest.mark.parametrize(
    ("queues", "queue", "expected"),
    [
        (("enqueue:support",), "enqueue:support", True),
        (("enqueue:*",), "enqueue:support", True),
        (("enqueue:*",), "number:+18005550111", False),
        (("sip:*@desk.example",), "sip:anna@desk.example", True),
        (("sip:*@desk.example",), "sip:a/b@desk.example", True),
        (("sip:*@desk.example",), "sip:anna@desk.example.evil", False),
        (("enqueue:eu/*",), "enqueue:eu/cards", True),
        (("enqueue:eu/*",), "enqueue:eu", False),
        (("enqueue:support",), "enqueue:Support", False),
        (("enqueue:a.b",), "enqueue:axb", False),
        ((), "enqueue:support", False),
    ],
)
def test_which_queues_a_desk_serves(queues, queue, expected):
    """Globs over `kind:value`; a name is not a path, and case matters."""
    one = Presented(leg=replace(LEG, queues=(queue,)), desk=replace(DESK, queues=queues))

    assert expected == isinstance(one.redeem(), Redeemed)


DESKS = (
    DESK,
    replace(DESK, name="desk-8"),
    replace(DESK, name="desk-9", queues=("number:*",)),
    replace(DESK, name="other", queues=("enqueue:fraud",)),
)
ACTS = st.one_of(
    st.tuples(st.just("redeem"), st.sampled_from(DESKS), st.sampled_from(("CA1", "CA2", None))),
    st.tuples(st.sampled_from(("lock", "unlock", "end", "transfer", "lock desk", "unlock desk"))),
    st.tuples(st.just("wait"), st.sampled_from((1, 599_999, 600_000))),
)


@given(st.lists(ACTS, max_size=25))
@example([("redeem", DESKS[0], "CA1"), ("redeem", DESKS[1], None), ("redeem", DESKS[0], "CA1")])
@example([("redeem", DESKS[3], "CA1"), ("redeem", DESKS[2], "CA1"), ("redeem", DESKS[1], "CA1")])
@example([("end",), ("redeem", DESKS[0], "CA1")])
def test_in_whatever_order_a_token_works_once(script):
    """Several desks, locks that come and go, time, another transfer: at most one receipt, and only a rightful one."""
    one, receipts = Presented(), []
    for what, *rest in script:
        match what:
            case "redeem":
                desk, call_sid = rest
                one = replace(one, desk=desk, call_sid=call_sid)
                found = one.redeem()
                if isinstance(found, Redeemed):
                    receipts.append(desk.name)
                    one = replace(one, leg=found.leg)
                    assert desk.name != "other"
                    assert call_sid in {"CA1", None}
                    assert not any((one.account_locked, one.desk_locked, one.holder.ended))
                    assert one.now_ms < LEG.expires_ms
                    assert one.holder.legs[-1] == "leg-1"
                else:
                    assert found.entry.reason == found.reason
            case "wait":
                one = replace(one, now_ms=one.now_ms + rest[0])
            case "lock" | "unlock":
                one = replace(one, account_locked=what == "lock")
            case "lock desk" | "unlock desk":
                one = replace(one, desk_locked=what == "lock desk")
            case "end":
                one = replace(one, holder=replace(one.holder, ended=True))
            case _:
                one = replace(one, holder=replace(one.holder, legs=(*one.holder.legs, "leg-2")))

    assert len(receipts) <= 1


# ── planted faults ───────────────────────────────────────────────────────────────────────────────────────

SPOILED = handoff._spoiled


def spent_again(leg, *rest):
    return SPOILED(leg and replace(leg, redeemed_ms=None), *rest)


def any_queue(leg, holder, desk, *rest):
    return SPOILED(leg, holder, replace(desk, queues=("*",)), *rest)


def after_the_call(leg, holder, *rest):
    return SPOILED(leg, holder and replace(holder, ended=False), *rest)


@pytest.mark.parametrize("fault", [spent_again, any_queue, after_the_call])
def test_the_property_finds_each_planted_fault(monkeypatch, fault):
    """With a rule taken out, the property above turns red."""
    monkeypatch.setattr(handoff, "_spoiled", fault)

    with pytest.raises(AssertionError):
        test_in_whatever_order_a_token_works_once()


# ── what the caller may do ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("proofs", "now_ms", "held"),
    [
        pytest.param((), NOON, set(), id="nothing proved"),
        pytest.param((PIN,), NOON, {("other", "one_factor"), ("wire", "one_factor")}, id="one"),
        pytest.param(
            (replace(PIN, at_ms=NOON - 60_000), CODE),
            NOON,
            {
                ("agent", "two_factor"),
                ("other", "one_factor"),
                ("wire", "one_factor"),
                ("wire", "two_factor"),
            },
            id="both, and young enough for every rule",
        ),
        pytest.param(
            (PIN, CODE),
            NOON,
            {("agent", "two_factor"), ("other", "one_factor"), ("wire", "one_factor")},
            id="both, one of them too old for one rule",
        ),
    ],
)
def test_what_the_caller_may_do(proofs, now_ms, held):
    """Every intent of the flow with every level it needs; held only if no rule for it would ask again."""
    wanted = [
        ("agent", "two_factor"),
        ("other", "one_factor"),
        ("wire", "one_factor"),
        ("wire", "two_factor"),
    ]

    assert tuple(May(*one, held=one in held) for one in wanted) == standing(FLOW, proofs, now_ms)


@pytest.mark.parametrize(("said", "held"), [("wire", True), ("agent", False), ("", False)])
def test_a_code_for_something_else_lets_nobody_do_what_wants_its_own(said, held):
    """The agent is not told that he may."""
    wire = Rule(Demand("two_factor", intent="wire", own_code=True), path="/wire/**")
    flow = replace(FLOW, rules=(wire,), default=Demand("one_factor"))

    assert standing(flow, (PIN, replace(CODE, intent=said)), NOON) == (May("wire", "two_factor", held),)


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("actors", "act"),
    [
        ((), None),
        (("anna",), {"sub": "anna"}),
        (("carl", "bert", "anna"), {"sub": "carl", "act": {"sub": "bert", "act": {"sub": "anna"}}}),
    ],
)
def test_a_receipt_names_who_holds_the_caller(actors, act):
    """The current actor outside, the ones before inside (RFC 8693, 4.1); times in seconds (RFC 7519)."""
    claims = receipt_claims(
        LEG, issuer="https://guard.example", actors=actors, receipt_id="r-1", now_ms=NOON + 999
    )

    expected = {
        "iss": "https://guard.example",
        "aud": "enqueue:support",
        "sub": "123456",
        "acr": "two_factor",
        "amr": ["pin", "otp", "sms", "mfa"],
        "auth_time": 1_699_999_910,
        "call_sid": "CA1",
        "intent": "agent",
        "jti": "r-1",
        "iat": 1_700_000_000,
        "exp": 1_700_000_000 + RECEIPT_VALID_S,
    }
    assert expected | ({"act": act} if act else {}) == claims


def test_a_receipt_of_nothing_proved_says_none():
    """It has no level to show, and names nobody: an account that is only claimed is nobody's identity."""
    nothing = replace(LEG, acr=(), amr=(), auth_ms=0)

    claims = receipt_claims(nothing, issuer="x", actors=(), receipt_id="r", now_ms=NOON)

    assert claims["acr"] == "none"
    assert not {"sub", "auth_time"} & claims.keys()


LONGEST = replace(
    LEG, call="CA" + "0123456789abcdef" * 2, account="1" * 12, queues=("workflow:WW" + "f" * 32,)
)
"""What stands in a receipt beside the names, as long as Twilio and the example flows have it."""


def receipt_of(actors, leg=LONGEST):
    """The claims, and how long the JWT is: header, claims and an Ed25519 signature, in base64url (RFC 7515)."""
    claims = receipt_claims(
        leg, issuer="https://ivrguard.calls.bank.example", actors=actors, receipt_id="r" * 32, now_ms=NOON
    )
    header = {"alg": "EdDSA", "kid": "k" * 25, "typ": "ivrguard-receipt+jwt"}
    parts = [
        json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode() for part in (header, claims)
    ]
    return claims, sum((len(part) * 8 + 5) // 6 for part in (*parts, bytes(64))) + len("..")


def named_in(claims):
    """Whom `act` names, the current one first."""
    act, names = claims.get("act"), []
    while act is not None:
        assert act.keys() <= {"sub", "act"}
        names.append(act["sub"])
        act = act.get("act")
    return names


NAMES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255),
    st.text(min_size=1, max_size=255),
)


LONG = (["oidc:" + "x" * 250] * 9, ["\U0001f4de" * 255] * 5, ['"' * 300] * 5)


@given(st.lists(NAMES, min_size=1, max_size=9))
@example(LONG[0])
@example(LONG[1])
@example(LONG[2])
def test_a_receipt_fits_into_1024_characters(actors):
    """Whatever the agents' names: the current one always stands there, and those before him in their order, the last ones."""
    check_receipt(actors)


def check_receipt(actors):
    claims, length = receipt_of(actors)

    assert length <= 1_024
    names = named_in(claims)
    assert 1 <= len(names) <= ACTORS_MAX
    for name, actor in zip(names, actors, strict=False):
        assert len(name) <= ACTOR_CHARS_MAX
        assert name == actor or (name.startswith(actor[:19]) and len(actor) > ACTOR_CHARS_MAX)


@pytest.mark.parametrize("length", [1, 24, 32, 33, 255])
def test_five_hops_are_all_named(length):
    """Names of plain letters, however long, each another one; of six hops, the oldest is left to the record."""
    actors = [f"{number}" + "a" * (length - 2) + f"{number}" * (length > 1) for number in range(6)]

    names = named_in(receipt_of(actors)[0])

    assert len(set(names)) == ACTORS_MAX
    assert [name[0] for name in names] == list("01234")


def without_shortening(patch):
    patch.setattr(handoff, "ACTOR_CHARS_MAX", 1_000)


def without_a_limit(patch):
    patch.setattr(handoff, "CLAIMS_BYTES_MAX", 10_000)


@pytest.mark.parametrize(("plant", "actors"), [(without_shortening, LONG[0]), (without_a_limit, LONG[1])])
def test_a_receipt_that_is_too_long_is_found(monkeypatch, plant, actors):
    """With either rule taken out, the check of the property turns red."""
    plant(monkeypatch)

    with pytest.raises(AssertionError):
        check_receipt(actors)


# ── in whose hands ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("legs", "at"),
    [
        ("R", 0),
        ("-", 0),
        ("Rp", 0),
        ("RP", 1),
        ("Rpp", 0),
        ("RPp", 1),
        ("Rp-", 2),
        ("RpR", 2),
        ("R-", 1),
        ("p", 0),
    ],
)
def test_in_whose_hands_a_call_is(legs, at):
    """
    `R`, `-`: put through by the IVR, redeemed or not; `P`, `p`: passed on by an agent, redeemed or not. Who passed on holds
    the caller until somebody redeems; who the IVR put him through from does not.
    """
    made = [
        replace(
            LEG,
            redeemed_ms=NOON if one.isupper() else None,
            actors=("ann",) if one.lower() == "p" else (),
        )
        for one in legs
    ]

    assert in_hands(made) == at
