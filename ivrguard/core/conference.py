"""
A transfer that the guard bridges itself: caller and agent in a conference, and the caller led aside from it and back.

The laws of this file:

1. A bridge is a value of its call. What happens to it is worked out here and kept in the same act as the call.
2. What has to be done for it elsewhere follows from how it stands (`due`), and is claimed before it is done: whoever looks at the call
   next, on any node, sees what is left, and two that look at once do it once.
3. The caller is led aside by one press of the button at a time. Whatever comes of it he belongs back in the room: no way out of
   `LEADING` and `ASIDE` gives him anything but that, or the IVR, when the agent is gone.
4. The IVR is told what its own `<Dial>` would have told it (https://www.twilio.com/docs/voice/twiml/dial#dial-action-parameters).
5. A room that TaskRouter made for a task (`theirs`) stays TaskRouter's: the guard dials nobody into it, and ends nobody's leg but where the
   room would have ended. It is looked up anew at each press of the button, and nothing tells when its agent leaves: that shows when he is
   to hear the room again and is not there any more. The caller is led on then only if the room is over: it may be a colleague's now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ivrguard.core.flow import Finding, Flow
from ivrguard.core.values import replace

CLAIM_MS = 30_000
"""How long whoever claimed something to be done has for it; after that another one may."""

RING_MARGIN_MS = 60_000
"""How long after an agent's phone should have stopped ringing nobody waits to be told so any more."""

LEAD_MS = 30_000
"""How long a caller who is led aside may take to get there: a request, its repeats, and the provider's own."""

BRIDGED_KINDS = ("number", "client", "sip")
"""Whom the guard can dial itself: one phone, one client, one SIP address."""


class Stage(StrEnum):
    """Where a bridge is."""

    WAITING = "waiting"
    """The caller is on his way into the room, and nobody has been dialled."""
    RINGING = "ringing"
    """The agent is dialled, and has not come yet."""
    TALKING = "talking"
    """The two are joined."""
    LEADING = "leading"
    """The agent has pressed the button; the provider is told to lead the caller aside."""
    ASIDE = "aside"
    """The caller is at the keypad; the agent waits in the room."""
    OVER = "over"
    """The caller has left the room for good."""


class Errand(StrEnum):
    """What is to be done by the provider's REST API."""

    DIAL = "dial"
    GO_ON = "go_on"
    """The agent did not come: the caller goes on in the IVR."""
    UNHOLD = "unhold"
    """The caller is back, and the agent still hears music."""
    END = "end"
    """The caller is gone, and the agent's leg may be there yet."""
    GIVE_UP = "give_up"
    """The caller should have come aside long ago."""


class Ended(StrEnum):
    """How the last time aside ended, as the agent may know it: yes, no, or that nobody could ask."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not_verified"
    HUNG_UP = "hung_up"
    NOT_REACHED = "not_reached"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Bridge:
    """
    One transfer in a conference. `id`: the leg's; `nonce`: where the caller's leg comes when it has left the room.

    `held`: sealed, whom to dial and what the IVR wanted of its `<Dial>`. `agent`: the CallSid of the agent's leg; `conference`: the
    provider's name of the room. `result`: of the agent's leg, in the words of `DialCallStatus`, "" while it lives. `screened`: the
    agent hears something before he enters. `ring_s`: how long he is rung, `rings_until_ms`: until when anybody waits for him. `holding`: the agent hears music. `aside`: the nonce of the last time aside; `last`: how it ended.
    `claimed`, `claimed_ms`: what somebody is doing for it.

    `theirs`: law 5, its name; "": it is the guard's own, and `held` says all of it. `label`: the caller's in such a room, and `ends`
    whether it is over when he leaves it. `alone`: the caller is, or was heard waiting, where two should be.
    """

    id: str
    nonce: str
    held: str = field(repr=False)
    stage: Stage = Stage.WAITING
    since_ms: int = 0
    agent: str = ""
    conference: str = ""
    answered_ms: int | None = None
    over_ms: int | None = None
    result: str = ""
    screened: bool = False
    ring_s: int = 0
    rings_until_ms: int = 0
    holding: bool = False
    aside: str = ""
    last: str = ""
    claimed: str = ""
    claimed_ms: int = 0
    theirs: str = ""
    label: str = ""
    ends: bool = False
    alone: bool = False

    @property
    def live(self) -> bool:
        """Whether the caller belongs into this room."""
        return self.stage is not Stage.OVER

    def leads_on(self, nonce: str | None) -> bool:
        """
        Whether a leg that comes here has left the room for good. One that is led aside while its room ends loses the answer that it
        got for that, and comes to where it was led.
        """
        return nonce == self.nonce or (not self.live and nonce == self.aside)

    @property
    def apart(self) -> bool:
        """Whether the caller is aside, or on his way there."""
        return self.stage in {Stage.LEADING, Stage.ASIDE}


@dataclass(frozen=True, slots=True)
class Room:
    """
    A conference that TaskRouter made, with the caller of a task in it. `sid`: the provider's name of it; `name`: its own; `agent`: the
    CallSid of the worker's leg; `label`: the caller's in it; `ends`: whether it is over when he leaves.
    """

    sid: str
    name: str
    agent: str
    label: str
    ends: bool


def due(bridge: Bridge, now_ms: int) -> Errand | None:
    """What is to be done now, unless somebody is at it."""
    errand = _wanted(bridge, now_ms)
    if errand is not None and bridge.claimed == errand.value and now_ms - bridge.claimed_ms < CLAIM_MS:
        return None
    return errand


def _wanted(bridge: Bridge, now_ms: int) -> Errand | None:
    match bridge.stage:
        case Stage.WAITING:
            return Errand.DIAL
        case Stage.RINGING if bridge.result or now_ms >= bridge.rings_until_ms:
            return Errand.GO_ON
        case Stage.TALKING if bridge.result and bridge.alone:
            return Errand.GO_ON
        case Stage.TALKING if bridge.holding:
            return Errand.UNHOLD
        case Stage.LEADING if now_ms - bridge.since_ms >= LEAD_MS:
            return Errand.GIVE_UP
        case Stage.OVER if bridge.theirs and not bridge.result and bridge.holding and not bridge.ends:
            return Errand.UNHOLD
        case Stage.OVER if bridge.theirs and not (bridge.ends and bridge.holding):
            return None
        case Stage.OVER if bridge.agent and not bridge.result:
            return Errand.END
        case _:
            return None


def claimed(bridge: Bridge, errand: Errand, now_ms: int) -> Bridge:
    """Somebody does this now. Who dials does it once: if nobody hears of it, the agent counts as not having answered."""
    bridge = replace(bridge, claimed=errand.value, claimed_ms=now_ms)
    if errand is Errand.DIAL:
        rings_until_ms = now_ms + bridge.ring_s * 1000 + RING_MARGIN_MS
        return replace(bridge, stage=Stage.RINGING, since_ms=now_ms, rings_until_ms=rings_until_ms)
    if errand is Errand.GO_ON and not bridge.result:
        return replace(bridge, result="no-answer", over_ms=now_ms)
    return bridge


def done(bridge: Bridge, errand: Errand, now_ms: int) -> Bridge:
    """It is done; what it was done for is over."""
    match errand:
        case Errand.UNHOLD:
            bridge = replace(bridge, holding=False, alone=False)
        case Errand.END:
            bridge = replace(
                bridge, result=bridge.result or _result(bridge), over_ms=bridge.over_ms or now_ms
            )
        case _:
            pass
    return replace(bridge, claimed="", claimed_ms=0) if errand is not Errand.GO_ON else bridge


def is_agent(bridge: Bridge, call_sid: str) -> bool:
    """Whether this leg is the agent's: the first that was heard of is, and no other one."""
    return bridge.agent in {"", call_sid}


def named(bridge: Bridge, call_sid: str) -> Bridge:
    """The agent's leg has this CallSid."""
    return bridge if bridge.agent else replace(bridge, agent=call_sid)


def joined(bridge: Bridge, now_ms: int) -> Bridge:
    """The agent comes into the room."""
    if bridge.stage is not Stage.RINGING or bridge.result:
        return bridge
    return replace(bridge, stage=Stage.TALKING, since_ms=now_ms, answered_ms=now_ms)


def agent_over(bridge: Bridge, status: str, now_ms: int) -> Bridge:
    """The agent's leg is over, with this CallStatus."""
    if bridge.result:
        return bridge
    return replace(bridge, result=status, over_ms=now_ms)


def led(bridge: Bridge, nonce: str, now_ms: int) -> Bridge:
    """The agent has pressed the button."""
    return replace(bridge, stage=Stage.LEADING, since_ms=now_ms, aside=nonce)


def of_task(id_: str, nonce: str, room: Room, now_ms: int) -> Bridge:
    """A room that TaskRouter made, as it was found: caller and agent are in it."""
    return Bridge(
        id_,
        nonce,
        "",
        Stage.TALKING,
        since_ms=now_ms,
        agent=room.agent,
        conference=room.sid,
        answered_ms=now_ms,
        theirs=room.name,
        label=room.label,
        ends=room.ends,
    )


def alone(bridge: Bridge) -> Bridge:
    """
    Somebody waits in a room that should have two in it, and it is not the agent on hold: the caller came back from aside in the moment in
    which the agent left. Whether he is there still is looked up: he is to hear the room. Before that, music is the beginning's: an
    agent who has just answered may not be in the room yet, and must not be taken for gone.
    """
    waits = bridge.stage is Stage.TALKING and bool(bridge.aside) and not bridge.holding
    return replace(bridge, holding=True, alone=True) if waits else bridge


def deserted(bridge: Bridge, now_ms: int) -> Bridge:
    """The agent is not in the room that the caller was sent back into: he has hung up, whoever was told of it."""
    return replace(agent_over(bridge, "completed", now_ms), alone=True)


def arrived(bridge: Bridge, now_ms: int) -> Bridge:
    """The caller is at the keypad."""
    return replace(bridge, stage=Stage.ASIDE, since_ms=now_ms) if bridge.stage is Stage.LEADING else bridge


def back(bridge: Bridge, how: Ended, now_ms: int) -> Bridge:
    """He belongs into the room again, if he was aside."""
    if not bridge.apart:
        return bridge
    return replace(bridge, stage=Stage.TALKING, since_ms=now_ms, last=how.value)


def left(bridge: Bridge, now_ms: int) -> Bridge:
    """The caller has left the room for good, or has hung up wherever he was."""
    if not bridge.live:
        return bridge
    last = Ended.HUNG_UP.value if bridge.apart else bridge.last
    return replace(bridge, stage=Stage.OVER, since_ms=now_ms, last=last)


def outcome(bridge: Bridge, now_ms: int) -> tuple[tuple[str, str], ...]:
    """
    What the IVR's `<Dial>` would have told its action: DialCallStatus, DialBridged, DialCallSid, DialCallDuration (s).

    Nobody was dialled at all: `failed`, and no DialCallSid.
    """
    bridged = bridge.answered_ms is not None
    told = [("DialCallStatus", bridge.result or _result(bridge)), ("DialBridged", str(bridged).lower())]
    if bridge.agent:
        told.append(("DialCallSid", bridge.agent))
    if bridge.answered_ms is not None:
        over_ms = now_ms if bridge.over_ms is None else bridge.over_ms
        told.append(("DialCallDuration", str(max(0, over_ms - bridge.answered_ms + 999) // 1000)))
    return tuple(told)


def _result(bridge: Bridge) -> str:
    """How the agent's leg ended when it was the caller who left."""
    if bridge.answered_ms is not None:
        return "completed"
    return "canceled" if bridge.agent else "failed"


@dataclass(frozen=True, slots=True)
class Beside:
    """
    What an agent sees of his bridge: whether the caller can be led aside now, whether he is aside, and how the last time ended.

    `last` is a word of `Ended`, or "".
    """

    ready: bool
    apart: bool
    last: str


def of_a_task(flow: Flow, queues: Sequence[str]) -> bool:
    """Whether who was handed over to these queues is connected by TaskRouter, in a room that the guard can look up."""
    return bool(flow.workspace) and any(queue.startswith("workflow:") for queue in queues)


def beside(flow: Flow, bridge: Bridge | None, queues: Sequence[str], *, over: bool) -> Beside | None:
    """
    None for a call whose agent nobody can be led aside from. `queues`: of its last hand-over; `over`: it has ended. Whether there is a
    room of TaskRouter's shows when the button is pressed.
    """
    task = of_a_task(flow, queues)
    if bridge is None:
        return Beside(not over, apart=False, last="") if task else None
    ready = bridge.stage is Stage.TALKING and not bridge.result
    return Beside(ready or (task and not bridge.live and not over), bridge.apart, bridge.last)


def check_bridges(flow: Flow) -> Iterator[Finding]:
    """`bridge` stands only where there is one person to be dialled, and something to be proved."""
    for position, rule in enumerate(flow.rules):
        if not rule.demand.bridge:
            continue
        kind = rule.transfer.kind if rule.transfer is not None else ""
        if kind == "workflow":
            yield Finding(
                ("rules", position, "bridge"),
                "TaskRouter dials its workers itself; take `bridge` out and name the `workspace` of the flow: then callers whom it connects "
                "can be led aside from its conference",
            )
        elif kind not in BRIDGED_KINDS:
            yield Finding(
                ("rules", position, "bridge"),
                f"the guard can bridge a transfer to {', '.join(BRIDGED_KINDS[:-1])} or {BRIDGED_KINDS[-1]}; write "
                'one of them, such as `transfer: {number: "*"}`, or take `bridge` out',
            )
    if flow.default.bridge:
        yield Finding(("default", "bridge"), "only a rule with `transfer` can be bridged; move it to one")
