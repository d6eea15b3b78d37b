"""An SMTP server in the test's event loop, and one that never answers. The senders are other processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

from tests.support.waiting import PATIENCE_SECONDS

PASSWORD = "hunter2secret"  # noqa: S105


@dataclass
class Mailbox:
    """The letters that arrived, and the port of their server."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        letter: Any = message_from_bytes(envelope.content, policy=policy.default)
        letter["X-Recipients"] = ", ".join(envelope.rcpt_tos)
        self.letters.append(letter)
        return "250 OK"

    def url(self, to: str) -> str:
        """Return the apprise URL that sends letters to `to` through this server."""
        return f"mailto://robot:{PASSWORD}@127.0.0.1:{self.port}?from=samplit@example.com&to={to}"

    def to(self, address: str) -> list[EmailMessage]:
        return [letter for letter in self.letters if letter["X-Recipients"] == address]

    async def holds(self, many: int) -> None:
        """Wait until `many` letters have arrived."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.letters) < many:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def smtp_server(box: Mailbox) -> AsyncIterator[Mailbox]:
    """Put arriving letters into the box. Listen at the box's port, or at a free one."""

    def protocol() -> SMTP:
        return SMTP(
            box, authenticator=lambda *_: AuthResult(success=True), auth_require_tls=False, hostname="localhost"
        )

    async with await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", box.port) as server:
        box.port = server.sockets[0].getsockname()[1]
        yield box


@asynccontextmanager
async def hanging_server() -> AsyncIterator[Mailbox]:
    """Accept connections, and never answer."""
    connections = []

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield Mailbox(server.sockets[0].getsockname()[1])
        for writer in connections:
            writer.close()


def text(letter: EmailMessage) -> str:
    """Return the text that a person reads, without line breaks."""
    body: Any = letter.get_body(("plain",))
    return " ".join(body.get_content().split())
