"""
Alerts out, to the risk team: a signed webhook, and text messages. Each implements `ports.Alarm`.

The laws of this file:

1. A notice is handed over once, by its deadline; whether to try again is the guard's business (guard/alarms.py).
2. A webhook is signed as Standard Webhooks has it (https://www.standardwebhooks.com/): HMAC-SHA256 over id, time and body,
   one signature for each secret in force. Libraries in a dozen languages verify it; docs/alerts.md says how by hand.
3. Redirects are not followed, no answer is read, and nothing of URL, secret and number is in an error.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from ivrguard.core.errors import NotifyFault
from ivrguard.ports import Messenger, Notice

DEADLINE_S = 10.0
GONE = 410
"""A receiver that says so wants no more tries (Standard Webhooks)."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    Where webhooks go, and the secrets that sign them, by id: during a rotation there are two.

    Some receivers take whoever knows their URL, so it is a secret as well.
    """

    url: str = field(repr=False)
    secrets: Mapping[str, bytes] = field(repr=False)


def body_of(notice: Notice) -> bytes:
    """The webhook's body: `type`, `timestamp` (when it happened, ms since the epoch) and `data`."""
    whole = {"type": notice.type, "timestamp": notice.at_ms, "data": {**notice.data, "text": notice.text}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def signed(receiver: Receiver, notice: Notice, body: bytes, now_ms: int) -> dict[str, str]:
    """The headers of Standard Webhooks: `webhook-id`, `webhook-timestamp` (when it was sent, s), `webhook-signature`."""
    sent_s = str(now_ms // 1000)
    content = b".".join((notice.id.encode(), sent_s.encode(), body))
    signatures = (
        f"v1,{b64encode(hmac.digest(secret, content, 'sha256')).decode()}"
        for secret in receiver.secrets.values()
    )
    return {
        "content-type": "application/json",
        "webhook-id": notice.id,
        "webhook-timestamp": sent_s,
        "webhook-signature": " ".join(signatures),
    }


class Webhook:
    """Tells a receiver. `clock`: ms since the epoch."""

    def __init__(self, receiver: Receiver, *, clock: Callable[[], int]) -> None:
        parts = urlsplit(receiver.url)  # of which user, password and path are told to nobody
        self.name = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
        self._receiver = receiver
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def send(self, notice: Notice) -> None:
        """See `ports.Alarm.send`."""
        if self._session is None:  # it belongs to the running loop, which may not be there when we are made
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=DEADLINE_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        body = body_of(notice)
        headers = signed(self._receiver, notice, body, self._clock())
        url = self._receiver.url
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotifyFault(f"the receiver was not reached: {type(error).__name__}", why="outage") from None
        if not 200 <= status < 300:
            why = "gone" if status == GONE else "refused"
            raise NotifyFault(f"the receiver answered {status}", why=why)

    async def close(self) -> None:
        """Close the connections. Harmless twice."""
        if self._session is not None:
            await self._session.close()


class Text:
    """
    Tells a number, by `messenger`, which is somebody else's to close. `place`: of the number in the settings, from 1, behind
    `label`.
    """

    def __init__(self, place: int, number: str, messenger: Messenger, *, label: str = "number") -> None:
        self.name = f"{label} {place}"
        self._number = number
        self._messenger = messenger

    async def send(self, notice: Notice) -> None:
        """See `ports.Alarm.send`."""
        await self._messenger.send(self._number, notice.text, deadline_s=DEADLINE_S)

    async def close(self) -> None:
        """Nothing is its own."""
