"""Which models may be batched: proved from the graph, and compared with what samples give alone and together."""

from __future__ import annotations

import numpy as np
import pytest

from nets import Net
from taille import _native
from taille._native import testing


def net(build, *shape):
    n = Net(*shape)
    return n.finish(build(n, n.g.add_node))


def node(op, *, rank2=None, **attrs):
    """A graph of one node of that op on the input."""
    return lambda n, add: add(op, [n.x], attrs, op)


def heads(n, add):
    w = n.constant("w", 8, 8)
    q = add("linear", [n.x, w], {}, "q")
    flat = add("reshape", [q], {"shape": ["6*batch", 8]}, "flat")  # as exporters write it
    back = add("reshape", [add("linear", [flat, w], {}, "k")], {"shape": ["batch", 6, 2, 4]}, "back")
    split = add("permute", [back], {"axes": [0, 2, 1, 3]}, "split")
    y = add("sdpa", [split, split, split], {"scale": 0.5}, "sdpa")
    y = add("reshape", [add("permute", [y], {"axes": [0, 2, 1, 3]}, "join")], {"shape": ["batch", 6, 8]}, "out")
    return add("layer_norm", [add("add", [y, n.x], {}, "sum")], {"axes": 1, "epsilon": 1e-5}, "norm")


def images(n, add):
    y = n.conv(n.x, "first", 16, 3)
    y = add("add", [n.conv(y, "second", 16, 16), y], {}, "sum")
    y = add("max_pool2d", [y], {"kernel": [2, 2], "stride": [2, 2]}, "pool")
    return add("linear", [add("mean", [y], {"axes": [2, 3]}, "mean"), n.constant("fc", 4, 16)], {}, "fc")


def class_token(n, add):
    token = n.constant("token", 1, 1, 8)
    wide = add("expand", [token], {"shape": ["batch", 1, 8]}, "wide")
    y = add("concat", [wide, n.x], {"axis": 1}, "tokens")
    y = add("add", [y, n.constant("positions", 1, 7, 8)], {}, "sum")
    return add("slice", [y], {"axis": 1, "start": [0], "length": [2]}, "first")


def per_sample_index(n, add):
    rows = add("arange", [], {"start": 0, "step": 1, "length": ["batch"]}, "rows")
    last = n.g.add_constant("last", np.array([3], np.int64))
    return add("index", [n.x, rows, last], {}, "pick")


def indexed_as_masks(n, add):
    """As transformers index an attention mask: by [batch, 1, 1] and [1, 1, sequence]."""
    rows = add("arange", [], {"start": 0, "step": 1, "length": ["batch"]}, "rows")
    rows = add("reshape", [rows], {"shape": ["batch", 1, 1]}, "rows of all")
    columns = n.g.add_constant("columns", np.arange(6)[::-1].reshape(1, 1, 6).astype(np.int64))
    return add("index", [n.x, rows, columns], {}, "mask")


def flat_and_back(n, add):
    flat = add("reshape", [n.x], {"shape": ["48*batch"]}, "flat")
    return add("reshape", [flat], {"shape": ["batch", 48]}, "back")


APART = {
    "mlp": (lambda n, add: add("linear", [n.x, n.constant("w", 5, 8)], {}, "fc"), (8,)),
    "softmax over features": (node("softmax", axis=1), (8,)),
    "softmax counted from the end": (node("softmax", axis=-1), (6, 8)),
    "attention": (heads, (6, 8)),
    "convolutions": (images, (3, 8, 8)),
    "class token": (class_token, (6, 8)),
    "index by position": (per_sample_index, (6, 8)),
    "index by position, as masks do": (indexed_as_masks, (6,)),
    "mean over tokens": (node("mean", axes=[1]), (6, 8)),
    "product with a constant": (lambda n, add: add("matmul", [n.x, n.constant("m", 8, 4)], {}, "m"), (6, 8)),
    "flat and back": (flat_and_back, (6, 8)),
}


def centred(n, add):
    return add("sub", [n.x, add("mean", [n.x], {"axes": [0], "keepdim": True}, "mean")], {}, "centred")


def against_all(n, add):
    """Each sample times every other, summed: a batch axis in two places, and in one again."""
    products = add("matmul", [n.x, add("permute", [n.x], {"axes": [1, 0]}, "turned")], {}, "products")
    return add("mean", [products], {"axes": [1], "keepdim": True}, "mean")


def numbered(n, add):
    rows = add("cast", [add("arange", [], {"length": ["batch"]}, "rows")], {"dtype": "float32"}, "float")
    return add("add", [n.x, add("reshape", [rows], {"shape": ["batch", 1]}, "column")], {}, "numbered")


def picked_along_another(n, add):
    """The mean over all samples, of which positions along another dimension pick each."""
    rows = add("arange", [], {"start": 0, "step": 1, "length": ["batch"]}, "rows")
    columns = add("reshape", [rows], {"shape": [1, "batch"]}, "columns")
    picked = add("index", [n.x, columns], {}, "picked")  # [1, batch, 8]
    return add("mean", [add("expand", [picked], {"shape": ["batch", "batch", 8]}, "wide")], {"axes": [1]}, "y")


def other_half(n, add):
    """Moves values from one sample to the next, with the shape kept."""
    turned = add("permute", [n.x], {"axes": [1, 0]}, "turned")
    return add("reshape", [turned], {"shape": ["batch", 8]}, "y")


def doubled(n, add):
    twice = add("concat", [n.x, n.x], {"axis": 0}, "twice")
    return add("slice", [twice], {"axis": 0, "start": [1], "length": ["batch"]}, "y")


def by_row_of_all(n, add):
    rows = n.g.add_constant("rows", np.zeros((1, 8), np.int64))
    index = add("expand", [rows], {"shape": ["batch", 8]}, "index")
    return add("gather", [n.x, index], {"axis": 0}, "gather")


MIXED = {
    "softmax over the batch": (node("softmax", axis=0), (8,)),
    "softmax over the batch, from the end": (node("softmax", axis=-2), (8,)),
    "centred": (centred, (8,)),
    "against all": (against_all, (8,)),
    "numbered": (numbered, (8,)),
    "picked along another dimension": (picked_along_another, (8,)),
    "transposed": (other_half, (8,)),
    "shifted": (doubled, (8,)),
    "gathered over the batch": (by_row_of_all, (8,)),
}


@pytest.mark.parametrize("name", APART)
def test_samples_apart(name):
    build, shape = APART[name]
    n = net(build, *shape)
    for graph in (n.g, n.graph):  # as captured, and optimised
        assert testing.why_not_batched(graph) == ""
    x, model = n.sample(5), _native.Model(n.graph, 1)
    together = model.run({"x": x})[0]
    alone = np.concatenate([model.run({"x": x[i : i + 1]})[0] for i in range(5)])
    np.testing.assert_array_equal(together, alone)


def test_samples_apart_in_int8():
    graph, _ = net(images, 3, 8, 8).quantized()
    assert testing.why_not_batched(graph) == ""


@pytest.mark.parametrize("name", MIXED)
def test_samples_that_touch_one_another(name):
    build, shape = MIXED[name]
    n = net(build, *shape)
    why = testing.why_not_batched(n.graph)
    assert "output 'y'" in why
    assert "mix samples" in why or "does not depend" in why
    x, model = n.sample(5), _native.Model(n.graph, 1)
    alone = np.concatenate([model.run({"x": x[i : i + 1]})[0] for i in range(5)])
    assert not np.array_equal(model.run({"x": x})[0], alone), "this graph belongs to the others"


def test_dimensions_that_do_not_count_samples():
    def graph(inputs, build):
        g = _native.Graph()
        ids = [g.add_input(f"x{i}", "float32", shape) for i, shape in enumerate(inputs)]
        g.add_output("y", build(g, ids))
        return testing.why_not_batched(g)

    relu = lambda g, ids: g.add_node("clamp", [ids[0]], {"lo": 0.0}, "relu")  # noqa: E731
    assert "does not vary" in graph([[4, 8]], relu)
    assert "does not vary" in graph([["batch", 8], []], relu)
    assert "is not 'batch'" in graph([["batch", 8], ["other", 8]], relu)
    assert "more than dimension 0" in graph([["batch", "batch"]], relu)
    assert "is not 'batch'" in graph(
        [["batch", 8]], lambda g, ids: g.add_node("reshape", ids, {"shape": ["8*batch"]}, "r")
    )
