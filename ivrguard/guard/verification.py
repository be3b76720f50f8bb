"""
Verifying records: stores and exported files, several at once, with what was signed over them.

1. A checkpoint that is kept or given and does not fit is a break. One of a chain that is not among the records is one too:
   a record that was made anew from its first entry has another name, and so has an empty one.
2. A part of a chain (an archive, what was exported since last month) must join what came before it: the beginning, a
   signed checkpoint, or the part that was verified before it. Where it does not, that is said (`Verified.anchored`).
3. Without a public key the chain alone is verified, and it is said how many checkpoints were not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from ivrguard.core.audit import GENESIS, Broken, Checkpoint, Linked, Place, ends, name, walk
from ivrguard.core.errors import RecordFault
from ivrguard.exports import files, jsonl
from ivrguard.guard.record import ENTRIES_A_PAGE, Signed, begins, read
from ivrguard.keyring import PublicKeys
from ivrguard.ports import Store

TOKENS_A_PAGE = 1_000

Tell = Callable[[int, int | None], None]
"""Told of progress: the last entry verified, and the last of all if that is known."""


def untold(_seq: int, _of: int | None) -> None:
    """Nobody looks on."""


class Source(Protocol):
    """A record, or a part of one."""

    what: str

    async def tokens(self) -> Sequence[str]:
        """The checkpoints in it, as tokens."""

    def check(self, signed: Iterable[Signed]) -> None:
        """Raise `RecordFault` where what stands beside a token is not what it signs."""

    async def begins(self, public: PublicKeys) -> tuple[str, Place]:
        """The chain's name ("" for a record without entries), and the place behind which it begins."""

    async def head(self) -> tuple[int, str] | None:
        """Number and hash of the last entry, as they are remembered apart from the entries; None: they are not."""

    def pages(self, after: int, upto: int | None) -> AsyncIterator[Sequence[Linked]]:
        """The entries behind number `after`, in order, up to number `upto`."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A place in a record, by an entry's number or by a time."""

    seq: int | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """
    A record that holds from behind `start` to `end`.

    `met`: checkpoints that fit, `last` the last of them. `unread`: checkpoints that could not be checked, for want of a
    key. `anchored`: the start is the beginning, or signed, or where another part ended.
    """

    chain: str
    start: Place
    end: Place
    met: int = 0
    last: Checkpoint | None = None
    unread: int = 0
    anchored: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one record."""

    what: str
    found: Verified | Broken


async def verify(
    sources: Sequence[Source],
    public: PublicKeys,
    given: Sequence[str] = (),
    *,
    since: Bound | None = None,
    restored: Container[int] = (),
    tell: Tell = untold,
) -> tuple[Outcome, ...]:
    """
    Verify each of `sources`, in the order given, with the checkpoints in all of them and those `given` as tokens.

    `since`: begin at the last checkpoint up to there. `restored`: entries at which a store is known to have been restored.
    Raises `RecordFault` for what cannot be read or
    was not signed by any of the `public` keys.
    """
    signed: list[Checkpoint] = []
    unread = 0
    for source in sources:
        found = await source.tokens()
        if public.keys:
            own = [read(public, token) for token in found]
            source.check(own)
            signed += [one.checkpoint for one in own]
        unread += 0 if public.keys else len(found)
    if given and not public.keys:
        raise RecordFault("checkpoints were given, and no key to check them with: set IVRGUARD_PUBLIC_KEYS")
    signed += [read(public, token).checkpoint for token in given]
    reached: dict[str, Place] = {}
    outcomes = []
    for source in sources:
        chain, start = await source.begins(public)
        of_chain = [one for one in signed if one.chain == chain]
        outcome = await _walked(source, chain, start, of_chain, reached.get(chain), since, restored, tell)
        reached[chain] = start
        if isinstance(outcome, Verified):
            reached[chain] = outcome.end
            outcome = replace(outcome, unread=unread)
        outcomes.append(Outcome(source.what, outcome))
    missing = sorted({one.chain for one in signed} - reached.keys())
    made_anew = "it was signed, and none of these records is it; was one made anew?"
    return (*outcomes, *(Outcome(f"chain {chain}", Broken(1, made_anew)) for chain in missing))


async def _walked(
    source: Source,
    chain: str,
    start: Place,
    checkpoints: Sequence[Checkpoint],
    reached: Place | None,
    since: Bound | None,
    restored: Container[int],
    tell: Tell,
) -> Verified | Broken:
    """Walk one source from where it begins, or from a checkpoint on, to its end."""
    signed: dict[int, list[Checkpoint]] = {}
    for one in checkpoints:
        signed.setdefault(one.seq, []).append(one)
    head = await source.head()
    at = max((one for one in checkpoints if since and _reaches(since, one)), key=_seq, default=None)
    if at is not None and at.seq >= start.seq:
        place, anchored = Place(at.seq, at.hash), True
    else:
        place, anchored = start, _anchored(start, signed, reached)
        broken = _parted(start, signed, reached)
        if broken is not None:
            return broken
    first = place
    async for page in source.pages(place.seq, head[0] if head is not None else None):
        walked = await asyncio.to_thread(walk, place, page, signed, restored)
        if isinstance(walked, Broken):
            return walked
        place = walked
        tell(place.seq, head[0] if head is not None else None)
    broken = ends(place, head, signed, restored) if head is not None else None
    if broken is not None:
        return broken
    met = [one for one in checkpoints if first.seq <= one.seq <= place.seq]
    last = max(met, key=_seq, default=None)
    return Verified(chain, first, place, len({one.seq for one in met}), last, anchored=anchored)


def _reaches(bound: Bound, checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is not later than that."""
    if bound.seq is not None:
        return checkpoint.seq <= bound.seq
    return bound.at_ms is not None and checkpoint.at_ms <= bound.at_ms


def _seq(checkpoint: Checkpoint) -> int:
    return checkpoint.seq


def _anchored(start: Place, signed: Mapping[int, Sequence[Checkpoint]], reached: Place | None) -> bool:
    known = {(0, GENESIS), *((one.seq, one.hash) for one in signed.get(start.seq, ()))}
    return (start.seq, start.hash) in known or (reached is not None and reached.seq == start.seq)


def _parted(start: Place, signed: Mapping[int, Sequence[Checkpoint]], reached: Place | None) -> Broken | None:
    """Where a part does not join what is known of the chain."""
    if start.seq == 0 and start.hash != GENESIS:
        return Broken(1, "entry 1 is not the first of a record")
    if any(one.hash != start.hash for one in signed.get(start.seq, ())):
        return Broken(start.seq, f"entry {start.seq}, behind which it begins, is not the one that was signed")
    if reached is None or reached.seq > start.seq:
        return None
    if reached.seq < start.seq:
        return Broken(
            reached.seq + 1, f"entries {reached.seq + 1} to {start.seq} are in none of these records"
        )
    if reached.hash != start.hash:
        return Broken(
            start.seq, f"entry {start.seq}, behind which it begins, is another one in the part before"
        )
    return None


# ── where records are ────────────────────────────────────────────────────────────────────────────────────


class StoreSource:
    """The record of a store. `what`: what to call it."""

    def __init__(self, store: Store, what: str = "the record") -> None:
        self.what = what
        self._store = store

    async def tokens(self) -> Sequence[str]:
        """See `Source.tokens`."""
        found: list[str] = []
        after = ""
        while page := await self._store.list("checkpoint", after=after, limit=TOKENS_A_PAGE):
            found += [str(one.value) for one in page]
            after = page[-1].id
        return found

    def check(self, signed: Iterable[Signed]) -> None:
        """See `Source.check`: a store keeps the tokens alone."""

    async def begins(self, public: PublicKeys) -> tuple[str, Place]:
        """See `Source.begins`."""
        checkpoint = await begins(self._store, public)
        if checkpoint is not None:
            return checkpoint.chain, Place(checkpoint.seq, checkpoint.hash)
        first = await self._store.entries(limit=1)
        return name(first[0]) if first else "", Place()

    async def head(self) -> tuple[int, str] | None:
        """See `Source.head`."""
        return await self._store.head()

    async def pages(self, after: int, upto: int | None) -> AsyncIterator[Sequence[Linked]]:
        """See `Source.pages`."""
        while page := await self._store.entries(after=after, limit=ENTRIES_A_PAGE):
            wanted = [one for one in page if upto is None or one.seq <= upto]
            if wanted:
                yield wanted
            if len(wanted) < len(page):
                return
            after = page[-1].seq


class FileSource:
    """A file of exported JSON lines. What is no line of an export is a `RecordFault` that names file and line."""

    def __init__(self, path: Path) -> None:
        self.what = str(path)
        self._path = path
        self._checkpoints: list[tuple[int, bytes]] = []

    async def tokens(self) -> Sequence[str]:
        """See `Source.tokens`."""
        found = await asyncio.to_thread(
            lambda: [each for each in self._read() if isinstance(each[2], jsonl.CheckpointLine)]
        )
        self._checkpoints = [(number, line) for number, line, _ in found]
        return [read_.token for _, _, read_ in found if isinstance(read_, jsonl.CheckpointLine)]

    def check(self, signed: Iterable[Signed]) -> None:
        """See `Source.check`."""
        for (number, line), one in zip(self._checkpoints, signed, strict=True):
            if jsonl.checkpoint_line(one.token, one.checkpoint) != line:
                raise RecordFault(f"{self.what}:{number}: the line of a checkpoint is not as it was exported")

    async def begins(self, public: PublicKeys) -> tuple[str, Place]:  # noqa: ARG002 - every source has this signature
        """See `Source.begins`. What stands in the file is believed here, and verified by what comes behind it."""
        for _, _, found in self._read():
            if isinstance(found, jsonl.EntryLine):
                return found.chain, Place(found.linked.seq - 1, found.previous_hash)
        return "", Place()

    async def head(self) -> tuple[int, str] | None:
        """See `Source.head`: a file remembers nothing apart from its lines."""
        return None

    async def pages(self, after: int, upto: int | None) -> AsyncIterator[Sequence[Linked]]:
        """See `Source.pages`. Chain and hashes that stand beside the entries must fit as well."""
        entries = (one for one in self._entries() if one.seq > after and (upto is None or one.seq <= upto))
        while page := await asyncio.to_thread(lambda: list(islice(entries, ENTRIES_A_PAGE))):
            yield page

    def _entries(self) -> Iterator[Linked]:
        before: jsonl.EntryLine | None = None
        for number, _, found in self._read():
            if not isinstance(found, jsonl.EntryLine):
                continue
            if before and (found.chain, found.previous_hash) != (before.chain, before.linked.hash):
                raise RecordFault(f"{self.what}:{number}: it does not go on from the entry before it")
            if found.linked.seq == 1 and found.chain != name(found.linked):
                raise RecordFault(f"{self.what}:{number}: the chain has not the name of its first entry")
            before = found
            yield found.linked

    def _read(self) -> Iterator[tuple[int, bytes, jsonl.EntryLine | jsonl.CheckpointLine]]:
        for number, line in files.lines(self._path):
            try:
                yield number, line, jsonl.read(line)
            except ValueError as error:
                raise RecordFault(f"{self.what}:{number}: {error}") from None
