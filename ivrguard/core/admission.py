"""
Again is not twice: whether a delivery is new to its call.

The laws of this file:

1. A delivery that came before changes nothing: each one is remembered by its fingerprint.
2. The last one, repeated, gets the answer that it got then. Anything older is stale, and gets none.

Twilio repeats a webhook whose answer it did not get, and the other URL may answer it
(https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
"""

from enum import StrEnum

from ivrguard.core.call import Call, Last
from ivrguard.core.values import replace

SEEN_MAX = 32
"""Fingerprints of deliveries kept per call; a delivery from longer ago is stale by its turn."""

ENTRIES_WITHOUT_TURN_MAX = 16
"""Deliveries to URLs that are not ours (the number's own, REST redirects) remembered per call, for ever."""


class Admission(StrEnum):
    """What a delivery is to this call."""

    FRESH = "fresh"
    REPEATED = "repeated"
    UNFINISHED = "unfinished"
    STALE = "stale"


def admit(call: Call, fingerprint: str, turn: int | None) -> Admission:
    """
    Whether this delivery is new. `turn`: the turn whose document held the URL, None for URLs not of ours.

    The last one repeated is answered as before (`call.last.answer`), or unfinished when its answer was not
    saved. Anything older that comes again is stale.
    """
    if call.last is not None and call.last.fingerprint == fingerprint:
        return Admission.REPEATED if call.last.answer else Admission.UNFINISHED
    if fingerprint in call.seen or fingerprint in call.seen_without_turn:
        return Admission.STALE
    if turn is None:
        full = len(call.seen_without_turn) >= ENTRIES_WITHOUT_TURN_MAX
        return Admission.STALE if full else Admission.FRESH
    fresh = turn <= call.turn and call.turn - turn < SEEN_MAX
    return Admission.FRESH if fresh else Admission.STALE


def remember(call: Call, fingerprint: str, turn: int | None, node: str, now_ms: int) -> Call:
    """The call, having taken this delivery: its next turn."""
    seen, without = call.seen, call.seen_without_turn
    if turn is None:
        without = (*without, fingerprint)
    else:
        seen = (*seen, fingerprint)[-SEEN_MAX:]
    last = Last(fingerprint, now_ms, node, turn=call.turn + 1)
    return replace(call, seen=seen, seen_without_turn=without, last=last, turn=call.turn + 1)


def answered(call: Call, fingerprint: str, answer: str) -> Call:
    """The call, knowing the sealed answer to its last delivery; unchanged if another one came since."""
    if call.last is None or call.last.fingerprint != fingerprint:
        return call
    return replace(call, last=replace(call.last, answer=answer))
