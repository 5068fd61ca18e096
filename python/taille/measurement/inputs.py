"""Inputs for a model that is measured without any of the user's: its examples, else made-up ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from taille.arrays import as_array
from taille.batches import Arrays
from taille.models import BaseMLModel

__all__ = ["ancestry", "own_inputs"]


def ancestry(model: BaseMLModel) -> Iterator[BaseMLModel]:
    """The model, the one it was made from, and so on; the first of them may have examples and an `eval_fn`."""
    current: Any = model
    while isinstance(current, BaseMLModel):
        yield current
        current = getattr(current, "parent", None)


def own_inputs(model: BaseMLModel) -> Arrays:
    """What times and memory can be measured on; its values say nothing of quality.

    Returns:
        The examples that the model was captured with, where it or one that it was made from is a `TorchModel`; else,
        for one sample, seeded normal numbers, ids of one and true masks.

    Raises:
        ValueError: the model has no examples, and dimensions beyond the batch whose size only the user knows.
    """
    for one in ancestry(model):
        examples = getattr(one, "examples", None)
        if isinstance(examples, Mapping):
            return {name: as_array(name, value) for name, value in examples.items()}
    rng = np.random.default_rng(0)
    batch = model.input_spec[0].shape[:1]
    arrays: Arrays = {}
    for spec in model.input_spec:
        unknown = [d for d in spec.shape if isinstance(d, str) and d not in batch]
        if unknown:
            raise ValueError(f"input {spec} has dimensions of any size ({', '.join(unknown)}): inputs must be given")
        shape = [d if isinstance(d, int) else 1 for d in spec.shape]
        is_float = spec.dtype == "float32"
        arrays[spec.name] = rng.standard_normal(shape, np.float32) if is_float else np.ones(shape, np.dtype(spec.dtype))
    return arrays
