"""Checks an experiment: reads what is known, stores what to recommend, and accepts it where Samplit may do so.

The statistics are `server.recommendations.findings`', the rules `server.recommendations.proposals`'.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from allocator.experiment import Experiment, SegmentationMode
from allocator.segmentation import Eligibility, Proposal, RecommendationKind
from server.alerts.updates import update_alert
from server.clock import Clock
from server.publishing.publish import publish_current
from server.recommendations.acceptance import accept_recommendation
from server.recommendations.findings import Findings, gather_findings
from server.recommendations.notices import notify_of_recommendation
from server.recommendations.proposals import make_proposals
from storage.encryption import Secrets
from storage.postgres.experiments import experiments
from storage.postgres.operations import audit
from storage.postgres.operations.alerts import AlertKind
from storage.postgres.pool import Connection, Pool, snapshot
from storage.postgres.segmentation import recommendations, segmentations, serving_state
from storage.postgres.segmentation.recommendations import Recommendation
from storage.redis.client import UNREACHABLE, Client

log = structlog.get_logger()
_PREPARED_WITHIN = timedelta(hours=1)  # a segmentation that takes longer raises an alert


@dataclass(frozen=True)
class CheckResult:
    """What a check found and did.

    proposals: what there is to recommend. recommendations: what is stored of it and open, empty after a preview.
    action: what Samplit did itself, in words; empty if nothing.
    """

    experiment: Experiment
    eligibility: Eligibility
    proposals: Sequence[Proposal]
    recommendations: Sequence[Recommendation] = ()
    action: str = ""


class Checker:
    """Checks experiments, for people and for the schedule."""

    def __init__(self, pool: Pool, redis: Client, secrets: Secrets, clock: Clock) -> None:
        self._pool = pool
        self._redis = redis
        self._secrets = secrets
        self._clock = clock

    async def preview(self, experiment_id: str) -> CheckResult:
        """Return what a check would find, and change nothing. Raises ExperimentNotFoundError."""
        async with self._pool.acquire() as connection:
            findings = await self._gather_findings(connection, experiment_id)
        return CheckResult(findings.experiment, findings.eligibility, make_proposals(findings))

    async def check(self, experiment_id: str) -> CheckResult:
        """Store what is recommended, and accept the best of it where auto_activation is on.

        An automatic change that fails, or that does not serve within an hour, raises an alert; the next check that
        succeeds resolves it. Raises ExperimentNotFoundError, and whatever made an automatic change fail.
        """
        async with self._pool.acquire() as connection:
            findings = await self._gather_findings(connection, experiment_id)
            proposals = make_proposals(findings)
            result, chosen = await self._store_recommendations(connection, findings, proposals)
            if chosen is None:
                await self._update_alert(connection, result.experiment, _late_preparation(findings))
                return result
            summary = chosen.proposal.summary
            try:
                changed = await self._accept(connection, result.experiment, chosen)
            except Exception as error:
                problem = f"Samplit could not {summary} ({type(error).__name__}); the worker's log says why"
                await self._update_alert(connection, result.experiment, problem)
                raise
            await self._update_alert(connection, result.experiment, None)
            if changed is None:
                return result
            await self._publish(connection, changed)
        log.info("segmentation changed automatically", experiment=experiment_id, change=summary)
        return replace(result, experiment=changed, action=summary)

    async def _gather_findings(self, connection: Connection, experiment_id: str) -> Findings:
        async with snapshot(connection):
            experiment = await experiments.require(connection, experiment_id)
            return await gather_findings(connection, self._secrets, experiment, self._clock())

    async def _store_recommendations(
        self, connection: Connection, findings: Findings, proposals: list[Proposal]
    ) -> tuple[CheckResult, Recommendation | None]:
        """Store the proposals as recommendations, and return the one that Samplit may accept itself.

        Nothing is stored where the experiment has changed since the findings were read. People get a notice of each new
        recommendation, except the one that Samplit accepts.
        """
        now = self._clock()
        chosen = None
        async with connection.transaction():
            locked = await experiments.require(connection, findings.experiment.experiment_id, lock=True)
            experiment = await self._restore_baseline_share(connection, locked, now)
            await serving_state.note_check(connection, locked.experiment_id, now)
            if findings.pending_segmentation is not None or not await _is_unchanged(connection, locked, findings):
                return CheckResult(experiment, findings.eligibility, proposals), None
            stored, new = await recommendations.propose(connection, locked, proposals, now)
            if locked.segmentation.auto_activation:
                chosen = await _choose_automatic_change(connection, locked, stored)
            for each in new:
                if each is not chosen:
                    await notify_of_recommendation(connection, locked, each.proposal, now)
        if experiment is not locked:
            await self._publish(connection, experiment)
        return CheckResult(experiment, findings.eligibility, proposals, stored), chosen

    async def _restore_baseline_share(
        self, connection: Connection, experiment: Experiment, now: datetime
    ) -> Experiment:
        """Set the usual baseline share again, once the time of a larger one is over. Return the experiment as it is."""
        state = await serving_state.state(connection, experiment.number)
        if state.baseline_share_after is None or state.baseline_share_until is None or state.baseline_share_until > now:
            return experiment
        await serving_state.plan_baseline(connection, experiment.number, None, None)
        restored = replace(experiment, baseline_share=state.baseline_share_after)
        old, new = {"baseline_share": experiment.baseline_share}, {"baseline_share": restored.baseline_share}
        await audit.record(connection, experiment.number, audit.SAMPLIT, "experiment.update", old, new, now)
        return await experiments.update(connection, restored, now)

    async def _publish(self, connection: Connection, experiment: Experiment) -> None:
        """Publish the experiment. If Redis is out of reach, the reconciler publishes it when it is back."""
        with suppress(*UNREACHABLE):
            await publish_current(connection, self._redis, self._secrets, experiment.experiment_id)

    async def _accept(
        self, connection: Connection, experiment: Experiment, recommendation: Recommendation
    ) -> Experiment | None:
        """Accept a recommendation as Samplit. Return the changed experiment; None if that is not allowed any more."""
        now = self._clock()
        async with connection.transaction():
            locked = await experiments.require(connection, experiment.experiment_id, lock=True)
            if not locked.segmentation.auto_activation:
                return None
            if not await recommendations.holds(connection, recommendation, locked, now):
                return None
            return await accept_recommendation(connection, locked, recommendation, audit.SAMPLIT, now)

    async def _update_alert(self, connection: Connection, experiment: Experiment, problem: str | None) -> None:
        async with connection.transaction():
            kind = AlertKind.AUTO_ACTIVATION_FAILED
            await update_alert(connection, experiment, kind, "", problem, self._clock())


async def _is_unchanged(connection: Connection, experiment: Experiment, findings: Findings) -> bool:
    """Return whether what the findings rest on is still so. The caller holds the experiment FOR UPDATE."""
    then = findings.experiment
    return (
        experiment.segmentation_version == then.segmentation_version
        and (experiment.state, experiment.variants) == (then.state, then.variants)
        and await segmentations.pending(connection, experiment.number) is None
    )


async def _choose_automatic_change(
    connection: Connection, experiment: Experiment, stored: Sequence[Recommendation]
) -> Recommendation | None:
    """Return the first recommendation that Samplit may accept itself, if any.

    It may segment by a dimension, turn off a segmentation that came from a recommendation, and try clusters once.
    """
    origin = (await serving_state.state(connection, experiment.number)).recommendation_id
    for each in stored:
        match each.proposal.kind:
            case RecommendationKind.SEGMENT_BY:
                return each
            case RecommendationKind.TURN_OFF if origin is not None:
                return each
            case RecommendationKind.USE_CLUSTERS if experiment.segmentation.auto_clustering_enabled:
                if not await recommendations.was_accepted(connection, experiment, each.proposal.kind):
                    return each
    return None


def _late_preparation(findings: Findings) -> str | None:
    """Return why a segmentation that Samplit began does not serve after an hour; None if there is no such problem."""
    pending = findings.pending_segmentation
    if pending is None or pending.actor != audit.SAMPLIT or findings.now - pending.created_at < _PREPARED_WITHIN:
        return None
    if pending.mode is SegmentationMode.AUTO and pending.model_version is None:
        missing = "its clusters are not trained (see `samplit clusters status`)"
    else:
        missing = "users who came before are not assigned to its segments yet (is a worker running?)"
    return f"the segmentation that Samplit began is not ready after an hour: {missing}"
