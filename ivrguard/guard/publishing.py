"""
Which flows every node has in force: the set that was published last, and nothing else.

The laws of this file:

1. A publication is one act: the set's number, one more than the last; the files of its versions; and its entries on record.
   So whoever reads which set it is, finds its files.
2. Sets have digests, and the last `SETS_REMEMBERED` are remembered: whether a set is new, or was in force before, can be told.
3. A version's files stay for as long as any process says that it is in force, and a day longer.

When a node publishes, and when it follows, is web/reload.py's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

from ivrguard import log
from ivrguard.core.audit import Entry
from ivrguard.core.flow import Flow
from ivrguard.guard.books import CALL_KEPT_S, flow_key, published_key
from ivrguard.ports import Change, Key, Published, Put, Store

RENEW_EVERY_S = 3_600
KEPT_S = CALL_KEPT_S + 2 * RENEW_EVERY_S
"""How long a version's files stay in the store after a process said last that it is in force."""

KEPT_BYTES_MAX = 1_000_000
"""As JSON: what a store takes. A flow that is larger, with all its prompts, is not kept beyond the process."""

SETS_REMEMBERED = 64

logger = log.get()


def set_of(flows: Iterable[Flow]) -> tuple[tuple[str, str], ...]:
    """Which flows these are: name and version of each, in order."""
    return tuple(sorted((one.name, one.version) for one in flows))


def digest_of(flows: tuple[tuple[str, str], ...]) -> str:
    """A short name of a set: 16 hex digits."""
    return hashlib.sha256(json.dumps(flows).encode()).hexdigest()[:16]


async def keep(
    store: Store, flows: tuple[Flow, ...], entries: tuple[Entry, ...], now_ms: int, *, publish: bool
) -> Published | None:
    """
    Put files of these flows into the store, with these entries on record; `publish`: and let every node have them.

    What is published then. Raises `core.errors.StoreFault` when that cannot be done: then nothing has changed.
    """
    puts = tuple(_files(flows, now_ms))

    def change(values: Mapping[Key[object], object | None]) -> Change[Published | None]:
        found = values[published_key()]
        last = found if isinstance(found, Published) else None
        if not publish:
            return Change(last, puts, entries)
        before = () if last is None else (last.digest, *last.before)[:SETS_REMEMBERED]
        named = set_of(flows)
        new = Published(1 if last is None else last.number + 1, digest_of(named), named, before)
        return Change(new, (*puts, Put(published_key(), new)), entries)

    keys: list[Key[object]] = [*(put.key for put in puts), published_key()]
    return await store.amend(keys, change)


def _files(flows: tuple[Flow, ...], now_ms: int) -> Iterable[Put]:
    for flow in flows:
        if len(json.dumps(dict(flow.files), ensure_ascii=False).encode()) > KEPT_BYTES_MAX:
            logger.warning("flow_not_kept", flow=flow.name, hint=f"it has over {KEPT_BYTES_MAX} bytes")
            continue
        yield Put(flow_key(flow.name, flow.version), dict(flow.files), now_ms + KEPT_S * 1000)
