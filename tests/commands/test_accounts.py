"""Accounts from the command line."""

import getpass
import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

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
def test_a_user_without_a_name_is_on_record_by_number(store, monkeypatch, error, asked):
    """Containers run as users that no file knows."""

    def nobody():
        raise error("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    asked({**store.env, "SUDO_USER": ""}, "accounts", "add", "99")
    assert f"by=uid {os.getuid()}" in asked(store.env, "audit", "show", "--limit", "1").out
