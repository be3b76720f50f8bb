"""Commands as a user meets them: run in this process or as one of their own, on a store with a day's work in it."""

import asyncio
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from typer.testing import CliRunner

from ivrguard import flowfile, keyring, log, settings
from ivrguard.__main__ import app
from ivrguard.commands.shell import keyring_of
from ivrguard.phone import bank
from ivrguard.phone.rig import rig
from ivrguard.ports import Change, Put
from ivrguard.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """Each command begins in the project's folder, in a clean environment, and leaves no log set up."""
    monkeypatch.chdir(ROOT)
    for name in [*os.environ]:
        if name.startswith(("IVRGUARD_", "OTEL_")) or name in {"PORT", "DATABASE_URL", "DATABASE_URL_FILE"}:
            monkeypatch.delenv(name)
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = [one for one in logging.root.handlers if not isinstance(one, log._Libraries)]


def _asked(env, *arguments, typed=""):
    """Run a command in this process: its exit code, standard output and standard error."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], input=typed, env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def _shell(env, *arguments, typed="", cwd=ROOT):
    """Run a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ivrguard", *map(str, arguments)],
        input=typed,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def _ends(result, code, out="", err=""):
    """How a command should end: its code, and all that it prints."""
    assert (result.code, result.out, result.err) == (code, out, err)


@pytest.fixture(scope="module")
def keys():
    return keyring.new_material(os.urandom)


@pytest.fixture(scope="module")
def filled(keys, tmp_path_factory):
    """A SQLite file with a day's work in it: an owner's call, and a guesser who was locked out."""
    path = tmp_path_factory.mktemp("filled") / "ivrguard.db"
    env = {**keys, "IVRGUARD_STORE": f"sqlite:{path}", "SUDO_USER": "root-of-the-test"}
    assert _asked(env, "migrate").code == 0
    added = _asked(env, "accounts", "add", ACCOUNT, "--number", OWNER, "--pin", "--sms", typed=f"{PIN}\n")
    _ends(added, 0, f"{ACCOUNT}: added\n")

    async def calls():
        ring = keyring_of(settings.load(env, None, needs=settings.KEYS))
        store = await SqliteStore.open(path)
        async with rig(flowfile.load(FLOW).flow, bank.app, store=store, keyring=ring) as centre:
            line = centre.call(OWNER, attested=True)
            await line.until_input()
            for digits in (f"{ACCOUNT}#", PIN, "1"):
                await line.press(digits)
            await line.hang_up()
            for guesses in (("11112220", "11112221", "11112222"), ("11112223", "11112224", "11112225")):
                line = centre.call(STRANGER)
                await line.until_input()
                for digits in (f"{ACCOUNT}#", *guesses):
                    await line.press(digits)
            return line.call_sid

    call = asyncio.run(calls())
    with closing(
        sqlite3.connect(path, isolation_level=None)
    ) as connection:  # signed by the server: how often is chance
        connection.execute("DELETE FROM value WHERE kind = 'checkpoint'")
    return SimpleNamespace(path=path, call=call)


@pytest.fixture
def store(keys, filled, tmp_path):
    """The environment of a command on a copy of the filled file, and how to change the copy from outside."""
    path = tmp_path / "store" / "ivrguard.db"
    shutil.copytree(filled.path.parent, path.parent)  # SQLite may keep a log beside it
    env = {**keys, "IVRGUARD_STORE": f"sqlite:{path}", "SUDO_USER": "mallory"}

    def put(key, value, rank=None):
        async def work():
            opened = await SqliteStore.open(path)
            await opened.amend([key], lambda _: Change(None, (Put(key, value, rank=rank),)))
            await opened.close()

        asyncio.run(work())

    def sql(statement):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    def ask(statement):
        with sqlite3.connect(path) as connection:
            row = connection.execute(statement).fetchone()
        connection.close()
        return row

    return SimpleNamespace(env=env, path=path, put=put, sql=sql, ask=ask, call=filled.call)


@pytest.fixture
def flows(tmp_path):
    """A folder with the bank's flow, of one's own, and how to write into it."""
    folder = tmp_path / "flows"
    shutil.copytree(ROOT / "flows", folder, ignore=shutil.ignore_patterns("insurer.yaml", "clinic.yaml"))

    def write(name, text):
        (folder / name).write_text(text)

    return SimpleNamespace(folder=folder, text=FLOW.read_text(), write=write)


@pytest.fixture(scope="session")
def asked():
    """Run a command in this process: its exit code, standard output and standard error."""
    return _asked


@pytest.fixture(scope="session")
def shell():
    """Run a command as a process of its own."""
    return _shell


@pytest.fixture(scope="session")
def ends():
    """How a command should end: its code, and all that it prints."""
    return _ends
