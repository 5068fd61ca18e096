"""Requests per second over HTTP beside FastAPI + ONNX Runtime: the bench's MLP, one sample a request.

    python benchmarks/server.py                      # a minute; needs taille[test,peers] and fastapi
    python benchmarks/server.py --connections 1 16 64 --precision int8 --encoding json --seconds 2 --rounds 9

Both servers run beside each other and take turns; the same client, with the same payload encoding, keeps `connections`
requests under way. Both give the same answer, which is checked first. A ratio is taille's requests per second over the
other's in neighbouring turns, with its 10th to 90th percentile. int8 is each engine's own quantisation (ONNX Runtime's
is dynamic).
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
COMMAND = "from taille.cli import main; main()"
SPEC = {"name": "input", "datatype": "FP32", "shape": [1, 256]}


@dataclass
class Contestant:
    """A server, what it is asked, and what was measured of it."""

    name: str
    process: subprocess.Popen[str]
    port: int
    requests: dict[str, bytes]  # by encoding
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Processor time that the server has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prepare(folder: Path, precision: str) -> tuple[Path, Path, np.ndarray]:
    """An artefact, an ONNX file and an input."""
    import taille
    from taille.bench.models import build
    from taille.bench.peers_onnxruntime import OrtDynamic, OrtFloat
    from taille.bench.subject import Subject, quiet

    model = build("mlp", 1, None)
    subject = Subject(model, 1, None, folder)
    ours = folder / "mlp.safetensors"
    small = taille.quantize_model(model, "int8") if precision == "int8" else model
    taille.compile_model(small).save(ours)
    with quiet():
        theirs = (OrtDynamic() if precision == "int8" else OrtFloat()).convert(subject, subject.onnx)
    return ours, theirs, next(iter(subject.inputs.values()))


def http_request(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def start_ours(artefact: Path, threads: int, x: np.ndarray) -> Contestant:
    arguments = [
        "serve",
        f"mlp={artefact}",
        "--http-port",
        "0",
        "--grpc-port",
        "-1",
        "--threads",
        str(threads),
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    port = int(json.loads(process.stdout.readline())["http"].rpartition(":")[2])
    binary = {
        "inputs": [{**SPEC, "parameters": {"binary_data_size": x.nbytes}}], "parameters": {"binary_data_output": True},
    }  # fmt: skip
    text = json.dumps(binary).encode()
    length = f"inference-header-content-length: {len(text)}\r\n"
    requests = {
        "json": http_request("/v2/models/mlp/infer", json_body(x), "content-type: application/json\r\n"),
        "bytes": http_request("/v2/models/mlp/infer", text + x.tobytes(), length),
    }
    return Contestant("taille serve", process, port, requests)


def start_theirs(model: Path, threads: int, x: np.ndarray) -> Contestant:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "fastapi_onnxruntime.py"), str(model), str(port), str(threads)]
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    requests = {
        "json": http_request("/v2/models/mlp/infer", json_body(x), "content-type: application/json\r\n"),
        "bytes": http_request("/bytes", x.tobytes()),
    }
    return Contestant("FastAPI + ONNX Runtime", process, port, requests)


def json_body(x: np.ndarray) -> bytes:
    return json.dumps({"inputs": [{**SPEC, "data": x.ravel().tolist()}]}).encode()


class Client:
    """Connections that each have one request under way, in one thread."""

    def __init__(self, port: int, request: bytes, connections: int):
        self._request = request
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ)

    def run(self, seconds: float) -> tuple[float, list[float], bytes]:
        """Requests per second, the seconds of each, and the last answer."""
        sent = {}
        times = []
        begin = time.perf_counter()
        for one in self._sockets:
            sent[one] = time.perf_counter()
            one.sendall(self._request)
        end = begin + seconds
        answer = b""
        while sent:
            for key, _ in self._selector.select():
                one: Any = key.fileobj
                answer = whole_answer(one)
                now = time.perf_counter()
                times.append(now - sent.pop(one))
                if now < end:
                    sent[one] = now
                    one.sendall(self._request)
        return len(times) / (time.perf_counter() - begin), times, answer

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def whole_answer(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            if not head.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(data.decode(errors="replace"))
            at = head.lower().index(b"content-length:") + 15
            if len(body) >= int(head[at:].split(b"\r\n", 1)[0]):
                return data
        more = connection.recv(65536)
        if not more:
            raise SystemExit(f"a server closed: {data!r}")
        data += more


def outputs(answer: bytes, encoding: str) -> np.ndarray:
    """The ten numbers of an answer."""
    body = answer.partition(b"\r\n\r\n")[2]
    if encoding == "json":
        return np.array(json.loads(body)["outputs"][0]["data"], np.float32)
    return np.frombuffer(body[-40:], np.float32)


def compare(ours: Contestant, theirs: Contestant, encoding: str, connections: int, options: argparse.Namespace) -> dict:
    pair = (ours, theirs)
    clients = [Client(one.port, one.requests[encoding], connections) for one in pair]
    mine, other = (outputs(client.run(0.3)[2], encoding) for client in clients)
    error = float(np.linalg.norm(mine - other) / np.linalg.norm(other))
    if error > (1e-5 if options.now == "float32" else 0.2):
        raise SystemExit(f"the answers differ by {error:.2g}: {mine} and {other}")
    for one in pair:
        one.rates, one.seconds, one.cpu = [], [], []
    for _ in range(options.rounds):
        for one, client in zip(pair, clients, strict=True):
            before = one.cpu_seconds()
            rate, seconds, _ = client.run(options.seconds)
            one.rates.append(rate)
            one.seconds += seconds
            one.cpu.append((one.cpu_seconds() - before) / len(seconds))
    for client in clients:
        client.close()
    ratios = [a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]
    low, high = np.percentile(ratios, [10, 90])
    row = {"precision": options.now, "encoding": encoding, "connections": connections}
    for key, one in (("taille", ours), ("fastapi", theirs)):
        p50, p99 = 1e3 * np.percentile(one.seconds, [50, 99])
        row |= {f"{key}_per_s": round(statistics.median(one.rates)), f"{key}_p50_ms": p50, f"{key}_p99_ms": p99}
        row[f"{key}_cpu_us"] = 1e6 * statistics.median(one.cpu)
    return row | {"ratio": statistics.median(ratios), "ratio_p10": low, "ratio_p90": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--precision", nargs="+", default=["float32", "int8"], choices=["float32", "int8"])
    parser.add_argument("--encoding", nargs="+", default=["json", "bytes"], choices=["json", "bytes"])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of each engine")
    options = parser.parse_args()
    print(
        "| precision | payload | connections | taille, 1/s (p50, p99 ms) | FastAPI + ORT, 1/s (p50, p99 ms) | ratio |"
    )
    print("|---|---|---|---|---|---|")
    for precision in options.precision:
        options.now = precision
        with tempfile.TemporaryDirectory() as folder:
            artefact, onnx, x = prepare(Path(folder), precision)
            pair = (start_ours(artefact, options.threads, x), start_theirs(onnx, options.threads, x))
            try:
                for encoding in options.encoding:
                    for connections in options.connections:
                        row = compare(*pair, encoding, connections, options)
                        print(as_line(row), flush=True)
            finally:
                for one in pair:
                    one.process.terminate()
                    one.process.wait(30)


def as_line(row: dict) -> str:
    cells = [row["precision"], row["encoding"], str(row["connections"])]
    cells += [
        f"{row[key + '_per_s']:,} ({row[key + '_p50_ms']:.2f}, {row[key + '_p99_ms']:.2f}, {row[key + '_cpu_us']:.0f})"
        for key in ("taille", "fastapi")
    ]
    cells.append(f"**{row['ratio']:.2f}** ({row['ratio_p10']:.2f}-{row['ratio_p90']:.2f})")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
