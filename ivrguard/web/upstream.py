"""
The IVR behind the guard: one hop, signed for the IVR's own URL.

The laws of this file:

1. What goes to the IVR is the caller's own request: same parameters, same body, signed anew with the token
   that the IVR knows, over the URL that the IVR knows (https://www.twilio.com/docs/usage/security).
2. `X-Ivrguard-Assertion` is ours alone: one from outside never gets through. Hop-by-hop headers (RFC 9110,
   7.6.1) and everything that names another host stay here.
3. Redirects are given back, never followed: each hop is a request of its own to the rules.
4. Bounded: connections, seconds, and 64 kB of answer (Twilio's own limit, error 11750). Audio is not read here:
   it is played, and then fetched as media.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from ivrguard.core.errors import UpstreamFault
from ivrguard.ports import Reply, Request
from ivrguard.telephony.signature import sign

ASSERTION_HEADER = "X-Ivrguard-Assertion"
SIGNATURE_HEADER = "X-Twilio-Signature"
FORM = "application/x-www-form-urlencoded"
CONNECTIONS_MAX = 512
CONNECT_S = 3.0
ANSWER_BYTES_MAX = 64 * 1024
MEDIA_BYTES_MAX = 32 * 1024 * 1024
MEDIA_CHUNK_BYTES = 64 * 1024
MEDIA_DEADLINE_S = 60
COOKIES_MAX = 50

STANDS_IN_A_QUERY = "!$%&'()*+,/:;=?@"
"""What need not be escaped there besides letters, digits and `-._~` (RFC 3986, 3.4); `%` begins an escape."""

KEPT_HERE = frozenset(
    {
        "accept-encoding",
        "authorization",
        "baggage",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-real-ip",
        "x-twilio-signature",
        "x-twilio-webhooks-signature-settings",
    }
)
"""Headers that do not go on: hop-by-hop, about our own door or somebody's trace, or to be made anew."""

KEPT_HERE_PREFIXES = ("x-forwarded-", "x-ivrguard-")

HEADER_NAMES_MAX = 256
"""Names of headers that are known ready: a provider sends a dozen."""


def carried(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers that go along to the IVR; those that `Connection` names stay too (RFC 9110, 7.6.1)."""
    kept = []
    named: frozenset[str] = frozenset()
    for name, value in headers:
        lowered, goes_on = _goes_on(name)
        if goes_on:
            kept.append((lowered, value))
        elif lowered == "connection":
            named |= {token.strip().lower() for token in value.split(",")}
    return tuple(kept) if not named else tuple(pair for pair in kept if pair[0] not in named)


@lru_cache(HEADER_NAMES_MAX)
def _goes_on(name: str) -> tuple[str, bool]:
    """A header's name in small letters, and whether it may go along."""
    lowered = name.lower()
    return lowered, lowered not in KEPT_HERE and not lowered.startswith(KEPT_HERE_PREFIXES)


class Upstream:
    """`ports.Ivr` over one pooled aiohttp session. `token_for` gives the IVR's token by the AccountSid of a call."""

    def __init__(self, token_for: Callable[[str | None], str]) -> None:
        self._token_for = token_for
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; to be called on the loop that uses it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, request: Request, *, assertion: str, cookies: str, deadline_s: float) -> Reply:
        """See `ports.Ivr.fetch`."""
        assert self._session is not None
        jar = _Jar.load(cookies)
        text = _with_params(request)
        url = URL(text, encoded=True)
        headers = self._headers(request, text, jar.header(url), assertion)
        body = request.body if request.method != "GET" else None
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._session.request(
                    request.method,
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                ) as response,
            ):
                jar.take(url, response.headers.getall(hdrs.SET_COOKIE, []))
                return Reply(
                    status=response.status,
                    url=request.url,
                    content_type=response.headers.get(hdrs.CONTENT_TYPE),
                    body=b"" if response.content_type.startswith("audio/") else await _read(response),
                    location=response.headers.get(hdrs.LOCATION) if 300 <= response.status < 400 else None,
                    challenge=response.headers.get(hdrs.WWW_AUTHENTICATE),
                    cookies=jar.dump(),
                )
        except TimeoutError:
            raise UpstreamFault(f"the IVR at {url.host} did not answer within {deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamFault(
                f"the IVR at {url.host} cannot be reached ({type(error).__name__}); is `upstream.url` right?"
            ) from None

    def _headers(self, request: Request, url: str, cookie: str, assertion: str) -> CIMultiDict[str]:
        headers = CIMultiDict(request.headers)
        account = next((value for name, value in request.params if name == "AccountSid"), None)
        params = request.params if request.method != "GET" else ()
        headers[SIGNATURE_HEADER] = sign(self._token_for(account), url, params)
        if request.method != "GET":
            headers[hdrs.CONTENT_TYPE] = request.content_type
        if assertion:
            headers[ASSERTION_HEADER] = assertion
        if cookie:
            headers[hdrs.COOKIE] = cookie
        return headers

    def media(self, method: str, url: str) -> "aiohttp.client._RequestContextManager":
        """A GET or HEAD of a media file of the IVR's, as it is: see web/voice.py."""
        assert self._session is not None
        return self._session.request(
            method,
            URL(url, encoded=True),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=MEDIA_DEADLINE_S, sock_connect=CONNECT_S),
            headers={SIGNATURE_HEADER: sign(self._token_for(None), url), hdrs.ACCEPT_ENCODING: "identity"},
        )


def _with_params(request: Request) -> str:
    """The URL as it is sent: the fields of a form stand behind the query of a GET, as they came."""
    form = request.content_type.partition(";")[0].strip().lower() == FORM
    if request.method != "GET" or not request.body or not form:
        return request.url
    joint = "&" if "?" in request.url else "?"
    return f"{request.url}{joint}{quote(request.body, safe=STANDS_IN_A_QUERY)}"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(ANSWER_BYTES_MAX + 1)
    while len(body) <= ANSWER_BYTES_MAX:
        more = await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
        if not more:
            return body
        body += more
    response.close()
    raise UpstreamFault(
        f"the IVR answered more than {ANSWER_BYTES_MAX // 1024} kB, Twilio's own limit (error 11750)"
    )


class _Jar:
    """The IVR's cookies of one call: (host, path, name, value), small enough to be kept with the call."""

    def __init__(self, cookies: Sequence[tuple[str, str, str, str]]) -> None:
        self._cookies = {(host, path, name): value for host, path, name, value in cookies}

    @classmethod
    def load(cls, text: str) -> "_Jar":
        return cls([(host, path, name, value) for host, path, name, value in json.loads(text or "[]")])

    def dump(self) -> str:
        kept = [(*place, value) for place, value in self._cookies.items()]
        return json.dumps(kept) if kept else ""

    def take(self, url: URL, headers: Sequence[str]) -> None:
        """Keep what a response sets, for the very host that set it; no `Max-Age` or an empty value takes it away."""
        for header in headers:
            try:
                parsed = SimpleCookie(header)
            except CookieError:
                continue
            for name, morsel in parsed.items():
                place = (url.host or "", morsel["path"] or "/", name)
                if morsel["max-age"].startswith(("0", "-")) or not morsel.value:
                    self._cookies.pop(place, None)
                elif place in self._cookies or len(self._cookies) < COOKIES_MAX:
                    self._cookies[place] = morsel.coded_value  # as it came, quotes and all

    def header(self, url: URL) -> str:
        """The Cookie header for a URL: the host that set it, at or below its path (RFC 6265, 5.1.4)."""
        found = [
            (path, f"{name}={value}")
            for (host, path, name), value in self._cookies.items()
            if host == url.host and _below(url.raw_path, path)
        ]
        return "; ".join(pair for _, pair in sorted(found, key=lambda one: -len(one[0])))


def _below(path: str, cookie_path: str) -> bool:
    stem = cookie_path.rstrip("/")
    return path == stem or path.startswith(stem + "/")
