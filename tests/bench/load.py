"""
Load: keep-alive connections that post as fast as they are answered, and count.

One process, one thread, no HTTP library: what is measured is the server. Each connection holds one request in flight;
what it posts next is worked out from the answer before, so that a call can be followed link by link.
"""

import asyncio
import hashlib
import hmac
import statistics
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from re import compile as pattern
from typing import cast
from urllib.parse import quote_plus

import uvloop

ACCOUNT_SID = "AC" + "5e" * 16
TOKEN = b"the-bench-signs-with-this"
NUMBER = "+18005550100"
GRACE_S = 20.0
ACTION = pattern(rb'action="([^"]*)"')

FIELDS = {
    "AccountSid": ACCOUNT_SID,
    "ApiVersion": "2010-04-01",
    "CallStatus": "in-progress",
    "Called": NUMBER,
    "CalledCity": "",
    "CalledCountry": "US",
    "CalledState": "",
    "CalledZip": "",
    "Caller": "+14155550123",
    "CallerCity": "SAN FRANCISCO",
    "CallerCountry": "US",
    "CallerState": "CA",
    "CallerZip": "94105",
    "Direction": "inbound",
    "From": "+14155550123",
    "FromCity": "SAN FRANCISCO",
    "To": NUMBER,
}
"""An inbound call; with its CallSid, 18 parameters."""


def call_sid(number: int) -> str:
    """One of very many calls."""
    return f"CA{number:032x}"


def caller(number: int) -> dict[str, str]:
    """One of ten million callers: fields of a call that comes from a number of his own."""
    address = f"+1415{number % 10**7:07}"
    return {"From": address, "Caller": address}


class Poster:
    """Signed posts to one origin. `sent_to`: what stands in the request line; `public`: what is signed."""

    def __init__(self, public: str, host: str, token: bytes = TOKEN) -> None:
        self._public = public
        self._keyed = hmac.new(token, digestmod=hashlib.sha1)
        self._head = (
            f"Host: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            "User-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n"
        )

    def request(self, target: str, sid: str, extra: dict[str, str] | None = None) -> bytes:
        """One signed post of the call `sid`; `extra` fields go along."""
        fields = FIELDS | {"CallSid": sid} | (extra or {})
        body = "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items())
        keyed = self._keyed.copy()
        keyed.update(
            (self._public + target + "".join(name + fields[name] for name in sorted(fields))).encode()
        )
        signature = b64encode(keyed.digest()).decode()
        head = f"POST {target} HTTP/1.1\r\n{self._head}X-Twilio-Signature: {signature}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def forged(self, target: str, sid: str) -> bytes:
        """A post whose signature does not hold."""
        return Poster(self._public, "forged", b"somebody else's").request(target, sid)


def target_in(answer: bytes, public: str) -> str:
    """Where the first action of a document leads, without its origin."""
    found = ACTION.search(answer)
    if found is None:
        raise ValueError(f"no action in {answer[:300]!r}")
    return unescape(found[1].decode()).removeprefix(public)


Next = Callable[[int, bytes], bytes]
"""
The next request of a connection, from its number and the body of the answer before (b"" at first).

Raises `Over` when there is no more to post.
"""


class Over(Exception):
    """A connection has posted all that it wanted to."""


@dataclass(slots=True)
class Counted:
    """What a run came to: answers, those that were not 200 (or `wanted`), seconds, and each answer's time."""

    answers: int = 0
    bad: int = 0
    took_s: float = 0.0
    times_s: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answers / self.took_s

    def quantile_ms(self, which: float) -> float:
        """A quantile of the answers' times, in milliseconds."""
        ordered = sorted(self.times_s)
        return ordered[min(len(ordered) - 1, int(which * len(ordered)))] * 1000

    @property
    def p50_ms(self) -> float:
        """The median of the answers' times, in milliseconds."""
        return statistics.median(self.times_s) * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, number: int, next_: Next, counted: Counted, until: float, wanted: bytes) -> None:
        self._number, self._next, self._counted = number, next_, counted
        self._until, self._wanted = until, wanted
        self._buffer, self._sent_at = b"", 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send(b"")

    def _send(self, answer: bytes) -> None:
        data = self._next(self._number, answer)
        self._sent_at = time.perf_counter()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        now = time.perf_counter()
        self._buffer = b""
        counted = self._counted
        counted.times_s.append(now - self._sent_at)
        counted.answers += 1
        counted.bad += head[9:12] != self._wanted
        if now < self._until:
            try:
                self._send(body)
                return
            except Over:
                pass
            except ValueError as error:
                self.done.set_exception(error)
                return
        self._transport.close()
        self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def _run(port: int, next_: Next, seconds: float, connections: int, wanted: bytes) -> Counted:
    loop = asyncio.get_running_loop()
    counted = Counted()
    began = time.perf_counter()
    every = [
        await loop.create_connection(
            lambda number=number: _Connection(number, next_, counted, began + seconds, wanted),
            "127.0.0.1",
            port,
        )
        for number in range(connections)
    ]
    async with asyncio.timeout(seconds + GRACE_S):
        await asyncio.gather(*(connection.done for _, connection in every))
    counted.took_s = time.perf_counter() - began
    return counted


def run(port: int, next_: Next, seconds: float, connections: int = 16, wanted: bytes = b"200") -> Counted:
    """Post for so long; raises ValueError when more than a hundredth of the answers were other than `wanted`."""
    counted = uvloop.run(_run(port, next_, seconds, connections, wanted))
    if counted.bad > counted.answers / 100:
        raise ValueError(
            f"{counted.bad} of {counted.answers} answers from port {port} were not {wanted.decode()}"
        )
    return counted
