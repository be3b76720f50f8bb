"""
Twilio's REST API, as every adapter of this folder asks it.

1. **Once.** A request that changes anything is made once and never again by itself: after an answer that was lost, a
   second try would send a second message or use up a second check. One that only reads is made again at once when its
   connection breaks, as a kept one may have been closed from the other side (RFC 9112, 9.3.1).
2. **By its deadline**, whatever the network does, and no more than `REQUESTS_AT_ONCE_MAX` at once: a slow carrier must
   not hold up calls, which have 15 seconds for an answer (https://www.twilio.com/docs/api/errors/11205).
3. **Nothing of what was asked in an error**: no number, code, text or credential, and none of the carrier's words,
   which repeat them. Its error code says what to mend (https://www.twilio.com/docs/api/errors).
4. An answer is read up to `ANSWER_BYTES_MAX`; redirects are not followed, as they would carry the credentials
   elsewhere.
5. **One fault for each failure**: `core.errors.NotifyFault`, whose `why` is a word of `WHYS`.

Twilio's library writes the requests and reads the answers; the connection is ours, since the library's own has no
deadline for the whole, no bound, and logs what it sends, URLs with numbers in them included.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from twilio.base.exceptions import TwilioException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from ivrguard.core.errors import NotifyFault

REQUESTS_AT_ONCE_MAX = 32
ANSWER_BYTES_MAX = 262_144
NOT_FOUND = 20404
"""Twilio's code for a resource that is not there, or no longer (https://www.twilio.com/docs/api/errors/20404)."""

WHYS = frozenset(
    {
        "account",
        "blocked",
        "busy",
        "country_not_allowed",
        "garbled",
        "gone",
        "invalid",
        "landline",
        "opted_out",
        "outage",
        "prefix_blocked",
        "template",
        "timeout",
        "too_many_checks",
        "too_many_requests",
        "too_many_sends",
        "undeliverable",
    }
)
"""Every word that a fault of this folder gives as its `why`; docs/messages.md explains each."""

_NO_ENVIRONMENT = {"IVRGUARD": ""}
"""The library reads credentials, region and edge from the environment unless it is given one that is not empty."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one of the carrier's error codes comes to: `why`, and `said`, which goes on after "the carrier"."""

    why: str
    said: str


class Refused(Exception):
    """
    The carrier answered a request with another status than success. `code`: its error code, 0 for none.

    Inside `Rest.asking` an adapter may take it for an answer; what it leaves becomes a `NotifyFault`.
    """

    def __init__(self, status: int, code: int) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


class Rest:
    """
    One bounded way to one of Twilio's APIs. `thing`: what it takes, as a word for a fault: "message".

    `meanings`: the error codes that this API is known for. Everything else is told by its HTTP status.
    """

    def __init__(self, thing: str, meanings: Mapping[int, Meaning]) -> None:
        self._thing = thing
        self._meanings = meanings
        self._http = _Http()
        self._under_way = 0

    def client(self, account_sid: str, auth_token: str) -> Client:
        """Twilio's own client for an account, over this connection; its domain's `base_url` is the adapter's to set."""
        return Client(  # type: ignore[no-untyped-call]  # the library leaves it without types
            account_sid, auth_token, http_client=self._http, environment=_NO_ENVIRONMENT
        )

    @asynccontextmanager
    async def asking(self, deadline_s: float) -> AsyncIterator[None]:
        """
        Around the requests of one errand and the reading of their answers: all of it within `deadline_s`.

        Raises `core.errors.NotifyFault` for whatever goes wrong in it. After a deadline or a lost connection the
        carrier may have done what it was asked for all the same.
        """
        if self._under_way >= REQUESTS_AT_ONCE_MAX:
            raise NotifyFault(
                f"{REQUESTS_AT_ONCE_MAX} requests are under way already: the carrier is slow", why="busy"
            )
        self._under_way += 1
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError:
            raise NotifyFault(f"the carrier did not answer within {deadline_s:g} s", why="timeout") from None
        except Refused as refused:
            raise self._fault(refused) from None
        except (aiohttp.ClientError, OSError) as fault:
            raise NotifyFault(f"the carrier was not reached: {type(fault).__name__}", why="outage") from None
        except (
            TwilioException,
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            ArithmeticError,
            RecursionError,
        ):
            # Not text, not JSON, not an object, not of its types: the library looks inside before it checks.
            raise garbled() from None
        finally:
            self._under_way -= 1

    def _fault(self, refused: Refused) -> NotifyFault:
        meaning = self._meanings.get(refused.code)
        if meaning is not None:
            return told(refused.code, meaning)
        match refused.status:
            case 401 | 403:
                said = "refused the account: check its SID, token and permissions"
                return told(refused.code, Meaning("account", said))
            case 429:
                said = f"asks for fewer {self._thing}s at a time"
                return told(refused.code, Meaning("too_many_requests", said))
            case status if status >= 500:
                return told(refused.code, Meaning("outage", "has a fault of its own"))
            case _:
                return told(refused.code, Meaning("undeliverable", f"refused the {self._thing}"))

    async def close(self) -> None:
        """Close the kept connections; call it when nothing is under way any more. Harmless twice."""
        await self._http.close()


def told(code: object, meaning: Meaning) -> NotifyFault:
    """The fault that a code and its meaning come to. Of the carrier's, only a code of its own form is repeated."""
    known = isinstance(code, int) and code >= 10_000
    link = f" (https://www.twilio.com/docs/api/errors/{code})" if known else ""
    return NotifyFault(f"the carrier {meaning.said}{link}", why=meaning.why)


def garbled() -> NotifyFault:
    """The fault for an answer that is none: a proxy's page, another API's, or one about something else."""
    return NotifyFault("the carrier's answer was not what its API answers", why="garbled")


def e164(number: str) -> str:
    """The number, if it is in E.164: it stands in a URL of the carrier's. Raises `core.errors.NotifyFault`."""
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", number):
        raise NotifyFault("the number on file is not in E.164 (+ and 7 to 15 digits)", why="invalid")
    return number


class _Http(AsyncHttpClient):
    """The library's way to the network: kept connections, our bounds, no log (so its constructor is not called)."""

    is_async = True

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def request(  # type: ignore[override]  # so does the library's own async client
        self,
        method: str,
        uri: str,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is that of `asking`
        allow_redirects: bool = False,  # noqa: ARG002 - never: law 4
    ) -> Response:
        """One request, one answer. Raises `Refused`, or `ValueError` for an answer that is too long, or no text."""
        if self._session is None:  # it belongs to the running loop, which may not be there when we are made
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=REQUESTS_AT_ONCE_MAX),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        async with self._session.request(
            method,
            uri,
            params=params,
            data=data,
            headers={**(headers or {}), **_basic(auth)},
            allow_redirects=False,
        ) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise ValueError("too long an answer")
            if not 200 <= answer.status < 300:
                raise Refused(answer.status, _code(body))
            return Response(answer.status, body.decode())

    async def close(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()


def _basic(auth: tuple[str, str] | None) -> dict[str, str]:
    """HTTP Basic (RFC 7617), in UTF-8."""
    return {"Authorization": f"Basic {b64encode(':'.join(auth).encode()).decode()}"} if auth else {}


def _code(body: bytearray) -> int:
    """The error code in the body of a refusal, in Twilio's own form and in RFC 9457's alike; 0 for none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return 0
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, int) else 0
