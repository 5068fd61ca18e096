"""Products with weights in blocks, every variant, one thread: multiply-accumulates per cycle on what is not zero.

`pytest benchmarks/test_gemm_sparse.py -n 0 --benchmark-only -s` also prints by how much the dense kernel of the same
level is beaten, measured in turns with it: the crossover is where that passes 1.
"""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from int8_case import KERNELS, aligned, time_kernel, variants

SHAPES = {
    "bert-base-attention": (128, 768, 768),
    "bert-base-up": (128, 3072, 768),
    "minilm-down": (128, 384, 1536),
    "resnet50-1x1-14": (196, 1024, 256),
    "resnet50-1x1-56": (3136, 64, 64),
    "mlp-64": (64, 1024, 1024),
    "mlp-1": (1, 1024, 1024),
}
PRODUCTS = 5e8  # multiply-accumulates of a call, at least: it packs the weights once, which must not show


def case(shape: tuple[int, int, int], kept: float, block_rows: int) -> tuple[Any, Any, int]:
    """Runs of the sparse and of the dense kernel (variant, repeats), and the products that are left.

    Pairs of the weights fit 16 bits, so the dense kernel is the fastest that its level has.
    """
    m, n, k = shape
    rng = np.random.default_rng(0)
    mask = rng.random((n // block_rows, k // 4)) < kept
    w = rng.integers(1, 65, (n, k), np.int8) * np.repeat(np.repeat(mask, block_rows, 0), 4, 1)
    a = aligned(rng.integers(0, 256, (m, k), np.uint8))
    vectors = (np.zeros(n, np.int32), np.full(n, 1e-4, np.float32), np.full(n, 8, np.float32))
    packed, out = aligned(KERNELS.gemm_s8_pack(w)), aligned(np.zeros((m, n), np.uint8))
    scratch = aligned(np.zeros(KERNELS.gemm_sparse_s8_scratch_bytes(n, k), np.uint8))
    dense_scratch = aligned(np.zeros(KERNELS.gemm_s8_scratch_bytes(k), np.uint8))

    def sparse(variant: str, repeats: int) -> np.ndarray:
        return KERNELS.gemm_sparse_s8(
            a, w, *vectors, variant=variant, k=k, block_rows=block_rows, out=out, scratch=scratch, repeats=repeats
        )

    def dense(variant: str, repeats: int) -> np.ndarray:
        return KERNELS.gemm_s8(
            a, packed, *vectors, variant=variant, k=k, out=out, scratch=dense_scratch, repeats=repeats
        )

    np.testing.assert_array_equal(sparse("reference", 1).copy(), dense("reference", 1))
    return sparse, dense, int(np.count_nonzero(w)) * m


def case_f32(shape: tuple[int, int, int], kept: float, block_rows: int) -> tuple[Any, Any, int]:
    """As `case`, of float32."""
    m, n, k = shape
    rng = np.random.default_rng(0)
    mask = rng.random((n // block_rows, k // 4)) < kept
    w = rng.standard_normal((n, k)).astype(np.float32) * np.repeat(np.repeat(mask, block_rows, 0), 4, 1)
    a = aligned(rng.standard_normal((m, k)).astype(np.float32))
    packed, out = aligned(KERNELS.gemm_f32_pack(w)), aligned(np.zeros((m, n), np.float32))
    scratch = aligned(np.zeros(KERNELS.gemm_sparse_f32_scratch_floats(n, k), np.float32))
    dense_scratch = aligned(np.zeros(KERNELS.gemm_f32_scratch_floats(packed, n, k), np.float32))

    def sparse(variant: str, repeats: int) -> np.ndarray:
        return KERNELS.gemm_sparse_f32(
            a, w, variant=variant, block_rows=block_rows, out=out, scratch=scratch, repeats=repeats
        )

    def dense(variant: str, repeats: int) -> np.ndarray:
        return KERNELS.gemm_f32(a, packed, n, variant=variant, out=out, scratch=dense_scratch, repeats=repeats)

    np.testing.assert_array_equal(sparse("reference", 1).copy(), dense("reference", 1))
    return sparse, dense, int(np.count_nonzero(w)) * m


CASES = {"gemm_sparse_s8": case, "gemm_sparse_f32": case_f32}
ROWS = [(op, variant) for op in CASES for variant in variants(op)]


@pytest.mark.parametrize("kept", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("op", "variant"), ROWS)
def test_blocks_of_4x4(benchmark: Any, op: str, variant: str, shape: tuple[int, int, int], kept: float) -> None:
    compare(benchmark, op, variant, shape, kept, 4)


@pytest.mark.parametrize("kept", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("variant", variants("gemm_sparse_s8"))
def test_skip_lists(benchmark: Any, variant: str, shape: tuple[int, int, int], kept: float) -> None:
    compare(benchmark, "gemm_sparse_s8", variant, shape, kept, 16)


@pytest.mark.parametrize("block_rows", [1, 2])
@pytest.mark.parametrize(("op", "variant"), ROWS)
def test_lower_blocks(benchmark: Any, op: str, variant: str, block_rows: int) -> None:
    compare(benchmark, op, variant, SHAPES["bert-base-attention"], 0.25, block_rows)


def compare(benchmark: Any, op: str, variant: str, shape: tuple[int, int, int], kept: float, block_rows: int) -> None:
    sparse, dense, macs = CASES[op](shape, kept, block_rows)
    often = max(40, int(PRODUCTS / macs))
    time_kernel(benchmark, lambda repeats: sparse(variant, repeats * often), macs * often)
    ratios = in_turns(sparse, dense, variant, often)
    benchmark.extra_info["dense_over_sparse"] = statistics.median(ratios)
    print(f"{statistics.median(ratios):5.2f} times the dense kernel's speed ({min(ratios):.2f}-{max(ratios):.2f})")


def in_turns(sparse: Any, dense: Any, variant: str, often: int) -> list[float]:
    """The dense kernel's time over the sparse one's, in neighbouring turns of `often` runs."""
    ratios = []
    for _ in range(7):
        seconds = []
        for run in (dense, sparse):
            start = perf_counter()
            run(variant, often)
            seconds.append(perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return ratios
