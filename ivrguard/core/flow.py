"""
A flow: what an admin wrote, as values; and every fault in it that can be known before a call.

The file's syntax, types and places are flowfile.py's business; `check` here sees meaning: names that
dangle, rules that can never apply, levels that nobody can reach. A `Finding` names its place as a path of
keys and positions into the file, which flowfile.py turns into line and column.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum

from ivrguard.core.assurance import AllOf, AnyOf, Expression, Kind, categories, factors_of, least, plan
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Lookup
from ivrguard.core.rules import Demand, Rule, Target, glob, name_glob

Place = tuple[str | int, ...]

PIN_DIGITS_MIN = 4
PIN_DIGITS_NIST = 8
CODE_DIGITS_MIN = 6
CODE_VALID_S_MAX = 600
"""NIST SP 800-63B-4, 3.1.3: out-of-band codes of at least 6 digits, at most 10 minutes."""

WITHIN_S_MIN = 30
"""A caller needs about this long to answer: a proof that counts for less is gone before the next one is made."""


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
    """
    How many codes may be sent: per call; per account, number and country prefix within so many seconds.

    A code is a cost and a nuisance, and traffic to one country's numbers is what those who profit from it pump
    (https://www.twilio.com/docs/verify/preventing-toll-fraud).
    """

    per_call: int = 2
    per_account: int = 5
    per_account_s: int = 3600
    per_number: int = 10
    per_number_s: int = 24 * 3600
    per_prefix: int = 300
    per_prefix_s: int = 3600


class Via(StrEnum):
    """Who makes, sends and judges a code: we, by a text message, or Twilio Verify."""

    MESSAGES = "messages"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Factor:
    """
    A factor as this flow uses it. `digits`: how many keys an answer has. `valid_s`: how long a code lives.

    `lookup`: what a number must be like for a code to be sent to it.
    """

    kind: Kind
    digits: int
    valid_s: int = CODE_VALID_S_MAX
    sends: Sends = Sends()
    via: Via = Via.MESSAGES
    lookup: Lookup = Lookup()


@dataclass(frozen=True, slots=True)
class Locks:
    """The lockout rules: per account, factor and lane; per caller number; and what a refused caller gets."""

    account: Lockout = Lockout(failures=5, within_s=3600, lock_s=(1800, 7200, 86400), lifetime=100)
    caller_number: Lockout | None = Lockout(failures=20, within_s=3600, lock_s=(3600,))
    trusted_lane: bool = True
    on_locked_dial: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """
    What the guard says in one language: `prompts`, key -> words, complete; `audio`, key -> the URL played instead.

    `key`: what a caller keys at the first question to get it; "": it is not offered, but an account may have it.
    """

    language: str
    prompts: Mapping[str, str]
    voice: str = ""
    audio: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True, slots=True)
class PinChange:
    """
    Where a caller may change his PIN: the guard answers `path` itself once `demand` holds, then the call goes on at `then`.

    Both are paths of the IVR's, canonical (core/rules.py).
    """

    path: str
    demand: Demand
    then: str


class Recording(StrEnum):
    """What becomes of the provider's recordings of a call while a secret is keyed."""

    IGNORE = "ignore"
    PAUSE = "pause"
    """Paused where it can be; where it cannot, the question is asked all the same."""
    MUST_PAUSE = "must_pause"
    """Where a recording cannot be paused, no secret is asked for and the call is refused."""


Sensitive = str | Target
"""What an admin says is worth protecting: a path's glob, or a transfer's."""


@dataclass(frozen=True, slots=True)
class Flow:
    """
    One flow, whole and frozen. `version` is a hash of the content of its files: calls keep theirs.

    `numbers`: dialled numbers, `sip:`/`client:` addresses or "*". `language`, `voice`, `prompts` and `audio` are its
    own catalogue, `languages` the others. `tries`: answers not accepted in one question before the call is refused.
    `token_valid_s`: how long an agent has to redeem a token. `ceiling`: the most chance of a break in a year that
    `check` lets pass. `sensitive`: what must not fall to the default or be open to anyone.
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
    audio: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[Catalogue, ...] = ()
    tries: int = 3
    token_valid_s: int = 600
    sensitive: tuple[Sensitive, ...] = ()
    ceiling: float | None = None
    pin_change: PinChange | None = None
    recording: Recording = Recording.IGNORE

    def kinds(self) -> Mapping[str, Kind]:
        """The kind of each factor, by name."""
        return {name: factor.kind for name, factor in self.factors.items()}

    def catalogue(self, language: str = "") -> Catalogue:
        """What is said in `language`: that very tag, or the same tongue of another country, or the flow's own."""
        own = Catalogue(self.language, self.prompts, self.voice, self.audio)
        every = (own, *self.languages)
        tongue = language.partition("-")[0]
        exact = (one for one in every if one.language == language)
        close = (one for one in every if one.language.partition("-")[0] == tongue)
        return next(exact, None) or next(close, own)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault (`error`) or a doubt (not `error`) at a place of the flow, with the mend in its words."""

    place: Place
    message: str
    error: bool = True


PROMPTS: tuple[str, ...] = (
    "identify",
    "identify.short",
    "identify_or_known",
    "identify_or_known.short",
    "choose_language",
    "pin",
    "pin.short",
    "sms_code",
    "sms_code.short",
    "totp",
    "totp.short",
    "another_code",
    "other_factor",
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
    "no_intent",
    "sms_warning",
    "new_pin",
    "new_pin_again",
    "new_pin_differs",
    "new_pin_weak",
    "pin_changed",
    "sms_pin_changed",
)
"""
Every prompt that a catalogue must have. `intent.NAME` may be added: an intent as it is spoken.

`X.short` is what `X` is from the second time in a call on.
"""

PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "choose_language": ("key",),
    "pin": ("digits",),
    "pin.short": ("digits",),
    "sms_code": ("digits",),
    "sms_code.short": ("digits",),
    "totp": ("digits",),
    "totp.short": ("digits",),
    "another_code": ("key",),
    "other_factor": ("key",),
    "new_pin": ("digits",),
    "whisper": ("code",),
    "sms_text": ("code", "intent"),
}
"""What is filled in where, by prompt: `{digits}` how many keys, `{key}` which one, `{intent}` as spoken, `{code}`."""

PLACEHOLDERS_NEEDED: Mapping[str, str] = {
    "choose_language": "key",
    "another_code": "key",
    "other_factor": "key",
    "whisper": "code",
    "sms_text": "code",
}
"""Prompts that are of no use without one of them."""

WRITTEN: frozenset[str] = frozenset({"sms_text", "sms_warning", "sms_pin_changed", "no_intent"})
"""Prompts that are written in messages: they have no audio."""


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of all of them."""
    close = get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def check(flow: Flow) -> tuple[Finding, ...]:
    """Every fault and doubt of the flow, in the order of the file."""
    return (
        *_check_identify(flow),
        *_check_factors(flow),
        *_check_levels(flow),
        *_check_rules(flow),
        *_check_locks(flow),
        *_check_prompts(flow),
    )


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
        yield from _dangling(flow, expression, ("levels", name))
        if not factors_of(expression) <= flow.factors.keys() or len(set(kinds.values())) < len(kinds):
            continue  # reported already; what follows tries every choice of factors, so they must be few
        if plan(expression, frozenset(), factors_of(expression)) is None:
            yield Finding(("levels", name), "nobody can reach this level; name a factor in each part of it")
        if least(expression) > 1 and any(len(way) < 2 for way in categories(expression, kinds)):
            yield Finding(
                ("levels", name),
                "two factors here can both be of one category (something known, something held); "
                "write `all: [a known one, a held one]`",
                error=False,
            )
    named = {demand.require for demand, _ in _demands(flow)} | {
        demand.reverify for demand, _ in _demands(flow)
    }
    for name in flow.levels:
        if name not in named:
            yield Finding(
                ("levels", name), "no rule uses this level; name it in one, or take it out", error=False
            )


def _demands(flow: Flow) -> Iterator[tuple[Demand, Place]]:
    for position, rule in enumerate(flow.rules):
        yield rule.demand, ("rules", position)
    yield flow.default, ("default",)


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


def _check_demands(flow: Flow) -> Iterator[Finding]:
    for demand, place in _demands(flow):
        for key, level in (("require", demand.require), ("reverify", demand.reverify)):
            if level is None or level in flow.levels:
                continue
            mend = did_you_mean(level, flow.levels)
            if level in flow.factors:
                mend = f"; '{level}' is a factor: add a level made of it, such as `only_{level}: {{any: [{level}]}}`"
            yield Finding((*place, key), f"there is no level '{level}'{mend}")
        if demand.within_s is not None and demand.within_s < WITHIN_S_MIN:
            yield Finding(
                (*place, "within"),
                f"{demand.within_s}s is over before a caller has answered: he would be asked again and again; "
                f"use {WITHIN_S_MIN}s or more",
            )
        if demand.reverify is None:
            continue
        if place == ("default",) or flow.rules[int(place[1])].transfer is None:
            yield Finding(
                (*place, "reverify"),
                "only a transfer can want a fresh proof (each request would ask anew); "
                "move it to a rule with `transfer`",
            )
        elif demand.require is None:
            yield Finding(
                (*place, "reverify"), "a transfer open to anyone asks for nothing; write `require` too"
            )


def _check_rules(flow: Flow) -> Iterator[Finding]:
    yield from _check_demands(flow)
    if flow.default.require is None:
        yield Finding(
            ("default",), "whatever no rule names is open to anyone; require a level here", error=False
        )
    for position, rule in enumerate(flow.rules):
        hidden_by = next((at for at in range(position) if shadows(flow.rules[at], rule)), None)
        if hidden_by is not None:
            yield Finding(
                ("rules", position),
                f"this rule can never apply: rules[{hidden_by}] matches everything that it matches; "
                "move it up or take it out",
            )
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
        if not all(_covers_name(wide, narrow) for wide, narrow in pairs):
            return False
    globs = (
        # Every visit has a number dialled; few have digits.
        (earlier.digits, later.digits),
        (earlier.dialled, later.dialled or "**"),
    )
    return (
        _covers_path(earlier.path, later.path)
        and all(_covers(wide, narrow) for wide, narrow in globs)
        and earlier.method in (None, later.method)
        and earlier.hours in (None, later.hours)
    )


def _covers_path(wide: str | None, narrow: str | None) -> bool:
    """The same for paths: one on the IVR's own origin never covers one elsewhere (`//host/…`), nor the reverse."""
    if wide is None or narrow is None:
        return wide is None
    return wide.startswith("//") == narrow.startswith("//") and _covers(wide, narrow)


def _covers(wide: str | None, narrow: str | None) -> bool:
    """Whether glob `wide` matches all that `narrow` does (None: anything or nothing). No where it cannot tell."""
    if wide is None or wide == narrow:
        return True
    if narrow is None:
        return False
    if wide == "**":
        return True
    if "*" not in narrow and "?" not in narrow:
        return glob(wide).fullmatch(narrow) is not None
    stem = wide.removesuffix("/**")
    return stem != wide and not set("*?") & set(stem) and (narrow == stem or narrow.startswith(stem + "/"))


def _covers_name(wide: str, narrow: str) -> bool:
    """The same for globs of names."""
    if set(wide) == {"*"} or wide == narrow:
        return True
    return not set("*?") & set(narrow) and name_glob(wide).fullmatch(narrow) is not None


def _check_locks(flow: Flow) -> Iterator[Finding]:
    account = flow.locks.account
    if account.lifetime == 0 or account.lifetime > 100:
        yield Finding(
            ("lockout", "lifetime"),
            "NIST SP 800-63B-4, 3.2.2 allows at most 100 failures in a row",
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


def _check_prompts(flow: Flow) -> Iterator[Finding]:
    for key in PROMPTS:
        if key not in flow.prompts:
            yield Finding(("language",), f"prompts/{flow.language}.yaml has no '{key}'; add it")
    for demand, place in _demands(flow):
        if demand.intent and f"intent.{demand.intent}" not in flow.prompts:
            yield Finding(
                (*place, "intent"),
                f"prompts/{flow.language}.yaml has no 'intent.{demand.intent}': "
                f"a caller would hear the bare word; add it",
                error=False,
            )
