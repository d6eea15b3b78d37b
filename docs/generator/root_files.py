"""Pages of the site that are files of the root folder: README, CONTRIBUTING, CHANGELOG, LICENSE.

Their links work in the repository; here they are turned into links that work in the site.
"""

import re
from pathlib import Path

from docs.generator.protos import page_of_proto

_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def pages(root: Path) -> dict[str, str]:
    """Return the text of each page by its path in the site."""
    found = {page: _LINK.sub(_site_link, (root / name).read_text()) for name, page in _PAGES.items()}
    return found | {"LICENSE.txt": (root / "LICENSE").read_text()}


def _site_link(link: re.Match[str]) -> str:
    target = link[1]
    if target in _PAGES:
        target = _PAGES[target]
    elif target == "LICENSE":
        target = "LICENSE.txt"
    elif target.startswith("protos/"):
        target = page_of_proto(target.removeprefix("protos/"))
    else:
        target = target.removeprefix("docs/")
    return f"]({target}"
