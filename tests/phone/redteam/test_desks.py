"""Attacks through an agent's desk: each thing that keeps a talked-round agent from doing harm is taken out once, and missed."""

from dataclasses import replace

import pytest

from ivrguard.core import handoff, passing, readback
from ivrguard.core.readback import Verdict as Judged
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.guard import acts, held
from ivrguard.guard import readback as reading
from ivrguard.phone.redteam.attack import Verdict


def without_counting(patch):
    """What an agent types is judged, and counted nowhere."""
    patch.setattr(readback, "reserve", lambda _flow, _call, books, *_: (books, True))


def with_any_code(patch):
    """Whatever an agent types is right."""

    async def right(_world, agent, _found, _call, request, judging, _digits):
        return Judged(agent.name, request, judging, right=True)

    patch.setattr(reading, "_judged", right)


def with_one_code_for_all(patch):
    """A code is the account's: not of this call, and not of this challenge."""
    real = SmsCodeJudge.code
    patch.setattr(
        SmsCodeJudge, "code", lambda self, asked: real(self, replace(asked, id="", call="", issued_ms=0))
    )


def without_using_up(patch):
    """A code that was right stays good."""
    real = readback._right

    def again(flow, call, books, back, verdict, now_ms):
        done = real(flow, call, books, back, verdict, now_ms)
        kept = replace(done.call.read_back, sent=back.sent)
        return replace(done, call=replace(done.call, read_back=kept))

    patch.setattr(readback, "_right", again)


def without_end(patch):
    """A code lives for ever: with whoever keeps it, and with whoever judges it."""
    real = SmsCodeJudge.judge

    async def patient(self, credential, digits, challenge, _now_ms):
        return await real(self, credential, digits, challenge, challenge.issued_ms if challenge else 0)

    patch.setattr(SmsCodeJudge, "judge", patient)
    patch.setattr(readback, "_live", lambda _flow, _call, back, _now_ms: back.sent)


def for_anybody(patch):
    """Nobody looks who holds the call."""
    for module in (held, acts):
        patch.setattr(module, "holds", lambda *_: True)


def with_the_first_agent_for_ever(patch):
    """Whoever took the call holds it, whatever became of it."""
    patch.setattr(held, "in_hands", lambda _legs: 0)
    patch.setattr(acts, "passed_on", lambda *_: False)


def with_tokens_that_never_spoil(patch):
    """A token is worth something to whoever has it."""
    real = handoff._spoiled

    def never(leg, holder, *rest):
        return real(leg, holder, *rest) if leg is None or holder is None else None

    patch.setattr(handoff, "_spoiled", never)


GUARDS = [
    (without_counting, "talk-codes-in", ["codes that an agent was told were judged; more than 5"]),
    (with_any_code, "talk-codes-in", ["a code that was made up was right"]),
    (with_one_code_for_all, "read-back-elsewhere", ["was right in another one"]),
    (without_using_up, "read-back-elsewhere", ["a code was right twice"]),
    (without_end, "read-back-elsewhere", ["a code that was over was right"]),
    (for_anybody, "read-back-elsewhere", ["an agent who does not hold the caller had a code judged"]),
    (with_the_first_agent_for_ever, "keep-a-caller", ["a look", "/codes", "/transfers"]),
    (with_tokens_that_never_spoil, "keep-a-caller", ["another queue", "redeemed twice", "the first token"]),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS)
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    """Whatever it does not look at is told, each by itself."""
    weaken(monkeypatch)
    outcome = await catches(attack, says[0])
    found = [hole.what for hole in outcome.holes]
    assert [words for words in says if not any(words in what for what in found)] == []


async def test_a_flow_without_codes_has_none_to_read(played, flow_with, alone):
    """As one without protected transfers has nobody to read them to."""
    flow = flow_with("bank")
    factors = {name: one for name, one in flow.factors.items() if name != "code"}
    outcome = await played("read-back-elsewhere", replace(flow, factors=factors))
    assert (outcome.verdict, outcome.why) == (
        Verdict.NOT_TRIED,
        "the flow has no factor of kind sms_code, so nothing is read to an agent",
    )


async def test_where_nobody_gets_to_an_agent_without_the_telephone_nothing_is_guessed(
    played, flow_with, alone
):
    flow = flow_with("bank")
    only = replace(flow, factors={name: one for name, one in flow.factors.items() if name != "app"})
    levels = {**flow.levels, "two_factor": type(flow.levels["two_factor"])(("pin", "code"))}
    outcome = await played("talk-codes-in", replace(only, levels=levels))
    assert outcome.verdict is Verdict.NOT_TRIED
    assert "without 'code'" in outcome.why


@pytest.mark.parametrize("attack", ["read-back-elsewhere", "keep-a-caller", "talk-codes-in"])
async def test_an_agent_who_does_not_get_the_caller_shows_nothing(monkeypatch, played, alone, attack):
    """A token that is refused is no hole, and no attack."""
    monkeypatch.setattr(handoff, "_spoiled", lambda *_: handoff.Spoiled.EXPIRED)
    outcome = await played(attack)
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the agent did not get the caller")


async def test_a_code_that_may_be_guessed_for_long_is_given_up_on(played, flow_with, alone):
    """The account's guesses are over long before."""
    outcome = await played("talk-codes-in", replace(flow_with("bank"), tries=50))
    assert outcome.verdict is Verdict.HELD


@pytest.mark.parametrize(
    ("per_call", "per_account", "verdict"),
    [(0, 9, Verdict.NOT_TRIED), (2, 2, Verdict.NOT_TRIED), (2, 3, Verdict.HELD), (2, 9, Verdict.HELD)],
)
async def test_as_many_codes_as_the_flow_sends(played, flow_with, alone, per_call, per_account, verdict):
    """Without a second one there is none to be late; without a first one there is nothing to try."""
    flow = flow_with("bank")
    code = flow.factors["code"]
    sends = replace(code.sends, per_call=per_call, per_account=per_account)
    few = replace(flow, factors={**flow.factors, "code": replace(code, sends=sends)})
    assert (await played("read-back-elsewhere", few)).verdict is verdict


async def test_a_caller_who_cannot_be_passed_on_is_kept_by_nobody(monkeypatch, played, alone):
    monkeypatch.setattr(passing, "PASSED_ON_MAX", 0)
    outcome = await played("keep-a-caller")
    assert outcome.verdict is Verdict.NOT_TRIED
    assert "nobody can be passed on to" in outcome.why


async def test_a_second_agent_who_does_not_get_him_shows_nothing(monkeypatch, played, alone):
    real = handoff._spoiled

    def spoiled(leg, *rest):
        return handoff.Spoiled.EXPIRED if leg is not None and leg.actors else real(leg, *rest)

    monkeypatch.setattr(handoff, "_spoiled", spoiled)
    outcome = await played("keep-a-caller")
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the second agent did not get the caller")
