"""The audit record."""

from typing import Annotated

import typer
from rich.progress import Progress

from ivrguard import settings
from ivrguard.commands.shell import (
    CONFIG,
    NO_KEYS,
    Config,
    account_of,
    err,
    fail,
    in_store,
    keyring_of,
    moment,
    out,
)
from ivrguard.core import audit as chain
from ivrguard.keyring import Keyring
from ivrguard.ports import Store
from ivrguard.settings import Settings

ENTRIES_PER_PAGE = 1_000
ENTRIES_SHOWN = 50
SEQ_MAX = 2**63 - 1
AfterSeq = Annotated[int | None, typer.Option(min=0, max=SEQ_MAX, help="After this one. Default: the last.")]

record = typer.Typer(name="audit", help="The audit record.", no_args_is_help=True)


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
        refs = names_of(keyring_of(configured), name) if name else frozenset()
        last, _ = await store.head()
        seq = (0 if call or refs else max(0, last - limit)) if after is None else after
        shown = 0
        while shown < limit and (page := await store.entries(after=seq, limit=ENTRIES_PER_PAGE)):
            seq = page[-1].seq
            wanted = [
                one
                for one in page
                if call in ("", one.entry.call) and (not refs or one.entry.account in refs)
            ]
            for linked in wanted[: limit - shown]:
                out.print(written(linked))
            shown += len(wanted)

    in_store(config, work, settings.KEYS if name else NO_KEYS)


def names_of(ring: Keyring, account: str) -> frozenset[str]:
    """What an account may be called in the record: a name under each naming key."""
    return frozenset(ring.with_naming(key_id).pseudonym("account", account) for key_id in ring.named)


def written(linked: chain.Linked) -> str:
    """One entry of the record in a line, which nothing in it can break or colour."""
    of = linked.entry
    facts = (f"{name}={value}" for name, value in of.detail)
    words = [str(linked.seq), moment(of.at_ms), of.event, of.reason, of.call, of.account, *facts]
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(filter(None, words)))
