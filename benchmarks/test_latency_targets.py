"""The latency targets, as ratios to the quickest peer measured in the same run.

Run by itself on a quiet machine, with `pip install '.[peers,test]'`:

    pytest -n 0 -s -p no:logging benchmarks/test_latency_targets.py

In the environment, PAIRS sets the number of pairs, and NO_AMX=1 refuses AMX to all engines: then the result says how
they compare on a CPU without it, and nothing about one that has it. A peer that is missing makes a target fail: it
might be the quickest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taille import _native
from taille.bench.compare import compare
from taille.bench.contestants import find_peers
from taille.bench.cpu import deny_amx, features
from taille.bench.models import build
from taille.bench.subject import Subject

PAIRS = int(os.environ.get("PAIRS", "30"))
PEERS = ("onnxruntime", "openvino", "torch-compile")
FLOAT32 = 1.05  # for every model
INT8 = {
    ("mlp", 1): 1.5,
    ("mlp", 64): 1.2,
    ("resnet50", 1): 1.2,
    ("resnet50", 8): 1.05,
    ("mobilenetv2", 1): 1.7,
    ("minilm", 1): 1.6,
    ("minilm", 16): 1.5,
    ("bert-base", 1): 1.5,
}


@pytest.fixture(scope="module", autouse=True)
def amx() -> None:
    if os.environ.get("NO_AMX") == "1":
        deny_amx()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("model", "batch"), INT8)
def test_ahead_of_every_peer(model: str, batch: int, threads: int, tmp_path: Path) -> None:
    if _native.granted_threads()[0] < threads:
        pytest.skip(f"this process is not granted {threads} threads")
    peers, missing = find_peers(PEERS)
    assert not missing, f"missing: {missing}"
    found = compare(Subject(build(model, batch, None), batch, None, tmp_path), peers, threads, PAIRS)
    failed = [s for s in found["skipped"] if s["why"].startswith("failed")]
    misses = [f"{s['name']} {s['why']}" for s in failed]
    misses += [f"{row['name']}: {row['wrong']}" for row in found["rows"] if row["wrong"]]
    for precision, target in (("int8", INT8[model, batch]), ("float32", FLOAT32)):
        misses += judge(found, precision, target)
    assert not misses, "; ".join(misses)


def judge(found: dict[str, Any], precision: str, target: float) -> list[str]:
    """Print a ratio beside its target; gives the miss, if it is one."""
    head = found["headline"][precision]
    if head is None:
        return [f"{precision}: no peer was measured"]
    text = (
        f"{found['model']}, batch {found['batch']}, threads {found['threads']}, {precision}: {head['ratio']:.3f} "
        f"({head['ratio_p10']:.2f}-{head['ratio_p90']:.2f}) of {target} to {head['peer']}"
        f"{', which may use AMX' if features()['amx'] else ', without AMX'}"
    )
    print(f"\n{text}", end="")
    return [text] if head["ratio"] < target else []
