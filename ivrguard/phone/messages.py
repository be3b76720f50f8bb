"""A pretend Twilio Messages API: it takes text messages, keeps them, and fails when told to.

Laws of this file
 1. `POST /2010-04-01/Accounts/{Sid}/Messages.json`, HTTP Basic, a form with `To`, `From` or
    `MessagingServiceSid`, and `Body`; 201 with a message in Twilio's shape, errors in Twilio's shape
    (https://www.twilio.com/docs/messaging/api/message-resource , codes https://www.twilio.com/docs/api/errors).
 2. What it answered 201 is in `sent`, and nothing else is.
 3. Faults are planted one at a time and in order (`fail_next`, `drop_next`); `hold` makes every request wait.
"""

import asyncio
import re
from base64 import b64encode
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from hmac import compare_digest
from uuid import uuid4

from aiohttp import web

BODY_CHARACTERS_MAX = 1600
"""A longer Body is error 21617."""


@dataclass(frozen=True, slots=True)
class Message:
    """One text message that was sent. `body` may hold a code, so it does not show in a repr."""

    to: str
    body: str = field(repr=False)
    sender: str = ""


@dataclass(frozen=True, slots=True)
class _Fault:
    """What the next request meets: an error answer, or (status 0) a connection that breaks."""

    status: int
    code: int


class Messages:
    """The API of one account; `app()` serves it.

    `sent`: the messages, in order. `hold`: when set to an event, requests wait for it before they are
    answered (a slow provider). Credentials are the account's SID and token, or any API key of `api_keys`.
    """

    def __init__(self, account_sid: str, auth_token: str, *, api_keys: dict[str, str] | None = None) -> None:
        self.account_sid = account_sid
        self.sent: list[Message] = []
        self.hold: asyncio.Event | None = None
        self._credentials = {account_sid: auth_token} | (api_keys or {})
        self._faults: deque[_Fault] = deque()

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        served.router.add_post("/2010-04-01/Accounts/{account}/Messages.json", self._post)
        return served

    def fail_next(self, status: int, code: int) -> None:
        """Answer the next request that has no fault yet with this HTTP status and Twilio error code."""
        self._faults.append(_Fault(status, code))

    def drop_next(self) -> None:
        """Break the connection of the next request that has no fault yet, without an answer."""
        self._faults.append(_Fault(0, 0))

    def code_for(self, number: str) -> str:
        """The code in the last message sent to `number`: the last run of four digits or more in it.

        Raises `LookupError` when no message with a code went there.
        """
        for message in reversed(self.sent):
            if message.to == number and (codes := re.findall(r"[0-9]{4,}", message.body)):
                return str(codes[-1])
        raise LookupError(f"no code was sent to {number}")

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if self.hold is not None:
            await self.hold.wait()
        fault = self._faults.popleft() if self._faults else None
        if fault is not None:
            if fault.status == 0:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return _error(fault.status, fault.code, "planted")
        if not self._allowed(request.headers.get("Authorization", "")):
            return _error(401, 20003, "Authenticate")
        if request.match_info["account"] != self.account_sid:
            return _error(404, 20404, "The requested resource was not found")
        form = {name: str(value) for name, value in (await request.post()).items()}
        refused = _refusal(form)
        if refused is not None:
            return refused
        message = Message(form["To"], form["Body"], form.get("From") or form["MessagingServiceSid"])
        self.sent.append(message)
        return web.json_response(self._resource(form), status=201)

    def _allowed(self, authorization: str) -> bool:
        return any(
            compare_digest(authorization.encode(), b"Basic " + b64encode(f"{user}:{password}".encode()))
            for user, password in self._credentials.items()
        )

    def _resource(self, form: dict[str, str]) -> dict[str, object]:
        sid = "SM" + uuid4().hex
        now = formatdate().replace("-0000", "+0000")
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{sid}"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": form["Body"],
            "date_created": now,
            "date_sent": None,
            "date_updated": now,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form.get("From"),
            "messaging_service_sid": form.get("MessagingServiceSid"),
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": "USD",
            "sid": sid,
            "status": "queued",
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": form["To"],
            "uri": f"{uri}.json",
        }


def _refusal(form: dict[str, str]) -> web.Response | None:
    """What is wrong with a message, if anything."""
    if not form.get("To"):
        return _error(400, 21604, "A 'To' phone number is required.")
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", form["To"]):
        return _error(400, 21211, "Invalid 'To' Phone Number")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return _error(400, 21603, "A 'From' phone number is required.")
    if not form.get("Body"):
        return _error(400, 21602, "Message body is required.")
    if len(form["Body"]) > BODY_CHARACTERS_MAX:
        return _error(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    return None


def _error(status: int, code: int, message: str) -> web.Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return web.json_response(
        {"code": code, "message": message, "more_info": more, "status": status}, status=status
    )
