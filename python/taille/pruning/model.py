"""What `prune_model` gives: a smaller `TorchModel` that knows its masks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from taille.pruning.layers import rows_weight
from taille.pruning.report import PruneReport
from taille.torch_model import TorchModel, heritage

__all__ = ["PrunedModel", "apply_masks", "hold_masks", "inherited", "narrowed"]


class PrunedModel(TorchModel):
    """A pruned model: a `TorchModel` with the data of the one it came from, and its masks.

    The weights that a mask takes away are zero, and their gradients are made zero, so that training goes on with the
    masks as they are, in any optimiser that leaves a zero weight without gradient alone: SGD, Adam and AdamW do, weight
    decay and momentum included. After anything else, call `apply_masks`.

    Attributes:
        masks: path of a layer -> bool tensor of its weight's shape, True where a weight remains.
        report: what became of each layer; `str` gives a table, `to_json` an object.
        order: of channels that changed places: "dimension/tensor" -> the index that came to each place.
    """

    def __init__(
        self,
        source: TorchModel,
        module: nn.Module,
        masks: Mapping[str, torch.Tensor],
        report: PruneReport,
        step: Mapping[str, Any],
        order: Mapping[str, torch.Tensor],
    ):
        """Hold a pruned copy; made by `prune_model`.

        Args:
            source: the model that was pruned; its examples, data and functions are taken over.
            module: the pruned copy of its module.
            masks: by the path of the layer.
            report: what became of each layer.
            step: what the recipe records.
            order: of channels that changed places.
        """
        super().__init__(module, **heritage(source))
        self.masks, self.order = dict(masks), dict(order)
        self.report = report
        self._metadata = {**source.metadata, "recipe": [*source.metadata["recipe"], dict(step)]}
        hold_masks(module, self.masks)

    def apply_masks(self) -> None:
        """Make every weight zero that a mask takes away; needed only after something wrote into them."""
        apply_masks(self.module, self.masks)

    @property
    def metadata(self) -> dict[str, Any]:
        """The name and the recipe, whose last step is the pruning: a fresh copy."""
        return copy.deepcopy(self._metadata)

    def __repr__(self) -> str:
        return f"<PrunedModel {self.name}: {self.report.counts()}; {'; '.join(map(str, self.input_spec))}>"


def hold_masks(module: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Make every weight zero that a mask takes away, and its gradient wherever one is computed."""
    for name, mask in masks.items():
        weight = module.get_submodule(name).weight
        if weight.requires_grad:
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    apply_masks(module, masks)


def apply_masks(module: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Make every weight zero that a mask takes away."""
    with torch.no_grad():
        for name, mask in masks.items():
            module.get_submodule(name).weight.masked_fill_(~mask, 0.0)  # not a product: -0 and NaN stay out


def inherited(model: TorchModel) -> dict[str, torch.Tensor]:
    """The masks of a model that is pruned already: what has gone does not come back. A fresh dict."""
    return dict(model.masks)


def narrowed(model: TorchModel, name: str, rows: torch.Tensor) -> torch.Tensor:
    """The mask of a layer, in its weight's shape, from its rows; what `model`'s own mask takes away is gone too."""
    mask = rows_weight(rows, model.module.get_submodule(name).weight.shape)
    return mask & model.masks[name] if name in model.masks else mask
