"""The checklist: CISA's fields, every one of which may be left out, and what may not be kept."""

from dataclasses import fields

import pytest

from ivrguard.core.checklist import (
    AGE_MAX,
    LONG,
    NAMES,
    TEXT_CHARS_MAX,
    WORDS_CHARS_MAX,
    Background,
    Checklist,
    Language,
    Placed,
    Sex,
    Voice,
    unfit,
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
    """An empty one is fit; a full one is; each field of CISA's has its place."""
    assert unfit(Checklist()) == unfit(FULL) == ()
    assert all(getattr(FULL, one.name) != one.default for one in fields(Checklist))
    assert len(NAMES) == 23


def test_the_published_answers_have_a_word_each():
    assert (len(Voice), len(Background), len(Language)) == (23, 13, 6)


@pytest.mark.parametrize(
    ("checklist", "said"),
    [
        (Checklist(kind="x" * (TEXT_CHARS_MAX + 1)), "kind: 301 characters; at most 300 are kept"),
        (Checklist(exact_words="x" * (WORDS_CHARS_MAX + 1)), "exact_words: 4001 characters; at most 4000"),
        (Checklist(why="a\u202eb"), "why: there is an invisible character in it"),
        (Checklist(voice=(Voice.CALM, Voice.CALM)), "voice: something stands in it twice"),
        (Checklist(age=AGE_MAX + 1), "age: from 0 to 120 years"),
        (Checklist(age=-1), "age: from 0 to 120 years"),
    ],
)
def test_what_may_not_be_kept_is_told_by_its_field(checklist, said):
    (line,) = unfit(checklist)
    assert line.startswith(said)


def test_what_may_be_long_is():
    assert unfit(Checklist(**dict.fromkeys(LONG, "x" * WORDS_CHARS_MAX))) == ()
