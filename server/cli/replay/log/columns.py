"""Which column of the log holds what, and the options that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from samplit.allocation.v1.context_pb2 import WebContext

from server.cli.replay.errors import ReplayError


@dataclass(frozen=True)
class Columns:
    """The columns of the log.

    web: by field of WebContext, the column that holds it.
    attributes: by name of a custom attribute, the column that holds it.
    """

    variant: str
    outcome: str
    user: str | None
    web: Mapping[str, str]
    attributes: Mapping[str, str]

    @property
    def context(self) -> tuple[str, ...]:
        """The columns whose values together are a user's cell."""
        return (*self.web.values(), *self.attributes.values())


def parse_attributes(text: str) -> dict[str, str]:
    """Read a text such as "plan,bought_by=channel" into columns by attribute name. Raises ReplayError.

    An attribute without "=" has the name of its column.
    """
    attributes: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        _add(attributes, name, column if equals else name, "attribute")
    return attributes


def parse_web(texts: Iterable[str]) -> dict[str, str]:
    """Read texts such as "utm_source=src" into columns by text field of WebContext. Raises ReplayError."""
    web: dict[str, str] = {}
    fields = [
        field.name
        for field in WebContext.DESCRIPTOR.fields
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
    ]
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
