"""A small file and its lines; what they become, and their faults with their places: test_init.py."""

import pytest

from ivrguard.settings.flat import NotFlatError, read, words


def test_words_are_texts_with_their_lines():
    """No `no` that is False, no number that loses its zeros."""
    assert list(words("port: 08\n# a remark\nwatch_flows: no\n")) == [
        ("port", 1),
        ("08", 1),
        ("watch_flows", 3),
        ("no", 3),
    ]
    assert list(words("")) == []


@pytest.mark.parametrize("text", ["- a", "a: [b]", "a: {b: c}", "a: &x b", "a: !!str b", "word"])
def test_nothing_else_is_read(text):
    with pytest.raises(NotFlatError) as fault:
        list(words(text))
    assert (fault.value.line, fault.value.why[:10]) == (1, "only lines")


def test_the_first_line_that_is_no_yaml_is_named():
    with pytest.raises(NotFlatError) as fault:
        list(words("a: b\nc: 'd\n"))
    assert fault.value.why.startswith("this is not YAML")


def test_a_file_is_text_or_says_why_not(tmp_path):
    """Its words are never in what is said."""
    path = tmp_path / "file"
    assert read(path) == ("", "cannot be read: No such file or directory")
    for data, expected in [
        ("a: b".encode("utf-8-sig"), ("a: b", "")),
        (b" \n", (" \n", "is empty")),
        (b"\xff", ("", "is not UTF-8; save it as UTF-8")),
    ]:
        path.write_bytes(data)
        assert read(path) == expected
