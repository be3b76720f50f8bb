"""Forms as JSON Schema: the shape accepts what the form accepts."""

import jsonschema
import pytest

from ivrguard.flowfile import forms, shapes


def accepts(shape, value):
    return jsonschema.Draft202012Validator(shape).is_valid(value)


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (shapes.word(forms.NAME), ["bank", "a-1"], ["1st", "", "a b", " a", "a" * 41, 1, None]),
        (shapes.word(forms.DIALLED_NUMBER), ["+18005550100", "*", "client:a"], ["18005550100", "**", "+1 800 5550100"]),
        (shapes.word(forms.PATH), ["/", "/a/**", "/*/*/*/*"], ["a", "/a/", "/*/*/*/*/*", "/" + "a" * 200, "/a#b"]),
        (shapes.phone_keys(forms.KEYS), ["3", "1*#", 3, 0], ["three", -1, 1.5]),
        (shapes.phone_keys(forms.KEY, 9), ["2", 2], ["12", 12, "#"]),
        (shapes.number(forms.TRIES), [1, 10], [0, 11, "3", 1.5, True]),
        (shapes.number(forms.PIN_DIGITS, 4), [4, 16], [3, 17]),
        (shapes.duration(forms.WITHIN, "Age"), ["5m", "90s"], ["5", 5, "5 m", "m"]),
        (shapes.choice(forms.METHODS), ["GET"], ["PUT", "get"]),
        (shapes.choice(forms.BOOL.keys()), [True, False], ["true", 1]),
        (shapes.items({"type": "string"}, 2), [["a"], ["a", "b"]], [[], ["a", "b", "c"], "a", [1]]),
        (shapes.named({"type": "string"}), [{"a": "b"}, {}], [{"1": "b"}, {"a": 1}]),
        (shapes.fields(("a",), {"a": {"type": "string"}}, ("a",)), [{"a": "b"}], [{}, {"a": 1}, {"a": "b", "c": 1}]),
        (shapes.fields(("a",), {"a": {"type": "string"}}), [{}], [{"b": "b"}, []]),
        ({"oneOf": shapes.one_of_keys(("a", "b"))}, [{"a": 1}, {"b": 1}], [{}, {"a": 1, "b": 1}]),
    ],
)  # fmt: skip
def test_shapes(shape, good, bad):
    """Each takes what it should, and nothing else."""
    assert [value for value in good if not accepts(shape, value)] == []
    assert [value for value in bad if accepts(shape, value)] == []


@pytest.mark.parametrize(
    ("default", "example", "words"),
    [
        (None, None, "What it is."),
        (3, 5, "What it is. Default: 3. Example: 5"),
        (True, False, "What it is. Default: true. Example: false"),
        ("10m", "/menu", "What it is. Default: 10m. Example: /menu"),
        (None, "+1800*", 'What it is. Example: "+1800*"'),
        (None, ["30m", {"min": 6}], "What it is. Example: [30m, {min: 6}]"),
        (None, 0.001, "What it is. Example: 0.001"),
    ],
)
def test_what_is_said_of_a_key(default, example, words):
    """Its default and an example, as they stand in a flow file; and as JSON Schema says them."""
    said = shapes.key({"type": "string"}, "What it is", default=default, example=example)

    assert said.pop("description") == words
    assert said.pop("default", None) == default
    assert said.pop("examples", [None]) == [example]
    assert said == {"type": "string"}


def test_no_key_is_forgotten():
    """The keys of a table and what is said of them are the same ones."""
    with pytest.raises(AssertionError):
        shapes.fields(("a", "b"), {"a": {}})
