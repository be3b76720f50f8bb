"""
Traces, as a collector gets them: over a real socket, from a whole server.

What a span may say is a table here; what it may never say is planted as canaries in a call of every kind.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import StoreFault
from ivrguard.phone.rig import AUTH_TOKEN, listen
from ivrguard.ports import Account, Change, Credential
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.links import Kind as Link
from ivrguard.web import otlp, watched
from ivrguard.web.ops import Metrics
from ivrguard.web.otlp import OtlpTracer

PIN, ACCOUNT, CALLER = "24681357", "123456", "+15551230001"
HEADER = "x-collector-key"


@dataclass
class Collector:
    """A real OTLP/HTTP receiver. `held`: it takes what comes and never answers."""

    url: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[bytes] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        self.keys.add(request.headers.get(HEADER))
        await self.held.wait()
        return web.Response(content_type="application/x-protobuf")

    def spans(self) -> list:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found.extend(scope.spans)
        return found

    def resource(self) -> dict[str, str]:
        (first, *_) = ExportTraceServiceRequest.FromString(self.bodies[0]).resource_spans
        return {one.key: one.value.string_value for one in first.resource.attributes}


def said(span) -> dict[str, object]:
    """A span's attributes."""
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value"))  # a text or a number
        for one in span.attributes
    }


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    made.held.set()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    async with AsyncExitStack() as stack:
        made.url = await listen(app, stack)
        yield made
        made.held.set()


@pytest.fixture
def tracer(collector):
    def made(ratio: float = 1.0) -> OtlpTracer:
        headers = {HEADER: "let me in"}
        return OtlpTracer(collector.url, service="guard", node="0" * 16, headers=headers, ratio=ratio)

    return made


async def test_what_a_collector_gets(start, bank_flow, collector, tracer):
    """One trace for each webhook; in it, what the caller waited for: names, parents, attributes, and nothing else."""
    async with start(bank_flow, extra={"tracer": tracer()}) as guarded:
        await guarded.enrol(Account(ACCOUNT, (CALLER,)), pin=PIN)
        line = guarded.call(CALLER)
        await line.until_input()
        await line.press(f"{ACCOUNT}#")
        await line.press(PIN)
        desk = await guarded.desk("ann", "*")
        await guarded.redeem(desk, "z" * 26)

    spans = collector.spans()
    roots = {span.trace_id: span for span in spans if not span.parent_span_id}
    webhooks = sorted(span.name for span in roots.values())
    assert webhooks[:3] == ["webhook answer", "webhook answer", "webhook document"]
    assert {"webhook status", "webhook redeem"} <= set(webhooks)
    for span in spans:
        root = roots[span.trace_id]
        assert span.parent_span_id in {b"", root.span_id}  # a trace is two floors high
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano

    (proved,) = [root for root in roots.values() if said(root)["ivrguard.outcome"] == "forwarded"]
    assert said(proved) == {
        "http.request.method": "POST",
        "http.route": "/.ivrguard/call/{nonce}",
        "ivrguard.call": line.call_sid,
        "ivrguard.outcome": "forwarded",
    }
    parts = {
        span.name: said(span)
        for span in spans
        if span.trace_id == proved.trace_id and span.span_id != proved.span_id
    }
    assert parts["judge pin"] == {"ivrguard.factor": "pin", "ivrguard.outcome": "done"}
    assert parts["store amend"] == {
        "db.system.name": "memory",
        "db.operation.name": "amend",
        "ivrguard.outcome": "done",
    }
    assert parts["ivr fetch"] == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
        "ivrguard.outcome": "2xx",
    }
    assert "directory find" in parts
    assert collector.keys == {"let me in"}
    resource = collector.resource()
    assert (resource["service.name"], resource["service.instance.id"]) == ("guard", "0" * 16)


async def test_no_span_holds_a_secret(start, bank_flow, collector, tracer, ivr, provider_of):
    """
    Planted in a call of every kind: PIN, account, numbers, codes, tokens, keys, paths, parameters, cookies, a fault's
    text, a bug's. Looked for in every byte that left for the collector.
    """
    ivr.documents["/voice"] = '<Gather action="/menu" numDigits="1"><Say>menu</Say></Gather>'
    ivr.documents["/menu"] = "<Dial><Number>+15550009999</Number></Dial>"

    class Breaks:
        kind = Kind.PIN

        async def judge(self, *_):
            raise StoreFault("no room for canary-in-a-fault")

    async with start(bank_flow, extra={"tracer": tracer(), "traces_to_ivr": True}) as guarded:
        codes = Credential(Kind.SMS_CODE, number=CALLER)
        await guarded.enrol(Account(ACCOUNT, (CALLER,), (codes,)), pin=PIN)
        line = guarded.call(CALLER, attested=True)
        await line.until_input()
        for keys in (f"{ACCOUNT}#", "13572468", PIN, "3"):
            await line.press(keys)
        code = guarded.carrier.code_for(CALLER)
        await line.press(code)
        assert "/menu" in ivr.paths()
        await line.send("https://guard.example/secret-path?canary-name=canary-value")
        provider = provider_of(guarded)
        await provider.send(
            f"/9876543210?{ACCOUNT}", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        )
        await provider.send("/.ivrguard/call/" + "9" * 32, provider.params(Digits="86428642"))
        await provider.send("/.ivrguard/call/whisper/" + "8" * 32)
        await provider.send("/.ivrguard/at/nowhere?x=canary-query")
        desk = await guarded.desk("canary-desk", "canary-queue")
        await guarded.redeem(desk, "canarytokencanarytokencana", line.call_sid)
        guarded.server.guard.world.judges[Kind.PIN].behind = Breaks()
        line = guarded.call("+15559870002")
        await line.until_input()
        for keys in (f"{ACCOUNT}#", "97318642"):
            await line.press(keys)
    sent = b"".join(collector.bodies)
    assert sent.count(b"webhook") > 5
    secrets = [
        PIN,
        "13572468",
        ACCOUNT,
        "86428642",
        "5551230001",
        "8005550100",
        "5550009999",
        AUTH_TOKEN,
        desk,
    ]
    secrets += ["canary", "secret-path", "9876543210", "9" * 32, "8" * 32]
    assert [secret for secret in secrets if secret.encode() in sent] == []
    assert bytes.fromhex("ab" * 16) not in sent  # a trace from outside is not joined
    known = {"http.request.method", "http.route", "http.response.status_code", "server.address", "error.type"}
    known |= {"db.system.name", "db.operation.name"}
    known |= {f"ivrguard.{name}" for name in ("call", "outcome", "factor")}
    assert {name for span in collector.spans() for name in said(span)} <= known
    assert all(not span.events and not span.status.message for span in collector.spans())


async def test_each_kind_of_webhook_has_its_name(start, open_flow, collector, tracer, provider_of, link_to):
    """By the kind of its link; a notice and a whisper of the IVR's own among them."""
    async with start(open_flow, extra={"tracer": tracer()}) as guarded:
        provider = provider_of(guarded)
        for kind in (Link.S, Link.W):
            await provider.send(link_to(guarded, "/secret-path", kind))
        await provider.send("/.ivrguard/status", provider.params(CallStatus="completed"))
        await provider.send("/.ivrguard/call/whisper/" + "8" * 32)
        await provider.send("/.ivrguard/call/leg/" + "8" * 32)
    named = {span.name: said(span) for span in collector.spans() if not span.parent_span_id}
    assert {name: (one["http.route"], one["ivrguard.outcome"]) for name, one in named.items()} == {
        "webhook notice": ("/.ivrguard/at/{path}", "done"),
        "webhook callee": ("/.ivrguard/at/{path}", "callee_refused"),
        "webhook status": ("/.ivrguard/status", "done"),
        "webhook whisper": ("/.ivrguard/call/whisper/{leg}", "stale"),
        "webhook leg": ("/.ivrguard/call/leg/{leg}", "leg"),
    }
    assert b"secret-path" not in b"".join(collector.bodies)


async def test_the_ivr_joins_only_if_it_is_told_to(start, open_flow, tracer, ivr, provider_of, collector):
    """Then by the span that waits for it; what came from outside it never sees."""
    outside = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "a=b", "baggage": "who=me"}
    for told in (False, True):
        async with start(open_flow, extra={"tracer": tracer(), "traces_to_ivr": told}) as guarded:
            await provider_of(guarded).send(headers=outside)
    quiet, joined = (seen.headers for seen in ivr.seen)
    assert [name for name in outside if name in quiet] == []
    assert [name for name in outside if name in joined] == ["traceparent"]
    (fetch,) = [
        span
        for span in collector.spans()
        if span.name == "ivr fetch" and span.trace_id.hex() in joined["traceparent"]
    ]
    assert joined["traceparent"] == f"00-{fetch.trace_id.hex()}-{fetch.span_id.hex()}-01"


async def test_a_trace_that_is_not_kept_costs_no_span(start, open_flow, tracer, ivr, provider_of, collector):
    """`ratio` is decided once a trace: nothing of it leaves, and the IVR is told nothing."""
    async with start(open_flow, extra={"tracer": tracer(0.0), "traces_to_ivr": True}) as guarded:
        answer = await provider_of(guarded).send()
    assert answer.status == 200
    assert "traceparent" not in ivr.seen[0].headers
    assert collector.bodies == []


async def test_log_and_trace_are_joined(start, open_flow, tracer, collector, provider_of, ivr, logged):
    """A fault's line says in which trace it was."""
    ivr.documents.clear()
    async with start(open_flow, extra={"tracer": tracer()}) as guarded:
        await provider_of(guarded).send()
    (fault,) = [line for line in logged if line["event"] == "fault"]
    (root,) = [span for span in collector.spans() if span.name == "webhook document"]
    assert fault["traceparent"] == f"00-{root.trace_id.hex()}-{root.span_id.hex()}-01"
    assert (said(root)["ivrguard.outcome"], said(root)["error.type"]) == ("fault_upstream", "fault_upstream")
    assert root.status.code == root.status.STATUS_CODE_ERROR


async def test_a_collector_that_is_gone_or_stuck_holds_nobody_up(
    start, open_flow, provider_of, collector, tracer, monkeypatch
):
    """Callers are answered, and the end of the server waits for it no longer than it may."""
    monkeypatch.setattr(otlp, "CLOSE_S", 0.1)
    collector.held.clear()
    loop = asyncio.get_running_loop()
    gone = OtlpTracer("http://127.0.0.1:1", service="guard", node="n", headers={}, ratio=1.0)
    for each in (tracer(), gone):
        async with start(open_flow, extra={"tracer": each}) as guarded:
            assert (await provider_of(guarded).send()).status == 200
            began = loop.time()
        assert loop.time() - began < 2
    collector.held.set()


async def test_the_queue_is_bounded(collector, tracer, monkeypatch):
    """A collector that takes nothing costs so many spans and no more memory; the oldest go."""
    monkeypatch.setattr(otlp, "SPANS_WAITING_MAX", 8)
    monkeypatch.setattr(otlp, "SPANS_AT_ONCE_MAX", 8)
    monkeypatch.setattr(otlp, "CLOSE_S", 0.05)
    collector.held.clear()
    made = tracer()
    for number in range(100):
        with made.webhook(f"webhook {number}", {}) as span:
            span.end("done", failed=False)
    queue = made._provider._active_span_processor._span_processors[0]._batch_processor._queue
    assert len(queue) <= 8
    await made.close()
    collector.held.set()


async def test_a_part_of_no_webhook_is_no_span(collector, tracer):
    """Sweeps, checkpoints and reloads use the store, too."""
    made = tracer()
    assert made.part("store read", {}, client=True) is None
    store = watched.WatchedStore(MemoryStore(), Metrics(), made)
    await store.amend([], lambda _: Change(None))
    await made.close()
    assert collector.bodies == []


@pytest.mark.parametrize(
    ("raised", "outcome"), [(ValueError("canary"), "error"), (asyncio.CancelledError(), "cancelled")]
)
async def test_what_breaks_off_ends_its_trace(collector, tracer, raised, outcome):
    """A bug by its name only; a webhook that ran out of time as one that was given up."""
    made = tracer()
    with pytest.raises(type(raised)), made.webhook("webhook document", {}):
        raise raised
    await made.close()
    (span,) = collector.spans()
    assert (said(span)["ivrguard.outcome"], said(span)["error.type"]) == (outcome, outcome)
    assert b"canary" not in collector.bodies[0]
