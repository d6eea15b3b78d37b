"""Clients that only send PINGs, as behind a balancer that drops idle connections: both planes, both transports."""

import asyncio

import h2.connection
import h2.events

from tests.support.service import Service

_PINGS = 4  # a server of grpcio forgives two that come too soon
_SECONDS = 6.0  # clients send one every 10 s; the test must not take that long


async def pinged(port: int) -> tuple[int, list[int]]:
    """Send PINGs on a connection without calls. Return how many were answered, and the error codes of GOAWAYs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    http = h2.connection.H2Connection()
    http.initiate_connection()
    answered, codes = 0, []

    async def receive() -> None:
        nonlocal answered
        while data := await reader.read(65_536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.PingAckReceived):
                    answered += 1
                elif isinstance(event, h2.events.ConnectionTerminated):
                    codes.append(int(event.error_code or 0))
            writer.write(http.data_to_send())

    receiving = asyncio.create_task(receive())
    for n in range(_PINGS):
        if n:
            await asyncio.sleep(_SECONDS)
        if not codes:
            http.ping(n.to_bytes(8, "big"))
            writer.write(http.data_to_send())
    await asyncio.sleep(0.5)
    receiving.cancel()
    await asyncio.wait({receiving})
    writer.close()
    return answered, codes


async def test_a_client_may_ping_every_ten_seconds_without_a_call(service: Service) -> None:
    application = service.application
    answers = await asyncio.gather(pinged(application.port), pinged(application.admin_port))
    assert answers == [(_PINGS, []), (_PINGS, [])]
