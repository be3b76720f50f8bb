"""
Attacks that only listen: who has an account here, who is locked, and what leaks of secrets.

Laws of this file
 1. Known, unknown and locked callers do the same, and must hear the same: every byte of every answer, but for what is
    drawn by chance.
 2. Of time only what stands out is told: an answer that costs `SLOWER` times the work of another one, and `SLOWER_S` more,
    at its least. It is this process' own work that is measured, so that a busy machine tells nothing. Finer differences
    need thousands of calls, which `make bench` makes.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ivrguard.core.call import OTHER_FACTOR_KEY
from ivrguard.phone.exchange import Line
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import protected
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import FAILURES_MAX, unprotected, ways_of
from ivrguard.phone.world import keyed_for_the_guard

SLOWER = 3.0
SLOWER_S = 0.010
TIMES = 3
_DRAWN = re.compile(r"[0-9a-f]{32}|_ivrguard=[\w.-]+")


@dataclass
class _Seen:
    """What a caller saw: each answer without what is drawn by chance, and the least work that a verdict cost."""

    answers: tuple[tuple[int, str], ...]
    looked: int
    least_s: float


async def _tell_apart(ground: Ground) -> None:
    """An owner's account, one that nobody has, and one that is locked: the same keys, by the same sort of caller."""
    if ground.flow.locks.on_locked_dial is not None:
        ground.notes.append(
            "`on_locked` puts whoever is locked through to a human, and so tells him; unknown accounts lock alike"
        )
    locked = await ground.account(4_001)
    for factor, way in (await ways_of(ground)).items():
        most = min(ground.flow.locks.account.failures, FAILURES_MAX) + 1
        await ground.guess(factor, way, most=most, account=locked)
    known = [await ground.account(4_100 + nth) for nth in range(TIMES)]
    callers = {"known": known, "unknown": [ground.who.unknown] * TIMES, "locked": [locked] * TIMES}
    for decline in ("", *([f"{OTHER_FACTOR_KEY}#"] if len(ground.flow.factors) > 1 else [])):
        seen = {
            name: [await _listen(ground, one, decline) for one in accounts]
            for name, accounts in callers.items()
        }
        _compare(ground, seen)


async def _listen(ground: Ground, account: str, decline: str) -> _Seen:
    """What a caller hears who claims this account and knows nothing."""
    ground.watch.forget()
    line = ground.call()
    await ground.to(line, ground.aim, stop=next(iter(ground.flow.factors)), account=account)
    if decline and await ground.asked(line) is not None:
        await line.press(decline)
    await ground.at.server.guard.drain()
    least_s = float("inf")
    while (factor := await ground.asked(line)) in ground.flow.factors:
        assert factor is not None
        began_s = time.process_time()
        await line.press(ground.wrong(factor))
        least_s = min(least_s, time.process_time() - began_s)
        ground.tried["answers compared"] += 1
    await ground.at.server.guard.drain()
    human = f"<Dial>{ground.flow.locks.on_locked_dial}</Dial>"  # what a flow says of locks aloud is its own affair
    answers = tuple(
        (each.status, _DRAWN.sub("", each.body.replace(human, "<Hangup/>")))
        for each in line.requests
        if each.purpose != "callback"
    )
    seen = _Seen(answers, ground.watch.looked, least_s)
    await ground.leave(line)
    return seen


def _compare(ground: Ground, seen: Mapping[str, Sequence[_Seen]]) -> None:
    known, known_s = seen["known"][0], min(one.least_s for one in seen["known"])
    for name in ("unknown", "locked"):
        other, other_s = seen[name][0], min(one.least_s for one in seen[name])
        whom = f"an account that is {name}"
        if other.answers != known.answers:
            pairs = zip_longest(known.answers, other.answers)
            place = next(nth for nth, (one, another) in enumerate(pairs, 1) if one != another)
            ground.through(f"a caller who claims {whom} hears other words, in answer {place}")
        slow, fast = max(known_s, other_s), min(known_s, other_s)
        if other.looked != known.looked or (slow > fast * SLOWER and slow - fast > SLOWER_S):
            ground.through(
                f"a guess at {whom} costs {other_s * 1000:.0f} ms of work, at a known one {known_s * 1000:.0f} ms"
            )


async def _leak(ground: Ground) -> None:
    """The owner proves everything that he has; his secrets must be nowhere but in his own hands."""
    lines: list[Line] = []
    for goal in protected(ground.flow, ground.clock()):
        line = ground.at.call("+15559870010")
        await ground.to(line, goal, knows=ground.everything())
        lines.append(line)
        await ground.leave(line)
    own = keyed_for_the_guard(lines)
    secrets = {keys for keys in own if keys not in (ground.who.account, ground.who.account + "#")}
    ground.tried["secrets looked for"] += len(secrets)
    if ground.ivr.digits_seen() & own:
        ground.through("what was keyed at the guard's questions reached the IVR")
    record = " ".join(repr(linked) for linked in await ground.telling.record())
    answers = " ".join(request.body for line in lines for request in line.requests)
    urls = " ".join(request.url for line in lines for request in line.requests)
    for where, text in (("the record", record), ("TwiML", answers), ("a URL", urls)):
        ground.tried["places searched"] += 1
        if any(re.search(rf"(?<![0-9]){secret}(?![0-9])", text) for secret in secrets):
            ground.through(f"a secret that was keyed stands in {where}")


ATTACKS = (
    Attack(
        "tell-accounts-apart",
        "Claim a known, an unknown and a locked account, and compare every word and the time of every answer",
        "field C: account enumeration by IVR answers; OWASP ASVS 5.0, 6.3.8; CWE-204",
        _tell_apart,
        unprotected,
    ),
    Attack(
        "find-secrets",
        "Look for what the owner keyed: at the IVR, in the record, in TwiML, in URLs",
        "field C: DTMF in recordings and logs; OWASP ASVS 5.0, 14.2.1; CWE-532",
        _leak,
        unprotected,
    ),
)
