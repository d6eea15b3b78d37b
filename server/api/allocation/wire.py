"""Serialised answers of AllocateUser, joined from pieces that were serialised before.

Fields of a protobuf message may come in any order and any number of pieces.
"""

from functools import lru_cache
from typing import NamedTuple

from google.protobuf.json_format import ParseDict
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator.experiment import Variant
from allocator.segments import display_name
from server.allocation.allocate import Allocation

_ID = b"\x0a\x20"  # field 1, of 32 bytes
_OK_ITEM = b"\x0a\x00\x12"  # an item's status, which is empty, and the tag of its allocation
_ITEM = b"\x0a"


class _VariantPieces(NamedTuple):
    """A variant in its three forms.

    whole: a serialised AllocateUserResponse with the id and the content. id_only: the same without the content.
    message: the variant as a message of its own.
    """

    whole: bytes
    id_only: bytes
    message: pb.Variant


class AllocationAnswers:
    """Serialises allocations. The pieces of variants are made once for each revision of an experiment."""

    def __init__(self) -> None:
        self._pieces: dict[int, tuple[int, dict[int, _VariantPieces]]] = {}  # by experiment number, with the revision

    def response(self, allocation: Allocation) -> bytes:
        """Return a serialised AllocateUserResponse."""
        return _join(allocation, self._variant(allocation).whole)

    def item(self, allocation: Allocation) -> bytes:
        """Return a serialised item of AllocateUsersResponse, without the content of the variant."""
        answer = _join(allocation, self._variant(allocation).id_only)
        size = _varint(len(answer))
        return b"".join((_ITEM, _varint(len(_OK_ITEM) + len(size) + len(answer)), _OK_ITEM, size, answer))

    def variant(self, allocation: Allocation) -> pb.Variant:
        """Return the variant as a message, with its content."""
        return self._variant(allocation).message

    def _variant(self, allocation: Allocation) -> _VariantPieces:
        experiment = allocation.snapshot.experiment
        known = self._pieces.get(experiment.number)
        if known is None or known[0] != experiment.revision:
            known = experiment.revision, {each.number: _variant_pieces(each) for each in experiment.variants}
            self._pieces[experiment.number] = known
        return known[1][allocation.variant.number]


def _variant_pieces(variant: Variant) -> _VariantPieces:
    message = pb.Variant(variant_id=variant.variant_id, name=variant.name)
    ParseDict(variant.content, message.content)
    return _VariantPieces(
        pb.AllocateUserResponse(variant_id=variant.variant_id, variant=message).SerializeToString(),
        pb.AllocateUserResponse(variant_id=variant.variant_id).SerializeToString(),
        message,
    )


def _join(allocation: Allocation, variant: bytes) -> bytes:
    key = allocation.segment_key
    segment = _segment(key, allocation.snapshot.experiment.cluster_names.get(key))
    why = _why(allocation.reason, allocation.state)
    if not allocation.assignment_id:
        return b"".join((variant, segment, why))
    return b"".join((_ID, allocation.assignment_id, variant, segment, why, _stamp(allocation.assigned_at)))


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
