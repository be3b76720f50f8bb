"""Legs dialled, led elsewhere, ended and put on hold, through a pretend Twilio on the loopback; what fails, by its word."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.conference import Room
from ivrguard.core.errors import NotifyFault
from ivrguard.notify.conferences import TwilioConferences
from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.exchange import Course, Exchange, Line
from ivrguard.phone.heard import AgentBehaviour, Bridged
from ivrguard.phone.taskrouter import WORKSPACE, TaskRouter
from ivrguard.ports import Invitation

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
NUMBER, QUEUE, AGENT = "+18005550100", "+18005550101", "+18005550142"
ROOM = "5e" * 16


class Office:
    """The pretend APIs, the adapter that asks them, and the documents of the legs."""

    def __init__(
        self, exchange: Exchange, calls: Calls, rooms: Conferences, adapter: TwilioConferences, url: str
    ) -> None:
        self.exchange, self.calls, self.rooms, self.adapter, self.url = exchange, calls, rooms, adapter, url

    def invitation(self, **more: object) -> Invitation:
        usual = {
            "room": ROOM,
            "to": AGENT,
            "from_": NUMBER,
            "ring_s": 20,
            "status_url": f"{self.url}/told",
            "label": "agent",
        }
        return Invitation(**{**usual, **more})

    async def invite(self, **more: object):
        sid = await self.adapter.invite(ACCOUNT, self.invitation(**more), deadline_s=5)
        await self.calls.settled()
        return self.calls.lines[sid]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    documents = {
        "/first": f"<Say>first</Say><Dial><Conference participantLabel='agent'>{ROOM}</Conference></Dial>",
        "/elsewhere": "<Gather/>",
        "/queue": "<Enqueue workflowSid='WW1'><Task>{}</Task></Enqueue>",
    }

    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            text=f"<Response>{documents.get(request.path, '')}</Response>", content_type="text/xml"
        )

    served = web.Application()
    served.router.add_route("*", "/{path:.*}", answer)
    async with (
        TestServer(served) as ivr,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        exchange = Exchange(session, ACCOUNT, TOKEN)
        exchange.number(NUMBER, str(ivr.make_url("/elsewhere")))
        exchange.number(QUEUE, str(ivr.make_url("/queue")))
        calls = Calls(exchange)
        rooms = Conferences(calls)
        async with TestServer(rooms.app()) as api:
            adapter = TwilioConferences({ACCOUNT: TOKEN}, api_url=str(api.make_url("")))
            yield Office(exchange, calls, rooms, adapter, str(ivr.make_url("")).rstrip("/"))
            await adapter.close()


async def test_who_hears_something_first_is_a_call_with_a_document(office: Office) -> None:
    leg = await office.invite(url=f"{office.url}/first")
    assert isinstance(leg.waiting, Bridged)
    assert office.rooms.rooms[0].find("agent").line is leg
    told = [request.param("CallStatus") for request in leg.requests if request.purpose == "callback"]
    assert told[-1] == "in-progress"


async def test_who_hears_nothing_first_enters_the_room_at_once(office: Office) -> None:
    leg = await office.invite(to="client:ann?ivrguard_token=T")
    (one,) = office.rooms.rooms[0].participants
    assert (one.line, one.label, one.ends) == (leg, "agent", True)


async def test_a_leg_is_led_elsewhere_and_ended(office: Office) -> None:
    """One that is over is ended already; led it cannot be."""
    leg = await office.invite(url=f"{office.url}/first")
    await office.adapter.lead(ACCOUNT, leg.call_sid, f"{office.url}/elsewhere", deadline_s=5)
    await office.calls.settled()
    assert await leg.until_input() is not None
    for _ in range(2):
        await office.adapter.hang_up(ACCOUNT, leg.call_sid, deadline_s=5)
        await office.calls.settled()
        assert leg.over
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.lead(ACCOUNT, leg.call_sid, f"{office.url}/elsewhere", deadline_s=5)
    assert fault.value.why == "gone"
    await office.adapter.hang_up(ACCOUNT, "CA" + "9" * 32, deadline_s=5)


@pytest.mark.parametrize("by", ["sid", "name"])
async def test_a_leg_is_held_and_let_go(office: Office, by: str) -> None:
    """In a room that is named by its SID, or looked up by its name."""
    leg = await office.invite(url=f"{office.url}/first")
    (room,) = office.rooms.rooms
    name = room.sid if by == "sid" else ROOM
    await office.adapter.hold(ACCOUNT, name, leg.call_sid, f"{office.url}/music", deadline_s=5)
    assert room.find("agent").hold
    await office.calls.settled()
    assert any(request.purpose == "wait" for request in leg.requests)
    await office.adapter.unhold(ACCOUNT, name, leg.call_sid, deadline_s=5)
    await office.adapter.hold(ACCOUNT, name, leg.call_sid, "", deadline_s=5)
    assert room.find("agent").hold


async def test_a_room_that_is_not_there_is_gone(office: Office) -> None:
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.unhold(ACCOUNT, ROOM, "CA" + "1" * 32, deadline_s=5)
    assert fault.value.why == "gone"


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (429, 20429, "too_many_requests"),
        (500, 0, "outage"),
        (400, 21211, "invalid"),
        (400, 21215, "country_not_allowed"),
    ],
)
async def test_what_fails_says_why_and_nothing_of_what_was_asked(
    office: Office, status: int, code: int, why: str
) -> None:
    office.calls.fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.invite(ACCOUNT, office.invitation(url=f"{office.url}/first"), deadline_s=5)
    assert fault.value.why == why
    assert not any(each in str(fault.value) for each in (AGENT, ROOM, TOKEN))
    assert not office.calls.lines


async def test_ending_fails_like_everything_else(office: Office) -> None:
    leg = await office.invite(url=f"{office.url}/first")
    office.calls.fail_next(500, 0)
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.hang_up(ACCOUNT, leg.call_sid, deadline_s=5)
    assert fault.value.why == "outage"


async def test_a_slow_provider_is_not_waited_for(office: Office) -> None:
    office.calls.hold = asyncio.Event()
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.lead(ACCOUNT, "CA" + "1" * 32, f"{office.url}/first", deadline_s=0.05)
    assert fault.value.why == "timeout"
    office.calls.hold.set()


async def test_an_answer_without_a_leg_is_none(office: Office) -> None:
    """Another API's, or a proxy's."""

    async def other(_: web.Request) -> web.Response:
        return web.json_response({"sid": "SM1"}, status=201)

    served = web.Application()
    served.router.add_route("*", "/{path:.*}", other)
    async with TestServer(served) as server:
        adapter = TwilioConferences({ACCOUNT: TOKEN}, api_url=str(server.make_url("")))
        with pytest.raises(NotifyFault) as fault:
            await adapter.invite(ACCOUNT, office.invitation(url=f"{office.url}/first"), deadline_s=5)
        await adapter.close()
    assert fault.value.why == "garbled"


async def test_another_account_is_none_of_ours(office: Office) -> None:
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.lead("AC" + "9" * 32, "CA" + "1" * 32, office.url, deadline_s=5)
    assert fault.value.why == "account"


# ── rooms of TaskRouter's ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def tasks(office: Office) -> AsyncIterator[TaskRouter]:
    """TaskRouter over the same exchange, and the adapter asking it."""
    pretend = TaskRouter(office.calls, office.rooms)
    office.exchange.agents["alice"] = AgentBehaviour("answer")
    async with TestServer(pretend.app()) as server, TestServer(office.rooms.app()) as rooms:
        office.adapter = TwilioConferences(
            {ACCOUNT: TOKEN},
            api_url=str(rooms.make_url("")).rstrip("/"),
            tasks_url=str(server.make_url("")).rstrip("/"),
        )
        yield pretend
        await office.adapter.close()


async def joined(office: Office, tasks: TaskRouter, **how: bool) -> tuple[Line, Line]:
    """A caller whose task a worker took: both legs."""
    caller = office.exchange.call("+15551230001", QUEUE)
    await caller.until_input()
    return caller, await tasks.taken(caller, **how)


@pytest.mark.parametrize("ends", [True, False])
async def test_the_room_that_taskrouter_made_is_found_by_the_callers_leg(
    office: Office, tasks: TaskRouter, *, ends: bool
) -> None:
    caller, worker = await joined(office, tasks, ends_with_customer=ends)
    found = await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5)
    (room,) = office.rooms.rooms
    assert found == Room(room.sid, tasks.tasks[0].sid, worker.call_sid, "customer", ends)


async def test_a_room_ends_with_a_leg_or_no_longer(office: Office, tasks: TaskRouter) -> None:
    caller, _ = await joined(office, tasks)
    (room,) = office.rooms.rooms
    for ends in (True, False):
        await office.adapter.ends_room(ACCOUNT, room.sid, caller.call_sid, ends=ends, deadline_s=5)
        assert room.find(caller.call_sid).ends is ends


async def test_who_is_in_no_room_of_taskrouters_is_found_in_none(office: Office, tasks: TaskRouter) -> None:
    """No task; a task that nobody has taken; a room that he has left."""
    find = office.adapter.room_of_task
    assert await find(ACCOUNT, WORKSPACE, "CA" + "1" * 32, deadline_s=5) is None
    caller, _ = await joined(office, tasks)
    await caller.hang_up()
    assert await find(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5) is None


async def test_who_waits_for_a_worker_who_does_not_come_is_with_nobody(
    office: Office, tasks: TaskRouter
) -> None:
    office.exchange.agents["alice"] = AgentBehaviour("busy")
    caller, _ = await joined(office, tasks)
    assert office.rooms.rooms[0].find(caller.call_sid) is not None
    assert await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5) is None


async def test_a_workspace_that_is_not_there_is_told_apart(office: Office, tasks: TaskRouter) -> None:
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.room_of_task(ACCOUNT, "WS" + "9" * 32, "CA" + "1" * 32, deadline_s=5)
    assert fault.value.why == "gone"
    assert tasks.asked == 1


async def test_attributes_that_are_none_are_garbled(office: Office, tasks: TaskRouter) -> None:
    caller, _ = await joined(office, tasks)
    tasks.tasks[0].attributes = ["call_sid"]  # type: ignore[assignment]  # as somebody else may have written them
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5)
    assert fault.value.why == "garbled"


async def test_a_worker_who_has_left_is_joined_with_nobody(office: Office, tasks: TaskRouter) -> None:
    """The task names him still, and the caller is in the room: a colleague may be with him."""
    caller, worker = await joined(office, tasks)
    (room,) = office.rooms.rooms
    assert await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5) is not None
    colleague = office.exchange.call("+15551230002", QUEUE)
    way = f"<Response><Dial><Conference>{room.name}</Conference></Dial></Response>"
    await colleague.lead(Course(document=way))
    room.find(worker.call_sid).ends = False
    await worker.hang_up()
    assert room.status == "in-progress"
    assert await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5) is None


async def test_a_room_that_is_over_joins_nobody_whoever_is_listed_in_it(
    office: Office, tasks: TaskRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, _ = await joined(office, tasks)
    monkeypatch.setattr(office.rooms.rooms[0], "status", "completed")
    assert await office.adapter.room_of_task(ACCOUNT, WORKSPACE, caller.call_sid, deadline_s=5) is None


async def test_a_room_runs_until_it_is_over(office: Office, tasks: TaskRouter) -> None:
    """One that nobody knows does not; a fault is no answer."""
    _, worker = await joined(office, tasks)
    (room,) = office.rooms.rooms
    assert await office.adapter.room_runs(ACCOUNT, room.sid, deadline_s=5)
    office.rooms.fail_next(500, 0)
    with pytest.raises(NotifyFault) as fault:
        await office.adapter.room_runs(ACCOUNT, room.sid, deadline_s=5)
    assert fault.value.why == "outage"
    await worker.hang_up()
    await office.calls.settled()
    assert not await office.adapter.room_runs(ACCOUNT, room.sid, deadline_s=5)
    assert not await office.adapter.room_runs(ACCOUNT, "CF" + "0" * 32, deadline_s=5)
