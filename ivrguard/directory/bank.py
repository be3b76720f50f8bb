"""
The one bounded way to the bank's own system. docs/directory.md is the protocol, directory/messages.py its words.

1. **A request is made once** and never again by itself. A look-up is asked once more when the kept connection turns
   out to be closed (RFC 9112, 9.3.1): it changes nothing.
2. **Mutual TLS**, 1.2 or later, against the bank's own certificate authority and no other. Renewed files are read
   without a restart.
3. **What it says counts only if it is signed**, as the answer to this very request. Redirects are not followed.
4. **By its deadline**, no more than `REQUESTS_AT_ONCE_MAX` at once, and not at all for a while after a row of faults
   of its kind (directory/breaker.py). What a caller may bring about, such as an odd account number, is no such fault.
   Whether it is well again is tried with something made up (`probe`) where a caller's own request is too good for that.
5. **What became of a request is one of `Outcome`.** Only a signed 503 says that nothing was looked at. Everything else
   that is no answer settles nothing: a bank may well say 400, 401 or 423 for a PIN that is wrong.
6. **Nothing secret or personal in a URL or a fault**, and none of the bank's words.
"""

import asyncio
import hmac
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol, TypeVar

import aiohttp
from pydantic import ValidationError

from ivrguard.core.errors import Busy, DirectoryFault
from ivrguard.directory.breaker import Breaker, State
from ivrguard.directory.messages import (
    CHANGE,
    KEY_ID,
    LOOKUP,
    NONCE,
    SIGNATURE,
    TIMESTAMP,
    VERIFY,
    LookupAnswer,
    LookupByAccount,
    Message,
    SigningKey,
    answer_signature,
    request_signature,
)
from ivrguard.keyring import certificate_ends_ms

DEADLINE_S = 2.5
REQUESTS_AT_ONCE_MAX = 64
ANSWER_BYTES_MAX = 16_384
IDLE_S_MAX = 4.0
"""How long a connection is kept for the next request. The bank keeps it longer, so that it is not closed under one."""
CERTIFICATES_LOOKED_AT_EVERY_S = 60.0
NONCE_BYTES = 16
REFERENCE_BYTES = 16
NOBODY = "-"
"""An account that no bank has: no id is spelled so."""

REQUESTS = {LOOKUP: "lookup", VERIFY: "verify", CHANGE: "change"}
"""What each request is called in metrics and in the log."""

_Answer = TypeVar("_Answer", bound=Message)


class Outcome(Enum):
    """
    What became of a request. ANSWERED: with what it asked for. REFUSED: signed 503, nothing was looked at. UNSETTLED:
    some of it was sent, and no answer says what came of it. UNSENT: nothing of it was. LEFT_ALONE: the circuit is
    open. BUSY: too many are under way.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    UNSETTLED = "unsettled"
    UNSENT = "unsent"
    LEFT_ALONE = "left_alone"
    BUSY = "busy"


class Unanswered(DirectoryFault):
    """A request without its answer: `outcome`."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


class Watch(Protocol):
    """Who is told how it goes, for metrics and the log. `request`: a word of `REQUESTS`."""

    def asked(self, request: str, outcome: Outcome, seconds: float) -> None:
        """A request is over."""

    def circuit(self, request: str, *, opened: bool) -> None:
        """From now on it is not made for a while; or it is made again."""

    def certificate(self, ends_ms: int, fault: str) -> None:
        """When the guard's certificate runs out (ms since the epoch); and why renewed files cannot be used, or ""."""


class MutualTls:
    """
    How to connect to the bank. `ca`: who may vouch for it; `certificate` (with those between) and `key`: the guard's.

    All of them PEM files. Raises `DirectoryFault`, which names the file to mend.
    """

    def __init__(self, ca: Path, certificate: Path, key: Path) -> None:
        self._files = (ca, certificate, key)
        self._stamps = self._stamped()
        self.context, self.ends_ms = self._read()

    def renew(self) -> bool:
        """Read the files anew if one has changed; whether they were. Raises as above; then all stays as it is."""
        stamps = self._stamped()
        if stamps == self._stamps:
            return False
        self.context, self.ends_ms = self._read()
        self._stamps = stamps  # taken before they were read: what changes meanwhile is seen the next time
        return True

    def _stamped(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._files))

    def _read(self) -> tuple[ssl.SSLContext, int]:
        ca, certificate, key = self._files
        try:
            context = ssl.create_default_context(cafile=ca)
        except (OSError, ValueError) as fault:
            raise DirectoryFault(f"no certificates can be read from {ca}: {type(fault).__name__}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # "": nobody is asked at a terminal
            context.load_cert_chain(certificate, key, password=lambda: b"")
            ends_ms = certificate_ends_ms(certificate.read_bytes())
        except (OSError, ValueError) as fault:
            raise DirectoryFault(
                f"{certificate} and {key} are not a PEM certificate and its key without a password: "
                f"{type(fault).__name__}"
            ) from None
        return context, ends_ms


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True, slots=True)
class Access:
    """
    Where the bank's system is and how to get in.

    `url`: https, to which the protocol's paths are added; `tls`: None on this machine itself only; `deadline_s`: for
    a request and its answer, a second try included.
    """

    url: str
    key: SigningKey
    tls: MutualTls | None = None
    deadline_s: float = DEADLINE_S


@dataclass(slots=True)
class _Way:
    """How far a request got. `begun`: it had a connection, so some of it may have arrived. `kept`: one used before."""

    begun: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the bank said and signed."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


class Bank:
    """
    The bank's system, as far as the guard can see it.

    `clock`: ms since the epoch; `chance`: n random bytes; `breaker`: makes one for each kind of request.
    """

    def __init__(
        self,
        access: Access,
        *,
        clock: Callable[[], int],
        chance: Callable[[int], bytes],
        watch: Watch,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        self._access = access
        self._url = access.url.rstrip("/")
        self._clock = clock
        self._chance = chance
        self._watch = watch
        # One for each: look-ups that are answered must not hide that PINs are not judged.
        self._breakers = {path: breaker() for path in REQUESTS}
        self._under_way = 0
        self._session: aiohttp.ClientSession | None = None
        if access.tls is not None:
            watch.certificate(access.tls.ends_ms, "")

    def decoy(self) -> str:
        """A reference like any other, that no account has."""
        return self._chance(REFERENCE_BYTES).hex()

    def left_alone(self) -> tuple[str, ...]:
        """The requests that are not made now, or of which only one is, to see."""
        now_ms = self._clock()
        return tuple(
            REQUESTS[path] for path, one in self._breakers.items() if one.state(now_ms) is not State.CLOSED
        )

    async def unfit(self) -> str | None:
        """Look up who is nobody: None, or what keeps the bank's system and this guard from working together."""
        try:
            answer = await self.ask(LOOKUP, LookupByAccount(account=NOBODY), LookupAnswer, reads=True)
        except (Busy, DirectoryFault) as fault:
            return str(fault)
        if answer is not None and answer.account is not None:
            return f'the bank\'s system finds an account called "{NOBODY}", which is none'
        return None

    async def ask(
        self,
        path: str,
        said: Message,
        answer: type[_Answer],
        *,
        reads: bool = False,
        probe: Callable[[], Message] | None = None,
    ) -> _Answer | None:
        """
        Say it, and hear the answer; None: a signed 404, there is no such thing.

        `reads`: it changes nothing, so it may be said twice. `probe`: makes what is said first while the circuit is
        half-open, to see; without one, what is to be said is said. Raises `Unanswered`, or `Busy` at once.
        """
        began_ms, outcome = self._clock(), Outcome.UNSETTLED  # which it stays when we are cut off
        try:
            heard = await self._answer_to(path, said, reads=reads, probe=probe)
            found = _read(heard, path, answer)
            outcome = Outcome.ANSWERED
        except Busy:
            outcome = Outcome.BUSY
            raise
        except Unanswered as fault:
            outcome = fault.outcome
            raise
        finally:
            self._watch.asked(REQUESTS[path], outcome, (self._clock() - began_ms) / 1000)
        return found

    async def _answer_to(
        self, path: str, said: Message, *, reads: bool, probe: Callable[[], Message] | None
    ) -> _Heard:
        if self._under_way >= REQUESTS_AT_ONCE_MAX:
            raise Busy(f"{REQUESTS_AT_ONCE_MAX} requests to the bank's system are under way: it is slow")
        breaker, now_ms = self._breakers[path], self._clock()
        half_open = breaker.state(now_ms) is State.HALF_OPEN
        if not breaker.admits(now_ms):
            raise _left_alone(path)
        self._under_way += 1
        try:
            if half_open and probe is not None:
                await self._probed(path, probe())
            return await self._noted(path, said, reads=reads)
        finally:
            self._under_way -= 1

    async def _probed(self, path: str, said: Message) -> None:
        """Say what is made up. Raises `Unanswered`, for what was to be said after it, if it is not well."""
        try:
            heard = await self._noted(path, said, reads=False)
        except Unanswered:
            raise _left_alone(path) from None
        if heard.status >= 500:
            raise _left_alone(path)

    async def _noted(self, path: str, said: Message, *, reads: bool) -> _Heard:
        """The signed answer, and the circuit knows of it."""
        try:
            heard = await self._heard(path, said.model_dump_json().encode(), reads=reads)
        except Unanswered:
            self._note(path, well=False)
            raise
        self._note(path, well=heard.status < 500)
        return heard

    def _note(self, path: str, *, well: bool) -> None:
        breaker = self._breakers[path]
        if breaker.answered() if well else breaker.failed(self._clock()):
            self._watch.circuit(REQUESTS[path], opened=not well)

    async def _heard(self, path: str, body: bytes, *, reads: bool) -> _Heard:
        """The signed answer. Raises `Unanswered`."""
        way, deadline_s = _Way(), self._access.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    return await self._exchanged(path, body, way)
                except (aiohttp.ClientError, OSError):
                    if not (reads and way.kept):
                        raise
                    return await self._exchanged(path, body, way)
        except TimeoutError:
            why = f"the bank's system did not answer within {deadline_s:g} s"
        except aiohttp.ClientConnectorCertificateError as fault:
            said = getattr(fault.certificate_error, "verify_message", "")
            why = f"the certificate of the bank's system is not right: {said}"
        except (aiohttp.ClientError, OSError) as fault:
            why = f"the connection to the bank's system failed: {type(fault).__name__}"
        raise Unanswered(why, Outcome.UNSETTLED if way.begun else Outcome.UNSENT)

    async def _exchanged(self, path: str, body: bytes, way: _Way) -> _Heard:
        """One request, signed anew, and its answer, whose signature is looked at before anything else of it."""
        key, tls = self._access.key, self._access.tls
        nonce, now_ms = self._chance(NONCE_BYTES).hex(), self._clock()
        headers = {
            "Content-Type": "application/json",
            KEY_ID: key.id,
            TIMESTAMP: str(now_ms),
            NONCE: nonce,
            SIGNATURE: request_signature(key.secret, path, now_ms, nonce, body),
        }
        async with self._opened().post(
            self._url + path,
            data=body,
            headers=headers,
            allow_redirects=False,
            ssl=True if tls is None else tls.context,
            trace_request_ctx=way,
        ) as answer:
            received = bytearray()
            async for chunk in answer.content.iter_any():
                received += chunk
                if len(received) > ANSWER_BYTES_MAX:
                    raise _unsettled(path, f"is longer than {ANSWER_BYTES_MAX // 1024} kB")
            right = answer_signature(key.secret, answer.status, nonce, bytes(received))
            signature = answer.headers.get(SIGNATURE, "").encode(errors="replace")
            if not hmac.compare_digest(signature, right.encode()):
                raise _unsettled(
                    path,
                    f"(status {answer.status}) is not signed by the bank's system with key {key.id}: look at key, "
                    "clock, and what stands in between",
                )
            return _Heard(answer.status, answer.content_type, bytes(received))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to the running loop, which may not be there when we are made
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_connected)
            trace.on_connection_reuseconn.append(_reused)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=REQUESTS_AT_ONCE_MAX, keepalive_timeout=IDLE_S_MAX),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # signed as it was sent; and a bomb would go off
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "ivrguard",
                },
                trace_configs=[trace],
            )
        return self._session

    async def keep(self) -> None:
        """Look at the certificates now and then, for as long as this runs; those that are renewed are used."""
        while self._access.tls is not None:
            await asyncio.sleep(CERTIFICATES_LOOKED_AT_EVERY_S)
            await self.renew(self._access.tls)

    async def renew(self, tls: MutualTls) -> None:
        """Read the certificates anew if they have changed. What cannot be read is told, and those before stay."""
        try:
            renewed, fault = await asyncio.to_thread(tls.renew), ""
        except DirectoryFault as error:
            renewed, fault = True, str(error)
        if renewed:
            self._watch.certificate(tls.ends_ms, fault)

    async def close(self) -> None:
        """Close the kept connections; call it when nothing is under way any more. Harmless twice."""
        if self._session is not None:
            await self._session.close()


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.begun, context.trace_request_ctx.kept = True, False


async def _reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.begun = context.trace_request_ctx.kept = True


def _left_alone(path: str) -> Unanswered:
    why = f"{path} of the bank's system failed again and again: not asked for some seconds"
    return Unanswered(why, Outcome.LEFT_ALONE)


def _unsettled(path: str, why: str) -> Unanswered:
    return Unanswered(f"the bank's answer to {path} {why}", Outcome.UNSETTLED)


def _read(heard: _Heard, path: str, answer: type[_Answer]) -> _Answer | None:
    """The answer in its shape, or None for 404. Raises `Unanswered`."""
    if heard.status == 404:
        return None
    if heard.status == 503:
        raise Unanswered(f"the bank's system refused {path} with 503: not now", Outcome.REFUSED)
    if heard.status != 200:
        raise _unsettled(path, f"has the status {heard.status}")
    if heard.content_type != "application/json":
        raise _unsettled(path, "is not application/json")
    try:
        return answer.model_validate_json(heard.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
    raise _unsettled(path, f"is not as agreed: {where} ({first['type']})")
