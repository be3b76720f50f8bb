"""
All attacks in turn, each on a ground of its own, and what the owner felt.

Laws of this file
 1. The owner calls before and after each attack. That his own, attested telephone no longer serves him is let through,
    whatever the attack was about.
 2. A call that breaks off (no answer, or documents without end) is told as something that was let through.
 3. An attack that gets stuck on the way (`Stuck`) was not tried, and says why.
 4. The same seed plays the same guesses.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from ivrguard.core.flow import Flow
from ivrguard.phone.exchange import LineError
from ivrguard.phone.redteam import (
    codes,
    denying,
    desks,
    documents,
    doors,
    guessing,
    handing,
    naming,
    posting,
    straying,
)
from ivrguard.phone.redteam.attack import Attack, Outcome, Verdict
from ivrguard.phone.redteam.ground import Ground, Honest, Stuck, Talk, ground
from ivrguard.phone.wire import FetchError

ATTACKS: tuple[Attack, ...] = (
    *doors.ATTACKS,
    *guessing.ATTACKS,
    *denying.ATTACKS,
    *naming.ATTACKS,
    *posting.ATTACKS,
    *straying.ATTACKS,
    *documents.ATTACKS,
    *codes.ATTACKS,
    *handing.ATTACKS,
    *desks.ATTACKS,
)
"""Every attack, in the order played."""

OWN_PHONE, OTHER_PHONE = "his own phone, attested", "another phone"


async def raid(
    flow: Flow,
    attacks: Iterable[Attack] = ATTACKS,
    *,
    seed: int = 0,
    each: Callable[[Outcome], None] = lambda _: None,
    begins: Callable[[Attack], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Play the attacks against the flow. `begins`, `each`: told of each one before and after."""
    outcomes = []
    for attack in attacks:
        begins(attack)
        outcome = await played(flow, attack, seed)
        each(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


async def played(flow: Flow, attack: Attack, seed: int) -> Outcome:
    """Play one attack."""
    why = attack.lacks(flow)
    if why:
        return Outcome(attack, Verdict.NOT_TRIED, why=why)
    began_s = time.perf_counter()
    async with ground(flow, seed) as at:
        before = await _owner(at)  # from now on his number is known
        at.watch.forget()
        try:
            await attack.play(at)
        except (LineError, FetchError) as fault:
            at.through(f"a call broke off: {fault}")
        except Stuck as stuck:
            why = str(stuck)
        felt = tuple(
            Honest(phone, *talks)
            for phone, *talks in zip((OWN_PHONE, OTHER_PHONE), before, await _owner(at), strict=True)
        )
        _kept_out(at, felt[0])
    verdict = Verdict.LET_THROUGH if at.holes else (Verdict.NOT_TRIED if why else Verdict.HELD)
    return Outcome(
        attack,
        verdict,
        tuple(at.tried.items()),
        tuple(at.holes),
        tuple(at.notes),
        felt,
        why,
        time.perf_counter() - began_s,
    )


async def _owner(at: Ground) -> Sequence[Talk]:
    return await at.owner_calls(), await at.owner_calls(elsewhere=True)


def _kept_out(at: Ground, own: Honest) -> None:
    if not own.before.got_in or own.after.got_in:
        return
    if at.flow.locks.trusted_lane:
        at.through("the owner no longer got in, from his own phone")
    else:
        at.through(
            "the owner no longer got in, not even from his own phone",
            ("lockout", "trusted_lane"),
            "write `trusted_lane: true`: a stranger's failures are then counted apart",
        )


def chosen(names: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these names, in the order of `ATTACKS`. Raises `LookupError` with the first name that is none."""
    known = {attack.name: attack for attack in ATTACKS}
    for name in names:
        if name not in known:
            raise LookupError(name)
    return tuple(attack for attack in ATTACKS if attack.name in names) if names else ATTACKS
