"""
Attacks that guess: one account or many, fast or slow, at once or again.

Laws of this file
 1. A guess counts when a judge had something to compare it with (ground.py, law 2), whatever the caller was told.
 2. The bars are published ones: a lock after at most `FAILURES_MAX`, `RUN_MAX` wrong in a row at most, and no likelier a
    break than the flow's own `ceiling`, or `CHANCE_MAX` where it names none.
"""

import asyncio
import math
from collections.abc import Callable, Mapping

from ivrguard.core.assurance import Kind, ways
from ivrguard.core.budget import PINS_LEFT, TOTP_STEPS_ACCEPTED, YEAR_S
from ivrguard.core.flow import Factor, Flow
from ivrguard.core.lockout import Rule
from ivrguard.factors.pin import MOST_USED
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import protected
from ivrguard.phone.redteam.ground import Ground, Way

FAILURES_MAX = 10
"""PCI DSS 4.0.1, 8.3.4: a lock after no more tries than that."""
RUN_MAX = 100
"""NIST SP 800-63B-4, 3.2.2: no more wrong answers in a row; then the factor is disabled."""
CHANCE_MAX = 0.01
"""Of a break in a year, where a flow names no `ceiling`."""
MORE = 4
"""Guesses beyond those that the rule allows: enough to see one that is let through."""
AT_ONCE = 12
ONE_NUMBER_MAX = 30
"""Accounts that one telephone may try before its own rule ends that."""
SPRAYED = 8
ACCOUNTS = 100_000
"""A spray tries one guess on so many accounts (field.md: five guesses open one account in eight of four digits)."""


def unprotected(flow: Flow) -> str:
    """Why nothing can be guessed: nothing is asked for."""
    demands = (*(rule.demand for rule in flow.rules), flow.default)
    return "" if any(one.require is not None for one in demands) else "the flow protects nothing"


def _lacks(kind: Kind, what: str) -> Callable[[Flow], str]:
    def lacks(flow: Flow) -> str:
        has = any(factor.kind is kind for factor in flow.factors.values())
        return unprotected(flow) or ("" if has else f"the flow has no factor of kind {what}")

    return lacks


async def ways_of(ground: Ground) -> Mapping[str, Way]:
    """How each factor comes to be asked for."""
    found = {factor: await ground.way_to(factor) for factor in ground.flow.factors}
    for factor, way in found.items():
        if way is None:
            ground.notes.append(f"'{factor}' was not asked for, so nobody guessed at it")
        elif way[1]:
            ground.notes.append(
                f"'{factor}' is asked for only after {' and '.join(way[1])}: the attacker has that"
            )
    return {factor: way for factor, way in found.items() if way is not None}


def _too_many(ground: Ground, factor: str, judged: int, allowed: int, when: str) -> None:
    ground.tried["guesses judged"] += judged
    if judged > allowed:
        ground.through(f"{judged} guesses at '{factor}' were judged {when}; the rule allows {allowed}")


def _rule(ground: Ground) -> Rule:
    return ground.flow.locks.account


# ── one account ──────────────────────────────────────────────────────────────────────────────────────────


async def _in_a_row(ground: Ground) -> None:
    """Guess from number after number until nothing is judged any more; then with the right answer."""
    failures = _rule(ground).failures
    for factor, way in (await ways_of(ground)).items():
        ground.watch.forget()
        judged = await ground.guess(factor, way, most=min(failures, FAILURES_MAX) + MORE)
        _too_many(ground, factor, judged, failures, "before the lock")
        if judged > FAILURES_MAX:
            ground.through(
                f"{judged} guesses at '{factor}' in a row, and no lock",
                ("lockout", "failures"),
                f"write `failures: {FAILURES_MAX}` or fewer (PCI DSS 4.0.1, 8.3.4; PSD2 RTS, article 4: 5)",
            )
            continue
        line = ground.call()
        if await ground.to_question(line, way[0], factor, way[1]):
            await line.press(await ground.right(factor))
            ground.tried["right answers while locked"] += 1
            if factor in await ground.proved(line):
                ground.through(f"'{factor}' was locked, and the right answer was taken")
        await ground.leave(line)


async def _at_once(ground: Ground) -> None:
    """Many calls key a guess at the same moment, each sent twice."""
    for factor, (goal, knows) in (await ways_of(ground)).items():
        lines = [ground.call() for _ in range(AT_ONCE)]
        ready = [line for line in lines if await ground.to_question(line, goal, factor, knows)]
        ground.watch.forget()
        for line in ready:
            line.send_twice = True
        ground.tried["guesses keyed"] += len(ready)
        await asyncio.gather(*(line.press(ground.wrong(factor)) for line in ready))
        judged = ground.watch.judged.count(ground.flow.factors[factor].kind)
        _too_many(ground, factor, judged, _rule(ground).failures, f"in {len(ready)} calls at once")
        for line in lines:
            line.send_twice = False
            await ground.leave(line)


async def _again(ground: Ground) -> None:
    """Send each guess once more, to have it judged once more, or the same question's with other digits."""
    failures = _rule(ground).failures
    for factor, way in (await ways_of(ground)).items():
        line = await ground.question(factor, way)
        assert isinstance(line.waiting, Asked)
        stale = line.waiting.action
        ground.watch.forget()
        await line.press(ground.wrong(factor))
        place = max(n for n, request in enumerate(line.requests) if request.url == stale)
        for _ in range(3):
            ground.tried["webhooks sent again"] += 1
            await line.repeat(place)
        if failures > 1:
            judged = ground.watch.judged.count(ground.flow.factors[factor].kind)
            _too_many(ground, factor, judged, 1, "when one was sent four times")
        for _ in range(failures + MORE):
            ground.tried["other digits to a question that is over"] += 1
            await line.send(stale, {"Digits": ground.wrong(factor)})
        judged = ground.watch.judged.count(ground.flow.factors[factor].kind)
        _too_many(ground, factor, judged, failures, "by answering one question again and again")
        await ground.leave(line)


async def _and_hang_up(ground: Ground) -> None:
    """Break off while the guess is being judged, so that nobody writes it down."""
    failures = _rule(ground).failures
    for factor, (goal, knows) in (await ways_of(ground)).items():
        ground.watch.forget()
        for _ in range(min(failures, FAILURES_MAX) + MORE):
            line = ground.call()
            if await ground.to_question(line, goal, factor, knows):
                ground.tried["calls broken off"] += 1
                await _broken_off(ground, line, ground.wrong(factor))
            await ground.leave(line)
        judged = ground.watch.judged.count(ground.flow.factors[factor].kind)
        _too_many(ground, factor, judged, failures, "in calls that were broken off")


async def _broken_off(ground: Ground, line: Line, digits: str) -> None:
    """Send an answer and close the connection as soon as somebody looks at it."""
    assert isinstance(line.waiting, Asked)
    ground.watch.looks.clear()
    sending = asyncio.ensure_future(line.send(line.waiting.action, {"Digits": digits}))
    looks = asyncio.ensure_future(ground.watch.looks.wait())
    await asyncio.wait((sending, looks), return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, looks):
        task.cancel()
    await asyncio.gather(sending, looks, return_exceptions=True)
    await ground.watch.rests.wait()


async def _for_a_year(ground: Ground) -> None:
    """Guess one short of the lock at each factor, wait until the window is over, and go on for a year of the flow's own time."""
    rule, ways_ = _rule(ground), await ways_of(ground)
    batch = max(1, rule.failures - 1)
    wait_s = rule.within_s + 1 if rule.failures > 1 else max(rule.lock_s) + 1
    began_ms, judged = ground.clock(), dict.fromkeys(ways_, 0)
    left = dict(ways_)
    # An account for each factor: who has the PIN and guesses codes answers right in between, and that forgives.
    accounts = {factor: await ground.account(5_000 + nth) for nth, factor in enumerate(ways_)}
    while left and ground.clock() - began_ms < YEAR_S * 1000:
        for factor, way in tuple(left.items()):
            most = min(batch, RUN_MAX + 1 - judged[factor])
            got = await ground.guess(factor, way, most=most, account=accounts[factor])
            judged[factor] += got
            if not got or judged[factor] > RUN_MAX:
                del left[factor]
        ground.clock.advance(wait_s)
    days = max(1, (ground.clock() - began_ms) // 86_400_000)
    ground.tried["guesses judged"] += sum(judged.values())
    ground.tried["days until nothing more was judged"] += days
    for factor, count in judged.items():
        _in_a_year(ground, factor, count, days)


def _in_a_year(ground: Ground, factor: str, judged: int, days: int) -> None:
    allowed = _rule(ground).lifetime or RUN_MAX
    if judged > RUN_MAX:
        ground.through(
            f"{judged} wrong answers in a row at '{factor}' were judged in {days} days, and it went on",
            ("lockout", "lifetime"),
            f"write `lifetime: {RUN_MAX}` or less (NIST SP 800-63B-4, 3.2.2)",
        )
    elif judged > allowed:
        ground.through(f"{judged} wrong answers in a row at '{factor}'; the lifetime is {allowed}")
    chance = judged * _chance(ground.flow.factors[factor])
    bar = ground.flow.ceiling or CHANCE_MAX
    if chance > bar:
        ground.through(
            f"{judged} guesses in a year find '{factor}' once in {1 / chance:,.0f} accounts",
            ("factors", factor, "digits"),
            f"more digits, or a smaller `lifetime`: one in {1 / bar:,.0f} is the most",
        )


def _chance(factor: Factor) -> float:
    """That one guess is right."""
    match factor.kind:
        case Kind.PIN:
            return 1 / (PINS_LEFT * math.pow(10, factor.digits))
        case Kind.SMS_CODE:
            return math.pow(10, -factor.digits)
        case _:
            return TOTP_STEPS_ACCEPTED * math.pow(10, -factor.digits)


async def _with_new_codes(ground: Ground) -> None:
    """Have a new code sent for each guess: a new code must not be new guesses."""
    factor = next(name for name, one in ground.flow.factors.items() if one.kind is Kind.SMS_CODE)
    way = await ground.way(factor)
    ground.watch.forget()
    failures = _rule(ground).failures
    for _ in range(min(failures, FAILURES_MAX) + MORE):
        line = ground.call()
        while await ground.to_question(line, way[0], factor, way[1]):
            await line.press(ground.wrong(factor))
            ground.tried["guesses keyed"] += 1
        ground.tried["new codes"] += 1
        await ground.leave(line)
    judged = ground.watch.judged.count(Kind.SMS_CODE)
    _too_many(ground, factor, judged, failures, "with a new code for each")


# ── many accounts ────────────────────────────────────────────────────────────────────────────────────────


async def _from_one_number(ground: Ground) -> None:
    """One telephone goes from account to account, one guess at each."""
    factor, way = await ground.first()
    number = ground.stranger()
    judged = 0
    for nth in range(ONE_NUMBER_MAX + 1):
        account = await ground.account(2_000 + nth)
        got = await ground.guess(factor, way, most=1, account=account, from_=lambda: number)
        judged += got
        if not got:
            break
    ground.tried["accounts"] += judged
    rule = ground.flow.locks.caller_number
    if judged > ONE_NUMBER_MAX:
        ground.through(
            f"one telephone guessed at {judged} accounts within a minute, and was not stopped",
            ("lockout", "caller_number"),
            "write `caller_number: {failures: 20, within: 1h, lock: [1h]}`",
        )
    elif rule is not None and judged > rule.failures:
        ground.through(f"one telephone made {judged} guesses; its rule allows {rule.failures}")


def _common(digits: int) -> tuple[str, ...]:
    """What people choose who may choose anything."""
    rows = ("1234567890" * 2)[:digits], ("0987654321" * 2)[:digits], ("12" * digits)[:digits]
    used = [pin for pin in sorted(MOST_USED) if len(pin) == digits]
    return tuple(dict.fromkeys((*(str(digit) * digits for digit in range(10)), *rows, *used)))


async def _spray(ground: Ground) -> None:
    """The most used PINs, one guess at each account, each from a number of its own."""
    factor, of = next((name, one) for name, one in ground.flow.factors.items() if one.kind is Kind.PIN)
    pins = ground.at.server.guard.world.pins
    assert pins is not None
    way = await ground.way(factor)
    chosen: dict[str, str] = {}
    for nth, pin in enumerate(_common(of.digits)[:SPRAYED]):
        account = await ground.account(3_000 + nth)
        ground.tried["favourite PINs that customers tried to choose"] += 1
        if await pins.change(account, pin, now_ms=ground.clock()):
            chosen[account] = pin
    for account, pin in chosen.items():
        line = await ground.question(factor, way, account)
        await line.press(pin)
        ground.tried["accounts"] += 1
        if factor in await ground.proved(line):
            ground.through(f"a customer may choose the PIN of {of.digits} digits that everybody tries first")
        await ground.leave(line)
    _spray_of_one_guess_each(ground)


def _spray_of_one_guess_each(ground: Ground) -> None:
    flow = ground.flow
    every = {name: _chance(one) for name, one in flow.factors.items()}
    for goal in protected(flow, ground.clock()):
        level = flow.levels[goal.demand.require or ""]
        for way in ways(level):
            expected = float(ACCOUNTS)
            for factor in way:
                expected *= every[factor]
            if expected >= 1:
                weakest = max(way, key=lambda name: every[name])
                ground.through(
                    f"one guess at each of {ACCOUNTS:,} accounts opens {goal} of {expected:,.0f} of them by "
                    + " and ".join(sorted(way)),
                    ("factors", weakest, "digits"),
                    "write more digits: 6 at the least, 8 for a PIN (NIST SP 800-63B-4, 3.1.1.2)",
                )


ATTACKS = (
    Attack(
        "guess",
        "Guess at one account from number after number; then with the right answer, while it is locked",
        "field C: PIN guessing on one account; MITRE ATT&CK T1110.001; OWASP ASVS 5.0, 6.3.1",
        _in_a_row,
        unprotected,
    ),
    Attack(
        "guess-at-once",
        f"{AT_ONCE} calls key their guess at the same moment, each webhook twice",
        "field H3: counted after the compare, parallel tries go free; CWE-362",
        _at_once,
        unprotected,
    ),
    Attack(
        "guess-again",
        "Send a guess again, and other digits to the same question",
        "field H13: a retry counted wrongly; field C: webhook replay; CWE-294",
        _again,
        unprotected,
    ),
    Attack(
        "guess-and-hang-up",
        "Break off while the guess is judged, so that nobody counts it",
        "field H3; OWASP ASVS 5.0, 2.3.1",
        _and_hang_up,
        unprotected,
    ),
    Attack(
        "guess-for-a-year",
        "One short of the lock, again and again, for a year",
        "field C: distributed, low and slow; NIST SP 800-63B-4, 3.2.2; field A5",
        _for_a_year,
        unprotected,
    ),
    Attack(
        "guess-with-new-codes",
        "Ask for a new code before each guess",
        "field H2: a new code cleared the counter; NIST SP 800-63B-4, 3.1.3",
        _with_new_codes,
        _lacks(Kind.SMS_CODE, "sms_code"),
    ),
    Attack(
        "guess-from-one-number",
        "One telephone goes from account to account",
        "field C: PIN spray over accounts; MITRE ATT&CK T1110.003",
        _from_one_number,
        unprotected,
    ),
    Attack(
        "spray",
        "The PINs that people like best, one guess at each account",
        "field C: PIN spray over accounts; MITRE ATT&CK T1110.003; OWASP ASVS 5.0, 6.2.4",
        _spray,
        _lacks(Kind.PIN, "pin"),
    ),
)
