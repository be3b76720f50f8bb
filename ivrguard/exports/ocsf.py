"""
The record as OCSF events (Open Cybersecurity Schema Framework, https://schema.ocsf.io/1.4.0/), one JSON object a line.

1. Every attribute that a class requires is there, and no attribute that version 1.4.0 does not have: later minor versions
   only add (https://github.com/ocsf/ocsf-docs/blob/main/overview/understanding-ocsf.md).
2. `type_uid` is class and activity, `class_uid` · 100 + `activity_id`; `time` is in milliseconds; siblings (`severity` beside
   `severity_id`) say the same in words.
3. What OCSF has no place for is under `unmapped`: the place in the chain, and the entry's own details.

A chain of hashes is over the entry, not over this rendering of it: to verify a record, export it as JSON lines.
"""

import json
from collections.abc import Mapping

from ivrguard.core.audit import Linked
from ivrguard.exports.events import (
    ACCOUNT_CHANGE,
    AUTHENTICATION,
    AUTHORIZE_SESSION,
    BASE_EVENT,
    CLASS_NAMES,
    ENTITY_MANAGEMENT,
    Level,
    Meaning,
    meaning,
)
from ivrguard.exports.jsonl import moment

VERSION = "1.4.0"
SEVERITIES: Mapping[Level, str] = {
    Level.INFO: "Informational",
    Level.WARN: "Medium",
    Level.CRITICAL: "High",
}
_CATEGORIES: Mapping[int, tuple[int, str]] = {
    class_uid: (0, "Uncategorized") if class_uid == BASE_EVENT else (3, "Identity & Access Management")
    for class_uid in CLASS_NAMES
}
UNIDENTIFIED = {"name": "unidentified caller", "type_id": 0, "type": "Unknown"}
"""The user of an event before a caller names an account: OCSF wants one."""


def entry_line(chain: str, previous_hash: str, linked: Linked) -> bytes:
    """The event of an entry, as a line with its end."""
    event = _event(chain, previous_hash, linked)
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _event(chain: str, previous_hash: str, linked: Linked) -> dict[str, object]:
    entry, of = linked.entry, meaning(linked.entry.event)
    detail = dict(entry.detail)
    category_uid, category_name = _CATEGORIES[of.class_uid]
    class_name = CLASS_NAMES[of.class_uid]
    event: dict[str, object] = {
        "activity_id": of.activity_id,
        "activity_name": of.activity_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": of.class_uid,
        "class_name": class_name,
        "type_uid": of.class_uid * 100 + of.activity_id,
        "type_name": f"{class_name}: {of.activity_name}",
        "severity_id": of.level.value,
        "severity": SEVERITIES[of.level],
        "status_id": of.status.value,
        "status": of.status.name.title(),
        "status_detail": entry.reason,
        "time": entry.at_ms,
        "message": of.words,
        "metadata": {
            "version": VERSION,
            "product": {"name": "ivrguard", "vendor_name": "ivrguard"},
            "uid": f"{chain}:{linked.seq}",
            "sequence": linked.seq,
            "event_code": entry.event,
            "log_name": "audit",
            "original_time": moment(entry.at_ms),
        },
    }
    by = detail.get("by") or detail.get("desk")
    if by and of.class_uid != BASE_EVENT:
        event["actor"] = {"user": {"name": by}}
    event |= _of_class(of, entry.account, entry.call, detail)
    event["unmapped"] = {
        "chain": chain,
        "hash": linked.hash,
        "previous_hash": previous_hash,
        "call": entry.call,
        "account": entry.account,
        "detail": detail,
    }
    return event


def _of_class(of: Meaning, account: str, call: str, detail: Mapping[str, str]) -> dict[str, object]:
    """What the class requires besides, and says of whom and what."""
    if of.class_uid == BASE_EVENT:
        return {}
    if of.class_uid == ENTITY_MANAGEMENT:
        return {"entity": {"type": of.entity, "name": detail.get(of.entity) or of.entity}}
    user = {"uid": account, "type_id": 1, "type": "User"} if account else UNIDENTIFIED
    found: dict[str, object] = {"user": user}
    if of.class_uid == AUTHORIZE_SESSION:
        found["privileges"] = [detail.get("intent") or detail.get("path") or detail.get("queues") or "call"]
    if of.class_uid == AUTHENTICATION:
        found["service"] = {"name": "ivrguard"}
    if call and of.class_uid != ACCOUNT_CHANGE:
        found["session"] = {"uid": call}
    return found
