"""A code read back to an agent: a real store, real judges, and a caller who hears music meanwhile."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.core.call import Told
from ivrguard.core.errors import NotifyFault, OutOfSight, StoreFault
from ivrguard.core.flow import Sends, Via
from ivrguard.core.readback import Sending, Why
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import books, proving
from ivrguard.guard.held import held, seen

Centre = Any
Line = Any

ACCOUNT, PIN = "123456789", "24681357"
OWNER, STRANGER = "+15551230001", "+15559870002"
ANN, BOB = Agent("ann", queues=("*",)), Agent("bob", queues=("*",))


async def with_agent(centre: Centre, line: Line | None = None, agent: Agent = ANN) -> Line:
    """A caller in the hands of an agent: one factor was all that it needed."""
    if not centre.nodes:
        rule = Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*"))
        code = replace(centre.flow.factors["code"], sends=Sends(per_call=9, per_account=9))
        centre.having(rules=(rule,), factors={**centre.flow.factors, "code": code})
        centre.ivr.pages["/menu"] = "<Enqueue>support</Enqueue>"
    line = await centre.verified(line)
    await line.press("0")
    await line.go_on()
    assert line.outcome == "transfer", line.outcome
    assert await centre.node().redeem(agent.as_desk(), line.sid, None) is not None
    return line


async def ask(centre: Centre, line: Line, request: str = "r-1", agent: Agent = ANN, **more: str):
    outcome = await centre.node(line.node).ask_code(agent, line.sid, request=request, **more)
    await centre.node(line.node)._background.drain()
    return outcome


async def answer(centre: Centre, line: Line, digits: str, request: str = "a-1", agent: Agent = ANN):
    return await centre.node(line.node).answer_code(agent, line.sid, request=request, digits=digits)


def wrong(code: str) -> str:
    """Another code of as many digits."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


async def test_a_code_is_read_to_the_agent_who_types_it(centre: Centre):
    """To the number on file, in its own words; right: a second factor, which the agent sees at once."""
    line = await with_agent(centre)
    before = await held(centre.node().world, ANN, line.sid)
    assert (await seen(centre.node().world, before)).acr == ("one_factor",)

    sending = await ask(centre, line)
    to, text = centre.texts.sent[-1]
    told = await answer(centre, line, centre.texts.code())

    assert (to, sending.for_real) == (OWNER, True)
    assert text == centre.flow.prompts["sms_read_back"].format(
        code=centre.texts.code(), intent=centre.flow.prompts["intent.agent"]
    )
    assert told == Told("a-1", right=True)
    after = await held(centre.node().world, ANN, line.sid)
    standing = await seen(centre.node().world, after)
    assert standing.acr[0] == "two_factor"
    assert [(one.factor, one.kind) for one in standing.proofs] == [("pin", Kind.PIN), ("code", Kind.SMS_CODE)]
    assert await centre.events("authn_login_success") == ["right", "right"]
    assert "agent" in dict((await centre.record())[-1].detail)


async def test_who_does_not_hold_the_call_gets_nothing(centre: Centre):
    """As for a call that never was: no message, no guess; that he asked is on record."""
    line = await with_agent(centre)
    await ask(centre, line)
    entries, sent = len(await centre.record()), len(centre.texts.sent)
    assert await centre.events("call_view_refused") == []

    assert await ask(centre, line, agent=BOB) is None
    assert await answer(centre, line, centre.texts.code(), agent=BOB) is None
    never = replace(line, sid="CA" + "0" * 32)
    assert await ask(centre, never) is None
    assert await answer(centre, never, "123456") is None
    assert (len(await centre.record()) - 2, len(centre.texts.sent)) == (entries, sent)
    assert await centre.events("call_view_refused") == ["not_held"] * 2, "each agent once in a minute"


async def test_any_node_will_do_and_again_is_not_twice(centre: Centre):
    """Asked on one, typed on another, repeated on a third: one message, one guess, one answer."""
    line = await with_agent(centre)
    sent = len(centre.texts.sent)
    for node in ("a", "b", "c"):
        await ask(centre, replace(line, node=node))
    code = centre.texts.code()
    told = [await answer(centre, replace(line, node=node), wrong(code)) for node in ("b", "c", "a")]

    assert len(centre.texts.sent) == sent + 1
    assert told == [Told("a-1", right=False)] * 3
    assert len((await centre.ledger(kind="sms_code")).attempts) == 1
    assert await answer(centre, line, code) == Told("a-1", right=False), "the same request, another answer"
    assert (await answer(centre, replace(line, node="c"), code, "a-2")).right


async def test_many_at_once_are_no_more_guesses(centre: Centre):
    """Five agents' windows, two nodes, the same code: as many are judged as the rule allows, and each is counted."""
    line = await with_agent(centre)
    centre.nodes["b"] = centre.node("b")
    await ask(centre, line)
    code = centre.texts.code()
    judged = []
    judges = [node.world.judges[Kind.SMS_CODE] for node in centre.nodes.values()]
    for judge in judges:
        real = judge.judge

        async def counting(credential, digits, challenge, now_ms, real=real):
            judged.extend([digits] * (credential is not None))
            return await real(credential, digits, challenge, now_ms)

        judge.judge = counting

    guesses = [wrong(wrong(code)) for _ in range(12)]
    told = await asyncio.gather(
        *(
            answer(centre, replace(line, node="ab"[nth % 2]), guess, f"a-{nth}")
            for nth, guess in enumerate(guesses)
        )
    )

    assert len(judged) <= centre.flow.locks.account.failures
    assert not any(isinstance(one, Told) and one.right for one in told)
    assert (await answer(centre, line, code, "last")) in {Told("last", right=False), Why.NO_CODE}


async def test_a_code_to_be_keyed_is_not_one_to_be_read(centre: Centre):
    """Nor the other way round: two codes, two purposes, one call. And none of another call."""
    line, other = await with_agent(centre), await with_agent(centre)
    call = await centre.stored(line)
    await ask(centre, line)
    code = centre.texts.code()
    sent = (await centre.stored(line)).read_back.sent
    as_keyed = proving.challenge_of(centre.flow, call, replace(sent, asked_by=""))
    assert centre.node().world.codes.code(as_keyed) != code

    await ask(centre, other)
    assert centre.texts.code() != code
    assert not (await answer(centre, other, code)).right
    assert (await answer(centre, line, code)).right


async def test_nothing_is_sent_for_an_account_that_is_unknown_or_locked(centre: Centre):
    """Both are told the same as ever: that one went out, and that an answer was not right."""
    line = await with_agent(centre)
    call = await centre.stored(line)
    key = books.call_key(line.sid)
    sent, told = len(centre.texts.sent), []
    for number, changes in enumerate(({"known": False, "account": "555555", "proofs": ()}, {"proofs": ()})):
        await centre.store.store.amend([key], lambda _, c=changes: change_of(key, replace(call, **c)))
        if not number:
            told.append((await ask(centre, line)).for_real)
            told += [(await answer(centre, line, "123456", f"a-{nth}")).right for nth in range(3)]
            continue
        for nth in range(2):
            await ask(centre, line, f"r-{nth}")
            for n in range(centre.flow.tries):
                await answer(centre, line, "000000", f"b-{nth}-{n}")
        sent = len(centre.texts.sent)
        told.append((await ask(centre, line, "r-9")).for_real)
        told += [(await answer(centre, line, "123456", f"c-{nth}")).right for nth in range(3)]

    assert told == [False] * 8
    assert len(centre.texts.sent) == sent
    assert (await centre.events("authn_code_sent"))[-1] == "for_show"
    assert await centre.events("authn_login_lock") == ["maxretries"]


def change_of(key, call):
    from ivrguard.ports import Change, Put

    return Change(None, (Put(key, call),))


async def test_a_code_that_was_not_taken_is_told_once_something_is_proved(centre: Centre, logged):
    """And is on record; before that, a failure is on record alone."""
    line = await with_agent(centre)
    centre.texts.fault = NotifyFault("no", why="blocked")

    assert await ask(centre, line) is Why.UNDELIVERABLE
    assert await centre.events("authn_code_undelivered") == ["blocked"]
    assert await answer(centre, line, "123456") is Why.NO_CODE
    assert [one["why"] for one in logged if one["event"] == "code_not_sent"] == ["blocked"]

    call, key = await centre.stored(line), books.call_key(line.sid)
    await centre.store.store.amend([key], lambda _: change_of(key, replace(call, proofs=())))
    centre.texts.fault = NotifyFault("no", why="blocked")
    assert (await ask(centre, line, "r-2")).for_real
    assert await centre.events("authn_code_undelivered") == ["blocked"] * 2


async def test_the_call_is_lost_while_a_code_is_on_its_way(centre: Centre, monkeypatch):
    """Another agent took it meanwhile: nothing is told to the one who asked, and what was counted stays counted."""
    line = await with_agent(centre)
    real = centre.texts.send

    async def lost(*args, **more):
        centre.texts.fault = NotifyFault("no")
        await taken_by_bob(centre, line)
        await real(*args, **more)

    monkeypatch.setattr(centre.texts, "send", lost)
    assert await ask(centre, line) is None
    monkeypatch.undo()

    line = await with_agent(centre)
    await ask(centre, line)
    judge = proving.judge

    async def slow(*args):
        await taken_by_bob(centre, line)
        return await judge(*args)

    monkeypatch.setattr(proving, "judge", slow)
    assert await answer(centre, line, centre.texts.code()) is None
    assert len((await centre.ledger(kind="sms_code")).attempts) == 1


async def taken_by_bob(centre: Centre, line: Line) -> None:
    call = await centre.stored(line)
    key = books.leg_key(call.legs[-1])
    leg = await centre.store.store.read(key)
    await centre.store.store.amend([key], lambda _: change_of(key, replace(leg, agent="bob")))


@pytest.mark.parametrize(
    ("fault", "counted"),
    [(StoreFault("down"), 0), (OutOfSight("no answer"), 1)],
    ids=["a fault", "out of sight"],
)
async def test_a_fault_is_no_verdict(centre: Centre, monkeypatch, fault: Exception, counted: int):
    """What was surely not looked at is not counted; the agent may type it again."""
    line = await with_agent(centre)
    await ask(centre, line)

    async def failing(*_):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(proving, "judge", failing)
        assert await answer(centre, line, "123456") is Why.NOT_JUDGED
    assert len((await centre.ledger(kind="sms_code")).attempts) == counted
    assert (await answer(centre, line, centre.texts.code())).right


async def test_the_owner_is_warned_of_a_wrong_answer(centre: Centre):
    """One factor was right, the next one wrong: as by keypad."""
    line = await with_agent(centre)
    await ask(centre, line)
    code = centre.texts.code()
    await answer(centre, line, wrong(code))
    await centre.node()._background.drain()

    assert centre.texts.sent[-1] == (OWNER, centre.flow.prompts["sms_warning"])


async def test_a_pin_is_not_read_to_anybody(centre: Centre):
    """Nor a code of an app; nothing is sent, whatever is asked for."""
    line = await with_agent(centre)
    sent = len(centre.texts.sent)

    assert [await ask(centre, line, factor=name) for name in ("pin", "app")] == [Why.NOT_BY_VOICE] * 2
    assert len(centre.texts.sent) == sent
    assert isinstance(await ask(centre, line, factor="code"), Sending)


class Pretended:
    """Codes made, sent and judged elsewhere: one a number."""

    def __init__(self) -> None:
        self.started: list[tuple[str, bool, str]] = []

    async def start(self, to, *, again, intent, language, deadline_s):
        self.started.append((to, again, intent))
        return f"VE{len(self.started)}"

    async def check(self, verification, digits, *, deadline_s):
        from ivrguard.ports import Right, Wrong

        return Right() if verification == f"VE{len(self.started)}" and digits == "424242" else Wrong()


async def test_a_code_of_verifys_is_read_just_so(centre: Centre):
    """Its message says that it is to be read; a new one each time, never the one that was to be keyed."""
    code = replace(centre.flow.factors["code"], via=Via.VERIFY)
    centre.having(
        factors={**centre.flow.factors, "code": code},
        rules=(Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),),
    )
    centre.ivr.pages["/menu"] = "<Enqueue>support</Enqueue>"
    verify = Pretended()
    centre.node(verifications=verify)
    line = await with_agent(centre)

    await ask(centre, line)
    assert not (await answer(centre, line, "111111")).right
    assert (await answer(centre, line, "424242", "a-2")).right

    prompts = centre.flow.prompts
    intent = prompts["read_back_intent"].format(intent=prompts["intent.agent"])
    assert verify.started == [(OWNER, False, intent)]


async def test_no_digit_is_kept_anywhere(centre: Centre, logged):
    """Neither right nor wrong ones: not in a value, an entry, a log line."""
    line = await with_agent(centre)
    await ask(centre, line)
    code = centre.texts.code()
    for nth, digits in enumerate((wrong(code), code)):
        await answer(centre, line, digits, f"a-{nth}")

    kept = b"".join(row.data + row.key.id.encode() for row in centre.store.store._rows.values())
    told = repr(await centre.record()) + repr(logged) + repr(await centre.stored(line))
    for digits in (code, wrong(code)):
        assert digits.encode() not in kept
        assert digits not in told
