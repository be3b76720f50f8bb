"""
The bank's own system as the directory: who has which account, and whether a PIN is right. docs/directory.md is the
protocol, for the bank's developer.

1. **The lockout rule stays the guard's.** Nothing is counted here, and a guess is sent once and never again by itself.
   What was sent and not answered may have been looked at, so it counts (`core.errors.OutOfSight`); what surely was not
   does not. A look-up is asked once more when the kept connection turns out to be closed (RFC 9112, 9.3.1).
2. **The same work for everybody.** Known, unknown, locked or without a PIN: the same requests, of the same shape. Where
   there is no PIN to judge, the bank is asked about a reference that no account has, and its answer does not count.
3. **Both sides sign**, with HMAC-SHA256 (RFC 2104), what they say and what it answers: whoever breaks into the
   connection, or sits behind where TLS ends, cannot say `"right": true`. RFC 9421 would do the same with more to get wrong.
4. **Mutual TLS**, 1.2 or later, against the bank's own certificate authority and no other.
5. **By its deadline**, no more than `REQUESTS_AT_ONCE_MAX` at once, and not at all for a while after `FAULTS_MAX` faults
   of its kind in a row (https://learn.microsoft.com/en-us/azure/architecture/patterns/circuit-breaker): a caller waits 15 seconds
   at most. What a caller may bring about, such as an odd account number, is no such fault.
6. **Nothing secret or personal in a URL or a fault**, and none of the bank's words. Redirects are not followed.
7. **One spelling.** An answer about another account or number than was asked for names nobody: two spellings of one
   account would be two lockout counters, and twice the guesses.
"""

import asyncio
import hmac
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy, DirectoryFault, OutOfSight
from ivrguard.ports import Account, Challenge, Credential, Directory, Right, Verdict, Wrong

DEADLINE_S = 2.5
REQUESTS_AT_ONCE_MAX = 64
ANSWER_BYTES_MAX = 16_384
IDLE_S_MAX = 4.0
"""How long a connection is kept for the next request. The bank keeps it longer, so that it is not closed under one."""
FAULTS_MAX = 5
OPEN_MS = 10_000
NONCE_BYTES = 16
REFERENCE_BYTES = 16
ACCOUNT_CHARS_MAX = 64
REMOTE = "remote"
"""The `key_id` of a credential whose secret is a reference of the bank's."""

LOOKUP = "/v1/accounts/lookup"
VERIFY = "/v1/pins/verify"
CHANGE = "/v1/pins/change"
KEY_ID, TIMESTAMP, NONCE, SIGNATURE = (
    "Ivrguard-Key-Id",
    "Ivrguard-Timestamp",
    "Ivrguard-Nonce",
    "Ivrguard-Signature",
)

_REQUEST, _ANSWER = "ivrguard-v1-request", "ivrguard-v1-answer"
_NUMBER_PATTERN = r"^\+[1-9][0-9]{6,14}$"
_Number = Annotated[str, Field(pattern=_NUMBER_PATTERN)]
_Reference = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Message = TypeVar("_Message", bound=BaseModel)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


class LookupByAccount(_Said):
    """Which account has this id? What the caller keyed, or a name that no account has."""

    account: str = Field(max_length=ACCOUNT_CHARS_MAX, repr=False)


class LookupByNumber(_Said):
    """Which one account has this number on file, in E.164?"""

    number: _Number = Field(repr=False)


class FoundAccount(_Said):
    """
    An account. `id`: exactly as it was asked for. `numbers`: on file, in E.164. `language`: the owner's, such as
    es-US, or empty. `pin`: the reference that stands for its PIN, or null if it has none. `sms_number`: where codes
    go, in E.164, or null.
    """

    id: str = Field(pattern="^[A-Z0-9]{1,32}$", repr=False)
    numbers: list[_Number] = Field(max_length=32, repr=False)
    language: str = Field(pattern="^([a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3})?$")
    pin: _Reference | None = Field(repr=False)
    sms_number: _Number | None = Field(repr=False)


class LookupAnswer(_Said):
    """The account, or null: unknown, closed, under another spelling, or a number that several accounts have."""

    account: FoundAccount | None


class VerifyRequest(_Said):
    """Are these digits the PIN that the reference stands for?"""

    reference: _Reference = Field(repr=False)
    pin: str = Field(repr=False)


class VerifyAnswer(_Said):
    """Whether they are. A reference that stands for nothing: false, after the same work."""

    right: bool


class ChangeRequest(_Said):
    """These digits are the account's PIN from now on. The caller has proved who he is."""

    account: str = Field(max_length=ACCOUNT_CHARS_MAX, repr=False)
    pin: str = Field(repr=False)


class ChangeAnswer(_Said):
    """Whether they are. If not: `weak`, too easy to guess; then nothing has changed."""

    changed: bool
    reason: Literal["weak"] | None = None


# ── who says it ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that the guard and the bank share: its `id`, and 32 secret bytes."""

    id: str
    secret: bytes = field(repr=False)


def request_signature(secret: bytes, path: str, timestamp_ms: int, nonce: str, body: bytes) -> str:
    """What stands in `Ivrguard-Signature` of a request. `path`: from /v1 on, whatever a proxy puts before it."""
    return _mac(secret, _REQUEST, "POST", path, str(timestamp_ms), nonce, sha256(body).hexdigest())


def answer_signature(secret: bytes, status: int, nonce: str, body: bytes) -> str:
    """What stands in `Ivrguard-Signature` of the answer to the request with this nonce."""
    return _mac(secret, _ANSWER, str(status), nonce, sha256(body).hexdigest())


def _mac(secret: bytes, *lines: str) -> str:
    return hmac.digest(secret, "\n".join(lines).encode(), "sha256").hex()


def mutual_tls(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """
    How to connect to the bank. `ca`: who may vouch for it; `certificate` (with those between) and `key`: the guard's.

    All of them PEM files, read now: a renewed certificate needs a restart. Raises `DirectoryFault`, which names the
    file to mend.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as fault:
        raise DirectoryFault(f"no certificates can be read from {ca}: {type(fault).__name__}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # "": nobody is asked at a terminal
    except (OSError, ValueError) as fault:
        raise DirectoryFault(
            f"{certificate} and {key} are not a PEM certificate and its key without a password: "
            f"{type(fault).__name__}"
        ) from None
    return context


class State(Enum):
    """Of a circuit: CLOSED lets all through, OPEN nothing, HALF_OPEN one, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """
    Whether it makes sense to ask. Opens after `faults_max` faults in a row; `open_ms` later lets one request through,
    whose answer closes it. If that one has no answer, or none is heard of it, the next may try `open_ms` after it.
    """

    def __init__(self, *, faults_max: int = FAULTS_MAX, open_ms: int = OPEN_MS) -> None:
        self._faults_max = faults_max
        self._open_ms = open_ms
        self._faults = 0
        self._opened_ms: int | None = None

    def state(self, now_ms: int) -> State:
        """What it is now."""
        if self._opened_ms is None:
            return State.CLOSED
        # A clock that was set back does not keep it open.
        return State.OPEN if 0 <= now_ms - self._opened_ms < self._open_ms else State.HALF_OPEN

    def admits(self, now_ms: int) -> bool:
        """Whether a request may go out now. Half-open, the one that asks first is the one."""
        state = self.state(now_ms)
        if state is State.HALF_OPEN:
            self._opened_ms = now_ms
        return state is not State.OPEN

    def answered(self) -> None:
        """There was an answer: all is well."""
        self._faults, self._opened_ms = 0, None

    def failed(self, now_ms: int) -> None:
        """There was none. Of requests that were under way when it opened, it does not stay open for longer."""
        self._faults += 1
        if self._opened_ms is None and self._faults >= self._faults_max:
            self._opened_ms = now_ms


class _Unheard(DirectoryFault):
    """The request went out and no answer came that settles it: it may have been carried out all the same."""


@dataclass(slots=True)
class _Way:
    """How far a request got. `begun`: it had a connection, so some of it may have arrived. `kept`: one used before."""

    begun: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the bank said and signed."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


class Bank:
    """
    The one bounded way to the bank's system; `HttpDirectory`, `HttpPinJudge` and `HttpPins` all ask over it.

    `url`: https, to which the protocol's paths are added; `tls`: None on this machine itself only. `clock`: ms since
    the epoch; `chance`: n random bytes; `deadline_s`: for a request and its answer, a second try included; `breaker`:
    makes one for each kind of request.
    """

    def __init__(
        self,
        url: str,
        key: SigningKey,
        *,
        tls: ssl.SSLContext | None,
        clock: Callable[[], int],
        chance: Callable[[int], bytes],
        deadline_s: float = DEADLINE_S,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._tls = tls
        self._clock = clock
        self._chance = chance
        self._deadline_s = deadline_s
        # One for each: look-ups that are answered must not hide that PINs are not judged.
        self._breakers = {path: breaker() for path in (LOOKUP, VERIFY, CHANGE)}
        self._under_way = 0
        self._session: aiohttp.ClientSession | None = None

    def decoy(self) -> str:
        """A reference like any other, that no account has."""
        return self._chance(REFERENCE_BYTES).hex()

    async def ask(
        self, path: str, said: BaseModel, answer: type[_Message], *, reads: bool = False
    ) -> _Message:
        """
        Say it, and hear the answer. `reads`: it changes nothing, so it may be said twice.

        Raises `Busy` or `DirectoryFault` at once when the bank is not asked, and `DirectoryFault` for every failure.
        """
        if self._under_way >= REQUESTS_AT_ONCE_MAX:
            raise Busy(f"{REQUESTS_AT_ONCE_MAX} requests to the bank's system are under way: it is slow")
        breaker = self._breakers[path]
        if not breaker.admits(self._clock()):
            raise DirectoryFault(
                f"{path} of the bank's system failed again and again: not asked for some seconds"
            )
        self._under_way += 1
        try:
            heard = await self._heard(path, said.model_dump_json().encode(), reads=reads)
        except DirectoryFault:
            breaker.failed(self._clock())
            raise
        finally:
            self._under_way -= 1
        if heard.status >= 500:
            breaker.failed(self._clock())
        else:
            breaker.answered()
        return _read(heard, path, answer)

    async def _heard(self, path: str, body: bytes, *, reads: bool) -> _Answer:
        """The signed answer. Raises `_Unheard`, or another `DirectoryFault` when nothing can have arrived."""
        way = _Way()
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._exchanged(path, body, way)
                except (aiohttp.ClientError, OSError):
                    if not (reads and way.kept):
                        raise
                    return await self._exchanged(path, body, way)
        except TimeoutError:
            why = f"the bank's system did not answer within {self._deadline_s:g} s"
        except aiohttp.ClientConnectorCertificateError as fault:
            said = getattr(fault.certificate_error, "verify_message", "")
            why = f"the certificate of the bank's system is not right: {said}"
        except (aiohttp.ClientError, OSError) as fault:
            why = f"the connection to the bank's system failed: {type(fault).__name__}"
        raise _Unheard(why) if way.begun else DirectoryFault(why)

    async def _exchanged(self, path: str, body: bytes, way: _Way) -> _Answer:
        """One request, signed anew, and its answer, whose signature is looked at before anything else of it."""
        nonce, now_ms = self._chance(NONCE_BYTES).hex(), self._clock()
        headers = {
            "Content-Type": "application/json",
            KEY_ID: self._key.id,
            TIMESTAMP: str(now_ms),
            NONCE: nonce,
            SIGNATURE: request_signature(self._key.secret, path, now_ms, nonce, body),
        }
        async with self._opened().post(
            self._url + path, data=body, headers=headers, allow_redirects=False, trace_request_ctx=way
        ) as answer:
            received = bytearray()
            async for chunk in answer.content.iter_any():
                received += chunk
                if len(received) > ANSWER_BYTES_MAX:
                    raise _Unheard(
                        f"the bank's answer to {path} is longer than {ANSWER_BYTES_MAX // 1024} kB"
                    )
            right = answer_signature(self._key.secret, answer.status, nonce, bytes(received))
            signature = answer.headers.get(SIGNATURE, "").encode(errors="replace")
            if not hmac.compare_digest(signature, right.encode()):
                raise _Unheard(
                    f"the answer to {path} (status {answer.status}) is not signed by the bank's system with key "
                    f"{self._key.id}: look at key, clock, and what stands in between"
                )
            return _Answer(answer.status, answer.content_type, bytes(received))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to the running loop, which may not be there when we are made
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_connected)
            trace.on_connection_reuseconn.append(_reused)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=REQUESTS_AT_ONCE_MAX,
                    keepalive_timeout=IDLE_S_MAX,
                    ssl=True if self._tls is None else self._tls,
                ),
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

    async def close(self) -> None:
        """Close the kept connections; call it when nothing is under way any more. Harmless twice."""
        if self._session is not None:
            await self._session.close()


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.begun, context.trace_request_ctx.kept = True, False


async def _reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.begun = context.trace_request_ctx.kept = True


def _read(heard: _Answer, path: str, answer: type[_Message]) -> _Message:
    """
    The answer in its shape. Raises `DirectoryFault` for a refusal, `_Unheard` for what settles nothing.

    4xx and 503 say that nothing was looked at; another 5xx may come from the middle of it.
    """
    if 400 <= heard.status < 500 or heard.status == 503:
        raise DirectoryFault(f"the bank's system refused {path} with {heard.status}")
    if heard.status != 200:
        raise _Unheard(f"the bank's system answered {heard.status} to {path}")
    if heard.content_type != "application/json":
        raise _Unheard(f"the bank's answer to {path} is not application/json")
    try:
        return answer.model_validate_json(heard.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
    raise _Unheard(f"the bank's answer to {path} is not as agreed: {where} ({first['type']})")


# ── the ports ────────────────────────────────────────────────────────────────────────────────────────────


class HttpDirectory:
    """
    Accounts of the bank's. Implements `ports.Directory`.

    `own`: a directory of the guard's, where apps that make codes (TOTP) are enrolled under the bank's ids: the
    protocol's first version does not carry them. Nothing else is taken from it.
    """

    def __init__(self, bank: Bank, own: Directory | None = None) -> None:
        self._bank = bank
        self._own = own

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this id; None for unknown ones. Raises `DirectoryFault`, or `Busy` at once."""
        if not 0 < len(account_id) <= ACCOUNT_CHARS_MAX:  # no id: whoever keyed it knows how long it is
            return None
        found = await self._found(LookupByAccount(account=account_id), account_id)
        return found if found is not None and found.id == account_id else None

    async def by_number(self, number: str) -> Account | None:
        """The one account that has this number on file, or None. Raises as `by_id`."""
        if not re.fullmatch(
            _NUMBER_PATTERN, number
        ):  # anonymous, sip: and client: callers are on nobody's file
            return None
        found = await self._found(LookupByNumber(number=number), "")
        return found if found is not None and number in found.numbers else None

    async def _found(self, said: LookupByAccount | LookupByNumber, account_id: str) -> Account | None:
        found = (await self._bank.ask(LOOKUP, said, LookupAnswer, reads=True)).account
        # A name that nobody has is looked up here too: the same work.
        own = await self._own.by_id(found.id if found else account_id or "-") if self._own else None
        if found is None:
            return None
        credentials: list[Credential | None] = [
            Credential(Kind.PIN, secret=found.pin, key_id=REMOTE) if found.pin else None,
            Credential(Kind.SMS_CODE, number=found.sms_number) if found.sms_number else None,
            own.credential(Kind.TOTP) if own else None,
        ]
        enrolled = tuple(one for one in credentials if one is not None)
        return Account(found.id, tuple(found.numbers), enrolled, language=found.language)


class HttpPinJudge:
    """PINs that the bank judges. Implements `ports.Judge`."""

    kind = Kind.PIN

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def judge(
        self,
        credential: Credential | None,
        digits: str,
        challenge: Challenge | None,  # noqa: ARG002 - every factor has this signature
        now_ms: int,  # noqa: ARG002 - the same
    ) -> Verdict:
        """
        Whether `digits` are the PIN that the credential refers to.

        Raises `OutOfSight` when the bank was asked and gave no verdict; `Busy`, or `DirectoryFault`, when it surely
        did not look at it.
        """
        if credential is not None and credential.key_id != REMOTE:
            raise DirectoryFault(
                "a PIN's credential is not the bank's: its directory and its judge belong together"
            )
        reference = credential.secret if credential is not None else self._bank.decoy()
        said = VerifyRequest(reference=reference, pin=digits)
        try:
            answer = await self._bank.ask(VERIFY, said, VerifyAnswer)
        except _Unheard as fault:
            raise OutOfSight(str(fault)) from None
        return Right() if answer.right and credential is not None else Wrong()


class HttpPins:
    """PINs that the bank changes. Implements `ports.Pins`."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:  # noqa: ARG002 - the port's
        """
        Make `digits` the account's PIN; False, and nothing changed, if the bank finds them too easy to guess.

        Raises `DirectoryFault`, after which the PIN may have changed all the same unless the bank refused; or `Busy`.
        """
        said = ChangeRequest(account=account_id, pin=digits)
        answer = await self._bank.ask(CHANGE, said, ChangeAnswer)
        if answer.changed == (answer.reason is not None):
            raise DirectoryFault("the bank's system did not say whether it changed the PIN")
        return answer.changed
