"""gemm_sparse_f32: every row equals gemm_f32's reference on the expanded weights, and its own reference bit by bit.

All arrays lie against inaccessible pages, so that a kernel touching a float that is not its own crashes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_rows import KERNELS, assert_same_bits, kept_blocks, normal, variants
from kernels_guard import guarded, guarded_empty

INF = float("inf")
SENTINEL = 77.0


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
    bias: bool = True
    residual: bool = False
    negative_zeros: bool = False
    lo: float = -INF
    hi: float = INF
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    slack: int = 0
    seed: int = 0


def weights(case: Sparse, rng: np.random.Generator) -> np.ndarray:
    depth = case.k * max(case.taps, 1)
    w = normal(rng, case.n, depth)
    zero = np.float32(-0.0 if case.negative_zeros else 0.0)
    return np.where(kept_blocks(rng, case.n, depth, case.block_rows, case.kept, case.empty), w, zero)


def check(case: Sparse, variant: str, at: str = "end") -> None:
    rng = np.random.default_rng(case.seed)
    depth = case.k * max(case.taps, 1)
    w = weights(case, rng)
    options: dict[str, object] = {"lo": case.lo, "hi": case.hi, "rows": case.rows}
    if case.bias:
        options["bias"] = guarded(normal(rng, case.n), at=at)
    if case.residual:
        whole = guarded(normal(rng, case.m, case.n + case.slack), at=at)
        options["residual"] = whole[:, : case.n]
    if case.taps:
        a = guarded(normal(rng, 20 * case.k), at=at)
        offsets = rng.integers(0, 20, (case.m, case.taps), np.int32) * case.k
        offsets[rng.random(offsets.shape) < 0.25] = -1
        offsets.flat[0] = 19 * case.k
        options |= {"k": case.k, "offsets": guarded(offsets, at=at)}
        options["pad_row"] = guarded(np.zeros(case.k, np.float32), at=at)
    else:
        a = guarded(normal(rng, case.m, case.k + case.slack), at=at)[:, : case.k]

    def output() -> np.ndarray:
        out = guarded_empty((case.m, case.n + case.slack), at=at)
        out[...] = SENTINEL
        return out

    def sparse(variant: str) -> np.ndarray:
        out = output()
        scratch = guarded_empty((KERNELS.gemm_sparse_f32_scratch_floats(case.n, depth),), at=at)
        scratch[...] = np.nan
        KERNELS.gemm_sparse_f32(
            a, guarded(w, at=at), variant=variant, block_rows=case.block_rows, columns=case.columns, scratch=scratch,
            out=out[:, : case.n], **options,
        )  # fmt: skip
        return out

    wanted = output()
    packed = KERNELS.gemm_f32_pack(w)
    KERNELS.gemm_f32(a, packed, case.n, variant="reference", out=wanted[:, : case.n], **options)
    if case.columns:  # the dense kernel takes multiples of 64 only
        begin, end = case.columns
        wanted[:, :begin] = wanted[:, end:] = SENTINEL
    found = sparse(variant)
    np.testing.assert_array_equal(found, wanted, err_msg=f"{variant} {case}")
    assert_same_bits(found, sparse("reference"), f"{variant} {case}")


CASES = [
    *(Sparse(m, 24, 40, slack=m % 3) for m in range(1, 36)),
    *(Sparse(m, 20, 36, block_rows=r, seed=m) for m in (1, 2, 3, 4, 5, 33, 70, 130) for r in (1, 2, 4)),
    *(Sparse(m, 64, 64, kept=kept, empty=True) for m in (1, 2, 3, 4, 9) for kept in (0.0, 0.05, 1.0)),
    *(Sparse(m, 8, k, bias=False) for m in (3, 19) for k in (4, 8, 28, 32, 36, 60, 64, 68, 132)),
    *(Sparse(m, 40, 12, taps=9, residual=True, slack=4, block_rows=r) for m in (1, 3, 4, 21) for r in (1, 2, 4)),
    *(Sparse(m, 40, 64, taps=4) for m in (1, 2, 40)),
    *(Sparse(m, 40, 64, taps=1) for m in (1, 40)),
    *(Sparse(m, 36, 24, residual=True, slack=5) for m in (1, 4, 17, 40)),
    *(Sparse(m, 36, 24, residual=True, block_rows=r, lo=-1, hi=1.5, slack=3) for m in (2, 17, 65) for r in (1, 2, 4)),
    *(Sparse(m, 36, 24, lo=0.0, negative_zeros=True) for m in (1, 17)),
    *(Sparse(m, 1, 40, block_rows=1) for m in (1, 17)),
    *(Sparse(m, 72, 1028, kept=0.5) for m in (4, 50)),
    *(Sparse(40, 40, 24, rows=(7, 38), columns=c, residual=True) for c in ((8, 28), (20, 40))),
    *(Sparse(40, 40, 24, rows=(7, 7 + m), columns=(20, 40)) for m in (1, 2, 3, 4)),
    *(Sparse(40, 40, 24, rows=(5, 5)), Sparse(40, 40, 24, columns=(8, 8)), Sparse(2, 40, 24, columns=(8, 8))),
]  # fmt: skip
ROWS = [pytest.param(*row.values[1:], id=row.id, marks=row.marks) for row in variants("gemm_sparse_f32")]


@pytest.mark.parametrize("variant", [*ROWS, "reference"])
@pytest.mark.parametrize("at", ["begin", "end"])
def test_equals_the_dense_product(variant: str, at: str) -> None:
    for case in CASES:
        check(case, variant, at)


@pytest.mark.parametrize("variant", ROWS)
@given(data=st.data())
def test_any_shape(variant: str, data: st.DataObject) -> None:
    r = data.draw(st.sampled_from([1, 2, 4]))
    check(
        Sparse(
            m=data.draw(st.integers(1, 70)), n=r * data.draw(st.integers(1, 12)), k=4 * data.draw(st.integers(1, 24)),
            block_rows=r, kept=data.draw(st.floats(0, 1)), taps=data.draw(st.integers(0, 3)),
            bias=data.draw(st.booleans()), residual=data.draw(st.booleans()), slack=data.draw(st.integers(0, 3)),
            seed=data.draw(st.integers(0, 999)),
        ),
        variant,
    )  # fmt: skip


@pytest.mark.parametrize("variant", ROWS)
@pytest.mark.parametrize("m", [1, 4, 20])
def test_nan_and_infinity_reach_the_blocks_that_read_them(variant: str, m: int) -> None:
    a, w = np.ones((m, 8), np.float32), np.zeros((8, 8), np.float32)
    w[:4, :4] = 1  # the other group of outputs reads inputs 4 .. 7
    w[4:, 4:] = 2
    a[0, 1] = np.nan
    out = KERNELS.gemm_sparse_f32(a, w, variant=variant, block_rows=4, lo=0.0, hi=6.0)
    assert np.isnan(out[0, :4]).all()
    assert (out[0, 4:] == 6).all()
    a[0, 1] = INF
    assert (KERNELS.gemm_sparse_f32(a, w, variant=variant, block_rows=4, hi=6.0)[0] == 6).all()


def test_mistakes_are_named() -> None:
    x = np.zeros((2, 8), np.float32)

    def call(*shape: int, **options: object) -> None:
        KERNELS.gemm_sparse_f32(x, np.zeros(shape, np.float32), variant="reference", **({"block_rows": 4} | options))

    with pytest.raises(ValueError, match="block_rows is 3; wanted 1, 2 or 4"):
        call(8, 8, block_rows=3)
    with pytest.raises(ValueError, match=r"w must be \(n, 8\)"):
        call(8, 12)
    with pytest.raises(ValueError, match="n of 4"):
        call(6, 8)
    with pytest.raises(ValueError, match="columns must begin and end at multiples of 4"):
        call(8, 8, columns=(0, 6))
    x = x[:, :6]
    with pytest.raises(ValueError, match="k must be a multiple of 4"):
        call(8, 6)
