"""
What is said and how it is signed: nothing of it shows, a signature is of one thing, and docs/directory.md and its OpenAPI
say exactly what the code does. The recipe in the document is run, and its worked example worked out anew.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from ivrguard.directory import bank, messages
from ivrguard.directory.messages import SigningKey, answer_signature, request_signature

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "directory.md").read_text()
OPENAPI = yaml.safe_load((DOCS / "directory.openapi.yaml").read_text())
MODELS = messages.Message.__subclasses__()

START_MS = 1_800_000_000_000
SECRET = bytes(range(32))
PIN, OWNER = "24681357", "+15551230001"
REFERENCE = "5f0c3e9a7b1d42688c2f6e0d9a4b7c15"


@pytest.mark.parametrize("said", MODELS)
def test_what_is_said_does_not_show(said: type[messages.Message]) -> None:
    """No id, number, PIN or reference in a repr."""
    words = {"account": "123456", "number": OWNER, "reference": REFERENCE, "pin": PIN, "id": "123456"}
    values = words | {"numbers": [OWNER], "language": "", "sms_number": OWNER, "right": True, "changed": True}
    if said in {messages.FoundAccount, messages.LookupAnswer}:
        values["pin"] = REFERENCE
    if said is messages.LookupAnswer:
        values["account"] = messages.FoundAccount(**values)
    shown = repr(said(**{name: value for name, value in values.items() if name in said.model_fields}))
    assert not any(secret in shown for secret in (PIN, "123456", OWNER, REFERENCE))


@pytest.mark.parametrize("pin", ["", "1" * 17, "2468135٧", "2468 1357", "2468135*"])
def test_a_pin_is_digits(pin: str) -> None:
    """A telephone's: nothing else can be keyed, and the bank need not wonder. The fault does not show it."""
    with pytest.raises(ValidationError) as caught:
        messages.VerifyRequest(reference=REFERENCE, pin=pin)
    assert not pin or pin not in str(caught.value)


def test_a_key_does_not_show() -> None:
    key = SigningKey("k1", SECRET)
    assert SECRET.hex() not in repr(key)
    assert str(SECRET) not in repr(key)


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 999), st.integers(0, 999))
def test_a_signature_is_of_one_thing(body: bytes, other: bytes, status: int, status2: int) -> None:
    """Whatever differs in what is signed differs in the signature."""
    first = answer_signature(SECRET, status, "0" * 32, body)
    second = answer_signature(SECRET, status2, "0" * 32, other)
    assert (first == second) == ((body, status) == (other, status2))


def test_a_request_is_not_its_own_answer() -> None:
    """Whoever sends the guard's own words back to it has signed nothing."""
    nonce, body = "0" * 32, b'{"right": true}'
    signed = {request_signature(SECRET, path, START_MS, nonce, body) for path in bank.REQUESTS}
    assert len(signed) == 3
    assert answer_signature(SECRET, 200, nonce, body) not in signed


# ── OpenAPI ──────────────────────────────────────────────────────────────────────────────────────────────


def plain(schema: object) -> object:
    """A schema without titles, which say nothing, and with its words on one line."""
    if isinstance(schema, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else plain(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [plain(one) for one in schema] if isinstance(schema, list) else schema


def test_the_schemas_are_the_codes_own() -> None:
    """Every message of the protocol, and nothing else but the refusal, which is not read."""
    _, made = models_json_schema(
        [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    written = dict(OPENAPI["components"]["schemas"])
    assert written.pop("Refusal")["type"] == "object"
    assert plain(written) == plain(made["$defs"])


def referred(node: object) -> object:
    """A node of the document, or the one that it refers to."""
    while isinstance(node, dict) and "$ref" in node:
        found: object = OPENAPI
        for part in node["$ref"].removeprefix("#/").split("/"):
            assert isinstance(found, dict)
            found = found[part]
        node = found
    return node


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r"\$ref'?: '([^']+)'", (DOCS / "directory.openapi.yaml").read_text()):
        assert referred({"$ref": reference})


OPERATIONS = {
    messages.LOOKUP: (["LookupByAccount", "LookupByNumber"], "LookupAnswer"),
    messages.VERIFY: (["VerifyRequest"], "VerifyAnswer"),
    messages.CHANGE: (["ChangeRequest"], "ChangeAnswer"),
}


def test_the_paths_and_headers_are_the_codes_own() -> None:
    """Each operation is a POST with the four headers, and its answers are signed; its examples are as agreed."""
    assert OPENAPI["openapi"] == "3.1.0"
    assert set(OPENAPI["paths"]) == set(OPERATIONS) == set(bank.REQUESTS)
    for path, (asked, answer) in OPERATIONS.items():
        assert set(OPENAPI["paths"][path]) == {"post"}
        operation = OPENAPI["paths"][path]["post"]
        headers = [
            (one["in"], one["required"], one["name"]) for one in map(referred, operation["parameters"])
        ]
        names = (messages.KEY_ID, messages.TIMESTAMP, messages.NONCE, messages.SIGNATURE)
        assert headers == [("header", True, name) for name in names]
        said = operation["requestBody"]["content"]["application/json"]
        schemas = [one["$ref"] for one in said["schema"].get("oneOf", [said["schema"]])]
        assert schemas == [f"#/components/schemas/{name}" for name in asked]
        models = [getattr(messages, name) for name in asked]
        for model, example in zip(models * 2, said["examples"].values(), strict=False):
            assert model.model_validate(example["value"])
        good = operation["responses"]["200"]
        assert set(good["headers"]) == {messages.SIGNATURE}
        answered = good["content"]["application/json"]
        assert answered["schema"]["$ref"] == f"#/components/schemas/{answer}"
        for example in answered["examples"].values():
            assert getattr(messages, answer).model_validate(example["value"])
        refusals = {code: referred(one) for code, one in operation["responses"].items() if code != "200"}
        assert set(refusals) == {"400", "401", "404", "500", "503"}
        assert all("headers" in one for code, one in refusals.items() if code != "401")


# ── docs/directory.md ────────────────────────────────────────────────────────────────────────────────────


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)\n```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_the_worked_example_is_right() -> None:
    """The key, what is signed and both signatures, worked out anew from what stands in the document."""
    secret = base64.b64decode(re.search(r"The key `k1` is `([^`]+)`", DOCUMENT)[1])
    for shown, lines in zip(blocks("http"), blocks("text"), strict=True):
        head, _, body = shown.partition("\n\n")
        headers = dict(re.findall(r"^([\w-]+): (.*)$", head, re.MULTILINE))
        assert lines.endswith("\n" + hashlib.sha256(body.encode()).hexdigest())
        assert headers["Ivrguard-Signature"] == hmac.digest(secret, lines.encode(), "sha256").hex()
    asked, answered = blocks("http")
    head, _, body = asked.partition("\n\n")
    headers = dict(re.findall(r"^([\w-]+): (.*)$", head, re.MULTILINE))
    stamp, nonce = int(headers["Ivrguard-Timestamp"]), headers["Ivrguard-Nonce"]
    assert headers["Ivrguard-Signature"] == request_signature(
        secret, messages.VERIFY, stamp, nonce, body.encode()
    )
    expected = answer_signature(secret, 200, nonce, answered.partition("\n\n")[2].encode())
    assert f"Ivrguard-Signature: {expected}" in answered
    assert messages.VerifyRequest.model_validate_json(body).model_dump_json() == body


def test_the_recipe_in_python_does_what_it_says() -> None:
    """The code in the document is run: it takes what the guard signs, and signs what the guard takes."""
    (code,) = blocks("python")
    recipe: dict[str, Callable[..., object]] = {}
    exec(code, recipe)
    body, nonce = b'{"account":"123456"}', "ab" * 16
    signature = request_signature(SECRET, messages.LOOKUP, START_MS, nonce, body)
    headers = {messages.TIMESTAMP: str(START_MS), messages.NONCE: nonce, messages.SIGNATURE: signature}
    assert recipe["is_right"](SECRET, messages.LOOKUP, headers, body)
    assert not recipe["is_right"](SECRET, messages.LOOKUP, headers, body + b" ")
    assert not recipe["is_right"](SECRET, messages.LOOKUP, headers | {messages.SIGNATURE: "ä"}, body)
    assert recipe["answer_signature"](SECRET, 200, nonce, body) == answer_signature(SECRET, 200, nonce, body)


def test_the_numbers_in_the_document_are_the_codes_own() -> None:
    for said in (
        f"({bank.DEADLINE_S:g} seconds)",
        f"more than {bank.REQUESTS_AT_ONCE_MAX} requests under way",
        f"under {bank.ANSWER_BYTES_MAX // 1024} kB",
        f"more than {bank.IDLE_S_MAX:g} seconds",
        f"up to {messages.ACCOUNT_CHARS_MAX} characters",
        f"1 to {messages.PIN_DIGITS_MAX} digits",
        "five failures in a row",
        "not made for ten seconds",
    ):
        assert said in DOCUMENT


def test_every_message_in_the_document_is_as_agreed() -> None:
    """The blocks of JSON, in the order of the document."""
    models = [
        *(messages.LookupByAccount, messages.LookupByNumber, messages.LookupAnswer, messages.LookupAnswer),
        *(messages.VerifyRequest, messages.ChangeRequest),
    ]
    for model, text in zip(models, blocks("json"), strict=True):
        assert model.model_validate_json(text)
