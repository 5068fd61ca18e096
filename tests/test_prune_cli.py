"""`taille prune`, once in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from support import mistake, printed

MODEL = """
import taille, torch
from torch import nn

def small():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
                        nn.Flatten(), nn.Linear(16 * 64, 10))
    x = torch.randn(64, 3, 8, 8)
    return taille.TorchModel(net, (x,), calibration_data=[x])

def deep():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.randn(64, 8)
    return taille.TorchModel(net, (x,), calibration_data=[x])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prune")
    (folder / "nets.py").write_text(MODEL)
    return folder


STRUCTURED = ["--target-size", 0.25, "--method", "structured", "--pattern", "block4x4"]


def test_prune_and_quantise(folder: Path) -> None:
    options = [*STRUCTURED, "--quantize", "int8", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from taille.cli import main; main()", "prune", "nets.py:small", "-o", "p.safetensors",
         *map(str, options)],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [s["step"] for s in found["recipe"]] == ["prune", "quantize"]
    assert found["recipe"][0]["share"] == 0.25
    assert found["recipe"][0]["recovery"] == "reconstruction"
    assert {r["name"]: r["why"] for r in found["report"]["layers"]} == {
        "0": "the first layer",
        "2": "",
        "5": "the last layer",
    }
    assert found["size_bytes"] == (folder / "p.safetensors").stat().st_size < found["size_bytes_before"]
    native = taille.load(folder / "p.safetensors")
    assert native.predict(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 10)
    assert native.metadata["recipe"] == found["recipe"]


def test_the_report_is_a_table(folder: Path) -> None:
    text = printed("prune", "nets.py:small", "-o", "t.safetensors", *STRUCTURED, "--report", cwd=folder)
    for words in (
        "float32",
        "1 layers pruned, 2 dense; 25.00 %",
        "recovery: reconstruction",
        "the first layer",
        "25.00 %",
    ):
        assert words in text
    assert taille.load(folder / "t.safetensors").sparsity > 0.1


def test_channels_are_permuted(folder: Path) -> None:
    options = ["prune", "nets.py:deep", "-o", "o.safetensors", *STRUCTURED, "--permute"]
    text = printed(*options, "--report", cwd=folder)
    assert "channels of 2 of " in text
    assert "order of channels, by group" in text
    moved = json.loads(printed(*options, "--json", cwd=folder))["recipe"][0]["permuted"]
    assert [m["name"] for m in moved] == ["0", "2"]
    assert all(m["kept_after"] > m["kept_before"] for m in moved)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-size", 0.5, "--method", "structured", "--pattern", "block5x5"], "unknown pattern 'block5x5'"),
        ([*STRUCTURED, "--quantize", "int3"], "--quantize is 'int3'"),
        (["--target-size", 0.25, "--permute"], "permute is True with pattern 'unstructured'"),
        ([], "--target-size"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(folder: Path, options: list[Any], message: str) -> None:
    said = mistake("prune", "nets.py:small", "-o", "x.safetensors", *options, cwd=folder)
    assert message in said
    assert "Traceback" not in said
    assert not (folder / "x.safetensors").exists()
