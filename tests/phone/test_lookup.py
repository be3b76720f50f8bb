"""The pretend Lookup, driven by Twilio's own client over a real socket."""

import pytest
from aiohttp.test_utils import TestServer
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from ivrguard.phone.lookup import PERIOD, Lookup

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(twilio|aiohttp).*")
"""Twilio's own connection uses what aiohttp will take out."""

ACCOUNT_SID = "AC" + "1" * 32
TOKEN = "a-token-of-the-test"
NUMBER = "+14155550123"


@pytest.fixture
def api():
    return Lookup(ACCOUNT_SID, TOKEN)


@pytest.fixture
async def numbers(api):
    async with TestServer(api.app()) as server, AsyncTwilioHttpClient() as http:
        client = Client(ACCOUNT_SID, TOKEN, http_client=http)
        client.lookups.base_url = str(server.make_url(""))
        yield client.lookups.v2.phone_numbers


async def test_a_number_of_which_nothing_was_told(api, numbers):
    """Mobile, its own SIM for years, not forwarded; what was not asked for is null."""
    found = await numbers(NUMBER).fetch_async(fields="sim_swap,call_forwarding,line_type_intelligence")

    assert (found.phone_number, found.valid, found.caller_name) == (NUMBER, True, None)
    assert found.sim_swap["last_sim_swap"] == {
        "last_sim_swap_date": "2020-01-01T00:00:00Z",
        "swapped_period": PERIOD,
        "swapped_in_period": False,
    }
    assert found.call_forwarding == {"call_forwarding_status": False, "error_code": None}
    assert found.line_type_intelligence["type"] == "mobile"
    assert api.asked_for == ["sim_swap,call_forwarding,line_type_intelligence"]


async def test_what_was_told_of_a_number(api, numbers):
    """Of that number only, and each package by itself."""
    api.swapped(NUMBER, at_ms=1_700_000_000_000, in_period=True, period="PT24H")
    api.forwarded(NUMBER, on=True)
    api.line(NUMBER, "landline")
    found = await numbers(NUMBER).fetch_async(fields="sim_swap,call_forwarding,line_type_intelligence")

    assert found.sim_swap == {
        "error_code": None,
        "last_sim_swap": {
            "last_sim_swap_date": "2023-11-14T22:13:20Z",
            "swapped_period": "PT24H",
            "swapped_in_period": True,
        },
    }
    assert (found.call_forwarding["call_forwarding_status"], found.line_type_intelligence["type"]) == (
        True,
        "landline",
    )
    other = await numbers("+14155550199").fetch_async(fields="call_forwarding")
    assert (other.call_forwarding["call_forwarding_status"], other.sim_swap) == (False, None)


async def test_a_carrier_may_not_tell_the_date(api, numbers):
    """Then only whether it was in its period."""
    api.swapped(NUMBER, at_ms=None, in_period=True)
    found = await numbers(NUMBER).fetch_async(fields="sim_swap")
    assert found.sim_swap["last_sim_swap"]["last_sim_swap_date"] is None


async def test_a_package_fails_inside_an_answer_of_200(api, numbers):
    api.fails(NUMBER, "sim_swap", 60620)
    found = await numbers(NUMBER).fetch_async(fields="sim_swap,call_forwarding")
    assert found.sim_swap == {"error_code": 60620}
    assert found.call_forwarding["error_code"] is None


async def test_what_is_no_number_is_an_answer_too(numbers):
    """`valid` is false and every package null."""
    found = await numbers("555").fetch_async(fields="sim_swap")
    assert (found.valid, found.validation_errors, found.sim_swap) == (False, ["NOT_A_NUMBER"], None)


async def test_without_fields_there_is_no_package(numbers):
    """And one that nothing is known of is null."""
    assert (await numbers(NUMBER).fetch_async()).sim_swap is None
    assert (await numbers(NUMBER).fetch_async(fields="pre_fill")).pre_fill is None
