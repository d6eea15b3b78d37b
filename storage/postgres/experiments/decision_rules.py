"""The rules that decisions follow besides the posterior, by revision: stored so that decisions can be made again."""

from allocator.experiment import DecisionRules, SegmentationConfig, SegmentationMode
from storage.postgres.pool import Connection

_KEEP = """
    INSERT INTO decision_rules SELECT now.* FROM current_decision_rules now
    WHERE now.experiment_no = $1 AND to_jsonb(now) - 'revision' IS DISTINCT FROM (
        SELECT to_jsonb(kept) - 'revision' FROM decision_rules kept
        WHERE kept.experiment_no = $1 ORDER BY kept.revision DESC LIMIT 1
    )
"""
_AS_OF = """
    SELECT variants, holdout_share, baseline_share, mode, segment_by, min_samples_per_segment, model_version
    FROM decision_rules WHERE experiment_no = $1 AND revision <= $2 ORDER BY revision DESC LIMIT 1
"""


async def keep(connection: Connection, experiment_number: int) -> None:
    """Store the present rules if they have changed, in the transaction that changed the revision."""
    await connection.execute(_KEEP, experiment_number)


async def as_of(connection: Connection, experiment_number: int, revision: int) -> DecisionRules | None:
    """Return the rules of a revision; None if it is older than the stored ones."""
    row = await connection.fetchrow(_AS_OF, experiment_number, revision)
    if row is None:
        return None
    return DecisionRules(
        variants=tuple(row["variants"]),
        holdout_share=row["holdout_share"],
        baseline_share=row["baseline_share"],
        segmentation=SegmentationConfig(
            mode=SegmentationMode(row["mode"]),
            segment_by=tuple(row["segment_by"]),
            min_samples_per_segment=row["min_samples_per_segment"],
            model_version=row["model_version"],
        ),
    )
