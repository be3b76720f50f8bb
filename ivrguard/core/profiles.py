"""
What a standard asks of a flow, clause by clause.

The laws of this file:

1. A clause is what a published text asks of something that stands in a flow file: its number, what it asks in our
   words, and a judgement that names the place and the mend. What the text calls "shall" is an error, what it calls
   "should" a doubt; so is what depends on something that no flow shows.
2. A profile says what it does not judge. `kept`: what the guard does whatever a flow says, so that no flow can break
   it; each has its tests. `unjudged`: what the text asks and a flow file cannot show. Passing every clause here is
   not conformance with the standard.
3. Counts are judged as they are kept: for each lane of a factor (docs/decisions.md, 1). An account's trusted numbers
   have counts of their own; `trusted_lane: false` makes it one count.
4. Clauses that are about idle time are judged by the age of proofs (`within`, or `reverify` at a transfer): that is
   what a flow can bound, and it is the stricter of the two.

The texts: NIST SP 800-63B-4 (https://pages.nist.gov/800-63-4/sp800-63b.html); PCI DSS 4.0.1
(https://www.pcisecuritystandards.org/standards/pci-dss/); Delegated Regulation (EU) 2018/389, the RTS of PSD2
(https://eur-lex.europa.eu/eli/reg_del/2018/389/oj); OWASP ASVS 5.0 (https://github.com/OWASP/ASVS/tree/v5.0.0/5.0/en).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ivrguard.core.assurance import Kind, least, ways
from ivrguard.core.check import demands, is_sound, is_weak, two_categories
from ivrguard.core.flow import (
    CODE_DIGITS_MIN,
    CODE_VALID_S_MAX,
    PIN_DIGITS_NIST,
    Factor,
    Finding,
    Flow,
    Recording,
)
from ivrguard.core.overlap import in_common

PIN_ALONE_DIGITS_MIN = 15
LIFETIME_MAX = 100
PCI_FAILURES_MAX = 10
PSD2_FAILURES_MAX = 5
LOCK_S_MIN = 30 * 60
PSD2_IDLE_S_MAX = 5 * 60
PCI_IDLE_S_MAX = 15 * 60
NIST_IDLE_S_MAX = 3600

Judge = Callable[[Flow], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Clause:
    """One number of a text: what it asks, and what in a flow, which has no fault, falls short of it."""

    id: str
    asks: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Note:
    """What a text asks and no flow decides: the clause, and who does or what is missing."""

    clause: str
    says: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A text as it bears on flows: `title` in full. See law 2 for `kept` and `unjudged`."""

    name: str
    title: str
    clauses: tuple[Clause, ...]
    kept: tuple[Note, ...]
    unjudged: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A clause and what was found: nothing, if the flow keeps to it. Each message begins with the clause's number."""

    clause: Clause
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether there is no error: a doubt is for a person to weigh."""
        return not any(finding.error for finding in self.findings)


def judged(flow: Flow, profile: Profile) -> tuple[Line, ...]:
    """A line for each clause, in the profile's order."""
    return tuple(
        Line(
            clause,
            tuple(
                replace(finding, message=f"{clause.id}: {finding.message}") for finding in clause.judge(flow)
            ),
        )
        for clause in profile.clauses
    )


# ── how clauses are judged ───────────────────────────────────────────────────────────────────────────────


def _spoken(duration_s: int) -> str:
    return f"{duration_s // 60}m" if duration_s % 60 == 0 else f"{duration_s}s"


def _of_kind(flow: Flow, kind: Kind) -> Iterator[tuple[str, Factor]]:
    return ((name, factor) for name, factor in flow.factors.items() if factor.kind is kind)


def _asked_for(flow: Flow) -> Iterator[str]:
    """The levels that something requires, and that can be looked at."""
    wanted = {demand.require for demand, _ in demands(flow)}
    return (name for name, level in flow.levels.items() if name in wanted and is_sound(flow, level))


def _few_failures(flow: Flow, *, most: int) -> Iterator[Finding]:
    if flow.locks.account.failures > most:
        yield Finding(
            ("lockout", "failures"),
            f"{flow.locks.account.failures} wrong answers before a lock; use {most} or less",
        )


def _long_locks(flow: Flow) -> Iterator[Finding]:
    for position, lock_s in enumerate(flow.locks.account.lock_s):
        if lock_s < LOCK_S_MIN:
            yield Finding(
                ("lockout", "lock", position),
                f"a lock of {_spoken(lock_s)}; use {_spoken(LOCK_S_MIN)} or more",
            )
    if flow.locks.account.within_s < LOCK_S_MIN:
        yield Finding(
            ("lockout", "within"),
            f"wrong answers are forgotten after {_spoken(flow.locks.account.within_s)}, sooner than a lock ends: one "
            f"guess short of it, guessing goes on faster than with it; use {_spoken(LOCK_S_MIN)} or more",
            error=False,
        )


def _lifetime(flow: Flow) -> Iterator[Finding]:
    lifetime = flow.locks.account.lifetime
    if not 1 <= lifetime <= LIFETIME_MAX:
        told = f"a factor is disabled after {lifetime}" if lifetime else "no factor is ever disabled"
        yield Finding(("lockout", "lifetime"), f"{told}; use 1 to {LIFETIME_MAX}")


def _block_told(flow: Flow) -> Iterator[Finding]:
    if flow.locks.account.lifetime:
        yield Finding(
            ("lockout", "lifetime"),
            "a factor is disabled for good in the end, and the guard writes to nobody before that; alert the owner "
            "yourself when the record shows locks (`authn_login_lock`), or write `lifetime: 0`",
            error=False,
        )


def _pin_digits(flow: Flow) -> Iterator[Finding]:
    for name, factor in _of_kind(flow, Kind.PIN):
        if factor.digits < PIN_DIGITS_NIST:
            yield Finding(
                ("factors", name, "digits"),
                f"a PIN of {factor.digits} digits; use {PIN_DIGITS_NIST} or more",
            )


def _pin_alone(flow: Flow) -> Iterator[Finding]:
    for name, factor in _of_kind(flow, Kind.PIN):
        if factor.digits >= PIN_ALONE_DIGITS_MIN:
            continue
        for level in _asked_for(flow):
            if frozenset((name,)) in ways(flow.levels[level]):
                yield Finding(
                    ("levels", level),
                    f"'{name}' alone reaches '{level}', with {factor.digits} digits; require a level with something "
                    f"held as well where '{level}' is required, or ask for {PIN_ALONE_DIGITS_MIN} digits",
                )


def _code_digits(flow: Flow) -> Iterator[Finding]:
    for name, factor in _of_kind(flow, Kind.SMS_CODE):
        if factor.digits < CODE_DIGITS_MIN:
            yield Finding(
                ("factors", name, "digits"),
                f"codes of {factor.digits} digits; use {CODE_DIGITS_MIN} or more",
            )


def _code_life(flow: Flow) -> Iterator[Finding]:
    for name, factor in _of_kind(flow, Kind.SMS_CODE):
        if factor.valid_s > CODE_VALID_S_MAX:
            yield Finding(
                ("factors", name, "valid"),
                f"codes live {_spoken(factor.valid_s)}; use {_spoken(CODE_VALID_S_MAX)} or less",
            )


def _other_than_texts(flow: Flow) -> Iterator[Finding]:
    for name, _ in _of_kind(flow, Kind.SMS_CODE):
        for level in _asked_for(flow):
            if all(name in way for way in ways(flow.levels[level])):
                yield Finding(
                    ("levels", level),
                    f"who cannot or should not get text messages cannot reach '{level}'; add a way without '{name}', "
                    "such as an authenticator app: `{any: [code, app]}`",
                )


def _sim_looked_at(flow: Flow) -> Iterator[Finding]:
    for name, factor in _of_kind(flow, Kind.SMS_CODE):
        if factor.lookup.sim_swap_s is None:
            yield Finding(
                ("factors", name, "lookup"),
                "codes go to a number whose SIM may have changed hands an hour ago; write "
                "`lookup: {sim_swap: 72h}` if you have Twilio's Lookup",
                error=False,
            )


def _app_step(flow: Flow) -> Iterator[Finding]:
    for name, _ in _of_kind(flow, Kind.TOTP):
        yield Finding(
            ("factors", name),
            "a code's step is 30s, but the steps before and after it count, too (RFC 6238, 5.2: somebody reads and "
            "keys), so a code works for 90s; weigh that, or take the factor out",
            error=False,
        )


def _two_kinds(flow: Flow) -> Iterator[Finding]:
    for level in _asked_for(flow):
        if least(flow.levels[level]) > 1 and not two_categories(flow, flow.levels[level]):
            yield Finding(
                ("levels", level),
                f"two factors of one kind can reach '{level}'; write `all: [<something known>, <something held>]`",
            )


def _always_two(flow: Flow) -> Iterator[Finding]:
    for level in _asked_for(flow):
        if is_weak(flow, level):
            yield Finding(
                ("levels", level),
                f"one kind of factor reaches '{level}'; require a level of something known and something held "
                f"where '{level}' is required",
            )


def _idle(flow: Flow, *, most_s: int, error: bool, strong_only: bool) -> Iterator[Finding]:
    """Proofs are young enough wherever a level is required; `strong_only`: one of two categories."""
    judged_levels = {level for level in flow.levels if not (strong_only and is_weak(flow, level))}
    for demand, place in demands(flow):
        if demand.require not in judged_levels:
            continue
        anew = demand.reverify is not None and demand.fresh_s <= most_s
        if anew or (demand.within_s is not None and demand.within_s <= most_s):
            continue
        now = "the whole call" if demand.within_s is None else _spoken(demand.within_s)
        yield Finding(
            (*place, "within"),
            f"proofs count for {now}, even if the caller has been silent; write `within: {_spoken(most_s)}` or less",
            error=error,
        )


def _sensitive_named(flow: Flow) -> Iterator[Finding]:
    """That each entry wants two categories is core/check.py's: it refuses a flow where one slips."""
    if not flow.sensitive:
        yield Finding(
            ("sensitive",),
            "nothing is named that must have two elements; list it, such as "
            '`sensitive: ["/wire/**", {enqueue: wire-desk}]`',
        )


def _stepped_up(flow: Flow) -> Iterator[Finding]:
    if not flow.sensitive:
        yield Finding(
            ("sensitive",),
            "nothing is named that is highly sensitive; list it, so that it can be judged",
            error=False,
        )
    for position, rule in enumerate(flow.rules):
        demand = rule.demand
        if demand.require is None or demand.within_s is not None or demand.reverify is not None:
            continue
        if any(in_common(rule, entry) is not None for entry in flow.sensitive):
            yield Finding(
                ("rules", position),
                "a proof from the beginning of the call will do for something sensitive; add `within: 5m`, or "
                "`reverify` at a transfer",
                error=False,
            )


def _change_proved(flow: Flow) -> Iterator[Finding]:
    """That it takes two categories is core/check.py's."""
    if flow.pin_change is not None and flow.pin_change.demand.within_s is None:
        yield Finding(("pin_change",), "an old proof will do for a change of factors; add `within: 5m`")


def _owner_not_locked_out(flow: Flow) -> Iterator[Finding]:
    if not flow.locks.trusted_lane:
        yield Finding(
            ("lockout", "trusted_lane"),
            "strangers' wrong answers lock out the owner at his own telephone, too; write `trusted_lane: true`",
        )


def _numbers_bounded(flow: Flow) -> Iterator[Finding]:
    if flow.locks.caller_number is None:
        yield Finding(
            ("lockout", "caller_number"),
            "one number may try account after account; write "
            "`caller_number: {failures: 20, within: 1h, lock: [1h]}`",
        )


def _not_recorded(flow: Flow) -> Iterator[Finding]:
    if flow.recording is not Recording.MUST_PAUSE:
        ignored = flow.recording is Recording.IGNORE
        told = "are not paused" if ignored else "that cannot be paused go on"
        yield Finding(
            ("recording",),
            f"recordings {told} while secrets are keyed; if a PIN is that of a card, or your account records calls, "
            "write `recording: must_pause`",
            error=False,
        )


# ── the texts ────────────────────────────────────────────────────────────────────────────────────────────

_ONE_USE = "a code is right once; a step of an app is used once (core/step.py, factors/totp.py)"
_SAME_WORDS = "wrong, unknown and locked hear the same words after the same work (promise 6)"
_NO_OTHER_FACTORS = (
    "there is no other factor: no knowledge questions, no voice, no caller ID (core/assurance.py)"
)

NIST = "NIST SP 800-63B-4"
PCI = "PCI DSS 4.0.1"
RTS = "PSD2 RTS"
ASVS = "OWASP ASVS 5.0"

_NIST_LIFETIME = Clause(
    f"{NIST}, 3.2.2", "a factor is disabled after at most 100 wrong answers in a row", _lifetime
)
_NIST_CODE_DIGITS = Clause(f"{NIST}, 3.1.3.2", "codes by message have 6 digits or more", _code_digits)
_NIST_CODE_LIFE = Clause(f"{NIST}, 3.1.3.2", "codes by message live 10 minutes at most", _code_life)
_PCI_LOCK = Clause(f"{PCI}, 8.3.4", "a lock lasts 30 minutes or more", _long_locks)
_PSD2_FAILURES = Clause(
    f"{RTS}, Art. 4(3)(b)",
    "5 wrong answers in a row at most, then a block",
    partial(_few_failures, most=PSD2_FAILURES_MAX),
)
_PSD2_IDLE = Clause(
    f"{RTS}, Art. 4(3)(d)",
    "5 minutes at most without activity",
    partial(_idle, most_s=PSD2_IDLE_S_MAX, error=True, strong_only=False),
)
_ASVS_PIN = Clause(f"{ASVS}, 6.2.1", "a PIN has 8 digits or more", _pin_digits)
_ASVS_APP = Clause(f"{ASVS}, 6.5.5", "an app's code works for 30 seconds", _app_step)

_NIST_PROFILE = Profile(
    name="nist-800-63b-4",
    title="NIST SP 800-63B-4, Digital Identity Guidelines: Authentication (2025)",
    clauses=(
        Clause(f"{NIST}, 3.1.1.2", "a PIN has 8 digits or more beside another factor", _pin_digits),
        Clause(f"{NIST}, 3.1.1.2", "a PIN has 15 digits or more where it is enough alone", _pin_alone),
        _NIST_CODE_DIGITS,
        _NIST_CODE_LIFE,
        Clause(f"{NIST}, 3.1.3.3", "who cannot get text messages has another way", _other_than_texts),
        Clause(f"{NIST}, 3.1.3.3", "a change of SIM is considered before a code is sent", _sim_looked_at),
        _NIST_LIFETIME,
        Clause(f"{NIST}, 2.2.1", "two factors are something known and something held", _two_kinds),
        Clause(
            f"{NIST}, 2.2.3",
            "levels of two factors: one hour at most without activity",
            partial(_idle, most_s=NIST_IDLE_S_MAX, error=False, strong_only=True),
        ),
    ),
    kept=(
        Note("3.1.1.2", "PINs are asked for whole, checked against a list of weak ones, and kept as argon2id under a pepper"),
        Note("3.1.1.2, 3.2.3", _NO_OTHER_FACTORS),
        Note("3.1.3.2", "a new code does not reset the count of wrong ones (core/lockout.py); sends are bounded"),
        Note("3.1.3.2, 3.1.4.2", _ONE_USE),
        Note("3.1.4.1", "an app's codes have 6 digits and a step of 30 seconds"),
        Note("4.6", "the owner is written to when his PIN was changed by phone"),
    ),
    unjudged=(
        Note("2", "every AAL wants an authenticated protected channel, and a phone call is none: no flow can claim an AAL"),
        Note("2.2.2", "a phishing-resistant option must be offered at AAL2, and nothing that is keyed in is (3.2.5)"),
        Note("3.2.2", "100 in a row holds in each lane; an auditor may count an account's lanes as one (docs/decisions.md, 1)"),
        Note("3.2.9", "text messages are restricted: tell users, assess the risk, have a plan to move on"),
        Note("3.1.1.2", "blocklist, salt and hash are your own system's where it judges PINs (docs/directory.md)"),
        Note("4", "binding, recovery and changes of the number on file happen outside this guard"),
    ),
)  # fmt: skip

_PCI_PROFILE = Profile(
    name="pci-dss-4.0.1",
    title="PCI DSS 4.0.1, as far as it bears on callers",
    clauses=(
        Clause(
            f"{PCI}, 8.3.4",
            "10 wrong answers at most, then a lock",
            partial(_few_failures, most=PCI_FAILURES_MAX),
        ),
        _PCI_LOCK,
        Clause(
            f"{PCI}, 8.2.8",
            "15 minutes at most without activity",
            partial(_idle, most_s=PCI_IDLE_S_MAX, error=True, strong_only=False),
        ),
        Clause(f"{PCI}, 8.5.1", "two factors are of two kinds", _two_kinds),
        Clause(f"{PCI}, 3.3.1", "nothing that is keyed in secret stays in a recording", _not_recorded),
    ),
    kept=(
        Note("8.3.3", "a PIN is changed with two kinds of factor (`check` refuses a flow without)"),
        Note("8.5.1", _ONE_USE),
        Note("10.2.1, 10.3", "each decision is one entry of a chained record, without secrets (promises 5 and 8)"),
    ),
    unjudged=(
        Note("8", "requirement 8 binds users and administrators of system components: your agents and admins first, and "
                  "their access stands in no flow. Whether it binds callers is your assessor's to say"),
        Note("8.3.4", "the lock closes one lane of one factor, not the account"),
        Note("8.3.6", "12 characters with letters cannot be keyed on a telephone"),
        Note("3.3.1", "what your IVR itself asks for (card numbers, codes) and recordings elsewhere: docs/messages.md"),
        Note("10.5.1", "the record is kept for as long as you keep it: twelve months, three at hand"),
    ),
)  # fmt: skip

_PSD2_PROFILE = Profile(
    name="psd2-sca",
    title="Delegated Regulation (EU) 2018/389, strong customer authentication",
    clauses=(
        Clause(
            f"{RTS}, Art. 4(1)",
            "two elements for what may mean fraud, each of another kind",
            _sensitive_named,
        ),
        Clause(f"{RTS}, Art. 4(1)", "two factors are of two kinds", _two_kinds),
        _PSD2_FAILURES,
        _PSD2_IDLE,
        Clause(f"{RTS}, Art. 4(4)", "the payer is alerted before a block is permanent", _block_told),
    ),
    kept=(
        Note("Art. 4(1)", _ONE_USE),
        Note("Art. 4(3)(a)", _SAME_WORDS),
        Note("Art. 4(2)(b)", "no code tells the next one: codes are made under a key (factors/sms_code.py)"),
    ),
    unjudged=(
        Note("Art. 5", "dynamic linking: a code is bound to the call and the rule's intent, not to amount and payee. What "
                       "your IVR pays for is your IVR's to link"),
        Note("Art. 4(1)", "what is a payment, or may mean fraud, is what you list under `sensitive`; balances may be exempt (Art. 10)"),
        Note("Art. 4(3)(b)", "five in a row hold in each lane of a factor (docs/decisions.md, 1)"),
        Note("Art. 4(3)(c)", "the telephone network between caller and Twilio is not protected against listening"),
        Note("Art. 9", "a code that arrives on the telephone that calls: the elements' independence is yours to argue"),
    ),
)  # fmt: skip

_ASVS_PROFILE = Profile(
    name="asvs-5",
    title="OWASP ASVS 5.0: what level 3 alone asks is a doubt here",
    clauses=(
        Clause(f"{ASVS}, 6.1.1", "limits do not let strangers lock an owner out", _owner_not_locked_out),
        Clause(f"{ASVS}, 6.3.1", "stuffing and guessing are bounded for each number, too", _numbers_bounded),
        _ASVS_PIN,
        Clause(f"{ASVS}, 6.3.3", "several factors are needed to get in", _always_two),
        Clause(f"{ASVS}, 6.5.4", "codes by message have 20 bits or more", _code_digits),
        Clause(f"{ASVS}, 6.5.5", "codes by message live 10 minutes at most", _code_life),
        _ASVS_APP,
        Clause(f"{ASVS}, 6.6.1", "text messages are not the only way", _other_than_texts),
        Clause(f"{ASVS}, 7.5.1", "factors are changed after fresh proofs", _change_proved),
        Clause(f"{ASVS}, 7.5.3", "what is highly sensitive wants a fresh proof (level 3)", _stepped_up),
    ),
    kept=(
        Note("6.2.4, 6.4.2", "weak PINs are refused; " + _NO_OTHER_FACTORS),
        Note("6.3.5, 6.3.7", "the owner is told of right-first-wrong-second and of a changed PIN"),
        Note("6.3.8", _SAME_WORDS),
        Note("6.5.1", _ONE_USE),
        Note("6.6.2", "a code is bound to its call and intent, and the message says the intent"),
        Note("6.6.3", "guesses are counted before they are judged (promise 2)"),
        Note("7.2.3, 7.2.4", "tokens have 130 bits and end when a new one is made (promise 4)"),
        Note("16.5.3", "on any fault: refused (promise 1)"),
    ),
    unjudged=(
        Note("6.1.1, 6.1.3, 7.1.1", "that your limits and ways in are written down"),
        Note("6.2.9", "64 characters cannot be keyed on a telephone"),
        Note("6.6.1", "at level 3 no code goes by telephone or text message at all: take the factor out"),
        Note("6.4.3, 6.4.4", "resets and lost factors are handled outside this guard"),
        Note("7.3.1, 7.3.2", "how long a proof counts follows from your risk analysis: `within`"),
        Note("8, 16", "your IVR's own authorization and logs"),
    ),
)

_STRICT_PROFILE = Profile(
    name="strict",
    title="the strictest of these texts, number by number",
    clauses=(
        _PSD2_FAILURES,
        _PCI_LOCK,
        _NIST_LIFETIME,
        _PSD2_IDLE,
        _ASVS_PIN,
        _NIST_CODE_DIGITS,
        _NIST_CODE_LIFE,
        _ASVS_APP,
    ),
    kept=(Note(f"{RTS}, Art. 4(1); {ASVS}, 6.5.1", _ONE_USE),),
    unjudged=(Note("all", "it takes the numbers alone from the other profiles: each of them asks for more"),),
)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (_NIST_PROFILE, _PCI_PROFILE, _PSD2_PROFILE, _ASVS_PROFILE, _STRICT_PROFILE)
}
"""Every profile by name."""
