"""quantize.h, uint8 pooling and movement.h: every row equals numpy, with arrays against inaccessible pages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from int8_rows import CHANNELS, KERNELS, SENTINEL, exact_fma, rows, to_u8, window_offsets
from kernels_guard import guarded, guarded_empty
from taille import _native

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
        rng = np.random.default_rng(0)
        sizes = [(c, 5, 9) for c in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 64, 100)]
        sizes += [(c, 1, n) for c in (3, 8, 16) for n in (7, 8, 15, 16, 17, 24)] + [(270, 3, 100), (33, 17, 17)]
        for (channels, height, width), at in itertools.product(sizes, ("begin", "end")):
            x = rng.integers(0, 256, (2, channels, height, width)).astype(dtype)
            last = guarded_empty((2, height, width, channels), dtype, at=at)
            KERNELS.copy(guarded(x, at=at).transpose(0, 2, 3, 1), last, variant=variant)
            np.testing.assert_array_equal(last, x.transpose(0, 2, 3, 1))
            back = guarded_empty(x.shape, dtype, at=at)
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

    @pytest.mark.parametrize("variant", rows("embedding_s8", reference=True))
    def test_embedding_of_int8_rows(self, variant: str) -> None:
        rng = np.random.default_rng(4)
        for width, at in itertools.product((1, 5, 16, 37), ("begin", "end")):
            table = guarded(rng.integers(-128, 128, (11, width)).astype(np.int8), at=at)
            scale = guarded(rng.uniform(1e-3, 1, 11).astype(np.float32), at=at)
            ids = np.array([10, 0, 3, 3, 10], np.int64)
            out = guarded_empty((5, width), np.float32, at=at)
            assert KERNELS.embedding_s8(table, scale, guarded(ids), out, variant=variant) == -1
            np.testing.assert_array_equal(out, table[ids] * scale[ids, None])
            for bad in (-1, 11, 2**62):
                ids[3] = bad
                assert KERNELS.embedding_s8(table, scale, ids, out, variant=variant) == 3
