"""The adapters in `examples/serving`: LitServe for real, Triton's backend with a stand-in for Triton."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from plain_models import kinds, scaled
from support import missing

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "serving"


def test_litserve(tmp_path):
    if importlib.util.find_spec("litserve") is None:
        missing("litserve is not installed")
    scaled(2.0).save(tmp_path / "model.safetensors")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "litserve_server.py"), str(port)], stdout=log, stderr=log,
            env={**os.environ, "TAILLE_ARTEFACT": str(tmp_path / "model.safetensors")}, start_new_session=True,
        )  # fmt: skip
        try:
            while ask(port, "GET", "/health", None)[0] != 200:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            status, body = ask(port, "POST", "/predict", json.dumps({"x": [1, 2.5, -3]}))
            assert (status, json.loads(body)) == (200, {"y": [2.0, 5.0, -6.0]})
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
            process.wait()


def ask(port, method, path, body):
    """The status (0: nobody listens) and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


class Tensor(SimpleNamespace):
    """As Triton's."""

    def __init__(self, name, array):
        super().__init__(name=name, array=array)

    def as_numpy(self):
        return self.array


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """The model of the example as Triton would start it, on the artefact `kinds`."""
    triton = ModuleType("triton_python_backend_utils")
    triton.Tensor = Tensor
    triton.TritonError = str
    triton.get_input_tensor_by_name = lambda request, name: request[name]
    triton.InferenceResponse = lambda output_tensors=(), error=None: SimpleNamespace(
        outputs={tensor.name: tensor.array for tensor in output_tensors}, error=error
    )
    monkeypatch.setitem(sys.modules, triton.__name__, triton)
    (tmp_path / "1").mkdir()
    kinds().save(tmp_path / "1" / "model.safetensors")
    spec = importlib.util.spec_from_file_location("backend", EXAMPLES / "triton" / "mlp" / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(tmp_path), "model_version": "1"})
    yield model
    model.finalize()


def test_triton_backend(backend):
    flags = np.array([[True, False]])

    def request(number):
        return {"ids": Tensor("ids", np.array([[number]], np.int64)), "flags": Tensor("flags", flags)}

    good, bad = backend.execute([request(2), request(9)])
    np.testing.assert_array_equal(good.outputs["rows"], [[[8, 9, 10, 11]]])
    np.testing.assert_array_equal(good.outputs["opposite"], ~flags)
    assert good.error is None
    assert "9" in bad.error


def test_triton_configuration_names_what_the_bench_model_has():
    from taille.bench.models import build

    model = build("mlp", 1, None)
    text = (EXAMPLES / "triton" / "mlp" / "config.pbtxt").read_text()
    assert re.findall(r'name: "(\w+)", data_type: TYPE_(\w+), dims: \[ (\d+) \]', text) == [
        (spec.name, "FP32", str(spec.shape[1])) for spec in (*model.input_spec, *model.output_spec)
    ]
