"""
A flow: what an admin wrote, as values; and every fault in it that can be known before a call.

The file's syntax, types and places are flowfile.py's business; `check` here sees meaning: names that
dangle, rules that can never apply, levels that nobody can reach. A `Finding` names its place as a path of
keys and positions into the file, which flowfile.py turns into line and column.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from ivrguard.core.assurance import Expression, Kind, categories, factors_of, least
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand, Rule, glob

Place = tuple[str | int, ...]

PIN_DIGITS_MIN = 4
PIN_DIGITS_NIST = 8
CODE_DIGITS_MIN = 6
CODE_VALID_S_MAX = 600
"""NIST SP 800-63B-4, 3.1.3: out-of-band codes of at least 6 digits, at most 10 minutes."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The IVR: the URL of its first document, and the other origins that its documents may point to."""

    url: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identify:
    """How a caller says which account: `digits_min` to `digits_max` keys; the number on file may be offered."""

    ask: str
    digits_min: int
    digits_max: int
    offer_known_number: bool = False


@dataclass(frozen=True, slots=True)
class Sends:
    """How many codes may be sent: per call, and per account within a time (a code is a cost and a nuisance)."""

    per_call: int = 2
    per_account: int = 5
    per_account_s: int = 3600


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor as this flow uses it. `digits`: how many keys an answer has. `valid_s`: how long a code lives."""

    kind: Kind
    digits: int
    valid_s: int = CODE_VALID_S_MAX
    sends: Sends = Sends()


@dataclass(frozen=True, slots=True)
class Locks:
    """The lockout rules: per account, factor and lane; per caller number; and what a refused caller gets."""

    account: Lockout = Lockout(failures=5, within_s=3600, lock_s=(1800, 7200, 86400), lifetime=100)
    caller_number: Lockout | None = Lockout(failures=20, within_s=3600, lock_s=(3600,))
    trusted_lane: bool = True
    on_locked_dial: str | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """
    One flow, whole and frozen. `version` is a hash of the file's content: calls keep theirs.

    `numbers`: dialled numbers, `sip:`/`client:` addresses or "*". `prompts`: key -> words, complete.
    `tries`: answers not accepted in one question before the call is refused. `token_valid_s`: how long an
    agent has to redeem a token.
    """

    name: str
    version: str
    numbers: tuple[str, ...]
    upstream: Upstream
    identify: Identify
    factors: Mapping[str, Factor]
    levels: Mapping[str, Expression]
    rules: tuple[Rule, ...]
    default: Demand
    locks: Locks = Locks()
    language: str = "en-US"
    voice: str = ""
    timezone: str = "UTC"
    prompts: Mapping[str, str] = field(default_factory=dict)
    tries: int = 3
    token_valid_s: int = 600

    def kinds(self) -> Mapping[str, Kind]:
        """The kind of each factor, by name."""
        return {name: factor.kind for name, factor in self.factors.items()}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault (`error`) or a doubt (not `error`) at a place of the flow, with the mend in its words."""

    place: Place
    message: str
    error: bool = True


PROMPTS: tuple[str, ...] = (
    "identify",
    "identify_or_known",
    "pin",
    "sms_code",
    "totp",
    "again",
    "not_heard",
    "mistyped",
    "hold",
    "refused",
    "goodbye",
    "unavailable",
    "not_in_service",
    "whisper",
    "sms_text",
    "sms_warning",
)
"""Every prompt that a catalogue must have; `{digits}`, `{intent}`, `{code}` are filled in where it says."""


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of all of them."""
    close = get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def check(flow: Flow) -> tuple[Finding, ...]:
    """Every fault and doubt of the flow, in the order of the file."""
    return (
        *_check_factors(flow),
        *_check_levels(flow),
        *_check_rules(flow),
        *_check_locks(flow),
        *_check_prompts(flow),
    )


def _check_factors(flow: Flow) -> Iterator[Finding]:
    if not flow.factors:
        yield Finding(
            ("factors",), "there is no factor: nothing can be proved; add one, such as `pin: {kind: pin}`"
        )
    for name, factor in flow.factors.items():
        place = ("factors", name)
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
            case Kind.SMS_CODE if factor.digits < CODE_DIGITS_MIN:
                yield Finding(
                    (*place, "digits"),
                    f"a code of {factor.digits} digits: use {CODE_DIGITS_MIN} or more (NIST 3.1.3)",
                )
            case _:
                pass
        if factor.kind is Kind.SMS_CODE and factor.valid_s > CODE_VALID_S_MAX:
            yield Finding(
                (*place, "valid"), f"a code may live {CODE_VALID_S_MAX // 60}m at most (NIST 3.1.3)"
            )


def _check_levels(flow: Flow) -> Iterator[Finding]:
    kinds = flow.kinds()
    for name, expression in flow.levels.items():
        for factor in sorted(factors_of(expression) - flow.factors.keys()):
            yield Finding(
                ("levels", name), f"there is no factor '{factor}'{did_you_mean(factor, flow.factors)}"
            )
        known = factors_of(expression) <= flow.factors.keys()
        if known and least(expression) > 1 and any(len(way) < 2 for way in categories(expression, kinds)):
            yield Finding(
                ("levels", name),
                "two factors here can both be of one category (something known, something held); "
                "write `all: [a known one, a held one]`",
                error=False,
            )
    named = {demand.require for demand, _ in _demands(flow)} | {
        demand.reverify for demand, _ in _demands(flow)
    }
    for name in flow.levels.keys() - named:
        yield Finding(("levels", name), "no rule uses this level", error=False)


def _demands(flow: Flow) -> Iterator[tuple[Demand, Place]]:
    for position, rule in enumerate(flow.rules):
        yield rule.demand, ("rules", position)
    yield flow.default, ("default",)


def _check_rules(flow: Flow) -> Iterator[Finding]:
    for demand, place in _demands(flow):
        for key, level in (("require", demand.require), ("reverify", demand.reverify)):
            if level is not None and level not in flow.levels:
                yield Finding((*place, key), f"there is no level '{level}'{did_you_mean(level, flow.levels)}")
    if flow.default.require is None:
        yield Finding(
            ("default",), "whatever no rule names is open to anyone; require a level here", error=False
        )
    for position, rule in enumerate(flow.rules):
        for earlier_position, earlier in enumerate(flow.rules[:position]):
            if shadows(earlier, rule):
                yield Finding(
                    ("rules", position),
                    f"this rule can never apply: rules[{earlier_position}] matches everything that it matches; "
                    "move it up or take it out",
                )
                break
    if not any(rule.transfer is not None for rule in flow.rules):
        yield Finding(
            ("rules",),
            "no rule speaks of transfers: each one needs the default level and no fresh proof; "
            "add `- {transfer: any, require: ..., reverify: ...}`",
            error=False,
        )


def shadows(earlier: Rule, later: Rule) -> bool:
    """Whether `earlier` surely matches all that `later` does: each of its conditions is at least as wide."""
    if (earlier.transfer is None) != (later.transfer is None):
        return False
    if earlier.transfer is not None and later.transfer is not None:
        pairs = ((earlier.transfer.kind, later.transfer.kind), (earlier.transfer.value, later.transfer.value))
        if not all(wide in ("*", "**") or _covers(wide, narrow) for wide, narrow in pairs):
            return False
    globs = (
        (earlier.path, later.path),
        (earlier.digits, later.digits),
        (earlier.dialled, later.dialled),
    )
    return (
        all(_covers(wide, narrow) for wide, narrow in globs)
        and earlier.method in (None, later.method)
        and earlier.hours in (None, later.hours)
    )


def _covers(wide: str | None, narrow: str | None) -> bool:
    """Whether glob `wide` matches all that `narrow` does. Says no where it cannot tell."""
    if wide is None or wide in {narrow, "**"}:
        return True
    if narrow is None:
        return False
    if "*" not in narrow and "?" not in narrow:
        return glob(wide).fullmatch(narrow) is not None
    stem = wide.removesuffix("/**")
    return stem != wide and not set("*?") & set(stem) and (narrow == stem or narrow.startswith(stem + "/"))


def _check_locks(flow: Flow) -> Iterator[Finding]:
    account = flow.locks.account
    if account.lifetime == 0 or account.lifetime > 100:
        yield Finding(
            ("lockout", "lifetime"),
            "NIST SP 800-63B-4, 3.2.2 allows at most 100 failures in a row",
            error=False,
        )
    for name, rule in (("lockout", account), ("caller_number", flow.locks.caller_number)):
        if rule is None:
            continue
        place: Place = ("lockout",) if name == "lockout" else ("lockout", name)
        if min(rule.lock_s) == 0:
            yield Finding((*place, "lock"), "a lock of no time is none; write a duration such as 30m")
        if list(rule.lock_s) != sorted(rule.lock_s):
            yield Finding((*place, "lock"), "a further lock is shorter than the one before it", error=False)


def _check_prompts(flow: Flow) -> Iterator[Finding]:
    for key in PROMPTS:
        if key not in flow.prompts:
            yield Finding(("language",), f"prompts/{flow.language}.yaml has no '{key}'; add it")
