"""What must not be lost of a damaged append-only file: the events that no worker has stored.

Everything else in Redis can be made again from PostgreSQL. The shards stay closed, so nobody is assigned before the
worker has stored these events and refilled the shards.
"""

import re
from collections.abc import Iterable, Sequence

_KEPT = re.compile(rb"\{s\d\d\}:(events|dead)")
_EVENTS = b":events"
_LEAST_WORDS = 5  # XADD, a key, an id, and a field with its value
Command = Sequence[bytes]


def remaining_events(commands: Iterable[Command]) -> list[Command]:
    """Return commands that add the entries of streams which these commands have added and not deleted."""
    streams: dict[bytes, dict[bytes, Command]] = {}
    for command in commands:
        name, keys = command[0].upper(), command[1:2]
        if name in (b"FLUSHALL", b"FLUSHDB"):
            streams.clear()
        elif name in (b"DEL", b"UNLINK"):
            for key in command[1:]:
                streams.pop(key, None)
        elif keys and _KEPT.fullmatch(keys[0]):
            entries = streams.setdefault(keys[0], {})
            if name == b"XADD" and len(command) >= _LEAST_WORDS:
                entries[command[2]] = command
            elif name == b"XDEL":
                for entry_id in command[2:]:
                    entries.pop(entry_id, None)
    return [command for key, entries in streams.items() for command in _added(key, entries)]


def _added(key: bytes, entries: dict[bytes, Command]) -> list[Command]:
    commands = [entries[entry_id] for entry_id in sorted(entries, key=_order)]
    if commands and key.endswith(_EVENTS):
        events = sum((len(command) - 3) // 2 for command in commands)
        waiting = key.removesuffix(_EVENTS) + b":waiting"
        commands.append((b"SET", waiting, str(events).encode()))
    return commands


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or b"0")
