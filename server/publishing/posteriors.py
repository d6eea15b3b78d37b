"""Makes posterior versions: counts become tables, which are encrypted and stored in Postgres."""

from allocator.experiment import Experiment
from allocator.posterior.tables import posterior_tables
from server.clock import Clock
from storage.encryption import Secrets
from storage.postgres.counts import cohorts, counts
from storage.postgres.experiments import posteriors
from storage.postgres.pool import Connection
from storage.publication import SealedPosterior
from storage.sealing import seal_posterior


async def advance_posterior(
    connection: Connection, secrets: Secrets, experiment: Experiment, clock: Clock
) -> SealedPosterior:
    """Make and store the next posterior version from all counts.

    Call it in a transaction, and publish the experiment after the commit.
    """
    version = await posteriors.posterior_version(connection, experiment.number) + 1
    now = clock()
    live = [variant for variant in experiment.variants if not variant.retired]
    cell = experiment.number, experiment.segmentation_version
    tables = posterior_tables(
        version,
        experiment.segmentation_version,
        [variant.number for variant in live],
        await counts.daily_counts(connection, *cell),
        await cohorts.immature(connection, *cell, experiment.maturity_seconds, now),
        {variant.number for variant in live if variant.added_later},
    )
    ciphertext = seal_posterior(secrets, experiment.experiment_id, tables)
    await posteriors.store(connection, experiment.number, version, ciphertext, now)
    return SealedPosterior(version, ciphertext, now)
