"""The pretend Recordings API, driven by Twilio's own client over a real socket."""

import pytest
from aiohttp.test_utils import TestServer
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from ivrguard.phone.recordings import Recordings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(twilio|aiohttp).*")
"""Twilio's own connection uses what aiohttp will take out."""

ACCOUNT_SID = "AC" + "1" * 32
TOKEN = "a-token-of-the-test"
CALL, OTHER = "CA" + "1" * 32, "CA" + "2" * 32


@pytest.fixture
def api():
    return Recordings(ACCOUNT_SID, TOKEN)


@pytest.fixture
async def calls(api):
    async with TestServer(api.app()) as server, AsyncTwilioHttpClient() as http:
        client = Client(ACCOUNT_SID, TOKEN, http_client=http)
        client.api.base_url = str(server.make_url(""))
        yield client.calls


async def refusal(asked):
    with pytest.raises(TwilioRestException) as refused:
        await asked
    return refused.value.status, refused.value.code


async def test_a_recording_is_listed_paused_and_goes_on(api, calls):
    """`running` says what would be heard, `history` what was."""
    recording = api.begin(CALL)
    [listed] = await calls(CALL).recordings.list_async()
    assert (listed.sid, listed.call_sid, listed.status) == (recording, CALL, "in-progress")
    assert (api.running(CALL), api.running(OTHER)) == (True, False)

    paused = await calls(CALL).recordings(recording).update_async(status="paused", pause_behavior="silence")
    assert (paused.status, api.running(CALL)) == ("paused", False)

    await calls(CALL).recordings(recording).update_async(status="in-progress")
    api.end(CALL)
    assert not api.running(CALL)
    assert api.history == [
        (recording, status) for status in ("in-progress", "paused", "in-progress", "completed")
    ]


async def test_a_call_has_its_own_recordings_newest_first_in_pages(api, calls):
    first, second, third = (api.begin(CALL) for _ in range(3))
    api.begin(OTHER)
    page = await calls(CALL).recordings.page_async(page_size=2)
    assert [one.sid for one in page] == [third, second]
    assert [one.sid for one in await calls(CALL).recordings.list_async(page_size=2)] == [third, second, first]
    assert await calls("CA" + "3" * 32).recordings.list_async() == []


async def test_only_a_live_recording_of_this_call_can_be_changed(api, calls):
    """Over: 21220. Of another call, or not there: 404, 20404. To no such status: refused."""
    recording = api.begin(CALL)
    assert await refusal(calls(OTHER).recordings(recording).update_async(status="paused")) == (404, 20404)
    assert await refusal(calls(CALL).recordings("RE1").update_async(status="paused")) == (404, 20404)
    assert await refusal(calls(CALL).recordings(recording).update_async(status="off")) == (400, 21231)
    api.begin(OTHER)
    api.end(CALL)
    api.end(CALL)
    assert await refusal(calls(CALL).recordings(recording).update_async(status="paused")) == (400, 21220)
    assert api.running(OTHER)
    assert [status for sid, status in api.history if sid == recording] == ["in-progress", "completed"]
