"""
Twilio's live calls and conferences: legs dialled, led elsewhere, ended, put on hold; and TaskRouter's, where it has joined a caller with
a worker. Implements `ports.Conferences`.

1. Who hears something before he enters the room is a call of its own whose document leads him there
   (https://www.twilio.com/docs/voice/api/call-resource#create-a-call); who does not is a participant
   (https://www.twilio.com/docs/voice/api/conference-participant-resource#create-a-participant-resource).
2. A live call is led elsewhere by an update of it; its `<Dial>` asks for no action then
   (https://www.twilio.com/docs/voice/tutorials/how-to-modify-calls-in-progress).
3. A room is named by its SID, or looked up by its name when nobody has told the SID.
4. **Gone** is a fault of its own: no such leg or room any more (20404), no call in progress (21220). Who ends a leg has what he
   wanted then.
5. A task is found by the CallSid in its attributes, which TaskRouter puts there itself and adds the `conference` to
   (https://www.twilio.com/docs/taskrouter/api/task#read-multiple-task-resources, `EvaluateTaskAttributes`;
   https://www.twilio.com/docs/flex/developer/conference). Attributes can be written by whoever has the account's keys: so it counts only
   that both legs are found **in** the conference, alive, by their own resources.
6. The laws of notify/rest.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from twilio.base import values
from twilio.rest import Client

from ivrguard.core.conference import Room
from ivrguard.core.errors import NotifyFault
from ivrguard.notify.rest import NOT_FOUND, Meaning, Refused, Rest, garbled
from ivrguard.ports import Invitation

_NOT_IN_PROGRESS = 21220
_OVER = frozenset({NOT_FOUND, _NOT_IN_PROGRESS})
_GONE = Meaning("gone", "knows no such leg or room any more")
MEANINGS: Mapping[int, Meaning] = {
    NOT_FOUND: _GONE,
    _NOT_IN_PROGRESS: _GONE,
    21210: Meaning(
        "invalid", "does not know the number that the agent is dialled from as one of the account's"
    ),
    21211: Meaning("invalid", "takes the agent's number for none"),
    21215: Meaning("country_not_allowed", "may not call the agent's country"),
}
"""https://www.twilio.com/docs/api/errors"""

_EVENTS = ["initiated", "answered", "completed"]
_SID = re.compile(r"CF[0-9a-f]{32}")
_LEG = re.compile(r"CA[0-9a-f]{32}")
TASKS_MAX = 20
"""Of one call: it may have been handed over more than once, and a transfer makes a task of its own."""


class TwilioConferences:
    """
    Moves legs of several accounts. `tokens`: AccountSid -> auth token.

    `api_url`, `tasks_url`: where the APIs are, for tests and for Twilio's regions.
    """

    def __init__(
        self,
        tokens: Mapping[str, str],
        *,
        api_url: str = "https://api.twilio.com",
        tasks_url: str = "https://taskrouter.twilio.com",
    ) -> None:
        self._rest = Rest("call", MEANINGS)
        self._clients: dict[str, Client] = {}
        for account_sid, auth_token in tokens.items():
            client = self._rest.client(account_sid, auth_token)
            client.api.base_url = api_url
            client.taskrouter.base_url = tasks_url
            self._clients[account_sid] = client

    async def invite(self, account_sid: str, invitation: Invitation, *, deadline_s: float) -> str:
        """Dial somebody; the CallSid of his leg. Raises `core.errors.NotifyFault`: he may be dialled all the same."""
        client, one = self._of(account_sid), invitation
        common: dict[str, Any] = {
            "to": one.to,
            "from_": one.from_,
            "timeout": one.ring_s,
            "status_callback": one.status_url,
            "status_callback_method": "POST",
            "status_callback_event": _EVENTS,
            "call_token": one.token or values.unset,
            "sip_auth_username": one.user or values.unset,
            "sip_auth_password": one.password or values.unset,
        }
        async with self._rest.asking(deadline_s):
            if one.url:
                leg = await client.calls.create_async(url=one.url, method="POST", **common)
                sid = leg.sid
            else:
                people = client.conferences(one.room).participants
                entered = await people.create_async(
                    label=one.label,
                    beep="false",
                    start_conference_on_enter=True,
                    end_conference_on_exit=True,
                    **common,
                )
                sid = entered.call_sid
            if not _LEG.fullmatch(sid or ""):
                raise garbled()
            return str(sid)

    async def lead(self, account_sid: str, call_sid: str, url: str, *, deadline_s: float) -> None:
        """Have a leg go on with the document at `url`. Raises `core.errors.NotifyFault`."""
        leg = self._of(account_sid).calls(call_sid)
        async with self._rest.asking(deadline_s):
            await leg.update_async(url=url, method="POST")

    async def hang_up(self, account_sid: str, call_sid: str, *, deadline_s: float) -> None:
        """End a leg, also one that rings; quiet about one that is over. Raises `core.errors.NotifyFault`."""
        leg = self._of(account_sid).calls(call_sid)
        async with self._rest.asking(deadline_s):
            try:
                await leg.update_async(status="completed")
            except Refused as refused:
                if refused.code not in _OVER:
                    raise

    async def hold(
        self, account_sid: str, conference: str, call_sid: str, music_url: str, *, deadline_s: float
    ) -> None:
        """Let a leg hear music instead of the room, which is named by its SID or its name. Raises `core.errors.NotifyFault`."""
        client = self._of(account_sid)
        async with self._rest.asking(deadline_s):
            one = await self._participant(client, conference, call_sid)
            music: dict[str, Any] = {"hold_url": music_url, "hold_method": "POST"} if music_url else {}
            await one.update_async(hold=True, **music)

    async def unhold(self, account_sid: str, conference: str, call_sid: str, *, deadline_s: float) -> None:
        """Let it hear the room again. Raises as `hold`."""
        client = self._of(account_sid)
        async with self._rest.asking(deadline_s):
            one = await self._participant(client, conference, call_sid)
            await one.update_async(hold=False)

    async def room_of_task(
        self, account_sid: str, workspace: str, call_sid: str, *, deadline_s: float
    ) -> Room | None:
        """The conference that TaskRouter put this leg and a worker's into, if both are in it. Raises `core.errors.NotifyFault`."""
        client = self._of(account_sid)
        async with self._rest.asking(deadline_s):
            tasks = await client.taskrouter.v1.workspaces(workspace).tasks.list_async(
                evaluate_task_attributes=f'call_sid == "{call_sid}"', limit=TASKS_MAX
            )
            for sid, worker in dict.fromkeys(_rooms(tasks, call_sid)):
                try:
                    room = await client.conferences(sid).fetch_async()
                    caller = await client.conferences(sid).participants(call_sid).fetch_async()
                    await client.conferences(sid).participants(worker).fetch_async()
                except Refused as refused:
                    if refused.code in _OVER:
                        continue
                    raise
                if str(room.status) == "in-progress" and str(caller.call_sid) == call_sid:
                    ends = caller.end_conference_on_exit is True
                    return Room(sid, str(room.friendly_name), worker, str(caller.label or ""), ends)
        return None

    async def ends_room(
        self, account_sid: str, conference: str, call_sid: str, *, ends: bool, deadline_s: float
    ) -> None:
        """Whether the room is over when this leg leaves it. Raises `core.errors.NotifyFault`."""
        one = self._of(account_sid).conferences(conference).participants(call_sid)
        async with self._rest.asking(deadline_s):
            await one.update_async(end_conference_on_exit=ends)

    async def room_runs(self, account_sid: str, conference: str, *, deadline_s: float) -> bool:
        """Whether this conference is there, and not over. Raises `core.errors.NotifyFault`."""
        room = self._of(account_sid).conferences(conference)
        async with self._rest.asking(deadline_s):
            try:
                return str((await room.fetch_async()).status) != "completed"
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
                return False

    async def _participant(self, client: Client, conference: str, call_sid: str) -> Any:
        if not _SID.fullmatch(conference):
            found = await client.conferences.list_async(friendly_name=conference, limit=20)
            conference = next((str(room.sid) for room in found if str(room.status) != "completed"), "")
            if not conference:
                raise NotifyFault("there is no such room, or nobody is in it any more", why="gone")
        return client.conferences(conference).participants(call_sid)

    def _of(self, account_sid: str) -> Client:
        client = self._clients.get(account_sid)
        if client is None:
            raise NotifyFault("the call's account has no auth token here", why="account")
        return client

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._rest.close()


def _rooms(tasks: Any, call_sid: str) -> Iterator[tuple[str, str]]:
    """The conferences that tasks of this call name, with the worker's leg; those of tasks that a worker has, first."""
    for task in sorted(tasks, key=lambda task: str(task.assignment_status) != "assigned"):
        attributes = json.loads(task.attributes)
        conference = attributes.get("conference") or {}
        worker = str((conference.get("participants") or {}).get("worker"))
        sid, own = str(conference.get("sid")), attributes.get("call_sid") == call_sid
        if own and _SID.fullmatch(sid) and _LEG.fullmatch(worker) and worker != call_sid:
            yield sid, worker
