"""
The forms of settings that are one text: what is read from it, or `ValueError` with what it should be.

No fault shows anything of the text: it may be a secret in the wrong place.
"""

import re
from urllib.parse import SplitResult, urlsplit

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def url(text: str) -> str:
    """An origin: scheme, host and perhaps a port, without a slash at the end."""
    found = base(text)
    if urlsplit(found).path:
        raise ValueError("only scheme and host are wanted: the guard mirrors your IVR's own paths")
    return found


def base(text: str) -> str:
    """A URL that paths are put behind, without a slash at the end."""
    found, parts = _absolute(text)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("https is needed, except on this machine itself")
    return found


def collector(text: str) -> str:
    """The same, but http will do: what is sent there holds no secret, and collectors stand near by."""
    return _absolute(text)[0]


def _absolute(text: str) -> tuple[str, SplitResult]:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\s@?#\\]", text):
        raise ValueError("this is no absolute URL without user, query and fragment")
    return text.removesuffix("/"), parts


def store(text: str) -> str:
    """Where state is kept."""
    if text not in {"memory", "postgres"} and not (
        text.startswith("sqlite:") and text.removeprefix("sqlite:")
    ):
        raise ValueError("it is sqlite:<file>, postgres or memory (which forgets all when it ends)")
    return text


def database(text: str) -> str:
    """A database URL as hosts set it; what is in it is for stores/pool.py to say."""
    if not text.startswith(
        ("postgres://", "postgresql://")
    ):  # whatever it is, it may be a secret: it is not shown
        raise ValueError("this does not begin with postgresql:// or postgres://")
    return text


def numbers(text: str) -> tuple[str, ...]:
    """Telephone numbers in E.164, with commas, semicolons or blanks between."""
    found = tuple(filter(None, re.split(r"[;,\s]+", text)))
    for place, number in enumerate(found, 1):
        if not re.fullmatch(r"\+[1-9][0-9]{6,14}", number):
            raise ValueError(f"entry {place} is no phone number (+ and 7 to 15 digits)")
    return found


def sender(text: str) -> str:
    """What text messages come from."""
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}|[0-9]{5,6}", text):
        raise ValueError("this is neither a phone number (+ and digits) nor a short code")
    return text


def issuer(text: str) -> str:
    """An identity provider's name: a URL, kept to the letter, since providers compare it so (OpenID Connect Discovery 1.0, 4.3)."""
    base(text)
    return text


def scopes(text: str) -> str:
    """What is asked of an identity provider, with blanks between."""
    if "openid" not in text.split():
        raise ValueError("'openid' is not among the scopes, and without it nobody says who somebody is")
    return " ".join(text.split())
