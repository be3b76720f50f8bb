"""
Attacks at the hand-over: tokens used twice, elsewhere, late or guessed, and agents who are talked round.

Laws of this file
 1. Each hand-over is a real one: the owner proves what his transfer needs, and the token is what his agent's side got.
 2. Only the desk of the transfer's own queue may redeem it, once, while the caller is on the line.
"""

import asyncio
from dataclasses import dataclass, field

from ivrguard.core.flow import Flow
from ivrguard.core.handoff import CODE_DIGITS, DESK_RULE
from ivrguard.guard.books import TOKEN_CHARACTERS
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Queued
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, protected
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import FAILURES_MAX, ways_of
from ivrguard.phone.stage import tokens_of
from ivrguard.phone.world import begin_ms

AT_ONCE = 8
REDEEMED = 201
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def transfers(flow: Flow, now_ms: int) -> tuple[Goal, ...]:
    """The transfers that the flow protects."""
    return tuple(one for one in protected(flow, now_ms) if one.target is not None)


def no_transfers(flow: Flow) -> str:
    """Why no token can be had: nothing protected is handed over."""
    return (
        ""
        if transfers(flow, begin_ms(flow, None))
        else "the flow protects no transfer, so there are no tokens"
    )


@dataclass(frozen=True, slots=True)
class Handed:
    """A caller who is being handed over: his call, the token, and the key of the desk that may redeem it."""

    line: Line
    goal: Goal
    token: str = field(repr=False)
    key: str = field(repr=False)


async def handed_over(ground: Ground, goal: Goal, without: str = "") -> Handed:
    """The owner is handed over to that target, or somebody who has all of his but the factor `without`. Raises `Stuck`."""
    line = await ground.there(goal, without)
    tokens = [token for event in line.heard for token in tokens_of(event)]
    key = await ground.at.desk(f"own-{line.call_sid[-6:]}", str(goal.target))
    ground.tried["callers handed over"] += 1
    return Handed(line, goal, tokens[-1] if tokens else line.call_sid, key)


async def redeemed(ground: Ground, key: str, token: str, call_sid: str | None = None) -> bool:
    """Whether the desk that has this key gets a receipt for a token."""
    ground.tried["tokens presented"] += 1
    status, _ = await ground.at.redeem(key, token, call_sid)
    return status == REDEEMED


async def _twice(ground: Ground) -> None:
    """The agents' desks redeem one token many times at once, and again."""
    for goal in transfers(ground.flow, ground.clock()):
        handed = await handed_over(ground, goal)
        at_once = await asyncio.gather(*(redeemed(ground, handed.key, handed.token) for _ in range(AT_ONCE)))
        again = await redeemed(ground, handed.key, handed.token)
        if sum(at_once) + again > 1:
            ground.through(f"a token of {goal} was redeemed {sum(at_once) + again} times")
        await ground.leave(handed.line)


async def _elsewhere(ground: Ground) -> None:
    """Another queue's desk, another caller's call, a call that is over, a token that is late, an account that is locked."""
    for goal in transfers(ground.flow, ground.clock())[:2]:
        await _by_others(ground, goal)
        await _too_late(ground, goal)
        await _handed_on(ground, goal)
    for goal in transfers(ground.flow, ground.clock())[:1]:
        await _locked_meanwhile(ground, goal)


async def _by_others(ground: Ground, goal: Goal) -> None:
    one, other = await handed_over(ground, goal), await handed_over(ground, goal)
    strange = await ground.at.desk(f"strange-{one.line.call_sid[-6:]}", "enqueue:another", "client:another")
    if await redeemed(ground, strange, one.token):
        ground.through(f"the desk of another queue redeemed a token of {goal}")
    if await redeemed(ground, one.key, one.token, other.line.call_sid):
        ground.through(f"an agent who holds one caller redeemed the token of another one ({goal})")
    for key in ("", "redteam", one.token):
        if await redeemed(ground, key, one.token):
            ground.through("a token was redeemed by nobody's desk")
    for handed in (one, other):
        await ground.leave(handed.line)
    if await redeemed(ground, one.key, one.token):
        ground.through(f"a token of {goal} was redeemed after its caller had hung up")


async def _too_late(ground: Ground, goal: Goal) -> None:
    late = await handed_over(ground, goal)
    ground.clock.advance(ground.flow.token_valid_s)
    if await redeemed(ground, late.key, late.token):
        ground.through(f"a token of {goal} was redeemed after it was over")
    await ground.leave(late.line)


async def _handed_on(ground: Ground, goal: Goal) -> None:
    """The first agent rings off, and the caller is handed over once more: the first token is over then."""
    first = await handed_over(ground, goal)
    line = first.line
    if isinstance(line.waiting, Queued):
        await line.dequeued()
    await line.agent_hangs_up()
    await ground.to(line, goal, knows=ground.everything())
    tokens = [token for event in line.heard for token in tokens_of(event)]
    spent = first.token not in (*tokens[-1:], line.call_sid)
    if spent and await redeemed(ground, first.key, first.token):
        ground.through(f"a token of {goal} was redeemed after the caller had been handed on")
    await ground.leave(line)


async def _locked_meanwhile(ground: Ground, goal: Goal) -> None:
    handed = await handed_over(ground, goal)
    for factor, way in (await ways_of(ground)).items():
        await ground.guess(factor, way, most=min(ground.flow.locks.account.failures, FAILURES_MAX))
    if await redeemed(ground, handed.key, handed.token):
        ground.through("a token was redeemed while its account was locked")
    await ground.leave(handed.line)


async def _guess_tokens(ground: Ground) -> None:
    """A desk that was talked round tries tokens, whisper codes and calls until it is stopped."""
    goal = transfers(ground.flow, ground.clock())[0]
    handed = await handed_over(ground, goal)
    key = await ground.at.desk("talked-round", "*")
    guesses = [
        *(
            "".join(ground.chance.choices(LETTERS, k=TOKEN_CHARACTERS))
            for _ in range(DESK_RULE.failures // 2)
        ),
        *(
            "".join(ground.chance.choices("0123456789", k=CODE_DIGITS))
            for _ in range(DESK_RULE.failures // 2)
        ),
        f"CA{'0' * 32}",
    ]
    for guess in guesses:
        if await redeemed(ground, key, guess):
            ground.through("a desk guessed a token")
    if await redeemed(ground, key, handed.token):
        ground.through(f"a desk that tried {len(guesses)} tokens was not stopped")
    await ground.leave(handed.line)


async def _without_a_transfer(ground: Ground) -> None:
    """An agent asks about callers who were not handed over to anybody, by their CallSid."""
    key = await ground.at.desk("curious", "*")
    callers = [ground.call(), ground.call()]
    path = next((one for one in protected(ground.flow, ground.clock()) if one.path), ground.goal)
    for line, knows in zip(callers, ((), ground.everything()), strict=True):
        await line.until_input()
        if path is not None and path.target is None:
            await ground.to(line, path, knows=knows)
    for line in callers:
        if await redeemed(ground, key, line.call_sid, line.call_sid) or await redeemed(
            ground, key, line.call_sid
        ):
            ground.through("an agent got a receipt for a caller who was not handed over")
        await ground.leave(line)


ATTACKS = (
    Attack(
        "redeem-twice",
        f"{AT_ONCE} agents redeem one token at once, and one of them again",
        "field C: transfer abuse; field E1; CWE-294, CWE-367",
        _twice,
        no_transfers,
    ),
    Attack(
        "redeem-elsewhere",
        "Another queue's desk, another caller's token, after the call, late, while the account is locked",
        "field C: transfer abuse, agent talked into it; field H6: CVE-2026-16103; CWE-639",
        _elsewhere,
        no_transfers,
    ),
    Attack(
        "guess-tokens",
        "A desk that was talked round tries tokens and whispered codes",
        "field C: transfer abuse; OWASP ASVS 5.0, 7.2.3; CWE-307",
        _guess_tokens,
        no_transfers,
    ),
    Attack(
        "ask-about-anybody",
        "An agent asks about callers who were not handed over to him",
        "field C: insider (Coinbase/TaskUs); FCC 23-95; MITRE ATT&CK T1078",
        _without_a_transfer,
    ),
)
