"""
The pretend bank's account system: what it answers, whom it answers, and the same work for everybody; and that it is what
docs/directory.openapi.yaml says, whatever it is sent.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import Counter
from pathlib import Path

import aiohttp
import jsonschema
import pytest
import requests
import schemathesis
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given
from hypothesis import settings as searching
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import Clock

NOW_MS = 1_800_000_000_000
SECRET = bytes(range(32))
LOOKUP, VERIFY, CHANGE = "/v1/accounts/lookup", "/v1/pins/verify", "/v1/pins/change"
OWNER = "+15551230001"
UNKNOWN = (200, {"account": None})


@pytest.fixture
def clock():
    return Clock(NOW_MS)


@pytest.fixture
def system(clock):
    return AccountSystem({"k1": SECRET}, clock, hash_cost=2)


@pytest.fixture
async def server(system):
    async with TestServer(system.app()) as served:
        yield served


def signed(path, body, now_ms=NOW_MS, nonce=None, **changed):
    """The headers of a request, made as the document says; `changed` by name, without "Ivrguard-"."""
    nonce = nonce or secrets.token_hex(16)
    digest = hashlib.sha256(body).hexdigest()
    lines = f"ivrguard-v1-request\nPOST\n{path}\n{now_ms}\n{nonce}\n{digest}"
    signature = hmac.new(SECRET, lines.encode(), hashlib.sha256).hexdigest()
    usual = {"Key-Id": "k1", "Timestamp": str(now_ms), "Nonce": nonce, "Signature": signature}
    return {f"Ivrguard-{name}": value for name, value in (usual | changed).items() if value is not None}


@pytest.fixture
async def send(server, session):
    """Sends bytes with headers; status, headers and JSON."""

    async def sent(path, body, headers):
        async with session.post(server.make_url(path), data=body, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    return sent


@pytest.fixture
async def ask(send, clock):
    """Asks as the guard does, and checks how the answer is signed."""

    async def asked(path, **said):
        body, nonce = json.dumps(said).encode(), secrets.token_hex(16)
        status, headers, answered = await send(path, body, signed(path, body, clock(), nonce))
        digest = hashlib.sha256(answered).hexdigest()
        lines = f"ivrguard-v1-answer\n{status}\n{nonce}\n{digest}".encode()
        assert headers["Ivrguard-Signature"] == hmac.new(SECRET, lines, hashlib.sha256).hexdigest()
        return status, json.loads(answered)

    return asked


async def test_an_account_is_found_by_its_id_and_by_its_number(system, ask):
    """With a reference for its PIN, which is the same each time and says nothing."""
    reference = system.add(
        "123456", pin="24681357", numbers=(OWNER,), sms_number="+15551230002", language="es-US"
    )
    account = {"id": "123456", "numbers": [OWNER], "language": "es-US", "sms_number": "+15551230002"}
    expected = 200, {"account": account | {"pin": reference}}
    assert await ask(LOOKUP, account="123456") == expected
    assert await ask(LOOKUP, number=OWNER) == expected
    assert (len(reference), system.add("123456", pin="11112222")) == (32, reference)


async def test_an_account_without_a_pin_has_no_reference(system, ask):
    system.add("123456")
    status, said = await ask(LOOKUP, account="123456")
    assert (status, said["account"]["pin"], said["account"]["sms_number"]) == (200, None, None)


async def test_nobody_is_an_answer_like_any_other(system, ask):
    """Unknown, another spelling, or a number of two."""
    system.add("123456", numbers=(OWNER,))
    system.add("222222", numbers=(OWNER,))
    assert await ask(LOOKUP, account="999999") == UNKNOWN
    assert await ask(LOOKUP, account="0123456") == UNKNOWN
    assert await ask(LOOKUP, number=OWNER) == UNKNOWN
    assert await ask(LOOKUP, number="+15559999999") == UNKNOWN


async def test_a_pin_costs_one_hash_whoever_is_meant(system, ask):
    """Right, wrong, of nobody, or of an account that has none."""
    reference, without = system.add("123456", pin="24681357"), system.add("222222")
    before, found = system.hashes, []
    for ref, pin in [(reference, "24681357"), (reference, "11111111"), ("0" * 32, "1"), (without, "1")]:
        found.append((await ask(VERIFY, reference=ref, pin=pin), system.hashes - before))
        before = system.hashes
    assert found == [((200, {"right": right}), 1) for right in (True, False, False, False)]


async def test_it_counts_no_guesses(system, ask):
    """That is the guard's: after a hundred wrong ones the right one is right."""
    reference = system.add("123456", pin="24681357")
    for number in range(100):
        await ask(VERIFY, reference=reference, pin=f"{number:08}")
    assert await ask(VERIFY, reference=reference, pin="24681357") == (200, {"right": True})


@pytest.mark.parametrize(
    ("account", "pin", "expected"),
    [
        ("123456", "97531864", (200, {"changed": True, "reason": None})),
        ("123456", "12345", (200, {"changed": False, "reason": "weak"})),
        ("123456", "12121212", (200, {"changed": False, "reason": "weak"})),
        ("999999", "97531864", (404, {"error": "account"})),
    ],
)
async def test_a_pin_is_changed(system, ask, account, pin, expected):
    """The new one counts from then on; if it was refused, the old one still does."""
    reference = system.add("123456", pin="24681357")
    assert await ask(CHANGE, account=account, pin=pin) == expected
    right = pin if expected[1].get("changed") else "24681357"
    for tried in (pin, "24681357"):
        assert await ask(VERIFY, reference=reference, pin=tried) == (200, {"right": tried == right})


BODY = b'{"account":"123456"}'


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(LOOKUP, BODY, **{"Key-Id": "k2"}),
        signed(LOOKUP, BODY, **{"Key-Id": None}),
        signed(LOOKUP, BODY, Signature="0" * 64),
        signed(LOOKUP, BODY, Timestamp=str(NOW_MS + 1)),
        signed(LOOKUP, BODY, Timestamp="soon"),
        signed(LOOKUP, BODY, Nonce="0" * 32),
        signed(VERIFY, BODY),
        signed(LOOKUP, BODY + b" "),
        signed(LOOKUP, BODY, NOW_MS + 300_001),
        signed(LOOKUP, BODY, NOW_MS - 300_001),
        signed(LOOKUP, BODY, "soon"),
        signed(LOOKUP, BODY, nonce="once"),
    ],
    ids=[
        *("nothing", "unknown key", "no key", "signature", "time changed", "no time", "nonce changed"),
        *("another path", "another body", "early", "late", "no time at all", "no nonce"),
    ],
)
async def test_who_does_not_sign_gets_nothing(system, send, headers):
    status, answered, body = await send(LOOKUP, BODY, headers)
    assert (status, json.loads(body), "Ivrguard-Signature" in answered) == (
        401,
        {"error": "signature"},
        False,
    )
    assert (system.refused, system.asked) == (1, [])


async def test_a_request_is_taken_once(system, send, clock):
    """And as long as its time-stamp would pass, its nonce is remembered; then it may be forgotten."""
    headers = signed(LOOKUP, BODY, NOW_MS + 300_000)
    statuses = []
    for after_s in (0, 0, 599.999):
        clock.advance(after_s)
        statuses.append((await send(LOOKUP, BODY, headers))[0])
    assert statuses == [200, 401, 401]
    clock.advance(0.001)
    await send(LOOKUP, BODY, signed(LOOKUP, BODY, clock()))
    assert len(system._nonces) == 1


async def test_faults_are_planted_in_order_and_by_path(system, ask, send):
    """A refusal is signed and nothing is done; an unsigned answer is whole but for that."""
    reference = system.add("123456", pin="24681357")
    system.fail_next(503, VERIFY)
    system.fail_next(500)
    system.unsigned_next()
    before = system.hashes
    assert await ask(LOOKUP, account="123456") == (500, {"error": "planted"})
    assert await ask(VERIFY, reference=reference, pin="24681357") == (503, {"error": "planted"})
    assert system.hashes == before
    status, headers, body = await send(LOOKUP, BODY, signed(LOOKUP, BODY))
    assert (status, "Ivrguard-Signature" in headers) == (200, False)
    assert json.loads(body)["account"]["id"] == "123456"
    assert (await ask(LOOKUP, account="999999")) == UNKNOWN


async def test_a_connection_breaks_when_told_to(system, ask):
    system.drop_next(LOOKUP)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(LOOKUP, account="123456")
    assert await ask(LOOKUP, account="123456") == UNKNOWN


async def test_it_is_slow_when_told_to(system, ask):
    """Requests wait until the event is set, and have been seen by then."""
    system.hold = asyncio.Event()
    waiting = asyncio.create_task(ask(LOOKUP, account="123456"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert (done, len(system.asked)) == (set(), 1)
    system.hold.set()
    assert await waiting == UNKNOWN


async def test_nothing_secret_shows(system, ask):
    """Neither what was asked nor what is kept."""
    reference = system.add("123456", pin="24681357")
    await ask(VERIFY, reference=reference, pin="24681357")
    assert "24681357" not in repr(system.asked)
    assert "hashed" not in repr(system._accounts)
    assert system.asked[0].said == {"reference": reference, "pin": "24681357"}


# ── OpenAPI ──────────────────────────────────────────────────────────────────────────────────────────────

OPENAPI = yaml.safe_load((Path(__file__).parents[2] / "docs" / "directory.openapi.yaml").read_text())


def test_the_openapi_document_is_valid():
    """By OpenAPI's own schema for 3.1 (https://spec.openapis.org/oas/3.1/schema/2022-10-07); a broken one is not."""
    schemathesis.openapi.from_dict(OPENAPI).validate()
    broken = json.loads(json.dumps(OPENAPI))
    broken["paths"][VERIFY]["post"]["responses"]["200"].pop("description")
    with pytest.raises(ValueError, match='"description" is a required property'):
        schemathesis.openapi.from_dict(broken).validate()


def conforms(path, status, headers, body):
    """Whether an answer is one of those that the document lists: its status, its signature's form, its body's schema."""
    said = OPENAPI["paths"][path]["post"]["responses"][str(status)]
    name = said.get("$ref", "").rpartition("/")[2]
    said = OPENAPI["components"]["responses"][name] if name else said
    assert headers["Content-Type"].partition(";")[0] in said["content"]
    if "headers" in said:
        pattern = OPENAPI["components"]["headers"]["Signature"]["schema"]["pattern"]
        jsonschema.validate(headers["Ivrguard-Signature"], {"type": "string", "pattern": pattern})
    schema = said["content"]["application/json"]["schema"] | {"components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(body))


BODIES = [
    (LOOKUP, b'{"account": "123456"}', 200),
    (LOOKUP, b'{"account": "999999", "more": [1]}', 200),
    (LOOKUP, b'{"number": "+15551230001"}', 200),
    (LOOKUP, b'{"account": "123456", "number": "+15551230001"}', 400),
    (LOOKUP, b'{"number": "15551230001"}', 400),
    (LOOKUP, b'{"account": 123456}', 400),
    (LOOKUP, json.dumps({"account": "0" * 65}).encode(), 400),
    (LOOKUP, b"[]", 400),
    (LOOKUP, b"", 400),
    (LOOKUP, b'{"account": "\xff"}', 400),
    (LOOKUP, b"[" * 100_000, 400),
    (VERIFY, b'{"reference": "5f0c3e9a7b1d42688c2f6e0d9a4b7c15", "pin": "24681357"}', 200),
    (VERIFY, b'{"reference": "5F0C3E9A7B1D42688C2F6E0D9A4B7C15", "pin": "24681357"}', 400),
    (VERIFY, b'{"reference": "5f0c3e9a7b1d42688c2f6e0d9a4b7c15", "pin": 24681357}', 400),
    (CHANGE, b'{"account": "123456", "pin": "97531864"}', 200),
    (CHANGE, b'{"account": "123456", "pin": "11111111"}', 200),
    (CHANGE, b'{"account": "999999", "pin": "97531864"}', 404),
    (CHANGE, b'{"account": "123456", "pin": "97531864 "}', 400),
    (CHANGE, b'{"account": "123456", "pin": ""}', 400),
]


@pytest.mark.parametrize(("path", "body", "expected"), BODIES, ids=range(len(BODIES)))
async def test_every_answer_is_one_of_the_document(system, send, path, body, expected):
    """Of its schema, and signed; what is not as agreed is 400, and nothing is done."""
    system.add("123456", pin="24681357", numbers=(OWNER,), sms_number=OWNER, language="es-US")
    before = system.hashes
    status, headers, answered = await send(path, body, signed(path, body))
    assert status == expected
    conforms(path, status, headers, answered)
    assert (system.hashes == before) == (path == LOOKUP or status != 200 or b"11111111" in body)


@pytest.mark.parametrize("status", [500, 503])
async def test_every_failure_is_one_of_the_document(system, send, status):
    for path in (LOOKUP, VERIFY, CHANGE):
        body = b'{"account": "1", "reference": "5f0c3e9a7b1d42688c2f6e0d9a4b7c15", "pin": "1"}'
        system.fail_next(status)
        conforms(path, *await send(path, body, signed(path, body)))
        conforms(path, *await send(path, body, {}))


async def test_a_path_in_front_is_not_signed(system, session):
    """A proxy may put one before the protocol's own; what is signed begins at /v1."""
    outer = web.Application()
    outer.add_subapp("/guard", system.app())
    async with TestServer(outer) as served:
        url = served.make_url(f"/guard{LOOKUP}")
        async with session.post(url, data=BODY, headers=signed(LOOKUP, BODY)) as answer:
            assert (answer.status, [one.path for one in system.asked]) == (200, [LOOKUP])


class Signs(requests.auth.AuthBase):
    """Signs what is about to be sent, whatever it is."""

    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        request.headers.update(signed(request.path_url, body))
        return request


def bodies_only():
    """The document without the four headers: what is sent is signed on its way out."""
    document = json.loads(json.dumps(OPENAPI))
    document.pop("security")
    for path in document["paths"].values():
        path["post"].pop("parameters")
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize("path", [LOOKUP, VERIFY, CHANGE])
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
async def test_whatever_is_sent_it_answers_as_the_document_says(system, server, path, mode):
    """
    Schemathesis makes bodies up, of their schema and not: none is a 5xx, none of the second kind is taken, none of the
    first refused, and each answer is of its schema.
    """
    system.add("123456", pin="24681357")
    statuses = Counter()

    @searching(max_examples=20, suppress_health_check=list(HealthCheck), database=None)
    @given(case=bodies_only()[path]["POST"].as_strategy(generation_mode=mode))
    def fuzz(case):
        answer = case.call(base_url=str(server.make_url("/")).rstrip("/"), auth=Signs())
        statuses[answer.status_code] += 1
        case.validate_response(answer)

    await asyncio.to_thread(fuzz)
    assert system.refused == 0, "what is fuzzed is signed"
    assert set(statuses) <= ({200, 404} if mode is GenerationMode.POSITIVE else {400})


async def test_a_system_that_breaks_the_document_is_found():
    """An answer of another form, and a 500 that is not signed: so that the tests above show something."""

    class Careless(AccountSystem):
        async def _lookup(self, said):
            return 200, {"account": {"id": said["account"]}}

        async def _verify(self, said):
            raise RuntimeError

    careless = Careless({"k1": SECRET}, Clock(NOW_MS), hash_cost=2)
    async with TestServer(careless.app()) as served:

        def once(path, **said):
            case = bodies_only()[path]["POST"].Case(body=said, media_type="application/json")
            case.validate_response(case.call(base_url=str(served.make_url("/")).rstrip("/"), auth=Signs()))

        with pytest.raises(FailureGroup):
            await asyncio.to_thread(once, LOOKUP, account="123456")
        with pytest.raises(FailureGroup):
            await asyncio.to_thread(once, VERIFY, reference="0" * 32, pin="1")
