"""Whether a model keeps what it must: nothing lost against a baseline, limits held. Measured at each call.

Needs no torch. Both functions are named `test_*` and are no tests: pytest is told so.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Literal, TypeVar, overload

from taille.compiled import CompiledModel, thread_count
from taille.config import parse_size
from taille.hints import did_you_mean
from taille.measurement.inputs import ancestry, own_inputs
from taille.measurement.performance import native_model, time_batch
from taille.measurement.quality import as_number, measure_quality
from taille.measurement.request import Request, Samples, read_request, read_samples
from taille.models import BaseMLModel, check_model
from taille.verdict import (
    MEMORY_NOISE,
    RECIPE_BYTES,
    Findings,
    Verdict,
    check_accuracy,
    check_memory,
    check_size,
    check_times,
    compare_times,
)

__all__ = ["Verdict", "test_optimization", "test_resource_usage"]

COMPARED = ("accuracy", "latency_ms_p50", "throughput", "size_bytes", "peak_memory_bytes")
LIMITS = ("max_memory", "max_size", "max_latency_ms", "latency_percentile", "batch_size", "threads")
F = TypeVar("F", bound=Callable[..., Any])


def not_collected(function: F) -> F:
    """Tell pytest that a function of the library is no test, whatever its name."""
    function.__dict__["__test__"] = False
    return function


@overload
def test_optimization(
    model: BaseMLModel,
    baseline_metrics: Mapping[str, float],
    *,
    test_data: Mapping[str, Any] | None = ...,
    explain: Literal[False] = ...,
    max_accuracy_drop: float = ...,
    max_slowdown: float = ...,
    baseline: BaseMLModel | None = ...,
    threads: int | None = ...,
    seconds: float = ...,
) -> bool: ...
@overload
def test_optimization(
    model: BaseMLModel,
    baseline_metrics: Mapping[str, float],
    *,
    test_data: Mapping[str, Any] | None = ...,
    explain: Literal[True],
    max_accuracy_drop: float = ...,
    max_slowdown: float = ...,
    baseline: BaseMLModel | None = ...,
    threads: int | None = ...,
    seconds: float = ...,
) -> Verdict: ...
@not_collected
def test_optimization(
    model: BaseMLModel,
    baseline_metrics: Mapping[str, float],
    *,
    test_data: Mapping[str, Any] | None = None,
    explain: bool = False,
    max_accuracy_drop: float = 0.01,
    max_slowdown: float = 0.0,
    baseline: BaseMLModel | None = None,
    threads: int | None = None,
    seconds: float = 1.0,
) -> bool | Verdict:
    """Measure an optimised model, and tell whether it lost nothing that its baseline had.

    Of `baseline_metrics` these are compared, where they are there: `accuracy` (may fall by `max_accuracy_drop`),
    `size_bytes` (the recipe's few kB aside), `peak_memory_bytes` (the least of up to three runs, and 512 kB aside) and
    `latency_ms_p50`, or `throughput` where that is not there. A latency has noise, which is measured with it: it fails
    where even the 10th percentile of the turns' medians is above the baseline's.

    Args:
        model: any of taille's models.
        baseline_metrics: what `ModelOptimizer.measure_performance` gave for the model before, at the same `batch_size`
            and `threads`, which are taken from it; or what `optimize_model` gave, of which the `baseline_*` count.
        test_data: as for `measure_performance`. None: the model's `eval_fn` gives the quality, and times are measured
            on its examples.
        explain: whether to give a `Verdict` with the reasons in place of a bool.
        max_accuracy_drop: how far `accuracy` may fall.
        max_slowdown: share by which the latency may rise.
        baseline: the model before. Its latency is then measured anew, in turns with this one's, and only the ratio of
            the two counts: a machine is seldom as quick as it was at another time.
        threads: that one `predict` uses; None: as in `baseline_metrics`, else as `measure_performance` says.
        seconds: about how long calls are timed.

    Raises:
        TypeError, ValueError: `baseline_metrics` has nothing to compare, a value that is not a finite number, a name
            that looks mistyped, or an accuracy that nothing was given to measure with; or as `measure_performance`.
    """
    models = [check_model(m, "taille.test_optimization") for m in (baseline, model) if m is not None]
    for name, value in (("max_accuracy_drop", max_accuracy_drop), ("max_slowdown", max_slowdown), ("seconds", seconds)):
        finite(name, value, least=0)
    thread_count(threads, 1)
    before = read_baseline(baseline_metrics)
    request = read_request(with_inputs(model, test_data, before), model.input_spec)
    evaluate = None if "accuracy" not in before else quality_of(model, request)
    native = native_model(model, threads or int(before.get("threads", 0)) or None)
    found, batch = Findings(), request.samples.full_batch()
    if evaluate is not None:
        check_accuracy(found, evaluate(native), before["accuracy"], max_accuracy_drop)
    if "size_bytes" in before:
        check_size(found, native, before["size_bytes"], RECIPE_BYTES, "was")
    if baseline is not None or "latency_ms_p50" in before or "throughput" in before:
        turns = [native if m is model else native_model(m, native.threads) for m in models]
        latencies = time_batch(turns, batch, seconds)
        compare_times(found, at(native, request.samples), latencies, request.samples.batch_size, before, max_slowdown)
    if "peak_memory_bytes" in before:
        check_memory(found, native, batch, before["peak_memory_bytes"], MEMORY_NOISE, "was")
    return found.verdict(explain)


@overload
def test_resource_usage(
    model: BaseMLModel,
    limits: Mapping[str, Any],
    *,
    inputs: Any = ...,
    explain: Literal[False] = ...,
    seconds: float = ...,
) -> bool: ...
@overload
def test_resource_usage(
    model: BaseMLModel,
    limits: Mapping[str, Any],
    *,
    inputs: Any = ...,
    explain: Literal[True],
    seconds: float = ...,
) -> Verdict: ...
@not_collected
def test_resource_usage(
    model: BaseMLModel, limits: Mapping[str, Any], *, inputs: Any = None, explain: bool = False, seconds: float = 1.0
) -> bool | Verdict:
    """Measure what a model takes, and tell whether it stays within limits.

    Args:
        model: any of taille's models.
        limits: at least one of
            `max_size`: bytes of the saved artefact ("5MB", or an int);
            `max_memory`: bytes that loading and running it adds to a fresh process, at the peak; where the first run
            is above, the least of three counts;
            `max_latency_ms`: milliseconds per call, at `latency_percentile` (50 by default); it fails where the
            latency is above by more than its measured noise, which is how far the turns' medians scatter below theirs;
            and how to measure: `batch_size` (by default 1, or what the model is fixed to) and `threads` (by default
            what a `CompiledModel` uses, else all that are granted).
        inputs: as for `predict`; None: the model's examples, or made-up ones where its shapes allow that.
        explain: whether to give a `Verdict` with the reasons in place of a bool.
        seconds: about how long calls are timed.

    Raises:
        TypeError, ValueError: no limit, an unknown one, or a value of another type, unit or range; the message names
            it. Or inputs are needed, or do not fit.
    """
    model = check_model(model, "taille.test_resource_usage")
    finite("seconds", seconds, least=0)
    bounds = read_limits(limits)
    size = limits.get("batch_size")
    if size is None and model.input_spec[0].shape and isinstance(model.input_spec[0].shape[0], str):
        size = 1
    needs_inputs = "max_memory" in bounds or "max_latency_ms" in bounds or inputs is not None
    samples = None
    if needs_inputs:
        samples = read_samples(own_inputs(model) if inputs is None else inputs, model.input_spec, size)
    native = native_model(model, limits.get("threads"))
    found = Findings()
    if "max_size" in bounds:
        check_size(found, native, bounds["max_size"], 0, "limit")
    if "max_latency_ms" in bounds and samples is not None:
        (latency,) = time_batch([native], samples.full_batch(), seconds)
        check_times(found, at(native, samples), latency, bounds["latency_percentile"], bounds["max_latency_ms"])
    if "max_memory" in bounds and samples is not None:
        check_memory(found, native, samples.full_batch(), bounds["max_memory"], 0, "limit")
    return found.verdict(explain)


def read_baseline(metrics: Any) -> dict[str, float]:
    """The metrics to compare with, and what they were measured with, by name.

    Raises:
        TypeError, ValueError: as `test_optimization`.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"baseline_metrics is {type(metrics).__name__}; wanted a dict of numbers by name")
    if any(f"baseline_{key}" in metrics for key in COMPARED):
        metrics = {str(k).removeprefix("baseline_"): v for k, v in metrics.items() if str(k).startswith("baseline_")}
    for key in metrics:
        derived = re.fullmatch(r"latency_ms_p[\d.]+|.*_ratio(_p\d+)?", str(key))
        near = difflib.get_close_matches(str(key), COMPARED, n=1, cutoff=0.8)
        if key not in COMPARED and near and not derived:
            raise ValueError(f"unknown metric {key!r} in baseline_metrics; did you mean {near[0]}?")
    found = {key: finite(f"baseline_metrics['{key}']", metrics[key]) for key in COMPARED if key in metrics}
    if not found:
        raise ValueError(f"baseline_metrics has none of {', '.join(COMPARED)}; it has {', '.join(map(str, metrics))}")
    for key in ("batch_size", "threads"):
        if key in metrics:
            found[key] = finite(f"baseline_metrics['{key}']", metrics[key], least=1)
    return found


def with_inputs(model: BaseMLModel, test_data: Any, before: Mapping[str, float]) -> Any:
    """The test data, with the model's own inputs where there are none, at the baseline's batch size."""
    if test_data is not None and not isinstance(test_data, Mapping):
        return test_data  # whose check says what is wrong
    data = dict(test_data or {})
    if data.get("inputs") is None:
        if data.get("targets") is not None:
            raise ValueError("test_data has targets but no inputs")
        data["inputs"] = own_inputs(model)
    size = int(before.get("batch_size", 0)) or None
    if size and data.get("batch_size") not in (None, size):
        raise ValueError(f"test_data['batch_size'] is {data['batch_size']}; the baseline was measured at {size}")
    data["batch_size"] = data.get("batch_size") or size
    return data


def quality_of(model: BaseMLModel, request: Request) -> Callable[[CompiledModel], float]:
    """How to measure the quality: on the targets, else by the model's `eval_fn`."""
    if request.targets is not None:
        return lambda native: measure_quality(native, request, frozenset())["accuracy"]
    for one in ancestry(model):
        evaluate = getattr(one, "eval_fn", None)
        if evaluate is not None:
            return lambda native: as_number(evaluate(native), "eval_fn")
    raise ValueError(
        "baseline_metrics has accuracy, and there is nothing to measure it with; wanted "
        'test_data={"inputs": ..., "targets": ..., "metric": ...}, or a model with eval_fn'
    )


def read_limits(limits: Any) -> dict[str, float]:
    """The limits as numbers, the percentile included.

    Raises:
        TypeError, ValueError: as `test_resource_usage`.
    """
    if not isinstance(limits, Mapping):
        raise TypeError(f"limits is {type(limits).__name__}; wanted a dict of {', '.join(LIMITS)}")
    for key in limits:
        if key not in LIMITS:
            raise ValueError(f"unknown limit {key!r}; {did_you_mean(key, LIMITS)}there are {', '.join(LIMITS)}")
    found: dict[str, float] = {k: parse_size(limits[k], k) for k in ("max_memory", "max_size") if k in limits}
    if "max_latency_ms" in limits:
        found["max_latency_ms"] = finite("max_latency_ms", limits["max_latency_ms"], least=0)
    if not found:
        raise ValueError(f"limits has none of {', '.join(LIMITS[:3])}")
    found["latency_percentile"] = finite("latency_percentile", limits.get("latency_percentile", 50), least=0, most=100)
    thread_count(limits.get("threads"), 1)
    return found


def finite(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number between two ends, or a TypeError or ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; wanted a number")
    number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        ends = f" of at least {least:g}" if least > -math.inf else ""
        raise ValueError(
            f"{name} is {value!r}; wanted a finite number{ends}{f' and at most {most:g}' * (most < math.inf)}"
        )
    return number


def at(native: CompiledModel, samples: Samples) -> str:
    """What a latency was measured with, in words."""
    return f"latency at batch {samples.batch_size}, threads {native.threads}"
