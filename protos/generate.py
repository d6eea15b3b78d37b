"""Generates the Python stubs, and the descriptor image that buf checks, from the .proto files here.

`python protos/generate.py` writes build/stubs (import root `samplit`) and build/protos.binpb.
"""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc


def generate_stubs(root: Path) -> None:
    """Compile every proto under `root`/protos. Raises SystemExit with protoc's status when it fails."""
    sources = sorted(str(path) for path in (root / "protos" / "samplit").rglob("*.proto"))
    stubs = root / "build" / "stubs"
    shutil.rmtree(stubs, ignore_errors=True)
    stubs.mkdir(parents=True)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the plugins
    includes = [root / "protos", files("grpc_tools") / "_proto", _google_protos()]
    status = protoc.main(
        ["protoc"]
        + [f"-I{path}" for path in includes]
        + [f"--python_out={stubs}", f"--mypy_out=quiet:{stubs}"]
        + [f"--grpc_python_out={stubs}", f"--mypy_grpc_out=quiet:{stubs}"]
        + [f"--descriptor_set_out={root / 'build' / 'protos.binpb'}", "--include_imports"]
        + ["--include_source_info", *sources]
    )
    if status != 0:
        sys.exit(status)


def _google_protos() -> Path:
    """The folder that holds google/rpc/status.proto, from googleapis-common-protos."""
    import google.rpc

    return Path(next(iter(google.rpc.__path__))).parents[1]


if __name__ == "__main__":
    generate_stubs(Path(__file__).resolve().parents[1])
