"""What commands share: the two outputs, the settings, the store, and how a command fails."""

import getpass
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from ivrguard import flowfile, settings
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.directory.local import canonical_id
from ivrguard.exports import jsonl, ocsf
from ivrguard.guard.archive import Render
from ivrguard.keyring import Keyring, PublicKeys, public_halves
from ivrguard.phone.screen import console
from ivrguard.ports import Store
from ivrguard.settings import Settings, SettingsFault
from ivrguard.stores import postgres, sqlite
from ivrguard.stores.memory import MemoryStore

T = TypeVar("T")

NO_KEYS: frozenset[str] = frozenset()
CONFIG = settings.DEFAULT_PATH
Config = Annotated[Path, typer.Option("--config", help="The settings file.", show_default=True)]
AccountId = Annotated[str, typer.Argument(help="The account, as callers key it.", show_default=False)]

RENDERS: Mapping[str, Render] = {"jsonl": jsonl.entry_line, "ocsf": ocsf.entry_line}
"""How entries of the record may be written for others, by the name of the format."""

out = console()
err = console(stderr=True)


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
    return flowfile.LoadedAll((one.flow,) if one.flow else (), one.faults, one.doubts, (one,))


def flows_of(path: Path) -> tuple[Flow, ...]:
    """The flows of a file or a folder, or all their faults at once."""
    loaded = looked_through(path)
    if loaded.faults:
        fail(*map(str, loaded.faults))
    return loaded.flows


def flow_of(path: Path) -> Flow:
    """The one flow of a file, or of a folder with one; or what to mend."""
    flows = flows_of(path)
    if len(flows) > 1:
        fail(f"{path}: there are {len(flows)} flows in it; name the file of one")
    return flows[0]


def account_of(text: str) -> str:
    """An account's id in its one spelling."""
    try:
        return canonical_id(text)
    except ValueError as error:
        fail(str(error))


async def store_of(configured: Settings) -> Store:
    """The store that the settings name. Raises `StoreFault` when `ivrguard migrate` has not made it."""
    if configured.store == "postgres":
        return await postgres.PostgresStore.open(
            configured.database_url,
            chance=secrets.token_bytes,
            connections_max=configured.database_connections,
        )
    if configured.store_path is None:
        return MemoryStore()
    return await sqlite.SqliteStore.open(configured.store_path)


def keyring_of(configured: Settings) -> Keyring:
    """The keys that the settings name."""
    return Keyring(
        sealing=configured.sealing_keys,
        peppers=configured.peppers,
        naming=configured.naming_keys,
        signing=configured.signing_keys,
    )


def public_keys_of(configured: Settings) -> PublicKeys:
    """What checks checkpoints: the signing keys' public halves, and those of keys that are gone. There may be none."""
    own = public_halves(configured.signing_keys)
    for key_id, key in configured.public_keys.items():
        if own.setdefault(key_id, key) != key:
            fail(f"IVRGUARD_PUBLIC_KEYS: key {key_id} is another one than the signing key of that name")
    return PublicKeys(own)


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
    if configured.store == "memory":
        fail("store: memory: nothing is kept between commands; set IVRGUARD_STORE=sqlite:var/ivrguard.db")

    async def whole() -> T:
        store = await store_of(configured)
        try:
            return await work(store, configured)
        finally:
            await store.close()

    return run(whole())


def in_accounts(
    config: Path, work: Callable[[Store, Settings], Awaitable[T]], needs: frozenset[str] = NO_KEYS
) -> T:
    """`in_store`, for commands on accounts: where the bank's own system has them, these count for little, and it is said."""
    if settled(config, needs).directory_url:
        err.print(
            "warning: IVRGUARD_DIRECTORY_URL is set: accounts, PINs and numbers are your own system's; "
            "of an account here only its app (TOTP) counts"
        )
    return in_store(config, work, needs)


def moment(at_ms: int) -> str:
    """A time for people: UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def operator() -> str:
    """Who runs this command, for the record."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"
