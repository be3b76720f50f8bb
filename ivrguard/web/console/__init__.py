"""
The agents' pages, `/.ivrguard/console/`: what is true of a caller, at one glance, and what to do about it; and the risk team's.

words.py has every sentence; view.py, acts.py, checklist.py and threat_view.py say which of them are true; pages.py has the templates and the
headers, door.py who is let in; agent.py is the panel, calls.py its buttons, reports.py how a threat is reported, threats.py the risk team's page.
Pages call the guard's functions, never its API.
"""

from aiohttp import web

from ivrguard.guard import Guard
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.web.console.agent import Panel
from ivrguard.web.console.calls import Calls
from ivrguard.web.console.door import Door
from ivrguard.web.console.pages import Pages
from ivrguard.web.console.reports import Reports
from ivrguard.web.console.threats import Threats
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics


class Console:
    """Every page. `threats`: where reports go."""

    def __init__(
        self,
        guard: Guard,
        identity: Identity,
        metrics: Metrics,
        threats: ThreatDesk,
        pages: Pages,
    ) -> None:
        door = Door(identity, pages, guard.world)
        panel = Panel(guard, door, metrics)
        self._parts = (
            pages,
            panel,
            Calls(guard, door, panel),
            Reports(guard, threats, door),
            Threats(threats, guard.world, door),
        )

    def routes(self) -> list[web.RouteDef]:
        """The paths, but for the log-in's (web/login.py)."""
        return [route for part in self._parts for route in part.routes()]
