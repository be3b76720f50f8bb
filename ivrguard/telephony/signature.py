"""
Twilio's signature: checked on what comes in, made for the IVR behind the guard.

What is signed (https://www.twilio.com/docs/usage/security): base64(HMAC-SHA1(auth token, URL + for each form
field, sorted by name, name + value)). The law of this file:

1. The URL is the one configured here plus the request-target as it came. `Host` and `X-Forwarded-*` are the
   sender's word and are never looked at.
2. The auth tokens are those in force for the AccountSid named: several during a rotation, and every sub-account
   has its own. An AccountSid that is not ours is refused, after as much work as one that is.
3. A request that names a shared key is checked with that key and the algorithm pinned in our configuration.
   The header is not signed, so it chooses a key and nothing else: another algorithm is refused, and there is
   no falling back to the auth token (https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys).
4. A body that is not a form is named by `bodySHA256` in the query, or refused.
5. Twilio is not consistent about ports, `user:pass`, and the escapes of a query. A few spellings of the same
   URL are accepted, no more than `HMACS_MAX` HMACs a request; the usual one is tried first and costs one.
6. Comparisons take the same time wherever the difference stands. Secrets are in no repr and no message.

Spellings: without and with the port, https://github.com/twilio/twilio-python/issues/392 ; `'` `@` `:` signed
bare and sent escaped, https://github.com/twilio/twilio-node/issues/1059 and
https://github.com/twilio/twilio-node/pull/621 ; a bare origin signed without its slash,
https://github.com/kevinburke/twilio-go/issues/25 ; WebSocket handshakes under `wss`, with a slash appended, or
with the query as parameters, https://github.com/twilio-labs/twilio-aspnet/issues/162 .
"""

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

HMACS_MAX = 1024
"""The most HMACs one request can cost. Every key is tried on the usual spelling, whatever their number."""

_HASHES = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_DEFAULT_PORTS = {"https": ":443", "wss": ":443", "http": ":80", "ws": ":80"}
_PORT = re.compile(r":[0-9]*\Z")
_LEGACY_SAFE = "-_.!~*'()"
_SIGNED_BARE = re.compile(r"%(?:27|40|3[Aa])")  # ' @ :


@dataclass(frozen=True, slots=True)
class SharedKey:
    """
    A key that Twilio signs with instead of the auth token, of our own making.

    `key_id` is the identifier that the header names; `algorithm` is `HMAC_SHA1` or `HMAC_SHA256`, pinned here.
    Raises ValueError, without any value, for an empty id or secret or another algorithm.
    """

    key_id: str
    secret: bytes = field(repr=False)
    algorithm: str

    def __post_init__(self) -> None:
        if not self.key_id or not self.secret:
            raise ValueError("a shared key needs an id and a secret")
        if self.algorithm not in _HASHES:
            raise ValueError("a shared key's algorithm is HMAC_SHA1 or HMAC_SHA256")


class _Key(NamedTuple):
    """An HMAC with its key already scheduled (copied for each message); a decoy is not `ours`."""

    mac: hmac.HMAC
    ours: bool


class _Url(NamedTuple):
    """A URL in pieces that join to it again: `user` ends in @, `port` begins with a colon."""

    scheme: str
    user: str
    host: str
    port: str
    rest: str


def sign(
    token: str | bytes, url: str, params: Sequence[tuple[str, str]] = (), algorithm: str = "HMAC_SHA1"
) -> str:
    """
    Sign a request by the documented rules: the value of `X-Twilio-Signature`.

    `url` is the URL as configured at the receiver (`signed_url` is applied to it); `params` are the decoded
    fields of a form POST, blank ones included, and none for GET, JSON and WebSocket. Equal pairs count once.
    Raises ValueError for a URL without a scheme, or an algorithm other than `HMAC_SHA1` and `HMAC_SHA256`.
    """
    if algorithm not in _HASHES:
        raise ValueError("the algorithm is HMAC_SHA1 or HMAC_SHA256")
    secret = token.encode() if isinstance(token, str) else token
    message = (signed_url(url) + _joined(params)).encode("utf-8", "surrogateescape")
    return _signature(_keyed(secret, algorithm), message).decode()


def signed_url(url: str) -> str:
    """
    Cut a URL down to what is signed: no fragment, no `user:pass`, no port on https and wss.

    Nothing else changes: neither the case of the host, nor `//`, nor escapes. Raises ValueError for a URL
    without a scheme.
    """
    parts = _split(url)
    port = "" if parts.scheme.lower() in {"https", "wss"} else parts.port
    return f"{parts.scheme}://{parts.host}{port}{parts.rest.partition('#')[0]}"


def body_sha256(body: bytes) -> str:
    """Hash a body that is not a form, as the `bodySHA256` of its URL wants it: lower-case hex."""
    return hashlib.sha256(body).hexdigest()


class Verifier:
    """
    Checks the signatures of everything that is posted to one public URL.

    `public_url`: scheme, host and, if they are part of what Twilio calls, `user:pass`, port and path prefix.
    `tokens`: the auth tokens in force for each AccountSid of ours, first the one most used; an account whose
    webhooks are signed with shared keys alone has none. `shared_keys`: see `SharedKey`.

    Raises ValueError, without any secret, for a public URL that is not an http(s) origin with an optional path,
    an empty token, or two shared keys of one id. Immutable; keys are scheduled once, here.
    """

    def __init__(
        self,
        public_url: str,
        tokens: Mapping[str, Sequence[str]],
        shared_keys: Sequence[SharedKey] = (),
    ) -> None:
        self._origins = _origins(public_url, websocket=False)
        self._socket_origins = _origins(public_url, websocket=True)
        if not all(token for each in tokens.values() for token in each):
            raise ValueError("an auth token must not be empty")
        self._shared = {
            each.key_id: (each.algorithm, (_Key(_keyed(each.secret, each.algorithm), ours=True),))
            for each in shared_keys
        }
        if len(self._shared) != len(shared_keys):
            raise ValueError("each shared key needs an id of its own")

        # Accounts with fewer tokens than others are given decoys, so that a refusal takes as long for each.
        decoy = _Key(_keyed(b"decoy", "HMAC_SHA1"), ours=False)
        most = max((1, *map(len, tokens.values())))
        self._nobody = (decoy,) * most
        self._accounts = {
            account: (
                *(_Key(_keyed(token.encode(), "HMAC_SHA1"), ours=True) for token in each),
                *self._nobody,
            )[:most]
            for account, each in tokens.items()
        }
        every = dict.fromkeys(chain.from_iterable(tokens.values()))
        self._everybody = tuple(_Key(_keyed(token.encode(), "HMAC_SHA1"), ours=True) for token in every)

    def verify(
        self,
        *,
        target: str,
        params: Sequence[tuple[str, str]] | None,
        body: bytes,
        signature: str,
        settings_header: str | None = None,
        account_sid: str | None,
        websocket: bool = False,
    ) -> bool:
        """
        Say whether Twilio signed this request for us.

        `target`: the raw request-target, path and query (bytes outside ASCII as UTF-8 or lone surrogates).
        `params`: the decoded fields of a form; () for GET; None for a body of another type, whose hash the query
        must then name. `signature` and `settings_header`: the values of `X-Twilio-Signature` (blank when it is
        missing) and `X-Twilio-Webhooks-Signature-Settings`. `account_sid`: as the request claims it, not yet
        believed; None when it does not say (JSON, WebSocket), and then every token of ours is tried.
        `websocket`: a handshake; `params` and `body` are not looked at. Raises nothing.
        """
        if not target.startswith("/"):
            return False
        if params is None and not websocket and not _body_is_named(target, body):
            return False
        keys = self._keys(account_sid, settings_header)
        tail = "" if websocket else _joined(params or ())
        try:
            claimed = signature.encode()
            for message in islice(self._messages(target, tail, websocket), max(1, HMACS_MAX // len(keys))):
                data = message.encode("utf-8", "surrogateescape")
                for key in keys:
                    if hmac.compare_digest(_signature(key.mac, data), claimed) and key.ours:
                        return True
        except UnicodeEncodeError:  # characters that cannot have come over a wire
            return False
        return False

    def _keys(self, account_sid: str | None, settings_header: str | None) -> tuple[_Key, ...]:
        """Find the keys that may have signed; never none, so that a stranger costs what a customer costs."""
        known = account_sid is None or account_sid in self._accounts
        if settings_header is not None:
            key_id, algorithm = _settings(settings_header)
            pinned, keys = self._shared.get(key_id, ("", self._nobody))
            return keys if known and algorithm == pinned else self._nobody
        if account_sid is None:
            return self._everybody or self._nobody
        return self._accounts.get(account_sid, self._nobody)

    def _messages(self, target: str, tail: str, websocket: bool) -> Iterator[str]:
        """Spell what may have been signed: the usual one first, the others made only when that one fails."""
        origins = self._socket_origins if websocket else self._origins
        usual = origins[0] + target + tail
        yield usual
        rests = [spelling + tail for spelling in _spellings(target)]
        if websocket:
            path, mark, query = target.partition("?")
            rests.append(f"{path}/{mark}{query}")
            rests.append(path + _joined(parse_qsl(query, keep_blank_values=True)))
        others = dict.fromkeys(origin + rest for rest in rests for origin in origins)
        del others[usual]
        yield from others


def _split(url: str) -> _Url:
    """Cut a URL into pieces without changing a character, which the standard library's parsers do."""
    scheme, mark, after = url.partition("://")
    authority = re.split(r"[/?#]", after, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    port = found[0] if (found := _PORT.search(host)) else ""
    host = host.removesuffix(port)
    if not scheme or not mark or not host:
        raise ValueError("not a URL with a scheme and a host")
    return _Url(scheme, user + at, host, port, after[len(authority) :])


def _origins(public_url: str, *, websocket: bool) -> tuple[str, ...]:
    """Spell what stands before the request-target, first as Twilio documents it for voice."""
    parts = _split(public_url)
    scheme = parts.scheme
    if scheme.lower() not in {"http", "https"} or "?" in parts.rest or "#" in parts.rest:
        raise ValueError("the public URL is http(s), without query and fragment")
    if websocket:
        scheme = {"http": "ws", "https": "wss"}[scheme.lower()]
    ports = ["", parts.port or _DEFAULT_PORTS[scheme.lower()]]
    if parts.port and scheme.lower() in {"http", "ws"}:
        ports.reverse()
    prefix = parts.rest.rstrip("/")
    spelt = (f"{scheme}://{user}{parts.host}{port}{prefix}" for user in ("", parts.user) for port in ports)
    return tuple(dict.fromkeys(spelt))


def _spellings(target: str) -> list[str]:
    """List the spellings of one request-target that Twilio is known to sign in place of the one it sends."""
    path, mark, query = target.partition("?")
    spelt = [target]
    if query:
        spelt.append(path + mark + _SIGNED_BARE.sub(lambda escape: chr(int(escape[0][1:], 16)), query))
        spelt.append(path + mark + query.replace("'", "%27"))
        with suppress(UnicodeError):  # escapes that are not UTF-8 have no such spelling
            spelt.append(path + mark + _legacy(query))
    if path == "/":
        spelt += [each[1:] for each in spelt]
    return spelt


def _legacy(query: str) -> str:
    """Decode and encode a query again, as Node's `querystring` does and some of Twilio's own parts with it."""
    grouped: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
        grouped.setdefault(name, []).append(value)
    return "&".join(
        f"{quote(name, safe=_LEGACY_SAFE)}={quote(value, safe=_LEGACY_SAFE)}"
        for name, values in grouped.items()
        for value in values
    )


def _body_is_named(target: str, body: bytes) -> bool:
    """Is this the body whose hash stands in the query? None need stand there for no body."""
    query = target.partition("?")[2]
    named = [part[11:] for part in query.split("&") if part.startswith("bodySHA256=")]
    if not named:
        return not body
    return len(named) == 1 and hmac.compare_digest(
        named[0].encode("utf-8", "replace"), body_sha256(body).encode()
    )


def _settings(header: str) -> tuple[str, str]:
    """Read `key=<id>,algorithm=<name>`: what it lacks, or says twice, is blank and fits no key."""
    found: dict[str, str] = {}
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        found[name] = "" if name in found else value
    return found.get("key", ""), found.get("algorithm", "")


def _joined(params: Sequence[tuple[str, str]]) -> str:
    """Join fields as they are signed: by name, then value, equal pairs once, nothing between."""
    return "".join(chain.from_iterable(sorted(set(params))))


def _keyed(secret: bytes, algorithm: str) -> hmac.HMAC:
    return hmac.new(secret, None, _HASHES[algorithm])


def _signature(mac: hmac.HMAC, message: bytes) -> bytes:
    mac = mac.copy()
    mac.update(message)
    return b2a_base64(mac.digest(), newline=False)
