"""
The password of somebody at a desk: something known, typed at a keyboard, never said on the telephone.

1. **Hashed as PINs are** (factors/pin.py: argon2id over a keyed hash, the same work for everybody), with a word in front that no PIN
   has, so that neither can be passed off as the other.
2. **Long, and otherwise free**: 12 characters (PCI DSS 4.0.1, 8.3.6; NIST SP 800-63B-4, 3.1.1.2 wants 8 beside a second factor), any
   that can be seen, no rule about digits and signs, no end after 90 days. What everybody takes is refused (`weak`).
3. **One spelling**: NFKC (800-63B-4, 3.1.1.2), so that the same keys pressed on two machines are the same password.
"""

import unicodedata
from itertools import pairwise
from typing import Protocol

from ivrguard.ports import Challenge, Credential, Verdict

CHARS_MIN = 12
CHARS_MAX = 128
CHARS_TYPED_MAX = 1_024
"""What is looked at of what somebody typed: more is no password of anybody's."""
DISTINCT_MIN = 5
LEFT_MIN = 6
"""How many characters must be left once the words that everybody takes are taken out."""
WORDS = (
    *("password", "passwort", "passw0rd", "p@ssword", "p@ssw0rd", "contraseña", "administrator", "ivrguard", "callcenter"),
    *("qwertyuiop", "qwertzuiop", "asdfghjkl", "qwerty", "qwertz", "azerty", "1q2w3e4r", "letmein", "welcome", "iloveyou"),
    *("1234567890", "123456789", "12345678", "1234567", "123456", "12345", "1234", "abcdefgh", "abcdef", "abc123"),
    *("monkey", "dragon", "sunshine", "princess", "football", "baseball", "superman", "trustno1", "changeme", "secret"),
)  # fmt: skip
"""What the passwords begin with that are tried first (the lists that 800-63B-4, 3.1.1.2 speaks of), the longest first."""
_AS_NO_PIN = "password: "


class Hashes(Protocol):
    """Who hashes: factors/pin.py."""

    async def judge(
        self, credential: Credential | None, digits: str, challenge: Challenge | None, now_ms: int
    ) -> Verdict:
        """See `ports.Judge.judge`."""

    async def hashed(self, text: str) -> Credential:
        """A credential for a secret. Raises `core.errors.Busy`."""

    async def close(self) -> None:
        """Finish what is under way."""


class PasswordJudge:
    """Judges and enrols passwords."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes

    async def judge(self, credential: Credential | None, password: str) -> Verdict:
        """Whether it is the password; the same work, and Wrong, without a credential. Raises as `ports.Judge.judge`."""
        return await self._hashes.judge(credential, _AS_NO_PIN + _spelled(password), None, 0)

    async def enrol(self, password: str, *, name: str) -> Credential:
        """A credential for a new password of the agent `name`. Raises `ValueError` with the reason of `weak`, and `Busy`."""
        reason = weak(password, name)
        if reason is not None:
            raise ValueError(reason)
        return await self._hashes.hashed(_AS_NO_PIN + _spelled(password))

    async def close(self) -> None:
        """Let the threads go."""
        await self._hashes.close()


def weak(password: str, name: str) -> str | None:
    """Why it is no good as a password, in words that do not repeat it; None if it is."""
    text = _spelled(password)
    if not CHARS_MIN <= len(text) <= CHARS_MAX:
        return f"a password has {CHARS_MIN} to {CHARS_MAX} characters: four or five words make a good one"
    if not text.isprintable():
        return "a password is made of characters that can be seen, and blanks"
    plain = text.casefold()
    if len(set(plain)) < DISTINCT_MIN or plain in (plain + plain)[1:-1]:
        return "a password that repeats itself is easily guessed"
    if len({ord(after) - ord(before) for before, after in pairwise(plain)}) == 1:
        return "a password that counts up or down is easily guessed"
    for word in (name, *WORDS):
        plain = plain.replace(word, "")
    if len(plain) < LEFT_MIN:
        return "this is a word that everybody takes, or the agent's name, with little else"
    return None


def _spelled(password: str) -> str:
    return unicodedata.normalize("NFKC", password[:CHARS_TYPED_MAX])
