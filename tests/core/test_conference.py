"""
A bridge, told as tables: where it stands, what is due for it, and what the IVR hears of it. Its way through a call is told in
tests/core/test_aside.py, and over sockets in tests/guard/test_conference.py.
"""

from dataclasses import replace

import pytest

from ivrguard.core import conference
from ivrguard.core.assurance import Kind
from ivrguard.core.conference import CLAIM_MS, LEAD_MS, RING_MARGIN_MS, Beside, Bridge, Ended, Errand, Room
from ivrguard.core.flow import Factor, Flow, Identify, Upstream
from ivrguard.core.rules import Demand, Rule, Target

NOW = 1_790_000_000_000
AGENT, OTHER = "CA" + "a" * 32, "CA" + "b" * 32
WAITING = Bridge("leg", "nonce", "sealed", since_ms=NOW, ring_s=20)
RINGING = replace(conference.claimed(WAITING, Errand.DIAL, NOW), claimed="", claimed_ms=0, agent=AGENT)
TALKING = conference.joined(RINGING, NOW + 5_000)
LEADING = conference.led(TALKING, "aside", NOW + 60_000)
ASIDE = conference.arrived(LEADING, NOW + 61_000)
OVER = conference.left(TALKING, NOW + 90_000)
THEIRS = conference.of_task("leg", "nonce", Room("CF1", "WT1", AGENT, "customer", ends=False), NOW)
CLOSING = replace(THEIRS, ends=True)


@pytest.mark.parametrize(
    ("bridge", "at_ms", "errand"),
    [
        (WAITING, NOW, Errand.DIAL),
        (RINGING, NOW, None),
        (RINGING, NOW + 20_000 + RING_MARGIN_MS - 1, None),
        (RINGING, NOW + 20_000 + RING_MARGIN_MS, Errand.GO_ON),
        (conference.agent_over(RINGING, "busy", NOW), NOW, Errand.GO_ON),
        (TALKING, NOW + 10_000_000, None),
        (replace(TALKING, holding=True), NOW, Errand.UNHOLD),
        (LEADING, LEADING.since_ms + LEAD_MS - 1, None),
        (LEADING, LEADING.since_ms + LEAD_MS, Errand.GIVE_UP),
        (ASIDE, NOW + 10_000_000, None),
        (OVER, NOW, Errand.END),
        (conference.agent_over(OVER, "completed", NOW), NOW, None),
        (replace(OVER, agent=""), NOW, None),
        (THEIRS, NOW, None),
        (replace(THEIRS, holding=True), NOW, Errand.UNHOLD),
        (conference.deserted(THEIRS, NOW), NOW, Errand.GO_ON),
        (conference.deserted(replace(TALKING, holding=True), NOW), NOW, Errand.GO_ON),
        (conference.deserted(conference.left(TALKING, NOW), NOW), NOW, None),
        (conference.agent_over(TALKING, "completed", NOW), NOW, None),
        (conference.left(THEIRS, NOW), NOW, None),
        (conference.left(CLOSING, NOW), NOW, None),
        (conference.left(replace(THEIRS, holding=True), NOW), NOW, Errand.UNHOLD),
        (conference.left(replace(CLOSING, holding=True), NOW), NOW, Errand.END),
        (
            conference.agent_over(conference.left(replace(CLOSING, holding=True), NOW), "completed", NOW),
            NOW,
            None,
        ),
        (
            conference.agent_over(conference.left(replace(THEIRS, holding=True), NOW), "completed", NOW),
            NOW,
            None,
        ),
    ],
)
def test_what_is_due(bridge, at_ms, errand):
    assert conference.due(bridge, at_ms) is errand


@pytest.mark.parametrize(
    "bridge",
    [WAITING, conference.agent_over(RINGING, "busy", NOW), replace(TALKING, holding=True), OVER],
    ids=lambda bridge: bridge.stage,
)
def test_what_somebody_does_is_due_to_nobody_else_until_he_has_had_his_time(bridge):
    errand = conference.due(bridge, NOW)
    taken = conference.claimed(bridge, errand, NOW)
    assert conference.due(taken, NOW + CLAIM_MS - 1) is None
    again = conference.due(taken, NOW + CLAIM_MS)
    assert again is (
        None if errand is Errand.DIAL else errand
    )  # a phone is never rung twice: it counts as unanswered


def test_what_is_done_is_due_no_more():
    held = replace(TALKING, holding=True)
    assert conference.due(conference.done(held, Errand.UNHOLD, NOW), NOW) is None
    ended = conference.done(OVER, Errand.END, NOW)
    assert (conference.due(ended, NOW), ended.result) == (None, "completed")
    gone = conference.claimed(conference.agent_over(RINGING, "busy", NOW), Errand.GO_ON, NOW)
    assert conference.due(conference.done(gone, Errand.GO_ON, NOW), NOW + 1) is None
    assert conference.done(RINGING, Errand.DIAL, NOW) == RINGING


def test_an_agent_of_whom_nobody_heard_has_not_answered():
    late = conference.claimed(RINGING, Errand.GO_ON, NOW)
    assert dict(conference.outcome(late, NOW)) == {
        "DialCallStatus": "no-answer",
        "DialBridged": "false",
        "DialCallSid": AGENT,
    }


def test_the_first_leg_that_is_heard_of_is_the_agents():
    unheard = replace(RINGING, agent="")
    assert conference.is_agent(unheard, OTHER)
    assert conference.named(unheard, OTHER).agent == OTHER
    assert conference.is_agent(RINGING, AGENT)
    assert not conference.is_agent(RINGING, OTHER)
    assert conference.named(RINGING, OTHER) == RINGING


def test_an_agent_joins_once_and_not_after_he_has_gone():
    assert conference.joined(TALKING, NOW + 9_000) == TALKING
    gone = conference.agent_over(RINGING, "completed", NOW)
    assert conference.joined(gone, NOW) == gone
    assert conference.agent_over(gone, "busy", NOW + 1) == gone
    assert conference.arrived(TALKING, NOW) == TALKING
    assert conference.left(OVER, NOW + 1) == OVER
    assert conference.back(OVER, Ended.VERIFIED, NOW) == OVER


@pytest.mark.parametrize(
    ("bridge", "status", "bridged", "duration"),
    [
        (conference.agent_over(TALKING, "completed", NOW + 65_001), "completed", "true", "61"),
        (OVER, "completed", "true", "85"),
        (conference.left(RINGING, NOW), "canceled", "false", None),
        (conference.left(WAITING, NOW), "failed", "false", None),
        (conference.agent_over(RINGING, "no-answer", NOW), "no-answer", "false", None),
        (conference.agent_over(RINGING, "completed", NOW), "completed", "false", None),
    ],
)
def test_what_the_ivr_hears(bridge, status, bridged, duration):
    told = dict(conference.outcome(bridge, NOW + 90_000))
    assert (told["DialCallStatus"], told["DialBridged"], told.get("DialCallDuration")) == (
        status,
        bridged,
        duration,
    )
    assert told.get("DialCallSid") == (bridge.agent or None)


def test_where_a_leg_comes_that_has_left_the_room():
    """The room's exit, always; the question aside only once there is no room any more."""
    assert [TALKING.leads_on(each) for each in ("nonce", "other", None)] == [True, False, False]
    assert not ASIDE.leads_on("aside")
    assert conference.left(ASIDE, NOW).leads_on("aside")


@pytest.mark.parametrize(
    ("bridge", "seen"),
    [
        (None, None),
        (RINGING, Beside(ready=False, apart=False, last="")),
        (TALKING, Beside(ready=True, apart=False, last="")),
        (LEADING, Beside(ready=False, apart=True, last="")),
        (ASIDE, Beside(ready=False, apart=True, last="")),
        (conference.back(ASIDE, Ended.VERIFIED, NOW), Beside(ready=True, apart=False, last="verified")),
        (conference.left(ASIDE, NOW), Beside(ready=False, apart=False, last="hung_up")),
        (conference.agent_over(TALKING, "completed", NOW), Beside(ready=False, apart=False, last="")),
    ],
)
def test_what_the_agent_sees(bridge, seen):
    assert conference.beside(flow(), bridge, ("number:+15550001111",), over=False) == seen


@pytest.mark.parametrize(
    ("bridge", "over", "ready", "last"),
    [
        (None, False, True, ""),
        (None, True, False, ""),
        (THEIRS, False, True, ""),
        (conference.led(THEIRS, "aside", NOW), False, False, ""),
        (conference.back(conference.led(THEIRS, "aside", NOW), Ended.VERIFIED, NOW), False, True, "verified"),
        (conference.agent_over(THEIRS, "completed", NOW), False, False, ""),
        (conference.left(THEIRS, NOW), False, True, ""),  # and handed over anew
        (conference.left(conference.led(THEIRS, "aside", NOW), NOW), True, False, "hung_up"),
        (OVER, False, True, ""),  # one that the guard dialled, before this hand-over
        (TALKING, False, True, ""),
        (RINGING, False, False, ""),
    ],
)
def test_what_an_agent_sees_whom_taskrouter_connected(bridge, over, ready, last):
    """Whether there is a room shows when he presses: the button is there until it is known that there is not."""
    named = replace(flow(), workspace="WS" + "0" * 32)
    seen = conference.beside(named, bridge, ("workflow:WW1",), over=over)
    assert (seen.ready, seen.last) == (ready, last)
    if bridge is None:
        assert conference.beside(flow(), None, ("workflow:WW1",), over=over) is None
        assert conference.beside(named, None, ("enqueue:sales",), over=over) is None


CAME_BACK = [
    conference.back(conference.led(bridge, "aside", NOW), Ended.VERIFIED, NOW) for bridge in (THEIRS, TALKING)
]


@pytest.mark.parametrize("bridge", CAME_BACK, ids=["theirs", "ours"])
def test_who_waits_alone_in_a_room_of_two_has_the_agent_looked_for(bridge):
    """He may have left in the moment in which the caller came back: then the caller goes on, and else it was nothing."""
    waiting = conference.alone(bridge)
    assert conference.due(waiting, NOW) is Errand.UNHOLD
    assert conference.due(conference.agent_over(waiting, "completed", NOW), NOW) is Errand.GO_ON
    assert conference.done(waiting, Errand.UNHOLD, NOW) == bridge
    for nobody_waits in (
        conference.led(bridge, "aside", NOW),  # it is the agent who hears music
        replace(bridge, holding=True),
        conference.left(bridge, NOW),
    ):
        assert conference.alone(nobody_waits) == nobody_waits
    for before_that in (
        RINGING,
        TALKING,
        THEIRS,
    ):  # an agent who has just answered is on his way into the room
        assert conference.alone(before_that) == before_that


def test_sealed_things_do_not_show():
    assert "sealed" not in repr(WAITING)


ONE = Demand("one")


def flow(*rules: Rule, default: Demand = ONE) -> Flow:
    factors = {"pin": Factor(Kind.PIN, 8)}
    upstream, identify = Upstream("https://ivr.example/voice"), Identify("account_number", 6, 12)
    return Flow("f", "v", ("*",), upstream, identify, factors, {"one": "pin"}, rules, default)


BRIDGED = Demand("one", bridge=True)


@pytest.mark.parametrize("kind", conference.BRIDGED_KINDS)
def test_one_person_can_be_bridged(kind):
    assert (
        list(
            conference.check_bridges(
                flow(Rule(BRIDGED, transfer=Target(kind, "*")), Rule(Demand("one"), path="/x"))
            )
        )
        == []
    )


@pytest.mark.parametrize(
    "target",
    [Target("queue", "*"), Target("enqueue", "*"), Target("*", "*"), Target("conference", "x"), None],
)
def test_others_cannot_and_check_says_what_to_write(target):
    (finding,) = conference.check_bridges(flow(Rule(BRIDGED, path="/x", transfer=target)))
    assert finding.place == ("rules", 0, "bridge")
    assert finding.error
    assert 'transfer: {number: "*"}' in finding.message


def test_nor_does_a_default():
    (finding,) = conference.check_bridges(flow(default=BRIDGED))
    assert finding.place == ("default", "bridge")
