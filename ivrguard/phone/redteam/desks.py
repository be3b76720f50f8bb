"""
Attacks through an agent's desk: codes that are guessed by an agent's fingers or used elsewhere, and agents who have passed the caller on.

Laws of this file
 1. The agent has redeemed a real token, and does whatever the caller talks him into: the guard must hold all the same.
 2. A guess that an agent types is one of the account's guesses, as if it had been keyed.
 3. Whoever does not hold the call does nothing to it and sees nothing of it.
"""

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.ground import Ground, Stuck
from ivrguard.phone.redteam.guessing import FAILURES_MAX
from ivrguard.phone.redteam.handing import Handed, handed_over, no_transfers, redeemed, transfers

CALLS_MAX = 6
GUESSES_A_CODE_MAX = 12
DONE, SENT, PASSED_ON, NOT_HELD = 200, 202, 201, 404


def _no_codes(flow: Flow) -> str:
    """Why no code can be read to an agent."""
    if not any(factor.kind is Kind.SMS_CODE for factor in flow.factors.values()):
        return "the flow has no factor of kind sms_code, so nothing is read to an agent"
    return no_transfers(flow)


def _factor(ground: Ground) -> str:
    """What the flow calls its codes."""
    return next(name for name, factor in ground.flow.factors.items() if factor.kind is Kind.SMS_CODE)


async def _taken(ground: Ground, without: str = "") -> Handed:
    """The owner in the hands of an agent who has redeemed his token; or who has all but the factor `without`. Raises `Stuck`."""
    handed = await handed_over(ground, transfers(ground.flow, ground.clock())[0], without)
    if not await redeemed(ground, handed.key, handed.token):
        await ground.leave(handed.line)
        raise Stuck("the agent did not get the caller")
    return handed


async def _sends(ground: Ground, handed: Handed) -> bool:
    """The agent has a code sent; whether one is on its way."""
    status, _ = await ground.at.asked(handed.key, f"calls/{handed.line.call_sid}/codes", {})
    ground.tried["codes asked for"] += 1
    return status == SENT


async def _types(ground: Ground, handed: Handed, digits: str, key: str = "") -> tuple[int, bool]:
    """The agent (or who has this key) types what he is told: the status, and whether it was right."""
    path = f"calls/{handed.line.call_sid}/answers"
    status, said = await ground.at.asked(key or handed.key, path, {"digits": digits})
    ground.tried["codes typed by agents"] += 1
    return status, said.get("right") is True


async def _guessed(ground: Ground) -> None:
    """Have all of the owner's but his telephone, and tell the agent made-up codes, code after code and call after call."""
    factor, judged = _factor(ground), 0
    for _ in range(CALLS_MAX):
        try:
            handed = await _taken(ground, without=factor)
        except Stuck:  # it was locked meanwhile
            if not judged:
                raise
            break
        while await _sends(ground, handed):
            judged += await _guesses_of_one_code(ground, handed, factor)
        await ground.leave(handed.line)
    allowed = min(ground.flow.locks.account.failures, FAILURES_MAX)
    if judged > allowed:
        ground.through(f"{judged} codes that an agent was told were judged; more than {allowed} are too many")


async def _guesses_of_one_code(ground: Ground, handed: Handed, factor: str) -> int:
    """So many guesses were judged before another code was needed."""
    judged = 0
    for _ in range(GUESSES_A_CODE_MAX):
        before = len(ground.watch.judged)
        status, right = await _types(ground, handed, ground.wrong(factor))
        if status != DONE:
            break
        judged += ground.watch.judged[before:].count(Kind.SMS_CODE)
        if right:
            ground.through("a code that was made up was right when an agent typed it")
    return judged


async def _elsewhere(ground: Ground) -> None:
    """The owner's code in another call, by an agent who does not hold him, twice, and late."""
    factor = _factor(ground)
    one, other = await _taken(ground), await _taken(ground)
    if not await _sends(ground, one):
        raise Stuck("no code was sent for an agent")
    code = await ground.right(factor)
    late = ""
    if await _sends(ground, other):
        late = await ground.right(factor)
        if (await _types(ground, other, code))[1]:
            ground.through("a code that was sent for one call was right in another one")
    stranger = await ground.at.desk(f"stranger-{one.line.call_sid[-6:]}", "enqueue:another")
    if (await _types(ground, one, code, stranger))[0] != NOT_HELD:
        ground.through("an agent who does not hold the caller had a code judged")
    await _types(ground, one, code)
    if (await _types(ground, one, code))[1]:
        ground.through("a code was right twice")
    ground.clock.advance(ground.flow.factors[factor].valid_s)
    if late and (await _types(ground, other, late))[1]:
        ground.through("a code that was over was right when an agent typed it")
    await ground.leave(one.line)
    await ground.leave(other.line)


async def _passed_on(ground: Ground) -> None:
    """An agent passes the caller on, and goes on as if he held him."""
    handed = await _taken(ground)
    sid, queue = handed.line.call_sid, str(handed.goal.target)
    status, said = await ground.at.asked(handed.key, f"calls/{sid}/transfers", {"queue": queue})
    ground.tried["callers passed on"] += 1
    if status != PASSED_ON:
        raise Stuck(f"nobody can be passed on to {queue}")
    token = str(said["token"])
    strange = await ground.at.desk(f"strange-{sid[-6:]}", "enqueue:another")
    if await redeemed(ground, strange, token):
        ground.through("the desk of another queue redeemed the token of a caller who was passed on")
    second = await ground.at.desk(f"second-{sid[-6:]}", queue)
    if not await redeemed(ground, second, token):
        raise Stuck("the second agent did not get the caller")
    if await redeemed(ground, second, token):
        ground.through("the token of a caller who was passed on was redeemed twice")
    acts = {"": None, "/codes": {}, "/transfers": {"queue": queue}, "/aside": {}}
    for path, body in acts.items():
        ground.tried["acts of an agent who passed him on"] += 1
        status, _ = await ground.at.asked(handed.key, f"calls/{sid}{path}", body)
        if status != NOT_HELD:
            ground.through(f"an agent who has passed the caller on still got an answer: {path or 'a look'}")
    if await redeemed(ground, handed.key, handed.token):
        ground.through("the first token was redeemed after the caller had been passed on")
    await ground.leave(handed.line)


ATTACKS = (
    Attack(
        "talk-codes-in",
        "Whoever has all but the telephone tells the agent made-up codes, call after call",
        "field C: agent talked into it; NIST SP 800-63B-4, 3.2.2; CWE-307",
        _guessed,
        _no_codes,
    ),
    Attack(
        "read-back-elsewhere",
        "A code read to an agent is used in another call, twice, late, or by an agent who does not hold the caller",
        "field C: code relayed by voice; NIST SP 800-63B-4, 3.1.3.3; CWE-294",
        _elsewhere,
        _no_codes,
    ),
    Attack(
        "keep-a-caller",
        "An agent who has passed the caller on looks, sends codes and passes him on again",
        "field C: insider (Coinbase/TaskUs); FCC 23-95; CWE-613",
        _passed_on,
        no_transfers,
    ),
)
