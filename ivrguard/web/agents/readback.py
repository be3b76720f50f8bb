"""
A code that the caller reads to the agent: sent, typed, judged.

The law of this file: what was typed is judged and forgotten; the answer says right or not right, and no more.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.core.readback import Why
from ivrguard.guard import Guard
from ivrguard.web.agents.api import NOT_FOUND, Answer, Asked, Body, Route, refused
from ivrguard.web.agents.calls import NOT_HELD, CallSeen, looked_at

RequestId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
"""What a client calls its request, so that the same one again changes nothing."""

REQUEST = "Your own name for this request: sent again with the same one, it changes nothing. Absent: it is a new one."

_REFUSALS: Mapping[Why, Answer] = {
    Why.ENDED: refused(409, "ended", "the call is over"),
    Why.NO_ACCOUNT: refused(409, "no_account", "name the caller's account first: POST claims"),
    Why.NOT_BY_VOICE: refused(
        409,
        "not_by_voice",
        "nobody is told a PIN or an app's code: the caller keys it; only a code is read out",
    ),
    Why.NOT_ENROLLED: refused(
        409, "not_enrolled", "this account has no number for codes: use another factor"
    ),
    Why.AT_THE_KEYPAD: refused(409, "at_the_keypad", "the caller is being asked for a code: wait for that"),
    Why.NO_MORE_CODES: refused(429, "no_more_codes", "use another factor, or wait"),
    Why.UNDELIVERABLE: refused(409, "undeliverable", "the code was not taken: use another factor"),
    Why.NO_CODE: refused(409, "no_code", "send a code first: the last one was used, used up, or has run out"),
    Why.MISTYPED: refused(409, "mistyped", "that is not as long as the code: ask for it once more"),
    Why.BEING_JUDGED: refused(409, "being_judged", "wait for the first answer to this request"),
    Why.NOT_JUDGED: refused(503, "temporarily_unavailable", "it was not judged: type it once more"),
}


class CodeWanted(Body):
    """What is to be sent: a code to the number on file. `{}` will do."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"request": "8f14e45f-01"}]})

    mend: ClassVar[str] = 'send {}, or {"request": "…", "factor": "…"}, as JSON'

    factor: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="By its name in the flow; absent: the one that is sent. Any other one is refused."
    )
    request: RequestId | None = Field(None, description=REQUEST)


class CodeSent(BaseModel):
    """A code is on its way, or is said to be: an account that nobody has gets the same answer."""

    valid_s: int | None = Field(None, description="How long it lives. Absent: this request came before.")


class CodeTyped(Body):
    """What the caller read out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"digits": "123 456"}]})

    mend: ClassVar[str] = 'send {"digits": "123456"} as JSON: 4 to 10 digits, blanks between them or none'

    digits: Annotated[str, StringConstraints(pattern=r"^ *(?:[0-9][ -]*){4,10}$", max_length=40)] = Field(
        repr=False, description="The code, as it was read out."
    )
    request: RequestId | None = Field(None, description=REQUEST)


class Judged(BaseModel):
    """Whether that is the code, and how the call stands now."""

    right: bool = Field(description="Why not is told to nobody.")
    call: CallSeen


class ReadBack:
    """Handlers of codes that are read back."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> list[Route]:
        """What of the API is about codes."""
        later = {404: NOT_HELD, 409: "Not now: `error` says why, `mend` what to do"}
        return [
            Route(
                *(
                    "POST",
                    "calls/{call_sid}/codes",
                    self.send,
                    "send_code",
                    "Send the caller a code to read to you",
                ),
                {202: CodeSent},
                body=CodeWanted,
                refuses={**later, 429: "No more codes may be sent for now"},
            ),
            Route(
                *(
                    "POST",
                    "calls/{call_sid}/answers",
                    self.judge,
                    "judge_answer",
                    "Have what the caller read judged",
                ),
                {200: Judged},
                body=CodeTyped,
                refuses={**later, 503: "It was not judged"},
            ),
        ]

    async def send(self, asked: Asked[CodeWanted]) -> Answer:
        """
        To the number on file, whatever number the caller calls from; its message says what it is for, and that an agent will ask for it.
        It works on this call, once, for what was asked of it, and counts in the same limits as a code that the caller keys.
        """
        outcome = await self._guard.ask_code(
            asked.agent,
            asked.path["call_sid"],
            request=asked.body.request or self._guard.world.nonce(),
            factor=asked.body.factor or "",
        )
        if outcome is None:
            return NOT_FOUND
        if isinstance(outcome, Why):
            return _REFUSALS[outcome]
        return Answer(202, CodeSent(valid_s=outcome.sent.valid_s if outcome.sent is not None else None))

    async def judge(self, asked: Asked[CodeTyped]) -> Answer:
        """
        Counted before it is looked at, in the same ledgers as what the caller keys: there are no more guesses this way. Right, it is a
        proof as any other. After a few wrong ones another code is needed; while the account is locked nothing is right.
        """
        outcome = await self._guard.answer_code(
            asked.agent,
            asked.path["call_sid"],
            request=asked.body.request or self._guard.world.nonce(),
            digits=asked.body.digits.replace(" ", "").replace("-", ""),
        )
        if isinstance(outcome, Why):
            return _REFUSALS[outcome]
        found = await self._guard.held(asked.agent, asked.path["call_sid"]) if outcome is not None else None
        if outcome is None or found is None:
            return NOT_FOUND
        call = await looked_at(self._guard, asked.agent, found)
        return Answer(200, Judged(right=outcome.right is True, call=call))
