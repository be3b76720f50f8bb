"""
The lockout rule, all of it.

1. **Count, then judge, then forgive.** `reserve` counts an attempt as a failure before anybody looks at the
   secret; a crash in between leaves it counted. Right: `absolve`. Wrong: nothing more to do.
2. A ledger is kept per (account, factor, lane) and per caller number. Keys are canonical and never empty;
   unknown accounts are counted like known ones. An account has a bounded number of lanes (`trust`), so that the
   guesses of all of them together are a fixed number too.
3. `failures` attempts within `within_s` lock the ledger for `lock_s[0]`; each further lock lasts the next
   entry, the last one repeats; a success steps back down. Attempts during the lock are not judged, not
   counted and do not extend it.
4. `lifetime` failures in a row, whatever the time between them, disable the factor in that lane (NIST SP
   800-63B-4, 3.2.2: at most 100; here per lane, see docs/decisions.md) until an admin enrols it anew.
5. The lock is derived from the ledger (`standing`), never stored.
6. A new code is not new guesses: codes are counted in the same ledger (800-63B-4, 3.1.3).

An attempt has an id. The same id reserved again (a webhook repeated) is the same attempt and counts once.
A clock that jumps back never shortens a lock: a ledger's time does not run backwards.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

POOL = "pool"
"""The lane of everyone who is not trusted: strangers share it, and lock only each other out."""

TRUSTED_NUMBERS_MAX = 5
"""Numbers with a lane of their own, per account: whoever has one secret could else buy a lane with every SIM."""

TRUST_KEPT_S = 400 * 24 * 3600
"""A number that did not answer right for so long is a stranger's again: numbers change hands."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """A number that answered right on an account, and when it last did (ms since the epoch)."""

    number: str
    at_ms: int


def trusts(numbers: tuple[Trusted, ...], number: str, now_ms: int) -> bool:
    """Whether `number` answered right on this account before, and not too long ago."""
    return any(one.number == number for one in _lasting(numbers, now_ms))


def trust(numbers: tuple[Trusted, ...], number: str, now_ms: int) -> tuple[Trusted, ...]:
    """The trusted numbers once `number` answered right: it is renewed, or added while there is room."""
    lasting = _lasting(numbers, now_ms)
    others = tuple(one for one in lasting if one.number != number)
    full = len(others) == len(lasting) >= TRUSTED_NUMBERS_MAX
    return others if full else (*others, Trusted(number, now_ms))


def _lasting(numbers: tuple[Trusted, ...], now_ms: int) -> tuple[Trusted, ...]:
    return tuple(one for one in numbers if now_ms - one.at_ms < TRUST_KEPT_S * 1000)


@dataclass(frozen=True, slots=True)
class Rule:
    """How many failures, within how many seconds, lock for how many seconds; 0 lifetime: no limit."""

    failures: int
    within_s: int
    lock_s: tuple[int, ...]
    lifetime: int = 0

    def horizon_s(self) -> int:
        """After so many seconds without an attempt nothing but `run` and `steps` of a ledger matters."""
        return self.within_s + max(self.lock_s)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One guess that was allowed to be judged: its id and when (ms since the epoch)."""

    id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    What has been tried: `attempts` since the last success or lock (never more than the rule's `failures`),
    `steps` locks served so far, `run` failures in a row that no time clears.
    """

    attempts: tuple[Attempt, ...] = ()
    steps: int = 0
    run: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Guesses may be judged; `left` before the next lock."""

    left: int


@dataclass(frozen=True, slots=True)
class Locked:
    """Nothing is judged until `until_ms`."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Disabled:
    """Nothing is judged until the factor is enrolled anew."""


Standing = Open | Locked | Disabled


def _within(rule: Rule, ledger: Ledger, now_ms: int) -> tuple[Attempt, ...]:
    """The attempts that still count: the window ends at the last attempt once that one filled it."""
    return tuple(entry for entry in ledger.attempts if entry.at_ms > now_ms - rule.within_s * 1000)


def _full(rule: Rule, ledger: Ledger) -> bool:
    """Whether the last attempt was the one that locks."""
    if not ledger.attempts:
        return False
    return len(_within(rule, ledger, ledger.attempts[-1].at_ms)) >= rule.failures


def standing(rule: Rule, ledger: Ledger, now_ms: int) -> Standing:
    """How the ledger stands at `now_ms`: open, locked until, or disabled. Derived, never stored."""
    if rule.lifetime and ledger.run >= rule.lifetime:
        return Disabled()
    if _full(rule, ledger):
        lock_s = rule.lock_s[min(ledger.steps, len(rule.lock_s) - 1)]
        until_ms = ledger.attempts[-1].at_ms + lock_s * 1000
        return Locked(until_ms) if now_ms < until_ms else Open(rule.failures)
    return Open(rule.failures - len(_within(rule, ledger, now_ms)))


def reserve(rule: Rule, ledger: Ledger, attempt_id: str, now_ms: int) -> tuple[Ledger, bool]:
    """
    Count an attempt as a failure before it is judged: the new ledger, and whether it may be judged at all.

    Reserving an id that is reserved already changes nothing and allows it again. When locked or disabled
    the ledger stays as it is.
    """
    if any(entry.id == attempt_id for entry in ledger.attempts):
        return ledger, True
    if not isinstance(standing(rule, ledger, now_ms), Open):
        return ledger, False
    if ledger.attempts:
        now_ms = max(now_ms, ledger.attempts[-1].at_ms)
    if _full(rule, ledger):  # a lock that was served: the next one is longer
        ledger = replace(ledger, attempts=(), steps=ledger.steps + 1)
    kept = (*_within(rule, ledger, now_ms), Attempt(attempt_id, now_ms))
    return replace(ledger, attempts=kept, run=ledger.run + 1), True


def absolve(ledger: Ledger, attempt_id: str) -> Ledger:
    """
    The attempt was right: it and the failures before it are forgiven, and the locks step back down.

    Attempts reserved after it stay: they are still to be judged, or were wrong. An id that the ledger does
    not hold (forgiven already, by a success that came after it) changes nothing.
    """
    ids = [entry.id for entry in ledger.attempts]
    if attempt_id not in ids:
        return ledger
    later = ledger.attempts[ids.index(attempt_id) + 1 :]
    return Ledger(attempts=later, steps=max(0, ledger.steps - 1), run=len(later))


def withdraw(ledger: Ledger, attempt_id: str) -> Ledger:
    """
    The attempt was not a guess after all, or no failure of this ledger: it alone is taken back.

    For a fault before the secret was looked at (nothing was learnt), and for the caller number's ledger,
    where one right answer must not buy a guesser forgiveness for the wrong ones.
    """
    kept = tuple(entry for entry in ledger.attempts if entry.id != attempt_id)
    gone = len(ledger.attempts) - len(kept)
    return replace(ledger, attempts=kept, run=ledger.run - gone)


def enrolled_anew(rule: Rule, ledger: Ledger, now_ms: int) -> Ledger:
    """
    The secret was replaced: failures in a row were at the old one, and begin anew (NIST SP 800-63B-4, 3.2.2, counts
    them for one authenticator), so a factor that they had disabled is open.

    A lock that time ends stays, and so do the attempts within the window: whoever has a secret replaced gets not one
    guess more in an hour.
    """
    disabled = isinstance(standing(rule, ledger, now_ms), Disabled)
    attempts = () if disabled else ledger.attempts
    return replace(ledger, attempts=attempts, run=len(attempts))


UNLOCK_REQUEST_VALID_S = 24 * 3600
"""How long one person's request waits for the second."""


@dataclass(frozen=True, slots=True)
class UnlockRequest:
    """One person wants a disabled factor back; a second one must agree."""

    by: str
    reason: str
    at_ms: int


class Unlocked(StrEnum):
    """What an unlock came to."""

    NOT_LOCKED = "not_locked"
    UNLOCKED = "unlocked"
    NEEDS_SECOND = "needs_second_person"


def unlock(
    rule: Rule, ledger: Ledger, waiting: UnlockRequest | None, asked: UnlockRequest
) -> tuple[Ledger, UnlockRequest | None, Unlocked]:
    """
    Take a lock away: the ledger, who still waits for a second person, and what came of it.

    Idempotent: an open ledger stays as it is. One person ends a lock that time would end anyway (the count in
    a row and the steps stay). What time never ends, the lifetime limit, takes two different people.
    """
    match standing(rule, ledger, asked.at_ms):
        case Open():
            return ledger, None, Unlocked.NOT_LOCKED
        case Locked():
            return replace(ledger, attempts=()), None, Unlocked.UNLOCKED
        case Disabled():  # pragma: no branch -- a standing is one of these three
            live = waiting is not None and asked.at_ms - waiting.at_ms < UNLOCK_REQUEST_VALID_S * 1000
            if waiting is None or not live or waiting.by == asked.by:
                return ledger, asked, Unlocked.NEEDS_SECOND
            return Ledger(), None, Unlocked.UNLOCKED
