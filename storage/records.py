"""Sticky records: the assignment of a user, packed as small as possible, and the questions and answers about it."""

import struct
from typing import NamedTuple

import msgspec

from storage.events import AssignmentEvent

RECORD = struct.Struct("<IHBHHH")  # the format is described in redis/functions.lua
EXISTING, NEW, NONE, FULL = b"EWNF"


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """A question for one user's assignment. The event is stored if there is none; without an event nothing is stored.

    `day` is in days since 1970-01-01, of the experiment's time zone.
    """

    experiment: int
    user_key: bytes
    day: int
    event: AssignmentEvent | None


class Found(msgspec.Struct, frozen=True, gc=False):
    """A user's record after a lookup. Its fields are 0 unless `code` is EXISTING or NEW.

    `assigned_at` is in Unix seconds; `day` is the last one on which the user was seen.
    """

    code: int
    assigned_at: int
    variant: int
    reason: int
    segmentation_version: int
    segment: int
    day: int


class PackedRecord(NamedTuple):
    """A record in Redis's form, with its experiment and user."""

    experiment: int
    user_key: bytes
    record: bytes


def pack_record(found: Found) -> bytes:
    """Return a record in Redis's form."""
    return RECORD.pack(
        found.assigned_at, found.variant, found.reason, found.segmentation_version, found.segment, found.day
    )
