"""The audit record: looked at, verified, signed, exported, archived."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from ivrguard import log, settings
from ivrguard.commands.shell import (
    CONFIG,
    NO_KEYS,
    RENDERS,
    Config,
    account_of,
    err,
    fail,
    in_store,
    keyring_of,
    moment,
    operator,
    out,
    public_keys_of,
    run,
    settled,
    store_of,
)
from ivrguard.core import audit as chain
from ivrguard.core.audit import Broken
from ivrguard.exports import events, files
from ivrguard.guard.archive import Piece, exported, prune, signed_of
from ivrguard.guard.record import Signer, latest
from ivrguard.guard.verification import (
    Bound,
    FileSource,
    Outcome,
    Source,
    StoreSource,
    Tell,
    Verified,
    verify,
)
from ivrguard.keyring import Keyring
from ivrguard.ports import Store
from ivrguard.settings import KEEP_DAYS_MIN, Settings
from ivrguard.web.app import wall_clock_ms
from ivrguard.web.recorder import DAY_MS

ENTRIES_PER_PAGE = 1_000
ENTRIES_SHOWN = 50
SEQ_MAX = 2**63 - 1
JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
AfterSeq = Annotated[int | None, typer.Option(min=0, max=SEQ_MAX, help="After this one. Default: the last.")]
Since = Annotated[
    str, typer.Option(help="From this entry or time on: 1200, 2026-11-01, 2026-11-01T08:30:00+01:00.")
]

record = typer.Typer(name="audit", help="The audit record.", no_args_is_help=True)


def bound_of(text: str, option: str) -> Bound | None:
    """A place in a record, as a user writes it: an entry's number, or a date or time (UTC, if it does not say)."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return Bound(seq=min(int(text), SEQ_MAX))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} {text!r}: write an entry's number, or a date or time like 2026-11-01T08:30:00")
    return Bound(at_ms=int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))


@contextmanager
def progress_of(what: str) -> Iterator[Tell]:
    """A bar on standard error, if somebody is looking at it."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what)
        yield lambda seq, of: progress.update(task, completed=seq, total=of)


# ── verify ───────────────────────────────────────────────────────────────────────────────────────────────


@record.command(
    "verify",
    epilog="Examples: ivrguard audit verify\n\n"
    "ivrguard audit verify --checkpoints server.log --since 2026-11-01\n\n"
    "IVRGUARD_PUBLIC_KEYS=s1=… ivrguard audit verify 2026.jsonl sqlite:copy.db",
)
def audit_verify(
    records: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECORD]...",
            help="Stores (sqlite:FILE) and exported files, the parts of a chain in order. Default: the configured store.",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(help="A file with checkpoints that were kept elsewhere, such as a server's log."),
    ] = None,
    since: Annotated[
        str, typer.Option(help="Begin at the last checkpoint up to this entry or time, not at the beginning.")
    ] = "",
    restored: Annotated[
        list[int] | None,
        typer.Option(
            help="An entry at which you know that the store was restored: what was signed before may differ."
        ),
    ] = None,
    config: Config = CONFIG,
) -> None:
    """
    Walk the chain to its end: 1 if anything was changed, cut, swapped, taken out, or made anew.

    Checkpoints show what a chain alone cannot: that all of it was made anew, or
    its end cut off. Those in the store are checked with the public halves of
    the signing keys; an auditor needs IVRGUARD_PUBLIC_KEYS and no other key.
    """
    configured = settled(config, NO_KEYS)
    public, begin = public_keys_of(configured), bound_of(since, "--since")
    given = [token for path in checkpoints or () for token in tokens_in(path)]

    async def whole() -> tuple[Outcome, ...]:
        async with AsyncExitStack() as stack:
            sources = [
                await source_of(text, configured, stack) for text in records or [f"{configured.store}"]
            ]
            with progress_of("entries") as tell:
                return await verify(
                    sources, public, given, since=begin, restored=frozenset(restored or ()), tell=tell
                )

    outcomes = run(whole())
    broken = [one for one in outcomes if isinstance(one.found, Broken)]
    for one in outcomes:
        if isinstance(one.found, Verified):
            print_verified(f"{one.what}: " if records else "", one.found)
    if broken:
        fail(
            *(
                f"{one.what} is broken at entry {one.found.seq}: {one.found.why}"
                for one in broken
                if isinstance(one.found, Broken)
            )
        )


async def source_of(text: str, configured: Settings, stack: AsyncExitStack) -> Source:
    """A store, or an exported file, that a user names."""
    if text == "memory":
        fail("store: memory: nothing is kept between commands; set IVRGUARD_STORE=sqlite:var/ivrguard.db")
    if text != "postgres" and not re.match("[a-z]{4,}:", text):
        return FileSource(Path(text))
    try:
        named = Settings(store=text).store
    except ValueError:
        fail(f"{text}: this is no store; write it as in IVRGUARD_STORE, or name an exported file")
    store = await store_of(configured.model_copy(update={"store": named}))
    stack.push_async_callback(store.close)
    return StoreSource(store, "the record" if text == configured.store else text)


def tokens_in(path: Path) -> Iterator[str]:
    """The checkpoints in a file, whatever stands around them: one a line, or the lines of a server's log."""
    found = False
    for _, line in files.lines(path):
        for token in JWT.findall(line.decode(errors="replace")):
            if log.is_checkpoint(token):
                found = True
                yield token
    if not found:
        fail(f"{path}: there is no checkpoint in it")


def print_verified(head: str, found: Verified) -> None:
    """What holds, what was signed of it, and what rests on nothing."""
    count, first = found.end.seq - found.start.seq, found.start.seq + 1
    part = f" from entry {first} on" if first > 1 else ""
    out.print(f"{head}{count} entries{part}: the chain holds")
    if found.last is not None:
        unsigned = found.end.seq - found.last.seq
        behind = f"; entries behind it, not signed yet: {unsigned}" if unsigned else ""
        out.print(f"{head}checkpoints that fit: {found.met}, the last of {moment(found.last.at_ms)}{behind}")
    elif found.unread:
        err.print(
            f"{head}{found.unread} checkpoints were not checked: set IVRGUARD_PUBLIC_KEYS (`ivrguard keys public`)"
        )
    elif count:
        err.print(
            f"{head}no checkpoint: whoever can write all of it could have made it anew (`ivrguard audit checkpoint`)"
        )
    if not found.anchored:
        err.print(f"{head}nothing that was given says what came before entry {first}")


# ── sign ─────────────────────────────────────────────────────────────────────────────────────────────────


@record.command("checkpoint", epilog="Example: ivrguard audit checkpoint >> /somewhere/else/checkpoints")
def audit_checkpoint(config: Config = CONFIG) -> None:
    """
    Verify what came since the last checkpoint, sign the record as it is now, and print what was signed.

    A server does so by itself, and puts it into its log. Keep copies where whoever can write the store cannot.
    """

    async def work(store: Store, configured: Settings) -> str | None:
        signer = signer_of(store, configured)
        signed = await signer.checkpoint(wall_clock_ms()) or await latest(store, signer.public)
        return signed.token if signed is not None else None

    token = in_store(config, work, settings.KEYS)
    if token is None:
        fail("the record is empty: there is nothing to sign")
    print(token)


def signer_of(store: Store, configured: Settings) -> Signer:
    """Who signs the record here."""
    issuer = configured.public_url or "ivrguard"
    return Signer(store, keyring_of(configured), public_keys_of(configured), issuer)


# ── export, archive ──────────────────────────────────────────────────────────────────────────────────────


@record.command(
    "export",
    epilog="Examples: ivrguard audit export --since 2026-11-01 --until 2026-12-01 -o november.jsonl\n\n"
    "ivrguard audit export --format ocsf --since 12000 | your-collector",
)
def audit_export(
    form: Annotated[
        Literal["jsonl", "ocsf"],
        typer.Option("--format", help="jsonl: OWASP's vocabulary, can be verified. ocsf: for a SIEM."),
    ] = "jsonl",
    since: Since = "",
    until: Annotated[
        str, typer.Option(help="Up to this entry, or to the last one before this time. Default: the end.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A new file. Default: standard output.", show_default=False),
    ] = None,
    config: Config = CONFIG,
) -> None:
    """
    Write the record as lines of JSON, each one entry, without a gap.

    Nothing in it is secret: accounts are keyed hashes. JSON lines hold the
    chain and its checkpoints, so that a file can be verified by itself
    (`ivrguard audit verify FILE`); OCSF 1.4.0 is for tools that know it.
    docs/record.md has the table.
    """
    begin, end = bound_of(since, "--since"), bound_of(until, "--until")

    async def work(store: Store, configured: Settings) -> None:
        public = public_keys_of(configured)
        signed = await signed_of(store, public) if form == "jsonl" else None
        pieces = exported(store, public, since=begin, until=end, render=RENDERS[form], signed=signed)
        last = (await store.head())[0]
        with progress_of("entries") as tell:
            await written(pieces, output, tell, last)

    in_store(config, work)


async def written(pieces: AsyncIterator[Piece], output: Path | None, tell: Tell, last: int) -> None:
    """Write pieces to a new file, which is whole or not there, or to standard output."""
    if output is None:
        async for piece in pieces:
            sys.stdout.buffer.write(piece.lines)
            tell(piece.place.seq, last)
        sys.stdout.buffer.flush()
        return
    archive = files.Archive(output)
    try:
        async for piece in pieces:
            archive.write(piece.lines)
            tell(piece.place.seq, last)
        archive.finish()
    finally:
        archive.close()


@record.command(
    "prune", epilog="Example: ivrguard audit prune --before 2025-12-01 --archive until-2025-11.jsonl"
)
def audit_prune(
    before: Annotated[
        str, typer.Option(help="A date or time: entries from before it go.", show_default=False)
    ],
    archive: Annotated[Path, typer.Option(help="The new file that they go into.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help=f"Even if they are younger than {KEEP_DAYS_MIN} days.")
    ] = False,
    config: Config = CONFIG,
) -> None:
    """
    Put old entries into an archive, verify it, and take them out of the store.

    What is left begins behind a signed checkpoint, and archive and store are
    verified as one: `ivrguard audit verify ARCHIVE STORE`. Keep the archive as
    long as you must (PCI DSS 10.5.1: twelve months).
    """
    bound, now = bound_of(before, "--before"), wall_clock_ms()
    if bound is None or bound.at_ms is None:
        fail(f"--before {before!r}: write a date or time")
    before_ms = bound.at_ms
    if before_ms > now - KEEP_DAYS_MIN * DAY_MS and not force:
        fail(
            f"--before {before}: the last {KEEP_DAYS_MIN} days should stay at hand (PCI DSS 10.5.1); --force takes them out"
        )

    async def work(store: Store, configured: Settings) -> None:
        with progress_of("entries") as tell:
            done = await prune(
                signer_of(store, configured), before_ms, archive, now_ms=now, by=operator(), tell=tell
            )
        if done is None:
            out.print(f"there are no entries from before {before}")
        else:
            out.print(f"{archive}: {done.count} entries, up to entry {done.upto}; SHA-256 {done.digest}")

    in_store(config, work, settings.KEYS)


@record.command("events", epilog="Example: ivrguard audit events | grep CRITICAL")
def audit_events() -> None:
    """Print what each event means, in OWASP's words and OCSF's classes (Markdown)."""
    print(events.table(), end="")


# ── show ─────────────────────────────────────────────────────────────────────────────────────────────────


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
                out.print(shown_as(linked))
            shown += len(wanted)

    in_store(config, work, settings.KEYS if name else NO_KEYS)


def names_of(ring: Keyring, account: str) -> frozenset[str]:
    """What an account may be called in the record: a name under each naming key."""
    return frozenset(ring.with_naming(key_id).pseudonym("account", account) for key_id in ring.named)


def shown_as(linked: chain.Linked) -> str:
    """One entry of the record in a line, which nothing in it can break or colour."""
    of = linked.entry
    facts = (f"{name}={value}" for name, value in of.detail)
    words = [str(linked.seq), moment(of.at_ms), of.event, of.reason, of.call, of.account, *facts]
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(filter(None, words)))
