"""Float kernels on shapes of real models, one thread: MAC or elements per clock cycle (AVX-512 can do 32 MAC)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from taille import _native
from taille.bench.clock import clock_under

KERNELS = _native.kernels
RNG = np.random.default_rng(1)

GEMM_SHAPES = {
    "bert-base attention, 128 tokens": (128, 768, 768),
    "bert-base up, 128 tokens": (128, 3072, 768),
    "bert-base down, 128 tokens": (128, 768, 3072),
    "bert-base up, 1 token": (1, 3072, 768),
    "bert-base up, 8 tokens": (8, 3072, 768),
    "vit-base attention, 197 patches": (197, 768, 768),
    "resnet-50 3x3x64 at 56x56": (3136, 64, 576),
    "resnet-50 3x3x128 at 28x28": (784, 128, 1152),
    "resnet-50 3x3x512 at 7x7": (49, 512, 4608),
    "resnet-50 1x1 64 to 256 at 56x56": (3136, 256, 64),
    "mobilenet-v2 1x1 96 to 24 at 56x56": (3136, 24, 96),
}
ELEMENTWISE = ["exp", "tanh", "gelu", "silu", "hardswish"]
ROWS = {"bert-base": (128, 768), "attention scores": (1536, 128)}
NORMS = {"vit-small, 16 patches": (16, 384), "vit-small": (197, 384), "vit-base": (197, 768)}
HEADS = {"bert-base": (128, 64), "minilm": (128, 32), "384 tokens": (384, 64), "vit-base": (197, 64)}


def levels(op: str) -> list[str]:
    """The rows that this CPU can run and that are meant to be fast."""
    supported = _native.supported_isas()
    return [v for o, v, level in KERNELS.list_kernels() if o == op and v.startswith("avx") and level in supported]


def aligned(*shape: int) -> np.ndarray:
    """Zeros that begin at a cache line, as those of the runtime do."""
    memory = np.zeros(int(np.prod(shape)) * 4 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + int(np.prod(shape)) * 4].view(np.float32).reshape(shape)


def normal(*shape: int) -> np.ndarray:
    values = aligned(*shape)
    values[...] = RNG.standard_normal(shape)
    return values


def measure(benchmark: object, call: Callable[[], object], work: float, unit: str) -> None:
    """Time the call; note how much work a cycle does, in the best and in the median round."""
    benchmark(call)
    clock = clock_under(call)
    benchmark.extra_info["clock GHz"] = round(clock / 1e9, 2)
    for name, seconds in (("best", benchmark.stats.stats.min), ("median", benchmark.stats.stats.median)):
        benchmark.extra_info[f"{unit}/cycle, {name}"] = round(work / seconds / clock, 2)


@pytest.mark.parametrize("variant", levels("gemm_f32"))
@pytest.mark.parametrize("weights", [np.float32, np.float16])
@pytest.mark.parametrize("shape", GEMM_SHAPES)
def test_gemm(benchmark: object, shape: str, weights: type, variant: str) -> None:
    m, n, k = GEMM_SHAPES[shape]
    a, bias, out = normal(m, k), normal(n), aligned(m, n)
    half = normal(n, k).astype(weights)
    packed = aligned((n + 15) // 16 * 16 * k).view(weights)[: (n + 15) // 16 * 16 * k]
    KERNELS.gemm_f32_pack(half, out=packed)
    scratch = aligned(KERNELS.gemm_f32_scratch_floats(packed, n, k))
    w = half.astype(np.float32)

    def call() -> None:
        KERNELS.gemm_f32(a, packed, n, variant=variant, bias=bias, lo=0.0, scratch=scratch, out=out)

    call()
    np.testing.assert_allclose(out, np.maximum(a @ w.T + bias, 0), rtol=0, atol=1e-3)
    measure(benchmark, call, m * n * k, "MAC")


@pytest.mark.parametrize("variant", levels("depthwise_f32"))
@pytest.mark.parametrize(("channels", "side"), [(32, 112), (144, 56), (384, 14), (960, 7)])
def test_depthwise(benchmark: object, channels: int, side: int, variant: str) -> None:
    y, x, dy, dx = np.ogrid[:side, :side, -1:2, -1:2]
    inside = (y + dy >= 0) & (y + dy < side) & (x + dx >= 0) & (x + dx < side)
    offsets = np.where(inside, ((y + dy) * side + x + dx) * channels, -1).astype(np.int32).reshape(side * side, 9)
    a, w, pad, out = normal(side * side * channels), normal(9, channels), aligned(channels), aligned(side**2, channels)

    def call(variant: str = variant) -> np.ndarray:
        return KERNELS.depthwise_f32(a, offsets, w, variant=variant, pad_row=pad, lo=0.0, hi=6.0, out=out)

    np.testing.assert_array_equal(call().copy(), call("reference"))
    measure(benchmark, call, out.size * 9, "MAC")


@pytest.mark.parametrize("variant", levels("attention"))
@pytest.mark.parametrize("head", HEADS)
def test_attention(benchmark: object, head: str, variant: str) -> None:
    tokens, dim = HEADS[head]
    q, k, v, out = (normal(tokens, dim) for _ in range(4))
    scratch = aligned(KERNELS.attention_scratch_floats(tokens, dim, dim))

    def call(variant: str = variant) -> np.ndarray:
        return KERNELS.attention(q, k, v, variant=variant, scale=dim**-0.5, scratch=scratch, out=out)

    np.testing.assert_allclose(call().copy(), call("reference"), rtol=0, atol=1e-4)
    measure(benchmark, call, 2 * tokens * tokens * dim, "MAC")


@pytest.mark.parametrize("variant", levels("unary"))
@pytest.mark.parametrize("unary", ELEMENTWISE)
def test_unary(benchmark: object, unary: str, variant: str) -> None:
    x, out = normal(16 * 3072), aligned(16 * 3072)

    def call(variant: str = variant) -> np.ndarray:
        return KERNELS.unary(unary, x, variant=variant, out=out)

    np.testing.assert_allclose(call().copy(), call("reference"), rtol=1e-6, atol=1e-6)
    measure(benchmark, call, x.size, "elements")


@pytest.mark.parametrize("variant", levels("softmax"))
@pytest.mark.parametrize("op", ["softmax", "layer_norm", "rms_norm"])
@pytest.mark.parametrize("shape", ROWS)
def test_rows(benchmark: object, shape: str, op: str, variant: str) -> None:
    x, out = normal(*ROWS[shape]), aligned(*ROWS[shape])

    def call(variant: str = variant) -> np.ndarray:
        return getattr(KERNELS, op)(x, variant=variant, out=out)

    np.testing.assert_allclose(call().copy(), call("reference"), rtol=0, atol=1e-4)
    measure(benchmark, call, x.size, "elements")


@pytest.mark.parametrize("variant", levels("layer_norm"))
@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("shape", NORMS)
def test_norm_in_bytes(benchmark: object, shape: str, op: str, variant: str) -> None:
    rows, n = NORMS[shape]
    x, gamma, out = normal(rows, n), normal(n), np.zeros((rows, n), np.uint8)
    beta = {"beta": normal(n)} if op == "layer_norm" else {}

    def call(variant: str = variant) -> np.ndarray:
        scale = {"inverse_scale": 20.0, "zero_point": 128.0}
        return getattr(KERNELS, op)(x, variant=variant, gamma=gamma, **beta, **scale, out=out)

    steps = np.abs(call().astype(int) - call("reference"))
    assert steps.max() <= 1
    measure(benchmark, call, x.size, "elements")
