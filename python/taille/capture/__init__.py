"""Capture: from a PyTorch module to a native graph. The only package that knows ATen.

`export.py` runs torch.export; `symbols.py` turns its symbolic sizes into text; `builder.py` walks its nodes and calls
the small functions that `ops_*.py` register in a table, one per ATen op. To add an op, write one such function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taille.capture import ops_create, ops_layers, ops_math, ops_shape  # noqa: F401 - they fill the table
from taille.capture.builder import build
from taille.capture.export import check_weights, export

if TYPE_CHECKING:
    from taille import _native
    from taille.torch_model import TorchModel

__all__ = ["Captured", "capture"]


@dataclass(frozen=True)
class Captured:
    """A captured model.

    Attributes:
        graph: float32, as traced; `_native.optimize` comes next.
        limits: named dimension -> [least, most or None], as found by torch.export.
    """

    graph: _native.Graph
    limits: dict[str, list[int | None]]


def capture(model: TorchModel) -> Captured:
    """Trace `model` with torch.export and build its native graph.

    Raises:
        taille.CaptureError: torch.export fails, or nodes are not supported; the message lists every one.
        ValueError: a weight is NaN or infinite.   TypeError: a weight is not float32.
    """
    check_weights(model.module)
    exported = export(model)
    return Captured(build(exported), exported.limits)
