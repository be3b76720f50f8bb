"""Agents' desks, and whom they serve."""

import secrets
from typing import Annotated

import typer

from ivrguard.commands.shell import CONFIG, Config, fail, in_store, moment, out
from ivrguard.core.check import did_you_mean
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.guard import desk as desk_keys
from ivrguard.web.app import wall_clock_ms

DESK_KEY_BYTES = 32
DESK_NAME_CHARS_MAX = 64


def queues_of(queue: list[str]) -> tuple[str, ...]:
    """What somebody serves, as it was written; or what to mend."""
    for one in queue:
        kind, colon, _ = one.partition(":")
        if not colon or kind not in TARGET_KINDS:
            fail(f"--queue {one!r}: write kind:name, such as workflow:*{did_you_mean(kind, TARGET_KINDS)}")
    return tuple(dict.fromkeys(queue))


desks = typer.Typer(name="desks", help="Agents' desks, and whom they serve.", no_args_is_help=True)


@desks.command("add", epilog="Example: ivrguard desks add ann --queue 'workflow:*' --queue client:ann")
def desks_add(
    name: Annotated[str, typer.Argument(help="Who: an agent or a desk application.", show_default=False)],
    queue: Annotated[list[str], typer.Option(help="What it serves: kind:name, * for any name.")],
    config: Config = CONFIG,
) -> None:
    """Add a desk and print its key, once: only its digest is kept."""
    if not (name.isascii() and name.isprintable() and name.strip() == name != "") or ":" in name:
        fail(
            "a desk's name is made of letters, digits and signs of ASCII, but no colon: people have one in theirs"
        )
    if len(name) > DESK_NAME_CHARS_MAX:
        fail(f"a desk's name has at most {DESK_NAME_CHARS_MAX} characters")
    queues = queues_of(queue)
    secret = secrets.token_urlsafe(DESK_KEY_BYTES)
    now_ms = wall_clock_ms()
    in_store(config, lambda store, _: desk_keys.add(store, name, queues, secret=secret, now_ms=now_ms))
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
