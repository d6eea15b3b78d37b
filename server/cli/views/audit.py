"""The audit as a table. Texts of users are never taken as markup."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich import box
from rich.table import Table
from samplit.admin.v1.audit_service_pb2 import AuditEvent

from server.cli.views.formats import plain

_MOST_CHANGES = 4
_LONGEST_VALUE = 40
_LEAST_WIDTH = 20
_ID_WIDTH = 8  # of an API key's id
_FIRST = ("name", "state")  # shown before other fields, because they say most of a new experiment
_ABSENT = object()


def audit_table(events: Sequence[AuditEvent]) -> Table:
    """Show a row for each event."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("When, UTC", no_wrap=True)
    table.add_column("Who", overflow="fold", min_width=_ID_WIDTH)
    table.add_column("What", overflow="fold", min_width=_LEAST_WIDTH)
    table.add_column("Change", overflow="fold")
    for event in events:
        what = f"{event.action}\n{event.experiment_id}".rstrip()
        who = f"{event.actor}\n{event.actor_name}".rstrip()
        table.add_row(f"{event.at.ToDatetime(UTC):%Y-%m-%d %H:%M}", plain(who), plain(what), plain(_change(event)))
    return table


def _change(event: AuditEvent) -> str:
    """Return a line for each field that changed, and how many more there are past the first few."""
    lines = list(_lines(MessageToDict(event.before), MessageToDict(event.after)))
    more = len(lines) - _MOST_CHANGES
    return "\n".join(lines[:_MOST_CHANGES] + ([f"and {more} more"] if more > 0 else [])) or "–"


def _lines(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in sorted(before.keys() | after.keys(), key=lambda name: (name not in _FIRST, name)):
        old, new = before.get(name, _ABSENT), after.get(name, _ABSENT)
        field = f"{path}.{name}" if path else name.replace("_", " ")
        if all(isinstance(each, dict) or each is _ABSENT for each in (old, new)):
            yield from _lines(before.get(name, {}), after.get(name, {}), field)
        elif _text(old) != _text(new):
            was = "" if old is _ABSENT else f"{_short(old)} → "
            yield f"{field}: {was}{_short(new)}"


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _text(value: Any) -> str:
    if value is _ABSENT or value in (None, "", []):
        return "–"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a Struct has no whole numbers
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
