"""What to measure a model on: the user's `test_data`, checked before anything long begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from taille.arrays import Array, as_array, check_arrays, is_tensor, name_inputs
from taille.batches import Arrays
from taille.hints import did_you_mean
from taille.measurement.metrics import METRICS
from taille.models import TensorSpec

__all__ = ["Request", "Samples", "read_request", "read_samples"]

KEYS = ("inputs", "targets", "metric", "batch_size")
BATCH_SIZE = 32


@dataclass(frozen=True)
class Samples:
    """Inputs of a model, many samples of them.

    Attributes:
        arrays: by input name.   batched: the inputs whose dimension 0 is the samples.
        count: how many samples.   batch_size: how many of them a call takes.
        tensors: whether they came as torch tensors.
    """

    arrays: Arrays
    batched: frozenset[str]
    count: int
    batch_size: int
    tensors: bool

    def batches(self) -> Iterator[tuple[slice, Arrays]]:
        """All samples in turn, in batches; the last one may be smaller."""
        for start in range(0, self.count, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self.count))
            yield rows, self.pick(rows)

    def full_batch(self) -> Arrays:
        """One batch of exactly `batch_size` samples, which repeat where there are fewer."""
        return self.pick(np.arange(self.batch_size) % self.count)

    def pick(self, rows: Any) -> Arrays:
        """These rows of the batched inputs, and the other inputs."""
        return {n: np.ascontiguousarray(a[rows]) if n in self.batched else a for n, a in self.arrays.items()}


@dataclass(frozen=True)
class Request:
    """A checked `test_data`.

    Attributes:
        samples: the inputs.
        targets: as they were given; None: there are none, and no quality is measured.
        metric: what the quality is called: of `METRICS`, or the name of `function`.
        function: the callable that was given, if one was.
    """

    samples: Samples
    targets: Any
    metric: str
    function: Callable[[Any, Any], Any] | None


def read_request(test_data: Any, spec: Sequence[TensorSpec]) -> Request:
    """Check `test_data` against the model's inputs; see `taille.measurement.measure_performance`.

    Raises:
        TypeError, ValueError: the message names the key.
    """
    if not isinstance(test_data, Mapping):
        raise TypeError(f"test_data is {type(test_data).__name__}; wanted a dict of {', '.join(KEYS)}")
    for key in test_data:
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r} in test_data; {did_you_mean(key, KEYS)}there are {', '.join(KEYS)}")
    metric = test_data.get("metric", "accuracy")
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"test_data['metric'] is {metric!r}; wanted one of {', '.join(METRICS)}, or a callable")
    if test_data.get("inputs") is None:
        raise ValueError("test_data has no inputs; wanted " + "; ".join(map(str, spec)))
    samples = read_samples(test_data["inputs"], spec, test_data.get("batch_size"))
    targets = test_data.get("targets")
    if targets is not None:
        check_targets(targets, samples.count)
    if callable(metric):
        return Request(samples, targets, str(getattr(metric, "__name__", "")), metric)
    if targets is not None:
        targets = plain_array(targets)
    return Request(samples, targets, metric, None)


def read_samples(inputs: Any, spec: Sequence[TensorSpec], batch_size: Any = None) -> Samples:
    """Check inputs, many samples at once, against the model's.

    Args:
        inputs: as for `predict`, but with any number of samples in dimension 0.
        spec: the model's inputs.
        batch_size: samples per call. None: 32, or all where there are fewer, or what the model is fixed to.

    Raises:
        TypeError, ValueError: the message names the key of `test_data`.
    """
    where = "test_data['inputs']"
    try:
        named = name_inputs(inputs, [s.name for s in spec])
        arrays = {name: as_array(name, value) for name, value in named.items()}
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    first = spec[0]
    if not first.shape or not arrays[first.name].ndim:
        raise ValueError(f"{where}: '{first.name}' has no dimension of samples; wanted {first}")
    dim = first.shape[0]
    batched = frozenset(s.name for s in spec if s.shape and s.shape[0] == dim)
    lengths = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in arrays if name in batched}
    count = lengths[first.name]
    if len(set(lengths.values())) > 1 or count < 1:
        text = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise ValueError(f"{where} has samples: {text}; wanted one number of them, at least 1")
    size = check_batch_size(batch_size, count, dim)
    samples = Samples(arrays, batched, count, size, any(is_tensor(v) for v in named.values()))
    try:
        check_arrays(samples.pick(slice(0, min(size, count))), spec, {})
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    return samples


def check_batch_size(given: Any, count: int, dim: int | str) -> int:
    """How many samples a call takes."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, Integral)):
        raise TypeError(f"test_data['batch_size'] is {given!r}; wanted a whole number of at least 1")
    if given is not None and given < 1:
        raise ValueError(f"test_data['batch_size'] is {given}; wanted at least 1")
    if isinstance(dim, str):
        return min(BATCH_SIZE, count) if given is None else int(given)
    if given not in (None, dim):
        raise ValueError(f"test_data['batch_size'] is {given}; the model's batch is fixed to {dim}")
    if count % dim:
        raise ValueError(
            f"test_data['inputs'] has {count} samples; the model's batch is fixed to {dim}: wanted a multiple"
        )
    return dim


def check_targets(targets: Any, count: int) -> None:
    """Targets are as many as the samples, and none of them is NaN."""
    if isinstance(targets, Mapping):
        parts = {f"test_data['targets'][{key!r}]": value for key, value in targets.items()}
    elif isinstance(targets, tuple) and any(hasattr(t, "shape") for t in targets):
        parts = {f"test_data['targets'][{i}]": value for i, value in enumerate(targets)}
    else:
        parts = {"test_data['targets']": targets}
    for name, part in parts.items():
        try:
            length = len(part)
        except TypeError:  # a scalar array too
            raise TypeError(f"{name} is {type(part).__name__}; wanted one target per sample, {count}") from None
        if length != count:
            raise ValueError(f"{name} has {length} targets; test_data['inputs'] has {count} samples")
        array = as_array(name, part) if hasattr(part, "shape") else np.empty(0)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{name} is NaN at sample {int(np.argwhere(np.isnan(array))[0][0])}")


def plain_array(targets: Any) -> Array:
    """Targets of a named metric as one array of real numbers."""
    array = as_array("targets", targets) if hasattr(targets, "shape") else np.asarray(targets)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"test_data['targets'] is of {array.dtype}; wanted numbers")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"test_data['targets'] is NaN at sample {int(np.argwhere(np.isnan(array))[0][0])}")
    return array
