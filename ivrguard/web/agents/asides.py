"""
The button: the caller is led aside from his agent to the guard's own question, and back (docs/blind.md).

1. It only begins here: how it goes on stands on the call (`aside`), which is looked at, or comes as an event.
2. Nothing that was keyed comes back, nor how it was wrong: proved or not.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.core.aside import Denied, asked_of
from ivrguard.guard import Guard
from ivrguard.web.agents.api import NOT_FOUND, Answer, Asked, Body, Route, refused
from ivrguard.web.agents.calls import NOT_HELD

MENDS: Mapping[Denied, str] = {
    Denied.NOT_BRIDGED: "this call is no conference of the guard's: have a code read back instead",
    Denied.NOT_JOINED: "you and the caller are not joined: press again when you are",
    Denied.ASIDE: "the caller is aside already: wait until he is back",
    Denied.ENDED: "the caller has left: there is nobody to be led aside",
    Denied.UNAVAILABLE: "TaskRouter did not say where the caller is: press again, or have a code read back",
    Denied.NO_SUCH_FACTOR: "the caller cannot answer this factor: take one of those that the call is `able` to",
}


class AsideAsked(Body):
    """What the caller is to prove: a factor by its name in the flow, or the one that is needed next."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"factor": "pin"}, {}]})

    mend: ClassVar[str] = 'send {"factor": "pin"}, or {} for the factor that is needed next, as JSON'

    factor: Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9_-]{0,39}$")] | None = Field(
        default=None, description="Left out: the one that this hand-over needs next."
    )


class AsideBegun(BaseModel):
    """The caller is being led aside."""

    call_sid: str
    factor: str = Field(description="What he is asked for.")


class Asides:
    """Handlers of the button."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> Sequence[Route]:
        """What of the API leads callers aside."""
        return [
            Route(
                *("POST", "calls/{call_sid}/aside", self.begin, "lead_aside"),
                summary="Have the caller led aside to the keypad, and back to you",
                answers={202: AsideBegun},
                body=AsideAsked,
                refuses={404: NOT_HELD, 409: "He cannot be led aside now: `error` says why"},
            )
        ]

    async def begin(self, asked: Asked[AsideAsked]) -> Answer:
        """
        You stay in the room and hear music; the caller hears the guard's own question and keys the answer, which nobody else hears or
        sees. Then he is back with you, whatever came of it: `aside.last` of the call says it. Guesses count and locks hold as everywhere.
        Pressed again while he is aside, nothing happens.
        """
        begun = await self._guard.bridges.aside(asked.agent, asked.path["call_sid"], asked.body.factor or "")
        if begun is None:
            return NOT_FOUND
        if isinstance(begun, Denied):
            return refused(409, begun.value, MENDS[begun])
        return Answer(202, AsideBegun(call_sid=begun.sid, factor=asked_of(begun)))
