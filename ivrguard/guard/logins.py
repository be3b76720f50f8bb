"""
Log-ins with an account of our own: name, password and code together, judged once.

The laws of this file:

1. **Count, then judge, then forgive** (core/lockout.py): the attempt is in the store before anything is compared; a crash leaves it
   counted; what was right is forgiven in the act that begins the session.
2. **One answer for all that is not right**: unknown names, wrong passwords, wrong or used codes, locks. Each costs one argon2, three
   codes, and two acts of the store; the record alone knows why.
3. **All at once**: whoever guesses learns nothing of one of the two until he has both; and a code's step is used once (RFC 6238, 5.2).
4. **Who knocks fills nothing**: at most `AT_ONCE_MAX` are judged at once, and one more is turned away before anything is written; so the
   record grows no faster than passwords can be hashed.
5. A name that nobody has may be a password in the wrong field: it reaches neither log nor record, only its keyed hash does.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from ivrguard.core import lockout
from ivrguard.core.agents import OWN
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Busy, DirectoryFault
from ivrguard.core.lockout import Ledger, Open, standing
from ivrguard.core.sessions import LOGIN_RULE
from ivrguard.factors.password import PasswordJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import books, sessions, staff
from ivrguard.guard.books import Values
from ivrguard.guard.world import World
from ivrguard.ports import AgentAccount, Change, Key, Put, Right, Verdict

AT_ONCE_MAX = 8


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody typed."""

    name: str = field(repr=False)
    password: str = field(repr=False)
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A log-in under way: for whom, if anybody; where it is counted; how the record names him."""

    id: str
    account: AgentAccount | None
    ledger: Key[Ledger]
    ref: str
    detail: tuple[tuple[str, str], ...]
    allowed: bool = False

    def entry(self, now_ms: int, event: str, reason: str) -> Entry:
        return Entry(now_ms, event, account=self.ref, reason=reason, detail=self.detail)

    def put(self, ledger: Ledger, now_ms: int) -> Put:
        return books.ledger_put(self.ledger.id, LOGIN_RULE, ledger, now_ms, kept=self.account is not None)


class Logins:
    """Judges log-ins. `passwords`: with threads of its own, so that a crowd at this door does not keep callers waiting."""

    def __init__(self, world: World, passwords: PasswordJudge, apps: TotpJudge) -> None:
        self._world = world
        self._passwords = passwords
        self._apps = apps
        self._flying = 0

    async def log_in(self, typed: Typed, secret: str, *, ended: str = "") -> bool:
        """
        Begin a session with this secret if all is right, in the place of the one whose secret is `ended`.

        Raises `core.errors.Fault`: `Busy` when too many are at it, `StoreFault`, `DirectoryFault`, `RecordFault`; then nobody was
        let in, and what was not judged is not counted.
        """
        self._world.refuse_unrecorded()
        if self._flying >= AT_ONCE_MAX:
            raise Busy(f"{AT_ONCE_MAX} log-ins are being judged already")
        self._flying += 1
        try:
            return await self._judged(typed, secret, ended)
        finally:
            self._flying -= 1

    async def _judged(self, typed: Typed, secret: str, ended: str) -> bool:
        attempt = await self._counted(typed.name)
        account = attempt.account if attempt.allowed else None
        now = self._world.clock()
        try:
            known = await self._passwords.judge(account.password if account else None, typed.password)
            code = "".join(typed.code.split())
            held = await self._apps.judge(account.app if account else None, code, None, now)
        except (Busy, DirectoryFault):
            await self._withdrawn(attempt)
            raise
        return await self._decided(attempt, known, held, secret, ended)

    async def _counted(self, typed: str) -> _Attempt:
        name = ""
        with suppress(ValueError):
            name = staff.canonical_name(typed)
        account = await self._world.store.read(staff.agent_key(name or "?"))
        nobody = self._world.keys.pseudonym("agent", typed.strip().lower())
        called = f"{OWN}?{nobody}" if account is None else f"{OWN}{account.name}"
        attempt = _Attempt(
            self._world.nonce(),
            account,
            staff.login_ledger(called),
            nobody if account is None else "",
            () if account is None else (("agent", called),),
        )
        now = self._world.clock()

        def change(values: Values) -> Change[bool]:
            before = _ledger(values, attempt)
            after, allowed = lockout.reserve(LOGIN_RULE, before, attempt.id, now)
            puts = (attempt.put(after, now),)
            entry = attempt.entry(now, "agent_login_attempt", "counted" if allowed else "locked")
            return Change(allowed, puts, (entry,))

        return replace(attempt, allowed=await self._world.store.amend([attempt.ledger], change))

    async def _withdrawn(self, attempt: _Attempt) -> None:
        """Nothing was judged, so nothing was learnt."""
        now = self._world.clock()

        def change(values: Values) -> Change[None]:
            after = lockout.withdraw(_ledger(values, attempt), attempt.id)
            return Change(
                None, (attempt.put(after, now),), (attempt.entry(now, "agent_login_attempt", "withdrawn"),)
            )

        await self._world.store.amend([attempt.ledger], change)

    async def _decided(
        self, attempt: _Attempt, known: Verdict, held: Verdict, secret: str, ended: str
    ) -> bool:
        account, now = attempt.account, self._world.clock()
        digest = sessions.digest_of(secret)
        called = OWN + (account.name if account else "?")
        account_key = staff.agent_key(account.name if account else "?")
        spent_key = books.spent_key(called)
        keys: list[Key[object]] = [
            *(attempt.ledger, spent_key, account_key),
            *(sessions.session_key(digest), sessions.list_key(called)),
        ]

        def change(values: Values) -> Change[bool]:
            ledger, spent = _ledger(values, attempt), values[spent_key]
            why = _why(attempt, values[account_key], known, held, spent if isinstance(spent, int) else -1)
            if account is None or why:
                entries = [attempt.entry(now, "agent_login_failed", why)]
                if attempt.allowed and not isinstance(standing(LOGIN_RULE, ledger, now), Open):
                    entries.append(attempt.entry(now, "agent_locked", "failures"))
                return Change(False, (), tuple(entries))
            agent = account.agent(now)
            puts = [
                attempt.put(lockout.absolve(ledger, attempt.id), now),
                Put(spent_key, _step(held), now + books.SPENT_KEPT_S * 1000),
                *sessions.puts_of(agent, digest, sessions.digest_of(ended), values, now),
            ]
            if isinstance(known, Right) and known.renewed is not None:
                puts.append(Put(account_key, staff.with_secrets(account, password=known.renewed)))
            return Change(True, tuple(puts), (sessions.logged_in(agent, "password", now),))

        return await self._world.store.amend(keys, change)


def _ledger(values: Values, attempt: _Attempt) -> Ledger:
    found = values[attempt.ledger]
    return found if isinstance(found, Ledger) else Ledger()


def _step(held: Verdict) -> int:
    """The time step that a code was right for; before all others for one that was not."""
    return held.step if isinstance(held, Right) and held.step is not None else -1


def _why(attempt: _Attempt, account_now: object, known: Verdict, held: Verdict, spent: int) -> str:
    """Why nobody is let in, for the record; "" if somebody is."""
    if not attempt.allowed:
        return "locked"
    if attempt.account is None:
        return "unknown"
    if not (isinstance(known, Right) and isinstance(held, Right)):
        return "wrong"
    if _step(held) <= spent:
        return "used"
    return "" if account_now == attempt.account else "changed"
