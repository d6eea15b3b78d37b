"""The packed form of sticky records: Redis answers exactly what PostgreSQL restored."""

from storage.records import EXISTING, Found, pack_record
from storage.redis import sticky


def test_a_restored_record_is_answered_as_it_was() -> None:
    found = Found(
        code=EXISTING, assigned_at=1_770_000_000, variant=1, reason=2, segmentation_version=3, segment=4, day=20_500
    )
    answer = bytes([EXISTING]) + pack_record(found)
    assert sticky._found(answer * 2) == [found, found]
