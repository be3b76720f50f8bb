"""
Transfers that went round the guard: legs of a caller's call that none of the guard's documents dialled.

The laws of this file:

1. Whom the guard's documents may connect a caller with is kept with his call: `Call.connected`, and the queues of his hand-overs.
   Of more than `CONNECTED_MAX`, and of a call that began before this was kept, nothing can be said.
2. What cannot be told apart is accounted for, since an alarm that is often false is switched off: numbers are the same if
   one ends as the other does (carriers and people add country codes), and who was led into an application, or to what nobody
   knows, may have been connected with anybody.
3. A leg is told once (`Call.bypassed`).
"""

from collections.abc import Iterable

from ivrguard.core.call import Call
from ivrguard.core.rules import Target

CONNECTED_MAX = 64
BYPASSED_MAX = 16
DIGITS_MIN = 7
"""Shorter numbers must be the same to the digit."""

ANYBODY = "unknown:"
_SEEN = frozenset({"number", "whatsapp", "client", "sip"})
_LEADS_ANYWHERE = frozenset({"unknown", "application", "sim"})


def led_to(call: Call, targets: Iterable[str]) -> tuple[str, ...]:
    """Whom the call may have been connected with, once a document with these targets (`kind:value`) is on its way."""
    found = tuple(dict.fromkeys((*call.connected, *targets)))
    return found if len(found) <= CONNECTED_MAX else (ANYBODY,)


def accounted(target: Target, known: Iterable[str]) -> bool:
    """Whether this leg may have been dialled by a document of the guard's, which knew of these targets."""
    if target.kind not in _SEEN:
        return True
    for each in known:
        kind, _, value = each.partition(":")
        if kind in _LEADS_ANYWHERE or (kind == target.kind and value == target.value):
            return True
        if {kind, target.kind} <= {"number", "whatsapp"} and _same_number(value, target.value):
            return True
    return False


def _same_number(one: str, other: str) -> bool:
    short, long = sorted(("".join(filter(str.isdigit, text)) for text in (one, other)), key=len)
    return len(short) >= DIGITS_MIN and long.endswith(short)


def told(call: Call, leg: str) -> tuple[str, ...] | None:
    """`bypassed` with one leg more; None: it was told, or so many were that one more tells nothing new."""
    if leg in call.bypassed or len(call.bypassed) >= BYPASSED_MAX:
        return None
    return (*call.bypassed, leg)
