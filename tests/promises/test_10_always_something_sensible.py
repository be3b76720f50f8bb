"""
Promise 10: the caller always hears something sensible, within Twilio's 15 seconds, whatever is down. A webhook that
carries digits is answered 200 with TwiML even then (an error would put the digits in the provider's debugger).
"""

import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4
from xml.etree import ElementTree as ET

import aiohttp
import pyotp
import pytest
import structlog
from aiohttp import web

from ivrguard import flowfile, log
from ivrguard.core import admission, demands
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.errors import NotifyFault, StoreFault
from ivrguard.core.rules import Demand
from ivrguard.factors import pin
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import Flows, Guard, proving, webhook
from ivrguard.guard.webhook import Webhook
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Failed, Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Clock, Rig, rig
from ivrguard.ports import Account, Credential, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.telephony import twiml
from ivrguard.telephony.signature import sign
from ivrguard.web import app, voice

PIN, WRONG, OWNER = "24681357", "13572468", "+15551230001"
SORRY = "We are sorry, we cannot take your call right now."
ANSWER_DEADLINE_S = 3.0
"""What these tests give an answer, with the deadline that is meant set to a fraction of a second."""
SHORT_S = 0.1
NOW_MS = 1_800_000_000_000

FLOW = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]
OPEN = replace(FLOW, rules=(), default=Demand(None))
BY_PIN = replace(FLOW, rules=(), default=Demand("one_factor"))
BY_CODE = replace(BY_PIN, levels={"one_factor": AnyOf(("code",))})
BY_BOTH = replace(FLOW, rules=(), default=Demand("two_factor"))


# ── what is around the guard ─────────────────────────────────────────────────────────────────────────────

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


@dataclass
class Ivr:
    """An IVR whose answer to everything can be changed."""

    answers: Handler | web.Response = field(
        default_factory=lambda: web.Response(
            text="<Response><Say>Hello.</Say></Response>", content_type="text/xml"
        )
    )
    seen: list[str] = field(default_factory=list)

    def app(self, _: str) -> web.Application:
        served = web.Application()
        served.router.add_route("*", "/{rest:.*}", self._answer)
        return served

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.path)
        if isinstance(self.answers, web.Response):
            made = self.answers
            return web.Response(status=made.status, headers=made.headers, body=made.body)
        return await self.answers(request)


class Frail:
    """A store that can be told to refuse or to hang: `down` is "", "read", "amend" or "hangs"."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.down = ""

    async def read(self, key):
        await self._perhaps("read")
        return await self._store.read(key)

    async def amend(self, keys, change):
        await self._perhaps("amend")
        return await self._store.amend(keys, change)

    async def _perhaps(self, verb: str) -> None:
        if self.down == "hangs":
            await asyncio.Event().wait()
        if self.down == verb:
            raise StoreFault("/data/ivrguard.db: the disk is full: make room")

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@dataclass
class House:
    """A running centre; what its log says, and every answer that left it for the provider."""

    rig: Rig
    ivr: Ivr
    store: Frail
    journal: io.BytesIO
    answers: list[tuple[int, str, str, str]]

    def lines(self) -> list[dict[str, object]]:
        """The log's errors since the last look."""
        text = self.journal.getvalue().decode()
        self.journal.seek(0)
        self.journal.truncate()
        found = [json.loads(line) for line in text.splitlines()]
        return [line for line in found if line["level"] in {"error", "warning"}]

    async def counted(self, outcome: str) -> float:
        async with self.rig.session.get(f"{self.rig.ops_url}/metrics") as answer:
            text = await answer.text()
        found = re.search(rf'^ivrguard_webhooks_total{{outcome="{outcome}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@asynccontextmanager
async def house(
    store: Store, flow=OPEN, ivr: Ivr | str | None = None, **more: object
) -> AsyncIterator[House]:
    made = ivr if isinstance(ivr, Ivr) else Ivr()
    frail, journal = Frail(store), io.BytesIO()
    answers: list[tuple[int, str, str, str]] = []
    with logged_to(journal):
        behind = ivr if isinstance(ivr, str) else made.app
        async with rig(flow, behind, store=frail, clock=Clock(NOW_MS), **more) as running:
            watch(running.session, answers)
            yield House(running, made, frail, journal, answers)


@contextmanager
def logged_to(journal: io.BytesIO) -> Iterator[None]:
    """The log as the product writes it, into a buffer."""
    handlers, level = logging.root.handlers[:], logging.root.level
    log.configure("info", journal)
    try:
        yield
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def watch(session: aiohttp.ClientSession, answers: list[tuple[int, str, str, str]]) -> None:
    """Note status, type, caching and place of every answer that the provider gets of the voice port."""
    tracing = aiohttp.TraceConfig()

    async def ended(_, __, params) -> None:
        got, headers = params.response, params.response.headers
        if not got.url.path.startswith("/metrics"):
            kind, caching = headers.get("Content-Type", ""), headers.get("Cache-Control", "")
            answers.append((got.status, kind, caching, headers.get("Location", "")))

    tracing.on_request_end.append(ended)
    tracing.freeze()
    session.trace_configs.append(tracing)


# ── what sensible means ──────────────────────────────────────────────────────────────────────────────────


async def call(made: House, *keys: str, from_: str = OWNER, to: str | None = None) -> Line:
    """Call, and press these; each webhook has its answer in time."""
    line = made.rig.call(from_, to=to)
    await pressed(line, None)
    for each in keys:
        await pressed(line, each)
    return line


async def pressed(line: Line, keys: str | None) -> None:
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            await (line.until_input() if keys is None else line.press(keys))
    except TimeoutError:
        raise AssertionError("time: no answer came") from None


@contextmanager
def short(module: object, deadline: str) -> Iterator[None]:
    """A deadline that is over in a moment."""
    real = getattr(module, deadline)
    setattr(module, deadline, SHORT_S)
    try:
        yield
    finally:
        setattr(module, deadline, real)


def said(line: Line) -> list[str]:
    return [each.text for each in line.heard if isinstance(each, Said)]


def check_answers(made: House, line: Line) -> None:
    """Every answer: 200, TwiML that the provider can run, not to be stored, no redirect; and words for the ear."""
    for status, kind, caching, location in made.answers:
        assert status == 200, f"status: {status}"
        assert kind.startswith("text/xml"), f"type: {kind}"
        assert caching == "no-store", "cache: it may be kept"
        assert not location, "status: a redirect"
    for request in line.requests:
        assert request.answer is not None, "status: no answer"
        assert ET.fromstring(request.answer.body).tag == "Response", "twiml: another root"
        assert "Digits" not in request.url, "digits: in a URL"
    assert not [each for each in line.heard if isinstance(each, Failed)], "twiml: the provider cannot run it"
    assert said(line), "words: silence"
    made.answers.clear()


async def check_words(
    made: House, line: Line, words: str, event: str, tells: str, outcome: str, *, once: bool = True
) -> None:
    """The caller hears what fits, the operator reads what to mend, and it is counted."""
    check_answers(made, line)
    assert said(line)[-1].startswith(words), f"words: {said(line)[-1]!r}"
    lines = made.lines()
    found = [one for one in lines if one["event"] == event and tells in json.dumps(one)]
    assert (len(found) == 1) if once else found, f"log: no {event} with {tells!r} in {lines}"
    assert line.call_sid in {one.get("call") for one in found}, "log: of no call"
    assert await made.counted(outcome) > 0, f"metric: {outcome} is not counted"


# ── the IVR ──────────────────────────────────────────────────────────────────────────────────────────────


def xml(body: str | bytes, **more: object) -> web.Response:
    data = body.encode() if isinstance(body, str) else body
    return web.Response(body=data, headers={"Content-Type": "text/xml"}, **more)  # type: ignore[arg-type]  # passed through


def led(to: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": to})


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/xml"})
    await response.prepare(request)
    await response.write(b"<Response>")
    await asyncio.Event().wait()
    return response


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/xml", "Content-Length": "900"})
    await response.prepare(request)
    await response.write(b"<Response>")
    assert request.transport is not None
    request.transport.abort()
    return response


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def talks_nonsense(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    request.transport.close()
    return web.Response()


BOMB = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Response><Say>&b;</Say></Response>'
CHALLENGE = "WWW-Authenticate"

IVR_FAULTS: list[tuple[str, Handler | web.Response, str, str, str]] = [
    # what the IVR does, how; the log's event, what it tells; the metric's outcome
    ("answers 500", web.Response(status=500), "fault", "the IVR answered 500 to /voice", "fault_upstream"),
    ("answers 404", web.Response(status=404), "fault", "the IVR answered 404 to /voice", "fault_upstream"),
    ("answers 401", web.Response(status=401), "fault", "the IVR answered 401 to /voice", "fault_upstream"),
    (
        "answers 401 to somebody else",
        web.Response(status=401, headers={CHALLENGE: 'Bearer error="invalid_token"'}),
        "fault",
        "the IVR answered 401",
        "fault_upstream",
    ),
    ("answers 204", web.Response(status=204), "document_refused", "content_type", "upstream_refused"),
    ("is silent", never, "fault", "did not answer within 0.1 s", "fault_upstream"),
    ("drips", drips, "fault", "did not answer within 0.1 s", "fault_upstream"),
    ("breaks off", breaks_off, "fault", "cannot be reached", "fault_upstream"),
    ("hangs up", hangs_up, "fault", "cannot be reached (ServerDisconnectedError)", "fault_upstream"),
    ("speaks no HTTP", talks_nonsense, "fault", "cannot be reached", "fault_upstream"),
    ("says nothing", xml(""), "document_refused", "document.empty", "upstream_refused"),
    ("says blanks", xml(" \n"), "document_refused", "document.empty", "upstream_refused"),
    ("says garbage", xml("<Response><Say>"), "document_refused", "document.parse", "upstream_refused"),
    ("says bytes", xml(b"\x00\xff\xfe\x01"), "document_refused", "document.parse", "upstream_refused"),
    (
        "shows a web page",
        web.Response(text="<html><body><p>502</body></html>", content_type="text/html"),
        "document_refused",
        "document.parse",
        "upstream_refused",
    ),
    ("says another root", xml("<Twiml/>"), "document_refused", "document.root", "upstream_refused"),
    ("says 70 kB", xml(b"<Response>" + b" " * 70_000 + b"</Response>"), "fault", "more than 64 kB", "fault_upstream"),
    ("sends a bomb", xml(BOMB), "document_refused", "document.dtd", "upstream_refused"),
    ("goes deep", xml("<Response>" + "<Say>" * 40 + "</Say>" * 40 + "</Response>"), "document_refused", "depth", "upstream_refused"),
    ("sends JSON", web.json_response({}), "document_refused", "application/json", "upstream_refused"),
    ("names no type", web.Response(body=b"<Response/>"), "document_refused", "content_type", "upstream_refused"),
    (
        "names a strange charset",
        web.Response(body=b"<Response/>", headers={"Content-Type": "text/xml; charset=utf-7"}),
        "document_refused",
        "document.charset",
        "upstream_refused",
    ),
    ("redirects in a circle", led("/voice"), "fault", "redirected 11 times", "fault_upstream"),
    ("redirects in a circle, 307", led("/voice", 307), "fault", "redirected 11 times", "fault_upstream"),
    ("redirects elsewhere", led("https://evil.example/"), "document_refused", "evil.example", "upstream_refused"),
    ("redirects into the guard", led("/.ivrguard/jwks.json"), "document_refused", "link.origin", "upstream_refused"),
    ("redirects to nowhere", led("http://[::1"), "document_refused", "link", "upstream_refused"),
    ("links elsewhere", xml("<Response><Redirect>https://evil.example/</Redirect></Response>"), "document_refused", "evil.example", "upstream_refused"),
]  # fmt: skip


async def check_the_ivr_may_do_what_it_likes(store: Store) -> None:
    """28 ways to fail, over sockets: the caller is told; the log names what; the next caller is served."""
    async with house(store) as made:
        fine = made.ivr.answers
        for what, answers, event, tells, outcome in IVR_FAULTS:
            made.ivr.answers = answers
            try:
                with short(webhook, "IVR_DEADLINE_S") if answers in (never, drips) else nullcontext():
                    await check_words(made, await call(made), SORRY, event, tells, outcome)
            except AssertionError as error:
                raise AssertionError(f"{error} (the IVR {what})") from error
        made.ivr.answers = fine
        line = await call(made)
        check_answers(made, line)
        assert said(line) == ["Hello."], "words: it does not recover"
    async with house(
        type(store)() if isinstance(store, MemoryStore) else MemoryStore(), ivr="http://127.0.0.1:1"
    ) as made:
        await check_words(
            made, await call(made), SORRY, "fault", "is `upstream.url` right?", "fault_upstream"
        )


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────


async def check_the_store_may_be_down(store: Store) -> None:
    """At the first webhook, in the middle of keying a PIN, for ever, and closed: words each time, nothing let through."""
    async with house(store, BY_PIN) as made:
        await made.rig.enrol(Account("123456", (OWNER,)), pin=PIN)
        for down, event, tells, outcome in (
            ("read", "fault", "the disk is full: make room", "fault_store"),
            ("amend", "fault", "the disk is full: make room", "fault_store"),
            ("hangs", "deadline", "took too long", "deadline"),
        ):
            line = await call(made, "123456#")
            made.store.down = down
            with short(voice, "DEADLINE_S") if down == "hangs" else nullcontext():
                await check_words(made, await call(made), SORRY, event, tells, outcome, once=False)
                await pressed(line, PIN)
                await check_words(made, line, SORRY, event, tells, outcome, once=False)
            made.store.down = ""
        assert made.ivr.seen == [], "let through"
        line = await call(made, "123456#", PIN)
        assert said(line)[-1] == "Hello.", "words: it does not recover"
        made.answers.clear()
        made.lines()
        await made.rig.store.close()
        await check_words(made, await call(made), SORRY, "fault", "closed", "fault_store", once=False)


# ── the carrier of messages ──────────────────────────────────────────────────────────────────────────────

CARRIER_FAULTS = {
    "500": "has a fault of its own (https://www.twilio.com/docs/api/errors/20500)",
    "429": "asks for fewer messages at a time (https://www.twilio.com/docs/api/errors/20429)",
    "drops": "was not reached: ServerDisconnectedError",
    "slow": "did not answer within 0.1 s",
}


async def check_the_carrier_may_fail(store: Store) -> None:
    """No code can be sent: whoever has another factor is asked for it; whoever has none is told to call later."""
    async with house(store, BY_BOTH) as made:
        secret = pyotp.random_base32()
        totp = TotpJudge(made.rig.keyring).enrol(secret)
        sms = Credential(Kind.SMS_CODE, number=OWNER)
        await made.rig.enrol(Account("123456", (), (sms, totp)), pin=PIN)
        await made.rig.enrol(Account("222222", (), (sms,)), pin=PIN)
        for fault, tells in CARRIER_FAULTS.items():
            with (
                carrier_fails(made, fault),
                short(proving, "SEND_DEADLINE_S") if fault == "slow" else nullcontext(),
            ):
                line = await call(made, "123456#", PIN)
            check_answers(made, line)
            assert "authenticator app" in said(line)[-1], f"factor: {said(line)[-1]!r}"
            (told,) = made.lines()
            assert (told["event"], told["reason"]) == ("code_not_sent", "notify"), "log"
            assert tells.split(" (")[0] in str(told["detail"]), f"log: {told}"
            await line.press(pyotp.TOTP(secret).generate_otp(made.rig.clock() // 30_000))
            assert said(line)[-1] == "Hello.", "factor: it does not do"
            made.rig.clock.advance(30)
            made.answers.clear()
            with (
                carrier_fails(made, fault),
                short(proving, "SEND_DEADLINE_S") if fault == "slow" else nullcontext(),
            ):
                line = await call(made, "222222#", PIN)
            await check_words(made, line, SORRY, "code_not_sent", "notify", "refuse")
        assert made.rig.carrier.sent == []
    # Before anything is proved nobody may learn from the carrier who exists: the question is the same for all.
    async with house(MemoryStore(), BY_CODE) as made:
        await made.rig.enrol(Account("222222", (), (sms,)))
        with carrier_fails(made, "500"):
            known = await call(made, "222222#")
            await made.rig.server.guard.drain()
        assert [one["event"] for one in made.lines()] == ["message_not_sent"], "log"
        unknown = await call(made, "999999#")
        assert said(known) == said(unknown), "words: the carrier tells who exists"
        check_answers(made, known)


@contextmanager
def carrier_fails(made: House, fault: str) -> Iterator[None]:
    carrier = made.rig.carrier
    match fault:
        case "500":
            carrier.fail_next(500, 20500)
        case "429":
            carrier.fail_next(429, 20429)
        case "drops":
            carrier.drop_next()
        case _:
            carrier.hold = asyncio.Event()
    yield
    if carrier.hold is not None:
        carrier.drop_next()  # whoever waited is gone, and his message with him
        carrier.hold.set()
        carrier.hold = None


# ── no room to judge ─────────────────────────────────────────────────────────────────────────────────────


async def check_a_full_pool_makes_callers_wait(store: Store) -> None:
    """
    No hash thread is free: one moment; nothing is counted meanwhile; then the answer is judged, once. If none
    gets free: an apology, and no guess is lost.
    """
    async with house(store, BY_PIN, hash_threads=1) as made:
        await made.rig.enrol(Account("123456", (OWNER,)), pin=PIN)
        for keys, words, left in ((WRONG, "That did not match", 1), (PIN, "Hello.", 0)):
            line = await call(made, "123456#")
            with no_room(made) as free:
                made.rig.exchange.pace = lambda _: free()
                await line.press(keys)
                made.rig.exchange.pace = None
            check_answers(made, line)
            heard = said(line)
            assert "One moment, please." in heard, "words: nobody said wait"
            assert any(each.startswith(words) for each in heard[-3:]), f"words: {heard}"
            assert await attempts(made) == left, "counted: not once"
        line = await call(made, "123456#")
        with no_room(made):
            await line.press(WRONG)
        check_answers(made, line)
        assert said(line)[-1].startswith(SORRY), f"words: {said(line)}"
        assert await attempts(made) == 0, "counted: a guess that nobody judged"
        assert len(made.ivr.seen) == 1
        assert await made.counted("hold") > 1


async def attempts(made: House) -> int:
    """The failures on the account's ledgers."""
    found = await made.rig.store.list("ledger", prefix="123456/")
    return sum(len(one.value.attempts) for one in found)


@contextmanager
def no_room(made: House) -> Iterator[Callable[[], Awaitable[None]]]:
    """Every place of the hash pool is taken by work that does not end; what is given frees them."""
    pins, over = made.rig.server.pins, threading.Event()
    waiting = [asyncio.ensure_future(pins._in_pool(over.wait)) for _ in range(1 + pin.QUEUE_PER_THREAD)]

    async def free() -> None:
        over.set()
        await asyncio.gather(*waiting)

    try:
        yield free
    finally:
        over.set()


# ── everything else ──────────────────────────────────────────────────────────────────────────────────────


async def check_a_bug_is_not_the_callers(store: Store) -> None:
    """Nobody foresaw it: words, and the place in the code for us; also where digits are on their way."""
    async with house(store, BY_PIN) as made:
        await made.rig.enrol(Account("123456", (OWNER,)), pin=PIN)
        real = webhook.step_of

        def stumbles(*_: object) -> None:
            raise ZeroDivisionError

        webhook.step_of = stumbles  # type: ignore[assignment]  # for a moment
        try:
            first = await call(made)
            await check_words(made, first, SORRY, "bug", "ZeroDivisionError", "bug")
        finally:
            webhook.step_of = real
        line = await call(made, "123456#")
        webhook.step_of = stumbles  # type: ignore[assignment]  # for a moment
        try:
            await line.press(PIN)
        finally:
            webhook.step_of = real
        await check_words(made, line, SORRY, "bug", "ZeroDivisionError", "bug")
        assert made.ivr.seen == [], "let through"


async def check_a_number_that_nobody_has(store: Store) -> None:
    """It points at the guard, and no flow has it: the caller is told, and the operator which key to look at."""
    async with house(store) as made:
        made.rig.exchange.number("+18005550999", f"{PUBLIC_URL}/")
        line = await call(made, to="+18005550999")
        await check_words(
            made,
            line,
            "This number is not in service.",
            "no_flow",
            "see `numbers` in the flow files",
            "not_in_service",
        )
        assert made.ivr.seen == []


MISSHAPEN = [
    ({"CallSid": None}, "call_sid.missing"),
    ({"CallSid": "CA12"}, "call_sid.shape"),
    ({"Digits1": "234"}, "parameter.shifted"),
    ({"Digits": "١٢٣٤"}, "digits.shape"),
    ({"Direction": "sideways"}, "direction.shape"),
]


async def check_strangers_hear_nothing_and_the_provider_always_something(store: Store) -> None:
    """Unsigned, or signed by another: 403 and an empty body. Signed and misshapen: words, a line, a count."""
    async with house(store) as made:
        usual = {
            "CallSid": "CA" + uuid4().hex,
            "AccountSid": ACCOUNT_SID,
            "From": OWNER,
            "To": FLOW.numbers[0],
            "CallStatus": "ringing",
            "Direction": "inbound",
            "Digits": "1234",
        }

        async def post(params: dict[str, str], signature: str) -> tuple[int, bytes, str]:
            headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
            url, data = f"{made.rig.guard_url}/menu", urlencode(params)
            async with made.rig.session.post(url, data=data, headers=headers) as answer:
                return answer.status, await answer.read(), answer.headers.get("Cache-Control", "")

        url = f"{PUBLIC_URL}/menu"
        for signature in ("", "x", sign("another token", url, tuple(usual.items())), sign(AUTH_TOKEN, url)):
            status, body, _ = await post(usual, signature)
            assert (status, body) == (403, b""), "strangers: they learn something"
            assert [(one["event"], one["reason"]) for one in made.lines()] == [("refused", "signature")], (
                "log"
            )
        for change, reason in MISSHAPEN:
            params = {name: value for name, value in {**usual, **change}.items() if value is not None}
            status, body, caching = await post(params, sign(AUTH_TOKEN, url, tuple(params.items())))
            assert (status, caching) == (200, "no-store"), "status: of what is misshapen"
            assert SORRY in "".join(ET.fromstring(body).itertext()), "words: none"
            assert [(one["event"], one["reason"]) for one in made.lines()] == [("malformed", reason)], "log"
        assert made.ivr.seen == [], "let through"


CHECKS = [
    check_the_ivr_may_do_what_it_likes,
    check_the_store_may_be_down,
    check_the_carrier_may_fail,
    check_a_full_pool_makes_callers_wait,
    check_a_bug_is_not_the_callers,
    check_a_number_that_nobody_has,
    check_strangers_hear_nothing_and_the_provider_always_something,
]


# ── green ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch) -> None:
    """The real argon2 with small parameters."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return await SqliteStore.open(tmp_path / "guard.db", migrate=True)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_always_something_sensible(check, store):
    """Whatever is down: words that fit, TwiML, 200; a line that says what to mend; a count."""
    await check(store)


def test_all_of_it_is_within_what_the_provider_gives():
    """The deadlines as they are: to come in, and for everything, are less than Twilio's 15 seconds together."""
    source = Path(voice.__file__).read_text()
    body = float(re.search(r"^BODY_DEADLINE_S = ([\d.]+)$", source, re.MULTILINE)[1])
    rest = float(re.search(r"^DEADLINE_S = ([\d.]+)$", source, re.MULTILINE)[1])
    ivr = float(
        re.search(r"^IVR_DEADLINE_S = ([\d.]+)$", Path(webhook.__file__).read_text(), re.MULTILINE)[1]
    )
    assert ivr == 10
    assert ivr < rest
    assert body + rest < 15


# ── red: each piece that keeps the promise, taken out ────────────────────────────────────────────────────


def faults_pass(monkeypatch) -> None:
    """Nobody turns a fault into an answer."""
    monkeypatch.setattr(voice.Voice, "_handled", lambda self, signed, handle: handle(signed))
    monkeypatch.setattr(Guard, "voice", lambda self, hook: self._voice(hook))


def bugs_pass(monkeypatch) -> None:
    """Faults are foreseen; what is not is left to the library, and nobody looks at the clock."""
    monkeypatch.setattr(app, "DRAIN_S", SHORT_S)
    monkeypatch.setattr(voice.Voice, "_handled", lambda self, signed, handle: handle(signed))


def apologies_are_silent(monkeypatch) -> None:
    monkeypatch.setattr("ivrguard.guard.words", lambda *_: twiml.response(twiml.hangup()))


def answers_may_be_kept(monkeypatch) -> None:
    monkeypatch.setattr(voice, "TWIML_HEADERS", {"Content-Type": "text/xml"})


def answers_are_web_pages(monkeypatch) -> None:
    monkeypatch.setattr(voice, "TWIML_HEADERS", {**voice.TWIML_HEADERS, "Content-Type": "text/plain"})


def redirects_are_the_providers(monkeypatch) -> None:
    """The IVR's redirect goes out as it came."""

    def answer(body: bytes) -> web.Response:
        if SORRY.encode() in body:
            return web.Response(status=307, headers={"Location": "/voice"})
        return web.Response(body=body, headers=voice.TWIML_HEADERS)

    monkeypatch.setattr(voice, "answer", answer)


def circles_have_no_end(monkeypatch) -> None:
    monkeypatch.setattr(webhook, "REDIRECTS_MAX", 1000)


def the_log_is_silent(monkeypatch) -> None:
    monkeypatch.setattr("ivrguard.guard.told", lambda _: "fault_upstream")


def codes_that_never_came_are_asked_for(monkeypatch) -> None:
    real = proving.send_code

    async def send_code(*of):
        with suppress(NotifyFault):
            await real(*of)

    monkeypatch.setattr(proving, "send_code", send_code)


def no_other_factor_is_tried(monkeypatch) -> None:
    real = steps.step

    def step(flow, call, books, event, now_ms):
        if isinstance(event, calls.Undelivered):
            return steps._refuse(call, books, "unavailable", "undeliverable", now_ms)
        return real(flow, call, books, event, now_ms)

    monkeypatch.setattr(webhook, "step_of", step)


def waiting_counts(monkeypatch) -> None:
    """An answer that waits for a thread is a failure each time."""
    plant(monkeypatch, "settle", lambda *args, **_: next(one for one in args if isinstance(one, calls.Books)))


def busy_is_wrong(monkeypatch) -> None:
    """No room to judge it: so it is called wrong."""
    real = Webhook._judge

    async def judge(self, move):
        event = await real(self, move)
        return calls.Judged(False, event.nonce) if isinstance(event, calls.Waits) else event

    monkeypatch.setattr(Webhook, "_judge", judge)


def numbers_of_nobody_are_everybodys(monkeypatch) -> None:
    monkeypatch.setattr(Flows, "dialled", lambda self, _: self.first())


def strangers_are_told(monkeypatch) -> None:
    """An unsigned request gets words as well: and whoever asks learns that somebody is there."""
    real = voice.Voice._answered

    async def answered(self, request, handle):
        got = await real(self, request, handle)
        return web.Response(status=403, text="bad signature") if got.status == 403 else got

    monkeypatch.setattr(voice.Voice, "_answered", answered)


FAULTS = [
    (faults_pass, check_the_ivr_may_do_what_it_likes, "status"),
    (faults_pass, check_the_store_may_be_down, "status"),
    (apologies_are_silent, check_the_ivr_may_do_what_it_likes, "words"),
    (apologies_are_silent, check_a_number_that_nobody_has, "words"),
    (answers_may_be_kept, check_the_ivr_may_do_what_it_likes, "cache"),
    (answers_are_web_pages, check_the_ivr_may_do_what_it_likes, "type"),
    (redirects_are_the_providers, check_the_ivr_may_do_what_it_likes, "status"),
    (circles_have_no_end, check_the_ivr_may_do_what_it_likes, "log"),
    (the_log_is_silent, check_the_ivr_may_do_what_it_likes, "log"),
    (bugs_pass, check_the_store_may_be_down, "time"),
    (bugs_pass, check_a_bug_is_not_the_callers, "status"),
    (codes_that_never_came_are_asked_for, check_the_carrier_may_fail, "factor"),
    (no_other_factor_is_tried, check_the_carrier_may_fail, "factor"),
    (waiting_counts, check_a_full_pool_makes_callers_wait, "counted"),
    (busy_is_wrong, check_a_full_pool_makes_callers_wait, "words"),
    (numbers_of_nobody_are_everybodys, check_a_number_that_nobody_has, "words"),
    (strangers_are_told, check_strangers_hear_nothing_and_the_provider_always_something, "strangers"),
]


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    FAULTS,
    ids=[f"{fault.__name__}-{check.__name__}" for fault, check, _ in FAULTS],
)
async def test_without_this_piece_somebody_hears_nonsense(fault, check, says, monkeypatch):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        await check(MemoryStore())
