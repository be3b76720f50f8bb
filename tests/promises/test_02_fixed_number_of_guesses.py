"""
Promise 2. **A fixed number of guesses.** However many calls, nodes, retries, restarts or orders of arrival, no more
secrets are judged against an account than the rule allows: *count, then judge, then forgive*.

What counts is what reached the judge with something to compare with (`counted`): a call that is locked out costs the
same hash, but of nothing.
"""

import asyncio
from dataclasses import dataclass, replace

import pytest

from ivrguard.core import admission, demands, lockout, readback
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.errors import Busy
from ivrguard.core.flow import Factor, Locks, Sends
from ivrguard.core.lockout import Ledger, Open
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import webhook
from ivrguard.guard.webhook import Webhook
from ivrguard.phone.heard import Asked
from ivrguard.ports import Account
from ivrguard.stores.memory import MemoryStore

HOME = {"/voice": "<Say>Welcome home</Say>"}
FIVE = Locks(account=Lockout(failures=5, within_s=3600, lock_s=(1800,)), caller_number=None)
PIN_ONLY = {"one_factor": AnyOf(("pin",)), "two_factor": AllOf(("pin", "code"))}
CODE_ONLY = {"one_factor": AnyOf(("code",)), "two_factor": AllOf(("pin", "code"))}


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


def counted(*rigs, kind=Kind.PIN):
    """The guesses that these servers judge from now on, as (digits, when)."""
    judged = []

    def wrapped(judge):
        real = judge.judge

        async def judge_and_count(credential, digits, challenge, now_ms):
            guess = (digits, now_ms)
            if credential is not None:
                judged.append(guess)
            try:
                return await real(credential, digits, challenge, now_ms)
            except Busy:  # at once, and before any work
                if credential is not None:
                    judged.remove(guess)
                raise

        judge.judge = judge_and_count

    for each in rigs:
        wrapped(each.server.world.judges[kind])
    return judged


def wrong(number):
    """The n-th wrong PIN; none is told twice."""
    return f"{13_570_000 + number}"


async def asked_for_pin(line, account="123456#"):
    """The call, up to the question for the PIN."""
    await line.until_input()
    await line.press(account)
    assert isinstance(line.waiting, Asked)
    return line


async def guess(line, pin, account="123456#"):
    """Call, claim the account, and key a PIN."""
    await asked_for_pin(line, account)
    await line.press(pin)
    return line


async def check_nobody_gets_in(built, judged, allowed):
    """From now on not even the right PIN is judged, and the caller hears what everybody hears."""
    before = list(judged)
    line = await guess(built.call("+15559990000"), built.PIN)
    assert judged == before, "a guess was judged while the account was locked"
    assert built.ivr.got == []
    assert built.says(line)[-2:] == [
        "That did not match. Let's try once more.",
        "Your PIN, please.",
    ]
    assert len(judged) == allowed


# ── all at once ──────────────────────────────────────────────────────────────────────────────────────────


async def check_many_at_once(house, *, many=16, twice=False):
    """That many calls from as many numbers key a PIN for one account at the same moment: five are judged."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=FIVE)
    judged = counted(built.rig)
    callers = ["anonymous", "+266696687", "client:ada", "sip:ada@pbx.example", "Restricted"] * 2
    callers += [f"+1555700{number:04}" for number in range(many - len(callers))]
    lines = [built.call(caller) for caller in callers]
    for line in lines:
        line.send_twice = twice
        await asked_for_pin(line)
    await asyncio.gather(*(line.press(wrong(number)) for number, line in enumerate(lines)))
    assert len(judged) == 5, f"{len(judged)} guesses were judged"
    assert len(set(judged)) == 5
    await check_nobody_gets_in(built, judged, 5)


@pytest.mark.parametrize(
    ("many", "twice"), [(50, False), (20, True)], ids=["fifty", "twenty, each sent twice"]
)
async def test_fifty_calls_at_once_get_five_guesses(house, many, twice):
    """The count is taken before the hash is: however many wait for it, five are let in."""
    await check_many_at_once(house, many=many, twice=twice)


async def check_two_nodes(house):
    """Two servers on one store: calls go to either, and each answer goes to both, with other digits."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=FIVE)
    node = await house.node(built)
    judged = counted(built.rig, node)
    exchange = await house.balanced(built, node)
    lines = [exchange.call(f"+1555800{number:04}", built.rig.flow.numbers[0]) for number in range(12)]
    for line in lines:
        await asked_for_pin(line)
    await asyncio.gather(
        *(
            line.send(line.waiting.action, {"Digits": wrong(2 * number + half)})
            for number, line in enumerate(lines)
            for half in (0, 1)
        )
    )
    assert len(judged) == 5, f"{len(judged)} guesses were judged"
    await check_nobody_gets_in(built, judged, 5)


async def test_two_nodes_share_one_count(house):
    """Twenty-four guesses at once on two nodes: five are judged."""
    await check_two_nodes(house)


# ── by keypad and by an agent ────────────────────────────────────────────────────────────────────────────

HANDED = '<Gather numDigits="1" action="/wire"/><Enqueue workflowSid="WWx"/>'
AGENTS = (
    Rule(Demand("two_factor"), path="/wire"),
    Rule(Demand("one_factor"), transfer=Target("*", "*")),
)
MANY_CODES = Sends(99, 99, per_number=99)


async def check_two_ways(house):
    """Callers key wrong codes while agents type wrong ones that others read to them, on two nodes at once: five are judged."""
    code = Factor(Kind.SMS_CODE, 6, sends=MANY_CODES)
    factors = {"app": Factor(Kind.TOTP, 6), "code": code}
    levels = {"one_factor": AnyOf(("app",)), "two_factor": AllOf(("app", "code"))}
    built = await house(
        {"/voice": HANDED}, path="/voice", levels=levels, factors=factors, rules=AGENTS, locks=FIVE
    )
    node = await house.node(built)
    judged = counted(built.rig, node, kind=Kind.SMS_CODE)
    key = await built.rig.desk("ann", "workflow:*")
    keying, read = [], []
    for nth in range(6):
        line = await built.verify(built.call())
        if nth % 2:
            await line.press("1")
            assert built.asks(line) == "sms_code"
            keying.append(line)
            continue
        await line.silent()
        await built.rig.redeem(key, line.waiting.attributes["ivrguard_token"])
        read.append(line.call_sid)
    for sid in read:
        assert (await desk(built.rig, key, sid, "codes"))[0] == 202
    await keying.pop().press("000001")
    guesses = [desk(each, key, sid, "answers", digits="000000") for sid in read for each in (built.rig, node)]
    await asyncio.gather(*guesses, *(line.press("000002") for line in keying))
    await asyncio.gather(*(desk(node, key, sid, "answers", digits="000003") for sid in read))

    assert len(judged) == 5, f"{len(judged)} guesses were judged"
    assert {digits for digits, _ in judged} >= {"000000", "000001"}, "not both ways were tried"


async def desk(rig, key, sid, what, **body):
    """What the agents' API answers."""
    url = f"{rig.guard_url}/.ivrguard/agent/v1/calls/{sid}/{what}"
    async with rig.session.post(url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
        return answer.status, await answer.json()


async def test_read_back_and_keypad_share_one_count(house):
    """Whoever may guess in two ways has no guess more (core/readback.py)."""
    await check_two_ways(house)


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────


async def check_repeats(house):
    """Four guesses, each sent twice at once and again twice later, are four: the fifth is judged, the sixth not."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=FIVE)
    judged = counted(built.rig)
    for number in range(4):
        line = built.call(f"+1555600{number:04}")
        line.send_twice = True
        await guess(line, wrong(number))
        answers = [await line.repeat(-1) for _ in range(2)]
        assert {answer.body for answer in answers} == {line.requests[-1].answer.body}
    assert len(judged) == 4, f"four guesses sent again were {len(judged)}"
    await guess(built.call("+15556009999"), wrong(4))
    assert len(judged) == 5, "a guess that was sent again was counted again"
    await check_nobody_gets_in(built, judged, 5)


async def test_a_guess_sent_again_is_one_guess(house):
    """Neither judged twice (a guess more than the rule allows) nor counted twice (a guess less)."""
    await check_repeats(house)


async def check_crash(house):
    """The process dies between count and verdict: counted is counted, and Twilio's retry is the same guess."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=FIVE)
    judged = counted(built.rig)
    real = Webhook._judge

    async def dies(*_):
        raise RuntimeError("killed")

    for number in range(5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Webhook, "_judge", dies)
            line = await guess(built.call(f"+1555500{number:04}"), wrong(number))
        assert Webhook._judge is real
        assert line.over, "a caller whose webhook failed hears an apology"
        guessed = next(
            n for n, request in enumerate(line.requests) if request.param("Digits") == wrong(number)
        )
        if number < 3:
            await line.repeat(guessed)
            await line.repeat(guessed)
    assert [digits for digits, _ in judged] == [wrong(0), wrong(1), wrong(2)]
    events = await built.events()
    assert events.count(("authn_attempt", "counted")) == 8, "five guesses and three retries are on record"
    await check_nobody_gets_in(built, judged, 3)


async def test_a_crash_forgives_nothing(house):
    """Five reservations are five, though two of them were never judged; three retries are no further ones."""
    await check_crash(house)


# ── other ways to the same secret ────────────────────────────────────────────────────────────────────────


async def check_spellings(house):
    """One account, however it is named and whichever flow asks: one count."""
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=FIVE)
    judged = counted(built.rig)
    await guess(built.call(), wrong(0), "123456#")
    await guess(built.call("+15554440001"), wrong(1), "123456")
    await guess(built.call(), wrong(2), "1#")
    await guess(built.call("anonymous"), wrong(3) + "#", "123456#")
    flow = built.flow
    factors = {"secret" if name == "pin" else name: factor for name, factor in flow.factors.items()}
    levels = {"one_factor": AnyOf(("secret",)), "two_factor": AllOf(("secret", "code"))}
    built.deploy(replace(flow, name="second", factors=factors, levels=levels))
    for number in range(4, 8):
        await guess(built.call(f"+1555444{number:04}"), wrong(number))
    assert len(judged) == 5, f"{len(judged)} guesses were judged"
    await check_nobody_gets_in(built, judged, 5)


async def test_other_spellings_and_other_flows_are_no_further_guesses(house):
    """With and without the pound key, by number on file, by a flow that gives the factor another name."""
    await check_spellings(house)


async def check_new_codes(house):
    """A new code in each call, and a new one in the same call: the count goes on."""
    code = Factor(Kind.SMS_CODE, 6, sends=Sends(per_call=3, per_account=100, per_account_s=3600))
    built = await house(HOME, path="/voice", levels=CODE_ONLY, locks=FIVE)
    built.deploy(replace(built.flow, factors=dict(built.flow.factors) | {"code": code}))
    judged = counted(built.rig, kind=Kind.SMS_CODE)
    for number in range(4):
        line = built.call(f"+1555300{number:04}")
        await asked_for_pin(line)
        await line.press("000000")
        built.clock.advance(601)  # the code is over, a new one is sent
        await line.press("111111")
    await built.rig.server.guard.drain()
    assert len(built.rig.carrier.sent) >= 5
    assert len(judged) == 5, f"{len(judged)} codes were judged"


async def test_a_new_code_gives_no_new_guesses(house):
    """NIST SP 800-63B-4, 3.1.3: a code made anew does not make the count anew."""
    await check_new_codes(house)


async def check_caller_number(house):
    """One telephone goes from account to account: its own rule ends that."""
    locks = Locks(account=FIVE.account, caller_number=Lockout(failures=4, within_s=3600, lock_s=(3600,)))
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=locks)
    judged = counted(built.rig)
    for number in range(1, 6):
        await built.rig.enrol(Account(f"77000{number}"), pin=f"9281736{number}")
    for number in range(1, 6):
        await guess(built.call("+15552220000"), wrong(number), f"77000{number}#")
    assert len(judged) == 4, f"{len(judged)} guesses were judged"
    built.clock.advance(3600)
    await guess(built.call("+15552220000"), wrong(6), "770005#")
    assert len(judged) == 5, "the lock of a caller's number outlived its hour"


async def test_one_telephone_has_a_fixed_number_of_guesses_too(house):
    """Failures on different accounts count together in the caller number's ledger."""
    await check_caller_number(house)


# ── over time ────────────────────────────────────────────────────────────────────────────────────────────

SLOW = Lockout(failures=3, within_s=600, lock_s=(60, 300, 900), lifetime=13)


@dataclass
class Model:
    """The rule in other words: what an auditor would work out on paper."""

    lock_until_ms: int = 0
    locks: int = 0
    total: int = 0
    recent: tuple[int, ...] = ()

    def judges(self, now_ms):
        if now_ms < self.lock_until_ms or self.total >= 13:
            return False
        self.total += 1
        self.recent = (*(at for at in self.recent if at > now_ms - 600_000), now_ms)
        if len(self.recent) == 3:
            self.lock_until_ms = now_ms + (60_000, 300_000, 900_000)[min(self.locks, 2)]
            self.locks, self.recent = self.locks + 1, ()
        return True


PATIENCE_MS = {
    # what an attacker may do: milliseconds between one guess and the next
    "as fast as he can, and at each lock's very end": (
        *(0, 0, 59_999, 1, 0, 0, 299_999, 1, 0, 0, 899_999, 1, 0, 0, 899_999, 1, 10**11),
    ),
    "always one short of a lock": (0, 599_999, *(600_000, 0) * 6, 10**11),
}


async def check_over_time(house, gaps_ms):
    """Guess after guess, each by a call of its own: judged are those of the model and no others."""
    locks = Locks(account=SLOW, caller_number=None)
    built = await house(HOME, path="/voice", levels=PIN_ONLY, locks=locks)
    judged, model, expected = counted(built.rig), Model(), 0
    for number, gap_ms in enumerate((0, *gaps_ms)):
        built.clock.advance(gap_ms / 1000)
        expected += model.judges(built.clock())
        await guess(built.call(f"+1555100{number:04}"), wrong(number))
        seen = len(judged)
        assert seen == expected, f"after guess {number}: {seen} judged, the rule allows {expected}"
    assert model.total == 13
    await check_nobody_gets_in(built, judged, 13)


@pytest.mark.parametrize("patience", PATIENCE_MS)
async def test_patience_gives_no_further_guesses(house, patience):
    """Locks grow (60 s, 300 s, 900 s, 900 s …), tries do not extend them, and after 13 in a row nothing is judged."""
    await check_over_time(house, PATIENCE_MS[patience])


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def with_reserve_that_always_allows(patch):
    """Every attempt may be judged."""
    reserve = lockout.reserve
    patch.setattr(lockout, "reserve", lambda *args: (reserve(*args)[0], True))


def with_reserve_that_counts_nothing(patch):
    """An attempt leaves no trace before the verdict."""
    patch.setattr(lockout, "reserve", lambda rule, ledger, *_: (ledger, True))


def with_torn_amendments(patch):
    """The store reads, lets others run, and then writes what it worked out."""
    amend = MemoryStore.amend

    async def torn(self, keys, change):
        values = {key: await self.read(key) for key in keys}
        await asyncio.sleep(0.002)
        return await amend(self, keys, lambda _: change(values))

    patch.setattr(MemoryStore, "amend", torn)


def with_a_count_per_caller(patch):
    """Each number that calls has its own count for an account."""
    own = calls.own_ledger_id
    plant(patch, "own_ledger_id", lambda flow, call, factor: f"{own(flow, call, factor)}/{call.caller.value}")


def with_a_count_per_name(patch):
    """The count goes by the name that a flow gives its factor."""
    plant(patch, "own_ledger_id", lambda _, call, factor: f"{call.account}/{factor}/{call.lane}")


def with_an_attempt_per_question(patch):
    """All answers to one question are one attempt."""
    reserve = lockout.reserve
    patch.setattr(
        lockout,
        "reserve",
        lambda rule, ledger, attempt, now: reserve(rule, ledger, attempt.partition("/")[0], now),
    )


def with_every_delivery_fresh(patch):
    """A webhook that comes again is taken for a new one."""
    plant(patch, "admit", lambda *_: admission.Admission.FRESH)


def with_codes_that_clear_the_count(patch):
    """Sending a code forgives what was guessed before."""
    ask = steps._ask

    def forgiving(*args, **more):
        step = ask(*args, **more)
        if not isinstance(step.move, calls.Ask) or step.move.send is None:
            return step
        cleared = {name: Ledger() for name in step.books.ledgers}
        return replace(step, books=replace(step.books, ledgers=cleared))

    plant(patch, "_ask", forgiving)


def without_caller_numbers(patch):
    """A caller's number has no ledger."""
    plant(patch, "number_ledger_id", lambda _: None)


def with_locks_that_never_grow(patch):
    """Every lock is as long as the first."""
    standing = lockout.standing
    patch.setattr(
        lockout, "standing", lambda rule, ledger, now: standing(rule, replace(ledger, steps=0), now)
    )


def without_lifetime(patch):
    """Failures in a row are never too many."""
    standing = lockout.standing
    patch.setattr(
        lockout, "standing", lambda rule, ledger, now: standing(replace(rule, lifetime=0), ledger, now)
    )


def with_locks_that_tries_extend(patch):
    """A try while locked begins the lock anew: a caller could be kept out for ever."""

    def reserve(rule, ledger, attempt, now_ms):
        after, allowed = original(rule, ledger, attempt, now_ms)
        if allowed or not ledger.attempts:
            return after, allowed
        last = replace(ledger.attempts[-1], at_ms=now_ms)
        return replace(ledger, attempts=(*ledger.attempts[:-1], last)), isinstance(
            lockout.standing(rule, ledger, now_ms), Open
        )

    original = lockout.reserve
    patch.setattr(lockout, "reserve", reserve)
    plant(patch, "reserve", extending(steps.reserve, reserve))


def extending(original, reserve):
    """`reserve` that keeps the ledgers of a refused attempt as `reserve` made them."""

    def reserved(flow, call, books, factor, attempt, now_ms):
        after, allowed = original(flow, call, books, factor, attempt, now_ms)
        if allowed:
            return after, True
        ledgers = dict(books.ledgers)
        for name, rule, _ in calls.concerned(flow, call, factor):
            ledgers[name] = reserve(rule, ledgers.get(name, Ledger()), attempt, now_ms)[0]
        return replace(books, ledgers=ledgers), False

    return reserved


def with_a_count_of_its_own(patch):
    """What an agent types is not counted with what callers key."""
    patch.setattr(readback, "reserve", lambda flow, call, books, *_: (books, True))


async def fastest(house):
    await check_over_time(house, PATIENCE_MS["as fast as he can, and at each lock's very end"])


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (with_reserve_that_always_allows, check_many_at_once),
        (with_reserve_that_counts_nothing, check_many_at_once),
        (with_torn_amendments, check_many_at_once),
        (with_a_count_per_caller, check_many_at_once),
        (with_a_count_per_name, check_spellings),
        (with_an_attempt_per_question, check_two_nodes),
        (with_every_delivery_fresh, check_crash),
        (with_codes_that_clear_the_count, check_new_codes),
        (with_a_count_of_its_own, check_two_ways),
        (without_caller_numbers, check_caller_number),
        (with_locks_that_never_grow, fastest),
        (without_lifetime, fastest),
        (with_locks_that_tries_extend, fastest),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
