"""The status details of a refused call, unpacked."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    reason: str
    fields: list[str]
    message: str
    metadata: dict[str, str]


async def refused(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail. Return its refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    trailing = dict(failed.value.trailing_metadata())
    assert "grpc-status-details-bin" in trailing, f"the status has no details: {failed.value}"
    return read(status_pb2.Status.FromString(trailing["grpc-status-details-bin"]))


def read(status: status_pb2.Status) -> Refusal:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    assert info.domain == "samplit"
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return Refusal(code, info.reason, [v.field for v in bad.field_violations], status.message, dict(info.metadata))
