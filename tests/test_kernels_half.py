"""16-bit floats: every half and every rounding, at every level; products on 16-bit weights equal those on float32."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from kernel_rows import KERNELS, assert_same_bits, normal, run, variants
from kernels_guard import guarded, guarded_empty

Bits = np.ndarray[Any, Any]
EVERY = np.arange(2**16, dtype=np.uint16)
TYPES = ("float16", "bfloat16")
LARGEST = {"float16": 0x7BFF, "bfloat16": 0x7F7F}


def value_of(bits: Bits, dtype: str) -> Bits:
    """The float32 values of these halves, by numpy."""
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x: Bits, dtype: str) -> Bits:
    """The nearest halves of these numbers (none a NaN), ties to even, by numpy."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).view(np.uint16)
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), [*variants("widen"), ("widen", "reference")])
def test_widen_every_half(op: str, variant: str, dtype: str) -> None:
    given = run(op, variant, guarded(EVERY), dtype, out=guarded_empty(2**16))
    wanted = value_of(EVERY, dtype)
    assert_same_bits(given, wanted)
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(given[nan]), np.signbit(wanted[nan]))
    np.testing.assert_array_equal(given.view(np.uint32), run(op, "reference", EVERY, dtype).view(np.uint32))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), [*variants("narrow"), ("narrow", "reference")])
def test_narrow_gives_every_half_back(op: str, variant: str, dtype: str) -> None:
    values = value_of(EVERY, dtype)
    given = run(op, variant, guarded(values), dtype, out=guarded_empty(2**16, np.uint16))
    quiet = np.isnan(values) * np.uint16(0x200 if dtype == "float16" else 0x40)
    np.testing.assert_array_equal(given, EVERY | quiet)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), [*variants("narrow"), ("narrow", "reference")])
def test_narrow_rounds_to_nearest_even(op: str, variant: str, dtype: str) -> None:
    halves = np.arange(LARGEST[dtype] + 1, dtype=np.uint16)
    low = value_of(halves, dtype).astype(np.float64)
    step = np.diff(np.append(low, 2 * low[-1] - low[-2]))  # the last is half way to infinity
    middle = (low + step / 2).astype(np.float32)
    for x in (middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))):
        for sign in (1, -1):
            given = run(op, variant, guarded((sign * x).astype(np.float32)), dtype)
            np.testing.assert_array_equal(given, rounded((sign * x).astype(np.float32), dtype))
    assert run(op, variant, middle[-1:], dtype)[0] == LARGEST[dtype] + 1  # infinity
    assert run(op, variant, np.nextafter(middle[-1:], np.float32(0)), dtype)[0] == LARGEST[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), variants("widen", "narrow"))
def test_conversions_of_any_length(op: str, variant: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    from_bits = rng.integers(0, 2**32, 100, np.uint32).view(np.float32)
    source = guarded(EVERY[::655] if op == "widen" else from_bits)
    for n in range(40):
        given = run(op, variant, source[source.size - n :], dtype)
        wanted = run(op, "reference", source[source.size - n :], dtype)
        assert given.tobytes() == wanted.tobytes(), n


def halves(rng: np.random.Generator, dtype: str, *shape: int) -> tuple[Bits, Bits]:
    """Weights as the bindings take them, and their float32 values."""
    bits = KERNELS.narrow(normal(rng, *shape), dtype, variant="reference")
    values = KERNELS.widen(bits, dtype, variant="reference")
    return bits.view(np.float16) if dtype == "float16" else bits, values


def packed(w: Bits) -> Bits:
    out = guarded_empty(((w.shape[0] + 15) // 16 * 16 * w.shape[1],), w.dtype)
    return KERNELS.gemm_f32_pack(w, out=out)


GEMM_SHAPES = [
    *itertools.product((*range(1, 27), 40), (1, 15, 16, 17, 33, 48, 63, 64, 65, 130), (1, 33)),
    *itertools.product((1, 5, 13), (33, 64, 80), (*range(2, 24), 97)),
    *itertools.product((1, 24, 25, 40), (70,), (1023, 1024, 1025, 2049, 3100)),
    (60, 200, 100),  # all weights widened at once, blocks of rows
    (257, 130, 2050),  # deep blocks for many rows
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
def test_gemm_on_halves_equals_gemm_on_their_values(op: str, variant: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for case, (m, n, k) in enumerate(GEMM_SHAPES):
        a = guarded(normal(rng, m, k))
        w, values = halves(rng, dtype, n, k)
        extras: dict[str, Any] = {
            "bias": guarded(normal(rng, n)) if case & 1 else None,
            "residual": guarded(normal(rng, m, n)) if case & 2 else None,
            "lo": -1.5 if case & 1 else -np.inf,
        }
        out = guarded_empty((m, n))
        weights = packed(w)
        room = guarded_empty((KERNELS.gemm_f32_scratch_floats(weights, n, k),))
        run(op, variant, a, weights, n, out=out, scratch=room, **extras)
        assert_same_bits(out, run(op, variant, a, packed(values), n, **extras), f"{m}x{n}x{k} case {case % 4}")
    assert_same_bits(out, run(op, "reference", a, packed(w), n, **extras))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
@pytest.mark.parametrize("taps", [2, 9, 49])
def test_gemm_on_halves_through_offsets(op: str, variant: str, dtype: str, taps: int) -> None:
    rng = np.random.default_rng(4)
    for m, n, k in [(5, 20, 3), (14, 64, 3), (25, 100, 16), (40, 70, 130)]:
        a = guarded(normal(rng, 20 * k))
        offsets = rng.integers(0, 20, (m, taps)).astype(np.int32) * k
        offsets[rng.random((m, taps)) < 0.3] = -1
        w, values = halves(rng, dtype, n, taps * k)
        rest: dict[str, Any] = {"k": k, "offsets": guarded(offsets), "pad_row": guarded(np.zeros(k, np.float32))}
        given = run(op, variant, a, packed(w), n, out=guarded_empty((m, n)), **rest)
        assert_same_bits(given, run(op, variant, a, packed(values), n, **rest), f"{m}x{n}x{k}")


@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
def test_gemm_on_halves_does_only_its_rows_and_columns(op: str, variant: str) -> None:
    rng = np.random.default_rng(5)
    m, n, k = 45, 150, 1100
    a = normal(rng, m, k)
    w, values = halves(rng, "float16", n, k)
    pieces = np.full((m, n), np.nan, np.float32)
    for rows, columns in itertools.product(((0, 3), (3, 30), (30, 45)), ((0, 64), (64, 150))):
        before = pieces.copy()
        run(op, variant, a, packed(w), n, rows=rows, columns=columns, out=pieces)
        untouched = np.ones((m, n), bool)
        untouched[rows[0] : rows[1], columns[0] : columns[1]] = False
        assert_same_bits(pieces[untouched], before[untouched])
    assert_same_bits(pieces, run(op, variant, a, packed(values), n))


def test_refusals() -> None:
    x = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="dtype is float32; wanted float16 or bfloat16"):
        KERNELS.narrow(x, "float32", variant="reference")
    with pytest.raises(TypeError, match="wanted float32, float16, or uint16"):
        KERNELS.gemm_f32_pack(np.zeros((2, 2), np.int8))
