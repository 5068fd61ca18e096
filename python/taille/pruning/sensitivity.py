"""How much of each layer remains, chosen from measured losses: where pruning harms less, more goes.

Each layer alone is pruned to several shares and the loss measured; losses of layers are taken to add up. Along the
lower convex hull of each layer's points, the step that costs least per weight is taken again and again until the target
is met, which is the best choice there is on the hulls (Shoham & Gersho 1988, on the allocation of bits).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taille.arrays import Array
from taille.pruning.layers import Layer, call, rows_weight
from taille.pruning.masks import make_mask
from taille.pruning.options import Options
from taille.pruning.patterns import Pattern
from taille.torch_model import eval_mode
from taille.training.data import Batch, Batches, tensors_in

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["allocate", "probe"]

SAMPLES = 64  # that losses are measured on
PROBES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # times the target: the shares that are tried
Point = tuple[float, float]  # share, loss


def probe(
    model: TorchModel, module: nn.Module, layers: Sequence[Layer], scores: Mapping[str, Array], options: Options
) -> dict[str, list[Point]]:
    """The loss with each layer pruned alone, at several shares.

    The loss is the increase of `loss_fn` where the calibration data comes with targets, else the squared error of the
    outputs over their squares.

    Args:
        model: the dense model.
        module: a copy of its module, which is as before afterwards.
        layers: to prune.
        scores: of their weights.
        options: settled ones.
    """
    shares = shares_to_try(options.form, options.target_size)
    points: dict[str, list[Point]] = {layer.name: [(1.0, 0.0)] for layer in layers}
    total = len(layers) * len(shares)
    with eval_mode(module), torch.no_grad():
        batches = list(Batches(model, "calibration", min(SAMPLES, options.calibration_samples)))
        losses = Losses(model, batches, lambda inputs: call(model, module, inputs))
        for i, layer in enumerate(layers):
            weight = module.get_submodule(layer.name).weight
            dense = weight.detach().clone()
            try:
                for j, share in enumerate(shares):
                    mask = torch.from_numpy(make_mask(scores[layer.name], options.form, share))
                    weight.copy_(dense * rows_weight(mask, layer.shape))
                    points[layer.name].append((float(mask.float().mean()), losses.increase()))
                    if options.progress:
                        options.progress("probing layers", i * len(shares) + j + 1, total)
            finally:
                weight.copy_(dense)
    return points


def shares_to_try(pattern: Pattern, target: float) -> list[float]:
    """The shares that each layer is pruned to, but for 1."""
    if pattern.of:
        return [pattern.least_share] if pattern.keep < pattern.of else []
    return [share for share in (target * factor for factor in PROBES) if share < 1]


class Losses:
    """The loss of a network that is being changed, against what it was at first, on fixed samples."""

    def __init__(self, model: TorchModel, batches: Sequence[Batch], run: Callable[[dict[str, torch.Tensor]], Any]):
        self._batches = batches
        self._run = run
        self._loss = model.loss_fn if batches[0].targets else None
        self._exact = [] if self._loss else [[t.clone() for t in tensors_in(run(b.inputs))] for b in batches]
        self._first = self._mean_loss() if self._loss else 0.0

    def increase(self) -> float:
        """The loss now less that at first; never below 0. One that is not finite counts as very large."""
        value = self._mean_loss() - self._first if self._loss else self._output_error()
        return max(0.0, value) if math.isfinite(value) else 1e30

    def _mean_loss(self) -> float:
        assert self._loss is not None
        losses = [float(self._loss(self._run(b.inputs), *b.targets)) * b.samples for b in self._batches]
        return sum(losses) / sum(b.samples for b in self._batches)

    def _output_error(self) -> float:
        error = squares = 0.0
        for batch, exact in zip(self._batches, self._exact, strict=True):
            for given, wanted in zip(tensors_in(self._run(batch.inputs)), exact, strict=True):
                error += float(batch.real(given - wanted).square().sum())
                squares += float(batch.real(wanted).square().sum())
        return error / squares if squares else error


def allocate(points: Mapping[str, Sequence[Point]], weights: Mapping[str, int], options: Options) -> dict[str, float]:
    """The share of each layer, with the target met at the least predicted loss.

    Args:
        points: (share, loss) of each layer; (1, 0) among them.
        weights: how many each layer has.
        options: with the target and the pattern; with N:M a layer has the pattern or is dense, so that less than the
            target may remain.
    """
    shares = dict.fromkeys(points, 1.0)
    total = sum(weights.values())
    excess = total * (1 - options.target_size)  # weights still to go
    steps = sorted(
        (loss / (weights[name] * (start - stop)), name, order, start, stop)
        for name, curve in points.items()
        for order, (start, stop, loss) in enumerate(hull_steps(curve))
    )
    for _, name, _, start, stop in steps:
        if excess <= 1e-9 * total:
            break
        removed = weights[name] * (start - stop)
        if removed > excess and not options.form.of:
            stop = start - excess / weights[name]
        shares[name] = stop
        excess -= weights[name] * (start - stop)
    return shares


def hull_steps(curve: Sequence[Point]) -> Iterator[tuple[float, float, float]]:
    """(share before, after, loss added) along the lower convex hull, from 1 downwards."""
    hull: list[Point] = []
    best = math.inf
    falling = []
    for share, loss in sorted(curve):  # from the fewest weights: a point that keeps more must lose less
        if loss < best:
            best = loss
            falling.append((share, loss))
    if falling[-1][0] < 1:
        falling.append((1.0, falling[-1][1]))
    for point in reversed(falling):
        while len(hull) >= 2 and slope(hull[-2], hull[-1]) >= slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    for (start, before), (stop, after) in itertools.pairwise(hull):
        yield start, stop, after - before


def slope(a: Point, b: Point) -> float:
    """The loss added per share given up, from a to b."""
    return (b[1] - a[1]) / (a[0] - b[0])
