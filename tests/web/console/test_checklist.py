"""CISA's checklist as a form, there and back: what was filled in is what is kept, and what cannot be kept is not lost."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.checklist import (
    AGE_MAX,
    TEXT_CHARS_MAX,
    Background,
    Checklist,
    Language,
    Placed,
    Sex,
    Voice,
)
from ivrguard.web.console import words
from ivrguard.web.console.checklist import asked, read, sent_of

FULL = Checklist(
    exact_words="there is one\nin the lobby",
    where_now="the lobby",
    placed=Placed.NOT_SAID,
    sex=Sex.UNSURE,
    age=40,
    voice=(Voice.CALM, Voice.DEEP),
    background=(Background.STREET,),
    language=(Language.TAPED,),
)


def test_every_field_is_asked_for():
    """In the order of a talk; each has a label."""
    assert set(words.QUESTIONS) == {one.name for one in fields(Checklist)}
    assert [one.name for one in asked({})][:2] == ["exact_words", "when_explodes"]


texts = st.text(st.characters(categories=("L", "N", "P")), max_size=20)


@given(
    st.builds(
        Checklist,
        exact_words=texts,
        when_explodes=texts,
        placed=st.sampled_from([None, *Placed]),
        sex=st.sampled_from([None, *Sex]),
        age=st.none() | st.integers(0, AGE_MAX),
        voice=st.lists(st.sampled_from(Voice), unique=True).map(tuple),
        remarks=texts,
    )
)
def test_there_and_back(checklist):
    """Whatever was kept comes back from its own form unchanged."""
    assert read(sent_of(checklist)) == checklist


def test_what_was_answered_stands_in_the_form():
    shown = {one.name: one for one in asked(sent_of(FULL))}
    assert shown["exact_words"].value == FULL.exact_words
    assert shown["age"].value == "40"
    assert [one.label for one in shown["voice"].choices if one.taken] == ["calm", "deep"]
    assert [one.value for one in shown["placed"].choices if one.taken] == ["not_said"]
    assert (shown["voice"].form, shown["placed"].form, shown["exact_words"].form) == ("some", "one", "long")


@pytest.mark.parametrize(
    ("name", "sent", "says"),
    [
        ("age", ["forty"], words.NOT_ONE_OF_THESE),
        ("sex", ["x"], words.NOT_ONE_OF_THESE),
        ("voice", ["calm", "x"], words.NOT_ONE_OF_THESE),
        ("age", ["200"], words.NOT_ONE_OF_THESE),
        ("age", ["-1"], words.NOT_ONE_OF_THESE),
    ],
)
def test_what_cannot_be_kept_says_what_to_mend(name, sent, says):
    wrong = read({name: sent})
    assert isinstance(wrong, tuple)
    assert says in wrong[0]


def test_lines_and_blanks_are_read_as_browsers_send_them():
    """CR LF between lines; blanks around an answer are nobody's."""
    assert read({"exact_words": [" one\r\ntwo "], "why": ["  "]}) == Checklist(exact_words="one\ntwo")
    assert read({"where_now": ["x" * (TEXT_CHARS_MAX + 1)]}) == Checklist(where_now="x" * TEXT_CHARS_MAX)
