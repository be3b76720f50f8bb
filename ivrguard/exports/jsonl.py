"""
The record as JSON lines in OWASP's logging vocabulary, and back.

1. A line says an entry in the vocabulary's own fields (`datetime`, `appid`, `event`, `level`, `description`), and holds the
   whole entry as it was hashed (`entry`), with its `chain`, `hash` and `previous_hash`: so a file can be verified by itself.
2. `read` takes only lines that `entry_line` and `checkpoint_line` write, byte for byte: whatever is changed in one,
   in the part that is hashed or in the part that is read by people, is found.
3. A checkpoint is a line of its own behind the entry that it signs, so that an archive proves itself.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from ivrguard.core.audit import Checkpoint, Entry, Linked, canonical
from ivrguard.exports.events import Level, meaning

APP_ID = "ivrguard"
CHECKPOINT_EVENT = "record_checkpoint"
LINE_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry as a line holds it: its place in which chain, and the hash before it. Nothing of it is verified."""

    chain: str
    previous_hash: str
    linked: Linked


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """A checkpoint as a line holds it: the signed token. Nothing of it is verified."""

    token: str


def moment(at_ms: int) -> str:
    """A time as ISO 8601 in UTC, to the millisecond; in milliseconds, if it is in no calendar: a wrong clock is on record."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # as platforms differ
        return f"{at_ms} ms"


def entry_line(chain: str, previous_hash: str, linked: Linked) -> bytes:
    """The line of an entry, with its end."""
    entry, of = linked.entry, meaning(linked.entry.event)
    return _line(
        {
            "datetime": moment(entry.at_ms),
            "appid": APP_ID,
            "event": f"{entry.event}:{entry.account}" if entry.account else entry.event,
            "level": of.level.name,
            "description": of.words,
            "chain": chain,
            "previous_hash": previous_hash,
            "hash": linked.hash,
            "entry": json.loads(canonical(linked.seq, entry)),
        }
    )


def checkpoint_line(token: str, of: Checkpoint) -> bytes:
    """The line of a checkpoint, with its end."""
    return _line(
        {
            "datetime": moment(of.at_ms),
            "appid": APP_ID,
            "event": CHECKPOINT_EVENT,
            "level": Level.INFO.name,
            "description": f"The record was signed up to entry {of.seq}",
            "chain": of.chain,
            "hash": of.hash,
            "checkpoint": token,
        }
    )


def read(line: bytes) -> EntryLine | CheckpointLine:
    """What a line holds; `ValueError`, which does not show it, if no exporter of ours wrote it so."""
    try:
        data = json.loads(line)
        if data["event"] == CHECKPOINT_EVENT:
            return CheckpointLine(_text(data["checkpoint"]))
        said = data["entry"]
        texts = {each: _text(said[each]) for each in ("event", "call", "account", "reason")}
        detail = tuple((_text(name), _text(value)) for name, value in said["detail"])
        entry = Entry(_number(said["at_ms"]), **texts, detail=detail)
        linked = Linked(_number(said["seq"]), entry, _text(data["hash"]))
        found = EntryLine(_text(data["chain"]), _text(data["previous_hash"]), linked)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("this is no line of an exported record") from None
    if entry_line(found.chain, found.previous_hash, linked) != line:
        raise ValueError(f"the line of entry {linked.seq} is not as it was exported")
    return found


def _line(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
