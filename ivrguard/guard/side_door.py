"""
The REST side door: what the IVR asks Twilio's REST API to do with calls, held against the rules first.

The laws of this file:

1. What leads a caller elsewhere leads him to the guard. A `Url` becomes a link of his call, and is put to the rules when it is
   asked for. `Twiml` is kept, sealed, and the caller led to the guard, which answers with it as with any document of the
   IVR: rewritten at the turn that the call has by then, its protected transfers cut out.
2. Who is dialled into a conference in which a caller is stands with the transfers of that caller: what the rule wants
   must hold at that moment, and he gets a token. Here nobody can be asked anything, so a transfer that wants more is refused,
   and the answer says what is missing. The same holds for one whom the IVR calls and leads into it by a document; and a
   caller who is led into a conference is connected with all who are there (webhook.py).
3. While a caller is asked for a proof he is led nowhere else, and nothing begins to record or to stream his call: what he keys
   for the guard must not reach the IVR.
4. A call that the guard does not know is looked up at the provider. What no flow has is refused: nobody knows its rules.
5. What is decided is on record before the request is made. Where the store or the provider cannot say, nothing is done.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ivrguard.core import call as calls
from ivrguard.core import handoff
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.demands import missing
from ivrguard.core.rules import Demand, Target, Visit, decide
from ivrguard.core.values import replace
from ivrguard.guard import books
from ivrguard.guard.requests import Hook
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Change, Provider, Put
from ivrguard.telephony import document, rest
from ivrguard.telephony.links import Kind, Refused
from ivrguard.telephony.rest import Asked, Form, Unfit, What

_STANDING_STILL = frozenset({"paused", "stopped"})
"""What may become of a recording or a stream at any time."""

NO_CALL = ""
"""In place of a CallSid, for a call that is not placed yet."""


async def document_of(world: World, hook: Hook) -> document.Document | None:
    """
    The document that the IVR leads this call to; None: there is none of that name, or it is another call's.

    Raises `core.errors.Fault` as the store and the keys do.
    """
    assert hook.led is not None
    sealed = await world.store.read(books.led_key(hook.led))
    if sealed is None:
        return None
    sid, base, body = json.loads(world.unseal(sealed, f"led/{hook.led}"))
    if sid not in {NO_CALL, hook.delivery.call_sid}:
        return None
    return document.read(body.encode(), "text/xml", base)


@dataclass(frozen=True, slots=True)
class Room:
    """Who is in a conference: callers of this guard, and the others, as targets of a transfer."""

    callers: tuple[Call, ...] = ()
    others: tuple[Target, ...] = ()


async def room_of(world: World, provider: Provider, account_sid: str, conference: str) -> Room:
    """
    Who is in this conference now. Somebody whom the IVR called is a caller once he has named an account.

    Raises `core.errors.Fault` when nobody can say.
    """
    callers: list[Call] = []
    others: list[Target] = []
    for sid in await provider.members(account_sid, conference):
        call = await world.store.read(books.call_key(sid))
        if call is not None and call.account_sid == account_sid and (call.account or not call.outbound):
            callers.append(call)
        elif (leg := await provider.leg(account_sid, sid)) is not None:
            others.append(rest.target_of(leg.from_ if leg.direction == "inbound" else leg.to))
    return Room(tuple(callers), tuple(others))


async def waiting(world: World, call: Call, targets: Iterable[Target]) -> tuple[Target, ...]:
    """Who is in the conferences that these lead to: a caller who is led there is connected with each of them."""
    if call.outbound and not call.account:  # an agent, as far as anybody knows
        return ()
    rooms = [await _room(world, call, target) for target in targets]
    return tuple(dict.fromkeys(other for room in rooms for other in room.others))


async def met(world: World, call: Call, to: str, targets: Iterable[Target]) -> None:
    """
    One whom the IVR called (`to`) is led to these: for each caller who is there it is a transfer.

    Raises `Refused` when one of them has not proved enough, `core.errors.Fault` when nobody can say.
    """
    if not call.outbound:
        return
    for target in targets:
        for caller in (await _room(world, call, target)).callers:
            if caller.sid == call.sid:
                continue
            try:
                await handed_over(world, caller, rest.target_of(to))
            except Unfit:
                raise Refused("conference.level", "Dial>Conference") from None


async def _room(world: World, call: Call, target: Target) -> Room:
    """Who is where a transfer leads; nobody where it is no conference, or there is no side door."""
    if world.provider is None or target.kind != "conference":
        return Room()
    return await room_of(world, world.provider, call.account_sid, target.value)


async def handed_over(world: World, call: Call, target: Target) -> str:
    """
    The token for handing this caller to somebody who joins him; "" where the rule lets anyone.

    Raises `Unfit` when he has not proved enough, `core.errors.Fault` as the store does.
    """
    now, nonce = world.clock(), world.nonce()
    mounted = await flow_of(world, call)
    flow = world.as_it_is_now(mounted)
    local = datetime.fromtimestamp(now / 1000, UTC).astimezone(mounted.zone)
    visit = Visit("", "", call.dialled, local.weekday(), local.hour * 60 + local.minute, transfer=target)
    demand, _ = decide(flow.rules, flow.default, visit)
    if demand.require is None:
        return ""
    keys = world.keys.with_naming(call.naming)
    key = books.call_key(call.sid)

    def change(values: books.Values) -> Change[bool]:
        live = values[key]
        if not isinstance(live, Call) or live.ended_ms is not None:
            return Change(False)
        # Nothing can be proved between asking and connecting: only what is younger than `fresh` counts anew.
        if missing(flow, live, demand, live.turn + 1, now) != ():
            refused = Entry(now, "rest_refused", live.sid, live.ref, "level", (("queues", str(target)),))
            return Change(False, (), (refused,))
        leg = handoff.mint(
            flow,
            calls.holder(live),
            leg_id=nonce,
            queues=(str(target),),
            carriers=(rest.carrier_of(target),),
            whispers=(),
            intent=demand.intent,
            now_ms=now,
        )
        minted = books.leg_puts(keys, leg, values, now)
        assert minted is not None  # no whisper, no code that might be taken
        facts = (("intent", demand.intent),) * bool(demand.intent)
        entry = Entry(
            now, "authn_token_created", live.sid, live.ref, "rest", (*facts, ("queues", str(target)))
        )
        held = replace(live, legs=(*live.legs, leg.id))
        kept = Put(key, held, now + books.CALL_KEPT_S * 1000, live.began_ms)
        return Change(True, (*minted, kept), (entry,))

    if not await world.store.amend([key, *books.leg_keys(keys, call, nonce)], change):
        raise _lacking(call, target, demand)
    return books.token_of(keys, nonce)


async def flow_of(world: World, call: Call) -> Mounted:
    """The flow of a call. Raises `Unfit` when there is none any more."""
    mounted = await world.flow_of(call)
    if mounted is None:
        raise _ruleless(f"the call {call.sid}")
    return mounted


class SideDoor:
    """Admits requests about calls, as they are to be made. `provider` is asked about what the guard does not know."""

    def __init__(self, world: World, provider: Provider) -> None:
        self._world = world
        self._provider = provider

    async def admit(self, asked: Asked, form: Form) -> Form:
        """
        The form to be sent in place of this one.

        Raises `telephony.rest.Unfit` for what is not done, `core.errors.Fault` when nobody can say.
        """
        self._world.refuse_unrecorded()
        given = rest.well_formed(form)
        match asked.what:
            case What.CREATE:
                return await self._created(form, given)
            case What.JOIN:
                return await self._joined(asked, form, given)
            case What.PARTICIPANT | What.CONFERENCE if not rest.leads(asked.what, form):
                return form
            case What.CONFERENCE | What.PARTICIPANT:
                return await self._heard(asked, form)
            case _:
                sid = asked.parts[3] if asked.what is What.MEMBER else asked.parts[1]
                return await self._changed(asked, sid, form, given)

    # ── a call that is there ─────────────────────────────────────────────────────────────────────────────

    async def _changed(self, asked: Asked, sid: str, form: Form, given: dict[str, str]) -> Form:
        """A live call is led elsewhere, or gets callbacks, or a part of its own (a stream, a recording)."""
        if asked.what is What.PART_OF_CALL and given.get("Status") not in _STANDING_STILL:
            await self._unless_asked(sid, await self._call(asked.account_sid, sid), "record or stream it")
        if not rest.leads(asked.what, form):
            return form
        call, mounted, leg = await self._whose(asked.account_sid, sid)
        if leg is Kind.W:
            return self._called_party(asked, mounted, call, form, given)
        how = next(
            (name for name in ("Twiml", "Url") if name in given and asked.what is not What.PART_OF_CALL), ""
        )
        if how:
            await self._unless_asked(sid, call, "lead him elsewhere")
        turn = call.turn if call is not None else 0
        return await self._led(asked.what, sid, call, mounted, form, given, how=how, turn=turn)

    async def _unless_asked(self, sid: str, call: Call | None, act: str) -> None:
        """Raise `Unfit`, on record, while the caller is asked for a proof."""
        if call is not None and call.question is not None:
            await self._record(sid, call, "rest_refused", "asked")
            message = f"the caller of {sid} is being asked to prove who he is: {act} once that is done"
            raise Unfit(409, rest.CONFLICT, "asked", message)

    def _called_party(
        self, asked: Asked, mounted: Mounted, call: Call | None, form: Form, given: dict[str, str]
    ) -> Form:
        """The leg of somebody whom a caller's `<Dial>` reached: what he hears holds no transfer, as a whisper."""
        assert call is not None
        written = rest.rewritten(asked.what, form, mounted.links, turn=call.turn, leg=Kind.W)
        if "Twiml" not in given:
            return written
        try:
            read = document.read(given["Twiml"].encode(), "text/xml", mounted.flow.upstream.url)
            twiml = read.write(mounted.links, turn=call.turn, leg=Kind.W).decode()
        except Refused as refused:
            raise rest.unlisted("Twiml", refused) from None
        if len(twiml) > rest.TWIML_CHARS_MAX:
            raise Unfit(
                400, rest.TWIML_LONG, "twiml.long", "Twiml is too long with the guard's links: give a Url"
            )
        return rest.replaced(written, "Twiml", twiml)

    async def _whose(self, account: str, sid: str) -> tuple[Call | None, Mounted, Kind]:
        """The caller's call, its flow, and whose leg it is: T the caller's own, W of one whom he was connected with."""
        call = await self._call(account, sid)
        if call is not None:
            return call, await flow_of(self._world, call), Kind.T
        leg = await self._provider.leg(account, sid)
        if leg is None:
            raise Unfit(404, rest.NOT_FOUND, "no_call", f"The requested resource {sid} was not found")
        if leg.parent:
            parent = await self._call(account, leg.parent)
            if parent is None:
                raise _ruleless(f"the call that dialled {sid}")
            return parent, await flow_of(self._world, parent), Kind.W
        number = leg.to if leg.direction == "inbound" else leg.from_
        return None, self._dialled(number), Kind.T

    async def _call(self, account: str, sid: str) -> Call | None:
        call = await self._world.store.read(books.call_key(sid))
        return call if call is not None and call.account_sid == account else None

    def _dialled(self, number: str) -> Mounted:
        mounted = self._world.flows.dialled(number)
        if mounted is None:
            raise _ruleless(f"the number {number}")
        return mounted

    # ── a new one ────────────────────────────────────────────────────────────────────────────────────────

    async def _created(self, form: Form, given: dict[str, str]) -> Form:
        """A call that is placed: whom it reaches is a caller of the flow of the number that it comes from."""
        if "ApplicationSid" in given:
            raise Unfit(
                403,
                rest.FORBIDDEN,
                "application",
                "an application's documents go past the guard: give Url or Twiml",
            )
        mounted = self._dialled(given.get("From", ""))
        how = next((name for name in ("Twiml", "Url") if name in given), "")
        return await self._led(What.CREATE, NO_CALL, None, mounted, form, given, how=how, turn=0)

    async def _led(
        self,
        what: What,
        sid: str,
        call: Call | None,
        mounted: Mounted,
        form: Form,
        given: dict[str, str],
        *,
        how: str,
        turn: int,
    ) -> Form:
        """The form with its URLs led back, and its document kept."""
        if "Url" in given and "Twiml" in given:
            raise Unfit(400, rest.INVALID, "url_and_twiml", "Url and Twiml exclude each other")
        written = rest.rewritten(what, form, mounted.links, turn=turn)
        puts: tuple[Put, ...] = ()
        if how == "Twiml":
            nonce = self._world.nonce()
            puts = (self._kept(nonce, sid, mounted, given["Twiml"], turn),)
            others = tuple(pair for pair in written if pair[0] not in {"Twiml", "Method"})
            url = f"{self._world.issuer}/.ivrguard/call/led/{nonce}"
            written = (*others, ("Url", url), ("Method", "POST"))
        if how:
            await self._record(sid, call, "rest_call_led", how.lower(), puts)
        return written

    def _kept(self, nonce: str, sid: str, mounted: Mounted, twiml: str, turn: int) -> Put:
        """The document, sealed. What would be refused when it is asked for is refused now, where its author hears it."""
        base = mounted.flow.upstream.url
        if len(twiml) > rest.TWIML_CHARS_MAX:
            raise Unfit(
                400, rest.TWIML_LONG, "twiml.long", f"Twiml exceeds {rest.TWIML_CHARS_MAX} characters"
            )
        try:
            document.read(twiml.encode(), "text/xml", base).write(mounted.links, turn=turn)
        except (Refused, UnicodeEncodeError) as fault:
            refused = fault if isinstance(fault, Refused) else Refused("document.parse")
            raise rest.unlisted("Twiml", refused) from None
        sealed = self._world.keys.seal(json.dumps([sid, base, twiml]).encode(), f"led/{nonce}")
        return Put(books.led_key(nonce), sealed, self._world.clock() + books.CALL_KEPT_S * 1000)

    async def _record(
        self, sid: str, call: Call | None, event: str, reason: str, puts: tuple[Put, ...] = ()
    ) -> None:
        """What is decided, with what is kept for it."""
        entry = Entry(self._world.clock(), event, sid, call.ref if call is not None else "", reason)
        await self._world.store.amend([put.key for put in puts], lambda _: Change(None, puts, (entry,)))

    # ── conferences ──────────────────────────────────────────────────────────────────────────────────────

    async def _heard(self, asked: Asked, form: Form) -> Form:
        """What those in a conference are to hear: by the flow of a caller who is in it."""
        callers = await self._callers(asked)
        if not callers:
            raise _ruleless(f"the conference {asked.parts[1]}")
        mounted = await flow_of(self._world, callers[0])
        return rest.rewritten(asked.what, form, mounted.links, turn=callers[0].turn)

    async def _callers(self, asked: Asked) -> tuple[Call, ...]:
        """The callers of this guard who are in the conference."""
        room = await room_of(self._world, self._provider, asked.account_sid, asked.parts[1])
        return room.callers

    async def _joined(self, asked: Asked, form: Form, given: dict[str, str]) -> Form:
        """Somebody is dialled into a conference: for each caller in it this is a transfer."""
        callers = await self._callers(asked)
        to = given.get("To", "")
        target = rest.target_of(to)
        mounted = await flow_of(self._world, callers[0]) if callers else self._dialled(given.get("From", ""))
        written = rest.rewritten(asked.what, form, mounted.links, turn=callers[0].turn if callers else 0)
        tokens = [await handed_over(self._world, call, target) for call in callers]
        token = next(filter(None, tokens), "")
        return rest.replaced(written, "To", rest.carrying(to, target, token)) if token else written


def _ruleless(what: str) -> Unfit:
    return Unfit(
        403,
        rest.FORBIDDEN,
        "no_flow",
        f"no flow has {what}, so nobody knows which rules hold for it: add its number to `numbers` of a flow",
    )


def _lacking(call: Call, target: Target, demand: Demand) -> Unfit:
    levels = " and ".join(
        dict.fromkeys(
            filter(None, (demand.require, f"{demand.reverify}, proved anew" if demand.reverify else None))
        )
    )
    return Unfit(
        403,
        rest.FORBIDDEN,
        "level",
        f"{target} may be connected with the caller of {call.sid} once he holds {levels}: update his call with a document that "
        "dials it, and the guard asks him first",
    )
