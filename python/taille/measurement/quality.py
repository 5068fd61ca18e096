"""The quality of a native model's outputs on a user's samples."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from taille.arrays import Array
from taille.compiled import CompiledModel
from taille.measurement.metrics import METRICS, check_shapes
from taille.measurement.request import Request

__all__ = ["measure_quality"]

LOWER_IS_BETTER = ("rmse",)


def measure_quality(model: CompiledModel, request: Request, taken: frozenset[str]) -> dict[str, float]:
    """The metric that the request names, over all samples; nothing where there are no targets.

    Args:
        model: runs on every sample.
        request: its inputs, targets and metric.
        taken: keys that a callable's name may not take.

    Returns:
        `accuracy`, of which higher is better, and the metric under its own name, where it has one that is free.

    Raises:
        ValueError: an output is NaN or has no samples, the metric does not suit the outputs, or is NaN or infinite.
        RuntimeError: the callable raised; what it raised is the cause.
    """
    if request.targets is None:
        return {}
    outputs = run_all(model, request)
    try:
        if request.function is None:
            value: Any = METRICS[request.metric](single(request.metric, outputs), request.targets)
        else:
            value = request.function(outputs, request.targets)
    except Exception as error:
        if request.function is None:
            raise ValueError(f"test_data['metric']: {error}") from None
        text = f"{type(error).__name__}: {error}"
        raise RuntimeError(f"test_data['metric'], {request.metric or 'the callable'}, raised {text}") from error
    value = as_number(value, request.metric)
    quality = -value if request.metric in LOWER_IS_BETTER and request.function is None else value
    own = {} if not request.metric.isidentifier() or request.metric in taken else {request.metric: value}
    return {**own, "accuracy": quality}


def as_number(value: Any, metric: str) -> float:
    """What a metric gave, as a finite float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"test_data['metric'], {metric or 'the callable'}, gave {type(value).__name__}; wanted one number"
        ) from None
    if not math.isfinite(number):
        raise ValueError(f"test_data['metric'], {metric or 'the callable'}, gave {number}; wanted a finite number")
    return number


def run_all(model: CompiledModel, request: Request) -> Any:
    """The outputs for all samples, as the model gives them, in the kind that the inputs came in."""
    parts: list[list[Array]] = []
    names = [s.name for s in model.output_spec]
    given: Any = None
    for rows, arrays in request.samples.batches():
        given = model.predict(arrays)
        values = flat(given)
        for name, value in zip(names, values, strict=True):
            check_output(name, value, rows)
        if not parts and request.function is None:  # before the other batches run
            try:
                check_shapes(request.metric, single(request.metric, given), request.targets[rows])
            except ValueError as error:
                raise ValueError(f"test_data['metric']: {error}") from None
        parts.append(values)
    joined: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if request.samples.tensors and request.function is not None:
        joined = [sys.modules["torch"].from_numpy(a) for a in joined]
    if isinstance(given, Mapping):
        return dict(zip(given, joined, strict=True))
    return tuple(joined) if isinstance(given, tuple) else joined[0]


def flat(outputs: Any) -> list[Array]:
    """The arrays of a model's outputs, in order."""
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def check_output(name: str, value: Array, rows: slice) -> None:
    """One output of one batch has a row per sample, and no NaN."""
    count = rows.stop - rows.start
    if not value.ndim or len(value) != count:
        raise ValueError(f"output '{name}' has shape {list(value.shape)} for {count} samples; wanted a row for each")
    if value.dtype.kind == "f" and np.isnan(value).any():
        row = rows.start + int(np.argwhere(np.isnan(value))[0][0])
        raise ValueError(f"output '{name}' is NaN at sample {row} of test_data['inputs']")


def single(metric: str, outputs: Any) -> Array:
    """The one output that a named metric is about."""
    values = flat(outputs)
    if len(values) != 1:
        names = f" ({', '.join(outputs)})" if isinstance(outputs, Mapping) else ""
        raise ValueError(f"{metric} takes one output; the model gives {len(values)}{names}: pass a callable")
    return values[0]
