"""Making a candidate and asking for its quality: what may be done anywhere, since results are the same bits everywhere.

Its time is not measured here: that is the machine's, and wants it quiet.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from taille.compilation import compile_model
from taille.compiled import CompiledModel
from taille.models import BaseMLModel
from taille.optimization.recipes import Recipe, carry_out
from taille.quantized import QuantizedModel

if TYPE_CHECKING:
    from taille.config import PerformanceConfig
    from taille.torch_model import TorchModel

__all__ = ["Executor", "LocalExecutor", "Made", "Progress", "TimeIsUp", "Workshop", "quality"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


class TimeIsUp(Exception):  # noqa: N818 - it is no error
    """The time budget has run out in the middle of a candidate."""


@dataclass
class Made:
    """A candidate that was made, or why it was not.

    Attributes:
        native: it; None where it could not be made.   accuracy: what `eval_fn` says; None where there is none.
        seconds: that it took.   error: why it could not be made.   passing: the error may not come again.
    """

    native: CompiledModel | None
    accuracy: float | None = None
    seconds: float = 0.0
    error: str = ""
    passing: bool = False


@dataclass
class Workshop:
    """What candidates are made from.

    Attributes:
        model: the dense one.   config: of pruning and quantising.   seed: of training.   threads: of the candidates.
    """

    model: TorchModel
    config: PerformanceConfig
    seed: int
    threads: int | None
    _made: dict[str, TorchModel] = field(default_factory=dict)

    def make(
        self, recipe: Recipe, folder: Path, drop: float | None, progress: Progress,
        quantizing: Mapping[str, Any] | None = None,
    ) -> Made:  # fmt: skip
        """Make a candidate, and ask for its quality.

        Args:
            recipe: what to do.
            folder: for the checkpoints of training.
            drop: of quality that "mixed" may cost; None: as much as it may by default.
            progress: told the stage, how much is done and of how much; may raise TimeIsUp.
            quantizing: more options of `quantize_model`.

        Raises:
            ValueError, RuntimeError: the float32 model itself cannot be compiled or judged.
        """
        began = time.monotonic()
        try:
            made = carry_out(
                recipe, self.model, self.config, self._made, folder, self.seed, drop, progress, quantizing or {}
            )
            native = with_sqnr(compile_model(made, threads=self.threads), made)
            accuracy = quality(self.model, native) if self.model.eval_fn is not None else None
        except (TimeIsUp, MemoryError):
            raise
        except (ValueError, RuntimeError) as error:  # as where a pattern divides no layer: not this way, then
            if recipe.precision == "float32" and not recipe.made_key:
                raise
            log.info("%s failed: %s", recipe.key, error)
            return Made(None, seconds=time.monotonic() - began, error=f"{type(error).__name__}: {error}")
        return Made(native, accuracy, time.monotonic() - began)


class Executor(Protocol):
    """Where candidates are made.

    Attributes:
        width: how many at the same time.
    """

    width: int

    def make(self, recipes: Sequence[Recipe], drop: float | None) -> Iterator[Made]:
        """Candidates in the order of the recipes; while the caller holds one, none is being made.

        Raises:
            TimeIsUp: in the place of those that were not ready in time.
        """


class LocalExecutor:
    """One candidate after the other, in this process."""

    width = 1

    def __init__(self, workshop: Workshop, folder: Path, tick: Progress):
        """Make them with `workshop`; `folder` is for checkpoints, `tick` is told of progress and may raise TimeIsUp."""
        self._workshop, self._folder, self._tick = workshop, folder, tick

    def make(self, recipes: Sequence[Recipe], drop: float | None) -> Iterator[Made]:
        """See `Executor`."""
        for recipe in recipes:
            yield self._workshop.make(recipe, self._folder, drop, self._tick)


def quality(model: TorchModel, candidate: BaseMLModel) -> float:
    """What `model.eval_fn` says of a candidate.

    Raises:
        ValueError: it raises, or gives something that is no finite number.
    """
    assert model.eval_fn is not None
    try:
        value = float(model.eval_fn(candidate))
    except Exception as error:
        raise ValueError(f"eval_fn raised {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise ValueError(f"eval_fn gave {value}; wanted a finite number, higher is better")
    return value


def with_sqnr(native: CompiledModel, made: BaseMLModel) -> CompiledModel:
    """The model with what quantising its weights cost each layer in its metadata."""
    if not isinstance(made, QuantizedModel):
        return native
    ratios = {r.name: r.weight_sqnr_db for r in made.report if r.weight_sqnr_db is not None}
    return CompiledModel(native.graph, native.metadata | {"weight_sqnr_db": ratios}, threads=native.threads)
