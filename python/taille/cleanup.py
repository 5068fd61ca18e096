"""`cleanup_resources`: what a model holds only in order to run."""

from __future__ import annotations

from taille.compiled import CompiledModel
from taille.models import BaseMLModel, check_model
from taille.quantized import QuantizedModel

__all__ = ["cleanup_resources"]


def cleanup_resources(model: BaseMLModel) -> None:
    """Give back a model's arenas, plans, cached responses and threads; its weights stay, and it can be used again.

    What runs at the moment goes on, and keeps what it needs until it ends. Calling it again does no harm. A response
    cache stays set up, and empty; one with requests in flight answers them. Models that hold nothing of the kind
    (`TorchModel`) are left as they are.

    Raises:
        TypeError: `model` is none of taille's.
    """
    check_model(model, "cleanup_resources")
    if isinstance(model, (CompiledModel, QuantizedModel)):
        model.release()
