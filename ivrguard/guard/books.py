"""
Which values one turn of a call reads and writes, and how they become `Books` and back.

The laws of this file: one turn is one `amend` over all of them; what did not change is not written; an
unknown account's ledgers may be swept when they no longer matter, a known one's never are.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping

from ivrguard.core import lockout
from ivrguard.core.call import Books, Call, ledger_ids, number_ledger_id, send_windows
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import CODE_DIGITS, Alias, Desk, Leg
from ivrguard.core.values import replace
from ivrguard.ports import Key, Keys, Published, Put

CALL_KEPT_S = 24 * 3600
SPENT_KEPT_S = 24 * 3600
NEVER_MS = 2**63 - 1
"""The end of what no time ends: a factor disabled by the lifetime count stands last in the list of locks."""

TOKEN_CHARACTERS = 26
CODES_TRIED_MAX = 3
"""Whisper codes are short, so two legs may draw the same: so many are tried for a leg."""

HOLDING_MAX = 200
"""Calls that one agent, or a program with one key for a whole desk, is known to hold; those redeemed first are listed no more."""

LOOKED_KEPT_S = 60
"""Looks of one agent at one call within so long are one entry of the record: a panel that polls is no flood."""

CALL_SID = re.compile("CA[0-9a-f]{32}")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


Values = Mapping[Key[object], object | None]


def call_key(sid: str) -> Key[Call]:
    """The one value of a call."""
    return Key("call", sid)


def flow_key(name: str, version: str) -> Key[dict[str, str]]:
    """The files that a version of a flow was read from (`core.flow.Flow.files`)."""
    return Key("flow", f"{name}/{version}")


def published_key() -> Key[Published]:
    """Which flows every node has in force."""
    return Key("published", "flows")


def ledger_key(name: str) -> Key[lockout.Ledger]:
    """A ledger by the id that core gives it."""
    return Key("ledger", name)


def trust_key(account: str) -> Key[tuple[lockout.Trusted, ...]]:
    """The numbers that answered right on this account."""
    return Key("trust", account)


def sends_key(name: str) -> Key[tuple[int, ...]]:
    """When codes were sent, by the id that core gives it."""
    return Key("sends", name)


def verification_key(sent: str) -> Key[str]:
    """The verification of a service outside that stands for a code sent in a call."""
    return Key("verification", sent)


def spent_key(account: str) -> Key[int]:
    """The last TOTP step used by this account."""
    return Key("spent", account)


def led_key(nonce: str) -> Key[str]:
    """A document that the IVR leads a call to by REST: sealed, and found by nobody who was not told."""
    return Key("led", nonce)


def leg_key(leg: str) -> Key[Leg]:
    """A hand-over."""
    return Key("leg", leg)


def desk_key(secret: str) -> Key[Desk]:
    """An agent's desk by the digest of its key; the key itself is not kept."""
    return Key("desk", hashlib.sha256(secret.encode()).hexdigest())


def holding_key(agent: str) -> Key[tuple[tuple[str, int], ...]]:
    """The calls that an agent took, and when (ms), in order: where to look for those that he holds."""
    return Key("holding", agent)


def holding_put(agent: str, before: object, sid: str, now_ms: int) -> Put:
    """What an agent took, once he has taken this call too."""
    taken = before if isinstance(before, tuple) else ()
    lasting = [
        (other, at_ms) for other, at_ms in taken if other != sid and now_ms - at_ms < CALL_KEPT_S * 1000
    ]
    return Put(holding_key(agent), (*lasting, (sid, now_ms))[-HOLDING_MAX:], now_ms + CALL_KEPT_S * 1000)


def looked_key(agent: str, sid: str) -> Key[int]:
    """When it last went on record that an agent looked at a call (""; at one that is not his)."""
    return Key("looked", f"{sid or 'refused'}/{agent}")


def alias_key(keys: Keys, presented: str) -> Key[Alias] | None:
    """
    The name under which a token, a whisper code or a CallSid is filed; None if it has no such form.

    Only digests are kept: a plain one for a token (128 bits), a keyed one for a code (27 bits).
    """
    if CALL_SID.fullmatch(presented):  # to the letter: a token may begin with these two letters as well
        return Key("alias", f"call:{presented}")
    token = presented.upper()
    if len(token) == TOKEN_CHARACTERS and set(token) <= set(_BASE32):
        return Key("alias", f"token:{hashlib.sha256(token.encode()).hexdigest()}")
    if len(token) == CODE_DIGITS and token.isascii() and token.isdigit():
        return Key("alias", f"code:{keys.pseudonym('code', token)}")
    return None


def agent_key(call_sid: str) -> Key[Alias]:
    """The leg that an agent's own CallSid belongs to, where the guard dialled him. Nobody can present this name."""
    return Key("alias", f"agent:{call_sid}")


def token_of(keys: Keys, leg: str) -> str:
    """The token of a leg: 130 bits in Crockford's base 32, derived, so that only its digest need be kept."""
    number = int.from_bytes(keys.derive("token", leg)[:17])
    return "".join(_BASE32[(number >> (5 * place)) & 31] for place in range(TOKEN_CHARACTERS))


def code_of(keys: Keys, leg: str, nth: int) -> str:
    """The `nth` whisper code of a leg: 8 digits; 64 bits modulo 10^8 (bias below 2^-37)."""
    return f"{int.from_bytes(keys.derive('whisper', f'{leg}/{nth}')[:8]) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


def account_keys(flow: Flow, call: Call) -> Iterator[Key[object]]:
    """What belongs to the account and the number that this call speaks for."""
    if not call.account:
        return
    for name in ledger_ids(flow, call):
        yield ledger_key(name)
    for name in send_windows(flow, call):
        yield sends_key(name)
    yield spent_key(call.account)
    yield trust_key(call.account)


def leg_keys(keys: Keys, call: Call, leg: str) -> Iterator[Key[object]]:
    """Every name that a leg minted in this turn may take."""
    yield leg_key(leg)
    for name in (token_of(keys, leg), call.sid):
        found = alias_key(keys, name)
        assert found is not None
        yield found
    for nth in range(CODES_TRIED_MAX):
        yield from _code_keys(keys, code_of(keys, leg, nth))


def _code_keys(keys: Keys, code: str) -> Iterator[Key[Alias]]:
    """A code under each naming key: whichever key files it, it is the same digits on an agent's phone."""
    for key_id in keys.named:
        found = alias_key(keys.with_naming(key_id), code)
        assert found is not None
        yield found


def books_of(flow: Flow, call: Call, values: Values) -> Books:
    """The books as the store has them."""
    if not call.account:
        return Books()
    ledgers: dict[str, lockout.Ledger] = {}
    for name in ledger_ids(flow, call):
        found = values.get(ledger_key(name))
        if isinstance(found, lockout.Ledger):
            ledgers[name] = found
    sends: dict[str, tuple[int, ...]] = {}
    for name in send_windows(flow, call):
        times = values.get(sends_key(name))
        if isinstance(times, tuple):
            sends[name] = times
    spent = values.get(spent_key(call.account))
    trusted = values.get(trust_key(call.account))
    return Books(
        ledgers,
        sends,
        spent if isinstance(spent, int) else -1,
        trusted if isinstance(trusted, tuple) else (),
    )


def puts_of(flow: Flow, call: Call, before: Books, after: Books, now_ms: int) -> Iterator[Put]:
    """What of the books changed."""
    number = number_ledger_id(call.caller)
    for name, ledger in after.ledgers.items():
        if ledger == before.ledgers.get(name):
            continue
        rule = flow.locks.caller_number if name == number and flow.locks.caller_number else flow.locks.account
        yield ledger_put(name, rule, ledger, now_ms, kept=call.known and name != number)
    windows = send_windows(flow, call)
    for name, times in after.sends.items():
        if times != before.sends.get(name):
            yield Put(sends_key(name), times, now_ms + windows[name] * 1000)
    if after.spent != before.spent:
        yield Put(spent_key(call.account), after.spent, now_ms + SPENT_KEPT_S * 1000)
    if after.trusted != before.trusted:
        yield Put(trust_key(call.account), after.trusted, now_ms + lockout.TRUST_KEPT_S * 1000)


def ledger_put(name: str, rule: lockout.Rule, ledger: lockout.Ledger, now_ms: int, *, kept: bool) -> Put:
    """A ledger as it is kept: for good, or (of an account that nobody has, or a number) until it no longer matters."""
    expires_ms = None if kept else now_ms + rule.horizon_s() * 1000
    return Put(ledger_key(name), ledger, expires_ms, _locked_until_ms(rule, ledger, now_ms))


def _locked_until_ms(rule: lockout.Rule, ledger: lockout.Ledger, now_ms: int) -> int | None:
    """The rank of a ledger: when its lock ends, so that locks can be listed; None while it is open."""
    standing = lockout.standing(rule, ledger, now_ms)
    if isinstance(standing, lockout.Locked):
        return standing.until_ms
    return NEVER_MS if isinstance(standing, lockout.Disabled) else None


def leg_puts(keys: Keys, leg: Leg, values: Values, now_ms: int) -> list[Put] | None:
    """
    The leg and its names, as its carriers need them; None if every code drawn for it is taken.

    Minted again, because an answer was lost, it is the same leg: what was redeemed meanwhile stays redeemed.
    """
    before = values.get(leg_key(leg.id))
    if isinstance(before, Leg) and before.redeemed_ms is not None:
        leg = replace(leg, redeemed_ms=before.redeemed_ms, agent=before.agent)
    names: list[str] = []
    if {"task", "parameter", "sip"} & set(leg.carriers):
        names.append(token_of(keys, leg.id))
    if "call" in leg.carriers:
        names.append(leg.call)
    if "whisper" in leg.carriers:
        code = free_code(keys, leg, values, now_ms)
        if code is None:
            return None
        names.append(code)
    kept_ms = leg.expires_ms + CALL_KEPT_S * 1000
    puts = [Put(leg_key(leg.id), leg, kept_ms)]
    for name in names:
        found = alias_key(keys, name)
        assert found is not None
        puts.append(Put(found, Alias(leg.id, leg.expires_ms), kept_ms))
    return puts


def free_code(keys: Keys, leg: Leg, values: Values, now_ms: int) -> str | None:
    """The first code of this leg that no other live leg has."""
    for nth in range(CODES_TRIED_MAX):
        code = code_of(keys, leg.id, nth)
        others = (values.get(name) for name in _code_keys(keys, code))
        if not any(
            isinstance(taken, Alias) and taken.leg != leg.id and taken.expires_ms > now_ms for taken in others
        ):
            return code
    return None
