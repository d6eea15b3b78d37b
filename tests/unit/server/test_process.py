"""A child process that cannot start says why in one line of the log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("role", ["server", "worker"])
def test_a_mistake_of_the_operator_has_no_traceback(tmp_path: Path, role: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLIT_")}
    environment |= {"SAMPLIT_DATA_DIR": str(tmp_path), "SAMPLIT_PORT": "99999"}
    ran = subprocess.run(
        [sys.executable, "-m", "server.runtime.process", role],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = ran.stderr.splitlines()
    said = json.loads(line)
    assert (ran.returncode, said["level"], said["process"]) == (1, "error", role)
    assert "65535" in said["problem"]
    assert "exception" not in said
