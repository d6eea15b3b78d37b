"""Delivers letters through apprise, in a process of its own: a mail server that hangs is given up and delays nothing.

`python -m server.notifications.delivery` reads a JSON list of letters from stdin, where no other process sees their
URLs. It writes a line when it is ready to send, and then one line for each letter: a JSON string that says why the
letter could not be sent, or is empty if it was. The reasons are our own words, since apprise's may hold parts of URLs.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

_START_SECONDS = 60.0  # importing apprise, which knows more than a hundred services, takes a second or two
_READY = "ready"
_TOO_SLOW = "the server did not answer in time"
_ENDED = "the sending process ended before it could answer"


@dataclass(frozen=True)
class Letter:
    """A message and where to send it. `url` is an apprise URL."""

    url: str = field(repr=False)
    subject: str
    body: str


async def deliver(letters: Sequence[Letter], seconds: float, record: Callable[[int, str], Awaitable[None]]) -> None:
    """Send letters one after the other. Each may take so many seconds.

    After each letter `record` is called with its index and with the reason why it could not be sent, "" if it was.
    """
    first = 0
    while first < len(letters):
        first = await _deliver_from(first, letters, seconds, record)


async def _deliver_from(
    first: int, letters: Sequence[Letter], seconds: float, record: Callable[[int, str], Awaitable[None]]
) -> int:
    """Send letters in one process until one is too slow. Return the index of the letter to go on with."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.notifications.delivery"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        with suppress(ConnectionError):  # the process has died: it will write no lines
            stdin.write(msgspec.json.encode(letters[first:]))
            await stdin.drain()
            stdin.close()
        started = await _read_answer(stdout, _START_SECONDS)
        for index in range(first, len(letters)):
            error = await _read_answer(stdout, seconds) if started == _READY else started
            await record(index, error)
            if error in (_TOO_SLOW, _ENDED):
                return index + 1
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return len(letters)


async def _read_answer(reader: asyncio.StreamReader, seconds: float) -> str:
    """Return the next line of the process, or why there is none."""
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
    services = [_make_service(letter.url) for letter in letters]
    _write(_READY)
    for letter, service in zip(letters, services, strict=True):
        _write(_send(letter, service))


def _make_service(url: str) -> Any:
    """Return apprise's service for a URL; None if apprise does not understand the URL."""
    from apprise import Apprise, AppriseAsset

    return Apprise.instantiate(url, asset=AppriseAsset(app_id="Samplit", app_desc="Samplit"))


def _send(letter: Letter, service: Any) -> str:
    from apprise import Apprise, NotifyFormat

    if service is None:
        return "apprise does not understand this URL"
    sender = Apprise()
    sender.add(service)
    try:
        is_sent = sender.notify(letter.body, title=letter.subject, body_format=NotifyFormat.TEXT)
    except Exception as error:
        return f"{service.service_name} failed ({type(error).__name__})"
    return "" if is_sent else f"{service.service_name} did not accept the notice"


def _write(text: str) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(text) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
