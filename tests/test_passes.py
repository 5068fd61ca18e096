"""Each pass alone: the graph gets the shape it promises, and what it computes does not change."""

import numpy as np
import pytest

from taille import _native
from taille._native import testing


def constant(g, name, *shape, seed=0):
    rng = np.random.default_rng([seed, len(name)])
    return g.add_constant(name, rng.standard_normal(shape).astype(np.float32))


def ops(g):
    return [node["op"] for node in g.nodes]


def run(g, **inputs):
    return _native.Model(g, 1).run(inputs)[0]


def sample(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_net(*tail):
    """Conv, then what `tail` says, on [batch, 4, 6, 6]."""
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4, 6, 6])
    y = g.add_node("conv2d", [x, constant(g, "w", 8, 4, 3, 3)], {"padding": [1, 1, 1, 1]}, "conv")
    for op, inputs, attrs, name in tail:
        y = g.add_node(op, [y, *(constant(g, n, *s) for n, s in inputs)], attrs, name)
    g.add_output("y", y)
    return g


def test_fold_batch_norm_into_convolution():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4, 6, 6])
    c = g.add_node("conv2d", [x, constant(g, "w", 8, 4, 3, 3)], {}, "conv")
    stats = [constant(g, n, 8) for n in ("gamma", "beta", "mean_")]
    variance = g.add_constant("variance", np.linspace(0.5, 2, 8, dtype=np.float32))
    b = g.add_node("batch_norm", [c, *stats, variance], {"epsilon": 1e-5}, "bn")
    g.add_output("y", b)
    folded = testing.run_pass(g, "fold_batch_norm")
    assert ops(folded) == ["conv2d"]
    k = g.constants()
    x_ = sample(2, 4, 6, 6)
    plain = _native.Graph()
    xi = plain.add_input("x", "float32", ["batch", 4, 6, 6])
    plain.add_output("y", plain.add_node("conv2d", [xi, plain.add_constant("w", k["w"])], {}, "conv"))
    raw = run(_native.optimize(plain)[0], x=x_)
    scale = (k["gamma"] / np.sqrt(k["variance"] + 1e-5))[:, None, None]
    expected = (raw - k["mean_"][:, None, None]) * scale + k["beta"][:, None, None]
    np.testing.assert_allclose(run(_native.optimize(g)[0], x=x_), expected, rtol=1e-4, atol=1e-4)


def test_batch_norm_without_a_layer_becomes_product_and_sum():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4])
    args = [constant(g, n, 4) for n in ("gamma", "beta", "mean_")] + [g.add_constant("v", np.ones(4, np.float32))]
    g.add_output("y", g.add_node("batch_norm", [x, *args], {"epsilon": 0.0}, "bn"))
    folded = testing.run_pass(g, "fold_batch_norm")
    assert ops(folded) == ["mul", "add"]
    k, x_ = g.constants(), sample(3, 4)
    np.testing.assert_allclose(run(folded, x=x_), (x_ - k["mean_"]) * k["gamma"] + k["beta"], rtol=1e-5, atol=1e-6)


def test_fold_constants():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 3])
    a = g.add_node("exp", [constant(g, "c", 3)], {}, "exp")
    s = g.add_node("slice", [a], {"axis": 0, "start": [0], "length": [1]}, "slice")
    g.add_output("y", g.add_node("add", [x, s], {}, "sum"))
    folded = testing.run_pass(g, "fold_constants")
    assert ops(folded) == ["add"]
    x_ = sample(2, 3)
    np.testing.assert_array_equal(run(folded, x=x_), run(g, x=x_))


def test_simplify_merges_and_cancels():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 2, 3, 4])
    p = g.add_node("permute", [x], {"axes": [0, 2, 1, 3]})
    q = g.add_node("permute", [p], {"axes": [0, 2, 1, 3]})
    r = g.add_node("reshape", [q], {"shape": ["batch", 24]})
    r = g.add_node("reshape", [r], {"shape": ["batch", 4, 6]})
    r = g.add_node("expand", [r], {"shape": ["batch", 4, 6]})
    g.add_output("y", g.add_node("neg", [r]))
    simple = testing.run_pass(g, "simplify")
    assert ops(simple) == ["reshape", "neg"]
    x_ = sample(2, 2, 3, 4)
    np.testing.assert_array_equal(run(simple, x=x_), -x_.reshape(2, 4, 6))


def test_simplify_knows_permutes_that_move_nothing():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 1, 5, 7])
    g.add_output("y", g.add_node("neg", [g.add_node("permute", [x], {"axes": [0, 2, 3, 1]})]))
    assert ops(testing.run_pass(g, "simplify")) == ["reshape", "neg"]


def padded_net(value=0.0, channels=0):
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4, 6, 6])
    pads = {"before": [0, channels, 0, 1], "after": [0, 0, 1, 2], "value": value}
    p = g.add_node("pad", [x], pads, "pad")
    y = g.add_node("conv2d", [p, constant(g, "w", 8, 4 + channels, 3, 3)], {"padding": [1, 0, 0, 0]}, "conv")
    g.add_output("y", y)
    return g


def test_fold_padding_into_convolution():
    g = padded_net()
    folded = testing.run_pass(g, "fold_padding")
    assert ops(folded) == ["conv2d"]
    assert folded.nodes[0]["attrs"]["padding"] == [1, 1, 1, 2]
    layout = testing.run_pass(g, "layout")  # without folding
    x_ = sample(2, 4, 6, 6)
    np.testing.assert_array_equal(run(_native.optimize(g)[0], x=x_), run(layout, x=x_))


@pytest.mark.parametrize("net", [padded_net(value=1.0), padded_net(channels=2)])
def test_fold_padding_leaves_other_pads(net):
    assert ops(testing.run_pass(net, "fold_padding")) == ["pad", "conv2d"]


def test_layout_moves_images_once():
    g = conv_net(
        ("clamp", [], {"lo": 0.0}, "relu"),
        ("max_pool2d", [], {"kernel": [2, 2], "stride": [2, 2]}, "pool"),
        ("mul", [("per_channel", (8, 1, 1))], {}, "scale"),
        ("mean", [], {"axes": [2, 3]}, "mean"),
    )
    moved = testing.run_pass(g, "layout")
    assert ops(moved).count("permute") == 1
    assert moved.nodes[0]["op"] == "permute"
    assert all(n["attrs"].get("layout", "nhwc") == "nhwc" for n in moved.nodes)


def test_layout_restores_order_where_it_is_seen():
    g = conv_net()
    assert ops(testing.run_pass(g, "layout")) == ["permute", "conv2d", "permute"]
    assert run(_native.optimize(g)[0], x=sample(2, 4, 6, 6)).shape == (2, 8, 6, 6)


def test_flatten_reorders_the_weights_of_linear_layers():
    def net(layout):
        g = conv_net(
            ("reshape", [], {"shape": ["batch", 288]}, "flatten"),
            ("linear", [("fc_w", (5, 288))], {}, "fc"),
        )
        return testing.run_pass(g, layout) if layout else g

    assert ops(net("layout")) == ["permute", "conv2d", "reshape", "linear"]
    x_ = sample(3, 4, 6, 6)
    g = net(None)
    conv = _native.optimize(conv_net())[0]
    flat = run(conv, x=x_).reshape(3, -1)
    np.testing.assert_allclose(run(_native.optimize(g)[0], x=x_), flat @ g.constants()["fc_w"].T, rtol=1e-4, atol=1e-3)


def attention_graph():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", "sequence", 8])
    heads = []
    for name in "qkv":
        y = g.add_node("linear", [x, constant(g, name * 3, 8, 8, seed=ord(name))], {}, name)
        y = g.add_node("reshape", [y], {"shape": ["batch", "sequence", 2, 4]}, name + "_view")
        heads.append(g.add_node("permute", [y], {"axes": [0, 2, 1, 3]}, name + "_heads"))
    a = g.add_node("sdpa", heads, {"scale": 0.5}, "attention")
    a = g.add_node("permute", [a], {"axes": [0, 2, 1, 3]}, "back")
    g.add_output("y", g.add_node("reshape", [a], {"shape": ["batch", "sequence", 8]}, "merge"))
    return g


def test_attention_keeps_heads_last():
    g = attention_graph()
    better = testing.run_pass(testing.run_pass(g, "attention"), "simplify")
    assert "permute" not in ops(better)
    x_ = sample(2, 5, 8)
    np.testing.assert_allclose(run(better, x=x_), run(g, x=x_), rtol=1e-6, atol=1e-6)


def residual_net():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4, 6, 6])
    a = g.add_node("conv2d", [x, constant(g, "w1", 8, 4, 3, 3)], {"padding": [1, 1, 1, 1]}, "conv1")
    b = g.add_node("conv2d", [x, constant(g, "w22", 8, 4, 1, 1)], {}, "shortcut")
    s = g.add_node("add", [a, b], {}, "sum")
    g.add_output("y", g.add_node("clamp", [s], {"lo": 0.0}, "relu"))
    return g


def test_fuse_residual_and_clamp():
    g = residual_net()
    fused = testing.run_pass(g, "fuse")
    assert ops(fused) == ["conv2d", "conv2d"]
    last = fused.nodes[-1]
    assert last["inputs"][3] == fused.nodes[0]["output"]
    assert last["attrs"]["lo"] == 0.0


def test_fuse_leaves_values_that_others_read():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4])
    y = g.add_node("linear", [x, constant(g, "w", 4, 4)], {}, "fc")
    r = g.add_node("clamp", [y], {"lo": 0.0}, "relu")
    g.add_output("y", g.add_node("add", [y, r], {}, "sum"))
    fused = testing.run_pass(g, "fuse")
    assert ops(fused) == ["linear", "clamp", "add"]


def test_fuse_bias_and_matmul():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 6])
    y = g.add_node("matmul", [x, constant(g, "w", 6, 3)], {}, "product")
    g.add_output("y", g.add_node("add", [y, constant(g, "bias", 3)], {}, "sum"))
    fused = testing.run_pass(g, "fuse")
    assert ops(fused) == ["linear"]
    k, x_ = g.constants(), sample(2, 6)
    np.testing.assert_allclose(run(fused, x=x_), x_ @ k["w"] + k["bias"], rtol=1e-5, atol=1e-5)


def hand_written_rms(*, axis=2, keepdim=True, flip=False, epsilon=0.25, seen=False, other=False, gamma=(6,)):
    """gamma * (x * rsqrt(mean(x * x) + epsilon)), or what only resembles it."""
    g = _native.Graph()
    x = g.add_input("x", "float32", [6, 6, 6])

    def product(a, b, name):
        return g.add_node("mul", [b, a] if flip else [a, b], {}, name)

    square = g.add_node("mul", [x, g.add_node("neg", [x], {}, "neg") if other else x], {}, "square")
    mean = g.add_node("mean", [square], {"axes": [axis], "keepdim": keepdim}, "mean")
    added = [mean, g.add_constant("epsilon", np.full((), epsilon, np.float32))]
    root = g.add_node("rsqrt", [g.add_node("add", added[::-1] if flip else added, {}, "sum")], {}, "root")
    y = product(x, root, "normal")
    if seen:
        g.add_output("normal", y)
    g.add_output("y", product(constant(g, "gamma", *gamma), y, "scaled"))
    return g


def test_a_hand_written_rms_norm_becomes_one_node():
    x = sample(6, 6, 6)
    for flip in (False, True):
        g = hand_written_rms(flip=flip)
        found = testing.run_pass(g, "rms_norm")
        assert ops(found) == ["rms_norm"]
        assert found.nodes[0]["attrs"]["epsilon"] == 0.25
        assert len(found.nodes[0]["inputs"]) == 2
        exact = x / np.sqrt((x.astype(np.float64) ** 2).mean(2, keepdims=True) + 0.25) * g.constants()["gamma"]
        np.testing.assert_allclose(run(found, x=x), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seen": True}, ["rms_norm", "mul"]),
        ({"gamma": (6, 1)}, ["rms_norm", "mul"]),
        ({"axis": 1}, ["mul", "mean", "add", "rsqrt", "mul", "mul"]),
        ({"keepdim": False}, ["mul", "mean", "add", "rsqrt", "mul", "mul"]),
        ({"epsilon": -0.25}, ["mul", "mean", "add", "rsqrt", "mul", "mul"]),
        ({"other": True}, ["neg", "mul", "mean", "add", "rsqrt", "mul", "mul"]),
    ],
)
def test_what_resembles_an_rms_norm_is_left(change, expected):
    g = hand_written_rms(**change)
    found = testing.run_pass(g, "rms_norm")
    assert ops(found) == expected
    if "other" in change:
        return  # the root of a negative number
    x = np.abs(sample(6, 6, 6)) + 1
    for given, wanted in zip(*(_native.Model(graph, 1).run({"x": x}) for graph in (found, g)), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)


def test_dead_nodes_are_dropped():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 6])
    g.add_node("exp", [x], {}, "unused")
    g.add_output("y", g.add_node("neg", [x], {}, "used"))
    assert ops(testing.run_pass(g, "simplify")) == ["neg"]


def test_dump_after_a_pass():
    g = residual_net()
    _, text = _native.optimize(g, "layout")
    assert "layout=nhwc" in text
    assert "clamp" in text  # not fused yet
    with pytest.raises(ValueError, match="no pass is named 'nonsense'; wanted one of simplify"):
        _native.optimize(g, "nonsense")


def test_zeros_of_weights_lose_their_sign():
    g = _native.Graph()
    w = np.float32([[1, -0.0, 0, -2], [-0.0, -0.0, -0.0, -0.0]])
    x = g.add_input("x", "float32", ["batch", 4])
    layer = g.add_node("linear", [x, g.add_constant("w", w)], {}, "layer")
    shared = g.add_constant("shared", w[1:])
    other = g.add_node("linear", [x, shared], {}, "other")
    for name, value in {"y": layer, "z": other, "q": g.add_node("div", [x, shared], {}, "div")}.items():
        g.add_output(name, value)
    found = testing.run_pass(g, "zero_signs").constants()
    np.testing.assert_array_equal(found["w"].view(np.uint32), (w + 0).view(np.uint32))
    assert np.signbit(found["shared"]).all()  # a quotient sees it
