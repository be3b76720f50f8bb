"""
Where TaskRouter, or Flex on top of it, joins a caller with a worker: the conference is not the guard's, and is asked for.

The laws of this file:

1. It is asked for when an agent who holds the call presses the button, and not before; what he says of a room counts for nothing.
2. Once, within `DEADLINE_S`: the agent waits for it, and can press again.
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


async def room_of(world: World, flow: Flow, found: HeldCall) -> Bridge | Denied | None:
    """The room that TaskRouter has joined this caller in, or why there is none now; None: his hand-over was not to one of its workers."""
    call, leg, before = found.call, found.legs[-1], found.call.bridge
    if before is not None and before.live and (before.apart or not before.theirs):
        return None
    if call.ended_ms is not None or world.conferences is None or not conference.of_a_task(flow, leg.queues):
        return None
    try:
        room = await world.conferences.room_of_task(
            call.account_sid, flow.workspace, call.sid, deadline_s=DEADLINE_S
        )
    except NotifyFault as fault:
        logger.error("task_not_found", reason=fault.reason, why=fault.why, detail=str(fault))
        return Denied.NOT_FOUND
    if room is None:
        return Denied.NOT_JOINED
    # Where a document of the guard's has led him into the room before, he leaves it by that one.
    same = before is not None and before.live and before.id == leg.id
    nonce = before.nonce if before is not None and same else world.nonce()
    return conference.of_task(leg.id, nonce, room, world.clock())
