"""
The whole server on a real socket, and whatever may be thrown at it: by strangers, by Twilio, by the IVR, by an agent's desk.

No error 500 ever, no hang, and no growth: after it all an honest caller is served as before, and the process holds what it held.
"""

import asyncio
import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from ivrguard import flowfile, log
from ivrguard.core.rules import Demand
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Clock, rig
from ivrguard.stores import codec
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.telephony import document
from ivrguard.telephony.signature import sign
from ivrguard.web.voice import Voice

BANK = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml").flow
OPEN = replace(BANK, rules=(), default=Demand(None))
"""Everything open to anyone: what is thrown reaches the documents."""
OWNER = "+15551230001"
BEGIN_MS = 1_800_000_000_000
DEADLINE_S = 12.0
"""Of one request: Twilio's own is 15 s; reaching this one is a hang, on however busy a machine."""
EXPECTED = {200, 400, 401, 403, 404, 405, 413, 414}
FORM = "application/x-www-form-urlencoded"


class Ivr:
    """An IVR that answers what it is told, whatever it is asked."""

    def __init__(self):
        self.answer = (200, {"Content-Type": "text/xml"}, b"<Response><Say>hello</Say></Response>")

    def app(self, _):
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        return app

    async def _answer(self, request):
        await request.read()
        status, headers, body = self.answer
        return web.Response(status=status, headers=headers, body=body)


def standing(sid, **changed):
    """The parameters of a call."""
    usual = {
        "CallSid": sid,
        "AccountSid": ACCOUNT_SID,
        "From": OWNER,
        "To": "+18005550100",
        "CallStatus": "in-progress",
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
    }
    return tuple({**usual, **changed}.items())


async def send(at, method, target, body, headers):
    """One request, whatever it is made of; status and body. What cannot be sent at all is None."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            async with at.session.request(
                method,
                URL(at.guard_url + target, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read()
    except ValueError:  # the client's own grammar: such bytes never leave
        return None


async def signed(at, target, params, method="POST"):
    """The same as Twilio sends it."""
    if method == "GET":
        target += ("&" if "?" in target else "?") + urlencode(params)
        return await send(
            at, method, target, None, {"X-Twilio-Signature": sign(AUTH_TOKEN, PUBLIC_URL + target)}
        )
    made = sign(AUTH_TOKEN, PUBLIC_URL + target, params)
    return await send(
        at, method, target, urlencode(params).encode(), {"X-Twilio-Signature": made, "Content-Type": FORM}
    )


def in_order(got):
    """An answer that may be: expected, and TwiML where it is 200."""
    if got is None:
        return
    status, body = got
    assert status in EXPECTED, status
    assert len(body) <= 64 * 1024
    if status == 200 and not body.startswith(b"{"):
        assert ET.fromstring(body).tag == "Response"
    if status == 403:
        assert body in (b"", b'{"error":"invalid_token"}')


async def served(at):
    """An honest caller, afterwards."""
    line = at.call(OWNER)
    await line.until_input()
    assert {request.status for request in line.requests} == {200}
    if not line.over:
        await line.hang_up()


class Running:
    """A server on the test's own loop; `of` runs a coroutine for hypothesis, which has a thread of its own."""

    def __init__(self, at, ivr, loop):
        self.at, self.ivr, self._loop = at, ivr, loop

    def of(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@pytest.fixture
async def running():
    log.configure("critical")
    ivr = Ivr()
    async with rig(OPEN, ivr.app, clock=Clock(BEGIN_MS), hash_threads=1) as at:
        yield Running(at, ivr, asyncio.get_running_loop())


async def fuzzed(running, share=2, **strategies):
    """Runs a check of what was drawn, runs it in a thread beside the server, and then calls honestly."""
    quiet = settings(
        max_examples=max(10, settings().max_examples // share),
        suppress_health_check=[*HealthCheck],
        deadline=None,
    )

    async def run(check):
        await asyncio.to_thread(quiet(given(**strategies)(check)))
        running.ivr.answer = Ivr().answer
        await served(running.at)

    return run


TARGETS = [
    b"/",
    b"/voice?_ivrguard=tp.1." + b"A" * 22,
    b"/.ivrguard/call/" + b"0" * 32,
    b"/.ivrguard/call/whisper/" + b"0" * 32,
    b"/.ivrguard/status",
    b"/.ivrguard/fallback?x=1",
    b"/.ivrguard/at/ivr.example/x",
    b"/.ivrguard/agent/v1/redemptions",
    b"/.ivrguard/jwks.json",
    b"/x?_ivrguard=mg.0." + b"A" * 22,
]
METHODS = st.sampled_from(
    ["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW"]
)
TYPES = st.sampled_from(
    [FORM, FORM + "; charset=utf-16", "application/json", "multipart/form-data; boundary=x", "", "x"]
)
SID = "CA" + "0" * 32


async def test_strangers(running, mutations):
    """Unsigned, or signed by nobody: any method, any target, any body, any headers."""

    def check(method, target, body, type_, signature):
        headers = {"Content-Type": type_, "X-Twilio-Signature": signature}
        got = running.of(send(running.at, method, target.decode("latin-1"), body, headers))
        if method != "HEAD":
            in_order(got)

    run = await fuzzed(
        running,
        method=METHODS,
        target=mutations(TARGETS).map(
            lambda raw: b"/" + bytes(each for each in raw if 33 <= each <= 126).lstrip(b"/")
        ),
        body=mutations([urlencode(standing(SID, Digits="1")).encode(), b'{"token": "x"}'])
        | st.binary(max_size=99),
        type_=TYPES,
        signature=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    )
    await run(check)


async def test_twilio(running, mutations):
    """Signed: parameters that nobody thought of, in calls that go on; each answer is TwiML, or an empty 403."""

    def check(hooks):
        for number, (target, extra, method) in enumerate(hooks):
            params = (*standing(f"CA{number % 3:032x}"), *extra)
            in_order(running.of(signed(running.at, target.decode("latin-1"), params, method)))

    text = st.text(max_size=30)
    named = st.sampled_from(
        ["Digits", "SpeechResult", "CallStatus", "Direction", "ParentCallSid", "StirVerstat", "From"]
    )
    run = await fuzzed(
        running,
        hooks=st.lists(
            st.tuples(
                mutations(TARGETS[:7]).map(
                    lambda raw: b"/" + bytes(c for c in raw if 33 <= c <= 126 and c != 35).lstrip(b"/")
                ),
                st.lists(st.tuples(named | text, text | st.just("1") | st.just("completed")), max_size=3),
                st.sampled_from(["POST", "POST", "GET"]),
            ),
            min_size=1,
            max_size=4,
        ),
    )
    await run(check)


async def test_the_ivr(running, mutations, documents):
    """Whatever the IVR answers, of whatever status and type: the caller hears TwiML."""

    def check(status, type_, body, headers):
        running.ivr.answer = (status, {"Content-Type": type_, **headers}, body)
        status_, answer = running.of(signed(running.at, "/x", standing(SID)))
        assert status_ == 200
        assert ET.fromstring(answer).tag == "Response"

    run = await fuzzed(
        running,
        status=st.sampled_from([200, 200, 200, 201, 301, 302, 307, 400, 401, 404, 500, 503]),
        type_=st.sampled_from(
            ["text/xml", "text/html", "text/plain", "application/json", "audio/x", "text/xml; charset=x"]
        ),
        body=mutations(documents),
        headers=st.dictionaries(
            st.sampled_from(["Location", "Set-Cookie", "WWW-Authenticate", "X-Other"]),
            st.sampled_from(
                [
                    "/x",
                    "//evil.example",
                    "a=b; Path=/",
                    'Bearer acr_values="two_factor"',
                    "Bearer ,,=",
                    "%zz",
                    "x" * 300,
                ]
            ),
            max_size=3,
        ),
    )
    await run(check)


async def test_an_agents_desk(running, mutations):
    """With a key that is good: every token of none is refused, every body of no form is a 400."""
    key = await running.at.desk("ann", "*")

    def check(body, authorization):
        headers = {"Authorization": authorization or f"Bearer {key}", "Content-Type": "application/json"}
        got = running.of(send(running.at, "POST", "/.ivrguard/agent/v1/redemptions", body, headers))
        in_order(got)
        assert got is None or got[0] in {400, 401, 403}

    run = await fuzzed(
        running,
        body=mutations(
            [
                b'{"token": "0123456789ABCDEFGHJKMNPQRS", "call_sid": "CA' + b"0" * 32 + b'"}',
                b'{"token": "12345678"}',
            ]
        )
        | st.binary(max_size=60),
        authorization=st.none()
        | st.text(st.characters(min_codepoint=32, max_codepoint=255), min_size=1, max_size=40),
    )
    await run(check)


# ── nothing grows ────────────────────────────────────────────────────────────────────────────────────────

ROUNDS, WARM = 3, 2
GROWTH_BYTES_MAX = 80_000
"""What a round of some 60 webhooks may leave behind, on the median: a few kB a call, of caches that are still filling."""


async def a_round(at, number, documents):
    """New callers, strangers, nonsense, documents of all sorts; then a day passes and the store is swept."""
    for nth in range(20):
        sid = f"CA{number * 1000 + nth:032x}"
        at_ivr = documents[(number + nth) % len(documents)]
        at.ivr.answer = (200, {"Content-Type": "text/xml"}, at_ivr)
        await signed(at.at, f"/x/{nth}?{nth}", standing(sid, From=f"+1555000{nth:04}"))
        await signed(at.at, "/.ivrguard/status", standing(sid, CallStatus="completed"))
        await send(at.at, "POST", f"/x-{nth}", b"CallSid=" + sid.encode(), {"X-Twilio-Signature": str(nth)})
    at.at.clock.advance(26 * 3600)
    while await at.at.store.sweep(at.at.clock(), limit=1000):
        pass


async def growth(tmp_path, documents, monkeypatch):
    """The median of what a round leaves behind in memory, once everything is warm; what is kept by a bound is kept by a small one."""
    log.configure("critical")
    monkeypatch.setattr(codec, "CALLS_KNOWN_MAX", 16)
    # What other tests left in these would go without being seen, and make room for what is.
    monkeypatch.setattr(codec, "_KNOWN", codec._Known())
    document._read_before.cache_clear()
    ivr = Ivr()
    store = await SqliteStore.open(tmp_path / "store.db", migrate=True)
    async with rig(OPEN, ivr.app, store=store, clock=Clock(BEGIN_MS), hash_threads=1) as at:
        here, sizes = Running(at, ivr, asyncio.get_running_loop()), []
        tracemalloc.start()
        try:
            for number in range(WARM + ROUNDS):
                await a_round(here, number, documents)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    grown = sorted(after - before for before, after in zip(sizes[WARM - 1 :], sizes[WARM:], strict=False))
    return grown[len(grown) // 2]


async def test_nothing_grows(tmp_path, documents, monkeypatch):
    """On SQLite, where what is kept is on the disk: what is in the process after a round is what was there before it."""
    assert await growth(tmp_path, documents, monkeypatch) < GROWTH_BYTES_MAX


async def test_a_leak_would_be_seen(tmp_path, documents, monkeypatch):
    """The planted fault: ten thousand bytes of each webhook stay."""
    kept, counted = [], Voice._counted

    def leaking(self, done):
        kept.append(bytearray(10_000))
        return counted(self, done)

    monkeypatch.setattr(Voice, "_counted", leaking)
    assert await growth(tmp_path, documents, monkeypatch) > GROWTH_BYTES_MAX
