"""What is the memory store's own: its bounds, and that it never looks through all it has."""

import pytest

from ivrguard.core.audit import Entry
from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.memory import MemoryStore

ENTRY = Entry(1, "authn_login_fail")


def putting(*puts, entries=()):
    return lambda _values: Change(None, puts, entries)


def key(number):
    return Key("ledger", f"acct-{number:04}")


async def test_beyond_its_values_it_refuses_and_forgets_none():
    """Rule 3: a new value is refused with a fault that says what to do; what is there can be replaced, or deleted."""
    store = MemoryStore(values_max=2)
    for number in (1, 2):
        await store.amend([key(number)], putting(Put(key(number), Ledger(run=1))))
    with pytest.raises(StoreFault, match=r"^the memory store is full \(2 values\): use SQLite"):
        await store.amend([key(3)], putting(Put(key(3), Ledger()), entries=(ENTRY,)))
    assert [Ledger(run=1), Ledger(run=1), None] == [await store.read(key(number)) for number in (1, 2, 3)]
    assert await store.entries() == []
    await store.amend([key(1)], putting(Put(key(1), Ledger(run=2))))
    await store.amend([key(2), key(3)], putting(Put(key(3), Ledger(run=3)), Put(key(2), None)))
    assert [Ledger(run=2), None, Ledger(run=3)] == [await store.read(key(number)) for number in (1, 2, 3)]


async def test_beyond_its_entries_it_refuses_to_decide():
    """Rule 3: a record that forgets is none. What leaves no record goes on."""
    store = MemoryStore(entries_max=3)
    await store.amend([key(1)], putting(entries=(ENTRY, ENTRY)))
    with pytest.raises(StoreFault, match=r"^the memory store is full \(3 audit entries\): use SQLite"):
        await store.amend([key(1)], putting(Put(key(1), Ledger()), entries=(ENTRY, ENTRY)))
    assert await store.read(key(1)) is None
    await store.amend([key(1)], putting(entries=(ENTRY,)))
    await store.amend([key(1)], putting(Put(key(1), Ledger())))
    assert len(await store.entries()) == 3


async def test_an_index_holds_a_value_once_however_often_it_is_put():
    """Rules 3 and 4: a call is put at every webhook, with a new expiry; the lists do not grow with that."""
    store = MemoryStore()
    for turn in range(100):
        await store.amend([key(1)], putting(Put(key(1), Ledger(), expires_ms=turn, rank=-turn)))
    assert store._expiries == [(99, "ledger", "acct-0001")]
    assert store._ranks["ledger"] == [(-99, "acct-0001")]
    assert store._ids["ledger"] == ["acct-0001"]


async def test_lists_and_sweeps_touch_what_they_return_and_no_more():
    """Rule 4: a page out of 2,000 values decodes as many as it holds; none is expired, none is looked at."""
    store = MemoryStore()
    keys = [key(number) for number in range(2000)]
    await store.amend(
        keys, putting(*(Put(one, Ledger(), expires_ms=10, rank=n) for n, one in enumerate(keys)))
    )

    class Watched(dict):
        touched = 0

        def __getitem__(self, one):
            Watched.touched += 1
            return super().__getitem__(one)

    store._rows = Watched(store._rows)
    assert len(await store.list("ledger", prefix="acct-1", after="acct-1500", limit=5)) == 5
    assert len(await store.list("ledger", rank_from=1990, limit=7)) == 7
    assert Watched.touched == 12
    assert await store.sweep(10) == 0
    assert Watched.touched == 12
