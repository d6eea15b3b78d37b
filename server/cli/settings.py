"""The settings as the commands see them: errors in them are explained to people."""

import os
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from server.cli.errors import CommandError
from server.settings import Settings, unknown_variables


def load_settings(**options: Any) -> Settings:
    """Return the settings of the environment, changed by those options that are not None.

    Raises CommandError, which names each variable that is unknown or has a value that cannot be.
    """
    if unknown := unknown_variables(os.environ):
        raise CommandError("; ".join(map(_describe_unknown, unknown)))
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise CommandError("; ".join(map(_describe_problem, error.errors(include_url=False)))) from error


def need_external_stores(settings: Settings) -> None:
    """Raise CommandError for an installation with embedded stores."""
    if settings.postgres_dsn is None:
        raise CommandError(
            "set SAMPLIT_POSTGRES_DSN and SAMPLIT_REDIS_URL: `samplit serve` looks after the embedded engines itself"
        )


def _describe_unknown(name: str) -> str:
    similar = get_close_matches(name.removeprefix("SAMPLIT_").lower(), Settings.model_fields, n=1)
    advice = f"did you mean SAMPLIT_{similar[0].upper()}?" if similar else "unset it"
    return f"there is no setting {name}: {advice}"


def _describe_problem(problem: Any) -> str:
    if not problem["loc"]:  # it is about several settings, which the message names
        return str(problem["msg"].removeprefix("Value error, "))
    variable = f"SAMPLIT_{str(problem['loc'][0]).upper()}"
    message = f"{variable}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
    if os.environ.get(variable, "").startswith("tcp://"):
        message += f"; Kubernetes sets {variable} for a Service called samplit: set enableServiceLinks to false"
    return message
