"""
Hand-over to a live agent: tokens, legs, redemption, receipts.

The laws of this file:

1. A token is minted only by `call.step` at a protected transfer whose demands hold. Only its digest is kept.
2. It works once: in its own call, for its own purpose, for an agent of its own queue, before it expires,
   while the caller is on the line, and while the account is not locked. `redeem` looks at all of it again,
   at the moment of redemption (what was true at the transfer may have ended since). A clock that jumped back makes no
   token live longer: one from the future, beyond the clocks' skew, is worth nothing.
3. Whoever presents a bad one learns nothing: the reason is for the record alone.
4. A receipt says what was proved and when. It names who holds the caller in `act` (RFC 8693, 4.1: the
   outermost is the current actor, inner ones are history).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ivrguard.core.assurance import (
    CLOCK_SKEW_MS,
    Freshness,
    Proof,
    amr,
    authenticated_ms,
    proved,
    reached,
    said_for,
    satisfied,
)
from ivrguard.core.audit import Entry
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import name_glob

RECEIPT_VALID_S = 300
"""An agent's desk shows a receipt at once; what lasts longer is asked for again."""

CODE_DIGITS = 8
"""What an agent on a plain phone hears in a whisper and types."""

DESK_RULE = Lockout(failures=20, within_s=3600, lock_s=(900,))
"""Redemptions refused per desk: 20 in an hour, of 10^8 codes, and a mistyped code is no drama."""


@dataclass(frozen=True, slots=True)
class Leg:
    """
    One hand-over. `queues`: the targets it may be redeemed for. `carriers`: how the token travels.

    `acr`, `amr`: what was proved at the transfer, `auth_ms`: how fresh that level was. `agent`: who redeemed it, when (`redeemed_ms`).
    `whispers`: per target the guard's link to the IVR's own whisper, which comes after the code.
    """

    id: str
    call: str
    account: str
    queues: tuple[str, ...]
    carriers: tuple[str, ...]
    intent: str
    acr: tuple[str, ...]
    amr: tuple[str, ...]
    auth_ms: int
    issued_ms: int
    expires_ms: int
    redeemed_ms: int | None = None
    agent: str = ""
    whispers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """What a presented token names: its leg, and until when the name is taken."""

    leg: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Desk:
    """An agent's desk: who may redeem (`name`), for which queues (globs over `kind:value`)."""

    name: str
    queues: tuple[str, ...]
    created_ms: int
    revoked_ms: int | None = None


class Spoiled(StrEnum):
    """Why a token is not worth anything. For the record, never for the one who presented it."""

    FORGED = "forged"
    SPENT = "spent"
    EXPIRED = "expired"
    OTHER_CALL = "other_call"
    OTHER_QUEUE = "other_queue"
    ENDED = "ended"
    LOCKED = "locked"
    SUPERSEDED = "superseded"
    DESK_LOCKED = "desk_locked"


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The leg as it is now, and the record of it."""

    leg: Leg
    entry: Entry


@dataclass(frozen=True, slots=True)
class Refused:
    """Not redeemed: the reason is in the record."""

    reason: Spoiled
    entry: Entry


@dataclass(frozen=True, slots=True)
class Holder:
    """What of a call matters to a hand-over: whose it is, what it proved, whether it lives, its legs so far."""

    sid: str
    account: str
    ref: str
    proofs: tuple[Proof, ...]
    ended: bool
    legs: tuple[str, ...]


def mint(
    flow: Flow,
    holder: Holder,
    *,
    leg_id: str,
    queues: tuple[str, ...],
    carriers: tuple[str, ...],
    whispers: tuple[tuple[str, str], ...],
    intent: str,
    now_ms: int,
) -> Leg:
    """A new leg for a transfer of the call: what it has proved by now, for these queues."""
    return Leg(
        id=leg_id,
        call=holder.sid,
        account=holder.account,
        queues=queues,
        carriers=carriers,
        whispers=whispers,
        intent=intent,
        acr=reached(flow.levels, holder.proofs, Freshness(), now_ms),
        amr=amr(holder.proofs, Freshness(), now_ms),
        auth_ms=authenticated_ms(flow.levels, holder.proofs, Freshness(), now_ms),
        issued_ms=now_ms,
        expires_ms=now_ms + flow.token_valid_s * 1000,
    )


def redeem(
    leg: Leg | None,
    holder: Holder | None,
    desk: Desk,
    *,
    call_sid: str | None,
    account_locked: bool,
    desk_locked: bool,
    now_ms: int,
) -> Redeemed | Refused:
    """
    Spend the token of `leg` for `desk`, or say (to the record) why not.

    `leg` None: no such token. `call_sid`: the call that the desk says it holds, None if it does not know.
    """
    reason = _spoiled(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms)
    ref = holder.ref if holder is not None else ""
    sid = leg.call if leg is not None else ""
    if leg is None or reason is not None:
        why = reason or Spoiled.FORGED
        event = "authn_token_reuse" if why is Spoiled.SPENT else "authn_token_refused"
        return Refused(why, Entry(now_ms, event, sid, ref, why, (("desk", desk.name),)))
    spent = replace(leg, redeemed_ms=now_ms, agent=desk.name)
    detail = (("desk", desk.name), ("queues", ",".join(leg.queues)), ("intent", leg.intent))
    return Redeemed(spent, Entry(now_ms, "authn_token_redeemed", sid, ref, "right", detail))


def _spoiled(
    leg: Leg | None,
    holder: Holder | None,
    desk: Desk,
    call_sid: str | None,
    account_locked: bool,
    desk_locked: bool,
    now_ms: int,
) -> Spoiled | None:
    if desk_locked:
        return Spoiled.DESK_LOCKED
    if leg is None or holder is None:
        return Spoiled.FORGED
    checks = (
        (not any(_serves(desk, queue) for queue in leg.queues), Spoiled.OTHER_QUEUE),
        (call_sid is not None and call_sid != leg.call, Spoiled.OTHER_CALL),
        ((holder.sid, holder.account) != (leg.call, leg.account), Spoiled.OTHER_CALL),
        (leg.redeemed_ms is not None, Spoiled.SPENT),
        (not leg.issued_ms - CLOCK_SKEW_MS <= now_ms < leg.expires_ms, Spoiled.EXPIRED),
        (holder.ended, Spoiled.ENDED),
        (not holder.legs or holder.legs[-1] != leg.id, Spoiled.SUPERSEDED),
        (account_locked, Spoiled.LOCKED),
    )
    return next((reason for holds, reason in checks if holds), None)


def _serves(desk: Desk, queue: str) -> bool:
    return any(name_glob(pattern).fullmatch(queue) for pattern in desk.queues)


@dataclass(frozen=True, slots=True)
class May:
    """
    What the caller may do now: an intent, a level it needs, and whether the call holds that.

    Rules may want different levels for one intent: each has a line of its own, so that no agent takes the
    weaker one for the whole.
    """

    intent: str
    level: str
    held: bool


def standing(flow: Flow, proofs: Sequence[Proof], now_ms: int) -> tuple[May, ...]:
    """
    For each intent that the flow names, and each level it needs: may the caller do it now?

    Held only if every rule that wants this level for this intent would let him: the shortest `within` counts.
    """
    held: dict[tuple[str, str], bool] = {}
    for demand in (*(rule.demand for rule in flow.rules), flow.default):
        if not demand.intent or demand.require is None:
            continue
        name = (demand.intent, demand.require)
        counting = said_for(proofs, demand.intent) if demand.own_code else proofs
        have = proved(counting, Freshness(demand.within_s), now_ms)
        held[name] = held.get(name, True) and satisfied(flow.levels[demand.require], have)
    return tuple(May(intent, level, held[intent, level]) for intent, level in sorted(held))


def receipt_claims(
    leg: Leg, *, issuer: str, actors: Sequence[str], receipt_id: str, now_ms: int
) -> dict[str, object]:
    """
    The claims of a receipt (JWT): times in seconds (RFC 7519), `acr` the strongest level, `act` nested.

    `actors`: who holds the caller, the current one first.
    """
    act: dict[str, object] | None = None
    for name in reversed(actors):
        act = {"sub": name} if act is None else {"sub": name, "act": act}
    now_s = now_ms // 1000
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": leg.queues[0],
        "sub": leg.account,
        "acr": leg.acr[0] if leg.acr else "none",
        "amr": list(leg.amr),
        "auth_time": leg.auth_ms // 1000,
        "call_sid": leg.call,
        "intent": leg.intent,
        "jti": receipt_id,
        "iat": now_s,
        "exp": now_s + RECEIPT_VALID_S,
    }
    if act is not None:
        claims["act"] = act
    return claims
