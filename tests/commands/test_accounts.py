"""Accounts from the command line."""

import asyncio
import getpass
import io
import os
import re
import select
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyotp
import pytest
import segno
from rich.console import Console

from ivrguard import settings
from ivrguard.commands import accounts
from ivrguard.commands.shell import keyring_of
from ivrguard.core.assurance import Kind
from ivrguard.core.lockout import Ledger
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import books
from ivrguard.ports import Key, Right, Wrong
from ivrguard.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


def test_an_account_from_its_beginning_to_its_end(store, asked, ends):
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
    for _ in range(2):
        ends(asked(env, "accounts", "enable", "ab12"), 0, "AB12: enabled\n")
    asked(env, "accounts", "add", "bare", "--language", "es-US")
    bare = "BARE: enabled; enrolled: nothing; numbers: none; language: es-US\n"
    ends(asked(env, "accounts", "show", "bare"), 0, bare)
    codes = f"{ACCOUNT}: enabled; enrolled: pin, sms_code; numbers: {OWNER}; codes go to {OWNER}\n"
    ends(asked(env, "accounts", "show", ACCOUNT), 0, codes)

    told = asked(env, "audit", "show", "--account", "ab12").out
    assert [line.split()[4:6] for line in told.splitlines()] == [
        ["user_created", "added"],
        ["user_archived", "disabled"],
        ["user_updated", "enabled"],
    ]
    assert told.count("by=mallory") == 3
    assert not [
        line for line in (told + shown.out).splitlines() if secret in line or "AB12" in line.split()[4:]
    ]


def test_a_pin_from_the_shell_is_the_first_line_of_standard_input(store, asked, shell, ends):
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
        (("enable", "5"), "", "5: there is no such account"),
        (("add", "5", "--language", "Spanish"), "", "not a language tag: write one such as en-US"),
        (("set-pin", "5"), f"{PIN}\n", "5: there is no such account; `ivrguard accounts add` makes one"),
        (("set-pin", ACCOUNT), "12345678\n", "a PIN that counts up or down is easily guessed"),
        (("set-pin", ACCOUNT), "", "a PIN is made of the digits 0 to 9"),
        (("enrol-totp", "5"), "", "5: there is no such account; `ivrguard accounts add` makes one"),
        (("erase", ACCOUNT, "--by", " ", "--reason", "asked", "--yes"), "", "--by and --reason go on record"),
        (
            ("erase", ACCOUNT, "--by", "ann", "--reason", "a\nb", "--yes"),
            "",
            "--by and --reason go on record",
        ),
        (
            ("erase", ACCOUNT, "--by", "ann", "--reason", "asked"),
            "y\n",
            "nothing was erased; --yes does it without",
        ),
    ],
)
def test_what_an_account_cannot_be(store, arguments, typed, words, asked):
    """1 and a line that says what to mend, which does not repeat a PIN."""
    if words.startswith("a PIN has"):
        words, typed = "a PIN has ", "123\n"
    result = asked(store.env, "accounts", *arguments, typed=typed)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(words)
    assert result.err.count("\n") == 1


# ── another PIN, another app ─────────────────────────────────────────────────────────────────────────────


def judged(store, credential_of, digits, now_ms=0):
    """What an account's credential makes of these digits."""

    async def work():
        configured = settings.load(store.env, None, needs=settings.KEYS)
        opened = await SqliteStore.open(store.path)
        found = await opened.read(Key("account", ACCOUNT))
        await opened.close()
        if credential_of is Kind.TOTP:
            return await TotpJudge(keyring_of(configured)).judge(
                found.credential(Kind.TOTP), digits, None, now_ms
            )
        judge = PinJudge(configured.peppers, threads=1)
        try:
            return await judge.judge(found.credential(Kind.PIN), digits, None, now_ms)
        finally:
            await judge.close()

    return asyncio.run(work())


def test_another_pin(store, asked, ends):
    """The new one is right from then on, the old one wrong; the record says who, and neither shows anywhere."""
    ends(asked(store.env, "accounts", "set-pin", ACCOUNT, typed="90514827\n"), 0, f"{ACCOUNT}: PIN replaced\n",
         err_of_the_lock(store, asked))  # fmt: skip
    assert [judged(store, Kind.PIN, digits) for digits in (PIN, "90514827")] == [Wrong(), Right()]
    told = asked(store.env, "audit", "show", "--account", ACCOUNT, "--limit", "1000").out
    assert "user_updated enrolled" in told
    assert "by=mallory changed=pin" in told
    assert "90514827" not in told

    asked(store.env, "accounts", "add", "77")
    ends(asked(store.env, "accounts", "set-pin", "77", typed="90514827\n"), 0, "77: PIN set\n")


def err_of_the_lock(store, asked):
    """What is said of the lock that the strangers of the fixture are behind."""
    line = asked(store.env, "locks", "show", ACCOUNT).out.splitlines()[-1]
    until = re.search("locked until (.* UTC)", line)[1]
    return f"{ACCOUNT} pin (pool): stays locked until {until}; `ivrguard locks unlock` ends that\n"


def test_what_failures_in_a_row_disabled_is_open_with_another_pin(store, asked, ends):
    """As core/lockout.py and flows/README.md promise: disabled until it is enrolled anew. An app is another factor."""
    pool = books.ledger_key(POOL)
    store.put(pool, Ledger(run=100), books.NEVER_MS)
    store.put(books.ledger_key(f"{ACCOUNT}/totp/pool"), Ledger(run=100), books.NEVER_MS)
    assert asked(store.env, "locks", "list").out.count("disabled") == 2

    result = asked(store.env, "accounts", "set-pin", ACCOUNT, typed="90514827\n")
    assert result.err == f"{ACCOUNT} pin (pool): was disabled, and is open again\n"
    assert asked(store.env, "locks", "list").out.startswith(f"{ACCOUNT} totp (pool): disabled")

    result = asked(store.env, "accounts", "enrol-totp", ACCOUNT)
    assert result.err.startswith(f"{ACCOUNT} totp (pool): was disabled, and is open again\n")
    ends(asked(store.env, "locks", "list"), 0, "nothing is locked\n")


def test_an_account_that_was_guessed_at_before_it_was_there_begins_open(store, asked):
    """Unknown accounts are counted like known ones; its PIN is newer than all of that."""
    store.put(books.ledger_key("5/pin/pool"), Ledger(run=100), books.NEVER_MS)
    result = asked(store.env, "accounts", "add", "5", "--pin", typed=f"{PIN}\n")
    assert (result.out, result.err) == ("5: added\n", "5 pin (pool): was disabled, and is open again\n")


def test_another_app(store, asked):
    """Its address is printed once; the one before does not count any more, and that is said."""
    first = asked(store.env, "accounts", "enrol-totp", ACCOUNT)
    assert (first.code, first.err) == (0, f"{ACCOUNT}: app enrolled\n")
    second = asked(store.env, "accounts", "enrol-totp", ACCOUNT)
    assert second.err == f"{ACCOUNT}: app enrolled; the codes of the one before do not count any more\n"
    old, new = (re.search("secret=([A-Z2-7]+)&", result.out)[1] for result in (first, second))
    codes = [pyotp.TOTP(secret).at(59) for secret in (old, new)]
    assert [judged(store, Kind.TOTP, code, 59_000) for code in codes] == [Wrong(), Right(step=1)]


def test_a_code_that_was_used_does_not_work_again_when_the_app_is_enrolled_anew(store, asked):
    """The step it was of stays spent, whatever becomes of the secret: erased and imported again, it is refused."""
    spent = books.spent_key(ACCOUNT)
    store.put(spent, 59_000_000)
    asked(store.env, "accounts", "enrol-totp", ACCOUNT)
    asked(store.env, "accounts", "erase", ACCOUNT, "--by", "ann", "--reason", "asked", "--yes")

    async def read():
        opened = await SqliteStore.open(store.path)
        found = await opened.read(spent)
        await opened.close()
        return found

    assert asyncio.run(read()) == 59_000_000


@pytest.mark.parametrize("command", [("add", "5", "--pin"), ("set-pin", ACCOUNT)])
def test_a_pin_of_another_length_than_the_flows_want_is_warned_of(store, asked, command):
    """A caller who has one cannot key it: the question ends with the eighth key, or waits for it."""
    result = asked(store.env, "accounts", *command, typed="905148\n")
    assert result.code == 0
    assert result.err.startswith(
        "warning: flow bank wants a PIN of 8 digits: one of another length cannot be keyed there\n"
    )


def test_a_flow_with_a_fault_keeps_no_account_from_being_changed(store, asked, flows, ends):
    """Nobody can be warned then; the account is not the flow's."""
    flows.write("bank.yaml", "flow: [")
    env = {**store.env, "IVRGUARD_FLOWS": str(flows.folder)}
    ends(asked(env, "accounts", "add", "5", "--pin", typed="905148\n"), 0, "5: added\n")
    assert asked(env, "accounts", "erase", "5", "--by", "ann", "--reason", "asked", "--yes").code == 0


def drawn(text):
    """The modules of a QR code that was drawn in half blocks: 1 is dark."""
    pairs = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}
    rows = []
    for line in text.splitlines():
        rows += [[pairs[sign][half] for sign in line] for half in (0, 1)]
    return rows


def test_at_a_terminal_the_app_is_shown_as_a_qr_code(monkeypatch):
    """Light on dark whatever the terminal's colours are, and the very code of the address that is printed with it."""
    screen = io.StringIO()
    monkeypatch.setattr(
        accounts, "out", Console(file=screen, force_terminal=True, width=100, color_system="standard")
    )
    uri = "otpauth://totp/ivrguard:123456789?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=ivrguard"
    accounts.print_app(uri)
    plain = re.sub("\x1b\\[[0-9;]*m", "", screen.getvalue())
    wanted = [list(row) for row in segno.make(uri, error="l", boost_error=False).matrix_iter(border=2)]
    assert drawn(plain)[: len(wanted)] == wanted
    assert all(line.startswith("\x1b[97;40m") for line in screen.getvalue().splitlines())
    assert len(plain.splitlines()) <= 24


# ── erased ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_is_erased(store, asked):
    """Gone for everybody; again is harmless; the record says who and why, and not whose telephone it was."""
    erase = ("accounts", "erase", "123-456-789", "--by", "ann", "--reason", "ticket 4711", "--yes")
    until = r"what counts guesses and calls is gone by \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n"
    for words in ("erased", "there is no such account"):
        result = asked(store.env, *erase)
        assert (result.code, result.err) == (0, "")
        assert re.fullmatch(f"{ACCOUNT}: {words}; {until}", result.out)
    assert asked(store.env, "accounts", "show", ACCOUNT).code == 1
    with sqlite3.connect(store.path) as connection:
        left = connection.execute("SELECT kind, id FROM value WHERE expires_ms IS NULL").fetchall()
        kinds = {
            kind
            for kind, *_ in connection.execute("SELECT kind FROM value WHERE id LIKE ?", (f"%{ACCOUNT}%",))
        }
    connection.close()
    assert [row for row in left if ACCOUNT in row[1] or OWNER in row[1]] == []
    assert kinds <= {"ledger", "sends", "spent"}
    told = asked(store.env, "audit", "show", "--account", ACCOUNT, "--limit", "1000").out.splitlines()
    assert [line.split(maxsplit=4)[4].split(" acc_")[0] for line in told][-1] == "user_deleted erased"
    assert told[-1].endswith("by=ann because=ticket 4711")
    assert OWNER not in "".join(told)
    assert asked(store.env, "audit", "verify").code == 0


def terminal(store, *arguments):
    """A command at a real terminal: the process, and the end of the terminal that a person has."""
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    command = shlex.join([sys.executable, "-m", "ivrguard", *arguments])
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command} <{name} >{name} 2>&1"],
        env={**os.environ, **store.env},
        start_new_session=True,  # the first terminal that it opens is then its own
    )
    return process, ours, theirs


def talked(terminal, *talk):
    """What stood on the screen in the end: wait for words, key an answer, and so on."""
    process, ours, theirs = terminal
    screen = ""
    for words, typed in talk:
        while words not in screen:
            assert select.select([ours], [], [], 30)[0], screen
            screen += os.read(ours, 1000).decode()
        os.write(ours, f"{typed}\n".encode())
    code = process.wait(30)
    os.close(ours)
    os.close(theirs)
    return code, screen


def test_at_a_terminal_erasing_is_asked_about(store):
    """No is no, and so is just Enter."""
    arguments = ("accounts", "erase", ACCOUNT, "--by", "ann", "--reason", "asked")
    code, screen = talked(terminal(store, *arguments), (f"Erase {ACCOUNT} for good? [y/N]: ", ""))
    assert code == 1, screen
    code, _ = talked(terminal(store, *arguments), (f"Erase {ACCOUNT} for good? [y/N]: ", "y"), ("erased", ""))
    assert code == 0


def test_at_a_terminal_the_pin_is_asked_for_twice_and_not_shown(store):
    """A real terminal: what is typed there stands neither on the screen nor in the list of processes."""
    talk = (("PIN: ", PIN), ("Repeat for confirmation: ", PIN), ("88: added", ""))
    code, screen = talked(terminal(store, "accounts", "add", "88", "--pin"), *talk)
    assert code == 0
    assert PIN not in screen


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_on_record_by_number(store, monkeypatch, error, asked):
    """Containers run as users that no file knows."""

    def nobody():
        raise error("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    asked({**store.env, "SUDO_USER": ""}, "accounts", "add", "99")
    assert f"by=uid {os.getuid()}" in asked(store.env, "audit", "show", "--limit", "1").out
