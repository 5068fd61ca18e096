"""Saving and loading modules whose layers are smaller than their class would build them. No pickle.

The file is plain safetensors with the tensors of the `state_dict`. A manifest in its metadata holds their shapes again,
and the attributes that changed (`num_heads`, `in_channels`), as JSON under the key "taille.shapes":

    {"format": 1, "shapes": {"conv1.weight": [10, 3, 3, 3], ...}, "attributes": {"conv1": {"out_channels": 10}, ...}}

A loader needs the class: it builds the dense module, shrinks it to these shapes, and fills it. Files are not trusted.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from taille.errors import ArtefactError
from taille.files import write_atomically
from taille.models import BaseMLModel, check_model
from taille.pruning.channel_surgery import Attributes, replace_tensors, sizes_of_layer
from taille.pruning.channel_walk import canonical_names
from taille.torch_model import TorchModel

__all__ = ["load_pruned", "save_pruned"]

KEY = "taille.shapes"
FORMAT = 1
MAX_JSON = 16 << 20  # bytes
CHANNELS = ("out_features", "out_channels", "num_features", "normalized_shape")  # what a layer calls its outputs
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # of an attribute; private ones are never set
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}  # fmt: skip


def save_pruned(model: BaseMLModel, path: str | Path) -> int:
    """Write the weights of a channel-pruned model, with what `load_pruned` needs to shrink a dense module to them.

    The file appears whole or not at all: it is written beside, synced and renamed.

    Args:
        model: what `prune_channels` gave, or a `TorchModel` whose recipe holds such steps.
        path: of the file; safetensors.

    Returns:
        The bytes written.

    Raises:
        TypeError: `model` is not a TorchModel, or its state_dict holds other things than tensors.
        OSError: the file cannot be written; one that was there stays.
    """
    model = check_model(model, "save_pruned")
    if not isinstance(model, TorchModel):
        raise TypeError(f"save_pruned takes a TorchModel, not {type(model).__name__}; compiled models have save()")
    tensors = state_tensors(model.module)
    attributes: Attributes = {}
    for step in model.metadata["recipe"]:
        for layer, values in step.get("attributes", {}).items():
            attributes[layer] = {**attributes.get(layer, {}), **values}
    shapes = {name: list(t.shape) for name, t in tensors.items()}
    manifest = {"format": FORMAT, "shapes": shapes, "attributes": attributes}
    data = save({n: t.detach().contiguous() for n, t in tensors.items()}, {KEY: json.dumps(manifest)})
    write_atomically(Path(path), data)
    return len(data)


def state_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the module's state_dict; tied ones under their first name alone."""
    first = canonical_names(module)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"state_dict holds '{name}', a {type(value).__name__}; wanted tensors alone")
        if first.get(name, name) == name:
            tensors[name] = value
    return tensors


def load_pruned(dense: nn.Module | Callable[[], nn.Module], path: str | Path) -> nn.Module:
    """A module with the shapes and weights of a file that `save_pruned` wrote.

    Args:
        dense: a module as its class builds it, before pruning; it is copied and stays as it is. Or a function without
            arguments that builds one.
        path: of the file. It is not trusted: every name, dtype and shape is checked against the dense module before
            anything is loaded, and no shape may exceed the dense one.

    Returns:
        The smaller module, in the mode (training or eval) of the dense one. `load_state_dict` takes its `state_dict`.

    Raises:
        taille.ArtefactError: the file is damaged, hostile, or of another module; the message names the first mismatch.
        TypeError: `dense` is neither, or builds something else.   OSError: the file cannot be read.
    """
    module = copy.deepcopy(dense) if isinstance(dense, nn.Module) else dense() if callable(dense) else None
    if not isinstance(module, nn.Module):
        raise TypeError(f"dense gave {type(module).__name__}; wanted a torch.nn.Module, or a function that builds one")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            manifest = read_manifest((file.metadata() or {}).get(KEY), path)
            expected = state_tensors(module)
            check_tensors(file, manifest, expected, path)
            replacements = {name: file.get_tensor(name).clone() for name in expected}  # not mapped
    except SafetensorError as error:
        raise ArtefactError(f"{path} is not a whole safetensors file: {error}") from None
    attributes = checked_attributes(manifest["attributes"], module, path)
    replace_tensors(module, replacements)
    check_layers(module, attributes, path)
    for layer, values in attributes.items():
        for name, value in values.items():
            setattr(module.get_submodule(layer), name, value)
    return module


def read_manifest(text: str | None, path: Path) -> dict[str, Any]:
    """The manifest in a file's metadata, its outer form checked."""
    if text is None:
        raise ArtefactError(f"{path} has no shape manifest ('{KEY}'); wanted a file written by save_pruned")
    if len(text) > MAX_JSON:
        raise ArtefactError(f"{path}: its shape manifest has {len(text)} characters; at most {MAX_JSON} are read")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: its shape manifest is no JSON: {type(error).__name__}") from None
    if not isinstance(manifest, dict) or set(manifest) != {"format", "shapes", "attributes"}:
        raise ArtefactError(f"{path}: its shape manifest must be an object of format, shapes and attributes")
    if type(manifest["format"]) is not int or manifest["format"] != FORMAT:
        raise ArtefactError(
            f"{path}: its shape manifest has format {str(manifest['format'])[:40]}; this version of taille reads "
            f"{FORMAT}. A newer version may have written it"
        )
    for part in ("shapes", "attributes"):
        if not isinstance(manifest[part], dict):
            raise ArtefactError(f"{path}: '{part}' of its shape manifest must be an object")
    return manifest


def check_tensors(file: Any, manifest: dict[str, Any], expected: dict[str, torch.Tensor], path: Path) -> None:
    """Compare names, dtypes and shapes in the file with those of the dense module, reading no tensor."""
    shapes, found = manifest["shapes"], set(file.keys())
    for what, names in (("the file's tensors", found), ("the shape manifest", set(shapes))):
        missing, extra = sorted(set(expected) - names), sorted(names - set(expected))
        if missing:
            raise ArtefactError(f"{path}: {what} lack '{missing[0]}' ({len(missing)} of the dense module's)")
        if extra:
            raise ArtefactError(f"{path}: {what} hold '{extra[0][:200]}', which the dense module lacks ({len(extra)})")
    for name, tensor in expected.items():
        part = file.get_slice(name)
        shape, dtype = list(part.get_shape()), part.get_dtype()
        if shapes[name] != shape or any(type(s) is not int for s in shapes[name]):
            raise ArtefactError(f"{path}: '{name}' has shape {shape}; its shape manifest says {str(shapes[name])[:80]}")
        if dtype != DTYPES.get(tensor.dtype):
            raise ArtefactError(f"{path}: '{name}' is {dtype}; the dense module's is {DTYPES.get(tensor.dtype)}")
        most = list(tensor.shape)
        if len(shape) != len(most) or any(not (0 < s <= m or s == m) for s, m in zip(shape, most, strict=True)):
            raise ArtefactError(f"{path}: '{name}' has shape {shape}; the dense module's {most} is the most it may be")


def checked_attributes(given: dict[str, Any], module: nn.Module, path: Path) -> Attributes:
    """The attributes to set: sizes that the dense module has as whole numbers at least as large."""
    layers = dict(module.named_modules())
    attributes: Attributes = {}
    for layer, values in given.items():
        if layer not in layers:
            raise ArtefactError(f"{path}: the dense module has no module '{layer[:200]}'")
        if not isinstance(values, dict):
            raise ArtefactError(f"{path}: the attributes of '{layer}' must be an object")
        for name, value in values.items():
            own = changeable(layers[layer]).get(name)
            numbers = value if isinstance(value, list) else [value]
            limits = list(own) if isinstance(own, tuple) else [own]
            fits = len(numbers) == len(limits) and isinstance(value, list) == isinstance(own, tuple)
            if not fits or not all(type(n) is type(m) is int and 0 < n <= m for n, m in
                                   zip(numbers, limits, strict=True)):  # fmt: skip
                raise ArtefactError(
                    f"{path}: '{layer}.{name[:80]}' is {str(value)[:80]}; the dense module's is {str(own)[:80]}"
                )
            attributes.setdefault(layer, {})[name] = tuple(value) if isinstance(value, list) else value
    return attributes


def changeable(layer: nn.Module) -> dict[str, Any]:
    """The attributes of a module that a file may set: of layers of torch.nn those that state sizes of their tensors."""
    known = sizes_of_layer(layer)
    return {n: v for n, v in vars(layer).items() if (n in known if known else NAME.fullmatch(n))}


def check_layers(module: nn.Module, attributes: Attributes, path: Path) -> None:
    """Raise unless the tensors of each layer of torch.nn fit together, and are of the sizes that it will state."""
    for where, layer in module.named_modules():
        sizes = sizes_of_layer(layer)
        for name, value in sizes.items():
            stated = attributes.get(where, {}).get(name, getattr(layer, name))
            if stated != value:
                raise ArtefactError(f"{path}: '{where}.{name}' is {stated}; its tensors have {value}")
        channels = next((sizes[n] for n in CHANNELS if n in sizes), None)
        for name in ("bias", "running_mean", "running_var"):
            tensor = getattr(layer, name, None)
            if channels is not None and isinstance(tensor, torch.Tensor) and tensor.shape != as_shape(channels):
                raise ArtefactError(
                    f"{path}: '{where}.{name}' has shape {list(tensor.shape)}; its layer has {channels}"
                )


def as_shape(channels: Any) -> tuple[int, ...]:
    """A number of channels, or the shape of a LayerNorm, as a shape."""
    return channels if isinstance(channels, tuple) else (channels,)
