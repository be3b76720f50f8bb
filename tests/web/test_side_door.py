"""
The REST side door over real sockets: Twilio's own client, as an IVR has it, through the guard to the pretend Twilio.

The client is made by the very lines of docs/side-door.md. What may be asked, and becomes of it, is told as tables.
"""

import asyncio
import json
import re
import socket
from base64 import b64encode
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web
from multidict import MultiDict
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from ivrguard.core.errors import StoreFault
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.heard import Asked, Bridged, Dialled, Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL
from ivrguard.web import side_door
from ivrguard.web.side_door import Credentials, Wrong, basic

KEY, SECRET = "SK" + "7a" * 16, "the-ivrs-own-key-with-a-secret"
BASE = f"/.ivrguard/rest/2010-04-01/Accounts/{ACCOUNT_SID}"
AGENT, OTHER = "+18005550142", "+18005550143"
LINES = re.search(r"```python\n(.*?)```", Path("docs/side-door.md").read_text(), re.DOTALL)[1]
MENU = "<Gather numDigits='1' action='/menu'><Say>Menu.</Say></Gather>"


@dataclass
class Twilio:
    """The pretend API behind the guard, what it was asked, and what it answers instead, by method and path."""

    calls: Calls
    conferences: Conferences
    asked: list[tuple[str, str, MultiDict]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    instead: dict[str, object] = field(default_factory=dict)

    def app(self):
        inner = self.conferences.app()
        inner.router.add_route("*", "/{rest:.*}", self._nothing)
        inner.middlewares.append(self._seen)
        return inner

    async def _nothing(self, request):
        return web.json_response({"code": 20404, "message": "nothing", "status": 404}, status=404)

    @web.middleware
    async def _seen(self, request, handler):
        self.asked.append((request.method, request.raw_path, MultiDict(await request.post())))
        self.headers.append(dict(request.headers))
        answer = self.instead.get(request.path.rpartition("/")[2])
        if answer is None:
            return await handler(request)
        return await answer(request) if callable(answer) else answer

    def changes(self):
        """The last request that changed anything: path below the account, and form."""
        return next(
            (path.partition(ACCOUNT_SID)[2], dict(form))
            for method, path, form in reversed(self.asked)
            if method == "POST"
        )


@dataclass
class House:
    rig: object
    twilio: Twilio
    client: object

    async def rest(self, act, *, settled=True):
        """What the IVR's client answers to this; all has moved that it moved."""
        answer = await asyncio.to_thread(act, self.client)
        if settled:
            await self.twilio.calls.settled()
        return answer

    async def refused(self, act):
        with pytest.raises(TwilioRestException) as refused:
            await self.rest(act)
        return refused.value.status, refused.value.code, refused.value.msg

    async def send(self, method, target, *, auth=(KEY, SECRET), headers=None, **more):
        """One request by hand; status, headers, body."""
        given = {"Authorization": _basic(*auth)} if auth else {}
        url = self.rig.guard_url + target
        async with self.rig.session.request(
            method, url, headers={**given, **(headers or {})}, allow_redirects=False, **more
        ) as answer:
            return answer.status, answer.headers, await answer.read()


def _basic(user, password):
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


RULES = (
    Rule(ANYONE, path="/open/**"),
    Rule(ANYONE, path="/voice"),
    Rule(ANYONE, path="/menu"),
    Rule(ANYONE, transfer=Target("conference", "lobby")),
    Rule(ANYONE, transfer=Target("number", AGENT)),
    Rule(Demand("one_factor", intent="client"), transfer=Target("client", "*")),
    Rule(Demand("one_factor", intent="desk"), transfer=Target("sip", "*")),
    Rule(Demand("one_factor", intent="agent", reverify="one_factor"), transfer=Target("*", "*")),
)


@pytest.fixture
async def house(start, open_flow, ivr, monkeypatch):
    """A guard whose side door is open, one open path, open and protected transfers; and the client of the docs."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    flow = replace(open_flow, rules=RULES, default=Demand("one_factor"))
    extra = {
        "side_door_keys": {(ACCOUNT_SID, KEY): SECRET},
        "side_door_api_url": url,
        "watch_transfers": True,
    }
    ivr.documents["/voice"] = MENU
    async with start(flow, extra=extra) as running:
        calls = Calls(running.exchange)
        twilio = Twilio(calls, Conferences(calls))
        runner = web.AppRunner(twilio.app(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        given = {"TWILIO_API_KEY": KEY, "TWILIO_API_KEY_SECRET": SECRET, "TWILIO_ACCOUNT_SID": ACCOUNT_SID}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        made: dict[str, object] = {}
        exec(LINES.replace("https://guard.example.com", running.guard_url), made)
        yield House(running, twilio, made["client"])
        await runner.cleanup()


@pytest.fixture
async def line(house):
    """A caller in the menu of the IVR, who has proved nothing."""
    line = house.rig.call()
    await line.until_input()
    return line


def said(line):
    return [each.text for each in line.heard if isinstance(each, Said)]


def taken_to(line):
    return [target.name for each in line.heard if isinstance(each, Dialled) for target in each.targets]


async def entries(house):
    return [(one.entry.event, one.entry.reason) for one in await house.rig.store.entries(limit=1000)]


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_lines_of_the_docs_work(house, line):
    """What concerns no rule passes, with the guard's own credentials and not the IVR's."""
    found = await house.rest(lambda client: client.calls(line.call_sid).fetch())
    assert (found.sid, found.status) == (line.call_sid, "in-progress")
    assert len(await house.rest(lambda client: client.calls.list(page_size=1))) == 1
    assert {one["Authorization"] for one in house.twilio.headers} == {_basic(ACCOUNT_SID, AUTH_TOKEN)}


NOBODY = [
    None,
    "",
    "Basic",
    "Basic !!!",
    "Basic \u00e9",
    "Bearer " + SECRET,
    _basic(KEY, SECRET + "x"),
    _basic(KEY, ""),
    _basic(ACCOUNT_SID, SECRET),
    _basic("SK" + "00" * 16, SECRET),
    "Basic " + b64encode(KEY.encode()).decode(),
]


async def test_whoever_is_not_known_gets_one_answer(house, logged):
    """401, 20003, in Twilio's shape; nothing of what was presented is in the log, and Twilio is not asked."""
    for header in NOBODY:
        headers = {} if header is None else {"Authorization": header}
        status, answered, body = await house.send("GET", f"{BASE}/Calls.json", auth=None, headers=headers)
        assert (status, json.loads(body)) == (
            401,
            {
                "code": 20003,
                "message": "Authenticate",
                "more_info": "https://www.twilio.com/docs/api/errors/20003",
                "status": 401,
            },
        ), header
        assert answered["WWW-Authenticate"].startswith("Basic")
    assert house.twilio.asked == []
    assert SECRET not in str(logged)
    assert KEY not in str(logged)


async def test_the_accounts_own_token_is_taken(house):
    status, _, _ = await house.send("GET", f"{BASE}/Calls.json", auth=(ACCOUNT_SID, AUTH_TOKEN))
    assert status == 200


async def test_a_key_is_good_for_its_own_account_only(house):
    other = BASE.replace(ACCOUNT_SID, "AC" + "00" * 16)
    status, _, _ = await house.send("GET", f"{other}/Calls.json")
    assert (status, house.twilio.asked) == (401, [])


async def test_who_goes_on_guessing_is_locked_out_for_a_while(house):
    """One key from one address; another key from there is not."""
    for _ in range(side_door.WRONG_MAX):
        status, _, _ = await house.send("GET", f"{BASE}/Calls.json", auth=(KEY, "wrong"))
        assert status == 401
    status, headers, body = await house.send("GET", f"{BASE}/Calls.json", auth=(KEY, SECRET))
    assert (status, json.loads(body)["code"]) == (429, 20429)
    assert 0 < int(headers["Retry-After"]) <= side_door.WRONG_WITHIN_S
    status, _, _ = await house.send("GET", f"{BASE}/Calls.json", auth=(ACCOUNT_SID, AUTH_TOKEN))
    assert status == 200


def test_wrong_credentials_are_counted_for_a_minute_and_no_more_than_so_many():
    wrong, who = Wrong(), ("peer", b"user")
    for at in range(side_door.WRONG_MAX):
        assert wrong.locked_s(who, at) == 0
        wrong.count(who, at)
    assert wrong.locked_s(who, 20) == 40
    assert wrong.locked_s(who, side_door.WRONG_WITHIN_S) == 0
    wrong.count(who, side_door.WRONG_WITHIN_S)
    assert wrong.locked_s(who, side_door.WRONG_WITHIN_S) == 0
    for nth in range(side_door.WRONG_KEPT_MAX + 5):
        wrong.count(("peer", str(nth).encode()), 100)
    assert len(wrong._counts) == side_door.WRONG_KEPT_MAX


def test_only_digests_are_kept():
    known = Credentials({(ACCOUNT_SID, KEY): SECRET}, {ACCOUNT_SID: ("token-one", "token-two")})
    assert SECRET.encode() not in b"".join(digest for digest, _ in known._known)
    assert known.account_of(f"{KEY}:{SECRET}".encode()) == ACCOUNT_SID
    assert known.account_of(f"{ACCOUNT_SID}:token-two".encode()) == ACCOUNT_SID
    assert known.account_of(basic("basic " + b64encode(b"x:y").decode())) is None


async def test_without_a_key_there_is_no_side_door(start, open_flow):
    async with (
        start(open_flow) as running,
        running.session.get(running.guard_url + f"{BASE}/Calls.json") as answer,
    ):
        assert answer.status == 404


# ── what passes ──────────────────────────────────────────────────────────────────────────────────────────


async def test_method_query_and_form_pass_as_they_are(house):
    """Messages are no matter of the guard's."""
    await house.send("POST", f"{BASE}/Messages.json", data={"To": "+15551230009", "Body": "a+b=c & d"})
    await house.send("DELETE", f"{BASE}/Recordings/RE1.json")
    await house.send("GET", f"{BASE}/Messages.json?To=%2B1&PageSize=3")
    below = [(method, path.partition(ACCOUNT_SID)[2]) for method, path, _ in house.twilio.asked]
    assert below == [
        ("POST", "/Messages.json"),
        ("DELETE", "/Recordings/RE1.json"),
        ("GET", "/Messages.json?To=%2B1&PageSize=3"),
    ]
    assert dict(house.twilio.asked[0][2]) == {"To": "+15551230009", "Body": "a+b=c & d"}
    assert "X-Ivr" not in house.twilio.headers[0]


NOT_OFFERED = [
    ("GET", ".json", 404),
    ("GET", "/", 404),
    ("GET", "/Keys.json", 403),
    ("POST", "/Keys.json", 403),
    ("POST", "/Tokens.json", 403),
    ("POST", "/IncomingPhoneNumbers/PN1.json", 403),
    ("POST", "/Applications/AP1.json", 403),
    ("POST", "/SIP/Domains.json", 403),
    ("PUT", "/Messages.json", 405),
    ("POST", "/Messages", 404),
    ("POST", "/Calls/CAx.json", 404),
    ("POST", "/calls.json", 403),
    ("GET", "/Calls/..%2f..%2fKeys.json", 404),
    ("GET", "/Calls//x.json", 404),
    ("GET", "/Messages.json?_method=DELETE", 400),
]


async def test_what_is_not_offered_is_refused_here(house):
    """Twilio is not asked, and the answer is in its shape."""
    for method, below, status in NOT_OFFERED:
        got, _, body = await house.send(method, BASE + below)
        assert (got, json.loads(body)["status"], house.twilio.asked) == (status, status, []), below


async def test_paths_outside_are_refused(house):
    for target in (
        "/.ivrguard/rest/2010-04-01/Accounts.json",
        "/.ivrguard/rest/v2/Services",
        "/.ivrguard/rest/",
    ):
        status, _, _ = await house.send("GET", target)
        assert status == 404
    assert house.twilio.asked == []


async def test_what_twilio_answers_comes_back(house, line):
    """Status, code, Retry-After; nothing of its other headers, and nothing of the guard's own credentials."""
    busy = web.json_response({"code": 20429, "status": 429, "message": "Too Many Requests"}, status=429)
    busy.headers["Retry-After"] = "7"
    busy.headers["Set-Cookie"] = "a=b"
    house.twilio.instead["Messages.json"] = busy
    status, headers, body = await house.send("POST", f"{BASE}/Messages.json", data={"Body": "x"})
    assert (status, headers["Retry-After"], json.loads(body)["code"]) == (429, "7", 20429)
    assert "Set-Cookie" not in headers


async def test_addresses_of_what_is_offered_are_the_guards(house):
    """So that a recording's `media_url` is fetched with the key that the IVR has."""
    there = f"{house.rig.server._parts.side_door_api_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/RE1"
    text = json.dumps({"media_url": there}) + json.dumps({"media_url": there}).replace("/", "\\/")
    house.twilio.instead["Recordings.json"] = web.Response(text=text, content_type="application/json")
    _, _, body = await house.send("GET", f"{BASE}/Recordings.json")
    assert (
        body.decode()
        .replace("\\/", "/")
        .count(f"{PUBLIC_URL}/.ivrguard/rest/2010-04-01/Accounts/{ACCOUNT_SID}/Rec")
        == 2
    )
    assert "127.0.0.1" not in body.decode()


async def test_media_is_streamed_and_redirects_are_given_back(house):
    async def media(request):
        response = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"x" * 100_000)
        return response

    house.twilio.instead |= {
        "RE1.mp3": media,
        "ME1": web.Response(status=307, headers={"Location": "https://m.example/1"}),
    }
    status, headers, body = await house.send("GET", f"{BASE}/Recordings/RE1.mp3")
    assert (status, headers["Content-Type"], len(body)) == (200, "audio/mpeg", 300_000)
    status, headers, _ = await house.send("GET", f"{BASE}/Messages/MM1/Media/ME1")
    assert (status, headers["Location"]) == (307, "https://m.example/1")


async def test_what_has_no_body_and_what_has_a_length(house):
    house.twilio.instead |= {
        "RE1.json": web.Response(status=204),
        "RE2.wav": web.Response(body=b"12345", content_type="audio/wav"),
    }
    assert (await house.send("DELETE", f"{BASE}/Recordings/RE1.json"))[0] == 204
    status, headers, body = await house.send("HEAD", f"{BASE}/Recordings/RE2.wav")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize("name", ["JSON_BYTES_MAX", "STREAM_BYTES_MAX"])
async def test_an_answer_has_a_bound(house, monkeypatch, name):
    """JSON is refused, a stream breaks off: nobody takes a part for the whole."""
    monkeypatch.setattr(side_door, name, 10)
    house.twilio.instead |= {
        "Calls.json": web.json_response({"calls": "x" * 100}),
        "RE1.mp3": web.Response(body=b"x" * 100, content_type="audio/mpeg"),
    }
    if name == "JSON_BYTES_MAX":
        assert (await house.send("GET", f"{BASE}/Calls.json"))[0] == 502
    else:
        with pytest.raises(Exception, match=r"."):
            await house.send("GET", f"{BASE}/Recordings/RE1.mp3")


async def test_twilio_that_refuses_the_guards_own_token_is_no_401(house):
    """The IVR's developer would look at his own key."""
    house.twilio.instead["Calls.json"] = web.json_response({"code": 20003}, status=401)
    status, _, body = await house.send("GET", f"{BASE}/Calls.json")
    assert (status, "own credentials" in json.loads(body)["message"]) == (502, True)


async def test_twilio_that_is_slow_or_not_there(house, monkeypatch):
    async def aborted(request):
        request.transport.abort()
        return web.Response()

    house.twilio.instead["Messages.json"] = aborted
    status, _, body = await house.send("POST", f"{BASE}/Messages.json", data={"Body": "x"})
    assert (status, "may have done" in json.loads(body)["message"]) == (502, True)

    async def slow(request):
        await asyncio.Event().wait()

    house.twilio.instead["Messages.json"] = slow
    monkeypatch.setattr(side_door, "ANSWER_S", 0.05)
    status, _, body = await house.send("POST", f"{BASE}/Messages.json", data={"Body": "x"})
    assert (status, "may have done" in json.loads(body)["message"]) == (504, True)


async def test_a_flood_of_refusals_does_not_flood_the_log(house, monkeypatch, logged):
    monkeypatch.setattr(side_door.Sparing, "take", lambda *_: (False, 7))
    await house.send("GET", f"{BASE}/Calls.json", auth=(KEY, "wrong"))
    assert [(one["event"], one.get("count")) for one in logged] == [("refusals_not_logged", 7)]


async def test_so_many_at_once_and_no_more(house, monkeypatch):
    monkeypatch.setattr(side_door, "REQUESTS_AT_ONCE_MAX", 0)
    status, headers, body = await house.send("GET", f"{BASE}/Calls.json")
    assert (status, headers["Retry-After"], json.loads(body)["code"]) == (429, "1", 20429)


async def test_the_form_must_be_one(house, line, monkeypatch):
    path = f"{BASE}/Calls/{line.call_sid}.json"
    asked = [
        await house.send("POST", path, json={"Url": "x"}),
        await house.send("POST", path, data=b"%ff=1", headers={"Content-Type": side_door.FORM}),
        await house.send("POST", path, data=b"x" * 70_000, headers={"Content-Type": side_door.FORM}),
    ]
    assert [status for status, _, _ in asked] == [415, 400, 413]
    monkeypatch.setattr(side_door, "BODY_DEADLINE_S", 0.05)

    async def drip():
        yield b"a"
        await asyncio.sleep(1)

    assert (await house.send("POST", path, data=drip(), headers={"Content-Type": side_door.FORM}))[0] == 408
    assert [one for one in house.twilio.asked if one[0] == "POST"] == []


async def test_a_prefix_in_another_spelling_is_refused(house, over_a_socket):
    target = f"/.ivrguard/%72est/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json"
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {_basic(KEY, SECRET)}\r\n\r\n"
    answer = await over_a_socket(house.rig.guard_url, head.encode())
    assert answer.startswith(b"HTTP/1.1 404")


# ── a live call ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_url_is_a_link_of_the_call(house, line, ivr):
    """The IVR gets the request as it meant it, GET and query and all, by way of the guard."""
    ivr.documents["/open/next"] = "<Gather><Say>Next.</Say></Gather>"
    url = f"{house.rig.ivr_url}/open/next?n=1"
    await house.rest(lambda client: client.calls(line.call_sid).update(url=url, method="GET"))
    path, form = house.twilio.changes()
    assert path == f"/Calls/{line.call_sid}.json"
    assert form["Url"].startswith(f"{PUBLIC_URL}/open/next?n=1&_ivrguard=tg.")
    assert form["Method"] == "POST"
    assert said(line) == ["Menu.", "Next."]
    assert (ivr.seen[-1].method, ivr.seen[-1].path, ivr.seen[-1].signed) == ("GET", "/open/next", True)
    assert ("rest_call_led", "url") in await entries(house)
    await house.rest(lambda client: client.calls(line.call_sid).update(url=url, method="GET"))
    assert said(line) == ["Menu.", "Next.", "Next."]


async def test_a_protected_url_is_asked_for_first(house, line, ivr):
    """The rule decides when the document is asked for, with the proofs that the call has then."""
    ivr.documents["/balance"] = "<Say>Your balance.</Say>"
    await house.rest(lambda client: client.calls(line.call_sid).update(url=f"{house.rig.ivr_url}/balance"))
    assert "/balance" not in ivr.paths()
    assert "/.ivrguard/call/" in line.waiting.action


async def test_a_document_is_answered_by_the_guard(house, line, ivr):
    """Nothing of it goes to Twilio but a link; its own links lead back; what is open is connected."""
    ivr.documents["/open/next"] = "<Gather><Say>Next.</Say></Gather>"
    twiml = f"<Response><Say>Secret words.</Say><Redirect>{house.rig.ivr_url}/open/next</Redirect></Response>"
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=twiml))
    _, form = house.twilio.changes()
    assert re.fullmatch(rf"{PUBLIC_URL}/\.ivrguard/call/led/[0-9a-f]{{32}}", form.pop("Url"))
    assert form == {"Method": "POST"}
    assert said(line) == ["Menu.", "Secret words.", "Next."]
    kept = await house.rig.store.list("led")
    assert len(kept) == 1
    assert "Secret" not in str(kept)


async def test_an_open_transfer_is_made_and_a_protected_one_asks_first(house, line):
    await house.rest(
        lambda client: client.calls(line.call_sid).update(twiml=f"<Response><Dial>{AGENT}</Dial></Response>")
    )
    assert taken_to(line) == [AGENT]
    await house.rest(
        lambda client: client.calls(line.call_sid).update(twiml=f"<Response><Dial>{OTHER}</Dial></Response>")
    )
    assert taken_to(line) == [AGENT]
    assert "/.ivrguard/call/" in line.waiting.action
    led = ("rest_call_led", "twiml")
    assert (await entries(house)).count(led) == 2


async def test_whoever_is_being_asked_is_led_nowhere(house, line):
    """What he keys for the guard must not reach the IVR; ending the call is another matter."""
    await house.rest(lambda client: client.calls(line.call_sid).update(url=f"{house.rig.ivr_url}/balance"))
    for change in ({"twiml": "<Response><Gather/></Response>"}, {"url": f"{house.rig.ivr_url}/open/x"}):
        status, code, message = await house.refused(
            lambda client, how=change: client.calls(line.call_sid).update(**how)
        )
        assert (status, code) == (409, 20409)
        assert "asked to prove" in message
    for part, form, status in (
        ("Recordings", {}, 409),
        ("Recordings/RE1", {"Status": "in-progress"}, 409),
        ("Streams", {"Url": "wss://elsewhere.example/"}, 409),
        ("Recordings/RE1", {"Status": "paused"}, 404),  # it is passed, and the pretend Twilio has none
    ):
        got, _, _ = await house.send("POST", f"{BASE}/Calls/{line.call_sid}/{part}.json", data=form)
        assert got == status, part
    assert (await entries(house)).count(("rest_refused", "asked")) == 5
    await house.rest(lambda client: client.calls(line.call_sid).update(status="completed"))
    assert line.over


async def test_a_document_that_arrives_while_the_guard_asks_gives_way_to_the_question(house, line, ivr):
    """Two requests crossed: the question is put again, and the document is not run."""
    nonce_at: list[str] = []

    async def held(request):
        nonce_at.append((await request.post())["Url"])
        return web.json_response({"sid": line.call_sid})

    house.twilio.instead[f"{line.call_sid}.json"] = held
    twiml = "<Response><Gather><Say>Key it to me.</Say></Gather></Response>"
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=twiml))
    ivr.documents["/menu"] = f"<Dial>{OTHER}</Dial>"
    await line.press("1")
    asked = line.waiting.action
    answer = await line.send(nonce_at[0])
    assert b"Key it" not in answer.body
    assert "/.ivrguard/call/" in asked
    assert b"Gather" in answer.body


WRONG_WITH_IT = [
    ({"twiml": "<Response><Say>"}, "document.parse"),
    ({"twiml": "<Respond/>"}, "document.root"),
    ({"twiml": "<Response><Redirect>https://elsewhere.example/</Redirect></Response>"}, "upstream.also"),
    ({"twiml": "<Response><Say>" + "x" * 4_000 + "</Say></Response>"}, "4000"),
    ({"url": "https://elsewhere.example/x"}, "upstream.also"),
    ({"url": "ivr.example/x"}, "https://"),
    ({"url": "https://ivr.example/x", "twiml": "<Response/>"}, "exclude"),
    ({"status_callback": "https://elsewhere.example/x"}, "StatusCallback"),
    ({"fallback_url": "https://elsewhere.example/x"}, "FallbackUrl"),
]


async def test_the_author_hears_what_is_wrong_with_a_document(house, line):
    """At once, as an error of his request, and Twilio hears nothing of it."""
    for given, says in WRONG_WITH_IT:
        change = {
            name: value.replace("https://ivr.example", house.rig.ivr_url) for name, value in given.items()
        }
        status, _, message = await house.refused(
            lambda client, how=change: client.calls(line.call_sid).update(**how)
        )
        assert (status, says in message) == (400, True), message
    assert [one for one in house.twilio.asked if one[0] == "POST"] == []


TWO_READINGS = [
    [("Url", "{ivr}/open/x"), ("Url", "{ivr}/open/y")],
    [("url", "{ivr}/open/x")],
    [("Url ", "{ivr}/open/x")],
    [("Twiml", "<Response/>"), ("Twiml", "<Response/>")],
    [("Status", "completed"), ("Status", "canceled")],
    [("NewUrl", "{ivr}/open/x")],
    [("_method", "DELETE"), ("Status", "completed")],
]


async def test_a_form_with_two_readings_is_refused(house, line):
    for given in TWO_READINGS:
        form = [(name, value.replace("{ivr}", house.rig.ivr_url)) for name, value in given]
        status, _, _ = await house.send("POST", f"{BASE}/Calls/{line.call_sid}.json", data=form)
        assert (status, house.twilio.asked) == (400, []), given


async def test_parameters_behind_the_path_are_refused(house, line):
    path = f"{BASE}/Calls/{line.call_sid}.json?Url={house.rig.ivr_url}/balance"
    assert (await house.send("POST", path))[0] == 400


async def test_a_call_that_nobody_knows(house):
    status, code, _ = await house.refused(
        lambda client: client.calls("CA" + "0" * 32).update(twiml="<Response/>")
    )
    assert (status, code) == (404, 20404)


async def test_the_end_of_a_call_is_known_from_the_ivrs_own_callback(house, line, ivr):
    """It takes the place of the number's own, and still tells the guard; the IVR gets it too."""
    ivr.documents["/told"] = ""
    await house.rest(
        lambda client: client.calls(line.call_sid).update(status_callback=f"{house.rig.ivr_url}/told")
    )
    await line.hang_up()
    assert ivr.paths().count("/told") == 1
    assert [event for event, _ in await entries(house)][-1] == "session_ended"


async def test_nothing_is_done_where_it_takes_too_long_to_see_whom_it_concerns(house, line, monkeypatch):
    """A conference of hundreds, and a provider that is slow about each: no place at the door is held for minutes."""

    async def hangs(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(side_door, "ADMIT_S", 0.05)
    monkeypatch.setattr(house.rig.server.world.store, "read", hangs)
    status, code, message = await house.refused(
        lambda client: client.calls(line.call_sid).update(twiml="<Response/>")
    )
    assert (status, code, "nothing was done" in message) == (503, 20503, True)


async def test_nothing_is_done_while_the_store_is_down(house, line, monkeypatch):
    """503 in Twilio's shape; what is no matter of the rules passes all the same."""

    async def down(*_):
        raise StoreFault("down")

    monkeypatch.setattr(house.rig.server.world.store, "read", down)
    status, code, message = await house.refused(
        lambda client: client.calls(line.call_sid).update(twiml="<Response/>")
    )
    assert (status, code, "nothing was done" in message) == (503, 20503, True)
    assert [one for one in house.twilio.asked if one[0] == "POST"] == []
    await house.rest(lambda client: client.calls(line.call_sid).fetch())


async def test_the_leg_that_a_caller_was_connected_with(house, line, ivr):
    """What an agent's leg is led to is a whisper: without transfers, and known by the caller's call."""
    await house.rest(
        lambda client: client.calls(line.call_sid).update(twiml=f"<Response><Dial>{AGENT}</Dial></Response>")
    )
    [leg] = line.legs
    ivr.documents["/open/agent"] = "<Say>Wrap up.</Say>"
    for twiml in (f"<Response><Dial>{OTHER}</Dial></Response>", "<Response>"):
        status, _, _ = await house.refused(
            lambda client, how=twiml: client.calls(leg.call_sid).update(twiml=how)
        )
        assert status == 400
    long = "<Response>" + f"<Redirect>{house.rig.ivr_url}/open/agent</Redirect>" * 60 + "</Response>"
    status, code, _ = await house.refused(lambda client: client.calls(leg.call_sid).update(twiml=long))
    assert (status, code) == (400, 32018)
    await house.rest(lambda client: client.calls(leg.call_sid).update(url=f"{house.rig.ivr_url}/open/agent"))
    assert said(leg) == ["Wrap up."]
    assert "_ivrguard=wp." in house.twilio.changes()[1]["Url"]


async def test_an_agents_leg_hears_a_document(house, line):
    await house.rest(
        lambda client: client.calls(line.call_sid).update(twiml=f"<Response><Dial>{AGENT}</Dial></Response>")
    )
    [leg] = line.legs
    await house.rest(
        lambda client: client.calls(leg.call_sid).update(twiml="<Response><Say>Bye.</Say></Response>")
    )
    assert said(leg) == ["Bye."]


# ── a new one ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_is_placed_is_one_of_the_flows(house, ivr):
    """Whom it reaches is put to the rules of the number that it comes from."""
    number = house.rig.flow.numbers[0]
    ivr.documents["/balance"] = "<Say>Your balance.</Say>"
    house.rig.exchange.agents["+15551230077"] = replace(house.rig.exchange.otherwise)
    made = await house.rest(
        lambda client: client.calls.create(
            to="+15551230077",
            from_=number,
            url=f"{house.rig.ivr_url}/balance",
            status_callback=f"{house.rig.ivr_url}/told",
            status_callback_event=["answered", "completed"],
        )
    )
    placed = house.twilio.calls.lines[made.sid]
    assert "/balance" not in ivr.paths()
    assert "/.ivrguard/call/" in placed.waiting.action
    sent = house.twilio.asked[-1][2]
    assert sent.getall("StatusCallbackEvent") == ["answered", "completed"]
    assert "_ivrguard=sp." in sent["StatusCallback"]


async def test_a_document_for_a_call_that_is_placed(house):
    number = house.rig.flow.numbers[0]
    twiml = f"<Response><Say>Hello.</Say><Dial>{OTHER}</Dial></Response>"
    made = await house.rest(lambda client: client.calls.create(to="+15551230077", from_=number, twiml=twiml))
    placed = house.twilio.calls.lines[made.sid]
    assert said(placed)[0] == "Hello."
    assert taken_to(placed) == []
    assert isinstance(placed.waiting, Asked)


async def test_what_is_not_placed(house):
    """A number that no flow has, an application's documents; what gives nothing is Twilio's to refuse."""
    number, url = house.rig.flow.numbers[0], f"{house.rig.ivr_url}/open/x"
    for form, status in (
        ({"from_": "+15550000001", "url": url}, 403),
        ({"from_": number, "application_sid": "AP" + "0" * 32}, 403),
        ({"from_": number}, 400),
    ):
        got, _, _ = await house.refused(
            lambda client, how=form: client.calls.create(to="+15551230077", **how)
        )
        assert got == status


# ── conferences ──────────────────────────────────────────────────────────────────────────────────────────

LOBBY = "<Response><Dial><Conference>lobby</Conference></Dial></Response>"


async def join(house, to, **more):
    number = house.rig.flow.numbers[0]
    return await house.rest(
        lambda client: client.conferences("lobby").participants.create(to=to, from_=number, **more)
    )


async def test_who_may_be_dialled_into_a_conference_with_a_caller(house, line):
    """An open target passes as it is; a protected one is refused, and the answer says what is missing."""
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=LOBBY))
    assert line.waiting == Bridged("lobby")
    await join(house, AGENT)
    assert house.twilio.changes()[1]["To"] == AGENT
    number = house.rig.flow.numbers[0]
    for to, levels in (
        ("client:ada", "one_factor:"),
        (OTHER, "one_factor and one_factor, proved anew:"),
        ("?", "one_factor"),
    ):
        status, code, message = await house.refused(
            lambda client, to=to: client.conferences("lobby").participants.create(to=to, from_=number)
        )
        assert (status, code) == (403, 20403)
        assert f"once he holds {levels}" in message
        assert line.call_sid in message
    assert (await entries(house)).count(("rest_refused", "level")) == 3


async def test_a_conference_without_a_caller_of_ours(house):
    """Nobody is handed over; callbacks and wait music lead back by the flow of the number that calls."""
    await join(
        house, OTHER, wait_url=f"{house.rig.ivr_url}/open/music", status_callback=f"{house.rig.ivr_url}/told"
    )
    path, form = house.twilio.changes()
    assert path == "/Conferences/lobby/Participants.json"
    assert form["To"] == OTHER
    assert "_ivrguard=qp." in form["WaitUrl"]
    assert "_ivrguard=sp." in form["StatusCallback"]


async def test_what_a_conference_hears_leads_back(house, line, ivr):
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=LOBBY))
    ivr.documents["/open/music"] = "<Say>La la.</Say>"
    room = house.twilio.conferences.rooms[0].sid
    url = f"{house.rig.ivr_url}/open/music"
    people = await house.rest(
        lambda client: client.conferences(room).participants(line.call_sid).update(hold=True, hold_url=url)
    )
    assert people.hold
    assert "_ivrguard=qg." in house.twilio.changes()[1]["HoldUrl"]
    await house.rest(lambda client: client.conferences(room).update(announce_url=url))
    assert said(line)[-2:] == ["La la.", "La la."]
    await house.rest(lambda client: client.conferences(room).participants(line.call_sid).update(muted=True))
    status, _, _ = await house.refused(
        lambda client: client.conferences("CF" + "0" * 32).update(announce_url=url)
    )
    assert status == 403


async def test_whoever_is_placed_into_a_callers_conference_is_a_transfer_too(house, line):
    """By a document of his own, he comes as near as by `participants`: the caller's rule decides about whom was called."""
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=LOBBY))
    number = house.rig.flow.numbers[0]
    for to, let_in in ((OTHER, False), (AGENT, True)):
        made = await house.rest(lambda client, to=to: client.calls.create(to=to, from_=number, twiml=LOBBY))
        placed = house.twilio.calls.lines[made.sid]
        assert (placed.waiting == Bridged("lobby"), placed.over) == (let_in, not let_in), to
    assert len(house.twilio.conferences.rooms[0].participants) == 2
    assert ("rest_refused", "level") in await entries(house)


async def test_whoever_waits_in_a_conference_is_whom_its_caller_is_connected_with(house, line):
    """The agent was first: then the caller's own way in is the transfer, and he is asked before it."""
    number = house.rig.flow.numbers[0]
    await house.rest(lambda client: client.calls.create(to=AGENT, from_=number, twiml=LOBBY))
    await join(house, OTHER)
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=LOBBY))
    assert "/.ivrguard/call/" in line.waiting.action
    assert len(house.twilio.conferences.rooms[0].participants) == 2


async def test_where_twilio_does_not_say_who_is_there_nobody_is_connected(house, line):
    house.twilio.instead["Conferences.json"] = web.Response(status=500)
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=LOBBY))
    assert line.over
    assert house.twilio.conferences.rooms == []


async def test_a_member_of_a_queue_is_led_by_name(house, line, ivr):
    """`Front` may be anybody: who is led away is named."""
    house.twilio.instead[f"{line.call_sid}.json"] = web.json_response({"call_sid": line.call_sid})
    path = f"{BASE}/Queues/QU1/Members/{line.call_sid}.json"
    status, _, _ = await house.send(
        "POST", path, data={"Url": f"{house.rig.ivr_url}/open/x", "Method": "POST"}
    )
    assert status == 200
    assert "_ivrguard=tp." in house.twilio.changes()[1]["Url"]
    status, _, _ = await house.send(
        "POST", f"{BASE}/Queues/QU1/Members/Front.json", data={"Url": "https://x.example"}
    )
    assert status == 403


async def test_a_stream_of_a_call_leads_to_a_listed_host_only(house, line):
    path = f"{BASE}/Calls/{line.call_sid}/Streams.json"
    status, _, body = await house.send("POST", path, data={"Url": "wss://elsewhere.example/"})
    assert (status, "Url" in json.loads(body)["message"]) == (400, True)
    listed = house.rig.ivr_url.replace("http", "ws")
    form = {"Url": f"{listed}/media", "StatusCallback": f"{house.rig.ivr_url}/told"}
    assert (await house.send("POST", path, data=form))[0] == 404
    sent = house.twilio.changes()[1]
    assert sent["Url"] == form["Url"]
    assert "_ivrguard=sp." in sent["StatusCallback"]


# ── round it ──


async def test_a_transfer_that_goes_round_the_guard_is_seen_when_the_call_is_over(house, line):
    """The IVR asks Twilio itself, with the account's token; the guard's own transfers and conferences are no alarm."""
    own = f"<Response><Dial>{AGENT}</Dial></Response>"
    for twiml in (own, LOBBY):
        await house.rest(lambda client, how=twiml: client.calls(line.call_sid).update(twiml=how))
    await line.hang_up()
    await house.rig.server.guard.drain()
    assert "transfer_unseen" not in [event for event, _ in await entries(house)]

    around = Client(ACCOUNT_SID, AUTH_TOKEN)
    around.api.base_url = house.rig.server._parts.side_door_api_url
    line = house.rig.call()
    await line.until_input()
    await asyncio.to_thread(
        lambda: around.calls(line.call_sid).update(twiml=f"<Response><Dial>{OTHER}</Dial></Response>")
    )
    await house.twilio.calls.settled()
    assert taken_to(line) == [OTHER]
    await line.hang_up()
    await house.rig.server.guard.drain()
    assert [event for event, _ in await entries(house)][-1] == "transfer_unseen"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_credential_comes_out_anywhere(house, line, logged):
    """Canaries: the IVR's key, the account's token, the document, in log, record, metrics and every answer."""
    twiml = f"<Response><Say>canary-words</Say><Dial>{OTHER}</Dial></Response>"
    await house.rest(lambda client: client.calls(line.call_sid).update(twiml=twiml))
    await house.refused(lambda client: client.calls(line.call_sid).update(twiml=twiml))
    answers = [await house.send(*one) for one in (("GET", f"{BASE}/Calls.json"), ("GET", f"{BASE}.json"))]
    async with house.rig.session.get(f"{house.rig.ops_url}/metrics") as answer:
        metrics = await answer.text()
    record = str(await house.rig.store.entries(limit=1000))
    for canary in (SECRET, AUTH_TOKEN, b64encode(SECRET.encode()).decode(), "canary-words"):
        for place in (str(logged), record, metrics, str(answers), repr(house.rig.server._parts)):
            assert canary not in place
    assert 'ivrguard_rest_requests_total{outcome="changed"} 1.0' in metrics
    assert any(one.get("kind") == "update" and one["call"] == line.call_sid for one in logged)
