"""
Where TaskRouter, or Flex on top of it, joins a caller with a worker: the conference is not the guard's, and is asked for.

The laws of this file:

1. It is asked for when an agent who holds the call presses the button, and not before; what he says of a room counts for nothing.
2. Once, within `DEADLINE_S`: the agent waits for it, and can press again. For one call there is one such request at a time, however
   often he presses: the way to the provider is shared with every bridge.
3. A room of the guard's own that the caller belongs into goes before; and one who is aside already is not asked for.
"""

from ivrguard import log
from ivrguard.core import conference
from ivrguard.core.aside import Denied
from ivrguard.core.conference import Bridge
from ivrguard.core.errors import NotifyFault
from ivrguard.core.flow import Flow
from ivrguard.guard.held import HeldCall
from ivrguard.guard.world import World

DEADLINE_S = 5.0
"""For TaskRouter and the room together."""

logger = log.get()


class Tasks:
    """What is asked of TaskRouter, by one node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked_for: set[str] = set()

    async def room_of(self, flow: Flow, found: HeldCall) -> Bridge | Denied | None:
        """The room that TaskRouter has joined this caller in, or why there is none now; None: he was not handed to one of its workers."""
        call, leg, before = found.call, found.legs[-1], found.call.bridge
        if before is not None and before.live and (before.apart or not before.theirs):
            return None
        conferences = self._world.conferences
        if call.ended_ms is not None or conferences is None or not conference.of_a_task(flow, leg.queues):
            return None
        if call.sid in self._asked_for:
            return Denied.UNAVAILABLE
        self._asked_for.add(call.sid)
        try:
            room = await conferences.room_of_task(
                call.account_sid, flow.workspace, call.sid, deadline_s=DEADLINE_S
            )
        except NotifyFault as fault:
            logger.error("task_not_found", reason=fault.reason, why=fault.why, detail=str(fault))
            return Denied.UNAVAILABLE
        finally:
            self._asked_for.discard(call.sid)
        if room is None:
            return Denied.NOT_JOINED
        # Where a document of the guard's has led him into the room before, he leaves it by that one.
        same = before is not None and before.live and before.id == leg.id
        nonce = before.nonce if before is not None and same else self._world.nonce()
        return conference.of_task(leg.id, nonce, room, self._world.clock())
