"""
What happens to an agent's calls, as it happens: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The laws of this file:

1. The store is asked about once a second, so that what another node did is seen; nothing is said where nothing has changed.
2. A stream begins with every call that the agent holds, so nothing is lost between two: what was the last event that a
   client saw (`Last-Event-ID`) does not matter.
3. It ends when whoever reads it is known no longer, and when this process does; he is told so, and comes again or not.
4. Streams are bounded, for one agent and for all of them; one that is not read from is ended.
5. While the store is down the reader is told that nothing is known (`unavailable`): a panel then shows "not verified".
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web
from pydantic import BaseModel

from ivrguard import log
from ivrguard.core.agents import Agent
from ivrguard.core.errors import Fault
from ivrguard.guard import Guard
from ivrguard.web.agents.api import Answer, Asked, Problem, Route, refused
from ivrguard.web.agents.calls import CallSeen, at, shown
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics

POLL_S = 1.0
SILENT_POLLS_MAX = 15
"""So many times nothing is said; then a comment, so that nobody between takes the connection for dead."""
WRITE_DEADLINE_S = 10.0
RETRY_MS = 2_000
"""How long a browser waits before it comes again."""

STREAMS_MAX = 256
STREAMS_OF_ONE_MAX = 8
"""Tabs of one agent; or pages of one program."""

EVENT_STREAM = "text/event-stream"
HEADERS = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The last one is for nginx: it passes on what comes as it comes."""

TOO_MANY = refused(429, "too_many_streams", "close some of your panels, or wait", Retry_After="10")

logger = log.get()


class Gone(BaseModel):
    """The call is not this agent's any more."""

    call_sid: str


class Over(BaseModel):
    """Nothing more will come. `why`: `identity` (you are known here no longer), `drain` (this process ends: come again)."""

    why: str


class Events:
    """Handlers of streams."""

    def __init__(self, guard: Guard, identity: Identity, metrics: Metrics) -> None:
        self._guard = guard
        self._identity = identity
        self._metrics = metrics
        self._open: Counter[str] = Counter()
        self._over = asyncio.Event()

    def routes(self) -> Sequence[Route]:
        """What of the API is a stream."""
        return [
            Route(
                *("GET", "events", self.stream, "stream_events", "What happens to your calls", {200: None}),
                refuses={429: "Too many streams are open, yours or everybody's"},
                media=EVENT_STREAM,
            )
        ]

    def end(self) -> None:
        """End every stream."""
        self._over.set()

    async def stream(self, asked: Asked[None]) -> Answer | web.StreamResponse:
        """
        `call`: a call of yours, as `GET calls/{call_sid}` has it, at first and whenever anything of it changes; `gone`: it is not yours any more;
        `unavailable`: the guard cannot say, take every caller for not verified until the next `call`; `over`: nothing more will come.
        `Last-Event-ID` changes nothing: each stream begins with all that there is.
        """
        name = asked.agent.name
        if self._open.total() >= STREAMS_MAX or self._open[name] >= STREAMS_OF_ONE_MAX:
            return TOO_MANY
        self._open[name] += 1
        self._metrics.agent_streams.inc()
        try:
            reader = _Reader(asked.request)
            with suppress(ConnectionError, TimeoutError):  # whoever read it has gone, or does not read
                await reader.begin()
                await self._tell(asked, reader)
            return reader.response
        finally:
            self._metrics.agent_streams.dec()
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    async def _tell(self, asked: Asked[None], reader: "_Reader") -> None:
        """Tell what changes until it is over. Raises `ConnectionError` or `TimeoutError` when nobody reads."""
        known: dict[str, CallSeen] = {}
        down = False
        while not self._over.is_set():
            try:
                agent = await self._identity.of(asked.request)
                if agent is None or agent.name != asked.agent.name:
                    return await reader.send("over", Over(why="identity"))
                await self._changes(agent, known, reader, again=down)
                down = False
            except Fault as fault:
                if not down:
                    logger.error("fault", reason=fault.reason, detail=str(fault))
                    await reader.send("unavailable", Problem(error="temporarily_unavailable"))
                down = True
            await reader.beat()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), POLL_S)
        return await reader.send("over", Over(why="drain"))

    async def _changes(
        self, agent: Agent, known: dict[str, CallSeen], reader: "_Reader", *, again: bool
    ) -> None:
        """Tell what is not as it was `known`, which is then known; `again`: all of it."""
        held = {one.call.sid: one for one in await self._guard.holding(agent)}
        for sid in [sid for sid in known if sid not in held]:
            await reader.send("gone", Gone(call_sid=sid))
            del known[sid]
        for sid, found in held.items():
            seen, before = shown(await self._guard.seen(found), 0), known.get(sid)
            if again or before is None or seen.model_copy(update={"now": before.now}) != before:
                recorded_ms = await self._guard.look(agent, found)  # on record before it is told
                await reader.send("call", seen.model_copy(update={"recorded": at(recorded_ms)}))
                known[sid] = seen


class _Reader:
    """Whoever reads one stream."""

    def __init__(self, request: web.Request) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._count = 0
        self._silent = 0

    async def begin(self) -> None:
        """The headers, and how soon to come again. Raises as `send`."""
        await self.response.prepare(self._request)
        await self._write(f"retry: {RETRY_MS}\n\n")

    async def send(self, event: str, said: BaseModel) -> None:
        """One event. Raises `ConnectionError` or `TimeoutError` when nobody reads."""
        self._count += 1
        await self._write(
            f"id: {self._count}\nevent: {event}\ndata: {said.model_dump_json(exclude_none=True)}\n\n"
        )

    async def beat(self) -> None:
        """Another second: see whether he is there, and say something if nothing was said for long. Raises as `send`."""
        self._silent += 1
        if self._request.transport is None or self._request.transport.is_closing():
            raise ConnectionResetError
        if self._silent > SILENT_POLLS_MAX:
            await self._write(": still here\n\n")

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(WRITE_DEADLINE_S):
            await self.response.write(text.encode())
        self._silent = 0
