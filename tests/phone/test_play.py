"""A telephone in the terminal, on real pipes and a real terminal."""

import asyncio
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core.rules import ANYONE, Hours, Rule
from ivrguard.phone import play
from ivrguard.phone.play import run, tell
from ivrguard.phone.screen import console
from ivrguard.phone.story import Story
from ivrguard.phone.world import OWN_NUMBER
from ivrguard.web.app import wall_clock_ms

STRANGER = "+15559870002"


@pytest.fixture(scope="module")
def flow():
    loaded = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


@contextmanager
def piped(text):
    """A file descriptor from which `text` can be read, and then nothing."""
    out, into = os.pipe()
    os.write(into, text.encode())
    os.close(into)
    yield out
    hung_up()
    os.close(out)


def hung_up():
    """Wait for the threads that read what is typed."""
    for thread in threading.enumerate():
        if thread.name == "keyboard":
            thread.join()


async def talk(flow, text, caller=OWN_NUMBER, attested=True):
    printed = StringIO()
    with piped(text) as keyboard:
        await run(console(file=printed), flow, caller=caller, attested=attested, keyboard=keyboard)
    return printed.getvalue().splitlines()


async def test_lines_from_a_pipe_are_a_call_that_reads_as_a_talk(flow):
    """Each line is pressed and shown; no prompt stands in the way; the end of the input hangs up."""
    said = await talk(flow, "123456789#\n73926418\n1\n")

    assert said[0].startswith(f"You call +18005550100 from {OWN_NUMBER}.")
    assert said[3] == f"The customer: account 123456789, PIN 73926418, number {OWN_NUMBER}."
    assert [line for line in said if "▸" in line] == ["   ▸ 123456789#", "   ▸ 73926418", "   ▸ 1", "   ▸ h"]
    assert '   ◂ "Your balance is 1234 dollars."' in said
    assert "keys>" not in "\n".join(said)


async def test_a_code_comes_to_the_same_screen(flow):
    """Whoever plays is the owner's telephone, too."""
    said = await talk(flow, "123456789#\n73926418\n3\nh\n")
    assert [line.split(" is your code")[0][:-6] for line in said if "✉" in line] == [
        f"   ✉ to {OWN_NUMBER}: "
    ]


async def test_the_app_shows_a_code_that_is_right(flow):
    """`t` is a look at the app: in a flow that asks for the app alone, its code lets one in."""
    only_app = replace(flow, levels=flow.levels | {"one_factor": "app"})
    printed = StringIO()
    out, into = os.pipe()

    class Reader(StringIO):
        """Somebody who reads the screen, and keys the code that it shows."""

        def write(self, text):
            if "⚿" in text:
                os.write(into, text.split()[-1].encode() + b"\n")
            if "Welcome to" in text:
                os.close(into)
            return printed.write(text)

    os.write(into, b"123456789#\nt\n")
    await run(console(file=Reader()), only_app, caller=STRANGER, attested=False, keyboard=out)
    os.close(out)
    assert "Welcome to Example Bank." in printed.getvalue()


async def test_silence_and_keys_that_no_telephone_has(flow):
    """An empty line is silence; what is no key is said to be none, and the call goes on."""
    said = await talk(flow, "\nx\nh\n", STRANGER, attested=False)
    assert "   ▸ (silence)" in said
    assert '   ◂ "We did not receive any keys."' in said
    assert [line for line in said if "a keypad has 0 to 9" in line]
    assert said[-1] == "   ▸ h"


async def test_three_wrong_answers_and_the_other_end_hangs_up(flow):
    """Then there is nobody to key anything to, and the telephone is put down."""
    said = await talk(flow, "123456789#\n11112222\n11112223\n11112224\n1\n1\n", STRANGER, attested=False)
    assert said[-1] == "   ◂ hangs up"


async def test_a_last_line_without_its_end_is_read(flow):
    assert "   ▸ 123456789#" in await talk(flow, "123456789#")


async def test_an_input_that_is_closed_is_at_its_end(flow):
    """`play <&-`: nothing to read from is nothing to read."""
    printed = StringIO()
    out, into = os.pipe()
    os.close(out)
    os.close(into)
    await run(console(file=printed), flow, caller=STRANGER, attested=False, keyboard=out)
    assert printed.getvalue().endswith("   ▸ h\n")


async def test_at_a_terminal_keys_are_asked_for(flow):
    """And not shown again: the terminal echoes what is typed."""
    printed = StringIO()
    ours, theirs = os.openpty()
    os.write(ours, b"123456789#\nh\n")
    await run(console(file=printed), flow, caller=STRANGER, attested=False, keyboard=theirs)
    os.close(theirs)
    os.close(ours)
    assert printed.getvalue().count("keys> ") == 2
    assert "▸" not in printed.getvalue()


def test_who_types_on_after_the_call_disturbs_nobody():
    """The call is over and its loop is gone; the thread that waits for a line ends without a word."""
    out, into = os.pipe()

    async def listen():
        return play._lines(out)

    asyncio.run(listen())
    os.write(into, b"1\n")
    hung_up()
    os.close(into)
    os.close(out)


async def test_an_agent_time_and_words_are_at_hand(flow):
    """`a`, `wait` and `say`: what a caller's day is made of, besides keys."""
    said = await talk(flow, "123456789#\n73926418\nwait 6m\nsay hello\na\n0\n73926418\n2#\nh\n")
    assert "   ▸ wait 6m" in said
    assert '   ◂ "We did not hear you."' in said
    assert [line for line in said if "the caller talks to nobody" in line]


async def test_a_stub_says_where_one_is_and_leads_anywhere(flow):
    """For a flow that has no sample IVR; each path is asked for as the flow has it."""
    clinic = replace(flow, name="clinic")
    said = await talk(clinic, "123456789#\n73926418\ngo to /hours\ngo /wire/new\ngo home\nh\n")
    assert said[said.index("   ▸ go to /hours") + 1 :][:2] == ['   ◂ "path /hours"', '   ◂ "path /voice"']
    assert [line for line in said if "We have just texted" in line]
    assert [line for line in said if line.startswith("   (go to a path, such as: go to /menu)")]
    assert [line for line in await talk(flow, "go to /hours\n") if "only a stub leads to any path" in line]


async def recorded(flow, text, **how):
    kept = []
    printed = StringIO()
    with piped(text) as keyboard:
        await run(
            console(file=printed),
            flow,
            caller=STRANGER,
            attested=False,
            keep=kept.append,
            keyboard=keyboard,
            **how,
        )
    return kept, printed.getvalue()


async def test_a_talk_is_recorded_and_plays_again(flow):
    """Time stands still meanwhile: the app shows the same code until somebody waits."""
    (story,), printed = await recorded(flow, "123456789#\n73926418\nt\nt\nwait 30s\nt\n1\nh\n")

    shown = [line.split()[-1] for line in printed.splitlines() if "⚿" in line]
    assert (shown[0] == shown[1], shown[1] == shown[2]) == (True, False)
    assert "It is recorded, secrets by their names. Time stands still, but for `wait`." in printed
    assert (story.flow, story.ivr, story.begins) == ("bank", "bank", None)
    assert [line for line in str(story).splitlines() if not line.startswith("hear")] == [
        *("flow: bank", "ivr: bank", "", f"call from {STRANGER} to +18005550100"),
        *("press {account}#", "press {pin}", "wait 30s", "press 1", "hang up"),
    ]
    out = StringIO()
    assert await tell(console(file=out), flow, story)
    assert out.getvalue().endswith("   ▸ hang up\nstory: it came true\n")


async def test_a_talk_by_a_flow_with_hours_says_when_it_was(flow):
    """To the minute, by the flow's own clock: at another time it would be another talk."""
    office = Rule(ANYONE, path="/hours", hours=Hours(frozenset(range(7)), 0, 24 * 60))
    (story,), _ = await recorded(replace(flow, rules=(office, *flow.rules)), "h\n")
    now = datetime.fromtimestamp(wall_clock_ms() / 1000, UTC).replace(tzinfo=None)
    assert timedelta() <= now - story.begins < timedelta(minutes=2)


async def test_a_talk_that_is_broken_off_is_kept(flow):
    """Ctrl-C: the task is cancelled; before anybody called there is nothing to keep."""
    kept, out = [], StringIO()
    keyboard, into = os.pipe()

    class Reader(StringIO):
        def write(self, text):
            if "8 digit PIN" in text:
                task.cancel()
            return out.write(text)

    os.write(into, b"123456789#\n")
    how = {"caller": STRANGER, "attested": False, "keep": kept.append, "keyboard": keyboard}
    task = asyncio.create_task(run(console(file=Reader()), flow, **how))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert str(kept[0]).splitlines()[-1] == 'hear "Please enter your 8 digit PIN."'

    class Impatient(StringIO):
        def write(self, text):
            if "recorded" in text:
                other.cancel()
            return out.write(text)

    other = asyncio.create_task(run(console(file=Impatient()), flow, **how))
    with pytest.raises(asyncio.CancelledError):
        await other
    os.close(into)
    hung_up()
    os.close(keyboard)
    assert len(kept) == 1


# ── a story ──────────────────────────────────────────────────────────────────────────────────────────────

STORY = """call from +15551230001 to +18005550100
hear "account number"
press {account}#
press {pin}
hear "path /voice"
"""


async def told(flow, text, **how):
    printed = StringIO()
    true = await tell(console(file=printed), flow, Story.parse(text, "a.call"), **how)
    return true, printed.getvalue().splitlines()


async def test_a_story_is_the_talk_that_it_is(flow):
    """What is done, what is heard, what was expected; and that it came true."""
    true, said = await told(flow, STORY)
    assert said.pop(1).startswith('   ◂ "Please enter your account number, ')
    assert (true, said) == (
        True,
        [
            "   ▸ call from +15551230001 to +18005550100",
            '   ✓ hear "account number"',
            "   ▸ press {account}#",
            '   ◂ "Please enter your 8 digit PIN."',
            "   ▸ press {pin}",
            '   ◂ "path /voice"',
            '   ✓ hear "path /voice"',
            "   ▸ hang up (the story ends here)",
            "a.call: it came true",
        ],
    )


async def test_a_story_that_does_not_come_true_ends_with_where_and_why(flow):
    """Below the talk so far; `ivr` is what stands behind a story that does not say."""
    true, said = await told(flow, STORY, ivr="bank")
    assert (true, said[-2:]) == (
        False,
        ['   ✗ hear "path /voice"', 'a.call:5: expected to hear "path /voice": nobody said it'],
    )
