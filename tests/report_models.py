"""A small model with the evidence of a search that never ran: numbers that a test can know."""

from __future__ import annotations

from typing import Any

import numpy as np

from nets import Net
from taille.compiled import CompiledModel
from taille.optimization.contract import Contract
from taille.optimization.evidence import compared, evidence
from taille.optimization.journal import Entry

CONTRACT = {"max_latency_ms": 2.5, "max_size": 900_000, "max_memory": "40MB", "max_accuracy_drop": 0.01, "threads": 2}
CHOSEN = "block4x4 0.25 sensitivity reconstruction int8"


def entry(key: str, ms: float, size: int, quality: float | None, predicted: float | None = None) -> Entry:
    judged = {} if quality is None else {"accuracy": quality}
    metrics = {
        "latency_ms": ms, "latency_ms_p50": ms, "latency_ms_p99": 1.75 * ms, "throughput": 1000 / ms,
        "size_bytes": float(size), "peak_memory_bytes": 12.0 * size, "sparsity": 0.0, **judged,
    }  # fmt: skip
    return Entry(key, {"precision": "int8"}, metrics, predicted, seconds=3.25 + ms)


def entries(*, quality: bool = True) -> list[tuple[Entry, bool, bool]]:
    """The candidates, whether each is on the front, and whether it meets the contract."""
    rows = [
        (entry("dense float32", 8.125, 3_200_000, 0.9125), False, False),
        (entry("dense int8", 3.0625, 810_000, 0.9130), True, False),
        (entry(CHOSEN, 1.375, 260_000, 0.9081, 1.4375), True, True),
        (entry("block4x4 0.1 sensitivity none int8", 0.8125, 120_000, 0.4444, 0.875), True, False),
        (Entry("block1x4 0.1 sensitivity none int8", {}, seconds=0.5, error="TimeIsUp: no <time> left"), False, False),
    ]
    for one, _, _ in rows:
        if not quality:
            one.metrics.pop("accuracy", None)
    return rows


def layer(name: str, us: float, before: float | None, **more: Any) -> dict[str, Any]:
    row = {"name": name, "op": "conv2d", "precision": "int8", "kernel": "avx2, blocks of 4x4, 25 % kept", "why": ""}
    return {**row, "us": us, "us_float32": before, "sqnr_db": None, **more}


def layers() -> list[dict[str, Any]]:
    return [
        layer("x.quantize", 2.5, None, op="quantize", precision="uint8", kernel="avx2"),
        layer(
            "body.0",
            300.25,
            1200.0,
            weight_bytes=36_864,
            stored_bytes=9_530,
            share=0.2507,
            sqnr_db=31.4375,
            why="2.7 times as fast",
        ),
        layer("body.1", 150.125, 600.5, weight_bytes=147_456, share=0.2493, sqnr_db=29.0625),
        layer("head", 40.0, 40.0, op="linear", precision="float32", why="int8 is not faster here", weight_bytes=4096),
        layer("view", 0.0, 0.0, op="reshape", kernel="view"),
    ]


def metadata(contract: dict[str, Any] | None = None, *, quality: bool = True) -> dict[str, Any]:
    """The metadata of an artefact as a search leaves it."""
    rows = entries(quality=quality)
    baseline, chosen = rows[0][0], rows[2][0]
    rng = np.random.default_rng(0)
    times = {"chosen": 1.375 * rng.lognormal(0, 0.1, 500), "float32": 8.125 * rng.lognormal(0, 0.2, 500)}
    metrics = compared(chosen.metrics | {"speedup": 5.875}, baseline.metrics) | {"candidates": 5.0}
    asked = Contract.parse(contract or CONTRACT, has_eval=quality)
    told = {"contract": asked.record(), "seed": 7, "ended": "the time budget was used up"}
    found = evidence(told, chosen, rows, metrics, times, layers())
    steps = [{"step": "prune", "pattern": "block4x4", "weights": {"kept": 10}}, {"step": "quantize", "smooth": 0.5}]
    return {"name": "tiny", "recipe": steps, "versions": {"taille": "0.1.0", "numpy": "2.0"}, "search": found}


def compiled(found: dict[str, Any]) -> CompiledModel:
    """A model that carries that."""
    net = Net(3, 8, 8)
    net.finish(net.conv(net.x, "body.0", 8, 3))
    return CompiledModel(net.graph, found, threads=1)
