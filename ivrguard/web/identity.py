"""
Who asks: the agent, or the desk's program, behind a request to the agents' pages and API.

The law of this file: one who cannot be told for sure is nobody (`None`), whatever he brought and whatever is wrong with it.
"""

from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.guard import Guard


def bearer(request: web.Request) -> str:
    """The bearer token of a request (RFC 6750, 2.1); "" if there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.isascii() else ""


class Identity:
    """Tells who asks: by a desk's key."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def of(self, request: web.Request) -> Agent | None:
        """The agent, or None. Raises `core.errors.Fault` when the store cannot say."""
        key = bearer(request)
        desk = await self._guard.desk(key) if key else None
        if desk is None:
            return None
        return Agent(desk.name, desk.name, queues=desk.queues, shown_ms=desk.created_ms, desk=True)
