"""What the tests of int8 kernels share: the rows of a table, exact float arithmetic, windows of offsets."""

from __future__ import annotations

import numpy as np
import pytest

from taille import _native

KERNELS = _native.kernels
SENTINEL = 77


def rows(op: str, *, reference: bool = False) -> list[object]:
    """The variants of an op, those that this CPU lacks marked as skipped."""
    supported = _native.supported_isas()
    return [
        pytest.param(
            variant,
            id=f"{op}-{variant}",
            marks=() if level in supported else pytest.mark.skip(reason=f"this CPU lacks {level}"),
        )
        for name, variant, level in KERNELS.list_kernels()
        if name == op and (reference or variant != "reference")
    ]


def exact_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """float32 a*b + c rounded once: products are exact in long double, and its sum has 40 bits to spare."""
    return (a.astype(np.longdouble) * b + c).astype(np.float32)


def to_u8(v: np.ndarray, lo: float = 0, hi: float = 255) -> np.ndarray:
    """Clamped, rounded half to even."""
    return np.rint(np.clip(v, np.float32(lo), np.float32(hi))).astype(np.uint8)


def window_offsets(rng: np.random.Generator, size: int, channels: int, m: int, taps: int, padded: float) -> np.ndarray:
    offsets = rng.integers(0, size - channels + 1, (m, taps), np.int32)
    offsets[rng.random(offsets.shape) < padded] = -1
    offsets.flat[0] = size - channels
    return offsets


CHANNELS = [1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 130]
