"""The site builds without a dead link, its reference leaves nothing out, and paths of pages in the code exist."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from server import metrics
from server.cli import app
from server.settings import Settings

ROOT = Path(__file__).parents[3]
PAGES_IN_CODE = re.compile(r"\bdocs/[\w/-]+\.md(?:#[\w-]+)?")
SOURCES = {".py", ".proto", ".sql", ".lua", ".toml"}


class Page(HTMLParser):
    """The text of a page, its anchors, and the addresses of what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "br":
            self.text += " "
        if found.get("id"):
            self.anchors.add(found["id"] or "")
        is_loaded = tag in ("script", "img", "iframe") or (tag == "link" and found.get("rel") == "stylesheet")
        address = found.get("src") or found.get("href")
        if is_loaded and address:
            self.loaded.append(address)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--site-dir", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert built.returncode == 0, built.stderr[-2000:]
    return {str(path.relative_to(folder)): Page(path.read_text()) for path in folder.rglob("*.html")}


def test_the_site_has_the_pages_of_the_root_folder(site: dict[str, Page]) -> None:
    assert {"index.html", "contributing.html", "changes.html", "glossary.html"} <= site.keys()


def test_no_page_loads_anything_from_another_host(site: dict[str, Page]) -> None:
    addresses = {address for page in site.values() for address in page.loaded}
    assert addresses
    assert not [address for address in addresses if re.match(r"(https?:)?//", address)]


def test_every_call_message_field_and_value_of_the_api_is_in_the_reference(site: dict[str, Page]) -> None:
    text = " ".join(page.text for name, page in site.items() if name.startswith("reference/api/"))
    words = set(re.findall(r"\w+", text))
    descriptors = FileDescriptorSet.FromString((ROOT / "build" / "protos.binpb").read_bytes())
    files = [file for file in descriptors.file if file.package.startswith("samplit.")]
    names = {method.name for file in files for service in file.service for method in service.method}
    names |= {message.name for file in files for message in file.message_type}
    names |= {field.name for file in files for message in file.message_type for field in message.field}
    values = {value.name for file in files for enum in file.enum_type for value in enum.value}
    reasons = {name.removeprefix("ERROR_REASON_") for name in values if name.startswith("ERROR_REASON_")}
    assert len(names) > 200
    assert not names - words
    assert not {name for name in values if not name.startswith("ERROR_REASON_")} - words
    assert not reasons - {"UNSPECIFIED"} - words


def test_every_setting_is_in_the_reference_and_says_what_it_is(site: dict[str, Page]) -> None:
    text = site["reference/settings.html"].text
    for name, field in Settings.model_fields.items():
        assert f"SAMPLIT_{name.upper()}" in text
        assert field.description
        assert field.description in text


def test_every_metric_is_in_the_reference(site: dict[str, Page]) -> None:
    found = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    source = Path(metrics.__file__).read_text()
    names = set(re.findall(r'"(samplit_\w+)"', source))
    assert names >= {metric._name for metric in found}
    counters = {metric._name for metric in found if metric._type == "counter"}
    documented = set(re.findall(r"samplit_\w+", site["reference/metrics.html"].text))
    assert {f"{name}_total" if name in counters else name for name in names} == documented


def test_every_command_is_in_the_reference(site: dict[str, Page]) -> None:
    anchors = site["reference/commands.html"].anchors
    names = get_command(app).commands  # type: ignore[attr-defined]
    assert {"serve", "replay", "keys"} <= names.keys()
    assert not [name for name in names if not any(anchor.startswith(f"samplit-{name}") for anchor in anchors)]


def test_every_word_of_the_glossary_has_one_entry(site: dict[str, Page]) -> None:
    entries = re.findall(r"^\*\*([^*]+)\*\* \{", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    words = [word for entry in entries for word in entry.lower().split(", ")]
    assert len(words) == len(set(words))
    wanted = {"holdout", "propensity", "baseline", "drain", "epoch", "maturity", "posterior", "segment", "exposure"}
    assert wanted | {"change notice", "notice", "trial", "effective trials", "sticky record", "redecide"} <= set(words)


def test_pages_that_the_code_names_exist(site: dict[str, Page]) -> None:
    folders = ("allocator", "storage", "server", "protos", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES]
    named = {name for path in files for name in PAGES_IN_CODE.findall(path.read_text())}
    assert named
    for name in named:
        path, _, anchor = name.removeprefix("docs/").partition("#")
        page = site[path.removesuffix(".md") + ".html"]
        assert not anchor or anchor in page.anchors


def test_links_of_the_root_folder_lead_to_files() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / name).read_text()):
            assert (ROOT / link).exists(), f"{name}: {link}"
