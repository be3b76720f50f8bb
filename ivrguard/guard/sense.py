"""
Attacks sensed: what this node saw, put together with what others saw, about once a second (core/sense.py).

The laws of this file:

1. A webhook waits for none of it: it leaves a note without a digit, two keyed hashes at most, and goes on. At most `NOTES_MAX` notes
   of a flow are kept until the next merge; of more only the number counts.
2. A merge is one `amend` for at most `NOTES_A_MERGE` notes: sketches, counts, alerts, and an entry for each alert that is
   raised or over. Its keys are bounded, and so are a window's: `BUCKETS` for accounts, as many for numbers, one sketch.
3. A node that dies loses what it saw since its last merge, a second's worth. A store that does not answer costs as much.
4. Which alerts stand is looked up with every merge, so a node knows of another one's within about a second. While the
   store cannot say, what stood still stands.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ivrguard import log
from ivrguard.core import sense
from ivrguard.core.alerts import Alert, ended, quiet_s, watched
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.caller import AddressKind
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.core.sense import SAID, Answers, Attack, Bucket, Calls, Finding, Sketch, Threshold
from ivrguard.ports import Change, Key, Keys, Notice, Put, Store

MERGE_EVERY_S = 1.0
NOTES_MAX = 256
NOTES_A_MERGE = 32
TALLY_KEPT_S = 30 * 24 * 3600
ALERT_KEPT_S = 90 * 24 * 3600
STANDING_MAX = 500
"""Alerts that can stand at once: five a flow."""

T = TypeVar("T")
Values = Mapping[Key[object], object | None]

logger = log.get()


@dataclass(frozen=True, slots=True, repr=False)
class Note:
    """
    One answer that was judged: by which account and number ("": withheld). Of a wrong PIN: its window, its cell, and the
    account's mark there.
    """

    account: str
    number: str
    right: bool
    window: int = 0
    cell: int | None = None
    mark: int = 0


@dataclass(slots=True)
class _Seen:
    """What this node saw of a flow since its last merge."""

    calls: int = 0
    wrong: int = 0
    judged: int = 0
    notes: list[Note] = field(default_factory=list)


def alert_key(flow: str, attack: Attack) -> Key[Alert]:
    """The alert of a flow and a kind of attack: the one that stands, or the last one."""
    return Key("alert", f"{flow}/{attack}")


def _window_of(flow: str, threshold: Threshold, window: int) -> str:
    """The name of a window: an admin who changes `within` begins anew."""
    return f"{flow}/{threshold.within_s}/{window}"


def _sketch_key(flow: str, threshold: Threshold, window: int) -> Key[Sketch]:
    return Key("sketch", _window_of(flow, threshold, window))


def _bucket_key(flow: str, attack: Attack, threshold: Threshold, window: int, subject: str) -> Key[Bucket]:
    return Key("bucket", f"{_window_of(flow, threshold, window)}/{attack}/{sense.bucket_of(subject)}")


def alert_put(alert: Alert) -> Put:
    """An alert as it is kept. Those that stand have a rank, by which they are found."""
    rank = alert.raised_ms if alert.over_ms is None else None
    return Put(alert_key(alert.flow, alert.attack), alert, alert.seen_ms + ALERT_KEPT_S * 1000, rank)


async def standing(store: Store) -> tuple[Alert, ...]:
    """The alerts that stand, the oldest first."""
    found = await store.list("alert", rank_from=0, limit=STANDING_MAX)
    return tuple(one.value for one in found if isinstance(one.value, Alert))


async def recent(store: Store) -> tuple[Alert, ...]:
    """The last alert of each flow and kind, those that stand among them, the latest first."""
    found = [one.value for one in await store.list("alert", limit=STANDING_MAX)]
    return tuple(sorted((one for one in found if isinstance(one, Alert)), key=lambda one: -one.raised_ms))


async def end(
    store: Store, flow: str, attack: Attack, *, now_ms: int, by: str = "", because: str = ""
) -> Alert | None:
    """End an alert on record, by hand or (`by` "") because nothing can be seen of it any more; None if none stands."""
    key = alert_key(flow, attack)

    def change(values: Values) -> Change[Alert | None]:
        alert = values[key]
        if not isinstance(alert, Alert):
            return Change(None)
        over, entry = ended(alert, now_ms, by=by, because=because)
        return Change(None) if entry is None else Change(over, (alert_put(over),), (entry,))

    return await store.amend([key], change)


def notice_of(alert: Alert) -> Notice:
    """What the risk team is told of an alert that was raised, or is over."""
    over = alert.over_ms is not None
    data: dict[str, object] = {
        "alert": alert.id,
        "flow": alert.flow,
        "attack": alert.attack.value,
        "says": SAID[alert.attack],
        "count": alert.count,
        "need": alert.need,
        "within_s": alert.within_s,
        "subjects": list(alert.subjects),
        "raised_at_ms": alert.raised_ms,
    }
    if over:
        data["over_at_ms"] = alert.over_ms
    words = "over" if over else f"{alert.count} counted, {alert.need} raise an alert"
    return Notice(
        id=f"{alert.id}/{'over' if over else 'raised'}",
        type="attack.over" if over else "attack.suspected",
        at_ms=alert.over_ms if alert.over_ms is not None else alert.raised_ms,
        data=data,
        text=f"ivrguard, flow {alert.flow}: {SAID[alert.attack]} ({words})",
    )


class Sensor:
    """
    What one node sees, and which alerts stand.

    `flow_named`: the flow of that name that is in force. `told`: called with each alert that this node raised or found to
    be over; `shown` with all that stand, after every look.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Callable[[], int],
        flow_named: Callable[[str], Flow | None],
        *,
        told: Callable[[Alert], None] = lambda _: None,
        shown: Callable[[Sequence[Alert]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._flow_named = flow_named
        self._told = told
        self._shown = shown
        self._seen: dict[str, _Seen] = {}
        self._cell_keys: dict[str, tuple[str, bytes]] = {}
        self._standing: tuple[Alert, ...] = ()
        self._raised: frozenset[str] = frozenset()

    # ── what webhooks leave here ─────────────────────────────────────────────────────────────────────────

    def stands(self, flow: str) -> bool:
        """Whether an alert of this flow stands, as far as this node knows."""
        return flow in self._raised

    def called(self, flow: Flow) -> None:
        """A new call."""
        self._of(flow).calls += 1

    def judged(self, flow: Flow, call: Call, kind: Kind, digits: str, *, right: bool) -> None:
        """An answer was judged. Of `digits` nothing is kept but the cell of a wrong PIN."""
        seen = self._of(flow)
        seen.judged += 1
        seen.wrong += not right
        if len(seen.notes) >= NOTES_MAX:
            return
        account, caller = call.account, call.caller
        number = "" if caller.kind is AddressKind.ANONYMOUS else caller.value
        spray = flow.sense.spray
        if right or kind is not Kind.PIN or spray is None:
            seen.notes.append(Note(account, number, right))
            return
        window = spray.window(self._clock())
        key = self._cell_key(flow.name, _window_of(flow.name, spray, window))
        cell, mark = sense.cell_of(key, digits), sense.mark_of(key, account)
        seen.notes.append(Note(account, number, right, window, cell, mark))

    def _of(self, flow: Flow) -> _Seen:
        return self._seen.setdefault(flow.name, _Seen())

    def _cell_key(self, flow: str, window: str) -> bytes:
        """The key of a window, made once."""
        known = self._cell_keys.get(flow)
        if known is None or known[0] != window:
            known = self._cell_keys[flow] = (window, self._keys.derive("sense", window))
        return known[1]

    # ── what becomes of it ───────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Merge, about once a second, for ever."""
        while True:
            await asyncio.sleep(MERGE_EVERY_S)
            try:
                await self.merge()
            except Fault as fault:
                logger.error("sense_failed", reason=fault.reason, detail=str(fault))

    async def merge(self) -> None:
        """Put what was seen together with what others saw; raise alerts, end them; and look which ones stand."""
        seen, self._seen = self._seen, {}
        now = self._clock()
        quiet = [one for one in self._standing if now - one.seen_ms >= quiet_s(one.within_s) * 1000]
        for alert in quiet:
            flow = self._flow_named(alert.flow)
            if flow is None or flow.sense.of(alert.attack) is None:
                self._tell(await end(self._store, alert.flow, alert.attack, now_ms=now))
        for name in sorted(seen.keys() | {alert.flow for alert in quiet}):
            flow, of = self._flow_named(name), seen.get(name, _Seen())
            if flow is None:
                continue
            await self._merge_some(flow, of, of.notes[:NOTES_A_MERGE], now)
            for begin in range(NOTES_A_MERGE, len(of.notes), NOTES_A_MERGE):
                await self._merge_some(flow, _Seen(), of.notes[begin : begin + NOTES_A_MERGE], now)
        await self.look()

    async def look(self) -> None:
        """Look which alerts stand. Raises `StoreFault` when the store cannot say."""
        self._standing = await standing(self._store)
        self._raised = frozenset(alert.flow for alert in self._standing)
        self._shown(self._standing)

    async def _merge_some(self, flow: Flow, seen: _Seen, notes: Sequence[Note], now_ms: int) -> None:
        merging = _Merging(flow, seen, [self._named(note) for note in notes], now_ms)
        for alert in await self._store.amend(merging.keys(), merging.change):
            self._tell(alert)

    def _named(self, note: Note) -> Note:
        """The note with account and number as records name them: work that no webhook should wait for."""
        number = self._keys.pseudonym("number", note.number) if note.number else ""
        return replace(note, account=self._keys.pseudonym("account", note.account), number=number)

    def _tell(self, alert: Alert | None) -> None:
        """One that was raised or is over: into the log, and to whoever wants to know."""
        if alert is None:
            return
        if alert.over_ms is None:
            logger.warning(
                "attack_suspected",
                flow=alert.flow,
                attack=alert.attack.value,
                alert=alert.id,
                count=alert.count,
                need=alert.need,
                hint=SAID[alert.attack],
            )
        else:
            logger.info("attack_over", flow=alert.flow, attack=alert.attack.value, alert=alert.id)
        self._told(alert)


class _Merging:
    """One merge of some notes of a flow: what it reads, and what comes of it."""

    def __init__(self, flow: Flow, seen: _Seen, notes: Sequence[Note], now_ms: int) -> None:
        self._flow = flow
        self._seen = seen
        self._notes = notes
        self._now = now_ms

    def keys(self) -> list[Key[object]]:
        """Everything that may change: a bounded number."""
        found: dict[Key[object], None] = {}
        for attack in Attack:
            threshold = self._flow.sense.of(attack)
            if threshold is not None:
                found |= dict.fromkeys(
                    (alert_key(self._flow.name, attack), *self._keys_of(attack, threshold))
                )
        return list(found)

    def _keys_of(self, attack: Attack, threshold: Threshold) -> Iterable[Key[object]]:
        window = threshold.window(self._now)
        match attack:
            case Attack.SPRAY:
                return (_sketch_key(self._flow.name, threshold, window),) if self._marks(window) else ()
            case Attack.STUFFING:
                return (self._answers_key(threshold),) if self._seen.judged else ()
            case Attack.FLOOD:
                return (self._calls_key(threshold),) if self._seen.calls else ()
            case _:
                names = (name for name, _, _ in self._pairs(attack))
                return [_bucket_key(self._flow.name, attack, threshold, window, name) for name in names]

    def _answers_key(self, threshold: Threshold) -> Key[Answers]:
        return Key("answers", f"{self._flow.name}/{threshold.within_s}")

    def _calls_key(self, threshold: Threshold) -> Key[Calls]:
        return Key("calls", f"{self._flow.name}/{threshold.within_s}")

    def _marks(self, window: int) -> list[tuple[int, int]]:
        """Cells and marks of this window; those of the one before it, seen a second ago, are let go."""
        return [
            (note.cell, note.mark) for note in self._notes if note.cell is not None and note.window == window
        ]

    def _pairs(self, attack: Attack) -> list[tuple[str, str, bool]]:
        """Who answered where: the account and the number, or the other way round. A withheld number is nobody's."""
        numbers = attack is Attack.MANY_NUMBERS
        return [
            (note.account, note.number, note.right) if numbers else (note.number, note.account, note.right)
            for note in self._notes
            if note.number
        ]

    def change(self, values: Values) -> Change[tuple[Alert, ...]]:
        """The merge itself: see `ports.Store.amend`. Its result: the alerts that were raised, or are over."""
        puts: list[Put] = []
        entries: list[Entry] = []
        told: list[Alert] = []
        for attack in Attack:
            threshold = self._flow.sense.of(attack)
            if threshold is None:
                continue
            finding = self._found(attack, threshold, values, puts)
            key = alert_key(self._flow.name, attack)
            before = _typed(values[key], Alert)
            after, entry = watched(before, self._flow.name, attack, threshold, finding, self._now)
            if after is not None and after != before:
                puts.append(alert_put(after))
            if after is not None and entry is not None:
                entries.append(entry)
                told.append(after)
        return Change(tuple(told), tuple(puts), tuple(entries))

    def _found(self, attack: Attack, threshold: Threshold, values: Values, puts: list[Put]) -> Finding | None:
        """What there is to see of an attack once everything is put together; `puts` gets what is kept."""
        match attack:
            case Attack.SPRAY:
                return self._sprayed(threshold, values, puts)
            case Attack.STUFFING:
                return self._stuffed(threshold, values, puts)
            case Attack.FLOOD:
                return self._flooded(threshold, values, puts)
            case _:
                return self._spread(attack, threshold, values, puts)

    def _sprayed(self, threshold: Threshold, values: Values, puts: list[Put]) -> Finding | None:
        window = threshold.window(self._now)
        marks = self._marks(window)
        if not marks:
            return None
        key = _sketch_key(self._flow.name, threshold, window)
        sketch = sense.marked(_typed(values[key], Sketch) or Sketch(), marks)
        puts.append(Put(key, sketch, threshold.ends_ms(self._now)))
        return sense.sprayed(threshold, sketch, [cell for cell, _ in marks])

    def _stuffed(self, threshold: Threshold, values: Values, puts: list[Put]) -> Finding | None:
        if not self._seen.judged:
            return None
        key = self._answers_key(threshold)
        answers = _typed(values[key], Answers) or Answers(threshold.window(self._now))
        wrong, judged = self._seen.wrong, self._seen.judged
        answers = sense.answered(answers, threshold, self._now, wrong=wrong, judged=judged)
        puts.append(Put(key, answers, self._now + TALLY_KEPT_S * 1000))
        return sense.stuffed(threshold, answers)

    def _flooded(self, threshold: Threshold, values: Values, puts: list[Put]) -> Finding | None:
        if not self._seen.calls:
            return None
        key = self._calls_key(threshold)
        calls = _typed(values[key], Calls) or Calls(threshold.window(self._now))
        calls = sense.called(calls, threshold, self._now, self._seen.calls)
        puts.append(Put(key, calls, self._now + TALLY_KEPT_S * 1000))
        return sense.flooded(threshold, calls)

    def _spread(
        self, attack: Attack, threshold: Threshold, values: Values, puts: list[Put]
    ) -> Finding | None:
        window = threshold.window(self._now)
        buckets: dict[Key[Bucket], tuple[Bucket, list[str]]] = {}
        for name, other, right in self._pairs(attack):
            key = _bucket_key(self._flow.name, attack, threshold, window, name)
            bucket, names = buckets.get(key) or (_typed(values[key], Bucket) or Bucket(), [])
            buckets[key] = (sense.met(bucket, name, other, right=right), [*names, name])
        puts.extend(Put(key, bucket, threshold.ends_ms(self._now)) for key, (bucket, _) in buckets.items())
        found = [sense.spread(threshold, bucket, names) for bucket, names in buckets.values()]
        return max(filter(None, found), key=lambda one: one.count / one.need, default=None)


def _typed(value: object | None, of: type[T]) -> T | None:
    return value if isinstance(value, of) else None
