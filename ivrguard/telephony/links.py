"""
Links: every URL between the IVR's world and the guard's, both ways, with a MAC.

The law kept here: *every URL that a leg can follow leads back to the guard*, and what comes back
is exactly what the IVR meant.

1. The guard mirrors the IVR's own origin one to one; other listed origins stand under
   `/.ivrguard/at/<host>/`. An origin that nobody listed is refused, never passed through.
2. One control parameter, `_ivrguard=<kind><g|p>.<turn>.<mac>`, says what the URL is for, which
   method the IVR expects and which turn of the call wrote it. The MAC (HMAC-SHA-256 cut to 128
   bits) covers all of these and the URL, so nothing can be swapped. Links are written with one key and
   taken with older ones too, so that no call dies in the minutes around a rotation. A URL without the parameter
   is gated like the first request of a call.
3. The IVR's own query arrives byte for byte, wherever the control parameter stands in it. Only
   characters that may not stand in a URL at all (blanks, non-ASCII letters) are percent-encoded.
4. The MAC does not mind when the provider percent-encodes or decodes a character that never
   separates anything (`'`, `@`, `:`, brackets), as Twilio does on its way
   (https://github.com/twilio/twilio-node/issues/1183, .../pull/621).
   Nor does it mind the `bodySHA256` that the provider puts behind the query of a URL to which it posts what is
   no form (https://www.twilio.com/docs/usage/security): the signature covers that, and the IVR wants to see it.
5. A path has one spelling. Encoded dots, slashes, backslashes and NULs, dot segments and control
   characters are refused: two readers could disagree about them, and rules go by the path.
6. The fragment (`#rc=2`) holds Twilio's connection overrides and stays on the outside
   (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).

References are resolved as RFC 3986 section 5 says, after the padding that Twilio's own samples put
around URLs is taken off (https://www.twilio.com/docs/voice/twiml/redirect).
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

CONTROL_PARAMETER = "_ivrguard"
OWN_PATH = "/.ivrguard"  # what the guard itself serves lives under here
MAC_BYTES = 16
MAC_KEY_BYTES_MIN = 32
URL_CHARS_MAX = 8_000  # a request line may be 8,190 bytes long at the guard's own door
_URLS_KEPT_MAX = 1_024
_MAC_CHARS = 22  # 16 bytes in base64url without padding
_MAC_LABEL = "ivrguard.link.1"

_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_METHODS = {"GET": "g", "POST": "p"}
_METHOD_NAMES = {letter: name for name, letter in _METHODS.items()}

_PARTS = re.compile(  # RFC 3986, appendix B; matches everything
    r"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_AUTHORITY = re.compile(r"([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_TREACHEROUS = re.compile(r"[\x00-\x1f\x7f\\]")
_NOT_IN_A_URL = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")
_TARGET = re.compile(r"(/[!\"$->@-\[\]-~]*)(?:\?([!\"$-\[\]-~]*))?")  # printable ASCII, no # or \
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TWO_READINGS = re.compile(r"%(?:2[EeFf]|5[Cc]|00)")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NEVER_SEPARATES = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~ \"'<>@:[]^`{|}!()*,"
)
_BODY_HASH = re.compile(r"[?&]bodySHA256=[0-9a-fA-F]{64}\Z")
_HAS_CONTROL = re.compile(r"(?:^|&)_ivrguard(?:[=&]|$)")
_CONTROL = re.compile(r"_ivrguard=([twqsm][gp])\.(0|[1-9][0-9]{0,8})\.([A-Za-z0-9_\-]{22})")
_PATH_PARAMETERS = re.compile(r";[^/]*")
_SAID = re.compile(r"[?&]_ivrguard=([twqsm])[gp]\.")
_ELSEWHERE = re.compile(r"/\.ivrguard/at/([^/]+)(/.*)?")


class Kind(StrEnum):
    """
    What answers at a URL may do to a leg of the call.

    T takes control of the caller's leg and is gated. W is a whisper on the callee's leg before the
    two are joined. Q is heard, often looped, while the caller waits. S is a notice whose reply is ignored. M is
    media.
    """

    T = "t"
    W = "w"
    Q = "q"
    S = "s"
    M = "m"


class Refused(Exception):
    """
    The IVR's document or a URL cannot be taken.

    `reason` is one of a few constants, fit for logs and metrics. `detail` names the element, the
    attribute or the host, and never holds a query string, a text or anything a caller keyed.

    Reasons raised here: `link.origin` (not listed, not http(s), user name in it, or a forged path of
    the guard's own), `link.path` (a path with two readings), `link.mac` (forged, changed or doubled
    control parameter), `link.length`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason

    def at(self, place: str) -> "Refused":
        """Return the same verdict with the place in the document before its detail."""
        return Refused(self.reason, f"{place} {self.detail}".rstrip())


@dataclass(frozen=True, slots=True)
class Inward:
    """
    What a request target that reached the guard stands for in the IVR's world.

    `url` is absolute and without the control parameter. `path` is the one spelling that rules are
    matched against: decoded once, `//` collapsed, no trailing slash; on a listed origin that is not
    the mirrored one it is `//host/path`, which no rule for the main origin matches. `method` and
    `turn` are None when the URL carried no control parameter (a number's voice URL, a redirect by
    REST).
    """

    url: str = field(repr=False)  # its query may hold whatever the IVR keeps there
    path: str
    kind: Kind
    method: str | None
    turn: int | None


class _Url(NamedTuple):
    """An absolute URL in parts. `port` is empty when it is the scheme's own."""

    scheme: str
    host: str
    port: str
    path: str
    query: str | None
    fragment: str | None
    canonical: str
    signed: str

    @property
    def query_part(self) -> str:
        return "" if self.query is None else f"?{self.query}"


class _Site(NamedTuple):
    """An origin that may be reached: `door` is its path at the guard, `name` is for rules."""

    origin: str
    door: str
    name: str


class _Unsigned(NamedTuple):
    """A link without its use, turn and MAC: the URL up to them, what is signed, the fragment."""

    start: str
    signed: str
    fragment: str


class _Blocks(NamedTuple):
    """A key of MACs, ready to be used."""

    inner: "hashlib._Hash"
    outer: "hashlib._Hash"


class _Map(NamedTuple):
    """The settings, worked out once. Keys are (scheme, host, port), (host, port) and labels."""

    public: tuple[str, str]
    public_origin: str
    prefix: str
    first: _Url
    mirrored: _Site
    exact: dict[tuple[str, str, str], _Site]
    loose: dict[tuple[str, str], _Site]
    labels: dict[str, _Site]
    sockets: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Links:
    """
    The map between the IVR's URLs and the guard's.

    `public_url` is the guard's own public origin, with a path prefix if it has one. `upstream` is
    the IVR's first document, absolute; its origin is mirrored. `also` lists other origins its
    documents may point to (`https://media.example`), and hosts for sockets (`wss://iva.example`).
    `mac_key` is secret, at least 32 bytes, and so are `older_keys`, with which links are still taken. Raises
    ValueError for settings that cannot work.
    """

    public_url: str
    upstream: str
    also: Sequence[str]
    mac_key: bytes = field(repr=False)
    older_keys: Sequence[bytes] = field(default=(), repr=False)
    _map: _Map = field(init=False, repr=False, compare=False)
    _blocks: tuple[_Blocks, ...] = field(init=False, repr=False, compare=False)
    _unsigned: Callable[[str], _Unsigned] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = (self.mac_key, *self.older_keys)
        if any(len(key) < MAC_KEY_BYTES_MIN for key in keys):
            raise ValueError(f"the link key must have at least {MAC_KEY_BYTES_MIN} bytes")
        object.__setattr__(self, "_map", _worked_out(self.public_url, self.upstream, self.also))
        object.__setattr__(self, "_blocks", tuple(map(_key_blocks, keys)))
        object.__setattr__(self, "_unsigned", lru_cache(_URLS_KEPT_MAX)(self._prepared))

    def outward(self, url: str, *, kind: Kind, method: str, turn: int) -> str:
        """
        Return the guard's URL for the IVR's absolute `url`.

        `method` is what the IVR expects, GET or POST; `turn` is the turn of the call that writes
        the link. A URL on the guard's own public origin is taken as the mirrored one (an IVR that
        builds its links from X-Forwarded-Host), and one that already carries a valid control
        parameter is unwrapped first. Raises Refused: link.origin, link.path, link.mac, link.length.
        """
        start, signed, fragment = self._unsigned(url)
        use = kind + _METHODS[method]
        written = f"{start}{use}.{turn}.{_mac(self._blocks[0], use, turn, signed)}{fragment}"
        if len(written) > URL_CHARS_MAX:
            raise Refused("link.length")
        return written

    def inward(self, target: str) -> Inward:
        """
        Return what a raw request target (path and query as received) stands for.

        The public prefix, or `/`, without a control parameter is the IVR's first document. Raises
        Refused: link.path for a path that is not the mirror's, link.mac for a control parameter
        that is forged, changed or doubled, link.origin for an origin no longer listed.
        """
        parts = _TARGET.fullmatch(target)
        if parts is None:
            raise Refused("link.path")
        site, path = self._site_of(self._below_prefix(parts[1]))
        control, query = _without_control(parts[2])
        if control is None and path == "/" and site is self._map.mirrored:
            first = self._map.first
            path = first.path
            query = "&".join(each for each in (first.query, query) if each) or None
        here = _parse(f"{site.origin}{path}" + ("" if query is None else f"?{query}"))
        url = f"{site.origin}{here.path}{here.query_part}"
        # Path parameters (`/wire;jsessionid=1`, RFC 3986, 3.3) are the server's own affair, not another path.
        name = f"{site.name}{_PATH_PARAMETERS.sub('', here.canonical)}"
        if control is None:
            return Inward(url, name, Kind.T, None, None)
        use, turn, mac = control
        signed = f"{site.origin}\n{_BODY_HASH.sub('', here.signed)}"
        if not any(hmac.compare_digest(_mac(key, use, turn, signed), mac) for key in self._blocks):
            raise Refused("link.mac")
        return Inward(url, name, Kind(use[0]), _METHOD_NAMES[use[1]], turn)

    def inward_or_none(self, target: str) -> Inward | None:
        """As `inward`, and None for a target that is not this map's."""
        try:
            return self.inward(target)
        except Refused:
            return None

    def allowed_socket(self, url: str) -> bool:
        """
        Whether a ws(s) URL leads to a listed host, on whatever port.

        Unencrypted `ws:` only where the listing is unencrypted itself.
        """
        try:
            parts = _parse(url)
        except Refused:
            return False
        return (parts.scheme, parts.host) in self._map.sockets

    def _prepared(self, url: str) -> _Unsigned:
        """Return a link but for its use, turn and MAC, which differ from call to call."""
        site, parts = self._place(_parse(url))
        query = "" if parts.query is None else f"{parts.query}&"
        return _Unsigned(
            f"{self._map.public_origin}{self._map.prefix}{site.door}{parts.path}?{query}{CONTROL_PARAMETER}=",
            f"{site.origin}\n{_BODY_HASH.sub('', parts.signed)}",
            "" if parts.fragment is None else f"#{parts.fragment}",
        )

    def _place(self, parts: _Url) -> tuple[_Site, _Url]:
        """Return the listed origin of a URL, and the URL as it stands there."""
        if parts.scheme not in {"http", "https"}:
            raise Refused("link.origin", f"{parts.scheme}:")
        address = (parts.host, parts.port)
        if address == self._map.public:
            return self._from_guard(parts)
        site = self._map.exact.get((parts.scheme, *address)) or self._map.loose.get(address)
        if site is None:
            raise Refused("link.origin", _host_and_port(parts))
        if parts.query is not None and _HAS_CONTROL.search(parts.query):
            raise Refused("link.mac", parts.host)
        if site is self._map.mirrored and _is_own(parts.canonical):
            raise Refused("link.origin", parts.host)
        return site, parts

    def _from_guard(self, parts: _Url) -> tuple[_Site, _Url]:
        """Take a URL on the guard's own origin for what the IVR meant by it."""
        fragment = "" if parts.fragment is None else f"#{parts.fragment}"
        if parts.query is not None and _HAS_CONTROL.search(parts.query):
            return self._place(_parse(self.inward(parts.path + parts.query_part).url + fragment))
        path, prefix = parts.path, self._map.prefix
        if f"{path}/".startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        return self._place(_parse(self._map.mirrored.origin + path + parts.query_part + fragment))

    def _below_prefix(self, path: str) -> str:
        prefix = self._map.prefix
        if not f"{path}/".startswith(f"{prefix}/"):
            raise Refused("link.path")
        return path[len(prefix) :] or "/"

    def _site_of(self, path: str) -> tuple[_Site, str]:
        """Return the origin that a path at the guard stands for, and the path over there."""
        if not _is_own(_canonical(path)):
            return self._map.mirrored, path
        elsewhere = _ELSEWHERE.fullmatch(path)
        if elsewhere is None:
            raise Refused("link.path")
        site = self._map.labels.get(elsewhere[1])
        if site is None:
            raise Refused("link.origin", _presentable(elsewhere[1]))
        return site, elsewhere[2] or "/"


def _key_blocks(key: bytes) -> _Blocks:
    """The two key blocks of RFC 2104, hashed once."""
    key = key if len(key) <= 64 else hashlib.sha256(key).digest()
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return _Blocks(hashlib.sha256(inner), hashlib.sha256(outer))


def _mac(key: _Blocks, use: str, turn: int, signed: str) -> str:
    inner, outer = key.inner.copy(), key.outer.copy()
    inner.update(f"{_MAC_LABEL}\n{use}.{turn}\n{signed}".encode())
    outer.update(inner.digest())
    return urlsafe_b64encode(outer.digest()[:MAC_BYTES])[:_MAC_CHARS].decode()


def _worked_out(public_url: str, upstream: str, also: Sequence[str]) -> _Map:
    public = _listed("public_url", public_url, path=True)
    first = _listed("upstream", upstream, path=True, query=True)
    mirrored = _Site(_origin(first), "", "")
    exact = {(first.scheme, first.host, first.port): mirrored}
    labels: dict[str, _Site] = {}
    sockets = {("wss", first.host)} | ({("ws", first.host)} if first.scheme == "http" else set())
    for each in also:
        other = _listed("also", each, sockets=True)
        sockets.add(("wss", other.host))
        if other.scheme in {"http", "ws"}:
            sockets.add(("ws", other.host))
        if other.scheme in {"ws", "wss"}:
            continue
        label = _label(other)
        site = _Site(_origin(other), f"{OWN_PATH}/at/{label}", f"//{_host_and_port(other)}")
        if labels.setdefault(label, site) != site:
            raise ValueError(f"also: two origins cannot be told apart: {label}")
        exact.setdefault((other.scheme, other.host, other.port), site)
    loose: dict[tuple[str, str], _Site] = {}
    for (_, host, port), site in exact.items():
        loose.setdefault((host, port), site)
    if (public.host, public.port) in loose:
        raise ValueError("the guard's own public origin cannot be the IVR's")
    return _Map(
        (public.host, public.port),
        _origin(public),
        public.path.rstrip("/"),
        first,
        mirrored,
        exact,
        loose,
        labels,
        frozenset(sockets),
    )


@lru_cache(_URLS_KEPT_MAX)
def resolve(base: str, reference: str) -> str:
    """
    Return `reference` as an absolute URL, seen from `base` (the document's final, absolute URL).

    RFC 3986 section 5.2, without the padding around the reference; an empty reference is the
    document itself. Nothing is checked here and no byte of the query changes. Raises Refused:
    link.length.
    """
    if len(reference) > URL_CHARS_MAX:
        raise Refused("link.length")
    scheme, authority, path, query, fragment = _in_parts(reference.strip(" \t\r\n"))
    if scheme is None:
        scheme, base_authority, base_path, base_query, _ = _in_parts(base)
        if authority is None:
            authority = base_authority
            if not path:
                path = base_path
                query = base_query if query is None else query
            elif path[0] != "/":
                path = f"{base_path.rpartition('/')[0]}/{path}"
    return "".join(
        (
            f"{scheme}:",
            "" if authority is None else f"//{authority}",
            _without_dots(path),
            "" if query is None else f"?{query}",
            "" if fragment is None else f"#{fragment}",
        )
    )


def _in_parts(url: str) -> tuple[str | None, str | None, str, str | None, str | None]:
    found = _PARTS.fullmatch(url)
    assert found is not None  # the pattern matches everything
    return found[1], found[2], found[3], found[4], found[5]


def _without_dots(path: str) -> str:
    """Take `.` and `..` out of a path (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            kept = kept[:-1] or [""]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/".join(kept)


def _parse(url: str) -> _Url:
    """Return an absolute URL in parts; refuse what two readers could read in two ways."""
    if len(url) > URL_CHARS_MAX:
        raise Refused("link.length")
    scheme, authority, path, query, fragment = _in_parts(url)
    scheme = (scheme or "").lower()
    if scheme not in _DEFAULT_PORTS:
        raise Refused("link.origin", _presentable(f"{scheme}:"))
    where = _AUTHORITY.fullmatch(authority or "")
    if where is None:
        raise Refused("link.origin", _presentable((authority or "").rpartition("@")[2]))
    if _NOT_IN_A_URL.search(url):
        if _TREACHEROUS.search(url):
            raise Refused("link.origin", where[1].lower())
        path = _escaped(path)
        query = query and _escaped(query)
        fragment = fragment and _escaped(fragment)
    path = path or "/"
    port = where[2] or ""
    return _Url(
        scheme,
        where[1].lower(),
        "" if port == _DEFAULT_PORTS[scheme] else port,
        path,
        query,
        fragment,
        _canonical(path),
        _same_to_all(path if query is None else f"{path}?{query}"),
    )


def _escaped(part: str) -> str:
    return _NOT_IN_A_URL.sub(lambda found: quote(found[0], safe=""), part)


def _canonical(path: str) -> str:
    """Return the one spelling of a path that rules are matched against, or refuse it."""
    if "%" in path:
        if _BAD_ESCAPE.search(path) or _TWO_READINGS.search(path):
            raise Refused("link.path")
        try:
            path = unquote(path, errors="strict")
        except UnicodeDecodeError:
            raise Refused("link.path") from None
        if _TREACHEROUS.search(path) or _TWO_READINGS.search(path):
            raise Refused("link.path")
    if "/." in path and any(each.partition(";")[0] in {".", ".."} for each in path.split("/")):
        raise Refused("link.path")
    if "//" in path or path[-1] == "/":
        path = "/" + "/".join(filter(None, path.split("/")))
    return path


def _same_to_all(path_and_query: str) -> str:
    """Return what the MAC covers: spellings that only differ in needless escapes are one."""
    if "%" not in path_and_query:
        return path_and_query
    return _ESCAPE.sub(_one_spelling, path_and_query)


def _one_spelling(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if character in _NEVER_SEPARATES else escape[0].upper()


def _without_control(query: str | None) -> tuple[tuple[str, int, str] | None, str | None]:
    """Split a query into the control parameter (use, turn, MAC) and the IVR's own, unchanged."""
    if query is None or not _HAS_CONTROL.search(query):
        return None, query
    pieces = query.split("&")
    ours = [each for each in pieces if each.partition("=")[0] == CONTROL_PARAMETER]
    control = _CONTROL.fullmatch(ours[0])
    if len(ours) > 1 or control is None:
        raise Refused("link.mac")
    pieces.remove(ours[0])
    return (control[1], int(control[2]), control[3]), "&".join(pieces) if pieces else None


def _is_own(canonical: str) -> bool:
    return canonical == OWN_PATH or canonical.startswith(f"{OWN_PATH}/")


def _origin(url: _Url) -> str:
    return f"{url.scheme}://{_host_and_port(url)}"


def _host_and_port(url: _Url) -> str:
    return f"{url.host}:{url.port}" if url.port else url.host


def _label(url: _Url) -> str:
    """Name an origin in a path without `:`, `@` or brackets, which Twilio's signing treats oddly."""
    host = url.host.strip("[]").replace(":", "-")
    port = url.port or _DEFAULT_PORTS[url.scheme]
    return host if (url.scheme, port) == ("https", "443") else f"{host}~{port}"


def _presentable(name: str) -> str:
    """Return a host or scheme fit for a log line, or `?`."""
    return name.lower() if re.fullmatch(r"[A-Za-z0-9.:~_+\-\[\]]{1,100}", name) else "?"


def _listed(
    setting: str, url: str, *, path: bool = False, query: bool = False, sockets: bool = False
) -> _Url:
    """Return a URL of the settings in parts; ValueError says which setting cannot be used."""
    try:
        parts = _parse(url)
    except Refused as refusal:
        raise ValueError(f"{setting}: not a URL that can be used ({refusal})") from None
    if not sockets and parts.scheme in {"ws", "wss"}:
        raise ValueError(f"{setting}: must begin with http:// or https://")
    if parts.fragment is not None or (parts.query is not None and not query):
        raise ValueError(f"{setting}: must not have a query or a fragment")
    if parts.path != "/" and not path:
        raise ValueError(f"{setting}: an origin only, without a path")
    return parts


def kind_of(target: str) -> Kind:
    """What a request target says it is, before its MAC is looked at: fit for choosing who looks, no more."""
    said = _SAID.search(target)
    return Kind(said[1]) if said else Kind.T
