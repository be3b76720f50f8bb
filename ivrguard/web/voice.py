"""
A webhook's way in: who posts, in what shape, and always an answer.

The laws of this file:

1. Nothing is looked at before the signature holds over the configured public URL; 403 and an empty body
   otherwise. What is signed but not of a webhook's shape is refused too: logged, counted, decided by nobody.
2. What is signed comes from the provider, and may carry digits: it is answered 200 with TwiML whatever
   happens, because an error would put the digits into the provider's debugger. This is the one place where
   faults become answers.
3. Every answer is `no-store`, and none is a redirect (a 3xx loses the parameters, twilio.com/docs/voice/twiml).
4. Within Twilio's 15 seconds: `BODY_DEADLINE_S` to come in, `DEADLINE_S` for the rest, and a bound on how many
   webhooks are answered at once. Nothing unsigned takes one of their places.
5. A flood of forgeries costs a signature each and no more: every one is counted, `REFUSALS_LOGGED_A_SECOND` of a second are
   logged, and how many were not.
6. Media is no document: it is streamed as the IVR sends it, and what breaks off breaks off here too.
"""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs, web

from ivrguard import log
from ivrguard.guard import Answer, Guard, Hook
from ivrguard.ports import Request
from ivrguard.telephony import bridging, delivery, links, twiml
from ivrguard.telephony.delivery import Delivery, Malformed, Params
from ivrguard.telephony.signature import Verifier
from ivrguard.web.ops import Metrics
from ivrguard.web.upstream import MEDIA_BYTES_MAX, MEDIA_CHUNK_BYTES, Upstream, carried

DEADLINE_S = 11.5
BODY_DEADLINE_S = 3.0
WEBHOOKS_AT_ONCE_MAX = 1_024
REFUSALS_LOGGED_A_SECOND = 20
FORM = "application/x-www-form-urlencoded"
TWIML_HEADERS = {"Content-Type": "text/xml; charset=utf-8", "Cache-Control": "no-store"}
MEDIA_HEADERS = ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Cache-Control")

logger = log.get()


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature holds: its body, and its parameters."""

    request: web.Request
    body: bytes
    params: Params


class Refusal(Exception):
    """Not signed, or not to be understood: 403. The reason is a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def answer(body: bytes) -> web.Response:
    """200, TwiML, not to be stored."""
    return web.Response(body=body, headers=TWIML_HEADERS)


def fingerprint(delivered: bytes, key: bytes) -> str:
    """A delivery's name in its call: 96 bits, keyed."""
    return urlsafe_b64encode(hashlib.blake2b(delivered, digest_size=12, key=key).digest()).decode()


async def streamed(
    request: web.Request, source: aiohttp.ClientResponse, headers: Mapping[str, str], bytes_max: int
) -> web.StreamResponse:
    """The answer of another server, passed on as it comes, with these headers; what is longer, or breaks, ends with the connection."""
    response = web.StreamResponse(status=source.status, headers=headers)
    await response.prepare(request)
    sent = 0
    try:
        async for chunk in source.content.iter_chunked(MEDIA_CHUNK_BYTES):
            sent += len(chunk)
            if sent > bytes_max:
                raise aiohttp.ClientPayloadError
            await response.write(chunk)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # The status is out already: only a broken connection can tell that this is not all of it.
        logger.error("media_lost", reason=type(error).__name__, size_bytes=sent)
        request.protocol.force_close()
    return response


class Sparing:
    """So many lines a second: who floods us must not flood the log."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._asked = 0

    def take(self, now_s: float) -> tuple[bool, int]:
        """Whether to log at this moment of a clock that never goes back, and how many were not in an earlier second."""
        left_out = 0
        if int(now_s) != self._second:
            left_out = max(0, self._asked - self._limit)
            self._second, self._asked = int(now_s), 0
        self._asked += 1
        return self._asked <= self._limit, left_out


class Voice:
    """Handlers of the provider's webhooks."""

    def __init__(
        self,
        guard: Guard,
        verifier: Verifier,
        upstream: Upstream,
        metrics: Metrics,
        accounts: frozenset[str],
        chance: Callable[[int], bytes],
    ) -> None:
        self._guard = guard
        self._verifier = verifier
        self._upstream = upstream
        self._metrics = metrics
        self._accounts = accounts
        self._chance = chance
        # Keyed: fingerprints are kept, and whoever copies the store must not try out which digits make one.
        keys = guard.world.keys
        current, *older = (
            (key_id, keys.with_naming(key_id).derive("fingerprint", "webhook")) for key_id in keys.named
        )
        self._fingerprint_key, self._older_keys = current[1], dict(older)
        self._flying = 0
        self._sparing = Sparing(REFUSALS_LOGGED_A_SECOND)

    def routes(self) -> list[web.RouteDef]:
        """The guard's own paths first; everything else mirrors the IVR."""
        own = "/.ivrguard"
        return [
            web.post(own + "/call/whisper/{leg:[0-9a-f]{32}}", self._handler(self._whisper)),
            web.post(own + "/call/led/{led:[0-9a-f]{32}}", self._handler(self._led)),
            web.post(own + "/call/wait/{leg:[0-9a-f]{32}}", self._handler(self._wait)),
            web.post(own + "/call/agent/{leg:[0-9a-f]{32}}", self._handler(self._agent)),
            web.post(own + "/call/join/{leg:[0-9a-f]{32}}", self._handler(self._join)),
            web.post(own + "/call/leg/{leg:[0-9a-f]{32}}", self._handler(self._leg)),
            web.post(own + "/call/room/{leg:[0-9a-f]{32}}", self._handler(self._room)),
            web.post(own + "/call/{nonce:[0-9a-f]{32}}", self._handler(self._caller)),
            web.post(own + "/status", self._handler(self._status)),
            web.route("*", own + "/fallback", self._handler(self._fallback)),
            web.route("*", own + "/at/{rest:.*}", self._handler(self._mirrored)),
            web.route("*", "/{rest:(?!\\.ivrguard(?:/|$)).*}", self._handler(self._mirrored)),
        ]

    # ── the one place where faults become answers ────────────────────────────────────────────────────────

    def _handler(
        self, handle: Callable[[Signed], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        seconds = self._metrics.seconds.labels(handle.__name__.removeprefix("_"))

        async def handler(request: web.Request) -> web.StreamResponse:
            if handle == self._mirrored and links.kind_of(request.raw_path) is links.Kind.M:
                return await self._media(request)
            with seconds.time():
                return await self._answered(request, handle)

        return handler

    async def _answered(
        self, request: web.Request, handle: Callable[[Signed], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            signed = await self._signed(request)
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.reason).inc()
            self._log_refused(refusal.reason)
            return web.Response(status=403)
        sid = next((value for name, value in signed.params if name == "CallSid"), None)
        with log.context(request=log.request_id(self._chance(8)), **({"call": sid} if sid else {})):
            if self._flying >= WEBHOOKS_AT_ONCE_MAX:
                self._metrics.webhooks.labels("too_many").inc()
                logger.error("too_many", limit=WEBHOOKS_AT_ONCE_MAX, hint="start more processes")
                return answer(self._apology(signed))
            self._flying += 1
            self._metrics.flying.inc()
            try:
                return await self._handled(signed, handle)
            finally:
                self._flying -= 1
                self._metrics.flying.dec()

    def _log_refused(self, reason: str) -> None:
        logs, left_out = self._sparing.take(asyncio.get_running_loop().time())
        if left_out:
            logger.warning("refusals_not_logged", count=left_out)
        if logs:
            logger.warning("refused", reason=reason)

    async def _handled(
        self, signed: Signed, handle: Callable[[Signed], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await handle(signed)
        except Malformed as malformed:
            self._metrics.refused.labels(malformed.reason).inc()
            logger.warning("malformed", reason=malformed.reason)
        except TimeoutError:
            self._metrics.webhooks.labels("deadline").inc()
            logger.error("deadline", hint="the IVR, the store and the hash pool together took too long")
        except Exception:
            # A bug of ours: the caller still hears something, nothing was let through, the log has the place.
            self._metrics.webhooks.labels("bug").inc()
            logger.exception("bug")
        return answer(self._apology(signed))

    def _apology(self, signed: Signed) -> bytes:
        """In the language of the number that was called, if it can be told."""
        try:
            delivery = self._read(signed)
        except Malformed:
            delivery = None
        return self._guard.apology(delivery, signed.request.raw_path)

    async def _signed(self, request: web.Request) -> Signed:
        if request.method not in {"GET", "POST"}:
            raise Refusal("method")
        try:
            if request.content.is_eof():  # it is all here: a timer costs as much as reading it
                body = await request.read()
            else:
                async with asyncio.timeout(BODY_DEADLINE_S):
                    body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Refusal("body.size") from None
        except TimeoutError:  # somebody feeds it byte by byte, to hold places that callers need
            raise Refusal("body.slow") from None
        except (OSError, web.RequestPayloadError):  # cut short, or its chunks are none
            raise Refusal("body.broken") from None
        form = request.content_type == FORM
        try:
            query = delivery.parse_query(request.raw_path.partition("?")[2])
            params = delivery.parse_form(body) if form and body else ()
        except Malformed as malformed:
            raise Refusal(malformed.reason) from None
        wanted = params or query
        account = next((value for name, value in wanted if name == "AccountSid"), None)
        if not self._verifier.verify(
            target=request.raw_path,
            params=params if form or not body else None,
            body=body,
            signature=request.headers.get("X-Twilio-Signature", ""),
            settings_header=request.headers.get("X-Twilio-Webhooks-Signature-Settings"),
            account_sid=account,
        ):
            raise Refusal("signature")
        return Signed(request, body, params if request.method == "POST" else query)

    # ── handlers ─────────────────────────────────────────────────────────────────────────────────────────

    async def _mirrored(self, signed: Signed) -> web.Response:
        match links.kind_of(signed.request.raw_path):
            case links.Kind.S:
                request = signed.request
                await self._guard.notice(
                    request.raw_path,
                    Request(
                        request.method,
                        "",
                        signed.params,
                        signed.body,
                        request.headers.get(hdrs.CONTENT_TYPE, FORM),
                        carried(request.headers.items()),
                    ),
                )
                with suppress(Malformed):  # one about something else, such as a conference
                    await self._guard.status(self._read(signed))
                return self._counted(Answer(twiml.response(), "notice"))
            case links.Kind.W:
                return self._counted(await self._guard.callee(self._hook(signed, None)))
            case _:
                return self._counted(await self._guard.voice(self._hook(signed, None)))

    async def _caller(self, signed: Signed) -> web.Response:
        return self._counted(await self._guard.voice(self._hook(signed, signed.request.match_info["nonce"])))

    async def _led(self, signed: Signed) -> web.Response:
        return self._counted(
            await self._guard.voice(self._hook(signed, None, signed.request.match_info["led"]))
        )

    async def _whisper(self, signed: Signed) -> web.Response:
        leg = signed.request.match_info["leg"]
        return self._counted(await self._guard.whisper(leg, self._read(signed)))

    async def _wait(self, signed: Signed) -> web.Response:
        """Music for who waits in a room of the guard's."""
        music = self._guard.bridges.wait(signed.request.match_info["leg"])
        return self._counted(await self._guard.bridged(music, "wait"))

    async def _agent(self, signed: Signed) -> web.Response:
        """The leg of an agent whom the guard dialled: what he hears before he enters the room."""
        heard = self._guard.bridges.agent(signed.request.match_info["leg"], self._read(signed))
        return self._counted(await self._guard.bridged(heard, "agent"))

    async def _join(self, signed: Signed) -> web.Response:
        """And his way into it."""
        way = self._guard.bridges.join(signed.request.match_info["leg"], self._read(signed))
        return self._counted(await self._guard.bridged(way, "join"))

    async def _leg(self, signed: Signed) -> web.Response:
        """How that leg goes."""
        told = self._guard.bridges.leg(signed.request.match_info["leg"], self._read(signed))
        return self._counted(await self._guard.bridged(told, "leg"))

    async def _room(self, signed: Signed) -> web.Response:
        """Who has joined the room. Of another shape than a webhook about a call."""
        event = bridging.room_event(signed.params)
        told = self._guard.bridges.room(signed.request.match_info["leg"], event)
        return self._counted(await self._guard.bridged(told, "room"))

    async def _status(self, signed: Signed) -> web.Response:
        await self._guard.status(self._read(signed))
        return self._counted(Answer(twiml.response(), "status"))

    async def _fallback(self, signed: Signed) -> web.Response:
        """The provider could not get or run our answer: `ErrorCode` says why. The caller hears an apology."""
        code = next((value for name, value in signed.params if name == "ErrorCode"), "")
        logger.error("fallback", reason="provider", code=code)
        return self._counted(Answer(self._apology(signed), "fallback"))

    async def _media(self, request: web.Request) -> web.StreamResponse:
        """Media of the IVR's own, streamed. Its link's MAC is its pass: media leads nobody anywhere."""
        url = self._guard.media(request.raw_path)
        if url is None or request.method not in {"GET", "HEAD"}:
            self._metrics.refused.labels("media").inc()
            return web.Response(status=403)
        try:
            async with self._upstream.media(request.method, url) as source:
                if 300 <= source.status < 400:
                    logger.error("media_lost", reason="redirect", hint="name the media's final URL in TwiML")
                    return web.Response(status=502)
                named = {name: source.headers[name] for name in MEDIA_HEADERS if name in source.headers}
                return await streamed(request, source, named, MEDIA_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.error("media_lost", reason=type(error).__name__)
            return web.Response(status=502)

    def _read(self, signed: Signed) -> Delivery:
        return delivery.read(signed.params, accounts=self._accounts)

    def _hook(self, signed: Signed, nonce: str | None, led: str | None = None) -> Hook:
        request = signed.request
        delivered = request.raw_path.encode() + b"\0" + signed.body
        return Hook(
            delivery=self._read(signed),
            method=request.method,
            target=request.raw_path,
            body=signed.body,
            headers=carried(request.headers.items()),
            fingerprint=fingerprint(delivered, self._fingerprint_key),
            nonce=nonce,
            content_type=request.headers.get(hdrs.CONTENT_TYPE, FORM),
            led=led,
            older_fingerprints={each: fingerprint(delivered, key) for each, key in self._older_keys.items()},
        )

    def _counted(self, done: Answer) -> web.Response:
        self._metrics.webhooks.labels(done.outcome).inc()
        logger.info("webhook", outcome=done.outcome)
        return answer(done.body)
