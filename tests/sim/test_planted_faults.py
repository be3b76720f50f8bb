"""
No watch without a thief: each piece of code that keeps a promise is taken out once, and the simulation must turn red.

The table names the promises that may be found broken: where a fault breaks two, which one shows first is the seed's affair.
Each is found within the first hundreds of calls, and the failure says all that a person needs.
"""

import asyncio
import re
from dataclasses import replace

import pytest

from ivrguard.core import admission, assurance, demands, handoff, lockout
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import Guard, books, proving, webhook
from ivrguard.guard import desk as desks
from ivrguard.guard.webhook import Webhook
from ivrguard.ports import Change, Right, Wrong
from ivrguard.stores import codec
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony import delivery, document
from ivrguard.telephony.signature import Verifier
from ivrguard.web.reload import Reloader
from ivrguard.web.voice import Voice
from tests.sim import run, town
from tests.sim.oracle import Broken

CALLS = 300
SEED = 3


def plant(patch, name, fault):
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook, books):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


# ── 1: no way round ──────────────────────────────────────────────────────────────────────────────────────


def without_gate(patch):
    """Every demand holds."""
    plant(patch, "missing", lambda *_: ())


def with_old_proofs_at_transfers(patch):
    """`reverify` takes proofs from before the transfer was asked for."""
    counts = assurance.Freshness.counts
    old = lambda self, proof, now: counts(replace(self, since_turn=0), proof, now)  # noqa: E731 -- one line beside its use
    patch.setattr(assurance.Freshness, "counts", old)


def without_transfers(patch):
    """Nobody looks for transfers in a document."""
    patch.setattr(document, "_survey", lambda _: ())


def without_signature(patch):
    """Whoever posts is the provider."""
    patch.setattr(Verifier, "verify", lambda *_, **__: True)


def with_every_pin_right(patch):
    """Any PIN will do."""
    patch.setattr(PinJudge, "_fits", lambda *_: True)


def with_used_codes(patch):
    """A step of an app may be used again."""
    right = steps._right
    plant(
        patch,
        "_right",
        lambda flow, call, books_, event, *more: right(flow, call, books_, replace(event, step=None), *more),
    )


# ── 2, 3: guesses and lanes ──────────────────────────────────────────────────────────────────────────────


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
        await asyncio.sleep(0.01)
        return await amend(self, keys, lambda _: change(values))

    patch.setattr(MemoryStore, "amend", torn)


def with_a_count_per_caller(patch):
    """Each number that calls has its own count for an account."""
    own = calls.own_ledger_id
    plant(patch, "own_ledger_id", lambda flow, call, factor: f"{own(flow, call, factor)}/{call.caller.value}")


def with_an_attempt_per_question(patch):
    """All answers to one question are one attempt."""
    reserve = steps.reserve

    def once(flow, call, books_, factor, attempt, now):
        return reserve(flow, call, books_, factor, attempt.partition("/")[0], now)

    plant(patch, "reserve", once)


def with_wrong_answers_taken_back(patch):
    """A wrong answer gives its place back."""
    judged = steps._judged

    def lenient(flow, call, books_, event, now):
        if event.right is False and call.question is not None and call.question.counted:
            books_ = steps.settle(
                flow, call, books_, call.question.factor, call.question.counted, right=False
            )
        return judged(flow, call, books_, event, now)

    patch.setattr(steps, "_judged", lenient)


def with_attestation_taken_for_granted(patch):
    """The number that a call says it comes from is believed."""
    patch.setattr(delivery, "attested_a", lambda _: True)


def with_trust_for_every_account(patch):
    """A number that verified on one account is trusted on all."""
    patch.setattr(Webhook, "_find", _trusting(Webhook._find))


def _trusting(find):
    async def trusting(self, digits):
        return replace(await find(self, digits), trusted=True)

    return trusting


def without_lanes(patch):
    """Owners share their count with strangers."""
    claim = calls.claim
    plant(patch, "claim", lambda *args: replace(claim(*args), lane=lockout.POOL))


# ── 4: tokens ────────────────────────────────────────────────────────────────────────────────────────────


def _without(patch, **changes):
    spoiled = handoff._spoiled

    def lenient(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms):
        if leg is not None:
            leg = replace(leg, **{name: make(leg) for name, make in changes.items()})
        return spoiled(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms)

    patch.setattr(handoff, "_spoiled", lenient)


def with_tokens_that_work_twice(patch):
    """That a token was redeemed is not looked at."""
    _without(patch, redeemed_ms=lambda _: None)


def with_tokens_for_any_queue(patch):
    """Which queue a desk serves is not looked at."""
    patch.setattr(handoff, "served", lambda _, queues: queues[0])


def with_tokens_after_the_call(patch):
    """That the caller has gone is not looked at."""
    holder = calls.holder
    patch.setattr(calls, "holder", lambda call: replace(holder(call), ended=False))
    patch.setattr(desks.calls, "holder", lambda call: replace(holder(call), ended=False))


# ── 5, 6: secrets, and who exists ────────────────────────────────────────────────────────────────────────


def without_seals(patch):
    """What waits is kept as it is."""
    patch.setattr(Webhook, "_seal", lambda self, plain, what: plain.decode("latin-1"))
    patch.setattr(Webhook, "_unseal", lambda self, sealed, what: sealed.encode("latin-1"))


def with_digits_on_record(patch):
    """The record says what was keyed."""
    changed = Webhook._change

    def talkative(self, *args, **more):
        change = changed(self, *args, **more)
        told = [replace(one, detail=(*one.detail, ("keys", self._digits))) for one in change.entries]
        return Change(change.result, change.puts, tuple(told))

    patch.setattr(Webhook, "_change", talkative)


def with_digits_sent_on(patch):
    """The request that was held up goes on with what was keyed since."""
    unseal = Webhook._unseal_request

    def grown(self, held):
        request = unseal(self, held)
        return replace(request, body=request.body + f"&Digits={self._digits}".encode())

    patch.setattr(Webhook, "_unseal_request", grown)


def with_codes_to_the_caller(patch):
    """A code goes to whoever calls."""
    number, send = proving._number, proving.send_code

    async def astray(world, flow, call, sent):
        patch.setattr(
            proving, "_number", lambda account, factor: number(account, factor) and call.caller.value
        )
        await send(world, flow, call, sent)

    patch.setattr(proving, "send_code", astray)


def with_an_own_word_for_strangers(patch):
    """Who claims an account that nobody has is told so."""
    proceed = steps._proceed

    def telling(flow, call, *more, **named):
        if call.account and not call.known:
            return steps._refuse(call, more[0], "refused", "unknown", more[2])
        return proceed(flow, call, *more, **named)

    patch.setattr(steps, "_proceed", telling)


def with_an_own_word_for_the_locked(patch):
    """Who is locked out is refused at once."""
    missed = steps._missed

    def telling(flow, call, *more):
        return missed(flow, replace(call, misses=9) if call.locked_out else call, *more)

    patch.setattr(steps, "_missed", telling)


def without_work_for_the_locked(patch):
    """A locked account is not judged at all, and answers faster."""
    judge = proving.judge

    async def quick(world, flow, call, move, digits):
        return await judge(world, flow, call, move, digits) if move.allowed else Wrong()

    patch.setattr(proving, "judge", quick)


# ── 7, 8: again, and on record ───────────────────────────────────────────────────────────────────────────


def with_every_delivery_fresh(patch):
    """A webhook that comes again is taken for a new one."""
    plant(patch, "admit", lambda *_: admission.Admission.FRESH)


def without_the_answer_kept(patch):
    """A webhook that comes again is answered with nothing."""

    async def nothing(self, call):
        return webhook.Answer(webhook.neutral().replace(b"<Hangup/>", b"<Pause/>"), "repeated")

    patch.setattr(Webhook, "repeated", nothing)


def with_ends_that_repeat(patch):
    """Each word of the end is a new end."""
    ended = webhook.ended
    again = lambda call, delivery, now: ended(replace(call, ended_ms=None), delivery, now)  # noqa: E731 -- one line beside its use
    patch.setattr(webhook, "ended", again)
    patch.setattr("ivrguard.guard.ended", again)


def with_entries_lost(patch):
    """A lock is not worth an entry."""
    patch.setattr(steps, "locks_made", lambda *_: ())


def with_success_off_the_record(patch):
    """Who is let in is not on record."""
    right = steps._right

    def silent(*args):
        turn = right(*args)
        return replace(turn, entries=tuple(one for one in turn.entries if one.event != "authn_login_success"))

    patch.setattr(steps, "_right", silent)


def with_a_chain_that_begins_anew(patch):
    """Each entry is chained to the beginning."""
    link = codec.link
    patch.setattr(codec, "link", lambda seq, _, entry: link(seq, "0" * 64, entry))


# ── 9, 10: flows, and always an answer ───────────────────────────────────────────────────────────────────


def with_faults_overlooked(patch):
    """A flow with a fault comes into force all the same."""
    looked = Reloader._looked_through

    def lenient(self):
        mounted, faults = looked(self)
        if not faults:
            return mounted, faults
        good = town.loaded("one").flows[0]
        spoiled = {name: town.MARKS["bad"] + said for name, said in good.prompts.items()}
        return (self._mount(replace(good, version="bad", prompts=spoiled)),), ()

    patch.setattr(Reloader, "_looked_through", lenient)


def with_the_newest_version_for_all(patch):
    """A call goes on with whatever is in force."""
    of = "ivrguard.guard.world.World.flow_of"

    async def newest(self, call):
        return self.flows.named(call.flow)

    patch.setattr(of, newest)


def without_an_apology(patch):
    """A fault is answered with nothing."""
    patch.setattr(Voice, "_apology", lambda *_: b"")
    patch.setattr(Guard, "apology", lambda *_: b"")


def without_a_deadline(patch):
    """An IVR that does not answer is waited for."""
    patch.setattr("ivrguard.web.voice.DEADLINE_S", 600.0)
    patch.setattr("ivrguard.guard.webhook.IVR_DEADLINE_S", 60.0)


def with_bugs(patch):
    """Something raises what nobody expects."""
    patch.setattr(TotpJudge, "judge", lambda *_: 1 / 0)


def with_codes_for_ever(patch):
    """A code is right whenever it comes, in whatever call."""

    async def judge(self, credential, digits, challenge, now_ms):
        return Right() if credential is not None and challenge is not None else Wrong()

    patch.setattr(SmsCodeJudge, "judge", judge)


def with_faults_let_through(patch):
    """When something fails, the caller is handed to somebody."""
    patch.setattr(Guard, "apology", lambda *_: b"<Response><Dial>+18005550143</Dial></Response>")


TABLE = (
    (without_gate, {1}),
    (with_old_proofs_at_transfers, {1}),
    (without_transfers, {1}),
    (without_signature, {1}),
    (with_every_pin_right, {1}),
    (with_used_codes, {1}),
    (with_codes_for_ever, {1}),
    (with_faults_let_through, {1}),
    (with_reserve_that_always_allows, {2}),
    (with_reserve_that_counts_nothing, {2, 8}),
    (with_torn_amendments, {2, 3, 7, 8}),
    (with_a_count_per_caller, {2, 8}),
    (with_an_attempt_per_question, {2, 8}),
    (with_wrong_answers_taken_back, {2, 8}),
    (with_attestation_taken_for_granted, {3}),
    (with_trust_for_every_account, {3}),
    (without_lanes, {3}),
    (with_tokens_that_work_twice, {4}),
    (with_tokens_for_any_queue, {4}),
    (with_tokens_after_the_call, {4}),
    (without_seals, {5}),
    (with_digits_on_record, {5}),
    (with_digits_sent_on, {5}),
    (with_codes_to_the_caller, {5}),
    (with_an_own_word_for_strangers, {6}),
    (with_an_own_word_for_the_locked, {6}),
    (without_work_for_the_locked, {6}),
    (with_every_delivery_fresh, {7}),
    (without_the_answer_kept, {7}),
    (with_ends_that_repeat, {8}),
    (with_entries_lost, {8}),
    (with_success_off_the_record, {8}),
    (with_a_chain_that_begins_anew, {8}),
    (with_faults_overlooked, {9}),
    (with_the_newest_version_for_all, {9}),
    (without_an_apology, {10}),
    (without_a_deadline, {10}),
    (with_bugs, {10}),
)


@pytest.mark.parametrize(("weaken", "promises"), TABLE, ids=lambda one: getattr(one, "__name__", ""))
def test_a_planted_fault_turns_it_red(monkeypatch, weaken, promises):
    """Within hundreds of calls; what is told names promise, call and turn, the last steps, and how to play it again."""
    monkeypatch.setattr(document, "_read_before", document._read)  # it remembers what it read in health
    weaken(monkeypatch)
    with pytest.raises(Broken) as red:
        run.play(SEED, CALLS, gaps_s=(100_000.0,))
    told = str(red.value)
    assert int(re.match(r"promise (\d+): ", told)[1]) in promises, told
    assert told.endswith(f"python -m pytest tests/sim --sim-seed {SEED} --sim-calls {CALLS}")


def test_every_promise_has_a_planted_fault():
    """A promise that nothing can be found to break would not be watched."""
    assert set().union(*(promises for _, promises in TABLE)) == set(range(1, 11))


def test_a_broken_promise_tells_the_calls_last_steps(monkeypatch):
    """So that a person sees at once what happened."""
    with_every_pin_right(monkeypatch)
    with pytest.raises(Broken, match=r"promise 1: a wrong pin was taken") as red:
        run.play(SEED, CALLS)
    told = str(red.value)
    for piece in (r"call CA[0-9a-f]{32}, turn \d+ on n\d", r"judged pin: Right", r"keys '\d{8}'"):
        assert re.search(piece, told), told
