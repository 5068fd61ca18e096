"""Candidates, made by an executor, run here in the real engine and judged."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from taille.compiled import CompiledModel, load
from taille.measurement.memory import peak_memory
from taille.measurement.turns import take_turns
from taille.optimization.contract import Contract
from taille.optimization.journal import Entry, Journal
from taille.optimization.recipes import Recipe
from taille.optimization.workshop import Executor, Made
from taille.samples import Feed, batches, random_inputs

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Evaluator", "sample_of"]

SECONDS = 1.0  # of timing a candidate
FINAL_SECONDS = 4.0  # of timing the one that is given back


class Evaluator:
    """Judges candidates of one model against one contract; what was judged before is read from the journal."""

    def __init__(self, model: TorchModel, contract: Contract, journal: Journal, executor: Executor):
        """Find the inputs to time on: test data, else calibration data, else random numbers.

        Args:
            model: the dense one.
            contract: what is asked for.
            journal: where candidates go.
            executor: makes them.
        """
        self.contract, self.journal = contract, journal
        self._executor = executor
        self.sample = sample_of(model, contract.batch_size)
        self._baseline: CompiledModel | None = None

    @property
    def width(self) -> int:
        """How many candidates are made at the same time."""
        return self._executor.width

    def baseline(self) -> Entry:
        """The float32 model's metrics: what ratios and drops are taken from."""
        (entry,) = self.evaluate([Recipe("float32")], [None])
        self._baseline = load(self.journal.path(entry), threads=self.contract.threads)
        return entry

    def evaluate(self, recipes: Sequence[Recipe], predicted_ms: Sequence[float | None]) -> Iterator[Entry]:
        """Make and judge candidates, or find them in the journal; in their order.

        Raises:
            TimeIsUp: in the place of one that was not there in time; training goes on from its checkpoint, where it
                was done here, in the next search.
        """
        new = [recipe for recipe in recipes if recipe.key not in self.journal.entries]
        made = self._executor.make(new, self._drop())
        for recipe, expected in zip(recipes, predicted_ms, strict=True):
            if recipe.key not in self.journal.entries:
                yield self._judge(recipe, expected, next(made))
            else:
                yield self.journal.entries[recipe.key]

    def _judge(self, recipe: Recipe, predicted_ms: float | None, made: Made) -> Entry:
        """Measure a candidate, one at a time, and note it."""
        began = time.monotonic()
        entry = Entry(recipe.key, recipe.record(), predicted_ms=predicted_ms, error=made.error)
        if made.native is not None:
            entry.metrics = self._metrics(made.native, made.accuracy)
            entry.file = self.journal.save(recipe.key, made.native)
        entry.seconds = made.seconds + time.monotonic() - began
        if not made.passing:
            self.journal.add(entry)
        return entry

    def _drop(self) -> float | None:
        """How far quality may fall; None where nothing is said of it."""
        before = self.journal.entries.get(Recipe("float32").key)
        quality = before.metrics.get("accuracy") if before else None
        least = self.contract.least_accuracy(quality)
        return None if least is None or quality is None else max(0.0, quality - least)

    def _metrics(self, native: CompiledModel, accuracy: float | None) -> dict[str, float]:
        found = self.latency(native, SECONDS)[0]["chosen"]
        found |= {"size_bytes": float(native.size_bytes), "sparsity": native.sparsity}
        if self.contract.max_memory is not None:
            found |= self.memory(native)
        return found if accuracy is None else found | {"accuracy": accuracy}

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


def sample_of(model: TorchModel, size: int) -> Feed:
    """One batch of `size` samples."""
    for data in (model.test_data, model.calibration_data):
        if data is not None:
            found = next(batches(data, model.input_spec, size, None), None)
            if found is not None:
                return found
    return random_inputs(model.input_spec, size, 128)
