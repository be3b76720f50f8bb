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
   outermost is the current actor, inner ones are history), and fits where a token of a thousand characters does: of a
   long history the oldest part is left out, which by that section decides nothing, and stands on record.
5. Who passed a caller on holds him until the next one has redeemed, so that nobody is ever in nobody's hands.
"""

import hashlib
import json
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
from ivrguard.core.rules import Demand, name_glob

RECEIPT_VALID_S = 300
"""An agent's desk shows a receipt at once; what lasts longer is asked for again."""

CODE_DIGITS = 8
"""What an agent on a plain phone hears in a whisper and types."""

ACTORS_MAX = 5
"""Hops whose agents a receipt names."""

ACTOR_CHARS_MAX = 32
"""A longer name stands in a receipt as its beginning and the beginning of its SHA-256: whole, it is on record."""

_DIGEST_CHARS = 12

CLAIMS_BYTES_MAX = 624
"""
A receipt is 1,024 characters at most: 4/3 of this, 86 of the signature, two dots, and a header that names a key of up
to 25.
"""

DESK_RULE = Lockout(failures=20, within_s=3600, lock_s=(900,))
"""Redemptions refused per desk: 20 in an hour, of 10^8 codes, and a mistyped code is no drama."""


@dataclass(frozen=True, slots=True)
class Leg:
    """
    One hand-over. `queues`: the targets it may be redeemed for. `carriers`: how the token travels.

    `acr`, `amr`: what was proved at the transfer, `auth_ms`: how fresh that level was. `agent`: who redeemed it, when (`redeemed_ms`).
    `whispers`: per target the guard's link to the IVR's own whisper, which comes after the code. `actors`: of a caller who is
    passed on, who held him before, the last one first; `wants`: what of him is to be proved, by proofs of turn `since_turn` or
    later where that asks for fresh ones; None: what the intent's rules want.
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
    actors: tuple[str, ...] = ()
    wants: Demand | None = None
    since_turn: int = 0


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
        (served(desk, leg.queues) is None, Spoiled.OTHER_QUEUE),
        (call_sid is not None and call_sid != leg.call, Spoiled.OTHER_CALL),
        ((holder.sid, holder.account) != (leg.call, leg.account), Spoiled.OTHER_CALL),
        (leg.redeemed_ms is not None, Spoiled.SPENT),
        (not leg.issued_ms - CLOCK_SKEW_MS <= now_ms < leg.expires_ms, Spoiled.EXPIRED),
        (holder.ended, Spoiled.ENDED),
        (not holder.legs or holder.legs[-1] != leg.id, Spoiled.SUPERSEDED),
        (account_locked, Spoiled.LOCKED),
    )
    return next((reason for holds, reason in checks if holds), None)


def served(desk: Desk, queues: Sequence[str]) -> str | None:
    """The first of these queues that the desk serves; None: it serves none of them."""
    return next(
        (one for one in queues if any(name_glob(pattern).fullmatch(one) for pattern in desk.queues)), None
    )


def in_hands(legs: Sequence[Leg]) -> int:
    """Which of a call's hand-overs counts now: the last one, or, while nobody has taken what was passed on, one before."""
    at = len(legs) - 1
    while at > 0 and legs[at].redeemed_ms is None and legs[at].actors:
        at -= 1
    return at


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
    now_s = now_ms // 1000
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": leg.queues[0],
        "acr": leg.acr[0] if leg.acr else "none",
        "amr": list(leg.amr),
        "call_sid": leg.call,
        "intent": leg.intent,
        "jti": receipt_id,
        "iat": now_s,
        "exp": now_s + RECEIPT_VALID_S,
    }
    if leg.auth_ms:  # an account that is only claimed is nobody's identity yet
        claims |= {"sub": leg.account, "auth_time": leg.auth_ms // 1000}
    for count in range(min(len(actors), ACTORS_MAX), 0, -1):
        named = {**claims, "act": _nested(actors[:count])}
        if count == 1 or len(json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode()) <= (
            CLAIMS_BYTES_MAX
        ):
            return named
    return claims


def _nested(actors: Sequence[str]) -> dict[str, object]:
    """The first one, and in it those before him."""
    rest = {"act": _nested(actors[1:])} if len(actors) > 1 else {}
    return {"sub": _shortened(actors[0]), **rest}


def _shortened(name: str) -> str:
    if len(name) <= ACTOR_CHARS_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{name[: ACTOR_CHARS_MAX - _DIGEST_CHARS - 1]}~{digest}"
