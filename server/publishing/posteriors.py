"""Publishes posterior versions: counts to tables, sealed, into Postgres and Redis.

One code path for the worker, which does it when counts changed, and for commands that add or retire variants.
"""

from allocator.experiment import Experiment
from allocator.posterior.tables import posterior_tables
from server.clock import Clock
from storage.encryption import Secrets
from storage.postgres.counts import cohorts, counts
from storage.postgres.experiments import posteriors
from storage.postgres.experiments.posteriors import SealedPosterior
from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models, segmentations
from storage.redis import keys, publications, segment_registry
from storage.redis.client import Client
from storage.redis.publications import seal_posterior


async def advance_posterior(
    connection: Connection, secrets: Secrets, experiment: Experiment, clock: Clock
) -> SealedPosterior:
    """Make the next version from all counts there are. Call it in a transaction; publish what it answers after it."""
    version = await posteriors.posterior_version(connection, experiment.number) + 1
    now = clock()
    live = [variant for variant in experiment.variants if not variant.retired]
    cell = experiment.number, experiment.segmentation_version
    tables = posterior_tables(
        version,
        experiment.segmentation_version,
        [variant.number for variant in live],
        await counts.daily_counts(connection, *cell),
        await cohorts.pending(connection, *cell, experiment.maturity_seconds, now),
        {variant.number for variant in live if variant.added_later},
    )
    ciphertext = seal_posterior(secrets, experiment.experiment_id, tables)
    await posteriors.store(connection, experiment.number, version, ciphertext, now)
    return SealedPosterior(version, ciphertext, now)


async def publish_segments(connection: Connection, redis: Client, experiment_number: int) -> None:
    """Fill the registries that Redis lacks, of every segmentation, and publish the models that label.

    To be done before the configuration is published.
    """
    for experiment_id, version, ciphertext in await cluster_models.in_use(connection, experiment_number):
        await publications.publish_model(redis, experiment_id, version, ciphertext)
    for version, numbers in (await segmentations.registries(connection, experiment_number)).items():
        await segment_registry.restore(redis, keys.segments(experiment_number, version), numbers)
