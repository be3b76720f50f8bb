"""What a call looks like in a terminal: told once, in order, and printed as it came."""

from io import StringIO
from types import SimpleNamespace

import pytest

from ivrguard.phone.heard import Asked, Bridged, HungUp, Paused, Said
from ivrguard.phone.messages import Message
from ivrguard.phone.screen import Screen, console, show_told


@pytest.fixture
def printed():
    return StringIO()


@pytest.fixture
def line():
    return SimpleNamespace(heard=[])


@pytest.fixture
def carrier():
    return SimpleNamespace(sent=[Message("+15550000001", "from a call before")])


@pytest.fixture
def screen(printed, line, carrier):
    return Screen(console(file=printed), line, carrier)


def test_everything_is_told_once_and_in_order(screen, line, carrier, printed):
    """Each look shows what came since the last one: the line first, then its messages."""
    line.heard += [Said("Welcome."), Asked("/menu")]
    assert screen.show() == '"Welcome."'
    line.heard += [Bridged("ada")]
    carrier.sent += [Message("+15550000002", "123456 is your code")]
    assert screen.show() == "connects the caller with ada"
    assert screen.show() == ""

    assert screen.heard == ['"Welcome."', "connects the caller with ada"]
    assert printed.getvalue().splitlines() == [
        '   ◂ "Welcome."',
        "   ◂ connects the caller with ada",
        "   ✉ to +15550000002: 123456 is your code",
    ]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (Asked("/menu"), 0),
        (Paused(2), 0),
        (HungUp("caller"), 0),
        (HungUp("document"), 1),
        (HungUp("error"), 1),
    ],
)
def test_what_makes_no_sound_is_left_out(screen, line, printed, event, lines):
    """The caller knows that he hung up; he does hear it when somebody else does."""
    line.heard.append(event)
    screen.show()
    assert lines == len(printed.getvalue().splitlines())


def test_what_is_keyed_is_shown_with_its_reason(screen, printed):
    screen.keyed("1", "balance")
    screen.keyed("2")
    assert printed.getvalue() == "   ▸ 1  (balance)\n   ▸ 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "flows/bank.yaml:100:3: rules",  # `:100:` is the name of an emoji
        "press [b]1[/b] or [/] now",  # and this would be markup
        "word " * 100 + "end",  # eighty columns are a terminal's affair
    ],
)
def test_words_are_printed_as_they_came(screen, line, printed, text):
    """Whoever's flow it is: no markup, no emoji, no broken line; as event, as key and as a plain line."""
    line.heard.append(Said(text))
    screen.show()
    screen.keyed(text)
    console(file=printed).print(text)
    assert printed.getvalue() == f'   ◂ "{text}"\n   ▸ {text}\n{text}\n'


@pytest.mark.parametrize(("mark", "sign"), [(">>", "▸"), ("<<", "◂"), ("==", "✓"), ("  ", "☎")])
def test_a_story_looks_like_a_talk(printed, mark, sign):
    """What is done, heard, expected, and what the world remarks."""
    show_told(console(file=printed), mark, "words")
    assert printed.getvalue() == f"   {sign} words\n"


def test_an_error_console_writes_to_standard_error(capsys):
    console(stderr=True).print("mend this")
    console().print("done")
    assert capsys.readouterr() == ("done\n", "mend this\n")
