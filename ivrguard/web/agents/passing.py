"""
A caller passed on to another agent, and whose account he says that he speaks for.

The law of this file: what is handed out here is for the next agent's side to present; nothing else of it is told.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.core.passing import Why
from ivrguard.core.rules import TARGET_KINDS, Target
from ivrguard.guard import Guard
from ivrguard.web.agents.api import NOT_FOUND, Answer, Asked, Body, Route, refused
from ivrguard.web.agents.calls import NOT_HELD, CallSeen, at, looked_at
from ivrguard.web.agents.readback import REQUEST, RequestId

QUEUE_CHARS_MAX = 254

_REFUSALS: Mapping[Why, Answer] = {
    Why.ENDED: refused(409, "ended", "the call is over"),
    Why.TOO_OFTEN: refused(429, "too_often", "keep the caller: he was passed on too often"),
    Why.SUPERSEDED: refused(409, "superseded", "he was passed on once more since: use that token"),
    Why.UNKNOWN_INTENT: refused(409, "unknown_intent", "name an intent of the flow's rules, or none"),
    Why.AT_THE_KEYPAD: refused(409, "at_the_keypad", "the caller is being asked something: wait for that"),
    Why.MISTYPED: refused(409, "mistyped", "no account has so many digits: ask for it once more"),
    Why.TOO_MANY_CLAIMS: refused(429, "too_many_claims", "wait: you have named too many accounts in an hour"),
}


class PassOn(Body):
    """To whom, and what for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queue": "workflow:WW0123456789abcdef0123456789abcdef"}]}
    )

    mend: ClassVar[str] = (
        'send {"queue": "workflow:…", "intent": "…", "request": "…"} as JSON; the last two may be left out'
    )

    queue: Annotated[
        str,
        StringConstraints(
            pattern=rf"^(?:{'|'.join(TARGET_KINDS)}):[!-~]+(?: +[!-~]+)*$", max_length=QUEUE_CHARS_MAX
        ),
    ] = Field(
        description="Where you hand the caller to: `kind:name`, as a transfer of the IVR's leads to it."
    )
    intent: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None,
        description="What for, in the flow's words. Absent: as the rule for that queue says, or as before.",
    )
    request: RequestId | None = Field(None, description=REQUEST)


class PassedOn(BaseModel):
    """What the next agent presents. It works once, for that queue, until then; you hold the caller until somebody redeems it."""

    token: str = Field(
        repr=False,
        description="To be put where that queue's agents read it; 8 digits to be told, or the CallSid, where nothing can be carried.",
    )
    carrier: str = Field(description="How it travels: `task`, `parameter`, `sip`, `whisper`, `call`.")
    queue: str
    expires: datetime


class Claim(Body):
    """The account that the caller says is his."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account": "123456789"}]})

    mend: ClassVar[str] = 'send {"account": "123456789"} as JSON: the digits that the flow asks for'

    account: Annotated[str, StringConstraints(pattern=r"^ *(?:[0-9][ -]*){1,32}$", max_length=80)] = Field(
        description="As a caller would key it."
    )


class Passing:
    """Handlers of hand-overs from agent to agent, and of first contact."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> list[Route]:
        """What of the API is about that."""
        later = {404: NOT_HELD, 409: "Not now: `error` says why, `mend` what to do"}
        return [
            Route(
                *(
                    "POST",
                    "calls/{call_sid}/transfers",
                    self.pass_on,
                    "pass_on",
                    "Pass the caller on to another agent",
                ),
                {201: PassedOn},
                body=PassOn,
                refuses={**later, 429: "He was passed on too often"},
            ),
            Route(
                *(
                    "POST",
                    "calls/{call_sid}/claims",
                    self.claim,
                    "name_account",
                    "Say which account the caller named",
                ),
                {200: CallSeen},
                body=Claim,
                refuses={**later, 429: "You have named too many accounts"},
            ),
        ]

    async def pass_on(self, asked: Asked[PassOn]) -> Answer:
        """
        A new token for that queue, and for no other. You hold the caller until it is redeemed, and no longer; what its rule wants proved
        anew counts from now on, and the next agent sees it as `needs`.
        """
        kind, _, name = asked.body.queue.partition(":")
        outcome = await self._guard.pass_on(
            asked.agent,
            asked.path["call_sid"],
            to=Target(kind, name),
            intent=asked.body.intent or "",
            request=asked.body.request or self._guard.world.nonce(),
        )
        if outcome is None:
            return NOT_FOUND
        if isinstance(outcome, Why):
            return _REFUSALS[outcome]
        expires = at(outcome.expires_ms)
        return Answer(
            201,
            PassedOn(token=outcome.token, carrier=outcome.carrier, queue=outcome.queue, expires=expires),
        )

    async def claim(self, asked: Asked[Claim]) -> Answer:
        """
        It proves nothing, and the answer is the same whether there is such an account or not. What was proved for another one is gone.
        Each is on record and counted: sixty an hour.
        """
        sid = asked.path["call_sid"]
        digits = asked.body.account.replace(" ", "").replace("-", "")
        named = await self._guard.name_account(asked.agent, sid, digits)
        if isinstance(named, Why):
            return _REFUSALS[named]
        found = await self._guard.held(asked.agent, sid) if named is not None else None
        if found is None:
            return NOT_FOUND
        return Answer(200, await looked_at(self._guard, asked.agent, found))
