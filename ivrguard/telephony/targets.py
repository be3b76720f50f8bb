"""
Whom a transfer names, in the one spelling that rules are matched against.

The law of this file: two spellings of the same number or address are one target, whoever wrote them, in TwiML
(document.py) or in a request to the REST API (rest.py).
"""

import re

_PHONE_NUMBER = re.compile(r"\+?[0-9]+")


def number_of(text: str) -> str:
    """Return a phone number without the punctuation people put into it; other text as it is."""
    bare = re.sub(r"[\s().\-]", "", text)
    return bare if _PHONE_NUMBER.fullmatch(bare) else text


def address_of(uri: str) -> str:
    """Return the bare address of a SIP URI: scheme, user, host; no password, parameters, headers."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() not in {"sip", "sips"}:
        scheme, rest = "sip", uri
    user, at, host = rest.partition("@")
    if not at:
        user, host = "", rest
    host = re.split("[;?]", host, maxsplit=1)[0].lower()
    return f"{scheme.lower()}:{user.partition(':')[0]}{at}{host}"
