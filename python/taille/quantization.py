"""Quantisation: to int8, calibrated in the native executor; and weights to 16 bits."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taille.arrays import Array, Limits, as_array, check_arrays
from taille.compilation import provenance
from taille.half import HALF_PRECISIONS, half_model
from taille.models import BaseMLModel, TensorSpec, check_model
from taille.quantized import NodeReport, QuantizedModel

if TYPE_CHECKING:
    from taille import _native

__all__ = ["quantize_model"]

log = logging.getLogger(__name__)

PRECISIONS = ("int8", *HALF_PRECISIONS)
CALIBRATORS = ("minmax", "percentile", "entropy", "mse")
PERCENTILE = 99.99  # of the absolute values; what "percentile" keeps


def quantize_model(
    model: BaseMLModel,
    precision: str = "int8",
    *,
    calibration_samples: int = 1000,
    calibrator: str = "minmax",
    ignore: Sequence[str] = (),
) -> QuantizedModel:
    """Quantise a model after training.

    "int8": weights in int8 per output channel, activations in uint8 per tensor. The float32 graph runs over the
    calibration data in the native executor with streaming statistics, so memory does not grow with the number of
    samples.

    "float16", "bfloat16": the weights of linear layers, convolutions and embeddings are stored in 16 bits, in the file
    and in memory, and computed with in float32. Results are those of the float32 model with its weights rounded: to 11
    significant bits by float16 (up to 65504), to 8 by bfloat16. Needs no calibration data.

    Args:
        model: a `TorchModel`; for int8 with `calibration_data`.
        precision: "int8", "float16" or "bfloat16".
        calibration_samples: how many samples (not batches) of the calibration data to use at most.
        calibrator: how ranges are chosen: "minmax"; "percentile" (99.99 %, cuts rare outliers off); "entropy" (least
            Kullback-Leibler divergence; Migacz 2017); "mse" (least mean squared error). All come from one pass.
        ignore: names of nodes that stay float32, or shell patterns such as "encoder.layer.0.*".

    Raises:
        TypeError: `model` is not a TorchModel, or the calibration data gives something that is no batch.
        ValueError: an unknown precision or calibrator, a pattern of `ignore` that matches no node, calibration data
            that is missing, empty or of another shape, a NaN or infinite weight, a weight beyond float16's range.
        taille.CaptureError: the model has ops that are not supported; the message lists all of them.
    """
    check_options(precision, calibration_samples, calibrator)
    model = check_model(model, "taille.quantize_model")
    from taille import _native
    from taille.capture import capture
    from taille.torch_model import TorchModel

    if not isinstance(model, TorchModel):
        raise TypeError(f"quantize_model takes a TorchModel, not {type(model).__name__}; quantise before compiling")
    if precision in HALF_PRECISIONS:
        captured = capture(model)
        graph, _ = _native.optimize(captured.graph)
        return half_model(model, graph, captured.limits, precision, ignored_nodes(graph, ignore))
    if model.calibration_data is None:
        raise ValueError(
            f"{precision} needs calibration data: taille.TorchModel(..., calibration_data=batches), where each batch "
            f"holds {wanted_batch(model.input_spec)}"
        )
    captured = capture(model)
    graph, _ = _native.optimize(captured.graph)
    names = ignored_nodes(graph, ignore)
    calibration = _native.Calibrator(graph)
    samples = calibrate(calibration, model.calibration_data, model.input_spec, captured.limits, calibration_samples)
    ranges = calibration.ranges(calibrator, PERCENTILE)
    quantized, rows = _native.quantize(graph, ranges, sorted(names))
    step = {
        "step": "quantize", "precision": precision, "calibrator": calibrator, "calibration_samples": samples,
        "ignore": list(ignore),
    }  # fmt: skip
    source = provenance(model)
    report = tuple(NodeReport(r["name"], r["op"], r["precision"], r["why"], r["weight_sqnr_db"]) for r in rows)
    left_alone = {r.name: r.why for r in report if r.why}
    metadata = {**source, "recipe": [*source["recipe"], step], "limits": captured.limits, "left_alone": left_alone}
    log.info("quantised %s on %d samples: %d of %d nodes int8", model.name, samples,
             sum(r.precision == "int8" for r in report), len(report))  # fmt: skip
    return QuantizedModel(quantized, metadata, report, model)


def check_options(precision: str, calibration_samples: int, calibrator: str) -> None:
    """Raise a ValueError for an option that does not exist."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if calibrator not in CALIBRATORS:
        raise ValueError(f"unknown calibrator {calibrator!r}; there are {', '.join(CALIBRATORS)}")
    if calibration_samples < 1:
        raise ValueError(f"calibration_samples is {calibration_samples}; wanted at least 1")


def ignored_nodes(graph: _native.Graph, patterns: Sequence[str]) -> list[str]:
    """The nodes that the patterns name; a pattern that names none is a ValueError."""
    if isinstance(patterns, str):
        raise TypeError(f"ignore is the text {patterns!r}; wanted a sequence of names or patterns")
    nodes = [str(n["name"]) for n in graph.nodes]
    found: list[str] = []
    for pattern in patterns:
        matches = [n for n in nodes if n == pattern] or fnmatch.filter(nodes, pattern)
        if not matches:
            raise ValueError(f"ignore: no node is called {pattern!r}; the nodes are {', '.join(nodes)}")
        found += [m for m in matches if m not in found]
    return found


def wanted_batch(spec: Sequence[TensorSpec]) -> str:
    """What a calibration batch must hold, in words."""
    return "; ".join(map(str, spec))


def calibrate(
    calibration: _native.Calibrator, data: Iterable[Any], spec: Sequence[TensorSpec], limits: Limits, samples: int
) -> int:
    """Stream up to `samples` samples through the calibrator; gives how many there were."""
    used = 0
    for number, batch in enumerate(data):
        arrays = batch_arrays(number, batch, spec, limits)
        batched = bool(spec[0].shape) and isinstance(spec[0].shape[0], str)
        size = next(iter(arrays.values())).shape[0] if batched else 1
        if batched and used + size > samples:
            size = samples - used
            arrays = {
                s.name: arrays[s.name][:size] if s.shape and s.shape[0] == spec[0].shape[0] else arrays[s.name]
                for s in spec
            }
        calibration.run({n: a.copy(order="C") if not a.flags.c_contiguous else a for n, a in arrays.items()})
        used += size
        if used >= samples:
            break
    if used == 0:
        raise ValueError(f"the calibration data is empty; wanted batches of {wanted_batch(spec)}")
    return used


def batch_arrays(number: int, batch: Any, spec: Sequence[TensorSpec], limits: Limits) -> dict[str, Array]:
    """Take the model's inputs out of one batch; entries beyond them (labels) are not used."""
    names = [s.name for s in spec]
    where = f"calibration batch {number}"
    if isinstance(batch, Mapping):
        missing = [n for n in names if n not in batch]
        if missing:
            raise ValueError(f"{where} has no {', '.join(missing)}; wanted {wanted_batch(spec)}")
        values: Iterator[Any] = (batch[n] for n in names)
    elif isinstance(batch, (tuple, list)):
        if len(batch) < len(names):
            raise ValueError(f"{where} holds {len(batch)} arrays; wanted {wanted_batch(spec)}")
        values = iter(batch[: len(names)])
    else:
        if len(names) > 1:
            raise ValueError(f"{where} is one {type(batch).__name__}; wanted {wanted_batch(spec)}")
        values = iter((batch,))
    try:
        arrays = {n: as_array(n, v) for n, v in zip(names, values, strict=True)}
        check_arrays(arrays, spec, limits)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    return arrays
