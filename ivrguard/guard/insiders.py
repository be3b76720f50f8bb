"""
Insiders looked for: the record read on, and the risk team told (core/insiders.py).

The laws of this file:

1. One node reads on, about every `LOOK_EVERY_S`: whoever moves the place in the record on, with what came of it, in one
   `amend`. So each entry is counted once, by whichever node, and one that dies has moved nothing.
2. It begins where the record ends when it is first looked at: what was done before is nobody's suspicion. Entries that were
   archived meanwhile are passed over.
3. A page of entries at a time, and nobody waits for it: no webhook and no agent.
4. Who is suspected is told by the ways of alerts, and stands in the record; no page or API of agents shows any of it.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ivrguard import log
from ivrguard.core import insiders
from ivrguard.core.audit import Entry, Linked
from ivrguard.core.errors import Fault
from ivrguard.core.insiders import SAID, Person, Sign, Suspicion, Watch
from ivrguard.ports import Change, Key, Notice, Put, Store

LOOK_EVERY_S = 20.0
ENTRIES_A_PAGE = 500
LISTED_MAX = 500
KEPT_S = 90 * 24 * 3600
YEAR_9999_MS = 253_370_764_800_000
"""What a wrong clock wrote beyond it is in no calendar, and in no shift."""

Values = Mapping[Key[object], object | None]

logger = log.get()

PLACE: Key[int] = Key("insiders", "place")
"""The number of the last entry that was looked at."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What one step came to: of whom the team is told."""

    told: tuple[tuple[str, Suspicion], ...] = ()


def person_key(name: str) -> Key[Person]:
    """What is known of somebody, by his name as the record has it."""
    return Key("insider", name)


def notice_of(name: str, suspicion: Suspicion) -> Notice:
    """What the risk team is told of a suspicion that was raised, or is over."""
    over = suspicion.over_ms is not None
    data: dict[str, object] = {
        "person": name,
        "sign": suspicion.sign.value,
        "says": SAID[suspicion.sign],
        "count": suspicion.count,
        "need": suspicion.need,
        "within_s": suspicion.within_s,
        "raised_at_ms": suspicion.raised_ms,
    }
    if over:
        data["over_at_ms"] = suspicion.over_ms
    words = "over" if over else f"{suspicion.count} counted, {suspicion.need} raise a suspicion"
    who = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Notice(
        id=f"insider/{who}/{suspicion.sign}/{suspicion.raised_ms}/{'over' if over else 'raised'}",
        type="insider.over" if over else "insider.suspected",
        at_ms=suspicion.over_ms if suspicion.over_ms is not None else suspicion.raised_ms,
        data=data,
        text=f"ivrguard: {name}: {SAID[suspicion.sign]} ({words})",
    )


def person_put(person: Person) -> Put:
    """Somebody as he is kept; who is suspected has a rank, by which he is found."""
    stands = person.standing()
    times = [*(one.at_ms for one in person.acts), *(at_ms for at_ms, _ in person.served)]
    times += [one.over_ms or one.raised_ms for one in person.suspicions]
    expires_ms = None if stands else max(times, default=0) + KEPT_S * 1000
    value = None if insiders.idle(person) else person
    return Put(
        person_key(person.name), value, expires_ms, min((one.raised_ms for one in stands), default=None)
    )


async def every(store: Store) -> tuple[Person, ...]:
    """Everybody of whom there was ever a suspicion that is kept, those who are suspected now first."""
    found: list[Person] = []
    after = ""
    while page := await store.list("insider", after=after, limit=LISTED_MAX):
        found += [one.value for one in page if isinstance(one.value, Person) and one.value.suspicions]
        after = page[-1].id
    return tuple(sorted(found, key=lambda one: (not one.standing(), one.name)))


async def end(store: Store, name: str, sign: Sign, *, by: str, because: str, now_ms: int) -> bool:
    """End a suspicion by hand, on record; False if none of this sign stands."""
    key = person_key(name)

    def change(values: Values) -> Change[bool]:
        person = values[key]
        if not isinstance(person, Person):
            return Change(result=False)
        after, entries = insiders.ended(person, sign, by, because, now_ms)
        return Change(bool(entries), (person_put(after),) if entries else (), entries)

    return await store.amend([key], change)


class Insiders:
    """One node's part of it. `clock`: ms since the epoch. `zone`: where shifts are. `tell`: tells the risk team."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], int],
        watch: Watch,
        *,
        zone: ZoneInfo,
        tell: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._watch = watch
        self._zone = zone
        self._tell = tell

    async def run(self) -> None:
        """Read on, about every `LOOK_EVERY_S`, for ever."""
        while True:
            try:
                await self.look()
            except Fault as fault:
                logger.error("insiders_failed", reason=fault.reason, detail=str(fault))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Read on to the end of the record; then look whether what stands is over. Raises `Fault`."""
        place = await self._store.read(PLACE)
        if place is None:
            place = await self._begun()
        while page := await self._store.entries(after=place, limit=ENTRIES_A_PAGE):
            await self._read_on(place, page)
            place = page[-1].seq
        for one in await self._store.list("insider", rank_from=0, limit=LISTED_MAX):
            await self._amend([person_key(one.id)], lambda values: self._weighed(values, {}))

    async def _begun(self) -> int:
        seq, _ = await self._store.head()

        def change(values: Values) -> Change[int]:
            found = values[PLACE]
            if isinstance(found, int):
                return Change(found)
            return Change(seq, (Put(PLACE, seq),))

        return await self._store.amend([PLACE], change)

    async def _read_on(self, place: int, page: Sequence[Linked]) -> None:
        """Count a page, unless another node has moved on from there."""
        by_person: dict[str, list[Entry]] = {}
        for linked in page:
            name = insiders.person_of(linked.entry) if linked.entry.event in insiders.EVENTS else ""
            if name and 0 <= linked.entry.at_ms < YEAR_9999_MS:
                by_person.setdefault(name, []).append(linked.entry)

        def change(values: Values) -> Change[_Done]:
            if values[PLACE] != place:
                return Change(_Done())
            done = self._weighed(values, by_person)
            return Change(done.result, (*done.puts, Put(PLACE, page[-1].seq)), done.entries)

        await self._amend([PLACE, *map(person_key, by_person)], change)

    async def _amend(self, keys: Sequence[Key[object]], change: Callable[[Values], Change[_Done]]) -> None:
        done = await self._store.amend(keys, change)
        for name, suspicion in done.told:
            notice = notice_of(name, suspicion)
            logger.warning(notice.type.replace(".", "_"), alert=notice.id)
            self._tell(notice)

    def _weighed(self, values: Values, by_person: Mapping[str, Sequence[Entry]]) -> Change[_Done]:
        """Everybody among these values, once these entries of his are known."""
        now = self._clock()
        puts: list[Put] = []
        entries: list[Entry] = []
        told: list[tuple[str, Suspicion]] = []
        for key, value in values.items():
            if key.kind != "insider":
                continue
            person = value if isinstance(value, Person) else Person(key.id)
            after = person
            for entry in by_person.get(key.id, ()):
                local = datetime.fromtimestamp(entry.at_ms / 1000, UTC).astimezone(self._zone)
                after = insiders.seen(
                    self._watch, after, entry, local.weekday(), local.hour * 60 + local.minute
                )
            after, more, news = insiders.weighed(self._watch, after, now)
            if after != person:
                puts.append(person_put(after))
            entries += more
            told += [(after.name, one) for one in news]
        return Change(_Done(tuple(told)), tuple(puts), tuple(entries))
