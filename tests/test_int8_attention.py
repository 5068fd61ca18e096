"""int8 attention of a graph against float64 arithmetic on the very numbers it holds."""

import itertools

import numpy as np
import pytest

from taille import _native

HEADS, DIM = 3, 20


def attention_graph(mask, causal, heads_last):
    """Three inputs into attention, and a linear layer behind it, so that attention gives uint8."""
    shape = ["batch", "queries", HEADS, DIM] if heads_last else ["batch", HEADS, "queries", DIM]
    keys = [d if d != "queries" else "keys" for d in shape]
    g = _native.Graph()
    inputs = [g.add_input("q", "float32", shape), g.add_input("k", "float32", keys), g.add_input("v", "float32", keys)]
    if mask:
        inputs.append(g.add_input("mask", mask, ["batch", 1, 1 if mask == "bool" else "queries", "keys"]))
    attrs = {"scale": DIM**-0.5, "causal": causal, "heads_last": heads_last}
    y = g.add_node("sdpa", inputs, attrs, "attention")
    g.add_output("y", y)
    w = np.eye(DIM, dtype=np.float32)
    g.add_output("z", g.add_node("linear", [y, g.add_constant("w", w)], {}, "fc"))
    return _native.optimize(g)[0]


def feed(rng, mask, heads_last, batch, queries, keys):
    def shape(rows):
        return (batch, rows, HEADS, DIM) if heads_last else (batch, HEADS, rows, DIM)

    x = {
        name: rng.uniform(-1, 2, shape(rows)).astype(np.float32)
        for name, rows in zip("qkv", (queries, keys, keys), strict=True)
    }
    if mask == "bool":
        x["mask"] = rng.random((batch, 1, 1, keys)) < 0.7
    if mask == "float32":
        x["mask"] = rng.standard_normal((batch, 1, queries, keys)).astype(np.float32)
    return x


def expected(x, causal, heads_last):
    """Attention in float64 on q, k and v rounded to 255 steps from -1 to 2, and a bound on the error of ours."""
    scale = float(np.float32(3) / np.float32(255))
    zero = round(1 / scale)
    q, k, v = (scale * (np.clip(np.rint(x[n] / scale + zero), 0, 255) - zero) for n in "qkv")
    if heads_last:
        q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    s = DIM**-0.5 * q @ k.swapaxes(2, 3)
    if "mask" in x:
        s = np.where(x["mask"], s, -np.inf) if x["mask"].dtype == bool else s + x["mask"]
    if causal:
        s = np.where(np.tri(*s.shape[2:], dtype=bool), s, -np.inf)
    top = s.max(-1, keepdims=True)
    p = 255 * np.exp(s - np.where(np.isinf(top), 0, top))
    total = np.maximum(p.sum(-1, keepdims=True), 1e-30)
    y = p / total @ v
    # Every weight is within 0.6 of a step of p (the rounding, and the polynomial), and the weights are divided by the
    # sum of themselves: each moves the output by its error times v - y.
    bound = 0.6 * np.abs(v[:, :, None] - y[:, :, :, None]).sum(3) / np.maximum(total - 0.6 * v.shape[2], 1)
    if heads_last:
        y, bound = (a.transpose(0, 2, 1, 3) for a in (y, bound))
    return y, bound


def calibrated(graph, rng, mask, heads_last):
    calibrator = _native.Calibrator(graph, 1)
    x = feed(rng, mask, heads_last, 2, 9, 9)
    for name in "qkv":
        x[name].flat[:2] = -1, 2
    calibrator.run(x)
    return _native.quantize(graph, calibrator.ranges())


@pytest.mark.parametrize(
    ("mask", "causal", "heads_last"),
    [(None, False, False), (None, True, True), ("bool", False, True), ("float32", False, False)],
)
def test_attention_is_near_what_its_numbers_say(mask, causal, heads_last):
    rng = np.random.default_rng(4)
    graph, report = calibrated(attention_graph(mask, causal, heads_last), rng, mask, heads_last)
    assert {r["name"]: r["precision"] for r in report} == {"attention": "int8", "fc": "int8"}
    for batch, queries, keys in itertools.product((1, 2), (1, 16, 70), (1, 15, 64, 130)):
        if causal and queries != keys:
            continue
        x = feed(rng, mask, heads_last, batch, queries, keys)
        if mask == "bool":
            x["mask"][0] = False  # nothing to attend to: zeros
        wanted, bound = expected(x, causal, heads_last)
        runs = [_native.Model(graph, threads, isa).run(x) for isa in _native.supported_isas() for threads in (1, 2)]
        for y, z in runs[1:]:
            np.testing.assert_array_equal(y.view(np.uint32), runs[0][0].view(np.uint32))
            np.testing.assert_array_equal(z.view(np.uint32), runs[0][1].view(np.uint32))
        assert (np.abs(runs[0][0] - wanted) <= bound + 1e-5).all(), (batch, queries, keys)


def test_the_output_is_uint8_where_only_int8_layers_read_it():
    g = _native.Graph()
    inputs = [g.add_input(n, "float32", ["batch", HEADS, "rows", DIM]) for n in "qkv"]
    y = g.add_node("sdpa", inputs, {"scale": DIM**-0.5}, "attention")
    g.add_output("z", g.add_node("linear", [y, g.add_constant("w", np.eye(DIM, dtype=np.float32))], {}, "fc"))
    rng = np.random.default_rng(5)
    graph, _ = calibrated(_native.optimize(g)[0], rng, None, False)
    kinds = {n["name"]: n["dtype"] for n in graph.nodes}
    assert kinds["attention"] == "uint8"
    x = feed(rng, None, False, 2, 40, 40)
    wanted, bound = expected(x, False, False)
    (z,) = _native.Model(graph, 2).run(x)
    step = 2 / 255  # of attention's output, whose calibrated range is less than 2 wide
    quiet = np.abs(wanted - wanted.mean()) < 0.3  # what calibration is sure to have seen
    assert quiet.mean() > 0.5
    assert (np.abs(z - wanted)[quiet] <= (bound + step + 0.01)[quiet]).all()


def test_ignored_attention_stays_float():
    graph = attention_graph(None, False, False)
    calibrator = _native.Calibrator(graph, 1)
    calibrator.run(feed(np.random.default_rng(6), None, False, 1, 5, 5))
    quantized, report = _native.quantize(graph, calibrator.ranges(), ["attention"])
    assert {r["name"]: r["why"] for r in report}["attention"] == "ignored by request"
    assert {n["name"]: n["dtype"] for n in quantized.nodes}["attention"] == "float32"
