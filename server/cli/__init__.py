"""The command line: `commands` call a running server, `operations` look after an installation on this machine.

`views` prints what was answered. `samplit --help` must answer at once, so nothing is imported before it is needed.
"""

from server.cli.application import app, main

__all__ = ["app", "main"]
