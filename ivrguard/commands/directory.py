"""The bank's own system: the way to it that the settings name, and a trial of it before the first caller."""

import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from typing import Annotated, Any

import typer

from ivrguard.commands.shell import (
    CONFIG,
    NO_KEYS,
    AccountId,
    Config,
    account_of,
    err,
    fail,
    moment,
    out,
    run,
    settled,
)
from ivrguard.core.errors import DirectoryFault
from ivrguard.directory.bank import Access, Bank, MutualTls, Outcome
from ivrguard.directory.messages import (
    LOOKUP,
    VERIFY,
    FoundAccount,
    LookupAnswer,
    LookupByAccount,
    SigningKey,
    VerifyAnswer,
    VerifyRequest,
)
from ivrguard.settings import DIRECTORY_TLS, Settings, variable
from ivrguard.web.app import wall_clock_ms

TIMES = 10
"""How often each of two things is asked, in turn, before their times are compared."""
APART_MS, APART_SHARE = 5.0, 0.25
"""Medians that lie further apart than both of these are told: what a caller may hear in a few calls."""

directory = typer.Typer(name="directory", help="Your own system with the accounts.", no_args_is_help=True)


def access_of(configured: Settings) -> Access | None:
    """The way to the bank's system, its files read; None: accounts are in our own tables."""
    secret = configured.directory_secret
    if secret is None:
        return None
    tls = None
    ca, certificate, key = (getattr(configured, name) for name in DIRECTORY_TLS)
    if ca is not None:
        try:
            tls = MutualTls(ca, certificate, key)
        except DirectoryFault as fault:
            fail(f"{', '.join(map(variable, DIRECTORY_TLS))}: {fault}")
    return Access(configured.directory_url, SigningKey(*secret), tls, configured.directory_deadline_s)


class _Unwatched:
    """Nobody looks on: whoever tries sees for himself. Implements `directory.bank.Watch`."""

    def asked(self, request: str, outcome: Outcome, seconds: float) -> None:
        """Nothing."""

    def circuit(self, request: str, *, opened: bool) -> None:
        """Nothing."""

    def certificate(self, ends_ms: int, fault: str) -> None:
        """Nothing."""


@directory.command("try", epilog="Example: ivrguard directory try 123456")
def directory_try(
    account: AccountId,
    unknown: Annotated[
        str, typer.Option(help="An account that is not there.", show_default="one that is made up")
    ] = "",
    config: Config = CONFIG,
) -> None:
    """
    Ask your own system about an account that is there and one that is not, before the first caller does.

    Tells whether the protocol of docs/directory.md holds: signatures,
    certificates, one spelling of each account, and the same time for everybody.
    Use an account made for tests: random PINs are tried on it, which no rule
    counts. Ends with 0 if all is well, and with 1 if something must be mended
    first.
    """
    name = account_of(account)
    nobody = account_of(unknown) if unknown else _made_up(name)
    access = access_of(settled(config, NO_KEYS))
    if access is None:
        fail("IVRGUARD_DIRECTORY_URL: not set: the accounts are in our own tables; see `ivrguard accounts`")
    faults = run(_tried(access, name, nobody))
    if faults:
        fail(*faults)


def _made_up(like: str) -> str:
    return "".join(secrets.choice("0123456789") for _ in like)


def _spellings(name: str) -> Iterator[str]:
    """Other ways to write an account that a caller may try, to get a count of his own."""
    yield f"0{name}"
    yield f"00{name}"
    if name.startswith("0"):
        yield name.lstrip("0") or "00"
    if name.lower() != name:
        yield name.lower()


async def _tried(access: Access, name: str, nobody: str) -> list[str]:
    """Ask, and print what is well; what is not."""
    out.print(f"{access.url}, signed with key {access.key.id}")
    if access.tls is not None:
        out.print(f"mutual TLS; the guard's certificate runs out {moment(access.tls.ends_ms)}")
    bank = Bank(access, clock=wall_clock_ms, chance=secrets.token_bytes, watch=_Unwatched())
    try:
        why = await bank.unfit()
        if why is not None:
            return [why]
        out.print("it answers, and both signatures hold")
        return await _asked(bank, name, nobody)
    finally:
        await bank.close()


async def _asked(bank: Bank, name: str, nobody: str) -> list[str]:
    found = await _account(bank, name)
    if found is None:
        return [f"{name}: not found: name an account that is there, spelled as your system spells it"]
    out.print(f"{name}: found; {_described(found)}")
    if await _account(bank, nobody) is not None:
        return [f"{nobody}: found: name an account that is not there with --unknown"]
    out.print(f"{nobody}: null, as it should be")
    also = [spelled for spelled in _spellings(name) if await _account(bank, spelled) is not None]
    faults = [
        f"{spelled}: found as well as {name}: two spellings are twice the guesses; answer null"
        for spelled in also
    ]
    if await _verdict(bank, bank.decoy()) is not False:
        faults.append("a reference that stands for nothing: right: it must be false")
    pairs: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]] = [
        ("look-up", lambda: _account(bank, name), lambda: _account(bank, nobody))
    ]
    if found.pin is not None:
        reference = found.pin
        pairs.append(("PIN", lambda: _verdict(bank, reference), lambda: _verdict(bank, bank.decoy())))
    for what, known, other in pairs:
        await _compare(what, known, other)
    return faults


async def _account(bank: Bank, name: str) -> FoundAccount | None:
    """The account of exactly this name: another one's counts for nothing."""
    answer = await bank.ask(LOOKUP, LookupByAccount(account=name), LookupAnswer, reads=True)
    found = answer.account if answer is not None else None
    return found if found is not None and found.id == name else None


async def _verdict(bank: Bank, reference: str) -> bool:
    """On a PIN that nobody has chosen."""
    answer = await bank.ask(
        VERIFY, VerifyRequest(reference=reference, pin=_made_up("8 digits")), VerifyAnswer
    )
    return answer is not None and answer.right


def _described(found: FoundAccount) -> str:
    parts = ["a PIN" if found.pin else "no PIN", "codes by SMS" if found.sms_number else "no codes by SMS"]
    parts.append(f"numbers on file: {len(found.numbers)}")
    parts.append(f"language {found.language}" if found.language else "no language")
    return ", ".join(parts)


async def _compare(
    what: str, known: Callable[[], Awaitable[Any]], other: Callable[[], Awaitable[Any]]
) -> None:
    """The medians of both, asked in turn; a warning when they lie apart."""
    times: tuple[list[float], list[float]] = ([], [])
    with err.status(f"{what}: {TIMES} times each, in turn …"):
        for _ in range(TIMES):
            for asked, taken in zip((known, other), times, strict=True):
                began = time.perf_counter()
                await asked()
                taken.append((time.perf_counter() - began) * 1000)
    here, there = map(median, times)
    out.print(f"{what}: {here:.1f} ms for the account that is there, {there:.1f} ms for the one that is not")
    if abs(here - there) > max(APART_MS, APART_SHARE * max(here, there)):
        err.print(
            f"warning: {what}: who listens can tell who has an account; see Equal time in docs/directory.md"
        )
