"""Builds the documentation into build/site: `python docs/build.py`. A dead link or a missing anchor fails the build."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> None:
    """Run `mkdocs build --strict` on the repository's mkdocs.yml; `arguments` are further options of mkdocs."""
    os.environ["NO_MKDOCS_2_WARNING"] = "true"  # a banner of the theme about a release that is not used here
    from mkdocs.__main__ import cli

    cli(["build", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
