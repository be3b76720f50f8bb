"""
What a call still has to prove for what it asks for.

The laws of this file:

1. Whether a demand holds is worked out from the proofs at the moment of asking, and never kept.
2. Before anything is proved every account is asked alike, whatever it has enrolled (promise 6).
3. What the caller wants to be spared is asked for only when nothing else will do.
"""

from ivrguard.core.assurance import Freshness, plan, proved, said_for
from ivrguard.core.call import Call, What
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand, Visit, decide


def asked_of(flow: Flow, visit: Visit) -> tuple[What, Demand]:
    """What a request is, and what it needs: one to `pin_change.path` is answered by the guard itself."""
    change = flow.pin_change
    if change is not None and visit.path == change.path:
        return What.PIN_CHANGE, change.demand
    return What.REQUEST, decide(flow.rules, flow.default, visit)[0]


def able(flow: Flow, call: Call) -> frozenset[str]:
    """
    The factors that may be asked for in this call.

    Before anything is proved every account is asked alike, whatever it has enrolled (promise 6).
    """
    return frozenset(call.enrolled if call.proofs else flow.factors) - frozenset(call.failed)


def missing(flow: Flow, call: Call, demand: Demand, since_turn: int, now_ms: int) -> tuple[str, ...] | None:
    """
    The factors still to be asked for, () when the demand holds now, None when it cannot be reached.

    What the caller wants to be spared is asked for only when nothing else will do.
    """
    every = able(flow, call)
    spared = every - frozenset(call.declined)
    found = _missing(flow, call, demand, since_turn, spared, now_ms)
    return _missing(flow, call, demand, since_turn, every, now_ms) if found is None else found


def _missing(
    flow: Flow, call: Call, demand: Demand, since_turn: int, able: frozenset[str], now_ms: int
) -> tuple[str, ...] | None:
    if demand.anew is not None:
        return plan(demand.anew, proved(call.proofs, Freshness(None, since_turn, 0), now_ms), able)
    if demand.require is None:
        return ()
    proofs = said_for(call.proofs, demand.intent) if demand.own_code else call.proofs
    have = proved(proofs, Freshness(demand.within_s), now_ms)
    steps = plan(flow.levels[demand.require], have, able)
    if steps is None or demand.reverify is None:
        return steps
    fresh = proved(proofs, Freshness(None, since_turn, demand.fresh_s), now_ms)
    more = plan(flow.levels[demand.reverify], fresh | frozenset(steps), able)
    return None if more is None else (*steps, *more)


def may_decline(flow: Flow, call: Call, factor: str, now_ms: int) -> bool:
    """Whether what is pending can be had without this factor."""
    pending, left = call.pending, able(flow, call) - {factor, *call.declined}
    return pending is not None and all(
        _missing(flow, call, demand, pending.since_turn, left, now_ms) is not None
        for demand in pending.demands
    )
