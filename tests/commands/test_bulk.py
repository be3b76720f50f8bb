"""Accounts by the thousand, from the command line: files as admins have them, real hashes, a real terminal."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ivrguard.commands import bulk
from ivrguard.core.lockout import Ledger
from ivrguard.directory.intake import Intake
from ivrguard.guard import books

ROOT = Path(__file__).parents[2]
ACCOUNT, OWNER, PIN, APP = "123456789", "+15551230001", "24681357", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
POOL = f"{ACCOUNT}/pin/pool"
CSV = f"""account,numbers,pin,sms,totp,language,disabled
555-000-111,(415) 555-2671|+15550000003,90514827,+15550000003,{APP},es-US,
7777,,,,,,yes
{ACCOUNT},,{PIN},,,,
"""


@pytest.fixture
def file(tmp_path):
    """Write a file of accounts that only its owner may read; its path."""

    def write(text, name="people.csv"):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def exported(asked, env):
    """What `export` tells, by account."""
    result = asked(env, "accounts", "export")
    assert (result.code, result.err) == (0, "")
    return {one["account"]: one for one in map(json.loads, result.out.splitlines())}


def test_a_file_is_imported_and_again_is_harmless(store, asked, file, ends):
    """New, changed and unchanged are told; a caller can use what was imported; the second time nothing changes."""
    path = file(CSV)
    ends(
        asked(store.env, "accounts", "import", path, "--region", "US"),
        0,
        "3 accounts: 2 new, 0 changed, 1 unchanged\n",
    )

    everybody = exported(asked, store.env)
    assert everybody == {
        ACCOUNT: {
            "account": ACCOUNT,
            "numbers": [OWNER],
            "sms": OWNER,
            "language": "",
            "disabled": False,
            "enrolled": ["pin", "sms_code"],
        },
        "555000111": {
            "account": "555000111",
            "numbers": ["+14155552671", "+15550000003"],
            "sms": "+15550000003",
            "language": "es-US",
            "disabled": False,
            "enrolled": ["pin", "sms_code", "totp"],
        },
        "7777": {
            "account": "7777",
            "numbers": [],
            "sms": "",
            "language": "",
            "disabled": True,
            "enrolled": [],
        },
    }
    ends(
        asked(store.env, "accounts", "import", path, "--region", "US"),
        0,
        "3 accounts: 0 new, 0 changed, 3 unchanged\n",
    )
    assert exported(asked, store.env) == everybody
    told = asked(store.env, "audit", "show", "--limit", "1000").out
    assert told.count("accounts_imported in_force by=mallory") == 1
    assert told.count("sensitive_read accounts_exported by=mallory") == 2
    assert asked(store.env, "audit", "verify").code == 0
    for secret in ("90514827", PIN, APP):
        assert secret not in told


def test_an_export_can_be_imported_again(store, asked, ends):
    """It changes nothing, from a file or from standard input; what was edited in it changes."""
    asked(store.env, "accounts", "add", "77", "--number", "+15550000004", "--totp", "--language", "fr")
    lines = asked(store.env, "accounts", "export").out
    ends(
        asked(store.env, "accounts", "import", "-", typed=lines),
        0,
        "2 accounts: 0 new, 0 changed, 2 unchanged\n",
    )
    edited = lines.replace("+15550000004", "+15550000005")
    ends(
        asked(store.env, "accounts", "import", "-", typed=edited),
        0,
        "2 accounts: 0 new, 1 changed, 1 unchanged\n",
    )
    assert exported(asked, store.env)["77"]["numbers"] == ["+15550000005"]


def test_an_export_is_page_by_page(store, asked):
    """However many accounts there are, in the order of their ids."""
    asked(store.env, "accounts", "import", "-", typed="account\n" + "".join(f"{n:04}\n" for n in range(2100)))
    assert [*exported(asked, store.env)] == sorted([*(f"{n:04}" for n in range(2100)), ACCOUNT])


def test_every_fault_is_told_and_nothing_is_imported(store, asked, file, ends):
    """Each with file, line and column, and never a PIN; 1, and the store is as it was."""
    path = file("account,pin,numbers\n5,12345678,\n6,24681359,call me\n7,90514827,\n7,90514827,\n")
    faults = [
        f"{path}:2: pin: a PIN that counts up or down is easily guessed",
        f"{path}:3: numbers: a letter in a telephone number: write the number in international form, like +1 800 555 0100",
        f"{path}:5: account: it stands in line 4 already",
        "nothing was imported",
    ]
    ends(asked(store.env, "accounts", "import", path), 1, "", "\n".join([*faults, ""]))
    ends(asked(store.env, "accounts", "import", "-", typed="acount\n5"), 1, "",
         "standard input:1: column 1: there is no column 'acount'; did you mean 'account'?\nnothing was imported\n")  # fmt: skip
    assert [*exported(asked, store.env)] == [ACCOUNT]


def test_a_hundred_faults_are_enough(store, asked):
    result = asked(store.env, "accounts", "import", "-", typed="account\n" + "%\n" * 150)
    assert result.err.splitlines()[-2:] == ["and 50 more", "nothing was imported"]
    assert len(result.err.splitlines()) == 102


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere.csv", "No such file or directory"), ("", "Is a directory")]
)
def test_a_file_that_cannot_be_read(store, asked, tmp_path, name, why, ends):
    path = tmp_path / name
    ends(asked(store.env, "accounts", "import", path), 1, "", f"{path}: cannot be read: {why}\n")


def test_looking_only(store, asked, file, ends):
    """`--dry-run` tells the faults, or that there are none, and needs neither keys nor store."""
    path = file(CSV)
    told = f"{path}: 3 accounts, and no fault; nothing was imported\n"
    ends(asked({}, "accounts", "import", path, "--region", "US", "--dry-run"), 0, "", told)
    assert asked({}, "accounts", "import", path, "--dry-run").code == 1
    assert [*exported(asked, store.env)] == [ACCOUNT]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_of_secrets_that_others_may_read_is_warned_of(store, asked, file, mode, warned):
    path = file(f"account,pin\n5,{PIN}\n")
    path.chmod(mode)
    warning = f"warning: {path} holds secrets, and others on this machine may read it: chmod 600 {path}\n"
    assert asked({}, "accounts", "import", path, "--dry-run").err.startswith(warning) is warned
    path.write_text("account\n5\n")
    assert "warning" not in asked({}, "accounts", "import", path, "--dry-run").err


def test_pins_of_another_length_than_the_flows_want_are_warned_of(store, asked):
    """How many they are, by flow; they are imported all the same: it is the flow that may be wrong."""
    result = asked(store.env, "accounts", "import", "-", typed=f"account,pin\n5,905148\n6,{PIN}\n7,905149\n")
    assert result.out == "3 accounts: 3 new, 0 changed, 0 unchanged\n"
    told = "wants a PIN of 8 digits: 2 PINs of another length cannot be keyed there"
    assert result.err.splitlines() == [
        f"warning: flow {name} {told}" for name in ("bank", "clinic", "insurer")
    ]


def test_what_failures_in_a_row_disabled_is_open_with_another_pin(store, asked):
    """The same PIN once more is not enrolled anew."""
    store.put(books.ledger_key(POOL), Ledger(run=100), books.NEVER_MS)
    for pin, listed in ((PIN, f"{ACCOUNT} pin (pool): disabled"), ("90514827", "nothing is locked")):
        asked(store.env, "accounts", "import", "-", typed=f"account,pin\n{ACCOUNT},{pin}\n")
        assert asked(store.env, "locks", "list").out.startswith(listed)


def test_a_number_of_too_many_accounts_is_told_with_its_line(store, asked, file, ends):
    path = file("account,numbers\n" + "".join(f"{n},{OWNER}\n" for n in range(101)))
    why = "numbers: a number is on file for 100 accounts: it names nobody, leave it out"
    ends(
        asked(store.env, "accounts", "import", path), 1, "", f"{path}: line 2: {why}; nothing was imported\n"
    )


# ── a person at a terminal ───────────────────────────────────────────────────────────────────────────────


def at_a_terminal(env, *arguments, until, send=None):
    """
    Run a command whose standard error is a terminal; `send` it a signal when `until` stands there.

    Its exit code, and all that it wrote, without the terminal's commands.
    """
    ours, theirs = os.openpty()
    # Where the tests run behind a shell's `&`, Ctrl-C is ignored, and their children would inherit that.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "ivrguard", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm", **env},
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, usual)
    os.close(theirs)
    screen = ""
    while select.select([ours], [], [], 60)[0]:
        try:
            screen += re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", os.read(ours, 65_536).decode(errors="replace"))
        except OSError:  # the other end is closed: it has ended
            break
        if send is not None and re.search(until, screen):
            process.send_signal(send)
            send = None
    os.close(ours)
    return process.wait(60), screen


def test_ctrl_c_leaves_nothing_behind(store, asked, file):
    """While hashing, which is when people press it; a bar says how far it is, and when it will be done."""
    pins = (f"{n},{90514827 + 77 * n}\n" for n in range(400))
    path = file("account,pin\n" + "".join(pins))
    code, screen = at_a_terminal(
        store.env, "accounts", "import", path, until=r"comparing \S+ +\d+/400", send=signal.SIGINT
    )
    assert (code, "interrupted: nothing was imported" in screen) == (1, True), screen[-300:]
    assert [*exported(asked, store.env)] == [ACCOUNT]
    with_rank = "SELECT count(*) FROM value WHERE kind = 'batch' OR (kind = 'account' AND rank IS NOT NULL)"
    assert store.ask(with_rank) == (0,)


@pytest.mark.parametrize(
    ("in_force", "told"),
    [
        (True, "interrupted: the import is in force; run it again, which puts the rest in its place\n"),
        (False, "interrupted: nothing was imported\n"),
    ],
)
def test_interrupted_it_says_what_has_become_of_it(store, asked, monkeypatch, in_force, told, ends):
    """Before it is in force, and while the rest is put in its place."""

    async def interrupted(self, _people, **_about):
        self.in_force = in_force
        raise KeyboardInterrupt

    monkeypatch.setattr(Intake, "run", interrupted)
    ends(asked(store.env, "accounts", "import", "-", typed="account\n5\n"), 1, "", told)


def test_the_bar_is_told_now_and_then(monkeypatch):
    """Of each thing that is done by its name, from the beginning and to the end; of unknown lengths too."""
    shown = []
    monkeypatch.setattr(bulk.Progress, "reset", lambda self, task, **told: shown.append(told))
    monkeypatch.setattr(bulk.Progress, "update", lambda self, task, **told: shown.append(told))
    with bulk.progress() as tell:
        for done in range(1, 24):
            tell("writing", done, 23)
        tell("exporting", 10, 0)
    assert shown == [
        {"description": "writing", "total": 23, "visible": True},
        {"completed": 10, "total": 23},
        {"completed": 20, "total": 23},
        {"completed": 23, "total": 23},
        {"description": "exporting", "total": None, "visible": True},
        {"completed": 10, "total": None},
    ]
