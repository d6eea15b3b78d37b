"""The Makefile, by what `make --dry-run` prints in a checkout whose path has a space."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed."""
    path = tmp_path / "my apps" / "samplit"
    path.mkdir(parents=True)
    for file in [
        *_ROOT.glob("requirements*.txt"),
        *(_ROOT / name for name in ("Makefile", "pyproject.toml", "hatch_build.py")),
    ]:
        shutil.copy(file, path)
    shutil.copytree(_ROOT / "protos", path / "protos")
    return path


def _dry_run(checkout: Path, *arguments: str) -> list[str]:
    """Return the commands that `make` would run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def _installed(commands: list[str]) -> list[str]:
    """Return what pip is asked to install, in order."""
    return [shlex.split(command)[-1] for command in commands if " -m pip install " in command]


def test_run_installs_no_development_tools(checkout: Path) -> None:
    commands = _dry_run(checkout, "run")
    assert _installed(commands) == ["requirements-build.txt", "requirements.txt", "."]
    assert commands[-1] == ".venv/bin/samplit serve"


def test_test_adds_the_development_tools(checkout: Path) -> None:
    commands = _dry_run(checkout, "test")
    assert _installed(commands) == ["requirements-build.txt", "requirements.txt", ".", "requirements-dev.txt"]


def test_what_is_installed_is_not_installed_again(checkout: Path) -> None:
    stamps = [checkout / ".venv" / name for name in ("bin/pip", ".build", ".run")]
    stamps += [checkout / "build" / ".installed", checkout / ".venv" / ".dev"]
    for stamp in stamps:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    assert _dry_run(checkout, "run") == [".venv/bin/samplit serve"]
    assert _dry_run(checkout, "test") == [".venv/bin/pytest"]
    os.utime(checkout / "requirements-dev.txt", (stamps[-1].stat().st_mtime + 1,) * 2)
    assert _installed(_dry_run(checkout, "test")) == ["requirements-dev.txt"]
    assert _installed(_dry_run(checkout, "run")) == []


@pytest.mark.parametrize("target", ["run", "test", "lint", "docs", "figures", "demo", "proto", "lock"])
def test_no_command_names_the_path_of_the_checkout(checkout: Path, target: str) -> None:
    """So a space in it cannot break one."""
    assert not [command for command in _dry_run(checkout, target) if "my apps" in command]


def test_the_path_of_python_may_have_a_space(checkout: Path) -> None:
    commands = _dry_run(checkout, "run", "PYTHON=/opt/my python/python3")
    assert '"/opt/my python/python3" -m venv .venv' in commands
