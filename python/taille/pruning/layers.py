"""Which layers of a module can be pruned, in which order they run, and their weights as rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taille.pruning.options import Options
from taille.quantization.ignore import ignored_names
from taille.torch_model import eval_mode

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Layer", "Trace", "call", "hooked", "prunable_layers", "rows_weight", "survey", "trace", "weight_rows"]

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Linear, *EMBEDDINGS, *CONVOLUTIONS)
NORMS = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: the module's path, or the parameter's where no layer known here holds it.
        op: "linear", "conv2d", "embedding", or the class in small letters.
        shape: of the weight, as torch has it.
        why: why it stays dense; "" where it is pruned.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    why: str = ""

    @property
    def weights(self) -> int:
        """How many numbers the weight holds."""
        return math.prod(self.shape)


def weight_rows(weight: torch.Tensor) -> torch.Tensor:
    """A weight as rows [outputs, k]; a copy for convolutions.

    [O, I] stays as it is; [O, I, kh, kw] becomes [O, kh * kw * I]: input channels innermost, as NHWC activations have
    them, so that a block of four inputs is four channels of one tap.
    """
    return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def rows_weight(rows: torch.Tensor, shape: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """Undo `weight_rows`: a contiguous weight of that shape."""
    if len(shape) == 2:
        return rows.reshape(shape).contiguous()
    outputs, inputs, *taps = shape
    return rows.reshape(outputs, *taps, inputs).permute(0, 3, 1, 2).contiguous()


@contextmanager
def hooked(module: nn.Module, hooks: dict[str, Any]) -> Iterator[None]:
    """Forward hooks (module, args, output) on submodules, by path, for as long as the context lasts.

    `args` begins with the input also where that was passed by keyword.
    """

    def adapted(hook: Any) -> Any:
        return lambda module, args, kwargs, output: hook(module, (*args, *kwargs.values()), output)

    handles = [
        module.get_submodule(name).register_forward_hook(adapted(hook), with_kwargs=True)
        for name, hook in hooks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def call(model: TorchModel, module: nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
    """Run `module`, which is `model`'s or a copy of it, on named inputs."""
    return module(**inputs) if model.by_keyword else module(*inputs.values())


@dataclass
class Trace:
    """How a module runs.

    Attributes:
        calls: name of a layer -> how often one run calls it, in the order of first calls.
        groups: layers in the order of execution; those side by side that read the very same tensor are together.
        first, last: the first layer with weights and the last, norms after it counted.
    """

    calls: Counter[str] = field(default_factory=Counter)
    groups: list[list[str]] = field(default_factory=list)
    first: str = ""
    last: str = ""


def trace(model: TorchModel) -> Trace:
    """Run the model's module on its example and note what is called."""
    found = Trace()
    kept: list[Any] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
            found.last = name
            if isinstance(module, NORMS):
                return
            found.first = found.first or name
            given = args[0]
            if name not in found.calls:
                if kept and given is kept[-1]:
                    found.groups[-1].append(name)
                else:
                    found.groups.append([name])
            found.calls[name] += 1
            kept.append(given)  # and so alive: another tensor cannot take its place in memory

        return hook

    watched = {n: note(n) for n, m in model.module.named_modules() if isinstance(m, (*WEIGHTED, *NORMS))}
    with eval_mode(model.module), torch.no_grad(), hooked(model.module, watched):
        call(model, model.module, model.examples)
    return found


def survey(model: TorchModel, options: Options, found: Trace) -> list[Layer]:
    """Every layer with weights, in the order of execution; those that stay dense with the reason.

    Raises:
        ValueError: no layer can be pruned, or an entry of `ignore` matches none.
    """
    modules = {n: m for n, m in model.module.named_modules() if isinstance(m, WEIGHTED)}
    order = {name: i for i, name in enumerate(found.calls)}
    names = sorted(modules, key=lambda n: order.get(n, len(order)))
    layers = [Layer(n, op_of(modules[n]), tuple(modules[n].weight.shape)) for n in names]
    ignored = set(ignored_names({x.name: x.op for x in layers}, model.module, options.ignore, "layer"))
    owners = Counter(id(m.weight) for m in modules.values())
    for i, layer in enumerate(layers):
        module = modules[layer.name]
        why = unfit(module, owners) or ("" if layer.name in order else "it is never called as a module")
        why = why or ("ignored by request" if layer.name in ignored else "") or by_default(layer, options, found)
        layers[i] = replace(layer, why=why or options.form.misfit(*layer.shape[:2]))
    held = {id(p) for m in modules.values() for p in m.parameters(recurse=False)}
    held |= {id(p) for m in modules.values() for p in m.parameters()}  # parametrised weights
    layers += [
        Layer(n, "parameter", tuple(p.shape), "not the weight of a Linear or Conv2d")
        for n, p in model.module.named_parameters()
        if p.dim() >= 2 and id(p) not in held
    ]
    if all(x.why for x in layers):
        reasons = "; ".join(f"{x.name or 'the module'}: {x.why}" for x in layers) or "it has no layers with weights"
        raise ValueError(f"nothing to prune in {model.name}: {reasons}. See include_first_last, min_weights and ignore")
    return layers


def prunable_layers(model: TorchModel, pattern: str) -> tuple[str, ...]:
    """Names of the layers that `prune_model` would prune to `pattern` by default; none where there is nothing."""
    try:
        rows = survey(model, Options(0.5, "structured", pattern), trace(model))
    except ValueError:
        return ()
    return tuple(layer.name for layer in rows if not layer.why)


def op_of(module: nn.Module) -> str:
    """What reports, and `ignore`, call the kind of a layer."""
    kinds = {nn.Linear: "linear", nn.Conv2d: "conv2d", EMBEDDINGS: "embedding"}
    return next((name for kind, name in kinds.items() if isinstance(module, kind)), type(module).__name__.lower())


def unfit(module: nn.Module, owners: Counter[int]) -> str:
    """Why a layer of this kind cannot be pruned."""
    if isinstance(module, EMBEDDINGS):
        return "an embedding"
    if not isinstance(module, (nn.Linear, nn.Conv2d)):
        return "not a Linear or Conv2d"
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        depthwise = module.groups == module.in_channels
        return "a depthwise convolution" if depthwise else f"a convolution in {module.groups} groups"
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        return "its weight is parametrised: remove the parametrisation first"
    return "it shares its weight with another layer" if owners[id(module.weight)] > 1 else ""


def by_default(layer: Layer, options: Options, found: Trace) -> str:
    """Why a layer that could be pruned is not, unless the options say otherwise."""
    if not options.include_first_last and layer.name == found.first:
        return "the first layer"
    if not options.include_first_last and layer.name == found.last:
        return "the last layer"
    return f"fewer than {options.min_weights} weights" if layer.weights < options.min_weights else ""
