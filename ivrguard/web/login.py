"""
The agents' log-in: `/.ivrguard/console/login`, `/logout`, and `/callback` for the company's identity provider.

The laws of this file:

1. One way in: where an identity provider is set, accounts of our own open nothing, so that nobody goes round the company's rules (OWASP
   ASVS 5.0, 6.1.3: every way is as strong as the others).
2. The form is believed only from our own page: it has the token of a cookie that the page gave (`__Host-ivrguard-door`). That cookie
   opens nothing, and what is logged in gets a new one: whoever plants a cookie has planted nothing.
3. One answer for all that does not fit. Whoever logs in is led back to where he was, and never to another host (`is_local`).
4. Who only knocks fills no record: of refusals in which the identity provider named nobody, `REFUSALS_RECORDED_A_MINUTE` are recorded at most; a
   metric counts them all.
5. No page holds a secret; none is kept by a browser; no script runs, and it sends nowhere but here (web/console/pages.py).
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web

from ivrguard import log
from ivrguard.core.agents import Agent
from ivrguard.core.errors import Fault
from ivrguard.guard import sessions as kept
from ivrguard.guard.logins import Logins, Typed
from ivrguard.guard.world import World
from ivrguard.web import sessions as browser
from ivrguard.web.console.pages import Pages
from ivrguard.web.identity import CALLBACK_PATH, LOGIN_PATH, LOGOUT_PATH, Identity, is_local
from ivrguard.web.ops import Metrics
from ivrguard.web.voice import Sparing

DOOR_COOKIE = "__Host-ivrguard-door"
LOGIN_COOKIE = "__Host-ivrguard-login"
LOGIN_S = 600
"""How long somebody may take at the identity provider."""
REFUSALS_RECORDED_A_MINUTE = 60
HOME = "/.ivrguard/console/agent"

logger = log.get()


@dataclass(frozen=True, slots=True)
class LoginView:
    """
    What the log-in page shows.

    `csrf`, `next`: hidden fields of the form, sent back as they are. `problem`: "" or a word of `PROBLEMS`. `anew`: somebody is logged
    in, and is asked once more. `out`: somebody has just logged out. `own`: whether there is a form; else `provider` is where a link
    leads, and `provider_out` (where the provider has it) is where one logs out there as well.
    """

    csrf: str = field(repr=False)
    next: str = ""
    problem: str = ""
    anew: bool = False
    out: bool = False
    own: bool = True
    provider: str = ""
    provider_out: str = ""


PROBLEMS = {
    "wrong": "That did not fit. A code works once: wait for the next one. After five tries, nothing fits for half an hour.",
    "again": "This page was open too long, or in another browser. Please try again; inside of another page, open it in a "
    "window of its own.",
    "refused": "Your company's log-in did not let you in here. Please try again, or ask who looks after ivrguard.",
    "down": "This cannot be done just now. Please try again in a moment.",
}
"""What may be told, whatever it was."""


class Provider(Protocol):
    """The company's identity provider (web/oidc.py)."""

    async def begin(self, *, next_: str, anew: bool) -> tuple[str, str]:
        """Where to send the browser, and what its cookie is to keep meanwhile. Raises `core.errors.Fault`."""

    async def finish(self, query: str, cookie: str) -> "Finished | Unfinished":
        """What came of it. Raises `core.errors.Fault` when the provider cannot be asked."""

    async def out(self) -> str:
        """Where one logs out there as well; "" if the provider has no such place, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Somebody showed the identity provider who he is. `once`: this log-in, to be used for one session only."""

    agent: Agent
    next: str
    once: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Nobody is let in: why, for the record, and the subject that the provider named, if it is known to be the provider's word."""

    reason: str
    subject: str = field(default="", repr=False)


class Login:
    """The handlers. `pages`: makes the page. `provider`: None for accounts of our own."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        logins: Logins,
        metrics: Metrics,
        pages: Pages,
        provider: Provider | None = None,
    ) -> None:
        self._world = world
        self._identity = identity
        self._logins = logins
        self._metrics = metrics
        self._provider = provider
        self._sparing = Sparing(REFUSALS_RECORDED_A_MINUTE)
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.get(LOGIN_PATH, self.page),
            web.post(LOGIN_PATH, self.enter),
            web.post(LOGOUT_PATH, self.leave),
            web.get(CALLBACK_PATH, self.called_back),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """The form, or the link to the provider; whoever is logged in is led on, unless he is asked once more."""
        next_, anew = _next_of(request.query.get("next", "")), request.query.get("fresh") == "1"
        try:
            if not anew and await self._identity.of(request) is not None:
                return _led_to(next_)
            if self._provider is not None and request.query.get("way") == "provider":
                place, cookie = await self._provider.begin(next_=next_, anew=anew)
                response = _led_to(place)
                browser.set_cookie(
                    response, cookie, cookie=LOGIN_COOKIE, embedded=self._identity.embedded, age_s=LOGIN_S
                )
                return response
        except Fault as fault:
            return await self._told(request, fault, next_)
        return await self._page(request, next_, anew=anew, out=request.query.get("out") == "1")

    async def enter(self, request: web.Request) -> web.Response:
        """What the form sent."""
        form = await request.post() if request.content_type == browser.FORM else {}
        fields = {name: text for name, text in form.items() if isinstance(text, str)}
        next_ = _next_of(fields.get("next", ""))
        if self._provider is not None:
            return await self._page(request, next_, "again", status=403)
        door = browser.secret_of(request, DOOR_COOKIE)
        if not door or not await browser.shown(request, door, self._world.issuer):
            return await self._page(request, next_, "again", status=403)
        typed = Typed(fields.get("name", ""), fields.get("password", ""), fields.get("code", ""))
        secret = self._new_secret()
        try:
            right = await self._logins.log_in(typed, secret, ended=browser.secret_of(request))
        except Fault as fault:
            return await self._told(request, fault, next_)
        if not right:
            self._metrics.logins.labels("refused").inc()
            return await self._page(request, next_, "wrong", status=403)
        return self._entered(secret, next_)

    async def called_back(self, request: web.Request) -> web.Response:
        """The identity provider has sent the browser back."""
        cookie = request.cookies.get(LOGIN_COOKIE, "")
        if self._provider is None or not cookie:
            return await self._page(request, "", "again", status=403)
        secret = self._new_secret()
        try:
            found = await self._provider.finish(request.query_string, cookie)
            if isinstance(found, Unfinished):
                self._metrics.logins.labels("refused").inc()
                if found.subject or self._sparing.take(asyncio.get_running_loop().time() / 60)[0]:
                    await kept.refused(self._world, found.reason, found.subject)
                return await self._page(request, "", "refused", status=403)
            before = browser.secret_of(request)
            begun = await kept.begin(
                self._world, found.agent, secret, way="provider", ended=before, once=found.once
            )
        except Fault as fault:
            return await self._told(request, fault, "")
        if not begun:
            return await self._page(request, "", "again", status=403)
        return self._entered(secret, found.next)

    async def leave(self, request: web.Request) -> web.Response:
        """Log out: harmless for whoever is not logged in."""
        secret = browser.secret_of(request)
        try:
            if secret and await browser.shown(request, secret, self._world.issuer):
                await kept.end(self._world, secret)
                response = _led_to(f"{LOGIN_PATH}?out=1")
                browser.set_cookie(response, "", embedded=self._identity.embedded, age_s=0)
                return response
        except Fault as fault:
            return await self._told(request, fault, "")
        return _led_to(LOGIN_PATH)

    def _new_secret(self) -> str:
        return browser.new_secret(self._world.chance(kept.SECRET_BYTES))

    def _entered(self, secret: str, next_: str) -> web.Response:
        self._metrics.logins.labels("entered").inc()
        response = _led_to(next_)
        browser.set_cookie(response, secret, embedded=self._identity.embedded)
        browser.set_cookie(response, "", cookie=DOOR_COOKIE, embedded=self._identity.embedded, age_s=0)
        browser.set_cookie(response, "", cookie=LOGIN_COOKIE, embedded=self._identity.embedded, age_s=0)
        return response

    async def _told(self, request: web.Request, fault: Fault, next_: str) -> web.Response:
        """The operator is told what it was; whoever wants to log in, that it cannot be done now."""
        self._metrics.logins.labels("down").inc()
        logger.error("fault", reason=fault.reason, detail=str(fault))
        return await self._page(request, next_, "down", status=503)

    async def _page(
        self,
        request: web.Request,
        next_: str,
        problem: str = "",
        *,
        anew: bool = False,
        out: bool = False,
        status: int = 200,
    ) -> web.Response:
        door = browser.secret_of(request, DOOR_COOKIE) or self._new_secret()
        asked = {"way": "provider"} | ({"next": next_} if next_ else {}) | ({"fresh": "1"} if anew else {})
        ours = self._provider is None
        view = LoginView(
            csrf=browser.csrf_of(door),
            next=next_,
            problem=problem,
            anew=anew,
            out=out,
            own=ours,
            provider="" if ours else f"{LOGIN_PATH}?{urlencode(asked)}",
            provider_out=await self._provider.out() if self._provider is not None and out else "",
        )
        response = self._pages.page(
            "login.html", status, view=view, problem=PROBLEMS.get(problem, ""), path=LOGIN_PATH
        )
        browser.set_cookie(
            response, door, cookie=DOOR_COOKIE, embedded=self._identity.embedded, age_s=LOGIN_S
        )
        return response


def _next_of(text: str) -> str:
    return text if is_local(text) else ""


def _led_to(place: str) -> web.Response:
    return web.Response(status=303, headers={"Location": place or HOME, "Cache-Control": "no-store"})
