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
from ivrguard.notify.rest import ANSWER_BYTES_MAX
from ivrguard.phone.recordings import Recordings

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
    found = await adapter.running(ACCOUNT, CALL, deadline_s=5)
    assert found == (second, first)
    await adapter.pause(ACCOUNT, CALL, found, deadline_s=5)
    assert (api.running(CALL), api.running(OTHER)) == (False, True)
    assert await adapter.running(ACCOUNT, CALL, deadline_s=5) == ()
    await adapter.resume(ACCOUNT, CALL, found, deadline_s=5)
    assert sorted(api.history[:2]) == sorted([(first, "paused"), (second, "paused")])
    assert sorted(api.history[2:]) == sorted([(first, "in-progress"), (second, "in-progress")])
    assert other not in {sid for sid, _ in api.history}


async def test_only_those_that_are_named_go_on(served: Served) -> None:
    """What somebody else paused stays paused; what he let go on meanwhile, or ended, is left alone."""
    api, adapter = served
    ours_, theirs, going, ended = (api.begin(CALL) for _ in range(4))
    await adapter.pause(ACCOUNT, CALL, (ours_, theirs, ended), deadline_s=5)
    api.end(CALL, ended)
    del api.history[:]
    await adapter.resume(ACCOUNT, CALL, (ours_, going, ended), deadline_s=5)
    assert api.history == [(ours_, "in-progress")]


async def test_again_is_not_twice(served: Served) -> None:
    """Paused twice is paused; what goes on already is not asked to."""
    api, adapter = served
    tape = api.begin(CALL)
    for _ in range(2):
        await adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=5)
    for _ in range(2):
        await adapter.resume(ACCOUNT, CALL, (tape,), deadline_s=5)
    assert [status for _, status in api.history] == ["in-progress", "paused", "paused", "in-progress"]


async def test_there_may_be_nothing_to_pause(served: Served) -> None:
    """No recording, or only one that has ended, now or since it was listed: quiet."""
    api, adapter = served
    assert await adapter.running(ACCOUNT, CALL, deadline_s=5) == ()
    tape = api.begin(CALL)
    api.end(CALL)
    assert await adapter.running(ACCOUNT, CALL, deadline_s=5) == ()
    await adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=5)
    await adapter.resume(ACCOUNT, CALL, (tape,), deadline_s=5)
    assert [status for _, status in api.history] == ["in-progress", "completed"]


@pytest.mark.parametrize("code", [20404, 21220])
async def test_a_call_that_is_over_is_quiet(served: Served, code: int) -> None:
    """When it is listed, paused or let go on: then nothing is recorded any more."""
    api, adapter = served
    tape = api.begin(CALL)
    api.fail_next(404, code)
    assert await adapter.running(ACCOUNT, CALL, deadline_s=5) == ()
    api.fail_next(404, code)
    await adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=5)
    api.fail_next(404, code)
    await adapter.resume(ACCOUNT, CALL, (tape,), deadline_s=5)
    assert [status for _, status in api.history] == ["in-progress"]


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
    """Listing refused, or pausing: the flow decides whether a secret is asked for all the same. So is letting go on."""
    caplog.set_level(logging.DEBUG)
    api, adapter = served
    tape = api.begin(CALL)
    for asked in (
        adapter.running(ACCOUNT, CALL, deadline_s=5),
        adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=5),
        adapter.resume(ACCOUNT, CALL, (tape,), deadline_s=5),
    ):
        api.fail_next(status, code)
        with pytest.raises(NotifyFault) as fault:
            await asked
        assert fault.value.why == why
        assert [secret for secret in (CALL, TOKEN) if secret in printed(caplog, fault.value)] == []


async def test_a_lost_line_and_a_slow_service_are_faults(served: Served) -> None:
    """Nobody knows whether it runs on."""
    api, adapter = served
    for _ in range(2):  # what only reads is asked again at once
        api.drop_next()
    with pytest.raises(NotifyFault, match="was not reached"):
        await adapter.running(ACCOUNT, CALL, deadline_s=5)
    tape = api.begin(CALL)
    api.drop_next()
    with pytest.raises(NotifyFault, match="was not reached"):
        await adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=5)
    api.hold = asyncio.Event()
    with pytest.raises(NotifyFault) as fault:
        await adapter.pause(ACCOUNT, CALL, (tape,), deadline_s=0.05)
    assert fault.value.why == "timeout"
    api.hold.set()


async def test_more_recordings_than_one_page_holds(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there are others is a fault: one of them may be running."""
    monkeypatch.setattr(ours, "RECORDINGS_MAX", 2)
    api, adapter = served
    for _ in range(2):
        api.begin(CALL)
    assert len(await adapter.running(ACCOUNT, CALL, deadline_s=5)) == 2
    api.begin(CALL)
    with pytest.raises(NotifyFault, match="more than 2 recordings"):
        await adapter.running(ACCOUNT, CALL, deadline_s=5)


def test_a_full_page_fits_into_an_answer() -> None:
    """An answer that is too long would be a fault for every call that is recorded often."""
    assert ours.RECORDINGS_MAX * RECORDING_BYTES <= ANSWER_BYTES_MAX


RECORDING_BYTES = 1_700
"""More than one has in Twilio's published examples, links and encryption details included."""


async def test_an_account_without_a_token(served: Served) -> None:
    """A sub-account's recordings need its own."""
    api, adapter = served
    other = "AC" + "9" * 32
    for asked in (
        adapter.running(other, CALL, deadline_s=5),
        adapter.pause(other, CALL, ("RE1",), deadline_s=5),
        adapter.resume(other, CALL, ("RE1",), deadline_s=5),
    ):
        with pytest.raises(NotifyFault) as fault:
            await asked
        assert (fault.value.why, api.asked) == ("account", 0)


def page(status: object) -> object:
    """A list of one recording."""
    return {"recordings": [{"sid": "RE" + "1" * 32, "status": status}], "next_page_uri": None}


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
            running = await adapter.running(ACCOUNT, CALL, deadline_s=5)
            await adapter.pause(ACCOUNT, CALL, running, deadline_s=5)
        except NotifyFault as fault:
            return fault.why
        finally:
            await adapter.close()
    return None


async def test_what_is_paused_is_silent_and_as_long() -> None:
    """So that the times in a recording stay those of the call; letting it go on says nothing of it."""
    forms: list[dict[str, object]] = []

    async def lists(_: web.Request) -> web.Response:
        return web.json_response(page("paused"))

    async def updates(request: web.Request) -> web.Response:
        forms.append(dict(await request.post()))
        return web.json_response({"status": forms[-1]["Status"]})

    app = web.Application()
    app.router.add_get("/{path:.*}", lists)
    app.router.add_post("/{path:.*}", updates)
    async with TestServer(app) as server:
        adapter = TwilioRecordings({ACCOUNT: TOKEN}, api_url=str(server.make_url("")))
        for act in (adapter.pause, adapter.resume):
            await act(ACCOUNT, CALL, ("RE" + "1" * 32,), deadline_s=5)
        await adapter.close()
    assert forms == [{"Status": "paused", "PauseBehavior": "silence"}, {"Status": "in-progress"}]


async def test_no_secret_shows_in_a_repr(served: Served) -> None:
    """What is printed by accident gives nothing away."""
    assert TOKEN not in repr(served[1]) + repr(vars(served[1]))


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
