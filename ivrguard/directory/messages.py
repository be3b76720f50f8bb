"""
What the guard and the bank's own system say to each other, and how each signs it: docs/directory.md, in code.

1. **Both sides sign**, with HMAC-SHA256 (RFC 2104), what they say and what it answers: whoever breaks into the
   connection, or sits behind where TLS ends, cannot say `"right": true`. RFC 9421 would do the same with more to get
   wrong.
2. **Strict in types and forms, and blind to keys that are not known**: the bank may add some.
3. **Nothing secret or personal in a path or a header**: it is in bodies, which nobody logs, and in no repr.

docs/directory.openapi.yaml is made of these models, and a test holds it against them.
"""

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ACCOUNT_CHARS_MAX = 64
PIN_DIGITS_MAX = 16

LOOKUP = "/v1/accounts/lookup"
VERIFY = "/v1/pins/verify"
CHANGE = "/v1/pins/change"
KEY_ID, TIMESTAMP, NONCE, SIGNATURE = (
    "Ivrguard-Key-Id",
    "Ivrguard-Timestamp",
    "Ivrguard-Nonce",
    "Ivrguard-Signature",
)

NUMBER_PATTERN = r"^\+[1-9][0-9]{6,14}$"

_REQUEST, _ANSWER = "ivrguard-v1-request", "ivrguard-v1-answer"
_Number = Annotated[str, Field(pattern=NUMBER_PATTERN)]
_Reference = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Pin = Annotated[str, Field(pattern=f"^[0-9]{{1,{PIN_DIGITS_MAX}}}$")]


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────


class Message(BaseModel):
    """One body, either way."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


class LookupByAccount(Message):
    """Which account has this id? What the caller keyed, or a name that no account has."""

    account: str = Field(max_length=ACCOUNT_CHARS_MAX, repr=False)


class LookupByNumber(Message):
    """Which one account has this number on file, in E.164?"""

    number: _Number = Field(repr=False)


class FoundAccount(Message):
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


class LookupAnswer(Message):
    """The account, or null: unknown, closed, under another spelling, or a number that several accounts have."""

    account: FoundAccount | None


class VerifyRequest(Message):
    """Are these digits the PIN that the reference stands for?"""

    reference: _Reference = Field(repr=False)
    pin: _Pin = Field(repr=False)


class VerifyAnswer(Message):
    """Whether they are. A reference that stands for nothing: false, after the same work."""

    right: bool


class ChangeRequest(Message):
    """These digits are the account's PIN from now on. The caller has proved who he is."""

    account: str = Field(max_length=ACCOUNT_CHARS_MAX, repr=False)
    pin: _Pin = Field(repr=False)


class ChangeAnswer(Message):
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
