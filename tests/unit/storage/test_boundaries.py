"""SQL and Redis commands stand in `storage` alone: the source code of the other packages is searched for them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SQL = re.compile(
    r"\s*(SELECT\b|WITH \w+ AS|INSERT INTO |UPDATE \w+ .*\bSET\b|DELETE FROM |TRUNCATE |COPY \w+"
    r"|(CREATE|ALTER|DROP) (TABLE|SCHEMA|INDEX|VIEW|TYPE|FUNCTION)\b)",
    re.DOTALL,
)
# The methods that may be called on an object of this name. Any other is a statement or a command.
LIFECYCLE = {
    "redis": {"aclose"},
    "pool": {"acquire"},
    "connection": {"transaction", "close", "run", "connected"},
}
DRIVERS = {"asyncpg", "redis", "hiredis"}
# Connections and pools of another kind: these rooms know no storage, which the import contracts check.
OTHERS = ("server/transport", "server/api/wire_services")


def violations(source: str) -> Iterator[str]:
    """Yield the calls in a module's source that belong into `storage`."""
    nodes = list(ast.walk(ast.parse(source)))
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    drivers = {name.partition(".")[0] for name in imports} & DRIVERS
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)) if SQL.match(text):
                yield f"line {node.lineno}: SQL {text.strip()[:40]!r}"
            case ast.Call(func=ast.Attribute(value=receiver, attr=method)):
                name = _last_name(receiver).lstrip("_")
                if name in LIFECYCLE and method not in LIFECYCLE[name]:
                    yield f"line {node.lineno}: {name}.{method}()"
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in DRIVERS:
                yield f"line {node.lineno}: from {module}: import the driver as a whole, so that its uses can be seen"
            case ast.Attribute() if (path := _path(node)) and path[0] in drivers and not _is_type(path):
                yield f"line {node.lineno}: {'.'.join(path)} is neither a type nor an error"


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _path(node: ast.expr) -> tuple[str, ...]:
    """Return the names of a.b.c; nothing for other expressions."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (path := _path(node.value)):
        return (*path, node.attr)
    return ()


def _is_type(path: tuple[str, ...]) -> bool:
    """Return whether a driver's name is a class, or a module that contains one."""
    return path[-1][0].isupper() or path in {("asyncpg", "pool"), ("redis", "exceptions")}


@pytest.mark.parametrize("package", ["server", "allocator"])
def test_only_storage_speaks_to_the_stores(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): problems
        for path in sorted((ROOT / package).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(OTHERS)
        if (problems := list(violations(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'QUERY = "SELECT 1"',
        'QUERY = """\n    UPDATE experiments SET\n        name = $1"""',
        'QUERY = f"DELETE FROM {TABLE}"',
        "async def f(self): return await self._redis.get(KEY)",
        "async def f(connection): return await connection.fetchval(QUERY)",
        "async def f(self): return await self._pool.execute(QUERY)",
        "from redis.asyncio import Redis",
        "import asyncpg\nasync def f(): return await asyncpg.connect()",
        "import redis.asyncio\nclient = redis.asyncio.from_url(URL)",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert list(violations(source))


@pytest.mark.parametrize(
    "source",
    [
        'MESSAGE = "Select a variant, or delete it from the draft"',
        "import asyncpg\ndef f(pool: asyncpg.Pool) -> asyncpg.pool.PoolConnectionProxy: return pool.acquire()",
        "import redis.exceptions\nERRORS = redis.exceptions.ConnectionError",
        "async def f(self): await self._redis.aclose()",
    ],
)
def test_the_search_allows(source: str) -> None:
    assert not list(violations(source))
