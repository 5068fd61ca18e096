"""The quantised graph: what stays uint8, what stays float32 and why, and equal bits at every level."""

import numpy as np
import pytest

import taille
from artefact_files import take_apart
from nets import Net
from taille import _native


def cnn():
    """Convolution, depthwise, grouped, residual, pooling, slices, pads, concat, global mean, linear."""
    n = Net(3, 12, 12)
    a = n.conv(n.x, "stem", 16, 3)
    d = n.conv(a, "depthwise", 16, 16, groups=16)
    g = n.conv(d, "grouped", 16, 16, groups=4)
    s = n.g.add_node("add", [g, a], {}, "sum")
    p = n.g.add_node("max_pool2d", [s], {"kernel": [2, 2], "stride": [2, 2]}, "max")
    q = n.g.add_node("avg_pool2d", [s], {"kernel": [2, 2], "stride": [2, 2]}, "avg")
    c = n.g.add_node("concat", [p, q], {"axis": 1}, "concat")
    half = n.g.add_node("slice", [c], {"axis": 1, "start": [8], "length": [16]}, "half")
    wide = n.g.add_node("pad", [half], {"before": [0, 4, 0, 0], "after": [0, 4, 0, 0], "value": 0.0}, "wide")
    m = n.g.add_node("mean", [n.conv(wide, "last", 32, 24)], {"axes": [2, 3]}, "mean")
    return n.finish(n.g.add_node("linear", [m, n.constant("fc.w", 10, 32)], {}, "fc"))


def dtypes(graph):
    return {node["name"]: node["dtype"] for node in graph.nodes}


def test_a_cnn_stays_uint8_from_end_to_end():
    graph, report = cnn().quantized()
    kinds = dtypes(graph)
    floats = [name for name, dtype in kinds.items() if dtype == "float32"]
    assert floats == ["fc"]
    assert [row["precision"] for row in report] == ["int8"] * 5
    assert [n["op"] for n in graph.nodes].count("quantize") == 1
    assert "dequantize" not in [n["op"] for n in graph.nodes]


def test_results_are_near_and_equal_at_every_level_and_thread_count():
    net = cnn()
    graph, _ = net.quantized()
    x = net.sample(5, seed=9)
    exact = _native.Model(net.graph, 1).run({"x": x})[0]
    runs = [_native.Model(graph, t, isa).run({"x": x})[0] for isa in _native.supported_isas() for t in (1, 2)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].view(np.uint32), other.view(np.uint32))
    noise = ((runs[0] - exact) ** 2).sum() / (exact**2).sum()
    assert noise < 0.01


def test_float_results_are_equal_at_every_level_too():
    net = cnn()
    x = net.sample(3)
    runs = [_native.Model(net.graph, t, isa).run({"x": x})[0] for isa in _native.supported_isas() for t in (1, 2)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].view(np.uint32), other.view(np.uint32))


def test_ignored_layers_stay_float_and_say_so():
    graph, report = cnn().quantized(ignore=["grouped"])
    assert {row["name"]: row["why"] for row in report if row["precision"] != "int8"} == {
        "grouped": "ignored by request"
    }
    assert dtypes(graph)["grouped"] == "float32"
    assert "grouped.w.nhwc.int8" not in graph.constants()
    with pytest.raises(ValueError, match="ignore names 'nothing'"):
        cnn().quantized(ignore=["nothing"])


def test_activations_between_layers_become_tables():
    n = Net(16)
    y = n.g.add_node("linear", [n.x, n.constant("w1", 32, 16)], {}, "fc1")
    y = n.g.add_node("gelu", [y], {}, "gelu")
    n.finish(n.g.add_node("linear", [y, n.constant("w2", 8, 32)], {}, "fc2"))
    graph, _ = n.quantized()
    assert [node["op"] for node in graph.nodes] == ["quantize", "linear", "lookup", "linear"]
    x = n.sample(64, seed=5)
    exact, ours = (_native.Model(g, 1).run({"x": x})[0] for g in (n.graph, graph))
    assert ((ours - exact) ** 2).sum() / (exact**2).sum() < 0.01


def test_weights_keep_zeros_and_use_the_whole_range():
    n = Net(4)
    w = np.array([[0, 0, 0, 0], [1, -2, 0, 0.5], [1e-3, 0, 0, 0]], np.float32)
    n.finish(n.g.add_node("linear", [n.x, n.g.add_constant("w", w)], {}, "fc"))
    graph, _ = n.quantized()
    constants = graph.constants()
    np.testing.assert_array_equal(constants["w.int8"], [[0, 0, 0, 0], [64, -127, 0, 32], [127, 0, 0, 0]])
    np.testing.assert_allclose(constants["w.scale"], [1, 2 / 127, 1e-3 / 127], rtol=1e-6)


def test_a_weight_of_minus_128_is_refused():
    graph, _ = cnn().quantized()
    parts = take_apart(_native.serialize(graph))
    begin, _ = parts.table["fc.w.int8"]["data_offsets"]
    parts.data = parts.data[:begin] + b"\x80" + parts.data[begin + 1 :]
    with pytest.raises(taille.ArtefactError, match="linear 'fc': an int8 weight is -128"):
        _native.deserialize(parts.bytes())


def test_percentile_cuts_outliers_and_minmax_does_not():
    n = Net(64)
    n.finish(n.g.add_node("linear", [n.x, n.constant("w", 4, 64)], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    x = np.random.default_rng(3).uniform(-1, 1, (1000, 64)).astype(np.float32)
    x[0, 0] = 100.0
    for part in np.split(x, 10):
        calibrator.run({"x": part})
    assert calibrator.ranges("minmax")["x"][1] == 100.0
    lo, hi = calibrator.ranges("percentile", 99.99)["x"]
    assert hi == pytest.approx(1.0, abs=0.1)  # a bin of the widened histogram is 0.06 wide
    assert lo == pytest.approx(-1.0, abs=0.1)


def test_statistics_do_not_depend_on_how_samples_are_batched():
    x = np.random.default_rng(4).standard_normal((120, 16)).astype(np.float32)
    found = []
    for parts in (1, 8, 120):
        n = Net(16)
        n.finish(n.g.add_node("linear", [n.x, n.constant("w", 4, 16)], {}, "fc"))
        calibrator = _native.Calibrator(n.graph, 2)
        for part in np.split(x, parts):
            calibrator.run({"x": part})
        found.append((calibrator.ranges("minmax"), calibrator.ranges("percentile", 99.0)["x"]))
    assert found[0][0] == found[1][0] == found[2][0]
    for _, (lo, hi) in found:  # histograms may have been widened at different times
        assert (lo, hi) == pytest.approx(found[0][1], abs=0.02)


def observed(x, method):
    n = Net(x.shape[1])
    n.finish(n.g.add_node("linear", [n.x, n.constant("w", 4, x.shape[1])], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    for part in np.split(x, 4):
        calibrator.run({"x": part})
    return calibrator.ranges(method)["x"]


def rounded(x, lo, hi):
    scale = (hi - lo) / 255
    zero = round(-lo / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize("spread", ["normal", "laplace", "outliers", "positive"])
def test_mse_range_loses_no_more_than_any_other(spread):
    rng = np.random.default_rng(6)
    x = rng.laplace(size=(4000, 8)) if spread == "laplace" else rng.standard_normal((4000, 8))
    if spread == "outliers":
        x[0] = 30
    if spread == "positive":
        x = np.abs(x)
    x = x.astype(np.float32)
    lo, hi = observed(x, "mse")
    errors = [
        ((rounded(x, a * x.min() if spread != "positive" else 0, b * x.max()) - x) ** 2).mean()
        for a in np.linspace(0.1, 1, 19)
        for b in np.linspace(0.02, 1, 50)
    ]
    # The histogram's bins are its resolution: after an outlier of 30 they are coarse.
    assert ((rounded(x, lo, hi) - x) ** 2).mean() <= 1.1 * min(errors)
    assert min(x.min(), 0) <= lo <= 0 < hi <= x.max()


def test_entropy_cuts_rare_outliers_and_keeps_the_bulk():
    x = np.random.default_rng(7).standard_normal((4000, 8)).astype(np.float32)
    x[0, 0] = 40
    lo, hi = observed(x, "entropy")
    assert 2 < hi < 20
    assert -5 <= lo < -2


def test_infinities_inside_the_graph_cost_only_their_own_range():
    n = Net(4)
    logs = n.g.add_node("log", [n.x], {}, "log")  # of zeros: -inf, which `where` then drops
    zero = n.g.add_constant("zero", np.zeros(1, np.float32))
    positive = n.g.add_node("gt", [n.x, zero], {}, "positive")
    kept = n.g.add_node("where", [positive, logs, n.x], {}, "kept")
    n.finish(n.g.add_node("linear", [kept, n.constant("w", 4, 4)], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    calibrator.run({"x": np.zeros((3, 4), np.float32)})
    calibrator.run({"x": np.ones((3, 4), np.float32)})
    assert "log" not in calibrator.ranges()
    assert [row["precision"] for row in _native.quantize(n.graph, calibrator.ranges())[1]] == ["int8"]


def test_calibration_refuses_bad_values_and_no_values():
    n = Net(4)
    n.finish(n.g.add_node("linear", [n.x, n.constant("w", 4, 4)], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    with pytest.raises(ValueError, match="calibration data is empty"):
        calibrator.ranges()
    with pytest.raises(ValueError, match="calibration: 'x' has 1 values that are NaN or infinite"):
        calibrator.run({"x": np.array([[1, np.nan, 0, 0]], np.float32)})
    calibrator.run({"x": np.ones((1, 4), np.float32)})
    with pytest.raises(ValueError, match=r"outside \(50, 100\]"):
        calibrator.ranges("percentile", 40.0)
