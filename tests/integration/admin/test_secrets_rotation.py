"""The keyset gets a new primary key while users come: stored state is encrypted anew, and nothing is lost."""

import asyncio
import json
import shutil
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from server.maintenance.reencrypt import Reencrypted, reencrypt
from server.worker.reencryption import Reencryption
from storage.encryption import Secrets, load_secrets, prepare_key, use_prepared_key
from storage.postgres.pool import close_pool, connect, create_pool
from storage.postgres.segmentation import cluster_models
from storage.redis import api_keys, keys, published
from storage.redis.client import create_client
from tests.faults.installation import cli
from tests.support.clusters import clustered
from tests.support.segmentation import counts_agree, drained, load_on
from tests.support.service import Service
from tests.support.waiting import eventually


async def ciphertexts(connection: asyncpg.Connection, redis: Redis) -> list[bytes]:
    """Return everything that is stored encrypted."""
    rows = await connection.fetch(
        "SELECT ciphertext FROM segment_posteriors UNION ALL SELECT ciphertext FROM clustering_models"
    )
    fields = await redis.hgetall(keys.experiment("cta"))
    published_states = [
        value for name, value in fields.items() if name in (b"sealed", b"posterior") or name.startswith(b"model:")
    ]
    return [row["ciphertext"] for row in rows] + published_states + await redis.hvals(keys.SEALED_API_KEYS)


def only_with_newest_key(secrets: Path, folder: Path) -> Secrets:
    """Return the secrets as somebody has them whose keyset lacks the old keys."""
    shutil.copytree(secrets, folder)
    path = folder / "keyset.json"
    keyset = json.loads(path.read_text())
    keyset["key"] = keyset["key"][-1:]
    path.write_text(json.dumps(keyset))
    return load_secrets(folder)


async def test_stored_state_is_encrypted_anew_while_users_come(
    service: Service, worker: None, dsn: str, redis: Redis, tmp_path: Path
) -> None:
    await clustered(service)
    folder = service.settings.secrets_directory
    secrets = load_secrets(folder)
    connection = await connect(dsn)
    old = (await ciphertexts(connection, redis))[0][:5]
    assert {each[:5] for each in await ciphertexts(connection, redis)} == {old}
    # The posterior and the model in both stores, and in Redis the configuration and the API key.
    assert len(await ciphertexts(connection, redis)) == 6
    async with load_on(service) as answered:
        await eventually(lambda: len(answered) > 20)
        prepare_key(folder)
        use_prepared_key(folder)
        before = len(answered)
        await eventually(lambda: len(answered) > before + 20)
        done = await reencrypt(connection, redis, secrets)
        assert done.unreadable == 0
        assert (
            done.replaced >= 3
        )  # the models and the configuration; the posteriors may have been published anew before
        before = len(answered)
        await eventually(lambda: len(answered) > before + 20)
    assert {each[:5] for each in await ciphertexts(connection, redis)} == {secrets.primary_prefix}
    assert secrets.primary_prefix != old

    variants = dict(answered)
    assert all(variants[user] == variant for user, variant in answered), "a user's variant changed"
    await drained(redis)
    await counts_agree(dsn)
    newest = only_with_newest_key(folder, tmp_path / "newest")
    found = await published.load(redis, newest, "cta")
    assert found is not None
    assert found.posterior is not None
    assert await api_keys.load(redis, newest) == await api_keys.load(redis, secrets) != {}
    model = await cluster_models.load(connection, newest, found.experiment.number, 1)
    assert len(model.numbers) == 3
    assert not (await reencrypt(connection, redis, secrets)).replaced
    await connection.close()


async def test_a_worker_finishes_what_a_killed_command_left(service: Service, dsn: str, redis: Redis) -> None:
    """Nothing is published meanwhile, as of an experiment that is complete. One posterior is damaged."""
    connection = await connect(dsn)
    for name in ("cta", "damaged", "later"):
        await service.running(experiment_id=name)
        await redis.hset(keys.experiment(name), "posterior:version", 1)
    folder = service.settings.secrets_directory
    secrets = load_secrets(folder)
    for name in ("cta", "later"):
        ciphertext = secrets.encrypt(b"state", f"posterior/{name}/1".encode())
        await redis.hset(keys.experiment(name), "posterior", ciphertext)
    await redis.hset(keys.experiment("damaged"), "posterior", secrets.encrypt(b"state", b"posterior/cta/1"))
    pool = await create_pool(dsn, size=2)
    reencryption = Reencryption(pool, redis, secrets)
    await reencryption.run_once()
    prepare_key(folder)
    await reencryption.run_once()
    assert secrets.primary_prefix == await prefix(redis, "cta"), "a key that is only prepared changes nothing"
    use_prepared_key(folder)
    await reencryption.run_once()
    assert {await prefix(redis, name) for name in ("cta", "later")} == {secrets.primary_prefix}
    assert await prefix(redis, "damaged") != secrets.primary_prefix
    await close_pool(pool)
    await connection.close()


async def prefix(redis: Redis, experiment_id: str) -> bytes:
    """Return the part of a published posterior that names its key."""
    posterior = await redis.hget(keys.experiment(experiment_id), "posterior")
    assert posterior is not None
    return bytes(posterior[:5])


async def test_with_external_stores_the_new_key_is_prepared_first(service: Service) -> None:
    """Other machines may share the stores, and could not read what a key encrypts that they do not have."""
    folder = service.settings.secrets_directory
    dsn, url = service.settings.stores
    variables = {"SAMPLIT_POSTGRES_DSN": dsn, "SAMPLIT_REDIS_URL": url, "SAMPLIT_DATA_DIR": str(folder.parent)}
    before = (folder / "keyset.json").read_text()
    early = await asyncio.to_thread(cli, "secrets", "rotate", **variables)
    assert early.returncode == 1
    assert "samplit secrets prepare" in early.stderr
    assert (folder / "keyset.json").read_text() == before
    prepared = await asyncio.to_thread(cli, "secrets", "prepare", **variables)
    assert "copy the file to all other machines" in " ".join(prepared.stdout.split())
    primary = service.secrets.primary_prefix
    rotated = await asyncio.to_thread(cli, "secrets", "rotate", **variables)
    assert rotated.returncode == 0, rotated.stderr
    assert service.secrets.primary_prefix != primary
    assert not (await reencrypt_again(service)).replaced


async def reencrypt_again(service: Service) -> Reencrypted:
    connection = await connect(service.settings.stores[0])
    redis = create_client(service.settings.stores[1])
    try:
        return await reencrypt(connection, redis, service.secrets)
    finally:
        await redis.aclose()
        await connection.close()
