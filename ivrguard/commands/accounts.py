"""Accounts of the built-in directory, one at a time. By the thousand: commands/bulk.py."""

import io
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import segno
import typer
from rich.text import Text

from ivrguard import settings
from ivrguard.commands.shell import (
    CONFIG,
    AccountId,
    Config,
    account_of,
    err,
    fail,
    in_accounts,
    keyring_of,
    looked_through,
    moment,
    operator,
    out,
)
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Disabled, Locked
from ivrguard.directory import local
from ivrguard.directory.local import LocalDirectory, canonical_language, canonical_number
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge, new_secret, provisioning_uri
from ivrguard.guard import erasure, locks
from ivrguard.ports import Account, Credential, Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

T = TypeVar("T")
ISSUER = "ivrguard"
NO_SUCH = "there is no such account; `ivrguard accounts add` makes one"

accounts = typer.Typer(name="accounts", help="Accounts of the built-in directory.", no_args_is_help=True)


def read_pin() -> str:
    """A PIN from a prompt at a terminal, or else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("PIN", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().strip()


def changing(config: Path, work: Callable[[Store, Settings, LocalDirectory], Awaitable[T]]) -> T:
    """Run `work` on the accounts; what is wrong with what was asked for is a line."""

    async def whole(store: Store, configured: Settings) -> T:
        return await work(store, configured, LocalDirectory(store, keyring_of(configured)))

    try:
        return in_accounts(config, whole, settings.KEYS)
    except ValueError as error:
        fail(str(error))


def flows_in(configured: Settings) -> tuple[Flow, ...]:
    """The flows that can be read. Accounts are changed whatever is wrong with a flow."""
    return looked_through(configured.flows).flows


def other_length(flows: tuple[Flow, ...], *lengths: int) -> Iterator[str]:
    """What to warn of where a flow wants a PIN of another length: who has this one cannot key it there."""
    for flow in flows:
        wanted = {factor.digits for factor in flow.factors.values() if factor.kind is Kind.PIN}
        other = [length for length in lengths if length not in wanted]
        if wanted and other:
            yield (
                f"warning: flow {flow.name} wants a PIN of {' or '.join(map(str, sorted(wanted)))} digits: "
                f"{'one' if len(other) == 1 else f'{len(other)} PINs'} of another length cannot be keyed there"
            )


async def made_pin(configured: Settings, digits: str) -> Credential:
    """A PIN's credential. Raises `ValueError` with the reason if it is too easy to guess."""
    judge = PinJudge(configured.peppers, threads=1)
    try:
        return await judge.enrol(digits)
    finally:
        await judge.close()


def made_app(configured: Settings, name: str) -> tuple[Credential, str]:
    """A new app's credential, and the address that the app is told."""
    secret = new_secret(secrets.token_bytes)
    uri = provisioning_uri(secret, account=name, issuer=ISSUER)
    return TotpJudge(keyring_of(configured)).enrol(secret), uri


def print_app(uri: str) -> None:
    """The address, and at a terminal the same as a QR code, light on dark whatever the terminal's colours."""
    if out.is_terminal:
        drawn = io.StringIO()
        segno.make(uri, error="l", boost_error=False).terminal(drawn, border=2, compact=True)
        out.print(Text(drawn.getvalue(), style="bright_white on black"), end="")
    print(uri)


@accounts.command("add", epilog="Example: ivrguard accounts add 123456789 --number +15551230001 --pin --sms")
def accounts_add(
    account: AccountId,
    number: Annotated[list[str] | None, typer.Option(help="Phone number on file; may be repeated.")] = None,
    region: Annotated[str | None, typer.Option(help="Country of numbers without +, such as US.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Enrol a PIN: asked, or stdin's first line.")] = False,
    sms: Annotated[bool, typer.Option("--sms", help="Codes by SMS go to the first number.")] = False,
    totp: Annotated[bool, typer.Option("--totp", help="Enrol an app: prints its QR code, once.")] = False,
    language: Annotated[str, typer.Option(help="The owner's, such as es-US. Default: the flow's.")] = "",
    config: Config = CONFIG,
) -> None:
    """
    Add an account.

    A PIN never stands on the command line, where other users could read it. Weak PINs are refused.
    """
    name = account_of(account)
    try:
        numbers = tuple(canonical_number(text, region) for text in number or ())
        language = canonical_language(language) if language else ""
    except ValueError as error:
        fail(str(error))
    if sms and not numbers:
        fail("--sms needs a --number to send to")
    digits = read_pin() if pin else None

    async def work(store: Store, configured: Settings, directory: LocalDirectory) -> str | None:
        credentials: list[Credential] = []
        uri = None
        if digits is not None:
            credentials.append(await made_pin(configured, digits))
        if sms:
            credentials.append(Credential(Kind.SMS_CODE, number=numbers[0]))
        if totp:
            app, uri = made_app(configured, name)
            credentials.append(app)
        kept, now_ms = Account(name, numbers, tuple(credentials), language=language), wall_clock_ms()
        if not await directory.add(kept, now_ms=now_ms, by=operator()):
            raise ValueError(f"{name}: there is such an account already")
        for one in credentials:
            await counted_anew(store, configured, name, one.kind)
        if digits is not None:
            for line in other_length(flows_in(configured), len(digits)):
                err.print(line)
        return uri

    uri = changing(config, work)
    out.print(f"{name}: added")
    if uri:
        print_app(uri)


@accounts.command("set-pin", epilog="Example: ivrguard accounts set-pin 123456789")
def accounts_set_pin(account: AccountId, config: Config = CONFIG) -> None:
    """
    Give an account another PIN: asked for, or the first line of standard input.

    Weak PINs are refused. A PIN that too many failures in a row had disabled is
    open again with the new one; a lock that ends by itself stays.
    """
    name = account_of(account)
    digits = read_pin()

    async def work(store: Store, configured: Settings, directory: LocalDirectory) -> None:
        credential = await made_pin(configured, digits)
        before = await directory.enrol(name, credential, now_ms=wall_clock_ms(), by=operator())
        if before is None:
            raise ValueError(f"{name}: {NO_SUCH}")
        out.print(f"{name}: PIN {'set' if before.credential(Kind.PIN) is None else 'replaced'}")
        for line in other_length(flows_in(configured), len(digits)):
            err.print(line)
        await counted_anew(store, configured, name, Kind.PIN)

    changing(config, work)


@accounts.command("enrol-totp", epilog="Example: ivrguard accounts enrol-totp 123456789")
def accounts_enrol_totp(account: AccountId, config: Config = CONFIG) -> None:
    """
    Enrol an authenticator app: prints its QR code and address, once.

    Show them to the owner and nobody else: whoever has read them has the factor.
    The app that was enrolled before does not count any more.
    """
    name = account_of(account)

    async def work(store: Store, configured: Settings, directory: LocalDirectory) -> tuple[bool, str]:
        credential, uri = made_app(configured, name)
        before = await directory.enrol(name, credential, now_ms=wall_clock_ms(), by=operator())
        if before is None:
            raise ValueError(f"{name}: {NO_SUCH}")
        await counted_anew(store, configured, name, Kind.TOTP)
        return before.credential(Kind.TOTP) is not None, uri

    replaced, uri = changing(config, work)
    print_app(uri)
    err.print(
        f"{name}: app enrolled" + ("; the codes of the one before do not count any more" if replaced else "")
    )


async def counted_anew(store: Store, configured: Settings, name: str, kind: Kind) -> None:
    """What was counted in a row was another secret's; say what is open again, and what stays locked."""
    flows, now_ms = flows_in(configured), wall_clock_ms()
    for before in await locks.enrolled_anew(
        store, keyring_of(configured), flows, kind, (name,), by=operator(), now_ms=now_ms
    ):
        whose = f"{name} {before.factor} ({before.lane})"
        if isinstance(before.standing, Disabled):
            err.print(f"{whose}: was disabled, and is open again")
        if isinstance(before.standing, Locked):
            until = moment(before.standing.until_ms)
            err.print(f"{whose}: stays locked until {until}; `ivrguard locks unlock` ends that")


@accounts.command("show")
def accounts_show(account: AccountId, config: Config = CONFIG) -> None:
    """What is on file of an account: never a secret."""
    name = account_of(account)
    found = in_accounts(config, lambda store, _: local.find(store, name))
    if found is None:
        fail(f"{name}: {NO_SUCH}")
    kinds = ", ".join(credential.kind for credential in found.credentials) or "nothing"
    state = "disabled" if found.disabled else "enabled"
    numbers = ", ".join(found.numbers) or "none"
    by_message = found.credential(Kind.SMS_CODE)
    codes = f"; codes go to {by_message.number}" if by_message else ""
    language = f"; language: {found.language}" if found.language else ""
    out.print(f"{found.id}: {state}; enrolled: {kinds}; numbers: {numbers}{codes}{language}")


@accounts.command("disable")
def accounts_disable(account: AccountId, config: Config = CONFIG) -> None:
    """Treat an account as unknown from now on. Harmless twice."""
    name = account_of(account)
    switch(config, name, lambda directory: directory.disable(name, now_ms=wall_clock_ms(), by=operator()))
    out.print(f"{name}: disabled")


@accounts.command("enable")
def accounts_enable(account: AccountId, config: Config = CONFIG) -> None:
    """Undo `disable`. Harmless twice."""
    name = account_of(account)
    switch(config, name, lambda directory: directory.enable(name, now_ms=wall_clock_ms(), by=operator()))
    out.print(f"{name}: enabled")


def switch(config: Path, name: str, act: Callable[[LocalDirectory], Awaitable[bool]]) -> None:
    """Do it, or say that there is no such account."""
    if not changing(config, lambda _store, _configured, directory: act(directory)):
        fail(f"{name}: there is no such account")


@accounts.command(
    "erase",
    epilog="Example: ivrguard accounts erase 123456789 --by ann --reason 'asked for it in writing, ticket 4711'",
)
def accounts_erase(
    account: AccountId,
    by: Annotated[str, typer.Option(help="Who erases: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record. Name a ticket, not the person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = CONFIG,
) -> None:
    """
    Erase an account: a person's right. Cannot be undone; harmless twice.

    Account, numbers, credentials and the numbers that it was verified from go at
    once; what counts guesses, when it no longer matters. The record stays, where
    the account is a keyed hash (docs/accounts.md).
    """
    name = account_of(account)
    if not all(text.strip() and text.isprintable() for text in (by, reason)):
        fail("--by and --reason go on record: say who erases, and why, in a line")
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Erase {name} for good?", err=True)):
        fail("nothing was erased; --yes does it without asking")

    async def work(store: Store, configured: Settings, directory: LocalDirectory) -> str:
        flows, now_ms = flows_in(configured), wall_clock_ms()
        gone = await directory.erase(name, now_ms=now_ms, by=by.strip(), because=reason.strip())
        await erasure.forget(store, flows, name, now_ms)
        until = moment(now_ms + erasure.kept_s(flows) * 1000)
        return f"{'erased' if gone else 'there is no such account'}; what counts guesses and calls is gone by {until}"

    out.print(f"{name}: {changing(config, work)}")
