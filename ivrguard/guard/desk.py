"""
The agent's desk: a token for a receipt, once.

The law of this file: leg, call, ledgers and record change in one act, and everyone who presents something
bad gets the same answer (None), whatever was wrong with it.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from ivrguard.core import call as calls
from ivrguard.core import handoff, lockout, passing
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.handoff import Desk, Leg
from ivrguard.guard import books
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Change, Key, Put, Store

Outcome = handoff.Redeemed | handoff.Refused


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What a desk gets for a token: the signed receipt, and the same in words an agent can read.

    `age_s`: how old the oldest proof is that the level rests on. `may`: what the caller may do now, and what still needs a factor. `notes`:
    what the attestation says against the number that he calls from; it changes nothing of the rest.
    """

    jwt: str = field(repr=False)
    call_sid: str
    account: str
    acr: str
    amr: tuple[str, ...]
    age_s: int
    intent: str
    may: tuple[handoff.May, ...]
    notes: tuple[str, ...] = ()


DESKS_A_PAGE = 1_000


async def add(store: Store, name: str, queues: tuple[str, ...], *, secret: str, now_ms: int) -> None:
    """A new desk with the key `secret`, of which only the digest is kept."""
    key = books.desk_key(secret)
    entry = Entry(now_ms, "desk_created", reason="added", detail=(("desk", name),))
    put = Put(key, Desk(name, queues, now_ms))
    await store.amend([key], lambda _: Change(None, (put,), (entry,)))


async def every(store: Store) -> tuple[tuple[str, Desk], ...]:
    """Every desk, by the digest of its key: all of them, however many, for a revocation must miss none."""
    desks: list[tuple[str, Desk]] = []
    after = ""
    while found := await store.list("desk", after=after, limit=DESKS_A_PAGE):
        desks += [(one.id, one.value) for one in found if isinstance(one.value, Desk)]
        after = found[-1].id
    return tuple(desks)


async def revoke(store: Store, name: str, *, now_ms: int) -> int:
    """End every key of the desk `name`; how many were in force."""
    count = 0
    for digest, desk in await every(store):
        if desk.name == name and desk.revoked_ms is None:
            put = Put(Key("desk", digest), replace(desk, revoked_ms=now_ms))
            entry = Entry(now_ms, "desk_revoked", reason="revoked", detail=(("desk", name),))
            done: Change[None] = Change(None, (put,), (entry,))
            await store.amend([put.key], partial(_as_decided, done))
            count += 1
    return count


def _as_decided(done: Change[None], _: books.Values) -> Change[None]:
    return done


async def desk_of(world: World, secret: str) -> Desk | None:
    """The desk that has this key; None if there is none or it was revoked."""
    desk = await world.store.read(books.desk_key(secret))
    return desk if desk is not None and desk.revoked_ms is None else None


async def redeem(world: World, desk: Desk, presented: str, call_sid: str | None) -> Receipt | None:
    """
    Spend what was presented: a token, a whisper code, or the CallSid of a call in a plain queue. A CallSid is also what
    there is of a call that was led to the desk's queue unasked (core/passing.py, `take`).
    """
    alias = await _alias(world, presented)
    leg = await world.store.read(books.leg_key(alias.leg)) if alias is not None else None
    named = presented if books.CALL_SID.fullmatch(presented) and call_sid in {None, presented} else ""
    sid = leg.call if leg is not None else named
    call = await world.store.read(books.call_key(sid)) if sid else None
    mounted = await world.flow_of(call) if call is not None else None
    outcome = await _amend(world, desk, leg, call, mounted, call_sid, by_sid=bool(named))
    if isinstance(outcome, handoff.Refused) or call is None or mounted is None:
        return None
    return _receipt(world, outcome.leg, call, mounted, desk)


async def _alias(world: World, presented: str) -> handoff.Alias | None:
    """What was presented, filed under the naming key of its call: whichever that is."""
    names = (books.alias_key(world.keys.with_naming(key), presented) for key in world.keys.named)
    for name in dict.fromkeys(names):
        alias = await world.store.read(name) if name is not None else None
        if alias is not None:
            return alias
    return None


async def _amend(
    world: World,
    desk: Desk,
    leg: Leg | None,
    call: Call | None,
    mounted: Mounted | None,
    call_sid: str | None,
    *,
    by_sid: bool = False,
) -> Outcome:
    ledger_key, holding_key = books.ledger_key(f"desk/{desk.name}"), books.holding_key(desk.name)
    now, attempt, taken_leg = world.clock(), world.nonce(), world.nonce()
    keys: list[Key[object]] = [ledger_key, holding_key]
    if call is not None and mounted is not None:
        keys += [books.call_key(call.sid), *books.account_keys(mounted.flow, call)]
        keys += [books.leg_key(name) for name in ([leg.id] if leg is not None else []) + [taken_leg] * by_sid]

    def change(values: books.Values) -> Change[Outcome]:
        ledger = values[ledger_key]
        ledger = ledger if isinstance(ledger, lockout.Ledger) else lockout.Ledger()
        counted, allowed = lockout.reserve(handoff.DESK_RULE, ledger, attempt, now)
        found, holder, locked = None, None, False
        if leg is not None and call is not None and mounted is not None:
            fresh, live = values[books.leg_key(leg.id)], values[books.call_key(call.sid)]
            if isinstance(fresh, Leg) and isinstance(live, Call):
                found, holder = fresh, calls.holder(live)
                ledgers = books.books_of(mounted.flow, live, values)
                locked = calls.locked(mounted.flow, live, ledgers, now)
        outcome = handoff.redeem(
            found,
            holder,
            desk,
            call_sid=call_sid,
            account_locked=locked,
            desk_locked=not allowed,
            now_ms=now,
        )
        puts: list[Put] = []
        if (
            isinstance(outcome, handoff.Refused)
            and by_sid
            and allowed
            and call is not None
            and mounted is not None
        ):
            live = values[books.call_key(call.sid)]
            taken = passing.take(mounted.flow, live, desk, taken_leg, now) if isinstance(live, Call) else None
            if taken is not None:
                outcome = handoff.Redeemed(taken.outcome, taken.entries[0])
                expires = now + books.CALL_KEPT_S * 1000
                puts.append(Put(books.call_key(call.sid), taken.call, expires, call.began_ms))
        if isinstance(outcome, handoff.Redeemed):
            counted = lockout.withdraw(counted, attempt)
            puts.append(Put(books.leg_key(outcome.leg.id), outcome.leg, now + books.CALL_KEPT_S * 1000))
            puts.append(books.holding_put(desk.name, values[holding_key], outcome.leg.call, now))
        if counted != ledger:
            expires = now + handoff.DESK_RULE.horizon_s() * 1000
            puts.append(Put(ledger_key, counted, expires))
        return Change(outcome, tuple(puts), (outcome.entry,))

    return await world.store.amend(keys, change)


def _receipt(world: World, leg: Leg, call: Call, mounted: Mounted, desk: Desk) -> Receipt:
    now = world.clock()
    claims = handoff.receipt_claims(
        leg, issuer=world.issuer, actors=(desk.name, *leg.actors), receipt_id=world.nonce(), now_ms=now
    )
    return Receipt(
        jwt=world.keys.sign(claims, typ="ivrguard-receipt+jwt"),
        call_sid=leg.call,
        account=leg.account if leg.auth_ms else "",
        acr=str(claims["acr"]),
        amr=leg.amr,
        age_s=max(0, now - leg.auth_ms) // 1000 if leg.auth_ms else 0,
        intent=leg.intent,
        may=handoff.standing(mounted.flow, call.proofs, now),
        notes=call.notes,
    )


async def whispered(world: World, call: Call, leg_id: str) -> str | None:
    """The code of a hand-over by plain phone; None: it has none (any more)."""
    keys = world.keys.with_naming(call.naming)
    for nth in range(books.CODES_TRIED_MAX):
        code = books.code_of(keys, leg_id, nth)
        name = books.alias_key(keys, code)
        assert name is not None
        alias = await world.store.read(name)
        if alias is not None and alias.leg == leg_id:
            return code
    return None
