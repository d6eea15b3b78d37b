"""Errors as statuses: each has a code, and a fault inside is never reported as the caller's."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from allocator import defects, errors
from server.api.status import as_samplit_error, status_of_failure, to_status

ROOT = Path(__file__).parents[3]
READERS_OF_REQUESTS = {"allocator/context/extract.py", "allocator/hashing.py", "allocator/segments.py"}


def with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    for each in kind.__subclasses__():
        yield from with_subclasses(each)


@pytest.mark.parametrize("kind", with_subclasses(errors.SamplitError))
def test_every_error_has_a_code(kind: type[errors.SamplitError]) -> None:
    error = kind.__new__(kind)
    errors.SamplitError.__init__(error, "why", key="value")
    if isinstance(error, errors.InvalidFieldError):
        error.violations = ()
    status = to_status(error)
    assert status.code != code_pb2.OK
    assert (status.code == code_pb2.INTERNAL) == (kind is errors.SamplitError)


@pytest.mark.parametrize("kind", with_subclasses(defects.DefectError))
def test_a_defect_is_internal_and_keeps_its_text(kind: type[defects.DefectError]) -> None:
    error = kind("alpha[3, 1] must be above 0")
    assert as_samplit_error(error) is None
    status = status_of_failure(error, "/samplit.admin.v1.ExperimentService/GetExperimentResults")
    assert status.code == code_pb2.INTERNAL
    assert status.message == "the server failed; its log says why"


def test_below_the_server_only_what_reads_requests_blames_the_caller() -> None:
    blaming = {
        str(path.relative_to(ROOT))
        for room in ("allocator", "storage")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and node.exc is not None and "InvalidFieldError" in ast.unparse(node.exc)
    }
    assert blaming == READERS_OF_REQUESTS
