"""Sticky records: the variant that a user has, as small as it can be kept, and how it is asked for."""

import struct

import msgspec

from storage.events import AssignmentEvent

RECORD = struct.Struct("<IHBHHH")  # the format is described in redis/functions.lua
EXISTING, NEW, NONE, FULL = b"EWNF"


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """One user, on a day since 1970 in the experiment's time zone; without an event nothing is stored."""

    experiment: int
    user_key: bytes
    day: int
    event: AssignmentEvent | None


class Found(msgspec.Struct, frozen=True, gc=False):
    """What there is of a user now; the record's fields are 0 unless `code` is EXISTING or NEW.

    `assigned_at` is in Unix seconds; `day` is the last one on which the user was seen.
    """

    code: int
    assigned_at: int
    variant: int
    reason: int
    segmentation_version: int
    segment: int
    day: int
