"""
Whoever reports a threat: one quiet button, then CISA's advice and checklist, as much of it as he has.

The laws of this file:

1. Two steps at most: the button reports at once, with nothing filled in; what comes after may come later, or never.
2. The caller notices nothing: nothing here touches his call (guard/incidents.py).
3. A reporter sees his own report and no other one; how the team decides is not for him.
"""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.core.checklist import NAMES, Checklist
from ivrguard.core.incidents import Incident, Outcome, Refused, Report, Source
from ivrguard.guard import Guard
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.web.console import checklist
from ivrguard.web.console.checklist import Sent
from ivrguard.web.console.door import PANEL, PANEL_ROLES, Door
from ivrguard.web.console.threat_view import REFERENCE_CHARACTERS
from ivrguard.web.console.view import moment

REPORTS = PANEL + "/reports"
SOURCES = {one.value: one for one in Source if one not in {Source.CALL, Source.SPEECH}}
"""How a threat may have come that nobody heard on a call of his."""


class Reports:
    """Handlers of reports."""

    def __init__(self, guard: Guard, desk: ThreatDesk, door: Door) -> None:
        self._guard = guard
        self._desk = desk
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.post(PANEL + "/calls/{call_sid}/reports", self._door.for_(PANEL_ROLES, self.on_a_call)),
            web.post(REPORTS, self._door.for_(PANEL_ROLES, self.alone)),
            web.get(REPORTS + "/{incident}", self._door.for_(PANEL_ROLES, self.form)),
            web.post(REPORTS + "/{incident}", self._door.for_(PANEL_ROLES, self.fill_in)),
        ]

    async def on_a_call(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """The button on the page of a call that he holds."""
        found = await self._guard.held(agent, request.match_info["call_sid"])
        if found is None:
            return self._door.pages.to(PANEL)
        return self._reported(await self._desk.report(agent, found.call, Source.CALL, Checklist(), ()))

    async def alone(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """A threat that came otherwise."""
        source = SOURCES.get(str((await request.post()).get("source", "")), Source.OTHER)
        return self._reported(await self._desk.report(agent, None, source, Checklist(), ()))

    def _reported(self, done: Outcome) -> web.StreamResponse:
        if isinstance(done, Refused):
            return self._door.pages.to(f"{PANEL}?said=threat_{done.why.value}")
        return self._door.pages.to(f"{REPORTS}/{done.incident.about.id}")

    async def form(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """His report, to be filled in; whoever reported nothing of that name is led to the panel."""
        found = await self._desk.own(agent, request.match_info["incident"])
        if found is None:
            return self._door.pages.to(PANEL)
        return self._page(request, agent, found, checklist.sent_of(found[1].checklist), ())

    async def fill_in(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """What he filled in so far. What cannot be kept comes back as it was, with what to mend."""
        found = await self._desk.own(agent, request.match_info["incident"])
        if found is None:
            return self._door.pages.to(PANEL)
        form = await request.post()
        sent: Sent = {name: [str(value) for value in form.getall(name, [])] for name in NAMES}
        read = checklist.read(sent)
        if not isinstance(read, Checklist):
            return self._page(request, agent, found, sent, read, 422)
        incident, _ = found
        await self._desk.detail(agent, incident.about.id, read, NAMES)
        return self._door.pages.to(f"{REPORTS}/{incident.about.id}?said=kept")

    def _page(
        self,
        request: web.Request,
        agent: Agent,
        found: tuple[Incident, Report],
        sent: Sent,
        wrong: Sequence[str],
        status: int = 200,
    ) -> web.StreamResponse:
        incident, report = found
        mounted = self._guard.world.flows.named(incident.about.flow) or self._guard.world.flows.first()
        zone = ZoneInfo("UTC") if mounted is None else mounted.zone
        return self._door.dressed(
            request,
            agent,
            "report.html",
            status,
            here="",
            id=incident.about.id,
            reference=incident.about.id[:REFERENCE_CHARACTERS].upper(),
            call_sid=incident.about.call,
            at=moment(report.at_ms, zone),
            questions=checklist.asked(sent),
            wrong=wrong,
            kept=not wrong and request.query.get("said") == "kept",
        )
