"""The command line, run as a user runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import taille

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


def parsed(*args, **kwargs):
    done = cli(*args, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


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


@pytest.mark.parametrize("command", ["demo", "compile", "bench", "inspect", "profile", "doctor"])
def test_every_command_has_help(command):
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_compiled_artefact_runs(folder):
    model = taille.load(folder / "small.safetensors")
    assert model.predict(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 10)


def test_inspect(folder):
    done = cli("inspect", "small.safetensors", cwd=folder)
    assert done.returncode == 0
    assert "int8" in done.stdout
    dump = cli("inspect", "small.safetensors", "--dump", cwd=folder)
    assert "conv2d(" in dump.stdout
    assert "uint8 [batch, 8, 8, 16]" in dump.stdout
    assert parsed("inspect", "small.safetensors", "--json", cwd=folder)


def test_profile(folder):
    text = json.dumps(parsed("profile", "small.safetensors", "--batch", 3, "--threads", 1, "--json", cwd=folder))
    assert "conv2d" in text
    assert "int8" in text


def test_doctor_tells_level_and_threads():
    text = json.dumps(parsed("doctor", "--json"))
    assert taille._native.active_isa() in text
    assert taille._native.granted_threads()[1][:20] in text
    forced = json.dumps(parsed("doctor", "--json", TAILLE_ISA="portable"))
    assert "portable" in forced


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["inspect", "nothing.safetensors"], "nothing.safetensors"),
        (["inspect", "nets.py"], "nets.py"),
        (["compile", "nets.py:absent", "x.safetensors"], "absent"),
        (["compile", "nets.py:small", "x.safetensors", "--precision", "int3"], "int3"),
        (["compile", "nets.py:unsupported", "x.safetensors"], "svd"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(folder, args, message):
    done = cli(*args, cwd=folder)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x.safetensors").exists()


def test_demo_keeps_its_promises_but_for_time(tmp_path):
    result = parsed("demo", "--quick", "--json", "--output", tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["torch fp32", "taille fp32", "taille int8"]
    assert rows["torch fp32"]["accuracy"] > 0.9
    assert rows["taille fp32"]["accuracy"] == pytest.approx(rows["torch fp32"]["accuracy"], abs=0.003)
    assert rows["taille int8"]["accuracy"] >= rows["torch fp32"]["accuracy"] - 0.01
    assert rows["taille int8"]["size_bytes"] <= 0.3 * rows["taille fp32"]["size_bytes"]
    assert all(row["latency_ms_b1"] > 0 and row["latency_ms_b64"] > 0 for row in rows.values())
    (kept,) = tmp_path.glob("*int8*.safetensors")
    assert kept.stat().st_size == rows["taille int8"]["size_bytes"]
    assert taille.load(kept).predict(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
