"""Locks: list, look, end."""

from typing import Annotated

import typer

from ivrguard import settings
from ivrguard.commands.shell import (
    CONFIG,
    AccountId,
    Config,
    account_of,
    fail,
    flows_of,
    in_store,
    keyring_of,
    moment,
    out,
)
from ivrguard.core.lockout import Disabled, Locked, Unlocked, UnlockRequest
from ivrguard.guard import locks
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

lockouts = typer.Typer(name="locks", help="Locks: list, look, end.", no_args_is_help=True)


def print_locks(found: tuple[locks.Seen, ...], otherwise: str) -> None:
    """A line per ledger: whose, which factor and lane, how it stands and until when; or `otherwise`."""
    for one in found:
        match one.standing:
            case Locked(until_ms):
                standing = f"locked until {moment(until_ms)}"
            case Disabled():
                standing = "disabled: two people must unlock it"
            case _:
                standing = "open"
        whose = f"{one.account} {one.factor} ({one.lane})" if one.factor else f"calls from {one.account}"
        out.print(f"{whose}: {standing}; {one.run} failures in a row")
    if not found:
        out.print(otherwise)


@lockouts.command("list")
def locks_list(config: Config = CONFIG) -> None:
    """Everything that is locked now, the first to open first."""
    found = in_store(config, lambda store, its: locks.locked_now(store, flows_of(its.flows), wall_clock_ms()))
    print_locks(found, "nothing is locked")


@lockouts.command("show")
def locks_show(account: AccountId, config: Config = CONFIG) -> None:
    """How the factors of one account stand."""
    name = account_of(account)
    now_ms = wall_clock_ms()
    found = in_store(config, lambda store, its: locks.of_account(store, flows_of(its.flows), name, now_ms))
    print_locks(found, f"{name}: nothing was ever counted")


@lockouts.command("unlock", epilog="Example: ivrguard locks unlock 123456789 --by ann --reason 'ticket 4711'")
def locks_unlock(
    account: AccountId,
    by: Annotated[str, typer.Option(help="Who unlocks: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record.")],
    config: Config = CONFIG,
) -> None:
    """End an account's locks. A factor disabled for good needs a second person to say the same."""
    name = account_of(account)
    if not all(text.strip() and text.isprintable() for text in (by, reason)):
        fail("--by and --reason go on record: say who unlocks, and why, in a line")

    async def work(store: Store, configured: Settings) -> tuple[tuple[str, Unlocked], ...]:
        asked = UnlockRequest(by.strip(), reason.strip(), wall_clock_ms())
        return await locks.unlock(store, keyring_of(configured), flows_of(configured.flows), name, asked)

    outcomes = in_store(config, work, settings.KEYS)
    if not outcomes:
        out.print(f"{name}: nothing was ever counted")
    for ledger, outcome in outcomes:
        _, factor, lane = ledger.split("/", 2)
        words = {
            Unlocked.NOT_LOCKED: "was not locked",
            Unlocked.UNLOCKED: "unlocked",
            Unlocked.NEEDS_SECOND: "disabled: a second person must say the same within 24 hours",
        }[outcome]
        out.print(f"{name} {factor} ({'pool' if lane == 'pool' else 'trusted'}): {words}")
