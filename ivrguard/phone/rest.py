"""What the pretend Twilio's REST APIs have in common: who may ask, what goes wrong when it is told to, and shapes.

Laws of this file
 1. HTTP Basic with the account's SID and token, or with an API key; otherwise 401, 20003
    (https://www.twilio.com/docs/usage/api).
 2. Errors have Twilio's shape: `code`, `message`, `more_info`, `status`
    (https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions).
 3. Faults are planted one at a time and in order (`fail_next`, `drop_next`); `hold` makes every request wait. A request
    that meets a fault changes nothing.
"""

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from hmac import compare_digest
from urllib.parse import urlencode
from uuid import uuid4

from aiohttp import web

Handler = Callable[[web.Request, dict[str, str]], web.Response]
"""What answers a request, given its form. The values of a parameter that is repeated are joined by blanks."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """What the next request meets: an error answer, or (status 0) a connection that breaks."""

    status: int
    code: int


class Api:
    """One API of one account. `hold`: when set to an event, requests wait for it before they are answered (a slow
    provider). `asked`: how many requests came, those that failed included.
    """

    def __init__(self, account_sid: str, auth_token: str, *, api_keys: dict[str, str] | None = None) -> None:
        self.account_sid = account_sid
        self.hold: asyncio.Event | None = None
        self.asked = 0
        self._credentials = {account_sid: auth_token} | (api_keys or {})
        self._faults: deque[_Fault] = deque()

    def fail_next(self, status: int, code: int) -> None:
        """Answer the next request that has no fault yet with this HTTP status and Twilio error code."""
        self._faults.append(_Fault(status, code))

    def drop_next(self) -> None:
        """Break the connection of the next request that has no fault yet, without an answer."""
        self._faults.append(_Fault(0, 0))

    def serving(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler for aiohttp: what was planted comes first, then the credentials, then `handler`."""

        async def serve(request: web.Request) -> web.StreamResponse:
            self.asked += 1
            if self.hold is not None:
                await self.hold.wait()
            fault = self._faults.popleft() if self._faults else None
            if fault is not None:
                return _met(fault, request)
            if not self._allowed(request.headers.get("Authorization", "")):
                return error(401, 20003, "Authenticate")
            if request.match_info.get("account", self.account_sid) != self.account_sid:
                return not_found(request)
            form = await request.post()
            return handler(request, {name: " ".join(map(str, form.getall(name))) for name in form})

        return serve

    def _allowed(self, authorization: str) -> bool:
        return any(
            compare_digest(authorization.encode(), b"Basic " + b64encode(f"{user}:{password}".encode()))
            for user, password in self._credentials.items()
        )


def _met(fault: _Fault, request: web.Request) -> web.Response:
    if fault.status:
        return error(fault.status, fault.code, "planted")
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def error(status: int, code: int, message: str) -> web.Response:
    """An error in Twilio's shape."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    return web.json_response(
        {"code": code, "message": message, "more_info": more, "status": status}, status=status
    )


def not_found(request: web.Request) -> web.Response:
    """404, 20404: no such resource, or no longer. The message repeats the path, as Twilio's does."""
    return error(404, 20404, f"The requested resource {request.path} was not found")


def listed(request: web.Request, name: str, every: Sequence[dict[str, object]]) -> web.Response:
    """One page of a list, as `PageSize` (50 unless told) and `Page` ask for it, in the shape of the 2010 API."""
    size, page = int(request.query.get("PageSize", 50)), int(request.query.get("Page", 0))
    shown = every[page * size : (page + 1) * size]
    asked = [(key, value) for key, value in request.query.items() if key not in {"PageSize", "Page"}]

    def at(number: int) -> str:
        return f"{request.path}?{urlencode([*asked, ('PageSize', size), ('Page', number)])}"

    return web.json_response(
        {
            name: shown,
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + len(shown),
            "uri": request.path_qs,
            "first_page_uri": at(0),
            "next_page_uri": at(page + 1) if every[(page + 1) * size :] else None,
            "previous_page_uri": at(page - 1) if page else None,
        }
    )


def sid(prefix: str) -> str:
    """A new SID: two letters and 32 hex digits."""
    return prefix + uuid4().hex


def date() -> str:
    """The date and time of now as the 2010 API writes them: RFC 2822 in UTC."""
    return formatdate().replace("-0000", "+0000")


def instant(now_ms: int) -> str:
    """A date and time as the newer APIs write them: ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
