"""
A caller whom TaskRouter joined with a worker, led aside to the keypad and back, told as conversations: caller, worker, IVR, TaskRouter.

Everything is real but the provider's network, as in test_conference.py. TaskRouter is a pretend one (ivrguard/phone/taskrouter.py) that
is asked by Twilio's own client.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from ivrguard import flowfile
from ivrguard.core.agents import Agent
from ivrguard.core.aside import Denied
from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call
from ivrguard.core.conference import CLAIM_MS, LEAD_MS, Beside
from ivrguard.core.errors import NotifyFault
from ivrguard.core.flow import Recording
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.factors import pin
from ivrguard.guard import Guard, books, conference
from ivrguard.guard.held import held, seen
from ivrguard.phone.exchange import Course, Line
from ivrguard.phone.heard import Asked, Bridged, Played, Queued, Said
from ivrguard.phone.rig import Rig, rig
from ivrguard.phone.taskrouter import WORKSPACE
from ivrguard.ports import Account, Credential, Key
from ivrguard.stores import codec as stores

CALLER = "+15551230001"
ACCOUNT, PIN, WRONG = "123456", "24681357", "90909090"
WORKFLOW = "WW" + "a1" * 16
ANN = Agent("desk-1", queues=("*",), desk=True)
BOB = Agent("desk-2", queues=("queue:*",), desk=True)


@dataclass
class Centre:
    """A rig whose IVR puts everybody into TaskRouter's queue, and what a test looks at."""

    rig: Rig
    key: str = ""

    @property
    def rooms(self):
        return self.rig.conferences.rooms

    async def settle(self) -> None:
        guard = self.rig.server.guard
        while guard._background._running or self.rig.calls._moving:
            await guard._background.drain()
            await self.rig.calls.settled()

    async def waits(self) -> Line:
        """A caller who proved his PIN and stands in the queue."""
        line = self.rig.call(CALLER)
        await line.until_input()
        await line.press(f"{ACCOUNT}#")
        await line.press(PIN)
        return line

    async def talks(self, *, ends_with_customer: bool = False) -> tuple[Line, Line]:
        """The same, taken by a worker who has redeemed the token of his task: both lines."""
        line = await self.waits()
        token = token_in(line)
        worker = await self.rig.tasks.taken(line, ends_with_customer=ends_with_customer)
        await self.settle()
        status, _ = await self.rig.redeem(self.key, token, line.call_sid)
        assert status == 201
        return line, worker

    async def presses(self, line: Line, factor: str = "pin", agent: Agent = ANN) -> Denied | Call | None:
        begun = await self.rig.server.guard.bridges.aside(agent, line.call_sid, factor)
        await self.settle()
        return begun

    async def beside(self, line: Line) -> Beside | None:
        found = await held(self.rig.server.world, ANN, line.call_sid)
        assert found is not None
        return (await seen(self.rig.server.world, found)).aside

    async def call(self, line: Line) -> Call:
        call = await self.rig.store.read(books.call_key(line.call_sid))
        assert call is not None
        return call

    async def events(self, event: str) -> list[str]:
        return [one.entry.reason for one in await self.rig.store.entries() if one.entry.event == event]

    def inside(self, room) -> list[tuple[str, bool, bool]]:
        """Who is in a room: his leg's label, whether he hears music, whether it ends with him."""
        return [(one.label, one.hold, one.ends) for one in room.participants]


def token_in(line: Line) -> str:
    """The token in the task of the queue that a caller stands in."""
    assert isinstance(line.waiting, Queued), line.heard
    return str(json.loads(line.waiting.task)["ivrguard_token"])


def said(line: Line) -> str:
    return " ".join(each.text for each in line.heard if isinstance(each, Said))


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture
def start():
    """Starts a centre; `flow`: other parts of its flow; the rest are fields of `Parts`."""
    bank = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]
    flow_ = replace(
        bank,
        rules=(Rule(Demand("one_factor", intent="agent"), transfer=Target("workflow", "*")),),
        default=Demand(None),
        recording=Recording.IGNORE,
        workspace=WORKSPACE,
    )

    def ivr(_: str) -> web.Application:
        async def answer(_: web.Request) -> web.Response:
            queue = (
                f'<Enqueue workflowSid="{WORKFLOW}" action="/left"><Task>{{"lang": "en"}}</Task></Enqueue>'
            )
            return web.Response(text=f"<Response>{queue}</Response>", content_type="text/xml")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        return app

    @asynccontextmanager
    async def started(flow: dict[str, object] | None = None, **extra: object) -> AsyncIterator[Centre]:
        async def wait(_: float) -> None:
            pass

        async with rig(replace(flow_, **(flow or {})), ivr, extra={"wait": wait, **extra}) as running:
            number = Credential(Kind.SMS_CODE, number=CALLER)
            await running.enrol(Account(ACCOUNT, (CALLER,), (number,)), pin=PIN)
            centre = Centre(running)
            centre.key = await running.desk(ANN.name, "*")
            yield centre
            await centre.settle()

    return started


@pytest.fixture
async def centre(start) -> AsyncIterator[Centre]:
    async with start() as made:
        yield made


async def test_the_caller_is_led_aside_from_taskrouters_room_and_back_into_it(centre):
    """The worker hears music meanwhile; the room is the same one, and so is how the caller is in it."""
    line, worker = await centre.talks()
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="")
    assert isinstance(await centre.presses(line), Call)
    (room,) = centre.rooms
    assert isinstance(line.waiting, Asked)
    assert centre.inside(room) == [("worker", True, True)]
    assert await centre.beside(line) == Beside(ready=False, apart=True, last="")
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert centre.inside(room) == [("worker", False, True), ("customer", False, False)]
    assert centre.rooms == [room]
    assert not room.participants[1].starts  # alone in a room of that name he would hear music
    assert worker.status == "in-progress"
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="verified")
    assert await centre.events("authn_aside_over") == ["right"]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_room_that_ends_with_the_caller_stays_open_while_he_is_aside(centre, ends):
    """And ends with him again once he is back."""
    line, worker = await centre.talks(ends_with_customer=ends)
    await centre.presses(line)
    (room,) = centre.rooms
    assert room.status == "in-progress"
    await line.press(PIN)
    await centre.settle()
    assert centre.inside(room)[1] == ("customer", False, ends)
    await line.hang_up()
    await centre.settle()
    assert (room.status == "completed", worker.over) == (ends, ends)


async def test_he_can_be_led_aside_again_and_again_and_guesses_are_guesses(centre):
    line, _ = await centre.talks()
    for keys, last in ((WRONG, "not_verified"), (PIN, "verified"), (PIN, "verified")):
        assert isinstance(await centre.presses(line), Call)
        await line.press(keys)
        while isinstance(line.waiting, Asked):
            await line.silent()
        await centre.settle()
        assert (await centre.beside(line)).last == last
        assert isinstance(line.waiting, Bridged)
    assert await centre.events("authn_login_fail") == ["wrong"]
    assert len(centre.rooms) == 1


async def test_a_worker_who_hangs_up_after_the_talk_ends_the_call(centre):
    """Nothing of the IVR's follows TaskRouter's room: it heard of the caller when he left the queue."""
    line, worker = await centre.talks()
    await centre.presses(line)
    await line.press(PIN)
    await centre.settle()
    heard = said(line)
    await worker.hang_up()
    await centre.settle()
    assert line.over
    assert said(line) == heard
    assert await centre.events("bridge_over") == ["completed"]


async def test_a_worker_who_hangs_up_while_the_caller_is_aside_leaves_nobody_in_a_room_of_his_own(centre):
    """Nothing tells of it: the caller comes to a new room of that name, where the worker is not to be found."""
    line, worker = await centre.talks()
    await centre.presses(line)
    await worker.hang_up()
    await centre.settle()
    await line.press(PIN)
    await centre.settle()
    assert line.over
    assert [room.status for room in centre.rooms] == ["completed", "completed"]
    assert await centre.events("authn_aside_over") == ["right"]


async def test_a_worker_who_leaves_just_before_the_caller_is_back_is_looked_for_when_music_is_asked_for(
    centre, monkeypatch
):
    """The errand was done while he was there still: music in a room of two shows that he is not."""
    line, worker = await centre.talks()
    await centre.presses(line)
    await line.press(PIN)
    await centre.settle()
    with (
        monkeypatch.context() as patched
    ):  # he comes into the room again, as if the worker had left a moment before
        patched.setattr(conference.Bridges, "attend", lambda *_: None)
        await centre.presses(line)
        await worker.hang_up()
        await line.press(PIN)
        await centre.settle()
        bridge = (await centre.call(line)).bridge
        await centre.rig.server.guard.bridges._amend(
            line.call_sid, bridge.id, lambda bridge, _: replace(bridge, holding=False)
        )
    assert isinstance(line.waiting, Bridged)
    await centre.rig.server.guard.bridges.wait(bridge.id)
    await centre.settle()
    assert line.over


async def test_music_asked_for_while_the_caller_is_aside_is_the_workers(centre):
    line, _ = await centre.talks()
    await centre.presses(line)
    bridge = (await centre.call(line)).bridge
    await centre.rig.server.guard.bridges.wait(bridge.id)
    await centre.settle()
    assert isinstance(line.waiting, Asked)
    assert (await centre.call(line)).bridge == bridge


@pytest.mark.parametrize("ends", [True, False])
async def test_the_caller_hangs_up_aside(centre, ends):
    """The worker hears the room again, or it ends as it would have: his leg is TaskRouter's to end, but there."""
    line, worker = await centre.talks(ends_with_customer=ends)
    await centre.presses(line)
    with structlog.testing.capture_logs() as lines:
        await line.hang_up()
        await centre.settle()
    assert [one for one in lines if one["log_level"] == "error"] == []
    assert worker.over is ends
    (room,) = centre.rooms
    assert centre.inside(room) == ([] if ends else [("worker", False, True)])
    assert await centre.beside(line) == Beside(ready=False, apart=False, last="hung_up")
    assert await centre.presses(line) is Denied.ENDED


async def test_a_caller_who_hangs_up_in_the_room_leaves_the_worker_to_taskrouter(centre):
    line, worker = await centre.talks()
    await centre.presses(line)
    await line.press(PIN)
    await centre.settle()
    await line.hang_up()
    await centre.settle()
    assert not worker.over


@pytest.mark.parametrize("ends", [True, False])
async def test_a_caller_who_cannot_be_led_aside_stays_as_he_was(centre, ends):
    """Three tries; then the room ends with him as before, if it did, and the agent reads that nobody asked him."""
    line, _ = await centre.talks(ends_with_customer=ends)
    room = centre.rooms[0]
    for _ in range(3):
        centre.rig.calls.fail_next(503, 20503)
    assert isinstance(await centre.presses(line), Call)
    assert isinstance(line.waiting, Bridged)
    assert centre.inside(room) == [("worker", False, True), ("customer", False, ends)]
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="not_reached")
    assert isinstance(await centre.presses(line), Call)
    await line.press(PIN)
    await centre.settle()
    assert (await centre.beside(line)).last == "verified"


async def test_one_who_could_not_be_led_aside_the_second_time_leaves_the_room_by_its_door(centre):
    """Where he goes then stands in the document that led him in the first time."""
    line, worker = await centre.talks()
    await centre.presses(line)
    await line.press(PIN)
    await centre.settle()
    for _ in range(3):
        centre.rig.calls.fail_next(503, 20503)
    await centre.presses(line)
    await worker.hang_up()
    await centre.settle()
    assert line.over
    assert len(centre.rooms) == 1
    assert await centre.events("bridge_over") == ["completed"]


async def test_a_node_that_dies_while_it_leads_him_aside_leaves_a_safe_state(centre, monkeypatch):
    """He is with his worker, in a room that ends with him again."""
    line, _ = await centre.talks(ends_with_customer=True)
    with monkeypatch.context() as patched:

        async def dies(self, call, _nonce):
            bridge = call.bridge
            await self._insist(
                lambda it: it.ends_room(
                    call.account_sid, bridge.conference, call.sid, ends=False, deadline_s=5
                )
            )

        patched.setattr(conference.Bridges, "_lead_aside", dies)
        await centre.presses(line)
    assert centre.inside(centre.rooms[0])[1] == ("customer", False, False)
    centre.rig.clock.advance(LEAD_MS / 1000)
    assert (
        await centre.presses(line) is Denied.ASIDE
    )  # whoever does anything with the call next puts it right
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="not_reached")
    assert centre.inside(centre.rooms[0])[1] == ("customer", False, True)


# ── what TaskRouter says ─────────────────────────────────────────────────────────────────────────────────


async def test_who_waits_in_the_queue_still_is_not_joined(centre):
    """A token redeemed before the worker took the call: there is no room yet."""
    line = await centre.waits()
    status, _ = await centre.rig.redeem(centre.key, token_in(line), line.call_sid)
    assert status == 201
    assert await centre.presses(line) is Denied.NOT_JOINED
    assert await centre.events("authn_aside_denied") == ["not_joined"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"call_sid": "CA" + "0" * 32},
        {"conference": {}},
        {"conference": {"sid": "CF" + "0" * 32, "participants": {"worker": "CA" + "1" * 32}}},
        {"conference": {"sid": "nonsense", "participants": {"worker": "CA" + "1" * 32}}},
        {"conference": {"sid": "CF" + "0" * 32, "participants": None}},
    ],
)
async def test_a_task_that_names_no_room_with_this_caller_in_it_counts_for_nothing(centre, attributes):
    """Attributes can be written by others than TaskRouter: the caller's leg must be found in the room."""
    line, _ = await centre.talks()
    centre.rig.tasks.tasks[0].attributes |= attributes
    assert await centre.presses(line) is Denied.NOT_JOINED
    assert isinstance(line.waiting, Bridged)


async def test_another_callers_room_is_not_found_by_a_task_that_names_it(centre):
    line, _ = await centre.talks()
    other, _ = await centre.talks()
    first, second = centre.rig.tasks.tasks
    second.attributes["conference"] = first.attributes["conference"]
    assert await centre.presses(other) is Denied.NOT_JOINED
    assert isinstance(line.waiting, Bridged)


async def test_of_two_tasks_that_one_counts_which_a_worker_has(centre):
    """A transfer makes a task of its own, and the first one is over."""
    line, _ = await centre.talks()
    old = replace(centre.rig.tasks.tasks[0], sid="WT" + "0" * 32, status="completed")
    old.attributes = {
        **old.attributes,
        "conference": {"sid": "CF" + "2" * 32, "participants": {"worker": "CA" + "3" * 32}},
    }
    centre.rig.tasks.tasks.append(old)
    assert isinstance(await centre.presses(line), Call)


@pytest.mark.parametrize(("status", "code"), [(500, 20500), (429, 20429), (401, 20003)])
async def test_taskrouter_that_does_not_answer_changes_nothing(centre, status, code):
    line, _ = await centre.talks()
    centre.rig.tasks.fail_next(status, code)
    assert await centre.presses(line) is Denied.UNAVAILABLE
    assert isinstance(line.waiting, Bridged)
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="")
    assert isinstance(await centre.presses(line), Call)


async def test_a_fault_of_the_room_is_no_room_that_is_not_there(centre):
    """Only what is over counts as over."""
    line, _ = await centre.talks()
    centre.rig.calls.fail_next(503, 20503)
    centre.rig.conferences.fail_next(503, 20503)
    assert await centre.presses(line) is Denied.UNAVAILABLE


async def test_the_button_pressed_twice_leads_him_aside_once(centre):
    line, _ = await centre.talks()
    assert isinstance(await centre.presses(line), Call)
    assert await centre.presses(line) is Denied.ASIDE
    assert await centre.events("authn_aside") == ["asked"]


async def test_a_button_pressed_many_times_at_once_asks_taskrouter_once(centre):
    """What the provider is asked at once is bounded, and shared with every bridge: no agent may use it up."""
    line, _ = await centre.talks()
    tasks, bridges = centre.rig.tasks, centre.rig.server.guard.bridges
    before, tasks.hold = tasks.asked, asyncio.Event()
    pressed = [asyncio.create_task(bridges.aside(ANN, line.call_sid, "pin")) for _ in range(9)]
    refused = [await one for one in itertools.islice(asyncio.as_completed(pressed), 8)]
    assert refused == [Denied.UNAVAILABLE] * 8
    tasks.hold.set()
    assert sum([isinstance(await one, Call) for one in pressed]) == 1
    assert tasks.asked == before + 1


async def test_two_nodes_at_once_lead_him_aside_once(centre):
    line, _ = await centre.talks()
    other = Guard(replace(centre.rig.server.world, node="another"))
    nodes = (centre.rig.server.guard.bridges, other.bridges)
    begun = await asyncio.gather(*(node.aside(ANN, line.call_sid, "pin") for node in nodes))
    await other.drain()
    await centre.settle()
    assert sorted(isinstance(one, Call) for one in begun) == [False, True]
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)


async def test_webhooks_that_come_twice_at_the_same_moment_are_one(centre):
    line, _ = await centre.talks()
    line.send_twice = True
    await centre.presses(line)
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert await centre.events("authn_aside_over") == ["right"]


async def test_whoever_does_not_hold_the_call_is_told_nothing_and_nobody_is_asked(centre):
    line, _ = await centre.talks()
    asked = centre.rig.tasks.asked
    assert await centre.presses(line, agent=BOB) is None
    assert centre.rig.tasks.asked == asked


async def test_a_flow_without_a_workspace_asks_nobody(start):
    async with start(flow={"workspace": ""}) as centre:
        line, _ = await centre.talks()
        assert await centre.beside(line) is None
        assert await centre.presses(line) is Denied.NOT_BRIDGED
        assert centre.rig.tasks.asked == 0


async def test_without_an_account_for_rest_nobody_is_asked(start):
    async with start(conferences=None) as centre:
        line, _ = await centre.talks()
        assert await centre.presses(line) is Denied.NOT_BRIDGED


async def test_the_worker_hears_the_flows_music(start):
    async with start(flow={"hold_music": "https://guard.example/music.mp3"}) as centre:
        line, worker = await centre.talks()
        await centre.presses(line)
        assert any(isinstance(each, Played) for each in worker.heard)


async def test_what_is_keyed_aside_is_nowhere_but_in_its_own_webhook(start):
    """Canaries: a right PIN and a wrong one, keyed blind."""
    canaries = (PIN, "71717171")
    with structlog.testing.capture_logs() as lines:
        async with start() as centre:
            line, worker = await centre.talks()
            for keys in ("71717171", PIN):
                await centre.presses(line)
                await line.press(keys)
                while isinstance(line.waiting, Asked):
                    await line.silent()
                await centre.settle()
            kept = [
                stores.encode(Key(kind, one.id), one.value)
                for kind in stores.TYPES
                for one in await centre.rig.store.list(kind, limit=1_000)
            ]
            entries = [one.entry for one in await centre.rig.store.entries()]
            tasks = [task.attributes for task in centre.rig.tasks.tasks]
            others = [(one.url, one.params, one.body) for one in worker.requests]
    seen_ = repr((lines, kept, entries, tasks, others))
    assert len(kept) > 5
    assert [canary for canary in canaries if canary in seen_] == []


# ── the worker who is not where he was ───────────────────────────────────────────────────────────────────


async def _colleague(centre, line: Line) -> Line:
    """Somebody else whom TaskRouter or Flex has put into the room, as for a warm transfer."""
    way = f"<Response><Dial><Conference>{centre.rooms[0].name}</Conference></Dial></Response>"
    other = centre.rig.calls.place({"To": "client:carl", "From": line.to}, Course(document=way))
    await centre.settle()
    return other


async def _leaves(centre, worker: Line) -> None:
    """A worker leaves, and the room does not end with him: Flex sees to that for a transfer."""
    centre.rooms[0].find(worker.call_sid).ends = False
    await worker.hang_up()
    await centre.settle()


async def test_a_worker_who_left_the_room_to_a_colleague_meanwhile_ends_nobodys_call(centre):
    """The room is not over: the caller is back in it, with the other one, and can be led aside again once the task says so."""
    line, worker = await centre.talks()
    other = await _colleague(centre, line)
    await centre.presses(line)
    await _leaves(centre, worker)
    await line.press(PIN)
    await centre.settle()
    (room,) = centre.rooms
    assert isinstance(line.waiting, Bridged)
    assert {one.line for one in room.participants} == {line, other}
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="verified")
    centre.rig.tasks.tasks[0].attributes["conference"]["participants"]["worker"] = other.call_sid
    assert isinstance(await centre.presses(line), Call)
    assert room.find(other.call_sid).hold


async def test_a_worker_whom_the_task_names_and_who_is_not_in_the_room_counts_for_nothing(centre):
    """Nobody would hear music, and nobody could be given back."""
    line, worker = await centre.talks()
    await _colleague(centre, line)
    await _leaves(centre, worker)
    assert await centre.presses(line) is Denied.NOT_JOINED
    assert isinstance(line.waiting, Bridged)


async def test_whether_the_room_is_over_is_asked_again_when_it_was_not_told(centre, monkeypatch):
    """A fault is no answer: the caller waits in a room of his own, and his own music has it done by who is asked for it next."""
    line, worker = await centre.talks()
    await centre.presses(line)
    await worker.hang_up()
    behind = centre.rig.server.world.conferences.behind

    async def down(*_: object, **__: object) -> bool:
        raise NotifyFault("down", why="outage")

    with monkeypatch.context() as patched:
        patched.setattr(behind, "room_runs", down)
        await line.press(PIN)
        await centre.settle()
    assert isinstance(line.waiting, Bridged)
    centre.rig.clock.advance(CLAIM_MS / 1000)
    await centre.rig.server.guard.bridges.wait((await centre.call(line)).bridge.id)
    await centre.settle()
    assert line.over


async def test_a_worker_who_could_not_be_let_hear_the_room_is_when_his_music_is_asked_for(
    centre, monkeypatch
):
    """A fault is no answer, and says nothing of the room."""
    line, worker = await centre.talks()
    await centre.presses(line)
    behind = centre.rig.server.world.conferences.behind

    async def down(*_: object, **__: object) -> None:
        raise NotifyFault("down", why="outage")

    with monkeypatch.context() as patched:
        patched.setattr(behind, "unhold", down)
        await line.press(PIN)
        await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert centre.rooms[0].find(worker.call_sid).hold
    centre.rig.clock.advance(CLAIM_MS / 1000)
    await centre.rig.server.guard.bridges.wait((await centre.call(line)).bridge.id)
    await centre.settle()
    assert not centre.rooms[0].find(worker.call_sid).hold


async def test_music_comes_to_an_end_and_is_asked_for_again_whoever_hears_it(start):
    """Without music of the flow's too: by that alone a node that died is made good, and a caller alone in a room found."""
    async with start(flow={"hold_music": ""}) as centre:
        line, worker = await centre.talks()
        bridge = (await centre.call(line)).bridge
        assert bridge is None
        await centre.presses(line)
        asked = [request.url for request in worker.requests if request.purpose == "wait"]
        bridge = (await centre.call(line)).bridge
        assert len(asked) == 1
        assert asked[0].endswith(f"/.ivrguard/call/wait/{bridge.id}")
        heard = await centre.rig.server.guard.bridges.wait(bridge.id)
        assert b"<Play>" in heard
        assert b"Redirect" not in heard


async def test_a_node_that_dies_after_it_put_music_on_leaves_nobody_with_it(centre, monkeypatch):
    """Nothing says that the worker hears it; that it is asked for, with the caller back, does."""
    line, worker = await centre.talks()
    with monkeypatch.context() as patched:
        amend = conference.Bridges._amend

        async def dies(self, sid, bridge_id, change):
            if change(replace((await centre.call(line)).bridge), 0).holding:
                raise asyncio.CancelledError
            return await amend(self, sid, bridge_id, change)

        patched.setattr(conference.Bridges, "_amend", dies)
        await centre.presses(line)
    assert centre.rooms[0].find(worker.call_sid).hold
    await line.press(PIN)
    await centre.settle()
    await centre.rig.server.guard.bridges.wait((await centre.call(line)).bridge.id)
    await centre.settle()
    assert not centre.rooms[0].find(worker.call_sid).hold
    assert (await centre.beside(line)).last == "verified"
