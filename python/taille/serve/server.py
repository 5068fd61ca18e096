"""Running the servers: one event loop, HTTP and gRPC, until a signal asks to end; then every request is answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn

from taille.serve.grpc_service import start_grpc
from taille.serve.http_app import HttpApp
from taille.serve.http_protocol import BoundedProtocol, bounded
from taille.serve.inference import Inference
from taille.serve.metrics import Metrics
from taille.serve.repository import Repository
from taille.serve.settings import Settings
from taille.serve.sources import Source

__all__ = ["Addresses", "serve"]

log = logging.getLogger(__name__)

BACKLOG = 1024
IDLE_SECONDS = 75  # that a connection without a request is kept

Addresses = dict[str, tuple[str, int]]  # "http" and "grpc"
Announce = Callable[[Addresses, Repository], None]


def serve(sources: Sequence[Source], settings: Settings, announce: Announce | None = None) -> bool:
    """Serve until SIGTERM or SIGINT; then stop accepting, answer what is under way, and come back.

    Args:
        sources: the artefacts.
        settings: addresses and limits.
        announce: called when everything is loaded and requests are accepted.

    Returns:
        Whether every request under way had its answer within `drain_timeout`.

    Raises:
        ValueError: an artefact cannot be loaded.   OSError: an address cannot be listened on.
    """
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(Running(sources, settings).run(announce))
    finally:
        loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of uvloop where that is installed: small requests are quicker."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Server(uvicorn.Server):
    """uvicorn's server, without its own signal handlers, which would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Running`."""
        yield


class Running:
    """A server while it runs."""

    def __init__(self, sources: Sequence[Source], settings: Settings):
        """Prepare; nothing is loaded yet."""
        self._settings = settings
        self._repository = Repository(sources, settings)
        self._inference = Inference(self._repository, settings, Metrics(self._repository.hosts))
        self._asked_to_end = asyncio.Event()
        self._server = Server(
            uvicorn.Config(
                HttpApp(self._inference), http=bounded(settings), lifespan="off", ws="none", access_log=False,
                log_config=None, proxy_headers=False, server_header=False, timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=max(1, round(settings.drain_timeout)), backlog=BACKLOG,
            )
        )  # fmt: skip

    async def run(self, announce: Announce | None) -> bool:
        """Serve until asked to end."""
        listener = listen(self._settings.host, self._settings.http_port)
        try:
            await self._repository.start()
            grpc_server, addresses = await self._start_grpc()
        except BaseException:
            listener.close()
            raise
        addresses["http"] = listener.getsockname()[:2]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        http = loop.create_task(self._server.serve(sockets=[listener]))
        sweep = loop.create_task(self._sweep())
        while not self._server.started and not http.done():
            await asyncio.sleep(0.01)
        if announce is not None and not http.done():
            announce(addresses, self._repository)
        await asyncio.wait({http, ending := loop.create_task(self._asked_to_end.wait())}, return_when="FIRST_COMPLETED")
        ending.cancel()
        drained = await self._drain(grpc_server, http)
        sweep.cancel()
        return drained

    async def _start_grpc(self) -> tuple[Any, Addresses]:
        if self._settings.grpc_port is None:
            return None, {}
        server, port = await start_grpc(self._inference, self._settings.host, self._settings.grpc_port)
        return server, {"grpc": (self._settings.host, port)}

    def _end(self) -> None:
        if self._asked_to_end.is_set():  # asked twice: at once
            self._server.force_exit = True
        log.info("asked to end: no new requests are accepted")
        self._asked_to_end.set()

    async def _drain(self, grpc_server: Any, http: asyncio.Task[None]) -> bool:
        """Stop accepting, answer what is under way."""
        self._repository.ready = False
        self._server.should_exit = True
        ends: list[Any] = [http]
        if grpc_server is not None:
            ends.append(grpc_server.stop(self._settings.drain_timeout))
        await asyncio.gather(*ends)
        return await self._repository.close()

    async def _sweep(self) -> None:
        """Look at every connection again and again, which costs less than a timer for each request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._settings.read_timeout / 4))
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.check(loop.time())


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, so that one that is taken is told before models are loaded.

    Raises:
        OSError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"HTTP cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener
