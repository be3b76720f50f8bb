"""Serving, and what is tried out before: settings, migrate, the demo."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from twilio.request_validator import RequestValidator

from ivrguard import flowfile, settings
from ivrguard.commands import server
from ivrguard.core.flow import Via
from ivrguard.phone.rig import listen
from ivrguard.phone.verify import SERVICE_SID, Verify
from ivrguard.web.app import wall_clock_ms

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


def test_settings_are_a_page_of_markdown(asked, ends):
    """A heading, how they are read, and the table: no line broken by the width of a terminal."""
    result = asked({}, "settings")
    ends(result, 0, f"{server.SETTINGS_HEAD}\n{settings.table()}")


def test_migrate_makes_the_store_and_its_folder_and_is_harmless_again(tmp_path, asked, ends):
    path = tmp_path / "var" / "deep" / "ivrguard.db"
    for _ in range(2):
        ends(asked({"IVRGUARD_STORE": f"sqlite:{path}"}, "migrate"), 0, f"{path}: at version 1\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_migrate_has_nothing_to_do_in_memory(asked, ends):
    ends(asked({"IVRGUARD_STORE": "memory"}, "migrate"), 0, "the store is memory: nothing to migrate\n")


def test_migrate_says_what_stands_in_its_way(tmp_path, store, asked, ends):
    """A file where its folder should be; a file that a newer ivrguard wrote, which `serve` refuses as well."""
    (tmp_path / "file").write_text("")
    result = asked({"IVRGUARD_STORE": f"sqlite:{tmp_path}/file/ivrguard.db"}, "migrate")
    ends(result, 1, "", f"store: {tmp_path}/file: the directory cannot be made: File exists\n")

    store.sql("PRAGMA user_version = 99")
    newer = asked(store.env, "migrate")
    assert (newer.code, newer.out) == (1, "")
    assert newer.err.startswith(f"store: {store.path}: it is of version 99")
    assert asked(store.env, "audit", "verify").err == newer.err


def test_the_release_line_of_the_procfile_runs(tmp_path):
    """`release:` as a platform runs it: it looks through the flows, makes the store and publishes the flows, back to old ones too."""
    (line,) = re.findall("^release: (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "IVRGUARD_STORE": f"sqlite:{tmp_path}/release.db",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path}/release.db: at version 1\n" in done.stdout
    assert done.stdout.endswith(": published (1)\n")


def test_demo_runs_from_the_shell(shell):
    """`ivrguard demo` without a terminal ends by itself: 0, and it says that all went as told."""
    result = shell({}, "demo")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("All 8 scenes went as told.\n")


def test_a_demo_that_did_not_go_as_told_ends_with_1(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    result = asked({}, "demo", "--once")
    assert result.code == 1
    assert "run this in the project's folder" in result.out


def served(env, flows=ROOT / "flows"):
    """The settings of a server on free ports of this machine."""
    return {
        "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
        "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
        "IVRGUARD_FLOWS": str(flows),
        "IVRGUARD_HOST": "127.0.0.1",
        "IVRGUARD_OPS_PORT": "0",
        "PORT": "0",
        **env,
    }


class SlowIvr:
    """An IVR that answers when it is told to."""

    def __init__(self):
        self.reached, self.free = asyncio.Event(), asyncio.Event()

    async def answer(self, request):
        self.reached.set()
        await self.free.wait()
        return web.Response(text="<Response><Say>We open at nine.</Say></Response>", content_type="text/xml")


async def webhook(session, port, path, call="1", *, signed=True):
    """One webhook as Twilio posts it; status and body."""
    form = {
        "CallSid": "CA" + call * 32,
        "AccountSid": ACCOUNT_SID,
        "From": STRANGER,
        "To": "+18005550100",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
    }
    signature = RequestValidator(AUTH_TOKEN).compute_signature(f"{PUBLIC_URL}{path}", form)
    headers = {"X-Twilio-Signature": signature if signed else "forged"}
    async with session.post(f"http://127.0.0.1:{port}{path}", data=form, headers=headers) as response:
        return response.status, await response.text()


def test_serve_answers_until_sigterm_and_finishes_what_is_under_way(store, flows, asked):
    """A process of its own: health, a signed webhook, a forged one; SIGTERM in the middle of another one."""
    asyncio.run(a_day_of_a_server(store, flows))
    assert asked(store.env, "audit", "verify").code == 0


async def a_day_of_a_server(store, flows):
    ivr = SlowIvr()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ivr.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    flows.write("bank.yaml", flows.text.replace("https://ivr.bank.example", origin))
    env = served({**store.env, "IVRGUARD_SMS_FROM": "+18005550199"}, flows.folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ivrguard", "serve"),
        env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        started = json.loads(await process.stderr.readline())
        assert started["event"] == "serving"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{started['ops_port']}/healthz") as response:
                assert response.status == 200
            status, body = await webhook(session, started["port"], "/")
            assert (status, "Please enter your account number" in body) == (200, True)
            assert await webhook(session, started["port"], "/", signed=False) == (403, "")
            under_way = asyncio.create_task(webhook(session, started["port"], "/hours", call="2"))
            await ivr.reached.wait()
            process.send_signal(signal.SIGTERM)
            while json.loads(await process.stderr.readline())["event"] != "draining":
                pass
            ivr.free.set()
            status, body = await under_way
            assert (status, "We open at nine." in body) == (200, True)
        rest = await process.stderr.read()
        assert await process.wait() == 0
        assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
    finally:
        if process.returncode is None:
            process.kill()
        await runner.cleanup()


@asynccontextmanager
async def process_of(env, *words):
    """`ivrguard serve` as a process, and the lines of its log as they come: `told(event)` waits for one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ivrguard", "serve", *words),
        env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )

    async def told(event, count=1):
        found = []
        async with asyncio.timeout(60):
            while len(found) < count:
                line = await process.stderr.readline()
                assert line, f"it ended before it said {event}"
                if line.startswith(b"{") and json.loads(line)["event"] == event:
                    found.append(json.loads(line))
        return found

    try:
        yield process, told
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def ready(session, port):
    async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
        return response.status, await response.json()


async def test_several_workers_and_another_host_on_one_postgres(keys, flows, database, tmp_path):
    """
    Two workers on one port, and a node with files of its own. One worker is killed: it comes back. Files change on the
    first host: the other has them in force by its next look, each second. SIGTERM: all of it ends in order.
    """
    elsewhere = shutil.copytree(flows.folder, tmp_path / "elsewhere")
    env = {**keys, "DATABASE_URL": database, "IVRGUARD_SMS_FROM": "+18005550199"}
    one, two = served(env, flows.folder), served(env, elsewhere)
    async with (
        aiohttp.ClientSession() as session,
        process_of(one, "--workers", "2") as (parent, told),
        process_of(two) as (_, told_elsewhere),
    ):
        port = (await told("workers"))[0]["port"]
        workers = await told("serving", 2)
        (other,) = await told_elsewhere("serving")
        assert {line["port"] for line in workers} == {port}
        assert len({line["ops_port"] for line in workers}) == 2
        for line in (*workers, other):
            assert (await ready(session, line["ops_port"]))[0] == 200
        assert (
            (await webhook(session, port, "/"))[0] == (await webhook(session, other["port"], "/"))[0] == 200
        )

        (pid, *_) = children(parent.pid)
        os.kill(pid, signal.SIGKILL)
        assert (await told("worker_died"))[0]["exit_status"] == -signal.SIGKILL
        await told("serving")

        began = asyncio.get_running_loop().time()
        flows.write(
            "bank.yaml", flows.text.replace("Thank you", "Many thanks").replace("digits: 8", "digits: 9")
        )
        parent.send_signal(signal.SIGHUP)
        reasons = [line["reason"] for line in await told("flow_activated", 2)]
        (line,) = await told_elsewhere("flow_activated")
        assert (line["reason"], asyncio.get_running_loop().time() - began < 10) == ("published", True)
        assert "changed" in reasons
        status, body = await ready(session, other["ops_port"])
        assert (status, "of an earlier set" in body["note"]) == (200, True)

        parent.send_signal(signal.SIGTERM)
        assert await parent.wait() == 0
        assert children(parent.pid) == []


def children(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


def test_several_workers_are_refused_where_they_would_not_be_one_server(keys, asked):
    """Memory is each process's own; a copy that is required is written by one, and the others would go on without."""
    env = served({**keys, "IVRGUARD_STORE": "memory"})
    assert "each process would have its own" in asked(env, "serve", "--workers", "2").err
    env |= {
        "IVRGUARD_STORE": "sqlite:x.db",
        "IVRGUARD_AUDIT_COPY": "/dev/stderr",
        "IVRGUARD_AUDIT_REQUIRED": "true",
    }
    assert "would not notice" in asked(env, "serve", "--workers", "2").err


def test_serve_says_which_port_is_taken(keys, asked):
    """And lets go of what it had begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = asked({**served(keys), "IVRGUARD_STORE": "memory", "IVRGUARD_OPS_PORT": port}, "serve")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1].startswith(f"listen: cannot listen on 127.0.0.1, port {port} (")


def test_serve_does_not_begin_an_empty_store(keys, tmp_path, asked):
    """An empty store knows of no lock: whoever lost the file must hear of it."""
    path = tmp_path / "ivrguard.db"
    result = asked(served({**keys, "IVRGUARD_STORE": f"sqlite:{path}"}), "serve")
    assert (result.code, path.exists()) == (1, False)
    assert result.err.startswith(
        f"store: {path}: there is no such file: put it back, or have `ivrguard migrate`"
    )


def test_serve_refuses_flows_with_a_fault_and_flows_that_lead_to_itself(keys, flows, asked, ends):
    """Nothing is started."""
    env = {**served(keys, flows.folder), "IVRGUARD_STORE": "memory", "IVRGUARD_SMS_FROM": "+18005550199"}
    flows.write("bank.yaml", flows.text.replace("https://ivr.bank.example", PUBLIC_URL))
    result = asked(env, "serve")
    ends(
        result,
        1,
        "",
        "flows and settings do not go together: the guard's own public origin cannot be the IVR's\n",
    )
    flows.write("bank.yaml", "flow: bank\n")
    result = asked(env, "serve")
    assert (result.code, result.out) == (1, "")
    assert f"{flows.folder}/bank.yaml:1:1: " in result.err


# ── Twilio ───────────────────────────────────────────────────────────────────────────────────────────────


def verified(flow, **changes):
    """The flow with codes that go through Verify."""
    code = replace(flow.factors["code"], via=Via.VERIFY, **changes)
    return replace(flow, factors={**flow.factors, "code": code})


@asynccontextmanager
async def verify_service():
    """A pretend Verify on a port of its own; its URL."""
    service = Verify(ACCOUNT_SID, AUTH_TOKEN, wall_clock_ms, [])
    async with AsyncExitStack() as stack:
        yield await listen(service.app(), stack)


SENDER = "IVRGUARD_SMS_FROM or IVRGUARD_SMS_MESSAGING_SERVICE_SID"
NO_SERVICE = (
    "a flow sends codes through Verify: set IVRGUARD_VERIFY_SERVICE_SID; until then those codes are not sent"
)
NO_FIT = (
    "the Verify Service makes codes of 6 digits, and the flow asks for 8; until then those codes are not sent"
)
NO_SENDER = f"a flow sends codes by text message: set {SENDER}; until then those codes are not sent"
NOBODY_TOLD = (
    "owners are to be told of a right first factor with a wrong second, and of a new PIN, also where codes go "
    f"through Verify: set {SENDER}; until then nobody is told"
)


@pytest.mark.parametrize(
    ("via", "service", "sender", "digits", "expected"),
    [
        (Via.MESSAGES, "", "+18005550199", 6, ()),
        (Via.MESSAGES, "", "", 6, (NO_SENDER, NOBODY_TOLD)),
        (Via.VERIFY, "", "+18005550199", 6, (NO_SERVICE,)),
        (Via.VERIFY, SERVICE_SID, "+18005550199", 6, ()),
        (Via.VERIFY, SERVICE_SID, "", 6, (NOBODY_TOLD,)),
        (Via.VERIFY, SERVICE_SID, "", 8, (NO_FIT, NOBODY_TOLD)),
    ],
)
async def test_what_is_not_set_up_is_told_at_the_start(keys, via, service, sender, digits, expected):
    """Before a caller waits for a code that cannot be sent or keyed, and before a thief goes unnoticed."""
    flow = verified(flowfile.load(FLOW).flow, digits=digits)
    flow = replace(flow, factors={**flow.factors, "code": replace(flow.factors["code"], via=via)})
    async with verify_service() as url:
        env = {**served(keys), "IVRGUARD_VERIFY_SERVICE_SID": service, "IVRGUARD_VERIFY_API_URL": url}
        env |= {"IVRGUARD_SMS_FROM": sender}
        twilio = server.twilio_of(settings.load(env, None))
        try:
            assert await twilio.unfit((flow,)) == expected
            alone = replace(flow, factors={"pin": flow.factors["pin"]})
            assert await twilio.unfit((alone,)) == ()
        finally:
            await twilio.close()


def test_messages_need_a_sender_and_verify_a_service(keys):
    """What is not set up is not there; lookups and recordings need nothing of their own."""
    bare = server.twilio_of(settings.load(served(keys), None))
    full = server.twilio_of(
        settings.load(
            {**served(keys), "IVRGUARD_SMS_FROM": "+18005550199", "IVRGUARD_VERIFY_SERVICE_SID": SERVICE_SID},
            None,
        )
    )

    assert (bare.messenger, bare.verify) == (None, None)
    assert None not in (full.messenger, full.verify, full.lookup, full.recordings)


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_risk_team_is_told_only_if_there_is_a_way_to_it(keys):
    """A webhook, or numbers, or both; without any, alerts are in log, metrics and record."""
    base = {**keys, **TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    secret = "a1=" + "YWxhcm0h" * 5 + "YWw="
    assert server.alarms_of(settings.load(base, None), None) == ()
    hook = {"IVRGUARD_ALERTS_URL": "https://soc.example/x", "IVRGUARD_ALERTS_SECRETS": secret}
    texts = {"IVRGUARD_ALERTS_NUMBERS": "+18005550155", "IVRGUARD_SMS_FROM": "+18005550111"}
    configured = settings.load(base | hook | texts, None)
    ways = server.alarms_of(configured, server.twilio_of(configured).messenger)
    assert [way.name for way in ways] == ["soc.example", "number 1"]


# ── the identity provider ────────────────────────────────────────────────────────────────────────────────


def test_agents_log_in_by_the_companys_provider_where_there_is_one(keys):
    base = {**keys, **TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    assert server.client_of(settings.load(base, None)) is None
    set_ = {
        "IVRGUARD_OIDC_ISSUER": "https://login.example/",
        "IVRGUARD_OIDC_CLIENT_ID": "guard",
        "IVRGUARD_OIDC_CLIENT_SECRET": "the-canary-of-it",
        "IVRGUARD_OIDC_ROLES": "x=agent",
    }
    client = server.client_of(settings.load(base | set_, None))
    assert (client.company.issuer, client.company.client_id) == ("https://login.example/", "guard")
    assert (client.company.roles, client.secret) == ({"x": "agent"}, "the-canary-of-it")
    assert "canary" not in repr(client)


# ── traces ───────────────────────────────────────────────────────────────────────────────────────────────

TRACED = {
    "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
    "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
    "IVRGUARD_FLOWS": str(FLOW),
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
}


async def test_traces_are_made_only_if_they_are_to_go_somewhere(keys):
    there = settings.load({**keys, **TRACED}, None)
    nowhere = settings.load({**keys, **TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None)
    assert server.tracer_of(nowhere) is None
    tracer = server.tracer_of(there)
    assert type(tracer).__name__ == "OtlpTracer"
    await tracer.close()


def test_serve_says_how_to_get_what_traces_need(store, asked, monkeypatch):
    """At its start, and not at the first call. Who does not trace needs none of it: nothing else asked for it before."""
    monkeypatch.delitem(sys.modules, "ivrguard.web.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    result = asked({**store.env, **TRACED}, "serve")
    assert (result.code, result.out) == (1, "")
    assert "traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed" in result.err
    assert "pip install 'ivrguard[traces]'" in " ".join(result.err.split())
