"""
A caller led aside from his agent to the guard's own question, and back, whatever came of it.

The laws of this file:

1. Aside is a question like any other: asked, counted, judged and locked by core/step.py. Here is only how it begins and how it ends.
2. One factor at a time, proved anew: nothing that was proved before the button was pressed answers it.
3. It ends in the room, with the same agent; where he is gone, in the IVR. Nobody is hung up on, and nothing is granted but the
   proof itself.
4. The agent learns whether the factor was proved, and nothing of how it was not.
"""

from enum import StrEnum

from ivrguard.core import conference
from ivrguard.core.audit import Entry
from ivrguard.core.call import Books, Call, ComeBack, Pending, Rejoin, Rest, Step, What
from ivrguard.core.conference import Bridge, Ended, Stage
from ivrguard.core.counting import entry_of
from ivrguard.core.demands import able, missing
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Leg
from ivrguard.core.rules import Demand
from ivrguard.core.standing import wanted
from ivrguard.core.values import replace

_NO = frozenset({"tries", "silence", "hung_up"})
"""Reasons for which a caller did not prove it; for all others nobody could ask him, or nobody could judge."""


class Denied(StrEnum):
    """Why nobody is led aside now."""

    NOT_BRIDGED = "not_bridged"
    NOT_JOINED = "not_joined"
    ASIDE = "aside"
    ENDED = "ended"
    NO_SUCH_FACTOR = "no_such_factor"
    UNAVAILABLE = "unavailable"
    """TaskRouter could not be asked where the caller is."""


def begin(
    flow: Flow, call: Call, leg: Leg, factor: str, nonce: str, now_ms: int, found: Bridge | None = None
) -> Call | Denied:
    """
    The call, with a question for `factor` waiting at `nonce` ("": the one that this hand-over needs next), or why not. `found`: a room of
    TaskRouter's, as it was looked up for this press.

    A button pressed while the caller is aside already changes nothing.
    """
    bridge = call.bridge
    if found is not None and (bridge is None or not bridge.apart):
        bridge = found
    if bridge is None:
        return Denied.NOT_BRIDGED
    if call.ended_ms is not None or not bridge.live:
        return Denied.ENDED
    if bridge.apart:
        return Denied.ASIDE
    if bridge.stage is not Stage.TALKING or bridge.result:
        return Denied.NOT_JOINED
    asked = factor or _next(flow, call, leg, now_ms)
    if asked not in able(flow, call):
        return Denied.NO_SUCH_FACTOR
    demand = Demand(None, anew=asked, intent=leg.intent)
    pending = Pending(What.ASIDE, (demand,), since_turn=call.turn + 1, nonce=nonce, queues=leg.queues)
    bridge = conference.led(bridge, nonce, now_ms)
    return replace(call, bridge=bridge, pending=pending, question=None, misses=0, declined=())


def _next(flow: Flow, call: Call, leg: Leg, now_ms: int) -> str:
    """What the hand-over needs next, or the first factor that the caller can answer."""
    needs = missing(flow, call, wanted(flow, leg), leg.since_turn, now_ms)
    every = able(flow, call)
    return next(iter(needs or ()), "") or next((name for name in flow.factors if name in every), "")


def entered(call: Call, bridge: Bridge | None, now_ms: int) -> tuple[Call, tuple[Entry, ...]]:
    """The caller's leg goes into the room of this bridge, or (None) somewhere else, and what of it goes on record."""
    if bridge is None:
        return left(call, now_ms)
    if (
        call.bridge is not None and call.bridge.id == bridge.id
    ):  # he comes back to it, and it may have changed since
        return call, ()
    return replace(call, bridge=bridge), (entry_of(call, "bridge_opened", now_ms, "granted"),)


def left(call: Call, now_ms: int) -> tuple[Call, tuple[Entry, ...]]:
    """The caller's leg has left the room of its bridge for good, if it was in one: the first time goes on record."""
    if call.bridge is None or not call.bridge.live:
        return call, ()
    bridge = conference.left(call.bridge, now_ms)
    status = dict(conference.outcome(bridge, now_ms))["DialCallStatus"]
    entry = entry_of(call, "bridge_over", now_ms, status)
    if not call.bridge.apart:
        return replace(call, bridge=bridge), (entry,)
    gone = entry_of(call, "authn_aside_over", now_ms, bridge.last, factor=asked_of(call))
    return replace(call, bridge=bridge), (gone, entry)


def over(call: Call, books: Books, reason: str, now_ms: int, entries: tuple[Entry, ...] = ()) -> Step:
    """The question is over, for this reason ("right": proved): back into the room, or on in the IVR if the agent is gone."""
    assert call.bridge is not None
    how = Ended.VERIFIED if reason == "right" else Ended.NOT_VERIFIED if reason in _NO else Ended.UNAVAILABLE
    bridge = conference.back(call.bridge, how, now_ms)
    entry = entry_of(call, "authn_aside_over", now_ms, reason, factor=asked_of(call))
    call = replace(call, pending=None, question=None, misses=0, bridge=bridge)
    turn = rejoined(call, books, now_ms)
    return replace(turn, entries=(*entries, entry, *turn.entries))


def rejoined(call: Call, books: Books, now_ms: int) -> Step:
    """The caller's leg is somewhere else than in its room: there it goes."""
    bridge = call.bridge
    if bridge is None or not bridge.live:
        return Step(call, books, Rest())
    if bridge.result:
        return came_back(call, books, now_ms)
    return Step(call, books, Rejoin(bridge))


def came_back(call: Call, books: Books, now_ms: int) -> Step:
    """The caller has left the room: he goes on where the IVR's `<Dial>` would have led him."""
    call, entries = left(call, now_ms)
    assert call.bridge is not None
    return Step(replace(call, pending=None, question=None), books, ComeBack(call.bridge), entries)


def unreached(call: Call, why: str, now_ms: int) -> tuple[Call, Entry]:
    """The caller could not be led aside: he is with his agent still, and proved nothing."""
    assert call.bridge is not None
    bridge = conference.back(call.bridge, Ended.NOT_REACHED, now_ms)
    entry = entry_of(call, "authn_aside_over", now_ms, why, factor=asked_of(call))
    return replace(call, pending=None, question=None, bridge=bridge), entry


def asked_of(call: Call) -> str:
    """The factor that is asked for aside; "" when nothing is."""
    demands = call.pending.demands if call.pending is not None else ()
    return next((demand.anew for demand in demands if demand.anew is not None), "")
