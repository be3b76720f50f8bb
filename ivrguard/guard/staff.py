"""
Accounts of our own for people at desks.

The laws of this file:

1. A name has one spelling (`canonical_name`) and no colon, so that it can be no desk's and no identity provider's.
2. Whatever changes what somebody may do, or what he shows himself with, ends all his sessions in the same act (OWASP ASVS 5.0, 7.4.3,
   8.3.2). It is on record with the operator's name; no secret is.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from ivrguard.core import lockout
from ivrguard.core.agents import OWN
from ivrguard.core.audit import Entry
from ivrguard.core.lockout import Ledger
from ivrguard.core.sessions import LOGIN_RULE
from ivrguard.guard import books
from ivrguard.guard.books import Values
from ivrguard.guard.sessions import list_key
from ivrguard.ports import AgentAccount, Change, Credential, Key, Put, Store

AGENTS_A_PAGE = 1_000
NAME_CHARS_MAX = 64

_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")


def canonical_name(text: str) -> str:
    """The one spelling of an agent's name. Raises `ValueError`, which does not show it: it may be a password in the wrong field."""
    plain = text.strip().lower()
    if not (text.isascii() and _NAME.fullmatch(plain)):
        raise ValueError(
            "an agent's name is made of letters, digits, dots, dashes and underscores, 64 at most"
        )
    return plain


def agent_key(name: str) -> Key[AgentAccount]:
    """The account of this name."""
    return Key("agent", name)


def login_ledger(name: str) -> Key[Ledger]:
    """What counts the guesses at an agent's log-in: `name` as the record has it."""
    return books.ledger_key(f"{name}/log-in/{lockout.POOL}")


async def add(store: Store, account: AgentAccount, *, by: str) -> bool:
    """Add an account; False, and nothing changed, if there is one of that name."""
    key = agent_key(canonical_name(account.name))
    entry = _entry(
        account.created_ms, "agent_created", account.name, "added", by, ("roles", ",".join(account.roles))
    )

    def change(values: Values) -> Change[bool]:
        if values[key] is not None:
            return Change(result=False)
        return Change(True, (Put(key, account),), (entry,))

    return await store.amend([key], change)


async def update(
    store: Store, name: str, become: Callable[[AgentAccount], AgentAccount], *, now_ms: int, by: str
) -> AgentAccount | None:
    """Have the account become what `become` makes of it, and end its sessions; what it was, or None if there is none."""
    key, sessions, ledger_key = agent_key(name), list_key(OWN + name), login_ledger(OWN + name)

    def change(values: Values) -> Change[AgentAccount | None]:
        before, ledger = values[key], values[ledger_key]
        if not isinstance(before, AgentAccount):
            return Change(None)
        after = become(before)
        if after == before:
            return Change(before)
        puts = [Put(key, after), Put(sessions, None)]
        if isinstance(ledger, Ledger) and (after.password, after.app) != (before.password, before.app):
            puts.append(Put(ledger_key, lockout.enrolled_anew(LOGIN_RULE, ledger, now_ms)))
        changed = ("changed", ",".join(_changed(before, after)))
        roles = ("roles", ",".join(after.roles))
        return Change(
            before, tuple(puts), (_entry(now_ms, "agent_updated", name, "changed", by, changed, roles),)
        )

    return await store.amend([key, sessions, ledger_key], change)


async def remove(store: Store, name: str, *, now_ms: int, by: str) -> bool:
    """Keep nothing of the account, and end its sessions; False if there is none. What counts guesses goes when it no longer matters."""
    key, sessions, ledger_key = agent_key(name), list_key(OWN + name), login_ledger(OWN + name)

    def change(values: Values) -> Change[bool]:
        if values[key] is None:
            return Change(result=False)
        puts = [Put(key, None), Put(sessions, None)]
        if isinstance(ledger := values[ledger_key], Ledger):
            puts.append(books.ledger_put(ledger_key.id, LOGIN_RULE, ledger, now_ms, kept=False))
        return Change(True, tuple(puts), (_entry(now_ms, "agent_removed", name, "removed", by),))

    return await store.amend([key, sessions, ledger_key], change)


async def log_out(store: Store, name: str, *, now_ms: int, by: str) -> int:
    """End every session of an agent, named as the record has him; how many there may have been."""
    key = list_key(name)

    def change(values: Values) -> Change[int]:
        listed = values[key]
        if not isinstance(listed, tuple):
            return Change(0)
        entry = Entry(now_ms, "agent_logged_out", reason="by_hand", detail=(("agent", name), ("by", by)))
        return Change(len(listed), (Put(key, None),), (entry,))

    return await store.amend([key], change)


async def every(store: Store) -> tuple[AgentAccount, ...]:
    """All accounts, by name."""
    found: list[AgentAccount] = []
    after = ""
    while page := await store.list("agent", after=after, limit=AGENTS_A_PAGE):
        found += [one.value for one in page if isinstance(one.value, AgentAccount)]
        after = page[-1].id
    return tuple(found)


def with_secrets(
    account: AgentAccount, *, password: Credential | None = None, app: Credential | None = None
) -> AgentAccount:
    """The account with another password or app."""
    return replace(account, password=password or account.password, app=app or account.app)


def _changed(before: AgentAccount, after: AgentAccount) -> list[str]:
    """Names of the parts that differ; never what is in them."""
    parts = ("label", "roles", "queues", "manager", "password", "app")
    return [name for name in parts if getattr(before, name) != getattr(after, name)]


def _entry(now_ms: int, event: str, name: str, reason: str, by: str, *about: tuple[str, str]) -> Entry:
    return Entry(now_ms, event, reason=reason, detail=(("agent", OWN + name), ("by", by), *about))
