"""gemm_sparse_s8: every row equals gemm_s8's reference on the expanded weights, bit by bit.

All arrays lie against inaccessible pages, so that a kernel touching a byte that is not its own crashes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from int8_rows import KERNELS, SENTINEL, rows
from kernel_rows import kept_blocks
from kernels_guard import guarded, guarded_empty


@dataclasses.dataclass(frozen=True)
class Sparse:
    """One call. `kept`: the share of blocks of `block_rows` x 4 that are not zero; `empty`: whole groups that are."""

    m: int
    n: int
    k: int
    block_rows: int = 4
    kept: float = 0.3
    taps: int = 0
    empty: bool = False
    residual: bool = False
    out_f32: bool = False
    extremes: int = 0
    wild: bool = False
    may_be_bounded: bool = True
    lo: float = 0
    hi: float = 255
    m_range: tuple[int, int] | None = None
    n_range: tuple[int, int] | None = None
    slack: int = 0
    seed: int = 0


def weights(case: Sparse, rng: np.random.Generator) -> np.ndarray:
    depth = case.k * max(case.taps, 1)
    w = rng.integers(-127, 128, (case.n, depth), np.int8)
    if case.extremes:
        w[...] = case.extremes
    return w * kept_blocks(rng, case.n, depth, case.block_rows, case.kept, case.empty)


def check(case: Sparse, variant: str, at: str = "end") -> None:
    rng = np.random.default_rng(case.seed)
    depth = case.k * max(case.taps, 1)
    a = rng.integers(0, 256, (case.m, case.k + case.slack), np.uint8)
    if case.extremes:
        a[...] = 255
    out_type = np.float32 if case.out_f32 else np.uint8
    w = weights(case, rng)
    scale = (rng.uniform(0.2, 2, case.n) / (40 * np.sqrt(depth) * 73)).astype(np.float32)
    bias = rng.uniform(100, 150, case.n).astype(np.float32)
    if case.wild:
        bias = np.resize(np.float32([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30, 100]), case.n)
    x = {"a": a, "w": w, "offset": (-128 * w.sum(1, dtype=np.int32)).astype(np.int32), "scale": scale, "bias": bias}
    options = {
        "k": case.k, "residual_scale": 0.37, "lo": case.lo, "hi": case.hi, "out_f32": case.out_f32,
        "m_range": case.m_range, "n_range": case.n_range, "may_be_bounded": case.may_be_bounded,
    }  # fmt: skip
    if case.residual:
        options["residual"] = guarded(rng.integers(0, 256, (case.m, case.n + case.slack)).astype(out_type), at=at)
    if case.taps:
        x["a"] = a.ravel()
        offsets = rng.integers(0, a.size - case.k + 1, (case.m, case.taps), np.int32)
        offsets[rng.random(offsets.shape) < 0.25] = -1
        offsets.flat[0] = a.size - case.k
        options["offsets"] = guarded(offsets, at=at)
        options["pad_row"] = guarded(np.full(case.k, 128, np.uint8), at=at)
    x = {name: guarded(value, at=at) for name, value in x.items()}

    def output() -> np.ndarray:
        out = guarded_empty((case.m, case.n + case.slack), out_type, at=at)
        out[...] = SENTINEL
        return out

    found = KERNELS.gemm_sparse_s8(
        *x.values(), variant=variant, block_rows=case.block_rows, out=output(),
        scratch=guarded_empty((KERNELS.gemm_sparse_s8_scratch_bytes(case.n, depth),), np.uint8, at=at), **options,
    )  # fmt: skip
    columns = {"n_range": (0, case.n)} if case.n_range else {}  # the dense kernel takes multiples of 64 only
    wanted = KERNELS.gemm_s8(
        x["a"], KERNELS.gemm_s8_pack(w), x["offset"], x["scale"], x["bias"], variant="reference", out=output(),
        **(options | columns),
    )  # fmt: skip
    if case.n_range:
        begin, end = case.n_range
        wanted[:, :begin] = wanted[:, end:] = SENTINEL
    np.testing.assert_array_equal(found, wanted, err_msg=f"{variant} {case}")


CASES = [
    *(Sparse(m, 24, 40) for m in range(1, 36)),
    *(Sparse(m, 20, 36, block_rows=r, seed=m) for m in (1, 4, 5, 33, 70, 130) for r in (1, 2, 4)),
    *(Sparse(m, 64, 64, kept=kept, empty=True) for m in (2, 9) for kept in (0.0, 0.05, 1.0)),
    *(Sparse(19, 8, k) for k in (4, 8, 28, 32, 36, 60, 64, 68, 132)),
    *(Sparse(m, 40, 12, taps=9, residual=True, slack=4) for m in (3, 21)),
    *(Sparse(m, 40, 64, taps=4) for m in (1, 40)),
    *(Sparse(m, 36, 24, residual=True, slack=5) for m in (1, 17)),
    *(Sparse(m, 36, 24, residual=True, out_f32=True, hi=200, slack=3) for m in (1, 17)),
    *(Sparse(m, 36, 24, out_f32=True, lo=-np.inf, hi=np.inf, block_rows=2) for m in (1, 17)),
    *(Sparse(m, 36, 24, lo=128, hi=131, wild=True) for m in (1, 17)),
    *(Sparse(m, 36, 24, out_f32=True, wild=True, residual=True, block_rows=1) for m in (1, 17)),
    *(Sparse(30, 32, 512, kept=1.0, extremes=e) for e in (127, -127)),
    *(Sparse(2, 32, 512, kept=1.0, extremes=e) for e in (127, -127)),
    *(Sparse(40, 40, 24, m_range=(7, 38), n_range=(8, 28)), Sparse(40, 40, 24, m_range=(7, 9), n_range=(20, 40))),
    *(Sparse(40, 40, 24, m_range=(5, 5)), Sparse(40, 40, 24, n_range=(8, 8))),
    # Words of 32 bytes at once, and what is left of them.
    *(Sparse(m, 32, 24, lo=3, hi=250, may_be_bounded=False) for m in range(5, 37)),
    *(Sparse(m, 80, 24, residual=True, slack=3, n_range=(4, 76), lo=9) for m in (5, 8, 20, 33, 70)),
    *(Sparse(m, 64, 24, residual=True, wild=True, lo=128, hi=131) for m in (9, 17)),
]  # fmt: skip


LISTS = [
    *(Sparse(m, 48, 40) for m in range(1, 41)),
    *(Sparse(m, 48, k, taps=taps) for m in (1, 3, 30) for k, taps in ((4, 9), (12, 9), (36, 3), (64, 4))),
    *(Sparse(m, 64, 256, kept=kept, empty=True) for m in (1, 2, 9, 33) for kept in (0.0, 0.05, 1.0)),
    *(Sparse(m, 16, k, slack=4) for m in (2, 19) for k in (4, 8, 28, 32, 36, 60, 64, 68, 132)),
    *(Sparse(m, 48, 12, taps=9, residual=True, slack=4) for m in (3, 21, 120)),
    *(Sparse(m, 32, 24, residual=True, slack=5, lo=3, may_be_bounded=m % 2 == 0) for m in (1, 2, 7, 18)),
    *(Sparse(m, 32, 24, residual=True, out_f32=True, hi=200, slack=3) for m in (1, 6, 17)),
    *(Sparse(m, 48, 24, out_f32=True, lo=-np.inf, hi=np.inf, slack=slack) for m in (1, 17) for slack in (0, 1)),
    *(Sparse(m, 32, 24, lo=128, hi=131, wild=True) for m in (1, 17)),
    *(Sparse(m, 32, 24, out_f32=True, wild=True, residual=True) for m in (1, 17)),
    *(Sparse(m, 32, 512, kept=1.0, extremes=e) for m in (2, 30) for e in (127, -127)),
    *(Sparse(m, 16, 2400, kept=0.2) for m in (1, 10, 50)),  # fewer rows than fill a tile, or a block
    *(Sparse(300, 32, 32), Sparse(260, 32, 8, taps=4)),
    *(Sparse(40, 80, 24, m_range=(7, 38), n_range=(16, 64)), Sparse(40, 48, 24, m_range=(7, 9), n_range=(32, 48))),
    *(Sparse(40, 48, 24, m_range=(5, 5)), Sparse(40, 48, 24, n_range=(16, 16))),
]  # fmt: skip
CASES += [dataclasses.replace(case, block_rows=16) for case in LISTS]


@pytest.mark.parametrize("variant", rows("gemm_sparse_s8", reference=True))
@pytest.mark.parametrize("at", ["begin", "end"])
def test_equals_the_dense_product(variant: str, at: str) -> None:
    for case in CASES:
        check(case, variant, at)


@pytest.mark.parametrize("variant", rows("gemm_sparse_s8"))
@given(data=st.data())
def test_any_shape(variant: str, data: st.DataObject) -> None:
    r = data.draw(st.sampled_from([1, 2, 4, 16]))
    check(
        Sparse(
            m=data.draw(st.integers(1, 70)), n=r * data.draw(st.integers(1, 12)), k=4 * data.draw(st.integers(1, 24)),
            block_rows=r, kept=data.draw(st.floats(0, 1)), taps=data.draw(st.integers(0, 3)),
            residual=data.draw(st.booleans()), out_f32=data.draw(st.booleans()),
            may_be_bounded=data.draw(st.booleans()), seed=data.draw(st.integers(0, 999)),
        ),
        variant,
    )  # fmt: skip


def test_mistakes_are_named() -> None:
    x = np.zeros((2, 8), np.uint8)
    vectors = (np.zeros(8, np.int32), np.ones(8, np.float32), np.zeros(8, np.float32))

    def call(w: np.ndarray, **options: object) -> None:
        KERNELS.gemm_sparse_s8(x, w, *vectors, variant="reference", **({"k": 8, "block_rows": 4} | options))

    with pytest.raises(ValueError, match="block_rows is 3; wanted 1, 2, 4 or 16"):
        call(np.zeros((8, 8), np.int8), block_rows=3)
    with pytest.raises(ValueError, match=r"w must be \(8, 8\)"):
        call(np.zeros((8, 12), np.int8))
    with pytest.raises(ValueError, match="k must be a multiple of 4"):
        call(np.zeros((8, 6), np.int8), k=6)
    with pytest.raises(ValueError, match="n_range must be multiples of 4"):
        call(np.zeros((8, 8), np.int8), n_range=(0, 6))
    with pytest.raises(ValueError, match="n of 16"):
        call(np.zeros((8, 8), np.int8), block_rows=16)
