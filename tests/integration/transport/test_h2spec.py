"""The cases of h2spec, a conformance suite for HTTP/2 servers, in both of its modes.

h2spec is taken from PATH, or built into build/tools if Go is there and its module can be had.
"""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.transport.support import serving

_MODULE = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
_TOOLS = Path(__file__).parents[3] / "build" / "tools"
_BUILD_SECONDS = 300


@pytest.fixture(scope="module")
def h2spec() -> str:
    found = shutil.which("h2spec", path=f"{_TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is not None:
        return found
    if shutil.which("go") is None:
        pytest.skip("neither h2spec nor Go to build it are there")
    environment = {**os.environ, "GOBIN": str(_TOOLS), "GOFLAGS": "-mod=mod"}
    built = subprocess.run(
        ["go", "install", _MODULE], env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS
    )
    if built.returncode:
        pytest.skip(f"h2spec cannot be built: {built.stderr[-200:]}")
    return str(_TOOLS / "h2spec")


@pytest.mark.parametrize(("mode", "cases"), [((), 145), (("--strict",), 146)])
async def test_every_case_passes(h2spec: str, mode: tuple[str, ...], cases: int):
    async with serving() as served:
        command = [h2spec, "-h", "127.0.0.1", "-p", str(served.port), "--timeout", "5", *mode]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert served.failures == []
    report = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert f"{cases} tests, {cases} passed, 0 skipped, 0 failed" in report, report[report.find("Failures:") :]
