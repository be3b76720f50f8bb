"""Sessions of agents in a real store: begun, used, ended, and good nowhere else."""

import hashlib

import pytest

from ivrguard.core.agents import Agent, Role
from ivrguard.core.errors import RecordFault
from ivrguard.core.sessions import ABSOLUTE_S, IDLE_S, SEEN_EVERY_S, SESSIONS_MAX
from ivrguard.guard import sessions
from ivrguard.guard.logins import Logins, Typed
from ivrguard.ports import Change, Put

ANN = Agent("agent:ann", "Ann", frozenset({Role.AGENT, Role.RISK}), ("queue:*",), "agent:bob", shown_ms=7)
BOB = Agent("agent:bob", "Bob")


@pytest.fixture
def world(centre):
    return centre.world()


async def of(world, secret, **more):
    return await sessions.agent_of(world, secret, idle_s=IDLE_S, **more)


async def test_a_session_is_known_by_its_secret_and_kept_by_its_digest(world, centre):
    """Law 1: what the store holds opens nothing; the log-in is on record with the way, the name and the roles."""
    assert await sessions.begin(world, ANN, "secret-of-ann", way="password")
    assert await of(world, "secret-of-ann") == ANN
    digest = hashlib.sha256(b"secret-of-ann").hexdigest()
    assert await of(world, digest) is None
    assert [one.id for one in await centre.store.list("session")] == [digest]
    assert "secret-of-ann" not in repr(await centre.store.list("session"))
    entry = (await centre.record())[-1]
    assert (entry.event, entry.reason) == ("agent_logged_in", "password")
    assert entry.detail == (("agent", "agent:ann"), ("roles", "agent,risk"))


async def test_use_makes_it_last_and_what_nobody_did_does_not(world, centre):
    """Law 3: it is written once a minute at most, and ends half an hour after a hand last did something."""
    await sessions.begin(world, ANN, "one", way="password")
    acts = centre.store.acts
    centre.clock.advance(SEEN_EVERY_S - 1)
    assert await of(world, "one")
    assert centre.store.acts == acts
    centre.clock.advance(IDLE_S - SEEN_EVERY_S)
    assert await of(world, "one", busy=False)
    assert centre.store.acts == acts
    assert await of(world, "one")
    assert centre.store.acts == acts + 1
    centre.clock.advance(IDLE_S - 1)
    assert await of(world, "one", busy=False)
    centre.clock.advance(1)
    assert await of(world, "one") is None


async def test_no_use_makes_it_last_longer_than_a_shift(world, centre):
    await sessions.begin(world, ANN, "one", way="password")
    for _ in range(ABSOLUTE_S // 600 - 1):
        centre.clock.advance(600)
        assert await of(world, "one")
    centre.clock.advance(600)
    assert await of(world, "one") is None
    assert await centre.store.sweep(centre.clock() + 1) >= 2


async def test_logging_out_ends_one_session_and_no_other(world, centre):
    for secret in ("one", "two"):
        await sessions.begin(world, ANN, secret, way="password")
    await sessions.begin(world, BOB, "bobs", way="password")
    assert await sessions.end(world, "one") == ANN
    assert await sessions.end(world, "one") is None
    assert await sessions.end(world, "never") is None
    assert [await of(world, secret) for secret in ("one", "two", "bobs")] == [None, ANN, BOB]
    assert await centre.events("agent_logged_out") == ["asked_for"]
    assert await sessions.end(world, "two") == ANN
    assert await centre.store.read(sessions.list_key("agent:ann")) is None


async def test_a_new_session_takes_the_place_of_the_old_one(world):
    """Showing anew who one is gives a new secret, and the old one is good no longer (ASVS 7.2.4)."""
    await sessions.begin(world, ANN, "old", way="password")
    await sessions.begin(world, ANN, "new", way="password", ended="old")
    assert [await of(world, secret) for secret in ("old", "new")] == [None, ANN]


async def test_the_oldest_goes_when_there_are_too_many(world):
    for number in range(SESSIONS_MAX + 1):
        await sessions.begin(world, ANN, f"{number}", way="password")
    assert await of(world, "0") is None
    assert all([await of(world, f"{number}") for number in range(1, SESSIONS_MAX + 1)])


async def test_an_empty_list_ends_all(world, centre):
    """Law 2: one act, on every node, whoever had been logged in wherever."""
    for secret in ("one", "two"):
        await sessions.begin(world, ANN, secret, way="password")
    key = sessions.list_key("agent:ann")
    await centre.store.amend([key], lambda _: Change(None, (Put(key, None),)))
    assert [await of(centre.world("another"), secret) for secret in ("one", "two")] == [None, None]
    assert await sessions.end(world, "one") is None


async def test_what_may_be_used_once_begins_one_session(world):
    """A log-in at the identity provider that comes again, from whomever, begins nothing."""
    assert await sessions.begin(world, ANN, "one", way="provider", once="state")
    assert not await sessions.begin(world, BOB, "two", way="provider", once="state")
    assert await of(world, "two") is None


async def test_a_session_that_ends_while_it_is_used_stays_ended(world, centre):
    """Between being read and being written again it was logged out: nothing brings it back."""
    await sessions.begin(world, ANN, "one", way="password")
    key = sessions.session_key(sessions.digest_of("one"))
    await sessions.end(world, "one")
    await sessions._seen(world, key, centre.clock())
    assert await centre.store.read(key) is None


async def test_nobody_logs_in_while_it_cannot_be_recorded(centre):
    """Where a copy of the record is required and cannot be written, callers are refused, and so are agents."""
    world = centre.world(refusal=lambda: "the disk is full")
    with pytest.raises(RecordFault, match="the disk is full"):
        await sessions.begin(world, ANN, "one", way="provider")
    with pytest.raises(RecordFault, match="the disk is full"):
        await Logins(world, None, None).log_in(Typed("ann", "x", "1"), "one")
    assert await centre.store.list("session") == []
