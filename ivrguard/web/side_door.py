"""
Twilio's REST API under the guard's own address, for an IVR that moves calls by REST: docs/side-door.md.

The laws of this file:

1. Nothing is looked at before the credentials hold: HTTP Basic (RFC 7617), compared in constant time with those that the side
   door knows. Otherwise 401, 20003, whatever was wrong; who goes on guessing is answered 429 for a while, at little cost.
   What was presented is never logged. Towards Twilio the guard's own credentials go, and nothing of them comes back.
2. What a request may do is decided in guard/side_door.py, before it is made. It is made once.
3. What Twilio answers comes back as it is: status, code, `Retry-After`; bounded, streamed where it is no JSON. Where it names its own
   address for what is offered here, it names the guard's.
4. Whatever fails, nothing was done, or the answer says that it may have been; and the answer has Twilio's shape.
"""

import asyncio
import hashlib
import re
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hmac import compare_digest
from urllib.parse import urlencode

import aiohttp
from aiohttp import hdrs, web

from ivrguard import log
from ivrguard.core.errors import Fault
from ivrguard.guard.side_door import SideDoor as Door
from ivrguard.telephony import delivery, rest
from ivrguard.telephony.delivery import Malformed
from ivrguard.telephony.rest import Asked, Unfit, What
from ivrguard.web.ops import Metrics
from ivrguard.web.provider import Provider
from ivrguard.web.voice import BODY_DEADLINE_S, FORM, Sparing, streamed

PREFIX = "/.ivrguard/rest"
REQUESTS_AT_ONCE_MAX = 64
ADMIT_S = 10.0
"""For the decision: whoever is in a large conference is looked up one after the other."""

ANSWER_S = 30.0
"""For a request and the beginning of its answer, or all of one in JSON."""

JSON_BYTES_MAX = 4 * 1024 * 1024
"""A page of a thousand calls is about 1 MB."""

STREAM_BYTES_MAX = 1024 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
WRONG_MAX = 10
WRONG_WITHIN_S = 60
WRONG_KEPT_MAX = 1_024
"""So many wrong credentials of one peer and one user name within so many seconds lock these two out for as long."""

AUTHORIZATION_CHARS_MAX = 1_024
REFUSALS_LOGGED_A_SECOND = 20
SENT = ("Accept", "Accept-Language", "Content-Type", "If-Match", "If-None-Match", "Range", "User-Agent")
RETURNED = (
    "Content-Type",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Location",
    "Retry-After",
    "Twilio-Request-Id",
)
"""Headers that go along, there and back."""

logger = log.get()


class Wrong:
    """Wrong credentials, counted by peer and user name. `now_s`: a clock that never goes back."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, bytes], tuple[float, int]] = OrderedDict()

    def locked_s(self, who: tuple[str, bytes], now_s: float) -> int:
        """For how many seconds these two are locked out; 0: they are not."""
        since_s, count = self._counts.get(who, (now_s, 0))
        left_s = since_s + WRONG_WITHIN_S - now_s
        return max(1, round(left_s)) if count >= WRONG_MAX and left_s > 0 else 0

    def count(self, who: tuple[str, bytes], now_s: float) -> None:
        """One more."""
        since_s, count = self._counts.pop(who, (now_s, 0))
        if now_s - since_s >= WRONG_WITHIN_S:
            since_s, count = now_s, 0
        self._counts[who] = since_s, count + 1
        if len(self._counts) > WRONG_KEPT_MAX:
            self._counts.popitem(last=False)


class Credentials:
    """
    Who may ask, for which account. `keys`: (AccountSid, user name) -> password; `tokens`: the accounts' own.

    Only digests are kept, and each presented one is held against all of them.
    """

    def __init__(self, keys: Mapping[tuple[str, str], str], tokens: Mapping[str, tuple[str, ...]]) -> None:
        pairs = [(account, user, secret) for (account, user), secret in keys.items()]
        pairs += [(account, account, token) for account, every in tokens.items() for token in every]
        self._known = tuple(
            (_digest(f"{user}:{secret}".encode()), account) for account, user, secret in pairs
        )

    def account_of(self, presented: bytes) -> str | None:
        """The account that `user:password` is good for, or None."""
        digest, found = _digest(presented), None
        for known, account in self._known:
            if compare_digest(known, digest):
                found = account
        return found


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def basic(header: str) -> bytes:
    """What an Authorization header presents, `user:password`; nothing where it is none of HTTP Basic."""
    scheme, _, encoded = header[:AUTHORIZATION_CHARS_MAX].partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(encoded.strip(), validate=True)
    except (NotBase64Error, ValueError):  # ValueError: not ASCII
        return b""


class SideDoor:
    """Handlers of the REST side door."""

    def __init__(
        self,
        door: Door,
        provider: Provider,
        credentials: Credentials,
        metrics: Metrics,
        public_url: str,
        chance: Callable[[int], bytes],
    ) -> None:
        self._door = door
        self._provider = provider
        self._credentials = credentials
        self._metrics = metrics
        self._chance = chance
        self._wrong = Wrong()
        self._sparing = Sparing(REFUSALS_LOGGED_A_SECOND)
        self._flying = 0
        here = f"{public_url.rstrip('/')}{PREFIX}/2010-04-01/Accounts/"
        there = f"{provider.api_url}/2010-04-01/Accounts/"
        self._addresses = tuple(
            (one.encode(), other.encode())
            for one, other in ((there, here), (there.replace("/", "\\/"), here.replace("/", "\\/")))
        )

    def routes(self) -> list[web.RouteDef]:
        """Everything below the prefix."""
        return [web.route("*", PREFIX + "/{rest:.*}", self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        with log.context(request=log.request_id(self._chance(8))):
            try:
                return await self._answered(request)
            except Unfit as unfit:
                return self._unfit(unfit)
            except Fault as fault:
                logger.error("fault", reason=fault.reason, detail=str(fault))
                return self._unfit(
                    Unfit(
                        503,
                        rest.UNAVAILABLE,
                        fault.reason,
                        "the guard cannot decide it now: nothing was done",
                    )
                )

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        account_sid = self._who(request)
        if not request.raw_path.startswith(f"{PREFIX}/"):
            raise Unfit(404, rest.NOT_FOUND, "path", "a part of the path is not spelled as it should be")
        asked = rest.asked(request.method, request.raw_path.removeprefix(PREFIX))
        if asked.account_sid != account_sid:
            raise _unknown()
        if self._flying >= REQUESTS_AT_ONCE_MAX:
            raise Unfit(
                429, rest.TOO_MANY, "too_many", f"{REQUESTS_AT_ONCE_MAX} requests are under way already"
            )
        self._flying += 1
        try:
            return await self._passed(request, asked)
        finally:
            self._flying -= 1

    def _who(self, request: web.Request) -> str:
        """The account that the credentials are good for. Raises `Unfit`."""
        presented = basic(request.headers.get(hdrs.AUTHORIZATION, ""))
        who = (request.remote or "", _digest(presented.partition(b":")[0]))
        now_s = asyncio.get_running_loop().time()
        locked_s = self._wrong.locked_s(who, now_s)
        if locked_s:
            raise Locked(locked_s)
        account_sid = self._credentials.account_of(presented)
        if account_sid is None:
            self._wrong.count(who, now_s)
            raise _unknown()
        return account_sid

    async def _passed(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """The request as it may be made, made; its answer."""
        body = await self._body(request)
        changed = body
        if asked.what not in {What.READ, What.OTHER}:
            changed = await self._admitted(request, asked, body)
        headers = {name: request.headers[name] for name in SENT if name in request.headers}
        try:
            async with asyncio.timeout(ANSWER_S) as deadline:
                async with self._provider.request(
                    asked.method, asked.account_sid, asked.target, headers=headers, body=changed or None
                ) as answer:
                    if answer.status == 401:
                        logger.error(
                            "rest_not_authenticated",
                            hint="see IVRGUARD_TWILIO_TOKENS: Twilio refuses the first",
                        )
                        raise Unfit(
                            502,
                            rest.UNAVAILABLE,
                            "token",
                            "Twilio refuses the guard's own credentials: nothing was done",
                        )
                    self._count(asked, "changed" if changed is not body else "passed", answer.status)
                    if answer.content_type == "application/json":
                        return await self._in_json(answer)
                    deadline.reschedule(None)
                    headers = _returned(answer)
                    if hdrs.CONTENT_LENGTH in answer.headers:
                        headers[hdrs.CONTENT_LENGTH] = answer.headers[hdrs.CONTENT_LENGTH]
                    return await streamed(request, answer, headers, STREAM_BYTES_MAX)
        except TimeoutError:
            raise Unfit(
                504,
                rest.UNAVAILABLE,
                "timeout",
                "Twilio has not answered: it may have done what it was asked for",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            logger.error("rest_lost", reason=type(error).__name__)
            raise Unfit(
                502,
                rest.UNAVAILABLE,
                "network",
                "the connection to Twilio failed: it may have done what it was asked for",
            ) from None

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Unfit(413, rest.INVALID, "body.size", "the request is too long") from None
        except TimeoutError:
            raise Unfit(408, rest.INVALID, "body.slow", "the request did not come in time") from None

    async def _admitted(self, request: web.Request, asked: Asked, body: bytes) -> bytes:
        """The form that is sent in place of this one; the same bytes where nothing is changed."""
        if body and request.content_type != FORM:
            raise Unfit(415, rest.INVALID, "content_type", f"send a form: {FORM}")
        try:
            form = delivery.parse_form(body)
        except Malformed as malformed:
            raise Unfit(400, rest.INVALID, malformed.reason, "the form cannot be read") from None
        try:
            async with asyncio.timeout(ADMIT_S):
                admitted = await self._door.admit(asked, form)
        except TimeoutError:
            raise Unfit(
                503,
                rest.UNAVAILABLE,
                "slow",
                "it took too long to see whom this concerns: nothing was done",
            ) from None
        return body if admitted == form else urlencode(admitted).encode()

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────

    async def _in_json(self, answer: aiohttp.ClientResponse) -> web.Response:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > JSON_BYTES_MAX:
                raise Unfit(
                    502, rest.UNAVAILABLE, "answer.size", "Twilio's answer is too long: ask for smaller pages"
                )
        for there, here in self._addresses:
            body = body.replace(there, here)
        return web.Response(status=answer.status, body=bytes(body), headers=_returned(answer))

    def _unfit(self, unfit: Unfit) -> web.Response:
        self._metrics.rest.labels("unauthorized" if unfit.status == 401 else "refused").inc()
        logs, left_out = self._sparing.take(asyncio.get_running_loop().time())
        if left_out:
            logger.warning("refusals_not_logged", count=left_out)
        if logs:
            logger.warning("rest_refused", reason=unfit.reason, status=unfit.status)
        headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
        if unfit.status == 401:
            headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="Twilio API"'
        if unfit.status == 429:
            headers[hdrs.RETRY_AFTER] = str(unfit.retry_s if isinstance(unfit, Locked) else 1)
        return web.Response(status=unfit.status, body=unfit.body(), headers=headers)

    def _count(self, asked: Asked, outcome: str, status: int) -> None:
        self._metrics.rest.labels(outcome).inc()
        call = next((part for part in asked.parts if re.fullmatch("CA[0-9a-f]{32}", part)), None)
        with log.context(**({"call": call} if call is not None else {})):
            logger.info("rest", kind=asked.what.value, outcome=outcome, status=status)


class Locked(Unfit):
    """Too many wrong credentials; `retry_s`: until when."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(429, rest.TOO_MANY, "locked", "Too Many Requests")
        self.retry_s = retry_s


def _unknown() -> Unfit:
    """One answer to all who may not ask."""
    return Unfit(401, rest.NOT_AUTHENTICATED, "credentials", "Authenticate")


def _returned(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in RETURNED if name in answer.headers}
