"""The command line as a whole: what is in it, and how it refuses."""

import inspect
import sys

import pytest
import typer
from typer.testing import CliRunner

from ivrguard import __main__ as commands


def asked(*arguments):
    """Run a command in this process."""
    return CliRunner().invoke(commands.app, arguments)


def test_main_is_the_command_line(monkeypatch, capsys):
    """`ivrguard` is installed as `main`."""
    monkeypatch.setattr(sys, "argv", ["ivrguard", "keys", "new"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == 0
    assert capsys.readouterr().out.count("\n") == 4


def test_a_command_that_cannot_be_understood_ends_with_2():
    """And says what there is."""
    result = asked("chekc")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'chekc'" in result.stderr


def every_command(group, *before):
    for name, command in group.commands.items():
        yield (*before, name), command
        yield from every_command(command, *before, name) if hasattr(command, "commands") else ()


COMMANDS = dict(every_command(typer.main.get_command(commands.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_worth_reading(path):
    """A sentence that says what it does; each argument and option says what it is for."""
    command = COMMANDS[path]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []
    result = asked(*path, "--help")
    assert result.exit_code == 0
    assert f"Usage: ivrguard {' '.join(path)}" in result.stdout.replace("root", "ivrguard")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_breaks_its_lines_where_a_terminal_does(path):
    """Rich keeps the breaks of every paragraph but the first: lines of the code's own width would be broken twice at 80."""
    for paragraph in inspect.cleandoc(COMMANDS[path].help).split("\n\n")[1:]:
        lines = paragraph.split("\n")
        assert len(lines) == 1 or max(map(len, lines)) <= 80
