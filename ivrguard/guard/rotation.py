"""
Keys that rotate: what still needs which of them, and what can be moved to the current one at once.

1. A PIN's hash needs the PIN to be made anew: it moves by itself when its owner next answers right (guard/proving.py).
2. An app's secret is sealed, so it can be sealed anew here (`reseal`), account by account, callers' and agents' alike, each as it is
   at that moment; an account that changes meanwhile is looked at again.
3. A call keeps the naming key that it began with, and what is sealed for it, for a day at most.
4. A checkpoint is checked with the public half of the key that signed it, for as long as the record is kept.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.factors.totp import PURPOSE
from ivrguard.guard.verification import StoreSource
from ivrguard.keyring import key_of
from ivrguard.ports import Account, AgentAccount, Change, Credential, Key, Keys, Listed, Put, Store

VALUES_A_PAGE = 100

KINDS = ("account", "agent")
Kept = Account | AgentAccount
"""Who has something that keys are needed for: a caller, or somebody at a desk."""

Tell = Callable[[int], None]
"""Told of progress: how many values were looked at."""


def untold(_count: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True)
class Uses:
    """How much is kept that needs a key, by the key's id."""

    pins: Counter[str] = field(default_factory=Counter)
    apps: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    checkpoints: Counter[str] = field(default_factory=Counter)


async def uses(store: Store, *, tell: Tell = untold) -> Uses:
    """Look through all accounts, the calls of the last day, and all checkpoints."""
    found, seen = Uses(), 0
    for kind in KINDS:
        async for page in _pages(store, kind):
            for one in chain.from_iterable(map(_credentials, _accounts(page))):
                if one.kind is Kind.PIN:
                    found.pins[one.key_id] += 1
                if one.kind is Kind.TOTP:
                    found.apps[_sealed_with(one)] += 1
            seen += len(page)
            tell(seen)
    async for page in _pages(store, "call"):
        found.calls.update(one.value.naming for one in page if isinstance(one.value, Call))
        seen += len(page)
        tell(seen)
    found.checkpoints.update(key_of(token) for token in await StoreSource(store).tokens())
    return found


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many secrets were moved to the current key, and how many could not be: their key is not configured."""

    moved: int = 0
    lost: int = 0


async def reseal(store: Store, keys: Keys, *, now_ms: int, by: str, tell: Tell = untold) -> Resealed:
    """Seal every app's secret with the current key. Who did it is on record, with the accounts of each act."""
    done, seen = Resealed(), 0
    for kind in KINDS:
        async for page in _pages(store, kind):
            accounts = [*_accounts(page)]
            while accounts:
                here, accounts = await _resealed(store, keys, accounts, now_ms, by)
                done = Resealed(done.moved + here.moved, done.lost + here.lost)
            seen += len(page)
            tell(seen)
    return done


async def _resealed(
    store: Store, keys: Keys, accounts: Sequence[Kept], now_ms: int, by: str
) -> tuple[Resealed, list[Kept]]:
    """One act over some accounts: what was done, and the accounts that changed meanwhile, as they are now."""
    after: dict[Key[object], tuple[Kept, Kept]] = {}
    lost = moved = 0
    for account in accounts:
        credentials = []
        for one in _credentials(account):
            try:
                sealed = keys.resealed(one.secret, PURPOSE) if one.kind is Kind.TOTP else None
            except ValueError:
                sealed, lost = None, lost + 1
            credentials.append(one if sealed is None else replace(one, secret=sealed))
        changed = _with(account, credentials)
        if changed != account:
            after[_key(account)] = (account, changed)
    if not after:
        return Resealed(0, lost), []

    def change(values: Mapping[Key[object], object | None]) -> Change[list[Key[object]]]:
        as_they_were = {key: new for key, (before, new) in after.items() if values[key] == before}
        puts = tuple(Put(key, new) for key, new in as_they_were.items())
        detail = (("by", by), ("count", str(len(puts))))
        entries = (Entry(now_ms, "credentials_resealed", reason="rotated", detail=detail),) if puts else ()
        return Change([key for key in after if key not in as_they_were], puts, entries)

    others = await store.amend([*after], change)
    moved = len(after) - len(others)
    again = [await store.read(key) for key in others]
    return Resealed(moved, lost), [one for one in again if isinstance(one, Account | AgentAccount)]


async def _pages(store: Store, kind: str) -> AsyncIterator[Sequence[Listed]]:
    after = ""
    while page := await store.list(kind, after=after, limit=VALUES_A_PAGE):
        yield page
        after = page[-1].id


def _accounts(page: Sequence[Listed]) -> list[Kept]:
    return [one.value for one in page if isinstance(one.value, Account | AgentAccount)]


def _key(account: Kept) -> Key[object]:
    return Key("account", account.id) if isinstance(account, Account) else Key("agent", account.name)


def _credentials(account: Kept) -> tuple[Credential, ...]:
    return account.credentials if isinstance(account, Account) else (account.password, account.app)


def _with(account: Kept, credentials: Sequence[Credential]) -> Kept:
    if isinstance(account, Account):
        return replace(account, credentials=tuple(credentials))
    password, app = credentials
    return replace(account, password=password, app=app)


def _sealed_with(credential: Credential) -> str:
    return credential.secret.partition(".")[0]
