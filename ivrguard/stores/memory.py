"""
The store in memory: for the demo, the telephone and tests. All is gone when the process ends.

The laws of this file:

1. The same bytes as in the other stores (stores/codec.py): what works here works there.
2. An amendment runs from start to end without waiting for anything, so on one event loop it is indivisible.
3. Bounded: at its most values or entries it refuses new ones with a fault; it forgets none.
4. No full scans: ids, ranks and expiries are kept in sorted lists, and found by bisection.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ivrguard.core.audit import GENESIS, Linked
from ivrguard.core.errors import StoreFault
from ivrguard.ports import Change, Key, Listed
from ivrguard.stores import codec
from ivrguard.stores.codec import Row

T = TypeVar("T")
Result = TypeVar("Result")

VALUES_MAX = 100_000
"""Values of all kinds together: about 100 MB of calls."""

ENTRIES_MAX = 200_000
"""Audit entries: about 100 MB. A record that forgets is none, so beyond it nothing is decided any more."""


class MemoryStore:
    """A `ports.Store` for one event loop. `values_max` and `entries_max`: where it begins to refuse."""

    def __init__(self, *, values_max: int = VALUES_MAX, entries_max: int = ENTRIES_MAX) -> None:
        self._values_max = values_max
        self._entries_max = entries_max
        self._rows: dict[Key[object], Row] = {}
        self._ids: dict[str, list[str]] = {kind: [] for kind in codec.TYPES}
        self._ranks: dict[str, list[tuple[int, str]]] = {kind: [] for kind in codec.TYPES}
        self._expiries: list[tuple[int, str, str]] = []
        self._entries: list[tuple[bytes, str]] = []
        self._pruned = 0
        self._head = (0, GENESIS)
        self._closed = False

    async def read(self, key: Key[T]) -> T | None:
        """See `ports.Store.read`."""
        codec.check_name(key.kind, key.id)
        self._refuse_if_closed()
        data = self._data(key)
        return None if data is None else codec.decode(key, data)

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """See `ports.Store.amend`. `change` runs here and now, once."""
        for key in keys:
            codec.check_name(key.kind, key.id)
        self._refuse_if_closed()
        done = codec.amended({key: self._data(key) for key in keys}, change, self._head)
        self._refuse_beyond_bounds(done)
        for key, row in done.rows.items():
            self._drop(key)
            if row is not None:
                self._keep(row)
        for linked in done.links:
            self._entries.append((codec.encode_entry(linked), linked.hash))
            self._head = (linked.seq, linked.hash)
        return done.result

    async def list(
        self, kind: str, *, prefix: str = "", after: str = "", rank_from: int | None = None, limit: int = 100
    ) -> Sequence[Listed]:
        """See `ports.Store.list`."""
        codec.check_name(kind, prefix + after)
        codec.check_integers(rank_from)
        codec.check_limit(limit)
        self._refuse_if_closed()
        if rank_from is not None:
            ranks = self._ranks[kind]
            start = bisect_left(ranks, (rank_from, ""))
            found = [id_ for _, id_ in ranks[start : start + limit]]
        else:
            ids = self._ids[kind]
            start = max(bisect_left(ids, prefix), bisect_right(ids, after))
            found = [id_ for id_ in ids[start : start + limit] if id_.startswith(prefix)]
        rows = [self._rows[Key(kind, id_)] for id_ in found]
        return [Listed(row.key.id, codec.decode(row.key, row.data), row.rank) for row in rows]

    async def entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[Linked]:
        """See `ports.Store.entries`."""
        codec.check_integers(after)
        codec.check_limit(limit)
        self._refuse_if_closed()
        start = max(after - self._pruned, 0)
        page = self._entries[start : start + limit]
        first = self._pruned + start + 1
        return [codec.decode_entry(seq, data, hash_) for seq, (data, hash_) in enumerate(page, first)]

    async def head(self) -> tuple[int, str]:
        """See `ports.Store.head`."""
        self._refuse_if_closed()
        return self._head

    async def prune(self, upto: int, *, limit: int = 1000) -> int:
        """See `ports.Store.prune`."""
        codec.check_integers(upto)
        codec.check_limit(limit)
        self._refuse_if_closed()
        count = max(0, min(limit, upto - self._pruned, len(self._entries) - 1))
        del self._entries[:count]
        self._pruned += count
        return count

    async def sweep(self, now_ms: int, *, limit: int = 1000) -> int:
        """See `ports.Store.sweep`. The longest expired go first."""
        codec.check_integers(now_ms)
        codec.check_limit(limit)
        self._refuse_if_closed()
        expired = self._expiries[: min(limit, bisect_left(self._expiries, (now_ms, "", "")))]
        for _, kind, id_ in expired:
            self._drop(Key(kind, id_))
        return len(expired)

    async def clock_ms(self) -> int | None:
        """See `ports.Store.clock_ms`."""
        return None

    async def close(self) -> None:
        """See `ports.Store.close`: later calls are refused with a fault."""
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreFault("the memory store is closed")

    def _refuse_beyond_bounds(self, done: codec.Amended[Any]) -> None:
        grown = sum((row is not None) - (key in self._rows) for key, row in done.rows.items())
        if grown > 0 and len(self._rows) + grown > self._values_max:
            raise StoreFault(
                f"the memory store is full ({self._values_max} values): use SQLite for this many"
            )
        if done.links and len(self._entries) + len(done.links) > self._entries_max:
            raise StoreFault(
                f"the memory store is full ({self._entries_max} audit entries): use SQLite for this many"
            )

    def _data(self, key: Key[Any]) -> bytes | None:
        row = self._rows.get(key)
        return None if row is None else row.data

    def _keep(self, row: Row) -> None:
        kind, id_ = row.key.kind, row.key.id
        self._rows[row.key] = row
        insort(self._ids[kind], id_)
        if row.rank is not None:
            insort(self._ranks[kind], (row.rank, id_))
        if row.expires_ms is not None:
            insort(self._expiries, (row.expires_ms, kind, id_))

    def _drop(self, key: Key[object]) -> None:
        row = self._rows.pop(key, None)
        if row is None:
            return
        _remove(self._ids[key.kind], key.id)
        if row.rank is not None:
            _remove(self._ranks[key.kind], (row.rank, key.id))
        if row.expires_ms is not None:
            _remove(self._expiries, (row.expires_ms, key.kind, key.id))


def _remove(ordered: list[Any], item: object) -> None:
    """Take out an item that a sorted list holds."""
    del ordered[bisect_left(ordered, item)]
