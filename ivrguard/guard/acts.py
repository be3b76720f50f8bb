"""
What an agent does to the call that he holds: one amendment, and only while he holds it.

The laws of this file:

1. What is done is decided in core, on the call as it is at that moment; whoever does not hold it any more does nothing.
2. The caller's leg is not waited for, and need not move: he may hear music, or be asked something. A webhook that is under
   way at the same moment finds what was done here in the call, or what it does is found here.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ivrguard.core.agents import Agent, holds
from ivrguard.core.call import Act, Books, Call
from ivrguard.core.errors import StoreFault
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Leg
from ivrguard.guard import books
from ivrguard.guard.held import HeldCall, asked_for
from ivrguard.guard.world import World
from ivrguard.ports import Change, Key, Put

CONFLICTS_MAX = 5

T = TypeVar("T")

Decide = Callable[[Flow, HeldCall, Call, Books, books.Values, int], tuple[Act[T], Sequence[Put]]]
"""
What is decided: by the flow as it is now, what was found, the call, the books, what else was read, and the time; what came
of it, and what is kept besides call and books.
"""


async def act(
    world: World,
    agent: Agent,
    call_sid: str,
    decide: Decide[T],
    keys: Callable[[HeldCall], Sequence[Key[object]]] = lambda _: (),
) -> tuple[HeldCall, Act[T]] | None:
    """
    Do it; None for who does not hold the call, which is on record. `keys`: what else is read.

    Raises `core.errors.StoreFault`, also where the call keeps changing, and `RecordFault` while nothing may be decided.
    """
    world.refuse_unrecorded()
    for _ in range(CONFLICTS_MAX):
        found = await asked_for(world, agent, call_sid)
        if found is None:
            return None
        done = await _once(world, agent, found, decide, keys(found))
        if done is not None:
            return found, done
    raise StoreFault("a call kept changing under its agent's hands")


async def _once(
    world: World, agent: Agent, found: HeldCall, decide: Decide[T], more: Sequence[Key[object]]
) -> Act[T] | None:
    """None: the call is not as it was found."""
    flow, now, basis = world.as_it_is_now(found.mounted), world.clock(), found.call
    call_key, leg_key = books.call_key(basis.sid), books.leg_key(found.legs[-1].id)
    later = later_legs(found)
    keys: list[Key[object]] = [call_key, leg_key, *later, *books.account_keys(flow, basis), *more]

    def change(values: books.Values) -> Change[Act[T] | None]:
        call, leg = values[call_key], values[leg_key]
        if not isinstance(call, Call) or not isinstance(leg, Leg) or not holds(agent, leg):
            return Change(None)
        if (call.legs, call.account, call.lane) != (basis.legs, basis.account, basis.lane):
            return Change(None)
        if passed_on(values, later):
            return Change(None)
        before = books.books_of(flow, call, values)
        done, others = decide(flow, found, call, before, values, now)
        puts = [*books.puts_of(flow, call, before, done.books, now), *others]
        if done.call != call:
            puts.append(Put(call_key, done.call, now + books.CALL_KEPT_S * 1000, call.began_ms))
        return Change(done, tuple(puts), done.entries)

    return await world.store.amend(list(dict.fromkeys(keys)), change)


def later_legs(found: HeldCall) -> list[Key[Leg]]:
    """The hand-overs that were minted behind the one which makes him the holder: he passes the caller on, and nobody has come yet."""
    legs = found.call.legs
    return [books.leg_key(name) for name in legs[legs.index(found.legs[-1].id) + 1 :]]


def passed_on(values: books.Values, later: Sequence[Key[Leg]]) -> bool:
    """Whether somebody has come meanwhile, so that the call is not his any more."""
    return any(isinstance(one, Leg) and one.redeemed_ms is not None for one in map(values.get, later))
