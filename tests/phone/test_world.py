"""The world of stories: its customers, each of its verbs, and what it insists on in the end."""

from dataclasses import replace
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Identify, Recording, Upstream, Via
from ivrguard.core.lookup import Lookup
from ivrguard.core.rules import ANYONE, Rule
from ivrguard.factors.pin import PIN_DIGITS_MAX, PIN_DIGITS_MIN, weak
from ivrguard.phone.bank import Bank
from ivrguard.phone.rig import AUTH_TOKEN, Clock, rig
from ivrguard.phone.stage import StoryFailed, play
from ivrguard.phone.story import Story, StoryFault
from ivrguard.phone.world import PIN, VALUES, VERBS, Real, begin_ms, made_up, sample, told

CALL = "call from +15551230001 to +18005550100"
VERIFIED = [CALL, "press {account}#", "press {pin}"]


@pytest.fixture(scope="module")
def flow():
    loaded = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


async def tells(flow, *lines, spoilt=None, **how):
    """Play these lines in the world; the talk."""
    story = Story.parse("\n".join(lines), "a.call", verbs=VERBS)
    async with told(flow, story, **how) as telling:
        if spoilt is not None:
            await spoilt(telling)
        transcript = await play(story, telling.at.exchange, world=telling.world())
    return "\n".join(transcript.text)


# ── customers ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("least", "most", "account"),
    [(6, 12, "123456789"), (4, 6, "123456"), (12, 12, "123456789123"), (1, 32, "123456789")],
)
def test_the_customer_has_an_account_that_can_be_keyed(flow, least, most, account):
    """As many digits as the flow asks for; and so has the one that does not exist."""
    who = made_up(replace(flow, identify=Identify("account_number", least, most)))
    assert (who.account, len(who.unknown)) == (account, len(account))
    assert who.unknown != who.account


@pytest.mark.parametrize("digits", range(PIN_DIGITS_MIN, PIN_DIGITS_MAX + 1))
def test_the_customers_pin_is_as_long_as_wanted_and_never_weak(flow, digits):
    """A weak one would not be enrolled. The wrong one and the new one are others."""
    factors = {name: replace(factor, digits=digits) for name, factor in flow.factors.items()}
    who = made_up(replace(flow, factors=factors))
    assert [(len(pin), weak(pin)) for pin in (who.pin, who.new_pin)] == [(digits, None)] * 2
    assert (len({who.pin, who.wrong, who.new_pin}), len(who.wrong)) == (3, digits)
    assert who.pin not in repr(who)


def test_a_flow_without_a_pin_has_a_customer_with_one_all_the_same(flow):
    without = {name: factor for name, factor in flow.factors.items() if factor.kind is not Kind.PIN}
    assert made_up(replace(flow, factors=without)).pin == PIN[:8]


async def test_a_flow_without_codes_has_wrong_ones_all_the_same(flow):
    """Of the usual length."""
    by_app = replace(flow, factors={"app": flow.factors["app"]}, levels={"one_factor": "app"}, rules=())
    await tells(by_app, CALL, "press {account}#", "press {wrong_code}", 'hear "did not match"')


async def test_without_a_word_there_is_one_customer_with_everything(flow):
    """And what is wrong is wrong: account, PIN, code and app."""
    await tells(
        flow,
        CALL,
        "press {unknown}#",
        "press {pin}",
        'hear "did not match"',
        "hang up",
        *VERIFIED,
        'hear "path /voice"',
        "go to /wire/new",
        "press {wrong_code}",
        'hear "did not match"',
        "press {code}",
        'hear "path /wire/new"',
        "hang up",
        *VERIFIED,
        "go to /wire/new",
        "press 2#",
        "press {wrong_app}",
        'hear "did not match"',
        "press {old_app}",
        'hear "path /wire/new"',
        "wait 6m",
        "go to /wire/new",
        "press {wrong}",
        'hear "did not match"',
        "press {pin}",
        "press 2#",
        "press {app}",
        'hear "path /wire/new"',
    )


async def test_a_code_that_nobody_sent_can_still_be_wrong(flow):
    """An unknown account is asked for one like any other."""
    alike = replace(flow, levels=flow.levels | {"one_factor": "code"})
    await tells(alike, CALL, "press {unknown}#", "press {wrong_code}", 'hear "did not match"', "texted 0")
    with pytest.raises(StoryFailed, match="3: no code was texted"):
        await tells(alike, CALL, "press {unknown}#", "press {code}")


async def test_customers_are_as_they_are_told(flow):
    """What they have, where they call from, what they speak; more than one, each with a number of his own."""
    async with told(flow, Story.parse("account 555", "a.call", verbs=VERBS)) as telling:
        world, scene = telling.world(), None
        assert await telling.at.server.directory.find("123456789") is None
        acts = {
            "account ACCOUNT": ["555000111"],
            "account ACCOUNT has FACTORS": ["555000222", "pin totp"],
            "account ACCOUNT calls from NUMBER": ["555000222", "+1 555 000 0007"],
            "account ACCOUNT speaks LANGUAGE": ["555000222", "es-US"],
            "account ACCOUNT disabled": ["555000333"],
        }
        for verb, filled in acts.items():
            await world.actions[verb](scene, *filled)
        first, second, third = [
            await telling.at.server.directory.find(f"555000{nth}") for nth in ("111", "222", "333")
        ]
        assert [one.kind for one in first.credentials] == [Kind.PIN, Kind.SMS_CODE, Kind.TOTP]
        assert (first.numbers, third.numbers) == (("+15551230001",), ("+15551230003",))
        assert [one.kind for one in second.credentials] == [Kind.PIN, Kind.TOTP]
        assert (second.numbers, second.language, third.disabled) == (("+15550000007",), "es-US", True)
        assert world.values["account"]() == "555000111"
        assert set(world.values) == set(VALUES)


async def test_codes_go_to_the_number_that_is_told(flow):
    await tells(
        flow,
        "account 123456789 calls from +15550000007",
        *VERIFIED,
        "go to /wire/new",
        "texted 1",
        "press {code}",
        'hear "path /wire/new"',
    )
    with pytest.raises(StoryFailed, match="1: a letter in a telephone number"):
        await tells(flow, "account 123456789 calls from me")


async def test_a_locked_account_is_locked_for_strangers_until_its_time_is_over(flow):
    """The right PIN is not looked at; an operator, or half an hour, takes the lock away."""
    refused = [*VERIFIED, 'hear "did not match"', "hang up"]
    await tells(flow, "account 123456789 locked pin", *refused, "wait 31m", *VERIFIED, 'hear "path /voice"')
    await tells(
        flow,
        "account 123456789 locked pin",
        *refused,
        "unlock 123456789 by ops",
        *VERIFIED,
        'hear "path /voice"',
    )
    with pytest.raises(StoryFailed, match="1: there was no lock to take away"):
        await tells(flow, "unlock 123456789 by ops")


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("via", Via)
async def test_a_message_that_fails_is_no_code(flow, via):
    """With the guard's own messages and with Verify, whose codes are as long as the flow wants them."""
    code = replace(flow.factors["code"], via=via, digits=7)
    flow = replace(flow, factors=flow.factors | {"code": code})
    await tells(
        flow,
        "account 123456789 has pin sms_code",
        *VERIFIED,
        "messages fail",
        "go to /wire/new",
        'hear "cannot take your call"',
        "texted 0",
        *VERIFIED,
        "go to /wire/new",
        'hear "7 digit code"',
        "press {code}",
        'hear "path /wire/new"',
    )


@pytest.mark.parametrize(
    ("lookup", "line"),
    [
        (Lookup(sim_swap_s=72 * 3600), "number +15551230001 swapped 50h ago"),
        (Lookup(sim_swap_s=72 * 3600), "number +15551230001 swapped 1h ago"),
        (Lookup(forwarding=True), "number +15551230001 forwarded"),
        (Lookup(line_types=("mobile",)), "number +15551230001 is landline"),
    ],
)
async def test_a_number_that_something_is_known_of_gets_no_code(flow, lookup, line):
    """The app is asked for instead."""
    code = replace(flow.factors["code"], lookup=lookup)
    flow = replace(flow, factors=flow.factors | {"code": code})
    await tells(flow, *VERIFIED, "go to /wire/new", 'hear "texted"')
    await tells(flow, line, *VERIFIED, "go to /wire/new", 'hear "authenticator app"', "texted 0")


async def test_a_webhook_may_arrive_twice(flow):
    story = Story.parse(f"{CALL}\neverything arrives twice\npress {{account}}#", "a", verbs=VERBS)
    async with told(flow, story) as telling:
        transcript = await play(story, telling.at.exchange, world=telling.world())
    assert [request.twin is not None for request in transcript.lines[0].requests][:2] == [False, True]


async def test_recordings_stand_still_while_a_secret_is_keyed(flow):
    paused = replace(flow, recording=Recording.PAUSE)
    await tells(
        paused,
        CALL,
        "recording starts",
        "recording runs",
        "press {account}#",
        "recording stands still",
        "press {pin}",
        "recording runs",
    )
    with pytest.raises(StoryFailed, match="2: no recording of this call runs"):
        await tells(paused, CALL, "recording runs")
    with pytest.raises(StoryFailed, match="3: a recording of this call runs"):
        await tells(paused, CALL, "recording starts", "recording stands still")


# ── agents ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_agents_do_as_they_are_told(flow):
    """From then on."""
    dial = "ivr /voice <Dial>+18005550142</Dial><Say>Nobody is free.</Say>"
    story = ["agents busy", dial, *VERIFIED, "press {code}", 'hear "nobody is free"']
    await tells(flow, *story)


# ── what came of it ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_record_is_read(flow):
    await tells(
        flow, *VERIFIED, "recorded authn_login_success right", "never recorded authn_login_lock", "hang up"
    )
    with pytest.raises(StoryFailed, match="1: it is not on record; there is: user_created "):
        await tells(flow, "recorded authn_login_success right")
    with pytest.raises(StoryFailed, match="1: it is on record"):
        await tells(flow, "never recorded user_created")
    with pytest.raises(StoryFailed, match="1: messages that went out so far: 0"):
        await tells(flow, "texted 1")


# ── the IVR ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_stub_answers_as_it_is_told(flow):
    """For a path, and for the keys that came to it; its first document is the flow's."""
    upstream = Upstream("https://ivr.bank.example/begin?line=1")
    await tells(
        replace(flow, upstream=upstream),
        'ivr /begin <Gather action="/menu"><Say>Press three.</Say></Gather>',
        "ivr /menu 3 <Redirect>/hours</Redirect>",
        *VERIFIED,
        'hear "press three"',
        "ivr heard /begin",
        "ivr never heard /hours",
        "press 3",
        "press {code}",
        'hear "path /hours"',
    )
    with pytest.raises(StoryFailed, match="2: the IVR was not asked for that"):
        await tells(flow, CALL, "ivr heard /voice")
    with pytest.raises(StoryFailed, match="4: the IVR was asked for that"):
        await tells(flow, *VERIFIED, "ivr never heard /voice")


async def test_the_stub_leads_to_any_path_from_a_question_of_its_own(flow):
    """And from nowhere else."""
    await tells(flow, *VERIFIED, "go to /hours", 'hear "path /hours"', 'hear "path /voice"')
    with pytest.raises(StoryFailed, match="2: the stub does not ask anything just now"):
        await tells(flow, CALL, "go to /hours")
    with pytest.raises(StoryFailed, match="4: only a stub leads to any path"):
        await tells(flow, *VERIFIED, "go to /hours", ivr="bank")


async def test_the_sample_bank_stands_there_when_the_story_says_so(flow):
    """With its agents and its wires; each IVR knows its own lines only."""
    await tells(
        flow,
        "ivr: bank",
        "bank transfers by client",
        *VERIFIED,
        "wired nothing",
        "press 0",
        "press {code}",
        'transferred to client "ada" with token',
    )
    with pytest.raises(StoryFailed, match="1: wired: nothing"):
        await tells(flow, "wired 250", ivr="bank")
    with pytest.raises(StoryFailed, match="1: only the sample bank knows this: add `ivr: bank`"):
        await tells(flow, "wired nothing")
    with pytest.raises(StoryFailed, match="1: the sample bank answers for itself"):
        await tells(flow, "ivr /voice <Say>Hello</Say>", ivr="bank")


async def test_a_number_may_begin_elsewhere(flow):
    """A second line whose voice URL is another path of the guard's."""
    opened = replace(flow, rules=(Rule(ANYONE, path="/roadside"), *flow.rules))
    await tells(opened, "number +18005550100 begins at /roadside", CALL, 'hear "path /roadside"')
    with pytest.raises(StoryFailed, match=r"1: this flow does not answer .*9; it does: .*0"):
        await tells(flow, "number +18005550109 begins at /roadside")


async def test_a_real_ivr_may_stand_behind_it(flow):
    """At its own URL, signed with its own token; what the story says of a stub does not count, what it heard is unknown."""
    own = Bank()
    async with rig(flow, own.app, path="/voice") as elsewhere:
        real = Real(f"{elsewhere.ivr_url}/voice", AUTH_TOKEN)
        talk = await tells(
            flow,
            *("ivr /voice <Say>stub</Say>", "ivr /voice 3 <Say>stub</Say>"),
            *VERIFIED,
            'hear "Example Bank"',
            real=real,
        )
        assert '<< "stub"' not in talk
        assert [(one.path, one.signed) for one in own.seen] == [("/voice", True)]
        with pytest.raises(StoryFailed, match="4: nobody knows what a real IVR heard"):
            await tells(flow, *VERIFIED, "ivr heard /voice", real=real)
        with pytest.raises(
            StoryFailed, match=r"3: the provider could not run what it got|cannot take your call"
        ):
            await tells(flow, *VERIFIED, 'hear "Example Bank"', real=Real(real.url, "another token"))
    assert AUTH_TOKEN not in repr(real)


def test_the_sample_bank_fits_the_flow_of_that_name(flow):
    assert (sample(flow), sample(replace(flow, name="clinic"))) == ("bank", "stub")


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_story_begins_when_it_says_by_the_flows_own_clock(flow):
    """A Monday morning if it does not; and time stands still but for `wait`."""
    chicago = replace(flow, timezone="America/Chicago")
    assert begin_ms(flow, None) == 1_767_607_200_000
    assert begin_ms(chicago, None) == 1_767_607_200_000 + 6 * 3_600_000
    story = Story.parse("begins: 2026-03-02 09:30\nwait 90s", "a.call", verbs=VERBS)
    async with told(flow, story) as telling:
        assert telling.at.clock() == telling.at.clock() == 1_772_443_800_000
        await play(story, telling.at.exchange, world=telling.world())
        assert telling.at.clock() == 1_772_443_890_000
    async with told(flow, story, clock=Clock(5)) as telling:
        assert telling.at.clock() == 5


# ── what holds in the end ────────────────────────────────────────────────────────────────────────────────


async def test_a_story_in_which_an_answer_failed_has_not_come_true(flow):
    """Whatever it said of it."""

    async def misled(telling):
        telling.at.number("+18005550100", "/.ivrguard/nowhere")

    with pytest.raises(
        StoryFailed, match=r"1: the provider could not run what it got at /.ivrguard/nowhere: error 11200"
    ):
        await tells(flow, CALL, spoilt=misled)


async def test_what_is_keyed_for_the_guard_must_not_reach_the_ivr(flow, monkeypatch):
    """A weakened guard that hands it on would be caught."""
    from ivrguard.phone.stub import Stub

    monkeypatch.setattr(Stub, "digits_seen", lambda _: {made_up(flow).pin})
    with pytest.raises(StoryFailed, match="3: what was keyed for the guard reached the IVR"):
        await tells(flow, *VERIFIED)


async def test_what_is_keyed_for_both_is_nobodys_secret(flow):
    """An IVR that asks for the account number once more."""
    asks = 'ivr /voice <Gather action="/again"><Say>Your account number?</Say></Gather>'
    await tells(flow, asks, *VERIFIED, "press {account}#", 'hear "path /again"')


@pytest.mark.parametrize("ivr", ["bank", "stub"])
async def test_an_ivr_that_somebody_else_asks_is_told(flow, ivr):
    async def somebody(telling):
        async with telling.at.session.post(f"{telling.at.ivr_url}/voice") as response:
            assert response.status == 403

    with pytest.raises(StoryFailed, match="3: the IVR was asked for /voice by somebody who is not Twilio"):
        await tells(flow, *VERIFIED, spoilt=somebody, ivr=ivr)


async def test_a_record_that_does_not_hold_is_told(flow):
    async def cut(telling):
        whole = telling.record

        async def record():
            return (await whole())[:-1]

        telling.record = record

    with pytest.raises(StoryFailed, match="the record's chain is broken"):
        await tells(flow, CALL, spoilt=cut)


def test_every_verb_of_the_world_can_be_read():
    """None stands in another one's way: a line of each is read as that one."""
    fills = {
        "ACCOUNT": "123456789",
        "FACTORS": "pin totp",
        "N": "1",
        "DURATION": "5m",
        "PATH": "/menu",
        "DIGITS": "3",
        "KEYS": "{code}",
        "TWIML": "<Say>x</Say>",
    }
    for usage in VERBS:
        words = [
            fills.get(word.removesuffix(":"), word.removesuffix(":").partition("|")[0].lower())
            + ":" * word.endswith(":")
            for word in usage.split()
        ]
        story = Story.parse(" ".join(words), "a.call", verbs=[usage])
        assert len(story.steps) == 1
    with pytest.raises(StoryFault, match="did you mean 'account'"):
        Story.parse("acount 5", "a.call", verbs=VERBS)
