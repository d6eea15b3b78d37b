"""A process of its own that sends by apprise: a server that hangs is given up, and holds up nothing.

`python -m server.notifications.delivery` reads a JSON list of letters from stdin, where nobody else sees its URLs. When
it is ready to send it writes a line, then one line for each letter: a JSON string that says what is wrong, or is
empty if nothing is wrong. The words are ours, since apprise's errors may contain parts of URLs.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

_START_SECONDS = 60.0  # apprise knows more than a hundred services, which takes a second or two
_READY = "ready"
_TOO_SLOW = "no answer in time"
_ENDED = "the process that sends has ended without an answer"


@dataclass(frozen=True)
class Letter:
    """What to send where. `url` is apprise's."""

    url: str = field(repr=False)
    subject: str
    body: str


async def deliver(letters: Sequence[Letter], seconds: float, done: Callable[[int, str], Awaitable[None]]) -> None:
    """Send them one after the other, each within so many seconds.

    `done` is told the place of each letter, and why it could not be sent, empty if it was.
    """
    first = 0
    while first < len(letters):
        first = await _deliver_from(first, letters, seconds, done)


async def _deliver_from(
    first: int, letters: Sequence[Letter], seconds: float, done: Callable[[int, str], Awaitable[None]]
) -> int:
    """Send until one is too slow; where to go on."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.notifications.delivery"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        with suppress(ConnectionError):  # it has died: there will be no lines
            stdin.write(msgspec.json.encode(letters[first:]))
            await stdin.drain()
            stdin.close()
        started = await _answer(stdout, _START_SECONDS)
        for place in range(first, len(letters)):
            why = await _answer(stdout, seconds) if started == _READY else started
            await done(place, why)
            if why in (_TOO_SLOW, _ENDED):
                return place + 1
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return len(letters)


async def _answer(reader: asyncio.StreamReader, seconds: float) -> str:
    """What the process says next."""
    try:
        line = await asyncio.wait_for(reader.readuntil(b"\n"), seconds)
    except TimeoutError:
        return _TOO_SLOW
    except asyncio.IncompleteReadError:
        return _ENDED
    return msgspec.json.decode(line, type=str)


def _main() -> None:
    logging.disable()
    letters = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Letter])
    services = [_service(letter.url) for letter in letters]
    _write(_READY)
    for letter, service in zip(letters, services, strict=True):
        _write(_send(letter, service))


def _service(url: str) -> Any:
    """What apprise makes of a URL; None if it does not understand it."""
    from apprise import Apprise, AppriseAsset

    return Apprise.instantiate(url, asset=AppriseAsset(app_id="Samplit", app_desc="Samplit"))


def _send(letter: Letter, service: Any) -> str:
    from apprise import Apprise, NotifyFormat

    if service is None:
        return "not a URL that apprise can send to"
    sender = Apprise()
    sender.add(service)
    try:
        is_sent = sender.notify(letter.body, title=letter.subject, body_format=NotifyFormat.TEXT)
    except Exception as error:
        return f"{service.service_name}: {type(error).__name__}"
    return "" if is_sent else f"{service.service_name} did not take it"


def _write(text: str) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(text) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
