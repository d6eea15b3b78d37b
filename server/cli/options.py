"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

AdminAddress = Annotated[
    str | None,
    typer.Option(
        "--address", envvar="SAMPLIT_ADMIN_ADDRESS", help="host:port of the control plane", show_default=False
    ),
]
DataDirectory = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="SAMPLIT_DATA_DIR",
        help="of the server on this machine: says where it listens, holds its key",
        show_default=False,
    ),
]
