"""Weights in 16 bits: float16 and bfloat16, computed with in float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taille.arrays import Limits
from taille.compilation import provenance
from taille.models import BaseMLModel
from taille.quantized import NodeReport, QuantizedModel

if TYPE_CHECKING:
    from taille import _native

__all__ = ["HALF_PRECISIONS", "half_model"]

log = logging.getLogger(__name__)

HALF_PRECISIONS = ("float16", "bfloat16")


def half_model(
    model: BaseMLModel, graph: _native.Graph, limits: Limits, precision: str, ignore: Sequence[str]
) -> QuantizedModel:
    """Store the weights of an optimised graph in 16 bits.

    Args:
        model: where the graph comes from: the parent of the result.
        graph: the optimised float32 graph.
        limits: of the dynamic dimensions, for the metadata.
        precision: one of HALF_PRECISIONS.
        ignore: names of nodes whose weights stay float32.

    Raises:
        ValueError: a weight is beyond the range of `precision`; the message names the tensor.
    """
    from taille import _native

    nodes = [name for name in _native.half_candidates(graph) if name not in ignore]
    half, rows = _native.half_weights(graph, precision, nodes)
    report = tuple(NodeReport(r["name"], r["op"], r["precision"], r["why"], r["weight_sqnr_db"]) for r in rows)
    source = provenance(model)
    step = {"step": "quantize", "precision": precision, "ignore": list(ignore)}
    left_alone = {r.name: r.why for r in report if r.why}
    metadata = {**source, "recipe": [*source["recipe"], step], "limits": limits, "left_alone": left_alone}
    log.info("stored the weights of %d of %d nodes of %s as %s", len(nodes), len(report), source.get("name"), precision)
    return QuantizedModel(half, metadata, report, model)
