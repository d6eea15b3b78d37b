"""Build hook: generates the Python stubs from protos/ into build/stubs (never committed)."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
from protos.generate import generate_stubs


class GenerateStubs(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before the wheel, and before an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (the hook's signature)
        """Write the stubs where the wheel and the editable install look for them."""
        generate_stubs(Path(self.root))
