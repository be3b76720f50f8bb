"""
The ports, watched: how long each took, how it ended, and a span where the webhook is traced.

The laws of this file:

1. Watching changes nothing: each port gives what the one `behind` it gives, and raises what it raises.
2. It stands between the guard and the world, put there once when a server is made (`watched`). The guard knows nothing of
   it; without a tracer there are no spans, and a webhook has one wrapper less.
3. **What is noted has a name in this file or in the settings**: kinds of work, outcomes, status codes, hosts of the flows'
   own. Never a key, an account, a number, digits, a path of a caller's, or the text of a fault.
4. Not even the verdict: whoever reads traces could try PINs at a locked account, where a caller hears nothing.
5. Counters and histograms are looked up when they are made, and no more than a few are touched by one call of a port.
6. A trace begins here. A `traceparent` from outside is nobody's we know, and does not get this far (web/upstream.py).

Names of attributes are OpenTelemetry's where it has one (https://opentelemetry.io/docs/specs/semconv/http/http-spans/,
https://opentelemetry.io/docs/specs/semconv/database/); ours begin with `ivrguard.`
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from time import perf_counter
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram

from ivrguard import log
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry, Linked
from ivrguard.core.conference import Room
from ivrguard.core.errors import Fault
from ivrguard.core.handoff import Desk
from ivrguard.core.lookup import NumberFacts
from ivrguard.guard import Answer, Guard, Hook, World
from ivrguard.guard.desk import Receipt
from ivrguard.ports import (
    Account,
    Challenge,
    Change,
    Conferences,
    Credential,
    Directory,
    Invitation,
    Ivr,
    Judge,
    Key,
    Listed,
    Messenger,
    NumberLookup,
    Pins,
    Recordings,
    Reply,
    Request,
    Store,
    Verdict,
    Verifications,
)
from ivrguard.telephony.delivery import Delivery
from ivrguard.web.ops import Metrics

T = TypeVar("T")
Result = TypeVar("Result")
Attributes = Mapping[str, str | int]

NOTHING: Attributes = {}
DONE = "done"
FAILED = ("fault_", "upstream_refused")
"""How outcomes of webhooks begin that are an error of a span's."""


class Span(Protocol):
    """
    One piece of work in a trace. `parent`: it as a `traceparent` header (https://www.w3.org/TR/trace-context/); "" where
    the trace is not among those that are kept.
    """

    parent: str

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def end(self, outcome: str, *, failed: bool) -> None:
        """It is over."""


class Tracer(Protocol):
    """Where spans come from, and go to."""

    def webhook(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """A trace of its own, in force for what is done within; ended when left, unless it was ended before."""

    def part(self, name: str, attributes: Attributes, *, client: bool) -> Span | None:
        """A span within the webhook that is being traced; None when there is none. `client`: somebody else is asked."""

    async def close(self) -> None:
        """Send what waits, within a bound, and end."""


def done(_: object) -> str:
    """How what came back is counted, where nothing about it matters."""
    return DONE


class Probe:
    """Watches one kind of work. `name`: its spans'."""

    def __init__(
        self,
        name: str,
        seconds: Histogram,
        outcomes: Callable[[str], Counter],
        tracer: Tracer | None,
        attributes: Attributes = NOTHING,
        *,
        client: bool = True,
    ) -> None:
        self._name = name
        self._seconds = seconds
        self._outcomes = outcomes
        self._counters: dict[str, Counter] = {}
        self._tracer = tracer
        self._attributes = attributes
        self._client = client
        self.under_way = 0

    def span(self, attributes: Attributes = NOTHING) -> Span | None:
        """One for what is about to be done, if the webhook that it is done for is traced."""
        if self._tracer is None:
            return None
        return self._tracer.part(self._name, {**self._attributes, **attributes}, client=self._client)

    async def watch(self, work: Awaitable[T], told: Callable[[T], str] = done, span: Span | None = None) -> T:
        """What `work` gives. `told`: its outcome; a fault's is its reason. `span`: see `span`, which is asked if there is none."""
        if span is None and self._tracer is not None:
            span = self.span()
        outcome, failed = "cancelled", True
        began = perf_counter()
        self.under_way += 1
        try:
            result = await work
            outcome, failed = told(result), False
            return result
        except Fault as fault:
            outcome = fault.reason
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            self.under_way -= 1
            self._seconds.observe(perf_counter() - began)
            self._count(outcome)
            if span is not None:
                span.end(outcome, failed=failed)

    def _count(self, outcome: str) -> None:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._outcomes(outcome)
        counter.inc()


class WatchedStore:
    """`ports.Store`. Entries of the record are counted by what they say, once they are kept."""

    def __init__(self, store: Store, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = store
        self._events = metrics.record_events
        self._kept: dict[str, Counter] = {}
        name = type(store).__name__.removesuffix("Store").lower()
        system = {"postgres": "postgresql"}.get(name, name)

        def probe(operation: str) -> Probe:
            return Probe(
                f"store {operation}",
                metrics.store_seconds.labels(operation),
                lambda outcome: metrics.store_operations.labels(operation, outcome),
                tracer,
                {"db.system.name": system, "db.operation.name": operation},
            )

        self._read, self._amend, self._list = probe("read"), probe("amend"), probe("list")
        metrics.store_amending.set_function(lambda: self._amend.under_way)

    async def read(self, key: Key[T]) -> T | None:
        """See `ports.Store.read`."""
        return await self._read.watch(self.behind.read(key))

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """See `ports.Store.amend`."""
        entries: tuple[Entry, ...] = ()

        def noted(values: Mapping[Key[object], object | None]) -> Change[Result]:
            nonlocal entries
            changed = change(values)
            entries = changed.entries  # of the last time, if it is called more than once
            return changed

        result = await self._amend.watch(self.behind.amend(keys, noted))
        for entry in entries:
            counter = self._kept.get(entry.event)
            if counter is None:
                counter = self._kept[entry.event] = self._events.labels(entry.event)
            counter.inc()
        return result

    async def list(
        self, kind: str, *, prefix: str = "", after: str = "", rank_from: int | None = None, limit: int = 100
    ) -> Sequence[Listed]:
        """See `ports.Store.list`."""
        listed = self.behind.list(kind, prefix=prefix, after=after, rank_from=rank_from, limit=limit)
        return await self._list.watch(listed)

    async def entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[Linked]:
        """See `ports.Store.entries`."""
        return await self.behind.entries(after=after, limit=limit)

    async def head(self) -> tuple[int, str]:
        """See `ports.Store.head`."""
        return await self.behind.head()

    async def prune(self, upto: int, *, limit: int = 1000) -> int:
        """See `ports.Store.prune`."""
        return await self.behind.prune(upto, limit=limit)

    async def sweep(self, now_ms: int, *, limit: int = 1000) -> int:
        """See `ports.Store.sweep`."""
        return await self.behind.sweep(now_ms, limit=limit)

    async def clock_ms(self) -> int | None:
        """See `ports.Store.clock_ms`."""
        return await self.behind.clock_ms()

    async def close(self) -> None:
        """See `ports.Store.close`."""
        await self.behind.close()


class WatchedJudge:
    """`ports.Judge`."""

    def __init__(self, judge: Judge, metrics: Metrics, tracer: Tracer | None) -> None:
        self.kind: Kind = judge.kind
        self.behind = judge
        self.probe = _judging(str(judge.kind), metrics, tracer)

    async def judge(
        self, credential: Credential | None, digits: str, challenge: Challenge | None, now_ms: int
    ) -> Verdict:
        """See `ports.Judge.judge`."""
        return await self.probe.watch(self.behind.judge(credential, digits, challenge, now_ms))


def _judging(factor: str, metrics: Metrics, tracer: Tracer | None) -> Probe:
    return Probe(
        f"judge {factor}",
        metrics.judgement_seconds.labels(factor),
        lambda outcome: metrics.judgements.labels(factor, outcome),
        tracer,
        {"ivrguard.factor": factor},
        client=False,
    )


class WatchedIvr:
    """`ports.Ivr`. `told`: whether the IVR gets a `traceparent`, so that its own spans join ours."""

    def __init__(self, ivr: Ivr, metrics: Metrics, tracer: Tracer | None, *, told: bool) -> None:
        self.behind = ivr
        self._told = told
        self._probe = Probe("ivr fetch", metrics.upstream_seconds, metrics.upstream_requests.labels, tracer)

    async def fetch(self, request: Request, *, assertion: str, cookies: str, deadline_s: float) -> Reply:
        """See `ports.Ivr.fetch`."""
        host = urlsplit(request.url).hostname or ""
        span = self._probe.span({"http.request.method": request.method, "server.address": host})
        if span is not None and self._told:
            request = replace(request, headers=(*request.headers, ("traceparent", span.parent)))

        def outcome(reply: Reply) -> str:
            if span is not None:
                span.note("http.response.status_code", reply.status)
            return f"{reply.status // 100}xx"

        fetched = self.behind.fetch(request, assertion=assertion, cookies=cookies, deadline_s=deadline_s)
        return await self._probe.watch(fetched, outcome, span)


def _asking(request: str, metrics: Metrics, tracer: Tracer | None) -> Probe:
    """Watches a request to the provider's API."""
    return Probe(
        f"twilio {request}",
        metrics.twilio_seconds.labels(request),
        lambda outcome: metrics.twilio_requests.labels(request, outcome),
        tracer,
    )


class WatchedMessenger:
    """`ports.Messenger`."""

    def __init__(self, messenger: Messenger, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = messenger
        self._probe = _asking("message", metrics, tracer)

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        """See `ports.Messenger.send`."""
        await self._probe.watch(self.behind.send(to, text, deadline_s=deadline_s))


class WatchedVerifications:
    """`ports.Verifications`."""

    def __init__(self, verifications: Verifications, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = verifications
        self._start = _asking("verify_start", metrics, tracer)
        self._check = _asking("verify_check", metrics, tracer)

    async def start(self, to: str, *, again: bool, intent: str, language: str, deadline_s: float) -> str:
        """See `ports.Verifications.start`."""
        started = self.behind.start(to, again=again, intent=intent, language=language, deadline_s=deadline_s)
        return await self._start.watch(started)

    async def check(self, verification: str | None, digits: str, *, deadline_s: float) -> Verdict:
        """See `ports.Verifications.check`."""
        return await self._check.watch(self.behind.check(verification, digits, deadline_s=deadline_s))


class WatchedLookup:
    """`ports.NumberLookup`."""

    def __init__(self, numbers: NumberLookup, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = numbers
        self._probe = _asking("lookup", metrics, tracer)

    async def look_up(self, number: str, packages: Sequence[str], *, deadline_s: float) -> NumberFacts:
        """See `ports.NumberLookup.look_up`."""
        return await self._probe.watch(self.behind.look_up(number, packages, deadline_s=deadline_s))


class WatchedRecordings:
    """`ports.Recordings`."""

    def __init__(self, recordings: Recordings, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = recordings
        self._probe = _asking("recordings", metrics, tracer)

    async def running(self, account_sid: str, call_sid: str, *, deadline_s: float) -> tuple[str, ...]:
        """See `ports.Recordings.running`."""
        return await self._probe.watch(self.behind.running(account_sid, call_sid, deadline_s=deadline_s))

    async def pause(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """See `ports.Recordings.pause`."""
        await self._probe.watch(self.behind.pause(account_sid, call_sid, recordings, deadline_s=deadline_s))

    async def resume(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """See `ports.Recordings.resume`."""
        await self._probe.watch(self.behind.resume(account_sid, call_sid, recordings, deadline_s=deadline_s))


class WatchedConferences:
    """`ports.Conferences`."""

    def __init__(self, conferences: Conferences, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = conferences
        self._probe = _asking("conferences", metrics, tracer)

    async def invite(self, account_sid: str, invitation: Invitation, *, deadline_s: float) -> str:
        """See `ports.Conferences.invite`."""
        return await self._probe.watch(self.behind.invite(account_sid, invitation, deadline_s=deadline_s))

    async def lead(self, account_sid: str, call_sid: str, url: str, *, deadline_s: float) -> None:
        """See `ports.Conferences.lead`."""
        await self._probe.watch(self.behind.lead(account_sid, call_sid, url, deadline_s=deadline_s))

    async def hang_up(self, account_sid: str, call_sid: str, *, deadline_s: float) -> None:
        """See `ports.Conferences.hang_up`."""
        await self._probe.watch(self.behind.hang_up(account_sid, call_sid, deadline_s=deadline_s))

    async def hold(
        self, account_sid: str, conference: str, call_sid: str, music_url: str, *, deadline_s: float
    ) -> None:
        """See `ports.Conferences.hold`."""
        await self._probe.watch(
            self.behind.hold(account_sid, conference, call_sid, music_url, deadline_s=deadline_s)
        )

    async def unhold(self, account_sid: str, conference: str, call_sid: str, *, deadline_s: float) -> None:
        """See `ports.Conferences.unhold`."""
        await self._probe.watch(self.behind.unhold(account_sid, conference, call_sid, deadline_s=deadline_s))

    async def room_of_task(
        self, account_sid: str, workspace: str, call_sid: str, *, deadline_s: float
    ) -> Room | None:
        """See `ports.Conferences.room_of_task`."""
        return await self._probe.watch(
            self.behind.room_of_task(account_sid, workspace, call_sid, deadline_s=deadline_s)
        )

    async def room_runs(self, account_sid: str, conference: str, *, deadline_s: float) -> bool:
        """See `ports.Conferences.room_runs`."""
        return await self._probe.watch(self.behind.room_runs(account_sid, conference, deadline_s=deadline_s))

    async def ends_room(
        self, account_sid: str, conference: str, call_sid: str, *, ends: bool, deadline_s: float
    ) -> None:
        """See `ports.Conferences.ends_room`."""
        await self._probe.watch(
            self.behind.ends_room(account_sid, conference, call_sid, ends=ends, deadline_s=deadline_s)
        )


class WatchedDirectory:
    """`ports.Directory`. The bank's own system counts its requests by itself (web/bank.py); this is the guard's view."""

    def __init__(self, directory: Directory, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = directory
        self._probe = Probe(
            "directory find",
            metrics.account_seconds.labels("find"),
            lambda outcome: metrics.account_operations.labels("find", outcome),
            tracer,
            client=False,
        )

    async def by_id(self, account_id: str) -> Account | None:
        """See `ports.Directory.by_id`."""
        return await self._probe.watch(self.behind.by_id(account_id))

    async def by_number(self, number: str) -> Account | None:
        """See `ports.Directory.by_number`."""
        return await self._probe.watch(self.behind.by_number(number))


class WatchedPins:
    """`ports.Pins`."""

    def __init__(self, pins: Pins, metrics: Metrics, tracer: Tracer | None) -> None:
        self.behind = pins
        self._probe = Probe(
            "directory change_pin",
            metrics.account_seconds.labels("change_pin"),
            lambda outcome: metrics.account_operations.labels("change_pin", outcome),
            tracer,
            client=False,
        )

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:
        """See `ports.Pins.change`."""
        return await self._probe.watch(self.behind.change(account_id, digits, now_ms=now_ms))


def watched(world: World, metrics: Metrics, tracer: Tracer | None, *, told: bool = False) -> World:
    """The same world, with every port of it watched but the store, which others have too. `told`: see `WatchedIvr`."""
    judges = {kind: WatchedJudge(judge, metrics, tracer) for kind, judge in world.judges.items()}
    metrics.hashing.set_function(lambda: judges[Kind.PIN].probe.under_way)
    messenger, verifications = world.messenger, world.verifications
    numbers, recordings, pins = world.numbers, world.recordings, world.pins
    conferences = world.conferences
    return replace(
        world,
        directory=WatchedDirectory(world.directory, metrics, tracer),
        judges=judges,
        messenger=WatchedMessenger(messenger, metrics, tracer) if messenger is not None else None,
        ivr=WatchedIvr(world.ivr, metrics, tracer, told=told),
        verifications=WatchedVerifications(verifications, metrics, tracer) if verifications else None,
        numbers=WatchedLookup(numbers, metrics, tracer) if numbers is not None else None,
        recordings=WatchedRecordings(recordings, metrics, tracer) if recordings is not None else None,
        conferences=WatchedConferences(conferences, metrics, tracer) if conferences is not None else None,
        pins=WatchedPins(pins, metrics, tracer) if pins is not None else None,
    )


class TracedGuard(Guard):
    """The guard, with a trace for each webhook and each token presented: by the kind of its path, never the path."""

    def __init__(self, world: World, tracer: Tracer) -> None:
        super().__init__(world)
        self._tracer = tracer

    async def voice(self, hook: Hook) -> Answer:
        """See `Guard.voice`."""
        name, route = ("document", "/{path}") if hook.nonce is None else ("answer", "/.ivrguard/call/{nonce}")
        work = super().voice(hook)
        return await self._webhook(
            name, route, work, _outcome, call=hook.delivery.call_sid, method=hook.method
        )

    async def callee(self, hook: Hook) -> Answer:
        """See `Guard.callee`."""
        work, call = super().callee(hook), hook.delivery.call_sid
        return await self._webhook(
            "callee", "/.ivrguard/at/{path}", work, _outcome, call=call, method=hook.method
        )

    async def whisper(self, leg_id: str, delivery: Delivery) -> Answer:
        """See `Guard.whisper`."""
        work = super().whisper(leg_id, delivery)
        return await self._webhook(
            "whisper", "/.ivrguard/call/whisper/{leg}", work, _outcome, call=delivery.call_sid
        )

    async def bridged(self, work: Awaitable[bytes], outcome: str) -> Answer:
        """See `Guard.bridged`."""
        answered = super().bridged(work, outcome)
        return await self._webhook(outcome, f"/.ivrguard/call/{outcome}/{{leg}}", answered, _outcome)

    async def status(self, delivery: Delivery) -> None:
        """See `Guard.status`."""
        work = super().status(delivery)
        await self._webhook("status", "/.ivrguard/status", work, done, call=delivery.call_sid)

    async def notice(self, target: str, request: Request) -> None:
        """See `Guard.notice`."""
        work = super().notice(target, request)
        await self._webhook("notice", "/.ivrguard/at/{path}", work, done, method=request.method)

    async def redeem(self, desk: Desk, presented: str, call_sid: str | None) -> Receipt | None:
        """See `Guard.redeem`."""
        work = super().redeem(desk, presented, call_sid)

        def outcome(receipt: Receipt | None) -> str:
            return "refused" if receipt is None else "redeemed"

        return await self._webhook("redeem", "/.ivrguard/agent/v1/redemptions", work, outcome)

    async def _webhook(
        self,
        name: str,
        route: str,
        work: Awaitable[T],
        told: Callable[[T], str],
        *,
        call: str = "",
        method: str = "POST",
    ) -> T:
        attributes = {"http.request.method": method, "http.route": route}
        with (
            self._tracer.webhook(
                f"webhook {name}", {**attributes, **({"ivrguard.call": call} if call else {})}
            ) as span,
            log.context(**({"traceparent": span.parent} if span.parent else {})),
        ):
            result = await work
            outcome = told(result)
            span.end(outcome, failed=outcome.startswith(FAILED))
            return result


def _outcome(answer: Answer) -> str:
    return answer.outcome
