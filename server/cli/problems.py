"""Turns what a server answers when it refuses into lines for people."""

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def describe_status(status: status_pb2.Status) -> str:
    """Return the code's name and the message, then a line for each violated field that the message leaves out."""
    lines = [f"{_CODES.get(status.code, status.code)}: {status.message}"]
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request):
            violations = (f"{v.field}: {v.description}" for v in bad_request.field_violations)
            lines += [f"  {text}" for text in violations if text not in status.message]
    return "\n".join(lines)


def describe_call(error: grpc.RpcError, address: str) -> str:
    """Return what a person should know of a failed call. `address` is the host:port that was called."""
    if not isinstance(error, grpc.Call):
        return f"the call to {address} failed: {error}"
    status = rpc_status.from_call(error)
    if status is not None:
        return describe_status(status)
    details = (error.details() or "").rpartition("last error: ")[2]
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return (
            f"no server answers at {address} (UNAVAILABLE: {details}): "
            "start it with `samplit serve`, or name another with --address"
        )
    return f"{error.code().name}: {details}"
