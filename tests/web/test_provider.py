"""Twilio asked about calls that the guard does not know: the pretend API over a real socket, and answers that are none."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN
from ivrguard.ports import Leg
from ivrguard.web import provider
from ivrguard.web.provider import Provider

CA = "CA" + "0a" * 16


@pytest.fixture
async def asking():
    """A provider over an application, for the time of a test."""
    opened = []

    async def over(app):
        server = TestServer(app)
        await server.start_server()
        made = Provider({ACCOUNT_SID: (AUTH_TOKEN, "the-next-one")}, str(server.make_url("")).rstrip("/"))
        await made.open()
        opened.extend((made, server))
        return made

    yield over
    for one in opened:
        await one.close()


@pytest.fixture
async def pretend(guarded, ivr, asking):
    """The pretend API beside a call that is in a conference, and the provider that asks it."""
    ivr.documents["/voice"] = "<Dial><Conference>a room</Conference></Dial>"
    api = Conferences(Calls(guarded.exchange))
    line = guarded.call()
    await line.until_input()
    return await asking(api.app()), api, line


async def test_whose_a_leg_is(pretend, ivr):
    made, _, line = pretend
    assert await made.leg(ACCOUNT_SID, line.call_sid) == Leg(line.from_, line.to, "inbound")
    assert await made.leg(ACCOUNT_SID, CA) is None


async def test_who_is_in_a_conference(pretend):
    """By its SID, or by its name, which older ones had as well."""
    made, api, line = pretend
    assert await made.members(ACCOUNT_SID, "a room") == (line.call_sid,)
    assert await made.members(ACCOUNT_SID, api.rooms[0].sid) == (line.call_sid,)
    assert await made.members(ACCOUNT_SID, "another room") == ()
    assert await made.members(ACCOUNT_SID, "CF" + "0" * 32) == ()
    await line.hang_up()
    assert await made.members(ACCOUNT_SID, "a room") == ()


async def test_whom_a_call_dialled(guarded, ivr, asking):
    """Its own legs, and nobody else's."""
    api = Calls(guarded.exchange)
    ivr.documents["/voice"] = "<Dial>+18005550142</Dial>"
    line, other = guarded.call(), guarded.call()
    await line.until_input()
    await other.until_input()
    made = await asking(api.app())
    [leg] = line.legs
    found = await made.children(ACCOUNT_SID, line.call_sid)
    assert found == {leg.call_sid: Leg(line.from_, "+18005550142", "outbound-dial", line.call_sid)}


async def test_more_legs_than_are_looked_at(asking):
    made = await asking(answering(200, '{"calls": [], "next_page_uri": "/more"}'))
    with pytest.raises(NotifyFault, match="legs"):
        await made.children(ACCOUNT_SID, CA)
    made = await asking(answering(404, "{}"))
    assert await made.children(ACCOUNT_SID, CA) == {}


def answering(status, text, headers=None):
    app = web.Application()

    async def handle(_):
        return web.Response(status=status, text=text, headers=headers)

    app.router.add_route("*", "/{rest:.*}", handle)
    return app


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, '{"from": "+1", "to": "+2"}'),
        (200, "[]"),
        (200, "<html>"),
        (401, "{}"),
        (503, "{}"),
        (302, ""),
        (200, json.dumps({"from": "x" * 1_000_000})),
    ],
    ids=["incomplete", "a list", "HTML", "401", "503", "redirect", "too long"],
)
async def test_an_answer_that_is_none_decides_nothing(asking, status, text):
    made = await asking(answering(status, text, {"Location": "/elsewhere"}))
    with pytest.raises(NotifyFault):
        await made.leg(ACCOUNT_SID, CA)


async def test_more_than_are_looked_at(asking):
    page = {"participants": [{"call_sid": CA}], "next_page_uri": "/more"}
    made = await asking(answering(200, json.dumps(page)))
    with pytest.raises(NotifyFault, match="participants"):
        await made.members(ACCOUNT_SID, "CF" + "0" * 32)


async def test_nobody_there_or_too_slow(monkeypatch):
    made = Provider({ACCOUNT_SID: (AUTH_TOKEN,)}, "http://127.0.0.1:9")
    await made.close()
    await made.open()
    with pytest.raises(NotifyFault):
        await made.leg(ACCOUNT_SID, CA)
    await made.close()


async def test_a_look_up_has_a_deadline(asking, monkeypatch):
    async def never(request):
        await asyncio.Event().wait()

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", never)
    made = await asking(app)
    monkeypatch.setattr(provider, "LOOKUP_S", 0.05)
    with pytest.raises(NotifyFault):
        await made.leg(ACCOUNT_SID, CA)
