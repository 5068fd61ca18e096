"""`taille serve` as its clients see it: tritonclient over HTTP and gRPC, in this one process, and plain requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from prometheus_client.parser import text_string_to_metric_families

from serve_process import TOKEN, ServeProcess, floats, write_models

X = np.array([[1.5, -2.25, 3e-7], [0.1, 1e30, -0.0]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = write_models(tmp_path_factory.mktemp("serve"))
    sources = (folder / "echo.safetensors", f"kinds:7={folder / 'kinds.safetensors'}", folder / "kept")
    with ServeProcess(*sources, TAILLE_SERVE_TOKEN=TOKEN) as running:
        yield running
    assert "Traceback" not in running.log


@pytest.fixture(scope="module", params=["http", "grpc"])
def triton(request, server):
    """A client, and its module with the classes of inputs and outputs."""
    module = triton_http if request.param == "http" else triton_grpc
    client = module.InferenceServerClient(server.http if request.param == "http" else server.grpc)
    yield client, module
    client.close()


def given(module, name, array, datatype, **options):
    value = module.InferInput(name, list(array.shape), datatype)
    value.set_data_from_numpy(array, **options)
    return value


def test_health_and_metadata(triton):
    client, module = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("kinds", "7")
    assert not client.is_model_ready("kinds", "1")
    assert not client.is_model_ready("nothing")
    options = {} if module is triton_http else {"as_json": True}
    facts = client.get_server_metadata(**options)
    assert facts["name"] == "taille"
    assert "binary_tensor_data" in facts["extensions"]
    model = client.get_model_metadata("kinds", **options)
    assert (model["name"], model["versions"], model["platform"]) == ("kinds", ["7"], "taille")
    shapes = {t["name"]: (t["datatype"], [int(d) for d in t["shape"]]) for t in model["inputs"] + model["outputs"]}
    assert shapes == {
        "ids": ("INT64", [-1, -1]), "flags": ("BOOL", [-1, 2]), "rows": ("FP32", [-1, -1, 4]),
        "opposite": ("BOOL", [-1, 2]),
    }  # fmt: skip


def test_infer_gives_the_same_bits_back(triton):
    client, module = triton
    for binary in (True, False) if module is triton_http else (True,):
        options = {"binary_data": binary} if module is triton_http else {}
        result = client.infer(
            "echo", [given(module, "x", X, "FP32", **options)], request_id="number 5",
            outputs=[module.InferRequestedOutput("y0", **options)],
        )  # fmt: skip
        np.testing.assert_array_equal(result.as_numpy("y0"), X)
        response = result.get_response()
        facts = response if isinstance(response, dict) else {"id": response.id, "model_version": response.model_version}
        assert (facts["id"], facts["model_version"]) == ("number 5", "1")


def test_infer_several_dtypes_and_all_outputs(triton):
    client, module = triton
    ids, flags = np.array([[4, 0, 2]], np.int64), np.array([[True, False]])
    inputs = [given(module, "flags", flags, "BOOL"), given(module, "ids", ids, "INT64")]
    result = client.infer("kinds", inputs, model_version="7")
    np.testing.assert_array_equal(result.as_numpy("rows"), np.arange(20, dtype=np.float32).reshape(5, 4)[ids])
    np.testing.assert_array_equal(result.as_numpy("opposite"), ~flags)
    only = client.infer("kinds", inputs, outputs=[module.InferRequestedOutput("opposite")])
    assert only.as_numpy("rows") is None
    np.testing.assert_array_equal(only.as_numpy("opposite"), ~flags)


def test_many_requests_at_once_each_get_their_own_answer(server):
    with triton_http.InferenceServerClient(server.http, concurrency=8) as client:
        arrays = [np.full((1 + i % 3, 3), i, np.float32) for i in range(64)]
        waiting = [client.async_infer("echo", [given(triton_http, "x", a, "FP32")]) for a in arrays]
        for array, one in zip(arrays, waiting, strict=True):
            np.testing.assert_array_equal(one.get_result().as_numpy("y0"), array)


def test_typed_contents_over_grpc(server):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    client = triton_grpc.InferenceServerClient(server.grpc)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(client._channel)
    request = service_pb2.ModelInferRequest(model_name="kinds")
    request.inputs.add(name="ids", datatype="INT64", shape=[1, 2]).contents.int64_contents.extend([3, 1])
    request.inputs.add(name="flags", datatype="BOOL", shape=[1, 2]).contents.bool_contents.extend([False, True])
    answer = stub.ModelInfer(request)
    assert [output.name for output in answer.outputs] == ["rows", "opposite"]
    rows = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_array_equal(rows, [12, 13, 14, 15, 4, 5, 6, 7])
    client.close()


def test_json_as_the_protocol_writes_it(server):
    body = {"id": "a", "inputs": [{**floats([[1, 2, 3]]), "data": [[1, 2.5, 3]]}], "parameters": {"timeout": 10**7}}
    status, answer = server.ask("/v2/models/echo/infer", body)
    assert status == 200
    assert answer == {
        "model_name": "echo", "model_version": "1", "id": "a",
        "outputs": [{"name": "y0", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.5, 3.0]}],
    }  # fmt: skip
    assert server.ask("/v2/models/echo/versions/1/infer", {"inputs": [floats([[0, 0, 1]])]})[0] == 200
    assert server.ask("/v2/health/live") == (200, {"live": True})
    assert server.ask("/v2/models/echo/ready") == (200, {"name": "echo", "ready": True})


def test_binary_and_json_in_one_request(server):
    """Both inputs and both outputs, one of each kind; ids lie at an odd offset of the body."""
    ids = np.array([[1]], np.int64)
    head = {
        "inputs": [
            {"name": "ids", "datatype": "INT64", "shape": [1, 1], "parameters": {"binary_data_size": 8}},
            {"name": "flags", "datatype": "BOOL", "shape": [1, 2], "data": [True, False]},
        ],
        "outputs": [{"name": "opposite"}, {"name": "rows", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    text += b" " * (1 - len(text) % 2)
    assert len(text) % 2 == 1
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, got, content = server.exchange("POST", "/v2/models/kinds/infer", text + ids.tobytes(), headers)
    assert status == 200
    length = int(got["inference-header-content-length"])
    answer = json.loads(content[:length])
    opposite, rows = answer["outputs"]
    assert opposite == {"name": "opposite", "datatype": "BOOL", "shape": [1, 2], "data": [False, True]}
    assert rows["parameters"] == {"binary_data_size": 16}
    np.testing.assert_array_equal(np.frombuffer(content[length:], np.float32), [4, 5, 6, 7])


def test_metrics_count_requests_and_refusals(server):
    def counted():
        _, headers, text = server.exchange("GET", "/metrics")
        assert headers["content-type"].startswith("text/plain")
        families = text_string_to_metric_families(text.decode())
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    before = counted()
    assert server.ask("/v2/models/echo/infer", {"inputs": [floats([[1, 2, 3]])]})[0] == 200
    assert server.ask("/v2/models/echo/infer", {"inputs": [floats([[1, 2]])]})[0] == 400
    assert server.ask("/v2/models/nobody/infer", {"inputs": []})[0] == 404
    after = counted()

    def more(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert more("taille_request_seconds_count", protocol="http", model="echo") == 1
    assert more("taille_refused_requests_total", protocol="http", model="echo", reason="invalid") == 1
    assert more("taille_refused_requests_total", protocol="http", model="", reason="not_found") == 1
    assert more("taille_samples_total", model="echo", version="1") == 1
    assert after["taille_model_loaded", ("model", "kinds"), ("version", "7")] == 1
    assert "nobody" not in str(after)


def test_needs_no_torch(server):
    """The server's process has not loaded it."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "_native" in maps
    assert "libtorch" not in maps
