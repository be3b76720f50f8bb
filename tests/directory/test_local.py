"""Accounts: one spelling, one act, a number that names one or none, and every change on record."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import DirectoryFault
from ivrguard.directory import local
from ivrguard.directory.local import (
    LocalDirectory,
    LocalPins,
    canonical_id,
    canonical_language,
    canonical_number,
)
from ivrguard.keyring import Keyring
from ivrguard.ports import (
    Account,
    Batch,
    BatchState,
    Change,
    Credential,
    Incoming,
    Key,
    Put,
    Store,
)
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

NOW_MS = 1_790_000_000_000
HOME, WORK = "+18005550142", "+442079460000"
PIN = Credential(Kind.PIN, "$argon2id$…", "p1")
PHONE = Credential(Kind.SMS_CODE, number=HOME)
OWNER = Account("ACME4711", (HOME, WORK), (PIN, PHONE), language="en-GB")
KEYS = Keyring(
    sealing={"k1": b"k" * 32}, peppers={"p1": b"p" * 32}, naming={"n1": b"n" * 32}, signing={"s1": b"s" * 32}
)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    one: Store = (
        MemoryStore()
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "accounts.db", migrate=True)
    )
    yield one
    await one.close()


@pytest.fixture
def directory(store: Store) -> LocalDirectory:
    return LocalDirectory(store, KEYS)


async def record(store: Store) -> list[tuple[str, str, str]]:
    """Event, reason and details of each audit entry, in order; the account is always the same pseudonym."""
    entries = [linked.entry for linked in await store.entries()]
    assert {entry.account for entry in entries} <= {KEYS.pseudonym("account", "ACME4711")}
    assert all((entry.at_ms, entry.call) == (NOW_MS, "") for entry in entries)
    return [(entry.event, entry.reason, _told(entry)) for entry in entries]


def _told(entry: Entry) -> str:
    return " ".join(f"{name}={value}" for name, value in entry.detail)


async def index(store: Store, number: str) -> tuple[str, ...] | None:
    """The accounts that the index has for a number."""
    key: Key[tuple[str, ...]] = Key("number", number)
    return await store.read(key)


class As:
    """The directory as one person uses it at one time."""

    def __init__(self, directory: LocalDirectory, by: str = "ada") -> None:
        self.directory = directory
        self.about: dict[str, Any] = {"now_ms": NOW_MS, "by": by}

    async def add(self, account: Account) -> bool:
        return await self.directory.add(account, **self.about)

    async def replace(self, account: Account) -> bool:
        return await self.directory.replace(account, **self.about)

    async def disable(self, account_id: str) -> bool:
        return await self.directory.disable(account_id, **self.about)

    async def enable(self, account_id: str) -> bool:
        return await self.directory.enable(account_id, **self.about)


async def test_an_account_is_found_by_id_and_by_each_number(directory: LocalDirectory, store: Store) -> None:
    """What was added is found again, whole; and who added it is on record, by pseudonym."""
    assert await As(directory).add(OWNER)
    assert await directory.by_id("ACME4711") == OWNER
    assert await directory.by_number(HOME) == OWNER
    assert await directory.by_number(WORK) == OWNER
    assert await record(store) == [("user_created", "added", "by=ada")]


@pytest.mark.parametrize(
    "number", ["", "anonymous", "+18005550199", "sip:ada@example.com", "client:ada", "18005550142"]
)
async def test_any_other_caller_is_on_nobodys_file(directory: LocalDirectory, number: str) -> None:
    """Unknown numbers and addresses that are none name nobody."""
    await As(directory).add(OWNER)
    assert await directory.by_number(number) is None


async def test_an_unknown_account_is_none(directory: LocalDirectory) -> None:
    """Unknown ids, the empty one among them, are nobody's, for callers and for admins."""
    for account_id in ("", "ACME4712", "acme4711"):
        assert await directory.by_id(account_id) is None
        assert not await As(directory).disable(account_id)
        assert not await As(directory).enable(account_id)
    assert not await As(directory).replace(OWNER)


async def test_an_id_is_taken_once(directory: LocalDirectory, store: Store) -> None:
    """A second account of the same id is refused and changes nothing, the index of numbers included."""
    await As(directory).add(replace(OWNER, numbers=(HOME,)))
    assert not await As(directory).add(replace(OWNER, numbers=(WORK,), credentials=()))
    assert await directory.by_id("ACME4711") == replace(OWNER, numbers=(HOME,))
    assert await directory.by_number(WORK) is None
    assert len(await record(store)) == 1


async def test_a_shared_number_names_nobody(directory: LocalDirectory) -> None:
    """Two accounts of one number: it names neither, whether or not one is disabled; one alone again: that one."""
    spouse = Account("ACME4712", (HOME,))
    await As(directory).add(OWNER)
    await As(directory).add(spouse)
    assert await directory.by_number(HOME) is None
    assert await directory.by_number(WORK) == OWNER
    await As(directory).disable("ACME4712")
    assert await directory.by_number(HOME) is None
    await As(directory).replace(replace(spouse, numbers=()))
    assert await directory.by_number(HOME) == OWNER


async def test_disabled_is_unknown_to_callers(directory: LocalDirectory, store: Store) -> None:
    """Disabled: none by id and by number, but there for the admin; enabled: as before. Again is not twice."""
    await As(directory).add(OWNER)
    assert await As(directory, "bob").disable("ACME4711")
    assert await As(directory, "bob").disable("ACME4711")
    assert await directory.by_id("ACME4711") is None
    assert await directory.by_number(HOME) is None
    assert await directory.find("ACME4711") == replace(OWNER, disabled=True)
    assert await As(directory).enable("ACME4711")
    assert await As(directory).enable("ACME4711")
    assert await directory.by_number(HOME) == OWNER
    assert await record(store) == [
        ("user_created", "added", "by=ada"),
        ("user_archived", "disabled", "by=bob"),
        ("user_updated", "enabled", "by=ada"),
    ]


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        (replace(OWNER, numbers=(WORK, "+18005550177")), "numbers"),
        (replace(OWNER, numbers=()), "numbers"),
        (replace(OWNER, credentials=(replace(PIN, secret="other"), PHONE)), "pin"),
        (replace(OWNER, credentials=(PIN, PHONE, Credential(Kind.TOTP, "k1.x"))), "totp"),
        (replace(OWNER, language="", disabled=True, credentials=()), "language,disabled,pin,sms_code"),
        (replace(OWNER, credentials=(PHONE, PIN)), ""),
    ],
)
async def test_a_replacement_says_what_changed(
    directory: LocalDirectory, store: Store, after: Account, changed: str
) -> None:
    """The whole account and its index are swapped; the record names the parts and none of what is in them."""
    await As(directory).add(OWNER)
    assert await As(directory, "bob").replace(after)
    assert await directory.find("ACME4711") == after
    for number in {*OWNER.numbers, *after.numbers}:
        assert await index(store, number) == (("ACME4711",) if number in after.numbers else None)
    told = "by=bob" + (f" changed={changed}" if changed else "")
    assert (await record(store))[1:] == [("user_updated", "replaced", told)]


async def test_a_replacement_by_the_same_is_nothing(directory: LocalDirectory, store: Store) -> None:
    """Nothing changed, so nothing was decided and nothing is on record."""
    await As(directory).add(OWNER)
    assert await As(directory).replace(OWNER)
    assert len(await record(store)) == 1


class Meddled:
    """A store in which somebody else changes the account each time that it has been read, so many times."""

    def __init__(self, store: Store, times: int) -> None:
        self.store = store
        self.times = times

    async def read(self, key: Key[Any]) -> Any:
        found: Any = await self.store.read(key)
        if self.times and key.kind == "account":
            self.times -= 1
            numbers = (f"+1800555{self.times:04}",)
            await As(LocalDirectory(self.store, KEYS), "eve").replace(replace(found, numbers=numbers))
        return found

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Any]],
    ) -> Any:
        return await self.store.amend(keys, change)


async def test_a_change_in_between_is_seen(directory: LocalDirectory, store: Store) -> None:
    """Numbers that another admin added meanwhile leave the index too; one who never rests is a fault."""
    await As(directory).add(OWNER)
    after = replace(OWNER, numbers=(WORK,))
    meddled: Any = Meddled(store, times=2)
    assert await As(LocalDirectory(meddled, KEYS)).replace(after)
    assert await directory.by_id("ACME4711") == after
    assert [await directory.by_number(n) for n in ("+18005550000", "+18005550001", HOME)] == [None] * 3
    restless: Any = Meddled(store, times=local.TRIES_MAX)
    with pytest.raises(DirectoryFault, match="changed by others"):
        await As(LocalDirectory(restless, KEYS)).replace(OWNER)


async def test_a_number_taken_off_meanwhile_names_nobody(directory: LocalDirectory, store: Store) -> None:
    """Index and account are read one after the other: the account has the last word."""
    await As(directory).add(OWNER)
    meddled: Any = Meddled(store, times=1)
    read = meddled.read

    async def index_first(key: Key[Any]) -> Any:
        found = await read(key)
        return replace(found, numbers=()) if isinstance(found, Account) else found

    meddled.read = index_first
    assert await LocalDirectory(meddled, KEYS).by_number(HOME) is None


async def test_ten_at_once_and_none_is_lost(directory: LocalDirectory, store: Store) -> None:
    """Accounts of one number added at the same time are all in its index."""
    accounts = [Account(f"ACME{number}", (HOME,)) for number in range(10)]
    assert await asyncio.gather(*map(As(directory).add, accounts)) == [True] * 10
    assert await index(store, HOME) == tuple(one.id for one in accounts)


async def test_a_switchboards_number_has_an_end(
    directory: LocalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit the account is refused whole, and may be added without the number."""
    monkeypatch.setattr(local, "NUMBER_ACCOUNTS_MAX", 2)
    for number in range(2):
        await As(directory).add(Account(f"ACME{number}", (HOME,)))
    with pytest.raises(ValueError, match="on file for 2 accounts: it names nobody, leave it out") as fault:
        await As(directory).add(OWNER)
    assert HOME not in str(fault.value)
    assert await directory.by_id("ACME4711") is None
    assert await directory.by_number(WORK) is None
    assert await As(directory).add(replace(OWNER, numbers=(WORK,)))


@pytest.mark.parametrize(
    ("account", "why"),
    [
        (Account(""), "letters A to Z"),
        (Account("acme"), "not in its canonical form"),
        (Account("AC-ME"), "not in its canonical form"),
        (Account("ACME", ("+1 800 555 0142",)), "not in E.164"),
        (Account("ACME", ("8005550142",)), "not a telephone number"),
        (Account("ACME", (HOME, HOME)), "stands in the account twice"),
        (Account("ACME", (), (Credential(Kind.SMS_CODE, number=""),)), "not a telephone number"),
        (Account("ACME", (), (Credential(Kind.SMS_CODE, number="+1 800 555 0142"),)), "not in E.164"),
        (Account("ACME", (), (PIN, PIN)), "two credentials of one kind"),
    ],
)
async def test_only_the_one_spelling_is_kept(directory: LocalDirectory, account: Account, why: str) -> None:
    """An account in any other form is refused before anything is read or written."""
    with pytest.raises(ValueError, match=why):
        await As(directory).add(account)
    with pytest.raises(ValueError, match=why):
        await As(directory).replace(account)


@pytest.mark.parametrize(
    ("text", "account_id"),
    [("4711", "4711"), (" ac-me 47 11\t", "ACME4711"), ("0042", "0042"), ("x" * 32, "X" * 32)],
)
def test_an_id_has_one_spelling(text: str, account_id: str) -> None:
    """Blanks, dashes and case do not matter; leading zeros do."""
    assert canonical_id(text) == account_id


@pytest.mark.parametrize("text", ["", " - ", "ACME/4711", "ACMÉ", "straße", "٤٧١١", "4711\u200b", "x" * 33])
def test_an_id_of_other_signs_is_refused(text: str) -> None:
    """The error says what is allowed and does not show what was written."""
    with pytest.raises(ValueError, match=r"an account's id (is made of|has 32 characters)") as fault:
        canonical_id(text)
    assert not text.strip() or text not in str(fault.value)


@given(st.text(max_size=40))
def test_a_canonical_id_stays_as_it_is(text: str) -> None:
    """Whatever is accepted is its own canonical form."""
    try:
        account_id = canonical_id(text)
    except ValueError:
        return
    assert canonical_id(account_id) == account_id
    assert canonical_id(f" {account_id.lower()}-") == account_id


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+18005550142", None, HOME),
        ("+1 (800) 555-0142", None, HOME),
        ("1 800 555 0142", "US", HOME),
        ("020 7946 0000", "GB", WORK),
        ("0044 20 7946 0000", "DE", WORK),
        ("+１８００５５５０１４２", None, HOME),
    ],
)
def test_a_number_has_one_spelling(text: str, region: str | None, number: str) -> None:
    """E.164, however it is written at home or abroad."""
    assert canonical_number(text, region) == number
    assert canonical_number(number) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "8005550142",
        "+1800555014",
        "+180055501420",
        "+99912345678",
        "+1 800 FLOWERS",
        "+18005550142;ext=5",
        "+18005550142,,5",
        "+18oo5550142",
        "anonymous",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    """Letters, extensions, wrong lengths, unknown countries, national form without a country."""
    with pytest.raises(
        ValueError, match=r"write the number in international form, like \+1 800 555 0100"
    ) as fault:
        canonical_number(text)
    assert len(text) < 2 or text not in str(fault.value)


# ── credentials made anew ────────────────────────────────────────────────────────────────────────────────

NEWER = replace(PIN, secret="$argon2id$newer", key_id="p2")


async def test_a_credential_made_anew_takes_the_place_of_the_one_judged(
    directory: LocalDirectory, store: Store
) -> None:
    """That one alone; it is on record, as nobody's doing."""
    await As(directory).add(OWNER)
    assert await directory.renew("ACME4711", PIN, NEWER, now_ms=NOW_MS)
    assert await directory.by_id("ACME4711") == replace(OWNER, credentials=(NEWER, PHONE))
    assert (await record(store))[1:] == [("user_updated", "renewed", "by=ivrguard changed=pin")]


async def test_a_credential_changed_meanwhile_stays(directory: LocalDirectory, store: Store) -> None:
    """A new PIN came between judging and keeping, or the account is gone: the old PIN must not come back."""
    await As(directory).add(OWNER)
    changed = replace(OWNER, credentials=(replace(PIN, secret="$argon2id$another"), PHONE))
    await As(directory).replace(changed)
    assert not await directory.renew("ACME4711", PIN, NEWER, now_ms=NOW_MS)
    assert not await directory.renew("ACME4712", PIN, NEWER, now_ms=NOW_MS)
    assert await directory.by_id("ACME4711") == changed
    assert len(await record(store)) == 2


# ── one credential, and no account ───────────────────────────────────────────────────────────────────────


async def test_a_credential_takes_the_place_of_the_one_of_its_kind(
    directory: LocalDirectory, store: Store
) -> None:
    """Where it stood, or behind the others; who did it is on record, and what was there before is told."""
    app = Credential(Kind.TOTP, "k1.x")
    await As(directory).add(OWNER)
    assert await directory.enrol("ACME4711", NEWER, now_ms=NOW_MS, by="bob") == OWNER
    newer = replace(OWNER, credentials=(NEWER, PHONE))
    assert await directory.enrol("ACME4711", app, now_ms=NOW_MS, by="bob") == newer
    assert await directory.by_id("ACME4711") == replace(OWNER, credentials=(NEWER, PHONE, app))
    assert await directory.enrol("ACME4712", app, now_ms=NOW_MS, by="bob") is None
    assert (await record(store))[1:] == [
        ("user_updated", "enrolled", "by=bob changed=pin"),
        ("user_updated", "enrolled", "by=bob changed=totp"),
    ]


async def test_an_erased_account_is_nowhere(directory: LocalDirectory, store: Store) -> None:
    """Gone, and out of the index; who did it, and why, stays on record. Again is not twice."""
    await As(directory).add(OWNER)
    await As(directory).add(Account("ACME4712", (HOME,)))
    assert await directory.erase("ACME4711", now_ms=NOW_MS, by="bob", because="asked for it")
    assert not await directory.erase("ACME4711", now_ms=NOW_MS, by="bob", because="asked for it")
    assert await directory.find("ACME4711") is None
    assert [await index(store, number) for number in (HOME, WORK)] == [("ACME4712",), None]
    last = (await store.entries())[-1].entry
    assert (last.event, last.reason) == ("user_deleted", "erased")
    assert _told(last) == "by=bob because=asked for it"


# ── a caller's new PIN ───────────────────────────────────────────────────────────────────────────────────


async def enrolled(digits: str) -> Credential:
    """A judge of PINs that finds ones weak."""
    if "1" in digits:
        raise ValueError("weak")
    return Credential(Kind.PIN, f"hash of {digits}", "p1")


async def test_a_callers_new_pin_is_kept(directory: LocalDirectory, store: Store) -> None:
    """In place of the old one; the record says that it was he."""
    await As(directory).add(OWNER)
    pins = LocalPins(directory, enrolled)
    assert not await pins.change("ACME4711", "12345678", now_ms=NOW_MS)
    assert await directory.by_id("ACME4711") == OWNER
    assert await pins.change("ACME4711", "90584627", now_ms=NOW_MS)
    found = await directory.by_id("ACME4711")
    assert found is not None
    assert found.credential(Kind.PIN) == await enrolled("90584627")
    assert (await record(store))[1:] == [("user_updated", "enrolled", "by=the caller changed=pin")]


async def test_an_account_that_is_gone_gets_no_pin(directory: LocalDirectory) -> None:
    """Erased or disabled while he was keying: an apology, not a thank-you."""
    pins = LocalPins(directory, enrolled)
    await As(directory).add(OWNER)
    await As(directory).disable("ACME4711")
    for account_id in ("ACME4711", "ACME4712"):
        with pytest.raises(DirectoryFault, match="gone or disabled"):
            await pins.change(account_id, "90584627", now_ms=NOW_MS)
    assert await directory.find("ACME4711") == replace(OWNER, disabled=True)


# ── what an import brings (whole imports: test_intake.py) ────────────────────────────────────────────────

BROUGHT = Incoming("i1", new=False, numbers=(WORK,), language="fr")
STAGED = replace(OWNER, incoming=BROUGHT)
AFTER = Account("ACME4711", (WORK,), (), False, "fr")


def batch(state: BatchState, batch_id: str = "i1") -> Batch:
    return Batch(batch_id, state, "ann", NOW_MS)


async def stage(store: Store, account: Account, of: Batch | None) -> None:
    """An account with something incoming, and the import that it is of, as they are kept."""
    keys = [local.account_key(account.id), local.BATCH]
    await store.amend(keys, lambda _: Change(None, (Put(keys[0], account, rank=1), Put(keys[1], of))))


@pytest.mark.parametrize(
    ("of", "found"),
    [
        (batch(BatchState.STAGING), OWNER),
        (batch(BatchState.SPOILED), OWNER),
        (batch(BatchState.IN_FORCE, "i2"), OWNER),
        (None, OWNER),
        (batch(BatchState.IN_FORCE), AFTER),
    ],
)
async def test_what_is_incoming_counts_once_its_own_import_is_in_force(
    directory: LocalDirectory, store: Store, of: Batch | None, found: Account
) -> None:
    """For callers, admins and lists alike; of an account that is new there is none before."""
    await As(directory).add(OWNER)
    await stage(store, STAGED, of)
    assert await directory.by_id("ACME4711") == found
    assert await directory.find("ACME4711") == found
    assert await local.page(store) == ([found], "ACME4711")

    await stage(store, Account("ACME4712", disabled=True, incoming=replace(BROUGHT, new=True)), of)
    other = replace(AFTER, id="ACME4712") if found is AFTER else None
    assert await directory.by_id("ACME4712") == other
    assert await directory.find("ACME4712") == other


class Changing:
    """A store in which each read of the import finds that the account has just been changed."""

    def __init__(self, store: Store, *changes: Account | None) -> None:
        self.store = store
        self.changes = list(changes)

    async def read(self, key: Key[Any]) -> Any:
        if key == local.BATCH and self.changes:
            account, own = self.changes.pop(0), local.account_key("ACME4711")
            await self.store.amend([own], lambda _: Change(None, (Put(own, account),)))
        return await self.store.read(key)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ((AFTER,), AFTER),
        ((None,), None),
        ((replace(STAGED, language="de"), AFTER), AFTER),
        ((replace(STAGED, language="de"),), replace(OWNER, language="de")),
    ],
)
async def test_an_import_that_ends_between_two_reads_is_seen(
    store: Store, changes: tuple[Account | None, ...], found: Account | None
) -> None:
    """The account says that something is incoming; when the import is looked at, both are past."""
    await stage(store, STAGED, None)
    changing: Any = Changing(store, *changes)
    assert await LocalDirectory(changing, KEYS).find("ACME4711") == found


@pytest.mark.parametrize("state", [BatchState.STAGING, BatchState.SPOILED, BatchState.IN_FORCE])
async def test_a_change_comes_after_the_import_or_spoils_it(
    directory: LocalDirectory, store: Store, state: BatchState
) -> None:
    """In force: on top of what it brought. Not yet: on top of what was, and the import is told."""
    await As(directory).add(OWNER)
    await stage(store, STAGED, batch(state))

    assert await As(directory, "bob").disable("ACME4711")

    in_force = state is BatchState.IN_FORCE
    kept = await store.read(local.account_key("ACME4711"))
    assert kept == replace(AFTER if in_force else OWNER, disabled=True)
    assert await index(store, HOME) == (None if in_force else ("ACME4711",))
    of = await store.read(local.BATCH)
    assert of is not None
    assert of.state is (BatchState.IN_FORCE if in_force else BatchState.SPOILED)
    brought = ("user_updated", "imported", "by=ann changed=numbers,language,pin,sms_code import=i1")
    assert (await record(store))[1:] == [
        *([brought] if in_force else []),
        ("user_archived", "disabled", "by=bob"),
    ]


async def test_another_import_is_not_spoiled(directory: LocalDirectory, store: Store) -> None:
    """What a dead one left is dropped; the one that is being written goes on."""
    await stage(store, STAGED, batch(BatchState.STAGING, "i2"))
    await As(directory).disable("ACME4711")
    assert await store.read(local.BATCH) == batch(BatchState.STAGING, "i2")


async def test_a_credential_made_anew_spoils_no_import(directory: LocalDirectory, store: Store) -> None:
    """Nobody asked for it, so it waits until the import has ended."""
    await stage(store, STAGED, batch(BatchState.STAGING))
    assert not await directory.renew("ACME4711", PIN, NEWER, now_ms=NOW_MS)
    assert await store.read(local.BATCH) == batch(BatchState.STAGING)


async def test_what_changed_meanwhile_is_not_settled(directory: LocalDirectory, store: Store) -> None:
    """It is settled as it was listed, or not at all."""
    await stage(store, AFTER, batch(BatchState.IN_FORCE))
    await directory.settle((STAGED,))
    assert await store.read(local.account_key("ACME4711")) == AFTER
    assert await store.entries() == []


async def test_one_that_is_imported_again_and_again_is_a_fault(store: Store) -> None:
    """Nobody waits for ever."""

    class Restaging:
        async def read(self, key: Key[Any]) -> Any:
            await stage(store, STAGED, batch(BatchState.STAGING))
            return await store.read(key)

        async def amend(self, *arguments: Any) -> Any:
            return await store.amend(*arguments)

    restaging: Any = Restaging()
    with pytest.raises(DirectoryFault, match="imported again and again"):
        await LocalDirectory(restaging, KEYS).disable("ACME4711", now_ms=NOW_MS, by="ada")


@pytest.mark.parametrize("text", ["en", "en-US", "zh-Hant-TW", "fil"])
def test_a_language_is_a_tag(text: str) -> None:
    assert canonical_language(text) == text


@pytest.mark.parametrize("text", ["", "English", "e", "EN", "en_US", "en-", "en-US-", "en\n"])
def test_other_words_for_a_language_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a language tag: write one such as en-US"):
        canonical_language(text)
