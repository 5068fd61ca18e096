"""What quantising costs, layer by layer and through the network; bias correction, which uses it."""

import numpy as np
import pytest

from nets import Net
from taille import _native


def calibrated(n, batches=3, **options):
    """(ranges, int8 graph) of a net on its own samples."""
    calibrator = _native.Calibrator(n.graph, 1)
    for seed in range(batches):
        calibrator.run({"x": n.sample(8, seed)})
    ranges = calibrator.ranges()
    return ranges, _native.quantize(n.graph, ranges, **options)[0]


def two_layers():
    n = Net(24)
    y = n.g.add_node("linear", [n.x, n.constant("w1", 40, 24), n.constant("b1", 40)], {}, "fc1")
    y = n.g.add_node("clamp", [y], {"lo": 0.0}, "relu")
    return n.finish(n.g.add_node("linear", [y, n.constant("w2", 7, 40)], {}, "fc2"))


def layer_errors(n, graph, batches):
    errors = _native.LayerErrors(n.graph, graph, 1)
    for x in batches:
        errors.run({"x": x})
    return errors.layers()


def fake_quantized(x, lo, hi):
    """x [..] rounded to the 256 steps that cover lo, hi and zero, in float64."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = np.float32(hi - lo) / np.float32(255)
    zero = np.rint(-np.float32(lo) / scale)
    return (np.clip(np.rint(x.astype(np.float32) / scale + zero), 0, 255) - zero) * float(scale)


def test_layer_errors_are_those_of_each_layer_on_exact_inputs():
    n = two_layers()
    ranges, graph = calibrated(n)
    x = np.concatenate([n.sample(16, 7), n.sample(16, 8)])
    found = layer_errors(n, graph, np.split(x, 2))
    k, q = n.graph.constants(), graph.constants()
    hidden = np.maximum(x.astype(np.float64) @ k["w1"].T + k["b1"], 0)
    for layer, given, w, value in (("fc1", x, "w1", "x"), ("fc2", hidden, "w2", "fc1")):
        rounded = q[f"{w}.int8"] * q[f"{w}.scale"].astype(np.float64)[:, None]
        exact = given @ k[w].T.astype(np.float64) + (k["b1"] if layer == "fc1" else 0)
        error = fake_quantized(given, *ranges[value]) @ rounded.T - given @ k[w].T.astype(np.float64)
        sqnr = 10 * np.log10((exact**2).sum() / (error**2).sum())
        assert found[layer]["sqnr_db"] == pytest.approx(sqnr, abs=0.1)
        mean = error.mean(0)
        systematic = mean**2 >= 0.25 * (error**2).mean(0)
        clear = abs(mean**2 / (error**2).mean(0) - 0.25) > 0.02  # which side rounding cannot decide
        wanted = np.where(systematic, mean, 0)
        np.testing.assert_allclose(found[layer]["mean_error"][clear], wanted[clear], atol=0.02 * abs(error).max())


def test_layer_errors_do_not_depend_on_batches():
    n = two_layers()
    _, graph = calibrated(n)
    x = n.sample(60, 5)
    whole, parts = layer_errors(n, graph, [x]), layer_errors(n, graph, np.split(x, 15))
    for layer in whole:
        assert whole[layer]["sqnr_db"] == pytest.approx(parts[layer]["sqnr_db"], abs=1e-6)
        np.testing.assert_allclose(whole[layer]["mean_error"], parts[layer]["mean_error"], rtol=1e-5, atol=1e-9)


def shifted():
    """A depthwise convolution whose inputs are far from zero and whose weights round badly: means shift."""
    n = Net(16, 8, 8)
    w = n.rng.uniform(0.2, 1, (16, 1, 3, 3)).astype(np.float32)
    w[:, 0, 0, 0] = 40
    y = n.g.add_node("conv2d", [n.x, n.g.add_constant("w", w)], {"groups": 16, "padding": [1] * 4}, "depthwise")
    n.finish(n.g.add_node("conv2d", [y, n.constant("w2", 5, 16, 1, 1)], {}, "last"))
    n.sample = lambda batch=4, seed=1: np.random.default_rng(seed).uniform(1, 2, (batch, 16, 8, 8)).astype(np.float32)
    return n


def test_bias_correction_takes_the_mean_error_away():
    n = shifted()
    _, graph = calibrated(n)
    errors = {name: row["mean_error"] for name, row in layer_errors(n, graph, [n.sample(16, 3)]).items()}
    assert np.count_nonzero(errors["depthwise"]) > 8
    corrected = _native.correct_bias(graph, errors)
    left = layer_errors(n, corrected, [n.sample(16, 3)])["depthwise"]["mean_error"]
    assert np.abs(left).max() < 0.01 * np.abs(errors["depthwise"]).max()
    x = n.sample(16, 4)  # not what was measured on
    exact, plain, better = (_native.Model(g, 1).run({"x": x})[0] for g in (n.graph, graph, corrected))
    assert ((better - exact) ** 2).sum() < 0.8 * ((plain - exact) ** 2).sum()


def test_errors_of_few_rows_are_not_made_everybodys():
    n = Net(8)
    n.finish(n.g.add_node("linear", [n.x, n.constant("w", 4, 8)], {}, "fc"))
    x = n.sample(100, 1)
    ranges = {"x": (float(x.min()), float(x.max()))}
    x[::20] *= 50  # clipped: a large error in one row of 20
    graph, _ = _native.quantize(n.graph, ranges)
    np.testing.assert_array_equal(layer_errors(n, graph, [x])["fc"]["mean_error"], 0)
    everywhere = n.sample(100, 1) + 50
    assert (layer_errors(n, graph, [everywhere])["fc"]["mean_error"] != 0).all()


def test_correct_bias_refuses_what_does_not_fit():
    n = two_layers()
    _, graph = calibrated(n)
    with pytest.raises(ValueError, match="no int8 layer 'relu'"):
        _native.correct_bias(graph, {"relu": np.zeros(40, np.float32)})
    with pytest.raises(ValueError, match="'fc2' has 7 channels; 3 mean errors"):
        _native.correct_bias(graph, {"fc2": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="no data was run through 'fc1'"):
        _native.LayerErrors(n.graph, graph, 1).layers()


def test_network_errors_are_those_of_the_nodes_as_they_run():
    n = two_layers()
    _, graph = calibrated(n)
    errors = _native.NetworkErrors(n.graph, graph, 1)
    parts = [n.sample(6, 7), n.sample(6, 8)]
    for x in parts:
        errors.run({"x": x})
    found = errors.sqnr_db()
    assert set(found) == {"fc1", "fc2"}  # fc1 is uint8 there, with the clamp fused
    x = np.concatenate(parts)
    exact, ours = (_native.Model(g, 1).run({"x": x})[0].astype(np.float64) for g in (n.graph, graph))
    assert found["fc2"] == pytest.approx(10 * np.log10((exact**2).sum() / ((ours - exact) ** 2).sum()), abs=1e-6)
    alone = layer_errors(n, graph, parts)
    assert found["fc2"] < alone["fc2"]["sqnr_db"]  # it inherits the errors of fc1
    same = _native.NetworkErrors(n.graph, n.graph, 1)
    same.run({"x": x})
    assert set(same.sqnr_db().values()) == {np.inf}


def test_attention_is_measured_and_has_no_bias():
    n = Net(5, 8)
    parts = []
    for name in "qkv":
        y = n.g.add_node("linear", [n.x, n.constant(f"{name}.w", 8, 8)], {}, name)
        parts.append(n.g.add_node("reshape", [y], {"shape": ["batch", 1, 5, 8]}, f"{name}.heads"))
    n.finish(n.g.add_node("sdpa", parts, {"scale": 0.35}, "attention"))
    _, graph = calibrated(n)
    found = layer_errors(n, graph, [n.sample(16, 7)])
    assert list(found) == ["q", "k", "v", "attention"]
    assert 25 < found["attention"]["sqnr_db"] < 60
    assert found["attention"]["mean_error"].size == 0
