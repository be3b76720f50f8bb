"""
The risk team's page: the threats that stand, one of them whole, and what the team does about it.

The laws of this file:

1. Who may do what is decided by core/incidents.py at the moment it is done; the page only leaves out what would be refused.
2. What somebody typed is not lost when it was refused: the page comes back with it, and says why.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from aiohttp import web

from ivrguard.core.agents import Agent, Role
from ivrguard.core.incidents import Decision, Outcome, Rating, Refusal, Refused
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.guard.world import World
from ivrguard.web.console import words
from ivrguard.web.console.door import INCIDENTS, Door
from ivrguard.web.console.threat_view import row, threat
from ivrguard.web.identity import LOGIN_PATH

E = TypeVar("E", bound=StrEnum)

TEAM = (Role.RISK,)
CLOSED_SHOWN_MAX = 20
SEEN_DIGITS_MAX = 6


class Threats:
    """Handlers of the risk team's pages and forms."""

    def __init__(self, desk: ThreatDesk, world: World, door: Door) -> None:
        self._desk = desk
        self._world = world
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        one = INCIDENTS + "/{incident}"
        return [
            web.get(INCIDENTS, self._door.for_(TEAM, self.listed)),
            web.get(one, self._door.for_(TEAM, self.one)),
            web.post(one + "/acknowledgements", self._door.for_(TEAM, self.acknowledge)),
            web.post(one + "/assessments", self._door.for_(TEAM, self.assess)),
            web.post(one + "/decisions", self._door.for_(TEAM, self.decide)),
        ]

    async def listed(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """Those that stand, what nobody has first; and those that were closed last."""
        return await self._list(request, agent)

    async def one(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """One incident; that he reads it is on record."""
        return await self._one(request, agent)

    async def acknowledge(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """He has it in hand."""
        return await self._done(request, agent, await self._desk.acknowledge(agent, _id(request)), {})

    async def assess(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """The team's rating."""
        form = await _form(request)
        rating = _member(Rating, form.get("rating", ""))
        if rating is None:
            return self._door.pages.to(_path(request))
        done = await self._desk.assess(agent, _id(request), rating, form.get("note", ""), seen=_seen(form))
        return await self._done(request, agent, done, form)

    async def decide(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """What is done about it; closes it if that box was ticked."""
        form = await _form(request)
        decision = _member(Decision, form.get("decision", ""))
        if decision is None:
            return self._door.pages.to(_path(request))
        close = form.get("close") == "yes"
        done = await self._desk.decide(
            agent, _id(request), decision, form.get("note", ""), close=close, seen=_seen(form)
        )
        return await self._done(request, agent, done, form)

    async def _done(
        self, request: web.Request, agent: Agent, done: Outcome | None, form: Mapping[str, str]
    ) -> web.StreamResponse:
        if done is None:
            return await self._list(request, agent, gone=True)
        if not isinstance(done, Refused):
            return self._door.pages.to(_path(request))
        return await self._one(request, agent, done.why, form)

    async def _one(
        self,
        request: web.Request,
        agent: Agent,
        why: Refusal | None = None,
        form: Mapping[str, str] = {},
    ) -> web.StreamResponse:
        found = await self._desk.looked_at(agent, _id(request), "read")
        if found is None:
            return await self._list(request, agent, gone=True)
        view = threat(found, self._zone_of, agent, self._world.clock())
        return self._door.dressed(
            request,
            agent,
            "incident.html",
            200 if why is None else 409,
            here="incidents",
            view=view,
            message=None if why is None else words.THREAT_REFUSED[why],
            form={"rating": "", "decision": "", "note": "", **form},
            ratings=[one.value for one in Rating],
            decisions=[one.value for one in Decision],
            anew=f"{LOGIN_PATH}?{urlencode({'next': _path(request), 'fresh': '1'})}",
        )

    async def _list(self, request: web.Request, agent: Agent, *, gone: bool = False) -> web.StreamResponse:
        now = self._world.clock()
        stand = [row(one, self._zone_of(one.about.flow), now) for one in await self._desk.open()]
        over = [
            row(one, self._zone_of(one.about.flow), now)
            for one in (await self._desk.closed())[:CLOSED_SHOWN_MAX]
        ]
        return self._door.dressed(
            request,
            agent,
            "incidents.html",
            404 if gone else 200,
            here="incidents",
            stand=stand,
            over=over,
            message=words.GONE_INCIDENT if gone else None,
            now_ms=now,
        )

    def _zone_of(self, flow: str) -> ZoneInfo:
        mounted = self._world.flows.named(flow) or self._world.flows.first()
        return ZoneInfo("UTC") if mounted is None else mounted.zone


def _id(request: web.Request) -> str:
    return request.match_info["incident"]


def _path(request: web.Request) -> str:
    return f"{INCIDENTS}/{_id(request)}"


async def _form(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def _member(kind: type[E], word: str) -> E | None:
    return next((one for one in kind if one.value == word), None)


def _seen(form: Mapping[str, str]) -> int:
    """How many acts of the team he has seen; what is no number is none that can be right."""
    text = form.get("seen", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= SEEN_DIGITS_MAX else -1
