"""Attacks on codes: each binding that is taken off a code is missed, and messages without end are."""

from dataclasses import replace

import pytest

from ivrguard.core import call as calls
from ivrguard.core import demands
from ivrguard.core import step as steps
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import proving, webhook
from ivrguard.phone.redteam.attack import Verdict
from ivrguard.ports import Right


def with_codes_of_the_account(patch):
    """A code is bound to the account, and to nothing else."""
    code = SmsCodeJudge.code
    patch.setattr(
        SmsCodeJudge,
        "code",
        lambda self, challenge: code(
            self, replace(challenge, id="", call="", intent="", issued_ms=0, valid_s=0)
        ),
    )


def with_codes_for_ever(patch):
    """A code has no end."""

    def current(flow_call, factor, now_ms):
        return next((sent for sent in reversed(flow_call.sent) if sent.factor == factor), None)

    for module in (steps, calls):
        patch.setattr(module, "current_code", current)
    judge = SmsCodeJudge.judge

    async def patient(self, credential, digits, challenge, now_ms):
        return await judge(self, credential, digits, challenge, challenge.issued_ms if challenge else now_ms)

    patch.setattr(SmsCodeJudge, "judge", patient)


def with_codes_that_stay(patch):
    """A code that was used is still there."""
    right = steps._right

    def kept(flow, call, *more, **how):
        step = right(flow, call, *more, **how)
        return replace(step, call=replace(step.call, sent=call.sent))

    patch.setattr(steps, "_right", kept)


def with_codes_for_anything(patch):
    """What the message said is not looked at."""
    patch.setattr(demands, "said_for", lambda proofs, _: tuple(proofs))


def with_steps_forgotten(patch):
    """Nobody remembers which code of the app was used."""
    judge = TotpJudge.judge

    async def forgetful(self, *what):
        verdict = await judge(self, *what)
        return Right() if isinstance(verdict, Right) else verdict

    patch.setattr(TotpJudge, "judge", forgetful)


def with_old_steps(patch):
    """The app's codes of the last minutes count."""
    judge = TotpJudge.judge

    async def patient(self, credential, digits, challenge, now_ms):
        for steps_ in range(6):
            verdict = await judge(self, credential, digits, challenge, now_ms - steps_ * 30_000)
            if isinstance(verdict, Right):
                return Right()
        return verdict

    patch.setattr(TotpJudge, "judge", patient)


def without_lookup(patch):
    """What is known of a number is not weighed."""
    patch.setattr(proving, "withheld", lambda *_: "")


def without_send_limits(patch):
    """Codes are not counted."""
    patch.setattr(steps, "count_send", lambda flow, call, books, now_ms: (books, ""))


def with_owners_untold(patch):
    """Nobody writes to the owner."""

    async def silent(*_):
        pass

    patch.setattr(webhook.proving, "tell_owner", silent)


GUARDS = [
    (
        with_codes_of_the_account,
        "relay-a-code",
        "bank",
        "a code that was sent in one call was taken in another one",
    ),
    (with_codes_for_ever, "replay-a-code", "bank", "a code that was over was taken"),
    (with_codes_that_stay, "replay-a-code", "bank", "a code that was used is still good in its call"),
    (with_codes_for_anything, "phish-a-code", "bank", "took a code whose message did not say 'wire'"),
    (
        with_steps_forgotten,
        "replay-the-app",
        "bank",
        "a code of the app was taken twice, or one from before it",
    ),
    (with_old_steps, "replay-the-app", "bank", "a code of the app was taken a minute and a half later"),
    (without_lookup, "steal-the-sim", "insurer", "a code was sent to a number with a new SIM"),
    (without_lookup, "steal-the-sim", "clinic", "a code was sent to a number that is forwarded"),
    (
        without_send_limits,
        "pump-messages",
        "bank",
        "codes were sent to one account within an hour; `per_account` allows 5",
    ),
    (with_owners_untold, "guess-the-second-unnoticed", "bank", "and the owner was not told"),
]


@pytest.mark.parametrize(
    ("weaken", "attack", "name", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one)
)
async def test_a_weakened_guard_is_caught(monkeypatch, catches, flow_with, weaken, attack, name, says):
    weaken(monkeypatch)
    await catches(attack, says, flow_with(name))


SENDS = 'sends: {per_call: 2, per_account: "5 in 1h"}'

WEAK = {
    # what was weakened: edits, what it says, the place
    "many codes in a call": (
        [(SENDS, 'sends: {per_call: 9, per_account: "100 in 1h"}')],
        "codes were sent in one call, for callers who proved nothing",
        ("factors", "code", "sends", "per_call"),
    ),
    "many codes to an account": (
        [(SENDS, 'sends: {per_call: 2, per_account: "500 in 1h", per_number: "500 in 1h"}')],
        "codes were sent to one account within an hour, for callers who proved nothing",
        ("factors", "code", "sends", "per_account"),
    ),
    "many codes to a country": (
        [(SENDS, 'sends: {per_call: 2, per_account: "5 in 1h", per_prefix: "1000 in 1h"}')],
        "1000 codes were sent to one country's numbers, for callers who proved nothing",
        ("factors", "code", "sends", "per_prefix"),
    ),
}


@pytest.mark.parametrize("weak", WEAK)
async def test_a_flow_that_sends_without_end_is_caught(catches, flow_with, weak):
    edits, says, place = WEAK[weak]
    await catches("pump-messages", says, flow_with("bank", *edits), place)


async def test_a_code_of_another_purpose_is_worth_knowing(played, flow_with):
    """Where the flow does not ask for a code of its own, that is told, and is no hole."""
    outcome = await played(
        "phish-a-code", flow_with("bank", ("intent: wire, own_code: true", "intent: wire"))
    )
    assert outcome.verdict is Verdict.HELD
    assert any("takes a code that was sent for something else" in note for note in outcome.notes)


async def test_a_flow_that_looks_nothing_up_says_what_to_write(played):
    outcome = await played("steal-the-sim")
    assert outcome.verdict is Verdict.NOT_TRIED
    assert "write `lookup: {sim_swap: 72h, forwarding: refuse}`" in outcome.why


@pytest.mark.parametrize(
    ("name", "edits", "left_out"),
    [("clinic", [], "sim_swap: 72h"), ("insurer", [("      forwarding: refuse", "")], "forwarding: refuse")],
)
async def test_half_a_lookup_is_worth_knowing(played, flow_with, alone, name, edits, left_out):
    outcome = await played("steal-the-sim", flow_with(name, *edits))
    assert (outcome.verdict, outcome.notes) == (
        Verdict.HELD,
        (f"the flow does not look at everything before a code: `lookup: {{{left_out}}}` is left out",),
    )


async def test_a_code_of_its_own_is_asked_for(played, alone):
    """The bank's wire takes no other one: two kinds of codes were told, and both left the caller where he was."""
    outcome = await played("phish-a-code")
    assert outcome.verdict is Verdict.HELD
    assert dict(outcome.tried)["codes talked out of the owner"] >= 2


async def test_where_no_second_factor_is_wanted_nobody_can_guess_at_one(played, flow_with, alone):
    flow = flow_with(
        "bank",
        ('sensitive: ["/wire/**"]', ""),
        ("{all: [pin, {any: [code, app]}]}", "{any: [pin, code, app]}"),
    )
    outcome = await played("guess-the-second-unnoticed", flow)
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "nothing wants a second factor after 'pin'")


async def test_a_flow_without_an_app_says_so(played, flow_with):
    outcome = await played("replay-the-app", flow_with("insurer"))
    assert (outcome.verdict, outcome.why) == (Verdict.NOT_TRIED, "the flow has no factor of kind totp")
