"""
The threat desk: what is reported and heard becomes incidents, the risk team is told, and told again (core/incidents.py).

The laws of this file:

1. A call has one incident, named as the call is: two who report it, or two nodes that hear the same words, make one.
2. **No webhook waits for any of it.** It leaves a note (`listen`), which is worked off a moment later (`run`); at most
   `NOTES_MAX` wait, also for a store that does not answer. Nothing here draws chance for a call or changes one, so the
   caller's TwiML is the same, to the byte, with and without a report.
3. Each change is one `amend`, and whoever made it tells the team: an escalation is claimed by the node that tells of it. A
   node that dies in between has told nobody, and the next escalation does.
4. What goes out says which incident, which call, who reported it, and no word of the caller's, no account and no number.
5. What stands is found by rank: what nobody has acknowledged by when it is due, what somebody has in hand behind it. What is
   closed has no rank, and is kept `KEPT_S`.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ivrguard import log
from ivrguard.core import incidents
from ivrguard.core.agents import Agent
from ivrguard.core.audit import Linked
from ivrguard.core.call import Call
from ivrguard.core.checklist import NAMES, Checklist
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.core.incidents import (
    About,
    Changed,
    Decision,
    Incident,
    Moment,
    Outcome,
    Rating,
    Refusal,
    Refused,
    Source,
    State,
    What,
    standing,
)
from ivrguard.exports import jsonl
from ivrguard.guard import archive, books
from ivrguard.guard.verification import Bound
from ivrguard.keyring import PublicKeys
from ivrguard.ports import Change, Key, Notice, Put, Store

LOOK_EVERY_S = 5.0
NOTES_MAX = 256
KEPT_S = 400 * 24 * 3600
NAME = re.compile("(?:CA|TH)[0-9a-f]{32}")
"""What an incident may be called: whatever else somebody asks for is not there."""
LISTED_MAX = 200
IN_HAND_RANK = 1 << 61
"""What is acknowledged and open ranks from here on, behind everything that is due."""

EXPORT_SLACK_MS = 60_000
"""The record is looked through from so long before an incident was opened: nodes' clocks differ."""

Tell = Callable[[Notice, int], None]
"""Tells the risk team: the notice, and how many of the next contacts too."""

Shown = Callable[[int, int, float], None]
"""Is told how many incidents wait, how many somebody has in hand, and for how many seconds the first of those that wait has."""

logger = log.get()


@dataclass(frozen=True, slots=True)
class _Note:
    """Words heard in a call."""

    call: str
    flow: str
    phrase: str = field(repr=False)
    words: str = field(repr=False)


def incident_key(id_: str) -> Key[Incident]:
    """An incident: by its call's CallSid, or by a name of its own."""
    return Key("incident", id_)


def notice_of(incident: Incident, moment: Moment) -> Notice:
    """What the risk team is told when this happened to an incident (law 4)."""
    about, stands = incident.about, standing(incident)
    says = {
        What.REPORTED: f"THREAT reported by {moment.by}",
        What.HEARD: "THREAT heard in a caller's speech",
        What.ESCALATED: f"THREAT not acknowledged, told the {_nth(stands.escalations + 1)} time",
        What.ACKNOWLEDGED: f"threat acknowledged by {moment.by}",
        What.CLOSED: f"threat closed by {moment.by}",
    }[moment.what]
    kind = "reported" if moment.what in incidents.OPENING else moment.what.value
    data: dict[str, object] = {
        "incident": about.id,
        "call": about.call,
        "flow": about.flow,
        "account": about.ref,
        "source": Source.SPEECH if moment.what is What.HEARD else _source(incident),
        "reporters": [one.by for one in incident.reports],
        "state": stands.state,
        "opened_at_ms": stands.opened_ms,
        "escalations": stands.escalations,
        "by": moment.by,
    }
    return Notice(
        id=f"threat/{about.id}/{kind}/{moment.at_ms}",
        type=f"threat.{kind}",
        at_ms=moment.at_ms,
        data={key: value for key, value in data.items() if value != ""},
        text=f"ivrguard: {says} (incident {about.id[:10].upper()}, opened {jsonl.moment(stands.opened_ms)[11:16]} UTC)",
    )


def _source(incident: Incident) -> Source:
    return incident.reports[-1].source if incident.reports else Source.SPEECH


def _nth(count: int) -> str:
    return {2: "second", 3: "third"}.get(count, f"{count}th")


def incident_put(incident: Incident, after_s: Sequence[int]) -> Put:
    """An incident as it is kept (law 5)."""
    stands = standing(incident)
    key = incident_key(incident.about.id)
    if stands.state is State.CLOSED:
        return Put(key, incident, incident.moments[-1].at_ms + KEPT_S * 1000)
    due_ms = incidents.due_ms(incident, after_s)
    return Put(key, incident, None, IN_HAND_RANK + stands.opened_ms if due_ms is None else due_ms)


class ThreatDesk:
    """
    One node's part of it. `public`: what checks the record, where it begins behind a checkpoint. `clock`: ms since the epoch. `chance`: n random bytes, for the names of threats that came by no call.
    `tell`: tells the risk team. `after_s`: when nobody acknowledges (core/incidents.py, `AFTER_S`). `shown`: is told what stands.
    """

    def __init__(
        self,
        store: Store,
        public: PublicKeys,
        clock: Callable[[], int],
        chance: Callable[[int], bytes],
        *,
        tell: Tell = lambda _notice, _further: None,
        after_s: Sequence[int] = incidents.AFTER_S,
        shown: Shown = lambda _waiting, _in_hand, _waits_s: None,
    ) -> None:
        self._store = store
        self._public = public
        self._clock = clock
        self._chance = chance
        self._tell_team = tell
        self._after_s = tuple(after_s)
        self._shown = shown
        self._notes: deque[_Note] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()

    # ── what webhooks leave here ─────────────────────────────────────────────────────────────────────────

    def listen(self, flow: Flow, params: Collection[tuple[str, str]]) -> None:
        """A webhook of this flow's: whether its caller said one of the phrases. Costs nothing where there are none."""
        found = incidents.said(flow.phrases, params) if flow.phrases else None
        if found is None:
            return
        call = next((value for key, value in params if key == "CallSid"), "")
        if not books.CALL_SID.fullmatch(call):
            return
        if len(self._notes) >= NOTES_MAX:
            self._dropped += 1
            return
        self._notes.append(_Note(call, flow.name, *found))
        self._wake.set()

    async def run(self) -> None:
        """Work off what was heard, and escalate what is due, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.look()
            except Fault as fault:
                logger.error("threats_failed", reason=fault.reason, detail=str(fault))

    async def look(self) -> None:
        """Work off what was heard, then escalate what is due. Raises `StoreFault`; what was heard then waits on."""
        if self._dropped:
            logger.error("threats_not_heard", count=self._dropped, hint=f"{NOTES_MAX} waited for the store")
            self._dropped = 0
        while self._notes:
            await self._open(self._notes[0])
            self._notes.popleft()
        now = self._clock()
        found = await self._standing()
        waiting = [incident for incident, rank in found if rank < IN_HAND_RANK]
        since_ms = min((standing(incident).opened_ms for incident in waiting), default=now)
        self._shown(len(waiting), len(found) - len(waiting), max(0, now - since_ms) / 1000)
        for incident in waiting:
            if incidents.is_due(incident, self._after_s, now):
                await self._change(
                    incident.about.id,
                    lambda found: (
                        Refused(Refusal.CLOSED)
                        if found is None
                        else incidents.escalated(found, self._after_s, now)
                    ),
                )

    async def _open(self, note: _Note) -> None:
        call = await self._store.read(books.call_key(note.call))
        about = About(note.call, note.call, note.flow, call.ref if call is not None else "")
        now = self._clock()
        await self._change(
            note.call, lambda found: incidents.heard(found, about, note.phrase, note.words, now)
        )

    async def _standing(self) -> list[tuple[Incident, int]]:
        """
        What stands, and its rank: what nobody has acknowledged, the first to be due first, wherever their times lie; behind it, what
        somebody has in hand.
        """
        found = await self._store.list("incident", rank_from=0, limit=LISTED_MAX)
        return [
            (one.value, one.rank) for one in found if isinstance(one.value, Incident) and one.rank is not None
        ]

    # ── whoever reports ──────────────────────────────────────────────────────────────────────────────────

    async def report(
        self, agent: Agent, call: Call | None, source: Source, checklist: Checklist, names: Collection[str]
    ) -> Outcome:
        """
        A threat in a call that this agent holds (which is for the caller of this to know), or in none.

        `names`: the fields of the checklist that he filled in. Raises `StoreFault` when nothing could be kept.
        """
        now = self._clock()
        if call is not None:
            about = About(call.sid, call.sid, call.flow, call.ref)
            return await self._change(
                about.id,
                lambda found: incidents.reported(found, about, agent, Source.CALL, checklist, names, now),
            )
        return await self._report_alone(agent, source, checklist, names, now)

    async def _report_alone(
        self, agent: Agent, source: Source, checklist: Checklist, names: Collection[str], now: int
    ) -> Outcome:
        about = About(f"TH{self._chance(16).hex()}")
        window, key = books.sends_key(f"threats/{agent.name}"), incident_key(about.id)
        began = now - incidents.REPORTS_ALONE_WITHIN_S * 1000

        def change(values: books.Values) -> Change[Outcome]:
            before = values[window]
            times = [at for at in before if began < at <= now] if isinstance(before, tuple) else []
            if len(times) >= incidents.REPORTS_ALONE_MAX:
                return Change(Refused(Refusal.TOO_MANY))
            done = incidents.reported(None, about, agent, source, checklist, names, now)
            assert isinstance(done, Changed)
            kept = Put(window, (*times, now), now + incidents.REPORTS_ALONE_WITHIN_S * 1000)
            return Change(done, (kept, incident_put(done.incident, self._after_s)), done.entries)

        return self._told(await self._store.amend([window, key], change))

    async def detail(
        self, agent: Agent, id_: str, checklist: Checklist, names: Collection[str]
    ) -> Outcome | None:
        """A reporter fills in these fields of his own checklist. None: there is no such incident."""
        now = self._clock()
        return await self._act(id_, lambda found: incidents.detailed(found, agent, checklist, names, now))

    async def own(self, agent: Agent, id_: str) -> tuple[Incident, incidents.Report] | None:
        """The incident and this agent's own report in it; None for everybody else's, as for one that never was."""
        found = await self.find(id_)
        report = next((one for one in found.reports if one.by == agent.name), None) if found else None
        return (found, report) if found is not None and report is not None else None

    # ── the risk team ────────────────────────────────────────────────────────────────────────────────────

    async def acknowledge(self, agent: Agent, id_: str) -> Outcome | None:
        """See `core.incidents.acknowledged`; None, here and below: there is no such incident."""
        now = self._clock()
        return await self._act(id_, lambda found: incidents.acknowledged(found, agent, now))

    async def assess(self, agent: Agent, id_: str, rating: Rating, note: str, *, seen: int) -> Outcome | None:
        """See `core.incidents.assessed`."""
        now = self._clock()
        return await self._act(
            id_, lambda found: incidents.assessed(found, agent, rating, note, seen=seen, now_ms=now)
        )

    async def decide(
        self, agent: Agent, id_: str, decision: Decision, note: str, *, close: bool, seen: int
    ) -> Outcome | None:
        """See `core.incidents.decided`."""
        now = self._clock()
        return await self._act(
            id_,
            lambda found: incidents.decided(found, agent, decision, note, close=close, seen=seen, now_ms=now),
        )

    async def find(self, id_: str) -> Incident | None:
        """The incident of that name."""
        return await self._store.read(incident_key(id_)) if NAME.fullmatch(id_) else None

    async def open(self) -> tuple[Incident, ...]:
        """Those that stand: what nobody has acknowledged first, by when it is due; then what somebody has in hand."""
        return tuple(incident for incident, _ in await self._standing())

    async def closed(self) -> tuple[Incident, ...]:
        """Those that are over, the latest first."""
        found: list[Incident] = []
        after = ""
        while page := await self._store.list("incident", after=after, limit=LISTED_MAX):
            found += [one.value for one in page if isinstance(one.value, Incident) and one.rank is None]
            after = page[-1].id
        return tuple(sorted(found, key=lambda one: -one.moments[-1].at_ms))

    async def looked_at(self, agent: Agent, id_: str, how: str) -> Incident | None:
        """The whole of it, for somebody of the risk team; that he read it is on record."""
        if not NAME.fullmatch(id_):
            return None
        key, now = incident_key(id_), self._clock()

        def change(values: books.Values) -> Change[Incident | None]:
            found = values[key]
            if not isinstance(found, Incident):
                return Change(None)
            return Change(found, entries=(incidents.read(found, agent, how, now),))

        return await self._store.amend([key], change)

    def export(self, incident: Incident) -> AsyncIterator[bytes]:
        """See `exported`."""
        return exported(self._store, self._public, incident)

    # ── one change ───────────────────────────────────────────────────────────────────────────────────────

    async def _act(self, id_: str, act: Callable[[Incident], Outcome]) -> Outcome | None:
        if await self.find(id_) is None:
            return None
        return await self._change(id_, lambda found: Refused(Refusal.CLOSED) if found is None else act(found))

    async def _change(self, id_: str, act: Callable[[Incident | None], Outcome]) -> Outcome:
        """One act on one incident, whole; then the team is told."""
        key = incident_key(id_)

        def change(values: books.Values) -> Change[Outcome]:
            before = values[key]
            before = before if isinstance(before, Incident) else None
            done = act(before)
            if isinstance(done, Refused):
                return Change(done, entries=done.entries)
            puts = (incident_put(done.incident, self._after_s),) if done.incident != before else ()
            return Change(done, puts, done.entries)

        return self._told(await self._store.amend([key], change))

    def _told(self, done: Outcome) -> Outcome:
        if isinstance(done, Changed):
            for moment in done.news:
                notice = notice_of(done.incident, moment)
                logger.warning(notice.type.replace(".", "_"), alert=notice.id)
                escalations = int(moment.word) if moment.what is What.ESCALATED else 0
                self._tell_team(notice, max(0, escalations - 1))
        return done


# ── time-line and export ─────────────────────────────────────────────────────────────────────────────────


async def exported(store: Store, public: PublicKeys, incident: Incident) -> AsyncIterator[bytes]:
    """
    An incident as lines of JSON: the whole of it; its own entries of the record, as `audit export` writes them; and by
    number, event and hash those of its call.
    """
    yield _line({"incident": document(incident)})
    about, began_ms = incident.about, incident.moments[0].at_ms
    call = await store.read(books.call_key(about.call)) if about.call else None
    if call is not None:
        began_ms = min(began_ms, call.began_ms)

    def render(chain: str, previous_hash: str, linked: Linked) -> bytes:
        if ("incident", about.id) in linked.entry.detail:
            return jsonl.entry_line(chain, previous_hash, linked)
        if about.call and linked.entry.call == about.call:
            return _line({"of_the_call": linked.entry.event, "seq": linked.seq, "hash": linked.hash})
        return b""

    since = Bound(at_ms=began_ms - EXPORT_SLACK_MS)
    async for piece in archive.exported(store, public, since=since, render=render):
        yield piece.lines


def document(incident: Incident) -> dict[str, object]:
    """The whole of an incident, for machines: its state, its reports, what was heard, its time-line."""
    about, stands = incident.about, standing(incident)
    return {
        "id": about.id,
        "call_sid": about.call or None,
        "flow": about.flow,
        "account": about.ref,
        "state": stands.state.value,
        "opened_at_ms": stands.opened_ms,
        "acts": stands.acts,
        "escalations": stands.escalations,
        "acknowledged_by": stands.holder or None,
        "rating": stands.rating.value if stands.rating is not None else None,
        "reports": [
            {
                "by": one.by,
                "at_ms": one.at_ms,
                "source": one.source.value,
                "checklist": _filled_in(one.checklist),
            }
            for one in incident.reports
        ],
        "heard": [{"at_ms": one.at_ms, "phrase": one.phrase, "words": one.words} for one in incident.heard],
        "timeline": [
            {"at_ms": one.at_ms, "what": one.what.value, "by": one.by, "word": one.word, "note": one.note}
            for one in incident.moments
        ],
    }


def _filled_in(checklist: Checklist) -> Mapping[str, object]:
    """What somebody filled in, without what he left out."""
    values = ((name, getattr(checklist, name)) for name in NAMES)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values
        if value not in ("", None, ())
    }


def _line(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
