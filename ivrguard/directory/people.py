"""
Files of accounts: CSV, or JSON lines. Bytes in; people, or every fault with its line and column, out.

1. **All faults at once**, each with its line (and column), the first `FAULTS_SHOWN_MAX` in words and the rest counted.
   A file with one fault gives no people at all.
2. **No value is ever shown**, whichever column it stands in: columns get mixed up, and then a PIN stands where a name
   should. A name in the header is shown only if it looks like one: a file may lack its header.
3. **A line is a person.** No value needs a line break, so no quote spans two lines, and a line's number is its place.
4. **Nothing is guessed.** Column names are exact; numbers in JSON are refused where text is meant, since leading zeros
   are lost in them; a cell that is empty says nothing about its column.
5. Bounded: lines, rows and bytes.

The columns, by the same names in both forms (docs/accounts.md): account, numbers, pin, sms, totp, language, disabled.
`enrolled` is what `ivrguard accounts export` tells; it is not read, so that an export can be imported again.
"""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from ivrguard.core.check import did_you_mean
from ivrguard.directory.local import canonical_id, canonical_language, canonical_number

LINE_BYTES_MAX = 8_192
FILE_BYTES_MAX = 256 * 1024 * 1024
ROWS_MAX = 500_000
"""About 1 KB of memory each, a credential included; a larger directory is several files."""
FAULTS_SHOWN_MAX = 100
NUMBERS_MAX = 20
"""Of one account."""

COLUMNS = ("account", "numbers", "pin", "sms", "totp", "language", "disabled", "enrolled")
BETWEEN_NUMBERS = "|"
_DELIMITERS = ",;\t"
_NAME = re.compile("[A-Za-z][A-Za-z _-]{0,19}")
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Person:
    """One row. None: the row says nothing about that. `pin` and `totp` are the secrets themselves."""

    line: int
    account: str
    numbers: tuple[str, ...] | None = None
    pin: str | None = field(default=None, repr=False)
    sms: str | None = None
    totp: str | None = field(default=None, repr=False)
    language: str | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Checks:
    """
    What a value must pass. `pin`, `totp`: why one is no good, in words that do not show it, or None.

    `region`: the country of numbers without +, as in `canonical_number`.
    """

    pin: Callable[[str], str | None]
    totp: Callable[[str], str | None]
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """The people of a file; or its faults, as `file:line: column: what to mend`, and how many more there are."""

    people: tuple[Person, ...] = ()
    faults: tuple[str, ...] = ()
    more: int = 0


class _BadLine(Exception):  # not a fault of ours: it ends in `Read.faults`
    """A line that cannot be read; `last`: nor can those after it."""

    def __init__(self, why: str, *, last: bool = False) -> None:
        super().__init__(why)
        self.last = last


def read(
    source: BinaryIO, name: str, checks: Checks, *, tell: Callable[[int], None] = lambda _: None
) -> Read:
    """
    Everybody in a file. `name`: what its faults call it; `tell` is told, line by line, how many bytes were read.

    The form is told by the first sign: JSON lines begin with a brace.
    """
    reading = _Reading(name, checks)
    for number, data in _lines(source, tell):
        try:
            reading.take(number, _text(data, first=number == 1))
        except _BadLine as bad:
            reading.fault(number, str(bad))
            if bad.last:
                break
    return reading.ended()


class _Reading:
    """A file while it is read."""

    def __init__(self, name: str, checks: Checks) -> None:
        self._name = name
        self._checks = checks
        self._form: Callable[[str], dict[str, Any]] | None = None
        self._people: list[Person] = []
        self._lines: dict[str, int] = {}
        self._faults: list[str] = []
        self._more = 0

    def take(self, number: int, text: str) -> None:
        """One line: nothing, the header, or a person."""
        if not text.strip(_DELIMITERS + " "):
            return
        if self._form is None:
            self._form = _object if text.lstrip().startswith(("{", "[")) else _table(text)
            if self._form is not _object:
                return
        if len(self._lines) >= ROWS_MAX:
            raise _BadLine(f"more than {ROWS_MAX} accounts: make several files of it", last=True)
        self._person(number, self._form(text))

    def _person(self, number: int, values: dict[str, Any]) -> None:
        values.pop("enrolled", None)
        try:
            row = _Row.model_validate(values, context=self._checks)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                self.fault(number, _said(one["type"], one["loc"], one.get("ctx", {}).get("error")))
            return
        before = self._lines.setdefault(row.account, number)
        if before != number:
            self.fault(number, f"account: it stands in line {before} already")
        self._people.append(Person(number, **dict(row)))

    def fault(self, number: int, why: str) -> None:
        """One more fault; those beyond the bound are counted."""
        if len(self._faults) < FAULTS_SHOWN_MAX:
            self._faults.append(f"{self._name}:{number}: {why}")
        else:
            self._more += 1

    def ended(self) -> Read:
        """What came of it."""
        if not self._faults and not self._people:
            self._faults.append(f"{self._name}: there is no account in it")
        return Read((), tuple(self._faults), self._more) if self._faults else Read(tuple(self._people))


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────


def _lines(source: BinaryIO, tell: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, cut off where it is longer than may be; an empty one where the file is too long."""
    number = total = 0
    while line := source.readline(LINE_BYTES_MAX + 1):
        number, total = number + 1, total + len(line)
        rest = line
        while not rest.endswith(b"\n") and len(rest) > LINE_BYTES_MAX and total <= FILE_BYTES_MAX:
            rest = source.readline(LINE_BYTES_MAX + 1)
            total += len(rest)
        tell(total)
        yield number, line if total <= FILE_BYTES_MAX else b""


def _text(data: bytes, *, first: bool) -> str:
    if not data:
        raise _BadLine(f"the file has more than {FILE_BYTES_MAX // 2**20} MiB: make several of it", last=True)
    if first and data.startswith(_UTF16):
        raise _BadLine("this is UTF-16: save the file as UTF-8", last=True)
    if len(data) > LINE_BYTES_MAX:
        raise _BadLine(f"the line has more than {LINE_BYTES_MAX} bytes; is a line break missing?")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode() if first else data.decode()
    except UnicodeDecodeError as error:
        raise _BadLine(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8") from None
    return text.rstrip("\r\n")


def _table(header: str) -> Callable[[str], dict[str, Any]]:
    """How to read the lines under a CSV header."""
    delimiter = max(_DELIMITERS, key=header.count)
    names = _cells(header, delimiter)
    for place, name in enumerate(names, start=1):
        if name not in COLUMNS:
            raise _BadLine(f"column {place}: {_unknown(name)}", last=True)
    if len(set(names)) < len(names):
        raise _BadLine("the header names a column twice", last=True)
    if "account" not in names:
        raise _BadLine("the header has no column `account`", last=True)

    def row(text: str) -> dict[str, Any]:
        cells = _cells(text, delimiter)
        if len(cells) != len(names):
            raise _BadLine(f"{len(cells)} cells, and {len(names)} columns in the header")
        return {name: cell for name, cell in zip(names, cells, strict=True) if cell}

    return row


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        (cells,) = csv.reader([text], delimiter=delimiter, strict=True)
    except csv.Error:  # its text may quote the line
        raise _BadLine("a quote is not closed, or stands within a cell") from None
    return [cell.strip() for cell in cells]


def _object(text: str) -> dict[str, Any]:
    """One line of JSON lines."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise _BadLine(f"not JSON, from sign {error.colno} on") from None
    except RecursionError:
        raise _BadLine("not a JSON object with a person's columns") from None
    if isinstance(found, list):
        raise _BadLine("this is a JSON array: write one object a line (`jq -c '.[]'` does it)", last=True)
    if not isinstance(found, dict):
        raise _BadLine("not a JSON object with a person's columns")
    for key in found:
        if key not in COLUMNS:
            raise _BadLine(_unknown(key))
    return {key: value for key, value in found.items() if value is not None and value != ""}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _BadLine("a key stands there twice")
    return found


def _unknown(name: str) -> str:
    if not _NAME.fullmatch(name):
        return f"not the name of a column; known: {', '.join(COLUMNS)}. Is the header missing?"
    return f"there is no column '{name}'{did_you_mean(name, COLUMNS)}"


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────


def _checks(info: ValidationInfo) -> Checks:
    assert isinstance(info.context, Checks)
    return info.context


_canonical = lru_cache(NUMBERS_MAX)(canonical_number)
"""The number for codes is mostly one of the row's numbers, and working out a number takes 70 µs."""


def _number(text: str, info: ValidationInfo) -> str:
    return _canonical(text, _checks(info).region)


def _parted(given: object) -> object:
    """Numbers in one cell, one behind the other; a JSON array stays what it is."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(BETWEEN_NUMBERS))
    return tuple(given) if isinstance(given, list) else given


def _distinct(numbers: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("a number stands there twice")
    if len(numbers) > NUMBERS_MAX:
        raise ValueError(f"more than {NUMBERS_MAX} numbers")
    return numbers


def _pin(text: str, info: ValidationInfo) -> str:
    return _good(text, _checks(info).pin(text))


def _totp(text: str, info: ValidationInfo) -> str:
    return _good(text, _checks(info).totp(text))


def _good(text: str, why_not: str | None) -> str:
    if why_not is not None:
        raise ValueError(why_not)
    return text


def _switch(given: object) -> object:
    found = _SWITCH.get(given.lower()) if isinstance(given, str) else given
    if not isinstance(found, bool):
        raise ValueError("write true or false")  # noqa: TRY004 -- pydantic turns this one into a fault of the row
    return found


_Number = Annotated[str, AfterValidator(_number)]


class _Row(BaseModel):
    """A row whose values are in their one spelling."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    account: Annotated[str, AfterValidator(canonical_id)]
    numbers: Annotated[tuple[_Number, ...], AfterValidator(_distinct), BeforeValidator(_parted)] | None = None
    pin: Annotated[str, AfterValidator(_pin)] | None = None
    sms: _Number | None = None
    totp: Annotated[str, AfterValidator(_totp)] | None = None
    language: Annotated[str, AfterValidator(canonical_language)] | None = None
    disabled: Annotated[bool, BeforeValidator(_switch)] | None = None


def _said(type_: str, place: tuple[int | str, ...], error: object) -> str:
    """A fault of pydantic's in our words; its own may show what was given."""
    words = {
        "missing": "every row needs one",
        "string_type": 'write it as text, in quotes ("0042"): a number loses its leading zeros',
        "tuple_type": 'write the numbers as an array of texts (["+18005550100"]), or one text',
    }
    why = str(error) if type_ == "value_error" else words.get(type_, "not what this column holds")
    return f"{place[0]}: {why}"
