"""An installation as the operating commands see it: its settings, its running stores, and what can go wrong."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from server.cli.errors import CommandError

if TYPE_CHECKING:  # slow to import, and `samplit --help` needs none of it
    from server.settings import Settings

Result = TypeVar("Result")


def load_settings(**options: Any) -> "Settings":
    """The settings from the environment, with the options that were given. Raises CommandError."""
    from pydantic import ValidationError

    from server.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            name = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{name}: {problem['msg']}" if name else problem["msg"].removeprefix("Value error, "))
        raise CommandError("; ".join(problems)) from error


def with_running_stores(settings: "Settings") -> "Settings":
    """The same with the stores of the server that runs on this data directory. Raises CommandError."""
    from storage.engines.embedded import find_running

    if settings.postgres_dsn is not None:
        return settings
    found = find_running(settings.data_dir)
    if found is None:
        raise CommandError(f"no server runs on {settings.data_dir}: start it with `samplit serve`")
    return settings.with_stores(found.postgres_dsn, found.redis_url)


def run_explained(action: Callable[[], Result]) -> Result:
    """Do it; what an operator can put right becomes a CommandError."""
    from allocator.errors import SamplitError
    from server.runtime.children import ChildFailedError
    from server.runtime.ports import PortInUseError
    from storage.encryption import SecretsUnusableError
    from storage.engines.errors import EmbeddedError

    try:
        return action()
    except (SamplitError, EmbeddedError, SecretsUnusableError, PortInUseError, ChildFailedError) as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError("interrupted") from None
