"""
What an agent does with the caller that he holds: a code that is read to him, a time aside at the keypad, the account that the caller
names, the next agent.

The laws of this file:

1. What comes of it is decided by the guard, when the button is pressed; here it gets its words.
2. A form that is sent twice is one request (`request`): no second code, no second guess, the same token.
3. Digits live here for one request. A token for the next agent is in the answer to the form that asked for it, and nowhere else.
"""

from collections.abc import Mapping

from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.core.aside import Denied
from ivrguard.core.call import Told
from ivrguard.core.passing import Why as NotPassed
from ivrguard.core.readback import Why as NoCode
from ivrguard.core.rules import TARGET_KINDS, Target
from ivrguard.guard import Guard
from ivrguard.guard.passing import PassedOn
from ivrguard.web.console.agent import Panel
from ivrguard.web.console.door import PANEL, PANEL_ROLES, Door

REQUEST_CHARS_MAX = 64
VALUE_CHARS_MAX = 300


class Calls:
    """Handlers of the buttons of a call's page."""

    def __init__(self, guard: Guard, door: Door, panel: Panel) -> None:
        self._guard = guard
        self._door = door
        self._panel = panel

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        call = PANEL + "/calls/{call_sid}"
        return [
            web.post(call + "/codes", self._door.for_(PANEL_ROLES, self.send_code)),
            web.post(call + "/answers", self._door.for_(PANEL_ROLES, self.answer)),
            web.post(call + "/aside", self._door.for_(PANEL_ROLES, self.lead_aside)),
            web.post(call + "/claims", self._door.for_(PANEL_ROLES, self.claim)),
            web.post(call + "/transfers", self._door.for_(PANEL_ROLES, self.pass_on)),
        ]

    async def send_code(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """Have a code sent to the number on file."""
        form = await _form(request)
        done = await self._guard.ask_code(agent, _sid(request), request=_request(form))
        return self._back(request, f"code_{done.value}" if isinstance(done, NoCode) else "")

    async def answer(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """What the caller read, as the agent typed it."""
        form = await _form(request)
        digits = "".join(form.get("digits", "").split())
        if not (digits.isascii() and digits.isdigit()):
            return self._back(request, f"code_{NoCode.MISTYPED.value}")
        done = await self._guard.answer_code(agent, _sid(request), request=_request(form), digits=digits)
        if isinstance(done, Told):
            return self._back(request, "code_right" if done.right else "code_wrong")
        return self._back(request, "" if done is None else f"code_{done.value}")

    async def lead_aside(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """To the keypad, for the factor whose button it was, and back to this agent."""
        factor = (await _form(request)).get("factor", "")
        done = await self._guard.bridges.aside(agent, _sid(request), factor)
        return self._back(request, f"aside_{done.value}" if isinstance(done, Denied) else "")

    async def claim(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """The account that the caller names."""
        digits = "".join((await _form(request)).get("account", "").split())
        if not (digits.isascii() and digits.isdigit()) or len(digits) > VALUE_CHARS_MAX:
            return self._back(request, "no_account")
        done = await self._guard.name_account(agent, _sid(request), digits)
        return self._back(request, f"not_{done.value}" if isinstance(done, NotPassed) else "")

    async def pass_on(self, request: web.Request, agent: Agent) -> web.StreamResponse:
        """A token for the next agent, on the page that answers this form and on no other one."""
        form = await _form(request)
        kind, _, value = form.get("queue", "").strip().partition(":")
        if kind not in TARGET_KINDS or not value or len(value) > VALUE_CHARS_MAX or not value.isprintable():
            return self._back(request, "no_queue")
        to = Target(kind, value)
        done = await self._guard.pass_on(agent, _sid(request), to=to, intent="", request=_request(form))
        if not isinstance(done, PassedOn):
            return self._back(request, "" if done is None else f"not_{done.value}")
        return await self._panel.shown(request, agent, passed=done)

    def _back(self, request: web.Request, said: str) -> web.Response:
        """To the call's page, which says what came of it."""
        path = f"{PANEL}/calls/{_sid(request)}"
        return self._door.pages.to(f"{path}?said={said}" if said else path)


def _sid(request: web.Request) -> str:
    return request.match_info["call_sid"]


def _request(form: Mapping[str, str]) -> str:
    return form.get("request", "")[:REQUEST_CHARS_MAX]


async def _form(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
