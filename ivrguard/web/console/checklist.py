"""
CISA's checklist as a form: what is asked and noticed, and back. Pure.

The law of this file: what somebody wrote down is not lost, whatever is wrong with it: a form that cannot be kept comes back as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

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
    tidied,
)
from ivrguard.web.console import words

ONE_OF: Mapping[str, type[StrEnum]] = {"placed": Placed, "sex": Sex}
SOME_OF: Mapping[str, type[StrEnum]] = {"voice": Voice, "background": Background, "language": Language}

Sent = Mapping[str, Sequence[str]]
"""What a form sent: by name, each value."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a few: its word, how it reads, and whether it is taken."""

    value: str
    label: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One field: `form` is `text`, `long`, `number`, `one` or `some`; `value` of the first three, `choices` of the others."""

    name: str
    label: str
    form: str
    value: str
    most: int
    choices: tuple[Choice, ...]


def asked(sent: Sent) -> tuple[Question, ...]:
    """Every question in the order of a talk, with what was answered so far."""
    return tuple(_question(name, label, sent.get(name, ())) for name, label in words.QUESTIONS.items())


def _question(name: str, label: str, values: Sequence[str]) -> Question:
    most = WORDS_CHARS_MAX if name in LONG else TEXT_CHARS_MAX
    kinds = ONE_OF.get(name) or SOME_OF.get(name)
    if kinds is not None:
        choices = tuple(Choice(one.value, one.value.replace("_", " "), one.value in values) for one in kinds)
        return Question(name, label, "one" if name in ONE_OF else "some", "", most, choices)
    form = "long" if name in LONG else "number" if name == "age" else "text"
    return Question(name, label, form, values[0] if values else "", most, ())


def sent_of(checklist: Checklist) -> Sent:
    """A checklist as a form would send it."""
    return {name: _values(getattr(checklist, name)) for name in NAMES}


def _values(value: object) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(str(one) for one in value)
    return () if value in ("", None) else (str(value),)


def read(sent: Sent) -> Checklist | tuple[str, ...]:
    """The checklist that a form sent; or what is wrong with it, a line for each field."""
    filled: dict[str, object] = {}
    wrong: list[str] = []
    for one in fields(Checklist):
        values = [text.strip() for text in sent.get(one.name, ()) if text.strip()]
        try:
            filled[one.name] = _read(one.name, values)
        except ValueError:
            wrong.append(f"{words.QUESTIONS[one.name]} {words.NOT_ONE_OF_THESE}")
    if wrong:
        return tuple(wrong)
    checklist = Checklist(**filled)  # type: ignore[arg-type]  # fields by name
    return tidied(checklist)


def _read(name: str, values: list[str]) -> object:
    """The value of a field. Raises `ValueError` for none of its own."""
    if name in SOME_OF:
        return tuple(SOME_OF[name](value) for value in values)
    value = values[0] if values else ""
    if name in ONE_OF:
        return ONE_OF[name](value) if value else None
    if name == "age":
        return range(AGE_MAX + 1).index(int(value)) if value else None
    return value.replace("\r\n", "\n")
