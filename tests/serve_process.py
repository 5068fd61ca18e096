"""`taille serve` as a process, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOKEN = "a token of sixteen characters or more"
COMMAND = [sys.executable, "-c", "from taille.cli import main; main()", "serve"]


class ServeProcess:
    """A server that is ready when this is made; as a context it is ended with SIGTERM."""

    def __init__(self, *arguments: object, **env: str):
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--http-port", "0", "--grpc-port", "0", "--threads", "1", "--json"],
            stdout=subprocess.PIPE, stderr=self._stderr, text=True, env={**os.environ, **env},
        )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the server did not start: {self.stderr()}"
        self.facts: dict[str, Any] = json.loads(line)
        self.http: str = self.facts["http"]
        self.grpc: str = self.facts["grpc"]

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()

    def end(self) -> int:
        """SIGTERM; gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        self.log = self.stderr()
        return status

    def __enter__(self) -> ServeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stderr.closed:
            self.end()
            self._stderr.close()

    def ask(
        self, path: str, body: object = None, *, method: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer; a body that is no bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, _, content = self.exchange(method or ("GET" if data is None else "POST"), path, data, headers)
        return status, json.loads(content)

    def exchange(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers (names in lower case) and the bytes of an answer."""
        host, _, port = self.http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A plain connection."""
        host, _, port = self.http.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=60)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def floats(rows: list[list[float]], name: str = "x") -> dict[str, Any]:
    """An input of float32 in JSON."""
    flat = [value for row in rows for value in row]
    return {"name": name, "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": flat}


def write_models(folder: Path) -> Path:
    """The artefacts that most tests serve, in a folder: echo, kinds, and the repository `kept/scaled/1`."""
    from plain_models import echo, kinds, scaled

    echo().save(folder / "echo.safetensors")
    kinds().save(folder / "kinds.safetensors")
    version = folder / "kept" / "scaled" / "1"
    version.mkdir(parents=True)
    scaled(1.0).save(version / "model.safetensors")
    return folder
