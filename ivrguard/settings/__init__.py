"""
Settings of a process: the environment, and a flat file `config/ivrguard.yaml` for what is no secret.

1. The environment wins over the file. An empty variable is one that is not set.
2. Secrets come from the environment (`IVRGUARD_PEPPERS`) or from a file that the environment names
   (`IVRGUARD_PEPPERS_FILE`, as containers mount them). A secret in the YAML file is a fault: such files are
   committed, mailed and backed up. (OWASP Secrets Management Cheat Sheet,
   https://cheatsheetseries.owasp.org/cheatsheets/Secrets_Management_Cheat_Sheet.html)
3. Nothing that was set is ignored: an unknown `IVRGUARD_…` variable or key is a fault.
4. All faults are told at once, each with its place and its mend, and none shows a value of a secret.

`Settings` is the only place where a setting is declared; `table` and the reading are made from it.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ivrguard.core.agents import Role
from ivrguard.core.errors import Fault
from ivrguard.core.incidents import AFTER_S
from ivrguard.core.insiders import Sign
from ivrguard.core.rules import Hours
from ivrguard.core.sense import Threshold
from ivrguard.core.sessions import ABSOLUTE_S, IDLE_S
from ivrguard.settings import forms, lists, sources, written

DEFAULT_PATH = Path("config/ivrguard.yaml")
KEEP_DAYS_MIN = 90
"""Three months of the record at hand (PCI DSS 4.0.1, 10.5.1)."""


class SettingsFault(Fault):
    """What is wrong with the settings: `lines`, one for each fault, with no secret in them."""

    reason = "settings"

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _setting(default: object, about: str, example: str, *, shown: str = "", secret: bool = False) -> Any:
    """Declare a setting. `shown`: its default in words, where the value says little."""
    extra: dict[str, Any] = {"example": example, "shown": shown}
    return Field(default=default, description=about, json_schema_extra=extra, repr=not secret)


_Port = Annotated[int, Field(ge=0, le=65535)]
_Threads = Annotated[int, Field(ge=1, le=64)]
_Service = Annotated[str, Field(pattern="^MG[0-9a-f]{32}$")]
_VerifyService = Annotated[str, Field(pattern="^VA[0-9a-f]{32}$")]
_Template = Annotated[str, Field(pattern="^HJ[0-9a-f]{32}$")]
_DirectoryDeadline = Annotated[float, Field(ge=0.1, le=4)]  # two of them, and the IVR, in Twilio's 15 s
_Token = Annotated[str, Field(min_length=written.TOKEN_CHARS_MIN)]


class Settings(BaseModel):
    """
    Everything that a process is told from outside, checked. Secrets are in no repr.

    `twilio_tokens`: AccountSid -> auth tokens in force. `twilio_shared_keys`: (key id, secret, algorithm).
    `sealing_keys`, `peppers`, `naming_keys`, `signing_keys`: key id -> 32 bytes, the current one first.
    `directory_secret`: (key id, 32 bytes). `side_door_keys`: (AccountSid, user name) -> password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    public_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "",
        "The URL at which Twilio reaches this guard: scheme and host. Signatures are checked against it.",
        "https://guard.example.com",
    )
    host: str = _setting(
        "0.0.0.0",  # noqa: S104 -- a public server, behind a platform's TLS
        "The address to listen on for webhooks and agents.",
        "127.0.0.1",
    )
    port: _Port = _setting(8080, "The port for webhooks and agents; 0 takes a free one.", "8080")
    ops_host: str = _setting(
        "127.0.0.1", "The address to listen on for /healthz, /readyz and /metrics.", "127.0.0.1"
    )
    ops_port: _Port = _setting(
        9464, "The port for /healthz, /readyz and /metrics; 0 takes a free one.", "9464"
    )
    flows: Path = _setting(Path("flows"), "The folder of flow files.", "flows")
    watch_flows: bool = _setting(
        True,
        "Whether flow files that change are read anew by themselves; SIGHUP does it in any case.",
        "false",
        shown="true",
    )
    store: Annotated[str, AfterValidator(forms.store)] = _setting(
        "sqlite:var/ivrguard.db",
        "Where state is kept: `sqlite:<file>`, `postgres` (at `DATABASE_URL`; postgres.md), or `memory` for a trial.",
        "sqlite:/data/ivrguard.db",
        shown="postgres where `DATABASE_URL` is set, else sqlite:var/ivrguard.db",
    )
    database_url: Annotated[str, AfterValidator(forms.database)] = _setting(
        "",
        "The PostgreSQL that state is kept in.",
        "postgresql://<user>:<password>@db.example.com/ivrguard?sslmode=verify-full",
        secret=True,
    )
    database_connections: Annotated[int, Field(ge=2, le=100)] = _setting(
        8, "The most connections that one process opens to it.", "16"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "The least serious log lines to write: debug, info, warning or error.", "warning"
    )
    hash_threads: _Threads | None = _setting(None, "Threads that hash PINs.", "4", shown="as many as cores")
    sms_from: Annotated[str, AfterValidator(forms.sender)] = _setting(
        "", "The number that codes are sent from, by the first account of the tokens.", "+18005550111"
    )
    sms_messaging_service_sid: _Service = _setting(
        "",
        "The Messaging Service that codes are sent by, instead of a number.",
        "MG" + "0" * 32,
    )
    sms_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://api.twilio.com",
        "Where messages are handed in: another region, or a test double.",
        "https://api.dublin.ie1.twilio.com",
    )
    verify_service_sid: _VerifyService = _setting(
        "", "The Verify Service for codes of flows that send them through Verify.", "VA" + "0" * 32
    )
    verify_template_sid: _Template = _setting(
        "",
        "A Verify template of your own with {{code}} and {{intent}} in it, so that messages say what a code is for.",
        "HJ" + "0" * 32,
        shown="the service's own words",
    )
    verify_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://verify.twilio.com", "Where Verify is asked: a test double.", "http://127.0.0.1:4010"
    )
    lookup_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://lookups.twilio.com",
        "Where numbers are looked up: another region, or a test double.",
        "https://lookups.dublin.ie1.twilio.com",
    )
    recordings_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://api.twilio.com",
        "Where recordings of calls are paused: the region of the calls, or a test double.",
        "https://api.dublin.ie1.twilio.com",
    )
    side_door_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://api.twilio.com",
        "Where the REST side door leads: the region of the calls, or a test double.",
        "https://api.dublin.ie1.twilio.com",
    )
    calls_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://api.twilio.com",
        "Where agents are dialled, and callers led aside and back: the region of the calls, or a test double.",
        "https://api.dublin.ie1.twilio.com",
    )
    tasks_api_url: Annotated[str, AfterValidator(forms.url)] = _setting(
        "https://taskrouter.twilio.com",
        "Where TaskRouter is asked which conference a caller is in: its region, or a test double.",
        "https://taskrouter.dublin.ie1.twilio.com",
    )
    watch_transfers: bool = _setting(
        False,
        "Whether Twilio is asked, when a call is over, whom it dialled: a transfer that went round the guard is an alert (side-door.md).",
        "true",
        shown="false",
    )
    directory_url: Annotated[str, AfterValidator(forms.base)] = _setting(
        "",
        "Where the bank's own system finds accounts and judges PINs (directory.md), instead of our own tables.",
        "https://accounts.bank.example/guard",
    )
    directory_ca: Path | None = _setting(
        None,
        "The file with the authority that vouches for the bank's system, and no other does (PEM).",
        "/etc/ivrguard/bank-ca.pem",
    )
    directory_client_certificate: Path | None = _setting(
        None,
        "The file with the certificate that the guard shows to the bank's system, and those between (PEM).",
        "/etc/ivrguard/guard.pem",
    )
    directory_client_key: Path | None = _setting(
        None,
        "The file with the private key of that certificate, without a password (PEM).",
        "/run/secrets/guard-key.pem",
    )
    directory_deadline_s: _DirectoryDeadline = _setting(
        2.5, "Seconds that the bank's system has for an answer; a PIN takes two, one after the other.", "1.5"
    )
    twilio_tokens: Annotated[Mapping[str, tuple[str, ...]], BeforeValidator(written.tokens)] = _setting(
        {},
        "Auth tokens in force, by account; during a rotation the next one behind the current one.",
        "AC…=token,next;AC…=token",
        secret=True,
    )
    twilio_shared_keys: Annotated[
        tuple[tuple[str, bytes, str], ...], BeforeValidator(written.shared_keys)
    ] = _setting(
        (),
        "Shared keys that Twilio signs with, each with its algorithm.",
        "<key id>:HMAC_SHA256=<secret>;…",
        secret=True,
    )
    upstream_token: _Token | None = _setting(
        None,
        "The auth token that your IVR checks signatures with.",
        "<token>",
        shown="the first token of the call's account",
        secret=True,
    )
    side_door_keys: Annotated[Mapping[tuple[str, str], str], BeforeValidator(written.side_door_keys)] = (
        _setting(
            {},
            "Opens the REST side door (side-door.md): your IVR's own API keys, each with its account.",
            "AC…/SK…=<secret>;…",
            shown="there is no side door",
            secret=True,
        )
    )
    directory_secret: Annotated[tuple[str, bytes] | None, BeforeValidator(written.shared_secret)] = _setting(
        None,
        "The key that the guard and the bank's system sign with, and its id.",
        "k1=<32 bytes, base64>",
        secret=True,
    )
    sealing_keys: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {},
        "Keys that seal what waits in the store; the first one seals, all of them open.",
        "k1=<32 bytes, base64>;…",
        secret=True,
    )
    peppers: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {}, "Peppers of PIN hashes; the first one for new PINs.", "p1=<32 bytes, base64>;…", secret=True
    )
    naming_keys: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {},
        "Keys of pseudonyms, codes, tokens and links; the first one for new calls. Keep each as long as the records "
        "that it made names for.",
        "n1=<32 bytes, base64>;…",
        secret=True,
    )
    signing_keys: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {},
        "Ed25519 seeds that sign assertions and receipts; the first one signs, all are published.",
        "s1=<32 bytes, base64>;…",
        secret=True,
    )
    audit_checkpoint_minutes: Annotated[int, Field(ge=1, le=1440)] = _setting(
        10, "How often the record is signed, if anything came: in minutes.", "5"
    )
    audit_checkpoint_entries: Annotated[int, Field(ge=1)] = _setting(
        1000, "After how many entries the record is signed, however short the time.", "100"
    )
    audit_copy: Path | None = _setting(
        None,
        "A file that every entry of the record is copied to, a line each; /dev/stderr for the platform's log.",
        "/var/log/ivrguard/audit.jsonl",
        shown="no copy",
    )
    audit_copy_format: Literal["jsonl", "ocsf"] = _setting(
        "jsonl", "The copy's lines: jsonl (OWASP's vocabulary, can be verified) or ocsf.", "ocsf"
    )
    audit_required: bool = _setting(
        False,
        "Whether nobody is let through while the copy cannot be written. The store's own record is required in any case.",
        "true",
        shown="false",
    )
    audit_keep_days: Annotated[int, Field(ge=KEEP_DAYS_MIN)] | None = _setting(
        None,
        "After how many days entries are archived and taken out of the store.",
        "365",
        shown="never",
    )
    audit_archive: Path | None = _setting(
        None, "The folder that they are archived into.", "/var/lib/ivrguard/archive", shown="none"
    )
    public_keys: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {},
        "Public halves of signing keys that are gone, which checkpoints of the record are still checked with; an auditor "
        "needs no other key. `ivrguard keys public` prints them.",
        "s0=<32 bytes, base64>;…",
    )

    console_embedders: Annotated[tuple[str, ...], BeforeValidator(lists.origins)] = _setting(
        (),
        "The origins whose pages may show the agents' panel in a frame (panel.md): a desk's, a CRM's.",
        "https://flex.twilio.com,https://crm.bank.example",
        shown="none",
    )
    alerts_url: Annotated[str, AfterValidator(forms.base)] = _setting(
        "",
        "Where the risk team is told of alerts: a webhook, signed (alerts.md).",
        "https://soc.bank.example/ivrguard",
        shown="no webhook",
    )
    alerts_numbers: Annotated[tuple[str, ...], BeforeValidator(forms.numbers)] = _setting(
        (),
        "The numbers that get a text message with each alert.",
        "+18005550155,+18005550156",
        shown="none",
    )
    alerts_secrets: Annotated[Mapping[str, bytes], BeforeValidator(written.keys)] = _setting(
        {},
        "Secrets that sign that webhook; during a rotation there are two, and each signs.",
        "a1=<32 bytes, base64>;…",
        secret=True,
    )
    threats_minutes: Annotated[tuple[int, ...], BeforeValidator(lists.minutes)] = _setting(
        tuple(seconds // 60 for seconds in AFTER_S),
        "When nobody acknowledges a threat: the minutes after which everybody is told again, the last gap repeating.",
        "1,3,5",
        shown="2,5,10",
    )
    threats_next_numbers: Annotated[tuple[str, ...], BeforeValidator(forms.numbers)] = _setting(
        (),
        "Who gets a text message too from the second time on, one more each time.",
        "+18005550157",
        shown="nobody",
    )
    agents_idle_minutes: Annotated[int, Field(ge=1, le=ABSOLUTE_S // 60)] = _setting(
        IDLE_S // 60,
        "After how many minutes without use an agent is logged out; PCI DSS 4.0.1, 8.2.8 wants 15.",
        "15",
    )
    oidc_issuer: Annotated[str, AfterValidator(forms.issuer)] = _setting(
        "",
        "Your identity provider, to the letter as its metadata names it (agents-identity.md).",
        "https://login.bank.example/realms/staff",
        shown="agents have accounts of our own",
    )
    oidc_client_id: str = _setting("", "What the guard is called there.", "ivrguard")
    oidc_client_secret: str = _setting(
        "",
        "What the guard shows there besides PKCE.",
        "<secret>",
        shown="none: a public client",
        secret=True,
    )
    oidc_scopes: Annotated[str, AfterValidator(forms.scopes)] = _setting(
        "openid profile", "What the guard asks to be told.", "openid profile groups"
    )
    oidc_audience: str = _setting(
        "",
        "The audience of access tokens that the agents' API takes; another name than the client's.",
        "https://guard.bank.example/api",
        shown="it takes none",
    )
    oidc_roles: Annotated[Mapping[str, Role], BeforeValidator(lists.roles)] = _setting(
        {},
        "Which value of the roles' claim is which role here: agent, supervisor or risk. Nobody has one by default.",
        "ivr-agents=agent;ivr-leads=supervisor;fraud=risk",
    )
    oidc_roles_claim: str = _setting(
        "roles", "The claim that has somebody's roles; dots lead into claims of claims.", "realm_access.roles"
    )
    oidc_queues_claim: str = _setting(
        "queues", "The claim that has the queues that he serves: kind:name, * for any name.", "ivr_queues"
    )
    oidc_manager_claim: str = _setting(
        "manager", "The claim that has the subject of whoever he reports to.", "manager_sub"
    )
    oidc_label_claim: str = _setting("name", "The claim that has his name for people.", "preferred_username")
    oidc_acr_values: Annotated[tuple[str, ...], BeforeValidator(lists.words)] = _setting(
        (),
        "How he must have shown who he is: one of these values of `acr`, with blanks between.",
        "phr https://refeds.org/profile/mfa",
        shown="left to the provider",
    )
    insiders: Annotated[Mapping[Sign, Threshold | None], BeforeValidator(lists.signs)] = _setting(
        {},
        "What somebody of one's own may do before the risk team is told (threats.md); what is not named is as usual.",
        "no_call=20 in 1d;off_queue=off",
        shown="the usual",
    )
    insiders_shifts: Annotated[tuple[str, tuple[tuple[str, Hours], ...]], BeforeValidator(lists.shifts)] = (
        _setting(
            ("UTC", ()),
            "Who works when at desks: a time zone, then globs over names and their hours, of which the first that fits counts.",
            "Europe/Berlin;night-*=mon-sun 20:00-06:00;mon-fri 07:00-20:00",
            shown="nobody says",
        )
    )
    traces_endpoint: Annotated[str, AfterValidator(forms.collector)] = _setting(
        "",
        "The collector that traces are sent to, over OTLP/HTTP; `/v1/traces` is put behind it. Needs `ivrguard[traces]`.",
        "http://collector.bank.example:4318",
        shown="nothing is traced",
    )
    traces_headers: Annotated[Mapping[str, str], BeforeValidator(written.headers)] = _setting(
        {}, "Headers that the collector knows its clients by.", "api-key=<key>", secret=True
    )
    traces_service: str = _setting("ivrguard", "The name that traces stand under.", "ivrguard-eu")
    traces_ratio: Annotated[float, Field(ge=0, le=1)] = _setting(
        1.0, "Of all webhooks, the part that is traced: from 0 to 1.", "0.05", shown="1"
    )
    traces_to_ivr: bool = _setting(
        False,
        "Whether the IVR gets a `traceparent` header, so that its spans join those of the guard.",
        "true",
        shown="false",
    )

    @property
    def store_path(self) -> Path | None:
        """The SQLite file; None: the store is none."""
        return Path(self.store.removeprefix("sqlite:")) if self.store.startswith("sqlite:") else None


KEYS = frozenset({"sealing_keys", "peppers", "naming_keys", "signing_keys"})
"""What a command needs that reads or writes the store (`ivrguard accounts`)."""

DIRECTORY_TLS = ("directory_ca", "directory_client_certificate", "directory_client_key")
"""What a connection to the bank's system needs, and both sides are known by."""

SERVE = KEYS | {"public_url", "twilio_tokens"}
"""What `ivrguard serve` cannot do without."""


_STANDARD = {
    "port": "PORT",
    "database_url": "DATABASE_URL",
    "traces_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "traces_headers": "OTEL_EXPORTER_OTLP_HEADERS",
    "traces_service": "OTEL_SERVICE_NAME",
}


def variable(name: str) -> str:
    """The environment variable of a setting: `IVRGUARD_…`, but for those that platforms set, and OpenTelemetry's own."""
    return _STANDARD.get(name, f"IVRGUARD_{name.upper()}")


def load(environ: Mapping[str, str], path: Path | None, *, needs: frozenset[str] = SERVE) -> Settings:
    """
    The settings from `environ` and the file at `path`. `needs`: settings that must be there.

    There need be no file at `DEFAULT_PATH`; a path of any other name was chosen, and must be readable. None: no
    file. Raises `SettingsFault` with a line for each fault.
    """
    lines: list[str] = []
    found: dict[str, tuple[str, str]] = {}
    names = {name: variable(name) for name in Settings.model_fields}
    secret = frozenset(filter(_is_secret, names))
    chosen = path and (path != DEFAULT_PATH or path.exists())
    in_file = sources.from_file(path, names, secret) if path and chosen else ()
    for name, place, text, fault in chain(in_file, sources.from_environment(environ, names, secret)):
        found[name] = place, text
        if fault:
            lines.append(f"{place}: {fault}")
    settings = Settings()
    texts = {name: text for name, (_, text) in found.items() if text}
    if "database_url" in texts:
        texts.setdefault("store", "postgres")
    try:
        settings = Settings.model_validate(texts)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(one["loc"][0])
            message = one["msg"].removeprefix("Value error, ")
            lines.append(f"{found[name][0]}: {message}; {_for_example(name)}")
    lines.extend(_belonging_together(settings))
    lines.extend(
        f"{variable(name)}: not set; {_for_example(name)}"
        for name in Settings.model_fields
        if name in needs and name not in found
    )
    if lines:
        raise SettingsFault(tuple(dict.fromkeys(lines)))
    return settings


def table() -> str:
    """Every setting in Markdown, for the documentation and for `serve --help`."""
    rows = ["| Variable | In the file | Default | What it is | Example |", "| --- | --- | --- | --- | --- |"]
    for name, declared in Settings.model_fields.items():
        secret = _is_secret(name)
        default = _extra(name, "shown") or str(declared.default or "")
        if name in SERVE:
            default = "**needed**"
        where = f"`{variable(name)}`" + (f" or `{variable(name)}_FILE`" if secret else "")
        in_file = "never: a secret" if secret else f"`{name}`"
        rows.append(
            f"| {where} | {in_file} | {default} | {declared.description} | `{_extra(name, 'example')}` |"
        )
    return "\n".join(rows) + "\n"


def _extra(name: str, key: str) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    return str(extra.get(key, "")) if isinstance(extra, dict) else ""


def _is_secret(name: str) -> bool:
    return not Settings.model_fields[name].repr


def _for_example(name: str) -> str:
    return f"for example {variable(name)}={_extra(name, 'example')}"


def _belonging_together(settings: Settings) -> Iterator[str]:
    """Faults that no setting has alone."""
    if settings.sms_from and settings.sms_messaging_service_sid:
        yield "IVRGUARD_SMS_FROM: IVRGUARD_SMS_MESSAGING_SERVICE_SID is set too, and only one can send; take one out"
    yield from _of_the_directory(settings)
    yield from _of_alerts(settings)
    yield from _of_the_provider(settings)
    if not settings.traces_endpoint:
        for name in ("traces_ratio", "traces_to_ivr"):
            if name in settings.model_fields_set:
                yield f"{variable(name)}: {variable('traces_endpoint')} is not set, so nothing is traced; set it, or take this out"
    for account in sorted(
        {account for account, _ in settings.side_door_keys} - settings.twilio_tokens.keys()
    ):
        yield f"IVRGUARD_SIDE_DOOR_KEYS: {account} has no token in IVRGUARD_TWILIO_TOKENS, which its requests would be made with"
    if "side_door_api_url" in settings.model_fields_set and not (
        settings.side_door_keys or settings.watch_transfers
    ):
        yield "IVRGUARD_SIDE_DOOR_API_URL: IVRGUARD_SIDE_DOOR_KEYS is not set, so there is no side door; set it, or take this out"
    if settings.store == "postgres" and not settings.database_url:
        yield f"DATABASE_URL: not set, and IVRGUARD_STORE is postgres; {_for_example('database_url')}"
    if settings.audit_keep_days is not None and settings.audit_archive is None:
        yield "IVRGUARD_AUDIT_KEEP_DAYS: old entries need a place to go to; set IVRGUARD_AUDIT_ARCHIVE"
    if settings.audit_required and settings.audit_copy is None:
        yield "IVRGUARD_AUDIT_REQUIRED: there is no copy to be required; set IVRGUARD_AUDIT_COPY"
    many = (
        *(settings.sealing_keys, settings.peppers, settings.naming_keys, settings.signing_keys),
        settings.alerts_secrets,
    )
    shared = dict([settings.directory_secret] if settings.directory_secret else [])
    keys = [key for keys in (*many, shared) for key in keys.values()]
    if len(set(keys)) != len(keys):
        yield (
            "IVRGUARD_SEALING_KEYS, IVRGUARD_PEPPERS, IVRGUARD_NAMING_KEYS, IVRGUARD_SIGNING_KEYS, "
            "IVRGUARD_ALERTS_SECRETS, IVRGUARD_DIRECTORY_SECRET: two of the keys are the same; make one for each use: openssl rand -base64 32"
        )


def _of_alerts(settings: Settings) -> Iterator[str]:
    """A webhook and what signs it; numbers and what texts them."""
    if settings.alerts_url and not settings.alerts_secrets:
        yield (
            "IVRGUARD_ALERTS_SECRETS: not set, and what goes to IVRGUARD_ALERTS_URL is signed; "
            f"{_for_example('alerts_secrets')}"
        )
    if settings.alerts_secrets and not settings.alerts_url:
        yield "IVRGUARD_ALERTS_SECRETS: IVRGUARD_ALERTS_URL is not set, so nothing is signed with them; set it, or take this out"
    for name in ("alerts_numbers", "threats_next_numbers"):
        if getattr(settings, name) and not (settings.sms_from or settings.sms_messaging_service_sid):
            yield f"{variable(name)}: nobody sends text messages; set IVRGUARD_SMS_FROM, or take this out"


def _of_the_provider(settings: Settings) -> Iterator[str]:
    """An identity provider with all that it takes, or nothing of it."""
    if not settings.oidc_issuer:
        for name in sorted(one for one in settings.model_fields_set if one.startswith("oidc_")):
            yield f"{variable(name)}: IVRGUARD_OIDC_ISSUER is not set, so nobody is asked; set it, or take this out"
        return
    for name in ("oidc_client_id", "oidc_roles"):
        if not getattr(settings, name):
            yield f"{variable(name)}: not set, and IVRGUARD_OIDC_ISSUER is; {_for_example(name)}"
    if settings.oidc_audience and settings.oidc_audience == settings.oidc_client_id:
        yield "IVRGUARD_OIDC_AUDIENCE: it is the client's own name, so that an ID token would pass for an access token; give the API another one"


def _of_the_directory(settings: Settings) -> Iterator[str]:
    """All of what the bank's system takes, or nothing of it."""
    url, given = settings.directory_url, settings.model_fields_set
    if not url:
        for name in ("directory_secret", *DIRECTORY_TLS, "directory_deadline_s"):
            if name in given:
                yield f"{variable(name)}: IVRGUARD_DIRECTORY_URL is not set, so nobody is asked; set it, or take this out"
        return
    if settings.directory_secret is None:
        yield (
            "IVRGUARD_DIRECTORY_SECRET: not set, and requests to IVRGUARD_DIRECTORY_URL are signed; "
            f"{_for_example('directory_secret')}"
        )
    for name in DIRECTORY_TLS:
        if url.startswith("https:") and name not in given:
            yield (
                f"{variable(name)}: not set, and IVRGUARD_DIRECTORY_URL is asked over mutual TLS only; "
                f"{_for_example(name)}"
            )
        if url.startswith("http:") and name in given:
            yield f"{variable(name)}: IVRGUARD_DIRECTORY_URL is http, so it is not used; take it out, or make it https"
