"""Making a candidate, running it on the real executor, and judging it."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from taille.compilation import compile_model
from taille.compiled import CompiledModel, load
from taille.measurement.memory import peak_memory
from taille.measurement.turns import take_turns
from taille.models import BaseMLModel
from taille.optimization.contract import Contract
from taille.optimization.journal import Entry, Journal
from taille.optimization.recipes import Recipe, carry_out
from taille.quantized import QuantizedModel
from taille.samples import Feed, batches, random_inputs

if TYPE_CHECKING:
    from taille.config import PerformanceConfig
    from taille.torch_model import TorchModel

__all__ = ["Evaluator", "Progress", "TimeIsUp"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
SECONDS = 1.0  # of timing a candidate
FINAL_SECONDS = 4.0  # of timing the one that is given back


class TimeIsUp(Exception):  # noqa: N818 - it is no error
    """The time budget has run out in the middle of a candidate."""


class Evaluator:
    """Judges candidates of one model against one contract; what was judged before is read from the journal."""

    def __init__(
        self, model: TorchModel, contract: Contract, config: PerformanceConfig, journal: Journal, seed: int,
        deadline: float, progress: Progress,
    ):  # fmt: skip
        """Find the inputs to time on: test data, else calibration data, else random numbers.

        Args:
            model: the dense one.
            contract: what is asked for.
            config: of pruning and quantising.
            journal: where candidates go.
            seed: of training.
            deadline: `time.monotonic` at which making a candidate is broken off.
            progress: told the stage, how much is done and of how much.
        """
        self.model, self.contract, self.config, self.journal = model, contract, config, journal
        self._seed, self._deadline, self._progress = seed, deadline, progress
        self._made: dict[str, TorchModel] = {}
        self.sample = sample_of(model, contract.batch_size)
        self._baseline: CompiledModel | None = None

    def baseline(self) -> Entry:
        """The float32 model's metrics: what ratios and drops are taken from."""
        entry = self.evaluate(Recipe("float32"))
        self._baseline = load(self.journal.path(entry), threads=self.contract.threads)
        return entry

    def evaluate(self, recipe: Recipe, predicted_ms: float | None = None) -> Entry:
        """Make and judge a candidate, or find it in the journal.

        Raises:
            TimeIsUp: before it was there; training goes on from its checkpoint in the next search.
        """
        if recipe.key in self.journal.entries:
            return self.journal.entries[recipe.key]
        began = time.monotonic()
        entry = Entry(recipe.key, recipe.record(), predicted_ms=predicted_ms)
        try:
            made = carry_out(
                recipe, self.model, self.config, self._made, self.journal.folder, self._seed, self._drop(), self._tick
            )
            native = with_sqnr(compile_model(made, threads=self.contract.threads), made)
            entry.metrics = self._metrics(native)
            entry.file = self.journal.save(recipe.key, native)
        except (TimeIsUp, MemoryError):
            raise
        except (ValueError, RuntimeError) as error:  # as where a pattern divides no layer: not this way, then
            if recipe.precision == "float32" and not recipe.pattern:
                raise
            entry.error = f"{type(error).__name__}: {error}"
            log.info("%s failed: %s", recipe.key, error)
        entry.seconds = time.monotonic() - began
        self.journal.add(entry)
        return entry

    def _drop(self) -> float | None:
        """How far quality may fall; None where nothing is said of it."""
        before = self.journal.entries.get(Recipe("float32").key)
        quality = before.metrics.get("accuracy") if before else None
        least = self.contract.least_accuracy(quality)
        return None if least is None or quality is None else max(0.0, quality - least)

    def _tick(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)
        if time.monotonic() > self._deadline:
            raise TimeIsUp

    def _metrics(self, native: CompiledModel) -> dict[str, float]:
        found = self.latency(native, SECONDS)[0]["chosen"]
        found |= {"size_bytes": float(native.size_bytes), "sparsity": native.sparsity}
        if self.contract.max_memory is not None:
            found |= self.memory(native)
        if self.model.eval_fn is not None:
            found["accuracy"] = self.quality(native)
        return found

    def latency(
        self, native: CompiledModel, seconds: float
    ) -> tuple[dict[str, dict[str, float]], dict[str, list[float]]]:
        """Milliseconds per call at the contract's percentile and others, in turns with the float32 model.

        Returns:
            The metrics, and the milliseconds of single calls; of the model ("chosen") and, once it is there, "float32".
        """
        runs = {"chosen": native} if self._baseline is None else {"float32": self._baseline, "chosen": native}
        times = take_turns([partial(one.predict, self.sample) for one in runs.values()], seconds)
        found = {}
        for name, own in zip(runs, times, strict=True):
            found[name] = {f"latency_ms_p{q}": 1e3 * own.percentile(q) for q in (50, 90, 99)}
            found[name]["latency_ms"] = 1e3 * own.percentile(self.contract.latency_percentile)
            found[name]["throughput"] = self.contract.batch_size / own.percentile(50)
            found[name]["speedup"] = statistics.median(
                a / b for a, b in zip(times[0].medians, own.medians, strict=True)
            )
        return found, {n: [1e3 * s for s in t.samples] for n, t in zip(runs, times, strict=True)}

    def memory(self, native: CompiledModel) -> dict[str, float]:
        """Peak bytes in a fresh process; nothing where the system does not tell."""
        peak = peak_memory(native, self.sample)
        return {} if peak is None else {"peak_memory_bytes": float(peak)}

    def quality(self, model: BaseMLModel) -> float:
        """What `eval_fn` says.

        Raises:
            ValueError: it raises, or gives something that is no finite number.
        """
        assert self.model.eval_fn is not None
        try:
            value = float(self.model.eval_fn(model))
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


def sample_of(model: TorchModel, size: int) -> Feed:
    """One batch of `size` samples."""
    for data in (model.test_data, model.calibration_data):
        if data is not None:
            found = next(batches(data, model.input_spec, size, None), None)
            if found is not None:
                return found
    return random_inputs(model.input_spec, size, 128)
