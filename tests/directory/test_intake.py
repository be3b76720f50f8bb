"""
An import: all of it or nothing, whenever it ends; again is harmless; others go first.

Hashes are stood in for by a table here, so that there can be many; with real ones it is imported in
tests/commands/test_bulk.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import verify
from ivrguard.core.errors import Busy, DirectoryFault, StoreFault
from ivrguard.directory import intake, local
from ivrguard.directory.intake import Intake, Outcome
from ivrguard.directory.local import BATCH, LocalDirectory
from ivrguard.directory.people import Person
from ivrguard.keyring import Keyring
from ivrguard.ports import Account, Batch, BatchState, Change, Credential, Incoming, Key, Put, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

NOW_MS = 1_790_000_000_000
HOME, WORK, NEW = "+18005550142", "+442079460000", "+18005550177"
KEYS = Keyring(
    sealing={"k1": b"k" * 32}, peppers={"p1": b"p" * 32}, naming={"n1": b"n" * 32}, signing={"s1": b"s" * 32}
)
PIN, SMS, TOTP = Kind.PIN, Kind.SMS_CODE, Kind.TOTP


@dataclass
class Made:
    """Makes credentials that hold their secret in clear, each unlike the one before, and keeps count."""

    kind: Kind
    made: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def credential(self, secret: str) -> Credential:
        self.made.append(secret)
        return Credential(self.kind, f"{secret}#{len(self.made)}")

    def is_of(self, credential: Credential, secret: str) -> bool:
        self.compared.append(secret)
        return credential.secret.partition("#")[0] == secret


class Pins(Made):
    async def enrol(self, digits: str) -> Credential:
        return await self._apart(lambda: self.credential(digits))

    async def holds(self, credential: Credential, digits: str) -> bool:
        return await self._apart(lambda: self.is_of(credential, digits))

    async def _apart(self, work: Callable[[], Any]) -> Any:
        """On a thread, as it were: the others get their turn."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return work()


class Apps(Made):
    def enrol(self, secret: str) -> Credential:
        return self.credential(secret)

    def holds(self, credential: Credential, secret: str) -> bool:
        return self.is_of(credential, secret)


@dataclass
class Town:
    """A directory, and whoever imports into it."""

    store: Any
    now_ms: int = NOW_MS
    pins: Pins = field(default_factory=lambda: Pins(PIN))
    apps: Apps = field(default_factory=lambda: Apps(TOTP))
    told: list[tuple[str, int, int]] = field(default_factory=list)
    imports: int = 0

    def clock(self) -> int:
        return self.now_ms

    @property
    def directory(self) -> LocalDirectory:
        return LocalDirectory(self.store, KEYS)

    def intake(self, store: Any = None) -> Intake:
        store = store or self.store
        return Intake(
            store,
            LocalDirectory(store, KEYS),
            self.pins,
            self.apps,
            at_once=4,
            clock=self.clock,
            tell=lambda *told: self.told.append(told),
            pause_s=0,
        )

    async def bring(self, *people: Person, store: Any = None, by: str = "ada") -> Outcome:
        self.imports += 1
        return await self.intake(store).run(people, batch_id=f"i{self.imports}", by=by)

    async def accounts(self) -> dict[str, Account]:
        """Everybody, as callers meet them."""
        found, _ = await local.page(self.store)
        return {one.id: one for one in found}

    async def leavings(self) -> tuple[list[str], Batch | None]:
        """What an import has not put away."""
        found = await self.store.list("account", rank_from=-(2**62))
        return [one.id for one in found], await self.store.read(BATCH)

    async def record(self) -> list[tuple[str, str, str]]:
        entries = [linked.entry for linked in await self.store.entries()]
        assert isinstance(verify(await self.store.entries(), head=await self.store.head()), int)
        return [(one.event, one.reason, " ".join(f"{k}={v}" for k, v in one.detail)) for one in entries]


@pytest.fixture(params=["memory", "sqlite"])
async def town(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Town]:
    store: Store = (
        MemoryStore()
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "town.db", migrate=True)
    )
    yield Town(store)
    await store.close()


@pytest.fixture(autouse=True)
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few people are several slices."""
    monkeypatch.setattr(intake, "SLICE", 3)


def people(count: int, **said: Any) -> list[Person]:
    return [Person(place + 2, f"P{place:02}", **said) for place in range(count)]


# ── what a row makes of an account ───────────────────────────────────────────────────────────────────────


async def test_everybody_is_there_and_on_record(town: Town) -> None:
    """New accounts, with all that their rows say; one entry for the import, and one for each."""
    ada = Person(2, "ADA", (HOME, WORK), "24681357", HOME, "JBSW", "en-GB", None)
    bob = Person(3, "BOB", disabled=True)

    assert await town.bring(ada, bob) == Outcome(2, 0, 0, {PIN: frozenset(["ADA"]), TOTP: frozenset(["ADA"])})

    credentials = (Credential(PIN, "24681357#1"), Credential(SMS, number=HOME), Credential(TOTP, "JBSW#1"))
    assert await town.accounts() == {
        "ADA": Account("ADA", (HOME, WORK), credentials, language="en-GB"),
        "BOB": Account("BOB", disabled=True),
    }
    assert await town.directory.by_number(WORK) == await town.directory.by_id("ADA")
    assert await town.leavings() == ([], None)
    assert await town.record() == [
        ("accounts_imported", "in_force", "by=ada import=i1-0 created=2 changed=0 unchanged=0"),
        ("user_created", "imported", "by=ada import=i1-0"),
        ("user_created", "imported", "by=ada import=i1-0"),
    ]
    last = (await town.store.entries())[-1].entry
    assert (last.at_ms, last.account) == (NOW_MS, KEYS.pseudonym("account", "BOB"))


async def test_again_is_harmless(town: Town) -> None:
    """The same file a second time changes nothing: no hash is made, nothing is written, nothing goes on record."""
    rows = [
        *people(7, pin="24681357", totp="JBSW", numbers=(HOME,), sms=HOME, language="en", disabled=False),
        Person(99, "BARE"),
    ]
    await town.bring(*rows)
    before, head = await town.accounts(), await town.store.head()

    assert await town.bring(*rows) == Outcome(0, 0, 8, {PIN: frozenset(), TOTP: frozenset()})

    assert (await town.accounts(), await town.store.head()) == (before, head)
    assert (len(town.pins.made), len(town.pins.compared)) == (7, 7)
    assert (len(town.apps.made), len(town.apps.compared)) == (7, 7)


ADA = Account("ADA", (HOME, WORK), (Credential(SMS, number=HOME), Credential(PIN, "24681357#0")), False, "en")


@pytest.mark.parametrize(
    ("row", "after", "changed"),
    [
        (Person(2, "ADA", numbers=(NEW,)), replace(ADA, numbers=(NEW,)), "numbers"),
        (Person(2, "ADA", numbers=()), replace(ADA, numbers=()), "numbers"),
        (Person(2, "ADA", language="es"), replace(ADA, language="es"), "language"),
        (Person(2, "ADA", disabled=True), replace(ADA, disabled=True), "disabled"),
        (
            Person(2, "ADA", sms=NEW),
            replace(ADA, credentials=(Credential(SMS, number=NEW), ADA.credentials[1])),
            "sms_code",
        ),
        (
            Person(2, "ADA", pin="90514827"),
            replace(ADA, credentials=(ADA.credentials[0], Credential(PIN, "90514827#1"))),
            "pin",
        ),
        (
            Person(2, "ADA", pin="24681357", totp="JBSW"),
            replace(ADA, credentials=(*ADA.credentials, Credential(TOTP, "JBSW#1"))),
            "totp",
        ),
    ],
)
async def test_a_row_changes_what_it_names_and_nothing_else(
    town: Town, row: Person, after: Account, changed: str
) -> None:
    """What it is silent about stays; the index of numbers follows; the record names the parts."""
    await town.directory.add(ADA, now_ms=NOW_MS, by="eve")

    outcome = await town.bring(row)

    assert (outcome.created, outcome.changed, outcome.unchanged) == (0, 1, 0)
    assert outcome.enrolled == {kind: frozenset(["ADA"] if changed == kind else []) for kind in (PIN, TOTP)}
    assert await town.directory.find("ADA") == after
    by_number = [await town.store.read(local.number_key(number)) for number in (HOME, WORK, NEW)]
    assert by_number == [("ADA",) if number in after.numbers else None for number in (HOME, WORK, NEW)]
    assert (await town.record())[-1] == (
        "user_updated",
        "imported",
        f"by=ada changed={changed} import=i1-0",
    )


async def test_hashes_are_made_side_by_side_and_no_more_than_may_be(town: Town) -> None:
    """As many as were asked for at once; whoever waits is told how far it is."""
    await town.bring(*people(20, pin="24681357"))
    assert town.pins.most_at_once == 4
    assert [told for told in town.told if told[0] == "comparing"][-1] == ("comparing", 20, 20)
    assert [done for what, done, of in town.told if (what, of) == ("writing", 20)] == [
        3,
        6,
        9,
        12,
        15,
        18,
        20,
    ]
    assert [done for what, done, of in town.told if (what, of) == ("tidying up", 20)] == [
        3,
        6,
        9,
        12,
        15,
        18,
        20,
    ]


async def test_a_switchboards_number_is_refused(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the others who have it are on file or in the same import; who gives it up makes room."""
    monkeypatch.setattr(local, "NUMBER_ACCOUNTS_MAX", 2)
    await town.bring(Person(2, "ADA", (HOME,)), Person(3, "BOB", (HOME,)))
    why = "line 7: numbers: a number is on file for 2 accounts"
    with pytest.raises(ValueError, match=why):
        await town.bring(Person(7, "CAT", (HOME,)))
    with pytest.raises(ValueError, match="line 2: numbers: a number is on file for 2"):
        await town.bring(*people(3, numbers=(WORK,)))
    assert sorted(await town.accounts()) == ["ADA", "BOB"]
    await town.bring(Person(2, "ADA", (WORK,)), Person(7, "CAT", (HOME,)))
    assert await town.store.read(local.number_key(HOME)) == ("BOB", "CAT")


# ── all or nothing ───────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process is no more."""


class Watched:
    """The store of one process: something happens after its nth act, or it is killed there, and does nothing more."""

    def __init__(
        self, store: Any, after: Callable[[int], Awaitable[None]] | None = None, killed_after: int = -1
    ) -> None:
        self.store = store
        self.after = after
        self.killed_after = killed_after
        self.acts = 0

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Any]],
    ) -> Any:
        if self.acts == self.killed_after:
            raise Killed
        result = await self.store.amend(keys, change)
        self.acts += 1
        if self.after is not None:
            await self.after(self.acts)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def old_town(town: Town) -> tuple[list[Person], dict[str, Account]]:
    """Five accounts, an import that changes three of them and adds four, and everybody as they are before."""
    await town.bring(*people(5, numbers=(HOME,), pin="24681357"))
    rows = people(9, numbers=(WORK,), pin="90514827")[2:]
    return rows, await town.accounts()


def is_new(account: Account) -> bool:
    return account.numbers == (WORK,)


async def test_at_every_moment_all_of_it_or_nothing_is_seen(town: Town) -> None:
    """Looked at after each act, in every way there is to look: first everybody as before, then everybody new."""
    rows, before = await old_town(town)
    seen = []

    async def look(_act: int) -> None:
        listed = await town.accounts()
        found = [await town.directory.find(f"P{place:02}") for place in range(9)]
        called = [await town.directory.by_id(f"P{place:02}") for place in range(9)]
        assert {one.id: one for one in found if one} == listed
        assert [one for one in found if one] == [one for one in called if one]
        assert all(one.incoming is None for one in listed.values())
        seen.append(
            "before"
            if listed == before
            else "after"
            if all(map(is_new, list(listed.values())[2:]))
            else "torn"
        )

    await town.bring(*rows, store=Watched(town.store, look))

    switched = seen.index("after")
    assert seen == ["before"] * switched + ["after"] * (len(seen) - switched)
    assert switched >= 4
    assert len(seen) - switched >= 4
    assert sorted(await town.accounts()) == [f"P{place:02}" for place in range(9)]


ACTS = 11
"""Of such an import: two that look for another one, its beginning, three slices, the switch, three more, its end."""


@pytest.mark.parametrize("act", range(ACTS + 1))
async def test_killed_at_any_moment_it_is_all_or_nothing(town: Town, act: int) -> None:
    """The next import takes away what is left of it, or finishes it; what callers see is whole in any case."""
    rows, before = await old_town(town)
    process = Watched(town.store, killed_after=act)
    try:
        await town.bring(*rows, store=process)
    except Killed:
        assert process.acts == act
    else:
        assert act == ACTS

    left = await town.accounts()
    assert left == before or all(map(is_new, list(left.values())[2:]))
    assert (left == before) == (act < 7)

    town.now_ms += intake.DEAD_AFTER_MS
    await town.bring(Person(2, "ZOE"))

    assert {name: one for name, one in (await town.accounts()).items() if name != "ZOE"} == left
    assert await town.leavings() == ([], None)
    for number in (HOME, WORK):
        ids = tuple(sorted(name for name, one in left.items() if number in one.numbers))
        assert await town.store.read(local.number_key(number)) == (ids or None)
    created = [entry for entry in await town.record() if entry[:2] == ("user_created", "imported")]
    assert len(created) == len(left) + 1


@pytest.mark.parametrize("act", range(1, 7))
@pytest.mark.parametrize("error", [asyncio.CancelledError, StoreFault])
async def test_one_that_ends_before_it_is_in_force_leaves_nothing(
    town: Town, act: int, error: type[BaseException]
) -> None:
    """Ctrl-C, or a fault of the disk: taken back at once."""
    rows, before = await old_town(town)

    async def fail(done: int) -> None:
        if done == act:
            raise error("no more")

    with pytest.raises(error):
        await town.bring(*rows, store=Watched(town.store, fail))

    assert await town.accounts() == before
    assert await town.leavings() == ([], None)


async def test_one_that_ends_after_it_is_in_force_is_in_force(town: Town) -> None:
    """Whoever asked for it can tell which; the next one puts the rest in its place."""
    rows, _ = await old_town(town)

    async def fail(done: int) -> None:
        if done == 8:
            raise asyncio.CancelledError

    bringing = town.intake(Watched(town.store, fail))
    with pytest.raises(asyncio.CancelledError):
        await bringing.run(rows, batch_id="x", by="ada")

    assert bringing.in_force
    after = await town.accounts()
    assert all(map(is_new, list(after.values())[2:]))
    assert len((await town.leavings())[0]) == 4
    await town.bring(*rows)
    assert (await town.accounts(), await town.leavings()) == (after, ([], None))


async def test_a_switch_that_was_not_heard_of_is_not_taken_back(town: Town) -> None:
    """It is in the store, and then the connection is gone: what is in force stays in force, whole."""
    rows, _ = await old_town(town)

    async def fail(done: int) -> None:
        if done == 7:
            raise StoreFault("no answer")

    with pytest.raises(StoreFault):
        await town.bring(*rows, store=Watched(town.store, fail))

    assert all(map(is_new, list((await town.accounts()).values())[2:]))
    assert await town.leavings() == ([], None)


# ── others ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_imports_at_once_are_refused(town: Town) -> None:
    """The second one, at once and before it hashes anything; a third, after the first is silent, takes its place."""
    other = Batch("other", BatchState.STAGING, "eve", town.now_ms)
    await town.store.amend([BATCH], lambda _: Change(None, (Put(BATCH, other),)))
    town.now_ms += intake.DEAD_AFTER_MS - 1
    with pytest.raises(DirectoryFault, match=r"^eve is importing accounts: try again when that has ended$"):
        await town.bring(*people(3, pin="24681357"))
    assert town.pins.made == []

    town.now_ms += 1
    await town.bring(*people(3, pin="24681357"))
    assert len(await town.accounts()) == 3


@pytest.mark.parametrize("act", [2, 3, 4, 5, 6])
async def test_one_that_seemed_dead_does_not_go_on(town: Town, act: int) -> None:
    """Another import came in its place while it slept: it looks at every account again, and comes after that one."""
    first, second = people(9, numbers=(HOME,)), people(9, numbers=(WORK,))
    slept: list[Outcome] = []

    async def sleep(done: int) -> None:
        if done == act:
            town.now_ms += intake.DEAD_AFTER_MS
            slept.append(await town.bring(*second, by="bob"))

    await town.bring(*first, store=Watched(town.store, sleep))

    assert [one.created for one in slept] == [9]
    assert {one.numbers for one in (await town.accounts()).values()} == {(HOME,)}
    assert await town.leavings() == ([], None)
    assert [entry[2] for entry in await town.record() if entry[0] == "accounts_imported"] == [
        "by=bob import=i2-0 created=9 changed=0 unchanged=0",
        "by=ada import=i1-1 created=0 changed=9 unchanged=0",
    ]


async def test_a_batch_that_began_in_between_is_not_overwritten(town: Town) -> None:
    """Between the look for another import and the beginning of this one."""

    async def begin(done: int) -> None:
        if done == 2:
            other = Batch("other", BatchState.STAGING, "eve", town.now_ms)
            await town.store.amend([BATCH], lambda _: Change(None, (Put(BATCH, other),)))

    with pytest.raises(DirectoryFault, match="somebody else is importing accounts"):
        await town.bring(*people(3), store=Watched(town.store, begin))
    assert (await town.leavings())[1] is not None


CHANGES: Mapping[str, Callable[[LocalDirectory], Awaitable[object]]] = {
    "a caller's new PIN": lambda at: at.enrol(
        "P03", Credential(PIN, "13572468#9"), now_ms=NOW_MS, by="the caller"
    ),
    "disabled": lambda at: at.disable("P03", now_ms=NOW_MS, by="eve"),
    "erased": lambda at: at.erase("P03", now_ms=NOW_MS, by="eve", because="asked"),
}


@pytest.mark.parametrize("act", [3, 4, 5, 6])
@pytest.mark.parametrize("name", CHANGES)
async def test_whoever_changes_an_account_meanwhile_is_not_undone(town: Town, name: str, act: int) -> None:
    """Staged already or not yet: his change stands, and the import is as if it had begun after it."""
    await old_town(town)
    rows = people(9, language="fr")[2:]

    async def meddle(done: int) -> None:
        if done == act:
            await CHANGES[name](town.directory)

    outcome = await town.bring(*rows, store=Watched(town.store, meddle))

    after = await town.accounts()
    assert [after[f"P{place:02}"].language for place in range(2, 9)] == ["fr"] * 7
    assert after["P03"].disabled is (name == "disabled")
    pin = after["P03"].credential(PIN)
    assert {"erased": None, "disabled": Credential(PIN, "24681357#4")}.get(
        name, Credential(PIN, "13572468#9")
    ) == pin
    assert (outcome.created, outcome.changed) == ((5, 2) if name == "erased" else (4, 3))
    assert await town.leavings() == ([], None)
    assert [entry[2][:17] for entry in await town.record() if entry[0] == "accounts_imported"] == [
        "by=ada import=i1-",
        "by=ada import=i2-",
    ]


async def test_a_change_that_makes_a_row_say_nothing_new_leaves_it_out(town: Town) -> None:
    """Looked at again, it is on file already."""
    await old_town(town)

    async def meddle(done: int) -> None:
        if done == 5:
            await town.directory.disable("P00", now_ms=NOW_MS, by="eve")

    outcome = await town.bring(*people(5, disabled=True), store=Watched(town.store, meddle))
    assert (outcome.changed, outcome.unchanged) == (4, 1)


async def test_one_that_is_never_left_alone_gives_up(town: Town) -> None:
    """Nothing is imported, and who asked for it is told."""
    _, before = await old_town(town)
    pins = iter(range(1000))

    async def meddle(_done: int) -> None:
        credential = Credential(PIN, f"97531864#{next(pins)}")
        await town.directory.enrol("P02", credential, now_ms=NOW_MS, by="the caller")

    with pytest.raises(
        DirectoryFault, match="changed by others again and again: nothing was imported; try later"
    ):
        await town.bring(*people(9, language="fr"), store=Watched(town.store, meddle))

    after = await town.accounts()
    assert {**after, "P02": before["P02"]} == before
    assert await town.leavings() == ([], None)


async def test_a_fault_of_one_row_ends_the_others(town: Town) -> None:
    """No hash goes on for nobody, and nothing is written."""

    async def busy(_digits: str) -> Credential:
        raise Busy("no thread is free")

    town.pins.enrol = busy  # type: ignore[method-assign]  # a weakened one
    with pytest.raises(Busy):
        await town.bring(*people(20, pin="24681357"))
    assert await town.store.head() == (0, "0" * 64)
    assert town.pins.at_once == 0


# ── while it is under way ────────────────────────────────────────────────────────────────────────────────


async def test_what_is_staged_is_not_there_for_whoever_does_not_know_of_imports(town: Town) -> None:
    """Read from the store as it is kept, an account that is new is disabled, and one that is not is as it was."""
    rows, before = await old_town(town)
    await killed(town, rows, after=6)
    for name in ("P02", "P08"):
        kept = await town.store.read(local.account_key(name))
        assert kept is not None
        assert isinstance(kept.incoming, Incoming)
        assert replace(kept, incoming=None) == before.get(name, Account(name, disabled=True))


async def killed(town: Town, rows: list[Person], *, after: int) -> None:
    """An import that is killed."""
    with pytest.raises(Killed):
        await town.bring(*rows, store=Watched(town.store, killed_after=after))


async def test_a_page_shows_what_counts(town: Town) -> None:
    """While new accounts are staged they are in no page; an empty page of them is not the end."""
    await killed(town, people(9), after=6)
    pages, after = [], ""
    while True:
        found, after = await local.page(town.store, after=after, limit=4)
        pages.append(len(found))
        if not after:
            break
    assert pages == [0, 0, 0, 0]
