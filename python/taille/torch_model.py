"""A trainable `nn.Module` with an example of its inputs and its data."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError("taille.TorchModel needs torch: pip install 'taille[torch]'") from error

from taille.arrays import check_arrays, is_tensor, name_inputs
from taille.models import BaseMLModel, TensorSpec

if TYPE_CHECKING:
    from taille import _native

__all__ = ["TorchModel", "heritage"]

log = logging.getLogger(__name__)

DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.bool: "bool"}
DimNames = dict[str, dict[int, Any]]  # input -> axis -> name of the dimension, or a torch.export.Dim


class TorchModel(BaseMLModel):
    """A module of PyTorch together with what taille's functions need to know about it.

    Attributes:
        masks: path of a layer -> bool tensor of its weight's shape, True where a weight remains; empty where nothing
            was pruned. Whatever trains the module keeps the other weights zero.
    """

    def __init__(
        self,
        module: nn.Module,
        example_inputs: tuple[torch.Tensor, ...] | dict[str, torch.Tensor],
        *,
        dynamic_shapes: Mapping[str, Any] | None = None,
        calibration_data: Iterable[Any] | None = None,
        train_data: Iterable[Any] | None = None,
        test_data: Iterable[Any] | None = None,
        eval_fn: Callable[[BaseMLModel], float] | None = None,
        loss_fn: Callable[..., Any] | None = None,
        name: str | None = None,
    ):
        """Wrap `module`; nothing is traced yet.

        Args:
            module: float32, on the CPU. It is captured in eval mode, and its mode is restored.
            example_inputs: a tuple of tensors (positional) or a dict (keyword arguments of `forward`): float32, int64
                or bool.
            dynamic_shapes: which sizes may differ from call to call. None: dimension 0 of every input, named "batch".
                {}: none. Else by input, as torch.export takes it: {"input_ids": {0: "batch", 1: "sequence"}}; the
                same name means the same size.
            calibration_data: an iterable of batches: a tensor, an (x, y) tuple of which only the inputs are used, or
                a dict by input name. It is iterated again as needed and never held whole. So are the next two.
            train_data: for methods that train.
            test_data: for methods that measure.
            eval_fn: gives the quality of any taille model, higher is better.
            loss_fn: for methods that train: `loss_fn(outputs, *targets)` gives a tensor of one element to minimise.
                `outputs` is what the module gives; `targets` is what a batch of `train_data` holds beyond the inputs.
            name: how reports call the model; by default the module's class.

        Raises:
            TypeError: `module` is not an nn.Module, or an example is not a tensor of those dtypes.
            ValueError: `dynamic_shapes` names an input or axis that does not exist.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is {type(module).__name__}; wanted a torch.nn.Module")
        self.module = module
        self.by_keyword = isinstance(example_inputs, dict)
        self.dynamic = dimension_names(name_examples(module, example_inputs), dynamic_shapes)
        self.examples = widen(name_examples(module, example_inputs), self.dynamic)
        self.calibration_data = calibration_data
        self.train_data = train_data
        self.test_data = test_data
        self.eval_fn = eval_fn
        self.loss_fn = loss_fn
        self.name = name or type(module).__name__
        self.masks: dict[str, torch.Tensor] = {}
        self._output_spec: tuple[TensorSpec, ...] | None = None

    def predict(self, inputs: Any) -> Any:
        """Run the module in torch, in eval and inference mode; see `BaseMLModel.predict`."""
        named = name_inputs(inputs, list(self.examples))
        kinds = {is_tensor(v) for v in named.values()}
        if len(kinds) > 1:
            raise TypeError("inputs mix numpy arrays and torch tensors; wanted one kind")
        tensors = {n: v if is_tensor(v) else torch.as_tensor(v) for n, v in named.items()}
        check_arrays({n: t.detach().numpy() for n, t in tensors.items()}, self.input_spec, {})
        with eval_mode(self.module), torch.inference_mode():
            outputs = self.module(**tensors) if self.by_keyword else self.module(*tensors.values())
        return arrange(outputs, as_numpy=kinds == {False})

    def capture(self) -> _native.Graph:
        """The module as a native graph, not yet optimised.

        Raises:
            taille.CaptureError: torch.export fails, or ops are not supported; the message lists every such node.
            ValueError: a weight is NaN or infinite.
        """
        from taille.capture import capture

        graph = capture(self).graph
        self._output_spec = tuple(TensorSpec(n, d, tuple(s)) for n, d, s in graph.outputs)
        return graph

    @property
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""
        return tuple(
            TensorSpec(
                name,
                DTYPES[example.dtype],
                tuple(
                    dim_name(self.dynamic[name][axis]) if axis in self.dynamic[name] else size
                    for axis, size in enumerate(example.shape)
                ),
            )
            for name, example in self.examples.items()
        )

    @property
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order; the first use captures the module."""
        if self._output_spec is None:
            self.capture()
        return self._output_spec or ()

    @property
    def size_bytes(self) -> int:
        """Bytes of the float32 artefact that `save` writes; captures the module each time."""
        from taille import _native
        from taille.compilation import lower

        graph, metadata = lower(self)
        return len(_native.serialize(graph, json.dumps(metadata)))

    @property
    def parameter_count(self) -> int:
        """How many numbers the module's parameters hold."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def sparsity(self) -> float:
        """The share of the weights of two or more dimensions that are zero."""
        weights = [p for p in self.module.parameters() if p.dim() >= 2]
        total = sum(w.numel() for w in weights)
        return sum(int((w == 0).sum()) for w in weights) / total if total else 0.0

    @property
    def metadata(self) -> dict[str, Any]:
        """The name and an empty recipe."""
        return {"name": self.name, "recipe": []}

    def save(self, path: str | Path) -> int:
        """Write the module's float32 artefact atomically; gives the bytes written."""
        from taille import _native
        from taille.compilation import lower

        graph, metadata = lower(self)
        return _native.save_artefact(str(path), graph, json.dumps(metadata))

    def __repr__(self) -> str:
        return f"<TorchModel {self.name}: {'; '.join(map(str, self.input_spec))}>"


class eval_mode:  # noqa: N801 - reads as a statement: `with eval_mode(module):`
    """Put a module in eval mode, and every submodule back into its own mode afterwards."""

    def __init__(self, module: nn.Module):
        self._root = module
        self._training = [m for m in module.modules() if m.training]

    def __enter__(self) -> None:
        if self._training:
            self._root.eval()

    def __exit__(self, *_: object) -> None:
        for module in self._training:
            module.training = True


def heritage(source: TorchModel) -> dict[str, Any]:
    """What a model made from `source` takes over: the arguments of `TorchModel` but for the module."""
    return {
        "example_inputs": dict(source.examples) if source.by_keyword else tuple(source.examples.values()),
        "dynamic_shapes": source.dynamic, "calibration_data": source.calibration_data,
        "train_data": source.train_data, "test_data": source.test_data, "eval_fn": source.eval_fn,
        "loss_fn": source.loss_fn, "name": source.name,
    }  # fmt: skip


def dim_name(dim: Any) -> str:
    """The name of a dynamic dimension given as text or as a torch.export.Dim."""
    return dim if isinstance(dim, str) else str(dim.__name__)


def name_examples(module: nn.Module, examples: Any) -> dict[str, torch.Tensor]:
    """Name the example inputs by the parameters of `module.forward`, and check their types."""
    if isinstance(examples, dict):
        named = {str(k): v for k, v in examples.items()}
    elif isinstance(examples, tuple):
        names: list[str] = []
        for p in inspect.signature(module.forward).parameters.values():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                names.append(p.name)
            elif p.kind == p.VAR_POSITIONAL:
                names += [f"{p.name}_{i}" for i in range(len(examples) - len(names))]
        if len(examples) > len(names):
            raise ValueError(f"{len(examples)} example inputs given; forward takes {len(names)}: {', '.join(names)}")
        named = dict(zip(names, examples, strict=False))
    else:
        raise TypeError(f"example_inputs is {type(examples).__name__}; wanted a tuple of tensors, as (x,), or a dict")
    if not named:
        raise ValueError("example_inputs is empty; wanted one tensor per input of forward")
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"example input '{name}' is {type(value).__name__}; wanted a torch tensor")
        if value.dtype not in DTYPES:
            raise TypeError(f"example input '{name}' is {value.dtype}; wanted float32, int64 or bool")
    return named


def dimension_names(examples: dict[str, torch.Tensor], dynamic_shapes: Mapping[str, Any] | None) -> DimNames:
    """The named dynamic dimensions of every input; see `TorchModel`."""
    if dynamic_shapes is None:
        return {name: {0: "batch"} if example.dim() else {} for name, example in examples.items()}
    if not isinstance(dynamic_shapes, Mapping):
        raise TypeError(f"dynamic_shapes is {type(dynamic_shapes).__name__}; wanted a dict by input name, or None")
    unknown = [str(n) for n in dynamic_shapes if n not in examples]
    if unknown:
        raise ValueError(f"dynamic_shapes names {', '.join(unknown)}; the inputs are {', '.join(examples)}")
    names: DimNames = {}
    for name, example in examples.items():
        given = dynamic_shapes.get(name) or {}
        axes = given if isinstance(given, Mapping) else dict(enumerate(given))
        names[name] = {}
        for axis, dim in axes.items():
            if not isinstance(axis, int) or not -example.dim() <= axis < example.dim():
                raise ValueError(f"dynamic_shapes['{name}'] names axis {axis}; the input's rank is {example.dim()}")
            if dim is None:
                continue
            text = dim_name(dim) if isinstance(dim, str) or hasattr(dim, "__name__") else ""
            if not text.isidentifier() or text == "floor":
                raise ValueError(f"dynamic_shapes['{name}'][{axis}] is {dim!r}; wanted a name such as 'batch'")
            names[name][axis % example.dim()] = dim
    return names


def widen(examples: dict[str, torch.Tensor], dynamic: DimNames) -> dict[str, torch.Tensor]:
    """Double dynamic dimensions of size 1, since torch.export takes such a size for a constant."""
    wide = {}
    for name, example in examples.items():
        tensor = example.detach()
        for axis in dynamic[name]:
            if tensor.shape[axis] == 1:
                tensor = torch.cat([tensor, tensor], dim=axis)
        wide[name] = tensor
    return wide


def arrange(outputs: Any, *, as_numpy: bool) -> Any:
    """The module's outputs as one tensor, a tuple or a dict, as the native model gives them."""
    if isinstance(outputs, torch.Tensor):
        return outputs.numpy() if as_numpy else outputs
    if isinstance(outputs, Mapping):  # a ModelOutput of transformers is one
        return {k: arrange(v, as_numpy=as_numpy) for k, v in outputs.items()}
    if isinstance(outputs, Sequence):
        return tuple(arrange(v, as_numpy=as_numpy) for v in outputs)
    raise TypeError(f"the module gave {type(outputs).__name__}; taille's models give tensors, tuples or dicts of them")
