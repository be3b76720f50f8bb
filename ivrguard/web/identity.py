"""
Who asks: the agent, or the desk's program, behind a request to the agents' pages and API.

The laws of this file:

1. One who cannot be told for sure is nobody (`None`), whatever he brought and whatever is wrong with it.
2. People are known in one way: where the company's identity provider is set, a session of an account of ours is nobody's.
3. What is in `Authorization` is all that counts where it is sent: a desk's key. Otherwise the session's cookie does, and a request
   that changes something must show that our own page made it (web/sessions.py): without that it is nobody's.
4. 401 says "show who you are". A page is led to the log-in, and from there back to where it was. What somebody who is known may
   do is the API's and the pages' own matter.
"""

import re
from typing import Protocol
from urllib.parse import urlencode

import orjson
from aiohttp import web

from ivrguard.core import sessions
from ivrguard.core.agents import COMPANYS, OWN, Agent
from ivrguard.guard import Guard
from ivrguard.guard import sessions as kept
from ivrguard.web import sessions as browser

LOGIN_PATH = "/.ivrguard/console/login"
LOGOUT_PATH = "/.ivrguard/console/logout"
CALLBACK_PATH = "/.ivrguard/console/callback"
CONSOLE_PREFIX = "/.ivrguard/console/"
NEXT_CHARS_MAX = 512
STREAM = "text/event-stream"
_ASKED = web.RequestKey("asked", bool)
_NO_PLACES = ("..", "%2e", "\\", " ")
"""What leads elsewhere once a browser has put a path in order."""


class Tokens(Protocol):
    """Who knows the access tokens of the company's identity provider (web/oidc.py)."""

    async def bearer(self, token: str) -> Agent | None:
        """Whose token it is; None if it is no good. Raises `core.errors.Fault` when that cannot be told."""


def is_jwt(text: str) -> bool:
    """Whether a bearer token has the form of one: a desk's key has no dots."""
    return re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]*", text, re.ASCII) is not None


def bearer(request: web.Request) -> str:
    """The bearer token of a request (RFC 6750, 2.1); "" if there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.isascii() else ""


def is_local(target: str) -> bool:
    """Whether a path is one of our own pages, to be led back to: no other host, however it is written."""
    return (
        target.startswith(CONSOLE_PREFIX)
        and len(target) <= NEXT_CHARS_MAX
        and target.isascii()
        and target.isprintable()
        and not any(one in target.lower() for one in _NO_PLACES)
        and target.partition("?")[0] not in {LOGIN_PATH, LOGOUT_PATH, CALLBACK_PATH}
    )


class Identity:
    """
    Tells who asks: by a desk's key, or by a session.

    `tokens`: who knows the company's access tokens; None: it has no provider, and people have accounts of our own. `idle_s`: after so many seconds without use a session ends. `embedded`: whether our pages stand in others'.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        tokens: Tokens | None = None,
        idle_s: int = sessions.IDLE_S,
        embedded: bool = False,
    ) -> None:
        self._guard = guard
        self._tokens = tokens
        self._people = OWN if tokens is None else COMPANYS
        self.idle_s = idle_s
        self.embedded = embedded

    async def of(self, request: web.Request, *, busy: bool = True) -> Agent | None:
        """
        The agent, or None. `busy`: False for what no hand asked for (a look for news): it keeps no session alive, as a stream
        does not, nor asking again for a request that is under way, as streams do.

        Raises `core.errors.Fault` when the store cannot say.
        """
        if "Authorization" in request.headers:
            return await self._by_key(bearer(request))
        secret = browser.secret_of(request)
        world = self._guard.world
        if not secret or not await browser.shown(request, secret, world.issuer):
            return None
        busy = busy and _ASKED not in request and STREAM not in request.headers.get("Accept", "")
        request[_ASKED] = True
        agent = await kept.agent_of(world, secret, idle_s=self.idle_s, busy=busy)
        return agent if agent is not None and agent.name.startswith(self._people) else None

    def csrf(self, request: web.Request) -> str:
        """What a page's forms send as `csrf`, and its script as `X-CSRF-Token`; "" where there is no session."""
        secret = browser.secret_of(request)
        return browser.csrf_of(secret) if secret else ""

    def turned_away(self, request: web.Request) -> web.Response:
        """The answer to nobody: a browser that wants a page is led to the log-in and back, all others get JSON."""
        if _wants_a_page(request):
            words = urlencode({"next": request.raw_path}) if is_local(request.raw_path) else ""
            place = f"{LOGIN_PATH}?{words}" if words else LOGIN_PATH
            return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})
        headers = {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "WWW-Authenticate": 'Bearer realm="ivrguard"',
        }
        told = {"error": "unauthorized", "mend": "log in, or send a key as a bearer token"}
        return web.Response(status=401, body=orjson.dumps(told), headers=headers)

    async def _by_key(self, key: str) -> Agent | None:
        if self._tokens is not None and is_jwt(key):
            return await self._tokens.bearer(key)
        desk = await self._guard.desk(key) if key else None
        if desk is None or desk.name.startswith((OWN, COMPANYS)):  # added before people had names
            return None
        return Agent(desk.name, desk.name, queues=desk.queues, shown_ms=desk.created_ms, desk=True)


def _wants_a_page(request: web.Request) -> bool:
    return (
        request.method in {"GET", "HEAD"}
        and request.path.startswith(CONSOLE_PREFIX)
        and "text/html" in request.headers.get("Accept", "")
    )
