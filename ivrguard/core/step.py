"""
One turn of a call: what happened, what the guard does next. Every change of a call's state is made here.

The laws of this file:

1. `step(flow, call, books, event, now)` is pure: it returns the next call, one move, and the entries that go
   on record with it.
2. Nothing is forwarded, no protected transfer is connected and no PIN is changed unless every demand holds at that
   moment: `Forward`, `Transfer` and the question for a new PIN come out of `_proceed` and nowhere else, and a PIN's
   demands are looked at once more when it is changed.
3. A guess is counted before it is judged (`lockout.reserve`, in the same act as the move `Judge`); locked and
   unknown accounts get the same questions, the same words and the same work.
4. Until something is proved nothing that is said depends on the account: not its factors, not its language, not
   whether a code could be sent (promise 6).

A webhook needs at most three turns: an event, the move's outcome, and once more.
"""

from ivrguard.core import aside, conference, handoff, lockout
from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.audit import Entry
from ivrguard.core.bypass import led_to
from ivrguard.core.call import (
    About,
    Answered,
    Arrived,
    Ask,
    AskedForMore,
    Books,
    Call,
    CameBack,
    ChangePin,
    Cut,
    Event,
    Forward,
    GoOn,
    Hold,
    Judge,
    Judged,
    Keyed,
    Pausing,
    Pending,
    PinChanged,
    Question,
    Recorded,
    Refuse,
    Replied,
    Rest,
    Resumed,
    Sent,
    Step,
    Strayed,
    Transfer,
    Undelivered,
    Waits,
    What,
    claim,
    current_code,
    holder,
    intent_of,
    lane_name,
    offered_languages,
    offers_number,
    pin_factor,
)
from ivrguard.core.caller import AddressKind
from ivrguard.core.counting import count_send, entry_of, is_locked, locks_made, reserve, sending, settle
from ivrguard.core.demands import asked_of, may_decline, missing
from ivrguard.core.flow import Factor, Flow, Via
from ivrguard.core.rules import Demand
from ivrguard.core.values import replace

ASKS_PER_CALL_MAX = 40
"""Questions in one call; a caller who needs more is not getting anywhere."""

HOLDS_MAX = 10
"""How often one answer may wait for a free hash thread before the caller is asked to call later."""

IVR_CHALLENGES_MAX = 2
"""How often the IVR may ask for more (RFC 9470) for one request before it is a loop."""


def step(flow: Flow, call: Call, books: Books, event: Event, now_ms: int) -> Step:
    """One turn of the call. Pure: same arguments, same result."""
    match event:
        case Arrived(visit, held, nonce, again):
            what, demand = asked_of(flow, visit)
            pending = Pending(what, (demand,), since_turn=call.turn, about=visit.path)
            if what is What.REQUEST and missing(flow, call, demand, call.turn, now_ms) != ():
                pending = replace(pending, held=held)
            call, entries = aside.left(replace(call, pending=pending, question=None), now_ms)
            turn = _proceed(flow, call, books, nonce, now_ms, first=True, again=again)
            return replace(turn, entries=(*entries, *turn.entries)) if entries else turn
        case Resumed(nonce, again):
            if call.bridge is not None:
                call = replace(call, bridge=conference.arrived(call.bridge, now_ms))
            return _proceed(flow, call, books, nonce, now_ms, first=True, again=again)
        case Answered():
            return _answered(flow, call, books, event, now_ms)
        case Judged():
            return _judged(flow, call, books, event, now_ms)
        case Waits(held, nonce):
            return _waits(flow, call, books, held, nonce, now_ms)
        case AskedForMore():
            return _asked_for_more(flow, call, books, event, now_ms)
        case Undelivered(factor, nonce, why):
            entry = entry_of(call, "authn_code_undelivered", now_ms, why, factor=factor)
            return _instead(flow, call, books, factor, nonce, now_ms, (entry,))
        case Pausing(recordings):
            paused = tuple(dict.fromkeys((*call.paused, *recordings)))
            return Step(replace(call, paused=paused), books, Rest())
        case Recorded():
            return _refuse(call, books, "unavailable", "recorded", now_ms)
        case PinChanged():
            return _pin_changed(flow, call, books, event, now_ms)
        case CameBack():
            return aside.came_back(call, books, now_ms)
        case Strayed():
            return aside.rejoined(call, books, now_ms)
        case Replied(cut, resumed, unguarded, bridge):  # pragma: no branch -- there are no other events
            connected = led_to(call, unguarded)
            call = replace(
                call, paused=() if resumed else call.paused, unguarded=unguarded, connected=connected
            )
            call, entries = aside.entered(call, bridge, now_ms)
            return replace(_replied(call, books, cut), entries=entries)


def _proceed(
    flow: Flow,
    call: Call,
    books: Books,
    nonce: str,
    now_ms: int,
    *,
    first: bool = False,
    again: bool = False,
) -> Step:
    """Let the pending thing go on if all its demands hold now; otherwise ask for the first thing missing."""
    pending = call.pending
    if pending is None:
        return Step(call, books, Rest())
    plans = [missing(flow, call, demand, pending.since_turn, now_ms) for demand in pending.demands]
    if all(found == () for found in plans):
        return _granted(flow, call, books, pending, nonce, now_ms, again=again)
    if not call.account:
        return _ask(flow, call, books, Question(nonce), (), now_ms, entry=first)
    if any(found is None for found in plans):
        if call.failed:
            return _refuse(call, books, "unavailable", "undeliverable", now_ms)
        return _refuse(call, books, "refused", "not_enrolled", now_ms)
    factor = next(found[0] for found in plans if found)
    return _ask(flow, call, books, Question(nonce, factor), (), now_ms, entry=first)


def _instead(
    flow: Flow, call: Call, books: Books, factor: str, nonce: str, now_ms: int, entries: tuple[Entry, ...]
) -> Step:
    """Go on without `factor`, which cannot be had in this call: with another one, or with an apology."""
    sent = tuple(one for one in call.sent if one.factor != factor)
    call = replace(call, failed=(*call.failed, factor), sent=sent, question=None)
    turn = _proceed(flow, call, books, nonce, now_ms)
    return replace(turn, entries=(*entries, *turn.entries))


def _granted(
    flow: Flow, call: Call, books: Books, pending: Pending, nonce: str, now_ms: int, *, again: bool
) -> Step:
    intent = next((demand.intent for demand in pending.demands if demand.intent), "")
    done = replace(call, question=None, misses=0, declined=())
    if pending.what is What.PIN_CHANGE:
        entry = entry_of(done, "authz_granted", now_ms, pending.what, intent=intent, path=pending.about)
        return _ask(flow, done, books, Question(nonce, about=About.NEW_PIN), (), now_ms, entries=(entry,))
    if pending.what is What.ASIDE:
        return aside.over(done, books, "right", now_ms)
    if pending.what is What.REQUEST:
        facts = {"intent": intent, "path": pending.about, "again": "yes" * again}
        entry = entry_of(done, "authz_granted", now_ms, pending.what, **facts)
        return Step(done, books, Forward(pending.held, intent), (entry,))
    leg = handoff.mint(
        flow,
        holder(done),
        leg_id=pending.nonce,  # one transfer, one token, however often its webhook comes
        queues=pending.queues,
        carriers=pending.carriers,
        whispers=pending.whispers,
        intent=intent,
        now_ms=now_ms,
    )
    done = replace(done, legs=tuple(dict.fromkeys((*done.legs, leg.id))))
    anew = "yes" * (again and leg.id in call.legs)
    facts = {"intent": intent, "queues": ",".join(leg.queues), "again": anew}
    entry = entry_of(done, "authn_token_created", now_ms, pending.what, **facts)
    bridge = any(demand.bridge for demand in pending.demands)
    return Step(done, books, Transfer(pending.held, leg, bridge), (entry,))


def _ask(
    flow: Flow,
    call: Call,
    books: Books,
    question: Question,
    preface: tuple[str, ...],
    now_ms: int,
    *,
    entry: bool = False,
    whole: bool = False,
    afresh: bool = False,
    entries: tuple[Entry, ...] = (),
) -> Step:
    """Put the question; `whole`: in full, although he has heard it before; `afresh`: with another code."""
    if call.asks >= ASKS_PER_CALL_MAX:
        return _refuse(call, books, "refused", "asks", now_ms, entries)
    call = replace(call, asks=call.asks + 1, question=question)
    if entry:
        name = question.factor or "identify"
        entries = (*entries, entry_of(call, "authz_step_up", now_ms, name, **_about(call)))
    if question.factor:
        return _ask_factor(
            flow, call, books, question, preface, now_ms, whole=whole, afresh=afresh, entries=entries
        )
    if question.about is not About.ACCOUNT:
        words = (*preface, question.about.value)
        return Step(call, books, Ask(question, words, pin_factor(flow).digits), entries)
    said = "identify_or_known" if offers_number(flow, call) else "identify"
    languages = ("choose_language",) if offered_languages(flow, call) else ()
    words = (*preface, _worded(call, said, whole=whole), *languages)
    return Step(_heard(call, said), books, Ask(question, words, flow.identify.digits_max + 1), entries)


def _ask_factor(
    flow: Flow,
    call: Call,
    books: Books,
    question: Question,
    preface: tuple[str, ...],
    now_ms: int,
    *,
    whole: bool,
    afresh: bool,
    entries: tuple[Entry, ...],
) -> Step:
    """Ask for a factor, sending a code first where none lives, or he wants another one (`afresh`)."""
    factor, name = flow.factors[question.factor], question.factor
    said, heard_before = factor.kind.value, factor.kind.value in call.heard
    send, for_real = None, False
    live = current_code(call, name, now_ms)
    if factor.kind is Kind.SMS_CODE and (afresh or live is None):
        after, spent = count_send(flow, call, books, now_ms)
        spent = "call" if call.codes_sent >= factor.sends.per_call else spent
        if spent in {"number", "prefix"} and not call.proofs:
            after = books  # law 4: he hears the same, and nothing goes out
        elif spent and live is None:
            return _out_of_codes(flow, call, books, question, now_ms, entries)
        if live is None or not spent:
            send = _code(flow, question, live, intent_of(call), now_ms)
            locked = is_locked(flow, call, books, name, now_ms)
            for_real = call.known and not locked and not spent
            kept = tuple(one for one in call.sent if _outlives(factor, one, send))
            call = replace(call, sent=(*kept, send), codes_sent=call.codes_sent + 1)
            books = after
            entries = (*entries, sending(call, factor, send, now_ms, for_real=for_real))
    offers = _offers(flow, call, name, now_ms) if heard_before else ()
    words = (*preface, _worded(call, said, whole=whole or send is not None), *offers)
    return Step(_heard(call, said), books, Ask(question, words, factor.digits, send, for_real), entries)


def _worded(call: Call, said: str, *, whole: bool) -> str:
    """The prompt of a question: short for who has heard it in this call."""
    return said if whole or said not in call.heard else f"{said}.short"


def _heard(call: Call, said: str) -> Call:
    return call if said in call.heard else replace(call, heard=(*call.heard, said))


def _offers(flow: Flow, call: Call, factor: str, now_ms: int) -> tuple[str, ...]:
    """What a caller may key instead of an answer: told from the second time on, taken from the first."""
    of = flow.factors[factor]
    another = of.kind is Kind.SMS_CODE and call.codes_sent < of.sends.per_call
    told = (("another_code", another), ("other_factor", may_decline(flow, call, factor, now_ms)))
    return tuple(name for name, possible in told if possible)


def _code(flow: Flow, question: Question, live: Sent | None, intent: str, now_ms: int) -> Sent:
    """The code of this question. Verify sends the live one again, which grows no younger by that."""
    factor = flow.factors[question.factor]
    again = live is not None
    at_ms = live.at_ms if live is not None and factor.via is Via.VERIFY else now_ms
    return Sent(question.nonce, question.factor, intent, at_ms, factor.valid_s, again)


def _outlives(factor: Factor, sent: Sent, new: Sent) -> bool:
    """Whether a code still lives once another one is sent: Verify knows one a number, we one an intent."""
    return sent.factor != new.factor or (factor.via is Via.MESSAGES and sent.intent != new.intent)


def _out_of_codes(
    flow: Flow, call: Call, books: Books, question: Question, now_ms: int, entries: tuple[Entry, ...]
) -> Step:
    """No code may be sent any more: another factor, or it ends here."""
    factor, nonce = question.factor, question.nonce
    if not may_decline(flow, call, factor, now_ms):
        return _refuse(call, books, "refused", "sends", now_ms, entries)
    entry = entry_of(call, "excess_rate_limit_exceeded", now_ms, "sends", factor=factor)
    return _instead(flow, call, books, factor, nonce, now_ms, (*entries, entry))


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
            return _ask(flow, call, books, again, (), now_ms, whole=True)
        case Keyed.LANGUAGE:
            return _ask(flow, replace(call, language=event.language), books, again, (), now_ms, whole=True)
        case Keyed.ANOTHER_CODE:
            return _ask(flow, call, books, again, (), now_ms, afresh=True)
        case Keyed.OTHER_FACTOR if may_decline(flow, call, question.factor, now_ms):
            call = replace(call, declined=(*call.declined, question.factor), question=None)
            return _proceed(flow, call, books, event.nonce, now_ms)
        case Keyed.MISFIT | Keyed.OTHER_FACTOR:
            return _missed(flow, call, books, again, "mistyped", now_ms)
        case Keyed.FITTING if question.about is not About.ACCOUNT:
            return _new_pin(flow, call, books, event, now_ms)
        case Keyed.FITTING if not question.factor:
            return _claimed(flow, call, books, event, now_ms)
        case Keyed.FITTING:  # pragma: no branch -- keys look in one of these ways
            # One delivery is one guess: the same one again counts once, another one counts for itself. An agent who passes
            # the caller on meanwhile makes a turn of his own, and no other guess.
            turn = call.last.turn if call.last is not None and call.last.turn else call.turn
            attempt = f"{question.nonce}/{turn}"
            books, allowed = reserve(flow, call, books, question.factor, attempt, now_ms)
            reason, lane = "counted" if allowed else "locked", lane_name(call)
            lost = "yes" * (question.counted == attempt)  # counted before, and its verdict was lost
            facts = {"factor": question.factor, "lane": lane, "again": lost}
            entry = entry_of(call, "authn_attempt", now_ms, reason, **facts)
            call = replace(call, locked_out=not allowed, question=replace(question, counted=attempt))
            move = Judge(question.factor, allowed, current_code(call, question.factor, now_ms))
            return Step(call, books, move, (entry,))


def _new_pin(flow: Flow, call: Call, books: Books, event: Answered, now_ms: int) -> Step:
    """A new PIN was keyed: it is wanted twice, and the demands must still hold when it is taken."""
    question, pending = call.question, call.pending
    assert question is not None
    if question.about is About.NEW_PIN:
        again = Question(event.nonce, about=About.NEW_PIN_AGAIN, chosen=event.held)
        return _ask(flow, call, books, again, (), now_ms)
    if not event.same:
        return _missed(
            flow, call, books, Question(event.nonce, about=About.NEW_PIN), "new_pin_differs", now_ms
        )
    demands = pending.demands if pending is not None else ()
    since_turn = pending.since_turn if pending is not None else 0
    if all(missing(flow, call, demand, since_turn, now_ms) == () for demand in demands):
        return Step(call, books, ChangePin())
    return _proceed(flow, replace(call, question=None), books, event.nonce, now_ms)


def _pin_changed(flow: Flow, call: Call, books: Books, event: PinChanged, now_ms: int) -> Step:
    """
    The owner is told of the change (NIST SP 800-63B-4, 4.6: of every change, with what to do about it), and of one that
    nobody can tell whether it came about.
    """
    if call.question is None or flow.pin_change is None:
        return Step(call, books, Rest())
    if event.changed is None:
        unknown = event.out_of_sight
        name = "authn_password_change_unconfirmed" if unknown else "authn_password_change_fail"
        entry = entry_of(call, name, now_ms, "fault")
        refused = _refuse(call, books, "unavailable", "fault", now_ms, (entry,))
        return replace(refused, tell="sms_pin_changed" if unknown else "")
    if not event.changed:
        entry = entry_of(call, "authn_password_change_fail", now_ms, "weak")
        again = Question(event.nonce, about=About.NEW_PIN)
        return _missed(flow, call, books, again, "new_pin_weak", now_ms, (entry,))
    changed = entry_of(call, "authn_password_change", now_ms, "by_phone")
    told = entry_of(call, "owner_notified", now_ms, "sms_pin_changed")
    call = replace(call, question=None, pending=None, misses=0)
    return Step(
        call, books, GoOn("pin_changed", flow.pin_change.then), (changed, told), tell="sms_pin_changed"
    )


def _claimed(flow: Flow, call: Call, books: Books, event: Answered, now_ms: int) -> Step:
    found = event.found
    if found is None:
        return _missed(flow, call, books, Question(event.nonce), "mistyped", now_ms)
    call = claim(flow, call, found)
    known, notes = "known" if found.known else "unknown", ",".join(call.notes)
    entry = entry_of(call, "account_claimed", now_ms, known, lane=lane_name(call), notes=notes)
    turn = _proceed(flow, call, books, event.nonce, now_ms)
    return replace(turn, entries=(entry, *turn.entries))


def _judged(flow: Flow, call: Call, books: Books, event: Judged, now_ms: int) -> Step:
    question = call.question
    if question is None or not question.counted:  # a verdict that nobody asked for
        return Step(call, books, Rest())
    if event.right is None:
        return _unjudged(flow, call, books, event, question, now_ms)
    used = event.step is not None and event.step <= books.spent
    if event.right and not call.locked_out and not used:
        return _right(flow, call, books, event, question, now_ms)
    reason = "locked" if call.locked_out else ("used" if used else "wrong")
    entry = entry_of(call, "authn_login_fail", now_ms, reason, factor=question.factor, lane=lane_name(call))
    entries = (entry, *locks_made(flow, call, books, question.factor, question.counted, now_ms))
    warn = bool(call.proofs) and call.known and not call.warned
    if warn:
        entries = (*entries, entry_of(call, "owner_notified", now_ms, "sms_warning", factor=question.factor))
    call = replace(call, warned=call.warned or warn)
    again = replace(question, nonce=event.nonce, held="", counted="")
    turn = _missed(flow, call, books, again, "again", now_ms, entries)
    return replace(turn, tell="sms_warning" if warn else "")


def _unjudged(flow: Flow, call: Call, books: Books, event: Judged, question: Question, now_ms: int) -> Step:
    """
    A fault: nobody knows whether the answer was right.

    The attempt is taken back only if the answer was surely not looked at. For a code there may be another factor.
    """
    factor, event_name = question.factor, "authn_attempt_unjudged"
    if not event.out_of_sight:
        books = settle(flow, call, books, factor, question.counted, right=False)
        event_name = "authn_attempt_withdrawn"
    entry = entry_of(call, event_name, now_ms, "fault", factor=factor)
    if flow.factors[factor].kind is Kind.SMS_CODE:
        return _instead(flow, call, books, factor, event.nonce, now_ms, (entry,))
    return _refuse(call, books, "unavailable", "fault", now_ms, (entry,))


def _right(flow: Flow, call: Call, books: Books, event: Judged, question: Question, now_ms: int) -> Step:
    factor = question.factor
    books = settle(flow, call, books, factor, question.counted, right=True)
    if event.step is not None:
        books = replace(books, spent=event.step)
    if call.caller.kind is AddressKind.PHONE:
        books = replace(books, trusted=lockout.trust(books.trusted, call.caller.value, now_ms))
    kind = flow.factors[factor].kind
    intent = (
        intent_of(call) if kind is Kind.SMS_CODE else ""
    )  # the code was one for this intent, or it was wrong
    proof = Proof(factor, kind, now_ms, call.turn, intent)
    kept = tuple(one for one in call.proofs if one.factor != factor)
    sent = tuple(one for one in call.sent if one.factor != factor)  # a code works once
    call = replace(call, proofs=(*kept, proof), question=None, misses=0, sent=sent)
    entry = entry_of(call, "authn_login_success", now_ms, "right", factor=factor, lane=lane_name(call))
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
    books = settle(flow, call, books, question.factor, question.counted, right=False)
    entry = entry_of(call, "authn_attempt_withdrawn", now_ms, "busy", factor=question.factor)
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
    if call.pending is not None and call.pending.what is What.ASIDE:
        return aside.over(call, books, reason, now_ms, entries)
    entry = entry_of(call, "authz_fail", now_ms, reason, **_about(call))
    unguarded = (f"number:{dial}",) if dial else ()
    connected = led_to(call, unguarded)
    over = replace(call, question=None, pending=None, unguarded=unguarded, connected=connected)
    return Step(over, books, Refuse(words, reason, dial), (*entries, entry))


def _about(call: Call) -> dict[str, str]:
    """What the pending thing is, for the record."""
    pending = call.pending
    return {"path": pending.about, "queues": ",".join(pending.queues)} if pending else {}
