"""
What is known of a phone number, from Twilio Lookup v2. Implements `ports.NumberLookup`.

1. Only the packages that a flow wants are asked for: each is billed by itself
   (https://www.twilio.com/docs/lookup/v2-api).
2. **Each package fails by itself**, with an `error_code` of its own inside an answer of 200: its facts are then None,
   like those of a package that says nothing or nonsense. None is asked for again: SIM-swap data that is incomplete
   (60620) stays so, and is billed each time (https://www.twilio.com/docs/api/errors/60620). Only when all of them
   failed, and one for a reason that an operator can mend, is there a fault, so that he hears of it.
3. **Nothing is paid for twice in a call**: what was said of a number, that nobody could say included, holds for `KEPT_S`,
   in this process. "Another code" is sent without asking again; a SIM that is swapped meanwhile shows a little later. A
   fault is not kept.
4. An answer must be about the number that was asked about.
5. The laws of notify/rest.py. The number stands in the path of Lookup's own URL, which nothing logs.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ivrguard.core.lookup import LINE_TYPES, NumberFacts
from ivrguard.notify.rest import NOT_FOUND, Meaning, Rest, e164, garbled, told

KEPT_S = 300
KEPT_MAX = 4_096
"""How many answers are kept; of more, those that were asked for first go."""

_MEANINGS = {
    NOT_FOUND: Meaning("invalid", "knows no such number: look at it in the account"),
    60606: Meaning("account", "has not enabled this Lookup package for the account"),
    60611: Meaning("too_many_requests", "has no quota left for this Lookup package"),
    60614: Meaning("account", "looks this number up in another region only: set the API's URL"),
    60616: Meaning("too_many_requests", "asks for fewer lookups with this package at a time"),
    60619: Meaning("account", "has not got this Lookup package in the region of the API's URL"),
}
"""https://www.twilio.com/docs/api/errors"""
_PERIOD = re.compile(r"P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?")
_PERIOD_UNITS_S = (7 * 24 * 3600, 24 * 3600, 3600, 60, 1)


class TwilioLookup:
    """
    Looks numbers up for one account. `clock`: ms since the epoch. `api_url`: where the API is, for tests and for Twilio's
    regions.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        clock: Callable[[], int],
        api_url: str = "https://lookups.twilio.com",
    ) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, ...], tuple[int, NumberFacts]] = OrderedDict()
        self._rest = Rest("lookup", _MEANINGS)
        client = self._rest.client(account_sid, auth_token)
        client.lookups.base_url = api_url
        self._numbers = client.lookups.v2.phone_numbers

    async def look_up(self, number: str, packages: Sequence[str], *, deadline_s: float) -> NumberFacts:
        """
        The facts of these packages about a number (E.164), by Twilio's names of them.

        Raises `core.errors.NotifyFault` when nothing could be had at all.
        """
        key, now = (e164(number), *packages), self._clock()
        kept = self._kept.get(key)
        if kept is not None and 0 <= now - kept[0] < KEPT_S * 1000:
            return kept[1]
        facts = await self._asked(number, packages, deadline_s)
        self._kept[key] = (now, facts)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return facts

    async def _asked(self, asked: str, packages: Sequence[str], deadline_s: float) -> NumberFacts:
        async with self._rest.asking(deadline_s):
            found = await self._numbers(asked).fetch_async(fields=",".join(packages))
        if found.phone_number != asked:
            raise garbled()
        failed = [_object(getattr(found, name, None)).get("error_code") for name in packages]
        mendable = next((code for code in failed if isinstance(code, int) and code in _MEANINGS), None)
        if mendable is not None and None not in failed:
            raise told(mendable, _MEANINGS[mendable])
        last_swap = _object(_package(found.sim_swap).get("last_sim_swap"))
        forwarding = _package(found.call_forwarding)
        line = _package(found.line_type_intelligence).get("type")
        return NumberFacts(
            swapped=_flag(last_swap.get("swapped_in_period")),
            swapped_ms=_instant_ms(last_swap.get("last_sim_swap_date")),
            swapped_period_s=_period_s(last_swap.get("swapped_period")),
            # The page on this package and the published examples have the one name, newer libraries the other.
            forwarded=_flag(
                forwarding.get("call_forwarding_status", forwarding.get("call_forwarding_enabled"))
            ),
            line_type=line if line in LINE_TYPES else None,
        )

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._rest.close()


def _package(value: object) -> Mapping[str, Any]:
    """What a package says; nothing, if it failed."""
    said = _object(value)
    return said if said.get("error_code") is None else {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant_ms(value: object) -> int | None:
    """An ISO 8601 date and time, in UTC if it names no zone."""
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return round(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() * 1000)


def _period_s(value: object) -> int:
    """An ISO 8601 duration of weeks, days, hours, minutes and seconds (PT48H); 0 for anything else."""
    found = _PERIOD.fullmatch(str(value))
    if found is None:
        return 0
    return sum(int(count or 0) * unit for count, unit in zip(found.groups(), _PERIOD_UNITS_S, strict=True))
