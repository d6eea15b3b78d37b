"""The client programs: built where their toolchain is, and run as processes."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

_SOURCES = Path(__file__).parent
_BUILDS = Path("build/interop").absolute()
_BUILD_SECONDS = 600
_RUN_SECONDS = 90


class Client:
    """A program that makes one kind of call, and fails if the server does not answer as it should."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    async def run(self, case: str, target: str, *, descriptors: Path, **options: str | bool) -> str:
        """Run the program, and return what it printed. An option that is true has no value."""
        arguments = [f"--target={target}", f"--descriptors={descriptors}"]
        for name, value in options.items():
            dashed = f"--{name.replace('_', '-')}"
            arguments.append(dashed if value is True else f"{dashed}={value}")
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, case, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, (output + errors).decode()[-4000:]
        return output.decode()

    async def steady(self, case: str, target: str, **options: Any) -> tuple[int, dict[str, int]]:
        """Call for a while, and return how many calls there were, and the failed ones by what was said of them."""
        report = json.loads(await self.run(case, target, **options))
        return report["calls"], report["failures"]


def build(language: str) -> Client:
    """Return the client of a language, built anew if its sources changed.

    Skips the test where there is no toolchain, or no packages.
    """
    source = _SOURCES / language
    folder = _BUILDS / f"{language}-{_digest(source)}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of pytest share what one of them builds
        if not (folder / "command.json").exists():
            shutil.copytree(source, folder, dirs_exist_ok=True)
            (folder / "command.json").write_text(json.dumps(_BUILDERS[language](folder)))
        return Client(json.loads((folder / "command.json").read_text()))


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _build_go(folder: Path) -> list[str]:
    _make(folder, "go", "build", "-o", "client", ".")
    return [str(folder / "client")]


def _build_java(folder: Path) -> list[str]:
    _make(folder, "mvn", "-q", "-B", "compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath")
    classes = f"{folder / 'target' / 'classes'}{os.pathsep}{(folder / 'classpath').read_text().strip()}"
    java = [shutil.which("java") or "java", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return [*java, "-classpath", classes, "interop.Client"]


def _build_js(folder: Path) -> list[str]:
    _make(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return [shutil.which("node") or "node", str(folder / "client.js")]


_BUILDERS: dict[str, Callable[[Path], list[str]]] = {"go": _build_go, "java": _build_java, "js": _build_js}
LANGUAGES = tuple(_BUILDERS)


def _make(folder: Path, tool: str, *arguments: str) -> None:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"there is no {tool} to build this client with")
    built = subprocess.run(
        [found, *arguments], cwd=folder, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if built.returncode:
        pytest.skip(f"{tool} cannot build this client: {(built.stdout + built.stderr)[-1000:]}")
