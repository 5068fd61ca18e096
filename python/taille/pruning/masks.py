"""Masks from scores: the one place that selects. True stays, False goes.

All functions take scores at least 0 as rows [outputs, k], larger being more important. Ties go to the lower index, so
that a mask depends on nothing but its scores. Selection is by partition, in linear time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taille.arrays import Array
from taille.pruning.patterns import Pattern

__all__ = ["kept_units", "make_mask", "make_masks"]


def make_mask(scores: Array, pattern: Pattern, share: float) -> Array:
    """The mask of one layer.

    Args:
        scores: float, [outputs, k]; the pattern divides it.
        pattern: what stays or goes together.
        share: of the layer's weights that stay, in (0, 1]: exactly, to the nearest block, but for one block at least.
            With N:M: of each M inputs the smallest number that is at least N and at least this share.

    Returns:
        bool, [outputs, k].

    Raises:
        ValueError: a score is NaN or infinite.
    """
    check_scores(scores)
    if pattern.of:
        return nm_mask(scores, min(pattern.of, max(pattern.keep, int(np.ceil(share * pattern.of - 1e-9)))), pattern.of)
    units = unit_scores(scores, pattern)
    return expand(keep_largest(units, kept_units(units.size, share)), pattern)


def make_masks(scores: Sequence[Array], pattern: Pattern, share: float) -> list[Array]:
    """The masks of several layers, whose blocks compete with one another; see `make_mask`.

    The best block of each layer stays whatever the others score, since a layer without weights cuts the network.
    """
    for s in scores:
        check_scores(s)
    units = [unit_scores(s, pattern) for s in scores]
    joined = np.concatenate([u.ravel() for u in units])
    starts = np.cumsum([0, *(u.size for u in units)])
    best = [start + int(u.argmax()) for start, u in zip(starts, units, strict=False)]
    joined[best] = np.inf
    kept = keep_largest(joined, max(len(best), kept_units(joined.size, share)))
    parts = np.split(kept, starts[1:-1])
    return [expand(part.reshape(u.shape), pattern) for part, u in zip(parts, units, strict=True)]


def kept_units(units: int, share: float) -> int:
    """How many of so many blocks stay: the nearest number to the share, at least one."""
    return min(units, max(1, round(units * share)))


def check_scores(scores: Array) -> None:
    """Raise a ValueError unless every score is finite."""
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(f"a score is {scores[row, column]} at row {row}, column {column}; wanted finite scores")


def keep_largest(scores: Array, keep: int) -> Array:
    """True at the `keep` largest of the scores, of any shape."""
    flat = scores.ravel()
    if keep >= flat.size:
        return np.ones(scores.shape, bool)
    threshold = np.partition(flat, flat.size - keep)[flat.size - keep]
    kept: Array = flat > threshold
    ties = np.flatnonzero(flat == threshold)
    kept[ties[: keep - np.count_nonzero(kept)]] = True
    return kept.reshape(scores.shape)


def nm_mask(scores: Array, keep: int, of: int) -> Array:
    """True at the `keep` largest of each `of` neighbours in a row."""
    groups = scores.reshape(-1, of)
    order = np.argsort(-groups, axis=1, kind="stable")  # of at most 64: sorting costs little, and is stable
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, order[:, :keep], True, axis=1)
    return mask.reshape(scores.shape)


def unit_scores(scores: Array, pattern: Pattern) -> Array:
    """The sum of the scores of each block, [outputs / rows, k / columns]."""
    rows, columns = scores.shape
    blocks = scores.reshape(rows // pattern.rows, pattern.rows, columns // pattern.columns, pattern.columns)
    total: Array = blocks.sum(axis=(1, 3), dtype=np.float64)
    return total


def expand(units: Array, pattern: Pattern) -> Array:
    """The mask of the weights from that of their blocks."""
    mask: Array = units.repeat(pattern.rows, axis=0).repeat(pattern.columns, axis=1)
    return mask
