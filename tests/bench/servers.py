"""
Servers of a bench: the guard as `ivrguard serve` runs it, and its bare peers, each a process of its own.

What serves stands on one core, load and IVR on the other (`taskset`): Linux only. Peers are built from PyPI and npm
packages, locked by hash, in build/bench; where node and npm are missing, their rows say so.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import ACCOUNT_SID, NUMBER, TOKEN, Poster

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
BUILD = ROOT / "build" / "bench"
PUBLIC = "https://guard.example"
SERVER_CORE, LOAD_CORE = "0", "1"
START_S = 20.0
SERVE = ("-m", "ivrguard", "serve")
ACCOUNT, PIN = "123456789", "24681357"

FLOW = """
flow: bench
numbers: ["{number}"]
upstream:
  url: http://127.0.0.1:{ivr_port}/voice
language: en-US
identify: {{ask: account_number, digits: {{min: 6, max: 12}}}}
factors:
  pin: {{kind: pin, digits: 8}}
levels:
  one_factor: {{any: [pin]}}
rules:
  - {{path: /open, allow: anyone}}
default: {{require: one_factor}}
"""

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<Response>
  <Say voice="Polly.Joanna">Welcome back &amp; thank you for calling.</Say>
  <Play>https://ivr.invalid/greeting.mp3</Play>
  <Pause length="1"/>
  <Gather action="/menu?step=1" method="POST" numDigits="1" timeout="5">
    <Say>For your balance, press 1.</Say>
    <Say>To wire money, press 3.</Say>
    <Say>To talk to somebody, press 0.</Say>
  </Gather>
  <Say>We did not hear you.</Say>
  <Gather action="/menu?step=2" method="POST" numDigits="1" timeout="5">
    <Say>For your balance, press 1 &lt; 2.</Say>
    <Say>To wire money, press 3.</Say>
  </Gather>
  <Record action="/message" recordingStatusCallback="/recorded" maxLength="30"/>
  <Say>Goodbye.</Say>
  <Redirect method="POST">/voice?again=1</Redirect>
</Response>
""".replace("https://ivr.invalid", "")
"""What the IVR answers: 16 elements, 6 links."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: its port, and its process."""

    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    def cpu_s(self) -> float:
        """Seconds of a core that it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    *,
    core: str = SERVER_CORE,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    log: Path | None = None,
) -> Iterator[Running]:
    """Start a command on a core, wait until its port answers, and end it afterwards."""
    with (log or Path(os.devnull)).open("wb") as sink:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=sink,
            stderr=sink,
        )
        try:
            until = time.monotonic() + START_S
            while True:
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"did not start: {' '.join(command)}; see {log}")
                time.sleep(0.05)
            yield Running(port, process)
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def ivr(folder: Path, document: str = DOCUMENT) -> Iterator[Running]:
    """An IVR that answers every request with `document`, on the load's core."""
    file, port = folder / "document.xml", free_port()
    file.write_text(document)
    with running([sys.executable, str(PEERS / "ivr.py"), str(port), str(file)], port, core=LOAD_CORE) as one:
        yield one


@contextmanager
def peer(name: str, *arguments: str, core: str = SERVER_CORE) -> Iterator[Running]:
    """A bare peer of the guard: a script in peers/, run by the interpreter of this process."""
    port = free_port()
    with running([sys.executable, str(PEERS / name), str(port), *arguments], port, core=core) as one:
        yield one


@contextmanager
def fastapi() -> Iterator[Running]:
    """FastAPI, uvicorn and twilio's validator, in a virtual environment of their own."""
    python, port = _fastapi_python(), free_port()
    command = [str(python), str(PEERS / "fastapi_signed.py"), str(port), PUBLIC, TOKEN.decode()]
    with running(command, port) as one:
        yield one


def _fastapi_python() -> Path:
    place = BUILD / "fastapi"
    python = place / "bin" / "python"
    if not python.exists():
        print("building the FastAPI peer …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        lock = str(PEERS / "requirements.txt")
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", lock], check=True
        )
    return python


def has_node() -> bool:
    """Whether the Express peer can be built here."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


@contextmanager
def express() -> Iterator[Running]:
    """Express with `twilio.webhook()`."""
    place, port = BUILD / "express", free_port()
    if not (place / "node_modules").exists():
        print("building the Express peer …", file=sys.stderr)
        place.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json", "express_signed.mjs"):
            shutil.copy(PEERS / file, place / file)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=place, check=True)
    shutil.copy(PEERS / "express_signed.mjs", place)
    command = ["node", "express_signed.mjs", str(port), PUBLIC, TOKEN.decode()]
    with running(command, port, cwd=place, env={"NODE_ENV": "production"}) as one:
        yield one


@contextmanager
def guard(
    folder: Path, ivr_port: int, *, env: Mapping[str, str] | None = None, core: str = SERVER_CORE
) -> Iterator[Running]:
    """The guard on a SQLite file in `folder`, with one account (`ACCOUNT`, `PIN`), made if it is not there."""
    port, ops_port = free_port(), free_port()
    flows = folder / "flows"
    settings = {
        "IVRGUARD_PUBLIC_URL": PUBLIC,
        "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={TOKEN.decode()}",
        "IVRGUARD_STORE": f"sqlite:{folder / 'guard.db'}",
        "IVRGUARD_FLOWS": str(flows),
        "IVRGUARD_HOST": "127.0.0.1",
        "IVRGUARD_OPS_PORT": str(ops_port),
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        **(env or {}),
    }
    command = [sys.executable, "-m", "ivrguard"]
    keys = folder / "keys.env"
    if not keys.exists():
        shutil.copytree(ROOT / "flows" / "prompts", flows / "prompts")
        (flows / "bench.yaml").write_text(FLOW.format(number=NUMBER, ivr_port=ivr_port))
        made = subprocess.run(
            [*command, "keys", "new"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        keys.write_text(made)
    settings |= dict(line.split("=", 1) for line in keys.read_text().split("\n") if line)
    if not (folder / "guard.db").exists():
        whole = {**os.environ, **settings}
        subprocess.run([*command, "migrate"], cwd=ROOT, check=True, env=whole, capture_output=True)
        add = [*command, "accounts", "add", ACCOUNT, "--pin"]
        subprocess.run(add, cwd=ROOT, check=True, env=whole, input=f"{PIN}\n".encode(), capture_output=True)
    else:
        (flows / "bench.yaml").write_text(FLOW.format(number=NUMBER, ivr_port=ivr_port))
    with running([sys.executable, *SERVE], port, core=core, env=settings, log=folder / "serve.log") as one:
        yield one


def poster(port: int) -> Poster:
    """Signed posts to a server on this port that is called PUBLIC outside."""
    return Poster(PUBLIC, f"127.0.0.1:{port}")
