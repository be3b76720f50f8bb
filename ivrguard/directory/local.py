"""
Who is enrolled with what, in tables of our own. Implements `ports.Directory`, `ports.Renewals` and `ports.Pins`.

1. **One spelling.** An account is kept under its canonical id and its numbers in E.164 (ITU-T E.164): two
   spellings of one account would be two lockout counters, and twice the guesses.
2. **One act.** An account, the index of its numbers and the audit entry change together or not at all.
3. **A number names an account only if it names one.** Shared by two, or by one that is disabled, it names nobody.
   It proves nothing in any case: caller ID is easily forged.
4. **Disabled is unknown** to everybody but an admin (`find`): the same answer, so the same words and work.
5. **What an import brings counts once the import is in force** (directory/intake.py), and for all of its accounts at
   that moment. Whoever changes an account of one that is not spoils it: his change is the newer one.
6. The record names accounts by pseudonym, and who changed them; events are OWASP's
   (https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html): `user_created`, `user_updated`,
   `user_archived` for disabling and `user_deleted` for erasing.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import phonenumbers

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import DirectoryFault
from ivrguard.ports import Account, Batch, BatchState, Change, Credential, Key, Keys, Put, Store

ID_CHARS_MAX = 32
NUMBER_ACCOUNTS_MAX = 100
"""How many accounts may share one number: beyond it is a switchboard's, which will never name a caller."""
TRIES_MAX = 8
"""How often a change is tried again because somebody else changed the account meanwhile."""
NOBODY = "-"
TRIES_MAX = 8
"""How often a change is tried again because somebody else changed the account meanwhile."""
NOBODY = "-"
ITSELF = "ivrguard"
"""Who changed an account, on record, when no person did."""
BATCH: Key[Batch] = Key("batch", "accounts")
"""The import that is under way, or was when its process ended."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LANGUAGE = re.compile("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
Values = Mapping[Key[object], object | None]


class LocalDirectory:
    """
    Accounts in the store, under the kinds "account" and "number". `keys` makes the pseudonyms of the record.

    What the store cannot do comes out as its own `core.errors.StoreFault`: it says better what to mend. Whatever
    changes an account raises `DirectoryFault` if others keep changing the same one, and takes `by`: who does it, for
    the record.
    """

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this canonical id; None for unknown and disabled ones alike."""
        account = await self.find(account_id)
        return None if account is None or account.disabled else account

    async def by_number(self, number: str) -> Account | None:
        """The one account that has this E.164 number on file; None when there is none, or more than one."""
        if not _E164.fullmatch(number):  # anonymous, sip: and client: callers are on nobody's file
            return None
        index: Key[tuple[str, ...]] = Key("number", number)
        ids = await self._store.read(index) or ()
        # A number that names nobody costs the same two reads: `NOBODY` is no account's canonical id.
        account = await self.by_id(ids[0] if len(ids) == 1 else NOBODY)
        # Read apart from the index: the number may have been taken off the account in between.
        return account if account is not None and number in account.numbers else None

    async def find(self, account_id: str) -> Account | None:
        """The account with this canonical id, disabled or not: for admins, not for calls."""
        return await find(self._store, account_id) if account_id else None

    async def add(self, account: Account, *, now_ms: int, by: str) -> bool:
        """
        Keep a new account; False, and nothing changes, if its id is taken.

        Raises `ValueError`, which says what to mend, for an account that is not in its canonical form, or a number
        that `NUMBER_ACCOUNTS_MAX` others have.
        """
        _check(account)
        entry = self._entry("user_created", account.id, now_ms, by, "added")
        before = await self._change(account.id, lambda before: (before or account, entry))
        return before is None

    async def replace(self, account: Account, *, now_ms: int, by: str) -> bool:
        """
        Keep `account` in place of what is kept under its id; False if there is none.

        The record says which parts changed; when none did, nothing happens. Raises as `add`.
        """
        _check(account)
        before = await self._update(account.id, lambda _: account, now_ms, by, "replaced")
        return before is not None

    async def enrol(self, account_id: str, credential: Credential, *, now_ms: int, by: str) -> Account | None:
        """Keep a credential in place of the one of its kind; the account as it was before, or None if there is none."""

        def with_it(before: Account) -> Account:
            return replace(before, credentials=with_credential(before.credentials, credential))

        return await self._update(account_id, with_it, now_ms, by, "enrolled")

    async def disable(self, account_id: str, *, now_ms: int, by: str) -> bool:
        """Make the account unknown to every call from now on; False if there is none. Again is not twice."""
        entry = self._entry("user_archived", account_id, now_ms, by, "disabled")
        return (
            await self._change(account_id, lambda kept: (kept and replace(kept, disabled=True), entry))
            is not None
        )

    async def enable(self, account_id: str, *, now_ms: int, by: str) -> bool:
        """Undo `disable`; False if there is no such account."""
        entry = self._entry("user_updated", account_id, now_ms, by, "enabled")
        return (
            await self._change(account_id, lambda kept: (kept and replace(kept, disabled=False), entry))
            is not None
        )

    async def erase(self, account_id: str, *, now_ms: int, by: str, because: str) -> bool:
        """Keep nothing of the account any more; False if there is none. The record keeps who did it, and why."""
        entry = self._entry("user_deleted", account_id, now_ms, by, "erased", ("because", because))
        return await self._change(account_id, lambda _: (None, entry)) is not None

    async def renew(self, account_id: str, before: Credential, after: Credential, *, now_ms: int) -> bool:
        """
        See `ports.Renewals.renew`. On record as done by `ITSELF`: nobody asked for it.

        Nor does it spoil an import: what is incoming is left alone, and renewed another time.
        """
        key = account_key(account_id)

        def change(values: Values) -> Change[bool]:
            account = cast("Account | None", values[key])
            if account is None or account.incoming is not None or account.credential(before.kind) != before:
                return Change(result=False)
            kept = replace(account, credentials=with_credential(account.credentials, after))
            changed = ("changed", before.kind.value)
            entry = self._entry("user_updated", account_id, now_ms, ITSELF, "renewed", changed)
            return Change(True, (Put(key, kept),), (entry,))

        return await self._store.amend((key,), change)

    async def settle(self, accounts: Sequence[Account]) -> None:
        """
        Have nothing incoming any more for these accounts, given as they are kept.

        What is in force takes its place, on record; what is not is dropped, and spoils its import if that is still
        being written. One that is not kept like this any more is left as it is.
        """
        ids = [account_key(one.id) for one in accounts]
        numbers = {number for one in accounts for number in (*one.numbers, *_after(one).numbers)}

        def change(values: Values) -> Change[None]:
            batch = cast("Batch | None", values[BATCH])
            still = [one for one in accounts if values[account_key(one.id)] == one]
            puts = [Put(account_key(one.id), settled(one, batch)) for one in still]
            arrived = [one for one in still if is_in_force(one, batch)]
            puts += reindexed(values, [(one.id, one.numbers, _after(one).numbers) for one in arrived])
            if (
                batch is not None
                and batch.state is BatchState.STAGING
                and any(_is_of(one, batch) for one in still)
            ):
                puts.append(Put(BATCH, replace(batch, state=BatchState.SPOILED)))
            entries = tuple(self._arrival(one, batch) for one in arrived if batch is not None)
            return Change(None, tuple(puts), entries)

        await self._store.amend((*ids, BATCH, *map(number_key, numbers)), change)

    async def _update(
        self, account_id: str, become: Callable[[Account], Account], now_ms: int, by: str, reason: str
    ) -> Account | None:
        """`_change` for an account that there is; the record says which parts changed."""

        def change(before: Account | None) -> tuple[Account | None, Entry]:
            after = before and become(before)
            changed = _changed(before, after) if before and after else ""
            return after, self._entry("user_updated", account_id, now_ms, by, reason, ("changed", changed))

        return await self._change(account_id, change)

    async def _change(
        self, account_id: str, become: Callable[[Account | None], tuple[Account | None, Entry]]
    ) -> Account | None:
        """
        Have the account become what `become` makes of it (None: there is none), and go on record; what it was before.

        When it is that already, nothing happens.
        """
        for _ in range(TRIES_MAX):
            before = await self._settled(account_id)
            after, entry = become(before)
            if after == before or await self._put(account_id, before, after, entry):
                return before
        raise DirectoryFault("an account is being changed by others again and again: try later")

    async def _settled(self, account_id: str) -> Account | None:
        """The account with nothing incoming."""
        kept = await self._store.read(account_key(account_id)) if account_id else None
        for _ in range(TRIES_MAX):
            if kept is None or kept.incoming is None:
                return kept
            await self.settle((kept,))
            kept = await self._store.read(account_key(account_id))
        raise DirectoryFault("an account is being imported again and again: try later")

    async def _put(
        self, account_id: str, before: Account | None, after: Account | None, entry: Entry
    ) -> bool:
        """Swap `before` for `after`; False if `before` is no longer what is kept."""
        key = account_key(account_id)
        came, went = (one.numbers if one else () for one in (after, before))

        def change(values: Values) -> Change[bool]:
            if values[key] != before:
                return Change(result=False)
            for number in came:
                if number not in went and is_crowded(values[number_key(number)], account_id):
                    raise ValueError(crowded())
            return Change(True, (Put(key, after), *reindexed(values, [(account_id, went, came)])), (entry,))

        return await self._store.amend((key, *map(number_key, dict.fromkeys((*went, *came)))), change)

    def _arrival(self, kept: Account, batch: Batch) -> Entry:
        """That an import brought the account, or changed it."""
        assert kept.incoming is not None
        about = [("import", batch.id)]
        if kept.incoming.new:
            return self._entry("user_created", kept.id, batch.at_ms, batch.by, "imported", *about)
        changed = ("changed", _changed(kept, _after(kept)))
        return self._entry("user_updated", kept.id, batch.at_ms, batch.by, "imported", changed, *about)

    def _entry(
        self, event: str, account_id: str, now_ms: int, by: str, reason: str, *about: tuple[str, str]
    ) -> Entry:
        name = self._keys.pseudonym("account", account_id)
        detail = (("by", by), *(one for one in about if one[1]))
        return Entry(now_ms, event, account=name, reason=reason, detail=detail)


async def find(store: Store, account_id: str) -> Account | None:
    """The account with this canonical id, disabled or not: for who only looks, and needs no keys."""
    kept = await store.read(account_key(account_id))
    while kept is not None and kept.incoming is not None:
        batch = await store.read(BATCH)
        again = kept if is_in_force(kept, batch) else await store.read(account_key(account_id))
        if again == kept:
            return settled(kept, batch)
        kept = again  # the import that it came with may have come into force meanwhile, and be gone
    return kept


async def page(store: Store, *, after: str = "", limit: int = 1000) -> tuple[Sequence[Account], str]:
    """Up to `limit` accounts whose ids come after `after`, in order, and the id to go on after; "" at the end."""
    found = await store.list("account", after=after, limit=limit)
    kept = [cast("Account", one.value) for one in found]
    seen = [one if one.incoming is None else await find(store, one.id) for one in kept]
    return [one for one in seen if one is not None], found[-1].id if found else ""


class LocalPins:
    """PINs that are kept here, changed by callers. Implements `ports.Pins`. `enrol`: makes a PIN's credential."""

    def __init__(self, directory: LocalDirectory, enrol: Callable[[str], Awaitable[Credential]]) -> None:
        self._directory = directory
        self._enrol = enrol

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:
        """
        Make `digits` the account's PIN; False, and nothing changed, if they are too easy to guess.

        Raises `Busy` when no hash thread is free, and `DirectoryFault` when the account is not there any more, or
        disabled.
        """
        try:
            credential = await self._enrol(digits)
        except ValueError:
            return False
        if await self._directory.by_id(account_id) is None:
            raise DirectoryFault("a PIN was to be changed, and its account is gone or disabled")
        return await self._directory.enrol(account_id, credential, now_ms=now_ms, by="the caller") is not None


# ── what an import brings ────────────────────────────────────────────────────────────────────────────────


def is_in_force(kept: Account, batch: Batch | None) -> bool:
    """Whether what is incoming for this account counts already."""
    return batch is not None and batch.state is BatchState.IN_FORCE and _is_of(kept, batch)


def settled(kept: Account, batch: Batch | None) -> Account | None:
    """The account that counts; None if there is none yet."""
    if is_in_force(kept, batch):
        return _after(kept)
    return None if kept.incoming and kept.incoming.new else replace(kept, incoming=None)


def _is_of(kept: Account, batch: Batch) -> bool:
    return kept.incoming is not None and kept.incoming.batch == batch.id


def _after(kept: Account) -> Account:
    """The account once its import is in force."""
    new = kept.incoming
    return kept if new is None else Account(kept.id, new.numbers, new.credentials, new.disabled, new.language)


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────


def canonical_id(text: str) -> str:
    """
    The one spelling of an account's id: ASCII letters and digits, in capitals; blanks and dashes are dropped.

    Raises `ValueError`, which does not show the id, for anything else, for nothing, and beyond `ID_CHARS_MAX`.
    """
    plain = re.sub(r"[\s-]", "", text)
    if not (plain.isascii() and plain.isalnum()):  # before upper(), which would make SS of ß
        raise ValueError("an account's id is made of the letters A to Z and the digits 0 to 9")
    if len(plain) > ID_CHARS_MAX:
        raise ValueError(f"an account's id has {ID_CHARS_MAX} characters at most")
    return plain.upper()


def canonical_number(text: str, region: str | None = None) -> str:
    """
    A telephone number in E.164, such as +18005550100.

    `region`: the country (ISO 3166, "US") whose national form is meant when there is no +. Only the length is
    checked against the country's plan: plans change, and numbers for examples must do. Raises `ValueError`,
    which does not show the number.
    """
    mend = "write the number in international form, like +1 800 555 0100"
    if any(sign.isalpha() for sign in text):  # "O" for 0 would be read as 6, "x5" as an extension
        raise ValueError(f"a letter in a telephone number: {mend}")
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise ValueError(f"not a telephone number: {mend}") from None
    if number.extension or not phonenumbers.is_possible_number(number):
        raise ValueError(f"a telephone number of the wrong length, or with an extension: {mend}")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def canonical_language(text: str) -> str:
    """A language tag (BCP 47) such as en-US. Raises `ValueError`."""
    if not _LANGUAGE.fullmatch(text):
        raise ValueError("not a language tag: write one such as en-US")
    return text


def _check(account: Account) -> None:
    """Raise `ValueError` unless every id and number is in its one spelling, and nothing stands there twice."""
    if account.id != canonical_id(account.id):
        raise ValueError("the account's id is not in its canonical form: use canonical_id")
    sms = [one.number for one in account.credentials if one.kind is Kind.SMS_CODE]
    for number in (*account.numbers, *sms):
        if number != canonical_number(number):
            raise ValueError("a number of the account is not in E.164: use canonical_number")
    if len(set(account.numbers)) != len(account.numbers):
        raise ValueError("a number stands in the account twice")
    if len({one.kind for one in account.credentials}) != len(account.credentials):
        raise ValueError("two credentials of one kind: an account has one of each")


def with_credential(credentials: tuple[Credential, ...], new: Credential) -> tuple[Credential, ...]:
    """The credentials with `new` in the place of the one of its kind."""
    if not any(one.kind is new.kind for one in credentials):
        return (*credentials, new)
    return tuple(new if one.kind is new.kind else one for one in credentials)


# ── the index of numbers ─────────────────────────────────────────────────────────────────────────────────


def account_key(account_id: str) -> Key[Account]:
    """The one value of an account."""
    return Key("account", account_id)


def number_key(number: str) -> Key[tuple[str, ...]]:
    """The accounts that have this number on file."""
    return Key("number", number)


def is_crowded(ids: object, account_id: str) -> bool:
    """Whether a number, of which the index has `ids`, has no room for one more account."""
    return len(set(cast("tuple[str, ...]", ids or ())) - {account_id}) >= NUMBER_ACCOUNTS_MAX


def crowded() -> str:
    """What to say of such a number, which is not shown."""
    return f"a number is on file for {NUMBER_ACCOUNTS_MAX} accounts: it names nobody, leave it out"


def reindexed(values: Values, moves: Iterable[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> list[Put]:
    """
    The index entries that accounts change whose numbers went and came: each the sorted ids of those that have it.

    A number that is crowded names nobody, and takes no more ids.
    """
    index: dict[Key[object], set[str]] = {}
    for account_id, went, came in moves:
        for number in dict.fromkeys((*went, *came)):
            key = number_key(number)
            ids = index.setdefault(key, set(cast("tuple[str, ...]", values[key] or ())))
            ids.discard(account_id)
            if number in came and not is_crowded(tuple(ids), account_id):
                ids.add(account_id)
    return [Put(key, tuple(sorted(ids)) or None) for key, ids in index.items()]


def _changed(before: Account, after: Account) -> str:
    """Names of the parts that differ, for the record; never what is in them."""
    kinds = [kind.value for kind in Kind if before.credential(kind) != after.credential(kind)]
    parts = [
        name for name in ("numbers", "language", "disabled") if getattr(before, name) != getattr(after, name)
    ]
    return ",".join(parts + kinds)
