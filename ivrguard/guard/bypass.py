"""
Transfers that went round the guard, seen from what the provider tells of a call's legs (core/bypass.py).

The laws of this file:

1. A leg that ends tells of itself where its callbacks come to the guard; when a caller's call is over, the provider is asked for all
   legs that it dialled, if the settings want that. Nobody waits for it, and a provider that does not say is a line in the log.
2. What is found is on record with the call, in one act, before the risk team is told; each leg once.
3. Neither the record nor the notice holds a number: the leg's own SID is what an operator looks it up by.
"""

from collections.abc import Callable

from ivrguard import log
from ivrguard.core import bypass
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.values import replace
from ivrguard.guard import books
from ivrguard.guard.world import World
from ivrguard.ports import Change, Leg, Notice, Provider, Put
from ivrguard.telephony.rest import target_of

logger = log.get()


def notice_of(call: Call, leg: str, now_ms: int) -> Notice:
    """What the risk team is told of a leg that none of the guard's documents dialled."""
    return Notice(
        id=f"{call.flow}/transfer_unseen/{now_ms:013}",
        type="transfer.unseen",
        at_ms=now_ms,
        data={"flow": call.flow, "call": call.sid, "leg": leg},
        text=f"ivrguard, flow {call.flow}: a transfer went round the guard (call {call.sid}, leg {leg})",
    )


class Bypasses:
    """Looks for them. `tell`: the risk team."""

    def __init__(self, world: World, tell: Callable[[Notice], None]) -> None:
        self._world = world
        self._tell = tell

    async def ended(self, call_sid: str, watcher: Provider) -> None:
        """A caller's call is over: look at all its legs. Raises `core.errors.Fault` when nobody can say."""
        call = await self._world.store.read(books.call_key(call_sid))
        if call is not None:
            for sid, leg in (await watcher.children(call.account_sid, call_sid)).items():
                await self._look(call, sid, leg)

    async def told(self, parent_sid: str, leg_sid: str, leg: Leg) -> None:
        """A leg of a call tells of itself. Raises as `ended`."""
        call = await self._world.store.read(books.call_key(parent_sid))
        if call is not None:
            await self._look(call, leg_sid, leg)

    async def _look(self, call: Call, sid: str, leg: Leg) -> None:
        legs = [await self._world.store.read(books.leg_key(name)) for name in call.legs]
        handed_over = [queue for each in legs if each is not None for queue in each.queues]
        if bypass.accounted(target_of(leg.to), (*call.connected, *handed_over)):
            return
        key, now = books.call_key(call.sid), self._world.clock()

        def change(values: books.Values) -> Change[bool]:
            live = values[key]
            found = bypass.told(live, sid) if isinstance(live, Call) else None
            if found is None or not isinstance(live, Call):
                return Change(False)
            entry = Entry(now, "transfer_unseen", live.sid, live.ref, "leg", (("leg", sid),))
            put = Put(key, replace(live, bypassed=found), now + books.CALL_KEPT_S * 1000, live.began_ms)
            return Change(True, (put,), (entry,))

        if await self._world.store.amend([key], change):
            logger.error(
                "transfer_unseen",
                call=sid,
                parent=call.sid,
                hint="docs/side-door.md#transfers-that-went-round",
            )
            self._tell(notice_of(call, sid, now))
