"""`measure_performance`: quality, latency, throughput, bytes and memory of a model on the native executor."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from taille.batches import Arrays
from taille.compilation import compile_model
from taille.compiled import CompiledModel, thread_count
from taille.measurement.memory import peak_memory
from taille.measurement.quality import measure_quality
from taille.measurement.request import Request, read_request
from taille.measurement.turns import Latency, take_turns
from taille.models import BaseMLModel, check_model

__all__ = ["measure_performance", "native_model", "time_batch"]

log = logging.getLogger(__name__)

FIXED_KEYS = frozenset(
    {"accuracy", "throughput", "size_bytes", "peak_memory_bytes", "sparsity", "batch_size", "threads", "latency_ratio"}
)
NO_RATIO = ("batch_size", "threads")


def measure_performance(
    model: BaseMLModel,
    test_data: Mapping[str, Any],
    *,
    baseline: BaseMLModel | None = None,
    threads: int | None = None,
    percentiles: Sequence[float] = (50, 90, 99),
    seconds: float = 1.0,
    memory: bool = True,
) -> dict[str, float]:
    """Measure a model on the native executor, as it will be served; what is not compiled yet is compiled first.

    Args:
        model: any of taille's models.
        test_data: a dict of
            `inputs`: as for `predict` (array, tensor, tuple or dict by name), any number of samples in dimension 0;
            `targets`: one per sample; without them no quality is measured;
            `metric`: "accuracy" (default), "rmse", "r2", "f1" (macro), "spearman", or a callable that takes the
            outputs for all samples, as `predict` would give them, and the targets as they are here, and gives a float
            of which higher is better;
            `batch_size`: samples per call; by default 32, or all where there are fewer.
        baseline: another model, measured on the same data with as many threads, in turns with this one.
        threads: that one `predict` uses. None: what a `CompiledModel` already uses, else all that are granted.
        percentiles: of the latency, in percent.
        seconds: about how long calls are timed, for each of the models; at least 5 turns are.
        memory: whether to measure the peak memory, which starts a process.

    Returns:
        By name:
        `accuracy` (the metric; minus the RMSE, so that higher is always better) and the metric under its own name;
        `latency_ms_p50` and so on, per call of a full batch; `throughput`, samples per second over all timed calls;
        `size_bytes` of the saved artefact; `peak_memory_bytes`, what loading and running it adds to a fresh process;
        `sparsity`; and what was measured with: `batch_size`, `threads`.
        With a baseline: the same of it as `baseline_*`; `*_ratio`, the value over the baseline's, where that is above
        0; and of the turns, which meet the same disturbances: `latency_ratio`, the median of model over baseline,
        with `latency_ratio_p10` and `latency_ratio_p90`.
        What cannot be measured is an absent key.

    Raises:
        TypeError, ValueError: a key of `test_data` is unknown or wrong, checked before the model is compiled; or an
            output or the metric is NaN, found before times are measured. The message names the key.
        RuntimeError: the metric raised (its error is the cause), or the process that measures memory failed.
        taille.CaptureError: as `compile_model`.
    """
    model = check_model(model, "taille.measurement.measure_performance")
    thread_count(threads, 1)
    check_times(percentiles, seconds)
    request = read_request(test_data, model.input_spec)
    models = {"": model}
    if baseline is not None:
        models = {"baseline_": check_model(baseline, "taille.measurement.measure_performance"), "": model}
        check_like(model, baseline)
    return measure_all(models, request, threads, percentiles, seconds, memory)


def measure_all(
    models: Mapping[str, BaseMLModel],
    request: Request,
    threads: int | None,
    percentiles: Sequence[float],
    seconds: float,
    memory: bool,
) -> dict[str, float]:
    """Measure the model, "" of `models`, and its baseline, if there is one; quality first, as that may be refused."""
    own = native_model(models[""], threads)
    native = {p: own if p == "" else native_model(one, own.threads) for p, one in models.items()}
    found = {p: measure_quality(one, request, taken_keys(percentiles)) for p, one in native.items()}
    if request.targets is None:
        log.info("test_data has no targets: quality is not measured")
    batch = request.samples.full_batch()
    latencies = dict(zip(native, time_batch(list(native.values()), batch, seconds), strict=True))
    for prefix, one in native.items():
        found[prefix] |= speed(latencies[prefix], percentiles, request)
        found[prefix] |= {"size_bytes": float(one.size_bytes), "sparsity": float(models[prefix].sparsity)}
        found[prefix] |= {"batch_size": float(request.samples.batch_size), "threads": float(one.threads)}
        peak = peak_memory(one, batch) if memory else None
        if peak is not None:
            found[prefix]["peak_memory_bytes"] = float(peak)
    if "baseline_" not in found:
        return found[""]
    return beside(found[""], found["baseline_"], latencies[""], latencies["baseline_"])


def native_model(model: BaseMLModel, threads: int | None) -> CompiledModel:
    """The model on the native executor with that many threads; itself where it is that already."""
    if isinstance(model, CompiledModel) and threads in (None, model.threads):
        return model
    return compile_model(model, threads=threads)


def time_batch(models: Sequence[CompiledModel], arrays: Arrays, seconds: float) -> list[Latency]:
    """Time `predict` of each model on one batch, in turns, for about that many seconds each."""
    given: Any = next(iter(arrays.values())) if len(arrays) == 1 else arrays
    return take_turns([partial(model.predict, given) for model in models], seconds * len(models))


def speed(latency: Latency, percentiles: Sequence[float], request: Request) -> dict[str, float]:
    """Latency and throughput by key."""
    found = {latency_key(p): latency.percentile(p) * 1e3 for p in percentiles}
    return {**found, "throughput": request.samples.batch_size * len(latency.samples) / sum(latency.samples)}


def beside(
    values: dict[str, float], base: dict[str, float], latency: Latency, base_latency: Latency
) -> dict[str, float]:
    """The model's values, the baseline's, and their ratios."""
    turns = np.asarray(latency.medians) / np.asarray(base_latency.medians)
    low, middle, high = (float(v) for v in np.percentile(turns, [10, 50, 90]))
    ratios = {f"{k}_ratio": v / base[k] for k, v in values.items() if k not in NO_RATIO and base.get(k, 0) > 0}
    baseline = {f"baseline_{key}": value for key, value in base.items()}
    turned = {"latency_ratio": middle, "latency_ratio_p10": low, "latency_ratio_p90": high}
    return {**values, **baseline, **ratios, **turned}


def latency_key(percent: float) -> str:
    """What a percentile of the latency is called."""
    return f"latency_ms_p{percent:g}"


def taken_keys(percentiles: Sequence[float]) -> frozenset[str]:
    """The keys that a callable's name may not take."""
    return FIXED_KEYS.union(latency_key(p) for p in percentiles)


def check_times(percentiles: Sequence[float], seconds: float) -> None:
    """Raise unless the percentiles are from 0 to 100 and the seconds are finite and not negative."""
    for percent in percentiles:
        if isinstance(percent, bool) or not isinstance(percent, Real) or not 0 <= percent <= 100:
            raise ValueError(f"percentiles has {percent!r}; wanted numbers from 0 to 100")
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 <= seconds < math.inf:
        raise ValueError(f"seconds is {seconds!r}; wanted a number of seconds of at least 0")


def check_like(model: BaseMLModel, baseline: BaseMLModel) -> None:
    """Raise unless both models take the same inputs."""
    ours, theirs = ([(s.name, s.dtype, len(s.shape)) for s in m.input_spec] for m in (model, baseline))
    if ours != theirs:
        texts = ["; ".join(map(str, m.input_spec)) for m in (model, baseline)]
        raise ValueError(f"the baseline takes {texts[1]}; the model takes {texts[0]}: wanted the same")
