"""
Promise 3. **No stranger locks you out.** Failures from elsewhere do not close the lane of a caller who verified from
this number before and whose carrier attests it.

The lane is a counter of one's own and nothing more: it is no factor, and whoever only pretends to call from the
owner's number gets none of it (https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).
"""

from dataclasses import replace

import pytest

from ivrguard.core import admission, demands, lockout
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import Factor, Locks, Sends
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.guard import books, webhook
from ivrguard.guard.webhook import Webhook
from ivrguard.phone.heard import Asked
from ivrguard.ports import Account, Credential
from ivrguard.telephony import delivery

HOME = {"/voice": "<Say>Welcome home</Say>"}
ATTESTED = "TN-Validation-Passed-A"
PIN_ONLY = {"one_factor": AnyOf(("pin",)), "two_factor": AllOf(("pin", "code"))}
CODE_ONLY = {"one_factor": AnyOf(("code",)), "two_factor": AllOf(("pin", "code"))}
STRICT = Locks(
    account=Lockout(failures=3, within_s=3600, lock_s=(1800,), lifetime=6),
    caller_number=Lockout(failures=4, within_s=3600, lock_s=(3600,)),
)


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


async def attempt(built, pin, from_, stir=None, account="123456#"):
    """Call, claim the account, key a PIN: the line, and whether the IVR heard of the call."""
    line = built.rig.exchange.call(from_, built.flow.numbers[0], stir_verstat=stir)
    await line.until_input()
    for keys in (account, pin):
        if isinstance(line.waiting, Asked):
            await line.press(keys)
    return line.call_sid in {got.call for got in built.ivr.got}


async def owner_verifies(built):
    """The owner calls from his own phone, whose carrier attests it, and keys his PIN: is he let in?"""
    return await attempt(built, built.PIN, built.OWNER, ATTESTED)


async def strangers_lock_the_pool(built, rounds=1):
    """Wrong PINs from elsewhere, and from the owner's number as a forger sends it, until all are locked out."""
    for number in range(3 * rounds):
        await attempt(built, f"1357000{number}", f"+1555666000{number}")
        if number % 3 == 2 and number + 1 < 3 * rounds:
            built.clock.advance(1800)
    for number in range(4):  # a forger fills the ledger of the owner's number, on accounts of others
        await attempt(built, f"1357100{number}", built.OWNER, None, f"99900{number}#")


async def opened(house, **changes):
    """A house whose owner has verified once, from his own phone."""
    built = await house(HOME, path="/voice", **({"levels": PIN_ONLY, "locks": STRICT} | changes))
    assert await owner_verifies(built), "the owner's first call"
    return built


# ── the owner gets in ────────────────────────────────────────────────────────────────────────────────────


async def check_the_owner_gets_in(house, *, rounds=1):
    """Strangers lock everybody else out; the owner's own call goes on as if nothing had happened."""
    built = await opened(house)
    await strangers_lock_the_pool(built, rounds)
    assert not await attempt(built, built.PIN, "+15556660009"), (
        "the strangers' lane is open: nothing is shown"
    )
    assert await owner_verifies(built), "strangers locked the owner out"
    if rounds > 1:
        built.clock.advance(365 * 24 * 3600)
        assert not await attempt(built, built.PIN, "+15556660009"), "the pool is disabled and opens with time"
        assert await owner_verifies(built), "strangers disabled the owner's PIN"


@pytest.mark.parametrize("rounds", [1, 2], ids=["locked", "disabled for ever"])
async def test_strangers_lock_out_strangers(house, rounds):
    """Even the lifetime limit of the strangers' lane, and a full ledger of his own number, leave the owner alone."""
    await check_the_owner_gets_in(house, rounds=rounds)


async def check_codes_for_the_owner(house):
    """Strangers have all the codes sent that may be sent to one account: the owner still gets his."""
    code = Factor(Kind.SMS_CODE, 6, sends=Sends(per_call=1, per_account=3, per_account_s=3600))
    built = await house(HOME, path="/voice", levels=CODE_ONLY, locks=STRICT)
    built.deploy(replace(built.flow, factors=dict(built.flow.factors) | {"code": code}))
    await built.verify(built.call(attested=True))
    assert len(built.ivr.got) == 1
    for number in range(5):
        await attempt(built, "000000", f"+1555666000{number}")
    await built.rig.server.guard.drain()
    assert len(built.rig.carrier.sent) == 3, "the owner's first call was a stranger's; then two more"
    line = built.call(attested=True)
    await line.until_input()
    await line.press("123456#")
    assert built.asks(line) == "sms_code", "strangers used up the owner's codes"
    await built.verify(line)
    assert len(built.ivr.got) == 2


async def test_strangers_do_not_use_up_the_owners_codes(house):
    """What bounds messages is counted by lane too: a limit on sending is a way to lock somebody out."""
    await check_codes_for_the_owner(house)


# ── nobody else does ─────────────────────────────────────────────────────────────────────────────────────

PRETENDERS = {
    # who calls while strangers are locked out, knowing the right PIN: number and attestation
    "the owner's number, no attestation": ("+15551230001", None),
    "the owner's number, attestation B": ("+15551230001", "TN-Validation-Passed-B"),
    "the owner's number, attestation C": ("+15551230001", "TN-Validation-Passed-C"),
    "the owner's number, A that failed": ("+15551230001", "TN-Validation-Failed-A"),
    "the owner's number, diverted": ("+15551230001", "TN-Validation-Passed-A-Diverted"),
    "the owner's number, passed through": ("+15551230001", "TN-Validation-Passed-A-Passthrough"),
    "the owner's number, not validated": ("+15551230001", "No-TN-Validation"),
    "the owner's number as a SIP user": ("sip:+15551230001@pbx.example", ATTESTED),
    "the owner's number as a client": ("client:+15551230001", ATTESTED),
    "another number, attested": ("+15556660009", ATTESTED),
    "a neighbour's number, which verified on his own account": ("+15551230002", ATTESTED),
    "a withheld number": ("anonymous", ATTESTED),
}


async def check_nobody_else_gets_in(house):
    """Everyone who is not the owner at his own attested phone is in the strangers' lane, whatever he knows."""
    built = await opened(house)
    await built.rig.enrol(
        Account("555555", ("+15551230002",), (Credential(Kind.SMS_CODE, number="+15551230002"),)),
        pin="91827364",
    )
    assert await attempt(built, "91827364", "+15551230002", ATTESTED, "555555#")
    await strangers_lock_the_pool(built)
    for who, (number, stir) in PRETENDERS.items():
        assert not await attempt(built, built.PIN, number, stir), f"{who}: got in through a locked account"
    assert await owner_verifies(built)


async def test_who_only_pretends_to_be_the_owner_gains_nothing(house):
    """Neither the number alone, nor attestation alone, nor success on another account opens the owner's lane."""
    await check_nobody_else_gets_in(house)


async def check_a_first_call_has_no_lane(house):
    """An attested call from the number on file that never verified before is a stranger's."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=STRICT)
    await strangers_lock_the_pool(built)
    assert not await owner_verifies(built), "a number on file was trusted before it verified once"


async def test_a_number_on_file_is_not_trusted_before_it_verified(house):
    """Trust is earned by a right answer, not by what the bank has on file."""
    await check_a_first_call_has_no_lane(house)


# ── the lane is a counter, not a pass ────────────────────────────────────────────────────────────────────


async def check_the_lane_is_no_pass(house):
    """In his own lane the owner needs his PIN, has as many guesses as anybody, and spends nobody else's."""
    built = await opened(house)
    reached = len(built.ivr.got)
    line = built.call(attested=True)
    await line.until_input()
    await line.press("123456#")
    assert built.asks(line) == "pin"
    assert len(built.ivr.got) == reached, "trust was taken for a factor"
    for number in range(3):
        assert not await attempt(built, f"1357000{number}", built.OWNER, ATTESTED)
    assert not await owner_verifies(built), "three wrong answers did not lock the owner's own lane"
    assert await attempt(built, built.PIN, "+15556660009"), (
        "the owner's failures were counted against strangers"
    )
    built.clock.advance(1800)
    assert await owner_verifies(built), "the owner's lock did not end"


async def test_the_owners_lane_is_no_pass(house):
    """Trust buys a counter of one's own, never a factor."""
    await check_the_lane_is_no_pass(house)


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def without_lanes(patch):
    """One ledger for an account and a factor, whoever calls."""
    plant(patch, "ledger_id", lambda account, kind, _: f"{account}/{kind}")


def without_trust(patch):
    """Everybody is a stranger."""
    claim = calls.claim
    plant(patch, "claim", lambda flow, call, found: claim(flow, call, replace(found, trusted=False)))


def with_attestation_taken_for_granted(patch):
    """The number that a call says it comes from is believed."""
    patch.setattr(delivery, "attested_a", lambda _: True)


def with_any_good_word_of_the_carrier(patch):
    """Every attestation that begins like A is taken for A."""
    patch.setattr(delivery, "attested_a", lambda stir: (stir or "").startswith(ATTESTED))


def with_trust_before_success(patch):
    """A number needs no earlier success."""
    find = Webhook._find

    async def trusting(self, digits):
        return replace(await find(self, digits), trusted=True)

    patch.setattr(Webhook, "_find", trusting)


def with_trust_for_every_account(patch):
    """A number that verified on one account is trusted on all."""
    key = books.trust_key
    patch.setattr(books, "trust_key", lambda _: key("*"))


def with_the_number_counted_in_every_lane(patch):
    """What a forger does with the owner's number counts against the owner."""

    def concerned(flow, call, factor):
        own = (calls.own_ledger_id(flow, call, factor), flow.locks.account, "lane")
        number = calls.number_ledger_id(call.caller)
        return (own,) if number is None else (own, (number, flow.locks.caller_number, "caller_number"))

    plant(patch, "concerned", concerned)


def with_messages_counted_together(patch):
    """The owner's messages are counted with the strangers'."""
    key = books.sends_key
    patch.setattr(books, "sends_key", lambda account, _: key(account, "all"))


def with_a_lane_that_never_locks(patch):
    """A trusted caller may guess for ever."""
    reserve = steps.reserve

    def reserved(flow, call, ledgers, *more):
        after, allowed = reserve(flow, call, ledgers, *more)
        return after, allowed or call.lane != lockout.POOL

    plant(patch, "reserve", reserved)


def with_trust_as_a_factor(patch):
    """A caller in his own lane needs to prove nothing."""
    missing = demands.missing

    def trusting(flow, call, *more):
        return () if call.lane != lockout.POOL else missing(flow, call, *more)

    plant(patch, "missing", trusting)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (without_lanes, check_the_owner_gets_in),
        (without_trust, check_the_owner_gets_in),
        (with_the_number_counted_in_every_lane, check_the_owner_gets_in),
        (with_messages_counted_together, check_codes_for_the_owner),
        (with_attestation_taken_for_granted, check_nobody_else_gets_in),
        (with_any_good_word_of_the_carrier, check_nobody_else_gets_in),
        (with_trust_for_every_account, check_nobody_else_gets_in),
        (with_trust_before_success, check_a_first_call_has_no_lane),
        (with_a_lane_that_never_locks, check_the_lane_is_no_pass),
        (with_trust_as_a_factor, check_the_lane_is_no_pass),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
