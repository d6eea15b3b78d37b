"""Logs that calls write, and the one format of everything that a process logs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server import logs

SCRIPT = """
import logging, os, sys, threading, time, warnings
import structlog
from server.logs import capture_native_lines, configure_logs

configure_logs()
capture_native_lines()
log = structlog.get_logger()

def fail():
    identity = b"identity-of-32-bytes"
    user_identifier = "user-4711"
    raise ValueError("a defect")

log.debug("a debug event", number=1)
log.info("an event", number=1, thing=object())
logging.getLogger("library").warning("a %s", "warning")
warnings.warn("deprecated")
os.write(2, b"E0000 00:00:00 core.cc:1] a native line\\n")
try:
    fail()
except ValueError as error:
    log.error("it failed", exc_info=error)
    logging.getLogger("library").error("so did this", exc_info=error)
threading.Thread(target=fail).start()
time.sleep(0.3)
fail()
"""


def test_one_event_of_a_kind_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    throttle = logs.LogThrottle()
    assert [throttle.admit("a") for _ in range(4)] == [1, 0, 0, 0]
    assert throttle.admit("b") == 1
    now = 1.0
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a")] == [4, 1, 0]


def logged(level: str) -> tuple[list[dict[str, Any]], str]:
    """What a process logs at that level, line by line and as text."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"SAMPLIT_LOG_LEVEL": level}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    return [json.loads(line) for line in ran.stderr.splitlines()], ran.stderr


def test_every_line_has_one_format_and_no_local_variables() -> None:
    lines, text = logged("info")
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys()
    events = [line["event"] for line in lines]
    assert {"an event", "a warning", "it failed", "so did this", "a thread failed", "the process failed"} <= set(events)
    assert "E0000 00:00:00 core.cc:1] a native line" in events
    assert any("deprecated" in event for event in events)
    failed = next(line for line in lines if line["event"] == "it failed")
    assert failed["exception"][0]["exc_value"] == "a defect"
    assert failed["exception"][0]["frames"]
    for secret in ("identity-of-32-bytes", "user-4711"):
        assert secret not in text


@pytest.mark.parametrize(("level", "least"), [("debug", "a debug event"), ("info", "an event"), ("ERROR", "it failed")])
def test_the_level(level: str, least: str) -> None:
    events = [line["event"] for line in logged(level)[0]]
    assert events[0] == least


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_line_that_cannot_be_written_is_dropped() -> None:
    """A supervisor whose log is on a full disk must outlive what it says about the disk."""
    script = """
import logging
import structlog
from server.logs import configure_logs

configure_logs()
structlog.get_logger().error("disk full")
logging.getLogger().error("disk full")
print("went on")
"""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert ended.stdout == "went on\n"
