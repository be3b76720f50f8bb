"""Threats: list, show, acknowledge, close, export; and whom of one's own there is a suspicion of."""

import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn, TypeVar

import typer

from ivrguard import log
from ivrguard.commands.shell import CONFIG, Config, fail, in_store, moment, out, public_keys_of
from ivrguard.core import insiders as signs
from ivrguard.core.agents import Agent, Role
from ivrguard.core.check import did_you_mean
from ivrguard.core.incidents import (
    Decision,
    Incident,
    Outcome,
    Refusal,
    Refused,
    State,
    standing,
)
from ivrguard.core.insiders import SAID, Person, Sign, Suspicion
from ivrguard.guard import insiders, staff
from ivrguard.guard.incidents import ThreatDesk, document
from ivrguard.ports import Store
from ivrguard.settings import Settings
from ivrguard.web.app import wall_clock_ms

T = TypeVar("T")

incidents = typer.Typer(
    name="incidents", help="Threats: list, show, acknowledge, close, export.", no_args_is_help=True
)
suspects = typer.Typer(
    name="insiders", help="Suspicions of one's own people: list, end.", no_args_is_help=True
)

Id = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="As `incidents list` has it.", show_default=False)
]
By = Annotated[
    str, typer.Option(help="Who you are: an agent's account with the role `risk`; goes on record.")
]

WHY = {
    Refusal.NOT_APART: "{by} reported it, or is the reporter's manager, or reports to him: another one decides",
    Refusal.CLOSED: "{other} has closed it",
    Refusal.FASTER: "{other} was faster: look at it again",
    Refusal.NO_REASON: "--reason is kept with it: say why, in a line",
    Refusal.FULL: "it has as many acts as it may have: close it",
}


def _in_desk(config: Config, by: str, work: Callable[[ThreatDesk, Store, Agent], Awaitable[T]]) -> T:
    """Run `work` for this person of the risk team. What a server would log of it is said by the command itself."""
    log.configure("critical")

    async def whole(store: Store, configured: Settings) -> T:
        desk = ThreatDesk(
            store,
            public_keys_of(configured),
            wall_clock_ms,
            secrets.token_bytes,
            after_s=tuple(60 * one for one in configured.threats_minutes),
        )
        return await work(desk, store, await _of_the_team(store, by))

    return in_store(config, whole)


async def _of_the_team(store: Store, by: str) -> Agent:
    try:
        account = await store.read(staff.agent_key(staff.canonical_name(by.removeprefix("agent:"))))
    except ValueError as error:
        fail(f"--by: {error}")
    if account is None:
        fail(f"--by: there is no agent '{by}'; ivrguard agents list shows them")
    agent = account.agent(wall_clock_ms())
    if Role.RISK not in agent.roles:
        fail(f"--by: {agent.name} is not of the risk team")
    return agent


def _line(incident: Incident) -> str:
    """An incident in a line, without a word that anybody said."""
    stands = standing(incident)
    whose = f", acknowledged by {stands.holder}" if stands.state is State.ACKNOWLEDGED else ""
    told = f", told again {stands.escalations} times" if stands.escalations else ""
    reporters = ", ".join(one.by for one in incident.reports) or "heard in speech"
    return f"{incident.about.id}: {stands.state} since {moment(stands.opened_ms)}{whose}{told}; {reporters}"


@incidents.command("list")
def incidents_list(
    closed: Annotated[bool, typer.Option("--closed", help="Those that are over, the latest first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each, for machines.")] = False,
    config: Config = CONFIG,
) -> None:
    """Those that are open: what nobody has acknowledged first. Nothing that anybody said is shown."""

    async def work(store: Store, configured: Settings) -> tuple[Incident, ...]:
        desk = ThreatDesk(store, public_keys_of(configured), wall_clock_ms, secrets.token_bytes)
        return await (desk.closed() if closed else desk.open())

    found = in_store(config, work)
    for one in found:
        stands = standing(one)
        row = {
            "id": one.about.id,
            "state": stands.state,
            "opened_at_ms": stands.opened_ms,
            "acts": stands.acts,
        }
        print(json.dumps(row) if as_json else _line(one))
    if not found and not as_json:
        out.print("there is none")


@incidents.command(
    "show", epilog="Example: ivrguard incidents show TH0123456789abcdef0123456789abcdef --by rita"
)
def incidents_show(id_: Id, by: By, config: Config = CONFIG) -> None:
    """The whole of one, as JSON: reports, what was heard, the time-line. That you read it goes on record."""
    found = _in_desk(config, by, lambda desk, _, agent: desk.looked_at(agent, id_, "read"))
    print(json.dumps(document(found or _nothing(id_)), indent=2, ensure_ascii=False))


@incidents.command("acknowledge", epilog="Example: ivrguard incidents acknowledge TH01… --by rita")
def incidents_acknowledge(id_: Id, by: By, config: Config = CONFIG) -> None:
    """You have it in hand: nobody is told again. The first one who says so has it."""
    done = _in_desk(config, by, lambda desk, _, agent: desk.acknowledge(agent, id_))
    _said(id_, by, done, "acknowledged")


@incidents.command(
    "close",
    epilog="Example: ivrguard incidents close TH01… --by rita --decision no_action --reason 'a known hoax'",
)
def incidents_close(
    id_: Id,
    by: By,
    decision: Annotated[str, typer.Option(help=f"What was decided: {', '.join(Decision)}.")],
    reason: Annotated[str, typer.Option(help="Why, in a line: kept with the incident.")],
    config: Config = CONFIG,
) -> None:
    """Decide, and close it. No reporter may, nor his manager, nor who reports to him."""
    if decision not in tuple(Decision):
        fail(f"there is no decision '{decision}'{did_you_mean(decision, tuple(Decision))}")

    async def work(desk: ThreatDesk, _: Store, agent: Agent) -> Outcome | None:
        found = await desk.find(id_)
        seen = standing(found).acts if found is not None else 0
        return await desk.decide(agent, id_, Decision(decision), reason, close=True, seen=seen)

    _said(id_, by, _in_desk(config, by, work), "closed")


@incidents.command("export", epilog="Example: ivrguard incidents export TH01… --by rita > incident.jsonl")
def incidents_export(id_: Id, by: By, config: Config = CONFIG) -> None:
    """Lines of JSON: the incident, its entries of the record, and those of its call by number and hash."""

    async def work(desk: ThreatDesk, _: Store, agent: Agent) -> list[bytes] | None:
        found = await desk.looked_at(agent, id_, "exported")
        return None if found is None else [piece async for piece in desk.export(found)]

    pieces = _in_desk(config, by, work)
    if pieces is None:
        _nothing(id_)
    sys.stdout.buffer.write(b"".join(pieces))


def _nothing(id_: str) -> NoReturn:
    fail(f"there is no incident {id_}; ivrguard incidents list shows them")


def _said(id_: str, by: str, done: Outcome | None, words: str) -> None:
    """What came of it, or why nothing did."""
    match done:
        case None:
            _nothing(id_)
        case Refused(why, other):
            fail(f"{id_}: {WHY[why].format(by=by, other=other)}")
        case _:
            out.print(f"{id_}: {words}")


# ── insiders ─────────────────────────────────────────────────────────────────────────────────────────────


def _suspicion(person: Person, one: Suspicion) -> str:
    since = f"stands since {moment(one.raised_ms)}"
    if one.over_ms is not None:
        by = f", ended by {one.ended_by}" if one.ended_by else ""
        since = f"raised {moment(one.raised_ms)}, over {moment(one.over_ms)}{by}"
    return f"{person.name} {one.sign}: {since}; {SAID[one.sign]}: {one.count} ({one.need} raise a suspicion)"


@suspects.command("list")
def suspects_list(config: Config = CONFIG) -> None:
    """The last suspicion of each person and kind, those that stand first. What they rest on: ivrguard audit show."""
    found = in_store(config, lambda store, _: insiders.every(store))
    for person in found:
        for one in sorted(person.suspicions, key=lambda each: (each.over_ms is not None, -each.raised_ms)):
            print(_suspicion(person, one))
    if not found:
        out.print("there was never a suspicion")


@suspects.command(
    "end", epilog="Example: ivrguard insiders end eve no_call --by rita --reason 'a broken phone'"
)
def suspects_end(
    person: Annotated[str, typer.Argument(help="Whom, as `insiders list` has him.", show_default=False)],
    sign: Annotated[str, typer.Argument(help=f"Which: {', '.join(Sign)}.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who ends it: your name goes on record.")],
    reason: Annotated[str, typer.Option(help="Why: goes on record.")],
    config: Config = CONFIG,
) -> None:
    """End a suspicion by hand: the same one is raised when there is enough anew. Nobody ends one of himself."""
    if sign not in tuple(Sign):
        fail(f"there is no kind of suspicion '{sign}'{did_you_mean(sign, tuple(Sign))}")
    if not all(text.strip() and text.isprintable() for text in (by, reason)):
        fail("--by and --reason go on record: say who ends it, and why, in a line")
    if signs.mine(by, Person(person)):
        fail("nobody ends a suspicion of himself")
    ending = {"by": by.strip(), "because": reason.strip()}
    done = in_store(
        config, lambda store, _: insiders.end(store, person, Sign(sign), **ending, now_ms=wall_clock_ms())
    )
    out.print(f"{person} {sign}: {'ended' if done else 'no such suspicion stands'}")
