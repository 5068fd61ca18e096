"""Versions come and go under load, only with the token, and SIGTERM answers what is under way."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from plain_models import scaled, wide
from serve_process import COMMAND, TOKEN, ServeProcess, floats, write_models
from taille.serve import Settings, find_sources
from taille.serve.refusals import NotFound
from taille.serve.repository import Repository
from taille.serve.sources import candidates

BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOAD, UNLOAD = "/v2/repository/models/scaled/load", "/v2/repository/models/scaled/unload"


@pytest.fixture
def repository(tmp_path):
    return write_models(tmp_path) / "kept"


def add_version(repository, number, factor):
    folder = repository / "scaled" / str(number)
    folder.mkdir(exist_ok=True)
    scaled(factor).save(folder / "model.safetensors")


class Load:
    """Threads that ask without a pause; what they got is in `factors` (by which the answer was scaled) and `errors`."""

    def __init__(self, server, threads=3):
        self.factors, self.errors, self._stop = set(), [], False
        self._threads = [threading.Thread(target=self._ask, args=(server, i)) for i in range(threads)]

    def _ask(self, server, number):
        module, address = [(triton_http, server.http), (triton_grpc, server.grpc)][number % 2]
        client = module.InferenceServerClient(address)
        value = module.InferInput("x", [2, 3], "FP32")
        value.set_data_from_numpy(np.ones((2, 3), np.float32))
        try:
            while not self._stop:
                (factor,) = set(client.infer("scaled", [value]).as_numpy("y").ravel().tolist())
                self.factors.add(factor)
        except Exception as error:  # told by the test
            self.errors.append(error)
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, factor):
        end = time.monotonic() + 60
        while factor not in self.factors and not self.errors:
            assert time.monotonic() < end, f"no answer was {factor} times the input, but {self.factors}"
            time.sleep(0.005)

    def __exit__(self, *_):
        self._stop = True
        for thread in self._threads:
            thread.join()


def test_versions_come_and_go_under_load_and_no_request_is_dropped(repository):
    with ServeProcess(repository, TAILLE_SERVE_TOKEN=TOKEN) as server, Load(server) as load:
        load.wait_for(1.0)
        add_version(repository, 2, 2.0)
        assert server.ask(LOAD, {}, headers=BEARER) == (200, {})
        load.wait_for(2.0)  # the newest is the one that is asked
        add_version(repository, 2, 3.0)  # the same version, written anew
        assert server.ask(LOAD, {"parameters": {"version": "2"}}, headers=BEARER) == (200, {})
        load.wait_for(3.0)
        load.factors.clear()
        assert server.ask(UNLOAD, {"parameters": {"version": 2}}, headers=BEARER) == (200, {})
        load.wait_for(1.0)
        load.factors.clear()
        add_version(repository, 10, 10.0)  # 10 comes after 9, not before 2
        assert server.ask(LOAD, b"", headers=BEARER) == (200, {})
        load.wait_for(10.0)
        shutil.rmtree(repository / "scaled" / "10")
        assert server.ask(LOAD, {}, headers=BEARER) == (200, {})
        load.wait_for(3.0)
        for _ in range(10):
            for path in (UNLOAD, LOAD):
                assert server.ask(path, {"parameters": {"version": "2"}}, headers=BEARER) == (200, {})
        assert load.errors == []
    assert load.errors == []


def test_index_and_failures(repository):
    with ServeProcess(repository, TAILLE_SERVE_TOKEN=TOKEN) as server:
        one = {"name": "scaled", "version": "1", "state": "READY", "reason": ""}
        assert server.ask("/v2/repository/index", {}) == (200, [one])
        (repository / "scaled" / "2").mkdir()
        (repository / "scaled" / "2" / "model.safetensors").write_bytes(b"damaged")
        status, answer = server.ask(LOAD, {}, headers=BEARER)
        assert status == 400
        assert "scaled/2" in answer["error"]
        two = server.ask("/v2/repository/index", {})[1][1]
        assert (two["version"], two["state"]) == ("2", "UNAVAILABLE")
        assert "scaled/2" in two["reason"]
        assert server.ask("/v2/repository/index", {"ready": True}) == (200, [one])
        assert server.ask("/v2/models/scaled/infer", {"inputs": [floats([[1, 2, 3]])]})[0] == 200
        add_version(repository, 2, 2.0)
        client = triton_grpc.InferenceServerClient(server.grpc)
        client.load_model("scaled", headers={"authorization": f"Bearer {TOKEN}"})
        index = client.get_model_repository_index(as_json=True)["models"]
        assert [(entry["version"], entry["state"]) for entry in index] == [("1", "READY"), ("2", "READY")]
        client.unload_model("scaled", headers={"authorization": f"Bearer {TOKEN}"})
        assert not client.is_model_ready("scaled")
        client.close()
        assert server.ask("/v2/models/scaled/infer", {"inputs": [floats([[1, 2, 3]])]})[0] == 404
        assert server.ask("/v2/health/ready") == (200, {"ready": True})
        for name in ("nobody", "..", "..%2Fkept"):
            assert server.ask(f"/v2/repository/models/{name}/load", {}, headers=BEARER)[0] == 404
        for parameters in ({"config": "{}"}, {"file:1/model": "AAAA"}, {"version": []}, []):
            assert server.ask(LOAD, {"parameters": parameters or [1]}, headers=BEARER)[0] == 400


def test_nothing_is_kept_of_names_that_are_not_there(repository):
    async def ask():
        served = Repository(find_sources([repository]), Settings(http_port=0, grpc_port=None))
        await served.start()
        before = len(served._turns)
        for i in range(20):
            for command in (served.load, served.unload):
                with pytest.raises(NotFound, match=f"nobody{i}"):
                    await command(f"nobody{i}")
        assert len(served._turns) == before == 1
        await served.close()

    asyncio.run(ask())


def test_writing_needs_the_token(repository, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    with ServeProcess(repository, "--token-file", tmp_path / "token") as server:
        assert server.facts["writable"] is True
        for path in (LOAD, UNLOAD):
            for header in ({}, {"Authorization": "Bearer "}, {"Authorization": TOKEN}, {"Authorization": "Bearer no"}):
                status, answer = server.ask(path, {}, headers=header)
                assert (status, list(answer)) == (401, ["error"])
        client = triton_grpc.InferenceServerClient(server.grpc)
        for change in (client.load_model, client.unload_model):
            with pytest.raises(Exception, match="UNAUTHENTICATED"):
                change("scaled")
        client.close()
        assert server.ask("/v2/models/scaled/ready")[0] == 200
        assert server.ask(UNLOAD, {}, headers={"authorization": f"bearer {TOKEN}"})[0] == 200
    with ServeProcess(repository) as server:
        assert server.facts["writable"] is False
        assert server.http.startswith("127.0.0.1:")
        assert server.ask(UNLOAD, {}, headers=BEARER)[0] == 403
        assert server.ask("/v2/models/scaled/ready")[0] == 200


class SlowRequests:
    """Four requests of 256 samples at once, over both protocols; one is computed at a time, so the others wait."""

    def __init__(self, server):
        self.shapes = []
        asks = [self._ask_http, self._ask_grpc] * 2
        self._threads = [threading.Thread(target=ask, args=(server,)) for ask in asks]
        for thread in self._threads:
            thread.start()
        while under_way(server) + len(self.shapes) < len(asks):  # until all have reached it
            time.sleep(0.005)

    def _ask_http(self, server):
        self._ask(triton_http, server.http)

    def _ask_grpc(self, server):
        self._ask(triton_grpc, server.grpc)

    def _ask(self, module, address):
        client = module.InferenceServerClient(address)
        value = module.InferInput("x", [256, 1024], "FP32")
        value.set_data_from_numpy(np.ones((256, 1024), np.float32))
        self.shapes.append(client.infer("slow", [value]).as_numpy("y").shape)

    def finish(self):
        for thread in self._threads:
            thread.join()
        return self.shapes


def under_way(server):
    """How many requests have no answer yet."""
    text = server.exchange("GET", "/metrics")[2].decode()
    return float(re.search(r'taille_requests_under_way{model="slow",version="1"} (\S+)', text)[1])


def test_unload_and_sigterm_let_what_is_under_way_have_its_answer(tmp_path):
    wide(1024, 8192).save(tmp_path / "slow.safetensors")
    with ServeProcess(tmp_path / "slow.safetensors", "--max-batch", 256, TAILLE_SERVE_TOKEN=TOKEN) as server:
        requests = SlowRequests(server)
        assert server.ask("/v2/repository/models/slow/unload", {}, headers=BEARER) == (200, {})
        assert requests.finish() == [(256, 1)] * 4
        assert server.ask("/v2/models/slow/ready")[0] == 404
        assert server.ask("/v2/repository/models/slow/load", {}, headers=BEARER) == (200, {})
        idle = server.connect()
        requests = SlowRequests(server)
        assert server.end() == 0
        assert requests.finish() == [(256, 1)] * 4
        assert idle.recv(1) == b""
        with pytest.raises(OSError, match="refused"):
            server.connect()


def test_command_says_what_is_wrong(tmp_path):
    write_models(tmp_path)

    def said(*arguments, code=None, **env):
        done = subprocess.run(
            [*(COMMAND if code is None else [sys.executable, "-c", code]), *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "nothing.safetensors" in said("nothing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    assert "bad.safetensors" in said(tmp_path / "bad.safetensors", "--http-port", 0)
    hidden = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'grpc' else find(name, *a)\n"
        "sys.argv[1:1] = ['serve']\nfrom taille.cli import main\nmain()"
    )
    assert "this command needs grpc: pip install 'taille[serve]'" in said(tmp_path / "echo.safetensors", code=hidden)
    with ServeProcess(tmp_path / "echo.safetensors") as server:
        port = server.http.rpartition(":")[2]
        assert f"127.0.0.1:{port}" in said(tmp_path / "echo.safetensors", "--http-port", port)


def test_sources(tmp_path):
    folder = write_models(tmp_path)
    echo = folder / "echo.safetensors"
    (folder / "kept" / ".hidden").mkdir()
    (folder / "kept" / "scaled" / "latest").mkdir()
    shutil.copy(echo, folder / "kept" / "echo.safetensors")
    found = candidates(find_sources([str(echo), f"echo:3={echo}", f"other={echo}", str(folder / "kept")]))
    assert {name: sorted(versions) for name, versions in found.items()} == {
        "echo": [1, 3], "other": [1], "scaled": [1],
    }  # fmt: skip
    assert found["echo"][1] == echo
    for wrong in (f"echo:0={echo}", f"echo:x={echo}", f"a b={echo}", f".a={echo}", f"x={folder / 'kept'}"):
        with pytest.raises(ValueError, match=r"version|name"):
            find_sources([wrong])
    with pytest.raises(ValueError, match="both version 1"):
        find_sources([str(echo), f"echo={folder / 'kinds.safetensors'}"])
    with pytest.raises(FileNotFoundError, match="nothing"):
        find_sources(["a=nothing"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_body": 0}, {"max_body": "3 bananas"}, {"max_batch": 0}, {"queue_size": True}, {"http_port": 70000},
        {"http_port": None}, {"grpc_port": -2}, {"request_timeout": 0}, {"read_timeout": float("nan")}, {"host": ""},
        {"token": "short"}, {"token": "é" * 20}, {"threads": 0}, {"batch_timeout": -1},
    ],
)  # fmt: skip
def test_settings_are_checked(wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong)).replace("_", ".")):
        Settings(**wrong)
