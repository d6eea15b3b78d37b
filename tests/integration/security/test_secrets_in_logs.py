"""Every call is driven into a defect; the log has none of the secrets that are at hand there."""

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import structlog
from samplit.allocation.v1 import allocation_service_pb2 as pb

from allocator import hashing
from server import logs
from server.api import status
from storage.encryption import load_secrets
from storage.postgres.pool import connect
from tests.support.service import Service, experiment

INTERNAL = 13
USER = "user-4711@example.com"
ADMIN_CALLS: dict[str, dict[str, Any]] = {
    "CreateExperiment": {"experiment": experiment(experiment_id="other")},
    "UpdateExperiment": {"experiment": experiment(name="New"), "update_mask": {"paths": ["name"]}},
    "ExplainAssignment": {"experiment_id": "cta", "user_identifier": USER},
    "CompleteExperiment": {"experiment_id": "cta", "winner_variant_id": "a"},
    "AcknowledgeAlert": {"alert_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
    "ActivateClusterModel": {"experiment_id": "cta", "model_version": 1},
    "RenameCluster": {"experiment_id": "cta", "segment_key": "cluster:1", "name": "x"},
    "AcceptRecommendation": {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
    "DismissRecommendation": {"recommendation_id": "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10"},
    "GetAudienceBreakdown": {"experiment_id": "cta", "dimensions": ["source"]},
    "UpdateSegmentationConfig": {"experiment_id": "cta", "config": {}, "update_mask": {"paths": ["max_segments"]}},
    "ListExperiments": {},
    "ListAlerts": {},
    "ListAuditEvents": {},
    "ListRecommendations": {},
}


class BrokenError(Exception):
    """A defect."""


def broken(*_: object, **__: object) -> Any:
    raise BrokenError("a defect")


async def secrets_of(service: Service, dsn: str) -> list[str]:
    """Everything that no log may have, in every form that a log could have it."""
    connection = await connect(dsn)
    raw: list[bytes] = [load_secrets(service.settings.secrets_directory).identity]
    raw += [row["salt"] for row in await connection.fetch("SELECT salt FROM experiments")]
    raw += [row["secret_hash"] for row in await connection.fetch("SELECT secret_hash FROM api_keys")]
    await connection.close()
    texts = [USER, service.key, service.key.rpartition("_")[2]]
    for each in raw:
        texts += [each.hex(), repr(bytes(each))[2:-1], json.dumps(repr(bytes(each)))[3:-2]]
    return texts


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process logs."""
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_secret_is_logged(
    service: Service, dsn: str, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.running()
    await service.allocate("cta", USER)
    secrets = await secrets_of(service, dsn)
    monkeypatch.setattr(status, "_throttle", logs.LogThrottle())
    calls = {**{name: {"experiment_id": "cta"} for name in admin_methods(service)}, **ADMIN_CALLS}
    for module in ("allocate", "convert"):
        monkeypatch.setattr(f"server.allocation.{module}.user_key", _deep(broken))
    monkeypatch.setattr("server.api.admin.experiments.explanation.user_key", _deep(broken))
    internal = {
        "AllocateUser": await _is_internal(service.allocate("cta", USER)),
        "RecordConversion": await _is_internal(
            service.convert(user_identifier=USER, experiment_id="cta", event_id="e")
        ),
    }
    batch = pb.AllocateUsersRequest(requests=[pb.AllocateUserRequest(experiment_id="cta", user_identifier=USER)])
    answer = await service.allocation.AllocateUsers(batch, metadata=service.metadata)
    conversion = pb.RecordConversionRequest(user_identifier=USER, experiment_id="cta", event_id="e")
    conversions = pb.RecordConversionsRequest(requests=[conversion])
    recorded = await service.allocation.RecordConversions(conversions, metadata=service.metadata)
    internal |= {
        "AllocateUsers": answer.items[0].status.code == INTERNAL,
        "RecordConversions": recorded.items[0].status.code == INTERNAL,
    }
    for name in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
        monkeypatch.setattr(asyncpg.Connection, name, broken)
    internal |= {name: await _is_internal(service.call(name, **fields)) for name, fields in calls.items()}
    with monkeypatch.context() as patches:
        patches.setattr(type(service.application._authenticator), "authenticate", broken)
        patches.setattr(type(service.application._authenticator), "authenticate_now", broken)
        internal["authentication"] = await _is_internal(service.call("ListExperiments"))
    asyncio.get_running_loop().call_exception_handler({"message": "a task failed", "exception": BrokenError("x")})
    text = stream.getvalue()
    assert [name for name, is_internal in internal.items() if not is_internal] == []
    assert text.count("a defect") >= len(calls)
    for line in text.splitlines():
        assert json.loads(line)["level"]
    for secret in secrets:
        assert secret not in text


def admin_methods(service: Service) -> list[str]:
    return [
        method.name
        for _, messages in service.services
        for described in messages.DESCRIPTOR.services_by_name.values()
        for method in described.methods
    ]


def _deep(fail: Any) -> Any:
    """The function that fails has the secrets among its local variables, as the real one does."""

    def user_key(identity: bytes, user_identifier: str) -> bytes:
        message = identity + user_identifier.encode()
        return fail(hashing, message)

    return user_key


async def _is_internal(call: Any) -> bool:
    try:
        await call
    except Exception as error:
        return "INTERNAL" in str(error)
    return False
