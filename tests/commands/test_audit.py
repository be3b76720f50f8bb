"""The audit record from the command line."""

import re

import pytest

from ivrguard.commands import audit
from ivrguard.core.audit import Entry, Linked

ACCOUNT = "123456789"


def entries(result):
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def test_the_record_holds(store, monkeypatch, asked, shell, ends):
    """From the shell; and page by page."""
    result = shell(store.env, "audit", "verify")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\d+ entries: the chain holds\n", result.out)
    monkeypatch.setattr(audit, "ENTRIES_PER_PAGE", 7)
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
def test_a_record_that_was_changed_from_outside_is_found_out(store, statement, words, asked):
    """Edited, cut out, cut off, or with another end: 1, and the place."""
    store.sql(statement)
    result = asked(store.env, "audit", "verify")
    assert (result.code, result.out) == (1, "")
    assert words in result.err


def test_show_begins_with_the_last_ones(store, asked):
    """Without a wish: the end of the record. Else from the number on, and so many."""
    every = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    numbers = [int(line.split()[0]) for line in every]
    assert numbers == list(range(1, len(every) + 1))
    assert entries(asked(store.env, "audit", "show", "--limit", "3")) == every[-3:]
    assert entries(asked(store.env, "audit", "show", "--after", "2", "--limit", "3")) == every[2:5]
    assert entries(asked(store.env, "audit", "show", "--after", "100000")) == []
    assert asked(store.env, "audit", "show", "--limit", "0").code == 2


def test_show_finds_a_call_and_an_account(store, monkeypatch, asked):
    """Accounts stand there as keyed hashes; the command makes the same one."""
    monkeypatch.setattr(audit, "ENTRIES_PER_PAGE", 7)
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


def test_show_finds_an_account_under_the_names_of_every_naming_key(store, asked):
    """After a rotation its old entries are found as before; with the new key alone, none is."""
    new = "n2=" + "A" * 43 + "="
    before = entries(asked(store.env, "audit", "show", "--account", ACCOUNT))
    both = {**store.env, "IVRGUARD_NAMING_KEYS": f"{new};{store.env['IVRGUARD_NAMING_KEYS']}"}
    assert entries(asked(both, "audit", "show", "--account", ACCOUNT)) == before
    assert asked(both, "accounts", "disable", ACCOUNT).code == 0
    assert len(entries(asked(both, "audit", "show", "--account", ACCOUNT))) == len(before) + 1
    alone = {**store.env, "IVRGUARD_NAMING_KEYS": new}
    assert len(entries(asked(alone, "audit", "show", "--account", ACCOUNT))) == 1


def test_an_entry_is_one_line_whatever_is_in_it():
    """A reason with a line or a colour of its own could pretend to be another entry."""
    entry = Entry(
        0, "authn_login_unlock", reason="unlocked", detail=(("because", "x\n2 all is well\x1b[2J"),)
    )
    assert audit.written(Linked(7, entry, "0" * 64)) == (
        "7 1970-01-01 00:00:00 UTC authn_login_unlock unlocked because=x?2 all is well?[2J"
    )
