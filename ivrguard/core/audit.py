"""
The record: entries, and the chain that shows any edit, gap, swap or cut.

1. Each decision leaves exactly one entry, stored in the same act as the state it belongs to.
2. An entry holds no secret. Accounts stand in it as keyed hashes (`account`), so that a log may be shown
   and a person's data erased.
3. Entry n holds the SHA-256 over entry n-1's hash and its own canonical JSON: change, drop, swap or insert
   one, and `verify` names the first place that does not fit.

Event names are OWASP's logging vocabulary where it has one.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

GENESIS = "0" * 64
"""The hash before the first entry."""


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
    data = {
        "seq": seq,
        "at_ms": entry.at_ms,
        "event": entry.event,
        "call": entry.call,
        "account": entry.account,
        "reason": entry.reason,
        "detail": entry.detail,
    }
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def link(seq: int, previous_hash: str, entry: Entry) -> Linked:
    """Put `entry` behind the one with `previous_hash` as number `seq`."""
    digest = hashlib.sha256(previous_hash.encode() + canonical(seq, entry)).hexdigest()
    return Linked(seq, entry, digest)


def verify(
    chain: Iterable[Linked], *, seq: int = 0, hash_: str = GENESIS, head: tuple[int, str] | None = None
) -> Broken | int:
    """
    Walk the chain from after (`seq`, `hash_`); the number of entries checked, or the first break.

    `head` is the last place and hash as the store remembers them apart from the entries: it shows a cut at
    the end.
    """
    checked = 0
    for linked in chain:
        if linked.seq != seq + 1:
            return Broken(seq + 1, f"entry {seq + 1} is missing; the next one found is {linked.seq}")
        expected = link(linked.seq, hash_, linked.entry)
        if expected.hash != linked.hash:
            return Broken(linked.seq, f"entry {linked.seq} was changed, or the one before it was")
        seq, hash_, checked = linked.seq, linked.hash, checked + 1
    if head is not None and head[0] != seq:
        return Broken(seq + 1, f"the record ends at {seq}, but {head[0]} entries were written")
    if head is not None and head[1] != hash_:
        return Broken(seq + 1, f"entry {seq} is not the one that was written last")
    return checked
