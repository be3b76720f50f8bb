"""Settings: environment over file, secrets from the environment only, all faults at once and none with a secret."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.settings import (
    DIRECTORY_TLS,
    KEYS,
    SERVE,
    Settings,
    SettingsFault,
    load,
    table,
    variable,
)
from ivrguard.settings.flat import FILE_BYTES_MAX

ROOT = Path(__file__).parents[2]

ACCOUNT, SUBACCOUNT = "AC" + "a1" * 16, "AC" + "b2" * 16
TOKEN, NEXT, OTHER = "first0token0" * 2, "next0token00" * 2, "other0token0" * 2
KEY_BYTES = {name: bytes([place]) * 32 for place, name in enumerate(["k1", "k2", "p1", "n1", "s1"])}
KEY = {name: base64.b64encode(key).decode() for name, key in KEY_BYTES.items()}

DATABASE = "postgres://ivrguard:of_the_database@db.example.com:5433/ivrguard?sslmode=verify-full"
GOOD = {
    "IVRGUARD_PUBLIC_URL": "https://guard.bank.example",
    "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT}={TOKEN},{NEXT};{SUBACCOUNT}={OTHER}",
    "IVRGUARD_SEALING_KEYS": f"k2={KEY['k2']};k1={KEY['k1']}",
    "IVRGUARD_PEPPERS": f"p1={KEY['p1']}",
    "IVRGUARD_NAMING_KEYS": f"n1={KEY['n1']}",
    "IVRGUARD_SIGNING_KEYS": f"s1={KEY['s1']}",
    "PATH": "/usr/bin",
    "HOME": "/nowhere",
}


def lines(environ, path=None, **changes):
    """The lines of what is wrong."""
    with pytest.raises(SettingsFault) as fault:
        load(environ, path, **changes)
    return list(fault.value.lines)


def only(environ, path=None):
    found = lines(environ, path)
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def file(tmp_path):
    """Writes a settings file and returns its path."""

    def write(text):
        path = tmp_path / "ivrguard.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_set_has_its_default():
    """A guard needs a URL, tokens and keys; all the rest is there."""
    found = load(GOOD, None)

    assert found.model_dump() == {
        "public_url": "https://guard.bank.example",
        "host": "0.0.0.0",
        "port": 8080,
        "ops_host": "127.0.0.1",
        "ops_port": 9464,
        "flows": Path("flows"),
        "watch_flows": True,
        "store": "sqlite:var/ivrguard.db",
        "database_url": "",
        "database_connections": 8,
        "log_level": "info",
        "hash_threads": None,
        "sms_from": "",
        "sms_messaging_service_sid": "",
        "sms_api_url": "https://api.twilio.com",
        "verify_service_sid": "",
        "verify_template_sid": "",
        "verify_api_url": "https://verify.twilio.com",
        "lookup_api_url": "https://lookups.twilio.com",
        "recordings_api_url": "https://api.twilio.com",
        "side_door_api_url": "https://api.twilio.com",
        "side_door_keys": {},
        "watch_transfers": False,
        "calls_api_url": "https://api.twilio.com",
        "tasks_api_url": "https://taskrouter.twilio.com",
        "directory_url": "",
        "directory_ca": None,
        "directory_client_certificate": None,
        "directory_client_key": None,
        "directory_deadline_s": 2.5,
        "audit_checkpoint_minutes": 10,
        "audit_checkpoint_entries": 1000,
        "audit_copy": None,
        "audit_copy_format": "jsonl",
        "audit_required": False,
        "audit_keep_days": None,
        "audit_archive": None,
        "public_keys": {},
        "console_embedders": (),
        "alerts_url": "",
        "alerts_numbers": (),
        "alerts_secrets": {},
        "threats_minutes": (2, 5, 10),
        "threats_next_numbers": (),
        "agents_idle_minutes": 30,
        "oidc_issuer": "",
        "oidc_client_id": "",
        "oidc_client_secret": "",
        "oidc_scopes": "openid profile",
        "oidc_audience": "",
        "oidc_roles": {},
        "oidc_roles_claim": "roles",
        "oidc_queues_claim": "queues",
        "oidc_manager_claim": "manager",
        "oidc_label_claim": "name",
        "oidc_acr_values": (),
        "insiders": {},
        "insiders_shifts": ("UTC", ()),
        "traces_endpoint": "",
        "traces_headers": {},
        "traces_service": "ivrguard",
        "traces_ratio": 1.0,
        "traces_to_ivr": False,
        "twilio_tokens": {ACCOUNT: (TOKEN, NEXT), SUBACCOUNT: (OTHER,)},
        "twilio_shared_keys": (),
        "upstream_token": None,
        "directory_secret": None,
        "sealing_keys": {"k2": KEY_BYTES["k2"], "k1": KEY_BYTES["k1"]},
        "peppers": {"p1": KEY_BYTES["p1"]},
        "naming_keys": {"n1": KEY_BYTES["n1"]},
        "signing_keys": {"s1": KEY_BYTES["s1"]},
    }
    assert found.store_path == Path("var/ivrguard.db")
    assert list(found.sealing_keys) == ["k2", "k1"]  # the current one first


ALERTS = base64.b64encode(bytes([7]) * 32).decode()


def test_every_setting_has_its_effect():
    """None of them is read and forgotten."""
    found = load(
        GOOD
        | {
            "IVRGUARD_PUBLIC_URL": "http://127.0.0.1:8080/",
            "IVRGUARD_HOST": "127.0.0.2",
            "PORT": "0",
            "IVRGUARD_OPS_HOST": "::1",
            "IVRGUARD_OPS_PORT": "1",
            "IVRGUARD_FLOWS": "/etc/flows",
            "IVRGUARD_STORE": "memory",
            "DATABASE_URL": DATABASE,
            "IVRGUARD_DATABASE_CONNECTIONS": "16",
            "IVRGUARD_LOG_LEVEL": "error",
            "IVRGUARD_HASH_THREADS": "3",
            "IVRGUARD_SMS_FROM": "+18005550111",
            "IVRGUARD_SMS_API_URL": "https://api.dublin.ie1.twilio.com",
            "IVRGUARD_WATCH_FLOWS": "false",
            "IVRGUARD_VERIFY_SERVICE_SID": "VA" + "1" * 32,
            "IVRGUARD_VERIFY_TEMPLATE_SID": "HJ" + "2" * 32,
            "IVRGUARD_VERIFY_API_URL": "http://127.0.0.1:1/",
            "IVRGUARD_LOOKUP_API_URL": "http://127.0.0.1:2",
            "IVRGUARD_RECORDINGS_API_URL": "http://127.0.0.1:3",
            "IVRGUARD_CALLS_API_URL": "http://127.0.0.1:4",
            "IVRGUARD_TWILIO_SHARED_KEYS": "SK1:HMAC_SHA256=one secret of it? no".replace(" ", "_")
            + ";SK2:HMAC_SHA256=0123456789abcdef=",
            "IVRGUARD_UPSTREAM_TOKEN": "an upstream token of the IVR",
            "IVRGUARD_AUDIT_CHECKPOINT_MINUTES": "5",
            "IVRGUARD_AUDIT_CHECKPOINT_ENTRIES": "100",
            "IVRGUARD_AUDIT_COPY": "/dev/stderr",
            "IVRGUARD_AUDIT_COPY_FORMAT": "ocsf",
            "IVRGUARD_AUDIT_REQUIRED": "true",
            "IVRGUARD_AUDIT_KEEP_DAYS": "365",
            "IVRGUARD_AUDIT_ARCHIVE": "/archive",
            "IVRGUARD_PUBLIC_KEYS": f"s0={KEY['k1']}",
            "IVRGUARD_ALERTS_URL": "https://soc.bank.example/ivrguard",
            "IVRGUARD_ALERTS_NUMBERS": "+18005550155, +18005550156",
            "IVRGUARD_ALERTS_SECRETS": f"a1={ALERTS}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.bank.example:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=the%20key",
            "OTEL_SERVICE_NAME": "guard-eu",
            "IVRGUARD_TRACES_RATIO": "0.05",
            "IVRGUARD_TRACES_TO_IVR": "true",
        },
        None,
    )
    assert (found.alerts_url, found.alerts_numbers) == (
        "https://soc.bank.example/ivrguard",
        ("+18005550155", "+18005550156"),
    )
    assert found.alerts_secrets == {"a1": base64.b64decode(ALERTS)}
    assert found.traces_endpoint == "http://collector.bank.example:4318"
    assert (found.traces_headers, found.traces_service) == ({"api-key": "the key"}, "guard-eu")
    assert (found.traces_ratio, found.traces_to_ivr) == (0.05, True)
    assert (found.audit_checkpoint_minutes, found.audit_checkpoint_entries) == (5, 100)
    assert (found.audit_copy, found.audit_copy_format) == (Path("/dev/stderr"), "ocsf")
    assert (found.audit_required, found.audit_keep_days) == (True, 365)
    assert (found.audit_archive, found.public_keys) == (Path("/archive"), {"s0": KEY_BYTES["k1"]})

    assert (found.public_url, found.host, found.port) == ("http://127.0.0.1:8080", "127.0.0.2", 0)
    assert (found.ops_host, found.ops_port) == ("::1", 1)
    assert (found.flows, found.store_path, found.log_level) == (Path("/etc/flows"), None, "error")
    assert (found.store, found.database_url, found.database_connections) == ("memory", DATABASE, 16)
    assert (found.hash_threads, found.sms_from) == (3, "+18005550111")
    assert found.sms_api_url == "https://api.dublin.ie1.twilio.com"
    assert not found.watch_flows
    assert (found.verify_service_sid, found.verify_template_sid) == ("VA" + "1" * 32, "HJ" + "2" * 32)
    assert [found.verify_api_url, found.lookup_api_url, found.recordings_api_url, found.calls_api_url] == [
        f"http://127.0.0.1:{port}" for port in (1, 2, 3, 4)
    ]
    assert found.twilio_shared_keys == (
        ("SK1", b"one_secret_of_it?_no", "HMAC_SHA256"),
        ("SK2", b"0123456789abcdef=", "HMAC_SHA256"),
    )
    assert found.upstream_token == "an upstream token of the IVR"
    service = load(GOOD | {"IVRGUARD_SMS_MESSAGING_SERVICE_SID": "MG" + "0" * 32}, None)
    assert service.sms_messaging_service_sid == "MG" + "0" * 32


def test_the_environment_wins_over_the_file(file):
    """And an empty variable is one that is not set."""
    path = file("port: 81\nhost: 10.0.0.1\nops_port: '82'\n# a comment\nlog_level: \"debug\"\n")
    found = load(GOOD | {"PORT": "83", "IVRGUARD_HOST": ""}, path)

    assert (found.port, found.host, found.ops_port, found.log_level) == (83, "10.0.0.1", 82, "debug")


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff# nothing\n", "{}", "{port: 80}"])
def test_files_with_little_in_them(file, text):
    """Comments alone are a file, too."""
    assert load(GOOD, file(text)).port == (80 if "port" in text else 8080)


def test_our_own_file_sets_nothing():
    """What is shipped is comments: an installation that was not told anything has no public URL of ours."""
    assert load(GOOD, ROOT / "config/ivrguard.yaml") == load(GOOD, None)


def test_the_usual_file_may_be_missing_and_a_chosen_one_may_not(tmp_path, monkeypatch):
    """A mistyped path would start a guard with other settings than those meant."""
    monkeypatch.chdir(tmp_path)

    assert load(GOOD, Path("config/ivrguard.yaml")) == load(GOOD, None)
    assert only(GOOD, Path("konfig.yaml")) == "konfig.yaml: cannot be read: No such file or directory"


def test_a_secret_may_come_from_a_file_that_the_environment_names(tmp_path):
    """As containers mount them: a line end at the end does not count, and entries may stand in lines."""
    (tmp_path / "tokens").write_text(f"{ACCOUNT}={TOKEN}\n{SUBACCOUNT}={OTHER}\n")
    (tmp_path / "naming").write_text(f"n1={KEY['n1']}\n")
    (tmp_path / "token").write_text("an upstream token of the IVR\n")
    environ = {key: text for key, text in GOOD.items() if "TOKENS" not in key and "NAMING" not in key} | {
        "IVRGUARD_TWILIO_TOKENS_FILE": str(tmp_path / "tokens"),
        "IVRGUARD_NAMING_KEYS_FILE": str(tmp_path / "naming"),
        "IVRGUARD_UPSTREAM_TOKEN_FILE": str(tmp_path / "token"),
    }
    found = load(environ, None)

    assert found.twilio_tokens == {ACCOUNT: (TOKEN,), SUBACCOUNT: (OTHER,)}
    assert found.naming_keys == {"n1": KEY_BYTES["n1"]}
    assert found.upstream_token == "an upstream token of the IVR"


def test_a_secret_of_kubernetes_is_read_through_its_links(tmp_path):
    """
    A mounted secret is a link to a link to a folder of the day, swapped as a whole when the secret changes
    (https://kubernetes.io/docs/concepts/configuration/secret/). What is there at the start counts.
    """
    for day, text in (
        ("..2026_11_26", f"p1={KEY['p1']}"),
        ("..2026_11_27", f"p2={KEY['k1']};p1={KEY['p1']}\n"),
    ):
        (tmp_path / day).mkdir()
        (tmp_path / day / "peppers").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_11_26")
    (tmp_path / "peppers").symlink_to("..data/peppers")
    environ = {
        key: text for key, text in GOOD.items() if key not in {"IVRGUARD_PEPPERS", "IVRGUARD_SEALING_KEYS"}
    }
    environ |= {
        "IVRGUARD_PEPPERS_FILE": str(tmp_path / "peppers"),
        "IVRGUARD_SEALING_KEYS": f"k2={KEY['k2']}",
    }
    assert list(load(environ, None).peppers) == ["p1"]

    (tmp_path / "..next").symlink_to("..2026_11_27")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert list(load(environ, None).peppers) == ["p2", "p1"]


def test_a_database_of_the_host_is_the_store_unless_another_is_chosen(tmp_path):
    """Hosts set DATABASE_URL by themselves, or mount it as a file; whoever names a store has it."""
    (tmp_path / "url").write_text(f"{DATABASE}\n")
    for environ in ({"DATABASE_URL": DATABASE}, {"DATABASE_URL_FILE": str(tmp_path / "url")}):
        found = load(GOOD | environ, None)
        assert (found.store, found.database_url, found.store_path) == ("postgres", DATABASE, None)
        assert load(GOOD | environ | {"IVRGUARD_STORE": "sqlite:x.db"}, None).store_path == Path("x.db")
        assert "of_the_database" not in repr(found)
    assert only(GOOD | {"IVRGUARD_STORE": "postgres"}).startswith(
        "DATABASE_URL: not set, and IVRGUARD_STORE is postgres; for example DATABASE_URL=postgresql://"
    )


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "  \n\n"])
def test_what_an_editor_puts_at_the_end_of_a_file_is_no_part_of_the_secret(tmp_path, end):
    """`echo`, a Docker secret made by hand, a file saved on Windows, with a mark of its encoding in front."""
    (tmp_path / "token").write_bytes(f"\ufeffan upstream token{end}".encode())
    environ = GOOD | {"IVRGUARD_UPSTREAM_TOKEN_FILE": str(tmp_path / "token")}
    assert load(environ, None).upstream_token == "an upstream token"


@pytest.mark.parametrize("separator", [";", ",", " ", "\n", "; \n"])
def test_keys_are_parted_by_what_people_part_things_with(separator):
    """Base64 holds none of them."""
    keys = f"k2={KEY['k2']}{separator}k1={KEY['k1']}{separator}"

    assert list(load(GOOD | {"IVRGUARD_SEALING_KEYS": keys}, None).sealing_keys) == ["k2", "k1"]


def test_a_command_needs_no_more_than_it_uses():
    """`accounts add` has no use for a public URL."""
    environ = {key: text for key, text in GOOD.items() if "URL" not in key and "TOKENS" not in key}

    assert load(environ, None, needs=KEYS).public_url == ""
    assert [line.split(":")[0] for line in lines(environ)] == [
        "IVRGUARD_PUBLIC_URL",
        "IVRGUARD_TWILIO_TOKENS",
    ]


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


def test_all_faults_are_told_at_once_with_their_places(file):
    """Of the file, of the environment, of what is not there."""
    path = file("port: eighty\nhots: x\npeppers: p\nflows: a\nflows: b\nlog_level:\n")
    environ = {key: text for key, text in GOOD.items() if "PUBLIC" not in key} | {
        "IVRGUARD_PEPERS": "p",
        "IVRGUARD_STORE": "postgres://db",
        "IVRGUARD_SMS_FROM": "Bank",
    }

    assert lines(environ, path) == [
        f"{path}:2: unknown key 'hots'; did you mean 'host'?",
        f"{path}:3: 'peppers' is a secret; set IVRGUARD_PEPPERS or IVRGUARD_PEPPERS_FILE instead",
        f"{path}:5: 'flows' stands twice, first at {path}:4; take one out",
        f"{path}:6: log_level: there is nothing behind it",
        "IVRGUARD_PEPERS: unknown variable; did you mean 'IVRGUARD_PEPPERS'?",
        (
            f"{path}:1: port: Input should be a valid integer, unable to parse string as an integer; "
            "for example PORT=8080"
        ),
        (
            "IVRGUARD_STORE: it is sqlite:<file>, postgres or memory (which forgets all when it ends); "
            "for example IVRGUARD_STORE=sqlite:/data/ivrguard.db"
        ),
        (
            "IVRGUARD_SMS_FROM: this is neither a phone number (+ and digits) nor a short code; "
            "for example IVRGUARD_SMS_FROM=+18005550111"
        ),
        "IVRGUARD_PUBLIC_URL: not set; for example IVRGUARD_PUBLIC_URL=https://guard.example.com",
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("IVRGUARD_PUBLIC_URL", "guard.bank.example", "this is no absolute URL without user, query and fragment"),
        ("IVRGUARD_PUBLIC_URL", "https://", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "https://[::1", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "https://a.example:port", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "https://u:p@a.example", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "https://a.example/?x=1", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "ftp://a.example", "this is no absolute URL"),
        ("IVRGUARD_PUBLIC_URL", "https://a.example/guard", "only scheme and host are wanted"),
        ("IVRGUARD_PUBLIC_URL", "http://a.example", "https is needed, except on this machine itself"),
        ("PORT", "65536", "Input should be less than or equal to 65535; for example PORT=8080"),
        ("IVRGUARD_OPS_PORT", "-1", "Input should be greater than or equal to 0"),
        ("IVRGUARD_HASH_THREADS", "0", "Input should be greater than or equal to 1"),
        ("IVRGUARD_LOG_LEVEL", "loud", "Input should be 'debug', 'info', 'warning' or 'error'"),
        ("IVRGUARD_STORE", "sqlite:", "it is sqlite:<file>, postgres or memory"),
        ("IVRGUARD_DATABASE_CONNECTIONS", "1", "Input should be greater than or equal to 2"),
        ("DATABASE_URL", "mysql://u:S3CRETS3CRET@db/x", "this does not begin with postgresql:// or postgres://"),
        ("IVRGUARD_SMS_MESSAGING_SERVICE_SID", "MG1", "String should match pattern"),
        ("IVRGUARD_SMS_API_URL", "http://api.example", "https is needed"),
        ("IVRGUARD_UPSTREAM_TOKEN", "short", "String should have at least 16 characters"),
        ("IVRGUARD_TWILIO_TOKENS", ";", "there is no entry in it"),
        ("IVRGUARD_TWILIO_TOKENS", TOKEN, "entry 1 does not begin with an AccountSid"),
        ("IVRGUARD_TWILIO_TOKENS", f"{ACCOUNT}={TOKEN};SK1={TOKEN}", "entry 2 does not begin with an AccountSid"),
        ("IVRGUARD_TWILIO_TOKENS", f"{ACCOUNT}={TOKEN};{ACCOUNT}={NEXT}", "entry 2 names an account again"),
        ("IVRGUARD_TWILIO_TOKENS", f"{ACCOUNT}={TOKEN},", "entry 1 has a token that is none"),
        ("IVRGUARD_TWILIO_TOKENS", f"{ACCOUNT}=ä{TOKEN}", "entry 1 has a token that is none"),
        ("IVRGUARD_TWILIO_SHARED_KEYS", f"SK1={TOKEN}", "entry 1 does not begin with <key id>:HMAC_SHA256="),
        ("IVRGUARD_TWILIO_SHARED_KEYS", f"SK1:HMAC_SHA1={TOKEN}", "entry 1 does not begin with <key id>:"),
        ("IVRGUARD_TWILIO_SHARED_KEYS", "SK1:HMAC_SHA256=short", "entry 1 has a secret of less than 16"),
        (
            "IVRGUARD_TWILIO_SHARED_KEYS",
            f"SK1:HMAC_SHA256={TOKEN};SK1:HMAC_SHA256={NEXT}",
            "entry 2 has an id that stands there already",
        ),
        ("IVRGUARD_SEALING_KEYS", KEY["k1"], "entry 1 is not <id>=<base64>"),
        ("IVRGUARD_SEALING_KEYS", f"k1={KEY['k1']};k 2={KEY['k2']}", "entry 2 is not <id>=<base64>"),
        ("IVRGUARD_SEALING_KEYS", f"k1={KEY['k1']};k1={KEY['k2']}", "entry 2 has an id that stands there already"),
        ("IVRGUARD_SEALING_KEYS", "k1=not_base64_!", "entry 1 is not base64"),
        ("IVRGUARD_SEALING_KEYS", "k1=ä", "entry 1 is not base64"),
        ("IVRGUARD_PEPPERS", "p1=c2hvcnQ=", "entry 1 has 5 bytes instead of 32"),
        ("IVRGUARD_NAMING_KEYS", KEY["n1"], "entry 1 is not <id>=<base64>"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_value(name, text, expected):
    """The variable, what is wrong, and an example of what is right."""
    line = only(GOOD | {name: text})

    assert line.startswith(f"{name}: {expected}")
    assert f"for example {name}=" in line


def test_two_senders_are_one_too_many():
    """Which of them sends would be chance."""
    environ = GOOD | {"IVRGUARD_SMS_FROM": "12345", "IVRGUARD_SMS_MESSAGING_SERVICE_SID": "MG" + "0" * 32}

    assert only(environ).startswith("IVRGUARD_SMS_FROM: IVRGUARD_SMS_MESSAGING_SERVICE_SID is set too")


def test_what_of_the_record_belongs_together():
    """Entries that are to go need a place to go to, and a copy that is required must be one."""
    assert only(GOOD | {"IVRGUARD_AUDIT_KEEP_DAYS": "90"}).endswith("set IVRGUARD_AUDIT_ARCHIVE")
    assert only(GOOD | {"IVRGUARD_AUDIT_REQUIRED": "true"}).endswith("set IVRGUARD_AUDIT_COPY")
    young = GOOD | {"IVRGUARD_AUDIT_KEEP_DAYS": "89", "IVRGUARD_AUDIT_ARCHIVE": "/archive"}
    assert "greater than or equal to 90" in only(young)


@pytest.mark.parametrize("name", ["IVRGUARD_PEPPERS", "IVRGUARD_SIGNING_KEYS", "IVRGUARD_NAMING_KEYS"])
def test_one_key_for_two_uses_is_none(name):
    """What is made for one purpose could be passed off as another's."""
    assert "two of the keys are the same" in only(GOOD | {name: f"x={KEY['k1']}"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port", ":1: only lines of the form `key: value` are read"),
        ("- port", ":1: only lines of the form"),
        ("port: [80]", ":1: only lines of the form"),
        ("host: a\nport: {a: b}", ":2: only lines of the form"),
        ("port: &a 80", ":1: only lines of the form"),
        ("port: !!int 80", ":1: only lines of the form"),
        ("a: *b", ":1: only lines of the form"),
        ("? [a]\n: b", ":1: only lines of the form"),
        ("port: 80\n---\nport: 81", ":3: only lines of the form"),
        ("port: 'x", ":1: this is not YAML"),
        ("port: 80\n  host: x", ":2: this is not YAML"),
        ("port: \x07", ":1: this is not YAML"),
        (b"\xff", ": is not UTF-8; save it as UTF-8"),
        ("#" * (FILE_BYTES_MAX + 1), ": is larger than 64 kB; is it the right file?"),
        ("[" * 60_000, ":1: only lines of the form"),
        ("a: " + "[" * 60_000, ":1: only lines of the form"),
    ],
)  # fmt: skip
def test_the_file_is_flat(file, text, expected):
    """Lines of `key: value`, read as they stand; nothing else."""
    path = file(text)

    assert any(line.startswith(f"{path}{expected}") for line in lines(GOOD, path)), lines(GOOD, path)


def test_files_of_secrets_that_cannot_be_read(tmp_path):
    """The path is not shown: whoever mixes up the two variables has put the secret there."""
    (tmp_path / "empty").write_text("\n")
    environ = {key: text for key, text in GOOD.items() if "SIGNING" not in key and "PEPPERS" not in key}
    environ |= {
        "IVRGUARD_PEPPERS_FILE": KEY["p1"],
        "IVRGUARD_SIGNING_KEYS_FILE": str(tmp_path / "empty"),
        "IVRGUARD_NAMING_KEYS_FILE": str(tmp_path),
        "IVRGUARD_PUBLIC_URL_FILE": "x",
    }

    assert lines(environ) == [
        "IVRGUARD_NAMING_KEYS_FILE: IVRGUARD_NAMING_KEYS is set too; take one of them out",
        "IVRGUARD_PEPPERS_FILE: the file that it names cannot be read: No such file or directory",
        "IVRGUARD_PUBLIC_URL_FILE: unknown variable; did you mean 'IVRGUARD_PUBLIC_URL'?",
        "IVRGUARD_SIGNING_KEYS_FILE: the file that it names is empty",
    ]


def test_an_unknown_variable_without_a_likeness_is_to_be_taken_out():
    """Nothing that was set is ignored."""
    assert only(GOOD | {"IVRGUARD_ZZZZZZ": "1"}) == "IVRGUARD_ZZZZZZ: unknown variable; take it out"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_a_repr():
    """Settings may be printed."""
    found = load(GOOD | {"IVRGUARD_UPSTREAM_TOKEN": "canary-canary-canary"}, None)
    shown = f"{found!r} {found} {found.model_copy()!r}"

    for secret in (TOKEN, NEXT, OTHER, "canary", ACCOUNT, *map(repr, KEY_BYTES.values())):
        assert secret not in shown


SECRETS = sorted(name for name, field in Settings.model_fields.items() if not field.repr)
CANARY = "Canary0Canary0Canary0"


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "k1={}",
        "k1={}=",
        f"{ACCOUNT}={{}} {{}}",
        f"{ACCOUNT}=x,{{}}",
        "SK1:HMAC_SHA1={}",
        "ä={}",
        "{};{}",
    ],
)
def test_no_fault_shows_a_secret(name, around):
    """Whatever is wrong with it: the message, its causes and their reprs hold nothing of it."""
    environ = GOOD | {variable(name): around.format(CANARY, CANARY), "PORT": "x"}
    with pytest.raises(SettingsFault) as caught:
        load(environ, None)

    fault = caught.value
    assert fault.__cause__ is fault.__context__ is None
    assert "Canary" not in f"{fault} {fault!r} {fault.lines}"


@given(text=st.text(max_size=60), name=st.sampled_from(SECRETS))
def test_any_text_is_a_secret_or_a_fault_without_it(text, name):
    """Never another exception, never a part of the text that is long enough to help."""
    text = f"{CANARY}{text}"
    said = ""
    try:
        load(GOOD | {variable(name): text}, None)
    except SettingsFault as fault:
        said = str(fault)

    assert "Canary" not in said


@given(data=st.binary(max_size=80) | st.text("apeortsh: \n'\"[]{}&*!#-8", max_size=60).map(str.encode))
def test_any_file_is_settings_or_faults(tmp_path_factory, data):
    """Never another exception."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    said: tuple[str, ...] = ()
    try:
        load(GOOD, path)
    except SettingsFault as fault:
        said = fault.lines

    assert [line for line in said if not line.startswith(str(path))] == []


def test_secrets_are_what_is_marked_as_such():
    """A new secret must be declared as one."""
    assert set(SECRETS) == {
        *("traces_headers", "alerts_secrets", "oidc_client_secret"),
        *("twilio_tokens", "twilio_shared_keys", "upstream_token", "side_door_keys"),
        *("sealing_keys", "peppers", "naming_keys", "signing_keys", "directory_secret", "database_url"),
    }


# ── the bank's own system ────────────────────────────────────────────────────────────────────────────────

BANK = {
    "IVRGUARD_DIRECTORY_URL": "https://accounts.bank.example/guard/",
    "IVRGUARD_DIRECTORY_SECRET": f"d1={base64.b64encode(bytes([9]) * 32).decode()}",
    "IVRGUARD_DIRECTORY_CA": "bank-ca.pem",
    "IVRGUARD_DIRECTORY_CLIENT_CERTIFICATE": "guard.pem",
    "IVRGUARD_DIRECTORY_CLIENT_KEY": "guard-key.pem",
}


def bank(**changed):
    """Settings with a bank's system, but for `changed`: by the end of their names."""
    changes = {f"IVRGUARD_DIRECTORY_{name}": text for name, text in changed.items()}
    return {name: text for name, text in (GOOD | BANK | changes).items() if text}


def test_the_banks_system_is_named_with_all_that_it_takes():
    """A path of its own may stand in front; the deadline may be another."""
    found = load(bank(DEADLINE_S="1.5"), None)
    assert (found.directory_url, found.directory_deadline_s) == ("https://accounts.bank.example/guard", 1.5)
    assert found.directory_secret == ("d1", bytes([9]) * 32)
    assert [getattr(found, name) for name in DIRECTORY_TLS] == [
        Path(name) for name in ("bank-ca.pem", "guard.pem", "guard-key.pem")
    ]


def test_on_this_machine_it_needs_no_certificates():
    """A proxy beside the guard may see to them."""
    found = load(bank(URL="http://127.0.0.1:4020", CA="", CLIENT_CERTIFICATE="", CLIENT_KEY=""), None)
    assert (found.directory_url, found.directory_ca) == ("http://127.0.0.1:4020", None)


SECOND = f"d2={base64.b64encode(bytes([8]) * 32).decode()}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"URL": "http://accounts.bank.example"}, "_URL: https is needed, except on this machine itself"),
        ({"URL": "https://user@bank.example"}, "_URL: this is no absolute URL without user"),
        ({"URL": "https://bank.example/?a=1"}, "_URL: this is no absolute URL without user"),
        ({"SECRET": ""}, "_SECRET: not set, and requests to IVRGUARD_DIRECTORY_URL are signed; for example"),
        ({"SECRET": "short"}, "_SECRET: entry 1 is not <id>=<base64>"),
        ({"SECRET": "d1=c2hvcnQ="}, "_SECRET: entry 1 has 5 bytes instead of 32"),
        ({"SECRET": f"{BANK['IVRGUARD_DIRECTORY_SECRET']};{SECOND}"}, "_SECRET: there are two keys in it"),
        ({"CA": ""}, "_CA: not set, and IVRGUARD_DIRECTORY_URL is asked over mutual TLS only; for example"),
        (
            {"CLIENT_CERTIFICATE": ""},
            "_CLIENT_CERTIFICATE: not set, and IVRGUARD_DIRECTORY_URL is asked over",
        ),
        ({"CLIENT_KEY": ""}, "_CLIENT_KEY: not set, and IVRGUARD_DIRECTORY_URL is asked over mutual TLS"),
        ({"DEADLINE_S": "0"}, "_DEADLINE_S: Input should be greater than or equal to 0.1; for example"),
        ({"DEADLINE_S": "5"}, "_DEADLINE_S: Input should be less than or equal to 4; for example"),
        ({"DEADLINE_S": "nan"}, "_DEADLINE_S: "),
        ({"CLIENT_KEY_FILE": "x"}, "_CLIENT_KEY_FILE: unknown variable; did you mean"),
    ],
)
def test_half_a_bank_is_none(changed, said):
    """Each fault names its variable and what to do."""
    assert only(bank(**changed)).startswith(f"IVRGUARD_DIRECTORY{said}")


def test_without_its_url_nothing_of_it_counts():
    """Whoever forgot the URL would believe that his system is asked."""
    found = lines(bank(URL="", DEADLINE_S="1"))
    names = ("SECRET", "CA", "CLIENT_CERTIFICATE", "CLIENT_KEY", "DEADLINE_S")
    assert found == [
        f"IVRGUARD_DIRECTORY_{name}: IVRGUARD_DIRECTORY_URL is not set, so nobody is asked; set it, or take this out"
        for name in names
    ]


def test_certificates_without_tls_would_not_be_used():
    found = lines(bank(URL="http://localhost:4020"))
    assert [line.partition(":")[0].removeprefix("IVRGUARD_DIRECTORY_") for line in found] == [
        *("CA", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    ]
    assert all("make it https" in line for line in found)


def test_the_shared_key_is_no_other_key():
    """The bank knows it, and must know none of the others."""
    assert "IVRGUARD_DIRECTORY_SECRET: two of the keys are the same" in only(bank(SECRET=f"d1={KEY['n1']}"))


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"URL": "https://soc.bank.example"}, "IVRGUARD_ALERTS_SECRETS: not set, and what goes to"),
        ({"SECRETS": f"a1={ALERTS}"}, "IVRGUARD_ALERTS_URL is not set, so nothing is signed"),
        ({"URL": "http://soc.bank.example", "SECRETS": f"a1={ALERTS}"}, "https is needed"),
        ({"NUMBERS": "+18005550155"}, "IVRGUARD_ALERTS_NUMBERS: nobody sends text messages"),
        ({"NUMBERS": "+18005550155;call ann"}, "IVRGUARD_ALERTS_NUMBERS: entry 2 is no phone number"),
        ({"URL": "https://soc.bank.example", "SECRETS": f"a1={KEY['n1']}"}, "two of the keys are the same"),
    ],
)
def test_alerts_that_nobody_would_get_are_a_fault(there, said):
    """Or that nobody could verify."""
    env = GOOD | {f"IVRGUARD_ALERTS_{name}": text for name, text in there.items()}
    with pytest.raises(SettingsFault) as caught:
        load(env, None)
    assert said in caught.value.lines[0]


def test_a_key_of_the_side_door_and_what_its_requests_are_made_with():
    """A key of the IVR's, for an account whose token the guard has."""
    env = GOOD | {"IVRGUARD_SIDE_DOOR_KEYS": f"{ACCOUNT}/SK1=the-ivrs-own-secret"}
    assert load(env, None).side_door_keys == {(ACCOUNT, "SK1"): "the-ivrs-own-secret"}
    for there, said in (
        (
            {"SIDE_DOOR_KEYS": f"AC{'0' * 32}/SK1=the-ivrs-own-secret"},
            "has no token in IVRGUARD_TWILIO_TOKENS",
        ),
        ({"SIDE_DOOR_API_URL": "http://127.0.0.1:4010"}, "IVRGUARD_SIDE_DOOR_KEYS is not set"),
    ):
        with pytest.raises(SettingsFault) as caught:
            load(GOOD | {f"IVRGUARD_{name}": text for name, text in there.items()}, None)
        assert said in caught.value.lines[0]


# ── the identity provider ────────────────────────────────────────────────────────────────────────────────

PROVIDER = {
    "ISSUER": "https://login.bank.example/realms/staff/",
    "CLIENT_ID": "ivrguard",
    "CLIENT_SECRET": "the secret of it",
    "SCOPES": " openid  groups ",
    "AUDIENCE": "https://guard.bank.example/api",
    "ROLES": "cn=agents,dc=bank=agent; fraud=risk",
    "ROLES_CLAIM": "realm_access.roles",
    "QUEUES_CLAIM": "q",
    "MANAGER_CLAIM": "m",
    "LABEL_CLAIM": "l",
    "ACR_VALUES": "phr mfa",
}


def provider(**changed):
    """Settings with an identity provider, but for `changed`."""
    changes = {f"IVRGUARD_OIDC_{name}": text for name, text in (PROVIDER | changed).items()}
    return {name: text for name, text in (GOOD | changes).items() if text}


def test_the_identity_provider_is_set_as_it_is_written():
    """Its name to the letter, with its slash: providers compare it so."""
    found = load(provider() | {"IVRGUARD_AGENTS_IDLE_MINUTES": "15"}, None)
    assert found.oidc_issuer == "https://login.bank.example/realms/staff/"
    assert (found.oidc_client_id, found.oidc_client_secret) == ("ivrguard", "the secret of it")
    assert (found.oidc_scopes, found.oidc_audience) == ("openid groups", "https://guard.bank.example/api")
    assert found.oidc_roles == {"cn=agents,dc=bank": "agent", "fraud": "risk"}
    assert (found.oidc_roles_claim, found.oidc_queues_claim) == ("realm_access.roles", "q")
    assert (found.oidc_manager_claim, found.oidc_label_claim) == ("m", "l")
    assert (found.oidc_acr_values, found.agents_idle_minutes) == (("phr", "mfa"), 15)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ISSUER": ""}, "IVRGUARD_OIDC_ISSUER is not set, so nobody is asked"),
        ({"ISSUER": "http://login.bank.example"}, "https is needed"),
        ({"ISSUER": "login.bank.example"}, "no absolute URL"),
        ({"CLIENT_ID": ""}, "IVRGUARD_OIDC_CLIENT_ID: not set, and IVRGUARD_OIDC_ISSUER is"),
        ({"ROLES": ""}, "IVRGUARD_OIDC_ROLES: not set, and IVRGUARD_OIDC_ISSUER is"),
        ({"ROLES": "fraud=boss"}, "entry 1 is not <value>=agent"),
        ({"SCOPES": "profile"}, "'openid' is not among the scopes"),
        ({"AUDIENCE": "ivrguard"}, "an ID token would pass for an access token"),
    ],
)
def test_half_a_provider_is_none(changed, said):
    with pytest.raises(SettingsFault) as caught:
        load(provider(**changed), None)
    assert said in str(caught.value)
    assert "the secret of it" not in str(caught.value)


def test_traces_are_set_by_the_names_that_others_use(tmp_path):
    """OpenTelemetry's own variables, where it has one; the headers may be in a file. Other variables of it are its own."""
    path = tmp_path / "headers"
    path.write_text("api-key=k\n")
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://traces.example/otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}
    found = load(GOOD | there | {"OTEL_EXPORTER_OTLP_HEADERS_FILE": str(path)}, None)
    assert (found.traces_endpoint, found.traces_headers) == ("https://traces.example/otlp", {"api-key": "k"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "this is no absolute URL"),
        ("IVRGUARD_TRACES_RATIO", "1.5", "less than or equal to 1"),
        ("IVRGUARD_TRACES_RATIO", "0.5", "OTEL_EXPORTER_OTLP_ENDPOINT is not set, so nothing is traced"),
        ("IVRGUARD_TRACES_TO_IVR", "true", "OTEL_EXPORTER_OTLP_ENDPOINT is not set, so nothing is traced"),
    ],
)
def test_traces_that_nobody_would_get_are_a_fault(name, text, said):
    assert said in only(GOOD | {name: text})


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_a_row_for_every_setting():
    """It is made from the settings themselves, so it cannot fall behind."""
    rows = table().splitlines()

    assert rows[0].startswith("| Variable |")
    assert len(rows) == 2 + len(Settings.model_fields)
    for name, row in zip(Settings.model_fields, rows[2:], strict=True):
        assert f"`{variable(name)}`" in row
        assert ("never: a secret" in row) is (name in SECRETS)
        assert ("**needed**" in row) is (name in SERVE)
    assert (
        "| `PORT` | `port` | 8080 | The port for webhooks and agents; 0 takes a free one. | `8080` |" in rows
    )


def test_the_file_we_ship_shows_every_setting_with_its_default():
    """As comments, so that nothing is set by accident."""
    shipped = (ROOT / "config/ivrguard.yaml").read_text()
    open_ones = [name for name in Settings.model_fields if name not in SECRETS]

    assert [name for name in open_ones if f"# {name}: " not in shipped] == []
    for name in open_ones:
        default = Settings.model_fields[name].default
        if default or default is False:
            shown = {"threats_minutes": "2,5,10", "insiders_shifts": "UTC"}.get(name, default)
            shown = str(default).lower() if isinstance(default, bool) else shown
            assert f"# {name}: {shown}" in shipped
