"""Least squares: the weights that remain are refitted, layer by layer, so that outputs are those of the dense model.

For each layer, with X its inputs in the network as pruned so far and Y the outputs of the same layer in the dense one,
each output channel solves min |X w + b - Y|^2 + lambda |w - w0|^2 over the weights that remain, w0 being their dense
values (the least-squares step of Optimal Brain Surgeon, Hassibi & Stork 1993, as Frantar & Alistarh 2023,
arXiv:2301.00774, made it fit large layers; here exact, since masks are fixed). lambda is 0.01 of the mean diagonal of
X'X; where there are few rows for the unknowns, a larger one if that has the lower error on a quarter of the samples,
kept from the fit. Only X'X and X'Y are kept, so memory does not grow with the data: twice k^2 + k * outputs numbers of
8 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from taille.arrays import Array
from taille.pruning.layers import call, hooked, rows_weight, weight_rows
from taille.pruning.work import Work
from taille.torch_model import eval_mode
from taille.training.data import Batch, Batches

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["reconstruct"]

RIDGES = (0.01, 0.1, 1.0, 10.0, math.inf)  # of the mean diagonal; infinite: the weights stay, the bias moves
FEW_ROWS = 8  # rows per unknown, below which the ridge is chosen
HELD_OUT = 4  # one sample in that many is kept from the fit to choose on
TRIED_OUTPUTS = 64  # about as many choose the ridge
ADJACENT = 4  # outputs that blocks give one mask, so that they are solved for together
CHUNK = 1 << 24  # numbers of unfolded input at a time
ENOUGH_ROWS = 32  # rows per unknown of a channel; more of them change little
ENOUGH_SAMPLES = 64


class Reached(Exception):  # noqa: N818 - a signal, no error
    """The last layer of interest has run; what comes after it need not."""


class Sums:
    """The moments of one layer's inputs and wanted outputs, in float64."""

    def __init__(self, inputs: int, outputs: int):
        self.xx = torch.zeros(inputs, inputs, dtype=torch.float64)
        self.xy = torch.zeros(inputs, outputs, dtype=torch.float64)
        self.x = torch.zeros(inputs, dtype=torch.float64)
        self.y = torch.zeros(outputs, dtype=torch.float64)
        self.yy = torch.zeros(outputs, dtype=torch.float64)
        self.rows = 0

    def join(self, other: Sums) -> None:
        """Add what another one saw."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def only(self, outputs: Array) -> Sums:
        """Those of some of the outputs, by their indices; what is of the inputs alone is shared."""
        found = Sums(0, 0)
        found.xx, found.x, found.rows = self.xx, self.x, self.rows
        found.xy, found.y, found.yy = self.xy[:, outputs], self.y[outputs], self.yy[outputs]
        return found

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add rows x [n, inputs] with y [n, outputs]."""
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.x += x.sum(0, dtype=torch.float64)
        self.y += y.sum(0, dtype=torch.float64)
        self.yy += y.square().sum(0, dtype=torch.float64)
        self.rows += len(x)

    def fit(self, dense: Array, kept: Array, ridge: float, biased: bool) -> tuple[Array, Array]:
        """The rows that fit best, and their biases, zero unless `biased`; see `solve`."""
        mean_x, mean_y = self.x.numpy() / self.rows, self.y.numpy() / self.rows
        h, c = self.xx.numpy(), self.xy.numpy()
        if biased:  # which takes the means
            h, c = h - self.rows * np.outer(mean_x, mean_x), c - self.rows * np.outer(mean_x, mean_y)
        fitted = solve(h, c, dense, kept, ridge)
        return fitted, mean_y - fitted @ mean_x if biased else np.zeros(len(fitted))

    def error(self, rows: Array, bias: Array) -> float:
        """The sum of |X w + b - y|^2 over the sum of y^2, from the moments."""
        energy = float(self.yy.sum())
        if not energy:
            return 0.0
        error = np.einsum("oi,oi->", rows @ self.xx.numpy(), rows) - 2 * np.einsum("oi,io->", rows, self.xy.numpy())
        error += 2 * bias @ (rows @ self.x.numpy() - self.y.numpy()) + self.rows * bias @ bias + energy
        return float(max(error, 0.0) / energy)


@dataclass
class Evidence:
    """What was seen of one layer: to fit to, and to choose the ridge on."""

    fit: Sums
    held: Sums

    def add(self, layer: nn.Module, x: torch.Tensor, y: torch.Tensor, batch: Batch, number: int) -> None:
        """Add one call in the batch of that number.

        The last quarter of its samples is held out; of tiny batches, every fourth batch.
        """
        samples = len(x)
        kept = samples - samples // HELD_OUT if samples >= HELD_OUT else samples * (number % HELD_OUT < HELD_OUT - 1)
        for sums, start, stop in ((self.fit, 0, kept), (self.held, kept, samples)):
            if stop > start:
                mine = batch.part(start, stop)
                add_rows(sums, layer, mine.real(x[start:stop]), mine.real(y[start:stop]))


def reconstruct(work: Work, names: Sequence[str]) -> dict[str, float]:
    """Refit layers that read one and the same tensor, in place; those before them must be refitted already.

    The data is `calibration_data`, or `train_data` where there is no other.

    Returns:
        What is left of the energy of each layer's outputs as error: squared error over squares.

    Raises:
        ValueError: activations are not finite.
    """
    model, module = work.model, work.module
    layers = {name: module.get_submodule(name) for name in names}
    masks = {name: weight_rows(work.state.masks[name]) for name in names}
    unknowns = {name: int(mask.sum(1).max()) for name, mask in masks.items()}
    seen = {name: Evidence(Sums(*mask.shape[::-1]), Sums(*mask.shape[::-1])) for name, mask in masks.items()}
    calls = samples = 0
    which = "calibration" if model.calibration_data is not None else "train"
    with eval_mode(model.module), eval_mode(module), torch.no_grad():
        for i, batch in enumerate(Batches(model, which, work.options.calibration_samples)):
            wanted, calls = targets(model, names, batch.inputs, calls)
            moments(work, seen, wanted, batch, i)
            samples += batch.samples
            if samples >= ENOUGH_SAMPLES and all(s.fit.rows >= ENOUGH_ROWS * unknowns[n] for n, s in seen.items()):
                break
        return {name: refit(name, layers[name], seen[name], masks[name].numpy()) for name in names}


def targets(
    model: TorchModel, names: Sequence[str], inputs: dict[str, torch.Tensor], calls: int
) -> tuple[dict[str, list[torch.Tensor]], int]:
    """What the layers give in the dense model, call by call, and how many calls that was.

    `calls` is what an earlier batch had: the run stops there. 0: not known yet.
    """
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            found[name].append(output)
            if sum(map(len, found.values())) == calls:
                raise Reached

        return hook

    run_until(model, model.module, {name: note(name) for name in names}, inputs)
    return found, sum(map(len, found.values()))


def moments(
    work: Work,
    seen: dict[str, Evidence],
    wanted: dict[str, list[torch.Tensor]],
    batch: Batch,
    number: int,
) -> None:
    """Run the pruned network and add what the layers read, with what they should give."""
    left = sum(map(len, wanted.values()))

    def note(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...], _output: Any) -> None:
            nonlocal left
            seen[name].add(layer, args[0], wanted[name].pop(0), batch, number)
            left -= 1
            if not left:
                raise Reached

        return hook

    run_until(work.model, work.module, {name: note(name) for name in seen}, batch.inputs)


def run_until(model: TorchModel, module: nn.Module, hooks: dict[str, Any], inputs: dict[str, torch.Tensor]) -> None:
    """Run a module until a hook has seen enough."""
    with hooked(module, hooks):
        try:
            call(model, module, inputs)
        except Reached:
            return


def add_rows(sums: Sums, layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Add one call's inputs and wanted outputs; those of convolutions unfolded, some images at a time."""
    if not isinstance(layer, nn.Conv2d):
        x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        for part, given in zip(x.split(max(1, CHUNK // x.shape[1])), y.split(max(1, CHUNK // x.shape[1])), strict=True):
            sums.add(part, given)
        return
    y = y.flatten(2).transpose(1, 2)  # [images, positions, outputs]
    images = max(1, CHUNK // (len(sums.x) * y.shape[1]))
    for part, given in zip(x.split(images), y.split(images), strict=True):
        sums.add(unfolded(layer, part), given.reshape(-1, given.shape[-1]))


def unfolded(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What each position of a convolution reads, [images * positions, kh * kw * inputs], as `weight_rows` orders it."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    columns = functional.unfold(x, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)
    images, _, positions = columns.shape
    columns = columns.reshape(images, layer.in_channels, -1, positions).permute(0, 3, 2, 1)
    return columns.reshape(images * positions, -1)


def refit(name: str, layer: nn.Module, seen: Evidence, kept: Array) -> float:
    """Solve for the weights that remain, and the bias if the layer has one; gives the relative error left."""
    fit, held = seen.fit, seen.held
    if not all(bool(torch.isfinite(t).all()) for s in (fit, held) for t in (s.xx, s.xy)):
        raise ValueError(f"'{name}' reads or gives NaN or infinite values on the calibration data; wanted finite ones")
    dense = weight_rows(layer.weight.detach()).double().numpy() * kept
    biased, ridge = layer.bias is not None, RIDGES[0]
    if fit.rows + held.rows < FEW_ROWS * int(kept.sum(1).max()):
        if not (held.rows and fit.rows):  # a handful of samples: nothing to choose on, so nothing is fitted
            bias = layer.bias.double().numpy() if biased else np.zeros(len(dense))
            return max(fit, held, key=lambda s: s.rows).error(dense, bias)
        ridge = best_ridge(seen, dense, kept, biased)
    fit.join(held)
    rows, bias = fit.fit(dense, kept, ridge, biased)
    layer.weight.copy_(rows_weight(torch.from_numpy(rows).float(), layer.weight.shape))
    if biased:
        layer.bias.copy_(torch.from_numpy(bias))
    return fit.error(rows, bias)


def best_ridge(seen: Evidence, dense: Array, kept: Array, biased: bool) -> float:
    """The one with the lowest error on what was held out; tried on some of the outputs, since each trial is a fit."""
    apart = max(1, len(dense) // TRIED_OUTPUTS)
    some = np.flatnonzero(np.arange(len(dense)) // ADJACENT % apart == 0)
    fit, held, dense, kept = seen.fit.only(some), seen.held.only(some), dense[some], kept[some]
    return min(RIDGES, key=lambda ridge: held.error(*fit.fit(dense, kept, ridge, biased)))


def solve(h: Array, c: Array, dense: Array, kept: Array, ridge: float) -> Array:
    """The fitted rows, [outputs, k].

    Args:
        h: X'X, [k, k].
        c: X'Y, [k, outputs].
        dense: the rows as they were, [outputs, k], zero where they are pruned.
        kept: bool, [outputs, k]. Rows with one mask are solved for together.
        ridge: lambda, as a share of the mean diagonal of h.
    """
    fitted = dense.copy()
    weight = ridge * float(np.trace(h)) / len(h)
    if not 0 < weight < math.inf:  # 0: the inputs never change, there is nothing to learn from
        return fitted
    masks, group = np.unique(kept, axis=0, return_inverse=True)
    for i, mask in enumerate(masks):
        columns, members = np.flatnonzero(mask), np.flatnonzero(group.reshape(-1) == i)
        if not columns.size:
            continue
        part = h[np.ix_(columns, columns)]
        gap = c[np.ix_(columns, members)] - part @ dense[np.ix_(members, columns)].T
        part[np.diag_indices_from(part)] += weight
        fitted[np.ix_(members, columns)] += solve_positive(torch.from_numpy(part), torch.from_numpy(gap), weight).T
    return fitted


def solve_positive(h: torch.Tensor, c: torch.Tensor, least: float) -> Array:
    """Solve h x = c for a symmetric h whose eigenvalues are `least` at least, but for rounding.

    That may be large: h was summed in float32 before means were taken off, and means can be thousands of deviations.
    """
    factor, failed = torch.linalg.cholesky_ex(h)
    if failed:
        values, vectors = torch.linalg.eigh(h)
        found: Array = (vectors @ ((vectors.T @ c) / values.clamp(min=least)[:, None])).numpy()
    else:
        found = torch.cholesky_solve(c, factor).numpy()
    return found
