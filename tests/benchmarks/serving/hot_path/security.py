"""What keys and TLS cost: processor time a call."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.row import Row
from tests.benchmarks.serving.hot_path.bench import POOL, Bench
from tests.benchmarks.testbed.installation import started
from tests.benchmarks.testbed.runs import cpu, load, prime, rounds, row, run
from tests.benchmarks.testbed.testbed import OTHER_CORE, Target, pin_installation, program, served_by
from tests.faults.installation import cli

_UNAUTHENTICATED = frozenset({16})


async def refused_rows(bench: Bench) -> list[Row]:
    """Calls without a key, which must cost little."""
    ours = bench.bed.ours
    pool = await prime(ours, POOL)
    await bench.bed.drained()
    runs = await rounds(
        bench.bed,
        {
            "new": lambda: run(ours, load(ours)),
            "returning": lambda: run(ours, load(ours, **pool)),
            "refused": lambda: run(ours, load(ours, key=None), statuses=_UNAUTHENTICATED),
        },
    )
    time = cpu(runs)
    return [
        row("refused without a key: CPU a call", "a new user", time["new"], time["refused"], "µs", "≤ 0.3"),
        row("refused without a key: CPU a call", "a returning user", time["returning"], time["refused"], "µs"),
    ]


async def tls_rows(bench: Bench) -> list[Row]:
    """A second installation, which speaks TLS. Both are behind a tunnel, because the load generator speaks no TLS."""
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.stderr.write("no rows over TLS: there is no openssl to make a certificate with\n")
        return []
    async with (
        _tunnel(bench.bed.ours) as plain,
        _over_tls(openssl) as (target, certificate),
        _tunnel(target, certificate) as secure,
    ):
        pools = {each: await prime(each, POOL) for each in (plain, secure)}
        await bench.bed.drained()
        runs = await rounds(
            bench.bed,
            {
                "new, plain": lambda: run(plain, load(plain)),
                "new, secure": lambda: run(secure, load(secure)),
                "returning, plain": lambda: run(plain, load(plain, **pools[plain])),
                "returning, secure": lambda: run(secure, load(secure, **pools[secure])),
            },
        )
    time = cpu(runs)
    return [
        row(
            f"over TLS, {kind} users: CPU a call",
            "plaintext",
            time[f"{kind}, plain"],
            time[f"{kind}, secure"],
            "µs",
            goal,
        )
        for kind, goal in (("new", "≤ 1.8"), ("returning", "-"))
    ]


@asynccontextmanager
async def _over_tls(openssl: str) -> AsyncIterator[tuple[Target, Path]]:
    """An installation with the experiment "off", and the file of its certificate."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(
            [openssl, *request, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
        tls = {"SAMPLIT_TLS_PRIVATE_KEY_FILE": str(key), "SAMPLIT_TLS_CERTIFICATE_FILE": str(certificate)}
        async with started(SAMPLIT_APPENDFSYNC="everysec", **tls) as (installation, endpoints):
            pin_installation(installation)
            variants = [f'--variant={name}={{"text": "Start now"}}' for name in ("Control", "A", "B")]
            data = ("--data-dir", str(installation.path))
            created = cli("experiments", "create", "off", *variants, "--start", *data)
            assert created.returncode == 0, created.stderr
            worker = installation.recorded("worker")
            worker.suspend()
            try:
                yield served_by(installation, endpoints), certificate
            finally:
                worker.resume()


@asynccontextmanager
async def _tunnel(target: Target, *certificates: Path) -> AsyncIterator[Target]:
    """The same target behind a tunnel, over TLS if there are certificates to trust."""
    command = (sys.executable, "-m", "tests.benchmarks.testbed.tunnel", str(target.port), *map(str, certificates))
    async with program(*command, core=OTHER_CORE) as tunnel:
        yield replace(target, port=tunnel.port)
