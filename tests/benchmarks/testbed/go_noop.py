"""The no-op on grpc-go: built from noop_go/, with messages generated from protos/, where Go is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.load.program import TOOLS

_SOURCES = Path(__file__).with_name("noop_go")
_DESCRIPTORS = Path("build/protos.binpb")
_PROTOS = "samplit/allocation/v1/allocation_service.proto", "samplit/allocation/v1/context.proto"
_PACKAGE = "noop/allocation"


def build() -> Path | None:
    """Return the program, built anew if something is newer. None without Go.

    Raises subprocess.CalledProcessError, for example where the modules cannot be downloaded.
    """
    compiler = shutil.which("go")
    if compiler is None:
        return None
    tools = TOOLS.absolute()
    program, module, plugin = tools / "noop-go", tools / "noop_go", tools / "protoc-gen-go"
    newest = max(source.stat().st_mtime for source in (_DESCRIPTORS, *_SOURCES.iterdir()))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    shutil.rmtree(module, ignore_errors=True)
    shutil.copytree(_SOURCES, module)
    subprocess.run(
        [compiler, "build", "-o", plugin, "google.golang.org/protobuf/cmd/protoc-gen-go"], cwd=module, check=True
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={_DESCRIPTORS}"),
            *(f"--plugin={plugin}", f"--go_out={module}", "--go_opt=module=noop"),
            *(f"--go_opt=M{proto}={_PACKAGE}" for proto in _PROTOS),
            *_PROTOS,
        ],
        check=True,
    )
    subprocess.run([compiler, "build", "-o", program, "."], cwd=module, check=True)
    return program
