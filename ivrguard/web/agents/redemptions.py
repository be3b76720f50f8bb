"""
Tokens in, receipts out.

201 with the receipt; **one and the same 403 for every token that is no good**, whatever is wrong with it: why is for the
record alone.
"""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ivrguard.guard import Guard
from ivrguard.web.agents.api import Answer, Asked, Body, Route, refused
from ivrguard.web.ops import Metrics

_REFUSED = refused(403, "invalid_token")


class Redemption(Body):
    """What a desk presents: a token, a whispered code, or a CallSid; and the call it holds, if it knows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"token": "10Z0735QNQXGBXX78CGPG2ZKJA", "call_sid": "CA0123456789abcdef0123456789abcdef"}
            ]
        }
    )

    mend: ClassVar[str] = 'send {"token": "…", "call_sid": "CA…"} as JSON'

    token: Annotated[str, StringConstraints(min_length=8, max_length=64, strip_whitespace=True)] = Field(
        repr=False, description="What was handed to you: 26 characters, a code of 8 digits, or a CallSid."
    )
    call_sid: Annotated[str, StringConstraints(pattern=r"^CA[0-9a-f]{32}$")] | None = Field(
        None, description="The call that you hold, if you know it: a token of another one is then refused."
    )


class Allowed(BaseModel):
    """A purpose that the flow names, a level that it needs, and whether the caller holds that now."""

    intent: str
    level: str
    held: bool


class Receipt(BaseModel):
    """Who the caller is, how well that is proved, and what he may do now."""

    receipt: str = Field(
        repr=False,
        description="A JWT (EdDSA; keys at `/.ivrguard/jwks.json`) for systems behind your desk: valid for five minutes.",
    )
    call_sid: str
    account: str
    acr: str = Field(description="The strongest level that was proved, by its name in the flow.")
    amr: list[str] = Field(description="How: method references of RFC 8176.")
    age_s: int = Field(description="How old the oldest proof is that the level rests on, in seconds.")
    intent: str = Field(description="What the caller was put through for; empty if no rule names it.")
    may: list[Allowed] = Field(description="What the caller may do now, and what still needs a factor.")
    notes: list[str] = Field(description="What speaks against the number that he calls from.")


class Redemptions:
    """Handlers of tokens."""

    def __init__(self, guard: Guard, metrics: Metrics) -> None:
        self._guard = guard
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """What of the API is about tokens."""
        return [
            Route(
                "POST",
                "redemptions",
                self.redeem,
                name="redeem_token",
                summary="Redeem a token, once: a receipt, and the call is yours",
                body=Redemption,
                answers={201: Receipt},
                refuses={403: "The token is no good: why is on record, and not here"},
                nobody=self._metrics.redemptions.labels("unknown_desk").inc,
            )
        ]

    async def redeem(self, asked: Asked[Redemption]) -> Answer:
        """
        201 with the receipt, and from then on the call is in this agent's hands. Whatever is wrong with a token (forged, spent, expired, of
        another call or queue, of a call that is over or an account that is locked), the answer is the same 403. Twenty of them in an hour
        lock the desk for fifteen minutes.
        """
        found = await self._guard.redeem(asked.agent.as_desk(), asked.body.token, asked.body.call_sid)
        self._metrics.redemptions.labels("refused" if found is None else "redeemed").inc()
        if found is None:
            return _REFUSED
        receipt = Receipt(
            receipt=found.jwt,
            call_sid=found.call_sid,
            account=found.account,
            acr=found.acr,
            amr=list(found.amr),
            age_s=found.age_s,
            intent=found.intent,
            may=[Allowed(intent=one.intent, level=one.level, held=one.held) for one in found.may],
            notes=list(found.notes),
        )
        return Answer(201, receipt)
