"""HTTP connections that are bounded: in number, in the bytes of their headers, and in how slow they may be.

uvicorn bounds idle connections alone. A client that sends its request a byte at a time, or never takes its answer,
would hold its connection and memory for ever.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from taille.serve.http_body import error_body
from taille.serve.settings import Settings

__all__ = ["BoundedProtocol", "bounded"]

MOST_HEADER = 65536  # bytes of a request's line and headers
MOST_PIPELINED = 16  # requests that a client sends before it has the answer to the first
LINGER_SECONDS = 2.0


class BoundedProtocol(HttpToolsProtocol):
    """A connection that knows since when it waits for its client; `check` ends it when that is too long."""

    settings: Settings

    def __init__(self, *args: Any, **kwargs: Any):
        """As uvicorn makes them."""
        super().__init__(*args, **kwargs)
        self._reading_since: float | None = None
        self._writing_since: float | None = None
        self._in_header = True
        self._header_bytes = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection that is one too many."""
        super().connection_made(transport)
        self._reading_since = self.loop.time()
        if len(self.connections) > self.settings.max_connections:
            self.refuse(503, f"the server has {self.settings.max_connections} connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it: a timer for the next request would keep all that belongs to it until it runs out."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Count what comes before the body."""
        if self._refused:
            return
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_header and self._header_bytes > MOST_HEADER:
            self.refuse(431, f"the headers are longer than {MOST_HEADER} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_header = True
        if self._reading_since is None:
            self._reading_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._in_header = False
        self._header_bytes = 0
        super().on_headers_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            self.reset()
            raise httptools.HttpParserError("too many requests without waiting for answers")

    def on_message_complete(self) -> None:
        """It is whole."""
        self._reading_since = None
        self._in_header = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Its answer is sent; no more is read while others wait for theirs."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        self._writing_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._writing_since = None
        super().resume_writing()

    def check(self, now: float) -> None:
        """End the connection if its client is too slow; `now` is the loop's time."""
        limit = self.settings.read_timeout
        if self.flow.read_paused:  # then it is the server that lets the client wait
            self._reading_since = now
        if self._writing_since is not None and now - self._writing_since > limit:
            self.reset()
        elif self._reading_since is not None and now - self._reading_since > limit:
            self.refuse(408, f"the request did not come within {limit:g} s")

    def refuse(self, status: int, message: str) -> None:
        """Say why, unless an answer has begun, and close.

        What the client still sends is thrown away for a while: closed at once, it would see a reset connection and not
        the reason.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if self.pipeline:  # other answers come first, and may have begun
            self.reset()
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = error_body(message)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._reading_since = None
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def reset(self) -> None:
        """End the connection without sending the rest, which the kernel would hold for as long as the client likes."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self.refuse(400, msg)


def bounded(of: Settings) -> type[BoundedProtocol]:
    """The class of connections with these limits."""

    class Bounded(BoundedProtocol):
        settings = of

    return Bounded
