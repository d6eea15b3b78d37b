"""The reference of commands: every command of `samplit` with its arguments and options, as its --help has them."""

from collections.abc import Iterator
from typing import Any

import typer

from docs.generator.markdown import code, page, table, text
from server.cli import app

_INTRODUCTION = """\
# Commands

`samplit COMMAND --help` shows the same text. A command that fails for a reason that you can mend writes one line to
standard error and ends with status 1."""


def pages() -> dict[str, str]:
    """Return the text of the page by its path in the site."""
    root: Any = typer.main.get_command(app)
    root.load_all()
    commands = list(_walk(root, "samplit"))
    summary = [[f"[`{name}`](#{_anchor(name)})", text(_paragraphs(command)[0])] for name, command in commands]
    blocks = [block for name, command in commands for block in _command(name, command)]
    return {"reference/commands.md": page(_INTRODUCTION, table(["command", "what"], summary), *blocks)}


def _walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name; the commands of a sub-group follow each other."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def _command(name: str, command: Any) -> list[str]:
    context = typer.Context(command, info_name=name)
    records: dict[str, list[list[str]]] = {"argument": [], "option": []}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            records[parameter.param_type_name].append([code(record[0]), text(record[1])])
    blocks = [f"## {name} {{ #{_anchor(name)} }}", *map(text, _paragraphs(command))]
    return blocks + [table([kind, "what"], rows) for kind, rows in records.items() if rows]


def _paragraphs(command: Any) -> list[str]:
    return (command.help or "").split("\n\n")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
