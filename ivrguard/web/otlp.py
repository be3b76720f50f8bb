"""
Traces by OpenTelemetry, sent to a collector over OTLP/HTTP: the one door to that library, which is an extra.

The laws of this file:

1. A webhook begins a trace of its own, whatever came with it. A part of it is a span only while a traced webhook is
   under way; background work that belongs to none makes none.
2. **Never in the way.** Spans wait in a queue of `SPANS_WAITING_MAX`, and a thread sends them. When the queue is full the
   oldest go; when the collector is gone they are lost; nobody waits for either but `close`, and that for `CLOSE_S`.
3. No span holds an exception or its text: an outcome is a word of ours.
4. Of all traces the `ratio` is kept, decided once for each when it begins.

What a collector needs besides (certificates, compression, further resource attributes) the library takes from the
environment itself: https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from ivrguard.web.watched import Attributes

SPANS_WAITING_MAX = 4_096
SPANS_AT_ONCE_MAX = 512
SENT_EVERY_MS = 2_000
SEND_S = 5.0
CLOSE_S = 3.0
"""How long a server that ends waits for its last spans."""


class OtlpSpan:
    """`watched.Span`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        made = span.get_span_context()
        kept = made.trace_flags.sampled
        self.parent = f"00-{made.trace_id:032x}-{made.span_id:016x}-01" if kept else ""
        self.over = False

    def note(self, name: str, value: str | int) -> None:
        """See `watched.Span.note`."""
        self._span.set_attribute(name, value)

    def end(self, outcome: str, *, failed: bool) -> None:
        """See `watched.Span.end`. `error.type` and the status are OpenTelemetry's way to say that something failed."""
        self.over = True
        self._span.set_attribute("ivrguard.outcome", outcome)
        if failed:
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OtlpTracer:
    """
    `watched.Tracer`. `endpoint`: the collector's base URL, to which `/v1/traces` is put; `headers`: what it wants to know
    its clients by. `service`: the name that traces stand under. `node`: this process. `ratio`: from 0 to 1.
    """

    def __init__(
        self, endpoint: str, *, service: str, node: str, headers: Mapping[str, str], ratio: float
    ) -> None:
        named = Resource.create({"service.name": service, "service.instance.id": node})
        # Closed by `close` alone: at the process's end the library would wait for half a minute.
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(ratio), resource=named, shutdown_on_exit=False
        )
        self._exporter = OTLPSpanExporter(
            endpoint=f"{endpoint}/v1/traces", headers=dict(headers), timeout=SEND_S
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=SPANS_WAITING_MAX,
                schedule_delay_millis=SENT_EVERY_MS,
                max_export_batch_size=SPANS_AT_ONCE_MAX,
            )
        )
        self._tracer = self._provider.get_tracer("ivrguard")
        self._webhook: ContextVar[Context | None] = ContextVar("webhook", default=None)

    @contextmanager
    def webhook(self, name: str, attributes: Attributes) -> Iterator[OtlpSpan]:
        """See `watched.Tracer.webhook`."""
        begun = self._tracer.start_span(name, Context(), SpanKind.SERVER, dict(attributes))
        span = OtlpSpan(begun)
        before = self._webhook.set(set_span_in_context(begun, Context()) if span.parent else None)
        outcome = "cancelled"
        try:
            yield span
        except Exception:
            outcome = "error"
            raise
        finally:
            self._webhook.reset(before)
            if not span.over:
                span.end(outcome, failed=True)

    def part(self, name: str, attributes: Attributes, *, client: bool) -> OtlpSpan | None:
        """See `watched.Tracer.part`."""
        within = self._webhook.get()
        if within is None:
            return None
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return OtlpSpan(self._tracer.start_span(name, within, kind, dict(attributes)))

    async def close(self) -> None:
        """See `watched.Tracer.close`."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def last() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=last, name="last-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await sent.wait()
