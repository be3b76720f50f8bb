"""Conferences by REST: Twilio's own client, over a real socket, beside the lines that are in them.

The client is the synchronous one, in a thread. The pages of the rules are named in `ivrguard/phone/conferences.py`.
"""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.heard import AgentBehaviour, Bridged, Failed, HungUp, Said

from .conftest import ACCOUNT_SID, AUTH_TOKEN, NUMBER

AGENT = "+14155550199"
EVENTS = "start end join leave mute hold"


def dial(attributes="", then="<Say>Alone</Say><Gather/>"):
    told = f"statusCallback='/told' statusCallbackEvent='{EVENTS}'"
    return f"<Dial action='/dialled'><Conference {told} {attributes}>room</Conference></Dial>{then}"


class Rest:
    """The APIs beside the exchange, and the client in a thread."""

    def __init__(self, exchange, webhooks, api, calls):
        self.exchange, self.webhooks, self.api, self.calls = exchange, webhooks, api, calls
        self.client = None

    async def __call__(self, act):
        answer = await asyncio.to_thread(act, self.client)
        await self.calls.settled()
        return answer

    async def refusal(self, act):
        with pytest.raises(TwilioRestException) as refused:
            await self(act)
        return refused.value.status, refused.value.code

    async def joins(self, from_="+14155550123"):
        line = self.exchange.call(from_, NUMBER)
        await line.until_input()
        return line

    def told(self):
        """The events of the status callbacks, in order."""
        return [each["StatusCallbackEvent"] for each in self.webhooks.asked("/told")]


@pytest.fixture
async def rest(exchange, webhooks):
    webhooks.documents |= {
        "/voice": dial(),
        "/told": "",
        "/dialled": "<Say>Alone</Say><Gather/>",
        "/music": "<Say>Please hold</Say><Redirect>never</Redirect>",
    }
    calls = Calls(exchange)
    made = Rest(exchange, webhooks, Conferences(calls), calls)
    async with TestServer(made.api.app()) as server:
        made.client = Client(ACCOUNT_SID, AUTH_TOKEN)
        made.client.api.base_url = str(server.make_url(""))
        yield made


def said(line):
    return [each.text for each in line.heard if isinstance(each, Said)]


async def test_a_dial_makes_the_conference_and_two_start_it(rest, webhooks):
    """`init` until then; every event is signed, numbered, and names its call."""
    first = await rest.joins()
    [room] = await rest(lambda client: client.conferences.list(friendly_name="room", status="init"))
    second = await rest.joins(AGENT)
    fetched = await rest(lambda client: client.conferences(room.sid).fetch())
    assert (fetched.status, fetched.friendly_name, fetched.account_sid) == (
        "in-progress",
        "room",
        ACCOUNT_SID,
    )
    assert fetched.reason_conference_ended is None
    assert rest.told() == ["participant-join", "participant-join", "conference-start"]
    told = webhooks.asked("/told")
    assert [each.get("CallSid") for each in told] == [first.call_sid, second.call_sid, None]
    assert [each["SequenceNumber"] for each in told] == ["1", "2", "3"]
    assert {each["ConferenceSid"] for each in told} == {room.sid}
    assert all(got.signed for got in webhooks.got)
    assert len(rest.api.requests) == 3


async def test_nobody_starts_it_who_is_not_to(rest, webhooks):
    webhooks.documents["/voice"] = dial("startConferenceOnEnter='false'")
    await rest.joins()
    await rest.joins(AGENT)
    assert rest.api.rooms[0].status == "init"


async def test_it_is_over_when_the_last_has_left_and_the_next_is_another(rest, webhooks):
    first, second = await rest.joins(), await rest.joins(AGENT)
    await first.hang_up()
    await second.agent_hangs_up()
    assert said(second) == ["Alone"]
    [room] = rest.api.rooms
    assert rest.told()[-3:] == ["participant-leave", "participant-leave", "conference-end"]
    last = webhooks.asked("/told")[-1]
    assert (last["ReasonConferenceEnded"], last["CallSidEndingConference"]) == (
        "last-participant-left",
        second.call_sid,
    )
    await rest.joins()
    listed = await rest(lambda client: client.conferences.list(friendly_name="room"))
    assert [each.status for each in listed] == ["init", "completed"]
    assert listed[1].sid == room.sid
    assert await rest(lambda client: client.conferences.list(friendly_name="other")) == []
    assert await rest(lambda client: client.conferences(room.sid).participants.list()) == []


async def test_all_leave_with_the_one_who_ends_it(rest, webhooks):
    """endConferenceOnExit, set while he is in it; the others go on in their own documents."""
    first, second = await rest.joins(), await rest.joins(AGENT)
    [room] = rest.api.rooms
    updated = await rest(
        lambda client: (
            client.conferences(room.sid).participants(second.call_sid).update(end_conference_on_exit=True)
        )
    )
    assert updated.end_conference_on_exit
    await second.hang_up()
    assert (room.status, room.reason) == ("completed", "participant-with-end-conference-on-exit-left")
    assert (said(first), first.over) == (["Alone"], False)
    assert webhooks.asked("/dialled")[-1]["DialCallStatus"] == "answered"


async def test_rest_ends_it_and_everybody_goes_on(rest):
    lines = [await rest.joins(), await rest.joins(AGENT)]
    [room] = rest.api.rooms
    for _ in range(2):
        await rest(lambda client: client.conferences(room.sid).update(status="completed"))
    ended = await rest(lambda client: client.conferences(room.sid).fetch())
    assert (ended.status, ended.reason_conference_ended) == ("completed", "conference-ended-via-api")
    assert ended.call_sid_ending_conference is None
    assert [said(line) for line in lines] == [["Alone"], ["Alone"]]
    assert rest.told().count("conference-end") == 1


async def test_whoever_is_led_elsewhere_is_no_participant(rest, webhooks):
    """He is one "whose call has been modified to use new TwiML"; the action of his Dial is not asked for."""
    first, second = await rest.joins(), await rest.joins(AGENT)
    [room] = rest.api.rooms
    await rest(
        lambda client: client.calls(first.call_sid).update(twiml="<Response><Say>Aside</Say></Response>")
    )
    assert said(first) == ["Aside"]
    people = await rest(lambda client: client.conferences(room.sid).participants.list())
    assert [each.call_sid for each in people] == [second.call_sid]
    gone = await rest.refusal(
        lambda client: client.conferences(room.sid).participants(first.call_sid).fetch()
    )
    assert gone == (404, 20404)
    assert webhooks.asked("/dialled") == []


async def test_a_participant_is_put_on_hold_and_hears_the_music(rest, webhooks):
    """HoldMethod is GET unless told; what he hears he hears alone, and he stays in the conference."""
    first, second = await rest.joins(), await rest.joins(AGENT)
    [room] = rest.api.rooms
    people = lambda client: client.conferences(room.sid).participants  # noqa: E731 - as the client writes it
    music = f"{webhooks.origin}/music"
    held = await rest(lambda client: people(client)(first.call_sid).update(hold=True, hold_url=music))
    assert (held.hold, held.muted, held.status) == (True, False, "connected")
    assert (said(first), said(second)) == (["Please hold"], [])
    assert isinstance(first.waiting, Bridged)
    assert [got.method for got in webhooks.got if got.path == "/music"] == ["GET"]
    assert [each.call_sid for each in await rest(lambda client: people(client).list(hold=True))] == [
        first.call_sid
    ]
    back = await rest(lambda client: people(client)(first.call_sid).update(hold=False))
    assert not back.hold
    muted = await rest(lambda client: people(client)(second.call_sid).update(muted=True))
    assert muted.muted
    assert [each.call_sid for each in await rest(lambda client: people(client).list(muted=False))] == [
        first.call_sid
    ]
    await rest(lambda client: people(client)(second.call_sid).update(muted=False))
    assert rest.told()[3:] == [
        "participant-hold",
        "participant-unhold",
        "participant-mute",
        "participant-unmute",
    ]
    assert [each["Hold"] for each in webhooks.asked("/told")[3:5]] == ["true", "false"]


async def test_an_announcement_is_heard_by_one_or_by_all(rest, webhooks):
    first, second = await rest.joins(), await rest.joins(AGENT)
    [room] = rest.api.rooms
    url = f"{webhooks.origin}/music"
    conference = lambda client: client.conferences(room.sid)  # noqa: E731 - as the client writes it
    await rest(lambda client: conference(client).participants(first.call_sid).update(announce_url=url))
    assert (said(first), said(second)) == (["Please hold"], [])
    await rest(lambda client: conference(client).update(announce_url=url, announce_method="GET"))
    assert (len(said(first)), len(said(second))) == (2, 1)
    await rest(lambda client: conference(client).update(announce_url=f"{webhooks.origin}/gone"))
    assert second.heard[-1] == Failed(11200, f"{webhooks.origin}/gone")
    assert isinstance(second.waiting, Bridged)


async def test_a_participant_is_kicked(rest, webhooks):
    """DELETE: 204, and he goes on in his own document. The last one ends it."""
    line = await rest.joins()
    [room] = rest.api.rooms
    person = lambda client: client.conferences(room.sid).participants(line.call_sid)  # noqa: E731 - as the client writes it
    assert await rest(lambda client: person(client).delete())
    assert (said(line), line.over, room.reason) == (["Alone"], False, "last-participant-kicked")
    assert await rest.refusal(lambda client: person(client).delete()) == (404, 20404)


async def test_somebody_is_dialled_into_it(rest, exchange, webhooks):
    """By its name or its SID, with a label under which he is found; his own progress is told too."""
    first = await rest.joins()
    [room] = rest.api.rooms
    webhooks.documents["/status"] = ""
    created = await rest(
        lambda client: client.conferences(room.sid).participants.create(
            to=AGENT,
            from_=NUMBER,
            label="agent",
            end_conference_on_exit=True,
            status_callback=f"{webhooks.origin}/status",
            status_callback_event=["ringing", "completed"],
        )
    )
    assert (created.status, created.label, created.conference_sid) == ("queued", "agent", room.sid)
    agent = rest.calls.lines[created.call_sid]
    assert (agent.to, agent.direction, agent.waiting) == (AGENT, "outbound-api", Bridged("room"))
    found = await rest(lambda client: client.conferences(room.sid).participants("agent").fetch())
    assert (found.call_sid, found.end_conference_on_exit) == (agent.call_sid, True)
    assert webhooks.asked("/told")[1]["ParticipantLabel"] == "agent"
    await agent.hang_up()
    assert (said(first), room.status) == (["Alone"], "completed")
    assert [each["CallStatus"] for each in webhooks.asked("/status")] == ["ringing", "completed"]


async def test_a_participant_may_make_the_conference(rest, webhooks):
    """Named by its name, it is there from then on; its callbacks are his to name. Kicked, his call ends."""
    told = f"{webhooks.origin}/told"
    created = await rest(
        lambda client: client.conferences("new room").participants.create(
            to=AGENT,
            from_=NUMBER,
            muted=True,
            conference_status_callback=told,
            conference_status_callback_event=["join", "end"],
        )
    )
    [room] = rest.api.rooms
    assert (room.name, room.sid, created.muted) == ("new room", created.conference_sid, True)
    await rest(lambda client: client.conferences(room.sid).participants(created.call_sid).delete())
    assert rest.calls.lines[created.call_sid].heard[-1] == HungUp("document")
    assert rest.told() == ["participant-join", "conference-end"]


async def test_a_party_that_is_busy_joins_nothing(rest, exchange):
    exchange.agents[AGENT] = AgentBehaviour("busy")
    created = await rest(lambda client: client.conferences("r").participants.create(to=AGENT, from_=NUMBER))
    assert rest.calls.lines[created.call_sid].status == "busy"
    assert rest.api.rooms[0].participants == []


async def test_a_status_callback_that_fails_changes_nothing(rest, webhooks):
    del webhooks.documents["/told"]
    line = await rest.joins()
    assert line.waiting == Bridged("room")
    assert [each.status for each in rest.api.requests] == [404]


async def test_a_conference_without_callbacks_tells_nobody(rest, webhooks):
    webhooks.documents["/voice"] = "<Dial><Conference>room</Conference></Dial>"
    line = await rest.joins()
    assert (line.waiting, rest.api.requests) == (Bridged("room"), [])


async def test_other_dials_make_none(rest, webhooks):
    webhooks.documents["/voice"] = "<Dial><Queue>support</Queue></Dial>"
    await rest.joins()
    assert rest.api.rooms == []


@pytest.mark.parametrize("ends", ["conference", "call"])
async def test_a_conference_or_its_call_may_end_while_somebody_joins(rest, webhooks, ends):
    """Out of the handler of participant-join: what runs on the line is finished, and then it goes on, or is over."""

    async def told(request):
        form = await request.post()
        if form["StatusCallbackEvent"] == "participant-join":
            resource = rest.client.conferences if ends == "conference" else rest.client.calls
            which = form["ConferenceSid" if ends == "conference" else "CallSid"]
            await asyncio.to_thread(resource(which).update, status="completed")
            if ends == "call":
                await rest.calls.settled()
        return web.Response()

    webhooks.documents["/told"] = told
    line = await rest.joins()
    await rest.calls.settled()
    assert (line.over, said(line)) == ((False, ["Alone"]) if ends == "conference" else (True, []))
    assert rest.api.rooms[0].status == "completed"
    assert not isinstance(line.waiting, Bridged)


async def test_two_may_put_somebody_out_and_he_comes_back_once(rest, webhooks):
    async def told(request):
        form = await request.post()
        if form["StatusCallbackEvent"] == "participant-join":
            room = rest.client.conferences(form["ConferenceSid"])
            await asyncio.to_thread(room.participants(form["CallSid"]).delete)
            await asyncio.to_thread(room.update, status="completed")
        return web.Response()

    webhooks.documents["/told"] = told
    line = await rest.joins()
    await rest.calls.settled()
    assert (said(line), len(webhooks.asked("/dialled"))) == (["Alone"], 1)
    await line.put_out(rest.api.rooms[0])
    assert len(webhooks.asked("/dialled")) == 1


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda room: room("CF0").fetch(), (404, 20404)),
        (lambda room: room("CF0").update(status="completed"), (404, 20404)),
        (lambda room: room("CF0").participants.create(to=AGENT, from_=NUMBER), (404, 20404)),
        (lambda room: room().update(status="canceled"), (400, 20001)),
        (lambda room: room().update(announce_url="x"), (400, 21205)),
        (lambda room: room().participants("nobody").update(muted=True), (404, 20404)),
        (lambda room: room().participants.create(to="1", from_=NUMBER), (400, 21211)),
        (lambda room: room().participants.create(to=AGENT, from_=AGENT), (400, 21210)),
        (lambda room: room().participants("me").update(hold=True, hold_url="x"), (400, 21205)),
    ],
)
async def test_what_cannot_be_is_refused(rest, webhooks, act, expected):
    webhooks.documents["/voice"] = dial("participantLabel='me'")
    line = await rest.joins()
    [room] = rest.api.rooms
    assert await rest.refusal(lambda client: act(lambda sid=room.sid: client.conferences(sid))) == expected
    assert (line.waiting, room.participants[0].hold) == (Bridged("room"), False)


async def test_faults_are_planted(rest):
    """A hold that failed is none."""
    line = await rest.joins()
    [room] = rest.api.rooms
    rest.api.fail_next(429, 20429)
    person = lambda client: client.conferences(room.sid).participants(line.call_sid)  # noqa: E731 - as the client writes it
    assert await rest.refusal(lambda client: person(client).update(hold=True)) == (429, 20429)
    assert not (await rest(lambda client: person(client).fetch())).hold
