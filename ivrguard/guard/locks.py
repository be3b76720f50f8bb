"""
Locks, as an operator sees and ends them.

Every unlock is an event with a person, a reason and an end; a lock that no time ends takes two people
(core/lockout.py, `unlock`).
"""

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass

from ivrguard.core import lockout
from ivrguard.core.agents import OWN
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Ledger, UnlockRequest
from ivrguard.core.sessions import LOGIN_RULE
from ivrguard.guard import books
from ivrguard.ports import Change, Key, Keys, Put, Store

LEDGERS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """One ledger as an operator sees it. `factor` and `lane` are "" for a caller number's."""

    id: str
    account: str
    factor: str
    lane: str
    standing: lockout.Standing
    run: int


def rule_of(flows: tuple[Flow, ...], ledger_id: str) -> lockout.Rule:
    """The strictest rule that any flow has for this ledger (flows share accounts, so they share ledgers)."""
    if ledger_id.startswith(OWN):
        return LOGIN_RULE
    if ledger_id.startswith("number/"):
        rules = [flow.locks.caller_number for flow in flows if flow.locks.caller_number is not None]
    else:
        rules = [flow.locks.account for flow in flows]
    return min(
        rules, key=lambda rule: (rule.failures, -rule.within_s), default=lockout.Rule(5, 3600, (1800,))
    )


def _seen(flows: tuple[Flow, ...], name: str, ledger: Ledger, now_ms: int) -> Seen:
    account, _, rest = name.partition("/")
    factor, _, lane = rest.partition("/")
    standing = lockout.standing(rule_of(flows, name), ledger, now_ms)
    if account == "number":
        return Seen(name, rest, "", "", standing, ledger.run)
    return Seen(name, account, factor, "pool" if lane == lockout.POOL else "trusted", standing, ledger.run)


async def locked_now(
    store: Store, flows: tuple[Flow, ...], now_ms: int, *, limit: int = 100
) -> tuple[Seen, ...]:
    """The ledgers that are locked now, the first to open first: found by an index, not by a scan."""
    found = await store.list("ledger", rank_from=now_ms + 1, limit=limit)
    seen = (_seen(flows, one.id, one.value, now_ms) for one in found if isinstance(one.value, Ledger))
    return tuple(one for one in seen if not isinstance(one.standing, lockout.Open))


async def of_account(store: Store, flows: tuple[Flow, ...], account: str, now_ms: int) -> tuple[Seen, ...]:
    """Every ledger of one account: all of them, for an unlock must miss none."""
    return tuple([seen async for seen in _every(store, flows, f"{account}/", now_ms)])


async def _every(store: Store, flows: tuple[Flow, ...], prefix: str, now_ms: int) -> AsyncIterator[Seen]:
    after = prefix
    while found := await store.list("ledger", prefix=prefix, after=after, limit=LEDGERS_A_PAGE):
        for seen in [
            _seen(flows, one.id, one.value, now_ms) for one in found if isinstance(one.value, Ledger)
        ]:
            yield seen
        after = found[-1].id


async def enrolled_anew(
    store: Store,
    keys: Keys,
    flows: tuple[Flow, ...],
    kind: Kind,
    accounts: Collection[str],
    *,
    by: str,
    now_ms: int,
) -> tuple[Seen, ...]:
    """
    Secrets of this kind were replaced on these accounts: what was counted in a row begins anew (core/lockout.py,
    `enrolled_anew`). How the ledgers of that kind were before.
    """
    prefix = f"{next(iter(accounts))}/{kind}/" if len(accounts) == 1 else ""
    seen = [
        one
        async for one in _every(store, flows, prefix, now_ms)
        if one.factor == kind and one.account in accounts
    ]
    for one in seen:
        await _begin_anew(store, flows, one, keys.pseudonym("account", one.account), by, now_ms)
    return tuple(seen)


async def _begin_anew(
    store: Store, flows: tuple[Flow, ...], seen: Seen, ref: str, by: str, now_ms: int
) -> None:
    key, rule = books.ledger_key(seen.id), rule_of(flows, seen.id)

    def change(values: books.Values) -> Change[None]:
        ledger = values[key]
        after = lockout.enrolled_anew(rule, ledger, now_ms) if isinstance(ledger, Ledger) else ledger
        if not isinstance(after, Ledger) or after == ledger:
            return Change(None)
        entry = Entry(
            now_ms, "authn_login_unlock", "", ref, "enrolled_anew", (("by", by), ("factor", seen.factor))
        )
        return Change(None, (books.ledger_put(seen.id, rule, after, now_ms, kept=True),), (entry,))

    await store.amend([key], change)


async def unlock(
    store: Store, keys: Keys, flows: tuple[Flow, ...], account: str, asked: UnlockRequest
) -> tuple[tuple[str, lockout.Unlocked], ...]:
    """End every lock of the account, or of an agent (`agent:NAME`): ledger by ledger, what came of it. Idempotent."""
    names = [seen.id for seen in await of_account(store, flows, account, asked.at_ms)]
    ref = keys.pseudonym("account", account)
    return tuple([(name, await _unlock(store, flows, name, ref, asked)) for name in names])


async def _unlock(
    store: Store, flows: tuple[Flow, ...], name: str, ref: str, asked: UnlockRequest
) -> lockout.Unlocked:
    ledger_key = books.ledger_key(name)
    request_key: Key[UnlockRequest] = Key("unlock", name)

    def change(values: books.Values) -> Change[lockout.Unlocked]:
        ledger, waiting = values[ledger_key], values[request_key]
        if not isinstance(ledger, Ledger):
            return Change(lockout.Unlocked.NOT_LOCKED)
        request = waiting if isinstance(waiting, UnlockRequest) else None
        after, request_after, outcome = lockout.unlock(rule_of(flows, name), ledger, request, asked)
        puts = tuple(_puts(ledger_key, ledger, after, request_key, request, request_after))
        if outcome is lockout.Unlocked.NOT_LOCKED:
            return Change(outcome, puts)
        whose, factor, _ = name.split("/", 2)
        agent = (("agent", whose),) if whose.startswith(OWN) else ()
        detail = (("by", asked.by), ("because", asked.reason), ("factor", factor), *agent)
        entry = Entry(asked.at_ms, "authn_login_unlock", "", ref, outcome, detail)
        return Change(outcome, puts, (entry,))

    return await store.amend([ledger_key, request_key], change)


def _puts(
    ledger_key: Key[Ledger],
    before: Ledger,
    after: Ledger,
    request_key: Key[UnlockRequest],
    request: UnlockRequest | None,
    request_after: UnlockRequest | None,
) -> Iterator[Put]:
    if after != before:
        yield Put(ledger_key, after)
    if request_after != request:
        expires = request_after and request_after.at_ms + lockout.UNLOCK_REQUEST_VALID_S * 1000
        yield Put(request_key, request_after, expires or None)
