"""
Recordings of a call stand still while a secret is keyed.

The laws of this file:

1. Before a question for a secret goes out, every recording of the call that runs is paused; also when that answer goes
   out a second time, as the process may have died in between.
2. Which ones the guard pauses is kept with the call *before* it is done. So whatever dies, whoever answers the call next
   knows what has to go on.
3. Only those go on. What somebody else paused stays paused: an IVR pauses its recording to take a card.
4. They go on before the IVR's next document goes out, or a human is dialled. What could not be let go on is tried again
   with each document.
5. A fault is told in the log. What it means for the caller is the flow's to say (`core.flow.Recording`).
"""

from collections.abc import Awaitable, Callable

from ivrguard import log
from ivrguard.core.call import Call
from ivrguard.core.errors import NotifyFault
from ivrguard.guard.world import World
from ivrguard.ports import Recordings

DEADLINE_S = 2.0
"""For listing, and once more for pausing: the caller waits meanwhile."""

logger = log.get()


async def quieted(world: World, call: Call, remember: Callable[[tuple[str, ...]], Awaitable[object]]) -> bool:
    """
    Pause what runs; False: something may be running on. `remember`: keeps with the call what is paused next.

    Raises what `remember` raises.
    """
    try:
        recordings = _of(world)
        found = await recordings.running(call.account_sid, call.sid, deadline_s=DEADLINE_S)
        if found:
            await remember(found)
            await recordings.pause(call.account_sid, call.sid, found, deadline_s=DEADLINE_S)
    except NotifyFault as fault:
        logger.error("recording_not_paused", reason=fault.reason, why=fault.why, detail=str(fault))
        return False
    return True


async def resumed(world: World, call: Call) -> bool:
    """Let go on what the guard paused; False: nothing was paused, or it stands still yet."""
    if not call.paused:
        return False
    try:
        recordings = _of(world)
        await recordings.resume(call.account_sid, call.sid, call.paused, deadline_s=DEADLINE_S)
    except NotifyFault as fault:
        logger.error("recording_not_resumed", reason=fault.reason, why=fault.why, detail=str(fault))
        return False
    return True


def _of(world: World) -> Recordings:
    if world.recordings is None:
        raise NotifyFault(
            "the flow pauses recordings, and no account is set up to do it with", why="not_set_up"
        )
    return world.recordings
