"""`taille.serve.ray` on a Ray instance that the test starts: the protocol over HTTP, and handles."""

from __future__ import annotations

import json
import os
import runpy
import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import taille
from ray_instance import ray_instance
from runner_models import ragged
from support import missing, run_python
from taille.serve import Settings
from taille.serve.ray import deployment

try:
    from ray import serve
except ImportError:
    missing("Ray Serve is not installed (pip install 'taille[ray-serve]')")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "serving" / "ray_serve.py"


def test_ray_serve(tmp_path):  # one test, as those of a module may go to several processes, each with a Ray
    ragged().save(tmp_path / "model.safetensors")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    application = deployment(
        f"words:3={tmp_path / 'model.safetensors'}", settings=Settings(threads=1, max_batch=4), num_replicas=2,
        ray_actor_options={"num_cpus": 0},
    )  # fmt: skip
    with ray_instance():
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        try:
            handle = serve.run(application, route_prefix="/app")
            assert serve.status().applications["default"].deployments["words"].replica_states == {"RUNNING": 2}
            callers_get_their_own(handle)
            errors_are_told(handle)
            http_is_that_of_the_protocol(f"http://127.0.0.1:{port}/app")
        finally:
            serve.shutdown()


def callers_get_their_own(handle):
    model = ragged()
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, 50, (int(rng.integers(1, 6)), int(rng.integers(1, 5)))) for _ in range(60)]
    answers = [handle.predict.remote(ids, priority=i % 3) for i, ids in enumerate(asked)]
    for ids, answer in zip(asked, answers, strict=True):
        found = answer.result(timeout_s=60)
        assert isinstance(found, tuple)
        for one, wanted in zip(found, model.predict(ids), strict=True):
            np.testing.assert_array_equal(one, wanted)
    counts = handle.stats.remote().result(timeout_s=60)
    assert 0 < counts["submitted"] == counts["completed"] <= 60


def errors_are_told(handle):
    def told(ids, **options):
        return handle.predict.remote(ids, **options).result(timeout_s=60)

    with pytest.raises(ValueError, match="50"):
        told(np.full((1, 2), 50))
    with pytest.raises(ValueError, match="deadline"):
        told(np.zeros((1, 2), np.int64), deadline=-1.0)
    with pytest.raises(taille.DeadlineError):
        told(np.zeros((1, 2), np.int64), deadline=1e-9)


def ask(url, body=None, **headers):
    """The status, the headers and the body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ids_as_json(ids, **more):
    value = {"name": "ids", "datatype": "INT64", "shape": list(ids.shape), "data": ids.ravel().tolist()}
    return json.dumps({"inputs": [value], **more}).encode()


def http_is_that_of_the_protocol(address):
    ids = np.array([[1, 2, 3], [4, 5, 49]])
    tokens, mean = ragged().predict(ids)
    model = f"{address}/v2/models/words"
    status, headers, answer = ask(model + "/infer", ids_as_json(ids, id="a", outputs=[{"name": "mean"}]))
    assert (status, headers["content-type"]) == (200, "application/json")
    told = json.loads(answer)
    np.testing.assert_array_equal(np.array(told["outputs"][0].pop("data"), np.float32).reshape(2, 8), mean)
    output = {"name": "mean", "datatype": "FP32", "shape": [2, 8]}
    assert told == {"model_name": "words", "model_version": "3", "id": "a", "outputs": [output]}

    value = {"name": "ids", "datatype": "INT64", "shape": [2, 3], "parameters": {"binary_data_size": ids.nbytes}}
    head = json.dumps({"inputs": [value], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, answer = ask(model + "/versions/3/infer", head + ids.tobytes(), **length)
    assert status == 200
    assert answer[int(headers["inference-header-content-length"]) :] == tokens.tobytes() + mean.tobytes()

    assert json.loads(ask(model)[2])["inputs"] == [{"name": "ids", "datatype": "INT64", "shape": [-1, -1]}]
    assert ask(f"{address}/v2/health/ready")[0] == 200
    assert b"taille_requests" in ask(f"{address}/metrics")[2]
    for url, sent, wanted in [
        (model + "/infer", b"{", 400),
        (model + "/infer", ids_as_json(ids + 1), 400),  # 50 is no word
        (model + "/infer", ids_as_json(np.zeros((5, 1), int)), 400),  # more than max_batch
        (f"{address}/v2/models/nobody/infer", ids_as_json(ids), 404),
        (f"{address}/v2/repository/models/words/unload", b"{}", 403),
    ]:
        status, _, answer = ask(url, sent)
        assert (status, list(json.loads(answer))) == (wanted, ["error"])


def test_the_example_deploys(tmp_path, monkeypatch):
    ragged().save(tmp_path / "words.safetensors")
    monkeypatch.setenv("TAILLE_ARTEFACT", str(tmp_path / "words.safetensors"))
    application = runpy.run_path(str(EXAMPLE))["application"]
    assert isinstance(application, serve.Application)


def test_what_cannot_be_deployed(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        deployment(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="a repository"):
        deployment(tmp_path)
    with pytest.raises(TypeError, match=r"settings is dict; wanted a taille.serve.Settings"):
        deployment(Path(__file__), settings={"max_batch": 4})
    code = """
import sys
sys.modules["ray"] = None  # makes `import ray` raise, as if it were not installed
from taille.serve.ray import deployment
deployment("model.safetensors")
"""
    done = run_python(code, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    assert "ImportError: taille.serve.ray needs Ray Serve: pip install 'taille[ray-serve]'" in done.stderr
