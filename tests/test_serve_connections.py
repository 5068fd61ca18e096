"""What the server keeps of a connection that is over: nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref

import uvicorn

from taille.serve.http_protocol import bounded
from taille.serve.settings import Settings

REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def ask_and_reset(port):
    """A client that throws its connection away when it has an answer, as one does that was killed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def held_after_a_reset():
    """How many of the server's connections are still there, a moment after their clients have gone."""
    made = []

    class Noted(bounded(Settings())):
        def connection_made(self, transport):
            made.append(weakref.ref(self))
            super().connection_made(transport)

    config = uvicorn.Config(answer, http=Noted, lifespan="off", ws="none", log_config=None, timeout_keep_alive=60)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            for _ in range(5):
                await asyncio.wait_for(ask_and_reset(listener.getsockname()[1]), 30)
            for _ in range(100):
                gc.collect()
                if not (held := sum(one() is not None for one in made)):
                    break
                await asyncio.sleep(0.02)
        finally:
            server.should_exit = True
            await running
    assert len(made) == 5
    return held


def test_a_connection_that_was_reset_is_let_go():
    assert asyncio.run(held_after_a_reset()) == 0
