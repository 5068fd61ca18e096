"""One model with the inputs it is measured on, in the forms that the contestants take."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.arrays import Array
from taille.samples import Feed, batches, describe, dynamic_tail, random_inputs

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Subject", "flat", "quiet"]

MOST_SAMPLES = 64  # of the calibration data


class Subject:
    """A model, one batch of inputs, the calibration batches that every contestant uses, and what torch makes of it."""

    def __init__(self, model: TorchModel, batch: int, sequence: int | None, folder: Path):
        """Prepare the inputs; the model runs once in torch.

        Args:
            model: inputs come from its test data, else its calibration data, else they are random.
            batch: samples in every batch.
            sequence: size of the dynamic dimensions beyond the batch; None: as in the data.
            folder: where files for the contestants go.

        Raises:
            ValueError: the data has no sample of that length.
        """
        self.model = model
        self.batch = batch
        self.folder = folder
        spec = model.input_spec
        data = model.test_data or model.calibration_data
        first = next(batches(data, spec, batch, sequence), None) if data is not None else None
        self.inputs = first or random_inputs(spec, batch, sequence or 128)
        self.sequence = next(
            (self.inputs[s.name].shape[i] for s in spec for i, dim in dynamic_tail(s, spec[0])), None
        )  # fmt: skip
        calibration = model.calibration_data
        found = batches(calibration, spec, batch, self.sequence) if calibration is not None else iter(())
        self.calibration: list[Feed] = []
        for feed in found:
            self.calibration.append(feed)
            if len(self.calibration) * batch >= MOST_SAMPLES:
                break
        if calibration is not None and not self.calibration:
            raise ValueError(f"the calibration data has no samples of {describe(self.inputs)}")
        self.reference = flat(model.predict(self.inputs))

    @cached_property
    def kinds(self) -> set[str]:
        """Names of the classes of the model's modules, in lower case."""
        return {type(m).__name__.lower() for m in self.model.module.modules()}

    @property
    def has_convolutions(self) -> bool:
        """Whether the model has convolutions."""
        return any(kind.startswith("conv") for kind in self.kinds)

    @property
    def is_transformer(self) -> bool:
        """Whether the model has attention."""
        return any("attention" in kind for kind in self.kinds)

    @cached_property
    def onnx(self) -> Path:
        """The model as an ONNX file of exactly this batch (and length): what suits the other engines best."""
        import torch

        path = self.folder / "model.onnx"
        tensors = {n: torch.from_numpy(a) for n, a in self.inputs.items()}
        by_keyword = self.model.by_keyword
        with quiet():
            program = torch.onnx.export(
                self.model.module.eval(), () if by_keyword else tuple(tensors.values()),
                kwargs=tensors if by_keyword else None, input_names=list(tensors), dynamo=True, verbose=False,
            )  # fmt: skip
            program.save(str(path), external_data=False)
        return path


def flat(outputs: Any) -> list[Array]:
    """The arrays of a model's outputs, in order."""
    if isinstance(outputs, Mapping):
        outputs = tuple(outputs.values())
    if isinstance(outputs, tuple):
        return [array for value in outputs for array in flat(value)]
    return [outputs]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what other libraries print, log or warn about out of the results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
