"""
Who asks: the agent, or the desk's program, behind a request to the agents' pages and API.

The laws of this file:

1. One who cannot be told for sure is nobody (`None`), whatever he brought and whatever is wrong with it.
2. Asking again for a request that is under way (a stream asks each second) prolongs nothing.
"""

from aiohttp import web

from ivrguard.core.agents import Agent
from ivrguard.guard import Guard

SESSION_COOKIE = "__Host-ivrguard"
"""The cookie of somebody who logged in. `__Host-`: over TLS, from this host, for all of its paths (RFC 6265bis, 4.1.3.2)."""


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
