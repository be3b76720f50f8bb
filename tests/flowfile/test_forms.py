"""What may stand under a key: forms, durations, URLs."""

import re
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Locks, Sends
from ivrguard.flowfile import forms
from ivrguard.flowfile.forms import Glob, Number, Word, in_clear, loopback, origin, seconds, spoken

WORDS = {name: form for name, form in vars(forms).items() if isinstance(form, Word)}


@pytest.mark.parametrize("name", sorted(WORDS))
def test_every_pattern_is_one_and_fits_its_example(name):
    """What is wanted shows how it looks, and that can be read."""
    form = WORDS[name]
    shown = re.findall(r"such as \"?(.*?)\"?(?:$|,| or | without)|\"(\+[0-9]+)\"", form.wanted)
    examples = [one for pair in shown for one in pair if one]

    assert re.compile(form.pattern)
    assert [one for one in examples if not form.accept(one)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("10m", 600),
        ("24h", 86_400),
        ("7d", 604_800),
        ("0s", 0),
        ("10", None),
        ("1.5h", None),
        ("1w", None),
    ],
)
def test_durations(text, expected):
    """A number and a unit."""
    assert seconds(text) == expected


@given(st.integers(0, 10_000_000))
def test_a_duration_is_spoken_as_it_is_read(duration_s):
    """In the largest unit that fits, and back. More than six digits are never written."""
    if len(spoken(duration_s)) <= 7:
        assert seconds(spoken(duration_s)) == duration_s


@pytest.mark.parametrize(
    ("duration_s", "expected"), [(0, "0s"), (90, "90s"), (600, "10m"), (7200, "2h"), (86_400, "1d")]
)
def test_durations_are_spoken_in_the_largest_unit(duration_s, expected):
    assert spoken(duration_s) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/**", True),
        ("/*/*/*/*", True),
        ("/*/*/*/*/*", False),
        ("/????", True),
        ("/?????", False),
        ("/" + "a" * 199, True),
        ("/" + "a" * 200, False),
    ],
)
def test_globs_are_bounded(text, expected):
    """In length and in wildcards: a run of stars is one."""
    assert (Glob("/.*", "a path").accept(text) is not None) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://ivr.example/voice", "https://ivr.example"),
        ("HTTPS://IVR.Example:8443/a", "https://ivr.example:8443"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("https://ivr.example/a?b=c", "https://ivr.example"),
        ("ftp://ivr.example", None),
        ("https:///voice", None),
        ("https://u@ivr.example", None),
        ("https://ivr.example/#a", None),
        ("https://ivr.example/a b", None),
        ("https://ivr.example:port", None),
        ("https://[::1", None),
        ("https://bücher.example", None),
        ("", None),
    ],
)
def test_origins(url, expected):
    """In one spelling; none for a URL that the guard may not follow."""
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "clear", "here"),
    [
        ("https://a.example/x", False, False),
        ("http://a.example/x", True, False),
        ("http://localhost:5000/x", False, True),
        ("http://127.0.0.1/x", False, True),
        ("https://[::1]/x", False, True),
    ],
)
def test_what_goes_unencrypted(url, clear, here):
    """On the machine itself it may."""
    assert (in_clear(url), loopback(url)) == (clear, here)


def test_defaults_are_those_of_the_core_and_lie_in_their_bounds():
    """A file adds none of its own."""
    locks = Locks()

    assert forms.SENDS_PER_CALL.default == Sends().per_call
    assert (forms.FAILURES.default, forms.LIFETIME.default) == (
        locks.account.failures,
        locks.account.lifetime,
    )
    assert forms.FAILURES_WITHIN.default_s == locks.account.within_s
    for form in vars(forms).values():
        if isinstance(form, Number):
            assert form.low <= form.default <= form.high
        if isinstance(form, forms.Duration):
            assert form.low_s <= form.default_s <= form.high_s


def test_what_is_needed_is_a_key():
    """No example of a key that is not there."""
    for name, needed in vars(forms).items():
        if name.endswith("_NEEDED") and name != "FACTOR_NEEDED":
            assert needed.keys() <= {*getattr(forms, name.replace("_NEEDED", "_KEYS"))}, name
            assert all(example.startswith(f"{key}: ") for key, example in needed.items())
    for kind in Kind:
        assert forms.FACTOR_NEEDED[kind].keys() <= {*forms.FACTOR_KEYS[kind]}


def test_every_time_zone_has_the_form_of_one():
    """The form keeps out what is no name; it must not keep out a zone."""
    assert {zone for zone in zoneinfo.available_timezones() if not forms.TIMEZONE.match(zone)} == set()
