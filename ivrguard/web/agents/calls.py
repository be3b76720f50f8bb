"""
The calls that an agent holds, as he may see them: one, or all of his.

1. For every other call, one that never was, and what is no CallSid, there is one answer: `NOT_FOUND`.
2. What an agent is shown is on record before it is shown, and he is told so: `recorded`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from ivrguard.core import conference
from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.core.conference import Ended
from ivrguard.core.standing import By, Standing, Status
from ivrguard.guard import Guard, HeldCall
from ivrguard.web.agents.api import NOT_FOUND, Answer, Asked, Route
from ivrguard.web.agents.redemptions import Allowed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NOT_HELD = "You do not hold this call, or there is no such call"


def at(ms: int) -> datetime:
    """Milliseconds since the epoch as a moment: RFC 3339, UTC, once it is written."""
    return _EPOCH + timedelta(milliseconds=ms)


class Proved(BaseModel):
    """A factor that was answered right, and until when that counts for what the caller was put through for."""

    factor: str = Field(description="Its name in the flow; never a value.")
    kind: Kind
    at: datetime
    until: datetime | None = Field(None, description="Absent: for the whole call.")


class WayTo(BaseModel):
    """A factor that is still to be proved, and how that can be done on this call now."""

    factor: str
    kind: Kind
    by: list[By] = Field(
        description="`read_back`: POST codes, then answers; `blind`: POST aside. None: not on this call."
    )


class Hop(BaseModel):
    """One hand-over: who took the caller and when (absent: nobody yet), for which queues, with which levels."""

    agent: str | None = None
    issued: datetime
    redeemed: datetime | None = None
    queues: list[str]
    acr: list[str]


class Beside(BaseModel):
    """Whether the caller can be led aside to the keypad (docs/blind.md), whether he is there, and how the last time ended."""

    ready: bool = Field(description="You and the caller are joined, and he can be led aside.")
    apart: bool = Field(description="He is at the keypad, or on his way; you hear music.")
    last: Ended | None = Field(
        None,
        description="Absent: never yet. Whatever it is but `hung_up`, he is with you again; only `verified` proves anything.",
    )


class CallSeen(BaseModel):
    """A call as the agent who holds it may see it now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "needs_factor",
                    "call_sid": "CA0123456789abcdef0123456789abcdef",
                    "reference": "01234567",
                    "caller": "+15551230001",
                    "account": "123456789",
                    "intent": "wire",
                    "acr": ["one_factor"],
                    "proofs": [
                        {
                            "factor": "pin",
                            "kind": "pin",
                            "at": "2026-11-28T10:02:11.250Z",
                            "until": "2026-11-28T10:07:11.250Z",
                        }
                    ],
                    "legs": [
                        {
                            "agent": "agent:ann",
                            "issued": "2026-11-28T10:02:12Z",
                            "redeemed": "2026-11-28T10:02:31Z",
                            "queues": ["workflow:WW0123456789abcdef0123456789abcdef"],
                            "acr": ["one_factor"],
                        }
                    ],
                    "may": [{"intent": "wire", "level": "two_factor", "held": False}],
                    "needs": ["code"],
                    "ways": [{"factor": "code", "kind": "sms_code", "by": ["read_back"]}],
                    "able": ["pin", "code"],
                    "risks": ["attestation_failed"],
                    "attempts_left": 5,
                    "disabled": False,
                    "began": "2026-11-28T10:01:40Z",
                    "now": "2026-11-28T10:03:00.125Z",
                    "recorded": "2026-11-28T10:02:32Z",
                }
            ]
        }
    )

    status: Status = Field(
        description="The one word, with a shape of its own on a panel: never by colour alone."
    )
    call_sid: str
    reference: str = Field(
        description="What can be read out: the first characters of the CallSid behind the CA."
    )
    caller: str = Field(description="Who calls, as the network says: it proves nothing.")
    account: str | None = Field(None, description="Absent until something is proved that counts now.")
    intent: str = Field(description="What the caller was put through for; empty if no rule names it.")
    acr: list[str] = Field(description="The levels that are reached now, strongest first.")
    proofs: list[Proved] = Field(description="How and when.")
    legs: list[Hop] = Field(description="Every hand-over, in order.")
    may: list[Allowed] = Field(description="What the caller may do now, and what still needs a factor.")
    needs: list[str] = Field(
        description="The factors still to be proved for this intent, best first; none if none is, or none can be had."
    )
    ways: list[WayTo] = Field(description="How each of `needs` can be proved.")
    able: list[str] | None = Field(
        None,
        description="The factors that this account can answer. Absent until something is proved that counts now.",
    )
    risks: list[str] = Field(
        description="What speaks against the number that he calls from; it changes nothing of the status."
    )
    attempts_left: int | None = Field(
        None, description="Before the account locks. Absent where none is claimed."
    )
    locked_until: datetime | None = Field(None, description="Absent: it is not locked, or for good.")
    disabled: bool = Field(
        description="Whether a factor is locked for good, until an administrator enrols it anew."
    )
    aside: Beside | None = Field(
        None,
        description="Absent: nobody can be led aside, as neither the guard bridges this call nor TaskRouter is named.",
    )
    began: datetime
    now: datetime = Field(description="By the guard's clock: count down from here.")
    recorded: datetime = Field(description="When it went on record that you look at this call.")


class CallsSeen(BaseModel):
    """The calls that this agent holds, in the order that he took them."""

    calls: list[CallSeen]


def shown(standing: Standing, recorded_ms: int) -> CallSeen:
    """A standing as it is written."""
    locked_ms = standing.locked_until_ms
    return CallSeen(
        status=standing.status,
        call_sid=standing.call_sid,
        reference=standing.reference,
        caller=standing.caller,
        account=standing.account or None,
        intent=standing.intent,
        acr=list(standing.acr),
        proofs=[
            Proved(
                factor=one.factor,
                kind=one.kind,
                at=at(one.at_ms),
                until=at(one.until_ms) if one.until_ms is not None else None,
            )
            for one in standing.proofs
        ],
        legs=[
            Hop(
                agent=one.agent or None,
                issued=at(one.issued_ms),
                redeemed=at(one.redeemed_ms) if one.redeemed_ms is not None else None,
                queues=list(one.queues),
                acr=list(one.acr),
            )
            for one in standing.legs
        ],
        may=[Allowed(intent=one.intent, level=one.level, held=one.held) for one in standing.may],
        needs=list(standing.needs),
        ways=[WayTo(factor=one.factor, kind=one.kind, by=list(one.by)) for one in standing.ways],
        able=list(standing.able) or None,
        risks=list(standing.risks),
        attempts_left=standing.attempts_left,
        locked_until=at(locked_ms) if locked_ms is not None else None,
        disabled=standing.disabled,
        aside=_beside(standing.aside),
        began=at(standing.began_ms),
        now=at(standing.now_ms),
        recorded=at(recorded_ms),
    )


def _beside(aside: conference.Beside | None) -> Beside | None:
    if aside is None:
        return None
    return Beside(ready=aside.ready, apart=aside.apart, last=Ended(aside.last) if aside.last else None)


async def looked_at(guard: Guard, agent: Agent, found: HeldCall) -> CallSeen:
    """What the agent sees of a call that he holds, once it is on record that he looks. Raises `core.errors.Fault`."""
    recorded_ms = await guard.look(agent, found)
    return shown(await guard.seen(found), recorded_ms)


class Calls:
    """Handlers of looks."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> Sequence[Route]:
        """What of the API is about calls."""
        return [
            Route("GET", "calls", self.all, "list_calls", "The calls that you hold", {200: CallsSeen}),
            Route(
                *("GET", "calls/{call_sid}", self.one, "get_call", "A call that you hold", {200: CallSeen}),
                refuses={404: NOT_HELD},
            ),
        ]

    async def one(self, asked: Asked[None]) -> Answer:
        """
        A call is yours from the moment that you redeem its token: until the IVR hands it over anew, until somebody else redeems the token
        that you passed it on with, or until ten minutes after its end. Whatever else is asked for is not found, and that it was asked for
        is on record.
        """
        found = await self._guard.held(asked.agent, asked.path["call_sid"])
        if found is None:
            return NOT_FOUND
        return Answer(200, await looked_at(self._guard, asked.agent, found))

    async def all(self, asked: Asked[None]) -> Answer:
        """Those that you redeemed a token of and hold still. There is no other list, and no search."""
        found = await self._guard.holding(asked.agent)
        return Answer(200, CallsSeen(calls=[await looked_at(self._guard, asked.agent, one) for one in found]))
