"""
What the guard knows of an account, forgotten when the account is erased (a person's right: GDPR, article 17).

1. **What says something of a person goes at once**: the numbers that he verified from.
2. **What counts guesses goes when it no longer matters**, as with an account that never was (guard/books.py): if it
   went at once, erasing an account and adding it again would be fresh guesses at it.
3. **The rest goes by itself** within `kept_s`: calls, hand-overs, codes sent, the last step of an app (without it a code
   of the last minute would work again on an account that is added anew with the same app).
4. **The record stays.** It names accounts by keyed hash, and who did what to them; a chain with a hole proves nothing.
5. Again is harmless, and takes away what a call that was under way has left since.
"""

from ivrguard.core import lockout
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.guard import books, locks
from ivrguard.ports import Change, Put, Store


async def forget(store: Store, flows: tuple[Flow, ...], account: str, now_ms: int) -> None:
    """Forget an account (canonical id) that the directory has not any more."""
    trusted = books.trust_key(account)
    await store.amend([trusted], lambda _: Change(None, (Put(trusted, None),)))
    for seen in await locks.of_account(store, flows, account, now_ms):
        await _let_go(store, locks.rule_of(flows, seen.id), seen.id, now_ms)


async def _let_go(store: Store, rule: lockout.Rule, name: str, now_ms: int) -> None:
    key = books.ledger_key(name)

    def change(values: books.Values) -> Change[None]:
        ledger = values[key]
        if not isinstance(ledger, lockout.Ledger):
            return Change(None)
        return Change(None, (books.ledger_put(name, rule, ledger, now_ms, kept=False),))

    await store.amend([key], change)


def kept_s(flows: tuple[Flow, ...]) -> int:
    """Within how many seconds nothing is left, unless a call is still under way."""
    after_a_call = [books.CALL_KEPT_S + flow.token_valid_s for flow in flows]
    rules = [rule for flow in flows for rule in (flow.locks.account, flow.locks.caller_number) if rule]
    counted = [rule.horizon_s() for rule in rules]
    sends = [one.sends for flow in flows for one in flow.factors.values() if one.kind is Kind.SMS_CODE]
    sent = [max(one.per_account_s, one.per_number_s) for one in sends]
    return max([books.CALL_KEPT_S, *after_a_call, *counted, *sent])
