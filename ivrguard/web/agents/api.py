"""
The agents' API: what a route is, and the one way in and out of all of them.

The laws of this file:

1. A `Route` says all of itself once: who may, what is sent, what comes back. The same types judge what arrives, write
   what leaves, and are the OpenAPI document (openapi.py).
2. Who asks is told first (401), then whether that role may (403), then whether he showed who he is lately enough for
   what is grave (401). Only then is a body read: JSON, of the route's type to the letter, an unknown field refused.
   JSON by its media type too: no page of another origin can have a browser send that unasked (OWASP, CSRF).
3. Every refusal is a `Problem`, and nothing that came stands in one. What is not this agent's and what was never there
   are the very same `NOT_FOUND`.
4. A field that is not known, or not to be known yet, is absent: never null.
5. Nothing is kept by anybody on the way: `Cache-Control: no-store`.
6. A fault is a 503 that tells nothing; the operator's log has it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ivrguard import log
from ivrguard.core import agents
from ivrguard.core.agents import REAUTHENTICATED_S, Agent, Role
from ivrguard.core.errors import Fault
from ivrguard.web.identity import Identity
from ivrguard.web.ops import Metrics

ROOT = "/.ivrguard/agent/v1/"
"""Every route's path begins with it."""

BODY_BYTES_MAX = 8 * 1024
"""The longest thing anybody has to say here is a report's free text."""

JSON = "application/json"

logger = log.get()


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer as JSON Schema has it: 23.0 is one. For bodies that are strict otherwise."""


class Body(BaseModel):
    """
    What is sent, as JSON. `mend`: said to whoever sent something else: how it is written, in words of ours alone.

    An unknown field is refused, and an error never quotes what came.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    mend: ClassVar[str] = "send JSON as the OpenAPI document says"


class Problem(BaseModel):
    """Why something was not done. `error`: a word for programs; `mend`: for people, what to do about it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"error": "not_found", "mend": "look whether you hold this call"}]}
    )

    error: str
    mend: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says: a status of its route's, and a body of the type that the route names for it; None: none."""

    status: int
    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(status: int, error: str, mend: str | None = None, **headers: str) -> Answer:
    """A refusal; `headers` by their names, with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, Problem(error=error, mend=mend), named)


NOT_FOUND = refused(404, "not_found")
"""For whatever is not this agent's, is of no form, or never was: the very same."""

_NOBODY = refused(401, "invalid_client", WWW_Authenticate="Bearer")
STALE = refused(
    401,
    "insufficient_user_authentication",
    "show who you are once more: this is grave",
    WWW_Authenticate=f'Bearer error="insufficient_user_authentication", max_age="{REAUTHENTICATED_S}"',
)
"""RFC 9470, 3."""
_NOT_ALLOWED = refused(403, "not_allowed", "ask somebody whose role this is")
_NOT_JSON = refused(415, "unsupported_media_type", f"send the body as {JSON}")
_DOWN = refused(503, "temporarily_unavailable")

Said = TypeVar("Said", bound="Body | None")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Said]):
    """
    A request that may be answered: who asks, what he sent (None where a route takes nothing), the path's parameters, and those behind the
    question mark that the route names.
    """

    agent: Agent
    body: Said
    path: Mapping[str, str]
    query: Mapping[str, str]
    request: web.Request = field(repr=False)


Handler = Callable[[Asked[Any]], Awaitable[Answer | web.StreamResponse]]
"""A handler may write a stream by itself; everything else is an `Answer`."""


def _uncounted() -> None:
    """Nobody counts it."""


@dataclass(frozen=True, slots=True)
class Route:
    """
    One thing that can be asked.

    `name`: its operationId. `path`: behind `ROOT`, with parameters of `openapi.PARAMETERS` in braces. `answers`: by status, the
    type of what is said when it is done (None: nothing). `refuses`: by status, when it is refused, in a sentence; what every route
    refuses stands in the document by itself. `roles`: who may. `grave`: wants somebody who showed who he is lately.
    `media`: of the answer. `nobody`: counts those whom nobody knows. `query`: what may stand behind the question mark, of
    `openapi.PARAMETERS` too, with the words that it may be; left out, it is the first.
    """

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    answers: Mapping[int, type[BaseModel] | None]
    body: type[Body] | None = None
    refuses: Mapping[int, str] = field(default_factory=dict)
    roles: frozenset[Role] = frozenset(Role)
    grave: bool = False
    media: str = JSON
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    nobody: Callable[[], None] = _uncounted

    def all_refusals(self) -> Mapping[int, str]:
        """By status, when it is refused: for its own reasons, and for those that every route has."""
        every = {401: "Nobody that is known here", 503: "The guard cannot say: take it for not verified"}
        if self.grave:
            every[401] += f", or somebody who did not show who he is in the last {REAUTHENTICATED_S} seconds"
        if self.roles != frozenset(Role):
            every[403] = "Not for this role"
        if self.body is not None:
            every |= {400: "Not such JSON", 415: "Not sent as JSON"}
        if self.query:
            every[400] = "A parameter that is none of the words it may be"
        own = {
            status: f"{every[status]}; or: {words}" if status in every else words
            for status, words in self.refuses.items()
        }
        return {**every, **own}


class Api:
    """The routes as aiohttp takes them."""

    def __init__(
        self, identity: Identity, routes: Sequence[Route], metrics: Metrics, clock: Callable[[], int]
    ) -> None:
        self._identity = identity
        self._routes = routes
        self._metrics = metrics
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Each route; then, for each path, the methods that it has not; then whatever else is asked for under `ROOT`."""
        paths: dict[str, list[str]] = {}
        for route in self._routes:
            paths.setdefault(route.path, []).append(route.method)
        return [
            *(_def(route.method, ROOT + route.path, self._handler(route)) for route in self._routes),
            *(web.route("*", ROOT + path, _not_so(methods)) for path, methods in paths.items()),
            web.route("*", ROOT + "{rest:.*}", _nothing_there),
        ]

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                answer = await self._answer(route, request)
            except Fault as fault:
                logger.error("fault", reason=fault.reason, detail=str(fault))
                answer = _DOWN
            self._metrics.agent_requests.labels(route.name, answer.status).inc()
            return written(answer) if isinstance(answer, Answer) else answer

        return handler

    async def _answer(self, route: Route, request: web.Request) -> Answer | web.StreamResponse:
        agent = await self._identity.of(request)
        if agent is None:
            route.nobody()
            return _NOBODY
        if not agent.roles & route.roles:
            return _NOT_ALLOWED
        if route.grave and not agents.fresh(agent, self._clock()):
            return STALE
        query = {name: request.query.getall(name, words[:1]) for name, words in route.query.items()}
        if any(len(said) > 1 or said[0] not in route.query[name] for name, said in query.items()):
            return refused(400, "invalid_request", _words(route.query))
        body = None
        if route.body is not None:
            if request.content_type != JSON:
                return _NOT_JSON
            body = await _read(request, route.body)
            if body is None:
                return refused(400, "invalid_request", route.body.mend)
        asked = Asked(
            agent, body, request.match_info, {name: said[0] for name, said in query.items()}, request
        )
        return await route.handler(asked)


def _words(query: Mapping[str, Sequence[str]]) -> str:
    """How parameters are written."""
    return "; ".join(f"write {name} as one of: {', '.join(words)}" for name, words in query.items())


async def _read(request: web.Request, type_: type[Body]) -> Body | None:
    """What was sent; None if it is not of that type, or too much."""
    try:
        data = await request.read()
        return type_.model_validate_json(data) if len(data) <= BODY_BYTES_MAX else None
    except (ValidationError, web.HTTPRequestEntityTooLarge):
        return None


def written(answer: Answer) -> web.Response:
    """An answer as it goes out: law 4 and law 5."""
    said = answer.body.model_dump_json(exclude_none=True).encode() if answer.body is not None else b""
    headers = {"Content-Type": JSON, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=answer.status, body=said, headers={**headers, **answer.headers})


def _def(
    method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.RouteDef:
    """A route without a HEAD beside its GET: nobody asks for half a look."""
    more = {"allow_head": False} if method == "GET" else {}
    return web.route(method, path, handler, **more)


def _not_so(methods: Sequence[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    allowed = ", ".join(methods)

    async def handler(_: web.Request) -> web.Response:
        return written(refused(405, "method_not_allowed", f"this path has {allowed}", Allow=allowed))

    return handler


async def _nothing_there(_: web.Request) -> web.Response:
    return written(NOT_FOUND)
