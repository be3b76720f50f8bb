"""
Who is at the other end of a leg: one spelling for each address.

The law of this file:

1. Two spellings of one address give one `Address`; its `value` is never empty. Counters and lanes are kept
   per address, and two spellings would be two counters (https://github.com/golang/vulndb/issues/3468).
2. What cannot be placed is ANONYMOUS: it shares one bucket and is never taken for somebody.
3. An address proves nothing. Caller ID is easily forged; an attestation says that the carrier vouches for the
   right to use the number, not who is speaking.

Sources: what `From` and `To` may hold, https://www.twilio.com/docs/voice/twiml#request-parameters ; E.164
(ITU-T); SIP URIs, RFC 3261 section 19.1; attestation,
https://www.twilio.com/docs/voice/trusted-calling-with-shakenstir .
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

ADDRESS_CHARS_MAX = 512
"""Longer than any number, SIP URI or client identity in use; beyond it an address is not looked at."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_CLIENT = re.compile(r"(?i:client):([!-~]+)")
_SIP = re.compile(
    r"(?i:sips?):"
    r"(?:(?P<user>[A-Za-z0-9\-_.!~*'()&=+$,;?/%]+)(?::[^@\s]*)?@)?"  # a password is not part of the name
    r"(?P<host>[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::[0-9]{1,5})?(?:[;?][!-~]*)?"
)
# Words for a withheld caller ID, and the numbers that spell them on a telephone's keys. They are nobody's.
_WITHHELD = frozenset(
    {
        *("anonymous", "restricted", "blocked", "unknown", "unavailable"),
        "+266696687",  # ANONYMOUS
        "+7378742833",  # RESTRICTED
        "+2562533",  # BLOCKED
        "+8656696",  # UNKNOWN
        "+86282452253",  # UNAVAILABLE
    }
)
_TWO_DIGITS = frozenset(
    map(
        str,
        (
            *(20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56),
            *(57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98),
        ),
    )
)


class AddressKind(StrEnum):
    """How the other end of a leg is reached."""

    PHONE = "phone"
    SIP = "sip"
    CLIENT = "client"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Address:
    """
    One end of a leg in its only spelling, fit to be a key.

    `value` is an E.164 number, `sip:user@host`, `client:identity`, or the word `anonymous`. It is never empty,
    and no two kinds share a value.
    """

    kind: AddressKind
    value: str


ANONYMOUS = Address(AddressKind.ANONYMOUS, "anonymous")
"""Everybody who cannot be placed."""


def address_of(raw: str) -> Address:
    """
    Place what the provider says in `From` or `To`.

    E.164 numbers stand as they are. A SIP URI loses what does not name anybody (port, parameters, headers,
    password), its scheme becomes `sip` and its host lower case; percent-escapes in the user part are kept. A
    client keeps its identity, in its own case. Everything else is `ANONYMOUS`: withheld numbers with their
    placeholders and words, also as a SIP user (and `anonymous.invalid`, RFC 3323), text, a number that is not
    E.164 or holds digits that are not ASCII. Raises nothing.
    """
    if len(raw) > ADDRESS_CHARS_MAX or raw in _WITHHELD:
        return ANONYMOUS
    if _E164.fullmatch(raw):
        return Address(AddressKind.PHONE, raw)
    if client := _CLIENT.fullmatch(raw):
        return Address(AddressKind.CLIENT, f"client:{client[1]}")
    if sip := _SIP.fullmatch(raw):
        user, host = sip["user"], sip["host"].lower()
        if host == "anonymous.invalid" or (user and user.lower() in _WITHHELD):
            return ANONYMOUS
        return Address(AddressKind.SIP, f"sip:{user}@{host}" if user else f"sip:{host}")
    return ANONYMOUS


def country_prefix(number: str) -> str:
    """
    The country's prefix of an E.164 number, such as `1`, `44` or `353`: one to three digits, none of them another's beginning.

    A first digit 1 or 7 is a whole one; the two-digit ones are `_TWO_DIGITS`; all others have three (ITU-T E.164.1,
    list of assigned country codes).
    """
    digits = number.removeprefix("+")
    if digits[:1] in {"1", "7"}:
        return digits[:1]
    return digits[:2] if digits[:2] in _TWO_DIGITS else digits[:3]


@dataclass(frozen=True, slots=True)
class Attestation:
    """
    What the carriers say of a caller's right to his number (ATIS-1000074): `level` A, B, C or "".

    `passed` None: nothing was validated. `diverted`: the call was forwarded on its way. `passthrough`: the word is
    one that came with the call, handed on.
    """

    passed: bool | None = None
    level: str = ""
    diverted: bool = False
    passthrough: bool = False


_ATTESTATIONS: Mapping[str, Attestation] = {
    "TN-Validation-Failed": Attestation(passed=False),
    "No-TN-Validation": Attestation(),
    "NULL": Attestation(),
    **{
        f"TN-Validation-{word}-{level}{suffix}": Attestation(
            word == "Passed", level, diverted=suffix == "-Diverted", passthrough=suffix == "-Passthrough"
        )
        for word in ("Passed", "Failed")
        for level in "ABC"
        for suffix in ("", "-Diverted", "-Passthrough")
    },
}
"""Every value of `StirVerstat` that is documented; each is taken to the letter."""


def attestation_of(stir_verstat: str | None) -> Attestation:
    """What the provider says in `StirVerstat`. Absent, which most calls are, and unheard of: nothing was validated."""
    return _ATTESTATIONS.get(stir_verstat or "", Attestation())


def attested_a(stir_verstat: str | None) -> bool:
    """
    Say whether the carrier vouches in full for the number: `TN-Validation-Passed-A`, to the letter.

    Not the `-Diverted` and `-Passthrough` variants, whose signature is not the originating carrier's word on
    this leg. None (most calls carry no attestation) is not a bad sign, but it is not A.
    """
    return attestation_of(stir_verstat) == Attestation(passed=True, level="A")


def attestation_notes(stir_verstat: str | None) -> tuple[str, ...]:
    """
    What speaks against the number, for the record and the agent; never for or against the caller's proofs.

    Nothing where there is no attestation: outside the US and Canada that is every call.
    """
    word = attestation_of(stir_verstat)
    told = (
        ("attestation_failed", word.passed is False),
        ("attestation_gateway", word.passed is True and word.level == "C"),
        ("diverted", word.diverted),
    )
    return tuple(note for note, holds in told if holds)
