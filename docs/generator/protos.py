"""The reference of the API: every RPC, message, field, enum and error reason, with the comments of the protos.

Reads build/protos.binpb, the descriptors with source information that `python protos/generate.py` writes. A proto
`x.proto` and its service `x_service.proto` share a page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google.rpc.status_pb2  # noqa: F401 (the descriptors name it)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from docs.generator.markdown import code, page, table, text

_FOLDER = "reference/api"
_ERROR_REASONS = ".samplit.errors.v1.ErrorReason"
_TITLES = {"context": "Contexts", "error-reason": "Error reasons"}
# Field numbers in descriptor.proto, of which the paths of source information are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _METHODS, _VALUES = 2, 3, 2, 2
_STATUS = re.compile(r"^([A-Z_]+)\. ?(.*)$", re.S)
_NAME = re.compile(r"(?<![\w`\"{/.\[-])[a-z]+(?:_[a-z0-9]+)+(?![\w`\"/\]])")  # of a field, outside of examples
_METADATA = re.compile(r"\s*metadata: ([`a-z_, ]+)\.")


def page_of_proto(path: str) -> str:
    """Return the page of a proto, both as paths: "samplit/admin/v1/audit_service.proto"."""
    return f"{_FOLDER}/{_page_name(path)}.md"


def pages(root: Path) -> dict[str, str]:
    """Return the text of each page by its path in the site. Raises FileNotFoundError before the first `make`."""
    descriptors = FileDescriptorSet.FromString((root / "build" / "protos.binpb").read_bytes())
    files = [_File.read(file) for file in descriptors.file if file.package.startswith("samplit.")]
    pages_by_type = {name: _page_name(file.path) for file in files for name in file.type_names()}
    grouped: dict[str, list[_File]] = {}
    for file in sorted(files, key=lambda file: not file.services):
        grouped.setdefault(_page_name(file.path), []).append(file)
    return {f"{_FOLDER}/{name}.md": _page(name, group, pages_by_type) for name, group in grouped.items()}


def _page_name(path: str) -> str:
    return Path(path).stem.removesuffix("_service").replace("_", "-")


@dataclass(frozen=True)
class _File:
    """A proto: what it defines, and the comment of each definition by its path in the descriptor."""

    path: str
    package: str
    services: list[tuple[tuple[int, ...], ServiceDescriptorProto]]
    messages: list[tuple[tuple[int, ...], str, DescriptorProto]]
    enums: list[tuple[tuple[int, ...], EnumDescriptorProto]]
    comments: dict[tuple[int, ...], str]

    @classmethod
    def read(cls, file: FileDescriptorProto) -> "_File":
        comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
        return cls(
            path=file.name,
            package=file.package,
            services=[((_SERVICES, i), service) for i, service in enumerate(file.service)],
            messages=[
                found for i, message in enumerate(file.message_type) for found in _nested(message, (_MESSAGES, i))
            ],
            enums=[((_ENUMS, i), enum) for i, enum in enumerate(file.enum_type)],
            comments=comments,
        )

    def type_names(self) -> list[str]:
        names = [name for _, name, _ in self.messages] + [enum.name for _, enum in self.enums]
        return [f".{self.package}.{name}" for name in names]

    def comment(self, *path: int) -> str:
        """Return the comment as one paragraph, which may stand in a table."""
        return text(_NAME.sub(r"`\g<0>`", self.comments.get(path, "")))

    def paragraphs(self, *path: int) -> str:
        comment = _NAME.sub(r"`\g<0>`", self.comments.get(path, ""))
        return "\n\n".join(text(paragraph) for paragraph in comment.split("\n\n"))


def _nested(
    message: DescriptorProto, path: tuple[int, ...], prefix: str = ""
) -> Iterator[tuple[tuple[int, ...], str, DescriptorProto]]:
    """Yield a message and those inside it, without the entries of maps."""
    if message.options.map_entry:
        return
    name = prefix + message.name
    yield path, name, message
    for i, inner in enumerate(message.nested_type):
        yield from _nested(inner, (*path, _NESTED, i), f"{name}.")


def _page(name: str, files: list[_File], pages_by_type: dict[str, str]) -> str:
    services = [service.name for file in files for _, service in file.services]
    blocks = [f"# {services[0] if services else _TITLES.get(name, name.replace('-', ' ').capitalize())}"]
    for file in files:
        blocks += [block for path, service in file.services for block in _service(file, path, service, pages_by_type)]
    for file in files:
        blocks += [block for found in file.messages for block in _message(file, *found, pages_by_type)]
    for file in files:
        blocks += [block for path, enum in file.enums for block in _enum(file, path, enum)]
    return page(*blocks)


def _service(
    file: _File, path: tuple[int, ...], service: ServiceDescriptorProto, pages_by_type: dict[str, str]
) -> list[str]:
    blocks = [f"`{file.package}.{service.name}`, in `protos/{file.path}`.", file.paragraphs(*path), "## Calls"]
    for i, method in enumerate(service.method):
        blocks += [
            f"### {method.name} {{ #rpc-{method.name.lower()} }}",
            file.paragraphs(*path, _METHODS, i),
            f"{_link(method.input_type, pages_by_type)} → {_link(method.output_type, pages_by_type)}",
        ]
    return [*blocks, "## Messages"]


def _message(
    file: _File, path: tuple[int, ...], name: str, message: DescriptorProto, pages_by_type: dict[str, str]
) -> list[str]:
    entries = {
        f".{file.package}.{name}.{inner.name}": inner for inner in message.nested_type if inner.options.map_entry
    }
    rows = []
    for i, field in enumerate(message.field):
        label = f"{code(field.name)}"
        if field.HasField("oneof_index") and not field.proto3_optional:
            label += f"<br>one of {code(message.oneof_decl[field.oneof_index].name)}"
        rows.append([label, _type(field, entries, pages_by_type), file.comment(*path, _FIELDS, i)])
    fields = table(["field", "type", "what"], rows) if rows else "No fields."
    return [f"### {name} {{ #{_anchor(name)} }}", file.paragraphs(*path), fields]


def _enum(file: _File, path: tuple[int, ...], enum: EnumDescriptorProto) -> list[str]:
    comments = [file.comment(*path, _VALUES, i) for i in range(len(enum.value))]
    heading = [f"### {enum.name} {{ #{_anchor(enum.name)} }}", file.paragraphs(*path)]
    if f".{file.package}.{enum.name}" == _ERROR_REASONS:
        rows = [_reason(value.name, comment) for value, comment in zip(enum.value, comments, strict=True)]
        return [*heading, table(["reason", "status", "when", "metadata"], rows[1:])]
    values = [[code(value.name), comment] for value, comment in zip(enum.value, comments, strict=True)]
    return [*heading, table(["value", "what"], values)]


def _reason(name: str, comment: str) -> list[str]:
    """Divide "STATUS. What happened. metadata: a, b." into cells."""
    sent = name.removeprefix("ERROR_REASON_")
    found = _STATUS.match(comment)
    status, rest = (found[1], found[2]) if found else ("", comment)
    metadata = _METADATA.search(rest)
    keys = ", ".join(code(key.strip(" `")) for key in metadata[1].split(",")) if metadata else ""
    return [code(sent), code(status) if status else "", _METADATA.sub("", rest).strip(), keys]


def _type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto], pages_by_type: dict[str, str]) -> str:
    entry = entries.get(field.type_name)
    if entry is not None:
        key, value = entry.field
        return f"map of {_type(key, {}, pages_by_type)} to {_type(value, {}, pages_by_type)}"
    if field.type_name:
        name = _link(field.type_name, pages_by_type)
    else:
        name = code(FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower())
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"optional {name}" if field.proto3_optional else name


def _link(type_name: str, pages_by_type: dict[str, str]) -> str:
    found_page = pages_by_type.get(type_name)
    if found_page is None:
        return code(type_name.removeprefix("."))
    name = re.sub(r"^\.samplit\.[a-z]+\.v\d+\.", "", type_name)
    return f"[{name}]({found_page}.md#{_anchor(name)})"


def _anchor(name: str) -> str:
    return name.lower().replace(".", "-")
