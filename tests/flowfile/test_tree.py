"""YAML, strictly: what is read as text with places, and what is not read at all."""

import errno

import pytest

from ivrguard.flowfile.forms import (
    DEPTH_MAX,
    ENTRIES_MAX,
    KEYS,
    NAME,
    NODES_MAX,
    SIZE_BYTES_MAX,
    Duration,
    Number,
)
from ivrguard.flowfile.tree import Claim, Fault, Reader, unreadable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1 the file is empty"),
        ("# nothing\n", "1:1 the file is empty"),
        ("flow", "1:1 here is 'flow'; what is wanted: a mapping, with a key at the start of each line"),
        ("- flow\n", "1:1 here is a list; what is wanted: a mapping"),
        ("flow: [a\n", "2:1 this is not YAML: "),
        ("a: b: c\n", "1:5 this is not YAML: "),
        ("%YAML 9.9\n---\na: b\n", "1:1 this is not YAML: "),
        ("flow: a\n---\nflow: b\n", "2:1 a second document begins here; one file, one document"),
        ("a:\n\tb: c\n", "2:1 a tab in the indentation; use blanks"),
        ("a:\n  \tb: c\n", "2:3 a tab in the indentation"),
        (b"a: b\nc: \xff\n", "2:4 this is not UTF-8; save the file as UTF-8"),
        (b"a: \xc3\xa4\xff\n", "1:5 this is not UTF-8"),
        ("a: b\nc: \x07\n", "2:4 the character U+0007 may not stand in a flow"),
        ("a: b\rc: d\n", "1:5 the character U+000D may not stand in a flow"),
        ("a: b\u2028c: d\n", "1:5 the character U+2028 may not stand in a flow"),
        ("? {a: b}\n: c\n", "1:3 a key must be a word"),
        ("? [a]\n: c\n", "1:3 a key must be a word"),
        ("[" * (DEPTH_MAX + 2), "1:14"),
        ("[" + "a," * NODES_MAX + "a]", f"1:{2 * NODES_MAX}"),
        ("a" * (SIZE_BYTES_MAX + 1), "1:1 the file is larger than 256 kB; is it a flow?"),
    ],
)  # fmt: skip
def test_files_that_are_no_flow(files, text, expected):
    """One place, and what is wrong there."""
    assert files.only(text).startswith(expected)


def test_deep_and_large_files_are_named_as_what_they_are(files):
    """Bounds are part of the message."""
    assert "more than 12 levels deep" in files.only("[" * 10_000)
    assert "more than 20000 nodes" in files.only("[" + "a," * NODES_MAX + "a]")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("flow: small", "flow: &a small", "1:7 flow: anchors (&) and aliases (*) are not read"),
        ("digits: 8", "digits: *a", "5:36 factors.pin.digits: anchors (&) and aliases (*) are not read"),
        ("flow: small", "flow: !!str small", "1:7 flow: tags (!) are not read"),
        ("upstream: {", "upstream: !ivr {", "3:11 upstream: tags (!) are not read"),
        ("upstream: {", "upstream: &a {", "3:11 upstream: anchors (&)"),
        ("levels: {one", "levels: {*a : pin, one", "6:10 levels: anchors (&)"),
        ("flow: small", 'flow: "sma\\x07ll"', "1:7 flow: there is an invisible character in this text"),
        ("flow: small", "flow: sma\u200bll", "1:7 flow: there is an invisible character"),
        ("flow: small\n", "flow: small\nflow: big\n", "2:1 flow: this key stands twice, first at 1:1; take one out"),
        ("min: 6, ", "min: 6, min: 7, ", "4:50 identify.digits.min: this key stands twice, first at 4:42"),
    ],
)  # fmt: skip
def test_what_yaml_could_do_besides(files, old, new, expected):
    """No anchors, tags, doubled keys and invisible characters; each is reported where it stands."""
    assert files.faults(files.small_text.replace(old, new))[0].startswith(expected)


def test_a_merge_key_is_a_key_like_any_other(files):
    """`<<` merges nothing."""
    assert "factors.pin.<<: unknown key '<<'" in files.only(
        files.small_text.replace("digits: 8", "digits: 8, <<: {a: b}")
    )


def test_windows_line_ends_and_a_byte_order_mark_are_no_fault(files):
    """Editors write them; places stay where editors see them."""
    data = (
        b"\xef\xbb\xbf"
        + files.small_text.replace("\n", "\r\n").replace("require: one}", "require: on}").encode()
    )

    assert files.only(data) == "10:20 default.require: there is no level 'on'; did you mean 'one'?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'ä😀': 1, b: *c}", "1:14 b: anchors (&)"),
        ("'ä😀': {a: [}\n", "1:12 this is not YAML"),
        ('"ä😀": \x07\n', "1:7 the character U+0007"),
        ("{", "1:2 this is not YAML"),
        ("a: '\n", "2:1 this is not YAML"),
    ],
)
def test_places_count_characters_and_lie_in_the_file(files, text, expected):
    """Not bytes, not halves of characters, and no line behind the last one."""
    assert [one[: len(expected)] for one in files.faults(text) if one.startswith(expected)] == [expected]


def test_long_lists_are_bounded(files):
    """A list that is read in part is a fault."""
    rules = "".join(f"  - {{path: /{at}, require: two}}\n" for at in range(ENTRIES_MAX))
    found = files.faults(files.small_text.replace("  - {path: /x", rules + "  - {path: /x"))

    assert found == [f"8:3 rules: {ENTRIES_MAX + 2} entries; at most {ENTRIES_MAX} are read"]


# ── nodes to values ──────────────────────────────────────────────────────────────────────────────────────

COLOURS = {"red": 1, "green": 2}
READINGS = {
    "word": lambda reader, node: reader.word(node, NAME, "none"),
    "choice": lambda reader, node: reader.choice(node, COLOURS, 0),
    "number": lambda reader, node: reader.number(node, Number(2, 10, 3)),
    "duration": lambda reader, node: reader.duration(node, Duration(60, 3600, 120)),
    "pattern": lambda reader, node: reader.pattern(node, KEYS),
    "items": lambda reader, node: len(reader.items(node, "colours", 2)),
    "named": lambda reader, node: [*reader.named(node, "colours")],
    "fields": lambda reader, node: [*reader.fields(node, ("red", "green"), needed={"red": "red: 1"})],
}


@pytest.mark.parametrize(
    ("how", "text", "value", "fault"),
    [
        ("word", "pin", "pin", ""),
        ("word", "1st", "none", "here is '1st'; what is wanted: a name begins with a letter"),
        ("word", "", "none", "here is nothing; what is wanted: a name"),
        ("choice", "red", 1, ""),
        ("choice", "rd", 0, "'rd' is not known here; did you mean 'red'?"),
        ("choice", "''", 0, "here is nothing; what is wanted: red or green"),
        ("choice", "[red]", 0, "here is a list; what is wanted: red or green"),
        ("number", "10", 10, ""),
        ("number", "11", 3, "here is '11'; what is wanted: a number from 2 to 10"),
        ("number", "+5", 3, "here is '+5'"),
        ("number", "5.0", 3, "here is '5.0'"),
        ("duration", "60m", 3600, ""),
        ("duration", "61m", 120, "here is '61m'; what is wanted: a duration from 1m to 1h, such as"),
        ("duration", "90", 120, "here is '90'"),
        ("pattern", '"1*#"', "1*#", ""),
        ("pattern", "'*1*1*1*1*'", None, "here is '*1*1*1*1*'; what is wanted: keys"),
        ("items", "[red, green]", 2, ""),
        ("items", "[red, green, red]", 2, "3 entries; at most 2 are read"),
        ("items", "[]", 0, "the list is empty; what is wanted: colours"),
        ("items", "red", 0, "here is 'red'; what is wanted: a list of colours"),
        ("named", "{pin: 1, code: 2}", ["pin", "code"], ""),
        ("named", "{1st: 1}", ["1st"], "'1st' is no name; a name begins with a letter"),
        ("named", "pin", [], "here is 'pin'; what is wanted: a mapping of names to colours"),
        ("fields", "{red: 1, green: 2}", ["red", "green"], ""),
        ("fields", "{green: 2}", ["green"], "this key is missing; add `red: 1`"),
        ("fields", "{red: 2, blue: 1}", ["red", "blue"], "unknown key 'blue'; known: green, red"),
        ("fields", "{red: 2, gren: 1}", ["red", "gren"], "unknown key 'gren'; did you mean 'green'?"),
        ("fields", "red", [], "here is 'red'; what is wanted: a mapping with the keys red, green"),
    ],
)
def test_readings(how, text, value, fault):
    """The value, or what the key is without one, and the fault that says what is wanted."""
    reader = Reader("f.yaml")
    root = reader.tree(f"key: {text}\n".encode())

    assert READINGS[how](reader, root.of["key"]) == value
    assert len(reader.faults) == bool(fault)
    assert all(one.message.startswith(fault) for one in reader.faults)


@pytest.mark.parametrize("how", sorted(READINGS))
def test_what_is_not_there_or_told_already_is_no_fault(how):
    """A key may be left out, and an alias has had its fault."""
    reader = Reader("f.yaml")
    root = reader.tree(b"key: *a\n")
    (told,) = reader.faults
    usual = READINGS[how](reader, None)

    assert READINGS[how](reader, root.of["key"]) == usual
    assert reader.faults == [told]


def test_faults_doubts_and_claims_carry_their_place():
    """A doubt spoils nothing; a place that is not there is that of its nearest parent."""
    reader = Reader("f.yaml")
    reader.tree(b"rules:\n  - path: /x\n")
    reader.doubt(reader.spot(("rules", 0, "path")), "is that so?")
    reader.fault(reader.spot(("rules", 0, "require")), "it is missing")
    reader.claim(reader.spot(("rules",)), "the rules")

    assert reader.doubts == [Fault("f.yaml", 2, 11, "rules[0].path", "is that so?")]
    assert reader.faults == [Fault("f.yaml", 2, 5, "rules[0].require", "it is missing")]
    assert reader.claims == [Claim("the rules", "f.yaml", 2, 3, "rules")]
    assert reader.tainted == {("rules", 0, "require")}
    assert str(reader.faults[0]) == "f.yaml:2:5: rules[0].require: it is missing"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EACCES, "Permission denied"), "cannot be read: Permission denied"),
        (TimeoutError(), "cannot be read: TimeoutError"),
    ],
)
def test_files_that_cannot_be_read(error, expected):
    """In the system's words, or by the error's name."""
    assert unreadable(error) == expected
