"""
Read back, told as tables and conversations: what the agent asks, what he is told, what is counted.

Then the promise as a property: by any mix of keypad and read back, in any number of calls, no more guesses are judged than
the rule allows; and faults planted in the rules turn it red.
"""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivrguard.core import call as calls
from ivrguard.core import lockout, readback, step
from ivrguard.core.assurance import AllOf, AnyOf, Kind, Proof
from ivrguard.core.call import (
    Answered,
    Arrived,
    Books,
    Call,
    Found,
    Judge,
    Judged,
    Keyed,
    Question,
    Sent,
    Told,
)
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.flow import Factor, Flow, Identify, Locks, Sends, Upstream, Via
from ivrguard.core.readback import Asked, Judging, Sending, Typed, Verdict, Why
from ivrguard.core.rules import Demand, Visit

NOON = 1_700_000_000_000
OWNER, NOBODY = "123456", "999999"
FAILURES = 4
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("*",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={
        "code": Factor(Kind.SMS_CODE, 6, sends=Sends(per_call=3, per_account=40, per_number=40)),
        "pin": Factor(Kind.PIN, 8),
        "app": Factor(Kind.TOTP, 6),
    },
    levels={
        "one_factor": AnyOf(("code", "pin", "app")),
        "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
    },
    rules=(),
    default=Demand("one_factor"),
    locks=Locks(lockout.Rule(FAILURES, 3600, (1800,), lifetime=50), None),
)
EVERY = tuple(FLOW.factors)
FOUND = {
    OWNER: Found(OWNER, known=True, ref="ref-owner", enrolled=EVERY, to="to-owner", to_prefix="+1"),
    NOBODY: Found(NOBODY, known=False, ref="ref-nobody", enrolled=EVERY, to="to-nobody", to_prefix="none"),
}
VERIFY = replace(FLOW, factors={**FLOW.factors, "code": replace(FLOW.factors["code"], via=Via.VERIFY)})
PROOF = Proof("pin", Kind.PIN, NOON, 1)


def a_call(account: str = OWNER, flow: Flow = FLOW, **changes: object) -> Call:
    """A call that speaks for this account ("": for none yet)."""
    phone = Address(AddressKind.PHONE, "+14155550123")
    call = Call("CA1", "AC1", "bank", "v1", phone, "+18005550100", attested=False, began_ms=NOON)
    return replace(calls.claim(flow, call, FOUND[account]) if account else call, **changes)


@dataclass
class Talk:
    """An agent with a caller: what both do, and what is kept."""

    call: Call = field(default_factory=a_call)
    flow: Flow = FLOW
    books: Books = field(default_factory=Books)
    now: int = NOON
    agent: str = "ann"
    entries: list = field(default_factory=list)
    told_owner: list = field(default_factory=list)
    drawn: int = 0

    def kept(self, act):
        self.call, self.books = act.call, act.books
        self.entries += act.entries
        self.told_owner += [act.tell] if act.tell else []
        return act.outcome

    def nonce(self) -> str:
        self.drawn += 1
        return f"{self.agent}-{self.drawn}"

    def ask(self, request: str = "", factor: str = "", intent: str = "wire"):
        asked = Asked(self.agent, request or self.nonce(), self.nonce(), intent, factor)
        return self.kept(readback.ask(self.flow, self.call, self.books, asked, self.now))

    def type(self, request: str = "", digits: int = 6):
        typed = Typed(self.agent, request or self.nonce(), self.nonce(), digits)
        return self.kept(readback.answer(self.flow, self.call, self.books, typed, self.now))

    def judged(self, judging: Judging, right: bool | None, *, request: str = "", out_of_sight: bool = False):
        verdict = Verdict(self.agent, request, judging, right, out_of_sight)
        return self.kept(readback.judged(self.flow, self.call, self.books, verdict, self.now))

    def answers(self, right: bool | None, request: str = "", *, out_of_sight: bool = False):
        """Typed, and judged."""
        request = request or self.nonce()
        judging = self.type(request)
        if not isinstance(judging, Judging):
            return judging
        return self.judged(judging, right, request=request, out_of_sight=out_of_sight)

    def events(self) -> list[str]:
        return [f"{one.event} {one.reason}" for one in self.entries]


# ── a code is asked for ──────────────────────────────────────────────────────────────────────────────────


def test_a_code_is_sent_read_typed_and_right():
    """It is a proof as any other of its kind, made at this turn; who asked stands on record at each step."""
    talk = Talk(a_call(turn=7))

    sending = talk.ask()
    told = talk.answers(right=True, request="r-1")

    assert (sending.for_real, sending.sent.asked_by, sending.sent.intent) == (True, "ann", "wire")
    assert told == Told("r-1", right=True)
    assert talk.call.proofs == (Proof("code", Kind.SMS_CODE, NOON, 7, "wire"),)
    assert talk.events() == [
        "authn_code_sent new",
        "authn_attempt counted",
        "authn_login_success right",
    ]
    assert all(dict(one.detail)["agent"] == "ann" for one in talk.entries)
    assert [ledger.attempts for ledger in talk.books.ledgers.values()] == [()]
    assert not talk.books.trusted, "whoever reads it may be a third one in the call"


@pytest.mark.parametrize(
    ("call", "flow", "factor", "why"),
    [
        (a_call(ended_ms=NOON), FLOW, "", Why.ENDED),
        (a_call(""), FLOW, "", Why.NO_ACCOUNT),
        (a_call(), FLOW, "pin", Why.NOT_BY_VOICE),
        (a_call(), FLOW, "app", Why.NOT_BY_VOICE),
        (a_call(), FLOW, "made up", Why.NOT_BY_VOICE),
        (a_call(), replace(FLOW, factors={"pin": FLOW.factors["pin"]}), "", Why.NOT_BY_VOICE),
        (a_call(proofs=(PROOF,), enrolled=("pin",)), FLOW, "", Why.NOT_ENROLLED),
        (a_call(question=Question("n", "code")), FLOW, "", Why.AT_THE_KEYPAD),
        (a_call(codes_sent=3), FLOW, "", Why.NO_MORE_CODES),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_when_no_code_is_to_be_had(call, flow, factor, why):
    """A PIN is never read to anybody, nor a code of an app; the rest says itself. Nothing changes."""
    talk = Talk(call, flow)

    assert talk.ask(factor=factor) is why
    assert (talk.call, talk.books) == (call, Books())
    assert talk.events() == (["excess_rate_limit_exceeded sends"] if why is Why.NO_MORE_CODES else [])


def test_another_question_at_the_keypad_is_no_hindrance():
    """The caller hears music, or is asked something else: the agent's code goes out all the same."""
    assert Talk(a_call(question=Question("n", "pin"))).ask().for_real


def test_the_same_request_sends_nothing_again():
    """However many others came in between; for another agent it is another request."""
    talk = Talk()
    first = talk.ask("r-1")
    talk.ask("r-2")
    before = talk.call, talk.books

    assert talk.ask("r-1") == Sending() == talk.ask("r-2")
    assert (talk.call, talk.books) == before
    assert talk.call.codes_sent == 2

    talk.agent = "bob"
    again = talk.ask("r-1")
    assert again.sent not in {None, first.sent}
    assert talk.call.read_back.requests == ("r-1",)


@pytest.mark.parametrize("limit", ["number/to-owner/pool", "prefix/+1/claimed"])
def test_a_limit_that_strangers_fill_shows_nothing_until_something_is_proved(limit):
    """Then the agent is told; before, he hears that a code went out, as a caller does."""
    flow = replace(
        FLOW, factors={"code": Factor(Kind.SMS_CODE, 6, sends=Sends(9, 9, per_number=1, per_prefix=1))}
    )
    books = Books(sends={limit: (NOON,), limit.replace("claimed", "proved"): (NOON,)})

    for_show = Talk(a_call(flow=flow), flow, books)
    proved = Talk(a_call(flow=flow, proofs=(PROOF,)), flow, books)

    assert for_show.ask() == Sending(for_show.call.read_back.sent, for_real=False)
    assert for_show.books == books
    assert for_show.events() == ["authn_code_sent for_show"]
    assert proved.ask() is Why.NO_MORE_CODES


@pytest.mark.parametrize("account", FOUND)
def test_unknown_and_locked_accounts_are_asked_like_any_other(account):
    """Law 3: the same outcomes in the same order; nothing goes out, and nothing is right."""
    talk = Talk(a_call(account))
    if account == OWNER:
        full = lockout.Ledger(tuple(lockout.Attempt(str(n), NOON) for n in range(FAILURES)), run=FAILURES)
        talk.books = Books({f"{OWNER}/sms_code/pool": full})

    sending = talk.ask()
    told = talk.answers(right=True, request="r")

    assert (type(sending), sending.for_real) == (Sending, False)
    assert told == Told("r", right=account == NOBODY), "the guard's judge says wrong for an unknown one"
    judging = Talk(a_call(account), books=talk.books)
    judging.ask()
    assert judging.type().judge.allowed is (account == NOBODY)


def test_a_code_that_is_keyed_and_one_that_is_read_are_two():
    """Neither takes the other's place; of Verify's, which knows one a number, the last one is good."""
    keyed = Sent("keyed", "code", "", NOON - 1, 600)
    both, one = Talk(a_call(sent=(keyed,))), Talk(a_call(sent=(keyed,)), VERIFY)

    both.ask()
    one.ask()

    assert both.call.sent == (keyed,)
    assert calls.current_code(both.call, "code", NOON) == keyed
    assert one.call.sent == ()
    later = replace(keyed, at_ms=NOON)
    both.call, one.call = replace(both.call, sent=(later,)), replace(one.call, sent=(later,))
    assert isinstance(both.type(), Judging)
    assert one.type() is Why.NO_CODE


def test_a_code_that_was_not_taken_is_gone():
    """The agent may have another one sent; what was sent meanwhile stays."""
    talk = Talk()
    first, second = talk.ask().sent, None

    outcome = talk.kept(readback.undelivered(talk.call, talk.books, first, "no_number", NOON))

    assert outcome is Why.UNDELIVERABLE
    assert talk.call.read_back.sent is None
    assert talk.events()[-1] == "authn_code_undelivered no_number"
    second = talk.ask().sent
    talk.kept(readback.undelivered(talk.call, talk.books, first, "no_number", NOON))
    assert talk.call.read_back.sent == second
    gone = a_call()
    assert readback.undelivered(gone, Books(), first, "no_number", NOON).call == gone


# ── an answer is typed ───────────────────────────────────────────────────────────────────────────────────


def test_an_answer_needs_a_code_that_lives():
    """None was sent; it was another agent's; it has run out; it was used; the flow has none any more; the call is over."""
    assert Talk().type() is Why.NO_CODE
    assert Talk(a_call(ended_ms=NOON)).type() is Why.ENDED
    talk = Talk()
    talk.ask()
    assert replace(talk, agent="bob").type() is Why.NO_CODE
    assert replace(talk, now=NOON + 600_000).type() is Why.NO_CODE
    assert replace(talk, call=replace(talk.call, ended_ms=NOON)).type() is Why.ENDED
    assert replace(talk, flow=replace(FLOW, factors={})).type() is Why.NO_CODE
    assert talk.type(digits=5) is Why.MISTYPED
    assert talk.books.ledgers == {}, "nothing was a guess so far"
    assert talk.answers(right=True).right
    assert talk.answers(right=True) is Why.NO_CODE


def test_the_same_answer_again_is_told_what_it_was_told():
    """Right or wrong, whatever came after it, also when the call is over; while it is judged, there is nothing to tell."""
    talk = Talk()
    talk.ask()
    judging = talk.type("r-1")
    assert talk.type("r-1") is Why.BEING_JUDGED
    assert talk.judged(judging, False, request="r-1") == Told("r-1", right=False)
    assert talk.answers(True, "r-2") == Told("r-2", right=True)
    talk.ask()
    talk.call = replace(talk.call, ended_ms=NOON)
    before = talk.call, talk.books, len(talk.entries)

    assert [talk.type(f"r-{n}") for n in (1, 2)] == [Told("r-1", right=False), Told("r-2", right=True)]
    assert (talk.call, talk.books, len(talk.entries)) == before


def test_only_the_last_answers_are_remembered():
    """One that is forgotten is a new one, and is counted as one."""
    flow = replace(FLOW, tries=99)
    talk = Talk(flow=flow)
    talk.ask()
    talk.books = Books()
    for number in range(readback.TOLD_MAX + 1):
        talk.answers(False, f"r-{number}")
    assert len(talk.call.read_back.told) == readback.TOLD_MAX
    assert isinstance(talk.type("r-0"), Judging)


def test_wrong_answers_are_counted_and_use_a_code_up():
    """After the flow's tries another code is needed; the fourth locks, is on record, and nothing is judged any more."""
    talk = Talk(a_call(proofs=(PROOF,)))
    talk.ask()
    for _ in range(FLOW.tries):
        assert not talk.answers(right=False).right
    assert talk.answers(right=True) is Why.NO_CODE
    assert talk.told_owner == ["sms_warning"], "the owner is told once"

    talk.ask()
    talk.answers(right=False)
    assert talk.events()[-1] == "authn_login_lock maxretries"
    assert [one.reason for one in talk.entries if one.event == "owner_notified"] == ["sms_warning"]

    assert not talk.answers(right=True).right
    assert talk.events()[-2:] == ["authn_attempt locked", "authn_login_fail locked"]
    assert talk.call.proofs == (PROOF,)


def test_of_two_answers_at_once_one_is_right():
    """A code works once: the other one is a failure, and stays counted."""
    talk = Talk()
    talk.ask()
    first, second = talk.type("r-1"), talk.type("r-2")

    assert talk.judged(first, True, request="r-1").right
    assert talk.judged(second, True, request="r-2") == Told("r-2", right=False)
    assert talk.events()[-1] == "authn_login_fail used"
    assert len(talk.call.proofs) == 1
    (ledger,) = talk.books.ledgers.values()
    assert len(ledger.attempts) == 1


@pytest.mark.parametrize("out_of_sight", [False, True])
def test_a_fault_is_no_verdict(out_of_sight):
    """What was surely not looked at is taken back; the same request may come again, and is counted anew."""
    talk = Talk()
    talk.ask()

    assert talk.answers(None, "r-1", out_of_sight=out_of_sight) is Why.NOT_JUDGED
    (ledger,) = talk.books.ledgers.values()
    assert len(ledger.attempts) == out_of_sight
    event = "authn_attempt_unjudged" if out_of_sight else "authn_attempt_withdrawn"
    assert talk.events()[-1] == f"{event} fault"
    assert talk.answers(True, "r-1").right


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda call: calls.claim(FLOW, call, FOUND[NOBODY]),
        lambda call: replace(call, read_back=replace(call.read_back, agent="bob")),
        lambda call: replace(call, read_back=replace(call.read_back, told=())),
    ],
    ids=["another account", "another agent", "the answer is forgotten"],
)
def test_a_verdict_that_comes_too_late_proves_nothing(meanwhile):
    """The attempt was counted, and stays counted."""
    talk = Talk()
    talk.ask()
    judging = talk.type("r-1")
    talk.call, books = meanwhile(talk.call), talk.books

    assert talk.judged(judging, True, request="r-1") is Why.NO_CODE
    assert (talk.call.proofs, talk.books) == ((), books)


def test_a_proof_for_something_else_stays():
    """A code that was keyed for a wire is not undone by one that is read for something else; one for the same is renewed."""
    wire, other = (Proof("code", Kind.SMS_CODE, NOON - 9_000, 1, intent) for intent in ("wire", "agent"))
    talk = Talk(a_call(proofs=(wire, other)))
    talk.ask(intent="agent")
    talk.answers(right=True)

    assert talk.call.proofs == (wire, replace(other, at_ms=NOON, turn=0))


# ── the promise: no guess beyond the rule ────────────────────────────────────────────────────────────────

WAYS = st.lists(
    st.tuples(
        st.sampled_from(["keypad", "read back", "both at once", "another code"]),
        st.integers(0, 2),
    ),
    min_size=FAILURES,
    max_size=14,
)


def judged_of(ways) -> int:
    """How many wrong guesses are judged, by these ways, in three calls on one account, each with an agent of its own."""
    ledgers: Books = Books()
    talks = [Talk(a_call(), agent=f"agent-{number}") for number in range(3)]
    flow = replace(
        FLOW, tries=99, factors={**FLOW.factors, "code": replace(FLOW.factors["code"], sends=Sends(99, 99))}
    )
    count = 0
    for way, number in ways:
        talk = talks[number]
        talk.flow, talk.books = flow, ledgers
        if way == "keypad":
            count += keyed(talk)
        elif way == "another code":
            talk.ask()
        else:
            requests = ["", ""] if way == "both at once" else [""]
            if (
                not isinstance(talk.type("probe" + talk.nonce(), digits=1), Why)
                or talk.call.read_back is None
            ):
                talk.ask()
            open_ = [(name, talk.type(name)) for name in (talk.nonce() for _ in requests)]
            for name, judging in open_:
                if isinstance(judging, Judging):
                    count += judging.judge.allowed
                    talk.judged(judging, False, request=name)
        ledgers = talk.books
    return count


def keyed(talk: Talk) -> int:
    """A wrong code by keypad, asked for anew; whether it was judged."""
    visit = Visit("/balance", "POST", "+18005550100", 0, 0)
    call = replace(talk.call, turn=talk.call.turn + 1)
    asked = step.step(talk.flow, call, talk.books, Arrived(visit, "held", talk.nonce()), talk.now)
    done = step.step(
        talk.flow,
        replace(asked.call, turn=asked.call.turn + 1),
        asked.books,
        Answered(Keyed.FITTING, talk.nonce()),
        talk.now,
    )
    assert isinstance(done.move, Judge), done.move
    allowed = done.move.allowed
    done = step.step(talk.flow, done.call, done.books, Judged(False, talk.nonce()), talk.now)
    talk.call, talk.books = replace(done.call, question=None, pending=None, asks=0, misses=0), done.books
    return int(allowed)


@settings(max_examples=40)
@given(WAYS)
def test_no_guess_beyond_the_rule_by_any_mix_of_ways(ways):
    """Keypad and read back share one count, whoever asks, in whichever call, however many codes are sent."""
    assert judged_of(ways) <= FAILURES


MOST = [("read back", 0), ("keypad", 1), ("both at once", 2), ("another code", 0)] * 4


def test_the_mix_reaches_the_rule():
    """The property is about something: that many are judged, by both ways."""
    assert judged_of(MOST) == FAILURES


def with_a_count_of_its_own(patch):
    """Read back has a ledger of its own."""
    patch.setattr(readback, "reserve", lambda flow, call, books, *more: (books, True))


def with_the_request_as_the_attempt(patch):
    """The agent's own word for his request is the attempt's id: the same word, as many guesses as he likes."""
    answer = readback.answer
    patch.setattr(
        readback, "answer", lambda f, c, b, typed, now: answer(f, c, b, replace(typed, attempt="r"), now)
    )


def with_wrong_answers_taken_back(patch):
    """A wrong answer gives its place back."""
    judged, settle = readback.judged, readback.settle

    def lenient(flow, call, books, verdict, now):
        back = settle(flow, call, books, verdict.judging.judge.factor, verdict.judging.attempt, right=False)
        return judged(flow, call, back, verdict, now)

    patch.setattr(readback, "judged", lenient)


def with_codes_that_clear_the_count(patch):
    """A new code is a new beginning."""
    ask = readback.ask
    patch.setattr(
        readback, "ask", lambda f, c, b, *more: replace(ask(f, c, b, *more), books=Books(sends=b.sends))
    )


@pytest.mark.parametrize(
    "plant",
    [
        with_a_count_of_its_own,
        with_the_request_as_the_attempt,
        with_wrong_answers_taken_back,
        with_codes_that_clear_the_count,
    ],
    ids=lambda one: one.__name__,
)
def test_more_guesses_are_found(monkeypatch, plant):
    """A rule taken out shows in the mix."""
    plant(monkeypatch)

    assert judged_of(MOST) > FAILURES
