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


def attested_a(stir_verstat: str | None) -> bool:
    """
    Say whether the carrier vouches in full for the number: `TN-Validation-Passed-A`, to the letter.

    Not the `-Diverted` and `-Passthrough` variants, whose signature is not the originating carrier's word on
    this leg. None (most calls carry no attestation) is not a bad sign, but it is not A.
    """
    return stir_verstat == "TN-Validation-Passed-A"
