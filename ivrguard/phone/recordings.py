"""A pretend Twilio Recordings API of calls: begun by a test, listed, paused, and let go on.

Laws of this file
 1. `GET /2010-04-01/Accounts/{AC}/Calls/{CA}/Recordings.json`, newest first, in pages, and
    `POST …/Recordings/{RE}.json` (Status, PauseBehavior), in Twilio's shapes
    (https://www.twilio.com/docs/voice/api/recording). A call that nobody records has an empty list.
 2. Only a recording of a call in progress can be changed: otherwise 21220.
 3. `history` has every change of every recording in order, so that a test sees what ran while a key was pressed.
 4. Faults are planted as phone/rest.py says.
"""

from dataclasses import dataclass

from aiohttp import web

from ivrguard.phone.rest import Api, date, error, listed, not_found, sid

_CHANGES = {"in-progress", "paused", "stopped"}
_LIVE = {"in-progress", "paused"}


@dataclass(slots=True)
class _Recording:
    """One recording of a call."""

    sid: str
    call_sid: str
    status: str = "in-progress"


class Recordings(Api):
    """The API of one account; `app()` serves it. `history`: SID of the recording and its new status, in order."""

    def __init__(self, account_sid: str, auth_token: str, *, api_keys: dict[str, str] | None = None) -> None:
        super().__init__(account_sid, auth_token, api_keys=api_keys)
        self.history: list[tuple[str, str]] = []
        self._recordings: list[_Recording] = []

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        calls = "/2010-04-01/Accounts/{account}/Calls/{call}/Recordings"
        served.router.add_get(f"{calls}.json", self.serving(self._list))
        served.router.add_post(f"{calls}/{{which}}.json", self.serving(self._update))
        return served

    def begin(self, call_sid: str) -> str:
        """A recording of the call begins; its SID."""
        one = _Recording(sid("RE"), call_sid)
        self._recordings.append(one)
        self.history.append((one.sid, one.status))
        return one.sid

    def end(self, call_sid: str, which: str | None = None) -> None:
        """The call is over, and so are its recordings; or `which` of them alone."""
        for one in self._recordings:
            if one.call_sid == call_sid and one.status in _LIVE and which in {None, one.sid}:
                self._turn(one, "completed")

    def running(self, call_sid: str) -> bool:
        """Whether what is said in the call now, and the keys, would be heard in a recording."""
        return any(one.call_sid == call_sid and one.status == "in-progress" for one in self._recordings)

    def _turn(self, one: _Recording, status: str) -> None:
        one.status = status
        self.history.append((one.sid, status))

    def _list(self, request: web.Request, _: dict[str, str]) -> web.Response:
        call_sid = request.match_info["call"]
        every = [one for one in reversed(self._recordings) if one.call_sid == call_sid]
        return listed(request, "recordings", [self._resource(one) for one in every])

    def _update(self, request: web.Request, form: dict[str, str]) -> web.Response:
        which = (request.match_info["which"], request.match_info["call"])
        one = next((one for one in self._recordings if (one.sid, one.call_sid) == which), None)
        if one is None:
            return not_found(request)
        if form.get("Status") not in _CHANGES:
            return error(400, 21231, "Status is not one of in-progress, paused, stopped")
        if one.status not in _LIVE:
            return error(400, 21220, "Invalid call state to perform this action")
        self._turn(one, form["Status"])
        return web.json_response(self._resource(one))

    def _resource(self, one: _Recording) -> dict[str, object]:
        now = date()
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Calls/{one.call_sid}/Recordings/{one.sid}.json"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "call_sid": one.call_sid,
            "conference_sid": None,
            "channels": 1,
            "date_created": now,
            "date_updated": now,
            "start_time": now,
            "duration": "-1" if one.status in _LIVE else "1",
            "error_code": None,
            "price": None,
            "price_unit": "USD",
            "sid": one.sid,
            "source": "StartCallRecordingAPI",
            "status": one.status,
            "track": "both",
            "encryption_details": None,
            "uri": uri,
        }
