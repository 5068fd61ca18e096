"""Making the smaller module: a deep copy with slices of its tensors and the sizes its layers state."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from taille.pruning.channel_groups import ChannelGroup, layer_of
from taille.pruning.channel_labels import Indices

__all__ = [
    "Attributes",
    "can_mask",
    "cut",
    "differences",
    "masked",
    "named_tensors",
    "replace_tensors",
    "set_attribute",
    "sizes_of_layer",
]

Attributes = dict[str, dict[str, Any]]  # module path -> attribute -> an int, or a tuple of them
Cuts = Sequence[tuple[ChannelGroup, Indices]]  # a group, and its units that go

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
         nn.InstanceNorm3d)  # fmt: skip


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer, by each of its names."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return dict(named)


def sizes_of_layer(layer: nn.Module) -> dict[str, Any]:
    """What a layer of torch.nn states about its sizes, as its tensors have them now; {} for other modules."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, NORMS):
        tensor = weight if weight is not None else getattr(layer, "running_mean", None)
        return {} if tensor is None else {"num_features": tensor.shape[0]}
    if not isinstance(weight, torch.Tensor):
        return {}
    if isinstance(layer, nn.Linear):
        return {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)):
        # Whole groups are removed, so their width stays.
        across, inner = weight.shape[:2]
        turned = isinstance(layer, TRANSPOSED)
        was: Any = layer.in_channels if turned else layer.out_channels
        groups = 1 if layer.groups == 1 else across // (was // layer.groups)
        channels = (across, inner * groups)
        sizes = dict(zip(("in_channels", "out_channels") if turned else ("out_channels", "in_channels"), channels,
                         strict=True))  # fmt: skip
        return {**sizes, "groups": groups}
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        return {"normalized_shape": tuple(weight.shape)}
    if isinstance(layer, nn.Embedding):
        return {"embedding_dim": weight.shape[1]}
    return {"num_parameters": weight.shape[0]} if isinstance(layer, nn.PReLU) else {}


def set_attribute(module: nn.Module, path: str, name: str, value: Any) -> None:
    """Set an attribute of a submodule."""
    setattr(module.get_submodule(path), name, value)


def replace_tensors(module: nn.Module, replacements: Mapping[str, torch.Tensor]) -> None:
    """Put other tensors in the place of parameters and buffers, under all names that a tensor has."""
    by_id = {id(t): replacements[n] for n, t in named_tensors(module).items() if n in replacements}
    fresh: dict[int, torch.Tensor] = {}
    for layer in module.modules():
        for held in (layer._parameters, layer._buffers):
            for name, tensor in held.items():
                if tensor is None or id(tensor) not in by_id:
                    continue
                if id(tensor) not in fresh:
                    new = by_id[id(tensor)]
                    parameter = isinstance(tensor, nn.Parameter)
                    fresh[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if parameter else new
                held[name] = fresh[id(tensor)]


def removed_indices(cuts: Cuts) -> dict[str, dict[int, Indices]]:
    """Parameter -> dimension -> the indices that go."""
    found: dict[str, dict[int, list[Indices]]] = defaultdict(lambda: defaultdict(list))
    for group, units in cuts:
        for axis, indices in group.slices.items():
            found[axis.name][axis.dim].append(indices[units].ravel())
    return {n: {d: np.unique(np.concatenate(i)) for d, i in dims.items()} for n, dims in found.items()}


def cut(module: nn.Module, cuts: Cuts, attributes: Attributes) -> nn.Module:
    """A copy of `module` without these channels.

    Args:
        module: stays as it is.
        cuts: groups, each with its units that go.
        attributes: what else to set, beside the sizes that layers of torch.nn state.
    """
    small = copy.deepcopy(module)
    tensors = named_tensors(small)
    replacements = {}
    for name, dims in removed_indices(cuts).items():
        tensor = tensors[name].detach()
        for dim, gone in dims.items():
            kept = np.setdiff1d(np.arange(tensor.shape[dim]), gone)
            tensor = tensor.index_select(dim, torch.from_numpy(kept))
        replacements[name] = tensor.contiguous()
    replace_tensors(small, replacements)
    for layer in small.modules():
        for name, value in sizes_of_layer(layer).items():
            setattr(layer, name, value)
    for path, values in attributes.items():
        for name, value in values.items():
            set_attribute(small, path, name, value)
    return small


def differences(dense: nn.Module, small: nn.Module) -> Attributes:
    """The sizes that layers of torch.nn state otherwise in `small` than in `dense`."""
    changed: Attributes = {}
    layers = dict(dense.named_modules())
    for path, layer in small.named_modules():
        for name, value in sizes_of_layer(layer).items():
            if getattr(layers[path], name) != value:
                changed.setdefault(path, {})[name] = value
    return changed


def masked(module: nn.Module, cuts: Cuts) -> nn.Module:
    """A copy of `module` that reads zeros where these channels are consumed: the columns of its weights are zeros.

    LayerNorms over them take their statistics from the other channels; see `can_mask`.
    """
    copied = copy.deepcopy(module)
    tensors = named_tensors(copied)
    with torch.no_grad():
        for group, units in cuts:
            for axis in group.consumed:
                indices = torch.from_numpy(group.slices[axis][units].ravel())
                tensors[axis.name].index_fill_(axis.dim, indices, 0.0)
    gone: dict[str, list[Indices]] = defaultdict(list)
    for group, units in cuts:
        for axis in group.norms:
            gone[layer_of(axis.name)].append(group.slices[axis][units].ravel())
    for path, removed in gone.items():
        narrow(copied.get_submodule(path), np.concatenate(removed))
    return copied


def can_mask(module: nn.Module, group: ChannelGroup) -> bool:
    """Whether all norms over a group's channels are plain LayerNorms or RMSNorms, which `masked` can narrow."""
    layers = dict(module.named_modules())
    norms = [layers.get(layer_of(axis.name)) for axis in group.norms]
    return all(isinstance(n, (nn.LayerNorm, nn.RMSNorm)) and len(n.normalized_shape) == 1 and
               type(n).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward) for n in norms)  # fmt: skip


def narrow(norm: Any, gone: Indices) -> None:
    """Make a LayerNorm or RMSNorm run over the other channels and give zeros for these."""
    kept = torch.from_numpy(np.setdiff1d(np.arange(len(norm.weight)), gone))
    small = copy.deepcopy(norm)
    replace_tensors(small, {n: t.detach()[kept] for n, t in named_tensors(small).items()})
    small.normalized_shape = (len(kept),)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x).index_copy(-1, kept, small(x.index_select(-1, kept)))

    norm.forward = forward
