"""A PostgreSQL that vanished is noticed. That can only happen over TCP."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from storage.engines.embedded import StoreUrls
from storage.postgres.pool import connect, create_pool


async def test_connections_over_tcp_are_probed(engines: StoreUrls, dsn: str) -> None:
    """The test forwards a TCP port to the embedded engine, which has none."""
    address = parse_qs(urlsplit(dsn).query)
    target = Path(address["host"][0]) / f".s.PGSQL.{address['port'][0]}"

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine, to_engine = await asyncio.open_unix_connection(target)
        await asyncio.gather(copy(reader, to_engine), copy(engine, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(dsn)
        url = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        connection, pool = await connect(url), await create_pool(url, size=1)
        async with pool.acquire() as pooled:
            for each in (connection, pooled):
                peer = each._transport.get_extra_info("socket")
                assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
                assert await each.fetchval("SELECT setting FROM pg_settings WHERE name = 'tcp_keepalives_idle'")
        await pool.close()
        await connection.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()
