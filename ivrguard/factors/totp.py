"""
A code from an authenticator app (TOTP, RFC 6238): something held, the secret in the owner's phone.

1. SHA-1, 6 digits, steps of 30 s: what every app knows, and what OWASP ASVS 5.0, 6.5.5 and NIST SP 800-63B-4, 3.1.5
   allow.
2. One step back and one ahead count too (RFC 6238, 5.2): somebody reads a screen and keys into a telephone.
3. **A step is used once** (RFC 6238, 5.2; ASVS 6.5.1). The answer says which step it was right for, and the guard
   refuses a step that is not later than the last one used.
4. **The secret is sealed** in the credential, for this purpose, with a key outside the store.
5. **The same work for everybody**: without a credential the digits are judged against a secret of our own, Wrong;
   all three steps are compared whichever fits.
"""

import base64
import binascii
import hmac
from collections.abc import Callable

import pyotp

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import DirectoryFault
from ivrguard.ports import Challenge, Credential, Keys, Right, Verdict, Wrong

DIGITS = 6
STEP_S = 30
STEPS_ASIDE = 1
SECRET_BYTES = 20
"""160 bits, as long as the hash (RFC 4226, 4, R6)."""
SECRET_BYTES_MIN = 16
"""128 bits (RFC 4226, 4, R6)."""
PURPOSE = "totp"
"""What the secret is sealed for."""


class TotpJudge:
    """Judges and enrols authenticator apps. Implements `ports.Judge`."""

    kind = Kind.TOTP

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        # Nobody has this secret in an app: it is known to the naming key alone.
        self._decoy = keys.seal(base64.b32encode(keys.derive("totp_decoy", "")[:SECRET_BYTES]), PURPOSE)

    async def judge(
        self,
        credential: Credential | None,
        digits: str,
        challenge: Challenge | None,  # noqa: ARG002 - every factor has this signature
        now_ms: int,
    ) -> Verdict:
        """
        Whether `digits` are of now; `Right.step` says for which step, the latest if several fit.

        Raises `DirectoryFault` when the secret cannot be opened here: the operator's to mend, so it is said aloud
        and not called wrong; the work is the same.
        """
        sealed = self._decoy if credential is None else credential.secret
        try:
            secret = self._keys.unseal(sealed, PURPOSE).decode()
            step = _step(secret, digits, now_ms)
        except ValueError:
            _step(self._keys.unseal(self._decoy, PURPOSE).decode(), digits, now_ms)
            raise DirectoryFault(
                "an app's secret cannot be opened: bring its sealing key back, or enrol the app anew"
            ) from None
        return Wrong() if credential is None or step is None else Right(step=step)

    def enrol(self, secret: str) -> Credential:
        """
        A credential for an app that has `secret` (base32; blanks, dashes and case do not matter).

        Raises `ValueError`, with the reason of `unfit`, which does not show it.
        """
        reason = unfit(secret)
        if reason is not None:
            raise ValueError(reason)
        return Credential(Kind.TOTP, secret=self._keys.seal(_plain(secret).encode(), PURPOSE))

    def holds(self, credential: Credential, secret: str) -> bool:
        """Whether a credential was made of `secret`; False, too, if it cannot be opened here any more."""
        try:
            kept = self._keys.unseal(credential.secret, PURPOSE)
        except ValueError:
            return False
        return hmac.compare_digest(kept, _plain(secret).encode())


def unfit(secret: str) -> str | None:
    """Why `secret` is no good for an app, in words that do not show it; None if it is."""
    plain = _plain(secret)
    try:
        length = len(base64.b32decode(plain + "=" * (-len(plain) % 8)))
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return "an app's secret is base32: letters A to Z and digits 2 to 7"
    return (
        None
        if length >= SECRET_BYTES_MIN
        else f"an app's secret of {length} bytes: use {SECRET_BYTES_MIN} or more"
    )


def _plain(secret: str) -> str:
    return secret.replace(" ", "").replace("-", "").rstrip("=").upper()


def new_secret(random: Callable[[int], bytes]) -> str:
    """A new secret in base32; `random(n)` gives n unguessable bytes (`secrets.token_bytes`)."""
    return base64.b32encode(random(SECRET_BYTES)).decode()


def provisioning_uri(secret: str, *, account: str, issuer: str) -> str:
    """
    The otpauth: text that an app reads as a QR code; `account` and `issuer` are what it shows to its owner.

    It holds the secret: show it once, to the owner, and keep it nowhere
    (https://github.com/google/google-authenticator/wiki/Key-Uri-Format).
    """
    uri = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_S).provisioning_uri(
        name=account, issuer_name=issuer
    )
    return str(uri)


def _step(secret: str, digits: str, now_ms: int) -> int | None:
    """The latest step near now whose code is `digits`; every step is worked out and compared."""
    app = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_S)
    now = now_ms // (STEP_S * 1000)
    found = None
    for step in range(now - STEPS_ASIDE, now + STEPS_ASIDE + 1):
        if hmac.compare_digest(app.generate_otp(step).encode(), digits.encode()):
            found = step
    return found
