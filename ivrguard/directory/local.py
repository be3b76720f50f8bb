"""
Who is enrolled with what, in tables of our own. Implements `ports.Directory` and `ports.Renewals`.

1. **One spelling.** An account is kept under its canonical id and its numbers in E.164 (ITU-T E.164): two
   spellings of one account would be two lockout counters, and twice the guesses.
2. **One act.** An account, the index of its numbers and the audit entry change together or not at all.
3. **A number names an account only if it names one.** Shared by two, or by one that is disabled, it names nobody.
   It proves nothing in any case: caller ID is easily forged.
4. **Disabled is unknown** to everybody but an admin (`find`): the same answer, so the same words and work.
5. The record names accounts by pseudonym, and who changed them; events are OWASP's
   (https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html): `user_created`, `user_updated`,
   and `user_archived` for disabling, since nothing is deleted.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import phonenumbers

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import DirectoryFault
from ivrguard.ports import Account, Change, Credential, Key, Keys, Put, Store

ID_CHARS_MAX = 32
NUMBER_ACCOUNTS_MAX = 100
"""How many accounts may share one number: beyond it is a switchboard's, which will never name a caller."""
REPLACE_TRIES_MAX = 8
"""How often a replacement is tried again because somebody else changed the account meanwhile."""
NOBODY = "-"
ITSELF = "ivrguard"
"""Who changed an account, on record, when no person did."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_Values = Mapping[Key[object], object | None]


class LocalDirectory:
    """
    Accounts in the store, under the kinds "account" and "number". `keys` makes the pseudonyms of the record.

    What the store cannot do comes out as its own `core.errors.StoreFault`: it says better what to mend.
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
        if not account_id:
            return None
        key: Key[Account] = Key("account", account_id)
        return await self._store.read(key)

    async def add(self, account: Account, *, now_ms: int, by: str) -> bool:
        """
        Keep a new account; False, and nothing changes, if its id is taken.

        `by`: who does it, for the record. Raises `ValueError`, which says what to mend, for an account that is not
        in its canonical form, or a number that `NUMBER_ACCOUNTS_MAX` others have.
        """
        _check(account)
        key: Key[object] = Key("account", account.id)

        def change(values: _Values) -> Change[bool]:
            if values[key] is not None:
                return Change(result=False)
            puts = (Put(key, account), *_reindexed(values, account.id, (), account.numbers))
            return Change(True, puts, (self._entry("user_created", account.id, now_ms, by, "added"),))

        return await self._store.amend((key, *map(_number_key, account.numbers)), change)

    async def replace(self, account: Account, *, now_ms: int, by: str) -> bool:
        """
        Keep `account` in place of what is kept under its id; False if there is none.

        The record says which parts changed; when none did, nothing happens. Raises as `add`, and `DirectoryFault` if
        others keep changing the same account.
        """
        _check(account)
        for _ in range(REPLACE_TRIES_MAX):
            before = await self.find(account.id)
            if before is None:
                return False
            if await self._replaced(before, account, now_ms, by):
                return True
        raise DirectoryFault("an account is being changed by others again and again: try later")

    async def disable(self, account_id: str, *, now_ms: int, by: str) -> bool:
        """Make the account unknown to every call from now on; False if there is none. Again is not twice."""
        return await self._switch(account_id, "user_archived", now_ms, by, disabled=True)

    async def enable(self, account_id: str, *, now_ms: int, by: str) -> bool:
        """Undo `disable`; False if there is no such account."""
        return await self._switch(account_id, "user_updated", now_ms, by, disabled=False)

    async def renew(self, account_id: str, before: Credential, after: Credential, *, now_ms: int) -> bool:
        """See `ports.Renewals.renew`. On record as done by `ITSELF`: nobody asked for it."""
        key: Key[object] = Key("account", account_id)

        def change(values: _Values) -> Change[bool]:
            account = cast("Account | None", values[key])
            if account is None or account.credential(before.kind) != before:
                return Change(result=False)
            kept = tuple(after if one == before else one for one in account.credentials)
            entry = self._entry("user_updated", account_id, now_ms, ITSELF, "renewed", before.kind.value)
            return Change(True, (Put(key, replace(account, credentials=kept)),), (entry,))

        return await self._store.amend((key,), change)

    async def _replaced(self, before: Account, account: Account, now_ms: int, by: str) -> bool:
        """Swap `before` for `account`; False if `before` is no longer what is kept."""
        key: Key[object] = Key("account", account.id)
        numbers = dict.fromkeys((*before.numbers, *account.numbers))

        def change(values: _Values) -> Change[bool]:
            if values[key] != before:
                return Change(result=False)
            if account == before:
                return Change(result=True)
            puts = (Put(key, account), *_reindexed(values, account.id, before.numbers, account.numbers))
            entry = self._entry("user_updated", account.id, now_ms, by, "replaced", _changed(before, account))
            return Change(True, puts, (entry,))

        return await self._store.amend((key, *map(_number_key, numbers)), change)

    async def _switch(self, account_id: str, event: str, now_ms: int, by: str, *, disabled: bool) -> bool:
        if not account_id:
            return False
        key: Key[object] = Key("account", account_id)

        def change(values: _Values) -> Change[bool]:
            account = cast("Account | None", values[key])
            if account is None:
                return Change(result=False)
            if account.disabled is disabled:
                return Change(result=True)
            entry = self._entry(event, account_id, now_ms, by, "disabled" if disabled else "enabled")
            return Change(True, (Put(key, replace(account, disabled=disabled)),), (entry,))

        return await self._store.amend((key,), change)

    def _entry(
        self, event: str, account_id: str, now_ms: int, by: str, reason: str, changed: str = ""
    ) -> Entry:
        detail = (("by", by), ("changed", changed)) if changed else (("by", by),)
        name = self._keys.pseudonym("account", account_id)
        return Entry(now_ms, event, account=name, reason=reason, detail=detail)


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


def _number_key(number: str) -> Key[object]:
    return Key("number", number)


def _reindexed(
    values: _Values, account_id: str, before: tuple[str, ...], after: tuple[str, ...]
) -> tuple[Put, ...]:
    """The index entries of the numbers that went and came: each the sorted ids of the accounts that have it."""
    puts = []
    for number in dict.fromkeys((*before, *after)):
        key = _number_key(number)
        others = set(cast("tuple[str, ...]", values[key] or ())) - {account_id}
        if number in after and len(others) >= NUMBER_ACCOUNTS_MAX:
            raise ValueError(
                f"a number is on file for {NUMBER_ACCOUNTS_MAX} accounts: it names nobody, leave it out"
            )
        ids = others | {account_id} if number in after else others
        puts.append(Put(key, tuple(sorted(ids)) or None))
    return tuple(puts)


def _changed(before: Account, after: Account) -> str:
    """Names of the parts that differ, for the record; never what is in them."""
    kinds = [kind.value for kind in Kind if before.credential(kind) != after.credential(kind)]
    parts = [
        name for name in ("numbers", "language", "disabled") if getattr(before, name) != getattr(after, name)
    ]
    return ",".join(parts + kinds)
