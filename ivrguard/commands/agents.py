"""Accounts of our own for people at desks. Where a company has an identity provider, that one has them."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ivrguard import settings
from ivrguard.commands.accounts import made_app, print_app
from ivrguard.commands.desks import queues_of
from ivrguard.commands.shell import CONFIG, Config, err, fail, in_store, keyring_of, moment, operator, out
from ivrguard.core.agents import COMPANYS, OWN, Role
from ivrguard.core.lockout import Disabled, Ledger, Locked, Unlocked, UnlockRequest, standing
from ivrguard.core.sessions import LOGIN_RULE
from ivrguard.factors.password import PasswordJudge
from ivrguard.factors.pin import PinJudge
from ivrguard.guard import locks, staff
from ivrguard.ports import AgentAccount, Credential, Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

NO_SUCH = "there is no such agent; `ivrguard agents add` makes one"

Name = Annotated[str, typer.Argument(help="The agent's name, as he types it.", show_default=False)]
Roles = Annotated[
    list[Role] | None, typer.Option("--role", help="What he is; may be repeated. Default: agent.")
]
Queues = Annotated[
    list[str] | None, typer.Option("--queue", help="What he serves: kind:name, * for any name.")
]
Label = Annotated[str | None, typer.Option(help="His name for people. Default: the other one.")]
Manager = Annotated[
    str | None, typer.Option(help="Whom he reports to: an agent's name. '' for nobody.", show_default=False)
]

agents = typer.Typer(name="agents", help="People at desks: their accounts and log-ins.", no_args_is_help=True)


def name_of(text: str) -> str:
    """An agent's name in its one spelling."""
    try:
        return staff.canonical_name(text)
    except ValueError as error:
        fail(str(error))


def read_password() -> str:
    """A password from a prompt at a terminal, or else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


async def made_password(configured: Settings, password: str, name: str) -> Credential:
    """A password's credential. Raises `ValueError` with the reason if it is too easy to guess."""
    judge = PasswordJudge(PinJudge(configured.peppers, threads=1))
    try:
        return await judge.enrol(password, name=name)
    finally:
        await judge.close()


def reports_to(manager: str | None, name: str) -> str:
    """A manager's name as the record has it; "" for nobody."""
    if not manager:
        return ""
    if manager.startswith(COMPANYS):
        fail("--manager: he is the identity provider's, and where that one is, it has all accounts")
    found = OWN + name_of(manager.removeprefix(OWN))
    if found == OWN + name:
        fail("--manager: nobody reports to himself")
    return found


def refused(configured: Settings) -> None:
    """Say that an account of ours opens nothing where the company's identity provider is set."""
    if configured.oidc_issuer:
        err.print(
            "warning: IVRGUARD_OIDC_ISSUER is set: agents log in there, and accounts of our own open nothing"
        )


@agents.command(
    "add",
    epilog="Examples: ivrguard agents add ann --label 'Ann Lee' --queue 'workflow:*' --manager bob\n\n"
    "ivrguard agents add carol --role risk --role supervisor < password.txt",
)
def agents_add(
    name: Name,
    role: Roles = None,
    queue: Queues = None,
    label: Label = None,
    manager: Manager = None,
    config: Config = CONFIG,
) -> None:
    """
    Add an agent: asks for a password, and prints the QR code of his app, once.

    The password is asked for, or stdin's first line: 12 characters or more.
    Best have him type it himself, and read the QR code himself: whoever has
    seen both is he.
    """
    plain, queues = name_of(name), queues_of(queue or [])
    roles, reports = tuple(sorted(set(role or [Role.AGENT]))), reports_to(manager, plain)
    password = read_password()

    async def work(store: Store, configured: Settings) -> str:
        refused(configured)
        known = await made_password(configured, password, plain)
        app, uri = made_app(configured, plain)
        account = AgentAccount(plain, label or plain, roles, queues, reports, known, app, wall_clock_ms())
        if not await staff.add(store, account, by=operator()):
            raise ValueError(f"{plain}: there is such an agent already")
        return uri

    uri = doing(config, work)
    out.print(f"{plain}: added")
    print_app(uri)


def doing(config: Path, work: Callable[[Store, Settings], Awaitable[str]]) -> str:
    """Run `work`; what is wrong with what was asked for is a line."""
    try:
        return in_store(config, work, settings.KEYS)
    except ValueError as error:
        fail(str(error))


@agents.command("list")
def agents_list(config: Config = CONFIG) -> None:
    """The agents: roles, queues, whom they report to, and whether they are locked. Never a secret."""
    now_ms = wall_clock_ms()

    async def work(store: Store, configured: Settings) -> list[tuple[AgentAccount, Ledger | None]]:
        refused(configured)
        return [
            (one, await store.read(staff.login_ledger(OWN + one.name))) for one in await staff.every(store)
        ]

    for one, ledger in in_store(config, work):
        match standing(LOGIN_RULE, ledger or Ledger(), now_ms):
            case Locked(until_ms):
                state = f"; locked until {moment(until_ms)}"
            case Disabled():
                state = "; disabled: two people must unlock him"
            case _:
                state = ""
        label = f" ({one.label})" if one.label != one.name else ""
        serves = ", ".join(one.queues) or "no queue"
        reports = f"; reports to {one.manager.removeprefix(OWN)}" if one.manager else ""
        out.print(f"{one.name}{label}: {', '.join(one.roles)}; {serves}{reports}{state}")


@agents.command(
    "change", epilog="Example: ivrguard agents change ann --role agent --role supervisor --manager ''"
)
def agents_change(
    name: Name,
    role: Roles = None,
    queue: Queues = None,
    label: Label = None,
    manager: Manager = None,
    config: Config = CONFIG,
) -> None:
    """Change what an agent is or serves: what is named takes the place of what was. Ends his sessions at once."""
    plain = name_of(name)
    queues = queues_of(queue) if queue else None
    reports = reports_to(manager, plain) if manager is not None else None

    def become(before: AgentAccount) -> AgentAccount:
        return replace(
            before,
            roles=tuple(sorted(set(role))) if role else before.roles,
            queues=before.queues if queues is None else queues,
            label=before.label if label is None else label or plain,
            manager=before.manager if reports is None else reports,
        )

    changed(config, plain, become, "changed")


def changed(config: Path, name: str, become: Callable[[AgentAccount], AgentAccount], said: str) -> None:
    """Have the account become another, and say so; or that there is none."""

    async def work(store: Store, _: Settings) -> AgentAccount | None:
        return await staff.update(store, name, become, now_ms=wall_clock_ms(), by=operator())

    before = in_store(config, work)
    if before is None:
        fail(f"{name}: {NO_SUCH}")
    same = become(before) == before
    out.print(f"{name}: as it was" if same else f"{name}: {said}; he has to log in again")


@agents.command("set-password", epilog="Example: ivrguard agents set-password ann")
def agents_set_password(name: Name, config: Config = CONFIG) -> None:
    """
    Give an agent another password: asked for, or the first line of standard input. Ends his sessions.

    What a hundred failures in a row had disabled is open again; a lock that ends by itself stays.
    """
    plain, password = name_of(name), read_password()

    async def work(store: Store, configured: Settings) -> str:
        known = await made_password(configured, password, plain)
        now_ms, by = wall_clock_ms(), operator()
        if (
            await staff.update(
                store, plain, lambda one: staff.with_secrets(one, password=known), now_ms=now_ms, by=by
            )
            is None
        ):
            raise ValueError(f"{plain}: {NO_SUCH}")
        return f"{plain}: password replaced; he has to log in again"

    out.print(doing(config, work))


@agents.command("enrol-totp", epilog="Example: ivrguard agents enrol-totp ann")
def agents_enrol_totp(name: Name, config: Config = CONFIG) -> None:
    """Enrol another app for an agent: prints its QR code and address, once. The one before does not count any more."""
    plain = name_of(name)

    async def work(store: Store, configured: Settings) -> str:
        app, uri = made_app(configured, plain)
        now_ms, by = wall_clock_ms(), operator()
        if (
            await staff.update(
                store, plain, lambda one: staff.with_secrets(one, app=app), now_ms=now_ms, by=by
            )
            is None
        ):
            raise ValueError(f"{plain}: {NO_SUCH}")
        return uri

    print_app(doing(config, work))
    err.print(f"{plain}: app enrolled; he has to log in again")


@agents.command("remove", epilog="Example: ivrguard agents remove ann")
def agents_remove(name: Name, config: Config = CONFIG) -> None:
    """Remove an agent's account, and end his sessions at once. Harmless twice."""
    plain = name_of(name)
    gone = in_store(
        config, lambda store, _: staff.remove(store, plain, now_ms=wall_clock_ms(), by=operator())
    )
    out.print(f"{plain}: removed" if gone else f"{plain}: there is no such agent")


@agents.command(
    "logout", epilog="Examples: ivrguard agents logout ann\n\nivrguard agents logout oidc:00u1a2b3c4"
)
def agents_logout(
    name: Annotated[
        str,
        typer.Argument(help="An agent's name; of the identity provider's: oidc:SUBJECT.", show_default=False),
    ],
    config: Config = CONFIG,
) -> None:
    """End every session of an agent, wherever he is logged in. Harmless when he is not."""
    whose = name if name.startswith(COMPANYS) else OWN + name_of(name.removeprefix(OWN))
    count = in_store(
        config, lambda store, _: staff.log_out(store, whose, now_ms=wall_clock_ms(), by=operator())
    )
    out.print(f"{name}: {'logged out' if count else 'was not logged in'}")


@agents.command("unlock", epilog="Example: ivrguard agents unlock ann --by carol --reason 'ticket 4711'")
def agents_unlock(
    name: Name,
    by: Annotated[str, typer.Option(help="Who unlocks: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record.")],
    config: Config = CONFIG,
) -> None:
    """End an agent's lock. One that a hundred failures in a row brought needs a second person to say the same."""
    plain = name_of(name)
    if not all(text.strip() and text.isprintable() for text in (by, reason)):
        fail("--by and --reason go on record: say who unlocks, and why, in a line")

    async def work(store: Store, configured: Settings) -> tuple[tuple[str, Unlocked], ...]:
        asked = UnlockRequest(by.strip(), reason.strip(), wall_clock_ms())
        return await locks.unlock(store, keyring_of(configured), (), OWN + plain, asked)

    outcomes = [outcome for _, outcome in in_store(config, work, settings.KEYS)]
    words = {
        Unlocked.NOT_LOCKED: "was not locked",
        Unlocked.UNLOCKED: "unlocked",
        Unlocked.NEEDS_SECOND: "disabled: a second person must say the same within 24 hours",
    }
    out.print(f"{plain}: {words[outcomes[0]] if outcomes else 'was not locked'}")
