"""
The agents' desks: tokens in, receipts out.

`POST /.ivrguard/agent/v1/redemptions`, `Authorization: Bearer <the desk's key>`, JSON `{"token": …,
"call_sid": …}`. 201 with the receipt; 401 for an unknown desk; **one and the same 403 for every token that
is no good**, whatever is wrong with it; 400 for what is not such JSON; 503 when the store is down.
"""

from typing import Annotated

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from ivrguard import log
from ivrguard.core.errors import Fault
from ivrguard.guard import Guard
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}

logger = log.get()


class Redemption(BaseModel):
    """What a desk presents: a token, a whispered code, or a CallSid; and the call it holds, if it knows."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: Annotated[str, StringConstraints(min_length=8, max_length=64, strip_whitespace=True)]
    call_sid: Annotated[str, StringConstraints(pattern=r"^CA[0-9a-f]{32}$")] | None = None


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), headers=HEADERS)


class Agents:
    """Handlers of the desks' API."""

    def __init__(self, guard: Guard, identity: Identity, metrics: Metrics) -> None:
        self._guard = guard
        self._identity = identity
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """The API's paths."""
        return [web.post("/.ivrguard/agent/v1/redemptions", self.redeem)]

    async def redeem(self, request: web.Request) -> web.Response:
        """See the module."""
        try:
            return await self._redeem(request)
        except Fault as fault:
            logger.error("fault", reason=fault.reason, detail=str(fault))
            return _json(503, {"error": "temporarily_unavailable"})

    async def _redeem(self, request: web.Request) -> web.Response:
        agent = await self._identity.of(request)
        if agent is None:
            self._metrics.redemptions.labels("unknown_desk").inc()
            return _json(401, {"error": "invalid_client"})
        try:
            wanted = Redemption.model_validate_json(await request.read())
        except (ValidationError, web.HTTPRequestEntityTooLarge):
            return _json(
                400, {"error": "invalid_request", "mend": 'send {"token": "…", "call_sid": "CA…"} as JSON'}
            )
        receipt = await self._guard.redeem(agent.as_desk(), wanted.token, wanted.call_sid)
        if receipt is None:
            self._metrics.redemptions.labels("refused").inc()
            return _json(403, {"error": "invalid_token"})
        self._metrics.redemptions.labels("redeemed").inc()
        return _json(
            201,
            {
                "receipt": receipt.jwt,
                "call_sid": receipt.call_sid,
                "account": receipt.account,
                "acr": receipt.acr,
                "amr": receipt.amr,
                "age_s": receipt.age_s,
                "intent": receipt.intent,
                "may": [{"intent": one.intent, "level": one.level, "held": one.held} for one in receipt.may],
                "notes": list(receipt.notes),
            },
        )
