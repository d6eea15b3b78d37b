"""The one error that commands raise for people: `main` prints it, without a traceback."""


class CommandError(Exception):
    """The command cannot be done; the text says why, in a line or a few."""
