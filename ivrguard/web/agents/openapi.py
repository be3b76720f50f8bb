"""
The OpenAPI 3.1 document of the agents' API, written from the routes themselves (https://spec.openapis.org/oas/v3.1.0).

The law of this file: nothing stands in the document that is not checked or written by the type it was made of (api.py).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ivrguard.web.agents.api import JSON, ROOT, Problem, Route
from ivrguard.web.sessions import COOKIE

VERSION = "1.0.0"
"""Of the API: a new field is a minor one, and what breaks a client is `agent/v2`."""

PARAMETERS: Mapping[str, Mapping[str, object]] = {
    "call_sid": {
        "description": "The call, by Twilio's CallSid.",
        "schema": {"type": "string", "pattern": "^CA[0-9a-f]{32}$"},
        "example": "CA0123456789abcdef0123456789abcdef",
    },
    "incident": {
        "description": "The incident: its call's CallSid, or `TH` and 32 hex digits where it came by no call.",
        "schema": {"type": "string", "pattern": "^(?:CA|TH)[0-9a-f]{32}$"},
        "example": "TH0123456789abcdef0123456789abcdef",
    },
    "state": {"description": "Those that are open, or those that were closed.", "example": "closed"},
}
"""What may stand in a path: `{name}`, or behind a question mark. A new one is one line here."""

ABOUT = """\
What an agent's desk asks of the guard. An agent sees the calls that he holds, because he redeemed their tokens, and no other
one: there is no search. Times are RFC 3339, UTC. A field that is not known, or may not be known yet, is absent.
Each answer says `Cache-Control: no-store`; each look at a call is on record."""

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A desk's key (`ivrguard desks add`), or an access token of the company's identity provider.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The session of somebody who logged in at `/.ivrguard/console/login`.",
    },
}


def document(routes: Sequence[Route], url: str) -> bytes:
    """The document as JSON. `url`: where the guard is reached."""
    names, schemas = _schemas(routes)
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(ROOT + route.path, {})[route.method.lower()] = _operation(route, names)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "ivrguard: the agents' API", "version": VERSION, "description": ABOUT},
            "servers": [{"url": url}],
            "security": [{name: []} for name in SCHEMES],
            "paths": paths,
            "components": {"schemas": schemas, "securitySchemes": SCHEMES},
        }
    )


_Names = Mapping[Any, Any]
"""A type and what is done with it (`validation`, `serialization`), and how it is referred to."""


def _schemas(routes: Iterable[Route]) -> tuple[_Names, Mapping[str, Any]]:
    """How each type is referred to, and what all of them are."""
    types: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for route in routes:
        if route.body is not None:
            types[route.body, "validation"] = None
        types |= {(type_, "serialization"): None for type_ in route.answers.values() if type_ is not None}
    names, found = models_json_schema(list(types), ref_template="#/components/schemas/{model}")
    return names, {
        name: _never_null(schema) if name not in _sent(routes) else schema
        for name, schema in found.get("$defs", {}).items()
    }


def _sent(routes: Iterable[Route]) -> frozenset[str]:
    """The names of what is sent: there a null is one way to leave a field out."""
    return frozenset(route.body.__name__ for route in routes if route.body is not None)


def _never_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer's type, where what is not known is absent."""
    properties = schema.get("properties")
    if properties is None:
        return schema
    return {**schema, "properties": {name: _known(each) for name, each in properties.items()}}


def _known(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    ways = [way for way in schema.get("anyOf", ()) if way != {"type": "null"}]
    if not ways:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return ways[0] | rest if len(ways) == 1 else {"anyOf": ways} | rest


def _asked(name: str, words: Sequence[str]) -> dict[str, object]:
    """A parameter behind the question mark."""
    schema = {"type": "string", "enum": list(words), "default": words[0]}
    return {"name": name, "in": "query", "required": False, "schema": schema, **PARAMETERS[name]}


def _operation(route: Route, names: _Names) -> dict[str, object]:
    problem = names[Problem, "serialization"]
    answers: dict[str, Mapping[str, object]] = {
        str(status): {"description": words, "content": {JSON: {"schema": problem}}}
        for status, words in sorted(route.all_refusals().items())
    }
    for status, type_ in route.answers.items():
        said: dict[str, object] = {"description": route.summary}
        if route.media != JSON:
            said["content"] = {route.media: {"schema": {"type": "string"}}}
        elif type_ is not None:
            said["content"] = {JSON: {"schema": names[type_, "serialization"]}}
        answers[str(status)] = said
    operation: dict[str, object] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": dict(sorted(answers.items())),
    }
    if told := (route.handler.__doc__ or "").strip():
        operation["description"] = re.sub(r"\s+", " ", told)
    named = re.findall(r"\{(\w+)\}", route.path)
    if named or route.query:
        operation["parameters"] = [
            *({"name": name, "in": "path", "required": True, **PARAMETERS[name]} for name in named),
            *(_asked(name, words) for name, words in route.query.items()),
        ]
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": names[route.body, "validation"]}},
        }
    return operation
