"""
The record outside the store: exported, archived, and then pruned.

1. What is exported is a piece of the chain without a gap: from an entry on, up to an entry. Of a time, it is the first entry
   of that time or later that ends a piece or begins one; clocks of nodes differ by seconds, and nothing is left out for it.
2. Nothing is pruned that is not in an archive: a file that was written whole, read back and verified, up to the very entry
   behind which the record begins from then on. That is signed (`begins`), and who did it is on record.
3. A crash in between loses nothing: the beginning moves in one act with its entry, entries go only after that, and what
   is left of them is no part of the record any more and goes with the next prune.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ivrguard.core.audit import Broken, Checkpoint, Entry, Linked, Place
from ivrguard.core.errors import RecordFault
from ivrguard.exports import files, jsonl
from ivrguard.guard.record import BEGINS, Signed, Signer, read, sign
from ivrguard.guard.verification import Bound, FileSource, StoreSource, Tell, untold, verify
from ivrguard.keyring import PublicKeys
from ivrguard.ports import Change, Key, Put, Store

Render = Callable[[str, str, Linked], bytes]
"""Makes a line of a chain's name, the hash before an entry, and the entry."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines, and the place in the chain that they lead to."""

    lines: bytes
    place: Place


async def signed_of(store: Store, public: PublicKeys) -> Mapping[int, Signed]:
    """The checkpoints that are kept, by number; none, where there is no key to read them with."""
    if not public.keys:
        return {}
    found = [read(public, token) for token in await StoreSource(store).tokens()]
    return {one.checkpoint.seq: one for one in found}


async def exported(
    store: Store,
    public: PublicKeys,
    *,
    since: Bound | None = None,
    until: Bound | None = None,
    render: Render = jsonl.entry_line,
    signed: Mapping[int, Signed] | None = None,
) -> AsyncIterator[Piece]:
    """
    The record from `since` (its entry, or the first of that time or later) up to `until` (that entry, or the last before
    the first one of that time or later), page by page. `signed`: checkpoints to put behind the entries that they sign.
    """
    source = StoreSource(store)
    chain, place = await source.begins(public)
    head = await store.head()
    place = await _before(store, place, head[0], since)
    last = head[0] if until is None or until.seq is None else min(until.seq, head[0])
    async for page in source.pages(place.seq, last):
        wanted = page if until is None or until.at_ms is None else _until(page, until.at_ms)
        place, lines = await asyncio.to_thread(_lines, chain, place, wanted, render, signed or {})
        if wanted:
            yield Piece(lines, place)
        if len(wanted) < len(page):
            return


async def _before(store: Store, begins: Place, last: int, since: Bound | None) -> Place:
    """The place behind which the piece begins."""
    if since is None:
        return begins
    seq = since.seq - 1 if since.seq is not None else await _last_before(store, begins.seq, last, since)
    if seq <= begins.seq:
        return begins
    found = await store.entries(after=seq - 1, limit=1)
    return Place(seq, found[0].hash) if found else Place(last)  # beyond the end: nothing comes


async def _last_before(store: Store, low: int, high: int, since: Bound) -> int:
    """
    The number of the last entry before a time, by halving.

    Times along a chain rise but for the differences of the nodes' clocks, so it may be off by what was recorded in
    these seconds: one more rather than one less.
    """
    assert since.at_ms is not None
    while low < high:
        middle = (low + high + 1) // 2
        found = await store.entries(after=middle - 1, limit=1)
        if found and found[0].entry.at_ms < since.at_ms:
            low = middle
        else:
            high = middle - 1
    return low


def _until(page: Sequence[Linked], at_ms: int) -> Sequence[Linked]:
    """Those before the first one of this time or later."""
    count = next((place for place, one in enumerate(page) if one.entry.at_ms >= at_ms), len(page))
    return page[:count]


def _lines(
    chain: str, place: Place, page: Sequence[Linked], render: Render, signed: Mapping[int, Signed]
) -> tuple[Place, bytes]:
    lines = []
    for linked in page:
        lines.append(render(chain, place.hash, linked))
        place = Place(linked.seq, linked.hash)
        if linked.seq in signed:
            one = signed[linked.seq]
            lines.append(jsonl.checkpoint_line(one.token, one.checkpoint))
    return place, b"".join(lines)


# ── a copy that grows ────────────────────────────────────────────────────────────────────────────────────


class Follower:
    """
    Appends what is recorded to a copy, from where the copy ends: all of it, for a new file. What is no file (a
    terminal, a pipe) gets what comes after the first time that it is followed.
    """

    def __init__(self, store: Store, public: PublicKeys, copy: files.Copy, render: Render) -> None:
        self._store = store
        self._public = public
        self._copy = copy
        self._render = render
        self._at: int | None = None

    async def catch_up(self) -> int:
        """
        Append everything that is not in the copy yet; how many entries that was.

        Raises `RecordFault` when it cannot be written, or holds another record, and `StoreFault`.
        """
        head = await self._store.head()
        if not self._copy.is_open:
            await asyncio.to_thread(self._copy.open)
            if self._copy.seq:
                self._at = self._copy.seq
            if self._at is None:
                self._at = 0 if self._copy.regular else head[0]
            await self._refuse_another()
        assert self._at is not None, "an open copy has a place"
        began = self._at
        if head[0] > self._at:
            async for piece in exported(
                self._store, self._public, since=Bound(self._at + 1), render=self._render
            ):
                await asyncio.to_thread(self._copy.append, piece.lines)
                self._at = piece.place.seq
        return self._at - began

    async def add(self, signed: Signed) -> None:
        """Append a checkpoint."""
        if self._copy.is_open:
            line = jsonl.checkpoint_line(signed.token, signed.checkpoint)
            await asyncio.to_thread(self._copy.append, line)

    def close(self) -> None:
        """Let go of the copy."""
        self._copy.close()

    async def _refuse_another(self) -> None:
        chain, _ = await StoreSource(self._store).begins(self._public)
        if self._copy.chain and chain != self._copy.chain:
            self._copy.close()
            raise RecordFault(f"{self._copy.path}: it is the copy of another record: name another file")


# ── what may go ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was archived and taken out: up to which entry, how many entries, and the archive's SHA-256."""

    upto: int
    count: int
    digest: str


async def prune(
    signer: Signer, before_ms: int, path: Path, *, now_ms: int, by: str, tell: Tell = untold
) -> Pruned | None:
    """
    Put the entries from before `before_ms` into a new file at `path`, and take them out; None if there are none.

    Raises `RecordFault` when the record does not hold, the file cannot be made, or another process prunes too; then
    nothing is taken out.
    """
    store, public = signer.store, signer.public
    before = await store.read(BEGINS)
    if before is not None:  # what a crash left
        await _take_out(store, read(public, before).checkpoint.seq)
    chain, start = await StoreSource(store).begins(public)
    head = await store.head()
    signed = await signed_of(store, public)
    archive = files.Archive(path)
    try:
        place = start
        async for piece in exported(store, public, until=Bound(at_ms=before_ms), signed=signed):
            await asyncio.to_thread(archive.write, piece.lines)
            place = piece.place
            tell(place.seq, head[0])
        if place == start:
            return None
        archive.flush()
        await _refuse_unlike(archive.part, public, start, place)
        last = sign(
            signer.keys, Checkpoint(chain, place.seq, place.hash, now_ms, begins=True), issuer=signer.issuer
        )
        archive.write(jsonl.checkpoint_line(last.token, last.checkpoint))
        digest = archive.flush()
        archive.finish()
    finally:
        archive.close()
    detail = (("by", by), ("upto", str(place.seq)), ("archive", path.name), ("sha256", digest))
    entry = Entry(now_ms, "record_pruned", reason="archived", detail=detail)

    def change(values: Mapping[Key[object], object | None]) -> Change[None]:
        if values[BEGINS] != before:
            raise RecordFault("another process pruned the record meanwhile: nothing was taken out this time")
        return Change(None, (Put(BEGINS, last.token),), (entry,))

    await store.amend([BEGINS], change)
    await _take_out(store, place.seq)
    return Pruned(place.seq, place.seq - start.seq, digest)


async def _refuse_unlike(part: Path, public: PublicKeys, start: Place, end: Place) -> None:
    """Raise `RecordFault` unless the file, read back, is the piece of the chain that it should be."""
    (outcome,) = await verify([FileSource(part)], public)
    found = outcome.found
    if isinstance(found, Broken):
        raise RecordFault(f"the record is broken at entry {found.seq}: {found.why}")
    if (found.start, found.end.seq, found.end.hash) != (start, end.seq, end.hash):
        raise RecordFault("the archive, read back, is not what was written: is the disk failing?")


async def _take_out(store: Store, upto: int) -> None:
    """Delete entries up to a number, and the checkpoints over them: both are in an archive."""
    while await store.prune(upto):
        pass
    while True:
        found = await store.list("checkpoint", prefix="0")
        old: list[Key[object]] = [Key("checkpoint", one.id) for one in found if int(one.id) <= upto]
        if not old:
            return
        await store.amend(old, partial(_without, old))


def _without(keys: Sequence[Key[object]], _: Mapping[Key[object], object | None]) -> Change[None]:
    return Change(None, tuple(Put(key, None) for key in keys))
