"""Recommendations: stored, renewed, withdrawn and decided. At most one of a kind is open for the same dimensions."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import asyncpg

from allocator.estimates import Estimate
from allocator.experiment import Experiment, ExperimentState
from allocator.segmentation import Proposal, RecommendationKind
from storage.postgres.pool import Connection
from storage.postgres.segmentation import segmentations

_VALID = timedelta(days=7)
_STRONGER = 10.0  # times the evidence at which a recommendation was dismissed: then it may be proposed again
_FORGOTTEN = timedelta(days=30)  # after which a dismissed recommendation without evidence may be proposed again
_SELECT = """
    SELECT recommendation_id, recommendation_no, experiment_id, r.state, r.segmentation_version, proposed_at,
        renewed_at, expires_at, decided_at, decided_by, dismissed_because, kind, summary, trials, days,
        segment_by, r.winner_variant_no, expected_lift, expected_error, e_value, e_value_needed
    FROM segmentation_recommendations r JOIN experiments USING (experiment_no)
"""
_LIST = _SELECT + (
    " WHERE ($1::text IS NULL OR experiment_id = $1) AND ($2::recommendation_state IS NULL OR r.state = $2)"
    " AND ($3::bigint IS NULL OR recommendation_no < $3) ORDER BY recommendation_no DESC LIMIT $4"
)
_PROPOSE = """
    INSERT INTO segmentation_recommendations AS r (recommendation_id, experiment_no, kind, segment_by,
        winner_variant_no, summary, expected_lift, expected_error, e_value, e_value_needed, trials, days,
        segmentation_version, proposed_at, renewed_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15)
    ON CONFLICT (experiment_no, kind, segment_by, coalesce(winner_variant_no, -1)) WHERE state = 'OPEN' DO UPDATE SET
        summary = excluded.summary,
        expected_lift = excluded.expected_lift, expected_error = excluded.expected_error, e_value = excluded.e_value,
        e_value_needed = excluded.e_value_needed, trials = excluded.trials, days = excluded.days,
        segmentation_version = excluded.segmentation_version, renewed_at = excluded.renewed_at,
        expires_at = excluded.expires_at
    RETURNING recommendation_id
"""
# A dismissal to turn off segmentation holds only for the segmentation that served then. An accepted training holds for
# good: it made the clusters as good as it can.
_SETTLED = """
    SELECT kind, r.segment_by, winner_variant_no, e_value, decided_at
    FROM segmentation_recommendations r JOIN experiment_segmentation_config c USING (experiment_no)
    WHERE experiment_no = $1 AND CASE state
        WHEN 'DISMISSED' THEN kind <> 'TURN_OFF' OR decided_at >= coalesce(serves_since, '-infinity')
        WHEN 'ACCEPTED' THEN kind = 'TRAIN_CLUSTERS'
    END
    ORDER BY decided_at
"""


class RecommendationState(Enum):
    """Whether a recommendation is open, and if not, how it ended."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    DISMISSED = "DISMISSED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True)
class Recommendation:
    """A stored proposal.

    segmentation_version: the version that served when the recommendation was last renewed.
    """

    recommendation_id: uuid.UUID
    number: int
    experiment_id: str
    state: RecommendationState
    segmentation_version: int
    proposed_at: datetime
    renewed_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str
    dismissed_because: str
    proposal: Proposal


async def propose(
    connection: Connection, experiment: Experiment, proposals: Sequence[Proposal], now: datetime
) -> tuple[list[Recommendation], list[Recommendation]]:
    """Store the proposals, except those that people decided on at about this evidence. Withdraw the other open ones.

    Returns the recommendations that are open now, in the order of the proposals, and the new ones among them. The
    caller holds the experiment FOR UPDATE.
    """
    settled = {
        (row["kind"], tuple(row["segment_by"]), row["winner_variant_no"]): row
        for row in await connection.fetch(_SETTLED, experiment.number)
    }
    still_open: list[Recommendation] = []
    new: list[Recommendation] = []
    for proposal in proposals:
        earlier = settled.get((proposal.kind.value, proposal.segment_by, proposal.winner))
        if earlier is not None and not _is_stronger(proposal, earlier, now):
            continue
        new_id = uuid.uuid4()
        stored = await get(connection, await _store(connection, new_id, experiment, proposal, now))
        if stored is not None:
            still_open.append(stored)
            if stored.recommendation_id == new_id:
                new.append(stored)
    await connection.execute(
        "UPDATE segmentation_recommendations SET state = 'WITHDRAWN'"
        " WHERE experiment_no = $1 AND state = 'OPEN' AND recommendation_id <> ALL($2::uuid[])",
        experiment.number,
        [each.recommendation_id for each in still_open],
    )
    return still_open, new


async def get(connection: Connection, recommendation_id: uuid.UUID) -> Recommendation | None:
    """Return a recommendation, None if there is none with this id."""
    row = await connection.fetchrow(_SELECT + " WHERE recommendation_id = $1", recommendation_id)
    return None if row is None else _recommendation(row)


async def holds(connection: Connection, recommendation: Recommendation, experiment: Experiment, now: datetime) -> bool:
    """Return whether a recommendation can be accepted.

    It must be open and not expired, and the experiment must still be as it was when it was proposed.
    """
    current = await get(connection, recommendation.recommendation_id)
    if current is None or current.state is not RecommendationState.OPEN or current.expires_at <= now:
        return False
    winner = next((v for v in experiment.variants if v.number == current.proposal.winner), None)
    return (
        experiment.state is ExperimentState.RUNNING
        and experiment.segmentation_version == current.segmentation_version
        and await segmentations.pending(connection, experiment.number) is None
        and not (winner is not None and winner.retired)
    )


async def list_page(
    connection: Connection,
    *,
    experiment_id: str | None,
    state: RecommendationState | None,
    before: int | None,
    limit: int,
) -> list[Recommendation]:
    """Return the newest recommendations with a number below `before`."""
    rows = await connection.fetch(_LIST, experiment_id, None if state is None else state.value, before, limit)
    return [_recommendation(row) for row in rows]


async def accept(connection: Connection, recommendation_id: uuid.UUID, actor: str, now: datetime) -> None:
    """Mark a recommendation as accepted. The caller holds the experiment FOR UPDATE."""
    await connection.execute(
        "UPDATE segmentation_recommendations SET state = 'ACCEPTED', decided_at = $2, decided_by = $3"
        " WHERE recommendation_id = $1",
        recommendation_id,
        now,
        actor,
    )


async def withdraw(connection: Connection, experiment_number: int) -> None:
    """Withdraw the open recommendations of an experiment that is completed. The caller holds it FOR UPDATE."""
    await connection.execute(
        "UPDATE segmentation_recommendations SET state = 'WITHDRAWN' WHERE experiment_no = $1 AND state = 'OPEN'",
        experiment_number,
    )


async def expire(connection: Connection, now: datetime) -> None:
    """Withdraw the open recommendations that no check has renewed in time."""
    await connection.execute(
        "UPDATE segmentation_recommendations SET state = 'WITHDRAWN' WHERE state = 'OPEN' AND expires_at <= $1", now
    )


async def dismiss(connection: Connection, recommendation_id: uuid.UUID, actor: str, reason: str, now: datetime) -> None:
    """Mark a recommendation as dismissed. The caller holds the experiment FOR UPDATE."""
    await connection.execute(
        "UPDATE segmentation_recommendations SET state = 'DISMISSED', decided_at = $2, decided_by = $3,"
        " dismissed_because = $4 WHERE recommendation_id = $1",
        recommendation_id,
        now,
        actor,
        reason,
    )


async def was_accepted(connection: Connection, experiment: Experiment, kind: RecommendationKind) -> bool:
    """Return whether a recommendation of the kind was ever accepted."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM segmentation_recommendations"
            " WHERE experiment_no = $1 AND kind = $2 AND state = 'ACCEPTED')",
            experiment.number,
            kind.value,
        )
    )


def _is_stronger(proposal: Proposal, earlier: asyncpg.Record, now: datetime) -> bool:
    if proposal.e_value is None or earlier["e_value"] is None:
        return bool(now - earlier["decided_at"] >= _FORGOTTEN)
    return bool(proposal.e_value >= _STRONGER * earlier["e_value"])


async def _store(
    connection: Connection, new_id: uuid.UUID, experiment: Experiment, proposal: Proposal, now: datetime
) -> uuid.UUID:
    expected = proposal.expected
    stored: uuid.UUID = await connection.fetchval(
        _PROPOSE,
        new_id,
        experiment.number,
        proposal.kind.value,
        proposal.segment_by,
        proposal.winner,
        proposal.summary,
        None if expected is None else expected.value,
        None if expected is None else expected.standard_error,
        proposal.e_value,
        proposal.needed,
        proposal.trials,
        proposal.days,
        experiment.segmentation_version,
        now,
        now + _VALID,
    )
    return stored


def _recommendation(row: asyncpg.Record) -> Recommendation:
    return Recommendation(
        recommendation_id=row["recommendation_id"],
        number=row["recommendation_no"],
        experiment_id=row["experiment_id"],
        state=RecommendationState(row["state"]),
        segmentation_version=row["segmentation_version"],
        proposed_at=row["proposed_at"],
        renewed_at=row["renewed_at"],
        expires_at=row["expires_at"],
        decided_at=row["decided_at"],
        decided_by=row["decided_by"] or "",
        dismissed_because=row["dismissed_because"] or "",
        proposal=_proposal(row),
    )


def _proposal(row: asyncpg.Record) -> Proposal:
    lift = row["expected_lift"]
    return Proposal(
        kind=RecommendationKind(row["kind"]),
        summary=row["summary"],
        trials=row["trials"],
        days=row["days"],
        segment_by=tuple(row["segment_by"]),
        winner=row["winner_variant_no"],
        expected=None if lift is None else Estimate(lift, row["expected_error"]),
        e_value=row["e_value"],
        needed=row["e_value_needed"],
    )
