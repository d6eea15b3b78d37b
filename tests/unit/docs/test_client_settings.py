"""The service config that people paste from the page about clients does what the page says."""

import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from samplit.allocation.v1 import allocation_service_pb2 as pb
from samplit.allocation.v1.allocation_service_pb2_grpc import (
    AllocationServiceServicer,
    AllocationServiceStub,
    add_AllocationServiceServicer_to_server,
)

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "operation" / "connect-clients.md"


class Unreliable(AllocationServiceServicer):
    """Refuses the first calls."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self.codes = list(codes)

    async def AllocateUser(self, request: pb.AllocateUserRequest, context: Any) -> object:  # noqa: N802 (gRPC's name)
        if self.codes:
            await context.abort(self.codes.pop(0), "not now")
        return pb.AllocateUserResponse(variant_id="control")


async def test_the_pasted_service_config_repeats_what_may_be_repeated() -> None:
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    config = json.dumps(json.loads(found[1]))
    code = grpc.StatusCode
    servicer = Unreliable(code.UNAVAILABLE, code.CANCELLED)
    server = grpc.aio.server()
    add_AllocationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.service_config", config)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub = AllocationServiceStub(channel)
        assert (await stub.AllocateUser(pb.AllocateUserRequest())).variant_id == "control"
        servicer.codes = [code.INVALID_ARGUMENT]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AllocateUser(pb.AllocateUserRequest())
        assert refused.value.code() is code.INVALID_ARGUMENT
    await server.stop(None)
