"""
A threat reported, quietly: in the call that an agent holds, or by no call at all; and what he noticed, as he finds time.

1. One request reports; every field of the checklist may be left out, or come later (`PATCH`).
2. A reporter sees his own report and whether somebody has it in hand; what others reported and what the team thinks of it
   he does not.
3. The caller's webhooks know nothing of it (guard/incidents.py).
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.core import incidents as rules
from ivrguard.core.checklist import (
    AGE_MAX,
    NAMES,
    TEXT_CHARS_MAX,
    WORDS_CHARS_MAX,
    Background,
    Checklist,
    Language,
    Placed,
    Sex,
    Voice,
)
from ivrguard.core.incidents import Incident, Refusal, Refused, Source, State, standing
from ivrguard.guard import Guard
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.web.agents.api import NOT_FOUND, Answer, Asked, Body, Route, Whole, refused
from ivrguard.web.agents.calls import at

_Text = Annotated[str, StringConstraints(max_length=TEXT_CHARS_MAX)]
_Words = Annotated[str, StringConstraints(max_length=WORDS_CHARS_MAX)]


class ChecklistSaid(BaseModel):
    """CISA's checklist, as far as somebody filled it in. A field that is null is taken out again."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    received: _Text | None = Field(default=None, description="When the threat came: a time, as you say it.")
    ended: _Text | None = Field(default=None, description="When the call ended.")
    called: _Text | None = Field(default=None, description="The number and extension that took it.")
    caller: _Text | None = Field(
        default=None, description="The number that it came from, if there was one to be seen."
    )
    exact_words: _Words | None = Field(default=None, description="The exact words of the threat.", repr=False)
    when_explodes: _Text | None = Field(default=None, description="Ask: when will it explode?")
    where_now: _Text | None = Field(default=None, description="Ask: where is it right now?")
    looks_like: _Text | None = Field(default=None, description="Ask: what does it look like?")
    kind: _Text | None = Field(default=None, description="Ask: what kind is it?")
    sets_off: _Text | None = Field(default=None, description="Ask: what will make it explode?")
    placed: Placed | None = Field(default=None, description="Ask: did you place it?")
    why: _Text | None = Field(default=None, description="Ask: why?")
    name: _Text | None = Field(default=None, description="Ask: what is your name?", repr=False)
    address: _Text | None = Field(default=None, description="Ask: what is your address?", repr=False)
    sex: Sex | None = Field(default=None, description="What the caller sounded like.")
    age: Annotated[Whole, Field(ge=0, le=AGE_MAX)] | None = Field(
        default=None, description="About how old, in years."
    )
    familiar: _Text | None = Field(default=None, description="Whether you know the voice: like whom?")
    voice: list[Voice] | None = Field(default=None, description="How the voice sounded.")
    accent: _Text | None = Field(default=None, description="Which accent.")
    background: list[Background] | None = Field(default=None, description="What else was to be heard.")
    language: list[Language] | None = Field(default=None, description="How the threat was worded.")
    remarks: _Words | None = Field(default=None, description="Anything else.", repr=False)
    reported_to: _Text | None = Field(default=None, description="Whom else you told.")


class Report(Body):
    """A threat. Nothing of it is needed: `{}` reports one that came by no call."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"call_sid": "CA0123456789abcdef0123456789abcdef"}, {"source": "letter"}]
        },
    )

    mend: ClassVar[str] = (
        'send {"call_sid": "CA…"} for the call that you hold, or {"source": "letter"}, as JSON'
    )

    call_sid: Annotated[str, StringConstraints(pattern=r"^CA[0-9a-f]{32}$")] | None = Field(
        default=None, description="The call that you hold; left out for a threat that came otherwise."
    )
    source: Source = Field(default=Source.OTHER, description="How it came, where it came by no call.")
    checklist: ChecklistSaid = Field(default=ChecklistSaid(), description="What you noticed already.")


class ReportFilled(Body, ChecklistSaid):
    """Fields of the checklist: those that are sent are filled in, or taken out (null); the others stay as they are."""

    mend: ClassVar[str] = (
        'send fields of the checklist as JSON, such as {"where_now": "second floor", "voice": ["calm"]}'
    )


class ReportSeen(BaseModel):
    """A reporter's own report, and whether somebody has it in hand."""

    id: str
    call_sid: str | None = Field(default=None, description="Absent: it came by no call.")
    reported: datetime
    source: Source
    state: State = Field(description="`open`: nobody has acknowledged it yet.")
    checklist: ChecklistSaid


def said(checklist: Checklist) -> ChecklistSaid:
    """A checklist as it is written: without what was left out."""
    values = {name: getattr(checklist, name) for name in NAMES}
    return ChecklistSaid.model_validate(
        {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value not in ("", (), None)
        }
    )


def taken(sent: ChecklistSaid) -> tuple[Checklist, frozenset[str]]:
    """What was sent, as it is kept, and which fields of it were."""
    empty, names = Checklist(), frozenset(sent.model_fields_set & set(NAMES))
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(sent, name)
        found[name] = (
            tuple(value) if isinstance(value, list) else getattr(empty, name) if value is None else value
        )
    return Checklist(**found), names


_REFUSALS = {
    Refusal.FULL: refused(
        409, "full", "this incident has as many reporters as it may have: tell the risk team"
    ),
    Refusal.TOO_MANY: refused(
        429, "too_many", f"{rules.REPORTS_ALONE_MAX} such reports an hour are taken: call the risk team"
    ),
}


class Reports:
    """Handlers of reports."""

    def __init__(self, guard: Guard, desk: ThreatDesk) -> None:
        self._guard = guard
        self._desk = desk

    def routes(self) -> list[Route]:
        """What of the API is about reporting."""
        return [
            Route(
                "POST",
                "reports",
                self.report,
                name="report_threat",
                summary="Report a threat, quietly: the caller notices nothing",
                body=Report,
                answers={201: ReportSeen},
                refuses={
                    404: "You do not hold this call, or there is no such call",
                    409: "It has too many reporters",
                    429: "Too many of yours came by no call",
                },
            ),
            Route(
                "GET",
                "reports/{incident}",
                self.own,
                name="read_report",
                summary="Your own report, and whether somebody has it in hand",
                answers={200: ReportSeen},
                refuses={404: "Not yours, or never made"},
            ),
            Route(
                "PATCH",
                "reports/{incident}",
                self.detail,
                name="fill_in_report",
                summary="Fill in the checklist of your own report",
                body=ReportFilled,
                answers={200: ReportSeen},
                refuses={404: "Not yours, or never made"},
            ),
        ]

    async def report(self, asked: Asked[Report]) -> Answer:
        """
        201, also when you report the same call again: then what is new in the checklist is filled in. The risk team is told at once, and
        again until somebody acknowledges it. Keep the caller on the line, and do not hang up.
        """
        sent = asked.body
        checklist, names = taken(sent.checklist)
        call = None
        if sent.call_sid is not None:
            found = await self._guard.held(asked.agent, sent.call_sid)
            if found is None:
                return NOT_FOUND
            call = found.call
        done = await self._desk.report(asked.agent, call, sent.source, checklist, names)
        return (
            _REFUSALS[done.why] if isinstance(done, Refused) else _seen(201, done.incident, asked.agent.name)
        )

    async def own(self, asked: Asked[None]) -> Answer:
        """200; 404 for everybody else's."""
        found = await self._desk.own(asked.agent, asked.path["incident"])
        return NOT_FOUND if found is None else _seen(200, found[0], asked.agent.name)

    async def detail(self, asked: Asked[ReportFilled]) -> Answer:
        """200 with the whole of it. As often as you like, as long as you like: for witnesses remember."""
        checklist, names = taken(asked.body)
        done = await self._desk.detail(asked.agent, asked.path["incident"], checklist, names)
        if done is None or isinstance(done, Refused):
            return NOT_FOUND
        return _seen(200, done.incident, asked.agent.name)


def _seen(status: int, incident: Incident, name: str) -> Answer:
    (report,) = [one for one in incident.reports if one.by == name]
    seen = ReportSeen(
        id=incident.about.id,
        call_sid=incident.about.call or None,
        reported=at(report.at_ms),
        source=report.source,
        state=standing(incident).state,
        checklist=said(report.checklist),
    )
    return Answer(status, seen)
