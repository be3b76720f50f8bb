"""
An import: many accounts that come into force at one moment, or not at all.

One `amend` over 100,000 accounts would be one act too, but every other writer would wait for half a minute
(docs/decisions.md, 30). So:

1. **Everything is known before anything is written**: each row is compared with the account on file, and each secret
   is hashed.
2. **Stage.** What changes is written beside what counts (`Account.incoming`), a slice at a time, and does not count.
3. **Switch.** One small act puts the import in force (`Batch.state`), and every account of it with that.
4. **Settle.** What is incoming takes its place, a slice at a time, each account with its audit entry and the index of
   its numbers. Meanwhile, or if that is interrupted, readers see the same (`LocalDirectory.find`); only a number that is
   new is not offered to its caller until then.
5. An import that ends before the switch leaves nothing behind. If its process is killed, the next import finds what is
   left and takes it away, or, after the switch, finishes it. Each slice says that the import is alive; one that has
   not said so for `DEAD_AFTER_MS` is dead, and two at once are refused.
6. **Others go first.** A slice is small, and after each there is a pause in which the calls of a running server get
   their turn. Whoever changes an account that is staged (a caller's new PIN, an admin) is not undone: the import takes
   everything back, looks at that account again, and stages anew.
7. **Again is harmless.** A row that says what is on file changes nothing. Whether a PIN is the one on file is found out
   by its hash, which takes as long as to make one: anything faster would help a thief of the store as much.
8. **Nothing is taken away** by a row that does not say so: what a row is silent about stays as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar, cast

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import DirectoryFault
from ivrguard.directory.local import (
    BATCH,
    LocalDirectory,
    Values,
    account_key,
    crowded,
    is_crowded,
    number_key,
    with_credential,
)
from ivrguard.directory.people import Person
from ivrguard.ports import Account, Batch, BatchState, Change, Credential, Incoming, Put, Store

SLICE = 100
"""Accounts in one act: some 20 ms of work, which another writer may have to wait for."""
PAUSE_S = 0.03
"""
After each slice. A process that waits for SQLite's lock looks again every 25 ms at first, then more seldom
(`sqliteDefaultBusyCallback`): a shorter pause could be missed again and again.
"""
DEAD_AFTER_MS = 60_000
STAGED_TRIES_MAX = 3
"""How often an import is staged anew because somebody changed an account of it meanwhile."""
INCOMING_RANK = 1
"""Accounts with something incoming are found by rank; others have none."""

T = TypeVar("T")


class Pins(Protocol):
    """Makes and recognizes PINs (factors/pin.py). Both raise `core.errors.Busy` beyond their bound."""

    async def enrol(self, digits: str) -> Credential:
        """A PIN's credential."""

    async def holds(self, credential: Credential, digits: str) -> bool:
        """Whether the credential was made of these digits; False if that cannot be told here."""


class Apps(Protocol):
    """Makes and recognizes authenticator apps (factors/totp.py)."""

    def enrol(self, secret: str) -> Credential:
        """An app's credential."""

    def holds(self, credential: Credential, secret: str) -> bool:
        """Whether the credential was made of this secret; False if that cannot be told here."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a row makes of its account. `before`: as it was when they were compared; None: there was none."""

    person: Person = field(repr=False)
    before: Account | None
    after: Account

    def enrolled(self) -> tuple[Kind, ...]:
        """The kinds of secret that are new."""
        kinds = (Kind.PIN, Kind.TOTP)
        return tuple(
            one
            for one in kinds
            if self.after.credential(one) != (self.before and self.before.credential(one))
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import came to, in accounts; `enrolled`: whose secrets of which kinds are new."""

    created: int
    changed: int
    unchanged: int
    enrolled: Mapping[Kind, frozenset[str]] = field(repr=False)


class _Spoiled(Exception):
    """Somebody else changed an account of the import."""


class Intake:
    """
    Imports into one directory.

    `at_once`: rows compared at the same time, of which each may need a hash thread. `clock`: ms since the epoch.
    `tell`: what is being done, how many are done, of how many.
    """

    def __init__(
        self,
        store: Store,
        directory: LocalDirectory,
        pins: Pins,
        apps: Apps,
        *,
        at_once: int,
        clock: Callable[[], int],
        tell: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._store = store
        self._directory = directory
        self._pins = pins
        self._apps = apps
        self._at_once = at_once
        self._clock = clock
        self._tell = tell
        self._pause_s = pause_s
        self.in_force = False
        """Whether the import counts already: what is left to do then changes nothing that anybody sees."""

    async def run(self, people: Sequence[Person], *, batch_id: str, by: str) -> Outcome:
        """
        Have everybody in the directory as the rows say. `batch_id`: a name that no other import has, for the record.

        Raises `ValueError` for a number that would be on file for too many accounts, and `DirectoryFault` when another
        import is under way, or somebody kept changing the same accounts. Then, and when it is cancelled before it is in
        force, nothing has changed.
        """
        await self.tidy()
        planned = await self._compared(people)
        changes = [one for one in planned if one.after != one.before]
        await self._refuse_crowds(changes)
        if changes:
            changes = await self._brought(changes, batch_id, by, rows=len(planned))
        new = sum(one.before is None for one in changes)
        enrolled = {
            kind: frozenset(one.after.id for one in changes if kind in one.enrolled())
            for kind in (Kind.PIN, Kind.TOTP)
        }
        return Outcome(new, len(changes) - new, len(planned) - len(changes), enrolled)

    async def tidy(self) -> None:
        """
        Take away what an import left that ended too early, or finish it if it is in force.

        Raises `DirectoryFault` when an import is under way.
        """

        def change(values: Values) -> Change[Batch | None]:
            batch = cast("Batch | None", values[BATCH])
            if batch is None or batch.state is not BatchState.STAGING:
                return Change(batch)
            if self._clock() - batch.at_ms < DEAD_AFTER_MS:
                raise DirectoryFault(f"{batch.by} is importing accounts: try again when that has ended")
            return Change(batch, (Put(BATCH, replace(batch, state=BatchState.SPOILED)),))

        found = await self._store.amend((BATCH,), change)
        if found is not None:
            await self._settle(found.id, "tidying up", 0)

    # ── compare ──────────────────────────────────────────────────────────────────────────────────────────

    async def _compared(self, people: Sequence[Person]) -> list[Planned]:
        """What each row makes of its account, by id: neighbours in the store are written together."""
        planned: list[Planned] = []
        rows = iter(people)

        async def work() -> None:
            for person in rows:
                planned.append(await self._plan(person))
                self._tell("comparing", len(planned), len(people))
                if len(planned) % SLICE == 0:
                    await asyncio.sleep(0)  # where nothing is to be waited for: Ctrl-C is heard here

        await _all([work() for _ in range(self._at_once)])
        return sorted(planned, key=lambda one: one.after.id)

    async def _plan(self, person: Person) -> Planned:
        before = await self._directory.find(person.account)
        account = before or Account(person.account)
        credentials = account.credentials
        async for one in self._credentials(account, person):
            credentials = with_credential(credentials, one)
        after = Account(
            account.id,
            account.numbers if person.numbers is None else person.numbers,
            credentials,
            account.disabled if person.disabled is None else person.disabled,
            account.language if person.language is None else person.language,
        )
        return Planned(person, before, after)

    async def _credentials(self, account: Account, person: Person) -> AsyncIterator[Credential]:
        """The credentials that a row brings; those on file that hold the same secret stay."""
        if person.pin is not None:
            pin = account.credential(Kind.PIN)
            if pin is None or not await self._pins.holds(pin, person.pin):
                yield await self._pins.enrol(person.pin)
        if person.sms is not None:
            yield Credential(Kind.SMS_CODE, number=person.sms)
        if person.totp is not None:
            app = account.credential(Kind.TOTP)
            if app is None or not self._apps.holds(app, person.totp):
                yield self._apps.enrol(person.totp)

    async def _refuse_crowds(self, changes: Sequence[Planned]) -> None:
        """Raise `ValueError` for a number that would be on file for too many accounts."""
        theirs: dict[str, set[str]] = {}
        for one in changes:
            for number in one.after.numbers:
                theirs.setdefault(number, set()).add(one.after.id)
        ours = {one.after.id for one in changes}
        for one in changes:
            for number in one.after.numbers:
                if one.before is None or number not in one.before.numbers:
                    ids = await self._store.read(number_key(number)) or ()
                    if is_crowded((*(set(ids) - ours), *theirs[number]), one.after.id):
                        raise ValueError(f"line {one.person.line}: numbers: {crowded()}")

    # ── write ────────────────────────────────────────────────────────────────────────────────────────────

    async def _brought(self, changes: list[Planned], batch_id: str, by: str, *, rows: int) -> list[Planned]:
        """Stage, switch and settle; what was changed in the end, as others may have changed an account meanwhile."""
        for attempt in range(STAGED_TRIES_MAX):
            batch = Batch(f"{batch_id}-{attempt}", BatchState.STAGING, by, self._clock())
            try:
                await self._begin(batch)
                await self._stage(changes, batch)
                await self._switch(changes, batch, rows)
            except _Spoiled:
                await self._undo(batch)
                changes = [one for each in changes if (one := await self._renewed(each)).after != one.before]
                continue
            except BaseException:
                await self._undo(batch)
                raise
            self.in_force = True
            await self._settle(batch.id, "tidying up", len(changes))
            return changes
        raise DirectoryFault(
            "accounts were changed by others again and again: nothing was imported; try later"
        )

    async def _renewed(self, one: Planned) -> Planned:
        return one if await self._directory.find(one.after.id) == one.before else await self._plan(one.person)

    async def _begin(self, batch: Batch) -> None:
        await self.tidy()

        def change(values: Values) -> Change[None]:
            if values[BATCH] is not None:
                raise DirectoryFault("somebody else is importing accounts: try again when that has ended")
            return Change(None, (Put(BATCH, batch),))

        await self._store.amend((BATCH,), change)

    async def _stage(self, changes: Sequence[Planned], batch: Batch) -> None:
        done = 0
        for part in _sliced(changes):
            alive = replace(batch, at_ms=self._clock())
            await self._store.amend(
                (BATCH, *(account_key(one.after.id) for one in part)), partial(_staged, part, alive)
            )
            done += len(part)
            self._tell("writing", done, len(changes))
            await asyncio.sleep(self._pause_s)

    async def _switch(self, changes: Sequence[Planned], batch: Batch, rows: int) -> None:
        new = sum(one.before is None for one in changes)
        counts = (("created", new), ("changed", len(changes) - new), ("unchanged", rows - len(changes)))
        told = tuple((name, str(count)) for name, count in counts)
        at_ms = self._clock()
        entry = Entry(
            at_ms,
            "accounts_imported",
            reason="in_force",
            detail=(("by", batch.by), ("import", batch.id), *told),
        )

        def change(values: Values) -> Change[None]:
            _refuse_unless_staging(values, batch)
            return Change(
                None, (Put(BATCH, replace(batch, state=BatchState.IN_FORCE, at_ms=at_ms)),), (entry,)
            )

        await self._store.amend((BATCH,), change)

    async def _undo(self, batch: Batch) -> None:
        """Take back what was staged."""

        def change(values: Values) -> Change[None]:
            kept = cast("Batch | None", values[BATCH])
            if kept is None or kept.id != batch.id or kept.state is not BatchState.STAGING:
                return Change(None)
            return Change(None, (Put(BATCH, replace(kept, state=BatchState.SPOILED)),))

        await self._store.amend((BATCH,), change)
        await self._settle(batch.id, "taking back", 0)

    async def _settle(self, batch_id: str, what: str, of: int) -> None:
        """Have nothing of this import be incoming any more, and nothing left of it."""
        done = 0
        while True:
            found = await self._store.list("account", rank_from=INCOMING_RANK, limit=SLICE)
            kept = [cast("Account", one.value) for one in found]
            ours = [one for one in kept if one.incoming is not None and one.incoming.batch == batch_id]
            if not ours:
                break
            await self._directory.settle(ours)
            done += len(ours)
            self._tell(what, done, max(of, done))
            await asyncio.sleep(self._pause_s)

        def change(values: Values) -> Change[None]:
            kept = cast("Batch | None", values[BATCH])
            return Change(None, (Put(BATCH, None),) if kept is not None and kept.id == batch_id else ())

        await self._store.amend((BATCH,), change)


def _staged(part: Sequence[Planned], batch: Batch, values: Values) -> Change[None]:
    """A slice of an import written beside what counts."""
    _refuse_unless_staging(values, batch)
    puts = [Put(BATCH, batch)]
    for one in part:
        if values[account_key(one.after.id)] != one.before:
            raise _Spoiled
        new = Incoming(
            batch.id,
            one.before is None,
            one.after.numbers,
            one.after.credentials,
            one.after.disabled,
            one.after.language,
        )
        # An account that is not there yet is disabled to whoever does not know of imports.
        kept = one.before or Account(one.after.id, disabled=True)
        puts.append(Put(account_key(kept.id), replace(kept, incoming=new), rank=INCOMING_RANK))
    return Change(None, tuple(puts))


def _refuse_unless_staging(values: Values, batch: Batch) -> None:
    kept = cast("Batch | None", values[BATCH])
    if kept is None or kept.id != batch.id or kept.state is not BatchState.STAGING:
        raise _Spoiled


def _sliced(changes: Sequence[T]) -> Iterator[Sequence[T]]:
    return (changes[start : start + SLICE] for start in range(0, len(changes), SLICE))


async def _all(works: Sequence[Coroutine[None, None, None]]) -> None:
    """Do all of them; at the first fault, or when cancelled, the others are cancelled too."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
