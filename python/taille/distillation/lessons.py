"""The data a student learns from: passes over the teacher's batches, some of which are held out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from taille.distillation.options import Options
from taille.torch_model import TorchModel
from taille.training.data import Batch, Batches, seeded

__all__ = ["Lessons", "print_of"]

HOLD_OUT = 0.1  # of the batches, where `early_stopping` needs some


class Lessons:
    """Training data, labelled or not, with what is held out of it.

    Attributes:
        source: "train_data" or "calibration_data".
        labelled: whether there are labels, and a loss function that takes them.
        first: the first batch.
        count: batches to train on in a pass.   held: the numbers, in a pass, of batches that are held out.
    """

    def __init__(self, teacher: TorchModel, options: Options):
        """Look at the data; reads the first batch, and all of them where the data does not say how many there are.

        Raises:
            ValueError: there is none, or too little to hold a batch out; alpha was asked for and there are no labels.
        """
        which = "train" if teacher.train_data is not None else "calibration"
        if teacher.train_data is None and teacher.calibration_data is None:
            raise ValueError(
                f"{teacher.name} has no data to learn from; wanted train_data or calibration_data: "
                "taille.TorchModel(..., calibration_data=batches)"
            )
        self.source = f"{which}_data"
        self._seed = options.seed
        self._batches = Batches(teacher, which)
        with seeded(options.seed):
            self.first = next(iter(self._batches))
            total = self._batches.count()
        self.labelled = which == "train" and teacher.loss_fn is not None and bool(self.first.targets)
        if options.alpha and not self.labelled:
            lacks = "train_data" if which == "calibration" else "loss_fn" if teacher.loss_fn is None else "labels"
            raise ValueError(
                f"alpha is {options.alpha}, the weight of the loss on labels, but {teacher.name} has no {lacks}; "
                "wanted taille.TorchModel(..., train_data=batches of inputs and labels, loss_fn=loss), or alpha 0"
            )
        if options.hold_out is not None and teacher.eval_fn is not None:
            raise ValueError(f"hold_out is {options.hold_out}, but {teacher.name} has an eval_fn, which measures")
        self.held = frozenset[int]()
        if options.early_stopping is not None and teacher.eval_fn is None:
            self.held = held_out(total, options.hold_out or HOLD_OUT, self.source)
        self.count = total - len(self.held)

    def to_learn(self, epoch: int, done: int) -> Iterator[Batch]:
        """The batches of a pass to train on, but for those done already.

        Where some are held out every pass is the same, so that what is held out is: a loader that shuffles by torch's
        random numbers gives one order.
        """
        for number, batch in self._pass(0 if self.held else epoch):
            if number in self.held:
                continue
            if done > 0:
                done -= 1
                continue
            yield batch

    def to_measure(self) -> Iterator[Batch]:
        """The batches that are held out."""
        return (batch for number, batch in self._pass(0) if number in self.held)

    def _pass(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        return enumerate(self._batches.turn(self._seed + epoch))


def held_out(total: int, share: float, source: str) -> frozenset[int]:
    """The numbers of the batches to hold out of so many, evenly spaced, one at least."""
    if total < 2:
        raise ValueError(
            f"early_stopping needs a quality: an eval_fn, or a batch of {source} to hold out, which has {total}"
        )
    every = max(2, round(1 / share))
    return frozenset(range(every - 1, total, every) or [total - 1])


def print_of(batch: Batch, crc: int) -> int:
    """CRC-32 of a batch's inputs, going on from another's."""
    for name, value in batch.inputs.items():
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(value.contiguous().reshape(-1).numpy().tobytes(), crc)
    return crc
