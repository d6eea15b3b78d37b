"""A million requests at random, most of them damaged, to every method of both planes of a running installation."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import psutil
import uvloop
from samplit.admin.v1 import experiment_service_pb2 as admin

from server.runtime.supervision.endpoints import Endpoints
from tests.benchmarks.row import Row
from tests.benchmarks.testbed.installation import started
from tests.faults.installation import Client
from tests.support.fuzzing import ADMIN, DATA, Fuzzer, Request, ask
from tests.support.service import experiment

_ROUNDS = 20  # each with an experiment of its own, since requests complete them
_DATA_REQUESTS, _ADMIN_REQUESTS = 46_000, 4_000  # of a round
_AT_ONCE = 48
_MOST_GROWTH = 64.0  # MiB
_BAD = grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN


@dataclass
class _Tally:
    """The statuses so far, and the first leaks."""

    codes: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


def rows() -> list[Row]:
    """Statuses, leaks, deaths and growth."""
    return uvloop.run(_measure())


async def _measure() -> list[Row]:
    async with started() as (installation, endpoints):
        tally, grown, seconds = _Tally(), 0.0, 0.0
        names = ("server-0", "worker", "postgres", "valkey")
        pids = [installation.recorded(name).pid for name in names]
        server = installation.recorded("server-0")
        client = Client(endpoints, installation.key)
        fuzzer = Fuzzer(1, installation.key, [name for number in range(_ROUNDS + 1) for name in _names(number)])
        for number in range(_ROUNDS + 1):
            begin = time.perf_counter()
            if number == 1:  # the first round warms up
                tally, memory = _Tally(), _mebibytes(server)
            await _round(tally, client, endpoints, fuzzer, number)
            if number:
                seconds += time.perf_counter() - begin
        grown = _mebibytes(server) - memory
        deaths = sum(pid != installation.recorded(name).pid for name, pid in zip(names, pids, strict=True))
        await client.close()
        log = installation.output
    defects = log.count('"calls failed"') + log.count('"item failed"')
    return [*_count_rows(tally, seconds), *_state_rows(deaths, defects, grown)]


async def _round(tally: _Tally, client: Client, endpoints: Endpoints, fuzzer: Fuzzer, number: int) -> None:
    for name in _names(number):
        create = admin.CreateExperimentRequest(experiment=experiment(experiment_id=name))
        await client.admin.CreateExperiment(create, metadata=client.metadata)
        start = admin.StartExperimentRequest(experiment_id=name)
        await client.admin.StartExperiment(start, metadata=client.metadata)
    for address, requests in (
        (endpoints.allocation, fuzzer.requests(DATA, _DATA_REQUESTS)),
        (endpoints.admin, fuzzer.requests(ADMIN, _ADMIN_REQUESTS)),
    ):
        async with grpc.aio.insecure_channel(address) as channel:

            async def send_all(channel: grpc.aio.Channel = channel, requests: Iterator[Request] = requests) -> None:
                for request in requests:
                    answer = await ask(channel, request)
                    tally.codes[answer.code.name] += 1
                    if answer.code in _BAD:
                        tally.bad.append(f"{request.path} {answer.code.name}: {answer.texts}")
                    if answer.leak:
                        tally.leaks.append(f"{request.path}: {answer.leak}")

            await asyncio.gather(*(send_all() for _ in range(_AT_ONCE)))


def _names(number: int) -> list[str]:
    return [f"fuzz-{number}-{letter}" for letter in "ab"]


def _count_rows(tally: _Tally, seconds: float) -> list[Row]:
    total = tally.codes.total()
    statuses = ", ".join(f"{name} {count:,}" for name, count in tally.codes.most_common())
    return [
        Row(
            figure="requests to all methods of both planes",
            reference="1,000,000",
            ours=f"{total:,}: {statuses}",
            ratio=total / 1_000_000,
            spread=f"{total / seconds:,.0f} a second",
            goal="≥ 1,000,000",
            holds=total >= 1_000_000,
        ),
        *(_none(f"answers with {code.name}", tally.codes[code.name], tally.bad) for code in _BAD),
        _none("answers with words of Python or of a driver", len(tally.leaks), tally.leaks),
    ]


def _state_rows(deaths: int, defects: int, grown: float) -> list[Row]:
    return [
        _none("defects in the log", defects, []),
        _none("processes that died", deaths, []),
        Row(
            figure="growth of the server process after the first round",
            reference=f"{_MOST_GROWTH:g} MiB",
            ours=f"{grown:.0f} MiB",
            ratio=grown / _MOST_GROWTH,
            spread="-",
            goal=f"≤ {_MOST_GROWTH:g} MiB",
            holds=grown <= _MOST_GROWTH,
        ),
    ]


def _none(figure: str, count: int, examples: list[str]) -> Row:
    return Row(
        figure=figure,
        reference="0",
        ours=f"{count:,}" + (f", such as {examples[0][:300]}" if examples else ""),
        ratio=float(count),
        spread="-",
        goal="0",
        holds=count == 0,
    )


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)
