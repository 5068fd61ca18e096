"""Weights, buffers and everything computed from them alone: constants of the native graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from taille.capture.symbols import Unsupported

if TYPE_CHECKING:
    from taille import _native

__all__ = ["Constants"]

NUMPY = {"float32": np.float32, "int64": np.int64, "bool": np.bool_}


def native_dtype(tensor: torch.Tensor) -> str:
    """The native dtype that holds a constant: float64 numbers become float32, narrow integers int64."""
    if tensor.dtype == torch.bool:
        return "bool"
    if tensor.dtype in (torch.float32, torch.float64):
        return "float32"
    if tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        return "int64"
    raise Unsupported(f"constants of {str(tensor.dtype).removeprefix('torch.')}")


class Constants:
    """Evaluates the part of the program that no input reaches, and adds what the rest of it reads, once each."""

    def __init__(self, program: ExportedProgram, graph: _native.Graph):
        self._graph = graph
        self._dynamic: set[fx.Node] = set()
        self._tensors: dict[fx.Node, Any] = {}
        self._added: dict[Any, int] = {}
        self._kept: list[Any] = []  # tensors whose addresses are keys of `_added`
        self.targets: dict[fx.Node, str] = {}
        self._find(program)

    def _find(self, program: ExportedProgram) -> None:
        specs = {s.arg.name: s for s in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                spec = specs[node.name]
                if spec.kind == InputKind.USER_INPUT:
                    self._dynamic.add(node)
                elif spec.target is not None:
                    self.targets[node] = spec.target
                    held = program.state_dict if spec.target in program.state_dict else program.constants
                    self._tensors[node] = held[spec.target]
            elif any(n in self._dynamic for n in node.all_input_nodes):
                self._dynamic.add(node)

    def is_dynamic(self, node: fx.Node) -> bool:
        """Whether the node's value depends on the model's inputs."""
        return node in self._dynamic

    def evaluate(self, node: fx.Node) -> Any:
        """Compute a node that no input reaches, in torch."""
        if node not in self._tensors:
            target: Any = node.target
            tags = getattr(target, "tags", ())
            if torch.Tag.nondeterministic_seeded in tags or not callable(target):
                raise Unsupported(f"{target}, whose result is not fixed" if tags else f"{target}")
            schema = getattr(target, "_schema", None)
            writes = any(a.alias_info and a.alias_info.is_write for a in (schema.arguments if schema else ()))

            def load(n: fx.Node) -> Any:
                value = self.evaluate(n)
                return value.clone() if writes and isinstance(value, torch.Tensor) else value

            with torch.no_grad():
                self._tensors[node] = target(*fx.map_arg(node.args, load), **fx.map_arg(node.kwargs, load))
        return self._tensors[node]

    def tensor(self, tensor: Any, name: str, dtype: str | None) -> int:
        """The constant of this tensor, added at its first use."""
        if not isinstance(tensor, torch.Tensor):
            raise Unsupported(f"the constant {tensor!r}")
        kind = dtype or native_dtype(tensor)
        native_dtype(tensor)  # refuses what has no form
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, kind)
        if key not in self._added:
            self._kept.append(tensor)
            array = np.ascontiguousarray(tensor.detach().numpy().astype(NUMPY[kind])).reshape(tuple(tensor.shape))
            suffix = "" if dtype is None or dtype == native_dtype(tensor) else f".{kind}"
            self._added[key] = self._graph.add_constant(name + suffix, array)
        return self._added[key]

    def number(self, value: float, kind: str) -> int:
        """A constant without dimensions."""
        key = (repr(value), kind)
        if key not in self._added:
            array: npt.NDArray[Any] = np.asarray(value, dtype=NUMPY[kind])
            self._added[key] = self._graph.add_constant(f"{value!r}:{kind}", array)
        return self._added[key]
