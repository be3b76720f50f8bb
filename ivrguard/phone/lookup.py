"""A pretend Twilio Lookup v2: it knows of a number what it was told.

Laws of this file
 1. `GET /v2/PhoneNumbers/{E164}?Fields=a,b`: 200 with the packages asked for and null for the others; each package has
    an `error_code` of its own (https://www.twilio.com/docs/lookup/v2-api).
 2. A number of which nothing was told is a mobile one whose SIM has not been swapped lately and that is not forwarded.
 3. What is no number is an answer of 200, too: `valid` is false and every package null.
 4. Faults are planted as phone/rest.py says.
"""

import re

from aiohttp import web

from ivrguard.phone.rest import Api, instant

LONG_AGO_MS = 1_577_836_800_000
"""When a SIM of which nothing was told was swapped last: 2020-01-01."""
PERIOD = "PT48H"

_PACKAGES = (
    *(
        "caller_name",
        "sim_swap",
        "call_forwarding",
        "line_status",
        "line_type_intelligence",
        "identity_match",
    ),
    *("reassigned_number", "sms_pumping_risk", "phone_number_quality_score", "pre_fill"),
)


class Lookup(Api):
    """The API of one account; `app()` serves it. `asked_for`: the Fields of each request, in order."""

    def __init__(self, account_sid: str, auth_token: str, *, api_keys: dict[str, str] | None = None) -> None:
        super().__init__(account_sid, auth_token, api_keys=api_keys)
        self.asked_for: list[str] = []
        self._known: dict[str, dict[str, dict[str, object]]] = {}

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        served.router.add_get("/v2/PhoneNumbers/{number}", self.serving(self._get))
        return served

    def swapped(self, number: str, *, at_ms: int | None, in_period: bool, period: str = PERIOD) -> None:
        """The SIM of a number was swapped last at `at_ms` (None: the carrier does not tell), or not `in_period`."""
        date = None if at_ms is None else instant(at_ms)
        last = {"last_sim_swap_date": date, "swapped_period": period, "swapped_in_period": in_period}
        self._tell(number, "sim_swap", {"last_sim_swap": last})

    def forwarded(self, number: str, *, on: bool) -> None:
        """Calls to a number go elsewhere, or not."""
        self._tell(number, "call_forwarding", {"call_forwarding_status": on})

    def line(self, number: str, type_: str) -> None:
        """What kind of line a number is."""
        self._tell(number, "line_type_intelligence", {"type": type_})

    def fails(self, number: str, package: str, code: int) -> None:
        """One package of a number fails by itself, with this error code."""
        self._tell(number, package, {"error_code": code})

    def _tell(self, number: str, package: str, said: dict[str, object]) -> None:
        self._known.setdefault(number, {})[package] = {"error_code": None} | said

    def _get(self, request: web.Request, _: dict[str, str]) -> web.Response:
        number, fields = request.match_info["number"], request.query.get("Fields", "")
        self.asked_for.append(fields)
        valid = re.fullmatch(r"\+[1-9][0-9]{6,14}", number) is not None
        packages = {name: self._package(number, name) for name in fields.split(",") if valid and name}
        return web.json_response(
            {
                "calling_country_code": None,
                "country_code": None,
                "phone_number": number,
                "national_format": None,
                "valid": valid,
                "validation_errors": [] if valid else ["NOT_A_NUMBER"],
                "url": f"https://lookups.twilio.com/v2/PhoneNumbers/{number}",
            }
            | dict.fromkeys(_PACKAGES)
            | packages
        )

    def _package(self, number: str, name: str) -> dict[str, object] | None:
        carrier = {"carrier_name": "Example", "mobile_country_code": "310", "mobile_network_code": "00"}
        last = {
            "last_sim_swap_date": instant(LONG_AGO_MS),
            "swapped_period": PERIOD,
            "swapped_in_period": False,
        }
        usual: dict[str, dict[str, object]] = {
            "sim_swap": {"last_sim_swap": last, **carrier},
            "call_forwarding": {"call_forwarding_status": False},
            "line_type_intelligence": {"type": "mobile", **carrier},
        }
        told = self._known.get(number, {}).get(name)
        return told or ({"error_code": None} | usual[name] if name in usual else None)
