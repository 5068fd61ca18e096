"""SmoothQuant: the same function, with the size of large channels moved into weights; only where that is exact."""

import numpy as np
import pytest

from nets import Net
from taille import _native


def channels(count, seed=0):
    """Sizes of channels that differ by a factor of 1000."""
    return np.exp(np.random.default_rng(seed).uniform(0, np.log(1000), count)).astype(np.float32)


def linear(n, x, name, out, inputs, bias=True):
    """With weights so uneven that some of its input's channels stand out."""
    w = np.random.default_rng(len(name)).standard_normal((out, inputs)).astype(np.float32) / channels(inputs, 7)
    weights = [n.g.add_constant(f"{name}.w", w)] + ([n.constant(f"{name}.b", out)] if bias else [])
    return n.g.add_node("linear", [x, *weights], {}, name)


def norm(n, x, name, size, affine=True, op="layer_norm"):
    weights = [n.g.add_constant(f"{name}.gamma", channels(size)), n.constant(f"{name}.beta", size)] if affine else []
    inputs = [x, *weights][: 3 if op == "layer_norm" else 2]
    return n.g.add_node(op, inputs, {"axes": 1, "epsilon": 1e-5}, name)


def maxima(n, x):
    calibrator = _native.Calibrator(n.graph, 1)
    for part in x:
        calibrator.run({"x": part})
    return calibrator.channel_maxima()


def smoothed(n, alpha=0.5, seeds=(1, 2)):
    """(smoothed graph, sites by their layers) after a check that the function is the same."""
    x = [n.sample(8, s) for s in seeds]
    graph, sites = _native.smooth(n.graph, maxima(n, x), alpha)
    for part in x:
        exact, ours = (_native.Model(g, 1).run({"x": part})[0] for g in (n.graph, graph))
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
    return graph, {tuple(s["layers"]): s for s in sites}


def test_maxima_are_those_of_each_channel():
    n = Net(5, 12)
    n.finish(linear(n, norm(n, n.x, "norm", 12), "fc", 4, 12))
    x = [n.sample(8, 1), n.sample(3, 2)]
    found = maxima(n, x)
    assert list(found) == ["norm"]
    gamma, beta = (n.graph.constants()[k] for k in ("norm.gamma", "norm.beta"))
    every = np.concatenate(x).astype(np.float64).reshape(-1, 12)
    normal = (every - every.mean(1, keepdims=True)) / np.sqrt(every.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found["norm"], np.abs(normal * gamma + beta).max(0), rtol=1e-5)


def test_maxima_are_seen_through_reshapes():
    n = Net(5, 12)
    y = n.g.add_node("reshape", [norm(n, n.x, "norm", 12)], {"shape": ["batch", 60]}, "flat")
    n.finish(linear(n, n.g.add_node("reshape", [y], {"shape": ["batch", 3, 20]}, "thirds"), "fc", 4, 20))
    (found,) = maxima(n, [n.sample(8, 1)]).values()
    graph = n.graph.copy()
    graph.add_output("norm", next(node["output"] for node in n.graph.nodes if node["op"] == "layer_norm"))
    normal = _native.Model(graph, 1).run({"x": n.sample(8, 1)})[1]
    np.testing.assert_array_equal(found, np.abs(normal).reshape(-1, 20).max(0))


@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_takes_the_factors_of_all_its_readers(affine, op):
    n = Net(5, 32)
    y = norm(n, n.x, "norm", 32, affine, op)
    q, k = linear(n, y, "q", 16, 32), linear(n, y, "k", 16, 32, bias=False)
    n.finish(n.g.add_node("mul", [q, k], {}, "product"))
    graph, sites = smoothed(n)
    assert sites[("q", "k")] == {"layers": ["q", "k"], "into": "norm", "why": ""}
    before, after = maxima(n, [n.sample(8, 1)])["norm"], {}
    calibrator = _native.Calibrator(graph, 1)
    calibrator.run({"x": n.sample(8, 1)})
    (after,) = calibrator.channel_maxima().values()
    weights = np.maximum(*(np.abs(n.graph.constants()[w]).max(0) for w in ("q.w", "k.w")))
    both = maxima(n, [n.sample(8, 1), n.sample(8, 2)])["norm"]
    factors = np.sqrt(both / weights)
    wanted = np.maximum(1, factors / (2 * np.sort(factors)[16]))
    assert (wanted > 1).sum() > 4
    assert (wanted == 1).sum() > 4
    np.testing.assert_allclose(before / after, wanted, rtol=1e-4)


def test_channels_that_are_alike_are_left():
    n = Net(5, 64)
    y = n.g.add_node("clamp", [linear(n, n.x, "fc1", 32, 64)], {"lo": 0.0}, "relu")
    w = n.g.add_constant("w", np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32))
    n.finish(n.g.add_node("linear", [y, w], {}, "fc2"))
    x = [n.sample(8, s) for s in (1, 2)]
    graph, sites = _native.smooth(n.graph, maxima(n, x), 0.5)
    assert [s["why"] for s in sites][1] == "no channel of its input stands out"
    assert graph.dump() == n.graph.dump()


def test_large_channels_lose_less():
    n = Net(5, 64)
    n.finish(linear(n, norm(n, n.x, "norm", 64), "fc", 16, 64))
    x = n.sample(32, 9)
    noise = {}
    for name, graph in (("plain", n.graph), ("smooth", smoothed(n)[0])):
        calibrator = _native.Calibrator(graph, 1)
        calibrator.run({"x": x})
        int8, _ = _native.quantize(graph, calibrator.ranges())
        exact, ours = (_native.Model(g, 1).run({"x": x})[0] for g in (n.graph, int8))
        noise[name] = ((ours - exact) ** 2).sum()
    assert noise["smooth"] < 0.5 * noise["plain"]


@pytest.mark.parametrize(("lo", "into"), [(0.0, "fc1"), (-1.0, "")])
def test_a_linear_takes_them_through_a_relu_only(lo, into):
    n = Net(16)
    y = n.g.add_node("clamp", [linear(n, n.x, "fc1", 32, 16)], {"lo": lo}, "clamp")
    n.finish(linear(n, y, "fc2", 8, 32))
    graph, sites = smoothed(n)
    assert sites[("fc2",)]["into"] == into
    assert sites[("fc1",)]["why"] == "its input comes from the caller, which cannot take the factors"
    if not into:
        assert "linear 'fc1', which cannot" in sites[("fc2",)]["why"]
        assert graph.dump() == n.graph.dump()


def test_a_chain_of_layers_takes_and_gives():
    n = Net(16)
    y = n.x
    for i in range(3):
        y = n.g.add_node("clamp", [linear(n, y, f"fc{i}", 16, 16)], {"lo": 0.0}, f"relu{i}")
    n.finish(linear(n, y, "last", 4, 16))
    _, sites = smoothed(n, alpha=0.7)
    assert [s["into"] for s in sites.values()] == ["", "fc0", "fc1", "fc2"]


def attention(n, size, split, *, swap, back):
    """Attention between linear layers "q", "k", "v" and "out"; the swaps are those of heads and sequence."""
    axes = {"axes": [0, 2, 1, 3]}
    parts = []
    for name in "qkv":
        y = n.g.add_node("reshape", [linear(n, n.x, name, size, size)], {"shape": split}, f"{name}.split")
        parts.append(n.g.add_node("permute", [y], axes, f"{name}.swap") if swap else y)
    y = n.g.add_node("sdpa", parts, {"scale": 0.4}, "attention")
    y = n.g.add_node("permute", [y], axes, "back") if back else y
    n.finish(linear(n, n.g.add_node("reshape", [y], {"shape": ["batch", *n.shape]}, "merge"), "out", 8, size))
    return smoothed(n)[1][("out",)]["into"]


def test_attention_passes_them_to_its_values():
    assert attention(Net(6, 24), 24, ["batch", 6, 4, 6], swap=True, back=True) == "v"
    # Other ways to split and merge mix the channels.
    assert attention(Net(6, 24), 24, ["batch", 6, 4, 6], swap=True, back=False) == ""
    assert attention(Net(4, 36), 36, ["batch", 4, 6, 6], swap=False, back=False) == ""


@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
def test_other_readers_of_a_norm_get_what_it_was(op):
    n = Net(16)
    y = norm(n, n.x, "norm", 16, op=op)
    other = n.g.add_node("tanh", [y], {}, "tanh")
    total = n.g.add_node("add", [linear(n, y, "fc", 16, 16), y], {}, "sum")  # fused: y is the residual of fc
    n.g.add_output("norm", y)
    n.finish(n.g.add_node("mul", [total, other], {}, "product"))
    graph, sites = smoothed(n)  # which checks the first output, the norm's
    assert sites[("fc",)] == {"layers": ["fc"], "into": "norm", "why": ""}
    graph.validate()
    x = {"x": n.sample(4, 9)}
    for ours, exact in zip(*(_native.Model(g, 1).run(x) for g in (graph, n.graph)), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
    assert [node["name"] for node in graph.nodes if node["op"] == "mul"] == ["norm.unsmoothed", "product"]


def test_a_linear_that_others_read_is_left():
    n = Net(16)
    y = n.g.add_node("clamp", [linear(n, n.x, "first", 16, 16)], {"lo": 0.0}, "relu")
    n.finish(n.g.add_node("mul", [linear(n, y, "second", 16, 16), y], {}, "gate"))
    graph, sites = smoothed(n)
    assert (sites[("second",)]["into"], sites[("second",)]["why"]) == ("", "its input is also read by mul 'gate'")
    assert graph.dump() == n.graph.dump()


def test_channels_of_zeros_and_alphas():
    n = Net(8)
    w = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    w[:, 3] = 0
    gamma = n.g.add_constant("gamma", np.array([1, 0, 1, 0, 1e-30, 1, 1e30, 1], np.float32))
    y = n.g.add_node("layer_norm", [n.x, gamma], {"axes": 1, "epsilon": 1e-5}, "norm")
    n.finish(n.g.add_node("linear", [y, n.g.add_constant("w", w)], {}, "fc"))
    for alpha in (0.0, 0.5, 1.0):
        graph, _ = smoothed(n, alpha)
        assert all(np.isfinite(c).all() for c in graph.constants().values())
    with pytest.raises(ValueError, match=r"alpha 1.5; wanted 0 to 1"):
        _native.smooth(n.graph, {}, 1.5)
    _, (site,) = _native.smooth(n.graph, {}, 0.5)
    assert site["why"] == "no maxima of its input were measured"
    with pytest.raises(ValueError, match="'norm' has 8 channels; 3 maxima"):
        _native.smooth(n.graph, {"norm": np.ones(3, np.float32)}, 0.5)
