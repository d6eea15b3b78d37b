"""The users of a finished experiment, each with a context, a variant and an outcome. Must not know of a server."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.cli.replay.errors import ReplayError
from server.cli.replay.log.columns import Columns

Row = Mapping[str, str | None]
Cell = tuple[str, ...]


@dataclass(frozen=True)
class LoggedUser:
    """One row of the log, numbered from 1. `cell` holds the values of Columns.context, in its order."""

    row: int
    user: str
    cell: Cell
    variant: str
    success: bool


def read_csv(path: Path) -> list[Row]:
    """Read the rows of a CSV file with a header, gzipped if its name ends in .gz. Raises ReplayError."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReplayError(f"cannot read {path}: {reason}") from None


def parse_users(rows: Iterable[Row], columns: Columns) -> list[LoggedUser]:
    """Return the users in the order of the rows.

    Raises:
        ReplayError: a column is missing, an outcome is not 0 or 1, a user comes twice, or there are not two variants.
    """
    users = [_user(number, row, columns) for number, row in enumerate(rows, 1)]
    if not users:
        raise ReplayError("the log has no rows")
    first: dict[str, int] = {}
    for user in users:
        if first.setdefault(user.user, user.row) != user.row:
            raise ReplayError(f"user {user.user!r} is in rows {first[user.user]} and {user.row}; one row a user")
    variants = sorted({user.variant for user in users})
    if len(variants) < 2:
        raise ReplayError(f"column {columns.variant!r} holds one variant only, {variants[0]!r}; a replay needs two")
    return users


def _user(number: int, row: Row, columns: Columns) -> LoggedUser:
    variant = _value(row, columns.variant)
    if not variant:
        raise ReplayError(f"row {number}: column {columns.variant!r} is empty")
    outcome = _value(row, columns.outcome)
    if outcome not in ("0", "1"):
        raise ReplayError(f"row {number}: column {columns.outcome!r} holds {outcome!r}, neither 0 nor 1")
    user = _value(row, columns.user) if columns.user else str(number)
    cell = tuple(_value(row, column) for column in columns.context)
    return LoggedUser(number, user, cell, variant, outcome == "1")


def _value(row: Row, column: str) -> str:
    if column not in row:
        raise ReplayError(f"there is no column {column!r}; the log has {', '.join(str(name) for name in row)}")
    return (row[column] or "").strip()
