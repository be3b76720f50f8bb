"""The one way in and out of the agents' API, on routes made up for it: a table for each law."""

from dataclasses import dataclass, field, replace

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import BaseModel, ConfigDict, ValidationError

from ivrguard.core.agents import REAUTHENTICATED_S, Agent, Role
from ivrguard.core.errors import Busy, StoreFault
from ivrguard.web.agents.api import BODY_BYTES_MAX, NOT_FOUND, ROOT, Answer, Api, Body, Route, Whole, refused
from ivrguard.web.ops import Metrics

NOW_MS = 1_800_000_000_000
ANN = Agent("agent:ann", shown_ms=NOW_MS)


class Note(Body):
    mend = 'send {"words": "…"} as JSON'

    words: str
    more: int | None = None


class Kept(BaseModel):
    words: str
    by: str | None = None


@dataclass
class Desk:
    """Everything that the made up routes look at. `agent`: who asks; `fault`: what is met."""

    agent: Agent | None = ANN
    fault: Exception | None = None
    asked: list = field(default_factory=list)
    nobody: int = 0

    async def of(self, request):
        if isinstance(self.fault, StoreFault):
            raise self.fault
        return self.agent

    async def keep(self, asked):
        self.asked.append(asked)
        if self.fault is not None:
            raise self.fault
        return Answer(201, Kept(words=asked.body.words, by=None), {"X-Own": "1"})

    async def show(self, asked):
        self.asked.append(asked)
        return NOT_FOUND if asked.path["call_sid"] == "CA0" else Answer(200, Kept(words="x", by="y"))

    async def listed(self, asked):
        return Answer(200, Kept(words=asked.query["state"]))

    async def nothing(self, asked):
        return Answer(204)

    async def stream(self, asked):
        response = web.StreamResponse()
        await response.prepare(asked.request)
        await response.write(b"by itself")
        return response

    def count(self):
        self.nobody += 1


def routes(desk):
    usual = {"summary": "x", "answers": {200: Kept}}
    return [
        Route("POST", "notes", desk.keep, name="keep", **usual, body=Note, nobody=desk.count),
        Route("GET", "calls/{call_sid}", desk.show, name="show", **usual),
        Route("POST", "calls/{call_sid}", desk.nothing, name="nothing", **usual),
        Route("POST", "risks", desk.nothing, name="risks", **usual, roles=frozenset((Role.RISK,))),
        Route("POST", "grave", desk.nothing, name="grave", **usual, grave=True),
        Route("GET", "stream", desk.stream, name="stream", **usual),
        Route("GET", "listed", desk.listed, name="listed", **usual, query={"state": ("open", "closed")}),
    ]


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
async def ask(desk, metrics):
    """Sends one request; status, headers, body."""
    app = web.Application(client_max_size=2 * BODY_BYTES_MAX)
    app.add_routes(Api(desk, routes(desk), metrics, lambda: NOW_MS).routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as session:

        async def asked(method, path, body=None, type_="application/json"):
            headers = {"Content-Type": type_} if body is not None and type_ else {}
            async with session.request(
                method,
                server.make_url(ROOT + path),
                data=body,
                headers=headers,
                skip_auto_headers=() if type_ else ("Content-Type",),
            ) as answer:
                return answer.status, answer.headers, await answer.read()

        yield asked


GOOD = b'{"words": "so"}'


async def test_what_is_said_and_by_whom(ask, desk):
    """The handler gets who asks and what he sent, as its type; what is not known is absent, never null."""
    status, headers, body = await ask("POST", "notes", GOOD)
    assert (status, body, headers["X-Own"]) == (201, b'{"words":"so"}', "1")
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("application/json", "no-store")
    (asked,) = desk.asked
    assert (asked.agent, asked.body) == (ANN, Note(words="so"))
    assert (await ask("GET", "calls/CA1"))[2] == b'{"words":"x","by":"y"}'
    assert desk.asked[1].path == {"call_sid": "CA1"}


async def test_who_is_nobody_is_told_nothing(ask, desk):
    """Whatever he sends, wherever to: no body of his is read."""
    desk.agent = None
    for method, path, body in [
        ("POST", "notes", b"x" * 99_999),
        ("GET", "calls/CA0", None),
        ("POST", "risks", None),
    ]:
        status, headers, said = await ask(method, path, body)
        assert (status, said, headers["WWW-Authenticate"]) == (401, b'{"error":"invalid_client"}', "Bearer")
    assert (desk.asked, desk.nobody) == ([], 1)


@pytest.mark.parametrize(
    ("roles", "status"),
    [({Role.AGENT}, 403), ({Role.SUPERVISOR}, 403), (set(), 403), ({Role.RISK}, 204), (set(Role), 204)],
)
async def test_a_role_that_is_not_his(ask, desk, roles, status):
    desk.agent = replace(ANN, roles=frozenset(roles))
    got, _, body = await ask("POST", "risks")
    assert got == status
    assert status != 403 or orjson.loads(body)["error"] == "not_allowed"


async def test_one_without_any_role_may_nothing(ask, desk):
    desk.agent = replace(ANN, roles=frozenset())
    assert (await ask("GET", "calls/CA1"))[0] == 403


@pytest.mark.parametrize(
    ("ago_s", "status"), [(0, 204), (REAUTHENTICATED_S, 204), (REAUTHENTICATED_S + 1, 401)]
)
async def test_what_is_grave_wants_somebody_who_showed_who_he_is_lately(ask, desk, ago_s, status):
    """RFC 9470: what is wanted stands in the header."""
    desk.agent = replace(ANN, shown_ms=NOW_MS - ago_s * 1000)
    got, headers, body = await ask("POST", "grave")
    assert got == status
    if status == 401:
        assert orjson.loads(body)["error"] == "insufficient_user_authentication"
        assert 'max_age="300"' in headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"so",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"words": 1}',
        b'{"words": "so", "other": 1}',
        b'{"words": "so", "more": "1e400"}',
        b"[" * 8_000,
        b'{"words": "' + b"x" * BODY_BYTES_MAX + b'"}',
        b'{"words": "' + b"x" * BODY_BYTES_MAX * 3 + b'"}',
    ],
    ids=lambda body: f"{body[:20]!r} of {len(body)}",
)
async def test_what_is_not_such_json_is_400_and_says_how_it_is_written(ask, desk, body):
    """In words of ours: nothing that came comes back."""
    status, _, said = await ask("POST", "notes", body)
    assert status == 400
    assert orjson.loads(said) == {"error": "invalid_request", "mend": 'send {"words": "…"} as JSON'}
    assert desk.asked == []


@pytest.mark.parametrize(
    "type_", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
)
async def test_what_a_page_of_another_origin_could_have_sent_is_415(ask, desk, type_):
    """The media types that a browser sends to anybody unasked, and none at all."""
    status, _, said = await ask("POST", "notes", GOOD, type_)
    assert (status, orjson.loads(said)["error"]) == (415, "unsupported_media_type")
    assert desk.asked == []


class Count(Body):
    model_config = ConfigDict(strict=True)

    count: Whole


@pytest.mark.parametrize(
    ("said", "count"), [("7", 7), ("7.0", 7), ("7.5", None), ('"7"', None), ("true", None), ("NaN", None)]
)
def test_an_integer_is_one_as_json_schema_has_it(said, count):
    """So that what the document calls valid is taken; in a body that is strict, nothing else is."""
    try:
        assert Count.model_validate_json(f'{{"count": {said}}}').count == count
    except ValidationError:
        assert count is None


async def test_a_charset_does_no_harm(ask):
    assert (await ask("POST", "notes", GOOD, "application/json; charset=utf-8"))[0] == 201


async def test_where_nothing_is_taken_nothing_is_read(ask):
    assert (await ask("POST", "calls/CA1", b"\xff", "x/y"))[0] == 204


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 200, "open"),
        ("?state=open", 200, "open"),
        ("?state=closed", 200, "closed"),
        ("?other=1", 200, "open"),  # nobody's: as it is at every route
        ("?state=", 400, None),
        ("?state=Closed", 400, None),
        ("?state=open&state=closed", 400, None),
    ],
)
async def test_a_parameter_is_one_of_its_words_or_the_first(ask, query, status, words):
    """And whoever writes another reads which there are, and nothing of what he wrote."""
    got, _, body = await ask("GET", f"listed{query}")
    said = orjson.loads(body)
    assert (got, said.get("words")) == (status, words)
    if status == 400:
        assert said == {"error": "invalid_request", "mend": "write state as one of: open, closed"}


@pytest.mark.parametrize("fault", [StoreFault("no disk"), Busy("full")])
async def test_a_fault_is_503_and_tells_the_operator_alone(ask, desk, logged, fault):
    desk.fault = fault
    status, _, body = await ask("POST", "notes", GOOD)
    assert (status, body) == (503, b'{"error":"temporarily_unavailable"}')
    assert [line["reason"] for line in logged if line["event"] == "fault"] == [fault.reason]


async def test_what_is_not_there_is_not_found(ask, desk):
    """The same bytes as for a call that is not his; to anybody."""
    nowhere = await ask("GET", "no/such/thing")
    assert (nowhere[0], nowhere[2]) == (404, (await ask("GET", "calls/CA0"))[2])
    desk.agent = None
    assert (await ask("DELETE", ""))[2] == nowhere[2] == b'{"error":"not_found"}'


@pytest.mark.parametrize(
    ("method", "allowed"), [("PUT", "GET, POST"), ("HEAD", "GET, POST"), ("PATCH", "GET, POST")]
)
async def test_a_method_that_a_path_has_not(ask, method, allowed):
    status, headers, _ = await ask(method, "calls/CA1")
    assert (status, headers["Allow"]) == (405, allowed)


async def test_a_stream_is_written_by_its_handler(ask):
    assert (await ask("GET", "stream"))[2] == b"by itself"


async def test_each_request_is_counted_by_what_was_asked(ask, metrics):
    """Never by the path: a CallSid is no label."""
    await ask("GET", "calls/CA1")
    await ask("GET", "calls/CA0")
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in metrics.agent_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == {("show", "200"): 1, ("show", "404"): 1}


def test_a_refusal_names_its_headers():
    assert refused(429, "too_many", Retry_After="5").headers == {"Retry-After": "5"}


def test_what_every_route_refuses_stands_beside_its_own():
    """Its own words come behind those that every route has."""
    usual = {"handler": Desk().nothing, "name": "x", "summary": "x", "answers": {}}
    plain = Route("GET", "x", **usual)
    assert set(plain.all_refusals()) == {401, 503}
    full = replace(
        plain, body=Note, roles=frozenset((Role.RISK,)), grave=True, refuses={403: "Not hers", 409: "Not now"}
    )
    assert set(full.all_refusals()) == {400, 401, 403, 409, 415, 503}
    assert full.all_refusals()[403] == "Not for this role; or: Not hers"
    assert full.all_refusals()[409] == "Not now"
