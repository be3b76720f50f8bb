"""A pretend Twilio Conferences API over the lines of an exchange: rooms, and who is in them.

Laws of this file
 1. `…/Conferences.json`, `…/Conferences/{CF}.json`, `…/Conferences/{CF}/Participants.json` and
    `…/Participants/{CA or label}.json` in Twilio's shapes
    (https://www.twilio.com/docs/voice/api/conference-resource,
    https://www.twilio.com/docs/voice/api/conference-participant-resource). A participant whose call is elsewhere, and
    everybody of a conference that is over, is 404, 20404.
 2. `<Dial><Conference>` makes the room, or `POST …/Conferences/{its name}/Participants.json`; there is one of a name at
    a time. It starts (`in-progress`) when two are in it, one of them with startConferenceOnEnter; it is over
    (`completed`) when the last has left, when one with endConferenceOnExit leaves, or when REST says so
    (https://www.twilio.com/docs/voice/twiml/conference). Whoever is put out goes on in his own document.
 3. What happens is told to the statusCallback of the first who names one, each event that he wants, signed, numbered.
 4. Mixing is no matter of ours: `muted` and `hold` are kept and told, and what a hold or an announcement plays is
    heard by the line.
 5. Faults are planted as phone/rest.py says; `Calls.settled` waits until all has happened.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

from aiohttp import web

from ivrguard.phone.calls import Calls, method, refusal
from ivrguard.phone.exchange import Course, Line
from ivrguard.phone.heard import Pairs, Target
from ivrguard.phone.rest import Api, date, error, listed, not_found, sid
from ivrguard.phone.wire import FetchError, Request, Wire

_STARTS_AT = 2
"""How many make a conference."""
_ATTRIBUTES = {
    "Muted": "muted",
    "StartConferenceOnEnter": "startConferenceOnEnter",
    "EndConferenceOnExit": "endConferenceOnExit",
    "WaitUrl": "waitUrl",
    "WaitMethod": "waitMethod",
    "Label": "participantLabel",
    "ConferenceStatusCallback": "statusCallback",
    "ConferenceStatusCallbackMethod": "statusCallbackMethod",
    "ConferenceStatusCallbackEvent": "statusCallbackEvent",
}
"""What a participant is created with, and the attribute of `<Conference>` that says the same."""


@dataclass(slots=True)
class Participant:
    """One line in a conference."""

    line: Line
    label: str = ""
    muted: bool = False
    hold: bool = False
    starts: bool = True
    ends: bool = False

    @property
    def told(self) -> Pairs:
        """How a status callback describes him."""
        pairs: Pairs = (
            ("CallSid", self.line.call_sid),
            ("Muted", _word(self.muted)),
            ("Hold", _word(self.hold)),
            ("Coaching", "false"),
            ("StartConferenceOnEnter", _word(self.starts)),
            ("EndConferenceOnExit", _word(self.ends)),
        )
        return pairs + ((("ParticipantLabel", self.label),) if self.label else ())


@dataclass(slots=True)
class Conference:
    """One room. `kicked`: the calls that REST puts out."""

    name: str
    account_sid: str
    wire: Wire
    sid: str = field(default_factory=lambda: sid("CF"))
    status: str = "init"
    reason: str | None = None
    ended_by: str | None = None
    participants: list[Participant] = field(default_factory=list)
    kicked: set[str] = field(default_factory=set)
    _to: tuple[str, str, frozenset[str]] | None = None
    _sequence: int = 0

    def find(self, who: str) -> Participant | None:
        """By the SID of his call or by his label."""
        return next((one for one in self.participants if who in {one.line.call_sid, one.label}), None)

    async def joined(self, line: Line, target: Target) -> None:
        """A line has dialled in."""
        given = dict(target.attributes)
        one = Participant(
            line,
            label=given.get("participantLabel", ""),
            muted=given.get("muted") == "true",
            starts=given.get("startConferenceOnEnter", "true") == "true",
            ends=given.get("endConferenceOnExit") == "true",
        )
        self.participants.append(one)
        if self._to is None and target.status_callback is not None:
            events = frozenset(given.get("statusCallbackEvent", "start end").split())
            self._to = (target.status_callback, target.status_method, events)
        await self.tell("join", "participant-join", one.told)
        enough = len(self.participants) >= _STARTS_AT and any(each.starts for each in self.participants)
        if self.status == "init" and enough:
            self.status = "in-progress"
            await self.tell("start", "conference-start")

    async def left(self, line: Line) -> None:
        """A line has hung up, was led elsewhere, or is put out; the conference may be over by it."""
        one = self.find(line.call_sid)
        assert one is not None
        self.participants.remove(one)
        await self.tell("leave", "participant-leave", one.told)
        how = "kicked" if line.call_sid in self.kicked else "left"
        if one.ends:
            await self.end(f"participant-with-end-conference-on-exit-{how}", line.call_sid)
        elif not self.participants:
            await self.end(f"last-participant-{how}", line.call_sid)

    async def end(self, reason: str, call_sid: str | None = None) -> None:
        """It is over: everybody in it goes on in his own document. Once."""
        if self.status == "completed":
            return
        self.status, self.reason, self.ended_by = "completed", reason, call_sid
        for one in tuple(self.participants):
            await one.line.put_out(self)
        by = (("CallSidEndingConference", call_sid),) if call_sid else ()
        await self.tell("end", "conference-end", (("ReasonConferenceEnded", reason), *by))

    async def tell(self, wanted: str, event: str, more: Pairs = ()) -> None:
        """Tell an event to whoever wants it; the answer means nothing."""
        if self._to is None or wanted not in self._to[2]:
            return
        url, verb, _ = self._to
        self._sequence += 1
        pairs: Pairs = (
            ("AccountSid", self.account_sid),
            ("ConferenceSid", self.sid),
            ("FriendlyName", self.name),
            ("SequenceNumber", str(self._sequence)),
            ("StatusCallbackEvent", event),
            ("Timestamp", date()),
            *more,
        )
        try:
            await self.wire.fetch("callback", verb, url, lambda _: (), pairs)
        except FetchError:
            return  # it is kept among the requests, with its answer


class Conferences(Api):
    """The API of the account of `calls`; `app()` serves both."""

    def __init__(self, calls: Calls, *, api_keys: dict[str, str] | None = None) -> None:
        account = calls.exchange.account
        super().__init__(account.account_sid, account.auth_token, api_keys=api_keys)
        self.rooms: list[Conference] = []
        """Every conference there was, in order."""
        self._calls = calls
        self._wire = Wire(account)
        calls.exchange.room = self._room

    @property
    def requests(self) -> list[Request]:
        """Every status callback of a conference, in order."""
        return self._wire.requests

    def app(self) -> web.Application:
        """The API, with that of calls, as an application of its own."""
        served = self._calls.app()
        every = "/2010-04-01/Accounts/{account}/Conferences"
        people = f"{every}/{{room}}/Participants"
        served.router.add_get(f"{every}.json", self.serving(self._list))
        served.router.add_get(f"{every}/{{room}}.json", self._with_room(self._fetch))
        served.router.add_post(f"{every}/{{room}}.json", self._with_room(self._update))
        served.router.add_get(f"{people}.json", self._with_room(self._people))
        served.router.add_post(f"{people}.json", self.serving(self._create))
        served.router.add_get(f"{people}/{{who}}.json", self._with_participant(self._fetch_one))
        served.router.add_post(f"{people}/{{who}}.json", self._with_participant(self._update_one))
        served.router.add_delete(f"{people}/{{who}}.json", self._with_participant(self._delete_one))
        return served

    def _room(self, target: Target) -> Conference | None:
        return self._named(target.name) if target.kind == "conference" else None

    def _named(self, name: str) -> Conference:
        """The conference of that name that is not over, or a new one."""
        for room in self.rooms:
            if room.name == name and room.status != "completed":
                return room
        self.rooms.append(Conference(name, self.account_sid, self._wire))
        return self.rooms[-1]

    def _with_room(
        self, handler: Callable[[web.Request, dict[str, str], Conference], web.Response]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        def handle(request: web.Request, form: dict[str, str]) -> web.Response:
            room = next((room for room in self.rooms if room.sid == request.match_info["room"]), None)
            return not_found(request) if room is None else handler(request, form, room)

        return self.serving(handle)

    def _with_participant(
        self, handler: Callable[[dict[str, str], Conference, Participant], web.Response]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        def handle(request: web.Request, form: dict[str, str], room: Conference) -> web.Response:
            one = room.find(request.match_info["who"])
            return not_found(request) if one is None else handler(form, room, one)

        return self._with_room(handle)

    # ---- conferences -------------------------------------------------------------------------------------

    def _list(self, request: web.Request, _: dict[str, str]) -> web.Response:
        asked = request.query
        every = [
            self._resource(room)
            for room in reversed(self.rooms)
            if asked.get("FriendlyName", room.name) == room.name
            and asked.get("Status", room.status) == room.status
        ]
        return listed(request, "conferences", every)

    def _fetch(self, _: web.Request, __: dict[str, str], room: Conference) -> web.Response:
        return web.json_response(self._resource(room))

    def _update(self, _: web.Request, form: dict[str, str], room: Conference) -> web.Response:
        refused = refusal(form)
        if refused is not None:
            return refused
        if form.get("Status", "completed") != "completed":
            return error(400, 20001, "Status is not completed")
        if "AnnounceUrl" in form:
            for one in room.participants:
                self._calls.move(one.line.hears_aside(method(form, "AnnounceMethod"), form["AnnounceUrl"]))
        if "Status" in form:
            self._calls.move(room.end("conference-ended-via-api"))
        return web.json_response(self._resource(room))

    def _resource(self, room: Conference) -> dict[str, object]:
        now = date()
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Conferences/{room.sid}"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "call_sid_ending_conference": room.ended_by,
            "date_created": now,
            "date_updated": now,
            "friendly_name": room.name,
            "reason_conference_ended": room.reason,
            "region": "us1",
            "sid": room.sid,
            "status": room.status,
            "subresource_uris": {
                "participants": f"{uri}/Participants.json",
                "recordings": f"{uri}/Recordings.json",
            },
            "uri": f"{uri}.json",
        }

    # ---- participants ------------------------------------------------------------------------------------

    def _people(self, request: web.Request, _: dict[str, str], room: Conference) -> web.Response:
        asked = request.query
        every = [
            self._participant(room, one)
            for one in reversed(room.participants)
            if asked.get("Muted", _word(one.muted)) == _word(one.muted)
            and asked.get("Hold", _word(one.hold)) == _word(one.hold)
        ]
        return listed(request, "participants", every)

    def _create(self, request: web.Request, form: dict[str, str]) -> web.Response:
        """Somebody is dialled into a conference, which is named by its SID or by its name."""
        which = request.match_info["room"]
        name = next(
            (room.name for room in self.rooms if which == room.sid and room.status != "completed"), which
        )
        if name == which and which.startswith("CF"):
            return not_found(request)
        response = Element("Response")
        given = {attribute: form[key] for key, attribute in _ATTRIBUTES.items() if key in form}
        SubElement(SubElement(response, "Dial"), "Conference", given).text = name
        placed = self._calls.place(form, Course(document=tostring(response, encoding="unicode")))
        if isinstance(placed, web.Response):
            return placed
        one = Participant(
            placed,
            label=form.get("Label", ""),
            muted=form.get("Muted") == "true",
            starts=form.get("StartConferenceOnEnter", "true") == "true",
            ends=form.get("EndConferenceOnExit") == "true",
        )
        return web.json_response(self._participant(self._named(name), one, "queued"), status=201)

    def _fetch_one(self, _: dict[str, str], room: Conference, one: Participant) -> web.Response:
        return web.json_response(self._participant(room, one))

    def _update_one(self, form: dict[str, str], room: Conference, one: Participant) -> web.Response:
        refused = refusal(form)
        if refused is not None:
            return refused
        one.ends = form.get("EndConferenceOnExit", _word(one.ends)) == "true"
        if "Muted" in form:
            one.muted = form["Muted"] == "true"
            self._calls.move(room.tell("mute", f"participant-{'' if one.muted else 'un'}mute", one.told))
        if "Hold" in form:
            one.hold = form["Hold"] == "true"
            self._calls.move(room.tell("hold", f"participant-{'' if one.hold else 'un'}hold", one.told))
            if one.hold and "HoldUrl" in form:
                self._calls.move(one.line.hears_aside(method(form, "HoldMethod", "GET"), form["HoldUrl"]))
        if "AnnounceUrl" in form:
            self._calls.move(one.line.hears_aside(method(form, "AnnounceMethod"), form["AnnounceUrl"]))
        return web.json_response(self._participant(room, one))

    def _delete_one(self, _: dict[str, str], room: Conference, one: Participant) -> web.Response:
        room.kicked.add(one.line.call_sid)
        self._calls.move(one.line.put_out(room))
        return web.Response(status=204)

    def _participant(
        self, room: Conference, one: Participant, status: str = "connected"
    ) -> dict[str, object]:
        now = date()
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Conferences/{room.sid}/Participants/{one.line.call_sid}.json"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "call_sid": one.line.call_sid,
            "call_sid_to_coach": None,
            "coaching": False,
            "conference_sid": room.sid,
            "date_created": now,
            "date_updated": now,
            "end_conference_on_exit": one.ends,
            "hold": one.hold,
            "label": one.label or None,
            "muted": one.muted,
            "queue_time": "0" if status == "queued" else None,
            "start_conference_on_enter": one.starts,
            "status": status,
            "uri": uri,
        }


def _word(flag: bool) -> str:
    return "true" if flag else "false"
