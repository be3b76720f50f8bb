"""Live calls changed by REST: Twilio's own client, over a real socket, beside the calls of an exchange.

The client is the synchronous one that IVRs use; it runs in a thread. Each test says the documented rule that it
shows; the pages are named in `ivrguard/phone/calls.py`.
"""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from ivrguard.phone.calls import Calls
from ivrguard.phone.heard import AgentBehaviour, Asked, Bridged, Failed, HungUp, Played, Queued, Said

from .conftest import ACCOUNT_SID, AUTH_TOKEN, NUMBER

CALLER, AGENT = "+14155550123", "+14155550199"
GATHER = "<Gather action='/gathered'><Say>PIN</Say></Gather>"


class Rest:
    """The API beside the exchange, and the client in a thread."""

    def __init__(self, api, client):
        self.api, self.client = api, client

    async def __call__(self, act, *, settled=True):
        """What the client answers; and all has moved that it moved."""
        answer = await asyncio.to_thread(act, self.client)
        if settled:
            await self.api.settled()
        return answer

    async def update(self, line, **change):
        return await self(lambda client: client.calls(line.call_sid).update(**change))

    async def refusal(self, act):
        with pytest.raises(TwilioRestException) as refused:
            await self(act)
        return refused.value.status, refused.value.code


@pytest.fixture
async def rest(exchange):
    api = Calls(exchange, api_keys={"SK1": "key-secret"})
    async with TestServer(api.app()) as server:
        client = Client(ACCOUNT_SID, AUTH_TOKEN)
        client.api.base_url = str(server.make_url(""))
        yield Rest(api, client)


@pytest.fixture
async def line(exchange, rest):
    return exchange.call(CALLER, NUMBER)


def said(line):
    return [each.text for each in line.heard if isinstance(each, Said)]


async def test_a_call_is_led_to_another_url_at_once(webhooks, rest, line):
    """At once means ("immediately redirect"): the Gather that waits is cut off, and its action not asked for."""
    webhooks.documents |= {"/voice": GATHER, "/other/place": "<Say>Aside</Say><Gather action='x'/>"}
    await line.until_input()
    updated = await rest.update(line, url=f"{webhooks.origin}/other/place", method="GET")
    assert (updated.sid, updated.status, updated.direction) == (line.call_sid, "in-progress", "inbound")
    assert said(line) == ["PIN", "Aside"]
    assert line.waiting == Asked(f"{webhooks.origin}/other/x")
    assert [(got.method, got.path, got.signed) for got in webhooks.got] == [
        ("POST", "/voice", True),
        ("GET", "/other/place", True),
    ]


async def test_a_call_may_be_given_the_document_itself(webhooks, rest, line):
    """`Twiml` is run as it stands; in it nothing is relative (11100)."""
    webhooks.documents["/voice"] = GATHER
    await line.until_input()
    await rest.update(line, twiml="<Response><Say>Moved</Say><Redirect>/voice</Redirect></Response>")
    assert said(line)[:2] == ["PIN", "Moved"]
    assert Failed(11100, "/voice") in line.heard
    assert line.over


async def test_a_document_that_is_none_is_told_to_the_new_fallback(webhooks, rest, line):
    webhooks.documents |= {"/voice": GATHER, "/fallback": "<Say>Sorry</Say>"}
    await line.until_input()
    await rest.update(line, twiml="<Respond/>", fallback_url=f"{webhooks.origin}/fallback")
    assert webhooks.asked("/fallback")[0]["ErrorCode"] == "12100"
    assert said(line) == ["PIN", "Sorry"]


@pytest.mark.parametrize(
    ("document", "dequeued", "result"),
    [
        ("<Enqueue action='/left'>q</Enqueue>", False, "redirected"),
        ("<Enqueue action='/left'>q</Enqueue>", True, "redirected-from-bridged"),
    ],
)
async def test_a_queue_tells_that_the_call_was_led_out(webhooks, rest, line, document, dequeued, result):
    """QueueResult; the answer to it means nothing."""
    webhooks.documents |= {"/voice": document, "/left": "<Say>never</Say>", "/new": GATHER}
    await line.until_input()
    assert isinstance(line.waiting, Queued)
    if dequeued:
        await line.dequeued()
    await rest.update(line, url=f"{webhooks.origin}/new")
    assert [each["QueueResult"] for each in webhooks.asked("/left")] == [result]
    assert said(line) == ["PIN"]


async def test_the_leg_of_a_dial_ends_when_the_caller_is_led_away(webhooks, rest, line):
    """The document that held it is gone: its action is not asked for."""
    webhooks.documents |= {"/voice": f"<Dial action='/dialled'>{AGENT}</Dial>", "/new": GATHER}
    await line.until_input()
    [leg] = line.legs
    assert isinstance(line.waiting, Bridged)
    await rest.update(line, url=f"{webhooks.origin}/new")
    assert (leg.over, leg.status, said(line)) == (True, "completed", ["PIN"])
    assert webhooks.asked("/dialled") == []


async def test_a_dialled_leg_that_is_led_away_goes_on_by_itself(webhooks, rest, line):
    """The caller comes back from the Dial, without DialCallDuration. The other may even dial now."""
    webhooks.documents |= {
        "/voice": f"<Dial action='/dialled'>{AGENT}</Dial>",
        "/dialled": "<Say>Back</Say>",
        "/new": f"<Say>Agent</Say><Dial>{CALLER}</Dial>",
    }
    await line.until_input()
    [leg] = line.legs
    await rest.update(leg, url=f"{webhooks.origin}/new")
    assert (said(line), said(leg), leg.waiting) == (["Back"], ["Agent"], Bridged(CALLER))
    assert (line.over, leg.over) == (True, False)
    [told] = webhooks.asked("/dialled")
    assert (told["DialCallSid"], told["DialCallStatus"]) == (leg.call_sid, "completed")
    assert "DialCallDuration" not in told
    await leg.agent_hangs_up()
    assert leg.over


async def test_a_callee_who_is_led_out_of_the_whisper_is_not_connected(webhooks, rest, line):
    async def whisper(request):
        leg = (await request.post())["CallSid"]
        await rest(lambda client: client.calls(leg).update(url=f"{webhooks.origin}/new"))
        return web.Response(text="<Response/>", content_type="text/xml")

    webhooks.documents |= {
        "/voice": f"<Dial action='/dialled'><Number url='/whisper'>{AGENT}</Number></Dial>",
        "/whisper": whisper,
        "/dialled": GATHER,
        "/new": "<Enqueue>elsewhere</Enqueue>",
    }
    await line.until_input()
    assert webhooks.asked("/dialled")[0]["DialBridged"] == "false"
    assert line.legs[0].waiting == Queued("elsewhere")


async def test_a_call_is_led_away_while_its_own_webhook_is_under_way(webhooks, rest, line):
    """What an IVR does that transfers inside its handler: the document that it then answers is dropped."""

    async def gathered(_):
        await rest(lambda client: client.calls(line.call_sid).update(url=f"{webhooks.origin}/new"))
        return web.Response(text="<Response><Say>never</Say></Response>", content_type="text/xml")

    webhooks.documents |= {"/voice": GATHER, "/gathered": gathered, "/new": "<Say>Aside</Say><Gather/>"}
    await line.until_input()
    await line.press("1#")
    assert (said(line), line.over) == (["PIN", "Aside"], False)
    assert isinstance(line.waiting, Asked)


async def test_a_handler_that_fails_after_it_led_the_call_away_changes_nothing(webhooks, rest, line):
    async def gathered(_):
        await rest(lambda client: client.calls(line.call_sid).update(url=f"{webhooks.origin}/new"))
        return web.Response(status=500)

    webhooks.documents |= {"/voice": GATHER, "/gathered": gathered, "/new": "<Say>Aside</Say><Gather/>"}
    await line.until_input()
    await line.press("1#")
    assert said(line) == ["PIN", "Aside"]
    assert isinstance(line.waiting, Asked)


async def test_a_call_is_led_away_in_the_middle_of_a_document(webhooks, rest, line):
    """The verb that takes time (here: a sound that is fetched) is finished; what follows it is not run."""

    async def sound(_):
        await rest(
            lambda client: client.calls(line.call_sid).update(url=f"{webhooks.origin}/new"), settled=False
        )
        return web.Response(body=b"", content_type="audio/wav")

    document = "<Say>First</Say><Play>/sound</Play><Say>never</Say>"
    webhooks.documents |= {"/voice": document, "/sound": sound, "/new": GATHER}
    await line.until_input()
    await rest.api.settled()
    assert said(line) == ["First", "PIN"]
    assert Played(f"{webhooks.origin}/sound", 200) in line.heard


async def test_keys_pressed_while_the_call_is_led_away_are_lost(webhooks, rest, line):
    webhooks.documents |= {"/voice": GATHER, "/new": "<Gather action='/aside'/>", "/aside": "<Hangup/>"}

    class Caller:
        async def hears(self, _):
            return ""

        async def keys(self, waiting):
            if waiting.action.endswith("/gathered"):
                await rest.update(line, url=f"{webhooks.origin}/new")
                return "1234#"
            return "5#"

    await line.converse(Caller())
    assert webhooks.asked("/gathered") == []
    assert [each["Digits"] for each in webhooks.asked("/aside")] == ["5"]


@pytest.mark.parametrize("talks", ["led", "ended"])
async def test_a_conversation_may_be_interrupted(webhooks, exchange, rest, line, talks):
    """Whoever was to hang up after a while does not, once the call is elsewhere or over."""

    async def pace(seconds):
        if seconds == 60:
            change = {"url": f"{webhooks.origin}/new"} if talks == "led" else {"status": "completed"}
            await rest(lambda client: client.calls(line.call_sid).update(**change), settled=talks == "ended")

    exchange.pace = pace
    exchange.agents[AGENT] = AgentBehaviour(talk_s=60)
    webhooks.documents |= {"/voice": f"<Dial action='/dialled'>{AGENT}</Dial>", "/new": GATHER}
    await line.until_input()
    await rest.api.settled()
    assert (line.legs[0].over, line.over) == (True, talks == "ended")
    assert said(line) == (["PIN"] if talks == "led" else [])


async def test_completed_hangs_up_a_call_in_progress(webhooks, rest, line):
    """... and the status callback that came with the change hears of it; the dialled leg ends too."""
    webhooks.documents |= {"/voice": f"<Dial action='/dialled'>{AGENT}</Dial>", "/status": ""}
    await line.until_input()
    await rest.update(
        line, status="completed", status_callback=f"{webhooks.origin}/status", status_callback_method="GET"
    )
    assert (line.over, line.status, line.legs[0].over) == (True, "completed", True)
    assert line.heard[-1] == HungUp("document")
    assert [each["CallStatus"] for each in webhooks.asked("/status")] == ["completed"]
    assert len(webhooks.asked("/dialled")) == 1


async def test_a_dialled_leg_may_be_hung_up_and_the_caller_goes_on(webhooks, rest, line):
    webhooks.documents |= {"/voice": f"<Dial>{AGENT}</Dial><Say>Alone</Say>" + GATHER}
    await line.until_input()
    await rest.update(line.legs[0], status="completed")
    assert (line.legs[0].over, said(line)) == (True, ["Alone", "PIN"])


async def test_canceled_leaves_a_call_in_progress_alone(webhooks, rest, line):
    """It is for "calls that are queued or ringing", and is to "not affect calls already in progress"."""
    webhooks.documents["/voice"] = GATHER
    await line.until_input()
    assert (await rest.update(line, status="canceled")).status == "in-progress"
    assert isinstance(line.waiting, Asked)


async def test_a_call_that_rings_is_canceled_and_not_led(webhooks, rest, line):
    """Redirecting needs a call in progress: 21220. What its webhook then answers is dropped."""
    refusals = []

    async def voice(_):
        refusals.append(
            await rest.refusal(lambda client: client.calls(line.call_sid).update(url="https://a.example/"))
        )
        await rest.update(line, status="canceled")
        return web.Response(text="<Response><Say>never</Say></Response>", content_type="text/xml")

    webhooks.documents["/voice"] = voice
    assert await line.until_input() is None
    assert refusals == [(400, 21220)]
    assert (line.over, line.status, line.heard) == (True, "canceled", [HungUp("document")])


async def test_a_call_that_ends_while_it_dials_leaves_nobody_on_the_line(webhooks, rest, line):
    async def ringing(_):
        await rest.update(line, status="completed")
        return web.Response()

    noun = f"<Number statusCallback='/ringing' statusCallbackEvent='ringing'>{AGENT}</Number>"
    webhooks.documents |= {"/voice": f"<Dial>{noun}</Dial>", "/ringing": ringing}
    await line.until_input()
    assert (line.over, line.waiting, line.legs[0].over) == (True, None, True)


async def test_a_call_that_ends_while_it_waits_for_a_room_is_over(webhooks, rest, line):
    async def music(_):
        await rest.update(line, status="completed")
        return web.Response(text="<Response/>", content_type="text/xml")

    room = "<Dial><Conference waitUrl='/music'>r</Conference></Dial>"
    webhooks.documents |= {"/voice": room, "/music": music}
    await line.until_input()
    assert (line.over, line.waiting) == (True, None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"url": "ftp://a.example/"}, (400, 21205)),
        ({"url": "/relative"}, (400, 21205)),
        ({"status_callback": "nowhere"}, (400, 21205)),
        ({"url": "https://a.example/", "twiml": "<Response/>"}, (400, 20001)),
        ({"twiml": f"<Response>{' ' * 4000}</Response>"}, (400, 32018)),
        ({"status": "ringing"}, (400, 20001)),
    ],
)
async def test_a_change_that_is_none_is_refused(webhooks, rest, line, change, expected):
    webhooks.documents["/voice"] = GATHER
    await line.until_input()
    assert await rest.refusal(lambda client: client.calls(line.call_sid).update(**change)) == expected
    assert isinstance(line.waiting, Asked)


async def test_a_call_that_is_over_or_unknown_is_refused(webhooks, rest, line):
    webhooks.documents["/voice"] = "<Hangup/>"
    await line.until_input()
    over, unknown = line.call_sid, "CA" + "0" * 32
    assert await rest.refusal(lambda client: client.calls(over).update(status="completed")) == (400, 21220)
    assert await rest.refusal(lambda client: client.calls(over).update(twiml="<Response/>")) == (400, 21220)
    assert await rest.refusal(lambda client: client.calls(unknown).update(status="completed")) == (404, 20404)
    assert await rest.refusal(lambda client: client.calls(unknown).fetch()) == (404, 20404)


async def test_faults_are_planted_and_change_nothing(webhooks, rest, line):
    """429, and an error of the server's; then all is well."""
    webhooks.documents["/voice"] = GATHER
    await line.until_input()
    rest.api.fail_next(429, 20429)
    rest.api.fail_next(500, 20500)
    for expected in ((429, 20429), (500, 20500)):
        change = {"status": "completed"}
        assert await rest.refusal(lambda client: client.calls(line.call_sid).update(**change)) == expected  # noqa: B023 - awaited at once
        assert not line.over
    await rest.update(line, status="completed")
    assert line.over


async def test_a_call_is_fetched_in_its_shape(webhooks, rest, line):
    webhooks.documents["/voice"] = f"<Dial>{AGENT}</Dial>"
    await line.until_input()
    leg = await rest(lambda client: client.calls(line.legs[0].call_sid).fetch())
    assert (leg.parent_call_sid, leg.to, leg.direction) == (line.call_sid, AGENT, "outbound-dial")
    assert (leg.duration, leg.end_time, leg.account_sid) == (None, None, ACCOUNT_SID)
    await line.hang_up()
    call = await rest(lambda client: client.calls(line.call_sid).fetch())
    assert (call.status, call.duration, call.parent_call_sid) == ("completed", "4", None)
    assert call.end_time is not None


async def test_calls_are_listed_newest_first_in_pages_and_by_what_is_asked(webhooks, exchange, rest, line):
    webhooks.documents["/voice"] = f"<Dial>{AGENT}</Dial>"
    other = exchange.call("+14155550124", NUMBER)
    await line.until_input()
    sids = [line.legs[0].call_sid, other.call_sid, line.call_sid]

    async def listed(**asked):
        return [each.sid for each in await rest(lambda client: client.calls.list(**asked))]

    assert await listed() == await listed(page_size=2) == sids
    assert await listed(status="in-progress") == [sids[0], sids[2]]
    assert await listed(to=NUMBER, page_size=1) == sids[1:]
    assert await listed(from_=CALLER, parent_call_sid=line.call_sid) == sids[:1]
    page = await rest(lambda client: client.calls.page(page_size=1, page_number=1))
    back = await rest(lambda client: client.calls.get_page(page.previous_page_url))
    assert [each.sid for each in back] == sids[:1]


async def test_a_call_is_placed(webhooks, exchange, rest):
    """It rings, is answered by the party that the exchange has, and runs its document for him; all is told."""
    webhooks.documents |= {"/new": GATHER, "/gathered": "<Say>Thanks</Say>", "/status": ""}
    exchange.agents[CALLER] = AgentBehaviour(keys=("42#",))
    events = ["initiated", "ringing", "answered", "completed"]
    placed = await rest(
        lambda client: client.calls.create(
            to=CALLER,
            from_=NUMBER,
            url=f"{webhooks.origin}/new",
            status_callback=f"{webhooks.origin}/status",
            status_callback_event=events,
        )
    )
    assert (placed.status, placed.direction, placed.to) == ("queued", "outbound-api", CALLER)
    line = rest.api.lines[placed.sid]
    assert (said(line), line.over) == (["PIN", "Thanks"], True)
    assert webhooks.asked("/gathered")[0]["Digits"] == "42"
    told = [each["CallStatus"] for each in webhooks.asked("/status")]
    assert told == ["initiated", "ringing", "in-progress", "completed"]
    assert all(got.signed for got in webhooks.got)


async def test_a_call_that_is_placed_waits_for_the_test_when_nobody_plays_the_callee(webhooks, rest):
    webhooks.documents["/gathered"] = "<Hangup/>"
    twiml = f"<Response><Gather action='{webhooks.origin}/gathered'/></Response>"
    placed = await rest(lambda client: client.calls.create(to="client:ann", from_=NUMBER, twiml=twiml))
    line = rest.api.lines[placed.sid]
    await line.press("7#")
    assert (webhooks.asked("/gathered")[0]["Digits"], line.over) == ("7", True)


async def test_nobody_may_answer_a_call_that_is_placed(webhooks, exchange, rest):
    exchange.agents[CALLER] = AgentBehaviour("busy")
    placed = await rest(
        lambda client: client.calls.create(to=CALLER, from_=NUMBER, url=f"{webhooks.origin}/new")
    )
    assert (await rest(lambda client: client.calls(placed.sid).fetch())).status == "busy"
    assert webhooks.got == []


async def test_a_call_that_is_placed_may_be_canceled_while_it_rings(webhooks, exchange, rest):
    async def status(request):
        form = await request.post()
        if form["CallStatus"] == "ringing":
            await rest(lambda client: client.calls(form["CallSid"]).update(status="canceled"), settled=False)
        return web.Response()

    webhooks.documents["/status"] = status
    placed = await rest(
        lambda client: client.calls.create(
            to=CALLER,
            from_=NUMBER,
            url=f"{webhooks.origin}/new",
            status_callback=f"{webhooks.origin}/status",
            status_callback_event=["ringing"],
        )
    )
    assert rest.api.lines[placed.sid].status == "canceled"
    assert webhooks.asked("/new") == []


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"from_": NUMBER, "url": "https://a.example/", "to": ""}, (400, 21201)),
        ({"from_": "", "url": "https://a.example/", "to": CALLER}, (400, 21213)),
        ({"from_": NUMBER, "url": "https://a.example/", "to": "12"}, (400, 21211)),
        ({"from_": CALLER, "url": "https://a.example/", "to": AGENT}, (400, 21210)),
        ({"from_": NUMBER, "to": CALLER}, (400, 21205)),
        ({"from_": NUMBER, "to": CALLER, "url": "x"}, (400, 21205)),
    ],
)
async def test_a_call_that_cannot_be_placed_is_refused(rest, form, expected):
    assert await rest.refusal(lambda client: client.calls.create(**form)) == expected
    assert rest.api.lines == {}
