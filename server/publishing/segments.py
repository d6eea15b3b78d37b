"""Publishes what a configuration names: segment registries and cluster models."""

from storage.postgres.pool import Connection
from storage.postgres.segmentation import cluster_models, segmentations
from storage.redis import keys, publications, segment_registry
from storage.redis.client import Client


async def publish_segments(connection: Connection, redis: Client, experiment_number: int) -> None:
    """Fill the registries that Redis lacks, of every segmentation, and publish the models in use.

    Call it before the configuration that names them is published.
    """
    for experiment_id, version, ciphertext in await cluster_models.in_use(connection, experiment_number):
        await publications.publish_model(redis, experiment_id, version, ciphertext)
    for version, numbers in (await segmentations.registries(connection, experiment_number)).items():
        await segment_registry.restore(redis, keys.segments(experiment_number, version), numbers)
