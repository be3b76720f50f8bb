"""
Twilio's REST API as the side door asks it: with the guard's own credentials, for a request of the IVR's or for a question of ours.

The laws of this file:

1. A request is made once, to the API that the settings name; redirects are given back, never followed, as they would carry
   the credentials elsewhere.
2. What is looked up for a decision is bounded (`LOOKUP_BYTES_MAX`, `LOOKUP_S`), of the shape that Twilio documents
   (https://www.twilio.com/docs/voice/api/call-resource , …/conference-participant-resource), and complete; or it is a fault,
   and nothing is decided on it. Implements `ports.Provider`.
3. Nothing of a number, a name or a credential in a fault.
"""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

from ivrguard.core.errors import NotifyFault
from ivrguard.ports import Leg

CONNECTIONS_MAX = 64
CONNECT_S = 3.0
READ_S = 20.0
"""Between two pieces of an answer."""

LOOKUP_S = 5.0
LOOKUP_BYTES_MAX = 512 * 1024
CONFERENCES_MAX = 20
"""Of one name, looked at from the newest on: those that are over stand in the list as well."""

CHILDREN_MAX = 200
PARTICIPANTS_MAX = 300
"""A conference holds 250 (https://www.twilio.com/docs/voice/api/conference-resource)."""

_Model = TypeVar("_Model", bound=BaseModel)


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Call(_Answer):
    sid: str
    from_: str = Field(alias="from")
    to: str
    direction: str
    parent_call_sid: str | None = None


class _Calls(_Answer):
    calls: list[_Call]
    next_page_uri: str | None = None


class _Conference(_Answer):
    sid: str
    status: str


class _Conferences(_Answer):
    conferences: list[_Conference]


class _Participant(_Answer):
    call_sid: str


class _Participants(_Answer):
    participants: list[_Participant]
    next_page_uri: str | None = None


class Provider:
    """`tokens`: AccountSid -> auth tokens in force, of which the first is used. `api_url`: where the API is."""

    def __init__(self, tokens: Mapping[str, tuple[str, ...]], api_url: str) -> None:
        self.api_url = api_url
        self._auth = {
            sid: f"Basic {b64encode(f'{sid}:{each[0]}'.encode()).decode()}"
            for sid, each in tokens.items()
            if each
        }
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; to be called on the loop that uses it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S),
        )

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    def request(
        self, method: str, account_sid: str, target: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> "aiohttp.client._RequestContextManager":
        """One request. `target`: path and query; raises as aiohttp does, `TimeoutError` too."""
        assert self._session is not None
        return self._session.request(
            method,
            URL(self.api_url + target, encoded=True),
            data=body,
            headers={
                **headers,
                hdrs.AUTHORIZATION: self._auth[account_sid],
                hdrs.ACCEPT_ENCODING: "identity",
            },
            allow_redirects=False,
        )

    async def leg(self, account_sid: str, call_sid: str) -> Leg | None:
        """See `ports.Provider.leg`."""
        found = await self._looked_up(account_sid, f"Calls/{call_sid}.json", _Call)
        if found is None:
            return None
        return Leg(found.from_, found.to, found.direction, found.parent_call_sid or "")

    async def children(self, account_sid: str, call_sid: str) -> Mapping[str, Leg]:
        """See `ports.Provider.children`."""
        path = f"Calls.json?ParentCallSid={call_sid}&PageSize={CHILDREN_MAX}"
        page = await self._looked_up(account_sid, path, _Calls)
        if page is not None and page.next_page_uri:
            raise NotifyFault(f"a call has more than {CHILDREN_MAX} legs")
        every = page.calls if page is not None else []
        return {one.sid: Leg(one.from_, one.to, one.direction, one.parent_call_sid or "") for one in every}

    async def members(self, account_sid: str, conference: str) -> tuple[str, ...]:
        """See `ports.Provider.members`."""
        sids = [conference]
        if not conference.startswith("CF"):
            query = f"FriendlyName={quote(conference, safe='')}&PageSize={CONFERENCES_MAX}"
            every = await self._looked_up(account_sid, f"Conferences.json?{query}", _Conferences)
            sids = [one.sid for one in every.conferences if one.status != "completed"] if every else []
        members: list[str] = []
        for sid in sids:
            path = f"Conferences/{quote(sid, safe='')}/Participants.json?PageSize={PARTICIPANTS_MAX}"
            page = await self._looked_up(account_sid, path, _Participants)
            if page is not None and page.next_page_uri:
                raise NotifyFault(f"a conference has more than {PARTICIPANTS_MAX} participants")
            members += [one.call_sid for one in page.participants] if page is not None else []
        return tuple(dict.fromkeys(members))

    async def _looked_up(self, account_sid: str, path: str, shape: type[_Model]) -> _Model | None:
        """What stands there; None: Twilio has no such thing. Raises `core.errors.NotifyFault`."""
        target = f"/2010-04-01/Accounts/{account_sid}/{path}"
        headers = {"Accept": "application/json"}
        try:
            async with (
                asyncio.timeout(LOOKUP_S),
                self.request("GET", account_sid, target, headers=headers, body=None) as answer,
            ):
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise NotifyFault(f"Twilio answered {answer.status} to a look-up", why="outage")
                body = await answer.content.read(LOOKUP_BYTES_MAX + 1)
                while len(body) <= LOOKUP_BYTES_MAX and (more := await answer.content.read(LOOKUP_BYTES_MAX)):
                    body += more
                return shape.model_validate_json(body[: LOOKUP_BYTES_MAX + 1])
        except ValidationError:
            raise NotifyFault("Twilio's answer was not what its API answers", why="garbled") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise NotifyFault(f"Twilio was not reached: {type(fault).__name__}", why="outage") from None
