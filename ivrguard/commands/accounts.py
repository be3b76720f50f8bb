"""Accounts of the built-in directory."""

import secrets
import sys
from typing import Annotated

import typer

from ivrguard import settings
from ivrguard.commands.shell import (
    CONFIG,
    AccountId,
    Config,
    account_of,
    fail,
    in_accounts,
    keyring_of,
    operator,
    out,
)
from ivrguard.core.assurance import Kind
from ivrguard.directory.local import LocalDirectory, canonical_number
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge, new_secret, provisioning_uri
from ivrguard.ports import Account, Credential, Key, Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

accounts = typer.Typer(name="accounts", help="Accounts of the built-in directory.", no_args_is_help=True)


def read_pin() -> str:
    """A PIN from a prompt at a terminal, or else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("PIN", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().strip()


@accounts.command("add", epilog="Example: ivrguard accounts add 123456789 --number +15551230001 --pin --sms")
def accounts_add(
    account: AccountId,
    number: Annotated[list[str] | None, typer.Option(help="Phone number on file; may be repeated.")] = None,
    region: Annotated[str | None, typer.Option(help="Country of numbers without +, such as US.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Enrol a PIN: asked, or stdin's first line.")] = False,
    sms: Annotated[bool, typer.Option("--sms", help="Codes by SMS go to the first number.")] = False,
    totp: Annotated[bool, typer.Option("--totp", help="Enrol an app: prints its address, once.")] = False,
    config: Config = CONFIG,
) -> None:
    """
    Add an account.

    A PIN never stands on the command line, where other users could read it. Weak PINs are refused.
    """
    name = account_of(account)
    try:
        numbers = tuple(canonical_number(text, region) for text in number or ())
    except ValueError as error:
        fail(str(error))
    if sms and not numbers:
        fail("--sms needs a --number to send to")
    digits = read_pin() if pin else None

    async def work(store: Store, configured: Settings) -> str | None:
        ring = keyring_of(configured)
        credentials: list[Credential] = []
        uri = None
        if digits is not None:
            judge = PinJudge(configured.peppers, threads=1)
            try:
                credentials.append(await judge.enrol(digits))
            finally:
                await judge.close()
        if sms:
            credentials.append(Credential(Kind.SMS_CODE, number=numbers[0]))
        if totp:
            secret = new_secret(secrets.token_bytes)
            credentials.append(TotpJudge(ring).enrol(secret))
            uri = provisioning_uri(secret, account=name, issuer="ivrguard")
        kept = Account(name, numbers, tuple(credentials))
        if not await LocalDirectory(store, ring).add(kept, now_ms=wall_clock_ms(), by=operator()):
            raise ValueError(f"{name}: there is such an account already")
        return uri

    try:
        uri = in_accounts(config, work, settings.KEYS)
    except ValueError as error:
        fail(str(error))
    out.print(f"{name}: added")
    if uri:
        print(uri)


@accounts.command("show")
def accounts_show(account: AccountId, config: Config = CONFIG) -> None:
    """What is on file of an account: never a secret."""
    name = account_of(account)
    key: Key[Account] = Key("account", name)
    found = in_accounts(config, lambda store, _: store.read(key))
    if found is None:
        fail(f"{name}: there is no such account; `ivrguard accounts add` makes one")
    kinds = ", ".join(credential.kind for credential in found.credentials) or "nothing"
    state = "disabled" if found.disabled else "enabled"
    numbers = ", ".join(found.numbers) or "none"
    out.print(f"{found.id}: {state}; enrolled: {kinds}; numbers: {numbers}")


@accounts.command("disable")
def accounts_disable(account: AccountId, config: Config = CONFIG) -> None:
    """Treat an account as unknown from now on. Harmless twice."""
    name = account_of(account)

    async def work(store: Store, configured: Settings) -> bool:
        directory = LocalDirectory(store, keyring_of(configured))
        return await directory.disable(name, now_ms=wall_clock_ms(), by=operator())

    if not in_accounts(config, work, settings.KEYS):
        fail(f"{name}: there is no such account")
    out.print(f"{name}: disabled")
