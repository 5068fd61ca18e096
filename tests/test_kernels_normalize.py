"""Softmax, LayerNorm, RMSNorm and means: bits equal at every level, near the double-precision reference."""

import numpy as np
import pytest

from kernel_rows import EPS, assert_same_bits, normal, run, variants
from kernels_guard import guarded, guarded_empty

INF = float("inf")
SIZES = (1, 2, 15, 16, 17, 31, 33, 64, 65, 127, 130, 768)


@pytest.mark.parametrize(("op", "variant"), variants("softmax"))
def test_softmax(op, variant):
    rng = np.random.default_rng(1)
    for n in SIZES:
        x = guarded(10 * normal(rng, 5, n))
        y = run(op, variant, x, out=guarded_empty(x.shape))
        assert_same_bits(y, run(op, "portable", x), f"{n}")
        exact = np.exp(x - x.max(1, keepdims=True).astype(np.float64))
        exact /= exact.sum(1, keepdims=True)
        # exp errs by 2 ULP plus its rounded argument; a lane sums n/16 terms, the tree 4; two roundings follow
        bound = EPS * (4 + np.ptp(x, axis=1, keepdims=True) + n / 16 + 8)
        assert (np.abs(y - exact) <= bound * exact + 2.0**-126).all(), n
        np.testing.assert_allclose(run(op, "reference", x), exact, rtol=2 * EPS, atol=2.0**-126)
        in_place = x.copy()
        assert_same_bits(run(op, variant, in_place, out=in_place), y, f"{n} in place")


@pytest.mark.parametrize(("op", "variant"), variants("softmax"))
def test_softmax_of_infinities_and_nan(op, variant):
    x = np.zeros((5, 37), np.float32)
    x[0] = -INF
    x[1, 3:] = -INF
    x[2, 20] = np.nan
    x[3, 36] = INF
    x[4] = -INF
    x[4, 36] = np.nan
    y = run(op, variant, x)
    assert_same_bits(y, run(op, "portable", x))
    assert (y[0] == 0).all()
    assert_same_bits(y[1], np.where(np.arange(37) < 3, np.float32(1) / np.float32(3), np.float32(0)))
    assert np.isnan(y[2:]).all()
    np.testing.assert_array_equal(np.isnan(run(op, "reference", x)), np.isnan(y))


def weights(rng, op, n, gamma, beta, beta_size=1.0):
    """Guarded weights of a norm, those that are wanted and that it has."""
    found = {"gamma": guarded(normal(rng, n)) if gamma else None}
    return found | ({"beta": guarded(beta_size * normal(rng, n)) if beta else None} if op == "layer_norm" else {})


@pytest.mark.parametrize(("op", "variant"), variants("layer_norm", "rms_norm"))
def test_norm(op, variant):
    rng = np.random.default_rng(2)
    for case, n in enumerate(SIZES):
        for rows in (1, 3, 4, 9):
            x = guarded(3 * normal(rng, rows, n) + 1)
            extras = weights(rng, op, n, case % 2, case % 3) | {"epsilon": 1e-3}
            y = run(op, variant, x, out=guarded_empty(x.shape), **extras)
            assert_same_bits(y, run(op, "portable", x, **extras), f"{rows}x{n}")
            reference = run(op, "reference", x, **extras)
            # the mean and the variance err by about n/16 + 8 roundings of values near max |x|; scale <= 1/sqrt(1e-3)
            gain = np.abs(extras["gamma"]).max() if case % 2 else 1
            bound = EPS * (n / 16 + 16) * (np.abs(x).max() / np.maximum(x.std(1), 0.03) + 1) * 4 * gain + EPS * 4
            assert (np.abs(y - reference) <= bound[:, None]).all(), f"{rows}x{n}"
            in_place = x.copy()
            assert_same_bits(run(op, variant, in_place, out=in_place, **extras), y, f"{rows}x{n} in place")


@pytest.mark.parametrize(("op", "variant"), variants("layer_norm", "rms_norm"))
def test_norm_in_bytes_is_the_norm_then_quantize(op, variant):
    rng = np.random.default_rng(6)
    for case, n in enumerate(SIZES):
        for rows in (1, 3, 4, 8, 13):
            x = 3 * normal(rng, rows, n) + 1
            x[0, 0] = (1, np.nan, INF)[case % 3]
            extras = weights(rng, op, n, case % 2, case % 5, 10)
            given = {"inverse_scale": 50.0, "zero_point": 100.0}  # clips at -2 and 3.1
            out = guarded_empty(x.shape, np.uint8)
            for kernel in (variant, "reference"):
                y = run(op, kernel, guarded(x), **given, **extras, out=out)
                floats = run(op, kernel, x, **extras)
                wanted = run("quantize", "reference", floats.ravel(), 50.0, 100.0).reshape(x.shape)
                np.testing.assert_array_equal(y, wanted, f"{kernel} {rows}x{n}")


def test_layer_norm_reference_is_the_definition():
    x = normal(np.random.default_rng(3), 4, 50)
    d = x.astype(np.float64)
    exact = (d - d.mean(1, keepdims=True)) / np.sqrt(d.var(1, keepdims=True) + np.float32(1e-5))
    np.testing.assert_allclose(run("layer_norm", "reference", x), exact, rtol=2 * EPS, atol=1e-7)


def test_rms_norm_reference_is_the_definition():
    rng = np.random.default_rng(7)
    x, gamma = normal(rng, 4, 50) + 1, normal(rng, 50)
    d = x.astype(np.float64)
    exact = d / np.sqrt((d**2).mean(1, keepdims=True) + np.float32(1e-5)) * gamma
    np.testing.assert_allclose(run("rms_norm", "reference", x, gamma=gamma), exact, rtol=2 * EPS, atol=1e-7)


@pytest.mark.parametrize(("op", "variant"), variants("mean_rows"))
def test_mean_rows(op, variant):
    rng = np.random.default_rng(4)
    for n in SIZES:
        wide = guarded(normal(rng, 7 * (n + 3) - 3))
        x = np.lib.stride_tricks.as_strided(wide, (7, n), ((n + 3) * 4, 4))
        y = run(op, variant, x, 7.0, out=guarded_empty((n,)))
        assert_same_bits(y, run(op, "portable", x, 7.0), f"{n}")
        bound = EPS * (np.abs(x).sum(0) * 7 + 1e-30)
        assert (np.abs(y - x.mean(0, dtype=np.float64)) <= bound).all()
        np.testing.assert_allclose(run(op, "reference", x, 7.0), x.mean(0, dtype=np.float64), rtol=EPS * 4, atol=1e-9)


@pytest.mark.parametrize(("op", "variant"), variants("mean_last"))
def test_mean_last(op, variant):
    rng = np.random.default_rng(5)
    for n in SIZES:
        x = guarded(normal(rng, 5, n))
        y = run(op, variant, x, float(n), out=guarded_empty((5,)))
        assert_same_bits(y, run(op, "portable", x, float(n)), f"{n}")
        bound = EPS * (n / 16 + 6) * np.abs(x).sum(1, dtype=np.float64) / n
        assert (np.abs(y - x.mean(1, dtype=np.float64)) <= bound).all()
        np.testing.assert_allclose(run(op, "reference", x, float(n)), x.mean(1, dtype=np.float64), rtol=4 * EPS)
