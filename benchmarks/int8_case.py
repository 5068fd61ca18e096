"""Timed calls of int8 kernels, checked against the reference first; they give multiply-accumulates per cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from taille import _native
from taille.bench.clock import clock_under
from taille.bench.kernels import aligned, variants

__all__ = ["KERNELS", "aligned", "time_gemm", "time_kernel", "variants"]

KERNELS = _native.kernels


def time_kernel(benchmark: Any, run: Callable[[int], object], macs: int) -> None:
    """Time run(repeats), which runs a kernel that often, and note the multiply-accumulates per cycle beside it."""
    repeats = max(1, int(3e7 / macs))
    benchmark.pedantic(run, args=(repeats,), rounds=30, warmup_rounds=2)
    clock = clock_under(lambda: run(repeats))
    best, median = benchmark.stats.stats.min / repeats, benchmark.stats.stats.median / repeats
    benchmark.extra_info.update(
        milliseconds=1e3 * best,
        mac_per_cycle=macs / (best * clock),
        mac_per_cycle_median=macs / (median * clock),
        gigahertz=clock / 1e9,
    )
    print(
        f"{1e3 * best:9.4f} ms, {macs / (best * clock):6.1f} MAC/cycle (median {macs / (median * clock):6.1f}), "
        f"{clock / 1e9:.2f} GHz"
    )


def time_gemm(
    benchmark: Any,
    variant: str,
    shape: tuple[int, int, int],
    offsets: np.ndarray | None = None,
    **options: object,
) -> None:
    """Time rows x columns x depth; the depth of each tap where there are offsets."""
    m, n, k = shape
    taps = offsets.shape[1] if offsets is not None else 1
    rng = np.random.default_rng(0)
    a = aligned(rng.integers(0, 256, (m, k), np.uint8))
    w = rng.integers(-127, 128, (n, taps * k), np.int8)
    packed = aligned(KERNELS.gemm_s8_pack(w))
    vectors = (
        (-128 * w.sum(axis=1, dtype=np.int32)).astype(np.int32),
        np.full(n, 1 / (200 * np.sqrt(taps * k)), np.float32),
        np.full(n, 128, np.float32),
    )
    if offsets is not None:
        options |= {"offsets": offsets, "pad_row": np.full(k, 128, np.uint8)}
        a = aligned(rng.integers(0, 256, offsets.max() + k, np.uint8))
    out_type = np.float32 if options.get("out_f32") else np.uint8
    if options.pop("residual", False):
        options["residual"] = rng.integers(0, 256, (m, n)).astype(out_type)
    options |= {"k": k, "scratch": aligned(np.zeros(KERNELS.gemm_s8_scratch_bytes(taps * k), np.uint8))}

    out = aligned(np.zeros((m, n), out_type))
    few = {"m_range": (0, min(m, 20))}
    KERNELS.gemm_s8(a, packed, *vectors, variant=variant, out=out, **few, **options)
    expected = KERNELS.gemm_s8(a, packed, *vectors, variant="reference", out=np.zeros_like(out), **few, **options)
    np.testing.assert_array_equal(out, expected)

    def run(repeats: int) -> None:
        KERNELS.gemm_s8(a, packed, *vectors, variant=variant, out=out, repeats=repeats, **options)

    time_kernel(benchmark, run, m * n * taps * k)
