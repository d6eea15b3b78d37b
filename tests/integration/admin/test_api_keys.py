"""Keys that expire, and keys that new ones replace: on both planes, and while Redis is away."""

from datetime import timedelta

import asyncpg
import pytest
from grpc import StatusCode as Code
from grpc.aio import AioRpcError
from redis.asyncio import Redis

from allocator.errors import InvalidFieldError
from server.maintenance import api_keys
from server.maintenance.api_keys import NewKey
from storage.postgres.operations import api_keys as stored_keys
from storage.postgres.pool import connect
from tests.conftest import Clock
from tests.support.service import Service
from tests.support.status import refused
from tests.support.waiting import eventually


async def answers(service: Service, key: NewKey) -> list[bool]:
    """Return whether each plane accepts a key: the control plane, and the data plane."""
    as_key = Service(service.application, service.allocation, service.services, service.settings, key.text)
    accepted = []
    for call in (lambda: as_key.call("GetExperiment", experiment_id="cta"), lambda: as_key.allocate("cta", "user")):
        try:
            await call()
            accepted.append(True)
        except AioRpcError as error:
            accepted.append(error.code() is not Code.UNAUTHENTICATED)
    return accepted


async def is_accepted(service: Service, key: NewKey) -> bool:
    return all(await answers(service, key))


async def is_refused(service: Service, key: NewKey) -> bool:
    return not any(await answers(service, key))


async def test_a_key_expires_while_it_is_in_use(service: Service, clock: Clock, dsn: str, redis: Redis) -> None:
    """The last call before and the first call after carry the same headers, whose check a server remembers."""
    await service.running()
    connection = await connect(dsn)
    key = await api_keys.create(
        connection,
        redis,
        service.secrets,
        name="edge",
        scopes=api_keys.SCOPES,
        lifetime=timedelta(hours=1),
        actor="cli",
        now=clock.now,
    )
    await connection.close()
    await eventually(lambda: is_accepted(service, key))
    clock.advance(minutes=59)
    assert await is_accepted(service, key)
    clock.advance(minutes=1)
    await eventually(lambda: is_refused(service, key))
    as_key = Service(service.application, service.allocation, service.services, service.settings, key.text)
    for call in (as_key.call("GetExperiment", experiment_id="cta"), as_key.allocate("cta", "user")):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "KEY_INVALID")
        assert "expired" in refusal.message


async def test_a_new_key_replaces_an_old_one(service: Service, clock: Clock, dsn: str, redis: Redis) -> None:
    await service.running()
    connection = await connect(dsn)
    by_cli = {"actor": "cli", "now": clock.now}
    old = await api_keys.create(
        connection,
        redis,
        service.secrets,
        name="edge",
        scopes=api_keys.SCOPES,
        **by_cli,
    )
    new = await api_keys.rotate(
        connection,
        redis,
        service.secrets,
        old.key_id,
        grace=timedelta(hours=2),
        **by_cli,
    )
    await eventually(lambda: is_accepted(service, new))
    assert await is_accepted(service, old)
    stored = {key.key_id: key for key in await stored_keys.list_all(connection)}
    assert stored[old.key_id].replaced_by == new.key_id
    assert stored[old.key_id].expires_at == clock.now + timedelta(hours=2)
    assert (stored[new.key_id].name, stored[new.key_id].scopes) == ("edge", api_keys.SCOPES)
    assert stored[new.key_id].expires_at is None
    events = (await service.call("ListAuditEvents", action_prefix="key.rotated")).events
    assert [(event.after["key_id"], event.after["replaced_by"]) for event in events] == [(old.key_id, new.key_id)]
    clock.advance(hours=2)
    await eventually(lambda: is_refused(service, old))
    assert await is_accepted(service, new)
    await connection.close()


async def test_a_new_key_works_as_long_as_the_old_one_was_made_for(
    service: Service, clock: Clock, dsn: str, redis: Redis
) -> None:
    connection = await connect(dsn)
    month, day = timedelta(days=30), timedelta(days=1)
    old = await api_keys.create(
        connection,
        redis,
        service.secrets,
        name="edge",
        scopes=("admin",),
        lifetime=month,
        actor="cli",
        now=clock.now,
    )
    clock.advance(days=29.5)
    new = await api_keys.rotate(
        connection,
        redis,
        service.secrets,
        old.key_id,
        grace=day,
        actor="cli",
        now=clock.now,
    )
    newest = await api_keys.rotate(
        connection,
        redis,
        service.secrets,
        new.key_id,
        grace=day,
        lifetime=day,
        actor="cli",
        now=clock.now,
    )
    stored = {key.key_id: key for key in await stored_keys.list_all(connection)}
    assert stored[old.key_id].expires_at == stored[old.key_id].created_at + month, "a grace does not lengthen a life"
    assert stored[newest.key_id].expires_at == clock.now + day
    created = (await service.call("ListAuditEvents", action_prefix="key.created")).events
    assert created[1].after["expires_at"] == (clock.now + month).isoformat()
    await connection.close()


async def test_only_keys_that_work_are_replaced(dsn: str, redis: Redis, clock: Clock) -> None:
    connection = await connect(dsn)
    by_cli = {"actor": "cli", "now": clock.now}
    day = timedelta(days=1)
    replaced, revoked, expired_key = [
        await api_keys.create(
            connection,
            redis,
            None,
            name=name,
            scopes=("admin",),
            lifetime=day,
            **by_cli,
        )
        for name in ("replaced", "revoked", "expired")
    ]
    await api_keys.rotate(connection, redis, None, replaced.key_id, grace=day, **by_cli)
    await api_keys.revoke(connection, redis, None, revoked.key_id, **by_cli)
    for key_id, now in (
        ("unknown", clock.now),
        (replaced.key_id, clock.now),
        (revoked.key_id, clock.now),
        (expired_key.key_id, clock.now + day),
    ):
        await refuses_to_rotate(connection, redis, key_id, now=now)
    assert len(await stored_keys.list_all(connection)) == 4
    await connection.close()


async def refuses_to_rotate(connection: asyncpg.Connection, redis: Redis, key_id: str, **when: object) -> None:
    with pytest.raises(InvalidFieldError, match=key_id):
        await api_keys.rotate(
            connection,
            redis,
            None,
            key_id,
            grace=timedelta(0),
            actor="cli",
            **when,
        )
