"""
One webhook of a caller's leg, from the event to the answer: read, step, do, remember.

The laws of this file:

1. A turn is one `amend`: `core.call.step` runs inside it, on the call as it is at that moment.
2. What the world answers to a move goes back in as the next event; at most `ROUNDS_MAX` of them.
3. Every hop to the IVR is a request of its own to the rules: a redirect leads nowhere that a caller may not go.
4. The answer is sealed and kept with the call in the act that ends the webhook, so that the same webhook
   coming again is answered as before; one that says that a code was sent, once it was. What must stand still while a secret is keyed is paused after that act and
   before the answer goes out, each time that it goes out (recordings.py).
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hmac import compare_digest
from urllib.parse import urlsplit

from ivrguard import log
from ivrguard.core import admission, aside, conference
from ivrguard.core import call as calls
from ivrguard.core.assurance import Freshness, amr, authenticated_ms, reached
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call, Event, Step
from ivrguard.core.demands import asked_of, missing
from ivrguard.core.errors import Busy, Fault, NotifyFault, OutOfSight, UpstreamFault
from ivrguard.core.flow import Flow, Recording
from ivrguard.core.rules import Target, Visit, decide
from ivrguard.core.step import step as step_of
from ivrguard.core.values import replace
from ivrguard.guard import books, proving, recordings, side_door
from ivrguard.guard.background import Background
from ivrguard.guard.conference import Held, action_of, caller_document, held_of
from ivrguard.guard.requests import Hook, about, asked_for_more, incoming, led_on, packed, unpacked
from ivrguard.guard.words import neutral, rendered
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Change, Key, Put, Reply, Request, Right
from ivrguard.telephony import bridging, document, twiml
from ivrguard.telephony.delivery import Delivery
from ivrguard.telephony.links import Inward, Kind, resolve

ROUNDS_MAX = 20
"""Turns in one webhook: three, the IVR's redirects, and what it may ask for; more is a circle."""

REDIRECTS_MAX = 10
"""As many as Twilio itself follows (error 11215)."""

IVR_DEADLINE_S = 10.0
ASSERTION_VALID_S = 60

logger = log.get()


@dataclass(frozen=True, slots=True)
class Answer:
    """TwiML for the caller's leg, and what became of the webhook (a metric's label)."""

    body: bytes = field(repr=False)
    outcome: str


class Conflict(Exception):
    """The call changed between reading and amending: look again."""


def ended(call: Call, delivery: Delivery, now_ms: int) -> tuple[Call, tuple[Entry, ...]]:
    """The call, over if the delivery says so, and the record of that: the first one to say it makes it."""
    if not delivery.over or call.ended_ms is not None:
        return call, ()
    entry = Entry(now_ms, "session_ended", call.sid, call.ref, delivery.call_status)
    call, left = aside.left(replace(call, ended_ms=now_ms), now_ms)
    return call, (*left, entry)


def _to_send(step: Step) -> calls.Sent | None:
    """The code that goes out with this step; none to who is not there any more to key it."""
    move = step.move
    if not isinstance(move, calls.Ask) or not move.for_real or step.call.ended_ms is not None:
        return None
    return move.send


def _awaited(step: Step) -> calls.Sent | None:
    """The code that must be taken by the carrier before anybody is told of it: one for who has proved something."""
    return _to_send(step) if step.call.proofs else None


class Webhook:
    """One webhook being answered. Lives no longer than that; it is where the digits are."""

    def __init__(
        self,
        world: World,
        background: Background,
        hook: Hook,
        mounted: Mounted,
        call: Call,
        *,
        inward: Inward | None,
        new: bool,
        led: document.Document | None = None,
    ) -> None:
        self._world = world
        self._keys_of_call = world.keys.with_naming(call.naming)
        self._background = background
        self._hook = hook
        self._mounted = mounted
        self._inward = inward
        self._flow: Flow = world.as_it_is_now(mounted)
        self._call = call
        self._new = new
        self._led = led
        self._quiet = False
        self._digits = hook.delivery.digits or ""
        self._request: Request | None = None
        self._cookies: str | None = None
        self._carry: document.Carry | None = None
        self._cut_index = 0
        self._hops = 0
        self.moved: str | None = None
        """The call whose bridge this webhook changed; None: none was."""

    async def run(self, *, again: bool) -> Answer:
        """Answer it. `again`: the call has taken it before, but the answer was lost."""
        if self._led is not None and self._call.question is None:
            replied = await self._replied(self._led, 0)
            return await self._finish(replied, self._led, "led", take=not again)
        event = await self._first_event(again=again)
        if event is None:
            return Answer(neutral(), "stale")
        return await self._rounds(event, take=not again)

    async def _rounds(self, event: Event, *, take: bool) -> Answer:
        """From an event to the answer. `take`: whether this webhook is taken with it, or was before."""
        for _ in range(ROUNDS_MAX):
            step, answer = await self._turn(event, take=take)
            take = False
            if answer is not None:
                return await self._send(step, answer)
            match step.move:
                case calls.Judge() as judge:
                    event = await self._judge(judge)
                case calls.ChangePin():
                    event = await self._change_pin()
                case calls.Forward(held, intent):
                    if held:
                        self._request = self._unseal_request(held)
                    event, document_ = await self._forward(intent)
                    if document_ is not None:
                        return await self._finish(event, document_, "forwarded")
                case calls.Transfer(held, leg, bridge):
                    opened = self._open(held, leg.id) if bridge else None
                    if opened is not None:
                        return await self._out(*opened, "bridged")
                    event, document_ = await self._connect(held, leg.id)
                    return await self._finish(event, document_, "transfer")
                case calls.Rejoin(bridge):
                    replied = calls.Replied(bridge=bridge)
                    return await self._out(replied, self._room(bridge, again=True), "rejoined")
                case calls.ComeBack(bridge):
                    event, document_ = await self._come_back(bridge)
                    if document_ is not None:
                        return await self._finish(event, document_, "came_back")
                case _:  # pragma: no cover -- every other move has an answer of its own
                    raise AssertionError(step.move)
        raise UpstreamFault("the IVR leads in a circle")

    async def repeated(self, call: Call) -> Answer:
        """The answer that this webhook got before. `call`: as it is now."""
        assert call.last is not None
        self._call, self._new = call, False
        answer = self._unseal(call.last.answer, "answer")
        instead = await self._quieted(call, answer, kept=True)
        if instead is None:
            return Answer(answer, "repeated")
        return await self._rounds(instead, take=False)

    # ── read ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _first_event(self, *, again: bool) -> Event | None:
        call, nonce = self._call, self._world.nonce()
        if self._led is not None:  # he is being asked: what he keys for the guard must not reach the IVR
            return calls.Answered(calls.Keyed.REPEAT, nonce)
        if self._inward is not None:
            self._request = incoming(self._hook, self._inward)
            visit = self._visit(self._inward.path, self._request.method, self._hook.delivery.digits)
            return calls.Arrived(visit, "", nonce, again)  # sealed in the turn, if it is to wait
        question, pending, bridge = call.question, call.pending, call.bridge
        if bridge is not None and bridge.leads_on(self._hook.nonce):
            return calls.CameBack()
        if question is not None and question.nonce == self._hook.nonce:
            return await self._answered(question, nonce)
        if pending is not None and (again or pending.nonce == self._hook.nonce):
            return calls.Resumed(nonce, again)
        return calls.Strayed() if bridge is not None and bridge.live else None

    async def _answered(self, question: calls.Question, nonce: str) -> Event:
        if question.held and not self._digits:
            self._digits = self._unseal(question.held, "keys").decode()
        looks, digits = calls.keyed(self._flow, self._call, self._digits), self._digits.removesuffix("#")
        if looks is calls.Keyed.LANGUAGE:
            return calls.Answered(
                looks, nonce, language=calls.chosen_language(self._flow, self._call, digits)
            )
        if looks is not calls.Keyed.FITTING or question.factor:
            return calls.Answered(looks, nonce)
        match question.about:
            case calls.About.ACCOUNT:
                return calls.Answered(looks, nonce, await self._find(digits))
            case calls.About.NEW_PIN:
                return calls.Answered(looks, nonce, held=self._seal(digits.encode(), "new_pin"))
            case _:  # once more
                first = self._unseal(question.chosen, "new_pin")
                return calls.Answered(looks, nonce, same=compare_digest(first, digits.encode()))

    async def _find(self, digits: str) -> calls.Found:
        return await proving.find(self._world, self._flow, self._call, digits)

    def _visit(self, path: str, method: str, digits: str | None, transfer: Target | None = None) -> Visit:
        local = datetime.fromtimestamp(self._world.clock() / 1000, UTC).astimezone(self._mounted.zone)
        minute = local.hour * 60 + local.minute
        return Visit(path, method, self._call.dialled, local.weekday(), minute, digits, transfer)

    def holds(self, inward: Inward, request: Request) -> bool:
        """Whether the call holds now what this request needs, with no question asked."""
        visit = self._visit(inward.path, request.method, dict(request.params).get("Digits"))
        what, demand = asked_of(self._flow, visit)
        held = missing(self._flow, self._call, demand, 0, self._world.clock()) == ()
        return held and what is calls.What.REQUEST

    # ── step ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _turn(
        self, event: Event, *, take: bool, document_: bytes | None = None, kept: bool = True
    ) -> tuple[Step, bytes | None]:
        """One amendment: the step, and the answer if it is the webhook's last; `kept`, for when the webhook comes again."""
        now = self._world.clock()  # one moment for choosing the keys and for deciding
        keys = self._keys(event, now)
        key, basis = books.call_key(self._call.sid), self._call

        def change(values: books.Values) -> Change[tuple[Step, bytes | None] | None]:
            stored = values[key]
            base = stored if isinstance(stored, Call) else (basis if self._new and take else None)
            if base is None or not self._still(base, basis, take=take):
                return Change(None)
            if take:
                turn = self._inward.turn if self._inward is not None else base.turn
                base = admission.remember(base, self._hook.fingerprint, turn, self._world.node, now)
            base, over = ended(base, self._hook.delivery, now)
            if self._cookies is not None:
                base = replace(base, cookies=self._cookies)
            before = books.books_of(self._flow, self._prospect(base, event), values)
            step = step_of(self._flow, base, before, self._held(base, event, now), now)
            answer = document_ if document_ is not None else self._rendered(step)
            step = replace(step, entries=(*over, *step.entries))
            return self._change(step, before, answer, values, now, kept=kept and _awaited(step) is None)

        result = await self._world.store.amend(keys, change)
        if result is None:
            raise Conflict
        self._new = False
        if result[0].call.bridge != basis.bridge:
            self.moved = basis.sid
        self._call = result[0].call
        return result

    def _held(self, call: Call, event: Event, now: int) -> Event:
        """A request that must wait for proofs is sealed; most go on at once."""
        if not isinstance(event, calls.Arrived):
            return event
        assert self._request is not None
        _, demand = asked_of(self._flow, event.visit)
        if missing(self._flow, call, demand, call.turn, now) == ():
            return event
        return replace(event, held=self._seal_request(self._request))

    def _still(self, stored: Call, basis: Call, *, take: bool) -> bool:
        """Whether the call is where it was when the event was made: an agent who passes it on makes a turn, and takes no webhook."""
        here = (stored.account, stored.question, stored.pending)
        taken = stored.last is not None and stored.last.fingerprint == self._hook.fingerprint
        same = stored.turn == basis.turn if take else taken
        return same and here == (basis.account, basis.question, basis.pending)

    def _prospect(self, call: Call, event: Event) -> Call:
        """The call whose books this event concerns: after a claim, the one claimed."""
        if isinstance(event, calls.Answered) and event.found is not None:
            return calls.claim(self._flow, call, event.found)
        return call

    def _keys(self, event: Event, now: int) -> list[Key[object]]:
        keys: list[Key[object]] = [books.call_key(self._call.sid)]
        if isinstance(event, calls.Replied | calls.Pausing):
            return keys
        if isinstance(event, calls.Arrived):
            _, demand = asked_of(self._flow, event.visit)
            if missing(self._flow, self._call, demand, self._call.turn, now) == ():
                return keys
        keys.extend(books.account_keys(self._flow, self._prospect(self._call, event)))
        pending = self._call.pending
        if (
            pending is not None
            and pending.what is calls.What.TRANSFER
            and not isinstance(event, calls.Arrived)
        ):
            keys.extend(books.leg_keys(self._keys_of_call, self._call, pending.nonce))
        return keys

    def _change(
        self,
        step: Step,
        before: calls.Books,
        answer: bytes | None,
        values: books.Values,
        now: int,
        *,
        kept: bool,
    ) -> Change[tuple[Step, bytes | None] | None]:
        call = step.call
        puts = list(books.puts_of(self._flow, call, before, step.books, now))
        if isinstance(step.move, calls.Transfer):
            minted = books.leg_puts(self._keys_of_call, step.move.leg, values, now)
            if minted is None:
                raise Fault("every whisper code drawn for this transfer is taken; the caller may try again")
            puts.extend(minted)
        if answer is not None and kept:
            call = admission.answered(call, self._hook.fingerprint, self._seal(answer, "answer"))
            step = replace(step, call=call)
        puts.append(Put(books.call_key(call.sid), call, now + books.CALL_KEPT_S * 1000, call.began_ms))
        return Change((step, answer), tuple(puts), step.entries)

    # ── do ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _judge(self, move: calls.Judge) -> Event:
        nonce, digits = self._world.nonce(), self._digits.removesuffix("#")
        try:
            verdict = await proving.judge(self._world, self._flow, self._call, move, digits)
        except Busy:
            return calls.Waits(self._seal(self._digits.encode(), "keys"), nonce)
        except Fault as fault:
            logger.error("judge_fault", reason=fault.reason, detail=str(fault), factor=move.factor)
            return calls.Judged(None, nonce, out_of_sight=isinstance(fault, OutOfSight))
        if isinstance(verdict, Right):
            return calls.Judged(True, nonce, verdict.step)
        return calls.Judged(False, nonce)

    async def _change_pin(self) -> Event:
        digits, now, nonce = self._digits.removesuffix("#"), self._world.clock(), self._world.nonce()
        try:
            if self._world.pins is None:
                raise Fault(
                    "the directory that is set up cannot change a PIN; take `pin_change` out of the flow"
                )
            changed = await self._world.pins.change(self._call.account, digits, now_ms=now)
        except Fault as fault:
            logger.error("pin_change_fault", reason=fault.reason, detail=str(fault))
            return calls.PinChanged(None, nonce, out_of_sight=isinstance(fault, OutOfSight))
        return calls.PinChanged(changed, nonce)

    async def _forward(self, intent: str) -> tuple[Event, document.Document | None]:
        """One hop to the IVR: its document, or the event that its redirect or its 401 makes."""
        assert self._request is not None
        request = self._request
        cookies = self._unseal(self._call.cookies, "cookies").decode() if self._call.cookies else ""
        reply = await self._world.ivr.fetch(
            request, assertion=self._assertion(intent, request), cookies=cookies, deadline_s=IVR_DEADLINE_S
        )
        if reply.cookies != cookies:
            self._cookies = self._seal(reply.cookies.encode(), "cookies")
        if reply.location is not None:
            return self._redirected(request, reply), None
        more = asked_for_more(reply)
        if more is not None:
            acr_values, max_age_s = more
            held = self._seal_request(request)
            return calls.AskedForMore(acr_values, max_age_s, held, self._world.nonce()), None
        if not 200 <= reply.status < 300:
            raise UpstreamFault(f"the IVR answered {reply.status} to {urlsplit(request.url).path}")
        with about(reply.url):
            read = document.read(reply.body, reply.content_type, reply.url)
        return await self._replied(read, 0), read

    def _redirected(self, request: Request, reply: Reply) -> Event:
        """A redirect is a new request, to the rules as well."""
        self._hops += 1
        if self._hops > REDIRECTS_MAX:
            raise UpstreamFault(f"the IVR redirected {self._hops} times; {REDIRECTS_MAX} are followed")
        with about(reply.url):
            inward, self._request = led_on(self._mounted.links, request, reply)
        visit = self._visit(inward.path, self._request.method, dict(self._request.params).get("Digits"))
        return calls.Arrived(visit, "", self._world.nonce())

    def _open(self, held: str, leg: str) -> tuple[calls.Replied, bytes] | None:
        """The transfer in a room of the guard's, and the caller's way into it; None where only the provider can carry it out."""
        base, body = json.loads(self._unseal(held, "rest"))
        read = document.read(body.encode(), "text/xml", base)
        found = bridging.dialling(read.rest(0), base)
        if isinstance(found, bridging.Unfit) or self._world.conferences is None:
            why = found.why if isinstance(found, bridging.Unfit) else "no account"
            logger.error(
                "not_bridged",
                detail=why,
                hint="docs/blind.md: what a bridge can carry; it is an ordinary transfer now",
            )
            return None
        kept = held_of(
            self._call,
            self._mounted.links,
            found,
            token=books.token_of(self._keys_of_call, leg),
            call_token=dict(self._hook.delivery.params).get("CallToken", ""),
            base=base,
            rest=read.rest(1),
        )
        bridge = conference.Bridge(
            leg,
            self._world.nonce(),
            self._seal(kept.packed(), "bridge"),
            since_ms=self._world.clock(),
            screened=found.kind == "number" or bool(kept.whisper),
            ring_s=found.ring_s,
        )
        return calls.Replied(bridge=bridge), self._room(bridge, again=False)

    def _room(self, bridge: conference.Bridge, *, again: bool) -> bytes:
        return caller_document(self._world, self._keys_of_call, self._flow, self._call, bridge, again=again)

    async def _come_back(self, bridge: conference.Bridge) -> tuple[Event, document.Document | None]:
        """On in the IVR: what its `<Dial>` asks for, as a request like any other, or what follows it."""
        if bridge.theirs:  # nothing follows: the IVR heard when he left its queue
            read = document.read(twiml.response(), "text/xml", self._flow.upstream.url)
            return await self._replied(read, 0), read
        kept = Held.unpacked(self._unseal(bridge.held, "bridge"))
        if kept.dialling.action:
            told = conference.outcome(bridge, self._world.clock())
            inward, request = action_of(self._mounted.links, kept, self._hook.delivery.params, told)
            self._request = replace(request, headers=self._hook.headers)
            visit = self._visit(inward.path, request.method, dict(request.params).get("Digits"))
            return calls.Arrived(visit, "", self._world.nonce()), None
        read = document.read(kept.rest.encode(), "text/xml", kept.base)
        return await self._replied(read, 0), read

    async def _connect(self, held: str, leg: str) -> tuple[Event, document.Document]:
        """The transfer goes on, with its token; the next protected one in the rest waits its turn."""
        base, body = json.loads(self._unseal(held, "rest"))
        read = document.read(body.encode(), "text/xml", base)
        self._carry = document.Carry(0, books.token_of(self._keys_of_call, leg), self._url(f"whisper/{leg}"))
        return await self._replied(read, 1), read

    async def _replied(self, read: document.Document, first: int) -> calls.Replied:
        """What of the document, from element `first` on, needs something, and what anybody may be connected to before it."""
        cut = await self._cut(read, first)
        written = [site for site in read.transfers if cut is None or site.index < self._cut_index]
        to = self._hook.delivery.to
        await side_door.met(self._world, self._call, to, [each for site in written for each in site.targets])
        open_ = (site for site in written if site.index >= first)
        unguarded = dict.fromkeys(str(target) for site in open_ for target in site.targets)
        return calls.Replied(cut, unguarded=tuple(unguarded))

    async def _cut(self, read: document.Document, first: int) -> calls.Cut | None:
        """The first protected transfer at or after element `first`: what it wants, and the rest, sealed."""
        for site in read.transfers:
            if site.index < first:
                continue
            targets = (*site.targets, *await side_door.waiting(self._world, self._call, site.targets))
            visits = [self._visit("", "", None, target) for target in targets]
            demands = tuple(decide(self._flow.rules, self._flow.default, visit)[0] for visit in visits)
            wanted = tuple(dict.fromkeys(demand for demand in demands if demand.require is not None))
            if wanted:
                self._cut_index = site.index
                rest = json.dumps([read.base, read.rest(site.index).decode()]).encode()
                queues = tuple(str(target) for target in targets)
                carriers = tuple(sorted(read.carriers(site.index)))
                held = self._seal(rest, "rest")
                whispers = self._whispers(read, site.index)
                return calls.Cut(wanted, held, queues, carriers, whispers, self._world.nonce())
        return None

    def _whispers(self, read: document.Document, index: int) -> tuple[tuple[str, str], ...]:
        links, turn = self._mounted.links, self._call.turn
        return tuple(
            (own.target.value, links.outward(own.url, kind=Kind.W, method=own.method, turn=turn))
            for own in read.own_whispers(index)
        )

    async def _finish(
        self, event: Event, read: document.Document, outcome: str, *, take: bool = False
    ) -> Answer:
        """Rewrite the IVR's document and send it out, remembered; `take`: at the turn that this webhook makes."""
        assert isinstance(event, calls.Replied)
        cut = None
        if event.cut is not None:
            cut = document.Cut(self._cut_index, self._url(event.cut.nonce))
        with about(read.base):
            turn = self._call.turn + take
            written = read.write(self._mounted.links, turn=turn, cut=cut, carry=self._carry)
        return await self._out(event, written, outcome, take=take)

    async def _out(self, event: calls.Replied, written: bytes, outcome: str, *, take: bool = False) -> Answer:
        """A document goes out, remembered; recordings run on first."""
        event = replace(event, resumed=await recordings.resumed(self._world, self._call))
        _, answer = await self._turn(event, take=take, document_=written)
        assert answer is not None
        return Answer(answer, outcome)

    def _rendered(self, step: Step) -> bytes | None:
        """The guard's own words for a move, or None when the move is not the last of this webhook."""
        asked = step.call.question
        goes_on_at = ""
        if isinstance(step.move, calls.GoOn):
            url = resolve(self._flow.upstream.url, step.move.path)
            goes_on_at = self._mounted.links.outward(url, kind=Kind.T, method="POST", turn=step.call.turn)
        answer_to = self._url(asked.nonce) if asked is not None else ""
        return rendered(self._flow, step.call, step.move, answer_to=answer_to, goes_on_at=goes_on_at)

    async def _send(self, step: Step, answer: bytes) -> Answer:
        """What belongs to the step and is not in the answer: recordings, messages. Then the answer."""
        move = step.move
        if step.tell:
            told = proving.tell_owner(self._world, self._flow, step.call, step.tell)
            self._background.start(told)
        if isinstance(move, calls.Refuse) and move.dial is not None:  # somebody will speak with the caller
            await recordings.resumed(self._world, step.call)
        kept = _awaited(step) is None
        instead = await self._quieted(step.call, answer, kept=kept) or await self._coded(step, answer)
        if instead is None:
            return Answer(answer, type(move).__name__.lower())
        return await self._rounds(instead, take=False)

    async def _quieted(self, call: Call, answer: bytes, *, kept: bool) -> Event | None:
        """
        Recordings stand still before a secret is asked for. Where they do not, and must: the event of that.

        `kept`: whether `answer` is the answer already, or a code must be taken first.
        """
        if self._flow.recording is Recording.IGNORE or self._quiet or not calls.asks_secret(call):
            return None
        self._quiet = True

        async def remember(found: tuple[str, ...]) -> None:
            await self._turn(calls.Pausing(found), take=False, document_=answer, kept=kept)

        quiet = await recordings.quieted(self._world, call, remember)
        if quiet or self._flow.recording is not Recording.MUST_PAUSE:
            return None
        return calls.Recorded(self._world.nonce())

    async def _coded(self, step: Step, answer: bytes) -> Event | None:
        """The step's code on its way; the event of its not being taken."""
        call, awaited = step.call, _awaited(step)
        if awaited is None:
            sent = _to_send(step)
            if sent is not None:  # nobody may learn from the time it takes whether there was a message
                self._background.start(proving.send_unheard(self._world, self._flow, call, sent))
            return None
        try:
            await proving.send_code(self._world, self._flow, call, awaited)
        except NotifyFault as fault:
            logger.error("code_not_sent", reason=fault.reason, why=fault.why, detail=str(fault))
            return calls.Undelivered(awaited.factor, self._world.nonce(), fault.why)
        await self._turn(calls.Pausing(()), take=False, document_=answer)  # only now it is the answer
        return None

    # ── remember ─────────────────────────────────────────────────────────────────────────────────────────

    def _url(self, path: str) -> str:
        return f"{self._world.issuer}/.ivrguard/call/{path}"

    def _assertion(self, intent: str, request: Request) -> str:
        call, now = self._call, self._world.clock()
        levels = reached(self._flow.levels, call.proofs, Freshness(), now)
        parts = urlsplit(request.url)
        claims: dict[str, object] = {
            "iss": self._world.issuer,
            "aud": f"{parts.scheme}://{parts.netloc}",
            "acr": levels[0] if levels else "none",
            "amr": list(amr(call.proofs, Freshness(), now)),
            "call_sid": call.sid,
            "intent": intent,
            "jti": self._world.nonce(),
            "iat": now // 1000,
            "exp": now // 1000 + ASSERTION_VALID_S,
        }
        if call.proofs:  # an account that is only claimed is nobody's identity yet
            claims["sub"] = call.account
            claims["auth_time"] = authenticated_ms(self._flow.levels, call.proofs, Freshness(), now) // 1000
        return self._world.keys.sign(claims, typ="ivrguard-assertion+jwt")

    def _seal(self, plain: bytes, what: str) -> str:
        return self._world.keys.seal(plain, f"{what}/{self._call.sid}")

    def _unseal(self, sealed: str, what: str) -> bytes:
        return self._world.unseal(sealed, f"{what}/{self._call.sid}")

    def _seal_request(self, request: Request) -> str:
        return self._seal(packed(request), "request")

    def _unseal_request(self, held: str) -> Request:
        return unpacked(self._unseal(held, "request"))
