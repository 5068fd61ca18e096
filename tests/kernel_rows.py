"""What the tests of single float kernels share: the rows of the tables, comparison bit by bit, error in ULP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from taille import _native

KERNELS = _native.kernels
EPS = 2.0**-24  # half an ULP of 1: the most that one rounding changes, relatively


def variants(*ops: str) -> list[object]:
    """(op, variant) of every row of these tables but the reference; those that this CPU lacks are skipped."""
    supported = _native.supported_isas()
    return [
        pytest.param(
            op,
            variant,
            id=f"{op}-{variant}",
            marks=() if level in supported else pytest.mark.skip(reason=f"this CPU lacks {level}"),
        )
        for op, variant, level in KERNELS.list_kernels()
        if op in ops and variant != "reference"
    ]


def run(op: str, variant: str, *args: object, **kwargs: object) -> np.ndarray:
    """Calls one row of a table."""
    return getattr(KERNELS, op)(*args, variant=variant, **kwargs)


def kept_blocks(rng: np.random.Generator, n: int, depth: int, block_rows: int, kept: float, empty: bool) -> np.ndarray:
    """Which weights [n, depth] stay, in blocks of block_rows x 4: `kept` of them, and with `empty` half the groups."""
    mask = rng.random((n // block_rows, depth // 4)) < kept
    if empty:
        mask[rng.random(len(mask)) < 0.5] = False
    return np.repeat(np.repeat(mask, block_rows, 0), 4, 1)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32 values."""
    return rng.standard_normal(shape).astype(np.float32)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, context: str = "") -> None:
    """Equal bit for bit, signed zeros included; any NaN equals any NaN."""
    assert actual.shape == expected.shape, context
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan, err_msg=f"NaN {context}")
    zero = np.float32(0)
    same = np.where(nan, zero, actual).view(np.uint32) == np.where(nan, zero, expected).view(np.uint32)
    if not same.all():
        at = first(~same)
        raise AssertionError(f"{context} differs at {at}: {actual[at]!r} != {expected[at]!r} ({(~same).sum()} in all)")


def first(mask: np.ndarray) -> Sequence[int]:
    """The index of the first true element."""
    return tuple(int(i[0]) for i in np.nonzero(mask))


def ulp_error(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|actual - exact| in units of the last place of exact (float64)."""
    with np.errstate(over="ignore"):
        rounded = np.abs(exact).astype(np.float32)
    unit = np.spacing(np.minimum(rounded, np.finfo(np.float32).max)).astype(np.float64)
    return np.abs(actual.astype(np.float64) - exact) / unit
