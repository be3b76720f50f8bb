"""
Callers in agents' hands: passed on to another one, taken from where nobody was asked, spoken for.

The laws of this file:

1. Only who holds a caller passes him on: with a new token, for one queue. His own hand-over ends when that one is redeemed,
   and a token that he had made before is good no longer.
2. Passing on proves nothing, and asks nothing: the caller is where keys reach nobody. What the rule for that queue wants of
   him, the next agent is told (`Leg.wants`), and what it wants anew counts from the passing on: it is a turn of the call.
3. A call that the IVR led to people whom nobody protects (`Call.unguarded`) may be taken by an agent of that queue, once,
   by its CallSid. That proves nothing either: such a caller is to prove two factors, where the flow has such a level.
4. Naming an account for a caller is a claim as by keypad: it proves nothing, it is answered the same whether there is such
   an account or not, and it is counted against the agent, who cannot look for accounts so.
"""

from dataclasses import dataclass
from enum import StrEnum

from ivrguard.core import lockout
from ivrguard.core.assurance import least
from ivrguard.core.call import Act, Books, Call, Found, claim, holder, lane_name
from ivrguard.core.counting import entry_of
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Desk, Leg, mint, served
from ivrguard.core.rules import Demand, Target, Visit, decide
from ivrguard.core.values import replace

PASSED_ON_MAX = 16
"""How often one call is passed on: each time its links grow a turn older, and old ones are stale (core/admission.py)."""

CLAIM_RULE = lockout.Rule(failures=60, within_s=3600, lock_s=(900,))
"""Accounts that one agent names in an hour: five times as many as he has calls."""


class Why(StrEnum):
    """Why an agent's request came to nothing."""

    ENDED = "ended"
    TOO_OFTEN = "too_often"
    SUPERSEDED = "superseded"
    UNKNOWN_INTENT = "unknown_intent"
    AT_THE_KEYPAD = "at_the_keypad"
    MISTYPED = "mistyped"
    TOO_MANY_CLAIMS = "too_many_claims"


@dataclass(frozen=True, slots=True)
class Passing:
    """
    To whom a caller is passed on. `leg`: the id of the new hand-over, the same for the same request.

    `intent`: what for, "" for what the queue's rule or the last hand-over says. `carrier`: how its token travels.
    `weekday`, `minute`: now, in the flow's time zone (core/rules.py).
    """

    leg: str
    to: Target
    intent: str
    carrier: str
    weekday: int
    minute: int


def pass_on(
    flow: Flow, call: Call, books: Books, held: Leg, made: Leg | None, passing: Passing, now_ms: int
) -> Act[Leg | Why]:
    """A new hand-over by the agent of `held`. `made`: the one that this very request made before, if it did."""
    if call.ended_ms is not None:
        return Act(call, books, Why.ENDED)
    if made is not None:
        return Act(call, books, made if call.legs[-1] == made.id else Why.SUPERSEDED)
    if len(call.legs) > PASSED_ON_MAX:
        return Act(call, books, Why.TOO_OFTEN)
    visit = Visit("", "", call.dialled, passing.weekday, passing.minute, transfer=passing.to)
    wants, _ = decide(flow.rules, flow.default, visit)
    intent = passing.intent or wants.intent or held.intent
    if passing.intent and passing.intent not in _intents(flow):
        return Act(call, books, Why.UNKNOWN_INTENT)
    leg = mint(
        flow,
        holder(call),
        leg_id=passing.leg,
        queues=(str(passing.to),),
        carriers=(passing.carrier,),
        whispers=(),
        intent=intent,
        now_ms=now_ms,
    )
    leg = replace(leg, actors=(held.agent, *held.actors), wants=wants, since_turn=call.turn + 1)
    facts = {"intent": intent, "queues": str(passing.to), "agent": held.agent}
    entry = entry_of(call, "authn_token_created", now_ms, "passed_on", **facts)
    call = replace(call, legs=(*call.legs, leg.id), turn=call.turn + 1)
    return Act(call, books, leg, (entry,))


def _intents(flow: Flow) -> frozenset[str]:
    return frozenset(demand.intent for demand in (*(rule.demand for rule in flow.rules), flow.default))


def first_contact(flow: Flow) -> Demand:
    """What is wanted of a caller of whom nothing was: the flow's strongest level; of two alike, the first one."""
    return Demand(max(flow.levels, key=lambda name: least(flow.levels[name]), default=None))


def take(flow: Flow, call: Call, desk: Desk, leg_id: str, now_ms: int) -> Act[Leg] | None:
    """The call in the hands of an agent whose queue it was led to, unasked; None: it was not, or it is over, or taken."""
    queue = served(desk, call.unguarded)
    if queue is None or call.ended_ms is not None:
        return None
    leg = mint(
        flow,
        holder(call),
        leg_id=leg_id,
        queues=(queue,),
        carriers=(),
        whispers=(),
        intent="",
        now_ms=now_ms,
    )
    leg = replace(leg, wants=first_contact(flow), redeemed_ms=now_ms, agent=desk.name)
    proved = "proved" if call.proofs else "unverified"
    entry = entry_of(call, "call_taken", now_ms, proved, desk=desk.name, queues=queue)
    return Act(replace(call, legs=(*call.legs, leg.id), unguarded=()), Books(), leg, (entry,))


def name_account(
    flow: Flow,
    call: Call,
    books: Books,
    agent: str,
    claims: lockout.Ledger,
    found: Found,
    attempt: str,
    now_ms: int,
) -> tuple[Act[Why | None], lockout.Ledger]:
    """The call, speaking for the account that its caller named to the agent; and the agent's ledger, one more in it."""
    if call.ended_ms is not None:
        return Act(call, books, Why.ENDED), claims
    if call.question is not None:
        return Act(call, books, Why.AT_THE_KEYPAD), claims
    if found.account == call.account:
        return Act(call, books, None), claims
    counted, allowed = lockout.reserve(CLAIM_RULE, claims, attempt, now_ms)
    if not allowed:
        entry = entry_of(call, "excess_rate_limit_exceeded", now_ms, "claims", agent=agent)
        return Act(call, books, Why.TOO_MANY_CLAIMS, (entry,)), claims
    call = claim(flow, call, found)
    facts = {"lane": lane_name(call), "notes": ",".join(call.notes), "agent": agent}
    entry = entry_of(call, "account_claimed", now_ms, "known" if found.known else "unknown", **facts)
    return Act(call, books, None, (entry,)), counted
