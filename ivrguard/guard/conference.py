"""
Transfers that the guard bridges itself: the room, the agent's leg, the caller aside and back (core/conference.py).

The laws of this file:

1. The room's name is derived from the leg and a key: 128 bits that nobody else has. Nothing but the guard's own documents
   leads into it.
2. What the provider is asked for over REST is claimed with the call before, so that two nodes, a callback that comes twice and a
   button pressed twice do it once; it is tried `TRIES_MAX` times, with a pause that grows and that chance spreads. What may
   have been done all the same heals by itself: a second agent's leg is ended when it is first heard of.
3. Where it cannot be done the call stays as it was: the caller with his agent, and nothing proved.
4. Whoever does not hold a call is told nothing of it, as if it had never been (held.py).
5. In a room of TaskRouter's (core/conference.py, law 5) the caller is a guest: it is asked for at the press of the button, it stays open
   while he is aside, and he comes back into it as he was in it before.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from ivrguard import log
from ivrguard.core import aside, conference
from ivrguard.core.agents import Agent, holds
from ivrguard.core.aside import Denied
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call, spoken
from ivrguard.core.caller import AddressKind
from ivrguard.core.conference import Bridge, Errand, Stage
from ivrguard.core.counting import entry_of
from ivrguard.core.errors import Fault, NotifyFault
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Alias, Leg
from ivrguard.core.values import replace
from ivrguard.guard import books
from ivrguard.guard import desk as desks
from ivrguard.guard.acts import later_legs, passed_on
from ivrguard.guard.background import Background
from ivrguard.guard.held import asked_for
from ivrguard.guard.tasks import Tasks
from ivrguard.guard.words import neutral, said
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Change, Conferences, Invitation, Keys, Put, Request
from ivrguard.telephony import twiml
from ivrguard.telephony.bridging import Dialling, RoomEvent, addressed
from ivrguard.telephony.delivery import Delivery
from ivrguard.telephony.document import SIP_URI_CHARS_MAX, TOKEN_HEADER, TOKEN_NAME
from ivrguard.telephony.links import Inward, Kind, Links, Refused

TRIES_MAX = 3
TRY_DEADLINE_S = 3.0
PAUSE_S = 0.5
"""Before the second try; twice that before the third. Chance makes each half as long to half as long again."""

WHISPER_TIMES = 2
SONG_URL = "http://com.twilio.music.classical.s3.amazonaws.com/ith_chopin-15-2.mp3"
"""One piece of it. It ends, and is asked for again: where nothing else tells who waits, this does (core/conference.py, law 5)."""
MUSIC_URL = "http://twimlets.com/holdmusic?Bucket=com.twilio.music.classical"
"""What Twilio plays by itself where nobody says (https://www.twilio.com/docs/voice/twiml/conference#attributes-waiturl)."""

AGENT, CALLER = "agent", "caller"
_AGAIN = frozenset({"busy", "outage", "timeout", "too_many_requests", "garbled"})
_ON_THE_WAY = frozenset({"DialCallStatus", "DialCallSid", "DialCallDuration", "DialBridged", "RecordingUrl"})

T = TypeVar("T")

logger = log.get()


@dataclass(frozen=True, slots=True)
class Held:
    """
    What a bridge keeps sealed: whom to dial, from which number and by which token; the IVR's `<Dial>`, and what follows it (`rest`).

    `whisper`: the guard's link to the IVR's own whisper, "" for none.
    """

    dialling: Dialling
    to: str = field(repr=False)
    from_: str = field(repr=False)
    token: str = field(repr=False)
    whisper: str = field(repr=False)
    base: str
    rest: str = field(repr=False)

    def packed(self) -> bytes:
        """As it is sealed."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpacked(cls, plain: bytes) -> "Held":
        """What was packed."""
        given = json.loads(plain)
        return cls(**{**given, "dialling": Dialling(**given["dialling"])})


def held_of(
    call: Call, links: Links, dialling: Dialling, *, token: str, call_token: str, base: str, rest: bytes
) -> Held:
    """
    What a bridge of this call keeps. `token`: the hand-over's, which a client or a SIP address gets; `call_token`: the provider's,
    by which the agent sees the caller's own number. Raises `Refused` when a SIP address becomes too long.
    """
    to = dialling.to
    if dialling.kind == "client":
        to = addressed(to, TOKEN_NAME, token)
    elif dialling.kind == "sip":
        to = addressed(to, TOKEN_HEADER, token)
        if len(to) > SIP_URI_CHARS_MAX:
            raise Refused("sip.length", "Sip")
    from_, shown = dialling.caller_id, ""
    if not from_:
        own = bool(call_token) and call.caller.kind is AddressKind.PHONE
        from_, shown = (call.caller.value, call_token) if own else (call.dialled, "")
    whisper = ""
    if dialling.whisper:
        method = dialling.whisper_method
        whisper = links.outward(dialling.whisper, kind=Kind.W, method=method, turn=call.turn)
    return Held(dialling, to, from_, shown, whisper, base, rest.decode())


def action_of(
    links: Links, held: Held, params: tuple[tuple[str, str], ...], told: tuple[tuple[str, str], ...]
) -> tuple[Inward, Request]:
    """The request that the IVR's `<Dial>` would have made of its action. `params`: as they came; `told`: how the dial went."""
    url = links.outward(held.dialling.action, kind=Kind.T, method=held.dialling.method, turn=0)
    parts = urlsplit(url)
    inward = links.inward(f"{parts.path}?{parts.query}")
    kept = (*(one for one in params if one[0] not in _ON_THE_WAY), *told)
    return inward, Request(held.dialling.method, inward.url, kept, urlencode(kept).encode())


def caller_document(
    world: World, keys: Keys, flow: Flow, call: Call, bridge: Bridge, *, again: bool
) -> bytes:
    """The way into the room, for the caller; `again`: back from aside, with a word first."""
    first = [said(spoken(flow, call), "hold")] if again else []
    if bridge.theirs:
        joined = twiml.conference(
            bridge.theirs,
            label=bridge.label,
            ends=bridge.ends,
            starts=False,  # whoever is alone there hears music, and by that the guard hears of it
            action=_url(world, bridge.nonce),
            wait=_url(world, f"wait/{bridge.id}"),
        )
        return twiml.response(*first, joined)
    held = Held.unpacked(world.unseal(bridge.held, f"bridge/{call.sid}"))
    joined = twiml.conference(
        room_of(keys, bridge),
        label=CALLER,
        ends=False,
        action=_url(world, bridge.nonce),
        status=_url(world, f"room/{bridge.id}"),
        wait=_url(world, f"wait/{bridge.id}"),
        time_limit_s=held.dialling.time_limit_s,
        hangup_on_star=held.dialling.hangup_on_star,
        record=held.dialling.record,
    )
    return twiml.response(*first, joined)


def room_of(keys: Keys, bridge: Bridge) -> str:
    """The room's name: 128 bits. `keys`: with the call's naming key."""
    return keys.derive("room", bridge.id)[:16].hex()


def _url(world: World, path: str) -> str:
    return f"{world.issuer}/.ivrguard/call/{path}"


class Bridges:
    """The agent's side of every bridge, what is done over REST, and the button."""

    def __init__(self, world: World, background: Background) -> None:
        self._world = world
        self._background = background
        self._tasks = Tasks(world)

    # ── what the provider asks for ───────────────────────────────────────────────────────────────────────

    async def wait(self, leg_id: str) -> bytes:
        """What is heard by who waits in the room. Asking for it shows that somebody does, so what is due is done."""
        found = await self._found(leg_id)
        if found is None:
            return twiml.response(twiml.redirect(MUSIC_URL))
        call, mounted = found
        assert call.bridge is not None
        theirs = bool(call.bridge.theirs)
        if conference.alone(call.bridge) != call.bridge:
            await self._amend(call.sid, leg_id, lambda bridge, _: conference.alone(bridge))
        self.attend(call.sid)
        music = mounted.flow.hold_music or (SONG_URL if theirs else "")
        return twiml.response(twiml.play(music) if music else twiml.redirect(MUSIC_URL))

    async def agent(self, leg_id: str, delivery: Delivery) -> bytes:
        """What the agent hears first, where he hears something: the code, then the IVR's own whisper; then he goes into the room."""
        call = await self._as_agent(leg_id, delivery, lambda bridge, _: bridge)
        leg = await self._world.store.read(books.leg_key(leg_id))
        mounted = await self._world.flow_of(call) if call is not None else None
        if call is None or call.bridge is None or leg is None or mounted is None:
            return neutral()
        held = Held.unpacked(self._world.unseal(call.bridge.held, f"bridge/{call.sid}"))
        if held.whisper:
            await self._listens(leg_id, delivery.call_sid)
        code = None
        if "whisper" in leg.carriers and leg.redeemed_ms is None:
            code = await desks.whispered(self._world, call, leg_id)
        told = (
            [said(mounted.flow.catalogue(), "whisper", code=twiml.spelled(code))] if code is not None else []
        )
        return twiml.response(*told * WHISPER_TIMES, twiml.redirect(held.whisper or self.join_url(leg_id)))

    async def join(self, leg_id: str, delivery: Delivery) -> bytes:
        """The agent goes into the room."""
        call = await self._as_agent(leg_id, delivery, conference.joined)
        if call is None or call.bridge is None:
            return neutral()
        keys = self._world.keys.with_naming(call.naming)
        return twiml.response(twiml.conference(room_of(keys, call.bridge), label=AGENT, ends=True))

    def join_url(self, leg_id: str) -> str:
        """Where the agent's leg goes into the room."""
        return _url(self._world, f"join/{leg_id}")

    async def _listens(self, leg_id: str, call_sid: str) -> None:
        """From now on the IVR's whisper is heard on this leg: it is known by its CallSid, as it has no parent."""
        key, expires_ms = books.agent_key(call_sid), self._world.clock() + books.CALL_KEPT_S * 1000
        put = Put(key, Alias(leg_id, expires_ms), expires_ms)
        await self._world.store.amend([key], lambda _: Change(None, (put,)))

    async def call_of_agent(self, delivery: Delivery) -> tuple[Call, str] | None:
        """The call that this agent's leg belongs to, and where it goes when a whisper of the IVR's has ended; None: it is no such leg."""
        alias = await self._world.store.read(books.agent_key(delivery.call_sid))
        found = await self._found(alias.leg) if alias is not None else None
        if alias is None or found is None or found[0].bridge is None:
            return None
        fits = found[0].bridge.agent == delivery.call_sid and found[0].account_sid == delivery.account_sid
        return (found[0], self.join_url(alias.leg)) if fits else None

    async def leg(self, leg_id: str, delivery: Delivery) -> bytes:
        """How the agent's leg goes: it is rung, it answers, it is over."""

        def told(bridge: Bridge, now_ms: int) -> Bridge:
            if delivery.over:
                return conference.agent_over(bridge, delivery.call_status, now_ms)
            if delivery.call_status == "in-progress" and not bridge.screened:
                return conference.joined(bridge, now_ms)
            return bridge

        found = await self._found(leg_id)
        if found is None or found[0].account_sid != delivery.account_sid:
            return twiml.response()
        call = await self._as_agent(leg_id, delivery, told, whoever=True)
        unwanted = call is None or (call.bridge is not None and bool(call.bridge.result))
        if unwanted and not delivery.over:
            # A second one, dialled as nobody knew of the first; or one that nobody waits for any more.
            account, sid = delivery.account_sid, delivery.call_sid
            ended = self._quietly(found[0], lambda it: it.hang_up(account, sid, deadline_s=TRY_DEADLINE_S))
            self._background.start(ended)
        self.attend(found[0].sid)
        return twiml.response()

    async def room(self, leg_id: str, event: RoomEvent) -> bytes:
        """Somebody has joined the room: which one it is at the provider's, and what is due now."""
        found = await self._found(leg_id)
        if found is None or found[0].account_sid != event.account_sid:
            return twiml.response()
        if event.conference:
            await self._amend(
                found[0].sid, leg_id, lambda bridge, _: replace(bridge, conference=event.conference)
            )
        self.attend(found[0].sid)
        return twiml.response()

    async def _found(self, leg_id: str) -> tuple[Call, Mounted] | None:
        """The call whose bridge this is, and its flow."""
        leg = await self._world.store.read(books.leg_key(leg_id))
        call = await self._world.store.read(books.call_key(leg.call)) if leg is not None else None
        if call is None or call.bridge is None or call.bridge.id != leg_id:
            return None
        mounted = await self._world.flow_of(call)
        return None if mounted is None else (call, mounted)

    async def _as_agent(
        self,
        leg_id: str,
        delivery: Delivery,
        change: Callable[[Bridge, int], Bridge],
        *,
        whoever: bool = False,
    ) -> Call | None:
        """
        The call, changed by what the agent's leg did; None when this is no agent's leg of it, or he has nobody to go to (`whoever`:
        it matters all the same).
        """
        found = await self._found(leg_id)
        if (
            found is None
            or delivery.direction != "outbound-api"
            or delivery.account_sid != found[0].account_sid
        ):
            return None

        def changed(bridge: Bridge, now_ms: int) -> Bridge | None:
            gone = not bridge.live or bool(bridge.result)
            if not conference.is_agent(bridge, delivery.call_sid) or (gone and not whoever):
                return None
            return change(conference.named(bridge, delivery.call_sid), now_ms)

        return await self._amend(found[0].sid, leg_id, changed)

    # ── what is asked of the provider ────────────────────────────────────────────────────────────────────

    def attend(self, sid: str) -> None:
        """Do what is due for this call's bridge, without anybody waiting for it."""
        self._background.start(self._attend(sid))

    async def _attend(self, sid: str) -> None:
        while (claimed := await self._claimed(sid)) is not None:
            call, errand = claimed
            try:
                await self._done(call, errand)
            except NotifyFault as fault:
                logger.error(
                    "bridge_fault", reason=fault.reason, why=fault.why, errand=errand, detail=str(fault)
                )
                if errand is Errand.DIAL:
                    await self._amend(
                        call.sid, "", lambda bridge, now: conference.agent_over(bridge, "failed", now)
                    )
                elif errand is Errand.UNHOLD and fault.why == "gone":  # it was he who was to hear the room
                    await self._amend(call.sid, "", conference.deserted)
                else:
                    return

    async def _claimed(self, sid: str) -> tuple[Call, Errand] | None:
        key, now = books.call_key(sid), self._world.clock()

        def change(values: books.Values) -> Change[tuple[Call, Errand] | None]:
            call = values[key]
            if not isinstance(call, Call) or call.bridge is None:
                return Change(None)
            errand = conference.due(call.bridge, now)
            if errand is None:
                return Change(None)
            entries: tuple[Entry, ...] = ()
            call = replace(call, bridge=conference.claimed(call.bridge, errand, now))
            if errand is Errand.GIVE_UP:
                call, entry = aside.unreached(call, "late", now)
                entries = (entry,)
            return Change((call, errand), (_put(call, now),), entries)

        return await self._world.store.amend([key], change)

    async def _done(self, call: Call, errand: Errand) -> None:
        bridge, account = call.bridge, call.account_sid
        assert bridge is not None
        match errand:
            case Errand.DIAL:
                await self._dial(call, bridge)
            case Errand.GO_ON:
                url = _url(self._world, bridge.nonce)
                await self._insist(lambda it: it.lead(account, call.sid, url, deadline_s=TRY_DEADLINE_S))
            case Errand.UNHOLD:
                await self._unhold(call, bridge)
            case Errand.END:
                await self._insist(lambda it: it.hang_up(account, bridge.agent, deadline_s=TRY_DEADLINE_S))
            case Errand.GIVE_UP:  # pragma: no branch -- there are no other errands
                await self._as_before(call)  # he is taken for back already
        await self._amend(call.sid, bridge.id, lambda bridge, now: conference.done(bridge, errand, now))

    async def _unhold(self, call: Call, bridge: Bridge) -> None:
        """
        Let the agent hear the room. Raises `NotifyFault`, "gone" when he is not there: but a room of TaskRouter's he may have left to a
        colleague, and as long as it is not over the caller is not alone.
        """
        account, room = call.account_sid, self._room(call, bridge)
        try:
            await self._insist(lambda it: it.unhold(account, room, bridge.agent, deadline_s=TRY_DEADLINE_S))
        except NotifyFault as fault:
            if not bridge.theirs or fault.why != "gone":
                raise
            if not await self._insist(lambda it: it.room_runs(account, room, deadline_s=TRY_DEADLINE_S)):
                raise

    async def _dial(self, call: Call, bridge: Bridge) -> None:
        held = Held.unpacked(self._world.unseal(bridge.held, f"bridge/{call.sid}"))
        keys = self._world.keys.with_naming(call.naming)
        invitation = Invitation(
            room=room_of(keys, bridge),
            to=held.to,
            from_=held.from_,
            token=held.token,
            ring_s=held.dialling.ring_s,
            status_url=_url(self._world, f"leg/{bridge.id}"),
            label=AGENT,
            url=_url(self._world, f"agent/{bridge.id}") if bridge.screened else "",
            user=held.dialling.user,
            password=held.dialling.password,
        )
        account = call.account_sid
        leg = await self._insist(lambda it: it.invite(account, invitation, deadline_s=TRY_DEADLINE_S))
        kept = await self._amend(call.sid, bridge.id, lambda bridge, _: conference.named(bridge, leg))
        if kept is None or kept.bridge is None or kept.bridge.agent != leg:
            await self._quietly(call, lambda it: it.hang_up(account, leg, deadline_s=TRY_DEADLINE_S))

    async def _insist(self, ask: Callable[[Conferences], Awaitable[T]]) -> T:
        """Ask, and ask again for what may go better then. Raises `NotifyFault` when it did not."""
        if self._world.conferences is None:
            raise NotifyFault("no account is set up to dial agents with", why="not_set_up")
        for nth in range(TRIES_MAX):
            try:
                return await ask(self._world.conferences)
            except NotifyFault as fault:
                if fault.why not in _AGAIN or nth + 1 == TRIES_MAX:
                    raise
            spread = 0.5 + self._world.chance(1)[0] / 255
            await self._world.wait(PAUSE_S * 2**nth * spread)
        raise AssertionError  # pragma: no cover -- the last try returns or raises

    async def _quietly(self, call: Call, ask: Callable[[Conferences], Awaitable[None]]) -> None:
        try:
            await self._insist(ask)
        except NotifyFault as fault:
            logger.error("bridge_fault", reason=fault.reason, why=fault.why, call=call.sid, detail=str(fault))

    def _room(self, call: Call, bridge: Bridge) -> str:
        return bridge.conference or room_of(self._world.keys.with_naming(call.naming), bridge)

    async def _amend(
        self, sid: str, bridge_id: str, change: Callable[[Bridge, int], Bridge | None]
    ) -> Call | None:
        """Change the call's bridge if it is this one (""; whichever it is); the call, or None when nothing may be."""
        key, now = books.call_key(sid), self._world.clock()

        def changed(values: books.Values) -> Change[Call | None]:
            call = values[key]
            if not isinstance(call, Call) or call.bridge is None or bridge_id not in {"", call.bridge.id}:
                return Change(None)
            bridge = change(call.bridge, now)
            if bridge is None or bridge == call.bridge:
                return Change(None if bridge is None else call)
            entries: tuple[Entry, ...] = ()
            if bridge.stage is Stage.TALKING and call.bridge.stage is Stage.RINGING:
                entries = (entry_of(call, "bridge_joined", now, "answered"),)
            call = replace(call, bridge=bridge)
            return Change(call, (_put(call, now),), entries)

        return await self._world.store.amend([key], changed)

    # ── the button ───────────────────────────────────────────────────────────────────────────────────────

    async def aside(self, agent: Agent, call_sid: str, factor: str) -> Denied | Call | None:
        """
        The caller is led aside to a question for `factor` ("": the next one needed): the call, on whose bridge it stands how that goes;
        or why not. None for whoever does not hold the call. Raises `core.errors.Fault` when the store cannot say.
        """
        self._world.refuse_unrecorded()
        found = await asked_for(self._world, agent, call_sid)
        if found is None:
            return None
        flow, leg_key = self._world.as_it_is_now(found.mounted), books.leg_key(found.legs[-1].id)
        theirs = await self._tasks.room_of(flow, found)
        key, now, nonce = books.call_key(call_sid), self._world.clock(), self._world.nonce()
        later = later_legs(found)

        def change(values: books.Values) -> Change[Denied | Call | None]:
            call, leg = values[key], values[leg_key]
            still = isinstance(call, Call) and call.legs == found.call.legs and not passed_on(values, later)
            if not still or not isinstance(call, Call) or not isinstance(leg, Leg) or not holds(agent, leg):
                return Change(None)
            begun = (
                theirs
                if isinstance(theirs, Denied)
                else aside.begin(flow, call, leg, factor, nonce, now, found=theirs)
            )
            if isinstance(begun, Denied):
                entry = entry_of(call, "authn_aside_denied", now, begun.value, agent=agent.name)
                return Change(begun, (), (entry,))
            asked = aside.asked_of(begun)
            entry = entry_of(begun, "authn_aside", now, "asked", agent=agent.name, factor=asked)
            return Change(begun, (_put(begun, now),), (entry,))

        begun = await self._world.store.amend([key, leg_key, *later], change)
        if isinstance(begun, Call):
            self._background.start(self._lead_aside(begun, nonce))
        elif begun is Denied.ASIDE:
            self.attend(call_sid)  # or on his way there, for too long
        return begun

    async def _as_before(self, call: Call) -> None:
        """The caller is in TaskRouter's room still: it ends with him again, if it did."""
        bridge, account = call.bridge, call.account_sid
        if bridge is not None and bridge.theirs and bridge.ends:
            await self._quietly(
                call,
                lambda it: it.ends_room(
                    account, bridge.conference, call.sid, ends=True, deadline_s=TRY_DEADLINE_S
                ),
            )

    async def _lead_aside(self, call: Call, nonce: str) -> None:
        """Lead the caller to the question, and let the agent hear music; or, if he cannot be led, leave all as it was."""
        account, bridge, url = call.account_sid, call.bridge, _url(self._world, nonce)
        assert bridge is not None
        try:
            if bridge.theirs and bridge.ends:
                await self._insist(
                    lambda it: it.ends_room(
                        account, bridge.conference, call.sid, ends=False, deadline_s=TRY_DEADLINE_S
                    )
                )
            await self._insist(lambda it: it.lead(account, call.sid, url, deadline_s=TRY_DEADLINE_S))
        except Fault as fault:
            why = fault.why if isinstance(fault, NotifyFault) else fault.reason
            logger.error("aside_not_reached", reason=fault.reason, why=why, detail=str(fault))
            await self._unreached(call.sid, nonce, why)
            await self._as_before(call)
            return
        mounted = await self._world.flow_of(call)
        ours = bool(bridge.theirs) or (mounted is not None and bool(mounted.flow.hold_music))
        music = _url(self._world, f"wait/{bridge.id}") if ours else ""
        room = self._room(call, bridge)
        await self._quietly(
            call, lambda it: it.hold(account, room, bridge.agent, music, deadline_s=TRY_DEADLINE_S)
        )
        await self._amend(call.sid, bridge.id, lambda bridge, _: replace(bridge, holding=True))
        self.attend(call.sid)  # he may be back already

    async def _unreached(self, sid: str, nonce: str, why: str) -> None:
        key, now = books.call_key(sid), self._world.clock()

        def change(values: books.Values) -> Change[None]:
            call = values[key]
            if (
                not isinstance(call, Call)
                or call.bridge is None
                or (call.bridge.stage, call.bridge.aside) != (Stage.LEADING, nonce)
            ):
                return Change(None)
            call, entry = aside.unreached(call, why, now)
            return Change(None, (_put(call, now),), (entry,))

        await self._world.store.amend([key], change)


def _put(call: Call, now_ms: int) -> Put:
    return Put(books.call_key(call.sid), call, now_ms + books.CALL_KEPT_S * 1000, call.began_ms)
