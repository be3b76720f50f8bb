"""
A call, told as conversations: `>>` is what happens, `<<` the move that must follow.

Then the promises as properties: a machine plays several calls at once, in any order of events, against an
oracle that knows nothing but the flow and the history; and faults planted in the rules turn it red.
"""

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import ndiff
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ivrguard.core import admission, demands, lockout
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.audit import Entry
from ivrguard.core.call import (
    Answered,
    Arrived,
    Ask,
    AskedForMore,
    Books,
    Call,
    ChangePin,
    Cut,
    Event,
    Forward,
    Found,
    GoOn,
    Hold,
    Judge,
    Judged,
    Keyed,
    Pausing,
    PinChanged,
    Question,
    Recorded,
    Refuse,
    Replied,
    Rest,
    Resumed,
    Sent,
    Step,
    Transfer,
    Undelivered,
    Waits,
    asks_secret,
)
from ivrguard.core.caller import ANONYMOUS, Address, AddressKind
from ivrguard.core.flow import (
    Catalogue,
    Factor,
    Flow,
    Identify,
    Locks,
    PinChange,
    Sends,
    Upstream,
    Via,
)
from ivrguard.core.lockout import Ledger
from ivrguard.core.rules import ANYONE, Demand, Rule, Target, Visit, decide
from ivrguard.core.step import ASKS_PER_CALL_MAX, HOLDS_MAX, IVR_CHALLENGES_MAX

# ── the flow, and who calls ──────────────────────────────────────────────────────────────────────────────

FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={
        "pin": Factor(Kind.PIN, 8),
        "code": Factor(Kind.SMS_CODE, 6, valid_s=600, sends=Sends(2, 5, 3600)),
        "app": Factor(Kind.TOTP, 6),
    },
    levels={
        "one_factor": AnyOf(("pin", "code", "app")),
        "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
        "message": AnyOf(("code",)),
        "token": AnyOf(("app",)),
    },
    rules=(
        Rule(ANYONE, path="/hours"),
        Rule(Demand("two_factor", within_s=300, intent="wire"), path="/menu", digits="3"),
        Rule(Demand("two_factor", within_s=300, intent="wire"), path="/wire/**"),
        Rule(Demand("message", intent="limits"), path="/limits"),
        Rule(Demand("token"), path="/token"),
        Rule(ANYONE, transfer=Target("enqueue", "fraud-line")),
        Rule(
            Demand("one_factor", intent="branch", reverify="one_factor", fresh_s=120),
            transfer=Target("number", "*"),
        ),
        Rule(Demand("message", intent="adviser"), transfer=Target("client", "*")),
        Rule(Demand("two_factor", intent="agent", reverify="one_factor"), transfer=Target("*", "*")),
    ),
    default=Demand("one_factor"),
    locks=Locks(
        account=lockout.Rule(failures=4, within_s=3600, lock_s=(1800, 7200), lifetime=9),
        caller_number=lockout.Rule(failures=8, within_s=3600, lock_s=(3600,)),
    ),
)
NOON = 1_700_000_000_000
PHONE = Address(AddressKind.PHONE, "+14155550123")

OWNER, PLAIN, NOBODY = "123456", "234567", "999999"
FOUND = {
    OWNER: Found(OWNER, known=True, ref="ref-owner", enrolled=("pin", "code", "app")),
    PLAIN: Found(PLAIN, known=True, ref="ref-plain", enrolled=("pin", "code")),
    NOBODY: Found(NOBODY, known=False, ref="ref-nobody", enrolled=("pin", "code", "app")),
}
SECRET = "sealed-away"
"""In all that is sealed: it must not be seen in any `repr`."""

EVENTS = {
    *("authz_step_up", "authz_granted", "authz_fail", "account_claimed"),
    *("authn_attempt", "authn_attempt_withdrawn", "authn_login_success", "authn_login_fail"),
    *("authn_login_lock", "authn_token_created", "authn_code_undelivered", "authn_attempt_unjudged"),
    *("excess_rate_limit_exceeded", "authn_password_change", "authn_password_change_fail"),
    "authn_password_change_unconfirmed",
    *("authn_code_sent", "owner_notified"),
}


def a_call(flow: Flow = FLOW, caller: Address = PHONE, *, attested: bool = False, sid: str = "CA1") -> Call:
    """A call that has just begun."""
    return Call(sid, "AC1", flow.name, flow.version, caller, "+18005550100", attested, NOON)


def visit(path: str = "", digits: str | None = None, transfer: Target | None = None) -> Visit:
    """What is about to happen, on a Monday at noon."""
    return Visit(path, "POST", "+18005550100", 0, 720, digits, transfer)


# ── the playbook ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Heard:
    """Something that happens, as a line of the conversation; `delivery`: a webhook of its own."""

    line: str
    make: Callable[["Talk"], Event]
    delivery: bool = False


@dataclass(frozen=True)
class Pause:
    """Time passes."""

    seconds: float


def arrives(path: str, digits: str | None = None) -> Heard:
    """The caller's leg asks the IVR for `path`."""
    held = f"{SECRET} {path}"
    return Heard(f"arrives {path}", lambda talk: Arrived(visit(path, digits), held, talk.nonce()), True)


def keys(digits: str) -> Heard:
    """The caller keys `digits` ("" for silence); six of them name an account where one is asked for."""

    def answered(talk: Talk) -> Event:
        looks = calls.keyed(talk.flow, talk.call, digits)
        asked = talk.call.question is not None and not talk.call.question.factor
        found = talk.found[digits] if looks is Keyed.FITTING and asked else None
        language = calls.chosen_language(talk.flow, talk.call, digits)
        return Answered(looks, talk.nonce(), found, language)

    return Heard(f"keys {digits!r}", answered, True)


def judged(right: bool | None, step: int | None = None) -> Heard:
    """The verdict over the keys."""
    word = {True: "right", False: "wrong", None: "a fault"}[right]
    return Heard(f"they are {word}", lambda talk: Judged(right, talk.nonce(), step))


RIGHT, WRONG, FAULT = judged(True), judged(False), judged(None)
BUSY = Heard("no thread is free", lambda talk: Waits(f"{SECRET} digits", talk.nonce()))
REPLIED = Heard("the IVR replies", lambda _: Replied())
RESUMES = Heard("comes to the transfer", lambda talk: Resumed(talk.nonce()), True)
RESUMES_AGAIN = Heard("comes again: the answer was lost", lambda talk: Resumed(talk.nonce(), again=True))


def done_anew(talk: "Talk") -> list[str]:
    """Whether what is on record last, and before it of the same event, was done anew because an answer was lost."""
    last = talk.record[-1].event
    return [dict(entry.detail).get("again", "") for entry in talk.record if entry.event == last]


def cut(*targets: Target, whispers: tuple[tuple[str, str], ...] = ()) -> Heard:
    """The IVR replies with a transfer to `targets`, which is protected."""

    def replied(talk: Talk) -> Event:
        every = (decide(talk.flow.rules, talk.flow.default, visit(transfer=one))[0] for one in targets)
        wanted = tuple(dict.fromkeys(demand for demand in every if demand.require is not None))
        queues = tuple(map(str, targets))
        return Replied(Cut(wanted, f"{SECRET} rest", queues, ("task",), whispers, talk.nonce()))

    return Heard(f"the IVR transfers to {' and '.join(map(str, targets))}", replied)


def more(*acr_values: str, max_age_s: int | None = None) -> Heard:
    """The IVR asks for more (RFC 9470)."""
    held = f"{SECRET} again"

    def asked(talk: Talk) -> Event:
        return AskedForMore(acr_values, max_age_s, held, talk.nonce())

    return Heard(f"the IVR wants {acr_values}, {max_age_s}", asked)


def undelivered(factor: str) -> Heard:
    """The carrier does not take the code."""
    return Heard(f"{factor} cannot be sent", lambda talk: Undelivered(factor, talk.nonce()))


def told(step: Step) -> str:
    """A move as a line: all of it but nonces and what is sealed."""
    match step.move:
        case Ask(_, words, digits_max, send, for_real):
            line = f"ask {', '.join(words)} ({digits_max})"
            if send is not None:
                line += f", code for {send.intent or 'nothing'} {'sent' if for_real else 'withheld'}"
        case Judge(factor, allowed, sent):
            line = f"judge {factor}{'' if allowed else ' for show'}"
            line += f" against the code for {sent.intent or 'nothing'}" if sent else ""
        case Hold():
            line = "hold"
        case Forward(held, intent):
            line = f"forward {held.removeprefix(SECRET).strip() or 'what came'}"
            line += f" for {intent}" if intent else ""
        case Transfer(_, leg):
            line = f"transfer to {','.join(leg.queues)} for {leg.intent}, proved {','.join(leg.amr)}"
        case Refuse(words, reason, dial):
            line = f"refuse: {words}, {reason}" + (f", dial {dial}" if dial else "")
        case ChangePin():
            line = "change the PIN"
        case GoOn(words, path):
            line = f"say {words}, go on at {path}"
        case Rest():
            line = "rest"
    return line + (f", tell {step.tell}" if step.tell else "")


@dataclass
class Talk:
    """
    A conversation. `>>` something happens and the call takes a step; `<<` the move that must have come of it.

    At each step it also checks what holds of every step: a question has the nonce of the event that led to it
    and is the one kept; records are of this call and known by name; nothing sealed shows.
    """

    flow: Flow = FLOW
    call: Call = field(default_factory=a_call)
    books: Books = field(default_factory=Books)
    found: Mapping[str, Found] = field(default_factory=lambda: FOUND)
    now_ms: int = NOON
    script: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    record: list[Entry] = field(default_factory=list)
    told: str | None = None
    nonces: int = 0

    def nonce(self) -> str:
        self.nonces += 1
        return f"{self.call.sid}-n{self.nonces}"

    def __rshift__(self, heard: Heard | Pause) -> "Talk":
        assert self.told is None, f"nobody said what follows: {self.told}"
        if isinstance(heard, Pause):
            self.now_ms += round(heard.seconds * 1000)
            self.script.append(f">> {heard.seconds} s pass")
            return self
        self.script.append(f">> {heard.line}")
        if heard.delivery:
            self.call = admission.remember(self.call, f"delivery {self.call.turn}", None, "node", self.now_ms)
        event = heard.make(self)
        step = steps.step(self.flow, self.call, self.books, event, self.now_ms)
        if isinstance(step.move, Ask | Hold):
            assert step.move.question == step.call.question
            assert event.nonce == step.move.question.nonce
        if isinstance(step.move, Ask) and step.move.send is None:
            assert not step.move.for_real
        assert {(self.call.sid, True)} >= {(entry.call, entry.event in EVENTS) for entry in step.entries}
        assert SECRET not in repr(step)
        self.call, self.books, self.told = step.call, step.books, told(step)
        self.steps.append(step)
        self.record.extend(step.entries)
        return self

    def __lshift__(self, expected: str) -> "Talk":
        before = self.script[-12:]
        if expected != self.told:
            diff = ndiff([*before, f"<< {expected}"], [*before, f"<< {self.told}"])
            raise AssertionError("the conversation took another turn:\n" + "\n".join(diff))
        self.script.append(f"<< {expected}")
        self.told = None
        return self

    def again(self, *, caller: Address | None = None) -> "Talk":
        """The next call, with the books as they are now."""
        sid = f"{self.call.sid}+"
        call = a_call(self.flow, caller or self.call.caller, attested=self.call.attested, sid=sid)
        return Talk(self.flow, call, self.books, self.found, self.now_ms)

    def events(self) -> list[str]:
        """The record, a line for each entry."""
        return [
            " ".join([entry.event, entry.reason, *(f"{name}={value}" for name, value in entry.detail)])
            for entry in self.record
        ]


def identified(talk: Talk | None = None, account: str = OWNER, path: str = "/menu") -> Talk:
    """A caller who was asked for his account, named it, and is asked for what comes first."""
    talk = (talk or Talk()) >> arrives(path) << "ask identify (13)" >> keys(account)
    assert talk.told is not None
    return talk << talk.told


def verified(talk: Talk | None = None, account: str = OWNER) -> Talk:
    """A caller who gave his PIN and hears the menu."""
    return (
        identified(talk, account)
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /menu"
        >> REPLIED << "rest"
    )  # fmt: skip


def stepped_up(talk: Talk | None = None, account: str = OWNER) -> Talk:
    """A caller who gave PIN and code for a wire, and hears about it."""
    return (
        verified(talk, account)
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "forward /wire/new for wire"
        >> REPLIED << "rest"
    )  # fmt: skip


# ── identify, prove, forward ─────────────────────────────────────────────────────────────────────────────


def test_a_caller_is_identified_then_proved_then_forwarded():
    """The request that was held up by questions goes out as it came."""
    (
        Talk()
        >> arrives("/menu") << "ask identify (13)"
        >> keys(OWNER) << "ask pin (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /menu"
    )  # fmt: skip


def test_what_anyone_may_is_forwarded_unasked():
    """No account is claimed, nothing is held."""
    talk = Talk() >> arrives("/hours") << "forward what came" >> REPLIED << "rest"

    assert not talk.call.account


def test_who_is_verified_is_not_asked_again():
    """A proof without `within` lasts as long as the call."""
    verified() >> Pause(86_400) >> arrives("/menu") << "forward what came"


def test_a_known_number_may_be_offered():
    """To every caller with a number, whether it is on anybody's file or not."""
    flow = replace(FLOW, identify=replace(FLOW.identify, offer_known_number=True))
    found = {"1": replace(FOUND[NOBODY], account="number:+14155550123")}

    Talk(flow, found=found) >> arrives("/menu") << "ask identify_or_known (13)" >> keys("1") << "ask pin (8)"
    Talk(flow, a_call(caller=ANONYMOUS)) >> arrives("/menu") << "ask identify (13)"


def test_a_caller_steps_up():
    """Two factors where the transaction is worth it: only what is missing is asked for."""
    (
        verified()
        >> arrives("/menu", "3") << "ask sms_code (6), code for wire sent"
        >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "forward /menu for wire"
    )  # fmt: skip


def test_two_factors_from_nothing():
    """Both are asked for in the order written."""
    (
        Talk()
        >> arrives("/wire/new") << "ask identify (13)"
        >> keys(OWNER) << "ask pin (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code (6), code for wire sent"
        >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "forward /wire/new for wire"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(300, "forward what came for wire"), (300.001, "ask pin.short (8)")],
)
def test_a_proof_older_than_within_is_asked_for_again(seconds, expected):
    """Five minutes for a wire, to the millisecond."""
    stepped_up() >> Pause(seconds) >> arrives("/wire/new") << expected


def test_a_proof_that_ages_while_another_is_made_is_asked_for_again():
    """At the moment of forwarding every factor must be young enough, not only the last one."""
    (
        verified()
        >> Pause(299) >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> Pause(2) >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "ask pin.short (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /wire/new for wire"
    )  # fmt: skip


def test_what_an_account_is_not_enrolled_for_is_refused_once_something_is_proved():
    """Before that, every account is asked alike."""
    found = {OWNER: replace(FOUND[OWNER], enrolled=("pin",))}

    verified(Talk(found=found)) >> arrives("/wire/new") << "refuse: refused, not_enrolled"
    (
        verified(Talk(found=found))
        >> arrives("/menu") << "forward what came"
        >> cut(AGENTS) << "rest"
        >> RESUMES << "refuse: refused, not_enrolled"
    )  # fmt: skip
    identified(Talk(found=found), path="/limits")


# ── how a caller answers ─────────────────────────────────────────────────────────────────────────────────


def test_silence_three_times_is_goodbye():
    """A bare hash key, too, is nothing: Twilio posts it as no digits."""
    (
        identified()
        >> keys("") << "ask not_heard, pin.short, other_factor (8)"
        >> keys("#") << "ask not_heard, pin.short, other_factor (8)"
        >> keys("") << "refuse: goodbye, silence"
    )  # fmt: skip


def test_a_star_repeats_the_question():
    """It is no answer: it costs neither a try nor patience."""
    talk = identified()
    for _ in range(5):
        talk = talk >> keys("*") << "ask pin, other_factor (8)"

    assert talk >> keys("11112222") << "judge pin"


@pytest.mark.parametrize("digits", ["1111222", "111122223", "1111*222", "١١١١٢٢٢٢"])
def test_keys_that_do_not_fit_are_not_a_guess(digits):
    """Too few, too many, not digits: asked again without a count, and refused after the flow's tries."""
    talk = (
        identified()
        >> keys(digits) << "ask mistyped, pin.short, other_factor (8)"
        >> keys(digits) << "ask mistyped, pin.short, other_factor (8)"
        >> keys(digits) << "refuse: refused, tries"
    )  # fmt: skip

    assert Books() == talk.books


@pytest.mark.parametrize("verdict", [WRONG, RIGHT])
def test_a_digit_string_of_another_length_names_no_account(verdict):
    """An account that cannot be is mistyped; nothing is looked up, and a verdict out of the blue is ignored."""
    (
        Talk()
        >> arrives("/menu") << "ask identify (13)"
        >> keys("12345") << "ask mistyped, identify.short (13)"
        >> verdict << "rest"
        >> BUSY << "rest"
        >> keys(OWNER) << "ask pin (8)"
        >> verdict << "rest"
        >> BUSY << "rest"
        >> keys("11112222") << "judge pin"
    )  # fmt: skip


def test_an_answer_without_an_account_is_mistyped():
    """Whoever looks accounts up may find that the keys name none at all."""
    talk = Talk(found={OWNER: None}) >> arrives("/menu") << "ask identify (13)"

    talk >> keys(OWNER) << "ask mistyped, identify.short (13)"


def test_wrong_answers_end_after_the_flow_s_tries():
    """Three wrong ones in a call, and it is over; a right one in between starts anew."""
    (
        identified()
        >> keys("11112223") << "judge pin"
        >> WRONG << "ask again, pin.short, other_factor (8)"
        >> keys("11112224") << "judge pin"
        >> WRONG << "ask again, pin.short, other_factor (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /menu"
        >> REPLIED << "rest"
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("333445") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6), tell sms_warning"
        >> keys("333446") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6)"
        >> keys("") << "ask not_heard, sms_code.short, another_code, other_factor (6)"
        >> keys("333447") << "judge code against the code for wire"
        >> WRONG << "refuse: refused, tries"
    )  # fmt: skip


def test_a_right_answer_starts_the_tries_anew():
    """The second factor has its own."""
    (
        guess(guess(identified(path="/wire/new")))
        >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code (6), code for wire sent"
        >> keys("12345") << "ask mistyped, sms_code.short, another_code, other_factor (6)"
        >> keys("12345") << "ask mistyped, sms_code.short, another_code, other_factor (6)"
        >> keys("12345") << "refuse: refused, tries"
    )  # fmt: skip


def test_what_was_refused_does_not_go_on():
    """Neither the request nor the question is left."""
    refused = (
        identified()
        >> keys("")
        << "ask not_heard, pin.short, other_factor (8)"
        >> keys("")
        << "ask not_heard, pin.short, other_factor (8)"
    )

    assert (
        refused >> keys("") << "refuse: goodbye, silence" >> RESUMES << "rest" >> keys("11112222") << "rest"
    )


def test_tries_are_counted_for_one_thing_asked_for():
    """Who goes on to something that he may hear has his tries again; the lockout's count is another matter."""
    (
        guess(guess(identified()))
        >> arrives("/hours") << "forward what came"
        >> arrives("/menu") << "ask pin.short, other_factor (8)"
        >> keys("1") << "ask mistyped, pin.short, other_factor (8)"
        >> keys("1") << "ask mistyped, pin.short, other_factor (8)"
        >> keys("1") << "refuse: refused, tries"
    )  # fmt: skip


@pytest.mark.parametrize("digits", ["", "*", "1"])
def test_a_verdict_belongs_to_the_answer_that_it_was_made_for(digits):
    """Once it is spoken, or another answer came, one more verdict is nobody's."""
    talk = guess(identified()) >> RIGHT << "rest" >> BUSY << "rest" >> FAULT << "rest"
    talk = talk >> keys("11112222") << "judge pin" >> keys(digits)
    talk.told = None

    assert talk >> RIGHT << "rest" >> WRONG << "rest"


def test_a_right_answer_to_what_nobody_wants_any_more_is_a_proof_and_no_more():
    """The question is gone with it."""
    talk = identified() >> keys("11112222") << "judge pin" >> REPLIED << "rest" >> RIGHT << "rest"

    assert talk >> keys("11112222") << "rest" >> arrives("/menu") << "forward what came"


def test_questions_are_bounded():
    """A caller who only presses the star is told goodbye at last."""
    talk = identified()
    for _ in range(ASKS_PER_CALL_MAX - 2):
        talk = talk >> keys("*") << "ask pin, other_factor (8)"

    talk >> keys("*") << "refuse: refused, asks"


# ── counting and locks ───────────────────────────────────────────────────────────────────────────────────


EIGHT = Ledger(tuple(lockout.Attempt(str(number), NOON) for number in range(8)), run=8)
"""A caller number's ledger that has just been filled."""


def guess(talk: Talk, *, allowed: bool = True, then: str = "ask again, pin.short") -> Talk:
    """One wrong PIN. `then`: what comes, or how it begins (another factor may be on offer, or not)."""
    talk = talk >> keys("11112223") << f"judge pin{'' if allowed else ' for show'}" >> WRONG
    assert talk.told is not None
    assert talk.told.startswith(then)
    return talk << talk.told


def locked(talk: Talk | None = None, account: str = OWNER) -> Talk:
    """The books after four wrong PINs in two calls."""
    talk = identified(talk, account)
    for then in ("ask again, pin.short", "ask again, pin.short", "refuse: refused, tries"):
        talk = guess(talk, then=then)
    return guess(identified(talk.again(), account))


def test_a_locked_account_hears_what_a_wrong_answer_hears():
    """The right PIN in a lock is judged for show, and wrong; the count stands still."""
    talk = identified(locked().again())
    before = talk.books

    talk = (
        talk
        >> keys("11112222") << "judge pin for show"
        >> RIGHT << "ask again, pin.short, other_factor (8)"
        >> keys("11112222") << "judge pin for show"
        >> WRONG << "ask again, pin.short, other_factor (8)"
    )  # fmt: skip

    assert before == talk.books


def test_a_lock_ends_and_a_success_forgives():
    """After half an hour the owner gets in, and all his guesses are there again."""
    talk = verified(locked().again() >> Pause(1800))

    assert lockout.Open(4) == lockout.standing(
        FLOW.locks.account, talk.books.ledgers["123456/pin/pool"], NOON
    )


def test_a_wrong_answer_in_the_lock_may_lead_to_a_human():
    """Where the flow says so: the human is told that nothing was verified. Only a lock does that."""
    flow = replace(FLOW, locks=replace(FLOW.locks, on_locked_dial="+18005550199"))
    talk = identified(replace(locked(), flow=flow).again())

    talk = guess(guess(talk, allowed=False), allowed=False)
    refused = guess(talk, allowed=False, then="refuse: refused, tries, dial +18005550199")
    assert refused.call.unguarded == ("number:+18005550199",), "he may take the call (core/passing.py)"
    other = guess(guess(guess(identified(Talk(flow)))), then="refuse: refused, tries")
    assert other.call.unguarded == ()


def test_where_the_last_document_leads_unasked_is_kept():
    """Of each document anew; what the call is asked meanwhile changes nothing of it."""
    led = Heard("the IVR replies", lambda _: Replied(unguarded=("enqueue:fraud-line",)))
    talk = Talk() >> arrives("/hours") << "forward what came" >> led << "rest"
    assert talk.call.unguarded == ("enqueue:fraud-line",)

    talk = talk >> arrives("/menu") << "ask identify (13)"
    assert talk.call.unguarded == ("enqueue:fraud-line",)
    talk = talk >> arrives("/hours") << "forward what came" >> REPLIED << "rest"
    assert talk.call.unguarded == ()


def heard(talk: Talk) -> list[tuple[object, ...]]:
    """What the caller hears, and the work it takes: words, keys, what is judged."""
    out: list[tuple[object, ...]] = []
    for step in talk.steps:
        match step.move:
            case Ask(question, words, digits_max, send):
                out.append((words, digits_max, question.factor, send and (send.factor, send.intent)))
            case Judge(factor, _, sent):
                out.append((factor, sent and sent.intent))
            case Refuse(words, _, dial):
                out.append((words, dial))
            case other:
                out.append((type(other).__name__,))
    return out


def disabled(account: str) -> Books:
    """Every factor of the account failed for a lifetime."""
    return Books({f"{account}/{kind}/pool": Ledger(run=9) for kind in Kind})


@given(
    st.sampled_from(["/menu", "/limits", "/wire/new"]),
    st.lists(
        st.sampled_from(["", "*", "#", "1", "11112222", "333444", "0123456789", "busy", "fault", "an hour"]),
        max_size=30,
    ),
)
@example("/menu", ["11112222"])
def test_unknown_known_and_locked_accounts_hear_the_same(path, script):
    """Whatever a caller who proves nothing keys: the same words, the same questions, the same work (promise 6)."""

    def play(books: Books, account: str, others: Mapping[str, Found]) -> list[tuple[object, ...]]:
        talk = Talk(books=books, found=others)
        for heard_ in (arrives(path), keys(account)):
            talk >>= heard_
            talk.told = None
        for line in script:
            if line == "an hour":
                talk >>= Pause(3600)
                continue
            talk >>= keys("11112222" if line in {"busy", "fault"} else line)
            if isinstance(talk.steps[-1].move, Judge):
                talk.told = None
                talk >>= {"busy": BUSY, "fault": FAULT}.get(line, WRONG)
            talk.told = None
        return heard(talk)

    lesser = {OWNER: replace(FOUND[OWNER], enrolled=("app",))}
    expected = play(Books(), NOBODY, FOUND)

    assert expected == play(Books(), OWNER, FOUND)
    assert expected == play(Books(), OWNER, lesser)
    assert expected == play(disabled(OWNER), OWNER, FOUND)
    assert expected == play(disabled(NOBODY), NOBODY, FOUND)


@pytest.mark.parametrize(
    ("known", "books", "expected"),
    [
        (True, Books(), "sent"),
        (False, Books(), "withheld"),
        (True, disabled(OWNER), "withheld"),
        (True, Books({"number/+14155550123": EIGHT}), "withheld"),
    ],
)
def test_no_message_goes_out_for_an_unknown_account_or_in_a_lock(known, books, expected):
    """They hear that one does; the send is counted all the same."""
    found = {OWNER: replace(FOUND[OWNER], known=known)}
    talk = Talk(books=books, found=found) >> arrives("/limits") << "ask identify (13)"

    talk = talk >> keys(OWNER) << f"ask sms_code (6), code for limits {expected}"

    assert (talk.books.sends[f"{OWNER}/pool"], talk.call.codes_sent) == ((NOON,), 1)


def test_a_caller_s_number_is_locked_whatever_accounts_it_guesses_at():
    """Eight failures from one number: its own next guess is for show, another number's and a withheld one's not."""
    talk = Talk()
    for number in range(8):
        account = f"90000{number}"
        found = {account: replace(FOUND[NOBODY], account=account)}
        talk = guess(identified(replace(talk.again(), found=found), account))
    other = Address(AddressKind.PHONE, "+14155550199")

    guess(identified(replace(talk.again(), found=FOUND)), allowed=False)
    guess(identified(replace(talk.again(caller=other), found=FOUND)))
    guess(identified(replace(talk.again(caller=ANONYMOUS), found=FOUND)))


def test_a_right_answer_does_not_forgive_a_number_its_wrong_ones():
    """A guesser with an account of his own would otherwise clear his count with it."""
    talk = verified(guess(identified()).again())

    assert talk.books.ledgers.get("number/+14155550123", Ledger()).run == 1
    assert Ledger() == talk.books.ledgers["123456/pin/pool"]


@pytest.mark.parametrize("verdict", [WRONG, RIGHT, FAULT, BUSY])
def test_the_same_delivery_again_counts_once_and_another_for_itself(verdict):
    """A process that died between counting and judging: its delivery comes again, and is the guess that it was."""
    talk = identified() >> keys("11112222") << "judge pin"
    once = talk.books

    again = replace(keys("11112222"), delivery=False)
    talk = talk >> again << "judge pin"
    assert once == talk.books
    assert done_anew(talk) == ["", "yes"]
    talk = talk >> keys("11112223") << "judge pin"
    assert done_anew(talk) == ["", "yes", ""]
    assert talk.books.ledgers["123456/pin/pool"].run == 2
    talk >>= verdict
    assert (verdict is WRONG) + 1 == talk.books.ledgers.get(
        "123456/pin/pool", Ledger()
    ).run or verdict is RIGHT


def test_an_answer_to_a_question_that_waits_is_not_counted():
    """No thread is free: the attempt alone is taken back, the keys wait sealed, and come back as the answer."""
    talk = guess(identified())
    for number in range(HOLDS_MAX):
        talk = talk >> keys("11112222") << "judge pin" >> BUSY << "hold" >> RIGHT << "rest"
        assert (number + 1, f"{SECRET} digits") == (talk.call.question.holds, talk.call.question.held)
        assert talk.books.ledgers["123456/pin/pool"].run == 1

    assert talk >> keys("11112222") << "judge pin" >> BUSY << "refuse: unavailable, busy"


def test_keys_that_waited_and_are_wrong_are_forgotten():
    """The next answer is the caller's own, not the sealed one."""
    talk = guess(identified() >> keys("11112222") << "judge pin" >> BUSY << "hold")

    assert talk.call.question.held == ""


def test_a_fault_of_ours_is_not_a_guess():
    """Nothing was looked at: the attempt is taken back, and nothing is let through."""
    talk = identified() >> keys("11112222") << "judge pin" >> FAULT << "refuse: unavailable, fault"

    assert Ledger() == talk.books.ledgers["123456/pin/pool"]


@pytest.mark.parametrize("verdict", [FAULT, BUSY, WRONG, RIGHT])
def test_what_was_for_show_leaves_the_books_as_they_are(verdict):
    """The number is locked, the account was never tried: nothing to count, to forgive, or to take back."""
    talk = identified(Talk(books=Books({"number/+14155550123": EIGHT})))
    before = talk.books

    talk = talk >> keys("11112222") << "judge pin for show" >> verdict

    assert before == talk.books
    assert not talk.call.proofs


def test_no_stranger_locks_the_owner_out():
    """The pool is locked, and the number that the strangers pretend to call from: the owner's own lane is open."""
    books = locked().books
    books = replace(books, ledgers={**books.ledgers, "number/+14155550123": EIGHT})
    trusted = {OWNER: replace(FOUND[OWNER], trusted=True)}

    verified(Talk(call=a_call(attested=True), books=books, found=trusted))
    guess(identified(Talk(books=books, found=trusted)), allowed=False)


def test_a_number_that_verified_is_remembered():
    """From the phone network only; SIP addresses and withheld numbers are nobody's."""
    assert verified().books.trusted
    assert not verified(Talk(call=a_call(caller=ANONYMOUS))).books.trusted
    assert not guess(identified()).books.trusted


def test_a_thief_with_the_pin_cannot_buy_lanes_without_end():
    """Each number that answers right gets a count of its own, up to so many: the rest share the strangers'."""
    books = Books()
    for number in range(3 * lockout.TRUSTED_NUMBERS_MAX):
        caller = Address(AddressKind.PHONE, f"+1415555{number:04d}")
        books = replace(verified(Talk(call=a_call(caller=caller), books=books)).books, ledgers={})

    assert [one.number[-4:] for one in books.trusted] == ["0000", "0001", "0002", "0003", "0004"]


def test_speaking_for_another_account_drops_what_the_first_one_proved():
    """Proofs, codes, questions and lane were the other's."""
    sent = Sent("n", "code", "", NOON, 600)
    before = replace(
        stepped_up().call, sent=(sent,), question=Question("n", "pin"), misses=2, lane=PHONE.value
    )

    after = calls.claim(FLOW, before, FOUND[NOBODY])

    assert (after.account, after.known, after.ref) == (NOBODY, False, "ref-nobody")
    assert (after.proofs, after.sent, after.question, after.misses, after.lane) == ((), (), None, 0, "pool")


def test_the_owner_is_warned_once_when_a_second_factor_is_wrong():
    """Somebody knows his PIN (promise 2's other half). Nobody is warned of a wrong first one, or for a stranger."""
    (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("333445") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6), tell sms_warning"
        >> keys("333446") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6)"
    )  # fmt: skip
    (
        verified(account=NOBODY)
        >> arrives("/wire/new") << "ask sms_code (6), code for wire withheld"
        >> keys("333445") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6)"
    )  # fmt: skip
    guess(identified())


# ── codes and steps ──────────────────────────────────────────────────────────────────────────────────────


def test_a_code_is_sent_once_for_its_question():
    """Wrong, silent, repeated: asked again for the code that is on its way."""
    (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("*") << "ask sms_code, another_code, other_factor (6)"
        >> keys("") << "ask not_heard, sms_code.short, another_code, other_factor (6)"
        >> keys("333445") << "judge code against the code for wire"
        >> WRONG << "ask again, sms_code.short, another_code, other_factor (6), tell sms_warning"
        >> keys("33344") << "ask mistyped, sms_code.short, another_code, other_factor (6)"
        >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "forward /wire/new for wire"
    )  # fmt: skip


def test_a_code_that_has_expired_is_wrong_and_another_one_is_sent():
    """Ten minutes, to the millisecond; after the second one no more are sent in this call."""
    (
        verified()
        >> arrives("/limits") << "ask sms_code (6), code for limits sent"
        >> Pause(599.999) >> keys("*") << "ask sms_code, another_code (6)"
        >> Pause(0.001) >> keys("333444") << "judge code"
        >> WRONG << "ask again, sms_code (6), code for limits sent, tell sms_warning"
        >> Pause(600) >> keys("*") << "refuse: refused, sends"
    )  # fmt: skip


def test_a_code_is_bound_to_its_intent():
    """What was sent for a wire is not judged for anything else: a new message says what for."""
    (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> arrives("/limits") << "ask sms_code (6), code for limits sent"
        >> keys("333444") << "judge code against the code for limits"
        >> WRONG << "ask again, sms_code.short (6), tell sms_warning"
        >> arrives("/wire/new") << "ask sms_code.short, other_factor (6)"
        >> keys("333444") << "judge code against the code for wire"
        >> RIGHT << "forward /wire/new for wire"
    )  # fmt: skip


def test_a_code_works_once():
    """After a right answer every code of that factor is gone, also those for other intents."""
    talk = stepped_up()

    assert talk.call.sent == ()
    assert talk >> Pause(301) >> arrives("/wire/new") << "ask pin.short (8)"


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        ((NOON - 3_599_999,) * 5, "refuse: refused, sends"),
        ((NOON - 3_600_000, *(NOON,) * 4), "ask sms_code (6), code for limits sent"),
    ],
)
def test_codes_are_few_for_an_account(sends, expected):
    """Five in an hour, in whatever calls: a code is a cost and a nuisance."""
    (
        Talk(books=Books(sends={f"{OWNER}/pool": sends}))
        >> arrives("/limits")
        << "ask identify (13)"
        >> keys(OWNER)
        << expected
    )


def test_a_code_that_cannot_be_sent_gives_way_to_another_factor():
    """Or to an apology where the account has none."""
    talk = verified() >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
    talk >> undelivered("code") << "ask totp (6)" >> keys("555666") << "judge app"

    talk = verified(account=PLAIN) >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
    talk >> undelivered("code") << "refuse: unavailable, undeliverable"


def test_a_step_of_an_authenticator_app_is_used_once():
    """Overheard in one call, it is of no use in another: neither it nor an earlier one (RFC 6238, 5.2)."""

    def asked(talk: Talk) -> Talk:
        return (
            verified(talk)
            >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
            >> undelivered("code") << "ask totp (6)"
            >> keys("555666") << "judge app"
        )  # fmt: skip

    talk = asked(Talk()) >> judged(True, 70) << "forward /wire/new for wire"
    for step in (70, 69):
        talk = asked(talk.again()) >> judged(True, step) << "ask again, totp.short (6), tell sms_warning"
    asked(talk.again()) >> judged(True, 71) << "forward /wire/new for wire"


# ── a language, another code, another factor ─────────────────────────────────────────────────────────────

SPANISH = Catalogue("es-US", {}, key="2")
TWO_TONGUES = replace(FLOW, languages=(SPANISH, Catalogue("fr-CA", {})))


def test_a_caller_chooses_his_language_by_key():
    """At the first question, before the account; said in full in his language; no answer, so no miss."""
    talk = (
        Talk(TWO_TONGUES)
        >> arrives("/menu") << "ask identify, choose_language (13)"
        >> keys("2") << "ask identify (13)"
        >> keys("") << "ask not_heard, identify.short (13)"
        >> keys(OWNER) << "ask pin (8)"
    )  # fmt: skip

    assert (talk.call.language, talk.call.misses) == ("es-US", 0)


@pytest.mark.parametrize(("account", "expected"), [(OWNER, "es-US"), (PLAIN, "en-US"), (NOBODY, "en-US")])
def test_an_account_s_language_is_spoken_once_something_is_proved(account, expected):
    """Before that, it would tell a stranger that there is such an account, and whose it is."""
    found = FOUND | {OWNER: replace(FOUND[OWNER], language="es-MX")}
    talk = (
        Talk(TWO_TONGUES, found=found)
        >> arrives("/menu") << "ask identify, choose_language (13)"
        >> keys(account) << "ask pin (8)"
    )  # fmt: skip

    assert calls.spoken(talk.flow, talk.call).language == "en-US"
    talk = talk >> keys("11112222") << "judge pin" >> RIGHT << "forward /menu"
    assert calls.spoken(talk.flow, talk.call).language == expected


def test_another_code_by_key():
    """The one that was sent before is worth nothing then, and no more are sent than the flow allows."""
    talk = (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("1") << "ask sms_code, other_factor (6), code for wire sent"
        >> keys("1") << "ask sms_code.short, other_factor (6)"
    )  # fmt: skip

    assert [sent.again for sent in talk.call.sent] == [True]
    assert (
        talk
        >> keys("333444")
        << "judge code against the code for wire"
        >> RIGHT
        << "forward /wire/new for wire"
    )


@pytest.mark.parametrize(("via", "since_ms"), [(Via.MESSAGES, 60_000), (Via.VERIFY, 0)])
def test_a_code_that_verify_sends_again_grows_no_younger(via, since_ms):
    """It is the same code; ours is a new one."""
    code = replace(FLOW.factors["code"], via=via)
    flow = replace(FLOW, factors={**FLOW.factors, "code": code})

    talk = (
        verified(Talk(flow))
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> Pause(60) >> keys("1") << "ask sms_code, other_factor (6), code for wire sent"
    )  # fmt: skip

    assert [sent.at_ms - NOON for sent in talk.call.sent] == [since_ms]


def test_verify_knows_one_code_a_number():
    """A code for something else ends the first one, where each of ours lives on beside the other."""
    code = replace(FLOW.factors["code"], via=Via.VERIFY)
    flow = replace(FLOW, factors={**FLOW.factors, "code": code})

    talk = (
        verified(Talk(flow))
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> arrives("/limits") << "ask sms_code (6), code for limits sent"
    )  # fmt: skip

    assert [sent.intent for sent in talk.call.sent] == ["limits"]


def test_another_factor_by_key():
    """As long as another one will do; what is declined is asked for again in the next thing that needs it."""
    (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("2") << "ask totp (6)"
        >> keys("2") << "ask mistyped, totp.short (6)"
        >> keys("444555") << "judge app"
        >> judged(True, 1) << "forward /wire/new for wire"
        >> REPLIED << "rest"
        >> Pause(301) >> arrives("/limits") << "ask sms_code (6), code for limits sent"
        >> keys("2") << "ask mistyped, sms_code.short (6)"
    )  # fmt: skip


def test_another_factor_before_anything_is_proved_is_the_same_for_all():
    """Whatever the account has: the key tells nobody what is enrolled, nor whether there is such an account."""
    heard = []
    for account in (OWNER, PLAIN, NOBODY):
        talk = identified(account=account) >> keys("2")
        heard.append(talk.told.replace("withheld", "sent"))
        talk = talk << talk.told >> keys("2")
        heard[-1] += f"; {talk.told}"

    assert heard == ["ask sms_code (6), code for nothing sent; ask totp (6)"] * 3


def test_a_factor_that_fails_is_asked_for_although_it_was_declined():
    """When nothing else is left: better a second chance than the end of the call."""
    (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> keys("2") << "ask totp (6)"
        >> undelivered("app") << "ask sms_code.short, another_code (6)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("full", "proved", "expected"),
    [
        ({f"{OWNER}/pool": 5}, True, "ask totp (6)"),
        ({"number/num/pool": 10}, True, "ask totp (6)"),
        ({"prefix/1/proved": 300}, True, "ask totp (6)"),
        ({"prefix/1/claimed": 300}, True, "ask sms_code (6), code for wire sent"),
        ({"number/num/+14155550123": 10}, True, "ask sms_code (6), code for wire sent"),
        ({f"{OWNER}/pool": 5}, False, "ask totp (6)"),
        ({"number/num/pool": 10}, False, "ask sms_code (6), code for nothing withheld"),
        ({"prefix/1/claimed": 300}, False, "ask sms_code (6), code for nothing withheld"),
        ({"prefix/1/proved": 300}, False, "ask sms_code (6), code for nothing sent"),
    ],
)
def test_codes_are_few_for_an_account_a_number_and_a_country(full, proved, expected):
    """
    Strangers' codes are counted apart from owners'. Before anything is proved a number's limit is not told: the
    words are the same, and no message goes out.
    """
    found = {OWNER: replace(FOUND[OWNER], to="num", to_prefix="1")}
    books = Books(sends={name: (NOON,) * count for name, count in full.items()})
    talk = Talk(books=books, found=found)
    if proved:
        verified(talk) >> arrives("/wire/new") << expected
    else:
        identified(talk) >> keys("2") << expected


def test_a_limit_does_not_end_a_code_that_lives():
    """Who asks for another one and gets none goes on with the first."""
    found = {OWNER: replace(FOUND[OWNER], to="num", to_prefix="1")}
    talk = verified(Talk(found=found)) >> arrives("/limits") << "ask sms_code (6), code for limits sent"
    talk.books = replace(talk.books, sends={"number/num/pool": (NOON,) * 10})

    talk = talk >> keys("1") << "ask sms_code.short, another_code (6)"

    assert (
        talk
        >> keys("333444")
        << "judge code against the code for limits"
        >> RIGHT
        << "forward /limits for limits"
    )


def test_why_no_code_came_is_on_record():
    """A swapped SIM, a blocked country: another factor, and the reason for those who look."""
    talk = verified() >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
    nonce = talk.nonce()

    talk = (
        talk
        >> Heard("the SIM was swapped", lambda _: Undelivered("code", nonce, "sim_swap"))
        << "ask totp (6)"
    )

    assert "authn_code_undelivered sim_swap factor=code" in talk.events()


def test_what_may_have_been_looked_at_elsewhere_counts():
    """A service that judges gave no verdict: another factor, and the guess stays counted."""
    talk = verified() >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
    unseen = Heard("nobody answered", lambda talk: Judged(None, talk.nonce(), out_of_sight=True))

    talk = talk >> keys("333444") << "judge code against the code for wire" >> unseen << "ask totp (6)"

    assert len(talk.books.ledgers[f"{OWNER}/sms_code/pool"].attempts) == 1
    assert "authn_attempt_unjudged fault factor=code" in talk.events()


OWN = replace(
    FLOW,
    rules=tuple(
        replace(rule, demand=replace(rule.demand, own_code=True)) if rule.demand.intent == "wire" else rule
        for rule in FLOW.rules
    ),
)


def test_a_code_for_something_else_is_asked_for_again():
    """Its message did not say "a wire". The new one counts for what wants no code of its own, too."""
    talk = (
        verified(Talk(OWN))
        >> arrives("/limits") << "ask sms_code (6), code for limits sent"
        >> keys("333444") << "judge code against the code for limits"
        >> RIGHT << "forward /limits for limits" >> REPLIED << "rest"
        >> arrives("/wire/a") << "ask sms_code, other_factor (6), code for wire sent"
        >> keys("333555") << "judge code against the code for wire"
        >> RIGHT << "forward /wire/a for wire" >> REPLIED << "rest"
        >> arrives("/wire/b") << "forward what came for wire" >> REPLIED << "rest"
    )  # fmt: skip

    assert talk >> arrives("/limits") << "forward what came for limits"


def test_an_app_says_nothing_and_counts_for_everything():
    """Whoever has one is asked for it once."""
    talk = verified(Talk(OWN)) >> arrives("/token") << "ask totp (6)" >> keys("333444") << "judge app"
    talk = talk >> judged(True, 7) << "forward /token" >> REPLIED << "rest"

    assert talk >> arrives("/wire/a") << "forward what came for wire"


# ── recordings ───────────────────────────────────────────────────────────────────────────────────────────


def pausing(*names: str) -> Heard:
    """The guard is about to pause these recordings."""
    return Heard(f"pauses {', '.join(names)}", lambda _: Pausing(names))


def test_only_a_secret_needs_silence():
    """An account number is none; a PIN, a code and a new PIN are."""
    talk = Talk() >> arrives("/menu") << "ask identify (13)"
    wanted = [asks_secret(talk.call)]
    for heard, expected in ((keys(OWNER), "ask pin (8)"), (keys("11112222"), "judge pin")):
        talk = talk >> heard << expected
        wanted.append(asks_secret(talk.call))
    talk = talk >> RIGHT << "forward /menu"

    assert [*wanted, asks_secret(talk.call)] == [False, True, True, False]


def test_a_call_knows_what_is_paused_until_it_goes_on():
    """Through wrong answers, questions and a document with which nothing could be let go on; each recording once."""
    talk = (
        identified()
        >> pausing("RE1")
        << "rest"
        >> keys("11112222")
        << "judge pin"
        >> WRONG
        << ("ask again, pin.short, other_factor (8)")
    )
    talk = (
        talk >> pausing("RE2", "RE1") << "rest" >> keys("11112223") << "judge pin" >> RIGHT << "forward /menu"
    )
    talk = talk >> REPLIED << "rest"
    assert talk.call.paused == ("RE1", "RE2")

    talk = talk >> arrives("/menu") << "forward what came"
    assert talk >> Heard("it runs again", lambda _: Replied(resumed=True)) << "rest"
    assert talk.call.paused == ()


def test_a_recording_that_cannot_be_paused_ends_the_call():
    """Where the flow says that it must be: the secret is not asked for."""
    talk = identified() >> Heard("it runs on", lambda talk: Recorded(talk.nonce()))
    assert talk << "refuse: unavailable, recorded"
    assert "authz_fail recorded path=/menu" in talk.events()


# ── changing the PIN ─────────────────────────────────────────────────────────────────────────────────────

CHANGE = replace(FLOW, pin_change=PinChange("/change-pin", Demand("two_factor", within_s=300), "/menu"))


def keys_pin(same: bool | None = None) -> Heard:
    """The caller keys a new PIN; the second time it is the `same`, or not."""

    def answered(talk: Talk) -> Event:
        looks = calls.keyed(talk.flow, talk.call, "87654321")
        return Answered(looks, talk.nonce(), held=f"{SECRET} pin", same=bool(same))

    return Heard("keys a new PIN", answered, True)


def pin_changed(*, changed: bool | None = True, out_of_sight: bool = False) -> Heard:
    """What became of it."""
    words = {True: "it is changed", False: "it is weak", None: "a fault"}[changed]
    return Heard(words, lambda talk: PinChanged(changed, talk.nonce(), out_of_sight))


def changing() -> Talk:
    """A caller who has both factors and is asked for a new PIN."""
    talk = stepped_up(Talk(CHANGE))
    return talk >> arrives("/change-pin") << "ask new_pin (8)"


def test_a_caller_changes_his_pin():
    """Keyed twice; the owner is told; the call goes on where the flow says. The IVR never hears of it."""
    talk = (
        changing()
        >> keys_pin() << "ask new_pin_again (8)"
        >> keys_pin(same=True) << "change the PIN"
        >> pin_changed() << "say pin_changed, go on at /menu, tell sms_pin_changed"
    )  # fmt: skip

    assert "authn_password_change by_phone" in talk.events()
    assert (talk.call.pending, talk.call.question) == (None, None)


def test_a_new_pin_takes_both_factors():
    """They are asked for as anywhere else."""
    (
        Talk(CHANGE)
        >> arrives("/change-pin") << "ask identify (13)"
        >> keys(OWNER) << "ask pin (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code (6), code for nothing sent"
        >> keys("333444") << "judge code against the code for nothing"
        >> RIGHT << "ask new_pin (8)"
    )  # fmt: skip


def test_a_new_pin_that_differs_or_is_weak_begins_again():
    """And ends after the flow's tries, like any question."""
    (
        changing()
        >> keys_pin() << "ask new_pin_again (8)"
        >> keys_pin(same=False) << "ask new_pin_differs, new_pin (8)"
        >> keys_pin() << "ask new_pin_again (8)"
        >> keys_pin(same=True) << "change the PIN"
        >> pin_changed(changed=False) << "ask new_pin_weak, new_pin (8)"
        >> keys("1234") << "refuse: refused, tries"
    )  # fmt: skip


def test_a_pin_is_changed_only_while_its_demands_hold():
    """Looked at again when it is taken: the proofs may have grown too old meanwhile."""
    (
        changing()
        >> keys_pin() << "ask new_pin_again (8)"
        >> Pause(301) >> keys_pin(same=True) << "ask pin.short (8)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("out_of_sight", "event", "told"),
    [
        (False, "authn_password_change_fail", ""),
        (True, "authn_password_change_unconfirmed", ", tell sms_pin_changed"),
    ],
)
def test_a_change_that_met_a_fault_is_on_record(out_of_sight, event, told):
    """The call ends with an apology; where the new PIN may be in force all the same, its owner is told."""
    talk = (
        changing()
        >> keys_pin() << "ask new_pin_again (8)"
        >> keys_pin(same=True) << "change the PIN"
        >> pin_changed(changed=None, out_of_sight=out_of_sight) << f"refuse: unavailable, fault{told}"
    )  # fmt: skip

    assert f"{event} fault" in talk.events()
    assert "authn_password_change by_phone" not in talk.events()


def test_silence_does_not_confirm_a_pin():
    """Nothing keyed is not the same once more."""
    talk = (
        changing() >> keys_pin() << "ask new_pin_again (8)" >> keys("") << "ask not_heard, new_pin_again (8)"
    )
    assert talk.call.question.chosen.startswith(SECRET)


@pytest.mark.parametrize("flow", [FLOW, CHANGE])
def test_a_change_that_nobody_asked_for_is_nothing(flow):
    """Late, or of a flow that has it no more."""
    assert Talk(flow) >> pin_changed() << "rest"


# ── transfers ────────────────────────────────────────────────────────────────────────────────────────────

AGENTS, FRAUD = Target("enqueue", "agents"), Target("enqueue", "fraud-line")
BRANCH, ADVISER = Target("number", "+18005550111"), Target("client", "anna")


def test_a_transfer_asks_once_more():
    """Two factors at first contact, one at the hand-over, though the PIN was proved a moment ago."""
    talk = (
        stepped_up()
        >> arrives("/menu") << "forward what came"
        >> cut(AGENTS, whispers=(("x", "link"),)) << "rest"
        >> RESUMES << "ask pin.short, other_factor (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "transfer to enqueue:agents for agent, proved otp,sms,pin,mfa"
    )  # fmt: skip
    move = talk.steps[-1].move

    assert isinstance(move, Transfer)
    assert f"{SECRET} rest" == move.held
    assert (
        move.leg.account,
        move.leg.call,
        move.leg.carriers,
        move.leg.whispers,
    ) == (OWNER, "CA1", ("task",), (("x", "link"),))
    assert (move.leg.id,) == talk.call.legs
    assert talk >> REPLIED << "rest" >> RESUMES << "rest"


def test_a_transfer_from_nothing_asks_each_factor_once():
    """What is proved after the transfer was asked for is fresh."""
    (
        Talk()
        >> arrives("/hours") << "forward what came"
        >> cut(AGENTS) << "rest"
        >> RESUMES << "ask identify (13)"
        >> keys(OWNER) << "ask pin (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code (6), code for agent sent"
        >> keys("333444") << "judge code against the code for agent"
        >> RIGHT << "transfer to enqueue:agents for agent, proved pin,otp,sms,mfa"
    )  # fmt: skip


def test_a_proof_made_in_the_webhook_of_the_transfer_is_not_fresh():
    """The PIN was keyed for the menu; that the menu's document held a transfer came after."""
    (
        identified()
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /menu"
        >> cut(BRANCH) << "rest"
        >> Pause(120) >> RESUMES << "ask pin.short, other_factor (8)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (119.999, "transfer to number:+18005550111 for branch, proved pin"),
        (120, "ask pin.short, other_factor (8)"),
    ],
)
def test_a_proof_younger_than_fresh_is_not_asked_for_again(seconds, expected):
    """Where the flow allows it, to the millisecond."""
    (
        verified()
        >> arrives("/menu") << "forward what came"
        >> cut(BRANCH) << "rest"
        >> Pause(seconds) >> RESUMES << expected
    )  # fmt: skip


def test_every_noun_of_a_transfer_has_its_say():
    """One Dial that rings a branch and an adviser wants what both want; the open one wants nothing."""
    (
        verified()
        >> arrives("/menu") << "forward what came"
        >> cut(BRANCH, FRAUD, ADVISER) << "rest"
        >> Pause(200) >> RESUMES << "ask pin.short, other_factor (8)"
        >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code (6), code for branch sent"
        >> keys("333444") << "judge code against the code for branch"
        >> RIGHT << (
            "transfer to number:+18005550111,enqueue:fraud-line,client:anna for branch, proved pin,otp,sms,mfa"
        )
    )  # fmt: skip


def test_a_transfer_is_left_when_the_caller_goes_elsewhere():
    """Another request takes its place; the way into the transfer leads nowhere then."""
    (
        verified()
        >> arrives("/menu") << "forward what came"
        >> cut(AGENTS) << "rest"
        >> arrives("/menu") << "forward what came"
        >> REPLIED << "rest"
        >> RESUMES << "rest"
    )  # fmt: skip


def test_a_transfer_done_twice_is_the_same_leg():
    """A process died after minting: the delivery comes again, and whoever answers it gives out the same token."""
    talk = (
        verified()
        >> arrives("/menu") << "forward what came"
        >> cut(BRANCH) << "rest"
        >> RESUMES << "transfer to number:+18005550111 for branch, proved pin"
        >> RESUMES_AGAIN << "transfer to number:+18005550111 for branch, proved pin"
    )  # fmt: skip

    assert len(talk.call.legs) == 1
    assert done_anew(talk) == ["", "yes"]


def test_a_token_that_is_first_minted_by_a_retry_is_not_minted_again():
    """A node died before it came to the minting: the retry's is the first one, and the record says so."""
    talk = (
        verified()
        >> arrives("/branch") << "forward what came"
        >> cut(BRANCH) << "rest"
        >> RESUMES_AGAIN << "transfer to number:+18005550111 for branch, proved pin"
    )  # fmt: skip

    assert done_anew(talk) == [""]


def test_a_request_granted_anew_is_on_record_as_that():
    """The answer was lost behind the grant: the IVR is asked again, and the record tells one decision from two."""
    talk = verified() >> arrives("/menu") << "forward what came" >> RESUMES_AGAIN << "forward what came"

    assert done_anew(talk)[-2:] == ["", "yes"]


# ── an IVR that knows better ─────────────────────────────────────────────────────────────────────────────


def test_an_ivr_may_ask_for_more():
    """The request is repeated once the level that it named is held (RFC 9470)."""
    (
        verified()
        >> arrives("/menu") << "forward what came"
        >> more("gold", "two_factor", "one_factor") << "ask sms_code (6), code for nothing sent"
        >> keys("333444") << "judge code against the code for nothing"
        >> RIGHT << "forward again"
        >> REPLIED << "rest"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "forward again"), (299, "forward again"), (300, "ask pin.short, other_factor (8)")],
)
def test_an_ivr_may_ask_for_a_younger_proof(seconds, expected):
    """`max_age`: what is older is made anew, and then the request is repeated."""
    talk = (
        verified()
        >> Pause(seconds) >> arrives("/menu") << "forward what came"
        >> more("one_factor", max_age_s=300) << expected
    )  # fmt: skip
    if expected != "forward again":
        assert talk >> keys("11112222") << "judge pin" >> RIGHT << "forward again"


def test_a_proof_made_for_the_request_is_young_enough_for_it():
    """`max_age=0` wants a proof made for this very request: the one that was just keyed is."""
    (
        identified()
        >> keys("11112222") << "judge pin"
        >> RIGHT << "forward /menu"
        >> more("one_factor", max_age_s=0) << "forward again"
    )  # fmt: skip


def test_an_ivr_that_asks_for_more_loses_nothing_that_the_flow_wants():
    """The rule's own demands stay: a lower level named by the IVR opens nothing."""
    (
        stepped_up()
        >> Pause(200) >> arrives("/wire/new") << "forward what came for wire"
        >> more("one_factor", max_age_s=100) << "ask pin.short, other_factor (8)"
        >> Pause(101) >> keys("11112222") << "judge pin"
        >> RIGHT << "ask sms_code, other_factor (6), code for wire sent"
    )  # fmt: skip


def test_an_ivr_that_names_no_level_of_ours_is_out_of_order():
    """The caller hears an apology; the record names the reason."""
    (
        verified()
        >> arrives("/menu") << "forward what came"
        >> more("gold") << "refuse: unavailable, acr_unknown"
    )  # fmt: skip


def test_an_ivr_that_asks_for_ever_is_stopped():
    """Twice for one request; another request may ask again."""
    talk = verified() >> arrives("/menu") << "forward what came"
    for _ in range(IVR_CHALLENGES_MAX):
        talk = talk >> more("one_factor") << "forward again"
    talk >> more("one_factor") << "refuse: unavailable, acr_loop"

    talk = verified() >> arrives("/menu") << "forward what came" >> more("one_factor") << "forward again"
    talk >> arrives("/menu") << "forward what came" >> more("one_factor") << "forward again"
    talk >> more("one_factor") << "forward again"


def test_more_than_anything_pending_is_asked_for_by_itself():
    """Out of order, and still nothing goes out before the level is held."""
    verified() >> more("two_factor") << "ask sms_code (6), code for nothing sent"


@pytest.mark.parametrize("event", [RESUMES, keys("11112222"), RIGHT, BUSY, REPLIED, undelivered("pin")])
def test_what_nobody_waits_for_is_nothing(event):
    """A call that has just begun, and one whose request is done."""
    Talk() >> event << "rest"
    verified() >> event << "rest"


def test_a_code_that_could_not_be_sent_leaves_no_question():
    """Even when nothing waits for its answer."""
    talk = (
        verified()
        >> arrives("/wire/new") << "ask sms_code (6), code for wire sent"
        >> REPLIED << "rest"
        >> undelivered("code") << "rest"
    )  # fmt: skip

    assert talk >> keys("333444") << "rest"


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────

UP, GRANTED = "authz_step_up {} path={}", "authz_granted request path={}"
ATTEMPT, RIGHTLY = (
    "authn_attempt counted factor={0} lane=pool",
    "authn_login_success right factor={0} lane=pool",
)
WRONGLY = "authn_login_fail wrong factor={0} lane=pool"
SENT = "authn_code_sent {0} factor=code via=messages intent={1}"
CLAIMED = "account_claimed known lane=pool"
ENTERED = [UP.format("identify", "/menu"), CLAIMED]
VERIFIED = [*ENTERED, ATTEMPT.format("pin"), RIGHTLY.format("pin"), GRANTED.format("/menu")]


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        pytest.param(lambda: Talk() >> arrives("/hours"), [GRANTED.format("/hours")], id="anyone"),
        pytest.param(identified, ENTERED, id="identified"),
        pytest.param(
            lambda: identified(account=NOBODY),
            [ENTERED[0], "account_claimed unknown lane=pool"],
            id="unknown",
        ),
        pytest.param(verified, VERIFIED, id="verified"),
        pytest.param(
            lambda: verified() >> arrives("/wire/a"),
            [*VERIFIED, UP.format("code", "/wire/a"), SENT.format("new", "wire")],
            id="stepping up",
        ),
        pytest.param(
            lambda: guess(identified()),
            [*ENTERED, ATTEMPT.format("pin"), WRONGLY.format("pin")],
            id="wrong",
        ),
        pytest.param(
            lambda: identified() >> keys("1"),
            ENTERED,
            id="mistyped: nothing is decided",
        ),
        pytest.param(
            lambda: identified() >> keys("") << "ask not_heard, pin.short, other_factor (8)" >> keys("*"),
            ENTERED,
            id="silence and star: nothing is decided",
        ),
        pytest.param(
            lambda: guess(guess(identified())),
            [*ENTERED, *[ATTEMPT.format("pin"), WRONGLY.format("pin")] * 2],
            id="wrong twice",
        ),
        pytest.param(
            lambda: guess(identified(locked().again()), allowed=False),
            [
                *ENTERED,
                "authn_attempt locked factor=pin lane=pool",
                "authn_login_fail locked factor=pin lane=pool",
            ],
            id="locked",
        ),
        pytest.param(
            lambda: identified() >> keys("11112222") << "judge pin" >> FAULT,
            [
                *ENTERED,
                ATTEMPT.format("pin"),
                "authn_attempt_withdrawn fault factor=pin",
                "authz_fail fault path=/menu",
            ],
            id="fault",
        ),
        pytest.param(
            lambda: identified() >> keys("11112222") << "judge pin" >> BUSY,
            [*ENTERED, ATTEMPT.format("pin"), "authn_attempt_withdrawn busy factor=pin"],
            id="busy",
        ),
        pytest.param(
            lambda: verified() >> arrives("/wire/a") << "ask sms_code (6), code for wire sent" >> keys("1"),
            [
                *VERIFIED,
                UP.format("code", "/wire/a"),
                SENT.format("new", "wire"),
                SENT.format("again", "wire"),
            ],
            id="another code",
        ),
        pytest.param(
            lambda: identified(account=NOBODY, path="/limits"),
            [
                UP.format("identify", "/limits"),
                "account_claimed unknown lane=pool",
                SENT.format("for_show", "limits"),
            ],
            id="a code for nobody",
        ),
        pytest.param(
            lambda: (
                verified()
                >> arrives("/wire/a")
                << "ask sms_code (6), code for wire sent"
                >> keys("333444")
                << "judge code against the code for wire"
                >> WRONG
            ),
            [
                *VERIFIED,
                UP.format("code", "/wire/a"),
                SENT.format("new", "wire"),
                ATTEMPT.format("code"),
                WRONGLY.format("code"),
                "owner_notified sms_warning factor=code",
            ],
            id="right first, wrong second",
        ),
        pytest.param(
            lambda: verified() >> more("two_factor"),
            [*VERIFIED, "authz_step_up code", "authn_code_sent new factor=code via=messages"],
            id="the IVR asks for more",
        ),
        pytest.param(
            lambda: verified() >> more("gold"),
            [*VERIFIED, "authz_fail acr_unknown"],
            id="refused with nothing pending",
        ),
        pytest.param(
            lambda: verified() >> arrives("/menu") << "forward what came" >> cut(BRANCH) << "rest" >> RESUMES,
            [
                *VERIFIED,
                GRANTED.format("/menu"),
                "authn_token_created transfer intent=branch queues=number:+18005550111",
            ],
            id="transfer",
        ),
        pytest.param(
            lambda: (
                verified()
                >> arrives("/menu")
                << "forward what came"
                >> cut(BRANCH)
                << "rest"
                >> Pause(120)
                >> RESUMES
            ),
            [*VERIFIED, GRANTED.format("/menu"), "authz_step_up pin queues=number:+18005550111"],
            id="transfer that asks",
        ),
    ],
)
def test_each_decision_leaves_its_entry(play, expected):
    """What was decided, why, and about what: in OWASP's words, without a secret."""
    assert expected == play().events()


@pytest.mark.parametrize(
    ("failures", "lifetime", "number", "expected"),
    [
        (1, 0, 9, ["authn_login_lock maxretries factor=pin lane=pool until_ms=1700001800000"]),
        (9, 1, 9, ["authn_login_lock lifetime factor=pin lane=pool"]),
        (9, 0, 1, ["authn_login_lock maxretries factor=pin lane=caller_number until_ms=1700003600000"]),
        (9, 0, 9, []),
    ],
)
def test_a_lock_is_on_record_with_its_end(failures, lifetime, number, expected):
    """The account's, the factor's for good, the caller number's."""
    account = lockout.Rule(failures, 3600, (1800,), lifetime)
    locks = replace(FLOW.locks, account=account, caller_number=lockout.Rule(number, 3600, (3600,)))
    talk = guess(identified(Talk(replace(FLOW, locks=locks))))

    assert expected == [line for line in talk.events() if line.startswith("authn_login_lock")]


def test_one_lock_is_one_entry():
    """Four guesses at once fill the ledger; each is found wrong when it is full, and one of them tells."""
    talks = [Talk(call=a_call(sid=f"CA{number}")) for number in range(4)]
    books = Books()
    for talk in talks:
        identified(talk)
        talk.books = books
        talk >> keys("11112223") << "judge pin"
        books = talk.books
    for talk in talks:
        talk.books = books
        talk >> WRONG << "ask again, pin.short, other_factor (8)"

    assert sum(entry.event == "authn_login_lock" for talk in talks for entry in talk.record) == 1


def test_what_is_sealed_does_not_show():
    """Neither what waits, nor what was answered, nor what names a code (promise 5)."""
    sent = Sent(SECRET, "code", "wire", NOON, 600)
    last = calls.Last("fingerprint", NOON, "node", SECRET)
    pending = calls.Pending(calls.What.REQUEST, (), SECRET)
    question = Question("n", "pin", held=SECRET)
    call = replace(
        a_call(), sent=(sent,), last=last, pending=pending, question=question, cookies=SECRET, account=OWNER
    )
    events = (Arrived(visit(), SECRET, "n"), Waits(SECRET, "n"), AskedForMore((), None, SECRET, "n"))
    moves = (Ask(question, (), 6, sent), Judge("code", allowed=True, sent=sent), Forward(SECRET))

    assert SECRET not in repr((call, events, moves))


# ── any events in any order: the machine ─────────────────────────────────────────────────────────────────

WAYS: Mapping[str, tuple[frozenset[str], ...]] = {
    "one_factor": (frozenset({"pin"}), frozenset({"code"}), frozenset({"app"})),
    "two_factor": (frozenset({"pin", "code"}), frozenset({"pin", "app"})),
    "message": (frozenset({"code"}),),
    "token": (frozenset({"app"}),),
}
"""The levels of FLOW, written out: each set of factors that is enough."""


@dataclass(frozen=True)
class Want:
    """What must hold, as the oracle has it. `again`: a level to be proved since turn `since`, or within `fresh_s`."""

    level: str
    within_s: int | None = None
    again: str | None = None
    since: int = 0
    fresh_s: int = 0


PATHS: Mapping[str, tuple[Want, ...]] = {
    "/hours": (),
    "/menu": (Want("one_factor"),),
    "/wire/x": (Want("two_factor", within_s=300),),
    "/limits": (Want("message"),),
    "/token": (Want("token"),),
}
INTENTS = {"/wire/x": "wire", "/limits": "limits"}
TARGETS: Mapping[Target, Want] = {
    AGENTS: Want("two_factor", again="one_factor"),
    BRANCH: Want("one_factor", again="one_factor", fresh_s=120),
    ADVISER: Want("message"),
}
TIGHT = replace(
    FLOW,
    locks=replace(
        FLOW.locks,
        account=lockout.Rule(failures=2, within_s=100, lock_s=(150, 400), lifetime=6),
        caller_number=lockout.Rule(failures=3, within_s=100, lock_s=(130,)),
    ),
    tries=4,
)
CALLERS = (
    (PHONE, True),
    (Address(AddressKind.PHONE, "+14155550199"), False),
)
"""Who calls, and whether a carrier vouches for the number."""


@dataclass
class Line:
    """One call: what it is, and all that the oracle knows of it."""

    call: Call
    account: str = ""
    lane: str = "pool"
    asked: str | None = None
    asked_nonce: str = ""
    judging: tuple[str, bool, str] | None = None
    proofs: dict[str, tuple[int, int]] = field(default_factory=dict)
    kind: str = ""
    wants: tuple[Want, ...] = ()
    held: str = ""
    queues: tuple[str, ...] = ()
    intent: str = ""
    codes: int = 0


@dataclass
class Tries:
    """The guesses judged against one ledger that nothing has forgiven, by id and time."""

    rule: lockout.Rule
    standing: list[tuple[str, int]] = field(default_factory=list)
    in_a_row: int = 0

    def judged(self, attempt: str, now_ms: int) -> None:
        """A guess is judged: the same one again is the same."""
        if attempt in [name for name, _ in self.standing]:
            return
        self.standing.append((attempt, now_ms))
        self.in_a_row += 1
        times = [at for _, at in self.standing[-self.rule.failures - 1 :]]
        if len(times) > self.rule.failures:
            waited = max(after - before for before, after in pairwise(times))
            window = times[-2] - times[0]
            assert waited >= min(self.rule.lock_s) * 1000 or window >= self.rule.within_s * 1000, times
        assert not self.rule.lifetime or self.in_a_row <= self.rule.lifetime

    def forgiven(self, attempt: str, *, alone: bool) -> None:
        """It was right, and all before it are forgiven; or it alone was no failure."""
        names = [name for name, _ in self.standing]
        if attempt in names:
            at = names.index(attempt)
            self.standing = self.standing[:at] * alone + self.standing[at + 1 :]
            self.in_a_row = self.in_a_row - 1 if alone else len(self.standing)


LINES = st.integers(0, len(CALLERS) - 1)
VERDICT_WORDS = ("right", "wrong", "busy", "fault", "right, with an old step")
VERDICTS = st.lists(
    st.sampled_from(("right", "right", "wrong", "later", *VERDICT_WORDS)), min_size=1, max_size=4
)
"""What becomes of each answer of a caller; `later`: nobody has judged it when the next thing happens."""


ANSWERS = (Keyed.NOTHING, Keyed.REPEAT, Keyed.FITTING, Keyed.MISFIT)


class AnyCalls(RuleBasedStateMachine):
    """
    Two callers and two accounts, with every event at any time, and now and then a caller who does as he is asked.

    The oracle keeps what was asked, judged, found right and wanted; from that alone it says whether a request
    or a transfer may go out, and how many guesses may be judged.
    """

    def __init__(self):
        super().__init__()
        self.now_ms = NOON
        self.nonces = 0
        self.lines = [self.line(caller, attested=attested) for caller, attested in CALLERS]
        self.ledgers: dict[str, Ledger] = {}
        self.sends: dict[str, tuple[int, ...]] = {}
        self.spent: dict[str, int] = {}
        self.trust: set[tuple[str, str]] = set()
        self.tries: dict[str, Tries] = {}
        self.really_sent: dict[tuple[str, str], list[int]] = {}
        self.steps_used: dict[str, int] = {}

    def nonce(self) -> str:
        self.nonces += 1
        return f"n{self.nonces}"

    def line(self, caller: Address, *, attested: bool) -> Line:
        return Line(a_call(TIGHT, caller, attested=attested, sid=f"CA{self.nonce()}"))

    def found(self, line: Line, account: str) -> Found:
        return replace(FOUND[account], trusted=(account, line.call.caller.value) in self.trust)

    def play(self, line: Line, event: Event, *, delivery: bool) -> Step:
        """One step, with the books of the account that the call then speaks for; and what the oracle makes of it."""
        if delivery:
            line.call = admission.remember(line.call, self.nonce(), None, "node", self.now_ms)
        before = line.call
        if isinstance(event, Answered) and event.found is not None:
            before = calls.claim(TIGHT, before, event.found)
        name = before.account
        books = Books(
            dict(self.ledgers),
            dict(self.sends),
            self.spent.get(name, -1),
            tuple(lockout.Trusted(number, self.now_ms) for whose, number in self.trust if whose == name),
        )
        step = steps.step(TIGHT, line.call, books, event, self.now_ms)
        assert SECRET not in repr((step, event))
        line.call, self.ledgers = step.call, dict(step.books.ledgers)
        self.sends, self.spent[name] = dict(step.books.sends), step.books.spent
        if lockout.trusts(step.books.trusted, before.caller.value, self.now_ms):
            self.trust.add((name, before.caller.value))
        self.believe(line, event)
        self.check(line, step)
        return step

    # what the oracle makes of an event

    def believe(self, line: Line, event: Event) -> None:
        match event:
            case Arrived(visit_, held):
                line.kind, line.wants, line.held = "request", PATHS[visit_.path], held
                line.intent, line.queues = INTENTS.get(visit_.path, ""), ()
                line.asked = line.judging = None
            case Replied(None):
                line.kind = line.intent = ""
            case Replied(Cut(_, held, queues)):
                every = [TARGETS[target] for target in TARGETS if str(target) in queues]
                line.wants = tuple(replace(want, since=line.call.turn + 1) for want in every)
                line.kind, line.held, line.queues, line.intent = "transfer", held, queues, "?"
            case AskedForMore((level,), max_age_s, held) if level in WAYS:
                since = line.call.turn
                wants = line.wants if line.kind else ()
                line.wants = tuple(replace(want, since=since) for want in wants)
                again = level if max_age_s is not None else None
                line.wants += (Want(level, again=again, since=since, fresh_s=max_age_s or 0),)
                line.intent = line.intent if line.kind else ""
                line.kind, line.held = "request", held
            case Answered(Keyed.FITTING, _, found) if line.asked == "" and found is not None:
                line.account, line.proofs = found.account, {}
                trusted = found.trusted and line.call.attested
                line.lane = line.call.caller.value if trusted and line.call.caller != ANONYMOUS else "pool"
            case Judged(right, _, step) if line.judging is not None:
                self.verdict(line, line.judging, right, step)
                line.judging = None
            case Waits() if line.judging is not None:
                self.take_back(line, line.judging)
                line.judging = None
            case Undelivered():
                line.asked = line.judging = None
            case _:
                pass

    def verdict(
        self, line: Line, judging: tuple[str, bool, str], right: bool | None, step: int | None
    ) -> None:
        factor, allowed, attempt = judging
        if right is None:
            self.take_back(line, judging)
        if not right or not allowed:
            return
        if step is not None:
            if step <= self.steps_used.get(line.account, -1):
                return
            self.steps_used[line.account] = step
        line.proofs[factor] = (self.now_ms, line.call.turn)
        self.tries[f"{line.account} {factor} {line.lane}"].forgiven(attempt, alone=False)
        if line.call.caller.value in self.tries:
            self.tries[line.call.caller.value].forgiven(attempt, alone=True)

    def take_back(self, line: Line, judging: tuple[str, bool, str]) -> None:
        for name in (f"{line.account} {judging[0]} {line.lane}", line.call.caller.value):
            if judging[1] and name in self.tries:
                self.tries[name].forgiven(judging[2], alone=True)

    # what must hold of a move

    def check(self, line: Line, step: Step) -> None:
        call = step.call
        assert (line.account, line.lane) == (call.account, call.lane)
        assert {(one.factor, one.at_ms, one.turn) for one in call.proofs} <= {
            (factor, *when) for factor, when in line.proofs.items()
        }
        match step.move:
            case Forward(held):
                assert line.kind == "request"
                assert held in {"", line.held}
                assert all(self.holds(line, want) for want in line.wants), (line.wants, line.proofs)
            case Transfer(held, leg):
                assert (line.kind, line.held, line.queues) == ("transfer", held, leg.queues)
                assert (line.account, call.sid) == (leg.account, leg.call)
                assert line.wants
                assert all(self.holds(line, want) for want in line.wants), (line.wants, line.proofs)
            case Judge(factor, allowed, sent):
                assert factor == line.asked
                attempt = f"{line.asked_nonce}/{line.call.turn}"
                line.judging = (factor, allowed, attempt)
                if allowed:
                    self.count(line, factor, attempt)
                if sent is not None:
                    assert self.now_ms < sent.at_ms + 600_000
                    assert line.intent in {sent.intent, "?"}
            case Ask(question, _, _, send, for_real):
                assert line.account or not question.factor
                line.asked, line.asked_nonce, line.judging = question.factor, question.nonce, None
                self.send(line, send, for_real=for_real)
            case Hold(question):
                line.asked_nonce = question.nonce
            case Refuse():
                line.kind, line.asked, line.judging = "", None, None
            case Rest():
                pass
        if isinstance(step.move, Forward | Transfer):
            assert call.question is None
            line.asked = line.judging = None

    def holds(self, line: Line, want: Want) -> bool:
        proofs = {name: (self.now_ms - at, turn) for name, (at, turn) in line.proofs.items()}
        young = {name for name, (age, _) in proofs.items() if age <= (want.within_s or 10**9) * 1000}
        fresh = {
            name for name, (age, turn) in proofs.items() if turn >= want.since or age < want.fresh_s * 1000
        }
        again = WAYS[want.again] if want.again else (frozenset[str](),)
        return any(way <= young for way in WAYS[want.level]) and any(way <= fresh for way in again)

    def count(self, line: Line, factor: str, attempt: str) -> None:
        own = f"{line.account} {factor} {line.lane}"
        self.tries.setdefault(own, Tries(TIGHT.locks.account)).judged(attempt, self.now_ms)
        if line.lane == "pool" and line.call.caller != ANONYMOUS:
            number = self.tries.setdefault(line.call.caller.value, Tries(TIGHT.locks.caller_number))
            number.judged(attempt, self.now_ms)

    def send(self, line: Line, send: Sent | None, *, for_real: bool) -> None:
        if send is None:
            return
        line.codes += 1
        assert line.codes <= 2
        assert not for_real or FOUND[line.account].known
        lately = self.really_sent.setdefault((line.account, line.lane), [])
        lately.append(self.now_ms)
        assert sum(at > self.now_ms - 3_600_000 for at in lately) <= 5

    # what happens

    @rule(seconds=st.sampled_from((0.001, 99, 100, 120, 149, 150, 299, 300, 301, 400, 600, 3600)))
    def time_passes(self, seconds):
        self.now_ms += round(seconds * 1000)

    @rule(number=LINES, path=st.sampled_from(sorted(PATHS)))
    def arrived(self, number, path):
        event = Arrived(visit(path), f"{SECRET} {path}", self.nonce())
        self.play(self.lines[number], event, delivery=True)

    @rule(number=LINES, verdicts=VERDICTS, account=st.sampled_from((OWNER, NOBODY)))
    def answered(self, number, verdicts, account):
        """Does as he is asked: names an account, keys what fits; and something comes of it, or nothing yet."""
        line = self.lines[number]
        for verdict in verdicts:
            question = line.call.question
            if question is None:
                return
            found = self.found(line, account) if not question.factor else None
            step = self.play(line, Answered(Keyed.FITTING, self.nonce(), found), delivery=True)
            if isinstance(step.move, Judge) and verdict != "later":
                self.judged(line, verdict)

    @rule(
        number=LINES,
        path=st.sampled_from(sorted(PATHS)),
        verdicts=VERDICTS,
        account=st.sampled_from((OWNER, NOBODY)),
    )
    def calls_anew(self, number, path, verdicts, account):
        """Hangs up and calls again."""
        call = self.lines[number].call
        self.lines[number] = self.line(call.caller, attested=call.attested)
        self.arrived(number, path)
        self.answered(number, ["named", *verdicts], account)

    @rule(number=LINES, wanted=st.lists(st.sampled_from(sorted(TARGETS, key=str)), max_size=2, unique=True))
    def replied(self, number, wanted):
        """The IVR's document goes out; the caller's leg comes to the transfer in it, if there is one."""
        line, cut_ = self.lines[number], None
        if wanted:
            demands = tuple(
                decide(TIGHT.rules, TIGHT.default, visit(transfer=target))[0] for target in wanted
            )
            queues = tuple(map(str, wanted))
            cut_ = Cut(demands, f"{SECRET} rest {self.nonce()}", queues, ("task",), (), self.nonce())
        self.play(line, Replied(cut_), delivery=False)
        self.play(line, Resumed(self.nonce()), delivery=True)

    @rule(number=LINES, level=st.sampled_from((*WAYS, "gold")), max_age_s=st.sampled_from((None, 0, 100)))
    def asked_for_more(self, number, level, max_age_s):
        held = f"{SECRET} again {self.nonce()}"
        self.play(self.lines[number], AskedForMore((level,), max_age_s, held, self.nonce()), delivery=False)

    @rule(
        number=LINES,
        what=st.sampled_from(
            (
                *ANSWERS,
                "no answer",
                "answered again",
                "resumed",
                "code not sent",
                "app not sent",
                *VERDICT_WORDS,
            ),
        ),
    )
    def out_of_order(self, number, what):
        """What nobody asked for, or not now."""
        line = self.lines[number]
        question = line.call.question
        match what:
            case "no answer":
                for keyed in (Keyed.LANGUAGE, Keyed.ANOTHER_CODE, Keyed.OTHER_FACTOR):
                    self.play(line, Answered(keyed, self.nonce()), delivery=True)
            case Keyed():
                asked = what is Keyed.FITTING and question is not None and not question.factor
                found = self.found(line, OWNER) if asked else None
                self.play(line, Answered(what, self.nonce(), found), delivery=True)
            case "answered again" if question is not None and question.factor:
                self.play(line, Answered(Keyed.FITTING, self.nonce()), delivery=False)
            case "answered again" | "resumed":
                self.play(line, Resumed(self.nonce()), delivery=False)
            case "code not sent" | "app not sent":
                self.play(line, Undelivered(what.partition(" ")[0], self.nonce()), delivery=False)
            case _:
                self.judged(line, what)

    def judged(self, line, verdict):
        used = self.steps_used.get(line.account, 0)
        question = line.call.question
        step = {"right": used + 1, "right, with an old step": used}.get(verdict)
        if question is None or question.factor != "app":
            step = None
        event = {
            "busy": Waits(f"{SECRET} digits", self.nonce()),
            "fault": Judged(None, self.nonce()),
            "wrong": Judged(False, self.nonce()),
        }.get(verdict, Judged(True, self.nonce(), step))
        self.play(line, event, delivery=False)


AnyCalls.TestCase.settings = settings(stateful_step_count=40)
test_any_events_in_any_order = AnyCalls.TestCase


# ── planted faults: something must turn red ──────────────────────────────────────────────────────────────

MISSING, RESERVE, SETTLE, CONCERNED = demands.missing, steps.reserve, steps.settle, calls.concerned
CLAIM, ASK, JUDGED, ANSWERED, REPLY = calls.claim, steps._ask, steps._judged, steps._answered, steps._replied


def within_ignored(flow, call, demand, since_turn, now_ms):
    return MISSING(flow, call, replace(demand, within_s=None), since_turn, now_ms)


def reverify_ignored(flow, call, demand, since_turn, now_ms):
    return MISSING(flow, call, replace(demand, reverify=None), since_turn, now_ms)


def old_proofs_fresh(flow, call, demand, since_turn, now_ms):
    return MISSING(flow, call, demand, 0, now_ms)


def nothing_counted(flow, call, books, factor, attempt, now_ms):
    return books, RESERVE(flow, call, books, factor, attempt, now_ms)[1]


def locked_judged_anyway(flow, call, books, factor, attempt, now_ms):
    return RESERVE(flow, call, books, factor, attempt, now_ms)[0], True


def counted_per_question(flow, call, books, factor, attempt, now_ms):
    return RESERVE(flow, call, books, factor, attempt.partition("/")[0], now_ms)


def number_not_counted(flow, call, factor):
    return CONCERNED(flow, call, factor)[:1]


def number_forgiven(flow, call, books, factor, attempt, *, right):
    after = SETTLE(flow, call, books, factor, attempt, right=right)
    number = f"number/{call.caller.value}"
    return replace(after, ledgers={name: kept for name, kept in after.ledgers.items() if name != number})


def busy_forgives(flow, call, books, factor, attempt, *, right):
    return SETTLE(flow, call, books, factor, attempt, right=True)


def trust_without_attestation(flow, call, found):
    return replace(CLAIM(flow, replace(call, attested=True), found), attested=call.attested)


def proofs_kept_at_a_claim(flow, call, found):
    return replace(CLAIM(flow, call, found), proofs=call.proofs)


def sends_without_end(flow, call, books, *rest, **named):
    return ASK(flow, replace(call, codes_sent=0), replace(books, sends={}), *rest, **named)


def steps_used_again(flow, call, books, event, now_ms):
    return JUDGED(flow, call, replace(books, spent=-1), event, now_ms)


def any_verdict_taken(flow, call, books, event, now_ms):
    if call.question is not None and call.question.factor and not call.question.counted:
        call = replace(call, question=replace(call.question, counted="made up"))
    return JUDGED(flow, call, books, event, now_ms)


def lock_forgotten_by_the_verdict(flow, call, books, event, now_ms):
    return JUDGED(flow, replace(call, locked_out=False), books, event, now_ms)


def code_for_any_intent(call, factor, now_ms):
    return next((sent for sent in reversed(call.sent) if sent.factor == factor), None)


def fresh_from_the_same_turn(call, books, cut_):
    step = REPLY(call, books, cut_)
    pending = step.call.pending
    return (
        step
        if pending is None
        else replace(step, call=replace(step.call, pending=replace(pending, since_turn=0)))
    )


def enrolment_shows(flow, call, demand, since_turn, now_ms):
    unproved = Proof("none", Kind.PIN, now_ms, 0)
    return MISSING(flow, replace(call, proofs=call.proofs or (unproved,)), demand, since_turn, now_ms)


def plant(monkeypatch, name: str, fault: Callable[..., object]) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission):
        if hasattr(module, name) or name in dir(builtins):
            monkeypatch.setattr(module, name, fault, raising=False)


FAULTS: list[tuple[str, Callable[..., object]]] = [
    ("missing", within_ignored),
    ("missing", reverify_ignored),
    ("missing", old_proofs_fresh),
    ("reserve", nothing_counted),
    ("reserve", locked_judged_anyway),
    ("reserve", counted_per_question),
    ("concerned", number_not_counted),
    ("settle", number_forgiven),
    ("claim", trust_without_attestation),
    ("_ask", sends_without_end),
    ("_judged", steps_used_again),
    ("_judged", any_verdict_taken),
    ("_judged", lock_forgotten_by_the_verdict),
    ("_replied", fresh_from_the_same_turn),
    ("all", any),
]

HUNT = settings(
    max_examples=2_000,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
"""Without shrinking: that something is found is all that is asked."""


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_the_machine_finds_each_planted_fault(monkeypatch, name, fault):
    """A machine that finds nothing may be weak: this one turns red for each rule taken out or bent."""
    plant(monkeypatch, name, fault)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(AnyCalls, settings=HUNT)


@pytest.mark.parametrize(
    ("name", "fault", "conversation"),
    [
        ("claim", proofs_kept_at_a_claim, test_speaking_for_another_account_drops_what_the_first_one_proved),
        ("current_code", code_for_any_intent, test_a_code_is_bound_to_its_intent),
        ("settle", number_forgiven, test_a_right_answer_does_not_forgive_a_number_its_wrong_ones),
        ("settle", busy_forgives, test_an_answer_to_a_question_that_waits_is_not_counted),
        ("_judged", steps_used_again, test_a_step_of_an_authenticator_app_is_used_once),
        ("missing", reverify_ignored, test_a_transfer_asks_once_more),
        ("missing", enrolment_shows, test_unknown_known_and_locked_accounts_hear_the_same),
    ],
)
def test_a_conversation_finds_each_planted_fault(monkeypatch, name, fault, conversation):
    """The conversations, too, turn red when the rule that they tell of is taken out."""
    plant(monkeypatch, name, fault)

    with pytest.raises(AssertionError):
        conversation()
