"""Masks from scores, by the kernels of `taille.kernels`. True stays, False goes.

All functions take scores at least 0 as rows [outputs, k], larger being more important: energies, which add up over a
block. Ties go to the lower index, so that a mask depends on nothing but its scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taille import kernels
from taille.arrays import Array
from taille.pruning.patterns import Pattern

__all__ = ["kept_units", "make_mask", "make_masks", "unit_scores"]


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
    energies = checked(scores)
    if pattern.of:
        return kernels.nm_mask(energies, pattern.remaining(share), pattern.of, importance=energies, threads=None)
    block = (pattern.rows, pattern.columns)
    units = energies.size // (pattern.rows * pattern.columns)
    keep_share = kept_units(units, share) / units
    return kernels.block_mask(energies, keep_share, block, importance=energies, threads=None)


def make_masks(scores: Sequence[Array], pattern: Pattern, share: float) -> list[Array]:
    """The masks of several layers, whose blocks compete with one another; see `make_mask`.

    The best block of each layer stays whatever the others score, since a layer without weights cuts the network.
    """
    units = [unit_scores(checked(s), pattern) for s in scores]
    for u in units:
        u.flat[u.argmax()] = np.finfo(np.float32).max
    size = sum(u.size for u in units)
    kept = kernels.magnitude_mask(units, max(len(units), kept_units(size, share)) / size, threads=None)
    return [expand(k, pattern) for k in kept]


def kept_units(units: int, share: float) -> int:
    """How many of so many blocks stay: the nearest number to the share, at least one."""
    return min(units, max(1, round(units * share)))


def checked(scores: Array) -> Array:
    """The scores in float32; raises a ValueError unless every one is finite."""
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(f"a score is {scores[row, column]} at row {row}, column {column}; wanted finite scores")
    largest = float(scores.max(initial=0.0))
    # Scores of very large or small weights would leave float32's range.
    scale = 1 / largest if largest > 0 and not 1e-20 < largest < 1e20 else 1.0
    return np.ascontiguousarray(scores * scale, np.float32)


def unit_scores(scores: Array, pattern: Pattern) -> Array:
    """The sum of the scores of each block, [outputs / rows, k / columns]."""
    rows, columns = scores.shape
    blocks = scores.reshape(rows // pattern.rows, pattern.rows, columns // pattern.columns, pattern.columns)
    total: Array = blocks.sum(axis=(1, 3), dtype=np.float64).astype(np.float32)
    return total


def expand(units: Array, pattern: Pattern) -> Array:
    """The mask of the weights from that of their blocks."""
    mask: Array = units.repeat(pattern.rows, axis=0).repeat(pattern.columns, axis=1)
    return mask
