"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taille.config import parse_size
from taille.config.checks import Count, Number

__all__ = ["Settings"]

SECONDS = Number("a number of seconds above 0", least=0, open_least=True)
PORT = Number("a port from 0 (any that is free) to 65535", least=0, most=65535)
LEAST_TOKEN = 16  # characters; a shorter one can be guessed


@dataclass(frozen=True)
class Settings:
    """Limits and addresses of a server.

    Attributes:
        host: the address to listen on; only this machine can reach the default.
        http_port: 0: any that is free.
        grpc_port: the same; None: no gRPC.
        token: what load and unload want as `Authorization: Bearer`; None: the server is read-only.
        max_body: most bytes of one request, as 64 MiB in the default or as text ("64MiB").
        max_batch: most samples of one request, and of one batch that is computed. None: of a batch, as `taille.Runner`
            by default; of a request, as many, or the setting batch.size where that is more.
        request_timeout: seconds until a request is given up, unless it says less itself.
        read_timeout: seconds that a client may take to send a request, or take nothing of its answer.
        drain_timeout: seconds that requests under way have when the server ends.
        batch_timeout: seconds that a batch waits for more samples; None: as `taille.Runner` by default.
        queue_size: requests that wait for one version of a model; more are refused.
        max_connections: of HTTP, and requests at once of gRPC.
        threads: of one computation, which is one at a time then; None: what the artefact holds for this CPU
            (`taille tune`), else all that the process is granted.

    Raises:
        TypeError, ValueError: a setting of another type or range; the message names it.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int | None = 8001
    token: str | None = None
    max_body: int | str = 64 * 2**20
    max_batch: int | None = None
    request_timeout: float = 30.0
    read_timeout: float = 30.0
    drain_timeout: float = 30.0
    batch_timeout: float | None = None
    queue_size: int = 1024
    max_connections: int = 1024
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check everything; sizes become bytes."""
        self._set("max_body", parse_size(self.max_body, "max_body"))
        for name in ("queue_size", "max_connections"):
            Count().check(name, getattr(self, name))
        for name in ("max_batch", "threads"):
            if getattr(self, name) is not None:
                Count().check(name, getattr(self, name))
        for name in ("request_timeout", "read_timeout", "drain_timeout"):
            SECONDS.check(name, getattr(self, name))
        if self.batch_timeout is not None:
            Number("a number of seconds of at least 0", least=0).check("batch_timeout", self.batch_timeout)
        for name in ("http_port", "grpc_port"):
            if getattr(self, name) is not None or name == "http_port":
                PORT.check(name, getattr(self, name))
        if not isinstance(self.host, str) or not self.host:
            raise ValueError(f"host is {self.host!r}; wanted an address such as 127.0.0.1")
        if self.token is not None and not (
            len(self.token) >= LEAST_TOKEN and self.token.isascii() and self.token.isprintable()
        ):
            raise ValueError(f"the token has to be at least {LEAST_TOKEN} printable ASCII characters")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def body_bytes(self) -> int:
        """`max_body` as a number."""
        return int(self.max_body)
