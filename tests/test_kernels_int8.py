"""gemm_s8 and depthwise_s8: every row equals the reference bit by bit, and the reference equals numpy.

All arrays lie against inaccessible pages, so that a kernel touching a byte that is not its own crashes.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from int8_rows import CHANNELS, KERNELS, SENTINEL, exact_fma, rows, to_u8
from kernels_guard import guarded, guarded_empty

MAX_ROWS = 32  # twice the tallest tile
COLUMNS = [1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130]
DEPTHS = [*range(1, 41), 53, 64, 97, 101, 256, 509]


@dataclasses.dataclass(frozen=True)
class Gemm:
    """One gemm_s8 call. Without taps the rows are direct, else through random offsets, a quarter of them padding."""

    m: int
    n: int
    k: int
    taps: int = 0
    residual: bool = False
    out_f32: bool = False
    extremes: int = 0  # weight beside activations of 255
    pairs: bool = False  # neighbouring weights of one sign add up to 128 at most, and often to that
    wild: bool = False  # NaN, infinities and more than int32 holds before rounding
    lo: float = 0
    hi: float = 255
    m_range: tuple[int, int] | None = None
    n_range: tuple[int, int] | None = None
    slack: int = 0  # unused elements at the end of each row of a, residual and out
    seed: int = 0

    @property
    def k_total(self) -> int:
        return self.k * max(self.taps, 1)


@lru_cache(maxsize=64)
def gemm_inputs(case: Gemm) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(case.seed)
    a = rng.integers(0, 256, (case.m, case.k + case.slack), np.uint8)
    w = rng.integers(-127, 128, (case.n, case.k_total), np.int8)
    if case.pairs:
        first, second = w[:, 0 : case.k_total - 1 : 2], w[:, 1::2]
        rest = (128 - np.abs(first.astype(np.int16))).clip(1, 127) * np.where(first < 0, -1, 1)
        second[...] = np.where(rng.random(second.shape) < 0.5, rest, np.minimum(np.abs(second), np.abs(rest)))
        a[rng.random(a.shape) < 0.3] = 255
    if case.extremes:
        a[...], w[...] = 255, case.extremes
    out_type = np.float32 if case.out_f32 else np.uint8
    residual = rng.integers(0, 256, (case.m, case.n + case.slack)).astype(out_type)
    inputs = {
        "a": a,
        "w": w,
        "offset": (-128 * w.sum(axis=1, dtype=np.int32)).astype(np.int32),
        "scale": (rng.uniform(0.2, 2, case.n) / (40 * np.sqrt(case.k_total) * 73)).astype(np.float32),
        "bias": rng.uniform(100, 150, case.n).astype(np.float32),
        "residual": residual,
    }
    if case.wild:
        inputs["bias"] = np.resize(np.float32([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30, 100]), case.n)
    if case.taps:
        inputs["a"] = a.ravel()
        offsets = rng.integers(0, a.size - case.k + 1, (case.m, case.taps), np.int32)
        offsets[rng.random(offsets.shape) < 0.25] = -1
        offsets.flat[0] = a.size - case.k
        inputs["offsets"] = offsets
        inputs["pad_row"] = np.full(case.k, 255 if case.extremes else 128, np.uint8)
    return inputs


def gemm_numpy(case: Gemm) -> np.ndarray:
    x = gemm_inputs(case)
    if case.taps:
        taps = [
            [x["pad_row"] if o < 0 else x["a"][o : o + case.k] for o in row_offsets] for row_offsets in x["offsets"]
        ]
        a = np.array(taps).reshape(case.m, -1)
    else:
        a = x["a"][:, : case.k]
    acc = a.astype(np.int64) @ x["w"].astype(np.int64).T + x["offset"]
    v = exact_fma(acc.astype(np.float32), x["scale"], x["bias"])
    residual = x["residual"][:, : case.n]
    if case.out_f32:
        v = v + residual if case.residual else v
        return np.clip(v, np.float32(case.lo), np.float32(case.hi))
    v = exact_fma(residual, np.float32(0.37), v) if case.residual else v
    return to_u8(np.where(np.isnan(v), np.float32(case.lo), v), case.lo, case.hi)


def run_gemm(case: Gemm, variant: str, at: str = "end") -> np.ndarray:
    x = {name: guarded(value, at=at) for name, value in gemm_inputs(case).items()}
    out = guarded_empty((case.m, case.n + case.slack), np.float32 if case.out_f32 else np.uint8, at=at)
    out[...] = SENTINEL
    KERNELS.gemm_s8(
        x["a"],
        guarded(KERNELS.gemm_s8_pack(x["w"]), at=at),
        x["offset"],
        x["scale"],
        x["bias"],
        variant=variant,
        k=case.k,
        offsets=x.get("offsets"),
        pad_row=x.get("pad_row"),
        residual=x["residual"] if case.residual else None,
        residual_scale=0.37,
        lo=case.lo,
        hi=case.hi,
        out_f32=case.out_f32,
        m_range=case.m_range,
        n_range=case.n_range,
        out=out,
        scratch=guarded_empty((KERNELS.gemm_s8_scratch_bytes(case.k_total),), np.uint8, at=at),
    )
    return out


@lru_cache(maxsize=8192)
def gemm_reference(case: Gemm) -> np.ndarray:
    return run_gemm(case, "reference")


def check_gemm(case: Gemm, variant: str, at: str = "end") -> None:
    np.testing.assert_array_equal(run_gemm(case, variant, at), gemm_reference(case), err_msg=f"{variant} {case}")


GEMM_OPTIONS = [
    Gemm(13, 130, 24),
    Gemm(13, 130, 24, residual=True),
    Gemm(13, 130, 24, residual=True, slack=5),
    Gemm(13, 130, 24, out_f32=True, lo=-np.inf, hi=np.inf),
    Gemm(13, 130, 24, residual=True, out_f32=True, lo=0, hi=200, slack=3),
    Gemm(13, 130, 24, lo=128, hi=131),
    Gemm(13, 130, 24, taps=9),
    Gemm(13, 130, 24, taps=9, residual=True, slack=2),
    Gemm(53, 70, 3, taps=49),
    Gemm(100, 70, 5, taps=2, residual=True),
    Gemm(100, 33, 7),
    Gemm(100, 64, 16, taps=4),
    Gemm(20, 200, 36, m_range=(7, 18), n_range=(64, 128)),
    Gemm(20, 200, 36, taps=3, m_range=(0, 3), n_range=(128, 200), residual=True),
    Gemm(20, 200, 5, taps=3, m_range=(5, 20), n_range=(0, 0)),
    Gemm(20, 64, 5, m_range=(20, 20)),
    Gemm(20, 80, 8, extremes=127),
    Gemm(20, 80, 9, extremes=-127),
    Gemm(20, 80, 2048, extremes=-128),
    Gemm(7, 80, 20000, extremes=127, taps=3),
    Gemm(150, 17, 8192),
    Gemm(500, 20, 8, residual=True),  # several blocks of rows at every depth
    Gemm(500, 33, 5, taps=4),
    Gemm(20, 80, 2048, extremes=65),  # pairs saturate 16 bits, just
    Gemm(20, 80, 2048, extremes=64),  # pairs fit
    Gemm(20, 80, 2048, extremes=-64),
    Gemm(9, 90, 8, wild=True, lo=2, hi=250),
    Gemm(9, 90, 8, wild=True, residual=True, lo=2.5, hi=249.5),
]


class TestGemmS8:
    @pytest.mark.parametrize("case", GEMM_OPTIONS, ids=str)
    def test_reference_equals_numpy(self, case: Gemm) -> None:
        expected = np.full((case.m, case.n + case.slack), SENTINEL, np.float32 if case.out_f32 else np.uint8)
        inside = tuple(slice(*(r or (0, size))) for r, size in ((case.m_range, case.m), (case.n_range, case.n)))
        expected[inside] = gemm_numpy(case)[inside]
        np.testing.assert_array_equal(gemm_reference(case), expected)

    @pytest.mark.parametrize("case", GEMM_OPTIONS, ids=str)
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_options(self, variant: str, case: Gemm) -> None:
        for pairs in (False, True):
            for at in ("end", "begin"):
                check_gemm(dataclasses.replace(case, pairs=pairs), variant, at)

    def test_pairs_fit_where_they_say_so(self) -> None:
        """The inputs above: 64 and -64 fill 16 bits but for the sign, and random weights do not fit."""
        for pairs in (False, True):
            w = gemm_inputs(Gemm(20, 80, 24, pairs=pairs))["w"].astype(np.int32)
            assert (np.abs(w[:, ::2] + w[:, 1::2]).max() <= 128) == pairs

    @pytest.mark.parametrize("n", COLUMNS)
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_every_row_count(self, variant: str, n: int) -> None:
        for m in range(1, MAX_ROWS + 1):
            k = (8, 28, 48, 64, 96, 100, 128)[m % 7]
            for pairs in (False, True):
                check_gemm(Gemm(m, n, k, residual=m % 3 == 0, out_f32=m % 5 == 0, pairs=pairs), variant)

    @pytest.mark.parametrize("taps", [0, 1, 3])
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_every_depth(self, variant: str, taps: int) -> None:
        for k in DEPTHS:
            for m, n in ((1, 64), (5, 33), (7, 65)):
                for pairs in (False, True):
                    check_gemm(Gemm(m, n, k, taps, pairs=pairs), variant)

    @settings(deadline=None, max_examples=60, print_blob=True)
    @given(data=st.data())
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_random(self, variant: str, data: st.DataObject) -> None:
        m, n = data.draw(st.integers(1, 100), "m"), data.draw(st.integers(1, 200), "n")
        first = data.draw(st.integers(0, m), "first row")
        out_f32 = data.draw(st.booleans(), "out_f32")
        case = Gemm(
            m,
            n,
            data.draw(st.integers(1, 80), "k"),
            data.draw(st.integers(0, 6), "taps"),
            residual=data.draw(st.booleans(), "residual"),
            out_f32=out_f32,
            lo=data.draw(st.sampled_from([0, 17.5]), "lo"),
            m_range=(first, data.draw(st.integers(first, m), "last row")),
            slack=data.draw(st.integers(0, 3), "slack"),
            pairs=data.draw(st.booleans(), "pairs"),
            seed=data.draw(st.integers(0, 2**32 - 1), "seed"),
        )
        check_gemm(case, variant)

    def test_unknown_variant(self) -> None:
        with pytest.raises(ValueError, match=r"no variant 'sse9'; there are .*reference"):
            run_gemm(Gemm(1, 1, 4), "sse9")

    def test_wrong_arguments(self) -> None:
        x = gemm_inputs(Gemm(2, 3, 8))
        packed = KERNELS.gemm_s8_pack(x["w"])
        vectors = (x["offset"], x["scale"], x["bias"])

        def call(a: np.ndarray = x["a"], weights: np.ndarray = packed, k: int = 8, **options: object) -> None:
            KERNELS.gemm_s8(a, weights, *vectors, variant="reference", k=k, **options)

        call()
        with pytest.raises(TypeError):
            call(a=x["a"].astype(np.int8))
        with pytest.raises(TypeError):
            call(a=x["a"][:, ::2])
        with pytest.raises(ValueError, match="packed has 3968 bytes, wanted 3904"):
            call(k=3)
        with pytest.raises(ValueError, match="leaves less than 8"):
            call(offsets=np.array([[0], [9]], np.int32))
        with pytest.raises(ValueError, match="pad_row has not 8"):
            call(offsets=np.array([[0], [-1]], np.int32))
        with pytest.raises(ValueError, match="n_range"):
            call(n_range=(1, 3))
        with pytest.raises(ValueError, match="m_range"):
            call(m_range=(0, 3))


@dataclasses.dataclass(frozen=True)
class Depthwise:
    """One depthwise_s8 call."""

    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    rows: tuple[int, int] | None = None
    slack: int = 0  # unused elements at the end of each pixel of out
    extremes: int = 0  # weight beside activations of 255
    wild: bool = False  # NaN, infinities and more than int32 holds before rounding
    lo: float = 3
    hi: float = 250
    seed: int = 0

    @property
    def out(self) -> tuple[int, ...]:
        extents = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in extents)


def depthwise_inputs(case: Depthwise) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([case.seed, case.channels])
    channels, taps = case.channels, case.kernel[0] * case.kernel[1]
    x = {
        "a": rng.integers(0, 256, (*case.size, channels), np.uint8),
        "w": rng.integers(-127, 128, (*case.kernel, channels), np.int8),
        "offset": rng.integers(-30000, 30000, channels).astype(np.int32),
        "scale": (rng.uniform(0.2, 2, channels) / (400 * taps)).astype(np.float32),
        "bias": rng.uniform(100, 150, channels).astype(np.float32),
    }
    if case.extremes:
        x["a"][...], x["w"][...] = 255, case.extremes
    if case.wild:
        x["bias"] = np.resize(np.float32([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30, 100]), channels)
    return x


def depthwise_numpy(case: Depthwise, dtype: type) -> np.ndarray:
    x = depthwise_inputs(case)
    (top, left), (height, width) = case.padding, case.out
    a = np.pad(x["a"], ((top, top), (left, left), (0, 0)), constant_values=131).astype(np.int64)
    acc = np.zeros((height, width, case.channels), np.int64) + x["offset"]
    for ky, kx in np.ndindex(*case.kernel):
        y, x0 = ky * case.dilation[0], kx * case.dilation[1]
        window = a[y : y + (height - 1) * case.stride[0] + 1 : case.stride[0]]
        acc += window[:, x0 : x0 + (width - 1) * case.stride[1] + 1 : case.stride[1]] * x["w"][ky, kx].astype(np.int64)
    v = exact_fma(acc.astype(np.float32), x["scale"], x["bias"])
    v = np.where(np.isnan(v), np.float32(case.lo), v)
    return to_u8(v, case.lo, case.hi) if dtype is np.uint8 else np.clip(v, np.float32(case.lo), np.float32(case.hi))


def run_depthwise(case: Depthwise, variant: str, dtype: type, at: str = "end") -> np.ndarray:
    out = guarded_empty((*case.out, case.channels + case.slack), dtype, at=at)
    out[...] = SENTINEL
    arrays = {name: guarded(value, at=at) for name, value in depthwise_inputs(case).items()}
    KERNELS.depthwise_s8(
        **arrays,
        variant=variant,
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
        pad=255 if case.extremes else 131,
        lo=case.lo,
        hi=case.hi,
        rows=case.rows,
        out=out,
        scratch=guarded_empty(
            (KERNELS.depthwise_s8_scratch_bytes(case.kernel, case.stride, case.dilation),), np.uint8, at=at
        ),
    )
    return out


def check_depthwise(case: Depthwise, variant: str) -> None:
    for dtype in (np.uint8, np.float32):
        expected = run_depthwise(case, "reference", dtype)
        for at in ("begin", "end"):
            np.testing.assert_array_equal(
                run_depthwise(case, variant, dtype, at), expected, err_msg=f"{variant} {case} {dtype} {at}"
            )


WINDOWS = [
    Depthwise((5, 9), 70),
    Depthwise((6, 7), 40, stride=(2, 2), slack=3),
    Depthwise((7, 11), 24, kernel=(5, 5), padding=(2, 2), rows=(1, 6)),
    Depthwise((8, 8), 16, kernel=(5, 5), stride=(2, 2), padding=(2, 2)),
    Depthwise((9, 13), 33, kernel=(7, 7), padding=(3, 3)),
    Depthwise((9, 6), 17, padding=(0, 0), rows=(3, 3)),
    Depthwise((9, 6), 16, padding=(0, 0), rows=(2, 5)),
    Depthwise((3, 100), 16),
    Depthwise((3, 100), 32, stride=(1, 2), slack=1),
    Depthwise((4, 90), 130),
    Depthwise((9, 10), 20, dilation=(2, 3), padding=(2, 3)),
    Depthwise((9, 60), 64, dilation=(1, 20), padding=(1, 20)),
    Depthwise((4, 5), 18, kernel=(1, 1), padding=(0, 0)),
    Depthwise((4, 5), 18, kernel=(1, 1), stride=(2, 2), padding=(1, 1)),
    Depthwise((9, 9), 31, kernel=(4, 2), stride=(3, 3)),
    Depthwise((9, 9), 31, kernel=(2, 8), padding=(4, 7)),
    Depthwise((1, 1), 65, kernel=(5, 5), padding=(2, 2)),
    Depthwise((20, 20), 5, kernel=(3, 17), stride=(1, 5), padding=(9, 9)),
    Depthwise((12, 12), 3, kernel=(12, 12), padding=(0, 3)),
    Depthwise((5, 5), 96, extremes=127),
    Depthwise((5, 5), 96, extremes=-127),
    Depthwise((9, 9), 70, kernel=(9, 9), padding=(4, 4), extremes=-128),
    Depthwise((5, 5), 70, wild=True, lo=2.5, hi=249.5),
]


class TestDepthwiseS8:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("case", [case for case in WINDOWS if not case.extremes], ids=str)
    def test_reference_equals_numpy(self, case: Depthwise, dtype: type) -> None:
        expected = np.full((*case.out, case.channels + case.slack), SENTINEL, dtype)
        first, last = case.rows or (0, case.out[0])
        expected[first:last, :, : case.channels] = depthwise_numpy(case, dtype)[first:last]
        np.testing.assert_array_equal(run_depthwise(case, "reference", dtype), expected)

    @pytest.mark.parametrize("case", WINDOWS, ids=str)
    @pytest.mark.parametrize("variant", rows("depthwise_s8"))
    def test_windows(self, variant: str, case: Depthwise) -> None:
        check_depthwise(case, variant)

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("kernel", [3, 5])
    @pytest.mark.parametrize("variant", rows("depthwise_s8"))
    def test_channels(self, variant: str, kernel: int, stride: int) -> None:
        for channels in CHANNELS:
            for width in (4, 7):
                check_depthwise(
                    Depthwise((5, width), channels, (kernel, kernel), (stride, stride), (kernel // 2, kernel // 2)),
                    variant,
                )

    @settings(deadline=None, max_examples=60, print_blob=True)
    @given(data=st.data())
    @pytest.mark.parametrize("variant", rows("depthwise_s8"))
    def test_random(self, variant: str, data: st.DataObject) -> None:
        def pair(first: int, last: int, name: str) -> tuple[int, int]:
            return data.draw(st.tuples(st.integers(first, last), st.integers(first, last)), name)

        kernel, dilation, padding = pair(1, 7, "kernel"), pair(1, 3, "dilation"), pair(0, 4, "padding")
        extra = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 60)), "size")
        window = zip(kernel, dilation, padding, extra, strict=True)
        size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + e for k, d, p, e in window)
        case = Depthwise(
            size,
            data.draw(st.integers(1, 140), "channels"),
            kernel,
            pair(1, 5, "stride"),
            padding,
            dilation,
            slack=data.draw(st.integers(0, 3), "slack"),
            seed=data.draw(st.integers(0, 2**32 - 1), "seed"),
        )
        check_depthwise(case, variant)
