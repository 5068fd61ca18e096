"""The report of a quantised graph: from what the native quantiser said of each layer, and, asked for, measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taille.batches import Arrays
from taille.layer_report import LayerReport, NodeReport, SmoothReport
from taille.quantization.calibration import Samples
from taille.quantization.options import HALF_PRECISIONS

if TYPE_CHECKING:
    from taille import _native

__all__ = ["describe", "measure"]

SAMPLES = 64  # that errors are measured on
BATCH = 8  # of them at a time, since the outputs of all nodes are held
RUNS = 5  # that times are the medians of

Columns = dict[str, dict[str, Any]]  # by node: fields of NodeReport


def describe(
    exact: _native.Graph,
    quantized: _native.Graph,
    layers: Sequence[Mapping[str, Any]],
    sites: Sequence[Mapping[str, Any]],
    measured: Columns,
) -> LayerReport:
    """A row for every node of the quantised graph.

    Args:
        exact: the float32 graph.
        quantized: what was made of it.
        layers: what the native quantiser said of each layer.
        sites: what SmoothQuant said of each site, if it ran.
        measured: what `measure` found, or nothing.
    """
    known = {row["name"]: row for row in layers}
    before, after = constant_bytes(exact), constant_bytes(quantized)
    rows = []
    for node in quantized.nodes:
        name = node["name"]
        layer = known.get(name, {"precision": node["dtype"], "why": "", "weight_sqnr_db": None})
        has_weights = layer["precision"] in ("int8", *HALF_PRECISIONS) and after[name] > 0
        rows.append(
            NodeReport(
                name, node["op"], layer["precision"], layer["why"], layer["weight_sqnr_db"] if has_weights else None,
                weight_bytes_before=before.get(name, 0), weight_bytes_after=after[name], **measured.get(name, {}),
            )
        )  # fmt: skip
    return LayerReport(tuple(rows), tuple(SmoothReport(tuple(s["layers"]), s["into"], s["why"]) for s in sites))


def constant_bytes(graph: _native.Graph) -> dict[str, int]:
    """Bytes of the constants that each node reads, by its name."""
    nodes = graph.nodes
    made = {node["output"] for node in nodes}
    inputs = {name for name, _, _ in graph.inputs}
    found = {}
    for node in nodes:
        total = 0
        for value in node["inputs"]:
            if value < 0 or value in made:
                continue
            name, dtype, shape = graph.value(value)
            if name not in inputs:
                size = 2 if dtype in HALF_PRECISIONS else np.dtype(dtype).itemsize  # numpy has no bfloat16
                total += math.prod(int(d) for d in shape) * size
        found[node["name"]] = total
    return found


def measure(exact: _native.Graph, quantized: _native.Graph, samples: Samples) -> Columns:
    """SQNR of every node's output, alone and in the network, and its time in both; on calibration samples."""
    from taille import _native

    alone, network = _native.LayerErrors(exact, quantized), _native.NetworkErrors(exact, quantized)
    batches: list[Arrays] = []

    def run(arrays: Arrays) -> None:
        if not batches:
            batches.append(arrays)
        alone.run(arrays)
        network.run(arrays)

    samples.feed("measuring layers", run, most=SAMPLES, size=BATCH)
    columns: Columns = {node["name"]: {} for node in quantized.nodes}
    for name, layer in alone.layers().items():
        columns[name]["layer_sqnr_db"] = layer["sqnr_db"]
    for name, sqnr in network.sqnr_db().items():
        columns[name]["output_sqnr_db"] = sqnr
    for field, graph in (("seconds_before", exact), ("seconds_after", quantized)):
        for name, seconds in times(_native.Model(graph), batches[0]).items():
            if name in columns:
                columns[name][field] = seconds
    return columns


def times(model: _native.Model, arrays: Arrays) -> dict[str, float]:
    """The median seconds of each node of the model on one batch."""
    runs = [{row["name"]: float(row["seconds"]) for row in model.profile(arrays)} for _ in range(RUNS)]
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
