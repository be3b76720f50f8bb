"""
A caller passed on by the agent who holds him, or spoken for: see core/passing.py, which decides.

The law of this file: leg, names, call, ledgers and record change in one act.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ivrguard.core import lockout, passing
from ivrguard.core.agents import Agent
from ivrguard.core.call import Act, Books, Call
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Leg
from ivrguard.core.passing import CLAIM_RULE, Passing, Why
from ivrguard.core.rules import Target
from ivrguard.guard import books, proving
from ivrguard.guard.acts import act
from ivrguard.guard.desk import whispered
from ivrguard.guard.held import HeldCall, asked_for
from ivrguard.guard.world import World
from ivrguard.ports import Key, Put
from ivrguard.telephony import document


@dataclass(frozen=True, slots=True)
class PassedOn:
    """
    What the next agent presents, and until when: a token, or the code that he is told, or the CallSid where nothing can be
    carried. `carrier`: how it travels (telephony/document.py).
    """

    token: str = field(repr=False)
    carrier: str
    queue: str
    expires_ms: int


async def pass_on(
    world: World, agent: Agent, call_sid: str, *, to: Target, intent: str, request: str
) -> PassedOn | Why | None:
    """
    A new token for that queue; None: the agent does not hold the call. The same `request` again is the same token.

    Raises `core.errors.Fault`.
    """
    leg_id = world.keys.derive("passed_on", f"{call_sid}/{agent.name}/{request}").hex()[:32]
    carrier = document.CARRIERS.get(to.kind, "call")

    def keys(found: HeldCall) -> Sequence[Key[object]]:
        return list(books.leg_keys(world.keys.with_naming(found.call.naming), found.call, leg_id))

    def decide(
        flow: Flow, found: HeldCall, call: Call, before: Books, values: books.Values, now: int
    ) -> tuple[Act[Leg | Why], Sequence[Put]]:
        local = datetime.fromtimestamp(now / 1000, UTC).astimezone(found.mounted.zone)
        made = values[books.leg_key(leg_id)]
        asked = Passing(leg_id, to, intent, carrier, local.weekday(), local.hour * 60 + local.minute)
        done = passing.pass_on(
            flow, call, before, found.legs[-1], made if isinstance(made, Leg) else None, asked, now
        )
        if done.call == call or not isinstance(done.outcome, Leg):
            return done, ()
        puts = books.leg_puts(world.keys.with_naming(call.naming), done.outcome, values, now)
        if puts is None:
            raise Fault("every code drawn for this hand-over is taken; the agent may try again")
        return done, puts

    acted = await act(world, agent, call_sid, decide, keys)
    if acted is None:
        return None
    outcome = acted[1].outcome
    return outcome if isinstance(outcome, Why) else await _presented(world, acted[1].call, outcome)


async def _presented(world: World, call: Call, leg: Leg) -> PassedOn:
    (carrier,) = leg.carriers
    token = leg.call if carrier == "call" else books.token_of(world.keys.with_naming(call.naming), leg.id)
    if carrier == "whisper":
        token = await whispered(world, call, leg.id) or ""
    return PassedOn(token, carrier, leg.queues[0], leg.expires_ms)


async def name_account(world: World, agent: Agent, call_sid: str, digits: str) -> Why | HeldCall | None:
    """
    The account that the caller named to the agent; None: he does not hold the call.

    Whether there is such an account or not: the same look-ups, the same answer. Raises `core.errors.Fault`.
    """
    found = await asked_for(world, agent, call_sid)
    if found is None:
        return None
    flow, attempt = world.as_it_is_now(found.mounted), world.nonce()
    if not flow.identify.digits_min <= len(digits) <= flow.identify.digits_max:
        return Why.MISTYPED
    named = await proving.find(world, flow, found.call, digits)
    key = books.ledger_key(f"claims/{agent.name}")

    def decide(
        flow: Flow, _: HeldCall, call: Call, before: Books, values: books.Values, now: int
    ) -> tuple[Act[Why | None], Sequence[Put]]:
        ledger = values[key]
        ledger = ledger if isinstance(ledger, lockout.Ledger) else lockout.Ledger()
        done, counted = passing.name_account(flow, call, before, agent.name, ledger, named, attempt, now)
        if counted == ledger:
            return done, ()
        return done, (Put(key, counted, now + CLAIM_RULE.horizon_s() * 1000),)

    acted = await act(world, agent, call_sid, decide, lambda _: (key,))
    if acted is None:
        return None
    return acted[1].outcome or acted[0]
