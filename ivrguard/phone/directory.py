"""
The pretend bank's account system: docs/directory.md, carried out, for tests and as a model to build from.

Laws of this file
 1. `POST /v1/accounts/lookup`, `/v1/pins/verify`, `/v1/pins/change`. It is written from the document and knows nothing
    of directory/http.py: two sides that read one recipe must come to the same bytes.
 2. **Who asks?** The signature, over what came, in constant time, then the clock (`CLOCK_MS_MAX` either way), then the
    nonce, once. Otherwise 401, and nothing else is looked at. What it answers is signed.
 3. **What is asked?** Of its shape (`_SHAPES`), or 400 before anything is done. Keys that are not known are ignored.
 4. **The same work for everybody.** A reference that stands for nothing costs one hash like any other; an account that
    does not exist is an answer of 200 like any other.
 5. **It counts no guesses**: the guard does, before it asks.
 6. Faults are planted one at a time and in order (`fail_next`, `drop_next`, `unsigned_next`); `hold` makes every request
    wait. `fail_next` and `drop_next` come before anything was done, `unsigned_next` after all of it.
"""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

CLOCK_MS_MAX = 300_000
HASH_COST = 2**14
"""Of scrypt, with r=8 and p=5: what OWASP takes to be as good as argon2id in 16 MiB
(https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html)."""
PIN_DIGITS_MIN = 6

_DROP, _UNSIGNED = -1, -2
_Said = dict[str, str]
_Answer = Callable[[_Said], Awaitable[tuple[int, object]]]

_ACCOUNT, _NUMBER = re.compile(r"(?s).{0,64}"), re.compile(r"\+[1-9][0-9]{6,14}")
_REFERENCE, _PIN = re.compile("[0-9a-f]{32}"), re.compile("[0-9]{1,16}")
_SHAPES: dict[str, tuple[dict[str, re.Pattern[str]], ...]] = {
    "/v1/accounts/lookup": ({"account": _ACCOUNT}, {"number": _NUMBER}),
    "/v1/pins/verify": ({"reference": _REFERENCE, "pin": _PIN},),
    "/v1/pins/change": ({"account": _ACCOUNT, "pin": _PIN},),
}
"""What may be said to each path: exactly one of these, every key of it there and a text of its form."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in: its path, what it said, its headers. A PIN may be in it, so not in its repr."""

    path: str
    said: _Said = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    size: int = 0


@dataclass(slots=True)
class _Account:
    """One account as the bank keeps it. `salt` and `hashed`: of its PIN; both empty without one."""

    id: str
    reference: str
    numbers: tuple[str, ...]
    language: str
    sms_number: str | None
    salt: bytes = field(repr=False)
    hashed: bytes = field(repr=False)


class AccountSystem:
    """
    The system; `app()` serves it. `keys`: secret by key id; `clock`: ms since the epoch; `hash_cost`: scrypt's n.

    `asked`: what came in rightly signed; `refused`: how many requests did not; `hashes`: how many PINs were hashed.
    `hold`: when set to an event, requests wait for it.
    """

    def __init__(
        self, keys: Mapping[str, bytes], clock: Callable[[], int], *, hash_cost: int = HASH_COST
    ) -> None:
        self._keys = dict(keys)
        self._clock = clock
        self._hash_cost = hash_cost
        self._accounts: dict[str, _Account] = {}
        self._naming_key, self._decoy_salt = secrets.token_bytes(32), secrets.token_bytes(16)
        self._nonces: dict[str, int] = {}
        self._faults: list[tuple[str, int]] = []
        self.hold: asyncio.Event | None = None
        self.asked: list[Asked] = []
        self.refused = 0
        self.hashes = 0

    def app(self) -> web.Application:
        """The system as an application of its own."""
        served = web.Application()
        answers = (self._lookup, self._verify, self._change)
        for path, answer in zip(_SHAPES, answers, strict=True):
            served.router.add_post(path, self._serving(path, answer))
        return served

    def add(
        self,
        account_id: str,
        *,
        pin: str | None = None,
        numbers: tuple[str, ...] = (),
        sms_number: str | None = None,
        language: str = "",
    ) -> str:
        """Open an account, or write over one; the reference of its PIN. Takes one hash if it has one."""
        reference = hmac.digest(self._naming_key, account_id.encode(), "sha256").hex()[:32]
        salt = secrets.token_bytes(16) if pin is not None else b""
        hashed = self._hash(pin, salt) if pin is not None else b""
        self._accounts[account_id] = _Account(
            account_id, reference, numbers, language, sms_number, salt, hashed
        )
        return reference

    def fail_next(self, status: int, path: str = "") -> None:
        """Refuse the next request (to `path`, if given) with this status, signed; nothing is done for it."""
        self._faults.append((path, status))

    def drop_next(self, path: str = "") -> None:
        """Break the connection of the next request (to `path`, if given), without an answer."""
        self._faults.append((path, _DROP))

    def unsigned_next(self, path: str = "") -> None:
        """Carry out the next request (to `path`, if given), and answer it without a signature."""
        self._faults.append((path, _UNSIGNED))

    def _fault(self, path: str) -> int:
        """What this request meets: the first fault that is meant for it, or 0."""
        for planted in self._faults:
            if planted[0] in {"", path}:
                self._faults.remove(planted)
                return planted[1]
        return 0

    def _serving(self, path: str, answer: _Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            secret = self._signer(request, path, body)
            if secret is None:
                self.refused += 1
                return web.json_response({"error": "signature"}, status=401)
            said = _understood(path, body)
            if said is None:
                return self._signed(request, secret, 400, {"error": "shape"})
            self.asked.append(Asked(path, said, dict(request.headers), len(body)))
            if self.hold is not None:
                await self.hold.wait()
            fault = self._fault(path)
            if fault == _DROP:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            status, answered = (fault, {"error": "planted"}) if fault > 0 else await answer(said)
            response = self._signed(request, secret, status, answered)
            if fault == _UNSIGNED:
                del response.headers["Ivrguard-Signature"]
            return response

        return serve

    @staticmethod
    def _signed(request: web.Request, secret: bytes, status: int, answered: object) -> web.Response:
        """The answer, signed as the answer to this request."""
        text = json.dumps(answered).encode()
        digest = hashlib.sha256(text).hexdigest()
        lines = ("ivrguard-v1-answer", str(status), request.headers["Ivrguard-Nonce"], digest)
        signature = hmac.digest(secret, "\n".join(lines).encode(), "sha256").hex()
        headers = {"Ivrguard-Signature": signature}
        return web.Response(body=text, status=status, headers=headers, content_type="application/json")

    def _signer(self, request: web.Request, path: str, body: bytes) -> bytes | None:
        """The secret that the request is rightly signed with, now and for the first time; or None. `path`: from /v1 on."""
        names = ("Ivrguard-Key-Id", "Ivrguard-Timestamp", "Ivrguard-Nonce", "Ivrguard-Signature")
        key_id, timestamp, nonce, signature = (request.headers.get(name, "") for name in names)
        secret = self._keys.get(key_id)
        digest = hashlib.sha256(body).hexdigest()
        lines = ("ivrguard-v1-request", request.method, path, timestamp, nonce, digest)
        right = hmac.digest(secret or b"nobody's", "\n".join(lines).encode(), "sha256").hex()
        if not hmac.compare_digest(signature.encode(errors="replace"), right.encode()) or secret is None:
            return None
        now_ms = self._clock()
        if not re.fullmatch("[0-9]{1,15}", timestamp) or not re.fullmatch("[0-9a-f]{32}", nonce):
            return None
        if abs(now_ms - int(timestamp)) > CLOCK_MS_MAX or nonce in self._nonces:
            return None
        oldest_ms = now_ms - 2 * CLOCK_MS_MAX  # one from a clock that is ahead stays good for longer
        self._nonces = {one: at_ms for one, at_ms in self._nonces.items() if at_ms > oldest_ms}
        self._nonces[nonce] = now_ms
        return secret

    async def _lookup(self, said: _Said) -> tuple[int, object]:
        """The account with this id; or the one account that has this number, if it is one."""
        found = [
            account
            for account in self._accounts.values()
            if account.id == said.get("account") or said.get("number") in account.numbers
        ]
        if len(found) != 1:
            return 200, {"account": None}
        account = found[0]
        return 200, {
            "account": {
                "id": account.id,
                "numbers": account.numbers,
                "language": account.language,
                "pin": account.reference if account.hashed else None,
                "sms_number": account.sms_number,
            }
        }

    async def _verify(self, said: _Said) -> tuple[int, object]:
        """One hash whatever comes, on a thread of its own; without an account it is of nothing, and wrong."""
        held = [
            account
            for account in self._accounts.values()
            if account.reference == said["reference"] and account.hashed
        ]
        salt, hashed = (held[0].salt, held[0].hashed) if held else (self._decoy_salt, b"")
        made = await asyncio.to_thread(self._hash, said["pin"], salt)
        return 200, {"right": hmac.compare_digest(made, hashed)}

    async def _change(self, said: _Said) -> tuple[int, object]:
        """A new PIN, unless it is short or hardly more than one digit."""
        account, pin = self._accounts.get(said["account"]), said["pin"]
        if account is None:
            return 404, {"error": "account"}
        if len(pin) < PIN_DIGITS_MIN or len(set(pin)) < 3:
            return 200, {"changed": False, "reason": "weak"}
        salt = secrets.token_bytes(16)
        account.hashed, account.salt = await asyncio.to_thread(self._hash, pin, salt), salt
        return 200, {"changed": True, "reason": None}

    def _hash(self, pin: str, salt: bytes) -> bytes:
        self.hashes += 1
        return hashlib.scrypt(pin.encode(), salt=salt, n=self._hash_cost, r=8, p=5, maxmem=64 * 1024 * 1024)


def _understood(path: str, body: bytes) -> _Said | None:
    """What is said to this path, without keys that are not known; None if it is not as agreed."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    fitting = [
        {name: said[name] for name in shape}
        for shape in _SHAPES[path]
        if all(isinstance(said.get(name), str) and form.fullmatch(said[name]) for name, form in shape.items())
    ]
    return fitting[0] if len(fitting) == 1 else None
