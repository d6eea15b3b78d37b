"""Whoever can write to Redis can neither make a key nor change an experiment."""

import asyncio
from hashlib import sha256

import grpc
import pytest
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_service_pb2
from samplit.allocation.v1 import allocation_service_pb2 as pb

from storage.encryption import load_secrets
from storage.redis import change_notices, keys, published
from tests.conftest import Clock
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import eventually

FORGED = "samplit_00000000_forged"
HASH = sha256(FORGED.encode()).digest()


async def lets_in(service: Service, key: str) -> bool:
    metadata = [("authorization", f"Bearer {key}")]
    try:
        await service.admin.ListExperiments(experiment_service_pb2.ListExperimentsRequest(), metadata=metadata)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_key_that_was_written_into_redis_opens_nothing(service: Service, redis: Redis) -> None:
    """Neither as text, nor under the ciphertext of another key."""
    (real,) = (await redis.hgetall(keys.SEALED_API_KEYS)).values()
    await redis.hset(keys.API_KEYS, HASH, "00000000 allocate admin")
    for sealed in (real, b"00000000 allocate admin", real[:-1] + bytes([real[-1] ^ 1]), b""):
        await redis.hset(keys.SEALED_API_KEYS, HASH, sealed)
        await redis.publish(keys.CHANGE_NOTICES, "keys")
        await asyncio.sleep(0.05)
        assert not await lets_in(service, FORGED)
    await service.application._authenticator.reload()
    refusal = await refused(
        service.admin.ListExperiments(
            experiment_service_pb2.ListExperimentsRequest(), metadata=[("authorization", f"Bearer {FORGED}")]
        )
    )
    assert refusal.reason == "KEY_INVALID"
    assert await lets_in(service, service.key)


async def test_a_key_that_another_installation_sealed_opens_nothing(service: Service, redis: Redis) -> None:
    (name,) = await redis.hkeys(keys.SEALED_API_KEYS)
    sealed = await redis.hget(keys.SEALED_API_KEYS, name)
    other = load_secrets(service.settings.data_dir / "others")
    await redis.hset(keys.SEALED_API_KEYS, name, other.encrypt(b"x allocate admin", b"api-key/" + name))
    await service.application._authenticator.reload()
    assert await lets_in(service, service.key) is False
    await redis.hset(keys.SEALED_API_KEYS, name, sealed)
    await service.application._authenticator.reload()
    assert await lets_in(service, service.key)


@pytest.mark.parametrize("how", ["text", "moved", "damaged", "older"])
async def test_a_configuration_that_was_written_into_redis_is_not_believed(
    service: Service, redis: Redis, how: str
) -> None:
    await service.running()
    await service.running(experiment_id="other")
    one, two = keys.experiment("cta"), keys.experiment("other")
    real = await redis.hget(one, "sealed")
    assert await redis.hget(one, "config")  # servers of the release before read it
    if how == "text":
        text = (await redis.hget(one, "config")).replace(b"text of", b"owned")
        await redis.hset(one, mapping={"config": text, "config:version": 10**6})
    elif how == "moved":
        await redis.hset(one, mapping={"sealed": await redis.hget(two, "sealed"), "sealed:version": 10**6})
    elif how == "older":
        await redis.hset(one, mapping={"sealed": real, "sealed:version": 10**6})
    else:
        await redis.hset(one, mapping={"sealed": real[:-1] + bytes([real[-1] ^ 1]), "sealed:version": 10**6})
    await change_notices.send(redis, "config", "cta")
    await asyncio.sleep(0.2)
    fresh = service.application.data_plane.catalog
    fresh._snapshots.pop("cta", None)
    answer = await service.allocate("cta", "u1")
    assert "text of" in answer.variant.content["text"]


async def test_a_publisher_of_the_release_before(service: Service, redis: Redis, clock: Clock, worker: None) -> None:
    """It writes text alone: servers ask PostgreSQL until a worker of this release has sealed what it wrote."""
    await service.running()
    key = keys.experiment("cta")
    await redis.hdel(key, "sealed", "sealed:version")
    await redis.delete(keys.SEALED_API_KEYS)
    with pytest.raises(published.NotSealedError):
        await published.load(redis, service.secrets, "cta")
    service.application.data_plane.catalog._snapshots.clear()
    assert (await service.allocate("cta", "u1")).variant_id

    async def is_sealed() -> bool:
        return bool(await redis.hget(key, "sealed")) and bool(await redis.hgetall(keys.SEALED_API_KEYS))

    await eventually(is_sealed, seconds=15)
    assert (await published.load(redis, service.secrets, "cta")) is not None


async def test_a_server_starts_beside_workers_of_the_release_before(service: Service, redis: Redis) -> None:
    await redis.delete(keys.SEALED_API_KEYS)
    await service.application._publish_keys()
    await service.application._authenticator.reload()
    allocate = pb.AllocateUserRequest(experiment_id="cta", user_identifier="u1")
    refusal = await refused(service.allocation.AllocateUser(allocate, metadata=service.metadata))
    assert refusal.reason == "EXPERIMENT_NOT_FOUND"
