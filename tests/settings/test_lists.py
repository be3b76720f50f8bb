"""Lists that are no secret: what is written, what is read, and which entry is at fault."""

import pytest

from ivrguard.settings.lists import minutes, roles, words


def test_what_is_read():
    """Commas, blanks, semicolons and lines between entries."""
    assert minutes("2, 5;10") == (2, 5, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "here are 0 times"),
        ("1,2,3,4,5,6,7,8,9,10,11", "here are 11 times; what is wanted: 1 to 10"),
        ("2,2", "entry 2 is no number of minutes above 2"),
        ("0", "entry 1 is no number of minutes above 0"),
        ("5,1441", "entry 2 is no number of minutes above 5, up to 1440"),
        ("2m", "entry 1 is no number"),
    ],
)
def test_times_that_are_none(text, said):
    with pytest.raises(ValueError, match=said):
        minutes(text)


def test_roles_are_by_the_value_of_a_claim():
    """Which may be a whole name of a directory, with `=` in it."""
    assert roles("cn=a,dc=b=agent; risk team = risk;") == {"cn=a,dc=b": "agent", "risk team": "risk"}
    assert roles(" ; ") == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("agents", "is not <value>="),
        ("=agent", "is not <value>="),
        ("x=boss", "is not <value>="),
        ("a=risk", "already"),
    ],
)
def test_what_is_no_role_is_a_fault(entry, said):
    with pytest.raises(ValueError, match=f"entry 2 .*{said}"):
        roles(f"a=agent;{entry}")


def test_words_have_blanks_between():
    assert words(" a  b ") == ("a", "b")
