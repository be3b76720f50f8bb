"""
Promise 1, by REST: no request to the side door reaches what a flow protects, unless the call holds the level at that moment.

Twilio's own client asks the guard, the pretend Twilio does what it is told, and the caller has proved nothing. The documents are those
of test_01_no_way_round.py; then requests of all kinds, one after the other, at random. Where state is kept is all the same here.
"""

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from ivrguard.core.rules import ANYONE, Rule, Target
from ivrguard.guard import side_door, webhook
from ivrguard.phone.calls import Calls
from ivrguard.phone.conferences import Conferences
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL
from ivrguard.telephony import rest

from .test_01_no_way_round import NASTY, OPEN, SPELLINGS, protected, wander

KEY, SECRET = "SK" + "7a" * 16, "canary-of-the-ivrs-own-key"
OPEN_NUMBER, CLOSED_NUMBER = "+18005550142", "+18005550143"
LOBBY = "<Dial><Conference>lobby</Conference></Dial>"
MENU = '<Gather numDigits="1" action="/open/pressed"/>'
SEQUENCES = 12
ACTS = 4


class ThroughTheGuard(TwilioHttpClient):
    """As docs/side-door.md says."""

    def __init__(self, guard: str) -> None:
        super().__init__()
        self.guard = guard

    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://api.twilio.com", self.guard, 1), *args, **kwargs)


@dataclass
class Door:
    """A house with its side door open, and what stands behind it."""

    house: object
    calls: Calls
    conferences: Conferences
    client: Client

    async def ask(self, act: Callable[[Client], object]) -> object | None:
        """What the client answers; None if the request was refused."""
        try:
            answer = await asyncio.to_thread(act, self.client)
        except TwilioRestException:
            answer = None
        await self.calls.settled()
        return answer

    def filled(self, document: str) -> str:
        """A document with its origins; by REST nothing is relative at Twilio, and here all is against the IVR's first one."""
        return f"<Response>{document}</Response>".replace("{ivr}", self.house.ivr.origin).replace(
            "{guard}", PUBLIC_URL
        )

    def no_way_round(self, what: str) -> None:
        """The IVR got nothing protected, and nobody who proved nothing was connected with anybody protected."""
        reached = [got.target for got in self.house.ivr.got if protected(got, proven=False)]
        assert reached == [], f"{what}: the IVR got {reached}"
        open_ones = {f"enqueue:{self.house.OPEN_QUEUE}", f"number:{OPEN_NUMBER}", "conference:lobby"}
        for line in self.calls.lines.values():
            taken = set(self.house.transfers(line)) - open_ones
            assert taken == set(), f"{what}: {line.direction} was taken to {taken}"
        for room in self.conferences.rooms:
            there = [one.line.to for one in room.participants]
            callers = [one for one in room.participants if one.line.direction == "inbound"]
            assert not (callers and CLOSED_NUMBER in there), f"{what}: a caller meets {there}"


@asynccontextmanager
async def opened(house) -> AsyncIterator[Door]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    built = await house(
        OPEN | {"/open/start": MENU, "/open/pressed": MENU},
        levels=house.FAST,
        rules=(Rule(ANYONE, transfer=Target("conference", "lobby")), *house.RULES),
        extra={"side_door_keys": {(ACCOUNT_SID, KEY): SECRET}, "side_door_api_url": url},
    )
    calls = Calls(built.rig.exchange)
    conferences = Conferences(calls)
    runner = web.AppRunner(conferences.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    client = Client(
        KEY, SECRET, ACCOUNT_SID, http_client=ThroughTheGuard(f"{built.rig.guard_url}/.ivrguard/rest")
    )
    try:
        yield Door(built, calls, conferences, client)
    finally:
        await runner.cleanup()


async def check_documents(house) -> None:
    """Each nasty document, given to a live call as it is, or by a URL."""
    async with opened(house) as door:
        for name, page in NASTY.items():
            line = door.house.call()
            await line.until_input()
            if isinstance(page, str):
                twiml = door.filled(page)
                await door.ask(
                    lambda client, sid=line.call_sid, twiml=twiml: client.calls(sid).update(twiml=twiml)
                )
            else:
                door.house.ivr.documents["/open/given"] = page
                url = f"{door.house.ivr.origin}/open/given"
                await door.ask(lambda client, sid=line.call_sid, url=url: client.calls(sid).update(url=url))
            await wander(door.house, line)
            door.no_way_round(name)


async def check_urls(house) -> None:
    """Every spelling of a protected path, as the URL or the fallback of a live call, and of one that is placed."""
    async with opened(house) as door:
        number, ivr = door.house.rig.flow.numbers[0], door.house.ivr.origin
        bad = f"{ivr}/open/500"
        for nth, spelled in enumerate(SPELLINGS):
            url = f"{(ivr, PUBLIC_URL)[nth % 2]}{spelled}"
            line = door.house.call()
            await line.until_input()
            sid = line.call_sid
            await door.ask(
                lambda client, sid=sid, url=url: client.calls(sid).update(url=bad, fallback_url=url)
            )
            line = door.house.call()
            await line.until_input()
            sid = line.call_sid
            await door.ask(lambda client, sid=sid, url=url: client.calls(sid).update(url=url))
            await door.ask(
                lambda client, url=url: client.calls.create(to="+15559990000", from_=number, url=url)
            )
            door.no_way_round(url)


async def check_sequences(house) -> None:
    """Requests of every kind in any order: on the caller, on whom he reached, on whom the IVR called."""
    async with opened(house) as door:
        for nth in range(SEQUENCES):
            chance = random.Random(nth)
            line = door.house.call()
            await line.until_input()
            said: list[str] = []
            for _ in range(ACTS):
                what, act = an_act(door, line, chance)
                said.append(what)
                await door.ask(act)
                if chance.random() < 0.5:
                    await wander(door.house, line)
                door.no_way_round(f"{nth}: {', '.join(said)}")


DOCUMENTS = [page for page in NASTY.values() if isinstance(page, str)]
CONNECTING = [
    LOBBY,
    f"<Dial>{CLOSED_NUMBER}</Dial>",
    f"<Dial>{OPEN_NUMBER}</Dial>",
    "<Enqueue>open-line</Enqueue>",
    "<Enqueue>agents</Enqueue>",
    "<Dial><Conference>room</Conference></Dial>",
]


def an_act(door: Door, line, chance: random.Random) -> tuple[str, Callable[[Client], object]]:
    """A request, in words and as the client makes it."""
    number, to = door.house.rig.flow.numbers[0], chance.choice([OPEN_NUMBER, CLOSED_NUMBER])
    twiml = door.filled(chance.choice(CONNECTING if chance.random() < 0.7 else DOCUMENTS))
    url = door.house.ivr.origin + chance.choice([*OPEN, *SPELLINGS])
    legs = [one.call_sid for one in door.calls.lines.values() if not one.over][-3:]
    sid = line.call_sid if chance.random() < 0.6 or not legs else chance.choice(legs)
    match chance.randrange(6):
        case 0 | 1:
            return f"Twiml {twiml}", lambda client: client.calls(sid).update(twiml=twiml)
        case 2:
            return f"Url {url}", lambda client: client.calls(sid).update(url=url)
        case 3:
            return f"join {to}", lambda client: client.conferences("lobby").participants.create(
                to=to, from_=number
            )
        case 4:
            return f"place {to} {twiml}", lambda client: client.calls.create(to=to, from_=number, twiml=twiml)
        case _:
            return f"place {to} {url}", lambda client: client.calls.create(to=to, from_=number, url=url)


async def test_no_document_that_is_given_leads_round_the_guard(broken):
    await check_documents(broken)


async def test_no_url_that_is_given_leads_round_the_guard(broken):
    await check_urls(broken)


async def test_no_requests_in_any_order_lead_round_the_guard(broken):
    await check_sequences(broken)


async def test_the_credentials_are_nowhere(broken, logged):
    """Promise 5: canaries of the IVR's key and of the account's token, in the log as it is written, the store and the record."""
    async with opened(broken) as door:
        line = door.house.call()
        await line.until_input()
        await door.ask(lambda client: client.calls(line.call_sid).update(twiml=door.filled(LOBBY)))
        wrong = Client(KEY, SECRET + "!", ACCOUNT_SID, http_client=door.client.http_client)
        assert await asyncio.to_thread(_status, wrong) == 401
        kept = str(await door.house.rows()) + str(await door.house.rig.store.entries(limit=1000))
        for canary in (SECRET, AUTH_TOKEN):
            assert canary not in kept
            assert canary not in logged.getvalue().decode()
        assert re.search(rf'"event":"rest".*"call":"{line.call_sid}"', logged.getvalue().decode())


def _status(client: Client) -> int:
    with pytest.raises(TwilioRestException) as refused:
        client.calls("CA" + "0" * 32).fetch()
    return refused.value.status


# ── red ──────────────────────────────────────────────────────────────────────────────────────────────────


def with_urls_as_they_came(patch) -> None:
    """URLs go to Twilio unchanged, so that it asks the IVR itself."""
    patch.setattr(rest, "rewritten", lambda what, form, links, **more: form)


def with_documents_as_they_came(patch) -> None:
    """`Twiml` goes to Twilio unchanged."""

    async def led(self, what, sid, call, mounted, form, given, *, how, turn):
        return form

    patch.setattr(side_door.SideDoor, "_led", led)


def with_anyone_in_a_conference(patch) -> None:
    """Who is dialled into a caller's conference is not put to the rules."""

    async def nobody(world, provider, account_sid, conference):
        return side_door.Room()

    patch.setattr(side_door, "room_of", nobody)


def with_transfers_of_a_document_uncut(patch) -> None:
    """A document by REST is run whole."""

    async def nothing(self, read, first):
        return None

    patch.setattr(webhook.Webhook, "_cut", nothing)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (with_urls_as_they_came, check_urls),
        (with_documents_as_they_came, check_documents),
        (with_anyone_in_a_conference, check_sequences),
        (with_transfers_of_a_document_uncut, check_sequences),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise by REST is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
