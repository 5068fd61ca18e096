"""Reading what a client sends, within limits, and refusing it in the protocol's form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from taille.config import format_size
from taille.serve.refusals import Invalid, Overloaded, Refusal, TooLarge, shown

__all__ = [
    "Bodies",
    "Disconnected",
    "Receive",
    "Scope",
    "Send",
    "error_body",
    "header",
    "send_refusal",
    "send_whole",
]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LINGER_SECONDS = 2.0
BODIES_AT_ONCE = 8  # of the largest size, so that many clients cannot take all memory


class Disconnected(Exception):  # noqa: N818 - not an error of anyone's
    """The client has gone."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


class Bodies:
    """The bodies that a server holds, bounded one by one and together."""

    def __init__(self, most: int):
        """Take bodies of at most this many bytes."""
        self.most = most
        self.held = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request; the caller gives its length to `release` when it is done with it.

        Raises:
            TooLarge, Overloaded, Invalid: it is not taken.   Disconnected: the client has gone.
        """
        pieces: list[bytes] = []
        length, more = 0, True
        try:
            self._check_claim(scope)
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                piece = message.get("body", b"")
                more = message.get("more_body", False)
                self._hold(len(piece), length)
                length += len(piece)
                pieces.append(piece)
        except BaseException as error:
            self.release(length)
            if isinstance(error, Refusal):
                error.unread = more
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_claim(self, scope: Scope) -> None:
        encoding = header(scope, b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise Invalid(f"the body is encoded as {shown(encoding.decode('latin-1'))}; this server takes it plain")
        claim = header(scope, b"content-length")
        if claim is not None and int(claim) > self.most:  # digits alone, as the parser has seen to
            raise self._too_large()

    def _hold(self, more: int, length: int) -> None:
        if length + more > self.most:
            raise self._too_large()
        if self.held + more > BODIES_AT_ONCE * self.most:
            raise Overloaded("the server holds as many bytes of requests as it may; try again later")
        self.held += more

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than this server takes: {format_size(self.most)}")

    def release(self, length: int) -> None:
        """Say that a body of this length is not held any more."""
        self.held -= length


def error_body(message: str) -> bytes:
    """An error as the protocol says it."""
    return orjson.dumps({"error": message})


async def send_whole(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send an answer in one piece."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_refusal(receive: Receive, send: Send, refusal: Refusal) -> None:
    """Send an error.

    Where the body was not read to its end, the connection cannot go on. It is closed after a while in which what the
    client still sends is thrown away: closed at once, the client would see a reset connection and not the error.
    """
    body = error_body(refusal.message)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 503:
        headers.append((b"retry-after", b"1"))
    if not refusal.unread:
        await send_whole(send, refusal.status, headers, body)
        return
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(throw_away(receive), LINGER_SECONDS)
    await send({"type": "http.response.body", "body": b""})


async def throw_away(receive: Receive) -> None:
    """Read a body to its end, keeping nothing."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
