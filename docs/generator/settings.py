"""The reference of settings: every field of `server.settings.Settings`, with its bounds and default."""

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generator.markdown import code, page, table, text
from server.settings import Settings

_INTRODUCTION = """\
# Settings

Samplit reads its settings from environment variables, once, when a process starts. A value that is not accepted stops
the start with a message that names the variable. `samplit serve` has the most used ones as
[options](commands.md#samplit-serve), which win over the environment. Durations are in seconds.

`SAMPLIT_POSTGRES_DSN`, `SAMPLIT_REDIS_URL`, `SAMPLIT_NOTIFY_URLS` and `SAMPLIT_NOTIFY_OWNER_URL` hold secrets. Samplit
prints them nowhere."""

_CLIENTS = """\
## Variables of the commands

The commands that call a running server read these besides. On the server's own machine they need none: they find the
server and its key in the data directory.

| variable | what |
| --- | --- |
| `SAMPLIT_ADDRESS` | host and port of the data plane. Example: `samplit.internal:50051` |
| `SAMPLIT_ADMIN_ADDRESS` | host and port of the control plane. Example: `samplit.internal:50052` |
| `SAMPLIT_API_KEY` | the key to send. It needs the scope `admin`; `samplit replay` also needs `allocate` |
| `SAMPLIT_TLS_CA_FILE` | PEM file of the authority that signed the server's certificate, where the server speaks TLS |
"""


def pages() -> dict[str, str]:
    """Return the text of the page by its path in the site."""
    rows = [
        [code(f"SAMPLIT_{name.upper()}"), _default(field), _bounds(field), text(field.description or "")]
        for name, field in Settings.model_fields.items()
    ]
    settings = table(["variable", "default", "accepts", "what"], rows)
    return {"reference/settings.md": page(_INTRODUCTION, settings, _CLIENTS)}


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "`/var/lib/samplit` for root, else the user's data folder"
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return code(str(field.default).lower())
    return code(f"{field.default:g}" if isinstance(field.default, float) else str(field.default))


def _bounds(field: FieldInfo) -> str:
    limits = {name: getattr(rule, name) for rule in _rules(field) for name in ("ge", "gt", "le") if hasattr(rule, name)}
    most = limits.get("le")
    if "gt" in limits:
        return f"above {limits['gt']:g}, at most {most:,g}"
    if "ge" in limits:
        return f"{limits['ge']:,g} to {most:,g}"
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(code(choice) for choice in choices)
    if field.annotation is bool:
        return "`true` or `false`"
    return ""


def _rules(field: FieldInfo) -> list[object]:
    """Return the rules of a field, also those inside an Annotated member of a union."""
    rules = list(field.metadata)
    for part in getattr(field.annotation, "__args__", ()):
        for inner in getattr(part, "__metadata__", ()):
            rules += getattr(inner, "metadata", [inner])
    return rules
