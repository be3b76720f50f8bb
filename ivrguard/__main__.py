"""
Commands. No logic: each one reads its arguments, calls what does the work, and prints.

`python -m ivrguard --help` lists them.
"""

import getpass
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from ivrguard import flowfile, keyring, log, settings
from ivrguard.core import audit as chain
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Disabled, Locked, Unlocked, UnlockRequest
from ivrguard.directory.local import LocalDirectory, canonical_id, canonical_number
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge, new_secret, provisioning_uri
from ivrguard.guard import desk as desk_keys
from ivrguard.guard import locks
from ivrguard.keyring import Keyring
from ivrguard.notify.sms import SmsMessenger
from ivrguard.phone import demo as demonstration
from ivrguard.phone import play as telephone
from ivrguard.ports import Account, Credential, Key, Store
from ivrguard.settings import Settings, SettingsFault
from ivrguard.stores import sqlite
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.signature import SharedKey
from ivrguard.web.app import Parts, Server, serve, wall_clock_ms

T = TypeVar("T")

DESK_KEY_BYTES = 32
ENTRIES_PER_PAGE = 1_000

out = Console(highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    help="Zero Trust on the phone: a guard between Twilio's voice webhooks and your IVR.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
accounts = typer.Typer(help="Accounts of the built-in directory.", no_args_is_help=True)
desks = typer.Typer(help="Agents' desks: who may redeem tokens, and for which queues.", no_args_is_help=True)
lockouts = typer.Typer(help="Locks: list, look, end.", no_args_is_help=True)
record = typer.Typer(help="The audit record.", no_args_is_help=True)
keys = typer.Typer(help="Secret keys.", no_args_is_help=True)
for name, group in (
    ("accounts", accounts),
    ("desks", desks),
    ("locks", lockouts),
    ("audit", record),
    ("keys", keys),
):
    app.add_typer(group, name=name)

CONFIG = settings.DEFAULT_PATH
Config = Annotated[Path, typer.Option("--config", help="The settings file.", show_default=True)]


def fail(*lines: str) -> NoReturn:
    """Say what is wrong, a line each, and leave with 1."""
    for line in lines:
        err.print(line, markup=False)
    raise typer.Exit(1)


def settled(config: Path, needs: frozenset[str] = settings.KEYS) -> Settings:
    """The settings, or all their faults at once. `needs`: what the command cannot do without."""
    try:
        return settings.load(os.environ, config, needs=needs)
    except SettingsFault as fault:
        fail(*fault.lines)


def flows_of(folder: Path) -> tuple[Flow, ...]:
    """The flows of a folder, or all their faults at once; doubts are printed and pass."""
    loaded = flowfile.load_all(folder)
    if loaded.faults:
        fail(*map(str, loaded.faults))
    for doubt in loaded.doubts:
        err.print(f"warning: {doubt}", markup=False)
    return loaded.flows


async def store_of(configured: Settings, *, migrate: bool = False) -> Store:
    """The store that the settings name."""
    if configured.store_path is None:
        return MemoryStore()
    return await sqlite.SqliteStore.open(configured.store_path, migrate=migrate)


def keyring_of(configured: Settings) -> Keyring:
    """The keys that the settings name."""
    return Keyring(
        sealing=configured.sealing_keys,
        peppers=configured.peppers,
        naming_key=configured.naming_key,
        signing=configured.signing_keys,
    )


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's work; a fault is one line that says what to mend."""

    async def whole() -> T:
        return await work()

    try:
        return uvloop.run(whole())
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")


def in_store(config: Path, work: Callable[[Store, Settings], Awaitable[T]]) -> T:
    """Run `work` on the configured store."""
    configured = settled(config)
    if configured.store_path is None:
        fail("store: memory: nothing is kept between commands; set IVRGUARD_STORE=sqlite:var/ivrguard.db")

    async def whole() -> T:
        store = await store_of(configured, migrate=True)
        try:
            return await work(store, configured)
        finally:
            await store.close()

    return run(whole)


def moment(at_ms: int) -> str:
    """A time for people: UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────


@app.command(name="serve", epilog="Settings: docs/settings.md, or `ivrguard settings`.")
def serve_(config: Config = CONFIG) -> None:
    """Answer webhooks until SIGTERM; then finish what is under way."""
    configured = settled(config, settings.SERVE)
    flows = flows_of(configured.flows)
    log.configure(configured.log_level)

    async def whole() -> None:
        store = await store_of(configured, migrate=True)
        messenger = None
        if configured.sms_from or configured.sms_messaging_service_sid:
            sid = next(iter(configured.twilio_tokens))
            messenger = SmsMessenger(
                sid,
                configured.twilio_tokens[sid][0],
                configured.sms_from,
                api_url=configured.sms_api_url,
                messaging_service_sid=configured.sms_messaging_service_sid,
            )
        parts = Parts(
            public_url=configured.public_url,
            flows=flows,
            store=store,
            keyring=keyring_of(configured),
            tokens=configured.twilio_tokens,
            shared_keys=tuple(SharedKey(*one) for one in configured.twilio_shared_keys),
            upstream_token=configured.upstream_token,
            messenger=messenger,
            hash_threads=configured.hash_threads,
            host=configured.host,
            port=configured.port,
            ops_host=configured.ops_host,
            ops_port=configured.ops_port,
        )
        try:
            await serve(Server(parts))
        finally:
            if messenger is not None:
                await messenger.close()

    run(whole)


@app.command(name="settings")
def settings_() -> None:
    """Print every setting: its variable, default and meaning (Markdown)."""
    out.print(settings.table(), markup=False, soft_wrap=True)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A folder of flow files.")] = Path("flows")) -> None:
    """Look through flow files: every fault with file, line and column; 1 if there is one."""
    loaded = flowfile.load_all(folder)
    for fault in loaded.faults:
        err.print(str(fault), markup=False)
    for doubt in loaded.doubts:
        err.print(f"warning: {doubt}", markup=False)
    if loaded.faults:
        raise typer.Exit(1)
    for flow in loaded.flows:
        numbers = ", ".join(flow.numbers)
        out.print(
            f"{flow.name} {flow.version}: {len(flow.rules)} rules for {numbers}: no fault", markup=False
        )


@app.command()
def migrate(config: Config = CONFIG) -> None:
    """Make the store, or bring it to this version. Harmless when there is nothing to do."""
    configured = settled(config, frozenset())
    if configured.store_path is None:
        out.print("the store is memory: nothing to migrate")
        return
    path = configured.store_path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = sqlite.migrate(path)
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")
    out.print(f"{path}: {done} migrations made", markup=False)


@app.command()
def demo(
    once: Annotated[
        bool | None,
        typer.Option("--once/--stay", help="End after the scenes, or stay up. Default: stay at a terminal."),
    ] = None,
) -> None:
    """A guarded call, end to end, on this machine: server, sample IVR, callers, an agent, a guesser."""
    ends = not sys.stdin.isatty() if once is None else once
    log.configure("critical")
    told = run(lambda: demonstration.run(out, once=ends))
    if not told:
        raise typer.Exit(1)


@app.command()
def play(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = Path(
        "flows/bank.yaml"
    ),
    caller: Annotated[str, typer.Option("--from", help="The number you call from.")] = "+15551230001",
    attested: Annotated[bool, typer.Option(help="The carrier attests the number (STIR/SHAKEN A).")] = False,
) -> None:
    """A telephone in the terminal: call the flow, with a sample IVR behind it and a made-up account."""
    flows = flows_of(flow if flow.is_dir() else flow.parent)
    wanted = [one for one in flows if flow.is_dir() or one.name == flow.stem]
    if not wanted:
        fail(f"{flow}: no such flow; there are: {', '.join(one.name for one in flows)}")
    log.configure("critical")
    run(lambda: telephone.run(out, wanted[0], caller=caller, attested=attested))


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────


@keys.command("new")
def keys_new() -> None:
    """Print fresh keys as environment variables. Keep them outside the store, and do not lose the peppers."""
    for variable, text in keyring.new_material(secrets.token_bytes).items():
        print(f"{variable}={text}")


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────


def operator() -> str:
    """Who runs this command, for the record."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def read_pin(flag: bool) -> str | None:
    """A PIN from a prompt at a terminal, or the first line of standard input; None when none is wanted."""
    if not flag:
        return None
    if sys.stdin.isatty():
        pin: str = typer.prompt("PIN", hide_input=True, confirmation_prompt=True)
        return pin
    return sys.stdin.readline().strip()


@accounts.command("add")
def accounts_add(
    account: Annotated[str, typer.Argument(help="What the caller keys: letters and digits.")],
    number: Annotated[list[str] | None, typer.Option(help="Phone number on file; may be repeated.")] = None,
    region: Annotated[str | None, typer.Option(help="Country of numbers without +, such as US.")] = None,
    pin: Annotated[bool, typer.Option(help="Enrol a PIN: asked for, or the first line of stdin.")] = False,
    sms: Annotated[bool, typer.Option(help="Codes by SMS go to the first number.")] = False,
    totp: Annotated[bool, typer.Option(help="Enrol an authenticator app: prints its address once.")] = False,
    config: Config = CONFIG,
) -> None:
    """Add an account."""
    try:
        name = canonical_id(account)
        numbers = tuple(canonical_number(text, region) for text in number or ())
    except ValueError as error:
        fail(str(error))
    if sms and not numbers:
        fail("--sms needs a --number to send to")
    digits = read_pin(pin)

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
        directory = LocalDirectory(store, ring)
        if not await directory.add(
            Account(name, numbers, tuple(credentials)), now_ms=wall_clock_ms(), by=operator()
        ):
            raise ValueError(f"{name}: there is such an account already")
        return uri

    try:
        uri = in_store(config, work)
    except ValueError as error:
        fail(str(error))
    out.print(f"{name}: added", markup=False)
    if uri:
        print(uri)


@accounts.command("show")
def accounts_show(account: str, config: Config = CONFIG) -> None:
    """What is on file of an account: never a secret."""

    async def work(store: Store, configured: Settings) -> Account | None:
        return await store.read(Key("account", canonical_id(account)))

    try:
        found = in_store(config, work)
    except ValueError as error:
        fail(str(error))
    if found is None:
        fail(f"{account}: there is no such account; `ivrguard accounts add` makes one")
    kinds = ", ".join(credential.kind for credential in found.credentials) or "nothing"
    state = "disabled" if found.disabled else "enabled"
    numbers = ", ".join(found.numbers) or "none"
    out.print(f"{found.id}: {state}; enrolled: {kinds}; numbers: {numbers}", markup=False)


@accounts.command("disable")
def accounts_disable(account: str, config: Config = CONFIG) -> None:
    """Treat an account as unknown from now on."""

    async def work(store: Store, configured: Settings) -> bool:
        directory = LocalDirectory(store, keyring_of(configured))
        return await directory.disable(canonical_id(account), now_ms=wall_clock_ms(), by=operator())

    try:
        found = in_store(config, work)
    except ValueError as error:
        fail(str(error))
    if not found:
        fail(f"{account}: there is no such account")
    out.print(f"{account}: disabled", markup=False)


# ── desks ────────────────────────────────────────────────────────────────────────────────────────────────


@desks.command("add")
def desks_add(
    name: Annotated[str, typer.Argument(help="Who: an agent or a desk application.")],
    queue: Annotated[list[str], typer.Option(help="What it serves, such as 'workflow:*' or 'client:ann'.")],
    config: Config = CONFIG,
) -> None:
    """Add a desk and print its key, once: only its digest is kept."""
    secret = secrets.token_urlsafe(DESK_KEY_BYTES)
    in_store(
        config,
        lambda store, _: desk_keys.add(store, name, tuple(queue), secret=secret, now_ms=wall_clock_ms()),
    )
    print(secret)


@desks.command("list")
def desks_list(config: Config = CONFIG) -> None:
    """The desks, without their keys."""
    for _, desk in in_store(config, lambda store, _: desk_keys.every(store)):
        state = f"revoked {moment(desk.revoked_ms)}" if desk.revoked_ms else "in force"
        out.print(f"{desk.name}: {', '.join(desk.queues)}; {state}", markup=False)


@desks.command("revoke")
def desks_revoke(name: str, config: Config = CONFIG) -> None:
    """End every key of a desk. Harmless when there is none."""
    count = in_store(config, lambda store, _: desk_keys.revoke(store, name, now_ms=wall_clock_ms()))
    out.print(f"{name}: {count} keys revoked", markup=False)


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────


def print_locks(found: tuple[locks.Seen, ...]) -> None:
    """A row per ledger: whose, which factor and lane, how it stands and until when."""
    table = Table("account", "factor", "lane", "standing", "failures in a row")
    for one in found:
        match one.standing:
            case Locked(until_ms):
                standing = f"locked until {moment(until_ms)}"
            case Disabled():
                standing = "disabled: two people must unlock it"
            case _:
                standing = "open"
        table.add_row(one.account, one.factor or "(caller number)", one.lane, standing, str(one.run))
    out.print(table)


@lockouts.command("list")
def locks_list(config: Config = CONFIG) -> None:
    """Everything that is locked now, the first to open first."""

    async def work(store: Store, configured: Settings) -> tuple[locks.Seen, ...]:
        return await locks.locked_now(store, flows_of(configured.flows), wall_clock_ms())

    print_locks(in_store(config, work))


@lockouts.command("show")
def locks_show(account: str, config: Config = CONFIG) -> None:
    """How the factors of one account stand."""

    async def work(store: Store, configured: Settings) -> tuple[locks.Seen, ...]:
        return await locks.of_account(
            store, flows_of(configured.flows), canonical_id(account), wall_clock_ms()
        )

    try:
        print_locks(in_store(config, work))
    except ValueError as error:
        fail(str(error))


@lockouts.command("unlock")
def locks_unlock(
    account: str,
    by: Annotated[str, typer.Option(help="Who unlocks: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record.")],
    config: Config = CONFIG,
) -> None:
    """End an account's locks. A factor disabled for good needs a second person to say the same."""

    async def work(store: Store, configured: Settings) -> tuple[tuple[str, Unlocked], ...]:
        asked = UnlockRequest(by, reason, wall_clock_ms())
        ring, flows = keyring_of(configured), flows_of(configured.flows)
        return await locks.unlock(store, ring, flows, canonical_id(account), asked)

    try:
        outcomes = in_store(config, work)
    except ValueError as error:
        fail(str(error))
    if not outcomes:
        out.print(f"{account}: nothing was ever counted", markup=False)
    for ledger, outcome in outcomes:
        _, factor, lane = ledger.split("/", 2)
        words = {
            Unlocked.NOT_LOCKED: "was not locked",
            Unlocked.UNLOCKED: "unlocked",
            Unlocked.NEEDS_SECOND: "disabled: a second person must say the same within 24 hours",
        }[outcome]
        out.print(f"{account} {factor} ({'pool' if lane == 'pool' else 'trusted'}): {words}", markup=False)


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────


@record.command("verify")
def audit_verify(config: Config = CONFIG) -> None:
    """Walk the chain from the first entry to the last: 1 if anything was changed, cut, swapped or taken out."""

    async def work(store: Store, configured: Settings) -> chain.Broken | int:
        seq, hash_, checked = 0, chain.GENESIS, 0
        while page := await store.entries(after=seq, limit=ENTRIES_PER_PAGE):
            found = chain.verify(page, seq=seq, hash_=hash_)
            if isinstance(found, chain.Broken):
                return found
            seq, hash_, checked = page[-1].seq, page[-1].hash, checked + found
            if err.is_terminal:
                err.print(f"\r{checked} entries", end="")
        whole = chain.verify((), seq=seq, hash_=hash_, head=await store.head())
        return checked if isinstance(whole, int) else whole

    found = in_store(config, work)
    if isinstance(found, chain.Broken):
        fail(f"the record is broken at entry {found.seq}: {found.why}")
    out.print(f"{found} entries: the chain holds", markup=False)


@record.command("show")
def audit_show(
    call: Annotated[str, typer.Option(help="Only entries of this CallSid.")] = "",
    account: Annotated[str, typer.Option(help="Only entries of this account.")] = "",
    after: Annotated[int, typer.Option(help="Only entries with a greater number.")] = 0,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    config: Config = CONFIG,
) -> None:
    """Print entries. Accounts stand in them as keyed hashes; --account finds an account's own."""

    async def work(store: Store, configured: Settings) -> None:
        ref = keyring_of(configured).pseudonym("account", canonical_id(account)) if account else ""
        seq, shown = after, 0
        while shown < limit and (page := await store.entries(after=seq, limit=ENTRIES_PER_PAGE)):
            seq = page[-1].seq
            for linked in page:
                entry = linked.entry
                if shown >= limit or (call and entry.call != call) or (ref and entry.account != ref):
                    continue
                facts = " ".join(f"{name}={value}" for name, value in entry.detail)
                line = f"{linked.seq} {moment(entry.at_ms)} {entry.event} {entry.reason} {entry.call} {entry.account} {facts}"
                out.print(" ".join(line.split()), markup=False, soft_wrap=True)
                shown += 1

    try:
        in_store(config, work)
    except ValueError as error:
        fail(str(error))


def main() -> None:
    """Run the command line."""
    app(prog_name="ivrguard")


if __name__ == "__main__":
    main()
