"""Secret keys: new ones, rotated ones, and what still needs the old ones."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from ivrguard import keyring, settings
from ivrguard.commands.shell import (
    CONFIG,
    Config,
    err,
    fail,
    in_store,
    keyring_of,
    operator,
    out,
    public_keys_of,
    settled,
)
from ivrguard.guard.rotation import Resealed, Tell, Uses, reseal, uses
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

keys = typer.Typer(name="keys", help="Secret keys.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Use:
    """A use that keys have: its setting, what needs them, and what is to be known of a rotation."""

    setting: str
    needed_by: str
    moves: str
    goes: str


USES: Mapping[str, Use] = {
    "pepper": Use(
        "peppers",
        "PINs and passwords",
        "New PINs take {new}; a PIN, or an agent's password, under an older pepper moves to it when its owner next answers right.",
        "An old pepper may go when `ivrguard keys status` counts no PIN under it. A PIN whose pepper is gone must be "
        "enrolled anew.",
    ),
    "sealing": Use(
        "sealing_keys",
        "authenticator apps",
        "What is sealed from now on is under {new}; `ivrguard keys reseal` moves the secrets of apps to it.",
        "An old sealing key may go a day after the new one came, if `ivrguard keys status` counts no app under it.",
    ),
    "naming": Use(
        "naming_keys",
        "calls of the last day",
        "Calls that begin from now on, and their names in the record, are of {new}; calls under way keep theirs.",
        "An old naming key may go a day after the new one came, but entries that it named can then no longer be found by "
        "account: keep it for as long as they are to be (`ivrguard audit show --account`).",
    ),
    "signing": Use(
        "signing_keys",
        "checkpoints",
        "Assertions, receipts and checkpoints are signed with {new}; the public halves of all are in "
        "/.ivrguard/jwks.json.",
        "An old signing key may go an hour after the new one came, when nothing that it signed is still good. Before it "
        "goes, keep its public half for the checkpoints: `ivrguard keys public` prints IVRGUARD_PUBLIC_KEYS.",
    ),
}


@keys.command("new", epilog="Example: (umask 077; ivrguard keys new > ivrguard.env)")
def keys_new() -> None:
    """Print fresh keys as environment variables. Keep them outside the store, and do not lose the peppers."""
    for variable, text in keyring.new_material(secrets.token_bytes).items():
        print(f"{variable}={text}")


@keys.command(
    "rotate",
    epilog="Examples: ivrguard keys rotate pepper\n\n"
    "(umask 077; ivrguard keys rotate sealing --value > /run/secrets/sealing.new)\n\n"
    "On several nodes, first: ivrguard keys rotate naming --behind; when all have it: … --forward",
)
def keys_rotate(
    kind: Annotated[Literal["pepper", "sealing", "naming", "signing"], typer.Argument(help="Which use.")],
    behind: Annotated[
        bool, typer.Option("--behind", help="Put the new key behind the others: known, and not used yet.")
    ] = False,
    forward: Annotated[
        bool,
        typer.Option("--forward", help="Make no key: put the last one in front, to be used from now on."),
    ] = False,
    value: Annotated[
        bool, typer.Option("--value", help="Print the value alone: for the file that a _FILE variable names.")
    ] = False,
    config: Config = CONFIG,
) -> None:
    """
    Print the keys of one use with a new one in front; the old ones are read on.

    Nothing changes until the variable has the new value and the server is
    started anew. Nodes that are started one after the other must all know a key
    before one of them uses it: --behind first, then --forward.
    """
    of = USES[kind]
    found: Mapping[str, bytes] = getattr(settled(config, frozenset({of.setting})), of.setting)
    if forward:
        if behind or len(found) == 1:
            fail("--forward needs a key that was put --behind, in a start of its own")
        last = [*found][-1]
        after = {last: found[last], **found}
    else:
        after = keyring.with_new(found, secrets.token_bytes)
    new = next(iter(after))
    if behind:
        after[new] = after.pop(new)
    variable = settings.variable(of.setting)
    print(keyring.written(after) if value else f"{variable}={keyring.written(after)}")
    if behind:
        err.print(
            f"{new} is behind the others: every node reads it, none uses it yet. When all are started anew: --forward"
        )
    else:
        err.print(of.moves.format(new=new))
        err.print(of.goes)


@keys.command("status", epilog="Example: ivrguard keys status")
def keys_status(config: Config = CONFIG) -> None:
    """
    Count what is kept that still needs each key. 1 if something needs a key that is not configured.

    The first of each use is in use. What is counted 0 may go, but for what `ivrguard keys rotate` says of it.
    """

    async def work(store: Store, configured: Settings) -> Uses:
        with progress_of("looked at") as tell:
            return await uses(store, tell=tell)

    configured = settled(config, settings.KEYS)
    found = in_store(config, work, settings.KEYS)
    counted = {
        "pepper": found.pins,
        "sealing": found.apps,
        "naming": found.calls,
        "signing": found.checkpoints,
    }
    missing = False
    for kind, of in USES.items():
        ids: Mapping[str, bytes] = getattr(configured, of.setting)
        known = {*ids, *(public_keys_of(configured).keys if kind == "signing" else ())}
        for place, key_id in enumerate(ids):
            out.print(
                f"{kind} {key_id}{' (in use)' if place == 0 else ''}: {counted[kind][key_id]} {of.needed_by}"
            )
        for key_id in sorted(counted[kind].keys() - ids.keys() - {""}):
            gone = "" if key_id in known else "; it is not configured: bring it back"
            missing = missing or key_id not in known
            out.print(f"{kind} {key_id} (gone): {counted[kind][key_id]} {of.needed_by}{gone}")
    if missing:
        raise typer.Exit(1)


@keys.command("reseal", epilog="Example: ivrguard keys rotate sealing …; then: ivrguard keys reseal")
def keys_reseal(config: Config = CONFIG) -> None:
    """Seal the secrets of authenticator apps with the current sealing key. Harmless twice, and while a server runs."""

    async def work(store: Store, configured: Settings) -> Resealed:
        with progress_of("accounts") as tell:
            ring = keyring_of(configured)
            return await reseal(store, ring, now_ms=wall_clock_ms(), by=operator(), tell=tell)

    done = in_store(config, work, settings.KEYS)
    out.print(f"{done.moved} secrets are under the current sealing key now")
    if done.lost:
        fail(
            f"{done.lost} cannot be opened: their sealing key is not configured; bring it back, or enrol them anew"
        )


@keys.command("public", epilog="Example: ivrguard keys public >> for-the-auditor.env")
def keys_public(config: Config = CONFIG) -> None:
    """
    Print the public halves of the signing keys, and of those that are gone, as a setting: they check checkpoints.

    They are no secret. An auditor needs nothing else to verify a record.
    """
    configured = settled(config, frozenset({"signing_keys"}))
    print(f"{settings.variable('public_keys')}={keyring.written(public_keys_of(configured).keys)}")


@contextmanager
def progress_of(what: str) -> Iterator[Tell]:
    """A count on standard error, if somebody is looking at it."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.update(task, completed=count)
