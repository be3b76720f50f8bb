"""
The IVR and the carrier behind the guard, as sockets that do as they are told: well, or in one of the ways that break.

Plain asyncio, because no library lets a server lie about the length of its answer. Both remember all that they were asked.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

WORKFLOW = "WW" + "a1" * 16

MENU = (
    """<Response><Gather action="/menu" numDigits="1" timeout="6"><Say>Main menu.</Say></Gather></Response>"""
)
PAGES = {
    "/voice": MENU,
    "/menu": "<Response><Redirect>/agent</Redirect></Response>",
    "/agent": f"""<Response><Enqueue workflowSid="{WORKFLOW}" action="/after" waitUrl="/wait"><Task>{{}}</Task>"""
    """</Enqueue></Response>""",
    "/wait": """<Response><Say>Please hold.</Say><Pause length="10"/></Response>""",
    "/after": "<Response><Say>Goodbye.</Say><Hangup/></Response>",
    "/wire/amount": "<Response><Say>Which amount?</Say><Hangup/></Response>",
}

HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Got:
    """A request: when (seconds of this process's steady clock), its path, its parameters."""

    at_s: float
    path: str
    params: dict[str, str] = field(repr=False)

    @property
    def call(self) -> str:
        return self.params.get("CallSid", "")


def answered(
    body: str, status: str = "200 OK", kind: str = "text/xml", length: int | None = None, more: str = ""
) -> bytes:
    """An HTTP answer; `length`: what it says of itself, if that is not so."""
    text = body.encode()
    said = len(text) if length is None else length
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {said}\r\n{more}\r\n".encode() + text
    )


class Sockets:
    """A server of raw answers. `behaves`: what it does with a request; `release` lets the slow ones go."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.origin = ""
        self.release = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()

    async def behaves(self, got: Got, writer: asyncio.StreamWriter) -> bool:
        """Answer; whether the connection stays open."""
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                length = next(
                    (int(one.split(":")[1]) for one in lines if one.lower().startswith("content-length:")), 0
                )
                body = await reader.readexactly(length) if length else b""
                parts = urlsplit(target)
                form = body.decode() if method == "POST" else parts.query
                self.got.append(
                    Got(time.monotonic(), parts.path, dict(parse_qsl(form, keep_blank_values=True)))
                )
                if not await self.behaves(self.got[-1], writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side left, or the case is over
        finally:
            self._open.discard(task)
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen on a free port of loopback."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self.origin
        finally:
            self.release.set()
            server.close()
            for task in tuple(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 5)

    async def _slowly(self, writer: asyncio.StreamWriter) -> bool:
        """Say nothing until released, or until the other side has had enough."""
        await self.release.wait()
        return False

    async def _endless(self, writer: asyncio.StreamWriter) -> bool:
        """A document that has no end, as fast as it is read."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"<Say>and so on</Say>" * 200
        while not self.release.is_set():
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        return False

    async def _dripping(self, writer: asyncio.StreamWriter) -> bool:
        """One byte after the other, slower than anybody waits."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 60000\r\n\r\n<Response>")
        while not self.release.is_set():
            writer.write(b" ")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.release.wait(), 0.5)
        return False


class Ivr(Sockets):
    """
    The IVR: `PAGES`, and under `/bad/…` one way of failing each.

    `/bad/held` is slow as long as it is told to be: `holding` has who waits there, `let_go` answers them.
    """

    BAD: tuple[tuple[str, str], ...] = (
        ("slow", "does not answer"),
        ("drip", "answers a byte every half second"),
        ("drop", "closes the connection without an answer"),
        ("reset", "resets the connection in the middle of the head"),
        ("short", "says a length that its answer does not have, and closes"),
        ("half", "sends half a document"),
        ("html", "sends a page of HTML"),
        ("garbage", "sends what is no HTTP"),
        ("error", "answers 500"),
        ("away", "answers 503"),
        ("endless", "sends a document without an end"),
        ("circle", "redirects to itself"),
        ("elsewhere", "redirects to a host that is not its own"),
        ("empty", "answers 200 and nothing"),
        ("stray", "links to a host that is not its own"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.holding: list[Got] = []
        self.let_go = asyncio.Event()

    async def behaves(self, got: Got, writer: asyncio.StreamWriter) -> bool:
        if got.path == "/bad/held":
            self.holding.append(got)
            await self.let_go.wait()
            self.holding.remove(got)
            got = Got(got.at_s, "/voice", got.params)
        way = got.path.removeprefix("/bad/") if got.path.startswith("/bad/") else ""
        raw: dict[str, bytes] = {
            "reset": b"HTTP/1.1 200 OK\r\nContent-Ty",
            "short": answered(MENU, length=len(MENU) + 400),
            "half": answered(MENU[: len(MENU) // 2]),
            "html": answered(HTML, kind="text/html"),
            "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all\r\n\r\n",
            "error": answered(HTML, "500 Internal Server Error", "text/html"),
            "away": answered("", "503 Service Unavailable"),
            "circle": answered("", "302 Found", more="Location: /bad/circle\r\n"),
            "elsewhere": answered("", "302 Found", more="Location: https://elsewhere.example/voice\r\n"),
            "empty": answered(""),
            "stray": answered("<Response><Redirect>https://elsewhere.example/x</Redirect></Response>"),
        }
        slow: dict[str, Callable[[asyncio.StreamWriter], object]] = {
            "slow": self._slowly,
            "drip": self._dripping,
            "endless": self._endless,
        }
        if way in slow:
            return bool(await slow[way](writer))  # type: ignore[misc]  # each is awaitable
        if way != "drop":
            writer.write(raw[way] if way else answered(PAGES.get(got.path, PAGES["/after"])))
            await writer.drain()
        return way not in {"drop", "reset", "short", "garbage"}


class Carrier(Sockets):
    """Twilio's Messages API. How it fails hangs on the last digit of the number that a message goes to."""

    BAD: tuple[tuple[str, str], ...] = (
        ("1", "does not answer"),
        ("2", "closes the connection"),
        ("3", "answers 429"),
        ("4", "answers 500"),
        ("5", "answers 200 with a page of HTML"),
        ("6", "answers 201 with a message that has failed"),
        ("7", "answers half of its JSON"),
        ("8", "answers without an end"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str]] = []

    def code_for(self, number: str) -> str:
        """The code of the last message to a number that was taken."""
        for to, body in reversed(self.sent):
            if to == number and (codes := re.findall("[0-9]{6,}", body)):
                return str(codes[-1])
        raise LookupError(f"no code was sent to {number}")

    async def behaves(self, got: Got, writer: asyncio.StreamWriter) -> bool:
        to, failing = got.params["To"], got.params["To"][-1]
        message = {"sid": "SM" + "0" * 32, "status": "queued", "to": to, "error_code": None}
        match failing:
            case "1":
                return await self._slowly(writer)
            case "2":
                return False
            case "3":
                error = json.dumps({"code": 20429, "message": "Too many requests", "status": 429})
                writer.write(answered(error, "429 Too Many Requests", "application/json"))
            case "4":
                writer.write(answered("", "500 Internal Server Error"))
            case "5":
                writer.write(answered(HTML, kind="text/html"))
            case "6":
                failed = {**message, "status": "failed", "error_code": 30006}
                writer.write(answered(json.dumps(failed), "201 Created", "application/json"))
            case "7":
                text = json.dumps(message)
                writer.write(answered(text[:20], "201 Created", "application/json", len(text)))
                await writer.drain()
                return False
            case "8":
                return await self._endless(writer)
            case _:
                self.sent.append((to, got.params["Body"]))
                writer.write(answered(json.dumps(message), "201 Created", "application/json"))
        await writer.drain()
        return True
