"""Answers of AllocateUser in the wire format, joined from pieces that were serialised before.

Fields of a protobuf message may come in any order and any number of pieces.
"""

from functools import lru_cache
from typing import NamedTuple

from google.protobuf.json_format import ParseDict
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.experiment import Variant
from allocator.segments import display_name

_ID = b"\x0a\x20"  # field 1, of 32 bytes
_OK_ITEM = b"\x0a\x00\x12"  # an item's status, which is empty, and the tag of its allocation
_ITEM = b"\x0a"


class VariantAnswer(NamedTuple):
    """A variant as AllocateUser says it, as AllocateUsers does, and as the message of its own."""

    whole: bytes
    id_only: bytes
    message: pb.Variant


def variant_answer(variant: Variant) -> VariantAnswer:
    """To be made once for each revision of an experiment."""
    message = pb.Variant(variant_id=variant.variant_id, name=variant.name)
    ParseDict(variant.content, message.content)
    return VariantAnswer(
        pb.AllocateUserResponse(variant_id=variant.variant_id, variant=message).SerializeToString(),
        pb.AllocateUserResponse(variant_id=variant.variant_id).SerializeToString(),
        message,
    )


def answer(
    variant: bytes,
    segment_key: str,
    cluster_name: str | None,
    reason: int,
    state: int,
    assignment_id: bytes,
    assigned_at: int,
) -> bytes:
    """A serialised AllocateUserResponse; `assigned_at` in Unix seconds, without an assignment id left out."""
    segment = _segment(segment_key, cluster_name)
    if not assignment_id:
        return b"".join((variant, segment, _why(reason, state)))
    return b"".join((_ID, assignment_id, variant, segment, _why(reason, state), _stamp(assigned_at)))


def ok_item(allocation: bytes) -> bytes:
    """An item of AllocateUsersResponse."""
    size = _varint(len(allocation))
    return b"".join((_ITEM, _varint(len(_OK_ITEM) + len(size) + len(allocation)), _OK_ITEM, size, allocation))


@lru_cache(maxsize=4_096)
def _segment(key: str, cluster_name: str | None) -> bytes:
    name = display_name(key) if cluster_name is None else cluster_name
    return pb.AllocateUserResponse(segment_key=key, segment_display_name=name).SerializeToString()


@lru_cache
def _why(reason: int, state: int) -> bytes:
    return pb.AllocateUserResponse(
        reason=pb.Reason.ValueType(reason), assignment_state=pb.AssignmentState.ValueType(state)
    ).SerializeToString()


@lru_cache(maxsize=4_096)
def _stamp(seconds: int) -> bytes:
    response = pb.AllocateUserResponse()
    response.assigned_at.FromSeconds(seconds)
    return response.SerializeToString()


@lru_cache(maxsize=4_096)
def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes((*parts, value))
