"""Channels in another order, in which masks keep more: the module computes what it did before.

Masks keep more of the scores where channels of like importance lie side by side. Which channels can change places
tracing says, as for `pattern="channel"`: a group of channels runs through layers, norms and residuals, and everything
that has an index for each of them is put into the new order alike. So nothing remains to be done at run time. The dense
model is reordered too: it is the teacher of what follows.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from taille.arrays import Array
from taille.capture.export import export
from taille.errors import CaptureError
from taille.pruning.channel_groups import ChannelGroup, build_groups
from taille.pruning.channel_labels import Axis, Indices
from taille.pruning.channel_surgery import named_tensors, replace_tensors
from taille.pruning.channel_trace import trace_channels
from taille.pruning.channel_trials import Trials, difference
from taille.pruning.masks import kept_units, make_mask, unit_scores
from taille.pruning.options import Options
from taille.pruning.order_search import Reader, best_order
from taille.pruning.patterns import Pattern
from taille.pruning.report import ChannelOrder
from taille.pruning.scores import score_layers
from taille.pruning.work import Work

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Order", "find_order", "in_order", "permute", "reordered"]

log = logging.getLogger(__name__)

LEAST_RISE = 1e-6  # of a kept share, below which an order is not worth a change
Order = Mapping[str, torch.Tensor]  # "dimension/tensor" -> int64: which index comes to each place


def permute(work: Work) -> None:
    """Put the channels of the model, of the module and of the factors of scores into the order that keeps most.

    The order is that of the checkpoint where there is one: another thread count, say, might find another.
    """
    state, fresh = work.state, work.state.moves is None
    if fresh:
        scores = score_layers(work.model.module, work.layers, work.factors)
        try:
            state.order, rows = find_order(work.model, scores, work.options)
        except CaptureError as error:
            if work.options.permute:  # asked for, not only welcome
                raise
            log.info("channels stay in their places: %s", error)
            rows = []
        state.moves = [asdict(row) for row in rows]
    work.model = in_order(work.model, state.order)
    inputs = {layer.name: layer.shape[1] for layer in work.layers}
    work.factors = {n: arranged(f, n, inputs[n], state.order) for n, f in work.factors.items()}
    if fresh:
        work.module = copy.deepcopy(work.model.module)
        work.save()


def find_order(
    model: TorchModel, scores: Mapping[str, Array], options: Options
) -> tuple[dict[str, torch.Tensor], list[ChannelOrder]]:
    """The order of channels that lets the masks keep most of the scores, and what became of each group.

    Groups take their turns. An order is taken where the layers that a group runs through keep more on the whole, those
    that make its channels included, and where the reordered module agrees with the model's on the example inputs.

    Args:
        model: whose channels; it stays as it is.
        scores: of the layers to be pruned, float64 [outputs, k]; see `taille.pruning.scores`.
        options: settled ones.

    Raises:
        taille.CaptureError: torch.export cannot trace the module.
    """
    search = Search(model, scores, options)
    groups = build_groups(trace_channels(export(model), model.module).atoms)
    rows = []
    for i, group in enumerate(groups):
        rows.append(search.place(group, i))
        if options.progress:
            options.progress("permuting channels", i + 1, len(groups))
    return search.order, rows


class Search:
    """The order so far, and the scores in that order."""

    def __init__(self, model: TorchModel, scores: Mapping[str, Array], options: Options):
        self.order: dict[str, torch.Tensor] = {}
        self._module = model.module
        self._pattern, self._share, self._seed = options.form, options.target_size, options.seed
        self._scores = dict(scores)
        self._sizes = {name: tuple(t.shape) for name, t in named_tensors(model.module).items()}
        self._trials = Trials(model)
        self._wanted = self._trials.run(model.module)

    def place(self, group: ChannelGroup, number: int) -> ChannelOrder:
        """Look for a better order of one group of channels and take it; gives what became of it."""
        channels = group.units * group.width
        row = ChannelOrder(group.name, group.layers, channels, None, None, group.why)
        readers = [] if group.why else self._readers(group)
        if not readers:
            size = self._pattern.of or self._pattern.columns
            return row if group.why else row.staying(f"no layer to prune has them one by one in groups of {size}")
        units = best_order(readers, self._pattern.of or self._pattern.columns, self._seed + number)
        order = self._indices(group, units)
        touched = [n for n in self._scores if {Axis(weight_of(n), 0), Axis(weight_of(n), 1)} & set(group.slices)]
        now = {n: self._scores[n] for n in touched}
        new = {n: arranged(s, n, self._sizes[weight_of(n)][1], order) for n, s in now.items()}
        before, after = self._kept(now), self._kept(new)
        if after < before + LEAST_RISE:
            return row.staying("no order was found that keeps more", before)
        joined = self.order | {key: self.order[key][i] if key in self.order else i for key, i in order.items()}
        failure = difference(self._trials.run(reordered(self._module, joined)), self._wanted, exact=True)
        if failure:
            return row.staying(f"a trial in another order failed: {failure}", before)
        self.order = joined
        self._scores |= new
        log.info("%s: %d channels in another order keep %.4f of the score, not %.4f", group.name, channels, after,
                 before)  # fmt: skip
        return ChannelOrder(group.name, group.layers, channels, before, after)

    def _kept(self, scores: Mapping[str, Array]) -> float:
        """The share of the scores that masks keep, the mean over the layers."""
        return float(np.mean([kept_share(s, self._pattern, self._share) for s in scores.values()]))

    def _readers(self, group: ChannelGroup) -> list[Reader]:
        """The layers to prune in which the group's channels fill whole blocks.

        Those that read the channels; with blocks as high as wide those that make them too, which are read as if
        transposed. On MiniLM, at a quarter in 4 x 4 blocks and reconstructed, both gave hidden states with an error of
        0.499 of their energy, the readers alone 0.505, and no order at all 0.524.
        """
        found = []
        for name, scores in self._scores.items():
            made, read = (Axis(weight_of(name), dim) for dim in (0, 1))
            sides = [(scores, read)] if read in group.consumed else []
            if made in group.produced and self._pattern.rows == self._pattern.columns > 1:
                sides.append((scores.T, made))
            for part, axis in sides:
                channels = self._sizes[axis.name][axis.dim]
                found += reader_of(part, channels, group.slices[axis], self._pattern, self._share)
        return found

    def _indices(self, group: ChannelGroup, units: Indices) -> dict[str, torch.Tensor]:
        """What an order of the group's units is along every axis that has indices for them."""
        order = {}
        for axis, places in group.slices.items():
            index = np.arange(self._sizes[axis.name][axis.dim])
            index[places.ravel()] = places[units].ravel()
            order[f"{axis.dim}/{axis.name}"] = torch.from_numpy(index)
        return order


def kept_share(scores: Array, pattern: Pattern, share: float) -> float:
    """The share of a layer's scores that its mask keeps."""
    total = float(scores.sum())
    return float(scores[make_mask(scores, pattern, share)].sum()) / total if total else 1.0


def reader_of(scores: Array, inputs: int, places: Indices, pattern: Pattern, share: float) -> list[Reader]:
    """How a layer reads channels, for the search; none where they do not fill whole blocks one by one.

    Args:
        scores: of the layer, [outputs, taps * inputs], or transposed to ask of its outputs.
        inputs: how many input channels it has, or outputs.
        places: [units, m], which of them the units are.
        pattern: of the layer's mask.
        share: of its weights that stay.
    """
    size, first, units = pattern.of or pattern.columns, int(places.min()), len(places)
    whole = first % size == 0 and units % size == 0 and units > size
    in_a_row = np.array_equal(places, np.arange(first, first + units)[:, None])
    if not (whole and in_a_row and scores.any()):
        return []
    keep = pattern.remaining(share) if pattern.of else 0
    if keep == pattern.of > 0:
        return []
    parts = (scores / scores.sum()).reshape(len(scores) // pattern.rows, pattern.rows, -1, inputs).sum(1)
    mine = parts[..., first : first + units].reshape(-1, units).T
    others = np.delete(parts, np.s_[first : first + units], axis=2)
    rest = others.reshape(*others.shape[:2], -1, size).sum(-1).reshape(-1)
    blocks = 0 if keep else kept_units(unit_scores(scores, pattern).size, share)
    mine, rest = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (mine, rest))
    return [Reader(mine, keep, blocks, rest)]


def weight_of(layer: str) -> str:
    """The name of a layer's weight."""
    return f"{layer}.weight" if layer else "weight"


def arranged(rows: Array, layer: str, inputs: int, order: Order) -> Array:
    """Numbers for each of a layer's weights, [outputs or 1, taps * inputs], in the order of its channels."""
    across, along = order.get(f"0/{weight_of(layer)}"), order.get(f"1/{weight_of(layer)}")
    if across is not None and len(rows) > 1:
        rows = rows[across.numpy()]
    if along is not None:
        rows = rows.reshape(len(rows), -1, inputs)[..., along.numpy()].reshape(len(rows), -1)
    return rows


def indexed(tensor: torch.Tensor, name: str, order: Order) -> torch.Tensor:
    """A tensor of that name, or one of its shape, with its channels in the order."""
    for dim in range(tensor.dim()):
        index = order.get(f"{dim}/{name}")
        tensor = tensor if index is None else tensor.index_select(dim, index)
    return tensor


def reordered(module: nn.Module, order: Order) -> nn.Module:
    """A copy of `module` with its channels in the order."""
    copied = copy.deepcopy(module)
    tensors, names = named_tensors(copied), {key.partition("/")[2] for key in order}
    replace_tensors(copied, {name: indexed(tensors[name].detach(), name, order) for name in names})
    return copied


def in_order(model: TorchModel, order: Order) -> TorchModel:
    """A model of the same kind and data around a reordered copy of its module, its masks in order too."""
    twin = copy.copy(model)
    twin.module = reordered(model.module, order)
    twin.masks = {name: indexed(mask, weight_of(name), order) for name, mask in twin.masks.items()}
    return twin
