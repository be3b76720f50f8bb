"""
The bank's own system as the directory: who has which account, and whether a PIN is right. docs/directory.md is the
protocol, for the bank's developer; directory/bank.py the way to it.

1. **The lockout rule stays the guard's.** Nothing is counted here, and a guess is sent once and never again by itself.
   What was sent and not answered may have been looked at, so it counts (`core.errors.OutOfSight`); what surely was not
   does not.
2. **The same work for everybody.** Known, unknown, locked or without a PIN: the same requests, of the same shape. Where
   there is no PIN to judge, the bank is asked about a reference that no account has, and its answer does not count.
3. **One spelling.** An answer about another account or number than was asked for names nobody: two spellings of one
   account would be two lockout counters, and twice the guesses.
4. **404 is read as what it means**: no such account, no such reference. Whatever it is called, it must not sound
   otherwise to a caller than null and false do.
"""

import re

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import DirectoryFault, OutOfSight
from ivrguard.directory.bank import NOBODY, Bank, Outcome, Unanswered
from ivrguard.directory.messages import (
    ACCOUNT_CHARS_MAX,
    CHANGE,
    LOOKUP,
    NUMBER_PATTERN,
    VERIFY,
    ChangeAnswer,
    ChangeRequest,
    LookupAnswer,
    LookupByAccount,
    LookupByNumber,
    VerifyAnswer,
    VerifyRequest,
)
from ivrguard.ports import Account, Challenge, Credential, Directory, Right, Verdict, Wrong

REMOTE = "remote"
"""The `key_id` of a credential whose secret is a reference of the bank's."""
NOBODYS_PIN = "00000000"


class HttpDirectory:
    """
    Accounts of the bank's. Implements `ports.Directory`.

    `own`: a directory of the guard's, where apps that make codes (TOTP) are enrolled under the bank's ids: the
    protocol's first version does not carry them. Nothing else is taken from it.
    """

    def __init__(self, bank: Bank, own: Directory) -> None:
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
        # Anonymous, sip: and client: callers are on nobody's file.
        if not re.fullmatch(NUMBER_PATTERN, number):
            return None
        found = await self._found(LookupByNumber(number=number), NOBODY)
        return found if found is not None and number in found.numbers else None

    async def _found(self, said: LookupByAccount | LookupByNumber, account_id: str) -> Account | None:
        answer = await self._bank.ask(LOOKUP, said, LookupAnswer, reads=True)
        found = answer.account if answer is not None else None
        # A name that nobody has is looked up here too: the same work.
        own = await self._own.by_id(found.id if found is not None else account_id)
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
            answer = await self._bank.ask(VERIFY, said, VerifyAnswer, probe=self._of_nobody)
        except Unanswered as fault:
            raise _seen(fault) from None
        return Right() if answer is not None and answer.right and credential is not None else Wrong()

    def _of_nobody(self) -> VerifyRequest:
        """What is asked to see whether the bank is well again: a caller's own guess would count, and be lost."""
        return VerifyRequest(reference=self._bank.decoy(), pin=NOBODYS_PIN)


class HttpPins:
    """PINs that the bank changes. Implements `ports.Pins`."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:  # noqa: ARG002 - the port's
        """
        Make `digits` the account's PIN; False, and nothing changed, if the bank finds them too easy to guess.

        Raises `OutOfSight` when it may have changed all the same; `Busy`, or `DirectoryFault`, when it surely has not.
        """
        try:
            answer = await self._bank.ask(CHANGE, ChangeRequest(account=account_id, pin=digits), ChangeAnswer)
        except Unanswered as fault:
            raise _seen(fault) from None
        if answer is None:
            raise DirectoryFault("the bank's system has no account any more whose PIN was to be changed")
        if answer.changed == (answer.reason is not None):
            raise OutOfSight("the bank's system did not say whether it changed the PIN")
        return answer.changed


def _seen(fault: Unanswered) -> DirectoryFault | OutOfSight:
    """The same fault, or `OutOfSight` where the bank may have acted on what it was sent."""
    return OutOfSight(str(fault)) if fault.outcome is Outcome.UNSETTLED else fault
