"""
A code of our own by message: something held, the phone whose number is on file.

1. **Nothing to store, nothing to steal.** The digits are derived from the challenge with a key that never leaves
   its holder (`ports.Keys.derive`). The same challenge has the same code: a message sent again says the same, and
   so does one sent after a new naming key came, for the challenge names its key.
2. **Bound.** Every field of the challenge goes into the code: account, call, intent, time. A code asked for to
   hear a balance does not wire money (OWASP ASVS 5.0, 6.6.2).
3. **Even.** The code is the remainder of 256 bits, so no code of 10 digits or fewer is likelier than another by more
   than one in 2^222: there is nothing to prefer when guessing.
4. **Short-lived**: right only from its issue on, less the clocks' skew, for `valid_s` (at most ten minutes; NIST
   SP 800-63B-4, 3.1.3). That it is used once and that guesses are counted is not kept here: the guard forgets the
   challenge, and core/lockout.py counts, for a new code gives no new guesses.
5. **The same work for everybody**: no credential or no challenge is judged against a challenge of our own, Wrong.
"""

import hmac
import json

from ivrguard.core.assurance import CLOCK_SKEW_MS, Kind
from ivrguard.ports import Challenge, Credential, Keys, Right, Verdict, Wrong

_NO_CHALLENGE = Challenge("-", "-", "-", "-", digits=6, issued_ms=0, valid_s=0)
"""What is worked out when there is nothing to compare with; its code is as secret as any."""


class SmsCodeJudge:
    """Makes and judges codes by message. Implements `ports.Judge` and `ports.Codes`."""

    kind = Kind.SMS_CODE

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def code(self, challenge: Challenge) -> str:
        """The digits of this challenge, leading zeros kept. Secret: for the message, and for nothing else."""
        # JSON, since it keeps the fields apart whatever they hold: ("a", "bc") is not ("ab", "c").
        fields = json.dumps(
            [
                challenge.id,
                challenge.account,
                challenge.call,
                challenge.intent,
                challenge.digits,
                challenge.issued_ms,
                challenge.valid_s,
            ]
        )
        keys = self._keys.with_naming(challenge.naming)
        number = int.from_bytes(keys.derive("sms_code", fields))
        return f"{number % 10**challenge.digits:0{challenge.digits}}"

    async def judge(
        self, credential: Credential | None, digits: str, challenge: Challenge | None, now_ms: int
    ) -> Verdict:
        """Whether `digits` are the code of `challenge`, and its time is now."""
        judged = challenge or _NO_CHALLENGE
        same = hmac.compare_digest(self.code(judged).encode(), digits.encode())
        age_ms = now_ms - judged.issued_ms
        in_time = -CLOCK_SKEW_MS <= age_ms <= judged.valid_s * 1000
        if same and in_time and credential is not None and challenge is not None:
            return Right()
        return Wrong()
