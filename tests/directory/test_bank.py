"""
The way to the bank's system: what it says counts only if it is signed, in time, of its shape and small; what became of a
request is told rightly; mutual TLS; and a bank that fails is left alone for a while.
"""

import asyncio
import hashlib
import hmac
import secrets
import shutil
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from ivrguard.core.errors import Busy, DirectoryFault
from ivrguard.directory import bank as banks
from ivrguard.directory.bank import Access, Bank, MutualTls, Outcome, Unanswered
from ivrguard.directory.breaker import Breaker
from ivrguard.directory.messages import (
    LOOKUP,
    NONCE,
    SIGNATURE,
    TIMESTAMP,
    VERIFY,
    FoundAccount,
    LookupAnswer,
    LookupByAccount,
    SigningKey,
    VerifyAnswer,
    VerifyRequest,
    answer_signature,
    request_signature,
)
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import Clock, listen

START_MS = 1_800_000_000_000
SECRET = bytes(range(32))
KEY = SigningKey("k1", SECRET)
PIN, OWNER = "24681357", "+15551230001"
REFERENCE = "5f0c3e9a7b1d42688c2f6e0d9a4b7c15"

UNSETTLED, REFUSED, UNSENT = Outcome.UNSETTLED, Outcome.REFUSED, Outcome.UNSENT
LEFT_ALONE = Outcome.LEFT_ALONE


async def look_up(bank: Bank, account: str = "123456") -> FoundAccount | None:
    answer = await bank.ask(LOOKUP, LookupByAccount(account=account), LookupAnswer, reads=True)
    return answer.account if answer else None


async def verify(bank: Bank, reference: str = REFERENCE) -> bool | None:
    answer = await bank.ask(VERIFY, VerifyRequest(reference=reference, pin=PIN), VerifyAnswer)
    return answer.right if answer else None


@pytest.fixture
def fails(becomes: Callable) -> Callable[[Awaitable[object]], Awaitable[tuple[Outcome, str]]]:
    """How it failed, and the words, which hold nothing of what was asked (`becomes` looks)."""

    async def failed(asked: Awaitable[object]) -> tuple[Outcome, str]:
        outcomes: list[Outcome] = []

        async def noted() -> object:
            try:
                return await asked
            except Unanswered as fault:
                outcomes.append(fault.outcome)
                raise

        found = await becomes(noted())
        assert isinstance(found, tuple)
        assert found[0] == "DirectoryFault"
        return outcomes[0], found[1]

    return failed


Fails = Callable[[Awaitable[object]], Awaitable[tuple[Outcome, str]]]


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────


def told(**changed: object) -> dict[str, object]:
    """An account as the protocol has it, but for `changed`."""
    usual = {"id": "123456", "numbers": [OWNER], "language": "", "pin": REFERENCE, "sms_number": None}
    return {"account": usual | changed}


MISSHAPEN = [
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


@pytest.mark.parametrize(("said", "where"), MISSHAPEN, ids=range(len(MISSHAPEN)))
async def test_an_answer_is_of_its_shape_or_a_fault(
    lies: Callable, fails: Fails, said: object, where: str
) -> None:
    """Types and forms are strict, and the fault names the place and nothing of what is there."""
    liar = await lies(said)
    assert await fails(look_up(liar.bank)) == (
        UNSETTLED,
        f"the bank's answer to {LOOKUP} is not as agreed: {where}",
    )


async def test_keys_that_are_not_known_are_ignored(lies: Callable) -> None:
    """So that the bank may add some, or blanks that make all answers of one length."""
    liar = await lies(told(extra="ignored", totp=None) | {"more": 1, "padding": " " * 100})
    assert await look_up(liar.bank) == FoundAccount(**told()["account"])


STATUSES = [
    *((status, UNSETTLED) for status in (201, 204, 302, 307, 400, 401, 403, 409, 422, 429, 500, 502, 504)),
    (503, REFUSED),
]


@pytest.mark.parametrize(("status", "outcome"), STATUSES)
async def test_only_200_is_an_answer_and_only_503_a_refusal(
    lies: Callable, fails: Fails, status: int, outcome: Outcome
) -> None:
    """A redirect is not followed, and nothing that stands in another answer counts."""
    liar = await lies(b"" if status == 204 else {"right": True}, status=status)
    found, words = await fails(verify(liar.bank))
    assert (found, str(status) in words) == (outcome, True)
    assert len(liar.bodies) == 1


async def test_404_is_nothing(lies: Callable, seen: object) -> None:
    """There is no such thing: an answer, and a sign that the bank is well."""
    liar = await lies({"right": True, **told()}, status=404)
    assert [await verify(liar.bank), await look_up(liar.bank)] == [None, None]
    assert seen.requests == [("verify", "answered"), ("lookup", "answered")]


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
    lambda _, nonce, body: request_signature(SECRET, VERIFY, START_MS, nonce, body),
]


@pytest.mark.parametrize("signs", FORGED, ids=range(len(FORGED)))
async def test_an_answer_without_the_right_signature_is_none(
    lies: Callable, fails: Fails, signs: Callable[[int, str, bytes], str]
) -> None:
    """Not another key's, request's, status's or body's: a man in the middle can say nothing."""
    liar = await lies({"right": True}, signs=signs)
    outcome, words = await fails(verify(liar.bank))
    assert outcome is UNSETTLED
    assert "(status 200) is not signed by the bank's system with key k1" in words


async def test_a_refusal_that_is_not_signed_is_none(lies: Callable, fails: Fails) -> None:
    """A proxy's 503 comes when the guess may have gone through already; its 404 is no unknown account."""
    for status in (503, 404):
        liar = await lies(b"<html>", status=status, signs=lambda *_: "")
        outcome, words = await fails(verify(liar.bank))
        assert (outcome, f"(status {status}) is not signed" in words) == (UNSETTLED, True)


@pytest.mark.parametrize("content_type", ["text/html", "application/json-seq", "text/json", ""])
async def test_only_json_is_read(lies: Callable, fails: Fails, content_type: str) -> None:
    liar = await lies({"right": True}, content_type=content_type)
    expected = UNSETTLED, f"the bank's answer to {VERIFY} is not application/json"
    assert await fails(verify(liar.bank)) == expected


async def test_a_character_set_may_be_named(lies: Callable) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = b'{"right":true}'
        signature = answer_signature(SECRET, 200, request.headers["Ivrguard-Nonce"], body)
        headers = {"Content-Type": "Application/JSON; charset=utf-8", "Ivrguard-Signature": signature}
        return web.Response(body=body, headers=headers)

    assert await verify((await lies(answer=answer)).bank) is True


@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_is_read_up_to_a_bound(lies: Callable, becomes: Callable, more: int) -> None:
    """16 kB are read, and not a byte more of what may have no end."""
    liar = await lies(b'{"right":true}'.ljust(banks.ANSWER_BYTES_MAX + more))
    too_long = "DirectoryFault", f"the bank's answer to {VERIFY} is longer than 16 kB"
    assert await becomes(verify(liar.bank)) == (too_long if more else True)


async def test_an_endless_answer_ends(lies: Callable, fails: Fails) -> None:
    """A stream that never stops is left as soon as it is too long."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 4096)

    assert "longer than 16 kB" in (await fails(verify((await lies(answer=answer)).bank)))[1]


async def test_what_an_answer_holds_does_not_show() -> None:
    heard = banks._Heard(200, "application/json", b"+15551230001")
    assert OWNER not in repr(heard)


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
    url: str,
    system: AccountSystem,
    connect: Callable,
    clock: Clock,
    fails: Fails,
    key: SigningKey,
    ahead_s: int,
) -> None:
    """Its refusal is not signed: the log tells the status, and what to look at."""
    bank = connect(url, key=key)
    bank._clock = Clock(START_MS + ahead_s * 1000)
    outcome, words = await fails(look_up(bank))
    assert outcome is UNSETTLED
    assert "(status 401) is not signed" in words
    assert "look at key, clock" in words
    assert (system.refused, system.asked) == (1, [])


async def test_each_request_is_signed_anew(bank: Bank, system: AccountSystem) -> None:
    """The same question twice has two nonces and two signatures: the bank refuses what it has seen."""
    for _ in range(2):
        await look_up(bank)
    headers = [one.headers for one in system.asked]
    assert [len({each[name] for each in headers}) for name in (NONCE, SIGNATURE)] == [2, 2]
    assert {each[TIMESTAMP] for each in headers} == {str(START_MS)}


async def test_a_path_in_front_is_not_signed(
    lies: Callable, connect: Callable, stack: AsyncExitStack
) -> None:
    """A proxy may put a path before the protocol's own, or take it away."""
    outer = web.Application()
    outer.add_subapp("/guard/api", (await lies({"right": True})).app())
    origin = await listen(outer, stack)
    assert await verify(connect(f"{origin}/guard/api/")) is True
    served = request_signature(SECRET, VERIFY, START_MS, "0" * 32, b"")
    empty = hashlib.sha256(b"").hexdigest()
    lines = f"ivrguard-v1-request\nPOST\n/v1/pins/verify\n{START_MS}\n{'0' * 32}\n{empty}".encode()
    assert served == hmac.new(SECRET, lines, hashlib.sha256).hexdigest()


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_bank_is_given_up_by_the_deadline(
    url: str, system: AccountSystem, connect: Callable, fails: Fails
) -> None:
    """Nobody knows how far it got."""
    bank, system.hold = connect(url, deadline_s=0.25), asyncio.Event()
    why = "the bank's system did not answer within 0.25 s"
    for asked in (look_up(bank), verify(bank)):
        assert await fails(asked) == (UNSETTLED, why)
    system.hold.set()


async def test_a_bank_that_trickles_is_given_up_too(lies: Callable, fails: Fails) -> None:
    """The deadline is for the whole answer, not for its first byte."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await over.wait()
        return response

    liar = await lies(answer=answer, deadline_s=0.25)
    expected = UNSETTLED, "the bank's system did not answer within 0.25 s"
    assert await fails(verify(liar.bank)) == expected
    over.set()


async def test_what_surely_was_not_sent_is_told_apart(
    connect: Callable, authority: Callable, fails: Fails
) -> None:
    """Nobody listens; or somebody does and says nothing, so that TLS never begins."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ours = authority("bank")
    tls = MutualTls(ours.ca, *ours.issue("client"))
    silent = connect(f"https://127.0.0.1:{port}", tls=tls, deadline_s=0.1)
    assert await fails(verify(silent)) == (UNSENT, "the bank's system did not answer within 0.1 s")
    server.close()
    await server.wait_closed()
    why = "the connection to the bank's system failed: ClientConnectorError"
    assert await fails(verify(connect(f"http://127.0.0.1:{port}"))) == (UNSENT, why)


async def test_a_lookup_is_asked_again_when_a_kept_connection_was_closed(
    bank: Bank, system: AccountSystem, fails: Fails
) -> None:
    """Once, with a nonce of its own. A new connection that breaks is a fault like any other."""
    assert await look_up(bank) is not None
    system.drop_next()
    assert await look_up(bank) is not None
    assert len({one.headers[NONCE] for one in system.asked}) == 3
    system.drop_next()
    system.drop_next()
    assert "connection to the bank's system failed: " in (await fails(look_up(bank)))[1]
    assert len(system.asked) == 5
    system.drop_next()
    await fails(look_up(bank))
    assert len(system.asked) == 6


async def test_what_is_not_only_read_is_never_asked_again(
    bank: Bank, system: AccountSystem, fails: Fails
) -> None:
    """Whatever breaks, the bank hears it once."""
    await look_up(bank)  # keeps a connection for the next one
    system.asked.clear()
    system.drop_next()
    outcome, words = await fails(verify(bank))
    assert (outcome, "connection to the bank's system failed" in words) == (UNSETTLED, True)
    assert len(system.asked) == 1


async def test_no_more_than_so_many_at_once(
    url: str, system: AccountSystem, connect: Callable, seen: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound: `Busy`, at once, and the bank hears nothing. Afterwards there is room again."""
    monkeypatch.setattr(banks, "REQUESTS_AT_ONCE_MAX", 3)
    bank, system.hold = connect(url), asyncio.Event()
    waiting = [asyncio.create_task(verify(bank)) for _ in range(3)]
    await asyncio.sleep(0)  # each of them has begun
    for asked in (verify(bank), look_up(bank)):
        with pytest.raises(Busy, match="3 requests to the bank's system are under way"):
            await asked
    waiting[0].cancel()
    system.hold.set()
    assert await asyncio.gather(*waiting[1:]) == [False, False]
    assert {asked.path for asked in system.asked} == {VERIFY}
    assert await asyncio.gather(*(verify(bank) for _ in range(3))) == [False] * 3
    assert seen.requests[:2] == [("verify", "busy"), ("lookup", "busy")]
    assert sorted(seen.requests[2:]) == [*[("verify", "answered")] * 5, ("verify", "unsettled")]


async def test_closing_is_harmless_twice_and_unopened(url: str, connect: Callable) -> None:
    bank = connect(url)
    await bank.close()
    await look_up(bank)
    await bank.close()
    await bank.close()


async def test_a_watch_is_told_how_long_it_took(lies: Callable, clock: Clock, seen: object) -> None:
    """From the request to the answer, by the guard's clock."""

    async def answer(_: web.Request) -> web.Response:
        clock.advance(1.25)
        return web.Response(status=500)

    with pytest.raises(Unanswered):
        await look_up((await lies(answer=answer)).bank)
    assert (seen.requests, seen.seconds) == ([("lookup", "unsettled")], [1.25])


async def test_whether_bank_and_guard_fit_is_known_before_the_first_call(
    bank: Bank, system: AccountSystem, lies: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is looked up: null is well, and so is 404. Somebody who is found there is none."""
    assert await bank.unfit() is None
    assert [one.said for one in system.asked] == [{"account": "-"}]
    assert await (await lies({}, status=404)).bank.unfit() is None
    assert await (await lies(told())).bank.unfit() == (
        'the bank\'s system finds an account called "-", which is none'
    )
    system.fail_next(503)
    assert await bank.unfit() == f"the bank's system refused {LOOKUP} with 503: not now"
    monkeypatch.setattr(banks, "REQUESTS_AT_ONCE_MAX", 0)
    assert "are under way" in await bank.unfit()


# ── the circuit breaker ──────────────────────────────────────────────────────────────────────────────────


async def test_a_bank_that_fails_is_left_alone_for_a_while(
    url: str, system: AccountSystem, connect: Callable, clock: Clock, fails: Fails, seen: object
) -> None:
    """
    After so many faults nothing is sent; then one request is, to see. Look-ups that go well do not hide that PINs are not
    judged. Who watches is told when it turns, and only then.
    """
    bank = connect(url, breaker=lambda: Breaker(faults_max=2, open_ms=10_000))
    for plant in (system.unsigned_next, lambda path: system.fail_next(500, path)):
        plant(VERIFY)
        assert await look_up(bank) is not None
        assert bank.left_alone() == ()
        assert (await fails(verify(bank)))[0] is UNSETTLED
    why = f"{VERIFY} of the bank's system failed again and again: not asked for some seconds"
    for after_s in (0, 9.999):
        clock.advance(after_s)
        assert await fails(verify(bank)) == (LEFT_ALONE, why)
        assert bank.left_alone() == ("verify",)
    assert (len(system.asked), seen.circuits) == (4, [("verify", True)])
    clock.advance(0.001)
    assert bank.left_alone() == ("verify",)  # until one request has gone well
    system.fail_next(502, VERIFY)
    assert await fails(verify(bank)) == (UNSETTLED, f"the bank's answer to {VERIFY} has the status 502")
    assert await fails(verify(bank)) == (LEFT_ALONE, why)
    clock.advance(10)
    assert [await verify(bank) for _ in range(2)] == [False, False]
    assert (bank.left_alone(), len(system.asked)) == ((), 7)
    assert seen.circuits == [("verify", True), ("verify", False)]
    assert [what for _, what in seen.requests if what == "left_alone"] == ["left_alone"] * 3


@pytest.mark.parametrize("status", [400, 404, 429])
async def test_no_caller_can_have_the_bank_left_alone(
    url: str, system: AccountSystem, connect: Callable, becomes: Callable, status: int
) -> None:
    """What a caller keys may be refused: a signed answer shows that the bank is well."""
    bank = connect(url, breaker=lambda: Breaker(faults_max=2))
    for _ in range(4):
        system.fail_next(status)
        assert (await becomes(look_up(bank)) is None) == (status == 404)
    assert await look_up(bank) is not None


async def test_an_odd_account_does_not_have_the_bank_left_alone(
    system: AccountSystem, url: str, connect: Callable, fails: Fails
) -> None:
    """Nor one whose entry is not as agreed: callers who ask for it would shut out all the others."""
    system.add("666666", numbers=("not a number",))
    bank = connect(url, breaker=lambda: Breaker(faults_max=2))
    for _ in range(4):
        await fails(look_up(bank, "666666"))
    assert await look_up(bank) is not None


# ── mutual TLS ───────────────────────────────────────────────────────────────────────────────────────────

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("most", VERSIONS, ids=["1.2", "1.3"])
async def test_both_sides_show_a_certificate(
    system: AccountSystem, stack: AsyncExitStack, connect: Callable, authority: Callable, most: ssl.TLSVersion
) -> None:
    """The bank's authority vouches for both: then everything goes as it does without TLS."""
    ours = authority("bank")
    url = await listen(system.app(), stack, ours.demands(ours.issue("server"), most))
    bank = connect(url, tls=MutualTls(ours.ca, *ours.issue("client")))
    found = await look_up(bank)
    assert await verify(bank, found.pin) is True


UNTRUSTED = [
    ("a bank of another authority", "theirs", "certificate of the bank's system is not right: "),
    ("a bank whose certificate ran out", "expired", "not right: certificate has expired"),
    ("a bank of another name", "elsewhere", "not right: "),
    ("a client of another authority", "client", "connection to the bank's system failed: "),
    ("a client whose certificate ran out", "client expired", "connection to the bank's system failed: "),
    ("a bank that does not know TLS", "plain", "connection to the bank's system failed: "),
]


@pytest.mark.parametrize("most", VERSIONS, ids=["1.2", "1.3"])
@pytest.mark.parametrize(("wrong", "says"), [row[1:] for row in UNTRUSTED], ids=[row[0] for row in UNTRUSTED])
async def test_whoever_cannot_show_who_he_is_hears_nothing(
    system: AccountSystem,
    stack: AsyncExitStack,
    connect: Callable,
    authority: Callable,
    fails: Fails,
    wrong: str,
    says: str,
    most: ssl.TLSVersion,
) -> None:
    """Either side: a fault, and nothing was asked. What is wrong with the bank's certificate is said."""
    ours, theirs = authority("bank"), authority("stranger")
    server = {
        "theirs": lambda: theirs.issue("server"),
        "expired": lambda: ours.issue("server", days=-1),
        "elsewhere": lambda: ours.issue("server", "bank.example"),
    }.get(wrong, lambda: ours.issue("server"))()
    client = {
        "client": lambda: theirs.issue("client"),
        "client expired": lambda: ours.issue("client", days=-1),
    }.get(wrong, lambda: ours.issue("client"))()
    url = await listen(system.app(), stack, ours.demands(server, most))
    if wrong == "plain":
        url = (await listen(system.app(), stack)).replace("http:", "https:")
    bank = connect(url, tls=MutualTls(ours.ca, *client))
    for asked in (look_up(bank), verify(bank)):
        assert says in (await fails(asked))[1]
    assert system.asked == []


def test_an_old_tls_is_not_spoken(authority: Callable) -> None:
    """1.2 at least (NIST SP 800-52 Rev. 2), the bank's name checked, and no authority but the one given."""
    ours = authority("bank")
    context = MutualTls(ours.ca, *ours.issue("client")).context
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
    authority: Callable, tmp_path: Path, names: tuple[str, str, str], says: str
) -> None:
    """At the start, and nobody is asked for a password."""
    ours = authority("bank")
    ours.issue("client")
    ours.issue("other")
    ours.issue("locked", password=b"open sesame")
    ca, certificate, key = (tmp_path / name for name in names)
    with pytest.raises(DirectoryFault, match=says):
        MutualTls(ca, certificate, key)


async def test_a_renewed_certificate_is_used_without_a_restart(
    system: AccountSystem,
    stack: AsyncExitStack,
    connect: Callable,
    authority: Callable,
    fails: Fails,
    seen: object,
) -> None:
    """
    The one in use has run out, and the bank lets nobody in; the files are replaced, one after the other, and read while
    they do not fit: those before stay, and somebody is told. When both are there, the guard is let in.
    """
    ours = authority("bank")
    url = await listen(system.app(), stack, ours.demands(ours.issue("server")))
    certificate, key = ours.issue("client", days=-1)
    tls = MutualTls(ours.ca, certificate, key)
    bank = connect(url, tls=tls)
    await fails(look_up(bank))
    first, (new_certificate, new_key) = tls.ends_ms, ours.issue("renewed")

    new_certificate.replace(certificate)
    await bank.renew(tls)
    await fails(look_up(bank))
    shutil.copyfile(new_key, key)
    await bank.renew(tls)
    assert await look_up(bank) is not None

    ends, faults = zip(*seen.certificates, strict=True)
    assert ends == (first, first, tls.ends_ms)
    assert [bool(fault) for fault in faults] == [False, True, False]
    assert "client.key are not a PEM certificate and its key" in faults[1]
    assert tls.ends_ms == pytest.approx(first + 31 * 86_400_000, abs=60_000)


async def test_certificates_are_looked_at_now_and_then(
    authority: Callable, connect: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as the server runs."""
    ours, looked = authority("bank"), asyncio.Queue[MutualTls]()
    tls = MutualTls(ours.ca, *ours.issue("client"))
    monkeypatch.setattr(banks, "CERTIFICATES_LOOKED_AT_EVERY_S", 0.001)
    monkeypatch.setattr(Bank, "renew", lambda _, which: looked.put(which))
    keeping = asyncio.create_task(connect("https://127.0.0.1:1", tls=tls).keep())
    assert [await looked.get() for _ in range(3)] == [tls] * 3
    keeping.cancel()


async def test_files_that_do_not_change_are_not_read_again(
    authority: Callable, connect: Callable, seen: object
) -> None:
    """Nor is anything looked at where there are none."""
    ours = authority("bank")
    tls = MutualTls(ours.ca, *ours.issue("client"))
    bank, context = connect("https://127.0.0.1:1", tls=tls), tls.context
    await bank.renew(tls)
    assert (tls.context is context, len(seen.certificates)) == (True, 1)
    await connect("http://127.0.0.1:1").keep()


async def test_files_that_vanish_leave_those_in_use(authority: Callable) -> None:
    """Somebody moves them about: the next time they are there again."""
    ours = authority("bank")
    certificate, key = ours.issue("client")
    tls = MutualTls(ours.ca, certificate, key)
    context = tls.context
    ours.ca.rename(ours.ca.with_suffix(".away"))
    with pytest.raises(DirectoryFault, match=r"bank\.ca\.pem"):
        tls.renew()
    assert tls.context is context
    ours.ca.with_suffix(".away").rename(ours.ca)
    assert tls.renew() is False


def test_access_shows_no_secret() -> None:
    assert SECRET.hex() not in repr(Access("https://bank.example", KEY))
    assert str(SECRET) not in repr(Access("https://bank.example", KEY))
