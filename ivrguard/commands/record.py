"""Agents' desks, locks, and the audit record."""

import secrets
from typing import Annotated

import typer
from rich.progress import Progress

from ivrguard import settings
from ivrguard.commands.shell import (
    CONFIG,
    NO_KEYS,
    AccountId,
    Config,
    account_of,
    err,
    fail,
    flows_of,
    in_store,
    keyring_of,
    moment,
    out,
)
from ivrguard.core import audit as chain
from ivrguard.core.check import did_you_mean
from ivrguard.core.lockout import Disabled, Locked, Unlocked, UnlockRequest
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.guard import desk as desk_keys
from ivrguard.guard import locks
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

DESK_KEY_BYTES = 32
ENTRIES_PER_PAGE = 1_000
ENTRIES_SHOWN = 50
SEQ_MAX = 2**63 - 1
AfterSeq = Annotated[int | None, typer.Option(min=0, max=SEQ_MAX, help="After this one. Default: the last.")]

desks = typer.Typer(name="desks", help="Agents' desks, and whom they serve.", no_args_is_help=True)
lockouts = typer.Typer(name="locks", help="Locks: list, look, end.", no_args_is_help=True)
record = typer.Typer(name="audit", help="The audit record.", no_args_is_help=True)


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
