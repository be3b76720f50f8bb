"""
A talk that is written down: it comes true when it is played, and no secret is in it.

Whoever talks here keys what a person would: the account, the PIN, a wrong one, a code, nonsense, nothing.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.phone import play as telephone
from ivrguard.phone import world
from ivrguard.phone.exchange import LineError
from ivrguard.phone.recorder import HEARD_CHARACTERS_MAX, Recorder, keep
from ivrguard.phone.stage import StoryFailed, play
from ivrguard.phone.story import Hear, Press, Step, Story, seconds
from ivrguard.phone.world import told

FLOW = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml").flow
INSURER = flowfile.load(Path(__file__).parents[2] / "flows" / "insurer.yaml").flow
SECRETS = ("account", "pin", "code", "app", "old_app")
VALUES = (*SECRETS, "unknown", "wrong", "new_pin", "wrong_code", "wrong_app")


async def talked(flow, *acts, ivr="bank", caller=world.OWN_NUMBER, spoilt=None):
    """The story of a talk, and the secrets in it. `{pin}#` in an act is keyed as the PIN and the pound key."""
    async with told(flow, ivr=ivr) as telling:
        if spoilt is not None:
            spoilt(telling)
        line, values, secrets = telling.at.call(caller, attested=True), telling.world().values, set()

        def filled(found):
            value = values[found[1]]()
            if found[1] in SECRETS:
                secrets.add(value)
            return value

        recorder = Recorder(telling, line, "A")
        await line.until_input()
        recorder.begun()
        for act in acts:
            if line.over:
                break
            if act.startswith("wait "):
                telling.at.clock.advance(seconds(act.removeprefix("wait ")))
                recorder.waits(seconds(act.removeprefix("wait ")))
                continue
            with suppress(LineError, LookupError):
                await telephone._act(telling, line, re.sub(r"\{(\w+)\}", filled, act), recorder)
        return Story("", tuple(map(Step, recorder.steps)), ivr=ivr), secrets


async def comes_true(flow, story):
    """It does when it is read again and played; otherwise `StoryFailed`."""
    again = Story.parse(str(story), "again.call", verbs=world.VERBS)
    assert again == story
    async with told(flow, again) as telling:
        return await play(again, telling.at.exchange, world=telling.world())


def keyed(story):
    return [step.does.keys for step in story.steps if isinstance(step.does, Press)]


async def test_secrets_become_their_names():
    """What is right, and what is wrong, at each kind of question."""
    story, secrets = await talked(
        FLOW,
        "{unknown}#",
        "{pin}",  # of nobody
        "{wrong}",
        "h",
    )
    assert keyed(story) == ["{unknown}#", "{pin}", "{wrong}"]
    assert secrets.isdisjoint(re.findall("[0-9]+", str(story)))

    story, secrets = await talked(
        FLOW, "{account}#", "{pin}", "3", "{wrong_code}", "{code}", "250#", "1", "wait 6m", "3", "2#", "{app}"
    )
    assert keyed(story)[:8] == ["{account}#", "{pin}", "3", "{wrong_code}", "{code}", "250#", "1", "3"]
    assert secrets.isdisjoint(re.findall("[0-9]+", str(story)))
    await comes_true(FLOW, story)


async def test_the_apps_codes_have_names_too():
    by_app = replace(FLOW, levels=FLOW.levels | {"one_factor": "app"})
    story, secrets = await talked(by_app, "{account}#", "{wrong_app}", "{old_app}", "0", "{app}")
    assert keyed(story)[:3] == ["{account}#", "{wrong_app}", "{old_app}"]
    assert secrets.isdisjoint(re.findall("[0-9]+", str(story)))
    await comes_true(by_app, story)


async def test_a_new_pin_has_a_name_as_well():
    """Whatever it is: one that is right, one that is too easy, and one that is not the same the second time."""
    story, _ = await talked(
        INSURER,
        *("{account}#", "{pin}", "go to /pin", "{code}"),
        *("90817263", "90817264", "90817263#", "90817263#", "h"),
        ivr="stub",
    )
    assert keyed(story)[3:7] == ["{new_pin}", "{wrong}", "{new_pin}", "{new_pin}"]
    assert "908172" not in str(story)
    await comes_true(INSURER, story)
    story, _ = await talked(
        INSURER, "{account}#", "{pin}", "go to /pin", "{code}", "11223344", "11223344", "h", ivr="stub"
    )
    assert keyed(story)[3:5] == ["{weak_pin}", "{weak_pin}"]


async def test_what_does_not_look_like_an_answer_leaves_noughts():
    """A PIN that somebody has keyed by habit, or half of one, is not written down; a choice of few keys is."""
    story, _ = await talked(FLOW, "73926#", "1#", "7392641#", "*#", "{pin}", "h")
    assert keyed(story) == ["00000#", "1#", "0000000#", "*#", "{pin}"]
    await comes_true(FLOW, story)


async def test_what_comes_after_the_end_of_an_answer_is_lost():
    """Somebody types ahead; a telephone does not take it."""
    story, _ = await talked(FLOW, "{account}#{pin}", "{pin}99", "h")
    assert keyed(story) == ["{account}#", "{pin}"]
    await comes_true(FLOW, story)


async def test_a_secret_that_is_keyed_or_said_or_heard_elsewhere_is_none_in_the_story():
    """An IVR that asks for the account once more, and reads it out; a caller who says it."""

    def repeats(telling):
        asks = '<Gather input="dtmf speech" action="/again"><Say>Your number?</Say></Gather>'
        telling.ivr.answers("/voice", asks)
        reads = f"<Say>I heard 1 2 3, 4 5 6, 7 8 9, thank you.</Say>{asks}"
        telling.ivr.answers("/again", reads)

    story, _ = await talked(
        FLOW, "{account}#", "{pin}", "{account}#", "say it is {account}", spoilt=repeats, ivr="stub"
    )
    assert keyed(story) == ["{account}#", "{pin}", "{account}#"]
    assert [step.does.text for step in story.steps if isinstance(step.does, Hear)][-4:] == [
        "I heard",
        "Your number?",
        "I heard",
        "Your number?",
    ]
    assert 'say "it is …"' in str(story)


async def test_where_a_call_goes_is_written_down():
    """Queue, client, agents; that a token went along; a plain phone's whisper."""
    for transfer, expected in (
        ("workflow", f'transferred to workflow "WW{"a1" * 16}" with token'),
        ("queue", 'transferred to enqueue "support"'),
        ("client", 'transferred to client "ada" with token'),
        ("number", 'transferred to number "+18005550142" with token'),
    ):

        def by(telling, transfer=transfer):
            telling.ivr.transfer = transfer

        story, _ = await talked(FLOW, "{account}#", "{pin}", "0", "{code}", "a", "a", "h", spoilt=by)
        assert expected in str(story).splitlines(), transfer
        assert "agent hangs up" in str(story)
        assert ("agent answers" in str(story)) == (transfer in ("workflow", "queue"))


async def test_a_party_that_stories_have_no_word_for_is_left_out():
    """What the caller hears of it is written down all the same."""

    def to_a_sim(telling):
        telling.ivr.answers("/voice", f"<Dial><Sim>DE{'a1' * 16}</Sim></Dial><Say>Bye.</Say>")

    story, _ = await talked(FLOW, "{account}#", "{pin}", "{code}", "a", spoilt=to_a_sim, ivr="stub")
    assert str(story).splitlines()[-3:] == ["agent hangs up", 'hear "Bye."', "hung up"]
    assert "transferred" not in str(story)


async def test_the_end_of_a_call_is_written_down():
    """Who is refused hears it, and the other side hangs up."""
    story, _ = await talked(FLOW, "{account}#", "{wrong}", "{wrong}", "{wrong}", caller="+15559870002")
    assert str(story).splitlines()[2] == "call from +15559870002 to +18005550100 attested A"
    assert str(story).splitlines()[-1] == "hung up"
    await comes_true(FLOW, story)


async def test_a_recording_is_ended_by_a_key():
    """Only the first one counts; what is said is words."""

    def no_agent(telling):
        telling.ivr.transfer = "number"
        telling.at.exchange.otherwise = replace(telling.at.exchange.otherwise, does="busy")

    story, _ = await talked(FLOW, "{account}#", "{pin}", "0", "{code}", "1234", spoilt=no_agent)
    assert keyed(story)[-1] == "1"


async def test_sounds_are_known_by_their_name():
    """Not by their address, which is another one each time; long sayings by how they begin."""

    def plays(telling):
        words = " ".join(["word"] * 40)
        telling.ivr.answers(
            "/voice", f"<Play>/sounds/chime.mp3?x=1</Play><Say>{words}</Say><Say>{'x' * 99}</Say>"
        )
        telling.ivr.answers("/sounds/chime.mp3", "")

    story, _ = await talked(FLOW, "{account}#", "{pin}", spoilt=plays, ivr="stub")
    heard = [step.does.text for step in story.steps if isinstance(step.does, Hear)][-3:]
    assert heard == ["chime.mp3", " ".join(["word"] * 14), "x" * HEARD_CHARACTERS_MAX]


ACTS = st.lists(
    st.sampled_from([f"{{{name}}}#" for name in VALUES])
    | st.sampled_from(
        ["", "1#", "2#", "*#", "12345#", "0", "1", "3", "9", "7", "x", "a", "say hello", "go to /wire/x"]
    )
    | st.sampled_from(["wait 30s", "wait 6m", "wait 31m"]),
    max_size=10,
)


@given(acts=ACTS, ivr=st.sampled_from(["bank", "stub"]))
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_whatever_is_talked_comes_true(acts, ivr):
    """Law 3 of the story format, and law 1 of this file, for talks that nobody has thought of."""

    async def whole():
        story, secrets = await talked(FLOW, "{account}#", "{pin}", *acts, ivr=ivr)
        assert secrets.isdisjoint(re.findall("[0-9]{4,}", str(story)))
        await comes_true(FLOW, story)

    asyncio.run(whole())


async def test_a_recorder_that_wrote_the_keys_down_would_be_found(monkeypatch):
    """The tests above would not pass a weakened one: neither secrets, nor a story that does not come true."""
    monkeypatch.setattr(Recorder, "_veiled", lambda _, text, veil: text)

    async def as_keyed(_, digits):
        return digits

    monkeypatch.setattr(Recorder, "_answer", as_keyed)
    story, secrets = await talked(FLOW, "{account}#", "{pin}", "3", "{code}")
    assert not secrets.isdisjoint(re.findall("[0-9]{4,}", str(story)))
    with pytest.raises(StoryFailed):
        await comes_true(FLOW, story)


def test_a_story_is_kept_where_there_is_none(tmp_path):
    """Nothing is written over unless that was asked for."""
    path, story = tmp_path / "a.call", Story("One", ())
    keep(path, story, force=False)
    with pytest.raises(FileExistsError):
        keep(path, Story("Two", ()), force=False)
    assert path.read_text() == str(story)
    keep(path, Story("Two", ()), force=True, remark="For people.")
    assert path.read_text() == "# For people.\ntitle: Two\n\n"
