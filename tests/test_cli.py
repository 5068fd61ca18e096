"""The command line: some commands in a process of their own, as a user runs them, the others in this one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import taille
from support import mistake, printed

MODEL = """
import taille, torch
from torch import nn

def small():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))
    x = torch.randn(4, 3, 8, 8)
    return taille.TorchModel(net, (x,), calibration_data=[x])

def unsupported():
    class Net(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x)
    return taille.TorchModel(Net(), (torch.randn(4, 3, 8, 8),))
"""


def cli(*args, cwd=None, **env):
    code = "from taille.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "200", **env},
    )  # fmt: skip


def parsed_of_a_process(*args, **kwargs):
    done = cli(*args, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def parsed(*args, cwd):
    return json.loads(printed(*args, cwd=cwd))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "nets.py").write_text(MODEL)
    done = cli("compile", "nets.py:small", "small.safetensors", "--precision", "int8", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_compile_to_half_and_inspect(folder, precision):
    facts = parsed(
        "compile", "nets.py:small", f"{precision}.safetensors", "--precision", precision, "--json", cwd=folder
    )
    assert facts["precision"] == precision
    assert facts["left_float32"] == []
    shown = parsed("inspect", f"{precision}.safetensors", "--json", cwd=folder)
    assert shown["precisions"][precision] == 2


@pytest.mark.parametrize(
    "command",
    [
        "demo", "optimize", "compile", "quantize", "prune", "bench", "inspect", "profile", "report", "tune", "serve",
        "doctor",
    ],
)  # fmt: skip
def test_every_command_has_help(command):
    assert "--json" in printed(command, "--help")


def test_compiled_artefact_runs(folder):
    model = taille.load(folder / "small.safetensors")
    assert model.predict(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 10)


def test_quantize_says_what_became_of_every_node(folder):
    options = ["--report", "--smooth", 0.5, "--ignore", "re:[01]", "--samples", 32, "--calibrator", "percentile"]
    found = parsed("quantize", "nets.py:small", "-o", "q.safetensors", *options, "--json", cwd=folder)
    assert found["left_float32"] == [{"name": "0", "op": "conv2d", "why": "ignored by request"}]
    assert found["size_bytes"] == (folder / "q.safetensors").stat().st_size < found["size_bytes_before"]
    (step,) = found["recipe"]
    assert (step["calibrator"], step["smooth"], step["ignore"]) == ("percentile", 0.5, ["re:[01]"])
    rows = {row["name"]: row for row in found["report"]["nodes"]}
    assert rows["3"]["precision"] == "int8"
    assert rows["3"]["layer_sqnr_db"] > 20
    assert rows["3"]["seconds_after"] > 0
    assert taille.load(folder / "q.safetensors").predict(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 10)
    text = printed("quantize", "nets.py:small", "-o", "q.safetensors", *options, "--no-bias-correction", cwd=folder)
    left, site = "left in float32: 0 (conv2d): ignored by request", "3: not smoothed: its input comes from"
    for words in (left, site, "alone dB", "worst alone: 3"):
        assert words in text


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_quantize_to_half(folder, precision):
    options = ["--precision", precision, "--ignore", "linear", "--json"]
    found = parsed("quantize", "nets.py:small", "-o", "h.safetensors", *options, cwd=folder)
    assert found["recipe"][-1] == {"step": "quantize", "precision": precision, "ignore": ["linear"]}
    assert {n["op"]: n["precision"] for n in found["report"]["nodes"]}["conv2d"] == precision
    assert [n["op"] for n in found["left_float32"]] == ["linear"]


def test_compile_to_mixed(folder):
    facts = parsed("compile", "nets.py:small", "mixed.safetensors", "--precision", "mixed", "--json", cwd=folder)
    assert (facts["precision"], facts["left_float32"]) == ("mixed", [])


def test_quantize_mixed(folder):
    options = ["--precision", "mixed", "--max-accuracy-drop", 0, "--smooth", "off", "--json"]
    found = parsed("quantize", "nets.py:small", "-o", "m.safetensors", *options, cwd=folder)
    assert sorted(found["recipe"][0]["mixed"]["kept"]) == sorted(r["name"] for r in found["left_float32"]) == ["0", "3"]


def test_inspect(folder):
    assert "int8" in printed("inspect", "small.safetensors", cwd=folder)
    dump = printed("inspect", "small.safetensors", "--dump", cwd=folder)
    assert "conv2d(" in dump
    assert "uint8 [batch, 8, 8, 16]" in dump
    assert parsed("inspect", "small.safetensors", "--json", cwd=folder)


def test_profile(folder):
    text = json.dumps(parsed("profile", "small.safetensors", "--batch", 3, "--threads", 1, "--json", cwd=folder))
    assert "conv2d" in text
    assert "int8" in text


def test_doctor_tells_level_and_threads():
    text = json.dumps(parsed_of_a_process("doctor", "--json"))
    assert taille._native.active_isa() in text
    assert taille._native.granted_threads()[1][:20] in text
    forced = json.dumps(parsed_of_a_process("doctor", "--json", TAILLE_ISA="portable"))
    assert "portable" in forced


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["inspect", "nothing.safetensors"], "nothing.safetensors"),
        (["inspect", "nets.py"], "nets.py"),
        (["compile", "nets.py:absent", "x.safetensors"], "absent"),
        (["compile", "nets.py:small", "x.safetensors", "--precision", "int3"], "int3"),
        (["compile", "nets.py:unsupported", "x.safetensors"], "svd"),
        (["quantize", "nets.py:small", "-o", "x.safetensors", "--ignore", "nothing"], "no node is called 'nothing'"),
        (["quantize", "nets.py:small", "-o", "x.safetensors", "--smooth", "7"], "smooth is 7"),
        (["quantize", "nets.py:small", "-o", "x.safetensors", "--smooth", "on"], "--smooth is 'on'"),
        (["quantize", "nets.py:small"], "--output"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(folder, args, message):
    said = mistake(*args, cwd=folder)
    assert message in said
    assert "Traceback" not in said
    assert not (folder / "x.safetensors").exists()


def test_demo_keeps_its_promises_but_for_time(tmp_path):
    result = parsed_of_a_process("demo", "--quick", "--json", "--output", tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["torch fp32", "taille fp32", "taille int8", "taille optimized"]
    assert rows["torch fp32"]["accuracy"] > 0.9
    assert rows["taille fp32"]["accuracy"] == pytest.approx(rows["torch fp32"]["accuracy"], abs=0.003)
    assert rows["taille optimized"]["accuracy"] >= rows["torch fp32"]["accuracy"] - 0.013
    assert rows["taille int8"]["size_bytes"] <= 0.3 * rows["taille fp32"]["size_bytes"]
    assert rows["taille optimized"]["size_bytes"] <= 0.26 * rows["torch fp32"]["size_bytes"]  # with its evidence
    assert all(row["latency_ms_b1"] > 0 and row["latency_ms_b64"] > 0 for row in rows.values())
    chosen = next(c for c in result["candidates"] if c["key"] == result["chosen"])
    assert chosen["meets"]
    assert chosen["metrics"]["latency_ms"] <= result["contract"]["max_latency_ms"]
    kept = tmp_path / "digits-optimized.safetensors"
    assert kept.stat().st_size == rows["taille optimized"]["size_bytes"]
    assert taille.load(kept).predict(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
