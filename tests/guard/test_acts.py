"""What an agent does to a call: one act, on the call as it is at that moment, and only while he holds it."""

from dataclasses import replace
from typing import Any

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.call import Act
from ivrguard.core.errors import RecordFault, StoreFault
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import acts, books
from ivrguard.guard.acts import act
from ivrguard.ports import Change, Put

Centre = Any
Line = Any

ANN = Agent("ann", queues=("*",))


async def with_agent(centre: Centre) -> Line:
    centre.having(rules=(Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),))
    centre.ivr.pages["/menu"] = "<Enqueue>support</Enqueue>"
    line = await centre.verified()
    await line.press("0")
    await line.go_on()
    assert await centre.node().redeem(ANN.as_desk(), line.sid, None) is not None
    return line


async def keep(centre: Centre, key, value) -> None:
    await centre.store.store.amend([key], lambda _: Change(None, (Put(key, value),)))


def noting(note: str):
    """An act that leaves a note, and says what it found."""

    def decide(_flow, _found, call, before, _values, _now):
        return Act(replace(call, notes=(*call.notes, note)), before, call.turn), ()

    return decide


async def test_it_is_done_on_the_call_as_it_is(centre: Centre):
    """A caller who does something at the same moment loses nothing, and neither does the agent."""
    line = await with_agent(centre)
    world = centre.node().world

    found, done = await act(world, ANN, line.sid, noting("one"))
    await act(world, ANN, line.sid, noting("two"))
    call = await centre.stored(line)

    assert (found.call.sid, done.outcome) == (line.sid, call.turn)
    assert call.notes == ("one", "two")
    unchanged = lambda _f, _h, call, before, _v, _n: (Act(call, before, None), ())  # noqa: E731 -- one line beside its use
    await act(world, ANN, line.sid, unchanged)
    assert await centre.stored(line) == call


@pytest.mark.parametrize("what", ["account", "legs", "holder", "gone"])
async def test_a_call_that_changes_meanwhile_is_looked_at_anew(centre: Centre, monkeypatch, what: str):
    """It may speak for another account by now, or be in other hands: then for whoever holds it, or for nobody."""
    line = await with_agent(centre)
    world, held = centre.node().world, acts.asked_for
    call = await centre.stored(line)
    leg = await centre.store.store.read(books.leg_key(call.legs[-1]))
    passed_on = replace(leg, id="later", actors=("ann",), agent="bob")
    looked = []

    async def changing(*args):
        found = await held(*args)
        looked.append(found)
        if len(looked) == 1:
            match what:
                case "account":
                    await keep(centre, books.call_key(line.sid), replace(call, account="555000111"))
                case "legs":
                    await keep(centre, books.leg_key("later"), passed_on)
                    await keep(centre, books.call_key(line.sid), replace(call, legs=(*call.legs, "later")))
                case "holder":
                    await keep(centre, books.leg_key(leg.id), replace(leg, agent="bob"))
                case _:
                    await keep(centre, books.call_key(line.sid), None)
        return found

    monkeypatch.setattr(acts, "asked_for", changing)
    done = await act(world, ANN, line.sid, noting("one"))

    assert len(looked) == 2
    if what == "account":
        assert (await centre.stored(line)).notes == ("one",)
        assert done[0].call.account == "555000111"
    else:
        assert done is None


async def test_who_was_passed_on_to_somebody_who_took_him_is_not_acted_on(centre: Centre, monkeypatch):
    """Between the look and the act the next agent redeems: the one before does nothing any more."""
    line = await with_agent(centre)
    world, held = centre.node().world, acts.asked_for
    call = await centre.stored(line)
    leg = await centre.store.store.read(books.leg_key(call.legs[-1]))
    later = replace(leg, id="later", actors=("ann",), agent="", redeemed_ms=None)
    await keep(centre, books.leg_key("later"), later)
    await keep(centre, books.call_key(line.sid), replace(call, legs=(*call.legs, "later")))
    assert await act(world, ANN, line.sid, noting("still his")) is not None

    async def redeemed(*args):
        found = await held(*args)
        await keep(centre, books.leg_key("later"), replace(later, agent="bob", redeemed_ms=centre.clock()))
        return found

    monkeypatch.setattr(acts, "asked_for", redeemed)
    assert await act(world, ANN, line.sid, noting("not his")) is None
    assert (await centre.stored(line)).notes == ("still his",)


async def test_a_call_that_keeps_changing_is_a_fault(centre: Centre, monkeypatch):
    """Nobody turns in circles."""
    line = await with_agent(centre)
    held = acts.asked_for
    call = await centre.stored(line)
    looks = iter(range(100))

    async def changing(*args):
        found = await held(*args)
        await keep(centre, books.call_key(line.sid), replace(call, account=f"{next(looks)}"))
        return found

    monkeypatch.setattr(acts, "asked_for", changing)
    with pytest.raises(StoreFault):
        await act(centre.node().world, ANN, line.sid, noting("one"))
    assert next(looks) == acts.CONFLICTS_MAX


async def test_nothing_is_done_that_cannot_be_recorded(centre: Centre):
    """As for tokens: where a copy of the record is required and cannot be written."""
    line = await with_agent(centre)
    world = replace(centre.node().world, refusal=lambda: "no copy")

    with pytest.raises(RecordFault):
        await act(world, ANN, line.sid, noting("one"))
    assert (await centre.stored(line)).notes == ()
