"""Times and tables of fields, as every view prints them. Texts of users are never taken as markup."""

from collections.abc import Mapping
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from allocator.printable import escaped

OLDER_ONES = "there are older ones: --limit shows more"


def format_time(stamp: Timestamp) -> str:
    """Write a time to the second, in UTC."""
    return f"{stamp.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"


def plain(text: str, style: str = "") -> Text:
    """Return a text of users: neither as markup, nor with characters that would steer the terminal."""
    return Text(escaped(text), style)


def fields_table(fields: Mapping[str, str]) -> Table:
    """Show a row for each name and value."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(plain(name), plain(value or "–"))
    return table
