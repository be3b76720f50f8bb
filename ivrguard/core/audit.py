"""
The record: entries, and the chain that shows any edit, gap, swap or cut.

1. Each decision leaves exactly one entry, stored in the same act as the state it belongs to.
2. An entry holds no secret. Accounts stand in it as keyed hashes (`account`), so that a log may be shown
   and a person's data erased.
3. Entry n holds the SHA-256 over entry n-1's hash and its own canonical JSON: change, drop, swap or insert
   one, and `walk` names the first place that does not fit.
4. Whoever can write all of it can make a whole new chain, or cut off its end together with the head. Checkpoints show
   that: they are signed by a key that is not in the store (guard/record.py), and copies of them are elsewhere.

Event names are OWASP's logging vocabulary where it has one.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

GENESIS = "0" * 64
"""The hash before the first entry."""

NAME_CHARS = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One decision.

    `event`: what was decided, in OWASP's words. `call`: the CallSid, "" outside a call. `account`: keyed
    hash, "" before a caller claims one. `reason`: a short constant. `detail`: further facts, none secret.
    """

    at_ms: int
    event: str
    call: str = ""
    account: str = ""
    reason: str = ""
    detail: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Linked:
    """An entry in its place of the chain: `seq` from 1, and the hash over all up to it."""

    seq: int
    entry: Entry
    hash: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where the chain does not hold, and how."""

    seq: int
    why: str


def canonical(seq: int, entry: Entry) -> bytes:
    """The bytes that are hashed: JSON with sorted keys and no blanks, the place of the entry included."""
    detail = ",".join([f"[{_quoted(name)},{_quoted(value)}]" for name, value in entry.detail])
    return (
        f'{{"account":{_quoted(entry.account)},"at_ms":{entry.at_ms},"call":{_quoted(entry.call)},"detail":[{detail}],'
        f'"event":{_quoted(entry.event)},"reason":{_quoted(entry.reason)},"seq":{seq}}}'
    ).encode()


_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""A text as JSON. The rest is put together by hand: this is done for every webhook, under the store's lock."""


def link(seq: int, previous_hash: str, entry: Entry) -> Linked:
    """Put `entry` behind the one with `previous_hash` as number `seq`."""
    digest = hashlib.sha256(previous_hash.encode() + canonical(seq, entry)).hexdigest()
    return Linked(seq, entry, digest)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    What was signed over a chain: that its entry `seq` has this `hash`, and so that all before it are as they were.

    `chain`: the chain's name (`name`). `at_ms`: when it was signed, to the second. `begins`: the entries up to `seq` were
    taken out, archived; the record begins behind it. `seq` 0 and `GENESIS` are the beginning that needs no signature.
    """

    chain: str
    seq: int
    hash: str
    at_ms: int
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """How far a chain was walked: the last entry's number and hash. `restores`: where stores were restored on the way."""

    seq: int = 0
    hash: str = GENESIS
    restores: tuple[tuple[int, int], ...] = ()


RESTORED = "store_restored"
"""The event of a store that was put back to an earlier state: number and time of such an entry stand in `Place.restores`."""


def name(first: Linked) -> str:
    """
    A chain's name: 64 bits of its first entry's hash. A copy has the same name, another store has another.

    So what was signed over one chain says nothing of another, and two that part after a copy are found to part.
    """
    return first.hash[:NAME_CHARS]


def walk(
    place: Place,
    page: Iterable[Linked],
    signed: Mapping[int, Sequence[Checkpoint]] = MappingProxyType({}),
    known: Container[int] = (),
) -> Place | Broken:
    """
    Walk on from `place` over the entries that come next; where that leads to, or the first break.

    `signed`: checkpoints of this chain by number. One that does not fit is passed over only if it was signed before a
    restore of the store at an earlier number, and that number is among those `known` to whoever asks.
    """
    seq, hash_, restores = place.seq, place.hash, place.restores
    for linked in page:
        if linked.seq != seq + 1:
            return Broken(seq + 1, f"entry {seq + 1} is missing; the next one found is {linked.seq}")
        if link(linked.seq, hash_, linked.entry).hash != linked.hash:
            return Broken(linked.seq, f"entry {linked.seq} was changed, or the one before it was")
        seq, hash_ = linked.seq, linked.hash
        if linked.entry.event == RESTORED:
            restores = (*restores, (seq, linked.entry.at_ms))
        for checkpoint in signed.get(seq, ()):
            if checkpoint.hash != hash_ and not _replaced(checkpoint, restores, known):
                why = f"entry {seq} is not the one that was signed: the record was made anew before it"
                return Broken(seq, why + _perhaps(checkpoint, restores))
    return Place(seq, hash_, restores)


def ends(
    place: Place,
    head: tuple[int, str],
    signed: Mapping[int, Sequence[Checkpoint]] = MappingProxyType({}),
    known: Container[int] = (),
) -> Broken | None:
    """
    Whether a chain that was walked to `place` may end there.

    `head`: the last number and hash as the store remembers them apart from the entries. It shows a cut at the end;
    `signed`, as for `walk`, shows one that was made at the head too.
    """
    if head[0] != place.seq:
        return Broken(place.seq + 1, f"the record ends at {place.seq}, but {head[0]} entries were written")
    if head[1] != place.hash:
        return Broken(place.seq + 1, f"entry {place.seq} is not the one that was written last")
    for seq in sorted(each for each in signed if each > place.seq):
        for checkpoint in signed[seq]:
            if not _replaced(checkpoint, place.restores, known):
                why = f"the record ends at {place.seq}, but entry {seq} was signed"
                return Broken(place.seq + 1, why + _perhaps(checkpoint, place.restores))
    return None


def _replaced(checkpoint: Checkpoint, restores: Iterable[tuple[int, int]], known: Container[int]) -> bool:
    """Whether what was signed belongs to a record that a restore replaced, as the asker knows."""
    return any(seq in known for seq, _ in _restores_after(checkpoint, restores))


def _restores_after(checkpoint: Checkpoint, restores: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    return (one for one in restores if one[0] <= checkpoint.seq and one[1] > checkpoint.at_ms)


def _perhaps(checkpoint: Checkpoint, restores: Iterable[tuple[int, int]]) -> str:
    """What an honest operator may have to say to it."""
    found = ", ".join(str(seq) for seq, _ in _restores_after(checkpoint, restores))
    return f"; or it was replaced by the restore at entry {found}, if you know of that" if found else ""


def verify(
    chain: Iterable[Linked], *, seq: int = 0, hash_: str = GENESIS, head: tuple[int, str] | None = None
) -> Broken | int:
    """Walk the whole chain from after (`seq`, `hash_`) to `head`, if given; the number of entries, or the first break."""
    place = walk(Place(seq, hash_), chain)
    if isinstance(place, Broken):
        return place
    return (ends(place, head) if head is not None else None) or place.seq - seq
