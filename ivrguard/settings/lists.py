"""Lists of what is no secret, as they are written into a setting. A fault (`ValueError`) says which entry it is."""

import re

from ivrguard.core.agents import Role

MINUTES_MAX = 24 * 60
TIMES_MAX = 10

_SEPARATORS = re.compile(r"[;,\s]+")


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
