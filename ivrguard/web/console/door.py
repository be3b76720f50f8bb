"""
The door of each page: who is let in, and what everybody else reads instead.

The laws of this file:

1. **Never blank.** While the store is down a page says "not verified", what to do and what to say; nothing that was true a moment ago
   is shown from memory.
2. Who is not signed in is led to the log-in and back; whose form came too late is led there too, and nothing of it is done. Who has
   another role is told so, and nothing of what is behind the door.
3. What a form brought is used once, and stands in no address.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from aiohttp import web

from ivrguard import log
from ivrguard.core.agents import Agent, Role
from ivrguard.core.errors import Fault
from ivrguard.guard.world import World
from ivrguard.web.console import words
from ivrguard.web.console.pages import Pages
from ivrguard.web.console.view import moment
from ivrguard.web.identity import LOGIN_PATH, Identity

PANEL = "/.ivrguard/console/agent"
INCIDENTS = "/.ivrguard/console/incidents"
PANEL_ROLES = (Role.AGENT, Role.SUPERVISOR)

logger = log.get()

Handler = Callable[[web.Request, Agent], Awaitable[web.StreamResponse]]


class Door:
    """Lets people in, and dresses what they see. `world`: for the time."""

    def __init__(self, identity: Identity, pages: Pages, world: World) -> None:
        self.pages = pages
        self._identity = identity
        self._world = world

    def for_(
        self, roles: tuple[Role, ...], handler: Handler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of a page, for those who have one of these roles."""

        async def answered(request: web.Request) -> web.StreamResponse:
            try:
                who = await self._identity.of(request)
                if who is not None and who.roles.intersection(roles):
                    return await handler(request, who)
                if who is not None:
                    return self.dressed(request, who, "elsewhere.html", 403, here="")
                if request.method == "POST":
                    return self.pages.to(f"{LOGIN_PATH}?{urlencode({'next': home_of(roles)})}")
                return self._identity.turned_away(request)
            except Fault as fault:
                logger.error("fault", reason=fault.reason, detail=str(fault))
                return self._unavailable(request, home_of(roles))

        return answered

    def piece(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """
        The handler of a piece that a script asks for: 401 and 503 without a word.

        No hand asked for it, so no session lasts longer by it.
        """

        async def answered(request: web.Request) -> web.StreamResponse:
            try:
                agent = await self._identity.of(request, busy=False)
                return web.Response(status=401) if agent is None else await handler(request, agent)
            except Fault as fault:
                logger.error("fault", reason=fault.reason, detail=str(fault))
                return web.Response(status=503)

        return answered

    def dressed(
        self, request: web.Request, agent: Agent, template: str, status: int = 200, **filled_in: object
    ) -> web.Response:
        """A page for somebody who is signed in, with what stands around each."""
        return self.pages.page(
            template,
            status,
            words=words,
            who=agent.label or agent.name,
            csrf=self._identity.csrf(request),
            sees_panel=bool(agent.roles.intersection(PANEL_ROLES)),
            sees_incidents=Role.RISK in agent.roles,
            **filled_in,
        )

    def piece_of(self, request: web.Request, template: str, **filled_in: object) -> web.Response:
        """A piece of a page."""
        return self.pages.page(template, 200, words=words, csrf=self._identity.csrf(request), **filled_in)

    def _unavailable(self, request: web.Request, home: str) -> web.Response:
        first = self._world.flows.first()
        at = moment(self._world.clock(), ZoneInfo("UTC") if first is None else first.zone)
        again = request.path if request.method == "GET" else home
        return self.pages.page("unavailable.html", 503, words=words, at=at, again=again)


def home_of(roles: tuple[Role, ...]) -> str:
    """Where those belong who have these roles."""
    return PANEL if roles == PANEL_ROLES else INCIDENTS
