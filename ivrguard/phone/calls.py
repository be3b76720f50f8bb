"""A pretend Twilio Calls API over the calls of an exchange: placed, fetched, listed, led elsewhere, ended.

Laws of this file
 1. `POST` and `GET …/Accounts/{AC}/Calls.json`, `GET` and `POST …/Calls/{CA}.json`, in Twilio's shapes
    (https://www.twilio.com/docs/voice/api/call-resource). Newest first, in pages; every leg is a call.
 2. A call that is over can no longer be changed, and only one in progress be led to a document: otherwise 21220
    (https://www.twilio.com/docs/errors/21220). `canceled` ends what is queued or ringing and leaves a call in
    progress alone; `completed` ends any call.
 3. The answer goes out first, and then the call moves, as at Twilio: the server that asked may be the very one that
    is asked for the document. `settled` waits until all has moved that was told to.
 4. A call that is placed rings the party whose behaviour the exchange has (`Exchange.agents`); whoever has no keys
    and no person is driven by the test, as every other line.
 5. `From` is a number of the account, or that of a caller whose `CallToken` comes with it
    (https://www.twilio.com/docs/voice/api/call-resource#calltoken).
 6. Faults are planted as phone/rest.py says.
"""

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import replace
from math import ceil

from aiohttp import web

from ivrguard.phone.exchange import RING_S, Course, Exchange, Line, StatusTo
from ivrguard.phone.heard import AgentBehaviour, Script
from ivrguard.phone.rest import Api, date, error, listed, not_found

TWIML_CHARACTERS_MAX = 4000
"""A longer `Twiml` is error 32018 (https://www.twilio.com/docs/api/errors/32018)."""

_URL = re.compile(r"https?://[^\s/?#]+\S*")
_PARTY = re.compile(r"\+[1-9][0-9]{6,14}|(client|sip|sips):\S+")
_URLS = ("Url", "FallbackUrl", "StatusCallback", "ConferenceStatusCallback", "HoldUrl", "AnnounceUrl")
_FILTERS = {"Status": "status", "To": "to", "From": "from", "ParentCallSid": "parent_call_sid"}


class Calls(Api):
    """The API of the exchange's account; `app()` serves it. It knows the calls that begin after it was made."""

    def __init__(self, exchange: Exchange, *, api_keys: dict[str, str] | None = None) -> None:
        account = exchange.account
        super().__init__(account.account_sid, account.auth_token, api_keys=api_keys)
        self.lines: dict[str, Line] = {}
        """By the SID of the call, in the order in which they began."""
        self.exchange = exchange
        self._moving: set[asyncio.Task[None]] = set()
        exchange.opened = lambda line: self.lines.update({line.call_sid: line})

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        calls = "/2010-04-01/Accounts/{account}/Calls"
        served.router.add_get(f"{calls}.json", self.serving(self._list))
        served.router.add_post(f"{calls}.json", self.serving(self._create))
        served.router.add_get(f"{calls}/{{call}}.json", self.serving(self._fetch))
        served.router.add_post(f"{calls}/{{call}}.json", self.serving(self._update))
        return served

    async def settled(self) -> None:
        """Every call that was told to move rests again. Raises what went wrong on the way."""
        while self._moving:
            await asyncio.gather(*self._moving)

    def move(self, act: Coroutine[None, None, None]) -> None:
        """Let this happen once the answer is out."""
        task = asyncio.ensure_future(act)
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    def _list(self, request: web.Request, _: dict[str, str]) -> web.Response:
        wanted = [(_FILTERS[key], value) for key, value in request.query.items() if key in _FILTERS]
        every = [self._resource(line) for line in reversed(self.lines.values())]
        return listed(
            request, "calls", [one for one in every if all(one[name] == value for name, value in wanted)]
        )

    def _fetch(self, request: web.Request, _: dict[str, str]) -> web.Response:
        line = self.lines.get(request.match_info["call"])
        return not_found(request) if line is None else web.json_response(self._resource(line))

    def _update(self, request: web.Request, form: dict[str, str]) -> web.Response:
        line = self.lines.get(request.match_info["call"])
        if line is None:
            return not_found(request)
        refused = refusal(form) or _state_refusal(line, form)
        if refused is not None:
            return refused
        line.fallback_url = form.get("FallbackUrl", line.fallback_url)
        if "StatusCallback" in form:
            line.status_to = replace(
                line.status_to, url=form["StatusCallback"], method=method(form, "StatusCallbackMethod")
            )
        status, ends = form.get("Status"), line.status in {"queued", "ringing"}
        if status == "completed" or (status == "canceled" and ends):
            self.move(line.break_off(status))
        elif status is None and _leads(form):
            self.move(line.lead(_course(form)))
        return web.json_response(self._resource(line))

    def _create(self, _: web.Request, form: dict[str, str]) -> web.Response:
        if not _leads(form):
            return error(400, 21205, "Url parameter is required.")
        placed = self.place(form, _course(form))
        return (
            placed
            if isinstance(placed, web.Response)
            else web.json_response(self._resource(placed), status=201)
        )

    def place(self, form: dict[str, str], course: Course) -> Line | web.Response:
        """Place a call (To, From, StatusCallback) whose document is this; or why not."""
        refused = refusal(form) or self._party_refusal(form)
        if refused is not None:
            return refused
        told = frozenset(form.get("StatusCallbackEvent", "completed").split())
        line = Line(
            self.exchange,
            from_=form["From"],
            to=form["To"],
            direction="outbound-api",
            first=("voice", course.method, course.url),
            fallback_url=form.get("FallbackUrl"),
            status=StatusTo(form.get("StatusCallback"), method(form, "StatusCallbackMethod"), told),
        )
        line.status = "queued"
        name = (
            form["To"].removeprefix("client:").partition("?")[0]
        )  # behind it: a client's parameters, a SIP address's headers
        behaviour = self.exchange.agents.get(name, self.exchange.otherwise)
        self.move(_ring(line, behaviour, course))
        return line

    def _party_refusal(self, form: dict[str, str]) -> web.Response | None:
        """Who may not be called, or not by whom."""
        if not form.get("To"):
            return error(400, 21201, "No 'To' number is specified")
        if not form.get("From"):
            return error(400, 21213, "No 'From' number is specified")
        if not _PARTY.fullmatch(form["To"]):
            return error(400, 21211, "The phone number you are attempting to call is not valid")
        if not (self.exchange.owns(form["From"]) or self._forwards(form)):
            return error(400, 21210, "The source phone number provided is not yet verified for your account")
        return None

    def _forwards(self, form: dict[str, str]) -> bool:
        """Whether the CallToken is that of a call which came from this very number: it may be shown then."""
        token = form.get("CallToken", "")
        return any(
            line.from_ == form["From"] and line.direction == "inbound" and line.call_sid in token
            for line in self.lines.values()
        )

    def _resource(self, line: Line) -> dict[str, object]:
        now = date()
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Calls/{line.call_sid}"
        talked = line.over and line.status == "completed"
        return {
            "account_sid": self.account_sid,
            "annotation": None,
            "answered_by": None,
            "api_version": "2010-04-01",
            "caller_name": None,
            "date_created": now,
            "date_updated": now,
            "direction": line.direction,
            "duration": str(ceil(line.elapsed_s)) if talked else None,
            "end_time": now if line.over else None,
            "forwarded_from": None,
            "from": line.from_,
            "from_formatted": line.from_,
            "group_sid": None,
            "parent_call_sid": line.parent.call_sid if line.parent is not None else None,
            "phone_number_sid": None,
            "price": None,
            "price_unit": "USD",
            "queue_time": "0",
            "sid": line.call_sid,
            "start_time": now,
            "status": line.status,
            "subresource_uris": {"recordings": f"{uri}/Recordings.json"},
            "to": line.to,
            "to_formatted": line.to,
            "trunk_sid": None,
            "uri": f"{uri}.json",
        }


async def _ring(line: Line, behaviour: AgentBehaviour, course: Course) -> None:
    """Ring the party of a call that was placed, and once he answers run the call's document for him."""
    await line.report("initiated", "initiated")
    await line.report("ringing", "ringing")
    line.elapsed_s += RING_S
    if line.over:
        return
    if behaviour.does != "answer":
        await line.ended(behaviour.does)
        return
    await line.report("answered", "in-progress")
    person = behaviour.person or (Script(*behaviour.keys) if behaviour.keys else None)
    if person is not None:
        line.listener = person.hears
    await line.lead(course)
    if person is not None:
        await line.converse(person)


def _leads(form: dict[str, str]) -> bool:
    return "Url" in form or "Twiml" in form


def _course(form: dict[str, str]) -> Course:
    return Course(form.get("Url", ""), method(form, "Method"), form.get("Twiml"))


def method(form: dict[str, str], name: str, otherwise: str = "POST") -> str:
    """An HTTP method of a form."""
    return "GET" if form.get(name, otherwise).upper() == "GET" else "POST"


def refusal(form: dict[str, str]) -> web.Response | None:
    """What is wrong with a form, whatever the call."""
    if "Url" in form and "Twiml" in form:
        return error(400, 20001, "Url and Twiml exclude each other")
    for name in _URLS:
        if name in form and not _URL.fullmatch(form[name]):
            return error(400, 21205, f"{name} is not a valid URL")
    if len(form.get("Twiml", "")) > TWIML_CHARACTERS_MAX:
        return error(400, 32018, f"Twiml exceeds {TWIML_CHARACTERS_MAX} characters")
    if form.get("Status", "completed") not in {"completed", "canceled"}:
        return error(400, 20001, "Status is not one of completed, canceled")
    return None


def _state_refusal(line: Line, form: dict[str, str]) -> web.Response | None:
    """Whether the call is in a state in which this can be done with it."""
    if line.over:
        return error(400, 21220, "Call is not in-progress. Cannot redirect.")
    if _leads(form) and "Status" not in form and line.status != "in-progress":
        return error(400, 21220, "Call is not in-progress. Cannot redirect.")
    return None
