"""`taille bench`: what it promises, but for times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import taille
from support import mistake, output_of
from taille.bench.compare import compare
from taille.bench.contestants import INSTALL, PEERS, Ours, find_peers
from taille.bench.kernels import variants
from taille.bench.models import MODELS, STANDARD, build
from taille.bench.peers_torch import TorchEager
from taille.bench.subject import Subject
from taille.cli.bench_output import markdown

MODEL = """
import taille, torch
from torch import nn

def small():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    data = [torch.randn(3, 20) for _ in range(4)]
    return taille.TorchModel(net, (data[0],), calibration_data=data, name="small")
"""
ROW = {
    "name", "precision", "latency_p50_ms", "latency_p99_ms", "latency_min_ms", "throughput_per_s", "calls",
    "size_bytes", "max_error", "sqnr_db", "wrong", "note", "ours_p50_ms", "ratio", "ratio_p10", "ratio_p50",
    "ratio_p90",
}  # fmt: skip
RESULT = {
    "model", "batch", "sequence", "threads", "pairs", "calibration_samples", "rows", "headline", "skipped",
}  # fmt: skip


def bench(*args, cwd=None, absent=()):
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in absent)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {hide}from taille.cli import main; main()", "bench", *map(str, args)],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    (folder / "nets.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def result(folder):
    done = bench(
        "nets.py:small", "--batch", 2, "--threads", 1, "--pairs", 3, "--peers", "torch,openvino,onnxruntime", "--json",
        cwd=folder, absent=("openvino", "onnxruntime"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def small(**options):
    torch.manual_seed(0)
    data = [torch.randn(3, 20) for _ in range(4)]
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    return taille.TorchModel(net, (data[0],), calibration_data=data, **options)


def test_json_has_what_was_promised(result):
    assert {"cpu", "level", "cpu_flags", "amx", "versions", "results"} == set(result)
    assert {"taille", "torch", "numpy"} <= set(result["versions"])
    (one,) = result["results"]
    assert set(one) == RESULT
    assert (one["model"], one["batch"], one["sequence"], one["threads"], one["pairs"]) == ("small", 2, None, 1, 3)
    assert one["calibration_samples"] == 12
    assert [row["name"] for row in one["rows"]] == ["taille float32", "taille int8", "torch float32"]
    assert all(set(row) == ROW for row in one["rows"])
    assert all(row["size_bytes"] > 0 and row["calls"] >= 3 for row in one["rows"])


def test_ratios_agree_with_the_latencies(result):
    (one,) = result["results"]
    native, int8, peer = one["rows"]
    assert native["ratio"] is None
    assert int8["ratio"] is None
    assert peer["ratio"] == pytest.approx(peer["latency_p50_ms"] / native["latency_p50_ms"])  # the only float32 peer
    assert peer["ratio_p10"] <= peer["ratio_p50"] <= peer["ratio_p90"]
    assert one["headline"]["float32"]["peer"] == "torch float32"
    assert one["headline"]["float32"]["ratio"] == peer["ratio"]
    assert one["headline"]["int8"] is None
    for row in one["rows"]:
        assert row["latency_min_ms"] <= row["latency_p50_ms"] <= row["latency_p99_ms"]
        assert row["throughput_per_s"] == pytest.approx(2e3 / row["latency_p50_ms"])


def test_outputs_are_held_against_torch(result):
    native, int8, peer = result["results"][0]["rows"]
    assert native["max_error"] < 1e-5
    assert peer["max_error"] == 0
    assert int8["sqnr_db"] > 20
    assert not any(row["wrong"] for row in (native, int8, peer))


def test_a_missing_peer_is_named_with_its_pip_line(result, folder):
    skipped = {s["name"]: s for s in result["results"][0]["skipped"]}
    assert set(skipped) == {
        "onnxruntime float32", "onnxruntime int8 static", "onnxruntime int8 dynamic", "openvino float32",
        "openvino int8 (nncf)",
    }  # fmt: skip
    assert all(s["install"] == INSTALL for s in skipped.values())
    assert "openvino" in skipped["openvino float32"]["why"]
    done = bench("nets.py:small", "--pairs", 1, "--peers", "openvino", cwd=folder, absent=("openvino",))
    assert done.returncode == 0, done.stderr
    assert "skipped: openvino float32" in done.stdout
    assert INSTALL in done.stdout


def test_the_pip_line_installs_every_package_of_the_peers():
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    extra = text.split("peers = [")[1].split("\n]")[0]
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "transformers"):
        assert f'"{name}>=' in extra


class Garbage(TorchEager):
    name = "garbage"

    def run(self, inputs):
        return [np.zeros_like(a) for a in super().run(inputs)]


class GarbageInt8(Garbage):
    name = "garbage int8"
    precision = "int8"


class OtherShape(TorchEager):
    name = "other shape"

    def run(self, inputs):
        return [a[:, :1] for a in super().run(inputs)]


class NotFinite(TorchEager):
    name = "not finite"

    def run(self, inputs):
        return [a * np.nan for a in super().run(inputs)]


class Broken(TorchEager):
    name = "broken"

    def prepare(self, subject, threads):
        raise RuntimeError("no such operator")


def test_wrong_outputs_are_caught(tmp_path):
    subject = Subject(small(), 2, None, tmp_path)
    peers = [Garbage(), GarbageInt8(), OtherShape(), NotFinite(), Broken(), TorchEager()]
    found = compare(subject, peers, 1, 2)
    wrong = {row["name"]: row["wrong"] for row in found["rows"]}
    assert "error" in wrong["garbage"]
    assert "SQNR" in wrong["garbage int8"]
    assert "shape" in wrong["other shape"]
    assert "finite" in wrong["not finite"]
    assert not wrong["torch float32"]
    assert not wrong["taille float32"]
    assert found["headline"]["float32"]["peer"] == "torch float32"
    assert found["headline"]["float32"]["left_out"] == ["garbage", "other shape", "not finite"]
    assert found["headline"]["int8"] is None
    assert [s for s in found["skipped"] if s["name"] == "broken" and "no such operator" in s["why"]]
    assert "torch float32" in markdown(
        {"cpu": "", "level": "", "cpu_flags": [], "amx": False, "versions": {}, "results": [found]}
    )


def test_threads_of_torch_are_put_back(tmp_path):
    before = torch.get_num_threads()
    compare(Subject(small(), 1, None, tmp_path), [TorchEager()], before + 1, 1)
    assert torch.get_num_threads() == before


def test_a_wrong_model_of_ours_ends_with_status_1(folder, monkeypatch):
    from typer.testing import CliRunner

    from taille.cli.app import app

    monkeypatch.setattr(Ours, "run", lambda self, inputs: [np.zeros((1, 5), np.float32)])
    done = CliRunner().invoke(app, ["bench", f"{folder}/nets.py:small", "--peers", "", "--pairs", "1"])
    assert done.exit_code == 1
    assert "WRONG" in done.stdout


def test_an_interrupt_leaves_the_comparisons_before_it(folder, monkeypatch):
    """Of two thread counts the second is interrupted."""
    from typer.testing import CliRunner

    from taille.cli import bench as command
    from taille.cli.app import app

    whole, calls = command.measure, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(command, "measure", interrupted)
    args = ["bench", f"{folder}/nets.py:small", "--peers", "", "--pairs", "1", "--threads", "1", "--threads", "2"]
    done = CliRunner().invoke(app, [*args, "--json"])
    assert done.exit_code == 0
    assert [r["threads"] for r in json.loads(done.stdout)["results"]] == [1]
    assert "interrupted: 1 of 2" in done.stderr


def test_batches_are_cut_to_size(tmp_path):
    subject = Subject(small(), 5, None, tmp_path)  # 12 samples: two batches of 5
    assert [feed["input"].shape for feed in subject.calibration] == [(5, 20)] * 2
    np.testing.assert_array_equal(subject.inputs["input"], subject.calibration[0]["input"])
    (again,) = Subject(small(), 30, None, tmp_path).calibration
    np.testing.assert_array_equal(again["input"][:12], again["input"][12:24])


def test_without_calibration_data_int8_is_left_out(tmp_path):
    model = small()
    model.calibration_data = None
    found = compare(Subject(model, 1, None, tmp_path), [TorchEager()], 1, 1)
    assert [row["name"] for row in found["rows"]] == ["taille float32", "torch float32"]
    assert "calibration_data" in found["skipped"][0]["why"]


def test_built_in_models():
    assert {name for name, _ in STANDARD} == set(MODELS) == {"mlp", "resnet50", "mobilenetv2", "minilm", "bert-base"}
    model = build("mlp", 3, None)
    assert model.parameter_count == 256 * 1024 + 2 * 1024**2 + 10 * 1024 + 3 * 1024 + 10
    assert model.examples["input"].shape == (3, 256)
    assert torch.equal(model.module[0].weight, build("mlp", 3, None).module[0].weight)


def test_kernels():
    done = bench("kernels", "--op", "depthwise_s8", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["op"] for row in rows} == {"depthwise_s8"}
    assert all(row["mac_per_cycle"] > 0 and row["macs"] > 0 for row in rows)
    assert {row["variant"] for row in rows} == set(variants("depthwise_s8"))


def test_amx_can_be_refused():
    code = """
import ctypes
from taille.bench import cpu
cpu.deny_amx()
assert cpu.features()["amx"] is False
library = ctypes.CDLL(None, use_errno=True)
print(library.syscall(158, 0x1023, 18), ctypes.get_errno())
"""
    assert output_of(code) == "-1 1"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nothing"], "minilm"),
        (["mlp", "--sequence", 5], "mlp"),
        (["mlp", "--peers", "tvm"], "tvm"),
        (["absent.py:f"], "absent.py"),
        (["kernels", "--op", "fft"], "gemm_s8"),
        (["mlp", "--pattern", "block2x4"], "--sparsity"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(args, message):
    said = mistake("bench", *args)
    assert message in said
    assert "Traceback" not in said


def test_every_peer_that_can_be_named_is_there():
    for name in PEERS:
        found, skipped = find_peers([name])
        assert found or skipped
