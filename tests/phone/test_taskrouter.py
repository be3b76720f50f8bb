"""A worker takes a caller out of a queue by the `conference` instruction; tasks by REST, asked by Twilio's own client over a socket.

The client is the synchronous one, in a thread. The pages of the rules are named in `ivrguard/phone/taskrouter.py`.
"""

import asyncio
import json

import pytest
from aiohttp.test_utils import TestServer
from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.heard import AgentBehaviour, Bridged
from ivrguard.phone.taskrouter import WORKSPACE, TaskRouter

from .conftest import ACCOUNT_SID, AUTH_TOKEN, NUMBER


@pytest.fixture
async def tasks(exchange, webhooks):
    webhooks.documents |= {
        "/voice": "<Enqueue workflowSid='WW1' action='/left'><Task>{\"lang\": \"en\"}</Task></Enqueue>",
        "/left": "",
    }
    exchange.agents["alice"] = AgentBehaviour("answer")
    calls = Calls(exchange)
    return TaskRouter(calls, Conferences(calls))


async def queued(exchange):
    line = exchange.call("+14155550123", NUMBER)
    await line.until_input()
    return line


async def asked(tasks, act):
    async with TestServer(tasks.app()) as server:
        client = Client(ACCOUNT_SID, AUTH_TOKEN)
        client.taskrouter.base_url = str(server.make_url("")).rstrip("/")
        return await asyncio.to_thread(act, client.taskrouter.v1)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_worker_takes_a_task_and_both_are_in_its_conference(exchange, webhooks, tasks, ends):
    """The IVR hears that the caller left its queue; the room is over when the worker leaves, and with the caller if that was said."""
    line = await queued(exchange)
    worker = await tasks.taken(line, ends_with_customer=ends)
    assert isinstance(line.waiting, Bridged)
    (room,) = tasks._conferences.rooms
    assert [(one.line, one.label, one.ends) for one in room.participants] == [
        (worker, "worker", True),
        (line, "customer", ends),
    ]
    assert [each["QueueResult"] for each in webhooks.asked("/left")] == ["redirected"]
    await line.hang_up()
    assert worker.over is ends


async def test_a_task_is_found_by_its_call_with_the_room_in_its_attributes(exchange, tasks):
    line = await queued(exchange)
    await tasks.taken(line)
    other = await queued(exchange)

    def found(which):
        return lambda api: api.workspaces(WORKSPACE).tasks.list(evaluate_task_attributes=which)

    (task,) = await asked(tasks, found(f'call_sid == "{line.call_sid}"'))
    attributes = json.loads(task.attributes)
    assert (attributes["lang"], attributes["call_sid"], task.assignment_status) == (
        "en",
        line.call_sid,
        "assigned",
    )
    assert attributes["conference"]["participants"]["customer"] == line.call_sid
    assert await asked(tasks, found(f'call_sid == "{other.call_sid}"')) == []
    assert await asked(tasks, found("lang == 'en'")) == []


async def test_another_workspace_is_not_there(tasks):
    with pytest.raises(TwilioException, match="20404"):
        await asked(tasks, lambda api: api.workspaces("WS" + "9" * 32).tasks.list())
