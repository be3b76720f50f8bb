"""
Whether a code may be sent to a number, by what is known of the number.

The laws of this file:

1. A number whose SIM changed hands lately, or whose calls are led elsewhere, gets no code: the code would go to the
   thief (NIST SP 800-63B-4, 3.1.3.3, names device swap, SIM change and porting).
2. What nobody could say counts as the admin wrote in `unknown`: `withhold` unless he wrote otherwise.
3. It is a reason to withhold a code, never a proof, and never a reason to trust (800-63B-4, 3.2).

The facts are those of Twilio Lookup v2, whose packages fail one by one inside an answer of 200
(https://www.twilio.com/docs/lookup/v2-api).
"""

from dataclasses import dataclass
from enum import StrEnum

LINE_TYPES = (
    "landline",
    "mobile",
    "fixedVoip",
    "nonFixedVoip",
    "personal",
    "tollFree",
    "premium",
    "sharedCost",
    "uan",
    "voicemail",
    "pager",
    "unknown",
)
"""What a line can be (https://www.twilio.com/docs/lookup/v2-api/line-type-intelligence)."""


class Unknown(StrEnum):
    """What becomes of a code when the lookup cannot say."""

    WITHHOLD = "withhold"
    SEND = "send"


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    What a number must be like for a code to be sent to it.

    `sim_swap_s`: its SIM must not have been swapped in so many seconds (None: not looked at). `forwarding`: calls
    to it must not be forwarded. `line_types`: it must be one of these (none named: any).
    """

    sim_swap_s: int | None = None
    forwarding: bool = False
    line_types: tuple[str, ...] = ()
    unknown: Unknown = Unknown.WITHHOLD

    def wanted(self) -> tuple[str, ...]:
        """The packages that have to be asked for, by Twilio's names; none: no lookup is needed."""
        asked = (
            ("sim_swap", self.sim_swap_s is not None),
            ("call_forwarding", self.forwarding),
            ("line_type_intelligence", bool(self.line_types)),
        )
        return tuple(name for name, wanted in asked if wanted)


@dataclass(frozen=True, slots=True)
class NumberFacts:
    """
    What is known of a number; None: nobody could say.

    `swapped_ms`: when its SIM was swapped last, if that is known. `swapped`: whether it was in the carrier's own
    period (`swapped_period_s`). `forwarded`: calls to it go elsewhere.
    """

    swapped: bool | None = None
    swapped_ms: int | None = None
    swapped_period_s: int = 0
    forwarded: bool | None = None
    line_type: str | None = None


def withheld(lookup: Lookup, facts: NumberFacts, now_ms: int) -> str:
    """Why no code may go to the number: `sim_swap`, `forwarding`, `line_type`, or `unknown`; "" when one may."""
    verdicts: dict[str, bool | None] = {}
    if lookup.sim_swap_s is not None:
        verdicts["sim_swap"] = _swapped(lookup.sim_swap_s, facts, now_ms)
    if lookup.forwarding:
        verdicts["forwarding"] = facts.forwarded
    if lookup.line_types:
        verdicts["line_type"] = None if facts.line_type is None else facts.line_type not in lookup.line_types
    bad = next((name for name, verdict in verdicts.items() if verdict), "")
    if bad or lookup.unknown is Unknown.SEND:
        return bad
    return "unknown" if None in verdicts.values() else ""


def _swapped(within_s: int, facts: NumberFacts, now_ms: int) -> bool | None:
    """Whether the SIM was swapped in the last `within_s` seconds; None: nobody can say."""
    if facts.swapped_ms is not None:
        return now_ms - facts.swapped_ms < within_s * 1000
    if facts.swapped or facts.swapped is None:
        return facts.swapped
    return False if facts.swapped_period_s >= within_s else None
