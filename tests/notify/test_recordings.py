"""Recordings paused and let go on, through a pretend Twilio on the loopback: all of them, or a fault."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.notify import recordings as ours
from ivrguard.notify.recordings import TwilioRecordings
from ivrguard.phone.recordings import Recordings
from ivrguard.phone.rest import error

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
CALL, OTHER = "CA" + "1" * 32, "CA" + "2" * 32

Served = tuple[Recordings, TwilioRecordings]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The pretend API and the adapter that asks it."""
    api = Recordings(ACCOUNT, TOKEN)
    async with TestServer(api.app()) as server:
        adapter = TwilioRecordings({ACCOUNT: TOKEN}, api_url=str(server.make_url("")))
        yield api, adapter
        await adapter.close()


async def test_every_recording_of_the_call_is_paused_and_goes_on(served: Served) -> None:
    """Two at once; those of another call run on."""
    api, adapter = served
    first, second, other = api.begin(CALL), api.begin(CALL), api.begin(OTHER)
    del api.history[:]
    await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    assert (api.running(CALL), api.running(OTHER)) == (False, True)
    await adapter.resume(ACCOUNT, CALL, deadline_s=5)
    assert sorted(api.history[:2]) == sorted([(first, "paused"), (second, "paused")])
    assert sorted(api.history[2:]) == sorted([(first, "in-progress"), (second, "in-progress")])
    assert other not in {sid for sid, _ in api.history}


async def test_again_is_not_twice(served: Served) -> None:
    """What is paused is left alone, and so is what runs."""
    api, adapter = served
    api.begin(CALL)
    for _ in range(2):
        await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    for _ in range(2):
        await adapter.resume(ACCOUNT, CALL, deadline_s=5)
    assert [status for _, status in api.history] == ["in-progress", "paused", "in-progress"]


async def test_there_may_be_nothing_to_pause(served: Served) -> None:
    """No recording, or only one that has ended: quiet."""
    api, adapter = served
    await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    api.begin(CALL)
    api.end(CALL)
    await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    assert [status for _, status in api.history] == ["in-progress", "completed"]


@pytest.mark.parametrize("code", [20404, 21220])
async def test_a_call_that_is_over_is_quiet(served: Served, code: int) -> None:
    """Both when it is listed and when it is paused: then nothing is recorded any more."""
    api, adapter = served
    api.begin(CALL)
    api.fail_next(404, code)
    await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    assert api.running(CALL)
    assert await answered(page("in-progress"), lambda: error(404, code, CALL)) is None


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (401, 20003, "account"),
        (404, 0, "undeliverable"),
        (429, 20429, "too_many_requests"),
        (503, 20503, "outage"),
    ],
)
async def test_a_recording_that_may_run_on_is_a_fault(
    served: Served, caplog: pytest.LogCaptureFixture, status: int, code: int, why: str
) -> None:
    """Listing refused, or pausing: the flow decides whether a secret is asked for all the same."""
    caplog.set_level(logging.DEBUG)
    api, adapter = served
    api.begin(CALL)
    api.fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    assert fault.value.why == why
    assert await answered(page("in-progress"), lambda: error(status, code, CALL)) == why
    assert [secret for secret in (CALL, TOKEN) if secret in printed(caplog, fault.value)] == []


async def test_a_lost_line_and_a_slow_service_are_faults(served: Served) -> None:
    """Nobody knows whether it runs on."""
    api, adapter = served
    for _ in range(2):  # what only reads is asked again at once
        api.drop_next()
    with pytest.raises(NotifyFault, match="was not reached"):
        await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    api.hold = asyncio.Event()
    with pytest.raises(NotifyFault) as fault:
        await adapter.pause(ACCOUNT, CALL, deadline_s=0.05)
    assert fault.value.why == "timeout"
    api.hold.set()


async def test_more_recordings_than_one_page_holds(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are paused; that there are others is a fault."""
    monkeypatch.setattr(ours, "RECORDINGS_MAX", 2)
    api, adapter = served
    _, second, third = (api.begin(CALL) for _ in range(3))
    with pytest.raises(NotifyFault, match="more than 2 recordings"):
        await adapter.pause(ACCOUNT, CALL, deadline_s=5)
    assert {sid for sid, status in api.history if status == "paused"} == {second, third}


async def test_an_account_without_a_token(served: Served) -> None:
    """A sub-account's recordings need its own."""
    with pytest.raises(NotifyFault) as fault:
        await served[1].pause("AC" + "9" * 32, CALL, deadline_s=5)
    assert (fault.value.why, served[0].asked) == ("account", 0)


def page(status: object) -> object:
    """A list of one recording."""
    return {"recordings": [{"sid": "RE1", "status": status}], "next_page_uri": None}


@pytest.mark.parametrize(
    ("listed", "updated", "expected"),
    [
        (page("in-progress"), {"status": "paused"}, None),
        (page("in-progress"), {"status": "completed"}, None),
        (page("in-progress"), {"status": "in-progress"}, "garbled"),
        (page("in-progress"), {"status": None}, "garbled"),
        (page("in-progress"), [], "garbled"),
        (page("in-progress") | {"odd": []}, {"status": "paused"}, "garbled"),
        (page("absent"), {}, None),
        ({"recordings": [{"price": "much", "status": "in-progress"}]}, {}, "garbled"),
        ({"recordings": None}, {}, "garbled"),
        ({"meta": {"key": "none"}}, {}, "garbled"),
        ([], {}, "garbled"),
        (None, {}, "garbled"),
    ],
)
async def test_only_a_recording_that_stands_still_is_paused(
    listed: object, updated: object, expected: str | None
) -> None:
    """By the answer's own word; an answer that is none is a fault."""
    assert await answered(listed, lambda: web.json_response(updated)) == expected


async def answered(listed: object, updated: object) -> str | None:
    """What pausing comes to with a service that answers so: nothing, or the fault's `why`."""

    async def lists(_: web.Request) -> web.Response:
        return web.json_response(listed)

    async def updates(_: web.Request) -> web.Response:
        return updated()

    app = web.Application()
    app.router.add_get("/{path:.*}", lists)
    app.router.add_post("/{path:.*}", updates)
    async with TestServer(app) as server:
        adapter = TwilioRecordings({ACCOUNT: TOKEN}, api_url=str(server.make_url("")))
        try:
            await adapter.pause(ACCOUNT, CALL, deadline_s=5)
        except NotifyFault as fault:
            return fault.why
        finally:
            await adapter.close()
    return None


async def test_no_secret_shows_in_a_repr(served: Served) -> None:
    """What is printed by accident gives nothing away."""
    assert TOKEN not in repr(served[1]) + repr(vars(served[1]))


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
