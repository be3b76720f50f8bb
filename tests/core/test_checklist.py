"""The checklist: CISA's fields, every one of which may be left out, and what may not be kept."""

from dataclasses import fields

import pytest

from ivrguard.core.checklist import (
    NAMES,
    TEXT_CHARS_MAX,
    WORDS_CHARS_MAX,
    Background,
    Checklist,
    Language,
    Placed,
    Sex,
    Voice,
    tidied,
)

FULL = Checklist(
    received="09:41",
    ended="09:44",
    called="+18005550100, extension 12",
    caller="+15551230001",
    exact_words="There is a bomb.\nYou have an hour.",
    when_explodes="in an hour",
    where_now="second floor",
    looks_like="a bag",
    kind="pipe",
    sets_off="a clock",
    placed=Placed.YES,
    why="my account",
    name="would not say",
    address="no",
    sex=Sex.MALE,
    age=45,
    familiar="nobody",
    voice=(Voice.CALM, Voice.ACCENT),
    accent="Scottish",
    background=(Background.STREET,),
    language=(Language.READ,),
    remarks="sounded tired",
    reported_to="ann",
)


def test_every_field_may_be_left_out_and_filled_in():
    """An empty one is kept as it is, and so is a full one; each field of CISA's has its place."""
    assert tidied(Checklist()) == Checklist()
    assert tidied(FULL) == FULL
    assert all(getattr(FULL, one.name) != one.default for one in fields(Checklist))
    assert len(NAMES) == 23


def test_the_published_answers_have_a_word_each():
    assert (len(Voice), len(Background), len(Language)) == (23, 13, 6)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (Checklist(kind="x" * (TEXT_CHARS_MAX + 1)), Checklist(kind="x" * TEXT_CHARS_MAX)),
        (Checklist(exact_words="x" * (WORDS_CHARS_MAX + 1)), Checklist(exact_words="x" * WORDS_CHARS_MAX)),
        (Checklist(why=" a\u202eb\ud800\tc\n"), Checklist(why="a b  c")),
        (Checklist(voice=(Voice.CALM, Voice.DEEP, Voice.CALM)), Checklist(voice=(Voice.CALM, Voice.DEEP))),
    ],
)
def test_nothing_is_refused(said, kept):
    """What cannot be seen is a blank, what is too long is cut, what stands twice stands once."""
    assert tidied(said) == kept
