"""Single kernels on shapes of the built-in models, one thread, every variant that the CPU can run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from taille import _native
from taille.arrays import Array
from taille.bench.clock import clock_under

__all__ = ["OPS", "aligned", "measure_kernels", "variants"]

KERNELS = _native.kernels
ROUNDS = 15
ROUND_SECONDS = 0.005
GEMM = {  # rows, columns, depth
    "bert-base attention": (128, 768, 768),
    "bert-base up": (128, 3072, 768),
    "minilm down": (128, 384, 1536),
    "mlp, 64 samples": (64, 1024, 1024),
    "mlp, 1 sample": (1, 1024, 1024),
    "resnet50 1x1, 56 pixels": (3136, 64, 256),
    "mobilenetv2 1x1, 14 pixels": (196, 576, 96),
}
DEPTHWISE = {  # pixels, channels, stride
    "mobilenetv2 3x3, 112 pixels": (112, 32, 1),
    "mobilenetv2 3x3, 56 pixels, stride 2": (56, 144, 2),
    "mobilenetv2 3x3, 14 pixels": (14, 576, 1),
}
Case = tuple[str, int, Callable[[str, int], object]]  # shape, MAC, and what runs a variant that often


def measure_kernels(ops: Sequence[str], step: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Milliseconds and multiply-accumulates per cycle of every variant of these ops (of all where there are none).

    Args:
        ops: names out of `OPS`.
        step: told what comes next.

    Raises:
        ValueError: an op that is not in `OPS`.
    """
    unknown = [op for op in ops if op not in OPS]
    if unknown:
        raise ValueError(f"no kernel '{unknown[0]}' is timed here; there are {', '.join(OPS)}")
    rows = []
    for op in ops or OPS:
        for shape, macs, run in OPS[op]():
            for variant in variants(op):
                step(f"{op} {variant}, {shape}")
                rows.append({"op": op, "variant": variant, "shape": shape, "macs": macs, **rate(run, variant, macs)})
    return rows


def rate(run: Callable[[str, int], object], variant: str, macs: int) -> dict[str, float]:
    """Time one variant: the median and the best of several rounds, and the clock under it."""
    start = time.perf_counter()
    run(variant, 1)
    repeats = max(1, int(ROUND_SECONDS / max(time.perf_counter() - start, 1e-6)))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(variant, repeats)
        seconds.append((time.perf_counter() - start) / repeats)
    clock = clock_under(lambda: run(variant, repeats), rounds=5)
    median = statistics.median(seconds)
    return {
        "milliseconds": 1e3 * median, "best_milliseconds": 1e3 * min(seconds), "mac_per_cycle": macs / (median * clock),
        "best_mac_per_cycle": macs / (min(seconds) * clock), "gigahertz": clock / 1e9,
    }  # fmt: skip


def variants(op: str) -> list[str]:
    """The variants of an op that this CPU can run, without the reference."""
    supported = _native.supported_isas()
    return [
        variant
        for name, variant, level in KERNELS.list_kernels()
        if name == op and level in supported and variant != "reference"
    ]


def aligned(x: Array) -> Array:
    """A copy that begins at a cache line, as the library's own buffers do."""
    memory = np.zeros(x.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def gemm_s8() -> Iterator[Case]:
    """int8 products with requantisation to uint8."""
    rng = np.random.default_rng(0)
    for shape, (m, n, k) in GEMM.items():
        w = rng.integers(-127, 128, (n, k), np.int8)
        arguments = (
            aligned(rng.integers(0, 256, (m, k), np.uint8)), aligned(KERNELS.gemm_s8_pack(w)),
            (-128 * w.sum(axis=1, dtype=np.int32)).astype(np.int32), np.full(n, 1 / (200 * np.sqrt(k)), np.float32),
            np.full(n, 128, np.float32),
        )  # fmt: skip
        out = aligned(np.zeros((m, n), np.uint8))
        scratch = aligned(np.zeros(KERNELS.gemm_s8_scratch_bytes(k), np.uint8))

        def run(
            variant: str, repeats: int, a: Any = arguments, k: int = k, out: Array = out, scratch: Array = scratch
        ) -> object:
            return KERNELS.gemm_s8(*a, variant=variant, k=k, out=out, scratch=scratch, repeats=repeats)

        yield shape, m * n * k, run


def gemm_f32() -> Iterator[Case]:
    """float32 products with bias and ReLU, on weights of 32 and of 16 bits."""
    rng = np.random.default_rng(0)
    for (shape, (m, n, k)), dtype in itertools.product(GEMM.items(), (np.float32, np.float16)):
        a = aligned(rng.standard_normal((m, k), dtype=np.float32))
        packed = aligned(KERNELS.gemm_f32_pack(rng.standard_normal((n, k), dtype=np.float32).astype(dtype)))
        bias, out = np.zeros(n, np.float32), aligned(np.zeros((m, n), np.float32))
        scratch = aligned(np.zeros(KERNELS.gemm_f32_scratch_floats(packed, n, k), np.float32))
        fixed: Any = {"bias": bias, "lo": 0.0, "out": out, "scratch": scratch}

        def run(variant: str, repeats: int, a: Array = a, packed: Array = packed, fixed: Any = fixed) -> None:
            for _ in range(repeats):
                KERNELS.gemm_f32(a, packed, fixed["bias"].size, variant=variant, **fixed)

        yield shape if dtype is np.float32 else f"{shape}, float16", m * n * k, run


def depthwise_s8() -> Iterator[Case]:
    """int8 depthwise convolutions of 3 x 3 with requantisation."""
    rng = np.random.default_rng(0)
    for shape, (size, channels, stride) in DEPTHWISE.items():
        inputs = {
            "a": aligned(rng.integers(0, 256, (size, size, channels), np.uint8)),
            "w": aligned(rng.integers(-127, 128, (3, 3, channels), np.int8)),
            "offset": rng.integers(-9000, 9000, channels).astype(np.int32),
            "scale": np.full(channels, 1 / 600, np.float32), "bias": np.full(channels, 128, np.float32),
        }  # fmt: skip
        side = (size + stride - 1) // stride
        geometry: Any = {"stride": (stride, stride), "padding": (1, 1), "pad": 128}
        geometry["out"] = aligned(np.zeros((side, side, channels), np.uint8))

        def run(variant: str, repeats: int, inputs: Any = inputs, geometry: Any = geometry) -> object:
            return KERNELS.depthwise_s8(**inputs, **geometry, variant=variant, repeats=repeats)

        yield shape, side * side * channels * 9, run


OPS: dict[str, Callable[[], Iterator[Case]]] = {
    "gemm_s8": gemm_s8,
    "gemm_f32": gemm_f32,
    "depthwise_s8": depthwise_s8,
}
