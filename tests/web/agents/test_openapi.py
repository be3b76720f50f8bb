"""The OpenAPI document: valid, whole, and written from the types that do the work."""

from enum import StrEnum

import orjson
import pytest
import schemathesis
from pydantic import BaseModel, Field

from ivrguard.core.agents import Role
from ivrguard.web.agents.api import ROOT, Body, Route
from ivrguard.web.agents.openapi import document

URL = "https://guard.example"


class Word(StrEnum):
    SO = "so"


class Inner(BaseModel):
    """What is inside."""

    at: str | None = None
    word: Word | None = None


class Sent(Body):
    """What is sent."""

    words: str = Field(max_length=9)
    more: int | None = None


class Got(BaseModel):
    """What comes back."""

    words: str
    by: str | None = Field(None, description="Who said it.")
    either: int | str | None = None
    inner: Inner | None = None


async def handled(asked):
    """Long
    words.
    """


async def unspoken(asked): ...


ROUTES = [
    Route(
        *("POST", "calls/{call_sid}/notes", handled, "keep", "Keep a note", {201: Got, 204: None}),
        body=Sent,
        refuses={404: "Not held"},
        roles=frozenset((Role.RISK,)),
    ),
    Route(
        "GET", "calls/{call_sid}/notes", handled, "stream", "A stream", {200: None}, media="text/event-stream"
    ),
    Route("GET", "plain", unspoken, "plain", "Plain", {200: Got}),
]
MADE = orjson.loads(document(ROUTES, URL))
KEEP = MADE["paths"][ROOT + "calls/{call_sid}/notes"]["post"]


def test_it_is_valid_by_openapis_own_schema():
    """https://spec.openapis.org/oas/3.1/schema/2022-10-07; and a document that is not would be found."""
    schemathesis.openapi.from_dict(MADE).validate()
    broken = orjson.loads(document(ROUTES, URL))
    broken["paths"][ROOT + "plain"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(ValueError, match="description"):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_route_is_in_it():
    assert {(path, method) for path, each in MADE["paths"].items() for method in each} == {
        (ROOT + route.path, route.method.lower()) for route in ROUTES
    }
    assert (MADE["openapi"], MADE["servers"]) == ("3.1.0", [{"url": URL}])


def test_an_operation_says_all_of_its_route():
    """What its handler's docstring says, the call in its path, what is sent, and each answer with its type."""
    assert (KEEP["operationId"], KEEP["summary"], KEEP["description"]) == (
        "keep",
        "Keep a note",
        "Long words.",
    )
    (parameter,) = KEEP["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("call_sid", "path", True)
    sent = KEEP["requestBody"]["content"]["application/json"]["schema"]
    assert sent == {"$ref": "#/components/schemas/Sent"}
    assert list(KEEP["responses"]) == ["201", "204", "400", "401", "403", "404", "415", "503"]
    got = KEEP["responses"]["201"]["content"]["application/json"]["schema"]
    assert got == {"$ref": "#/components/schemas/Got"}
    assert "content" not in KEEP["responses"]["204"]
    problem = KEEP["responses"]["404"]["content"]["application/json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/Problem"}


def test_a_stream_is_one():
    stream = MADE["paths"][ROOT + "calls/{call_sid}/notes"]["get"]["responses"]["200"]
    assert stream["content"] == {"text/event-stream": {"schema": {"type": "string"}}}


def test_a_handler_without_words_has_none():
    assert "description" not in MADE["paths"][ROOT + "plain"]["get"]


def test_an_answer_has_no_null():
    """What is not known is absent (api.py, law 4); what is sent may be null."""
    schemas = MADE["components"]["schemas"]
    got = schemas["Got"]["properties"]
    assert got["by"] == {"type": "string", "description": "Who said it.", "title": "By"}
    assert got["inner"] == {"$ref": "#/components/schemas/Inner"}
    assert [way["type"] for way in got["either"]["anyOf"]] == ["integer", "string"]
    assert "null" in str(schemas["Sent"]["properties"]["more"])
    assert "null" not in str(schemas["Inner"]) + str(schemas["Got"])
    assert schemas["Sent"]["additionalProperties"] is False


def test_who_asks_says_so_in_one_of_two_ways():
    assert MADE["security"] == [{"bearer": []}, {"session": []}]
    assert MADE["components"]["securitySchemes"]["session"]["name"].startswith("__Host-")
