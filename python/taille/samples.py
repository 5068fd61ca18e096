"""Batches of the very size (and length) that a measurement needs, out of the user's data or, without any, random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from taille.arrays import Array
from taille.batches import batch_arrays
from taille.models import TensorSpec

__all__ = ["Feed", "batches", "describe", "dynamic_tail", "random_inputs"]

Feed = dict[str, Array]


def describe(feed: Feed) -> str:
    """The inputs with their shapes, in words."""
    return ", ".join(f"{n} {list(a.shape)}" for n, a in feed.items())


def dynamic_tail(spec: TensorSpec, first: TensorSpec) -> Iterator[tuple[int, str]]:
    """Axes of named dimensions that are not the batch."""
    batch = first.shape[0] if first.shape else None
    return ((i, d) for i, d in enumerate(spec.shape) if isinstance(d, str) and d != batch)


def batches(data: Iterable[Any], spec: tuple[TensorSpec, ...], size: int, sequence: int | None) -> Iterator[Feed]:
    """The data in batches of exactly `size` samples of one length; the last one begins anew where samples run out."""
    batched = {s.name for s in spec if s.shape and isinstance(s.shape[0], str) and s.shape[0] == spec[0].shape[0]}
    wanted: dict[str, tuple[int, ...]] | None = None
    kept: Feed = {}
    given = 0
    for number, batch in enumerate(data):
        arrays = batch_arrays(number, batch, spec, {})
        if sequence is not None and any(
            arrays[s.name].shape[i] != sequence for s in spec for i, _ in dynamic_tail(s, spec[0])
        ):
            continue
        shapes = {n: a.shape[n in batched :] for n, a in arrays.items()}
        wanted = wanted or shapes
        if shapes != wanted:
            continue
        if not batched:
            yield {n: np.ascontiguousarray(a) for n, a in arrays.items()}
            continue
        kept = {n: np.concatenate([kept[n], a]) if n in kept and n in batched else a for n, a in arrays.items()}
        while len(kept[spec[0].name]) >= size:
            yield {n: np.ascontiguousarray(a[:size] if n in batched else a) for n, a in kept.items()}
            given += 1
            kept = {n: a[size:] if n in batched else a for n, a in kept.items()}
    if kept and not given:
        again = np.arange(size) % len(kept[spec[0].name])
        yield {n: np.ascontiguousarray(a[again] if n in batched else a) for n, a in kept.items()}


def random_inputs(spec: tuple[TensorSpec, ...], batch: int, length: int) -> Feed:
    """Seeded inputs: normal floats, ids of one, true masks."""
    rng = np.random.default_rng(0)
    feed: Feed = {}
    for s in spec:
        shape = [d if isinstance(d, int) else batch if d == spec[0].shape[0] else length for d in s.shape]
        is_float = s.dtype == "float32"
        feed[s.name] = rng.standard_normal(shape, dtype=np.float32) if is_float else np.ones(shape, np.dtype(s.dtype))
    return feed
