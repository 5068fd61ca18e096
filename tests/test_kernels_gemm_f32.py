"""Float products over rows: gemm_f32, depthwise_f32 and the float pools, every variant bit-equal to the reference."""

import itertools

import numpy as np
import pytest

from kernel_rows import EPS, KERNELS, assert_same_bits, normal, run, variants
from kernels_guard import guarded, guarded_empty

INF = float("inf")
COLUMNS = (1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130)
PRIMES = (41, 53, 97, 211)


def pack(w):
    packed = guarded_empty(((w.shape[0] + 15) // 16 * 16 * w.shape[1],))
    return KERNELS.gemm_f32_pack(w, out=packed)


def padded_rows(values, extra):
    """The rows with `extra` floats between them; the last row ends at an inaccessible page."""
    m, n = values.shape
    memory = guarded_empty((m * (n + extra) - extra,))
    rows = np.lib.stride_tricks.as_strided(memory, (m, n), ((n + extra) * 4, 4))
    rows[...] = values
    return rows


def epilogues(rng, m, n, case):
    """Every fourth case has no epilogue; the others mix bias, residual and clamp."""
    return {
        "bias": guarded(normal(rng, n)) if case & 1 else None,
        "residual": padded_rows(normal(rng, m, n), case % 3) if case & 2 else None,
        "lo": -1.5 if case & 1 else -INF,
        "hi": 2.5 if case & 2 else INF,
    }


GEMM_SHAPES = [
    *itertools.product(range(1, 26), COLUMNS, (1, 7, 33)),
    *itertools.product((1, 5), (16, 33, 65), (*range(1, 41), *PRIMES)),
    *itertools.product((24, 25, 40), (70,), (1023, 1024, 1100)),  # deep ones are summed in blocks
    *itertools.product((257,), (70,), (1100, 4100)),
    *itertools.product((26, 193), (70,), (1024, 2048, 3072)),  # rows that share a set of L1
    *itertools.product((55, 56, 57, 130), (64, 65, 200), (5,)),  # blocks of rows meet all weights
]


@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
def test_gemm_equals_reference_in_all_shapes(op, variant):
    rng = np.random.default_rng(1)
    for case, (m, n, k) in enumerate(GEMM_SHAPES):
        a = padded_rows(normal(rng, m, k), case % 2)
        packed = pack(normal(rng, n, k))
        extras = epilogues(rng, m, n, case)
        out = padded_rows(np.zeros((m, n), np.float32), case % 3)
        run(op, variant, a, packed, n, out=out, **extras)
        assert_same_bits(out, run(op, "reference", a, packed, n, **extras), f"{m}x{n}x{k} case {case % 4}")


@pytest.mark.parametrize("shape", [(3, 5, 7), (13, 65, 211), (26, 130, 97), (7, 64, 1031)])
def test_gemm_reference_is_near_the_exact_product(shape):
    m, n, k = shape
    rng = np.random.default_rng(2)
    a, w, bias, residual = normal(rng, m, k), normal(rng, n, k), normal(rng, n), normal(rng, m, n)
    out = run("gemm_f32", "reference", a, pack(w), n, bias=bias, residual=residual)
    exact = a.astype(np.float64) @ w.T.astype(np.float64) + bias + residual
    magnitude = np.abs(a).astype(np.float64) @ np.abs(w.T) + np.abs(bias) + np.abs(residual)
    # k fused steps and two additions round once each, each on a partial sum below `magnitude` (to first order)
    assert (np.abs(out - exact) <= EPS * (k + 3) * magnitude).all()


def test_pack_reads_any_strides():
    w = normal(np.random.default_rng(3), 70, 9)
    packed = pack(w)
    assert_same_bits(packed, KERNELS.gemm_f32_pack(np.asfortranarray(w)))
    first = packed[: 64 * 9].reshape(9, 64)
    last = packed[64 * 9 :].reshape(9, 16)
    assert_same_bits(first, w[:64].T.copy())
    assert_same_bits(last[:, :6], w[64:].T.copy())
    assert (last[:, 6:] == 0).all()


def random_taps(rng, pixels, channels, rows, taps):
    offsets = rng.integers(0, pixels, (rows, taps)).astype(np.int32) * channels
    offsets[rng.random((rows, taps)) < 0.3] = -1
    return offsets


@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
@pytest.mark.parametrize("taps", [1, 2, 9])
def test_gemm_taps_and_padding(op, variant, taps):
    rng = np.random.default_rng(4)
    deep = [(27, 70, 2100)]
    for m, n, k in [*itertools.product((1, 6, 14, 25), (7, 64, 100), (1, 3, 16)), *deep]:
        a = guarded(normal(rng, 20 * k))
        offsets = guarded(random_taps(rng, 20, k, m, taps))
        w = normal(rng, n, taps * k)
        pad = guarded(np.zeros(k, np.float32))
        packed = pack(w)
        out = guarded_empty((m, n))
        run(op, variant, a, packed, n, k=k, offsets=offsets, pad_row=pad, out=out)
        rows = np.stack([a[o : o + k] if o >= 0 else pad for o in offsets.ravel()]).reshape(m, taps * k)
        assert_same_bits(out, run(op, "reference", rows, packed, n), f"{m}x{n}x{k}")


@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
def test_gemm_does_only_its_rows_and_columns(op, variant):
    rng = np.random.default_rng(5)
    m, n, k = 29, 150, 11
    a, packed = normal(rng, m, k), pack(normal(rng, n, k))
    whole = run(op, "reference", a, packed, n)
    pieces = np.full((m, n), np.nan, np.float32)
    for rows, columns in itertools.product(((0, 1), (1, 14), (14, 29)), ((0, 64), (64, 150))):
        before = pieces.copy()
        run(op, variant, a, packed, n, rows=rows, columns=columns, out=pieces)
        untouched = np.ones((m, n), bool)
        untouched[rows[0] : rows[1], columns[0] : columns[1]] = False
        assert_same_bits(pieces[untouched], before[untouched])
    assert_same_bits(pieces, whole)


@pytest.mark.parametrize(("op", "variant"), variants("gemm_f32"))
def test_gemm_nan_and_infinity(op, variant):
    rng = np.random.default_rng(6)
    a, w = normal(rng, 9, 20), normal(rng, 40, 20)
    a[2, 3], a[4, 0], a[5, 1] = np.nan, INF, -INF
    w[7, 5] = np.nan
    kwargs = {"lo": 0.0, "hi": 6.0}
    out = run(op, variant, a, pack(w), 40, **kwargs)
    assert_same_bits(out, run(op, "reference", a, pack(w), 40, **kwargs))
    assert np.isnan(out[2]).all()
    assert np.isnan(out[:, 7]).all()
    assert np.isfinite(np.delete(out[4], 7)).all()


def test_gemm_rejects_wrong_shapes():
    a, packed = np.zeros((2, 3), np.float32), np.zeros(48, np.float32)
    for args, kwargs in [
        ((a, packed[:-1], 5), {}),
        ((a[0], packed, 5), {}),
        ((a, packed, 5), {"bias": np.zeros(4, np.float32)}),
        ((a, packed, 5), {"residual": np.zeros((2, 4), np.float32)}),
        ((a, packed, 5), {"rows": (0, 3)}),
        ((a, packed, 5), {"columns": (1, 5)}),
        ((a, packed, 5), {"out": np.zeros((2, 4), np.float32)}),
        ((a.ravel(), packed, 5), {"k": 3, "offsets": np.array([[4]], np.int32)}),
        ((a.ravel(), packed, 5), {"k": 3, "offsets": np.array([[-1]], np.int32)}),
    ]:
        with pytest.raises(ValueError):
            KERNELS.gemm_f32(*args, variant="reference", **kwargs)
    with pytest.raises(ValueError, match="no variant 'fast'"):
        KERNELS.gemm_f32(a, packed, 5, variant="fast")


@pytest.mark.parametrize(("op", "variant"), variants("depthwise_f32"))
def test_depthwise_equals_reference(op, variant):
    rng = np.random.default_rng(7)
    for case, (rows, channels, taps) in enumerate(
        itertools.product((1, 3, 4, 5, 9), (1, 15, 16, 17, 33, 63, 64, 65, 100, 144), (1, 9, 25))
    ):
        a = normal(rng, 30 * channels)
        a[::37] = np.nan if case % 5 == 0 else 0
        args = (guarded(a), guarded(random_taps(rng, 30, channels, rows, taps)), guarded(normal(rng, taps, channels)))
        extras = {
            "pad_row": guarded(np.zeros(channels, np.float32)),
            "bias": guarded(normal(rng, channels)) if case % 2 else None,
            "lo": 0.0 if case % 3 else -INF,
            "hi": 6.0 if case % 3 == 1 else INF,
        }
        out = padded_rows(np.zeros((rows, channels), np.float32), case % 2)
        run(op, variant, *args, out=out, **extras)
        assert_same_bits(out, run(op, "reference", *args, **extras), f"{rows} rows, {channels} channels, {taps} taps")


def test_depthwise_reference_is_a_convolution():
    rng = np.random.default_rng(8)
    image, w = normal(rng, 6, 7, 5), normal(rng, 3, 3, 5)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0))).astype(np.float64)
    exact = sum(padded[y : y + 6, x : x + 7] * w[y, x] for y in range(3) for x in range(3))
    offsets = np.full((42, 9), -1, np.int32)
    for y, x, dy, dx in itertools.product(range(6), range(7), range(3), range(3)):
        if 0 <= y + dy - 1 < 6 and 0 <= x + dx - 1 < 7:
            offsets[y * 7 + x, dy * 3 + dx] = ((y + dy - 1) * 7 + x + dx - 1) * 5
    out = run("depthwise_f32", "reference", image.ravel(), offsets, w.reshape(9, 5), pad_row=np.zeros(5, np.float32))
    np.testing.assert_allclose(out.reshape(6, 7, 5), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("op", "variant"), variants("pool_max_f32", "pool_avg_f32"))
def test_pools_equal_reference(op, variant):
    rng = np.random.default_rng(9)
    for channels in (1, 15, 16, 17, 31, 64, 65, 130):
        counts = rng.integers(1, 12, 9)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        offsets = (rng.integers(0, 25, starts[-1]) * channels).astype(np.int32)
        a = normal(rng, 25 * channels)
        a[rng.random(a.size) < 0.05] = np.nan
        a[rng.random(a.size) < 0.05] = -INF
        divisor = guarded(counts.astype(np.float32))
        args = (guarded(a), guarded(starts), guarded(offsets), channels)
        out = padded_rows(np.zeros((9, channels), np.float32), channels % 2)
        run(op, variant, *args, divisor=divisor, out=out)
        assert_same_bits(out, run(op, "reference", *args, divisor=divisor), f"{channels} channels")
        windows = [np.stack([a[o : o + channels] for o in offsets[s:e]]) for s, e in itertools.pairwise(starts)]
        if op == "pool_max_f32":
            assert_same_bits(out.copy(), np.stack([window.max(0) for window in windows]))
        else:
            mean = np.stack([window.astype(np.float64).mean(0) for window in windows])
            np.testing.assert_allclose(out, mean, rtol=0, atol=1e-5)
