"""One spelling for each address, and a strict reading of attestation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.caller import (
    ADDRESS_CHARS_MAX,
    ANONYMOUS,
    Address,
    AddressKind,
    Attestation,
    address_of,
    attestation_notes,
    attestation_of,
    attested_a,
    country_prefix,
)

PHONE, SIP, CLIENT = AddressKind.PHONE, AddressKind.SIP, AddressKind.CLIENT


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("+14158675309", Address(PHONE, "+14158675309")),
        ("+1415867", Address(PHONE, "+1415867")),
        ("+123456789012345", Address(PHONE, "+123456789012345")),
        ("client:alice", Address(CLIENT, "client:alice")),
        ("Client:Alice", Address(CLIENT, "client:Alice")),
        ("sip:alice@example.com", Address(SIP, "sip:alice@example.com")),
        ("SIP:Alice@Example.COM", Address(SIP, "sip:Alice@example.com")),
        ("sips:alice@example.com:5061;transport=tls?X-A=b", Address(SIP, "sip:alice@example.com")),
        ("sip:alice:secret@example.com", Address(SIP, "sip:alice@example.com")),
        ("sip:a%40b@example.com", Address(SIP, "sip:a%40b@example.com")),
        (
            "sip:+14158675309;phone-context=x@10.0.0.1",
            Address(SIP, "sip:+14158675309;phone-context=x@10.0.0.1"),
        ),
        ("sip:bob@[2001:DB8::1]:5060", Address(SIP, "sip:bob@[2001:db8::1]")),
        ("sip:example.com;lr", Address(SIP, "sip:example.com")),
    ],
)
def test_every_spelling_of_an_address_becomes_one(raw, expected):
    """Numbers, SIP URIs and clients are recognised and spelt one way."""
    assert expected == address_of(raw)


@pytest.mark.parametrize("number", ["+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"])
def test_placeholder_numbers_are_nobodys(number):
    """The numbers that stand for a withheld caller ID are not callers: all of them share one bucket."""
    assert address_of(number) == ANONYMOUS


@pytest.mark.parametrize(
    "raw",
    [
        *["anonymous", "Unknown", "RESTRICTED", "Blocked", "unavailable"],
        *["", " ", "Bob", "4158675309", "+", "+0158675309", "+123456", "+1234567890123456", "+1415867530a"],
        *["+14158675309\n", " +14158675309", "+1 415 867 5309", "+١٤١٥٨٦٧٥٣٠٩", "+１４１５８６７５３０９"],
        *[
            "client:",
            "client:a b",
            "client:\n",
            "sip:",
            "sip:@",
            "sip:alice@",
            "sip:a b@example.com",
            "sip:a@b@c",
        ],
        *[
            '"Bob" <sip:bob@example.com>',
            "sip:bob@example.com:port",
            "tel:+14158675309",
            "whatsapp:+14158675309",
        ],
        *["sip:anonymous@anonymous.invalid", "sip:Anonymous@pbx.example", "sip:+266696687@pbx.example"],
        "sip:" + "a" * ADDRESS_CHARS_MAX + "@example.com",
    ],
)
def test_what_cannot_be_placed_is_anonymous(raw):
    """Nothing but a well-formed address names anybody; digits that are not ASCII are not digits."""
    assert address_of(raw) == ANONYMOUS


@given(st.one_of(st.text(), st.from_regex(r"(sips?|client):[!-~]{0,30}(@[!-~]{1,20})?", fullmatch=True)))
def test_an_address_is_canonical_and_never_empty(raw):
    """Reading a canonical address again changes nothing, so one address has one key."""
    address = address_of(raw)
    assert address.value
    assert address == address_of(address.value)


@pytest.mark.parametrize(
    ("verstat", "expected"),
    [
        ("TN-Validation-Passed-A", True),
        ("TN-Validation-Passed-A-Diverted", False),
        ("TN-Validation-Passed-A-Passthrough", False),
        ("TN-Validation-Passed-B", False),
        ("TN-Validation-Failed-A", False),
        ("TN-Validation-Failed", False),
        ("No-TN-Validation", False),
        ("tn-validation-passed-a", False),
        ("TN-Validation-Passed-A\n", False),
        ("NULL", False),
        ("", False),
        (None, False),
    ],
)
def test_attestation_a_is_matched_to_the_letter(verstat, expected):
    """Only the plain A counts; absent is not A."""
    assert expected == attested_a(verstat)


PLAIN = ("TN-Validation-Failed", "No-TN-Validation", "NULL")
DOCUMENTED = [
    *PLAIN,
    *(
        f"TN-Validation-{word}-{level}{suffix}"
        for word in ("Passed", "Failed")
        for level in "ABC"
        for suffix in ("", "-Diverted", "-Passthrough")
    ),
]


@pytest.mark.parametrize("verstat", DOCUMENTED)
def test_every_documented_value_is_read_as_it_is_spelled(verstat):
    """21 values: what was validated, the level, and how the call came."""
    word = attestation_of(verstat)

    validated = {"Passed": True, "Failed": False}.get([*verstat.split("-"), "", ""][2])
    level = next((part for part in verstat.split("-") if part in {"A", "B", "C"}), "")
    assert (word.passed, word.level) == (validated, level)
    assert (word.diverted, word.passthrough) == ("Diverted" in verstat, "Passthrough" in verstat)


def test_every_value_and_what_comes_of_it():
    """All of them: one opens a lane, and a few speak against the number. Nothing else ever does either."""
    opens = [value for value in (*DOCUMENTED, None, "") if attested_a(value)]
    told = {value: attestation_notes(value) for value in DOCUMENTED if attestation_notes(value)}

    assert (len(set(DOCUMENTED)), opens) == (21, ["TN-Validation-Passed-A"])
    assert told == {
        "TN-Validation-Passed-C": ("attestation_gateway",),
        "TN-Validation-Passed-C-Passthrough": ("attestation_gateway",),
        "TN-Validation-Passed-A-Diverted": ("diverted",),
        "TN-Validation-Passed-B-Diverted": ("diverted",),
        "TN-Validation-Passed-C-Diverted": ("attestation_gateway", "diverted"),
        "TN-Validation-Failed": ("attestation_failed",),
        "TN-Validation-Failed-A": ("attestation_failed",),
        "TN-Validation-Failed-B": ("attestation_failed",),
        "TN-Validation-Failed-C": ("attestation_failed",),
        "TN-Validation-Failed-A-Passthrough": ("attestation_failed",),
        "TN-Validation-Failed-B-Passthrough": ("attestation_failed",),
        "TN-Validation-Failed-C-Passthrough": ("attestation_failed",),
        "TN-Validation-Failed-A-Diverted": ("attestation_failed", "diverted"),
        "TN-Validation-Failed-B-Diverted": ("attestation_failed", "diverted"),
        "TN-Validation-Failed-C-Diverted": ("attestation_failed", "diverted"),
    }


@pytest.mark.parametrize(
    "verstat", [None, "", "null", "TN-Validation-Passed", "TN-Validation-Passed-D", "passed"]
)
def test_what_is_absent_or_unheard_of_says_nothing(verstat):
    """Most of the world's calls carry no attestation: that is not bad, and not good."""
    assert (attestation_of(verstat), attestation_notes(verstat)) == (Attestation(), ())


@pytest.mark.parametrize(
    ("verstat", "expected"),
    [
        ("TN-Validation-Passed-A", ()),
        ("TN-Validation-Passed-B", ()),
        ("TN-Validation-Passed-C", ("attestation_gateway",)),
        ("TN-Validation-Passed-A-Diverted", ("diverted",)),
        ("TN-Validation-Passed-A-Passthrough", ()),
        ("TN-Validation-Passed-C-Diverted", ("attestation_gateway", "diverted")),
        ("TN-Validation-Failed", ("attestation_failed",)),
        ("TN-Validation-Failed-A", ("attestation_failed",)),
        ("TN-Validation-Failed-C-Diverted", ("attestation_failed", "diverted")),
        ("No-TN-Validation", ()),
        ("NULL", ()),
    ],
)
def test_what_an_attestation_says_against_a_number(verstat, expected):
    """For the record and the agent's eyes: no level and no lane comes of it."""
    assert expected == attestation_notes(verstat)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *[("+18005550100", "1"), ("+18765550100", "1"), ("+79161234567", "7"), ("+442071234567", "44")],
        *[
            ("+353861234567", "353"),
            ("+4915112345678", "49"),
            ("+971501234567", "971"),
            ("+8801712345", "880"),
        ],
    ],
)
def test_the_prefix_of_a_country(number, expected):
    """One, two or three digits; the United States and Jamaica share one."""
    assert expected == country_prefix(number)
