"""
Read back: a code goes to the number on file, the caller reads it to the agent who holds him, the agent types it.

The laws of this file:

1. It is counted as an answer by keypad is: in the same ledgers and limits, before it is judged (core/counting.py). Whoever
   may guess in two ways has no guess more.
2. Only a code that was sent for this is ever asked for: an agent hears no secret that lasts, and none that an app shows. A
   code that is to be keyed is not one to be read, nor the other way round.
3. Until something is proved the agent learns what a caller would: unknown and locked accounts get the same answers, and
   an answer is right or it is not.
4. A request that comes again changes nothing, and is told what it was told. The same request with another answer is the
   same request.
5. A number that a caller calls from gains no trust by it (core/lockout.py, lanes): the owner may be a third one in the
   call, talked into reading.
"""

from dataclasses import dataclass
from enum import StrEnum

from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.call import Act, Books, Call, Judge, ReadBack, Sent, Told, lane_name
from ivrguard.core.counting import (
    count_send,
    entry_of,
    is_locked,
    locks_made,
    reserve,
    sending,
    settle,
)
from ivrguard.core.flow import Flow, Via
from ivrguard.core.values import replace

TOLD_MAX = 8
"""Answers that are remembered for when their requests come again: an agent types one at a time."""


class Why(StrEnum):
    """Why an agent's request came to nothing. None of it depends on what only the owner knows."""

    ENDED = "ended"
    NO_ACCOUNT = "no_account"
    NOT_BY_VOICE = "not_by_voice"
    NOT_ENROLLED = "not_enrolled"
    AT_THE_KEYPAD = "at_the_keypad"
    NO_MORE_CODES = "no_more_codes"
    UNDELIVERABLE = "undeliverable"
    NO_CODE = "no_code"
    MISTYPED = "mistyped"
    BEING_JUDGED = "being_judged"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True)
class Asked:
    """
    The agent wants a code to be sent. `request`: by which the same one is known again. `factor`: "" for the flow's code.

    `nonce`: unguessable, the id of the code. `intent`: what the caller was put through for.
    """

    agent: str
    request: str
    nonce: str
    intent: str = ""
    factor: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """A code goes out next, or is said to (not `for_real`). `sent` None: it went out when this request came first."""

    sent: Sent | None = None
    for_real: bool = False


@dataclass(frozen=True, slots=True)
class Typed:
    """The agent typed an answer of so many `digits`: they themselves stay with the guard. `attempt`: unguessable."""

    agent: str
    request: str
    attempt: str
    digits: int


@dataclass(frozen=True, slots=True)
class Judging:
    """The answer is counted, and judged next (`judge`)."""

    judge: Judge
    attempt: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of `judging`. `right` None: a fault; `out_of_sight`: it may have been looked at all the same."""

    agent: str
    request: str
    judging: Judging
    right: bool | None
    out_of_sight: bool = False


def ask(flow: Flow, call: Call, books: Books, asked: Asked, now_ms: int) -> Act[Sending | Why]:
    """A code for the agent to ask the caller for. Pure: the message is sent, `for_real`, by whoever asks."""
    before = call.read_back if call.read_back is not None and call.read_back.agent == asked.agent else None
    if before is not None and asked.request in before.requests:
        return Act(call, books, Sending())
    code = next((name for name, factor in flow.factors.items() if factor.kind is Kind.SMS_CODE), "")
    why = _not_now(call, asked, code)
    if why is not None:
        return Act(call, books, why)
    factor = flow.factors[code]
    after, spent = count_send(flow, call, books, now_ms)
    spent = "call" if call.codes_sent >= factor.sends.per_call else spent
    if spent in {"number", "prefix"} and not call.proofs:
        after = books  # law 3: he is told the same, and nothing goes out
    elif spent:
        facts = {"factor": code, "agent": asked.agent}
        entry = entry_of(call, "excess_rate_limit_exceeded", now_ms, "sends", **facts)
        return Act(call, books, Why.NO_MORE_CODES, (entry,))
    sent = Sent(asked.nonce, code, asked.intent, now_ms, factor.valid_s, asked_by=asked.agent)
    for_real = call.known and not spent and not is_locked(flow, call, books, code, now_ms)
    keyed = call.sent if factor.via is Via.MESSAGES else tuple(one for one in call.sent if one.factor != code)
    requests, told = (before.requests, before.told) if before is not None else ((), ())
    read_back = ReadBack(asked.agent, (*requests, asked.request), sent, told=told)
    call = replace(call, sent=keyed, codes_sent=call.codes_sent + 1, read_back=read_back)
    entry = sending(call, factor, sent, now_ms, for_real=for_real)
    return Act(call, after, Sending(sent, for_real), (entry,))


def _not_now(call: Call, asked: Asked, code: str) -> Why | None:
    """Why no code is to be had. `code`: the flow's factor of that kind, "" if it has none."""
    if call.ended_ms is not None:
        return Why.ENDED
    if not code or asked.factor not in {"", code}:
        return Why.NOT_BY_VOICE
    if not call.account:
        return Why.NO_ACCOUNT
    if call.proofs and code not in call.enrolled:
        return Why.NOT_ENROLLED
    if call.question is not None and call.question.factor == code:
        return Why.AT_THE_KEYPAD
    return None


def undelivered(call: Call, books: Books, sent: Sent, why: str, now_ms: int) -> Act[Why]:
    """The code was not taken by the carrier, and `why`: the agent of a caller who has proved something may know."""
    facts = {"factor": sent.factor, "agent": sent.asked_by}
    entry = entry_of(call, "authn_code_undelivered", now_ms, why, **facts)
    back = call.read_back
    if back is not None and back.sent == sent:
        call = replace(call, read_back=replace(back, sent=None))
    return Act(call, books, Why.UNDELIVERABLE, (entry,))


def answer(flow: Flow, call: Call, books: Books, typed: Typed, now_ms: int) -> Act[Judging | Told | Why]:
    """What the caller read, as the agent typed it: counted here, before anybody looks at it."""
    back = call.read_back
    if back is None or back.agent != typed.agent:
        return Act(call, books, Why.ENDED if call.ended_ms is not None else Why.NO_CODE)
    told = next((one for one in back.told if one.request == typed.request), None)
    if told is not None:
        return Act(call, books, Why.BEING_JUDGED if told.right is None else told)
    if call.ended_ms is not None:
        return Act(call, books, Why.ENDED)
    sent = _live(flow, call, back, now_ms)
    if sent is None:
        return Act(call, books, Why.NO_CODE)
    if typed.digits != flow.factors[sent.factor].digits:
        return Act(call, books, Why.MISTYPED)
    books, allowed = reserve(flow, call, books, sent.factor, typed.attempt, now_ms)
    facts = {"factor": sent.factor, "lane": lane_name(call), "agent": typed.agent}
    entry = entry_of(call, "authn_attempt", now_ms, "counted" if allowed else "locked", **facts)
    call = replace(call, read_back=_telling(back, Told(typed.request)))
    judging = Judging(Judge(sent.factor, allowed, sent), typed.attempt)
    return Act(call, books, judging, (entry,))


def _live(flow: Flow, call: Call, back: ReadBack, now_ms: int) -> Sent | None:
    """The code that an answer may be one to. Verify knows one code a number: one sent to be keyed takes its place."""
    sent = back.sent
    if sent is None or sent.factor not in flow.factors or now_ms >= sent.at_ms + sent.valid_s * 1000:
        return None
    replaced = any(one.factor == sent.factor and one.at_ms >= sent.at_ms for one in call.sent)
    return None if replaced and flow.factors[sent.factor].via is Via.VERIFY else sent


def _telling(back: ReadBack, told: Told) -> ReadBack:
    others = tuple(one for one in back.told if one.request != told.request)
    return replace(back, told=(*others, told)[-TOLD_MAX:])


def judged(flow: Flow, call: Call, books: Books, verdict: Verdict, now_ms: int) -> Act[Told | Why]:
    """The verdict, and what it makes of the call. Whatever became of the call meanwhile, the attempt was counted."""
    back, sent = call.read_back, verdict.judging.judge.sent
    assert sent is not None, "only an answer to a code that lives is judged"
    lost = back is None or Told(verdict.request) not in back.told or back.agent != verdict.agent
    if back is None or lost or sent.factor not in flow.factors:  # another account, another agent
        return Act(call, books, Why.NO_CODE)
    if verdict.right is None:
        return _unjudged(flow, call, books, back, verdict, now_ms)
    used = back.sent != sent
    if verdict.right and verdict.judging.judge.allowed and not used:
        return _right(flow, call, books, back, verdict, now_ms)
    reason = "wrong" if verdict.judging.judge.allowed else "locked"
    facts = {"factor": sent.factor, "lane": lane_name(call), "agent": verdict.agent}
    entry = entry_of(call, "authn_login_fail", now_ms, "used" if used else reason, **facts)
    entries = (entry, *locks_made(flow, call, books, sent.factor, verdict.judging.attempt, now_ms))
    warn = bool(call.proofs) and call.known and not call.warned and not used
    if warn:
        told_owner = entry_of(call, "owner_notified", now_ms, "sms_warning", factor=sent.factor)
        entries = (*entries, told_owner)
    told, misses = Told(verdict.request, right=False), back.misses + 1
    back = replace(_telling(back, told), misses=misses, sent=None if misses >= flow.tries else back.sent)
    call = replace(call, read_back=back, warned=call.warned or warn)
    return Act(call, books, told, entries, "sms_warning" if warn else "")


def _unjudged(
    flow: Flow, call: Call, books: Books, back: ReadBack, verdict: Verdict, now_ms: int
) -> Act[Told | Why]:
    """A fault: the attempt is taken back only if the answer was surely not looked at. The request may come again."""
    factor, event = verdict.judging.judge.factor, "authn_attempt_unjudged"
    if not verdict.out_of_sight:
        books = settle(flow, call, books, factor, verdict.judging.attempt, right=False)
        event = "authn_attempt_withdrawn"
    entry = entry_of(call, event, now_ms, "fault", factor=factor, agent=verdict.agent)
    told = tuple(one for one in back.told if one.request != verdict.request)
    return Act(replace(call, read_back=replace(back, told=told)), books, Why.NOT_JUDGED, (entry,))


def _right(
    flow: Flow, call: Call, books: Books, back: ReadBack, verdict: Verdict, now_ms: int
) -> Act[Told | Why]:
    """A proof as any other of its kind. One for something else that its message said stays beside it."""
    sent, told = back.sent, Told(verdict.request, right=True)
    assert sent is not None, "a code that was used is not right"
    books = settle(flow, call, books, sent.factor, verdict.judging.attempt, right=True)
    proof = Proof(sent.factor, flow.factors[sent.factor].kind, now_ms, call.turn, sent.intent)
    kept = tuple(one for one in call.proofs if (one.factor, one.intent) != (proof.factor, proof.intent))
    facts = {"factor": sent.factor, "lane": lane_name(call), "agent": verdict.agent}
    entry = entry_of(call, "authn_login_success", now_ms, "right", **facts)
    call = replace(call, proofs=(*kept, proof), read_back=replace(_telling(back, told), sent=None))
    return Act(call, books, told, (entry,))
