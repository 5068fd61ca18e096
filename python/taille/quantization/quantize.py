"""`quantize_model`: the steps in order, from a model to its int8 graph with a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taille.batches import wanted_batch
from taille.compilation import provenance
from taille.compiled import CompiledModel
from taille.models import BaseMLModel, check_model
from taille.quantization.calibration import Samples
from taille.quantization.ignore import Ignored, ignored_nodes
from taille.quantization.measure import Columns, describe, measure
from taille.quantization.mixed import BATCH, DEFAULT_DROP, SAMPLES, Choice, Layers, Trials, choose
from taille.quantization.never_slower import Timing, time_layers
from taille.quantization.options import HALF_PRECISIONS, Options, Progress
from taille.quantization.prepare import Prepared, prepare
from taille.quantized import QuantizedModel

if TYPE_CHECKING:
    from taille import _native
    from taille.torch_model import TorchModel

__all__ = ["quantize_model"]

log = logging.getLogger(__name__)


def quantize_model(
    model: BaseMLModel,
    precision: str = "int8",
    *,
    calibration_samples: int = 1000,
    calibrator: str = "mse",
    weight_clipping: str = "auto",
    bias_correction: bool = True,
    smooth: float | bool | None = True,
    ignore: Sequence[Ignored] = (),
    max_accuracy_drop: float | None = None,
    never_slower: bool = True,
    measure_layers: bool = False,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantise a model after training.

    "int8": weights in int8 per output channel, activations in uint8 per tensor, tables of embeddings in int8 per row.
    The float32 graph runs over the calibration data in the native executor with streaming statistics, so memory does
    not grow with the number of samples.

    "mixed": int8, but the weights of layers that this harms stay float16, chosen by measured sensitivity so that the
    quality falls by `max_accuracy_drop` at most; tables of embeddings are float16. Where float16 overflows or harms,
    weights stay float32. Every fourth sample is kept from calibration, to measure on.

    "float16", "bfloat16": the weights of linear layers, convolutions and embeddings are stored in 16 bits, in the file
    and in memory, and computed with in float32. Results are those of the float32 model with its weights rounded: to 11
    significant bits by float16 (up to 65504), to 8 by bfloat16. Needs no calibration data; what follows about
    calibration, clipping, biases and smoothing does not apply.

    Args:
        model: a `TorchModel`; for int8 and mixed with `calibration_data`. The data is iterated once, and once more for
            each of `bias_correction`, `smooth`, "mixed" and `measure_layers`.
        precision: "int8", "mixed", "float16" or "bfloat16".
        calibration_samples: how many samples (not batches) of the calibration data to use at most.
        calibrator: how ranges are chosen: "minmax"; "percentile" (99.99 %, cuts rare outliers off); "entropy" (least
            Kullback-Leibler divergence; Migacz 2017); "mse" (least mean squared error). All come from one pass.
        weight_clipping: "mse": each output channel's scale is the one of least squared error (Choukroun et al. 2019,
            arXiv:1902.06822). "pairs": the same, but neighbouring weights of one sign are held to magnitudes that add
            up to at most 128, so that CPUs without VNNI, which add products in pairs of 16 bits, are exact at their
            full speed. "none": the scale is max|w| / 127. "auto": "pairs" where this CPU has AVX2 and no more, else
            "mse".
        bias_correction: take the mean error of each layer's output channels, measured on the calibration data, off its
            bias (Nagel et al. 2019, arXiv:1906.04721), where it is a shift of many values and not the work of a few.
        smooth: SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): move the size of large activation channels into the
            weights of the linear layers that read them, where that is exact. An alpha from 0 (nothing of it) to 1 (all
            of it); True: 0.5; None or False: not at all.
        ignore: what stays float32: names of nodes; ops ("conv2d"); shell patterns ("encoder.layer.0.*"); regular
            expressions that match the whole name, compiled or as "re:..."; classes of modules (`nn.Linear`).
        max_accuracy_drop: with "mixed": how far `model.eval_fn` may fall below its value for the float32 model, by
            default 0.01; without an `eval_fn`, the largest 1 - cosine similarity of the outputs to those in float32.
        never_slower: time every int8 layer here, with the conversions around it, on one sample and all threads, and
            leave those in float32 that are faster so. The report and the artefact keep what was found. Tables of
            embeddings are not timed: they are int8 to be small.
        measure_layers: measure for the report the error of every node's output, alone and in the network, and its
            time, on 64 calibration samples.
        progress: called with a stage ("calibrating"), how much is done and of how much.

    Raises:
        TypeError: `model` is not a TorchModel, or the calibration data gives something that is no batch.
        ValueError: an unknown or unfitting option, an entry of `ignore` that matches no node, calibration data
            that is missing, empty, of another shape, or cannot be iterated as often as needed, a NaN or infinite
            weight, a weight beyond float16's range.
        taille.CaptureError: the model has ops that are not supported; the message lists all of them.
    """
    options = Options(precision, calibration_samples, calibrator, weight_clipping, bias_correction, smooth, ignore,
                      max_accuracy_drop, never_slower)  # fmt: skip
    model = check_model(model, "taille.quantize_model")
    from taille import _native
    from taille.capture import capture
    from taille.torch_model import TorchModel

    if not isinstance(model, TorchModel):
        raise TypeError(f"quantize_model takes a TorchModel, not {type(model).__name__}; quantise before compiling")
    check_data(model, precision, measure_layers)
    captured = capture(model)
    graph, _ = _native.optimize(captured.graph)
    ignored = ignored_nodes(graph, model.module, ignore)
    samples = Samples(model, captured.limits, calibration_samples, hold_out=precision == "mixed", progress=progress)
    source = {**provenance(model), "limits": captured.limits}
    if precision in HALF_PRECISIONS:
        done = to_half(graph, ignored, options)
    else:
        done = to_int8(prepare(graph, ignored, options, samples), samples, model, source)
    columns: Columns = measure(done.exact, done.quantized, samples) if measure_layers else {}
    report = describe(done.exact, done.quantized, done.layers, done.sites, columns)
    why = {r.name: r.why for r in report if r.why}
    metadata = {**source, "recipe": [*source["recipe"], done.step], "why": why}
    log.info("quantised %s: %s", model.name, report.counts())
    return QuantizedModel(done.quantized, metadata, report, model)


def check_data(model: TorchModel, precision: str, measure_layers: bool) -> None:
    """Raise a ValueError where calibration data is needed and there is none."""
    if model.calibration_data is None and (measure_layers or precision not in HALF_PRECISIONS):
        raise ValueError(
            f"{'measure_layers' if precision in HALF_PRECISIONS else precision} needs calibration data: "
            f"taille.TorchModel(..., calibration_data=batches), where each batch holds {wanted_batch(model.input_spec)}"
        )


@dataclass(frozen=True)
class Done:
    """A graph before and after.

    Attributes:
        exact: in float32.   quantized: what was made of it.
        layers: what the native passes said of each layer.   sites: what SmoothQuant did.
        step: what the recipe records.
    """

    exact: _native.Graph
    quantized: _native.Graph
    layers: list[dict[str, Any]]
    sites: list[dict[str, Any]]
    step: dict[str, Any]


def to_half(graph: _native.Graph, ignored: Sequence[str], options: Options) -> Done:
    """Store weights in 16 bits."""
    from taille import _native

    nodes = [name for name in _native.half_candidates(graph) if name not in ignored]
    half, layers = _native.half_weights(graph, options.precision, nodes)
    return Done(graph, half, layers, [], options.step(0))


def to_int8(work: Prepared, samples: Samples, model: TorchModel, metadata: dict[str, Any]) -> Done:
    """Make all layers int8, or those that mixed precision chooses, but for those that are faster in float32."""
    choice = mixed(work, samples, model, metadata) if work.options.precision == "mixed" else None
    kept, half = (choice.kept, choice.half) if choice else ((), ())
    timing = timed(work, samples, kept, half) if work.options.never_slower else Timing()
    quantized, layers = work.quantize([*kept, *timing.kept], half)
    for row in layers:
        if choice and (row["name"] in choice.kept or row["name"] in choice.half):
            row["why"] = choice.why(row["name"])
        elif row["name"] in timing.why:
            row["why"] = timing.why[row["name"]]
    step = work.options.step(samples.count) | ({"mixed": choice.record()} if choice else {})
    return Done(work.exact, quantized, layers, work.sites, step | {"faster_in_float32": timing.kept})


def timed(work: Prepared, samples: Samples, kept: Sequence[str], half: Sequence[str]) -> Timing:
    """Find the layers that are faster in float32, beside those kept; see `taille.quantization.never_slower`."""
    layers = [row["name"] for row in work.quantize(kept, half)[1]
              if row["precision"] == "int8" and row["op"] != "embedding"]  # fmt: skip
    return time_layers(
        layers, work.exact, lambda more: work.quantize([*kept, *more], half)[0], samples.example, samples.progress
    )


def mixed(work: Prepared, samples: Samples, model: TorchModel, metadata: dict[str, Any]) -> Choice:
    """Choose each layer's precision; see `taille.quantization.mixed`."""
    eval_fn, drop = model.eval_fn, work.options.max_accuracy_drop
    quality = (lambda graph: float(eval_fn(CompiledModel(graph, metadata)))) if eval_fn else None
    trials = Trials(work.exact, samples.held_out(SAMPLES, BATCH), quality, samples.progress)
    return choose(
        choices(work), lambda kept, half: work.quantize(kept, half)[0], trials, DEFAULT_DROP if drop is None else drop
    )


def choices(work: Prepared) -> Layers:
    """What mixed precision chooses from: what is not ignored and can have another precision."""
    from taille import _native

    able = {row["name"]: row["op"] for row in work.quantize()[1] if row["precision"] == "int8"}
    narrow = [name for name in _native.half_candidates(work.exact) if name not in work.ignored]
    overflowing = _native.half_overflows(work.exact, "float16")
    return Layers(
        int8=tuple(name for name, op in able.items() if op != "embedding"),
        tables=tuple(name for name, op in able.items() if op == "embedding"),
        half=tuple(name for name in narrow if name not in overflowing),
        overflowing=tuple(name for name in narrow if name in overflowing),
    )
