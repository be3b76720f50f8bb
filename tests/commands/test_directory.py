"""The bank's own system: what `try` tells of it, over real sockets and mutual TLS, and that `serve` asks it."""

import asyncio
import base64
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from twilio.request_validator import RequestValidator

from ivrguard import settings
from ivrguard.commands import directory
from ivrguard.phone.directory import AccountSystem
from ivrguard.web.app import wall_clock_ms

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
PIN, OWNER = "24681357", "+15551230001"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
SECRET = bytes(range(32))


@asynccontextmanager
async def served(system, tls=None):
    """The pretend bank on a port of its own; its URL."""
    async with TestServer(system.app()) as plain:
        if tls is None:
            yield f"http://127.0.0.1:{plain.port}"
            return
        runner = web.AppRunner(system.app(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


def named(url, secret=SECRET, ca=None, client=()):
    """The environment that names it."""
    env = {
        "IVRGUARD_DIRECTORY_URL": url,
        "IVRGUARD_DIRECTORY_SECRET": f"k1={base64.b64encode(secret).decode()}",
    }
    if ca is not None:
        env["IVRGUARD_DIRECTORY_CA"] = str(ca)
        env["IVRGUARD_DIRECTORY_CLIENT_CERTIFICATE"], env["IVRGUARD_DIRECTORY_CLIENT_KEY"] = map(str, client)
    return env


@pytest.fixture
def system():
    made = AccountSystem({"k1": SECRET}, wall_clock_ms, hash_cost=2)
    made.add("123456", pin=PIN, numbers=(OWNER,), sms_number=OWNER, language="es-US")
    made.add("B7", numbers=())
    made.add("0042")
    return made


def asked_for(system):
    """The accounts that it was asked for."""
    return {one.said["account"] for one in system.asked if "account" in one.said}


@pytest.fixture
def tried(asked):
    """Run `directory try` against a system that runs meanwhile."""

    def run(system, *arguments, tls=None, url=None, **more):
        async def whole():
            async with served(system, tls) as origin:
                env = named(url or origin, **more)
                return await asyncio.to_thread(asked, env, "directory", "try", *arguments)

        return asyncio.run(whole())

    return run


def test_a_system_that_does_as_the_document_says(system, tried, authority, monkeypatch):
    """Over mutual TLS: what was found, and the times of both; nothing secret, and no number, is shown."""
    monkeypatch.setattr(directory, "APART_MS", 10_000)
    ours = authority("bank")
    tls = ours.demands(ours.issue("server"))
    result = tried(system, "123456", tls=tls, ca=ours.ca, client=ours.issue("client"))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("https://127.0.0.1:")
    assert lines[0].endswith(", signed with key k1")
    assert lines[1].startswith("mutual TLS; the guard's certificate runs out 20")
    assert lines[2:4] == [
        "it answers, and both signatures hold",
        "123456: found; a PIN, codes by SMS, numbers on file: 1, language es-US",
    ]
    assert lines[4].endswith(": null, as it should be")
    assert [line.partition(":")[0] for line in lines[5:]] == ["look-up", "PIN"]
    for secret in (PIN, OWNER, base64.b64encode(SECRET).decode(), SECRET.hex()):
        assert secret not in result.out
    assert {"-", "123456", "0123456", "00123456"} <= asked_for(system)


def test_an_account_with_little(system, tried, monkeypatch):
    """No PIN: nothing to compare there. Its id has letters, so that it could be spelled small; or begins with 0."""
    monkeypatch.setattr(directory, "APART_MS", 10_000)
    result = tried(system, "b7", "--unknown", "999999")
    assert (result.code, result.err) == (0, "")
    assert "B7: found; no PIN, no codes by SMS, numbers on file: 0, no language\n999999: null" in result.out
    assert "PIN:" not in result.out
    assert {"0B7", "00B7", "b7"} <= asked_for(system)
    tried(system, "0042")
    assert {"00042", "000042", "42"} <= asked_for(system)


class Echo(AccountSystem):
    """A system that drops leading zeros and gives back what it was asked for; and takes any PIN."""

    async def _lookup(self, said):
        status, answer = await super()._lookup({"account": said["account"].lstrip("0")})
        if answer["account"]:
            answer["account"]["id"] = said["account"]
        return status, answer

    async def _verify(self, said):
        return 200, {"right": True}


def test_what_would_be_a_hole_is_told(tried):
    """Two spellings of one account, and a PIN of nobody that is right: 1, each with what to mend."""
    echo = Echo({"k1": SECRET}, wall_clock_ms, hash_cost=2)
    echo.add("123456", pin=PIN)
    result = tried(echo, "123456")
    assert result.code == 1
    assert result.err.splitlines()[-3:] == [
        "0123456: found as well as 123456: two spellings are twice the guesses; answer null",
        "00123456: found as well as 123456: two spellings are twice the guesses; answer null",
        "a reference that stands for nothing: right: it must be false",
    ]


class Hasty(AccountSystem):
    """A system that does not hash where there is nothing to compare with."""

    async def _verify(self, said):
        if not any(one.reference == said["reference"] for one in self._accounts.values()):
            return 200, {"right": False}
        await asyncio.sleep(0.05)  # of a hash that takes its time
        return 200, {"right": False}


def test_times_that_tell_are_told(tried):
    """A warning: it is the bank's to weigh, and a network may be to blame."""
    hasty = Hasty({"k1": SECRET}, wall_clock_ms, hash_cost=2)
    hasty.add("123456", pin=PIN)
    result = tried(hasty, "123456")
    assert result.code == 0
    assert "warning: PIN: who listens can tell who has an account; see Equal time in" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("555555",), "555555: not found: name an account that is there, spelled as your system spells it"),
        (("123456", "--unknown", "B7"), "B7: found: name an account that is not there with --unknown"),
        (("12€",), "an account's id is made of the letters A to Z and the digits 0 to 9"),
    ],
)
def test_accounts_that_do_not_do_are_named(system, tried, arguments, words):
    result = tried(system, *arguments)
    assert (result.code, result.err) == (1, f"{words}\n")


def test_a_system_that_does_not_answer_is_told_with_what_to_look_at(system, tried, authority):
    """Another key; another authority; nobody there."""
    result = tried(system, "123456", secret=bytes(32))
    assert result.code == 1
    assert "(status 401) is not signed by the bank's system with key k1: look at key, clock" in result.err
    ours, theirs = authority("bank"), authority("stranger")
    tls = ours.demands(ours.issue("server"))
    result = tried(system, "123456", tls=tls, ca=theirs.ca, client=ours.issue("client"))
    assert (result.code, "certificate of the bank's system is not right" in result.err) == (1, True)
    result = tried(system, "123456", url="http://127.0.0.1:1")
    assert (result.code, "connection to the bank's system failed" in result.err) == (1, True)


def test_a_system_that_fails_in_between_is_told(system, tried):
    """One line, and no traceback."""
    system.add("123456", numbers=("not a number",))
    result = tried(system, "123456")
    assert result.code == 1
    assert result.err == (
        "directory: the bank's answer to /v1/accounts/lookup is not as agreed: account.numbers.0 "
        "(string_pattern_mismatch)\n"
    )


def test_without_a_system_there_is_nothing_to_try(asked, ends):
    ends(
        asked({}, "directory", "try", "1"),
        1,
        "",
        "IVRGUARD_DIRECTORY_URL: not set: the accounts are in our own tables; see `ivrguard accounts`\n",
    )


def test_files_that_do_not_do_are_named_with_their_variables(asked, tmp_path):
    env = named("https://bank.example", ca=tmp_path / "none.pem", client=(tmp_path / "c", tmp_path / "k"))
    result = asked(env, "directory", "try", "1")
    assert result.code == 1
    assert result.err.startswith(
        "IVRGUARD_DIRECTORY_CA, IVRGUARD_DIRECTORY_CLIENT_CERTIFICATE, IVRGUARD_DIRECTORY_CLIENT_KEY: no certificates "
    )


# ── serve ────────────────────────────────────────────────────────────────────────────────────────────────


async def webhook(session, port, path, **more):
    """One webhook as Twilio posts it; its TwiML."""
    form = {
        "CallSid": "CA" + "1" * 32,
        "AccountSid": ACCOUNT_SID,
        "From": OWNER,
        "To": "+18005550100",
        "CallStatus": "in-progress",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
        **more,
    }
    signature = RequestValidator(AUTH_TOKEN).compute_signature(f"{PUBLIC_URL}{path}", form)
    url, headers = f"http://127.0.0.1:{port}{path}", {"X-Twilio-Signature": signature}
    async with session.post(url, data=form, headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def a_call(env, system, stderr):
    """A served guard as a process of its own; a caller who identifies himself and keys his PIN."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ivrguard", "serve"),
        env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while '"serving"' not in (line := (await process.stderr.readline()).decode()):
            assert line, "it ended before it served"
            stderr.append(line)
        port = json.loads(line)["port"]
        async with aiohttp.ClientSession() as session:
            heard = [await webhook(session, port, "/voice")]
            for digits in ("123456#", PIN):
                action = heard[-1].partition(f'action="{PUBLIC_URL}')[2].partition('"')[0]
                heard.append(await webhook(session, port, action, Digits=digits))
        return heard
    finally:
        process.terminate()
        stderr.append((await process.stderr.read()).decode())
        await process.wait()


def test_serve_asks_the_banks_system(store, flows, authority, system):
    """
    Settings alone, over mutual TLS: the account is the bank's (our own tables have another), and the bank judges its PIN;
    the IVR is reached. The log holds nothing of it.
    """
    asyncio.run(a_guarded_call(store, flows, authority("bank"), system))


async def a_guarded_call(store, flows, ours, system):
    async def hello(_):
        return web.Response(text="<Response><Say>Hello, owner.</Say></Response>", content_type="text/xml")

    ivr = web.Application()
    ivr.router.add_route("*", "/{path:.*}", hello)
    tls = ours.demands(ours.issue("server"))
    async with TestServer(ivr) as behind, served(system, tls) as url:
        text = flows.text.replace("https://ivr.bank.example", f"http://127.0.0.1:{behind.port}")
        flows.write("bank.yaml", text)
        env = {
            **store.env,
            **named(url, ca=ours.ca, client=ours.issue("client")),
            "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
            "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
            "IVRGUARD_FLOWS": str(flows.folder),
            "IVRGUARD_SMS_FROM": "+18005550199",
            "IVRGUARD_HOST": "127.0.0.1",
            "IVRGUARD_OPS_PORT": "0",
            "PORT": "0",
        }
        stderr = []
        heard = await a_call(env, system, stderr)
    assert "Hello, owner." in heard[-1]
    assert [(one.path, sorted(one.said)) for one in system.asked] == [
        ("/v1/accounts/lookup", ["account"]),
        ("/v1/accounts/lookup", ["account"]),
        ("/v1/accounts/lookup", ["account"]),
        ("/v1/pins/verify", ["pin", "reference"]),
    ]
    assert [one.said.get("account") for one in system.asked[:3]] == ["-", "123456", "123456"]
    assert not [line for line in stderr if "warning:" in line or PIN in line or "123456" in line]


def test_serve_warns_when_the_banks_system_does_not_answer(keys, asked):
    """And serves all the same: it may be back before the first call, and a restart must not need it."""
    env = {
        **keys,
        **named("http://127.0.0.1:1"),
        "IVRGUARD_STORE": "memory",
        "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
        "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
        "IVRGUARD_OPS_HOST": "203.0.113.1",  # nobody's address: it ends after the warning
        "PORT": "0",
    }
    result = asked(env, "serve")
    assert "warning: the connection to the bank's system failed: " in result.err
    assert "until then callers are refused" in result.err
    assert "listen: cannot listen on 203.0.113.1" in result.err


def test_migrate_and_commands_on_the_store_need_nothing_of_it(tmp_path, asked):
    """The bank's system may be down, and its files elsewhere."""
    env = {
        **named("https://bank.example", ca="/nowhere/ca.pem", client=("/nowhere/c.pem", "/nowhere/k.pem")),
        "IVRGUARD_STORE": f"sqlite:{tmp_path}/ivrguard.db",
    }
    for command in (("migrate",), ("locks", "list"), ("audit", "verify")):
        assert asked(env, *command).code == 0


WARNING = (
    "warning: IVRGUARD_DIRECTORY_URL is set: accounts, PINs and numbers are your own system's; "
    "of an account here only its app (TOTP) counts\n"
)


@pytest.mark.parametrize(
    ("command", "typed", "code"),
    [
        (("add", "42", "--pin"), "90514827\n", 0),
        (("show", "123456789"), "", 0),
        (("disable", "123456789"), "", 0),
        (("show", "5"), "", 1),
    ],
)
def test_commands_on_accounts_say_that_the_accounts_are_elsewhere(store, asked, command, typed, code):
    """Whoever sets a PIN there would believe that it counts. Without a system of one's own nothing is said."""
    with_it = asked({**store.env, **named("http://127.0.0.1:1")}, "accounts", *command, typed=typed)
    assert (with_it.code, with_it.err.startswith(WARNING)) == (code, True)
    assert "IVRGUARD_DIRECTORY_URL" not in asked(store.env, "accounts", *command, typed=typed).err


def test_the_deadline_is_the_settings(keys):
    env = {**keys, **named("http://127.0.0.1:1"), "IVRGUARD_DIRECTORY_DEADLINE_S": "1.25"}
    access = directory.access_of(settings.load(env, None, needs=settings.KEYS))
    assert (access.deadline_s, access.tls, access.url) == (1.25, None, "http://127.0.0.1:1")
    usual = directory.access_of(
        settings.load({**keys, **named("http://127.0.0.1:1")}, None, needs=settings.KEYS)
    )
    assert usual.deadline_s == directory.Access("", usual.key).deadline_s
