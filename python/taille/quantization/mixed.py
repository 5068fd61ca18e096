"""Mixed precision: which layers are int8, which float16 and which float32, so that the whole stays within a budget.

What each layer does to the network's outputs if it alone is int8, its sensitivity, is measured on samples kept from
calibration. The most sensitive layers are kept from int8, as few as the budget of quality allows, and their weights
stored in float16; so are the tables of embeddings, whose reading costs no time. Float32 stays where float16 overflows,
or, should the network exceed the budget with float16 alone, where that distorts the outputs most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taille.arrays import Array
from taille.batches import Arrays
from taille.quantization.options import Progress

if TYPE_CHECKING:
    from taille import _native

__all__ = ["DEFAULT_DROP", "Choice", "Layers", "Trials", "choose", "distortion"]

DEFAULT_DROP = 0.01
SAMPLES = 64  # held out at most
BATCH = 16

Quantize = Callable[[Collection[str], Collection[str]], "_native.Graph"]  # of what is not int8, and what is float16
Quality = Callable[["_native.Graph"], float]


@dataclass(frozen=True)
class Layers:
    """What there is to choose from, by name, in the order of execution.

    Attributes:
        int8: layers that can be int8.   tables: embeddings.
        half: layers and embeddings that can be float16.   overflowing: those that cannot, for a weight is too large.
    """

    int8: tuple[str, ...]
    tables: tuple[str, ...]
    half: tuple[str, ...]
    overflowing: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        kept: the layers that are not int8, the most sensitive first, then the tables.
        half: what is stored in float16.   overflowing: what cannot be.
        sensitivity: of every layer: the distortion of the outputs if it alone is int8.
        half_sensitivity: likewise in float16; empty where float16 everywhere was within the budget.
        quality: of the chosen graph.   baseline: of the float32 graph.
    """

    kept: tuple[str, ...]
    half: tuple[str, ...]
    overflowing: tuple[str, ...]
    sensitivity: dict[str, float]
    half_sensitivity: dict[str, float]
    quality: float
    baseline: float

    def record(self) -> dict[str, Any]:
        """For the recipe: JSON-compatible."""
        return {"kept": list(self.kept), "float16": list(self.half), "sensitivity": self.sensitivity,
                "float16_sensitivity": self.half_sensitivity, "quality": self.quality,
                "baseline": self.baseline}  # fmt: skip

    def why(self, name: str) -> str:
        """Why a node that is kept, or float16, has its precision."""
        reasons = []
        if name in self.sensitivity:
            cost = self.sensitivity[name]
            reasons.append(f"kept by mixed precision: int8 here alone distorts the outputs by {cost:.2g}")
        elif name in self.half:
            reasons.append("float16 by mixed precision")
        if name in self.overflowing:
            reasons.append("float16 would overflow")
        elif name in self.half_sensitivity and name not in self.half:
            reasons.append(f"float16 here alone distorts the outputs by {self.half_sensitivity[name]:.2g}")
        return "; ".join(reasons)


class Trials:
    """Measures graphs on samples that the ranges were not calibrated on."""

    def __init__(
        self, exact: _native.Graph, held_out: Sequence[Arrays], quality: Quality | None, progress: Progress | None
    ):
        """Take the float32 graph as the standard.

        Args:
            exact: the float32 graph.
            held_out: batches that the ranges were not calibrated on.
            quality: of a graph, higher is better; None: 1 - distortion of its outputs on `held_out`.
            progress: told how many layers have been measured.
        """
        self.held_out = held_out
        self.wanted = outputs(exact, held_out)
        self.quality = quality or (lambda graph: 1 - self.distorted(graph))
        self.progress = progress
        self.baseline = self.quality(exact)

    def distorted(self, graph: _native.Graph) -> float:
        """The mean distortion of the outputs."""
        given = outputs(graph, self.held_out)
        return float(np.mean([distortion(o, w) for o, w in zip(given, self.wanted, strict=True)]))

    def sensitivity(self, stage: str, names: Sequence[str], alone: Callable[[str], _native.Graph]) -> dict[str, float]:
        """The distortion by name; `alone` gives the graph in which that one alone is changed."""
        found = {}
        for number, name in enumerate(names):
            found[name] = self.distorted(alone(name))
            if self.progress is not None:
                self.progress(stage, number + 1, len(names))
        return found


def choose(layers: Layers, quantize: Quantize, trials: Trials, drop: float) -> Choice:
    """Keep as few layers from int8 as the budget allows, and as few of these in float32.

    The numbers kept are found by bisection, so that the quality is measured a logarithmic number of times; what is
    chosen has always been measured to be within the budget (with all layers kept in float32 it is the float32 graph).

    Args:
        layers: what there is to choose from.
        quantize: gives the graph in which the layers named first are not int8, and of these the second are float16.
        trials: measures it.
        drop: how far the quality may fall below that of the float32 graph.
    """
    every, floor = {*layers.int8, *layers.tables}, trials.baseline - drop

    def half_but(wide: Sequence[str], int8: Collection[str] = ()) -> list[str]:
        return [name for name in layers.half if name not in wide and name not in int8]

    def without_int8(wide: Sequence[str]) -> float:
        return trials.quality(quantize(every, half_but(wide)))

    wide: tuple[str, ...] = ()
    half_sensitivity: dict[str, float] = {}
    best = without_int8(wide)
    if best < floor:
        half_sensitivity = trials.sensitivity("measuring float16", layers.half, lambda name: quantize(every, [name]))
        wide, best = fewest(half_sensitivity, without_int8, floor, trials.baseline, least=1)

    def with_int8(kept: Sequence[str]) -> float:
        return trials.quality(quantize([*kept, *layers.tables], half_but(wide, {*layers.int8} - {*kept})))

    sensitivity = trials.sensitivity("measuring sensitivity", layers.int8, lambda name: quantize(every - {name}, ()))
    kept, best = fewest(sensitivity, with_int8, floor, best)
    half = half_but(wide, {*layers.int8} - {*kept})
    return Choice((*kept, *layers.tables), tuple(half), layers.overflowing, sensitivity, half_sensitivity, best,
                  trials.baseline)  # fmt: skip


def fewest(
    sensitivity: dict[str, float],
    quality: Callable[[Sequence[str]], float],
    floor: float,
    with_all: float,
    *,
    least: int = 0,
) -> tuple[tuple[str, ...], float]:
    """The fewest of the most sensitive names with which the quality reaches the floor, and that quality.

    Args:
        sensitivity: by name.
        quality: with these names.
        floor: what the quality must reach.
        with_all: the quality with all names, which does.
        least: so many are needed at the least.
    """
    ranked = sorted(sensitivity, key=lambda name: -sensitivity[name])  # stable: ties in the order of execution
    # The invariant: `most` names are enough, `least - 1` are not known to be.
    most, best = len(ranked), with_all
    while least < most:
        count = (least + most) // 2 if least or most < len(ranked) else 0  # first: perhaps none is needed
        found = quality(ranked[:count])
        if found >= floor:
            most, best = count, found
        else:
            least = count + 1
    return tuple(ranked[:most]), best


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
