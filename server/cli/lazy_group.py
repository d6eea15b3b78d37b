"""A group of commands that imports the module of a command only when that command is asked for.

Typer builds every command at the start, which imports everything that any command needs. Here the help of the group
shows a name and a line for each command, and nothing else of it is needed before it runs.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


class LazyCommand(TyperCommand):
    """The name and the help line of a command, or of a group of commands, and where it is implemented."""

    def __init__(self, name: str, source: str, help: str) -> None:  # noqa: A002 (typer's own name for it)
        """`source` is "module:attribute", where the attribute is a function or a Typer."""
        super().__init__(name, help=help)
        self.source = source

    def load(self) -> TyperCommand | TyperGroup:
        """Import the module, and return the command as typer builds it."""
        module, _, attribute = self.source.partition(":")
        target = getattr(import_module(module), attribute)
        holder = typer.Typer(add_completion=False)
        if isinstance(target, typer.Typer):
            holder.add_typer(target, name=self.name)
        else:
            holder.command(self.name)(target)
        holder.callback()(lambda: None)  # makes a group of the holder even when it has a single command
        (command,) = get_group(holder).commands.values()
        if not isinstance(command, TyperCommand | TyperGroup):
            raise TypeError(f"{self.source} is no command")
        return command


class LazyGroup(TyperGroup):
    """A group whose commands are all lazy."""

    lazy_commands: ClassVar[Sequence[LazyCommand]] = ()

    def __init__(self, **attributes: Any) -> None:
        """`attributes` are those of TyperGroup."""
        super().__init__(**attributes)
        for command in self.lazy_commands:
            self.add_command(command)

    def load_all(self) -> None:
        """Replace every lazy command by the real one, for programs that list all options, such as the reference."""
        for command in self.lazy_commands:
            self.add_command(command.load())

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import and return the command that the arguments name. Help and completion only list the lazy ones."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest
