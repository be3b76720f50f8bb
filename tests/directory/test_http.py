"""
The bank's own system as the directory: the same work for everybody, a guess sent once, both sides signed, and every
failure a refusal.

The bank is the pretend one (phone/directory.py), which is written from docs/directory.md and shares no code with the
guard; a bank that breaks the rules is a `Liar`. Sockets, TLS and certificates are real.
"""

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
import re
import secrets
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic.json_schema import models_json_schema

from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.errors import Busy, DirectoryFault, OutOfSight
from ivrguard.core.flow import PROMPTS, Factor, Flow, Identify, Locks, Upstream
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand
from ivrguard.directory import http
from ivrguard.directory.http import (
    Bank,
    Breaker,
    HttpDirectory,
    HttpPinJudge,
    HttpPins,
    SigningKey,
    State,
    answer_signature,
    mutual_tls,
    request_signature,
)
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.heard import Said
from ivrguard.phone.rig import Clock, listen, rig
from ivrguard.ports import Account, Credential, Right, Wrong

START_MS = 1_800_000_000_000
SECRET = bytes(range(32))
KEY = SigningKey("k1", SECRET)
PIN, OWNER, OTHER = "24681357", "+15551230001", "+15551230002"
REFERENCE = "5f0c3e9a7b1d42688c2f6e0d9a4b7c15"
A_PIN = Credential(Kind.PIN, secret=REFERENCE, key_id="remote")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def clock() -> Clock:
    return Clock(START_MS)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def system(clock: Clock) -> AccountSystem:
    """The pretend bank: one account with everything, one without a PIN, two that share a number."""
    made = AccountSystem({"k1": SECRET}, clock, hash_cost=2)
    made.add("123456", pin=PIN, numbers=(OWNER,), sms_number=OTHER, language="es-US")
    made.add("222222", numbers=("+15551230003",))
    made.add("333333", pin="97531864", numbers=("+15551230004",))
    made.add("444444", pin="97531864", numbers=("+15551230004",))
    return made


Connect = Callable[..., Bank]


@pytest.fixture
async def connect(clock: Clock, stack: AsyncExitStack) -> Connect:
    """Makes the guard's way to a bank at a URL."""

    def made(url: str, key: SigningKey = KEY, tls: ssl.SSLContext | None = None, **more: object) -> Bank:
        bank = Bank(url, key, tls=tls, clock=clock, chance=secrets.token_bytes, **more)
        stack.push_async_callback(bank.close)
        return bank

    return made


@pytest.fixture
async def url(system: AccountSystem, stack: AsyncExitStack) -> str:
    return await listen(system.app(), stack)


@pytest.fixture
async def bank(url: str, connect: Connect) -> Bank:
    return connect(url)


async def verdict(bank: Bank, credential: Credential | None, digits: str = PIN) -> object:
    return await HttpPinJudge(bank).judge(credential, digits, None, START_MS)


async def pin_of(bank: Bank, account: str = "123456") -> Credential | None:
    found = await HttpDirectory(bank).by_id(account)
    return found.credential(Kind.PIN) if found else None


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_comes_back_with_what_it_has(bank: Bank, system: AccountSystem) -> None:
    """Numbers, language, where codes go; and for its PIN a reference, never a hash."""
    reference = system.add("123456", pin=PIN, numbers=(OWNER,), sms_number=OTHER, language="es-US")
    credentials = (
        Credential(Kind.PIN, secret=reference, key_id="remote"),
        Credential(Kind.SMS_CODE, number=OTHER),
    )
    expected = Account("123456", (OWNER,), credentials, language="es-US")
    assert await HttpDirectory(bank).by_id("123456") == expected
    assert await HttpDirectory(bank).by_number(OWNER) == expected
    assert reference not in repr(expected)


@pytest.mark.parametrize(
    ("account", "kinds"),
    [
        ("123456", [Kind.PIN, Kind.SMS_CODE]),
        ("222222", []),
        ("999999", None),
        ("number:+15551239999", None),  # what a caller's number is called that is on nobody's file
        ("0" * 64, None),
    ],
)
async def test_accounts_by_id(
    bank: Bank, system: AccountSystem, account: str, kinds: list[Kind] | None
) -> None:
    """What does not exist is asked for like anything else."""
    found = await HttpDirectory(bank).by_id(account)
    assert (found and [one.kind for one in found.credentials]) == kinds
    assert [asked.said for asked in system.asked] == [{"account": account}]


@pytest.mark.parametrize(
    ("number", "account", "asked"),
    [
        (OWNER, "123456", 1),
        ("+15551239999", None, 1),
        ("+15551230004", None, 1),  # two have it: it names nobody
        ("anonymous", None, 0),
        ("sip:ada@pbx.example", None, 0),
        ("", None, 0),
    ],
)
async def test_accounts_by_number(
    bank: Bank, system: AccountSystem, number: str, account: str | None, asked: int
) -> None:
    """One account, or nobody; what is no number is on nobody's file, and the caller knows it."""
    found = await HttpDirectory(bank).by_number(number)
    assert (found and found.id) == account
    assert [one.said for one in system.asked] == [{"number": number}] * asked


@pytest.mark.parametrize("account", ["", "0" * 65])
async def test_what_can_be_no_id_is_not_asked_for(bank: Bank, system: AccountSystem, account: str) -> None:
    assert await HttpDirectory(bank).by_id(account) is None
    assert system.asked == []


class Own:
    """The guard's own tables, and what was looked up in them."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = {one.id: one for one in accounts}
        self.asked: list[str] = []

    async def by_id(self, account_id: str) -> Account | None:
        self.asked.append(account_id)
        return self.accounts.get(account_id)

    async def by_number(self, number: str) -> Account | None:
        raise AssertionError


async def test_apps_stay_with_the_guard(bank: Bank) -> None:
    """Of our own tables, the app (TOTP) of an account that the bank knows; no PIN and no number. Unknown: looked up too."""
    app = Credential(Kind.TOTP, secret="sealed", key_id="k1")
    ours = (Credential(Kind.PIN, secret="$argon2id$"), app, Credential(Kind.SMS_CODE, number="+15550000000"))
    own = Own(Account("222222", ("+15550000000",), ours), Account("999999", (), ours))
    directory = HttpDirectory(bank, own)
    found = await directory.by_id("222222")
    assert found == Account("222222", ("+15551230003",), (app,))
    assert (await pin_of(bank)) is not None
    assert [await directory.by_id("999999"), await directory.by_number("+15551239999")] == [None, None]
    assert await directory.by_number(OWNER) == await HttpDirectory(bank).by_number(OWNER)
    assert own.asked == ["222222", "999999", "-", "123456"]


# ── PINs ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pin_is_judged_by_the_bank(bank: Bank, system: AccountSystem) -> None:
    """Its reference and the digits, over and over, and nothing is counted here."""
    credential = await pin_of(bank)
    assert credential is not None
    assert [await verdict(bank, credential, digits) for digits in (PIN, "11111111", PIN)] == [
        Right(),
        Wrong(),
        Right(),
    ]
    assert system.asked[1].said == {"reference": credential.secret, "pin": PIN}
    assert [await verdict(bank, credential, "11111111") for _ in range(20)] == [Wrong()] * 20


async def test_known_unknown_and_locked_are_the_same_to_the_network(
    bank: Bank, system: AccountSystem
) -> None:
    """The same requests, headers, fields and sizes, and one hash each: a decoy like any reference, and never the same."""
    directory, seen, every = HttpDirectory(bank), [], set()
    for account, allowed in [("123456", True), ("999999", True), ("123456", False), ("222222", True)]:
        system.asked.clear()
        before = system.hashes
        found = await directory.by_id(account)
        credential = found.credential(Kind.PIN) if found and allowed else None
        await verdict(bank, credential, "13572468")
        shapes = [(one.path, one.size, list(one.said), sorted(one.headers)) for one in system.asked]
        (reference,) = (str(one.said["reference"]) for one in system.asked if "reference" in one.said)
        every.add(reference)
        seen.append((shapes, system.hashes - before, bool(re.fullmatch("[0-9a-f]{32}", reference))))
    assert seen == [seen[0]] * 4
    assert [path for path, *_ in seen[0][0]] == [http.LOOKUP, http.VERIFY]
    assert len(every) == 4


async def test_a_decoy_is_wrong_whatever_the_bank_says(connect: Connect, stack: AsyncExitStack) -> None:
    """Nothing to compare with is never right."""
    liar = Liar({"right": True})
    bank = connect(await listen(liar.app(), stack))
    assert await verdict(bank, None) == Wrong()
    assert await verdict(bank, A_PIN) == Right()
    assert len(liar.bodies) == 2


@pytest.mark.parametrize("key_id", ["", "p1"])
async def test_a_hash_of_our_own_is_not_sent_to_the_bank(
    bank: Bank, system: AccountSystem, key_id: str
) -> None:
    """Directory and judge belong together: otherwise the hash of a PIN would leave the house."""
    with pytest.raises(DirectoryFault, match="belong together"):
        await verdict(bank, Credential(Kind.PIN, secret="$argon2id$…", key_id=key_id))
    assert system.asked == []


async def test_a_caller_changes_his_pin(bank: Bank) -> None:
    """The new one is right and the old one wrong; what the bank finds weak changes nothing."""
    pins, credential = HttpPins(bank), await pin_of(bank)
    assert not await pins.change("123456", "11111111", now_ms=START_MS)
    assert await verdict(bank, credential) == Right()
    assert await pins.change("123456", "97531864", now_ms=START_MS)
    assert [await verdict(bank, credential, digits) for digits in (PIN, "97531864")] == [Wrong(), Right()]
    with pytest.raises(DirectoryFault, match="refused /v1/pins/change with 404"):
        await pins.change("999999", "97531864", now_ms=START_MS)


@pytest.mark.parametrize("said", [{"changed": False}, {"changed": True, "reason": "weak"}])
async def test_a_change_that_contradicts_itself_is_a_fault(
    connect: Connect, stack: AsyncExitStack, said: object
) -> None:
    bank = connect(await listen(Liar(said).app(), stack))
    with pytest.raises(DirectoryFault, match="did not say whether it changed"):
        await HttpPins(bank).change("123456", PIN, now_ms=START_MS)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────


def told(**changed: object) -> dict[str, object]:
    """An account as the protocol has it, but for `changed`."""
    usual = {"id": "123456", "numbers": [OWNER], "language": "", "pin": REFERENCE, "sms_number": None}
    return {"account": usual | changed}


@dataclass
class Liar:
    """A bank that says `said` to whatever it is asked, signed as `signs` does; `answer` instead, if there is one."""

    said: object
    status: int = 200
    content_type: str = "application/json"
    signs: Callable[[int, str, bytes], str] = lambda *what: answer_signature(SECRET, *what)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    bodies: list[bytes] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.serve)
        return app

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        if self.answer is not None:
            return await self.answer(request)
        body = self.said if isinstance(self.said, bytes) else json.dumps(self.said).encode()
        signature = self.signs(self.status, request.headers["Ivrguard-Nonce"], body)
        headers = {"Ivrguard-Signature": signature, "Location": "/elsewhere"}
        return web.Response(
            status=self.status, body=body, headers=headers, content_type=self.content_type or None
        )


async def becomes(asked: Awaitable[object]) -> object:
    """What came of it; of a fault its kind and words, which hold nothing of what was asked."""
    try:
        return await asked
    except (DirectoryFault, OutOfSight, Busy) as fault:
        shown = "".join(traceback.format_exception(fault))
        for secret in (PIN, "123456", OWNER, REFERENCE, SECRET.hex(), "bank's own words"):
            assert secret not in shown.replace("test_http", "")
        kinds = (DirectoryFault, OutOfSight, Busy)
        return next(kind.__name__ for kind in kinds if isinstance(fault, kind)), str(fault)


LOOKED_UP = [
    (told(id="123457"), None),
    (told(id="0123456"), None),
    (told(extra="ignored", totp=None) | {"more": 1}, Account("123456", (OWNER,), (A_PIN,))),
    (told(id="12-3456"), "account.id (string_pattern_mismatch)"),
    (told(id=123456), "account.id (string_type)"),
    (told(numbers=["15551230001"]), "account.numbers.0 (string_pattern_mismatch)"),
    (told(numbers=[OWNER] * 33), "account.numbers (too_long)"),
    (told(numbers=None), "account.numbers (list_type)"),
    (told(pin="$argon2id$v=19$m=19456"), "account.pin (string_pattern_mismatch)"),
    (told(pin=REFERENCE + "\n"), "account.pin (string_pattern_mismatch)"),
    (told(language="Spanish, please"), "account.language (string_pattern_mismatch)"),
    (told(sms_number="555"), "account.sms_number (string_pattern_mismatch)"),
    ({"account": {"id": "123456"}}, "account.numbers (missing)"),
    ({"account": False}, "account (model_type)"),
    ({}, "account (missing)"),
    ([], "all of it (model_type)"),
    (b"bank's own words", "all of it (json_invalid)"),
    (b"", "all of it (json_invalid)"),
    (b"[" * 10_000, "all of it (json_invalid)"),
    (b'{"account": null, "account": "\xff"}', "all of it (json_invalid)"),
]


@pytest.mark.parametrize(("said", "expected"), LOOKED_UP, ids=range(len(LOOKED_UP)))
async def test_an_answer_is_of_its_shape_or_a_fault(
    connect: Connect, stack: AsyncExitStack, said: object, expected: object
) -> None:
    """Types and forms are strict, unknown keys are ignored, and the fault names the place and nothing of what is there."""
    bank = connect(await listen(Liar(said).app(), stack))
    if isinstance(expected, str):
        expected = "DirectoryFault", f"the bank's answer to {http.LOOKUP} is not as agreed: {expected}"
    assert await becomes(HttpDirectory(bank).by_id("123456")) == expected


@pytest.mark.parametrize(
    "said", [told(), told(numbers=[OTHER]), told(numbers=[])], ids=["right", "another", "none"]
)
async def test_a_number_names_an_account_that_has_it(
    connect: Connect, stack: AsyncExitStack, said: object
) -> None:
    bank = connect(await listen(Liar(said).app(), stack))
    assert (await HttpDirectory(bank).by_number(OWNER) is not None) == (said == told())


@pytest.mark.parametrize("said", ["true", 1, None, [True]])
async def test_right_is_true_and_nothing_else(connect: Connect, stack: AsyncExitStack, said: object) -> None:
    """A verdict that is none: the bank may have looked, so the guess counts."""
    bank = connect(await listen(Liar({"right": said}).app(), stack))
    expected = "OutOfSight", f"the bank's answer to {http.VERIFY} is not as agreed: right (bool_type)"
    assert await becomes(verdict(bank, A_PIN)) == expected


STATUSES = [
    (201, "OutOfSight", "answered 201 to"),
    (204, "OutOfSight", "answered 204 to"),
    (302, "OutOfSight", "answered 302 to"),
    (307, "OutOfSight", "answered 307 to"),
    (400, "DirectoryFault", "refused"),
    (401, "DirectoryFault", "refused"),
    (404, "DirectoryFault", "refused"),
    (429, "DirectoryFault", "refused"),
    (500, "OutOfSight", "answered 500 to"),
    (502, "OutOfSight", "answered 502 to"),
    (503, "DirectoryFault", "refused"),
    (504, "OutOfSight", "answered 504 to"),
]


@pytest.mark.parametrize(("status", "kind", "said"), STATUSES)
async def test_a_guess_counts_unless_the_bank_signs_that_it_did_not_look(
    connect: Connect, stack: AsyncExitStack, status: int, kind: str, said: str
) -> None:
    """4xx and 503 are its word for that. A redirect is not followed. Whatever the status, `right` in it does not count."""
    liar = Liar(b"" if status == 204 else {"right": True}, status)
    bank = connect(await listen(liar.app(), stack))
    found = await becomes(verdict(bank, A_PIN))
    assert isinstance(found, tuple)
    assert (found[0], said in found[1], str(status) in found[1]) == (kind, True, True)
    looked_up = await becomes(HttpDirectory(bank).by_id("123456"))
    assert isinstance(looked_up, tuple)
    assert looked_up[0] == "DirectoryFault"
    assert len(liar.bodies) == 2


def others(*changed: object) -> Callable[[int, str, bytes], str]:
    """A signature over something else than what is answered."""
    return lambda *real: answer_signature(SECRET, *(changed[n] or real[n] for n in range(3)))


FORGED = [
    lambda *_: "",
    lambda *_: "0" * 64,
    lambda *_: "ä€",
    lambda *what: answer_signature(b"another key, of some other bank.", *what),
    lambda *what: answer_signature(SECRET, *what).upper(),
    others(None, "0" * 32, None),  # another request's answer
    others(None, None, b'{"right": false}'),
    others(503, None, None),
    lambda _, nonce, body: request_signature(SECRET, http.VERIFY, START_MS, nonce, body),
]


@pytest.mark.parametrize("signs", FORGED, ids=range(len(FORGED)))
async def test_an_answer_without_the_right_signature_is_none(
    connect: Connect, stack: AsyncExitStack, signs: Callable[[int, str, bytes], str]
) -> None:
    """Not another key's, request's, status's or body's: a man in the middle can say nothing. The guess counts."""
    bank = connect(await listen(Liar({"right": True}, signs=signs).app(), stack))
    found = await becomes(verdict(bank, A_PIN))
    assert isinstance(found, tuple)
    assert found[0] == "OutOfSight"
    assert "(status 200) is not signed by the bank's system with key k1" in found[1]


@pytest.mark.parametrize("content_type", ["text/html", "application/json-seq", "text/json", ""])
async def test_only_json_is_read(connect: Connect, stack: AsyncExitStack, content_type: str) -> None:
    bank = connect(await listen(Liar({"right": True}, content_type=content_type).app(), stack))
    found = await becomes(verdict(bank, A_PIN))
    assert found == ("OutOfSight", f"the bank's answer to {http.VERIFY} is not application/json")


async def test_a_character_set_may_be_named(connect: Connect, stack: AsyncExitStack) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = b'{"right":true}'
        signature = answer_signature(SECRET, 200, request.headers["Ivrguard-Nonce"], body)
        headers = {"Content-Type": "Application/JSON; charset=utf-8", "Ivrguard-Signature": signature}
        return web.Response(body=body, headers=headers)

    assert await verdict(connect(await listen(Liar(None, answer=answer).app(), stack)), A_PIN) == Right()


@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_is_read_up_to_a_bound(connect: Connect, stack: AsyncExitStack, more: int) -> None:
    """16 kB are read, and not a byte more of what may have no end."""
    said = b'{"right":true}'.ljust(http.ANSWER_BYTES_MAX + more)
    found = await becomes(verdict(connect(await listen(Liar(said).app(), stack)), A_PIN))
    too_long = "OutOfSight", f"the bank's answer to {http.VERIFY} is longer than 16 kB"
    assert found == (too_long if more else Right())


async def test_an_endless_answer_ends(connect: Connect, stack: AsyncExitStack) -> None:
    """A stream that never stops is left as soon as it is too long."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 4096)

    bank = connect(await listen(Liar(None, answer=answer).app(), stack))
    assert "longer than 16 kB" in str(await becomes(verdict(bank, A_PIN)))


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "ahead_s"),
    [
        (SigningKey("k1", secrets.token_bytes(32)), 0),
        (SigningKey("k2", SECRET), 0),
        (KEY, 301),
        (KEY, -301),
    ],
    ids=["another secret", "an unknown id", "a clock ahead", "a clock behind"],
)
async def test_a_bank_that_does_not_know_us_says_nothing(
    url: str, system: AccountSystem, stack: AsyncExitStack, key: SigningKey, ahead_s: int
) -> None:
    """Its refusal is not signed: the log tells the status, and what to look at."""
    bank = Bank(url, key, tls=None, clock=Clock(START_MS + ahead_s * 1000), chance=secrets.token_bytes)
    stack.push_async_callback(bank.close)
    found = await becomes(HttpDirectory(bank).by_id("123456"))
    assert isinstance(found, tuple)
    assert "(status 401) is not signed" in found[1]
    assert "look at key, clock" in found[1]
    assert (system.refused, system.asked) == (1, [])
    assert SECRET.hex() not in repr(key)
    assert str(SECRET) not in repr(key)


async def test_each_request_is_signed_anew(bank: Bank, system: AccountSystem) -> None:
    """The same question twice has two nonces and two signatures: the bank refuses what it has seen."""
    for _ in range(2):
        await HttpDirectory(bank).by_id("123456")
    headers = [one.headers for one in system.asked]
    assert [len({each[name] for each in headers}) for name in (http.NONCE, http.SIGNATURE)] == [2, 2]
    assert {each[http.TIMESTAMP] for each in headers} == {str(START_MS)}


async def test_a_path_in_front_is_not_signed(
    system: AccountSystem, connect: Connect, stack: AsyncExitStack
) -> None:
    """A proxy may put a path before the protocol's own, or take it away."""
    outer = web.Application()
    outer.add_subapp("/guard/api", Liar({"right": True}).app())
    origin = await listen(outer, stack)
    assert await verdict(connect(f"{origin}/guard/api/"), A_PIN) == Right()
    served = request_signature(SECRET, http.VERIFY, START_MS, "0" * 32, b"")
    assert served == hmac.new(SECRET, signed_lines("0" * 32), hashlib.sha256).hexdigest()


def signed_lines(nonce: str) -> bytes:
    empty = hashlib.sha256(b"").hexdigest()
    return f"ivrguard-v1-request\nPOST\n/v1/pins/verify\n{START_MS}\n{nonce}\n{empty}".encode()


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 999), st.integers(0, 999))
def test_a_signature_is_of_one_thing(body: bytes, other: bytes, status: int, status2: int) -> None:
    """Whatever differs in what is signed differs in the signature."""
    first = answer_signature(SECRET, status, "0" * 32, body)
    second = answer_signature(SECRET, status2, "0" * 32, other)
    assert (first == second) == ((body, status) == (other, status2))


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_secret_or_personal_is_in_a_url_or_a_header(bank: Bank, system: AccountSystem) -> None:
    directory = HttpDirectory(bank)
    await directory.by_id("123456")
    await directory.by_number(OWNER)
    await verdict(bank, await pin_of(bank))
    await HttpPins(bank).change("123456", "97531864", now_ms=START_MS)
    outside = [(one.path, *one.headers.values()) for one in system.asked]
    for secret in (PIN, "97531864", "123456", OWNER, OWNER[1:], SECRET.hex()):
        assert not any(secret in text for one in outside for text in one)
    assert {one.path for one in system.asked} == {http.LOOKUP, http.VERIFY, http.CHANGE}
    assert {one.headers["User-Agent"] for one in system.asked} == {"ivrguard"}


@pytest.mark.parametrize("said", [*http._Said.__subclasses__()])
def test_what_is_said_does_not_show(said: type[http._Said]) -> None:
    """No id, number, PIN or reference in a repr."""
    words = {"account": "123456", "number": OWNER, "reference": REFERENCE, "pin": PIN, "id": "123456"}
    values = words | {"numbers": [OWNER], "language": "", "sms_number": OWNER, "right": True, "changed": True}
    if said in {http.FoundAccount, http.LookupAnswer}:
        values["pin"] = REFERENCE
    if said is http.LookupAnswer:
        values["account"] = http.FoundAccount(**values)
    shown = repr(said(**{name: value for name, value in values.items() if name in said.model_fields}))
    assert not any(secret in shown for secret in (PIN, "123456", OWNER, REFERENCE))


async def test_a_slow_bank_is_given_up_by_the_deadline(
    url: str, system: AccountSystem, connect: Connect
) -> None:
    """A look-up is a fault; a guess counts, as nobody knows how far the bank got."""
    bank, system.hold = connect(url, deadline_s=0.05), asyncio.Event()
    why = "the bank's system did not answer within 0.05 s"
    assert await becomes(HttpDirectory(bank).by_id("123456")) == ("DirectoryFault", why)
    assert await becomes(verdict(bank, A_PIN)) == ("OutOfSight", why)
    system.hold.set()


async def test_a_bank_that_trickles_is_given_up_too(connect: Connect, stack: AsyncExitStack) -> None:
    """The deadline is for the whole answer, not for its first byte."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await over.wait()
        return response

    bank = connect(await listen(Liar(None, answer=answer).app(), stack), deadline_s=0.05)
    assert (
        await becomes(verdict(bank, A_PIN)) == ("OutOfSight", "the bank's system did not answer within 0.05 s")
    )  # fmt: skip
    over.set()


async def test_a_guess_that_surely_was_not_sent_does_not_count(
    connect: Connect, stack: AsyncExitStack
) -> None:
    """Nobody listens; or somebody does and says nothing, so that TLS never begins."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tls = ssl.create_default_context()
    silent = connect(f"https://127.0.0.1:{port}", tls=tls, deadline_s=0.1)
    why = "the bank's system did not answer within 0.1 s"
    assert await becomes(verdict(silent, A_PIN)) == ("DirectoryFault", why)
    server.close()
    await server.wait_closed()
    nobody = connect(f"http://127.0.0.1:{port}")
    why = "the connection to the bank's system failed: ClientConnectorError"
    assert await becomes(verdict(nobody, A_PIN)) == ("DirectoryFault", why)


async def test_a_lookup_is_asked_again_when_a_kept_connection_was_closed(
    bank: Bank, system: AccountSystem
) -> None:
    """Once, with a nonce of its own. A new connection that breaks is a fault like any other."""
    assert await pin_of(bank) is not None
    system.drop_next()
    assert await pin_of(bank) is not None
    assert len({one.headers[http.NONCE] for one in system.asked}) == 3
    system.drop_next()
    system.drop_next()
    found = await becomes(pin_of(bank))
    assert isinstance(found, tuple)
    assert "connection to the bank's system failed: " in found[1]
    assert len(system.asked) == 5
    system.drop_next()
    assert isinstance(await becomes(pin_of(bank)), tuple)
    assert len(system.asked) == 6


async def test_a_guess_is_never_asked_again(bank: Bank, system: AccountSystem) -> None:
    """Nor a change: whatever breaks, the bank hears it once. The guess counts."""
    credential = await pin_of(bank)
    for asked in (verdict(bank, credential), HttpPins(bank).change("123456", PIN, now_ms=START_MS)):
        system.asked.clear()
        system.drop_next()
        found = await becomes(asked)
        assert isinstance(found, tuple)
        assert "connection to the bank's system failed" in found[1]
        assert len(system.asked) == 1
        await pin_of(bank)  # keeps a connection for the next one


async def test_no_more_than_so_many_at_once(
    url: str, system: AccountSystem, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound: `Busy`, at once, and the bank hears nothing. Afterwards there is room again."""
    monkeypatch.setattr(http, "REQUESTS_AT_ONCE_MAX", 3)
    bank, system.hold = connect(url), asyncio.Event()
    waiting = [asyncio.create_task(verdict(bank, A_PIN)) for _ in range(3)]
    await asyncio.sleep(0)  # each of them has begun
    for asked in (verdict(bank, A_PIN), HttpDirectory(bank).by_id("123456")):
        with pytest.raises(Busy, match="3 requests to the bank's system are under way"):
            await asked
    waiting[0].cancel()
    system.hold.set()
    assert await asyncio.gather(*waiting[1:]) == [Wrong(), Wrong()]
    assert {asked.path for asked in system.asked} == {http.VERIFY}
    assert await asyncio.gather(*(verdict(bank, None) for _ in range(3))) == [Wrong()] * 3


async def test_closing_is_harmless_twice_and_unopened(url: str, connect: Connect) -> None:
    bank = connect(url)
    await bank.close()
    await pin_of(bank)
    await bank.close()
    await bank.close()


# ── the circuit breaker ──────────────────────────────────────────────────────────────────────────────────

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

CIRCUITS = [
    ("two faults are not three", "ff", 0, CLOSED),
    ("three in a row open it", "fff", 0, OPEN),
    ("an answer in between counts anew", "ffaff", 0, CLOSED),
    ("it stays open", "fff", 9_999, OPEN),
    ("then one may try", "fff", 10_000, HALF_OPEN),
    ("an answer closes it", "fffa", 0, CLOSED),
    ("after which three are needed again", "fffaff", 0, CLOSED),
    ("faults of those under way do not keep it open", "fff+f", 9_999, HALF_OPEN),
    ("a clock that was set back does not", "fff", -1, HALF_OPEN),
]


@pytest.mark.parametrize(
    ("happened", "later_ms", "state"), [row[1:] for row in CIRCUITS], ids=[row[0] for row in CIRCUITS]
)
def test_a_circuit(happened: str, later_ms: int, state: State) -> None:
    """`f` is a fault, `a` an answer, `+` a millisecond."""
    breaker, now_ms = Breaker(faults_max=3, open_ms=10_000), 0
    for each in happened:
        match each:
            case "f":
                breaker.failed(now_ms)
            case "a":
                breaker.answered()
            case _:
                now_ms += 1
    assert breaker.state(now_ms + later_ms) is state


def test_a_circuit_that_is_half_open_lets_one_through() -> None:
    """And another one after as long again, should nothing be heard of the first."""
    breaker = Breaker(faults_max=1, open_ms=10)
    assert breaker.admits(0)
    breaker.failed(0)
    assert [breaker.admits(now_ms) for now_ms in (0, 9, 10, 11, 19, 20, 21)] == [
        *(False, False, True, False, False, True, False)
    ]
    breaker.answered()
    assert [breaker.admits(now_ms) for now_ms in (22, 22)] == [True, True]


@given(st.lists(st.tuples(st.sampled_from("fa"), st.integers(0, 50)), max_size=30), st.integers(0, 50))
def test_a_circuit_is_never_open_for_good(happened: list[tuple[str, int]], late_ms: int) -> None:
    """Whatever happened, somebody is let through when `open_ms` have passed."""
    breaker, now_ms = Breaker(faults_max=2, open_ms=20), 0
    for each, after_ms in happened:
        now_ms += after_ms
        if breaker.admits(now_ms):
            breaker.failed(now_ms) if each == "f" else breaker.answered()
    assert breaker.admits(now_ms + 20 + late_ms)


async def test_a_bank_that_fails_is_left_alone_for_a_while(
    url: str, system: AccountSystem, connect: Connect, clock: Clock
) -> None:
    """
    After so many faults nothing is sent, and a guess that was not sent does not count; then one is, to see. Look-ups
    that go well do not hide that PINs are not judged.
    """
    bank = connect(url, breaker=lambda: Breaker(faults_max=2, open_ms=10_000))
    for plant in (system.unsigned_next, lambda path: system.fail_next(500, path)):
        plant(http.VERIFY)
        assert (await pin_of(bank)) is not None
        assert str(await becomes(verdict(bank, A_PIN))).startswith("('OutOfSight'")
    why = f"{http.VERIFY} of the bank's system failed again and again: not asked for some seconds"
    for after_s in (0, 9.999):
        clock.advance(after_s)
        assert await becomes(verdict(bank, A_PIN)) == ("DirectoryFault", why)
    assert len(system.asked) == 4
    clock.advance(0.001)
    system.fail_next(502, http.VERIFY)
    assert await becomes(verdict(bank, A_PIN)) == (
        "OutOfSight",
        f"the bank's system answered 502 to {http.VERIFY}",
    )
    assert await becomes(verdict(bank, A_PIN)) == ("DirectoryFault", why)
    clock.advance(10)
    assert [await verdict(bank, A_PIN) for _ in range(2)] == [Wrong(), Wrong()]
    assert len(system.asked) == 7


@pytest.mark.parametrize("status", [400, 404, 429])
async def test_no_caller_can_have_the_bank_left_alone(
    url: str, system: AccountSystem, connect: Connect, status: int
) -> None:
    """What a caller keys may be refused: a signed refusal shows that the bank is well."""
    bank = connect(url, breaker=lambda: Breaker(faults_max=2))
    for _ in range(4):
        system.fail_next(status)
        assert isinstance(await becomes(pin_of(bank)), tuple)
    assert await pin_of(bank) is not None


async def test_an_odd_account_does_not_have_the_bank_left_alone(
    system: AccountSystem, url: str, connect: Connect
) -> None:
    """Nor one whose entry is not as agreed: callers who ask for it would shut out all the others."""
    system.add("666666", numbers=("not a number",))
    bank = connect(url, breaker=lambda: Breaker(faults_max=2))
    for _ in range(4):
        assert isinstance(await becomes(pin_of(bank, "666666")), tuple)
    assert await pin_of(bank) is not None


# ── mutual TLS ───────────────────────────────────────────────────────────────────────────────────────────


class Authority:
    """A certificate authority; `issue` writes a certificate and its key into the folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basics = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(
            *(True, False, False, False, False, True, True, False, False),
        )
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        made = (
            self._begun(self._name, self._key, 365)
            .add_extension(basics, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = self._written(f"{name}.ca.pem", made.public_bytes(serialization.Encoding.PEM))

    def _begun(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        today = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - dt.timedelta(days=30))
            .not_valid_after(today + dt.timedelta(days=days))
        )

    def _written(self, name: str, pem: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(pem)
        return path

    def issue(
        self, name: str, host: str = "127.0.0.1", *, days: int = 30, password: bytes | None = None
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        where = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        made = (
            self._begun(subject, key, days)
            .add_extension(x509.SubjectAlternativeName([where]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed
        )  # fmt: skip
        certificate = made.public_bytes(serialization.Encoding.PEM)
        return self._written(f"{name}.pem", certificate), self._written(f"{name}.key", pem)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "bank")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "stranger")


async def over_tls(
    system: AccountSystem,
    stack: AsyncExitStack,
    asks_for: Path,
    certificate: tuple[Path, Path],
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> str:
    """Serve the pretend bank over TLS, to clients that this authority vouches for; its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=asks_for)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*certificate)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = most
    runner = web.AppRunner(system.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return f"https://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_sides_show_a_certificate(
    system: AccountSystem, stack: AsyncExitStack, connect: Connect, ours: Authority, most: ssl.TLSVersion
) -> None:
    """The bank's authority vouches for both: then everything goes as it does without TLS."""
    url = await over_tls(system, stack, ours.ca, ours.issue("server"), most)
    bank = connect(url, tls=mutual_tls(ours.ca, *ours.issue("client")))
    credential = await pin_of(bank)
    assert [await verdict(bank, credential, digits) for digits in (PIN, "11111111")] == [Right(), Wrong()]


UNTRUSTED = [
    ("a bank of another authority", "theirs", "certificate of the bank's system is not right: "),
    ("a bank whose certificate ran out", "expired", "not right: certificate has expired"),
    ("a bank of another name", "elsewhere", "not right: "),
    ("a client of another authority", "client", "connection to the bank's system failed: "),
    ("a client without a certificate", "none", "connection to the bank's system failed: "),
    ("a client whose certificate ran out", "client expired", "connection to the bank's system failed: "),
    ("a bank that does not know TLS", "plain", "connection to the bank's system failed: "),
]


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("wrong", "says"), [row[1:] for row in UNTRUSTED], ids=[row[0] for row in UNTRUSTED])
async def test_whoever_cannot_show_who_he_is_hears_nothing(
    system: AccountSystem,
    stack: AsyncExitStack,
    connect: Connect,
    ours: Authority,
    theirs: Authority,
    wrong: str,
    says: str,
    most: ssl.TLSVersion,
) -> None:
    """Either side: a fault, and nothing was asked. What is wrong with the bank's certificate is said."""
    server = {
        "theirs": lambda: theirs.issue("server"),
        "expired": lambda: ours.issue("server", days=-1),
        "elsewhere": lambda: ours.issue("server", "bank.example"),
    }.get(wrong, lambda: ours.issue("server"))()
    client = {
        "client": lambda: theirs.issue("client"),
        "client expired": lambda: ours.issue("client", days=-1),
    }.get(wrong, lambda: ours.issue("client"))()
    url = await over_tls(system, stack, ours.ca, server, most)
    tls = ssl.create_default_context(cafile=ours.ca) if wrong == "none" else mutual_tls(ours.ca, *client)
    if wrong == "plain":
        url = (await listen(system.app(), stack)).replace("http:", "https:")
    bank = connect(url, tls=tls)
    for asked in (HttpDirectory(bank).by_id("123456"), verdict(bank, A_PIN)):
        found = await becomes(asked)
        assert isinstance(found, tuple)
        assert says in found[1]
    assert system.asked == []


async def test_an_old_tls_is_not_spoken(ours: Authority) -> None:
    """1.2 at least (NIST SP 800-52 Rev. 2), the bank's name checked, and no authority but the one given."""
    context = mutual_tls(ours.ca, *ours.issue("client"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(context.get_ca_certs()) == 1


BROKEN = [
    ("no authority's file", ("missing", "client.pem", "client.key"), "read from .*missing"),
    ("no certificates in it", ("client.key", "client.pem", "client.key"), "read from .*client.key"),
    ("no certificate", ("bank.ca.pem", "missing", "client.key"), "missing and .*client.key are not"),
    ("another's key", ("bank.ca.pem", "client.pem", "other.key"), "client.pem and .*other.key are not"),
    ("a key with a password", ("bank.ca.pem", "locked.pem", "locked.key"), "without a password"),
]


@pytest.mark.parametrize(("names", "says"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_files_that_do_not_do_are_named(
    ours: Authority, tmp_path: Path, names: tuple[str, str, str], says: str
) -> None:
    """At the start, and nobody is asked for a password."""
    ours.issue("client")
    ours.issue("other")
    ours.issue("locked", password=b"open sesame")
    ca, certificate, key = (tmp_path / name for name in names)
    with pytest.raises(DirectoryFault, match=says):
        mutual_tls(ca, certificate, key)


# ── the whole guard ──────────────────────────────────────────────────────────────────────────────────────

FLOW = Flow(
    name="bank",
    version="1",
    numbers=("*",),
    upstream=Upstream("http://127.0.0.1/voice"),
    identify=Identify("account_number", 6, 6),
    factors={"pin": Factor(Kind.PIN, 8)},
    levels={"one_factor": AnyOf(("pin",))},
    rules=(),
    default=Demand("one_factor"),
    locks=Locks(account=Lockout(failures=5, within_s=3600, lock_s=(1800,)), caller_number=None),
    prompts={name: name for name in PROMPTS},
)


@dataclass
class Ivr:
    """It greets whoever gets so far."""

    greeted: int = 0

    def app(self, _: str) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._greet)
        return app

    async def _greet(self, _: web.Request) -> web.Response:
        self.greeted += 1
        return web.Response(text="<Response><Say>Hello.</Say></Response>", content_type="text/xml")


async def test_the_lockout_rule_stays_the_guards(
    system: AccountSystem, url: str, connect: Connect, stack: AsyncExitStack, clock: Clock
) -> None:
    """
    Five wrong guesses reach the bank. The sixth, right as it is, comes to it with a reference that stands for nothing,
    and the caller hears what everybody hears; so does the caller of an account that does not exist.
    """
    bank, ivr = connect(url), Ivr()
    reference = (await pin_of(bank)).secret
    extra = {"directory": HttpDirectory(bank), "pin_judge": HttpPinJudge(bank), "pins": HttpPins(bank)}
    guard = await stack.enter_async_context(rig(FLOW, ivr.app, clock=clock, extra=extra))

    async def call(account: str, pin: str) -> tuple[list[str], list[tuple[str, bool]]]:
        """What the caller heard after his PIN, and what the bank was asked then: path, and whether of the account."""
        line = guard.call("+15557770001")
        await line.until_input()
        await line.press(account)
        heard = len(line.heard)
        system.asked.clear()
        await line.press(pin)
        asked = [(one.path, one.said.get("reference") == reference) for one in system.asked]
        return [one.text for one in line.heard[heard:] if isinstance(one, Said)], asked

    wrong = [await call("123456", f"1357000{number}") for number in range(5)]
    sixth, unknown = await call("123456", PIN), await call("999999", PIN)
    assert [asked for _, asked in wrong] == [[(http.LOOKUP, False), (http.VERIFY, True)]] * 5
    assert [sixth[1], unknown[1]] == [[(http.LOOKUP, False), (http.VERIFY, False)]] * 2
    assert {tuple(said) for said, _ in (*wrong, sixth, unknown)} == {tuple(sixth[0])}
    assert ivr.greeted == 0
    clock.advance(1800)
    assert (await call("123456", PIN))[1] == [(http.LOOKUP, False), (http.VERIFY, True)]
    assert ivr.greeted == 1


async def test_what_the_bank_did_not_look_at_is_not_counted_and_nobody_gets_in(
    system: AccountSystem, url: str, connect: Connect, stack: AsyncExitStack, clock: Clock
) -> None:
    """A bank that signs "not now" costs no guess; one that breaks off costs one. Neither lets anybody through."""
    bank, ivr = connect(url, breaker=lambda: Breaker(faults_max=100)), Ivr()
    reference = (await pin_of(bank)).secret
    extra = {"directory": HttpDirectory(bank), "pin_judge": HttpPinJudge(bank)}
    guard = await stack.enter_async_context(rig(FLOW, ivr.app, clock=clock, extra=extra))

    async def guess() -> list[str]:
        """Events of the record that a call with the right PIN leaves from the PIN on."""
        line = guard.call("+15557770001")
        await line.until_input()
        await line.press("123456")
        before = (await guard.store.head())[0]
        await line.press(PIN)
        return [one.entry.event for one in await guard.store.entries(after=before)]

    system.fail_next(503, http.VERIFY)
    assert "authn_attempt_withdrawn" in await guess()
    for _ in range(5):
        system.drop_next(http.VERIFY)
        assert "authn_attempt_unjudged" in await guess()
    system.asked.clear()
    await guess()
    asked = [(one.path, one.said.get("reference") == reference) for one in system.asked]
    assert asked == [(http.LOOKUP, False), (http.LOOKUP, False), (http.VERIFY, False)]
    assert ivr.greeted == 0


# ── the documents ────────────────────────────────────────────────────────────────────────────────────────

DOCUMENT = (DOCS / "directory.md").read_text()
OPENAPI = yaml.safe_load((DOCS / "directory.openapi.yaml").read_text())
MODELS = http._Said.__subclasses__()


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
    http.LOOKUP: (["LookupByAccount", "LookupByNumber"], "LookupAnswer"),
    http.VERIFY: (["VerifyRequest"], "VerifyAnswer"),
    http.CHANGE: (["ChangeRequest"], "ChangeAnswer"),
}


def test_the_paths_and_headers_are_the_codes_own() -> None:
    """Each operation is a POST with the four headers, and its answers are signed; its examples are as agreed."""
    assert OPENAPI["openapi"] == "3.1.0"
    assert set(OPENAPI["paths"]) == set(OPERATIONS)
    for path, (asked, answer) in OPERATIONS.items():
        assert set(OPENAPI["paths"][path]) == {"post"}
        operation = OPENAPI["paths"][path]["post"]
        headers = [
            (one["in"], one["required"], one["name"]) for one in map(referred, operation["parameters"])
        ]
        names = (http.KEY_ID, http.TIMESTAMP, http.NONCE, http.SIGNATURE)
        assert headers == [("header", True, name) for name in names]
        said = operation["requestBody"]["content"]["application/json"]
        schemas = [one["$ref"] for one in said["schema"].get("oneOf", [said["schema"]])]
        assert schemas == [f"#/components/schemas/{name}" for name in asked]
        models = [getattr(http, name) for name in asked]
        for model, example in zip(models * 2, said["examples"].values(), strict=False):
            assert model.model_validate(example["value"])
        good = operation["responses"]["200"]
        assert set(good["headers"]) == {http.SIGNATURE}
        answered = good["content"]["application/json"]
        assert answered["schema"]["$ref"] == f"#/components/schemas/{answer}"
        for example in answered["examples"].values():
            assert getattr(http, answer).model_validate(example["value"])
        refusals = {code: referred(one) for code, one in operation["responses"].items() if code != "200"}
        assert {"400", "401", "503"} <= set(refusals)
        assert all("headers" in one for code, one in refusals.items() if code != "401")


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
        secret, http.VERIFY, stamp, nonce, body.encode()
    )
    expected = answer_signature(secret, 200, nonce, answered.partition("\n\n")[2].encode())
    assert f"Ivrguard-Signature: {expected}" in answered
    assert http.VerifyRequest.model_validate_json(body).model_dump_json() == body


def test_the_recipe_in_python_does_what_it_says() -> None:
    """The code in the document is run: it takes what the guard signs, and signs what the guard takes."""
    (code,) = blocks("python")
    recipe: dict[str, Callable[..., object]] = {}
    exec(code, recipe)
    body, nonce = b'{"account":"123456"}', "ab" * 16
    signature = request_signature(SECRET, http.LOOKUP, START_MS, nonce, body)
    headers = {http.TIMESTAMP: str(START_MS), http.NONCE: nonce, http.SIGNATURE: signature}
    assert recipe["is_right"](SECRET, http.LOOKUP, headers, body)
    assert not recipe["is_right"](SECRET, http.LOOKUP, headers, body + b" ")
    assert not recipe["is_right"](SECRET, http.LOOKUP, headers | {http.SIGNATURE: "ä"}, body)
    assert recipe["answer_signature"](SECRET, 200, nonce, body) == answer_signature(SECRET, 200, nonce, body)


def test_the_numbers_in_the_document_are_the_codes_own() -> None:
    for said in (
        f"({http.DEADLINE_S:g} seconds for everything)",
        f"more than {http.REQUESTS_AT_ONCE_MAX} requests under way",
        f"under {http.ANSWER_BYTES_MAX // 1024} kB",
        f"more than {http.IDLE_S_MAX:g} seconds",
        f"up to {http.ACCOUNT_CHARS_MAX} characters",
    ):
        assert said in DOCUMENT
    assert (http.FAULTS_MAX, http.OPEN_MS) == (5, 10_000)
    assert "five failures in a row" in DOCUMENT
    assert "not made for ten seconds" in DOCUMENT


def test_every_message_in_the_document_is_as_agreed() -> None:
    """The blocks of JSON, in the order of the document."""
    models = [
        *(http.LookupByAccount, http.LookupByNumber, http.LookupAnswer, http.LookupAnswer),
        *(http.VerifyRequest, http.ChangeRequest),
    ]
    for model, text in zip(models, blocks("json"), strict=True):
        assert model.model_validate_json(text)
