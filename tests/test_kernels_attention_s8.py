"""The steps of int8 attention: packing and scaling exact, weights equal at every level and within a step of exp2."""

import itertools

import numpy as np
import pytest

from kernel_rows import KERNELS, normal, run, variants
from kernels_guard import guarded, guarded_empty

SHAPES = list(itertools.product((1, 3, 15, 16, 17, 64, 65, 130), (1, 4, 7, 32, 64, 66, 100)))


def head(rng, keys, dim, heads=3):
    """The rows of the last of several heads; the last one ends at an inaccessible page."""
    memory = guarded_empty((keys, heads, dim), np.uint8)
    memory[...] = rng.integers(0, 256, memory.shape)
    return memory[:, -1]


def same(actual, expected, context):
    np.testing.assert_array_equal(actual, expected, err_msg=str(context))


@pytest.mark.parametrize(("op", "variant"), variants("pack_keys", "pack_values"))
def test_packed_heads_are_the_weights_of_a_product(op, variant):
    rng = np.random.default_rng(0)
    for keys, dim in SHAPES:
        x = head(rng, keys, dim)
        signed = (x.astype(np.int16) - 128).astype(np.int8)
        if op == "pack_keys":
            packed, offset = run(op, variant, x, 37)
            same(offset, -37 * signed.sum(1, dtype=np.int32), (keys, dim))
            wanted = KERNELS.gemm_s8_pack(signed)
            columns, depth = keys, dim
        else:
            padded = -(-keys // 16) * 16
            packed = run(op, variant, x, padded)
            weights = np.zeros((dim, padded), np.int8)
            weights[:, :keys] = signed.T
            wanted = KERNELS.gemm_s8_pack(weights)
            columns, depth = dim, padded
        same(real_columns(packed, columns, depth), real_columns(wanted, columns, depth), (keys, dim))


def real_columns(packed, columns, depth):
    """The bytes of a packed matrix that belong to its columns: what lies in the others does not matter."""
    depth = -(-depth // 4) * 4
    out = []
    for panel in range(0, columns, 64):
        here = min(columns - panel, 64)
        width = -(-here // 16) * 16
        block = packed[panel * depth : panel * depth + width * depth].reshape(depth // 4, width, 4)
        out.append(block[:, :here].ravel())
    return np.concatenate(out)


def exact_weights(scores, mask=None, mask_bool=None, causal=False):
    """255 * 2^(s - max) in double, 0 where masked."""
    s = scores.astype(np.float64)
    if mask is not None:
        s = s + mask / np.log(2)
    if mask_bool is not None:
        s = np.where(mask_bool, s, -np.inf)
    if causal:
        s = np.where(np.tri(*s.shape, dtype=bool), s, -np.inf)
    top = s.max(1, keepdims=True)
    return np.where(np.isinf(top), 0, 255 * np.exp2(s - np.where(np.isinf(top), 0, top)))


@pytest.mark.parametrize(("op", "variant"), variants("softmax_u8"))
def test_weights(op, variant):
    rng = np.random.default_rng(1)
    for case, (rows, keys) in enumerate(itertools.product((1, 7, 8, 9, 30), (1, 15, 16, 17, 64, 100, 129))):
        scores = normal(rng, rows, keys) * np.float32(10 ** (case % 4 - 1))
        kwargs = {"causal": case % 3 == 1}
        if case % 4 == 1:
            kwargs["mask"] = guarded(normal(rng, rows, keys))
        if case % 4 == 2:
            kwargs["mask_bool"] = guarded((rng.random((rows, keys)) < 0.5).astype(np.uint8))
            kwargs["mask_bool"][0] = 0
        exact = exact_weights(scores, **kwargs)
        weights, factor = run(op, variant, guarded(scores), **kwargs)
        context = (rows, keys, sorted(kwargs))
        # 7.5e-5 of the polynomial and some roundings of the scores, at most 0.1 of a step, before rounding
        assert (np.abs(weights[:, :keys] - exact) <= 0.6).all(), context
        assert not weights[:, keys:].any(), context
        total = weights.sum(1)
        same(factor, np.where(total == 0, 0, np.float32(1) / np.maximum(total, 1).astype(np.float32)), context)
        if not exact.any():
            assert not weights.any()
        others = run(op, "portable", scores.copy(), **kwargs)
        same(weights, others[0], context)
        same(factor, others[1], context)
        reference, _ = run(op, "reference", scores.copy(), **kwargs)
        assert (np.abs(reference[:, :keys] - exact) <= 0.5 + 1e-6).all(), context


@pytest.mark.parametrize(("op", "variant"), variants("softmax_u8"))
def test_weights_of_part_of_the_rows(op, variant):
    rng = np.random.default_rng(2)
    scores, mask = normal(rng, 20, 33), normal(rng, 20, 33)
    for kwargs in ({"causal": True}, {"mask": mask}):
        whole, _ = run(op, variant, scores.copy(), **kwargs)
        part, _ = run(op, variant, scores[5:12].copy(), first=5, **kwargs)
        same(part, whole[5:12], kwargs)


@pytest.mark.parametrize(("op", "variant"), variants("scale_rows"))
def test_rows_are_scaled_exactly(op, variant):
    rng = np.random.default_rng(3)
    for rows, n in itertools.product((1, 5), (1, 15, 16, 17, 64, 100)):
        x, factor = normal(rng, rows, n) * 1000, np.abs(normal(rng, rows)).astype(np.float32)
        factor[0] = 0
        for out_f32 in (False, True):
            arguments = (guarded(x), factor, 0.3, 100.0, 7.0)
            got = run(op, variant, *arguments, out_f32=out_f32)
            same(got, run(op, "reference", *arguments, out_f32=out_f32), (rows, n, out_f32))
            assert (got[0] == 7).all()
