"""The section `threats`: a table of what is written and what is listened for, or what is told to mend."""

import pytest

from ivrguard.flowfile import threats


def written(files, section):
    return files.reading(f"{files.small_text}\nthreats: {section}\n")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{phrases: [There's a BOMB!, blow it up]}", (" theres a bomb ", " blow it up ")),
        (
            "{phrases: ['Ich werde schie\u00dfen', 'a  gun -- here']}",
            (" ich werde schiessen ", " a gun here "),
        ),
    ],
)
def test_what_is_listened_for(files, section, expected):
    """Words between blanks: case, signs and apostrophes aside."""
    found = written(files, section)
    assert found.flow.phrases == expected
    assert found.doubts == ()


def test_without_the_section_nothing_is_listened_for(files):
    assert files.reading(files.small_text).flow.phrases == ()


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", "threats.phrases: this key is missing; add `phrases: [there is a bomb]`"),
        ("{phrases: []}", "threats.phrases: the list is empty"),
        (
            "{phrases: there is a bomb}",
            "threats.phrases: here is 'there is a bomb'; what is wanted: a list of",
        ),
        (
            "{phrases: [abc]}",
            "threats.phrases[0]: here is 'abc'; what is wanted: words that a caller may say",
        ),
        ("{phrases: ['--- a !']}", "threats.phrases[0]: here is '--- a !'"),
        ("{phrases: [a bomb, A  BOMB]}", "threats.phrases[1]: 'a bomb' stands twice, case and signs aside"),
        ("{phrase: [a bomb]}", "threats.phrase: unknown key 'phrase'; did you mean 'phrases'?"),
    ],
)
def test_what_is_told_to_mend(files, section, expected):
    """At its place, with what may stand there."""
    *_, fault = written(files, section).faults
    assert expected in f"{fault.path}: {fault.message}"


def test_one_word_is_a_doubt(files):
    """Callers say it who threaten nobody; it is listened for all the same."""
    found = written(files, "{phrases: [bomb]}")
    assert found.flow.phrases == (" bomb ",)
    (doubt,) = found.doubts
    assert "'bomb' is one word" in str(doubt)


def test_the_table_is_whole():
    assert set(threats.shape()["properties"]) == set(threats.KEYS)
