"""Lists that are no secret: what is written, what is read, and which entry is at fault."""

import pytest

from ivrguard.core.insiders import Sign
from ivrguard.core.rules import Hours
from ivrguard.core.sense import Threshold
from ivrguard.settings.lists import minutes, origins, roles, shifts, signs, words


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


def test_signs():
    """What is not named is as usual; `off` is not looked for."""
    assert signs("") == {}
    assert signs("no_call=20 in 1d; off_queue = off;look_ups=5 in 2h;") == {
        Sign.NO_CALL: Threshold(20, 86_400),
        Sign.OFF_QUEUE: None,
        Sign.LOOK_UPS: Threshold(5, 7200),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nocall=20 in 1d", "entry 1 is about none of no_call, "),
        ("off_queue=off;no_call=20", "entry 2 says neither off nor so many in a time"),
        ("no_call=0 in 1d", "entry 1 says neither"),
        ("no_call=1 in 31d", "entry 1 says neither"),
        ("no_call=1001 in 1d", "entry 1 says neither"),
    ],
)
def test_signs_that_are_none(text, said):
    with pytest.raises(ValueError, match=said):
        signs(text)


def test_shifts():
    """A time zone first, or UTC; then globs and hours, over midnight too."""
    weekdays = Hours(frozenset(range(5)), 420, 1200)
    assert shifts("") == ("UTC", ())
    assert shifts("mon-fri 07:00-20:00") == ("UTC", (("*", weekdays),))
    assert shifts("Europe/Berlin; night-*=sat-mon 20:00-06:00; mon-fri 07:00-20:00") == (
        "Europe/Berlin",
        (("night-*", Hours(frozenset({5, 6, 0}), 1200, 360)), ("*", weekdays)),
    )
    assert shifts("sun 00:00-24:00")[1] == (("*", Hours(frozenset({6}), 0, 1440)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Europe/Berlim;mon-fri 07:00-20:00", "entry 1 is neither a shift nor a time zone"),
        ("mon-fri 07:00-20:00;mon 7-8", "shift 2 is none"),
        ("ann=mon-fri 07:00-07:00", "shift 1 is none"),
        ("ann=mon-fri 24:30-07:00", "shift 1 is none"),
        ("ann=mon-fry 07:00-08:00", "shift 1 is none"),
    ],
)
def test_shifts_that_are_none(text, said):
    with pytest.raises(ValueError, match=said):
        shifts(text)


def test_origins_are_schemes_and_hosts():
    """Whoever may show our pages in a frame is named exactly; a path would mean nothing to a browser."""
    assert origins("https://flex.twilio.com/, https://crm.bank.example") == (
        "https://flex.twilio.com",
        "https://crm.bank.example",
    )
    for wrong in ("https://crm.bank.example/app", "http://crm.bank.example", "*", "crm.bank.example"):
        with pytest.raises(ValueError, match=r"host|https|URL"):
            origins(wrong)
