"""Running the guard, and what it needs: settings, the store; trying it out: the demo."""

import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ivrguard import log, settings
from ivrguard.commands.directory import access_of
from ivrguard.commands.shell import (
    CONFIG,
    NO_KEYS,
    RENDERS,
    Config,
    err,
    fail,
    flows_of,
    keyring_of,
    looked_through,
    out,
    run,
    settled,
    store_of,
)
from ivrguard.core.assurance import Kind
from ivrguard.core.claims import Company
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow, Via
from ivrguard.core.insiders import usual
from ivrguard.notify.alerts import Receiver, Text, Webhook
from ivrguard.notify.conferences import TwilioConferences
from ivrguard.notify.lookup import TwilioLookup
from ivrguard.notify.recordings import TwilioRecordings
from ivrguard.notify.sms import SmsMessenger
from ivrguard.notify.verify import TwilioVerify
from ivrguard.phone import demo as demonstration
from ivrguard.ports import Alarm, Messenger, Store
from ivrguard.settings import Settings
from ivrguard.stores import postgres, sqlite
from ivrguard.telephony.signature import SharedKey
from ivrguard.web.app import Parts, Server, serve, wall_clock_ms
from ivrguard.web.oidc import Client
from ivrguard.web.recorder import DAY_MS, Recording
from ivrguard.web.watched import Tracer
from ivrguard.web.workers import Workers, listen

SETTINGS_HEAD = """# Settings

Made by `python -m ivrguard settings`. The environment wins over `config/ivrguard.yaml`, whose lines have the form
`key: value`. Secrets come from the environment, or from a file that a variable with `_FILE` behind its name points
to; in the file they are refused. An unknown `IVRGUARD_…` variable or key is a fault, and all faults are told at once.
"""

VERIFY_DEADLINE_S = 5.0
WORKERS_MAX = 64
SENDERS = "IVRGUARD_SMS_FROM or IVRGUARD_SMS_MESSAGING_SERVICE_SID"

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Twilio:
    """What is asked of Twilio: messages, Verify, lookups, recordings, conferences. None: it is not set up."""

    messenger: SmsMessenger | None
    verify: TwilioVerify | None
    lookup: TwilioLookup
    recordings: TwilioRecordings
    conferences: TwilioConferences

    async def close(self) -> None:
        """Close the connections of all of them."""
        for one in (self.messenger, self.verify, self.lookup, self.recordings, self.conferences):
            if one is not None:
                await one.close()

    async def unfit(self, flows: tuple[Flow, ...]) -> tuple[str, ...]:
        """What flows want of Twilio and will not get: each with what to set, and what comes of it until then."""
        codes = [one for flow in flows for one in flow.factors.values() if one.kind is Kind.SMS_CODE]
        digits = {one.digits for one in codes if one.via is Via.VERIFY}
        found = []
        if digits and self.verify is None:
            found.append("a flow sends codes through Verify: set IVRGUARD_VERIFY_SERVICE_SID")
        if self.verify is not None:
            asked = [await self.verify.ready(one, deadline_s=VERIFY_DEADLINE_S) for one in sorted(digits)]
            found += [why for why in asked if why is not None]
        if self.messenger is None and any(one.via is Via.MESSAGES for one in codes):
            found.append(f"a flow sends codes by text message: set {SENDERS}")
        unfit = [f"{why}; until then those codes are not sent" for why in found]
        if self.messenger is None and any(len(flow.factors) > 1 for flow in flows):
            unfit.append(
                "owners are to be told of a right first factor with a wrong second, and of a new PIN, also where "
                f"codes go through Verify: set {SENDERS}; until then nobody is told"
            )
        return tuple(unfit)


def twilio_of(configured: Settings) -> Twilio:
    """Messages, Verify and lookups belong to the first account of the tokens, recordings and conferences to each call's own."""
    sid, tokens = next(iter(configured.twilio_tokens.items()))
    messenger = verify = None
    if configured.sms_from or configured.sms_messaging_service_sid:
        messenger = SmsMessenger(
            sid,
            tokens[0],
            configured.sms_from,
            api_url=configured.sms_api_url,
            messaging_service_sid=configured.sms_messaging_service_sid,
        )
    if configured.verify_service_sid:
        verify = TwilioVerify(
            sid,
            tokens[0],
            configured.verify_service_sid,
            chance=secrets.token_bytes,
            template_sid=configured.verify_template_sid,
            api_url=configured.verify_api_url,
        )
    lookup = TwilioLookup(sid, tokens[0], clock=wall_clock_ms, api_url=configured.lookup_api_url)
    first = {account: current[0] for account, current in configured.twilio_tokens.items()}
    recordings = TwilioRecordings(first, api_url=configured.recordings_api_url)
    conferences = TwilioConferences(
        first, api_url=configured.calls_api_url, tasks_url=configured.tasks_api_url
    )
    return Twilio(messenger, verify, lookup, recordings, conferences)


def recording_of(configured: Settings) -> Recording:
    """How the record is kept."""
    days = configured.audit_keep_days
    return Recording(
        every_ms=configured.audit_checkpoint_minutes * 60_000,
        every_entries=configured.audit_checkpoint_entries,
        required=configured.audit_required,
        keep_ms=None if days is None else days * DAY_MS,
        archive=configured.audit_archive,
    )


def tracer_of(configured: Settings) -> Tracer | None:
    """Where traces go, if they are to go anywhere."""
    if not configured.traces_endpoint:
        return None
    try:
        from ivrguard.web.otlp import OtlpTracer  # noqa: PLC0415 -- an extra: who does not trace need not have it
    except ImportError as error:
        fail(
            f"traces: {settings.variable('traces_endpoint')} is set, and OpenTelemetry is not installed "
            f"({error.name} is missing): pip install 'ivrguard[traces]', or take the variable out"
        )
    return OtlpTracer(
        configured.traces_endpoint,
        service=configured.traces_service,
        node=secrets.token_hex(8),
        headers=configured.traces_headers,
        ratio=configured.traces_ratio,
    )


def alarms_of(configured: Settings, messenger: Messenger | None) -> tuple[Alarm, ...]:
    """The ways to the risk team: a webhook, and numbers."""
    ways: list[Alarm] = []
    if configured.alerts_url:
        ways.append(Webhook(Receiver(configured.alerts_url, configured.alerts_secrets), clock=wall_clock_ms))
    return (*ways, *texts_of(configured.alerts_numbers, messenger))


def texts_of(
    numbers: tuple[str, ...], messenger: Messenger | None, label: str = "number"
) -> tuple[Alarm, ...]:
    """These numbers, by text message; without a sender there are none: the settings are refused."""
    if messenger is None:
        return ()
    return tuple(Text(place, number, messenger, label=label) for place, number in enumerate(numbers, 1))


def client_of(configured: Settings) -> Client | None:
    """The guard as the company's identity provider knows it; None where agents have accounts of ours."""
    if not configured.oidc_issuer:
        return None
    company = Company(
        configured.oidc_issuer,
        configured.oidc_client_id,
        audience=configured.oidc_audience,
        roles_claim=configured.oidc_roles_claim,
        roles=configured.oidc_roles,
        queues_claim=configured.oidc_queues_claim,
        manager_claim=configured.oidc_manager_claim,
        label_claim=configured.oidc_label_claim,
        acr=configured.oidc_acr_values,
    )
    return Client(company, configured.oidc_scopes, configured.oidc_client_secret)


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's: its number from 0, and the open files that it has from its parent: the socket and the pipe."""

    nr: int
    listening: int
    parent: int

    @classmethod
    def of(cls, text: str) -> "Place":
        """As `words` writes it."""
        return cls(*map(int, text.split(":")))

    @property
    def words(self) -> str:
        """For the command line."""
        return f"{self.nr}:{self.listening}:{self.parent}"


def server_of(
    configured: Settings, flows: tuple[Flow, ...], store: Store, twilio: Twilio, place: Place | None = None
) -> Server:
    """The server that settings and flows make together. `place`: of a worker among others."""
    tracer = tracer_of(configured)
    try:
        return Server(
            Parts(
                public_url=configured.public_url,
                flows=flows,
                store=store,
                keyring=keyring_of(configured),
                tokens=configured.twilio_tokens,
                shared_keys=tuple(SharedKey(*one) for one in configured.twilio_shared_keys),
                upstream_token=configured.upstream_token,
                messenger=twilio.messenger,
                side_door_keys=configured.side_door_keys,
                side_door_api_url=configured.side_door_api_url,
                watch_transfers=configured.watch_transfers,
                bank=access_of(configured),
                verifications=twilio.verify,
                numbers=twilio.lookup,
                recordings=twilio.recordings,
                company=client_of(configured),
                agents_idle_s=configured.agents_idle_minutes * 60,
                conferences=twilio.conferences,
                alarms=alarms_of(configured, twilio.messenger),
                next_alarms=texts_of(configured.threats_next_numbers, twilio.messenger, "next number"),
                threats_after_s=tuple(60 * one for one in configured.threats_minutes),
                insiders=usual(configured.insiders, configured.insiders_shifts[1]),
                insiders_zone=configured.insiders_shifts[0],
                reload=lambda: looked_through(configured.flows),
                watched=configured.flows if configured.watch_flows else None,
                hash_threads=configured.hash_threads,
                public_keys=configured.public_keys,
                recording=recording_of(configured),
                copy=configured.audit_copy if place is None or place.nr == 0 else None,
                copy_render=RENDERS[configured.audit_copy_format],
                embedders=configured.console_embedders,
                tracer=tracer,
                traces_to_ivr=configured.traces_to_ivr,
                host=configured.host,
                port=configured.port,
                listening=None if place is None else socket.socket(fileno=place.listening),
                ops_host=configured.ops_host,
                ops_port=configured.ops_port,
            )
        )
    except ValueError as error:
        fail(f"flows and settings do not go together: {error}")


def warned(unfit: str | None) -> None:
    """Say why the bank's system does not do: it may be back before the first call."""
    if unfit is not None:
        err.print(f"warning: {unfit}; until then callers are refused")


@app.command(
    name="serve",
    epilog="Once: (umask 077; ivrguard keys new > ivrguard.env); ivrguard migrate\n\n"
    "Then: set -a; . ./ivrguard.env; set +a; IVRGUARD_PUBLIC_URL=https://guard.example.com "
    "IVRGUARD_TWILIO_TOKENS='AC…=<auth token>' ivrguard serve\n\n"
    "Every setting: ivrguard settings. Health and metrics: port 9464 on loopback. What to watch: docs/operations.md.",
)
def serve_(
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that share the port; one for each core.")
    ] = 1,
    worker: Annotated[
        str, typer.Option(hidden=True, help="Said to a worker by the process that starts it.")
    ] = "",
    config: Config = CONFIG,
) -> None:
    """
    Answer webhooks until SIGTERM; then finish what is under way.

    Flows and settings are looked through first: with a fault in them nothing is
    started. Flow files that change later take effect by themselves (SIGHUP asks
    for it); with a fault in them what runs stays.

    With --workers, one that dies is started again, and the n-th answers /readyz
    and /metrics on the n-th port from IVRGUARD_OPS_PORT on.
    """
    configured = settled(config, settings.SERVE)
    flows = flows_of(configured.flows)
    log.configure(configured.log_level)
    if workers > 1:
        run(several(configured, config, workers))
        return
    place = Place.of(worker) if worker else None

    async def whole() -> None:
        store = await store_of(configured)
        twilio = twilio_of(configured)
        try:
            for why in await twilio.unfit(flows):
                err.print(f"warning: {why}")
            server = server_of(configured, flows, store, twilio, place)
            if server.bank is not None:
                warned(await server.bank.unfit())
            await serve(server, parent=None if place is None else place.parent)
        finally:
            await twilio.close()
            await store.close()

    run(whole())


async def several(configured: Settings, config: Path, count: int) -> None:
    """Run so many workers, each with its share of the cores and a port of its own for operators."""
    if configured.store == "memory":
        fail("store: memory: each process would have its own; set IVRGUARD_STORE=sqlite:var/ivrguard.db")
    if configured.audit_required:
        fail(
            "IVRGUARD_AUDIT_REQUIRED: of several workers one writes the copy, and the others would not notice that it "
            "cannot; start single processes, each with a copy of its own"
        )
    threads = configured.hash_threads or max(1, (os.cpu_count() or 1) // count)

    def command(nr: int, listening: int, parent: int) -> tuple[list[str], dict[str, str]]:
        words = ["serve", "--config", str(config), "--worker", Place(nr, listening, parent).words]
        ops_port = configured.ops_port + nr if configured.ops_port else 0
        environ = {"IVRGUARD_OPS_PORT": str(ops_port), "IVRGUARD_HASH_THREADS": str(threads)}
        return [sys.executable, "-m", "ivrguard", *words], os.environ | environ

    await Workers(command, count, listen(configured.host, configured.port)).run()


@app.command(name="settings", epilog="Example: ivrguard settings > docs/settings.md")
def settings_() -> None:
    """Print every setting: its variable, default and meaning (Markdown)."""
    out.print(SETTINGS_HEAD)
    out.print(settings.table(), end="")


@app.command(epilog="Example: IVRGUARD_STORE=sqlite:var/ivrguard.db ivrguard migrate")
def migrate(config: Config = CONFIG) -> None:
    """
    Make the store, or bring it to this version. Harmless when there is nothing to do, and from two hosts at once.

    There is no way back to an older version but a backup: stop servers of the older version first.
    """
    configured = settled(config, NO_KEYS)
    path = configured.store_path
    if configured.store == "postgres":
        where, before, after = run(postgres.migrate(configured.database_url))
        out.print(f"{where}: at version {after}" + (f", was at {before}" if before < after else ""))
        return
    if path is None:
        out.print("the store is memory: nothing to migrate")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        version = sqlite.migrate(path)
    except OSError as error:
        fail(f"store: {path.parent}: the directory cannot be made: {error.strerror}")
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")
    out.print(f"{path}: at version {version}")


@app.command(epilog="Needs nothing but the project's folder: no account, no number, no network.")
def demo(
    once: Annotated[
        bool | None,
        typer.Option("--once/--stay", help="End after the scenes, or stay up. Default: stay at a terminal."),
    ] = None,
) -> None:
    """
    A guarded call, end to end, on this machine: server, sample IVR, callers, an agent, a guesser.

    Ends with 0 only if every scene went as it is told.
    """
    ends = not sys.stdin.isatty() if once is None else once
    log.configure("critical")
    if not run(demonstration.run(out, once=ends)):
        raise typer.Exit(1)
