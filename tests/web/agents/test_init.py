"""The whole API over real sockets, held against its own document by Schemathesis: whatever it is sent, it answers as it says."""

import asyncio
import re
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as searching
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from ivrguard.core.standing import Status
from ivrguard.web import agents
from ivrguard.web.agents import openapi
from ivrguard.web.agents.api import ROOT, Answer
from ivrguard.web.agents.redemptions import Redemptions

STREAMS = {"text/event-stream"}
"""What never ends is not fuzzed: test_events.py reads it."""


async def read(guarded, path="openapi.json", **headers):
    async with guarded.session.get(f"{guarded.guard_url}{ROOT}{path}", headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_the_document_is_anybodys(guarded):
    """A developer need not be an agent to read it; it may be kept for a while."""
    status, headers, body = await read(guarded)
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "application/json",
        "max-age=300",
    )
    document = orjson.loads(body)
    schemathesis.openapi.from_dict(document).validate()
    assert document["servers"] == [{"url": guarded.server.world.issuer}]
    assert ROOT + "redemptions" in document["paths"]


async def test_every_path_of_it_is_served_and_wants_to_know_who_asks(guarded):
    """401 for each; and nothing is served that is not in it, but for itself."""
    document = orjson.loads((await read(guarded))[2])
    named = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    for method, path in named:
        url = guarded.guard_url + path.replace("{call_sid}", "CA" + "0" * 32).replace(
            "{incident}", "TH" + "0" * 32
        )
        async with guarded.session.request(method, url) as answer:
            assert (answer.status, path) == (401, path)
    routes = guarded.server.app().router.routes()
    served = {(route.method, route.resource.canonical) for route in routes if route.resource}
    served = {(method, path) for method, path in served if path.startswith(ROOT) and method != "*"}
    assert served - named == {("GET", ROOT + "openapi.json")}


def operations(document):
    """Each operation that ends, by path and method."""
    for path, each in document["paths"].items():
        for method, operation in each.items():
            media = {name for answer in operation["responses"].values() for name in answer.get("content", ())}
            if not media & STREAMS:
                yield path, method.upper(), bool(operation.get("parameters") or operation.get("requestBody"))


EXAMPLES = 4


async def fuzzed(guarded, key, mode, only=""):
    """The statuses of what Schemathesis makes up, each answer held against the document."""
    document, statuses = orjson.loads((await read(guarded))[2]), Counter()
    schema, headers = schemathesis.openapi.from_dict(document), {"Authorization": f"Bearer {key}"}

    def all_of_it():
        for path, method, takes in operations(document):
            if only not in path or (mode is GenerationMode.NEGATIVE and not takes):
                continue  # nothing is sent there that could be wrong

            @searching(
                max_examples=EXAMPLES,
                suppress_health_check=list(HealthCheck),
                database=None,
                deadline=None,
                derandomize=True,
            )
            @given(case=schema[path][method].as_strategy(generation_mode=mode))
            def fuzz(case):
                its = (
                    {} if "Authorization" in (case.headers or {}) else headers
                )  # what is wrong may be the key
                answer = case.call(base_url=guarded.guard_url, headers=its)
                statuses[answer.status_code] += 1
                case.validate_response(answer, headers=its)

            fuzz()

    await asyncio.to_thread(all_of_it)
    return statuses


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
async def test_whatever_is_sent_it_answers_as_the_document_says(guarded, mode):
    """No 5xx, no 2xx for what is of no form, each answer of its type; a token that was made up is none."""
    statuses = await fuzzed(guarded, await guarded.desk("ann", "*"), mode)
    assert statuses
    assert max(statuses) < 500
    assert mode is GenerationMode.POSITIVE or min(statuses) >= 400


@pytest.mark.parametrize("answer", [Answer(201), Answer(418), Answer(500)], ids=lambda one: str(one.status))
async def test_an_answer_that_the_document_does_not_have_is_found(start, open_flow, monkeypatch, answer):
    """The planted fault: an answer of another form, of another status, an error of ours."""

    async def careless(self, asked):
        return answer

    monkeypatch.setattr(Redemptions, "redeem", careless)
    async with start(open_flow) as guarded:
        with pytest.raises(FailureGroup):
            await fuzzed(guarded, await guarded.desk("ann", "*"), GenerationMode.POSITIVE, "redemptions")


async def test_the_document_is_made_once(guarded, monkeypatch):
    """Not for each who reads it."""
    monkeypatch.setattr(openapi, "document", None)
    monkeypatch.setattr(agents, "openapi", None)
    assert (await read(guarded))[0] == 200


# ── docs/agents.md ───────────────────────────────────────────────────────────────────────────────────────

PAGE = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()


def curls(**variables):
    """Each command line of the page as curl takes it: method, URL, headers, body."""
    for found in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        block = found
        for name, value in variables.items():
            block = block.replace(f"${name}", value)
        for line in block.replace("\\\n", " ").splitlines():
            command, *words = shlex.split(line)
            assert (command, "$" in line) == ("curl", False), line
            named = {"-H": [], "-d": []}
            urls = [word for word in words if word.startswith("http")]
            for option, value in pairwise(words):
                if option in named:
                    named[option].append(value)
            headers = dict(each.split(": ", 1) for each in named["-H"])
            yield ("POST" if named["-d"] else "GET"), *urls, headers, "".join(named["-d"])


async def test_every_command_of_the_page_works(centre, desk):
    """In the order of the page: the token is redeemed, then the call is looked at, and the stream tells of it."""
    line = centre.call()
    await line.until_input()
    await line.press("123456#")
    await line.press("24681357")
    token, key = line.waiting.attributes["ivrguard_token"], (await desk("ann")).key
    answered = []
    for method, url, headers, body in curls(GUARD=centre.guard_url, KEY=key, TOKEN=token, CALL=line.call_sid):
        async with centre.session.request(method, url, headers=headers, data=body.encode() or None) as answer:
            lines = [await answer.content.readline() for _ in range(5)]
            answered.append((answer.status, line.call_sid.encode() in b"".join(lines)))
    assert answered == [(200, False), (201, True), (200, True), (200, True), (200, True)]


async def test_the_page_names_every_path_of_its_own_and_every_event(guarded):
    document = orjson.loads((await read(guarded))[2])
    for path in ("redemptions", "calls", "calls/{call_sid}", "events"):
        assert ROOT + path in document["paths"]
        assert ROOT + path.replace("{call_sid}", "$CALL") in PAGE
    told = document["paths"][ROOT + "events"]["get"]["description"]
    for event in ("call", "gone", "unavailable", "over"):
        assert f"`{event}`" in told
        assert f"| `{event}` |" in PAGE
    assert [status for status in Status if f"| `{status.value}` |" not in PAGE] == []
