"""What is forgotten when an account is erased, at once or by itself; and that it buys nobody a guess."""

from dataclasses import replace
from typing import Any

from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Ledger
from ivrguard.guard import books, erasure, locks
from ivrguard.ports import Account, Change, Put
from ivrguard.stores.memory import MemoryStore

Centre = Any

ACCOUNT, OWNER, PIN, WRONG = "123456789", "+15551230001", "24681357", "11112229"
HOUR_S = 3600


async def everything(store: Any) -> dict[str, str]:
    """Ids of all values in a memory store, with what they hold."""
    assert isinstance(store, MemoryStore)
    return {f"{key.kind} {key.id}": row.data.decode() for key, row in store._rows.items()}


async def erase(centre: Centre) -> None:
    """As `ivrguard accounts erase` does it."""
    directory = centre.node().world.directory
    await directory.erase(ACCOUNT, now_ms=centre.clock(), by="ann", because="asked")
    await erasure.forget(centre.store.store, (centre.flow,), ACCOUNT, centre.clock())


async def verified_and_guessed_at(centre: Centre) -> None:
    """The owner verifies from his own telephone, and strangers lock his PIN for everybody else."""
    await centre.verified(centre.line(extra=(("StirVerstat", "TN-Validation-Passed-A"),)))
    for count in (3, 2):
        line = centre.line("+15559870002")
        await line.dial()
        await line.press(f"{ACCOUNT}#")
        for _ in range(count):
            await line.press(WRONG)


async def test_after_the_time_told_nothing_names_the_person(centre: Centre):
    """Neither account nor telephone, in any value that is left; before, much does. The record has keyed hashes."""
    await verified_and_guessed_at(centre)
    store, flows = centre.store.store, (centre.flow,)
    before = await everything(store)
    assert f"trust {ACCOUNT}" in before

    await erase(centre)

    assert {f"account {ACCOUNT}", f"number {OWNER}", f"trust {ACCOUNT}"} & (
        await everything(store)
    ).keys() == set()
    centre.clock.advance(erasure.kept_s(flows) + 1)
    while await store.sweep(centre.clock()):
        pass
    assert [at for at in (await everything(store)).items() if ACCOUNT in str(at) or OWNER in str(at)] == []
    record = str([linked.entry for linked in await store.entries(limit=1000)])
    assert ACCOUNT not in record
    assert OWNER not in record


async def test_an_account_added_anew_is_no_fresh_guess(centre: Centre):
    """Locked it was, and locked it stays for as long: erasing is no way round the lock."""
    await verified_and_guessed_at(centre)
    store, flows = centre.store.store, (centre.flow,)
    (locked,) = await locks.locked_now(store, flows, centre.clock())

    await erase(centre)
    await centre.node().world.directory.add(Account(ACCOUNT), now_ms=centre.clock(), by="ann")

    assert await locks.locked_now(store, flows, centre.clock()) == (locked,)
    horizon_s = centre.flow.locks.account.horizon_s()
    centre.clock.advance(horizon_s - 1)
    await store.sweep(centre.clock())
    assert await locks.of_account(store, flows, ACCOUNT, centre.clock()) != ()
    centre.clock.advance(2)
    await store.sweep(centre.clock())
    assert await locks.of_account(store, flows, ACCOUNT, centre.clock()) == ()


async def test_again_is_harmless_and_takes_what_has_come_since(flow: Flow):
    """A call that was under way may leave something; an account that never was has nothing to forget."""
    store = MemoryStore()
    for _ in range(2):
        await erasure.forget(store, (flow,), ACCOUNT, 0)
    assert await everything(store) == {}
    key = books.ledger_key(f"{ACCOUNT}/pin/pool")
    put = Put(key, Ledger(run=1))
    await store.amend([key], lambda _: Change(None, (put,)))
    await erasure.forget(store, (flow,), ACCOUNT, 0)
    assert store._rows[key].expires_ms == flow.locks.account.horizon_s() * 1000


async def test_a_ledger_swept_meanwhile_does_not_come_back(flow: Flow):
    """Between the list and the act it went."""
    store = MemoryStore()
    await erasure._let_go(store, flow.locks.account, f"{ACCOUNT}/pin/pool", 0)
    assert await everything(store) == {}


def test_how_long_the_rest_is_kept(flow: Flow):
    """As long as the longest of: a lock that is counted, a hand-over behind a call, the codes that were sent."""
    assert erasure.kept_s(()) == 24 * HOUR_S
    assert erasure.kept_s((flow,)) == 25 * HOUR_S  # an hour that is counted, and then the longest lock
    locks_ = replace(flow.locks, account=replace(flow.locks.account, lock_s=(60,)))
    short = replace(flow, locks=locks_, token_valid_s=600)
    assert erasure.kept_s((short,)) == 24 * HOUR_S + 600
