"""Commands are imported only when they are asked for, and the help lists them as their own help describes them."""

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from server.cli import app
from server.cli.application import SamplitGroup
from server.cli.lazy_group import LazyCommand, LazyGroup


def first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


@pytest.mark.parametrize("command", SamplitGroup.lazy_commands, ids=lambda command: command.name)
def test_each_command_imports_and_has_the_help_that_is_listed(command: LazyCommand) -> None:
    loaded = command.load()
    assert loaded.name == command.name
    assert first_paragraph(loaded.help) == command.help
    answer = CliRunner().invoke(app, [command.name, "--help"])
    assert answer.exit_code == 0
    assert f"Usage: samplit {command.name}" in answer.output


def test_names_are_listed_once_and_in_order() -> None:
    names = [command.name for command in SamplitGroup.lazy_commands]
    assert len(set(names)) == len(names) == 24
    output = CliRunner().invoke(app, ["--help"]).output
    positions = [output.index(f"│ {name} ") for name in names]
    assert positions == sorted(positions)


def test_help_imports_neither_grpc_nor_a_command() -> None:
    program = "import sys; from server.cli import main; sys.argv[1:] = ['--help']\n" + (
        "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(run.stderr.split())
    assert "server.cli.lazy_group" in imported
    assert not imported & {"grpc", "google.protobuf", "numpy", "asyncpg", "redis", "pydantic", "server.settings"}
    assert not [name for name in imported if name.startswith(("server.cli.commands.", "server.cli.operations."))]


def test_a_group_is_loaded_with_its_own_commands() -> None:
    group = next(command for command in SamplitGroup.lazy_commands if command.name == "keys").load()
    assert list(group.commands) == ["create", "list", "rotate", "revoke"]
    assert "Show all keys, without their secrets." in CliRunner().invoke(app, ["keys", "--help"]).output


def test_load_all_leaves_no_lazy_command() -> None:
    group: Any = typer.main.get_command(app)
    group.load_all()
    assert [command.name for command in group.commands.values()] == [each.name for each in group.lazy_commands]
    assert not [command for command in group.commands.values() if isinstance(command, LazyCommand)]


def test_a_mistyped_command_is_guessed() -> None:
    answer = CliRunner().invoke(app, ["experiment"])
    assert answer.exit_code == 2
    assert "Did you mean" in answer.output
    assert "experiments" in answer.output


def test_what_is_no_command_is_a_defect() -> None:
    class Group(LazyGroup):
        lazy_commands = (LazyCommand("x", "server.cli.errors:missing", "help"),)

    with pytest.raises(AttributeError, match="missing"):
        Group.lazy_commands[0].load()
