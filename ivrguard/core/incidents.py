"""
A threat's life: reported or heard, escalated until somebody acknowledges it, assessed, decided, closed.

The laws of this file:

1. **An incident is what happened to it.** How it stands is worked out from its moments, in order, and never stored.
2. **It is escalated until somebody of the risk team acknowledges it**: at the planned times, and at the last gap for
   ever after. A clock that jumps makes it early once, never silent (`due`).
3. **Only the risk team acknowledges, assesses, decides and closes** (`Role.RISK`), a person and no desk's program, and
   one who is apart (core/agents.py) from everybody who reported it: neither a reporter, nor his manager, nor his staff.
   Closing wants somebody who showed anew who he is (`fresh`).
4. **Who acts says what he has seen** (`Standing.acts`): of two who act at once one wins, and the other is told by whom.
5. Each change is one entry of the record, which names the incident, who, and which fields; what the caller said stands in
   the incident alone. Who tries to act and may not is on record as well.
6. A report wants nothing but the wish to report: every field of the checklist may be left out, or come later.
7. Bounded: what is full takes no more reports of what is known already, and always another act of the team.

The checklist's fields are those of CISA's (https://www.cisa.gov/news-events/news/what-do-bomb-threat), the ratings those of the
DHS-DOJ Bomb Threat Guidance, which are an input: the decision is the team's.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from unicodedata import normalize

from ivrguard.core.agents import Agent, Role, apart, fresh
from ivrguard.core.audit import Entry
from ivrguard.core.checklist import Checklist, tidied

AFTER_S = (120, 300, 600)
"""Nobody acknowledged: told again after two, five and ten minutes, and every five minutes from then on."""

AFTER_S_MIN = 60
"""Two escalations are so far apart at least: as far as clocks of nodes never are (`CLOCKS_APART_MS`)."""

CLOCKS_APART_MS = 30_000
"""What lies further in the future than this was written by a clock that has been put back since."""

REPORTS_MAX = 10
HEARD_MAX = 20
TOLD_MAX = 100
"""As many moments of what was reported, heard, filled in and escalated."""

MOMENTS_MAX = 300
ESCALATIONS_SHOWN_MAX = 20
"""Of more the last one takes the place of the one before it; the record has all of them."""

WORDS_CHARS_MAX = 1_000
NOTE_CHARS_MAX = 500
REPORTS_ALONE_MAX, REPORTS_ALONE_WITHIN_S = 10, 3600
"""Threats that came by no call: so many an hour from one reporter. On a call that he holds nobody is kept from reporting."""


class Source(StrEnum):
    """How a threat came."""

    CALL = "call"
    SPEECH = "speech"
    LETTER = "letter"
    EMAIL = "email"
    CHAT = "chat"
    IN_PERSON = "in_person"
    OTHER = "other"


class Rating(StrEnum):
    """The guidance's words. LOW lacks realism and detail; MEDIUM and HIGH rise with both."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Decision(StrEnum):
    """What the team decided to do."""

    NO_ACTION = "no_action"
    WATCH = "watch"
    SEARCH = "search"
    LOCK_DOWN = "lock_down"
    EVACUATE = "evacuate"
    AUTHORITIES = "authorities"


class What(StrEnum):
    """What happened."""

    REPORTED = "reported"
    HEARD = "heard"
    DETAILED = "detailed"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    ASSESSED = "assessed"
    DECIDED = "decided"
    CLOSED = "closed"


OPENING = frozenset({What.REPORTED, What.HEARD})
ACTS = frozenset({What.ACKNOWLEDGED, What.ASSESSED, What.DECIDED, What.CLOSED})


class State(StrEnum):
    """How an incident stands: nobody saw it yet, somebody has it in hand, or it is over."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Moment:
    """
    One thing that happened. `by`: who, "" for the guard itself. `word`: of an escalation its number, of an assessment the
    rating, of a decision what, of details the fields. `note`: why, in the team's own words.
    """

    at_ms: int
    what: What
    by: str = ""
    word: str = ""
    note: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What one person reported. `manager`: whom he reports to, as it was then."""

    by: str
    manager: str
    at_ms: int
    source: Source
    checklist: Checklist = field(default=Checklist(), repr=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """A phrase of the flow's that a caller's speech had in it, and what he said."""

    at_ms: int
    phrase: str = field(repr=False)
    words: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class About:
    """What an incident is about. `id`: the CallSid, or `TH` and 32 hex digits. `ref`: the account as records name it."""

    id: str
    call: str = ""
    flow: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One threat: what it is about, who reported it, what was heard, and what happened, in order."""

    about: About
    reports: tuple[Report, ...] = ()
    heard: tuple[Heard, ...] = ()
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How an incident stands. `opened_ms`: when it last wanted somebody. `acts`: how many acts of the team there were.
    `escalations`: since it was opened. `last_ms`: the opening, or the last escalation. `holder`: who acknowledged it.
    """

    state: State
    opened_ms: int
    last_ms: int
    escalations: int
    acts: int
    holder: str = ""
    rating: Rating | None = None
    last_by: str = ""


class Refusal(StrEnum):
    """Why a change is not made."""

    NOT_TEAM = "not_team"
    NOT_APART = "not_apart"
    NOT_FRESH = "not_fresh"
    NOT_YOURS = "not_yours"
    NO_REASON = "no_reason"
    CLOSED = "closed"
    FASTER = "faster"
    FULL = "full"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Changed:
    """The incident as it is now, its entries of the record, and of what the risk team is told."""

    incident: Incident
    entries: tuple[Entry, ...] = ()
    news: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Not done. `by`: who was faster, or had closed it. `entries`: what of it is on record."""

    why: Refusal
    by: str = ""
    entries: tuple[Entry, ...] = ()


Outcome = Changed | Refused


def standing(incident: Incident) -> Standing:
    """How it stands: the fold over its moments (law 1)."""
    state, opened_ms, last_ms, escalations, acts = State.CLOSED, 0, 0, 0, 0
    holder, rating, last_by = "", None, ""
    for one in incident.moments:
        if one.what in OPENING and state is State.CLOSED:
            state, opened_ms, last_ms, escalations, holder = State.OPEN, one.at_ms, one.at_ms, 0, ""
        elif one.what is What.ESCALATED:
            last_ms, escalations = one.at_ms, int(one.word)
        elif one.what is What.ACKNOWLEDGED:
            state, holder = State.ACKNOWLEDGED, one.by
        elif one.what is What.ASSESSED:
            rating = Rating(one.word)
        elif one.what is What.CLOSED:
            state = State.CLOSED
        if one.what in ACTS:
            acts, last_by = acts + 1, one.by
    return Standing(state, opened_ms, last_ms, escalations, acts, holder, rating, last_by)


# ── reported, heard, filled in ───────────────────────────────────────────────────────────────────────────


def reported(
    incident: Incident | None,
    about: About,
    agent: Agent,
    source: Source,
    checklist: Checklist,
    names: Collection[str],
    now_ms: int,
) -> Outcome:
    """
    Somebody reports a threat, with these fields of the checklist. Again is not twice: what is new in it is filled in.

    One that was closed is open again.
    """
    before = incident if incident is not None else Incident(about)
    known = next((one for one in before.reports if one.by == agent.name), None)
    if known is not None and standing(before).state is not State.CLOSED:
        return _filled_in(before, known, checklist, names, now_ms)
    if known is None and len(before.reports) >= REPORTS_MAX:
        return Refused(Refusal.FULL)
    report = known or Report(agent.name, agent.manager, now_ms, source)
    report = replace(report, checklist=filled(report.checklist, checklist, names))
    moment = Moment(now_ms, What.REPORTED, agent.name, source)
    after = replace(before, reports=_with(before.reports, report))
    entry = _entry(
        after, "threat_reported", source, now_ms, ("agent", agent.name), ("fields", _listed(names))
    )
    return Changed(_then(after, moment), (entry,), (moment,))


def heard(incident: Incident | None, about: About, phrase: str, words: str, now_ms: int) -> Outcome:
    """The caller said a phrase of the flow's. The same words again, or still more of them, open nothing anew."""
    before = incident if incident is not None else Incident(about)
    words = plain(words, WORDS_CHARS_MAX)
    stands = standing(before).state is not State.CLOSED
    if stands and (len(before.heard) >= HEARD_MAX or any(one.words == words for one in before.heard)):
        return Changed(before)
    after = replace(before, heard=(*before.heard, Heard(now_ms, phrase, words))[-HEARD_MAX:])
    moment = Moment(now_ms, What.HEARD)
    entry = _entry(after, "threat_heard", Source.SPEECH, now_ms)
    return Changed(_then(after, moment), (entry,), () if stands else (moment,))


def detailed(
    incident: Incident, agent: Agent, checklist: Checklist, names: Collection[str], now_ms: int
) -> Outcome:
    """A reporter fills in these fields of his own checklist, as long as he likes."""
    known = next((one for one in incident.reports if one.by == agent.name), None)
    if known is None:
        return Refused(Refusal.NOT_YOURS)
    return _filled_in(incident, known, checklist, names, now_ms)


def _filled_in(
    incident: Incident, report: Report, checklist: Checklist, names: Collection[str], now_ms: int
) -> Changed:
    after = filled(report.checklist, checklist, names)
    changed = [
        one.name for one in fields(after) if getattr(after, one.name) != getattr(report.checklist, one.name)
    ]
    if not changed:
        return Changed(incident)
    kept = replace(incident, reports=_with(incident.reports, replace(report, checklist=after)))
    entry = _entry(
        kept, "threat_detailed", "filled_in", now_ms, ("agent", report.by), ("fields", _listed(changed))
    )
    return Changed(_then(kept, Moment(now_ms, What.DETAILED, report.by, _listed(changed))), (entry,))


def filled(before: Checklist, changes: Checklist, names: Collection[str]) -> Checklist:
    """The checklist with these fields as they are in `changes`."""
    return replace(before, **{name: getattr(tidied(changes), name) for name in names})


def _with(reports: Sequence[Report], report: Report) -> tuple[Report, ...]:
    return (*(one for one in reports if one.by != report.by), report)


def _listed(names: Collection[str]) -> str:
    return ",".join(sorted(names))


def _then(incident: Incident, moment: Moment) -> Incident:
    """With one more moment; what fills a time-line and says little new takes the place of the one before it (law 7)."""
    before, last = incident.moments, incident.moments[-1] if incident.moments else None
    shown = before
    if last is not None and last.what is moment.what:
        same = moment.what is What.DETAILED and last.by == moment.by
        many = moment.what is What.ESCALATED and int(moment.word) > ESCALATIONS_SHOWN_MAX
        if same:
            moment = replace(moment, word=_listed({*last.word.split(","), *moment.word.split(",")}))
        shown = before[:-1] if same or many else before
    if moment.what in {What.DETAILED, What.HEARD} and len(before) >= TOLD_MAX and shown is before:
        opens = moment.what is What.HEARD and standing(incident).state is State.CLOSED
        return replace(incident, moments=(*before, moment)) if opens else incident
    return replace(incident, moments=(*shown, moment))


# ── escalated ────────────────────────────────────────────────────────────────────────────────────────────


def gap_s(after_s: Sequence[int], escalations: int) -> int:
    """How long after the opening, or the last escalation, the next one comes."""
    planned = (0, *after_s)
    nth = min(escalations + 1, len(planned) - 1)
    return max(AFTER_S_MIN, planned[nth] - planned[nth - 1])


def due_ms(incident: Incident, after_s: Sequence[int]) -> int | None:
    """When it is escalated next; None: somebody acknowledged it."""
    stands = standing(incident)
    if stands.state is not State.OPEN:
        return None
    return stands.last_ms + gap_s(after_s, stands.escalations) * 1000


def is_due(incident: Incident, after_s: Sequence[int], now_ms: int) -> bool:
    """Whether it is to be escalated now: it is time, or the last time was written by a clock that was put back since."""
    at_ms = due_ms(incident, after_s)
    if at_ms is None:
        return False
    return now_ms >= at_ms or now_ms < standing(incident).last_ms - CLOCKS_APART_MS


def escalated(incident: Incident, after_s: Sequence[int], now_ms: int) -> Changed:
    """Escalate it if it is due: whoever makes this change tells the team, and nobody else does."""
    if not is_due(incident, after_s, now_ms):
        return Changed(incident)
    nth = standing(incident).escalations + 1
    moment = Moment(now_ms, What.ESCALATED, "", str(nth))
    entry = _entry(incident, "threat_escalated", "not_acknowledged", now_ms, ("nth", str(nth)))
    return Changed(_then(incident, moment), (entry,), (moment,))


# ── the risk team ────────────────────────────────────────────────────────────────────────────────────────


def barred(incident: Incident, agent: Agent) -> Refusal | None:
    """Why this agent may not act on it (law 3); None: he may."""
    if agent.desk or Role.RISK not in agent.roles:
        return Refusal.NOT_TEAM
    if not all(apart(agent, one.by, one.manager) for one in incident.reports):
        return Refusal.NOT_APART
    return None


def acknowledged(incident: Incident, agent: Agent, now_ms: int) -> Outcome:
    """Somebody of the team has it in hand: nobody is woken any more. The first one wins; again by him changes nothing."""
    refused = _refused(incident, agent, "acknowledge", now_ms)
    if refused is not None:
        return refused
    stands = standing(incident)
    if stands.state is State.ACKNOWLEDGED:
        return Changed(incident) if stands.holder == agent.name else Refused(Refusal.FASTER, stands.holder)
    return _acted(incident, agent, (Moment(now_ms, What.ACKNOWLEDGED, agent.name),))


def assessed(
    incident: Incident, agent: Agent, rating: Rating, note: str, *, seen: int, now_ms: int
) -> Outcome:
    """The team's rating. `seen`: law 4."""
    refused = _refused(incident, agent, "assess", now_ms, seen)
    if refused is not None:
        return refused
    return _acted(
        incident, agent, (Moment(now_ms, What.ASSESSED, agent.name, rating, plain(note, NOTE_CHARS_MAX)),)
    )


def decided(
    incident: Incident, agent: Agent, decision: Decision, note: str, *, close: bool, seen: int, now_ms: int
) -> Outcome:
    """What the team does about it, with the reason, which closes it if `close`. `seen`: law 4."""
    refused = _refused(incident, agent, "close" if close else "decide", now_ms, seen)
    if refused is not None:
        return refused
    note = plain(note, NOTE_CHARS_MAX)
    if not note:
        return Refused(Refusal.NO_REASON)
    if close and not fresh(agent, now_ms):
        return Refused(Refusal.NOT_FRESH)
    moments = [Moment(now_ms, What.DECIDED, agent.name, decision, note)]
    if close:
        moments.append(Moment(now_ms, What.CLOSED, agent.name))
    return _acted(incident, agent, moments)


def _refused(
    incident: Incident, agent: Agent, act: str, now_ms: int, seen: int | None = None
) -> Refused | None:
    """Why he may not, or cannot now. `seen` None: it does not matter what he has seen."""
    why = barred(incident, agent)
    if why is not None:
        entry = _entry(incident, "threat_refused", why, now_ms, ("agent", agent.name), ("act", act))
        return Refused(why, entries=(entry,))
    stands = standing(incident)
    if stands.state is State.CLOSED:
        return Refused(Refusal.CLOSED, stands.last_by)
    if seen is not None and seen != stands.acts:
        return Refused(Refusal.FASTER, stands.last_by)
    return Refused(Refusal.FULL) if len(incident.moments) >= MOMENTS_MAX and act != "close" else None


def _acted(incident: Incident, agent: Agent, moments: Sequence[Moment]) -> Changed:
    """Act. Whoever assesses or decides what nobody acknowledged has acknowledged it by that."""
    if standing(incident).state is State.OPEN and moments[0].what is not What.ACKNOWLEDGED:
        moments = (Moment(moments[0].at_ms, What.ACKNOWLEDGED, agent.name), *moments)
    after, entries = incident, []
    for one in moments:
        after = _then(after, one)
        reason, more = one.word or "by_hand", (("agent", one.by),)
        match one.what:
            case What.ACKNOWLEDGED:
                entries.append(_entry(after, "threat_acknowledged", reason, one.at_ms, *more))
            case What.ASSESSED:
                entries.append(_entry(after, "threat_assessed", reason, one.at_ms, *more))
            case What.DECIDED:
                entries.append(_entry(after, "threat_decided", reason, one.at_ms, *more))
            case _:
                entries.append(_entry(after, "threat_closed", reason, one.at_ms, *more))
    told = {What.ACKNOWLEDGED, What.CLOSED}
    return Changed(after, tuple(entries), tuple(one for one in moments if one.what in told))


def read(incident: Incident, agent: Agent, how: str, now_ms: int) -> Entry:
    """The entry of somebody's having read it: `how`, such as `read` or `exported`."""
    return _entry(incident, "threat_read", how, now_ms, ("agent", agent.name))


def _entry(incident: Incident, event: str, reason: str, now_ms: int, *more: tuple[str, str]) -> Entry:
    about = incident.about
    facts = (("incident", about.id), ("flow", about.flow), *more)
    detail = tuple((name, value) for name, value in facts if value)
    return Entry(now_ms, event, about.call, about.ref, str(reason), detail)


# ── phrases ──────────────────────────────────────────────────────────────────────────────────────────────

SPEECH = ("SpeechResult", "UnstableSpeechResult", "TranscriptionText")
"""Where a provider's webhook has what a caller said: a `<Gather>`'s result, one so far, and a recording's text."""

_BETWEEN = re.compile(r"[\W_]+")


def plain(text: str, most: int) -> str:
    """A text of somebody's as it is kept: one line, of at most so many characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:most]


def words_of(text: str) -> str:
    """A text as phrases are looked for in it: its words, each between blanks; case, signs and accents' spelling aside."""
    said = normalize("NFKC", text.replace("\u2019", "'").replace("'", "")).casefold()
    return f" {_BETWEEN.sub(' ', said).strip()} "


def said(phrases: Collection[str], params: Collection[tuple[str, str]]) -> tuple[str, str] | None:
    """The first of these phrases (as `words_of` has them) in what a webhook says that the caller said, and all that he said."""
    found: Mapping[str, str] = dict(params)
    for name in SPEECH:
        words = found.get(name)
        if words:
            said_ = words_of(words[: 4 * WORDS_CHARS_MAX])
            phrase = next((one for one in phrases if one in said_), None)
            if phrase is not None:
                return phrase.strip(), words
    return None
