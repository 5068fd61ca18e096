"""`InferenceOptimizer`: measures how a model is served best here, and keeps that in the artefact."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import taille
from taille.batches import Arrays
from taille.caching import setup_caching
from taille.compilation import compile_model
from taille.compiled import CompiledModel
from taille.config import INFERENCE_CONFIG, InferenceConfig, resolve
from taille.errors import ConstraintError
from taille.inference.load import Load, closed_loop
from taille.inference.precision import DROP, MOST_GAIN, Lowered, lowered, why_not
from taille.inference.tuning import Point, Progress, TimeIsUp, Tuning, short
from taille.measurement.inputs import ancestry, own_inputs
from taille.models import BaseMLModel, check_model
from taille.runner_choice import RunnerChoice, with_choice

__all__ = ["InferenceOptimizer"]

log = logging.getLogger(__name__)


class InferenceOptimizer:
    """Makes a model answer as many requests as it can, each in time."""

    def __init__(self, config: Mapping[str, Any] = INFERENCE_CONFIG):
        """Take the configuration.

        Args:
            config: `batch`: `size` (samples) and `timeout` (seconds), the most that `optimize_inference` tries, and
                `max_latency`, the seconds in which 99 % of the requests must be answered, which the runner then aims
                at; `cache`: `size`, `ttl` and `strategy`, what `setup_caching` takes by default.

        Raises:
            TypeError, ValueError: an unknown key or a value that is none; the message names the key.
        """
        self.config = resolve(InferenceConfig, config)
        self._running: Work | None = None

    @property
    def best(self) -> CompiledModel | None:
        """What the last `optimize_inference` has found, so far: what is left of one that was interrupted, or None."""
        return None if self._running is None else self._running.best()

    def setup_caching(self, model: BaseMLModel, cache_config: Mapping[str, Any] | None = None) -> None:
        """Give a compiled model a response cache; see `taille.setup_caching`. What is not given is as configured."""
        if cache_config is None or isinstance(cache_config, Mapping):
            cache_config = {**self.config.cache.as_dict(), **(cache_config or {})}
        setup_caching(model, cache_config)

    def optimize_inference(
        self,
        model: BaseMLModel,
        target_latency: float,
        *,
        inputs: Any = None,
        time_budget_s: float = 60.0,
        progress: Progress | None = None,
    ) -> CompiledModel:
        """Find the streams, threads, batches and waits with which a `taille.Runner` answers most requests per second.

        The target is of a request at the runner, from `submit` to its answer: half of the requests take no longer
        (the median), and 99 % no longer than `batch.max_latency`. Load is a closed loop: one thread keeps 1, 2, 4, ...
        requests in flight, and the most of them that keep both bounds give the throughput. All of that is measured
        here, with this process's granted threads, in some 10 s on a small machine; the executor has chosen kernels
        by itself before.

        Where no choice meets the target, a `TorchModel` with `calibration_data` is quantised to int8, or to mixed
        precision where int8 costs `eval_fn` more than 0.01; without an `eval_fn` int8 is taken as it is.

        Args:
            model: any of taille's; what is not compiled yet is compiled.
            target_latency: seconds.
            inputs: one request, as for `predict`; None: one sample of the model's test or calibration data, else of
                its example, else made up.
            time_budget_s: seconds for everything. When they are over, the best so far is taken.
            progress: called with a stage, how much is done and of how much; what it raises ends the search.

        Returns:
            The model, for all threads that are granted. `metadata["inference"]` has an entry for this CPU, level and
            number of threads, beside those of others: the options, and what was measured, tried and changed. A
            `Runner` without options, also of the model saved and loaded, uses it wherever that CPU is met.

        Raises:
            TypeError, ValueError: a target, budget, request or model that is none, or an `eval_fn` that fails.
            taille.CaptureError: as `compile_model`.
            taille.ConstraintError: nothing meets the target; the message says how near it comes and what would do.
        """
        target = check_seconds("target_latency", target_latency)
        deadline = time.perf_counter() + check_seconds("time_budget_s", time_budget_s)
        exact = compile_model(check_model(model, "optimize_inference"))
        request, _ = exact.bind(request_of(model) if inputs is None else inputs)
        self._running = work = Work(model, self.config, target, deadline, request, progress or (lambda *_: None))
        return work.run(exact)


class Work:
    """One call of `optimize_inference`."""

    def __init__(
        self, model: BaseMLModel, config: InferenceConfig, target: float, deadline: float, request: Arrays,
        progress: Progress,
    ):  # fmt: skip
        """Hold what was asked for; `request` is one, by input name."""
        self._model, self._config, self._target = model, config, target
        self._deadline, self._request, self._progress = deadline, request, progress
        self._began = time.perf_counter()
        self._native: CompiledModel | None = None
        self._tuning: Tuning | None = None
        self._lowered: Lowered | None = None
        self._why_lowered = ""
        self._nearest: tuple[str, Point] | None = None

    def run(self, exact: CompiledModel) -> CompiledModel:
        """Tune, change the precision where that is needed and allowed, and tune that."""
        if not self._tuned(exact):
            assert self._tuning is not None
            reason = self._tuning.why or why_not(self._model) or self._lower(exact)
            if reason:
                raise self._failure(reason)
        found = self.best()
        assert found is not None
        return found

    def best(self) -> CompiledModel | None:
        """The model with the best choice so far; None where nothing meets the target."""
        if self._native is None or self._tuning is None or self._tuning.best is None:
            return None
        return with_choice(self._native, self._tuning.best.choice, self._record(self._tuning, self._tuning.best))

    def _tuned(self, native: CompiledModel) -> bool:
        """Whether some choice meets the target."""
        from taille import _native

        def measure(choice: RunnerChoice, in_flight: int, seconds: float) -> Load:
            return closed_loop(native, self._request, choice, in_flight, seconds, self._deadline)

        granted = _native.granted_threads()[0]
        self._native = native
        self._tuning = Tuning(measure, granted, self._config.batch, self._target, self._deadline, self._progress)
        self._tuning.run()
        nearest = self._tuning.nearest
        precision = self._lowered.precision if self._lowered else ""
        if nearest is not None and (self._nearest is None or nearest.median < self._nearest[1].median):
            self._nearest = precision, nearest
        log.info("%r: %s", native, self._tuning.best or f"nothing meets {self._target:g} s")
        return self._tuning.best is not None

    def _lower(self, exact: CompiledModel) -> str:
        """Change the precision, and tune again; why that does not help, or ""."""
        assert self._nearest is not None  # the search came to its end
        nearest = self._nearest[1]
        if max(nearest.median / self._target, nearest.tail / self._config.batch.max_latency) > MOST_GAIN:
            return "fewer bits do not gain as much as that"
        self._why_lowered = shortfall(nearest, self._target, self._config.batch.max_latency)
        tried = []
        try:
            for one in lowered(self._model, exact, self._tick):  # type: ignore[arg-type] # why_not says that it is one
                tried.append(str(one))
                if one.allowed:
                    self._lowered = one
                    return "" if self._tuned(one.native) else f"tried as well: {', '.join(tried)}"
        except TimeIsUp:
            return f"time_budget_s ran out while the model was quantised{' after ' * bool(tried)}{', '.join(tried)}"
        return f"{' and '.join(tried)} cost more than {DROP}"

    def _tick(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)
        if time.perf_counter() > self._deadline:
            raise TimeIsUp

    def _record(self, tuning: Tuning, best: Point) -> dict[str, Any]:
        """What the artefact says of the choice: JSON-compatible."""
        found: dict[str, Any] = {
            "target_latency": self._target, "measured": best.record(),
            "alone": {str(t): short(p.median) for t, p in sorted(tuning.alone.items())},
            "tried": [{"streams": s, "threads": t, **p.record()} for (s, t), p in tuning.tried.items()],
            "request": {name: list(array.shape) for name, array in self._request.items()},
            "ended": tuning.ended, "seconds": short(time.perf_counter() - self._began),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "taille": taille.__version__,
        }  # fmt: skip
        if self._lowered is not None:
            one = self._lowered
            found["precision"] = {"chosen": one.precision, "why": self._why_lowered}
            if one.accuracy is not None:
                found["precision"] |= {"accuracy": one.accuracy, "baseline_accuracy": one.baseline}
        return found

    def _failure(self, reason: str) -> ConstraintError:
        """The error that says what is missing, and what would do."""
        if self._nearest is None:
            return ConstraintError(f"target_latency is {self._target:g} s; time_budget_s ended before anything was "
                                   "measured")  # fmt: skip
        precision, nearest = self._nearest
        most = self._config.batch.max_latency
        would = [f"target_latency={ceiling(nearest.median)}"] * (nearest.median > self._target)
        would += [f"batch.max_latency={ceiling(nearest.tail)}"] * (nearest.tail > most)
        threads = f"{nearest.choice.threads} thread{'s' if nearest.choice.threads > 1 else ''}"
        how = f"with {threads}{' in ' * bool(precision)}{precision}"
        row = {"key": how, "metrics": nearest.record()}
        text = f"{shortfall(nearest, self._target, most)} {how}, the nearest; {reason}"
        if would:
            text += f". {' and '.join(would)} would be met; taille.ModelOptimizer, which prunes, may do more"
        return ConstraintError(text, front=[row], nearest=row)


def shortfall(point: Point, target: float, most: float) -> str:
    """What a request alone misses, in words."""
    missed = []
    if point.median > target:
        missed.append(f"target_latency is {target:g} s; a request alone takes {point.median:.3g} s (median)")
    if point.tail > most:
        missed.append(f"batch.max_latency is {most:g} s; 99 % of requests alone take up to {point.tail:.3g} s")
    return "; ".join(missed) or f"target_latency is {target:g} s, met by a request alone now and then"


def ceiling(seconds: float) -> str:
    """A little more, with two digits: what would be met if it were measured again."""
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return f"{math.ceil(1.1 * seconds / step) * step:.2g}"


def request_of(model: BaseMLModel) -> Arrays:
    """One request, of one sample: test data, else calibration data, else the model's own example, else made up.

    Raises:
        ValueError: dimensions whose size only the user knows.
    """
    for one in ancestry(model):
        if any(getattr(one, name, None) is not None for name in ("test_data", "calibration_data")):
            from taille.optimization.evaluation import sample_of

            return sample_of(one, 1)  # type: ignore[arg-type] # what has data is a TorchModel
    first = {spec.name: spec.shape[0] if spec.shape else None for spec in model.input_spec}
    batch = first[model.input_spec[0].name]
    return {
        name: array[:1] if isinstance(batch, str) and first[name] == batch else array
        for name, array in own_inputs(model).items()
    }


def check_seconds(name: str, value: Any) -> float:
    """The seconds, or an error that names them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; wanted a number of seconds, as 0.05")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; wanted a number of seconds above 0")
    return float(value)
