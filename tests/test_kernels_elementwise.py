"""Element-wise float kernels: bits equal at every level, errors within the promised ULP on dense grids."""

import numpy as np
import pytest
from scipy import special

from kernel_rows import EPS, assert_same_bits, run, ulp_error, variants
from kernels_guard import guarded, guarded_empty

INF = float("inf")
LIMITS = [88.72, 88.73, -87.33, -87.34, -103, 9, -9, 0.65, 0.9, 4]  # where the formulas of exp, tanh and erf change
SPECIALS = np.array([0.0, -0.0, 1, -1, 3, -3, 6, 1e-30, 1e-39, -1e-39, 3e38, -3e38, INF, -INF, np.nan, *LIMITS], "f4")
EXACT = {"clamp", "neg", "abs", "sqrt", "reciprocal", "hardswish", "hardsigmoid"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# op: (exact function in double, interval, most ULP or None, most absolute error over max(1, |x|) or None)
TRANSCENDENTAL = {
    "exp": (np.exp, (-87.33, 88.72), 2, None),
    "log": (np.log, (1e-37, 1e30), 4, None),
    "rsqrt": (lambda x: 1 / np.sqrt(x), (1e-30, 1e30), 2, None),
    "tanh": (np.tanh, (-10, 10), 4, None),
    "sigmoid": (sigmoid, (-87, 40), 4, None),
    "silu": (lambda x: x * sigmoid(x), (-80, 40), 5, None),
    "erf": (special.erf, (-5, 5), 4, None),
    "gelu": (lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))), (-10, 10), None, 1e-6),
    "gelu_tanh": (
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        (-10, 10),
        None,
        1e-6,
    ),
}
OPS = sorted(EXACT | set(TRANSCENDENTAL))


def grid(interval, count):
    lo, hi = interval
    even = np.linspace(lo, hi, count)
    magnitudes = np.geomspace(1e-30, max(abs(lo), hi), count)  # every binade gets its share
    return np.concatenate([even, magnitudes[magnitudes >= lo], -magnitudes[-magnitudes >= lo]]).astype(np.float32)


@pytest.mark.parametrize("unary", OPS)
@pytest.mark.parametrize(("op", "variant"), variants("unary"))
def test_unary_levels_agree_bit_for_bit(op, variant, unary):
    interval = TRANSCENDENTAL.get(unary, (None, (-20, 20)))[1]
    x = np.concatenate([SPECIALS, grid(interval, 20_000)])
    kwargs = {"lo": -1.0, "hi": 2.0}
    with np.errstate(all="ignore"):
        expected = run(op, "portable", unary, x, **kwargs)
        assert_same_bits(run(op, variant, unary, x, **kwargs), expected)
        if unary in EXACT:
            assert_same_bits(run(op, "reference", unary, x, **kwargs), expected)


@pytest.mark.parametrize("unary", OPS)
@pytest.mark.parametrize(("op", "variant"), variants("unary"))
def test_unary_sizes_stay_inside_their_arrays(op, variant, unary):
    for n in (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 130):
        for at in ("begin", "end"):
            x = guarded(np.linspace(0.5, 3, n, dtype=np.float32), at=at)
            out = guarded_empty((n,), at=at)
            expected = run(op, "portable", unary, x)
            assert_same_bits(run(op, variant, unary, x, out=out), expected, f"{n}")
            assert_same_bits(run(op, variant, unary, x, out=x), expected, f"{n} in place")


@pytest.mark.parametrize("unary", sorted(TRANSCENDENTAL))
@pytest.mark.parametrize(("op", "variant"), variants("unary"))
def test_unary_error(op, variant, unary):
    exact, interval, most_ulp, most_absolute = TRANSCENDENTAL[unary]
    x = grid(interval, 20_000 if variant == "portable" else 700_000)
    y = run(op, variant, unary, x)
    truth = exact(x.astype(np.float64))
    if most_ulp is not None:
        error = np.where(np.abs(truth) < 2.0**-126, 0, ulp_error(y, truth))
        assert error.max() <= most_ulp, f"{error.max():.2f} ULP at {x[error.argmax()]!r}"
    else:
        error = np.abs(y - truth) / np.maximum(1, np.abs(x))
        assert error.max() <= most_absolute, f"{error.max():.3g} at {x[error.argmax()]!r}"


@pytest.mark.parametrize(("op", "variant"), variants("unary"))
@pytest.mark.parametrize(
    ("unary", "x", "y"),
    [
        ("exp", [INF, -INF, np.nan, 0, -0.0, 89, -104, 1e38, -1e38], [INF, 0, np.nan, 1, 1, INF, 0, INF, 0]),
        ("log", [0, -0.0, INF, -1, -INF, np.nan, 1], [-INF, -INF, INF, np.nan, np.nan, np.nan, 0]),
        ("tanh", [INF, -INF, np.nan, -0.0, 50], [1, -1, np.nan, -0.0, 1]),
        ("sigmoid", [INF, -INF, np.nan, 0], [1, 0, np.nan, 0.5]),
        ("erf", [INF, -INF, np.nan, -0.0, 5], [1, -1, np.nan, -0.0, 1]),
        ("gelu", [INF, np.nan, 0, 20, -20], [INF, np.nan, 0, 20, 0]),
        ("silu", [INF, np.nan, 0], [INF, np.nan, 0]),
        ("sqrt", [INF, -1, np.nan, -0.0, 4], [INF, np.nan, np.nan, -0.0, 2]),
        ("rsqrt", [INF, -1, np.nan, 0, 4], [0, np.nan, np.nan, INF, 0.5]),
        ("reciprocal", [INF, -INF, np.nan, 0, -0.0], [0, -0.0, np.nan, INF, -INF]),
        ("clamp", [INF, -INF, np.nan, -0.0, 0.5], [1, 0, np.nan, -0.0, 0.5]),
        ("hardswish", [-4, 3, np.nan, -3, 6], [-0.0, 3, np.nan, -0.0, 6]),
    ],
)
def test_unary_special_values(op, variant, unary, x, y):
    out = run(op, variant, unary, np.array(x, np.float32), lo=0.0, hi=1.0)
    assert_same_bits(out, np.array(y, np.float32))


@pytest.mark.parametrize("binary", ["add", "sub", "mul", "div", "minimum", "maximum", "pow"])
@pytest.mark.parametrize(("op", "variant"), variants("binary"))
def test_binary_equals_reference(op, variant, binary):
    rng = np.random.default_rng(1)
    a, b = (x.ravel() for x in np.meshgrid(SPECIALS, SPECIALS))
    pairs = [(a, b), (np.float32([2.5]), SPECIALS), (SPECIALS, np.float32([2.0])), (a[:1], b[:1])]
    pairs += [rng.standard_normal((2, n)).astype(np.float32) for n in (1, 15, 16, 17, 31, 33, 100)]
    for x, y in pairs:
        for at in ("begin", "end"):
            x, y = guarded(x, at=at), guarded(y, at=at)
            expected = run(op, "reference", binary, x, y)
            assert_same_bits(run(op, variant, binary, x, y, out=guarded_empty(expected.shape, at=at)), expected)
        if y.size >= x.size:
            assert_same_bits(run(op, variant, binary, x, y, out=y), expected, "in place")


def test_binary_reference_is_numpy():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 500)).astype(np.float32)
    for binary in ("add", "sub", "mul", "minimum", "maximum"):
        name = {"sub": "subtract", "mul": "multiply"}.get(binary, binary)
        assert_same_bits(run("binary", "reference", binary, a, b), getattr(np, name)(a, b))
    assert_same_bits(run("binary", "reference", "div", a, b), a / b)
    power = run("binary", "reference", "pow", np.abs(a), b)
    np.testing.assert_allclose(power, np.abs(a).astype(np.float64) ** b, rtol=4 * EPS)
    assert np.isnan(run("binary", "reference", "maximum", np.float32([np.nan, 1]), np.float32([1, np.nan]))).all()
