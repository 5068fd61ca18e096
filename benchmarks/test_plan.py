"""What a new shape costs, and a known one: plans of a graph of BERT-base's size (target: 1 ms and microseconds)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from taille import _native

LAYERS, HEADS = 12, 12


def bert_base_graph() -> Any:
    """BERT-base's nodes; narrower, since weights do not matter to a plan."""
    g = _native.Graph()
    width, inner = 96, 384
    x = g.add_input("x", "float32", ["batch", "sequence", width])
    w, up, down = (g.add_constant(n, np.zeros(s, np.float32)) for n, s in
                   (("w", (width, width)), ("up", (inner, width)), ("down", (width, inner))))  # fmt: skip
    gamma = g.add_constant("gamma", np.ones(width, np.float32))
    split, join = ["batch", "sequence", HEADS, width // HEADS], ["batch", "sequence", width]
    for i in range(LAYERS):
        heads = []
        for name in "qkv":
            y = g.add_node("linear", [x, w], {}, f"{i}.{name}")
            y = g.add_node("reshape", [y], {"shape": split}, f"{i}.{name}.heads")
            heads.append(g.add_node("permute", [y], {"axes": [0, 2, 1, 3]}, f"{i}.{name}.permute"))
        y = g.add_node("sdpa", heads, {"scale": 0.3}, f"{i}.sdpa")
        y = g.add_node("permute", [y], {"axes": [0, 2, 1, 3]}, f"{i}.back")
        y = g.add_node("linear", [g.add_node("reshape", [y], {"shape": join}, f"{i}.join"), w], {}, f"{i}.out")
        y = g.add_node("add", [y, x], {}, f"{i}.sum")
        y = norm = g.add_node("layer_norm", [y, gamma], {"axes": 1, "epsilon": 1e-12}, f"{i}.norm")
        y = g.add_node("gelu", [g.add_node("linear", [y, up], {}, f"{i}.up")], {}, f"{i}.gelu")
        y = g.add_node("add", [g.add_node("linear", [y, down], {}, f"{i}.down"), norm], {}, f"{i}.sum2")
        x = g.add_node("layer_norm", [y, gamma], {"axes": 1, "epsilon": 1e-12}, f"{i}.norm2")
    g.add_output("y", x)
    return _native.optimize(g)[0]


@pytest.fixture(scope="module")
def model() -> Any:
    return _native.Model(bert_base_graph(), 2)


def test_new_shape(benchmark: Any, model: Any) -> None:
    shapes = itertools.cycle([{"x": np.zeros((1, n, 96), np.float32)} for n in range(1, 400)])
    benchmark(lambda: model.plan(next(shapes)))
    benchmark.extra_info["nodes"] = len(model.graph.nodes)


def test_known_shape(benchmark: Any, model: Any) -> None:
    x = {"x": np.zeros((1, 128, 96), np.float32)}
    benchmark(lambda: model.plan(x))


def test_placement_of_2000_blocks(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    blocks = [(64 * int(rng.integers(1, 999)), n, n + int(rng.integers(1, 8))) for n in range(2000)]
    benchmark(lambda: _native.testing.place_blocks(blocks))
