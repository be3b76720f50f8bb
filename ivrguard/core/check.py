"""
Every fault of a flow that can be known before a call, and every doubt.

The laws of this file:

1. `check` sees meaning: names that dangle, rules that can never apply, levels that nobody can reach, what is worth
   protecting and is not. Syntax, types and places are the business of the flowfile package: a `Finding` names its
   place as a path of keys and positions into the file.
2. An error is what cannot be meant, or would refuse or let through callers whatever they do. What may be meant is a
   doubt. Each has its mend in its words.
3. What follows from another finding is not told.

Numbers: NIST SP 800-63B-4 (3.1.1.2, 3.1.3, 3.2.2); OWASP ASVS 5.0, 7.5.1; the limits of Twilio Verify
(https://www.twilio.com/docs/api/errors/60203, https://www.twilio.com/docs/verify/api/rate-limits-and-timeouts).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice

from ivrguard.core.assurance import (
    AllOf,
    AnyOf,
    Expression,
    Kind,
    categories,
    factors_of,
    least,
    plan,
    ways,
)
from ivrguard.core.budget import over_ceiling
from ivrguard.core.call import KNOWN_NUMBER_KEY
from ivrguard.core.conference import check_bridges
from ivrguard.core.flow import (
    CODE_DIGITS_MIN,
    CODE_VALID_S_MAX,
    PIN_DIGITS_MIN,
    PIN_DIGITS_NIST,
    PROMPTS,
    Factor,
    Finding,
    Flow,
    Place,
    Sensitive,
    Via,
)
from ivrguard.core.overlap import (
    covers_entry,
    covers_target,
    hidden,
    in_common,
    is_unconditional,
    shared_path,
)
from ivrguard.core.raising import comparable, raised
from ivrguard.core.rules import Demand, Rule, Target, glob
from ivrguard.core.sense import Attack

ANSWER_S: Mapping[Kind, int] = {Kind.PIN: 15, Kind.SMS_CODE: 45, Kind.TOTP: 25}
"""
How long a caller takes to answer, from the end of the answer before: assumptions.

A PIN is heard and keyed; a code must arrive and be read; an app must be opened first. Nobody has published
measurements of this on the telephone.
"""

TURN_S = 5
"""From the last answer to the IVR's own: judging, and one webhook more."""

WITHIN_S_MIN = 30
"""The floor for any `within`: a shorter one asks anew at nearly every step of a menu."""

VERIFY_SENDS_MAX = 5
VERIFY_VALID_S = 600
"""A verification is sent five times and lives ten minutes, whatever a flow says."""

LIFETIME_MAX = 100
"""NIST SP 800-63B-4, 3.2.2: failures in a row."""

SLIPS_TOLD_MAX = 5
"""Rules that let one sensitive entry slip: whoever has mended so many looks again."""

RISKY = frozenset(
    {
        *(
            "account",
            "accounts",
            "balance",
            "balances",
            "beneficiary",
            "card",
            "cards",
            "limit",
            "limits",
            "loan",
        ),
        *("password", "passwords", "pay", "payee", "payees", "payment", "payments", "payout", "pin", "pins"),
        *("statement", "statements", "transfer", "transfers", "wire", "wires", "withdraw", "withdrawal"),
    }
)
"""Words in a path that seldom lead to what is open to anyone."""


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of all of them."""
    close = get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def check(flow: Flow) -> tuple[Finding, ...]:
    """Every fault and doubt of the flow, in the order of the file's parts."""
    return (
        *_check_identify(flow),
        *_check_languages(flow),
        *_check_factors(flow),
        *_check_levels(flow),
        *_check_rules(flow),
        *_check_sensitive(flow),
        *_check_pin_change(flow),
        *_check_locks(flow),
        *_check_ceiling(flow),
        *_check_sense(flow),
        *_check_prompts(flow),
    )


# ── who calls, and in which language ─────────────────────────────────────────────────────────────────────


def _check_identify(flow: Flow) -> Iterator[Finding]:
    if flow.identify.digits_min > flow.identify.digits_max:
        yield Finding(
            ("identify", "digits"), "`min` is more than `max`: no number of keys would do; swap them"
        )
    if flow.identify.offer_known_number and flow.identify.digits_min == 1:
        yield Finding(
            ("identify", "digits", "min"),
            "key 1 takes the number on file, so an account number of one digit cannot be told from it; use 2 or more",
        )


def _check_languages(flow: Flow) -> Iterator[Finding]:
    tongues = {flow.language: "the flow's own"}
    keys: dict[str, str] = {}
    if flow.identify.offer_known_number:
        keys[KNOWN_NUMBER_KEY] = "the number on file"
    for position, other in enumerate(flow.languages):
        place = ("languages", position)
        before = tongues.setdefault(other.language, f"languages[{position}]")
        if before != f"languages[{position}]":
            yield Finding((*place, "language"), f"'{other.language}' is {before} already; take it out")
        if not other.key:
            continue
        taken = keys.setdefault(other.key, f"languages[{position}]")
        if taken != f"languages[{position}]":
            yield Finding((*place, "key"), f"key {other.key} is taken by {taken}; use another one")
        elif flow.identify.digits_min == 1:
            yield Finding(
                (*place, "key"),
                f"an account number may have one digit, and cannot be told from key {other.key}; "
                "make `identify.digits.min` 2 or more, or take the key out",
            )


# ── factors and levels ───────────────────────────────────────────────────────────────────────────────────


def _check_factors(flow: Flow) -> Iterator[Finding]:
    if not flow.factors:
        yield Finding(
            ("factors",),
            "there is no factor: nothing can be proved; add one, such as `pin: {kind: pin, digits: 8}`",
        )
    named = frozenset[str]().union(*map(factors_of, flow.levels.values()))
    first: dict[Kind, str] = {}
    for name, factor in flow.factors.items():
        place = ("factors", name)
        if first.setdefault(factor.kind, name) != name:
            yield Finding(
                (*place, "kind"),
                f"'{first[factor.kind]}' is of this kind already: the same secret would count as two factors "
                "and be guessed at twice as often; take one out",
            )
        if name not in named:
            yield Finding(place, "no level uses this factor; name it in one, or take it out", error=False)
        match factor.kind:
            case Kind.PIN if factor.digits < PIN_DIGITS_MIN:
                yield Finding(
                    (*place, "digits"), f"a PIN of {factor.digits} digits: use {PIN_DIGITS_MIN} or more"
                )
            case Kind.PIN if factor.digits < PIN_DIGITS_NIST:
                yield Finding(
                    (*place, "digits"),
                    f"a PIN of {factor.digits} digits falls short of NIST SP 800-63B-4, 3.1.1.2 ({PIN_DIGITS_NIST})",
                    error=False,
                )
            case Kind.SMS_CODE:
                yield from _check_code(factor, place)
            case _:
                pass


def _check_code(factor: Factor, place: Place) -> Iterator[Finding]:
    if factor.digits < CODE_DIGITS_MIN:
        yield Finding(
            (*place, "digits"),
            f"a code of {factor.digits} digits: use {CODE_DIGITS_MIN} or more (NIST 3.1.3)",
        )
    if factor.valid_s > CODE_VALID_S_MAX:
        yield Finding((*place, "valid"), f"a code may live {CODE_VALID_S_MAX // 60}m at most (NIST 3.1.3)")
    elif factor.via is Via.VERIFY and factor.valid_s != VERIFY_VALID_S:
        yield Finding(
            (*place, "valid"),
            f"Verify's codes live {VERIFY_VALID_S // 60}m, whatever stands here; take `valid` out",
        )
    if factor.via is Via.VERIFY and factor.sends.per_call > VERIFY_SENDS_MAX:
        yield Finding(
            (*place, "sends", "per_call"),
            f"Verify sends a code {VERIFY_SENDS_MAX} times at most (error 60203); use {VERIFY_SENDS_MAX} or less",
        )


def is_sound(flow: Flow, expression: Expression) -> bool:
    """
    Whether a level can be looked at further: its names are there, and no kind is there twice.

    What is not so has been reported; and every choice of factors is tried, so they must be few.
    """
    kinds = flow.kinds()
    return factors_of(expression) <= flow.factors.keys() and len(set(kinds.values())) == len(kinds)


def two_categories(flow: Flow, expression: Expression) -> bool:
    """Whether every way to this level takes something known and something held."""
    ways = categories(expression, flow.kinds())
    return bool(ways) and all(len(way) > 1 for way in ways)


def _check_levels(flow: Flow) -> Iterator[Finding]:
    for name, expression in flow.levels.items():
        yield from _dangling(flow, expression, ("levels", name))
        if not is_sound(flow, expression):
            continue
        if plan(expression, frozenset(), factors_of(expression)) is None:
            yield Finding(("levels", name), "nobody can reach this level; name a factor in each part of it")
        if least(expression) > 1 and not two_categories(flow, expression):
            yield Finding(
                ("levels", name),
                "two factors here can both be of one category (something known, something held); "
                "write `all: [a known one, a held one]`",
                error=False,
            )
    named = {level for demand, _ in demands(flow) for level in (demand.require, demand.reverify)}
    for name in flow.levels:
        if name not in {*named, flow.sense.raise_to}:
            yield Finding(
                ("levels", name), "no rule uses this level; name it in one, or take it out", error=False
            )


def _dangling(flow: Flow, expression: Expression, place: Place) -> Iterator[Finding]:
    match expression:
        case AnyOf(of):
            for position, member in enumerate(of):
                yield from _dangling(flow, member, (*place, "any", position))
        case AllOf(of):
            for position, member in enumerate(of):
                yield from _dangling(flow, member, (*place, "all", position))
        case str(factor) if factor not in flow.factors:
            yield Finding(place, f"there is no factor '{factor}'{did_you_mean(factor, flow.factors)}")
        case _:
            pass


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


def demands(flow: Flow) -> Iterator[tuple[Demand, Place]]:
    """Everything that is demanded anywhere, and where it stands."""
    for position, rule in enumerate(flow.rules):
        yield rule.demand, ("rules", position)
    yield flow.default, ("default",)
    if flow.pin_change is not None:
        yield flow.pin_change.demand, ("pin_change",)


def _check_demands(flow: Flow) -> Iterator[Finding]:
    waits: dict[tuple[str | None, str | None], Sequence[int]] = {}
    for demand, place in demands(flow):
        for key, level in (("require", demand.require), ("reverify", demand.reverify)):
            if level is None or level in flow.levels:
                continue
            mend = did_you_mean(level, flow.levels)
            if level in flow.factors:
                mend = f"; '{level}' is a factor: add a level made of it, such as `only_{level}: {{any: [{level}]}}`"
            yield Finding((*place, key), f"there is no level '{level}'{mend}")
        if demand.within_s is not None:
            levels = (demand.require, demand.reverify)
            if levels not in waits:
                waits[levels] = _waits_s(flow, demand)
            yield from _check_within(demand.within_s, waits[levels], (*place, "within"))
        if demand.reverify is None:
            continue
        if place[0] != "rules" or flow.rules[int(place[1])].transfer is None:
            yield Finding(
                (*place, "reverify"),
                "only a transfer can want a fresh proof (each request would ask anew); "
                "move it to a rule with `transfer`",
            )
        elif demand.require is None:
            yield Finding(
                (*place, "reverify"), "a transfer open to anyone asks for nothing; write `require` too"
            )


def _waits_s(flow: Flow, demand: Demand) -> tuple[int, ...]:
    """
    How old the first proof of the level is when everything is answered, in seconds: one for each way of asking.

    The questions come in the order of the level, then those of `reverify` that are left (core/demands.py).
    """
    wanted = [flow.levels.get(name, AllOf(())) for name in (demand.require, demand.reverify) if name]
    if not wanted or not all(is_sound(flow, level) for level in wanted):
        return ()
    found: list[int] = []
    for way in ways(*wanted):
        steps = plan(wanted[0], frozenset(), way) or ()
        later = (*steps[1:], *(way - frozenset(steps)))
        found.append(TURN_S + sum(ANSWER_S[flow.factors[name].kind] for name in later))
    return tuple(found)


def _check_within(within_s: int, waits_s: Sequence[int], place: Place) -> Iterator[Finding]:
    if within_s < WITHIN_S_MIN:
        yield Finding(
            place,
            f"{within_s}s is over before a caller has answered: he would be asked again and again; "
            f"use {max((WITHIN_S_MIN, *waits_s))}s or more",
        )
    elif waits_s and within_s < min(waits_s):
        yield Finding(
            place,
            f"the questions of this level take longer than {within_s}s, so its first proof is too old when the last "
            f"one is made: he would be asked again and again; use {max(waits_s)}s or more",
        )
    elif waits_s and within_s < max(waits_s):
        yield Finding(
            place,
            f"one way through the questions of this level takes {max(waits_s)}s: who goes it is asked twice; "
            f"use {max(waits_s)}s or more",
            error=False,
        )


def _check_rules(flow: Flow) -> Iterator[Finding]:
    yield from _check_demands(flow)
    if flow.default.require is None:
        yield Finding(
            ("default",), "whatever no rule names is open to anyone; require a level here", error=False
        )
    for position, hiding in hidden(flow.rules):
        others = " and ".join(f"rules[{at}]" for at in hiding)
        verb = "matches" if len(hiding) == 1 else "together match"
        yield Finding(
            ("rules", position),
            f"this rule can never apply: {others} {verb} everything that it matches; move it up or take it out",
        )
    yield from _check_places(flow)
    for position, rule in enumerate(flow.rules):
        words = set(re.findall("[a-z]+", (rule.path or "").lower()))
        if rule.demand.require is None and rule.transfer is None and words & RISKY:
            yield Finding(
                ("rules", position, "allow"),
                f"'{min(words & RISKY)}' seldom leads to what is open to anyone; require a level, "
                "or give the path another name",
                error=False,
            )
    yield from _check_transfers(flow)
    yield from check_bridges(flow)


def _check_places(flow: Flow) -> Iterator[Finding]:
    """Rules about numbers that nobody dials here, and about places where no document may lead."""
    anything = "*" in flow.numbers
    elsewhere = [f"//{origin.partition('//')[2]}/**" for origin in flow.upstream.also]
    for position, rule in enumerate(flow.rules):
        if rule.dialled is not None and not anything:
            form = glob(rule.dialled)
            if not any(form.fullmatch(number) for number in flow.numbers):
                yield Finding(
                    ("rules", position, "dialled"),
                    "this rule can never apply: none of the flow's `numbers` is meant by it; mend it or take it out",
                )
        path = rule.path or ""
        if path.startswith("//") and not any(shared_path(path, place) for place in elsewhere):
            yield Finding(
                ("rules", position, "path"),
                "this rule can never apply: documents may not point there; add the origin to `upstream.also`, or "
                "write a path of your IVR's own, which begins with one slash",
            )


def _check_transfers(flow: Flow) -> Iterator[Finding]:
    """What only the default decides has no fresh proof: seldom meant where a call is handed over."""
    sure = [
        rule.transfer for rule in flow.rules if rule.transfer and is_unconditional(rule) and rule.path is None
    ]
    if not any(rule.transfer is not None for rule in flow.rules):
        yield Finding(
            ("rules",),
            "no rule speaks of transfers: each one needs the default level and no fresh proof; "
            "add `- {transfer: any, require: ..., reverify: ...}`",
            error=False,
        )
        return
    named = frozenset(sure)
    for position, rule in enumerate(flow.rules):
        if rule.transfer is None or rule.transfer in named:
            continue
        if not any(covers_target(wide, rule.transfer) for wide in sure):
            yield Finding(
                ("rules", position, "transfer"),
                "where this rule's other conditions do not hold, this transfer needs the default level and no "
                "fresh proof; add a rule for it without conditions",
                error=False,
            )
    every = Target("*", "*")
    if not any(rule.transfer and covers_target(rule.transfer, every) for rule in flow.rules):
        yield Finding(
            ("rules",),
            "transfers that no rule names need the default level and no fresh proof; "
            "add `- {transfer: any, require: ..., reverify: ...}` at the end",
            error=False,
        )


# ── what is worth protecting ─────────────────────────────────────────────────────────────────────────────


def _check_sensitive(flow: Flow) -> Iterator[Finding]:
    """Each entry is decided, wherever it matches, by a rule that wants two categories, and by none before it that does not."""
    weak = frozenset(level for level in flow.levels if is_weak(flow, level))
    concerned: list[tuple[int, Rule, bool]] = []
    for at, rule in enumerate(flow.rules):
        lets_slip = rule.demand.require is None or rule.demand.require in weak
        if lets_slip or is_unconditional(rule):
            concerned.append((at, rule, lets_slip))
    for position, entry in enumerate(flow.sensitive):
        for message in islice(_unprotected(concerned, entry), SLIPS_TOLD_MAX):
            yield Finding(("sensitive", position), message)


def _unprotected(concerned: Sequence[tuple[int, Rule, bool]], entry: Sensitive) -> Iterator[str]:
    """`concerned`: the rules that decide on something for certain, or let it slip, and whether they do that."""
    for at, rule, lets_slip in concerned:
        common = in_common(rule, entry) if lets_slip else None
        if common is not None and rule.demand.require is None:
            yield (
                f"rules[{at}] opens '{common}' to anyone; move it below the rule that protects this, "
                "or make it narrower"
            )
        elif common is not None:
            yield (
                f"rules[{at}] gives '{common}' for '{rule.demand.require}', which one kind of factor can reach; "
                "require a level of something known and something held"
            )
        if (common is not None or not lets_slip) and covers_entry(rule, entry):
            return
    wanted = f"transfer: {{{entry.kind}: {entry.value}}}" if isinstance(entry, Target) else f'path: "{entry}"'
    yield (
        "no rule decides all of this, so some of it falls to the default; "
        f"add `- {{{wanted}, require: <a level of two categories>}}` without other conditions"
    )


def is_weak(flow: Flow, level: str) -> bool:
    """Whether one kind of factor reaches the level. One that cannot be looked at has been reported."""
    expression = flow.levels[level]
    return is_sound(flow, expression) and not two_categories(flow, expression)


# ── changing a PIN, locks, prompts ───────────────────────────────────────────────────────────────────────


def _check_pin_change(flow: Flow) -> Iterator[Finding]:
    change = flow.pin_change
    if change is None:
        return
    if Kind.PIN not in flow.kinds().values():
        yield Finding(("pin_change",), "there is no factor of kind `pin` to be changed; take this out")
    level = change.demand.require
    if level is None or (level in flow.levels and is_weak(flow, level)):
        yield Finding(
            ("pin_change", "require"),
            "with one kind of factor, or none, whoever has one secret could take the other; "
            "require a level of something known and something held",
        )
    if change.then == change.path:
        yield Finding(
            ("pin_change", "then"), "the call would be asked for a new PIN for ever; go on at another path"
        )
    if change.demand.within_s is None:
        yield Finding(
            ("pin_change",),
            "without `within` an old proof will do, but a change of factors wants a new one (ASVS 5.0, 7.5.1); "
            "add `within: 5m`",
            error=False,
        )
    for position, rule in enumerate(flow.rules):
        if rule.transfer is None and rule.path == change.path:
            yield Finding(
                ("rules", position, "path"),
                "this rule never applies here: `pin_change` answers this path; take it out",
                error=False,
            )


def _check_locks(flow: Flow) -> Iterator[Finding]:
    account = flow.locks.account
    if account.lifetime == 0 or account.lifetime > LIFETIME_MAX:
        yield Finding(
            ("lockout", "lifetime"),
            f"NIST SP 800-63B-4, 3.2.2 allows at most {LIFETIME_MAX} failures in a row",
            error=False,
        )
    if flow.locks.caller_number is None:
        yield Finding(
            ("lockout", "caller_number"), "one number may guess at account after account", error=False
        )
    for name, rule in (("lockout", account), ("caller_number", flow.locks.caller_number)):
        if rule is None:
            continue
        place: Place = ("lockout",) if name == "lockout" else ("lockout", name)
        if min(rule.lock_s, default=0) == 0:
            yield Finding((*place, "lock"), "a lock of no time is none; write a duration such as 30m")
        if list(rule.lock_s) != sorted(rule.lock_s):
            yield Finding((*place, "lock"), "a further lock is shorter than the one before it", error=False)


def _check_ceiling(flow: Flow) -> Iterator[Finding]:
    """A lock of no time has been reported, and would leave nothing to be worked out."""
    if min(flow.locks.account.lock_s, default=0) > 0:
        yield from over_ceiling(flow)


def _check_sense(flow: Flow) -> Iterator[Finding]:
    level, place = flow.sense.raise_to, ("sense", "raise")
    if level is None:
        return
    if level not in flow.levels:
        yield Finding(place, f"there is no level '{level}'{did_you_mean(level, flow.levels)}")
        return
    if not any(map(flow.sense.of, Attack)):
        yield Finding(place, "everything that could raise it is off; switch one on, or take this out")
    lifted = raised(flow)
    for (demand, where), (more, _) in zip(demands(flow), demands(lifted), strict=True):
        if demand.require in flow.levels and not comparable(flow, demand.require):
            yield Finding(
                place,
                f"'{level}' is neither more nor less than '{demand.require}' ({where[0]}): nobody could say which "
                "one callers need meanwhile; name a level that holds all of it",
            )
        elif more != demand and more.within_s is not None:
            yield from _check_within(more.within_s, _waits_s(lifted, more), place)
    if lifted == flow and all(comparable(flow, each.require) for each, _ in demands(flow)):
        yield Finding(place, "callers need as much everywhere already; take this out", error=False)


def _check_prompts(flow: Flow) -> Iterator[Finding]:
    catalogues: list[tuple[Place, str, Mapping[str, str]]] = [(("language",), flow.language, flow.prompts)]
    for position, other in enumerate(flow.languages):
        catalogues.append((("languages", position, "language"), other.language, other.prompts))
    intents: dict[str, Place] = {}
    for demand, at in demands(flow):
        intents.setdefault(demand.intent, (*at, "intent"))
    intents.pop("", None)
    for place, language, prompts in catalogues:
        for key in PROMPTS:
            if key not in prompts:
                yield Finding(place, f"prompts/{language}.yaml has no '{key}'; add it")
        if flow.identify.ask and f"ask.{flow.identify.ask}" not in prompts:
            yield Finding(
                ("identify", "ask"),
                f"prompts/{language}.yaml has no 'ask.{flow.identify.ask}': a caller would not hear what to enter; add it",
            )
        for intent, at in intents.items():
            if f"intent.{intent}" not in prompts:
                yield Finding(
                    at,
                    f"prompts/{language}.yaml has no 'intent.{intent}': a caller would hear the bare word; add it",
                    error=False,
                )
