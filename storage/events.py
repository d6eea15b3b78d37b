"""The events in the streams: one for each new assignment, accepted conversion and first visit of a day.

They are encoded as MessagePack by msgspec. The decoder checks types, so that damaged events are noticed. Fields may be
added at the end, with a default. None may be removed or change its meaning while streams hold old events.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class EntryId(NamedTuple):
    """The id of an entry of a stream. Ids grow."""

    milliseconds: int
    sequence: int


class AssignmentEvent(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """A new assignment, with everything that the analysis needs to know of the decision. Times are in Unix seconds."""

    experiment: int
    user_key: bytes
    variant: int
    segmentation_version: int
    segment: int
    segment_key: str
    reason: int
    group: int
    posterior_version: int
    revision: int
    propensity: float
    marginal: float
    q_segment: float
    q_global: float
    context: Mapping[str, str]
    assigned_at: int


class ConversionEvent(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """An accepted conversion of an existing assignment. `occurred_at` is in Unix seconds."""

    experiment: int
    user_key: bytes
    metric: str
    event_id: str
    value: float
    currency: str
    occurred_at: int


class VisitEvent(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """The first call of a returning user on a day. `day` is in days since 1970-01-01, of the experiment's time zone."""

    experiment: int
    user_key: bytes
    day: int


Event = AssignmentEvent | ConversionEvent | VisitEvent

encode_event = msgspec.msgpack.Encoder().encode
decode_event = msgspec.msgpack.Decoder(Event).decode
