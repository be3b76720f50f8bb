"""
Text messages out, through Twilio's Messages resource. Implements `ports.Messenger`.

1. **Once.** A message is handed over with one request and never again by itself: a second try after an answer that
   was lost would send a second message. Whether to ask for another code is the caller's business.
2. **By its deadline**, whatever the network does, and no more than `SENDS_AT_ONCE_MAX` at once: a slow carrier
   must not hold up calls, which have 15 seconds for an answer.
3. **Nothing of the message in an error**: neither number nor text nor credentials, and none of the carrier's words,
   which repeat them. Its error code says what to mend (https://www.twilio.com/docs/api/errors).
4. The carrier's answer is read up to `ANSWER_BYTES_MAX`; redirects are not followed, as they would carry the
   credentials elsewhere.

Twilio's library writes the request and reads the answer
(https://www.twilio.com/docs/messaging/api/message-resource); the connection is ours, since the library's own has no
deadline for the whole, no bound, and logs what it sends.
"""

import asyncio
from base64 import b64encode
from typing import Any

import aiohttp
from twilio.base.exceptions import TwilioException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from ivrguard.core.errors import NotifyFault

SENDS_AT_ONCE_MAX = 32
ANSWER_BYTES_MAX = 65_536
_NOT_THE_API = "the carrier's answer was not what its API answers"
_NO_ENVIRONMENT = {"IVRGUARD": ""}
"""The library reads credentials, region and edge from the environment unless it is given one that is not empty."""


class SmsMessenger:
    """
    Sends text messages from one account.

    `from_`: the sending number in E.164 (or a sender name); or `messaging_service_sid` instead: exactly one of them,
    else `ValueError`. `api_url`: where the API is, for tests and for Twilio's regions.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        from_: str = "",
        *,
        messaging_service_sid: str = "",
        api_url: str = "https://api.twilio.com",
    ) -> None:
        if bool(from_) is bool(messaging_service_sid):
            raise ValueError("messages need a number to come from, or a messaging service: one of the two")
        self._sender = {"from_": from_} if from_ else {"messaging_service_sid": messaging_service_sid}
        self._http = _Http()
        self._client = Client(  # type: ignore[no-untyped-call]  # the library leaves it without types
            account_sid, auth_token, http_client=self._http, environment=_NO_ENVIRONMENT
        )
        self._client.api.base_url = api_url
        self._under_way = 0

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        """
        Hand `text` to the carrier for `to` (E.164).

        Raises `core.errors.NotifyFault` if it was refused, or not taken for certain by the deadline; the message may
        then arrive all the same.
        """
        if self._under_way >= SENDS_AT_ONCE_MAX:
            raise NotifyFault(f"{SENDS_AT_ONCE_MAX} messages are under way already: the carrier is slow")
        self._under_way += 1
        try:
            async with asyncio.timeout(deadline_s):
                taken = await self._client.messages.create_async(to=to, body=text, **self._sender)
        except TimeoutError:
            raise NotifyFault(f"the carrier did not answer within {deadline_s:g} s") from None
        except TwilioException as refusal:
            raise NotifyFault(_why(refusal)) from None
        except (aiohttp.ClientError, OSError) as fault:
            raise NotifyFault(f"the carrier was not reached: {type(fault).__name__}") from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            # Not text, not JSON, not an object, not of its types: the library looks inside before it checks.
            raise NotifyFault(_NOT_THE_API) from None
        finally:
            self._under_way -= 1
        if not taken.sid:
            raise NotifyFault(_NOT_THE_API)
        if str(taken.status) in {"failed", "undelivered"}:
            raise NotifyFault(_told(taken.error_code, "took the message and failed to send it"))

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._http.close()


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
        timeout: float | None = None,  # noqa: ARG002 - the deadline is send's
        allow_redirects: bool = False,  # noqa: ARG002 - never: law 4
    ) -> Response:
        """One request, one answer. Raises `ValueError` for an answer that is too long, or no text."""
        if self._session is None:  # it belongs to the running loop, which may not be there when we are made
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=SENDS_AT_ONCE_MAX),
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
            return Response(answer.status, body.decode())

    async def close(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()


def _basic(auth: tuple[str, str] | None) -> dict[str, str]:
    """HTTP Basic (RFC 7617), in UTF-8."""
    return {"Authorization": f"Basic {b64encode(':'.join(auth).encode()).decode()}"} if auth else {}


def _why(refusal: TwilioException) -> str:
    status, code = getattr(refusal, "status", None), getattr(refusal, "code", None)
    match status:
        case 401 | 403:
            return _told(code, "refused the account: check its SID, token and permissions")
        case 429:
            return _told(code, "asks for fewer messages at a time")
        case int() if status >= 500:
            return _told(code, "has a fault of its own")
        case _:
            return _told(code, "refused the message")


def _told(code: object, what: str) -> str:
    """The carrier's code, if it is one: nothing else that it says is repeated."""
    known = isinstance(code, int) and code >= 10_000
    return f"the carrier {what}" + (f" (https://www.twilio.com/docs/api/errors/{code})" if known else "")
