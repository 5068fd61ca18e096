"""Weights in int8: scales per output channel, clipped where that loses less."""

import numpy as np
import pytest

from nets import Net
from taille import _native


def quantized(w, clipping):
    """(int8 values, scale per channel, SQNR in dB) of a linear layer's weight [out, in]."""
    n = Net(w.shape[1])
    n.finish(n.g.add_node("linear", [n.x, n.g.add_constant("w", w)], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    calibrator.run({"x": n.sample(4)})
    graph, (row,) = _native.quantize(n.graph, calibrator.ranges(), weight_clipping=clipping)
    constants = graph.constants()
    return constants["w.int8"], constants["w.scale"], row["weight_sqnr_db"]


def errors(w, scale):
    """Squared error of each channel [out] at a scale per channel."""
    s = np.asarray(scale, np.float64)[:, None]
    return ((np.clip(np.rint(w / s), -127, 127) * s - w) ** 2).sum(1)


WEIGHTS = {
    "normal": lambda rng: rng.standard_normal((16, 300)),
    "uniform": lambda rng: rng.uniform(-1, 1, (16, 300)),
    "one large weight": lambda rng: np.where(np.arange(60000) == 7, 8.0, rng.standard_normal((2, 60000))),
    "odd depth": lambda rng: rng.laplace(size=(5, 13)),
    "depth 1": lambda rng: rng.standard_normal((6, 1)),
    "two channels apart by 1e6": lambda rng: rng.standard_normal((2, 50)) * [[1e-3], [1e3]],
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_scale_is_the_best_of_all_shares(name):
    w = WEIGHTS[name](np.random.default_rng(1)).astype(np.float32)
    values, scale, sqnr = quantized(w, "mse")
    whole = np.abs(w).max(1) / np.float32(127)
    best = np.min([errors(w, whole * share) for share in np.arange(40, 101) / 100], axis=0)
    np.testing.assert_array_less(errors(w, scale), 1.001 * best + 1e-12)
    np.testing.assert_array_equal(values, np.clip(np.rint(w / scale[:, None]), -127, 127))
    energy = (w.astype(np.float64) ** 2).sum()
    assert sqnr == pytest.approx(10 * np.log10(energy / errors(w, scale).sum()), abs=0.01)


def pairs_of(values):
    """[out, in] as [out, pairs, 2], a zero after an odd depth."""
    padded = np.pad(np.asarray(values), ((0, 0), (0, values.shape[1] % 2)))
    return padded.reshape(len(padded), -1, 2)


@pytest.mark.parametrize("name", WEIGHTS)
def test_pairs_of_one_sign_fit_16_bits(name):
    w = WEIGHTS[name](np.random.default_rng(4)).astype(np.float32)
    values, scale, sqnr = quantized(w, "pairs")
    sums = pairs_of(values.astype(np.int32)).sum(2)
    assert np.abs(sums).max() <= 128
    free = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int32)  # as if there were no limit
    fits = np.abs(pairs_of(free).sum(2)) <= 128
    np.testing.assert_array_equal(pairs_of(values)[fits], pairs_of(free)[fits])
    # What does not fit: no two whole numbers that do are nearer.
    steps = pairs_of(w / scale[:, None])[~fits][:50]
    a, b = np.mgrid[-127:128, -127:128]
    a, b = a[np.abs(a + b) <= 128], b[np.abs(a + b) <= 128]
    best = ((steps[:, :1] - a) ** 2 + (steps[:, 1:] - b) ** 2).min(1)
    np.testing.assert_allclose(((steps - pairs_of(values)[~fits][:50]) ** 2).sum(1), best, rtol=1e-3)
    whole = np.abs(w).max(1) / np.float32(127)
    plain = quantized(w, "mse")[2]
    if name == "normal":
        assert plain - 3 < sqnr < plain
        assert (scale < 2 * whole).all()
    if name == "uniform":
        assert plain - 6 < sqnr < plain - 4  # a quarter of the pairs would not fit, so steps nearly double
        assert (scale > 1.7 * whole).all()


def test_clipping_helps_where_a_channel_has_one_large_weight():
    w = WEIGHTS["one large weight"](np.random.default_rng(2)).astype(np.float32)
    (_, plain, without), (_, clipped, with_clipping) = quantized(w, "none"), quantized(w, "mse")
    np.testing.assert_allclose(plain, np.abs(w).max(1) / 127, rtol=1e-6)
    assert (clipped < 0.9 * plain).all()
    assert with_clipping > without + 1


def test_zeros_stay_zeros_and_tiny_channels_are_finite():
    w = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    w[0], w[1, ::2], w[2], w[3] = 0, 0, np.float32(1e-37), np.float32(1e-41)
    values, scale, _ = quantized(w, "mse")
    assert (values[w == 0] == 0).all()
    np.testing.assert_array_equal(scale[[0, 2, 3]], 1)  # their own scale would not be a normal number
    assert not values[[0, 2, 3]].any()


def test_an_unknown_clipping_is_refused():
    with pytest.raises(ValueError, match="weight clipping 'best'; wanted none, mse or pairs"):
        quantized(np.ones((2, 2), np.float32), "best")


def test_known_weights_are_quantised_once_and_the_same() -> None:
    weight = WEIGHTS["one large weight"](np.random.default_rng(0)).astype(np.float32)  # which "mse" clips
    n = Net(weight.shape[1])
    n.finish(n.g.add_node("linear", [n.x, n.g.add_constant("w", weight)], {}, "fc"))
    calibrator = _native.Calibrator(n.graph, 1)
    calibrator.run({"x": n.sample(4)})
    known = _native.QuantizedWeights()
    for clipping in ("mse", "none", "pairs", "mse"):  # kept apart
        graph, rows = _native.quantize(n.graph, calibrator.ranges(), weight_clipping=clipping, known=known)
        fresh, fresh_rows = _native.quantize(n.graph, calibrator.ranges(), weight_clipping=clipping)
        assert _native.serialize(graph) == _native.serialize(fresh)
        assert rows == fresh_rows
