"""
What the risk team's page says of an incident: how it stands, what happened, and what may be done by whom. Pure.

The law of this file: what somebody may not do is absent, and why stands in its place (`barred`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from ivrguard.core import incidents
from ivrguard.core.agents import Agent, fresh
from ivrguard.core.incidents import Incident, Refusal, State
from ivrguard.web.console import checklist, words
from ivrguard.web.console.checklist import Question
from ivrguard.web.console.view import Moment, lasting, moment, named

REFERENCE_CHARACTERS = 10
"""As much of an incident's name as a message to the team says."""

GUARD = "The guard"


@dataclass(frozen=True, slots=True)
class Row:
    """One incident in the list."""

    id: str
    reference: str
    state: State
    word: str
    opened: Moment
    age: str
    came: str
    by: str
    holder: str
    rating: str
    escalations: int


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of the time-line: when, who, what, and why in his own words."""

    at: Moment
    by: str
    what: str
    note: str


@dataclass(frozen=True, slots=True)
class Told:
    """One report's checklist, as far as it was filled in."""

    by: str
    at: Moment
    came: str
    answers: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class ThreatView:
    """
    All that the page shows of one incident. `barred`: why this reader may do nothing; None: he may. `may_close`: whether he showed who
    he is lately enough. `seen`: how many acts of the team stand in it (`core.incidents.Standing.acts`).
    """

    row: Row
    call_sid: str
    account: str
    heard: tuple[tuple[Moment, str, str], ...]
    told: tuple[Told, ...]
    happened: tuple[Happened, ...]
    barred: tuple[str, str] | None
    may_acknowledge: bool
    may_close: bool
    seen: int
    now: Moment


def row(incident: Incident, zone: ZoneInfo, now_ms: int) -> Row:
    """The incident as one line."""
    stands = incidents.standing(incident)
    came = [one.source.value for one in incident.reports] or [incidents.Source.SPEECH.value]
    return Row(
        id=incident.about.id,
        reference=incident.about.id[:REFERENCE_CHARACTERS].upper(),
        state=stands.state,
        word=words.THREAT_STATES[stands.state],
        opened=moment(stands.opened_ms, zone),
        age=lasting(now_ms - stands.opened_ms),
        came=_plain(came[0]),
        by=", ".join(named(one.by) for one in incident.reports) or GUARD,
        holder=named(stands.holder),
        rating="" if stands.rating is None else _plain(stands.rating.value),
        escalations=stands.escalations,
    )


def threat(incident: Incident, zone_of: Callable[[str], ZoneInfo], reader: Agent, now_ms: int) -> ThreatView:
    """One incident, for this reader. `zone_of`: a flow's."""
    zone = zone_of(incident.about.flow)
    stands = incidents.standing(incident)
    why = Refusal.CLOSED if stands.state is State.CLOSED else incidents.barred(incident, reader)
    return ThreatView(
        row=row(incident, zone, now_ms),
        call_sid=incident.about.call,
        account=incident.about.ref,
        heard=tuple((moment(one.at_ms, zone), one.phrase, one.words) for one in incident.heard),
        told=tuple(
            Told(
                named(one.by),
                moment(one.at_ms, zone),
                _plain(one.source.value),
                checklist.asked(checklist.sent_of(one.checklist)),
            )
            for one in incident.reports
        ),
        happened=tuple(
            Happened(
                moment(one.at_ms, zone),
                named(one.by) if one.by else GUARD,
                words.HAPPENED[one.what].format(word=_plain(one.word).replace(",", ", ")),
                one.note,
            )
            for one in incident.moments
        ),
        barred=None if why is None else words.THREAT_REFUSED[why],
        may_acknowledge=why is None and stands.state is State.OPEN,
        may_close=fresh(reader, now_ms),
        seen=stands.acts,
        now=moment(now_ms, zone),
    )


def _plain(word: str) -> str:
    return word.replace("_", " ")
