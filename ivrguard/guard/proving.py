"""
Whose account a caller speaks for, his answer judged, codes and messages on their way: what proving needs of the world.

The laws of this file:

1. It counts nothing and decides nothing: core/step.py does, before and after.
2. An account that is unknown or locked takes the same look-ups and the same work as any other.
3. A code belongs to one call and one intent, whoever makes it. A service's verification is kept under the id of the
   code that it stands for, and found by nothing else.
4. No code goes to a number that the flow's `lookup` withholds it from (core/lookup.py).
5. The owner is written to in his own language.
"""

from ivrguard import log
from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.caller import country_prefix
from ivrguard.core.errors import Fault, NotifyFault, OutOfSight
from ivrguard.core.flow import Factor, Flow, Via
from ivrguard.core.lookup import NumberFacts, withheld
from ivrguard.core.values import replace
from ivrguard.guard import books
from ivrguard.guard.world import World
from ivrguard.ports import Account, Challenge, Change, Credential, Messenger, Put, Right, Verdict

SEND_DEADLINE_S = 4.0
CHECK_DEADLINE_S = 4.0
LOOKUP_DEADLINE_S = 2.0

logger = log.get()


async def find(world: World, flow: Flow, call: Call, digits: str) -> calls.Found:
    """The account that the digits name. Whether it exists or not: the same look-ups, the same shape."""
    caller = call.caller
    if digits == calls.KNOWN_NUMBER_KEY and calls.offers_number(flow, call):
        account, claimed = await world.directory.by_number(caller.value), f"number:{caller.value}"
    else:
        account, claimed = await world.directory.by_id(digits), digits
    every = tuple(flow.factors)
    name = account.id if account else claimed
    numbers = await world.store.read(books.trust_key(name)) or ()
    trusted = lockout.trusts(numbers, caller.value, world.clock())
    ref = world.keys.with_naming(call.naming).pseudonym("account", name)
    to, prefix = to_of(world, account, name)
    found = calls.Found(name, account is not None, ref, every, trusted, to=to, to_prefix=prefix)
    if account is None:
        return found
    kinds = {credential.kind for credential in account.credentials}
    enrolled = tuple(factor for factor in every if flow.factors[factor].kind in kinds)
    return replace(found, enrolled=enrolled, language=account.language)


async def judge(world: World, flow: Flow, call: Call, move: calls.Judge, digits: str) -> Verdict:
    """
    Right or wrong.

    Raises `Busy` when no hash thread is free, `OutOfSight`, or another `Fault` when nobody has looked at the answer.
    """
    factor = flow.factors[move.factor]
    verdict = await _judged(world, flow, call, move, digits, factor)
    if world.sensor is not None:
        world.sensor.judged(flow, call, factor.kind, digits, right=isinstance(verdict, Right))
    return verdict


async def _judged(
    world: World, flow: Flow, call: Call, move: calls.Judge, digits: str, factor: Factor
) -> Verdict:
    sent = move.sent
    account = await world.directory.by_id(call.account)
    if factor.via is Via.VERIFY:
        return await _verified(world, sent if move.allowed else None, digits)
    credential = account.credential(factor.kind) if account and move.allowed else None
    challenge = challenge_of(flow, call, sent) if sent is not None else None
    verdict = await world.judges[factor.kind].judge(credential, digits, challenge, world.clock())
    if credential is not None and isinstance(verdict, Right) and verdict.renewed is not None:
        await _renew(world, call.account, credential, verdict.renewed)
    return verdict


async def _renew(world: World, account: str, before: Credential, after: Credential) -> None:
    """Keep a credential made anew. It concerns no caller: if it cannot be kept now, it is the next time."""
    if world.renewals is not None:
        try:
            await world.renewals.renew(account, before, after, now_ms=world.clock())
        except Fault as fault:
            logger.error("credential_not_renewed", reason=fault.reason, detail=str(fault))


async def _verified(world: World, sent: calls.Sent | None, digits: str) -> Verdict:
    if world.verifications is None:
        raise NotifyFault("this flow sends codes through Verify, and no service is set up", why="not_set_up")
    verification = await world.store.read(books.verification_key(sent.id)) if sent is not None else None
    try:
        return await world.verifications.check(verification, digits, deadline_s=CHECK_DEADLINE_S)
    except NotifyFault as fault:
        if fault.why == "too_many_checks":
            raise
        raise OutOfSight(str(fault)) from None


def challenge_of(flow: Flow, call: Call, sent: calls.Sent) -> Challenge:
    """What a code of our own is made from: one that is read to an agent is for that, and no code to be keyed."""
    digits = flow.factors[sent.factor].digits
    intent = f"read_back:{sent.intent}" if sent.asked_by else sent.intent
    return Challenge(sent.id, call.account, call.sid, intent, digits, sent.at_ms, sent.valid_s, call.naming)


async def send_code(world: World, flow: Flow, call: Call, sent: calls.Sent) -> None:
    """Have the code on its way. Raises `NotifyFault`, whose `why` is for the record, when it is not."""
    factor = flow.factors[sent.factor]
    account = await world.directory.by_id(call.account)
    number = _number(account, factor)
    if account is None or not number:
        raise NotifyFault("the account has no number for codes", why="no_number")
    await _may_go_to(world, factor, number)
    catalogue = flow.catalogue(call.language or account.language)
    intent = catalogue.prompts.get(f"intent.{sent.intent}", sent.intent) or catalogue.prompts["no_intent"]
    if factor.via is Via.VERIFY:
        if sent.asked_by:
            intent = catalogue.prompts["read_back_intent"].format(intent=intent)
        await _start(world, sent, number, intent, catalogue.language)
        return
    messenger = _messenger(world)
    code = world.codes.code(challenge_of(flow, call, sent))
    name = "sms_read_back" if sent.asked_by else "sms_text"
    text = catalogue.prompts[name].format(code=code, intent=intent)
    await messenger.send(number, text, deadline_s=SEND_DEADLINE_S)


def _number(account: Account | None, factor: Factor) -> str:
    credential: Credential | None = account.credential(factor.kind) if account else None
    return credential.number if credential else ""


async def _may_go_to(world: World, factor: Factor, number: str) -> None:
    packages = factor.lookup.wanted()
    if not packages:
        return
    facts = NumberFacts()
    if world.numbers is not None:
        try:
            facts = await world.numbers.look_up(number, packages, deadline_s=LOOKUP_DEADLINE_S)
        except NotifyFault as fault:  # what nobody can say is the flow's to weigh
            logger.error("lookup_failed", reason=fault.reason, detail=str(fault))
    why = withheld(factor.lookup, facts, world.clock())
    if why:
        raise NotifyFault("the flow's `lookup` withholds codes from this number", why=why)


async def _start(world: World, sent: calls.Sent, number: str, intent: str, language: str) -> None:
    if world.verifications is None:
        raise NotifyFault("this flow sends codes through Verify, and no service is set up", why="not_set_up")
    verification = await world.verifications.start(
        number, again=sent.again, intent=intent, language=language, deadline_s=SEND_DEADLINE_S
    )
    key, expires_ms = books.verification_key(sent.id), world.clock() + sent.valid_s * 1000
    await world.store.amend([key], lambda _: Change(None, (Put(key, verification, expires_ms),)))


async def send_unheard(world: World, flow: Flow, call: Call, sent: calls.Sent) -> None:
    """The same for a caller who has proved nothing: he is told nothing, so a failure goes on record here."""
    try:
        await send_code(world, flow, call, sent)
    except Fault as fault:
        await _undelivered(world, call, fault, "authn_code_undelivered", factor=sent.factor)
        raise


async def tell_owner(world: World, flow: Flow, call: Call, prompt: str) -> None:
    """
    Write to the account's owner: what a thief would not want him to know (OWASP; NIST SP 800-63B-4, 4.6).

    Nobody waits for it: that it did not get out is on record, whatever the reason, and raised for the log.
    """
    try:
        account = await world.directory.by_id(call.account)
        if account is None or not account.numbers:
            raise NotifyFault("the account has no number on file to write to", why="no_number")
        messenger = _messenger(world)
        text = flow.catalogue(account.language).prompts[prompt]
        await messenger.send(account.numbers[0], text, deadline_s=SEND_DEADLINE_S)
    except Fault as fault:
        await _undelivered(world, call, fault, "owner_not_notified", notice=prompt)
        raise


def _messenger(world: World) -> Messenger:
    if world.messenger is None:
        raise NotifyFault("no messages can be sent: no sender is configured", why="not_set_up")
    return world.messenger


async def _undelivered(world: World, call: Call, fault: Fault, event: str, **detail: str) -> None:
    why = fault.why if isinstance(fault, NotifyFault) else fault.reason
    entry = Entry(world.clock(), event, call.sid, call.ref, why, tuple(detail.items()))
    await world.store.amend([], lambda _: Change(None, (), (entry,)))


def to_of(world: World, account: Account | None, name: str) -> tuple[str, str]:
    """
    The number that codes go to, as a keyed hash, and its country's prefix. An account that has none, or does not
    exist, gets what nobody has.
    """
    credential = account.credential(Kind.SMS_CODE) if account else None
    number = credential.number if credential else ""
    # The oldest naming key's: a new one must not begin the count of the codes that went to a number anew.
    keys = world.keys.with_naming(world.keys.named[-1])
    return keys.pseudonym("number", number or name), country_prefix(number) if number else "none"
