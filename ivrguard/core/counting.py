"""
Guesses and codes of a call, counted before anything is judged or sent.

The laws of this file:

1. One attempt is counted in every ledger concerned, or in none; whoever answers, and by whatever way, it is the same count.
2. A code that goes out is counted in every limit, or in none, and gives no guess more.
3. What the record says of an attempt, a lock and a code is said here, in the same words for every way.
"""

from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core.audit import Entry
from ivrguard.core.call import Books, Call, Sent
from ivrguard.core.flow import Factor, Flow
from ivrguard.core.values import replace


def reserve(
    flow: Flow, call: Call, books: Books, factor: str, attempt: str, now_ms: int
) -> tuple[Books, bool]:
    """Count the attempt in every ledger concerned, or in none: the books, and whether it may be judged."""
    after = dict(books.ledgers)
    for name, rule, _ in calls.concerned(flow, call, factor):
        ledger, allowed = lockout.reserve(rule, books.ledgers.get(name, lockout.Ledger()), attempt, now_ms)
        if not allowed:
            return books, False
        after[name] = ledger
    return replace(books, ledgers=after), True


def settle(flow: Flow, call: Call, books: Books, factor: str, attempt: str, *, right: bool) -> Books:
    """Right: forgive the attempt and the failures before it in its lane. Not judged: take it back alone."""
    own, number = calls.own_ledger_id(flow, call, factor), calls.number_ledger_id(call.caller)
    after = dict(books.ledgers)
    if own in after:
        after[own] = (lockout.absolve if right else lockout.withdraw)(after[own], attempt)
    if number in after:
        after[number] = lockout.withdraw(after[number], attempt)
    return replace(books, ledgers=after)


def is_locked(flow: Flow, call: Call, books: Books, factor: str, now_ms: int) -> bool:
    """Whether an answer would be judged for show: the factor is locked, or the caller's number is."""
    return any(
        not isinstance(
            lockout.standing(rule, books.ledgers.get(name, lockout.Ledger()), now_ms), lockout.Open
        )
        for name, rule, _ in calls.concerned(flow, call, factor)
    )


def locks_made(
    flow: Flow, call: Call, books: Books, factor: str, attempt: str, now_ms: int
) -> tuple[Entry, ...]:
    """An entry for each lock that this wrong answer made, with its end: the attempt that filled a ledger tells."""
    entries: list[Entry] = []
    for name, rule, lane in calls.concerned(flow, call, factor):
        ledger = books.ledgers.get(name, lockout.Ledger())
        if not ledger.attempts or ledger.attempts[-1].id != attempt:
            continue
        stands = lockout.standing(rule, ledger, now_ms)
        if isinstance(stands, lockout.Open):
            continue
        reason, until = "lifetime", ""
        if isinstance(stands, lockout.Locked):
            reason, until = "maxretries", str(stands.until_ms)
        facts = {"factor": factor, "lane": lane, "until_ms": until}
        entries.append(entry_of(call, "authn_login_lock", now_ms, reason, **facts))
    return tuple(entries)


def count_send(flow: Flow, call: Call, books: Books, now_ms: int) -> tuple[Books, str]:
    """One more code: the books with it, or as they are, and what is spent: `account`, `number`, `prefix`, or ""."""
    after = dict(books.sends)
    limits = zip(("account", "number", "prefix"), calls.send_limits(flow, call), strict=True)
    for spent, (name, count, within_s) in limits:
        times = tuple(at for at in books.sends.get(name, ()) if at > now_ms - within_s * 1000)
        if len(times) >= count:
            return books, spent
        after[name] = (*times, now_ms)
    return replace(books, sends=after), ""


def sending(call: Call, factor: Factor, send: Sent, now_ms: int, *, for_real: bool) -> Entry:
    """A code goes out, again or for show; one that did not get far has an entry of its own behind it."""
    reason = ("again" if send.again else "new") if for_real else "for_show"
    facts = {"factor": send.factor, "via": factor.via, "intent": send.intent, "agent": send.asked_by}
    return entry_of(call, "authn_code_sent", now_ms, reason, **facts)


def entry_of(call: Call, event: str, now_ms: int, reason: str, **detail: str) -> Entry:
    """An entry about a call; what is empty is left out."""
    facts = tuple((name, value) for name, value in detail.items() if value)
    return Entry(now_ms, event, call.sid, call.ref, reason, facts)
