"""
The law of `ports.Store`, on every store there is: the same tests, the same answers.

A new store is one more name in conftest.py.
"""

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ivrguard.core.audit import GENESIS, Entry, verify
from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Ledger
from ivrguard.ports import Account, Change, Key, Listed, Put
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.postgres import PostgresStore
from ivrguard.stores.sqlite import SqliteStore

A, B, C = (Key("ledger", name) for name in ("acct-a", "acct-b", "acct-c"))
NUMBER = Key("number", "+18005550123")


def entry(reason):
    return Entry(1_795_000_000_000, "authn_login_fail", reason=reason)


def putting(*puts, entries=(), result=None):
    """A change that decides the same whatever it reads."""
    return lambda _values: Change(result, puts, entries)


def counting(key, reason="counted"):
    """A change that counts one more, and says so on record; its result is the new count."""

    def change(values):
        run = (values[key] or Ledger()).run + 1
        return Change(run, (Put(key, Ledger(run=run)),), (entry(f"{reason} {run}"),))

    return change


async def fill(store, *names, kind="number"):
    """Values under these ids, whose content is their id."""
    keys = [Key(kind, name) for name in names]
    await store.amend(keys, putting(*(Put(key, (key.id,)) for key in keys)))


async def ids(store, kind="number", **arguments):
    return [one.id for one in await store.list(kind, **arguments)]


async def reasons(store):
    return [linked.entry.reason for linked in await store.entries()]


async def assert_untouched(store):
    """Neither value nor entry: as if nothing had been asked for."""
    assert [await store.read(key) for key in (A, B, C)] == [None, None, None]
    assert await store.head() == (0, GENESIS)
    assert await store.entries() == []


# ── reading and amending ─────────────────────────────────────────────────────────────────────────────────


async def test_what_was_amended_is_read(store):
    """A read sees every amendment that has returned, and the amendment's result comes back."""
    assert await store.read(A) is None
    for run in range(1, 20):
        assert run == await store.amend([A], counting(A))
        assert Ledger(run=run) == await store.read(A)


async def test_a_change_sees_what_is_there_and_none_for_what_is_not(store):
    """The mapping has each key that was asked for, read at one moment."""
    await store.amend([A, NUMBER], putting(Put(A, Ledger(run=3)), Put(NUMBER, ("acct-a",))))
    seen = await store.amend([A, B, NUMBER, A], lambda values: Change(dict(values)))
    assert {A: Ledger(run=3), B: None, NUMBER: ("acct-a",)} == seen


async def test_several_values_and_their_entries_are_one_act(store):
    """All of it is there afterwards."""
    puts = (Put(A, Ledger(run=1)), Put(B, Ledger(run=2)), Put(NUMBER, ("acct-a", "acct-b")))
    assert (
        await store.amend([A, B, NUMBER], putting(*puts, entries=(entry("1"), entry("2")), result="told"))
        == "told"
    )
    assert [Ledger(run=1), Ledger(run=2), ("acct-a", "acct-b")] == [
        await store.read(key) for key in (A, B, NUMBER)
    ]
    assert await reasons(store) == ["1", "2"]


async def test_a_change_that_raises_changes_nothing_and_its_exception_comes_out(store):
    """Not a fault of the store: the very exception."""
    error = LookupError("no such flow")

    def change(_values):
        raise error

    with pytest.raises(LookupError) as caught:
        await store.amend([A], change)
    assert error is caught.value
    await assert_untouched(store)


async def test_a_change_that_stops_iteration_does_not_hang_its_caller(store):
    """`next()` on nothing in a change: Python turns it into RuntimeError on its way out, never into silence."""
    with pytest.raises(RuntimeError):
        await store.amend([A], lambda _values: next(iter(())))
    await assert_untouched(store)


@pytest.mark.parametrize(
    ("puts", "entries", "fault"),
    [
        ((Put(A, Ledger()), Put(C, Ledger())), (entry("x"),), ValueError),
        ((Put(A, Ledger()), Put(C, None)), (entry("x"),), ValueError),
        ((Put(A, Ledger()), Put(A, Ledger(run=1))), (entry("x"),), ValueError),
        ((Put(A, Ledger()), Put(B, Ledger(), rank=2**64)), (entry("x"),), ValueError),
        ((Put(A, Ledger()), Put(B, ("not", "a", "ledger"))), (entry("x"),), StoreFault),
        ((Put(A, Ledger()), Put(B, Account("acct-b"))), (entry("x"),), StoreFault),
        ((Put(A, Ledger()),), (entry("x"), entry("\ud800")), StoreFault),
    ],
)
async def test_what_cannot_be_kept_changes_nothing(store, puts, entries, fault):
    """A put of a key that was not read, one key twice, a value of another type: refused with all that came along."""
    with pytest.raises(fault):
        await store.amend([A, B], putting(*puts, entries=entries))
    await assert_untouched(store)


async def test_after_a_refused_amendment_the_store_goes_on(store):
    """The next amendment is as if the refused one had never been."""
    with pytest.raises(ValueError):
        await store.amend([A], putting(Put(B, Ledger()), entries=(entry("lost"),)))
    assert await store.amend([A], counting(A)) == 1
    assert await reasons(store) == ["counted 1"]


async def test_an_amendment_may_put_nothing_or_only_go_on_record(store):
    """A refusal changes no state and leaves its entry; a question leaves nothing."""
    assert await store.amend([A], putting(result=7)) == 7
    assert await store.amend([], putting(entries=(entry("refused"),), result=8)) == 8
    assert await reasons(store) == ["refused"]
    assert await store.read(A) is None


async def test_none_deletes(store):
    """A deleted value is gone from reads and every list; deleting what is not there is no fault."""
    await store.amend(
        [A, B], putting(Put(A, Ledger(), expires_ms=1, rank=1), Put(B, Ledger(), expires_ms=1, rank=1))
    )
    await store.amend([A, C], putting(Put(A, None), Put(C, None)))
    assert await store.read(A) is None
    assert await ids(store, "ledger") == ["acct-b"]
    assert await ids(store, "ledger", rank_from=0) == ["acct-b"]
    assert await store.sweep(2) == 1


def test_empty_ids_are_refused():
    """A key that names nobody would be everybody's."""
    with pytest.raises(ValueError):
        Key("ledger", "")


@pytest.mark.parametrize("key", [Key("ledgers", "a"), Key("", "a"), Key("ledger", "\ud800")])
async def test_unknown_kinds_and_ids_that_are_no_text_are_refused(store, key):
    """By reading and amending alike, before anything else."""
    with pytest.raises(ValueError):
        await store.read(key)
    with pytest.raises(ValueError):
        await store.amend([A, key], putting(Put(A, Ledger())))
    with pytest.raises(ValueError):
        await store.list(key.kind, prefix=key.id)
    await assert_untouched(store)


async def test_kinds_are_apart(store):
    """One id in two kinds is two values."""
    ledger, number = Key("ledger", "1"), Key("number", "1")
    await store.amend([ledger, number], putting(Put(ledger, Ledger(run=1)), Put(number, ("x",))))
    await store.amend([ledger], putting(Put(ledger, None)))
    assert await store.read(number) == ("x",)


@pytest.mark.parametrize(
    "id_", ["a\0b", "ü", "\U0001f4de", "a/b c'\"", "x" * 5000, "%_*?", "\uffff", "\ue000"]
)
async def test_ids_are_any_text(store, id_):
    """Not shortened, folded or taken for a pattern."""
    await fill(store, id_, "neighbour")
    assert (id_,) == await store.read(Key("number", id_))
    assert [id_] == await ids(store, prefix=id_)


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────


async def test_fifty_at_once_on_one_key_lose_no_update(store):
    """Each sees the one before it: fifty results, fifty entries, and a chain that holds."""
    runs = await asyncio.gather(*(store.amend([A], counting(A)) for _ in range(50)))
    assert list(range(1, 51)) == sorted(runs)
    assert Ledger(run=50) == await store.read(A)
    assert [f"counted {run}" for run in range(1, 51)] == await reasons(store)
    assert verify(await store.entries(), head=await store.head()) == 50


async def test_at_once_some_that_raise_and_some_that_do_not(store):
    """Those that raise take nothing along and nobody down."""

    def refused(_values):
        raise LookupError

    changes = [counting(A) if number % 3 else refused for number in range(60)]
    outcomes = await asyncio.gather(*(store.amend([A], change) for change in changes), return_exceptions=True)
    assert sum(isinstance(outcome, LookupError) for outcome in outcomes) == 20
    assert Ledger(run=40) == await store.read(A)
    assert verify(await store.entries(), head=await store.head()) == 40


async def test_two_values_move_together_whoever_looks(store):
    """What one amendment puts is never seen in part, by amendments or by lists, while others write."""
    await store.amend([A, B], putting(Put(A, Ledger(run=500)), Put(B, Ledger(run=500))))

    def move(values):
        return Change(None, (Put(A, Ledger(run=values[A].run - 1)), Put(B, Ledger(run=values[B].run + 1))))

    def look(values):
        return Change(values[A].run + values[B].run)

    async def listed():
        return sum(one.value.run for one in await store.list("ledger"))

    moves = [store.amend([A, B], move) for _ in range(60)]
    looks = [store.amend([A, B], look) for _ in range(20)]
    lists = [listed() for _ in range(20)]
    outcomes = await asyncio.gather(*moves, *looks, *lists)
    assert {None, 1000} == set(outcomes)
    assert Ledger(run=440) == await store.read(A)


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────


async def test_entries_come_in_order_and_page_by_page(store):
    """Numbers from 1 without a gap; `after` and `limit` cut pages that verify one behind the other."""
    for number in range(5):
        await store.amend([A], putting(entries=(entry(f"{number} first"), entry(f"{number} second"))))
    chain = await store.entries()
    assert list(range(1, 11)) == [linked.seq for linked in chain]
    assert [f"{number} {which}" for number in range(5) for which in ("first", "second")] == await reasons(
        store
    )
    assert chain[3:7] == await store.entries(after=3, limit=4)
    assert chain == await store.entries(after=-5)
    assert await store.entries(after=10) == []
    assert (10, chain[-1].hash) == await store.head()
    assert verify(await store.entries(after=3), seq=3, hash_=chain[2].hash, head=await store.head()) == 7


async def test_the_record_begins_empty(store):
    """Number 0 and the hash before all others."""
    assert await store.head() == (0, GENESIS)
    assert verify(await store.entries(), head=await store.head()) == 0


async def fill_record(store, count):
    for number in range(1, count + 1):
        await store.amend([], putting(entries=(entry(str(number)),)))


async def numbers(store, **arguments):
    return [linked.seq for linked in await store.entries(**arguments)]


async def test_pruning_takes_from_the_front_and_leaves_the_rest_as_it_was(store):
    """Oldest first, in pieces; numbers, hashes and head stay, and the chain goes on behind them."""
    await fill_record(store, 10)
    chain, head = await store.entries(), await store.head()
    assert await store.prune(6, limit=4) == 4
    assert await store.entries() == chain[4:]
    assert await store.prune(6, limit=4) == 2
    assert [await store.prune(6), await store.prune(0), await store.prune(-1)] == [0, 0, 0]
    assert (await store.entries(), await store.head()) == (chain[6:], head)
    assert await numbers(store, after=3, limit=2) == [7, 8]
    assert await numbers(store, after=8) == [9, 10]
    await fill_record(store, 2)
    assert await numbers(store) == [7, 8, 9, 10, 11, 12]
    assert verify(await store.entries(), seq=6, hash_=chain[5].hash, head=await store.head()) == 6


async def test_pruning_leaves_the_last_entry(store):
    """A record is never empty again once something was decided."""
    await store.prune(5)
    await fill_record(store, 3)
    assert await store.prune(2**62) == 2
    assert await numbers(store) == [3]
    assert await store.prune(3) == 0


async def test_pruning_among_amendments_is_one_of_them(store):
    """What an amendment before it recorded, it takes."""
    await fill_record(store, 2)
    outcomes = await asyncio.gather(
        store.amend([], putting(entries=(entry("3"),))), store.prune(3), store.amend([A], counting(A))
    )
    assert outcomes == [None, 2, 1]
    assert await reasons(store) == ["3", "counted 1"]


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("a", "a-1", "a-2", "a-3", "aa", "b", "b-1", "é", "\ue000", "\U0001f4de")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, NAMES),
        ({"prefix": "a"}, NAMES[:5]),
        ({"prefix": "a-"}, NAMES[1:4]),
        ({"prefix": "a-", "after": "a-1"}, NAMES[2:4]),
        ({"prefix": "a-", "after": "a-15"}, NAMES[2:4]),
        ({"prefix": "a-", "after": "a-3"}, ()),
        ({"prefix": "a-", "after": "b"}, ()),
        ({"prefix": "b", "after": "a"}, NAMES[5:7]),
        ({"prefix": "b", "after": "b"}, NAMES[6:7]),
        ({"after": "b"}, NAMES[6:]),
        ({"prefix": "c"}, ()),
        ({"prefix": "\U0001f4de"}, NAMES[9:]),
        ({"limit": 3}, NAMES[:3]),
        ({"prefix": "a-", "limit": 2}, NAMES[1:3]),
        ({"prefix": "a-", "after": "a-1", "limit": 1}, NAMES[2:3]),
        ({"after": "\U0010ffff"}, ()),
    ],
)
async def test_a_list_by_id(store, arguments, expected):
    """Ids that begin with `prefix` and come after `after`, in order of their code points, up to `limit`."""
    await fill(store, *reversed(NAMES))
    await store.amend([A], counting(A))  # another kind, which no list of this one shows
    assert [Listed(name, (name,), None) for name in expected] == await store.list("number", **arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rank_from": -(2**63) + 1}, ["d", "b", "c", "a"]),
        ({"rank_from": -4}, ["b", "c", "a"]),
        ({"rank_from": 2}, ["b", "c", "a"]),
        ({"rank_from": 3}, ["a"]),
        ({"rank_from": 10}, []),
        ({"rank_from": 2, "limit": 1}, ["b"]),
        ({"rank_from": 2, "prefix": "c", "after": "c"}, ["b", "c", "a"]),
    ],
)
async def test_a_list_by_rank(store, arguments, expected):
    """Those of this rank or more, lowest first, then by id; who has no rank is not in it; `after` does not apply."""
    ranks = {"a": 9, "b": 2, "c": 2, "d": -5, "e": None}
    keys = {name: Key("number", name) for name in ranks}
    await store.amend(
        list(keys.values()), putting(*(Put(keys[name], (name,), rank=rank) for name, rank in ranks.items()))
    )
    assert [Listed(name, (name,), ranks[name]) for name in expected] == await store.list(
        "number", **arguments
    )
    assert [one.rank for one in await store.list("number", prefix="e")] == [None]


async def test_a_put_gives_rank_and_expiry_anew(store):
    """They belong to the put, not to the key: a put without them takes them away."""
    await store.amend([A], putting(Put(A, Ledger(), expires_ms=5, rank=1)))
    await store.amend([A], putting(Put(A, Ledger(run=1), rank=7)))
    assert [one for one in await store.list("ledger", rank_from=0) if one.rank != 7] == []
    assert await store.sweep(100) == 0
    await store.amend([A], putting(Put(A, Ledger(run=2), expires_ms=50)))
    assert await store.list("ledger", rank_from=0) == []
    assert await store.sweep(100) == 1


@pytest.mark.parametrize("limit", [0, -1, 2**63])
async def test_a_limit_is_one_or_more(store, limit):
    """No number means "all"."""
    for call in (
        store.list("ledger", limit=limit),
        store.entries(limit=limit),
        store.sweep(1, limit=limit),
        store.prune(1, limit=limit),
    ):
        with pytest.raises(ValueError):
            await call
    for call in (
        store.list("ledger", rank_from=2**63),
        store.entries(after=2**63),
        store.sweep(2**63),
        store.prune(2**63),
    ):
        with pytest.raises(ValueError):
            await call


# ── expiry ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_sweeping_takes_what_is_past_and_nothing_else(store):
    """At its very millisecond a value is not past yet; a value without expiry never is."""
    expiries = {"a": 999, "b": 1000, "c": 1001, "d": None, "e": -5}
    keys = {name: Key("number", name) for name in expiries}
    await store.amend(
        list(keys.values()),
        putting(*(Put(keys[name], (name,), expires_ms=at) for name, at in expiries.items())),
    )
    assert list("abcde") == await ids(store)  # what has expired is there until it is swept
    assert await store.read(keys["a"]) == ("a",)
    assert await store.sweep(1000) == 2
    assert list("bcd") == await ids(store)
    assert await store.sweep(1000) == 0
    assert await store.sweep(1001) == 1
    assert await store.sweep(2**62) == 1
    assert await ids(store) == ["d"]


async def test_sweeping_stops_at_its_limit_and_begins_with_the_oldest(store):
    """A heap of expired values is cleared in pieces, so that no amendment waits long."""
    keys = [Key("number", f"{number:02}") for number in range(10)]
    await store.amend(keys, putting(*(Put(key, (), expires_ms=100 - n) for n, key in enumerate(keys))))
    assert await store.sweep(1000, limit=4) == 4
    assert [f"{number:02}" for number in range(6)] == await ids(store)
    assert [await store.sweep(1000, limit=100), await store.sweep(1000)] == [6, 0]


async def test_sweeping_among_amendments_is_one_of_them(store):
    """What an amendment before it put, it sees; what one after it puts, it does not take."""
    outcomes = await asyncio.gather(
        store.amend([A], putting(Put(A, Ledger(run=1), expires_ms=5))),
        store.sweep(10),
        store.amend([A], lambda values: Change(values[A], (Put(A, Ledger(run=2), expires_ms=6),))),
        store.amend([A], lambda values: Change(values[A])),
    )
    assert [None, 1, None, Ledger(run=2)] == outcomes
    assert Ledger(run=2) == await store.read(A)


async def test_a_store_of_one_machine_has_that_machines_clock(store):
    """None; one that many share tells its own, in ms."""
    told = await store.clock_ms()
    assert told is None or 1_700_000_000_000 < told < 4_000_000_000_000


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_closed_store_refuses_everything(store):
    """With a fault that says why; closing again is no fault."""
    await store.close()
    await store.close()
    for call in (
        store.read(A),
        store.amend([A], counting(A)),
        store.list("ledger"),
        store.list("ledger", rank_from=1),
        store.entries(),
        store.head(),
        store.sweep(1),
        store.prune(1),
    ):
        with pytest.raises(StoreFault, match="closed"):
            await call


# ── any sequence of calls ────────────────────────────────────────────────────────────────────────────────

NAME = st.sampled_from(("a", "ab", "b", "ba"))
SMALL = st.integers(-2, 3)
PUT = st.tuples(NAME, st.none() | st.integers(0, 9), st.none() | SMALL, st.none() | SMALL)


class Against(RuleBasedStateMachine):
    """A store and a plain model of the law, asked the same, answer the same, whatever is asked in which order."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.values = {}
        self.record = []
        self.pruned = 0
        self.hashes = {}

    async def make(self):
        raise NotImplementedError

    @initialize()
    def begin(self):
        self.store = self.runner.run(self.make())

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(
        puts=st.lists(PUT, max_size=3, unique_by=lambda put: put[0]),
        said=st.lists(NAME, max_size=2),
        fails=st.booleans(),
    )
    def amend(self, puts, said, fails):
        keys = [Key("ledger", name) for name, *_ in puts]

        def change(values):
            assert {key: self.values[key.id][0] if key.id in self.values else None for key in keys} == values
            if fails:
                raise LookupError
            decided = tuple(
                Put(key, None if run is None else Ledger(run=run), expires_ms=expires, rank=rank)
                for key, (_, run, expires, rank) in zip(keys, puts, strict=True)
            )
            return Change(len(puts), decided, tuple(entry(reason) for reason in said))

        async def go():
            if fails:
                with pytest.raises(LookupError):
                    await self.store.amend(keys, change)
            else:
                assert len(puts) == await self.store.amend(keys, change)

        self.runner.run(go())
        if not fails:
            self.record += said
            for name, run, expires, rank in puts:
                self.values.pop(name, None)
                if run is not None:
                    self.values[name] = (Ledger(run=run), expires, rank)

    @rule(now=SMALL, limit=st.integers(1, 3))
    def sweep(self, now, limit):
        expired = sorted(
            (expires, name)
            for name, (_, expires, _) in self.values.items()
            if expires is not None and expires < now
        )
        assert min(limit, len(expired)) == self.runner.run(self.store.sweep(now, limit=limit))
        left = {one.id for one in self.runner.run(self.store.list("ledger"))}
        gone = [expires for expires, name in expired if name not in left]
        assert [
            expires for expires, _ in expired[:limit]
        ] == gone  # which of two equally old ones is left open
        self.values = {
            name: value for name, value in self.values.items() if name in left or value[1] not in gone
        }

    @rule(prefix=st.sampled_from(("", "a", "b", "c")), after=st.just("") | NAME, limit=st.integers(1, 4))
    def list_by_id(self, prefix, after, limit):
        names = [name for name in sorted(self.values) if name.startswith(prefix) and name > after][:limit]
        expected = [Listed(name, self.values[name][0], self.values[name][2]) for name in names]
        assert expected == self.runner.run(self.store.list("ledger", prefix=prefix, after=after, limit=limit))

    @rule(rank_from=SMALL, limit=st.integers(1, 4))
    def list_by_rank(self, rank_from, limit):
        ranked = sorted(
            (rank, name)
            for name, (_, _, rank) in self.values.items()
            if rank is not None and rank >= rank_from
        )
        expected = [Listed(name, self.values[name][0], rank) for rank, name in ranked[:limit]]
        assert expected == self.runner.run(self.store.list("ledger", rank_from=rank_from, limit=limit))

    @rule(after=st.integers(0, 5), limit=st.integers(1, 5))
    def page_of_entries(self, after, limit):
        page = self.runner.run(self.store.entries(after=after, limit=limit))
        after = max(after, self.pruned)
        assert self.record[after : after + limit] == [linked.entry.reason for linked in page]

    @rule(upto=st.integers(-1, 9), limit=st.integers(1, 3))
    def prune(self, upto, limit):
        count = max(0, min(upto, len(self.record) - 1) - self.pruned)
        assert min(count, limit) == self.runner.run(self.store.prune(upto, limit=limit))
        self.pruned += min(count, limit)

    @invariant()
    def everything_is_as_the_model_says(self):
        async def look():
            listed = await self.store.list("ledger")
            read = [await self.store.read(Key("ledger", name)) for name in sorted(self.values)]
            return listed, read, await self.store.entries(), await self.store.head()

        listed, read, chain, head = self.runner.run(look())
        assert [(name, *self.values[name][::2]) for name in sorted(self.values)] == [
            (one.id, one.value, one.rank) for one in listed
        ]
        assert [self.values[name][0] for name in sorted(self.values)] == read
        assert self.record[self.pruned :] == [linked.entry.reason for linked in chain]
        assert [linked.seq for linked in chain] == list(range(self.pruned + 1, len(self.record) + 1))
        for linked in chain:
            self.hashes.setdefault(linked.seq, linked.hash)
        before = self.hashes.get(self.pruned, GENESIS)
        assert len(self.record) - self.pruned == verify(chain, seq=self.pruned, hash_=before, head=head)


class AgainstMemory(Against):
    async def make(self):
        return MemoryStore()


class AgainstSqlite(Against):
    async def make(self):
        return await SqliteStore.open(self.folder / "guard.db", migrate=True)


TestMemory = AgainstMemory.TestCase
TestMemory.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestSqlite = AgainstSqlite.TestCase
TestSqlite.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_postgres(postgres):
    """The same machine, on tables that are emptied after each of its runs."""

    class AgainstPostgres(Against):
        async def make(self):
            self.url = postgres.url()
            return await PostgresStore.open(self.url, chance=secrets.token_bytes)

        def teardown(self):
            super().teardown()
            postgres.free(self.url)

    run_state_machine_as_test(AgainstPostgres, settings=TestSqlite.settings)
