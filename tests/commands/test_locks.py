"""Locks from the command line."""

import re
from dataclasses import replace

import pytest

from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Key
from ivrguard.web.app import wall_clock_ms

ACCOUNT, OWNER, STRANGER = "123456789", "+15551230001", "+15559870002"
POOL = f"{ACCOUNT}/pin/pool"


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
