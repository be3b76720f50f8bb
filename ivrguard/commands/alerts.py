"""Alerts of attacks: list, end."""

import json
from typing import Annotated

import typer

from ivrguard.commands.shell import CONFIG, Config, fail, in_store, moment, out
from ivrguard.core.alerts import Alert
from ivrguard.core.check import did_you_mean
from ivrguard.core.sense import SAID, Attack
from ivrguard.guard import sense
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

alerts = typer.Typer(name="alerts", help="Alerts of attacks: list, end.", no_args_is_help=True)


def _told(alert: Alert) -> str:
    """An alert in a line, and a second one for whom it is about."""
    if alert.over_ms is None:
        state = f"stands since {moment(alert.raised_ms)}, last seen {moment(alert.seen_ms)}"
    else:
        by = f", ended by {alert.ended_by}" if alert.ended_by else ""
        state = f"raised {moment(alert.raised_ms)}, over {moment(alert.over_ms)}{by}"
    about = f"\n  {', '.join(alert.subjects)}" if alert.subjects else ""
    return (
        f"{alert.flow} {alert.attack}: {state}; {SAID[alert.attack]}: {alert.count} "
        f"({alert.need} raise an alert){about}"
    )


@alerts.command("list", epilog="What accounts the names stand for: ivrguard audit show --account ACCOUNT")
def alerts_list(
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each, for machines.")] = False,
    config: Config = CONFIG,
) -> None:
    """The last alert of each flow and kind, the latest first, and whether it stands now. Earlier ones: the record."""
    found = in_store(config, lambda store, _: sense.recent(store))
    for one in found:
        print(json.dumps(dict(sense.notice_of(one).data)) if as_json else _told(one))
    if not found and not as_json:
        out.print("no alert was ever raised")


@alerts.command("end", epilog="Example: ivrguard alerts end bank spray --by ann --reason 'our own test'")
def alerts_end(
    flow: Annotated[str, typer.Argument(help="The flow's name.", show_default=False)],
    attack: Annotated[str, typer.Argument(help=f"Which: {', '.join(Attack)}.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who ends it: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record.")],
    config: Config = CONFIG,
) -> None:
    """
    End an alert by hand: callers need no more than usual from the next second on.

    The same kind raises none for as long as its window is: whoever ended it has seen it.
    """
    if attack not in tuple(Attack):
        fail(f"there is no kind of alert '{attack}'{did_you_mean(attack, tuple(Attack))}")
    if not all(text.strip() and text.isprintable() for text in (by, reason)):
        fail("--by and --reason go on record: say who ends it, and why, in a line")

    async def work(store: Store, _: Settings) -> Alert | None:
        return await sense.end(
            store, flow, Attack(attack), now_ms=wall_clock_ms(), by=by.strip(), because=reason.strip()
        )

    over = in_store(config, work)
    out.print(f"{flow} {attack}: {'no such alert stands' if over is None else 'ended'}")
