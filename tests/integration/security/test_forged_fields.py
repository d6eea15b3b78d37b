"""Page tokens that nobody was given, names that would steer a terminal, numbers that a Struct cannot hold."""

import base64
import struct
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import InvalidFieldError
from server.api.admin.page_tokens import PageTokens
from tests.support.service import Service, experiment
from tests.support.status import refused

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
LISTS: dict[str, dict[str, Any]] = {
    "ListExperiments": {},
    "ListAlerts": {},
    "ListAuditEvents": {},
    "ListRecommendations": {"experiment_id": "cta"},
    "ListSegments": {"experiment_id": "cta"},
    "ListClusterModels": {"experiment_id": "cta"},
}
TOKENS = PageTokens(b"k" * 32)


async def test_forged_page_tokens(service: Service) -> None:
    await service.running()
    for n in range(3):
        await service.call("CreateExperiment", experiment=experiment(experiment_id=f"x{n}"))
    given_token = (await service.call("ListExperiments", page_size=1)).next_page_token
    raw = base64.urlsafe_b64decode(given_token)
    forged = [
        base64.urlsafe_b64encode(struct.pack(">Q", number) + raw[8:]).decode()
        for number in (0, 2, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
    ]
    forged += ["", "=", "é", "A" * 10_000, given_token[:-4], given_token + "AAAA", "\n" + given_token]
    for method, fields in LISTS.items():
        for token in forged[:8] + forged[9:]:
            refusal = await refused(service.call(method, page_token=token, **fields))
            assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, ["page_token"]), (method, token)
    assert (await service.call("ListExperiments", page_size=1, page_token=given_token)).experiments


@given(st.integers(0, 2**63 - 1), st.text())
def test_tokens_are_read_by_who_made_them(number: int, listing: str) -> None:
    token = TOKENS.encode(number, listing)
    assert TOKENS.decode(token, listing) == number
    for other, name in ((PageTokens(b"o" * 32), listing), (TOKENS, f"{listing}x")):
        with pytest.raises(InvalidFieldError):
            other.decode(token, name)


def test_numbers_beyond_the_column() -> None:
    with pytest.raises(InvalidFieldError):
        TOKENS.decode(TOKENS.encode(2**31, "a"), "a", most=2**31 - 1)
    with pytest.raises(InvalidFieldError):
        TOKENS.decode(TOKENS.encode(2**63, "a"), "a")


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\n"])
async def test_control_characters_in_names(service: Service, character: str) -> None:
    evil = f"a{character}b"
    message = experiment(name=evil, owner=evil)
    message.variants[1].name = evil
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    fields = ["experiment.name", "experiment.owner", "experiment.variants[1].name"]
    assert ((refusal.code, refusal.reason), sorted(refusal.fields)) == (INVALID, fields)
    if character != "\n":
        refusal = await refused(service.call("CreateExperiment", experiment=experiment(description=evil)))
        assert refusal.fields == ["experiment.description"]
    await service.call("CreateExperiment", experiment=experiment(description="two\nlines", name="Größe 👩\u200d💻"))
    update = {"experiment": experiment(name=evil), "update_mask": {"paths": ["name"]}}
    assert (await refused(service.call("UpdateExperiment", **update))).fields == ["experiment.name"]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**18, 1e300])
async def test_numbers_that_may_have_changed(service: Service, number: float) -> None:
    message = experiment()
    content = Struct()
    content.update({"order": {"lines": [{"id": 1}, {"id": number}]}, "fine": [2**53 - 1, 1 - 2**53, 0.1, 1e15]})
    message.variants[2].content.CopyFrom(content)
    refusal = await refused(service.call("CreateExperiment", experiment=message))
    path = "experiment.variants[2].content.order.lines[1].id"
    assert ((refusal.code, refusal.reason), refusal.fields) == (INVALID, [path])
    content["order"] = "18014398509481984"
    message.variants[2].content.CopyFrom(content)
    await service.call("CreateExperiment", experiment=message)
