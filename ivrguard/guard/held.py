"""
The call that an agent holds, and no other one.

The law of this file: whoever does not hold a call gets the same None for it as for one that was never made. What is read
here is read anew each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ivrguard.core.agents import Agent, holds
from ivrguard.core.call import Call
from ivrguard.core.handoff import Leg, in_hands
from ivrguard.core.standing import Standing, standing_of
from ivrguard.guard import books
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Key


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
    if call is None or not call.legs:
        return None
    read = [await world.store.read(books.leg_key(name)) for name in call.legs]
    legs = [leg for leg in read if leg is not None]
    legs = legs[: in_hands(legs) + 1]
    mounted = await world.flow_of(call) if legs and holds(agent, legs[-1]) else None
    return HeldCall(call, mounted, tuple(legs)) if mounted is not None else None


async def seen(world: World, found: HeldCall) -> Standing:
    """How it stands now. Raises as `held`."""
    flow, now = found.mounted.flow, world.clock()
    values: Mapping[Key[object], object | None] = {
        key: await world.store.read(key) for key in books.account_keys(flow, found.call)
    }
    return standing_of(flow, found.call, books.books_of(flow, found.call, values), found.legs, now)
