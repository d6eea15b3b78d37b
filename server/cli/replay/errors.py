"""The errors of a replay, with texts for people."""

from google.rpc import status_pb2


class ReplayError(Exception):
    """The replay cannot begin or go on; the text says why in a line."""


class RefusedError(ReplayError):
    """The server refused one item of a batch."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status
