"""Metrics on a full disk: a process whose file cannot grow goes on in memory, instead of being killed by SIGBUS."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.metric_files import AllocatedDict
from tests.support.disk import NoSmallDiskError, fill, small_disk

_PROCESS = """
import sys
from server import metrics
for number in range(3000):
    metrics.stream_events.labels(number).set(number)
print("went on")
"""


def test_values_are_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "gauge_1.db")
    values = AllocatedDict(path)
    for number in range(5_000):  # more than fit into the first size
        values.write_value(f"key {number}", number, 0.0)
    values.close()
    read = {key: value for key, value, _, _ in AllocatedDict.read_all_values_from_file(path)}
    assert read == {f"key {number}": number for number in range(5_000)}
    again = AllocatedDict(path)
    assert again.read_value("key 4999") == (4999.0, 0.0)
    again.close()


@pytest.mark.parametrize("begins_full", [True, False])
def test_a_process_outlives_a_full_disk(begins_full: bool) -> None:
    """Without allocated files it dies of SIGBUS: the kernel finds no room for a page that is mapped already."""
    try:
        with small_disk(1) as disk:
            folder = disk / "metrics"
            folder.mkdir()
            (disk / "room").write_bytes(bytes(300_000))
            filler = fill(disk)
            if not begins_full:
                (disk / "room").unlink()
            ended = subprocess.run(
                [sys.executable, "-c", _PROCESS],
                env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": ":".join(sys.path)},
                capture_output=True,
                text=True,
                check=False,
            )
            filler.unlink()
    except NoSmallDiskError as error:
        pytest.skip(str(error))
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr


def test_an_observation_asks_the_system_for_no_process_id(tmp_path: Path) -> None:
    process = """
import os
from server import metrics
times = metrics.CallTimes("AllocateUser")
times.observe("OK", 0.1)
os.getpid = None  # the library's own classes would call it
import prometheus_client.values
times.observe("OK", 0.1)
metrics.returning_users.inc()
"""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", process], env=environment, check=True)
    assert list(tmp_path.glob("histogram_*.db"))
