"""
Values as bytes, and an amendment worked out in bytes: what every store has in common.

The laws of this file:

1. A kind fixes a type (`TYPES`). What is not of that type is neither written nor read: numbers are not made
   of text, an unknown field is not dropped (an older process would save the value without it), a missing one
   takes its default.
2. Nothing a value holds reaches an error: a fault names kind and id, a damaged audit entry its number.
3. `amended` works out the whole of an amendment before a store writes any of it. So a change that raises, or
   that decides what cannot be kept, leaves no trace.
4. An audit entry is stored as the very bytes that its hash is over (`core.audit.canonical`).
5. A call that was kept or read a moment ago is not decoded again: a webhook reads it three times. What is looked up
   are the bytes themselves, so whatever another process writes meanwhile is read; and values are frozen.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from ivrguard.core.alerts import Alert
from ivrguard.core.audit import Entry, Linked, canonical, link
from ivrguard.core.call import Call
from ivrguard.core.errors import StoreFault
from ivrguard.core.handoff import Alias, Desk, Leg
from ivrguard.core.incidents import Incident
from ivrguard.core.insiders import Person
from ivrguard.core.lockout import Ledger, Trusted, UnlockRequest
from ivrguard.core.sense import Answers, Bucket, Calls, Sketch
from ivrguard.core.sessions import Session
from ivrguard.ports import Account, AgentAccount, Batch, Change, Key, Published, Put

T = TypeVar("T")
Result = TypeVar("Result")

TYPES: Mapping[str, Any] = {
    "account": Account,
    "agent": AgentAccount,  # of somebody at a desk, by his name
    "alert": Alert,  # of a flow and a kind of attack: the one that stands, or the last one
    "alias": Alias,  # what a presented token names
    "answers": Answers,  # how many of a flow were judged lately, and wrong
    "batch": Batch,  # the import of accounts that is under way
    "bucket": Bucket,  # some of the accounts, or numbers, of a window, and who answered there
    "call": Call,
    "calls": Calls,  # how many a flow had lately
    "checkpoint": str,  # what was signed over the record, as a JWT
    "desk": Desk,  # by the digest of its key
    "flow": dict[str, str],  # the files that a version was read from
    "holding": tuple[tuple[str, int], ...],  # the calls that an agent took, and when
    "insider": Person,  # what somebody at a desk, or an operator, did that an honest one seldom does
    "insiders": int,  # how far the record was looked through for that
    "incident": Incident,  # a threat: what was reported and heard, and what became of it
    "led": str,  # a document that the IVR leads a call to by REST, sealed
    "ledger": Ledger,
    "leg": Leg,
    "login": int,  # when a log-in by the identity provider was used up
    "looked": int,  # when it last went on record that an agent looked at a call
    "published": Published,  # the flows that every node has in force
    "session": Session,  # of an agent, by the digest of its cookie
    "sessions": tuple[str, ...],  # those of one agent that are good
    "sends": tuple[int, ...],  # when codes were sent, in ms: to an account, a number, a country
    "sketch": Sketch,  # of the wrong answers of a window: no answer can be read from it
    "spent": int,  # the last TOTP step that an account used
    "trust": tuple[Trusted, ...],  # the numbers that answered right on an account
    "unlock": UnlockRequest,
    "verification": str,  # what a service outside calls a code that it sent
    "number": tuple[str, ...],  # the accounts that have this E.164 number on file
}
"""The kinds, and the type of each one's values. A new kind is one line here; the tests take it up by themselves."""

VALUE_BYTES_MAX = 1_048_576
"""A value is a call or a ledger, and read whole at every webhook: one larger than this is a fault of ours."""

CALLS_KNOWN_MAX = 512
CALL_BYTES_KNOWN_MAX = 16 * 1024
"""Law 5: how many calls are known by their bytes, the oldest forgotten first, and how large one may be: 8 MB at most."""

INTEGER_MAX = 2**63 - 1
"""The largest number that a column of SQLite or PostgreSQL holds."""

_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {kind: TypeAdapter(type_) for kind, type_ in TYPES.items()}
_ENTRY = TypeAdapter(Entry)


class _Known:
    """Calls by their bytes: see law 5. Stores decode on threads of their own, hence the lock."""

    def __init__(self) -> None:
        self._calls: dict[bytes, Call] = {}
        self._lock = Lock()

    def call(self, data: bytes) -> Call | None:
        """The call that these bytes are of, if it is known."""
        return self._calls.get(data)

    def keep(self, data: bytes, call: Call) -> None:
        """From now on these bytes are known."""
        if len(data) > CALL_BYTES_KNOWN_MAX:
            return
        with self._lock:
            if len(self._calls) >= CALLS_KNOWN_MAX:
                del self._calls[next(iter(self._calls))]
            self._calls[data] = call


_KNOWN = _Known()


def check_name(kind: str, text: str) -> None:
    """Raise `ValueError` for a kind that is not in `TYPES`, or an id (or part of one) that is not Unicode text."""
    if kind not in TYPES:
        raise ValueError(f"there is no kind {kind!r} in stores.codec.TYPES")
    text.encode()


def check_integers(*numbers: int | None) -> None:
    """Raise `ValueError` for a rank, time or count that no store's columns hold."""
    if any(number is not None and not -INTEGER_MAX <= number <= INTEGER_MAX for number in numbers):
        raise ValueError("a rank, time or count is beyond 64 bits")


def check_limit(limit: int) -> None:
    """Raise `ValueError` for a limit below 1: to some stores it would mean no limit at all."""
    if limit < 1:
        raise ValueError("a limit is 1 or more")
    check_integers(limit)


def encode(key: Key[T], value: T) -> bytes:
    """`value` as JSON. Raises `StoreFault` if it is not of the key's type, or larger than `VALUE_BYTES_MAX`."""
    try:
        data = _ADAPTERS[key.kind].dump_json(value, warnings="error")
    except PydanticSerializationError:  # its text and its cause quote the value
        raise StoreFault(
            f"{key.kind} {key.id!r} cannot be kept: the value is not of its kind's type"
        ) from None
    if len(data) > VALUE_BYTES_MAX:
        raise StoreFault(f"{key.kind} {key.id!r} cannot be kept: more than {VALUE_BYTES_MAX} bytes")
    if isinstance(value, Call):
        _KNOWN.keep(data, value)
    return data


def decode(key: Key[T], data: bytes) -> T:
    """
    The value that `encode` made these bytes of.

    Raises `StoreFault` if they are not of the key's type: the file was changed by hand, or written by another
    version of ivrguard.
    """
    if key.kind == "call" and (known := _KNOWN.call(data)) is not None:
        return cast("T", known)
    try:
        value: T = _ADAPTERS[key.kind].validate_json(data, strict=True, extra="forbid")
    except ValidationError:  # its text quotes the value
        raise StoreFault(
            f"{key.kind} {key.id!r} cannot be read: what is stored is not of its kind's type; was it written "
            "by another version of ivrguard, or changed by hand?"
        ) from None
    if isinstance(value, Call):
        _KNOWN.keep(data, value)
    return value


def encode_entry(linked: Linked) -> bytes:
    """The bytes of an audit entry in its place: those that `linked.hash` is over."""
    return canonical(linked.seq, linked.entry)


def decode_entry(seq: int, data: bytes, hash_: str) -> Linked:
    """
    The entry that `encode_entry` made these bytes of. Whether the hash fits is for `core.audit.verify` to say.

    Raises `StoreFault` for bytes that `encode_entry` cannot have written, so that nothing hides in them.
    """
    entry = None
    with suppress(ValidationError):
        entry = _ENTRY.validate_json(data, strict=True)
    if entry is None or canonical(seq, entry) != data:
        raise StoreFault(f"audit entry {seq} is not as it was written: the record was changed from outside")
    return Linked(seq, entry, hash_)


@dataclass(frozen=True, slots=True)
class Row:
    """One value as a store keeps it: its key, its bytes, and what it is found by."""

    key: Key[object]
    data: bytes = field(repr=False)
    expires_ms: int | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Amended(Generic[Result]):
    """An amendment worked out: what to tell the caller; which rows to keep or delete; the entries in their places."""

    result: Result
    rows: Mapping[Key[object], Row | None]
    links: tuple[Linked, ...]


def amended(
    found: Mapping[Key[object], bytes | None],
    change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    head: tuple[int, str],
) -> Amended[Result]:
    """
    Apply `change` to the values `found`, and put its entries behind `head` (number and hash of the last).

    Raises whatever `change` raises; `ValueError` if it puts a key that was not read or one key twice (the
    second would undo the first); `StoreFault` for what cannot be read or kept. Nothing is written here.
    """
    values = {key: None if data is None else decode(key, data) for key, data in found.items()}
    decided = change(values)
    if len({put.key for put in decided.puts}) < len(decided.puts):
        raise ValueError("a change puts one key twice")
    rows = {put.key: _row(put, found) for put in decided.puts}
    links = []
    seq, hash_ = head
    for entry in decided.entries:
        linked = _link(seq + 1, hash_, entry)
        links.append(linked)
        seq, hash_ = linked.seq, linked.hash
    return Amended(decided.result, rows, tuple(links))


def _row(put: Put, found: Mapping[Key[object], bytes | None]) -> Row | None:
    if put.key not in found:
        raise ValueError(f"a change puts a {put.key.kind} that it did not read")
    check_integers(put.expires_ms, put.rank)
    if put.value is None:
        return None
    return Row(put.key, encode(put.key, put.value), put.expires_ms, put.rank)


def _link(seq: int, previous_hash: str, entry: Entry) -> Linked:
    """Put an entry in its place. What `decode_entry` would refuse must not get on record."""
    texts = (entry.event, entry.call, entry.account, entry.reason, *chain.from_iterable(entry.detail))
    if type(entry.at_ms) is int and all(isinstance(text, str) for text in texts):
        with suppress(UnicodeEncodeError):
            return link(seq, previous_hash, entry)
    raise StoreFault(f"audit entry {seq} cannot be kept: it is not made of text and whole numbers")
