"""The outputs of the graph: one tensor, a tuple of tensors, or a dict of tensors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx
from torch.export.graph_signature import OutputKind

from taille.errors import CaptureError

if TYPE_CHECKING:
    from taille.capture.builder import Builder

__all__ = ["add_outputs"]


def add_outputs(builder: Builder) -> None:
    """Name the outputs as the module gives them.

    Raises:
        taille.CaptureError: an output is not a tensor, or is nested in another tuple or dict.
    """
    program = builder.exported.program
    arguments = next(n for n in program.graph.nodes if n.op == "output").args[0]
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    leaves = [a for a, kind in zip(arguments, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
    structure, names = output_names(program.call_spec.out_spec)
    added = 0
    for name, leaf in zip(names, leaves, strict=True):
        if leaf is None and structure == "dict":
            continue  # transformers leaves absent outputs out as well
        if not isinstance(leaf, fx.Node) or not hasattr(leaf.meta.get("val"), "dtype"):
            raise CaptureError(f"output '{name}' of the model is {leaf}; wanted a tensor")
        builder.graph.add_output(name, builder.value(leaf))
        added += 1
    if not added:
        raise CaptureError("the model gives no tensor")
    builder.graph.output_structure = structure


def output_names(spec: Any) -> tuple[str, list[str]]:
    """The structure of the outputs ("single", "tuple" or "dict") and a name for each."""
    children = spec.children() if callable(getattr(spec, "children", None)) else list(spec.children_specs)
    if spec.is_leaf():
        return "single", ["output"]
    if any(not c.is_leaf() for c in children):
        raise CaptureError(f"the model gives nested outputs ({spec}); wanted a tensor, a tuple or a dict of tensors")
    if spec.type in (tuple, list) or issubclass(spec.type, tuple):
        return "tuple", [f"output_{i}" for i in range(len(children))]
    return "dict", [str(key) for key in spec.context]
