"""
A caller led aside and back, as conversations with `step`; then the promises as a property: asides and keypads in any mix.

`Centre` is the guard's part of it: it does each move and feeds what the world says back, and counts what is judged. The oracle
knows the PIN and the rule, and nothing of how a call is kept. Faults planted in the rules turn it red.
"""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivrguard.core import aside, conference, demands, lockout
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.aside import Denied
from ivrguard.core.assurance import AnyOf, Kind, Proof
from ivrguard.core.call import Books, Call, ComeBack, Judge, Rejoin, Rest
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.conference import Bridge, Ended, Stage
from ivrguard.core.flow import Factor, Flow, Identify, Locks, Upstream
from ivrguard.core.handoff import Leg
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand, Rule, Target, Visit

NOW = 1_790_000_000_000
SID, AGENT = "CA" + "1" * 32, "CA" + "a" * 32
RIGHT, WRONG = "12345678", "90909090"
FAILURES = 5
FLOW = Flow(
    "f",
    "v",
    ("*",),
    Upstream("https://ivr.example/voice"),
    Identify("account_number", 6, 12),
    {"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6), "app": Factor(Kind.TOTP, 6)},
    {"one": AnyOf(("pin", "app")), "pin": "pin"},
    (
        Rule(Demand("one", intent="agent", bridge=True), transfer=Target("number", "*")),
        Rule(Demand("pin", within_s=60), path="/wire"),
    ),
    Demand("one"),
    Locks(Lockout(FAILURES, 3600, (1800,), 100), None),
)
LEG = Leg(
    "leg", SID, "123456", ("number:+1",), ("whisper",), "agent", ("one",), ("pin",), NOW, NOW, NOW + 600_000
)


def talking(**more: object) -> Call:
    """A call whose caller proved his PIN and talks to his agent."""
    bridge = Bridge("leg", "exit", "sealed", Stage.TALKING, NOW, AGENT, answered_ms=NOW)
    call = Call(SID, "AC", "f", "v", Address(AddressKind.PHONE, "+15551230001"), "+1800", False, NOW)
    proved = (Proof("pin", Kind.PIN, NOW, 2, ""),)
    call = replace(
        call, account="123456", known=True, enrolled=("pin", "app"), proofs=proved, turn=4, bridge=bridge
    )
    return replace(call, **more)


@dataclass
class Centre:
    """One call, and what the guard would do with each move. `judged`: the digits that were looked at, `rejoined`, `forwarded`: how often."""

    call: Call = field(default_factory=talking)
    books: Books = field(default_factory=Books)
    now: int = NOW + 60_000
    judged: list[str] = field(default_factory=list)
    rejoined: int = 0
    came_back: int = 0
    forwarded: int = 0
    drawn: int = 0
    entries: list = field(default_factory=list)

    def nonce(self) -> str:
        self.drawn += 1
        return f"n{self.drawn}"

    def presses(self, factor: str = "") -> Denied | None:
        begun = aside.begin(FLOW, self.call, LEG, factor, self.nonce(), self.now)
        if isinstance(begun, Denied):
            return begun
        self.call = begun
        return None

    def comes(self) -> None:
        """The caller's leg comes where it was led."""
        self.call = replace(self.call, turn=self.call.turn + 1)
        event = calls.Resumed(self.nonce()) if self.call.pending is not None else calls.Strayed()
        self.turn(event)

    def keys(self, digits: str) -> None:
        self.call = replace(self.call, turn=self.call.turn + 1)
        looks = calls.keyed(FLOW, self.call, digits)
        self.turn(calls.Answered(looks, self.nonce()), digits)

    def asks_for(self, path: str) -> None:
        """The IVR is asked for something, as far as the guard lets it be."""
        self.call = replace(self.call, turn=self.call.turn + 1)
        self.turn(calls.Arrived(Visit(path, "POST", "+1800", 0, 0), "held", self.nonce()))

    def turn(self, event, digits: str = "") -> None:
        turn = steps.step(FLOW, self.call, self.books, event, self.now)
        self.call, self.books = turn.call, turn.books
        self.entries += [(entry.event, entry.reason) for entry in turn.entries]
        match turn.move:
            case Judge(factor, allowed, _):
                if allowed:
                    self.judged.append(digits)
                right = allowed and digits == RIGHT and factor == "pin"
                self.turn(calls.Judged(right, self.nonce()))
            case Rejoin():
                self.rejoined += 1
            case ComeBack():
                self.came_back += 1
            case calls.Forward():
                self.forwarded += 1
            case _:
                pass

    @property
    def last(self) -> str:
        return self.call.bridge.last


def test_aside_and_back_with_a_proof():
    centre = Centre()
    before = centre.call.proofs
    assert centre.presses("pin") is None
    assert (centre.call.bridge.stage, centre.call.question) == (Stage.LEADING, None)
    centre.comes()
    assert centre.call.bridge.stage is Stage.ASIDE
    assert centre.call.question.factor == "pin"
    assert centre.call.proofs == before
    centre.keys(RIGHT)
    assert (centre.rejoined, centre.last, centre.call.pending, centre.call.question) == (
        1,
        "verified",
        None,
        None,
    )
    assert centre.call.proofs[-1].at_ms == centre.now
    assert centre.entries[-2:] == [("authn_login_success", "right"), ("authn_aside_over", "right")]


def test_what_the_hand_over_needs_next_is_asked_when_nobody_says():
    """Nothing is needed: the first factor that he can answer. A flow's proof has run out: that one."""
    centre = Centre()
    centre.presses()
    assert aside.asked_of(centre.call) == "pin"
    centre = Centre(talking(proofs=(), enrolled=("app",)))
    centre.presses()
    assert aside.asked_of(centre.call) == "pin"  # before anything is proved every account is asked alike
    centre = Centre(talking(enrolled=("app",)))
    centre.presses()
    assert aside.asked_of(centre.call) == "app"
    centre = Centre(talking(enrolled=()))
    assert centre.presses() is Denied.NO_SUCH_FACTOR


@pytest.mark.parametrize(
    ("call", "factor", "why"),
    [
        (talking(bridge=None), "pin", Denied.NOT_BRIDGED),
        (talking(ended_ms=NOW), "pin", Denied.ENDED),
        (talking(bridge=conference.left(talking().bridge, NOW)), "pin", Denied.ENDED),
        (talking(bridge=conference.led(talking().bridge, "n", NOW)), "pin", Denied.ASIDE),
        (talking(bridge=Bridge("leg", "exit", "sealed")), "pin", Denied.NOT_JOINED),
        (talking(bridge=conference.agent_over(talking().bridge, "completed", NOW)), "pin", Denied.NOT_JOINED),
        (talking(), "code", Denied.NO_SUCH_FACTOR),
        (talking(), "nothing", Denied.NO_SUCH_FACTOR),
    ],
)
def test_when_nobody_is_led_aside(call, factor, why):
    centre = Centre(call)
    assert centre.presses(factor) is why
    assert centre.call == call


@pytest.mark.parametrize("keys", [WRONG, "", "77", "2"], ids=["wrong", "silent", "mistyped", "wants another"])
def test_tries_end_in_the_room(keys):
    centre = Centre()
    centre.presses("pin")
    centre.comes()
    for _ in range(FLOW.tries):
        centre.keys(keys)
    assert (centre.rejoined, centre.last, centre.call.bridge.stage) == (1, "not_verified", Stage.TALKING)


@pytest.mark.parametrize(
    "event",
    [calls.Recorded("n"), calls.Judged(None, "n", out_of_sight=True)],
    ids=["a recording runs on", "nobody could judge"],
)
def test_a_fault_ends_in_the_room_and_proves_nothing(event):
    centre = Centre()
    centre.presses("pin")
    centre.comes()
    proofs = centre.call.proofs
    centre.call = replace(centre.call, question=replace(centre.call.question, counted="x"))
    centre.turn(event)
    assert (centre.rejoined, centre.last, centre.call.proofs) == (1, "unavailable", proofs)


def test_who_finds_his_agent_gone_goes_on_in_the_ivr():
    centre = Centre()
    centre.presses("pin")
    centre.comes()
    centre.call = replace(
        centre.call, bridge=conference.agent_over(centre.call.bridge, "completed", centre.now)
    )
    centre.keys(RIGHT)
    assert (centre.rejoined, centre.came_back, centre.call.bridge.stage) == (0, 1, Stage.OVER)
    assert centre.entries[-1] == ("bridge_over", "completed")


def test_who_strays_is_sent_back_and_who_has_no_room_is_told_nothing():
    centre = Centre()
    centre.comes()
    assert centre.rejoined == 1
    for call in (talking(bridge=None), talking(bridge=conference.left(talking().bridge, NOW))):
        turn = steps.step(FLOW, call, Books(), calls.Strayed(), NOW)
        assert (turn.move, turn.call) == (Rest(), call)


def test_coming_out_of_the_room_again_is_no_second_ending():
    """The webhook's answer was lost: the same move, and nothing more on record."""
    centre = Centre()
    centre.turn(calls.CameBack())
    centre.turn(calls.CameBack())
    assert centre.came_back == 2
    assert centre.entries == [("bridge_over", "completed")]


def test_who_could_not_be_led_aside_is_with_his_agent():
    centre = Centre()
    centre.presses("pin")
    call, entry = aside.unreached(centre.call, "timeout", centre.now)
    assert (call.pending, call.bridge.stage, call.bridge.last) == (None, Stage.TALKING, Ended.NOT_REACHED)
    assert (entry.reason, dict(entry.detail)) == ("timeout", {"factor": "pin"})


def test_a_bridge_is_on_record_when_it_opens():
    turn = steps.step(FLOW, talking(bridge=None), Books(), calls.Replied(bridge=talking().bridge), NOW)
    assert [(one.event, one.reason) for one in turn.entries] == [("bridge_opened", "granted")]
    assert turn.call.bridge == talking().bridge


def test_who_goes_elsewhere_has_left_the_room():
    """The IVR leads the call by REST, or its leg asks the IVR for something: whatever led it there."""
    bridge = talking().bridge
    arrives = calls.Arrived(Visit("/menu", "POST", "+1800", 0, 0), "held", "n")
    for event in (calls.Replied(), arrives):
        turn = steps.step(FLOW, talking(), Books(), event, NOW)
        assert turn.call.bridge.stage is Stage.OVER
        assert ("bridge_over", "completed") in [(one.event, one.reason) for one in turn.entries]
    again = steps.step(
        FLOW, talking(bridge=replace(bridge, holding=True)), Books(), calls.Replied(bridge=bridge), NOW
    )
    assert (again.call.bridge, again.entries) == (replace(bridge, holding=True), ())


# ── any mix of asides and keypads ────────────────────────────────────────────────────────────────────────

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("presses"), st.sampled_from(["", "pin"])),
        st.tuples(st.just("comes")),
        st.tuples(st.just("keys"), st.sampled_from([WRONG, WRONG, RIGHT, "", "1", "*"])),
        st.tuples(st.just("asks_for"), st.sampled_from(["/wire", "/menu"])),
        st.tuples(st.just("waits"), st.sampled_from([1, 90])),
        st.tuples(st.just("agent_gone")),
        st.tuples(st.just("leaves")),
        st.tuples(st.just("unreached")),
    ),
    max_size=25,
)


def played(acts) -> Centre:
    """The acts, each held against what the oracle knows."""
    centre = Centre(talking(proofs=()))
    proved_ms, wrong = None, 0
    for name, *more in acts:
        judged, forwarded, before = len(centre.judged), centre.forwarded, centre.call
        match name:
            case "presses":
                centre.presses(*more)
            case "comes":
                centre.comes()
            case "keys":
                centre.keys(*more)
            case "asks_for":
                centre.asks_for(*more)
            case "waits":
                centre.now += more[0] * 1000
            case "agent_gone":
                centre.call = replace(
                    before, bridge=conference.agent_over(before.bridge, "completed", centre.now)
                )
            case "leaves":
                centre.turn(calls.CameBack())
            case _:
                if before.bridge.stage is Stage.LEADING:
                    centre.call, _ = aside.unreached(before, "timeout", centre.now)
        for digits in centre.judged[judged:]:
            assert wrong < FAILURES, "a guess beyond the rule"
            wrong = 0 if digits == RIGHT else wrong + 1
            proved_ms = centre.now if digits == RIGHT else proved_ms
        if centre.forwarded > forwarded:
            assert proved_ms is not None, "the IVR was asked without a proof"
            if more == ["/wire"]:
                assert centre.now - proved_ms <= 60_000, "with a proof that is too old"
        for proof in centre.call.proofs:
            assert proof.at_ms <= (proved_ms or 0), "a proof that nobody made"
        if centre.last == "verified" and before.bridge.last != "verified":
            assert centre.judged[judged:] == [RIGHT], "an agent was told yes, and nothing was proved"
    return centre


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ACTS)
def test_no_mix_of_asides_and_keypads_opens_a_way_or_gives_a_guess(acts):
    played(acts)


def _proceeding(monkeypatch):
    """Whoever is led aside has proved it by coming."""
    monkeypatch.setattr(demands, "_missing", lambda *_: ())


def _forgiving(monkeypatch):
    """Aside, guesses are taken back."""
    reserve = lockout.reserve
    monkeypatch.setattr(
        lockout, "reserve", lambda rule, ledger, attempt, now: (reserve(rule, ledger, attempt, now)[0], True)
    )


def _always_yes(monkeypatch):
    """The agent is told yes, whatever came of it."""
    monkeypatch.setattr(aside, "_NO", frozenset())
    over = aside.over
    monkeypatch.setattr(
        aside, "over", lambda call, books, _reason, now, entries=(): over(call, books, "right", now, entries)
    )


LED_ASIDE = [("presses", "pin"), ("comes",)]
PLANTED = {
    _proceeding: [("asks_for", "/wire")],
    _forgiving: [*LED_ASIDE, *[("keys", WRONG)] * 3, *LED_ASIDE, *[("keys", WRONG)] * 3],
    _always_yes: [*LED_ASIDE, *[("keys", WRONG)] * 3],
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant, monkeypatch):
    played(PLANTED[plant])
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        played(PLANTED[plant])
