"""
The threat desk's part of the API: for the risk team alone.

1. Who is not of the team learns nothing here, not even whether there is an incident (403). One of the team who is not apart from
   a reporter reads it and may not act on it (`not_apart`).
2. Whoever reads what was said is on record (`threat_read`): a list shows none of it.
3. Who assesses or decides says how many acts he has seen (`acts`): somebody was faster, and he is told by whom (409).
4. Closing wants somebody who showed who he is lately (401, RFC 9470).
"""

from datetime import datetime
from typing import Annotated, ClassVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.core.agents import Agent, Role
from ivrguard.core.incidents import (
    NOTE_CHARS_MAX,
    Decision,
    Incident,
    Outcome,
    Rating,
    Refusal,
    Refused,
    Source,
    State,
    What,
    barred,
    standing,
)
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.web.agents.api import NOT_FOUND, STALE, Answer, Asked, Body, Handler, Route, refused
from ivrguard.web.agents.calls import at
from ivrguard.web.agents.reports import ChecklistSaid, said

LINES = "application/x-ndjson"
TEAM = frozenset({Role.RISK})

_Note = Annotated[str, StringConstraints(max_length=NOTE_CHARS_MAX)]
_Acts = Annotated[
    int,
    Field(
        ge=0, description="How many acts of the team you have seen: `acts` of the incident as you read it."
    ),
]


class IncidentListed(BaseModel):
    """An incident in a list: nothing that anybody said."""

    id: str
    state: State
    call_sid: str | None = Field(default=None, description="Absent: it came by no call.")
    flow: str | None = Field(default=None, description="Absent: it came by no call.")
    sources: list[Source]
    reporters: list[str]
    opened: datetime = Field(description="When it last wanted somebody.")
    escalations: int = Field(description="How often the team was told again since.")
    acknowledged_by: str | None = Field(default=None, description="Absent: nobody yet.")
    rating: Rating | None = Field(default=None, description="The team's last one.")
    acts: int = Field(description="How many acts of the team there were.")
    mine: bool = Field(
        description="Whether you may act on it: you neither reported it nor are of the reporter's line."
    )


class IncidentsListed(BaseModel):
    """Incidents: of those that are open, what nobody has acknowledged first."""

    incidents: list[IncidentListed]


class Reported(BaseModel):
    """What one person reported."""

    by: str
    reported: datetime
    source: Source
    checklist: ChecklistSaid


class HeardSaid(BaseModel):
    """What the caller said when a phrase of the flow's was heard."""

    at: datetime
    phrase: str
    words: str


class Happened(BaseModel):
    """One thing that happened."""

    at: datetime
    what: What
    by: str | None = Field(default=None, description="Absent: the guard itself.")
    word: str | None = Field(
        default=None, description="The rating, the decision, the fields, the number of the escalation."
    )
    note: str | None = Field(default=None, description="The team's reason.")


class IncidentSeen(IncidentListed):
    """The whole of an incident."""

    account: str | None = Field(
        default=None, description="As the record names it; absent where none was claimed."
    )
    reports: list[Reported]
    heard: list[HeardSaid]
    timeline: list[Happened]


class Acknowledgement(Body):
    """Nothing needs to be said."""

    mend: ClassVar[str] = "send {} as JSON"


class Assessment(Body):
    """How grave it is: an input to what the team decides."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"rating": "low", "acts": 1, "note": "no detail"}]}
    )

    mend: ClassVar[str] = 'send {"rating": "low" | "medium" | "high", "acts": <seen>, "note": "…"} as JSON'

    rating: Rating = Field(description="`low` lacks realism and detail; `medium` and `high` rise with both.")
    acts: _Acts
    note: _Note = ""


class Decided(Body):
    """What the team does about it."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"decision": "no_action", "because": "a hoax", "acts": 2, "close": True}]
        },
    )

    mend: ClassVar[str] = (
        'send {"decision": "…", "because": "…", "acts": <seen>, "close": true | false} as JSON'
    )

    decision: Decision
    because: _Note = Field(description="Why, in your words: a decision has a reason.")
    acts: _Acts
    close: bool = Field(default=False, description="Whether it is over by that.")


_GONE = {404: "There is no such incident"}
_REFUSALS = {
    Refusal.NOT_TEAM: refused(403, "not_allowed", "a person of the risk team acts on it, no desk's program"),
    Refusal.NOT_APART: refused(
        403,
        "not_apart",
        "you reported it, or are the reporter's manager, or report to him: another one decides",
    ),
    Refusal.NOT_FRESH: STALE,
    Refusal.NO_REASON: refused(400, "no_reason", "a decision has a reason"),
    Refusal.FULL: refused(409, "full", "it has as many acts as it may have: close it"),
}


class Incidents:
    """Handlers of the threat desk."""

    def __init__(self, desk: ThreatDesk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """What of the API is the risk team's."""
        reading = [
            Route(
                "GET",
                "incidents",
                self.every,
                name="list_incidents",
                summary="The incidents that are open, or those that are over",
                answers={200: IncidentsListed},
                query={"state": ("open", "closed")},
                roles=TEAM,
            ),
            Route(
                "GET",
                "incidents/{incident}",
                self.one,
                name="read_incident",
                summary="The whole of an incident; that you read it is on record",
                answers={200: IncidentSeen},
                refuses=_GONE,
                roles=TEAM,
            ),
            Route(
                "GET",
                "incidents/{incident}/export",
                self.export,
                name="export_incident",
                summary="An incident as lines of JSON, with its entries of the record",
                answers={200: None},
                refuses=_GONE,
                roles=TEAM,
                media=LINES,
            ),
        ]
        return [
            *reading,
            _act(
                "acknowledgements",
                self.acknowledge,
                "acknowledge_incident",
                "You have it in hand",
                Acknowledgement,
            ),
            _act("assessments", self.assess, "assess_incident", "Rate it", Assessment),
            _act("decisions", self.decide, "decide_incident", "Decide about it, and close it", Decided),
        ]

    async def every(self, asked: Asked[None]) -> Answer:
        """200. Nothing that anybody said stands in a list, and so no look at one is on record."""
        found = await (self._desk.closed() if asked.query["state"] == "closed" else self._desk.open())
        return Answer(200, IncidentsListed(incidents=[_listed(one, asked.agent) for one in found]))

    async def one(self, asked: Asked[None]) -> Answer:
        """200 with everything: reports, what was heard, the time-line."""
        found = await self._desk.looked_at(asked.agent, asked.path["incident"], "read")
        return NOT_FOUND if found is None else Answer(200, _whole(found, asked.agent))

    async def export(self, asked: Asked[None]) -> Answer | web.StreamResponse:
        """200: a line with the incident, then its entries of the record, and its call's by number and hash."""
        found = await self._desk.looked_at(asked.agent, asked.path["incident"], "exported")
        if found is None:
            return NOT_FOUND
        headers = {
            "Content-Type": LINES,
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{found.about.id}.jsonl"',
            "X-Content-Type-Options": "nosniff",
        }
        response = web.StreamResponse(headers=headers)
        pieces = [piece async for piece in self._desk.export(found)]  # a fault is told before it has begun
        await response.prepare(asked.request)
        for piece in pieces:
            await response.write(piece)
        return response

    async def acknowledge(self, asked: Asked[Acknowledgement]) -> Answer:
        """201: nobody is woken any more. Again by you is the same; by another one it is a 409 that names who has it."""
        return _acted(await self._desk.acknowledge(asked.agent, asked.path["incident"]), asked.agent)

    async def assess(self, asked: Asked[Assessment]) -> Answer:
        """201. A rating says how grave it seems; what is done about it is a decision."""
        sent = asked.body
        done = await self._desk.assess(
            asked.agent, asked.path["incident"], sent.rating, sent.note, seen=sent.acts
        )
        return _acted(done, asked.agent)

    async def decide(self, asked: Asked[Decided]) -> Answer:
        """201. Closing wants that you showed who you are in the last five minutes."""
        sent = asked.body
        done = await self._desk.decide(
            asked.agent, asked.path["incident"], sent.decision, sent.because, close=sent.close, seen=sent.acts
        )
        return _acted(done, asked.agent)


def _act(what: str, handler: Handler, name: str, summary: str, body: type[Body]) -> Route:
    """An act of the team on one incident."""
    return Route(
        "POST",
        f"incidents/{{incident}}/{what}",
        handler,
        name=name,
        summary=summary,
        answers={201: IncidentListed},
        body=body,
        refuses={
            **_GONE,
            401: "Closing wants somebody who showed who he is lately",
            403: "You are a reporter, a reporter's manager or staff, or a desk's program",
            409: "It is closed, or somebody was faster",
        },
        roles=TEAM,
    )


def _acted(done: Outcome | None, agent: Agent) -> Answer:
    if done is None:
        return NOT_FOUND
    if isinstance(done, Refused):
        if done.why is Refusal.CLOSED:
            return refused(409, "closed", f"{done.by} closed it")
        if done.why is Refusal.FASTER:
            return refused(409, "faster", f"{done.by} was faster: read it again")
        return _REFUSALS[done.why]
    return Answer(201, _listed(done.incident, agent))


def _listed(incident: Incident, agent: Agent) -> IncidentListed:
    about, stands = incident.about, standing(incident)
    sources = [one.source for one in incident.reports] + [Source.SPEECH] * bool(incident.heard)
    return IncidentListed(
        id=about.id,
        state=stands.state,
        call_sid=about.call or None,
        flow=about.flow or None,
        sources=list(dict.fromkeys(sources)),
        reporters=[one.by for one in incident.reports],
        opened=at(stands.opened_ms),
        escalations=stands.escalations,
        acknowledged_by=stands.holder or None,
        rating=stands.rating,
        acts=stands.acts,
        mine=barred(incident, agent) is None,
    )


def _whole(incident: Incident, agent: Agent) -> IncidentSeen:
    return IncidentSeen(
        **_listed(incident, agent).model_dump(),
        account=incident.about.ref or None,
        reports=[
            Reported(by=one.by, reported=at(one.at_ms), source=one.source, checklist=said(one.checklist))
            for one in incident.reports
        ],
        heard=[HeardSaid(at=at(one.at_ms), phrase=one.phrase, words=one.words) for one in incident.heard],
        timeline=[
            Happened(
                at=at(one.at_ms),
                what=one.what,
                by=one.by or None,
                word=one.word or None,
                note=one.note or None,
            )
            for one in incident.moments
        ],
    )
