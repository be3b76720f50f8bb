"""
The panel: the call that an agent holds, what he may do with it, and the way to the next one.

The laws of this file:

1. It shows what the guard says of a call to the one who holds it, once it is on record that he looks; to everybody else the same
   "not verified" as for a call that never was.
2. Pages call the guard, not its API: one and the same act, whichever way it is asked for.
3. A form is answered by "go there" (303), with at most a word of `MESSAGES` in the address.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.core.standing import reference
from ivrguard.guard import Guard, HeldCall
from ivrguard.guard.passing import PassedOn
from ivrguard.web.console import words
from ivrguard.web.console.acts import acts
from ivrguard.web.console.door import PANEL, PANEL_ROLES, Door
from ivrguard.web.console.reports import SOURCES
from ivrguard.web.console.view import Moment, moment, view
from ivrguard.web.ops import Metrics

MESSAGES: Mapping[str, tuple[str, str]] = {
    "refused": words.REFUSED,
    "code_right": words.CODE_RIGHT,
    "code_wrong": words.CODE_WRONG,
    "no_account": words.NO_ACCOUNT,
    "no_queue": words.NO_QUEUE,
    **{f"code_{why.value}": said for why, said in words.NO_CODE.items()},
    **{f"aside_{why.value}": said for why, said in words.NOT_ASIDE.items()},
    **{f"not_{why.value}": said for why, said in words.NOT_PASSED.items()},
    **{f"threat_{why.value}": said for why, said in words.THREAT_REFUSED.items()},
}
"""What a page says above all else, by the word that its address brings."""

GOOD = frozenset({"code_right"})
"""Those of them that are good news."""


@dataclass(frozen=True, slots=True)
class Line:
    """One call in the list of those that an agent holds."""

    call_sid: str
    reference: str
    caller: str
    since: Moment


class Panel:
    """Handlers of the panel's pages and forms."""

    def __init__(self, guard: Guard, door: Door, metrics: Metrics) -> None:
        self._guard = guard
        self._door = door
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """The panel's paths."""
        call = PANEL + "/calls/{call_sid}"
        return [
            web.get("/.ivrguard/console", self._home),
            web.get("/.ivrguard/console/", self._home),
            web.get(PANEL, self._door.for_(PANEL_ROLES, self.home)),
            web.get(call, self._door.for_(PANEL_ROLES, self.call)),
            web.get(call + "/standing", self._door.piece(self.standing)),
            web.post(PANEL + "/redemptions", self._door.for_(PANEL_ROLES, self.redeem)),
        ]

    async def _home(self, _: web.Request) -> web.Response:
        return self._door.pages.to(PANEL)

    async def home(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """No call: the way to one."""
        return await self._page(request, agent, None)

    async def call(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """One call that this agent holds; 404, "not verified", for any other one."""
        return await self.shown(request, agent)

    async def standing(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """The piece of the page that changes, for its script."""
        found = await self._seen(request, agent)
        if found is None:
            return web.Response(status=404)
        return self._door.piece_of(request, "call.html", **found)

    async def redeem(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """Spend a token: the call is the agent's, or one and the same message."""
        form = await request.post()
        token = "".join(str(form.get("token", "")).split())
        receipt = await self._guard.redeem(agent.as_desk(), token, None)
        self._metrics.redemptions.labels("refused" if receipt is None else "redeemed").inc()
        return self._door.pages.to(
            f"{PANEL}?said=refused" if receipt is None else f"{PANEL}/calls/{receipt.call_sid}"
        )

    async def shown(
        self, request: web.Request, agent: Agent, passed: PassedOn | None = None
    ) -> web.StreamResponse:
        """The page of the call that the address names. `passed`: what the next agent is to redeem, where that was just made."""
        found = await self._seen(request, agent)
        return await self._page(request, agent, found, gone=found is None, passed=passed)

    async def _seen(self, request: web.Request, agent: Agent) -> dict[str, object] | None:
        """What stands on the page of a call that he holds, once it is on record that he looks; None for any other one."""
        found = await self._guard.held(agent, request.match_info["call_sid"])
        if found is None:
            return None
        recorded_ms = await self._guard.look(agent, found)
        flow, zone, now = found.mounted.flow, found.mounted.zone, self._guard.world.clock()
        standing = await self._guard.seen(found)
        return {
            "view": view(standing, flow, zone, agent, recorded_ms),
            "acts": acts(flow, found.call, standing.aside, zone, agent, now),
            "path": f"{PANEL}/calls/{found.call.sid}",
            "request_id": self._guard.world.nonce(),
        }

    async def _page(
        self,
        request: web.Request,
        agent: Agent,
        found: dict[str, object] | None,
        *,
        gone: bool = False,
        passed: PassedOn | None = None,
    ) -> web.StreamResponse:
        """The panel. `gone`: the address names a call that is none of his."""
        said, here = request.query.get("said", ""), request.match_info.get("call_sid")
        return self._door.dressed(
            request,
            agent,
            "agent.html",
            404 if gone else 200,
            here="agent",
            calls=[_line(one) for one in await self._guard.holding(agent) if one.call.sid != here],
            message=words.GONE if gone else MESSAGES.get(said),
            good=said in GOOD,
            passed=passed,
            sources=tuple(SOURCES),
            embedders=" ".join(self._door.pages.embedders),
            **(found or {"view": None}),
        )


def _line(found: HeldCall) -> Line:
    """A call in the list of those that he holds."""
    call, leg = found.call, found.legs[-1]
    taken = moment(leg.redeemed_ms or leg.issued_ms, found.mounted.zone)
    return Line(call.sid, reference(call.sid), call.caller.value, taken)
