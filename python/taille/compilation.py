"""From a model to a native artefact: capture, passes, executor."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from taille.compiled import CompiledModel
from taille.models import BaseMLModel, check_model
from taille.quantized import QuantizedModel

if TYPE_CHECKING:
    from taille import _native

__all__ = ["compile_model", "lower", "provenance"]

log = logging.getLogger(__name__)


def provenance(model: BaseMLModel) -> dict[str, Any]:
    """What an artefact records about where it comes from: name, recipe, sparsity and versions."""
    import numpy as np

    import taille

    versions = {"taille": taille.__version__, "numpy": np.__version__}
    if "torch" in sys.modules:
        versions["torch"] = str(sys.modules["torch"].__version__)
    return {**model.metadata, "sparsity": model.sparsity, "versions": versions}


def lower(model: BaseMLModel) -> tuple[_native.Graph, dict[str, Any]]:
    """The optimised native graph of `model`, and the metadata its artefact stores.

    Raises:
        taille.CaptureError, ValueError: as `TorchModel.capture`.
    """
    if isinstance(model, (QuantizedModel, CompiledModel)):
        return model.graph, model.metadata
    from taille import _native
    from taille.capture import capture
    from taille.torch_model import TorchModel

    if not isinstance(model, TorchModel):
        raise TypeError(f"{type(model).__name__} cannot be compiled; wanted a TorchModel or a QuantizedModel")
    captured = capture(model)
    graph, _ = _native.optimize(captured.graph)
    log.info("captured %s: %d nodes, optimised to %d", model.name, len(captured.graph.nodes), len(graph.nodes))
    return graph, {**provenance(model), "limits": captured.limits}


def compile_model(model: BaseMLModel, *, threads: int | None = None, streams: int = 1) -> CompiledModel:
    """Turn a model into a native one that runs without torch.

    Args:
        model: a `TorchModel` (compiled in float32), a `QuantizedModel`, or a `CompiledModel` (another copy of it).
        threads: how many threads one `predict` uses; None: all that this process is granted (`taille doctor`).
        streams: 1.

    Raises:
        TypeError: `model` is none of these; for a bare nn.Module the message shows how to wrap it.
        taille.CaptureError: the model has ops that are not supported; the message lists all of them.
        ValueError: a weight is NaN or infinite, or `threads` is below 1.
    """
    graph, metadata = lower(check_model(model, "taille.compile_model"))
    return CompiledModel(graph, metadata, threads=threads, streams=streams)
