"""Load on `taille serve` while versions come and go. The model of version N gives back its input times N."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plain_models import scaled
from serve_process import TOKEN, ServeProcess, floats
from soak_load import PATIENCE, Caller, Faults
from soak_measures import MALLOC, Held

INFER = "/v2/models/scaled/infer"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BROKEN = 10**9  # a version whose file is damaged


class Versions:
    """The versions that may be asked for by number, and those that must not answer any more."""

    def __init__(self, repository: Path):
        self.repository = repository
        self.offered = [1]
        self.gone: frozenset[int] = frozenset()
        self.newest = 1  # so far
        self._using: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def one(self, rng: np.random.Generator) -> Iterator[int]:
        """A version that stays loaded within."""
        with self._changed:
            number = self.offered[int(rng.integers(len(self.offered)))]
            self._using[number] += 1
        try:
            yield number
        finally:
            with self._changed:
                self._using[number] -= 1
                self._changed.notify_all()

    def offer(self, number: int) -> None:
        with self._changed:
            self.offered.append(number)

    def withdraw(self, number: int) -> None:
        """Wait until nobody asks for it by number; those who ask for the newest may still get it."""
        with self._changed:
            self.offered.remove(number)
            self._changed.wait_for(lambda: not self._using[number], PATIENCE)

    def write(self, number: int) -> None:
        folder = self.repository / "scaled" / str(number)
        folder.mkdir(parents=True)
        scaled(float(number)).save(folder / "model.safetensors")

    def remove(self, number: int) -> None:
        shutil.rmtree(self.repository / "scaled" / str(number))


class Client(Caller):
    """Asks over one connection that is kept, or cut where it gives up waiting."""

    def __init__(self, server: ServeProcess, versions: Versions, faults: Faults, rng: np.random.Generator):
        super().__init__(faults, rng)
        host, _, port = server.http.rpartition(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        self.versions = versions

    def step(self) -> None:
        chance = self.rng.random()
        if chance < 0.06:
            self.bad()
        elif chance < 0.4:
            with self.versions.one(self.rng) as number:
                self.good(number)
        else:
            self.good(None)

    def finish(self) -> None:
        self.connection.close()

    def exchange(self, path: str, body: bytes) -> tuple[int, Any]:
        self.connection.request("POST", path, body)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def good(self, number: int | None) -> None:
        rng = self.rng
        rows = rng.integers(-9, 10, (int(rng.choice([1, 1, 2, 5])), 3)).astype(float).tolist()
        parameters: dict[str, int] = {"priority": int(rng.integers(0, 4))}
        if hasty := rng.random() < 0.1:
            parameters["timeout"] = int(rng.choice([1, 300, 3000]))  # microseconds
        path = INFER if number is None else f"/v2/models/scaled/versions/{number}/infer"
        body = json.dumps({"inputs": [floats(rows)], "parameters": parameters}).encode()
        gone = self.versions.gone
        if rng.random() < 0.03:  # a client that does not wait
            self.connection.request("POST", path, body)
            time.sleep(float(rng.choice([0.0, 0.001])))
            self.connection.close()
            self.done["given up"] += 1
            return
        status, answer = self.exchange(path, body)
        self.done[f"HTTP {status}"] += 1
        if status != 200:
            if status not in ((503, 504) if hasty else (503,)):
                self.faults.add(f"{path}, {parameters}: {status} {answer}")
            return
        version = int(answer["model_version"])
        output = answer["outputs"][0]
        wanted = [value * version for row in rows for value in row]
        if output["data"] != wanted or output["shape"] != [len(rows), 3]:
            self.faults.add(f"{path}: {output} of version {version}; wanted {wanted}")
        if version in gone or (number is not None and version != number):
            self.faults.add(f"{path}: answered by version {version}; {sorted(gone)[-3:]} were unloaded before")

    def bad(self) -> None:
        good = {"inputs": [floats([[1.0, 2.0, 3.0]])]}
        path, body, wanted = [
            (INFER, b'{"inputs": [', 400),
            (INFER, json.dumps({"inputs": [floats([[1.0, 2.0]])]}).encode(), 400),
            (INFER, json.dumps({"inputs": [{**floats([[1.0, 2.0, 3.0]]), "shape": [2**40, 3]}]}).encode(), 400),
            (f"/v2/models/scaled/versions/{BROKEN}/infer", json.dumps(good).encode(), 404),
            ("/v2/models/nobody/infer", json.dumps(good).encode(), 404),
        ][int(self.rng.integers(5))]
        status, answer = self.exchange(path, body)
        self.done["HTTP refused as bad"] += 1
        if status != wanted or "error" not in answer:
            self.faults.add(f"{path}: {status} {answer}; wanted {wanted}")


class Keeper(Caller):
    """Brings new versions and takes old ones away; some are damaged."""

    def __init__(self, server: ServeProcess, versions: Versions, faults: Faults, rng: np.random.Generator):
        super().__init__(faults, rng)
        self.server, self.versions = server, versions

    def step(self) -> None:
        self.stopping.wait(float(self.rng.uniform(0.02, 0.2)))
        versions = self.versions
        if len(versions.offered) > 3 or (len(versions.offered) > 1 and self.rng.random() < 0.4):
            self.unload(self.pick(versions.offered[1:]))
        elif self.rng.random() < 0.15:
            (versions.repository / "scaled" / str(BROKEN)).mkdir()
            (versions.repository / "scaled" / str(BROKEN) / "model.safetensors").write_bytes(b"damaged")
            self.command("load", {"version": str(BROKEN)}, 400)
            versions.remove(BROKEN)
        else:
            versions.newest = number = versions.newest + 1
            versions.write(number)
            self.command("load", {"version": str(number)} if self.rng.random() < 0.5 else {}, 200)
            versions.offer(number)
            self.done["version swaps"] += 1

    def unload(self, number: int) -> None:
        self.versions.withdraw(number)
        self.versions.remove(number)
        self.command("unload", {"version": str(number)}, 200)
        self.versions.gone |= {number}

    def command(self, what: str, parameters: dict[str, str], wanted: int) -> None:
        body = {"parameters": parameters}
        status, answer = self.server.ask(f"/v2/repository/models/scaled/{what}", body, headers=BEARER)
        if status != wanted:
            self.faults.add(f"{what} {parameters}: {status} {answer}; wanted {wanted}")

    def finish(self) -> None:
        for number in self.versions.offered[1:]:
            self.unload(number)


class ServerLoad:
    """A server for the time of a soak."""

    def __init__(self, folder: Path):
        self.versions = Versions(folder / "repository")
        self.versions.write(1)
        self.server = ServeProcess(self.versions.repository, TAILLE_SERVE_TOKEN=TOKEN, **MALLOC)

    def callers(self, faults: Faults, rngs: Iterator[np.random.Generator]) -> list[Caller]:
        clients = [Client(self.server, self.versions, faults, next(rngs)) for _ in range(2)]
        return [*clients, Keeper(self.server, self.versions, faults, next(rngs))]

    def at_rest(self) -> Held:
        """What the server holds, once what clients left behind is done."""
        end = time.monotonic() + PATIENCE
        while b"_under_way" in (text := self.metrics()) and not all(
            line.endswith(b" 0.0") for line in text.splitlines() if line.startswith(b"taille_requests_under_way{")
        ):
            if time.monotonic() > end:
                raise RuntimeError(f"requests are under way {PATIENCE} s after the last: {text.decode()}")
            time.sleep(0.05)
        time.sleep(0.3)  # for connections to be closed on its side
        return Held.by(self.server.process.pid)

    def metrics(self) -> bytes:
        return self.server.exchange("GET", "/metrics")[2]

    def close(self) -> list[str]:
        """End it; what is wrong with how it ended."""
        status = self.server.end()
        text = self.server.log
        self.server.__exit__()
        found = [f"the server ended with {status}"] if status else []
        return found + ([f"the server's log has a traceback: {text[-3000:]}"] if "Traceback" in text else [])
