"""Requests at random, to every method of both planes. `make figure NAME=fuzz` sends a million of them."""

import asyncio
from collections import Counter

import grpc

from tests.support.fuzzing import ADMIN, DATA, Answer, Fuzzer, Request, ask
from tests.support.service import Service

_DATA_REQUESTS, _ADMIN_REQUESTS, _AT_ONCE = 4_000, 2_000, 32
_EXPERIMENTS = ["fuzz-a", "fuzz-b"]


async def test_nothing_is_internal_and_nothing_leaks(service: Service) -> None:
    for name in _EXPERIMENTS:
        await service.running(experiment_id=name)
    fuzzer = Fuzzer(1, service.key, _EXPERIMENTS)
    plans = (
        (service.application.port, list(fuzzer.requests(DATA, _DATA_REQUESTS))),
        (service.application.admin_port, list(fuzzer.requests(ADMIN, _ADMIN_REQUESTS))),
    )
    codes: Counter[grpc.StatusCode] = Counter()
    for port, requests in plans:
        answers = await all_answers(port, requests)
        codes.update(answer.code for answer in answers)
        bad = [
            (request.path, request.message[:400], answer)
            for request, answer in zip(requests, answers, strict=True)
            if answer.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) or answer.leak
        ]
        assert not bad, bad[:3]
    assert codes[grpc.StatusCode.OK]
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 1_000
    assert (await service.call("ListExperiments")).experiments


async def all_answers(port: int, requests: list[Request]) -> list[Answer]:
    """The answers, in the order of the requests."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(request: Request) -> Answer:
        async with room:
            return await ask(channel, request)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return list(await asyncio.gather(*(one(request) for request in requests)))
