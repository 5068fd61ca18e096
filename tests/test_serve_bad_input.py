"""What is malformed, too large, too slow or too much is refused as the protocol says, and the server keeps serving."""

from __future__ import annotations

import json
import re
import select
import threading

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plain_models import kinds, wide
from serve_process import ServeProcess, everything, floats, write_models

INFER = "/v2/models/echo/infer"
GOOD = {"inputs": [floats([[1, 2, 3]])]}
MOST = 200_000  # bytes of a body here


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = write_models(tmp_path_factory.mktemp("bad"))
    kinds(64).save(folder / "long.safetensors")
    sources = [folder / f"{name}.safetensors" for name in ("echo", "kinds", "long")]
    limits = ["--max-body", MOST, "--max-batch", 8, "--read-timeout", 1.5, "--max-connections", 20]
    with ServeProcess(*sources, *limits) as running:
        yield running
        assert running.ask(INFER, GOOD)[0] == 200
    assert "Traceback" not in running.log


def changed(**changes):
    return {"inputs": [{**floats([[1, 2, 3]]), **changes}]}


BAD = {
    "not JSON": (b"{", 400, "not JSON"),
    "empty": (b"", 400, "not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', 400, "not JSON"),
    "NaN": (json.dumps(changed(data=[1, float("nan"), 3])).encode(), 400, "not JSON"),
    "deep": (b"[" * 100_000, 400, "not JSON"),
    "a list": ([], 400, "not a JSON object"),
    "no inputs": ({}, 400, "'inputs'"),
    "inputs without names": ({"inputs": [{}]}, 400, "'inputs'"),
    "an input is missing": ({"inputs": []}, 400, "missing: x"),
    "unknown input": (changed(name="z"), 400, "unknown: z"),
    "twice": ({"inputs": [floats([[1, 2, 3]])] * 2}, 400, "twice"),
    "wrong datatype": (changed(datatype="INT64", data=[1, 2, 3]), 400, "int64"),
    "unknown datatype": (changed(datatype="FP31"), 400, "FP31"),
    "wrong shape": (changed(shape=[3]), 400, "shape"),
    "wrong rank": (changed(shape=[1, 1, 3]), 400, "shape"),
    "fewer elements": (changed(data=[1, 2]), 400, "2 elements"),
    "more elements than claimed": (changed(shape=[1, 3], data=[0] * 4), 400, "4 elements"),
    "huge claim": (changed(shape=[2**62, 2**62]), 400, "elements"),
    "negative size": (changed(shape=[-1, 3]), 400, "-1"),
    "size that is true": (changed(shape=[True, 3]), 400, "True"),
    "fractional size": (changed(shape=[1.0, 3]), 400, "1.0"),
    "many dimensions": (changed(shape=[1] * 100), 400, "at most 32"),
    "text among numbers": (changed(data=[1, "2", 3]), 400, "not float or int"),
    "null among numbers": (changed(data=[1, None, 3]), 400, "not float or int"),
    "true among numbers": (changed(data=[1, True, 3]), 400, "not float or int"),
    "out of range": (changed(data=[1, 1e300, 3]), 400, "range"),
    "uneven lists": (changed(shape=[2, 3], data=[[1, 2, 3], [1, 2]]), 400, "nested"),
    "lists nested wrong": (changed(shape=[2, 3], data=[[1, 2], [1, 2], [1, 2]]), 400, "nested"),
    "empty batch": (changed(shape=[0, 3], data=[]), 400, "at least 1"),
    "large batch": (changed(shape=[9, 3], data=[0] * 27), 400, "at most 8"),
    "bytes that are not there": (changed(data=None, parameters={"binary_data_size": 12}), 400, "both"),
    "unknown output": ({**GOOD, "outputs": [{"name": "y00"}]}, 400, "did you mean y0"),
    "id of another type": ({**GOOD, "id": 5}, 400, "id"),
    "parameters of another type": ({**GOOD, "parameters": []}, 400, "parameters"),
    "timeout of another type": ({**GOOD, "parameters": {"timeout": "1"}}, 400, "timeout"),
    "shared memory": (changed(parameters={"shared_memory_region": "a"}), 400, "shared_memory_region"),
    "sequences": ({**GOOD, "parameters": {"sequence_id": 1}}, 400, "sequence_id"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_body(server, case):
    body, status, words = BAD[case]
    got, answer = server.ask(INFER, body)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v2/models/echos/infer", 404, "did you mean echo"),
        ("/v2/models/echo/versions/2/infer", 404, "no version '2'"),
        ("/v2/models/echo/versions/x/infer", 404, "no version 'x'"),
        ("/v2/models/" + "a" * 5000 + "/infer", 404, "no model 'aaa"),
        ("/v2/models/..%2F..%2Fetc/infer", 404, "no model"),
        ("/v2/nothing", 404, "not of the protocol"),
        ("/v2/health/live", 405, "not of the protocol"),
    ],
)
def test_bad_path(server, path, status, words):
    got, answer = server.ask(path, GOOD)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "9" * 40, ""])
def test_bad_header_length(server, length):
    status, answer = server.ask(INFER, GOOD, headers={"Inference-Header-Content-Length": length})
    assert status == 400
    assert "Inference-Header-Content-Length" in answer["error"]


@pytest.mark.parametrize(("size", "sent"), [(12, 8), (10**30, 12), (-4, 12), (8, 12), (16, 16), ("12", 12)])
def test_bad_binary_size(server, size, sent):
    value = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [value]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, answer = server.ask(INFER, text + b"\0" * sent, headers=headers)
    assert status == 400, answer
    assert "bytes" in answer["error"]


def test_bool_bytes_are_0_or_1(server):
    ids = {"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [0]}
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1, 2], "parameters": {"binary_data_size": 2}}
    text = json.dumps({"inputs": [ids, flags]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, answer = server.ask("/v2/models/kinds/infer", text + b"\1\2", headers=headers)
    assert (status, answer["error"]) == (400, "input 'flags' is BOOL and has bytes other than 0 and 1")


def test_ids_outside_the_table(server):
    ids = {"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [5]}
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1, 2], "data": [True, True]}
    status, answer = server.ask("/v2/models/kinds/infer", {"inputs": [ids, flags]})
    assert status == 400
    assert "5" in answer["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_body_too_large(server, chunked):
    """The client gets the error though it sends everything before it reads."""
    body = b" " * (MOST + 1)
    data = (iter([body[:70_000], body[70_000:140_000], body[140_000:]]),) if chunked else (body,)
    status, _, content = server.exchange("POST", INFER, *data)
    assert status == 413
    assert f"{MOST:,} bytes" in json.loads(content)["error"]


def test_huge_claimed_length_is_refused_before_it_is_sent(server):
    with server.connect() as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n" % INFER.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n", b"\0" * 1000],
)  # fmt: skip
def test_what_is_not_http(server, sent):
    with server.connect() as connection:
        connection.sendall(sent)
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"error":' in answer


def test_endless_headers(server):
    with server.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 15_000)
        assert everything(connection).startswith(b"HTTP/1.1 431 ")


SLOW = {
    "says nothing": b"",
    "half a header": b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\n",
    "half a body": b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{",
}


def test_slow_clients_are_cut_off_and_hinder_nobody(server):
    connections = {case: server.connect() for case in SLOW}
    for case, sent in SLOW.items():
        connections[case].sendall(sent)
    assert server.ask(INFER, GOOD)[0] == 200
    for connection in connections.values():
        assert everything(connection).startswith(b"HTTP/1.1 408 ")
        connection.close()


def test_a_client_that_never_takes_its_answer_is_cut_off(server):
    """25 MB, more than lies in the buffers of any kernel."""
    ids = {"name": "ids", "datatype": "INT64", "shape": [1, 90_000], "data": [0] * 90_000}
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1, 2], "data": [True, True]}
    body = json.dumps({"inputs": [ids, flags], "parameters": {"binary_data_output": True}}, separators=(",", ":"))
    head = "POST /v2/models/long/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n"
    with server.connect() as connection:
        connection.sendall((head.format(len(body)) + body).encode())
        broken = select.poll()
        broken.register(connection, 0)  # errors alone
        assert broken.poll(30_000)
    assert server.ask(INFER, GOOD)[0] == 200


def test_requests_that_do_not_wait_for_answers(server):
    """A few are answered in order; without end, they are not read."""
    one = b"GET /v2/models/%s/ready HTTP/1.1\r\nhost: a\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(one % b"echo" + one % b"nobody" + one % b"echo")
        answer = b""
        while answer.count(b"HTTP/1.1 ") < 3:
            answer += connection.recv(65536)
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200"]
    with server.connect() as connection, pytest.raises(OSError, match=r"reset|pipe"):
        connection.sendall(one % b"echo" * 1_000_000)
    assert server.ask(INFER, GOOD)[0] == 200


def test_connections_are_bounded(server):
    held = [server.connect() for _ in range(24)]  # 20 are allowed
    assert everything(held[-1]).startswith(b"HTTP/1.1 503 ")
    for connection in held:
        connection.close()
    assert server.ask(INFER, GOOD)[0] == 200


def test_grpc_refusals_have_the_protocol_codes(server):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    client = triton_grpc.InferenceServerClient(server.grpc)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(client._channel)

    def code(change):
        request = service_pb2.ModelInferRequest(model_name="echo")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(np.ones(3, np.float32).tobytes())
        change(request)
        try:
            stub.ModelInfer(request, timeout=30)
        except Exception as error:
            return error.code().name, error.details()
        return "OK", ""

    assert code(lambda r: None)[0] == "OK"
    cases = {
        "no model 'a'": ("NOT_FOUND", lambda r: setattr(r, "model_name", "a")),
        "12 bytes": ("INVALID_ARGUMENT", lambda r: r.inputs[0].shape.append(2**40)),
        "has 2 tensors for 1": ("INVALID_ARGUMENT", lambda r: r.raw_input_contents.append(b"")),
        "FP31": ("INVALID_ARGUMENT", lambda r: setattr(r.inputs[0], "datatype", "FP31")),
        "unknown: z": ("INVALID_ARGUMENT", lambda r: setattr(r.inputs[0], "name", "z")),
        "no output 'z'": ("INVALID_ARGUMENT", lambda r: r.outputs.add(name="z")),
        "raw_input_contents": ("INVALID_ARGUMENT", lambda r: r.inputs[0].contents.fp32_contents.append(1)),
        "fp32_contents alone": (
            "INVALID_ARGUMENT",
            lambda r: (r.ClearField("raw_input_contents"), r.inputs[0].contents.int_contents.extend([1, 2, 3])),
        ),
        "": ("RESOURCE_EXHAUSTED", lambda r: r.raw_input_contents.append(b" " * 2 * MOST)),
        "read-only": ("PERMISSION_DENIED", None),
    }
    for words, (wanted, change) in cases.items():
        if change is None:
            with pytest.raises(Exception, match=words) as raised:
                stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="echo"))
            assert raised.value.code().name == wanted
            continue
        got, details = code(change)
        assert got == wanted
        assert words in details
    assert code(lambda r: None)[0] == "OK"
    client.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["name", "shape", "datatype", "data", "parameters"])
MUTATED = st.dictionaries(KEYS, JSON, max_size=3).map(
    lambda changes: json.dumps({"inputs": [{**floats([[1, 2, 3]]), **changes}]}).encode()
)
TOP = st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "parameters"]), JSON).map(
    lambda changes: json.dumps({**GOOD, **changes}).encode()
)


@settings(max_examples=150)
@given(
    body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()) | MUTATED | TOP,
    cut=st.none() | st.integers(0, 300),
)
@example(json.dumps(GOOD).encode(), len(json.dumps(GOOD)))
def test_any_body_gets_an_answer_of_the_protocol(server, body, cut):
    headers = {} if cut is None else {"Inference-Header-Content-Length": str(cut)}
    status, answer = server.ask(INFER, body, headers=headers)
    assert status in (200, 400)
    assert ("error" in answer) == (status == 400)


def test_full_queue_and_late_answers(tmp_path):
    wide(1024, 8192).save(tmp_path / "slow.safetensors")
    x = np.ones((256, 1024), np.float32)
    with ServeProcess(tmp_path / "slow.safetensors", "--queue-size", 1, "--max-batch", 256) as server:
        statuses: list[int] = []

        def ask(parameters):
            value = {"name": "x", "datatype": "FP32", "shape": x.shape, "parameters": {"binary_data_size": x.nbytes}}
            text = json.dumps({"inputs": [value], "parameters": parameters}).encode()
            headers = {"Inference-Header-Content-Length": str(len(text))}
            status, answer = server.ask("/v2/models/slow/infer", text + x.tobytes(), headers=headers)
            statuses.append(status)
            assert status == 200 or "error" in answer

        ask({"timeout": 1})
        assert statuses == [504]
        threads = [threading.Thread(target=ask, args=({},)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses[1:]) == {200, 503}
        ask({})
        assert statuses[-1] == 200
