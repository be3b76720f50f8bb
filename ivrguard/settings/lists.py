"""Lists of what is no secret, as they are written into a setting. A fault (`ValueError`) says which entry it is."""

import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from ivrguard.core.agents import Role
from ivrguard.core.insiders import Sign
from ivrguard.core.rules import DAYS, Hours
from ivrguard.core.sense import Threshold
from ivrguard.settings import forms

MINUTES_MAX = 24 * 60
TIMES_MAX = 10
COUNT_MAX = 1_000
WITHIN_S_MAX = 30 * 24 * 3600

_SEPARATORS = re.compile(r"[;,\s]+")
_SO_MANY_IN = re.compile(r"([0-9]{1,4}) in ([0-9]{1,3})([hd])")
_SHIFT = re.compile(
    rf"(?:([^=\s]+)\s*=\s*)?((?:{'|'.join(DAYS)})(?:-(?:{'|'.join(DAYS)}))?) ([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])"
)


def _entries(text: str) -> tuple[str, ...]:
    return tuple(filter(None, _SEPARATORS.split(text)))


def minutes(text: str) -> tuple[int, ...]:
    """Minutes after something, each later than the one before it."""
    found: list[int] = []
    for place, entry in enumerate(_entries(text), 1):
        last = found[-1] if found else 0
        if not (re.fullmatch("[0-9]{1,4}", entry) and last < int(entry) <= MINUTES_MAX):
            raise ValueError(f"entry {place} is no number of minutes above {last}, up to {MINUTES_MAX}")
        found.append(int(entry))
    if not 1 <= len(found) <= TIMES_MAX:
        raise ValueError(f"here are {len(found)} times; what is wanted: 1 to {TIMES_MAX}, such as 2,5,10")
    return tuple(found)


def words(text: str) -> tuple[str, ...]:
    """Words with blanks between."""
    return tuple(text.split())


def origins(text: str) -> tuple[str, ...]:
    """Origins, each of them a scheme and a host."""
    return tuple(forms.url(entry) for entry in _entries(text))


def roles(text: str) -> dict[str, str]:
    """`value=role;value=role`: a role by the value of a claim, which may hold anything but `;`, and `=` as well."""
    found: dict[str, str] = {}
    for place, entry in enumerate(filter(None, re.split(r"\s*;\s*", text.strip())), 1):
        value, equals, role = (part.strip() for part in entry.rpartition("="))
        if not equals or not value or role not in {one.value for one in Role}:
            raise ValueError(f"entry {place} is not <value>=agent, <value>=supervisor or <value>=risk")
        if value in found:
            raise ValueError(f"entry {place} has a value that stands there already")
        found[value] = role
    return found


def signs(text: str) -> Mapping[Sign, Threshold | None]:
    """`no_call=12 in 1d;off_queue=off`: how many in how long of what raise a suspicion."""
    found: dict[Sign, Threshold | None] = {}
    for place, entry in enumerate(filter(str.strip, text.split(";")), 1):
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in tuple(Sign):
            raise ValueError(f"entry {place} is about none of {', '.join(Sign)}")
        match = _SO_MANY_IN.fullmatch(value)
        within_s = int(match[2]) * (3600 if match[3] == "h" else 24 * 3600) if match else 0
        if value != "off" and not (
            match and 1 <= int(match[1]) <= COUNT_MAX and 0 < within_s <= WITHIN_S_MAX
        ):
            raise ValueError(
                f"entry {place} says neither off nor so many in a time (1 to {COUNT_MAX}, in 1h to 30d), such as 12 in 1d"
            )
        found[Sign(name)] = Threshold(int(match[1]), within_s) if match else None
    return found


def shifts(text: str) -> tuple[str, tuple[tuple[str, Hours], ...]]:
    """
    `Europe/Berlin;night-*=mon-sun 20:00-06:00;mon-fri 07:00-20:00`: the time zone (UTC, where none is named first), and who
    works when there: globs over names, of which the first that fits counts.
    """
    entries = [entry.strip() for entry in text.split(";") if entry.strip()]
    zone = "UTC"
    if entries and not set(entries[0]) & set(":="):
        zone = entries.pop(0)
        try:
            ZoneInfo(zone)
        except (KeyError, OSError, ValueError):
            raise ValueError("entry 1 is neither a shift nor a time zone such as Europe/Berlin") from None
    return zone, tuple(_shift(entry, place) for place, entry in enumerate(entries, 1))


def _shift(entry: str, place: int) -> tuple[str, Hours]:
    match = _SHIFT.fullmatch(entry)
    begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (3, 5)) if match else (0, 0)
    if match is None or not (begin < 1440 and 0 < end <= 1440 and begin != end):
        raise ValueError(
            f"shift {place} is none; what is wanted: mon-fri 07:00-20:00, or night-*=mon-sun 20:00-06:00"
        )
    first, _, last = match[2].partition("-")
    begins, ends = DAYS.index(first), DAYS.index(last or first)
    days = frozenset((begins + step) % 7 for step in range((ends - begins) % 7 + 1))
    return match[1] or "*", Hours(days, begin, end)
