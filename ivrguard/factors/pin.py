"""
The PIN: something the caller knows, keyed in full.

1. **Argon2id over a keyed hash.** What is stored is argon2id (m=19456 KiB, t=2, p=1: OWASP Password Storage Cheat
   Sheet, https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html) of HMAC-SHA256(pepper,
   digits). A stolen table of 8-digit PINs falls to any hash in days; without the pepper, which is not in the store,
   it does not fall at all. The HMAC comes first, so that no PIN stands bare in argon2's memory.
2. **A pepper has an id**, kept with the hash, since changing it needs the PIN again: new PINs take the current
   one, and all of them are read. A PIN that was right under an older one, or with less work, is hashed anew while it
   is at hand (`Right.renewed`).
3. **The same work for everybody.** Known, unknown, locked or not enrolled, each answer costs exactly one argon2 of
   the same parameters; without a credential it is compared with a decoy that no digits fit, and is Wrong. The hash
   made anew is one more, once, for somebody who has just been told that he is right.
4. **Bounded.** As many threads as cores, at the lowest priority, so that hashing does not slow the calls down
   (two such threads leave the event loop's 99th percentile within a half of idle; without the priority it
   doubles). Beyond a short queue: `Busy`, at once and before any work, so nothing is counted or guessed.
5. **Not any PIN.** NIST SP 800-63B-4, 3.1.1.2 asks for a blocklist. `weak` refuses about a tenth of the shorter PINs,
   which "may provide the best balance between usability and security" (Markert and others, 2020,
   https://arxiv.org/abs/2003.04868); the lists of phones, a tenth of that, did not help there.
"""

import asyncio
import hmac
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import pairwise
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError, VerifyMismatchError

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy, DirectoryFault
from ivrguard.core.flow import PIN_DIGITS_MIN
from ivrguard.ports import Challenge, Credential, Right, Verdict, Wrong

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
QUEUE_PER_THREAD = 8
"""How many may wait for one thread: at some 30 ms each, a quarter of a second."""
LOWEST_PRIORITY = 19
PIN_DIGITS_MAX = 12
"""What a caller can key without losing count."""

_MOST_USED_4 = (
    "1234 1111 0000 1212 7777 1004 2000 4444 2222 6969 9999 3333 5555 6666 1122 1313 8888 4321 2001 1010"
)
_ON_PHONES_4 = "0000 0852 1111 1212 1234 1998 2222 2580 5555 5683"
_ON_PHONES_6 = "000000 111111 112233 121212 123123 123456 159753 654321 666666 789456"
_LONGER = "007007 8675309 14725836 25836914 31415926 147258369 789456123 963852741 3141592654"
MOST_USED = frozenset(f"{_MOST_USED_4} {_ON_PHONES_4} {_ON_PHONES_6} {_LONGER}".split())
"""
PINs that guessers try first: the twenty that 27 % of people use (3.4 million leaked PINs, DataGenetics 2012, in
https://www.huffpost.com/entry/worst-pin-numbers_n_3696560), the ten most used of 4 and of 6 digits on phones
(arXiv 2003.04868), and longer favourites: ways over the keypad, pi, an agent and a song.
"""

_Result = TypeVar("_Result")


class PinJudge:
    """
    Judges and enrols PINs. Implements `ports.Judge`.

    `peppers`: key id to secret key, the current one first (never empty). `threads`: None for one a core;
    `queue_per_thread`: how many answers may wait for each. The decoy is hashed here, which takes some 30 ms.
    """

    kind = Kind.PIN

    def __init__(
        self,
        peppers: Mapping[str, bytes],
        *,
        threads: int | None = None,
        queue_per_thread: int = QUEUE_PER_THREAD,
    ) -> None:
        self._peppers = dict(peppers)
        self._current = next(iter(self._peppers))
        self._hasher = PasswordHasher(
            time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID
        )
        # Chance that nobody needs to repeat or know: 32 bytes, of which no HMAC of digits is one.
        self._decoy = self._hasher.hash(os.urandom(32))
        self._have(threads or os.cpu_count() or 1, queue_per_thread)

    def _have(self, threads: int, queue_per_thread: int) -> None:
        self.places = threads * (1 + queue_per_thread)
        """How many may be judged, hashed or waiting at once."""
        self._places = threading.Semaphore(self.places)
        self._pool = ThreadPoolExecutor(threads, "pin", initializer=_lower_priority)

    def apart(self, threads: int) -> "PinJudge":
        """The same judge with threads and places of its own: whoever crowds the one takes none of the other's."""
        other = copy(self)
        other._have(threads, QUEUE_PER_THREAD)  # noqa: SLF001 -- its own
        return other

    async def judge(
        self,
        credential: Credential | None,
        digits: str,
        challenge: Challenge | None,  # noqa: ARG002 - every factor has this signature
        now_ms: int,  # noqa: ARG002 - the same
    ) -> Verdict:
        """
        Whether `digits` are the PIN, which has no challenge and no time.

        Raises `Busy` beyond the bound, and `DirectoryFault` when a hash cannot be judged here: its pepper is not
        configured, or it is not a hash. Both are the operator's to mend, so they are said aloud and not called
        wrong; the work is the same.
        """
        return await self._in_pool(partial(self._judge, credential, digits))

    async def enrol(self, digits: str) -> Credential:
        """
        A credential for a new PIN under the current pepper.

        Raises `ValueError` with the reason of `weak`, and `Busy`.
        """
        reason = weak(digits)
        if reason is not None:
            raise ValueError(reason)
        return await self.hashed(digits)

    async def hashed(self, text: str) -> Credential:
        """A credential for whatever secret this is, under the current pepper: whether it is weak was asked before. Raises `Busy`."""
        hash_ = await self._in_pool(partial(self._hasher.hash, self._keyed(self._current, text)))
        return Credential(Kind.PIN, secret=hash_, key_id=self._current)

    async def holds(self, credential: Credential, digits: str) -> bool:
        """
        Whether a credential was made of these digits. False, too, where `judge` would raise `DirectoryFault`: who has the
        digits enrols them anew. Raises `Busy`.
        """
        try:
            return isinstance(await self.judge(credential, digits, None, 0), Right)
        except DirectoryFault:
            return False

    async def close(self) -> None:
        """Finish the hashes under way and let the threads go."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _in_pool(self, work: Callable[[], _Result]) -> _Result:
        if not self._places.acquire(blocking=False):
            raise Busy("as many PINs are being judged and waiting as there is room for")
        future = self._pool.submit(work)
        future.add_done_callback(self._leave)  # not when the waiter gives up: the thread is still taken then
        return await asyncio.wrap_future(future)

    def _leave(self, _: Future[_Result]) -> None:
        self._places.release()

    def _judge(self, credential: Credential | None, digits: str) -> Verdict:
        """One argon2 whatever comes; on a thread of the pool."""
        if credential is None:
            self._fits(self._decoy, self._current, digits)
            return Wrong()
        if credential.key_id not in self._peppers:
            self._fits(self._decoy, self._current, digits)
            raise DirectoryFault(f"a PIN needs pepper {credential.key_id!r}, which is not configured here")
        try:
            right = self._fits(credential.secret, credential.key_id, digits)
            return Right(renewed=self._renewed(credential, digits)) if right else Wrong()
        except (ValueError, VerificationError):  # no hash of argon2's, or a damaged one: found without work
            self._fits(self._decoy, self._current, digits)
            raise DirectoryFault(
                f"a PIN kept under pepper {credential.key_id!r} is damaged: enrol it anew"
            ) from None

    def _renewed(self, credential: Credential, digits: str) -> Credential | None:
        if credential.key_id == self._current and not self._hasher.check_needs_rehash(credential.secret):
            return None
        hash_ = self._hasher.hash(self._keyed(self._current, digits))
        return replace(credential, secret=hash_, key_id=self._current)

    def _fits(self, hash_: str, key_id: str, digits: str) -> bool:
        try:
            return self._hasher.verify(hash_, self._keyed(key_id, digits))
        except VerifyMismatchError:
            return False

    def _keyed(self, key_id: str, digits: str) -> bytes:
        return hmac.digest(self._peppers[key_id], digits.encode(), "sha256")


def weak(digits: str) -> str | None:
    """
    Why these digits are no good as a PIN, in words for the one who chose them; None if they are.

    The words do not repeat the digits.
    """
    if not (digits.isascii() and digits.isdigit()):
        return "a PIN is made of the digits 0 to 9"
    if not PIN_DIGITS_MIN <= len(digits) <= PIN_DIGITS_MAX:
        return f"a PIN has {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits"
    if digits in MOST_USED:
        return "this PIN is one of those most used, and most tried"
    if _is_block_repeated(digits):
        return "a PIN that repeats itself is easily guessed"
    if len({(after - before) % 10 for before, after in pairwise(map(int, digits))}) == 1:
        return "a PIN that counts up or down is easily guessed"
    if digits == digits[::-1] or digits[::2] == digits[1::2]:
        return "a PIN of pairs or one that reads the same backwards is easily guessed"
    if any(_is_date(*parts) for parts in _as_dates(digits)):
        return "a year or a date is easily guessed"
    return None


def _is_block_repeated(digits: str) -> bool:
    """1111, 1212, 123123: a string is a repetition if it is found again within itself doubled."""
    return digits in (digits + digits)[1:-1]


def _as_dates(digits: str) -> Iterator[tuple[str, str, str]]:
    """Each way to read the digits as (year, month, day): a year, a day of any year, a short and a full date."""
    d = digits
    match len(d):
        case 4:
            yield from ((d, "1", "1"), ("2000", d[:2], d[2:]), ("2000", d[2:], d[:2]))
        case 6:
            for year, month, day in (
                (d[4:], d[:2], d[2:4]),
                (d[4:], d[2:4], d[:2]),
                (d[:2], d[2:4], d[4:]),
            ):
                yield from (("19" + year, month, day), ("20" + year, month, day))
        case 8:
            yield from (
                (d[4:], d[:2], d[2:4]),
                (d[4:], d[2:4], d[:2]),
                (d[:4], d[4:6], d[6:]),
            )


def _is_date(year: str, month: str, day: str) -> bool:
    """Whether that day was or will be, in a year somebody may remember."""
    with suppress(ValueError):
        return 1900 <= date(int(year), int(month), int(day)).year < 2100
    return False


def _lower_priority() -> None:
    """
    Put this thread behind all others for the processor.

    Linux schedules threads, and takes a thread's id where POSIX says a process's; elsewhere such an id may be
    another process, so nothing is done.
    """
    if sys.platform == "linux":  # pragma: no branch - the other platforms do nothing
        with suppress(OSError):  # a container may forbid it: then the hashes are merely less polite
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
