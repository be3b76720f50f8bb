"""A pretend TaskRouter over the queues of an exchange: a worker takes a caller's task by the `conference` instruction, as Flex does.

Laws of this file
 1. A task's attributes are the JSON in `<Task>` with `call_sid` and what else TaskRouter adds of the call; when a worker takes it,
    `conference` with its SID and the legs of worker and customer (https://www.twilio.com/docs/flex/developer/conference).
 2. The conference has the task's SID for its name. The worker's leg is dialled into it and ends it; the customer's is led out of the
    queue into it, and ends it only where that was said (`end_conference_on_customer_exit`,
    https://www.twilio.com/docs/taskrouter/api/reservations#conference).
 3. `GET …/v1/Workspaces/{WS}/Tasks` in Twilio's shape (https://www.twilio.com/docs/taskrouter/api/task#read-multiple-task-resources);
    of `EvaluateTaskAttributes` it knows `call_sid == "…"` alone.
 4. Faults are planted as phone/rest.py says.
"""

import json
import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

from aiohttp import web

from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.exchange import Course, Line
from ivrguard.phone.heard import Queued
from ivrguard.phone.rest import Api, not_found, sid

WORKER = "client:alice"
WORKSPACE = "WS" + "0f" * 16
_BY_CALL = re.compile(r'call_sid == "(CA[0-9a-f]{32})"')


@dataclass(slots=True)
class Task:
    """One task of a workspace, newest last."""

    line: Line
    workflow: str
    attributes: dict[str, object]
    sid: str = field(default_factory=lambda: sid("WT"))
    status: str = "pending"


class TaskRouter(Api):
    """The API of one workspace, beside that of conferences; `app()` serves it."""

    def __init__(self, calls: Calls, conferences: Conferences) -> None:
        account = calls.exchange.account
        super().__init__(account.account_sid, account.auth_token)
        self.workspace = WORKSPACE
        self.tasks: list[Task] = []
        self._calls, self._conferences = calls, conferences

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        served.router.add_get("/v1/Workspaces/{workspace}/Tasks", self.serving(self._list))
        return served

    async def taken(self, line: Line, worker: str = WORKER, *, ends_with_customer: bool = False) -> Line:
        """A worker takes the task of the caller who waits in a queue: both are in its conference. The worker's leg."""
        assert isinstance(line.waiting, Queued), line.waiting
        given = json.loads(line.waiting.task or "{}")
        task = Task(
            line,
            line.waiting.workflow,
            {**given, "call_sid": line.call_sid, "from": line.from_, "to": line.to},
        )
        self.tasks.append(task)
        placed = self._calls.place({"To": worker, "From": line.to}, _into(task.sid, "worker", ends=True))
        assert isinstance(placed, Line)
        await self._calls.settled()
        await line.lead(_into(task.sid, "customer", ends=ends_with_customer))
        room = next(room for room in self._conferences.rooms if room.name == task.sid)
        legs = {"worker": placed.call_sid, "customer": line.call_sid}
        task.attributes["conference"] = {"sid": room.sid, "participants": legs}
        task.status = "assigned"
        return placed

    def _list(self, request: web.Request, _: dict[str, str]) -> web.Response:
        if request.match_info["workspace"] != self.workspace:
            return not_found(request)
        wanted = _BY_CALL.fullmatch(request.query.get("EvaluateTaskAttributes", ""))
        found = [one for one in self.tasks if wanted is not None and one.line.call_sid == wanted[1]]
        meta = {
            "key": "tasks",
            "page": 0,
            "page_size": 50,
            "first_page_url": str(request.url),
            "url": str(request.url),
        }
        more = {"previous_page_url": None, "next_page_url": None}
        tasks = [self._resource(task) for task in reversed(found)]
        return web.json_response({"meta": {**meta, **more}, "tasks": tasks})

    def _resource(self, task: Task) -> dict[str, object]:
        return {
            "account_sid": self.account_sid,
            "workspace_sid": self.workspace,
            "workflow_sid": task.workflow,
            "sid": task.sid,
            "assignment_status": task.status,
            "attributes": json.dumps(task.attributes),
            "age": 1,
            "priority": 0,
        }


def _into(room: str, label: str, *, ends: bool) -> Course:
    response = Element("Response")
    given = {"endConferenceOnExit": str(ends).lower(), "participantLabel": label, "beep": "false"}
    SubElement(SubElement(response, "Dial"), "Conference", given).text = room
    return Course(document=tostring(response, encoding="unicode"))
