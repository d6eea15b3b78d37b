"""The bounds of a segmentation's configuration are the same in PostgreSQL's constraints."""

import re
from pathlib import Path

import pytest

from allocator import limits

MIGRATIONS = Path(__file__).parents[3] / "storage/postgres/migrations"


@pytest.mark.parametrize(
    ("column", "least", "most"),
    [
        ("min_samples_per_segment", 0, limits.MAX_MIN_SAMPLES),
        ("max_segments", limits.MIN_SEGMENTS, limits.MAX_SEGMENTS),
        ("max_clusters", limits.MIN_CLUSTERS, limits.MAX_CLUSTERS),
        (
            "auto_activation_threshold",
            limits.MIN_AUTO_ACTIVATION_THRESHOLD,
            limits.MAX_AUTO_ACTIVATION_THRESHOLD,
        ),
        (r"cardinality\(segment_by\)", 1, limits.MAX_DIMENSIONS),
    ],
)
def test_postgres_has_the_same_bounds(column: str, least: int, most: int) -> None:
    texts = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    found = re.findall(rf"{column} BETWEEN (\d+) AND (\d+)", texts)
    assert found
    assert set(found) == {(str(least), str(most))}


@pytest.mark.parametrize(
    ("column", "default"),
    [
        ("max_segments", limits.DEFAULT_MAX_SEGMENTS),
        ("max_clusters", limits.DEFAULT_MAX_CLUSTERS),
        ("auto_activation_threshold", limits.DEFAULT_AUTO_ACTIVATION_THRESHOLD),
    ],
)
def test_postgres_has_the_same_defaults(column: str, default: int) -> None:
    texts = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    assert re.findall(rf"ADD COLUMN {column} integer NOT NULL DEFAULT (\d+)", texts) == [str(default)]
