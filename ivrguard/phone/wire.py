"""One webhook as Twilio sends it: the HTTP of a call leg.

Laws of this file
 1. Every request is a form POST, or a GET with its parameters appended to the query, and is signed for its
    public URL (https://www.twilio.com/docs/usage/security).
 2. Cookies are kept and sent back like a browser's, per leg; redirects are followed, ten at most; an answer
    is cut after 64 kB (https://www.twilio.com/docs/voice/twiml).
 3. One retry when the connection fails, fifteen seconds for everything together, unless the URL's fragment
    says otherwise (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides). All attempts
    of a request carry one `I-Twilio-Idempotency-Token`. A partial answer is never retried.
 4. Every attempt is kept in `Wire.requests`, with its answer or without.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urldefrag, urlencode, urljoin, urlsplit
from uuid import uuid4

import aiohttp
from yarl import URL

from ivrguard.phone.heard import Pairs
from ivrguard.telephony.signature import sign

HTTP_DEADLINE_S = 15.0
"""The hard ceiling of every call-related request, retries included (error 11205)."""
DOCUMENT_BYTES_MAX = 64 * 1024
"""A longer TwiML answer is error 11750."""
REDIRECTS_MAX = 10
"""HTTP redirects followed; one more is error 11215."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook server answered. `body` is cut a little after the 64 kB that Twilio takes."""

    status: int
    content_type: str | None
    body: bytes = field(repr=False)
    location: str = ""

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it went out, with its answer (`None`: there was none).

    `purpose`: voice, document (action or redirect), fallback, whisper, wait, media, callback (whose answer
    means nothing) or test (`Line.send`). `twin` is the answer to its double when the line sends twice.
    """

    purpose: str
    method: str
    url: str
    params: Pairs = field(repr=False)
    headers: Pairs = field(repr=False)
    payload: bytes = field(repr=False)
    answer: Answer | None = None
    twin: Answer | None = None

    @property
    def status(self) -> int:
        """The answer's HTTP status, 0 when there was no answer."""
        return self.answer.status if self.answer else 0

    @property
    def body(self) -> str:
        """The answer's text, empty when there was no answer."""
        return self.answer.text if self.answer else ""

    def param(self, name: str) -> str | None:
        """The value of the first parameter of that name, if it was sent."""
        return dict(reversed(self.params)).get(name)


class FetchError(Exception):
    """A document cannot be had or run: Twilio's error code, its URL, and the answer, if there was one.

    Codes: https://www.twilio.com/docs/api/errors. The URL is one of the server's own; keys are never in it
    (parameters of a GET are added later).
    """

    def __init__(self, code: int, url: str, answer: "Answer | None" = None) -> None:
        super().__init__(code, url)
        self.code, self.url, self.answer = code, url, answer

    @property
    def status(self) -> int:
        """The HTTP status of the answer, 0 when there was none."""
        return self.answer.status if self.answer else 0


@dataclass(frozen=True, slots=True)
class Overrides:
    """The connection settings in a URL's fragment, or their defaults: `#ct=..&rt=..&tt=..&rc=..&rp=..`."""

    connect_s: float
    read_s: float
    total_s: float
    retries: int
    retry_on: frozenset[str]

    @classmethod
    def of(cls, fragment: str, deadline_s: float) -> "Overrides":
        """Read a fragment; each number is kept in its documented range, and none is above the deadline."""
        given = dict(parse_qsl(fragment))

        def number(key: str, default: int, least: int, most: int) -> int:
            text = given.get(key, "")
            return min(max(int(text) if text.isdigit() else default, least), most)

        return cls(
            connect_s=min(number("ct", 5_000, 100, 10_000) / 1000, deadline_s),
            read_s=min(number("rt", 15_000, 100, 15_000) / 1000, deadline_s),
            total_s=min(number("tt", 15_000, 100, 15_000) / 1000, deadline_s),
            retries=number("rc", 1, 0, 5),
            retry_on=frozenset(given.get("rp", "ct").split(",")),
        )


# By what went wrong: the retry policy that covers it, and Twilio's code. A partial answer is never retried.
_CAUSES: tuple[tuple[type[aiohttp.ClientError], tuple[str, int]], ...] = (
    (aiohttp.ClientConnectorDNSError, ("ct", 11210)),
    (aiohttp.ClientSSLError, ("ct", 11237)),
    (aiohttp.ClientConnectorError, ("ct", 11205)),
    (aiohttp.ConnectionTimeoutError, ("ct", 11205)),
    (aiohttp.ServerTimeoutError, ("rt", 11200)),
    (aiohttp.ClientPayloadError, ("partial", 11200)),
    (aiohttp.ClientError, ("closed", 11200)),
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Hostnames of webhooks must not contain underscores, and a URL is printable ASCII.
_URL = re.compile(
    r"https?://(?:[^\s/?#@]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:[/?][!-~]*)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request to be made. `standard` gives the call's own parameters for a method (none: media)."""

    purpose: str
    method: str
    url: str
    standard: Callable[[str], Pairs]
    event: Pairs
    token: str

    def redirected(self, answer: Answer) -> "_Ask":
        """The request that follows a 3xx.

        "After 301/302 the next request is a GET without the event parameters"
        (https://www.twilio.com/docs/usage/troubleshooting/debugging-your-application). 307 and 308 repeat
        the request with a new signature (seen in the field; not documented).
        """
        url, _ = urldefrag(urljoin(self.url, answer.location))
        if answer.status in {307, 308}:
            return replace(self, url=url)
        return replace(self, url=url, method="GET", event=())


@dataclass(slots=True)
class Account:
    """Whose webhooks these are, and how they leave the house.

    `session`: an aiohttp session without cookies of its own (`DummyCookieJar`): each leg keeps its own.
    `deadline_s`: the ceiling of one webhook, in real seconds. `routes`: public origin → where it really
    listens (`{"https://guard.example": "http://127.0.0.1:8080"}`); what is signed, resolved and kept is
    always the public name. Raises `ValueError` for a session that keeps cookies.
    """

    session: aiohttp.ClientSession
    account_sid: str
    auth_token: str = field(repr=False)
    deadline_s: float = HTTP_DEADLINE_S
    routes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        jar = self.session.cookie_jar
        if not isinstance(jar, aiohttp.DummyCookieJar):
            raise ValueError("open the session with cookie_jar=aiohttp.DummyCookieJar()")  # noqa: TRY004 - the session is of the right type; it is configured wrongly

    def route(self, url: str) -> tuple[str, str]:
        """Where a public URL is really sent, and the Host header that goes with it."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        real = self.routes.get(origin, origin)
        return real + url[len(origin) :], parts.netloc.rpartition("@")[2]


class Wire:
    """The HTTP of one call leg. `twice`: every request goes out twice at the same moment."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.requests: list[Request] = []
        self.twice = False
        # `unsafe`: also for hosts that are bare addresses, as servers in a test are.
        self._cookies = aiohttp.CookieJar(unsafe=True)

    async def fetch(
        self, purpose: str, method: str, url: str, standard: Callable[[str], Pairs], event: Pairs = ()
    ) -> tuple[str, Answer]:
        """The final URL (without parameters of ours) and the answer, 2xx. Raises `FetchError`."""
        url, fragment = urldefrag(url)
        overrides = Overrides.of(fragment, self.account.deadline_s)
        ask = _Ask(purpose, method, url, standard, event, uuid4().hex)
        try:
            async with asyncio.timeout(overrides.total_s):
                for _ in range(REDIRECTS_MAX + 1):
                    answer = await self._attempts(ask, overrides)
                    if answer.status not in _REDIRECTS:
                        return ask.url, answer
                    ask = ask.redirected(answer)
        except TimeoutError:
            raise FetchError(11200, ask.url) from None
        raise FetchError(11215, ask.url)

    async def _attempts(self, ask: _Ask, overrides: Overrides) -> Answer:
        """The request, and again when its retry policy says so; the answer is 2xx or a redirect."""
        if not _URL.fullmatch(ask.url):
            raise FetchError(11100, ask.url)
        retries_left = overrides.retries
        while True:
            answer: Answer | None = None
            try:
                answer = await self._once(ask, overrides)
            except aiohttp.ClientError as fault:
                cause, code = next(value for kind, value in _CAUSES if isinstance(fault, kind))
            else:
                if answer.status in _REDIRECTS or 200 <= answer.status < 300:
                    return answer
                cause, code = f"{answer.status // 100}xx", 11200
            covered = cause != "partial" and overrides.retry_on & {cause, "all"}
            if not covered or not retries_left:
                raise FetchError(code, ask.url, answer)
            retries_left -= 1

    async def _once(self, ask: _Ask, overrides: Overrides) -> Answer:
        """One attempt, kept in `requests` whatever becomes of it."""
        params = ask.standard(ask.method) + ask.event
        url, payload, signed = ask.url, b"", params
        if ask.method == "GET":
            if params:
                url += ("&" if "?" in url else "?") + urlencode(params)
            signed = ()
        else:
            payload = urlencode(params).encode()
        headers = self._headers(ask, url, signed)
        answers: list[Answer | BaseException] = []
        try:
            answers += await asyncio.gather(
                *(self._send(ask.method, url, headers, payload, overrides) for _ in range(1 + self.twice)),
                return_exceptions=True,
            )
        finally:
            kept = [None if isinstance(each, BaseException) else each for each in (*answers, None, None)]
            request = Request(ask.purpose, ask.method, url, params, headers, payload, kept[0], kept[1])
            self.requests.append(request)
        if isinstance(answers[0], BaseException):
            raise answers[0]
        return answers[0]

    def _headers(self, ask: _Ask, url: str, signed: Pairs) -> Pairs:
        """The request's headers; names as somleng's imitation of Twilio has them."""
        headers = [
            ("User-Agent", "TwilioProxy/1.1"),
            ("Accept", "text/xml, application/xml, text/html"),
            ("Cache-Control", "max-age=259200"),
            ("I-Twilio-Idempotency-Token", ask.token),
            ("X-Twilio-Signature", sign(self.account.auth_token, url, signed)),
        ]
        if ask.method == "POST":
            headers.append(("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"))
        cookies = self._cookies.filter_cookies(URL(ask.url, encoded=True))
        if cookies:
            pairs = (f"{name}={morsel.coded_value}" for name, morsel in cookies.items())
            headers.append(("Cookie", "; ".join(pairs)))
        return tuple(headers)

    async def repeat(self, request: Request) -> Answer:
        """The same bytes again, signature and cookies and all. Raises `aiohttp.ClientError`."""
        overrides = Overrides.of("", self.account.deadline_s)
        return await self._send(request.method, request.url, request.headers, request.payload, overrides)

    async def _send(
        self, method: str, url: str, headers: Pairs, payload: bytes, overrides: Overrides
    ) -> Answer:
        """These bytes, once; a GET has no body at all."""
        real, host = self.account.route(url)
        async with self.account.session.request(
            method,
            URL(real, encoded=True),
            headers=[*headers, ("Host", host)],
            data=payload if method == "POST" else None,
            allow_redirects=False,
            skip_auto_headers=("Accept-Encoding",),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=overrides.connect_s, sock_read=overrides.read_s
            ),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(16 * 1024):
                body += chunk
                if len(body) > DOCUMENT_BYTES_MAX:
                    break
            self._cookies.update_cookies(response.cookies, URL(url, encoded=True))
            return Answer(
                response.status,
                response.headers.get("Content-Type"),
                bytes(body),
                response.headers.get("Location", ""),
            )
