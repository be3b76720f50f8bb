"""Accounts of the built-in directory by the thousand: import and export."""

import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ivrguard import settings
from ivrguard.commands.accounts import changing, flows_in, other_length
from ivrguard.commands.shell import CONFIG, Config, err, fail, in_accounts, in_store, keyring_of, operator
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.directory import people
from ivrguard.directory.intake import Intake, Outcome
from ivrguard.directory.local import BATCH, LocalDirectory, page
from ivrguard.directory.people import Checks, Person, Read
from ivrguard.factors.pin import PinJudge, weak
from ivrguard.factors.totp import TotpJudge, unfit
from ivrguard.guard import locks
from ivrguard.ports import Account, Change, Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

STANDARD_INPUT = "-"
TOLD_EVERY = 10
"""A progress bar that is told of every row takes longer than the rows."""

bulk = typer.Typer()


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, at a terminal only; told what is being done, how many are done, and of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None, visible=False)
        doing = ""

        def tell(what: str, done: int, of: int) -> None:
            nonlocal doing
            if what != doing:
                bar.reset(task, description=what, total=of or None, visible=True)
                doing = what
            if done % TOLD_EVERY == 0 or done == of:
                bar.update(task, completed=done, total=of or None)

        yield tell


@bulk.command(
    "import",
    epilog="Examples: ivrguard accounts import customers.csv --region US\n\n"
    "gpg -d customers.csv.gpg | ivrguard accounts import -",
)
def import_(
    file: Annotated[str, typer.Argument(help="CSV or JSON lines; - for standard input.", show_default=False)],
    region: Annotated[str | None, typer.Option(help="Country of numbers without +, such as US.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look through the file, and stop there.")
    ] = False,
    config: Config = CONFIG,
) -> None:
    """
    Add and change accounts from a file. All of it or nothing, and again is harmless.

    The first line of a CSV names its columns: account, and any of numbers (a|b),
    pin, sms, totp, language, disabled. JSON lines have the same keys. Every fault
    is told with its line. What a row is silent about stays. See docs/accounts.md.

    A PIN takes 20 to 30 ms of an idle core, and up to twice that on a busy machine:
    on two cores, count on 20 to 45 minutes for 100,000. Without PINs it is a few
    minutes. A server may run meanwhile. Ctrl-C leaves nothing behind.
    """
    if not dry_run:  # what is wrong with settings or store is better known before a long file is read
        in_store(config, lambda store, _: store.read(BATCH), settings.KEYS)
    with progress() as tell:
        read = looked_through(file, Checks(weak, unfit, region), tell)
        if read.faults:
            more = (f"and {read.more} more",) if read.more else ()
            fail(*read.faults, *more, "nothing was imported")
        if dry_run:
            err.print(f"{file}: {len(read.people)} accounts, and no fault; nothing was imported")
            return
        outcome = brought_in(config, file, read.people, tell)
    total = outcome.created + outcome.changed + outcome.unchanged
    counts = f"{outcome.created} new, {outcome.changed} changed, {outcome.unchanged} unchanged"
    print(f"{total} accounts: {counts}")


def looked_through(file: str, checks: Checks, tell: Callable[[str, int, int], None]) -> Read:
    """The people of a file, or its faults."""
    if file == STANDARD_INPUT:
        return people.read(
            sys.stdin.buffer, "standard input", checks, tell=lambda done: tell("reading", done, 0)
        )
    try:
        with Path(file).open("rb") as source:
            status = os.fstat(source.fileno())
            read = people.read(source, file, checks, tell=lambda done: tell("reading", done, status.st_size))
    except OSError as error:
        fail(f"{file}: cannot be read: {error.strerror}")
    secret = any(one.pin or one.totp for one in read.people)
    if secret and stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        err.print(f"warning: {file} holds secrets, and others on this machine may read it: chmod 600 {file}")
    return read


def brought_in(
    config: Path, file: str, rows: tuple[Person, ...], tell: Callable[[str, int, int], None]
) -> Outcome:
    """Import them. What keeps it from being done is a line, and that nothing was."""
    started: list[Intake] = []

    async def work(store: Store, configured: Settings, directory: LocalDirectory) -> Outcome:
        flows = flows_in(configured)
        for line in other_length(flows, *(len(one.pin) for one in rows if one.pin)):
            err.print(line)
        threads = configured.hash_threads or os.cpu_count() or 1
        judge = PinJudge(configured.peppers, threads=threads)
        apps = TotpJudge(keyring_of(configured))
        intake = Intake(store, directory, judge, apps, at_once=2 * threads, clock=wall_clock_ms, tell=tell)
        started.append(intake)
        try:
            outcome = await intake.run(rows, batch_id=secrets.token_hex(4), by=operator())
        except ValueError as error:
            raise ValueError(f"{file}: {error}; nothing was imported") from None
        finally:
            await judge.close()
        for kind, accounts in outcome.enrolled.items():
            if accounts:
                keys, now_ms = keyring_of(configured), wall_clock_ms()
                await locks.enrolled_anew(store, keys, flows, kind, accounts, by=operator(), now_ms=now_ms)
        return outcome

    try:
        return changing(config, work)
    except KeyboardInterrupt:
        if started and started[0].in_force:
            fail("interrupted: the import is in force; run it again, which puts the rest in its place")
        fail("interrupted: nothing was imported")


@bulk.command("export", epilog="Example: (umask 077; ivrguard accounts export > accounts.jsonl)")
def export(config: Config = CONFIG) -> None:
    """
    Print all accounts as JSON lines, which `import` reads. No secret is in them.

    Telephone numbers are personal data: keep the file as you keep those. That
    there was an export, and by whom, goes on record.
    """

    async def work(store: Store, _: Settings) -> None:
        entry = Entry(
            wall_clock_ms(), "sensitive_read", reason="accounts_exported", detail=(("by", operator()),)
        )
        await store.amend((), lambda _: Change(None, (), (entry,)))
        found, last = await page(store)
        done = 0
        with progress() as tell:
            while last:
                for account in found:
                    print(json.dumps(exported(account), ensure_ascii=False))
                done += len(found)
                tell("exporting", done, 0)
                found, last = await page(store, after=last)
        sys.stdout.flush()

    in_accounts(config, work)


def exported(account: Account) -> dict[str, object]:
    """What is told of an account: of a secret, that there is one."""
    by_message = account.credential(Kind.SMS_CODE)
    return {
        "account": account.id,
        "numbers": list(account.numbers),
        "sms": by_message.number if by_message else "",
        "language": account.language,
        "disabled": account.disabled,
        "enrolled": [one.kind.value for one in account.credentials],
    }
