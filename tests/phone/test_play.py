"""A telephone in the terminal, on real pipes and a real terminal."""

import asyncio
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Identify
from ivrguard.factors.pin import PIN_DIGITS_MAX, PIN_DIGITS_MIN, weak
from ivrguard.phone import play
from ivrguard.phone.play import OWN_NUMBER, PIN, made_up, run
from ivrguard.phone.screen import console

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
    assert said[1] == f"The customer: account 123456789, PIN 73926418, number {OWN_NUMBER}."
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


@pytest.mark.parametrize(
    ("least", "most", "account"),
    [(6, 12, "123456789"), (4, 6, "123456"), (12, 12, "123456789123"), (1, 32, "123456789")],
)
def test_the_customer_has_an_account_that_can_be_keyed(flow, least, most, account):
    """As many digits as the flow asks for, whatever they are."""
    asked = replace(flow, identify=Identify("account_number", least, most))
    assert made_up(asked)[0] == account


@pytest.mark.parametrize("digits", range(PIN_DIGITS_MIN, PIN_DIGITS_MAX + 1))
def test_the_customers_pin_is_as_long_as_wanted_and_never_weak(flow, digits):
    """A weak one would not be enrolled."""
    factors = {name: replace(factor, digits=digits) for name, factor in flow.factors.items()}
    pin = made_up(replace(flow, factors=factors))[1]
    assert (len(pin), weak(pin)) == (digits, None)


def test_a_flow_without_a_pin_has_a_customer_with_one_all_the_same(flow):
    without = {name: factor for name, factor in flow.factors.items() if factor.kind is not Kind.PIN}
    assert made_up(replace(flow, factors=without))[1] == PIN[:8]
