"""Pruning masks: which weights to keep, an exact number of them, without sorting.

Elements compete by score: |w|; or |w| * norm, the weight by the size of what it multiplies (Wanda; Sun et al. 2023,
arXiv:2306.11695); or `importance`, what it costs to lose the element, such as w^2 * F with F the diagonal of the
empirical Fisher matrix. Groups of elements compete by energy, which orders them as the L2 norm of their scores does:
the sum of (|w| * norm)^2, or of `importance`, which is one already.

Of equal scores the earlier is kept. Scores and energies are float32: where one is computed, what is beyond its range is
infinite and denormal numbers (below 1.2e-38) are 0; |w| and `importance` of elements are compared exactly as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np

from taille import _native
from taille.arrays import Array
from taille.compiled import thread_count
from taille.kernels.engine import check_array

__all__ = ["block_mask", "channel_mask", "magnitude_mask", "nm_mask"]

Arrays = Sequence[Array]


@overload
def magnitude_mask(
    w: Array, keep: float, *, norm: Array | None = None, importance: Array | None = None, threads: int | None = 1
) -> Array: ...
@overload
def magnitude_mask(
    w: Arrays,
    keep: float,
    *,
    norm: Sequence[Array | None] | None = None,
    importance: Arrays | None = None,
    threads: int | None = 1,
) -> list[Array]: ...
def magnitude_mask(
    w: Array | Arrays,
    keep: float,
    *,
    norm: Array | Sequence[Array | None] | None = None,
    importance: Array | Arrays | None = None,
    threads: int | None = 1,
) -> Array | list[Array]:
    """Keep the elements of largest score: exactly round(keep * size) of them.

    Of a list of arrays, exactly round(keep * total size) elements are kept of all arrays together: one threshold for
    all, so that arrays of small weights lose more. An earlier array's elements come before a later one's.

    Args:
        w: float32 of any shape; or a list of such arrays.
        keep: the share that is kept, in (0, 1].
        norm: float32 [K], not negative, for w of shape [N, ..] with K elements per index of the first dimension; for
            a list: a list of such arrays, or None for those without one.
        importance: float32 like w, not negative, to compete by instead of |w|; not with norm.
        threads: how many; None: all that are granted.

    Returns:
        bool like w; for a list: a list of them.

    Raises:
        TypeError: another dtype.   ValueError: keep, a shape, a NaN, an infinity or a negative value that may not be.
    """
    if isinstance(w, np.ndarray):
        return masks_of(["w"], [w], keep, [single("norm", norm)], [single("importance", importance)], threads)[0]
    if not isinstance(w, (list, tuple)):
        raise TypeError(f"w is {type(w).__name__}; wanted a numpy array or a list of them")
    norms, costs = one_each("norm", norm, len(w)), one_each("importance", importance, len(w))
    return masks_of([f"w[{i}]" for i in range(len(w))], w, keep, norms, costs, threads)


def nm_mask(
    w: Array,
    n: int,
    m: int,
    *,
    norm: Array | None = None,
    importance: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Keep of every m consecutive inputs the n of largest score.

    Args:
        w: float32 [N, K], a row per output; m divides K.
        n: 1 .. m.
        m: how many inputs compete with one another.
        norm: float32 [K], not negative.
        importance: float32 [N, K], not negative, to compete by instead of |w|; not with norm.
        threads: how many; None: all that are granted.

    Returns:
        bool [N, K].

    Raises:
        TypeError: another dtype.   ValueError: n, m, a shape, a NaN, an infinity or a negative value that may not be.
    """
    check_array("w", w, "float32", 2)
    check_int("n", n)
    check_int("m", m)
    count = thread_count(threads, 1)
    scores, norm = scores_of("w", w, norm, importance, count)
    return _native.nm_mask(scores, n, m, norm, count)


def block_mask(
    w: Array,
    keep: float,
    block: tuple[int, int] = (4, 4),
    *,
    norm: Array | None = None,
    importance: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Keep the blocks of largest energy: exactly round(keep * number of blocks) of them, in row-major order.

    Args:
        w: float32 [N, K], a row per output.
        keep: the share of blocks that is kept, in (0, 1].
        block: R outputs by C inputs; R divides N and C divides K. The sparse engine runs (1, 4), (2, 4), (4, 4),
            (16, 4) and (32, 4).
        norm: float32 [K], not negative.
        importance: float32 [N, K], not negative: its sums, not those of (|w| * norm)^2, are the energies.
        threads: how many; None: all that are granted.

    Returns:
        bool [N, K], the same within a block.

    Raises:
        TypeError: another dtype.   ValueError: keep, a block that does not divide w, a shape, a NaN, an infinity or a
        negative value that may not be.
    """
    check_array("w", w, "float32", 2)
    rows, columns = check_int("block", block[0]), check_int("block", block[1])
    if rows < 1 or columns < 1 or w.shape[0] % rows or w.shape[1] % columns:
        raise ValueError(f"block is {rows} x {columns}, which does not divide w of {w.shape[0]} x {w.shape[1]}")
    kept = kept_of(keep, w.size // (rows * columns))
    count = thread_count(threads, 1)
    scores, norm = scores_of("w", w, norm, importance, count)
    return _native.block_mask(scores, (rows, columns), kept, norm, importance is not None, count)


def channel_mask(
    w: Array,
    keep: float,
    *,
    norm: Array | None = None,
    importance: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Keep the outputs of largest energy: exactly round(keep * N) of them.

    Args:
        w: float32 [N, ..], an output per index of the first dimension, of K elements.
        keep: the share of outputs that is kept, in (0, 1].
        norm: float32 [K], not negative.
        importance: float32 like w, not negative: its sums, not those of (|w| * norm)^2, are the energies.
        threads: how many; None: all that are granted.

    Returns:
        bool like w, the same for all of an output.

    Raises:
        TypeError: another dtype.   ValueError: keep, a shape, a NaN, an infinity or a negative value that may not be.
    """
    if check_array("w", w, "float32").ndim < 1:
        raise ValueError("w has shape (); wanted [outputs, ..]")
    kept = kept_of(keep, w.shape[0])
    count = thread_count(threads, 1)
    scores, norm = scores_of("w", w, norm, importance, count)
    if w.size == 0:
        return np.zeros(w.shape, np.bool_)
    mask = _native.block_mask(scores, (1, scores.shape[1]), kept, norm, importance is not None, count)
    return mask.reshape(w.shape)


def masks_of(
    names: Sequence[str],
    w: Arrays,
    keep: float,
    norms: Sequence[Array | None],
    importance: Sequence[Array | None],
    threads: int | None,
) -> list[Array]:
    """Masks of the largest elements of all arrays together."""
    for name, array in zip(names, w, strict=True):
        check_array(name, array, "float32")
    kept = kept_of(keep, sum(array.size for array in w))
    count = thread_count(threads, 1)
    scored = [scores_of(*each, count) for each in zip(names, w, norms, importance, strict=True)]
    masks = _native.magnitude_masks([s for s, _ in scored], [n for _, n in scored], kept, count)
    return [mask.reshape(array.shape) for mask, array in zip(masks, w, strict=True)]


def single(name: str, value: object) -> Array | None:
    """The array, or None."""
    return None if value is None else check_array(name, value)


def one_each(name: str, value: object, count: int) -> Sequence[Array | None]:
    """A list of that many arrays; None: of as many times None."""
    if value is None:
        return [None] * count
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{name} must be a list of as many arrays as w, which has {count}")
    return value


def check_int(name: str, value: object) -> int:
    """Give `value` back where it is an int; the error names the argument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {type(value).__name__}; wanted an int")
    return value


def kept_of(keep: float, size: int) -> int:
    """How many of `size` this share keeps, rounded to nearest, ties to even."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}; wanted a share in (0, 1]")
    return round(keep * size)


def scores_of(
    name: str, w: Array, norm: Array | None, importance: Array | None, threads: int
) -> tuple[Array, Array | None]:
    """What to compete by, as a checked matrix with a row per index of the first dimension, and the checked norm.

    `name` is how errors call w; it ends as in "w[3]" where w is one of several.
    """
    matrix = as_matrix(w)
    _native.check_scores(matrix, name, True, threads)
    of = name.removeprefix("w")
    if importance is not None:
        check_array(f"importance{of}", importance, "float32")
        if norm is not None:
            raise ValueError("norm and importance are both given; wanted one of them")
        if importance.shape != w.shape:
            raise ValueError(f"importance{of} has shape {importance.shape}; wanted {w.shape}, as {name} has")
        matrix = as_matrix(importance)
        _native.check_scores(matrix, f"importance{of}", False, threads)
    if norm is not None:
        check_array(f"norm{of}", norm, "float32", 1)
        if w.ndim < 2 or norm.shape != matrix.shape[1:]:
            wanted = matrix.shape[1:] if w.ndim >= 2 else "none for less than 2 dimensions"
            raise ValueError(f"norm{of} has shape {norm.shape}; wanted {wanted}, as {name} has shape {w.shape}")
        norm = np.ascontiguousarray(norm)
        _native.check_scores(norm, f"norm{of}", False, threads)
    return matrix, norm


def as_matrix(x: Array) -> Array:
    """A C-contiguous array of 2 dimensions: the first of x, and all others."""
    return np.ascontiguousarray(x).reshape(x.shape[0] if x.ndim else 1, math.prod(x.shape[1:]))
