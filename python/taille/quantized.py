"""What `quantize_model` gives: a native graph with its report, and the model it came from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.compiled import CompiledModel
from taille.layer_report import LayerReport
from taille.models import BaseMLModel, TensorSpec

if TYPE_CHECKING:
    from taille import _native

__all__ = ["QuantizedModel"]


class QuantizedModel(BaseMLModel):
    """A quantised model: runs natively, and compiles to an artefact with `compile_model`."""

    def __init__(self, graph: _native.Graph, metadata: dict[str, Any], report: LayerReport, parent: BaseMLModel):
        """Hold a quantised graph; made by `quantize_model`.

        Args:
            graph: the quantised native graph.
            metadata: JSON-compatible provenance, the recipe included.
            report: what became of each node; `str` gives a table, `to_json` an object.
            parent: the model that was quantised.
        """
        self.graph = graph
        self.report = report
        self.parent = parent
        self._metadata = metadata
        self._native: CompiledModel | None = None

    def _compiled(self) -> CompiledModel:
        if self._native is None:
            self._native = CompiledModel(self.graph, self._metadata)
        return self._native

    def release(self) -> None:
        """Give back what running it takes; the next `predict` makes it anew."""
        self._native = None

    def predict(self, inputs: Any) -> Any:
        """Run natively on one batch; see `BaseMLModel.predict`."""
        return self._compiled().predict(inputs)

    @property
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""
        return self._compiled().input_spec

    @property
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order."""
        return self._compiled().output_spec

    @property
    def size_bytes(self) -> int:
        """Bytes of the artefact that `save` writes."""
        return self._compiled().size_bytes

    @property
    def parameter_count(self) -> int:
        """How many numbers the graph's constants hold."""
        return self.graph.parameter_count()

    @property
    def sparsity(self) -> float:
        """The share of the weights that were zero in the parent; quantising keeps zeros."""
        return self.parent.sparsity

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, recipe and lineage: a fresh copy."""
        return copy.deepcopy(self._metadata)

    def save(self, path: str | Path) -> int:
        """Write the artefact atomically; gives the bytes written."""
        from taille import _native

        return _native.save_artefact(str(path), self.graph, json.dumps(self._metadata))

    def __repr__(self) -> str:
        return f"<QuantizedModel {self._metadata.get('name')}: {self.report.counts()}>"
