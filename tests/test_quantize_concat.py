"""Which values take a concat's scale and zero point, so that the concat need not rescale them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from nets import Net
from taille import _native


def quants(graph: Any) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each uint8 value, by the node that makes it."""
    found = re.findall(r"scale (\S+) zero (\d+)  # (\S+)", graph.dump())
    return {name: (float(scale), int(zero)) for scale, zero, name in found}


def wide(n: Net, x: int, name: str, out: int, inputs: int, size: int = 1, gain: float = 1) -> int:
    """A convolution without ReLU, so that zero points differ from 0 and from one another."""
    w = n.rng.standard_normal((out, inputs, size, size)) * gain / np.sqrt(inputs * size * size)
    weights = n.g.add_constant(name + ".w", w.astype(np.float32))
    return n.g.add_node("conv2d", [x, weights, n.constant(name + ".b", out)], {"padding": [size // 2] * 4}, name)


def near(n: Net, graph: Any) -> bool:
    x = n.sample(4, seed=9)
    exact, ours = (_native.Model(g, 1).run({"x": x})[0] for g in (n.graph, graph))
    return bool(((ours - exact) ** 2).sum() < 0.01 * (exact**2).sum())


def pooled(n: Net, x: int, name: str, op: str = "max_pool2d") -> int:
    return n.g.add_node(op, [x], {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1]}, name)


def test_what_only_a_concat_reads_takes_its_scale():
    """Convolutions, an average, and what is moved or selected on the way; nobody else's values."""
    n = Net(3, 9, 9)
    stem = n.conv(n.x, "stem", 12, 3)
    point = wide(n, stem, "point", 5, 12)
    selected = pooled(n, wide(n, stem, "before_max", 7, 12, 3), "max")
    branches = [point, selected, pooled(n, stem, "average", "avg_pool2d"), pooled(n, stem, "shared_max"), stem]
    joined = n.g.add_node("concat", branches, {"axis": 1}, "joined")
    n.finish(wide(n, joined, "last", 4, 48))
    graph, report = n.quantized()
    assert {row["precision"] for row in report} == {"int8"}
    q = quants(graph)
    assert {name for name in q if q[name] == q["joined"]} == {"point", "before_max", "max", "average", "joined"}
    assert q["stem"] == q["shared_max"] != q["joined"]
    assert near(n, graph)


def test_a_concat_within_a_concat():
    n = Net(4, 6, 6)
    a, b, c = (wide(n, n.x, name, width, 4) for name, width in (("a", 3), ("b", 5), ("c", 2)))
    inner = n.g.add_node("concat", [a, b], {"axis": 1}, "inner")
    outer = n.g.add_node("concat", [inner, c], {"axis": 1}, "outer")
    n.finish(wide(n, outer, "last", 4, 10))
    graph, _ = n.quantized()
    q = quants(graph)
    assert q["a"] == q["b"] == q["c"] == q["inner"] == q["outer"]
    assert near(n, graph)


def test_values_with_other_readers_keep_their_scale():
    """A second layer, a second concat, or a float reader; the same value twice has one reader."""
    n = Net(4, 6, 6)
    gains = {"twice": 4, "layer": 1, "second": 1.5, "outside": 3}
    twice, layer, second, outside = (wide(n, n.x, name, 3, 4, gain=gain) for name, gain in gains.items())
    first = n.g.add_node("concat", [twice, layer, second, twice], {"axis": 1}, "first")
    other = n.g.add_node("concat", [second, outside], {"axis": 1}, "other")
    y = [wide(n, first, "c1", 2, 12), wide(n, other, "c2", 2, 6), wide(n, layer, "c3", 2, 3)]
    y.append(n.g.add_node("exp", [outside], {}, "exp"))
    for i, value in enumerate(y):
        n.g.add_output(f"y{i}", value)
    n.graph, _ = _native.optimize(n.g)
    q = quants(n.quantized()[0])
    assert q["twice"] == q["first"]
    assert q["first"] not in (q["layer"], q["second"])
    assert q["second"] != q["other"]


def test_a_graph_input_is_quantised_at_the_scale_of_its_concat():
    g = _native.Graph()
    a, b = (g.add_input(name, "float32", ["batch", 3]) for name in "ab")
    joined = g.add_node("concat", [a, b], {"axis": 1}, "joined")
    g.add_output("y", g.add_node("linear", [joined, g.add_constant("w", np.ones((4, 6), np.float32))], {}, "fc"))
    graph, _ = _native.quantize(g, {"a": (-1, 1), "b": (-1, 4), "joined": (-1, 4)})
    assert quants(graph) == dict.fromkeys(
        ["a.quantize", "b.quantize", "joined"], (pytest.approx(5 / 255, abs=1e-6), 51)
    )


def test_equal_scales_are_copied_bit_for_bit():
    rng = np.random.default_rng(0)
    g = _native.Graph()
    quant = (0.03, 77)
    parts = [g.add_input(name, "uint8", ["batch", width], quant) for name, width in (("a", 5), ("b", 70))]
    g.add_output("y", g.add_node("concat", parts, {"axis": 1}, "joined", "", quant))
    x = {name: rng.integers(0, 256, (3, width), np.uint8) for name, width in (("a", 5), ("b", 70))}
    np.testing.assert_array_equal(_native.Model(g, 1).run(x)[0], np.concatenate([x["a"], x["b"]], 1))
