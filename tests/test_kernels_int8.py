"""Kernels of int8 models: every row equals the reference bit by bit, and the reference equals numpy.

All arrays lie against inaccessible pages, so that a kernel touching a byte that is not its own crashes.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_guard import guarded, guarded_empty
from taille import _native

KERNELS = _native.kernels
SENTINEL = 77
MAX_ROWS = 32  # twice the tallest tile
COLUMNS = [1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130]
DEPTHS = [*range(1, 41), 53, 64, 97, 101, 256, 509]


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
        check_gemm(case, variant)
        check_gemm(case, variant, at="begin")

    @pytest.mark.parametrize("n", COLUMNS)
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_every_row_count(self, variant: str, n: int) -> None:
        for m in range(1, MAX_ROWS + 1):
            check_gemm(Gemm(m, n, 4 * (m % 7 + 1), residual=m % 3 == 0, out_f32=m % 5 == 0), variant)

    @pytest.mark.parametrize("taps", [0, 1, 3])
    @pytest.mark.parametrize("variant", rows("gemm_s8"))
    def test_every_depth(self, variant: str, taps: int) -> None:
        for k in DEPTHS:
            for m, n in ((1, 64), (5, 33), (7, 65)):
                check_gemm(Gemm(m, n, k, taps), variant)

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
        with pytest.raises(ValueError, match="packed has 128 bytes, wanted 64"):
            call(k=3)
        with pytest.raises(ValueError, match="leaves less than 8"):
            call(offsets=np.array([[0], [9]], np.int32))
        with pytest.raises(ValueError, match="pad_row has not 8"):
            call(offsets=np.array([[0], [-1]], np.int32))
        with pytest.raises(ValueError, match="n_range"):
            call(n_range=(1, 3))
        with pytest.raises(ValueError, match="m_range"):
            call(m_range=(0, 3))


SIZES = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 200, 1000]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-45, 0.5, 1.5, 2.5], np.float32)


def floats(size: int, *, special: bool = True) -> np.ndarray:
    rng = np.random.default_rng(size)
    x = rng.normal(0, 3, size).astype(np.float32)
    if special:
        at = rng.integers(0, max(size, 1), min(size, len(SPECIAL)))
        x[at] = SPECIAL[: len(at)]
    return x


def bytes_(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([size, seed]).integers(0, 256, size, np.uint8)


class TestQuantize:
    @pytest.mark.parametrize("variant", rows("quantize", reference=True))
    def test_quantize(self, variant: str) -> None:
        for size in SIZES:
            for at in ("begin", "end"):
                x = floats(size)
                out = guarded_empty((size,), np.uint8, at=at)
                KERNELS.quantize(guarded(x, at=at), 13.7, 121.0, variant=variant, out=out)
                with np.errstate(invalid="ignore", over="ignore"):
                    v = exact_fma(x, np.float32(13.7), np.float32(121.0))
                np.testing.assert_array_equal(out, to_u8(np.nan_to_num(v, nan=0, posinf=1e9, neginf=-1e9)))

    @pytest.mark.parametrize("variant", rows("quantize", reference=True))
    def test_rounds_half_to_even(self, variant: str) -> None:
        x = np.arange(0, 256, 0.5, np.float32)
        np.testing.assert_array_equal(KERNELS.quantize(x, 1.0, 0.0, variant=variant), to_u8(x))

    @pytest.mark.parametrize("variant", rows("dequantize", reference=True))
    def test_dequantize(self, variant: str) -> None:
        for size in SIZES:
            for at in ("begin", "end"):
                q = bytes_(size)
                out = guarded_empty((size,), np.float32, at=at)
                KERNELS.dequantize(guarded(q, at=at), 0.0371, 119, variant=variant, out=out)
                np.testing.assert_array_equal(out, (q.astype(np.int32) - 119).astype(np.float32) * np.float32(0.0371))

    @pytest.mark.parametrize("both", [True, False])
    @pytest.mark.parametrize("variant", rows("add_u8", reference=True))
    def test_add(self, variant: str, both: bool) -> None:
        for size in SIZES:
            for at in ("begin", "end"):
                a, b = bytes_(size), bytes_(size, 1)
                a_scale, b_scale, bias = np.float32([0.731, 0.412, -20.3])
                v = exact_fma(a, a_scale, bias)
                expected = to_u8(exact_fma(b, b_scale, v) if both else v, 10, 240)
                out = guarded(a, at=at)  # in place
                other = guarded(b, at=at) if both else None
                KERNELS.add_u8(out, other, a_scale, b_scale, bias, lo=10, hi=240, variant=variant, out=out)
                np.testing.assert_array_equal(out, expected)

    @pytest.mark.parametrize("variant", rows("lookup", reference=True))
    def test_lookup(self, variant: str) -> None:
        table = np.random.default_rng(5).permutation(256).astype(np.uint8)
        for size in [*SIZES, 256]:
            for at in ("begin", "end"):
                a = bytes_(size) if size != 256 else np.arange(256, dtype=np.uint8)
                out = guarded(a, at=at)
                KERNELS.lookup(out, guarded(table, at=at), variant=variant, out=out)
                np.testing.assert_array_equal(out, table[a])

    @pytest.mark.parametrize("variant", rows("observe", reference=True))
    def test_observe(self, variant: str) -> None:
        for size in SIZES:
            for at in ("begin", "end"):
                x = floats(size)
                finite = np.concatenate([x[np.isfinite(x)], np.float32([0.25])])
                low, high, bad = KERNELS.observe(guarded(x, at=at), 0.25, 0.25, 3, variant=variant)
                assert (low, high, bad) == (finite.min(), finite.max(), 3 + size + 1 - len(finite))

    @pytest.mark.parametrize("variant", rows("observe", reference=True))
    def test_observe_gives_no_negative_zero(self, variant: str) -> None:
        for x in ([0.0, -0.0], [-0.0, 0.0], [-0.0] * 20):
            low, high, _ = KERNELS.observe(np.float32(x), np.inf, -np.inf, variant=variant)
            assert not np.signbit([low, high]).any()

    @pytest.mark.parametrize("variant", rows("histogram", reference=True))
    def test_histogram(self, variant: str) -> None:
        for size in SIZES:
            x = floats(size)
            counts = KERNELS.histogram(guarded(x), -4.0, 6.0, np.ones(50, np.int64), variant=variant)
            with np.errstate(over="ignore"):
                position = (x[np.isfinite(x)] - np.float32(-4)) * np.float32(6)
            expected = 1 + np.bincount(np.clip(position, 0, 49).astype(int), minlength=50)
            np.testing.assert_array_equal(counts, expected)


def window_offsets(rng: np.random.Generator, size: int, channels: int, m: int, taps: int, padded: float) -> np.ndarray:
    offsets = rng.integers(0, size - channels + 1, (m, taps), np.int32)
    offsets[rng.random(offsets.shape) < padded] = -1
    offsets.flat[0] = size - channels
    return offsets


CHANNELS = [1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 130]


class TestDepthwiseS8:
    @staticmethod
    def inputs(channels: int, taps: int, extremes: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([channels, taps])
        x = {
            "a": rng.integers(0, 256, 9 * channels + 5, np.uint8),
            "w": rng.integers(-127, 128, (taps, channels), np.int8),
            "offset": rng.integers(-30000, 30000, channels).astype(np.int32),
            "scale": (rng.uniform(0.2, 2, channels) / (400 * taps)).astype(np.float32),
            "bias": rng.uniform(100, 150, channels).astype(np.float32),
            "offsets": window_offsets(rng, 9 * channels + 5, channels, 7, taps, 0.25),
            "pad_row": rng.integers(0, 256, channels, np.uint8),
        }
        if extremes:
            x["a"][...], x["w"][...], x["pad_row"][...] = 255, extremes, 255
        return x

    @staticmethod
    def run(x: dict[str, np.ndarray], variant: str, dtype: type, at: str = "end", **options: object) -> np.ndarray:
        channels = x["w"].shape[1]
        out = guarded_empty((len(x["offsets"]), channels + 3), dtype, at=at)
        out[...] = SENTINEL
        arrays = {name: guarded(value, at=at) for name, value in x.items()}
        KERNELS.depthwise_s8(**arrays, variant=variant, out=out, **options)
        return out

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("channels", CHANNELS)
    def test_reference_equals_numpy(self, channels: int, dtype: type) -> None:
        x = self.inputs(channels, 9)
        index = np.maximum(x["offsets"], 0)[..., None] + np.arange(channels)
        a = np.where(x["offsets"][..., None] < 0, x["pad_row"], x["a"][index])
        acc = np.einsum("mtc,tc->mc", a.astype(np.int64), x["w"].astype(np.int64)) + x["offset"]
        v = exact_fma(acc.astype(np.float32), x["scale"], x["bias"])
        expected = to_u8(v, 3, 250) if dtype is np.uint8 else np.clip(v, np.float32(3), np.float32(250))
        out = self.run(x, "reference", dtype, lo=3, hi=250)
        np.testing.assert_array_equal(out[:, :channels], expected)
        np.testing.assert_array_equal(out[:, channels:], SENTINEL)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("variant", rows("depthwise_s8"))
    def test_equals_reference(self, variant: str, dtype: type) -> None:
        for channels in CHANNELS:
            for taps in (1, 2, 3, 4, 5, 9, 25, 64, 65):
                x = self.inputs(channels, taps)
                for at in ("begin", "end"):
                    np.testing.assert_array_equal(
                        self.run(x, variant, dtype, at, m_range=(1, 6)),
                        self.run(x, "reference", dtype, at, m_range=(1, 6)),
                        err_msg=f"{channels} channels, {taps} taps, {at}",
                    )

    @pytest.mark.parametrize("weight", [127, -127, -128])
    @pytest.mark.parametrize("variant", rows("depthwise_s8"))
    def test_extremes(self, variant: str, weight: int) -> None:
        x = self.inputs(70, 25, extremes=weight)
        options = {"lo": -np.inf, "hi": np.inf}
        np.testing.assert_array_equal(
            self.run(x, variant, np.float32, **options), self.run(x, "reference", np.float32, **options)
        )


class TestPoolU8:
    @pytest.mark.parametrize("kind", ["max", "avg"])
    @pytest.mark.parametrize("channels", CHANNELS)
    def test_every_row_equals_numpy(self, kind: str, channels: int) -> None:
        rng = np.random.default_rng(channels)
        a = rng.integers(0, 256, 11 * channels, np.uint8)
        counts = np.array([1, 4, 9, 2, 49])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        offsets = window_offsets(rng, a.size, channels, 1, counts.sum(), 0).ravel()
        pixels = a[offsets[:, None] + np.arange(channels)].astype(np.int64)
        multiplier, bias = (0.9 / counts).astype(np.float32), rng.uniform(-5, 20, 5).astype(np.float32)
        expected = np.full((5, channels + 2), SENTINEL, np.uint8)
        for i in range(1, 5):
            window = pixels[starts[i] : starts[i + 1]]
            average = to_u8(exact_fma(window.sum(axis=0).astype(np.float32), multiplier[i], bias[i]))
            expected[i, :channels] = window.max(axis=0) if kind == "max" else average
        supported = _native.supported_isas()
        for op, variant, level in KERNELS.list_kernels():
            if op != f"pool_{kind}_u8" or level not in supported:
                continue
            for at in ("begin", "end"):
                out = guarded_empty(expected.shape, np.uint8, at=at)
                out[...] = SENTINEL
                arrays = [guarded(x, at=at) for x in (a, starts, offsets)]
                weights = [guarded(x, at=at) for x in (multiplier, bias)] if kind == "avg" else []
                getattr(KERNELS, op)(*arrays, channels, *weights, variant=variant, out=out, m_range=(1, 5))
                np.testing.assert_array_equal(out, expected, err_msg=variant)


class TestCopy:
    @settings(deadline=None, max_examples=300, print_blob=True)
    @given(data=st.data())
    @pytest.mark.parametrize("variant", rows("copy", reference=True))
    def test_any_strides(self, variant: str, data: st.DataObject) -> None:
        dtype = data.draw(st.sampled_from([np.uint8, np.float32, np.int64]), "dtype")
        rank = data.draw(st.integers(0, 5), "rank")
        sizes = st.sampled_from([0, 1, 2, 3, 5, 40]) if rank <= 3 else st.sampled_from([1, 2, 3, 7])

        def view(shape: list[int]) -> np.ndarray:
            """Of that shape, over guarded memory in another order of dimensions, some reversed or with gaps."""
            order = data.draw(st.permutations(range(rank)), "order")
            steps = data.draw(st.lists(st.sampled_from([1, 1, 1, -1, 2]), min_size=rank, max_size=rank), "steps")
            whole = [max(1, (shape[d] - 1) * abs(steps[d]) + 1) if shape[d] else 0 for d in order]
            memory = guarded_empty(tuple(whole), dtype)
            cut = tuple(slice(None, None, steps[d]) for d in order)
            return memory[cut].transpose(np.argsort(order)) if rank else memory

        shape = data.draw(st.lists(sizes, min_size=rank, max_size=rank), "shape")
        repeated = [data.draw(st.booleans(), "repeat") and data.draw(st.booleans(), "really") for _ in shape]
        source = view([1 if r and s else s for r, s in zip(repeated, shape, strict=True)])
        source[...] = np.arange(source.size).reshape(source.shape)
        out = view(shape)
        assert out.shape == tuple(shape)
        source = np.broadcast_to(source, shape)
        KERNELS.copy(source, out, variant=variant)
        np.testing.assert_array_equal(out, source)

    @pytest.mark.parametrize("variant", rows("copy"))
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_channels_last_and_back(self, variant: str, dtype: type) -> None:
        for channels in (1, 3, 31, 32, 33, 64, 100):
            x = np.arange(2 * channels * 45).astype(dtype).reshape(2, channels, 5, 9)
            last = guarded_empty((2, 5, 9, channels), dtype)
            KERNELS.copy(guarded(x).transpose(0, 2, 3, 1), last, variant=variant)
            np.testing.assert_array_equal(last, x.transpose(0, 2, 3, 1))
            back = guarded_empty(x.shape, dtype)
            KERNELS.copy(last, back.transpose(0, 2, 3, 1), variant=variant)
            np.testing.assert_array_equal(back, x)

    @pytest.mark.parametrize("variant", rows("embedding", reference=True))
    def test_embedding(self, variant: str) -> None:
        for dtype, width in ((np.float32, 5), (np.uint8, 37)):
            table = guarded(np.arange(11 * width).reshape(11, width).astype(dtype))
            ids = np.array([10, 0, 3, 3, 10], np.int64)
            out = guarded_empty((5, width), dtype)
            assert KERNELS.embedding(table, guarded(ids), out, variant=variant) == -1
            np.testing.assert_array_equal(out, table[ids])
            for bad in (-1, 11, 2**62):
                ids[3] = bad
                assert KERNELS.embedding(table, ids, out, variant=variant) == 3
