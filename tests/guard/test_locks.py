"""Locks, as an operator sees and ends them."""

from dataclasses import replace
from typing import Any

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import (
    UNLOCK_REQUEST_VALID_S,
    Attempt,
    Disabled,
    Ledger,
    Locked,
    Open,
    Rule,
    Unlocked,
    UnlockRequest,
)
from ivrguard.guard import books, locks
from ivrguard.guard.locks import Seen
from ivrguard.keyring import Keyring
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.memory import MemoryStore

Centre = Any
Line = Any

ACCOUNT = "123456789"
STRANGER = "+15559870002"
WRONG = "11112229"
NOW = 1_790_000_000_000


async def keep(store: MemoryStore, name: str, ledger: Ledger, rank: int | None = None) -> None:
    """A ledger in the store."""
    key = books.ledger_key(name)
    await store.amend([key], lambda _: Change(None, (Put(key, ledger, None, rank),)))


def asked(by: str = "ann", at_ms: int = NOW) -> UnlockRequest:
    """Somebody wants a lock ended."""
    return UnlockRequest(by, "the owner called", at_ms)


async def locked_out(centre: Centre) -> Line:
    """Five wrong PINs, in two calls."""
    line = centre.line(STRANGER)
    for count in (3, 2):
        line = centre.line(STRANGER)
        await line.dial()
        await line.press(f"{ACCOUNT}#")
        for _ in range(count):
            await line.press(WRONG)
    return line


async def test_what_guessers_locked_is_listed_and_unlocked(centre: Centre, keys: Keyring, flow: Flow):
    """From a real lockout to the list, to the unlock, to a call that goes through again; all of it on record."""
    line = await locked_out(centre)
    until = centre.clock() + 1800 * 1000
    seen = Seen(f"{ACCOUNT}/pin/pool", ACCOUNT, "pin", "pool", Locked(until), 5)
    store, flows, now = centre.store.store, (flow,), centre.clock()

    assert await locks.locked_now(store, flows, now) == (seen,)
    assert await locks.of_account(store, flows, ACCOUNT, now) == (seen,)
    assert await locks.unlock(store, keys, flows, ACCOUNT, asked(at_ms=now)) == (
        (f"{ACCOUNT}/pin/pool", Unlocked.UNLOCKED),
    )

    assert await locks.locked_now(store, flows, now) == ()
    entry = (await centre.record())[-1]
    assert (entry.event, entry.reason, entry.account) == (
        "authn_login_unlock",
        "unlocked",
        keys.pseudonym("account", ACCOUNT),
    )
    assert dict(entry.detail) == {"by": "ann", "because": "the owner called", "factor": "pin"}
    await line.press("24681357")
    assert line.outcome == "forwarded"


async def test_an_unlock_is_idempotent(keys: Keyring, flow: Flow):
    """What is open stays as it is, and nothing goes on record; an account nobody counted has nothing to unlock."""
    store = MemoryStore()
    ledger = Ledger((Attempt("a", NOW),), run=1)
    await keep(store, f"{ACCOUNT}/pin/pool", ledger)

    outcomes = await locks.unlock(store, keys, (flow,), ACCOUNT, asked())

    assert outcomes == ((f"{ACCOUNT}/pin/pool", Unlocked.NOT_LOCKED),)
    assert await locks.unlock(store, keys, (flow,), "999999999", asked()) == ()
    assert await store.read(books.ledger_key(f"{ACCOUNT}/pin/pool")) == ledger
    assert await store.entries() == []


async def test_what_no_time_ends_takes_two_people(keys: Keyring, flow: Flow):
    """The first one's word waits for a day; the same person twice is one person; a second one ends it."""
    store, name = MemoryStore(), f"{ACCOUNT}/pin/pool"
    await keep(store, name, Ledger(run=100), books.NEVER_MS)
    assert [one.standing for one in await locks.locked_now(store, (flow,), NOW)] == [Disabled()]
    waiting: Key[UnlockRequest] = Key("unlock", name)
    day = UNLOCK_REQUEST_VALID_S * 1000
    steps = []
    for by, at_ms in (("ann", NOW), ("ann", NOW + 1), ("bob", NOW + 1 + day), ("ann", NOW + 2 + day)):
        [(_, outcome)] = await locks.unlock(store, keys, (flow,), ACCOUNT, asked(by, at_ms))
        steps.append((outcome, (await store.read(waiting) or asked("-")).by))

    needs, done = Unlocked.NEEDS_SECOND, Unlocked.UNLOCKED
    assert steps == [(needs, "ann"), (needs, "ann"), (needs, "bob"), (done, "-")]
    assert await store.read(books.ledger_key(name)) == Ledger()
    reasons = [linked.entry.reason for linked in await store.entries()]
    assert reasons == [needs] * 3 + [done]


async def test_a_waiting_word_expires(keys: Keyring, flow: Flow):
    """It may be swept after a day."""
    store, name = MemoryStore(), f"{ACCOUNT}/pin/pool"
    await keep(store, name, Ledger(run=100))
    await locks.unlock(store, keys, (flow,), ACCOUNT, asked())
    assert store._rows[Key("unlock", name)].expires_ms == NOW + UNLOCK_REQUEST_VALID_S * 1000


async def test_a_ledger_swept_meanwhile_is_open(keys: Keyring, flow: Flow):
    """Between the list and the act it went: nothing to unlock, nothing on record."""
    store, name = MemoryStore(), f"{ACCOUNT}/pin/pool"
    assert await locks._unlock(store, (flow,), name, "ref", asked()) is Unlocked.NOT_LOCKED
    assert await store.entries() == []


async def test_every_ledger_of_an_account_is_found(
    keys: Keyring, flow: Flow, monkeypatch: pytest.MonkeyPatch
):
    """However many pages; a trusted lane does not show its number; another account's ledgers are not among them."""
    monkeypatch.setattr(locks, "LEDGERS_A_PAGE", 2)
    store = MemoryStore()
    names = [f"{ACCOUNT}/pin/+1555000000{digit}" for digit in range(5)] + [f"{ACCOUNT}/pin/pool"]
    for name in (*names, f"{ACCOUNT}0/pin/pool", "number/+15550000000"):
        await keep(store, name, Ledger(run=1))

    seen = await locks.of_account(store, (flow,), ACCOUNT, NOW)

    assert [one.id for one in seen] == names
    assert [(one.account, one.factor, one.lane) for one in seen] == [(ACCOUNT, "pin", "trusted")] * 5 + [
        (ACCOUNT, "pin", "pool")
    ]
    assert len(await locks.unlock(store, keys, (flow,), ACCOUNT, asked())) == 6


async def test_a_callers_number_has_a_lock_of_its_own(flow: Flow):
    """It is listed by the number; what has opened again is not listed."""
    store, number = MemoryStore(), "number/+15559870002"
    full = Ledger(tuple(Attempt(str(n), NOW) for n in range(20)), run=20)
    await keep(store, number, full, NOW + 3600 * 1000)
    await keep(store, f"{ACCOUNT}/pin/pool", Ledger(run=5), NOW + 5)  # ranked, but no longer locked

    assert await locks.locked_now(store, (flow,), NOW + 5, limit=1) == (
        Seen(number, "+15559870002", "", "", Locked(NOW + 3600 * 1000), 20),
    )
    assert await locks.locked_now(store, (flow,), NOW + 3600 * 1000) == ()


def test_flows_share_accounts_so_the_strictest_rule_counts(flow: Flow):
    """Fewest failures, and of two such the longer window; without a rule for numbers, a careful one."""
    lax = Rule(9, 60, (60,))
    wide = Rule(5, 7200, (60,))
    flows = tuple(
        replace(flow, locks=replace(flow.locks, account=rule)) for rule in (lax, flow.locks.account, wide)
    )
    silent = (replace(flow, locks=replace(flow.locks, caller_number=None)),)

    assert locks.rule_of(flows, f"{ACCOUNT}/pin/pool") == wide
    assert locks.rule_of(flows, "number/+15559870002") == flow.locks.caller_number
    assert locks.rule_of(silent, "number/+15559870002") == Rule(5, 3600, (1800,))


# ── enrolled anew ────────────────────────────────────────────────────────────────────────────────────────

OTHER = "555000111"


async def counted(store: MemoryStore) -> dict[str, Ledger]:
    """Ledgers of two accounts, some of them disabled; by name."""
    ledgers = {
        f"{ACCOUNT}/pin/pool": Ledger(run=100),
        f"{ACCOUNT}/pin/+15550000001": Ledger((Attempt("a", NOW),), steps=1, run=7),
        f"{ACCOUNT}/totp/pool": Ledger(run=100),
        f"{OTHER}/pin/pool": Ledger(run=100),
        f"{OTHER}0/pin/pool": Ledger(run=100),
        "number/+15550000001": Ledger(run=3),
    }
    for name, ledger in ledgers.items():
        await keep(store, name, ledger, books.NEVER_MS if ledger.run == 100 else None)
    return ledgers


async def kept(store: MemoryStore) -> dict[str, Any]:
    return {one.id: one.value for one in await store.list("ledger")}


async def test_a_pin_enrolled_anew_is_open_in_every_lane(keys: Keyring, flow: Flow):
    """That account's and that kind's alone; on record; how it was before is told; again is not twice."""
    store = MemoryStore()
    before = await counted(store)
    about: Any = {"by": "ann", "now_ms": NOW}

    seen = await locks.enrolled_anew(store, keys, (flow,), Kind.PIN, (ACCOUNT,), **about)

    assert [(one.lane, type(one.standing)) for one in seen] == [("trusted", Open), ("pool", Disabled)]
    after = {
        f"{ACCOUNT}/pin/pool": Ledger(),
        f"{ACCOUNT}/pin/+15550000001": Ledger((Attempt("a", NOW),), steps=1, run=1),
    }
    assert await kept(store) == {**before, **after}
    assert [one.account for one in await locks.locked_now(store, (flow,), NOW)] == [
        ACCOUNT,
        OTHER,
        f"{OTHER}0",
    ]
    entries = [linked.entry for linked in await store.entries()]
    assert [(one.event, one.reason, one.detail) for one in entries] == [
        ("authn_login_unlock", "enrolled_anew", (("by", "ann"), ("factor", "pin")))
    ] * 2
    await locks.enrolled_anew(store, keys, (flow,), Kind.PIN, (ACCOUNT,), **about)
    assert len(await store.entries()) == 2


async def test_many_accounts_enrolled_anew(keys: Keyring, flow: Flow, monkeypatch: pytest.MonkeyPatch):
    """As after an import: page by page, whoever is among them, and no prefix of one."""
    monkeypatch.setattr(locks, "LEDGERS_A_PAGE", 2)
    store = MemoryStore()
    before = await counted(store)
    await locks.enrolled_anew(store, keys, (flow,), Kind.PIN, {OTHER, "1"}, by="ann", now_ms=NOW)
    assert await kept(store) == {**before, f"{OTHER}/pin/pool": Ledger()}


async def test_a_ledger_swept_before_it_is_counted_anew(keys: Keyring, flow: Flow):
    """Between the list and the act it went: nothing changes, nothing goes on record."""
    store, seen = MemoryStore(), Seen(f"{ACCOUNT}/pin/pool", ACCOUNT, "pin", "pool", Disabled(), 100)
    await locks._begin_anew(store, (flow,), seen, "ref", "ann", NOW)
    assert (await kept(store), await store.entries()) == ({}, [])
