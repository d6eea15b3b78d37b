"""What `samplit serve` prints: the key is shown once, and only to a person."""

import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from server.cli.views.greeting import greet
from server.runtime.supervision.endpoints import Endpoints
from server.settings import Settings

KEY = "samplit_5f0c2a9b_secret"


def greeting(folder: Path, *, is_terminal: bool, is_first_start: bool) -> str:
    settings = Settings(data_dir=folder)
    settings.secrets_directory.mkdir(exist_ok=True, parents=True)
    settings.api_key_file.write_text(f"{KEY}\n")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, color_system=None)
    greet(console, settings, Endpoints(allocation="localhost:1", admin="localhost:2"), is_first_start=is_first_start)
    return stream.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("is_first_start", [True, False])
def test_the_key_is_shown_on_a_terminal_at_the_first_start(
    tmp_path: Path, is_terminal: bool, is_first_start: bool
) -> None:
    text = greeting(tmp_path, is_terminal=is_terminal, is_first_start=is_first_start)
    assert str(tmp_path / "secrets" / "api.key") in text
    assert (KEY in text) == (is_terminal and is_first_start)


def test_the_example_reads_the_file(tmp_path: Path) -> None:
    """Also where the path needs quotes."""
    folder = tmp_path / "a folder's $HOME"
    text = greeting(folder, is_terminal=False, is_first_start=False)
    (command,) = [line.strip() for line in text.splitlines() if "-plaintext" in line]
    program = tmp_path / "print"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    pasted = f"{program} {command[command.index('-plaintext') :]}"
    ran = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[:3] == ["-plaintext", "-H", f"authorization: Bearer {KEY}"]
