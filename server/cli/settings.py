"""The settings as the commands see them: errors in them are explained to people."""

from typing import Any

from pydantic import ValidationError

from server.cli.errors import CommandError
from server.settings import Settings


def load_settings(**options: Any) -> Settings:
    """Return the settings of the environment, changed by those options that are not None. Raises CommandError."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            name = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{name}: {problem['msg']}" if name else problem["msg"].removeprefix("Value error, "))
        raise CommandError("; ".join(problems)) from error


def need_external_stores(settings: Settings) -> None:
    """Raise CommandError for an installation with embedded stores."""
    if settings.postgres_dsn is None:
        raise CommandError(
            "set SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL: `samplit serve` looks after the embedded engines itself"
        )
