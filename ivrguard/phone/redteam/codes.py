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
from ivrguard.phone.heard import Asked
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, protected
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import Way, unprotected

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


async def _asked_for_code(ground: Ground, kind: Kind) -> tuple[str, Way, Line] | None:
    """A call at the question for the code, what the factor is called, and the way there; None: it is asked nowhere."""
    found = _code_of(ground.flow, kind)
    assert found is not None
    way = await ground.way_to(found[0])
    if way is None:
        ground.notes.append(f"'{found[0]}' is asked for nowhere")
        return None
    line = ground.call()
    await ground.to_question(line, way[0], found[0], way[1])
    return found[0], way, line


async def _proves(ground: Ground, line: Line, factor: str, digits: str) -> bool:
    """Whether the digits prove the factor, at the question that is open; or at a place where one was."""
    assert isinstance(line.waiting, Asked)
    ground.tried["codes keyed"] += 1
    await line.press(digits)
    call = await ground.state(line)
    return call is not None and factor in {proof.factor for proof in call.proofs}


async def _of_another_call(ground: Ground) -> None:
    """Use the code that the owner was sent in a call of his own, in another one."""
    first = await _asked_for_code(ground, Kind.SMS_CODE)
    if first is None:
        return
    factor, way, owners = first
    code = await ground.right(factor)
    attacker = ground.call()
    if await ground.to_question(attacker, way[0], factor, way[1]) and await _proves(
        ground, attacker, factor, code
    ):
        ground.through("a code that was sent in one call was taken in another one")
    await ground.leave(attacker)
    await ground.leave(owners)


async def _again_and_late(ground: Ground) -> None:
    """Use a code a second time in its own call, and one that is over."""
    first = await _asked_for_code(ground, Kind.SMS_CODE)
    if first is None:
        return
    factor, way, line = first
    code = await ground.right(factor)
    if await _proves(ground, line, factor, code):
        call = await ground.state(line)
        if call is not None and any(sent.factor == factor for sent in call.sent):
            ground.through("a code that was used is still good in its call")
    await ground.leave(line)
    late = ground.call()
    if await ground.to_question(late, way[0], factor, way[1]):
        code = await ground.right(factor)
        ground.clock.advance(ground.flow.factors[factor].valid_s)
        if await _proves(ground, late, factor, code):
            ground.through("a code that was over was taken")
    await ground.leave(late)


async def _for_something_else(ground: Ground) -> None:
    """Have the owner tell a code "for his balance", and use it where the flow wants one of its own."""
    found = _code_of(ground.flow)
    assert found is not None
    factor = found[0]
    others = tuple(name for name in ground.flow.factors if name != factor)
    every = protected(ground.flow, ground.clock())
    for goal in (one for one in every if one.demand.intent):
        weak = next((one for one in every if one.demand.intent != goal.demand.intent), None)
        if weak is None:
            continue
        line = ground.call()
        if await ground.to(line, weak, knows=(factor,)) != "there":
            await ground.leave(line)
            line = ground.call()
            if await ground.to(line, weak, knows=(*others, factor)) != "there":
                await ground.leave(line)
                continue
        ground.tried["codes talked out of the owner"] += 1
        if not isinstance(line.waiting, Asked):
            await ground.leave(line)
            continue
        call = await ground.state(line)
        told = {proof.factor for proof in call.proofs} if call is not None else set[str]()
        if factor in told and await ground.to(line, goal, stop=factor, knows=others) == "there":
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
    first = await _asked_for_code(ground, Kind.TOTP)
    if first is None:
        return
    factor, way, line = first
    shown = await ground.right(factor)
    await _proves(ground, line, factor, shown)
    await ground.leave(line)
    for code in (shown, ground.telling.app(-1)):
        again = ground.call()
        if await ground.to_question(again, way[0], factor, way[1]) and await _proves(
            ground, again, factor, code
        ):
            ground.through("a code of the app was taken twice, or one from before it")
        await ground.leave(again)
    ground.clock.advance(3 * STEP_S)
    stale = ground.call()
    ready = await ground.to_question(stale, way[0], factor, way[1])
    if ready and await _proves(ground, stale, factor, ground.telling.app(-3)):
        ground.through("a code of the app was taken a minute and a half later")
    await ground.leave(stale)


async def _to_a_stolen_sim(ground: Ground) -> None:
    """The owner's number has a new SIM since an hour, or its calls go elsewhere; then ask for a code."""
    found = _code_of(ground.flow)
    assert found is not None
    factor, of = found
    way = await ground.way_to(factor)
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
        line = ground.call()
        if way is not None:
            await ground.to_question(line, way[0], factor, way[1])
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
    found = _code_of(ground.flow)
    assert found is not None
    factor, of = found
    way = await ground.way_to(factor)
    if way is None:
        return
    await ground.at.server.guard.drain()
    began = before = _texted(ground)
    line = ground.call()
    if await ground.to_question(line, way[0], factor, way[1]):
        for _ in range(SENDS_A_CALL_MAX + 2):
            if await ground.asked(line) == factor:
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
            ("factors", _name_of_code(ground), "sends", limit),
            f"write a smaller `{limit}`: {bar} is what a caller may need",
        )


def _name_of_code(ground: Ground) -> str:
    found = _code_of(ground.flow)
    assert found is not None
    return found[0]


async def _unnoticed(ground: Ground) -> None:
    """With the owner's PIN, guess at the second factor: the owner must be told that somebody has it."""
    pin = _code_of(ground.flow, Kind.PIN)
    assert pin is not None
    every = protected(ground.flow, ground.clock())
    goals = [one for one in every if await _two(ground, one, pin[0])]
    if not goals:
        ground.notes.append("nothing in the flow wants a second factor after the PIN")
        return
    line = ground.call()
    await ground.to(line, goals[0], knows=(pin[0],))
    factor = await ground.asked(line)
    await ground.at.server.guard.drain()
    before = len(ground.at.carrier.sent)
    if factor in ground.flow.factors and factor is not None:
        await line.press(ground.wrong(factor))
        await ground.at.server.guard.drain()
        ground.tried["wrong second factors"] += 1
        if not any(message.to == world.OWN_NUMBER for message in ground.at.carrier.sent[before:]):
            ground.through("somebody with the PIN guessed at the second factor, and the owner was not told")
    await ground.leave(line)


async def _two(ground: Ground, goal: Goal, pin: str) -> bool:
    line = ground.call()
    await ground.to(line, goal, knows=(pin,))
    call = await ground.state(line)
    asked = await ground.asked(line)
    await ground.leave(line)
    return asked in ground.flow.factors and asked != pin and call is not None and bool(call.proofs)


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
