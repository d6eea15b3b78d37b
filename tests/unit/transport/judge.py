"""The package h2 as the judge of what a client may send."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset
from h2.exceptions import ProtocolError


class Judge:
    """h2 in the role of the server, which only listens."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=False))
        self.h2.initiate_connection()
        self.objected = False

    @property
    def is_undecided(self) -> bool:
        """h2 looks at headers only once they are complete."""
        return bool(self.h2.incoming_buffer._headers_buffer)

    def take(self, data: bytes) -> None:
        if self.objected:
            return
        try:
            found = self.h2.receive_data(data)
        except (ProtocolError, ValueError, IndexError):
            self.objected = True
        else:
            self.objected = any(isinstance(event, StreamReset) for event in found)
