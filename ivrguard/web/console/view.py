"""
What each region of the panel says of a call: a standing in, sentences and times out. Pure.

The laws of this file:

1. What is absent in the standing is absent here: nothing is greyed out, and no region hints at what it would hold.
2. Verification and risk are apart: no field of one is worked out from the other.
3. Times are the flow's own clock's, with the moment beside them, so that the script can count.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.core.standing import Held, Standing, Status
from ivrguard.web.console import words
from ivrguard.web.console.words import Words

MINUTE_S = 60
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: `ms` since the epoch, `iso` for machines, `clock` as the wall shows it where the flow is at home."""

    ms: int
    iso: str
    clock: str


@dataclass(frozen=True, slots=True)
class Proven:
    """One factor: what it is, when it was proved, how long ago, until when it counts (None: for the whole call), and whether it does now."""

    label: str
    at: Moment
    age: str
    until: Moment | None
    left: str
    counts: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the call's way: when, who, what."""

    at: Moment
    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Business:
    """What the caller may want: `what`, whether he may now, and the level that it needs."""

    what: str
    held: bool
    level: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the panel shows of one call. What is "" or () or None is not shown."""

    status: Status
    word: str
    why: str
    todo: tuple[str, ...]
    say: str
    call_sid: str
    reference: str
    caller: str
    account: str
    intent: str
    proofs: tuple[Proven, ...]
    way: tuple[Step, ...]
    may: tuple[Business, ...]
    risks: tuple[tuple[str, str], ...]
    attempts: str
    now: Moment
    recorded: Moment
    changes_ms: int | None


def moment(ms: int, zone: ZoneInfo) -> Moment:
    """A time as the pages show it."""
    there = datetime.fromtimestamp(ms / 1000, zone)
    return Moment(ms, there.astimezone(UTC).isoformat(timespec="seconds"), f"{there:%H:%M:%S}")


def lasting(ms: int) -> str:
    """A length of time in words, as short as can be: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    seconds = max(0, ms) // 1000
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min {seconds % MINUTE_S} s"
    return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S} min"


def named(name: str) -> str:
    """Who somebody is, as people read it: without what the record puts before a name."""
    return name.partition(":")[2] or name


def listed(things: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(things[:-1]), *things[-1:])))


def intent_words(flow: Flow, intent: str) -> str:
    """What an intent is called: the flow's own words for it, in its own language."""
    return flow.prompts.get(f"intent.{intent}", intent.replace("_", " ")) if intent else words.NOTHING_NAMED


def view(standing: Standing, flow: Flow, zone: ZoneInfo, agent: Agent, recorded_ms: int) -> View:
    """What this agent reads of the call that he holds. `recorded_ms`: when it went on record that he looks."""
    now = standing.now_ms
    counting = [one for one in standing.proofs if one.until_ms is None or now <= one.until_ms]
    said = _said(standing, flow, [words.PROVED[one.kind] for one in counting])
    return View(
        status=standing.status,
        word=said.word,
        why=said.why,
        todo=said.todo,
        say=said.say,
        call_sid=standing.call_sid,
        reference=standing.reference,
        caller=standing.caller,
        account=standing.account,
        intent=intent_words(flow, standing.intent),
        proofs=tuple(
            Proven(
                label=words.PROVED[one.kind],
                at=moment(one.at_ms, zone),
                age=lasting(now - one.at_ms),
                until=None if one.until_ms is None else moment(one.until_ms, zone),
                left="" if one.until_ms is None else lasting(one.until_ms - now),
                counts=one in counting,
            )
            for one in standing.proofs
        ),
        way=_way(standing, zone, agent),
        may=tuple(
            Business(_sentence(intent_words(flow, one.intent)), one.held, one.level.replace("_", " "))
            for one in standing.may
        ),
        risks=tuple(words.RISKS.get(one, (_sentence(one.replace("_", " ")), "")) for one in standing.risks),
        attempts=_attempts(standing, zone),
        now=moment(now, zone),
        recorded=moment(recorded_ms, zone),
        changes_ms=_changes_ms(standing),
    )


def _said(standing: Standing, flow: Flow, proved: list[str]) -> Words:
    """The words of the state, with what it is about filled in."""
    beyond = standing.status is Status.NEEDS_FACTOR and not standing.needs
    said = words.BEYOND if beyond else words.STATUS[standing.status]
    about = {
        "intent": intent_words(flow, standing.intent),
        "count": words.COUNTS[min(len(standing.needs), len(words.COUNTS) - 1)],
        "proved": listed(proved),
        "needs": listed([words.ASKED_FOR[_kind(flow, factor)] for factor in standing.needs]),
    }
    return Words(
        said.word.format(**about),
        said.why.format(**about),
        tuple(line.format(**about) for line in said.todo),
        said.say,
    )


def _kind(flow: Flow, factor: str) -> Kind:
    return flow.factors[factor].kind


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _way(standing: Standing, zone: ZoneInfo, agent: Agent) -> tuple[Step, ...]:
    """Who verified and who held the caller, in the order it happened."""
    steps = [(standing.began_ms, "Caller", "called")]
    steps += [
        (one.at_ms, _holder(standing.legs, one.at_ms, agent), f"{words.PROVED[one.kind]} proved")
        for one in standing.proofs
    ]
    for leg in standing.legs:
        level = leg.acr[0].replace("_", " ") if leg.acr else "nothing proved"
        steps.append(
            (leg.issued_ms, _holder(standing.legs, leg.issued_ms - 1, agent), f"handed over, {level}")
        )
        if leg.redeemed_ms is not None:
            steps.append((leg.redeemed_ms, _who(leg.agent, agent), "took the call"))
    return tuple(
        Step(moment(at_ms, zone), who, what) for at_ms, who, what in sorted(steps, key=lambda one: one[0])
    )


def _who(name: str, agent: Agent) -> str:
    return "You" if name == agent.name else named(name)


def _holder(legs: tuple[Held, ...], at_ms: int, agent: Agent) -> str:
    """Who had the caller then: the IVR, until an agent took over."""
    taken = [leg for leg in legs if leg.redeemed_ms is not None and leg.redeemed_ms <= at_ms]
    return _who(taken[-1].agent, agent) if taken else "IVR"


def _attempts(standing: Standing, zone: ZoneInfo) -> str:
    """What is left before a lock, or its end; "" while no account is named."""
    if standing.disabled:
        return words.DISABLED
    if standing.locked_until_ms is not None:
        left = lasting(standing.locked_until_ms - standing.now_ms)
        return words.NO_ATTEMPT.format(until=f"{moment(standing.locked_until_ms, zone).clock} (in {left})")
    if standing.attempts_left is None:
        return ""
    if standing.attempts_left == 1:
        return words.LAST_ATTEMPT
    return words.ATTEMPTS.format(count=standing.attempts_left)


def _changes_ms(standing: Standing) -> int | None:
    """When time alone changes what is shown: a proof stops counting, or a lock ends."""
    ends = [one.until_ms for one in standing.proofs if one.until_ms is not None] + [standing.locked_until_ms]
    return min((each for each in ends if each is not None and each >= standing.now_ms), default=None)
