"""
The calls that an agent holds, and no other one.

The laws of this file:

1. Whoever does not hold a call gets the same None for it as for one that was never made. He is named in the record for asking, and
   the same for both.
2. An agent holds a call from the moment that he redeems its last token: until the IVR hands it over anew, until whoever he passes it
   on to has redeemed that token (`core.handoff.in_hands`), or until `AFTER_CALL_S` after its end. There is no other way to find a
   call: what lists them is what he took himself (`books.holding_key`).
3. What is read here is read anew each time.
4. A look at a call is on record before it is shown: one entry for an agent and a call in `books.LOOKED_KEPT_S`, and one for an agent
   who asks for what is not his. Where that cannot be recorded, nothing is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ivrguard.core.agents import Agent, holds, over
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.handoff import Leg, in_hands
from ivrguard.core.standing import Standing, standing_of
from ivrguard.guard import books
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Change, Key, Put


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call in somebody's hands: its flow, and its hand-overs in order, of which the last one is his."""

    call: Call
    mounted: Mounted
    legs: tuple[Leg, ...]


async def held(world: World, agent: Agent, call_sid: str) -> HeldCall | None:
    """The call, if this agent holds it. Raises `core.errors.StoreFault` when the store cannot say."""
    if not books.CALL_SID.fullmatch(call_sid):
        return None
    call = await world.store.read(books.call_key(call_sid))
    if call is None or not call.legs or over(call.ended_ms, world.clock()):
        return None
    read = [await world.store.read(books.leg_key(name)) for name in call.legs]
    legs = [leg for leg in read if leg is not None]
    legs = legs[: in_hands(legs) + 1]
    mounted = await world.flow_of(call) if read[-1] is not None and holds(agent, legs[-1]) else None
    return HeldCall(call, mounted, tuple(legs)) if mounted is not None else None


async def holding(world: World, agent: Agent) -> tuple[HeldCall, ...]:
    """The calls that this agent holds, in the order that he took them. Raises as `held`."""
    key = books.holding_key(agent.name)
    taken = await world.store.read(key) or ()
    found = {one: await held(world, agent, one[0]) for one in taken}
    gone = {one for one, call in found.items() if call is None}
    if gone:
        await _forget(world, key, gone)
    return tuple(call for call in found.values() if call is not None)


async def _forget(world: World, key: Key[tuple[tuple[str, int], ...]], gone: set[tuple[str, int]]) -> None:
    """What he took and holds no longer is looked for no longer; what he took anew meanwhile is."""
    expires_ms = world.clock() + books.CALL_KEPT_S * 1000

    def change(values: books.Values) -> Change[None]:
        taken = values[key]
        left = tuple(one for one in taken if one not in gone) if isinstance(taken, tuple) else ()
        return Change(None, (Put(key, left or None, expires_ms),))

    await world.store.amend([key], change)


async def seen(world: World, found: HeldCall) -> Standing:
    """How it stands now. Raises as `held`."""
    flow, now = found.mounted.flow, world.clock()
    values: Mapping[Key[object], object | None] = {
        key: await world.store.read(key) for key in books.account_keys(flow, found.call)
    }
    return standing_of(flow, found.call, books.books_of(flow, found.call, values), found.legs, now)


async def look(world: World, agent: Agent, found: HeldCall) -> int:
    """Have it on record that he looks at this call; when that was recorded (ms). Raises `core.errors.Fault` if it cannot be."""
    call, by = found.call, (("agent", agent.name),)
    entry = Entry(world.clock(), "call_viewed", call.sid, call.ref, "held", by)
    return await _recorded(world, books.looked_key(agent.name, call.sid), entry)


async def asked_for(world: World, agent: Agent, call_sid: str) -> HeldCall | None:
    """The call, if this agent holds it; if not, that he asked for it is on record. Raises as `look`."""
    found = await held(world, agent, call_sid)
    if found is None:
        named, by = call_sid if books.CALL_SID.fullmatch(call_sid) else "", (("agent", agent.name),)
        entry = Entry(world.clock(), "call_view_refused", named, "", "not_held", by)
        await _recorded(world, books.looked_key(agent.name, ""), entry)
    return found


async def _recorded(world: World, key: Key[int], entry: Entry) -> int:
    """Record it, unless there is one under this key of the last minute; when the one was made that counts."""
    world.refuse_unrecorded()

    def counting(at_ms: object) -> int | None:
        lately = isinstance(at_ms, int) and 0 <= entry.at_ms - at_ms < books.LOOKED_KEPT_S * 1000
        return at_ms if isinstance(at_ms, int) and lately else None

    def change(values: books.Values) -> Change[int]:
        last = counting(values[key])
        if last is not None:
            return Change(last)
        put = Put(key, entry.at_ms, entry.at_ms + books.LOOKED_KEPT_S * 1000)
        return Change(entry.at_ms, (put,), (entry,))

    last = counting(await world.store.read(key))
    return last if last is not None else await world.store.amend([key], change)
