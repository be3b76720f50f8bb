"""
Sessions of agents, as the store has them.

The laws of this file:

1. A session's secret is never kept, only its SHA-256: 256 bits of chance need no salt and no slow hash (OWASP ASVS 5.0, 7.2.3).
2. A session is good while it stands in its agent's list (`Key("sessions", name)`); whoever changes what an agent may do empties the
   list in the same act, so what was allowed ends at once on every node (ASVS 8.3.2).
3. What is done without anybody at the keyboard (a stream, a page that looks for news) does not make a session last longer.
"""

import hashlib
from dataclasses import replace

from ivrguard.core import sessions
from ivrguard.core.agents import Agent
from ivrguard.core.audit import Entry
from ivrguard.core.sessions import Session
from ivrguard.guard.books import Values
from ivrguard.guard.world import World
from ivrguard.ports import Change, Key, Put

SECRET_BYTES = 32
LOGIN_KEPT_S = 3600
"""How long it is remembered that a log-in at the identity provider was used: it has to be finished in a sixth of that."""


def digest_of(secret: str) -> str:
    """What a session is kept under."""
    return hashlib.sha256(secret.encode()).hexdigest()


def session_key(digest: str) -> Key[Session]:
    """One session."""
    return Key("session", digest)


def list_key(name: str) -> Key[tuple[str, ...]]:
    """The sessions of one agent, by digest, the newest last."""
    return Key("sessions", name)


def puts_of(agent: Agent, digest: str, ended: str, values: Values, now_ms: int) -> tuple[Put, ...]:
    """What the beginning of a session writes: to be read before, `session_key(digest)` and `list_key(agent.name)`."""
    listed = values[list_key(agent.name)]
    after = sessions.begun(listed if isinstance(listed, tuple) else (), digest, ended)
    until_ms = now_ms + sessions.ABSOLUTE_S * 1000
    begins = sessions.session_of(agent, now_ms)
    return (
        Put(session_key(digest), begins, until_ms),
        Put(list_key(agent.name), after, until_ms),
    )


async def begin(
    world: World, agent: Agent, secret: str, *, way: str, ended: str = "", once: str = ""
) -> bool:
    """
    Begin a session with this secret in the place of the one whose secret is `ended`, on record with the `way` he came.

    `once`: what may be used for one session only, a log-in at the identity provider; False, and nothing begun, if it was used.
    Raises `core.errors.StoreFault`, or `RecordFault` while it cannot be recorded everywhere it must be.
    """
    world.refuse_unrecorded()
    digest, now = digest_of(secret), world.clock()
    used: Key[int] = Key("login", once or digest)
    keys: list[Key[object]] = [session_key(digest), list_key(agent.name), used]

    def change(values: Values) -> Change[bool]:
        if values[used] is not None:
            return Change(result=False)
        puts = puts_of(agent, digest, digest_of(ended), values, now)
        if once:
            puts = (*puts, Put(used, now, now + LOGIN_KEPT_S * 1000))
        return Change(True, puts, (logged_in(agent, way, now),))

    return await world.store.amend(keys, change)


def logged_in(agent: Agent, way: str, now_ms: int) -> Entry:
    """The record of a log-in."""
    roles = ",".join(sorted(agent.roles))
    return Entry(now_ms, "agent_logged_in", reason=way, detail=(("agent", agent.name), ("roles", roles)))


async def refused(world: World, reason: str, subject: str) -> None:
    """Nobody is let in by the identity provider: the record has why, and whom it named as a keyed hash. Raises `StoreFault`."""
    who = world.keys.pseudonym("agent", subject) if subject else ""
    entry = Entry(
        world.clock(), "agent_login_failed", account=who, reason=reason, detail=(("way", "provider"),)
    )
    await world.store.amend([], lambda _: Change(None, (), (entry,)))


async def agent_of(world: World, secret: str, *, idle_s: int, busy: bool = True) -> Agent | None:
    """
    Whose session this is; None if it is none, or none any more. `busy`: whether somebody does something, see law 3.

    Raises `core.errors.StoreFault` when the store cannot say.
    """
    key, now = session_key(digest_of(secret)), world.clock()
    session = await world.store.read(key)
    if session is None or not sessions.live(session, now, idle_s):
        return None
    listed = await world.store.read(list_key(session.name))
    if key.id not in (listed or ()):
        return None
    if busy and now - session.seen_ms >= sessions.SEEN_EVERY_S * 1000:
        await _seen(world, key, now)
    return session.agent


async def _seen(world: World, key: Key[Session], now: int) -> None:
    def change(values: Values) -> Change[None]:
        session = values[key]
        if not isinstance(session, Session):  # logged out meanwhile
            return Change(None)
        later = replace(session, seen_ms=max(now, session.seen_ms))
        return Change(None, (Put(key, later, session.begun_ms + sessions.ABSOLUTE_S * 1000),))

    await world.store.amend([key], change)


async def end(world: World, secret: str) -> Agent | None:
    """Log out: end this session. Whose it was; None, and nothing on record, if it was none."""
    key = session_key(digest_of(secret))
    session = await world.store.read(key)
    if session is None:
        return None
    name, now = session.name, world.clock()

    def change(values: Values) -> Change[Agent | None]:
        kept, listed = values[key], values[list_key(name)]
        if not isinstance(kept, Session) or not isinstance(listed, tuple) or key.id not in listed:
            return Change(None)
        rest = tuple(one for one in listed if one != key.id)
        puts = (Put(key, None), Put(list_key(name), rest or None, now + sessions.ABSOLUTE_S * 1000))
        entry = Entry(now, "agent_logged_out", reason="asked_for", detail=(("agent", name),))
        return Change(kept.agent, puts, (entry,))

    return await world.store.amend([key, list_key(name)], change)
