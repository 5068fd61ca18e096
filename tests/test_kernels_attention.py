"""Attention of one head: bits equal at every level and in every split, near the double-precision definition."""

import itertools

import numpy as np
import pytest

from kernel_rows import EPS, KERNELS, assert_same_bits, normal, run, variants
from kernels_guard import guarded, guarded_empty

INF = float("inf")
ATTENTION = pytest.mark.parametrize(("op", "variant"), variants("attention"))


def head_rows(values, heads=3):
    """The rows of one head (the last) inside [sequence, heads, dim]; the last one ends at an inaccessible page."""
    rows, dim = values.shape
    memory = guarded_empty((rows, heads, dim))
    memory[:, -1] = values
    return memory[:, -1]


def definition(q, k, v, scale, mask=None, mask_bool=None, causal=False):
    """Output and bound on the error of any kernel, in double."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    s = scale * (q @ k.T) + (0 if mask is None else mask)
    if mask_bool is not None:
        s = np.where(mask_bool, s, -INF)
    if causal:
        s = np.where(np.tri(*s.shape, dtype=bool), s, -INF)
    top = s.max(1, keepdims=True)
    top[top == -INF] = 0
    e = np.exp(s - top)
    total = e.sum(1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    finite = np.where(np.isfinite(s), np.abs(s), 0)
    # a score errs by dim + 3 roundings of sum |q||k| scale and one of its difference to the top, exp by 2 ULP, the sum
    # and the product with v by one rounding per key
    score = (q.shape[1] + 3) * scale * (np.abs(q) @ np.abs(k).T) + 2 * finite + 2 * np.abs(top)
    worst = EPS * (2 * score.max(1, keepdims=True) + 4 + 2 * k.shape[0] + 4)
    return p @ v, worst * (p @ np.abs(v)) + 1e-30


SHAPES = [
    *itertools.product((1, 5, 24, 25, 50), (1, 15, 16, 17, 63, 64, 65, 130), ((32, 32), (7, 5))),
    (3, 33, (64, 64)),
    (3, 33, (16, 100)),
    (3, 33, (80, 130)),
    (49, 49, (1, 1)),
]


@ATTENTION
def test_attention_in_all_shapes(op, variant):
    rng = np.random.default_rng(1)
    for case, (queries, keys, (dim, value_dim)) in enumerate(SHAPES):
        q, k, v = (head_rows(normal(rng, *s)) for s in ((queries, dim), (keys, dim), (keys, value_dim)))
        kwargs = {"scale": dim**-0.5, "causal": case % 3 == 1}
        if case % 4 == 1:
            kwargs["mask"] = guarded(normal(rng, queries, keys))
        if case % 4 == 2:
            kwargs["mask_bool"] = guarded((rng.random((queries, keys)) < 0.6).astype(np.uint8))
        context = f"{queries}x{keys}x{dim}x{value_dim} {sorted(kwargs)}"
        scratch = guarded_empty((KERNELS.attention_scratch_floats(keys, dim, value_dim),))
        scratch[:] = np.nan
        out = head_rows(np.zeros((queries, value_dim), np.float32))
        run(op, variant, q, k, v, scratch=scratch, out=out, **kwargs)
        assert_same_bits(out, run(op, "portable", q, k, v, **kwargs), context)
        exact, bound = definition(q, k, v, **kwargs)
        assert (np.abs(out - exact) <= bound).all(), context
        reference = run(op, "reference", q, k, v, **kwargs)
        np.testing.assert_allclose(reference, exact, rtol=1e-5, atol=1e-6, err_msg=context)


@ATTENTION
def test_attention_does_not_depend_on_the_split(op, variant):
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 60, 20), normal(rng, 77, 20), normal(rng, 77, 36)
    for causal in (False, True):
        whole = run(op, variant, q, k, v, causal=causal)
        pieces = np.full_like(whole, np.nan)
        for rows in itertools.pairwise((0, 1, 7, 23, 31, 48, 60)):
            run(op, variant, q, k, v, causal=causal, rows=rows, out=pieces)
        assert_same_bits(pieces, whole, f"causal {causal}")


@ATTENTION
def test_attention_repeated_masks(op, variant):
    rng = np.random.default_rng(3)
    q, k, v = normal(rng, 30, 32), normal(rng, 45, 32), normal(rng, 45, 32)
    of_keys, of_queries = rng.random(45) < 0.5, rng.random(30) < 0.5
    for mask in (of_keys[None, :], of_queries[:, None]):
        mask = np.broadcast_to(mask.astype(np.uint8), (30, 45))
        full = run(op, "portable", q, k, v, mask_bool=np.ascontiguousarray(mask))
        assert_same_bits(run(op, variant, q, k, v, mask_bool=mask), full)
        additive = np.where(mask, np.float32(0), np.float32(-INF))
        assert_same_bits(run(op, variant, q, k, v, mask=additive), full)
    for mask in (normal(rng, 1, 45), normal(rng, 30, 1)):
        mask = np.broadcast_to(mask, (30, 45))
        full = run(op, "portable", q, k, v, mask=np.ascontiguousarray(mask))
        assert_same_bits(run(op, variant, q, k, v, mask=mask), full)


@ATTENTION
def test_attention_rows_masked_throughout_are_zero(op, variant):
    rng = np.random.default_rng(4)
    q, k, v = normal(rng, 10, 8), normal(rng, 21, 8), normal(rng, 21, 8)
    allowed = np.ones((10, 21), np.uint8)
    allowed[[0, 4, 9]] = 0
    for name in (variant, "reference"):
        out = run(op, name, q, k, v, mask_bool=allowed)
        assert (out[[0, 4, 9]] == 0).all()
        assert (out[[1, 2, 3, 5, 6, 7, 8]] != 0).all()


@ATTENTION
def test_attention_nan_stays_in_its_row(op, variant):
    rng = np.random.default_rng(5)
    q, k, v = normal(rng, 10, 8), normal(rng, 21, 8), normal(rng, 21, 8)
    clean = run(op, variant, q, k, v)
    q[3, 2] = np.nan
    out = run(op, variant, q, k, v)
    assert np.isnan(out[3]).all()
    assert_same_bits(np.delete(out, 3, 0), np.delete(clean, 3, 0))
    assert_same_bits(out, run(op, "portable", q, k, v))


def test_attention_rejects_wrong_shapes():
    q, k, v = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32), np.zeros((4, 5), np.float32)
    for args, kwargs in [
        ((q, k[:, :2], v), {}),
        ((q, k, v[:3]), {}),
        ((q, k, v), {"mask": np.zeros((2, 3), np.float32)}),
        ((q, k, v), {"mask": np.zeros((2, 4), np.float32), "mask_bool": np.zeros((2, 4), np.uint8)}),
        ((q, k, v), {"scratch": np.zeros(3, np.float32)}),
        ((q, k, v), {"rows": (1, 3)}),
    ]:
        with pytest.raises(ValueError):
            KERNELS.attention(*args, variant="reference", **kwargs)
