"""
Commands. No logic: each one reads its arguments, calls what does the work, and prints.

1. What was asked for goes to standard output, everything else to standard error.
2. It ends with 0 if it came as asked, with 1 if not, with 2 for a command that cannot be understood.
3. A user's fault is a line that says what to mend, never a traceback; several are told at once.
4. Only `migrate` makes a store. A command, or a server, that found none would otherwise begin an empty one, and an
   empty one knows of no lock.

`python -m ivrguard --help` lists them.
"""

import getpass
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.progress import Progress

from ivrguard import flowfile, keyring, log, settings
from ivrguard.core import audit as chain
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow, did_you_mean
from ivrguard.core.lockout import Disabled, Locked, Unlocked, UnlockRequest
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.directory.local import LocalDirectory, canonical_id, canonical_number
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge, new_secret, provisioning_uri
from ivrguard.guard import desk as desk_keys
from ivrguard.guard import locks
from ivrguard.keyring import Keyring
from ivrguard.notify.sms import SmsMessenger
from ivrguard.phone import demo as demonstration
from ivrguard.phone import play as telephone
from ivrguard.phone.screen import console
from ivrguard.ports import Account, Credential, Key, Store
from ivrguard.settings import Settings, SettingsFault
from ivrguard.stores import sqlite
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.signature import SharedKey
from ivrguard.web.app import Parts, Server, serve, wall_clock_ms

T = TypeVar("T")

DESK_KEY_BYTES = 32
ENTRIES_PER_PAGE = 1_000
ENTRIES_SHOWN = 50
SEQ_MAX = 2**63 - 1
NO_KEYS: frozenset[str] = frozenset()
SETTINGS_HEAD = """# Settings

Made by `python -m ivrguard settings`. The environment wins over `config/ivrguard.yaml`, whose lines have the form
`key: value`. Secrets come from the environment, or from a file that a variable with `_FILE` behind its name points
to; in the file they are refused. An unknown `IVRGUARD_…` variable or key is a fault, and all faults are told at once.
"""

out = console()
err = console(stderr=True)

app = typer.Typer(
    help="Zero Trust on the phone: a guard between Twilio's voice webhooks and your IVR.",
    epilog="Begin with: ivrguard demo. What stands where: README.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
accounts = typer.Typer(name="accounts", help="Accounts of the built-in directory.", no_args_is_help=True)
desks = typer.Typer(name="desks", help="Agents' desks, and whom they serve.", no_args_is_help=True)
lockouts = typer.Typer(name="locks", help="Locks: list, look, end.", no_args_is_help=True)
record = typer.Typer(name="audit", help="The audit record.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="Secret keys.", no_args_is_help=True)
for group in (accounts, desks, lockouts, record, keys):
    app.add_typer(group)

CONFIG = settings.DEFAULT_PATH
Config = Annotated[Path, typer.Option("--config", help="The settings file.", show_default=True)]
AfterSeq = Annotated[int | None, typer.Option(min=0, max=SEQ_MAX, help="After this one. Default: the last.")]
AccountId = Annotated[str, typer.Argument(help="The account, as callers key it.", show_default=False)]


def fail(*lines: str) -> NoReturn:
    """Say what is wrong, a line each, and leave with 1."""
    for line in lines:
        err.print(line)
    raise typer.Exit(1)


def settled(config: Path, needs: frozenset[str]) -> Settings:
    """The settings, or all their faults at once. `needs`: what the command cannot do without."""
    try:
        return settings.load(os.environ, config, needs=needs)
    except SettingsFault as fault:
        keys_missing = any(f"{settings.variable(key)}: not set" in str(fault) for key in settings.KEYS)
        fail(*fault.lines, *(["`ivrguard keys new` makes a set of fresh keys"] if keys_missing else []))


def looked_through(path: Path) -> flowfile.LoadedAll:
    """One flow file, or every one in a folder, with all its faults."""
    if path.is_dir():
        return flowfile.load_all(path)
    one = flowfile.load(path)
    return flowfile.LoadedAll((one.flow,) if one.flow else (), one.faults, one.doubts)


def flows_of(path: Path) -> tuple[Flow, ...]:
    """The flows of a file or a folder, or all their faults at once."""
    loaded = looked_through(path)
    if loaded.faults:
        fail(*map(str, loaded.faults))
    return loaded.flows


def account_of(text: str) -> str:
    """An account's id in its one spelling."""
    try:
        return canonical_id(text)
    except ValueError as error:
        fail(str(error))


async def store_of(configured: Settings) -> Store:
    """The store that the settings name. Raises `StoreFault` when `ivrguard migrate` has not made it."""
    if configured.store_path is None:
        return MemoryStore()
    return await sqlite.SqliteStore.open(configured.store_path)


def keyring_of(configured: Settings) -> Keyring:
    """The keys that the settings name."""
    return Keyring(
        sealing=configured.sealing_keys,
        peppers=configured.peppers,
        naming_key=configured.naming_key,
        signing=configured.signing_keys,
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a fault is one line that says what to mend."""
    try:
        return uvloop.run(work)
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")


def in_store(
    config: Path, work: Callable[[Store, Settings], Awaitable[T]], needs: frozenset[str] = NO_KEYS
) -> T:
    """Run `work` on the configured store. `needs`: the settings that it cannot do without."""
    configured = settled(config, needs)
    if configured.store_path is None:
        fail("store: memory: nothing is kept between commands; set IVRGUARD_STORE=sqlite:var/ivrguard.db")

    async def whole() -> T:
        store = await store_of(configured)
        try:
            return await work(store, configured)
        finally:
            await store.close()

    return run(whole())


def moment(at_ms: int) -> str:
    """A time for people: UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# ── running, and what it needs ────────────────────────────────────────────────────────────────────────


def messenger_of(configured: Settings) -> SmsMessenger | None:
    """Who sends codes; None when no sender is set."""
    if not (configured.sms_from or configured.sms_messaging_service_sid):
        return None
    sid, tokens = next(iter(configured.twilio_tokens.items()))
    return SmsMessenger(
        sid,
        tokens[0],
        configured.sms_from,
        api_url=configured.sms_api_url,
        messaging_service_sid=configured.sms_messaging_service_sid,
    )


def server_of(
    configured: Settings, flows: tuple[Flow, ...], store: Store, messenger: SmsMessenger | None
) -> Server:
    """The server that settings and flows make together."""
    try:
        return Server(
            Parts(
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
        )
    except ValueError as error:
        fail(f"flows and settings do not go together: {error}")


@app.command(
    name="serve",
    epilog="Every setting: ivrguard settings, or docs/settings.md.\n\n"
    "Example: PORT=8080 IVRGUARD_PUBLIC_URL=https://guard.example.com ivrguard serve",
)
def serve_(config: Config = CONFIG) -> None:
    """
    Answer webhooks until SIGTERM; then finish what is under way.

    Flows and settings are looked through first: with a fault in them nothing is started.
    """
    configured = settled(config, settings.SERVE)
    flows = flows_of(configured.flows)
    log.configure(configured.log_level)

    async def whole() -> None:
        store = await store_of(configured)
        messenger = messenger_of(configured)
        try:
            await serve(server_of(configured, flows, store, messenger))
        finally:
            if messenger is not None:
                await messenger.close()
            await store.close()

    run(whole())


@app.command(name="settings", epilog="Example: ivrguard settings > docs/settings.md")
def settings_() -> None:
    """Print every setting: its variable, default and meaning (Markdown)."""
    out.print(SETTINGS_HEAD)
    out.print(settings.table(), end="")


@app.command(epilog="Example: ivrguard check flows/bank.yaml")
def check(
    path: Annotated[Path, typer.Argument(help="A folder of flow files, or one of them.")] = Path("flows"),
) -> None:
    """
    Look through flow files: every fault with file, line and column.

    Ends with 1 if there is one. Warnings are for you to weigh, and change nothing.
    """
    loaded = looked_through(path)
    for doubt in loaded.doubts:
        err.print(f"warning: {doubt}")
    if loaded.faults:
        fail(*map(str, loaded.faults))
    for flow in loaded.flows:
        numbers = ", ".join(flow.numbers)
        out.print(f"{flow.name} {flow.version}: {len(flow.rules)} rules for {numbers}: no fault")


@app.command(epilog="Example: IVRGUARD_STORE=sqlite:var/ivrguard.db ivrguard migrate")
def migrate(config: Config = CONFIG) -> None:
    """Make the store, or bring it to this version. Harmless when there is nothing to do."""
    path = settled(config, NO_KEYS).store_path
    if path is None:
        out.print("the store is memory: nothing to migrate")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        version = sqlite.migrate(path)
    except OSError as error:
        fail(f"store: {path.parent}: the directory cannot be made: {error.strerror}")
    except Fault as fault:
        fail(f"{fault.reason}: {fault}")
    out.print(f"{path}: at version {version}")


@app.command(epilog="Needs nothing but the project's folder: no account, no number, no network.")
def demo(
    once: Annotated[
        bool | None,
        typer.Option("--once/--stay", help="End after the scenes, or stay up. Default: stay at a terminal."),
    ] = None,
) -> None:
    """
    A guarded call, end to end, on this machine: server, sample IVR, callers, an agent, a guesser.

    Ends with 0 only if every scene went as it is told.
    """
    ends = not sys.stdin.isatty() if once is None else once
    log.configure("critical")
    if not run(demonstration.run(out, once=ends)):
        raise typer.Exit(1)


@app.command(epilog="Example: ivrguard play flows/bank.yaml --from +15559870002 --attested")
def play(
    flow: Annotated[Path, typer.Argument(help="A flow file, or a folder with one.")] = demonstration.FLOW,
    caller: Annotated[str, typer.Option("--from", help="The number you call from.")] = telephone.OWN_NUMBER,
    attested: Annotated[bool, typer.Option(help="The carrier attests the number (STIR/SHAKEN A).")] = False,
) -> None:
    """A telephone in the terminal: call the flow, with a sample IVR behind it and a made-up account."""
    flows = flows_of(flow)
    if len(flows) > 1:
        fail(f"{flow}: there are {len(flows)} flows in it; name the file of one")
    log.configure("critical")
    run(telephone.run(out, flows[0], caller=caller, attested=attested))


@keys.command("new", epilog="Example: (umask 077; ivrguard keys new > ivrguard.env)")
def keys_new() -> None:
    """Print fresh keys as environment variables. Keep them outside the store, and do not lose the peppers."""
    for variable, text in keyring.new_material(secrets.token_bytes).items():
        print(f"{variable}={text}")


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────


def operator() -> str:
    """Who runs this command, for the record."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


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
        uri = in_store(config, work, settings.KEYS)
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
    found = in_store(config, lambda store, _: store.read(key))
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

    if not in_store(config, work, settings.KEYS):
        fail(f"{name}: there is no such account")
    out.print(f"{name}: disabled")


# ── desks ────────────────────────────────────────────────────────────────────────────────────────────────


@desks.command("add", epilog="Example: ivrguard desks add ann --queue 'workflow:*' --queue client:ann")
def desks_add(
    name: Annotated[str, typer.Argument(help="Who: an agent or a desk application.", show_default=False)],
    queue: Annotated[list[str], typer.Option(help="What it serves: kind:name, * for any name.")],
    config: Config = CONFIG,
) -> None:
    """Add a desk and print its key, once: only its digest is kept."""
    if not (name.isascii() and name.isprintable() and name.strip() == name != ""):
        fail("a desk's name is made of letters, digits and signs of ASCII")
    for one in queue:
        kind, colon, _ = one.partition(":")
        if not colon or kind not in TARGET_KINDS:
            fail(f"--queue {one!r}: write kind:name, such as workflow:*{did_you_mean(kind, TARGET_KINDS)}")
    secret = secrets.token_urlsafe(DESK_KEY_BYTES)
    now_ms = wall_clock_ms()
    in_store(config, lambda store, _: desk_keys.add(store, name, tuple(queue), secret=secret, now_ms=now_ms))
    print(secret)


@desks.command("list")
def desks_list(config: Config = CONFIG) -> None:
    """The desks, without their keys."""
    for _, desk in in_store(config, lambda store, _: desk_keys.every(store)):
        state = f"revoked {moment(desk.revoked_ms)}" if desk.revoked_ms else "in force"
        out.print(f"{desk.name}: {', '.join(desk.queues)}; {state}")


@desks.command("revoke")
def desks_revoke(
    name: Annotated[str, typer.Argument(help="The desk.", show_default=False)], config: Config = CONFIG
) -> None:
    """End every key of a desk. Harmless when there is none."""
    count = in_store(config, lambda store, _: desk_keys.revoke(store, name, now_ms=wall_clock_ms()))
    out.print(f"{name}: {count} keys revoked")


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────


@record.command("verify")
def audit_verify(config: Config = CONFIG) -> None:
    """Walk the chain from the first entry to the last: 1 if anything was changed, cut, swapped or taken out."""

    async def work(store: Store, _: Settings) -> chain.Broken | int:
        seq, hash_ = 0, chain.GENESIS
        with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
            task = progress.add_task("entries")
            while True:
                head = await store.head()  # before the entries: a server may be writing meanwhile
                page = await store.entries(after=seq, limit=ENTRIES_PER_PAGE)
                found = chain.verify(page, seq=seq, hash_=hash_, head=None if page else head)
                if not page or isinstance(found, chain.Broken):
                    return found if isinstance(found, chain.Broken) else seq
                seq, hash_ = page[-1].seq, page[-1].hash
                progress.update(task, completed=seq, total=head[0])

    found = in_store(config, work)
    if isinstance(found, chain.Broken):
        fail(f"the record is broken at entry {found.seq}: {found.why}")
    out.print(f"{found} entries: the chain holds")


@record.command("show", epilog="Example: ivrguard audit show --account 123456789")
def audit_show(
    call: Annotated[str, typer.Option(help="Only entries of this CallSid.")] = "",
    account: Annotated[str, typer.Option(help="Only entries of this account.")] = "",
    after: AfterSeq = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = ENTRIES_SHOWN,
    config: Config = CONFIG,
) -> None:
    """Print entries. Accounts stand in them as keyed hashes; --account finds an account's own."""
    name = account_of(account) if account else ""

    async def work(store: Store, configured: Settings) -> None:
        ref = keyring_of(configured).pseudonym("account", name) if name else ""
        last, _ = await store.head()
        seq = (0 if call or ref else max(0, last - limit)) if after is None else after
        shown = 0
        while shown < limit and (page := await store.entries(after=seq, limit=ENTRIES_PER_PAGE)):
            seq = page[-1].seq
            wanted = [one for one in page if call in ("", one.entry.call) and ref in ("", one.entry.account)]
            for linked in wanted[: limit - shown]:
                out.print(written(linked))
            shown += len(wanted)

    in_store(config, work, settings.KEYS if name else NO_KEYS)


def written(linked: chain.Linked) -> str:
    """One entry of the record in a line, which nothing in it can break or colour."""
    of = linked.entry
    facts = (f"{name}={value}" for name, value in of.detail)
    words = [str(linked.seq), moment(of.at_ms), of.event, of.reason, of.call, of.account, *facts]
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(filter(None, words)))


def main() -> None:
    """Run the command line."""
    app(prog_name="ivrguard")


if __name__ == "__main__":
    main()
