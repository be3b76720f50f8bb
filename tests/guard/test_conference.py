"""
Transfers that the guard bridges itself, told as conversations: a caller, an agent who is dialled over REST, an IVR.

Everything is real but the provider's network: the server on a socket, the store, the hashes, Twilio's own client for our side
of REST, and a pretend Twilio (ivrguard/phone) that carries out what both are told. Pauses between tries are not waited for.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import structlog
from aiohttp import web

from ivrguard import flowfile
from ivrguard.core.agents import Agent
from ivrguard.core.aside import Denied
from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call
from ivrguard.core.conference import CLAIM_MS, LEAD_MS, Beside, Stage, beside
from ivrguard.core.errors import StoreFault
from ivrguard.core.flow import Recording
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.core.standing import Status
from ivrguard.factors import pin
from ivrguard.guard import Guard, books, conference
from ivrguard.guard.held import held, seen
from ivrguard.phone.heard import AgentBehaviour, Asked, Bridged, HungUp, Played, Said
from ivrguard.phone.rig import ACCOUNT_SID, PUBLIC_URL, Rig, rig
from ivrguard.ports import Account, Credential, Key
from ivrguard.stores import codec as stores
from ivrguard.telephony import delivery as deliveries
from ivrguard.telephony.bridging import RoomEvent

CALLER, AGENT, OTHER = "+15551230001", "+18005550142", "+18005550143"
ACCOUNT, PIN, WRONG = "123456", "24681357", "90909090"
MENU = '<Gather action="/menu" numDigits="1"><Say>Menu.</Say></Gather>'
DESK = Agent("desk-1", queues=("*",), desk=True)


@dataclass
class Ivr:
    """`documents`: path -> what stands inside `<Response>`. `got`: path and parameters of each request, in order."""

    documents: dict[str, str] = field(default_factory=dict)
    got: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def app(self, _: str) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        text = (await request.read()).decode() if request.method == "POST" else request.query_string
        self.got.append((request.path, dict(parse_qsl(text, keep_blank_values=True))))
        if request.path not in self.documents:
            return web.Response(status=404)
        return web.Response(
            text=f"<Response>{self.documents[request.path]}</Response>", content_type="text/xml"
        )

    def dialled(self) -> list[dict[str, str]]:
        """What the action of the Dial was told, each time."""
        names = ("CallStatus", "DialCallStatus", "DialBridged", "DialCallSid", "DialCallDuration")
        return [
            {name: one[name] for name in names if name in one} for path, one in self.got if path == "/dialled"
        ]


@dataclass
class Centre:
    """A rig with an account in it, and what a test looks at. `pauses`: those between tries, in seconds."""

    rig: Rig
    ivr: Ivr
    pauses: list[float]
    key: str = ""

    async def settle(self) -> None:
        """Everything that was begun is done: errands of the guard, moves of the provider."""
        guard = self.rig.server.guard
        while guard._background._running or self.rig.calls._moving:
            await guard._background.drain()
            await self.rig.calls.settled()

    async def calls(self, from_: str = CALLER):
        """A caller who has proved his account and his PIN, and was transferred: he is in the room, or wherever that led him."""
        line = self.rig.call(from_)
        await line.until_input()
        await line.press(f"{ACCOUNT}#")
        await line.press(PIN)
        await self.settle()
        return line

    async def talks(self):
        """The same, joined with an agent who has redeemed his token: both lines."""
        line = await self.calls()
        agent = self.agents()[-1]
        await self.redeems(line, agent)
        return line, agent

    def agents(self):
        """Every leg that the guard dialled."""
        return [line for line in self.rig.calls.lines.values() if line.direction == "outbound-api"]

    async def redeems(self, line, agent) -> None:
        status, _ = await self.rig.redeem(self.key, code_of(agent), line.call_sid)
        assert status == 201

    async def presses(self, line, factor: str = "", agent: Agent = DESK):
        """The agent presses the button."""
        begun = await self.rig.server.guard.bridges.aside(agent, line.call_sid, factor)
        await self.settle()
        return begun

    async def call(self, line) -> Call:
        call = await self.rig.store.read(books.call_key(line.call_sid))
        assert call is not None
        return call

    async def standing(self, line):
        found = await held(self.rig.server.world, DESK, line.call_sid)
        assert found is not None
        return await seen(self.rig.server.world, found)

    async def beside(self, line):
        call = await self.call(line)
        return beside(self.rig.flow, call.bridge, ("number:*",), over=call.ended_ms is not None)

    async def events(self, event: str) -> list[str]:
        return [one.entry.reason for one in await self.rig.store.entries() if one.entry.event == event]

    @property
    def api(self):
        """The REST API of live calls: where faults are planted."""
        return self.rig.calls


def code_of(agent) -> str:
    """The code that was whispered."""
    said = next(
        each.text for each in agent.heard if isinstance(each, Said) and sum(map(str.isdigit, each.text)) >= 8
    )
    return "".join(filter(str.isdigit, said))


async def nothing(*_) -> bytes:
    return b"<Response/>"


def said(line) -> str:
    return " ".join(each.text for each in line.heard if isinstance(each, Said))


def dial(
    noun: str = f"<Number>{AGENT}</Number>", attributes: str = 'action="/dialled"', then: str = ""
) -> str:
    return f"<Dial {attributes}>{noun}</Dial>{then}"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real argon2 with small parameters: what a hash costs is tests/factors/test_pin.py's business."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture(scope="session")
def bridging():
    """The bank's flow, whose transfers to one phone, client or SIP address are bridged; one path wants two factors."""
    flow = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]
    bridged = Demand("one_factor", intent="agent", bridge=True)
    rules = tuple(Rule(bridged, transfer=Target(kind, "*")) for kind in ("number", "client", "sip"))
    return replace(
        flow,
        rules=(*rules, Rule(Demand("two_factor"), path="/protected")),
        default=Demand(None),
        recording=Recording.IGNORE,
        hold_music="",
    )


@pytest.fixture
def start(bridging):
    """Starts a centre: `flow`: other parts of it; the rest are fields of `Parts`."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def started(flow=None, **extra: object) -> AsyncIterator[Centre]:
        ivr, pauses = Ivr({"/voice": dial(), "/dialled": MENU}), []

        async def wait(seconds: float) -> None:
            pauses.append(seconds)

        changed = replace(bridging, **(flow or {}))
        async with rig(changed, ivr.app, extra={"wait": wait, **extra}) as running:
            running.exchange.number(AGENT, f"{PUBLIC_URL}/")
            await running.enrol(
                Account(ACCOUNT, (CALLER,), (Credential(Kind.SMS_CODE, number=CALLER),)), pin=PIN
            )
            centre = Centre(running, ivr, pauses)
            centre.key = await running.desk(DESK.name, "*")
            yield centre
            await centre.settle()

    return started


@pytest.fixture
async def centre(start) -> AsyncIterator[Centre]:
    async with start() as made:
        yield made


# ── the room ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_caller_and_agent_meet_in_a_room_that_only_the_guard_knows(centre):
    """The agent hears his code before he enters; nothing but the guard's documents leads there; each part is on record."""
    line, agent = await centre.talks()
    assert isinstance(line.waiting, Bridged)
    assert isinstance(agent.waiting, Bridged)
    (room,) = centre.rig.conferences.rooms
    assert (room.status, len(room.name)) == ("in-progress", 32)
    assert {one.line.call_sid: (one.label, one.ends) for one in room.participants} == {
        line.call_sid: ("caller", False),
        agent.call_sid: ("agent", True),
    }
    assert (agent.from_, agent.to) == (CALLER, AGENT)
    assert [await centre.events(f"bridge_{one}") for one in ("opened", "joined", "over")] == [
        ["granted"],
        ["answered"],
        [],
    ]
    assert (await centre.call(line)).bridge.stage is Stage.TALKING
    assert centre.ivr.got == [centre.ivr.got[0]]  # the IVR was asked for one document, and hears of no more


async def test_the_agent_hangs_up_and_the_ivr_hears_what_its_dial_would_have_told_it(centre):
    line, agent = await centre.talks()
    await agent.hang_up()
    await centre.settle()
    (told,) = centre.ivr.dialled()
    duration = told.pop("DialCallDuration")
    assert duration.isdecimal()
    assert told == {
        "CallStatus": "in-progress",
        "DialCallStatus": "completed",
        "DialBridged": "true",
        "DialCallSid": agent.call_sid,
    }
    assert isinstance(line.waiting, Asked)
    assert "Menu." in said(line)
    assert await centre.events("bridge_over") == ["completed"]


async def test_the_caller_hangs_up_and_so_does_the_agents_leg(centre):
    line, agent = await centre.talks()
    await line.hang_up()
    await centre.settle()
    assert agent.over
    (told,) = centre.ivr.dialled()
    assert (told["CallStatus"], told["DialCallStatus"], told["DialBridged"]) == (
        "completed",
        "completed",
        "true",
    )
    assert [await centre.events(one) for one in ("bridge_over", "session_ended")] == [
        ["completed"],
        ["completed"],
    ]


@pytest.mark.parametrize("action", [True, False])
async def test_an_agent_who_does_not_come_is_given_back_to_the_ivr(centre, action):
    """To the action of its Dial; without one, to what follows the Dial."""
    if not action:
        centre.ivr.documents["/voice"] = dial(attributes="", then=MENU)
    for nth, does in enumerate(("busy", "no-answer", "failed"), 1):
        centre.rig.exchange.agents[AGENT] = AgentBehaviour(does)
        line = await centre.calls()
        agent = centre.agents()[-1]
        told = {"CallStatus": "in-progress", "DialCallStatus": does, "DialBridged": "false"}
        assert centre.ivr.dialled()[nth - 1 :] == (
            [{**told, "DialCallSid": agent.call_sid}] if action else []
        )
        assert isinstance(line.waiting, Asked)
        assert "Menu." in said(line)
    assert await centre.events("bridge_over") == ["busy", "no-answer", "failed"]


async def test_what_follows_a_dial_without_an_action_is_the_end_where_nothing_follows(centre):
    centre.ivr.documents["/voice"] = dial(attributes="")
    line, agent = await centre.talks()
    await agent.hang_up()
    await centre.settle()
    assert line.heard[-1] == HungUp("document")


async def test_the_action_is_a_request_like_any_other_to_the_rules(centre):
    """An agent who hangs up leads nobody past a rule: the caller is asked for his second factor first."""
    centre.ivr.documents["/voice"] = dial(attributes='action="/protected"')
    centre.ivr.documents["/protected"] = MENU
    line, agent = await centre.talks()
    await agent.hang_up()
    await centre.settle()
    assert "/protected" not in [path for path, _ in centre.ivr.got]
    await line.press(centre.rig.carrier.code_for(CALLER))
    await centre.settle()
    assert ("completed", "true") in [
        (one.get("DialCallStatus"), one.get("DialBridged"))
        for path, one in centre.ivr.got
        if path == "/protected"
    ]


@pytest.mark.parametrize(
    ("noun", "dialled"),
    [
        (
            f"<Client><Identity>{'ann'}</Identity><Parameter name='case' value='7'/></Client>",
            "client:ann?case=7&ivrguard_token=",
        ),
        ("<Client>ann</Client>", "client:ann?ivrguard_token="),
        ("<Sip username='u' password='p'>sip:ann@pbx.example</Sip>", "sip:ann@pbx.example?X-Ivrguard-Token="),
    ],
)
async def test_a_client_and_a_sip_phone_carry_the_token_themselves(centre, noun, dialled):
    """They enter the room at once, as nobody has to tell them anything first."""
    centre.ivr.documents["/voice"] = dial(noun)
    line = await centre.calls()
    (agent,) = centre.agents()
    assert agent.to.startswith(dialled)
    assert (await centre.call(line)).bridge.stage is Stage.TALKING
    status, _ = await centre.rig.redeem(centre.key, agent.to.rpartition("=")[2], line.call_sid)
    assert status == 201
    await agent.hang_up()
    await centre.settle()
    assert [one["DialBridged"] for one in centre.ivr.dialled()] == ["true"]


async def test_a_sip_address_that_no_token_fits_into_is_refused(centre):
    centre.ivr.documents["/voice"] = dial(f"<Sip>sip:{'a' * 230}@pbx.example</Sip>")
    line = await centre.calls()
    assert (line.over, centre.agents()) == (True, [])


async def test_a_whisper_of_the_ivrs_own_comes_after_the_code(centre):
    """Its keys work, what it leads to is heard too, and who hangs up in it was never joined."""
    centre.ivr.documents |= {
        "/voice": dial(f'<Number url="/accept">{AGENT}</Number>'),
        "/accept": '<Gather action="/accepted" numDigits="1"><Say>Press one.</Say></Gather><Hangup/>',
        "/accepted": "<Say>Joined.</Say>",
    }
    line = await centre.calls()
    (agent,) = centre.agents()
    await agent.press("1")
    await centre.settle()
    assert said(agent).endswith("Press one. Joined.")
    assert isinstance(agent.waiting, Bridged)
    assert (await centre.call(line)).bridge.stage is Stage.TALKING

    other = await centre.calls()
    await centre.agents()[-1].silent()
    await centre.settle()
    assert centre.ivr.dialled()[-1]["DialBridged"] == "false"
    assert centre.ivr.dialled()[-1]["DialCallStatus"] == "completed"
    assert isinstance(other.waiting, Asked)


@pytest.mark.parametrize(
    "noun",
    [
        f"<Number>{AGENT}</Number><Number>{OTHER}</Number>",
        f'<Number statusCallback="/told">{AGENT}</Number>',
        "<Client>ann</Client><Client>bob</Client>",
    ],
)
async def test_what_the_guard_cannot_carry_out_whole_stays_an_ordinary_transfer(centre, noun):
    """With its token: nobody waits in a room, and there is nobody to be led aside."""
    centre.ivr.documents["/voice"] = dial(noun)
    line = await centre.calls()
    assert isinstance(line.waiting, Bridged)
    assert (centre.agents(), centre.rig.conferences.rooms) == ([], [])
    assert await centre.beside(line) is None


async def test_without_an_account_for_rest_it_stays_an_ordinary_transfer(start):
    async with start(conferences=None) as centre:
        line = await centre.calls()
        assert isinstance(line.waiting, Bridged)
        assert (await centre.call(line)).bridge is None


async def test_the_dials_own_caller_id_and_times_are_kept(centre):
    centre.ivr.documents["/voice"] = dial(
        attributes=f'callerId="{OTHER}" timeout="7" timeLimit="600" hangupOnStar="true" record="record-from-answer"'
    )
    centre.rig.exchange.number(OTHER, f"{PUBLIC_URL}/")
    line = await centre.calls()
    (agent,) = centre.agents()
    assert agent.from_ == OTHER
    room_of_caller = (
        line.requests[-2].body if "Conference" in line.requests[-2].body else line.requests[-1].body
    )
    for wanted in ('timeLimit="600"', 'hangupOnStar="true"', 'record="record-from-start"'):
        assert wanted in room_of_caller


async def test_a_caller_without_a_number_is_shown_as_the_number_he_dialled(centre):
    line = await centre.calls("anonymous")
    (agent,) = centre.agents()
    assert agent.from_ == line.to


async def test_the_music_is_the_flows_or_twilios(start):
    """Asking for it is also how the guard hears that somebody waits, so that what is due is done by whichever node is asked."""
    async with start(flow={"hold_music": f"{PUBLIC_URL}/music.mp3"}) as centre:
        line = await centre.calls()
        assert Played(f"{PUBLIC_URL}/music.mp3") in line.heard
    async with start() as centre:
        line = await centre.calls()
        assert (
            next(one.body for one in line.requests if one.purpose == "wait").count(conference.MUSIC_URL) == 1
        )


async def test_music_for_a_room_that_was_never_there_is_twilios(centre):
    assert conference.MUSIC_URL.encode() in await centre.rig.server.guard.bridges.wait("0" * 32)


# ── when the provider fails ──────────────────────────────────────────────────────────────────────────────


async def test_an_agent_is_dialled_again_until_the_provider_takes_it(centre):
    """Within bounds, with pauses that grow and that chance spreads."""
    centre.api.fail_next(429, 20429)
    centre.api.fail_next(500, 0)
    line = await centre.calls()
    assert len(centre.agents()) == 1
    assert isinstance(line.waiting, Bridged)
    first, second = centre.pauses
    assert 0.25 <= first <= 0.75
    assert 0.5 <= second <= 1.5


async def test_an_agent_who_cannot_be_dialled_at_all_has_failed(centre):
    failed = {"CallStatus": "in-progress", "DialCallStatus": "failed", "DialBridged": "false"}
    for nth, faults in enumerate(([(500, 0)] * 3, [(429, 20429)] * 3, [(400, 21210)], [(401, 20003)]), 1):
        for status, code in faults:
            centre.api.fail_next(status, code)
        line = await centre.calls()
        assert centre.ivr.dialled() == [failed] * nth
        assert isinstance(line.waiting, Asked)


async def test_a_second_leg_that_nobody_knew_of_is_ended_when_it_is_heard_of(centre, monkeypatch):
    """The provider took the first request and its answer was lost: the one that is heard of first is the agent."""
    behind = centre.rig.server.world.conferences.behind
    invite, calls = behind.invite, []

    async def losing(*args: object, **named: object) -> str:
        sid = await invite(*args, **named)
        calls.append(sid)
        if len(calls) == 1:
            raise conference.NotifyFault("lost", why="timeout")
        return sid

    monkeypatch.setattr(behind, "invite", losing)
    line = await centre.calls()
    first, second = centre.agents()
    bridge = (await centre.call(line)).bridge
    kept, other = (first, second) if bridge.agent == first.call_sid else (second, first)
    assert (kept.over, other.over) == (False, True)
    assert bridge.stage is Stage.TALKING


async def test_callbacks_that_come_twice_change_nothing(centre):
    line, agent = await centre.talks()
    before = await centre.call(line)
    for request in (*agent.requests, *centre.rig.conferences.requests):
        if request.purpose == "callback":
            await (agent._wire if request in agent.requests else centre.rig.conferences._wire).repeat(request)
    await centre.settle()
    assert (await centre.call(line)).bridge == before.bridge
    assert len(centre.agents()) == 1


async def test_who_claimed_it_and_died_leaves_it_to_the_next_who_looks(centre, monkeypatch):
    """The node that was to dial is gone: the music's next round, on any node, finds what is left undone."""
    bridges = centre.rig.server.guard.bridges

    async def dies(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(conference.Bridges, "_dial", dies)
        line = await centre.calls()
    bridge = (await centre.call(line)).bridge
    assert (bridge.stage, centre.agents()) == (Stage.RINGING, [])
    centre.rig.clock.advance(bridge.ring_s + 60 + CLAIM_MS / 1000)
    await bridges.wait(bridge.id)
    await centre.settle()
    assert centre.ivr.dialled() == [
        {"CallStatus": "in-progress", "DialCallStatus": "no-answer", "DialBridged": "false"}
    ]


async def test_strangers_at_the_agents_doors_hear_nothing(centre):
    """A leg of another account or direction, another call's agent, a bridge that is over: hung up on, nothing changed."""
    line, agent = await centre.talks()
    bridge, bridges = (await centre.call(line)).bridge, centre.rig.server.guard.bridges
    params = dict(agent.requests[0].params)

    def delivery(**changed: str):
        return deliveries.read(tuple({**params, **changed}.items()))

    strange = (
        delivery(CallSid="CA" + "9" * 32),
        delivery(Direction="inbound"),
        delivery(AccountSid="AC" + "9" * 32),
    )
    for one in strange:
        for door in (bridges.agent, bridges.join):
            assert b"<Hangup/>" in await door(bridge.id, one)
        await bridges.leg(bridge.id, one)
    assert b"<Hangup/>" in await bridges.join("0" * 32, delivery())
    await bridges.leg("0" * 32, delivery())
    assert (await centre.call(line)).bridge == bridge


async def test_a_client_with_a_whisper_of_the_ivrs_own_hears_that_alone(centre):
    """He carries his token in a parameter: there is no code to be told."""
    centre.ivr.documents |= {
        "/voice": dial('<Client url="/hello">ann</Client>'),
        "/hello": "<Say>Hello, Ann.</Say>",
    }
    await centre.calls()
    (agent,) = centre.agents()
    assert said(agent) == "Hello, Ann."
    assert isinstance(agent.waiting, Bridged)


async def test_a_caller_who_cannot_be_let_go_on_is_let_go_on_when_somebody_looks_again(centre):
    """The agent is busy and REST is down: he hears music until the next round of it finds what is left to be done."""
    centre.rig.exchange.agents[AGENT] = AgentBehaviour("busy")
    line = centre.rig.call(CALLER)
    for keys in (None, f"{ACCOUNT}#"):
        await (line.until_input() if keys is None else line.press(keys))
    behind = centre.rig.server.world.conferences.behind
    lead = behind.lead

    async def down(*_: object, **__: object) -> None:
        raise conference.NotifyFault("down", why="outage")

    behind.lead = down
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert not centre.ivr.dialled()
    behind.lead = lead
    bridge = (await centre.call(line)).bridge
    await centre.rig.server.guard.bridges.wait(bridge.id)
    await centre.settle()
    assert not centre.ivr.dialled()  # somebody may be at it still
    centre.rig.clock.advance(CLAIM_MS / 1000)
    await centre.rig.server.guard.bridges.wait(bridge.id)
    await centre.settle()
    assert [one["DialCallStatus"] for one in centre.ivr.dialled()] == ["busy"]


async def test_what_is_said_of_other_rooms_legs_and_calls_changes_nothing(centre):
    line, agent = await centre.talks()
    before, bridges = await centre.call(line), centre.rig.server.guard.bridges
    bridge = before.bridge
    join = RoomEvent(ACCOUNT_SID, "participant-join", "CF" + "9" * 32, line.call_sid)
    await bridges.room("0" * 32, join)
    await bridges.room(bridge.id, replace(join, account_sid="AC" + "9" * 32))
    await bridges.room(bridge.id, replace(join, conference=""))
    assert await bridges._amend(line.call_sid, "0" * 32, lambda each, _: replace(each, holding=True)) is None
    await bridges._attend("CA" + "9" * 32)
    await bridges._unreached(line.call_sid, "0" * 32, "late")  # he was never led there
    await centre.settle()
    assert (await centre.call(line)).bridge == bridge
    assert (
        await bridges.call_of_agent(deliveries.read(agent.requests[0].params)) is None
    )  # no whisper of the IVR's


async def test_a_fault_ends_the_document_of_a_leg_and_tells_it_nothing(centre):
    """The store is down, say: the agent's leg ends, and the IVR hears that nobody came."""

    async def down() -> bytes:
        raise StoreFault("the store is down")

    answer = await centre.rig.server.guard.bridged(down(), "agent")
    assert (answer.outcome, b"<Response></Response>" in answer.body) == ("fault_store", True)


async def test_a_node_without_an_account_leaves_it_to_the_others(centre, monkeypatch):
    """Its account was taken out while the call went on: nothing is claimed to be done that is not."""
    line, _ = await centre.talks()
    bridges = centre.rig.server.guard.bridges
    monkeypatch.setattr(bridges, "_world", replace(bridges._world, conferences=None))
    await centre.presses(line, "pin")
    assert (await centre.beside(line)).last == "not_reached"


async def test_a_leg_that_the_provider_owns_up_to_late_is_ended(centre):
    """Another one was heard of first, and is the agent's."""
    line, agent = await centre.talks()
    call = await centre.call(line)
    other = replace(call.bridge, agent="")
    await centre.rig.server.guard.bridges._dial(call, other)
    await centre.settle()
    first, second = centre.agents()
    assert (first, first.over, second.over) == (agent, False, True)


async def test_a_button_pressed_while_the_call_goes_to_another_agent_does_nothing(centre, monkeypatch):
    """He held it when it was looked up, and no longer when it was decided."""
    line, _ = await centre.talks()
    found = await held(centre.rig.server.world, DESK, line.call_sid)

    async def stale(*_: object):
        return replace(found, call=replace(found.call, legs=(*found.call.legs, "0" * 32)))

    monkeypatch.setattr(conference, "asked_for", stale)
    assert await centre.presses(line, "pin") is None
    assert isinstance(line.waiting, Bridged)


async def test_nor_does_one_pressed_while_the_next_agent_takes_the_caller(centre, monkeypatch):
    """He had passed the caller on, and still held him when it was looked up: the next one came before it was decided."""
    line, _ = await centre.talks()
    guard = centre.rig.server.guard
    passed = await guard.pass_on(DESK, line.call_sid, request="1", to=Target("client", "bob"), intent="")
    bob = await guard.desk(await centre.rig.desk("bob", "client:bob"))
    look = conference.asked_for

    async def looked(*asked: object):
        found = await look(*asked)
        assert await guard.redeem(bob, passed.token, line.call_sid) is not None
        return found

    monkeypatch.setattr(conference, "asked_for", looked)
    assert await centre.presses(line, "pin") is None
    assert isinstance(line.waiting, Bridged)


# ── aside ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_caller_is_led_aside_keys_his_pin_and_comes_back_to_the_same_agent(centre):
    """The agent stays in the room with music; he sees yes, how and when, and never a digit."""
    line, agent = await centre.talks()
    (room,) = centre.rig.conferences.rooms
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="")

    begun = await centre.presses(line, "pin")
    assert isinstance(begun, Call)
    assert isinstance(line.waiting, Asked)
    assert room.find(line.call_sid) is None
    assert room.find(agent.call_sid).hold
    assert (await centre.standing(line)).status is Status.EVALUATING
    assert await centre.beside(line) == Beside(ready=False, apart=True, last="")

    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert room.find(line.call_sid) is not None
    assert (room.status, room.find(agent.call_sid).hold) == ("in-progress", False)
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="verified")
    assert [await centre.events(one) for one in ("authn_aside", "authn_aside_over")] == [["asked"], ["right"]]
    assert not centre.ivr.dialled()
    await agent.hang_up()
    await centre.settle()
    assert [one["DialCallStatus"] for one in centre.ivr.dialled()] == ["completed"]


async def test_what_was_proved_before_the_button_does_not_answer_it(centre):
    """A proof of a minute ago is not one that is made for this question."""
    line, _ = await centre.talks()
    before = (await centre.call(line)).proofs
    await centre.presses(line)
    assert isinstance(line.waiting, Asked)
    assert (await centre.call(line)).proofs == before


async def test_who_does_not_prove_it_comes_back_to_the_agent_as_not_verified(centre):
    """Wrong, silent, or keys of another form."""
    line, agent = await centre.talks()
    for each in (WRONG, "", "1"):
        await centre.presses(line, "pin")
        for _ in range(3):
            await (line.press(each) if each else line.silent())
        await centre.settle()
        assert isinstance(line.waiting, Bridged)
        assert isinstance(agent.waiting, Bridged)
        assert (await centre.beside(line)).last == "not_verified"


async def test_guesses_aside_are_guesses_and_a_locked_account_shows(centre):
    """However often the button is pressed: five wrong ones lock, the sixth is judged no more, right or not."""
    line, _ = await centre.talks()
    for _ in range(2):
        await centre.presses(line, "pin")
        for _ in range(3):
            await line.press(WRONG)
        await centre.settle()
    assert (await centre.standing(line)).status is Status.LOCKED
    await centre.presses(line, "pin")
    for _ in range(3):
        await line.press(PIN)
    await centre.settle()
    assert (await centre.beside(line)).last == "not_verified"
    assert isinstance(line.waiting, Bridged)
    counted = await centre.events("authn_attempt")
    assert counted.count("counted") == 1 + 5


async def test_another_factor_may_be_asked_for_by_name(centre):
    """A code goes to the number on file; its message says what for."""
    line, _ = await centre.talks()
    await centre.presses(line, "code")
    assert isinstance(line.waiting, Asked)
    await line.press(centre.rig.carrier.code_for(CALLER))
    await centre.settle()
    assert (await centre.beside(line)).last == "verified"
    assert {proof.factor for proof in (await centre.call(line)).proofs} == {"pin", "code"}


async def test_a_code_that_cannot_be_sent_is_nobodys_fault_and_no_proof(centre):
    line, _ = await centre.talks()
    centre.rig.carrier.fail_next(500, 0)
    await centre.presses(line, "code")
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert (await centre.beside(line)).last == "unavailable"


async def test_recordings_of_the_call_stand_still_while_he_keys(start):
    async with start(flow={"recording": Recording.MUST_PAUSE}) as centre:
        line, _ = await centre.talks()
        centre.rig.recordings.begin(line.call_sid)
        await centre.presses(line, "pin")
        assert not centre.rig.recordings.running(line.call_sid)
        await line.press(PIN)
        await centre.settle()
        assert centre.rig.recordings.running(line.call_sid)
        assert (await centre.call(line)).paused == ()


async def test_where_a_recording_must_pause_and_cannot_nobody_is_asked(start):
    async with start(flow={"recording": Recording.MUST_PAUSE}) as centre:
        line, _ = await centre.talks()
        centre.rig.recordings.begin(line.call_sid)
        centre.rig.recordings.fail_next(500, 0)
        await centre.presses(line, "pin")
        await centre.settle()
        assert isinstance(line.waiting, Bridged)
        assert (await centre.beside(line)).last == "unavailable"


async def test_music_for_the_agent_is_the_flows_too(start):
    async with start(flow={"hold_music": f"{PUBLIC_URL}/music.mp3"}) as centre:
        line, agent = await centre.talks()
        await centre.presses(line, "pin")
        assert Played(f"{PUBLIC_URL}/music.mp3") in agent.heard


async def test_the_caller_hangs_up_aside(centre):
    """The panel says so, the room ends, and the IVR is told as by its own Dial."""
    line, agent = await centre.talks()
    await centre.presses(line, "pin")
    await line.hang_up()
    await centre.settle()
    assert agent.over
    assert centre.rig.conferences.rooms[0].status == "completed"
    assert await centre.beside(line) == Beside(ready=False, apart=False, last="hung_up")
    assert (await centre.standing(line)).status is Status.ENDED
    assert await centre.events("authn_aside_over") == ["hung_up"]
    (told,) = centre.ivr.dialled()
    assert (told["CallStatus"], told["DialCallStatus"], told["DialBridged"]) == (
        "completed",
        "completed",
        "true",
    )


@pytest.mark.parametrize("action", ["", "/protected"])
async def test_a_hang_up_aside_tells_the_ivr_nothing_that_needs_a_proof(centre, action):
    """Nor is there anything to tell without an action."""
    centre.ivr.documents["/voice"] = dial(attributes=f'action="{action}"')
    line, _ = await centre.talks()
    await centre.presses(line, "pin")
    await line.hang_up()
    await centre.settle()
    assert [path for path, _ in centre.ivr.got] == ["/voice"]


async def test_the_agent_hangs_up_while_the_caller_is_aside(centre):
    """There is nobody to come back to: he goes on in the IVR, once he has answered or not."""
    line, agent = await centre.talks()
    await centre.presses(line, "pin")
    await agent.hang_up()
    await centre.settle()
    assert isinstance(line.waiting, Asked)
    await line.press(PIN)
    await centre.settle()
    (told,) = centre.ivr.dialled()
    assert (told["CallStatus"], told["DialCallStatus"], told["DialBridged"]) == (
        "in-progress",
        "completed",
        "true",
    )
    assert "Menu." in said(line)


@pytest.mark.parametrize("held", [True, False])
async def test_a_caller_who_comes_back_as_his_agent_hangs_up_is_left_in_no_empty_room(
    centre, monkeypatch, *, held
):
    """Whether the agent was to be taken off hold yet or not: nobody waits with music for somebody who is gone."""
    line, agent = await centre.talks()
    await centre.presses(line, "pin")
    with monkeypatch.context() as patched:
        patched.setattr(conference.Bridges, "leg", nothing)  # what tells of it is late
        await agent.hang_up()
        await centre.settle()
        if not held:
            patched.setattr(conference.Bridges, "attend", lambda *_: None)
            patched.setattr(conference.Bridges, "wait", nothing)
        await line.press(PIN)
        await centre.settle()
    if not held:
        assert isinstance(line.waiting, Bridged)
        bridge = (await centre.call(line)).bridge
        bridges = centre.rig.server.guard.bridges
        await bridges._amend(line.call_sid, bridge.id, lambda bridge, _: replace(bridge, holding=False))
        await bridges.wait(bridge.id)
        await centre.settle()
    (told,) = centre.ivr.dialled()
    assert (told["DialCallStatus"], told["DialBridged"]) == ("completed", "true")
    assert "Menu." in said(line)


async def test_a_caller_who_cannot_be_led_aside_stays_with_his_agent(centre):
    """Not verified, and said so; the button works again."""
    line, agent = await centre.talks()
    for faults in ([(500, 0)] * 3, [(429, 20429)] * 3, [(404, 20404)], [(400, 21220)]):
        for status, code in faults:
            centre.api.fail_next(status, code)
        await centre.presses(line, "pin")
        assert isinstance(line.waiting, Bridged)
        assert await centre.beside(line) == Beside(ready=True, apart=False, last="not_reached")
        assert not centre.rig.conferences.rooms[0].find(agent.call_sid).hold
    await centre.presses(line, "pin")
    await line.press(PIN)
    await centre.settle()
    assert (await centre.beside(line)).last == "verified"


async def test_a_slow_provider_is_given_up_and_a_caller_who_comes_all_the_same_is_sent_back(
    centre, monkeypatch
):
    """The answer to the request was lost and it took effect late: he finds no question, and his room again."""
    line, _ = await centre.talks()
    behind = centre.rig.server.world.conferences.behind
    led = []

    async def slow(account: str, call_sid: str, url: str, *, deadline_s: float) -> None:
        led.append(url)
        raise conference.NotifyFault("slow", why="timeout")

    with monkeypatch.context() as patched:
        patched.setattr(behind, "lead", slow)
        await centre.presses(line, "pin")
    assert len(led) == conference.TRIES_MAX
    assert (await centre.beside(line)).last == "not_reached"
    await behind.lead(ACCOUNT_SID, line.call_sid, led[0], deadline_s=3)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert centre.rig.conferences.rooms[0].find(line.call_sid) is not None
    assert not centre.ivr.dialled()


async def test_a_node_that_dies_while_it_leads_him_aside_leaves_a_safe_state(centre, monkeypatch):
    line, _ = await centre.talks()

    async def dies(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(conference.Bridges, "_lead_aside", dies)
        await centre.presses(line, "pin")
    assert (await centre.beside(line)).apart
    centre.rig.clock.advance(LEAD_MS / 1000)
    await centre.rig.server.guard.bridges.wait((await centre.call(line)).bridge.id)
    await centre.settle()
    assert await centre.beside(line) == Beside(ready=True, apart=False, last="not_reached")
    assert await centre.events("authn_aside_over") == ["late"]


async def test_music_that_cannot_be_put_on_keeps_nobody_from_being_asked(centre, monkeypatch):
    line, _ = await centre.talks()
    behind = centre.rig.server.world.conferences.behind

    async def refused(*_: object, **__: object) -> None:
        raise conference.NotifyFault("no", why="gone")

    monkeypatch.setattr(behind, "hold", refused)
    await centre.presses(line, "pin")
    await line.press(PIN)
    await centre.settle()
    assert (await centre.beside(line)).last == "verified"


# ── once ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_button_pressed_twice_leads_him_aside_once(centre):
    """By one agent or by two, one after the other or at once."""
    line, _ = await centre.talks()
    bridges = centre.rig.server.guard.bridges
    both = await asyncio.gather(*(bridges.aside(DESK, line.call_sid, "pin") for _ in range(2)))
    await centre.settle()
    assert sorted(map(type, both), key=str) == sorted((Call, Denied), key=str)
    assert await centre.presses(line, "pin") is Denied.ASIDE
    assert await centre.events("authn_aside") == ["asked"]
    assert await centre.events("authn_aside_denied") == ["aside", "aside"]
    led = [
        request
        for request in line.requests
        if request.purpose == "document" and "/.ivrguard/call/" in request.url
    ]
    assert len({request.url for request in led}) == len(led)


async def test_whoever_does_not_hold_the_call_gets_the_answer_for_one_that_never_was(centre):
    line = await centre.calls()
    assert await centre.presses(line) is None  # nobody has redeemed its token yet
    await centre.redeems(line, centre.agents()[0])
    assert await centre.presses(line, agent=replace(DESK, name="desk-2")) is None
    assert await centre.rig.server.guard.bridges.aside(DESK, "CA" + "9" * 32, "") is None
    assert isinstance(line.waiting, Bridged)


async def test_nobody_is_led_aside_when_it_cannot_be(centre):
    """Before the two are joined, for a factor that there is not, after the call."""
    centre.ivr.documents["/voice"] = dial(f'<Number url="/accept">{AGENT}</Number>')
    centre.ivr.documents["/accept"] = '<Gather action="/accept" numDigits="1"><Say>Press one.</Say></Gather>'
    line = await centre.calls()
    agent = centre.agents()[0]
    await centre.redeems(line, agent)
    assert await centre.presses(line) is Denied.NOT_JOINED
    await agent.silent()
    await centre.settle()
    assert await centre.presses(line, "app") is Denied.NO_SUCH_FACTOR
    assert await centre.presses(line, "nothing") is Denied.NO_SUCH_FACTOR
    await line.hang_up()
    await centre.settle()
    assert await centre.presses(line) is Denied.ENDED


async def test_a_call_that_is_not_bridged_has_nobody_to_be_led_aside(centre):
    centre.ivr.documents["/voice"] = dial(f'<Number statusCallback="/told">{AGENT}</Number>')
    line = await centre.calls()
    leg = line.legs[0]
    await centre.redeems(line, leg)
    assert await centre.presses(line) is Denied.NOT_BRIDGED


async def test_webhooks_that_come_twice_at_the_same_moment_are_one(centre):
    """The whole way aside and back, with every request of the caller's leg sent twice."""
    line, _ = await centre.talks()
    line.send_twice = True
    await centre.presses(line, "pin")
    await line.press(WRONG)
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert (await centre.beside(line)).last == "verified"
    assert await centre.events("authn_login_fail") == ["wrong"]
    assert await centre.events("authn_aside_over") == ["right"]


async def test_two_nodes_that_look_at_once_do_it_once(centre, monkeypatch):
    """One dials, one leads aside: on whichever node it is found to be due, and however often."""
    rig = centre.rig
    other = Guard(replace(rig.server.world, node="another"))
    nodes = (rig.server.guard.bridges, other.bridges)
    with monkeypatch.context() as patched:
        patched.setattr(conference.Bridges, "attend", lambda *_: None)
        line = await centre.calls()
    await asyncio.gather(*(node._attend(line.call_sid) for node in nodes * 2))
    await centre.settle()
    assert len(centre.agents()) == 1
    await centre.redeems(line, centre.agents()[0])
    begun = await asyncio.gather(*(node.aside(DESK, line.call_sid, "pin") for node in nodes))
    await other.drain()
    await centre.settle()
    assert sorted(isinstance(one, Call) for one in begun) == [False, True]
    await line.press(PIN)
    await centre.settle()
    assert isinstance(line.waiting, Bridged)
    assert await centre.events("authn_aside_over") == ["right"]


# ── nobody learns a secret ───────────────────────────────────────────────────────────────────────────────


async def test_what_is_keyed_aside_is_nowhere_but_in_its_own_webhook(start):
    """
    Canaries: a right PIN and two wrong ones, keyed blind. They are in no log, no value of the store, no entry, nothing that the IVR,
    the agent or his desk gets, no token and no request of ours to the provider.
    """
    canaries = (PIN, "71717171", "38383838")
    with structlog.testing.capture_logs() as lines:
        async with start() as centre:
            line, agent = await centre.talks()
            for keys in ("71717171", "38383838", PIN):
                await centre.presses(line, "pin")
                await line.press(keys)
                while isinstance(line.waiting, Asked):
                    await line.silent()
                await centre.settle()
            shown = await centre.standing(line)
            await agent.hang_up()
            await centre.settle()
            kept = [
                (one.id, stores.encode(Key(kind, one.id), one.value))
                for kind in stores.TYPES
                for one in await centre.rig.store.list(kind, limit=1_000)
            ]
            entries = [one.entry for one in await centre.rig.store.entries()]
            others = [request for leg in centre.agents() for request in leg.requests]
            rooms = centre.rig.conferences.requests
            got = list(centre.ivr.got)
    seen = repr(
        (lines, kept, entries, shown, got, [(one.url, one.params, one.body) for one in (*others, *rooms)])
    )
    assert len(kept) > 5
    assert [canary for canary in canaries if canary in seen] == []
    keyed = [value for request in line.requests for name, value in request.params if name == "Digits"]
    assert [each for each in keyed if each in canaries] == [PIN, "71717171", "38383838", PIN]
    assert [
        canary for canary in canaries for request in line.requests if canary in request.url + request.body
    ] == []
