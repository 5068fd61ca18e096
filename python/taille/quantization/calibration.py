"""The way of the samples: from what a user gives as calibration data to arrays for the native engine, streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from taille.arrays import Array, Limits
from taille.batches import Arrays, batch_arrays, wanted_batch
from taille.quantization.options import Progress

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Samples"]

HELD_OUT = 4  # every fourth sample, where some are held out


class Samples:
    """The first samples of a model's calibration data, as often as they are needed; never held whole."""

    def __init__(self, model: TorchModel, limits: Limits, most: int, *, hold_out: bool, progress: Progress | None):
        """Take up to `most` samples (not batches) of `model.calibration_data`.

        Args:
            model: a `TorchModel` with `calibration_data`.
            limits: of the named dimensions, as captured.
            most: how many samples to take, those held out included.
            hold_out: keep every fourth sample from `batches`, for `held_out`.
            progress: told how many samples are done.
        """
        self.spec = model.input_spec
        self.data: Any = model.calibration_data
        self.limits = limits
        self.most = most
        self.hold_out = hold_out
        self.progress = progress
        self.count = 0  # how many the first pass found
        self.example: Arrays = {}  # the largest sample that is not held out, of those passed
        self._largest = 0  # elements of it
        first = self.spec[0].shape[0] if self.spec[0].shape else 1
        self._axis = first if isinstance(first, str) else None  # the dimension that counts samples

    def feed(self, stage: str, run: Callable[[Arrays], None], *, most: int | None = None, size: int = 0) -> None:
        """Run every batch of what is not held out.

        Args:
            stage: how `progress` is told what goes on.
            run: takes the arrays of one batch by input name, C-contiguous.
            most: stop after this many samples.
            size: the most samples that one call of `run` gets; 0: as the batches come.

        Raises:
            TypeError, ValueError: a batch is none, or of another shape; there is none; a second pass has fewer.
        """
        done = total = 0
        for arrays, held, passed in self._parts(size):
            total = passed
            if not held:
                if number_of_elements(arrays) > self._largest * self._samples_in(arrays):
                    self.example = self._select(arrays, np.arange(1))
                    self._largest = number_of_elements(self.example)
                run(arrays)
                done += self._samples_in(arrays)
            if self.progress is not None:
                self.progress(stage, passed, self.count or self.most)
            if most is not None and done >= most:
                return
        if self.count and total < self.count:
            raise ValueError(
                f"the calibration data gave {self.count} samples at first and {total} when iterated again; give a list "
                "or another iterable that can be iterated more than once, not a generator"
            )
        if total == 0:
            raise ValueError(f"the calibration data is empty; wanted batches of {wanted_batch(self.spec)}")
        self.count = total
        if self.progress is not None:
            self.progress(stage, total, total)

    def held_out(self, most: int, size: int) -> list[Arrays]:
        """Up to `most` of the samples held out, in batches of `size` at most.

        Raises:
            ValueError: there are none, as there are fewer than four samples.
        """
        found: list[Arrays] = []
        for arrays, held, _ in self._parts(size):
            if held:
                found.append(arrays)
            if sum(map(self._samples_in, found)) >= most:
                break
        if not found:
            raise ValueError(f"mixed precision needs at least {HELD_OUT} calibration samples: one in that many is kept "
                             "from calibration, to measure on")  # fmt: skip
        return found

    def _samples_in(self, arrays: Arrays) -> int:
        return int(next(iter(arrays.values())).shape[0]) if self._axis else 1

    def _parts(self, size: int) -> Iterator[tuple[Arrays, bool, int]]:
        """Arrays, whether they are held out, and how many samples have passed with them."""
        passed = 0
        for number, batch in enumerate(self.data):
            arrays = batch_arrays(number, batch, self.spec, self.limits)
            here = np.arange(passed, min(passed + self._samples_in(arrays), self.most))
            passed += len(here)
            kept_out = here % HELD_OUT == HELD_OUT - 1 if self.hold_out else np.zeros(len(here), bool)
            for held in (False, True):
                chosen = np.flatnonzero(kept_out == held)
                step = size or max(1, len(chosen))
                for start in range(0, len(chosen), step):
                    yield self._select(arrays, chosen[start : start + step]), held, passed
            if passed >= self.most:
                return

    def _select(self, arrays: Arrays, chosen: Array) -> Arrays:
        """Those samples of every input that has a dimension of samples."""
        whole = len(chosen) == self._samples_in(arrays)
        parts = {
            s.name: arrays[s.name][chosen] if not whole and s.shape and s.shape[0] == self._axis else arrays[s.name]
            for s in self.spec
        }
        return {n: np.ascontiguousarray(a) for n, a in parts.items()}


def number_of_elements(arrays: Arrays) -> int:
    """Of all inputs together."""
    return sum(array.size for array in arrays.values())
