"""
The agents' API, `/.ivrguard/agent/v1/`: tokens in, receipts out; the calls that an agent holds.

`api.py` says what a route is, each part of the API has a file with its own, and `openapi.json` is written from all of them. A new
part is a file with a class whose `routes()` are named in `Agents`, and nothing else.
"""

from aiohttp import web

from ivrguard.guard import Guard
from ivrguard.web.agents import openapi
from ivrguard.web.agents.api import JSON, ROOT, Api
from ivrguard.web.agents.asides import Asides
from ivrguard.web.agents.calls import Calls
from ivrguard.web.agents.events import Events
from ivrguard.web.agents.incidents import Incidents
from ivrguard.web.agents.passing import Passing
from ivrguard.web.agents.readback import ReadBack
from ivrguard.web.agents.redemptions import Redemptions
from ivrguard.web.agents.reports import Reports
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics

__all__ = ["Agents"]

DOCUMENT_KEPT_S = 300
"""How long a client may keep the OpenAPI document: it changes with a release."""


class Agents:
    """Every route of the API, and its document, which anybody may read."""

    def __init__(self, guard: Guard, identity: Identity, metrics: Metrics) -> None:
        assert guard.world.threats is not None
        self._events = Events(guard, identity, metrics)
        every = [
            *Redemptions(guard, metrics).routes(),
            *Calls(guard).routes(),
            *ReadBack(guard).routes(),
            *Passing(guard).routes(),
            *Asides(guard).routes(),
            *self._events.routes(),
            *Reports(guard, guard.world.threats).routes(),
            *Incidents(guard.world.threats).routes(),
        ]
        self._api = Api(identity, every, metrics, guard.world.clock)
        self._document = openapi.document(every, guard.world.issuer)

    def routes(self) -> list[web.RouteDef]:
        """The API's paths."""
        return [web.get(ROOT + "openapi.json", self._openapi, allow_head=False), *self._api.routes()]

    async def drain(self, _: web.Application) -> None:
        """End what would go on for ever: this process ends, and another one is there for those who come again."""
        self._events.end()

    async def _openapi(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": JSON, "Cache-Control": f"max-age={DOCUMENT_KEPT_S}"}
        return web.Response(body=self._document, headers=headers)
