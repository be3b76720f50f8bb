"""
Attacks on codes: phished, relayed, replayed, late, sent to a stolen SIM, and sent again and again for the money in it.

Laws of this file
 1. A code that the attacker has came out of the owner's telephone: he was talked out of it.
 2. What a code costs is counted where the provider sends it.
"""

from collections.abc import Callable

from ivrguard.core.assurance import Kind
from ivrguard.core.call import ANOTHER_CODE_KEY
from ivrguard.core.flow import Factor, Flow
from ivrguard.factors.totp import STEP_S
from ivrguard.phone import world
from ivrguard.phone.exchange import Line
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, protected
from ivrguard.phone.redteam.ground import Ground, Stuck
from ivrguard.phone.redteam.guessing import unprotected

SENDS_A_CALL_MAX = 5
"""Twilio Verify's own bound on one verification (error 60203)."""
SENDS_AN_HOUR_MAX = 15
"""To one account, from whatever numbers; more is a nuisance, and money."""
PREFIX_AN_HOUR_MAX = 500
"""To one country, for callers who proved nothing."""
PREFIX_PLAYED = 6


def _code_of(flow: Flow, kind: Kind = Kind.SMS_CODE) -> tuple[str, Factor] | None:
    return next(((name, one) for name, one in flow.factors.items() if one.kind is kind), None)


def _lacks(kind: Kind, more: Callable[[Factor], str] = lambda _: "") -> Callable[[Flow], str]:
    def lacks(flow: Flow) -> str:
        found = _code_of(flow, kind)
        if found is None:
            return f"the flow has no factor of kind {kind}"
        return unprotected(flow) or more(found[1])

    return lacks


def _no_lookup(factor: Factor) -> str:
    lookup = factor.lookup
    if lookup.sim_swap_s is None and not lookup.forwarding:
        return "the flow looks nothing up before a code: write `lookup: {sim_swap: 72h, forwarding: refuse}`"
    return ""


def _name(flow: Flow, kind: Kind) -> str:
    """What the flow calls its factor of this kind, which it has."""
    return next(name for name, one in flow.factors.items() if one.kind is kind)


async def _proves(ground: Ground, line: Line, factor: str, digits: str) -> bool:
    """Whether the digits prove the factor, at the question that is open."""
    ground.tried["codes keyed"] += 1
    await line.press(digits)
    return factor in await ground.proved(line)


async def _of_another_call(ground: Ground) -> None:
    """Use the code that the owner was sent in a call of his own, in another one."""
    factor = _name(ground.flow, Kind.SMS_CODE)
    way = await ground.way(factor)
    owners = await ground.question(factor, way)
    code = await ground.right(factor)
    attacker = await ground.question(factor, way)
    if await _proves(ground, attacker, factor, code):
        ground.through("a code that was sent in one call was taken in another one")
    await ground.leave(attacker)
    await ground.leave(owners)


async def _again_and_late(ground: Ground) -> None:
    """Use a code, which must be gone then; and one that is over."""
    factor = _name(ground.flow, Kind.SMS_CODE)
    way = await ground.way(factor)
    line = await ground.question(factor, way)
    await _proves(ground, line, factor, await ground.right(factor))
    if any(sent.factor == factor for sent in (await ground.state(line)).sent):
        ground.through("a code that was used is still good in its call")
    await ground.leave(line)
    late = await ground.question(factor, way)
    code = await ground.right(factor)
    ground.clock.advance(ground.flow.factors[factor].valid_s)
    if await _proves(ground, late, factor, code):
        ground.through("a code that was over was taken")
    await ground.leave(late)


async def _for_something_else(ground: Ground) -> None:
    """Have the owner tell a code "for his balance", and use it where the flow wants one of its own."""
    factor = _name(ground.flow, Kind.SMS_CODE)
    pins = tuple(name for name, one in ground.flow.factors.items() if one.kind is Kind.PIN)
    every = protected(ground.flow, ground.clock())
    pairs = (
        (goal, one) for goal in every for one in every if one.demand.intent != goal.demand.intent and one.path
    )
    for goal, harmless in pairs:
        line = ground.call()
        await ground.to(line, harmless, knows=(factor,))
        told = factor in await ground.proved(line) and goal.demand.intent
        if told and await ground.at_the_ivr(line):
            ground.tried["codes talked out of the owner"] += 1
            if await ground.to(line, goal, stop=factor, knows=pins) == "there":
                _used_elsewhere(ground, goal)
        await ground.leave(line)


def _used_elsewhere(ground: Ground, goal: Goal) -> None:
    if goal.demand.own_code:
        ground.through(f"{goal} took a code whose message did not say '{goal.demand.intent}'")
    else:
        ground.notes.append(
            f"{goal} takes a code that was sent for something else: `own_code: true` would not (PSD2 RTS, article 5)"
        )


async def _app_again(ground: Ground) -> None:
    """Use what the owner's app shows a second time, in another call of the same half minute, and the one before."""
    factor = _name(ground.flow, Kind.TOTP)
    way = await ground.way(factor)
    line = await ground.question(factor, way)
    shown = await ground.right(factor)
    await _proves(ground, line, factor, shown)
    await ground.leave(line)
    for code in (shown, ground.telling.app(-1)):
        again = await ground.question(factor, way)
        if await _proves(ground, again, factor, code):
            ground.through("a code of the app was taken twice, or one from before it")
        await ground.leave(again)
    ground.clock.advance(3 * STEP_S)
    stale = await ground.question(factor, way)
    if await _proves(ground, stale, factor, ground.telling.app(-3)):
        ground.through("a code of the app was taken a minute and a half later")
    await ground.leave(stale)


async def _to_a_stolen_sim(ground: Ground) -> None:
    """The owner's number has a new SIM since an hour, or its calls go elsewhere; then ask for a code."""
    factor = _name(ground.flow, Kind.SMS_CODE)
    of, way = ground.flow.factors[factor], await ground.way(factor)
    hour_ago = ground.clock() - 3_600_000
    lookup = ground.at.lookup

    def swapped(on: bool) -> None:
        lookup.swapped(world.OWN_NUMBER, at_ms=hour_ago if on else 0, in_period=on)

    def forwarded(on: bool) -> None:
        lookup.forwarded(world.OWN_NUMBER, on=on)

    stolen: list[tuple[str, Callable[[bool], None]]] = []
    if of.lookup.sim_swap_s is not None:
        stolen.append(("with a new SIM", swapped))
    if of.lookup.forwarding:
        stolen.append(("that is forwarded", forwarded))
    for name, steal in stolen:
        steal(True)
        ground.clock.advance(3600)  # nobody goes by what he heard of the number before
        await ground.at.server.guard.drain()
        before = len(ground.at.carrier.sent)
        line = await ground.question(factor, way)
        await ground.at.server.guard.drain()
        ground.tried["codes asked for"] += 1
        if len(ground.at.carrier.sent) > before:
            ground.through(f"a code was sent to a number {name}")
        await ground.leave(line)
        steal(False)
    if len(stolen) < 2:
        missing = "forwarding: refuse" if of.lookup.sim_swap_s is not None else "sim_swap: 72h"
        ground.notes.append(
            f"the flow does not look at everything before a code: `lookup: {{{missing}}}` is left out"
        )


async def _pump(ground: Ground) -> None:
    """Have codes sent, as many as one can: in one call, to one account, to one country."""
    factor = _name(ground.flow, Kind.SMS_CODE)
    of, way = ground.flow.factors[factor], await ground.way(factor)
    await ground.at.server.guard.drain()
    began = before = _texted(ground)
    line = await ground.question(factor, way)
    wanted = 0
    while wanted < SENDS_A_CALL_MAX + 2 and await ground.asked(line) == factor:
        wanted += 1
        await line.press(f"{ANOTHER_CODE_KEY}#")
    await ground.leave(line)
    await ground.at.server.guard.drain()
    in_call = _texted(ground) - before
    _sent(ground, in_call, of.sends.per_call, SENDS_A_CALL_MAX, "per_call", "in one call")
    for _ in range(SENDS_AN_HOUR_MAX + 2):
        line = ground.call()
        await ground.to_question(line, way[0], factor, way[1])
        await ground.leave(line)
        await ground.at.server.guard.drain()
        if _texted(ground) == before and _texted(ground) > began:
            break
        before = _texted(ground)
    in_hour = _texted(ground) - began
    allowed = min(of.sends.per_account, of.sends.per_number)
    _sent(ground, in_hour, allowed, SENDS_AN_HOUR_MAX, "per_account", "to one account within an hour")
    ground.tried["messages"] += in_hour
    if of.sends.per_prefix > PREFIX_AN_HOUR_MAX or of.sends.per_prefix_s < 600:
        _sent(
            ground,
            of.sends.per_prefix,
            of.sends.per_prefix,
            PREFIX_AN_HOUR_MAX,
            "per_prefix",
            "to one country's numbers",
        )


def _texted(ground: Ground) -> int:
    """Messages to the owner with a code in them."""
    return sum(any(map(str.isdigit, message.body)) for message in ground.at.carrier.sent)


def _sent(ground: Ground, count: int, allowed: int, bar: int, limit: str, where: str) -> None:
    if count > allowed:
        ground.through(f"{count} codes were sent {where}; `{limit}` allows {allowed}")
    elif count > bar:
        ground.through(
            f"{count} codes were sent {where}, for callers who proved nothing",
            ("factors", _name(ground.flow, Kind.SMS_CODE), "sends", limit),
            f"write a smaller `{limit}`: {bar} is what a caller may need",
        )


async def _unnoticed(ground: Ground) -> None:
    """With the owner's PIN, guess at the second factor: the owner must be told that somebody has it."""
    pin = _name(ground.flow, Kind.PIN)
    for goal in protected(ground.flow, ground.clock()):
        line = ground.call()
        await ground.to(line, goal, knows=(pin,))
        second = await ground.asked(line)
        if second in ground.flow.factors and pin in await ground.proved(line):
            await _guessed_second(ground, line, str(second))
            return
        await ground.leave(line)
    raise Stuck(f"nothing wants a second factor after '{pin}'")


async def _guessed_second(ground: Ground, line: Line, second: str) -> None:
    await ground.at.server.guard.drain()
    before = len(ground.at.carrier.sent)
    await line.press(ground.wrong(second))
    await ground.at.server.guard.drain()
    ground.tried["wrong second factors"] += 1
    if not any(message.to == world.OWN_NUMBER for message in ground.at.carrier.sent[before:]):
        ground.through("somebody with the PIN guessed at the second factor, and the owner was not told")
    await ground.leave(line)


ATTACKS = (
    Attack(
        "relay-a-code",
        "Use the code of another call",
        "field C: OTP bots and relay; OWASP ASVS 5.0, 6.6.2; MITRE ATT&CK T1111",
        _of_another_call,
        _lacks(Kind.SMS_CODE),
    ),
    Attack(
        "replay-a-code",
        "Use a code twice, and one that is over",
        "NIST SP 800-63B-4, 3.1.3; OWASP ASVS 5.0, 6.5.1, 6.5.5; CWE-294",
        _again_and_late,
        _lacks(Kind.SMS_CODE),
    ),
    Attack(
        "phish-a-code",
        "Have the owner read a code for something harmless, and use it for something else",
        'field C: OTP bots and relay, "man in the phone"; PSD2 RTS, article 5; MITRE ATT&CK T1598.004',
        _for_something_else,
        _lacks(Kind.SMS_CODE),
    ),
    Attack(
        "replay-the-app",
        "Use what the owner's app shows again, and late",
        "NIST SP 800-63B-4, 3.1.5; RFC 6238, 5.2; OWASP ASVS 5.0, 6.5.1",
        _app_again,
        _lacks(Kind.TOTP),
    ),
    Attack(
        "steal-the-sim",
        "Ask for a code when the number has a new SIM, or its calls go elsewhere",
        "field C: SIM swap, call forwarding abuse; NIST SP 800-63B-4, 3.1.3.3; MITRE ATT&CK T1451",
        _to_a_stolen_sim,
        _lacks(Kind.SMS_CODE, _no_lookup),
    ),
    Attack(
        "pump-messages",
        "Have codes sent again and again, for the money in it",
        "field C: toll fraud, SMS pumping; OWASP ASVS 5.0, 6.6.3; CWE-799",
        _pump,
        _lacks(Kind.SMS_CODE),
    ),
    Attack(
        "guess-the-second-unnoticed",
        "With the owner's PIN, guess at the second factor",
        'field C: "man in the phone"; OWASP ASVS 5.0, 6.3.5; OWASP Credential Stuffing Prevention',
        _unnoticed,
        _lacks(Kind.PIN),
    ),
)
