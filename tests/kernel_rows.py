"""What the tests of single kernels share: the rows of the tables, comparison bit by bit, error in ULP."""

import numpy as np
import pytest

from taille import _native

KERNELS = _native.kernels
EPS = 2.0**-24  # half an ULP of 1: the most that one rounding changes, relatively


def variants(*ops):
    """(op, variant) of every row of these tables but the reference, as pytest parameters."""
    return [
        pytest.param(op, variant, id=f"{op}-{variant}")
        for op, variant, *_ in KERNELS.list_kernels()
        if op in ops and variant != "reference"
    ]


def run(op, variant, *args, **kwargs):
    """Calls one row; skips the test where this CPU lacks its level."""
    try:
        return getattr(KERNELS, op)(*args, variant=variant, **kwargs)
    except RuntimeError as error:
        pytest.skip(str(error))


def assert_same_bits(actual, expected, context=""):
    """Equal bit for bit, signed zeros included; any NaN equals any NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, context
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan, err_msg=f"NaN {context}")
    same = np.where(nan, 0, actual).view(np.uint32) == np.where(nan, 0, expected).view(np.uint32)
    if not same.all():
        at = tuple(int(i[0]) for i in np.nonzero(~same))
        raise AssertionError(f"{context} differs at {at}: {actual[at]!r} != {expected[at]!r} ({(~same).sum()} in all)")


def ulp_error(actual, exact):
    """|actual - exact| in units of the last place of exact (a float64 array), denormals in units of 2^-149."""
    exact = np.asarray(exact, np.float64)
    with np.errstate(over="ignore"):
        rounded = np.abs(exact).astype(np.float32)
    unit = np.spacing(np.minimum(rounded, np.finfo(np.float32).max)).astype(np.float64)
    return np.abs(actual.astype(np.float64) - exact) / unit
