"""The options that say which columns are a user's context."""

from collections.abc import Iterable

from google.protobuf.descriptor import FieldDescriptor
from samplit.allocation.v1.context_pb2 import WebContext

from server.cli.replay.errors import ReplayError


def parse_attributes(text: str) -> dict[str, str]:
    """Columns by attribute name from "plan,bought_by=channel", where a name left out is the column's."""
    attributes: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        _add(attributes, name, column if equals else name, "attribute")
    return attributes


def parse_web(texts: Iterable[str]) -> dict[str, str]:
    """Columns by text field of WebContext from texts such as "utm_source=src"."""
    web: dict[str, str] = {}
    texts_only = (FieldDescriptor.TYPE_STRING, False)
    fields = [f.name for f in WebContext.DESCRIPTOR.fields if (f.type, f.is_repeated) == texts_only]
    for text in texts:
        field, _, column = (piece.strip() for piece in text.partition("="))
        if field not in fields or not column:
            raise ReplayError(f"--web takes FIELD=COLUMN, where FIELD is one of {', '.join(fields)}; is {text!r}")
        _add(web, field, column, "web field")
    return web


def _add(columns: dict[str, str], name: str, column: str, kind: str) -> None:
    if not name or not column:
        raise ReplayError(f"each {kind} needs a name and a column")
    if columns.setdefault(name, column) != column:
        raise ReplayError(f"{kind} {name!r} has two columns, {columns[name]!r} and {column!r}")
