"""
How a call stands, as the agent who holds it may see it: a word, how and when, what may be done now, what is next.

The laws of this file:

1. What is protected is absent until something is proved that counts now: the account is "" until then (FCC 23-95).
2. Factors have names and times here, never values; an answer is right or wrong nowhere in it (PSD2 RTS, article 4).
3. Verification and risk are told apart: `risks` changes nothing of `status`, and `status` says nothing of risk.
4. It is worked out at the moment of looking and never kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core.assurance import Freshness, Kind, least, proved, reached
from ivrguard.core.call import Books, Call
from ivrguard.core.conference import Beside, beside, of_a_task
from ivrguard.core.demands import missing
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Leg, May, standing
from ivrguard.core.rules import Demand

REFERENCE_CHARACTERS = 8


class Status(StrEnum):
    """The one word that a panel shows, with a shape of its own for each: never by colour alone."""

    VERIFIED = "verified"
    NEEDS_FACTOR = "needs_factor"
    NOT_VERIFIED = "not_verified"
    EVALUATING = "evaluating"
    LOCKED = "locked"
    ENDED = "ended"


class By(StrEnum):
    """How an agent can have a factor proved: read to him, or keyed aside, which he does not hear."""

    READ_BACK = "read_back"
    BLIND = "blind"


@dataclass(frozen=True, slots=True)
class Way:
    """A factor that is still to be proved, and how that can be done on this call now; `by` (): the caller cannot do it here."""

    factor: str
    kind: Kind
    by: tuple[By, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """One factor that was proved: its name and kind, when, and until when it counts for this call's business (None: for its whole length)."""

    factor: str
    kind: Kind
    at_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """One hand-over of this call: who took it ("": nobody yet), when it was made and taken, for which queues, with which level."""

    agent: str
    issued_ms: int
    redeemed_ms: int | None
    queues: tuple[str, ...]
    acr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What an agent sees of the call that he holds.

    `reference` finds the call's entries in the record. `account`: law 1. `needs`: the factors that are still to be proved for what the caller
    was put through for, best first; () if none is, or none can be had. `able`: the kinds of factor that this account could answer,
    only once something is proved. `attempts_left`: before the account locks; `locked_until_ms`: when it ends, None: it is not locked, or for good (`disabled`).
    `aside`: whether the caller can be led aside, None where the guard does not bridge the call. `ways`: of each that it `needs`.
    """

    status: Status
    call_sid: str
    reference: str
    caller: str
    account: str
    intent: str
    acr: tuple[str, ...]
    proofs: tuple[Shown, ...]
    legs: tuple[Held, ...]
    may: tuple[May, ...]
    needs: tuple[str, ...]
    able: tuple[str, ...]
    risks: tuple[str, ...]
    attempts_left: int | None
    locked_until_ms: int | None
    disabled: bool
    began_ms: int
    now_ms: int
    aside: Beside | None = None
    ways: tuple[Way, ...] = ()


def wanted(flow: Flow, leg: Leg) -> Demand:
    """
    What this hand-over's purpose needs of the caller: the strictest rule with its intent, or the flow's default.

    More factors are stricter; of as many, those that are worth something less long; of two alike, the one written first.
    """
    if leg.wants is not None:
        return leg.wants
    named = [rule.demand for rule in flow.rules if leg.intent and rule.demand.intent == leg.intent]
    strictness = [
        (least(flow.levels[demand.require]), -(demand.within_s or inf), -nth)
        for nth, demand in enumerate(named)
        if demand.require is not None
    ]
    return named[-max(strictness)[2]] if strictness else flow.default


def standing_of(flow: Flow, call: Call, books: Books, legs: Sequence[Leg], now_ms: int) -> Standing:
    """The call as the holder of its last leg may see it. `legs`: its hand-overs, in order; there is at least one."""
    leg = legs[-1]
    demand = wanted(flow, leg)
    have = proved(call.proofs, Freshness(demand.within_s), now_ms)
    needs = missing(flow, call, demand, leg.since_turn, now_ms)
    locked = calls.locked(flow, call, books, now_ms)
    left, until_ms, disabled = _attempts(flow, call, books, now_ms)
    return Standing(
        status=_status(call, locked=locked, proved=bool(have), needs=needs),
        call_sid=call.sid,
        reference=reference(call.sid),
        caller=call.caller.value,
        account=call.account if have else "",
        intent=leg.intent,
        acr=reached(flow.levels, call.proofs, Freshness(demand.within_s), now_ms),
        proofs=tuple(_shown(demand, proof.factor, proof.kind, proof.at_ms) for proof in call.proofs),
        legs=tuple(
            Held(each.agent, each.issued_ms, each.redeemed_ms, each.queues, each.acr) for each in legs
        ),
        may=standing(flow, call.proofs, now_ms),
        needs=needs or (),
        able=call.enrolled if have else (),
        risks=call.notes,
        attempts_left=left,
        locked_until_ms=until_ms,
        disabled=disabled,
        began_ms=call.began_ms,
        now_ms=now_ms,
        aside=beside(flow, call.bridge, leg.queues, over=call.ended_ms is not None),
        ways=tuple(_way(flow, call, leg, factor) for factor in needs or ()),
    )


def _way(flow: Flow, call: Call, leg: Leg, factor: str) -> Way:
    """Only a code that is sent for it is read to anybody (core/readback.py); whatever is keyed needs a room to come back to."""
    kind = flow.factors[factor].kind
    read = (By.READ_BACK,) if kind is Kind.SMS_CODE else ()
    room = (call.bridge is not None and call.bridge.live) or of_a_task(flow, leg.queues)
    return Way(factor, kind, (*read, By.BLIND) if room else read)


def reference(call_sid: str) -> str:
    """The short number of a call, which an agent can read out: the first characters of its CallSid behind the CA."""
    return call_sid[2 : 2 + REFERENCE_CHARACTERS].upper()


def _status(call: Call, *, locked: bool, proved: bool, needs: tuple[str, ...] | None) -> Status:
    if call.ended_ms is not None:
        return Status.ENDED
    if locked:
        return Status.LOCKED
    if call.question is not None:
        return Status.EVALUATING
    if not proved:
        return Status.NOT_VERIFIED
    return Status.VERIFIED if needs == () else Status.NEEDS_FACTOR


def _shown(demand: Demand, factor: str, kind: Kind, at_ms: int) -> Shown:
    until_ms = None if demand.within_s is None else at_ms + demand.within_s * 1000
    return Shown(factor, kind, at_ms, until_ms)


def _attempts(flow: Flow, call: Call, books: Books, now_ms: int) -> tuple[int | None, int | None, bool]:
    """Of the factor that stands worst: the attempts left, when its lock ends, and whether it is disabled for good."""
    left, until_ms, disabled = flow.locks.account.failures, None, False
    if not call.account:
        return None, None, False
    for factor in flow.factors:
        ledger = books.ledgers.get(calls.own_ledger_id(flow, call, factor), lockout.Ledger())
        stands = lockout.standing(flow.locks.account, ledger, now_ms)
        match stands:
            case lockout.Locked(end):
                left, until_ms = 0, max(until_ms or 0, end)
            case lockout.Disabled():
                left, disabled = 0, True
            case _:
                left = min(left, stands.left)
    return left, until_ms, disabled
