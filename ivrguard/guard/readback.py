"""
A code read back to the agent: sent, typed, judged.

The laws of this file:

1. It decides nothing and counts nothing: core/readback.py does, before anything is sent or judged.
2. The digits live here for one request.
3. Nobody learns from the time it takes whether a message went out, until something is proved.
"""

from ivrguard import log
from ivrguard.core import readback
from ivrguard.core.agents import Agent
from ivrguard.core.call import Call, Sent, Told
from ivrguard.core.errors import Fault, NotifyFault, OutOfSight
from ivrguard.core.readback import Asked, Judging, Sending, Typed, Verdict, Why
from ivrguard.guard import proving
from ivrguard.guard.acts import act
from ivrguard.guard.background import Background
from ivrguard.guard.held import HeldCall
from ivrguard.guard.world import World
from ivrguard.ports import Right

logger = log.get()


async def ask(
    world: World, background: Background, agent: Agent, call_sid: str, *, request: str, factor: str = ""
) -> Sending | Why | None:
    """
    Have a code sent that the caller is to read to the agent; None: he does not hold the call.

    `request`: the same one again is the same code. `factor`: "" for the flow's code. Raises `core.errors.Fault`.
    """
    nonce = world.nonce()
    acted = await act(
        world,
        agent,
        call_sid,
        lambda flow, found, call, books, _, now: (
            readback.ask(
                flow, call, books, Asked(agent.name, request, nonce, found.legs[-1].intent, factor), now
            ),
            (),
        ),
    )
    if acted is None:
        return None
    found, done = acted
    outcome = done.outcome
    if isinstance(outcome, Why) or outcome.sent is None or not outcome.for_real:
        return outcome
    flow = world.as_it_is_now(found.mounted)
    if not done.call.proofs:
        background.start(proving.send_unheard(world, flow, done.call, outcome.sent))
        return outcome
    try:
        await proving.send_code(world, flow, done.call, outcome.sent)
    except NotifyFault as fault:
        logger.error("code_not_sent", reason=fault.reason, why=fault.why, detail=str(fault))
        return await _undelivered(world, agent, call_sid, outcome.sent, fault.why)
    return outcome


async def _undelivered(world: World, agent: Agent, call_sid: str, sent: Sent, why: str) -> Why | None:
    acted = await act(
        world,
        agent,
        call_sid,
        lambda _flow, _found, call, books, _, now: (readback.undelivered(call, books, sent, why, now), ()),
    )
    return acted[1].outcome if acted is not None else None


async def answer(
    world: World, background: Background, agent: Agent, call_sid: str, *, request: str, digits: str
) -> Told | Why | None:
    """
    Whether what the agent typed is the code; None: he does not hold the call.

    Raises `core.errors.Fault`.
    """
    attempt = world.nonce()
    acted = await act(
        world,
        agent,
        call_sid,
        lambda flow, _found, call, books, _, now: (
            readback.answer(flow, call, books, Typed(agent.name, request, attempt, len(digits)), now),
            (),
        ),
    )
    if acted is None:
        return None
    found, done = acted
    judging = done.outcome
    if not isinstance(judging, Judging):
        return judging
    verdict = await _judged(world, agent, found, done.call, request, judging, digits)
    acted_again = await act(
        world,
        agent,
        call_sid,
        lambda flow, _found, call, books, _, now: (readback.judged(flow, call, books, verdict, now), ()),
    )
    if acted_again is None:
        return None
    _, last = acted_again
    if last.tell:
        flow = world.as_it_is_now(found.mounted)
        background.start(proving.tell_owner(world, flow, last.call, last.tell))
    return last.outcome


async def _judged(
    world: World, agent: Agent, found: HeldCall, call: Call, request: str, judging: Judging, digits: str
) -> Verdict:
    flow = world.as_it_is_now(found.mounted)
    try:
        verdict = await proving.judge(world, flow, call, judging.judge, digits)
    except Fault as fault:
        logger.error("judge_fault", reason=fault.reason, detail=str(fault), factor=judging.judge.factor)
        return Verdict(agent.name, request, judging, None, out_of_sight=isinstance(fault, OutOfSight))
    return Verdict(agent.name, request, judging, isinstance(verdict, Right))
