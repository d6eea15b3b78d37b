"""The hook that mkdocs.yml names: adds the generated pages to the pages that stand in docs/."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from docs.generator import commands, protos, root_files, settings  # noqa: E402 (after the path)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the licence."""
    pages = root_files.pages(ROOT) | protos.pages(ROOT) | settings.pages() | commands.pages()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files
