"""
Commands, as a user meets them: what they print, where, and what they end with.

A few run as processes of their own, from a shell and at a terminal; the rest in this process.
"""

import asyncio
import getpass
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
import structlog
from aiohttp import web
from twilio.request_validator import RequestValidator
from typer.testing import CliRunner

from ivrguard import __main__ as commands
from ivrguard import flowfile, keyring, log, settings
from ivrguard.core.audit import Entry, Linked
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.phone import bank
from ivrguard.phone.rig import rig
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import wall_clock_ms

ROOT = Path(__file__).parents[1]
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
        if name == "PORT" or name.startswith("IVRGUARD_"):
            monkeypatch.delenv(name)
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = [one for one in logging.root.handlers if not isinstance(one, log._Libraries)]


def asked(env, *arguments, typed=""):
    """Run a command in this process: its exit code, standard output and standard error."""
    result = CliRunner().invoke(commands.app, [str(one) for one in arguments], input=typed, env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def shell(env, *arguments, typed="", cwd=ROOT):
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


def ends(result, code, out="", err=""):
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
    assert asked(env, "migrate").code == 0
    added = asked(env, "accounts", "add", ACCOUNT, "--number", OWNER, "--pin", "--sms", typed=f"{PIN}\n")
    ends(added, 0, f"{ACCOUNT}: added\n")

    async def calls():
        ring = commands.keyring_of(settings.load(env, None, needs=settings.KEYS))
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

    return SimpleNamespace(path=path, call=asyncio.run(calls()))


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

    return SimpleNamespace(env=env, path=path, put=put, sql=sql, call=filled.call)


@pytest.fixture
def flows(tmp_path):
    """A folder of flows of one's own, and how to write into it."""
    folder = tmp_path / "flows"
    shutil.copytree(ROOT / "flows", folder)

    def write(name, text):
        (folder / name).write_text(text)

    return SimpleNamespace(folder=folder, text=FLOW.read_text(), write=write)


# ── the command line itself ──────────────────────────────────────────────────────────────────────────────


def test_main_is_the_command_line(monkeypatch, capsys):
    """`ivrguard` is installed as `main`."""
    monkeypatch.setattr(sys, "argv", ["ivrguard", "keys", "new"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == 0
    assert capsys.readouterr().out.count("\n") == 4


def test_a_command_that_cannot_be_understood_ends_with_2(tmp_path):
    """And says what there is, in another folder, too."""
    result = shell({}, "chekc", cwd=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "No such command 'chekc'" in result.err


def every_command(group, *before):
    for name, command in group.commands.items():
        yield (*before, name), command
        yield from every_command(command, *before, name) if hasattr(command, "commands") else ()


COMMANDS = dict(every_command(commands.typer.main.get_command(commands.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_worth_reading(path):
    """A sentence that says what it does; each argument and option says what it is for."""
    command = COMMANDS[path]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []
    result = asked({}, *path, "--help")
    assert result.code == 0
    assert f"Usage: ivrguard {' '.join(path)}" in result.out.replace("root", "ivrguard")


# ── keys, settings ───────────────────────────────────────────────────────────────────────────────────────


def test_new_keys_are_what_the_settings_want():
    """Four variables, different each time; nothing else on either stream, so that a file can be made of it."""
    first, second = shell({}, "keys", "new"), asked({}, "keys", "new")
    env = dict(line.split("=", 1) for line in first.out.splitlines())
    assert (first.code, first.err) == (0, "")
    assert settings.load(env, None, needs=settings.KEYS)
    assert not set(first.out.splitlines()) & set(second.out.splitlines())


def test_settings_are_a_page_of_markdown():
    """A heading, how they are read, and the table: no line broken by the width of a terminal."""
    result = asked({}, "settings")
    ends(result, 0, f"{commands.SETTINGS_HEAD}\n{settings.table()}")


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (("locks", "list"), {"IVRGUARD_PROT": "1"}, "IVRGUARD_PROT: unknown variable; did you mean"),
        (("locks", "list", "--config", "nowhere.yaml"), {}, "nowhere.yaml: the file cannot be read"),
        (("accounts", "disable", "1"), {}, "`ivrguard keys new` makes a set of fresh keys"),
        (("serve",), {}, "IVRGUARD_PUBLIC_URL: not set; for example"),
        (("desks", "list"), {"IVRGUARD_STORE": "memory"}, "store: memory: nothing is kept between commands"),
        (("audit", "verify"), {"IVRGUARD_STORE": "sqlite:nowhere.db"}, "`ivrguard migrate` make a new one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_settings_are_told_with_what_to_mend(arguments, env, words):
    """1, nothing on standard output, and no traceback."""
    result = asked(env, *arguments)
    assert (result.code, result.out) == (1, "")
    assert words.replace("the file ", "") in result.err


def test_what_a_command_does_not_need_it_does_not_ask_for(store):
    """Whoever checks the record needs no secret."""
    result = asked({"IVRGUARD_STORE": store.env["IVRGUARD_STORE"]}, "audit", "verify")
    assert (result.code, result.err) == (0, "")


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_tells_every_fault_with_its_place(flows):
    """Exit 1; a line each on standard error, unbroken and as it stands, nothing on standard output."""
    flows.write("bank.yaml", flows.text.replace("two_factor, within", "two_factr, within"))
    flows.write("other.yaml", "\n" * 99 + "flow: other\n")
    result = shell({}, "check", flows.folder)
    assert (result.code, result.out) == (1, "")
    lines = result.err.splitlines()
    assert [
        line
        for line in lines
        if re.match(r".*/bank\.yaml:\d+:\d+: rules\[\d\]\.require: .*'two_factr'", line)
    ]
    assert [line for line in lines if "/other.yaml:100:1: " in line]
    assert all(re.match(r"\S+\.yaml:\d+:\d+: ", line) for line in lines), lines


@pytest.mark.parametrize("path", ["flows", "flows/bank.yaml"])
def test_check_takes_a_folder_or_a_file(path):
    """One line for each flow that could go live."""
    result = asked({}, "check", path)
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"bank [0-9a-f]{16}: \d+ rules for \+18005550100: no fault\n", result.out)


def test_check_warns_and_lets_pass(flows):
    """A doubt is for a person to weigh."""
    flows.write("bank.yaml", flows.text.replace("pin, digits: 8", "pin, digits: 6"))
    result = asked({}, "check", flows.folder)
    assert result.code == 0
    assert re.match(r"warning: \S+/bank\.yaml:\d+:\d+: factors\.pin\.digits: ", result.err)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml"])
def test_check_of_what_is_not_there(name):
    ends(asked({}, "check", name), 1, "", f"{name}:1:1: cannot be read: No such file or directory\n")


# ── migrate ──────────────────────────────────────────────────────────────────────────────────────────────


def test_migrate_makes_the_store_and_its_folder_and_is_harmless_again(tmp_path):
    path = tmp_path / "var" / "deep" / "ivrguard.db"
    for _ in range(2):
        ends(asked({"IVRGUARD_STORE": f"sqlite:{path}"}, "migrate"), 0, f"{path}: at version 1\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_migrate_has_nothing_to_do_in_memory():
    ends(asked({"IVRGUARD_STORE": "memory"}, "migrate"), 0, "the store is memory: nothing to migrate\n")


def test_migrate_says_what_stands_in_its_way(tmp_path, store):
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
    """`release:` as a platform runs it: it looks through the flows and makes the store."""
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
    assert done.stdout.endswith(f"{tmp_path}/release.db: at version 1\n")


# ── demo, play ───────────────────────────────────────────────────────────────────────────────────────────


def test_demo_runs_from_the_shell():
    """`ivrguard demo` without a terminal ends by itself: 0, and it says that all went as told."""
    result = shell({}, "demo")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("All 6 scenes went as told.\n")


def test_a_demo_that_did_not_go_as_told_ends_with_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = asked({}, "demo", "--once")
    assert result.code == 1
    assert "run this in the project's folder" in result.out


def test_play_takes_a_call_from_a_pipe():
    """The output is the talk: no prompt, no broken line, nothing on standard error."""
    result = shell({}, "play", "--attested", typed=f"{ACCOUNT}#\n73926418\n1\n")
    assert (result.code, result.err) == (0, "")
    assert '\n   ◂ "Your balance is 1234 dollars."\n' in result.out
    assert "keys>" not in result.out


def test_play_takes_a_folder_with_one_flow(flows):
    assert asked({}, "play", flows.folder, "--from", STRANGER).out.startswith(
        f"You call +18005550100 from {STRANGER}. "
    )


def test_play_says_which_flow_it_cannot_play(flows):
    """No such file; or several in a folder."""
    ends(
        asked({}, "play", "nowhere.yaml"),
        1,
        "",
        "nowhere.yaml:1:1: cannot be read: No such file or directory\n",
    )
    flows.write("z.yaml", flows.text.replace("flow: bank", "flow: z").replace("+18005550100", "+18005550101"))
    result = asked({}, "play", flows.folder)
    ends(result, 1, "", f"{flows.folder}: there are 2 flows in it; name the file of one\n")


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_from_its_beginning_to_its_end(store):
    """Added, looked at, disabled: no secret is shown, and another spelling is the same account."""
    env = store.env
    added = asked(env, "accounts", "add", "ab-12", "--number", "(415) 555-2671", "--region", "US", "--totp")
    name, uri = added.out.splitlines()
    assert (added.code, added.err, name) == (0, "", "AB12: added")
    secret = re.match(r"otpauth://totp/ivrguard:AB12\?secret=([A-Z2-7]+)&", uri)[1]

    shown = asked(env, "accounts", "show", "AB 12")
    ends(shown, 0, "AB12: enabled; enrolled: totp; numbers: +14155552671\n")
    for _ in range(2):
        ends(asked(env, "accounts", "disable", "ab12"), 0, "AB12: disabled\n")
    assert asked(env, "accounts", "show", "ab12").out.startswith("AB12: disabled; ")
    asked(env, "accounts", "add", "bare")
    ends(asked(env, "accounts", "show", "bare"), 0, "BARE: enabled; enrolled: nothing; numbers: none\n")

    told = asked(env, "audit", "show", "--account", "ab12").out
    assert [line.split()[4:6] for line in told.splitlines()] == [
        ["user_created", "added"],
        ["user_archived", "disabled"],
    ]
    assert told.count("by=mallory") == 2
    assert not [
        line for line in (told + shown.out).splitlines() if secret in line or "AB12" in line.split()[4:]
    ]


def test_a_pin_from_the_shell_is_the_first_line_of_standard_input(store):
    """As README shows it: `echo … | ivrguard accounts add … --pin`; a weak one is refused, and nothing is added."""
    weak = shell(store.env, "accounts", "add", "77", "--pin", typed="12345678\n")
    ends(weak, 1, "", "a PIN that counts up or down is easily guessed\n")
    ends(asked(store.env, "accounts", "add", "77", "--pin", typed="90514827\nrest"), 0, "77: added\n")
    ends(asked(store.env, "accounts", "show", "77"), 0, "77: enabled; enrolled: pin; numbers: none\n")


@pytest.mark.parametrize(
    ("arguments", "typed", "words"),
    [
        (("add", "12€"), "", "an account's id is made of the letters A to Z and the digits 0 to 9"),
        (("add", ""), "", "an account's id is made of the letters A to Z and the digits 0 to 9"),
        (("add", "5", "--number", "call me"), "", "a letter in a telephone number: write the number in"),
        (("add", "5", "--sms"), "", "--sms needs a --number to send to"),
        (("add", "5", "--number", OWNER, "--number", OWNER), "", "a number stands in the account twice"),
        (("add", "5", "--pin"), "", "a PIN is made of the digits 0 to 9"),
        (("add", "5", "--pin"), "1234\n", "this PIN is one of those most used"),
        (("add", "5", "--pin"), "24681\n3579", "a PIN has 6 to"),
        (("add", ACCOUNT), "", f"{ACCOUNT}: there is such an account already"),
        (("show", "5"), "", "5: there is no such account; `ivrguard accounts add` makes one"),
        (("show", "?"), "", "an account's id is made of"),
        (("disable", "5"), "", "5: there is no such account"),
    ],
)
def test_what_an_account_cannot_be(store, arguments, typed, words):
    """1 and a line that says what to mend, which does not repeat a PIN."""
    if words.startswith("a PIN has"):
        words, typed = "a PIN has ", "123\n"
    result = asked(store.env, "accounts", *arguments, typed=typed)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(words)
    assert result.err.count("\n") == 1


def test_at_a_terminal_the_pin_is_asked_for_twice_and_not_shown(store):
    """A real terminal: what is typed there stands neither on the screen nor in the list of processes."""
    ours, theirs = os.openpty()
    terminal = os.ttyname(theirs)
    command = f"exec '{sys.executable}' -m ivrguard accounts add 88 --pin"
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} <{terminal} >{terminal} 2>&1"],
        env={**os.environ, **store.env},
        start_new_session=True,  # the first terminal that it opens is then its own
    )
    screen = ""
    for words, typed in (("PIN: ", PIN), ("Repeat for confirmation: ", PIN), ("88: added", "")):
        while words not in screen:
            assert select.select([ours], [], [], 30)[0], screen
            screen += os.read(ours, 1000).decode()
        os.write(ours, f"{typed}\n".encode())
    assert process.wait(30) == 0
    os.close(ours)
    os.close(theirs)
    assert PIN not in screen


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_on_record_by_number(store, monkeypatch, error):
    """Containers run as users that no file knows."""

    def nobody():
        raise error("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    asked({**store.env, "SUDO_USER": ""}, "accounts", "add", "99")
    assert f"by=uid {os.getuid()}" in asked(store.env, "audit", "show", "--limit", "1").out


# ── desks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_desk_from_its_beginning_to_its_end(store):
    """Its key is shown once; the list has none; a revoked desk stays listed."""
    env = store.env
    ends(asked(env, "desks", "list"), 0)
    key = asked(env, "desks", "add", "ann", "--queue", "workflow:*", "--queue", "client:ann").out.strip()
    assert re.fullmatch(r"[\w-]{43}", key)
    assert key.encode() not in store.path.read_bytes()
    ends(asked(env, "desks", "list"), 0, "ann: workflow:*, client:ann; in force\n")
    ends(asked(env, "desks", "revoke", "ann"), 0, "ann: 1 keys revoked\n")
    ends(asked(env, "desks", "revoke", "ann"), 0, "ann: 0 keys revoked\n")
    listed = asked(env, "desks", "list").out
    assert re.fullmatch(r"ann: workflow:\*, client:ann; revoked \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", listed)


@pytest.mark.parametrize(
    ("name", "queue", "words"),
    [
        ("", "queue:a", "a desk's name is made of"),
        ("an\nn", "queue:a", "a desk's name is made of"),
        (" ann", "queue:a", "a desk's name is made of"),
        ("ann", "support", "--queue 'support': write kind:name, such as workflow:*"),
        ("ann", "workflw:*", "did you mean 'workflow'?"),
    ],
)
def test_what_a_desk_cannot_be(store, name, queue, words):
    """A queue that no transfer can have would never let anybody redeem."""
    result = asked(store.env, "desks", "add", name, "--queue", queue)
    assert (result.code, result.out) == (1, "")
    assert words in result.err
    ends(asked(store.env, "desks", "list"), 0)


def test_a_desk_may_serve_every_kind_of_target(store):
    queues = [word for kind in TARGET_KINDS for word in ("--queue", f"{kind}:*")]
    assert asked(store.env, "desks", "add", "ann", *queues).code == 0


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_is_listed_shown_and_ended(store):
    """The guesser's lane is locked, the owner's is not; an unlock is on record, and harmless twice."""
    env = store.env
    locked = (
        rf"{ACCOUNT} pin \(pool\): locked until \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC; 5 failures in a row\n"
    )
    listed, shown = asked(env, "locks", "list"), asked(env, "locks", "show", ACCOUNT)
    assert (listed.code, listed.err, shown.err) == (0, "", "")
    assert re.fullmatch(locked, listed.out)
    assert re.search(locked, shown.out)

    unlock = ("locks", "unlock", ACCOUNT, "--by", "ann", "--reason", "ticket 4711")
    assert f"{ACCOUNT} pin (pool): unlocked\n" in asked(env, *unlock).out
    assert f"{ACCOUNT} pin (pool): was not locked\n" in asked(env, *unlock).out
    ends(asked(env, "locks", "list"), 0, "nothing is locked\n")
    assert f"{ACCOUNT} pin (pool): open; " in asked(env, "locks", "show", ACCOUNT).out
    last = asked(env, "audit", "show", "--limit", "1").out
    assert "authn_login_unlock unlocked" in last
    assert "by=ann because=ticket 4711" in last


def test_a_factor_that_was_disabled_takes_two_people(store):
    """The lifetime limit: the first person's word waits for a second one's."""
    disabled = replace(Ledger(), run=100)
    store.put(Key("ledger", POOL), disabled, rank=2**53)
    store.put(Key("ledger", f"{ACCOUNT}/pin/{OWNER}"), disabled, rank=2**53)

    def unlock(by):
        return asked(store.env, "locks", "unlock", ACCOUNT, "--by", by, "--reason", "why").out

    assert (
        f"{ACCOUNT} pin (pool): disabled: two people must unlock it; 100"
        in asked(store.env, "locks", "list").out
    )
    for by in ("ann", "ann"):
        assert f"{ACCOUNT} pin (pool): disabled: a second person must say the same within 24 hours" in unlock(
            by
        )
    assert f"{ACCOUNT} pin (trusted): unlocked" in unlock("bob")


def test_a_caller_number_is_listed_as_one(store):
    """Twenty failures from one number, over all accounts."""
    now = wall_clock_ms()
    attempts = tuple(Attempt(f"a{place}", now) for place in range(20))
    store.put(Key("ledger", f"number/{STRANGER}"), Ledger(attempts=attempts, run=20), rank=now + 3_600_000)
    assert f"calls from {STRANGER}: locked until " in asked(store.env, "locks", "list").out


@pytest.mark.parametrize("command", [("show", "77"), ("unlock", "77", "--by", "ann", "--reason", "why")])
def test_of_an_unknown_account_nothing_was_counted(store, command):
    ends(asked(store.env, "locks", *command), 0, "77: nothing was ever counted\n")


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ann", " "), ("ann", "two\nlines")])
def test_an_unlock_needs_a_person_and_a_reason(store, by, reason):
    result = asked(store.env, "locks", "unlock", ACCOUNT, "--by", by, "--reason", reason)
    ends(result, 1, "", "--by and --reason go on record: say who unlocks, and why, in a line\n")


def test_locks_need_the_flows_whose_rules_they_follow(store, flows):
    flows.write("bank.yaml", "flow: bank\n")
    result = asked({**store.env, "IVRGUARD_FLOWS": str(flows.folder)}, "locks", "list")
    assert (result.code, result.out) == (1, "")
    assert f"{flows.folder}/bank.yaml:1:1: " in result.err


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────


def entries(result):
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def test_the_record_holds(store, monkeypatch):
    """From the shell; and page by page."""
    result = shell(store.env, "audit", "verify")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\d+ entries: the chain holds\n", result.out)
    monkeypatch.setattr(commands, "ENTRIES_PER_PAGE", 7)
    ends(asked(store.env, "audit", "verify"), 0, result.out)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE audit SET data = (SELECT data FROM audit WHERE seq = 7) WHERE seq = 9",
            "store: audit entry 9 is not as it was written",
        ),
        (
            "DELETE FROM audit WHERE seq = 5",
            "is broken at entry 5: entry 5 is missing; the next one found is 6",
        ),
        ("DELETE FROM audit WHERE seq > 8", "is broken at entry 9: the record ends at 8, but"),
        ("UPDATE head SET seq = seq - 1", "the record ends at"),
    ],
)
def test_a_record_that_was_changed_from_outside_is_found_out(store, statement, words):
    """Edited, cut out, cut off, or with another end: 1, and the place."""
    store.sql(statement)
    result = asked(store.env, "audit", "verify")
    assert (result.code, result.out) == (1, "")
    assert words in result.err


def test_show_begins_with_the_last_ones(store):
    """Without a wish: the end of the record. Else from the number on, and so many."""
    every = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    numbers = [int(line.split()[0]) for line in every]
    assert numbers == list(range(1, len(every) + 1))
    assert entries(asked(store.env, "audit", "show", "--limit", "3")) == every[-3:]
    assert entries(asked(store.env, "audit", "show", "--after", "2", "--limit", "3")) == every[2:5]
    assert entries(asked(store.env, "audit", "show", "--after", "100000")) == []
    assert asked(store.env, "audit", "show", "--limit", "0").code == 2


def test_show_finds_a_call_and_an_account(store, monkeypatch):
    """Accounts stand there as keyed hashes; the command makes the same one."""
    monkeypatch.setattr(commands, "ENTRIES_PER_PAGE", 7)
    every = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    of_call = entries(asked(store.env, "audit", "show", "--call", store.call))
    assert of_call == [line for line in every if store.call in line]
    assert 1 < len(of_call) < len(every)
    of_account = entries(asked(store.env, "audit", "show", "--account", ACCOUNT))
    (name,) = {word for word in of_account[0].split() if word.startswith("acc_")}
    assert of_account == [line for line in every if name in line]
    both = entries(
        asked(store.env, "audit", "show", "--account", ACCOUNT, "--call", store.call, "--limit", "1")
    )
    assert both == [line for line in of_call if name in line][:1]
    assert ACCOUNT not in "".join(every)


def test_an_entry_is_one_line_whatever_is_in_it():
    """A reason with a line or a colour of its own could pretend to be another entry."""
    entry = Entry(
        0, "authn_login_unlock", reason="unlocked", detail=(("because", "x\n2 all is well\x1b[2J"),)
    )
    assert commands.written(Linked(7, entry, "0" * 64)) == (
        "7 1970-01-01 00:00:00 UTC authn_login_unlock unlocked because=x?2 all is well?[2J"
    )


# ── serve ────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_serve_answers_until_sigterm_and_finishes_what_is_under_way(store, flows):
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


def test_serve_says_which_port_is_taken(keys):
    """And lets go of what it had begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = asked({**served(keys), "IVRGUARD_STORE": "memory", "IVRGUARD_OPS_PORT": port}, "serve")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1].startswith(f"listen: cannot listen on 127.0.0.1, port {port} (")


def test_serve_does_not_begin_an_empty_store(keys, tmp_path):
    """An empty store knows of no lock: whoever lost the file must hear of it."""
    path = tmp_path / "ivrguard.db"
    result = asked(served({**keys, "IVRGUARD_STORE": f"sqlite:{path}"}), "serve")
    assert (result.code, path.exists()) == (1, False)
    assert result.err.startswith(
        f"store: {path}: there is no such file: put it back, or have `ivrguard migrate`"
    )


def test_serve_refuses_flows_with_a_fault_and_flows_that_lead_to_itself(keys, flows):
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
