"""Desks, locks and the audit record from the command line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ivrguard.commands import record
from ivrguard.core.audit import Entry, Linked
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.ports import Key
from ivrguard.web.app import wall_clock_ms

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


def test_a_desk_from_its_beginning_to_its_end(store, asked, ends):
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
def test_what_a_desk_cannot_be(store, name, queue, words, asked, ends):
    """A queue that no transfer can have would never let anybody redeem."""
    result = asked(store.env, "desks", "add", name, "--queue", queue)
    assert (result.code, result.out) == (1, "")
    assert words in result.err
    ends(asked(store.env, "desks", "list"), 0)


def test_a_desk_may_serve_every_kind_of_target(store, asked):
    queues = [word for kind in TARGET_KINDS for word in ("--queue", f"{kind}:*")]
    assert asked(store.env, "desks", "add", "ann", *queues).code == 0


def test_a_lock_is_listed_shown_and_ended(store, asked, ends):
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


def test_a_factor_that_was_disabled_takes_two_people(store, asked):
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


def test_a_caller_number_is_listed_as_one(store, asked):
    """Twenty failures from one number, over all accounts."""
    now = wall_clock_ms()
    attempts = tuple(Attempt(f"a{place}", now) for place in range(20))
    store.put(Key("ledger", f"number/{STRANGER}"), Ledger(attempts=attempts, run=20), rank=now + 3_600_000)
    assert f"calls from {STRANGER}: locked until " in asked(store.env, "locks", "list").out


@pytest.mark.parametrize("command", [("show", "77"), ("unlock", "77", "--by", "ann", "--reason", "why")])
def test_of_an_unknown_account_nothing_was_counted(store, command, asked, ends):
    ends(asked(store.env, "locks", *command), 0, "77: nothing was ever counted\n")


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ann", " "), ("ann", "two\nlines")])
def test_an_unlock_needs_a_person_and_a_reason(store, by, reason, asked, ends):
    result = asked(store.env, "locks", "unlock", ACCOUNT, "--by", by, "--reason", reason)
    ends(result, 1, "", "--by and --reason go on record: say who unlocks, and why, in a line\n")


def test_locks_need_the_flows_whose_rules_they_follow(store, flows, asked):
    flows.write("bank.yaml", "flow: bank\n")
    result = asked({**store.env, "IVRGUARD_FLOWS": str(flows.folder)}, "locks", "list")
    assert (result.code, result.out) == (1, "")
    assert f"{flows.folder}/bank.yaml:1:1: " in result.err


def entries(result):
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def test_the_record_holds(store, monkeypatch, asked, shell, ends):
    """From the shell; and page by page."""
    result = shell(store.env, "audit", "verify")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\d+ entries: the chain holds\n", result.out)
    monkeypatch.setattr(record, "ENTRIES_PER_PAGE", 7)
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
    monkeypatch.setattr(record, "ENTRIES_PER_PAGE", 7)
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
    assert record.written(Linked(7, entry, "0" * 64)) == (
        "7 1970-01-01 00:00:00 UTC authn_login_unlock unlocked because=x?2 all is well?[2J"
    )
