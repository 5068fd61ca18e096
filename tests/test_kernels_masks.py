"""Pruning masks equal those of a full stable sort: at every level, for every number of threads, whatever ties."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_rows import KERNELS, assert_same_bits, normal, run, variants
from kernels_guard import guarded, guarded_empty
from taille import kernels

Array = np.ndarray[Any, Any]
COLUMNS = (*range(1, 35), 48, 63, 64, 65, 100)
BINS = ((20, 11), (10, 10), (0, 10), (8, 11), (30, 1), (23, 5), (0, 1))  # (shift, bits)
BLOCKS = ((1, 4), (2, 4), (4, 4), (16, 4), (32, 4), (1, 1), (3, 2), (2, 8), (1, 16), (5, 3), (2, 17), (1, 40), (3, 64))
# Ties, both zeros, denormals and the largest numbers.
VALUES = (0.0, -0.0, 1e-45, -1e-45, 1.1e-38, 1e-30, 0.5, -0.5, 0.5000001, 1.0, -3.0, 3.4028235e38)


def keys(score: Array) -> Array:
    """The scores as integers of the same order."""
    return np.abs(score).view(np.int32)


def largest(score: Array, kept: int) -> Array:
    """A mask of the `kept` largest, the earlier of equal ones, by a stable sort."""
    mask = np.zeros(score.size, np.bool_)
    mask[np.argsort(-keys(np.ascontiguousarray(score)).ravel().astype(np.int64), kind="stable")[:kept]] = True
    return mask.reshape(score.shape)


def largest_of_groups(score: Array, n: int, m: int) -> Array:
    """A mask of the n largest of every m consecutive columns."""
    groups = -keys(score).reshape(-1, m).astype(np.int64)
    ranks = np.argsort(np.argsort(groups, axis=1, kind="stable"), axis=1, kind="stable")
    return (ranks < n).reshape(score.shape)


def some(rng: np.random.Generator, *shape: int) -> Array:
    """Weights, a third of them from the special values."""
    w = normal(rng, *shape)
    special = rng.random(shape) < 0.3
    w[special] = rng.choice(np.array(VALUES, np.float32), special.sum())
    return w


def norm_of(rng: np.random.Generator, columns: int) -> Array:
    """Norms of activations, some 0; the products stay in float32's normal range, or are 0 or infinite."""
    return np.where(rng.random(columns) < 0.2, 0, 1 + rng.random(columns)).astype(np.float32)


def products(w: Array, norm: Array) -> Array:
    """The scores by norm as runs compute them: a denormal number is 0."""
    normal_w = np.where(np.abs(w) < np.finfo(np.float32).tiny, np.float32(0), w)
    with np.errstate(over="ignore"):
        return normal_w * norm


# ---- Rows of the tables ----


def binned(key: Array, low: int, shift: int, bits: int) -> tuple[Array, int]:
    """What score_bins gives, by numpy."""
    bins = (key.astype(np.int64) - low) >> shift
    inside = bins[(bins >= 0) & (bins < 2**bits)]
    return np.bincount(inside, minlength=2**bits), int((bins >= 2**bits).sum())


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize(("op", "variant"), [*variants("score_bins"), ("score_bins", "reference")])
def test_score_bins(op: str, variant: str, with_norm: bool) -> None:
    rng = np.random.default_rng(0)
    for columns, (shift, bits) in itertools.product(COLUMNS, BINS):
        w = guarded(some(rng, 3, columns))
        norm = guarded(norm_of(rng, columns)) if with_norm else None
        with np.errstate(over="ignore"):
            key = keys(w * norm if norm is not None else w).ravel()
        low = max(0, min(int(rng.choice(key)) - (1 << shift), 2**31 - 2 ** (shift + bits)))
        for begin, end in ((0, 3 * columns), (1, 3 * columns), (columns // 2, 2 * columns), (2, 2)):
            counts, above = run(op, variant, w, norm=norm, low=low, shift=shift, bits=bits, elements=(begin, end))
            wanted = binned(key[begin:end], low, shift, bits)
            np.testing.assert_array_equal(counts, wanted[0], f"{columns} {shift} {bits}")
            assert above == wanted[1]


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize(("op", "variant"), [*variants("apply_mask"), ("apply_mask", "reference")])
def test_apply_mask(op: str, variant: str, with_norm: bool) -> None:
    rng = np.random.default_rng(2)
    for columns, ties in itertools.product(COLUMNS, (0, 1, 5, 10**6)):
        w = guarded(some(rng, 3, columns))
        norm = guarded(norm_of(rng, columns)) if with_norm else None
        with np.errstate(over="ignore"):
            key = keys(w * norm if norm is not None else w).ravel()
        threshold = int(rng.choice(key))
        for begin, end in ((0, 3 * columns), (1, 2 * columns), (2, 2)):
            out = guarded_empty((3, columns), np.uint8)
            out[...] = 7
            mask, left = run(op, variant, w, threshold, ties, norm=norm, elements=(begin, end), out=out)
            part = key[begin:end]
            first = (np.cumsum(part == threshold) <= ties) & (part == threshold)
            np.testing.assert_array_equal(mask.ravel()[begin:end], (part > threshold) | first)
            assert left == ties - first.sum()
            assert (np.delete(mask.ravel(), np.s_[begin:end]) == 7).all()


@pytest.mark.parametrize("how", ["plain", "norm", "energy"])
@pytest.mark.parametrize(("op", "variant"), variants("block_scores"))
def test_block_scores(op: str, variant: str, how: str) -> None:
    rng = np.random.default_rng(3)
    for (rows, columns), across in itertools.product(BLOCKS, (1, 2, 3, 5, 17)):
        w = guarded(normal(rng, 3 * rows, across * columns))
        norm = guarded(norm_of(rng, across * columns)) if how == "norm" else None
        rest: dict[str, Any] = {"norm": norm, "energy": how == "energy"}
        out = guarded_empty((3, across))
        scores = run(op, variant, w, (rows, columns), out=out, **rest)
        wanted = run(op, "reference", w, (rows, columns), **rest)
        assert_same_bits(scores, wanted, f"{rows} x {columns}, {across} across")
        exact = np.abs(w if norm is None else w * norm).astype(np.float64) ** (1 if how == "energy" else 2)
        exact = exact.reshape(3, rows, across, columns).sum((1, 3))
        np.testing.assert_allclose(wanted, exact, rtol=1e-5)
        part = np.full((3, across), 7, np.float32)
        run(op, variant, w, (rows, columns), rows=(rows, 2 * rows), out=part, **rest)
        assert_same_bits(part[1], wanted[1])
        assert (part[::2] == 7).all()


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize(("op", "variant"), [*variants("nm_mask"), ("nm_mask", "reference")])
def test_nm_mask_rows(op: str, variant: str, with_norm: bool) -> None:
    rng = np.random.default_rng(4)
    for m, groups in itertools.product((1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 50), (1, 2, 3, 4, 5, 9)):
        w = guarded(some(rng, 3, m * groups))
        norm = guarded(norm_of(rng, m * groups)) if with_norm else None
        with np.errstate(over="ignore"):
            score = w if norm is None else w * norm
        for n in {1, 2, m // 2, m - 1, m} & set(range(1, m + 1)):
            out = guarded_empty(w.shape, np.uint8)
            out[...] = 7
            run(op, variant, w, n, m, norm=norm, rows=(1, 3), out=out)
            np.testing.assert_array_equal(out[1:], largest_of_groups(score, n, m)[1:], f"{n}:{m}")
            assert (out[0] == 7).all()
            run(op, variant, w, n, m, norm=norm, rows=(0, 1), out=out)
            np.testing.assert_array_equal(out[0], largest_of_groups(score, n, m)[0])


# ---- The public functions ----


shapes = st.one_of(
    st.lists(st.integers(0, 9), max_size=4), st.tuples(st.integers(1, 40), st.integers(1, 70)), st.just((100_000,))
)
shares = st.one_of(st.floats(0, 1, exclude_min=True), st.sampled_from([1e-300, 1.0, 0.5]))


@given(shapes, shares, st.integers(0, 2**32 - 1), st.sampled_from(["few", "all equal", "any bits", "mixed"]))
def test_magnitude_mask_is_that_of_a_sort(shape: Any, keep: float, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    if kind == "any bits":
        w = rng.integers(0, 0x7F800000, shape, np.uint32).view(np.float32) * rng.choice([-1, 1]).astype(np.float32)
    elif kind == "mixed":
        w = some(rng, *shape)
    else:
        w = rng.choice(np.array(VALUES if kind == "few" else VALUES[:2], np.float32), shape)
    w = np.asarray(w)
    mask = kernels.magnitude_mask(w, keep, threads=2)
    assert mask.dtype == np.bool_
    assert mask.sum() == round(keep * w.size)
    np.testing.assert_array_equal(mask, largest(w, round(keep * w.size)))


@given(st.lists(st.integers(0, 50), max_size=6), shares, st.integers(0, 2**32 - 1))
def test_one_threshold_over_several_tensors(rows: list[int], keep: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = [some(rng, n, 3) for n in rows]
    norms = [norm_of(rng, 3) if rng.random() < 0.5 else None for _ in rows]
    scores = [a if b is None else products(a, b) for a, b in zip(w, norms, strict=True)]
    for masks, score in ((kernels.magnitude_mask(w, keep), w), (kernels.magnitude_mask(w, keep, norm=norms), scores)):
        every = np.concatenate([*(s.ravel() for s in score), np.zeros(0, np.float32)])
        assert [m.shape for m in masks] == [a.shape for a in w]
        together = np.concatenate([*(m.ravel() for m in masks), np.zeros(0, np.bool_)])
        np.testing.assert_array_equal(together, largest(every, round(keep * every.size)))


@pytest.mark.parametrize("threads", [1, 2, 3, 7, None])
def test_any_number_of_threads_gives_the_same_masks(threads: int | None) -> None:
    rng = np.random.default_rng(5)
    w = rng.integers(-3, 4, (640, 1000)).astype(np.float32)  # many ties, in every thread's part
    norm = rng.integers(0, 3, 1000).astype(np.float32)
    for keep in (0.001, 0.3, 0.5, 0.9, 1.0):
        np.testing.assert_array_equal(
            kernels.magnitude_mask(w, keep, threads=threads), largest(w, round(keep * w.size))
        )
        scored = kernels.magnitude_mask(w, keep, norm=norm, threads=threads)
        np.testing.assert_array_equal(scored, largest(w * norm, round(keep * w.size)))
        pieces = kernels.magnitude_mask([w[:1], w[1:300], w[300:]], keep, threads=threads)
        np.testing.assert_array_equal(np.concatenate(pieces), largest(w, round(keep * w.size)))
        for block in ((4, 4), (1, 2), (640, 1), (2, 1000)):
            given_mask = kernels.block_mask(w, keep, block, norm=norm, threads=threads)
            np.testing.assert_array_equal(given_mask, kernels.block_mask(w, keep, block, norm=norm))
    np.testing.assert_array_equal(kernels.nm_mask(w, 2, 4, threads=threads), largest_of_groups(w, 2, 4))
    np.testing.assert_array_equal(kernels.channel_mask(w, 0.25, threads=threads), kernels.channel_mask(w, 0.25))


@pytest.mark.parametrize("kind", ["alike", "two halves", "ties"])
def test_many_elements_where_a_sample_says_where_to_begin(kind: str) -> None:
    rng = np.random.default_rng(10)
    w = normal(rng, 1100, 1000)
    if kind == "two halves":  # runs of the sample are as large as a pattern that hides from it
        w[:] = 1e-3
        w.reshape(-1)[np.arange(w.size) % 4296 < 256] = 1
    if kind == "ties":
        w = np.round(w, 1)
    for keep in (1e-6, 0.001, 0.25, 0.5, 0.9999, 1.0):
        mask = kernels.magnitude_mask(w, keep, threads=2)
        np.testing.assert_array_equal(mask, largest(w, round(keep * w.size)))


def small_integers(rng: np.random.Generator, *shape: int) -> Array:
    """Weights whose energies are exact, with ties between blocks."""
    return rng.integers(-2, 3, shape).astype(np.float32)


def energies(score: Array, rows: int, columns: int) -> Array:
    return score.reshape(score.shape[0] // rows, rows, -1, columns).sum((1, 3), dtype=np.float32)


@pytest.mark.parametrize("block", BLOCKS)
def test_block_mask_keeps_the_blocks_of_largest_energy(block: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    rows, columns = block
    w, fisher = (small_integers(rng, 5 * rows, 7 * columns) for _ in range(2))
    norm = rng.integers(0, 3, 7 * columns).astype(np.float32)
    cases: list[tuple[dict[str, Array], Array]] = [({}, w**2), ({"norm": norm}, (w * norm) ** 2)]
    cases.append(({"importance": w**2 * np.abs(fisher)}, w**2 * np.abs(fisher)))
    for keep, (rest, energy) in itertools.product((0.01, 0.25, 0.5, 1.0), cases):
        mask = kernels.block_mask(w, keep, block, **rest)
        wanted = np.kron(largest(energies(energy, rows, columns), round(keep * 35)), np.ones(block, np.bool_))
        np.testing.assert_array_equal(mask, wanted)
        assert mask.dtype == np.bool_


@pytest.mark.parametrize("shape", [(9,), (8, 5), (16, 3, 3, 3), (6, 0), (0, 4)])
def test_channel_mask_keeps_whole_outputs(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    w = small_integers(rng, *shape)
    norm = rng.integers(0, 3, int(np.prod(shape[1:]))).astype(np.float32)
    per_output = norm.reshape(1, *shape[1:])
    for keep in (0.25, 0.5, 1.0):
        cases: list[tuple[dict[str, Array], Array]] = [({}, w**2), ({"importance": np.abs(w)}, np.abs(w))]
        if w.ndim > 1 and w.size:
            cases.append(({"norm": norm}, (w * per_output) ** 2))
        for rest, energy in cases:
            mask = kernels.channel_mask(w, keep, **rest)
            assert mask.shape == w.shape
            each = largest(energy.reshape(shape[0], int(np.prod(shape[1:]))).sum(1), round(keep * shape[0]))
            np.testing.assert_array_equal(mask, np.broadcast_to(each.reshape(-1, *[1] * (w.ndim - 1)), shape))


def test_scores_of_every_kind() -> None:
    rng = np.random.default_rng(8)
    w, norm, cost = some(rng, 24, 40), norm_of(rng, 40), np.abs(some(rng, 24, 40))
    scores = products(w, norm)
    for rest, score in (({}, w), ({"norm": norm}, scores), ({"importance": cost}, cost)):
        np.testing.assert_array_equal(kernels.magnitude_mask(w, 0.3, **rest), largest(score, 288))
        np.testing.assert_array_equal(kernels.nm_mask(w, 3, 8, **rest), largest_of_groups(score, 3, 8))
    image = w.reshape(24, 10, 2, 2)
    np.testing.assert_array_equal(kernels.magnitude_mask(image, 0.3, norm=norm).reshape(24, 40), largest(scores, 288))
    several = kernels.magnitude_mask([w, w], 0.3, importance=[cost, cost])
    np.testing.assert_array_equal(np.stack(several), largest(np.stack([cost, cost]), 576))


def test_arrays_that_are_not_contiguous() -> None:
    rng = np.random.default_rng(9)
    w = some(rng, 40, 24)
    norm = norm_of(rng, 80)[::2]
    plain = np.ascontiguousarray(w.T)
    np.testing.assert_array_equal(kernels.magnitude_mask(w.T, 0.4), kernels.magnitude_mask(plain, 0.4))
    np.testing.assert_array_equal(kernels.nm_mask(w.T, 1, 4, norm=norm), kernels.nm_mask(plain, 1, 4, norm=norm.copy()))
    np.testing.assert_array_equal(kernels.block_mask(w.T, 0.4), kernels.block_mask(plain, 0.4))


def test_scores_beyond_float32() -> None:
    w = np.array([[1e30, 2e30, 1e-30, 2e-30]], np.float32)
    for norm in (1e30, 1e-30):  # all of one row's ends are infinite, or 0
        mask = kernels.magnitude_mask(w, 0.25, norm=np.full(4, norm, np.float32))
        np.testing.assert_array_equal(mask, [[norm > 1, norm < 1, False, False]])


W = np.ones((4, 6), np.float32)
N = np.ones(6, np.float32)


def but(value: float, x: Array = W) -> Array:
    """`x` with one other value, the last."""
    copy = x.copy()
    copy.flat[-1] = value
    return copy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "mask",
    [
        lambda w, **rest: kernels.magnitude_mask(w, 0.5, **rest),
        lambda w, **rest: kernels.nm_mask(w, 1, 2, **rest),
        lambda w, **rest: kernels.block_mask(w, 0.5, (2, 2), **rest),
        lambda w, **rest: kernels.channel_mask(w, 0.5, **rest),
    ],
)
def test_what_is_not_finite_is_refused(mask: Any, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^w holds a NaN or an infinity"):
        mask(but(bad))
    with pytest.raises(ValueError, match=r"^norm holds a NaN or an infinity"):
        mask(W, norm=but(bad, N))
    with pytest.raises(ValueError, match=r"^importance holds a NaN or an infinity"):
        mask(W, importance=but(bad))
    with pytest.raises(ValueError, match=r"^norm holds a negative value"):
        mask(W, norm=but(-1, N))
    with pytest.raises(ValueError, match=r"^importance holds a negative value"):
        mask(W, importance=but(-1))
    mask(W, importance=but(-0.0))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_single_nan_anywhere_is_found(threads: int) -> None:
    w = np.ones(300_000, np.float32)
    for at in (0, 65_535, 100_000, 150_001, 299_999):
        w[at] = np.nan
        with pytest.raises(ValueError, match=r"w\[1\] holds a NaN"):
            kernels.magnitude_mask([W, w], 0.5, threads=threads)
        w[at] = 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.magnitude_mask(W, 0), ValueError, r"keep is 0; wanted a share in \(0, 1\]"),
        (lambda: kernels.magnitude_mask(W, 1.5), ValueError, "keep is 1.5"),
        (lambda: kernels.magnitude_mask(W, float("nan")), ValueError, "keep is nan"),
        (lambda: kernels.magnitude_mask(W.astype(np.float64), 0.5), TypeError, "w is float64; wanted float32"),
        (lambda: kernels.magnitude_mask([W, W.tolist()], 0.5), TypeError, r"w\[1\] is list"),
        (lambda: kernels.magnitude_mask(3, 0.5), TypeError, "w is int; wanted a numpy array or a list"),
        (lambda: kernels.magnitude_mask(W, 0.5, norm=[N]), TypeError, "norm is list"),
        (lambda: kernels.magnitude_mask([W], 0.5, norm=N), ValueError, "norm must be a list of as many arrays as w"),
        (lambda: kernels.magnitude_mask([W], 0.5, importance=[]), ValueError, "importance must be a list of as many"),
        (lambda: kernels.magnitude_mask(W, 0.5, norm=N[:5]), ValueError, r"norm has shape \(5,\); wanted \(6,\)"),
        (lambda: kernels.magnitude_mask(N, 0.5, norm=N), ValueError, "wanted none for less than 2 dimensions"),
        (lambda: kernels.magnitude_mask(W, 0.5, norm=N, importance=W), ValueError, "norm and importance are both"),
        (lambda: kernels.magnitude_mask(W, 0.5, importance=W.T), ValueError, r"importance has shape \(6, 4\)"),
        (lambda: kernels.magnitude_mask(W, 0.5, threads=0), ValueError, "threads is 0"),
        (lambda: kernels.nm_mask(N, 1, 2), ValueError, r"w has shape \(6,\); wanted 2 dimensions"),
        (lambda: kernels.nm_mask(W, 3, 2), ValueError, "n is 3 and m is 2; wanted 1 <= n <= m"),
        (lambda: kernels.nm_mask(W, 0, 2), ValueError, "n is 0 and m is 2"),
        (lambda: kernels.nm_mask(W, 2, 4), ValueError, "m is 4, which does not divide the 6 columns of w"),
        (lambda: kernels.nm_mask(W, 2.0, 4), TypeError, "n is float; wanted an int"),
        (lambda: kernels.block_mask(W, 0.5), ValueError, "block is 4 x 4, which does not divide w of 4 x 6"),
        (lambda: kernels.block_mask(W, 0.5, (3, 2)), ValueError, "block is 3 x 2, which does not divide"),
        (lambda: kernels.block_mask(W, 0.5, (0, 2)), ValueError, "block is 0 x 2, which does not divide"),
        (lambda: kernels.block_mask(W, 0.5, (2.0, 2)), TypeError, "block is float; wanted an int"),
        (lambda: kernels.block_mask(W, -0.5, (2, 2)), ValueError, "keep is -0.5"),
        (lambda: kernels.channel_mask(W[0, 0], 0.5), TypeError, "w is float32; wanted a numpy array"),
        (lambda: kernels.channel_mask(np.array(1, np.float32), 0.5), ValueError, r"w has shape \(\)"),
        (lambda: KERNELS.score_bins(W, variant="portable", bits=12), ValueError, "wanted 1 <= bits <= 11"),
        (lambda: KERNELS.score_bins(W, variant="portable", low=1), ValueError, "low is 1, from which"),
        (lambda: KERNELS.score_bins(W, variant="portable", elements=(0, 25)), ValueError, "elements must lie in"),
        (lambda: KERNELS.block_scores(W, (2, 2), variant="portable", rows=(1, 2)), ValueError, "rows must be"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
