"""
Insiders: what an agent or an operator does that an honest one seldom does, as the record shows it.

The laws of this file:

1. It is read from the record alone, entry by entry, in order: nothing has to report on anybody, and what was done on the
   command line is seen like what was done at a desk (`acts_of`).
2. Each sign counts *different* things (calls, accounts, hours): one click too many, ten times over, is one.
3. A suspicion is raised once, by one entry, when there is enough in a sliding window; it goes on while half of that is in
   it, and is over by itself after that, by one entry, or by hand. Whoever ended it by hand has seen it: the same sign of the same
   person raises none until there is enough anew.
4. **It names the person as the record does, and is shown to nobody but the risk team.** It says what was counted; what it
   means is for people to say.
5. Bounded: so many acts of a person are kept, the oldest forgotten first; and no longer than its sign's window.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ivrguard.core.audit import Entry
from ivrguard.core.rules import Hours, name_glob
from ivrguard.core.sense import Threshold

DAY_S = 24 * 3600
HOUR_MS = 3600 * 1000
ACTS_MAX = 1_000
SERVED_MAX = 500
SERVED_S = 3 * DAY_S
"""Whom somebody served so lately is his own customer."""


class Sign(StrEnum):
    """What is counted. Its words for people: `SAID`."""

    NO_CALL = "no_call"
    OFF_QUEUE = "off_queue"
    NOT_HELD = "not_held"
    LOOK_UPS = "look_ups"
    MANY_CALLS = "many_calls"
    OFF_SHIFT = "off_shift"
    OWN_CUSTOMERS = "own_customers"


SAID = {
    Sign.NO_CALL: "tokens presented for which there is no call",
    Sign.OFF_QUEUE: "tokens presented of queues that are not his",
    Sign.NOT_HELD: "asked for calls that he does not hold",
    Sign.LOOK_UPS: "many accounts named at first contact",
    Sign.MANY_CALLS: "more calls looked at than anybody takes",
    Sign.OFF_SHIFT: "at work outside his shift",
    Sign.OWN_CUSTOMERS: "locks ended or secrets changed of customers whom he served or reported",
}

USUAL: Mapping[Sign, Threshold] = {
    Sign.NO_CALL: Threshold(12, DAY_S),
    Sign.OFF_QUEUE: Threshold(4, 7 * DAY_S),
    Sign.NOT_HELD: Threshold(8, DAY_S),
    Sign.LOOK_UPS: Threshold(30, DAY_S),
    Sign.MANY_CALLS: Threshold(150, DAY_S),
    Sign.OFF_SHIFT: Threshold(3, 7 * DAY_S),
    Sign.OWN_CUSTOMERS: Threshold(2, 7 * DAY_S),
}
"""What raises a suspicion, unless the settings say otherwise (docs/threats.md: how good that is)."""


@dataclass(frozen=True, slots=True)
class Watch:
    """
    What is looked for (a sign that is not in it is not), and when who works.

    `shifts`: globs over names and the hours of those whom they fit, the first one that fits; nobody else has a shift.
    """

    thresholds: Mapping[Sign, Threshold]
    shifts: tuple[tuple[str, Hours], ...] = ()

    def hours(self, who: str) -> Hours | None:
        """When this person works; None: nobody says."""
        return next((hours for glob, hours in self.shifts if name_glob(glob).fullmatch(who)), None)

    def kept_ms(self, sign: Sign) -> int:
        """Nothing of this sign that is older counts."""
        return 1000 * self.thresholds[sign].within_s if sign in self.thresholds else 0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that counts. `what`: by which it is told from others: a call, an account, an hour."""

    at_ms: int
    sign: Sign
    what: str


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One suspicion. `over_ms` None: it stands. `ended_by`: who ended it by hand."""

    sign: Sign
    raised_ms: int
    count: int
    need: int
    within_s: int
    over_ms: int | None = None
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as the record names him: what he did that counts, whom he served when, and the last suspicion of each sign."""

    name: str
    acts: tuple[Act, ...] = ()
    served: tuple[tuple[int, str], ...] = ()
    suspicions: tuple[Suspicion, ...] = ()

    def standing(self) -> tuple[Suspicion, ...]:
        """Those that stand."""
        return tuple(one for one in self.suspicions if one.over_ms is None)


# ── from entries to acts ─────────────────────────────────────────────────────────────────────────────────

_NO_CALL = frozenset({"forged", "spent", "expired", "other_call", "ended", "superseded", "desk_locked"})
_AT_A_DESK = frozenset(
    {
        "authn_token_redeemed",
        "authn_token_refused",
        "authn_token_reuse",
        "call_viewed",
        "call_view_refused",
        "account_claimed",
        "threat_reported",
    }
)
_ON_ACCOUNTS = frozenset({"authn_login_unlock", "user_updated", "user_created", "user_archived"})
EVENTS = _AT_A_DESK | _ON_ACCOUNTS
"""The events of the record that are looked at."""


def person_of(entry: Entry) -> str:
    """Who did it, in one spelling: accounts of our own as operators write them, without their prefix; "" if nobody is named."""
    detail = dict(entry.detail)
    name = detail.get("agent") or detail.get("desk") or detail.get("by") or ""
    return name.removeprefix("agent:").strip().casefold()


def acts_of(watch: Watch, person: Person, entry: Entry, weekday: int, minute: int) -> tuple[Act, ...]:
    """What of an entry counts against this person. `weekday`, `minute`: its time where he works."""
    found: dict[Sign, str] = {}
    event, reason, at_ms = entry.event, entry.reason, entry.at_ms
    if event in {"authn_token_refused", "authn_token_reuse"}:
        if reason == "other_queue":
            found[Sign.OFF_QUEUE] = entry.call or str(at_ms)
        elif reason in _NO_CALL:
            found[Sign.NO_CALL] = entry.call or str(at_ms)
    elif event == "call_view_refused":
        found[Sign.NOT_HELD] = entry.call or str(at_ms)
    elif event == "call_viewed":
        found[Sign.MANY_CALLS] = entry.call
    elif event == "account_claimed":
        found[Sign.LOOK_UPS] = entry.account or str(at_ms)
    elif event in _ON_ACCOUNTS and entry.account and _own(person, entry):
        found[Sign.OWN_CUSTOMERS] = entry.account
    hours = watch.hours(person.name) if event in _AT_A_DESK else None
    if hours is not None and not hours.holds(weekday, minute):
        found[Sign.OFF_SHIFT] = str(at_ms // HOUR_MS)
    return tuple(Act(at_ms, sign, what) for sign, what in found.items() if sign in watch.thresholds)


def _own(person: Person, entry: Entry) -> bool:
    return any(
        ref == entry.account and 0 <= entry.at_ms - at_ms <= SERVED_S * 1000 for at_ms, ref in person.served
    )


def seen(watch: Watch, person: Person, entry: Entry, weekday: int, minute: int) -> Person:
    """The person once this entry is known."""
    acts = acts_of(watch, person, entry, weekday, minute)
    served = person.served
    if entry.event in {"authn_token_redeemed", "threat_reported"} and entry.account:
        served = (*(one for one in served if one[1] != entry.account), (entry.at_ms, entry.account))[
            -SERVED_MAX:
        ]
    known = {(one.sign, one.what) for one in acts}
    kept = tuple(one for one in person.acts if (one.sign, one.what) not in known) if acts else person.acts
    return replace(person, acts=(*kept, *acts)[-ACTS_MAX:], served=served)


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────


def weighed(
    watch: Watch, person: Person, now_ms: int
) -> tuple[Person, tuple[Entry, ...], tuple[Suspicion, ...]]:
    """The person as he stands now; the entries of what was raised or is over, and those suspicions."""
    acts = tuple(one for one in person.acts if now_ms - one.at_ms < watch.kept_ms(one.sign))
    served = tuple(one for one in person.served if now_ms - one[0] <= SERVED_S * 1000)
    before = {one.sign: one for one in person.suspicions}
    after, entries, told = dict(before), [], []
    for sign, last in [(sign, before.get(sign)) for sign in Sign]:
        threshold = watch.thresholds.get(sign)
        count = _count(acts, sign, threshold, last, now_ms)
        if last is not None and last.over_ms is None:
            if threshold is not None and 2 * count >= threshold.count:
                after[sign] = replace(last, count=max(last.count, count))
                continue
            done = replace(last, over_ms=now_ms)
            entries.append(_entry(person, done, "insider_over", "quiet", now_ms))
        elif threshold is not None and count >= threshold.count:
            done = Suspicion(sign, now_ms, count, threshold.count, threshold.within_s)
            entries.append(_entry(person, done, "insider_suspected", sign, now_ms))
        else:
            continue
        after[sign] = done
        told.append(done)
    return Person(person.name, acts, served, tuple(after.values())), tuple(entries), tuple(told)


def _count(
    acts: Sequence[Act], sign: Sign, threshold: Threshold | None, last: Suspicion | None, now_ms: int
) -> int:
    """How many of a sign are in its window; after one that was ended by hand, only those since."""
    if threshold is None:
        return 0
    since = now_ms - threshold.within_s * 1000
    if last is not None and last.ended_by and last.over_ms is not None:
        since = max(since, last.over_ms)
    return sum(one.sign is sign and one.at_ms > since for one in acts)


def ended(person: Person, sign: Sign, by: str, because: str, now_ms: int) -> tuple[Person, tuple[Entry, ...]]:
    """A suspicion ended by hand; nothing, if none of this sign stands."""
    found = next((one for one in person.standing() if one.sign is sign), None)
    if found is None:
        return person, ()
    done = replace(found, over_ms=now_ms, ended_by=by)
    entry = _entry(person, done, "insider_over", "by_hand", now_ms, ("by", by), ("because", because))
    others = (one for one in person.suspicions if one.sign is not sign)
    return replace(person, suspicions=(*others, done)), (entry,)


def idle(person: Person) -> bool:
    """Whether nothing of a person needs to be kept."""
    return not (person.acts or person.served or person.suspicions)


def mine(by: str, person: Person) -> bool:
    """Whether somebody would end a suspicion of himself."""
    return by.removeprefix("agent:").strip().casefold() == person.name


def _entry(
    person: Person, suspicion: Suspicion, event: str, reason: str, now_ms: int, *more: tuple[str, str]
) -> Entry:
    facts = (
        ("person", person.name),
        ("sign", suspicion.sign.value),
        ("count", str(suspicion.count)),
        ("need", str(suspicion.need)),
        ("within_s", str(suspicion.within_s)),
        *more,
    )
    return Entry(now_ms, event, reason=str(reason), detail=facts)


def usual(changes: Mapping[Sign, Threshold | None], shifts: Collection[tuple[str, Hours]] = ()) -> Watch:
    """What is looked for: the usual, but for these; None: not for that."""
    every: dict[Sign, Threshold | None] = {**USUAL, **changes}
    return Watch({sign: one for sign, one in every.items() if one is not None}, tuple(shifts))
