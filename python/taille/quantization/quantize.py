"""`quantize_model`: the steps in order, from a model to its int8 graph with a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taille.arrays import Array
from taille.batches import wanted_batch
from taille.compilation import provenance
from taille.compiled import CompiledModel
from taille.models import BaseMLModel, check_model
from taille.quantization.calibration import Samples
from taille.quantization.ignore import Ignored, ignored_nodes
from taille.quantization.measure import Columns, describe, measure
from taille.quantization.mixed import BATCH, DEFAULT_DROP, SAMPLES, Choice, choose
from taille.quantization.options import Options, Progress
from taille.quantized import QuantizedModel

if TYPE_CHECKING:
    from taille import _native
    from taille.torch_model import TorchModel

__all__ = ["quantize_model"]

log = logging.getLogger(__name__)

PERCENTILE = 99.99  # of the values; what the calibrator "percentile" keeps


def quantize_model(
    model: BaseMLModel,
    precision: str = "int8",
    *,
    calibration_samples: int = 1000,
    calibrator: str = "mse",
    weight_clipping: str = "mse",
    bias_correction: bool = True,
    smooth: float | bool | None = True,
    ignore: Sequence[Ignored] = (),
    max_accuracy_drop: float | None = None,
    measure_layers: bool = False,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantise a model after training: int8 weights per output channel, uint8 activations per tensor.

    The float32 graph runs over the calibration data in the native executor with streaming statistics, so memory does
    not grow with the number of samples.

    Args:
        model: a `TorchModel` with `calibration_data`. The data is iterated once, and once more for each of
            `bias_correction`, `smooth`, "mixed" and `measure_layers`.
        precision: "int8", or "mixed": some layers stay float32, chosen by measured sensitivity so that the quality
            falls by `max_accuracy_drop` at most. Every fourth sample is then kept from calibration, to measure on.
        calibration_samples: how many samples (not batches) of the calibration data to use at most.
        calibrator: how ranges are chosen: "minmax"; "percentile" (99.99 %, cuts rare outliers off); "entropy" (least
            Kullback-Leibler divergence; Migacz 2017); "mse" (least mean squared error). All come from one pass.
        weight_clipping: "mse": each output channel's scale is the one of least squared error (Choukroun et al. 2019,
            arXiv:1902.06822); "none": it is max|w| / 127.
        bias_correction: take the mean error of each layer's output channels, measured on the calibration data, off its
            bias (Nagel et al. 2019, arXiv:1906.04721), where it is a shift of many values and not the work of a few.
        smooth: SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): move the size of large activation channels into the
            weights of the linear layers that read them, where that is exact. An alpha from 0 (nothing of it) to 1 (all
            of it); True: 0.5; None or False: not at all.
        ignore: what stays float32: names of nodes; ops ("conv2d"); shell patterns ("encoder.layer.0.*"); regular
            expressions that match the whole name, compiled or as "re:..."; classes of modules (`nn.Linear`).
        max_accuracy_drop: with "mixed": how far `model.eval_fn` may fall below its value for the float32 model, by
            default 0.01; without an `eval_fn`, the largest 1 - cosine similarity of the outputs to those in float32.
        measure_layers: measure for the report the error of every node's output, alone and in the network, and its
            time, on 64 calibration samples.
        progress: called with a stage ("calibrating"), how much is done and of how much.

    Raises:
        TypeError: `model` is not a TorchModel, or the calibration data gives something that is no batch.
        ValueError: an unknown or unfitting option, an entry of `ignore` that matches no node, calibration data
            that is missing, empty, of another shape, or cannot be iterated as often as needed, a NaN or infinite
            weight.
        taille.CaptureError: the model has ops that are not supported; the message lists all of them.
    """
    options = Options(precision, calibration_samples, calibrator, weight_clipping, bias_correction, smooth, ignore,
                      max_accuracy_drop)  # fmt: skip
    model = check_model(model, "taille.quantize_model")
    from taille import _native
    from taille.capture import capture
    from taille.torch_model import TorchModel

    if not isinstance(model, TorchModel):
        raise TypeError(f"quantize_model takes a TorchModel, not {type(model).__name__}; quantise before compiling")
    if model.calibration_data is None:
        raise ValueError(
            f"{precision} needs calibration data: taille.TorchModel(..., calibration_data=batches), where each batch "
            f"holds {wanted_batch(model.input_spec)}"
        )
    captured = capture(model)
    graph, _ = _native.optimize(captured.graph)
    ignored = ignored_nodes(graph, model.module, ignore)
    samples = Samples(model, captured.limits, calibration_samples, hold_out=precision == "mixed", progress=progress)
    work = prepare(graph, ignored, options, samples)
    source = {**provenance(model), "limits": captured.limits}
    choice = mixed(work, samples, model, source) if precision == "mixed" else None
    quantized, layers = work.quantize(choice.kept if choice else ())
    if choice:
        explain(layers, choice)
    columns: Columns = measure(work.exact, quantized, samples) if measure_layers else {}
    report = describe(work.exact, quantized, layers, work.sites, columns)
    step = options.step(samples.count) | ({"mixed": choice.record()} if choice else {})
    left_alone = {r.name: r.why for r in report if r.why}
    metadata = {**source, "recipe": [*source["recipe"], step], "left_alone": left_alone}
    log.info("quantised %s on %d samples: %d of %d nodes int8", model.name, samples.count,
             sum(r.precision == "int8" for r in report), len(report))  # fmt: skip
    return QuantizedModel(quantized, metadata, report, model)


@dataclass(frozen=True)
class Prepared:
    """A float32 graph with all that is needed to quantise it, in any choice of layers.

    Attributes:
        exact: optimised, and smoothed where that was asked for.
        ranges: of its values.
        sites: what SmoothQuant did.
        ignored: names of nodes that stay float32 by request.
        options: what the user asked for.
        mean_errors: of each layer's channels if it is int8, where biases are to be corrected. They were measured for
            each layer alone, so they hold whichever layers are int8.
    """

    exact: _native.Graph
    ranges: dict[str, tuple[float, float]]
    sites: list[dict[str, Any]]
    ignored: list[str]
    options: Options
    mean_errors: dict[str, Array]

    def quantize(self, kept: Sequence[str] = ()) -> tuple[_native.Graph, list[dict[str, Any]]]:
        """The int8 graph and a row per layer, with these layers kept in float32 besides those ignored."""
        from taille import _native

        ignore = sorted({*self.ignored, *kept})
        graph, layers = _native.quantize(self.exact, self.ranges, ignore, self.options.weight_clipping)
        int8 = {row["name"] for row in layers if row["precision"] == "int8"}
        return _native.correct_bias(graph, {n: e for n, e in self.mean_errors.items() if n in int8}), layers


def prepare(graph: _native.Graph, ignored: list[str], options: Options, samples: Samples) -> Prepared:
    """Calibrate; smooth, which changes the ranges, so calibrate again; measure what biases are to be corrected by."""
    from taille import _native

    calibrator = _native.Calibrator(graph)
    samples.feed("calibrating", calibrator.run)
    sites: list[dict[str, Any]] = []
    if options.alpha is not None:
        graph, sites = _native.smooth(graph, calibrator.channel_maxima(), options.alpha)
    if any(site["into"] for site in sites):
        calibrator = _native.Calibrator(graph)
        samples.feed("calibrating smoothed", calibrator.run)
    ranges = calibrator.ranges(options.calibrator, PERCENTILE)
    work = Prepared(graph, ranges, sites, ignored, options, {})
    if not options.bias_correction:
        return work
    errors = _native.LayerErrors(graph, work.quantize()[0])
    samples.feed("measuring biases", errors.run)
    found = {name: layer["mean_error"] for name, layer in errors.layers().items()}
    return replace(work, mean_errors={name: error for name, error in found.items() if error.size})


def mixed(work: Prepared, samples: Samples, model: TorchModel, metadata: dict[str, Any]) -> Choice:
    """Choose the layers that stay float32; see `taille.quantization.mixed`."""
    eval_fn, drop = model.eval_fn, work.options.max_accuracy_drop
    _, layers = work.quantize()
    return choose(
        [row["name"] for row in layers if row["precision"] == "int8"],
        lambda kept: work.quantize(kept)[0],
        work.exact,
        samples.held_out(SAMPLES, BATCH),
        (lambda graph: float(eval_fn(CompiledModel(graph, metadata)))) if eval_fn else None,
        DEFAULT_DROP if drop is None else drop,
        samples.progress,
    )


def explain(layers: Sequence[dict[str, Any]], choice: Choice) -> None:
    """Say of each layer that was kept in float32 what it would have cost in int8."""
    for row in layers:
        if row["name"] in choice.kept:
            cost = choice.sensitivity[row["name"]]
            row["why"] = f"kept by mixed precision: int8 here alone distorts the outputs by {cost:.2g}"
