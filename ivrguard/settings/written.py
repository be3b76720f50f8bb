"""
Lists of secrets as they are written into a variable: entries one behind the other, each with its name.

A fault says which entry it is, by its place, and never what stands in it: `ValueError`.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote

KEY_BYTES = 32
TOKEN_CHARS_MIN = 16

_SEPARATORS = re.compile(r"[;,\s]+")
_KEY_ID = re.compile("[A-Za-z0-9_-]{1,32}")


def tokens(text: str) -> dict[str, tuple[str, ...]]:
    """`AC…=token,next;AC…=token`: auth tokens in force by AccountSid, in the order written."""
    found: dict[str, tuple[str, ...]] = {}
    for place, entry in _entries(text, r"[;\s]+"):
        sid, _, tokens = entry.partition("=")
        values = tuple(tokens.split(","))
        if not re.fullmatch("AC[0-9a-f]{32}", sid):
            raise ValueError(f"entry {place} does not begin with an AccountSid (AC and 32 hex digits) and =")
        if sid in found:
            raise ValueError(f"entry {place} names an account again; write its tokens behind each other")
        if any(not re.fullmatch(f"[!-~]{{{TOKEN_CHARS_MIN},}}", value) for value in values):
            raise ValueError(f"entry {place} has a token that is none: too short, or with signs not in any")
        found[sid] = values
    return found


def shared_keys(text: str) -> tuple[tuple[str, bytes, str], ...]:
    """`id:HMAC_SHA256=secret;…` as (key id, secret, algorithm)."""
    found: list[tuple[str, bytes, str]] = []
    for place, entry in _entries(text, r"[;\s]+"):
        name, _, secret = entry.partition("=")
        key_id, _, algorithm = name.partition(":")
        if not re.fullmatch("[A-Za-z0-9_-]{1,64}", key_id) or algorithm != "HMAC_SHA256":
            raise ValueError(f"entry {place} does not begin with <key id>:HMAC_SHA256= (no other algorithm)")
        if len(secret) < TOKEN_CHARS_MIN:
            raise ValueError(f"entry {place} has a secret of less than {TOKEN_CHARS_MIN} characters")
        if key_id in {one[0] for one in found}:
            raise ValueError(f"entry {place} has an id that stands there already")
        found.append((key_id, secret.encode(), algorithm))
    return tuple(found)


def side_door_keys(text: str) -> dict[tuple[str, str], str]:
    """`AC…/SK…=secret;…`: what the IVR presents at the REST side door, by account and user name."""
    found: dict[tuple[str, str], str] = {}
    for place, entry in _entries(text, r"[;\s]+"):
        name, _, secret = entry.partition("=")
        sid, _, user = name.partition("/")
        if not re.fullmatch("AC[0-9a-f]{32}", sid) or not re.fullmatch("[A-Za-z0-9_-]{2,64}", user):
            raise ValueError(f"entry {place} does not begin with <AccountSid>/<key's SID>=")
        if (sid, user) in found:
            raise ValueError(f"entry {place} has a key that stands there already")
        if not re.fullmatch(f"[!-~]{{{TOKEN_CHARS_MIN},}}", secret):
            raise ValueError(f"entry {place} has a secret that is none: too short, or with signs not in any")
        found[sid, user] = secret
    return found


def keys(text: str) -> dict[str, bytes]:
    """`k2=<base64>;k1=<base64>`: 32 bytes by key id, the current one first."""
    found: dict[str, bytes] = {}
    for place, entry in _entries(text, _SEPARATORS.pattern):
        key_id, equals, secret = entry.partition("=")
        if not equals or not _KEY_ID.fullmatch(key_id):
            raise ValueError(f"entry {place} is not <id>=<base64>")
        if key_id in found:
            raise ValueError(f"entry {place} has an id that stands there already")
        found[key_id] = _key(secret, f"entry {place}")
    return found


def headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, values escaped as in a URL (https://opentelemetry.io/docs/specs/otel/protocol/exporter/)."""
    found: dict[str, str] = {}
    for place, entry in _entries(text, ","):
        name, equals, value = (part.strip() for part in entry.partition("="))
        plain = unquote(value)
        if not equals or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) or not re.fullmatch("[ -~]+", plain):
            raise ValueError(f"entry {place} is not <name>=<value>")
        found[name] = plain
    return found


def shared_secret(text: str) -> tuple[str, bytes]:
    """`k1=<base64>`: one key and its id."""
    (first, *others) = keys(text).items()
    if others:
        raise ValueError("there are two keys in it; the guard signs with one, and the other side takes both")
    return first


def _key(text: str, which: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII; its text may show what was given
        raise ValueError(f"{which} is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{which} has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _entries(text: str, separator: str) -> Iterator[tuple[int, str]]:
    entries = [entry for entry in re.split(separator, text) if entry]
    if not entries:
        raise ValueError("there is no entry in it")
    yield from enumerate(entries, start=1)
