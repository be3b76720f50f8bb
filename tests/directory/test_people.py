"""Files of accounts: what a row says, every fault with its line, and no value in any of them."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.directory import people
from ivrguard.directory.people import Checks, Person, Read, read

SECRET = "24681357"
APP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
HOME, WORK = "+18005550142", "+442079460000"


def unlucky(text: str) -> str | None:
    """A check of the tests' own: what has a 13 in it is no good."""
    return "it holds a 13" if "13" in text and text != SECRET else None


def seen(text: str | bytes, name: str = "people", region: str | None = None) -> Read:
    data = text if isinstance(text, bytes) else text.encode()
    return read(io.BytesIO(data), name, Checks(unlucky, unlucky, region))


def faults(text: str | bytes) -> list[str]:
    """The faults of a file, without its name."""
    return [fault.removeprefix("people:") for fault in seen(text).faults]


# ── what a row says ──────────────────────────────────────────────────────────────────────────────────────

WHOLE = Person(2, "AB12", (HOME, WORK), SECRET, HOME, APP, "es-US", True)


@pytest.mark.parametrize(
    ("header", "row", "person"),
    [
        ("account", "ab-12", Person(2, "AB12")),
        (
            "account,numbers,pin,sms,totp,language,disabled",
            f"ab 12,+1 800 555 0142|{WORK},{SECRET},{HOME},{APP},es-US,true",
            WHOLE,
        ),
        ("pin;account", f"{SECRET};7", Person(2, "7", pin=SECRET)),
        ("account\tlanguage", "7\ten", Person(2, "7", language="en")),
        ('"account","numbers"', f'"0042","{HOME}"', Person(2, "0042", (HOME,))),
        (" account , disabled ", " 7 , No ", Person(2, "7", disabled=False)),
        ("account,pin,sms", "7,,", Person(2, "7")),
        ("account,enrolled", "7,whatever", Person(2, "7")),
    ],
)
def test_a_row_of_a_csv(header: str, row: str, person: Person) -> None:
    """Columns in any order, parted by comma, semicolon or tab; what a cell leaves out is not said."""
    assert seen(f"{header}\n{row}\n") == Read((person,))


@pytest.mark.parametrize(
    ("row", "person"),
    [
        ({"account": "ab-12"}, Person(1, "AB12")),
        (
            {
                "account": "AB12",
                "numbers": ["+1 800 555 0142", WORK],
                "pin": SECRET,
                "sms": HOME,
                "totp": APP,
                "language": "es-US",
                "disabled": True,
            },
            Person(1, *[getattr(WHOLE, name) for name in WHOLE.__slots__[1:]]),
        ),
        ({"account": "7", "numbers": f"{HOME}|{WORK}"}, Person(1, "7", (HOME, WORK))),
        ({"account": "7", "numbers": []}, Person(1, "7", ())),
        ({"account": "7", "numbers": None, "pin": None, "sms": ""}, Person(1, "7")),
        ({"account": "7", "disabled": False, "enrolled": ["pin"]}, Person(1, "7", disabled=False)),
        ({"account": "7", "disabled": "yes"}, Person(1, "7", disabled=True)),
    ],
)
def test_a_row_of_json_lines(row: dict[str, Any], person: Person) -> None:
    """The same keys; an empty array of numbers says that there are none, null says nothing."""
    assert seen(json.dumps(row)) == Read((person,))


@pytest.mark.parametrize(
    "text",
    [
        "account\n1\n2\n",
        "account\r\n1\r\n2\r\n",
        "\ufeffaccount\n1\n2",
        "\n \n,,\naccount\n1\n\n,,\n;\n2\n\n",
        '\ufeff{"account": "1"}\n\n  {"account": "2"}',
    ],
)
def test_blank_lines_line_ends_and_the_byte_order_mark_do_not_matter(text: str) -> None:
    assert [one.account for one in seen(text).people] == ["1", "2"]


def test_numbers_without_a_plus_need_a_country() -> None:
    """As on the command line."""
    file = "account,numbers\n7,(415) 555-2671\n"
    assert seen(file, region="US").people == (Person(2, "7", ("+14155552671",)),)
    assert faults(file)[0].startswith("2: numbers: not a telephone number: write the number in")


def test_whoever_reads_is_told_how_far_he_is() -> None:
    """In bytes, after each line, up to all of them."""
    text, told = "account\n1\n22\n", []
    read(io.BytesIO(text.encode()), "people", Checks(unlucky, unlucky), tell=told.append)
    assert told == [8, 10, 13]


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("acount\n7", ["1: column 1: there is no column 'acount'; did you mean 'account'?"]),
        ("account,Pin\n7,1", ["1: column 2: there is no column 'Pin'; did you mean 'pin'?"]),
        ("account,pin,pin\n7,1,1", ["1: the header names a column twice"]),
        ("numbers,pin\n1,1", ["1: the header has no column `account`"]),
        ("account,pin\n7", ["2: 1 cells, and 2 columns in the header"]),
        ("account\n7,8", ["2: 2 cells, and 1 columns in the header"]),
        ('account\n"7', ["2: a quote is not closed, or stands within a cell"]),
        ('account\n"7"8', ["2: a quote is not closed, or stands within a cell"]),
        ("account,pin\n,1", ["2: account: every row needs one"]),
        ("account\n7\n8\n 7 \n7", ["4: account: it stands in line 2 already", "5: account: it stands in line 2 already"]),
        ("account\n7%", ["2: account: an account's id is made of the letters A to Z and the digits 0 to 9"]),
        ("account,pin\n7,1313", ["2: pin: it holds a 13"]),
        ("account,totp\n7,1313", ["2: totp: it holds a 13"]),
        ("account,language\n7,spanish!", ["2: language: not a language tag: write one such as en-US"]),
        ("account,disabled\n7,perhaps", ["2: disabled: write true or false"]),
        (f"account,numbers\n7,{HOME}|{HOME}", ["2: numbers: a number stands there twice"]),
        (f"account,numbers\n7,{HOME}|", ["2: numbers: not a telephone number: write the number in international form, like +1 800 555 0100"]),
        ("account\n\x007", ["2: account: an account's id is made of the letters A to Z and the digits 0 to 9"]),
        (b"account\n7\xff", ["2: byte 2 is not UTF-8: save the file as UTF-8"]),
        ("account\n7".encode("utf-16"), ["1: this is UTF-16: save the file as UTF-8"]),
        ('{"account": 7}', ['1: account: write it as text, in quotes ("0042"): a number loses its leading zeros']),
        ('{"account": "7", "numbers": {}}', ['1: numbers: write the numbers as an array of texts (["+18005550100"]), or one text']),
        ('{"account": "7", "disabled": 1}', ["1: disabled: write true or false"]),
        ('{"account": "7", "account": "8"}', ["1: a key stands there twice"]),
        ('{"account": "7", "pni": "1"}', ["1: there is no column 'pni'; did you mean 'pin'?"]),
        ('{"account": "7"', ["1: not JSON, from sign 16 on"]),
        ('{"account": "7"}\n7', ["2: not a JSON object with a person's columns"]),
        ('{"account": "7"}\n' + "[" * 8000, ["2: not a JSON object with a person's columns"]),
        ('[{"account": "7"}]', ["1: this is a JSON array: write one object a line (`jq -c '.[]'` does it)"]),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_to_mend(file: str | bytes, told: list[str]) -> None:
    """And no people come out of a file with a fault."""
    assert faults(file) == told
    assert seen(file).people == ()


@pytest.mark.parametrize("file", ["", "\n\n", "account\n", "\ufeff"])
def test_a_file_without_anybody(file: str) -> None:
    assert seen(file).faults == ("people: there is no account in it",)


def test_all_faults_are_told_at_once() -> None:
    """Of every column of a row, and of every row."""
    file = f"account,numbers,pin,disabled\n7%,call me,1313,maybe\n8,{HOME},{SECRET},no\n9\n"
    places = [fault.split(": ")[:2] for fault in faults(file)]
    assert places == [
        ["2", "account"],
        ["2", "numbers"],
        ["2", "pin"],
        ["2", "disabled"],
        ["4", places[4][1]],
    ]


def test_beyond_a_hundred_faults_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "FAULTS_SHOWN_MAX", 3)
    found = seen("account\n" + "%\n" * 10)
    assert (len(found.faults), found.more) == (3, 7)


def test_the_header_is_missing() -> None:
    """Then the first row stands in its place, and a PIN must not be shown as the name of a column."""
    for first in (f"123456789,{SECRET}", f"{SECRET},{APP}"):
        (told,) = faults(f"{first}\n")
        assert told.endswith(f"known: {', '.join(people.COLUMNS)}. Is the header missing?")
        assert SECRET not in told
        assert APP not in told
    assert SECRET not in str(faults(f'{{"{SECRET}": "1"}}'))


CELLS = st.sampled_from(
    ["account", "pin", "numbers", "disabled", "7", "+1 800 555 0142", "true", "", '"', "\x00", "é"]
)


@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6),
    place=st.integers(0, 20),
    glue=st.sampled_from([",", ";", ":", '","', "\n"]),
    json_lines=st.booleans(),
)
def test_no_value_is_ever_shown(rows: list[list[str]], place: int, glue: str, json_lines: bool) -> None:
    """Wherever a PIN stands, by mistake too, whatever is wrong with the file: no fault shows it, nor does a repr."""
    cells = [cell for row in rows for cell in row]
    cells.insert(min(place, len(cells)), "90514827")
    lines = [glue.join(cells[start : start + 3]) for start in range(0, len(cells), 3)]
    if json_lines:
        lines = ['{"account": "1"}', *(f'{{"{glue.join(cells)}": "90514827", {line}}}' for line in lines)]
    found = seen("\n".join(lines))
    assert "90514827" not in str(found.faults)
    assert "90514827" not in repr(
        [one for one in found.people if one.account != "90514827" and not one.numbers]
    )


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_has_an_end() -> None:
    """The rest of a longer one is passed over, and the lines behind it keep their numbers."""
    long = "7" * (3 * people.LINE_BYTES_MAX)
    why = f"2: the line has more than {people.LINE_BYTES_MAX} bytes; is a line break missing?"
    assert faults(f"account\n{long}\n%\n") == [why, faults("account\n7\n%\n")[0]]
    fitting = "7" * 20 + " " * (people.LINE_BYTES_MAX - 21)
    assert [one.account for one in seen(f"account\n{fitting}\n8").people] == ["7" * 20, "8"]


def test_a_file_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes, within a line too, and in accounts; what stands behind it is not looked at."""
    monkeypatch.setattr(people, "FILE_BYTES_MAX", 2**20)
    why = "the file has more than 1 MiB: make several of it"
    assert faults("account\n7\n" + (" " * 1023 + "\n") * 1024) == [f"1026: {why}"]
    source = io.BytesIO(b"7" * 2**24)
    assert read(source, "people", Checks(unlucky, unlucky)).faults == (f"people:1: {why}",)
    assert source.tell() < 2**21

    monkeypatch.setattr(people, "ROWS_MAX", 2)
    assert faults("account\n1\n2\n3\n%") == ["4: more than 2 accounts: make several files of it"]
    assert len(seen("account\n1\n2\n").people) == 2


def test_an_account_has_so_many_numbers() -> None:
    """More are a mistake of the file's."""
    numbers = [f"+1800555{place:04}" for place in range(people.NUMBERS_MAX + 1)]
    assert faults(f"account,numbers\n7,{'|'.join(numbers)}") == [
        f"2: numbers: more than {people.NUMBERS_MAX} numbers"
    ]


def test_no_secret_is_in_a_repr() -> None:
    """Of whoever was read."""
    assert SECRET not in repr(WHOLE)
    assert APP not in repr(WHOLE)
