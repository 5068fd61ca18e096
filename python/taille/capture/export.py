"""Running torch.export: dynamic dimensions by name, in eval mode, without decompositions."""

from __future__ import annotations

import inspect
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from taille.errors import CaptureError
from taille.torch_model import DimNames, dim_name, eval_mode

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Exported", "check_weights", "export"]

log = logging.getLogger(__name__)

MAX_REFINEMENTS = 4
# "sequence = Dim('sequence', min=2, max=512)", one of torch.export's suggested fixes
RANGE_FIX = re.compile(r"^\s*(\w+) = Dim\('\w+'(?:, min=(\d+))?(?:, max=(\d+))?\)\s*$")


@dataclass(frozen=True)
class Exported:
    """An exported program with the user's names.

    Attributes:
        program: the graph of ATen ops.
        inputs: placeholder -> the user's name of that input, in order.
        symbols: torch's symbol of a dynamic size -> the user's name of that dimension.
        limits: named dimension -> [least, most or None].
    """

    program: ExportedProgram
    inputs: dict[str, str]
    symbols: dict[sympy.Symbol, str]
    limits: dict[str, list[int | None]]


def check_weights(module: nn.Module) -> None:
    """Raise unless every floating-point parameter and buffer is float32 and finite.

    Infinite buffers are let through: attention masks hold them on purpose.
    """
    tensors = [("parameter", n, t) for n, t in module.named_parameters()]
    tensors += [("buffer", n, t) for n, t in module.named_buffers()]
    for kind, name, tensor in tensors:
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            raise TypeError(f"{kind} '{name}' is {tensor.dtype}; wanted torch.float32: call module.float() first")
        if tensor.device.type != "cpu":
            raise ValueError(f"{kind} '{name}' is on {tensor.device}; wanted the CPU: call module.cpu() first")
        bad = torch.isnan(tensor) if kind == "buffer" else ~torch.isfinite(tensor)
        if bad.any():
            index = [int(i) for i in bad.nonzero()[0]]
            value = float(tensor.detach()[tuple(index)])
            raise ValueError(f"{kind} '{name}' holds {value} at {index} ({int(bad.sum())} such values)")


def export(model: TorchModel) -> Exported:
    """Export `model`, narrowing dynamic dimensions where the module bounds them (a position table, for example).

    Raises:
        taille.CaptureError: torch.export cannot trace the module, or a dynamic dimension cannot be dynamic.
    """
    dims: dict[str, Any] = {}
    for axes in model.dynamic.values():
        for dim in axes.values():
            dims[dim_name(dim)] = Dim(dim) if isinstance(dim, str) else dim
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # else nn.TransformerEncoderLayer traces as one opaque op
    try:
        with eval_mode(model.module), torch.no_grad():
            program = export_refined(model, dims)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    inputs = user_inputs(program, list(model.examples))
    symbols = name_symbols(program, inputs, model.dynamic)
    limits: dict[str, list[int | None]] = {}
    for symbol, found in program.range_constraints.items():
        if symbol in symbols and found.upper.is_Integer:
            limits[symbols[symbol]] = [1, int(found.upper)]
    return Exported(program, inputs, symbols, limits)


def export_refined(model: TorchModel, dims: dict[str, Any]) -> ExportedProgram:
    """Run torch.export, taking up the ranges it suggests for dynamic dimensions; `dims` is changed."""
    examples = model.examples
    args = () if model.by_keyword else tuple(examples.values())
    kwargs = dict(examples) if model.by_keyword else {}
    for _ in range(MAX_REFINEMENTS):
        shapes = dynamic_shapes(model, dims)
        try:
            return torch.export.export(model.module, args, kwargs, dynamic_shapes=shapes, strict=False)
        except torch._dynamo.exc.UserError as error:
            refine(dims, str(error), model)
        except Exception as error:
            raise CaptureError(
                f"torch.export cannot trace {model.name}: {type(error).__name__}: {first_lines(str(error))}"
            ) from error
    raise CaptureError(f"torch.export finds no ranges for the dynamic dimensions {', '.join(dims)} of {model.name}")


def dynamic_shapes(model: TorchModel, dims: dict[str, Any]) -> dict[str, Any] | tuple[Any, ...]:
    """The dynamic shapes as torch.export takes them: by name, or by position; None for a static input."""
    by_name = {name: {a: dims[dim_name(d)] for a, d in axes.items()} or None for name, axes in model.dynamic.items()}
    if model.by_keyword:
        return by_name
    shapes: list[Any] = list(by_name.values())
    kinds = [p.kind for p in inspect.signature(model.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # what *args takes counts as one argument
        first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        shapes = [*shapes[:first], *([tuple(shapes[first:])] if shapes[first:] else [])]
    return tuple(shapes)


def refine(dims: dict[str, Any], message: str, model: TorchModel) -> None:
    """Take up suggested ranges, or raise a CaptureError where a dimension would no longer be free."""
    head, _, fixes = message.partition("Suggested fixes:")
    lines = fixes.split("\n\n")[0].strip().splitlines()
    changed = False if lines else raise_minimum(dims, head, model)
    for line in lines:
        match = RANGE_FIX.match(line)
        if not match or match[1] not in dims:
            raise CaptureError(
                f"{model.name} does not allow the dynamic dimensions asked for; torch.export finds that {line.strip()}"
                f" must hold. Change the module or dynamic_shapes ({{}} fixes every size).\n{first_lines(head)}"
            )
        limits = {k: int(v) for k, v in (("min", match[2]), ("max", match[3])) if v is not None}
        dims[match[1]] = Dim(match[1], **limits)
        log.info("%s: dimension %s is narrowed to %s by the module", model.name, match[1], limits)
        changed = True
    if not changed:
        raise CaptureError(f"torch.export cannot trace {model.name}: {first_lines(message)}")


def raise_minimum(dims: dict[str, Any], message: str, model: TorchModel) -> bool:
    """Where torch.export only says that small sizes are special (a pooled size of 1), trace for sizes above those.

    Only the tracing is narrowed: the native graph takes the small sizes as well, where windows fit into them.
    """
    violated = re.search(r"Constraints violated \(([^)]*)\)", message)
    changed = False
    for name in violated[1].split(", ") if violated else []:
        sizes = [
            model.examples[i].shape[a]
            for i, axes in model.dynamic.items()
            for a, d in axes.items()
            if dim_name(d) == name
        ]
        least = max(4, 2 * (dims[name].min if name in dims else 0))
        if sizes and least <= min(sizes):
            dims[name] = Dim(name, min=least, max=dims[name].max)
            changed = True
    return changed


def first_lines(message: str, count: int = 12) -> str:
    """The first lines of a long message of torch."""
    return "\n".join([line for line in message.strip().splitlines() if line.strip()][:count])


def user_inputs(program: ExportedProgram, names: list[str]) -> dict[str, str]:
    """Placeholder of each tensor input -> the user's name of it."""
    placeholders = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT and type(spec.arg).__name__ == "TensorArgument"
    ]
    if len(placeholders) != len(names):
        seen = ", ".join(placeholders)
        raise CaptureError(f"torch.export sees the inputs {seen}; the examples are {', '.join(names)}")
    return dict(zip(placeholders, names, strict=True))


def name_symbols(program: ExportedProgram, inputs: dict[str, str], names: DimNames) -> dict[sympy.Symbol, str]:
    """The symbol that torch gave each dynamic size -> the user's name of the dimension."""
    symbols: dict[sympy.Symbol, str] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in inputs:
            continue
        name = inputs[node.name]
        for axis, size in enumerate(node.meta["val"].shape):
            if not isinstance(size, torch.SymInt):
                continue
            expr = size.node.expr
            if not expr.is_Symbol or axis not in names[name]:
                raise CaptureError(f"dimension {axis} of input '{name}' is {expr}; wanted a free size or a constant")
            symbols[expr] = dim_name(names[name][axis])
    return symbols
