"""
What the sample IVRs share: they believe what Twilio signed, answer TwiML, and keep a session in a cookie.

Laws of this file
 1. A sample knows nothing of a guard. It checks X-Twilio-Signature with twilio's own validator, over its own URL and
    with its own token, and believes that whoever it talks to may hear everything:
    https://www.twilio.com/docs/voice/tutorials/build-interactive-voice-response-ivr-phone-tree
 2. All that reaches it is kept (`Ivr.seen`), so that a test can tell what never did.
"""

# mypy: disable-error-code="no-untyped-call"
# The twilio library has no types.

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import uuid4

from aiohttp import web
from multidict import MultiDict
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import VoiceResponse

SESSION_COOKIE = "ivr_session"

Page: TypeAlias = Callable[[MultiDict[str], dict[str, str]], VoiceResponse]
"""A document, made of the parameters that came and the session that the cookie names."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that the IVR got; `signed`: whether it believed it."""

    method: str
    path: str
    params: MultiDict[str] = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    signed: bool


@dataclass(slots=True)
class Ivr:
    """
    An IVR without a page; `app(auth_token)` is its application.

    `public_url`: its own name, as configured at Twilio; `None`: whatever `Host` says, as most samples do. `seen`: every
    request.
    """

    public_url: str | None = None
    seen: list[Seen] = field(default_factory=list, repr=False)
    _sessions: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def app(self, auth_token: str) -> web.Application:
        """The IVR as an application, for the account with that auth token."""
        validator = RequestValidator(auth_token)

        async def answer(request: web.Request) -> web.Response:
            return await self._answer(request, validator)

        served = web.Application()
        served.router.add_route("*", "/{path:.*}", answer)
        return served

    def pages(self) -> dict[str, Page]:
        """Its documents, by path."""
        return {}

    def digits_seen(self) -> set[str]:
        """Every run of digits that any request brought as `Digits`."""
        return {each.params["Digits"] for each in self.seen if each.params.get("Digits")}

    def paths_seen(self) -> list[str]:
        """The paths of all requests, in order."""
        return [each.path for each in self.seen]

    async def _answer(self, request: web.Request, validator: RequestValidator) -> web.Response:
        """Keep what comes in; 403 for what Twilio did not sign; otherwise the document, and the cookie."""
        form = MultiDict((name, str(value)) for name, value in (await request.post()).items())
        own = self.public_url or f"{request.scheme}://{request.host}"
        signature = request.headers.get("X-Twilio-Signature", "")
        signed = bool(validator.validate(own + request.raw_path, form, signature))
        params = form or MultiDict(request.query)
        self.seen.append(Seen(request.method, request.path, params, dict(request.headers), signed))
        if not signed:
            return web.Response(status=403)
        if request.path in {"/events", "/status"}:
            return web.Response(status=204)
        page = self.pages().get(request.path)
        if page is None:
            return web.Response(status=404)
        name = request.cookies.get(SESSION_COOKIE, "")
        if name not in self._sessions:
            name = uuid4().hex
            self._sessions[name] = {}
        document = page(params, self._sessions[name])
        response = web.Response(text=str(document), content_type="text/xml")
        response.set_cookie(SESSION_COOKIE, name, httponly=True)
        return response
