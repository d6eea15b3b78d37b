"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

ExperimentId = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="its id", show_default=False)]
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
        help="data directory of the server on this machine: where it listens and its first key are there",
        show_default=False,
    ),
]
