"""Stories: read, written, and what is said of one that cannot be read."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.phone.story import (
    STORY_BYTES_MAX,
    Act,
    Call,
    Form,
    Hear,
    NotHear,
    Plain,
    Press,
    Say,
    Step,
    Story,
    StoryFault,
    Transferred,
    Wait,
    load,
)

CALLER = "+14155550123"
NUMBER = "+18005550100"
VERBS = ("redeem", "redeem as NAME")

# ---- reading and writing

LINES = [
    (f"call from {CALLER} to {NUMBER} attested A", Call(CALLER, NUMBER, "A")),
    (f"call from anonymous to {NUMBER}", Call("anonymous", NUMBER)),
    ('hear "part of text"', Hear("part of text")),
    (r'hear "say \"yes\" \\ no"', Hear(r'say "yes" \ no')),
    ('not hear "sorry"', NotHear("sorry")),
    ("press 1234#", Press("1234#")),
    ("press 1{pin}*{code_2}#", Press("1{pin}*{code_2}#")),
    ('say "my balance"', Say("my balance")),
    ("silence", Plain("silence")),
    ("hang up", Plain("hang up")),
    ("hung up", Plain("hung up")),
    ("agent answers", Plain("agent answers")),
    ("agent hangs up", Plain("agent hangs up")),
    ("wait 45s", Wait(45)),
    ("wait 30m", Wait(1_800)),
    ("wait 2h", Wait(7_200)),
    ("wait 1d", Wait(86_400)),
    ('transferred to enqueue "fraud line"', Transferred("enqueue", "fraud line")),
    ('transferred to sip "sip:a@b" with token', Transferred("sip", "sip:a@b", with_token=True)),
    ("redeem as ada", Act("redeem as ada")),
    ("redeem", Act("redeem")),
]


MOMENT = datetime.fromisoformat("2026-03-01 23:30")


@pytest.mark.parametrize(("line", "does"), LINES)
def test_a_line_is_a_step_and_a_step_is_a_line(line, does):
    """The table of the format, both ways."""
    story = Story.parse(f"call from a to b\n{line}", "a.call", verbs=VERBS)

    assert story.steps[1] == Step(does, 2)
    assert format(story) == f"call from a to b\n{line}\n"


def test_a_story_has_a_title_and_comments():
    """Blank lines and comments are for people; the title is kept."""
    story = Story.parse("# why\n title: The balance \n\n  call from a to b  \n", "a.call")

    assert story == Story("The balance", (Step(Call("a", "b")),))
    assert (story.name, story.steps[0].line) == ("a.call", 4)
    assert format(story) == "title: The balance\n\ncall from a to b\n"


HEAD = """title: At night
flow: clinic
ivr: bank
begins: 2026-03-01 23:30

call from a to b
"""


def test_the_head_says_which_flow_which_ivr_and_when():
    """All of it is optional, in any order, and written in one."""
    story = Story.parse(HEAD, "a.call", flows=["bank", "clinic"])
    shuffled = "\n".join(["# so it is", *reversed(HEAD.splitlines()[:4]), HEAD.splitlines()[5]])

    assert (story.flow, story.ivr, story.begins) == ("clinic", "bank", MOMENT)
    assert format(story) == HEAD
    assert Story.parse(shuffled, "b.call") == story


@pytest.mark.parametrize(
    ("head", "flows", "fault"),
    [
        ("", ["bank", "clinic"], "1: which flow is called? Add `flow: NAME`; there is: bank, clinic"),
        ("flow: clinik", ["bank", "clinic"], "1: there is no flow 'clinik'; did you mean 'clinic'?"),
        ("flow: x", ["bank"], "1: there is no flow 'x'; there is: bank"),
        ("flow: bank\nflow: bank", ["bank"], "2: there is a `flow:` already"),
        ("ivr: real", None, "1: it should read: ivr: stub or ivr: bank"),
        (
            "begins: monday",
            None,
            "1: it should read: begins: YEAR-MONTH-DAY HOUR:MINUTE, such as 2026-01-05 10:00",
        ),
        ("wait 1m\ntitle: Late", None, "2: `title:` belongs to the head, before the first step"),
    ],
)
def test_a_head_that_cannot_be_is_a_fault(head, flows, fault):
    with pytest.raises(StoryFault) as said:
        Story.parse(f"{head}\ncall from a to b", "a.call", flows=flows)
    assert str(said.value) == f"a.call:{fault}"


@pytest.mark.parametrize(
    ("value", "hint"), [("pan", "; did you mean 'pin'?"), ("x", "; there is: code, pin"), ("pin", None)]
)
def test_a_value_that_is_not_there_is_a_fault_of_its_line(value, hint):
    """Where it is known which ones there are."""
    text = f"call from a to b\npress {{{value}}}#{{code}}"
    assert Story.parse(text, "a.call").steps[1] == Step(Press(f"{{{value}}}#{{code}}"))
    if hint is None:
        Story.parse(text, "a.call", values=["pin", "code"])
        return
    with pytest.raises(StoryFault) as said:
        Story.parse(text, "a.call", values=["pin", "code"])
    assert str(said.value) == f"a.call:2: there is no value '{value}'{hint}"


def test_one_flow_alone_need_not_be_named():
    assert Story.parse("call from a to b", "a.call", flows=["bank"]).flow == ""


# ---- what a line may look like


@pytest.mark.parametrize(
    ("usage", "line", "filled"),
    [
        ("texted N", "texted 12", ("12",)),
        ("texted N", "texted many", None),
        ("redeem at NAME: LEVEL", "redeem at ann: two_factor", ("ann", "two_factor")),
        ("redeem at NAME: LEVEL", "redeem at ann two_factor", None),
        ("agents answer|busy", "agents busy", ("busy",)),
        ("agents answer|busy", "agents away", None),
        ("account ACCOUNT has FACTORS", "account 12 has pin totp", ("12", "pin totp")),
        ("account ACCOUNT has FACTORS", "account 12 has pin, totp", None),
        ("ivr PATH DIGITS TWIML", "ivr /menu 3* <Say>a  b</Say>", ("/menu", "3*", "<Say>a  b</Say>")),
        ("ivr PATH TWIML", "ivr /menu?x=1 <Say>a</Say>", None),
        ('say "WORDS"', r'say "a \"b\"  c"', ('a "b" c',)),
        ("wait DURATION", "wait 5m", ("5m",)),
        ("wait a.b", "wait axb", None),
    ],
)
def test_a_form_is_read_as_it_is_written(usage, line, filled):
    """Words in capitals stand for something; everything else stands for itself."""
    assert Form(usage).read(line) == filled


def test_a_document_that_is_none_is_a_fault_of_its_line():
    """Before anything is called."""
    with pytest.raises(StoryFault, match=r"^a\.call:2: this is no TwiML: close each tag"):
        Story.parse("call from a to b\nivr /menu <Say>A & B</Say>", "a.call", verbs=["ivr PATH TWIML"])


# ---- files


def test_a_story_is_a_small_text(tmp_path):
    """What cannot be read says why, with the name of the file."""
    path = tmp_path / "a.call"
    path.write_text(HEAD)
    assert load(path) == HEAD
    for data, why in (
        (b"#" * (STORY_BYTES_MAX + 1), "a story has 64 kB at most"),
        (b"\xff", "this is no text"),
    ):
        path.write_bytes(data)
        with pytest.raises(StoryFault, match=f"a.call:1: {why}"):
            load(path)
    with pytest.raises(StoryFault, match=r"b\.call:1: cannot be read: No such file or directory"):
        load(tmp_path / "b.call")


# ---- the same story again


_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
    lambda text: " ".join(text.split())
)
_texts = _words.filter(bool)
_addresses = st.from_regex(r"\+1[0-9]{10}|anonymous|sip:[a-z]+@[a-z]+", fullmatch=True)
_steps = st.one_of(
    st.builds(Call, _addresses, _addresses, st.sampled_from(["", "A", "B", "C"])),
    st.builds(Hear, _texts),
    st.builds(NotHear, _texts),
    st.builds(Say, _texts),
    st.builds(Press, st.from_regex(r"([0-9*#]|\{[a-z][a-z0-9_]*\})+", fullmatch=True)),
    st.builds(Plain, st.sampled_from(["silence", "hang up", "hung up", "agent answers", "agent hangs up"])),
    st.builds(Wait, st.integers(0, 999_999)),
    st.builds(
        Transferred, st.sampled_from(["enqueue", "workflow", "number", "queue"]), _texts, st.booleans()
    ),
    st.builds(Act, st.sampled_from(["redeem", "redeem as ada"])),
)


_moments = st.datetimes(MOMENT, MOMENT + timedelta(days=36_500)).map(
    lambda at: at.replace(second=0, microsecond=0)
)
_stories = st.builds(
    Story,
    st.sampled_from(["", "A title"]),
    st.lists(_steps.map(Step), max_size=8).map(tuple),
    flow=st.sampled_from(["", "bank"]),
    ivr=st.sampled_from(["", "stub", "bank"]),
    begins=st.none() | _moments,
)


@given(_stories)
def test_a_story_written_and_read_is_the_same_story(story):
    """Law 3, for every story that begins with a call."""
    begun = replace(story, steps=(Step(Call("a", "b")), *story.steps))

    assert begun == Story.parse(format(begun), "a.call", verbs=VERBS)


def test_every_fault_is_told_at_once_with_its_line():
    """A story is refused whole; misspelt verbs get a suggestion, the others their form."""
    text = "\n".join(
        [
            'hear "too early"',
            f"call from {CALLER}",
            'hera "x"',
            "press 12a#",
            "redeam it",
            "title of a play",
            'hear "open',
            "xyzzy",
            "wait 5 minutes",
            'transferred to pub "x"',
        ]
    )

    with pytest.raises(StoryFault) as fault:
        Story.parse(text, "flows/a.call", verbs=VERBS)

    assert str(fault.value).split("\n") == [
        "flows/a.call:1: nobody has called yet",
        "flows/a.call:2: it should read: call from NUMBER to NUMBER, or call from NUMBER to NUMBER attested A|B|C",
        "flows/a.call:3: there is no verb 'hera'; did you mean 'hear'?",
        "flows/a.call:4: it should read: press KEYS (KEYS: 0 to 9, *, # and {name})",
        "flows/a.call:5: there is no verb 'redeam'; did you mean 'redeem'?",
        "flows/a.call:6: there is no verb 'title'; did you mean 'title:'?",
        'flows/a.call:7: it should read: hear "WORDS" (WORDS: words in quotation marks)',
        "flows/a.call:8: there is no verb 'xyzzy'",
        ("flows/a.call:9: it should read: wait DURATION (DURATION: a number with s, m, h or d, such as 30m)"),
        (
            "flows/a.call:10: it should read: transferred to "
            'enqueue|workflow|number|client|sip|conference|queue "WORDS" (WORDS: words in quotation marks), '
            'or transferred to enqueue|workflow|number|client|sip|conference|queue "WORDS" with token '
            "(WORDS: words in quotation marks)"
        ),
    ]
