"""Masks of 50 million weights beside those of torch, in turns, so that what else the machine does meets both alike.

    pytest benchmarks/test_masks.py -n 0 --benchmark-only -s

prints ratios of times, torch's to taille's, at the same number of threads: the median of the pairs and their range.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from taille import _native, kernels

SIZE = 50_000_000
PAIRS = 5
Array = np.ndarray
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights() -> Array:
    """A layer's worth of weights: normal, as trained ones nearly are."""
    return RNG.standard_normal((5000, SIZE // 5000), np.float32)


def by_kthvalue(w: Array, keep: float) -> Array:
    magnitude = torch.from_numpy(w).abs().flatten()
    pruned = magnitude.numel() - round(keep * magnitude.numel())
    return (magnitude > torch.kthvalue(magnitude, pruned).values).view(w.shape).numpy()


def by_topk(w: Array, keep: float) -> Array:
    magnitude = torch.from_numpy(w).abs().flatten()
    mask = torch.zeros(magnitude.numel(), dtype=torch.bool)
    mask[torch.topk(magnitude, round(keep * magnitude.numel()), sorted=False).indices] = True
    return mask.view(w.shape).numpy()


def blocks_by_topk(w: Array, keep: float) -> Array:
    rows, columns = w.shape
    blocks = torch.from_numpy(w).view(rows // 4, 4, columns // 4, 4)
    energy = blocks.square().sum((1, 3)).flatten()
    mask = torch.zeros(energy.numel(), dtype=torch.bool)
    mask[torch.topk(energy, round(keep * energy.numel()), sorted=False).indices] = True
    return mask.view(rows // 4, 1, columns // 4, 1).expand(-1, 4, -1, 4).reshape(w.shape).numpy()


def groups_by_topk(w: Array, keep: float) -> Array:
    groups = torch.from_numpy(w).abs().view(-1, 4)
    mask = torch.zeros(groups.shape, dtype=torch.bool)
    return (
        mask.scatter_(1, torch.topk(groups, round(4 * keep), dim=1, sorted=False).indices, True).view(w.shape).numpy()
    )


CASES: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "magnitude, kthvalue": (kernels.magnitude_mask, by_kthvalue),
    "magnitude, topk": (kernels.magnitude_mask, by_topk),
    "block 4x4, topk": (kernels.block_mask, blocks_by_topk),
    "n:4, topk": (lambda w, keep, threads: kernels.nm_mask(w, round(4 * keep), 4, threads=threads), groups_by_topk),
}


def timed(call: Callable[[], Array]) -> tuple[float, Array]:
    start = time.perf_counter()
    mask = call()
    return time.perf_counter() - start, mask


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("keep", [0.25, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_mask(benchmark: object, weights: Array, case: str, keep: float, threads: int) -> None:
    if _native.granted_threads()[0] < threads:
        pytest.skip(f"this process is not granted {threads} threads")
    ours, theirs = CASES[case]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ratios: list[float] = []

    def pair() -> None:
        quick, mask = timed(lambda: ours(weights, keep, threads=threads))
        slow, wanted = timed(lambda: theirs(weights, keep))
        ratios.append(slow / quick)
        # torch does not say which of equal ones it takes.
        assert abs(int(mask.sum()) - int(wanted.sum())) < 100
        assert (mask != wanted).sum() < 1000
        benchmark.extra_info.update({"taille, s": round(quick, 4), "torch, s": round(slow, 4)})

    try:
        benchmark.pedantic(pair, rounds=PAIRS, warmup_rounds=1)
    finally:
        torch.set_num_threads(before)
    found = sorted(ratios[1:])
    text = f"{np.median(found):.1f} ({found[0]:.1f}-{found[-1]:.1f})"
    benchmark.extra_info["torch's time / taille's"] = text
    print(f"\n{case}, keep {keep}, {threads} threads: {text} {dict(benchmark.extra_info)}")
