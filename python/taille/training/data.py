"""Batches of the user's data as tensors, streaming."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from taille.arrays import Array
from taille.batches import batch_arrays, wanted_batch

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["MASK", "Batch", "Batches", "seeded", "tensors_in"]

MASK = "attention_mask"
STRIDE = 1_000_003  # between the seeds of a pass's batches: far from the next pass's, which is one more


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        inputs: by name.   targets: what the batch holds beyond the inputs.
        samples: how many samples it has; 1 where no dimension counts them.
    """

    inputs: dict[str, torch.Tensor]
    targets: tuple[Any, ...]
    samples: int

    def real(self, value: torch.Tensor) -> torch.Tensor:
        """The rows of [batch, sequence, features] that are no padding, [rows, features]; other values as they are.

        What is padding an input "attention_mask" says, as transformers have it: [batch, sequence], 0 for padding.
        Padded positions hold what nobody reads, so nothing is fitted to them.
        """
        mask = self.inputs.get(MASK)
        fits = mask is not None and mask.dim() == 2 and value.dim() == 3 and value.shape[:2] == mask.shape
        return value[mask != 0] if fits else value

    def pooled(self, value: torch.Tensor) -> torch.Tensor | None:
        """The mean over the positions that are no padding, [batch, features]; None for what has no positions."""
        mask = self.inputs.get(MASK)
        if mask is None or mask.dim() != 2 or value.dim() != 3 or value.shape[:2] != mask.shape:
            return value.mean(1) if value.dim() == 3 else None
        weights = (mask != 0).to(value.dtype)[..., None]
        return (value * weights).sum(1) / weights.sum(1).clamp(min=1)

    def part(self, start: int, stop: int) -> Batch:
        """Those samples of every tensor that has a dimension of samples."""
        start, stop = max(0, start), min(stop, self.samples)

        def cut(value: Any) -> Any:
            counts = isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == self.samples
            return value[start:stop] if counts else value

        return Batch({n: cut(v) for n, v in self.inputs.items()}, tuple(map(cut, self.targets)), stop - start)


class Batches:
    """A model's calibration or training data, iterated as often as needed; never held whole."""

    def __init__(self, model: TorchModel, which: str, most: int | None = None):
        """Take `model.calibration_data` or `model.train_data`.

        Args:
            model: whose data, and whose inputs a batch must hold.
            which: "calibration" or "train".
            most: how many samples (not batches) to take; None: all.
        """
        self.which = which
        self.most = most
        self.data: Any = model.calibration_data if which == "calibration" else model.train_data
        self.spec = model.input_spec
        first = self.spec[0].shape
        self._counted = bool(first) and isinstance(first[0], str)  # whether dimension 0 counts samples

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches.

        Raises:
            TypeError, ValueError: a batch is none, or of another shape; there is none.
        """
        done = number = 0
        for number, given in enumerate(self.data, 1):
            batch = self._batch(number - 1, given)
            if self.most is not None:
                batch = batch.part(0, self.most - done)
            done += batch.samples
            yield batch
            if self.most is not None and done >= self.most:
                return
        if number == 0:
            raise ValueError(
                f"the {self.which} data is empty, or a generator that has been used up; wanted a list, or another "
                f"iterable that can be iterated more than once, of batches of {wanted_batch(self.spec)}"
            )

    def steps(self, start: int, seed: int) -> Iterator[Batch]:
        """The batches over and over, without end, but for the first `start` of them.

        Each pass has a seed of its own, see `turn`: after an interrupt the order is the same again.
        """
        passed = 0
        for turn in itertools.count():
            for batch in self.turn(seed + turn):
                if passed >= start:
                    yield batch
                passed += 1

    def turn(self, seed: int) -> Iterator[Batch]:
        """One pass, each batch drawn with torch's random numbers at a seed of its own.

        So the order of a DataLoader that shuffles, and what a data set draws, hang on `seed` alone, and torch's own
        random numbers go on as if nothing had been drawn.
        """
        batches = iter(self)
        for number in itertools.count():
            with seeded((seed + number * STRIDE) % 2**63):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def count(self) -> int:
        """How many batches one pass has; iterates where the data does not say."""
        try:
            return len(self.data)
        except TypeError:
            return sum(1 for _ in self.data)

    def _batch(self, number: int, given: Any) -> Batch:
        arrays = batch_arrays(number, given, self.spec, {}, self.which)
        targets: tuple[Any, ...] = ()
        if isinstance(given, Mapping):
            targets = tuple(v for n, v in given.items() if n not in arrays)
        elif isinstance(given, (tuple, list)):
            targets = tuple(given[len(self.spec) :])
        inputs = {n: tensor_of(a) for n, a in arrays.items()}
        targets = tuple(tensor_of(t) if isinstance(t, np.ndarray) else t for t in targets)
        samples = next(iter(inputs.values())).shape[0] if self._counted else 1
        return Batch(inputs, targets, int(samples))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch on the CPU from this seed; afterwards they go on as if nothing had been drawn.

    `torch.manual_seed` gives the same numbers, but seeds every kind of device, formats a traceback for each and keeps
    it: a quarter of a millisecond and some memory in every step.
    """
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def tensor_of(array: Array) -> torch.Tensor:
    """The array as a tensor, copied only where torch could not view it."""
    usable = array.flags.writeable and all(s >= 0 for s in array.strides)
    return torch.from_numpy(array if usable else array.copy())


def tensors_in(outputs: Any) -> list[torch.Tensor]:
    """The float tensors in what a module gave: one, or a tuple, list or dict of them, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [t for o in outputs for t in tensors_in(o)] if isinstance(outputs, (tuple, list)) else []
