"""
No watch without a thief, at the agents' desks: each piece of code that keeps a promise there is taken out once.

As test_planted_faults.py, in a town where most who call want an agent, so that few calls will do.
"""

import re
from dataclasses import replace

import pytest

from ivrguard.core import handoff, lockout, readback
from ivrguard.core.audit import Entry
from ivrguard.guard import acts, held, proving
from ivrguard.guard import readback as readbacks
from ivrguard.ports import Change, Right
from tests.sim import run
from tests.sim.actors import crowd, honest, rogue, visitor
from tests.sim.oracle import Broken

CALLS = 100
SEED = 3
ACTORS = {visitor: 8, honest: 1, rogue: 1, crowd: 0.2}


def with_read_codes_uncounted(patch):
    """What an agent types is judged, and counted nowhere."""
    patch.setattr(readback, "reserve", lambda flow, call, books_, *_: (books_, True))


def with_a_ledger_for_desks(patch):
    """What agents type is counted apart from what callers key."""
    apart = {}

    def reserve(flow, call, books_, factor, attempt, now):
        ledger, allowed = lockout.reserve(
            flow.locks.account, apart.get(call.account, lockout.Ledger()), attempt, now
        )
        apart[call.account] = ledger
        return books_, allowed

    patch.setattr(readback, "reserve", reserve)


def with_read_codes_of_any_call(patch):
    """A code that some agent asked for is good for every one."""
    judge, send, codes = proving.judge, proving.send_code, set()

    async def sending(world, flow, call, sent):
        if sent.asked_by:
            codes.add(world.codes.code(proving.challenge_of(flow, call, sent)))
        await send(world, flow, call, sent)

    async def lenient(world, flow, call, move, digits):
        verdict = await judge(world, flow, call, move, digits)
        return Right() if move.sent is not None and move.sent.asked_by and digits in codes else verdict

    patch.setattr(proving, "send_code", sending)
    patch.setattr(proving, "judge", lenient)


def with_read_codes_that_are_never_spent(patch):
    """A code that was right is good for another answer."""
    right = readback._right

    def lasting(flow, call, books_, back, *more):
        done = right(flow, call, books_, back, *more)
        return replace(done, call=replace(done.call, read_back=replace(done.call.read_back, sent=back.sent)))

    patch.setattr(readback, "_right", lasting)


def with_answers_judged_anew(patch):
    """The same request is another answer each time."""
    answer = readback.answer

    def forgetful(flow, call, books_, typed, now):
        back = call.read_back
        if back is not None:
            call = replace(call, read_back=replace(back, told=()))
        return answer(flow, call, books_, typed, now)

    patch.setattr(readback, "answer", forgetful)


def with_the_old_leg_alive(patch):
    """Who passed a caller on holds him still."""
    patch.setattr(held, "in_hands", lambda legs: next(nth for nth, leg in enumerate(legs) if leg.agent))
    patch.setattr(acts, "passed_on", lambda *_: False)


def with_old_tokens_alive(patch):
    """A token is good whatever was made after it."""
    spoiled = handoff._spoiled

    def lenient(leg, holder, *more):
        if leg is not None and holder is not None:
            holder = replace(holder, legs=(leg.id,))
        return spoiled(leg, holder, *more)

    patch.setattr(handoff, "_spoiled", lenient)


def without_holders(patch):
    """Any agent may do to a call what its holder may."""
    patch.setattr(held, "holds", lambda _, leg: leg is not None)
    patch.setattr(acts, "holds", lambda *_: True)


def with_accounts_for_any_agent(patch):
    """An agent sees whose account it is before anything is proved for it."""
    standing = held.standing_of
    unveiled = lambda flow, call, *more: replace(standing(flow, call, *more), account=call.account)  # noqa: E731 -- one line beside its use
    patch.setattr(held, "standing_of", unveiled)


def with_read_digits_on_record(patch):
    """The record says what was typed."""
    judge = proving.judge

    async def talkative(world, flow, call, move, digits):
        entry = Entry(world.clock(), "judged", call.sid, detail=(("typed", digits),))
        await world.store.amend([], lambda _: Change(None, (), (entry,)))
        return await judge(world, flow, call, move, digits)

    patch.setattr(readbacks.proving, "judge", talkative)


TABLE = (
    (with_read_codes_uncounted, {2, 8}),
    (with_a_ledger_for_desks, {2, 8}),
    (with_answers_judged_anew, {7}),
    (with_read_codes_of_any_call, {1}),
    (with_read_codes_that_are_never_spent, {1}),
    (with_the_old_leg_alive, {4}),
    (with_old_tokens_alive, {4}),
    (without_holders, {4}),
    (with_accounts_for_any_agent, {5}),
    (with_read_digits_on_record, {5}),
)


@pytest.mark.parametrize(("weaken", "promises"), TABLE, ids=lambda one: getattr(one, "__name__", ""))
def test_a_planted_fault_turns_it_red(monkeypatch, weaken, promises):
    """Within some dozens of calls."""
    weaken(monkeypatch)
    with pytest.raises(Broken) as red:
        run.play(SEED, CALLS, actors=ACTORS, people=60)
    told = str(red.value)
    assert int(re.match(r"promise (\d+): ", told)[1]) in promises, told
