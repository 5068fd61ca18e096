"""Models, and a hold on the worker, for the tests of runners."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from nets import Net
from plain_models import wide
from taille import CompiledModel, Runner, _native


def int8_mlp(*, threads: int = 1, seed: int = 0) -> CompiledModel:
    """(batch, 32) -> (batch, 8), quantised: integer sums, so any batch gives the same bits."""
    n = Net(32)
    n.rng = np.random.default_rng(seed)
    y = n.x
    for i, (out, inputs) in enumerate([(64, 32), (64, 64), (8, 64)]):
        y = n.g.add_node("linear", [y, n.constant(f"w{i}", out, inputs), n.constant(f"b{i}", out)], {}, f"fc{i}")
        y = n.g.add_node("clamp", [y], {"lo": 0.0}, f"relu{i}") if out == 64 else y
    graph, report = n.finish(y).quantized()
    assert all(row["precision"] == "int8" for row in report)
    return CompiledModel(graph, {"name": "int8 mlp"}, threads=threads)


def ragged(*, threads: int = 1, seed: int = 0) -> CompiledModel:
    """ids (batch, sequence), of 50 words -> (batch, sequence, 8) and their mean (batch, 8), in float32."""
    rng = np.random.default_rng(seed)
    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch", "sequence"])
    table = g.add_constant("table", rng.standard_normal((50, 8), np.float32))
    w = g.add_constant("w", rng.standard_normal((8, 8), np.float32))
    words = g.add_node("embedding", [table, ids], {}, "words")
    y = g.add_node("gelu", [g.add_node("linear", [words, w], {}, "fc")], {}, "gelu")
    split = g.add_node("reshape", [y], {"shape": ["batch", "sequence", 2, 4]}, "split")
    q = g.add_node("permute", [split], {"axes": [0, 2, 1, 3]}, "q")
    y = g.add_node("permute", [g.add_node("sdpa", [q, q, q], {"scale": 0.5}, "sdpa")], {"axes": [0, 2, 1, 3]}, "back")
    y = g.add_node("reshape", [y], {"shape": ["batch", "sequence", 8]}, "joined")
    g.add_output("tokens", y)
    g.add_output("mean", g.add_node("mean", [y], {"axes": [1]}, "mean"))
    g.output_structure = "tuple"
    return CompiledModel(_native.optimize(g)[0], {"name": "ragged"}, threads=threads)


def slow(*, threads: int = 1, seed: int = 0) -> CompiledModel:
    """(batch, 256) -> (batch, 1), some 2 MB of weights: slow enough to be overtaken."""
    return wide(256, 2048, threads=threads, seed=seed)


def adds_up(stats: dict[str, Any]) -> None:
    """What must hold of the statistics of a runner that is drained."""
    assert stats["submitted"] == sum(stats[k] for k in ("completed", "failed", "cancelled", "expired"))
    assert stats["in_flight"] == stats["queue_depth"] == 0
    assert sum(stats["batch_sizes"].values()) == stats["batches"]
    assert sum(n for _, n in stats["latencies"]) == stats["completed"]
    assert 0 <= stats["latency_p50"] <= stats["latency_p90"] <= stats["latency_p99"]


@contextlib.contextmanager
def held(runner: Runner, inputs: object) -> Iterator[None]:
    """Hold the only worker of `runner`, in a callback of a request of its own: what is submitted meanwhile waits.

    Nobody may ask for a result meanwhile, as that would run it.
    """
    assert runner.streams == 1
    inside, release, missed, me = threading.Event(), threading.Event(), threading.Event(), threading.get_ident()

    def stay(_future: object) -> None:
        if threading.get_ident() == me:  # it was done before this was added
            missed.set()
            return
        inside.set()
        release.wait(60)

    while True:
        missed.clear()
        runner.submit(inputs).add_done_callback(stay)
        if not missed.is_set():
            break
    assert inside.wait(60)
    try:
        yield
    finally:
        release.set()
