"""The webhooks' door: who posts, in what shape, and that there is always an answer."""

import asyncio
import gzip
import hashlib
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web

from ivrguard.core.rules import Demand, Rule
from ivrguard.phone.heard import AgentBehaviour, Asked, Bridged, Failed, Queued, Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL
from ivrguard.ports import Account
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.links import Kind
from ivrguard.telephony.signature import SharedKey
from ivrguard.web import upstream, voice

UNAVAILABLE = "We are sorry, we cannot take your call right now."
SUB_ACCOUNT = "AC" + "7b" * 16


def words(body: bytes) -> str:
    """What a caller hears of a document of the guard's; it must be TwiML."""
    root = ET.fromstring(body)
    assert root.tag == "Response"
    return " ".join("".join(each.itertext()) for each in root if each.tag == "Say")


# ── who posts ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "lie",
    [
        {},
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "8080"},
        {"Forwarded": "host=evil.example;proto=http", "X-Original-Host": "evil.example"},
    ],
    ids=["nothing", "Host", "X-Forwarded", "Forwarded"],
)
async def test_only_the_configured_url_counts(provider, ivr, lie):
    """Law 1: the signature is over the configured public URL, whatever the headers say of another one."""
    got = await provider.send(headers=lie)
    assert (got.status, words(got.body)) == (200, "Hello.")

    for_another_name = await provider.send(headers=lie, public_url="https://evil.example")
    assert (for_another_name.status, for_another_name.body) == (403, b"")
    assert ivr.paths() == ["/voice"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_number_may_be_asked_by_get_or_post(provider, ivr, method):
    """The number's voice URL has a method of its own, and the IVR is asked by the same."""
    got = await provider.send(method=method)

    assert (got.status, words(got.body)) == (200, "Hello.")
    assert (ivr.seen[0].method, ivr.seen[0].params["From"]) == (method, "+15551230001")
    assert got.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert got.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signature": ""}, "signature"),
        ({"signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "signature"),
        ({"token": "another token"}, "signature"),
        ({"body": b"CallSid=CA1"}, "signature"),
        ({"body": b"{}", "content_type": "application/json"}, "signature"),
        ({"method": "PUT"}, "method"),
        ({"method": "DELETE"}, "method"),
        ({"method": "HEAD"}, "method"),
        ({"body": b"a=" + b"b" * 70_000}, "body.size"),
        ({"body": b"a=b&" * 300}, "form.many"),
        ({"body": b"a=%FF"}, "form.encoding"),
        ({"target": "/?a=%FF"}, "form.encoding"),
        ({"target": "/.ivrguard/status", "signature": ""}, "signature"),
        ({"target": "/.ivrguard/fallback", "signature": ""}, "signature"),
        ({"target": "/.ivrguard/call/" + "0" * 32, "signature": ""}, "signature"),
        ({"target": "/.ivrguard/call/whisper/" + "0" * 32, "signature": ""}, "signature"),
        ({"target": "/.ivrguard/at/media.bank.example/x", "signature": ""}, "signature"),
    ],
)
async def test_what_is_not_signed_is_refused_before_anything_else(
    guarded, provider, ivr, metric, logged, change, reason
):
    """403 and nothing in it, a log line and a count; no store, no IVR, no words."""
    got = await provider.send(**change)

    assert (got.status, got.body) == (403, b"")
    assert ivr.seen == []
    assert [(line["event"], line["reason"]) for line in logged] == [("refused", reason)]
    assert await metric(guarded, f'ivrguard_refused_total{{reason="{reason}"}}') == 1


def test_a_flood_of_forgeries_does_not_flood_the_log():
    """Law 5: so many a second are logged; the first one of a later second says how many were not."""
    sparing = voice.Sparing(2)
    taken = [sparing.take(now_s) for now_s in (7.0, 7.1, 7.2, 7.9, 8.0, 8.5, 9.0)]
    assert taken == [(True, 0), (True, 0), (False, 0), (False, 0), (True, 2), (True, 0), (True, 0)]


async def test_each_forgery_is_counted_though_not_logged(guarded, provider, metric, logged):
    """The operator's alert rests on the count."""
    clock = asyncio.get_running_loop().time
    flood, began = 3 * voice.REFUSALS_LOGGED_A_SECOND, int(clock())
    for _ in range(flood):
        assert (await provider.send(signature="")).status == 403

    assert await metric(guarded, 'ivrguard_refused_total{reason="signature"}') == flood
    refused = [line for line in logged if line["event"] == "refused"]
    assert 0 < len(refused) <= voice.REFUSALS_LOGGED_A_SECOND * (int(clock()) - began + 1)


async def test_what_was_not_logged_is_told(monkeypatch, provider, logged):
    """The log says itself how much it leaves out."""
    monkeypatch.setattr(voice.Sparing, "take", lambda _self, _now: (False, 7))
    await provider.send(signature="")

    assert [(line["event"], line["count"]) for line in logged] == [("refusals_not_logged", 7)]


async def test_compressed_bodies_are_not_unpacked(provider):
    """Nobody who sends us anything compresses it: what is packed is not signed, and no bomb goes off."""
    bomb = gzip.compress(b"a" * 10_000_000)
    assert len(bomb) < 64 * 1024
    got = await provider.send(body=bomb, headers={"Content-Encoding": "gzip"})

    assert (got.status, got.body) == (403, b"")


async def test_a_body_that_never_comes_takes_nobodys_place(guarded, over_a_socket, metric, monkeypatch):
    """Whoever feeds a body byte by byte, or breaks off, is refused in time and holds no place meanwhile."""
    monkeypatch.setattr(voice, "BODY_DEADLINE_S", 0.05)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    slow = await over_a_socket(guarded.guard_url, head + b"Content-Length: 5\r\n\r\na", head=True)
    assert slow.startswith(b"HTTP/1.1 403 ")
    assert await metric(guarded, 'ivrguard_refused_total{reason="body.slow"}') == 1

    host, _, port = guarded.guard_url.removeprefix("http://").partition(":")
    monkeypatch.setattr(voice, "BODY_DEADLINE_S", 5.0)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head + b"Content-Length: 5\r\n\r\na")
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        while await metric(guarded, 'ivrguard_refused_total{reason="body.broken"}') < 1:
            pass


async def test_two_tokens_are_in_force_during_a_rotation(start, open_flow, provider_of):
    """Each AccountSid has its tokens; a sub-account has its own, and nobody signs for another."""
    tokens = {ACCOUNT_SID: ("the old token 1234", "the new token 1234"), SUB_ACCOUNT: ("the sub token 123",)}
    async with start(open_flow, extra={"tokens": tokens}) as guarded:
        provider = provider_of(guarded)
        table = [
            (ACCOUNT_SID, "the old token 1234", 200),
            (ACCOUNT_SID, "the new token 1234", 200),
            (ACCOUNT_SID, "the sub token 123", 403),
            (SUB_ACCOUNT, "the sub token 123", 200),
            (SUB_ACCOUNT, "the new token 1234", 403),
            ("AC" + "0" * 32, "the new token 1234", 403),
        ]
        for account, token, expected in table:
            provider.sid = "CA" + hashlib.md5((account + token).encode()).hexdigest()
            got = await provider.send(params=provider.params(AccountSid=account), token=token)
            assert (account, token, got.status) == (account, token, expected)


async def test_a_shared_key_is_pinned_to_its_algorithm(start, open_flow, provider_of):
    """The header names the key; it cannot choose a weaker algorithm, nor make the auth token do instead."""
    key = SharedKey("key-1", b"a shared secret of ours", "HMAC_SHA256")
    async with start(open_flow, extra={"shared_keys": (key,)}) as guarded:
        provider = provider_of(guarded)
        settings = "X-Twilio-Webhooks-Signature-Settings"
        table = [
            (key.secret, "HMAC_SHA256", "key=key-1,algorithm=HMAC_SHA256", 200),
            (key.secret, "HMAC_SHA1", "key=key-1,algorithm=HMAC_SHA1", 403),
            (key.secret, "HMAC_SHA1", "key=key-1,algorithm=HMAC_SHA256", 403),
            (AUTH_TOKEN, "HMAC_SHA1", "key=key-1,algorithm=HMAC_SHA256", 403),
            (key.secret, "HMAC_SHA256", "key=key-2,algorithm=HMAC_SHA256", 403),
        ]
        for secret, algorithm, header, expected in table:
            got = await provider.send(token=secret, algorithm=algorithm, headers={settings: header})
            assert (header, got.status) == (header, expected)


# ── in what shape ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"CallSid": None}, "call_sid.missing"),
        ({"CallSid": "CA1"}, "call_sid.shape"),
        ({"AccountSid": None}, "account_sid.missing"),
        ({"Digits": "١٢٣٤"}, "digits.shape"),
        ({"Digits1": "234"}, "parameter.shifted"),
        ({"CallStatus": "dancing"}, "call_status.shape"),
    ],
)
async def test_signed_but_misshapen_is_answered_and_decides_nothing(
    guarded, provider, ivr, metric, logged, changed, reason
):
    """It comes from the provider and may hold digits: 200 and words; refused, logged and counted all the same."""
    got = await provider.send(params=provider.params(**changed))

    assert (got.status, words(got.body)[: len(UNAVAILABLE)]) == (200, UNAVAILABLE)
    assert ivr.seen == []
    assert [(line["event"], line["reason"]) for line in logged] == [("malformed", reason)]
    assert await metric(guarded, f'ivrguard_refused_total{{reason="{reason}"}}') == 1
    assert await guarded.store.head() == (0, "0" * 64)


async def test_unknown_parameters_are_passed_on(provider, ivr):
    """Twilio adds new ones without notice."""
    got = await provider.send(params=provider.params(SomethingNew="1"))

    assert (got.status, ivr.seen[0].params["SomethingNew"]) == (200, "1")


async def test_a_line_of_the_log_names_call_and_request(provider, logged):
    """So that an operator finds what belongs together; a CallSid that is none does not stand there."""
    await provider.send()
    await provider.send(params=provider.params(CallSid=None))

    first, second = logged
    assert (first["event"], first["outcome"], first["call"]) == ("webhook", "forwarded", provider.sid)
    assert first["request"].startswith("req_")
    assert first["request"] != second["request"]
    assert "call" not in second


# ── always an answer ─────────────────────────────────────────────────────────────────────────────────────


async def test_more_webhooks_than_there_are_places(guarded, provider, ivr, metric, logged, monkeypatch):
    """Beyond the bound a caller hears words at once; the ones under way are not disturbed."""
    monkeypatch.setattr(voice, "WEBHOOKS_AT_ONCE_MAX", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await go_on.wait()
        return web.Response(text="<Response><Say>Late.</Say></Response>", content_type="text/xml")

    ivr.documents["/voice"] = slow
    first = asyncio.ensure_future(provider.send())
    await asked.wait()
    assert await metric(guarded, "ivrguard_webhooks_in_flight") == 1
    unsigned = await provider.send(signature="")
    second = await provider.send(params=provider.params(CallSid="CA" + "9" * 32))
    go_on.set()

    assert unsigned.status == 403
    assert (second.status, words(second.body)[: len(UNAVAILABLE)]) == (200, UNAVAILABLE)
    assert words((await first).body) == "Late."
    assert await metric(guarded, 'ivrguard_webhooks_total{outcome="too_many"}') == 1
    assert await metric(guarded, "ivrguard_webhooks_in_flight") == 0
    assert "too_many" in [line["event"] for line in logged]


async def test_the_apology_is_in_the_language_of_the_number(start, open_flow, provider_of, monkeypatch):
    """Two flows, two languages: the number that was called decides, also when the deadline is over."""
    monkeypatch.setattr(voice, "DEADLINE_S", 0.05)
    german = replace(
        open_flow,
        name="bank-de",
        numbers=("+498005550100",),
        language="de-DE",
        prompts={**open_flow.prompts, "unavailable": "Bitte rufen Sie später an."},
    )

    class Stuck(MemoryStore):
        async def read(self, key):
            await asyncio.Event().wait()

    async with start(open_flow, store=Stuck(), extra={"flows": (open_flow, german)}) as guarded:
        provider = provider_of(guarded)
        for number, expected in (("+498005550100", "Bitte rufen"), ("+18005550100", "We are sorry")):
            got = await provider.send(params=provider.params(To=number))
            assert words(got.body).startswith(expected)


async def test_a_bug_of_ours_is_answered_too(guarded, provider, ivr, metric, logged, monkeypatch):
    """Nobody foresaw it: words for the caller, the place in the code for us, nothing let through."""

    def stumbles(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ivrguard.guard.webhook.step_of", stumbles)
    got = await provider.send()

    assert (got.status, words(got.body)[: len(UNAVAILABLE)]) == (200, UNAVAILABLE)
    assert [(line["event"], line["exc_info"]) for line in logged] == [("bug", True)]
    assert await metric(guarded, 'ivrguard_webhooks_total{outcome="bug"}') == 1
    assert ivr.seen == []


async def test_the_fallback_says_sorry_and_the_log_says_why(guarded, provider, metric, logged):
    """The provider could not run our answer: `ErrorCode` is the operator's, the caller hears words."""
    for method in ("GET", "POST"):
        got = await provider.send(
            "/.ivrguard/fallback", provider.params(ErrorCode="11200", ErrorUrl="https://x/"), method=method
        )
        assert (got.status, words(got.body)[: len(UNAVAILABLE)]) == (200, UNAVAILABLE)

    assert [line["code"] for line in logged if line["event"] == "fallback"] == ["11200", "11200"]
    assert await metric(guarded, 'ivrguard_webhooks_total{outcome="fallback"}') == 2


async def test_the_status_callback_ends_the_call(guarded, provider, ivr):
    """The number's own status callback, once; what is not an end, or not a call of ours, changes nothing."""
    await provider.send()
    statuses = [("in-progress", False), ("completed", True), ("completed", True)]
    for status, ended in statuses:
        got = await provider.send("/.ivrguard/status", provider.params(CallStatus=status))
        assert (got.status, words(got.body)) == (200, "")
        (call,) = await guarded.store.list("call")
        assert (call.value.ended_ms is not None) is ended
    await provider.send("/.ivrguard/status", provider.params(CallSid="CA" + "8" * 32, CallStatus="completed"))

    assert [one.entry.event for one in await guarded.store.entries()][-1] == "session_ended"
    assert len(await guarded.store.list("call")) == 1
    assert ivr.paths() == ["/voice"]


async def test_a_status_callback_while_the_store_is_down(guarded, provider, metric, logged):
    """A fault, not a bug: one line that names the store, and the provider is answered."""
    await guarded.store.close()
    got = await provider.send("/.ivrguard/status", provider.params(CallStatus="completed"))

    assert (got.status, words(got.body)) == (200, "")
    assert [(line["event"], line["reason"]) for line in logged if line["log_level"] == "error"] == [
        ("fault", "store")
    ]
    assert await metric(guarded, 'ivrguard_webhooks_total{outcome="bug"}') == 0


async def test_no_other_path_of_the_guards_own_answers(guarded, provider, ivr):
    """What lies under /.ivrguard and is none of ours is not the IVR's either."""
    for target in ("/.ivrguard", "/.ivrguard/", "/.ivrguard/other", "/.ivrguard/call/1"):
        got = await provider.send(target)
        assert (target, got.status) == (target, 404)
    assert ivr.seen == []


# ── other ears ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_notice_reaches_the_ivr_and_its_reply_nobody(guarded, provider, ivr, link_to):
    """S: parameters and method as the IVR wrote them, signed for it; what it replies is thrown away."""
    ivr.documents["/events"] = "<Redirect>/voice</Redirect>"
    for method in ("POST", "GET"):
        target = link_to(guarded, "/events?k=1", Kind.S, method=method)
        got = await provider.send(target, provider.params(RecordingSid="RE1"))

        assert (got.status, words(got.body)) == (200, "")
        seen = ivr.seen[-1]
        assert (seen.method, seen.path, seen.signed) == (method, "/events", True)
        assert seen.params["RecordingSid"] == "RE1"
        assert seen.query.startswith("k=1")


async def test_a_notice_in_json_arrives_as_it_came(guarded, provider, ivr, link_to):
    """The body's hash stands in the URL and is checked; both go on to the IVR, byte for byte."""
    ivr.documents["/events"] = ""
    body = b'{"a": [1, "\xc3\xa4"]}'
    digest = hashlib.sha256(body).hexdigest()
    for path in ("/events", "/events?k=1"):
        target = f"{link_to(guarded, path, Kind.S)}&bodySHA256={digest}"
        got = await provider.send(target, body=body, content_type="application/json; charset=utf-8")
        seen = ivr.seen[-1]
        assert (got.status, seen.body, seen.signed) == (200, body, True)
        assert seen.query.endswith(f"bodySHA256={digest}")
        assert seen.headers["Content-Type"] == "application/json; charset=utf-8"
    target = link_to(guarded, "/events", Kind.S, method="GET")
    await provider.send(f"{target}&bodySHA256={digest}", body=body, content_type="application/json")
    assert (ivr.seen[-1].method, ivr.seen[-1].body) == ("GET", b"")

    sent = len(ivr.seen)
    other = await provider.send(
        f"{link_to(guarded, '/events', Kind.S)}&bodySHA256={digest}",
        body=b"{}",
        content_type="application/json",
    )
    assert (other.status, len(ivr.seen)) == (403, sent)


async def test_a_notice_that_is_lost_or_forged_is_the_operators_affair(
    guarded, provider, ivr, link_to, logged
):
    """The provider is answered as always."""
    target = link_to(guarded, "/nowhere", Kind.S)
    assert (await provider.send(target)).status == 200
    forged = target[:-1] + ("A" if target[-1] != "A" else "B")
    assert (await provider.send(forged)).status == 200

    assert [line["event"] for line in logged if line["log_level"] == "error"] == [
        "notice_lost",
        "notice_refused",
    ]
    assert ivr.paths() == ["/nowhere"]


async def test_the_ivrs_own_whisper_is_for_the_callee(guarded, ivr):
    """W: on the leg of the one who is called, before the two are joined; its keys stay on that leg."""
    ivr.documents["/voice"] = '<Dial><Number url="/screen">+18005550142</Number></Dial>'
    ivr.documents["/screen"] = '<Gather action="/accept" numDigits="1"><Say>A call. Press 1.</Say></Gather>'
    ivr.documents["/accept"] = "<Say>Joined.</Say>"
    guarded.exchange.agents["+18005550142"] = AgentBehaviour(keys=("1",))
    line = guarded.call()
    await line.until_input()

    (leg,) = line.legs
    assert isinstance(line.waiting, Bridged)
    assert [each.text for each in leg.heard if isinstance(each, Said)] == ["A call. Press 1.", "Joined."]
    assert ivr.paths() == ["/voice", "/screen", "/accept"]


async def test_a_whispers_link_is_no_way_in_for_a_caller(guarded, provider, ivr, link_to):
    """The ungated link of another leg does not answer to a caller's, nor does any other kind of link."""
    ivr.documents["/secret"] = "<Say>The secret.</Say>"
    await provider.send()
    for kind in (Kind.W, Kind.S):
        got = await provider.send(link_to(guarded, "/secret", kind, turn=1))
        assert "secret" not in got.text
    forged = link_to(guarded, "/secret", Kind.T, turn=1).replace("=tp.", "=wp.")
    assert "secret" not in (await provider.send(forged, provider.params(CallSid="CA" + "7" * 32))).text

    assert ivr.paths() == ["/voice", "/secret"]  # once, as a notice, whose reply nobody hears


async def test_a_caller_in_a_queue_hears_the_ivrs_wait_document(guarded, ivr):
    """Q: rewritten like any other document; when it cannot be had, he keeps his place and hears so."""
    ivr.documents["/voice"] = '<Enqueue waitUrl="/wait">support</Enqueue>'
    ivr.documents["/wait"] = "<Say>You are next.</Say><Play>/music.mp3</Play>"
    ivr.documents["/music.mp3"] = web.Response(body=b"tra la la", content_type="audio/mpeg")
    line = guarded.call()
    await line.until_input()
    assert "You are next." in [each.text for each in line.heard if isinstance(each, Said)]
    assert [each for each in line.heard if isinstance(each, Failed)] == []

    ivr.documents["/wait"] = web.Response(status=500)
    await line.silent()
    assert isinstance(line.waiting, Queued)
    assert [each.text for each in line.heard if isinstance(each, Said)][-1] == "One moment, please."
    await guarded.store.close()
    await line.silent()
    assert isinstance(line.waiting, Queued)


async def test_a_question_is_answered_at_its_own_url_only(bank, provider_of, ivr):
    """The caller's leg posts to the question; nobody has asked at another URL, and GET is not for digits."""
    line = bank.call()
    asked = await line.until_input()
    assert isinstance(asked, Asked)
    target = asked.action.removeprefix(PUBLIC_URL)
    provider = provider_of(bank)
    provider.sid = line.call_sid
    stale = await provider.send("/.ivrguard/call/" + "0" * 32, provider.params(Digits="123456"))
    assert (stale.status, words(stale.body)) == (200, "")
    assert (await provider.send(target, provider.params(Digits="123456"), method="GET")).status == 405

    await line.press("123456#")
    assert "PIN" in [each.text for each in line.heard if isinstance(each, Said)][-1]
    assert ivr.seen == []


async def test_the_code_of_a_transfer_is_whispered_to_the_agent(start, bank_flow, ivr):
    """A plain phone can carry nothing else: the code, twice, before the two are joined."""
    flow = replace(bank_flow, rules=(), default=Demand("one_factor", intent="agent"))
    ivr.documents["/voice"] = "<Dial>+18005550142</Dial>"
    async with start(flow) as guarded:
        await guarded.enrol(Account("123456"), pin="24681357")
        line = guarded.call()
        for keys in ("123456#", "24681357"):
            await line.until_input()
            await line.press(keys)
        (leg,) = line.legs
        said = [each.text for each in leg.heard if isinstance(each, Said)]
        assert len(said) == 2
        assert said[0].startswith("This caller has been verified.")


# ── media ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_media_is_streamed(guarded, ivr, link_to, size):
    """Whatever its size, with what belongs to it, and without a signature: its link is its pass."""
    sound = bytes(n % 251 for n in range(size))
    headers = {"Content-Type": "audio/wav", "ETag": '"1"', "Cache-Control": "max-age=60", "Set-Cookie": "a=1"}
    ivr.documents["/a.wav"] = web.Response(body=sound, headers=headers)
    target = link_to(guarded, "/a.wav", Kind.M, method="GET")
    async with guarded.session.get(guarded.guard_url + target) as got:
        assert (got.status, await got.read()) == (200, sound)
        assert (got.headers["Content-Type"], got.headers["ETag"]) == ("audio/wav", '"1"')
        assert got.headers["Cache-Control"] == "max-age=60"
        assert "Set-Cookie" not in got.headers
    assert (ivr.seen[0].method, ivr.seen[0].signed) == ("GET", True)

    async with guarded.session.head(guarded.guard_url + target) as got:
        assert (got.status, got.headers.get("Content-Length", "0"), await got.read()) == (200, str(size), b"")
    assert ivr.seen[1].method == "HEAD"


async def test_media_is_taken_as_it_is(guarded, ivr, link_to):
    """An IVR that packs what is asked for packed is not asked: length and bytes must agree."""

    async def packs(request: web.Request) -> web.Response:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.compress(b"A" * 5_000), headers={"Content-Encoding": "gzip"})
        return web.Response(body=b"A" * 5_000)

    ivr.documents["/a.wav"] = packs
    async with guarded.session.get(
        guarded.guard_url + link_to(guarded, "/a.wav", Kind.M, method="GET")
    ) as got:
        assert await got.read() == b"A" * 5_000


@pytest.mark.parametrize(
    ("answer", "status", "event"),
    [
        (web.Response(status=404), 404, None),
        (web.Response(status=302, headers={"Location": "/b.wav"}), 502, "media_lost"),
        (None, 502, "media_lost"),
    ],
    ids=["404", "302", "gone"],
)
async def test_media_that_cannot_be_had(guarded, ivr, link_to, logged, answer, status, event):
    """A status, never a redirect; the log says what was lost."""

    async def hangs_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    ivr.documents["/a.wav"] = answer if answer is not None else hangs_up
    target = link_to(guarded, "/a.wav", Kind.M, method="GET")
    async with guarded.session.get(guarded.guard_url + target, allow_redirects=False) as got:
        assert (got.status, "Location" in got.headers) == (status, False)
    assert [line["event"] for line in logged] == ([event] if event else [])


@pytest.mark.parametrize("named", [True, False], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("fault", ["breaks off", "too much"])
async def test_media_that_breaks_off_breaks_off_here_too(
    guarded, ivr, link_to, logged, over_a_socket, monkeypatch, named, fault
):
    """The status is out already: whoever hears it must not take a part for the whole."""
    if fault == "too much":
        monkeypatch.setattr(voice, "MEDIA_BYTES_MAX", 1_000)
    done = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "900000"} if named else {})
        await response.prepare(request)
        await response.write(b"A" * 3_000)
        if fault == "too much":
            await done.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    ivr.documents["/a.wav"] = answer
    target = link_to(guarded, "/a.wav", Kind.M, method="GET")
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    try:
        got = await over_a_socket(guarded.guard_url, request)
    except ConnectionResetError:
        got = b""
    done.set()
    assert got.count(b"HTTP/1.1") <= 1
    assert not got.endswith(b"0\r\n\r\n")
    assert [line["event"] for line in logged] == ["media_lost"]


async def test_a_listener_who_leaves_ends_the_stream(guarded, ivr, link_to, logged):
    """Nobody listens any more: no error of the house."""
    sent = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"A" * upstream.MEDIA_CHUNK_BYTES)
                sent.set()
        finally:
            ended.set()

    ended = asyncio.Event()
    ivr.documents["/a.wav"] = endless
    target = link_to(guarded, "/a.wav", Kind.M, method="GET")
    host, _, port = guarded.guard_url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    await sent.wait()
    writer.transport.abort()
    async with asyncio.timeout(5):
        await ended.wait()
    assert [line["event"] for line in logged if line["event"] != "media_lost"] == []


async def test_media_links_are_for_media_alone(guarded, provider, ivr, link_to, metric):
    """A forged link, a posted one, and one of another kind lead nowhere."""
    target = link_to(guarded, "/voice", Kind.M, method="GET")
    forged = target[:-1] + ("A" if target[-1] != "A" else "B")
    renamed = link_to(guarded, "/voice", Kind.S).replace("=sp.", "=mp.")
    for method, wrong in (("GET", forged), ("GET", renamed), ("POST", target), ("PUT", target)):
        async with guarded.session.request(method, guarded.guard_url + wrong) as got:
            assert (got.status, await got.read()) == (403, b"")

    assert await metric(guarded, 'ivrguard_refused_total{reason="media"}') == 4
    assert ivr.seen == []


async def test_a_rule_about_keys_sees_them_behind_a_redirect_too(start, bank_flow, ivr, provider_of):
    """307 repeats the keys: a rule that wants a level for them is asked again for where they go to."""
    flow = replace(
        bank_flow,
        rules=(Rule(Demand("one_factor"), path="/menu", digits="3"),),
        default=Demand(None),
    )
    ivr.documents["/choose"] = web.Response(status=307, headers={"Location": "/menu"})
    ivr.documents["/menu"] = "<Say>The wire.</Say>"
    async with start(flow) as guarded:
        provider = provider_of(guarded)
        got = await provider.send("/choose", provider.params(Digits="3"))
        assert "The wire" not in got.text
        assert ivr.paths() == ["/choose"]
        allowed = await provider.send("/choose", provider.params(Digits="4"))
        assert words(allowed.body) == "The wire."
