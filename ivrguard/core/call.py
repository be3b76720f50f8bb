"""
A call: what is kept of it between two webhooks, what can happen to it, and what the guard can do next.

The laws of this file:

1. Nothing about a call lives anywhere else between two webhooks. core/step.py makes every change that a caller brings
   about, core/readback.py and core/passing.py those that an agent does.
2. Each question has a nonce of its own. An answer to any other question changes nothing.
3. Proofs, never levels, are kept (core/assurance.py). Digits are never part of a call; what must wait is sealed.
4. What belongs to an account or a number beyond the call is in `Books`, by ids that are made here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from ivrguard.core import handoff, lockout
from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.audit import Entry
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.conference import Bridge
from ivrguard.core.flow import Catalogue, Factor, Flow
from ivrguard.core.rules import Demand, Visit
from ivrguard.core.values import replace

T = TypeVar("T")

KNOWN_NUMBER_KEY = "1"
"""What a caller keys to take the account of the number that he calls from."""

ANOTHER_CODE_KEY = "1"
OTHER_FACTOR_KEY = "2"
"""What a caller keys instead of an answer, then the pound key: no PIN and no code is that short."""


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Question:
    """
    What the caller is being asked. `factor` "": see `about`. `held`: sealed digits that wait for a thread.

    `counted`: the attempt (see core/lockout.py) that the answer being judged is, "" while none is judged. `chosen`:
    the new PIN as it was keyed the first time, sealed.
    """

    nonce: str
    factor: str = ""
    about: "About" = field(default_factory=lambda: About.ACCOUNT)
    silences: int = 0
    holds: int = 0
    counted: str = ""
    held: str = field(default="", repr=False)
    chosen: str = field(default="", repr=False)


class About(StrEnum):
    """What a question without a factor is about: which account, or a new PIN, which is keyed twice."""

    ACCOUNT = "account"
    NEW_PIN = "new_pin"
    NEW_PIN_AGAIN = "new_pin_again"


class What(StrEnum):
    """What is held up by questions. A PIN change and a time aside (core/aside.py) are the guard's own: the IVR never hears of them."""

    REQUEST = "request"
    TRANSFER = "transfer"
    PIN_CHANGE = "pin_change"
    ASIDE = "aside"


@dataclass(frozen=True, slots=True)
class Pending:
    """
    What goes on when its demands hold.

    `held`: the sealed request, or the sealed rest of the document from the transfer on. `since_turn`: proofs
    made at this turn or later are fresh for `reverify`. `nonce`: where the caller's leg enters a transfer.
    `queues`, `carriers`, `whispers`: see handoff.Leg. `about`: the path asked for, for the record. `asked`: how often the IVR itself asked for more.
    """

    what: What
    demands: tuple[Demand, ...]
    held: str = field(default="", repr=False)
    since_turn: int = 0
    nonce: str = ""
    queues: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    whispers: tuple[tuple[str, str], ...] = ()
    about: str = ""
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """
    A code that was sent in this call: its challenge's id, factor, intent and time; `again`: in place of a live one.

    `asked_by`: the agent whom the caller is to read it to; "" for one that is to be keyed.
    """

    id: str = field(repr=False)
    factor: str
    intent: str
    at_ms: int
    valid_s: int
    again: bool = False
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that an agent typed: the id of his request, and what he was told. `right` None: it is being judged."""

    request: str
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class ReadBack:
    """
    A code that the caller is to read to an agent (core/readback.py).

    `requests`: the ids of the requests that had codes sent. `sent`: the last code; None once it is good no longer. `misses`:
    wrong answers to it. `told`: the agent's last answers.
    """

    agent: str
    requests: tuple[str, ...]
    sent: Sent | None
    misses: int = 0
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class Last:
    """The last delivery: fingerprint, when, by which process, the sealed answer ("" while it is made), and which turn it made."""

    fingerprint: str
    at_ms: int
    node: str
    answer: str = field(default="", repr=False)
    turn: int = 0


@dataclass(frozen=True)  # without slots: it is what is copied most, see core/values.py
class Call:
    """
    One phone call between two webhooks.

    `account` is canonical ("" until claimed) and proves nothing; `known`: the directory has it; `ref` is its
    keyed hash for records. `enrolled`: factors that the account can answer. `lane`: see core/lockout.py.
    `turn` counts the deliveries that changed the call. `misses`: answers not accepted since the last right
    one. `failed`: factors that cannot be had in this call. `declined`: those that the caller wants to be spared.
    `cookies`: the IVR's, sealed. `language`: what the caller chose by key; `owners_language`: the account's. `to`,
    `to_prefix`: a keyed hash of the number that codes go to, and its country's prefix. `heard`: the questions that he
    knows by now. `paused`: the recordings that the guard has paused, or was about to, and has not let go on yet.
    `notes`: what the attestation says against the number.
    `naming`: the id of the naming key that it began with; "" for the current one. `read_back`: what an agent has asked for.
    `unguarded`: to whom the IVR's last document leads the caller with nothing asked, or the guard itself when it refused him.
    `bridge`: its last transfer that the guard joined itself. `outbound`: somebody whom we called: a customer, or an agent.
    `connected`, `bypassed`: see core/bypass.py.
    """

    sid: str
    account_sid: str
    flow: str
    version: str
    caller: Address
    dialled: str
    attested: bool
    began_ms: int
    account: str = ""
    known: bool = False
    ref: str = ""
    enrolled: tuple[str, ...] = ()
    lane: str = lockout.POOL
    proofs: tuple[Proof, ...] = ()
    question: Question | None = None
    pending: Pending | None = None
    sent: tuple[Sent, ...] = ()
    turn: int = 0
    asks: int = 0
    codes_sent: int = 0
    failed: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()
    misses: int = 0
    locked_out: bool = False
    warned: bool = False
    seen: tuple[str, ...] = ()
    seen_without_turn: tuple[str, ...] = ()
    last: Last | None = None
    legs: tuple[str, ...] = ()
    cookies: str = field(default="", repr=False)
    ended_ms: int | None = None
    language: str = ""
    owners_language: str = ""
    to: str = ""
    to_prefix: str = ""
    heard: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    naming: str = ""
    read_back: ReadBack | None = None
    unguarded: tuple[str, ...] = ()
    bridge: Bridge | None = None
    outbound: bool = False
    connected: tuple[str, ...] = ("unknown:",)
    bypassed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Books:
    """
    What is kept beyond one call and changes in the same act as it.

    `ledgers` by id (`ledger_ids`), `sends`: when codes were sent (ms), by id (`send_limits`), `spent`: the last TOTP
    step used, `trusted`: the numbers that verified on this account before.
    """

    ledgers: Mapping[str, lockout.Ledger] = field(default_factory=dict)
    sends: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    spent: int = -1
    trusted: tuple[lockout.Trusted, ...] = ()


# ── events: what happened ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Found:
    """
    Which account the caller's keys name. Unknown ones look the same; `enrolled` is then every factor.

    `language`: its owner's. `to`, `to_prefix`: see `Call`; an unknown account has some of its own.
    """

    account: str
    known: bool
    ref: str
    enrolled: tuple[str, ...]
    trusted: bool = False
    language: str = ""
    to: str = ""
    to_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The caller's leg asks the IVR for something. `held`: that request, sealed; `again`: see `Resumed`."""

    visit: Visit
    held: str = field(repr=False)
    nonce: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """
    The caller's leg came to the transfer that was cut out of the IVR's document.

    `again`: this webhook was taken before, and its answer was lost: what is granted now was granted then.
    """

    nonce: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """
    The caller answered the question. `keys`: how the keys look (never which they are), `found`: the account
    they name when that was the question, `language`: the one they choose. Of a new PIN: `held`, sealed, and whether
    it is the `same` as the first time.
    """

    keys: "Keyed"
    nonce: str
    found: Found | None = None
    language: str = ""
    held: str = field(default="", repr=False)
    same: bool = False


class Keyed(StrEnum):
    """How an answer looks. The digits themselves stay with the guard."""

    NOTHING = "nothing"
    REPEAT = "repeat"
    FITTING = "fitting"
    MISFIT = "misfit"
    LANGUAGE = "language"
    ANOTHER_CODE = "another_code"
    OTHER_FACTOR = "other_factor"


@dataclass(frozen=True, slots=True)
class Judged:
    """
    The answer was judged. `right` None: a fault; `step`: the TOTP step it matched.

    `out_of_sight`: whoever judges is elsewhere and may have looked at it before it failed, so the attempt counts.
    """

    right: bool | None
    nonce: str
    step: int | None = None
    out_of_sight: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """No hash thread is free: the answer waits, sealed, and nothing is counted."""

    held: str = field(repr=False)
    nonce: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A protected transfer stands in the IVR's document: what it wants, and the sealed rest from there on."""

    demands: tuple[Demand, ...]
    held: str = field(repr=False)
    queues: tuple[str, ...]
    carriers: tuple[str, ...]
    whispers: tuple[tuple[str, str], ...]
    nonce: str


@dataclass(frozen=True, slots=True)
class Replied:
    """
    The IVR's document is on its way, or the guard's own that leads into a room. `cut`: its first protected transfer;
    `resumed`: recordings run again; `unguarded`: to whom what stands before the cut leads; `bridge`: the transfer that the
    guard joins from now on.
    """

    cut: Cut | None = None
    resumed: bool = False
    unguarded: tuple[str, ...] = ()
    bridge: Bridge | None = None


@dataclass(frozen=True, slots=True)
class CameBack:
    """The caller's leg has left the room of its bridge for good."""


@dataclass(frozen=True, slots=True)
class Strayed:
    """The caller's leg asks for a question that nobody asks any more, while its bridge lives."""


@dataclass(frozen=True, slots=True)
class AskedForMore:
    """The IVR answered 401 `insufficient_user_authentication` (RFC 9470): `acr_values` best first, `max_age` s."""

    acr_values: tuple[str, ...]
    max_age_s: int | None
    held: str = field(repr=False)
    nonce: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The code of this factor was not sent, or not taken, and `why`: another factor, or an apology."""

    factor: str
    nonce: str
    why: str = "undeliverable"


@dataclass(frozen=True, slots=True)
class Pausing:
    """These recordings of the call run, and are paused next: known to the call before it is done."""

    recordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording could not be paused before a secret is keyed."""

    nonce: str


@dataclass(frozen=True, slots=True)
class PinChanged:
    """
    The new PIN is in force; or not (`changed` False), as it is too easy to guess. None: a fault; `out_of_sight` where it
    may be in force all the same.
    """

    changed: bool | None
    nonce: str
    out_of_sight: bool = False


Event = (
    Arrived
    | Resumed
    | Answered
    | Judged
    | Waits
    | Replied
    | AskedForMore
    | Undelivered
    | Pausing
    | Recorded
    | PinChanged
    | CameBack
    | Strayed
)


# ── moves: what to do ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ask:
    """Say the prompts named by `words` and take keys. `send`: a code to be sent first, `for_real` or not."""

    question: Question
    words: tuple[str, ...]
    digits_max: int | None
    send: Sent | None = None
    for_real: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge the answer. Not `allowed`: locked, so do the same work on nothing."""

    factor: str
    allowed: bool
    sent: Sent | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Say one moment, and come back to the same question."""

    question: Question


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request to the IVR: the held one if there is one, else the one that is here."""

    held: str = field(default="", repr=False)
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Connect: the held rest of the document, with the token of `leg` in it; `bridge`: in a room of the guard's."""

    held: str = field(repr=False)
    leg: "handoff.Leg"
    bridge: bool = False


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Into the room of this bridge again."""

    bridge: Bridge


@dataclass(frozen=True, slots=True)
class ComeBack:
    """On in the IVR, where its `<Dial>` would have led: this bridge is over."""

    bridge: Bridge


@dataclass(frozen=True, slots=True)
class ChangePin:
    """Make the keys that are here the account's PIN."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Say the prompt `words`; then the call goes on at the IVR's `path`."""

    words: str
    path: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say the prompt `words`, then hang up, or `dial` a human who is told nothing was verified."""

    words: str
    reason: str
    dial: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done: what came is stale, or the IVR's document goes out as it is."""


Move = Ask | Judge | Hold | Forward | Transfer | Rejoin | ComeBack | ChangePin | GoOn | Refuse | Rest


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: the call and the books afterwards, the move, the record; `tell`: what to write to the owner."""

    call: Call
    books: Books
    move: Move
    entries: tuple[Entry, ...] = ()
    tell: str = ""


@dataclass(frozen=True, slots=True)
class Act(Generic[T]):
    """What somebody else than the caller did to a call: as `Step`, with what came of it in the place of a move."""

    call: Call
    books: Books
    outcome: T
    entries: tuple[Entry, ...] = ()
    tell: str = ""


# ── the books ────────────────────────────────────────────────────────────────────────────────────────────


def ledger_id(account: str, kind: str, lane: str) -> str:
    """The id of the ledger of one account, kind of factor and lane."""
    return f"{account}/{kind}/{lane}"


def number_ledger_id(caller: Address) -> str | None:
    """The id of the caller number's ledger; None for a withheld number (one bucket for all would lock all)."""
    return None if caller.kind is AddressKind.ANONYMOUS else f"number/{caller.value}"


def ledger_ids(flow: Flow, call: Call) -> tuple[str, ...]:
    """Every ledger that a step of this call may read or change."""
    if not call.account:
        return ()
    every = (name for factor in flow.factors for name, _, _ in concerned(flow, call, factor))
    return tuple(dict.fromkeys(every))


def send_limits(flow: Flow, call: Call) -> tuple[tuple[str, int, int], ...]:
    """
    What bounds the codes sent to this call's account: an id, how many, in how many seconds.

    By account and by number in a lane of its own, by country's prefix for callers who proved something apart from
    those who only claim: strangers must not use up the owner's. An unknown account has a number that nobody has.
    """
    return _send_limits(flow, call, "proved" if call.proofs else "claimed")


def send_windows(flow: Flow, call: Call) -> Mapping[str, int]:
    """
    Every id of `Books.sends` that a step of this call may read or change (it may prove something in it), and for how
    many seconds its times matter.
    """
    both = (*_send_limits(flow, call, "claimed"), *_send_limits(flow, call, "proved"))
    return {name: within_s for name, _, within_s in both}


def _send_limits(flow: Flow, call: Call, stage: str) -> tuple[tuple[str, int, int], ...]:
    sends = next((one.sends for one in flow.factors.values() if one.kind is Kind.SMS_CODE), None)
    if sends is None or not call.account:
        return ()
    return (
        (f"{call.account}/{call.lane}", sends.per_account, sends.per_account_s),
        (f"number/{call.to}/{call.lane}", sends.per_number, sends.per_number_s),
        (f"prefix/{call.to_prefix}/{stage}", sends.per_prefix, sends.per_prefix_s),
    )


def own_ledger_id(flow: Flow, call: Call, factor: str) -> str:
    """
    The ledger of the call's account, lane and factor, by the factor's kind: two flows that name one secret
    differently share its count, or each name would be as many guesses more.
    """
    return ledger_id(call.account, flow.factors[factor].kind, call.lane)


def concerned(flow: Flow, call: Call, factor: str) -> tuple[tuple[str, lockout.Rule, str], ...]:
    """
    The ledgers that an attempt counts in: the id, the rule, and how the record names it.

    In a trusted lane the caller number's is not among them: whoever pretends to call from that number fills it,
    and would lock out the owner, whose guesses his lane bounds already.
    """
    own = (own_ledger_id(flow, call, factor), flow.locks.account, lane_name(call))
    number, rule = number_ledger_id(call.caller), flow.locks.caller_number
    if number is None or rule is None or call.lane != lockout.POOL:
        return (own,)
    return (own, (number, rule, "caller_number"))


def locked(flow: Flow, call: Call, books: Books, now_ms: int) -> bool:
    """Whether any factor of the call's account is locked in the call's lane now."""
    return any(
        not isinstance(lockout.standing(flow.locks.account, books.ledgers[name], now_ms), lockout.Open)
        for factor in flow.factors
        if (name := own_ledger_id(flow, call, factor)) in books.ledgers
    )


# ── what follows from a call ─────────────────────────────────────────────────────────────────────────


def holder(call: Call) -> handoff.Holder:
    """What of this call matters to a hand-over."""
    return handoff.Holder(call.sid, call.account, call.ref, call.proofs, call.ended_ms is not None, call.legs)


def asks_secret(call: Call) -> bool:
    """Whether what the caller keys next is a secret; an account number is none."""
    question = call.question
    return question is not None and (bool(question.factor) or question.about is not About.ACCOUNT)


def current_code(call: Call, factor: str, now_ms: int) -> Sent | None:
    """The code of this factor that was sent in this call, for this intent, and is still valid."""
    for sent in reversed(call.sent):
        fits = sent.factor == factor and sent.intent == intent_of(call)
        if fits and now_ms < sent.at_ms + sent.valid_s * 1000:
            return sent
    return None


def intent_of(call: Call) -> str:
    """What the caller is about to do, in the admin's word; "" when no rule names it."""
    demands = call.pending.demands if call.pending else ()
    return next((demand.intent for demand in demands if demand.intent), "")


def keyed(flow: Flow, call: Call, digits: str | None) -> Keyed:
    """How the keys look to the question that is open: the only thing of them that a decision rests on."""
    question = call.question
    digits = (digits or "").removesuffix("#")
    if question is None or not digits:
        return Keyed.NOTHING
    if not digits.strip("*"):
        return Keyed.REPEAT
    if not (digits.isascii() and digits.isdigit()):
        return Keyed.MISFIT
    if question.factor:
        factor = flow.factors[question.factor]
        fits = len(digits) == factor.digits
        if digits == ANOTHER_CODE_KEY and factor.kind is Kind.SMS_CODE:
            return Keyed.ANOTHER_CODE
        if digits == OTHER_FACTOR_KEY:
            return Keyed.OTHER_FACTOR
    elif question.about is not About.ACCOUNT:
        fits = len(digits) == pin_factor(flow).digits
    elif chosen_language(flow, call, digits):
        return Keyed.LANGUAGE
    else:
        fits = flow.identify.digits_min <= len(digits) <= flow.identify.digits_max
        fits = fits or (digits == KNOWN_NUMBER_KEY and offers_number(flow, call))
    return Keyed.FITTING if fits else Keyed.MISFIT


def offers_number(flow: Flow, call: Call) -> bool:
    """Whether the account of the caller's number is offered: to every caller with a number, known or not."""
    return flow.identify.offer_known_number and call.caller.kind is AddressKind.PHONE


def claim(flow: Flow, call: Call, found: Found) -> Call:
    """The call, speaking for `found` from now on: whatever another account proved in it is gone."""
    trusted = found.trusted and call.attested and flow.locks.trusted_lane
    return replace(
        call,
        account=found.account,
        known=found.known,
        ref=found.ref,
        enrolled=found.enrolled,
        owners_language=found.language,
        to=found.to,
        to_prefix=found.to_prefix,
        lane=call.caller.value if trusted and call.caller.kind is AddressKind.PHONE else lockout.POOL,
        proofs=(),
        sent=(),
        declined=(),
        question=None,
        misses=0,
        read_back=None,
    )


def lane_name(call: Call) -> str:
    """Pool or trusted: the number itself stays out of the record."""
    return "pool" if call.lane == lockout.POOL else "trusted"


def pin_factor(flow: Flow) -> Factor:
    """The flow's PIN. A flow that lets callers change it has one (core/check.py)."""
    return next(factor for factor in flow.factors.values() if factor.kind is Kind.PIN)


def spoken(flow: Flow, call: Call) -> Catalogue:
    """
    What the caller hears: the language that he chose, or his account's, or the flow's own.

    The account's only once something is proved: before that, it would tell a stranger that there is such an account.
    """
    return flow.catalogue(call.language or (call.owners_language if call.proofs else ""))


def offered_languages(flow: Flow, call: Call) -> tuple[Catalogue, ...]:
    """The languages that a key gives at the first question: those that the caller does not hear already."""
    now = spoken(flow, call).language
    return tuple(one for one in flow.languages if one.key and one.language != now)


def chosen_language(flow: Flow, call: Call, digits: str | None) -> str:
    """The language that the keys choose; "" when they choose none."""
    keys = (digits or "").removesuffix("#")
    return next((one.language for one in offered_languages(flow, call) if one.key == keys), "")
