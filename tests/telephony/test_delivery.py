"""What a webhook says: good bodies read, bad ones refused by name, and no body that signs alike says otherwise."""

import re
import string
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ivrguard.core.caller import ANONYMOUS, Address, AddressKind
from ivrguard.telephony.delivery import (
    ADDRESS_CHARS_MAX,
    BODY_BYTES_MAX,
    DIGITS_KEYS_MAX,
    PARAMS_MAX,
    REASONS,
    Delivery,
    Malformed,
    parse_form,
    parse_query,
    read,
)
from ivrguard.telephony.signature import sign

CALL, PARENT, ACCOUNT = "CA" + "0123456789abcdef" * 2, "CA" + "f" * 32, "AC" + "0" * 32

FIRST = {
    "AccountSid": ACCOUNT,
    "ApiVersion": "2010-04-01",
    "CallSid": CALL,
    "CallStatus": "ringing",
    "CallToken": '{"parentCallInfoToken":"eyJhbGciOiJFUzI1NiJ9.e30.x-y_z"}',
    "Called": "+18005551212",
    "CalledCity": "",
    "CalledCountry": "US",
    "CalledState": "",
    "CalledZip": "",
    "Caller": "+14158675309",
    "CallerCity": "DENVER",
    "CallerCountry": "US",
    "CallerState": "CO",
    "CallerZip": "80201",
    "Direction": "inbound",
    "From": "+14158675309",
    "FromCity": "DENVER",
    "FromCountry": "US",
    "FromState": "CO",
    "FromZip": "80201",
    "StirVerstat": "TN-Validation-Passed-A",
    "To": "+18005551212",
    "ToCity": "",
    "ToCountry": "US",
    "ToState": "",
    "ToZip": "",
}
GATHER = FIRST | {"CallStatus": "in-progress", "Digits": "1234", "FinishedOnKey": "#", "msg": "Gather End"}
BARE = {name: FIRST[name] for name in ("AccountSid", "CallSid", "CallStatus", "Direction", "From", "To")}
SPOKEN = GATHER | {"CallerZip": "", "Confidence": "0.91", "SpeechResult": "one two Digits12"}
CHILD = FIRST | {"Direction": "outbound-dial", "ParentCallSid": PARENT}
SIP = BARE | {
    "From": "sip:alice@pbx.example",
    "To": "sip:desk@bank.sip.example",
    "Caller": "sip:alice@pbx.example",
}
CLIENT = BARE | {"From": "client:Tim", "To": "", "Digits": "9"}
BODIES = [
    FIRST,
    GATHER,
    BARE,
    BARE | {"Digits": "*1#"},
    SPOKEN,
    CHILD,
    SIP,
    CLIENT,
    BARE | {"ParentCallSid": PARENT},
]


def pairs(body):
    return tuple(body.items())


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


def refused(params, **options):
    with pytest.raises(Malformed) as refusal:
        read(params, **options)
    assert refusal.value.reason in REASONS
    assert refusal.value.reason == str(refusal.value)
    return refusal.value.reason


def outcome(said):
    """Read a body or its parameters: a Delivery, or the reason for refusing."""
    try:
        return read(parse_form(said) if isinstance(said, bytes) else said)
    except Malformed as refusal:
        return refusal.reason


# --- bytes in


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ()),
        (b"&&", ()),
        (b"a=1&b=2&a=1", (("a", "1"), ("b", "2"), ("a", "1"))),
        (b"Blank=&Bare&==", (("Blank", ""), ("Bare", ""), ("", "="))),
        (b"To=%2B1800+555&x=+a+", (("To", "+1800 555"), ("x", " a "))),
        (b"a%3Db=c%26d%3de", (("a=b", "c&d=e"),)),
        (b"city=K%C3%B6ln&stadt=K\xc3\xb6ln", (("city", "Köln"), ("stadt", "Köln"))),
        (b"a=100%&b=%zz&c=%2", (("a", "100%"), ("b", "%zz"), ("c", "%2"))),
        (b"a;b=1;2", (("a;b", "1;2"),)),
    ],
)
def test_a_form_is_decoded_and_nothing_is_lost(body, expected):
    """Order, blanks, spaces and repeated names stay: the signature and the IVR want them all."""
    assert parse_form(body) == expected
    assert parse_query(body.decode("utf-8", "surrogateescape")) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"a" * (BODY_BYTES_MAX + 1), "form.long"),
        (b"&".join([b"a=1"] * (PARAMS_MAX + 1)), "form.many"),
        (b"a=%ff", "form.encoding"),
        (b"%c3=1", "form.encoding"),
        (b"a=\xff", "form.encoding"),
    ],
)
def test_a_form_beyond_its_bounds_is_refused(body, reason):
    """Too long, too many, not UTF-8."""
    with pytest.raises(Malformed, match=f"^{reason}$"):
        parse_form(body)
    with pytest.raises(Malformed, match=f"^{reason}$"):
        parse_query(body.decode("utf-8", "surrogateescape"))


def test_a_query_of_lone_surrogates_is_refused():
    """Characters that no bytes can spell did not come over a wire."""
    with pytest.raises(Malformed, match="encoding"):
        parse_query("a=\ud800")


def test_a_form_at_its_bounds_is_read():
    """The bounds themselves are still good."""
    assert len(parse_form(b"&".join([b"a=1"] * PARAMS_MAX))) == PARAMS_MAX
    assert parse_form(b"a" * BODY_BYTES_MAX) == (("a" * BODY_BYTES_MAX, ""),)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FIELDS = st.lists(st.tuples(TEXT, TEXT).filter(any), max_size=10)


@given(FIELDS)
def test_every_form_that_is_encoded_is_decoded_to_the_same(fields):
    """In both usual spellings of a space."""
    assert parse_form(urlencode(fields).encode()) == tuple(fields)
    assert parse_form(urlencode(fields, quote_via=quote).encode()) == tuple(fields)


# --- values out


def test_a_gather_is_read():
    """The answer to a question, with what the guard acts on taken out and all of it kept."""
    delivery = read(pairs(GATHER))
    assert delivery == Delivery(
        call_sid=CALL,
        account_sid=ACCOUNT,
        parent_call_sid=None,
        from_="+14158675309",
        to="+18005551212",
        direction="inbound",
        call_status="in-progress",
        digits="1234",
        finished_on_key="#",
        stir_verstat="TN-Validation-Passed-A",
        params=pairs(GATHER),
    )


PHONE, OURS = Address(AddressKind.PHONE, "+14158675309"), "+18005551212"
OUTBOUND = {"Direction": "outbound-api", "From": "+18005551212", "To": "+14158675309"}


@pytest.mark.parametrize(
    ("body", "caller", "dialled", "child", "attested"),
    [
        (FIRST, PHONE, OURS, False, True),
        (BARE, PHONE, OURS, False, False),
        (FIRST | {"StirVerstat": "TN-Validation-Passed-A-Passthrough"}, PHONE, OURS, False, False),
        (FIRST | OUTBOUND, PHONE, OURS, False, False),
        (FIRST | OUTBOUND | {"Direction": "outbound-dial"}, PHONE, OURS, True, False),
        (FIRST | {"ParentCallSid": PARENT}, PHONE, OURS, True, True),
        (FIRST | {"ParentCallSid": ""}, PHONE, OURS, False, True),
        (FIRST | {"From": "+266696687"}, ANONYMOUS, OURS, False, False),
        (FIRST | {"From": ""}, ANONYMOUS, OURS, False, False),
        (
            FIRST | {"From": "client:Tim", "To": ""},
            Address(AddressKind.CLIENT, "client:Tim"),
            "",
            False,
            False,
        ),
        (SIP, Address(AddressKind.SIP, "sip:alice@pbx.example"), "sip:desk@bank.sip.example", False, False),
    ],
)
def test_who_is_on_the_leg(body, caller, dialled, child, attested):
    """
    The person is From on a call to us and To on a call of ours; a leg made by a Dial is not a caller.

    Attestation counts for a number that called us and for nothing else.
    """
    delivery = read(pairs(body))
    assert (delivery.caller, delivery.dialled) == (caller, dialled)
    assert (delivery.child, delivery.attested) == (child, attested)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (FIRST | {"StirVerstat": "TN-Validation-Failed-B"}, ("attestation_failed",)),
        (FIRST | {"StirVerstat": "TN-Validation-Failed-B"} | OUTBOUND, ()),
        (FIRST | {"StirVerstat": "TN-Validation-Failed-B", "From": "client:Tim"}, ()),
        (FIRST, ()),
        (BARE, ()),
    ],
)
def test_what_speaks_against_a_number_is_said_of_callers_from_the_phone_network(body, expected):
    """A client may send any parameter it likes; of a number that we dialled an attestation says nothing."""
    assert expected == read(pairs(body)).notes


@pytest.mark.parametrize(
    ("status", "over"),
    [
        *[(each, False) for each in ("queued", "initiated", "ringing", "in-progress")],
        *[(each, True) for each in ("completed", "busy", "failed", "no-answer", "canceled")],
    ],
)
def test_a_leg_is_over_when_its_status_says_so(status, over):
    """Every documented status is one or the other."""
    assert read(pairs(BARE | {"CallStatus": status})).over == over


@pytest.mark.parametrize(
    ("body", "digits"),
    [
        (BARE, None),
        (BARE | {"Digits": ""}, ""),
        (BARE | {"Digits": "0123456789ABCD*#"}, "0123456789ABCD*#"),
        (BARE | {"Digits": "1" * DIGITS_KEYS_MAX}, "1" * DIGITS_KEYS_MAX),
        (BARE | {"Digits": "hangup"}, "hangup"),
    ],
)
def test_no_digits_blank_digits_and_digits_are_three_things(body, digits):
    """Absent is no answer at all; blank is a finish key alone."""
    assert read(pairs(body)).digits == digits


def test_digits_and_numbers_are_not_in_the_repr():
    """What was keyed, and who calls, does not slip into a log with the whole."""
    shown = repr(read(pairs(GATHER | {"Digits": "7391"})))
    assert not [each for each in ("7391", "14158675309", "18005551212", "DENVER") if each in shown]


SHAPES = [
    ("CallSid", "call_sid", ["", "CA1", CALL.upper(), CALL + "0", CALL + "\n", "CB" + CALL[2:], ACCOUNT]),
    ("AccountSid", "account_sid", ["", "AC1", ACCOUNT[:-1] + "g", ACCOUNT + "\n", CALL, "AC" + "٠" * 32]),
    ("ParentCallSid", "parent_call_sid", ["CA1", PARENT + "0", " "]),
    ("From", "from", ["+1415\n8675309", "\x00", "\x7f", "a" * (ADDRESS_CHARS_MAX + 1)]),
    ("To", "to", ["+1415\r8675309", "a" * (ADDRESS_CHARS_MAX + 1)]),
    ("Direction", "direction", ["", "Inbound", "inbound ", "outbound", "trunking-originating"]),
    ("CallStatus", "call_status", ["", "answered", "IN-PROGRESS", "in-progress1"]),
    (
        "Digits",
        "digits",
        [" ", "12 34", "12a4", "1234w", "１２３４", "١٢٣٤", "1²", "1" * (DIGITS_KEYS_MAX + 1)],
    ),
    ("Digits", "digits", ["1234\n", "Hangup", "hangup1", "+1", "-1", "1.0", "1234E"]),
    ("StirVerstat", "stir_verstat", ["TN Validation", "A" * 65, "TN-Validation-Passed-Á"]),
    ("ApiVersion", "api_version", ["", "2010", "2010-04-01x", "２０１０-04-01"]),
]


@pytest.mark.parametrize(("name", "label", "values"), SHAPES)
def test_a_parameter_of_another_form_is_refused(name, label, values):
    """Each has a form of its own, in ASCII, from its first character to its last."""
    assert [refused(pairs(GATHER | {name: each})) for each in values] == [f"{label}.shape"] * len(values)


@pytest.mark.parametrize("name", ["AccountSid", "CallSid", "From", "To", "Direction", "CallStatus"])
def test_a_required_parameter_must_be_there(name):
    """Every webhook of a call has these six."""
    label = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    assert refused(pairs(without(GATHER, name))) == f"{label}.missing"


@pytest.mark.parametrize(
    "name", ["AccountSid", "ApiVersion", "CallSid", "ParentCallSid", "From", "To", "Direction", "CallStatus"]
)
def test_a_doubled_parameter_is_refused(name):
    """Equal or not: the signature folds equal pairs, so it does not say how many there were."""
    body = GATHER | {"ParentCallSid": PARENT}
    label = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    for value in (body[name], ""):
        assert refused((*pairs(body), (name, value))) == f"{label}.twice"


def test_doubled_digits_are_refused_and_other_doubles_are_not():
    """What the guard does not act on may repeat: it is the IVR's."""
    for value in ("1234", "5678"):
        assert refused((*pairs(GATHER), ("Digits", value))) == "digits.twice"
    assert read((*pairs(GATHER), ("msg", "a"), ("msg", "a"))).digits == "1234"


def test_an_account_that_is_not_ours_is_refused():
    """The signature decides first; this is for whoever asks again."""
    assert read(pairs(BARE), accounts=frozenset({ACCOUNT})).account_sid == ACCOUNT
    assert refused(pairs(BARE), accounts=frozenset({"AC" + "1" * 32})) == "account_sid.foreign"
    assert refused(pairs(BARE), accounts=frozenset()) == "account_sid.foreign"


# --- bodies that sign like others


@pytest.mark.parametrize(
    "params",
    [
        (*pairs(without(GATHER, "Digits")), ("Digits1", "234")),
        (*pairs(without(GATHER, "Digits")), ("Digits1234", "")),
        (*pairs(without(GATHER, "Digits")), ("Digit", "s1234")),
        (*pairs(without(GATHER, "Digits")), ("D", "igits1234")),
        pairs(BARE | {"Digits1": "234"}),
        pairs(BARE | {"Digit": "s"}),
        pairs(BARE | {"Digitshang": "up"}),
        pairs(GATHER | {"Digits1": "234"}),
        pairs(BARE | {"CallerZip": "80201Digits1234"}),
        pairs(BARE | {"CallerZip80201Digits": "1234"}),
        pairs(BARE | {"CallerZip80201Digits12": "34"}),
        pairs(BARE | {"CallerZipDi": "gits1234"}),
        pairs(BARE | {"CallerZipDigits": "1234"}),
        pairs(BARE | {"CallerZip": "80201Digitshangup"}),
        pairs(BARE | {"From": "+14158675309ParentCall", f"SidCA{PARENT[2:]}": ""}),
        (*pairs(without(BARE, "CallSid")), (CALL.join(["CallSid", ""]), "")),
        (*pairs(without(BARE, "CallSid")), ("CallSidCA", CALL[2:])),
        (*pairs(without(BARE, "AccountSid")), ("AccountSi", "d" + ACCOUNT)),
        (*pairs(without(BARE, "CallStatus")), ("CallStatusin", "-progress")),
        (*pairs(without(BARE, "Direction")), ("Directioninbound", "")),
        (*pairs(without(BARE, "From")), ("From+1415", "8675309")),
        (*pairs(without(BARE, "To")), ("Tosip:a", "@b")),
        pairs(BARE | {"StirVerstatTN-": "Validation-Passed-A"}),
        pairs(BARE | {"ApiVersion2010": "-04-01"}),
        pairs(BARE | {f"ParentCallSid{PARENT}": ""}),
        pairs(BARE | {"FromZip": f"80201ParentCallSid{PARENT}"}),
        pairs(BARE | {"From": f"+14158675309ParentCallSid{PARENT}"}),
    ],
)
def test_a_boundary_that_was_moved_is_refused(params):
    """`Digits=1234` signs like `Digits1=234`, and like `CallerZip=80201Digits1234` with the zip before it."""
    assert refused(params) == "parameter.shifted"


def test_a_parameter_without_a_name_is_refused():
    """Twilio sends none; it would be text that signs and that nobody reads."""
    assert refused(parse_form(b"=Digits1234&") + pairs(BARE)) == "parameter.nameless"


@pytest.mark.parametrize(
    "extra",
    [
        {"CardDigits": "1234"},
        {"FromDigits": "1234"},
        {"DialParentCallSid": PARENT},
        {"DigitsCount": "4"},
        {"DigitsMax": "4"},
        {"CallSidLegacy": "v3:abc"},
        {"CallStatusReason": "busy"},
        {"DirectionHint": "inbound"},
        {"FromName": "Bob"},
        {"Token": "1234"},
        {"To2": "5"},
        {"SpeechResult": "I pressed Digits12"},
        {"CallerName": "DIGITS 24"},
        {"SipHeader_X-Digits": "1234"},
        {"": ""} | {"x": ""},
    ],
)
def test_a_parameter_that_is_new_is_ignored(extra):
    """Twilio adds parameters without notice; only what can be a value run together with a name is refused."""
    extra = without(extra, "")
    delivery = read(pairs(BARE | extra))
    assert (delivery.digits, delivery.params) == (None, pairs(BARE | extra))


NEW_NAMES = st.from_regex(r"([A-Z][a-z]{1,8}){2,4}", fullmatch=True).filter(lambda name: name not in REASONS)


@given(st.sampled_from(BODIES), st.dictionaries(NEW_NAMES, TEXT, max_size=3))
@example(BARE, {"CardDigits": "1234", "DigitsCount": "4"})
def test_unknown_parameters_change_nothing(body, extra):
    """With any further parameters of Twilio's kind of name, the same is read."""
    expected, actual = read(pairs(body)), read(pairs(extra | body))
    for name in set(Delivery.__slots__) - {"params", "finished_on_key"}:
        assert getattr(actual, name) == getattr(expected, name)


def resplit(text):
    """Every way to read one text as one or two parameters."""
    ends = range(1, len(text) + 1)
    yield from (((text[:a], text[a:]),) for a in ends)
    for b in ends:
        for c in range(b + 1, len(text) + 1):
            yield from (((text[:a], text[a:b]), (text[b:c], text[c:])) for a in range(1, b + 1))


def shifts(body):
    """Every body that signs like this one with one or two neighbours read anew (Twilio sorts, then joins)."""
    fields = sorted(body.items())
    for first in range(len(fields)):
        for size in (1, 2):
            here = fields[first : first + size]
            before, after = fields[:first], fields[first + size :]
            low, high = (before or [("", "")])[-1], (after or [("~", "")])[0]
            for anew in resplit("".join(map("".join, here))):
                in_order = low < anew[0] <= anew[-1] < high and (len(anew) == 1 or anew[0] < anew[1])
                if in_order and list(anew) != here:
                    yield (*before, *anew, *after)


def told(delivery):
    """What a captured signature must never be made to say otherwise. No digits and blank ones are no answer."""
    return delivery.call_sid, delivery.account_sid, delivery.digits or None, delivery.child, delivery.over


@pytest.mark.parametrize("body", BODIES)
def test_no_body_that_signs_alike_says_anything_else(body):
    """
    A signature fits every body whose sorted names and values join to the same text.

    All of those with one or two neighbours read anew are tried: each is refused, or says the same of the call,
    the account, the digits, and whether the leg is a child or over.
    """
    expected, signed = told(read(pairs(body))), sign("token", "https://guard.example", pairs(body))
    alike = list(shifts(body))
    assert len(alike) > 500
    assert {sign("token", "https://guard.example", params) for params in alike[::97]} == {signed}
    assert {told(each) for each in map(outcome, alike) if isinstance(each, Delivery)} <= {expected}


@given(
    st.one_of(
        st.binary(max_size=200),
        FIELDS.map(lambda fields: urlencode(fields).encode()),
        st.tuples(st.sampled_from(BODIES), FIELDS).map(
            lambda both: urlencode([*pairs(both[0]), *both[1]]).encode()
        ),
        st.tuples(st.sampled_from(BODIES), st.sampled_from(sorted(GATHER)), TEXT).map(
            lambda three: urlencode(three[0] | {three[1]: three[2]}).encode()
        ),
        st.text(string.ascii_letters + string.digits + "%&=+\udcff", max_size=60).map(
            lambda text: text.encode("utf-8", "surrogateescape")
        ),
    )
)
def test_whatever_comes_is_read_or_refused_by_name(body):
    """No bytes make anything but a delivery or a reason that may be logged."""
    delivery = outcome(body)
    assert delivery in REASONS if isinstance(delivery, str) else delivery.params == parse_form(body)
