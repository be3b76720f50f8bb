"""
The command line: every command, put together.

`python -m ivrguard --help` lists them; what they keep to stands in commands/__init__.py.
"""

import typer

from ivrguard.commands import backup, explain, flows, graph, publish, redteam, schema, server, stories
from ivrguard.commands.accounts import accounts
from ivrguard.commands.agents import agents
from ivrguard.commands.alerts import alerts
from ivrguard.commands.audit import record
from ivrguard.commands.bulk import bulk
from ivrguard.commands.desks import desks
from ivrguard.commands.directory import directory
from ivrguard.commands.incidents import incidents, suspects
from ivrguard.commands.keys import keys
from ivrguard.commands.locks import lockouts

app = typer.Typer(
    help="Zero Trust on the phone: a guard between Twilio's voice webhooks and your IVR.",
    epilog="Begin with: ivrguard demo. What stands where: README.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
for part in (
    server.app,
    backup.app,
    flows.app,
    explain.app,
    graph.app,
    schema.app,
    stories.app,
    redteam.app,
):
    app.add_typer(part)
accounts.add_typer(bulk)
graph.flows.add_typer(publish.app)
for group in (accounts, directory, desks, agents, lockouts, alerts, incidents, suspects, record, keys):
    app.add_typer(group)


def main() -> None:
    """Run the command line."""
    app(prog_name="ivrguard")


if __name__ == "__main__":
    main()
