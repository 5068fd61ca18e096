"""Fewer bits, where threads and batches do not reach the target: what may be done, and what it costs in quality."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taille.compilation import compile_model
from taille.compiled import CompiledModel
from taille.models import BaseMLModel

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["DROP", "MOST_GAIN", "Lowered", "lowered", "why_not"]

log = logging.getLogger(__name__)

DROP = 0.01  # of eval_fn
MOST_GAIN = 16.0  # no model gains more by int8: the largest that was measured is 10
PRECISIONS = ("int8", "mixed")  # in this order: mixed keeps more, and is slower


@dataclass(frozen=True)
class Lowered:
    """A model in another precision.

    Attributes:
        native: it.   precision: "int8" or "mixed".
        accuracy, baseline: what `eval_fn` says of it and of the float32 model; None where there is no `eval_fn`.
    """

    native: CompiledModel
    precision: str
    accuracy: float | None
    baseline: float | None

    @property
    def allowed(self) -> bool:
        """Whether it loses no more than it may."""
        return self.accuracy is None or self.baseline is None or self.accuracy >= self.baseline - DROP

    def __str__(self) -> str:
        if self.accuracy is None or self.baseline is None:
            return self.precision
        return f"{self.precision} (eval_fn {self.accuracy:.4g}, {self.baseline:.4g} in float32)"


def why_not(model: BaseMLModel) -> str:
    """Why a model's precision is not changed, in words; "" where it may be."""
    if not hasattr(model, "calibration_data"):  # of a TorchModel, which to ask for by its class needs torch
        return f"it is a {type(model).__name__}, whose precision is settled: give the TorchModel with calibration_data"
    if model.calibration_data is None:
        return "taille.TorchModel(..., calibration_data=batches) would allow int8"
    return ""


def lowered(model: TorchModel, exact: CompiledModel, progress: Callable[[str, int, int], None]) -> Iterator[Lowered]:
    """The model in int8, and in mixed precision where int8 loses too much.

    Args:
        model: with `calibration_data`.
        exact: it in float32, compiled.
        progress: told of the stages; may raise to end it.
    """
    from taille.optimization.workshop import quality
    from taille.quantization import quantize_model

    judged = model.eval_fn is not None
    baseline = quality(model, exact) if judged else None
    for precision in PRECISIONS:
        made = quantize_model(model, precision, max_accuracy_drop=DROP if precision == "mixed" else None,
                              progress=progress)  # fmt: skip
        native = compile_model(made)
        one = Lowered(native, precision, quality(model, native) if judged else None, baseline)
        log.info("%s: %s", model.name, one)
        yield one
        if one.allowed:
            return
