"""Two server processes on two cores, with everything else beside the second, against one process."""

from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import POOL, Bench
from tests.benchmarks.testbed.installation import started
from tests.benchmarks.testbed.runs import cpu, load, prime, rates, rounds, row, run
from tests.benchmarks.testbed.testbed import OTHER_CORE, Testbed, pin, pin_installation, served_by

_CROWD, _CONNECTIONS = 64, 32  # connections, not calls, are spread over processes


async def rows(bench: Bench) -> list[Row]:
    """Calls a second, reported without a goal: the second process shares its core with the load generator."""
    bed, one = bench.bed, bench.bed.ours
    async with started(SAMPLIT_PROCESSES="2", SAMPLIT_APPENDFSYNC="everysec") as (installation, endpoints):
        pin_installation(installation)
        pin(installation.recorded("server-1"), OTHER_CORE)
        second = Testbed(installation, endpoints)
        await second.start("off")
        two = served_by(installation, endpoints, processes=2)
        crowd = {"concurrency": _CROWD, "connections": _CONNECTIONS}
        pools = {each: await prime(each, POOL) for each in (one, two)}
        await bed.drained()
        with second.quiet():
            runs = await rounds(
                bed,
                {
                    "new, one": lambda: run(one, load(one, **crowd)),
                    "new, two": lambda: run(two, load(two, **crowd)),
                    "returning, one": lambda: run(one, load(one, **crowd, **pools[one])),
                    "returning, two": lambda: run(two, load(two, **crowd, **pools[two])),
                },
            )
        await second.close()
    rate, time = rates(runs), cpu(runs)
    found = []
    for kind in ("new", "returning"):
        name = f"two processes, {kind} users, {_CROWD} calls under way"
        found += [
            row(f"{name}: calls a second", "one process", rate[f"{kind}, one"], rate[f"{kind}, two"], "calls/s"),
            row(f"{name}: CPU a call", "one process", time[f"{kind}, one"], time[f"{kind}, two"], "µs"),
        ]
    return found
