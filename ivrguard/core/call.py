"""
A call, what happens to it, and what the guard does next. Every change of a call's state is made here.

The laws of this file:

1. `step(flow, call, books, event, now)` is pure: it returns the next call, one move, and the entries that go
   on record with it. Nothing about a call lives anywhere else between two webhooks.
2. Nothing is forwarded and no protected transfer is connected unless every demand holds at that moment:
   `Forward` and `Transfer` come out of `_proceed` and nowhere else.
3. Each question has a nonce of its own. An answer to any other question changes nothing.
4. A guess is counted before it is judged (`lockout.reserve`, in the same act as the move `Judge`); locked and
   unknown accounts get the same questions, the same words and the same work.
5. A delivery that came before changes nothing (`admit`): each one is remembered by its fingerprint.
6. Proofs, never levels, are kept (core/assurance.py). Digits are never part of a call; what must wait is sealed.

A webhook needs at most three turns: an event, the move's outcome, and once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ivrguard.core import handoff, lockout
from ivrguard.core.assurance import Freshness, Kind, Proof, plan, proved
from ivrguard.core.audit import Entry
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand, Visit, decide

ASKS_PER_CALL_MAX = 40
"""Questions in one call; a caller who needs more is not getting anywhere."""

SEEN_MAX = 32
"""Fingerprints of deliveries kept per call; a delivery from longer ago is stale by its turn."""

ENTRIES_WITHOUT_TURN_MAX = 16
"""Deliveries to URLs that are not ours (the number's own, REST redirects) remembered per call, for ever."""

KNOWN_NUMBER_KEY = "1"
"""What a caller keys to take the account of the number that he calls from."""

HOLDS_MAX = 10
"""How often one answer may wait for a free hash thread before the caller is asked to call later."""

IVR_CHALLENGES_MAX = 2
"""How often the IVR may ask for more (RFC 9470) for one request before it is a loop."""


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Question:
    """
    What the caller is being asked. `factor` "": which account. `held`: sealed digits that wait for a thread.

    `counted`: the attempt (see core/lockout.py) that the answer being judged is, "" while none is judged.
    """

    nonce: str
    factor: str = ""
    silences: int = 0
    holds: int = 0
    counted: str = ""
    held: str = field(default="", repr=False)


class What(StrEnum):
    """What is held up by questions."""

    REQUEST = "request"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class Pending:
    """
    What goes on when its demands hold.

    `held`: the sealed request, or the sealed rest of the document from the transfer on. `since_turn`: proofs
    made at this turn or later are fresh for `reverify`. `nonce`: where the caller's leg enters a transfer.
    `queues`, `carriers`, `whispers`: see handoff.Leg. `about`: the path asked for, for the record. `asked`: how often the IVR itself asked for more.
    """

    what: What
    demands: tuple[Demand, ...]
    held: str = field(default="", repr=False)
    since_turn: int = 0
    nonce: str = ""
    queues: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    whispers: tuple[tuple[str, str], ...] = ()
    about: str = ""
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """A code that was sent in this call: its challenge's id, factor, intent and time."""

    id: str = field(repr=False)
    factor: str
    intent: str
    at_ms: int
    valid_s: int


@dataclass(frozen=True, slots=True)
class Last:
    """The last delivery: fingerprint, when, by which process, and the sealed answer ("" while it is made)."""

    fingerprint: str
    at_ms: int
    node: str
    answer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """
    One phone call between two webhooks.

    `account` is canonical ("" until claimed) and proves nothing; `known`: the directory has it; `ref` is its
    keyed hash for records. `enrolled`: factors that the account can answer. `lane`: see core/lockout.py.
    `turn` counts the deliveries that changed the call. `misses`: answers not accepted since the last right
    one. `failed`: factors whose codes could not be sent. `cookies`: the IVR's, sealed.
    """

    sid: str
    account_sid: str
    flow: str
    version: str
    caller: Address
    dialled: str
    attested: bool
    began_ms: int
    account: str = ""
    known: bool = False
    ref: str = ""
    enrolled: tuple[str, ...] = ()
    lane: str = lockout.POOL
    proofs: tuple[Proof, ...] = ()
    question: Question | None = None
    pending: Pending | None = None
    sent: tuple[Sent, ...] = ()
    turn: int = 0
    asks: int = 0
    codes_sent: int = 0
    failed: tuple[str, ...] = ()
    misses: int = 0
    locked_out: bool = False
    warned: bool = False
    seen: tuple[str, ...] = ()
    seen_without_turn: tuple[str, ...] = ()
    last: Last | None = None
    legs: tuple[str, ...] = ()
    cookies: str = field(default="", repr=False)
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """
    What is kept beyond one call and changes in the same act as it.

    `ledgers` by id (`ledger_ids`), `sends`: when codes were sent in this lane (ms), `spent`: the last TOTP
    step used, `trusted`: the numbers that verified on this account before.
    """

    ledgers: Mapping[str, lockout.Ledger] = field(default_factory=dict)
    sends: tuple[int, ...] = ()
    spent: int = -1
    trusted: tuple[lockout.Trusted, ...] = ()


# ── events: what happened ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Found:
    """Which account the caller's keys name. Unknown ones look the same; `enrolled` is then every factor."""

    account: str
    known: bool
    ref: str
    enrolled: tuple[str, ...]
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """The caller's leg asks the IVR for something. `held`: that request, sealed."""

    visit: Visit
    held: str = field(repr=False)
    nonce: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The caller's leg came to the transfer that was cut out of the IVR's document."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Answered:
    """
    The caller answered the question. `keys`: how the keys look (never which they are), `found`: the account
    they name when that was the question.
    """

    keys: "Keyed"
    nonce: str
    found: Found | None = None


class Keyed(StrEnum):
    """How an answer looks. The digits themselves stay with the guard."""

    NOTHING = "nothing"
    REPEAT = "repeat"
    FITTING = "fitting"
    MISFIT = "misfit"


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer was judged. `right` None: it was not looked at (a fault); `step`: the TOTP step it matched."""

    right: bool | None
    nonce: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Waits:
    """No hash thread is free: the answer waits, sealed, and nothing is counted."""

    held: str = field(repr=False)
    nonce: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A protected transfer stands in the IVR's document: what it wants, and the sealed rest from there on."""

    demands: tuple[Demand, ...]
    held: str = field(repr=False)
    queues: tuple[str, ...]
    carriers: tuple[str, ...]
    whispers: tuple[tuple[str, str], ...]
    nonce: str


@dataclass(frozen=True, slots=True)
class Replied:
    """The IVR's document is on its way to the caller. `cut`: its first protected transfer."""

    cut: Cut | None = None


@dataclass(frozen=True, slots=True)
class AskedForMore:
    """The IVR answered 401 `insufficient_user_authentication` (RFC 9470): `acr_values` best first, `max_age` s."""

    acr_values: tuple[str, ...]
    max_age_s: int | None
    held: str = field(repr=False)
    nonce: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The carrier did not take the code of this factor: another factor, or an apology."""

    factor: str
    nonce: str


Event = Arrived | Resumed | Answered | Judged | Waits | Replied | AskedForMore | Undelivered


# ── moves: what to do ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ask:
    """Say the prompts named by `words` and take keys. `send`: a code to be sent first, `for_real` or not."""

    question: Question
    words: tuple[str, ...]
    digits_max: int | None
    send: Sent | None = None
    for_real: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge the answer. Not `allowed`: locked, so do the same work on nothing."""

    factor: str
    allowed: bool
    sent: Sent | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Say one moment, and come back to the same question."""

    question: Question


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request to the IVR: the held one if there is one, else the one that is here."""

    held: str = field(default="", repr=False)
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Connect: the held rest of the document, with the token of `leg` in it."""

    held: str = field(repr=False)
    leg: "handoff.Leg"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say the prompt `words`, then hang up, or `dial` a human who is told nothing was verified."""

    words: str
    reason: str
    dial: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done: what came is stale, or the IVR's document goes out as it is."""


Move = Ask | Judge | Hold | Forward | Transfer | Refuse | Rest


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: the call and the books afterwards, the move, the record, and whether to warn the owner."""

    call: Call
    books: Books
    move: Move
    entries: tuple[Entry, ...] = ()
    warn: bool = False


# ── admission: again is not twice ────────────────────────────────────────────────────────────────────────


class Admission(StrEnum):
    """What a delivery is to this call."""

    FRESH = "fresh"
    REPEATED = "repeated"
    UNFINISHED = "unfinished"
    STALE = "stale"


def admit(call: Call, fingerprint: str, turn: int | None) -> Admission:
    """
    Whether this delivery is new. `turn`: the turn whose document held the URL, None for URLs not of ours.

    The last one repeated is answered as before (`call.last.answer`), or unfinished when its answer was not
    saved. Anything older that comes again is stale.
    """
    if call.last is not None and call.last.fingerprint == fingerprint:
        return Admission.REPEATED if call.last.answer else Admission.UNFINISHED
    if fingerprint in call.seen or fingerprint in call.seen_without_turn:
        return Admission.STALE
    if turn is None:
        full = len(call.seen_without_turn) >= ENTRIES_WITHOUT_TURN_MAX
        return Admission.STALE if full else Admission.FRESH
    fresh = turn <= call.turn and call.turn - turn < SEEN_MAX
    return Admission.FRESH if fresh else Admission.STALE


def remember(call: Call, fingerprint: str, turn: int | None, node: str, now_ms: int) -> Call:
    """The call, having taken this delivery: its next turn."""
    seen, without = call.seen, call.seen_without_turn
    if turn is None:
        without = (*without, fingerprint)
    else:
        seen = (*seen, fingerprint)[-SEEN_MAX:]
    last = Last(fingerprint, now_ms, node)
    return replace(call, seen=seen, seen_without_turn=without, last=last, turn=call.turn + 1)


def answered(call: Call, fingerprint: str, answer: str) -> Call:
    """The call, knowing the sealed answer to its last delivery; unchanged if another one came since."""
    if call.last is None or call.last.fingerprint != fingerprint:
        return call
    return replace(call, last=replace(call.last, answer=answer))


# ── the books ────────────────────────────────────────────────────────────────────────────────────────────


def ledger_id(account: str, kind: str, lane: str) -> str:
    """The id of the ledger of one account, kind of factor and lane."""
    return f"{account}/{kind}/{lane}"


def number_ledger_id(caller: Address) -> str | None:
    """The id of the caller number's ledger; None for a withheld number (one bucket for all would lock all)."""
    return None if caller.kind is AddressKind.ANONYMOUS else f"number/{caller.value}"


def ledger_ids(flow: Flow, call: Call) -> tuple[str, ...]:
    """Every ledger that a step of this call may read or change."""
    if not call.account:
        return ()
    every = (name for factor in flow.factors for name, _, _ in _concerned(flow, call, factor))
    return tuple(dict.fromkeys(every))


def _own_ledger_id(flow: Flow, call: Call, factor: str) -> str:
    """
    The ledger of the call's account, lane and factor, by the factor's kind: two flows that name one secret
    differently share its count, or each name would be as many guesses more.
    """
    return ledger_id(call.account, flow.factors[factor].kind, call.lane)


def _concerned(flow: Flow, call: Call, factor: str) -> tuple[tuple[str, lockout.Rule, str], ...]:
    """
    The ledgers that an attempt counts in: the id, the rule, and how the record names it.

    In a trusted lane the caller number's is not among them: whoever pretends to call from that number fills it,
    and would lock out the owner, whose guesses his lane bounds already.
    """
    own = (_own_ledger_id(flow, call, factor), flow.locks.account, _lane_name(call))
    number, rule = number_ledger_id(call.caller), flow.locks.caller_number
    if number is None or rule is None or call.lane != lockout.POOL:
        return (own,)
    return (own, (number, rule, "caller_number"))


def _reserve(
    flow: Flow, call: Call, books: Books, factor: str, attempt: str, now_ms: int
) -> tuple[Books, bool]:
    """Count the attempt in every ledger concerned, or in none: the books, and whether it may be judged."""
    after = dict(books.ledgers)
    for name, rule, _ in _concerned(flow, call, factor):
        ledger, allowed = lockout.reserve(rule, books.ledgers.get(name, lockout.Ledger()), attempt, now_ms)
        if not allowed:
            return books, False
        after[name] = ledger
    return replace(books, ledgers=after), True


def _settle(flow: Flow, call: Call, books: Books, factor: str, attempt: str, *, right: bool) -> Books:
    """Right: forgive the attempt and the failures before it in its lane. Not judged: take it back alone."""
    own, number = _own_ledger_id(flow, call, factor), number_ledger_id(call.caller)
    after = dict(books.ledgers)
    if own in after:
        after[own] = (lockout.absolve if right else lockout.withdraw)(after[own], attempt)
    if number in after:
        after[number] = lockout.withdraw(after[number], attempt)
    return replace(books, ledgers=after)


def locked(flow: Flow, call: Call, books: Books, now_ms: int) -> bool:
    """Whether any factor of the call's account is locked in the call's lane now."""
    return any(
        not isinstance(lockout.standing(flow.locks.account, books.ledgers[name], now_ms), lockout.Open)
        for factor in flow.factors
        if (name := _own_ledger_id(flow, call, factor)) in books.ledgers
    )


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────


def step(flow: Flow, call: Call, books: Books, event: Event, now_ms: int) -> Step:
    """One turn of the call. Pure: same arguments, same result."""
    match event:
        case Arrived(visit, held, nonce):
            demand, _ = decide(flow.rules, flow.default, visit)
            pending = Pending(What.REQUEST, (demand,), since_turn=call.turn, about=visit.path)
            if missing(flow, call, demand, call.turn, now_ms) != ():
                pending = replace(pending, held=held)
            call = replace(call, pending=pending, question=None)
            return _proceed(flow, call, books, nonce, now_ms, first=True)
        case Resumed(nonce):
            return _proceed(flow, call, books, nonce, now_ms, first=True)
        case Answered():
            return _answered(flow, call, books, event, now_ms)
        case Judged():
            return _judged(flow, call, books, event, now_ms)
        case Waits(held, nonce):
            return _waits(flow, call, books, held, nonce, now_ms)
        case AskedForMore():
            return _asked_for_more(flow, call, books, event, now_ms)
        case Undelivered(factor, nonce):
            sent = tuple(one for one in call.sent if one.factor != factor)
            call = replace(call, failed=(*call.failed, factor), sent=sent, question=None)
            return _proceed(flow, call, books, nonce, now_ms)
        case Replied(cut):  # pragma: no branch -- there are no other events
            return _replied(call, books, cut)


def missing(flow: Flow, call: Call, demand: Demand, since_turn: int, now_ms: int) -> tuple[str, ...] | None:
    """The factors still to be asked for, () when the demand holds now, None when it cannot be reached."""
    if demand.require is None:
        return ()
    able = frozenset(call.enrolled) - frozenset(call.failed)
    if not call.proofs:
        # Before anything is proved every account is asked alike, whatever it has enrolled (promise 6).
        able = frozenset(flow.factors) - frozenset(call.failed)
    have = proved(call.proofs, Freshness(demand.within_s), now_ms)
    steps = plan(flow.levels[demand.require], have, able)
    if steps is None or demand.reverify is None:
        return steps
    fresh = proved(call.proofs, Freshness(None, since_turn, demand.fresh_s), now_ms)
    more = plan(flow.levels[demand.reverify], fresh | frozenset(steps), able)
    return None if more is None else (*steps, *more)


def _proceed(flow: Flow, call: Call, books: Books, nonce: str, now_ms: int, *, first: bool = False) -> Step:
    """Let the pending thing go on if all its demands hold now; otherwise ask for the first thing missing."""
    pending = call.pending
    if pending is None:
        return Step(call, books, Rest())
    plans = [missing(flow, call, demand, pending.since_turn, now_ms) for demand in pending.demands]
    if all(found == () for found in plans):
        return _granted(flow, call, books, pending, nonce, now_ms)
    if not call.account:
        return _ask(flow, call, books, Question(nonce), (), now_ms, entry=first)
    if any(found is None for found in plans):
        if call.failed:
            return _refuse(call, books, "unavailable", "undeliverable", now_ms)
        return _refuse(call, books, "refused", "not_enrolled", now_ms)
    factor = next(found[0] for found in plans if found)
    return _ask(flow, call, books, Question(nonce, factor), (), now_ms, entry=first)


def _granted(flow: Flow, call: Call, books: Books, pending: Pending, nonce: str, now_ms: int) -> Step:
    intent = next((demand.intent for demand in pending.demands if demand.intent), "")
    done = replace(call, question=None, misses=0)
    if pending.what is What.REQUEST:
        entry = _entry(done, "authz_granted", now_ms, pending.what, intent=intent, path=pending.about)
        return Step(done, books, Forward(pending.held, intent), (entry,))
    leg = handoff.mint(
        flow,
        holder(done),
        leg_id=nonce,
        queues=pending.queues,
        carriers=pending.carriers,
        whispers=pending.whispers,
        intent=intent,
        now_ms=now_ms,
    )
    done = replace(done, legs=(*done.legs, leg.id))
    entry = _entry(
        done, "authn_token_created", now_ms, pending.what, intent=intent, queues=",".join(leg.queues)
    )
    return Step(done, books, Transfer(pending.held, leg), (entry,))


def _ask(
    flow: Flow,
    call: Call,
    books: Books,
    question: Question,
    preface: tuple[str, ...],
    now_ms: int,
    *,
    entry: bool = False,
    entries: tuple[Entry, ...] = (),
) -> Step:
    """Put the question, sending a code first where it needs one that was not sent yet."""
    if call.asks >= ASKS_PER_CALL_MAX:
        return _refuse(call, books, "refused", "asks", now_ms, entries)
    call = replace(call, asks=call.asks + 1, question=question)
    if entry:
        entries = (
            *entries,
            _entry(call, "authz_step_up", now_ms, question.factor or "identify", **_about(call)),
        )
    if not question.factor:
        words = "identify_or_known" if offers_number(flow, call) else "identify"
        move = Ask(question, (*preface, words), flow.identify.digits_max + 1)
        return Step(call, books, move, entries)
    factor = flow.factors[question.factor]
    send: Sent | None = None
    for_real = False
    if factor.kind is Kind.SMS_CODE and current_code(call, question.factor, now_ms) is None:
        within = tuple(at for at in books.sends if at > now_ms - factor.sends.per_account_s * 1000)
        if call.codes_sent >= factor.sends.per_call or len(within) >= factor.sends.per_account:
            return _refuse(call, books, "refused", "sends", now_ms, entries)
        send = Sent(question.nonce, question.factor, _intent(call), now_ms, factor.valid_s)
        # A locked or unknown account hears the same, but no message goes out.
        for_real = call.known and not _is_locked(flow, call, books, question.factor, now_ms)
        call = replace(call, sent=(*call.sent, send), codes_sent=call.codes_sent + 1)
        books = replace(books, sends=(*within, now_ms))
    move = Ask(question, (*preface, factor.kind.value), factor.digits, send, for_real)
    return Step(call, books, move, entries)


def holder(call: Call) -> handoff.Holder:
    """What of this call matters to a hand-over."""
    return handoff.Holder(call.sid, call.account, call.ref, call.proofs, call.ended_ms is not None, call.legs)


def current_code(call: Call, factor: str, now_ms: int) -> Sent | None:
    """The code of this factor that was sent in this call, for this intent, and is still valid."""
    for sent in reversed(call.sent):
        fits = sent.factor == factor and sent.intent == _intent(call)
        if fits and now_ms < sent.at_ms + sent.valid_s * 1000:
            return sent
    return None


def _intent(call: Call) -> str:
    demands = call.pending.demands if call.pending else ()
    return next((demand.intent for demand in demands if demand.intent), "")


def _is_locked(flow: Flow, call: Call, books: Books, factor: str, now_ms: int) -> bool:
    """Whether an answer would be judged for show: the factor is locked, or the caller's number is."""
    return any(
        not isinstance(
            lockout.standing(rule, books.ledgers.get(name, lockout.Ledger()), now_ms), lockout.Open
        )
        for name, rule, _ in _concerned(flow, call, factor)
    )


def _answered(flow: Flow, call: Call, books: Books, event: Answered, now_ms: int) -> Step:
    question = call.question
    if question is None:
        return Step(call, books, Rest())
    again = replace(question, nonce=event.nonce, counted="")
    match event.keys:
        case Keyed.NOTHING if question.silences + 1 >= flow.tries:
            return _refuse(call, books, "goodbye", "silence", now_ms)
        case Keyed.NOTHING:
            again = replace(again, silences=question.silences + 1)
            return _ask(flow, call, books, again, ("not_heard",), now_ms)
        case Keyed.REPEAT:
            return _ask(flow, call, books, again, (), now_ms)
        case Keyed.MISFIT:
            return _missed(flow, call, books, again, "mistyped", now_ms)
        case Keyed.FITTING if not question.factor:
            return _claimed(flow, call, books, event, now_ms)
        case Keyed.FITTING:  # pragma: no branch -- keys look in one of these ways
            # One delivery is one guess: the same one again counts once, another one counts for itself.
            attempt = f"{question.nonce}/{call.turn}"
            books, allowed = _reserve(flow, call, books, question.factor, attempt, now_ms)
            reason = "counted" if allowed else "locked"
            entry = _entry(
                call, "authn_attempt", now_ms, reason, factor=question.factor, lane=_lane_name(call)
            )
            call = replace(call, locked_out=not allowed, question=replace(question, counted=attempt))
            move = Judge(question.factor, allowed, current_code(call, question.factor, now_ms))
            return Step(call, books, move, (entry,))


def _claimed(flow: Flow, call: Call, books: Books, event: Answered, now_ms: int) -> Step:
    found = event.found
    if found is None:
        return _missed(flow, call, books, Question(event.nonce), "mistyped", now_ms)
    call = claim(flow, call, found)
    entry = _entry(
        call, "account_claimed", now_ms, "known" if found.known else "unknown", lane=_lane_name(call)
    )
    turn = _proceed(flow, call, books, event.nonce, now_ms)
    return replace(turn, entries=(entry, *turn.entries))


def keyed(flow: Flow, call: Call, digits: str | None) -> Keyed:
    """How the keys look to the question that is open: the only thing of them that a decision rests on."""
    question = call.question
    digits = (digits or "").removesuffix("#")
    if question is None or not digits:
        return Keyed.NOTHING
    if not digits.strip("*"):
        return Keyed.REPEAT
    if not (digits.isascii() and digits.isdigit()):
        return Keyed.MISFIT
    if question.factor:
        fits = len(digits) == flow.factors[question.factor].digits
    else:
        fits = flow.identify.digits_min <= len(digits) <= flow.identify.digits_max
        fits = fits or (digits == KNOWN_NUMBER_KEY and offers_number(flow, call))
    return Keyed.FITTING if fits else Keyed.MISFIT


def offers_number(flow: Flow, call: Call) -> bool:
    """Whether the account of the caller's number is offered: to every caller with a number, known or not."""
    return flow.identify.offer_known_number and call.caller.kind is AddressKind.PHONE


def claim(flow: Flow, call: Call, found: Found) -> Call:
    """The call, speaking for `found` from now on: whatever another account proved in it is gone."""
    trusted = found.trusted and call.attested and flow.locks.trusted_lane
    return replace(
        call,
        account=found.account,
        known=found.known,
        ref=found.ref,
        enrolled=found.enrolled,
        lane=call.caller.value if trusted and call.caller.kind is AddressKind.PHONE else lockout.POOL,
        proofs=(),
        sent=(),
        question=None,
        misses=0,
    )


def _judged(flow: Flow, call: Call, books: Books, event: Judged, now_ms: int) -> Step:
    question = call.question
    if question is None or not question.counted:  # a verdict that nobody asked for
        return Step(call, books, Rest())
    if event.right is None:
        books = _settle(flow, call, books, question.factor, question.counted, right=False)
        entry = _entry(call, "authn_attempt_withdrawn", now_ms, "fault", factor=question.factor)
        return _refuse(call, books, "unavailable", "fault", now_ms, (entry,))
    used = event.step is not None and event.step <= books.spent
    if event.right and not call.locked_out and not used:
        return _right(flow, call, books, event, question, now_ms)
    reason = "locked" if call.locked_out else ("used" if used else "wrong")
    entry = _entry(call, "authn_login_fail", now_ms, reason, factor=question.factor, lane=_lane_name(call))
    entries = (entry, *_locks(flow, call, books, question, now_ms))
    warn = bool(call.proofs) and call.known and not call.warned
    call = replace(call, warned=call.warned or warn)
    again = replace(question, nonce=event.nonce, held="", counted="")
    return replace(_missed(flow, call, books, again, "again", now_ms, entries), warn=warn)


def _locks(flow: Flow, call: Call, books: Books, question: Question, now_ms: int) -> tuple[Entry, ...]:
    """An entry for each lock that the wrong answer made, with its end: the attempt that filled a ledger tells."""
    entries: list[Entry] = []
    for name, rule, lane in _concerned(flow, call, question.factor):
        ledger = books.ledgers.get(name, lockout.Ledger())
        if not ledger.attempts or ledger.attempts[-1].id != question.counted:
            continue
        stands = lockout.standing(rule, ledger, now_ms)
        if isinstance(stands, lockout.Open):
            continue
        reason, until = "lifetime", ""
        if isinstance(stands, lockout.Locked):
            reason, until = "maxretries", str(stands.until_ms)
        facts = {"factor": question.factor, "lane": lane, "until_ms": until}
        entries.append(_entry(call, "authn_login_lock", now_ms, reason, **facts))
    return tuple(entries)


def _right(flow: Flow, call: Call, books: Books, event: Judged, question: Question, now_ms: int) -> Step:
    factor = question.factor
    books = _settle(flow, call, books, factor, question.counted, right=True)
    if event.step is not None:
        books = replace(books, spent=event.step)
    if call.caller.kind is AddressKind.PHONE:
        books = replace(books, trusted=lockout.trust(books.trusted, call.caller.value, now_ms))
    proof = Proof(factor, flow.factors[factor].kind, now_ms, call.turn)
    kept = tuple(one for one in call.proofs if one.factor != factor)
    sent = tuple(one for one in call.sent if one.factor != factor)  # a code works once
    call = replace(call, proofs=(*kept, proof), question=None, misses=0, sent=sent)
    entry = _entry(call, "authn_login_success", now_ms, "right", factor=factor, lane=_lane_name(call))
    turn = _proceed(flow, call, books, event.nonce, now_ms)
    return replace(turn, entries=(entry, *turn.entries))


def _missed(
    flow: Flow,
    call: Call,
    books: Books,
    again: Question,
    preface: str,
    now_ms: int,
    entries: tuple[Entry, ...] = (),
) -> Step:
    """An answer that was not accepted: ask again, or refuse after the flow's tries."""
    call = replace(call, misses=call.misses + 1)
    if call.misses >= flow.tries:
        dial = flow.locks.on_locked_dial if call.locked_out else None
        return _refuse(call, books, "refused", "tries", now_ms, entries, dial)
    return _ask(flow, call, books, again, (preface,), now_ms, entries=entries)


def _waits(flow: Flow, call: Call, books: Books, held: str, nonce: str, now_ms: int) -> Step:
    question = call.question
    if question is None or not question.counted:
        return Step(call, books, Rest())
    books = _settle(flow, call, books, question.factor, question.counted, right=False)
    entry = _entry(call, "authn_attempt_withdrawn", now_ms, "busy", factor=question.factor)
    waiting = replace(question, nonce=nonce, held=held, holds=question.holds + 1, counted="")
    if waiting.holds > HOLDS_MAX:
        return _refuse(call, books, "unavailable", "busy", now_ms, (entry,))
    return Step(replace(call, question=waiting), books, Hold(waiting), (entry,))


def _asked_for_more(flow: Flow, call: Call, books: Books, event: AskedForMore, now_ms: int) -> Step:
    """RFC 9470: take the first level named that this flow has; ask; the request is then repeated."""
    level = next((name for name in event.acr_values if name in flow.levels), None)
    asked = call.pending.asked + 1 if call.pending else 1
    if level is None or asked > IVR_CHALLENGES_MAX:
        reason = "acr_unknown" if level is None else "acr_loop"
        return _refuse(call, books, "unavailable", reason, now_ms)
    demand = Demand(level)
    if event.max_age_s is not None:  # proofs made for this request count, however long the questions took
        demand = Demand(level, reverify=level, fresh_s=event.max_age_s)
    demands = (*(call.pending.demands if call.pending else ()), demand)
    about = call.pending.about if call.pending else ""
    pending = Pending(What.REQUEST, demands, event.held, since_turn=call.turn, about=about, asked=asked)
    return _proceed(flow, replace(call, pending=pending), books, event.nonce, now_ms, first=True)


def _replied(call: Call, books: Books, cut: Cut | None) -> Step:
    """The document goes out; its first protected transfer waits behind a redirect to the guard."""
    if cut is None:
        return Step(replace(call, pending=None), books, Rest())
    pending = Pending(
        What.TRANSFER,
        cut.demands,
        cut.held,
        call.turn + 1,
        cut.nonce,
        cut.queues,
        cut.carriers,
        cut.whispers,
    )
    return Step(replace(call, pending=pending), books, Rest())


def _refuse(
    call: Call,
    books: Books,
    words: str,
    reason: str,
    now_ms: int,
    entries: tuple[Entry, ...] = (),
    dial: str | None = None,
) -> Step:
    entry = _entry(call, "authz_fail", now_ms, reason, **_about(call))
    over = replace(call, question=None, pending=None)
    return Step(over, books, Refuse(words, reason, dial), (*entries, entry))


def _about(call: Call) -> dict[str, str]:
    """What the pending thing is, for the record."""
    pending = call.pending
    return {"path": pending.about, "queues": ",".join(pending.queues)} if pending else {}


def _lane_name(call: Call) -> str:
    """Pool or trusted: the number itself stays out of the record."""
    return "pool" if call.lane == lockout.POOL else "trusted"


def _entry(call: Call, event: str, now_ms: int, reason: str, **detail: str) -> Entry:
    facts = tuple((name, value) for name, value in detail.items() if value)
    return Entry(now_ms, event, call.sid, call.ref, reason, facts)
