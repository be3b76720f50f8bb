"""
What a call has proved, and which level that makes.

The laws of this file:

1. A level is derived from proofs every time it is asked for; it is never stored (so it cannot disagree
   with them).
2. A proof has an age. A proof older than a rule's `within`, or made before the transfer that wants a fresh
   one, does not count.
3. Caller ID, attestation, a voice and a risk score are not factors and cannot become proofs (NIST SP
   800-63B-4, 3.2: fraud indicators "do not impact or change the AAL or substitute for a factor").

Levels are the admin's own names (`acr`); the phone channel claims no NIST AAL (a phone call is not an
authenticated protected channel, 800-63B-4 section 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import chain, combinations

CLOCK_SKEW_MS = 2_000
"""A proof may seem this much younger than now: two nodes' clocks agree no better."""

PLANS_CACHED_MAX = 1_024
"""Plans kept ready: a flow has few levels, and few sets of factors are proved or enrolled."""


class Kind(StrEnum):
    """The kinds of factor that the guard can judge."""

    PIN = "pin"
    SMS_CODE = "sms_code"
    TOTP = "totp"


class Category(StrEnum):
    """What a factor rests on (NIST SP 800-63B-4, 2): two factors means two categories."""

    KNOWN = "something known"
    HELD = "something held"


CATEGORY: Mapping[Kind, Category] = {
    Kind.PIN: Category.KNOWN,
    Kind.SMS_CODE: Category.HELD,
    Kind.TOTP: Category.HELD,
}

AMR: Mapping[Kind, tuple[str, ...]] = {
    Kind.PIN: ("pin",),
    Kind.SMS_CODE: ("otp", "sms"),
    Kind.TOTP: ("otp",),
}
"""Authentication method references of RFC 8176, by kind."""


@dataclass(frozen=True, slots=True)
class Proof:
    """
    One factor judged right in this call: which, when (ms since the epoch), and at which turn.

    `intent`: what the message said that a code is for; "" for what was not sent, or not for anything named.
    """

    factor: str
    kind: Kind
    at_ms: int
    turn: int
    intent: str = ""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A level part that any one of its members fulfils. Members are factor names or parts."""

    of: tuple["str | AnyOf | AllOf", ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """
    A level part that only all of its members together fulfil. Members are factor names or parts.

    Without members nothing fulfils it: a level that was left empty must not be held by everyone.
    """

    of: tuple["str | AnyOf | AllOf", ...]


Expression = str | AnyOf | AllOf


@dataclass(frozen=True, slots=True)
class Freshness:
    """
    Which proofs count.

    `within_s`: at most this old, in seconds (None: any age). `since_turn`: made at this turn of the call or
    later, or younger than `fresh_s` seconds (what `reverify` asks for; 0: none is young enough, not even one
    of this very millisecond or, by another node's clock, of the next second).
    """

    within_s: int | None = None
    since_turn: int = 0
    fresh_s: int = 0

    def counts(self, proof: Proof, now_ms: int) -> bool:
        """Whether `proof` counts now; a proof from the future (beyond the clocks' skew) does not."""
        age_ms = now_ms - proof.at_ms
        if age_ms < -CLOCK_SKEW_MS:
            return False
        if self.within_s is not None and age_ms > self.within_s * 1000:
            return False
        return proof.turn >= self.since_turn or max(age_ms, 0) < self.fresh_s * 1000


def said_for(proofs: Sequence[Proof], intent: str) -> tuple[Proof, ...]:
    """
    The proofs, without codes whose message said that they are for something else than `intent`.

    Whoever was talked out of a code "to hear your balance" has not agreed to a wire (OWASP ASVS 5.0, 6.6.2; the
    Transaction Authorization Cheat Sheet, "what you see is what you sign"; PSD2 RTS, article 5).
    """
    return tuple(one for one in proofs if one.kind is not Kind.SMS_CODE or one.intent == intent)


def proved(proofs: Sequence[Proof], freshness: Freshness, now_ms: int) -> frozenset[str]:
    """The names of the factors whose proofs count now."""
    return frozenset(proof.factor for proof in proofs if freshness.counts(proof, now_ms))


def satisfied(expression: Expression, have: frozenset[str]) -> bool:
    """Whether the factors in `have` fulfil the level."""
    match expression:
        case AnyOf(of):
            return any(satisfied(member, have) for member in of)
        case AllOf(of):
            return bool(of) and all(satisfied(member, have) for member in of)
        case factor:
            return factor in have


@lru_cache(PLANS_CACHED_MAX)
def plan(expression: Expression, have: frozenset[str], able: frozenset[str]) -> tuple[str, ...] | None:
    """
    The factors still to be asked for, in the order written: the fewest that fulfil the level.

    `able` are the factors that this account can answer. Returns () when the level is held already and None
    when no questions can reach it. Tries every choice, fewest first and in the order written: a flow has at
    most one factor of each kind (flow.py), so there are few.
    """
    if not satisfied(expression, have | able):
        return None
    askable = [factor for factor in dict.fromkeys(_written(expression)) if factor in able - have]
    choices = chain.from_iterable(combinations(askable, count) for count in range(len(askable) + 1))
    return next((steps for steps in choices if satisfied(expression, have | frozenset(steps))), None)


def _written(expression: Expression) -> tuple[str, ...]:
    match expression:
        case AnyOf(of) | AllOf(of):
            return tuple(chain.from_iterable(_written(member) for member in of))
        case factor:
            return (factor,)


def ways(*levels: Expression) -> tuple[frozenset[str], ...]:
    """
    The least sets of factors that fulfil all of these levels at once: none of them holds another. () if there is none.

    Tries every choice, as `plan` does.
    """
    named = list(dict.fromkeys(chain.from_iterable(_written(level) for level in levels)))
    found: list[frozenset[str]] = []
    for chosen in chain.from_iterable(combinations(named, count) for count in range(1, len(named) + 1)):
        way = frozenset(chosen)
        if not any(less <= way for less in found) and all(satisfied(level, way) for level in levels):
            found.append(way)
    return tuple(found)


def factors_of(expression: Expression) -> frozenset[str]:
    """Every factor that the level names, anywhere."""
    return frozenset(_written(expression))


def categories(expression: Expression, kinds: Mapping[str, Kind]) -> frozenset[frozenset[Category]]:
    """Each set of categories with which the level can be fulfilled: its weakest way is the smallest set."""
    match expression:
        case AnyOf(of):
            return frozenset(chain.from_iterable(categories(member, kinds) for member in of))
        case AllOf(()):
            return frozenset()
        case AllOf(of):
            ways: frozenset[frozenset[Category]] = frozenset((frozenset[Category](),))
            for member in of:
                ways = frozenset(way | more for way in ways for more in categories(member, kinds))
            return ways
        case factor:
            return frozenset((frozenset((CATEGORY[kinds[factor]],)),)) if factor in kinds else frozenset()


def reached(
    levels: Mapping[str, Expression], proofs: Sequence[Proof], freshness: Freshness, now_ms: int
) -> tuple[str, ...]:
    """The names of all levels that the proofs reach now, strongest (most factors) first."""
    have = proved(proofs, freshness, now_ms)
    names = [name for name, expression in levels.items() if satisfied(expression, have)]
    return tuple(sorted(names, key=lambda name: -least(levels[name])))


def authenticated_ms(
    levels: Mapping[str, Expression], proofs: Sequence[Proof], freshness: Freshness, now_ms: int
) -> int:
    """
    How fresh the strongest level is that the proofs reach: when the oldest proof was made that it cannot do without.

    That is what whoever compares it with a `max_age` relies on (OpenID Connect Core, 2, `auth_time`; RFC 9470): a new
    code does not make an old PIN young. Where no level is reached, the last proof's time; 0 without any.
    """
    counting = [proof for proof in proofs if freshness.counts(proof, now_ms)]
    youngest_first = sorted(counting, key=lambda proof: -proof.at_ms)
    enough = (
        proof.at_ms
        for level in reached(levels, proofs, freshness, now_ms)[:1]
        for count, proof in enumerate(youngest_first, 1)
        if satisfied(levels[level], frozenset(each.factor for each in youngest_first[:count]))
    )
    return next(enough, youngest_first[0].at_ms if youngest_first else 0)


def least(expression: Expression) -> int:
    """The fewest factors that can fulfil the level: how strong it is, for sorting."""
    found = plan(expression, frozenset(), factors_of(expression))
    return len(found or ())


def amr(proofs: Sequence[Proof], freshness: Freshness, now_ms: int) -> tuple[str, ...]:
    """RFC 8176 method references of the proofs that count, each once, `mfa` added for two categories."""
    kinds = [proof.kind for proof in proofs if freshness.counts(proof, now_ms)]
    names = dict.fromkeys(chain.from_iterable(AMR[kind] for kind in kinds))
    if len({CATEGORY[kind] for kind in kinds}) > 1:
        names["mfa"] = None
    return tuple(names)
