"""What is measured once, before any choice of layers: ranges, SmoothQuant's factors, mean errors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taille.arrays import Array
from taille.quantization.calibration import Samples
from taille.quantization.options import Options

if TYPE_CHECKING:
    from taille import _native

__all__ = ["Prepared", "prepare"]

PERCENTILE = 99.99  # of the values; what the calibrator "percentile" keeps


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
        weights: those that were quantised before.
    """

    exact: _native.Graph
    ranges: dict[str, tuple[float, float]]
    sites: list[dict[str, Any]]
    ignored: list[str]
    options: Options
    mean_errors: dict[str, Array]
    weights: _native.QuantizedWeights

    def quantize(
        self, kept: Collection[str] = (), half: Collection[str] = ()
    ) -> tuple[_native.Graph, list[dict[str, Any]]]:
        """The int8 graph and a row per layer.

        Args:
            kept: layers that do not become int8, besides those ignored.
            half: those of the layers that do not become int8 whose weights are stored in float16.
        """
        from taille import _native

        ignore = sorted({*self.ignored, *kept})
        graph, layers = _native.quantize(self.exact, self.ranges, ignore, self.options.clipping, self.weights)
        int8 = {row["name"] for row in layers if row["precision"] == "int8"}
        graph = _native.correct_bias(graph, {n: e for n, e in self.mean_errors.items() if n in int8})
        if not half:
            return graph, layers
        graph, rows = _native.half_weights(graph, "float16", sorted(half))
        stored = {row["name"]: row for row in rows if row["name"] in half}
        return graph, [stored.get(row["name"], row) for row in layers]


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
    work = Prepared(graph, ranges, sites, ignored, options, {}, _native.QuantizedWeights())
    if not options.bias_correction:
        return work
    errors = _native.LayerErrors(graph, work.quantize()[0])
    samples.feed("measuring biases", errors.run)
    found = {name: layer["mean_error"] for name, layer in errors.layers().items()}
    return replace(work, mean_errors={name: error for name, error in found.items() if error.size})
