"""Mixed precision: which layers stay float32 so that the whole stays within a budget of quality.

Every layer is made int8 alone, and what that does to the network's outputs is measured on samples kept from
calibration: its sensitivity. Then the most sensitive layers are kept in float32, as few as the budget allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taille.arrays import Array
from taille.batches import Arrays
from taille.quantization.options import Progress

if TYPE_CHECKING:
    from taille import _native

__all__ = ["DEFAULT_DROP", "Choice", "choose", "distortion"]

DEFAULT_DROP = 0.01
SAMPLES = 64  # held out at most
BATCH = 16

Quantize = Callable[[Sequence[str]], "_native.Graph"]  # the graph with these layers kept in float32
Quality = Callable[["_native.Graph"], float]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        kept: the layers that stay float32, the most sensitive first.
        sensitivity: of every layer: the distortion of the outputs if it alone is int8.
        quality: of the chosen graph.   baseline: of the float32 graph.
    """

    kept: tuple[str, ...]
    sensitivity: dict[str, float]
    quality: float
    baseline: float

    def record(self) -> dict[str, Any]:
        """For the recipe: JSON-compatible."""
        return {"kept": list(self.kept), "sensitivity": self.sensitivity, "quality": self.quality,
                "baseline": self.baseline}  # fmt: skip


def choose(
    layers: Sequence[str],
    quantize: Quantize,
    exact: _native.Graph,
    held_out: Sequence[Arrays],
    quality: Quality | None,
    drop: float,
    progress: Progress | None,
) -> Choice:
    """Keep as few layers in float32 as the budget allows.

    The number kept is found by bisection, so that the quality is measured a logarithmic number of times; what is
    chosen has always been measured to be within the budget (with all layers kept it is the float32 graph).

    Args:
        layers: those that can be int8.
        quantize: gives the graph in which the layers named stay float32.
        exact: the float32 graph.
        held_out: batches that the ranges were not calibrated on.
        quality: of a graph, higher is better; None: 1 - distortion of its outputs on `held_out`.
        drop: how far the quality may fall below that of `exact`.
        progress: told how many layers have been measured.
    """
    wanted = [outputs(exact, [arrays])[0] for arrays in held_out]

    def distorted(graph: _native.Graph) -> float:
        return float(np.mean([distortion(o, w) for o, w in zip(outputs(graph, held_out), wanted, strict=True)]))

    measure = quality or (lambda graph: 1 - distorted(graph))
    sensitivity = {}
    for number, layer in enumerate(layers):
        sensitivity[layer] = distorted(quantize([other for other in layers if other != layer]))
        if progress is not None:
            progress("measuring sensitivity", number + 1, len(layers))
    ranked = sorted(layers, key=lambda layer: -sensitivity[layer])  # stable: ties in the order of execution
    baseline = measure(exact)
    # The invariant: `most` layers kept are enough, `least - 1` are not known to be.
    least, most, best = 0, len(ranked), baseline
    while least < most:
        count = (least + most) // 2 if least or most < len(ranked) else 0  # first: perhaps none need be kept
        found = measure(quantize(ranked[:count]))
        if found >= baseline - drop:
            most, best = count, found
        else:
            least = count + 1
    return Choice(tuple(ranked[:most]), sensitivity, best, baseline)


def outputs(graph: _native.Graph, batches: Sequence[Arrays]) -> list[list[Array]]:
    """What the graph gives for every batch."""
    from taille import _native

    model = _native.Model(graph)
    return [model.run(arrays) for arrays in batches]


def distortion(given: Sequence[Array], wanted: Sequence[Array]) -> float:
    """1 - the cosine of the angle between outputs and wanted ones: mean over samples (rows) and outputs; 0 if equal."""
    found = []
    for g, w in zip(given, wanted, strict=True):
        rows = w.shape[0] if w.ndim > 1 else 1
        a, b = (np.nan_to_num(v.reshape(rows, -1).astype(np.float64)) for v in (g, w))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        products = (a * b).sum(1)
        equal = (a == b).all(axis=1)
        cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        found.append(np.where(equal, 0.0, 1 - np.minimum(cosine, 1)).mean())
    return float(np.mean(found))
