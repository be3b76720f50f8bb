"""What happens to an agent's calls, read as it comes: over real sockets, with a second that takes no time."""

import asyncio
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from ivrguard.core.agents import AFTER_CALL_S, Agent
from ivrguard.core.errors import StoreFault
from ivrguard.core.sessions import IDLE_S
from ivrguard.guard import desk as desks
from ivrguard.guard import held, sessions
from ivrguard.web.agents import events
from ivrguard.web.agents.events import EVENT_STREAM
from ivrguard.web.sessions import COOKIE

PATH = "/.ivrguard/agent/v1/events"
DEADLINE_S = 10


@pytest.fixture(autouse=True)
def short_seconds(monkeypatch):
    monkeypatch.setattr(events, "POLL_S", 0.005)


class Stream:
    """One stream, as an `EventSource` reads it."""

    def __init__(self, response):
        self.response = response

    async def block(self):
        """The next lines up to an empty one, as fields; a comment stands under ""; {} when it is over."""
        fields = {}
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return fields

    async def next(self):
        """The next event: its name and data; comments are passed over."""
        while (fields := await self.block()) and "event" not in fields:
            pass
        return (fields["event"], orjson.loads(fields["data"])) if fields else None


class Shared:
    """A store that another process goes on with once this one has ended."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def close(self):
        pass


@asynccontextmanager
async def reading(centre, key, **headers):
    headers = {"Authorization": f"Bearer {key}", "Accept": EVENT_STREAM, **headers}
    async with centre.session.get(centre.guard_url + PATH, headers=headers) as response:
        yield Stream(response)


async def test_a_stream_begins_with_every_call_and_tells_what_changes(centre, desk, in_hand):
    """All of it, as a look has it, with nothing twice; until it is not his any more."""
    ann = await desk("ann")
    line = await in_hand(ann)
    async with reading(centre, ann.key) as stream:
        assert stream.response.headers["Content-Type"] == EVENT_STREAM
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert await stream.block() == {"retry": "2000"}
        name, first = await stream.next()
        _, looked_at = await ann.get(f"calls/{line.call_sid}")
        assert (name, first | {"now": ""}) == ("call", looked_at | {"now": ""})
        await line.hang_up()
        name, ended = await stream.next()
        assert (name, ended["status"]) == ("call", "ended")
        centre.clock.advance(AFTER_CALL_S)
        assert await stream.next() == ("gone", {"call_sid": line.call_sid})
        other = await in_hand(ann)
        assert (await stream.next())[1]["call_sid"] == other.call_sid


async def test_what_is_told_is_on_record_first(centre, desk, in_hand):
    """An entry a minute at most, however long it is read and whatever else looks."""
    ann = await desk("ann")
    line = await in_hand(ann)
    async with reading(centre, ann.key) as stream:
        await stream.next()
        await line.hang_up()
        await stream.next()
        await ann.get("calls")
    entries = [linked.entry.event for linked in await centre.store.entries()]
    assert entries.count("call_viewed") == 1


async def test_what_happens_at_another_node_is_told_too(start, agents_flow, ivr, centre, desk, in_hand):
    """Two processes on one store: he reads at one, his caller's webhooks come to the other."""
    ann = await desk("ann")
    line = await in_hand(ann)
    keys = {"store": Shared(centre.store), "keyring": centre.keyring, "clock": centre.clock}
    async with start(agents_flow, **keys) as other, reading(other, ann.key) as stream:
        assert (await stream.next())[1]["status"] == "verified"
        await line.hang_up()
        name, seen = await stream.next()
        assert (name, seen["call_sid"], seen["status"]) == ("call", line.call_sid, "ended")


async def test_nobody_is_told_of_a_call_that_he_does_not_hold(centre, desk, in_hand):
    """Two streams beside each other: each has its own agent's calls, and silence for the rest."""
    ann, bob = await desk("ann"), await desk("bob")
    async with reading(centre, ann.key) as hers, reading(centre, bob.key) as his:
        taken = [(await in_hand(one)).call_sid for one in (bob, ann, bob)]
        assert await told(his, 2) == {taken[0], taken[2]}
        assert await told(hers, 1) == {taken[1]}


async def told(stream, count):
    """The calls that a stream tells of, until it told of so many; each may be told of again: its account is everybody's here."""
    sids = set()
    while len(sids) < count:
        sids.add((await stream.next())[1]["call_sid"])
    return sids


@pytest.mark.parametrize("last", ["", "7", "999999999999999999999", "x", "é", "0" * 2_000])
async def test_what_was_seen_last_does_not_matter(centre, desk, in_hand, last):
    """A stream begins with all that there is."""
    ann = await desk("ann")
    line = await in_hand(ann)
    async with reading(centre, ann.key, **{"Last-Event-ID": last}) as stream:
        assert (await stream.next())[1]["call_sid"] == line.call_sid


async def test_silence_is_broken_now_and_then(centre, desk, monkeypatch):
    """So that nobody between takes the connection for dead."""
    monkeypatch.setattr(events, "SILENT_POLLS_MAX", 2)
    async with reading(centre, (await desk("ann")).key) as stream:
        await stream.block()
        assert [await stream.block() for _ in range(2)] == [{"": "still here"}] * 2


async def test_it_ends_with_the_desk(centre, desk):
    """Whoever is known here no longer is told so, and hears nothing more."""
    ann = await desk("ann")
    async with reading(centre, ann.key) as stream:
        await stream.block()
        await desks.revoke(centre.store, "ann", now_ms=centre.clock())
        assert await stream.next() == ("over", {"why": "identity"})
        assert await stream.next() is None
    async with reading(centre, ann.key) as stream:
        assert stream.response.status == 401


@pytest.mark.parametrize("how", ["logged out", "idle"])
async def test_it_ends_with_the_session(centre, how, monkeypatch):
    """A person's: once he has logged out, or has not touched anything for so long; to read on is no touch."""
    monkeypatch.setattr(events, "SILENT_POLLS_MAX", 3)
    secret = await centre.session_of(Agent("agent:ann", shown_ms=centre.clock()))
    headers = {"Cookie": f"{COOKIE}={secret}", "Accept": EVENT_STREAM}
    async with centre.session.get(centre.guard_url + PATH, headers=headers) as response:
        stream = Stream(response)
        await stream.block()
        if how == "logged out":
            await sessions.end(centre.server.world, secret)
        else:
            centre.clock.advance(IDLE_S - 1)
            assert await stream.block() == {"": "still here"}, "some looks on, which are no touches"
            centre.clock.advance(2)
        assert await stream.next() == ("over", {"why": "identity"})


async def test_it_ends_with_the_process(start, agents_flow):
    """A server that drains does not wait for those who listen."""
    async with start(agents_flow) as centre, reading(centre, await centre.desk("ann", "*")) as stream:
        await stream.block()
        async with asyncio.timeout(DEADLINE_S):
            await centre.server.stop()
        assert await stream.next() == ("over", {"why": "drain"})
        assert await stream.next() is None


async def test_it_says_when_nothing_is_known(centre, desk, in_hand, monkeypatch, logged):
    """Once, and one line for the operator; and all of it anew when the store is back: a panel has shown "not verified"."""
    ann = await desk("ann")
    line = await in_hand(ann)
    real, tries, enough = held.holding, [], asyncio.Event()

    async def down(*more):
        tries.append(1)
        if len(tries) == 3:
            enough.set()
        raise StoreFault("no disk")

    async with reading(centre, ann.key) as stream:
        assert (await stream.next())[0] == "call"
        monkeypatch.setattr(held, "holding", down)
        assert await stream.next() == ("unavailable", {"error": "temporarily_unavailable"})
        await enough.wait()
        monkeypatch.setattr(held, "holding", real)
        name, seen = await stream.next()
        assert (name, seen["call_sid"]) == ("call", line.call_sid)
    assert [one["reason"] for one in logged if one["event"] == "fault"] == ["store"]


async def streams(metric, centre):
    return await metric(centre, "ivrguard_agent_streams")


@pytest.mark.parametrize("bound", ["STREAMS_MAX", "STREAMS_OF_ONE_MAX"])
async def test_streams_are_bounded(centre, desk, metric, monkeypatch, bound):
    """429 beyond, with when to come again; one that was closed makes room."""
    monkeypatch.setattr(events, bound, 1)
    ann, bob = await desk("ann"), await desk("bob")
    async with reading(centre, ann.key) as first:
        await first.block()
        async with reading(centre, ann.key) as second:
            assert (second.response.status, second.response.headers["Retry-After"]) == (429, "10")
            assert (await second.response.json())["error"] == "too_many_streams"
        async with reading(centre, bob.key) as his:
            assert his.response.status == (429 if bound == "STREAMS_MAX" else 200)
    async with asyncio.timeout(DEADLINE_S):
        while await streams(metric, centre):
            pass
    async with reading(centre, ann.key) as again:
        assert again.response.status == 200


async def test_one_who_does_not_read_is_left(centre, desk, in_hand, metric, monkeypatch):
    """What cannot be written in time is not waited for: here, from the second thing on."""
    monkeypatch.setattr(events, "WRITE_DEADLINE_S", 0.01)
    written = web.StreamResponse.write

    async def full(self, data):
        await (written(self, data) if data.startswith(b"retry") else asyncio.Event().wait())

    monkeypatch.setattr(web.StreamResponse, "write", full)
    ann = await desk("ann")
    await in_hand(ann)
    async with reading(centre, ann.key) as stream:
        await stream.block()
        assert await stream.next() is None
    async with asyncio.timeout(DEADLINE_S):
        while await streams(metric, centre):
            pass
