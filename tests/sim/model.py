"""
The rules once more, from the design and the documents, in other words than the guard's: what an auditor works out on paper.

Nothing here imports the guard. Times are ms since the epoch, as the record has them.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from tests.sim import town

SKEW_MS = 2_000
HELD = {"sms_code", "totp"}
TRUSTED_MAX = 5


@dataclass
class Count:
    """
    Guesses that may yet lock something: `tries` not forgiven since the last lock that was served, `served` locks, and how
    many `in_a_row`. `kept`: for good; otherwise it is forgotten when `forgotten_ms` has passed and somebody sweeps.
    """

    failures: int
    within_ms: int
    locks_ms: tuple[int, ...]
    lifetime: int = 0
    kept: bool = False
    tries: list[tuple[Hashable, int]] = field(default_factory=list)
    served: int = 0
    in_a_row: int = 0
    forgotten_ms: int | None = None

    def until_ms(self) -> int | None:
        """When the lock ends that the last try made; None if it made none."""
        if not self.tries:
            return None
        last = self.tries[-1][1]
        if sum(at > last - self.within_ms for _, at in self.tries) < self.failures:
            return None
        return last + self.locks_ms[min(self.served, len(self.locks_ms) - 1)]

    def closed(self, now_ms: int) -> bool:
        """Whether nothing may be judged."""
        until = self.until_ms()
        return bool(self.lifetime and self.in_a_row >= self.lifetime) or (
            until is not None and now_ms < until
        )

    def allows(self, which: Hashable, now_ms: int) -> bool:
        return any(one == which for one, _ in self.tries) or not self.closed(now_ms)

    def count(self, which: Hashable, now_ms: int) -> None:
        """One more, unless it is counted already."""
        if any(one == which for one, _ in self.tries):
            return
        if self.until_ms() is not None:
            self.served += 1
            latest, self.tries = self.tries[-1][1], []
        else:
            latest = self.tries[-1][1] if self.tries else now_ms
        at = max(now_ms, latest)
        self.tries = [one for one in self.tries if one[1] > at - self.within_ms] + [(which, at)]
        self.in_a_row += 1
        self._touched(now_ms)

    def forgive(self, which: Hashable, now_ms: int) -> None:
        """It was right: it and what came before it are forgiven."""
        place = next((nth for nth, one in enumerate(self.tries) if one[0] == which), None)
        if place is None:
            return
        self.tries = self.tries[place + 1 :]
        self.served, self.in_a_row = max(0, self.served - 1), len(self.tries)
        self._touched(now_ms)

    def take_back(self, which: Hashable, now_ms: int) -> None:
        """It was no guess at this."""
        before = len(self.tries)
        self.tries = [one for one in self.tries if one[0] != which]
        if len(self.tries) < before:
            self.in_a_row -= 1
            self._touched(now_ms)

    def _touched(self, now_ms: int) -> None:
        if not self.kept:
            self.forgotten_ms = now_ms + self.within_ms + max(self.locks_ms)


def account_count(*, kept: bool) -> Count:
    return Count(town.FAILURES, town.WITHIN_MS, town.LOCK_MS, town.LIFETIME, kept)


def number_count() -> Count:
    return Count(town.NUMBER_FAILURES, town.WITHIN_MS, town.NUMBER_LOCK_MS)


def desk_count() -> Count:
    """Twenty refused in an hour close a desk for a quarter of an hour."""
    return Count(20, 3_600_000, (900_000,))


@dataclass(frozen=True)
class Proof:
    """A factor that was proved in a call: when, after which act of the whole world, and what a code was said to be for."""

    kind: str
    at_ms: int
    act: int
    intent: str = ""


def enough(kinds: Iterable[str], factors: int) -> bool:
    """One: any factor. Two: the PIN, and something held."""
    have = set(kinds)
    return factors == 0 or (bool(have) if factors == 1 else "pin" in have and bool(have & HELD))


def holds(want: town.Want, proofs: Iterable[Proof], now_ms: int, since_act: int = 0) -> bool:
    """Whether these proofs are what is wanted, now."""
    counting = []
    for proof in proofs:
        age_ms = now_ms - proof.at_ms
        if age_ms < -SKEW_MS or (want.within_s is not None and age_ms > want.within_s * 1000):
            continue
        if want.own_code and proof.kind == "sms_code" and proof.intent != want.intent:
            continue
        counting.append(proof)
    anew = not want.anew or any(proof.act > since_act for proof in counting)
    return anew and enough((proof.kind for proof in counting), want.factors)
