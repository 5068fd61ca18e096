"""Norms in an int8 graph: uint8 where int8 layers alone read them, float32 and a quantize node elsewhere."""

import numpy as np
import pytest

from nets import Net
from taille import _native

TOKENS, SIZE = 24, 48


NORMS = pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])


def norm(n, x, name, op="layer_norm"):
    weights = [n.g.add_constant(f"{name}.gamma", n.rng.uniform(0.5, 2, SIZE).astype(np.float32))]
    if op == "layer_norm":
        weights.append(n.constant(f"{name}.beta", SIZE))
    return n.g.add_node(op, [x, *weights], {"axes": 1, "epsilon": 1e-5}, name)


def linear(n, x, name, out=SIZE):
    return n.g.add_node("linear", [x, n.constant(f"{name}.w", out, SIZE), n.constant(f"{name}.b", out)], {}, name)


def block(op="layer_norm", seen=False):
    """Pre-norm: q * k of a norm, and a residual; `seen`: the norm is an output too."""
    n = Net(TOKENS, SIZE)
    y = norm(n, n.x, "norm", op)
    product = n.g.add_node("mul", [linear(n, y, "q"), linear(n, y, "k")], {}, "product")
    last = norm(n, n.g.add_node("add", [product, n.x], {}, "residual"), "last", op)
    if seen:
        n.g.add_output("norm", y)
        n.g.add_output("last", last)
    return n.finish(linear(n, last, "head", 5))


def summary(graph):
    return [(node["op"], node["dtype"]) for node in graph.nodes]


@NORMS
def test_a_norm_that_int8_layers_alone_read_is_uint8(op):
    graph, report = block(op).quantized()
    kinds = {node["name"]: node["dtype"] for node in graph.nodes}
    assert kinds["norm"] == kinds["last"] == "uint8"
    assert "quantize" not in [node["op"] for node in graph.nodes]
    assert [row["name"] for row in report] == ["q", "k", "head"]


@NORMS
def test_it_is_the_float_norm_quantised_to_the_bit_at_every_level_and_thread_count(op):
    n, seen = block(op), block(op, seen=True)
    bytes_graph, float_graph = n.quantized()[0], seen.quantized()[0]
    assert ("quantize", "uint8") in summary(float_graph)
    assert (op, "uint8") not in summary(float_graph)
    for batch in (1, 3, 70):  # the last is worth two threads
        x = {"x": n.sample(batch, seed=batch)}
        (wanted,) = _native.Model(float_graph, 1).run(x)[2:]
        for isa in _native.supported_isas():
            for threads in (1, 2):
                (y,) = _native.Model(bytes_graph, threads, isa).run(x)
                np.testing.assert_array_equal(y.view(np.uint32), wanted.view(np.uint32), f"{isa} {threads}")


def post_norm():
    n = Net(TOKENS, SIZE)
    y = norm(n, n.x, "norm")
    y = n.g.add_node("add", [linear(n, y, "fc"), y], {}, "residual")
    return n.finish(linear(n, norm(n, y, "last"), "head", 5))


def test_a_norm_that_is_also_a_residual_stays_float():
    graph, _ = post_norm().quantized()
    assert summary(graph) == [
        ("layer_norm", "float32"),
        ("quantize", "uint8"),
        ("linear", "float32"),
        ("layer_norm", "uint8"),
        ("linear", "float32"),
    ]


def moved(op, attrs, inputs, seen=False):
    """A norm that is moved before an int8 layer reads it."""
    n = Net(TOKENS, SIZE)
    y = n.g.add_node(op, [norm(n, n.x, "norm")], attrs, "moved")
    if seen:
        n.g.add_output("moved", y)
    return n.finish(n.g.add_node("linear", [y, n.constant("w", 7, inputs)], {}, "fc"))


@pytest.mark.parametrize(
    ("op", "attrs", "inputs"),
    [("reshape", {"shape": ["batch", 6, 4 * SIZE]}, 4 * SIZE), ("permute", {"axes": [0, 2, 1]}, TOKENS)],
)
def test_bytes_are_moved_as_a_whole(op, attrs, inputs):
    n = moved(op, attrs, inputs)
    graph, _ = n.quantized()
    assert summary(graph) == [("layer_norm", "uint8"), (op, "uint8"), ("linear", "float32")]
    exact, ours = (_native.Model(g, 1).run({"x": n.sample()})[0] for g in (n.graph, graph))
    assert ((ours - exact) ** 2).sum() < 0.001 * (exact**2).sum()
    seen, _ = moved(op, attrs, inputs, seen=True).quantized()
    assert summary(seen) == [("layer_norm", "float32"), (op, "float32"), ("quantize", "uint8"), ("linear", "float32")]


def test_a_part_of_a_norm_is_taken_before_it_is_quantised():
    attrs = {"axis": 1, "start": [0], "length": [1]}  # the class token, whose range is its own
    graph, _ = moved("slice", attrs, SIZE).quantized()
    assert summary(graph)[:3] == [("layer_norm", "float32"), ("slice", "float32"), ("quantize", "uint8")]


def test_ignored_layers_leave_the_norm_float():
    graph, _ = block().quantized(ignore=["k"])
    kinds = {node["name"]: node["dtype"] for node in graph.nodes}
    assert (kinds["norm"], kinds["last"]) == ("float32", "uint8")


def test_a_norm_writes_float32_or_uint8():
    g = _native.Graph()
    with pytest.raises(ValueError, match="layer_norm 'norm': dtype is int64; wanted float32 or uint8"):
        g.add_node("layer_norm", [g.add_input("x", "float32", [4])], {"epsilon": 1e-5, "dtype": "int64"}, "norm")
