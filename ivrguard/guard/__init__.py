"""
The guard: read, step, do, remember. The one place where the floors meet.

The laws of this package:

1. It decides nothing. What is decided is decided by `core.call.step` and `core.handoff.redeem`, inside the
   store's `amend`: a decision, the state it belongs to and its record are one act.
2. It does the move that came out (webhook.py); what the world answers goes back in as the next event.
3. A fault lets nothing through: the caller gets an apology in TwiML, and the log gets the reason.
4. Webhooks of one call are answered one after the other; one that came before gets the answer it got then.
5. Digits live here for one webhook. What must wait longer is sealed first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from ivrguard import log
from ivrguard.core import admission
from ivrguard.core.agents import Agent
from ivrguard.core.call import Call, Told
from ivrguard.core.conference import Stage, due, outcome
from ivrguard.core.errors import Fault, StoreFault, UpstreamFault
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Desk
from ivrguard.core.passing import Why
from ivrguard.core.readback import Sending
from ivrguard.core.readback import Why as WhyNoCode
from ivrguard.core.rules import Target
from ivrguard.core.standing import Standing
from ivrguard.guard import books, held, passing, readback, side_door
from ivrguard.guard import desk as desks
from ivrguard.guard.background import Background
from ivrguard.guard.bypass import Bypasses
from ivrguard.guard.conference import Bridges, Held, action_of
from ivrguard.guard.held import HeldCall
from ivrguard.guard.requests import Hook, about, incoming, led_on, meant
from ivrguard.guard.webhook import REDIRECTS_MAX, Answer, Conflict, Webhook, ended
from ivrguard.guard.words import farewell, neutral, said
from ivrguard.guard.world import Flows, Mounted, World
from ivrguard.ports import Change, Leg, Put, Reply, Request
from ivrguard.telephony import document, twiml
from ivrguard.telephony.delivery import Delivery
from ivrguard.telephony.links import Inward, Kind, Refused, kind_of

__all__ = ["Answer", "Flows", "Guard", "HeldCall", "Hook", "Mounted", "World"]

CONFLICTS_MAX = 5

ENDS_KEPT_MAX = 10_000
"""Ends of calls that wait for the store in memory; the oldest go first."""

UNFINISHED_POLLS_MAX = 32
UNFINISHED_POLL_S = 0.25
"""How long a webhook waits for another node that is answering the same one: 8 s of Twilio's 15."""

CATCH_UP_S = 2.0
"""How long a server that ends tries to record the ends of calls that wait."""

PASS_DEADLINE_S = 8.0
WHISPER_TIMES = 2
WAIT_S = 10
"""Silence in a queue whose own document cannot be had."""

logger = log.get()


def told(fault: Refused | Fault) -> str:
    """Tell the operator what went wrong; the outcome to count it under."""
    if isinstance(fault, Refused):
        logger.error("document_refused", reason=fault.reason, detail=fault.detail)
        return "upstream_refused"
    logger.error("fault", reason=fault.reason, detail=str(fault))
    return f"fault_{fault.reason}"


@dataclass(slots=True)
class _Line:
    """The lock of one call on this node, and how many hold or want it."""

    lock: asyncio.Lock
    users: int = 0


def words(mounted: Mounted | None, *names: str) -> bytes:
    """Say these prompts of the flow's own language and hang up."""
    return farewell(mounted.flow.catalogue() if mounted is not None else None, *names)


def _known_to(flow: Flow, call: Call) -> bool:
    """Whether the flow has what this call's question is about: it may have begun with another version."""
    factors = {call.question.factor} - {""} if call.question is not None else set()
    demands = call.pending.demands if call.pending is not None else ()
    factors |= {
        demand.anew for demand in (call.pending.demands if call.pending is not None else ()) if demand.anew
    }
    levels = {level for demand in demands for level in (demand.require, demand.reverify) if level is not None}
    return factors <= flow.factors.keys() and levels <= flow.levels.keys()


class Guard:
    """Answers the webhooks of calls and redeems tokens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._lines: dict[str, _Line] = {}
        self._background = Background()
        self.bridges = Bridges(world, self._background)
        self._bypasses = Bypasses(world, world.tell)
        self._ends: dict[str, Delivery] = {}
        self._catching_up = asyncio.Lock()

    async def drain(self) -> None:
        """Wait for the messages that are on their way, and record what is still to be recorded."""
        await self._background.drain()
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self.catch_up()
        except TimeoutError:  # a store that does not answer must not keep a server from ending
            logger.error(
                "fault", reason="store", count=len(self._ends), hint="ends of calls are not on record"
            )

    # ── the caller's leg ─────────────────────────────────────────────────────────────────────────────────

    async def voice(self, hook: Hook) -> Answer:
        """The answer to one webhook of a caller's leg. A fault becomes an apology, never an exception."""
        self._listen(self.world.flows.dialled(hook.delivery.dialled), hook.delivery.params)
        try:
            self.world.refuse_unrecorded()
            async with self._line(hook.delivery.call_sid):
                return await self._voice(hook)
        except (Refused, Fault) as fault:
            return Answer(self.apology(hook.delivery, hook.target), told(fault))

    def _listen(self, mounted: Mounted | None, params: Sequence[tuple[str, str]]) -> None:
        """Whether the caller said what the flow listens for: a note, and nobody waits for what becomes of it."""
        if self.world.threats is not None and mounted is not None:
            self.world.threats.listen(mounted.flow, params)

    def apology(self, delivery: Delivery | None, target: str) -> bytes:
        """
        Words for a caller when something is down: in the flow's language when we know which flow.

        `target`: what was asked for. A caller who waits in a queue keeps his place: its document is asked for
        again when this one ends.
        """
        flows = self.world.flows
        mounted = (flows.dialled(delivery.dialled) if delivery else None) or flows.first()
        if mounted is not None and kind_of(target) is Kind.Q:
            return twiml.response(said(mounted.flow.catalogue(), "hold"), twiml.pause(WAIT_S))
        return words(mounted, "unavailable")

    @asynccontextmanager
    async def _line(self, sid: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(sid, _Line(asyncio.Lock()))
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[sid]

    async def _voice(self, hook: Hook) -> Answer:
        for _ in range(CONFLICTS_MAX):
            try:
                return await self._once(hook)
            except Conflict:
                continue
        raise StoreFault("a call kept changing under a webhook: two nodes answer it at once, again and again")

    async def _once(self, hook: Hook) -> Answer:
        flows = self.world.flows
        stored = await self.world.store.read(books.call_key(hook.delivery.call_sid))
        dialled = flows.dialled(hook.delivery.dialled)
        mounted = await self.world.flow_of(stored) if stored is not None else dialled
        if mounted is None:
            logger.error("no_flow", hint="no flow has this number or name: see `numbers` in the flow files")
            return Answer(words(flows.first(), "not_in_service"), "not_in_service")
        call = stored if stored is not None else self._new_call(hook, mounted)
        hook = hook.of(call)
        if hook.delivery.child or hook.delivery.account_sid != call.account_sid:
            logger.error("not_the_callers_leg", reason="child" if hook.delivery.child else "account")
            return Answer(words(mounted, "refused"), "not_the_callers_leg")
        if stored is None and hook.nonce is not None:
            return Answer(neutral(), "stale")
        if hook.nonce is not None and not _known_to(mounted.flow, call):
            logger.error(
                "flow_changed",
                flow=call.flow,
                hint="its factors or levels changed while this call asked for one",
            )
            return Answer(words(mounted, "unavailable"), "flow_changed")
        led = await side_door.document_of(self.world, hook) if hook.led is not None else None
        if hook.led is not None and led is None:
            return Answer(neutral(), "stale")
        asks = hook.nonce is None and led is None
        inward = mounted.links.inward(hook.target) if asks else None
        if inward is not None and inward.kind is Kind.Q:
            return await self._pass_on(hook, mounted, call, inward)
        if inward is not None and inward.kind is not Kind.T:
            raise Refused("link.mac", "not a link for a caller's leg")
        webhook = Webhook(
            self.world, self._background, hook, mounted, call, inward=inward, new=stored is None, led=led
        )
        match admission.admit(call, hook.fingerprint, inward.turn if inward is not None else call.turn):
            case admission.Admission.FRESH:
                return await self._run(webhook, again=False)
            case admission.Admission.REPEATED:
                return await webhook.repeated(call)
            case admission.Admission.STALE:
                return Answer(neutral(), "stale")
            case _:  # unfinished
                finished = await self._finished_elsewhere(call)
                return await (
                    self._run(webhook, again=True) if finished is None else webhook.repeated(finished)
                )

    async def _run(self, webhook: Webhook, *, again: bool) -> Answer:
        """Answer it, and have done what is due now for a room that the caller left or came back to."""
        answer = await webhook.run(again=again)
        if webhook.moved is not None:
            self.bridges.attend(webhook.moved)
        return answer

    async def _finished_elsewhere(self, call: Call) -> Call | None:
        """Another node is answering this very webhook, or died doing so: the call with the answer, or None to do it again."""
        assert call.last is not None
        if call.last.node == self.world.node:  # this node's line is free: whoever began it is gone
            return None
        for _ in range(UNFINISHED_POLLS_MAX):
            await asyncio.sleep(UNFINISHED_POLL_S)
            now = await self.world.store.read(books.call_key(call.sid))
            if now is None or now.turn != call.turn:
                raise Conflict
            if now.last is not None and now.last.answer:
                return now
        return None

    def _new_call(self, hook: Hook, mounted: Mounted) -> Call:
        delivery = hook.delivery
        if self.world.sensor is not None:
            self.world.sensor.called(mounted.flow)
        return Call(
            sid=delivery.call_sid,
            account_sid=delivery.account_sid,
            flow=mounted.flow.name,
            version=mounted.flow.version,
            caller=delivery.caller,
            dialled=delivery.dialled,
            attested=delivery.attested,
            notes=delivery.notes,
            naming=self.world.keys.named[0],
            began_ms=self.world.clock(),
            outbound=delivery.direction != "inbound",
            connected=(),
        )

    async def bridged(self, work: Awaitable[bytes], outcome: str) -> Answer:
        """The answer to what a bridge's own legs and room ask (conference.py). A fault ends their document."""
        try:
            return Answer(await work, outcome)
        except (Refused, Fault) as fault:
            return Answer(twiml.response(), told(fault))

    # ── other ears ───────────────────────────────────────────────────────────────────────────────────────

    async def whisper(self, leg_id: str, delivery: Delivery) -> Answer:
        """The code of a transfer, said to the agent's leg before the two are joined; then the IVR's own."""
        try:
            leg = await self.world.store.read(books.leg_key(leg_id))
            if leg is None or delivery.parent_call_sid != leg.call or leg.redeemed_ms is not None:
                return Answer(neutral(), "stale")
            call = await self.world.store.read(books.call_key(leg.call))
            code = await desks.whispered(self.world, call, leg_id) if call is not None else None
            mounted = await self.world.flow_of(call) if call is not None else None
        except Fault as fault:
            return Answer(twiml.response(), told(fault))
        if mounted is None or code is None:
            return Answer(twiml.response(), "stale")
        told_twice = [said(mounted.flow.catalogue(), "whisper", code=twiml.spelled(code))] * WHISPER_TIMES
        # The number as the IVR wrote it, or the only whisper there is: a number has more than one spelling.
        only = len(leg.whispers) == 1
        own = [twiml.redirect(url) for number, url in leg.whispers if only or number == delivery.to][:1]
        return Answer(twiml.response(*told_twice, *own), "whisper")

    async def callee(self, hook: Hook) -> Answer:
        """A whisper of the IVR's own, on the callee's leg: passed on, unless a caller's leg asks for it."""
        try:
            stored = await self.world.store.read(books.call_key(hook.delivery.call_sid))
            if stored is not None:
                return Answer(words(await self.world.flow_of(stored), "refused"), "not_the_callees_leg")
            parent, then = hook.delivery.parent_call_sid, ""
            call = await self.world.store.read(books.call_key(parent)) if parent is not None else None
            if call is None and (found := await self.bridges.call_of_agent(hook.delivery)) is not None:
                call, then = found
            mounted = await self.world.flow_of(call) if call is not None else None
            inward = mounted.links.inward_or_none(hook.target) if mounted is not None else None
            if call is not None and mounted is not None and inward is not None and inward.kind is Kind.W:
                return await self._pass_on(hook, mounted, call, inward, then=then)
            logger.error("not_the_callees_leg", reason="parent" if call is None else "link")
        except (Refused, Fault) as fault:
            return Answer(twiml.response(), told(fault))
        return Answer(twiml.response(), "callee_refused")

    async def _pass_on(
        self, hook: Hook, mounted: Mounted, call: Call, inward: Inward, *, then: str = ""
    ) -> Answer:
        """
        A document for other ears (wait music, a whisper): rewritten like any, and without transfers.

        Nobody can be asked anything there, and what it redirects to comes here as well. So the call (a whisper's:
        the one that it belongs to) must hold already what each path needs. Its links are of the call's turn as it
        is now: the same key pressed twice in a long wait is pressed twice. `then`: where the leg goes when the document has ended.
        """
        webhook = Webhook(self.world, self._background, hook, mounted, call, inward=inward, new=False)
        there, request = inward, incoming(hook, inward)
        for _ in range(REDIRECTS_MAX + 1):
            if not webhook.holds(there, request):
                raise Refused("link.level", there.path)
            reply = await self._fetch(request)
            if reply.location is None:
                with about(reply.url):
                    read = document.read(reply.body, reply.content_type, reply.url)
                    cut = document.Cut(document.ELEMENTS_MAX, then) if then else None
                    written = read.write(mounted.links, turn=call.turn, leg=inward.kind, cut=cut)
                    return Answer(written, "passed_on")
            there, request = led_on(mounted.links, request, reply)
        raise UpstreamFault(f"the IVR redirected more than {REDIRECTS_MAX} times")

    async def _fetch(self, request: Request) -> Reply:
        """A document or a redirect; everything else that the IVR may answer is a fault."""
        reply = await self.world.ivr.fetch(request, assertion="", cookies="", deadline_s=PASS_DEADLINE_S)
        if reply.location is None and not 200 <= reply.status < 300:
            raise UpstreamFault(f"the IVR answered {reply.status} to {urlsplit(request.url).path}")
        return reply

    async def notice(self, target: str, request: Request) -> None:
        """
        A status callback of the IVR's own: passed on, its reply thrown away.

        `request` holds everything but the URL, which the link names. A failure is logged, never answered.
        """
        try:
            for mounted in self.world.flows.all():
                inward = mounted.links.inward_or_none(target)
                if inward is not None and inward.kind is Kind.S:
                    self._listen(self.world.flows.named(mounted.flow.name), request.params)
                    reply = await self._fetch(meant(inward, request))
                    if reply.location is not None:
                        raise UpstreamFault("the IVR redirects a notice; name the URL that takes it")
                    return
            logger.error("notice_refused", reason="link.mac")
        except Fault as fault:
            logger.error("notice_lost", reason=fault.reason, detail=str(fault))

    def media(self, target: str) -> str | None:
        """The IVR's URL of a media link, or None if the link is not one of ours."""
        for mounted in self.world.flows.all():
            inward = mounted.links.inward_or_none(target)
            if inward is not None and inward.kind is Kind.M:
                return inward.url
        return None

    async def status(self, delivery: Delivery) -> None:
        """
        The call's own status callback: a call that is over has no tokens any more.

        A failure is logged, and the provider does not repeat it: the end is kept, and recorded when the store is back.
        """
        if not delivery.over:
            return
        if delivery.parent_call_sid is not None:
            leg = Leg(delivery.from_, delivery.to, delivery.direction, delivery.parent_call_sid)
            self._background.start(self._bypasses.told(leg.parent, delivery.call_sid, leg))
        try:
            await self._end(delivery)
        except Fault as fault:
            told(fault)
            self._ends.setdefault(delivery.call_sid, delivery)
            if len(self._ends) > ENDS_KEPT_MAX:
                del self._ends[next(iter(self._ends))]
        else:
            # One does it: messages with codes need their places in the background.
            if self._ends and not self._catching_up.locked():
                self._background.start(self.catch_up())

    async def catch_up(self) -> None:
        """Record the ends of calls that the store could not take when they came. A failure is logged, and they wait on."""
        async with self._catching_up:
            while self._ends:
                sid, delivery = next(iter(self._ends.items()))
                try:
                    await self._end(delivery)
                except Fault as fault:
                    told(fault)
                    return
                self._ends.pop(sid, None)

    async def _end(self, delivery: Delivery) -> None:
        """Keep and record that this call is over. Raises `Fault` when the store cannot take it."""
        key, now = books.call_key(delivery.call_sid), self.world.clock()

        def change(values: books.Values) -> Change[tuple[Call, Call] | None]:
            call = values[key]
            if not isinstance(call, Call) or call.account_sid != delivery.account_sid:
                return Change(None)
            over, entries = ended(call, delivery, now)
            puts = (Put(key, over, now + books.CALL_KEPT_S * 1000, call.began_ms),) if entries else ()
            return Change((call, over) if entries else None, puts, entries)

        done = await self.world.store.amend([key], change)
        if done is not None and self.world.watcher is not None:
            self._background.start(self._bypasses.ended(delivery.call_sid, self.world.watcher))
        if done is not None and done[1].bridge is not None:
            self.bridges.attend(delivery.call_sid)
            if done[0].bridge is not None and done[0].bridge.stage is Stage.ASIDE:
                self._background.start(self._hung_up_aside(done[1], delivery))

    async def _hung_up_aside(self, call: Call, delivery: Delivery) -> None:
        """The IVR is told what its `<Dial>` would have told it: nobody else does, as the caller had left the room."""
        bridge, mounted = call.bridge, await self.world.flow_of(call)
        assert bridge is not None
        if bridge.theirs:
            return
        held = Held.unpacked(self.world.unseal(bridge.held, f"bridge/{call.sid}"))
        if mounted is None or not held.dialling.action:
            return
        told = outcome(bridge, self.world.clock())
        inward, request = action_of(mounted.links, held, delivery.params, told)
        hook = Hook(delivery, "POST", "", b"", (), "")
        webhook = Webhook(self.world, self._background, hook, mounted, call, inward=None, new=False)
        if webhook.holds(inward, request):
            await self._fetch(request)

    # ── the agent's desk ─────────────────────────────────────────────────────────────────────────────────

    async def desk(self, key: str) -> Desk | None:
        """The desk that has this key, or None. Raises `Fault` when the store cannot say."""
        return await desks.desk_of(self.world, key)

    async def redeem(self, desk: Desk, presented: str, call_sid: str | None) -> desks.Receipt | None:
        """A receipt for a token, once; None for every token that is no good. Raises `Fault` as above."""
        self.world.refuse_unrecorded()
        return await desks.redeem(self.world, desk, presented, call_sid)

    async def ask_code(
        self, agent: Agent, call_sid: str, *, request: str, factor: str = ""
    ) -> Sending | WhyNoCode | None:
        """A code for the agent to ask the caller for (guard/readback.py). Raises as above."""
        return await readback.ask(
            self.world, self._background, agent, call_sid, request=request, factor=factor
        )

    async def answer_code(
        self, agent: Agent, call_sid: str, *, request: str, digits: str
    ) -> Told | WhyNoCode | None:
        """Whether what the caller read to the agent is that code. Raises as above."""
        return await readback.answer(
            self.world, self._background, agent, call_sid, request=request, digits=digits
        )

    async def pass_on(
        self, agent: Agent, call_sid: str, *, to: Target, intent: str, request: str
    ) -> passing.PassedOn | Why | None:
        """The caller for another agent (guard/passing.py). Raises as above."""
        return await passing.pass_on(self.world, agent, call_sid, to=to, intent=intent, request=request)

    async def name_account(self, agent: Agent, call_sid: str, digits: str) -> Why | HeldCall | None:
        """Whose account the caller speaks for, as he told the agent. Raises as above."""
        return await passing.name_account(self.world, agent, call_sid, digits)

    async def held(self, agent: Agent, call_sid: str) -> HeldCall | None:
        """The call, if this agent holds it; None, and on record, for every other one. Raises `Fault` as above."""
        return await held.asked_for(self.world, agent, call_sid)

    async def holding(self, agent: Agent) -> tuple[HeldCall, ...]:
        """The calls that this agent holds. Raises `Fault` as above."""
        return await held.holding(self.world, agent)

    async def seen(self, found: HeldCall) -> Standing:
        """How a call stands now that somebody holds. To be shown only after `look`. Raises `Fault` as above."""
        bridge = found.call.bridge
        if bridge is not None and due(bridge, self.world.clock()) is not None:
            self.bridges.attend(found.call.sid)
        return await held.seen(self.world, found)

    async def look(self, agent: Agent, found: HeldCall) -> int:
        """Have it on record that he looks at it; when that was recorded (ms). Raises `Fault` as above."""
        return await held.look(self.world, agent, found)
