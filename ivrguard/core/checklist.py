"""
What is asked and noticed when a threat is made: CISA's checklist, as a typed form.

The laws of this file: every field may be left out, and says so by its default; what has a few answers has a word for each;
texts are what somebody wrote down, of at most so many characters (`TEXT_CHARS_MAX`, `WORDS_CHARS_MAX`).

Fields: https://www.cisa.gov/news-events/news/what-do-bomb-threat and the checklists that follow it
(https://www.sf.gov/bomb-threat-procedure-checklist).
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

TEXT_CHARS_MAX = 300
WORDS_CHARS_MAX = 4_000
AGE_MAX = 120


class Sex(StrEnum):
    """What the caller sounded like."""

    FEMALE = "female"
    MALE = "male"
    UNSURE = "unsure"


class Placed(StrEnum):
    """What the caller answered to "did you place it?"."""

    YES = "yes"
    NO = "no"
    NOT_SAID = "not_said"


class Voice(StrEnum):
    """How the caller's voice sounded."""

    CALM = "calm"
    ANGRY = "angry"
    EXCITED = "excited"
    SLOW = "slow"
    RAPID = "rapid"
    SOFT = "soft"
    LOUD = "loud"
    LAUGHING = "laughing"
    CRYING = "crying"
    NORMAL = "normal"
    DISTINCT = "distinct"
    SLURRED = "slurred"
    NASAL = "nasal"
    STUTTER = "stutter"
    LISP = "lisp"
    RASPY = "raspy"
    DEEP = "deep"
    RAGGED = "ragged"
    CLEARING_THROAT = "clearing_throat"
    DEEP_BREATHING = "deep_breathing"
    CRACKING = "cracking"
    DISGUISED = "disguised"
    ACCENT = "accent"


class Background(StrEnum):
    """What else was to be heard."""

    STREET = "street"
    HOUSE = "house"
    MOTOR = "motor"
    OFFICE_MACHINERY = "office_machinery"
    FACTORY_MACHINERY = "factory_machinery"
    PUBLIC_ADDRESS = "public_address"
    MUSIC = "music"
    ANIMALS = "animals"
    VOICES = "voices"
    STATIC = "static"
    LOCAL = "local"
    LONG_DISTANCE = "long_distance"
    CLEAR = "clear"


class Language(StrEnum):
    """How the threat was worded."""

    WELL_SPOKEN = "well_spoken"
    FOUL = "foul"
    IRRATIONAL = "irrational"
    INCOHERENT = "incoherent"
    TAPED = "taped"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Checklist:
    """
    One reporter's checklist. Times are as he says them (`09:42`). `called`: number and extension that took it; `caller`: the
    number it came from. `age`: in years. `familiar`: like whom. `reported_to`: whom else he told.
    """

    received: str = ""
    ended: str = ""
    called: str = ""
    caller: str = ""
    exact_words: str = ""
    when_explodes: str = ""
    where_now: str = ""
    looks_like: str = ""
    kind: str = ""
    sets_off: str = ""
    placed: Placed | None = None
    why: str = ""
    name: str = ""
    address: str = ""
    sex: Sex | None = None
    age: int | None = None
    familiar: str = ""
    voice: tuple[Voice, ...] = ()
    accent: str = ""
    background: tuple[Background, ...] = ()
    language: tuple[Language, ...] = ()
    remarks: str = ""
    reported_to: str = ""


LONG = frozenset({"exact_words", "remarks"})
"""Texts that may be longer."""

NAMES = tuple(one.name for one in fields(Checklist))


def tidied(checklist: Checklist) -> Checklist:
    """
    The same as it is kept: nothing in it that cannot be seen or is said twice, no text longer than its field takes.

    Nothing is refused: a report must not fail for a sign that somebody's keyboard made.
    """
    found: dict[str, Any] = {}
    for name in NAMES:
        value = getattr(checklist, name)
        if isinstance(value, tuple):
            found[name] = tuple(dict.fromkeys(value))
        elif isinstance(value, str) and not isinstance(value, StrEnum):
            seen = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in value)
            found[name] = seen.strip()[: WORDS_CHARS_MAX if name in LONG else TEXT_CHARS_MAX]
    return replace(checklist, **found)
