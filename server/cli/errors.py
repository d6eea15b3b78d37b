"""The one error that commands raise for people: `main` prints its text, without a traceback."""


class CommandError(Exception):
    """The command cannot be done. The text says why, in a line or a few, and what to do next."""
